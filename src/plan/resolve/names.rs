//! Names: who defines them, and what is said where nobody does.

use super::Resolver;
use super::definitions::{Definitions, GroupDefinition, Port, Rule, Tool, Wire, is_same_clause};
use crate::lang::ast;
use crate::lang::ast::rule::RuleClause;
use crate::lang::ast::tool::ToolTarget;
use crate::lang::ast::{Command, Name, NameKind};
use crate::lang::diagnostic::Diagnostic;
use crate::lang::source::{Span, Spanned};
use crate::lang::suggest::nearest;
use crate::plan::value::Action;

/// Names that an error lists.
const MOST_LISTED: usize = 12;

impl<'a> Resolver<'a> {
    pub(super) fn gather(&mut self, command: &'a Spanned<Command>, definitions: &mut Definitions<'a>) {
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

    pub(super) fn unknown(&mut self, kind: &str, expected: &str, name: &str, span: Span, known: &[&Name]) {
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
    pub(super) fn look_up_partial(&mut self, command: &'a Command, definitions: &Definitions<'a>) {
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
}

pub(super) fn names_of<'a, T>(definitions: &[T], name: impl Fn(&T) -> &'a Name) -> Vec<&'a Name> {
    definitions.iter().map(name).collect()
}
