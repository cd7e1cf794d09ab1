//! Commands -> fewer commands that say the same: what later commands undid is forgotten.
//!
//! A prompt that changes rules for months would else remember every rule that it ever had.

use std::collections::HashMap;

use super::resolve::is_same_clause;
use crate::lang::Parsed;
use crate::lang::ast::Command;

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
    let used = parsed.file.commands.iter().flat_map(|command| clauses(&command.value).into_iter().chain([command.span.source]));
    parsed.sources.forget_all_but(used);
}

type Kept = Vec<Option<crate::lang::source::Spanned<Command>>>;

fn value_at(kept: &mut Kept, at: usize) -> Option<&mut Command> {
    kept[at].as_mut().map(|command| &mut command.value)
}

fn forget(kept: &mut Kept, at: Option<usize>) {
    if let Some(at) = at {
        kept[at] = None;
    }
}
