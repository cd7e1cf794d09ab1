//! Fuzz body for the layer parser and what builds on it: whatever the bytes are, nothing panics, nothing points behind them, and
//! what a shorter capture of a packet shows, a longer one shows too.

use tapline_api::words::HashKind;
use tapline_datapath::flow::hash::flow_hash;
use tapline_filter::through::{Inside, inside};
use tapline_packet::frame::Frame;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::layers::{Depth, Layers, ShellKind, Stack, parse};

/// Checks one packet.
pub(crate) fn layers(bytes: &[u8]) {
    let frame = Frame::whole(bytes);
    let layers = parse(&frame, Depth::Full);
    let outer = parse(&frame, Depth::Outer);
    assert_eq!(outer.outer, layers.outer);
    assert_eq!(outer.inner, outer.outer);
    assert!(outer.shells().is_empty());
    for stack in [layers.outer, layers.inner] {
        assert!(stack.l3() <= bytes.len());
        assert!(stack.l4().is_none_or(|l4| l4 <= bytes.len() && l4 > stack.l3()));
        assert!(stack.payload(bytes).is_none_or(|payload| payload <= bytes.len()));
        assert!(!stack.has_ports() || stack.l4().is_some_and(|l4| l4 + 4 <= bytes.len()));
        assert!(stack.vlans() == 0 || stack.vlan(bytes).is_some());
    }
    // a packet of which nothing is known is one that is not read
    assert!(layers.is_unparsed(bytes) || layers.inner.network().is_some());
    let mut end = 0;
    for shell in layers.shells() {
        assert_eq!(shell.kind.row().kind, shell.kind);
        assert!(usize::from(shell.offset) >= end, "shells overlap");
        end = shell.payload();
        assert!(end <= bytes.len());
        let _ = (shell.carries(bytes), shell.session(bytes), shell.gre_key(bytes));
        assert_eq!(shell.teid(bytes).is_some(), shell.kind == ShellKind::Gtp);
        assert_eq!(shell.vlan_ids(bytes).count() > 0, shell.kind == ShellKind::Vlan);
        assert_eq!(
            shell.labels(bytes).count() > 0,
            matches!(shell.kind, ShellKind::Mpls | ShellKind::Pseudowire)
        );
        assert!(shell.vni(bytes).is_none_or(|vni| vni < 1 << 24));
    }
    for kind in HashKind::ALL {
        for depth in [Depth::Outer, Depth::Full] {
            let hash = flow_hash(kind, depth, 7, &frame, &layers);
            assert_eq!(hash, flow_hash(kind, depth, 7, &frame, &layers));
        }
    }
    let whole = |through| match inside(through, &frame, &layers) {
        Inside::Whole(inside) => inside.bytes().len(),
        Inside::Split(inside) => inside.payload().len(),
    };
    assert_eq!(whole(LayerSet::default()), bytes.len());
    for layer in Layer::ALL {
        assert!(whole(LayerSet::ALL) <= whole(LayerSet::default().with(layer)));
    }
}

/// Checks that `longer` bytes of a packet show all that `shorter` ones do.
pub(crate) fn longer_shows_more(shorter: &[u8], longer: &[u8]) {
    let [less, more]: [Layers; 2] = [shorter, longer].map(|bytes| parse(&Frame::whole(bytes), Depth::Full));
    assert!(
        less.shells().len() <= more.shells().len(),
        "{less:?} {more:?} {longer:02x?} {}",
        shorter.len()
    );
    for (a, b) in less.shells().iter().zip(more.shells()) {
        // Labels are known to be those of a pseudowire when what follows them is there.
        let is_decided_later = a.kind == ShellKind::Mpls && b.kind == ShellKind::Pseudowire;
        assert!(a.kind == b.kind || is_decided_later, "{less:?} {more:?}");
        assert_eq!(a.offset, b.offset);
        assert!(a.header_len() <= b.header_len());
    }
    stack_shows_more(&less.outer, &more.outer);
    // Where the innermost shell does not yet show what it carries, the innermost stack is that in front of it.
    let is_open =
        |layers: &Layers, bytes| layers.shells().last().is_none_or(|shell| shell.carries(bytes).is_some());
    if less.shells().len() == more.shells().len() && is_open(&less, shorter) == is_open(&more, longer) {
        stack_shows_more(&less.inner, &more.inner);
    }
}

fn stack_shows_more(less: &Stack, more: &Stack) {
    assert!(less.l3() <= more.l3());
    assert!(less.l4().is_none() || less.l4() == more.l4());
    let facts =
        |s: &Stack| [s.is_ipv4(), s.is_ipv6(), s.is_arp(), s.is_fragment(), s.has_ports(), s.is_pppoe()];
    for (less, more) in facts(less).into_iter().zip(facts(more)) {
        assert!(more || !less);
    }
}
