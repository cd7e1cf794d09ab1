//! A worker on its lcore, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::datapath::exchange::Exchange;
use crate::datapath::panics::PanicReport;
use crate::datapath::sample::WorkerSeat;
use crate::datapath::worker::Worker;
use crate::dpdk::LcoreId;
use crate::dpdk::lcore::{CpuUse, Running};
use crate::stats::snapshot::lcore::Stages;

/// A worker on its lcore.
pub(super) struct Seat {
    pub(super) lcore: LcoreId,
    pub(super) running: Option<Running<Worker>>,
    pub(super) stages: Stages,
    pub(super) quiet_turns: Arc<AtomicU64>,
    /// Where it judges packets: its place among those that do.
    pub(super) post: Option<WorkerSeat>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) panics: Arc<PanicReport>,
}

impl Seat {
    /// Waits for a quiet turn that began after the call. Whether there was one.
    pub(super) fn rests(&self, grace: &mut Grace) -> bool {
        // the turn that is on its way may have begun before
        let mut enough = self.quiet_turns.load(Ordering::Acquire).saturating_add(2);
        loop {
            let turns = self.quiet_turns.load(Ordering::Acquire);
            if turns >= enough {
                return true;
            }
            if self.running.as_ref().is_none_or(|running| grace.is_over(running)) {
                return false;
            }
            // after a turn that was not quiet they count from 0
            enough = enough.min(turns.saturating_add(2));
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// How long a worker may take. Time in which others keep it from its CPU is not counted.
pub(super) struct Grace {
    begun: Instant,
    limit: Duration,
    /// How long it had waited for its CPU before.
    waited: Duration,
    /// How long it had run when it was last seen to have run more, and when that was.
    ran: (Duration, Instant),
}

impl Grace {
    /// From now on.
    pub(super) fn new(seat: &Seat, limit: Duration) -> Self {
        let CpuUse { ran, waited, .. } = seat.running.as_ref().map(Running::cpu_use).unwrap_or_default();
        let begun = Instant::now();
        Self { begun, limit, waited, ran: (ran, begun) }
    }

    /// To be asked again and again.
    pub(super) fn is_over(&mut self, running: &Running<Worker>) -> bool {
        let cpu = running.cpu_use();
        if self.ran.0 != cpu.ran || !cpu.wants_more {
            self.ran = (cpu.ran, Instant::now());
        }
        // the kernel adds a wait once it is over
        let excused = cpu.waited.saturating_sub(self.waited) + self.ran.1.elapsed();
        self.begun.elapsed() >= self.limit + excused.min(LONGEST_EXCUSE)
    }
}

/// The most that is added to that for time in which a worker waited for its CPU.
const LONGEST_EXCUSE: Duration = Duration::from_secs(30);
