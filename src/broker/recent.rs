//! The moments that rates of snapshots are counted from, and the peaks of queues that the control thread takes from workers.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::kept::Kept;
use crate::plan::Plan;
use crate::report::recent::{Mark, Peaks, compare};
use tapline_api::snapshot::Snapshot;
use tapline_datapath::counters::EgressCounters;
use tapline_datapath::egresses::Side;
use tapline_datapath::ids::EgressId;
use tapline_packet::by_id::ById;

/// Time between two moments of which rates are counted for whoever has no interval of his own.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// The latest moments, and the peaks of queues since then.
#[derive(Default)]
pub(super) struct Moments {
    /// When the next is due.
    pub(super) next: Duration,
    /// The one before the latest, and the latest: the interval since the first is a second at least.
    marks: [Mark; 2],
    /// How often peaks were taken.
    looks: u64,
    peaks: ById<EgressId, Peaks>,
    /// When counters were cleared.
    pub(super) cleared: Duration,
}

impl Moments {
    /// Returns the moment that snapshots are compared with for whoever has no interval of his own.
    pub(super) fn standing(&self) -> &Mark {
        &self.marks[0]
    }

    /// Returns the latest moment.
    pub(super) fn latest(&self) -> Option<&Arc<Snapshot>> {
        self.marks[1].snapshot.as_ref()
    }

    /// Begins a further interval at `mark`.
    pub(super) fn step(&mut self, mark: Mark) {
        self.marks = [std::mem::take(&mut self.marks[1]), mark];
    }

    /// Takes the peaks of queues: intervals that begin from here on do not have them.
    pub(super) fn look(&mut self, account: &Account) -> u64 {
        self.looks += 1;
        let workers = &account.counters;
        let Some(first) = workers.first() else { return self.looks };
        self.peaks.resize(first.egresses.len().max(self.peaks.len()), Peaks::default());
        for id in first.egresses.ids() {
            let of_worker = workers.iter().filter_map(|worker| worker.egresses.get(id));
            let peak = of_worker.map(|egress| egress.take_peak()).max().unwrap_or(0);
            self.peaks[id].note(self.looks, peak);
        }
        self.looks
    }

    /// Goes on with the queues that another plan keeps.
    pub(super) fn go_on(&mut self, kept: &Kept) {
        let peaks = |from: &Option<EgressId>| from.and_then(|from| self.peaks.get(from).cloned());
        self.peaks = kept.egresses.iter().map(|from| peaks(from).unwrap_or_default()).collect();
    }

    /// Fills in what `snapshot` says of the time since `mark`.
    pub(super) fn fill(&self, snapshot: &mut Snapshot, mark: &Mark, plan: &Plan, account: &Account) {
        compare(snapshot, mark.snapshot.as_deref(), self.cleared.as_secs_f64());
        let untaken = |egress: &EgressCounters| egress.queue_peak.get().max(egress.queue_depth.get());
        let peak = |id: EgressId| {
            let taken = self.peaks.get(id).map_or(0, |peaks| peaks.since(mark.peaks));
            let of_worker = account.counters.iter().filter_map(|worker| worker.egresses.get(id));
            Some(of_worker.map(|egress| untaken(egress)).fold(taken, u64::max))
        };
        for ((_, tool), id) in snapshot.tools.iter_mut().zip(plan.tools.ids()) {
            tool.recent.queue_peak = peak(id.egress());
        }
        for ((_, wire), id) in snapshot.wires.iter_mut().zip(plan.wires.ids()) {
            let [a, b] = Side::ALL.map(|from| peak(plan.egresses().of_wire(id, from)));
            (wire.a_to_b.recent.queue_peak, wire.b_to_a.recent.queue_peak) = (a, b);
        }
    }
}
