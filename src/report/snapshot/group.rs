//! What is shown of a group: its members' buckets and its copies.

use serde::Serialize;

use super::as_map;
use super::totals::GroupTotals;
use crate::plan::Plan;
use crate::report::ledger::Copies;
use tapline_datapath::work_plan::GroupWork;

/// Who has a group's buckets.
#[derive(Clone)]
pub struct GroupHealth {
    /// By member.
    pub buckets: Vec<usize>,
    /// Since the start.
    pub buckets_moved: u64,
    /// Buckets that wait to be idle before they go where they belong.
    pub buckets_pending: usize,
    /// Flows of the last half minute to minute, about.
    pub flows: u64,
    /// Flows whose bucket moved, since the start, about.
    pub flows_moved: u64,
}

#[derive(Clone, Serialize)]
pub struct GroupEntry {
    /// Buckets of the group's table that each member has.
    #[serde(serialize_with = "as_map")]
    pub buckets: Vec<(String, usize)>,
    pub buckets_moved: u64,
    pub buckets_pending: usize,
    pub flows: u64,
    pub flows_moved: u64,
    /// Copies that rules asked of the group, and of those the ones that a member is to get.
    pub requested: u64,
    pub assigned: u64,
    /// Copies that no member got; those of the discard share count as sent.
    pub unassigned: Copies,
}

impl GroupEntry {
    /// Shows what is counted and known of `group`.
    pub(super) fn new(plan: &Plan, group: &GroupWork, health: GroupHealth, totals: &GroupTotals) -> Self {
        let names = group.members.iter().map(|&tool| plan.tools[tool].name.clone());
        Self {
            buckets: names.zip(health.buckets).collect(),
            buckets_moved: health.buckets_moved,
            buckets_pending: health.buckets_pending,
            flows: health.flows,
            flows_moved: health.flows_moved,
            requested: totals.requested,
            assigned: totals.assigned,
            unassigned: totals.unassigned(),
        }
    }
}
