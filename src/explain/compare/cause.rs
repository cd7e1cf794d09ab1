//! The cause of a packet's having another fate in one plan than in the other.
//!
//! Copies are compared by tool and by bytes; what counts copies in a tunnel's headers is left out. The cause is that of the first copy that
//! differs, by the name of its tool. Plans that change places give the same causes, with old and new exchanged.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Samplers;
use crate::explain::answer::RuleResult;
use crate::explain::fate::{Copied, Fate, Noted};
use crate::plan::Plan;
use crate::plan::diff::{Change, Subject};
use crate::plan::origin::Origins;
use tapline_api::words::Disposition;
use tapline_datapath::egresses::{Egress, Side};
use tapline_datapath::ids::{RuleId, ToolId};
use tapline_datapath::work_plan::{Target, Verdict};

/// A packet's fate in a plan.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub plan: &'a Plan,
    pub origins: &'a Origins,
    pub samplers: &'a Samplers,
    /// `None`: the plan has no such port.
    pub fate: Option<&'a Fate>,
}

/// The kind of a cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Other rules take the packet, or send it elsewhere.
    Rule,
    /// A group gives the packet's flow another member.
    Group,
    /// The copy has other bytes.
    Edit,
    /// The packet is sampled otherwise.
    Sampler,
    /// A rule has had the packets that its limit allows.
    Limit,
    /// A rule takes the packet for a duplicate.
    Dedup,
    /// The tool does not take the copy.
    Tool,
    /// The port, or the tunnels that end there.
    Port,
    /// The original on a wire.
    Wire,
}

/// A rule of one of the plans.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RuleRef {
    pub priority: u32,
    pub file: String,
    pub line: usize,
    pub drops: bool,
}

/// The cause of a difference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cause {
    pub kind: Kind,
    /// The group, the tool, the port, or the wire and its direction.
    pub object: Option<String>,
    /// The rules that decided.
    pub old: Option<RuleRef>,
    pub new: Option<RuleRef>,
}

/// The difference of a packet's fates.
pub(super) struct Found {
    pub cause: Cause,
    /// The fates in words.
    pub old: String,
    pub new: String,
    /// A tool or group had a copy that it no longer has.
    pub is_loss: bool,
}

/// The tools that an outcome lists by name.
const MOST_NAMED: usize = 6;

/// The name of what a copy goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Tool(&'a str),
    /// A member that is not there.
    NoMember(&'a str),
    Wire(&'a str, bool),
}

impl<'a> View<'a> {
    fn key(&self, copy: &Copied) -> Key<'a> {
        match copy.egress {
            Some(Egress::Tool(tool)) => Key::Tool(&self.plan.tools[tool].name),
            Some(Egress::Wire(wire, from)) => Key::Wire(&self.plan.wires[wire].name, from == Side::A),
            None => Key::NoMember(self.group(copy).unwrap_or_default()),
        }
    }

    fn group(&self, copy: &Copied) -> Option<&'a str> {
        copy.group.map(|group| self.plan.groups[group].name.as_str())
    }

    fn copies(&self) -> BTreeMap<Key<'a>, &'a Copied> {
        let copies = self.fate.map(|fate| fate.copies.as_slice()).unwrap_or_default();
        copies.iter().map(|copy| (self.key(copy), copy)).collect()
    }

    fn noted(&self) -> &'a [Noted] {
        self.fate.map(|fate| fate.rules.as_slice()).unwrap_or_default()
    }

    fn priority(&self, rule: RuleId) -> u32 {
        self.plan.rules[rule].priority
    }

    fn rule_ref(&self, rule: RuleId) -> RuleRef {
        let origin = self.origins.rules.get(rule);
        RuleRef {
            priority: self.priority(rule),
            file: origin.map(|origin| origin.file.clone()).unwrap_or_default(),
            line: origin.map_or(0, |origin| origin.line),
            drops: self.plan.rules[rule].verdict == Verdict::Drop,
        }
    }

    fn rule_of(&self, priority: u32) -> Option<RuleId> {
        // ascending by priority
        let rules = &self.plan.rules;
        rules
            .ids()
            .find(|&rule| rules[rule].priority >= priority)
            .filter(|&rule| rules[rule].priority == priority)
    }

    /// The result that a rule notes, if its conditions hold.
    fn result(&self, priority: u32) -> Option<RuleResult> {
        let noted = self.noted().iter().find(|noted| self.priority(noted.rule) == priority);
        noted.map(|noted| noted.result)
    }

    /// Says in the plan's words what becomes of the packet.
    fn outcome(&self) -> String {
        let Some(fate) = self.fate else { return "not received".to_owned() };
        if fate.is_refused {
            return "in no tunnel".to_owned();
        }
        let named = |is_sent: bool| {
            let copies = fate.copies.iter().filter(move |copy| copy.reason.is_none() == is_sent);
            let tools = copies.filter(|copy| !matches!(copy.egress, Some(Egress::Wire(..))));
            tools.map(|copy| (self.name_of(copy), copy.reason.unwrap_or_default())).collect::<Vec<_>>()
        };
        let (mut sent, dropped) = (named(true), named(false));
        sent.sort_unstable();
        let mut text = fate.disposition.word().to_owned();
        if fate.disposition == Disposition::Delivered && !sent.is_empty() {
            let more = sent.len().saturating_sub(MOST_NAMED);
            let names: Vec<&str> = sent.iter().take(MOST_NAMED).map(|(name, _)| *name).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text += &format!(" to {}{more}", names.join(","));
        }
        for (name, reason) in dropped.iter().take(MOST_NAMED) {
            text += &format!(", {reason} at {name}");
        }
        text
    }

    fn name_of(&self, copy: &Copied) -> &'a str {
        match self.key(copy) {
            Key::Tool(name) | Key::NoMember(name) | Key::Wire(name, _) => name,
        }
    }

    /// The samplers that decide whether a tool gets the packet; `None` where it gets it in any case.
    fn samplers_of(&self, copy: &Copied) -> Option<Vec<RuleId>> {
        let Some(Egress::Tool(tool)) = copy.egress else { return None };
        let sends = |noted: &&Noted| {
            noted.result == RuleResult::Yes
                && self.plan.rules[noted.rule].targets.iter().any(|target| match *target {
                    Target::Tool(of) => of == tool,
                    Target::Group(group) => copy.group == Some(group),
                })
        };
        let rules: Vec<RuleId> = self.noted().iter().filter(sends).map(|noted| noted.rule).collect();
        let are_sampled = !rules.is_empty() && rules.iter().all(|&rule| self.samplers[rule].is_some());
        are_sampled.then_some(rules)
    }

    /// The bytes of a copy without what counts the tool's copies.
    fn comparable(&self, tool: ToolId, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        self.plan.tools[tool].copy.transport.blank_sequence(&mut bytes);
        bytes
    }
}

/// Returns whether two copies for tools of one name are the same.
fn are_alike((old, copy): (&View<'_>, &Copied), (new, other): (&View<'_>, &Copied)) -> bool {
    if copy.reason != other.reason || copy.wire_len != other.wire_len {
        return false;
    }
    match (copy.egress, other.egress) {
        _ if copy.bytes == other.bytes => true,
        (Some(Egress::Tool(tool)), Some(Egress::Tool(same))) => {
            old.comparable(tool, &copy.bytes) == new.comparable(same, &other.bytes)
        }
        _ => false,
    }
}

/// Finds the difference of a packet's fates, which came by `port`; `None` where there is none.
pub(super) fn difference(old: &View<'_>, new: &View<'_>, changes: &[Change], port: &str) -> Option<Found> {
    let (olds, news) = (old.copies(), new.copies());
    let cause = match (old.fate, new.fate) {
        (None, None) => None,
        (Some(before), Some(after)) if before.is_refused == after.is_refused => {
            let keys = olds.keys().chain(news.keys().filter(|key| !olds.contains_key(key)));
            let differing = keys.filter(|key| match (olds.get(key), news.get(key)) {
                (Some(copy), Some(other)) => !are_alike((old, copy), (new, other)),
                _ => true,
            });
            let first = differing.min().copied();
            let of_copy =
                first.map(|key| cause_of_copy((old, olds.get(&key)), (new, news.get(&key)), changes));
            let of_disposition =
                || (before.disposition != after.disposition).then(|| cause_of_disposition(old, new));
            of_copy.or_else(of_disposition)
        }
        _ => Some(Cause { kind: Kind::Port, object: Some(port.to_owned()), old: None, new: None }),
    };
    let Some(cause) = cause else { return sampled_otherwise(old, new, &olds, &news) };
    let is_loss = loses(old, new);
    Some(Found { cause, old: old.outcome(), new: new.outcome(), is_loss })
}

/// Returns whether a tool, a group or a wire had the packet that it no longer has.
fn loses(old: &View<'_>, new: &View<'_>) -> bool {
    let has = |view: &View<'_>, name: (bool, &str)| {
        let copies = view.fate.map(|fate| fate.copies.as_slice()).unwrap_or_default();
        let target = |copy: &Copied| match view.group(copy) {
            Some(group) => (true, group.to_owned()),
            None => (false, view.name_of(copy).to_owned()),
        };
        copies.iter().any(|copy| {
            let (is_group, of) = target(copy);
            // a tool may get by itself what it got by a group
            copy.reason.is_none() && ((is_group, of.as_str()) == name || view.name_of(copy) == name.1)
        })
    };
    let copies = old.fate.map(|fate| fate.copies.as_slice()).unwrap_or_default();
    copies.iter().filter(|copy| copy.reason.is_none()).any(|copy| {
        let by_group = old.group(copy).is_some_and(|group| has(new, (true, group)));
        !by_group && !has(new, (false, old.name_of(copy)))
    })
}

/// The cause of a copy's being there in one plan alone, or another one.
fn cause_of_copy(
    (old, copy): (&View<'_>, Option<&&Copied>),
    (new, other): (&View<'_>, Option<&&Copied>),
    changes: &[Change],
) -> Cause {
    let pair = |kind, object, rule: Option<RuleId>, by: Option<RuleId>| Cause {
        kind,
        object,
        old: rule.map(|rule| old.rule_ref(rule)),
        new: by.map(|rule| new.rule_ref(rule)),
    };
    let wire = |view: &View<'_>, copy: &Copied| match view.key(copy) {
        Key::Wire(name, is_forward) => {
            Some(format!("{name}:{}", if is_forward { "a-to-b" } else { "b-to-a" }))
        }
        _ => None,
    };
    match (copy, other) {
        (Some(copy), Some(other)) => {
            let (Some(rule), Some(by)) = (copy.rule, other.rule) else {
                return pair(Kind::Wire, wire(old, copy), None, None);
            };
            if old.priority(rule) != new.priority(by) {
                return pair(Kind::Rule, None, Some(rule), Some(by));
            }
            let name = old.name_of(copy).to_owned();
            if copy.reason != other.reason {
                return pair(Kind::Tool, Some(name), Some(rule), Some(by));
            }
            // edits of the rule, or else those of the tool
            let is_of_rule = |change: &&Change| change.subject == Subject::Rule(old.priority(rule));
            let has_rule_changed = changes.iter().any(|change| is_of_rule(&change));
            let object = if has_rule_changed { None } else { Some(name) };
            pair(Kind::Edit, object, Some(rule), Some(by))
        }
        (Some(copy), None) => match copy.rule {
            Some(rule) => one_sided((old, copy, rule), new),
            None => pair(Kind::Wire, wire(old, copy), None, None),
        },
        (None, Some(other)) => match other.rule {
            Some(rule) => exchanged(one_sided((new, other, rule), old)),
            None => pair(Kind::Wire, wire(new, other), None, None),
        },
        (None, None) => pair(Kind::Rule, None, None, None),
    }
}

fn exchanged(Cause { kind, object, old, new }: Cause) -> Cause {
    Cause { kind, object, old: new, new: old }
}

/// The cause of a copy's being there in the plan of `here` alone, by a rule.
fn one_sided((here, copy, rule): (&View<'_>, &Copied, RuleId), there: &View<'_>) -> Cause {
    let priority = here.priority(rule);
    if let Some(group) = here.group(copy) {
        let copies = there.fate.map(|fate| fate.copies.as_slice()).unwrap_or_default();
        let moved = copies.iter().find(|other| {
            there.group(other) == Some(group) && other.rule.is_some_and(|by| there.priority(by) == priority)
        });
        if let Some(by) = moved.and_then(|other| other.rule) {
            let (old, new) = (Some(here.rule_ref(rule)), Some(there.rule_ref(by)));
            return Cause { kind: Kind::Group, object: Some(group.to_owned()), old, new };
        }
    }
    in_place_of((here, rule), there)
}

/// The cause of a rule's taking the packet in the plan of `here` alone: the rule of the other plan that has a say in its place.
fn in_place_of((here, rule): (&View<'_>, RuleId), there: &View<'_>) -> Cause {
    let priority = here.priority(rule);
    let closer = there.noted().iter().find(|noted| noted.closes);
    let closer = closer.map(|noted| noted.rule).filter(|&closer| there.priority(closer) < priority);
    let (kind, by) = match (closer, there.rule_of(priority)) {
        (Some(closer), _) => (Kind::Rule, Some(closer)),
        (None, Some(same)) => {
            let kind = match (there.result(priority), here.result(priority)) {
                (Some(RuleResult::SampledOut), _) | (_, Some(RuleResult::SampledOut)) => Kind::Sampler,
                (Some(RuleResult::Limited), _) | (_, Some(RuleResult::Limited)) => Kind::Limit,
                (Some(RuleResult::Duplicate), _) | (_, Some(RuleResult::Duplicate)) => Kind::Dedup,
                _ => Kind::Rule,
            };
            (kind, Some(same))
        }
        (None, None) => {
            let takes_alone = |noted: &&Noted| {
                let priority = there.priority(noted.rule);
                noted.result == RuleResult::Yes && here.result(priority) != Some(RuleResult::Yes)
            };
            (Kind::Rule, there.noted().iter().find(takes_alone).map(|noted| noted.rule))
        }
    };
    Cause { kind, object: None, old: Some(here.rule_ref(rule)), new: by.map(|rule| there.rule_ref(rule)) }
}

/// The cause of another disposition where no copy differs.
fn cause_of_disposition(old: &View<'_>, new: &View<'_>) -> Cause {
    let first = |here: &View<'_>, there: &View<'_>| {
        let differs = |noted: &&Noted| there.result(here.priority(noted.rule)) != Some(noted.result);
        here.noted().iter().find(differs).map(|noted| (here.priority(noted.rule), noted.rule))
    };
    match (first(old, new), first(new, old)) {
        (Some((before, rule)), Some((after, _))) if before <= after => in_place_of((old, rule), new),
        (Some((_, rule)), None) => in_place_of((old, rule), new),
        (_, Some((_, rule))) => exchanged(in_place_of((new, rule), old)),
        (None, None) => Cause { kind: Kind::Rule, object: None, old: None, new: None },
    }
}

/// Finds a copy that is the same in both plans, and is sampled otherwise.
fn sampled_otherwise(
    old: &View<'_>,
    new: &View<'_>,
    olds: &BTreeMap<Key<'_>, &Copied>,
    news: &BTreeMap<Key<'_>, &Copied>,
) -> Option<Found> {
    olds.iter().find_map(|(key, copy)| {
        let other = news.get(key)?;
        let (before, after) = (old.samplers_of(copy), new.samplers_of(other));
        let specs = |view: &View<'_>, rules: &Option<Vec<RuleId>>| {
            rules.as_ref().map(|rules| rules.iter().map(|&rule| view.samplers[rule]).collect::<Vec<_>>())
        };
        if specs(old, &before) == specs(new, &after) {
            return None;
        }
        let first = |rules: &Option<Vec<RuleId>>, rule: Option<RuleId>| {
            rules.as_ref().and_then(|rules| rules.first().copied()).or(rule)
        };
        let (rule, by) = (first(&before, copy.rule), first(&after, other.rule));
        let words = |view: &View<'_>, rules: &Option<Vec<RuleId>>| {
            let of = |rule: &RuleId| view.origins.rules.get(*rule).and_then(|origin| origin.sample.clone());
            let words: Vec<String> = rules.iter().flatten().filter_map(of).collect();
            match words.is_empty() {
                true => format!("{}, unsampled", view.outcome()),
                false => format!("{}, {}", view.outcome(), words.join(" or ")),
            }
        };
        let cause = Cause {
            kind: Kind::Sampler,
            object: None,
            old: rule.map(|rule| old.rule_ref(rule)),
            new: by.map(|rule| new.rule_ref(rule)),
        };
        let share = |view: &View<'_>, rules: &Option<Vec<RuleId>>| match rules.as_deref() {
            None => Some(1.0),
            Some([only]) => view.samplers[*only].and_then(|(spec, _)| spec.share()),
            Some(_) => None,
        };
        let is_loss =
            matches!((share(old, &before), share(new, &after)), (Some(old), Some(new)) if new < old);
        Some(Found { cause, old: words(old, &before), new: words(new, &after), is_loss })
    })
}
