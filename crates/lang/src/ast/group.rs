//! `group …`: the tools that share packets, and what makes packets one flow.

use std::time::Duration;

use super::super::source::Spanned;
use super::Name;
use tapline_api::words::{Below, HashKind};

#[derive(Clone, PartialEq, Debug)]
pub enum GroupOption {
    Tools(Vec<Name>),
    Weights(Vec<Spanned<u32>>),
    Hash(Hash),
    Standby(Vec<Name>),
    MinUp {
        count: u32,
        below: Option<Spanned<Below>>,
    },
    Return(Return),
    /// The share of flows that no tool gets, in percent.
    Discard {
        percent: u8,
    },
}

/// The fields that make packets one flow: `ip inner`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hash {
    pub kind: Spanned<HashKind>,
    pub layers: Option<Spanned<HashLayers>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashLayers {
    Inner,
    Outer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    Now,
    /// A flow returns once it was idle for this long.
    Idle(Duration),
}
