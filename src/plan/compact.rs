//! Commands -> fewer commands that say the same: what later commands undid is forgotten.
//!
//! A prompt that changes rules for months would else remember every rule that it ever had.

use std::collections::HashMap;

use super::resolve::definitions::is_same_clause;
use tapline_api::words::Anchor;
use tapline_lang::Parsed;
use tapline_lang::ast::Command;
use tapline_lang::ast::edit::Edit;
use tapline_lang::ast::port::PortOption;
use tapline_lang::ast::rule::RuleClause;
use tapline_lang::source::Spanned;

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
                    forget_edits(all);
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
            // it was said for one change
            Command::PortConfig { options, .. } => {
                options.retain(|option| option.value != PortOption::Interrupt);
            }
            Command::AccessRevoke(grantee) => {
                let is_granted = |command: &Spanned<Command>| match &command.value {
                    Command::AccessGrant(grant) => {
                        grant.to.kind == grantee.kind && grant.to.name.value == grantee.name.value
                    }
                    _ => false,
                };
                // one by another name of the same user stays, with what takes it back
                if let Some(place) = kept.iter().rposition(|known| known.as_ref().is_some_and(is_granted)) {
                    forget(&mut kept, Some(place));
                    continue;
                }
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

/// Forgets the edits of a rule that later ones make needless. `rule modify` adds its edits to those that are there; most can be done once,
/// and the last one counts.
fn forget_edits(clauses: &mut Vec<Spanned<RuleClause>>) {
    for mut clause in std::mem::take(clauses) {
        if let RuleClause::Edit(new) = &mut clause.value {
            clauses.retain(|old| !matches!(&old.value, RuleClause::Edit(old) if takes_over(new, old)));
        }
        clauses.push(clause);
    }
}

/// Returns whether an edit does all that `old`, an earlier one of its rule, is still there for. A `strip` takes up the layers of the other.
fn takes_over(new: &mut Edit, old: &Edit) -> bool {
    if let (Edit::Strip(layers), Edit::Strip(old)) = (&mut *new, old) {
        *layers = layers.union(*old);
    }
    match (&*new, old) {
        (
            Edit::Mask { offset, length, byte, after },
            Edit::Mask { offset: old_offset, length: old_length, byte: old_byte, after: old_after },
        ) => {
            let anchor = |after: &Option<Spanned<Anchor>>| after.as_ref().map(|after| after.value);
            (offset, length, byte, anchor(after)) == (old_offset, old_length, old_byte, anchor(old_after))
        }
        (Edit::Mask { .. }, _) => false,
        (
            Edit::Strip(_)
            | Edit::TagVlan { .. }
            | Edit::RewriteDstMac(_)
            | Edit::RewriteSrcMac(_)
            | Edit::RewriteVlan(_)
            | Edit::Slice { .. }
            | Edit::AnonymizeIp { .. }
            | Edit::PayloadDrop,
            old,
        ) => std::mem::discriminant(&*new) == std::mem::discriminant(old),
    }
}

type Kept = Vec<Option<Spanned<Command>>>;

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

    const EDITS: [&str; 9] = [
        "strip vlan",
        "strip mpls,gre",
        "mask 0 6",
        "mask 2 6 byte 0xff",
        "mask 0 6 after l3",
        "tag vlan 7",
        "rewrite vlan 5",
        "anonymize ip keep 16/48",
        "anonymize ip inner payload drop",
    ];

    /// Any command on one of three rules and three filters; most sequences have some that fit.
    fn line() -> impl Strategy<Value = String> {
        (0..30, 0..3usize, 0..3usize, prop::sample::select(vec!["a", "b", "a,b"])).prop_map(
            |(kind, rule, filter, tools)| match kind % 10 {
                0 => format!("rule create {rule} from p match f{filter} to {tools}"),
                1 => format!("rule create {rule} from p slice 64 to {tools}"),
                2 => format!("rule modify {rule} match \"tcp port {filter}\" to {tools}"),
                3 if kind == 3 => format!("rule modify {rule} slice {} to {tools}", 64 + filter),
                3 => format!("rule modify {rule} {}", EDITS[rule + 3 * filter]),
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
                let planned = |mut parsed: Parsed| {
                    let plan = plan(&mut parsed, &Surroundings::fixed());
                    parsed.diagnostics = lang::diagnostic::Diagnostics::default();
                    (parsed, plan.map(|plan| format!("{:?} {:?}", plan.rules, plan.work.edits)))
                };
                let tried = |accepted: &Parsed| {
                    let typed = lang::parse_onto(accepted, line.as_bytes(), &NoFiles);
                    let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
                    parsed.file.commands.extend(typed.file.commands);
                    planned(parsed)
                };
                let ((long, expected), (mut short, found)) = (tried(&whole), tried(&compacted));
                prop_assert_eq!(&found, &expected, "{}", line);
                if found.is_some() {
                    compact(&mut short);
                    prop_assert!(short.file.commands.len() <= 4 + 3 * 2 + 3, "{:?}", short.file.commands);
                    let printed = lang::text(&short.file);
                    prop_assert!(printed.len() < HEAD.len() + 3 * 400, "{}", printed);
                    let (_, found) = planned(lang::parse_text("printed", &printed, &[]));
                    prop_assert_eq!(&found, &expected, "{}", printed);
                    (whole, compacted) = (long, short);
                }
            }
        }
    }
}
