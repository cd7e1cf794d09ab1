//! The tests of a path that are left once the headers are known, for leaves and for tables over pairs of fields alike.

use super::field::ValueSet;

/// A path's remaining tests, by number of its field and of its set.
pub(super) struct LeafPath<'b> {
    pub row: u32,
    pub tests: Vec<(usize, &'b ValueSet)>,
}

impl<'b> LeafPath<'b> {
    /// The values that it accepts of a field that it tests.
    pub(super) fn test(&self, field: usize) -> Option<&'b ValueSet> {
        self.tests.iter().find(|test| test.0 == field).map(|test| test.1)
    }
}
