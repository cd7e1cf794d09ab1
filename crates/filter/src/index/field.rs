//! The fields of a packet that a classic BPF program looks at, and the sets of values that its tests accept.

use std::fmt::Debug;
use std::rc::Rc;

/// The source of a value in a packet.
///
/// The order is that in which a program usually loads: fixed offsets first, then those behind a variable header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Source {
    /// `width` bytes (1, 2 or 4, big-endian) at `offset`.
    Absolute { offset: u32, width: u8 },
    /// `width` bytes at `offset` behind a header of `4*([base]&0xf)` bytes, as `ldxb 4*([14]&0xf)` measures an IPv4 header.
    Indirect { base: u32, offset: u32, width: u8 },
    /// The packet's length on the wire.
    Len,
}

impl Source {
    /// The largest value that it can have.
    pub(super) fn max(self) -> u32 {
        match self {
            Source::Absolute { width, .. } | Source::Indirect { width, .. } => {
                u32::MAX >> (32 - 8 * u32::from(width))
            }
            Source::Len => u32::MAX,
        }
    }

    /// Returns whether a packet that has `self` surely has `other` too: it reaches as far.
    pub(super) fn implies(self, other: Source) -> bool {
        let end = |offset: u32, width: u8| u64::from(offset) + u64::from(width);
        match (self, other) {
            (_, Source::Len) => true,
            (Source::Len, _) => false,
            (Source::Absolute { offset: o, width: w }, Source::Absolute { offset, width }) => {
                end(o, w) >= end(offset, width)
            }
            (Source::Absolute { .. }, Source::Indirect { .. }) => false,
            // The header length is at least 0, and its own byte was read.
            (Source::Indirect { base, offset: o, width: w }, Source::Absolute { offset, width }) => {
                end(o, w).max(end(base, 1)) >= end(offset, width)
            }
            (
                Source::Indirect { base: b, offset: o, width: w },
                Source::Indirect { base, offset, width },
            ) => b == base && end(o, w) >= end(offset, width),
        }
    }
}

/// A value that paths test: what is read, and which of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Field {
    pub source: Source,
    /// Bits that count. Masks that keep only the leading bits never stand here: such a test is a range of the whole value.
    pub mask: u32,
}

/// A set of `u32`: ascending, disjoint, non-adjacent inclusive ranges.
///
/// Shared, not copied, by `clone`: a path is cloned at each test of a program, and changes one of its sets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ValueSet(Rc<[(u32, u32)]>);

impl ValueSet {
    pub(super) fn empty() -> Self {
        Self(Rc::default())
    }

    /// `low..=high`; empty where `low` is above `high`.
    pub(super) fn range(low: u32, high: u32) -> Self {
        if low <= high { Self(Rc::new([(low, high)])) } else { Self::empty() }
    }

    pub(super) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// How many values it holds.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|&(low, high)| u64::from(high - low) + 1).sum()
    }

    /// The value of a set that has just one.
    pub(super) fn single(&self) -> Option<u32> {
        match self.0[..] {
            [(low, high)] if low == high => Some(low),
            _ => None,
        }
    }

    /// Returns `true` if all of its values are in the ranges of `other`, which are as a set's, `false` if none is, and `None` if
    /// some are. It gives `None` for the empty set, too.
    pub(super) fn lies_in(&self, other: &[(u32, u32)]) -> Option<bool> {
        let (&(first, _), &(_, last)) = (self.0.first()?, self.0.last()?);
        if first == last {
            return Some(other.iter().any(|&(low, high)| low <= first && first <= high));
        }
        if let [(low, high)] = *other {
            let at = self.0.partition_point(|&(_, high)| high < low);
            return match self.0.get(at) {
                Some(&(from, _)) if from <= high => (low <= first && last <= high).then_some(true),
                _ => Some(false),
            };
        }
        let common = intersection(&self.0, other);
        if common.is_empty() { Some(false) } else { (common[..] == self.0[..]).then_some(true) }
    }

    /// Returns whether it is `0..=max`.
    pub(super) fn is_full(&self, max: u32) -> bool {
        self.0[..] == [(0, max)]
    }

    /// Gives the values of `0..=max` that are not in it.
    pub(super) fn complement(&self, max: u32) -> Self {
        let mut ranges = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(0u32);
        for &(low, high) in self.0.iter() {
            if let Some(start) = from
                && start < low
            {
                ranges.push((start, low - 1));
            }
            from = high.checked_add(1);
        }
        if let Some(start) = from
            && start <= max
        {
            ranges.push((start, max));
        }
        Self(ranges.into())
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        Self(intersection(&self.0, &other.0).into())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.0.iter().chain(other.0.iter()).copied().collect())
    }

    /// The union of any ranges.
    pub(super) fn from_ranges(mut all: Vec<(u32, u32)>) -> Self {
        all.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (low, high) in all {
            match ranges.last_mut() {
                Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
                _ => ranges.push((low, high)),
            }
        }
        Self(ranges.into())
    }
}

/// The ranges of the values that are in ranges of both.
fn intersection(one: &[(u32, u32)], other: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
        let (low, high) = (a.max(c), b.min(d));
        if low <= high {
            ranges.push((low, high));
        }
        if b < d {
            left.next()
        } else {
            right.next()
        };
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = (ValueSet, u32)> {
        // Bit i of the mask: whether the set holds i.
        any::<u32>().prop_map(|bits| {
            (ValueSet::from_ranges((0..32).filter(|i| bits >> i & 1 == 1).map(|i| (i, i)).collect()), bits)
        })
    }

    fn bits(set: &ValueSet) -> u32 {
        set.ranges().iter().flat_map(|&(low, high)| low..=high).fold(0, |bits, i| bits | 1 << i)
    }

    proptest! {
        #[test]
        fn set_operations_agree_with_bit_masks((a, x) in set(), (b, y) in set()) {
            prop_assert_eq!(bits(&a), x);
            prop_assert_eq!(bits(&a.intersection(&b)), x & y);
            prop_assert_eq!(bits(&a.union(&b)), x | y);
            prop_assert_eq!(bits(&a.complement(31)), !x);
            prop_assert_eq!(a.len(), u64::from(x.count_ones()));
            prop_assert_eq!(a.is_full(31), x == u32::MAX);
            let lies_in = match (x, x & y) { (0, _) => None, (_, 0) => Some(false), (_, common) => (common == x).then_some(true) };
            prop_assert_eq!(a.lies_in(b.ranges()), lies_in);
        }
    }

    #[test]
    fn sets_reach_to_the_largest_value() {
        let top = ValueSet::range(u32::MAX, u32::MAX);
        assert_eq!(top.complement(u32::MAX), ValueSet::range(0, u32::MAX - 1));
        assert!(top.union(&top.complement(u32::MAX)).is_full(u32::MAX));
        assert!(ValueSet::empty().complement(u32::MAX).is_full(u32::MAX));
    }
}
