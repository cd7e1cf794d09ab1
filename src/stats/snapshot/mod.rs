//! A snapshot: all counters at one moment, as one JSON object a line (`tapline.stats/1`), by the names of the pipeline file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::Serializer;

use super::counters::{BURST_SIZES, DropReason, Stage, WorkerCounters, WriterCounters};
use super::latency::{Latency, Merged};
use super::ledger::{Copies, Dropped, Packets};
use crate::datapath::admission::Class;
use crate::datapath::cut::Longest;
use crate::datapath::dedup::{DedupCounters, GAP_BUCKETS, PairCounters};
use crate::datapath::endpoint::EndpointReport;
use crate::datapath::flow_table::FlowCounters;
use crate::datapath::terminate::{Refusal, SequenceCounts};
use crate::dpdk::port::{DriverStats, Link};
use crate::dpdk::{LcoreId, clock};
use crate::plan::Plan;
use crate::plan::plan::{DedupPlan, PortId};

/// What the workers counted, added up; indexed by the plan's ids.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    pub packets: Packets,
    pub ports: Vec<PortTotals>,
    pub rules: Vec<RuleTotals>,
    pub tools: Vec<ToolTotals>,
    pub groups: Vec<GroupTotals>,
    /// By rule; `None` where it does not look for duplicates.
    pub dedups: Vec<Option<DedupTotals>>,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct PortTotals {
    /// Packets that the driver handed over, without Tapline's own heartbeats.
    pub received: u64,
    pub received_bytes: u64,
    /// Of those, packets that no work lcore had room for: they failed.
    pub congested: u64,
    /// Of those, frames that the driver cut without a word.
    #[serde(skip)]
    pub cut: u64,
    /// Heartbeats of tools that returned here, which are not among them.
    #[serde(skip)]
    pub heartbeats: u64,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct RuleTotals {
    /// Packets that reached the rule and matched it.
    pub matched: u64,
    /// Of those, packets that were seen a moment before.
    pub duplicates: u64,
    /// Of those, packets that its sampler passed over.
    pub sampled_out: u64,
    /// The share that its sampler keeps at the moment, where traffic changes it: the mean of the workers', weighted by their
    /// packets.
    #[serde(skip)]
    pub varying_share: Option<f64>,
    /// Of its sampler's flow tables, from the start on.
    #[serde(skip)]
    pub flows: FlowCounters,
}

impl RuleTotals {
    /// Adds what was counted elsewhere; a share is no count.
    pub fn add(&mut self, more: &Self) {
        self.matched += more.matched;
        self.duplicates += more.duplicates;
        self.sampled_out += more.sampled_out;
        self.flows.begun += more.flows.begun;
        self.flows.over += more.flows.over;
        self.flows.evicted += more.flows.evicted;
    }
}

/// A group's copies.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupTotals {
    /// Copies that rules asked of the group.
    pub requested: u64,
    /// Of those, copies that a member is to get.
    pub assigned: u64,
    /// By the discard share.
    pub discarded: u64,
    /// For want of members.
    pub down: u64,
}

impl GroupTotals {
    /// Copies that no member got. Those of the discard share count as sent.
    pub fn unassigned(&self) -> Copies {
        // while packets are on their way, a worker's numbers may be read half-way
        let requested = self.requested.saturating_sub(self.assigned);
        Copies { requested, sent: self.discarded, dropped: Dropped::of(DropReason::Down, self.down) }
    }

    fn ended(&self) -> u64 {
        self.assigned + self.discarded + self.down
    }

    pub fn is_balanced(&self) -> bool {
        self.requested == self.ended()
    }

    /// What was counted since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            requested: self.requested.saturating_sub(earlier.requested),
            assigned: self.assigned - earlier.assigned,
            discarded: self.discarded - earlier.discarded,
            down: self.down - earlier.down,
        }
    }
}

/// The mean of the workers' shares of a rule's sampler, weighted by the packets that each had; `None` before the first packet, and
/// where the share is fixed.
fn varying_share(workers: &[std::sync::Arc<WorkerCounters>], rule: usize) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for rule in workers.iter().map(|worker| &worker.rules[rule]) {
        let share = f64::from_bits(rule.sampler.share.get());
        if share > 0.0 {
            let packets = (rule.matched.get() as f64).max(1.0);
            (sum, weight) = (sum + share * packets, weight + packets);
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

#[derive(Clone, Default, Debug)]
pub struct ToolTotals {
    pub copies: Copies,
    pub sent_bytes: u64,
    /// Bytes that copies lost to the MTU of the tool's path.
    pub cut_bytes: u64,
    pub refused: Refused,
    /// Copies that left behind later ones.
    pub late: u64,
    /// Copies that wait for the tool at this moment.
    pub queue_depth: u64,
    /// The most that waited in one worker's queue.
    pub queue_peak: u64,
    pub latency: Merged,
}

/// Copies that a tool's queue refused, by class and reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Refused(pub [Dropped; Class::ALL.len()]);

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Reasons {
            congested: u64,
            rate_limited: u64,
        }
        serializer.collect_map(Class::ALL.iter().map(|&class| {
            let dropped = &self.0[class as usize];
            let reasons =
                Reasons { congested: dropped.get(DropReason::Congested), rate_limited: dropped.get(DropReason::RateLimited) };
            (class.name(), reasons)
        }))
    }
}

/// A wire in a snapshot.
#[derive(Clone, Serialize)]
pub struct WireEntry {
    pub a: String,
    pub b: String,
    pub a_to_b: WayEntry,
    pub b_to_a: WayEntry,
}

/// One direction of a wire: `received = forwarded + dropped`.
#[derive(Clone, Serialize)]
pub struct WayEntry {
    pub received: u64,
    pub forwarded: u64,
    pub forwarded_bytes: u64,
    pub dropped: Dropped,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
}

impl WayEntry {
    fn of(totals: &ToolTotals) -> Self {
        Self {
            received: totals.copies.requested,
            forwarded: totals.copies.sent,
            forwarded_bytes: totals.sent_bytes,
            dropped: totals.copies.dropped,
            queue_depth: totals.queue_depth,
            queue_peak: totals.queue_peak,
            latency_ns: totals.latency.latency(clock::tsc_hz()),
        }
    }
}

/// A tool in a snapshot.
#[derive(Clone, Serialize)]
pub struct ToolEntry {
    #[serde(flatten)]
    pub copies: Copies,
    pub sent_bytes: u64,
    /// Bytes that copies lost to the MTU of the tool's path (`oversize slice`).
    pub cut_bytes: u64,
    /// Of the dropped copies, those that the queue refused, by class.
    pub refused: Refused,
    /// Where the tool has `order`: copies that came behind later ones, beyond the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
    /// The alarms that are raised: `queue`, `utilisation`.
    pub alarms: Vec<&'static str>,
    #[serde(flatten)]
    pub health: ToolHealth,
    /// Of a tunnel that asks for its next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopEntry>,
    /// Where the tool has `heartbeat`, or `echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<ProbeEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<ProbeEntry>,
}

/// What became of a tool's probes: `sent = returned + lost + waiting`.
#[derive(Clone, Copy, Serialize)]
pub struct ProbeEntry {
    pub sent: u64,
    /// In time.
    pub returned: u64,
    pub lost: u64,
    pub waiting: u64,
    /// Answers to what was answered, or lost, before.
    pub late: u64,
}

/// Whom a tunnel's frames are addressed to.
#[derive(Clone, Serialize)]
pub struct NextHopEntry {
    pub address: String,
    /// Null until it answered.
    pub mac: Option<String>,
    /// `resolving`, `up`, `down`.
    pub state: &'static str,
    /// ARP requests and neighbour solicitations sent.
    pub requests: u64,
    /// How often it stopped answering.
    pub losses: u64,
}

impl ToolEntry {
    fn of(totals: &ToolTotals, is_ordered: bool, health: ToolHealth) -> Self {
        Self {
            late: is_ordered.then_some(totals.late),
            copies: totals.copies,
            sent_bytes: totals.sent_bytes,
            cut_bytes: totals.cut_bytes,
            refused: totals.refused,
            queue_depth: totals.queue_depth,
            queue_peak: totals.queue_peak,
            latency_ns: totals.latency.latency(clock::tsc_hz()),
            alarms: Vec::new(),
            health,
            next_hop: None,
            heartbeat: None,
            echo: None,
        }
    }
}

impl Totals {
    /// Adds up the workers' counters.
    pub fn of(workers: &[std::sync::Arc<WorkerCounters>]) -> Self {
        let Some(first) = workers.first() else { return Self::default() };
        let sum = |get: &dyn Fn(&WorkerCounters) -> u64| workers.iter().map(|worker| get(worker)).sum::<u64>();
        let ports = (0..first.ports.len()).map(|id| PortTotals {
            received: sum(&|worker| worker.ports[id].received()),
            received_bytes: sum(&|worker| worker.ports[id].received_bytes()),
            congested: sum(&|worker| worker.ports[id].congested.get()),
            cut: sum(&|worker| worker.ports[id].cut.get()),
            heartbeats: sum(&|worker| worker.ports[id].heartbeats.get()),
        });
        let rules = (0..first.rules.len()).map(|id| RuleTotals {
            matched: sum(&|worker| worker.rules[id].matched.get()),
            duplicates: sum(&|worker| worker.rules[id].duplicates.get()),
            sampled_out: sum(&|worker| worker.rules[id].sampled_out.get()),
            varying_share: varying_share(workers, id),
            flows: FlowCounters {
                begun: sum(&|worker| worker.rules[id].sampler.flows_begun.get()),
                over: sum(&|worker| worker.rules[id].sampler.flows_over.get()),
                evicted: sum(&|worker| worker.rules[id].sampler.flows_evicted.get()),
            },
        });
        let tools = (0..first.tools.len()).map(|id| ToolTotals {
            copies: Copies {
                requested: sum(&|worker| worker.tools[id].requested.get()),
                sent: sum(&|worker| worker.tools[id].sent.get()),
                dropped: Dropped(std::array::from_fn(|reason| sum(&|worker| worker.tools[id].dropped[reason].get()))),
            },
            sent_bytes: sum(&|worker| worker.tools[id].sent_bytes.get()),
            cut_bytes: sum(&|worker| worker.tools[id].cut_bytes.get()),
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| sum(&|worker| worker.tools[id].refused[class][reason].get())))
            })),
            late: sum(&|worker| worker.tools[id].late.get()),
            queue_depth: sum(&|worker| worker.tools[id].queue_depth.get()),
            queue_peak: workers.iter().map(|worker| worker.tools[id].queue_peak.get()).max().unwrap_or(0),
            latency: workers.iter().fold(Merged::default(), |mut sum, worker| {
                sum.add(&worker.tools[id].latency);
                sum
            }),
        });
        let groups = (0..first.groups.len()).map(|id| GroupTotals {
            requested: sum(&|worker| worker.groups[id].requested.get()),
            assigned: sum(&|worker| worker.groups[id].assigned.get()),
            discarded: sum(&|worker| worker.groups[id].discarded.get()),
            down: sum(&|worker| worker.groups[id].down.get()),
        });
        Self {
            packets: Packets::of(workers.iter().map(AsRef::as_ref)),
            ports: ports.collect(),
            rules: rules.collect(),
            tools: tools.collect(),
            groups: groups.collect(),
            dedups: (0..first.dedups.len()).map(|rule| DedupTotals::of(workers, rule)).collect(),
        }
    }

    /// Adds what became of copies in the hands of capture writers: all that writers count.
    pub fn add_writers(&mut self, writers: &WriterCounters) {
        for (sum, tool) in self.tools.iter_mut().zip(&writers.tools) {
            sum.copies.sent += tool.sent.get();
            sum.sent_bytes += tool.sent_bytes.get();
            sum.copies.dropped.0.iter_mut().zip(&tool.dropped).for_each(|(sum, dropped)| *sum += dropped.get());
            sum.late += tool.late.get();
        }
    }

    /// Adds what rules counted under plans before: as many as there are rules.
    pub fn add_past(&mut self, past: &[RuleTotals]) {
        self.rules.iter_mut().zip(past).for_each(|(rule, past)| rule.add(past));
    }

    /// The totals of the same rules where they stand in another plan: `before` has for each of its rules the place that it had, and
    /// whether it looks for duplicates as before.
    pub fn of_rules(mut self, before: &[(Option<usize>, bool)]) -> Self {
        let rule = |&(from, _): &(Option<usize>, bool)| from.map(|from| self.rules[from]).unwrap_or_default();
        let rules = before.iter().map(rule).collect();
        let dedup = |&(from, has_dedup): &(Option<usize>, bool)| self.dedups[from.filter(|_| has_dedup)?].clone();
        let dedups = before.iter().map(dedup).collect();
        (self.rules, self.dedups) = (rules, dedups);
        self
    }

    /// Copies of all tools, and those of groups that no member got.
    pub fn copies(&self, plan: &Plan) -> Copies {
        let unassigned = self.groups.iter().map(GroupTotals::unassigned);
        self.of_copies(plan).map(|tool| tool.copies).chain(unassigned).fold(Copies::default(), |mut sum, copies| {
            sum.add(&copies);
            sum
        })
    }

    /// The tools of the file, without the directions of wires.
    fn of_copies(&self, plan: &Plan) -> impl Iterator<Item = &ToolTotals> {
        self.tools.iter().zip(&plan.tools).filter(|(_, tool)| tool.wire.is_none()).map(|(totals, _)| totals)
    }

    /// Latency over all tools.
    fn latency(&self, plan: &Plan) -> Merged {
        self.of_copies(plan).fold(Merged::default(), |mut sum, tool| {
            sum.merge(&tool.latency);
            sum
        })
    }

    /// Whether both identities of the ledger hold, the second for each tool and for each group.
    pub fn is_balanced(&self) -> bool {
        let are_tools_balanced = self.tools.iter().all(|tool| tool.copies.is_balanced());
        self.packets.is_balanced() && are_tools_balanced && self.groups.iter().all(GroupTotals::is_balanced)
    }

    /// As if nothing were on its way: what comes to its end later counts from here on with its beginning, so that both identities
    /// also hold for what is counted [`since`](Self::since).
    pub fn at_rest(mut self) -> Self {
        let mut on_the_way = self.ports.iter().map(|port| port.received).sum::<u64>().saturating_sub(self.packets.ended());
        self.packets.received = self.packets.ended();
        // which ports they came from is not known
        for port in &mut self.ports {
            let packets = on_the_way.min(port.received);
            port.received -= packets;
            on_the_way -= packets;
        }
        self.tools.iter_mut().for_each(|tool| tool.copies.requested = tool.copies.ended());
        self.groups.iter_mut().for_each(|group| group.requested = group.ended());
        self
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let (a, b) = (&self.packets, &earlier.packets);
        let ports = self.ports.iter().zip(&earlier.ports).map(|(a, b)| PortTotals {
            received: a.received.saturating_sub(b.received),
            received_bytes: a.received_bytes - b.received_bytes,
            congested: a.congested - b.congested,
            cut: a.cut - b.cut,
            heartbeats: a.heartbeats - b.heartbeats,
        });
        let rules = self.rules.iter().zip(&earlier.rules);
        let rules = rules.map(|(a, b)| RuleTotals {
            matched: a.matched - b.matched,
            duplicates: a.duplicates - b.duplicates,
            sampled_out: a.sampled_out - b.sampled_out,
            ..*a
        });
        let dedups = self.dedups.iter().zip(&earlier.dedups).map(|(a, b)| match b {
            Some(b) => Some(a.as_ref()?.since(b)),
            None => a.clone(),
        });
        let tools = self.tools.iter().zip(&earlier.tools).map(|(a, b)| ToolTotals {
            copies: a.copies.since(&b.copies),
            sent_bytes: a.sent_bytes - b.sent_bytes,
            cut_bytes: a.cut_bytes - b.cut_bytes,
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| a.refused.0[class].0[reason] - b.refused.0[class].0[reason]))
            })),
            late: a.late - b.late,
            queue_depth: a.queue_depth,
            queue_peak: a.queue_peak,
            latency: a.latency.since(&b.latency),
        });
        Totals {
            packets: Packets {
                received: a.received.saturating_sub(b.received),
                delivered: a.delivered - b.delivered,
                unmatched: a.unmatched - b.unmatched,
                excluded: a.excluded - b.excluded,
                sampled_out: a.sampled_out - b.sampled_out,
                duplicate: a.duplicate - b.duplicate,
                failed: a.failed - b.failed,
            },
            ports: ports.collect(),
            rules: rules.collect(),
            tools: tools.collect(),
            groups: self.groups.iter().zip(&earlier.groups).map(|(a, b)| a.since(b)).collect(),
            dedups: dedups.collect(),
        }
    }
}

/// What a rule's dedup counted, in all workers.
#[derive(Clone, Default, Debug)]
pub struct DedupTotals {
    pub counters: DedupCounters,
    /// `first port * ports + second port`, by their places in the rule's scope.
    pub pairs: Vec<PairCounters>,
}

impl DedupTotals {
    fn of(workers: &[std::sync::Arc<WorkerCounters>], rule: usize) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for tally in workers.iter().filter_map(|worker| worker.dedups[rule].as_ref()) {
            let ports = tally.ports();
            let counters = tally.counters();
            let sum = sum.get_or_insert_with(|| Self { pairs: vec![PairCounters::NONE; ports * ports], ..Self::default() });
            sum.counters.packets += counters.packets;
            sum.counters.duplicates += counters.duplicates;
            sum.counters.forgotten += counters.forgotten;
            sum.pairs.iter_mut().enumerate().for_each(|(place, pair)| pair.add(&tally.pair(place / ports, place % ports)));
        }
        sum
    }

    fn since(&self, earlier: &Self) -> Self {
        let (a, b) = (&self.counters, &earlier.counters);
        Self {
            counters: DedupCounters {
                packets: a.packets - b.packets,
                duplicates: a.duplicates - b.duplicates,
                forgotten: a.forgotten - b.forgotten,
            },
            pairs: self.pairs.iter().zip(&earlier.pairs).map(|(a, b)| a.since(b)).collect(),
        }
    }
}

/// What the control thread reads of a port beside our counters.
#[derive(Clone, Debug)]
pub struct PortState {
    pub driver_name: String,
    pub link: Link,
    pub driver: DriverStats,
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    pub terminate: Option<TerminateState>,
    /// Of the kernel interface that the port is.
    pub mtu: Option<u32>,
}

/// What became of the frames that a port received in tunnels.
#[derive(Clone, Debug, Serialize)]
pub struct TerminateState {
    /// Frames whose inside became the packet.
    pub terminated: u64,
    /// Of those, packets with the time that the tunnel's header says.
    pub timed: u64,
    /// Frames that rules did not see, by reason.
    pub refused: Refusals,
    pub sessions: Vec<SessionEntry>,
    /// Packets of sessions that were too many to follow.
    pub untracked: u64,
}

/// Frames that were of none of a port's tunnels, by reason.
#[derive(Clone, Copy, Default, Debug)]
pub struct Refusals(pub [u64; Refusal::ALL.len()]);

impl Serialize for Refusals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Refusal::ALL.iter().map(|&refusal| (refusal.name(), self.0[refusal as usize])))
    }
}

/// A sender's session, by its sequence numbers.
#[derive(Clone, Debug, Serialize)]
pub struct SessionEntry {
    pub tunnel: &'static str,
    pub source: std::net::IpAddr,
    /// ERSPAN session or GRE key.
    pub session: u32,
    #[serde(flatten)]
    pub counts: SequenceCounts,
}

impl TerminateState {
    /// Adds up what was counted at a port's receive queues; `None` where no tunnel ends.
    pub fn of(reports: &[EndpointReport]) -> Option<Self> {
        if reports.is_empty() {
            return None;
        }
        let mut sum = Self { terminated: 0, timed: 0, refused: Refusals::default(), sessions: Vec::new(), untracked: 0 };
        for report in reports {
            let counts = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sum.terminated += counts.terminated;
            sum.timed += counts.timed;
            sum.untracked += counts.untracked;
            sum.refused.0.iter_mut().zip(counts.refused).for_each(|(sum, count)| *sum += count);
            sum.sessions.extend(counts.sessions.iter().map(|(key, counts)| SessionEntry {
                tunnel: key.kind.name(),
                source: key.source,
                session: key.identifier,
                counts: *counts,
            }));
        }
        Some(sum)
    }
}

/// Where the receive times of a port's packets come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClockState {
    /// `nic`, `file`, `kernel` or `poll`.
    pub source: &'static str,
    /// Where the latency of the port's packets begins: `nic` or `kernel`, at such a time; `poll`, at the poll; `ring`, where a work
    /// lcore takes them.
    pub latency_from: &'static str,
    /// How the clock behind it is disciplined.
    pub quality: &'static str,
    /// The counter is not fitted to the system's clock yet, or not any more.
    pub degraded: bool,
    /// Real time at tick 0, of the counter that is fitted: the NIC's, or the time-stamp counter.
    pub offset_ns: Option<i64>,
    pub ns_per_tick: Option<f64>,
    /// How far times may be from the system's.
    pub error_ns: Option<u64>,
    pub readings: u64,
    pub rejected: u64,
    pub steps: u64,
}

/// How far a replay has come.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayState {
    /// No more packets will come.
    pub ended: bool,
    /// Passes through the file that came to its end.
    pub passes: u64,
    /// Why the file could not be read to its end.
    pub error: Option<String>,
}

/// One lcore's use of its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LcoreState {
    #[serde(skip)]
    pub lcore: LcoreId,
    /// What it does with packets.
    pub stages: Stages,
    pub received: u64,
    /// Packets that receive lcores handed over.
    pub from_rings: u64,
    pub turns: u64,
    pub idle_turns: u64,
    pub polls: u64,
    pub empty_polls: u64,
    /// Share of the time in which there was something to do, 0 to 1.
    pub busy: f64,
    pub sleeps: u64,
    /// Bursts by size.
    pub bursts: BurstSizes,
    /// What the worker is doing.
    pub stage: &'static str,
    pub is_stalled: bool,
    /// How often the worker did not finish a turn in time.
    pub stalls: u64,
    /// Panics that the worker went on after.
    pub panics: u64,
    /// With `--profile`: ticks of the time-stamp counter a packet, by stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles_per_packet: Option<StageCycles>,
}

/// The stages that run on an lcore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stages {
    pub receives: bool,
    pub works: bool,
    pub transmits: bool,
}

impl Stages {
    /// Run to completion.
    pub const ALL: Stages = Stages { receives: true, works: true, transmits: true };

    /// The words of the pipeline language.
    pub fn names(self) -> Vec<&'static str> {
        let stages = [("receive", self.receives), ("work", self.works), ("transmit", self.transmits)];
        stages.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
}

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Bursts of 1, 2-3, 4-7, … 64 packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BurstSizes(pub [u64; BURST_SIZES]);

impl BurstSizes {
    pub const NAMES: [&str; BURST_SIZES] = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", "64"];
}

impl Serialize for BurstSizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Self::NAMES.iter().zip(self.0))
    }
}

/// Cycles a packet from receive to egress, of the bursts that were timed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct StageCycles {
    pub receive: f64,
    pub classify: f64,
    pub route: f64,
    pub egress: f64,
    /// Packets that these are of.
    pub packets: u64,
}

impl LcoreState {
    /// What a worker counted of its own time.
    pub fn of(lcore: LcoreId, stages: Stages, counters: &WorkerCounters, is_stalled: bool, stalls: u64) -> Self {
        let own = &counters.lcore;
        let packets = own.timed_packets.get();
        let cycles = |stage: Stage| round(own.stage_ticks[stage as usize].get() as f64 / packets as f64, 10.0);
        Self {
            lcore,
            stages,
            received: counters.received(),
            from_rings: own.from_rings.get(),
            turns: own.turns.get(),
            idle_turns: own.idle_turns.get(),
            polls: own.polls(),
            empty_polls: own.empty_polls.get(),
            busy: round(own.busy_ticks.get() as f64 / own.ticks.get().max(1) as f64, 1e4),
            sleeps: own.sleeps.get(),
            bursts: BurstSizes(std::array::from_fn(|size| own.bursts[size].get())),
            stage: own.stage().name(),
            is_stalled,
            stalls,
            panics: own.panics.get(),
            cycles_per_packet: (packets > 0).then(|| StageCycles {
                receive: cycles(Stage::Receive),
                classify: cycles(Stage::Classify),
                route: cycles(Stage::Route),
                egress: cycles(Stage::Egress),
                packets,
            }),
        }
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// Everything that is shown of a running broker at one moment.
#[derive(Clone, Serialize)]
pub struct Snapshot {
    pub schema: &'static str,
    /// Seconds since the Unix epoch.
    pub time: f64,
    pub uptime_s: f64,
    #[serde(serialize_with = "as_map")]
    pub ports: Vec<(String, PortEntry)>,
    #[serde(serialize_with = "as_map")]
    pub rules: Vec<(String, RuleEntry)>,
    #[serde(serialize_with = "as_map")]
    pub tools: Vec<(String, ToolEntry)>,
    #[serde(serialize_with = "as_map")]
    pub wires: Vec<(String, WireEntry)>,
    #[serde(serialize_with = "as_map")]
    pub groups: Vec<(String, GroupEntry)>,
    /// By rule, where it looks for duplicates.
    #[serde(serialize_with = "as_map")]
    pub dedup: Vec<(String, DedupEntry)>,
    #[serde(serialize_with = "as_map")]
    pub lcores: Vec<(String, LcoreState)>,
    pub packets: Packets,
    pub copies: Copies,
    pub latency_ns: Latency,
    /// What decides the filters: `native`, or `interpreter` and why.
    pub filter_engine: String,
    /// The latest changes of tools' states, oldest first.
    pub events: Vec<EventEntry>,
    /// Whether both identities of the ledger hold. While packets are on their way they may not.
    pub balanced: bool,
}

#[derive(Clone, Serialize)]
pub struct PortEntry {
    #[serde(flatten)]
    pub totals: PortTotals,
    /// Where heartbeats of tools return: those that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<u64>,
    /// Where the driver may cut frames without a word: those that it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    pub device: String,
    pub driver_name: String,
    pub link_up: bool,
    pub speed_mbps: Option<u32>,
    /// Of a kernel interface: what frames that it is to send are judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What the driver and the NIC count.
    pub driver: DriverStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminate: Option<TerminateState>,
}

#[derive(Clone, Serialize)]
pub struct RuleEntry {
    #[serde(flatten)]
    pub totals: RuleTotals,
    /// What exporters divide counts by: the share that the rule's sampler keeps at the moment, above 0 to 1; null where it has
    /// none.
    pub sample_share: Option<f64>,
    /// The sampler's memory of flows, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowCounters>,
    #[serde(flatten)]
    pub activity: RuleActivity,
}

/// What the control thread knows of rules, tools and groups beside the counters; indexed by the plan's ids.
#[derive(Clone, Default)]
pub struct WatchState {
    pub rules: Vec<RuleActivity>,
    pub tools: Vec<ToolHealth>,
    pub groups: Vec<GroupHealth>,
    pub events: Vec<EventEntry>,
}

/// Whether a rule takes packets.
#[derive(Clone, Copy, Serialize)]
pub struct RuleActivity {
    pub on: bool,
    /// When its schedule turns it on or off next, in seconds since the Unix epoch; null if never.
    pub next_change: Option<f64>,
    /// Packets that its `limit` still allows.
    pub limit_remaining: Option<u64>,
}

/// Whether a tool gets copies.
#[derive(Clone, Copy, Serialize)]
pub struct ToolHealth {
    pub state: &'static str,
    /// Of the last change of state.
    pub reason: Option<&'static str>,
    /// Seconds since the Unix epoch.
    pub since: f64,
}

/// Who has a group's buckets.
#[derive(Clone)]
pub struct GroupHealth {
    /// By member.
    pub buckets: Vec<usize>,
    /// Since the start.
    pub buckets_moved: u64,
    /// Buckets that wait to be idle before they go where they belong.
    pub buckets_pending: usize,
    /// Flows of the last half minute to minute, about.
    pub flows: u64,
    /// Flows whose bucket moved, since the start, about.
    pub flows_moved: u64,
}

/// A tool's change of state.
#[derive(Clone, Serialize)]
pub struct EventEntry {
    /// Seconds since the Unix epoch.
    pub time: f64,
    #[serde(flatten)]
    pub subject: Subject,
    pub from: &'static str,
    pub to: &'static str,
    /// Of a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// What changed, by its name.
#[derive(Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Port(String),
    Tool(String),
}

#[derive(Clone, Serialize)]
pub struct GroupEntry {
    /// Buckets of the group's table that each member has.
    #[serde(serialize_with = "as_map")]
    pub buckets: Vec<(String, usize)>,
    pub buckets_moved: u64,
    pub buckets_pending: usize,
    pub flows: u64,
    pub flows_moved: u64,
    /// Copies that rules asked of the group, and of those the ones that a member is to get.
    pub requested: u64,
    pub assigned: u64,
    /// Copies that no member got; those of the discard share count as sent.
    pub unassigned: Copies,
}

/// What a rule's dedup found.
#[derive(Clone, Serialize)]
pub struct DedupEntry {
    /// Packets that were compared.
    pub packets: u64,
    pub duplicates: u64,
    /// Packets forgotten within the window for want of room; their duplicates passed.
    pub forgotten: u64,
    /// Pairs of ports that had duplicates.
    pub pairs: Vec<PairEntry>,
}

/// Duplicates of packets of one port that came by another, or the same.
#[derive(Clone, Serialize)]
pub struct PairEntry {
    pub first: String,
    pub duplicate: String,
    pub duplicates: u64,
    pub most_gap_ns: u64,
    /// Gaps below 1 µs, below 2 µs, below 4 µs and so on, the last one all above.
    pub gaps: [u64; GAP_BUCKETS],
}

impl DedupEntry {
    fn new(plan: &Plan, dedup: &DedupPlan, totals: &DedupTotals) -> Self {
        let name = |place: usize| plan.ports[dedup.scope[place].0].name.clone();
        let ports = dedup.scope.len();
        let pairs = totals.pairs.iter().enumerate().filter(|(_, pair)| pair.duplicates > 0);
        let pairs = pairs.map(|(place, pair)| PairEntry {
            first: name(place / ports),
            duplicate: name(place % ports),
            duplicates: pair.duplicates,
            most_gap_ns: pair.most_gap_ns,
            gaps: pair.gaps,
        });
        let DedupCounters { packets, duplicates, forgotten } = totals.counters;
        Self { packets, duplicates, forgotten, pairs: pairs.collect() }
    }
}

fn as_map<T: Serialize, S: Serializer>(entries: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(name, entry)| (name, entry)))
}

/// The name and version of the snapshot's form.
pub const SCHEMA: &str = "tapline.stats/1";

impl Snapshot {
    /// Puts the names of `plan` to its numbers. `balanced` is given, since it is judged on the counters from the very start.
    pub fn new(
        plan: &Plan,
        totals: &Totals,
        ports: Vec<PortState>,
        lcores: Vec<LcoreState>,
        watch: WatchState,
        uptime: Duration,
        balanced: bool,
    ) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ports = plan.ports.iter().zip(ports).zip(&totals.ports).enumerate().map(|(index, ((port, state), &totals))| {
            let entry = PortEntry {
                totals,
                heartbeats: plan.returns_heartbeats(PortId(index)).then_some(totals.heartbeats),
                cut: Longest::of(&port.devargs).map(|_| totals.cut),
                device: port.devargs.clone(),
                driver_name: state.driver_name,
                link_up: state.link.is_up,
                speed_mbps: state.link.speed_mbps,
                mtu: state.mtu,
                driver: state.driver,
                replay: state.replay,
                clock: state.clock,
                terminate: state.terminate,
            };
            (port.name.clone(), entry)
        });
        let groups = plan.groups.iter().zip(watch.groups).zip(&totals.groups).map(|((group, health), totals)| {
            let names = group.members.iter().map(|tool| plan.tools[tool.0].name.clone());
            let entry = GroupEntry {
                buckets: names.zip(health.buckets).collect(),
                buckets_moved: health.buckets_moved,
                buckets_pending: health.buckets_pending,
                flows: health.flows,
                flows_moved: health.flows_moved,
                requested: totals.requested,
                assigned: totals.assigned,
                unassigned: totals.unassigned(),
            };
            (group.name.clone(), entry)
        });
        let rules = plan.rules.iter().zip(&totals.rules).zip(watch.rules).map(|((rule, &totals), activity)| {
            let sample_share = rule.sample.map(|spec| spec.share().or(totals.varying_share).unwrap_or(1.0));
            let flows = rule.sample.filter(|spec| spec.has_flow_table()).map(|_| totals.flows);
            RuleEntry { totals, sample_share, flows, activity }
        });
        let tools = plan.tools.iter().zip(&totals.tools).zip(watch.tools).filter(|((tool, _), _)| tool.wire.is_none());
        let tools =
            tools.map(|((tool, totals), health)| (tool.name.clone(), ToolEntry::of(totals, tool.order_ns.is_some(), health)));
        let dedup = plan.rules.iter().zip(&totals.dedups).filter_map(|(rule, totals)| {
            let entry = DedupEntry::new(plan, rule.dedup.as_ref()?, totals.as_ref()?);
            Some((rule.priority.to_string(), entry))
        });
        let wires = plan.wires.iter().map(|wire| {
            let [a, b] = wire.ports.map(|port| plan.ports[port.0].name.clone());
            let [a_to_b, b_to_a] = wire.ways.map(|way| WayEntry::of(&totals.tools[way.0]));
            (wire.name.clone(), WireEntry { a, b, a_to_b, b_to_a })
        });
        Self {
            schema: SCHEMA,
            time: (time.as_secs_f64() * 1e3).round() / 1e3,
            uptime_s: (uptime.as_secs_f64() * 1e3).round() / 1e3,
            ports: ports.collect(),
            rules: plan.rules.iter().map(|rule| rule.priority.to_string()).zip(rules).collect(),
            tools: tools.collect(),
            wires: wires.collect(),
            groups: groups.collect(),
            dedup: dedup.collect(),
            lcores: lcores.into_iter().map(|state| (state.lcore.0.to_string(), state)).collect(),
            packets: totals.packets,
            copies: totals.copies(plan),
            latency_ns: totals.latency(plan).latency(clock::tsc_hz()),
            filter_engine: plan.filter_engine(),
            events: watch.events,
            balanced,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::stats::counters::Disposition;

    #[test]
    fn a_copy_that_a_group_lost_unbalances_the_account() {
        let workers = [Arc::new(WorkerCounters::new(1, 1, 1, 1)), Arc::new(WorkerCounters::new(1, 1, 1, 1))];
        let is_balanced = || Totals::of(&workers).is_balanced();
        workers[0].groups[0].requested.add(10);
        workers[0].groups[0].assigned.add(6);
        workers[0].groups[0].discarded.add(3);
        assert!(!is_balanced());
        workers[1].groups[0].down.add(1);
        assert!(is_balanced());
        assert_eq!(Totals::of(&workers).groups[0].unassigned().requested, 4);
        workers[1].groups[0].discarded.add(1);
        assert!(!is_balanced(), "a copy counted twice");
    }

    #[test]
    fn what_the_writers_of_captures_end_is_part_of_the_account() {
        let worker = Arc::new(WorkerCounters::new(1, 1, 2, 0));
        let writers = WriterCounters::new(2);
        worker.tools[1].requested.add(10);
        worker.tools[1].drop_copies(DropReason::Congested, 2);
        writers.tools[1].sent.add(7);
        writers.tools[1].sent_bytes.add(700);
        writers.tools[1].drop_copies(DropReason::Down, 1);
        writers.tools[1].late.add(3);
        let mut totals = Totals::of(&[worker]);
        assert!(!totals.is_balanced());
        totals.add_writers(&writers);
        assert!(totals.is_balanced());
        let tool = &totals.tools[1];
        assert_eq!((tool.copies.sent, tool.sent_bytes, tool.late, tool.copies.ended()), (7, 700, 3, 10));
    }

    proptest! {
        #[test]
        fn what_is_counted_since_a_moment_of_work_balances_once_all_is_at_rest(
            begun in prop::collection::vec((0u64..50, 0u64..50), 4), ends in 0u64..100, rest in 0u64..50
        ) {
            let worker = Arc::new(WorkerCounters::new(2, 1, 2, 1));
            let begin = |of: &[(u64, u64)]| {
                for (index, &(packets, copies)) in of.iter().enumerate() {
                    worker.ports[index % 2].packets.add(packets);
                    worker.tools[index % 2].requested.add(copies);
                    worker.groups[0].requested.add(copies);
                }
            };
            let end = |most: u64| {
                let totals = Totals::of(std::slice::from_ref(&worker));
                worker.settle(Disposition::Delivered, most.min(totals.packets.received - totals.packets.ended()));
                worker.tools.iter().zip(&totals.tools).for_each(|(tool, totals)| {
                    tool.sent.add(most.min(totals.copies.requested - totals.copies.ended()));
                });
                worker.groups[0].assigned.add(most.min(totals.groups[0].requested - totals.groups[0].ended()));
            };
            begin(&begun[..2]);
            end(ends);
            let cleared = Totals::of(std::slice::from_ref(&worker)).at_rest();
            begin(&begun[2..]);
            end(rest);
            end(u64::MAX);
            let since = Totals::of(std::slice::from_ref(&worker)).since(&cleared);
            prop_assert!(since.is_balanced(), "{since:?}");
            prop_assert_eq!(since.ports.iter().map(|port| port.received).sum::<u64>(), since.packets.received);
        }
    }

    #[test]
    fn the_share_of_several_workers_is_weighted_by_their_packets() {
        let workers = [0.5, 0.1, 0.0].map(|share: f64| {
            let worker = Arc::new(WorkerCounters::new(0, 1, 0, 0));
            worker.rules[0].sampler.share.set(share.to_bits());
            worker
        });
        workers[0].rules[0].matched.add(300);
        workers[1].rules[0].matched.add(100);
        let share = Totals::of(&workers).rules[0].varying_share.expect("two workers say theirs");
        assert!((share - 0.4).abs() < 1e-9, "{share}");
        assert_eq!(Totals::of(&[Arc::new(WorkerCounters::new(0, 1, 0, 0))]).rules[0].varying_share, None);
    }
}
