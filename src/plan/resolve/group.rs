//! Groups: their members, weights and hashes.

use super::Resolver;
use super::definitions::{Definitions, GroupDefinition, names_of};
use tapline_api::words::{Below, HashKind, NameKind};
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::ToolId;
use tapline_datapath::route::balance::{Group, GroupSpec, Returns};
use tapline_datapath::work_plan::GroupWork;
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast;
use tapline_lang::ast::Name;
use tapline_lang::ast::group::GroupOption;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;
use tapline_packet::layers::Depth;

/// The options of a group.
struct GroupWords<'a> {
    members: &'a [Name],
    standbys: &'a [Name],
    weights: Option<&'a [Spanned<u32>]>,
    hash: (HashKind, Depth),
    discard_percent: u32,
    min_up: usize,
    below: Below,
    returns: Returns,
}

impl<'a> GroupWords<'a> {
    /// Reads the options; of two that say the same thing the later one counts.
    fn of(group: &GroupDefinition<'a>) -> Self {
        let mut words = Self {
            members: &[],
            standbys: &[],
            weights: None,
            hash: (HashKind::FiveTuple, Depth::Outer),
            discard_percent: 0,
            min_up: 0,
            below: Below::Spread,
            returns: Returns::AtOnce,
        };
        for option in &group.options {
            match &option.value {
                GroupOption::Tools(tools) => words.members = tools,
                GroupOption::Weights(weights) => words.weights = Some(weights),
                GroupOption::Hash(hash) => words.hash = hash_of(hash),
                GroupOption::Discard { percent } => words.discard_percent = u32::from(*percent),
                GroupOption::Standby(tools) => words.standbys = tools,
                GroupOption::MinUp { count, below } => {
                    words.min_up = *count as usize;
                    words.below = below.as_ref().map(|below| below.value).unwrap_or_default();
                }
                GroupOption::Return(ast::group::Return::Now) => words.returns = Returns::AtOnce,
                GroupOption::Return(ast::group::Return::Idle(duration)) => {
                    words.returns = Returns::WhenIdle { idle_ns: nanoseconds(*duration) };
                }
            }
        }
        words
    }

    /// How its buckets are shared out, where each member has its weight.
    fn spec(&self, weights: &[u32], seed: u64) -> GroupSpec {
        // percent of all buckets: discard / (discard + sum of weights), in whole numbers
        let discarded = self.discard_percent.min(99);
        let scale = if discarded == 0 { 1 } else { 100 - discarded };
        GroupSpec {
            weights: weights.iter().map(|weight| weight.saturating_mul(scale)).collect(),
            discard_weight: discarded.saturating_mul(weights.iter().sum()),
            seed,
            standbys: self.standbys.len(),
            min_up: self.min_up,
            below: self.below,
            returns: self.returns,
            ..GroupSpec::equal(self.members.len())
        }
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn group(
        &mut self,
        group: &GroupDefinition<'a>,
        definitions: &Definitions<'a>,
    ) -> Option<GroupWork> {
        let words = GroupWords::of(group);
        let members = self.members(group.name, &words, definitions);
        let weights = self.weights(group.name, &words)?;
        let members = members?;
        let seed = definitions.settings.seed;
        let spec = words.spec(&weights, seed);
        if let Err(error) = Group::new(spec.clone()) {
            self.error(Diagnostic::error(group.name.span, error.to_string()));
            return None;
        }
        let (kind, depth) = words.hash;
        let hash = self.hash_id(HashSpec { kind, depth, seed });
        Some(GroupWork { members, spec, hash })
    }

    /// The tools that a group balances over, and behind them its standbys; `None` where it has none or some are unknown.
    fn members(
        &mut self,
        group: &Name,
        words: &GroupWords<'a>,
        definitions: &Definitions<'a>,
    ) -> Option<Vec<ToolId>> {
        let known = names_of(&definitions.tools);
        let mut tools = Vec::new();
        let all: Vec<&Name> = words.members.iter().chain(words.standbys).collect();
        for (place, &name) in all.iter().enumerate() {
            if all[..place].iter().any(|other| other.value == name.value) {
                self.error(Diagnostic::error(
                    name.span,
                    format!("tool `{}` is in this group already", name.value),
                ));
            }
            tools.extend(self.look_up::<ToolId>(NameKind::Tool, name, &known));
        }
        if words.members.is_empty() {
            let message = format!("group `{}` has no tools", group.value);
            self.error(Diagnostic::error(group.span, message).label("expected `tools NAME,NAME…`"));
        }
        (tools.len() == all.len() && !words.members.is_empty()).then_some(tools)
    }

    /// Gives the weight of each member, which is 1 if the group does not say.
    fn weights(&mut self, group: &Name, words: &GroupWords<'a>) -> Option<Vec<u32>> {
        let count = words.members.len();
        let Some(weights) = words.weights else { return Some(vec![1; count]) };
        if weights.len() != count {
            let span =
                weights.first().map_or(group.span, |first| first.span.to(weights[weights.len() - 1].span));
            let message = format!("{} weights for {count} tools", weights.len());
            self.error(Diagnostic::error(span, message).label("expected a weight for each tool"));
            return None;
        }
        Some(weights.iter().map(|weight| weight.value).collect())
    }
}

pub(super) fn hash_of(hash: &ast::group::Hash) -> (HashKind, Depth) {
    let depth = match hash.layers.as_ref().map(|layers| layers.value) {
        Some(ast::group::HashLayers::Inner) => Depth::Full,
        Some(ast::group::HashLayers::Outer) | None => Depth::Outer,
    };
    (hash.kind.value, depth)
}
