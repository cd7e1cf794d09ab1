//! Change: another plan takes the place of the running one, whose ports, tools, groups and wires it shares.
//!
//! The parts of all workers are made ready first; what is refused has changed nothing by then. Each worker trades its part between
//! two of its bursts ([`tapline_datapath::swap::plan_part`]), and the parts before are dropped here.

use std::sync::Arc;

use super::device::Device;
use super::kept::{Anew, Kept};
use super::prepare::Prepared;
use super::retire::Retirement;
use super::start::rules::state_of;
use super::{Broker, Error};
use crate::plan::Plan;
use crate::plan::diff::{self, Subject, diff};
use crate::plan::value::RulePlan;
use tapline_api::event::Event;
use tapline_datapath::copies::build::Maker;
use tapline_datapath::counters::{Origins, WorkerCounters};
use tapline_datapath::egress::admission::QueueLimits;
use tapline_datapath::ids::ToolId;
use tapline_datapath::route::RuleState;
use tapline_datapath::route::sample::WorkerShare;
use tapline_datapath::swap::plan_part::{CarriedOver, PlanPart, StageBuffers};
use tapline_datapath::swap::published::LiveView;
use tapline_datapath::swap::setup::Setup;
use tapline_dpdk::{LcoreId, clock};

/// Gives the limits of those queues that stay, and whose thresholds are others than before.
fn changed_limits(plan: &Plan, before: &Plan, kept: &Kept) -> Vec<(ToolId, QueueLimits)> {
    let changed = plan.tools.entries().filter(|(id, tool)| {
        kept.outlets[id.egress()].is_some()
            && kept.tools[*id].is_some_and(|from| before.tools[from].thresholds != tool.thresholds)
    });
    changed.map(|(id, tool)| (id, tool.egress().limits())).collect()
}

impl Broker {
    /// Gives the workers `plan` in place of the running one. Each goes on with it from a burst of its own; [`swapping`] says
    /// whether all do, and [`is_retiring`] whether something of the plan before is left.
    ///
    /// [`swapping`]: Self::swapping
    /// [`is_retiring`]: Self::is_retiring
    ///
    /// # Errors
    /// If the plan needs what cannot be set up beside the running one, or the change before is not over; the running plan goes on
    /// then, and nothing is left of what was set up.
    pub fn change(&mut self, plan: Arc<Plan>) -> Result<(), Error> {
        let opening = self.opening(&plan, &[]);
        self.change_ports(plan, Anew { opening, ..Anew::default() })
    }

    /// As [`change`](Self::change), where `ports` were closed for it.
    ///
    /// # Errors
    /// As of [`change`](Self::change).
    pub fn open_ports(&mut self, plan: Arc<Plan>, ports: &[String]) -> Result<(), Error> {
        let opening = self.opening(&plan, ports);
        self.change_ports(plan, Anew { opening, ..Anew::default() })
    }

    /// Closes the devices of ports, which are to be set up again as `plan` has them; the plan stays.
    ///
    /// # Errors
    /// If the plan cannot be taken up, as far as that is seen beforehand, or the change before is not over; all goes on as before then.
    pub fn close_ports(&mut self, plan: &Arc<Plan>, ports: &[String]) -> Result<(), Error> {
        self.check_interruption(plan, ports)?;
        self.change_ports(Arc::clone(&self.plan), Anew { closing: ports.to_vec(), ..Anew::default() })
    }

    /// Puts ports that were closed back as the plan has them.
    ///
    /// # Errors
    /// If they cannot be set up; they stay closed, which is recorded.
    pub fn put_back(&mut self, ports: &[String]) -> Result<(), Error> {
        let put_back = self.open_ports(Arc::clone(&self.plan), ports);
        if let Err(error) = &put_back {
            let error = error.to_string();
            self.leave_closed(ports, &error);
            for port in ports {
                self.record(Event::PortClosed { port: port.clone(), error: error.clone() });
            }
        }
        put_back
    }

    /// Has ports that are being closed put back once that is over.
    pub fn put_back_later(&mut self, ports: Vec<String>) {
        self.guards.put_back_later.extend(ports);
    }

    /// Puts ports back for which it is time.
    pub(super) fn put_back_due(&mut self) {
        if self.guards.put_back_later.is_empty() || self.is_retiring() {
            return;
        }
        let late = std::mem::take(&mut self.guards.put_back_later);
        // a change may have set some up by now
        let closed: Vec<String> = self.closed_ports().map(str::to_owned).collect();
        let ports: Vec<String> = late.into_iter().filter(|port| closed.contains(port)).collect();
        if !ports.is_empty() {
            // a failure is recorded
            let _ = self.put_back(&ports);
        }
    }

    /// Says why ports that were closed are not set up again.
    pub(super) fn leave_closed(&mut self, ports: &[String], why: &str) {
        for device in &mut self.machine.ports {
            if let Device::Closed { name, why: known, .. } = device
                && ports.contains(name)
            {
                *known = why.to_owned();
            }
        }
    }

    /// The names of ports that have no device.
    pub fn closed_ports(&self) -> impl Iterator<Item = &str> {
        self.machine.ports.iter().filter(|device| device.closed().is_some()).map(Device::name)
    }

    /// Returns the ports of both plans that get a device: `closed`, those whose device is another one, and those without one that are
    /// tried again.
    pub(super) fn opening(&self, plan: &Plan, closed: &[String]) -> Vec<String> {
        let is_there = |name: &&String| plan.ports.iter().any(|port| port.name == **name);
        let mut opening: Vec<String> = closed.iter().filter(is_there).cloned().collect();
        for name in self.reopened(plan).into_iter().chain(diff::ports_beside(&self.plan, plan)) {
            if !opening.contains(&name) {
                opening.push(name);
            }
        }
        opening
    }

    /// The ports without a device that a plan has otherwise than the one before: it is tried again to set them up.
    fn reopened(&self, plan: &Plan) -> Vec<String> {
        let changes = diff(&self.plan, plan);
        let is_other = |name: &&str| {
            changes.iter().any(|change| {
                change.kind != diff::Kind::Removed && change.subject == Subject::Port((*name).to_owned())
            })
        };
        self.closed_ports().filter(is_other).map(str::to_owned).collect()
    }

    /// Gives the workers `plan`; ports that are `anew` lose their devices, or get them.
    fn change_ports(&mut self, plan: Arc<Plan>, anew: Anew) -> Result<(), Error> {
        if let Some(lcore) = self.swapping() {
            return Err(Error::NotChanged(format!(
                "lcore {} has not taken up the change before; try again",
                lcore.0
            )));
        }
        if self.is_retiring() {
            return Err(Error::NotChanged(
                "what the change before took away is not gone yet; try again".to_owned(),
            ));
        }
        let prepared = self.prepare(&plan, &anew)?;
        // from here on nothing fails
        self.swap(plan, prepared);
        Ok(())
    }

    /// Puts a plan into force that everything is there for.
    fn swap(&mut self, plan: Arc<Plan>, prepared: Prepared) {
        let Prepared { kept, fixed, copy_resources, makers, machinery } = prepared;
        (self.fixed, self.copy_resources) = (fixed, copy_resources);
        let links_and_fits = match &machinery {
            Some(machinery) => machinery.links_and_fits(&plan, &self.watch, &kept),
            None => self.watch.links_and_fits(),
        };
        let turned = self.watch.change(&plan, &kept, links_and_fits, &mut self.events.at(clock::now_ns()));
        let (setups, mut retirement) = match machinery {
            Some(machinery) => self.change_machinery(&plan, &kept, machinery, turned.noted),
            None => {
                let is_same = kept.keeps_groups()
                    && turned.noted.is_empty()
                    && plan.settings.burst == self.plan.settings.burst;
                (self.setups_for_groups(&plan, &kept, turned.noted, is_same), Retirement::default())
            }
        };
        for note in std::mem::take(&mut retirement.notes) {
            self.record(note);
        }
        let (parts, counters) = self.parts(&plan, &kept, makers, setups);
        let writers = retirement.writers.take();
        self.account.go_on(&kept, counters, writers);
        self.moments.look(&self.account);
        self.moments.go_on(&kept);
        self.guards.go_on(&kept);
        self.machine.clocks.follow(plan.settings.clock);
        if let Some(untied) = retirement.untied.take() {
            let come = untied.entries().filter(|(id, _)| kept.wires[*id].is_none());
            come.for_each(|(id, &is_untied)| self.guards.untied[id] = is_untied);
        }
        self.plan = plan;
        self.begin_retirement(retirement, parts, turned.moved, &turned.cell);
        turned.cell.wake();
    }

    /// The number of workers that judge packets.
    pub(super) fn working(&self) -> usize {
        self.workers.handles.iter().filter(|handle| handle.share.is_some()).count()
    }

    /// Makes each worker's part of a plan, and the counters that the workers will have.
    #[expect(clippy::vec_box, reason = "workers are handed pointers to their parts")]
    fn parts(
        &self,
        plan: &Arc<Plan>,
        kept: &Kept,
        makers: Vec<Option<Maker>>,
        setups: Vec<Option<Box<Setup>>>,
    ) -> (Vec<Box<PlanPart>>, Vec<Arc<WorkerCounters>>) {
        let limits = changed_limits(plan, &self.plan, kept);
        let flows = plan.flows_of_a_table(self.working());
        let carried_over: Vec<CarriedOver> = kept
            .rules
            .iter()
            .flatten()
            .filter(|carried| carried.has_dedup || carried.has_sampler)
            .copied()
            .collect();
        let mut origins = kept.origins();
        kept.leaving().into_iter().for_each(|id| origins.egresses.push(Some(id)));
        let (mut parts, mut counters) = (Vec::new(), Vec::new());
        let workers = self.account.counters.iter().zip(&self.workers.handles);
        for (((own, handle), mut maker), setup) in workers.zip(makers).zip(setups) {
            let share = handle.share.clone().map(|share| WorkerShare {
                flows,
                timeouts: plan.settings.timeouts,
                random_seed: plan.settings.seed,
                ..share
            });
            let states = self.states_of(plan, &kept.rules, share.as_ref());
            let next = Arc::new(counters_after(own, &states, &kept.rules, &origins));
            if let Some(maker) = &mut maker {
                maker.send_to(self.watch.next_hops());
            }
            parts.push(Box::new(PlanPart {
                plan: Arc::clone(&plan.work),
                states: states.into(),
                maker,
                live: LiveView::new(Arc::clone(self.watch.cell())),
                counters: Arc::clone(&next),
                buffers: StageBuffers::new(&plan.work),
                limits: limits.clone(),
                carried_over: if share.is_some() { carried_over.clone() } else { Vec::new() },
                setup,
                taken_up_ns: 0,
                paused_ns: 0,
            }));
            counters.push(next);
        }
        (parts, counters)
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
    origins: &Origins,
) -> WorkerCounters {
    let mut next = own.after(rules.len(), origins);
    for ((tally, state), carried) in next.dedups.iter_mut().zip(states).zip(rules) {
        *tally = match carried.filter(|carried| carried.has_dedup) {
            Some(carried) => own.dedups[carried.from].clone(),
            None => state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())),
        };
    }
    next
}
