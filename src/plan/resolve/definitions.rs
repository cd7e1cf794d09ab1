//! What commands define, as later commands left it.

use std::collections::{BTreeMap, HashMap};

use crate::lang::ast;
use crate::lang::ast::Name;
use crate::lang::ast::port::{Device, PortOption};
use crate::lang::ast::rule::RuleClause;
use crate::lang::ast::tool::{ToolOption, ToolTarget};
use crate::lang::ast::wire::WireOption;
use crate::lang::source::{Span, Spanned};
use crate::plan::value::{Action, Settings};

#[derive(Default)]
pub(in crate::plan) struct Definitions<'a> {
    pub settings: Settings,
    /// Where the first of `set lcores` and `set workers` stands.
    pub placement: Option<(Span, &'static str)>,
    pub ports: Vec<Port<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub groups: Vec<GroupDefinition<'a>>,
    pub wires: Vec<Wire<'a>>,
    pub filters: NamedFilters<'a>,
    /// By priority, ascending.
    pub rules: BTreeMap<u32, Rule<'a>>,
    pub actions: Vec<Action>,
}

impl<'a> Definitions<'a> {
    pub(in crate::plan) fn named_filters(&self) -> impl Iterator<Item = (&'a Name, &'a ast::filter::Filter)> {
        self.filters.entries.values().copied()
    }

    pub(in crate::plan) fn rules(&self) -> impl Iterator<Item = &Rule<'a>> {
        self.rules.values()
    }

    /// The wire that has a port for a side.
    pub(in crate::plan) fn wire_of(&self, port: &str) -> Option<&str> {
        let wire = self.wires.iter().find(|wire| wire.sides.iter().any(|side| side.value == port));
        wire.map(|wire| wire.name.value.as_str())
    }
}

/// Filters with names. There may be thousands, and as many rules that name them.
#[derive(Default)]
pub(in crate::plan) struct NamedFilters<'a> {
    /// In the order in which they are created.
    pub entries: BTreeMap<usize, (&'a Name, &'a ast::filter::Filter)>,
    pub places: HashMap<&'a str, usize>,
}

impl<'a> NamedFilters<'a> {
    pub(in crate::plan) fn get(&self, name: &str) -> Option<(&'a Name, &'a ast::filter::Filter)> {
        self.entries.get(self.places.get(name)?).copied()
    }

    /// Creates a filter of a name that none has, or puts it in the place of its namesake.
    pub(in crate::plan) fn set(&mut self, name: &'a Name, filter: &'a ast::filter::Filter) {
        let next = self.entries.last_key_value().map_or(0, |(last, _)| last + 1);
        let place = *self.places.entry(&name.value).or_insert(next);
        self.entries.entry(place).or_insert((name, filter)).1 = filter;
    }

    /// Whether there was one.
    pub(in crate::plan) fn remove(&mut self, name: &str) -> bool {
        self.places.remove(name).is_some_and(|place| self.entries.remove(&place).is_some())
    }

    pub(in crate::plan) fn names(&self) -> Vec<&'a Name> {
        self.entries.values().map(|(name, _)| *name).collect()
    }
}

pub(in crate::plan) struct Port<'a> {
    pub name: &'a Name,
    pub device: &'a Spanned<Device>,
    pub options: Vec<&'a Spanned<PortOption>>,
    pub is_stopped: bool,
}

pub(in crate::plan) struct Tool<'a> {
    pub name: &'a Name,
    pub target: &'a Spanned<ToolTarget>,
    pub options: Vec<&'a Spanned<ToolOption>>,
    pub is_drained: bool,
}

pub(in crate::plan) struct GroupDefinition<'a> {
    pub name: &'a Name,
    pub options: Vec<&'a Spanned<ast::group::GroupOption>>,
}

pub(in crate::plan) struct Wire<'a> {
    pub name: &'a Name,
    pub sides: [&'a Name; 2],
    pub options: Vec<&'a Spanned<WireOption>>,
}

pub(in crate::plan) struct Rule<'a> {
    pub priority: &'a Spanned<u32>,
    pub clauses: Vec<&'a Spanned<RuleClause>>,
    pub is_enabled: bool,
}

/// Whether a clause of `rule modify` takes the other's place. Edits and terms add up.
pub(in crate::plan) fn is_same_clause(old: &RuleClause, new: &RuleClause) -> bool {
    !matches!(new, RuleClause::Edit(_)) && std::mem::discriminant(old) == std::mem::discriminant(new)
}
