//! Limits: how many packets a rule may still take, over all workers.
//!
//! Stands at the end of the sample stage. One `Limit` is shared by all workers of a rule.

use std::sync::atomic::{AtomicU64, Ordering};

use tapline_packet::burst::Selection;

/// `limit 10000 packets`: what all workers of a rule may still take, together.
///
/// Each worker claims what a burst needs, so nothing is left stranded with a worker whose traffic has ended, and the limit is met
/// to the packet: one atomic exchange a burst while it lasts, one load when it is spent.
pub struct Limit {
    /// workers: claim; control: reads. Relaxed suffices: the number guards no other memory.
    remaining: AtomicU64,
}

impl Limit {
    pub fn new(packets: u64) -> Limit {
        Limit { remaining: AtomicU64::new(packets) }
    }

    pub fn remaining(&self) -> u64 {
        self.remaining.load(Ordering::Relaxed)
    }

    /// The first packets of `selection`, as many as the limit still allows.
    #[inline]
    pub fn take(&self, selection: Selection) -> Selection {
        let wanted = u64::from(selection.count());
        if wanted == 0 || self.remaining() == 0 {
            return Selection::NONE;
        }
        let spend = |remaining: u64| Some(remaining.saturating_sub(wanted));
        let (Ok(had) | Err(had)) = self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        if had >= wanted { selection } else { selection.take(had as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_worker_takes_exactly_the_first_packets(limit in 0u64..500, bursts in prop::collection::vec(any::<u64>(), 0..20)) {
            let shared = Limit::new(limit);
            let mut left = limit;
            for bits in bursts {
                let taken = shared.take(Selection::from_bits(bits));
                let expected = Selection::from_bits(bits).indices().take(left as usize).fold(0, |bits, index| bits | 1 << index);
                prop_assert_eq!(taken.bits(), expected);
                left -= u64::from(taken.count());
                prop_assert_eq!(shared.remaining(), left);
            }
        }
    }

    #[test]
    fn several_workers_take_the_limit_together_to_the_packet() {
        let limit = Limit::new(100_003);
        let taken: u64 = std::thread::scope(|scope| {
            let worker = || {
                (0..1_000)
                    .map(|_| u64::from(limit.take(Selection::from_bits(u64::MAX >> 3)).count()))
                    .sum::<u64>()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((taken, limit.remaining()), (100_003, 0));
    }
}
