//! The two identities that hold when nothing is on its way: every packet has one disposition, every copy one end.

use serde::Serialize;

use tapline_datapath::counters::{Disposition, DropReason, WorkerCounters};

/// Packets by disposition.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Packets {
    pub received: u64,
    pub delivered: u64,
    pub unmatched: u64,
    pub excluded: u64,
    pub sampled_out: u64,
    pub duplicate: u64,
    pub failed: u64,
}

/// Copies by end.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Copies {
    pub requested: u64,
    pub sent: u64,
    pub dropped: Dropped,
}

/// Copies that were not sent, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Dropped(pub [u64; DropReason::ALL.len()]);

impl Serialize for Dropped {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(DropReason::ALL.iter().map(|&reason| (reason.name(), self.get(reason))))
    }
}

impl Dropped {
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// `count` copies dropped for `reason`.
    pub fn of(reason: DropReason, count: u64) -> Self {
        let mut dropped = Self::default();
        dropped.0[reason as usize] = count;
        dropped
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Packets {
    /// Adds up what the workers counted.
    pub fn of<'a>(workers: impl Iterator<Item = &'a WorkerCounters>) -> Self {
        workers.fold(Self::default(), |sum, worker| {
            let get = |disposition: Disposition| worker.dispositions[disposition as usize].get();
            Self {
                received: sum.received + worker.received(),
                delivered: sum.delivered + get(Disposition::Delivered),
                unmatched: sum.unmatched + get(Disposition::Unmatched),
                excluded: sum.excluded + get(Disposition::Excluded),
                sampled_out: sum.sampled_out + get(Disposition::SampledOut),
                duplicate: sum.duplicate + get(Disposition::Duplicate),
                failed: sum.failed + get(Disposition::Failed),
            }
        })
    }

    /// Packets that have a disposition.
    pub fn ended(&self) -> u64 {
        self.delivered + self.unmatched + self.excluded + self.sampled_out + self.duplicate + self.failed
    }

    pub fn is_balanced(&self) -> bool {
        self.received == self.ended()
    }
}

impl Copies {
    /// Copies that were sent or dropped.
    pub fn ended(&self) -> u64 {
        self.sent + self.dropped.total()
    }

    pub fn is_balanced(&self) -> bool {
        self.requested == self.ended()
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Copies) -> Copies {
        Copies {
            requested: self.requested.saturating_sub(earlier.requested),
            sent: self.sent - earlier.sent,
            dropped: Dropped(std::array::from_fn(|reason| {
                self.dropped.0[reason] - earlier.dropped.0[reason]
            })),
        }
    }

    pub fn add(&mut self, other: &Copies) {
        self.requested += other.requested;
        self.sent += other.sent;
        for (sum, count) in self.dropped.0.iter_mut().zip(other.dropped.0) {
            *sum += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_datapath::ids::PortId;

    #[test]
    fn a_packet_without_a_disposition_unbalances_the_ledger() {
        let workers = [WorkerCounters::new(1, 1, 1, 0), WorkerCounters::new(1, 1, 1, 0)];
        workers[0].ports[PortId(0)].packets.add(3);
        workers[1].ports[PortId(0)].packets.add(2);
        workers[0].settle(Disposition::Delivered, 3);
        workers[1].settle(Disposition::Unmatched, 1);
        assert!(!Packets::of(workers.iter()).is_balanced());
        workers[1].settle(Disposition::SampledOut, 1);
        assert!(Packets::of(workers.iter()).is_balanced());
    }

    #[test]
    fn dropped_copies_are_named_by_reason() {
        let mut dropped = Dropped::default();
        dropped.0[DropReason::NoBuffer as usize] = 7;
        let json = serde_json::to_string(&dropped).expect("plain numbers");
        assert_eq!(
            json,
            r#"{"congested":0,"down":0,"oversize":0,"no_buffer":7,"rate_limited":0,"undersize":0,"internal":0}"#
        );
    }
}
