//! Filters, with names and without.

use std::fmt::{self, Display};

use super::super::ast::filter::{Filter, FilterSource};
use super::value::layers;
use super::{Print, Words};

impl Print for Filter {
    fn print(&self, line: &mut Words) {
        let Filter { source, through } = self;
        match &source.value {
            // in quotes it were an expression
            FilterSource::Named(name) => line.word(name),
            FilterSource::Expression(expression) => line.quoted(expression),
            FilterSource::File(path) => line.word("file").text(path),
        };
        line.key("through", through, |through| layers(*through, "any"));
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Words::of(self).0)
    }
}
