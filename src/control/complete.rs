//! This is what may stand at the end of a line: the words of the language, and the names that exist.

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use tapline_api::words::NameKind;
use tapline_lang::{Names, Parsed};

/// Texts that may stand at the end of a line.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Completion {
    /// The place in bytes from which on they stand.
    pub start: usize,
    /// In alphabetical order; each begins with what the line has there.
    pub candidates: Vec<String>,
}

/// Completes `line`, which comes after the commands of `parsed`, whose plan is `plan`.
pub fn complete(line: &str, parsed: &Parsed, plan: &Plan) -> Completion {
    let wanted = tapline_lang::completions(line, &parsed.variables);
    let written = line.get(wanted.start..).unwrap_or_default();
    // the items of a list that are given are not given again
    let before = line.get(..wanted.start).unwrap_or_default();
    let list = before.strip_suffix(',').and_then(|before| before.split_whitespace().next_back());
    let is_given = |name: &String| list.is_some_and(|list| list.split(',').any(|item| item == name));
    let names = wanted.names.into_iter().flat_map(|kind| names(kind, plan)).filter(|name| !is_given(name));
    let mut candidates: Vec<String> = wanted.words.into_iter().map(str::to_owned).collect();
    candidates.extend(names.filter(|name| name.starts_with(written)));
    candidates.sort_unstable();
    candidates.dedup();
    Completion { start: wanted.start, candidates }
}

/// Lists the names of a plan.
fn names(kind: Names, plan: &Plan) -> Vec<String> {
    let wires = plan.wires.iter().map(|wire| wire.name.as_str());
    match kind {
        Names::Of(NameKind::Port) => plan.ports.iter().map(|port| port.name.clone()).collect(),
        Names::Of(NameKind::Tool) => plan.tools.iter().map(|tool| tool.name.clone()).collect(),
        Names::Of(NameKind::Group) => plan.groups.iter().map(|group| group.name.clone()).collect(),
        Names::Of(NameKind::Wire) => wires.map(str::to_owned).collect(),
        Names::Of(NameKind::Filter) => plan.filters.iter().map(|filter| filter.name.clone()).collect(),
        Names::Of(NameKind::Rule) => plan.rules.iter().map(|rule| rule.priority.to_string()).collect(),
        Names::Directions => {
            wires.flat_map(|name| ["a-to-b", "b-to-a"].map(|way| format!("{name}:{way}"))).collect()
        }
    }
}
