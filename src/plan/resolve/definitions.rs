//! The definitions that commands make, as later commands left them.
//!
//! Commands are gathered in [`Tables`]: by name, since a file may create, modify and destroy thousands of things. What is left in
//! them becomes the [`Definitions`], whose order is that of the plan's ids.

use std::collections::HashMap;

use super::names::Key;
use crate::plan::access::Grantee;
use crate::plan::value::{Action, Settings};
use tapline_api::words::NameKind;
use tapline_datapath::ids::{PortId, WireId};
use tapline_lang::ast;
use tapline_lang::ast::Name;
use tapline_lang::ast::access::Grant;
use tapline_lang::ast::filter::Filter;
use tapline_lang::ast::group::GroupOption;
use tapline_lang::ast::port::{Device, PortOption};
use tapline_lang::ast::rule::RuleClause;
use tapline_lang::ast::tool::{ToolOption, ToolTarget};
use tapline_lang::ast::wire::WireOption;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};
use tapline_packet::by_id::ById;

/// Everything that is defined once all commands were carried out.
pub(crate) struct Definitions<'a> {
    pub settings: Settings,
    pub ports: ById<PortId, Port<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub groups: Vec<GroupDefinition<'a>>,
    pub wires: ById<WireId, Wire<'a>>,
    /// There may be thousands, and as many rules that name them.
    pub filters: Table<'a, NamedFilter<'a>>,
    /// The rules, ascending by priority.
    pub rules: Vec<Rule<'a>>,
    pub access: Vec<Granted<'a>>,
    /// The place of the path of `set audit`.
    pub audit: Option<&'a Spanned<String>>,
    pub actions: Vec<Action>,
}

impl Definitions<'_> {
    /// The wire that has a port for a side.
    pub(crate) fn wire_of(&self, port: &str) -> Option<&str> {
        let wire = self.wires.iter().find(|wire| wire.sides.iter().any(|side| side.value == port));
        wire.map(|wire| wire.name.value.as_str())
    }
}

/// Everything that is defined while commands are carried out.
#[derive(Default)]
pub(crate) struct Tables<'a> {
    pub settings: Settings,
    /// The place of the first of `set lcores` and `set workers`.
    pub placement: Option<(Span, &'static str)>,
    pub ports: Table<'a, Port<'a>>,
    pub tools: Table<'a, Tool<'a>>,
    pub groups: Table<'a, GroupDefinition<'a>>,
    pub wires: Table<'a, Wire<'a>>,
    pub filters: Table<'a, NamedFilter<'a>>,
    pub rules: Table<'a, Rule<'a>>,
    pub access: Vec<Granted<'a>>,
    pub audit: Option<&'a Spanned<String>>,
    pub actions: Vec<Action>,
}

impl<'a> Tables<'a> {
    /// Ends the gathering.
    pub(crate) fn finish(self) -> Definitions<'a> {
        let mut rules = self.rules.into_vec();
        rules.sort_by_key(|rule| rule.priority.value);
        Definitions {
            settings: self.settings,
            ports: self.ports.into_vec().into(),
            tools: self.tools.into_vec(),
            groups: self.groups.into_vec(),
            wires: self.wires.into_vec().into(),
            filters: self.filters,
            rules,
            access: self.access,
            audit: self.audit,
            actions: self.actions,
        }
    }

    /// The tool or group of a name: they share the names that `to` takes.
    fn target(&self, name: &String) -> Option<&'a Name> {
        let tool = self.tools.get(name).map(|tool| tool.name);
        tool.or_else(|| self.groups.get(name).map(|group| group.name))
    }
}

/// Things of one kind, by what they are known by.
pub(crate) struct Table<'a, D: Defined<'a>> {
    /// In the order in which they were created; `None`: destroyed.
    entries: Vec<Option<D>>,
    places: HashMap<&'a D::Key, usize>,
}

impl<'a, D: Defined<'a>> Default for Table<'a, D> {
    fn default() -> Self {
        Self { entries: Vec::new(), places: HashMap::new() }
    }
}

impl<'a, D: Defined<'a>> Table<'a, D> {
    pub(crate) fn get(&self, key: &D::Key) -> Option<&D> {
        self.entries[*self.places.get(key)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: &D::Key) -> Option<&mut D> {
        self.entries[*self.places.get(key)?].as_mut()
    }

    /// Adds a thing that no other has the key of.
    pub(crate) fn create(&mut self, definition: D) {
        self.places.insert(&definition.key().value, self.entries.len());
        self.entries.push(Some(definition));
    }

    /// Returns whether there was one.
    pub(crate) fn destroy(&mut self, key: &D::Key) -> bool {
        self.places.remove(key).is_some_and(|place| self.entries[place].take().is_some())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &D> {
        self.entries.iter().flatten()
    }

    pub(crate) fn keys(&self) -> Vec<&'a Spanned<D::Key>> {
        self.iter().map(D::key).collect()
    }

    fn into_vec(self) -> Vec<D> {
        self.entries.into_iter().flatten().collect()
    }
}

/// A kind of thing that commands create, modify and destroy.
pub(crate) trait Defined<'a>: Sized {
    /// The key that one is known by: its name, or a rule's priority.
    type Key: Key + 'a;
    const KIND: NameKind;

    fn key(&self) -> &'a Spanned<Self::Key>;

    /// Gives the table in which things of this kind are gathered.
    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self>;

    /// Gives the thing that has a key already, so that nothing of this kind can be created with it.
    fn namesake(tables: &mut Tables<'a>, key: &Self::Key) -> Option<&'a Spanned<Self::Key>> {
        Self::table(tables).get(key).map(Self::key)
    }
}

pub(crate) struct Port<'a> {
    pub name: &'a Name,
    pub device: &'a Spanned<Device>,
    pub options: Vec<&'a Spanned<PortOption>>,
    pub is_stopped: bool,
}

impl Port<'_> {
    /// Returns whether an option is said of the port, and no later one of its kind.
    pub(crate) fn is_said(&self, option: &PortOption) -> bool {
        let kind = std::mem::discriminant(option);
        let last = self.options.iter().rfind(|said| std::mem::discriminant(&said.value) == kind);
        last.is_some_and(|last| last.value == *option)
    }
}

impl<'a> Defined<'a> for Port<'a> {
    type Key = String;
    const KIND: NameKind = NameKind::Port;

    fn key(&self) -> &'a Name {
        self.name
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.ports
    }
}

pub(crate) struct Tool<'a> {
    pub name: &'a Name,
    pub target: &'a Spanned<ToolTarget>,
    pub options: Vec<&'a Spanned<ToolOption>>,
    pub is_drained: bool,
}

impl<'a> Defined<'a> for Tool<'a> {
    type Key = String;
    const KIND: NameKind = NameKind::Tool;

    fn key(&self) -> &'a Name {
        self.name
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.tools
    }

    fn namesake(tables: &mut Tables<'a>, name: &String) -> Option<&'a Name> {
        tables.target(name)
    }
}

pub(crate) struct GroupDefinition<'a> {
    pub name: &'a Name,
    pub options: Vec<&'a Spanned<GroupOption>>,
}

impl<'a> Defined<'a> for GroupDefinition<'a> {
    type Key = String;
    const KIND: NameKind = NameKind::Group;

    fn key(&self) -> &'a Name {
        self.name
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.groups
    }

    fn namesake(tables: &mut Tables<'a>, name: &String) -> Option<&'a Name> {
        tables.target(name)
    }
}

pub(crate) struct Wire<'a> {
    pub name: &'a Name,
    /// Side A and side B.
    pub sides: [&'a Name; 2],
    pub options: Vec<&'a Spanned<WireOption>>,
}

impl<'a> Defined<'a> for Wire<'a> {
    type Key = String;
    const KIND: NameKind = NameKind::Wire;

    fn key(&self) -> &'a Name {
        self.name
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.wires
    }
}

pub(crate) struct NamedFilter<'a> {
    pub name: &'a Name,
    pub filter: &'a Filter,
}

impl<'a> Defined<'a> for NamedFilter<'a> {
    type Key = String;
    const KIND: NameKind = NameKind::Filter;

    fn key(&self) -> &'a Name {
        self.name
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.filters
    }
}

pub(crate) struct Rule<'a> {
    pub priority: &'a Spanned<u32>,
    pub clauses: Vec<&'a Spanned<RuleClause>>,
    pub is_enabled: bool,
}

impl<'a> Defined<'a> for Rule<'a> {
    type Key = u32;
    const KIND: NameKind = NameKind::Rule;

    fn key(&self) -> &'a Spanned<u32> {
        self.priority
    }

    fn table<'t>(tables: &'t mut Tables<'a>) -> &'t mut Table<'a, Self> {
        &mut tables.rules
    }
}

/// `access grant`.
pub(crate) struct Granted<'a> {
    pub grant: &'a Grant,
    /// Who is meant; an error says that he is not there.
    pub to: Result<Grantee, Diagnostic>,
}

impl Granted<'_> {
    /// Returns whether the grant is to somebody of this name.
    pub(crate) fn is_called(&self, other: &ast::access::Grantee) -> bool {
        let ast::access::Grantee { kind, name } = &self.grant.to;
        (kind, &name.value) == (&other.kind, &other.name.value)
    }
}

impl<'a> Rule<'a> {
    /// Carries out `rule modify`: a clause that is said again takes the place of the one before.
    pub(crate) fn modify(&mut self, clauses: &'a [Spanned<RuleClause>]) {
        self.clauses.retain(|old| !clauses.iter().any(|new| is_same_clause(&old.value, &new.value)));
        self.clauses.extend(clauses);
    }
}

/// Returns whether a clause of `rule modify` takes the other's place. Edits and terms add up.
pub(crate) fn is_same_clause(old: &RuleClause, new: &RuleClause) -> bool {
    !matches!(new, RuleClause::Edit(_)) && std::mem::discriminant(old) == std::mem::discriminant(new)
}

/// The names of things of one kind, in their order.
pub(super) fn names_of<'a, D: Defined<'a, Key = String>>(definitions: &[D]) -> Vec<&'a Name> {
    definitions.iter().map(D::key).collect()
}
