//! Shaping: a token bucket that keeps a tool to its rate.
//!
//! Stands between a tool's egress queue and its transmit queue, only where the tool has a `rate`. Time is passed in, in ticks of
//! the time-stamp counter; the arithmetic is exact, so that the long-run rate is the one asked for whatever the ticks are.

use std::time::Duration;

use super::sample::Budget;

/// `rate RATE [burst DURATION]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bits are those of frames from the Ethernet header on, without FCS, preamble and gap.
    pub rate: Budget,
    /// How long a pause of the tool's traffic can be made up for.
    pub burst: Duration,
}

impl Shape {
    /// `burst` where the tool does not say.
    pub const DEFAULT_BURST: Duration = Duration::from_millis(1);
}

/// Tokens of one worker's share of a rate. A packet may go while the bucket is not in debt, and may take it there: so any packet
/// passes however small the burst, and what is sent in any time `t` is at most `rate * (t + burst)` and one packet.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Tokens a second: packets or bits, times the workers that share the rate.
    rate: u128,
    counts_packets: bool,
    /// Tokens times ticks a second: an elapsed tick adds `rate`.
    level: i128,
    full: i128,
    ticks_a_token: i128,
    last: u64,
}

impl TokenBucket {
    /// A full bucket with the share that one of `workers` has of a rate, at `now`; `hz` is ticks a second.
    pub fn new(shape: Shape, workers: u32, hz: u64, now: u64) -> Self {
        let (rate, counts_packets) = match shape.rate {
            Budget::PacketsPerSecond(packets) => (packets, true),
            Budget::BitsPerSecond(bits) => (bits, false),
        };
        let burst_ticks = shape.burst.as_nanos().min(u128::from(u32::MAX) * 1000) * u128::from(hz) / 1_000_000_000;
        let full = i128::try_from(u128::from(rate) * burst_ticks).unwrap_or(i128::MAX).max(1);
        let workers = workers.max(1);
        Self {
            rate: rate.into(),
            counts_packets,
            level: full,
            full,
            ticks_a_token: i128::from(hz.max(1)) * i128::from(workers),
            last: now,
        }
    }

    /// Adds what has accrued since the last call. A clock that steps back adds nothing.
    #[inline]
    pub fn refill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.last);
        self.last = now;
        self.level = self.level.saturating_add(i128::try_from(u128::from(elapsed) * self.rate).unwrap_or(i128::MAX)).min(self.full);
    }

    /// A way to ask of one packet after another, by length, whether it may go, without spending anything yet.
    #[inline]
    pub fn preview(&self) -> impl FnMut(u32) -> bool + '_ {
        let mut level = self.level;
        move |len| {
            let may_go = level > 0;
            level -= self.cost(1, u64::from(len));
            may_go
        }
    }

    /// Takes the tokens of what was sent.
    #[inline]
    pub fn spend(&mut self, packets: usize, bytes: u64) {
        self.level = self.level.saturating_sub(self.cost(packets, bytes));
    }

    #[inline]
    fn cost(&self, packets: usize, bytes: u64) -> i128 {
        let tokens = if self.counts_packets { packets as i128 } else { i128::from(bytes) * 8 };
        tokens * self.ticks_a_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 2_000_000_000;

    fn run(shape: Shape, workers: u32, offers: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut bucket = TokenBucket::new(shape, workers, HZ, 0);
        let mut now = 0;
        let mut sent = Vec::new();
        for &(gap, len) in offers {
            now += gap;
            bucket.refill(now);
            if bucket.preview()(len) {
                bucket.spend(1, len.into());
                sent.push((now, len));
            }
        }
        sent
    }

    /// The same in floating point, token by token.
    fn model(bits_a_second: f64, burst_s: f64, offers: &[(u64, u32)]) -> usize {
        let (full, mut level, mut sent) = (bits_a_second * burst_s, bits_a_second * burst_s, 0);
        for &(gap, len) in offers {
            level = f64::min(full, level + gap as f64 / HZ as f64 * bits_a_second);
            if level > 0.0 {
                level -= f64::from(len) * 8.0;
                sent += 1;
            }
        }
        sent
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_holds_more_than_its_rate_its_burst_and_one_packet(
            mbit in 1u64..100_000, burst_us in 1u64..5000, workers in 1u32..5,
            offers in prop::collection::vec((0u64..200_000, 60u32..1515), 1..200),
        ) {
            let shape = Shape { rate: Budget::BitsPerSecond(mbit * 1_000_000), burst: Duration::from_micros(burst_us) };
            let sent = run(shape, workers, &offers);
            for from in 0..sent.len() {
                let mut bits = 0u128;
                for &(at, len) in &sent[from..] {
                    let before = bits;
                    bits += u128::from(len) * 8;
                    // rate * (t + burst), in bits times HZ times a million
                    let ticks = u128::from(at - sent[from].0) * 1_000_000 + u128::from(burst_us) * u128::from(HZ);
                    let allowed = u128::from(mbit) * 1_000_000 * ticks / u128::from(workers);
                    prop_assert!(before * u128::from(HZ) * 1_000_000 <= allowed);
                }
            }
        }

        #[test]
        fn as_many_go_as_in_floating_point(
            mbit in 1u64..10_000, burst_us in 10u64..2000, offers in prop::collection::vec((0u64..100_000, 60u32..1515), 1..300),
        ) {
            let shape = Shape { rate: Budget::BitsPerSecond(mbit * 1_000_000), burst: Duration::from_micros(burst_us) };
            let exact = run(shape, 1, &offers).len() as i64;
            let float = model(mbit as f64 * 1e6, burst_us as f64 / 1e6, &offers) as i64;
            prop_assert!((exact - float).abs() <= 1, "{} {}", exact, float);
        }
    }

    #[test]
    fn packets_a_second_are_counted_whatever_their_length() {
        let shape = Shape { rate: Budget::PacketsPerSecond(1000), burst: Duration::from_millis(10) };
        // 100 us apart for a second: ten times the rate
        let offers: Vec<(u64, u32)> = (0..10_000u32).map(|n| (HZ / 10_000, 60 + n % 1400)).collect();
        let sent = run(shape, 1, &offers).len();
        assert!((1009..=1011).contains(&sent), "{sent}");
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_takes_nothing() {
        let shape = Shape { rate: Budget::PacketsPerSecond(1), burst: Duration::from_secs(1) };
        let mut bucket = TokenBucket::new(shape, 1, HZ, 10 * HZ);
        bucket.spend(1, 64);
        bucket.refill(5 * HZ);
        assert!(!bucket.preview()(64));
        bucket.refill(6 * HZ);
        assert!(bucket.preview()(64));
    }
}
