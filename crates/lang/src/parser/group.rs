//! `group create|modify|destroy`.

use super::super::ast::Command;
use super::super::ast::group::{GroupOption, Hash, HashLayers, Return};
use super::super::diagnostic::Diagnostic;
use super::super::source::Spanned;
use super::super::value::{duration, number, percent};
use super::line::{Clause, Line, Read, Verb, named, once, verb};
use tapline_api::words::{HashKind, NameKind, Role};

pub(super) const VERBS: &[(&str, Verb)] = &[
    (
        "create",
        verb(Role::Admin, "NAME tools LIST [KEYS]", "makes a group of tools that share a stream", |line| {
            line.stop_at(OPTIONS);
            let name = line.new_name(NameKind::Group);
            let options = line.clauses(OPTIONS);
            if !options.iter().any(|option| matches!(option.value, GroupOption::Tools(_))) {
                line.lacks("the group", "tools", "`tools LIST`");
            }
            check_weights(line, &options);
            Ok(Command::GroupCreate { name: name?, options })
        }),
    ),
    (
        "modify",
        verb(Role::Admin, "NAME KEYS", "changes what is said of a group", |line| {
            let name = line.name_before(NameKind::Group, OPTIONS);
            let options = line.clauses(OPTIONS);
            check_weights(line, &options);
            Ok(Command::GroupModify { name: name?, options })
        }),
    ),
    (
        "destroy",
        verb(Role::Admin, "NAME", "removes a group", |line| {
            Ok(Command::GroupDestroy(line.name_before(NameKind::Group, OPTIONS)?))
        }),
    ),
];

pub(super) const OPTIONS: &[Clause<GroupOption>] = &[
    once("tools", |line| Ok(GroupOption::Tools(line.names("tools", &[NameKind::Tool])?))),
    once("weights", |line| Ok(GroupOption::Weights(line.numbers("weights", number(1..=1000))?))),
    once("hash", |line| Ok(GroupOption::Hash(hash(line)?))),
    once("standby", |line| Ok(GroupOption::Standby(line.names("standby", &[NameKind::Tool])?))),
    once("min-up", |line| {
        let count = line.value("min-up", number(1..=1000))?.value;
        let below = line.optional("below", |line| line.word_of("below"))?;
        Ok(GroupOption::MinUp { count, below })
    }),
    once("return", |line| {
        Ok(GroupOption::Return(match line.choice("return", &[("now", true), ("idle", false)])?.value {
            true => Return::Now,
            false => Return::Idle(line.value("return idle", duration)?.value),
        }))
    }),
    once("discard", |line| Ok(GroupOption::Discard { percent: line.value("discard", percent)?.value })),
];

/// `KIND [inner|outer]`, behind `hash`.
pub(super) fn hash(line: &mut Line<'_>) -> Read<Hash> {
    // `symmetric` is another word for what this kind is
    let kinds = [("symmetric", HashKind::FiveTuple)].into_iter().chain(named());
    let kind = line.choice("hash", &kinds.collect::<Vec<_>>())?;
    let inner = line.accept("inner").map(|span| Spanned::new(HashLayers::Inner, span));
    let layers = inner.or_else(|| line.accept("outer").map(|span| Spanned::new(HashLayers::Outer, span)));
    Ok(Hash { kind, layers })
}

/// Each tool has a weight, or none has.
fn check_weights(line: &mut Line<'_>, options: &[Spanned<GroupOption>]) {
    let tools = options.iter().find_map(|option| match &option.value {
        GroupOption::Tools(tools) => Some(tools.len()),
        _ => None,
    });
    for option in options {
        if let (GroupOption::Weights(weights), Some(tools)) = (&option.value, tools)
            && weights.len() != tools
            && let (Some(first), Some(last)) = (weights.first(), weights.last())
        {
            let error = Diagnostic::error(
                first.span.to(last.span),
                format!("the number of weights, {}, is not that of the tools, {tools}", weights.len()),
            );
            line.report(error.label("expected one weight for each tool"));
        }
    }
}
