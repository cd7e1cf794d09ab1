//! Groups: their members, weights and hashes.

use super::Resolver;
use super::definitions::{Definitions, GroupDefinition};
use super::names::names_of;
use crate::plan::value::GroupPlan;
use tapline_datapath::flow::hash::HashKind;
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::ToolId;
use tapline_datapath::route::balance::{Below, Group, GroupSpec, Returns};
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast;
use tapline_lang::ast::{Name, NameKind};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;
use tapline_packet::layers::Depth;

impl<'a> Resolver<'a> {
    pub(super) fn group(
        &mut self,
        group: &GroupDefinition<'a>,
        definitions: &Definitions<'a>,
    ) -> Option<GroupPlan> {
        let (mut members, mut standbys): (&[Name], &[Name]) = (&[], &[]);
        let mut min_up = (0, Below::Spread);
        let mut returns = Returns::AtOnce;
        let mut weights: Option<&[Spanned<u32>]> = None;
        let mut spec =
            HashSpec { kind: HashKind::FiveTuple, depth: Depth::Outer, seed: definitions.settings.seed };
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
        let known = names_of(&definitions.tools);
        let mut tools = Vec::new();
        let all: Vec<&Name> = members.iter().chain(standbys).collect();
        for (place, &name) in all.iter().enumerate() {
            if all[..place].iter().any(|other| other.value == name.value) {
                self.error(Diagnostic::error(
                    name.span,
                    format!("tool `{}` is in this group already", name.value),
                ));
            }
            tools.extend(self.look_up(NameKind::Tool, name, &known).map(ToolId));
        }
        if members.is_empty() {
            let message = format!("group `{}` has no tools", group.name.value);
            self.error(Diagnostic::error(group.name.span, message).label("expected `tools NAME,NAME…`"));
        }
        let weights: Vec<u32> = match weights {
            Some(list) if list.len() != members.len() => {
                let span =
                    list.first().map_or(group.name.span, |first| first.span.to(list[list.len() - 1].span));
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
            Ok(_) => Some(GroupPlan {
                name: group.name.value.clone(),
                members: tools,
                spec: group_spec,
                hash: self.hash_id(spec),
            }),
            Err(error) => {
                self.error(Diagnostic::error(group.name.span, error.to_string()));
                None
            }
        }
    }
}

pub(super) fn hash_of(hash: &ast::group::Hash) -> (HashKind, Depth) {
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
