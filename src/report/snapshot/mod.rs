//! A snapshot: all counters at one moment, as one JSON object a line (`tapline.stats/1`), by the names of the pipeline file.

/// Shows a port's clock.
pub mod clock;
/// Shows changes of state.
pub mod event;
/// Shows a group.
pub mod group;
/// Shows an lcore.
pub mod lcore;
/// Shows a port.
pub mod port;
/// Shows a rule.
pub mod rule;
/// Shows a tool.
pub mod tool;
/// Adds up counters and judges the ledger's identities.
pub mod totals;
/// Shows a wire.
pub mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::Serializer;

use self::event::EventEntry;
use self::group::{GroupEntry, GroupHealth};
use self::lcore::LcoreState;
use self::port::{PortEntry, PortState};
use self::rule::{DedupEntry, RuleActivity, RuleEntry};
use self::tool::{ToolEntry, ToolHealth};
use self::totals::Totals;
use self::wire::WireEntry;
use super::ledger::{Copies, Packets};
use crate::plan::Plan;
use tapline_datapath::counters::latency::Latency;
use tapline_dpdk::clock::tsc_hz;

/// The name and version of the snapshot's form.
const SCHEMA: &str = "tapline.stats/1";

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

/// What the control thread knows of rules, tools and groups beside the counters; indexed by the plan's ids.
#[derive(Clone, Default)]
pub struct WatchState {
    pub rules: Vec<RuleActivity>,
    pub tools: Vec<ToolHealth>,
    pub groups: Vec<GroupHealth>,
    pub events: Vec<EventEntry>,
}

/// What a snapshot is made of.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub totals: &'a Totals,
    pub ports: Vec<PortState>,
    pub lcores: Vec<LcoreState>,
    pub watch: WatchState,
    pub uptime: Duration,
    /// Whether both identities of the ledger hold. It is given, since it is judged on the counters from the very start.
    pub is_balanced: bool,
}

fn as_map<T: Serialize, S: Serializer>(entries: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(name, entry)| (name, entry)))
}

impl Snapshot {
    /// Puts the names of the plan to its numbers.
    pub fn new(report: Report<'_>) -> Self {
        let Report { plan, totals, ports, lcores, watch, uptime, is_balanced } = report;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ports = plan.ports.entries().zip(ports).zip(&totals.ports);
        let ports = ports.map(|(((id, port), state), &totals)| {
            (port.name.clone(), PortEntry::new(plan, id, state, totals))
        });
        let rules =
            plan.rules.iter().zip(&totals.rules).zip(watch.rules).map(|((rule, &totals), activity)| {
                (rule.priority.to_string(), RuleEntry::new(rule, totals, activity))
            });
        let tools = plan.tools.entries().zip(watch.tools).map(|((id, tool), health)| {
            let totals = &totals.egresses[id.egress()];
            (tool.name.clone(), ToolEntry::of(totals, tool.order_ns.is_some(), health))
        });
        let wires =
            plan.wires.entries().map(|(id, wire)| (wire.name.clone(), WireEntry::new(plan, id, totals)));
        let groups = plan.groups.iter().zip(&plan.work.groups).zip(watch.groups).zip(&totals.groups);
        let groups = groups.map(|(((group, work), health), totals)| {
            (group.name.clone(), GroupEntry::new(plan, work, health, totals))
        });
        let dedup = plan.rules.iter().zip(&totals.dedups).filter_map(|(rule, totals)| {
            let entry = DedupEntry::new(plan, rule.dedup.as_ref()?, totals.as_ref()?);
            Some((rule.priority.to_string(), entry))
        });
        Self {
            schema: SCHEMA,
            time: (time.as_secs_f64() * 1e3).round() / 1e3,
            uptime_s: (uptime.as_secs_f64() * 1e3).round() / 1e3,
            ports: ports.collect(),
            rules: rules.collect(),
            tools: tools.collect(),
            wires: wires.collect(),
            groups: groups.collect(),
            dedup: dedup.collect(),
            lcores: lcores.into_iter().map(|state| (state.lcore.0.to_string(), state)).collect(),
            packets: totals.packets,
            copies: totals.copies(plan),
            latency_ns: totals.latency(plan).latency(tsc_hz()),
            filter_engine: plan.filter_engine(),
            events: watch.events,
            balanced: is_balanced,
        }
    }
}
