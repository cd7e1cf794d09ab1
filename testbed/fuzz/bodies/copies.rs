//! Fuzz body for edits, timestamps, transports and their ends: whatever the packet and the clauses are, nothing panics, nothing of
//! what lies around the packet in its buffer shows, and a frame comes out of a tunnel as it went in.

use tapline_api::words::{
    Anchor, ClockQuality, Direction, Granularity, Refusal, RspanTag, TagLabel, TimestampFormat, TunnelKind,
};
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::copies::edit::{
    Anonymize, DRAFT_HEADROOM, Draft, EditPlan, Edits, Mask, Reach, Rewrite, Slice, Tag,
};
use tapline_datapath::copies::facts::{CopyFacts, Stamp};
use tapline_datapath::copies::timestamp::{HEADER_LEN, MAX_TRAILER_LEN, Timestamp};
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, MAX_HEADER_BYTES, Outer, Subheader, Transport,
};
use tapline_datapath::receive::tunnel_match::{Inner, SequenceTracker, Terminator};
use tapline_packet::frame::Frame;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::layers;
use tapline_packet::layers::Depth;

/// Numbers out of the input's bytes; zeros behind its end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bit(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn vlan_tag(&mut self) -> VlanTag {
        VlanTag { vlan: self.word() % 4095, priority: self.byte() % 8 }
    }
}

const ANCHORS: [Option<Anchor>; 5] =
    [None, Some(Anchor::L2), Some(Anchor::L3), Some(Anchor::L4), Some(Anchor::InnerL4)];

/// The first 48 bytes choose, the rest is the packet.
pub(super) fn copies(bytes: &[u8]) {
    let (chosen, packet) = bytes.split_at(bytes.len().min(48));
    let mut choices = Choices(chosen);
    let facts = facts(&mut choices);
    let edits = edits(&mut choices);
    let transport = transport(&mut choices);
    let cut = choices.word();
    end_of_any(packet);
    let plan = EditPlan::compile(edits)
        .unwrap_or_else(|_| EditPlan::compile(Edits::default()).expect("nothing is asked for"));
    let more = usize::from(choices.byte());
    let edited = edit(&plan, &facts, packet, packet.len() + more);
    stamp(&facts, &edited);
    for frame in [packet, &edited] {
        let outer = there_and_back(&transport, &facts, frame, usize::from(cut));
        let outer = &outer[..outer.len() - usize::from(cut) % (outer.len() + 1) / 2];
        edit(&plan, &facts, outer, outer.len() + more);
        end_of_any(outer);
    }
}

fn facts(choices: &mut Choices<'_>) -> CopyFacts {
    CopyFacts {
        stamp: Stamp {
            ns: u64::from(choices.word()) << 48 | u64::from(choices.word()) << 16,
            quality: choices.of(&[ClockQuality::Free, ClockQuality::Ntp, ClockQuality::Ptp]),
            degraded: choices.bit(),
        },
        port: choices.word(),
        tunnel: u32::from(choices.word()) << 8,
        direction: choices.of(&[Direction::Ingress, Direction::Egress]),
        truncated: choices.bit(),
        flow_hash: u32::from(choices.word()) << 16 | 1,
        sequence: choices.word().into(),
    }
}

fn edits(choices: &mut Choices<'_>) -> Edits {
    let word = choices.word();
    let strips = u32::from(word) | u32::from(word.reverse_bits()) << 16;
    let strip: LayerSet = Layer::ALL
        .into_iter()
        .enumerate()
        .filter(|(index, _)| strips >> index & 1 == 1)
        .map(|(_, strip)| strip)
        .collect();
    let asked = choices.byte();
    let has = |bit: u8| asked >> bit & 1 == 1;
    let key = Key::new([choices.byte(); 32]);
    let (keep, keep_ipv6, inner) = (choices.byte() % 33, choices.byte() % 129, choices.bit());
    let mask = Mask {
        offset: choices.word() % 2048,
        len: choices.word() % 2048,
        byte: choices.byte(),
        after: choices.of(&ANCHORS),
    };
    let slice = Slice { keep: choices.word() % 2048, after: choices.of(&ANCHORS) };
    let rewrite = Rewrite {
        destination: has(4).then_some(MacAddress([9; 6])),
        source: None,
        vlan: has(5).then_some(7),
    };
    let tag = Tag {
        tag: choices.vlan_tag(),
        label: choices.of(&[None, Some(TagLabel::FromPort), Some(TagLabel::FromTunnel)]),
    };
    Edits {
        strip,
        anonymize: has(0).then_some(Anonymize { key, keep, keep_ipv6, inner }),
        masks: if has(1) { vec![mask] } else { vec![] },
        payload_drop: has(2),
        slice: has(3).then_some(slice),
        rewrite,
        tag: has(6).then_some(tag),
        mark: has(7).then_some(9),
    }
}

fn transport(choices: &mut Choices<'_>) -> Transport {
    let is_ipv6 = choices.bit();
    let addresses = if is_ipv6 { ["2001:db8::1", "2001:db8::9"] } else { ["198.18.0.1", "198.18.0.9"] };
    let [source, destination] = addresses.map(|address| address.parse().expect("an address"));
    let outer = Outer {
        source_mac: MacAddress([2; 6]),
        destination_mac: MacAddress([4; 6]),
        vlan: choices.bit().then_some(VlanTag { vlan: 5, priority: 1 }),
        source,
        destination,
        dscp: 0,
        ttl: 64,
        dont_fragment: choices.bit(),
    };
    let session = choices.word() % 1024;
    let udp_checksum = choices.bit().then(|| choices.bit());
    let erspan3 = |granularity, subheader| {
        Encapsulation::Erspan3(Erspan3 {
            session,
            security_group_tag: 1,
            granularity,
            subheader,
            ..Erspan3::default()
        })
    };
    let tunnels = [
        Encapsulation::Erspan1,
        Encapsulation::Erspan2(Erspan2 { session, cos: None, index: None }),
        erspan3(Granularity::HundredMicroseconds, Subheader::None),
        erspan3(Granularity::HundredNanoseconds, Subheader::UpperBits),
        erspan3(Granularity::Ieee1588, Subheader::Seconds { switch: 1 }),
        Encapsulation::Vxlan { vni: session.into(), udp_port: None, udp_checksum },
        Encapsulation::Geneve { vni: session.into(), udp_port: None, udp_checksum },
        Encapsulation::Gre { key: None },
        Encapsulation::Gre { key: Some(session.into()) },
    ];
    let chosen = usize::from(choices.byte()) % (tunnels.len() + 2);
    match tunnels.get(chosen) {
        Some(encapsulation) => Transport::tunnel(&outer, encapsulation),
        None if chosen == tunnels.len() => Transport::rspan(1 + session, 3, RspanTag::Push),
        None => Transport::rspan(1 + session, 3, RspanTag::Replace),
    }
    .expect("it is valid")
}

/// The copy with `front` bytes of its own before it is edited, or more where that is too little: its bytes and original length.
fn edited(
    plan: &EditPlan,
    facts: &CopyFacts,
    packet: &[u8],
    original_len: usize,
    front: usize,
    filler: u8,
) -> (Vec<u8>, usize) {
    let mut state = plan.state();
    let mut front = front.min(packet.len());
    loop {
        let mut buffer = vec![filler; DRAFT_HEADROOM];
        buffer.extend(&packet[..front]);
        let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, packet.len() - front, original_len);
        if plan.apply(facts, &mut draft, &mut state).is_ok() {
            let copy = [draft.front(), &packet[front..front + draft.rest_len()]].concat();
            assert_eq!(
                (copy.len(), draft.is_truncated()),
                (draft.len(), draft.len() < draft.original_len())
            );
            return (copy, draft.original_len());
        }
        assert!(front < packet.len(), "a whole packet needs no more");
        front = packet.len();
    }
}

/// Edits the packet with all of it and with only as much as the plan asks for as the copy's own, which gives the same; the copy.
fn edit(plan: &EditPlan, facts: &CopyFacts, packet: &[u8], original_len: usize) -> Vec<u8> {
    let (copy, copy_len) = edited(plan, facts, packet, original_len, usize::MAX, 0xee);
    let front = match plan.reach() {
        Reach::Front(front) => front,
        Reach::Whole => usize::MAX,
        Reach::Nothing | Reach::Length => 0,
    };
    assert_eq!(edited(plan, facts, packet, original_len, front, 0x11), (copy.clone(), copy_len));
    match plan.reach() {
        Reach::Nothing => assert_eq!((&copy[..], copy_len), (packet, original_len)),
        Reach::Length => {
            let layers = layers::parse(&Frame::whole(packet), Depth::Full);
            let keep = plan.keep_len(packet, &layers).min(packet.len());
            assert_eq!((&copy[..], copy_len), (&packet[..keep], original_len));
        }
        Reach::Front(_) | Reach::Whole => {}
    }
    assert!(copy.len() <= copy_len && copy_len <= original_len + plan.added_len());
    assert!(copy.len() <= packet.len() + plan.added_len() && copy.len() <= plan.longest(packet.len()));
    copy
}

/// Stamps the frame in every format: it stays whole but for its padding.
fn stamp(facts: &CopyFacts, frame: &[u8]) {
    for format in TimestampFormat::ALL.map(|format| Timestamp { format, device: 7 }) {
        let mut out = [0; MAX_TRAILER_LEN];
        for min_len in [0, 60] {
            let trailer = format.write_trailer(facts, &[frame], min_len, &mut out);
            assert!(trailer.keep_len <= frame.len() && trailer.len <= format.added_len());
        }
        let mut out = [0; HEADER_LEN];
        let header = format.write_header(facts, frame, &mut out);
        assert!(header.header_bytes <= HEADER_LEN && header.replaced_bytes <= frame.len());
        assert_eq!(out[..header.replaced_bytes], frame[..header.replaced_bytes]);
    }
}

/// The packet that a terminated frame is.
fn inside(inner: &Inner, bytes: &[u8]) -> Vec<u8> {
    let link = inner.link.map_or_else(Vec::new, |link| link.to_vec());
    [&link, &bytes[inner.offset..inner.offset + inner.len]].concat()
}

fn terminator(kind: TunnelKind) -> Terminator {
    Terminator { kind, to: None, from: vec![], identifiers: Vec::new(), udp_port: None }
}

/// Ends every kind of tunnel in bytes that may be anything.
fn end_of_any(bytes: &[u8]) {
    let mut tracker = SequenceTracker::new(4);
    for kind in TunnelKind::ALL {
        for terminator in [terminator(kind), Terminator { udp_port: Some(0x1234), ..terminator(kind) }] {
            let Ok(inner) = terminator.recognise(bytes) else { continue };
            assert!(inner.offset + inner.len <= bytes.len() && inner.len <= inner.original_len);
            // the link header is written over the outer headers
            assert!(inner.link.is_none_or(|link| link.len() <= inner.offset));
            tracker.observe(&inner.outer);
            let _ = inner.outer.time.map(|time| (time.ns(0), time.ns(u64::MAX), time.is_full()));
        }
        let only_one = Terminator { identifiers: vec![7..=7], ..terminator(kind) }.recognise(bytes);
        assert!(only_one.ok().is_none_or(|inner| inner.outer.identifier == Some(7)));
    }
}

/// Puts the transport's header in front of the frame and ends the tunnel again, whole and cut to `cut` bytes; the tunnel's packet.
fn there_and_back(transport: &Transport, facts: &CopyFacts, frame: &[u8], cut: usize) -> Vec<u8> {
    let mut header = [0; MAX_HEADER_BYTES];
    let written = transport.write(facts, &[frame], &mut header);
    let outer = [&header[..written.header_bytes], &frame[written.replaced_bytes..]].concat();
    assert!(outer.len() <= frame.len() + transport.overhead_bytes());
    // the first piece holds the link header
    let split = frame.len() / 2;
    if split >= 18 {
        let mut again = [0; MAX_HEADER_BYTES];
        assert_eq!(transport.write(facts, &[&frame[..split], &frame[split..]], &mut again), written);
        assert_eq!(header, again, "a frame in two pieces has the same header");
    }
    // IP says no more of it
    if outer.len() > 0xffff {
        return outer;
    }
    let found: Vec<(TunnelKind, Inner)> = TunnelKind::ALL
        .into_iter()
        .filter_map(|kind| terminator(kind).recognise(&outer).ok().map(|inner| (kind, inner)))
        .collect();
    if let Transport::Rspan { .. } = transport {
        // a frame without its addresses stays as it is; else a type stands behind the tag
        if frame.len() >= 12 && outer.len() >= 18 {
            let (_, inner) =
                found.iter().find(|(kind, _)| *kind == TunnelKind::Rspan).expect("the VLAN ends here");
            let replaced = written.replaced_bytes - 12;
            assert_eq!(inside(inner, &outer), [&frame[..12], &frame[12 + replaced..]].concat());
        }
        return outer;
    }
    // an outer tag of the tunnel is a VLAN that could end here too
    let of_tunnel = found.iter().find(|(kind, _)| *kind != TunnelKind::Rspan);
    if frame.is_empty() {
        // a tunnel with nothing in it is refused by the one that it is of
        assert!(of_tunnel.is_none());
        let refused = |kind| terminator(kind).recognise(&outer) == Err(Refusal::Malformed);
        assert!(TunnelKind::ALL.into_iter().any(refused));
        return outer;
    }
    let (kind, inner) =
        of_tunnel.unwrap_or_else(|| panic!("the tunnel with {} bytes ends here", frame.len()));
    assert_eq!(inside(inner, &outer), frame);
    assert_eq!((inner.original_len, inner.link), (frame.len(), None));
    let cut = &outer[..cut.min(outer.len())];
    match terminator(*kind).recognise(cut) {
        Ok(part) => {
            assert_eq!((part.offset, part.original_len), (inner.offset, inner.original_len));
            assert_eq!(inside(&part, cut), &frame[..part.len]);
            assert_eq!(part.offset + part.len, cut.len());
        }
        Err(_) => assert!(cut.len() < inner.offset),
    }
    outer
}
