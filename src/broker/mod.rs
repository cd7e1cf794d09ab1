//! Plan -> running: EAL, ports, pools and workers are set up from a plan, run, drained and taken down.

pub mod bench;
pub mod clocks;
pub mod device;
pub mod echo;
pub mod guards;
pub mod health;
pub mod neighbours;
pub mod next_hop;
pub mod outputs;
pub mod pcap_output;
pub mod probe;
pub mod recorder;
pub mod reload;
pub mod start;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::datapath::cut::Longest;
use crate::datapath::endpoint::EndpointReport;
use crate::datapath::exchange::Exchange;
use crate::datapath::fit::Fit;
use crate::datapath::flow_table::Secret;
use crate::datapath::panics::{MOST_PANICS, PANIC_WINDOW, PanicReport};
use crate::datapath::receive::Source;
use crate::datapath::replay::Left;
use crate::datapath::sample::{Budget, WorkerSeat};
use crate::datapath::worker::{Phase, PhaseCell, Worker};
use crate::dpdk::lcore::{CpuUse, Running};
use crate::dpdk::port::DriverStats;
use crate::dpdk::{Eal, LcoreId, clock};
use crate::plan::Plan;
use crate::plan::plan::{Idle, Output, PortId, ToolId};
use crate::plan::pools;
use crate::stats::counters::{DropReason, ToolCounters, WorkerCounters, WriterCounters};
use crate::stats::snapshot::clock::ClockState;
use crate::stats::snapshot::lcore::{LcoreState, Stages};
use crate::stats::snapshot::port::{PortState, TerminateState};
use crate::stats::snapshot::totals::{RuleTotals, Totals};
use crate::stats::snapshot::{Report, Snapshot};
use clocks::Clocks;
use device::Device;
use guards::{Alarm, LinkTie, Pace, STALL_LIMIT, Sent, Turn, Usage, Watchdog};
use health::Observation;
use neighbours::Neighbours;
use outputs::Outputs;
use pcap_output::Written;
use recorder::Recorder;
use reload::Retiring;
use start::copies::Press;
use start::fixed::Fixed;
use start::ports::interface_mtu;
use watch::Watch;

pub use start::start;

/// Why a plan could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Dpdk(#[from] crate::dpdk::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Misplaced(#[from] start::placement::Misplaced),
    #[error("lcore {lcore}: worker did not return; it is stuck in stage {stage}, and what it holds cannot be accounted for")]
    Stuck { lcore: u32, stage: &'static str },
    #[error("lcore {lcore}: worker stopped: {panic}")]
    Worker { lcore: u32, panic: String },
}

/// A running plan. What has DPDK's memory holds EAL, in whatever order the fields go.
pub struct Broker {
    plan: Arc<Plan>,
    seats: Vec<Seat>,
    /// What workers gave back when they returned.
    returned: Vec<Worker>,
    phase: Arc<PhaseCell>,
    neighbours: Neighbours,
    ports: Vec<Device>,
    clocks: Clocks,
    /// By port, and by receive queue: what was counted where tunnels end.
    reports: Vec<Vec<EndpointReport>>,
    /// The writers of capture tools.
    recorders: Vec<Recorder>,
    /// By port: the files that net_pcap writes.
    written: Vec<Option<Written>>,
    /// Copies of replays that wait for their tool's file, and that it did not take before the run ended.
    unwritten: Vec<(ToolId, u64)>,
    /// What went wrong while running: reported once, and remembered for the exit status.
    failures: Vec<String>,
    press: Press,
    eal: Eal,
    guards: Guards,
    started: Instant,
    /// Totals at the last `clear stats`.
    cleared: Option<Totals>,
    /// By port: what the drivers had counted then.
    cleared_drivers: Vec<DriverStats>,
    /// Of the workers, by seat.
    counters: Vec<Arc<WorkerCounters>>,
    /// Of the capture writers, where there are any.
    writers: Option<Arc<WriterCounters>>,
    watch: Watch,
    /// By port: the MTU that its frames are judged by, where it is a kernel interface.
    mtus: Vec<Option<u32>>,
    /// By rule: what it counted under plans before.
    past: Vec<RuleTotals>,
    /// The plan before, while workers may still have it.
    retiring: Option<Retiring>,
    fixed: Fixed,
    secret: Secret,
    /// What was decided at start that the user may want to know.
    notes: Vec<String>,
    outputs: Outputs,
}

/// A worker on its lcore.
struct Seat {
    lcore: LcoreId,
    running: Option<Running<Worker>>,
    stages: Stages,
    quiet_turns: Arc<AtomicU64>,
    /// Where it judges packets: its place among those that do.
    post: Option<WorkerSeat>,
    exchange: Arc<Exchange>,
    panics: Arc<PanicReport>,
}

impl Seat {
    /// Waits for a quiet turn that began after the call. Whether there was one.
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

/// What the control thread watches, by seat, tool and wire.
#[derive(Default)]
struct Guards {
    next: Duration,
    dogs: Vec<Watchdog>,
    /// Of the queue and of the utilisation.
    alarms: Vec<[Alarm; 2]>,
    /// By tool: what it was sent of late.
    usage: Vec<Usage>,
    /// The time that tools are judged by.
    pace: Pace,
    ties: Vec<LinkTie>,
    /// Wires whose driver cannot set the link.
    untied: Vec<bool>,
    /// Ports whose driver was seen to cut frames.
    cut: Vec<bool>,
    /// By port: what a replay without mbufs had read at the last look, and whether that was said.
    starved: Vec<(Option<u64>, bool)>,
}

/// Time between two looks at links and alarms.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long workers may take to return once they are told to: far longer than a turn, for CPUs that others keep busy.
pub const RETURN_LIMIT: Duration = Duration::from_secs(5);
/// The most that is added to that for time in which a worker waited for its CPU.
const LONGEST_EXCUSE: Duration = Duration::from_secs(30);
const ALARM_NAMES: [&str; 2] = ["queue", "utilisation"];

/// How long a drain may take before what waits is given up and counted, besides the time in which a worker waits for its CPU.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What is wrong with a replay whose packets find no mbuf.
fn starvation(plan: &Plan, port: PortId, packets: u64) -> String {
    let (name, mbufs) = (&plan.ports[port.0].name, pools::port_pool(plan, port));
    format!(
        "port {name}: {packets} packets were read, and the next finds none of {mbufs} mbufs free: tools hold them; raise `set mempool`"
    )
}

/// How long what is left of the replays' files is counted.
const COUNT_LIMIT: Duration = Duration::from_secs(2);

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

/// A span of time as people say it.
fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{span:.1?}"),
        60..3600 => format!("{} m", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl Broker {
    /// The running plan.
    pub fn plan(&self) -> &Arc<Plan> {
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

    /// Stops receiving and waits until nothing waits for a tool, at most `limit` besides the time in which workers wait for their
    /// CPUs. Whether everything was sent.
    /// Wires with a bypass keep forwarding, once they have begun.
    pub fn pause(&self, limit: Duration) -> bool {
        self.phase.get() == Phase::Waiting || self.rest(Phase::Paused, limit)
    }

    fn rest(&self, phase: Phase, limit: Duration) -> bool {
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

    pub fn is_running(&self) -> bool {
        self.phase.get() == Phase::Running
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.counters.iter().map(|counters| counters.received()).sum()
    }

    /// Workers that returned without being asked to: their lcores.
    pub fn lost_workers(&self) -> Vec<LcoreId> {
        self.seats.iter().filter(|seat| seat.running.as_ref().is_some_and(Running::is_finished)).map(|seat| seat.lcore).collect()
    }

    /// What DPDK and its drivers logged since the last call.
    pub fn log(&self) -> Vec<String> {
        self.eal.log()
    }

    /// Keeps schedules and looks after workers, tools and wires: to be called every few milliseconds. Gives lines for the log.
    pub fn watch(&mut self) -> Vec<String> {
        let now_ns = clock::now_ns();
        self.collect();
        let mut log = self.watch.keep_schedules(now_ns);
        let now = self.started.elapsed();
        let turns = self.counters.iter().map(|counters| counters.lcore.turns.get());
        self.guards.pace.look(turns, now, self.longest_sleep());
        if self.watch.is_due(now_ns) {
            let excused_ns = clock::nanoseconds(self.guards.pace.take_excused());
            let links = self.ports.iter().map(Device::link_state).collect();
            log.extend(self.watch_files(now_ns));
            log.extend(self.watch.look(now_ns, excused_ns, links, &self.counters, self.writers.as_deref()));
        }
        // paused workers receive nothing, so nobody would be heard
        if self.is_running() {
            let elapsed_ns = clock::nanoseconds(self.guards.pace.time());
            log.extend(self.neighbours.look(elapsed_ns, now_ns, &mut self.watch));
        } else {
            self.neighbours.rest();
        }
        log.extend(self.clocks.look(now, &self.ports));
        self.watch_workers(now, &mut log);
        self.watch_panics(&mut log);
        if now >= self.guards.next {
            self.guards.next = now + LOOK_INTERVAL;
            self.watch_tools(now, &mut log);
            self.watch_wires(now, &mut log);
            self.watch_cuts(&mut log);
            self.watch_mtus(&mut log);
            self.watch_replays(&mut log);
        }
        log
    }

    /// Notes captures that could not be read or written.
    fn watch_files(&mut self, now_ns: u64) -> Vec<String> {
        let mut log = Vec::new();
        let replays = self.ports.iter().zip(&self.plan.ports).filter_map(|(port, plan)| {
            let path = &plan.replay.as_ref()?.path;
            Some(format!("port {}: {path}: {}", plan.name, port.failure()?))
        });
        let captures = self.recorders.iter().filter_map(|recorder| {
            let tool = &self.plan.tools[recorder.tool.0];
            if self.watch.is_stalled(recorder.tool) && self.plan.is_waited_for(recorder.tool) {
                let span = in_words(Duration::from_nanos(tool.health.stall_ns));
                return Some(format!(
                    "tool {}: its file took nothing for {span}, so no replay waits for it any more; what it lacks is counted as `down`; \
                     say a longer `down-after`",
                    tool.name
                ));
            }
            let failure = recorder.failure()?;
            log.extend(self.watch.observe(recorder.tool, Observation::WriteFailed, now_ns));
            Some(format!("tool {}: {failure}", tool.name))
        });
        let mut failures: Vec<String> = replays.chain(captures).collect();
        for (index, (written, device)) in self.written.iter_mut().zip(&self.ports).enumerate() {
            let Some(written) = written.as_mut().filter(|written| written.failure().is_none()) else { continue };
            written.look(&device.stats());
            let Some(failure) = written.failure() else { continue };
            failures.push(format!("port {}: {failure}", device.name()));
            for tool in tools_on(&self.plan, PortId(index)) {
                log.extend(self.watch.observe(tool, Observation::WriteFailed, now_ns));
            }
        }
        for failure in failures {
            if !self.failures.contains(&failure) {
                log.push(format!("alarm raised: {failure}"));
                self.failures.push(failure);
            }
        }
        log
    }

    /// Captures that could not be read to their end, or written, and workers that panicked too often.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// `tool drain`, `tool enable`: takes a tool out of service, or back. Gives lines for the log.
    ///
    /// # Errors
    /// If there is no such tool.
    pub fn set_drained(&mut self, name: &str, is_drained: bool) -> Result<Vec<String>, Error> {
        let place = self.plan.tools.iter().position(|tool| tool.name == name && tool.wire.is_none());
        let tool = place.map(ToolId).ok_or_else(|| Error::Refused(format!("unknown tool `{name}`")))?;
        let observation = if is_drained { Observation::Drain } else { Observation::Enable };
        Ok(self.watch.observe(tool, observation, clock::now_ns()))
    }

    /// Forgets what was counted so far; the identities are still judged over everything.
    pub fn clear_stats(&mut self) {
        self.cleared = Some(self.totals().at_rest());
        self.cleared_drivers = (0..self.ports.len()).map(|port| self.driver_stats(port)).collect();
        self.neighbours.clear_counts();
    }

    fn clock_of(&self, port: PortId) -> ClockState {
        let state = self.clocks.state(port.0);
        // what receive lcores hand over is timed from there on
        if self.plan.is_spread(port) { ClockState { latency_from: "ring", ..state } } else { state }
    }

    /// What a port's driver counts, and what of it is missing in the file that it wrote.
    fn driver_stats(&self, port: usize) -> DriverStats {
        let stats = self.ports[port].stats();
        let missing = self.written[port].as_ref().map_or(0, Written::missing);
        DriverStats { tx_errors: stats.tx_errors + missing, ..stats }
    }

    pub fn snapshot(&self) -> Snapshot {
        let all = self.totals();
        let is_balanced = all.is_balanced();
        let totals = self.cleared.as_ref().map_or_else(|| all.clone(), |cleared| all.since(cleared));
        let ports = self.ports.iter().enumerate().map(|(index, port)| PortState {
            driver_name: port.driver_name().to_owned(),
            link: port.link(),
            driver: self.driver_stats(index).since(&self.cleared_drivers.get(index).copied().unwrap_or_default()),
            replay: port.replay(),
            clock: self.clock_of(PortId(index)),
            terminate: TerminateState::of(&self.reports[index]),
            mtu: self.mtus[index],
        });
        let lcores = self.seats.iter().zip(&self.counters).enumerate().map(|(index, (seat, counters))| {
            let dog = self.guards.dogs.get(index).copied().unwrap_or_default();
            LcoreState::of(seat.lcore, seat.stages, counters, dog.is_stalled(), dog.stalls)
        });
        let mut snapshot = Snapshot::new(Report {
            plan: &self.plan,
            totals: &totals,
            ports: ports.collect(),
            lcores: lcores.collect(),
            watch: self.watch.state(),
            uptime: self.started.elapsed(),
            is_balanced,
        });
        let copy_tools = self.plan.tools.iter().enumerate().filter(|(_, tool)| tool.wire.is_none());
        for ((_, entry), (index, _)) in snapshot.tools.iter_mut().zip(copy_tools) {
            entry.next_hop = self.neighbours.entry(ToolId(index));
            entry.heartbeat = self.neighbours.heartbeats(ToolId(index));
            entry.echo = self.neighbours.echoes(ToolId(index));
        }
        for ((_, tool), alarms) in snapshot.tools.iter_mut().zip(&self.guards.alarms) {
            tool.alarms =
                ALARM_NAMES.into_iter().zip(alarms).filter(|(_, alarm)| alarm.is_raised()).map(|(name, _)| name).collect();
        }
        snapshot
    }

    /// The time since the start without that in which a worker got no CPU, as [`watch`](Self::watch) saw it.
    pub fn worked(&self) -> Duration {
        self.guards.pace.time()
    }

    /// How long a worker without work may sleep.
    fn longest_sleep(&self) -> Duration {
        if let Idle::Sleep { longest } = self.plan.settings.idle { longest } else { Duration::ZERO }
    }

    fn watch_workers(&mut self, now: Duration, lines: &mut Vec<String>) {
        let longest = self.longest_sleep();
        self.guards.dogs.resize(self.seats.len(), Watchdog::default());
        for ((dog, seat), counters) in self.guards.dogs.iter_mut().zip(&self.seats).zip(&self.counters) {
            let lcore = seat.lcore.0;
            match dog.look(counters.lcore.turns.get(), now, STALL_LIMIT + longest) {
                Some(Turn::Stalled(quiet)) => {
                    let stage = counters.lcore.stage().name();
                    lines
                        .push(format!("warning: lcore {lcore}: the worker has been in stage {stage} for {} ms", quiet.as_millis()));
                }
                Some(Turn::Recovered(quiet)) => {
                    lines.push(format!("lcore {lcore}: the worker goes on after {} ms", quiet.as_millis()));
                }
                None => {}
            }
        }
    }

    /// Tells of stages that panicked.
    fn watch_panics(&mut self, lines: &mut Vec<String>) {
        for seat in &self.seats {
            let lcore = seat.lcore.0;
            for note in seat.panics.take() {
                let (stage, text, failed, dropped) = (note.stage.name(), note.text, note.failed, note.dropped);
                lines.push(format!(
                    "error: lcore {lcore}: panic in stage {stage}: {text}; {failed} packets failed, {dropped} copies dropped; please report this"
                ));
                match note.dump {
                    Some(Ok(path)) => lines.push(format!("lcore {lcore}: the burst's frames are in {}", path.display())),
                    Some(Err(error)) => {
                        lines.push(format!("warning: lcore {lcore}: the burst's frames cannot be written: {error}"))
                    }
                    None => {}
                }
                if note.is_last {
                    let seconds = PANIC_WINDOW.as_secs();
                    let failure = format!(
                        "lcore {lcore}: more than {MOST_PANICS} panics in {seconds} s: the worker receives no more; what its ports get is missed"
                    );
                    lines.push(format!("alarm raised: {failure}"));
                    self.failures.push(failure);
                }
            }
        }
    }

    fn watch_tools(&mut self, now: Duration, lines: &mut Vec<String>) {
        if self.plan.tools.iter().all(|tool| tool.alarm.is_none()) {
            return;
        }
        self.guards.alarms.resize(self.plan.tools.len(), Default::default());
        self.guards.usage.resize(self.plan.tools.len(), Usage::default());
        for (index, tool) in self.plan.tools.iter().enumerate() {
            let Some(spec) = tool.alarm else { continue };
            let workers = || tool_counters(&self.counters, self.writers.as_deref(), ToolId(index));
            let fill = |worker: &ToolCounters| {
                let packets = worker.queue_depth.get() as f64 / tool.queue as f64;
                let bytes = tool.queue_bytes.map_or(0.0, |limit| worker.queued_bytes.get() as f64 / limit as f64);
                packets.max(bytes)
            };
            let fullest = workers().map(fill).fold(0.0, f64::max);
            let sum = |get: fn(&ToolCounters) -> u64| workers().map(get).sum();
            let sent = Sent { at: now, packets: sum(|tool| tool.sent.get()), bits: 8 * sum(|tool| tool.sent_bytes.get()) };
            let sent = self.guards.usage[index].look(sent);
            let link_speed = |port: PortId| self.ports[port.0].link().speed_mbps.map(|mbps| u64::from(mbps) * 1_000_000);
            let rate = match (tool.shape, tool.output) {
                (Some(shape), _) => Some(shape.rate),
                (None, Output::Port(port)) => link_speed(port).filter(|&bits| bits > 0).map(Budget::BitsPerSecond),
                (None, Output::Capture | Output::Discard) => None,
            };
            let is_held = tool.shape.is_some() && workers().any(|tool| tool.is_held_by_rate.get() > 0);
            let utilisation = rate.map_or(0.0, |rate| sent.share_of(rate, is_held));
            let threshold = f64::from(spec.percent) / 100.0;
            let values = [fullest, utilisation];
            for ((alarm, value), name) in self.guards.alarms[index].iter_mut().zip(values).zip(ALARM_NAMES) {
                if let Some(is_raised) = alarm.look(value > threshold, now, spec.hold) {
                    let (word, side) = if is_raised { ("raised", "above") } else { ("cleared", "not above") };
                    let (percent, hold) = (spec.percent, spec.hold.as_secs_f64());
                    lines.push(format!("alarm {word}: tool {}: {name} {side} {percent}% for {hold} s", tool.name));
                }
            }
        }
    }

    /// What came too late for the last look. Every worker has stopped.
    pub fn last_words(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.watch_cuts(&mut lines);
        self.watch_panics(&mut lines);
        lines
    }

    /// Judges frames by the MTUs that kernel interfaces have at this moment. One that is gone leaves the last that it had.
    fn watch_mtus(&mut self, lines: &mut Vec<String>) {
        for (index, (port, device)) in self.plan.ports.iter().zip(&self.ports).enumerate() {
            let Some(mtu) = interface_mtu(port, device) else { continue };
            let Some(before) = self.mtus[index].replace(mtu).filter(|&before| before != mtu) else { continue };
            self.watch.set_fit(PortId(index), Fit::of(&port.devargs, Some(mtu), port.mtu));
            lines.push(format!("port {}: its interface's MTU is {mtu}; it was {before}", port.name));
        }
    }

    /// Says once of each port that its driver cuts frames.
    fn watch_cuts(&mut self, lines: &mut Vec<String>) {
        self.guards.cut.resize(self.plan.ports.len(), false);
        for (index, (port, told)) in self.plan.ports.iter().zip(&mut self.guards.cut).enumerate().filter(|(_, (_, told))| !**told) {
            let Some(longest) = Longest::of(&port.devargs) else { continue };
            if self.counters.iter().all(|counters| counters.ports[index].cut.get() == 0) {
                continue;
            }
            *told = true;
            let (name, bytes) = (&port.name, longest.0);
            lines.push(format!(
                "warning: port {name}: the driver net_af_packet cuts frames to {bytes} bytes without a word: lower the interface's MTU, switch off \
                 what joins segments (ethtool -K IFACE gro off lro off; on a veth's other end tso off), or attach it by net_pcap"
            ));
        }
    }

    /// Whether the file of some capture tool has not taken yet what it was given and may be written: no run is idle before.
    pub fn is_writing(&self) -> bool {
        self.recorders.iter().any(|recorder| {
            let (requested, ended) = self.copies_of(recorder.tool);
            requested > ended + recorder.held() && !self.watch.is_down(recorder.tool)
        })
    }

    /// Copies that were requested of a tool, and those of them that ended. What ends is read first: a copy on its way counts as
    /// waiting.
    fn copies_of(&self, tool: ToolId) -> (u64, u64) {
        let counters = || tool_counters(&self.counters, self.writers.as_deref(), tool);
        let ended = counters().map(ToolCounters::ended).sum();
        (counters().map(|counters| counters.requested.get()).sum(), ended)
    }

    /// Lets capture tools write what they hold for the sake of its order, since nothing more seems to come. Whether there was any.
    pub fn let_go(&self) -> bool {
        self.recorders
            .iter()
            .filter(|recorder| !self.watch.is_down(recorder.tool))
            .fold(false, |any, recorder| any | recorder.let_go())
    }

    /// Says of replays that stand still for want of mbufs, and that they go on.
    fn watch_replays(&mut self, lines: &mut Vec<String>) {
        // what a writer holds comes back
        let is_writing = self.is_writing();
        self.guards.starved.resize(self.ports.len(), (None, false));
        for (index, (device, (before, told))) in self.ports.iter().zip(&mut self.guards.starved).enumerate() {
            let starved = device.starved();
            let is_as_before = std::mem::replace(before, starved) == starved;
            let stands = starved.is_some() && is_as_before && !is_writing;
            if stands != *told {
                *told = stands;
                let word = if stands { "raised" } else { "cleared" };
                lines.push(format!("alarm {word}: {}", starvation(&self.plan, PortId(index), device.stats().rx_packets)));
            }
        }
    }

    /// Looks what the run left of the replays' files, and of their copies to captures. It has failed if something is left, unless
    /// somebody ended it or the replay goes on for ever. Gives lines for the log. Every worker has stopped.
    pub fn judge_replays(&mut self, ending: Ending) -> Vec<String> {
        let mut lines = Vec::new();
        for (ToolId(tool), copies) in self.unwritten.drain(..) {
            let fact = format!(
                "tool {}: its file did not take {copies} copies within {} s after the end; they are counted as `congested`",
                self.plan.tools[tool].name,
                DRAIN_LIMIT.as_secs()
            );
            match ending {
                Ending::Asked => lines.push(format!("warning: {fact}")),
                Ending::TimeUp | Ending::Idle => self.failures.push(fact),
            }
        }
        let counted_until = Instant::now() + COUNT_LIMIT;
        for intake in self.returned.iter_mut().flat_map(|worker| &mut worker.intakes) {
            let Source::Replay(replay) = &mut intake.source else { continue };
            let left = replay.left(counted_until);
            let is_long_enough = left.is_endless && ending != Ending::Idle;
            if left.packets == 0 && !left.is_endless || is_long_enough {
                continue;
            }
            let (port, device) = (&self.plan.ports[intake.port.0], &self.ports[intake.port.0]);
            let read = device.stats().rx_packets;
            let rest = match left {
                Left { is_endless: true, .. } => "without end".to_owned(),
                Left { packets, is_counted: true, .. } => packets.to_string(),
                Left { packets, .. } => format!("more than {packets}"),
            };
            let (name, path) = (&port.name, port.replay.as_ref().map_or("", |replay| replay.path.as_str()));
            let fact = format!("port {name}: {path} was not read to its end (packets read: {read}, left: {rest})");
            match (ending, left.wait) {
                (Ending::Asked, _) => lines.push(format!("warning: {fact}")),
                (Ending::TimeUp, _) => {
                    self.failures.push(format!("{fact}: the time was up; raise --duration, or say --exit-idle in its place"));
                }
                (Ending::Idle, _) if device.starved().is_some() => {
                    let starvation = starvation(&self.plan, intake.port, read);
                    self.failures.push(format!("{starvation} (packets left: {rest})"));
                }
                (Ending::Idle, Some(wait)) if !wait.is_zero() => self.failures.push(format!(
                    "{fact}: the next is due in {}; say maxgap=1s or speed=max of the replay, or raise --exit-idle",
                    in_words(wait)
                )),
                (Ending::Idle, _) => self.failures.push(format!("{fact}: none came for as long as --exit-idle says; raise it")),
            }
        }
        lines
    }

    fn watch_wires(&mut self, now: Duration, lines: &mut Vec<String>) {
        self.guards.ties.resize(self.plan.wires.len(), LinkTie::default());
        self.guards.untied.resize(self.plan.wires.len(), false);
        for (index, wire) in self.plan.wires.iter().enumerate() {
            if !wire.propagates_link || self.guards.untied[index] {
                continue;
            }
            let is_up = wire.ports.map(|port| self.ports[port.0].link().is_up);
            let Some((side, is_up)) = self.guards.ties[index].look(is_up, now) else { continue };
            let port = &self.ports[wire.ports[side].0];
            let word = if is_up { "up" } else { "down" };
            match port.set_link(is_up) {
                Ok(()) => {
                    lines.push(format!("wire {}: link of port {} set {word}, as the other side's is", wire.name, port.name()))
                }
                Err(error) => {
                    self.guards.untied[index] = true;
                    lines.push(format!("warning: wire {}: links are not propagated: {error}", wire.name));
                }
            }
        }
    }

    /// Gives links back that were taken down for a wire.
    fn untie_links(&mut self) {
        for (wire, tie) in self.plan.wires.iter().zip(&mut self.guards.ties) {
            if let Some(side) = std::mem::take(tie).forced() {
                // the port is about to be stopped in any case
                let _ = self.ports[wire.ports[side].0].set_link(true);
            }
        }
    }

    /// Drains the tools, for at most [`DRAIN_LIMIT`], and ends the workers. What could not be sent is dropped and counted.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.untie_links();
        self.rest(Phase::Draining, DRAIN_LIMIT);
        self.phase.set(Phase::Stopped);
        let mut failed = Ok(());
        let graces: Vec<Grace> = self.seats.iter().map(|seat| Grace::new(seat, RETURN_LIMIT)).collect();
        for ((seat, counters), mut grace) in self.seats.iter_mut().zip(&self.counters).zip(graces) {
            if let Some(running) = seat.running.take() {
                while !running.is_finished() && !grace.is_over(&running) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if !running.is_finished() {
                    seat.running = Some(running);
                    let stage = counters.lcore.stage().name();
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
        if failed.is_ok() {
            self.close_captures();
            self.judge_written();
        }
        failed
    }

    /// Looks a last time at what net_pcap wrote, and counts what is missing. Every worker has stopped.
    fn judge_written(&mut self) {
        self.watch_files(clock::now_ns());
        for (written, device) in self.written.iter_mut().zip(&self.ports) {
            let Some(written) = written.as_mut().filter(|written| written.failure().is_some()) else { continue };
            if let Some(count) = written.count(&device.stats()) {
                self.failures.push(format!("port {}: {count}", device.name()));
            }
        }
    }

    /// Ends the captures' files. What a writer could not write in time is counted as congested.
    fn close_captures(&mut self) {
        for recorder in &mut self.recorders {
            recorder.close(DRAIN_LIMIT);
            if recorder.is_stuck() {
                let name = &self.plan.tools[recorder.tool.0].name;
                self.failures.push(format!("tool {name}: its file takes nothing; what waited for it was dropped"));
            }
        }
        let Some(own) = &self.writers else { return };
        for recorder in &self.recorders {
            let (requested, ended) = self.copies_of(recorder.tool);
            let unwritten = requested.saturating_sub(ended);
            own.tools[recorder.tool.0].drop_copies(DropReason::Congested, unwritten);
            if unwritten > 0 && !recorder.is_stuck() && self.plan.is_waited_for(recorder.tool) {
                self.unwritten.push((recorder.tool, unwritten));
            }
        }
        self.watch_files(clock::now_ns());
    }
}

/// All that count a tool's copies: the workers and, behind them, the writers of captures.
pub(super) fn tool_counters<'a>(
    workers: &'a [Arc<WorkerCounters>],
    writers: Option<&'a WriterCounters>,
    tool: ToolId,
) -> impl Iterator<Item = &'a ToolCounters> {
    workers.iter().map(move |worker| &worker.tools[tool.0]).chain(writers.map(|writers| &writers.tools[tool.0]))
}

/// The tools that send copies by a port.
fn tools_on(plan: &Plan, port: PortId) -> impl Iterator<Item = ToolId> {
    let tools = plan.tools.iter().enumerate().filter(move |(_, tool)| tool.wire.is_none() && tool.output == Output::Port(port));
    tools.map(|(index, _)| ToolId(index))
}

impl Drop for Broker {
    fn drop(&mut self) {
        // workers poll memory that is about to go
        let _ = self.stop();
        if self.recorders.iter().any(Recorder::is_stuck) {
            // it may wake up, and what it works with must still be there; a worker that is stuck keeps EAL itself
            self.eal.keep();
        }
    }
}
