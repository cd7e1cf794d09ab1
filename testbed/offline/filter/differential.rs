//! The interpreter, and native code over frames, split frames and mbufs, against libpcap's own `bpf_filter`: not one difference.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;
use tapline_dpdk::mbuf::MbufHeaders;
use tapline_filter::{Analysis, Engine, Filters, Insn, Program, SplitFilters};
use tapline_filter::{analyse, compile};
use tapline_harness::captures::{self, Packet};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::{Frame, SplitFrame};

use super::guarded::Guarded;
use super::oracle::Oracle;
use super::programs;

/// Programs in every form that decides them.
struct Engines {
    programs: Vec<Program>,
    oracles: Vec<Oracle>,
    native: Filters,
    interpreted: Filters,
    split: SplitFilters,
    split_interpreted: SplitFilters,
    memory: Rc<RefCell<Guarded>>,
}

thread_local! {
    /// One for all tests of a thread: guarding its pages takes a system call each.
    static MEMORY: Rc<RefCell<Guarded>> = Rc::new(RefCell::new(Guarded::new(MAX_BURST)));
}

impl Engines {
    fn new(programs: Vec<Program>) -> Engines {
        let oracle =
            |program: &Program| Oracle::new(program.insns()).expect("what we accept, bpf_validate accepts");
        let engines = Engines {
            oracles: programs.iter().map(oracle).collect(),
            native: Filters::build_for_mbufs(&programs),
            interpreted: Filters::interpreted(&programs, "compared with native code"),
            split: SplitFilters::build(&programs),
            split_interpreted: SplitFilters::interpreted(&programs, "compared with native code"),
            programs,
            memory: MEMORY.with(Rc::clone),
        };
        if !engines.have_loops() {
            assert_eq!(
                (engines.native.engine(), engines.split.engine()),
                (&Engine::Native, &Engine::Native)
            );
        }
        engines
    }

    /// Returns whether some program is left to the interpreter for its loops.
    fn have_loops(&self) -> bool {
        self.programs.iter().any(Program::has_loops)
    }

    /// Runs all on `packets`; `name` says which program differs.
    fn compare(&self, packets: &[(&[u8], u32)], name: impl Fn(usize) -> String) {
        let mut memory = self.memory.borrow_mut();
        for burst in packets.chunks(MAX_BURST) {
            let burst = &memory.place(burst)[..];
            let frames: Vec<Frame<'_>> = burst.iter().map(|&(bytes, len)| Frame::new(bytes, len)).collect();
            let expected: Vec<Selection> = self
                .oracles
                .iter()
                .map(|oracle| select(burst, |bytes, len| oracle.run(bytes, len) != 0))
                .collect();
            for (selector, engine) in [(&self.native, "native"), (&self.interpreted, "interpreted")] {
                let mut selections = vec![Selection::ALL; self.programs.len()];
                selector.select(&frames, &mut selections);
                compare(&selections, &expected, burst, engine, &name);
            }
            let mut selections = vec![Selection::ALL; self.programs.len()];
            let is_over_mbufs =
                self.native.select_mbufs(MbufHeaders::of(&frames).frames(), &mut selections);
            assert_eq!(is_over_mbufs, !self.have_loops());
            if is_over_mbufs {
                compare(&selections, &expected, burst, "native over mbufs", &name);
            }
            // Frames that have a header. Payload and header are apart: the payload alone is put where the frame ended, with other
            // bytes before it.
            let burst: Vec<(Vec<u8>, u32)> = burst
                .iter()
                .filter(|(bytes, _)| bytes.len() >= 14)
                .map(|&(bytes, len)| (bytes.to_vec(), len))
                .collect();
            let burst: Vec<(&[u8], u32)> =
                burst.iter().map(|(bytes, len)| (bytes.as_slice(), *len)).collect();
            let payloads: Vec<Vec<u8>> =
                burst.iter().map(|(bytes, _)| [&[0xee; 14], &bytes[14..]].concat()).collect();
            let payloads: Vec<(&[u8], u32)> = payloads.iter().map(|bytes| (bytes.as_slice(), 0)).collect();
            let payloads = memory.place(&payloads);
            let header = |bytes: &[u8]| *bytes.first_chunk().expect("checked above");
            let frames: Vec<SplitFrame<'_>> = burst
                .iter()
                .zip(&payloads)
                .map(|(&(bytes, len), &(payload, _))| SplitFrame::new(header(bytes), &payload[14..], len))
                .collect();
            let expected: Vec<Selection> = self
                .oracles
                .iter()
                .map(|oracle| select(&burst, |bytes, len| oracle.run(bytes, len) != 0))
                .collect();
            for (selector, engine) in
                [(&self.split, "split native"), (&self.split_interpreted, "split interpreted")]
            {
                let mut selections = vec![Selection::ALL; self.programs.len()];
                selector.select(&frames, &mut selections);
                compare(&selections, &expected, &burst, engine, &name);
            }
        }
    }
}

fn select(burst: &[(&[u8], u32)], accepts: impl Fn(&[u8], u32) -> bool) -> Selection {
    Selection::from_bits(
        burst
            .iter()
            .enumerate()
            .fold(0, |bits, (index, &(bytes, len))| bits | u64::from(accepts(bytes, len)) << index),
    )
}

fn compare(
    selections: &[Selection],
    expected: &[Selection],
    burst: &[(&[u8], u32)],
    engine: &str,
    name: impl Fn(usize) -> String,
) {
    for (program, (selection, expected)) in selections.iter().zip(expected).enumerate() {
        if let Some(packet) =
            (0..MAX_BURST).find(|&packet| selection.contains(packet) != expected.contains(packet))
        {
            panic!("{engine} differs from bpf_filter: {}\n on {:02x?}", name(program), burst.get(packet));
        }
    }
}

fn compiled() -> (Vec<&'static str>, Vec<Program>) {
    let expressions = captures::expressions();
    let programs = expressions
        .iter()
        .map(|text| compile(text).unwrap_or_else(|error| panic!("{text}: {error}")))
        .collect();
    (expressions, programs)
}

/// Packets of all captures, each content once.
fn distinct_packets() -> Option<Vec<Packet>> {
    let folder = captures::folder()?;
    let mut packets: Vec<Packet> =
        captures::ethernet(&folder).iter().flat_map(|file| captures::packets(file)).collect();
    assert!(!packets.is_empty());
    packets.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    packets.dedup();
    Some(packets)
}

fn views(packets: &[Packet]) -> Vec<(&[u8], u32)> {
    packets.iter().map(|packet| (packet.bytes.as_slice(), packet.original_len)).collect()
}

#[test]
fn expressions_select_what_bpf_filter_selects_in_all_captures() {
    let Some(packets) = distinct_packets() else { return };
    let (expressions, programs) = compiled();
    // All together, so that they are merged, those with loops beside them and not; and each alone.
    Engines::new(programs.clone()).compare(&views(&packets), |index| expressions[index].to_owned());
    let (loops, merged): (Vec<_>, Vec<_>) =
        std::iter::zip(&expressions, &programs).partition(|(_, program)| program.has_loops());
    assert!(!loops.is_empty());
    Engines::new(merged.iter().map(|(_, program)| (*program).clone()).collect())
        .compare(&views(&packets), |index| (*merged[index].0).to_owned());
    for (program, text) in programs.into_iter().zip(&expressions) {
        Engines::new(vec![program]).compare(&views(&packets), |_| (*text).to_owned());
    }
}

#[test]
fn packets_cut_at_every_length_are_judged_as_bpf_filter_does() {
    let Some(packets) = distinct_packets() else { return };
    let (expressions, programs) = compiled();
    // One packet of each kind: ethertype, version and header length, protocol, fragmentation, and what follows.
    let mut kinds: HashMap<Vec<u8>, &Packet> = HashMap::new();
    for packet in &packets {
        let pick = |range: std::ops::Range<usize>| packet.bytes.get(range).unwrap_or_default().to_vec();
        let kind = [pick(12..15), pick(16..18), pick(20..21), pick(23..24)].concat();
        kinds.entry(kind).or_insert(packet);
    }
    let (loops, merged): (Vec<_>, Vec<_>) =
        std::iter::zip(expressions, programs).partition(|(_, program)| program.has_loops());
    for named in [loops, merged] {
        let (expressions, programs): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let engines = Engines::new(programs);
        for packet in kinds.values() {
            let most = packet.bytes.len().min(150);
            let cuts: Vec<(&[u8], u32)> =
                (0..=most).map(|len| (&packet.bytes[..len], packet.original_len)).collect();
            engines.compare(&cuts, |index| expressions[index].to_owned());
        }
    }
}

/// Cases of a random test: `TAPLINE_FILTER_CASES` for long runs.
fn cases(default: u32) -> ProptestConfig {
    let cases =
        std::env::var("TAPLINE_FILTER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn check_random(programs: Vec<Vec<Insn>>, packets: &[(Vec<u8>, u32)]) {
    let verified =
        programs.iter().map(|insns| Program::verify(insns.clone()).expect("a valid program")).collect();
    let packets: Vec<(&[u8], u32)> = packets.iter().map(|(bytes, len)| (bytes.as_slice(), *len)).collect();
    Engines::new(verified).compare(&packets, |index| format!("{:?}", programs[index]));
}

/// Questions about neighbouring bytes: fields that all have to hold, and then numbers of two bytes of which one has to.
fn neighbours() -> impl Strategy<Value = String> {
    let number = || prop_oneof![0..4u32, Just(0x100), Just(0x201)];
    let field = (0..56u32, prop_oneof![Just(1u32), Just(2), Just(4)], number(), number(), any::<bool>())
        .prop_map(|(at, width, mask, value, is_whole)| match is_whole {
            true => format!("ether[{at}:{width}] = {value}"),
            false => format!("ether[{at}:{width}] & {mask} = {value}"),
        });
    let halves = (0..50u32, proptest::collection::vec((any::<bool>(), number()), 0..12)).prop_map(
        |(at, numbers)| {
            let equal = |(is_second, number): (bool, u32)| {
                format!("ether[{}:2] = {number}", at + if is_second { 2 } else { 0 })
            };
            numbers.into_iter().map(equal).collect::<Vec<_>>()
        },
    );
    let ports =
        proptest::collection::vec((prop_oneof![Just("src "), Just("dst "), Just("")], number()), 0..7)
            .prop_map(|ports| {
                ports.into_iter().map(|(side, port)| format!("tcp {side}port {port}")).collect::<Vec<_>>()
            });
    (proptest::collection::vec(field, 0..5), prop_oneof![halves, ports]).prop_map(|(fields, numbers)| {
        let numbers =
            if numbers.is_empty() { Vec::new() } else { vec![format!("({})", numbers.join(" or "))] };
        let all = [fields, numbers].concat();
        if all.is_empty() { "ip".to_owned() } else { all.join(" and ") }
    })
}

/// Packets of few different bytes, many of them TCP over IPv4, some cut.
fn packets_of_few_bytes() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
    let bytes = proptest::collection::vec(prop_oneof![4 => 0..3u8, 1 => Just(80u8)], 40..80);
    let packet =
        (bytes, any::<bool>(), 0x44..0x48u8, 0..90usize).prop_map(|(mut bytes, is_tcp, header, len)| {
            if is_tcp {
                bytes[12..15].copy_from_slice(&[8, 0, header]);
                bytes[20..24].copy_from_slice(&[0, 0, 64, 6]);
            }
            bytes.truncate(len);
            (bytes, 1000)
        });
    proptest::collection::vec(packet, 1..MAX_BURST)
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn neighbouring_bytes_are_judged_as_bpf_filter_does(
        expressions in proptest::collection::vec(neighbours(), 1..4),
        packets in packets_of_few_bytes(),
    ) {
        let programs: Vec<Vec<Insn>> = expressions.iter().filter_map(|text| Some(compile(text).ok()?.insns().to_vec())).collect();
        check_random(programs, &packets);
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn random_programs_run_as_bpf_filter_runs_them(program in programs::programs(40), packets in programs::packets()) {
        check_random(vec![program], &packets);
    }

    #[test]
    fn programs_that_ask_alike_run_together_as_each_alone(programs in programs::alike(), packets in programs::few_bytes()) {
        check_random(programs, &packets);
    }

    #[test]
    fn random_programs_judge_cut_packets_as_bpf_filter_does(
        programs in prop_oneof![programs::alike(), programs::questions(12).prop_map(|one| vec![one])],
        packets in programs::cuts(),
    ) {
        check_random(programs, &packets);
    }

    #[test]
    fn what_is_claimed_of_random_programs_holds(
        insns in prop_oneof![programs::programs(10), programs::questions(5)],
        packets in prop_oneof![programs::packets(), programs::cuts(), programs::few_bytes()],
    ) {
        let program = Program::verify(insns).expect("a valid program");
        let Analysis { never_matches, always_matches, misses_tagged, least_captured_bytes } = analyse(&program);
        for (bytes, original_len) in packets {
            let accepts = |bytes: &[u8]| program.run(bytes, original_len) != 0;
            prop_assert!(!(accepts(&bytes) && never_matches));
            prop_assert!(accepts(&bytes) || !always_matches);
            prop_assert!(!accepts(&bytes) || bytes.len() as u64 >= least_captured_bytes);
            for tag in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
                let mut tagged = bytes.clone();
                if let Some(kind) = tagged.get_mut(12..14) {
                    kind.copy_from_slice(&tag);
                    prop_assert!(!(accepts(&tagged) && misses_tagged));
                }
            }
        }
    }

    #[test]
    fn random_programs_together_run_as_each_alone(
        programs in proptest::collection::vec(programs::programs(12), 2..10),
        packets in programs::packets(),
    ) {
        check_random(programs, &packets);
    }
}
