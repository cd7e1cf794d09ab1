//! A snapshot: all counters at one moment, as one JSON object a line (`tapline.stats/1`), by the names of the pipeline file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::Serializer;

use super::counters::{BURST_SIZES, DropReason, Stage, WorkerCounters};
use super::latency::{Latency, Merged};
use super::ledger::{Copies, Dropped, Packets};
use crate::datapath::admission::Class;
use crate::dpdk::port::{DriverStats, Link};
use crate::dpdk::{LcoreId, clock};
use crate::plan::Plan;

/// What the workers counted, added up; indexed by the plan's ids.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    pub packets: Packets,
    pub ports: Vec<PortTotals>,
    pub rules: Vec<RuleTotals>,
    pub tools: Vec<ToolTotals>,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct PortTotals {
    /// Packets that the driver handed over.
    pub received: u64,
    pub received_bytes: u64,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct RuleTotals {
    /// Packets that reached the rule and matched it.
    pub matched: u64,
    /// Of those, packets that its sampler passed over.
    pub sampled_out: u64,
}

#[derive(Clone, Default, Debug)]
pub struct ToolTotals {
    pub copies: Copies,
    pub sent_bytes: u64,
    pub refused: Refused,
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
    /// Of the dropped copies, those that the queue refused, by class.
    pub refused: Refused,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
    /// The alarms that are raised: `queue`, `utilisation`.
    pub alarms: Vec<&'static str>,
}

impl ToolEntry {
    fn of(totals: &ToolTotals) -> Self {
        Self {
            copies: totals.copies,
            sent_bytes: totals.sent_bytes,
            refused: totals.refused,
            queue_depth: totals.queue_depth,
            queue_peak: totals.queue_peak,
            latency_ns: totals.latency.latency(clock::tsc_hz()),
            alarms: Vec::new(),
        }
    }
}

impl Totals {
    /// Adds up the workers' counters.
    pub fn of(workers: &[std::sync::Arc<WorkerCounters>]) -> Self {
        let Some(first) = workers.first() else { return Self::default() };
        let sum = |get: &dyn Fn(&WorkerCounters) -> u64| workers.iter().map(|worker| get(worker)).sum::<u64>();
        let ports = (0..first.ports.len()).map(|id| PortTotals {
            received: sum(&|worker| worker.ports[id].packets.get()),
            received_bytes: sum(&|worker| worker.ports[id].bytes.get()),
        });
        let rules = (0..first.rules.len()).map(|id| RuleTotals {
            matched: sum(&|worker| worker.rules[id].matched.get()),
            sampled_out: sum(&|worker| worker.rules[id].sampled_out.get()),
        });
        let tools = (0..first.tools.len()).map(|id| ToolTotals {
            copies: Copies {
                requested: sum(&|worker| worker.tools[id].requested.get()),
                sent: sum(&|worker| worker.tools[id].sent.get()),
                dropped: Dropped(std::array::from_fn(|reason| sum(&|worker| worker.tools[id].dropped[reason].get()))),
            },
            sent_bytes: sum(&|worker| worker.tools[id].sent_bytes.get()),
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| sum(&|worker| worker.tools[id].refused[class][reason].get())))
            })),
            queue_depth: sum(&|worker| worker.tools[id].queue_depth.get()),
            queue_peak: workers.iter().map(|worker| worker.tools[id].queue_peak.get()).max().unwrap_or(0),
            latency: workers.iter().fold(Merged::default(), |mut sum, worker| {
                sum.add(&worker.tools[id].latency);
                sum
            }),
        });
        Self {
            packets: Packets::of(workers.iter().map(AsRef::as_ref)),
            ports: ports.collect(),
            rules: rules.collect(),
            tools: tools.collect(),
        }
    }

    /// Copies of all tools.
    pub fn copies(&self, plan: &Plan) -> Copies {
        self.of_copies(plan).fold(Copies::default(), |mut sum, tool| {
            sum.add(&tool.copies);
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

    /// Whether both identities of the ledger hold.
    pub fn is_balanced(&self) -> bool {
        self.packets.is_balanced() && self.tools.iter().all(|tool| tool.copies.is_balanced())
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let (a, b) = (&self.packets, &earlier.packets);
        let ports = self
            .ports
            .iter()
            .zip(&earlier.ports)
            .map(|(a, b)| PortTotals { received: a.received - b.received, received_bytes: a.received_bytes - b.received_bytes });
        let rules = self.rules.iter().zip(&earlier.rules);
        let rules = rules.map(|(a, b)| RuleTotals { matched: a.matched - b.matched, sampled_out: a.sampled_out - b.sampled_out });
        let tools = self.tools.iter().zip(&earlier.tools).map(|(a, b)| ToolTotals {
            copies: Copies {
                requested: a.copies.requested - b.copies.requested,
                sent: a.copies.sent - b.copies.sent,
                dropped: Dropped(std::array::from_fn(|reason| a.copies.dropped.0[reason] - b.copies.dropped.0[reason])),
            },
            sent_bytes: a.sent_bytes - b.sent_bytes,
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| a.refused.0[class].0[reason] - b.refused.0[class].0[reason]))
            })),
            queue_depth: a.queue_depth,
            queue_peak: a.queue_peak,
            latency: a.latency.since(&b.latency),
        });
        Totals {
            packets: Packets {
                received: a.received - b.received,
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
        }
    }
}

/// What the control thread reads of a port beside our counters.
#[derive(Clone, Debug)]
pub struct PortState {
    pub driver_name: String,
    pub link: Link,
    pub driver: DriverStats,
}

/// One lcore's use of its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LcoreState {
    #[serde(skip)]
    pub lcore: LcoreId,
    pub received: u64,
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
    /// With `--profile`: ticks of the time-stamp counter a packet, by stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles_per_packet: Option<StageCycles>,
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
    pub fn of(lcore: LcoreId, counters: &WorkerCounters, is_stalled: bool, stalls: u64) -> Self {
        let own = &counters.lcore;
        let packets = own.timed_packets.get();
        let cycles = |stage: Stage| round(own.stage_ticks[stage as usize].get() as f64 / packets as f64, 10.0);
        Self {
            lcore,
            received: counters.received.get(),
            turns: own.turns.get(),
            idle_turns: own.idle_turns.get(),
            polls: own.polls.get(),
            empty_polls: own.empty_polls.get(),
            busy: round(own.busy_ticks.get() as f64 / own.ticks.get().max(1) as f64, 1e4),
            sleeps: own.sleeps.get(),
            bursts: BurstSizes(std::array::from_fn(|size| own.bursts[size].get())),
            stage: own.stage().name(),
            is_stalled,
            stalls,
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
    pub rules: Vec<(String, RuleTotals)>,
    #[serde(serialize_with = "as_map")]
    pub tools: Vec<(String, ToolEntry)>,
    #[serde(serialize_with = "as_map")]
    pub wires: Vec<(String, WireEntry)>,
    #[serde(serialize_with = "as_map")]
    pub groups: Vec<(String, GroupEntry)>,
    #[serde(serialize_with = "as_map")]
    pub lcores: Vec<(String, LcoreState)>,
    pub packets: Packets,
    pub copies: Copies,
    pub latency_ns: Latency,
    /// Whether both identities of the ledger hold. While packets are on their way they may not.
    pub balanced: bool,
}

#[derive(Clone, Serialize)]
pub struct PortEntry {
    #[serde(flatten)]
    pub totals: PortTotals,
    pub device: String,
    pub driver_name: String,
    pub link_up: bool,
    pub speed_mbps: Option<u32>,
    /// What the driver and the NIC count.
    pub driver: DriverStats,
}

#[derive(Clone, Serialize)]
pub struct GroupEntry {
    /// Buckets of the group's table that each member has.
    #[serde(serialize_with = "as_map")]
    pub buckets: Vec<(String, usize)>,
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
        uptime: Duration,
        balanced: bool,
    ) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ports = plan.ports.iter().zip(ports).zip(&totals.ports).map(|((port, state), &totals)| {
            let entry = PortEntry {
                totals,
                device: port.devargs.clone(),
                driver_name: state.driver_name,
                link_up: state.link.is_up,
                speed_mbps: state.link.speed_mbps,
                driver: state.driver,
            };
            (port.name.clone(), entry)
        });
        let groups = plan.groups.iter().map(|group| {
            let mut buckets = vec![0; group.members.len()];
            for member in group.table.slots().iter().filter_map(|slot| slot.member()) {
                buckets[member] += 1;
            }
            let names = group.members.iter().map(|tool| plan.tools[tool.0].name.clone());
            (group.name.clone(), GroupEntry { buckets: names.zip(buckets).collect() })
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
            rules: plan.rules.iter().map(|rule| rule.priority.to_string()).zip(totals.rules.iter().copied()).collect(),
            tools: plan.copy_tools().map(|tool| tool.name.clone()).zip(totals.of_copies(plan).map(ToolEntry::of)).collect(),
            wires: wires.collect(),
            groups: groups.collect(),
            lcores: lcores.into_iter().map(|state| (state.lcore.0.to_string(), state)).collect(),
            packets: totals.packets,
            copies: totals.copies(plan),
            latency_ns: totals.latency(plan).latency(clock::tsc_hz()),
            balanced,
        }
    }
}
