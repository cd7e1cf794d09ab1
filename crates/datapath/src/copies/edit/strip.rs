//! Strip: the first edit, that takes tags, labels and tunnels off a copy.

use super::{Draft, NeedsWhole};
use tapline_packet::extent;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::headers::{ethernet, vlan};
use tapline_packet::layers;
use tapline_packet::layers::{Carried, Layers, ShellKind};

/// One thing that is taken off.
#[derive(Clone, Copy)]
enum Step {
    /// So many tags.
    Tags(usize),
    /// `len` bytes of labels before `at`, that carried `ethertype`.
    Labels { at: usize, len: usize, ethertype: u16 },
    /// All before `at`; a packet without a link header gets one of `ethertype`.
    Outer { at: usize, ethertype: Option<u16> },
}

/// Each step takes at least one of the layers that parse finds, which are fewer.
const MAX_STEPS: usize = 32;

/// Takes off whatever `set` names, outermost first, until the outside of what remains is something else.
pub(super) fn strip(set: LayerSet, draft: &mut Draft<'_>) -> Result<(), NeedsWhole> {
    let mut has_stripped_tag = false;
    for _ in 0..MAX_STEPS {
        // most frames have none, and need no parse to show it
        if set.is_tags() && vlan::outer_tag(draft.front()).is_none() {
            break;
        }
        let layers = draft.layers()?;
        let Some(step) = next_step(set, &layers, draft.front(), has_stripped_tag) else { break };
        match step {
            Step::Tags(count) => {
                has_stripped_tag = true;
                remove_behind_addresses(draft, count * vlan::TAG_LEN);
            }
            Step::Labels { at, len, ethertype } => {
                // The link header in front moves over the labels, and its type becomes that of what they carried.
                draft.front_mut().copy_within(0..at - len, len);
                draft.drop_front(len);
                draft.front_mut()[at - len - 2..at - len].copy_from_slice(&ethertype.to_be_bytes());
            }
            Step::Outer { at, ethertype } => {
                has_stripped_tag = false;
                trim_padding(draft, &layers, at);
                let Some(ethertype) = ethertype else {
                    draft.drop_front(at);
                    continue;
                };
                let start = at - ethernet::HEADER_LEN;
                draft.front_mut().copy_within(0..ethernet::ADDRESSES_LEN, start);
                draft.drop_front(start);
                draft.front_mut()[12..14].copy_from_slice(&ethertype.to_be_bytes());
            }
        }
    }
    Ok(())
}

fn next_step(set: LayerSet, layers: &Layers, bytes: &[u8], has_stripped_tag: bool) -> Option<Step> {
    let tags = usize::from(layers.outer.vlans());
    if tags > 0 && set.contains(Layer::Qinq) {
        return Some(Step::Tags(tags));
    }
    if tags > 0 && set.contains(Layer::Vlan) && !has_stripped_tag {
        return Some(Step::Tags(1));
    }
    for (index, shell) in layers.shells().iter().enumerate() {
        let layer = match shell.kind {
            ShellKind::Mpls
                if layers.shells()[..index].iter().all(|outer| outer.kind == ShellKind::Vlan) =>
            {
                Layer::Mpls
            }
            ShellKind::Pseudowire => Layer::Mpls,
            ShellKind::Vxlan | ShellKind::VxlanGpe => Layer::Vxlan,
            ShellKind::Geneve => Layer::Geneve,
            ShellKind::Gre => Layer::Gre,
            ShellKind::Erspan1 | ShellKind::Erspan2 | ShellKind::Erspan3 => Layer::Erspan,
            ShellKind::Gtp => Layer::Gtp,
            ShellKind::Ipip => Layer::Ipip,
            ShellKind::Mpls | ShellKind::Vlan | ShellKind::Pppoe => continue,
        };
        if !set.contains(layer) || shell.payload() >= bytes.len() {
            continue;
        }
        let at = shell.payload();
        match (shell.kind, shell.carries(bytes)?) {
            (ShellKind::Mpls, Carried::Network(ethertype)) => {
                return Some(Step::Labels { at, len: shell.header_len(), ethertype });
            }
            (ShellKind::Pseudowire, Carried::Ethernet) => return Some(Step::Outer { at, ethertype: None }),
            // The inside of a datagram's first fragment is not all here: such a tunnel stays.
            _ if layers.has_fragmented_carrier() && is_carrier_fragmented(layers, index, bytes) => {
                return None;
            }
            (_, Carried::Ethernet) => return Some(Step::Outer { at, ethertype: None }),
            (_, Carried::Network(ethertype)) => {
                return Some(Step::Outer { at, ethertype: Some(ethertype) });
            }
        }
    }
    None
}

/// Returns whether the packet that carries shell `index`, or one around it, is a fragment.
#[cold]
fn is_carrier_fragmented(layers: &Layers, index: usize, bytes: &[u8]) -> bool {
    let mut stack = layers.outer;
    for shell in &layers.shells()[..=index] {
        match shell.kind {
            ShellKind::Vlan | ShellKind::Pppoe | ShellKind::Mpls => continue,
            ShellKind::Pseudowire => {}
            _ if stack.is_fragment() => return true,
            _ => {}
        }
        stack = match shell.carries(bytes) {
            Some(Carried::Ethernet) => layers::ethernet_stack(bytes, shell.payload()),
            Some(Carried::Network(ethertype)) => layers::network_stack(bytes, shell.payload(), ethertype),
            None => return false,
        };
    }
    false
}

/// Takes `len` bytes out that stand behind the addresses.
fn remove_behind_addresses(draft: &mut Draft<'_>, len: usize) {
    draft.front_mut().copy_within(0..ethernet::ADDRESSES_LEN, len);
    draft.drop_front(len);
}

/// Ethernet pads short frames behind the outer packet; inside, nothing would tell the padding from the packet. `inner` is where
/// that begins: a length that does not reach it says nothing.
fn trim_padding(draft: &mut Draft<'_>, layers: &Layers, inner: usize) {
    if let Some(end) = extent::stated_end(draft.front(), &layers.outer).filter(|end| *end >= inner) {
        draft.trim(end);
    }
}
