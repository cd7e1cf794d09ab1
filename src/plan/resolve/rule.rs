//! Rules: where their packets come from, which of them they take, and where those go.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::definitions::{Definitions, Rule, names_of};
use super::group::hash_of;
use super::{Resolver, RuleSource};
use crate::plan::schedule::WeeklyHours;
use crate::plan::value::{DedupPlan, RulePlan};
use tapline_api::words::DedupIgnore;
use tapline_api::words::{DedupAction, HashKind, NameKind};
use tapline_datapath::classify::{FilterTerm, Matcher};
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::{PortId, ToolId, WireId};
use tapline_datapath::route::dedup::Ignore;
use tapline_datapath::route::sample::{FirstLimit, SampleSpec};
use tapline_datapath::work_plan::{Target, Verdict};
use tapline_dpdk::clock::nanoseconds;
use tapline_filter::terms::{self, BytesTerm, IdRanges, VlanSet};
use tapline_lang::ast;
use tapline_lang::ast::Name;
use tapline_lang::ast::filter::FilterSource;
use tapline_lang::ast::rule::{RuleClause, Term};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};
use tapline_packet::layers::Depth;

/// The VLAN of the tag on duplicates unless `action tag VLAN` says otherwise: the last that there is, and so the least likely to be
/// in use.
const DUPLICATE_VLAN: u16 = 4094;

/// The memory of a rule's dedup unless `memory` says otherwise: 50 ms of 6 million packets a second.
const DEFAULT_DEDUP_MEMORY: u64 = 16 << 20;

const LEAST_DEDUP_MEMORY: u64 = 64 << 10;

const MOST_DEDUP_MEMORY: u64 = 64 << 30;

const LONGEST_DEDUP_WINDOW: Duration = Duration::from_secs(3600);

/// The clauses of a rule that depend on its other clauses, with their places.
#[derive(Default)]
struct Said<'a> {
    to: Option<Span>,
    drop: Option<Span>,
    sample: Option<Span>,
    dedup: Option<(Span, &'a ast::rule::Dedup)>,
    edits: Vec<Spanned<&'a ast::edit::Edit>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn rule(
        &mut self,
        rule: &Rule<'a>,
        definitions: &Definitions<'a>,
    ) -> (RulePlan, RuleSource) {
        let mut plan = RulePlan {
            priority: rule.priority.value,
            sources: all_ports(definitions),
            edits: None,
            unread: None,
            duplicate_edits: None,
            matcher: Arc::default(),
            words: String::new(),
            expression: None,
            dedup: None,
            sample: None,
            sample_hash: None,
            schedule: None,
            limit: None,
            is_enabled: rule.is_enabled,
            targets: Vec::new(),
            verdict: Verdict::Continue,
            class: None,
        };
        let mut source = RuleSource {
            matcher: Matcher::default(),
            span: rule.priority.span,
            is_from_any: true,
            names_vlans: false,
        };
        let mut said = Said::default();
        for clause in &rule.clauses {
            add_words(&clause.value, &mut plan.words);
            self.clause(clause, &mut plan, &mut source, &mut said, definitions);
        }
        plan.expression = expression(&rule.clauses, definitions);
        self.check_outcome(rule, &said);
        plan.edits = self.edits_of(&said.edits);
        self.check_drop(&said);
        if let Some((span, dedup)) = said.dedup {
            plan.dedup = Some(self.dedup(dedup, &plan.sources, definitions));
            if dedup.action.as_ref().is_some_and(|action| action.value == DedupAction::Tag) {
                let vlan = dedup.tag_vlan.as_ref().map_or(DUPLICATE_VLAN, |vlan| vlan.value);
                plan.duplicate_edits = self.marked_edits_of(plan.edits, vlan, span);
            }
        }
        plan.matcher = Arc::new(source.matcher.clone());
        (plan, source)
    }

    /// Carries out a clause, or notes it where it depends on others.
    fn clause(
        &mut self,
        clause: &'a Spanned<RuleClause>,
        plan: &mut RulePlan,
        source: &mut RuleSource,
        said: &mut Said<'a>,
        definitions: &Definitions<'a>,
    ) {
        match &clause.value {
            RuleClause::From(list) => {
                source.is_from_any = list.iter().any(|from| from.value == ast::rule::RuleSource::Any);
                plan.sources = if source.is_from_any {
                    all_ports(definitions)
                } else {
                    self.sources_of(list, definitions)
                };
            }
            RuleClause::Vlan(ranges) => {
                source.matcher.vlans = Some(VlanSet::new(ranges.0.iter().copied()));
            }
            RuleClause::Match(terms) => {
                source.names_vlans |= terms.iter().any(|term| names_vlans(&term.value));
                let (filters, terms) = self.terms_of(terms, definitions);
                source.matcher.filters.extend(filters);
                source.matcher.terms.extend(terms);
            }
            RuleClause::Sample(sample) => {
                said.sample = Some(clause.span);
                let spec = Self::sample(sample, definitions.settings.seed);
                plan.sample = Some(spec);
                if spec.needs_hashes() {
                    let (kind, depth) = self.sample_hash(sample);
                    // not keyed with the seed: the sampler mixes its own in
                    plan.sample_hash = Some(self.hash_id(HashSpec { kind, depth, seed: 0 }));
                }
            }
            RuleClause::To(names) => {
                said.to = Some(clause.span);
                plan.targets = self.targets_of(names, definitions);
            }
            RuleClause::Final => {
                plan.verdict = if said.drop.is_some() { Verdict::Drop } else { Verdict::Final }
            }
            RuleClause::Drop => {
                said.drop = Some(clause.span);
                plan.verdict = Verdict::Drop;
            }
            RuleClause::Unread(unread) => plan.unread = Some(*unread),
            RuleClause::Class(class) => {
                plan.class = Some(*class);
            }
            RuleClause::Dedup(dedup) => said.dedup = Some((clause.span, dedup)),
            RuleClause::Active(active) => {
                let hours = self.hours(active);
                plan.schedule.get_or_insert_default().hours = hours;
            }
            RuleClause::Until(until_ns) => plan.schedule.get_or_insert_default().until_ns = Some(*until_ns),
            RuleClause::For(duration) => {
                plan.schedule.get_or_insert_default().for_ns = Some(nanoseconds(*duration))
            }
            RuleClause::Limit(packets) => plan.limit = Some(*packets),
            RuleClause::Edit(edit) => said.edits.push(Spanned::new(edit, clause.span)),
        }
    }

    /// Refuses a rule that neither copies nor drops, or does both.
    fn check_outcome(&mut self, rule: &Rule<'a>, said: &Said<'a>) {
        match (said.to, said.drop) {
            (None, None) => {
                let message = format!("rule {} does nothing", rule.priority.value);
                self.error(
                    Diagnostic::error(rule.priority.span, message)
                        .label("expected `to TOOL,…` or `drop` in this rule"),
                );
            }
            (Some(_), Some(drops)) => {
                let message = format!("rule {} both copies and drops", rule.priority.value);
                self.error(
                    Diagnostic::error(drops, message)
                        .label("expected `to TOOL,…` or `drop`, not both")
                        .help("`final` after `to` keeps the packets from lower rules"),
                );
            }
            _ => {}
        }
    }

    /// Refuses what means nothing in a rule that drops.
    fn check_drop(&mut self, said: &Said<'a>) {
        if said.drop.is_none() {
            return;
        }
        let senseless = [
            (said.edits.first().map(|edit| edit.span), "a rule that drops has no copies to edit", "edits"),
            (said.sample, "a rule that drops has nothing to sample", "`sample`"),
            (
                said.dedup.map(|(span, _)| span),
                "a rule that drops has no duplicates to leave out",
                "`dedup`",
            ),
        ];
        for (span, message, word) in senseless {
            if let Some(span) = span {
                self.error(
                    Diagnostic::error(span, message).label(format!("expected no {word} beside `drop`")),
                );
            }
        }
    }

    fn hours(&mut self, active: &ast::rule::Schedule) -> Option<WeeklyHours> {
        let zone = match &active.zone {
            None => self.surroundings.zones.local.clone(),
            Some(name) => match self.surroundings.zones.named.get(&name.value) {
                Ok(zone) => zone,
                Err(_) => {
                    let message = format!("unknown time zone `{}`", name.value);
                    let label =
                        "expected a name of the system's time zone database, such as Europe/Berlin or UTC";
                    self.error(Diagnostic::error(name.span, message).label(label));
                    return None;
                }
            },
        };
        let spans =
            active.windows.iter().map(|window| (window.days, window.from_minute, window.until_minute));
        Some(WeeklyHours::of(spans, zone))
    }

    /// `sources` are the rule's.
    fn dedup(
        &mut self,
        dedup: &ast::rule::Dedup,
        sources: &[PortId],
        definitions: &Definitions<'a>,
    ) -> DedupPlan {
        let has = |field| dedup.ignore.iter().any(|ignored| ignored.value == field);
        let known = names_of(&definitions.ports);
        let mut scope = Vec::new();
        for name in &dedup.scope {
            let Some(port) = self.look_up(NameKind::Port, name, &known) else { continue };
            if !sources.contains(&port) {
                let message = format!("the rule takes nothing from port `{}`", name.value);
                self.error(
                    Diagnostic::error(name.span, message).label("expected a port that stands in `from`"),
                );
            }
            if !scope.contains(&port) {
                scope.push(port);
            }
        }
        let action = dedup.action.as_ref().map(|action| action.value).unwrap_or_default();
        if let Some(memory) = &dedup.memory
            && !(LEAST_DEDUP_MEMORY..=MOST_DEDUP_MEMORY).contains(&memory.value)
        {
            self.error(
                Diagnostic::error(memory.span, "this much memory is out of range")
                    .label("expected 64Ki to 64Gi"),
            );
        }
        if dedup.window.value > LONGEST_DEDUP_WINDOW {
            self.error(
                Diagnostic::error(dedup.window.span, "this window is too long")
                    .label("expected at most 1h"),
            );
        }
        DedupPlan {
            window_ns: nanoseconds(dedup.window.value),
            ignore: Ignore {
                ttl: has(DedupIgnore::Ttl),
                tos: has(DedupIgnore::Tos),
                vlan: has(DedupIgnore::Vlan),
                mac: has(DedupIgnore::Mac),
                tcp_seq: has(DedupIgnore::TcpSeq),
            },
            scope: if scope.is_empty() { sources.to_vec() } else { scope },
            action,
            memory: dedup.memory.as_ref().map_or(DEFAULT_DEDUP_MEMORY, |memory| memory.value),
        }
    }

    /// Gives the fields that make packets one flow for a sampler.
    fn sample_hash(&mut self, sample: &ast::rule::Sample) -> (HashKind, Depth) {
        let hash = match sample {
            ast::rule::Sample::Flow { hash, .. }
            | ast::rule::Sample::FirstPackets { hash, .. }
            | ast::rule::Sample::FirstBytes { hash, .. }
            | ast::rule::Sample::Rate { hash, .. } => hash.as_ref(),
            ast::rule::Sample::Count { .. }
            | ast::rule::Sample::Random { .. }
            | ast::rule::Sample::Every { .. } => None,
        };
        let Some(hash) = hash else { return (HashKind::FiveTuple, Depth::Outer) };
        if hash.kind.value == HashKind::Rss {
            let message = "no sampler uses the NIC's hash".to_owned();
            let label = "expected another kind: this one has 65536 values, on which many flows meet";
            self.error(Diagnostic::error(hash.kind.span, message).label(label));
        }
        hash_of(hash)
    }

    fn sample(sample: &ast::rule::Sample, seed: u64) -> SampleSpec {
        let one_in = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        match sample {
            ast::rule::Sample::Count { one_in: n } => SampleSpec::Systematic { one_in: one_in(*n) },
            ast::rule::Sample::Random { one_in: n } => SampleSpec::Random { one_in: one_in(*n) },
            ast::rule::Sample::Flow { one_in: n, seed: own, .. } => {
                SampleSpec::Flow { one_in: one_in(*n), seed: own.as_ref().map_or(seed, |seed| seed.value) }
            }
            ast::rule::Sample::Rate { rate, .. } => SampleSpec::Rate { budget: *rate, seed },
            ast::rule::Sample::Every { period, length } => {
                SampleSpec::Every { period_ns: nanoseconds(*period), length_ns: nanoseconds(*length) }
            }
            ast::rule::Sample::FirstPackets { packets, .. } => {
                SampleSpec::First { limit: FirstLimit::Packets(*packets) }
            }
            ast::rule::Sample::FirstBytes { bytes, .. } => {
                SampleSpec::First { limit: FirstLimit::Bytes(*bytes) }
            }
        }
    }

    pub(super) fn sources_of(
        &mut self,
        list: &[Spanned<ast::rule::RuleSource>],
        definitions: &Definitions<'a>,
    ) -> Vec<PortId> {
        let ports = names_of(&definitions.ports);
        let wires = names_of(&definitions.wires);
        let port = |name: &str| ports.iter().position(|known| known.value == name).map(PortId);
        let wire_of = |name: &str| wires.iter().position(|known| known.value == name).map(WireId);
        let sides = |wire: WireId| definitions.wires[wire].sides.map(|side| port(&side.value));
        let mut sources = Vec::new();
        for from in list {
            let named = match &from.value {
                ast::rule::RuleSource::Any => continue,
                ast::rule::RuleSource::Named(name) => {
                    if let Some(port) = port(name) {
                        vec![port]
                    } else if let Some(wire) = wire_of(name) {
                        sides(wire).into_iter().flatten().collect()
                    } else {
                        let file = &self.parsed.file;
                        if !file.is_excused(NameKind::Port, name) && !file.is_excused(NameKind::Wire, name)
                        {
                            let known: Vec<&Name> = ports.iter().chain(&wires).copied().collect();
                            self.unknown(
                                "port",
                                if wires.is_empty() { "a port" } else { "a port or wire" },
                                name,
                                from.span,
                                &known,
                            );
                        }
                        continue;
                    }
                }
                ast::rule::RuleSource::WireDirection { wire, direction } => {
                    let Some(id) = wire_of(wire) else {
                        if !self.parsed.file.is_excused(NameKind::Wire, wire) {
                            self.unknown("wire", "a wire", wire, from.span, &wires);
                        }
                        continue;
                    };
                    sides(id)[*direction as usize].into_iter().collect()
                }
            };
            for port in named {
                if sources.contains(&port) {
                    let name = &definitions.ports[port].name.value;
                    self.error(Diagnostic::error(from.span, format!("port `{name}` is named twice")));
                }
                sources.push(port);
            }
        }
        sources
    }

    pub(super) fn targets_of(&mut self, names: &[Name], definitions: &Definitions<'a>) -> Vec<Target> {
        let tools = names_of(&definitions.tools);
        let groups = names_of(&definitions.groups);
        let mut targets = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let tool = tools.iter().position(|tool| tool.value == name.value);
            let group = groups.iter().position(|group| group.value == name.value);
            let file = &self.parsed.file;
            let is_excused = file.is_excused(NameKind::Tool, &name.value)
                || file.is_excused(NameKind::Group, &name.value);
            if tool.or(group).is_none() && !is_excused {
                let known: Vec<&Name> = tools.iter().chain(&groups).copied().collect();
                self.unknown("tool", "a tool or group", &name.value, name.span, &known);
            }
            if names[..place].iter().any(|other| other.value == name.value) {
                self.error(Diagnostic::error(name.span, format!("`{}` is named twice", name.value)));
            }
            targets.extend(match tool {
                Some(tool) => Some(Target::Tool(ToolId(tool))),
                None => group.and_then(|group| *self.groups.get(group)?).map(Target::Group),
            });
        }
        targets
    }

    pub(super) fn terms_of(
        &mut self,
        list: &'a [Spanned<Term>],
        definitions: &Definitions<'a>,
    ) -> (Vec<FilterTerm>, Vec<terms::Term>) {
        let (mut filters, mut others) = (Vec::new(), Vec::new());
        for term in list {
            match &term.value {
                Term::Filter(filter) => filters.extend(self.filter_of(filter, definitions)),
                Term::Vni(ids) => others.push(terms::Term::Vni(IdRanges::new(ids.0.iter().copied()))),
                Term::Teid(ids) => others.push(terms::Term::Teid(IdRanges::new(ids.0.iter().copied()))),
                Term::MplsLabel(ids) => {
                    others.push(terms::Term::MplsLabel(IdRanges::new(ids.0.iter().copied())))
                }
                Term::Bytes { offset, value, mask, after } => {
                    let anchor = after.as_ref().map(|after| after.value);
                    others.push(terms::Term::Bytes(BytesTerm::new(anchor, *offset, value, mask)));
                }
            }
        }
        (filters, others)
    }
}

/// Returns whether a term is an expression that has the word `vlan`.
fn names_vlans(term: &Term) -> bool {
    let Term::Filter(filter) = term else { return false };
    let FilterSource::Expression(expression) = &filter.source.value else { return false };
    expression.split(|c: char| !c.is_alphanumeric()).any(|word| word == "vlan")
}

/// Adds a clause to the words that say what a rule matches and samples, if it says some of that.
fn add_words(clause: &RuleClause, all: &mut String) {
    if matches!(clause, RuleClause::Vlan(_) | RuleClause::Match(_) | RuleClause::Sample(_)) {
        all.extend((!all.is_empty()).then_some(' '));
        *all += &clause.to_string();
    }
}

/// Gives the matches of a rule as one expression of libpcap, if they are one.
fn expression(clauses: &[&Spanned<RuleClause>], definitions: &Definitions<'_>) -> Option<String> {
    let mut expressions: Vec<&str> = Vec::new();
    for clause in clauses {
        match &clause.value {
            RuleClause::Vlan(_) => return None,
            RuleClause::Match(terms) => {
                for term in terms {
                    let Term::Filter(filter) = &term.value else { return None };
                    let filter = match &filter.source.value {
                        FilterSource::Named(name) if filter.through.is_none() => {
                            definitions.filters.get(name)?.filter
                        }
                        _ => filter,
                    };
                    let FilterSource::Expression(expression) = &filter.source.value else { return None };
                    if filter.through.is_some() {
                        return None;
                    }
                    expressions.push(expression);
                }
            }
            _ => {}
        }
    }
    match expressions[..] {
        [] => None,
        [one] => Some(one.to_owned()),
        _ => Some(format!("({})", expressions.join(") and ("))),
    }
}

fn all_ports(definitions: &Definitions<'_>) -> Vec<PortId> {
    definitions.ports.ids().collect()
}
