//! The work of the control thread every few milliseconds: it looks at workers, tools, wires, files, and what drivers do to frames.

use std::time::Duration;

use super::Broker;
use super::device::Device;
use super::gone::Absence;
use super::kept::Kept;
use super::pcap_output::Failure;
use super::recent::STEP;
use super::start::ports::interface_mtu;
use crate::health::loss::LossWatch;
use crate::health::tool::Observation;
use crate::health::watchdogs::{Alarm, LinkTie, Pace, STALL_LIMIT, Sent, Turn, Usage, Watchdog};
use crate::plan::Run;
use crate::plan::memory;
use crate::plan::value::Output;
use crate::report::events::Events;
use tapline_api::event::{Alarm as Raised, Event};
use tapline_api::values::Rate;
use tapline_api::words::{AlarmKind, LinkState};
use tapline_datapath::counters::EgressCounters;
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::ids::{PortId, ToolId, WireId};
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::work_plan::Idle;
use tapline_datapath::worker::panics::{MOST_PANICS, PANIC_WINDOW, PanicNote};
use tapline_dpdk::clock;
use tapline_dpdk::lcore::Running;
use tapline_packet::by_id::{ById, Id};

/// The state of the control thread's watches over workers, tools and wires.
#[derive(Default)]
pub(super) struct Guards {
    pub(super) next: Duration,
    pub(super) watchdogs: Vec<Watchdog>,
    /// The alarms of the queue and of the utilisation.
    pub(super) alarms: ById<ToolId, [Alarm; 2]>,
    /// The packets that each tool was sent of late.
    pub(super) usage: ById<ToolId, Usage>,
    /// The time that tools are judged by.
    pub(super) pace: Pace,
    pub(super) ties: ById<WireId, LinkTie>,
    /// Wires whose driver cannot set the link.
    pub(super) untied: ById<WireId, bool>,
    /// Ports whose driver was seen to cut frames.
    pub(super) cut: ById<PortId, bool>,
    /// For each port: what a replay without mbufs had read at the last look, and whether that was said.
    pub(super) starved: ById<PortId, (Option<u64>, bool)>,
    pub(super) absences: ById<PortId, Absence>,
    /// Ports that lose packets, and tools that drop copies.
    pub(super) losses: ById<PortId, LossWatch>,
    pub(super) drops: ById<ToolId, LossWatch>,
    /// The account does not balance.
    pub(super) unbalanced: Alarm,
    /// Ports that were closed for a change which was given up, to be put back once what is left of them is gone.
    pub(super) put_back_later: Vec<String>,
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
        self.absences = moved(&self.absences, &kept.ports);
        self.losses = moved(&self.losses, &kept.ports);
        self.drops = moved(&self.drops, &kept.tools);
    }
}

/// The alarms that a tool's threshold raises, in the order of [`Guards::alarms`].
pub(super) const OF_THRESHOLDS: [AlarmKind; 2] = [AlarmKind::Queue, AlarmKind::Utilisation];

/// Time between two looks at links and alarms.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Broker {
    /// Keeps schedules and looks after workers, tools and wires: to be called every few milliseconds. What happened is among the
    /// [`events`](Self::events) afterwards.
    pub fn watch(&mut self) {
        let now_ns = clock::now_ns();
        self.record_log(now_ns);
        self.retire();
        self.watch.keep_schedules(&mut self.events.at(now_ns));
        let now = self.started.elapsed();
        let turns = self.account.counters.iter().map(|counters| counters.lcore.turns.get());
        self.guards.pace.look(turns, now, self.longest_sleep());
        if self.watch.is_due(now_ns) {
            let excused_ns = clock::nanoseconds(self.guards.pace.take_excused());
            let links = self.machine.ports.iter().map(Device::link_state).collect();
            self.watch_files(now_ns);
            self.watch.look(
                &mut self.events.at(now_ns),
                excused_ns,
                links,
                &self.account.counters,
                self.account.writers.as_deref(),
            );
        }
        // paused workers receive nothing, so nobody would be heard
        if self.is_running() {
            let elapsed_ns = clock::nanoseconds(self.guards.pace.time());
            self.neighbours.look(elapsed_ns, &mut self.watch, &mut self.events.at(now_ns));
        } else {
            self.neighbours.rest();
        }
        self.machine.clocks.look(now, &self.machine.ports, &mut self.events.at(now_ns));
        self.watch_workers(now, now_ns);
        self.watch_panics(now_ns);
        if now >= self.moments.next {
            self.moments.next = now + STEP;
            self.step(now_ns);
        }
        if now >= self.guards.next {
            self.guards.next = now + LOOK_INTERVAL;
            self.watch_tools(now, now_ns);
            self.watch_wires(now, now_ns);
            self.watch_cuts(now_ns);
            self.watch_mtus(now_ns);
            self.watch_gone(now, now_ns);
            self.watch_stores(now_ns);
            self.watch_replays(now_ns);
            let ports = &self.machine.ports;
            let elapsed_ns = clock::nanoseconds(self.guards.pace.time());
            self.neighbours.look_at_links(elapsed_ns, |port| ports[port].link().is_up);
        }
    }

    /// Records what DPDK and its drivers logged since the last call.
    fn record_log(&mut self, now_ns: u64) {
        for line in self.machine.eal.log() {
            self.events.record(now_ns, Event::DpdkLogged { line });
        }
    }

    /// Notes captures that could not be read or written.
    pub(super) fn watch_files(&mut self, now_ns: u64) {
        let replays = self.machine.ports.iter().zip(&self.plan.ports).filter_map(|(device, port)| {
            let (path, error) = (port.replay.as_ref()?.path.clone(), device.failure()?.to_owned());
            Some(Raised::ReplayFailed { port: port.name.clone(), path, error })
        });
        let captures = self.recorders.iter().filter_map(|recorder| {
            let plan = &self.plan.tools[recorder.tool];
            let tool = plan.name.clone();
            if self.watch.is_stalled(recorder.tool) && self.plan.is_waited_for(recorder.tool) {
                return Some(Raised::CaptureStalled { tool, after_ns: plan.health.stall_ns });
            }
            let Failure { path, error } = recorder.failure()?.clone();
            self.watch.observe(recorder.tool, Observation::WriteFailed, &mut self.events.at(now_ns));
            Some(Raised::CaptureFailed { tool, path, error })
        });
        let mut failures: Vec<Raised> = replays.chain(captures).collect();
        for ((port, written), device) in self.machine.written.entries_mut().zip(&self.machine.ports) {
            let Some(written) = written.as_mut().filter(|written| written.failure().is_none()) else {
                continue;
            };
            written.look(&device.stats());
            let Some(failure) = written.failure() else { continue };
            let Failure { path, error } = failure.clone();
            failures.push(Raised::OutputFailed { port: device.name().to_owned(), path, error });
            for &tool in &self.plan.ports[port].uses.tools {
                self.watch.observe(tool, Observation::WriteFailed, &mut self.events.at(now_ns));
            }
        }
        for failure in failures.into_iter().map(Event::AlarmRaised) {
            if !self.failures.contains(&failure) {
                self.fail(now_ns, failure);
            }
        }
    }

    /// Records an event that makes the run one that failed.
    pub(super) fn fail(&mut self, now_ns: u64, event: Event) {
        self.events.record(now_ns, event.clone());
        self.failures.push(event);
    }

    /// How long a worker without work may sleep.
    fn longest_sleep(&self) -> Duration {
        if let Idle::Sleep { longest } = self.plan.settings.idle { longest } else { Duration::ZERO }
    }

    fn watch_workers(&mut self, now: Duration, now_ns: u64) {
        let longest = self.longest_sleep();
        self.guards.watchdogs.resize(self.workers.handles.len(), Watchdog::default());
        for ((watchdog, handle), counters) in
            self.guards.watchdogs.iter_mut().zip(&self.workers.handles).zip(&self.account.counters)
        {
            let lcore = handle.lcore.0;
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let cpu = || handle.running.as_ref().map(Running::cpu_use).unwrap_or_default();
            let event = match watchdog.look(counters.lcore.turns.get(), now, STALL_LIMIT + longest, cpu) {
                Some(Turn::Stalled(quiet)) => {
                    Event::WorkerStalled { lcore, stage: counters.lcore.stage(), quiet_ms: ms(quiet) }
                }
                Some(Turn::Starved { quiet, ran }) => {
                    Event::WorkerStarved { lcore, quiet_ms: ms(quiet), ran_ms: ms(ran) }
                }
                Some(Turn::Recovered(quiet)) => Event::WorkerRecovered { lcore, quiet_ms: ms(quiet) },
                None => continue,
            };
            self.events.record(now_ns, event);
        }
    }

    /// Records stages that panicked.
    fn watch_panics(&mut self, now_ns: u64) {
        let mut moment = self.events.at(now_ns);
        for handle in &self.workers.handles {
            let lcore = handle.lcore.0;
            for PanicNote { stage, text: panic, failed, dropped, dump, is_last } in handle.panics.take() {
                moment.record(Event::WorkerPanicked { lcore, stage, panic, failed, dropped });
                match dump {
                    Some(Ok(path)) => {
                        moment.record(Event::BurstDumped { lcore, path: path.display().to_string() });
                    }
                    Some(Err(error)) => moment.record(Event::BurstNotDumped { lcore, error }),
                    None => {}
                }
                if is_last {
                    let (panics, seconds) = (MOST_PANICS, PANIC_WINDOW.as_secs());
                    let failure = Event::AlarmRaised(Raised::WorkerRetired { lcore, panics, seconds });
                    moment.record(failure.clone());
                    self.failures.push(failure);
                }
            }
        }
    }

    fn watch_tools(&mut self, now: Duration, now_ns: u64) {
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
            for ((alarm, value), kind) in self.guards.alarms[id].iter_mut().zip(values).zip(OF_THRESHOLDS) {
                let Some(is_raised) = alarm.look(value > threshold, now, spec.hold) else { continue };
                let (tool, percent, hold_s) =
                    (tool.name.clone(), u32::from(spec.percent), spec.hold.as_secs_f64());
                let alarm = if kind == AlarmKind::Queue {
                    Raised::Queue { tool, percent, hold_s }
                } else {
                    Raised::Utilisation { tool, percent, hold_s }
                };
                record_alarm(&mut self.events, now_ns, alarm, is_raised);
            }
        }
    }

    /// Records what came too late for the last look. Every worker has stopped.
    pub(super) fn look_once_more(&mut self) {
        let now_ns = clock::now_ns();
        self.watch_cuts(now_ns);
        self.watch_panics(now_ns);
        self.record_log(now_ns);
    }

    /// Judges frames by the MTUs that kernel interfaces have at this moment. One that is gone leaves the last that it had.
    fn watch_mtus(&mut self, now_ns: u64) {
        for ((id, port), device) in self.plan.ports.entries().zip(&self.machine.ports) {
            let Some(to) = interface_mtu(port, device) else { continue };
            let Some(from) = self.machine.mtus[id].replace(to).filter(|&from| from != to) else {
                continue;
            };
            self.watch.set_fit(id, FrameLimits::of(&port.devargs, Some(to), port.mtu));
            self.events.record(now_ns, Event::MtuChanged { port: port.name.clone(), from, to });
        }
    }

    /// Says once of each port that its driver cuts frames.
    fn watch_cuts(&mut self, now_ns: u64) {
        self.guards.cut.resize(self.plan.ports.len(), false);
        for ((id, port), told) in
            self.plan.ports.entries().zip(&mut self.guards.cut).filter(|(_, told)| !**told)
        {
            let Some(longest) = Longest::of(&port.devargs) else { continue };
            if self.account.counters.iter().all(|counters| counters.ports[id].cut.get() == 0) {
                continue;
            }
            *told = true;
            let driver = port.devargs.driver().map_or("", |driver| driver.name).to_owned();
            let (port, bytes) = (port.name.clone(), longest.0);
            self.events.record(now_ns, Event::FramesCut { port, driver, bytes });
        }
    }

    /// Says of replays that stand still for want of mbufs, and that they go on.
    fn watch_replays(&mut self, now_ns: u64) {
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
                let (port, packets) = (self.plan.ports[id].name.clone(), device.stats().rx_packets);
                let mbufs = memory::port_pool(run, id);
                let alarm = Raised::ReplayStarved { port, packets, mbufs };
                record_alarm(&mut self.events, now_ns, alarm, stands);
            }
        }
    }

    fn watch_wires(&mut self, now: Duration, now_ns: u64) {
        self.guards.ties.resize(self.plan.wires.len(), LinkTie::default());
        self.guards.untied.resize(self.plan.wires.len(), false);
        for (id, wire) in self.plan.wires.entries() {
            if !wire.propagates_link || self.guards.untied[id] {
                continue;
            }
            let is_up = wire.ports.map(|port| self.machine.ports[port].link().is_up);
            let Some((side, is_up)) = self.guards.ties[id].look(is_up, now) else { continue };
            let port = &self.machine.ports[wire.ports[side]];
            let to = if is_up { LinkState::Up } else { LinkState::Down };
            let name = wire.name.clone();
            self.events.record(
                now_ns,
                match port.set_link(is_up) {
                    Ok(()) => Event::LinkPropagated { wire: name, port: port.name().to_owned(), to },
                    Err(error) => {
                        self.guards.untied[id] = true;
                        Event::LinksNotPropagated { wire: name, error: error.to_string() }
                    }
                },
            );
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

/// Records that an alarm was raised, or else cleared.
pub(super) fn record_alarm(events: &mut Events, now_ns: u64, alarm: Raised, is_raised: bool) {
    events.record(now_ns, if is_raised { Event::AlarmRaised(alarm) } else { Event::AlarmCleared(alarm) });
}
