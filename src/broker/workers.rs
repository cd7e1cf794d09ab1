//! The broker's handles to the workers on their lcores, and how long it waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Error, RETURN_LIMIT};
use crate::report::snapshot::lcore::Stages;
use tapline_datapath::counters::WorkerCounters;
use tapline_datapath::route::sample::WorkerShare;
use tapline_datapath::swap::plan_part::Swap;
use tapline_datapath::worker::panics::PanicReport;
use tapline_datapath::worker::{Phase, PhaseCell, Worker};
use tapline_dpdk::LcoreId;
use tapline_dpdk::lcore::{CpuUse, Running};

/// The broker's handle to a worker on its lcore.
pub(super) struct WorkerHandle {
    pub lcore: LcoreId,
    pub running: Option<Running<Worker>>,
    pub stages: Stages,
    pub quiet_turns: Arc<AtomicU64>,
    /// Its share of what rules remember; `None` if it judges no packets.
    pub share: Option<WorkerShare>,
    pub swap: Arc<Swap>,
    pub panics: Arc<PanicReport>,
}

impl WorkerHandle {
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

/// The handles to all workers.
pub(super) struct RunningWorkers {
    pub handles: Vec<WorkerHandle>,
    /// Workers that gave themselves back when they returned.
    pub returned: Vec<Worker>,
    pub phase: Arc<PhaseCell>,
}

impl RunningWorkers {
    /// Begins with no worker, in the phase in which they wait.
    pub(super) fn new() -> Self {
        Self { handles: Vec::new(), returned: Vec::new(), phase: Arc::new(PhaseCell::new(Phase::Waiting)) }
    }

    /// Gives the lcores of workers that returned without being asked to.
    pub(super) fn lost(&self) -> Vec<LcoreId> {
        self.handles
            .iter()
            .filter(|handle| handle.running.as_ref().is_some_and(Running::is_finished))
            .map(|handle| handle.lcore)
            .collect()
    }

    /// Sets the phase and waits until nothing is on its way, at most `limit` besides the time in which workers wait for their CPUs.
    /// Returns whether all came to rest.
    pub(super) fn rest(&self, phase: Phase, limit: Duration) -> bool {
        self.phase.set(phase);
        let mut graces: Vec<Grace> = self.handles.iter().map(|handle| Grace::new(handle, limit)).collect();
        // Packets go from receive to work to transmit. Once all workers have had a quiet turn that began after the phase was set,
        // none receives; once all have had one that began after that, nothing waits for work; once all have had a third, nothing waits for transmit.
        for _stage in 0..3 {
            for (handle, grace) in self.handles.iter().zip(&mut graces) {
                if !handle.rests(grace) {
                    return false;
                }
            }
        }
        true
    }

    /// Ends the workers, whose counters are `counters` by worker. What they still hold is dropped and counted.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub(super) fn end(&mut self, counters: &[Arc<WorkerCounters>]) -> Result<(), Error> {
        self.phase.set(Phase::Stopped);
        let mut failed = Ok(());
        let graces: Vec<Grace> =
            self.handles.iter().map(|handle| Grace::new(handle, RETURN_LIMIT)).collect();
        for ((handle, counters), mut grace) in self.handles.iter_mut().zip(counters).zip(graces) {
            if let Some(running) = handle.running.take() {
                while !running.is_finished() && !grace.is_over(&running) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if !running.is_finished() {
                    handle.running = Some(running);
                    let stage = counters.lcore.stage();
                    failed = Err(Error::Stuck { lcore: handle.lcore.0, stage });
                    continue;
                }
                match running.join() {
                    Ok(worker) => self.returned.push(worker),
                    Err(panic) => failed = Err(Error::Worker { lcore: handle.lcore.0, panic }),
                }
            }
        }
        for worker in &mut self.returned {
            worker.abandon();
        }
        failed
    }
}

/// A time limit for a worker. Time in which others keep it from its CPU is not counted.
struct Grace {
    begun: Instant,
    limit: Duration,
    /// The time that it had waited for its CPU before.
    waited: Duration,
    /// The CPU time that it had used when it was last seen to have used more, and the moment of that.
    ran: (Duration, Instant),
}

impl Grace {
    /// A grace that begins now.
    fn new(handle: &WorkerHandle, limit: Duration) -> Self {
        let CpuUse { ran, waited, .. } = handle.running.as_ref().map(Running::cpu_use).unwrap_or_default();
        let begun = Instant::now();
        Self { begun, limit, waited, ran: (ran, begun) }
    }

    /// Returns whether the time is up. The caller asks again and again: each call notes whether the worker has run.
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

/// The most that a limit is extended by for time in which a worker waited for its CPU.
const LONGEST_EXCUSE: Duration = Duration::from_secs(30);
