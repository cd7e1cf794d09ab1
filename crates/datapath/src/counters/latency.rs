//! Latency: how long packets take from the poll that received them to the call that sent their copies.
//!
//! A histogram of fixed size with logarithmic buckets, each cut into 32 equal parts: a value is known to within 1/32 of itself.
//! Workers write, in ticks of the time-stamp counter; the control thread adds the workers' up and turns ticks into nanoseconds.

use super::Counter;
use tapline_api::snapshot::Latency;

/// Parts of an octave, as a power of two.
const PART_BITS: u32 = 5;
/// Values from 2^40 ticks on (minutes) share the last bucket.
const VALUE_BITS: u32 = 40;
const BUCKETS: usize = ((VALUE_BITS - PART_BITS + 1) << PART_BITS) as usize;

/// Upper bounds of a [`Spread`], in nanoseconds: 1, 2 and 5 of each power of ten from 100 ns to 1 s.
pub const BOUNDS_NS: [u64; 22] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// How values spread over fixed bounds: a histogram as Prometheus has it. Count and sum are exact; a value that is above a bound by less
/// than 1/32 of itself may count as above it, and none that is above counts as below.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Spread {
    /// How many values are at most each of [`BOUNDS_NS`].
    pub up_to: [u64; BOUNDS_NS.len()],
    pub count: u64,
    pub sum_ns: u64,
}

/// One worker's histogram of one tool.
pub struct Histogram {
    buckets: Box<[Counter]>,
    max: Counter,
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::iter::repeat_with(Counter::default).take(BUCKETS).collect(),
            max: Counter::default(),
            sum: Counter::default(),
        }
    }
}

/// The bucket of a value.
#[inline]
fn bucket_of(ticks: u64) -> usize {
    let ticks = ticks.min((1 << VALUE_BITS) - 1);
    let octave = (ticks | ((1 << PART_BITS) - 1)).ilog2() + 1 - PART_BITS;
    if octave == 0 {
        return ticks as usize;
    }
    ((octave << PART_BITS) as usize) + ((ticks >> (octave - 1)) as usize & ((1 << PART_BITS) - 1))
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let (octave, part) = (bucket as u64 >> PART_BITS, bucket as u64 & ((1 << PART_BITS) - 1));
    if octave == 0 { part } else { (((1 << PART_BITS) + part + 1) << (octave - 1)) - 1 }
}

impl Histogram {
    /// worker: counts one value.
    #[inline]
    pub fn record(&self, ticks: u64) {
        self.buckets[bucket_of(ticks)].add(1);
        self.max.peak(ticks);
        self.sum.add(ticks);
    }
}

/// Histograms added up; what a snapshot's percentiles are read from.
#[derive(Clone, Default, Debug)]
pub struct Merged {
    buckets: Vec<u64>,
    max: u64,
    sum: u64,
}

impl Merged {
    /// control: adds what a worker counted.
    pub fn add(&mut self, histogram: &Histogram) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.get();
        }
        self.max = self.max.max(histogram.max.get());
        self.sum += histogram.sum.get();
    }

    pub fn merge(&mut self, other: &Merged) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// Gives what was counted since `earlier`. The maximum stays that of the whole time, since it cannot be taken back.
    pub fn since(&self, earlier: &Merged) -> Merged {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        Merged {
            buckets: self.buckets.iter().zip(before).map(|(now, before)| now - before).collect(),
            max: self.max,
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The smallest value that at least `numerator / denominator` of all values do not exceed, to within 1/32.
    fn quantile(&self, numerator: u64, denominator: u64) -> Option<u64> {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (u128::from(total) * u128::from(numerator)).div_ceil(u128::from(denominator)).max(1);
        let mut seen = 0u128;
        let bucket = self.buckets.iter().position(|&count| {
            seen += u128::from(count);
            seen >= wanted
        })?;
        Some(last_of(bucket).min(self.max))
    }

    /// In nanoseconds; `hz` is ticks a second.
    pub fn latency(&self, hz: u64) -> Latency {
        let ns = |ticks| ns(ticks, hz);
        let samples = self.buckets.iter().sum();
        Latency {
            p50: self.quantile(1, 2).map(ns),
            p99: self.quantile(99, 100).map(ns),
            p999: self.quantile(999, 1000).map(ns),
            max: (samples > 0).then(|| ns(self.max)),
            samples,
        }
    }

    /// Counts the values below fixed bounds; `hz` is ticks a second.
    pub fn spread(&self, hz: u64) -> Spread {
        let mut spread = Spread { sum_ns: ns(self.sum, hz), ..Spread::default() };
        let mut bound = 0;
        for (bucket, &count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let last = ns(last_of(bucket), hz);
            while bound < BOUNDS_NS.len() && BOUNDS_NS[bound] < last {
                spread.up_to[bound] = spread.count;
                bound += 1;
            }
            spread.count += count;
        }
        spread.up_to[bound..].fill(spread.count);
        spread
    }
}

/// Turns ticks into nanoseconds.
fn ns(ticks: u64, hz: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_to_within_a_part_in_32(ticks in 0u64..1 << VALUE_BITS) {
            let bucket = bucket_of(ticks);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(last_of(bucket) >= ticks);
            prop_assert!(last_of(bucket) - ticks <= ticks / 32);
            prop_assert_eq!(bucket_of(last_of(bucket)), bucket);
        }

        #[test]
        fn percentiles_equal_those_of_hdrhistogram(values in prop::collection::vec(1u64..1 << 36, 1..500)) {
            let mut other = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).expect("bounds are right");
            let ours = Histogram::default();
            for &value in &values {
                ours.record(value);
                other.record(value).expect("in bounds");
            }
            let mut merged = Merged::default();
            merged.add(&ours);
            let latency = merged.latency(1_000_000_000);
            for (got, quantile) in [(latency.p50, 0.5), (latency.p99, 0.99), (latency.p999, 0.999), (latency.max, 1.0)] {
                let (got, theirs) = (got.expect("there are values") as f64, other.value_at_quantile(quantile) as f64);
                prop_assert!((got - theirs).abs() <= theirs * (1.0 / 32.0 + 0.001) + 1.0, "{} {}", got, theirs);
            }
        }
    }

    proptest! {
        #[test]
        fn a_spread_counts_what_is_below_its_bounds(
            values in prop::collection::vec(prop_oneof![1u64..2_000, 1u64..1 << 36], 0..200),
            hz in prop_oneof![Just(1_000_000_000u64), Just(2_596_992_000), Just(24_000_000)],
        ) {
            let ours = Histogram::default();
            values.iter().for_each(|&value| ours.record(value));
            let mut merged = Merged::default();
            merged.add(&ours);
            let spread = merged.spread(hz);
            let total: u64 = values.iter().sum();
            prop_assert_eq!((spread.count, spread.sum_ns), (values.len() as u64, ns(total, hz)));
            for (up_to, bound) in spread.up_to.into_iter().zip(BOUNDS_NS) {
                let below = |bound: f64| values.iter().filter(|&&value| ns(value, hz) as f64 <= bound).count() as u64;
                prop_assert!(up_to <= below(bound as f64) && up_to >= below(bound as f64 * (1.0 - 1.0 / 32.0) - 1.0 - 1e9 / hz as f64));
            }
        }
    }

    #[test]
    fn nothing_measured_is_null() {
        assert_eq!(Merged::default().spread(1), Spread::default());
        assert_eq!(Merged::default().latency(1_000_000_000), Latency::default());
    }
}
