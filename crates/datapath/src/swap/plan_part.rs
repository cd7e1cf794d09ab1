//! Swap: hands a worker its part of another plan, and takes back its part of the one before.
//!
//! The control thread prepares a `PlanPart` for each worker and leaves it in the worker's `Swap`; a worker that is told
//! that something changed (`swap::published`) looks there between two turns, trades the parts, and leaves the old one to be dropped
//! by the control thread. No burst is judged by half of a plan, and no worker allocates or frees much.

use std::sync::{Arc, Mutex, PoisonError};

use super::published::LiveView;
use super::setup::{Release, Setup};
use crate::classify::Matches;
use crate::copies::build::Maker;
use crate::counters::WorkerCounters;
use crate::egress::admission::QueueLimits;
use crate::flow::burst_flows::Flows;
use crate::ids::{RuleId, ToolId};
use crate::route::{Copies, RuleState};
use crate::work_plan::WorkPlan;
use tapline_packet::by_id::ById;

/// The part of a worker that belongs to one plan.
pub struct PlanPart {
    pub plan: Arc<WorkPlan>,
    /// The state of each rule.
    pub states: ById<RuleId, RuleState>,
    pub maker: Option<Maker>,
    pub live: LiveView,
    pub counters: Arc<WorkerCounters>,
    pub buffers: StageBuffers,
    /// The limits of queues from this plan on, for tools whose limits change.
    pub limits: Vec<(ToolId, QueueLimits)>,
    /// Rules that go on with what they remember.
    pub carried_over: Vec<CarriedOver>,
    /// A part has a setup if ports, tools, groups or wires come, go or differ.
    pub setup: Option<Box<Setup>>,
    /// worker: when it took up the part, on the monotonic clock.
    pub taken_up_ns: u64,
    /// worker: CPU time from the last burst by the plan before to the first by this one.
    pub paused_ns: u64,
}

/// This is what a worker is offered.
pub enum Offer {
    Plan(Box<PlanPart>),
    Release(Box<Release>),
}

/// The buffers in which stages write for each other, as large as the plan asks for.
pub struct StageBuffers {
    pub matches: Matches,
    pub copies: Copies,
    pub flows: Flows,
}

impl StageBuffers {
    pub fn new(plan: &WorkPlan) -> Self {
        Self {
            matches: Matches::new(plan.inputs.iter().map(|input| &input.classifier)),
            copies: Copies::new(plan),
            flows: Flows::new(&plan.hashes, plan.parse_depth),
        }
    }
}

/// A rule that remembers something, and goes on with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CarriedOver {
    /// Its place in the plan before.
    pub from: RuleId,
    pub to: RuleId,
    pub has_dedup: bool,
    pub has_sampler: bool,
}

impl PlanPart {
    /// worker: takes over what the part before remembers of rules that go on.
    pub fn carry_over(&mut self, states: &mut ById<RuleId, RuleState>, counters: &WorkerCounters) {
        for &CarriedOver { from, to, has_dedup, has_sampler } in &self.carried_over {
            if has_dedup {
                self.states[to].dedup = states[from].dedup.take();
            }
            if has_sampler {
                self.states[to].sampler = states[from].sampler.take();
                self.counters.rules[to].sampler.go_on_from(&counters.rules[from].sampler);
            }
        }
    }
}

/// The mailbox in which the control thread leaves a worker's next part, and finds the last one.
#[derive(Default)]
pub struct Swap {
    next: Mutex<Option<Offer>>,
    last: Mutex<Option<Offer>>,
}

impl Swap {
    /// control: leaves a part, which the worker takes once its [`LiveView`] tells of a change.
    pub fn offer(&self, part: Offer) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(part);
    }

    /// worker: takes the part that is left for it.
    pub fn take(&self) -> Option<Offer> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// worker: leaves the part that it had before.
    pub fn give_back(&self, part: Offer) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(part);
    }

    /// control: the part before, once the worker has traded it.
    pub fn collect(&self) -> Option<Offer> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
