//! The snapshot's entry of a rule: what it matched, whether it takes packets, and the duplicates that it found.

use super::totals::{DedupTotals, RuleTotals};
use crate::plan::Plan;
use crate::plan::value::{DedupPlan, RulePlan};
use tapline_api::snapshot::{DedupEntry, PairEntry, Recent, RuleActivity, RuleEntry};
use tapline_datapath::counters::dedup::DedupCounters;
use tapline_datapath::route::sample::SampleSpec;

/// Shows what is known of `rule`.
pub(super) fn entry(rule: &RulePlan, totals: RuleTotals, activity: RuleActivity) -> RuleEntry {
    RuleEntry {
        matched: totals.matched,
        duplicates: totals.duplicates,
        sampled_out: totals.sampled_out,
        unread: totals.unread,
        sample_share: rule.sample.map(|spec| spec.share().or(totals.varying_share).unwrap_or(1.0)),
        flows: rule.sample.filter(SampleSpec::has_flow_table).map(|_| totals.flows),
        activity,
        recent: Recent::default(),
    }
}

/// Shows what the dedup of one rule of `plan` found.
pub(super) fn dedup_entry(plan: &Plan, dedup: &DedupPlan, totals: &DedupTotals) -> DedupEntry {
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
    DedupEntry { packets, duplicates, forgotten, pairs: pairs.collect() }
}
