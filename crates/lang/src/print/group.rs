//! `group …`: the tools that share packets, and what makes packets one flow.

use super::super::ast::group::{GroupOption, Hash, HashLayers, Return};
use super::value::{duration, percent};
use super::{Print, Words};
use tapline_api::words::Below;

impl Print for GroupOption {
    fn print(&self, line: &mut Words) {
        match self {
            GroupOption::Tools(tools) => line.word("tools").names(tools),
            GroupOption::Weights(weights) => {
                let weights: Vec<String> = weights.iter().map(|weight| weight.value.to_string()).collect();
                line.word("weights").word(weights.join(","))
            }
            GroupOption::Hash(hash) => line.print(hash),
            GroupOption::Standby(tools) => line.word("standby").names(tools),
            GroupOption::MinUp { count, below } => {
                line.word("min-up").word(count).key("below", below, Below::to_string)
            }
            GroupOption::Return(Return::Now) => line.word("return now"),
            GroupOption::Return(Return::Idle(idle)) => line.word("return idle").word(duration(*idle)),
            GroupOption::Discard { percent: share } => line.word("discard").word(percent(*share)),
        };
    }
}

impl Print for Hash {
    fn print(&self, line: &mut Words) {
        let Hash { kind, layers } = self;
        line.word("hash").word(kind.value);
        if let Some(layers) = layers {
            line.word(match layers.value {
                HashLayers::Inner => "inner",
                HashLayers::Outer => "outer",
            });
        }
    }
}
