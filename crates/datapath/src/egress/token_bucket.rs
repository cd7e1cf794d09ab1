//! Shaping: a token bucket that keeps a tool to its rate.
//!
//! Stands between a tool's egress queue and its transmit queue, only where the tool has a `rate`. Time is passed in, in ticks of
//! the time-stamp counter; the arithmetic is exact, so that the long-run rate is the one asked for whatever the ticks are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tapline_api::values::Rate;
use tapline_dpdk::queue::Moved;

/// `rate RATE [burst DURATION]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketSpec {
    /// Bits are those of frames from the Ethernet header on, without FCS, preamble and gap.
    pub rate: Rate,
    /// How long a pause of the tool's traffic can be made up for.
    pub burst: Duration,
}

impl BucketSpec {
    /// `burst` where the tool does not say.
    pub const DEFAULT_BURST: Duration = Duration::from_millis(1);
}

/// The tokens of a rate, which all workers that send to the tool take from.
///
/// A packet may go while the bucket is not in debt, and may take it there: so any packet passes however small the burst, and what is
/// sent in any time `t` is at most `rate * (t + burst)` and one packet, by all workers together. Tokens are taken before packets are
/// offered to the driver, and given back for those that it does not take. Shares of the workers' own would be simpler, but a worker
/// whose packets do not go to the tool would leave its share unused.
///
/// Relaxed ordering suffices: nothing is published with the tokens.
#[derive(Debug)]
pub struct TokenBucket {
    /// Grains a second. A token, which is a packet or a bit, has `grains` of them, so that what accrues of a slow rate is not rounded
    /// to whole packets.
    rate: u128,
    grains: u64,
    counts_packets: bool,
    full: i64,
    /// No debt is larger, as a worker sees it that looked at the clock a while ago: what looks larger is a clock that was set back.
    most_debt: i64,
    /// Ticks a second.
    hz: u128,
    /// The grains that had accrued when the bucket would have been empty, modulo 2^64. Workers: write.
    spent: AtomicU64,
}

/// The tokens that a bucket holds at a moment.
pub struct Allowance<'a> {
    bucket: &'a TokenBucket,
    level: i64,
}

impl Allowance<'_> {
    /// Returns whether the next packet, of `len` bytes, may go, and takes its tokens off the allowance.
    #[inline]
    pub fn lets_go(&mut self, len: u32) -> bool {
        let lets_go = self.level > 0;
        self.level = self.level.saturating_sub(self.bucket.cost(1, len.into()));
        lets_go
    }
}

impl TokenBucket {
    /// Grains that accrue in a second, about, of a rate that is below.
    const LEAST_RATE: u64 = 1 << 32;
    const MOST_GRAINS: u64 = 1 << 20;
    /// No port is faster: a terabit a second. A silence of 2^63 grains, 97 days at this rate, looks like a clock that was set back.
    const MOST_RATE: u64 = 1 << 40;
    /// As of captures.
    const LONGEST_PACKET: u64 = 1 << 18;
    /// A worker may lose its CPU between its look at the clock and at the tokens, which others took meanwhile.
    const LONGEST_LOOK_S: u128 = 10;

    /// A full bucket at `now`; `hz` is ticks a second.
    pub fn new(spec: BucketSpec, hz: u64, now: u64) -> Self {
        let (rate, counts_packets) = match spec.rate {
            Rate::PacketsPerSecond(packets) => (packets, true),
            Rate::BitsPerSecond(bits) => (bits, false),
        };
        let rate = rate.clamp(1, Self::MOST_RATE);
        let grains = (Self::LEAST_RATE / rate).clamp(1, Self::MOST_GRAINS);
        let rate = u128::from(rate) * u128::from(grains);
        let full = rate * spec.burst.as_nanos().min(u128::from(u32::MAX) * 1000) / 1_000_000_000;
        let mut bucket = Self {
            rate,
            grains,
            counts_packets,
            full: i64::try_from(full).unwrap_or(i64::MAX).max(1),
            most_debt: 0,
            hz: hz.max(1).into(),
            spent: AtomicU64::new(0),
        };
        bucket.most_debt = bucket.cost(1, Self::LONGEST_PACKET) + (Self::LONGEST_LOOK_S * rate) as i64;
        bucket.spent = bucket.accrued(now).wrapping_sub_signed(bucket.full).into();
        bucket
    }

    /// Takes the tokens of the packets that `choose` chooses, which asks the allowance of each, and gives those. `now` is in ticks.
    /// The caller [gives back](Self::give_back) the tokens of packets that do not go.
    #[inline]
    pub fn take(&self, now: u64, choose: impl Fn(&mut Allowance<'_>) -> Moved) -> Moved {
        let accrued = self.accrued(now);
        let mut spent = self.spent.load(Ordering::Relaxed);
        loop {
            let known = accrued.wrapping_sub(spent) as i64;
            let is_set_back = known < -self.most_debt;
            let level = if is_set_back { 0 } else { known.min(self.full) };
            let chosen = choose(&mut Allowance { bucket: self, level });
            if chosen.packets == 0 && !is_set_back {
                return chosen;
            }
            let left = level.saturating_sub(self.cost(chosen.packets, chosen.bytes));
            let next = accrued.wrapping_sub_signed(left);
            match self.spent.compare_exchange_weak(spent, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return chosen,
                Err(others) => spent = others,
            }
        }
    }

    /// Gives tokens back that were taken for packets that did not go.
    #[inline]
    pub fn give_back(&self, packets: usize, bytes: u64) {
        self.spent.fetch_sub(self.cost(packets, bytes).cast_unsigned(), Ordering::Relaxed);
    }

    /// Grains that a second's rate gives since the counter of ticks began, modulo 2^64.
    #[inline]
    fn accrued(&self, now: u64) -> u64 {
        (u128::from(now) * self.rate / self.hz) as u64
    }

    #[inline]
    fn cost(&self, packets: usize, bytes: u64) -> i64 {
        let tokens = if self.counts_packets { packets as u64 } else { bytes * 8 };
        (tokens * self.grains).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 2_000_000_000;

    /// Returns whether a packet of `len` bytes got its tokens.
    fn takes(bucket: &TokenBucket, now: u64, len: u32) -> bool {
        let one = |allowance: &mut Allowance<'_>| {
            if allowance.lets_go(len) { Moved { packets: 1, bytes: len.into() } } else { Moved::default() }
        };
        bucket.take(now, one).packets == 1
    }

    /// Offers a packet after each gap; the driver refuses one in `refused`, whose tokens are given back.
    fn run(spec: BucketSpec, refused: usize, offers: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut now = 12_345;
        let bucket = TokenBucket::new(spec, HZ, now);
        let mut sent = Vec::new();
        for (index, &(gap, len)) in offers.iter().enumerate() {
            now += gap;
            if takes(&bucket, now, len) {
                if index % refused == refused - 1 {
                    bucket.give_back(1, len.into());
                } else {
                    sent.push((now, len));
                }
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
            mbit in 1u64..100_000, burst_us in 1u64..5000, refused in 2usize..5,
            offers in prop::collection::vec((0u64..200_000, 60u32..1515), 1..200),
        ) {
            let spec = BucketSpec { rate: Rate::BitsPerSecond(mbit * 1_000_000), burst: Duration::from_micros(burst_us) };
            let sent = run(spec, refused, &offers);
            for from in 0..sent.len() {
                let mut bits = 0u128;
                for &(at, len) in &sent[from..] {
                    let before = bits;
                    bits += u128::from(len) * 8;
                    // rate * (t + burst), in bits times HZ times a million
                    let ticks = u128::from(at - sent[from].0) * 1_000_000 + u128::from(burst_us) * u128::from(HZ);
                    let allowed = u128::from(mbit) * 1_000_000 * ticks;
                    prop_assert!(before * u128::from(HZ) * 1_000_000 <= allowed);
                }
            }
        }

        #[test]
        fn as_many_go_as_in_floating_point(
            mbit in 1u64..10_000, burst_us in 10u64..2000, offers in prop::collection::vec((0u64..100_000, 60u32..1515), 1..300),
        ) {
            let spec = BucketSpec { rate: Rate::BitsPerSecond(mbit * 1_000_000), burst: Duration::from_micros(burst_us) };
            let exact = run(spec, usize::MAX, &offers).len() as i64;
            let float = model(mbit as f64 * 1e6, burst_us as f64 / 1e6, &offers) as i64;
            prop_assert!((exact - float).abs() <= 1, "{} {}", exact, float);
        }
    }

    #[test]
    fn packets_a_second_are_counted_whatever_their_length() {
        let spec = BucketSpec { rate: Rate::PacketsPerSecond(1000), burst: Duration::from_millis(10) };
        // 100 us apart for a second: ten times the rate
        let offers: Vec<(u64, u32)> = (0..10_000u32).map(|n| (HZ / 10_000, 60 + n % 1400)).collect();
        let sent = run(spec, usize::MAX, &offers).len();
        assert!((1009..=1011).contains(&sent), "{sent}");
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_takes_nothing() {
        let spec = BucketSpec { rate: Rate::PacketsPerSecond(1), burst: Duration::from_secs(1) };
        let bucket = TokenBucket::new(spec, HZ, 500_000 * HZ);
        assert!(takes(&bucket, 500_000 * HZ, 64) && !takes(&bucket, 500_000 * HZ, 64));
        assert!(!takes(&bucket, 5 * HZ, 64));
        assert!(takes(&bucket, 6 * HZ, 64));
    }

    #[test]
    fn a_worker_that_looked_at_the_clock_before_others_gives_itself_nothing() {
        let spec = BucketSpec { rate: Rate::PacketsPerSecond(1000), burst: Duration::from_millis(10) };
        let bucket = TokenBucket::new(spec, HZ, 7 * HZ);
        assert_eq!((0..100).filter(|_| takes(&bucket, 8 * HZ, 64)).count(), 10);
        assert!(!takes(&bucket, 7 * HZ, 64));
        assert!(!takes(&bucket, 8 * HZ, 64));
        assert!(takes(&bucket, 8 * HZ + HZ / 1000, 64));
    }

    #[test]
    fn workers_share_the_tokens_and_leave_none() {
        let spec = BucketSpec { rate: Rate::PacketsPerSecond(1_000_000), burst: Duration::from_millis(50) };
        let bucket = TokenBucket::new(spec, HZ, 7 * HZ);
        let work = || (0..40_000).filter(|_| takes(&bucket, 7 * HZ, 64)).count();
        let sent = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("a count")).sum::<usize>()
        });
        assert_eq!(sent, 50_000);
    }
}
