//! The counters of dedup: packets, duplicates, and the ports by which those came.

use super::Counter;
use tapline_api::snapshot::GAP_BUCKETS;

/// Duplicates of packets of one port that came by another (or the same), with how long they came after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairCounters {
    pub duplicates: u64,
    pub most_gap_ns: u64,
    /// Bucket 0 counts gaps below 1 µs, bucket `i` those from 2^(i-1) µs to below 2^i µs, the last one all above.
    pub gaps: [u64; GAP_BUCKETS],
}

impl PairCounters {
    pub const NONE: PairCounters = PairCounters { duplicates: 0, most_gap_ns: 0, gaps: [0; GAP_BUCKETS] };

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &PairCounters) {
        self.duplicates += other.duplicates;
        self.most_gap_ns = self.most_gap_ns.max(other.most_gap_ns);
        self.gaps.iter_mut().zip(other.gaps).for_each(|(sum, count)| *sum += count);
    }

    /// Gives what was counted since `earlier`. The longest gap stays that of all time.
    pub fn since(&self, earlier: &PairCounters) -> PairCounters {
        PairCounters {
            duplicates: self.duplicates - earlier.duplicates,
            most_gap_ns: self.most_gap_ns,
            gaps: std::array::from_fn(|bucket| self.gaps[bucket] - earlier.gaps[bucket]),
        }
    }
}

/// The sums of dedup's counters.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DedupCounters {
    pub packets: u64,
    pub duplicates: u64,
    /// Packets forgotten within the window because more came than there is room for; their duplicates pass.
    pub forgotten: u64,
}

/// The counters of one worker's dedup, for readers on other threads.
pub struct Tally {
    pub(crate) packets: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) forgotten: Counter,
    ports: usize,
    /// `first port * ports + second port`.
    pairs: Box<[PairTally]>,
}

#[derive(Default)]
struct PairTally {
    duplicates: Counter,
    most_gap_ns: Counter,
    gaps: [Counter; GAP_BUCKETS],
}

impl Tally {
    pub(crate) fn new(ports: usize) -> Tally {
        let pairs = std::iter::repeat_with(PairTally::default).take(ports * ports).collect();
        Tally {
            packets: Counter::default(),
            duplicates: Counter::default(),
            forgotten: Counter::default(),
            ports,
            pairs,
        }
    }

    pub fn ports(&self) -> usize {
        self.ports
    }

    pub fn counters(&self) -> DedupCounters {
        DedupCounters {
            packets: self.packets.get(),
            duplicates: self.duplicates.get(),
            forgotten: self.forgotten.get(),
        }
    }

    /// Duplicates whose first packet came by `first` and that came by `second` themselves.
    pub fn pair(&self, first: usize, second: usize) -> PairCounters {
        let pair = &self.pairs[first * self.ports + second];
        PairCounters {
            duplicates: pair.duplicates.get(),
            most_gap_ns: pair.most_gap_ns.get(),
            gaps: std::array::from_fn(|bucket| pair.gaps[bucket].get()),
        }
    }

    /// Counts a duplicate that came `gap_ns` from its first packet.
    #[inline]
    pub(crate) fn count(&self, first: usize, second: usize, gap_ns: u64) {
        let pair = &self.pairs[first * self.ports + second];
        pair.duplicates.add(1);
        pair.most_gap_ns.peak(gap_ns);
        let bucket = (u64::BITS - (gap_ns / 1000).leading_zeros()) as usize;
        pair.gaps[bucket.min(GAP_BUCKETS - 1)].add(1);
    }
}
