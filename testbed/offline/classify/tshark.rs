//! What the layer parser finds in the shared captures is what tshark finds: tags, labels, addresses and ports of every layer, and
//! the identifiers of every tunnel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use tapline_harness::captures;
use tapline_harness::tshark;
use tapline_packet::frame::Frame;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::{ip, u16_at};
use tapline_packet::layers::{Carried, Depth, Layers, ShellKind, Stack, parse};

const FIELDS: [&str; 17] = [
    "frame.protocols",
    "vlan.id",
    "mpls.label",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "vxlan.vni",
    "geneve.vni",
    "gtp.teid",
    "gre.key",
    "erspan.spanid",
    "pppoe.session_id",
];

/// The fields of a packet that both sides name, each with its values from the outermost layer inwards.
type Facts = BTreeMap<&'static str, Vec<String>>;

#[test]
fn the_layers_of_the_captures_are_those_that_tshark_finds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    let rows = tshark::columns(&merged, &FIELDS);
    let packets = captures::packets(&merged);
    assert_eq!(rows.len(), packets.len());
    let (mut unknown, mut broken, mut shortened): (BTreeMap<&str, usize>, usize, usize) =
        Default::default();
    let mut differences = Vec::new();
    let mut compared = 0;
    for (i, (row, packet)) in rows.iter().zip(&packets).enumerate() {
        let layers = parse(&Frame::new(&packet.bytes, packet.original_len), Depth::Full);
        let (ours, theirs) = (our_facts(&packet.bytes, &layers), their_facts(row));
        let agrees = if let Some(layer) = unknown_layer(&row[0]) {
            *unknown.entry(layer).or_default() += 1;
            ours.iter().all(|(field, values)| theirs.get(field).is_some_and(|all| all.starts_with(values)))
        } else if ours != theirs && row[0].starts_with("eth:cfp:") {
            // tshark takes the last four bytes of FabricPath for an FCS, so it misses them where there is none.
            shortened += 1;
            theirs.iter().all(|(field, values)| ours.get(field).is_some_and(|all| all.starts_with(values)))
        } else if ours != theirs && stops_at_broken_header(row) {
            broken += 1;
            true
        } else {
            compared += 1;
            ours == theirs
        };
        if !agrees {
            differences.push(format!(
                "packet {}: {}\n  tapline {ours:?}\n  tshark  {theirs:?}",
                i + 1,
                row[0]
            ));
        }
    }
    println!(
        "{compared} packets compared; compared up to a layer that is not ours: {unknown:?}; {broken} with broken headers, {shortened} \
         that tshark shortened"
    );
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(compared > 20_000 && broken < 10 && shortened < 10);
}

/// A layer that tshark goes into and Tapline does not, so that it finds less: link layers and tunnels that are not in its list, IP
/// behind LLC/SNAP, packets that ICMP errors quote, and control messages that carry no user's packet.
fn unknown_layer(protocols: &str) -> Option<&'static str> {
    const UNKNOWN: [&str; 8] =
        ["ieee8021ah", "llc:ip", "ayiya", "gtpprime", "gre:wlan", "icmp:ip", "icmpv6:ipv6", "pppoed"];
    let has = |names: &str| format!(":{protocols}:").contains(&format!(":{names}:"));
    let is_control = |tunnel: &'static str, carried: &[&str]| {
        has(tunnel) && !carried.iter().any(|name| has(&format!("{tunnel}:{name}")))
    };
    UNKNOWN
        .into_iter()
        .find(|names| has(names))
        .or_else(|| is_control("pppoes", &["ppp:ip", "ppp:ipv6"]).then_some("pppoes control"))
        .or_else(|| is_control("gtp", &["ip", "ipv6"]).then_some("gtp control"))
}

/// tshark shows nothing of an IP header whose lengths or options contradict each other; Tapline takes what its bytes say.
fn stops_at_broken_header(row: &[String]) -> bool {
    let last = row[0].rsplit(':').next();
    matches!(last, Some("ip" | "ipv6" | "ipv6.dstopts"))
}

fn their_facts(row: &[String]) -> Facts {
    let mut facts = Facts::new();
    for (field, values) in FIELDS.iter().zip(row).skip(1) {
        if !values.is_empty() {
            facts.insert(field, values.split(',').map(str::to_owned).collect());
        }
    }
    facts
}

fn our_facts(bytes: &[u8], layers: &Layers) -> Facts {
    let mut facts = Facts::new();
    let mut note = |field, value: String| facts.entry(field).or_default().push(value);
    note_stack(bytes, &layers.outer, &mut note);
    for shell in layers.shells() {
        shell.vlan_ids(bytes).for_each(|id| note("vlan.id", id.to_string()));
        shell.labels(bytes).for_each(|label| note("mpls.label", label.to_string()));
        let is_geneve = shell.kind == ShellKind::Geneve;
        let is_gre = shell.kind == ShellKind::Gre;
        if let Some(vni) = shell.vni(bytes).filter(|_| !is_gre) {
            note(
                if is_geneve { "geneve.vni" } else { "vxlan.vni" },
                if is_geneve { format!("0x{vni:06x}") } else { vni.to_string() },
            );
        }
        if let Some(teid) = shell.teid(bytes) {
            note("gtp.teid", format!("0x{teid:08x}"));
        }
        if let Some(key) = shell.gre_key(bytes) {
            note("gre.key", format!("0x{key:08x}"));
        }
        match (shell.kind, shell.session(bytes)) {
            (ShellKind::Pppoe, Some(session)) => note("pppoe.session_id", format!("0x{session:04x}")),
            (_, Some(session)) => note("erspan.spanid", session.to_string()),
            _ => {}
        }
        // Tags, labels and PPPoE belong to the stack that they stand in.
        if shell.kind.is_of_link() {
            continue;
        }
        let at = shell.payload();
        let inside = match shell.carries(bytes) {
            Some(Carried::Ethernet) => bytes[at..].to_vec(),
            Some(Carried::Network(ethertype)) => {
                [&[0; 12][..], &ethertype.to_be_bytes(), &bytes[at..]].concat()
            }
            None => continue,
        };
        let stack = parse(&Frame::whole(&inside), Depth::Outer).outer;
        note_stack(&inside, &stack, &mut note);
    }
    facts
}

fn note_stack(bytes: &[u8], stack: &Stack, note: &mut impl FnMut(&'static str, String)) {
    if let (true, Some(header)) = (stack.is_ipv4(), Ipv4::at(bytes, stack.l3())) {
        note("ip.src", Ipv4Addr::from(header.source()).to_string());
        note("ip.dst", Ipv4Addr::from(header.destination()).to_string());
    }
    if let (true, Some(header)) = (stack.is_ipv6(), Ipv6::at(bytes, stack.l3())) {
        note("ipv6.src", Ipv6Addr::from(header.source()).to_string());
        note("ipv6.dst", Ipv6Addr::from(header.destination()).to_string());
    }
    let ports = match stack.protocol() {
        ip::TCP => ["tcp.srcport", "tcp.dstport"],
        ip::UDP => ["udp.srcport", "udp.dstport"],
        _ => return,
    };
    if let (true, Some(l4)) = (stack.has_ports(), stack.l4()) {
        note(ports[0], u16_at(bytes, l4).unwrap().to_string());
        note(ports[1], u16_at(bytes, l4 + 2).unwrap().to_string());
    }
}
