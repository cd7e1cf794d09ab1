//! Reload: another plan takes the place of the running one, whose ports, tools, groups and wires it shares.
//!
//! The parts of all workers are made ready first; what is refused has changed nothing by then. Each worker trades its part between
//! two of its bursts ([`crate::datapath::exchange`]), and the parts before are dropped here.

use std::sync::Arc;

use super::start::copies::makers;
use super::start::fixed::refused;
use super::start::memory::check_tables;
use super::start::rules::state_of;
use super::{Broker, Error};
use crate::datapath::admission::{Limits, Thresholds};
use crate::datapath::exchange::{Heir, PlanPart, Rooms};
use crate::datapath::live::LiveView;
use crate::datapath::route::RuleState;
use crate::dpdk::{LcoreId, clock};
use crate::plan::Plan;
use crate::plan::plan::{RulePlan, ToolId};
use crate::stats::counters::WorkerCounters;
use crate::stats::snapshot::totals::{RuleTotals, Totals};

/// The plan before, while workers may still have it.
pub(super) struct Retiring {
    /// By seat.
    is_over: Vec<bool>,
    /// What the workers counted under it, by seat.
    counters: Vec<Arc<WorkerCounters>>,
    /// By rule of the new plan: its place in the one before, and which parts of its state go on.
    rules: Vec<Option<Heir>>,
}

impl Retiring {
    /// By rule of the new plan: what it counted under the one before and no longer counts itself.
    fn totals(&self, counters: &[Arc<WorkerCounters>]) -> Vec<RuleTotals> {
        let of_rule = |(to, heir): (usize, &Option<Heir>)| {
            let Some(heir) = heir else { return RuleTotals::default() };
            let mut sum = RuleTotals::default();
            for (old, new) in self.counters.iter().map(|old| &old.rules[heir.from]).zip(counters.iter().map(|new| &new.rules[to])) {
                sum.matched += old.matched.get();
                sum.duplicates += old.duplicates.get();
                sum.sampled_out += old.sampled_out.get();
                // a sampler that goes on takes its figures along
                let left = |old: u64, new: u64| if heir.has_sampler { old.saturating_sub(new) } else { old };
                let (before, after) = (&old.sampler, &new.sampler);
                sum.flows.begun += left(before.flows_begun.get(), after.flows_begun.get());
                sum.flows.over += left(before.flows_over.get(), after.flows_over.get());
                sum.flows.evicted += left(before.flows_evicted.get(), after.flows_evicted.get());
            }
            sum
        };
        self.rules.iter().enumerate().map(of_rule).collect()
    }
}

/// How a rule goes on that had the place `from`.
fn heir(before: &RulePlan, after: &RulePlan, from: usize, to: usize) -> Heir {
    Heir {
        from,
        to,
        has_dedup: before.dedup.is_some() && before.dedup == after.dedup,
        has_sampler: before.sample.is_some() && before.sample == after.sample,
    }
}

/// By rule of `after`: its namesake in `before`. Both are ascending.
fn namesakes(before: &[RulePlan], after: &[RulePlan]) -> Vec<Option<Heir>> {
    let mut rest = before.iter().enumerate().peekable();
    let heir_of = |(to, rule): (usize, &RulePlan)| {
        while rest.next_if(|(_, known)| known.priority < rule.priority).is_some() {}
        let (from, known) = rest.next_if(|(_, known)| known.priority == rule.priority)?;
        Some(heir(known, rule, from, to))
    };
    after.iter().enumerate().map(heir_of).collect()
}

impl Broker {
    /// Gives the workers `plan` in place of the running one. Each goes on with it from a burst of its own; [`exchanging`] says
    /// whether all do. Gives lines for the log.
    ///
    /// [`exchanging`]: Self::exchanging
    ///
    /// # Errors
    /// If the plan needs what was not set up at the start, or the one before it is not yet in force; the running plan goes on then.
    pub fn exchange(&mut self, mut plan: Plan) -> Result<Vec<String>, Error> {
        if let Some(lcore) = self.exchanging() {
            return Err(Error::Refused(format!("lcore {} has not taken up the change before; try again", lcore.0)));
        }
        let is_same = plan.ports.iter().map(|port| &port.name).eq(self.plan.ports.iter().map(|port| &port.name))
            && plan.tools.iter().map(|tool| &tool.name).eq(self.plan.tools.iter().map(|tool| &tool.name))
            && plan.groups.iter().map(|group| &group.name).eq(self.plan.groups.iter().map(|group| &group.name))
            && plan.wires == self.plan.wires;
        if !is_same {
            return Err(refused("a running plan keeps its ports, tools, groups and wires"));
        }
        plan.settings = self.plan.settings.clone();
        let work = self.seats.iter().filter(|seat| seat.post.is_some()).count();
        self.fixed.check(&plan, work)?;
        check_tables(&plan, work)?;
        let mut limits = Vec::new();
        for (index, (tool, before)) in plan.tools.iter_mut().zip(&self.plan.tools).enumerate() {
            // a tool that once had thresholds keeps them, as it does where rules with a class stand in the file
            tool.thresholds = tool.thresholds.or(before.thresholds);
            if tool.thresholds != before.thresholds {
                limits.push((index, tool.queue, tool.queue_bytes, tool.thresholds.unwrap_or(Thresholds::NONE)));
            }
        }
        let limits =
            || limits.iter().map(|&(tool, packets, bytes, thresholds)| (ToolId(tool), Limits::new(packets, bytes, thresholds)));
        let lcores: Vec<LcoreId> = self.seats.iter().map(|seat| seat.lcore).collect();
        let makers = makers(&self.eal, &plan, &self.ports, &lcores, &mut self.press)
            .map_err(|error| Error::Refused(format!("a rule edits copies, and there is no room for them: {error}")))?;

        // from here on nothing fails
        let plan = Arc::new(plan);
        let rules = namesakes(&self.plan.rules, &plan.rules);
        let before: Vec<Option<usize>> = rules.iter().map(|heir| heir.map(|heir| heir.from)).collect();
        let (cell, log) = self.watch.change(&plan, &before, clock::now_ns());
        let heirs: Vec<Heir> = rules.iter().flatten().filter(|heir| heir.has_dedup || heir.has_sampler).copied().collect();
        let mut counters = Vec::new();
        for ((own, seat), mut maker) in self.counters.iter().zip(&self.seats).zip(makers) {
            let mut next = own.for_rules(plan.rules.len());
            let post = seat.post.clone().map(|mut post| {
                post.flows = plan.flows_of_a_table(work);
                post
            });
            let states = plan.rules.iter().zip(self.watch.limits()).zip(&rules).map(|((rule, limit), heir)| {
                let Some(heir) = heir.filter(|heir| heir.has_dedup || heir.has_sampler) else {
                    return state_of(&plan, rule, limit, post.as_ref(), &self.secret);
                };
                // what goes on need not be made
                let dedup = rule.dedup.clone().filter(|_| !heir.has_dedup);
                let sample = rule.sample.filter(|_| !heir.has_sampler);
                state_of(&plan, &RulePlan { dedup, sample, ..rule.clone() }, limit, post.as_ref(), &self.secret)
            });
            let states: Vec<RuleState> = states.collect();
            for ((tally, state), heir) in next.dedups.iter_mut().zip(&states).zip(&rules) {
                *tally = match heir.filter(|heir| heir.has_dedup) {
                    Some(heir) => own.dedups[heir.from].clone(),
                    None => state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())),
                };
            }
            if let Some(maker) = &mut maker {
                maker.send_to(self.watch.next_hops());
            }
            let next = Arc::new(next);
            seat.exchange.offer(Box::new(PlanPart {
                plan: Arc::clone(&plan),
                states,
                maker,
                live: LiveView::new(Arc::clone(self.watch.cell())),
                counters: Arc::clone(&next),
                rooms: Rooms::new(&plan),
                limits: limits().collect(),
                heirs: if post.is_some() { heirs.clone() } else { Vec::new() },
            }));
            counters.push(next);
        }
        cell.knock();
        let places: Vec<(Option<usize>, bool)> =
            rules.iter().map(|heir| (heir.map(|heir| heir.from), heir.is_some_and(|heir| heir.has_dedup))).collect();
        self.cleared = self.cleared.take().map(|cleared| cleared.of_rules(&places));
        self.past = before.iter().map(|from| from.map(|from| self.past[from]).unwrap_or_default()).collect();
        let counters = std::mem::replace(&mut self.counters, counters);
        self.retiring = Some(Retiring { is_over: vec![false; self.seats.len()], counters, rules });
        self.plan = plan;
        Ok(log)
    }

    /// The first worker that has not yet taken up the last change.
    pub fn exchanging(&self) -> Option<LcoreId> {
        let late = self.retiring.as_ref()?.is_over.iter().position(|is_over| !is_over)?;
        Some(self.seats[late].lcore)
    }

    /// Drops the parts that workers have traded; once all have, what rules counted under the plan before is added up.
    pub(super) fn collect(&mut self) {
        let Some(retiring) = &mut self.retiring else { return };
        for (seat, is_over) in self.seats.iter().zip(&mut retiring.is_over) {
            *is_over |= seat.exchange.collect().is_some();
        }
        if retiring.is_over.iter().all(|&is_over| is_over) {
            for (past, ended) in self.past.iter_mut().zip(retiring.totals(&self.counters)) {
                past.add(&ended);
            }
            self.retiring = None;
        }
    }

    /// What was counted from the start on.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::of(&self.counters);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang;
    use crate::plan::plan;

    fn rules(text: &str) -> Vec<RulePlan> {
        let head = "port attach p net_null0\ntool create t discard\n";
        plan(&mut lang::parse_text("test", &format!("{head}{text}"), &[])).expect("a plan").rules
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
        let kept = |from, to, has_dedup, has_sampler| Some(Heir { from, to, has_dedup, has_sampler });
        let expected = [kept(1, 0, false, true), None, kept(2, 2, true, false), None];
        assert_eq!(namesakes(&before, &after), expected);
    }
}
