//! The memory of rules about the packets that they have seen.

use std::sync::Arc;

use crate::plan::Plan;
use crate::plan::value::{DedupPlan, RulePlan};
use tapline_datapath::flow::table::Secret;
use tapline_datapath::route::RuleState;
use tapline_datapath::route::dedup::Dedup;
use tapline_datapath::route::limit::Limit;
use tapline_datapath::route::sample::{Sampler, WorkerShare};

/// Makes the state that a rule begins with on a worker, which has a `share` if it judges packets.
pub(in crate::broker) fn state_of(
    plan: &Plan,
    rule: &RulePlan,
    limit: &Option<Arc<Limit>>,
    share: Option<&WorkerShare>,
    secret: &Secret,
) -> RuleState {
    let Some(share) = share else { return RuleState::default() };
    let dedup = |dedup: &DedupPlan| {
        let clocks: Vec<u8> = dedup.scope.iter().map(|&port| plan.ports[port].time_base() as u8).collect();
        Dedup::new(dedup.spec(share.workers.get() as usize), secret).with_clocks(&clocks)
    };
    RuleState {
        dedup: rule.dedup.as_ref().map(dedup),
        sampler: rule.sample.as_ref().map(|spec| Sampler::new(spec, share)),
        limit: limit.clone(),
    }
}
