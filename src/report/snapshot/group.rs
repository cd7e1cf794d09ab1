//! The snapshot's entry of a group: its members' buckets and its copies.

use super::totals::GroupTotals;
use crate::plan::Plan;
use tapline_api::snapshot::{GroupEntry, Recent};
use tapline_datapath::work_plan::GroupWork;

/// Who has a group's buckets.
#[derive(Clone)]
pub struct GroupHealth {
    /// The number of buckets of each member.
    pub buckets: Vec<usize>,
    /// Buckets that moved since the start.
    pub buckets_moved: u64,
    /// Buckets that wait to be idle before they go where they belong.
    pub buckets_pending: usize,
    /// Flows of the last half minute to minute, about.
    pub flows: u64,
    /// Flows whose bucket moved, since the start, about.
    pub flows_moved: u64,
}

/// Shows what is counted and known of `group`.
pub(super) fn entry(
    plan: &Plan,
    group: &GroupWork,
    health: GroupHealth,
    totals: &GroupTotals,
) -> GroupEntry {
    let names = group.members.iter().map(|&tool| plan.tools[tool].name.clone());
    GroupEntry {
        buckets: names.zip(health.buckets).collect(),
        buckets_moved: health.buckets_moved,
        buckets_pending: health.buckets_pending,
        flows: health.flows,
        flows_moved: health.flows_moved,
        requested: totals.requested,
        assigned: totals.assigned,
        unassigned: totals.unassigned(),
        recent: Recent::default(),
    }
}
