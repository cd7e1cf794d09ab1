//! Commands -> fewer commands that say the same: what later commands undid is forgotten.
//!
//! A prompt that changes rules for months would else remember every rule that it ever had.

use std::collections::HashMap;

use super::resolve::definitions::is_same_clause;
use tapline_lang::Parsed;
use tapline_lang::ast::Command;

/// Leaves of the rules and filters those that are there, as they are. What was parsed makes a plan without errors, and the same one
/// afterwards.
pub fn compact(parsed: &mut Parsed) {
    let mut kept = Vec::with_capacity(parsed.file.commands.len());
    let (mut rules, mut off, mut filters) = (HashMap::new(), HashMap::new(), HashMap::new());
    for mut command in std::mem::take(&mut parsed.file.commands) {
        match &mut command.value {
            Command::RuleCreate { priority, .. } => {
                rules.insert(priority.value, kept.len());
            }
            Command::RuleModify { priority, clauses } => {
                if let Some(Some(Command::RuleCreate { clauses: all, .. })) =
                    rules.get(&priority.value).map(|&at: &usize| value_at(&mut kept, at))
                {
                    all.retain(|old| !clauses.iter().any(|new| is_same_clause(&old.value, &new.value)));
                    all.append(clauses);
                }
                continue;
            }
            Command::RuleEnable(priority) => {
                forget(&mut kept, off.remove(&priority.value));
                continue;
            }
            Command::RuleDisable(priority) => {
                let place = kept.len();
                forget(&mut kept, off.insert(priority.value, place));
            }
            Command::RuleDestroy(priority) => {
                forget(&mut kept, rules.remove(&priority.value));
                forget(&mut kept, off.remove(&priority.value));
                continue;
            }
            Command::RuleDestroyAll => {
                rules.drain().chain(off.drain()).for_each(|(_, at)| forget(&mut kept, Some(at)));
                continue;
            }
            Command::FilterCreate { name, .. } => {
                filters.insert(name.value.clone(), kept.len());
            }
            Command::FilterModify { name, filter } => {
                if let Some(Some(Command::FilterCreate { filter: known, .. })) =
                    filters.get(&name.value).map(|&at: &usize| value_at(&mut kept, at))
                {
                    *known = filter.clone();
                }
                continue;
            }
            Command::FilterDestroy(name) => {
                forget(&mut kept, filters.remove(&name.value));
                continue;
            }
            _ => {}
        }
        kept.push(Some(command));
    }
    parsed.file.commands = kept.into_iter().flatten().collect();
    let clauses = |command: &Command| match command {
        Command::RuleCreate { clauses, .. } => clauses.iter().map(|clause| clause.span.source).collect(),
        Command::FilterCreate { filter, .. } => vec![filter.source.span.source],
        _ => Vec::new(),
    };
    let used = parsed
        .file
        .commands
        .iter()
        .flat_map(|command| clauses(&command.value).into_iter().chain([command.span.source]));
    parsed.sources.forget_all_but(used);
}

type Kept = Vec<Option<tapline_lang::source::Spanned<Command>>>;

fn value_at(kept: &mut Kept, at: usize) -> Option<&mut Command> {
    kept[at].as_mut().map(|command| &mut command.value)
}

fn forget(kept: &mut Kept, at: Option<usize>) {
    if let Some(at) = at {
        kept[at] = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Surroundings, plan};
    use tapline_lang as lang;
    use tapline_lang::files::NoFiles;

    const HEAD: &str =
        "port attach p net_null0\ntool create a discard\ntool create b discard\nfilter create f0 \"udp\"\n";

    /// Any command on one of three rules and three filters; most sequences have some that fit.
    fn line() -> impl Strategy<Value = String> {
        (0..30, 0..3, 0..3, prop::sample::select(vec!["a", "b", "a,b"])).prop_map(
            |(kind, rule, filter, tools)| match kind % 10 {
                0 => format!("rule create {rule} from p match f{filter} to {tools}"),
                1 => format!("rule create {rule} from p slice 64 to {tools}"),
                2 => format!("rule modify {rule} match \"tcp port {filter}\" to {tools}"),
                3 => format!("rule modify {rule} slice {} to {tools}", 64 + filter),
                4 => format!("rule destroy {rule}"),
                5 => format!("rule disable {rule}"),
                6 => format!("rule enable {rule}"),
                7 => format!("filter create f{filter} \"udp port {rule}\""),
                9 if kind == 9 => "rule destroy all".to_owned(),
                _ => format!("filter modify f{filter} \"tcp dst port {rule}\""),
            },
        )
    }

    proptest! {
        /// Lines are taken as at the prompt: each is tried, and those that fit stay.
        #[test]
        fn what_is_forgotten_makes_no_difference(lines in prop::collection::vec(line(), 1..30)) {
            let mut whole = lang::parse_text("test", HEAD, &[]);
            let mut compacted = whole.clone();
            for line in lines {
                let tried = |accepted: &Parsed| {
                    let typed = lang::parse_onto(accepted, line.as_bytes(), &NoFiles);
                    let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
                    parsed.file.commands.extend(typed.file.commands);
                    let plan = plan(&mut parsed, &Surroundings::fixed());
                    parsed.diagnostics = lang::diagnostic::Diagnostics::default();
                    (parsed, plan.map(|plan| format!("{:?} {:?}", plan.rules, plan.work.edits)))
                };
                let ((long, expected), (mut short, found)) = (tried(&whole), tried(&compacted));
                prop_assert_eq!(&found, &expected, "{}", line);
                if found.is_some() {
                    compact(&mut short);
                    prop_assert!(short.file.commands.len() <= 4 + 3 * 2 + 3, "{:?}", short.file.commands);
                    (whole, compacted) = (long, short);
                }
            }
        }
    }
}
