//! Compares all places that ask where a packet ends with one model: the end that its headers state, or that of the frame.
#![cfg(test)]

use proptest::prelude::*;
use tapline_api::words::{Refusal, TimestampFormat, TunnelKind};
use tapline_packet::burst::Selection;
use tapline_packet::frame::Frame;
use tapline_packet::headers::ip;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_traffic::packets;
use tapline_traffic::packets::{MAC_A, MAC_B};

use crate::copies::edit::anonymize::Key;
use crate::copies::edit::{Anonymize, DRAFT_HEADROOM, Draft, EditPlan, Edits};
use crate::copies::facts::CopyFacts;
use crate::copies::timestamp::{MAX_TRAILER_LEN, Timestamp};
use crate::flow::table::Secret;
use crate::receive::af_packet_cut::Longest;
use crate::receive::tunnel_match::Terminator;
use crate::route::dedup::{Dedup, DedupSpec, Ignore};

/// The end that an IP header at `l3` says with its length field, or the frame's where that is 0, below `least` or beyond the frame.
fn end(frame: &[u8], l3: usize, least: usize) -> usize {
    let field = |at: usize| usize::from(frame[l3 + at]) << 8 | usize::from(frame[l3 + at + 1]);
    let end = match (frame[l3] >> 4, field(2), field(4)) {
        (4, length, _) => l3 + length,
        (_, _, 0) => 0,
        (_, _, length) => l3 + 40 + length,
    };
    if (least..=frame.len()).contains(&end) { end } else { frame.len() }
}

/// A packet of `protocol` in a frame with a tag or without, whose IP header says `length`. Where the IP header begins and ends.
fn frame(
    is_ipv6: bool,
    is_tagged: bool,
    protocol: u8,
    length: u16,
    body: &[u8],
) -> (Vec<u8>, usize, usize) {
    let (ethertype, mut packet, header_len) = match is_ipv6 {
        true => (0x86dd, packets::ipv6(1 << 120, 2 << 120, protocol, body), 40),
        false => (0x0800, packets::ipv4(0x0a00_0001, 0x0a00_0002, protocol, 0, body), 20),
    };
    let field = if is_ipv6 { 4 } else { 2 };
    packet[field..field + 2].copy_from_slice(&length.to_be_bytes());
    let (frame, l3) = match is_tagged {
        true => (packets::ethernet(MAC_A, MAC_B, 0x9200, &packets::tag(5, ethertype, &packet)), 18),
        false => (packets::ethernet(MAC_A, MAC_B, ethertype, &packet), 14),
    };
    (frame, l3, l3 + header_len)
}

/// Edits a frame of which `front` bytes are the copy's own, or all where those do not do.
fn edited(edits: Edits, frame: &[u8], front: usize) -> Vec<u8> {
    let plan = EditPlan::compile(edits).unwrap();
    let mut state = plan.state();
    for front in [front.min(frame.len()), frame.len()] {
        let mut buffer = [&[0; DRAFT_HEADROOM][..], &frame[..front]].concat();
        let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, frame.len() - front, frame.len());
        if plan.apply(&CopyFacts::default(), &mut draft, &mut state).is_ok() {
            return [draft.front(), &frame[front..front + draft.rest_len()]].concat();
        }
    }
    panic!("a whole packet needs no more");
}

fn is_duplicate(first: &[u8], second: &[u8], ignore: Ignore) -> bool {
    let spec = DedupSpec { window_ns: 10, ignore, packets: 10, ports: 1 };
    let mut dedup = Dedup::new(spec, &Secret::from_seed(1));
    let frames = [Frame::whole(first), Frame::whole(second)];
    dedup.duplicates(Selection::from_bits(0b11), &frames, &[0; 2], &[5; 2]) == Selection::from_bits(0b10)
}

/// The frame with one bit of the byte at `at` changed.
fn changed(frame: &[u8], at: usize) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[at] ^= 1;
    changed
}

/// Lengths around all that matter: 0, the headers', the packet's own, beyond the frame, those of a jumbo frame.
fn lengths() -> impl Strategy<Value = u16> {
    prop_oneof![2 => Just(0u16), 12 => 0u16..260, 1 => Just(u16::MAX), 1 => any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_places_see_a_packet_end_where_its_length_says_or_with_the_frame(
        is_ipv6: bool, is_tagged: bool, length in lengths(), payload in proptest::collection::vec(any::<u8>(), 60..120),
    ) {
        let inside = packets::ethernet(MAC_B, MAC_A, 0x88b5, &payload);
        let mut udp = packets::udp(9, 4789, &packets::vxlan(7, &inside));
        udp[4..6].fill(0);
        let (frame, l3, l4) = frame(is_ipv6, is_tagged, ip::UDP, length, &udp);
        let (expected, inner) = (end(&frame, l3, l4 + 8), l4 + 8 + 8);

        let mut out = [0; MAX_TRAILER_LEN];
        for format in [TimestampFormat::Ixia, TimestampFormat::Vss] {
            let trailer = Timestamp::from(format).write_trailer(&CopyFacts::default(), &[&frame], 0, &mut out);
            prop_assert_eq!(trailer.keep_len, expected);
        }

        for ignore in [Ignore { mac: true, ..Ignore::default() }, Ignore { vlan: true, ..Ignore::default() }] {
            prop_assert!(!is_duplicate(&frame, &changed(&frame, expected - 1), ignore));
            prop_assert!(expected == frame.len() || is_duplicate(&frame, &changed(&frame, expected), ignore));
        }

        let expected_inside = end(&frame, l3, inner);
        let terminator = Terminator { kind: TunnelKind::Vxlan, to: None, from: vec![], identifiers: vec![], udp_port: None };
        let found = terminator.recognise(&frame).map(|found| (found.offset, found.offset + found.len));
        let strip = LayerSet::default().with(Layer::Vxlan);
        let stripped = edited(Edits { strip, ..Edits::default() }, &frame, 256);
        // a tunnel with nothing inside is none
        let is_empty = expected_inside == inner;
        prop_assert_eq!(found, if is_empty { Err(Refusal::Malformed) } else { Ok((inner, expected_inside)) });
        prop_assert_eq!(stripped, if is_empty { &frame[..] } else { &frame[inner..expected_inside] });

        // a frame is whole where a length says so
        let tag = if is_tagged { 4 } else { 0 };
        let longer = [&frame[..], &[0]].concat();
        let is_said = expected < frame.len() || end(&longer, l3, l4 + 8) < longer.len();
        prop_assert_eq!(Longest((frame.len() - tag) as u32).is_cut(&frame), !is_said);
    }

    #[test]
    fn anonymize_changes_nothing_behind_the_packet(
        is_tagged: bool, length in lengths(), message in messages(), front in prop_oneof![Just(256usize), 60usize..256],
    ) {
        let (is_ipv6, protocol, body) = message;
        let (frame, l3, l4) = frame(is_ipv6, is_tagged, protocol, length, &body);
        let end = end(&frame, l3, l4);
        let edits = || Edits {
            anonymize: Some(Anonymize { key: Key::new([7; 32]), keep: 0, keep_ipv6: 0, inner: true }),
            ..Edits::default()
        };
        let whole = edited(edits(), &frame, usize::MAX);
        prop_assert_eq!(&whole[end..], &frame[end..]);
        prop_assert_ne!(&whole[l3..l4], &frame[l3..l4]);
        // what stands behind decides nothing of the packet
        let other = [&frame[..end], &vec![0x5a; frame.len() - end]].concat();
        prop_assert_eq!(&edited(edits(), &other, usize::MAX)[..end], &whole[..end]);
        prop_assert_eq!(edited(edits(), &frame, front), whole);
    }
}

/// Messages of IGMP, ICMP and ICMPv6 that hold addresses, counts and packets, and whatever follows them.
fn messages() -> impl Strategy<Value = (bool, u8, Vec<u8>)> {
    const IGMP: u8 = 2;
    let kinds = [
        (IGMP, &[0x11u8, 0x16, 0x22][..]),
        (ip::ICMP, &[3, 5, 9, 11]),
        (ip::ICMPV6, &[1, 130, 131, 133, 134, 135, 136, 137, 143]),
    ];
    let kinds: Vec<(u8, u8)> = kinds
        .into_iter()
        .flat_map(|(protocol, kinds)| kinds.iter().map(move |kind| (protocol, *kind)))
        .collect();
    // small numbers are counts, lengths and options; what is quoted may be the message of a neighbour again
    let byte = prop_oneof![3 => Just(0u8), 3 => 0u8..6, 1 => Just(0x45), 1 => Just(0x60), 1 => Just(58), 1 => any::<u8>()];
    (proptest::sample::select(kinds), proptest::collection::vec(byte, 60..200)).prop_map(
        |((protocol, kind), mut body)| {
            body[0] = kind;
            (protocol == ip::ICMPV6, protocol, body)
        },
    )
}
