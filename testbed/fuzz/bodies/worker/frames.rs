//! Frames of every kind, whole, cut, bent and nested, out of an input's bytes.

use std::sync::OnceLock;

use tapline_packet::frame::Frame;
use tapline_packet::layers::{Depth, parse};
use tapline_traffic::frame::{Addresses, ICMP, ICMP6, TCP, UDP, arp, ethernet, icmp, ip, tagged, tcp, udp};

use super::Choices;
use super::pipeline::Input;

/// One packet on its way in.
#[derive(Clone)]
pub(crate) struct Shot {
    /// Its place among the inputs.
    pub input: usize,
    pub bytes: Vec<u8>,
    /// No less than the bytes. What rings bring is as long as it was.
    pub original_len: u32,
    /// Where the packet goes on in another segment: later places first.
    pub split: Vec<u16>,
    pub ns: u64,
    /// What a NIC says of it: its RSS hash and what the packet is (`rte_mbuf_ptype.h`).
    pub rss: Option<(u32, u32)>,
}

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const V4: Addresses = Addresses::V4 { source: [10, 1, 2, 3], destination: [10, 4, 5, 6] };
const TUNNEL_V4: Addresses = Addresses::V4 { source: [198, 18, 0, 1], destination: [198, 18, 0, 2] };
const V6: Addresses = Addresses::V6 { source: address_v6(1), destination: address_v6(2) };

const fn address_v6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn on_ethernet(addresses: Addresses, protocol: u8, body: &[u8]) -> Vec<u8> {
    let (ethertype, packets) = ip(addresses, protocol, 7, body, 65_000);
    ethernet(MAC_A, MAC_B, &tagged(&[], ethertype, &packets[0]))
}

/// Frames to begin with: never changed, or inputs that were kept mean something else.
fn library() -> &'static [Vec<u8>] {
    static LIBRARY: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut frames: Vec<Vec<u8>> =
            tapline_traffic::office().packets.into_iter().step_by(53).map(|packet| packet.bytes).collect();
        frames.truncate(24);
        frames.extend(tapline_traffic::jumbo().packets.into_iter().take(6).map(|packet| packet.bytes));
        for addresses in [V4, V6] {
            frames.push(on_ethernet(
                addresses,
                TCP,
                &tcp(addresses, (40000, 80), (1, 2), 0x18, b"GET / HTTP/1.1\r\n\r\n"),
            ));
            frames.push(on_ethernet(addresses, UDP, &udp(addresses, (40000, 53), &[0; 30])));
            frames.push(on_ethernet(addresses, UDP, &udp(addresses, (0, 0), &[])));
            // SCTP, AH, ESP, OSPF, PIM, VRRP, IPv6 routing and destination options, and a protocol that nobody knows
            for protocol in [132, 51, 50, 89, 103, 112, 43, 60, 253] {
                frames.push(on_ethernet(
                    addresses,
                    protocol,
                    &[[protocol, 2, 0, 0].as_slice(), &[1; 60]].concat(),
                ));
            }
            // ICMP errors that quote a packet, and what else holds addresses
            let kind = if addresses == V4 { ICMP } else { ICMP6 };
            let (_, quoted) = ip(addresses, UDP, 9, &udp(addresses, (40000, 53), &[0; 30]), 1480);
            for message in [1, 2, 3, 5, 9, 11, 12, 130, 132, 133, 134, 135, 136, 137, 143] {
                frames.push(on_ethernet(
                    addresses,
                    kind,
                    &icmp(addresses, message, [0, 2, 0, 0], &quoted[0]),
                ));
                frames.push(on_ethernet(
                    addresses,
                    kind,
                    &icmp(
                        addresses,
                        message,
                        [0, 1, 0, 1],
                        &[1, 1, 2, 0, 0, 0, 0, 3, 3, 4, 64, 0, 1, 0, 0, 0],
                    ),
                ));
            }
        }
        // IGMP 1 to 3
        for message in
            [[0x11, 0, 0, 0, 224, 0, 0, 5], [0x16, 0, 0, 0, 224, 0, 0, 5], [0x22, 0, 0, 0, 0, 0, 0, 2]]
        {
            frames.push(on_ethernet(
                V4,
                2,
                &[message.as_slice(), &[4, 0, 0, 1, 224, 0, 0, 9, 10, 0, 0, 1]].concat(),
            ));
        }
        frames.push(ethernet(
            MAC_A,
            [0xff; 6],
            &tagged(&[], 0x0806, &arp(1, (MAC_A, [10, 0, 0, 1]), ([0; 6], [10, 0, 0, 2]))),
        ));
        // LLC with SNAP, 802.3 with a length, an unknown type
        frames.push(ethernet(
            MAC_A,
            MAC_B,
            &[&[0, 36, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &quoted_ip()].concat(),
        ));
        frames.push(ethernet(MAC_A, MAC_B, &[0, 8, 0x42, 0x42, 3, 0, 0, 0, 0, 0]));
        frames.push(ethernet(MAC_A, MAC_B, &[0x88, 0xb5, 1, 2, 3]));
        frames.push(vec![0; 60]);
        frames.push(vec![0xff; 1514]);
        frames.push(Vec::new());
        frames.push(vec![2]);
        frames
    })
}

fn quoted_ip() -> Vec<u8> {
    ip(V4, UDP, 9, &udp(V4, (1, 2), &[0; 4]), 1480).1.remove(0)
}

/// The IP packet of a frame, and its type; a whole frame where it has none.
fn payload_of(frame: &[u8]) -> (u16, &[u8]) {
    let ethertype = frame.get(12..14).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    if [0x0800, 0x86dd].contains(&ethertype) { (ethertype, &frame[14..]) } else { (0x6558, frame) }
}

/// Puts one more layer around a frame.
fn wrap(kind: usize, number: u8, frame: &[u8]) -> Vec<u8> {
    let outer = if number & 64 == 0 { TUNNEL_V4 } else { V6 };
    let (ethertype, packet) = payload_of(frame);
    let is_ip = ethertype != 0x6558;
    let over_udp = |port: u16, header: &[u8], inner: &[u8]| {
        let inner = &inner[..inner.len().min(60_000)];
        on_ethernet(outer, UDP, &udp(outer, (50000, port), &[header, inner].concat()))
    };
    let over_gre = |header: &[u8], inner: &[u8]| {
        on_ethernet(outer, 47, &[header, &inner[..inner.len().min(60_000)]].concat())
    };
    let behind_addresses = |header: &[u8], rest: &[u8]| {
        let mut out = [&MAC_B[..], &MAC_A].concat();
        out.extend(header);
        out.extend(rest);
        out
    };
    let types = frame.get(12..).unwrap_or_default();
    match kind % 18 {
        0 | 1 => over_udp(4789, &[8, 0, 0, 0, 0, 0, number & 15, 0], frame),
        // GPE with IPv4, IPv6 or Ethernet
        2 => over_udp(4790, &[12, 0, 0, number % 4, 0, 0, 7, 0], if is_ip { packet } else { frame }),
        3 => over_udp(
            6081,
            &[number % 4, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 0, 0, 0, 0]
                [..8 + usize::from(number % 3 * 4).min(8)],
            frame,
        ),
        4 => over_gre(&[0, 0, 0x65, 0x58], frame),
        5 => over_gre(&[&[0x20, 0][..], &ethertype.to_be_bytes(), &[0, 0, 0, number]].concat(), packet),
        6 => over_gre(&[&[0xb0, 0][..], &ethertype.to_be_bytes(), &[0; 12]].concat(), packet),
        // ERSPAN I, II, III without and with its subheader
        7 => over_gre(&[0, 0, 0x88, 0xbe], frame),
        8 => over_gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0, 7, 0, 0, 0, 9], frame),
        9 => over_gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 4], frame),
        10 => over_gre(
            &[
                0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 5, number, 0, 0, 0, 0,
                1, 2, 3,
            ],
            frame,
        ),
        11 => over_udp(
            2152,
            &[
                &[0x30 | (number % 8), 0xff][..],
                &(packet.len() as u16).to_be_bytes(),
                &[0, 0, 0, 7],
                &[0, 0, 0, 0x85, 1, 2, 3, 0][..if number.is_multiple_of(8) { 0 } else { 8 }],
            ]
            .concat(),
            packet,
        ),
        12 if is_ip => on_ethernet(
            outer,
            if ethertype == 0x0800 { 4 } else { 41 },
            &packet[..packet.len().min(60_000)],
        ),
        13 => behind_addresses(&[0x81, 0, number & 0xe0, 100 + number % 4], types),
        14 => behind_addresses(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 100], types),
        15 => behind_addresses(
            &[0x88, 0x47, 0, 0, 0x70, 64, 0, 0, 0x71, 64],
            if is_ip { packet } else { types },
        ),
        16 => behind_addresses(
            &[
                &[0x88, 0x47, 0, 0, 0x71, 64][..],
                &[0, 0, 0, 1][..if number.is_multiple_of(2) { 4 } else { 0 }],
            ]
            .concat(),
            frame,
        ),
        17 => {
            let protocol: &[u8] = match (ethertype, number % 4) {
                (0x86dd, _) => &[0, 0x57],
                (_, 0) => &[0x21],
                _ => &[0, 0x21],
            };
            let len = (protocol.len() + packet.len()) as u16;
            behind_addresses(
                &[&[0x88, 0x64, 0x11, 0, 0, 7][..], &len.to_be_bytes(), protocol].concat(),
                packet,
            )
        }
        _ => behind_addresses(&[0x91, 0, 0, 7], types),
    }
}

/// Where layers of a frame begin or end, as the parser says.
fn places(frame: &[u8]) -> Vec<usize> {
    let layers = parse(&Frame::whole(frame), Depth::Full);
    let mut places = vec![0, 12, 14];
    for shell in layers.shells() {
        places.extend([usize::from(shell.offset), shell.payload()]);
    }
    for stack in [layers.outer, layers.inner] {
        places.push(stack.l3());
        places.extend(stack.l4());
        places.extend(stack.payload(frame));
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// Changes a frame: cuts it where a layer begins or anywhere, sets a byte or a word of it, moves bytes.
fn bend(c: &mut Choices<'_>, frame: &mut Vec<u8>) {
    let near = |c: &mut Choices<'_>, frame: &[u8]| {
        let places = places(frame);
        c.of(&places) + c.below(24)
    };
    match c.below(10) {
        0 => {
            let at = c.of(&places(frame));
            frame.truncate(at);
        }
        1 => {
            let at = near(c, frame);
            frame.truncate(at);
        }
        2 => {
            let at = c.below(frame.len() + 1);
            frame.truncate(at);
        }
        3 => {
            let at = c.below(frame.len());
            let byte = c.byte();
            frame.get_mut(at).into_iter().for_each(|place| *place ^= byte);
        }
        4 | 5 => {
            let (at, byte) =
                (near(c, frame), c.of(&[0, 1, 0x0f, 0x40, 0x45, 0x4f, 0x46, 0x60, 0x7f, 0x80, 0xff]));
            frame.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        6 | 7 => {
            let at = near(c, frame);
            let word = c.of(&[0u16, 1, 4, 7, 8, 19, 20, 21, 40, 0x7fff, 0x8000, 0xffff, 0x1fff, 0x2000]);
            if let Some(place) = frame.get_mut(at..at + 2) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        }
        8 => {
            let (at, more) = (near(c, frame), c.below(40));
            let at = at.min(frame.len());
            frame.splice(at..at, std::iter::repeat_n(0xa5, more));
        }
        _ => {
            let at = near(c, frame).min(frame.len());
            let end = (at + c.below(40)).min(frame.len());
            frame.drain(at..end);
        }
    }
}

/// Says that a frame's length and bytes follow.
pub(crate) const AS_IT_IS: u8 = 4;

/// The bursts that an input asks for.
pub(crate) fn shots(c: &mut Choices<'_>, inputs: &[Input]) -> Vec<Vec<Shot>> {
    const MOST_PACKETS: usize = 600;
    let mut bursts = vec![Vec::new()];
    let mut last: Vec<u8> = library()[0].clone();
    let mut before = last.clone();
    let mut ns = 1_700_000_000_000_000_000u64;
    let mut count = 0;
    while !c.0.is_empty() && count < MOST_PACKETS {
        let frame = match c.below(14) {
            0..=3 => {
                let library = library();
                library[c.below(library.len())].clone()
            }
            kind if kind == usize::from(AS_IT_IS) => {
                let len = usize::from(c.word());
                c.take(len).to_vec()
            }
            5 => last.clone(),
            6 => before.clone(),
            7 | 8 => {
                let (kind, number) = (usize::from(c.byte()), c.byte());
                wrap(kind, number, if c.one_in(4) { &before } else { &last })
            }
            9 => deep(c),
            10 => {
                let (at, behind) = (c.below(last.len() + 1), c.below(before.len() + 1));
                [&last[..at], &before[behind..]].concat()
            }
            11 | 12 => {
                // a burst of deep frames, and one of frames that are shorter than those are deep
                let (frames, input) = ([deep(c), c.of(library_short()).to_vec()], c.below(inputs.len()));
                for bytes in frames {
                    let count = 64.min(MOST_PACKETS - count);
                    let shot = Shot {
                        input,
                        original_len: bytes.len() as u32,
                        bytes,
                        split: Vec::new(),
                        ns,
                        rss: None,
                    };
                    bursts.push(vec![shot; count]);
                }
                count += 128;
                bursts.push(Vec::new());
                continue;
            }
            _ => {
                bursts.push(Vec::new());
                continue;
            }
        };
        let mut frame = frame;
        frame.truncate(65_535);
        for _ in 0..[0, 0, 0, 1, 1, 2][c.below(6)] {
            bend(c, &mut frame);
        }
        let repeats = c.of(&[1, 1, 1, 1, 2, 3, 16, 64]);
        let input = c.below(inputs.len());
        let more = if c.one_in(5) { c.word().into() } else { 0 };
        ns = match c.below(10) {
            0 => ns + 1,
            1 => ns.saturating_sub(u64::from(c.word()) * 1000),
            2 => ns + 3_600_000_000_000,
            3 => u64::from(c.word()) * 65_537_000_000_000 % (u64::from(u32::MAX) * 1_000_000_000),
            _ => ns + u64::from(c.word()),
        };
        let mut split: Vec<u16> = Vec::new();
        if c.one_in(4) && frame.len() < 2000 {
            for _ in 0..1 + c.below(3) {
                let at = if c.one_in(2) { c.of(&places(&frame)) } else { c.below(frame.len() + 1) };
                split.push(at as u16);
            }
            split.sort_unstable_by(|a, b| b.cmp(a));
            split.dedup();
        }
        let rss = c.one_in(4).then(|| (c.byte().into(), c.of(&[0x111, 0x291, 0x241, 0x16, 0])));
        for _ in 0..repeats.min(MOST_PACKETS - count) {
            let shot = Shot {
                input,
                original_len: frame.len() as u32 + more,
                bytes: frame.clone(),
                split: split.clone(),
                ns,
                rss,
            };
            bursts.last_mut().expect("one at least").push(shot);
            count += 1;
        }
        before = std::mem::replace(&mut last, frame);
    }
    bursts
}

/// So many packets for a capture: those given and the library's, nested, cut and bent.
pub(crate) fn mutated(c: &mut Choices<'_>, given: &[Vec<u8>], count: usize) -> Vec<Shot> {
    let mut ns = 1_700_000_000_000_000_000u64;
    let mut shots: Vec<Shot> = Vec::new();
    for _ in 0..count {
        let mut bytes = match c.below(8) {
            0 => library()[c.below(library().len())].clone(),
            1 | 2 if !shots.is_empty() => {
                let (kind, number) = (usize::from(c.byte()), c.byte());
                wrap(kind, number, &shots[shots.len() - 1].bytes)
            }
            _ if given.is_empty() => library()[c.below(library().len())].clone(),
            _ => given[usize::from(c.word()) % given.len()].clone(),
        };
        bytes.truncate(16_000);
        for _ in 0..[0, 1, 1, 2][c.below(4)] {
            bend(c, &mut bytes);
        }
        ns += u64::from(c.word());
        let more = if c.one_in(5) { c.word().into() } else { 0 };
        shots.push(Shot {
            input: 0,
            original_len: bytes.len() as u32 + more,
            bytes,
            split: Vec::new(),
            ns,
            rss: None,
        });
    }
    shots
}

/// As deep as anything goes.
fn deep(c: &mut Choices<'_>) -> Vec<u8> {
    let (kind, number, base) = (usize::from(c.byte()), c.byte(), c.of(library_short()));
    (0..1 + c.below(10))
        .fold(base.to_vec(), |frame, step| wrap(kind + step * usize::from(number & 1), number, &frame))
}

/// What deep frames have inside.
fn library_short() -> &'static [&'static [u8]] {
    static SHORT: OnceLock<Vec<&'static [u8]>> = OnceLock::new();
    SHORT.get_or_init(|| library().iter().filter(|frame| frame.len() < 200).map(Vec::as_slice).collect())
}

/// A pcap file with nanosecond times.
pub(crate) fn pcap(packets: &[&Shot]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 262_144, 1] {
        out.extend(u32::to_le_bytes(word));
    }
    for shot in packets {
        let (seconds, rest) = ((shot.ns / 1_000_000_000) as u32, (shot.ns % 1_000_000_000) as u32);
        out.extend(
            [seconds, rest, shot.bytes.len() as u32, shot.original_len].map(u32::to_le_bytes).concat(),
        );
        out.extend(&shot.bytes);
    }
    out
}
