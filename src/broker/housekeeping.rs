//! What the control thread looks at every few milliseconds: workers, tools, wires, files, and what drivers do to frames.

use std::time::Duration;

use super::device::Device;
use super::kept::Kept;
use super::start::ports::interface_mtu;
use super::{Broker, in_words, starvation};
use crate::health::tool::Observation;
use crate::health::watchdogs::{Alarm, LinkTie, Pace, STALL_LIMIT, Sent, Turn, Usage, Watchdog};
use crate::plan::Run;
use crate::plan::value::Output;
use tapline_api::values::Rate;
use tapline_api::words::AlarmKind;
use tapline_datapath::counters::EgressCounters;
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::ids::{PortId, ToolId, WireId};
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::work_plan::Idle;
use tapline_datapath::worker::panics::{MOST_PANICS, PANIC_WINDOW};
use tapline_dpdk::clock;
use tapline_packet::by_id::{ById, Id};

/// What the control thread watches, by worker, tool and wire.
#[derive(Default)]
pub(super) struct Guards {
    pub(super) next: Duration,
    pub(super) watchdogs: Vec<Watchdog>,
    /// Of the queue and of the utilisation.
    pub(super) alarms: ById<ToolId, [Alarm; 2]>,
    /// By tool: what it was sent of late.
    pub(super) usage: ById<ToolId, Usage>,
    /// The time that tools are judged by.
    pub(super) pace: Pace,
    pub(super) ties: ById<WireId, LinkTie>,
    /// Wires whose driver cannot set the link.
    pub(super) untied: ById<WireId, bool>,
    /// Ports whose driver was seen to cut frames.
    pub(super) cut: ById<PortId, bool>,
    /// By port: what a replay without mbufs had read at the last look, and whether that was said.
    pub(super) starved: ById<PortId, (Option<u64>, bool)>,
}

impl Guards {
    /// Goes on with another plan: what it keeps is judged on, and what comes from its beginning.
    pub(super) fn go_on(&mut self, kept: &Kept) {
        fn moved<I: Id, T: Clone + Default>(before: &ById<I, T>, from: &ById<I, Option<I>>) -> ById<I, T> {
            let known =
                |from: &Option<I>| from.and_then(|from| before.get(from).cloned()).unwrap_or_default();
            from.iter().map(known).collect()
        }
        self.alarms = moved(&self.alarms, &kept.tools);
        self.usage = moved(&self.usage, &kept.tools);
        self.ties = moved(&self.ties, &kept.wires);
        self.untied = moved(&self.untied, &kept.wires);
        self.cut = moved(&self.cut, &kept.ports);
        self.starved = moved(&self.starved, &kept.ports);
    }
}

/// Time between two looks at links and alarms.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Broker {
    /// Keeps schedules and looks after workers, tools and wires: to be called every few milliseconds. Gives lines for the log.
    pub fn watch(&mut self) -> Vec<String> {
        let now_ns = clock::now_ns();
        self.retire();
        let mut log = self.watch.keep_schedules(now_ns);
        let now = self.started.elapsed();
        let turns = self.account.counters.iter().map(|counters| counters.lcore.turns.get());
        self.guards.pace.look(turns, now, self.longest_sleep());
        if self.watch.is_due(now_ns) {
            let excused_ns = clock::nanoseconds(self.guards.pace.take_excused());
            let links = self.machine.ports.iter().map(Device::link_state).collect();
            log.extend(self.watch_files(now_ns));
            log.extend(self.watch.look(
                now_ns,
                excused_ns,
                links,
                &self.account.counters,
                self.account.writers.as_deref(),
            ));
        }
        // paused workers receive nothing, so nobody would be heard
        if self.is_running() {
            let elapsed_ns = clock::nanoseconds(self.guards.pace.time());
            log.extend(self.neighbours.look(elapsed_ns, now_ns, &mut self.watch));
        } else {
            self.neighbours.rest();
        }
        log.extend(self.machine.clocks.look(now, &self.machine.ports));
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
    pub(super) fn watch_files(&mut self, now_ns: u64) -> Vec<String> {
        let mut log = Vec::new();
        let replays = self.machine.ports.iter().zip(&self.plan.ports).filter_map(|(port, plan)| {
            let path = &plan.replay.as_ref()?.path;
            Some(format!("port {}: {path}: {}", plan.name, port.failure()?))
        });
        let captures = self.recorders.iter().filter_map(|recorder| {
            let tool = &self.plan.tools[recorder.tool];
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
        for ((port, written), device) in self.machine.written.entries_mut().zip(&self.machine.ports) {
            let Some(written) = written.as_mut().filter(|written| written.failure().is_none()) else {
                continue;
            };
            written.look(&device.stats());
            let Some(failure) = written.failure() else { continue };
            failures.push(format!("port {}: {failure}", device.name()));
            for &tool in &self.plan.ports[port].uses.tools {
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

    /// How long a worker without work may sleep.
    fn longest_sleep(&self) -> Duration {
        if let Idle::Sleep { longest } = self.plan.settings.idle { longest } else { Duration::ZERO }
    }

    fn watch_workers(&mut self, now: Duration, lines: &mut Vec<String>) {
        let longest = self.longest_sleep();
        self.guards.watchdogs.resize(self.workers.handles.len(), Watchdog::default());
        for ((watchdog, handle), counters) in
            self.guards.watchdogs.iter_mut().zip(&self.workers.handles).zip(&self.account.counters)
        {
            let lcore = handle.lcore.0;
            match watchdog.look(counters.lcore.turns.get(), now, STALL_LIMIT + longest) {
                Some(Turn::Stalled(quiet)) => {
                    let stage = counters.lcore.stage();
                    lines.push(format!(
                        "warning: lcore {lcore}: the worker has been in stage {stage} for {} ms",
                        quiet.as_millis()
                    ));
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
        for handle in &self.workers.handles {
            let lcore = handle.lcore.0;
            for note in handle.panics.take() {
                let (stage, text, failed, dropped) = (note.stage, note.text, note.failed, note.dropped);
                lines.push(format!(
                    "error: lcore {lcore}: panic in stage {stage}: {text}; {failed} packets failed, {dropped} copies dropped; please report this"
                ));
                match note.dump {
                    Some(Ok(path)) => {
                        lines.push(format!("lcore {lcore}: the burst's frames are in {}", path.display()))
                    }
                    Some(Err(error)) => lines.push(format!(
                        "warning: lcore {lcore}: the burst's frames cannot be written: {error}"
                    )),
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
        for (id, tool) in self.plan.tools.entries() {
            let Some(spec) = tool.alarm else { continue };
            let workers = || self.account.of_tool(id);
            let fill = |worker: &EgressCounters| {
                let packets = worker.queue_depth.get() as f64 / tool.queue as f64;
                let bytes =
                    tool.queue_bytes.map_or(0.0, |limit| worker.queued_bytes.get() as f64 / limit as f64);
                packets.max(bytes)
            };
            let fullest = workers().map(fill).fold(0.0, f64::max);
            let sum = |get: fn(&EgressCounters) -> u64| workers().map(get).sum();
            let sent = Sent {
                at: now,
                packets: sum(|tool| tool.sent.get()),
                bits: 8 * sum(|tool| tool.sent_bytes.get()),
            };
            let sent = self.guards.usage[id].look(sent);
            let link_speed = |port: PortId| {
                self.machine.ports[port].link().speed_mbps.map(|mbps| u64::from(mbps) * 1_000_000)
            };
            let rate = match (tool.shaping, tool.output) {
                (Some(shaping), _) => Some(shaping.rate),
                (None, Output::Port(port)) => {
                    link_speed(port).filter(|&bits| bits > 0).map(Rate::BitsPerSecond)
                }
                (None, Output::Capture | Output::Discard) => None,
            };
            let is_held = tool.shaping.is_some() && workers().any(|tool| tool.is_held_by_rate.get() > 0);
            let utilisation = rate.map_or(0.0, |rate| sent.share_of(rate, is_held));
            let threshold = f64::from(spec.percent) / 100.0;
            let values = [fullest, utilisation];
            for ((alarm, value), name) in self.guards.alarms[id].iter_mut().zip(values).zip(AlarmKind::ALL)
            {
                if let Some(is_raised) = alarm.look(value > threshold, now, spec.hold) {
                    let (word, side) =
                        if is_raised { ("raised", "above") } else { ("cleared", "not above") };
                    let (percent, hold) = (spec.percent, spec.hold.as_secs_f64());
                    lines.push(format!(
                        "alarm {word}: tool {}: {name} {side} {percent}% for {hold} s",
                        tool.name
                    ));
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
        for ((id, port), device) in self.plan.ports.entries().zip(&self.machine.ports) {
            let Some(mtu) = interface_mtu(port, device) else { continue };
            let Some(before) = self.machine.mtus[id].replace(mtu).filter(|&before| before != mtu) else {
                continue;
            };
            self.watch.set_fit(id, FrameLimits::of(&port.devargs, Some(mtu), port.mtu));
            lines.push(format!("port {}: its interface's MTU is {mtu}; it was {before}", port.name));
        }
    }

    /// Says once of each port that its driver cuts frames.
    fn watch_cuts(&mut self, lines: &mut Vec<String>) {
        self.guards.cut.resize(self.plan.ports.len(), false);
        for ((id, port), told) in
            self.plan.ports.entries().zip(&mut self.guards.cut).filter(|(_, told)| !**told)
        {
            let Some(longest) = Longest::of(&port.devargs) else { continue };
            if self.account.counters.iter().all(|counters| counters.ports[id].cut.get() == 0) {
                continue;
            }
            *told = true;
            let (name, bytes) = (&port.name, longest.0);
            let driver = port.devargs.driver().map_or("", |driver| driver.name);
            lines.push(format!(
                "warning: port {name}: the driver {driver} cuts frames to {bytes} bytes without a word: lower the interface's MTU, switch off \
                 what joins segments (ethtool -K IFACE gro off lro off; on a veth's other end tso off), or attach it by net_pcap"
            ));
        }
    }

    /// Says of replays that stand still for want of mbufs, and that they go on.
    fn watch_replays(&mut self, lines: &mut Vec<String>) {
        // what a writer holds comes back
        let is_writing = self.is_writing();
        let run = Run { plan: &self.plan, options: &self.options };
        self.guards.starved.resize(self.machine.ports.len(), (None, false));
        for ((id, device), (before, told)) in self.machine.ports.entries().zip(&mut self.guards.starved) {
            let starved = device.starved();
            let is_as_before = std::mem::replace(before, starved) == starved;
            let stands = starved.is_some() && is_as_before && !is_writing;
            if stands != *told {
                *told = stands;
                let word = if stands { "raised" } else { "cleared" };
                lines.push(format!("alarm {word}: {}", starvation(run, id, device.stats().rx_packets)));
            }
        }
    }

    fn watch_wires(&mut self, now: Duration, lines: &mut Vec<String>) {
        self.guards.ties.resize(self.plan.wires.len(), LinkTie::default());
        self.guards.untied.resize(self.plan.wires.len(), false);
        for (id, wire) in self.plan.wires.entries() {
            if !wire.propagates_link || self.guards.untied[id] {
                continue;
            }
            let is_up = wire.ports.map(|port| self.machine.ports[port].link().is_up);
            let Some((side, is_up)) = self.guards.ties[id].look(is_up, now) else { continue };
            let port = &self.machine.ports[wire.ports[side]];
            let word = if is_up { "up" } else { "down" };
            match port.set_link(is_up) {
                Ok(()) => lines.push(format!(
                    "wire {}: link of port {} set {word}, as the other side's is",
                    wire.name,
                    port.name()
                )),
                Err(error) => {
                    self.guards.untied[id] = true;
                    lines.push(format!("warning: wire {}: links are not propagated: {error}", wire.name));
                }
            }
        }
    }

    /// Gives links back that were taken down for a wire.
    pub(super) fn untie_links(&mut self) {
        for (wire, tie) in self.plan.wires.iter().zip(&mut self.guards.ties) {
            if let Some(side) = std::mem::take(tie).forced() {
                // the port is about to be stopped in any case
                let _ = self.machine.ports[wire.ports[side]].set_link(true);
            }
        }
    }
}
