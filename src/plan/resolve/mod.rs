//! Names -> ids: what the commands of a pipeline file define and refer to, checked against each other.
//!
//! Stands behind the parser and adds to its diagnostics. Commands are gathered first, so that a rule may name a tool that a later
//! line creates; then every reference is looked up, and every mistake is reported.

/// Who may do what.
mod access;
/// Edits, timestamps, transports and MTUs.
mod copies;
/// Holds what commands define.
pub(super) mod definitions;
/// Filters and lists.
mod filter;
/// Carries out commands on the things that they name.
mod gather;
/// Groups of tools.
mod group;
/// Looking names up.
mod names;
/// Places in the text that rules and tools come from.
pub mod origin;
/// Ports.
mod port;
/// Heartbeats and echoes.
mod probes;
/// Rules.
mod rule;
/// Settings.
mod settings;
/// Stores: captures in a folder.
mod store;
/// Tools.
mod tool;
/// Wires.
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use self::definitions::{Definitions, Tables};
use super::progress::{Progress, Stage};
use super::surroundings::Surroundings;
use super::value::{FilterPlan, GroupPlan, Plan, PlanHash, PortPlan, ToolPlan, WirePlan};
use tapline_datapath::classify::{FilterTerm, Matcher};
use tapline_datapath::copies::edit::EditPlan;
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::{GroupId, HashId, PortId, RuleId, ToolId, WireId};
use tapline_datapath::work_plan::{GroupWork, Target, WorkPlan};
use tapline_dpdk::mbuf::MOST_REFERENCES;
use tapline_dpdk::port::MAX_PORTS;
use tapline_filter::bpf::verify::Program;
use tapline_lang::Parsed;
use tapline_lang::diagnostic::{Diagnostic, Diagnostics};
use tapline_lang::source::{Sources, Span};
use tapline_packet::by_id::ById;
use tapline_packet::headers::layer::LayerSet;

/// A plan without its compiled inputs, and what they are compiled from.
pub(super) struct Resolved {
    pub plan: Plan,
    /// The source of each rule of the plan.
    pub rules: ById<RuleId, RuleSource>,
}

/// The source that a rule of the plan was made from.
pub(super) struct RuleSource {
    pub matcher: Matcher,
    /// The place of the rule's priority.
    pub span: Span,
    /// The rule takes from `any`.
    pub is_from_any: bool,
    /// An expression of the rule's own has the word `vlan`.
    pub names_vlans: bool,
}

/// Resolves what was parsed, in such surroundings; `random_key` is that of the plan before. Every mistake goes to `diagnostics`; the result is of use
/// only if there is none.
pub(super) fn resolve(
    parsed: &Parsed,
    surroundings: &Surroundings,
    random_key: Option<Key>,
    diagnostics: &mut Diagnostics,
    progress: &Progress,
) -> Resolved {
    let mut tables = Tables::default();
    let mut resolver = Resolver {
        parsed,
        surroundings,
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
        resolver.gather(&command.value, &mut tables);
    }
    let definitions = tables.finish();
    for command in &parsed.file.partial {
        resolver.look_up_partial(&command.value, &definitions);
    }
    resolver.finish(&definitions)
}

pub(super) struct Resolver<'a> {
    pub parsed: &'a Parsed,
    pub surroundings: &'a Surroundings,
    pub diagnostics: &'a mut Diagnostics,
    /// Programs by expression: libpcap takes milliseconds for long ones, and rules share filters.
    filters: HashMap<String, Option<Program>>,
    /// Lists of `match file`, by path and what they look through.
    lists: HashMap<(String, LayerSet), Option<FilterTerm>>,
    hashes: Vec<HashSpec>,
    /// For each definition: the group of the plan that it became, unless it was refused. A rule's targets come from here, so that
    /// there is no id of a group that the plan does not have.
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

    fn finish(&mut self, definitions: &Definitions<'a>) -> Resolved {
        let ports: ById<PortId, PortPlan> =
            definitions.ports.iter().map(|port| self.port(port, definitions)).collect();
        if let Some(port) = definitions.ports.get(PortId(MAX_PORTS)) {
            let message = format!("{} ports are too many", definitions.ports.len());
            self.error(
                Diagnostic::error(port.name.span, message)
                    .label(format!("the DPDK linked here takes at most {MAX_PORTS}")),
            );
        }
        let tools: ById<ToolId, ToolPlan> =
            definitions.tools.iter().map(|tool| self.tool(tool, definitions)).collect();
        let mut groups: ById<GroupId, GroupPlan> = ById::default();
        let mut group_work: ById<GroupId, GroupWork> = ById::default();
        for definition in &definitions.groups {
            let work = self.group(definition, definitions);
            self.groups.push(work.is_some().then_some(GroupId(groups.len())));
            if let Some(work) = work {
                groups.push(GroupPlan { name: definition.name.value.clone() });
                group_work.push(work);
            }
        }
        let wires: ById<WireId, WirePlan> =
            definitions.wires.iter().filter_map(|wire| self.wire(wire, definitions)).collect();
        let progress = self.progress;
        progress.begin(Stage::Filters, definitions.rules.len());
        // where nobody waits any more, no plan is made of them
        let rules = definitions
            .rules
            .iter()
            .map_while(|rule| progress.step().ok().map(|()| self.rule(rule, definitions)));
        let (rules, sources): (Vec<_>, Vec<_>) = rules.unzip();
        let filters = definitions.filters.iter().map(|defined| {
            self.filter_of(defined.filter, definitions);
            FilterPlan { name: defined.name.value.clone(), words: defined.filter.to_string() }
        });
        let filters = filters.collect();
        let access = self.grants(definitions);
        let mut plan = Plan {
            settings: definitions.settings.clone(),
            ports,
            tools,
            wires,
            groups,
            filters,
            rules: rules.into(),
            access,
            work: Arc::new(WorkPlan {
                groups: group_work,
                edits: std::mem::take(&mut self.edits).into(),
                hashes: std::mem::take(&mut self.hashes).into(),
                ..WorkPlan::default()
            }),
            actions: definitions.actions.clone(),
            random_key: self.random_key.clone(),
            tools_want_stamps: false,
            hash: PlanHash::default(),
            files: self.check_files(definitions),
        };
        plan.note_uses();
        self.check_paths(&plan, definitions);
        self.check_fan_out(&plan, &sources);
        Resolved { plan, rules: sources.into() }
    }

    /// A packet can go to so many tools and no more: its mbuf counts its references.
    fn check_fan_out(&mut self, plan: &Plan, sources: &[RuleSource]) {
        for (id, port) in plan.ports.entries() {
            let mut targets: Vec<Target> = Vec::new();
            // the original on a wire is one of them
            let room = MOST_REFERENCES - usize::from(plan.wire_at(id).is_some());
            for (rule, source) in
                plan.rules.iter().zip(sources).filter(|(rule, _)| rule.sources.contains(&id))
            {
                for &target in &rule.targets {
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
                if targets.len() > room {
                    let message = format!(
                        "a packet of port `{}` would go to {} tools and groups",
                        port.name,
                        targets.len()
                    );
                    self.error(
                        Diagnostic::error(source.span, message)
                            .label(format!("expected at most {room} of all its rules together")),
                    );
                    break;
                }
            }
        }
    }

    pub(super) fn hash_id(&mut self, spec: HashSpec) -> HashId {
        let place = self.hashes.iter().position(|known| *known == spec).unwrap_or_else(|| {
            self.hashes.push(spec);
            self.hashes.len() - 1
        });
        HashId(place)
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}
