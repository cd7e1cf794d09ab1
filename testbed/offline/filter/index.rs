//! The rule index against a plain interpreter of the same programs, rule by rule and packet by packet: not one difference.

use pcap::{Capture, Linktype};
use proptest::prelude::*;
use tapline_filter::Program;
use tapline_filter::bpf::insn::Insn;
use tapline_filter::index::{Direction, Index, PrefixSet};
use tapline_harness::captures;
use tapline_packet::burst::{MAX_BURST, Selection, Touched};
use tapline_packet::frame::Frame;
use tapline_packet::prefix::Prefix;

/// The optimised program of libpcap, and the reference itself.
fn compile(expression: &str) -> Option<(Vec<Insn>, pcap::BpfProgram)> {
    let program =
        Capture::dead(Linktype::ETHERNET).expect("a dead handle").compile(expression, true).ok()?;
    let insns = program.get_instructions().iter().map(|insn| {
        let text = insn.to_string();
        let mut fields = text.split(' ').map(|field| field.parse::<u32>().expect("printed as numbers"));
        let mut next = || fields.next().expect("four numbers");
        Insn { code: next() as u16, jt: next() as u8, jf: next() as u8, k: next() }
    });
    Some((insns.collect(), program))
}

/// `bpf_filter`, for the instructions that libpcap emits.
fn accepts(program: &[Insn], bytes: &[u8], original_len: u32) -> bool {
    run(program, bytes, original_len).is_some_and(|returned| returned != 0)
}

fn run(program: &[Insn], bytes: &[u8], original_len: u32) -> Option<u32> {
    let load = |offset: Option<u32>, width: usize| {
        let at = offset? as usize;
        Some(bytes.get(at..at + width)?.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    };
    let (mut a, mut x, mut scratch, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    loop {
        let Insn { code, jt, jf, k } = program[at];
        at += 1;
        let operand = if code & 0x08 == 0 { k } else { x };
        match code {
            0x20 => a = load(Some(k), 4)?,
            0x28 => a = load(Some(k), 2)?,
            0x30 => a = load(Some(k), 1)?,
            0x40 => a = load(x.checked_add(k), 4)?,
            0x48 => a = load(x.checked_add(k), 2)?,
            0x50 => a = load(x.checked_add(k), 1)?,
            0x00 => a = k,
            0x01 => x = k,
            0x80 => a = original_len,
            0x81 => x = original_len,
            0x60 => a = scratch[k as usize],
            0x61 => x = scratch[k as usize],
            0xb1 => x = (load(Some(k), 1)? & 0xf) << 2,
            0x02 => scratch[k as usize] = a,
            0x03 => scratch[k as usize] = x,
            0x07 => x = a,
            0x87 => a = x,
            0x04 | 0x0c => a = a.wrapping_add(operand),
            0x14 | 0x1c => a = a.wrapping_sub(operand),
            0x24 | 0x2c => a = a.wrapping_mul(operand),
            0x34 | 0x3c => a = a.checked_div(operand)?,
            0x44 | 0x4c => a |= operand,
            0x54 | 0x5c => a &= operand,
            0x64 | 0x6c => a = a.checked_shl(operand).unwrap_or(0),
            0x74 | 0x7c => a = a.checked_shr(operand).unwrap_or(0),
            0x84 => a = a.wrapping_neg(),
            0x94 | 0x9c => a = a.checked_rem(operand)?,
            0xa4 | 0xac => a ^= operand,
            0x05 => at += k as usize,
            0x15 | 0x1d => at += usize::from(if a == operand { jt } else { jf }),
            0x25 | 0x2d => at += usize::from(if a > operand { jt } else { jf }),
            0x35 | 0x3d => at += usize::from(if a >= operand { jt } else { jf }),
            0x45 | 0x4d => at += usize::from(if a & operand != 0 { jt } else { jf }),
            0x06 => return Some(k),
            0x16 => return Some(a),
            _ => panic!("instruction {code:#x} is not expected from libpcap"),
        }
    }
}

fn verified(programs: &[Vec<Insn>]) -> Vec<Program> {
    programs.iter().map(|insns| Program::verify(insns.clone()).expect("a valid program")).collect()
}

/// Rules in an index, and one by one.
struct Rules {
    expressions: Vec<String>,
    programs: Vec<Vec<Insn>>,
    index: Index,
    residual: Vec<usize>,
    selections: Vec<Selection>,
    touched: Touched,
}

impl Rules {
    fn of_programs(expressions: Vec<String>, programs: Vec<Vec<Insn>>) -> Self {
        let (index, residual) = Index::build(&verified(&programs).iter().collect::<Vec<_>>());
        let (selections, touched) = (vec![Selection::NONE; programs.len()], Touched::new(programs.len()));
        Self { expressions, programs, index, residual, selections, touched }
    }

    /// Leaves out what libpcap refuses.
    fn new(expressions: impl IntoIterator<Item = String>) -> Self {
        let (expressions, programs) = expressions
            .into_iter()
            .filter_map(|expression| compile(&expression).map(|(program, _)| (expression, program)))
            .unzip();
        Self::of_programs(expressions, programs)
    }

    /// Compares the index with the interpreter on all packets; gives the number of matches.
    fn compare(&mut self, packets: &[(&[u8], u32)]) -> usize {
        let mut matches = 0;
        for burst in packets.chunks(MAX_BURST) {
            let frames: Vec<Frame<'_>> =
                burst.iter().map(|&(bytes, original_len)| Frame::new(bytes, original_len)).collect();
            self.index.select(&frames, &mut self.selections, &mut self.touched);
            let mut touched = vec![false; self.programs.len()];
            self.touched.drain(|rule| touched[rule] = true);
            for (rule, program) in self.programs.iter().enumerate() {
                let selection = std::mem::take(&mut self.selections[rule]);
                assert_eq!(
                    touched[rule],
                    !selection.is_empty(),
                    "rule {rule} is touched if and only if it got packets"
                );
                if self.residual.binary_search(&rule).is_ok() {
                    assert!(
                        selection.is_empty(),
                        "residual rule {} is left to the caller",
                        self.expressions[rule]
                    );
                    continue;
                }
                for (packet, &(bytes, original_len)) in burst.iter().enumerate() {
                    let expected = accepts(program, bytes, original_len);
                    let found = selection.contains(packet);
                    matches += usize::from(found);
                    assert_eq!(
                        found,
                        expected,
                        "`{}` on {} of {original_len} bytes: {bytes:02x?}",
                        self.expressions[rule],
                        bytes.len()
                    );
                }
            }
        }
        matches
    }
}

fn whole(packets: &[Vec<u8>]) -> Vec<(&[u8], u32)> {
    packets.iter().map(|packet| (&packet[..], packet.len() as u32)).collect()
}

/// The packets of the captures, at most `per_file` of each.
fn captured(per_file: usize) -> Option<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    for file in captures::files(&captures::place()) {
        let Ok(mut capture) = Capture::from_file(&file) else { continue };
        for _ in 0..per_file {
            match capture.next_packet() {
                Ok(packet) => packets.push(packet.data.to_vec()),
                Err(_) => break,
            }
        }
    }
    if packets.is_empty() {
        tapline_skip::skipped("no captures");
        return None;
    }
    Some(packets)
}

/// Addresses, ports and so on that packets and rules are both made of, so that they meet.
const V4: [[u8; 4]; 6] =
    [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 7, 9], [192, 168, 1, 1], [0, 0, 0, 0], [255, 255, 255, 255]];
const V6: [[u8; 16]; 4] = [
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0x20, 1, 0xd, 0xb8, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
    [0; 16],
];
const PORTS: [u16; 8] = [0, 53, 80, 443, 1024, 4789, 8080, 65535];

fn v4_text(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

fn v6_text(address: [u8; 16]) -> String {
    std::net::Ipv6Addr::from(address).to_string()
}

fn net() -> impl Strategy<Value = String> {
    let v4 = (prop::sample::select(&V4[..]), 0..=32u32).prop_map(|(address, bits)| {
        let kept = u32::from_be_bytes(address) & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        format!("{}/{bits}", v4_text(kept.to_be_bytes()))
    });
    let v6 = (prop::sample::select(&V6[..]), 0..=128u32).prop_map(|(address, bits)| {
        let kept = u128::from_be_bytes(address) & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        format!("{}/{bits}", v6_text(kept.to_be_bytes()))
    });
    prop_oneof![2 => v4, 1 => v6]
}

fn term() -> impl Strategy<Value = String> {
    let direction = prop::sample::select(vec!["", "src ", "dst ", "src or dst ", "src and dst "]);
    let host = prop_oneof![
        2 => prop::sample::select(&V4[..]).prop_map(v4_text),
        1 => prop::sample::select(&V6[..]).prop_map(v6_text),
    ];
    let protocol = prop::sample::select(vec!["", "tcp ", "udp ", "sctp "]);
    let port = prop::sample::select(&PORTS[..]);
    prop_oneof![
        4 => (direction.clone(), host).prop_map(|(direction, host)| format!("{direction}host {host}")),
        4 => (direction.clone(), net()).prop_map(|(direction, net)| format!("{direction}net {net}")),
        4 => (protocol.clone(), direction.clone(), port.clone())
            .prop_map(|(protocol, direction, port)| format!("{protocol}{direction}port {port}")),
        3 => (protocol, direction, port.clone(), port).prop_map(|(protocol, direction, low, high)| {
            format!("{protocol}{direction}portrange {}-{}", low.min(high), low.max(high))
        }),
        4 => prop::sample::select(vec![
            "ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "ip proto 47", "ip6 proto 58", "proto 6",
            "less 64", "greater 100", "len = 60", "len > 1000", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] = 0x10",
            "ip[6] & 0x40 != 0", "ip[8] < 10", "ip broadcast", "ether broadcast", "ether multicast", "ip multicast",
            "ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01", "ether proto 0x88cc", "ether[0] & 1 = 0",
            "icmp[icmptype] = icmp-echo", "ip[0] & 0xf != 5", "ip[0] >> 4 = 4", "ip[2:2] = 40", "udp[4:2] > 20", "tcp[2:2] & 0xfff0 = 0x50",
            "ip6[6] = 44", "ip6[40] = 6", "ether[100] = 5", "tcp[(tcp[12] & 0xf0) >> 2] = 0x16", "ip[16] >= 224", "1 = 1", "1 = 0",
        ]).prop_map(str::to_owned),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let conditions = term().prop_recursive(3, 6, 3, |inner| {
        prop_oneof![
            4 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            1 => inner.prop_map(|a| format!("not ({a})")),
        ]
    });
    let outer = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "vlan and ",
        "vlan 100 and ",
        "vlan 7 and vlan 100 and ",
        "not vlan and ",
        "mpls 5 and ",
    ]);
    (outer, conditions).prop_map(|(outer, condition)| format!("{outer}({condition})"))
}

/// A packet of the protocols and values above: VLAN tags, IPv4 options and fragments, IPv6 extension headers, ARP, rubbish.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::collection::vec(
        (
            prop::sample::select(vec![0x8100u16, 0x88a8, 0x9100]),
            prop::sample::select(vec![7u16, 100, 0x2064]),
        ),
        0..3,
    );
    let l4 = (
        prop::sample::select(vec![6u8, 17, 132, 1, 58, 47]),
        prop::sample::select(&PORTS[..]),
        prop::sample::select(&PORTS[..]),
        prop::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(protocol, source, destination, rest)| {
            (protocol, [&source.to_be_bytes()[..], &destination.to_be_bytes(), &rest].concat())
        });
    let v4 = (
        prop::sample::select(&V4[..]),
        prop::sample::select(&V4[..]),
        prop::sample::select(vec![5u8, 5, 5, 6, 15, 0, 3]),
        prop::sample::select(vec![0u16, 0, 0, 0x4000, 0x2000, 0x2001, 0x00ff]),
        l4.clone(),
    )
        .prop_map(|(source, destination, words, fragment, (protocol, l4))| {
            let mut header = vec![0x40 | words, 0, 0, 40, 0, 1, 0, 0, 64, protocol, 0, 0];
            header[6..8].copy_from_slice(&fragment.to_be_bytes());
            header.extend(source);
            header.extend(destination);
            header.resize(usize::from(words).max(5) * 4, 1);
            (0x0800u16, [header, l4].concat())
        });
    let v6 = (
        prop::sample::select(&V6[..]),
        prop::sample::select(&V6[..]),
        prop::sample::select(vec![None, None, None, Some(0u8), Some(43), Some(44), Some(60)]),
        l4,
    )
        .prop_map(|(source, destination, extension, (protocol, l4))| {
            let mut header = vec![0x60, 0, 0, 0, 0, 40, extension.unwrap_or(protocol), 64];
            header.extend(source);
            header.extend(destination);
            if extension.is_some() {
                header.extend([protocol, 0, 0, 0, 0, 0, 0, 1]);
            }
            (0x86ddu16, [header, l4].concat())
        });
    let arp = (
        prop::sample::select(&V4[..]),
        prop::sample::select(&V4[..]),
        prop::sample::select(vec![0x0806u16, 0x8035]),
    )
        .prop_map(|(sender, target, ethertype)| {
            let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
            body.extend(sender);
            body.extend([0; 6]);
            body.extend(target);
            (ethertype, body)
        });
    let rubbish = (
        prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x88cc, 0x8847, 3]),
        prop::collection::vec(any::<u8>(), 0..80),
    );
    let inner = prop_oneof![5 => v4, 3 => v6, 1 => arp, 1 => rubbish];
    let macs = prop::sample::select(vec![
        [2u8, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1],
    ]);
    let whole = (macs, tags, inner).prop_map(|(macs, tags, (ethertype, body))| {
        let mut packet = macs.to_vec();
        for (tpid, tci) in tags {
            packet.extend(tpid.to_be_bytes());
            packet.extend(tci.to_be_bytes());
        }
        packet.extend(ethertype.to_be_bytes());
        packet.extend(body);
        packet
    });
    (whole, any::<bool>(), any::<prop::sample::Index>()).prop_map(|(mut packet, cut, at)| {
        if cut {
            packet.truncate(at.index(packet.len() + 1));
        }
        packet
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_rules_select_the_same_random_packets(
        expressions in prop::collection::vec(expression(), 1..60),
        packets in prop::collection::vec((packet(), 0..200u32), 1..100),
    ) {
        let packets: Vec<(&[u8], u32)> = packets.iter().map(|(packet, more)| (&packet[..], packet.len() as u32 + more)).collect();
        Rules::new(expressions).compare(&packets);
    }
}

/// Addresses of two neighbouring sites and of their neighbours, so that prefixes of 64 to 128 bits begin and end among them.
fn site_address() -> impl Strategy<Value = [u8; 16]> {
    let word = |values: &'static [u32]| prop::sample::select(values);
    let words = (
        word(&[0x2001_0db8, 0x2001_0db8, 0x2001_0db8, 0x2001_0db9]),
        word(&[7, 7, 7, 6, 8]),
        word(&[0, 0x0a00_00ff, 0x0a00_0100, 0x0a00_0101, 0x0aff_ffff, 0x0b00_0000, u32::MAX]),
        word(&[0, 1, u32::MAX]),
    );
    words.prop_map(|(a, b, c, d)| {
        [a, b, c, d].map(u32::to_be_bytes).as_flattened().try_into().expect("sixteen bytes")
    })
}

/// Rules of one kind, over IPv6 or IPv4: a prefix for one or both addresses, mostly of one site, and ports.
fn site_rule() -> impl Strategy<Value = String> {
    let length =
        prop::sample::select(vec![None, Some(0u32), Some(8), Some(24), Some(31), Some(32), Some(64)]);
    let net = |side: &str, address: [u8; 16], length: Option<u32>, v6: bool| {
        let (length, all) = if v6 { (length? + 64, 128) } else { (length?.min(32), 32) };
        let address =
            if v6 { address } else { [&address[8..], &[0; 8]].concat().try_into().expect("sixteen bytes") };
        let kept = u128::from_be_bytes(address) & u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let kept = kept.to_be_bytes();
        let text = if all == 128 { v6_text(kept) } else { v4_text([kept[0], kept[1], kept[2], kept[3]]) };
        Some(format!("{side} net {text}/{length}"))
    };
    let ports = prop::sample::select(vec![
        "tcp",
        "udp",
        "tcp dst port 80",
        "udp src portrange 80-443",
        "dst port 443",
        "ip6",
        "ip",
    ]);
    (site_address(), length.clone(), site_address(), length, ports, prop::bool::weighted(0.7)).prop_map(
        move |(source, source_length, destination, destination_length, ports, v6)| {
            let nets =
                [net("src", source, source_length, v6), net("dst", destination, destination_length, v6)];
            nets.into_iter().flatten().chain([ports.to_owned()]).collect::<Vec<_>>().join(" and ")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn prefixes_of_one_site_select_the_same_beside_ipv4_and_shorter_prefixes(
        rules in prop::collection::vec(site_rule(), 1..80),
        shorter in prop::collection::vec(prop::sample::select(vec!["src net 2001:db8::/32", "dst net 2001:db8::/29 and tcp", "src net 2001:db8:0:7::/64"]), 0..2),
        packets in prop::collection::vec(
            (any::<bool>(), site_address(), site_address(), prop::sample::select(&[6u8, 17, 44][..]), prop::sample::select(&[80u16, 443, 444][..]), 0..140usize),
            1..150,
        ),
    ) {
        let packets: Vec<Vec<u8>> = packets
            .into_iter()
            .map(|(v6, source, destination, protocol, port, cut)| {
                let mut packet = vec![2; 12];
                if v6 {
                    packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, protocol, 64]);
                    packet.extend([source, destination].as_flattened());
                } else {
                    packet.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, port as u8 & 1, 64, protocol, 0, 0]);
                    packet.extend([&source[8..12], &destination[8..12]].concat());
                }
                packet.extend([port.to_be_bytes(), 443u16.to_be_bytes()].as_flattened());
                packet.resize(80, 0);
                // Most are whole.
                packet.truncate(cut.max(12));
                packet
            })
            .collect();
        Rules::new(rules.into_iter().chain(shorter.into_iter().map(str::to_owned))).compare(&whole(&packets));
    }
}

#[test]
fn a_cut_packet_behind_packets_of_other_rules_disturbs_nothing() {
    let rule = |protocol: &str, site: u8| {
        format!(
            "src net 10.0.{site}.0/24 and dst net 10.1.{site}.0/24 and {protocol} dst portrange 80-{}",
            81 + u16::from(site)
        )
    };
    let packet = |protocol: u8, site: u8| {
        let header = [
            8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, site, 1, 10, 1, site, 1, 0, 80, 0,
            80,
        ];
        [&[2; 12][..], &header, &[0; 30]].concat()
    };
    // one protocol has a table of many classes, the other a small one before or behind it
    for (many, few) in [(("tcp", 6), ("udp", 17)), (("udp", 17), ("tcp", 6))] {
        let mut rules =
            Rules::new((0..200).map(|site| rule(many.0, site)).chain((0..4).map(|site| rule(few.0, site))));
        assert!(rules.residual.is_empty(), "all rules are in the index");
        for len in 0..packet(few.1, 3).len() {
            let mut packets: Vec<Vec<u8>> = (0..32).map(|at| packet(many.1, 199 - at)).collect();
            packets.extend([packet(few.1, 3), packet(few.1, 3)]);
            packets[33].truncate(len);
            assert!(rules.compare(&whole(&packets)) >= 33, "all but the last match");
        }
    }
}

#[test]
fn rules_that_all_ask_for_the_same_values_match_together_however_many_they_are() {
    // too many fields for a hash or a table of pairs, behind a header of any length
    let tests: Vec<String> = (0..12).map(|at| format!("tcp[{}] = {at}", 2 * at)).collect();
    let expression = tests.join(" and ");
    let mut bytes =
        [&[2; 12][..], &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]].concat();
    bytes.extend((0..24).map(|at| at / 2));
    let mut other = bytes.clone();
    other[34 + 8] += 1;
    for count in [1, 2, 63, 64, 65, 200, 1500] {
        let mut rules = Rules::new(std::iter::repeat_n(expression.clone(), count));
        assert!(rules.residual.is_empty(), "all rules are in the index");
        let packets = [bytes.clone(), other.clone(), bytes[..40].to_vec()];
        assert_eq!(rules.compare(&whole(&packets)), count);
    }
}

#[test]
fn a_prefix_without_a_longer_one_does_not_match_packets_of_other_sites() {
    // every value of the address's third word passes one way or the other, but only behind this site's words
    let site = "net 2001:db8:0:7::/64";
    let mut rules = Rules::new([format!("src {site} and dst {site} and not dst net 2001:db8:0:7::/125")]);
    assert!(rules.residual.is_empty(), "the rule is in the index");
    let packet = |destination: [u8; 16]| {
        let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
        [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 59, 64], &source, &destination, &[0; 8]].concat()
    };
    let mut packets = Vec::new();
    for words in
        [[0x2001, 0xdb8, 0, 7], [0x2001, 0xdb8, 0, 8], [0x2001, 0xdb9, 0, 7], [0, 0, 0, 0], [0xffff; 4]]
    {
        for (high, last) in [(0u8, 0u8), (0, 7), (0, 8), (0x24, 0), (0xff, 0xff)] {
            let mut destination = [0; 16];
            destination
                .chunks_mut(2)
                .zip(words)
                .for_each(|(to, word): (_, u16)| to.copy_from_slice(&word.to_be_bytes()));
            (destination[8], destination[15]) = (high, last);
            packets.push(packet(destination));
        }
    }
    assert_eq!(rules.compare(&whole(&packets)), 3);
}

/// Programs that libpcap would not write: any instructions, jumps forward only, values that the packets below are made of.
fn program() -> impl Strategy<Value = Vec<Insn>> {
    let codes = vec![
        0x20u16, 0x28, 0x28, 0x30, 0x30, 0x30, 0x40, 0x48, 0x50, 0x00, 0x01, 0x80, 0x81, 0x60, 0x61, 0xb1,
        0xb1, 0x02, 0x03, 0x07, 0x87, 0x54, 0x54, 0x74, 0x64, 0x04, 0x84, 0x05, 0x15, 0x15, 0x15, 0x15,
        0x25, 0x25, 0x35, 0x35, 0x45, 0x45, 0x45, 0x1d, 0x2d, 0x06, 0x16,
    ];
    let insn = (
        prop::sample::select(codes),
        any::<(u8, u8)>(),
        prop::sample::select(vec![0u32, 1, 2, 3, 4, 5, 7, 8, 10, 14, 15, 24, 0x80, 0xff]),
    );
    (prop::collection::vec(insn, 1..20), any::<[bool; 2]>()).prop_map(|(insns, ends)| {
        let len = insns.len();
        let insns = insns.into_iter().enumerate().map(|(at, (code, (jt, jf), k))| {
            // Two returns follow.
            let remaining = (len - at) as u8;
            match code {
                0x05 => Insn { code, jt: 0, jf: 0, k: k % u32::from(remaining) },
                0x15..0x46 if code & 7 == 5 => {
                    Insn { code, jt: jt % (remaining + 1), jf: jf % (remaining + 1), k }
                }
                0x02 | 0x03 | 0x60 | 0x61 => Insn { code, jt: 0, jf: 0, k: k % 4 },
                // longer shifts are refused
                0x64 | 0x74 => Insn { code, jt: 0, jf: 0, k: k % 32 },
                _ => Insn { code, jt: 0, jf: 0, k },
            }
        });
        insns.chain(ends.map(|end| Insn { code: 0x06, jt: 0, jf: 0, k: u32::from(end) })).collect()
    })
}

#[test]
fn random_programs_accept_the_same_random_packets() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let programs = prop::collection::vec(program(), 1..40);
    let byte = prop::sample::select(vec![0u8, 1, 2, 4, 5, 7, 8, 0x0f, 0x45, 0x80, 0xff]);
    let packets = prop::collection::vec(
        (prop::collection::vec(byte, 0..40), prop::sample::select(vec![0u32, 5, 8, 200])),
        MAX_BURST,
    );
    let (mut indexed, mut matches) = (0, 0);
    for _ in 0..1000 {
        let programs = programs.new_tree(&mut runner).expect("a value").current();
        let packets = packets.new_tree(&mut runner).expect("a value").current();
        let packets: Vec<(&[u8], u32)> = packets.iter().map(|(packet, len)| (&packet[..], *len)).collect();
        let names = programs.iter().map(|program| format!("{program:?}")).collect();
        let mut rules = Rules::of_programs(names, programs);
        indexed += rules.programs.len() - rules.residual.len();
        matches += rules.compare(&packets);
    }
    assert!(indexed > 5000 && matches > 100_000, "{indexed} programs indexed, {matches} matches");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_set_of_prefixes_is_net_of_each_of_them(
        nets in prop::collection::vec(net(), 0..20),
        direction in prop::sample::select(vec![("src ", Direction::Source), ("dst ", Direction::Destination), ("", Direction::Either)]),
        packets in prop::collection::vec(packet(), 1..MAX_BURST),
    ) {
        let (word, direction) = direction;
        let prefixes: Vec<Prefix> = nets.iter().map(|net| net.parse().expect("a prefix")).collect();
        let set = PrefixSet::new(&prefixes, direction);
        let programs: Vec<Vec<Insn>> = nets.iter().map(|net| compile(&format!("{word}net {net}")).expect("valid").0).collect();
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let selected = set.select(&frames, Selection::first(frames.len()));
        for (packet, bytes) in packets.iter().enumerate() {
            let expected = programs.iter().any(|program| accepts(program, bytes, bytes.len() as u32));
            prop_assert_eq!(selected.contains(packet), expected, "{}{:?} on {:02x?}", word, &nets, bytes);
        }
    }
}

/// Expressions as people write them, each beside others that share parts of it.
const COMMON: [&str; 46] = [
    "host 10.0.0.1",
    "src host 10.0.0.1",
    "net 10.0.0.0/8",
    "net 192.168.0.0/16",
    "dst net 10.0.7.0/24",
    "host 2001:db8::1",
    "net 2001:db8::/32",
    "net 2001:db8::/33",
    "src net 2001:db8:8000::/48",
    "port 80",
    "tcp port 80",
    "udp port 53",
    "tcp port 80 or tcp port 443",
    "portrange 1000-2000",
    "tcp dst portrange 1024-65535",
    "host 10.0.0.1 and port 80",
    "host 10.0.0.1 and host 10.0.0.2 and tcp port 443",
    "src host 10.0.0.1 and dst host 10.0.0.2 and tcp src port 1024 and tcp dst port 80",
    "net 10.0.0.0/8 and not net 10.0.7.0/24",
    "src net 10.0.0.0/16 and dst net 192.168.0.0/16 and udp dst portrange 50-60",
    "not port 22",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "arp",
    "ip",
    "ip6",
    "vlan",
    "vlan 100",
    "vlan 100 and tcp port 80",
    "vlan 7 and host 10.0.0.1",
    "not arp and not icmp",
    "less 100",
    "greater 1000",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] = tcp-syn",
    "ip proto 47",
    "ether host 02:00:00:00:00:01",
    "ether multicast",
    "ip6 and udp port 4789",
    "port 80 or port 443 or port 8080",
    "host 10.0.0.1 or host 10.0.0.2 or host 192.168.1.1",
    "(tcp or udp) and net 10.0.0.0/8 and (port 80 or port 443 or portrange 8000-9000)",
    "ip[8] < 10",
    "mpls 5 and host 10.0.0.1",
];

#[test]
fn common_expressions_are_all_indexed() {
    let rules = Rules::new(COMMON.map(str::to_owned));
    assert_eq!(rules.programs.len(), COMMON.len(), "all are valid");
    let residual: Vec<&str> = rules.residual.iter().map(|&rule| &rules.expressions[rule][..]).collect();
    assert!(residual.is_empty(), "{residual:?}");
}

#[test]
fn common_expressions_select_the_same_captured_packets() {
    let Some(packets) = captured(200) else { return };
    let matches = Rules::new(COMMON.map(str::to_owned)).compare(&whole(&packets));
    assert!(matches > packets.len(), "{matches} matches of {} packets", packets.len());
}

#[test]
fn packets_cut_at_any_length_select_the_same() {
    let Some(packets) = captured(4) else { return };
    let mut rules = Rules::new(COMMON.map(str::to_owned));
    for packet in &packets {
        let cut: Vec<(&[u8], u32)> =
            (0..=packet.len().min(120)).map(|len| (&packet[..len], packet.len() as u32)).collect();
        rules.compare(&cut);
    }
}

/// Rules made of what the packets hold, so that many match: `exact` 5-tuples, or prefixes and ranges around them.
fn rules_from(packets: &[Vec<u8>], exact: bool) -> Vec<String> {
    let mut expressions = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let Some((&ethertype, body)) = packet.get(12..).and_then(<[u8]>::split_first_chunk::<2>) else {
            continue;
        };
        let (source, destination, protocol, header) = match (u16::from_be_bytes(ethertype), body) {
            (0x0800, body) if body.len() >= 24 => {
                let address = |at: usize| v4_text(body[at..at + 4].try_into().expect("four bytes"));
                (address(12), address(16), body[9], usize::from(body[0] & 0xf) * 4)
            }
            (0x86dd, body) if body.len() >= 44 => {
                let address = |at: usize| v6_text(body[at..at + 16].try_into().expect("sixteen bytes"));
                (address(8), address(24), body[6], 40)
            }
            _ => continue,
        };
        let Some(&[a, b, c, d]) = body.get(header..).and_then(<[u8]>::first_chunk) else { continue };
        let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let protocol = match protocol {
            6 => "tcp",
            17 => "udp",
            _ => continue,
        };
        expressions.push(match (exact, number % 6) {
            (true, _) => format!(
                "src host {source} and dst host {destination} and {protocol} src port {source_port} and {protocol} dst port {destination_port}"
            ),
            (false, 0) => format!("host {source} and {protocol} portrange {}-{}", destination_port / 2, destination_port),
            (false, 1) => format!("host {source} and host {destination}"),
            (false, 2) => format!("dst host {destination} and dst portrange {}-{}", destination_port.saturating_sub(7), destination_port.saturating_add(9)),
            (false, 3) => format!("src host {source} and {protocol} and not port {source_port}"),
            (false, 4) => format!("not host {source} and {protocol} dst port {destination_port}"),
            (false, _) if source.contains(':') => format!("net {source} mask 128 and port {source_port}").replace(" mask ", "/"),
            (false, _) => {
                let (net, _) = source.split_once('.').expect("an IPv4 address");
                format!("net {net}.0.0.0/8 and port {source_port}")
            }
        });
    }
    expressions.sort();
    expressions.dedup();
    expressions
}

#[test]
fn hundreds_of_rules_made_of_captured_packets_select_the_same() {
    let Some(packets) = captured(8) else { return };
    for exact in [true, false] {
        let mut rules = Rules::new(rules_from(&packets, exact));
        assert!(rules.programs.len() > 100 && rules.residual.is_empty());
        let matches = rules.compare(&whole(&packets));
        assert!(matches >= rules.programs.len(), "each rule matches the packet that it was made of");
    }
}

#[test]
fn one_kind_of_packets_leaves_nothing_behind_that_another_meets() {
    let nets = (0..400).map(|net| {
        format!("tcp and src net 10.{}.{}.0/24 and dst net 10.{}.0.0/16", net / 16, net % 16, net % 64)
    });
    let hops = (0..40).map(|hop| format!("udp and ip[8] >= {} and ip[8] <= {}", hop * 6, hop * 6 + 4));
    let mut rules = Rules::new(nets.chain(hops));
    let packet = |protocol: u8, at: u8| {
        let mut packet = vec![0; 60];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[14] = 0x45;
        packet[22] = at;
        packet[23] = protocol;
        packet[26..30].copy_from_slice(&[10, at / 8, at % 16, 1]);
        packet[30..34].copy_from_slice(&[10, at % 64, 0, 1]);
        packet
    };
    // Few packets of the one kind after many of the other, whose address classes are larger than any number of hops.
    let packets: Vec<Vec<u8>> = (0..255).map(|at| packet(if at % 16 == 15 { 17 } else { 6 }, at)).collect();
    assert!(rules.residual.is_empty());
    assert!(rules.compare(&whole(&packets)) > 16);
}

#[test]
fn libpcap_itself_agrees() {
    let Some(packets) = captured(20) else { return };
    let mut rules = Rules::new(COMMON.map(str::to_owned));
    let references = COMMON.map(|expression| compile(expression).expect("valid").1);
    for packet in &packets {
        rules.index.select(&[Frame::whole(packet)], &mut rules.selections, &mut rules.touched);
        rules.touched.drain(|_| ());
        for ((expression, reference), selection) in
            COMMON.iter().zip(&references).zip(&mut rules.selections)
        {
            assert_eq!(
                !std::mem::take(selection).is_empty(),
                reference.filter(packet),
                "`{expression}` on {packet:02x?}"
            );
        }
    }
}

#[test]
fn alternatives_of_two_fields_select_the_same_at_any_length() {
    // few hosts and ports, so that alternatives meet: of one rule, and of different ones
    let host = |number: usize| [10, 0, (number / 7) as u8, (number % 7) as u8];
    let rule = |rule: usize| {
        let alternative = |at: usize| {
            let [a, b, c, d] = host((rule * 5 + at * 3) % 49);
            let port = 1 + (rule + at) % 40;
            match (rule + at) % 5 {
                0 => format!("(src host {a}.{b}.{c}.{d} and tcp dst port {port})"),
                1 => format!("(net {a}.{b}.{c}.0/29 and not port {port})"),
                _ => format!("(host {a}.{b}.{c}.{d} and port {port})"),
            }
        };
        (0..3 + rule % 3).map(alternative).collect::<Vec<_>>().join(" or ")
    };
    let mut rules = Rules::new((0..90).map(rule));
    assert!(rules.residual.is_empty());
    let packet = |number: usize| {
        let mut packet = vec![0; 60];
        packet[12..15].copy_from_slice(&[8, 0, if number.is_multiple_of(4) { 0x46 } else { 0x45 }]);
        packet[23] = [6, 17, 132, 1][number / 3 % 4];
        packet[26..30].copy_from_slice(&host(number * 11 % 49));
        packet[30..34].copy_from_slice(&host(number * 5 % 47));
        let ports = 14 + 4 * usize::from(packet[14] & 0xf);
        packet[ports + 1] = 1 + (number * 7 % 40) as u8;
        packet[ports + 3] = 1 + (number * 3 % 41) as u8;
        packet
    };
    let packets: Vec<Vec<u8>> = (0..4000).map(packet).collect();
    let mut matches = 0;
    for len in [60, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33, 30, 29, 24, 23, 14, 12] {
        matches += rules.compare(&packets.iter().map(|packet| (&packet[..len], 60)).collect::<Vec<_>>());
    }
    assert!(matches > 20_000, "{matches} matches");
}

#[test]
fn several_programs_may_stand_for_one_rule() {
    let programs: Vec<Vec<Insn>> =
        ["tcp port 80", "udp port 53", "arp"].iter().map(|e| compile(e).expect("valid").0).collect();
    let (index, residual) = Index::build_rows(&verified(&programs).iter().collect::<Vec<_>>(), &[1, 1, 0]);
    assert!(residual.is_empty());
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut dns = vec![0; 60];
    dns[12..15].copy_from_slice(&[8, 0, 0x45]);
    dns[23] = 17;
    dns[37] = 53;
    let (mut selections, mut touched) = (vec![Selection::NONE; 2], Touched::new(2));
    index.select(
        &[Frame::whole(&dns), Frame::whole(&arp), Frame::whole(&[])],
        &mut selections,
        &mut touched,
    );
    assert_eq!(selections, [Selection::from_bits(0b010), Selection::from_bits(0b001)]);
}

#[test]
fn an_index_of_no_rules_selects_nothing() {
    let (index, residual) = Index::build(&[]);
    assert!(residual.is_empty());
    let mut touched = Touched::new(0);
    index.select(&[Frame::whole(&[1; 60])], &mut [], &mut touched);
    touched.drain(|_| panic!("no rule"));
}

#[test]
fn programs_that_compute_their_offsets_are_left_to_the_caller() {
    let rules = Rules::new(
        ["tcp[(tcp[12] & 0xf0) >> 2] = 0x16", "tcp port 80", "ip[2:2] = ip[4:2]"].map(str::to_owned),
    );
    assert_eq!(rules.residual, [0, 2]);
}

#[test]
fn cut_packets_are_in_a_set_of_prefixes_as_libpcap_says() {
    let Some(packets) = captured(3) else { return };
    let nets: Vec<String> = V6
        .iter()
        .flat_map(|&address| {
            [1u32, 16, 31, 32, 33, 64, 65, 96, 97, 128].map(|bits| (u128::from_be_bytes(address), bits))
        })
        .map(|(address, bits)| {
            format!("{}/{bits}", std::net::Ipv6Addr::from(address >> (128 - bits) << (128 - bits)))
        })
        .chain(
            ["fe80::/10", "ff02::/64", "10.0.0.0/8", "192.168.0.0/16", "192.168.1.1/32", "128.0.0.0/1"]
                .map(str::to_owned),
        )
        .collect();
    let mut matches = 0;
    for net in nets {
        let set = PrefixSet::new(&[net.parse().expect("a prefix")], Direction::Either);
        let (program, _) = compile(&format!("net {net}")).expect("valid");
        for packet in &packets {
            for len in 0..=packet.len().min(60) {
                let expected = accepts(&program, &packet[..len], 0);
                matches += usize::from(expected);
                let selected = set.select(&[Frame::whole(&packet[..len])], Selection::from_bits(1));
                assert_eq!(!selected.is_empty(), expected, "{net} on {:02x?}", &packet[..len]);
            }
        }
    }
    assert!(matches > 1000, "{matches} matches");
}
