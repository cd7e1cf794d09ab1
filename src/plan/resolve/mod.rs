//! Names -> ids: what the commands of a pipeline file define and refer to, checked against each other.
//!
//! Stands behind the parser and adds to its diagnostics. Commands are gathered first, so that a rule may name a tool that a later
//! line creates; then every reference is looked up, and every mistake is reported.

mod copies;
mod probes;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::devargs::{foreign_frames, oversized_packets, resident_packets};
use super::files::part_of;
use super::progress::{Progress, Stage};
use super::schedule::WeeklyHours;
use super::value::{
    Action, AlarmPlan, CopyPlan, DedupAction, DedupPlan, FilterPlan, GroupId, GroupPlan, Idle, Output, Plan, PortId, PortPlan,
    ReplayPlan, RulePlan, Settings, Stages, Target, ToolId, ToolPlan, Verdict, WireId, WirePlan,
};
use crate::broker::health::HealthSpec;
use crate::datapath::admission::{Class, Thresholds};
use crate::datapath::balance::{Below, Group, GroupSpec, Returns};
use crate::datapath::classify::{FilterTerm, Matcher};
use crate::datapath::copy::ClockQuality;
use crate::datapath::dedup::Ignore;
use crate::datapath::edit::EditPlan;
use crate::datapath::edit::anonymize::Key;
use crate::datapath::flows::{HashId, HashSpec};
use crate::datapath::hash::HashKind;
use crate::datapath::parse::Depth;
use crate::datapath::replay;
use crate::datapath::sample::{Budget, FirstLimit, SampleSpec};
use crate::datapath::shape::Shape;
use crate::datapath::terminate::{Terminator, TunnelKind};
use crate::dpdk::clock::nanoseconds;
use crate::dpdk::mbuf::MOST_REFERENCES;
use crate::dpdk::mempool::DATA_ROOM;
use crate::dpdk::port::MAX_PORTS;
use crate::filter::compile;
use crate::filter::index::{Direction, Prefix, PrefixError, PrefixSet};
use crate::filter::terms::{self, BytesTerm, IdRanges, VlanSet};
use crate::filter::verify::Program;
use crate::headers::layer::LayerSet;
use crate::lang::Parsed;
use crate::lang::ast;
use crate::lang::ast::filter::FilterSource;
use crate::lang::ast::port::{Device, PortOption};
use crate::lang::ast::rule::{RuleClause, Term};
use crate::lang::ast::set::Setting;
use crate::lang::ast::tool::{ToolOption, ToolTarget};
use crate::lang::ast::wire::WireOption;
use crate::lang::ast::{Command, Name, NameKind};
use crate::lang::diagnostic::{Diagnostic, Diagnostics};
use crate::lang::file::read_regular;
use crate::lang::source::{Sources, Span, Spanned};
use crate::lang::suggest::nearest;

/// A plan without its compiled inputs, and what they are compiled from.
pub(super) struct Resolved {
    pub plan: Plan,
    /// By rule of the plan.
    pub rules: Vec<RuleSource>,
}

/// What a rule of the plan was made from.
pub(super) struct RuleSource {
    pub matcher: Matcher,
    pub sample_hash: Option<HashId>,
    /// Where the rule's priority stands.
    pub span: Span,
    /// The rule takes from `any`.
    pub is_from_any: bool,
}

/// Resolves what was parsed; `random_key` is that of the plan before. Every mistake goes to `diagnostics`; the result is of use
/// only if there is none.
pub(super) fn resolve(parsed: &Parsed, random_key: Option<Key>, diagnostics: &mut Diagnostics, progress: &Progress) -> Resolved {
    let mut definitions = Definitions::default();
    let mut resolver = Resolver {
        parsed,
        diagnostics,
        filters: HashMap::new(),
        lists: HashMap::new(),
        hashes: Vec::new(),
        groups: Vec::new(),
        edits: Vec::new(),
        random_key,
        progress,
    };
    for command in &parsed.file.commands {
        resolver.gather(command, &mut definitions);
    }
    for command in &parsed.file.partial {
        resolver.look_up_partial(&command.value, &definitions);
    }
    resolver.finish(&definitions)
}

/// A filter as a line of the language says it.
fn filter_words(filter: &ast::filter::Filter, sources: &Sources) -> String {
    let source = match &filter.source.value {
        FilterSource::Named(name) => name.clone(),
        FilterSource::Expression(expression) => format!("\"{}\"", expression.replace('\\', "\\\\").replace('"', "\\\"")),
        FilterSource::File(path) => format!("file {path}"),
    };
    match &filter.through {
        Some(through) => format!("{source} {}", sources.text(through.span)),
        None => source,
    }
}

#[derive(Default)]
pub(super) struct Definitions<'a> {
    settings: Settings,
    /// Where the first of `set lcores` and `set workers` stands.
    placement: Option<(Span, &'static str)>,
    pub ports: Vec<Port<'a>>,
    pub tools: Vec<Tool<'a>>,
    groups: Vec<GroupDefinition<'a>>,
    wires: Vec<Wire<'a>>,
    filters: NamedFilters<'a>,
    /// By priority, ascending.
    rules: BTreeMap<u32, Rule<'a>>,
    actions: Vec<Action>,
}

impl<'a> Definitions<'a> {
    pub(super) fn named_filters(&self) -> impl Iterator<Item = (&'a Name, &'a ast::filter::Filter)> {
        self.filters.entries.values().copied()
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule<'a>> {
        self.rules.values()
    }

    /// The wire that has a port for a side.
    pub(super) fn wire_of(&self, port: &str) -> Option<&str> {
        let wire = self.wires.iter().find(|wire| wire.sides.iter().any(|side| side.value == port));
        wire.map(|wire| wire.name.value.as_str())
    }
}

/// Filters with names. There may be thousands, and as many rules that name them.
#[derive(Default)]
struct NamedFilters<'a> {
    /// In the order in which they are created.
    entries: BTreeMap<usize, (&'a Name, &'a ast::filter::Filter)>,
    places: HashMap<&'a str, usize>,
}

impl<'a> NamedFilters<'a> {
    fn get(&self, name: &str) -> Option<(&'a Name, &'a ast::filter::Filter)> {
        self.entries.get(self.places.get(name)?).copied()
    }

    /// Creates a filter of a name that none has, or puts it in the place of its namesake.
    fn set(&mut self, name: &'a Name, filter: &'a ast::filter::Filter) {
        let next = self.entries.last_key_value().map_or(0, |(last, _)| last + 1);
        let place = *self.places.entry(&name.value).or_insert(next);
        self.entries.entry(place).or_insert((name, filter)).1 = filter;
    }

    /// Whether there was one.
    fn remove(&mut self, name: &str) -> bool {
        self.places.remove(name).is_some_and(|place| self.entries.remove(&place).is_some())
    }

    fn names(&self) -> Vec<&'a Name> {
        self.entries.values().map(|(name, _)| *name).collect()
    }
}

pub(super) struct Port<'a> {
    pub name: &'a Name,
    pub device: &'a Spanned<Device>,
    pub options: Vec<&'a Spanned<PortOption>>,
    is_stopped: bool,
}

pub(super) struct Tool<'a> {
    pub name: &'a Name,
    pub target: &'a Spanned<ToolTarget>,
    pub options: Vec<&'a Spanned<ToolOption>>,
    is_drained: bool,
}

pub(super) struct GroupDefinition<'a> {
    name: &'a Name,
    options: Vec<&'a Spanned<ast::group::GroupOption>>,
}

pub(super) struct Wire<'a> {
    name: &'a Name,
    sides: [&'a Name; 2],
    options: Vec<&'a Spanned<WireOption>>,
}

pub(super) struct Rule<'a> {
    pub priority: &'a Spanned<u32>,
    pub clauses: Vec<&'a Spanned<RuleClause>>,
    is_enabled: bool,
}

pub(super) struct Resolver<'a> {
    pub parsed: &'a Parsed,
    diagnostics: &'a mut Diagnostics,
    /// Programs by expression: libpcap takes milliseconds for long ones, and rules share filters.
    filters: HashMap<String, Option<Program>>,
    /// Lists of `match file`, by path and what they look through.
    lists: HashMap<(String, LayerSet), Option<FilterTerm>>,
    hashes: Vec<HashSpec>,
    /// By definition: the group of the plan that it became, unless it was refused. A rule's targets come from here, so that there is
    /// no id of what the plan does not have.
    groups: Vec<Option<GroupId>>,
    pub edits: Vec<EditPlan>,
    /// For `anonymize ip` without a key file: one for the plan, so that all its rules replace an address alike.
    pub random_key: Option<Key>,
    progress: &'a Progress,
}

impl<'a> Resolver<'a> {
    fn sources(&self) -> &Sources {
        &self.parsed.sources
    }

    /// Notes a mistake, or a warning.
    pub(super) fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Refuses a word of the grammar whose feature this version does not have.
    fn unavailable(&mut self, span: Span, what: &str) {
        self.error(Diagnostic::error(span, format!("{what}: not available in this version")));
    }

    fn gather(&mut self, command: &'a Spanned<Command>, definitions: &mut Definitions<'a>) {
        match &command.value {
            Command::Set(setting) => {
                self.check_placement(setting, definitions);
                self.set(setting, &mut definitions.settings);
            }
            Command::PortAttach { name, device, options } => {
                if let Some(other) = definitions.ports.iter().find(|port| port.name.value == name.value) {
                    return self.duplicate(NameKind::Port, name, other.name.span);
                }
                let port = Port { name, device, options: options.iter().collect(), is_stopped: false };
                definitions.ports.push(port);
            }
            Command::PortConfig { name, options } => {
                if let Some(index) = self.look_up(NameKind::Port, name, &names_of(&definitions.ports, |port| port.name)) {
                    definitions.ports[index].options.extend(options);
                }
            }
            Command::PortDetach(name) => {
                if let Some(index) = self.look_up(NameKind::Port, name, &names_of(&definitions.ports, |port| port.name)) {
                    definitions.ports.remove(index);
                }
            }
            Command::PortStart(name) | Command::PortStop(name) => {
                if let Some(index) = self.look_up(NameKind::Port, name, &names_of(&definitions.ports, |port| port.name)) {
                    definitions.ports[index].is_stopped = matches!(command.value, Command::PortStop(_));
                }
            }
            Command::ToolCreate { name, target, options } => {
                if let Some(other) = self.known_target(name, definitions) {
                    return self.duplicate(NameKind::Tool, name, other);
                }
                definitions.tools.push(Tool { name, target, options: options.iter().collect(), is_drained: false });
            }
            Command::ToolModify { name, options } => {
                if let Some(index) = self.look_up(NameKind::Tool, name, &names_of(&definitions.tools, |tool| tool.name)) {
                    definitions.tools[index].options.extend(options);
                }
            }
            Command::ToolDestroy(name) => {
                if let Some(index) = self.look_up(NameKind::Tool, name, &names_of(&definitions.tools, |tool| tool.name)) {
                    definitions.tools.remove(index);
                }
            }
            Command::ToolDrain(name) | Command::ToolEnable(name) => {
                if let Some(index) = self.look_up(NameKind::Tool, name, &names_of(&definitions.tools, |tool| tool.name)) {
                    definitions.tools[index].is_drained = matches!(command.value, Command::ToolDrain(_));
                }
            }
            Command::GroupCreate { name, options } => {
                if let Some(other) = self.known_target(name, definitions) {
                    return self.duplicate(NameKind::Group, name, other);
                }
                definitions.groups.push(GroupDefinition { name, options: options.iter().collect() });
            }
            Command::GroupModify { name, options } => {
                if let Some(index) = self.look_up(NameKind::Group, name, &names_of(&definitions.groups, |group| group.name)) {
                    definitions.groups[index].options.extend(options);
                }
            }
            Command::GroupDestroy(name) => {
                if let Some(index) = self.look_up(NameKind::Group, name, &names_of(&definitions.groups, |group| group.name)) {
                    definitions.groups.remove(index);
                }
            }
            Command::WireCreate { name, a, b, options } => {
                if let Some(other) = definitions.wires.iter().find(|wire| wire.name.value == name.value) {
                    return self.duplicate(NameKind::Wire, name, other.name.span);
                }
                definitions.wires.push(Wire { name, sides: [a, b], options: options.iter().collect() });
            }
            Command::WireModify { name, options } => {
                if let Some(index) = self.look_up(NameKind::Wire, name, &names_of(&definitions.wires, |wire| wire.name)) {
                    definitions.wires[index].options.extend(options);
                }
            }
            Command::WireDestroy(name) => {
                if let Some(index) = self.look_up(NameKind::Wire, name, &names_of(&definitions.wires, |wire| wire.name)) {
                    definitions.wires.remove(index);
                }
            }
            Command::FilterCreate { name, filter } => match definitions.filters.get(&name.value) {
                Some((other, _)) => self.duplicate(NameKind::Filter, name, other.span),
                None => definitions.filters.set(name, filter),
            },
            Command::FilterModify { name, filter } => match definitions.filters.get(&name.value) {
                Some(_) => definitions.filters.set(name, filter),
                None => self.unknown_name(NameKind::Filter, name, &definitions.filters.names()),
            },
            Command::FilterDestroy(name) => {
                if !definitions.filters.remove(&name.value) {
                    self.unknown_name(NameKind::Filter, name, &definitions.filters.names());
                }
            }
            Command::RuleCreate { priority, clauses } => {
                if let Some(other) = definitions.rules.get(&priority.value) {
                    let line = self.sources().position(other.priority.span).line;
                    let message = format!("rule {} is defined already", priority.value);
                    let label = format!("expected a priority of its own; line {line} has this one");
                    return self.error(Diagnostic::error(priority.span, message).label(label));
                }
                let rule = Rule { priority, clauses: clauses.iter().collect(), is_enabled: true };
                definitions.rules.insert(priority.value, rule);
            }
            Command::RuleModify { priority, clauses } => {
                if let Some(rule) = self.look_up_rule(priority, definitions) {
                    // a clause that is said again takes the place of the one before
                    rule.clauses.retain(|old| !clauses.iter().any(|new| is_same_clause(&old.value, &new.value)));
                    rule.clauses.extend(clauses);
                }
            }
            Command::RuleEnable(priority) | Command::RuleDisable(priority) => {
                if let Some(rule) = self.look_up_rule(priority, definitions) {
                    rule.is_enabled = matches!(command.value, Command::RuleEnable(_));
                }
            }
            Command::RuleDestroy(priority) => {
                if self.look_up_rule(priority, definitions).is_some() {
                    definitions.rules.remove(&priority.value);
                }
            }
            Command::RuleDestroyAll => definitions.rules.clear(),
            Command::Start => definitions.actions.push(Action::Start),
            Command::Stop => definitions.actions.push(Action::Stop),
            Command::Show(show) => definitions.actions.push(Action::Show(*show)),
            Command::ClearStats => definitions.actions.push(Action::ClearStats),
            Command::Quit => definitions.actions.push(Action::Quit),
        }
    }

    /// Lcores are named or chosen, not both.
    fn check_placement(&mut self, setting: &Setting, definitions: &mut Definitions<'a>) {
        let (span, key) = match setting {
            Setting::Lcores(lcores) => (lcores.span, "lcores"),
            Setting::Workers(workers) => (workers.span, "workers"),
            _ => return,
        };
        let (first, other) = *definitions.placement.get_or_insert((span, key));
        if other != key {
            let line = self.sources().position(first).line;
            let message = format!("`set {key}` beside `set {other}`: lcores are named or chosen, not both");
            self.error(Diagnostic::error(span, message).label(format!("expected one of the two; line {line} has `set {other}`")));
        }
    }

    fn set(&mut self, setting: &'a Setting, settings: &mut Settings) {
        match setting {
            Setting::Burst(burst) => settings.burst = burst.value as usize,
            Setting::Workers(workers) => settings.workers = workers.value as usize,
            Setting::Lcores(lcores) => match &lcores.value {
                ast::set::Lcores::RunToCompletion(list) => (settings.lcores, settings.stages) = (Some(list.clone()), None),
                ast::set::Lcores::Staged { receive, work, transmit } => {
                    let stages = stages(receive, work, transmit);
                    settings.lcores = Some(stages.lcores());
                    let is_whole = stages.receive == stages.work && stages.work == stages.transmit;
                    settings.stages = (!is_whole).then_some(stages);
                }
            },
            Setting::Mempool(count) => match u32::try_from(count.value) {
                Ok(value) => settings.mempool = Some(value),
                Err(_) => {
                    let message = format!("a mempool of {} mbufs is too large", count.value);
                    self.error(Diagnostic::error(count.span, message).label("expected at most 4294967295"));
                }
            },
            Setting::Idle(idle) => {
                settings.idle = match idle.value {
                    ast::set::Idle::Poll => Idle::Poll,
                    ast::set::Idle::Pause => Idle::Pause,
                    ast::set::Idle::Sleep(longest) => Idle::Sleep { longest: longest.unwrap_or(Duration::from_micros(100)) },
                }
            }
            Setting::Flows { entries, idle, max_age } => {
                match usize::try_from(entries.value) {
                    Ok(flows) if flows <= MOST_FLOWS => settings.flows = flows,
                    _ => {
                        let message = format!("a table of {} flows is too large", entries.value);
                        self.error(Diagnostic::error(entries.span, message).label(format!("expected at most {MOST_FLOWS}")));
                    }
                }
                let ns = |duration: &Spanned<Duration>| nanoseconds(duration.value);
                settings.timeouts.idle_ns = idle.as_ref().map_or(settings.timeouts.idle_ns, ns);
                settings.timeouts.absolute_ns = max_age.as_ref().map_or(settings.timeouts.absolute_ns, ns);
            }
            Setting::Eal(args) => settings.eal = args.value.split_whitespace().map(str::to_owned).collect(),
            Setting::Seed(seed) => settings.seed = seed.value,
            Setting::PanicDump(folder) => settings.panic_dump = Some(PathBuf::from(&folder.value)),
            Setting::Clock(reference) => {
                settings.clock = match reference.value {
                    ast::set::Reference::Ntp => ClockQuality::Ntp,
                    ast::set::Reference::Gps => ClockQuality::Gps,
                    ast::set::Reference::Ptp => ClockQuality::Ptp,
                };
            }
        }
    }

    fn duplicate(&mut self, kind: NameKind, name: &Name, other: Span) {
        let line = self.sources().position(other).line;
        let message = format!("{kind} `{}` is defined already", name.value);
        self.error(Diagnostic::error(name.span, message).label(format!("expected a name of its own; line {line} has this one")));
    }

    /// Tools and groups share the names that `to` takes.
    fn known_target(&self, name: &Name, definitions: &Definitions<'_>) -> Option<Span> {
        let tools = definitions.tools.iter().map(|tool| tool.name);
        tools
            .chain(definitions.groups.iter().map(|group| group.name))
            .find(|known| known.value == name.value)
            .map(|known| known.span)
    }

    /// The place of a name among those defined, or a diagnostic.
    pub(super) fn look_up(&mut self, kind: NameKind, name: &Name, known: &[&Name]) -> Option<usize> {
        let found = known.iter().position(|known| known.value == name.value);
        if found.is_none() {
            self.unknown_name(kind, name, known);
        }
        found
    }

    /// A diagnostic for a name that is not among those defined, unless that follows from another mistake.
    fn unknown_name(&mut self, kind: NameKind, name: &Name, known: &[&Name]) {
        if !self.parsed.file.is_excused(kind, &name.value) {
            self.unknown(&kind.to_string(), &format!("a {kind}"), &name.value, name.span, known);
        }
    }

    fn look_up_rule<'d>(&mut self, priority: &Spanned<u32>, definitions: &'d mut Definitions<'a>) -> Option<&'d mut Rule<'a>> {
        let rules = &mut definitions.rules;
        if !rules.contains_key(&priority.value) && !self.parsed.file.is_excused(NameKind::Rule, &priority.value.to_string()) {
            let mut known: Vec<String> = rules.keys().take(MOST_LISTED).map(u32::to_string).collect();
            if rules.len() > MOST_LISTED {
                known.push("…".to_owned());
            }
            let label = if known.is_empty() {
                "no rule is defined".to_owned()
            } else {
                format!("expected a rule; defined are {}", known.join(", "))
            };
            self.error(Diagnostic::error(priority.span, format!("unknown rule `{}`", priority.value)).label(label));
        }
        rules.get_mut(&priority.value)
    }

    fn unknown(&mut self, kind: &str, expected: &str, name: &str, span: Span, known: &[&Name]) {
        let mut listed: Vec<&str> = known.iter().map(|name| name.value.as_str()).take(MOST_LISTED).collect();
        if known.len() > MOST_LISTED {
            listed.push("…");
        }
        let label = if known.is_empty() {
            format!("expected {expected}; none is defined")
        } else {
            format!("expected {expected}; defined are {}", listed.join(", "))
        };
        let mut diagnostic = Diagnostic::error(span, format!("unknown {kind} `{name}`")).label(label);
        if let Some(near) = nearest(name, known.iter().map(|name| name.value.as_str()))
            && let Some(defined) = known.iter().find(|name| name.value == near)
        {
            let line = self.sources().position(defined.span).line;
            diagnostic = diagnostic.help(format!("a {kind} with a similar name exists: `{near}` (line {line})"));
        }
        self.error(diagnostic);
    }

    /// Looks up the names in a command that has a mistake of its own, so that a second mistake is reported in the same run.
    fn look_up_partial(&mut self, command: &'a Command, definitions: &Definitions<'a>) {
        let ports = names_of(&definitions.ports, |port| port.name);
        match command {
            Command::ToolCreate { target: Spanned { value: ToolTarget::Port(port), .. }, .. } => {
                self.look_up(NameKind::Port, port, &ports);
            }
            Command::GroupCreate { options, .. } | Command::GroupModify { options, .. } => {
                for option in options {
                    if let ast::group::GroupOption::Tools(tools) | ast::group::GroupOption::Standby(tools) = &option.value {
                        for tool in tools {
                            self.look_up(NameKind::Tool, tool, &names_of(&definitions.tools, |tool| tool.name));
                        }
                    }
                }
            }
            Command::RuleCreate { clauses, .. } | Command::RuleModify { clauses, .. } => {
                for clause in clauses {
                    match &clause.value {
                        RuleClause::From(sources) => {
                            self.sources_of(sources, definitions);
                        }
                        RuleClause::To(targets) => {
                            self.targets_of(targets, definitions);
                        }
                        RuleClause::Match(terms) => {
                            self.terms_of(terms, definitions);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, definitions: &Definitions<'a>) -> Resolved {
        let ports: Vec<PortPlan> = definitions.ports.iter().map(|port| self.port(port, definitions)).collect();
        if let Some(port) = definitions.ports.get(MAX_PORTS) {
            let message = format!("{} ports are too many", definitions.ports.len());
            self.error(Diagnostic::error(port.name.span, message).label(format!("the DPDK linked here takes at most {MAX_PORTS}")));
        }
        let mut tools: Vec<ToolPlan> = definitions.tools.iter().map(|tool| self.tool(tool, definitions)).collect();
        let mut groups: Vec<GroupPlan> = Vec::new();
        for definition in &definitions.groups {
            let group = self.group(definition, definitions);
            self.groups.push(group.is_some().then_some(GroupId(groups.len())));
            groups.extend(group);
        }
        let mut wires: Vec<WirePlan> = Vec::new();
        for definition in &definitions.wires {
            wires.extend(self.wire(definition, WireId(wires.len()), definitions, &mut tools));
        }
        let progress = self.progress;
        progress.begin(Stage::Filters, definitions.rules.len());
        // where nobody waits any more, no plan is made of them
        let rules = definitions.rules.values().map_while(|rule| progress.step().ok().map(|()| self.rule(rule, definitions)));
        let (rules, sources): (Vec<_>, Vec<_>) = rules.unzip();
        let filters = definitions.filters.entries.values().map(|(name, filter)| {
            self.filter_of(filter, definitions);
            FilterPlan { name: name.value.clone(), words: filter_words(filter, self.sources()) }
        });
        let filters = filters.collect();
        let plan = Plan {
            settings: definitions.settings.clone(),
            ports,
            tools,
            wires,
            groups,
            filters,
            rules,
            edits: std::mem::take(&mut self.edits),
            hashes: std::mem::take(&mut self.hashes),
            inputs: Vec::new(),
            actions: definitions.actions.clone(),
            random_key: self.random_key.clone(),
        };
        self.check_files(definitions);
        self.check_paths(&plan, definitions);
        self.check_fan_out(&plan, &sources);
        Resolved { plan, rules: sources }
    }

    /// A packet can go to so many tools and no more: its mbuf counts its references.
    fn check_fan_out(&mut self, plan: &Plan, sources: &[RuleSource]) {
        for (index, port) in plan.ports.iter().enumerate() {
            let mut targets: Vec<Target> = Vec::new();
            // the original on a wire is one of them
            let room = MOST_REFERENCES - usize::from(plan.wire_at(PortId(index)).is_some());
            for (rule, source) in plan.rules.iter().zip(sources).filter(|(rule, _)| rule.sources.contains(&PortId(index))) {
                for &target in &rule.targets {
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
                if targets.len() > room {
                    let message = format!("a packet of port `{}` would go to {} tools and groups", port.name, targets.len());
                    self.error(
                        Diagnostic::error(source.span, message).label(format!("expected at most {room} of all its rules together")),
                    );
                    break;
                }
            }
        }
    }

    fn port(&mut self, port: &Port<'a>, definitions: &Definitions<'a>) -> PortPlan {
        let (devargs, replay) = match &port.device.value {
            Device::Devargs(devargs) => (devargs.clone(), None),
            Device::Replay { path, speed, loops, max_gap } => {
                let replay = self.replay(port, path, *speed, *loops, *max_gap);
                (self.sources().text(port.device.span).trim_matches('"').to_owned(), Some(replay))
            }
        };
        let device = devargs.split(',').next().unwrap_or("");
        let twin = definitions.ports.iter().take_while(|other| other.name.span != port.name.span).find(|other| {
            match &other.device.value {
                Device::Devargs(other) => !device.is_empty() && other.split(',').next() == Some(device),
                Device::Replay { .. } => false,
            }
        });
        if let Some(twin) = twin {
            let message = format!("device `{device}` is attached already as port `{}`", twin.name.value);
            self.error(
                Diagnostic::error(port.device.span, message).label("expected a device of its own, such as net_pcap0, net_pcap1"),
            );
        }
        if let Some(message) = oversized_packets(&devargs) {
            let label = format!("expected a size of 1 to {DATA_ROOM} bytes: what an mbuf holds");
            self.error(Diagnostic::error(port.device.span, message).label(label));
        }
        if replay.is_none()
            && let Some(foreign) = foreign_frames(&devargs)
        {
            let mut whole = port.device.span;
            let span = part_of(&mut whole, foreign.argument, self.sources()).unwrap_or(port.device.span);
            self.error(Diagnostic::error(span, foreign.message).label(foreign.reason));
        }
        let mut plan = PortPlan {
            name: port.name.value.clone(),
            resident: resident_packets(&devargs),
            devargs,
            rxq: replay.is_some().then_some(1),
            txq: replay.is_some().then_some(0),
            replay,
            terminators: Vec::new(),
            rxd: 1024,
            txd: 1024,
            mtu: None,
            is_promiscuous: true,
            is_stopped: port.is_stopped,
            lcores: None,
        };
        for option in &port.options {
            if plan.replay.is_some() && !matches!(option.value, PortOption::Terminate(_) | PortOption::Lcores(_)) {
                let word = first_word(self.sources().text(option.span)).to_owned();
                let message = format!("`{word}` does not apply to port `{}`", port.name.value);
                self.error(Diagnostic::error(option.span, message).label("expected nothing of the kind: a replay has no queues"));
                continue;
            }
            match &option.value {
                PortOption::Rxq(queues) => plan.rxq = Some(*queues),
                PortOption::Txq(queues) => plan.txq = Some(*queues),
                PortOption::Rxd(descriptors) => plan.rxd = *descriptors,
                PortOption::Txd(descriptors) => plan.txd = *descriptors,
                PortOption::Mtu(mtu) => plan.mtu = Some(*mtu),
                PortOption::Promiscuous(is_promiscuous) => plan.is_promiscuous = *is_promiscuous,
                PortOption::Lcores(lcores) => plan.lcores = Some(lcores.clone()),
                PortOption::Terminate(terminate) => plan.terminators.push(terminator(terminate)),
            }
        }
        let said = |is: fn(&PortOption) -> bool| port.options.iter().rfind(|option| is(&option.value)).map(|option| option.span);
        if plan.rxq == Some(0)
            && let Some(span) = said(|option| matches!(option, PortOption::Lcores(_)))
        {
            let message = format!("`lcores` does not apply to port `{}`, which has no receive queue", plan.name);
            self.error(Diagnostic::error(span, message).label("expected on a port that receives: `lcores` names who polls it"));
        }
        if plan.devargs.starts_with("net_af_xdp") {
            let rxq = said(|option| matches!(option, PortOption::Rxq(_))).zip(plan.rxq);
            let txq = said(|option| matches!(option, PortOption::Txq(_))).zip(plan.txq);
            // what is not said is chosen, and never 0
            let wrong = match (rxq, txq) {
                (Some((span, rxq)), Some((_, txq))) if rxq != txq => Some(span),
                (rxq, txq) => rxq.into_iter().chain(txq).find(|&(_, queues)| queues == 0).map(|(span, _)| span),
            };
            if let Some(span) = wrong {
                let message = "net_af_xdp has as many receive as transmit queues".to_owned();
                self.error(
                    Diagnostic::error(span, message).label("expected neither `rxq` nor `txq`, or the same number, 1 or more"),
                );
            }
        }
        plan
    }

    /// A capture as a port. What its beginning tells against it is an error here; a file that is not there yet is one at the start.
    fn replay(
        &mut self,
        port: &Port<'a>,
        path: &str,
        speed: ast::port::ReplaySpeed,
        loops: ast::port::Loops,
        max_gap: Option<Duration>,
    ) -> ReplayPlan {
        if std::path::Path::new(path).is_file()
            && let Err(reason) = replay::probe(std::path::Path::new(path))
        {
            let message = format!("`{path}` cannot be replayed");
            self.error(Diagnostic::error(port.device.span, message).label(reason));
        }
        let passes = match loops {
            ast::port::Loops::Times(passes) => Some(passes),
            ast::port::Loops::Forever => None,
        };
        ReplayPlan { path: path.to_owned(), speed, passes, max_gap_ns: max_gap.map(nanoseconds) }
    }

    /// Refuses a port that nothing can be sent on.
    fn refuse_replay(&mut self, name: &Name, port: &Port<'a>) {
        if matches!(port.device.value, Device::Replay { .. }) {
            let message = format!("port `{}` is a replay", name.value);
            self.error(Diagnostic::error(name.span, message).label("expected a port that packets can be sent on"));
        }
    }

    fn tool(&mut self, tool: &Tool<'a>, definitions: &Definitions<'a>) -> ToolPlan {
        let mut capture = None;
        let output = match &tool.target.value {
            ToolTarget::Port(name) => {
                let index = self.look_up(NameKind::Port, name, &names_of(&definitions.ports, |port| port.name));
                if let Some(port) = index.map(|index| &definitions.ports[index]) {
                    self.refuse_replay(name, port);
                }
                if let Some(port) = index.map(|index| &definitions.ports[index])
                    && port.options.iter().any(|option| option.value == PortOption::Txq(0))
                {
                    let message = format!("port `{}` has no transmit queue", name.value);
                    self.error(Diagnostic::error(name.span, message).label("expected a port with txq 1 or more"));
                }
                index.map_or(Output::Discard, |index| Output::Port(PortId(index)))
            }
            ToolTarget::Discard => Output::Discard,
            ToolTarget::Capture(path) => {
                capture = Some(path.value.clone().into());
                Output::Capture
            }
        };
        let health = match output {
            Output::Capture if definitions.ports.iter().any(is_flat_out) => HealthSpec::WAITED_FOR,
            Output::Capture => HealthSpec::FILE,
            Output::Port(_) | Output::Discard => HealthSpec::LOCAL,
        };
        let mut plan = ToolPlan {
            name: tool.name.value.clone(),
            output,
            capture,
            queue: DEFAULT_QUEUE,
            queue_bytes: None,
            thresholds: None,
            shape: None,
            alarm: None,
            order_ns: None,
            wire: None,
            health,
            heartbeat: None,
            echo: None,
            is_drained: tool.is_drained,
            copy: CopyPlan::default(),
        };
        let mut words = CopyWords::default();
        let (mut heartbeat, mut echo) = (None, None);
        for option in &tool.options {
            if let Some(misplaced) = self.misplaced_option(tool, option) {
                self.error(misplaced);
                continue;
            }
            match &option.value {
                ToolOption::Transport(transport) => words.transport = Some(Spanned::new(transport, option.span)),
                ToolOption::Timestamp(format) => words.timestamp = Some(Spanned::new(*format, option.span)),
                ToolOption::Mtu(mtu) => words.mtu = Some(Spanned::new(*mtu, option.span)),
                ToolOption::Oversize(oversize) => words.oversize = Some(Spanned::new(*oversize, option.span)),
                ToolOption::Edit(edit) => words.edits.push(Spanned::new(edit, option.span)),
                ToolOption::Heartbeat { probe, back } => heartbeat = Some((Spanned::new(probe, option.span), back.as_ref())),
                ToolOption::Echo(probe) => echo = Some(Spanned::new(probe, option.span)),
                ToolOption::DownAfter(duration) => plan.health.stall_ns = nanoseconds(*duration),
                ToolOption::UpAfter(duration) => plan.health.up_after_ns = nanoseconds(*duration),
                ToolOption::Queue { packets, bytes } if (1..=MOST_QUEUE).contains(packets) => {
                    plan.queue = *packets as usize;
                    plan.queue_bytes = bytes.as_ref().map(|bytes| bytes.value);
                }
                ToolOption::Queue { .. } => {
                    let message = "this queue is out of range".to_owned();
                    self.error(Diagnostic::error(option.span, message).label(format!("expected 1 to {MOST_QUEUE} packets")));
                }
                ToolOption::Thresholds { low, normal } => plan.thresholds = Some(Thresholds { low: *low, normal: *normal }),
                ToolOption::Alarm { percent, hold } => {
                    let hold = hold.as_ref().map_or(AlarmPlan::DEFAULT_HOLD, |hold| hold.value);
                    plan.alarm = Some(AlarmPlan { percent: *percent, hold });
                }
                ToolOption::Order(window) if *window <= LONGEST_ORDER_WINDOW => plan.order_ns = Some(nanoseconds(*window)),
                ToolOption::Order(_) => {
                    self.error(Diagnostic::error(option.span, "this window is too long").label("expected at most 1m"));
                }
                ToolOption::Rate { rate, burst } => {
                    let burst = burst.as_ref().map_or(Shape::DEFAULT_BURST, |burst| burst.value);
                    plan.shape = Some(Shape { rate: budget(rate.value), burst });
                }
                _ => {
                    let word = first_word(self.sources().text(option.span)).to_owned();
                    self.unavailable(option.span, &format!("`{word}`"));
                }
            }
        }
        let port = match output {
            Output::Port(PortId(port)) => Some(&definitions.ports[port]),
            Output::Discard | Output::Capture => None,
        };
        plan.copy = self.copy_plan(&words, port);
        plan.health.needs_next_hop = plan.copy.asks_for_next_hop();
        if let Some((probe, back)) = heartbeat {
            self.heartbeat(&mut plan, &probe, back, definitions);
        }
        if let Some(probe) = echo {
            self.echo(&mut plan, &probe, definitions);
        }
        plan
    }

    /// What is wrong with an option that means nothing for where the tool's copies go.
    fn misplaced_option(&self, tool: &Tool<'a>, option: &Spanned<ToolOption>) -> Option<Diagnostic> {
        use ToolOption::{Alarm, DownAfter, Order, Queue, Rate, Thresholds, Transport, UpAfter};
        const OF_PORTS: &str = "expected on a tool that sends through a port";
        let of_target = match &tool.target.value {
            ToolTarget::Port(_) => return None,
            ToolTarget::Capture(_) => "capture",
            ToolTarget::Discard => "discard",
        };
        let is_capture = of_target == "capture";
        let (word, span, label) = match &option.value {
            Queue { bytes: Some(bytes), .. } if is_capture => ("bytes", bytes.span, OF_PORTS),
            Transport(_) | Rate { .. } | Thresholds { .. } => (first_word(self.sources().text(option.span)), option.span, OF_PORTS),
            Queue { .. } | Alarm { .. } | Order(_) | DownAfter(_) | UpAfter(_) if !is_capture => {
                let label = "expected on a tool that sends or writes: nothing waits for this one";
                (first_word(self.sources().text(option.span)), option.span, label)
            }
            _ => return None,
        };
        let message = format!("`{word}` does not apply to {of_target} `{}`", tool.name.value);
        Some(Diagnostic::error(span, message).label(label))
    }

    /// A wire, which is to be `id`, and whose two directions are added to `tools`.
    fn wire(&mut self, wire: &Wire<'a>, id: WireId, definitions: &Definitions<'a>, tools: &mut Vec<ToolPlan>) -> Option<WirePlan> {
        let known = names_of(&definitions.ports, |port| port.name);
        if let Some(port) = known.iter().find(|port| port.value == wire.name.value) {
            let line = self.sources().position(port.span).line;
            let message = format!("wire `{}` has the name of a port", wire.name.value);
            let label = format!("expected a name that no port has; line {line} has this one");
            self.error(Diagnostic::error(wire.name.span, message).label(label));
        }
        let mut ports = Vec::new();
        for &side in &wire.sides {
            let Some(index) = self.look_up(NameKind::Port, side, &known) else { continue };
            self.refuse_replay(side, &definitions.ports[index]);
            let terminates = |option: &&Spanned<PortOption>| matches!(option.value, PortOption::Terminate(_));
            if let Some(option) = definitions.ports[index].options.iter().copied().find(terminates) {
                let message = format!("port `{}` is a side of a wire, which forwards what it receives unmodified", side.value);
                self.error(Diagnostic::error(option.span, message).label("expected on a port that is no side of a wire"));
            }
            let refusal = |option: PortOption, lacks: &str, remedy: &str| {
                let is_said = definitions.ports[index].options.iter().any(|said| said.value == option);
                is_said.then(|| {
                    Diagnostic::error(side.span, format!("port `{}` has no {lacks} queue", side.value)).label(remedy.to_owned())
                })
            };
            let refusals = [
                refusal(PortOption::Rxq(0), "receive", "expected a port with rxq 1 or more"),
                refusal(PortOption::Txq(0), "transmit", "expected a port with txq 1 or more"),
            ];
            refusals.into_iter().flatten().for_each(|diagnostic| self.error(diagnostic));
            let earlier = definitions.wires.iter().take_while(|other| !std::ptr::eq(other.name, wire.name));
            let twin = earlier.flat_map(|other| other.sides).find(|other| other.value == side.value);
            if ports.contains(&PortId(index)) || twin.is_some() {
                let message = format!("port `{}` is a side of a wire already", side.value);
                self.error(Diagnostic::error(side.span, message).label("expected a port that no wire has"));
            }
            // copies would take the originals' place in the transmit queue
            let tool = definitions.tools.iter().find_map(|tool| match &tool.target.value {
                ToolTarget::Port(port) if port.value == side.value => Some((tool, port)),
                _ => None,
            });
            if let Some((tool, port)) = tool {
                let message =
                    format!("tool `{}` sends on port `{}`, a side of wire `{}`", tool.name.value, side.value, wire.name.value);
                self.error(Diagnostic::error(port.span, message).label("expected a port that no wire has"));
            }
            ports.push(PortId(index));
        }
        let &[a, b] = ports.as_slice() else { return None };
        let mut plan = WirePlan {
            name: wire.name.value.clone(),
            ports: [a, b],
            ways: [ToolId(tools.len()), ToolId(tools.len() + 1)],
            is_bypass: false,
            propagates_link: false,
        };
        for option in &wire.options {
            match option.value {
                WireOption::Bypass(is_on) => plan.is_bypass = is_on,
                WireOption::PropagateLink(is_on) => plan.propagates_link = is_on,
            }
        }
        for (direction, to) in [("a-to-b", b), ("b-to-a", a)] {
            tools.push(ToolPlan {
                name: format!("{}:{direction}", wire.name.value),
                output: Output::Port(to),
                order_ns: None,
                capture: None,
                queue: DEFAULT_QUEUE,
                queue_bytes: None,
                thresholds: None,
                shape: None,
                alarm: None,
                wire: Some(id),
                health: HealthSpec::LOCAL,
                heartbeat: None,
                echo: None,
                is_drained: false,
                copy: CopyPlan::default(),
            });
        }
        Some(plan)
    }

    fn group(&mut self, group: &GroupDefinition<'a>, definitions: &Definitions<'a>) -> Option<GroupPlan> {
        let (mut members, mut standbys): (&[Name], &[Name]) = (&[], &[]);
        let mut min_up = (0, Below::Spread);
        let mut returns = Returns::AtOnce;
        let mut weights: Option<&[Spanned<u32>]> = None;
        let mut spec = HashSpec { kind: HashKind::FiveTuple, depth: Depth::Outer, seed: definitions.settings.seed };
        let mut discard_percent = 0;
        for option in &group.options {
            match &option.value {
                ast::group::GroupOption::Tools(tools) => members = tools,
                ast::group::GroupOption::Weights(list) => weights = Some(list),
                ast::group::GroupOption::Hash(hash) => (spec.kind, spec.depth) = hash_of(hash),
                ast::group::GroupOption::Discard { percent } => discard_percent = u32::from(*percent),
                ast::group::GroupOption::Standby(tools) => standbys = tools,
                ast::group::GroupOption::MinUp { count, below } => {
                    min_up = (
                        *count as usize,
                        below.as_ref().map_or(Below::Spread, |below| match below.value {
                            ast::group::Below::Drop => Below::Drop,
                            ast::group::Below::Spread => Below::Spread,
                        }),
                    );
                }
                ast::group::GroupOption::Return(ast::group::Return::Now) => returns = Returns::AtOnce,
                ast::group::GroupOption::Return(ast::group::Return::Idle(duration)) => {
                    returns = Returns::WhenIdle { idle_ns: nanoseconds(*duration) };
                }
            }
        }
        let known = names_of(&definitions.tools, |tool| tool.name);
        let mut tools = Vec::new();
        let all: Vec<&Name> = members.iter().chain(standbys).collect();
        for (place, &name) in all.iter().enumerate() {
            if all[..place].iter().any(|other| other.value == name.value) {
                self.error(Diagnostic::error(name.span, format!("tool `{}` is in this group already", name.value)));
            }
            tools.extend(self.look_up(NameKind::Tool, name, &known).map(ToolId));
        }
        if members.is_empty() {
            let message = format!("group `{}` has no tools", group.name.value);
            self.error(Diagnostic::error(group.name.span, message).label("expected `tools NAME,NAME…`"));
        }
        let weights: Vec<u32> = match weights {
            Some(list) if list.len() != members.len() => {
                let span = list.first().map_or(group.name.span, |first| first.span.to(list[list.len() - 1].span));
                let message = format!("{} weights for {} tools", list.len(), members.len());
                self.error(Diagnostic::error(span, message).label("expected a weight for each tool"));
                return None;
            }
            Some(list) => list.iter().map(|weight| weight.value).collect(),
            None => vec![1; members.len()],
        };
        if tools.len() != all.len() || members.is_empty() {
            return None;
        }
        // percent of all buckets: discard / (discard + sum of weights), in whole numbers
        let sum: u32 = weights.iter().sum();
        let scale = if discard_percent == 0 { 1 } else { 100 - discard_percent.min(99) };
        let group_spec = GroupSpec {
            weights: weights.iter().map(|weight| weight.saturating_mul(scale)).collect(),
            discard_weight: discard_percent.min(99).saturating_mul(sum),
            seed: definitions.settings.seed,
            standbys: standbys.len(),
            min_up: min_up.0,
            below: min_up.1,
            returns,
            ..GroupSpec::equal(members.len())
        };
        match Group::new(group_spec.clone()) {
            Ok(_) => Some(GroupPlan { name: group.name.value.clone(), members: tools, spec: group_spec, hash: self.hash_id(spec) }),
            Err(error) => {
                self.error(Diagnostic::error(group.name.span, error.to_string()));
                None
            }
        }
    }

    fn rule(&mut self, rule: &Rule<'a>, definitions: &Definitions<'a>) -> (RulePlan, RuleSource) {
        let all_ports = || (0..definitions.ports.len()).map(PortId).collect::<Vec<_>>();
        let mut plan = RulePlan {
            priority: rule.priority.value,
            sources: all_ports(),
            edits: None,
            duplicate_edits: None,
            words: String::new(),
            dedup: None,
            sample: None,
            schedule: None,
            limit: None,
            is_enabled: rule.is_enabled,
            targets: Vec::new(),
            verdict: Verdict::Continue,
            class: None,
        };
        let mut source = RuleSource { matcher: Matcher::default(), sample_hash: None, span: rule.priority.span, is_from_any: true };
        let mut goes_to: Option<Span> = None;
        let mut drops: Option<Span> = None;
        let mut sampled: Option<Span> = None;
        let mut deduped: Option<(Span, &ast::rule::Dedup)> = None;
        let mut edits: Vec<Spanned<&ast::edit::Edit>> = Vec::new();
        for clause in &rule.clauses {
            if matches!(clause.value, RuleClause::Vlan(_) | RuleClause::Match(_) | RuleClause::Sample(_)) {
                let words = self.sources().text(clause.span).split_whitespace().filter(|word| *word != "\\");
                for word in words {
                    plan.words.extend((!plan.words.is_empty()).then_some(' '));
                    plan.words.push_str(word);
                }
            }
            match &clause.value {
                RuleClause::From(list) => {
                    source.is_from_any = list.iter().any(|from| from.value == ast::rule::RuleSource::Any);
                    plan.sources = if source.is_from_any { all_ports() } else { self.sources_of(list, definitions) };
                }
                RuleClause::Vlan(ranges) => {
                    source.matcher.vlans = Some(VlanSet::new(ranges.0.iter().copied()));
                }
                RuleClause::Match(terms) => {
                    let (filters, terms) = self.terms_of(terms, definitions);
                    source.matcher.filters.extend(filters);
                    source.matcher.terms.extend(terms);
                }
                RuleClause::Sample(sample) => {
                    sampled = Some(clause.span);
                    let spec = Self::sample(sample, definitions.settings.seed);
                    plan.sample = Some(spec);
                    if spec.needs_hashes() {
                        let (kind, depth) = self.sample_hash(sample);
                        // not keyed with the seed: the sampler mixes its own in
                        source.sample_hash = Some(self.hash_id(HashSpec { kind, depth, seed: 0 }));
                    }
                }
                RuleClause::To(names) => {
                    goes_to = Some(clause.span);
                    plan.targets = self.targets_of(names, definitions);
                }
                RuleClause::Final => plan.verdict = if drops.is_some() { Verdict::Drop } else { Verdict::Final },
                RuleClause::Drop => {
                    drops = Some(clause.span);
                    plan.verdict = Verdict::Drop;
                }
                RuleClause::Class(class) => {
                    plan.class = Some(match class {
                        ast::rule::Class::High => Class::High,
                        ast::rule::Class::Normal => Class::Normal,
                        ast::rule::Class::Low => Class::Low,
                    });
                }
                RuleClause::Dedup(dedup) => deduped = Some((clause.span, dedup)),
                RuleClause::Active(active) => {
                    let hours = self.hours(active);
                    plan.schedule.get_or_insert_default().hours = hours;
                }
                RuleClause::Until(until_ns) => plan.schedule.get_or_insert_default().until_ns = Some(*until_ns),
                RuleClause::For(duration) => plan.schedule.get_or_insert_default().for_ns = Some(nanoseconds(*duration)),
                RuleClause::Limit(packets) => plan.limit = Some(*packets),
                RuleClause::Edit(edit) => edits.push(Spanned::new(edit, clause.span)),
            }
        }
        match (goes_to, drops) {
            (None, None) => {
                let message = format!("rule {} does nothing", rule.priority.value);
                self.error(Diagnostic::error(rule.priority.span, message).label("expected `to TOOL,…` or `drop` in this rule"));
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
        plan.edits = self.edits_of(&edits);
        if let (Some(_), Some(edit)) = (drops, edits.first()) {
            let message = "a rule that drops has no copies to edit";
            self.error(Diagnostic::error(edit.span, message).label("expected no edits beside `drop`"));
        }
        if let (Some(_), Some(sampled)) = (drops, sampled) {
            self.error(
                Diagnostic::error(sampled, "a rule that drops has nothing to sample").label("expected no `sample` beside `drop`"),
            );
        }
        if let Some((span, dedup)) = deduped {
            if drops.is_some() {
                let message = "a rule that drops has no duplicates to leave out";
                self.error(Diagnostic::error(span, message).label("expected no `dedup` beside `drop`"));
            }
            plan.dedup = Some(self.dedup(dedup, &plan.sources, definitions));
            if dedup.action.as_ref().is_some_and(|action| action.value == ast::rule::DedupAction::Tag) {
                let vlan = dedup.tag_vlan.as_ref().map_or(DUPLICATE_VLAN, |vlan| vlan.value);
                plan.duplicate_edits = self.marked_edits_of(plan.edits, vlan, span);
            }
        }
        (plan, source)
    }

    fn hours(&mut self, active: &ast::rule::Schedule) -> Option<WeeklyHours> {
        let zone = match &active.zone {
            None => TimeZone::system(),
            Some(name) => match TimeZone::get(&name.value) {
                Ok(zone) => zone,
                Err(_) => {
                    let message = format!("unknown time zone `{}`", name.value);
                    let label = "expected a name of the system's time zone database, such as Europe/Berlin or UTC";
                    self.error(Diagnostic::error(name.span, message).label(label));
                    return None;
                }
            },
        };
        let spans = active.windows.iter().map(|window| (window.days, window.from_minute, window.until_minute));
        Some(WeeklyHours::of(spans, zone))
    }

    /// `sources` are the rule's.
    fn dedup(&mut self, dedup: &ast::rule::Dedup, sources: &[PortId], definitions: &Definitions<'a>) -> DedupPlan {
        let has = |field| dedup.ignore.iter().any(|ignored| ignored.value == field);
        let known = names_of(&definitions.ports, |port| port.name);
        let mut scope = Vec::new();
        for name in &dedup.scope {
            let Some(index) = self.look_up(NameKind::Port, name, &known) else { continue };
            if !sources.contains(&PortId(index)) {
                let message = format!("the rule takes nothing from port `{}`", name.value);
                self.error(Diagnostic::error(name.span, message).label("expected a port that stands in `from`"));
            }
            if !scope.contains(&PortId(index)) {
                scope.push(PortId(index));
            }
        }
        let action = match &dedup.action {
            None => DedupAction::Drop,
            Some(action) => match action.value {
                ast::rule::DedupAction::Drop => DedupAction::Drop,
                ast::rule::DedupAction::Count => DedupAction::Count,
                ast::rule::DedupAction::Tag => DedupAction::Tag,
            },
        };
        if let Some(memory) = &dedup.memory
            && !(LEAST_DEDUP_MEMORY..=MOST_DEDUP_MEMORY).contains(&memory.value)
        {
            self.error(Diagnostic::error(memory.span, "this much memory is out of range").label("expected 64Ki to 64Gi"));
        }
        if dedup.window.value > LONGEST_DEDUP_WINDOW {
            self.error(Diagnostic::error(dedup.window.span, "this window is too long").label("expected at most 1h"));
        }
        DedupPlan {
            window_ns: nanoseconds(dedup.window.value),
            ignore: Ignore {
                ttl: has(ast::rule::DedupIgnore::Ttl),
                tos: has(ast::rule::DedupIgnore::Tos),
                vlan: has(ast::rule::DedupIgnore::Vlan),
                mac: has(ast::rule::DedupIgnore::Mac),
                tcp_seq: has(ast::rule::DedupIgnore::TcpSeq),
            },
            scope: if scope.is_empty() { sources.to_vec() } else { scope },
            action,
            memory: dedup.memory.as_ref().map_or(DEFAULT_DEDUP_MEMORY, |memory| memory.value),
        }
    }

    /// What makes packets one flow for a sampler.
    fn sample_hash(&mut self, sample: &ast::rule::Sample) -> (HashKind, Depth) {
        let hash = match sample {
            ast::rule::Sample::Flow { hash, .. }
            | ast::rule::Sample::FirstPackets { hash, .. }
            | ast::rule::Sample::FirstBytes { hash, .. }
            | ast::rule::Sample::Rate { hash, .. } => hash.as_ref(),
            ast::rule::Sample::Count { .. } | ast::rule::Sample::Random { .. } | ast::rule::Sample::Every { .. } => None,
        };
        let Some(hash) = hash else { return (HashKind::FiveTuple, Depth::Outer) };
        if hash.kind.value == ast::group::HashKind::Rss {
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
            ast::rule::Sample::Rate { rate, .. } => SampleSpec::Rate { budget: budget(*rate), seed },
            ast::rule::Sample::Every { period, length } => {
                SampleSpec::Every { period_ns: nanoseconds(*period), length_ns: nanoseconds(*length) }
            }
            ast::rule::Sample::FirstPackets { packets, .. } => SampleSpec::First { limit: FirstLimit::Packets(*packets) },
            ast::rule::Sample::FirstBytes { bytes, .. } => SampleSpec::First { limit: FirstLimit::Bytes(*bytes) },
        }
    }

    fn sources_of(&mut self, list: &[Spanned<ast::rule::RuleSource>], definitions: &Definitions<'a>) -> Vec<PortId> {
        let ports = names_of(&definitions.ports, |port| port.name);
        let wires = names_of(&definitions.wires, |wire| wire.name);
        let port = |name: &str| ports.iter().position(|known| known.value == name).map(PortId);
        let sides = |wire: usize| definitions.wires[wire].sides.map(|side| port(&side.value));
        let mut sources = Vec::new();
        for from in list {
            let named = match &from.value {
                ast::rule::RuleSource::Any => continue,
                ast::rule::RuleSource::Named(name) => {
                    if let Some(port) = port(name) {
                        vec![port]
                    } else if let Some(wire) = wires.iter().position(|known| known.value == *name) {
                        sides(wire).into_iter().flatten().collect()
                    } else {
                        let file = &self.parsed.file;
                        if !file.is_excused(NameKind::Port, name) && !file.is_excused(NameKind::Wire, name) {
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
                    let Some(index) = wires.iter().position(|known| known.value == *wire) else {
                        if !self.parsed.file.is_excused(NameKind::Wire, wire) {
                            self.unknown("wire", "a wire", wire, from.span, &wires);
                        }
                        continue;
                    };
                    let side = match direction {
                        ast::wire::WireDirection::AToB => 0,
                        ast::wire::WireDirection::BToA => 1,
                    };
                    sides(index)[side].into_iter().collect()
                }
            };
            for port in named {
                if sources.contains(&port) {
                    let name = &definitions.ports[port.0].name.value;
                    self.error(Diagnostic::error(from.span, format!("port `{name}` is named twice")));
                }
                sources.push(port);
            }
        }
        sources
    }

    fn targets_of(&mut self, names: &[Name], definitions: &Definitions<'a>) -> Vec<Target> {
        let tools = names_of(&definitions.tools, |tool| tool.name);
        let groups = names_of(&definitions.groups, |group| group.name);
        let mut targets = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let tool = tools.iter().position(|tool| tool.value == name.value);
            let group = groups.iter().position(|group| group.value == name.value);
            let file = &self.parsed.file;
            let is_excused = file.is_excused(NameKind::Tool, &name.value) || file.is_excused(NameKind::Group, &name.value);
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

    fn terms_of(&mut self, list: &'a [Spanned<Term>], definitions: &Definitions<'a>) -> (Vec<FilterTerm>, Vec<terms::Term>) {
        let (mut filters, mut others) = (Vec::new(), Vec::new());
        for term in list {
            match &term.value {
                Term::Filter(filter) => filters.extend(self.filter_of(filter, definitions)),
                Term::Vni(ids) => others.push(terms::Term::Vni(IdRanges::new(ids.0.iter().copied()))),
                Term::Teid(ids) => others.push(terms::Term::Teid(IdRanges::new(ids.0.iter().copied()))),
                Term::MplsLabel(ids) => others.push(terms::Term::MplsLabel(IdRanges::new(ids.0.iter().copied()))),
                Term::Bytes { offset, value, mask, after } => {
                    let anchor = match after.as_ref().map(|after| after.value) {
                        None => terms::Anchor::Frame,
                        Some(ast::edit::Anchor::L2) => terms::Anchor::L2,
                        Some(ast::edit::Anchor::L3) => terms::Anchor::L3,
                        Some(ast::edit::Anchor::L4) => terms::Anchor::L4,
                        Some(ast::edit::Anchor::InnerL4) => terms::Anchor::InnerL4,
                    };
                    others.push(terms::Term::Bytes(BytesTerm::new(anchor, *offset, value, mask)));
                }
            }
        }
        (filters, others)
    }

    /// The filter that a rule names or writes; the layers that the rule looks through win over those of the filter's definition.
    fn filter_of(&mut self, filter: &'a ast::filter::Filter, definitions: &Definitions<'a>) -> Option<FilterTerm> {
        let FilterSource::Named(name) = &filter.source.value else {
            return self.written_filter(filter, filter.through.as_ref());
        };
        let Some((_, defined)) = definitions.filters.get(name) else {
            if !self.parsed.file.is_excused(NameKind::Filter, name) {
                let known = definitions.filters.names();
                self.unknown("filter", "a filter or an expression in quotes", name, filter.source.span, &known);
            }
            return None;
        };
        self.written_filter(defined, filter.through.as_ref().or(defined.through.as_ref()))
    }

    /// A filter that is written out. It is compiled, and its mistakes reported, once, however many rules use it.
    fn written_filter(&mut self, filter: &ast::filter::Filter, through: Option<&Spanned<LayerSet>>) -> Option<FilterTerm> {
        let through = through.map(|through| through.value).unwrap_or_default();
        match &filter.source.value {
            FilterSource::Expression(expression) => {
                let program = match self.filters.get(expression) {
                    Some(known) => known.clone(),
                    None => self.compile(expression, filter.source.span),
                };
                Some(FilterTerm { programs: vec![program?], prefixes: None, through })
            }
            FilterSource::File(path) => self.filter_list(path, filter.source.span, through),
            FilterSource::Named(_) => None,
        }
    }

    fn compile(&mut self, expression: &str, span: Span) -> Option<Program> {
        self.progress.go_on().ok()?;
        let program = match compile::compile(expression) {
            Ok(program) => Some(program),
            Err(error) => {
                let message = "this expression is not a filter".to_owned();
                self.error(Diagnostic::error(span, message).label(format!("libpcap: {error}")));
                None
            }
        };
        self.filters.insert(expression.to_owned(), program.clone());
        program
    }

    /// Reads a list of prefixes and expressions, one a line; `#` begins a comment.
    fn filter_list(&mut self, path: &str, span: Span, through: LayerSet) -> Option<FilterTerm> {
        let key = (path.to_owned(), through);
        if let Some(known) = self.lists.get(&key) {
            return known.clone();
        }
        let list = match read_list(path, through, self.progress) {
            Ok(list) => Some(list),
            Err(reason) => {
                self.error(Diagnostic::error(span, reason).label("expected a list of prefixes or expressions, one a line"));
                None
            }
        };
        self.lists.insert(key, list.clone());
        list
    }

    pub(super) fn hash_id(&mut self, spec: HashSpec) -> HashId {
        let place = self.hashes.iter().position(|known| *known == spec).unwrap_or_else(|| {
            self.hashes.push(spec);
            self.hashes.len() - 1
        });
        HashId(place)
    }
}

/// What a tool says of its copies.
#[derive(Default)]
pub(super) struct CopyWords<'a> {
    pub transport: Option<Spanned<&'a ast::tool::Transport>>,
    pub timestamp: Option<Spanned<ast::tool::TimestampFormat>>,
    pub mtu: Option<Spanned<u16>>,
    pub oversize: Option<Spanned<ast::tool::Oversize>>,
    pub edits: Vec<Spanned<&'a ast::edit::Edit>>,
}

/// The VLAN of the tag on duplicates unless `action tag VLAN` says otherwise: the last that there is, and so the least likely to be
/// in use.
const DUPLICATE_VLAN: u16 = 4094;
/// What a rule's dedup remembers unless `memory` says otherwise: 50 ms of 6 million packets a second.
const DEFAULT_DEDUP_MEMORY: u64 = 16 << 20;
const LEAST_DEDUP_MEMORY: u64 = 64 << 10;
const MOST_DEDUP_MEMORY: u64 = 64 << 30;
const LONGEST_DEDUP_WINDOW: Duration = Duration::from_secs(3600);

/// What a tool with `order` may hold copies for.
const LONGEST_ORDER_WINDOW: Duration = Duration::from_secs(60);

/// Packets that may wait for a tool where its `queue` does not say.
const DEFAULT_QUEUE: usize = 4096;
/// The longest queue: an rte_ring of that many slots is 8 MiB.
const MOST_QUEUE: u64 = 1 << 20;

/// Prefixes of a list that may be looked up through layers: each becomes a program of its own there.
const MOST_INNER_PREFIXES: usize = 4096;

/// Bytes of a list: room for 3 million prefixes of IPv4.
const MOST_LIST_BYTES: u64 = 64 << 20;

/// Reads the file of `match file`.
fn read_list(path: &str, through: LayerSet, progress: &Progress) -> Result<FilterTerm, String> {
    let read = read_regular(Path::new(path), MOST_LIST_BYTES);
    let read = read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    let text = read.map_err(|reason| format!("`{path}` cannot be read: {reason}"))?;
    let (mut prefixes, mut programs): (Vec<Prefix>, Vec<Program>) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        progress.go_on().map_err(|gone| gone.to_string())?;
        let entry = line.split('#').next().unwrap_or("").trim();
        if entry.is_empty() {
            continue;
        }
        match entry.parse::<Prefix>() {
            Ok(prefix) if through.is_empty() => prefixes.push(prefix),
            Err(PrefixError::Syntax) | Ok(_) => {
                let is_prefix = entry.parse::<Prefix>().is_ok();
                if is_prefix && programs.len() >= MOST_INNER_PREFIXES {
                    return Err(format!(
                        "`{path}` has more than {MOST_INNER_PREFIXES} prefixes, too many to look up `through` layers"
                    ));
                }
                let expression = if is_prefix { format!("net {entry}") } else { entry.to_owned() };
                let program = compile::compile(&expression).map_err(|error| format!("`{path}` line {}: {error}", index + 1))?;
                programs.push(program);
            }
            Err(error) => return Err(format!("`{path}` line {}: {error}", index + 1)),
        }
    }
    if prefixes.is_empty() && programs.is_empty() {
        return Err(format!("`{path}` has no entries"));
    }
    let prefixes = (!prefixes.is_empty()).then(|| Arc::new(PrefixSet::new(&prefixes, Direction::Either)));
    Ok(FilterTerm { programs, prefixes, through })
}

/// Names that an error lists.
const MOST_LISTED: usize = 12;

/// The largest flow table: 36 GB.
const MOST_FLOWS: usize = 1_000_000_000;

/// A stage that is left out runs on its neighbour's lcores: those of work, and for work those of receive or else transmit.
fn stages(receive: &[u32], work: &[u32], transmit: &[u32]) -> Stages {
    let first = |lists: [&[u32]; 3]| lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default().to_vec();
    Stages {
        receive: first([receive, work, transmit]),
        work: first([work, receive, transmit]),
        transmit: first([transmit, work, receive]),
    }
}

fn terminator(terminate: &ast::port::Terminate) -> Terminator {
    let kind = match terminate.tunnel.value {
        ast::port::TunnelIn::Vxlan => TunnelKind::Vxlan,
        ast::port::TunnelIn::Geneve => TunnelKind::Geneve,
        ast::port::TunnelIn::Gre => TunnelKind::Gre,
        ast::port::TunnelIn::Erspan => TunnelKind::Erspan,
        ast::port::TunnelIn::Gtp => TunnelKind::Gtp,
        ast::port::TunnelIn::Rspan => TunnelKind::Rspan,
    };
    Terminator {
        kind,
        to: terminate.to.as_ref().map(|to| to.value),
        identifiers: terminate.ids.iter().flat_map(|ids| &ids.value.0).map(|&(first, last)| first..=last).collect(),
        udp_port: terminate.udp_port.as_ref().map(|port| port.value),
    }
}

/// Whether a port is a replay that waits for captures.
fn is_flat_out(port: &Port<'_>) -> bool {
    matches!(port.device.value, Device::Replay { speed: ast::port::ReplaySpeed::Max, .. })
}

fn names_of<'a, T>(definitions: &[T], name: impl Fn(&T) -> &'a Name) -> Vec<&'a Name> {
    definitions.iter().map(name).collect()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

fn budget(rate: ast::Rate) -> Budget {
    match rate {
        ast::Rate::BitsPerSecond(bits) => Budget::BitsPerSecond(bits),
        ast::Rate::PacketsPerSecond(packets) => Budget::PacketsPerSecond(packets),
    }
}

fn hash_of(hash: &ast::group::Hash) -> (HashKind, Depth) {
    let depth = match hash.layers.as_ref().map(|layers| layers.value) {
        Some(ast::group::HashLayers::Inner) => Depth::Full,
        Some(ast::group::HashLayers::Outer) | None => Depth::Outer,
    };
    let kind = match hash.kind.value {
        ast::group::HashKind::Symmetric | ast::group::HashKind::FiveTuple => HashKind::FiveTuple,
        ast::group::HashKind::Ip => HashKind::Ip,
        ast::group::HashKind::IpPort => HashKind::IpPort,
        ast::group::HashKind::Mac => HashKind::Mac,
        ast::group::HashKind::Vlan => HashKind::Vlan,
        ast::group::HashKind::Vni => HashKind::Vni,
        ast::group::HashKind::Teid => HashKind::Teid,
        ast::group::HashKind::Rss => HashKind::Rss,
    };
    (kind, depth)
}

/// Whether a clause of `rule modify` takes the other's place. Edits and terms add up.
pub(super) fn is_same_clause(old: &RuleClause, new: &RuleClause) -> bool {
    !matches!(new, RuleClause::Edit(_)) && std::mem::discriminant(old) == std::mem::discriminant(new)
}
