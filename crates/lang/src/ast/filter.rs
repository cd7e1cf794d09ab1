//! `filter …`, and filters as rules write them.

use super::super::source::Spanned;
use tapline_packet::headers::layer::LayerSet;

/// An expression or a file of them, and the layers that it looks through.
#[derive(Clone, PartialEq, Debug)]
pub struct Filter {
    pub source: Spanned<FilterSource>,
    pub through: Option<Spanned<LayerSet>>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum FilterSource {
    /// A filter that `filter create` defines.
    Named(String),
    /// A pcap-filter expression.
    Expression(String),
    /// A list of prefixes or expressions, one a line.
    File(String),
}
