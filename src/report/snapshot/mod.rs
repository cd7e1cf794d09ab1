//! A snapshot: all counters at one moment, as one JSON object a line (`tapline.stats/1`), by the names of the pipeline file.

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

use self::group::GroupHealth;
use self::port::PortState;
use self::totals::Totals;
use crate::plan::Plan;
use tapline_api::snapshot::{
    EventEntry, InFlightLimit, LcoreEntry, RecentTotals, RuleActivity, SCHEMA, Snapshot, ToolHealth,
};
use tapline_dpdk::LcoreId;
use tapline_dpdk::clock::tsc_hz;

/// The state of rules, tools and groups beside the counters, as the control thread knows it; indexed by the plan's ids.
#[derive(Clone, Default)]
pub struct WatchState {
    pub rules: Vec<RuleActivity>,
    pub tools: Vec<ToolHealth>,
    pub groups: Vec<GroupHealth>,
}

/// The sources of a snapshot.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub totals: &'a Totals,
    pub ports: Vec<PortState>,
    pub lcores: Vec<(LcoreId, LcoreEntry)>,
    pub watch: WatchState,
    pub events: Vec<EventEntry>,
    pub uptime: Duration,
    pub in_flight_limit: InFlightLimit,
    /// Both identities of the ledger hold. The caller says so, because they are judged on the counters from the very start.
    pub is_balanced: bool,
}

/// Puts the names of the plan to its numbers.
pub fn snapshot(report: Report<'_>) -> Snapshot {
    let Report { plan, totals, ports, lcores, watch, events, uptime, in_flight_limit, is_balanced } =
        report;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ports = plan.ports.entries().zip(ports).zip(&totals.ports);
    let ports = ports
        .map(|(((id, port), state), &totals)| (port.name.clone(), port::entry(plan, id, state, totals)));
    let rules = plan.rules.iter().zip(&totals.rules).zip(watch.rules).map(|((plan, &totals), activity)| {
        (plan.priority.to_string(), rule::entry(plan, totals, activity))
    });
    let tools = plan.tools.entries().zip(watch.tools).map(|((id, tool), health)| {
        let totals = &totals.egresses[id.egress()];
        (tool.name.clone(), tool::entry(totals, tool.order_ns.is_some(), health))
    });
    let wires = plan.wires.entries().map(|(id, wire)| (wire.name.clone(), wire::entry(plan, id, totals)));
    let groups = plan.groups.iter().zip(&plan.work.groups).zip(watch.groups).zip(&totals.groups);
    let groups = groups.map(|(((group, work), health), totals)| {
        (group.name.clone(), group::entry(plan, work, health, totals))
    });
    let dedup = plan.rules.iter().zip(&totals.dedups).filter_map(|(rule, totals)| {
        let entry = rule::dedup_entry(plan, rule.dedup.as_ref()?, totals.as_ref()?);
        Some((rule.priority.to_string(), entry))
    });
    Snapshot {
        schema: SCHEMA.into(),
        time: (time.as_secs_f64() * 1e3).round() / 1e3,
        // rates are of the time between two of them
        uptime_s: (uptime.as_secs_f64() * 1e6).round() / 1e6,
        ports: ports.collect(),
        rules: rules.collect(),
        tools: tools.collect(),
        wires: wires.collect(),
        groups: groups.collect(),
        dedup: dedup.collect(),
        lcores: lcores.into_iter().map(|(lcore, entry)| (lcore.0.to_string(), entry)).collect(),
        packets: totals.packets,
        copies: totals.copies(plan),
        departed: totals.departed.entry(),
        kept_devices: Vec::new(),
        latency_ns: totals.latency(plan).latency(tsc_hz()),
        filter_engine: plan.filter_engine(),
        events,
        in_flight_limit,
        recent: RecentTotals::default(),
        balanced: is_balanced,
    }
}
