//! Carries out commands on the things that they name: creates, modifies and destroys them.

use super::Resolver;
use super::definitions::{
    Defined, Definitions, GroupDefinition, NamedFilter, Port, Rule, Table, Tables, Tool, Wire, names_of,
};
use super::names::Key;
use crate::plan::value::Action;
use tapline_api::words::NameKind;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_lang::ast;
use tapline_lang::ast::Command;
use tapline_lang::ast::rule::RuleClause;
use tapline_lang::ast::tool::ToolTarget;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;

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
            Command::AccessGrant(grant) => self.grant(grant, tables),
            Command::AccessRevoke(grantee) => self.revoke(grantee, tables),
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

    /// Looks up the names in a command that has a mistake of its own, so that a second mistake is reported in the same run.
    pub(super) fn look_up_partial(&mut self, command: &'a Command, definitions: &Definitions<'a>) {
        match command {
            Command::ToolCreate { target: Spanned { value: ToolTarget::Port(port), .. }, .. } => {
                self.look_up::<PortId>(NameKind::Port, port, &names_of(&definitions.ports));
            }
            Command::GroupCreate { options, .. } | Command::GroupModify { options, .. } => {
                for option in options {
                    if let ast::group::GroupOption::Tools(tools) | ast::group::GroupOption::Standby(tools) =
                        &option.value
                    {
                        for tool in tools {
                            self.look_up::<ToolId>(NameKind::Tool, tool, &names_of(&definitions.tools));
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
