//! Flow table: what a worker remembers of each flow, in memory that is fixed when it is made.
//!
//! Serves the stateful stages (`sample first`); one worker owns it. A flow is looked up by a keyed digest in two sets of eight
//! slots: the probe length is two sets whatever comes. When both are full, a slot whose flow timed out is used again, and where
//! there is none the flow that has been silent longest is evicted and counted. Nothing is allocated, moved or swept while packets
//! pass.
//!
//! With an 8-byte value a slot takes 24 bytes and a table of `flows` has half as many slots again: 36 bytes a flow, so
//! 10 million flows take 360 MB.

use std::hash::{BuildHasher, RandomState};

use crate::receive::times::age;
use tapline_api::snapshot::FlowCounters;

/// The source of keys for keyed hashes: words that nobody else can know or guess.
pub struct Secret(SecretSource);

enum SecretSource {
    /// SipHash-1-3 of the index, keyed by the operating system.
    System(RandomState),
    Seed(u64),
}

impl Secret {
    pub fn random() -> Secret {
        Secret(SecretSource::System(RandomState::new()))
    }

    /// The same for the same seed, and so no secret: for tests and benches.
    pub fn from_seed(seed: u64) -> Secret {
        Secret(SecretSource::Seed(seed))
    }

    pub fn word(&self, index: u64) -> u64 {
        match &self.0 {
            SecretSource::System(state) => state.hash_one(index),
            SecretSource::Seed(seed) => tapline_packet::mix::mix(index, *seed),
        }
    }
}

/// The digest of a flow under one table's key. 0 stands for an empty slot, so it is never one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct FlowDigest(u64);

/// A keyed hash of flow keys: without the key nobody can choose flows that share a set or a digest.
///
/// NH over 64-bit words (two different keys of `N` words give the same 128 bits with a probability of at most 2^-64), then a
/// strongly universal multilinear step down to 64 bits, scrambled. It was chosen over SipHash-1-3 by measurement
/// (`benches/state.rs`): for the 40 bytes of an IPv6 5-tuple it takes 4.3 ns in place of 14.3.
/// # Source
/// NH: RFC 4418 section 5.2 (UMAC), with 64-bit words as in VMAC (draft-krovetz-vmac-01). Multilinear: Lemire and Kaser, "Strongly
/// universal string hashing is fast", 2014, section 2.
#[derive(Clone)]
pub struct KeyedHash {
    words: [u64; Self::MOST_WORDS],
    lo: u128,
    hi: u128,
    offset: u128,
}

impl FlowDigest {
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl KeyedHash {
    /// The longest flow key, in words.
    const MOST_WORDS: usize = 8;

    /// Takes words 0..22 of the secret.
    pub fn new(secret: &Secret) -> KeyedHash {
        let wide = |index| u128::from(secret.word(index)) << 64 | u128::from(secret.word(index + 1));
        let words = std::array::from_fn(|index| secret.word(index as u64));
        KeyedHash { words, lo: wide(16), hi: wide(18), offset: wide(20) }
    }

    /// Digests a flow key of `N` words, at most `MOST_WORDS`. A table must be used with one `N` only.
    #[inline(always)]
    pub fn digest<const N: usize>(&self, key: &[u64; N]) -> FlowDigest {
        const { assert!(N <= Self::MOST_WORDS) };
        let mut sum = 0u128;
        for (pair, secret) in key.chunks(2).zip(self.words.chunks_exact(2)) {
            let second = pair.get(1).copied().unwrap_or(0);
            sum = sum.wrapping_add(
                u128::from(pair[0].wrapping_add(secret[0])) * u128::from(second.wrapping_add(secret[1])),
            );
        }
        let (hi, lo) = (sum >> 64, u128::from(sum as u64));
        let line =
            self.offset.wrapping_add(self.lo.wrapping_mul(lo)).wrapping_add(self.hi.wrapping_mul(hi));
        FlowDigest(scramble((line >> 64) as u64).max(1))
    }
}

/// SplitMix64's output function, a bijection. The multilinear step alone keeps arithmetic progressions, such as the addresses of a
/// scan, and under some keys lays them on few sets; what it guarantees of pairs a bijection leaves as it is.
#[inline(always)]
fn scramble(line: u64) -> u64 {
    let line = (line ^ line >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let line = (line ^ line >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    line ^ line >> 31
}

/// How long a flow is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// A flow without a packet for longer than this is over.
    pub idle_ns: u64,
    /// A flow older than this is over even if it is alive; its next packet begins it anew.
    pub absolute_ns: u64,
}

impl Timeouts {
    /// 60 s without a packet, no limit of age.
    pub const DEFAULT: Timeouts = Timeouts { idle_ns: 60_000_000_000, absolute_ns: u64::MAX };
}

/// The result of a look-up: whether a flow was known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    Known,
    /// It has its slot from this call on, with the value's default.
    Begun,
}

const WAYS: usize = 8;
/// A flow goes to its first set, where it is found soonest, while that has as many empty slots as this.
const WAYS_KEPT_BACK: u32 = 3;

/// Eight slots. The digests fill one cache line and the times the next, so that a lookup touches two lines and the value.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Set<V> {
    digests: [u64; WAYS],
    seen: [Seen; WAYS],
    values: [V; WAYS],
}

/// When a flow had its last packet, and in the low bits when it had its first.
///
/// The last in ticks of 2^20 ns, about a millisecond, for all times that there are: none is taken for another. The first in steps
/// of ticks, so many a step that the greatest age is some 2^19 of them; its bits above those that are kept are told by the last.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Seen(u64);

const TICK_SHIFT: u32 = 20;
const FIRST_BITS: u32 = 20;
const FIRST_MASK: u64 = (1 << FIRST_BITS) - 1;

impl Seen {
    #[inline(always)]
    fn begun(now: u64, step_shift: u32) -> Seen {
        Seen(now << FIRST_BITS | now >> step_shift & FIRST_MASK)
    }

    /// The tick of the last packet.
    #[inline(always)]
    fn last(self) -> u64 {
        self.0 >> FIRST_BITS
    }

    /// Ticks from the first packet to the last.
    #[inline(always)]
    fn span(self, step_shift: u32) -> u64 {
        ((self.last() >> step_shift).wrapping_sub(self.0) & FIRST_MASK) << step_shift
    }

    /// A packet came that is not so late that the flow is over.
    #[inline(always)]
    fn again(self, now: u64) -> Seen {
        Seen(self.last().max(now) << FIRST_BITS | self.0 & FIRST_MASK)
    }
}

impl<V> Set<V> {
    /// The ways that hold `digest` (0: the empty ones), a bit each. Compares all eight without a branch.
    #[inline(always)]
    fn ways_of(&self, digest: u64) -> u32 {
        self.digests
            .iter()
            .enumerate()
            .fold(0, |ways, (way, &held)| ways | u32::from(held == digest) << way)
    }
}

/// The flows that one worker remembers, with a value for each.
pub struct FlowTable<V> {
    sets: Box<[Set<V>]>,
    hash: KeyedHash,
    idle_ticks: u64,
    absolute_ticks: u64,
    /// Ticks of a step of [`Seen`]'s first packet, as a power of two.
    step_shift: u32,
    counters: FlowCounters,
}

impl<V: Copy + Default> FlowTable<V> {
    /// Makes room for `flows` flows at a time and touches all of it. With that many alive, two thirds of the slots full,
    /// evictions are rare; beyond it they replace the most silent flows.
    pub fn new(flows: usize, timeouts: Timeouts, hash: KeyedHash) -> FlowTable<V> {
        let empty = Set { digests: [0; WAYS], seen: [Seen::default(); WAYS], values: [V::default(); WAYS] };
        let sets = Self::sets_for(flows);
        let absolute_ticks = ticks(timeouts.absolute_ns);
        FlowTable {
            sets: vec![empty; sets].into_boxed_slice(),
            hash,
            idle_ticks: ticks(timeouts.idle_ns),
            absolute_ticks,
            step_shift: (u64::BITS - absolute_ticks.leading_zeros()).saturating_sub(FIRST_BITS - 1),
            counters: FlowCounters::default(),
        }
    }

    fn sets_for(flows: usize) -> usize {
        (flows + flows / 2).div_ceil(WAYS).max(2)
    }

    /// Bytes that a table for `flows` flows takes.
    pub fn bytes_for(flows: usize) -> usize {
        Self::sets_for(flows) * size_of::<Set<V>>()
    }

    /// Slots, half as many again as the flows that were asked for.
    pub fn slot_count(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The hash that digests this table's flow keys.
    #[inline(always)]
    pub fn hash(&self) -> &KeyedHash {
        &self.hash
    }

    pub fn counters(&self) -> FlowCounters {
        self.counters
    }

    /// Slots in use, by flows that are alive or timed out unnoticed. Walks the table: for snapshots, not for packets.
    pub fn occupied(&self) -> usize {
        self.sets.iter().map(|set| WAYS - set.ways_of(0).count_ones() as usize).sum()
    }

    /// The values of the flows that are alive. Walks the table.
    pub fn alive(&self, now_ns: u64) -> impl Iterator<Item = &V> {
        let now = tick(now_ns);
        self.sets.iter().flat_map(move |set| {
            (0..WAYS)
                .filter(move |&way| set.digests[way] != 0 && !self.is_over(set, way, now))
                .map(move |way| &set.values[way])
        })
    }

    /// The value of a flow that is alive, without noting that it was seen.
    pub fn get(&self, digest: FlowDigest, now_ns: u64) -> Option<&V> {
        let (index, way) = self.find(digest)?;
        let set = &self.sets[index];
        (!self.is_over(set, way, tick(now_ns))).then(|| &set.values[way])
    }

    /// The value of the packet's flow, which gets a slot if it has none, and is noted as seen at `now_ns`.
    #[inline]
    pub fn entry(&mut self, digest: FlowDigest, now_ns: u64) -> (&mut V, Found) {
        let now = tick(now_ns);
        let Some((index, way)) = self.find(digest) else {
            let (index, way) = self.make_room(digest, now);
            return (self.begin(index, way, digest, now), Found::Begun);
        };
        if self.is_over(&self.sets[index], way, now) {
            self.counters.over += 1;
            return (self.begin(index, way, digest, now), Found::Begun);
        }
        let set = &mut self.sets[index];
        set.seen[way] = set.seen[way].again(now);
        (&mut set.values[way], Found::Known)
    }

    /// Reads what `entry` will need first of a burst's flows, and nothing else, so that their cache misses overlap.
    #[inline]
    pub fn load(&self, digests: impl Iterator<Item = FlowDigest>) {
        let lines = digests.fold(0, |lines, digest| {
            let set = &self.sets[self.set_indices(digest)[0]];
            lines ^ set.digests[0] ^ set.seen[0].0
        });
        std::hint::black_box(lines);
    }

    /// Gives the set and the slot of the flow. The second set is read only if the first does not have it: on tables larger than the
    /// cache, reading both at once took half as long again.
    #[inline(always)]
    fn find(&self, digest: FlowDigest) -> Option<(usize, usize)> {
        let [first, second] = self.set_indices(digest);
        for index in [first, second] {
            let ways = self.sets[index].ways_of(digest.0);
            if ways != 0 {
                return Some((index, ways.trailing_zeros() as usize % WAYS));
            }
        }
        None
    }

    /// Gives the two sets that a flow may be in, by two parts of its digest.
    #[inline(always)]
    fn set_indices(&self, digest: FlowDigest) -> [usize; 2] {
        let sets = self.sets.len() as u128;
        let scaled = |bits: u64| ((u128::from(bits) * sets) >> 64) as usize;
        // The golden ratio's odd multiple brings the low bits up, which the first set does not depend on.
        [scaled(digest.0), scaled(digest.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))]
    }

    #[inline(always)]
    fn is_over(&self, set: &Set<V>, way: usize, now: u64) -> bool {
        let seen = set.seen[way];
        let silent = age(now, seen.last(), self.idle_ticks);
        silent > self.idle_ticks || silent.saturating_add(seen.span(self.step_shift)) > self.absolute_ticks
    }

    /// A slot for a flow that has none: an empty one in its first set, or in the emptier one when that fills up, else one whose
    /// flow is over, else the most silent flow's.
    #[cold]
    fn make_room(&mut self, digest: FlowDigest, now: u64) -> (usize, usize) {
        let candidates = self.set_indices(digest);
        let empty = candidates.map(|index| self.sets[index].ways_of(0));
        let choice = usize::from(
            empty[0].count_ones() < WAYS_KEPT_BACK && empty[1].count_ones() > empty[0].count_ones(),
        );
        if empty[choice] != 0 {
            return (candidates[choice], empty[choice].trailing_zeros() as usize);
        }
        let slots = candidates.into_iter().flat_map(|index| (0..WAYS).map(move |way| (index, way)));
        let Some(victim) = slots.max_by_key(|&(index, way)| {
            let set = &self.sets[index];
            (self.is_over(set, way, now), age(now, set.seen[way].last(), self.idle_ticks))
        }) else {
            unreachable!("there are two sets of eight slots");
        };
        if self.is_over(&self.sets[victim.0], victim.1, now) {
            self.counters.over += 1;
        } else {
            self.counters.evicted += 1;
        }
        victim
    }

    fn begin(&mut self, index: usize, way: usize, digest: FlowDigest, now: u64) -> &mut V {
        self.counters.begun += 1;
        let set = &mut self.sets[index];
        set.digests[way] = digest.0;
        set.seen[way] = Seen::begun(now, self.step_shift);
        set.values[way] = V::default();
        &mut set.values[way]
    }
}

#[inline(always)]
fn tick(now_ns: u64) -> u64 {
    now_ns >> TICK_SHIFT
}

/// A timeout in ticks, rounded up: a flow may live for a tick longer, and is not ended before its time.
fn ticks(timeout_ns: u64) -> u64 {
    timeout_ns.div_ceil(1 << TICK_SHIFT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const TICK: u64 = 1 << TICK_SHIFT;
    const START: u64 = 1_700_000_000_000_000_000;

    fn table(flows: usize, idle_ticks: u64, absolute_ticks: u64) -> FlowTable<u64> {
        let timeouts = Timeouts { idle_ns: idle_ticks * TICK, absolute_ns: absolute_ticks * TICK };
        FlowTable::new(flows, timeouts, KeyedHash::new(&Secret::from_seed(1)))
    }

    /// How the time of a packet follows that of the one before.
    #[derive(Clone, Copy, Debug)]
    enum Jump {
        On(u64),
        Late(u64),
        /// To any time, of which nothing else knows.
        Wild(u64),
    }

    fn jumps() -> impl Strategy<Value = Jump> {
        let wild = prop_oneof![
            0..1u64 << (u64::BITS - TICK_SHIFT),
            Just((u64::from(u32::MAX) * 1_000_000_000) >> TICK_SHIFT)
        ];
        prop_oneof![
            12 => (0u64..4).prop_map(Jump::On), 4 => (0u64..60).prop_map(Jump::Late), 1 => wild.prop_map(Jump::Wild),
        ]
    }

    proptest! {
        /// As long as all flows fit, the table is a map whose entries end by their timeouts.
        #[test]
        fn a_table_with_room_is_a_map_with_timeouts(packets in prop::collection::vec((0u64..300, jumps()), 1..2000)) {
            let mut table = table(1000, 20, 50);
            let mut model: HashMap<u64, (u64, u64, u64)> = HashMap::new();
            let mut now = START >> TICK_SHIFT;
            let is_alive = |now: u64, (first, last, _): &(u64, u64, u64)| {
                let silent = if now < *last && last - now <= 20 { 0 } else { now.abs_diff(*last) };
                silent <= 20 && now.max(*last) - first <= 50
            };
            for (step, (flow, jump)) in packets.into_iter().enumerate() {
                let time = match jump {
                    Jump::On(ticks) => { now += ticks; now }
                    Jump::Late(ticks) => now - ticks,
                    Jump::Wild(ticks) => ticks,
                };
                let digest = table.hash().digest(&[flow]);
                let known = model.get(&flow).filter(|entry| is_alive(time, entry)).copied();
                prop_assert_eq!(table.get(digest, time << TICK_SHIFT).copied(), known.map(|(_, _, value)| value));
                let (value, found) = table.entry(digest, time << TICK_SHIFT);
                prop_assert_eq!(found == Found::Known, known.is_some());
                prop_assert_eq!(*value, known.map_or(0, |(_, _, value)| value));
                *value = step as u64;
                let (first, last) = known.map_or((time, time), |(first, last, _)| (first, last.max(time)));
                model.insert(flow, (first, last, step as u64));
            }
            prop_assert_eq!(table.counters().evicted, 0);
            let alive = model.values().filter(|entry| is_alive(now, entry)).count();
            prop_assert_eq!(table.alive(now << TICK_SHIFT).count(), alive);
        }

        /// Far too many flows: what is found is always that flow's own value, and every flow that began is accounted for.
        #[test]
        fn an_overfull_table_forgets_flows_but_never_mixes_them_up(packets in prop::collection::vec((0u64..400, 0u64..3), 1..3000)) {
            let mut table = table(30, 10, 1000);
            let mut last_stored = HashMap::new();
            let mut now = START;
            for (step, (flow, later)) in packets.into_iter().enumerate() {
                now += later * TICK;
                let digest = table.hash().digest(&[flow]);
                let (value, found) = table.entry(digest, now);
                match found {
                    Found::Known => prop_assert_eq!(Some(&*value), last_stored.get(&flow)),
                    Found::Begun => prop_assert_eq!(*value, 0),
                }
                *value = step as u64 + 1;
                last_stored.insert(flow, step as u64 + 1);
                prop_assert_eq!(table.get(digest, now), Some(&(step as u64 + 1)));
            }
            let FlowCounters { begun, over, evicted } = table.counters();
            prop_assert_eq!(begun, over + evicted + table.occupied() as u64);
            prop_assert!(table.occupied() <= table.slot_count());
        }
    }

    /// NH, the multilinear step and the set choice must spread even the most regular keys as random numbers would: Pearson's
    /// statistic over the first set's index.
    #[test]
    fn regular_keys_spread_over_the_sets_as_random_ones_would() {
        for seed in 0..10 {
            let table: FlowTable<u64> =
                FlowTable::new(16 * 1024, Timeouts::DEFAULT, KeyedHash::new(&Secret::from_seed(seed)));
            let mut counts = vec![0u32; table.sets.len()];
            for address in 0..65_536u64 {
                let digest =
                    table.hash().digest(&[0x0a00_0000_0000 + address, 0x0a01_0101, 0, 443 << 16, 6]);
                counts[table.set_indices(digest)[0]] += 1;
            }
            let expected = 65_536.0 / counts.len() as f64;
            let statistic: f64 =
                counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
            let freedom = counts.len() as f64 - 1.0;
            // Over this many cells the statistic is nearly normal: mean k, variance 2k. Fewer collisions than random ones are no
            // fault.
            assert!(
                (statistic - freedom) / (2.0 * freedom).sqrt() < 4.0,
                "seed {seed}: {statistic} over {freedom}"
            );
        }
    }

    #[test]
    fn a_table_holds_the_flows_it_was_made_for_with_hardly_an_eviction() {
        let mut table = table(100_000, 1_000, 1_000_000);
        for flow in 0..100_000u64 {
            let digest = table.hash().digest(&[flow, 7]);
            table.entry(digest, START);
        }
        assert!(table.counters().evicted <= 20, "{:?}", table.counters());
        assert_eq!(table.occupied() as u64, 100_000 - table.counters().evicted);
    }

    #[test]
    fn ten_million_flows_fit_in_a_gibibyte() {
        assert_eq!(size_of::<Set<u64>>(), 192);
        assert_eq!(FlowTable::<u64>::bytes_for(10_000_000), 360_000_000);
        assert!(FlowTable::<[u64; 4]>::bytes_for(10_000_000) < 1 << 30, "even with 32 bytes for each");
    }

    #[test]
    fn the_most_silent_flow_is_evicted_and_one_that_is_over_before_it() {
        let mut table = table(1, 100, 1_000_000);
        assert_eq!(table.slot_count(), 16, "two sets, so that every flow may sit in either");
        let mut flow = 0u64;
        let mut begun = Vec::new();
        while begun.len() < 16 {
            let digest = table.hash().digest(&[flow]);
            if table.set_indices(digest)[0] != table.set_indices(digest)[1] {
                table.entry(digest, START + begun.len() as u64 * TICK);
                begun.push(digest);
            }
            flow += 1;
        }
        assert_eq!(table.counters(), FlowCounters { begun: 16, over: 0, evicted: 0 });
        // Flow 0 speaks again, so flow 1 is the most silent.
        table.entry(begun[0], START + 20 * TICK);
        while table.set_indices(table.hash().digest(&[flow]))[0]
            == table.set_indices(table.hash().digest(&[flow]))[1]
        {
            flow += 1;
        }
        let digest = table.hash().digest(&[flow]);
        table.entry(digest, START + 21 * TICK);
        assert_eq!(table.counters(), FlowCounters { begun: 17, over: 0, evicted: 1 });
        assert_eq!(table.get(begun[1], START + 21 * TICK), None);
        assert!(table.get(begun[0], START + 21 * TICK).is_some());
        // After 104 ticks flow 2 (seen at tick 2) has been idle for more than 100, and so was flow 3.
        table.entry(begun[1], START + 104 * TICK);
        assert_eq!(table.counters(), FlowCounters { begun: 18, over: 1, evicted: 1 });
        assert_eq!(table.get(begun[2], START + 102 * TICK), None);
    }

    #[test]
    fn a_packet_that_is_late_ends_no_flow_and_makes_none_younger() {
        let mut table = table(10, 5, 8);
        let digest = table.hash().digest(&[1]);
        table.entry(digest, START);
        assert_eq!(table.entry(digest, START - 5 * TICK).1, Found::Known);
        assert_eq!(
            table.entry(digest, START + 5 * TICK).1,
            Found::Known,
            "it was seen at START all the same"
        );
        assert_eq!(table.entry(digest, START + 9 * TICK).1, Found::Begun, "older than eight ticks");
    }

    #[test]
    fn one_wild_time_ends_its_own_flow_alone() {
        const WILD: u64 = u32::MAX as u64 * 1_000_000_000;
        let mut table = table(10, 20, 1000);
        let [hit, other] = [1, 2].map(|flow| table.hash().digest(&[flow]));
        table.entry(hit, START);
        table.entry(other, START);
        assert_eq!(table.entry(hit, WILD).1, Found::Begun);
        assert_eq!(table.entry(other, START + TICK).1, Found::Known);
        assert_eq!(
            table.entry(hit, START + TICK).1,
            Found::Begun,
            "what is newer by more than the time of idleness is over"
        );
        assert_eq!(table.entry(hit, START + 2 * TICK).1, Found::Known);
        assert_eq!(table.counters(), FlowCounters { begun: 4, over: 2, evicted: 0 });
    }

    #[test]
    fn a_greatest_age_is_kept_to_a_millionth_part_however_great() {
        for absolute_ns in [3_600 * 1_000_000_000, 400 * 86_400 * 1_000_000_000, u64::MAX] {
            let timeouts = Timeouts { idle_ns: u64::MAX, absolute_ns };
            let mut table: FlowTable<u64> =
                FlowTable::new(10, timeouts, KeyedHash::new(&Secret::from_seed(1)));
            let digest = table.hash().digest(&[1]);
            table.entry(digest, 12_345);
            // a packet now and then, up to the end
            let slack = absolute_ns / 250_000 + TICK;
            let alive = absolute_ns - slack;
            for step in 1..=100 {
                assert_eq!(
                    table.entry(digest, 12_345 + alive / 100 * step).1,
                    Found::Known,
                    "{absolute_ns} {step}"
                );
            }
            if let Some(end) = absolute_ns.checked_add(12_345 + slack) {
                assert_eq!(table.entry(digest, end).1, Found::Begun, "{absolute_ns}");
            }
        }
    }
}
