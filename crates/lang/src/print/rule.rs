//! `rule …`: which packets a rule takes, and what becomes of them.

use std::fmt::{self, Display};

use super::super::ast::group::Hash;
use super::super::ast::rule::{Dedup, RuleClause, RuleSource, Sample, Schedule, Term};
use super::super::source::Spanned;
use super::edit::after;
use super::value::{bytes, count, duration, hex, ranges, rate, timestamp, windows};
use super::{Print, Words};
use tapline_api::words::DedupAction;

impl Print for RuleClause {
    fn print(&self, line: &mut Words) {
        match self {
            RuleClause::From(sources) => print_sources(line.word("from"), sources),
            RuleClause::Vlan(vlans) => line.word("vlan").word(ranges(vlans)),
            RuleClause::Match(terms) => match_terms(line, terms),
            RuleClause::Sample(sample) => line.word("sample").print(sample),
            RuleClause::Dedup(dedup) => line.word("dedup").print(dedup),
            RuleClause::Edit(edit) => line.print(edit),
            RuleClause::Unread(unread) => line.word("unread").word(unread),
            RuleClause::Active(schedule) => line.word("active").print(schedule),
            RuleClause::Until(ns) => line.word("until").word(timestamp(*ns)),
            RuleClause::For(time) => line.word("for").word(duration(*time)),
            RuleClause::Limit(packets) => line.word("limit").word(count(*packets)).word("packets"),
            RuleClause::To(targets) => line.word("to").names(targets),
            RuleClause::Final => line.word("final"),
            RuleClause::Drop => line.word("drop"),
            RuleClause::Class(class) => line.word("class").word(class),
        };
    }
}

impl Display for RuleClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Words::of(self).0)
    }
}

fn print_sources<'a>(line: &'a mut Words, sources: &[Spanned<RuleSource>]) -> &'a mut Words {
    let words: Vec<String> = sources.iter().map(|source| source_word(&source.value)).collect();
    match sources {
        // no name that could be misread
        [any] if any.value == RuleSource::Any => line.word(&words[0]),
        _ => line.text(&words.join(",")),
    }
}

fn source_word(source: &RuleSource) -> String {
    match source {
        RuleSource::Any => "any".to_owned(),
        RuleSource::Named(name) => name.clone(),
        RuleSource::WireDirection { wire, direction } => format!("{wire}:{direction}"),
    }
}

/// A rule has one `match` at most. Terms that begin with a word of their own need none, and may be several.
fn match_terms<'a>(line: &'a mut Words, terms: &[Spanned<Term>]) -> &'a mut Words {
    for (place, term) in terms.iter().enumerate() {
        match &term.value {
            _ if place > 0 => line.word("and"),
            Term::Filter(_) => line.word("match"),
            Term::Vni(_) | Term::Teid(_) | Term::MplsLabel(_) | Term::Bytes { .. } => line,
        };
        line.print(term);
    }
    line
}

impl Print for Term {
    fn print(&self, line: &mut Words) {
        match self {
            Term::Filter(filter) => line.print(filter),
            Term::Vni(ids) => line.word("vni").word(ranges(ids)),
            Term::Teid(ids) => line.word("teid").word(ranges(ids)),
            Term::MplsLabel(labels) => line.word("mpls-label").word(ranges(labels)),
            Term::Bytes { offset, value, mask, after: anchor } => {
                line.word("bytes").word(offset);
                match mask.iter().all(|&byte| byte == 0xff) {
                    true => line.word(hex(value)),
                    false => line.word(format_args!("{}/{}", hex(value), hex(mask))),
                };
                after(line, anchor)
            }
        };
    }
}

fn hash<'a>(line: &'a mut Words, hash: &Option<Hash>) -> &'a mut Words {
    hash.iter().fold(line, |line, hash| line.print(hash))
}

impl Print for Sample {
    fn print(&self, line: &mut Words) {
        match self {
            Sample::Count { one_in } => line.word(format_args!("1/{one_in}")),
            Sample::Random { one_in } => line.word(format_args!("random 1/{one_in}")),
            Sample::Flow { one_in, hash: by, seed } => {
                hash(line.word(format_args!("flow 1/{one_in}")), by).key("seed", seed, u64::to_string)
            }
            Sample::FirstPackets { packets, hash: by } => {
                hash(line.word("first").word(count(*packets)).word("packets"), by)
            }
            Sample::FirstBytes { bytes: amount, hash: by } => {
                hash(line.word("first").word(bytes(*amount)).word("bytes"), by)
            }
            Sample::Rate { rate: most, hash: by } => hash(line.word("rate").word(rate(*most)), by),
            Sample::Every { period, length } => {
                line.word("every").word(duration(*period)).word("for").word(duration(*length))
            }
        };
    }
}

impl Print for Dedup {
    fn print(&self, line: &mut Words) {
        let Dedup { window, memory, ignore, scope, action, tag_vlan } = self;
        line.word("window").word(duration(window.value));
        if !ignore.is_empty() {
            let ignored: Vec<&str> = ignore.iter().map(|field| field.value.word()).collect();
            line.word("ignore").word(ignored.join(","));
        }
        if !scope.is_empty() {
            line.word("scope ports").names(scope);
        }
        line.key("action", action, DedupAction::to_string);
        if let Some(vlan) = tag_vlan {
            line.word(vlan.value);
        }
        line.key("memory", memory, |size| bytes(*size));
    }
}

impl Print for Schedule {
    fn print(&self, line: &mut Words) {
        let Schedule { windows: all, zone } = self;
        line.quoted(&windows(all));
        if let Some(zone) = zone {
            line.word("zone").text(&zone.value);
        }
    }
}
