//! Plan -> running: EAL, ports, pools and workers are set up from a plan, run, drained and taken down.

/// Counts what is done.
mod account;
/// Leads workers by hand, for fuzzing.
pub mod bench;
/// Puts another plan in the place of the running one.
mod change;
/// Fits the clocks of NICs to the system's.
pub mod clocks;
/// Stands for what is behind a port.
pub mod device;
/// Ends a run.
mod ending;
/// Watches for devices that are taken away.
mod gone;
/// Looks after what runs.
mod housekeeping;
/// Stands for an interface of the kernel that is a port.
pub mod iface_port;
/// Judges what a second's statistics say.
mod judge;
/// This is what another plan keeps.
mod kept;
/// Holds ports, clocks and files.
mod machine;
/// Keeps next hops resolved and probes tools.
pub mod neighbours;
/// Finds offloads that change frames.
mod offloads;
/// Locks the files that are written.
pub mod outputs;
/// Watches the files that net_pcap writes.
pub mod pcap_output;
/// Sets up beside the running plan what another asks for.
mod prepare;
/// Keeps the moments that rates are counted from.
mod recent;
/// Writes captures.
pub mod recorder;
/// Names why a plan is not run.
pub mod refusal;
/// Sets up a worker whose ports are made up.
pub mod rehearsal;
/// Takes away what a plan has no more.
pub mod retire;
/// Sets up what a plan asks for.
pub mod start;
/// Judges schedules, tools and groups, and publishes what came out.
pub mod watch;
/// Holds the workers on their lcores.
mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::tool::Observation;
use crate::plan::{Plan, RunOptions, memory};
use crate::report::events::Events;
use crate::report::recent::Mark;
use crate::report::snapshot;
use crate::report::snapshot::totals::InFlight;
use crate::report::snapshot::{Report, lcore};
use account::Account;
use housekeeping::Guards;
use machine::Machine;
use neighbours::Neighbours;
use recent::Moments;
use recorder::Recorder;
use refusal::Refusal;
use retire::{Retirement, Swapped};
use start::copies::CopyResources;
use start::fixed::Fixed;
use start::placement::LcoreRoles;
use start::queues::Layout;
use tapline_api::event::Event;
use tapline_api::snapshot::{InFlightLimit, KeptDevice, Snapshot};
use tapline_api::words::Stage;
use tapline_datapath::flow::table::Secret;
use tapline_datapath::ids::ToolId;
use tapline_datapath::worker::Phase;
use tapline_dpdk::{LcoreId, clock};
use watch::Watch;
use workers::RunningWorkers;

pub use start::start;

/// Why a plan could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Dpdk(#[from] tapline_dpdk::Error),
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Another plan that cannot take the place of the running one.
    #[error("{0}")]
    NotChanged(String),
    #[error("{0}")]
    Misplaced(#[from] start::placement::Misplaced),
    #[error(
        "lcore {lcore}: worker did not return; it is stuck in stage {stage}, and what it holds cannot be accounted for"
    )]
    Stuck { lcore: u32, stage: Stage },
    #[error("lcore {lcore}: worker stopped: {panic}")]
    Worker { lcore: u32, panic: String },
}

/// A running plan. What has DPDK's memory holds EAL, in whatever order the fields go.
pub struct Broker {
    plan: Arc<Plan>,
    options: RunOptions,
    workers: RunningWorkers,
    neighbours: Neighbours,
    machine: Machine,
    /// Judges schedules, tools and groups.
    watch: Watch,
    /// Judges workers, alarms and links.
    guards: Guards,
    account: Account,
    /// The writers of capture tools.
    recorders: Vec<Recorder>,
    /// Copies of replays that wait for their tool's file, and that it did not take before the run ended.
    unwritten: Vec<(ToolId, u64)>,
    /// The events, from what was decided at the start on.
    events: Events,
    /// The failures while running: recorded once, and remembered for the exit status.
    failures: Vec<Event>,
    started: Instant,
    /// The moments that rates are counted from.
    moments: Moments,
    fixed: Fixed,
    roles: LcoreRoles,
    /// Who polls and sends what.
    layout: Layout,
    /// The last change that is over.
    swapped: Option<Swapped>,
    /// The parts of the plan before that leave, until all of them are gone.
    retirement: Option<Retirement>,
    copy_resources: CopyResources,
    secret: Secret,
    /// All workers have returned, and all is written: nothing is on its way any more.
    is_at_rest: bool,
}

/// How long workers may take to return once they are told to: far longer than a turn, for CPUs that others keep busy.
pub const RETURN_LIMIT: Duration = Duration::from_secs(5);

/// How long a drain may take before what waits is given up and counted, besides the time in which a worker waits for its CPU.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Why a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Somebody said so at that moment, by a signal or `quit`.
    Asked,
    /// The time is up that was said at the start.
    TimeUp,
    /// No packet came for long enough.
    Idle,
}

impl Broker {
    /// The running plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Gives the events, from what was decided at the start on: memory, placement of workers.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Records what happened to the run outside of the broker.
    pub fn record(&mut self, event: Event) {
        self.events.record(clock::now_ns(), event);
    }

    /// Lets the workers receive.
    pub fn resume(&self) {
        self.workers.phase.set(Phase::Running);
    }

    /// Stops receiving and waits until nothing waits for a tool, at most `limit` besides the time in which workers wait for their
    /// CPUs. Returns whether everything was sent.
    /// Wires with a bypass keep forwarding, once they have begun.
    pub fn pause(&self, limit: Duration) -> bool {
        self.workers.phase.get() == Phase::Waiting || self.workers.rest(Phase::Paused, limit)
    }

    pub fn is_running(&self) -> bool {
        self.workers.phase.get() == Phase::Running
    }

    /// Returns the turns of each worker so far: a worker that sleeps for want of packets has one each time that it wakes up.
    pub fn turns(&self) -> Vec<u64> {
        self.account.counters.iter().map(|counters| counters.lcore.turns.get()).collect()
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.account.received()
    }

    /// Workers that returned without being asked to: their lcores.
    pub fn lost_workers(&self) -> Vec<LcoreId> {
        self.workers.lost()
    }

    /// Captures that could not be read to their end, or written, and workers that panicked too often. Each is among the
    /// [`events`](Self::events), too.
    pub fn failures(&self) -> &[Event] {
        &self.failures
    }

    /// `tool drain`, `tool enable`: takes a tool out of service, or back.
    ///
    /// # Errors
    /// If there is no such tool.
    pub fn set_drained(&mut self, name: &str, is_drained: bool) -> Result<(), Error> {
        let found = self.plan.tools.entries().find(|(_, tool)| tool.name == name);
        let (tool, _) = found.ok_or_else(|| Refusal::UnknownTool(name.to_owned()))?;
        let observation = if is_drained { Observation::Drain } else { Observation::Enable };
        self.watch.observe(tool, observation, &mut self.events.at(clock::now_ns()));
        Ok(())
    }

    /// Forgets what was counted so far; the identities are still judged over everything.
    pub fn clear_stats(&mut self) {
        self.account.cleared = Some(self.account.totals().at_rest());
        self.account.cleared_drivers =
            self.machine.ports.ids().map(|port| self.machine.driver_stats(port)).collect();
        self.neighbours.clear_counts();
        self.moments.cleared = self.started.elapsed();
    }

    /// Says how much may be on its way, since workers had been given so many bursts; nothing once all have returned.
    /// # Source
    /// Besides the bursts that came meanwhile, a worker has one in its hands.
    fn in_flight(&self, bursts: &[u64]) -> InFlight {
        if self.is_at_rest {
            return InFlight::default();
        }
        let plan = &*self.plan;
        let bursts: u64 = self.account.bursts().iter().zip(bursts).map(|(now, then)| now - then + 1).sum();
        InFlight {
            packets: bursts * plan.settings.burst as u64 + memory::between_lcores(plan),
            waiting: memory::waiting_by_egress(plan),
            is_leaving: self.retirement.is_some() || self.account.has_leaving(),
        }
    }

    /// Takes the statistics as they are. Their rates are of the last second, and of up to a second before.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_since(self.moments.standing())
    }

    /// Takes the statistics as they are, with rates of the time since `mark`.
    pub fn snapshot_since(&self, mark: &Mark) -> Snapshot {
        let mut snapshot = self.count();
        self.moments.fill(&mut snapshot, mark, &self.plan, &self.account);
        snapshot
    }

    /// Begins an interval at `snapshot`, which was just taken.
    pub fn mark(&mut self, snapshot: &Snapshot) -> Mark {
        Mark { snapshot: Some(Arc::new(snapshot.clone())), peaks: self.moments.look(&self.account) }
    }

    /// Puts the numbers of this moment together.
    fn count(&self) -> Snapshot {
        let bursts = self.account.bursts();
        let all = self.account.totals();
        let in_flight = self.in_flight(&bursts);
        let is_balanced = all.is_balanced_within(&in_flight);
        let totals =
            self.account.cleared.as_ref().map_or_else(|| all.clone(), |cleared| all.since(cleared));
        let lcores = self.workers.handles.iter().zip(&self.account.counters).enumerate().map(
            |(index, (handle, counters))| {
                let watchdog = self.guards.watchdogs.get(index).copied().unwrap_or_default();
                (handle.lcore, lcore::entry(handle.stages, counters, &watchdog))
            },
        );
        let mut snapshot = snapshot::snapshot(Report {
            plan: &self.plan,
            totals: &totals,
            ports: self.machine.states(&self.plan, &self.account.cleared_drivers),
            lcores: lcores.collect(),
            watch: self.watch.state(),
            events: self.events.changes(),
            uptime: self.started.elapsed(),
            in_flight_limit: InFlightLimit {
                packets: in_flight.packets,
                copies: in_flight.waiting.iter().map(|waiting| waiting + in_flight.packets).sum(),
            },
            is_balanced,
        });
        let kept = self.machine.kept_devices.iter().map(|kept| KeptDevice {
            port: kept.port.clone(),
            device: kept.device.clone(),
            error: kept.error.clone(),
        });
        snapshot.kept_devices = kept.collect();
        for ((_, entry), tool) in snapshot.tools.iter_mut().zip(self.plan.tools.ids()) {
            entry.next_hop = self.neighbours.entry(tool);
            entry.heartbeat = self.neighbours.heartbeats(tool);
            entry.echo = self.neighbours.echoes(tool);
            entry.icmp_errors = self.neighbours.icmp_errors(tool);
        }
        for ((_, entry), port) in snapshot.ports.iter_mut().zip(self.plan.ports.ids()) {
            entry.answers = self.neighbours.answers(port);
        }
        self.guards.show_alarms(&mut snapshot);
        snapshot
    }

    /// The time since the start without that in which a worker got no CPU, as [`watch`](Self::watch) saw it.
    pub fn worked(&self) -> Duration {
        self.guards.pace.time()
    }

    /// Returns whether the file of some capture tool has not taken yet what it was given and may be written: no run is idle before.
    pub fn is_writing(&self) -> bool {
        self.recorders.iter().any(|recorder| {
            let (requested, ended) = self.account.copies_of(recorder.tool);
            requested > ended + recorder.held() && !self.watch.is_down(recorder.tool)
        })
    }

    /// Lets capture tools write what they hold for the sake of its order, since nothing more seems to come.
    /// Returns whether there was any.
    pub fn let_go(&self) -> bool {
        self.recorders
            .iter()
            .filter(|recorder| !self.watch.is_down(recorder.tool))
            .fold(false, |any, recorder| any | recorder.let_go())
    }
}
