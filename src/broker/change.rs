//! Change: another plan takes the place of the running one, whose ports, tools, groups and wires it shares.
//!
//! The parts of all workers are made ready first; what is refused has changed nothing by then. Each worker trades its part between
//! two of its bursts ([`tapline_datapath::swap::plan_part`]), and the parts before are dropped here.

use std::sync::Arc;

use super::start::copies::makers;
use super::start::fixed::refused;
use super::start::memory::check_tables;
use super::start::rules::state_of;
use super::{Broker, Error};
use crate::plan::diff::{diff, keeps_ids};
use crate::plan::value::{RulePlan, ToolPlan};
use crate::plan::{Plan, Run};
use tapline_datapath::copies::build::Maker;
use tapline_datapath::counters::WorkerCounters;
use tapline_datapath::egress::admission::QueueLimits;
use tapline_datapath::ids::{RuleId, ToolId};
use tapline_datapath::route::RuleState;
use tapline_datapath::route::sample::WorkerShare;
use tapline_datapath::swap::plan_part::{CarriedOver, PlanPart, StageBuffers};
use tapline_datapath::swap::published::LiveView;
use tapline_dpdk::{LcoreId, clock};
use tapline_packet::by_id::ById;

/// How a rule goes on that had the place `from`.
fn carry_over(before: &RulePlan, after: &RulePlan, from: RuleId, to: RuleId) -> CarriedOver {
    CarriedOver {
        from,
        to,
        has_dedup: before.dedup.is_some() && before.dedup == after.dedup,
        has_sampler: before.sample.is_some() && before.sample == after.sample,
    }
}

/// Gives for each rule of `after` its namesake in `before`. Both are ascending.
fn namesakes(
    before: &ById<RuleId, RulePlan>,
    after: &ById<RuleId, RulePlan>,
) -> ById<RuleId, Option<CarriedOver>> {
    let mut rest = before.entries().peekable();
    let carried_over_of = |(to, rule): (RuleId, &RulePlan)| {
        while rest.next_if(|(_, known)| known.priority < rule.priority).is_some() {}
        let (from, known) = rest.next_if(|(_, known)| known.priority == rule.priority)?;
        Some(carry_over(known, rule, from, to))
    };
    after.entries().map(carried_over_of).collect()
}

/// Gives the limits of those tools' queues whose thresholds are others than before.
fn changed_limits(
    tools: &ById<ToolId, ToolPlan>,
    before: &ById<ToolId, ToolPlan>,
) -> Vec<(ToolId, QueueLimits)> {
    let changed =
        tools.entries().zip(before).filter(|((_, tool), before)| tool.thresholds != before.thresholds);
    changed.map(|((id, tool), _)| (id, tool.egress().limits())).collect()
}

impl Broker {
    /// Gives the workers `plan` in place of the running one. Each goes on with it from a burst of its own; [`swapping`] says
    /// whether all do.
    ///
    /// [`swapping`]: Self::swapping
    ///
    /// # Errors
    /// If the plan needs what was not set up at the start, or the one before it is not yet in force; the running plan goes on then.
    pub fn change(&mut self, plan: Arc<Plan>) -> Result<(), Error> {
        if let Some(lcore) = self.swapping() {
            return Err(Error::NotChanged(format!(
                "lcore {} has not taken up the change before; try again",
                lcore.0
            )));
        }
        self.check_taken_up(&plan)?;
        let work = self.working();
        self.fixed.check(Run { plan: &plan, options: &self.options }, work)?;
        check_tables(&plan, work)?;
        let makers = self.makers_for(&plan)?;

        // from here on nothing fails
        let rules = namesakes(&self.plan.rules, &plan.rules);
        let before = rules.iter().map(|carried| carried.map(|carried| carried.from)).collect();
        let cell = self.watch.change(&plan, &before, &mut self.events.at(clock::now_ns()));
        let counters = self.offer(&plan, &rules, makers);
        cell.wake();
        self.account.go_on(rules, counters);
        self.plan = plan;
        Ok(())
    }

    /// # Errors
    /// The first change that a broker that runs does not take up.
    fn check_taken_up(&self, plan: &Plan) -> Result<(), Error> {
        let changes = diff(&self.plan, plan);
        let keeps_ids = keeps_ids(&self.plan, plan);
        match changes.iter().find(|change| !change.is_taken_up()) {
            Some(change) => Err(refused(&format!(
                "a running plan keeps its settings, ports, tools, groups and wires: {change}"
            ))),
            None if !keeps_ids => {
                Err(refused("a running plan keeps its ports, tools, groups and wires in their order"))
            }
            None => Ok(()),
        }
    }

    /// The number of workers that judge packets.
    fn working(&self) -> usize {
        self.workers.handles.iter().filter(|handle| handle.share.is_some()).count()
    }

    /// Makes for each worker what makes a plan's copies, if the worker makes any.
    fn makers_for(&mut self, plan: &Plan) -> Result<Vec<Option<Maker>>, Error> {
        let lcores: Vec<LcoreId> = self.workers.handles.iter().map(|handle| handle.lcore).collect();
        let run = Run { plan, options: &self.options };
        makers(&self.machine.eal, run, &self.machine.ports, &lcores, &mut self.copy_resources).map_err(
            |error| {
                Error::NotChanged(format!("a rule edits copies, and there is no room for them: {error}"))
            },
        )
    }

    /// Offers each worker its part of a plan, whose rules go on from those before as `rules` says. Gives what the workers will
    /// count in, by worker.
    fn offer(
        &self,
        plan: &Arc<Plan>,
        rules: &ById<RuleId, Option<CarriedOver>>,
        makers: Vec<Option<Maker>>,
    ) -> Vec<Arc<WorkerCounters>> {
        let limits = changed_limits(&plan.tools, &self.plan.tools);
        let flows = plan.flows_of_a_table(self.working());
        let carried_over: Vec<CarriedOver> = rules
            .iter()
            .flatten()
            .filter(|carried| carried.has_dedup || carried.has_sampler)
            .copied()
            .collect();
        let mut counters = Vec::new();
        for ((own, handle), mut maker) in
            self.account.counters.iter().zip(&self.workers.handles).zip(makers)
        {
            let share = handle.share.clone().map(|share| WorkerShare { flows, ..share });
            let states = self.states_of(plan, rules, share.as_ref());
            let next = Arc::new(counters_after(own, &states, rules));
            if let Some(maker) = &mut maker {
                maker.send_to(self.watch.next_hops());
            }
            handle.swap.offer(Box::new(PlanPart {
                plan: Arc::clone(&plan.work),
                states: states.into(),
                maker,
                live: LiveView::new(Arc::clone(self.watch.cell())),
                counters: Arc::clone(&next),
                buffers: StageBuffers::new(&plan.work),
                limits: limits.clone(),
                carried_over: if share.is_some() { carried_over.clone() } else { Vec::new() },
            }));
            counters.push(next);
        }
        counters
    }

    /// Makes the state that rules of `plan` begin with on a worker with this `share`, without what goes on from the plan before.
    fn states_of(
        &self,
        plan: &Plan,
        rules: &[Option<CarriedOver>],
        share: Option<&WorkerShare>,
    ) -> Vec<RuleState> {
        let states =
            plan.rules.iter().zip(self.watch.limits()).zip(rules).map(|((rule, limit), carried)| {
                let Some(carried) = carried.filter(|carried| carried.has_dedup || carried.has_sampler)
                else {
                    return state_of(plan, rule, limit, share, &self.secret);
                };
                // what goes on need not be made
                let dedup = rule.dedup.clone().filter(|_| !carried.has_dedup);
                let sample = rule.sample.filter(|_| !carried.has_sampler);
                state_of(plan, &RulePlan { dedup, sample, ..rule.clone() }, limit, share, &self.secret)
            });
        states.collect()
    }

    /// The first worker that has not yet taken up the last change.
    pub fn swapping(&self) -> Option<LcoreId> {
        let late = self.account.retiring.as_ref()?.is_over.iter().position(|is_over| !is_over)?;
        Some(self.workers.handles[late].lcore)
    }
}

/// Makes the counters of a worker that counted in `own` before. A dedup that goes on keeps its tally.
fn counters_after(
    own: &WorkerCounters,
    states: &[RuleState],
    rules: &[Option<CarriedOver>],
) -> WorkerCounters {
    let mut next = own.for_rules(rules.len());
    for ((tally, state), carried) in next.dedups.iter_mut().zip(states).zip(rules) {
        *tally = match carried.filter(|carried| carried.has_dedup) {
            Some(carried) => own.dedups[carried.from].clone(),
            None => state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())),
        };
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Surroundings, plan};
    use tapline_lang as lang;

    fn rules(text: &str) -> ById<RuleId, RulePlan> {
        let head = "port attach p net_null0\ntool create t discard\n";
        plan(&mut lang::parse_text("test", &format!("{head}{text}"), &[]), &Surroundings::fixed())
            .expect("a plan")
            .rules
    }

    #[test]
    fn rules_are_known_by_their_priority_and_remember_what_is_said_as_before() {
        let before = rules(
            "rule create 1 from p to t\nrule create 2 from p sample 1/2 to t\n\
             rule create 5 from p sample 1/5 dedup window 1ms to t\nrule create 9 from p sample 1/9 to t\n",
        );
        let after = rules(
            "rule create 2 from p match \"tcp\" sample 1/2 to t\nrule create 3 from p sample 1/9 to t\n\
             rule create 5 from p sample 1/6 dedup window 1ms to t\nrule create 10 from p to t\n",
        );
        let kept =
            |from, to, has_dedup, has_sampler| Some(CarriedOver { from, to, has_dedup, has_sampler });
        let expected =
            [kept(RuleId(1), RuleId(0), false, true), None, kept(RuleId(2), RuleId(2), true, false), None];
        assert_eq!(*namesakes(&before, &after), expected);
    }
}
