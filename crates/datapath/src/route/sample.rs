//! Sampling: clears from a rule's selection the packets that its sampler leaves out.
//!
//! Stands between classify and route. A `Sampler` is a plain value owned by one worker and one rule; it is told everything it
//! judges by (flow hashes, lengths, the time), so that the same burst always gives the same answer. Words are those of RFC 5475
//! (PSAMP): a sampler here is a *selector*, and what it keeps is reported with the probability that exporters need to scale counts.
//!
//! With several workers each one owns its own sampler. `Flow` and `Every` decide by the packet alone, so all workers agree.
//! `Systematic` counts and `Random` draws per worker, which keeps the ratio but not one spacing over all ports. `First` and `Rate`
//! need all packets of a flow on one worker (symmetric RSS, or software distribution by flow hash), as the broker arranges; `Rate`
//! gives each worker an equal part of its budget, so the sum never exceeds it, and each worker has a share of its own.

use std::num::NonZeroU32;

use crate::counters::SamplerCounters;
use crate::flow::table::{FlowDigest, FlowTable, KeyedHash, Timeouts};
use crate::receive::times::{Times, age};
use tapline_api::snapshot::FlowCounters;
use tapline_api::values;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::mix::{SplitMix64, mix};

/// The settings of a rule's `sample` words. Each worker makes its own `Sampler` from them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SampleSpec {
    /// `sample 1/N`: the first packet and every N-th after it. RFC 5475 section 5.1, systematic count-based.
    Systematic { one_in: NonZeroU32 },
    /// `sample random 1/N`: each packet by itself with probability 1/N. RFC 5475 section 5.2.2.1, uniform probabilistic.
    Random { one_in: NonZeroU32 },
    /// `sample flow 1/N [seed S]`: the flows whose hash falls in the chosen 1/N. RFC 5475 section 6.2, hash-based filtering.
    Flow { one_in: NonZeroU32, seed: u64 },
    /// `sample first N packets|BYTES bytes`: the beginning of each flow; the rest is shunted. Flow-state dependent, in RFC 7014's
    /// words.
    First { limit: FirstLimit },
    /// `sample rate 100kpps|1gbit`: a share of the flows, adapted so that what is kept stays within the budget.
    Rate { budget: values::Rate, seed: u64 },
    /// `sample every 10s for 1s`: packets whose times are in the first `length_ns` of each `period_ns` since the Unix epoch.
    /// RFC 5475 section 5.1, systematic time-based.
    Every { period_ns: u64, length_ns: u64 },
}

/// How much of each flow `sample first` keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstLimit {
    Packets(u64),
    /// Bytes on the wire, from the Ethernet header on. The packet that reaches the limit is kept whole.
    Bytes(u64),
}

/// One worker's share of what a rule remembers: which of the workers it is, where its random choices start from, and the memory that it may
/// take.
#[derive(Clone)]
pub struct WorkerShare {
    /// 0.. of `workers`.
    pub index: u32,
    /// The number of workers that run the rule: each gets an equal part of a `Rate` budget.
    pub workers: NonZeroU32,
    /// Start of random sampling; equal seeds give equal choices. Each worker draws a sequence of its own from it.
    pub random_seed: u64,
    /// Flows that `First` remembers at a time: this rule's part of `set flows`.
    pub flows: usize,
    pub timeouts: Timeouts,
    /// The key of the flow table: from `Secret::random()` where packets come from strangers.
    pub flow_hash: KeyedHash,
}

impl SampleSpec {
    /// The probability with which a packet is kept, 0.0..=1.0, where traffic does not change it.
    pub fn share(&self) -> Option<f64> {
        match *self {
            SampleSpec::Systematic { one_in }
            | SampleSpec::Random { one_in }
            | SampleSpec::Flow { one_in, .. } => Some(1.0 / f64::from(one_in.get())),
            SampleSpec::Every { period_ns, length_ns } => {
                Some((length_ns as f64 / period_ns.max(1) as f64).min(1.0))
            }
            SampleSpec::First { .. } | SampleSpec::Rate { .. } => None,
        }
    }

    /// Returns whether its samplers remember flows.
    pub fn has_flow_table(&self) -> bool {
        matches!(self, SampleSpec::First { .. })
    }

    /// Returns whether its samplers read `SampleInputs::hashes`.
    pub fn needs_hashes(&self) -> bool {
        matches!(self, SampleSpec::Flow { .. } | SampleSpec::First { .. } | SampleSpec::Rate { .. })
    }

    /// Returns whether its samplers read `SampleInputs::lens`.
    pub fn needs_lens(&self) -> bool {
        matches!(
            self,
            SampleSpec::Rate { budget: values::Rate::BitsPerSecond(_), .. }
                | SampleSpec::First { limit: FirstLimit::Bytes(_) }
        )
    }

    /// Returns whether its samplers read `SampleInputs::times`.
    pub fn needs_time(&self) -> bool {
        matches!(self, SampleSpec::Rate { .. } | SampleSpec::First { .. } | SampleSpec::Every { .. })
    }
}

/// The burst, as samplers see it: entry `i` of each slice is packet `i`.
#[derive(Clone, Copy)]
pub struct SampleInputs<'a> {
    /// Symmetric flow hashes, equal for both directions and, for flow sampling to agree between brokers, not keyed at random.
    /// May be empty where `SampleSpec::needs_hashes` is false.
    pub hashes: &'a [u64],
    /// Bytes on the wire. May be empty where `SampleSpec::needs_lens` is false.
    pub lens: &'a [u32],
    pub times: Times<'a>,
}

/// One rule's sampler on one worker. Matched once a burst.
pub enum Sampler {
    Systematic(Systematic),
    Random(Random),
    Flow(FlowShare),
    First(First),
    Rate(Rate),
    Every(Every),
}

impl Sampler {
    pub fn new(spec: &SampleSpec, worker: &WorkerShare) -> Sampler {
        match *spec {
            SampleSpec::Systematic { one_in } => {
                Sampler::Systematic(Systematic { one_in: one_in.get(), skip: 0 })
            }
            SampleSpec::Random { one_in } => {
                Sampler::Random(Random::new(one_in, worker.random_seed ^ mix(worker.index.into(), 0)))
            }
            SampleSpec::Flow { one_in, seed } => Sampler::Flow(FlowShare::one_in(one_in, seed)),
            SampleSpec::First { limit } => Sampler::First(First::new(limit, worker)),
            SampleSpec::Rate { budget, seed } => Sampler::Rate(Rate::new(budget, seed, worker.workers)),
            SampleSpec::Every { period_ns, length_ns } => {
                Sampler::Every(Every { period_ns: period_ns.max(1), length_ns })
            }
        }
    }

    /// The packets of `selection` that are kept; the others are `sampled_out`.
    ///
    /// # Panics
    /// If a slice that this sampler needs is shorter than the highest selected packet.
    #[inline]
    pub fn sample(&mut self, selection: Selection, inputs: &SampleInputs<'_>) -> Selection {
        match self {
            Sampler::Systematic(systematic) => systematic.sample(selection),
            Sampler::Random(random) => random.sample(selection),
            Sampler::Flow(share) => share.sample(selection, inputs.hashes),
            Sampler::First(first) => first.sample(selection, inputs),
            Sampler::Rate(rate) => rate.sample(selection, inputs),
            Sampler::Every(every) => every.sample(selection, &inputs.times),
        }
    }

    /// The probability with which a packet is kept at this moment, 0.0..=1.0: what an exporter divides its counts by. For `First`
    /// it is the part that was kept so far, because no probability is known beforehand.
    pub fn share(&self) -> f64 {
        match self {
            Sampler::Systematic(systematic) => 1.0 / f64::from(systematic.one_in),
            Sampler::Random(random) => 1.0 / f64::from(random.one_in),
            Sampler::Flow(share) => share.share(),
            Sampler::First(first) => first.share(),
            Sampler::Rate(rate) => rate.flows.share(),
            Sampler::Every(every) => (every.length_ns as f64 / every.period_ns as f64).min(1.0),
        }
    }

    /// Gives what the next packets are judged by.
    pub fn draw(&self) -> Draw {
        match self {
            Sampler::Systematic(systematic) => {
                Draw::Systematic { one_in: systematic.one_in, skip: systematic.skip }
            }
            Sampler::Random(random) => Draw::Random { one_in: random.one_in },
            Sampler::Flow(share) => Draw::Flow { seed: share.seed, limit: share.limit },
            Sampler::First(_) => Draw::First,
            Sampler::Rate(rate) => Draw::Rate { seed: rate.flows.seed, limit: rate.flows.limit },
            Sampler::Every(every) => Draw::Every { period_ns: every.period_ns, length_ns: every.length_ns },
        }
    }

    /// Leaves in the worker's counters what changes from burst to burst.
    #[inline]
    pub fn report(&self, counters: &SamplerCounters) {
        match self {
            Sampler::First(first) => {
                counters.share.set(first.share().to_bits());
                let FlowCounters { begun, over, evicted } = first.flows.counters();
                counters.flows_begun.set(begun);
                counters.flows_over.set(over);
                counters.flows_evicted.set(evicted);
            }
            Sampler::Rate(rate) => counters.share.set(rate.flows.share().to_bits()),
            Sampler::Systematic(_) | Sampler::Random(_) | Sampler::Flow(_) | Sampler::Every(_) => {}
        }
    }
}

/// The state of a sampler in front of a burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Draw {
    /// So many packets are skipped before the next one is kept.
    Systematic {
        one_in: u32,
        skip: u32,
    },
    Random {
        one_in: u32,
    },
    /// Flows whose hash, mixed with the seed, is at most `limit` are kept.
    Flow {
        seed: u64,
        limit: u64,
    },
    First,
    /// As of `Flow`; the limit follows the budget.
    Rate {
        seed: u64,
        limit: u64,
    },
    Every {
        period_ns: u64,
        length_ns: u64,
    },
}

/// Keeps one packet, skips `one_in - 1`, and so on over all bursts.
pub struct Systematic {
    one_in: u32,
    /// Packets still to skip before the next one is kept.
    skip: u32,
}

impl Systematic {
    #[inline]
    fn sample(&mut self, selection: Selection) -> Selection {
        let count = selection.count();
        let mut kept = 0;
        let mut ordinal = self.skip;
        while ordinal < count {
            kept |= nth_packet(selection, ordinal);
            ordinal = ordinal.saturating_add(self.one_in);
        }
        self.skip = ordinal - count;
        Selection::from_bits(kept)
    }
}

/// Keeps each packet with probability `1 / one_in`, independently of all others.
///
/// It draws how many packets to skip (a geometric number) instead of one number a packet, so the cost is per kept packet.
pub struct Random {
    one_in: u32,
    /// 1 / ln(1 - 1/N).
    inverse_log: f64,
    skip: u64,
    rng: SplitMix64,
}

impl Random {
    fn new(one_in: NonZeroU32, seed: u64) -> Random {
        let left_out = 1.0 - 1.0 / f64::from(one_in.get());
        let mut random = Random {
            one_in: one_in.get(),
            inverse_log: left_out.ln().recip(),
            skip: 0,
            rng: SplitMix64(seed),
        };
        random.skip = random.draw_skip();
        random
    }

    /// Packets left out before the next kept one: floor(ln(U) / ln(1 - p)), U uniform in (0, 1].
    #[inline]
    fn draw_skip(&mut self) -> u64 {
        if self.one_in == 1 {
            return 0;
        }
        let uniform = ((self.rng.next() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
        (uniform.ln() * self.inverse_log) as u64
    }

    #[inline]
    fn sample(&mut self, selection: Selection) -> Selection {
        let count = u64::from(selection.count());
        let mut kept = 0;
        let mut ordinal = self.skip;
        while ordinal < count {
            kept |= nth_packet(selection, ordinal as u32);
            ordinal += 1 + self.draw_skip();
        }
        self.skip = ordinal - count;
        Selection::from_bits(kept)
    }
}

/// Keeps the flows whose mixed hash is below a threshold. A larger share keeps every flow of a smaller one.
pub struct FlowShare {
    seed: u64,
    /// Flows with `mix(hash, seed) <= limit` are kept: a share of `(limit + 1) / 2^64`.
    limit: u64,
}

impl FlowShare {
    fn one_in(one_in: NonZeroU32, seed: u64) -> FlowShare {
        FlowShare { seed, limit: u64::MAX / u64::from(one_in.get()) }
    }

    fn share(&self) -> f64 {
        (self.limit as f64 + 1.0) / 2f64.powi(64)
    }

    #[inline]
    fn sample(&self, selection: Selection, hashes: &[u64]) -> Selection {
        selection.filter(|index| mix(hashes[index], self.seed) <= self.limit)
    }
}

/// Keeps each flow until it has had its packets or bytes, so that elephants stop costing and handshakes stay.
pub struct First {
    limit: FirstLimit,
    /// Packets or bytes of each flow that were kept.
    flows: FlowTable<u64>,
    seen: u64,
    kept: u64,
}

impl First {
    fn new(limit: FirstLimit, worker: &WorkerShare) -> First {
        First {
            limit,
            flows: FlowTable::new(worker.flows, worker.timeouts, worker.flow_hash.clone()),
            seen: 0,
            kept: 0,
        }
    }

    fn share(&self) -> f64 {
        if self.seen == 0 { 1.0 } else { self.kept as f64 / self.seen as f64 }
    }

    #[inline]
    fn sample(&mut self, selection: Selection, inputs: &SampleInputs<'_>) -> Selection {
        let kept = match self.limit {
            FirstLimit::Packets(limit) => self.keep_until(limit, selection, inputs, |_| 1),
            FirstLimit::Bytes(limit) => {
                self.keep_until(limit, selection, inputs, |index| inputs.lens[index].into())
            }
        };
        self.seen += u64::from(selection.count());
        self.kept += u64::from(kept.count());
        kept
    }

    #[inline]
    fn keep_until(
        &mut self,
        limit: u64,
        selection: Selection,
        inputs: &SampleInputs<'_>,
        cost: impl Fn(usize) -> u64,
    ) -> Selection {
        let mut digests = [FlowDigest::default(); MAX_BURST];
        for index in selection.indices() {
            digests[index] = self.flows.hash().digest(&[inputs.hashes[index]]);
        }
        self.flows.load(selection.indices().map(|index| digests[index]));
        selection.filter(|index| {
            let (had, _) = self.flows.entry(digests[index], inputs.times.of(index));
            let is_kept = *had < limit;
            if is_kept {
                *had += cost(index);
            }
            is_kept
        })
    }
}

/// The window over which `Rate` compares what it kept with its budget, if that is a packet or more in this time.
const RATE_WINDOW_NS: u64 = 100_000_000;
/// The bits that count as one packet of a budget in bits: those of a full-length frame with a tag.
const RATE_PACKET_BITS: u64 = 1518 * 8;
/// The least share of flows that `Rate` goes down to: one in 2^32.
const RATE_LEAST_LIMIT: u64 = u32::MAX as u64;

/// Keeps a share of the flows, lowered as soon as a window's budget is used up and raised gently while budget is left over.
///
/// Shares are nested, so lowering the share ends some flows and raising it again brings back the same ones. One window may exceed
/// its budget by what was kept before the share came down: at most a second window's worth plus one burst for each halving.
pub struct Rate {
    flows: FlowShare,
    bits: bool,
    /// `RATE_WINDOW_NS`, or the time in which the budget grows by one packet.
    window_ns: u64,
    /// Packets or bits that one window may keep.
    window_budget: u64,
    window_start_ns: u64,
    window_kept: u64,
}

impl Rate {
    fn new(budget: values::Rate, seed: u64, workers: NonZeroU32) -> Rate {
        let (bits, per_second, packet) = match budget {
            values::Rate::PacketsPerSecond(packets) => (false, packets, 1),
            values::Rate::BitsPerSecond(bits) => (true, bits, RATE_PACKET_BITS),
        };
        let ns_per_unit = 1e9 * f64::from(workers.get()) / per_second.max(1) as f64;
        let window_ns = RATE_WINDOW_NS.max((packet as f64 * ns_per_unit).ceil() as u64);
        let window_budget = (window_ns as f64 / ns_per_unit) as u64;
        Rate {
            flows: FlowShare { seed, limit: u64::MAX },
            bits,
            window_ns,
            window_budget,
            window_start_ns: 0,
            window_kept: 0,
        }
    }

    #[inline]
    fn sample(&mut self, selection: Selection, inputs: &SampleInputs<'_>) -> Selection {
        match inputs.times.shared() {
            Some(now_ns) => self.sample_at(now_ns, selection, inputs),
            // wherever a burst ends, each packet is judged by what was kept before it
            None => selection.filter(|index| {
                !self.sample_at(inputs.times.of(index), Selection::only(index), inputs).is_empty()
            }),
        }
    }

    /// Judges packets that all came at `now_ns`.
    #[inline]
    fn sample_at(&mut self, now_ns: u64, selection: Selection, inputs: &SampleInputs<'_>) -> Selection {
        let elapsed_ns = age(now_ns, self.window_start_ns, self.window_ns);
        if elapsed_ns >= self.window_ns {
            self.raise(now_ns);
        } else if self.window_kept >= self.window_budget {
            self.lower(elapsed_ns, now_ns.max(self.window_start_ns));
        }
        let kept = self.flows.sample(selection, inputs.hashes);
        self.window_kept += match self.bits {
            true => kept.indices().map(|index| u64::from(inputs.lens[index]) * 8).sum(),
            false => u64::from(kept.count()),
        };
        kept
    }

    /// A whole window went by within budget: where a tenth or more is left over, a quarter more flows may come in.
    fn raise(&mut self, now_ns: u64) {
        if self.window_kept.saturating_mul(10) < self.window_budget.saturating_mul(9) {
            self.flows.limit = self.flows.limit.saturating_add(self.flows.limit / 4);
        }
        self.begin_window(now_ns);
    }

    /// The budget was used up after `elapsed_ns` of the window: the share goes down in that proportion, and by a twentieth more
    /// so that it settles below the budget.
    fn lower(&mut self, elapsed_ns: u64, now_ns: u64) {
        let fits = (elapsed_ns as f64 / self.window_ns as f64)
            * (self.window_budget as f64 / self.window_kept as f64)
            * 0.95;
        let limit = (self.flows.limit as f64 * fits.max(1.0 / 1024.0)) as u64;
        self.flows.limit = limit.max(RATE_LEAST_LIMIT);
        self.begin_window(now_ns);
    }

    fn begin_window(&mut self, now_ns: u64) {
        self.window_start_ns = now_ns;
        self.window_kept = 0;
    }
}

/// Keeps what is of the first part of each period of Unix time, so all workers and brokers keep the same moments.
pub struct Every {
    period_ns: u64,
    length_ns: u64,
}

impl Every {
    #[inline]
    fn sample(&self, selection: Selection, times: &Times<'_>) -> Selection {
        let is_in = |ns: u64| ns % self.period_ns < self.length_ns;
        match times.shared() {
            Some(now_ns) if is_in(now_ns) => selection,
            Some(_) => Selection::NONE,
            None => selection.filter(|index| is_in(times.of(index))),
        }
    }
}

/// The bit of the `ordinal`-th selected packet (from 0; there must be that many).
#[inline]
fn nth_packet(selection: Selection, ordinal: u32) -> u64 {
    let bits = selection.bits();
    if bits & bits.wrapping_add(1) == 0 {
        return 1 << ordinal;
    }
    nth_set_bit(bits, ordinal)
}

/// Halves the word six times by counting the bits of its lower half.
fn nth_set_bit(bits: u64, ordinal: u32) -> u64 {
    let (mut below, mut ordinal) = (0u32, ordinal);
    let mut width = MAX_BURST as u32 / 2;
    while width > 0 {
        let lower = (bits >> below & ((1 << width) - 1)).count_ones();
        if ordinal >= lower {
            ordinal -= lower;
            below += width;
        }
        width /= 2;
    }
    1 << below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::table::Secret;
    use proptest::prelude::*;

    fn one_in(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn worker(random_seed: u64) -> WorkerShare {
        WorkerShare {
            index: 0,
            workers: one_in(1),
            random_seed,
            flows: 1000,
            timeouts: Timeouts::DEFAULT,
            flow_hash: KeyedHash::new(&Secret::from_seed(random_seed)),
        }
    }

    fn inputs(hashes: &[u64]) -> SampleInputs<'_> {
        SampleInputs { hashes, lens: &[], times: Times::one(&0) }
    }

    proptest! {
        #[test]
        fn systematic_keeps_exactly_every_nth_selected_packet(n in 1u32..200, bursts in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut sampler = Sampler::new(&SampleSpec::Systematic { one_in: one_in(n) }, &worker(0));
            let mut seen = 0u32;
            for bits in bursts {
                let mut expected = 0;
                for index in 0..64 {
                    if bits >> index & 1 == 1 {
                        if seen.is_multiple_of(n) { expected |= 1 << index }
                        seen += 1;
                    }
                }
                prop_assert_eq!(sampler.sample(Selection::from_bits(bits), &inputs(&[])).bits(), expected);
            }
        }

        #[test]
        fn nth_set_bit_is_what_counting_finds(bits in any::<u64>(), ordinal in 0u32..64) {
            prop_assume!(ordinal < bits.count_ones());
            let index = (0..64).filter(|index| bits >> index & 1 == 1).nth(ordinal as usize).unwrap();
            prop_assert_eq!(nth_set_bit(bits, ordinal), 1 << index);
        }

        #[test]
        fn flow_sampling_keeps_or_leaves_a_flow_whole(seed in any::<u64>(), n in 1u32..50, flows in prop::collection::vec(any::<u64>(), 1..20),
                                                      packets in prop::collection::vec(0usize..1000, 1..64)) {
            let hashes: Vec<u64> = packets.iter().map(|packet| flows[packet % flows.len()]).collect();
            let spec = SampleSpec::Flow { one_in: one_in(n), seed };
            let (mut first, mut second) = (Sampler::new(&spec, &worker(1)), Sampler::new(&spec, &worker(2)));
            let selection = Selection::first(hashes.len());
            let kept = first.sample(selection, &inputs(&hashes));
            prop_assert_eq!(kept, second.sample(selection, &inputs(&hashes)), "two brokers with one seed agree");
            for (i, left) in hashes.iter().enumerate() {
                for (j, right) in hashes.iter().enumerate() {
                    prop_assert!(left != right || kept.contains(i) == kept.contains(j));
                }
            }
        }

        #[test]
        fn a_smaller_flow_share_is_part_of_a_larger_one(seed in any::<u64>(), hash in any::<u64>(), n in 2u32..1000) {
            let keeps = |n| !FlowShare::one_in(one_in(n), seed).sample(Selection::from_bits(1), &[hash]).is_empty();
            prop_assert!(!keeps(n) || keeps(n - 1));
        }

        #[test]
        fn first_keeps_the_beginning_of_each_flow(packets in prop::collection::vec((0u64..20, 64u32..1500), 1..1000), limit in 1u64..5000, in_bytes in any::<bool>()) {
            let limit = if in_bytes { FirstLimit::Bytes(limit) } else { FirstLimit::Packets(limit % 50) };
            let mut sampler = Sampler::new(&SampleSpec::First { limit }, &worker(4));
            let mut had = std::collections::HashMap::<u64, u64>::new();
            for burst in packets.chunks(64) {
                let (hashes, lens): (Vec<u64>, Vec<u32>) = burst.iter().copied().unzip();
                let kept = sampler.sample(Selection::first(burst.len()), &SampleInputs { hashes: &hashes, lens: &lens, times: Times::one(&1) });
                for (index, &(flow, len)) in burst.iter().enumerate() {
                    let had = had.entry(flow).or_default();
                    let expected = match limit {
                        FirstLimit::Packets(packets) => *had < packets,
                        FirstLimit::Bytes(bytes) => *had < bytes,
                    };
                    if expected { *had += if in_bytes { len.into() } else { 1 } }
                    prop_assert_eq!(kept.contains(index), expected);
                }
            }
        }

        #[test]
        fn no_sampler_keeps_what_was_not_selected(bits in any::<u64>(), hashes in prop::collection::vec(any::<u64>(), 64), now_ns in any::<u64>()) {
            let lens = [100u32; 64];
            for spec in [
                SampleSpec::Systematic { one_in: one_in(3) },
                SampleSpec::Random { one_in: one_in(3) },
                SampleSpec::Flow { one_in: one_in(3), seed: 1 },
                SampleSpec::First { limit: FirstLimit::Bytes(150) },
                SampleSpec::Rate { budget: values::Rate::BitsPerSecond(1_000), seed: 1 },
                SampleSpec::Every { period_ns: 10, length_ns: 5 },
            ] {
                let mut sampler = Sampler::new(&spec, &worker(9));
                for _ in 0..3 {
                    let kept = sampler.sample(Selection::from_bits(bits), &SampleInputs { hashes: &hashes, lens: &lens, times: Times::one(&now_ns) });
                    prop_assert_eq!(kept.bits() & !bits, 0);
                }
            }
        }
    }

    /// Pearson's statistic of the gaps between kept packets against the geometric distribution, in ten equal-probability-ish cells.
    #[test]
    fn gaps_between_randomly_kept_packets_are_geometric() {
        for (n, seed) in [(2u32, 1u64), (3, 2), (10, 3), (100, 4), (1000, 5)] {
            let mut sampler = Sampler::new(&SampleSpec::Random { one_in: one_in(n) }, &worker(seed));
            let p = 1.0 / f64::from(n);
            let edges: Vec<u64> = (1..10)
                .map(|tenth| ((1.0 - f64::from(tenth) / 10.0).ln() / (1.0 - p).ln()).ceil() as u64)
                .collect();
            let mut cells = [0u64; 10];
            let (mut gap, mut gaps) = (0u64, 0u64);
            while gaps < 20_000 {
                let selection = Selection::from_bits(0xffff_0fff_ffff_f0f1);
                let kept = sampler.sample(selection, &inputs(&[]));
                for index in selection.indices() {
                    if kept.contains(index) {
                        cells[edges.iter().filter(|&&edge| gap >= edge).count()] += 1;
                        (gap, gaps) = (0, gaps + 1);
                    } else {
                        gap += 1;
                    }
                }
            }
            let below = |gap: u64| 1.0 - (1.0 - p).powf(gap as f64);
            let mut statistic = 0.0;
            for (cell, &count) in cells.iter().enumerate() {
                let low = if cell == 0 { 0.0 } else { below(edges[cell - 1]) };
                let high = if cell == 9 { 1.0 } else { below(edges[cell]) };
                let expected = (high - low) * gaps as f64;
                if expected > 0.0 {
                    statistic += (count as f64 - expected).powi(2) / expected;
                } else {
                    assert_eq!(count, 0);
                }
            }
            // The 0.999 quantile of chi-square with 9 degrees of freedom; the seeds are fixed.
            assert!(statistic < 27.88, "1/{n}: chi-square {statistic}");
        }
    }

    #[test]
    fn random_sampling_of_all_keeps_all() {
        let mut sampler = Sampler::new(&SampleSpec::Random { one_in: one_in(1) }, &worker(3));
        for bits in [u64::MAX, 0b1011, 0] {
            assert_eq!(
                sampler.sample(Selection::from_bits(bits), &inputs(&[])),
                Selection::from_bits(bits)
            );
        }
    }

    #[test]
    fn workers_draw_different_random_packets() {
        let spec = SampleSpec::Random { one_in: one_in(4) };
        let mut first = Sampler::new(&spec, &WorkerShare { index: 0, ..worker(7) });
        let mut second = Sampler::new(&spec, &WorkerShare { index: 1, ..worker(7) });
        assert_ne!(first.sample(Selection::ALL, &inputs(&[])), second.sample(Selection::ALL, &inputs(&[])));
    }

    /// 100 000 flows with hashes in sequence, as bad as a flow hash may be, against the binomial distribution at 3.9 sigma.
    #[test]
    fn flow_sampling_keeps_one_flow_in_n_whatever_the_seed() {
        for seed in 0..20 {
            for n in [2u32, 10, 100] {
                let share = FlowShare::one_in(one_in(n), seed);
                let kept: u32 = (0..100_000u64)
                    .map(|hash| share.sample(Selection::from_bits(1), &[hash]).count())
                    .sum();
                let p = 1.0 / f64::from(n);
                let sigma = (100_000.0 * p * (1.0 - p)).sqrt();
                let off = (f64::from(kept) - 100_000.0 * p) / sigma;
                assert!(off.abs() < 3.9, "seed {seed}, 1/{n}: kept {kept}, {off} sigma off");
            }
        }
    }

    #[test]
    fn the_flows_that_a_seed_chooses_never_change() {
        let vectors =
            [(0, 0), (1, 0), (0, 1), (0x0123_4567_89ab_cdef, 42)].map(|(hash, seed)| mix(hash, seed));
        assert_eq!(
            vectors,
            [0x2afa_3043_c0fb_b4d2, 0x27e0_bf1a_b1e8_0487, 0x5ffc_6799_66b9_a5a3, 0x2b2d_c698_2696_0427]
        );
    }

    #[test]
    fn every_keeps_the_first_part_of_each_period() {
        let mut sampler = Sampler::new(&SampleSpec::Every { period_ns: 10, length_ns: 3 }, &worker(0));
        let kept: Vec<u64> = (100..120)
            .filter(|&now_ns| {
                !sampler
                    .sample(
                        Selection::from_bits(1),
                        &SampleInputs { hashes: &[], lens: &[], times: Times::one(&now_ns) },
                    )
                    .is_empty()
            })
            .collect();
        assert_eq!(kept, [100, 101, 102, 110, 111, 112]);
        assert!((sampler.share() - 0.3).abs() < 1e-9);
    }

    /// 10 000 flows of one packet each a millisecond are 10 Mpps; the budget is 100 kpps.
    #[test]
    fn rate_sampling_settles_below_its_budget_and_comes_back_when_traffic_falls() {
        let spec = SampleSpec::Rate { budget: values::Rate::PacketsPerSecond(100_000), seed: 5 };
        let mut sampler = Sampler::new(&spec, &worker(0));
        let mut rng = SplitMix64(1);
        let hashes: Vec<u64> = (0..10_048).map(|_| rng.next()).collect();
        let mut run = |from_ms: u64, to_ms: u64, flows: usize| {
            let mut kept = 0u64;
            for ms in from_ms..to_ms {
                for burst in hashes[..flows].chunks(64) {
                    let now_ns = ms * 1_000_000;
                    let selection = Selection::first(burst.len());
                    kept += u64::from(
                        sampler
                            .sample(
                                selection,
                                &SampleInputs { hashes: burst, lens: &[], times: Times::one(&now_ns) },
                            )
                            .count(),
                    );
                }
            }
            (kept * 1000 / (to_ms - from_ms), sampler.share())
        };
        run(0, 1_000, 10_048);
        let (kept_pps, share) = run(1_000, 3_000, 10_048);
        assert!((60_000..=105_000).contains(&kept_pps), "kept {kept_pps} packets a second, share {share}");
        assert!((0.006..0.012).contains(&share), "share {share}");
        let (_, share) = run(3_000, 9_000, 64);
        assert_eq!(share, 1.0, "64 kpps fit the budget whole");
    }

    /// 1000 packets of 1250 bytes a second, each flow one in 20 s, on one of two workers.
    #[test]
    fn budgets_of_less_than_a_packet_in_a_window_are_kept_too() {
        let mut rng = SplitMix64(2);
        let hashes: Vec<u64> = (0..20_000).map(|_| rng.next()).collect();
        for (budget, least, most) in [
            (values::Rate::PacketsPerSecond(2), 0.2, 1.05),
            (values::Rate::PacketsPerSecond(14), 1.4, 7.2),
            (values::Rate::PacketsPerSecond(400), 100.0, 200.0),
            (values::Rate::BitsPerSecond(20_000), 0.2, 1.05),
            (values::Rate::BitsPerSecond(2_000_000), 40.0, 100.0),
        ] {
            let mut sampler = Sampler::new(
                &SampleSpec::Rate { budget, seed: 5 },
                &WorkerShare { workers: one_in(2), ..worker(0) },
            );
            let mut kept = 0;
            for tick in 0..60_000u64 {
                let burst = &hashes[(tick * 10 % 20_000) as usize..][..10];
                let now_ns = tick * 10_000_000;
                let inputs = SampleInputs { hashes: burst, lens: &[1250; 10], times: Times::one(&now_ns) };
                let selection = sampler.sample(Selection::first(10), &inputs);
                kept += if tick >= 20_000 { selection.count() } else { 0 };
            }
            let per_second = f64::from(kept) / 400.0;
            assert!(
                (least..=most).contains(&per_second),
                "{budget:?}: kept {per_second} packets a second, share {}",
                sampler.share()
            );
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_change_the_share() {
        let mut sampler = Sampler::new(
            &SampleSpec::Rate { budget: values::Rate::PacketsPerSecond(1_000), seed: 5 },
            &worker(0),
        );
        for ms in (10_000..20_000).chain(1_000..9_000) {
            sampler.sample(
                Selection::from_bits(1),
                &SampleInputs { hashes: &[7], lens: &[], times: Times::one(&(ms * 1_000_000)) },
            );
        }
        assert!(sampler.share() > 0.1, "half of the budget is used: {}", sampler.share());
    }

    /// Packets with times of their own, some late and some of any time, in bursts that end anywhere.
    fn timed_packets() -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
        let wild = prop_oneof![any::<u64>(), Just(u64::from(u32::MAX) * 1_000_000_000), Just(0)];
        let time = prop_oneof![20 => (0u64..30_000_000).prop_map(|on| (on, None)), 1 => wild.prop_map(|wild| (0, Some(wild)))];
        prop::collection::vec((time, 0u64..60_000_000, 0u64..6, 1usize..64), 1..500).prop_map(|packets| {
            let mut latest = 1_700_000_000_000_000_000;
            let timed = packets.into_iter().map(|((on, wild), late, flow, burst)| {
                latest += on;
                // every third is late
                let time = wild.unwrap_or(latest - if late % 3 == 0 { late } else { 0 });
                (time, mix(flow, 3), burst)
            });
            timed.collect()
        })
    }

    /// Returns, for each packet, whether a sampler keeps it, if bursts have these sizes, one after the other and over again.
    fn kept_in_bursts(spec: &SampleSpec, packets: &[(u64, u64, usize)], sizes: &[usize]) -> Vec<bool> {
        let idle = Timeouts { idle_ns: 100 << 20, ..Timeouts::DEFAULT };
        let mut sampler = Sampler::new(spec, &WorkerShare { timeouts: idle, ..worker(0) });
        let mut rest = packets;
        let mut kept = Vec::new();
        for &size in sizes.iter().cycle() {
            let burst;
            (burst, rest) = rest.split_at(size.min(rest.len()));
            if burst.is_empty() {
                return kept;
            }
            let hashes: Vec<u64> = burst.iter().map(|packet| packet.1).collect();
            let times = std::array::from_fn(|index| burst.get(index).map_or(u64::MAX, |packet| packet.0));
            let inputs =
                SampleInputs { hashes: &hashes, lens: &[100; MAX_BURST], times: Times::each(&times) };
            let selection = sampler.sample(Selection::first(burst.len()), &inputs);
            kept.extend((0..burst.len()).map(|index| selection.contains(index)));
        }
        kept
    }

    proptest! {
        #[test]
        fn packets_with_times_of_their_own_are_kept_as_ten_lines_say_whatever_their_bursts_are(packets in timed_packets()) {
            let sizes: Vec<usize> = packets.iter().map(|packet| packet.2).collect();
            let in_bursts = |spec: &SampleSpec| kept_in_bursts(spec, &packets, &sizes);

            let every = SampleSpec::Every { period_ns: 100_000_000, length_ns: 10_000_000 };
            let model: Vec<bool> = packets.iter().map(|(time, ..)| time % 100_000_000 < 10_000_000).collect();
            prop_assert_eq!(in_bursts(&every), model);

            let first = SampleSpec::First { limit: FirstLimit::Packets(3) };
            let mut flows = std::collections::HashMap::new();
            let model = packets.iter().map(|&(time, flow, _)| {
                let (tick, idle) = (time >> 20, 100);
                let (last, had) = flows.entry(flow).or_insert((tick, 0));
                let is_late = tick < *last && *last - tick <= idle;
                if !is_late && tick.abs_diff(*last) > idle {
                    (*last, *had) = (tick, 0);
                }
                *last = if is_late { *last } else { tick };
                let is_kept = *had < 3;
                *had += u64::from(is_kept);
                is_kept
            });
            prop_assert_eq!(in_bursts(&first), model.collect::<Vec<bool>>());

            let rate = SampleSpec::Rate { budget: values::Rate::PacketsPerSecond(50), seed: 5 };
            let (window, budget, mut start, mut kept, mut limit) = (100_000_000u64, 5, 0u64, 0u64, u64::MAX);
            let model = packets.iter().map(|&(time, flow, _)| {
                let elapsed = if time >= start { time - start } else if start - time > window { window } else { 0 };
                if elapsed >= window {
                    limit = if kept * 10 < budget * 9 { limit.saturating_add(limit / 4) } else { limit };
                    (start, kept) = (time, 0);
                } else if kept >= budget {
                    let fits = (elapsed as f64 / window as f64) * (budget as f64 / kept as f64) * 0.95;
                    limit = ((limit as f64 * fits.max(1.0 / 1024.0)) as u64).max(RATE_LEAST_LIMIT);
                    (start, kept) = (time.max(start), 0);
                }
                let is_kept = mix(flow, 5) <= limit;
                kept += u64::from(is_kept);
                is_kept
            });
            prop_assert_eq!(in_bursts(&rate), model.collect::<Vec<bool>>());
        }
    }

    #[test]
    fn one_wild_time_does_not_stop_the_share_from_being_adapted() {
        const WILD: u64 = u32::MAX as u64 * 1_000_000_000;
        let mut sampler = Sampler::new(
            &SampleSpec::Rate { budget: values::Rate::PacketsPerSecond(1_000), seed: 5 },
            &worker(0),
        );
        let mut sample = |now_ns: u64| {
            sampler
                .sample(
                    Selection::first(10),
                    &SampleInputs { hashes: &[7; 10], lens: &[], times: Times::one(&now_ns) },
                )
                .count()
        };
        let start = 1_700_000_000_000_000_000;
        sample(start);
        sample(WILD);
        // ten packets a millisecond are ten times the budget, by one flow, which has to go for most of the time
        let kept: u32 = (1..10_000).map(|ms| sample(start + ms * 1_000_000)).sum();
        assert!((500..20_000).contains(&kept), "{kept} of 99 990");
    }
}
