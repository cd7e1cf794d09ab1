//! The two identities that hold when nothing is on its way: every packet has one disposition, every copy one end.

use tapline_api::snapshot::Packets;
use tapline_api::words::Disposition;
use tapline_datapath::counters::WorkerCounters;

/// Adds up what the workers counted.
pub fn packets_of<'a>(workers: impl Iterator<Item = &'a WorkerCounters>) -> Packets {
    workers.fold(Packets::default(), |sum, worker| {
        let get = |disposition: Disposition| worker.dispositions[disposition as usize].get();
        Packets {
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
        assert!(!packets_of(workers.iter()).is_balanced());
        workers[1].settle(Disposition::SampledOut, 1);
        assert!(packets_of(workers.iter()).is_balanced());
    }
}
