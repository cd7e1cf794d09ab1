//! Fuzz body for the filter index: many filters over a burst of packets, whole, cut short or of any bytes. What the index and the
//! classify stage say of the burst is what each filter says of each packet by itself, and no packet that is not theirs is selected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tapline_datapath::classify::{Classifier, FilterTerm, INDEX_FROM, Matcher, Matches, classify};
use tapline_datapath::flow::burst_flows::Flows;
use tapline_filter::compile;
use tapline_filter::index::{Direction, Index, PrefixSet};
use tapline_filter::{Insn, Program};
use tapline_packet::burst::{MAX_BURST, Selection, Touched};
use tapline_packet::frame::Frame;
use tapline_packet::layers::Depth;
use tapline_packet::prefix::Prefix;

/// Filters of one input at most.
const MAX_FILTERS: usize = 400;
/// Expressions whose programs are kept at most.
const MAX_KEPT: usize = 1 << 16;

/// Numbers out of the input's bytes; behind its end noise, so that few bytes make many different packets.
struct Choices<'a> {
    bytes: &'a [u8],
    noise: u64,
}

impl<'a> Choices<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        // FNV-1a
        let noise = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self { bytes, noise: noise | 1 }
    }

    fn byte(&mut self) -> u8 {
        if let Some((&byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return byte;
        }
        // xorshift64
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        (self.noise >> 32) as u8
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// Below `end`, which is 1 to 256.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Values that filters and packets are both made of, so that they meet.
struct Pool {
    v4: [u32; 4],
    v6: [u128; 4],
    ports: [u16; 4],
    /// From a value to the next one of the same family; for IPv6, in one of its words.
    stride: u32,
    v6_shift: u32,
}

impl Pool {
    fn new(choices: &mut Choices<'_>) -> Self {
        let site = 0x2001_0db8_0000_0007 << 64;
        Pool {
            v4: [
                0x0a00_0000,
                0xc0a8_01f0,
                choices.of(&[0, 0xffff_ff00, 0x0a00_00fe, 0xe000_0000]),
                choices.long(),
            ],
            v6: [
                site,
                site | 0xff00,
                choices.of(&[0, u128::MAX << 8, site ^ 1 << 64]),
                u128::from(choices.long()) << choices.below(97),
            ],
            ports: [80, choices.of(&[0, 53, 443, 4789, 65500]), 1024, choices.word()],
            stride: choices.of(&[1, 1, 2, 16, 255, 256, 0x0001_0000]),
            v6_shift: choices.of(&[0, 0, 32, 64, 96, 16]),
        }
    }

    fn v4(&self, family: usize, index: u32) -> Ipv4Addr {
        self.v4[family % 4].wrapping_add(index.wrapping_mul(self.stride)).into()
    }

    fn v6(&self, family: usize, index: u32) -> Ipv6Addr {
        self.v6[family % 4]
            .wrapping_add(u128::from(index.wrapping_mul(self.stride)) << self.v6_shift)
            .into()
    }

    fn port(&self, family: usize, index: u32) -> u16 {
        self.ports[family % 4].wrapping_add(index.wrapping_mul(self.stride) as u16)
    }
}

/// Filters of which no family is made, among them some that the index leaves to others.
const FIXED: [&str; 44] = [
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "vlan",
    "mpls",
    "1 = 1",
    "1 = 0",
    "ip broadcast",
    "ip multicast",
    "ip6 multicast",
    "ether broadcast",
    "ether multicast",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] = 0x10",
    "ip[6] & 0x40 != 0",
    "ip[6:2] & 0x1fff = 0",
    "ip[8] < 10",
    "ip[0] & 0xf != 5",
    "ip[2:2] = 40",
    "icmp[icmptype] = icmp-echo",
    "ether[0] & 1 = 0",
    "ether[100] = 5",
    "ether[12:2] > 0x0600",
    "udp[4:2] > 20",
    "tcp[2:2] & 0xfff0 = 0x50",
    "ip6[6] = 44",
    "ip6[40] = 6",
    "ip6 protochain 6",
    "tcp[(tcp[12] & 0xf0) >> 2] = 0x16",
    "len = 60",
    "ip[2:2] + 14 = len",
    "ip[16] >= 224",
    "pppoes and ip",
    "geneve",
    "vlan and vlan",
    "not vlan",
    "ip[12:4] & 0xff00ff = 0x0a0001",
    "ip[9] - 6 = 0",
];

/// A test of which a family has many, one an index.
#[derive(Clone, Copy)]
struct Form {
    kind: usize,
    family: usize,
    direction: &'static str,
    protocol: &'static str,
    bits: u32,
    more: u16,
}

impl Form {
    fn new(choices: &mut Choices<'_>) -> Self {
        Form {
            kind: choices.below(16),
            family: choices.below(4),
            direction: choices.of(&["", "src ", "dst ", "src or dst ", "src and dst "]),
            protocol: choices.of(&["", "tcp ", "udp ", "sctp "]),
            bits: choices.byte().into(),
            more: choices.of(&[0, 1, 9, 255, 1000, 65535]),
        }
    }

    fn text(self, pool: &Pool, index: u32) -> String {
        let Form { family, direction, protocol, bits, more, .. } = self;
        let (v4, v6, port) = (pool.v4(family, index), pool.v6(family, index), pool.port(family, index));
        match self.kind {
            0 | 1 => format!("{direction}host {v4}"),
            2 | 3 => format!("{direction}net {}", prefix_v4(v4, bits)),
            4 => format!("{direction}host {v6}"),
            5 | 6 => format!("{direction}net {}", prefix_v6(v6, bits)),
            7 | 8 => format!("{protocol}{direction}port {port}"),
            9 | 10 => format!("{protocol}{direction}portrange {port}-{}", port.saturating_add(more)),
            11 => format!("ip proto {}", port % 256),
            12 => format!("vlan {}", port % 4096),
            // the identifier of VXLAN
            13 => format!("udp dst port 4789 and udp[12:4] & 0xffffff00 = {}", u32::from(port) << 8),
            14 => format!("ether host 02:00:00:00:{:02x}:{:02x}", port >> 8, port & 0xff),
            _ => format!("len {} {port}", if bits % 2 == 0 { ">" } else { "<=" }),
        }
    }
}

fn prefix_v4(address: Ipv4Addr, bits: u32) -> String {
    let bits = bits % 33;
    let kept = address.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    format!("{}/{bits}", Ipv4Addr::from(kept))
}

fn prefix_v6(address: Ipv6Addr, bits: u32) -> String {
    let bits = bits % 129;
    let kept = address.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    format!("{}/{bits}", Ipv6Addr::from(kept))
}

thread_local! {
    /// libpcap takes most of the time where it compiles each anew.
    static KEPT: RefCell<HashMap<String, Option<Program>>> = RefCell::default();
}

/// `None` where libpcap or the verifier refuses it.
fn program(expression: &str) -> Option<Program> {
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        if let Some(known) = kept.get(expression) {
            return known.clone();
        }
        let program = compile(expression).ok();
        kept.insert(expression.to_owned(), program.clone());
        program
    })
}

/// Operations of which a program is made that libpcap would not write: the index takes many such.
const OPERATIONS: [u16; 32] = [
    0x20, 0x28, 0x28, 0x30, 0x30, 0x40, 0x48, 0x50, 0x00, 0x01, 0x80, 0x81, 0x60, 0x02, 0x07, 0x87, 0xb1,
    0x54, 0x54, 0x74, 0x64, 0x04, 0x05, 0x15, 0x15, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x06, 0x16,
];

fn any_program(choices: &mut Choices<'_>) -> Option<Program> {
    let count = 1 + choices.below(16);
    let mut insns: Vec<Insn> = (0..count)
        .map(|at| {
            let code = choices.of(&OPERATIONS);
            let room = (count - at) as u32;
            let k = if choices.one_in(4) {
                choices.long()
            } else {
                choices.of(&[0, 1, 2, 3, 6, 9, 12, 14, 15, 16, 20, 26, 30, 0x0800, 0xff])
            };
            let (jt, jf) = (choices.byte() % room as u8, choices.byte() % room as u8);
            match code {
                0x05 => Insn { code, jt: 0, jf: 0, k: k % room },
                0x02 | 0x60 => Insn { code, jt: 0, jf: 0, k: k % 4 },
                0x64 | 0x74 => Insn { code, jt: 0, jf: 0, k: k % 32 },
                _ => Insn { code, jt, jf, k },
            }
        })
        .collect();
    insns.push(Insn { code: 0x06, jt: 0, jf: 0, k: u32::from(choices.byte() & 1) });
    Program::verify(insns).ok()
}

/// Some filters of one form, one a number.
fn family(choices: &mut Choices<'_>, pool: &Pool, filters: &mut Vec<Vec<Program>>) {
    let count = choices.of(&[1, 2, 3, 4, 6, 9, 15, 24, 40, 66, 130]).min(MAX_FILTERS - filters.len());
    let outer = choices.of(&[
        "",
        "",
        "",
        "",
        "not vlan and ",
        "vlan and ",
        "vlan 7 and ",
        "vlan and vlan 7 and ",
        "mpls 5 and ",
    ]);
    let forms: Vec<Form> = (0..1 + choices.below(3)).map(|_| Form::new(choices)).collect();
    let fixed = choices.one_in(3).then(|| choices.of(&FIXED));
    let joint = choices.of(&[" and ", " and ", " and ", " or ", " and not "]);
    // one filter in so many is of two programs
    let lists = choices.of(&[0, 0, 3, 10]);
    for index in 0..count as u32 {
        let tests = forms.iter().map(|form| form.text(pool, index)).chain(fixed.map(str::to_owned));
        let tests: Vec<String> = tests.map(|test| format!("({test})")).collect();
        let Some(program) = program(&format!("{outer}({})", tests.join(joint))) else { continue };
        match filters.last_mut() {
            Some(filter) if lists > 0 && index % lists == 1 => filter.push(program),
            _ => filters.push(vec![program]),
        }
    }
}

fn filters(choices: &mut Choices<'_>, pool: &Pool) -> Vec<Vec<Program>> {
    let mut filters = Vec::new();
    for _ in 0..1 + choices.below(5) {
        match choices.below(8) {
            0 => filters.extend(
                (0..1 + choices.below(6))
                    .filter_map(|_| program(choices.of(&FIXED)))
                    .map(|program| vec![program]),
            ),
            1 => filters.extend(
                (0..1 + choices.below(30))
                    .filter_map(|_| any_program(choices))
                    .map(|program| vec![program]),
            ),
            _ => family(choices, pool, &mut filters),
        }
    }
    filters.truncate(MAX_FILTERS);
    filters
}

/// The bytes of a packet, and its length on the wire.
fn packet(choices: &mut Choices<'_>, pool: &Pool) -> (Vec<u8>, u32) {
    let kind = choices.below(16);
    if kind == 0 {
        let bytes: Vec<u8> = (0..choices.below(120)).map(|_| choices.byte()).collect();
        let len = bytes.len() as u32;
        return (bytes, len);
    }
    let index = |choices: &mut Choices<'_>| u32::from(choices.byte() % 130);
    let mut mac = [2, 0, 0, 0, 0, 0];
    mac[4..].copy_from_slice(&pool.port(choices.below(4), index(choices)).to_be_bytes());
    let mut bytes = [if choices.one_in(8) { [0xff; 6] } else { mac }, [2, 0, 0, 0, 0, 80]].concat();
    for _ in 0..choices.of(&[0, 0, 0, 0, 0, 1, 1, 2]) {
        bytes.extend(choices.of(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        let tag = if choices.one_in(2) { 7 } else { pool.port(choices.below(4), index(choices)) };
        bytes.extend(tag.to_be_bytes());
    }
    let mpls = choices.one_in(16);
    if mpls {
        bytes.extend([0x88, 0x47, 0, 0, 0x51, 64]);
    }
    let protocol = choices.of(&[6u8, 6, 17, 17, 132, 1, 58, 47]);
    let ports: [u16; 2] = std::array::from_fn(|_| pool.port(choices.below(4), index(choices)));
    let family = choices.below(4);
    match kind {
        1..8 => {
            let words = choices.of(&[5u8, 5, 5, 5, 6, 15, 0, 3]);
            let fragment = choices.of(&[0u16, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x00ff]);
            let ethertype: &[u8] = if mpls { &[] } else { &[0x08, 0x00] };
            bytes.extend(
                [
                    ethertype,
                    &[0x40 | words, 0, 0, 40, 0, 1],
                    &fragment.to_be_bytes(),
                    &[64, protocol, 0, 0],
                ]
                .concat(),
            );
            bytes.extend(pool.v4(family, index(choices)).octets());
            bytes.extend(pool.v4(choices.below(4), index(choices)).octets());
            bytes.resize(bytes.len() - 20 + usize::from(words).max(5) * 4, 1);
        }
        8..14 => {
            let extension = choices.of(&[None, None, None, Some(0u8), Some(43), Some(44), Some(60)]);
            let ethertype: &[u8] = if mpls { &[] } else { &[0x86, 0xdd] };
            bytes.extend([ethertype, &[0x60, 0, 0, 0, 0, 40, extension.unwrap_or(protocol), 64]].concat());
            bytes.extend(pool.v6(family, index(choices)).octets());
            bytes.extend(pool.v6(choices.below(4), index(choices)).octets());
            bytes.extend(extension.iter().flat_map(|_| [protocol, 0, 0, 0, 0, 0, 0, 1]));
        }
        14 => {
            bytes.extend([&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], &mac[..]].concat());
            bytes.extend(pool.v4(family, index(choices)).octets());
            bytes.extend([0; 6]);
            bytes.extend(pool.v4(choices.below(4), index(choices)).octets());
        }
        _ => bytes.extend(choices.of(&[[0x80, 0x35], [0x88, 0xcc], [0x88, 0x64], [0, 3], [0x08, 0]])),
    }
    bytes.extend(ports.map(u16::to_be_bytes).as_flattened());
    // of VXLAN, whose identifier is a port too
    bytes.extend([0, 30, 0, 0, 8, 0, 0, 0, 0]);
    bytes.extend(pool.port(choices.below(4), index(choices)).to_be_bytes());
    bytes.resize(bytes.len() + choices.of(&[0, 1, 5, 20, 60]), 0x10);
    for _ in 0..choices.of(&[0, 0, 0, 0, 1, 2]) {
        let at = choices.below(bytes.len().min(256));
        bytes[at] = choices.byte();
    }
    let len = bytes.len() as u32;
    if choices.one_in(4) {
        bytes.truncate(choices.below(len.min(255) as usize + 1));
    }
    (bytes, len + choices.of(&[0, 0, 0, 1, 900]))
}

/// The number of packets, whether the classify stage judges them too, then what filters and packets are made of.
pub(super) fn judge(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let head: [u8; 2] = std::array::from_fn(|_| choices.byte());
    let pool = Pool::new(&mut choices);
    let filters = filters(&mut choices, &pool);
    let packets: Vec<(Vec<u8>, u32)> =
        (0..1 + usize::from(head[0]) % MAX_BURST).map(|_| packet(&mut choices, &pool)).collect();
    let frames: Vec<Frame<'_>> = packets.iter().map(|(bytes, len)| Frame::new(bytes, *len)).collect();
    let accepts = |program: &Program| {
        frames
            .iter()
            .enumerate()
            .fold(0, |bits, (at, frame)| bits | u64::from(program.matches(frame)) << at)
    };
    let expected: Vec<Vec<u64>> =
        filters.iter().map(|filter| filter.iter().map(accepts).collect()).collect();
    judge_by_index(&filters, &frames, &expected);
    // a set's tables and the code for what the index leaves out take long to make
    if !head[1].is_multiple_of(8) {
        return;
    }
    let prefixes = judge_prefixes(&mut choices, &pool, &frames);
    if filters.iter().map(Vec::len).sum::<usize>() >= INDEX_FROM {
        judge_by_stage(&mut choices, &filters, prefixes, &frames, &expected);
    }
}

/// The index selects what its programs accept, and nothing for those that it leaves out.
fn judge_by_index(filters: &[Vec<Program>], frames: &[Frame<'_>], expected: &[Vec<u64>]) {
    let rows: Vec<u32> =
        filters.iter().zip(0..).flat_map(|(filter, row)| filter.iter().map(move |_| row)).collect();
    let programs: Vec<&Program> = filters.iter().flatten().collect();
    let (index, left_out) = Index::build_rows(&programs, &rows);
    let mut wanted = vec![Selection::NONE; filters.len()];
    for (number, (&row, bits)) in rows.iter().zip(expected.iter().flatten()).enumerate() {
        if left_out.binary_search(&number).is_err() {
            wanted[row as usize] |= Selection::from_bits(*bits);
        }
    }
    let (mut selections, mut touched) = (vec![Selection::NONE; filters.len()], Touched::new(filters.len()));
    // a smaller burst first: nothing of one is left for the next
    for count in [frames.len() / 2, frames.len()] {
        selections.fill(Selection::NONE);
        index.select(&frames[..count], &mut selections, &mut touched);
        let mut marked = vec![false; filters.len()];
        touched.drain(|row| marked[row] = true);
        for (row, (found, wanted)) in selections.iter().zip(&wanted).enumerate() {
            let wanted = wanted.bits() & Selection::first(count).bits();
            assert_eq!(
                found.bits(),
                wanted,
                "filter {row} of {}, {count} packets: {:?}",
                filters.len(),
                filters[row]
            );
            assert_eq!(marked[row], wanted != 0, "filter {row} is touched if and only if it got packets");
        }
    }
}

/// Some prefixes, which as a set select what `net` selects for one or another of them, among given packets; and what that is.
fn judge_prefixes(choices: &mut Choices<'_>, pool: &Pool, frames: &[Frame<'_>]) -> (Arc<PrefixSet>, u64) {
    let (family, bits) = (choices.below(4), choices.byte());
    let texts: Vec<String> = (0..choices.below(40) as u32)
        .map(|index| {
            let bits = if choices.one_in(4) { choices.byte() } else { bits };
            match choices.one_in(2) {
                true => prefix_v4(pool.v4(family, index), bits.into()),
                false => prefix_v6(pool.v6(family, index), bits.into()),
            }
        })
        .collect();
    let prefixes: Vec<Prefix> = texts.iter().map(|text| text.parse().expect("written above")).collect();
    let among = Selection::from_bits(u64::from(choices.long()) << 32 | u64::from(choices.long())).bits()
        & Selection::first(frames.len()).bits();
    let mut either = 0;
    let other = choices.of(&[(Direction::Source, "src "), (Direction::Destination, "dst ")]);
    for (direction, word) in [other, (Direction::Either, "")] {
        let programs: Vec<Program> =
            texts.iter().filter_map(|text| program(&format!("{word}net {text}"))).collect();
        assert_eq!(programs.len(), texts.len(), "libpcap takes every prefix");
        let matches = |frame: &Frame<'_>| programs.iter().any(|program| program.matches(frame));
        let accepted =
            frames.iter().enumerate().fold(0, |bits, (at, frame)| bits | u64::from(matches(frame)) << at);
        let selected = PrefixSet::new(&prefixes, direction).select(frames, Selection::from_bits(among));
        assert_eq!(selected.bits(), accepted & among, "{word}net {texts:?}");
        either = accepted;
    }
    (Arc::new(PrefixSet::new(&prefixes, Direction::Either)), either)
}

/// The filters as steps of an input, by themselves, with prefixes, two together, or with packets that no step may select.
fn judge_by_stage(
    choices: &mut Choices<'_>,
    filters: &[Vec<Program>],
    (prefixes, in_prefixes): (Arc<PrefixSet>, u64),
    frames: &[Frame<'_>],
    expected: &[Vec<u64>],
) {
    let all = if choices.one_in(2) {
        u64::MAX
    } else {
        u64::from(choices.long()) << 32 | u64::from(choices.long())
    };
    let all = all & Selection::first(frames.len()).bits();
    let mut matchers: Vec<Matcher> = Vec::new();
    let mut wanted: Vec<u64> = Vec::new();
    let joined = choices.of(&[0, 2, 7]);
    for (at, (filter, expected)) in filters.iter().zip(expected).enumerate() {
        let is_list = at == joined;
        let term = FilterTerm {
            programs: filter.clone(),
            prefixes: is_list.then(|| Arc::clone(&prefixes)),
            through: Default::default(),
        };
        let accepted = expected.iter().fold(if is_list { in_prefixes } else { 0 }, |all, bits| all | bits);
        match matchers.last_mut() {
            Some(matcher) if joined > 0 && at % joined == 1 => {
                matcher.filters.push(term);
                *wanted.last_mut().expect("one a matcher") &= accepted;
            }
            _ => {
                matchers.push(Matcher { filters: vec![term], ..Matcher::default() });
                wanted.push(accepted);
            }
        }
    }
    matchers.push(Matcher::default());
    wanted.push(u64::MAX);
    let classifier = Classifier::new(&matchers);
    assert!(classifier.is_indexed(), "there are many filters");
    let mut flows = Flows::new(&[], Depth::default());
    let mut matches = Matches::new([&classifier].into_iter());
    for count in [frames.len() / 2, frames.len()] {
        let here = Selection::first(count).bits();
        classify(&classifier, Selection::from_bits(all & here), &frames[..count], &mut flows, &mut matches);
        let mut found = vec![0; matchers.len()];
        matches.drain(|step, selection| found[step] = selection.bits());
        for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            // who routes keeps to the packets that are all
            assert_eq!(found & all, wanted & all & here, "step {step} of {count} packets");
            assert_eq!(found & !here, 0, "step {step} selects packets that there are none of");
        }
    }
}
