//! A worker on its lcore, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Error, RETURN_LIMIT};
use crate::report::snapshot::lcore::Stages;
use tapline_datapath::counters::WorkerCounters;
use tapline_datapath::route::sample::WorkerSeat;
use tapline_datapath::swap::plan_part::Exchange;
use tapline_datapath::worker::panics::PanicReport;
use tapline_datapath::worker::{Phase, PhaseCell, Worker};
use tapline_dpdk::LcoreId;
use tapline_dpdk::lcore::{CpuUse, Running};

/// A worker on its lcore.
pub(super) struct Seat {
    pub lcore: LcoreId,
    pub running: Option<Running<Worker>>,
    pub stages: Stages,
    pub quiet_turns: Arc<AtomicU64>,
    /// Where it judges packets: its place among those that do.
    pub post: Option<WorkerSeat>,
    pub exchange: Arc<Exchange>,
    pub panics: Arc<PanicReport>,
}

impl Seat {
    /// Waits for a quiet turn that began after the call. Returns whether there was one.
    fn rests(&self, grace: &mut Grace) -> bool {
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

/// All workers.
pub(super) struct RunningCrew {
    pub seats: Vec<Seat>,
    /// What workers gave back when they returned.
    pub returned: Vec<Worker>,
    pub phase: Arc<PhaseCell>,
}

impl RunningCrew {
    /// Begins with no worker, in the phase in which they wait.
    pub(super) fn new() -> Self {
        Self { seats: Vec::new(), returned: Vec::new(), phase: Arc::new(PhaseCell::new(Phase::Waiting)) }
    }

    /// Workers that returned without being asked to: their lcores.
    pub(super) fn lost(&self) -> Vec<LcoreId> {
        self.seats
            .iter()
            .filter(|seat| seat.running.as_ref().is_some_and(Running::is_finished))
            .map(|seat| seat.lcore)
            .collect()
    }

    /// Sets the phase and waits until nothing is on its way, at most `limit` besides the time in which workers wait for their CPUs.
    /// Returns whether all came to rest.
    pub(super) fn rest(&self, phase: Phase, limit: Duration) -> bool {
        self.phase.set(phase);
        let mut graces: Vec<Grace> = self.seats.iter().map(|seat| Grace::new(seat, limit)).collect();
        // Packets go from receive to work to transmit. Once all workers have had a quiet turn that began after the phase was set,
        // none receives; once all have had one that began after that, nothing waits for work; and likewise for transmit.
        for _stage in 0..3 {
            for (seat, grace) in self.seats.iter().zip(&mut graces) {
                if !seat.rests(grace) {
                    return false;
                }
            }
        }
        true
    }

    /// Ends the workers, whose counters are `counters` by seat. What they still hold is dropped and counted.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub(super) fn end(&mut self, counters: &[Arc<WorkerCounters>]) -> Result<(), Error> {
        self.phase.set(Phase::Stopped);
        let mut failed = Ok(());
        let graces: Vec<Grace> = self.seats.iter().map(|seat| Grace::new(seat, RETURN_LIMIT)).collect();
        for ((seat, counters), mut grace) in self.seats.iter_mut().zip(counters).zip(graces) {
            if let Some(running) = seat.running.take() {
                while !running.is_finished() && !grace.is_over(&running) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if !running.is_finished() {
                    seat.running = Some(running);
                    let stage = counters.lcore.stage();
                    failed = Err(Error::Stuck { lcore: seat.lcore.0, stage });
                    continue;
                }
                match running.join() {
                    Ok(worker) => self.returned.push(worker),
                    Err(panic) => failed = Err(Error::Worker { lcore: seat.lcore.0, panic }),
                }
            }
        }
        for worker in &mut self.returned {
            worker.abandon();
        }
        failed
    }
}

/// How long a worker may take. Time in which others keep it from its CPU is not counted.
struct Grace {
    begun: Instant,
    limit: Duration,
    /// How long it had waited for its CPU before.
    waited: Duration,
    /// How long it had run when it was last seen to have run more, and when that was.
    ran: (Duration, Instant),
}

impl Grace {
    /// From now on.
    fn new(seat: &Seat, limit: Duration) -> Self {
        let CpuUse { ran, waited, .. } = seat.running.as_ref().map(Running::cpu_use).unwrap_or_default();
        let begun = Instant::now();
        Self { begun, limit, waited, ran: (ran, begun) }
    }

    /// To be asked again and again.
    fn is_over(&mut self, running: &Running<Worker>) -> bool {
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
