//! `wire …`: two ports joined inline.

use super::super::ast::wire::WireOption;
use super::{Print, Words};

impl Print for WireOption {
    fn print(&self, line: &mut Words) {
        match self {
            WireOption::Bypass(is_on) => line.word("bypass").switch(*is_on),
            WireOption::PropagateLink(is_on) => line.word("propagate-link").switch(*is_on),
        };
    }
}
