//! What is shown of a rule: what it matched, whether it takes packets, and the duplicates that it found.

use serde::Serialize;

use super::totals::{DedupTotals, RuleTotals};
use crate::plan::Plan;
use crate::plan::value::{DedupPlan, RulePlan};
use tapline_datapath::counters::dedup::{DedupCounters, GAP_BUCKETS};
use tapline_datapath::flow::table::FlowCounters;

#[derive(Clone, Serialize)]
pub struct RuleEntry {
    #[serde(flatten)]
    pub totals: RuleTotals,
    /// What exporters divide counts by: the share that the rule's sampler keeps at the moment, above 0 to 1; null where it has
    /// none.
    pub sample_share: Option<f64>,
    /// The sampler's memory of flows, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowCounters>,
    #[serde(flatten)]
    pub activity: RuleActivity,
}

impl RuleEntry {
    /// Shows what is known of `rule`.
    pub(super) fn new(rule: &RulePlan, totals: RuleTotals, activity: RuleActivity) -> Self {
        let sample_share = rule.sample.map(|spec| spec.share().or(totals.varying_share).unwrap_or(1.0));
        let flows = rule
            .sample
            .filter(tapline_datapath::route::sample::SampleSpec::has_flow_table)
            .map(|_| totals.flows);
        Self { totals, sample_share, flows, activity }
    }
}

/// Whether a rule takes packets.
#[derive(Clone, Copy, Serialize)]
pub struct RuleActivity {
    pub on: bool,
    /// When its schedule turns it on or off next, in seconds since the Unix epoch; null if never.
    pub next_change: Option<f64>,
    /// Packets that its `limit` still allows.
    pub limit_remaining: Option<u64>,
}

/// What a rule's dedup found.
#[derive(Clone, Serialize)]
pub struct DedupEntry {
    /// Packets that were compared.
    pub packets: u64,
    pub duplicates: u64,
    /// Packets forgotten within the window for want of room; their duplicates passed.
    pub forgotten: u64,
    /// Pairs of ports that had duplicates.
    pub pairs: Vec<PairEntry>,
}

/// Duplicates of packets of one port that came by another, or the same.
#[derive(Clone, Serialize)]
pub struct PairEntry {
    pub first: String,
    pub duplicate: String,
    pub duplicates: u64,
    pub most_gap_ns: u64,
    /// Gaps below 1 µs, below 2 µs, below 4 µs and so on, the last one all above.
    pub gaps: [u64; GAP_BUCKETS],
}

impl DedupEntry {
    /// Shows what the dedup of one rule of `plan` found.
    pub(super) fn new(plan: &Plan, dedup: &DedupPlan, totals: &DedupTotals) -> Self {
        let name = |place: usize| plan.ports[dedup.scope[place]].name.clone();
        let ports = dedup.scope.len();
        let pairs = totals.pairs.iter().enumerate().filter(|(_, pair)| pair.duplicates > 0);
        let pairs = pairs.map(|(place, pair)| PairEntry {
            first: name(place / ports),
            duplicate: name(place % ports),
            duplicates: pair.duplicates,
            most_gap_ns: pair.most_gap_ns,
            gaps: pair.gaps,
        });
        let DedupCounters { packets, duplicates, forgotten } = totals.counters;
        Self { packets, duplicates, forgotten, pairs: pairs.collect() }
    }
}
