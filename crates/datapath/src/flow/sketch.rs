//! About how many flows each bucket of a group has, for the flows that a table's change moves.
//!
//! Stands in the route stage: a worker sets one of 64 bits of the bucket for each packet, chosen by the flow's hash, and the
//! control thread counts bits. That is linear counting (Whang, Vander-Zanden and Taylor, "A linear-time probabilistic counting
//! algorithm", ACM TODS 1990): exact while a bucket's flows fall on bits of their own, a few percent off over a thousand buckets,
//! too low beyond some 250 flows a bucket. A flow table would know better, and cost ten times as much for each packet.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tapline_dpdk::mbuf::prefetch;

const BITS: u32 = u64::BITS;

/// How long one generation of bits lasts; flows are remembered for one to two of these.
const SKETCH_PERIOD_NS: u64 = 30_000_000_000;

/// The flows that one worker saw in each bucket of one group, lately.
///
/// Relaxed ordering suffices everywhere: bits guard no other memory, and one that is read late only lowers an estimate by one.
pub struct FlowSketch {
    /// The generation that is to be written. control: writes; worker: reads.
    wanted: AtomicU32,
    /// The generation that is written; the one before it is kept beside it. worker: writes; control: reads.
    current: AtomicU32,
    /// A word for each bucket, for either value of the generation's lowest bit. worker: writes; control: reads.
    words: [Box<[AtomicU64]>; 2],
}

/// A sketch into which a worker notes flows for the length of a burst.
#[derive(Clone, Copy)]
pub struct OpenSketch<'a>(&'a [AtomicU64]);

impl OpenSketch<'_> {
    /// Asks the processor for what is known of `bucket`.
    #[inline(always)]
    pub fn load_ahead(&self, bucket: usize) {
        self.0.get(bucket).into_iter().for_each(prefetch);
    }

    /// Notes the flow that has `bit` (0..64) of `bucket`.
    #[inline(always)]
    pub fn note(&self, bucket: usize, bit: u32) {
        let word = &self.0[bucket];
        // most packets belong to a flow that is known, and leave the line clean
        if word.load(Ordering::Relaxed) >> (bit % BITS) & 1 == 0 {
            Self::set(word, bit);
        }
    }

    #[cold]
    fn set(word: &AtomicU64, bit: u32) {
        word.store(word.load(Ordering::Relaxed) | 1 << (bit % BITS), Ordering::Relaxed);
    }
}

impl FlowSketch {
    pub fn new(bucket_count: usize, now_ns: u64) -> Self {
        let words = || (0..bucket_count).map(|_| AtomicU64::new(0)).collect();
        let generation = generation(now_ns);
        Self {
            wanted: AtomicU32::new(generation),
            current: AtomicU32::new(generation),
            words: [words(), words()],
        }
    }

    /// Buckets that flows are noted of.
    pub fn bucket_count(&self) -> usize {
        self.words[0].len()
    }

    /// control: lets a fresh generation begin when its time has come.
    pub fn keep_time(&self, now_ns: u64) {
        self.wanted.store(generation(now_ns), Ordering::Relaxed);
    }

    /// worker: the generation to write to, once a burst.
    #[inline(always)]
    pub fn open(&self) -> OpenSketch<'_> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if self.current.load(Ordering::Relaxed) != wanted {
            self.begin(wanted);
        }
        OpenSketch(&self.words[wanted as usize & 1])
    }

    #[cold]
    fn begin(&self, wanted: u32) {
        let clear = |place: u32| {
            self.words[place as usize & 1].iter().for_each(|word| word.store(0, Ordering::Relaxed))
        };
        clear(wanted);
        if self.current.load(Ordering::Relaxed).wrapping_add(1) != wanted {
            clear(wanted.wrapping_add(1));
        }
        self.current.store(wanted, Ordering::Relaxed);
    }

    /// The bits of a bucket that are not older than two generations.
    fn bits(&self, bucket: usize) -> u64 {
        let (wanted, current) = (self.wanted.load(Ordering::Relaxed), self.current.load(Ordering::Relaxed));
        let word = |generation: u32| self.words[generation as usize & 1][bucket].load(Ordering::Relaxed);
        match wanted.wrapping_sub(current) {
            0 => word(current) | word(current.wrapping_add(1)),
            1 => word(current),
            _ => 0,
        }
    }

    /// control: about how many flows these buckets have in all workers, a flow that several workers saw counted once.
    pub fn flows<'a>(
        workers: impl Iterator<Item = &'a FlowSketch> + Clone,
        buckets: impl Iterator<Item = usize>,
    ) -> u64 {
        let flows = buckets
            .map(|bucket| estimate(workers.clone().fold(0, |bits, sketch| bits | sketch.bits(bucket))));
        flows.sum::<f64>().round() as u64
    }
}

fn generation(now_ns: u64) -> u32 {
    (now_ns / SKETCH_PERIOD_NS) as u32
}

/// The number of flows that sets so many bits on average.
fn estimate(bits: u64) -> f64 {
    let all = f64::from(BITS);
    if bits == u64::MAX {
        // nothing tells 200 from a thousand: say what fills all bits on average
        return all * all.ln();
    }
    let clear = f64::from(bits.count_zeros()) / all;
    let load = -clear.ln();
    // the second term is the bias of the first (equation 11 there)
    clear.ln() / (1.0 - 1.0 / all).ln() - (load.exp() - load - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::balance::{Group, GroupSpec};
    use std::collections::HashSet;
    use tapline_packet::mix::mix;

    #[test]
    fn flows_are_counted_to_a_few_percent_however_many_packets_they_send() {
        let group = Group::new(GroupSpec::equal(4)).unwrap();
        let table = group.table();
        for flows in [0u64, 1, 10, 1000, 10_000, 100_000, 500_000] {
            let sketch = FlowSketch::new(table.bucket_count(), 0);
            let open = sketch.open();
            let mut of_member = HashSet::new();
            for packet in 0..flows * 3 {
                let hash = mix(packet % flows, 9);
                let (bucket, bit) = table.open().place(hash);
                open.note(bucket, bit);
                if table.slots()[bucket].member() == Some(2) {
                    of_member.insert(hash);
                }
            }
            let buckets =
                (0..table.bucket_count()).filter(|&bucket| table.slots()[bucket].member() == Some(2));
            let (counted, true_count) =
                (FlowSketch::flows([&sketch].into_iter(), buckets), of_member.len() as u64);
            let off = counted.abs_diff(true_count) as f64 / true_count.max(1) as f64;
            assert!(off <= 0.03, "{flows} flows: {counted} instead of {true_count}");
        }
    }

    #[test]
    fn a_flow_that_two_workers_saw_counts_once() {
        let sketches = [FlowSketch::new(64, 0), FlowSketch::new(64, 0)];
        sketches.iter().for_each(|sketch| sketch.open().note(3, 17));
        sketches[1].open().note(3, 18);
        assert_eq!(FlowSketch::flows(sketches.iter(), 0..64), 2);
    }

    #[test]
    fn flows_are_forgotten_after_one_to_two_generations_of_silence() {
        let sketch = FlowSketch::new(64, 0);
        let count = |at: u64| {
            sketch.keep_time(at * SKETCH_PERIOD_NS);
            FlowSketch::flows([&sketch].into_iter(), 0..64)
        };
        sketch.open().note(1, 1);
        assert_eq!((count(0), count(1), count(2)), (1, 1, 0), "a worker that sees nothing forgets too");
        sketch.open().note(2, 2);
        assert_eq!(count(2), 1, "what is two generations old does not come back");
        count(3);
        sketch.open().note(3, 3);
        assert_eq!((count(3), count(4), count(5)), (2, 1, 0));
    }
}
