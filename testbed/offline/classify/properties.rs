//! Properties of parse, flow hash and `through` on real packets, cut packets and random bytes.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;
use tapline_api::words::HashKind;
use tapline_datapath::flow::hash::flow_hash;
use tapline_filter::Program;
use tapline_filter::compile;
use tapline_filter::through::{Inside, inside};
use tapline_harness::captures;
use tapline_harness::programs::{has_program, run};
use tapline_packet::frame::Frame;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::layers::{Depth, Layers, Stack, parse};
use tapline_traffic::packets;

use crate::fuzz::layers as fuzz;

const IP_KINDS: [HashKind; 5] =
    [HashKind::Ip, HashKind::IpPort, HashKind::FiveTuple, HashKind::Mac, HashKind::Rss];

#[test]
fn every_cut_of_every_captured_packet_is_described_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    for packet in captures::packets(&merged) {
        fuzz::layers(&packet.bytes);
        // Headers end long before this; what follows is payload.
        let headers = packet.bytes.len().min(240);
        for len in 0..headers {
            fuzz::layers(&packet.bytes[..len]);
            fuzz::longer_shows_more(&packet.bytes[..len], &packet.bytes[..len + 1]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_described(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::layers(&bytes);
    }

    #[test]
    fn packets_with_some_bytes_changed_are_described(
        seed in any::<u64>(), changes in prop::collection::vec((0usize..120, any::<u8>()), 0..6), len in 0usize..200,
    ) {
        let mut bytes = packets::mix(1, seed, 60).remove(0);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(len);
        fuzz::layers(&bytes);
        fuzz::longer_shows_more(&bytes[..bytes.len() / 2], &bytes);
    }
}

/// Swaps the `len` bytes at `a` with those that follow them.
fn swap(bytes: &mut [u8], a: usize, len: usize) {
    let (left, right) = bytes[a..a + 2 * len].split_at_mut(len);
    left.swap_with_slice(right);
}

/// The packet with the endpoints of a stack exchanged: what the other side of the flow would send.
fn reverse(bytes: &mut [u8], stack: &Stack) {
    if let Some(ethernet) = stack.ethernet().filter(|at| at + 12 <= bytes.len()) {
        swap(bytes, ethernet, 6);
    }
    if stack.is_ipv4() {
        swap(bytes, stack.l3() + 12, 4);
    } else if stack.is_ipv6() {
        swap(bytes, stack.l3() + 8, 16);
    } else if stack.is_arp() {
        let (sender, target) = (stack.l3() + 14, stack.l3() + 24);
        (0..4).for_each(|i| bytes.swap(sender + i, target + i));
    }
    if let (true, Some(l4)) = (stack.has_ports(), stack.l4()) {
        swap(bytes, l4, 2);
    }
}

#[test]
fn both_directions_of_every_captured_flow_hash_alike() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    let mut distinct = HashMap::new();
    for packet in captures::packets(&merged) {
        let layers = parse(&Frame::whole(&packet.bytes), Depth::Full);
        for (depth, stack) in [(Depth::Outer, layers.outer), (Depth::Full, layers.inner)] {
            // A tunnel's own ports lead to what it carries: exchanged, they would no longer.
            if depth == Depth::Outer && !layers.shells().is_empty() || layers.has_fragmented_carrier() {
                continue;
            }
            let mut back = packet.bytes.clone();
            reverse(&mut back, &stack);
            let back_layers = parse(&Frame::whole(&back), Depth::Full);
            if back_layers.shells() != layers.shells() {
                continue;
            }
            for kind in IP_KINDS {
                let hash =
                    |bytes: &[u8], layers: &Layers| flow_hash(kind, depth, 1, &Frame::whole(bytes), layers);
                let forth = hash(&packet.bytes, &layers);
                assert_eq!(forth, hash(&back, &back_layers), "{kind:?} {stack:?}");
                *distinct.entry(forth).or_insert(0) += 1;
            }
        }
    }
    assert!(distinct.len() > 1000, "only {} different hashes", distinct.len());
}

#[test]
fn all_fragments_of_every_captured_datagram_hash_alike_at_both_depths() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    let mut datagrams: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for packet in captures::packets(&merged) {
        let stack = parse(&Frame::whole(&packet.bytes), Depth::Outer).outer;
        if stack.is_fragment() && stack.is_ipv4() {
            let header = &packet.bytes[stack.l3()..];
            let key = [&header[4..6], &header[9..10], &header[12..20]].concat();
            datagrams.entry(key).or_default().push(packet.bytes);
        }
    }
    let fragmented: Vec<_> = datagrams.into_values().filter(|fragments| fragments.len() > 1).collect();
    assert!(fragmented.len() > 5, "the captures hold only {} fragmented datagrams", fragmented.len());
    for fragments in fragmented {
        for kind in [HashKind::Ip, HashKind::IpPort, HashKind::FiveTuple, HashKind::Vni, HashKind::Teid] {
            for depth in [Depth::Outer, Depth::Full] {
                let hash = |bytes: &Vec<u8>| {
                    let frame = Frame::whole(bytes);
                    flow_hash(kind, depth, 1, &frame, &parse(&frame, Depth::Full))
                };
                let first = hash(&fragments[0]);
                assert!(fragments.iter().all(|fragment| hash(fragment) == first), "{kind:?} {depth:?}");
            }
        }
    }
}

const EXPRESSIONS: [&str; 12] = [
    "tcp",
    "udp port 53",
    "tcp port 80",
    "ip6",
    "host 10.0.0.1",
    "icmp or icmp6",
    "not ip",
    "len > 200",
    "tcp[tcpflags] & tcp-syn != 0",
    "portrange 1000-40000",
    "ether[0] & 1 = 0",
    "arp",
];

fn matches(program: &Program, inside: &Inside<'_>) -> bool {
    match inside {
        Inside::Whole(frame) => program.matches(frame),
        Inside::Split(frame) => program.matches_split(frame),
    }
}

/// Writes packets as a classic pcap file with nanosecond times, all of them 0.
fn write_pcap(file: &Path, packets: &[Vec<u8>]) {
    let mut out = Vec::new();
    for field in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.extend(field.to_le_bytes());
    }
    for packet in packets {
        for field in [0, 0, packet.len() as u32, packet.len() as u32] {
            out.extend(field.to_le_bytes());
        }
        out.extend(packet);
    }
    std::fs::write(file, out).unwrap();
}

#[test]
fn through_vlan_judges_tagged_packets_as_plain_filters_judge_them_with_tcprewrites_tag_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    if !has_program("tcprewrite") {
        return;
    }
    // tcprewrite takes off one 802.1Q tag: of the captures the packets with exactly one.
    let tagged: Vec<Vec<u8>> = captures::packets(&merged)
        .into_iter()
        .map(|packet| packet.bytes)
        .filter(|bytes| {
            bytes.get(12..14) == Some(&[0x81, 0])
                && parse(&Frame::whole(bytes), Depth::Outer).outer.vlans() == 1
        })
        .chain(packets::mix(2000, 3, 0).into_iter().filter(|bytes| bytes[12..14] == [0x81, 0]))
        .collect();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_pcap(Path::new(&path("tagged.pcap")), &tagged);
    run("tcprewrite", &["--enet-vlan=del", "-i", &path("tagged.pcap"), "-o", &path("plain.pcap")]);
    let plain = captures::packets(Path::new(&path("plain.pcap")));
    assert_eq!(plain.len(), tagged.len());
    assert!(tagged.len() > 300);
    let mut plain: Vec<Vec<u8>> = plain.into_iter().map(|packet| packet.bytes).collect();
    for (plain, tagged) in plain.iter_mut().zip(&tagged) {
        // tcprewrite 4.4.3 puts multicast addresses of its own making in front of IPv6.
        if ethertype(plain) == 0x86dd {
            plain[..12].copy_from_slice(&tagged[..12]);
        }
    }
    compare(&tagged, &plain, LayerSet::default().with(Layer::Vlan));
}

/// Every expression through layers, on `wrapped`, decides as on `plain`.
fn compare(wrapped: &[Vec<u8>], plain: &[Vec<u8>], through: LayerSet) {
    for expression in EXPRESSIONS {
        let program = compile(expression).unwrap();
        let mut count = 0;
        for (wrapped, plain) in wrapped.iter().zip(plain) {
            let frame = Frame::whole(wrapped);
            let found = matches(&program, &inside(through, &frame, &parse(&frame, Depth::Full)));
            assert_eq!(found, program.matches(&Frame::whole(plain)), "{expression}: {wrapped:02x?}");
            count += usize::from(found);
        }
        println!("{expression}: {count} of {}", plain.len());
    }
}

/// One way to wrap a frame, and what has to be left of it for that: all of it, or its IP packet.
type Wrap = fn(&[u8]) -> Vec<u8>;

fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    packets::ethernet(
        packets::MAC_A,
        packets::MAC_B,
        0x0800,
        &packets::ipv4(0xc612_0001, 0xc612_0002, protocol, 0, payload),
    )
}

fn ethertype(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

const FRAME_WRAPS: [(Layer, Wrap); 6] = [
    (Layer::Vxlan, |frame| in_ipv4(17, &packets::udp(9, 4789, &packets::vxlan(7, frame)))),
    (Layer::Geneve, |frame| {
        in_ipv4(17, &packets::udp(9, 6081, &packets::geneve(7, 0x6558, &[0, 1, 2, 1, 0, 0, 0, 0], frame)))
    }),
    (Layer::Gre, |frame| in_ipv4(47, &packets::gre(0x6558, Some(1), Some(2), frame))),
    (Layer::Erspan, |frame| in_ipv4(47, &packets::gre(0x88be, None, None, frame))),
    (Layer::Erspan, |frame| {
        let erspan = [&[0x10, 7, 0, 42, 0, 0, 0, 1], frame].concat();
        in_ipv4(47, &packets::gre(0x88be, None, Some(2), &erspan))
    }),
    (Layer::Erspan, |frame| {
        let erspan =
            [&[0x20, 7, 0, 42, 0, 0, 0, 1, 0, 0, 0, 5][..], &[0x0c, 0, 0, 0, 0, 0, 0, 1], frame].concat();
        in_ipv4(47, &packets::gre(0x22eb, None, Some(2), &erspan))
    }),
];

const PACKET_WRAPS: [(Layer, Wrap); 5] = [
    (Layer::Gre, |frame| in_ipv4(47, &packets::gre(ethertype(frame), None, None, &frame[14..]))),
    (Layer::Gtp, |frame| in_ipv4(17, &packets::udp(2152, 2152, &packets::gtp(7, &frame[14..])))),
    (Layer::Ipip, |frame| in_ipv4(if ethertype(frame) == 0x0800 { 4 } else { 41 }, &frame[14..])),
    (Layer::Mpls, |frame| {
        packets::ethernet(packets::MAC_A, packets::MAC_B, 0x8847, &packets::mpls(&[16, 17], &frame[14..]))
    }),
    (Layer::Vlan, |frame| {
        let inner = packets::tag(7, ethertype(frame), &frame[14..]);
        packets::ethernet(packets::MAC_A, packets::MAC_B, 0x88a8, &packets::tag(5, 0x8100, &inner))
    }),
];

/// Frames of the captures and of the mix that begin with IP, padding taken off, their addresses those that tunnels lend them.
fn plain_ip_frames(merged: &Path) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> =
        captures::packets(merged).into_iter().step_by(7).map(|packet| packet.bytes).collect();
    frames.extend(packets::mix(1000, 9, 0));
    frames.retain(|bytes| {
        let layers = parse(&Frame::whole(bytes), Depth::Full);
        layers.shells().is_empty()
            && (layers.outer.is_ipv4() || layers.outer.is_ipv6())
            && bytes.len() < 60_000
    });
    for frame in &mut frames {
        frame[..12].copy_from_slice(&[packets::MAC_A, packets::MAC_B].concat());
    }
    assert!(frames.len() > 1000);
    frames
}

#[test]
fn through_a_tunnel_judges_what_it_carries_as_plain_filters_judge_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    let plain = plain_ip_frames(&merged);
    for (layer, wrap) in FRAME_WRAPS.into_iter().chain(PACKET_WRAPS) {
        let wrapped: Vec<Vec<u8>> = plain.iter().map(|frame| wrap(frame)).collect();
        for through in [LayerSet::default().with(layer), LayerSet::ALL] {
            compare(&wrapped, &plain, through);
        }
        // Cut somewhere behind the first byte that is carried, both show the same.
        let cut = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let lost = |i: usize| i * 7 % (plain[i].len() - 14);
            frames.iter().enumerate().map(|(i, frame)| frame[..frame.len() - lost(i)].to_vec()).collect()
        };
        compare(&cut(&wrapped), &cut(&plain), LayerSet::ALL);
        let others: LayerSet =
            Layer::ALL.into_iter().filter(|other| *other != layer && *other != Layer::Qinq).collect();
        compare(&wrapped, &wrapped, others);
    }
}

#[test]
fn through_any_goes_into_tunnels_inside_tunnels() {
    let folder = tempfile::tempdir().unwrap();
    let Some(merged) = captures::merged(folder.path()) else { return };
    let plain = plain_ip_frames(&merged);
    for (_, inner) in PACKET_WRAPS {
        for (_, outer) in FRAME_WRAPS {
            let wrapped: Vec<Vec<u8>> = plain.iter().step_by(5).map(|frame| outer(&inner(frame))).collect();
            let plain: Vec<Vec<u8>> = plain.iter().step_by(5).cloned().collect();
            compare(&wrapped, &plain, LayerSet::ALL);
        }
    }
}
