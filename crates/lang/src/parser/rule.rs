//! `rule create|modify|enable|disable|destroy`.

use super::super::ast::filter::Filter;
use super::super::ast::rule::{Dedup, RuleClause, RuleSource, Sample, Schedule, Term};
use super::super::ast::{Command, Ranges};
use super::super::diagnostic::Diagnostic;
use super::super::source::{Span, Spanned};
use super::super::suggest::nearest;
use super::super::value::{
    self, Misread, bytes, count, duration, filter_source, hex_mask, number, one_in, ranges, rule_source,
    timestamp, windows,
};
use super::complete::Names;
use super::edit::with_edits;
use super::line::{Clause, Line, Read, Reported, Verb, many, once, verb};
use super::{edit, filter, group};
use tapline_api::words::{DedupAction, NameKind, Role};

pub(super) const VERBS: &[(&str, Verb)] = &[
    (
        "create",
        verb(
            Role::Operator,
            "PRIORITY from SOURCES [CLAUSES] to TARGETS | PRIORITY from SOURCES [CLAUSES] drop",
            "makes a rule",
            create,
        ),
    ),
    (
        "modify",
        verb(Role::Operator, "PRIORITY CLAUSES", "changes clauses of a rule", |line| {
            let priority = priority(line);
            let clauses = line.clauses(CLAUSES);
            check_outcome(line, &clauses);
            Ok(Command::RuleModify { priority: priority?, clauses })
        }),
    ),
    (
        "enable",
        verb(Role::Operator, "PRIORITY", "turns a rule on", |line| {
            Ok(Command::RuleEnable(priority(line)?))
        }),
    ),
    (
        "disable",
        verb(Role::Operator, "PRIORITY", "turns a rule off", |line| {
            Ok(Command::RuleDisable(priority(line)?))
        }),
    ),
    (
        "destroy",
        verb(Role::Operator, "PRIORITY | all", "removes a rule, or all", |line| match line.accept("all") {
            Some(_) => Ok(Command::RuleDestroyAll),
            None => Ok(Command::RuleDestroy(priority(line)?)),
        }),
    ),
];

pub(super) const CLAUSES: &[Clause<RuleClause>] = with_edits!(RuleClause::Edit; [
    once("from", |line| Ok(RuleClause::From(from(line)?))),
    once("vlan", |line| Ok(RuleClause::Vlan(line.value("vlan", ranges(4095))?.value))),
    once("match", |line| Ok(RuleClause::Match(terms(line)?))),
    many("vni", |line| first_term(line, |line| Ok(Term::Vni(vni(line)?)))),
    many("teid", |line| first_term(line, |line| Ok(Term::Teid(teid(line)?)))),
    many("mpls-label", |line| first_term(line, |line| Ok(Term::MplsLabel(mpls_label(line)?)))),
    many("bytes", |line| first_term(line, payload_bytes)),
    once("sample", |line| Ok(RuleClause::Sample(sample(line)?))),
    once("dedup", |line| Ok(RuleClause::Dedup(dedup(line)?))),
] [
    once("unread", |line| Ok(RuleClause::Unread(line.word_of("unread")?.value))),
    once("active", |line| {
        let windows = line.value("active", windows)?.value;
        let zone = line
            .optional("zone", |line| line.free_text("zone", "a time zone such as Europe/Berlin or UTC"))?;
        Ok(RuleClause::Active(Schedule { windows, zone }))
    }),
    once("until", |line| Ok(RuleClause::Until(line.value("until", timestamp)?.value))),
    once("for", |line| Ok(RuleClause::For(line.value("for", duration)?.value))),
    once("limit", |line| {
        let packets = line.value("limit", count(1..=u64::MAX))?.value;
        line.expect("packets")?;
        Ok(RuleClause::Limit(packets))
    }),
    once("to", |line| Ok(RuleClause::To(line.names("to", &[NameKind::Tool, NameKind::Group])?))),
    once("final", |_| Ok(RuleClause::Final)),
    once("drop", |_| Ok(RuleClause::Drop)),
    once("class", |line| Ok(RuleClause::Class(line.word_of("class")?.value))),
]);

fn priority(line: &mut Line<'_>) -> Read<Spanned<u32>> {
    line.stop_at(CLAUSES);
    line.priority()
}

fn create(line: &mut Line<'_>) -> Read<Command> {
    line.defines_next(NameKind::Rule);
    let priority = priority(line);
    let clauses = line.clauses(CLAUSES);
    check_outcome(line, &clauses);
    if !clauses.iter().any(|clause| matches!(clause.value, RuleClause::From(_))) {
        line.lacks("the rule", "from", "`from SOURCES`: ports, wires or any");
    }
    if !clauses.iter().any(|clause| matches!(clause.value, RuleClause::To(_) | RuleClause::Drop)) {
        line.lacks("the rule", "to", "`to LIST` of tools and groups, or `drop`");
    }
    Ok(Command::RuleCreate { priority: priority?, clauses })
}

/// A packet is delivered or excluded.
fn check_outcome(line: &mut Line<'_>, clauses: &[Spanned<RuleClause>]) {
    let has_to = clauses.iter().any(|clause| matches!(clause.value, RuleClause::To(_)));
    if let Some(drop) =
        clauses.iter().find(|clause| matches!(clause.value, RuleClause::Drop)).filter(|_| has_to)
    {
        let error = Diagnostic::error(drop.span, "a rule has either `to` or `drop`")
            .label("expected no `drop` in a rule with `to`");
        line.report(error.help("`final` keeps the packet from lower rules"));
    }
}

fn from(line: &mut Line<'_>) -> Read<Vec<Spanned<RuleSource>>> {
    line.refuse_stop("from", || "a port, a wire, a wire's direction such as w0:a-to-b, or any".into())?;
    line.may_list(["any"], &[Names::Of(NameKind::Port), Names::Of(NameKind::Wire), Names::Directions]);
    let sources = line.list("from", rule_source)?;
    if sources.len() > 1
        && let Some(any) = sources.iter().find(|source| source.value == RuleSource::Any)
    {
        let error = Diagnostic::error(any.span, "`any` stands for every port already");
        return Err(line.report(error.label("expected any alone, or the list without it")));
    }
    Ok(sources)
}

fn vni(line: &mut Line<'_>) -> Read<Ranges> {
    Ok(line.value("vni", ranges(0xff_ffff))?.value)
}

fn teid(line: &mut Line<'_>) -> Read<Ranges> {
    Ok(line.value("teid", ranges(u32::MAX))?.value)
}

fn mpls_label(line: &mut Line<'_>) -> Read<Ranges> {
    Ok(line.value("mpls-label", ranges(0xf_ffff))?.value)
}

/// `OFFSET HEX[/MASK] [after l2|l3|l4|inner-l4]`.
fn payload_bytes(line: &mut Line<'_>) -> Read<Term> {
    let offset = line.value("bytes", number(0..=u16::MAX))?.value;
    let (value, mask) = line.value("bytes", hex_mask)?.value;
    Ok(Term::Bytes { offset, value, mask, after: edit::after(line)? })
}

/// A term that needs no `match` before it, and those that follow it.
fn first_term(line: &mut Line<'_>, read: fn(&mut Line<'_>) -> Read<Term>) -> Read<RuleClause> {
    let word = line.last_span();
    let term = read(line)?;
    let mut terms = vec![Spanned::new(term, line.since(word))];
    more_terms(line, &mut terms)?;
    Ok(RuleClause::Match(terms))
}

/// `TERM [and TERM]…`.
fn terms(line: &mut Line<'_>) -> Read<Vec<Spanned<Term>>> {
    let mut terms = vec![term(line)?];
    more_terms(line, &mut terms)?;
    Ok(terms)
}

fn more_terms(line: &mut Line<'_>, terms: &mut Vec<Spanned<Term>>) -> Read<()> {
    while line.accept("and").is_some() {
        terms.push(term(line)?);
    }
    Ok(())
}

fn term(line: &mut Line<'_>) -> Read<Spanned<Term>> {
    type Reader = fn(&mut Line<'_>) -> Read<Term>;
    const TERMS: [(&str, Reader); 4] = [
        ("vni", |line| Ok(Term::Vni(vni(line)?))),
        ("teid", |line| Ok(Term::Teid(teid(line)?))),
        ("mpls-label", |line| Ok(Term::MplsLabel(mpls_label(line)?))),
        ("bytes", payload_bytes),
    ];
    for (word, read) in TERMS {
        if let Some(span) = line.accept(word) {
            let term = read(line)?;
            return Ok(Spanned::new(term, line.since(span)));
        }
    }
    let filter = written_filter(line)?;
    let span = line.since(filter.source.span);
    Ok(Spanned::new(Term::Filter(filter), span))
}

/// `NAME`, `"EXPR"` or `file PATH`, then `[through LIST]`.
fn written_filter(line: &mut Line<'_>) -> Read<Filter> {
    if let Some(source) = filter::list(line)? {
        return Ok(Filter { source, through: edit::through(line)? });
    }
    let is_quoted = line.peek().is_some_and(|word| word.quoted);
    line.may_name(NameKind::Filter);
    let written = line.free_text(
        "match",
        "a filter's name, an expression in double quotes, file PATH, or a term such as vni 7",
    )?;
    if !is_quoted && let Some(end) = unquoted_end(line) {
        return Err(filter::unquoted_expression(line, written.span.to(end)));
    }
    let source = written.map(|text| filter_source(&text, is_quoted));
    Ok(Filter { source, through: edit::through(line)? })
}

/// The end of the words that belong to an expression, if words follow that can only be parts of one.
fn unquoted_end(line: &mut Line<'_>) -> Option<Span> {
    let next = line.peek().filter(|word| !word.quoted && !word.poisoned)?;
    let clause_words = || CLAUSES.iter().map(Clause::word).chain(["and", "through"]);
    if clause_words().any(|word| next.text == word) || nearest(&next.text, clause_words()).is_some() {
        return None;
    }
    let mut end = next.span;
    while let Some(word) = line.peek().filter(|word| !line.is_stop(word) && !word.is("through")) {
        end = word.span;
        line.advance();
    }
    Some(end)
}

/// The forms of `sample`.
fn sample(line: &mut Line<'_>) -> Read<Sample> {
    type Reader = fn(&mut Line<'_>) -> Read<Sample>;
    const FORMS: &[(&str, Reader)] = &[
        // What stands here in the list of what was expected; a word with a `/` never gets this far.
        ("1/N", |line| Ok(Sample::Count { one_in: line.value("sample", one_in)?.value })),
        ("random", |line| Ok(Sample::Random { one_in: line.value("sample random", one_in)?.value })),
        ("flow", |line| {
            let Ok(one_in) = line.value("sample flow", one_in) else { return Err(after_wrong_value(line)) };
            let one_in = one_in.value;
            let hash = line.optional("hash", group::hash)?;
            Ok(Sample::Flow {
                one_in,
                hash,
                seed: line.optional("seed", |line| line.value("seed", number(0..=u64::MAX)))?,
            })
        }),
        ("first", sample_first),
        ("rate", |line| {
            let Ok(rate) = line.value("sample rate", value::rate) else {
                return Err(after_wrong_value(line));
            };
            Ok(Sample::Rate { rate: rate.value, hash: line.optional("hash", group::hash)? })
        }),
        ("every", |line| {
            let Ok(period) = line.value("sample every", duration) else {
                return Err(after_wrong_value(line));
            };
            line.expect("for")?;
            let length = line.value("for", duration)?;
            let period = period.value;
            if length.value >= period {
                let error = Diagnostic::error(length.span, "the sample fills its whole period");
                return Err(line.report(error.label("expected less than the duration behind `every`")));
            }
            Ok(Sample::Every { period, length: length.value })
        }),
    ];
    if line.peek().is_some_and(|word| !word.quoted && word.text.contains('/')) {
        return Ok(Sample::Count { one_in: line.value("sample", one_in)?.value });
    }
    match line.choice("sample", FORMS) {
        Ok(form) => (form.value)(line),
        Err(_) => Err(after_wrong_value(line)),
    }
}

/// The words of `sample` that begin clauses of their own elsewhere must not be taken for those behind a value that was wrong.
fn after_wrong_value(line: &mut Line<'_>) -> Reported {
    let is_hash_kind =
        line.peek().is_some_and(|word| ["vlan", "vni", "teid"].contains(&word.text.as_ref()));
    if is_hash_kind || line.accept("bytes").is_some() || line.accept("for").is_some() {
        line.mute();
    }
    Reported
}

/// `first N packets` or `first SIZE bytes`, each with an optional `per flow` and `hash KIND [inner|outer]`.
fn sample_first(line: &mut Line<'_>) -> Read<Sample> {
    let amount = line.value("sample first", |text| {
        let read = count(1..=u64::MAX)(text).or_else(|_| bytes(text));
        read.map_err(|_| {
            Misread::expected("a number of packets such as 10, or a size in bytes such as 64k")
        })
    });
    let Ok(amount) = amount else { return Err(after_wrong_value(line)) };
    let Ok(is_packets) = line.choice("sample first", &[("packets", true), ("bytes", false)]) else {
        return Err(after_wrong_value(line));
    };
    line.optional("per", |line| line.expect("flow"))?;
    let (amount, hash) = (amount.value, line.optional("hash", group::hash)?);
    Ok(if is_packets.value {
        Sample::FirstPackets { packets: amount, hash }
    } else {
        Sample::FirstBytes { bytes: amount, hash }
    })
}

/// `dedup window DURATION [ignore LIST] [scope ports LIST] [action drop|count|tag [VLAN]] [memory SIZE]`.
fn dedup(line: &mut Line<'_>) -> Read<Dedup> {
    line.expect("window")?;
    let window = line.value("dedup window", duration)?;
    let mut dedup =
        Dedup { window, memory: None, ignore: Vec::new(), scope: Vec::new(), action: None, tag_vlan: None };
    loop {
        if dedup.ignore.is_empty() && line.accept("ignore").is_some() {
            dedup.ignore = line.words_of("ignore")?;
        } else if dedup.scope.is_empty() && line.accept("scope").is_some() {
            line.expect("ports")?;
            dedup.scope = line.names("scope ports", &[NameKind::Port])?;
        } else if dedup.action.is_none() && line.accept("action").is_some() {
            let action = line.word_of("action")?;
            if action.value == DedupAction::Tag {
                line.may_have_value("action tag");
            }
            let is_numbered =
                line.peek().is_some_and(|word| word.text.starts_with(|first: char| first.is_ascii_digit()));
            if action.value == DedupAction::Tag && is_numbered {
                dedup.tag_vlan = Some(line.value("action tag", number(1..=4094))?);
            }
            dedup.action = Some(action);
        } else if dedup.memory.is_none() && line.accept("memory").is_some() {
            dedup.memory = Some(line.value("memory", bytes)?);
        } else {
            return Ok(dedup);
        }
    }
}
