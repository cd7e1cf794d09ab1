//! `access …`: who may do what.

use super::super::ast::access::{Grant, Grantee};
use super::{Print, Words};

impl Print for Grant {
    fn print(&self, line: &mut Words) {
        let Grant { role, to, has_peek } = self;
        line.word(role.value).print(to);
        if *has_peek {
            line.word("peek");
        }
    }
}

impl Print for Grantee {
    fn print(&self, line: &mut Words) {
        line.word(self.kind).text(&self.name.value);
    }
}
