//! Plan -> running: EAL, ports, pools and workers are set up from a plan, run, drained and taken down.

pub mod health;
pub mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::datapath::worker::{Phase, PhaseCell, Worker};
use crate::dpdk::lcore::Running;
use crate::dpdk::port::Port;
use crate::dpdk::{Eal, LcoreId};
use crate::plan::Plan;
use crate::stats::counters::WorkerCounters;
use crate::stats::snapshot::{LcoreState, PortState, Snapshot, Totals};

pub use start::start;

/// Why a plan could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Dpdk(#[from] crate::dpdk::Error),
    #[error("{0}")]
    Refused(String),
    #[error("lcore {lcore}: worker stopped: {panic}")]
    Worker { lcore: u32, panic: String },
}

/// A running plan. Fields are dropped in their order: workers before ports, ports before EAL.
pub struct Broker {
    plan: Arc<Plan>,
    seats: Vec<Seat>,
    /// What workers gave back when they returned.
    returned: Vec<Worker>,
    phase: Arc<PhaseCell>,
    ports: Vec<Port>,
    eal: Eal,
    started: Instant,
    /// Totals at the last `clear stats`.
    cleared: Option<Totals>,
    counters: Vec<Arc<WorkerCounters>>,
    /// What was decided at start that the user may want to know.
    notes: Vec<String>,
}

/// A worker on its lcore.
struct Seat {
    lcore: LcoreId,
    running: Option<Running<Worker>>,
    is_quiet: Arc<AtomicBool>,
}

/// How long a drain may take before what waits is given up and counted.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

impl Broker {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was decided at start: memory, placement of workers.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Lets the workers receive.
    pub fn resume(&self) {
        self.phase.set(Phase::Running);
    }

    /// Stops receiving and waits, at most `limit`, until nothing waits for a tool. Whether everything was sent.
    /// Wires with a bypass keep forwarding.
    pub fn pause(&self, limit: Duration) -> bool {
        self.rest(Phase::Paused, limit)
    }

    fn rest(&self, phase: Phase, limit: Duration) -> bool {
        self.phase.set(phase);
        let deadline = Instant::now() + limit;
        // A worker that was quiet in an earlier pause says so again only after a turn of its loop: ask twice in a row.
        let mut quiet_looks = 0;
        while quiet_looks < 2 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
            let is_quiet = self.seats.iter().all(|seat| seat.is_quiet.load(Ordering::Acquire));
            quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
        }
        true
    }

    pub fn is_running(&self) -> bool {
        self.phase.get() == Phase::Running
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.counters.iter().map(|counters| counters.received.get()).sum()
    }

    /// Workers that returned without being asked to: their lcores.
    pub fn lost_workers(&self) -> Vec<LcoreId> {
        self.seats.iter().filter(|seat| seat.running.as_ref().is_some_and(Running::is_finished)).map(|seat| seat.lcore).collect()
    }

    /// What DPDK and its drivers logged since the last call.
    pub fn log(&self) -> Vec<String> {
        self.eal.log()
    }

    /// Forgets what was counted so far; the identities are still judged over everything.
    pub fn clear_stats(&mut self) {
        self.cleared = Some(Totals::of(&self.counters));
    }

    pub fn snapshot(&self) -> Snapshot {
        let all = Totals::of(&self.counters);
        let balanced = all.is_balanced();
        let totals = self.cleared.as_ref().map_or_else(|| all.clone(), |cleared| all.since(cleared));
        let ports = self.ports.iter().map(|port| PortState {
            driver_name: port.info().driver.clone(),
            link: port.link(),
            driver: port.stats(),
        });
        let lcores = self.seats.iter().zip(&self.counters).map(|(seat, counters)| LcoreState {
            lcore: seat.lcore,
            received: counters.received.get(),
            turns: counters.lcore.turns.get(),
            idle_turns: counters.lcore.idle_turns.get(),
            polls: counters.lcore.polls.get(),
            empty_polls: counters.lcore.empty_polls.get(),
        });
        Snapshot::new(&self.plan, &totals, ports.collect(), lcores.collect(), self.started.elapsed(), balanced)
    }

    /// Drains the tools, for at most [`DRAIN_LIMIT`], and ends the workers. What could not be sent is dropped and counted.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.rest(Phase::Draining, DRAIN_LIMIT);
        self.phase.set(Phase::Stopped);
        let mut failed = Ok(());
        for seat in &mut self.seats {
            if let Some(running) = seat.running.take() {
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

impl Drop for Broker {
    fn drop(&mut self) {
        // workers poll memory that is about to go
        let _ = self.stop();
    }
}
