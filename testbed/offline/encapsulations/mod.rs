//! The table of encapsulations: each row, found in each way that it names, with each payload that it names, by each feature that
//! reads the table. tshark says what is inside.

mod wraps;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use tapline_api::words::{HashKind, Refusal, TimestampFormat, TunnelKind};
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::copies::edit::{Anonymize, Anonymizer, DRAFT_HEADROOM, Draft, EditPlan, Edits};
use tapline_datapath::copies::facts::CopyFacts;
use tapline_datapath::copies::timestamp::Timestamp;
use tapline_datapath::flow::hash::flow_hash;
use tapline_datapath::receive::tunnel_match::{Terminator, layer_of};
use tapline_filter::through::{Inside, inside};
use tapline_harness::frames;
use tapline_harness::pcap_files::write_frames;
use tapline_harness::programs::has_program;
use tapline_harness::tshark;
use tapline_packet::frame::Frame;
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::layers::{Depth, Encapsulation, Payload, ShellKind, TABLE, parse};
use tapline_traffic::packets;

use crate::fuzz::layers;
use wraps::{LABEL_WITH_CONTROL_WORD, LABEL_WITHOUT, wraps};

const KEY: [u8; 32] = *b"any thirty-two bytes will do it.";

/// What tshark is asked for: addresses and ports from the outermost layer inwards.
const FIELDS: [&str; 9] = [
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "frame.protocols",
];
/// Where the names of the layers stand in it.
const PROTOCOLS: usize = 8;

/// One frame made from a row.
struct Case {
    row: &'static Encapsulation,
    bytes: Vec<u8>,
    /// The frame that is in it, whose addresses may be lent by the outer one.
    inner: Vec<u8>,
}

/// Every row in every way.
fn cases() -> Vec<Case> {
    let inner = [frames::tcp4(100), frames::udp4(61), frames::tcp6(90)];
    let mut cases = Vec::new();
    for row in &TABLE {
        for &found in row.found {
            for &payload in row.carries {
                let of_this = cases.len();
                for inner in &inner {
                    let case = |bytes| Case { row, bytes, inner: inner.clone() };
                    cases.extend(wraps(row, found, payload, inner).into_iter().map(case));
                }
                assert!(cases.len() > of_this, "{:?} {found:?} {payload:?}: no frame", row.kind);
            }
        }
    }
    cases
}

/// What tshark says of frames: one row of [`FIELDS`] each. It is told which labels are those of pseudowires, and of the
/// port of VXLAN that is older than the standard's.
fn told(path: &Path, frames: &[Vec<u8>]) -> Vec<Vec<String>> {
    write_frames(path, frames);
    let with = format!("mpls.label=={LABEL_WITH_CONTROL_WORD},pwethcw");
    let without = format!("mpls.label=={LABEL_WITHOUT},pwethnocw");
    let rows = tshark::fields(path, &["-d", &with, "-d", &without, "-d", "udp.port==8472,vxlan"], &FIELDS);
    assert_eq!(rows.len(), frames.len());
    rows
}

/// tshark's innermost addresses and ports.
fn innermost(row: &[String]) -> [&str; 4] {
    let last = |field: usize| row[field].rsplit(';').next().unwrap_or_default();
    let is_last = |one: &str, other: &str| {
        let mut layers = row[PROTOCOLS].rsplit(':').filter(|layer| [one, other].contains(layer));
        layers.next() == Some(one)
    };
    let (source, destination) = if is_last("ipv6", "ip") { (2, 3) } else { (0, 1) };
    let (from, to) = if is_last("tcp", "udp") { (4, 5) } else { (6, 7) };
    [last(source), last(destination), last(from), last(to)]
}

/// How many IP headers tshark found.
fn ip_headers(row: &[String]) -> usize {
    row[PROTOCOLS].split(':').filter(|layer| ["ip", "ipv6"].contains(layer)).count()
}

/// The frame as tshark 4.0 can read it. It knows nothing of the bytes that Mellanox switches add, nor goes into IP in ERSPAN III
/// (which has no other fields that say so): there they are taken out, and the type becomes that of what follows.
fn readable(case: &Case) -> Vec<u8> {
    const GRE: usize = 34;
    let mut bytes = case.bytes.clone();
    let (cut, ethertype) = match case.row.kind {
        ShellKind::GreMellanox => (GRE + 4..GRE + 26, 0x6558_u16),
        ShellKind::Erspan3 if bytes[GRE + 18] == 8 => {
            let subheader_len = if bytes[GRE + 19] & 1 == 1 { 8 } else { 0 };
            let ethertype = u16::from_be_bytes([case.inner[12], case.inner[13]]);
            (GRE + 8..GRE + 20 + subheader_len, ethertype)
        }
        _ => return bytes,
    };
    bytes.drain(cut);
    bytes[GRE + 2..GRE + 4].copy_from_slice(&ethertype.to_be_bytes());
    let len = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// The frame that a filter looks at.
fn seen_through(through: LayerSet, bytes: &[u8]) -> Vec<u8> {
    let frame = Frame::whole(bytes);
    match inside(through, &frame, &parse(&frame, Depth::Full)) {
        Inside::Whole(frame) => frame.bytes().to_vec(),
        Inside::Split(frame) => [frame.header(), frame.payload()].concat(),
    }
}

fn edited(plan: &EditPlan, bytes: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0; DRAFT_HEADROOM][..], bytes].concat();
    let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, 0, bytes.len());
    plan.apply(&CopyFacts::default(), &mut draft, &mut plan.state()).expect("all of the frame is there");
    draft.front().to_vec()
}

fn plan(edits: Edits) -> EditPlan {
    EditPlan::compile(edits).expect("the edits are valid")
}

fn word_of(row: &Encapsulation) -> LayerSet {
    row.word.map_or(LayerSet::ALL, |layer| LayerSet::default().with(layer))
}

/// One problem a line, so that a run shows all of them.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn tshark_finds_in_each_frame_what_was_put_into_it() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = cases();
    let outer = told(&folder.path().join("outer"), &cases.iter().map(readable).collect::<Vec<_>>());
    let inner = told(
        &folder.path().join("inner"),
        &cases.iter().map(|case| case.inner.clone()).collect::<Vec<_>>(),
    );
    let mut problems = Vec::new();
    for ((case, outer), inner) in cases.iter().zip(&outer).zip(&inner) {
        if innermost(outer) != innermost(inner) {
            problems.push(format!("{:?} {outer:?}: {:02x?}", case.row.kind, case.bytes));
        }
    }
    assert_none(&problems);
    println!("{} frames of {} rows", cases.len(), TABLE.len());
}

#[test]
fn filters_look_through_each_row_by_its_word_and_by_any() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = cases();
    let outer = told(&folder.path().join("outer"), &cases.iter().map(readable).collect::<Vec<_>>());
    for by_word in [true, false] {
        let seen: Vec<Vec<u8>> = cases
            .iter()
            .map(|case| {
                let through = if by_word { word_of(case.row) } else { LayerSet::ALL };
                seen_through(through, &case.bytes)
            })
            .collect();
        let rows = told(&folder.path().join("seen"), &seen);
        let mut problems = Vec::new();
        for ((case, outer), seen) in cases.iter().zip(&outer).zip(&rows) {
            // Labels inside another row are layers of their own, that its word does not name.
            let is_deeper = by_word && carries_more(case);
            if innermost(outer) != innermost(seen) || !is_deeper && ip_headers(seen) != 1 {
                problems.push(format!("{:?} {outer:?}\n  seen {seen:?}", case.row.kind));
            }
            if by_word && case.row.word.is_ok() {
                let others = LayerSet::default();
                if seen_through(others, &case.bytes) != case.bytes {
                    problems.push(format!("{:?} is looked through unasked", case.row.kind));
                }
            }
        }
        assert_none(&problems);
    }
}

/// Whether a row's frame has layers inside that are rows of their own.
fn carries_more(case: &Case) -> bool {
    parse(&Frame::whole(&case.bytes), Depth::Full).shells().len() > 1
}

#[test]
fn the_inner_hash_of_each_row_is_that_of_the_frame_inside() {
    for case in cases() {
        let hash = |bytes: &[u8], depth| {
            let frame = Frame::whole(bytes);
            flow_hash(HashKind::FiveTuple, depth, 7, &frame, &parse(&frame, Depth::Full))
        };
        let (wrapped, alone) = (hash(&case.bytes, Depth::Full), hash(&case.inner, Depth::Outer));
        assert_eq!(wrapped, alone, "{:?}: {:02x?}", case.row.kind, case.bytes);
        // What belongs to the link header is stepped over by the outer hash too.
        if case.row.kind.is_of_link() {
            assert_eq!(hash(&case.bytes, Depth::Outer), alone, "{:?}", case.row.kind);
        }
    }
}

#[test]
fn strip_takes_each_row_off_that_it_may_take_off_and_leaves_the_others() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = cases();
    let outer = told(&folder.path().join("outer"), &cases.iter().map(readable).collect::<Vec<_>>());
    let all = plan(Edits { strip: LayerSet::ALL, ..Default::default() });
    let stripped: Vec<Vec<u8>> = cases
        .iter()
        .map(|case| {
            let by_word = plan(Edits { strip: word_of(case.row), ..Default::default() });
            match case.row.strip {
                Ok(()) => {
                    let by_all = edited(&all, &case.bytes);
                    let by_word = edited(&by_word, &case.bytes);
                    // One tag comes off by `vlan`, and rows inside by their own words.
                    assert!(
                        by_all.len() <= by_word.len() && by_word.len() < case.bytes.len(),
                        "{:?}",
                        case.row
                    );
                    by_all
                }
                Err(why) => {
                    assert!(!why.is_empty());
                    assert_eq!(edited(&by_word, &case.bytes), case.bytes, "{:?}: {why}", case.row.kind);
                    case.bytes.clone()
                }
            }
        })
        .collect();
    let rows = told(&folder.path().join("stripped"), &stripped);
    let mut problems = Vec::new();
    for ((case, outer), (row, bytes)) in cases.iter().zip(&outer).zip(rows.iter().zip(&stripped)) {
        if innermost(outer) != innermost(row) || ip_headers(row) != 1 {
            problems.push(format!("{:?} {outer:?}\n  stripped {row:?}", case.row.kind));
        }
        if case.row.strip.is_ok() && bytes[12..] != case.inner[12..] {
            problems.push(format!("{:?}: {bytes:02x?}\n  is not {:02x?}", case.row.kind, case.inner));
        }
    }
    assert_none(&problems);
}

#[test]
fn anonymize_inner_replaces_the_addresses_in_each_row() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let anonymize = Anonymize { key: Key::new(KEY), keep: 0, keep_ipv6: 0, inner: true };
    let mut anonymizer = Anonymizer::new(&anonymize);
    let edit = plan(Edits { anonymize: Some(anonymize), ..Default::default() });
    let cases = cases();
    let anonymized: Vec<Case> = cases
        .iter()
        .map(|case| Case { bytes: edited(&edit, &case.bytes), inner: case.inner.clone(), ..*case })
        .collect();
    let before = told(&folder.path().join("before"), &cases.iter().map(readable).collect::<Vec<_>>());
    let path = folder.path().join("after");
    let after = told(&path, &anonymized.iter().map(readable).collect::<Vec<_>>());
    let mut problems = Vec::new();
    for ((case, before), after) in cases.iter().zip(&before).zip(&after) {
        let mut expected = before.clone();
        for addresses in &mut expected[..2] {
            let replaced = addresses.split(';').filter(|address| !address.is_empty()).map(|address| {
                let address: Ipv4Addr = address.parse().expect("an address");
                Ipv4Addr::from(anonymizer.ipv4(address.to_bits())).to_string()
            });
            *addresses = replaced.collect::<Vec<_>>().join(";");
        }
        for addresses in &mut expected[2..4] {
            let replaced = addresses.split(';').filter(|address| !address.is_empty()).map(|address| {
                let address: Ipv6Addr = address.parse().expect("an address");
                Ipv6Addr::from(anonymizer.ipv6(address.to_bits())).to_string()
            });
            *addresses = replaced.collect::<Vec<_>>().join(";");
        }
        if expected != *after {
            problems.push(format!("{:?} {expected:?}\n  found {after:?}", case.row.kind));
        }
    }
    assert_none(&problems);
}

#[test]
fn what_is_read_of_each_row_is_not_called_unparsed_and_what_is_left_out_says_why() {
    for case in cases() {
        let layers = parse(&Frame::whole(&case.bytes), Depth::Full);
        assert!(!layers.is_unparsed(&case.bytes), "{:?}: {:02x?}", case.row.kind, case.bytes);
        let kinds: Vec<ShellKind> = layers.shells().iter().map(|shell| shell.kind).collect();
        assert!(kinds.contains(&case.row.kind), "{:?}: {kinds:?}", case.row.kind);
    }
    let carries_wlan = |row: &&Encapsulation| row.carries.contains(&Payload::Wlan);
    for row in TABLE.iter().filter(carries_wlan) {
        assert!(row.left_out.contains("802.11"), "{:?}", row.kind);
    }
}

/// The tunnels that have a layer word; RSPAN is a VLAN.
fn tunnels() -> impl Iterator<Item = TunnelKind> {
    TunnelKind::ALL.into_iter().filter(|&kind| layer_of(kind).is_some())
}

fn terminator(kind: TunnelKind) -> Terminator {
    Terminator { kind, to: None, from: vec![], identifiers: Vec::new(), udp_port: None }
}

#[test]
fn tunnels_end_with_the_frame_that_is_in_them_and_others_are_other_traffic() {
    let mut ended = 0;
    for case in cases() {
        // Labels inside are no frame that could become the packet.
        let carries_labels = parse(&Frame::whole(&case.bytes), Depth::Full).shells().len() > 1;
        for kind in tunnels() {
            let found = terminator(kind).recognise(&case.bytes);
            if case.row.word.ok() != layer_of(kind) {
                assert_eq!(found, Err(Refusal::OtherTraffic), "{kind:?} of {:?}", case.row.kind);
            } else if carries_labels {
                assert_eq!(found, Err(Refusal::Malformed), "{kind:?} of {:?}", case.row.kind);
            } else {
                let inner = found.unwrap_or_else(|why| panic!("{:?}: {why:?}", case.row.kind));
                let carried = &case.bytes[inner.offset..inner.offset + inner.len];
                let from = if inner.link.is_some() { 14 } else { 0 };
                assert_eq!(carried, &case.inner[from..], "{:?}", case.row.kind);
                ended += 1;
            }
        }
    }
    assert!(ended > 60, "{ended}");
}

#[test]
fn a_tunnel_with_nothing_inside_is_left_alone_by_all_and_ends_nowhere() {
    let udp = |port, payload: &[u8]| wraps::in_ipv4(17, &packets::udp(49_152, port, payload));
    let empty = [
        (TunnelKind::Vxlan, udp(4789, &packets::vxlan(7, &[]))),
        (TunnelKind::Geneve, udp(6081, &packets::geneve(7, 0x6558, &[0, 1, 2, 1, 0, 0, 0, 0], &[]))),
        (TunnelKind::Gre, wraps::in_ipv4(47, &packets::gre(0x0800, None, None, &[]))),
        (TunnelKind::Gre, wraps::in_ipv4(47, &packets::gre(0, None, Some(1), &[]))),
        (TunnelKind::Erspan, wraps::in_ipv4(47, &packets::gre(0x88be, None, None, &[]))),
        (TunnelKind::Gtp, udp(2152, &packets::gtp(7, &[]))),
        (TunnelKind::Tzsp, udp(37008, &[1, 0, 0, 1, 1])),
    ];
    let strip = plan(Edits { strip: LayerSet::ALL, ..Default::default() });
    for (kind, bytes) in empty {
        let mut padded = bytes.clone();
        padded.resize(60.max(bytes.len()), 0);
        for bytes in [bytes, padded] {
            assert_eq!(seen_through(LayerSet::ALL, &bytes), bytes, "{kind:?}");
            assert_eq!(edited(&strip, &bytes), bytes, "{kind:?}");
            assert_eq!(terminator(kind).recognise(&bytes), Err(Refusal::Malformed), "{kind:?}");
        }
    }
}

#[test]
fn the_time_header_that_tapline_writes_is_read() {
    let facts = CopyFacts::default();
    let anonymize = Anonymize { key: Key::new(KEY), keep: 0, keep_ipv6: 0, inner: false };
    let edit = plan(Edits { anonymize: Some(anonymize), ..Default::default() });
    for frame in [frames::tcp4(100), frames::udp4(61), frames::tcp6(90)] {
        let mut header = [0; 64];
        let written = Timestamp::from(TimestampFormat::Arista).write_header(&facts, &frame, &mut header);
        let stamped = [&header[..written.header_bytes], &frame[written.replaced_bytes..]].concat();
        assert_eq!(seen_through(LayerSet::ALL, &stamped), frame);
        let anonymized = edited(&edit, &stamped);
        assert_eq!(anonymized[written.header_bytes..], edited(&edit, &frame)[written.replaced_bytes..]);
        assert_ne!(anonymized, stamped);
    }
}

#[test]
fn addresses_in_a_pseudowire_to_an_address_that_begins_as_ip_are_replaced() {
    let edit = plan(Edits {
        anonymize: Some(Anonymize { key: Key::new(KEY), keep: 0, keep_ipv6: 0, inner: true }),
        ..Default::default()
    });
    let strip = plan(Edits { strip: LayerSet::ALL, ..Default::default() });
    for address in [[0x4c, 0x76, 0x25, 1, 2, 3], [0x64, 0x00, 0xf1, 1, 2, 3]] {
        let mut frame = frames::tcp4(100);
        frame[..6].copy_from_slice(&address);
        let bytes = packets::ethernet([2; 6], [4; 6], 0x8847, &packets::mpls(&[16], &frame));
        assert_eq!(edited(&strip, &bytes), frame);
        let (anonymized, alone) = (edited(&edit, &bytes), edited(&edit, &frame));
        assert_eq!(anonymized[18..], alone);
        assert_ne!(alone, frame);
    }
}

proptest! {
    #![proptest_config(crate::fuzz::cases())]

    #[test]
    fn no_damage_to_a_row_breaks_what_reads_it(
        which: Index,
        outer: Index,
        cut in 0.0..1.0,
        changes in proptest::collection::vec((0.0..1.0, any::<u8>()), 0..4),
    ) {
        let cases = made();
        let mut bytes = cases[which.index(cases.len())].bytes.clone();
        let around = &cases[outer.index(cases.len())];
        // Half of them in another row: what carried a frame carries this one.
        if around.bytes.ends_with(&around.inner) {
            bytes = [&around.bytes[..around.bytes.len() - around.inner.len()], &bytes].concat();
        }
        for (at, byte) in changes {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = byte;
        }
        let shorter = &bytes[..(cut * bytes.len() as f64) as usize];
        layers::layers(&bytes);
        layers::layers(shorter);
        layers::longer_shows_more(shorter, &bytes);
        for edits in [
            Edits { strip: LayerSet::ALL, ..Default::default() },
            Edits { anonymize: Some(Anonymize { key: Key::new(KEY), keep: 0, keep_ipv6: 0, inner: true }), ..Default::default() },
        ] {
            let plan = plan(edits);
            for bytes in [&bytes[..], shorter] {
                prop_assert!(edited(&plan, bytes).len() <= bytes.len());
            }
        }
        for kind in tunnels() {
            if let Ok(inner) = terminator(kind).recognise(&bytes) {
                prop_assert!(inner.offset + inner.len <= bytes.len() && inner.len <= inner.original_len);
            }
        }
    }
}

fn made() -> &'static [Case] {
    static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
    CASES.get_or_init(cases)
}
