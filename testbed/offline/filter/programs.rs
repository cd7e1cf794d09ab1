//! Random classic BPF programs and packets that suit them.

use proptest::collection::vec;
use proptest::prelude::*;
use tapline_filter::Insn;

/// Programs of up to `most` instructions that every verifier accepts. They start by writing all of scratch memory, which
/// libpcap 1.10 leaves uninitialised; offsets are small so that loads often hit.
pub(super) fn programs(most: usize) -> impl Strategy<Value = Vec<Insn>> {
    vec((op(), any::<u8>(), any::<u8>()), 1..most).prop_map(|parts| {
        let mut insns: Vec<Insn> = (0..16)
            .map(|word| Insn { code: 0x02 | (word & 1), jt: 0, jf: 0, k: u32::from(word) })
            .collect();
        let count = parts.len();
        for (at, ((code, k), jt, jf)) in parts.into_iter().enumerate() {
            // The return at the end is at `count`.
            let room = count - at;
            let near = |skip: u8| u8::try_from(usize::from(skip) % room.min(12)).expect("below 12");
            insns.push(match code {
                0x05 => Insn { code, jt: 0, jf: 0, k: k % u32::try_from(room.min(12)).expect("below 12") },
                _ if code & 7 == 5 => Insn { code, jt: near(jt), jf: near(jf), k },
                _ => Insn { code, jt: 0, jf: 0, k },
            });
        }
        insns.push(Insn { code: 0x16, jt: 0, jf: 0, k: 0 });
        insns
    })
}

fn op() -> impl Strategy<Value = (u16, u32)> {
    let loads = (prop::sample::select(vec![0x20u16, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1]), offset());
    let constants = (prop::sample::select(vec![0x00u16, 0x01]), number());
    let others = (prop::sample::select(vec![0x80u16, 0x81, 0x07, 0x87, 0x84]), Just(0));
    let scratch = (prop::sample::select(vec![0x60u16, 0x61, 0x02, 0x03]), 0u32..16);
    let arithmetic = (
        prop::sample::select(vec![0x00u16, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0]),
        any::<bool>(),
        number(),
    )
        .prop_map(|(operator, x, k)| match operator {
            0x60 | 0x70 => (0x04 | operator | u16::from(x) << 3, k % 32),
            _ => (0x04 | operator | u16::from(x) << 3, k.max(1)),
        });
    let jumps =
        (prop::sample::select(vec![0x05u16, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d]), number());
    let returns =
        (prop::sample::select(vec![0x06u16, 0x16]), prop::sample::select(vec![0u32, 1, u32::MAX]));
    prop_oneof![6 => loads, 2 => constants, 2 => others, 2 => scratch, 4 => arithmetic, 6 => jumps, 1 => returns]
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..24, 2 => 0u32..80, 1 => prop::sample::select(vec![u32::MAX, u32::MAX - 1, u32::MAX - 3, 0x8000_0000])]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..8, 2 => 0u32..256, 2 => any::<u32>(), 1 => prop::sample::select(vec![0x800u32, 0xf, 0x1fff, 0xffff, u32::MAX, 32, 31])]
}

/// Packets with a small alphabet, so that tests on them often hold; the length on the wire is the captured one or more.
pub(super) fn packets() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
    let byte = prop_oneof![4 => 0u8..8, 1 => any::<u8>()];
    let packet = (vec(byte, 0..90), prop_oneof![Just(0u32), 0u32..100]).prop_map(|(bytes, more)| {
        let len = u32::try_from(bytes.len()).expect("below 90");
        (bytes, len + more)
    });
    vec(packet, 1..=16)
}

/// Programs in the manner of libpcap, over so few offsets and numbers that answers bear on each other: load, perhaps mask or
/// divide, compare, and go on.
pub(super) fn questions(most: usize) -> impl Strategy<Value = Vec<Insn>> {
    let insn = |code, k| Insn { code, jt: 0, jf: 0, k };
    let small = || 0u32..5;
    let load = (
        prop::sample::select(vec![0x30u16, 0x30, 0x28, 0x20]),
        prop::sample::select(vec![0u32, 1, 2, 12, 13, 14, 59, 60]),
    )
        .prop_map(move |(code, k)| vec![insn(code, k)]);
    let indirect = (
        0u32..4,
        prop::sample::select(vec![0x50u16, 0x48, 0x40]),
        prop::sample::select(vec![0u32, 1, 11, 13, 14]),
    )
        .prop_map(move |(base, code, k)| vec![insn(0xb1, base), insn(code, k)]);
    let divided = (0u32..4, prop::sample::select(vec![0x3cu16, 0x9c]), 0u32..4)
        .prop_map(move |(by, code, k)| vec![insn(0x30, by), insn(0x07, 0), insn(0x30, k), insn(code, 0)]);
    let masked = (0u32..4, 1u32..8).prop_map(move |(k, mask)| vec![insn(0x30, k), insn(0x54, mask)]);
    let len = Just(vec![insn(0x80, 0)]);
    let number = prop_oneof![6 => load, 2 => indirect, 2 => divided, 2 => masked, 1 => len];
    let test = (
        prop::sample::select(vec![0x15u16, 0x15, 0x25, 0x35, 0x45]),
        prop_oneof![6 => small(), 1 => 0u32..100],
        0u8..16,
        0u8..16,
    );
    vec((number, test, any::<bool>()), 1..most).prop_map(move |parts| {
        // Each part is its number's instructions and a test; jumps go to the start of parts, or to one of the two ends.
        let mut starts = vec![0];
        for (number, _, again) in &parts {
            let len = if *again { 0 } else { number.len() };
            starts.push(starts[starts.len() - 1] + len + 1);
        }
        let accept = starts[parts.len()];
        let mut insns = Vec::new();
        for (index, (number, (code, k, jt, jf), again)) in parts.iter().enumerate() {
            // Some parts ask again about the number of the part before.
            if !again {
                insns.extend(number);
            }
            let at = insns.len();
            let target = |jump: u8| match starts.get(index + 1 + usize::from(jump / 4)) {
                Some(&start) if jump % 4 < 2 && start < accept => start,
                _ => accept + usize::from(jump % 2),
            };
            let skip = |jump: u8| u8::try_from(target(jump) - at - 1).expect("short programs");
            insns.push(Insn { code: *code, jt: skip(*jt), jf: skip(*jf), k: *k });
        }
        insns.extend([insn(0x06, 1), insn(0x06, 0)]);
        insns
    })
}

/// Several programs that ask much alike: one, and copies of it with other constants here and there.
pub(super) fn alike() -> impl Strategy<Value = Vec<Vec<Insn>>> {
    (questions(8), vec((any::<prop::sample::Index>(), 0u32..5), 1..12)).prop_map(|(base, changes)| {
        let copies = changes.into_iter().map(|(at, k)| {
            let mut copy = base.clone();
            let at = at.index(copy.len());
            // Constants of tests and returns; offsets, masks and divisors stay.
            if matches!(copy[at].code & 7, 5 | 6) {
                copy[at].k = k;
            }
            copy
        });
        copies.chain([base.clone()]).collect()
    })
}

/// A packet of few different bytes, cut at every length.
pub(super) fn cuts() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
    let byte = prop_oneof![8 => 0u8..5, 1 => any::<u8>()];
    vec(byte, 20..70).prop_map(|bytes| {
        let len = u32::try_from(bytes.len()).expect("below 70");
        (0..=bytes.len()).map(|cut| (bytes[..cut].to_vec(), len)).collect()
    })
}

/// Packets of few different bytes.
pub(super) fn few_bytes() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
    vec(vec(0u8..5, 14..70), 32..=64).prop_map(|packets| {
        let original = |bytes: Vec<u8>| {
            let len = u32::try_from(bytes.len()).expect("below 70");
            (bytes, len)
        };
        packets.into_iter().map(original).collect()
    })
}
