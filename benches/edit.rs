//! Edits, timestamps and transports: nanoseconds per copy, beside a plain copy of the same packet.
//!
//! Each line is a kind of copy made of 1024 packets in turn; all lines and the plain copies are measured in rounds that alternate, and the
//! medians of the rounds are compared. `front` copies what the edit needs of its own, as the data path does with a chained
//! payload; `whole` is a memcpy of the packet.

use std::hint::black_box;
use std::time::Instant;

use tapline::datapath::copy::{CopyFacts, Stamp};
use tapline::datapath::edit::anonymize::Key;
use tapline::datapath::edit::{
    Anchor, Anonymize, DRAFT_HEADROOM, Draft, EditPlan, EditState, Edits, Mask, Reach, Slice, Strip, StripSet, Tag,
};
use tapline::datapath::parse::{self, Depth};
use tapline::datapath::timestamp::{MAX_TRAILER_LEN, TimestampFormat};
use tapline::datapath::transport::{Encapsulation, Granularity, MAX_HEADER_BYTES, Outer, Subheader, Transport};
use tapline::dpdk::Frame;
use tapline::headers::ethernet::MacAddress;
use tapline::headers::vlan::VlanTag;

const PACKETS: usize = 1024;
const ROUNDS: usize = 31;

/// TCP over IPv4, `len` bytes long, from and to a few hundred addresses.
fn packet(index: usize, len: usize) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    out.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1, (index % 7) as u8, index as u8, 10, 2, (index % 5) as u8, 1]);
    out[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    out.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 4, 0, 0, 0, 0, 0]);
    out.resize(len, index as u8);
    out
}

/// Makes a copy of a packet, in the buffer.
type MakeCopy = Box<dyn FnMut(&[u8], &mut [u8])>;

/// One kind of copy: what is timed.
struct Kind {
    name: &'static str,
    copy: MakeCopy,
    ns: Vec<f64>,
}

fn edits(edits: Edits) -> impl FnMut(&[u8], &mut [u8]) {
    let plan = EditPlan::compile(edits).expect("the edits are valid");
    let mut state: EditState = plan.state();
    let facts = CopyFacts { port: 3, ..Default::default() };
    move |packet, out| {
        let front = match plan.reach() {
            Reach::Front(front) => front.min(packet.len()),
            Reach::Length => {
                let layers =
                    if plan.needs_layers() { parse::parse(&Frame::whole(packet), Depth::Full) } else { parse::Layers::EMPTY };
                black_box(plan.keep_len(packet, &layers));
                return;
            }
            Reach::Nothing | Reach::Whole => packet.len(),
        };
        out[DRAFT_HEADROOM..DRAFT_HEADROOM + front].copy_from_slice(&packet[..front]);
        let mut draft = Draft::new(&mut out[..DRAFT_HEADROOM + front], DRAFT_HEADROOM, packet.len() - front, packet.len());
        plan.apply(&facts, &mut draft, &mut state).expect("the headers are in the front");
        black_box(draft.len());
    }
}

fn transport(encapsulation: Encapsulation, family: [&str; 2]) -> impl FnMut(&[u8], &mut [u8]) {
    let outer = Outer {
        source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
        vlan: None,
        source: family[0].parse().expect("an address"),
        destination: family[1].parse().expect("an address"),
        dscp: 0,
        ttl: 64,
        dont_fragment: true,
    };
    let transport = Transport::tunnel(&outer, &encapsulation).expect("it is valid");
    let mut facts = CopyFacts { stamp: Stamp { ns: 1_700_000_000_123_456_789, ..Default::default() }, ..Default::default() };
    move |packet, out| {
        facts.sequence = facts.sequence.wrapping_add(1);
        facts.flow_hash = facts.flow_hash.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        facts.stamp.ns += 671;
        black_box(transport.write(&facts, &[packet], &mut out[..MAX_HEADER_BYTES]));
    }
}

fn timestamp(format: TimestampFormat) -> impl FnMut(&[u8], &mut [u8]) {
    let mut facts = CopyFacts { stamp: Stamp { ns: 1_700_000_000_123_456_789, ..Default::default() }, ..Default::default() };
    move |packet, out| {
        facts.stamp.ns += 671;
        black_box(format.write_trailer(&facts, &[packet], 60, &mut out[..MAX_TRAILER_LEN]));
    }
}

fn kinds() -> Vec<Kind> {
    const IPV4: [&str; 2] = ["198.18.0.1", "198.18.0.2"];
    const IPV6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];
    let slice = |keep, after| Edits { slice: Some(Slice { keep, after }), ..Default::default() };
    let erspan3 = Encapsulation::Erspan3 {
        session: 7,
        cos: None,
        direction: None,
        security_group_tag: 0,
        hardware: None,
        granularity: Granularity::Ieee1588,
        subheader: Subheader::Seconds { switch: 0 },
    };
    let anonymize = |inner| Anonymize { key: Key::new([7; 32]), keep: 0, keep_ipv6: 0, inner };
    let list: Vec<(&'static str, MakeCopy)> = vec![
        ("plain copy: whole", Box::new(|packet, out| out[..packet.len()].copy_from_slice(packet))),
        (
            "plain copy: first 256",
            Box::new(|packet, out| {
                let front = packet.len().min(256);
                out[..front].copy_from_slice(&packet[..front]);
            }),
        ),
        ("vxlan header", Box::new(transport(Encapsulation::Vxlan { vni: 1, udp_port: None, udp_checksum: false }, IPV4))),
        (
            "vxlan header, ipv6 with checksum",
            Box::new(transport(Encapsulation::Vxlan { vni: 1, udp_port: None, udp_checksum: true }, IPV6)),
        ),
        ("geneve header", Box::new(transport(Encapsulation::Geneve { vni: 1, udp_port: None, udp_checksum: false }, IPV4))),
        ("gre header", Box::new(transport(Encapsulation::Gre { key: None }, IPV4))),
        ("erspan 3 header with seconds", Box::new(transport(erspan3, IPV4))),
        ("slice 128", Box::new(edits(slice(128, Anchor::Start)))),
        ("slice 64 after l4, with parse", Box::new(edits(slice(64, Anchor::L4)))),
        (
            "tag",
            Box::new(edits(Edits {
                tag: Some(Tag { tag: VlanTag { vlan: 9, priority: 0 }, from_port: true }),
                ..Default::default()
            })),
        ),
        (
            "mask 40 16",
            Box::new(edits(Edits {
                masks: vec![Mask { offset: 40, len: 16, byte: 0, after: Anchor::Start }],
                ..Default::default()
            })),
        ),
        (
            "mask 0 16 after l4",
            Box::new(edits(Edits { masks: vec![Mask { offset: 0, len: 16, byte: 0, after: Anchor::L4 }], ..Default::default() })),
        ),
        ("strip vlan (none there)", Box::new(edits(Edits { strip: StripSet::default().with(Strip::Vlan), ..Default::default() }))),
        ("anonymize", Box::new(edits(Edits { anonymize: Some(anonymize(false)), ..Default::default() }))),
        ("anonymize inner", Box::new(edits(Edits { anonymize: Some(anonymize(true)), ..Default::default() }))),
        ("timestamp ixia", Box::new(timestamp(TimestampFormat::Ixia))),
        ("timestamp gigamon", Box::new(timestamp(TimestampFormat::Gigamon))),
        ("timestamp metamako (reads the frame)", Box::new(timestamp(TimestampFormat::Metamako { device: 1 }))),
    ];
    list.into_iter().map(|(name, copy)| Kind { name, copy, ns: Vec::new() }).collect()
}

fn main() {
    for len in [128, 1500] {
        let packets: Vec<_> = (0..PACKETS).map(|index| packet(index, len)).collect();
        let mut out = vec![0; 2048];
        let mut kinds = kinds();
        for _ in 0..ROUNDS {
            for kind in &mut kinds {
                let begin = Instant::now();
                for packet in &packets {
                    (kind.copy)(black_box(packet), &mut out);
                    black_box(&mut out);
                }
                kind.ns.push(begin.elapsed().as_nanos() as f64 / PACKETS as f64);
            }
        }
        let mut medians = kinds.iter_mut().map(|kind| {
            kind.ns.sort_by(f64::total_cmp);
            (kind.name, kind.ns[ROUNDS / 2])
        });
        let (name, plain) = medians.next().expect("the plain copy is first");
        println!("{len} bytes, {PACKETS} packets, median of {ROUNDS} rounds");
        println!("  {name:40} {plain:7.1} ns/copy");
        for (name, ns) in medians {
            println!("  {name:40} {ns:7.1} ns/copy   {:5.2} of the plain copy", ns / plain);
        }
    }
}
