//! `group …`, `wire …`, `filter …`.

use super::super::ast::filter::{Filter, FilterSource};
use super::super::ast::group::{Below, GroupOption, Hash, HashKind, HashLayers, Return};
use super::super::ast::wire::WireOption;
use super::super::ast::{Command, Name, NameKind};
use super::super::diagnostic::Diagnostic;
use super::super::source::{Span, Spanned};
use super::super::value::{self, duration, number, percent, text};
use super::edit::through;
use super::line::{Clause, Line, Read, Reported, once};

type Verb = fn(&mut Line) -> Read<Command>;

const GROUP_VERBS: &[(&str, Verb)] = &[
    ("create", |line| {
        line.stop_at(GROUP_OPTIONS);
        let name = line.new_name(NameKind::Group);
        let options = line.clauses(GROUP_OPTIONS);
        if !options.iter().any(|option| matches!(option.value, GroupOption::Tools(_))) {
            line.lacks("the group", "tools", "`tools LIST`");
        }
        check_weights(line, &options);
        Ok(Command::GroupCreate { name: name?, options })
    }),
    ("modify", |line| {
        let name = existing(line, NameKind::Group, GROUP_OPTIONS);
        let options = line.clauses(GROUP_OPTIONS);
        check_weights(line, &options);
        Ok(Command::GroupModify { name: name?, options })
    }),
    ("destroy", |line| Ok(Command::GroupDestroy(existing(line, NameKind::Group, GROUP_OPTIONS)?))),
];

const GROUP_OPTIONS: &[Clause<GroupOption>] = &[
    once("tools", |line| Ok(GroupOption::Tools(line.names("tools", "a tool's name")?))),
    once("weights", |line| Ok(GroupOption::Weights(line.numbers("weights", number(1..=1000))?))),
    once("hash", |line| Ok(GroupOption::Hash(hash(line)?))),
    once("standby", |line| Ok(GroupOption::Standby(line.names("standby", "a tool's name")?))),
    once("min-up", |line| {
        let count = line.value("min-up", number(1..=1000))?.value;
        let below = line.optional("below", |line| line.choice("below", &[("drop", Below::Drop), ("spread", Below::Spread)]))?;
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

const HASH_KINDS: &[(&str, HashKind)] = &[
    ("symmetric", HashKind::Symmetric),
    ("ip", HashKind::Ip),
    ("ip-port", HashKind::IpPort),
    ("5-tuple", HashKind::FiveTuple),
    ("mac", HashKind::Mac),
    ("vlan", HashKind::Vlan),
    ("vni", HashKind::Vni),
    ("teid", HashKind::Teid),
    ("rss", HashKind::Rss),
];

/// `KIND [inner|outer]`, behind `hash`.
pub(super) fn hash(line: &mut Line) -> Read<Hash> {
    let kind = line.choice("hash", HASH_KINDS)?;
    let inner = line.accept("inner").map(|span| Spanned::new(HashLayers::Inner, span));
    let layers = inner.or_else(|| line.accept("outer").map(|span| Spanned::new(HashLayers::Outer, span)));
    Ok(Hash { kind, layers })
}

const WIRE_VERBS: &[(&str, Verb)] = &[
    ("create", wire_create),
    ("modify", |line| {
        let name = existing(line, NameKind::Wire, WIRE_OPTIONS)?;
        Ok(Command::WireModify { name, options: line.clauses(WIRE_OPTIONS) })
    }),
    ("destroy", |line| Ok(Command::WireDestroy(existing(line, NameKind::Wire, WIRE_OPTIONS)?))),
];

const WIRE_OPTIONS: &[Clause<WireOption>] = &[
    once("bypass", |line| Ok(WireOption::Bypass(line.switch()))),
    once("propagate-link", |line| Ok(WireOption::PropagateLink(line.switch()))),
];

const FILTER_VERBS: &[(&str, Verb)] = &[
    ("create", |line| {
        let name = line.new_name(NameKind::Filter)?;
        Ok(Command::FilterCreate { name, filter: definition(line, "filter create")? })
    }),
    ("modify", |line| {
        let name = line.name(NameKind::Filter)?;
        Ok(Command::FilterModify { name, filter: definition(line, "filter modify")? })
    }),
    ("destroy", |line| Ok(Command::FilterDestroy(line.name(NameKind::Filter)?))),
];

pub fn group(line: &mut Line) -> Read<Command> {
    line.keyword("group command", GROUP_VERBS)?(line)
}

pub fn wire(line: &mut Line) -> Read<Command> {
    line.keyword("wire command", WIRE_VERBS)?(line)
}

pub fn filter(line: &mut Line) -> Read<Command> {
    line.keyword("filter command", FILTER_VERBS)?(line)
}

fn existing<T>(line: &mut Line, kind: NameKind, clauses: &[Clause<T>]) -> Read<Name> {
    line.stop_at(clauses);
    line.name(kind)
}

/// Each tool has a weight, or none has.
fn check_weights(line: &mut Line, options: &[Spanned<GroupOption>]) {
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

/// `wire create NAME ports A,B [bypass] [propagate-link]`.
fn wire_create(line: &mut Line) -> Read<Command> {
    line.stop_at_words(["ports"].into_iter());
    let name = line.new_name(NameKind::Wire);
    if name.is_err() && line.peek().is_none() {
        return Err(Reported);
    }
    line.expect("ports")?;
    line.stop_at(WIRE_OPTIONS);
    let ports = line.names("ports", "a port's name");
    let span = line.last_span();
    let options = line.clauses(WIRE_OPTIONS);
    let ports = ports?;
    let given = ports.len();
    let Some((a, b)) = value::pair(ports) else {
        let error = Diagnostic::error(span, format!("a wire joins two ports, {given} given"));
        return Err(line.report(error.label("expected `ports A,B`")));
    };
    Ok(Command::WireCreate { name: name?, a, b, options })
}

/// `"EXPR" [through LIST]` or `file PATH [through LIST]`.
fn definition(line: &mut Line, key: &str) -> Read<Filter> {
    let source = match line.accept("file") {
        Some(word) => {
            let path = line.free_text("file", "the path of a list of prefixes or expressions")?;
            Spanned::new(FilterSource::File(path.value), word.to(path.span))
        }
        None => {
            let is_quoted = line.peek().is_some_and(|word| word.quoted);
            let expression = line.value(key, text("an expression in double quotes, or file PATH"))?;
            if !is_quoted && line.peek().is_some_and(|word| !word.is("through")) {
                return Err(unquoted_expression(line, expression.span.to(line.end())));
            }
            expression.map(FilterSource::Expression)
        }
    };
    Ok(Filter { source, through: through(line)? })
}

/// Reports `tcp port 80` where `"tcp port 80"` was meant.
pub fn unquoted_expression(line: &mut Line, span: Span) -> Reported {
    let error = Diagnostic::error(span, "the filter expression is not in quotes").label("expected double quotes around it");
    let reported = line.report(error.help(format!("write \"{}\"", line.words_within(span))));
    line.mute();
    reported
}
