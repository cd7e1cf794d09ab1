//! Names and priorities: what commands do to the things that have them, and what is said where nothing has them.

use std::fmt::Display;
use std::hash::Hash;

use super::Resolver;
use super::definitions::{
    Defined, Definitions, GroupDefinition, NamedFilter, Port, Rule, Table, Tables, Tool, Wire,
};
use crate::plan::value::Action;
use tapline_lang::ast;
use tapline_lang::ast::rule::RuleClause;
use tapline_lang::ast::tool::ToolTarget;
use tapline_lang::ast::{Command, Name, NameKind};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};
use tapline_lang::suggest::nearest;

/// Names that an error lists.
const MOST_LISTED: usize = 12;

/// What things are known by: names, and the priorities of rules.
pub(crate) trait Key: Eq + Hash + Display + Sized {
    /// What each thing must have for itself.
    const NOUN: &'static str;

    /// The key, as it stands behind the word for its kind.
    fn words(&self) -> String;

    /// Reports a key that is not among those known.
    fn report_unknown(
        resolver: &mut Resolver<'_>,
        kind: NameKind,
        key: &Spanned<Self>,
        known: &[&Spanned<Self>],
    );
}

impl Key for String {
    const NOUN: &'static str = "name";

    fn words(&self) -> String {
        format!("`{self}`")
    }

    fn report_unknown(resolver: &mut Resolver<'_>, kind: NameKind, name: &Name, known: &[&Name]) {
        resolver.unknown(&kind.to_string(), &format!("a {kind}"), &name.value, name.span, known);
    }
}

impl Key for u32 {
    const NOUN: &'static str = "priority";

    fn words(&self) -> String {
        self.to_string()
    }

    fn report_unknown(
        resolver: &mut Resolver<'_>,
        kind: NameKind,
        priority: &Spanned<u32>,
        known: &[&Spanned<u32>],
    ) {
        let mut known: Vec<u32> = known.iter().map(|known| known.value).collect();
        known.sort_unstable();
        let label = if known.is_empty() {
            format!("no {kind} is defined")
        } else {
            format!("expected a {kind}; defined are {}", listed(known.iter().map(u32::to_string)))
        };
        resolver.error(
            Diagnostic::error(priority.span, format!("unknown {kind} `{}`", priority.value)).label(label),
        );
    }
}

impl<'a> Resolver<'a> {
    /// Carries out a command on what those before it defined.
    pub(super) fn gather(&mut self, command: &'a Command, tables: &mut Tables<'a>) {
        match command {
            Command::Set(setting) => self.set(setting, tables),
            Command::PortAttach { name, device, options } => {
                self.create(
                    Port { name, device, options: options.iter().collect(), is_stopped: false },
                    tables,
                );
            }
            Command::PortConfig { name, options } => {
                self.modify(name, tables, |port: &mut Port<'a>| port.options.extend(options))
            }
            Command::PortDetach(name) => self.destroy::<Port<'a>>(name, tables),
            Command::PortStart(name) => {
                self.modify(name, tables, |port: &mut Port<'a>| port.is_stopped = false)
            }
            Command::PortStop(name) => {
                self.modify(name, tables, |port: &mut Port<'a>| port.is_stopped = true)
            }
            Command::ToolCreate { name, target, options } => {
                self.create(
                    Tool { name, target, options: options.iter().collect(), is_drained: false },
                    tables,
                );
            }
            Command::ToolModify { name, options } => {
                self.modify(name, tables, |tool: &mut Tool<'a>| tool.options.extend(options))
            }
            Command::ToolDestroy(name) => self.destroy::<Tool<'a>>(name, tables),
            Command::ToolDrain(name) => {
                self.modify(name, tables, |tool: &mut Tool<'a>| tool.is_drained = true)
            }
            Command::ToolEnable(name) => {
                self.modify(name, tables, |tool: &mut Tool<'a>| tool.is_drained = false)
            }
            Command::GroupCreate { name, options } => {
                self.create(GroupDefinition { name, options: options.iter().collect() }, tables);
            }
            Command::GroupModify { name, options } => {
                self.modify(name, tables, |group: &mut GroupDefinition<'a>| group.options.extend(options));
            }
            Command::GroupDestroy(name) => self.destroy::<GroupDefinition<'a>>(name, tables),
            Command::WireCreate { name, a, b, options } => {
                self.create(Wire { name, sides: [a, b], options: options.iter().collect() }, tables);
            }
            Command::WireModify { name, options } => {
                self.modify(name, tables, |wire: &mut Wire<'a>| wire.options.extend(options))
            }
            Command::WireDestroy(name) => self.destroy::<Wire<'a>>(name, tables),
            Command::FilterCreate { name, filter } => self.create(NamedFilter { name, filter }, tables),
            Command::FilterModify { name, filter } => {
                self.modify(name, tables, |known: &mut NamedFilter<'a>| known.filter = filter)
            }
            Command::FilterDestroy(name) => self.destroy::<NamedFilter<'a>>(name, tables),
            Command::RuleCreate { priority, clauses } => {
                self.create(Rule { priority, clauses: clauses.iter().collect(), is_enabled: true }, tables);
            }
            Command::RuleModify { priority, clauses } => {
                self.modify(priority, tables, |rule: &mut Rule<'a>| rule.modify(clauses))
            }
            Command::RuleEnable(priority) => {
                self.modify(priority, tables, |rule: &mut Rule<'a>| rule.is_enabled = true)
            }
            Command::RuleDisable(priority) => {
                self.modify(priority, tables, |rule: &mut Rule<'a>| rule.is_enabled = false)
            }
            Command::RuleDestroy(priority) => self.destroy::<Rule<'a>>(priority, tables),
            Command::RuleDestroyAll => tables.rules = Table::default(),
            Command::Start => tables.actions.push(Action::Start),
            Command::Stop => tables.actions.push(Action::Stop),
            Command::Show(show) => tables.actions.push(Action::Show(*show)),
            Command::ClearStats => tables.actions.push(Action::ClearStats),
            Command::Quit => tables.actions.push(Action::Quit),
        }
    }

    /// Adds what a command creates, unless its key is taken.
    fn create<D: Defined<'a>>(&mut self, definition: D, tables: &mut Tables<'a>) {
        let (kind, key) = (D::KIND, definition.key());
        let Some(other) = D::namesake(tables, &key.value) else {
            return D::table(tables).create(definition);
        };
        let line = self.sources().position(other.span).line;
        let message = format!("{kind} {} is defined already", key.value.words());
        let label = format!("expected a {} of its own; line {line} has this one", D::Key::NOUN);
        self.error(Diagnostic::error(key.span, message).label(label));
    }

    fn modify<D: Defined<'a>>(
        &mut self,
        key: &Spanned<D::Key>,
        tables: &mut Tables<'a>,
        change: impl FnOnce(&mut D),
    ) {
        let table = D::table(tables);
        match table.get_mut(&key.value) {
            Some(definition) => change(definition),
            None => self.unknown_key(D::KIND, key, &table.keys()),
        }
    }

    fn destroy<D: Defined<'a>>(&mut self, key: &Spanned<D::Key>, tables: &mut Tables<'a>) {
        let table = D::table(tables);
        if !table.destroy(&key.value) {
            self.unknown_key(D::KIND, key, &table.keys());
        }
    }

    /// The place of a name among those defined, or a diagnostic.
    pub(super) fn look_up(&mut self, kind: NameKind, name: &Name, known: &[&Name]) -> Option<usize> {
        let found = known.iter().position(|known| known.value == name.value);
        if found.is_none() {
            self.unknown_key(kind, name, known);
        }
        found
    }

    /// Reports a key that is not among those defined, unless that follows from another mistake.
    fn unknown_key<K: Key>(&mut self, kind: NameKind, key: &Spanned<K>, known: &[&Spanned<K>]) {
        if !self.parsed.file.is_excused(kind, &key.value.to_string()) {
            K::report_unknown(self, kind, key, known);
        }
    }

    /// Reports a name that is not among those defined.
    pub(super) fn unknown(&mut self, kind: &str, expected: &str, name: &str, span: Span, known: &[&Name]) {
        let label = if known.is_empty() {
            format!("expected {expected}; none is defined")
        } else {
            format!(
                "expected {expected}; defined are {}",
                listed(known.iter().map(|name| name.value.clone()))
            )
        };
        let mut diagnostic = Diagnostic::error(span, format!("unknown {kind} `{name}`")).label(label);
        if let Some(near) = nearest(name, known.iter().map(|name| name.value.as_str()))
            && let Some(defined) = known.iter().find(|name| name.value == near)
        {
            let line = self.sources().position(defined.span).line;
            diagnostic =
                diagnostic.help(format!("a {kind} with a similar name exists: `{near}` (line {line})"));
        }
        self.error(diagnostic);
    }

    /// Looks up the names in a command that has a mistake of its own, so that a second mistake is reported in the same run.
    pub(super) fn look_up_partial(&mut self, command: &'a Command, definitions: &Definitions<'a>) {
        match command {
            Command::ToolCreate { target: Spanned { value: ToolTarget::Port(port), .. }, .. } => {
                self.look_up(NameKind::Port, port, &names_of(&definitions.ports));
            }
            Command::GroupCreate { options, .. } | Command::GroupModify { options, .. } => {
                for option in options {
                    if let ast::group::GroupOption::Tools(tools) | ast::group::GroupOption::Standby(tools) =
                        &option.value
                    {
                        for tool in tools {
                            self.look_up(NameKind::Tool, tool, &names_of(&definitions.tools));
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
}

/// The first of all keys, for an error that lists them.
fn listed(keys: impl Iterator<Item = String>) -> String {
    let mut listed: Vec<String> = keys.take(MOST_LISTED + 1).collect();
    if listed.len() > MOST_LISTED {
        listed[MOST_LISTED] = "…".to_owned();
    }
    listed.join(", ")
}

pub(super) fn names_of<'a, D: Defined<'a, Key = String>>(definitions: &[D]) -> Vec<&'a Name> {
    definitions.iter().map(D::key).collect()
}
