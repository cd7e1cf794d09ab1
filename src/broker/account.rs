//! The account: what workers and writers count, and what of it belongs to plans before and to a time before `clear stats`.

use std::sync::Arc;

use super::kept::Kept;
use crate::report::snapshot::totals::{Departed, RuleTotals, Totals, copies_of, group_of};
use tapline_api::snapshot::DriverStats;
use tapline_datapath::counters::{EgressCounters, GroupCounters, WorkerCounters, WriterCounters};
use tapline_datapath::egresses::{Egress, Egresses};
use tapline_datapath::ids::{EgressId, PortId, RuleId, ToolId};
use tapline_datapath::swap::plan_part::CarriedOver;
use tapline_packet::by_id::ById;

/// All that is counted of a run.
#[derive(Default)]
pub(super) struct Account {
    /// Those of each worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// The counters of the capture writers, if there are any.
    pub writers: Option<Arc<WriterCounters>>,
    /// Totals at the last `clear stats`.
    pub cleared: Option<Totals>,
    /// The counters of each port's driver at that time.
    pub cleared_drivers: ById<PortId, DriverStats>,
    /// The sums that each rule counted under plans before.
    pub past: ById<RuleId, RuleTotals>,
    /// The plan before, while workers may still have it.
    pub retiring: Option<Retiring>,
    /// The egresses of the plan.
    kinds: Egresses,
    /// Holds what tools, wires and groups had counted that are gone.
    departed: Departed,
    /// Holds tools, wires and groups that have left, and have copies on their way.
    leaving: Vec<Leaving>,
}

/// This is what a tool, a wire or a group that leaves is counted in.
pub(super) enum Leaving {
    Tool(Vec<Arc<EgressCounters>>),
    Wire(Vec<Arc<EgressCounters>>),
    Group(Vec<Arc<GroupCounters>>),
}

impl Leaving {
    fn add_to(&self, departed: &mut Departed) {
        match self {
            Leaving::Tool(counters) => departed.copies.add(&copies_of(counters.iter().map(AsRef::as_ref))),
            Leaving::Wire(counters) => {
                departed.originals.add(&copies_of(counters.iter().map(AsRef::as_ref)))
            }
            Leaving::Group(counters) => {
                departed.copies.add(&group_of(counters.iter().map(AsRef::as_ref)).unassigned());
            }
        }
    }
}

impl Account {
    /// Begins the account of a plan that has so many rules.
    pub(super) fn new(rules: usize, kinds: Egresses) -> Self {
        Self { past: ById::filled(rules, RuleTotals::default()), kinds, ..Self::default() }
    }

    /// Packets received so far.
    pub(super) fn received(&self) -> u64 {
        self.counters.iter().map(|counters| counters.received()).sum()
    }

    /// All that count a tool's copies: the workers and, behind them, the writers of captures.
    pub(super) fn of_tool(&self, tool: ToolId) -> impl Iterator<Item = &EgressCounters> {
        tool_counters(&self.counters, self.writers.as_deref(), tool)
    }

    /// Returns how many bursts each worker was given by queues and rings.
    pub(super) fn bursts(&self) -> Vec<u64> {
        self.counters.iter().map(|counters| counters.lcore.bursts()).collect()
    }

    /// Returns whether something of a plan before is on its way.
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Copies that were requested of a tool, and those of them that ended. What ends is read first: a copy on its way counts as
    /// waiting.
    pub(super) fn copies_of(&self, tool: ToolId) -> (u64, u64) {
        requested_and_ended(|| self.of_tool(tool))
    }

    /// As [`copies_of`](Self::copies_of), of the originals that were to leave by a direction of a wire.
    pub(super) fn originals_of(&self, way: EgressId) -> (u64, u64) {
        requested_and_ended(|| self.counters.iter().map(|worker| worker.egresses[way].as_ref()))
    }

    /// Returns whether a worker has traded its part.
    pub(super) fn is_traded(&self, worker: usize) -> bool {
        self.retiring.as_ref().is_none_or(|retiring| retiring.is_over[worker])
    }

    /// A worker has traded its part. Once all have, what rules counted under the plan before is added up.
    pub(super) fn traded(&mut self, worker: usize) {
        let Some(retiring) = &mut self.retiring else { return };
        retiring.is_over[worker] = true;
        if retiring.is_over.iter().all(|&is_over| is_over) {
            for (past, ended) in self.past.iter_mut().zip(retiring.totals(&self.counters)) {
                past.add(&ended);
            }
            self.retiring = None;
        }
    }

    /// Goes on with another plan, which has `kept` of the one before, and whose workers count in `counters`, by worker.
    /// `writers` are those of its capture tools, where they are others.
    pub(super) fn go_on(
        &mut self,
        kept: &Kept,
        counters: Vec<Arc<WorkerCounters>>,
        writers: Option<Arc<WriterCounters>>,
    ) {
        let rules = kept.rules.clone();
        let origins = kept.origins();
        self.leaving.extend(self.left_by(kept));
        self.cleared = self.cleared.take().map(|cleared| cleared.of_plan(&origins, self.kinds));
        let cleared_drivers = |from: &Option<PortId>| {
            from.and_then(|from| self.cleared_drivers.get(from).copied()).unwrap_or_default()
        };
        self.cleared_drivers = kept.ports.iter().map(cleared_drivers).collect();
        self.writers =
            writers.or_else(|| self.writers.take().map(|writers| Arc::new(writers.after(&kept.tools))));
        self.kinds = kept.kinds;
        let places: Vec<(Option<RuleId>, bool)> = rules
            .iter()
            .map(|carried| {
                (carried.map(|carried| carried.from), carried.is_some_and(|carried| carried.has_dedup))
            })
            .collect();
        self.cleared = self.cleared.take().map(|cleared| cleared.of_rules(&places));
        let past_of = |carried: &Option<CarriedOver>| {
            carried.map(|carried| self.past[carried.from]).unwrap_or_default()
        };
        self.past = rules.iter().map(past_of).collect();
        let counters = std::mem::replace(&mut self.counters, counters);
        self.retiring = Some(Retiring { is_over: vec![false; counters.len()], counters, rules });
    }

    /// This is what counts the tools, wires and groups that `kept` has not.
    fn left_by(&self, kept: &Kept) -> Vec<Leaving> {
        let mut left = Vec::new();
        for (id, egress) in
            self.kinds.all().filter(|(id, _)| !kept.egresses.iter().flatten().any(|from| from == id))
        {
            let workers = self.counters.iter().map(|worker| Arc::clone(&worker.egresses[id]));
            left.push(match egress {
                Egress::Tool(tool) => {
                    let writer = self.writers.iter().map(|writers| Arc::clone(&writers.tools[tool]));
                    Leaving::Tool(workers.chain(writer).collect())
                }
                Egress::Wire(..) => Leaving::Wire(workers.collect()),
            });
        }
        let Some(first) = self.counters.first() else { return left };
        for id in first.groups.ids().filter(|id| !kept.groups.iter().flatten().any(|from| from == id)) {
            left.push(Leaving::Group(
                self.counters.iter().map(|worker| Arc::clone(&worker.groups[id])).collect(),
            ));
        }
        left
    }

    /// Nothing is on its way any more of what left.
    pub(super) fn let_go(&mut self) {
        for leaving in self.leaving.drain(..) {
            leaving.add_to(&mut self.departed);
        }
    }

    /// Gives what was counted from the start on.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::of(&self.counters);
        totals.egresses.resize(self.kinds.count(), Default::default());
        totals.departed.add(&self.departed);
        self.leaving.iter().for_each(|leaving| leaving.add_to(&mut totals.departed));
        if let Some(writers) = &self.writers {
            totals.add_writers(writers);
        }
        totals.add_past(&self.past);
        if let Some(retiring) = &self.retiring {
            totals.add_past(&retiring.totals(&self.counters));
        }
        totals
    }
}

/// The plan before, while workers may still have it.
pub(super) struct Retiring {
    /// Each worker has traded its part.
    pub is_over: Vec<bool>,
    /// The counters of each worker under that plan.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// For each rule of the new plan: its place in the one before, and which parts of its state go on.
    pub rules: ById<RuleId, Option<CarriedOver>>,
}

impl Retiring {
    /// Gives for each rule of the new plan what it counted under the one before and no longer counts itself.
    fn totals(&self, counters: &[Arc<WorkerCounters>]) -> Vec<RuleTotals> {
        let of_rule = |(to, carried): (RuleId, &Option<CarriedOver>)| {
            let Some(carried) = carried else { return RuleTotals::default() };
            let mut sum = RuleTotals::default();
            for (old, new) in self
                .counters
                .iter()
                .map(|old| &old.rules[carried.from])
                .zip(counters.iter().map(|new| &new.rules[to]))
            {
                sum.matched += old.matched.get();
                sum.duplicates += old.duplicates.get();
                sum.sampled_out += old.sampled_out.get();
                // a sampler that goes on takes its figures along
                let left =
                    |old: u64, new: u64| if carried.has_sampler { old.saturating_sub(new) } else { old };
                let (before, after) = (&old.sampler, &new.sampler);
                sum.flows.begun += left(before.flows_begun.get(), after.flows_begun.get());
                sum.flows.over += left(before.flows_over.get(), after.flows_over.get());
                sum.flows.evicted += left(before.flows_evicted.get(), after.flows_evicted.get());
            }
            sum
        };
        self.rules.entries().map(of_rule).collect()
    }
}

fn requested_and_ended<'a, C: Iterator<Item = &'a EgressCounters>>(counters: impl Fn() -> C) -> (u64, u64) {
    let ended = counters().map(EgressCounters::ended).sum();
    (counters().map(|counters| counters.requested.get()).sum(), ended)
}

/// All that count a tool's copies: the workers and, behind them, the writers of captures.
pub(super) fn tool_counters<'a>(
    workers: &'a [Arc<WorkerCounters>],
    writers: Option<&'a WriterCounters>,
    tool: ToolId,
) -> impl Iterator<Item = &'a EgressCounters> {
    workers
        .iter()
        .map(move |worker| worker.egresses[tool.egress()].as_ref())
        .chain(writers.map(|writers| writers.tools[tool].as_ref()))
}
