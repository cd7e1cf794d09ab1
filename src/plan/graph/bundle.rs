//! Rules that share a box: a picture of hundreds of rules is read by where their copies go.

use std::collections::HashMap;

use super::super::value::Plan;
use tapline_datapath::ids::{EditId, GroupId, PortId, RuleId};
use tapline_datapath::work_plan::{Target, Verdict};

/// Rules that share a box, ascending by priority: one, or those that have the same targets and edits.
pub(super) struct Bundle {
    pub rules: Vec<RuleId>,
    pub targets: Vec<Target>,
    /// The ports from which some of them take, ascending.
    pub sources: Vec<PortId>,
}

impl Bundle {
    /// Returns whether its copies go to a group.
    pub(super) fn feeds(&self, group: GroupId) -> bool {
        self.targets.contains(&Target::Group(group))
    }
}

/// Gives a number to each target.
fn number(target: Target) -> (bool, usize) {
    match target {
        Target::Tool(tool) => (false, tool.0),
        Target::Group(group) => (true, group.0),
    }
}

/// Gives each rule a box of its own, or if there are more than `most` rules, the same box to those that are alike.
pub(super) fn bundles(plan: &Plan, most: usize) -> Vec<Bundle> {
    let is_bundled = plan.rules.len() > most;
    let mut bundles: Vec<Bundle> = Vec::new();
    let mut known = HashMap::new();
    let mut alike = Alike { plan, classes: Vec::new() };
    for (id, rule) in plan.rules.entries() {
        let mut targets = rule.targets.clone();
        targets.sort_unstable_by_key(|&target| number(target));
        targets.dedup();
        let key: Vec<(bool, usize)> = targets.iter().map(|&target| number(target)).collect();
        let edits = if targets.is_empty() { [None; 2] } else { [rule.edits, rule.duplicate_edits] };
        let key = (key, rule.verdict == Verdict::Drop, edits.map(|edits| alike.class(edits)));
        let place = match known.get(&key) {
            Some(&place) if is_bundled => place,
            _ => {
                known.insert(key, bundles.len());
                bundles.push(Bundle { rules: Vec::new(), targets, sources: Vec::new() });
                bundles.len() - 1
            }
        };
        bundles[place].rules.push(id);
        bundles[place].sources.extend(&rule.sources);
    }
    for bundle in &mut bundles {
        bundle.sources.sort_unstable();
        bundle.sources.dedup();
    }
    bundles
}

/// Tells edits that are alike.
struct Alike<'a> {
    plan: &'a Plan,
    /// One of each kind.
    classes: Vec<EditId>,
}

impl Alike<'_> {
    fn class(&mut self, edits: Option<EditId>) -> Option<usize> {
        let edits = edits?;
        let all = &self.plan.work.edits;
        let known = self.classes.iter().position(|&other| all[other] == all[edits]);
        Some(known.unwrap_or_else(|| {
            self.classes.push(edits);
            self.classes.len() - 1
        }))
    }
}
