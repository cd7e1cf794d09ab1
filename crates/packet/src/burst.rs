//! The sets of packets of a burst that stages hand on: one bit a packet.

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not, Sub, SubAssign};

/// The most packets in a burst: a `Selection` has a bit for each.
pub const MAX_BURST: usize = 64;

/// A set of packets of one burst: bit `i` stands for packet `i`. `a & b`, `a | b`, `a - b` and `!a` are those of sets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct Selection(u64);

impl Selection {
    pub const NONE: Selection = Selection(0);

    /// Every packet that a burst can have.
    pub const ALL: Selection = Selection(u64::MAX);

    /// The packets whose bits are set.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Selection {
        Selection(bits)
    }

    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Packet `index` (0..64) alone.
    #[inline(always)]
    pub const fn only(index: usize) -> Selection {
        Selection(1 << index)
    }

    /// Packet `index` (0..64), or none.
    #[inline(always)]
    pub fn only_if(index: usize, is_in: bool) -> Selection {
        Selection(u64::from(is_in) << index)
    }

    /// The first `count` packets (`count` is 0..=64).
    #[inline(always)]
    pub fn first(count: usize) -> Selection {
        debug_assert!(count <= MAX_BURST);
        if count >= MAX_BURST { Selection(u64::MAX) } else { Selection((1 << count) - 1) }
    }

    /// Returns whether packet `index` (0..64) is selected.
    #[inline(always)]
    pub const fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Selects packet `index` (0..64) too.
    #[inline(always)]
    pub fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Selects packet `index` (0..64) no longer.
    #[inline(always)]
    pub fn remove(&mut self, index: usize) {
        self.0 &= !(1 << index);
    }

    #[inline(always)]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first `count` of the selected packets.
    #[inline]
    pub fn take(self, count: usize) -> Selection {
        if count >= self.count() as usize {
            return self;
        }
        self.indices().take(count).collect()
    }

    /// The selected packets that `holds` is true for.
    #[inline(always)]
    pub fn filter(self, mut holds: impl FnMut(usize) -> bool) -> Selection {
        self.indices().fold(Selection::NONE, |kept, index| kept | Selection::only_if(index, holds(index)))
    }

    /// The indices of the selected packets, ascending.
    #[inline(always)]
    pub fn indices(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let index = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Some(index)
        })
    }
}

impl FromIterator<usize> for Selection {
    #[inline(always)]
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        indices.into_iter().fold(Selection::NONE, |all, index| all | Selection::only(index))
    }
}

impl BitAnd for Selection {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Selection(self.0 & other.0)
    }
}

impl BitOr for Selection {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Selection(self.0 | other.0)
    }
}

impl Sub for Selection {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Selection(self.0 & !other.0)
    }
}

impl Not for Selection {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        Selection(!self.0)
    }
}

impl BitAndAssign for Selection {
    #[inline(always)]
    fn bitand_assign(&mut self, other: Self) {
        *self = *self & other;
    }
}

impl BitOrAssign for Selection {
    #[inline(always)]
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl SubAssign for Selection {
    #[inline(always)]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// A value for each packet of a burst, of which only those can be read that were written for this burst: what an earlier one left is
/// not there.
pub struct Column<T> {
    values: Box<[T; MAX_BURST]>,
    known: Selection,
}

impl<T: Copy> Column<T> {
    /// Nothing is known; `empty` is never read.
    pub fn new(empty: T) -> Self {
        Self { values: Box::new([empty; MAX_BURST]), known: Selection::NONE }
    }
}

impl<T> Column<T> {
    /// Forgets the burst before.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.known = Selection::NONE;
    }

    /// Those of `wanted` that are not known yet.
    #[inline(always)]
    pub fn missing(&self, wanted: Selection) -> Selection {
        wanted - self.known
    }

    /// Lets `write` fill in the values of `written`, each of them.
    #[inline(always)]
    pub fn write(&mut self, written: Selection, write: impl FnOnce(&mut [T; MAX_BURST])) {
        // not before they are there: `write` may unwind
        write(&mut self.values);
        self.known |= written;
    }

    /// Lets `write` fill in values, and say which.
    #[inline(always)]
    pub fn fill(&mut self, write: impl FnOnce(&mut [T; MAX_BURST]) -> Selection) {
        self.known |= write(&mut self.values);
    }

    /// Gives the values that are known.
    #[inline(always)]
    pub fn view(&self) -> Known<'_, T> {
        Known { values: &self.values, known: self.known }
    }
}

/// A view of the values that a [`Column`] knows of a burst's packets.
#[derive(Debug)]
pub struct Known<'a, T> {
    values: &'a [T; MAX_BURST],
    known: Selection,
}

impl<T> Clone for Known<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Known<'_, T> {}

impl<'a, T> Known<'a, T> {
    /// All of `values` are known.
    pub fn all(values: &'a [T; MAX_BURST]) -> Self {
        Self { values, known: Selection(u64::MAX) }
    }

    /// The values of the first `count` packets, if all of them are known.
    #[inline(always)]
    pub fn first(self, count: usize) -> Option<&'a [T]> {
        let wanted = Selection::first(count);
        (wanted - self.known).is_empty().then_some(&self.values[..count])
    }

    /// The values by packet, if those of all packets of `wanted` are known; others are not to be read.
    #[inline(always)]
    pub fn all_of(self, wanted: Selection) -> Option<&'a [T; MAX_BURST]> {
        (wanted - self.known).is_empty().then_some(self.values)
    }

    /// The value of one packet, if it is known.
    #[inline(always)]
    pub fn get(self, index: usize) -> Option<&'a T> {
        self.values.get(index).filter(|_| self.known.contains(index))
    }

    /// The values of the packets of `wanted` that are known, with their indices, ascending.
    #[inline(always)]
    pub fn of(self, wanted: Selection) -> impl Iterator<Item = (usize, &'a T)> {
        (wanted & self.known).indices().map(move |index| (index, &self.values[index]))
    }
}

/// Which of many rules got packets in a burst, so that only their selections are looked at and cleared.
#[derive(Clone, Default, Debug)]
pub struct Touched {
    words: Vec<u64>,
}

impl Touched {
    /// None of `rule_count` rules.
    pub fn new(rule_count: usize) -> Touched {
        Touched { words: vec![0; rule_count.div_ceil(64)] }
    }

    /// Adds a rule.
    ///
    /// # Panics
    /// If `rule` is not below the `rule_count` given to `new`, rounded up to 64.
    #[inline(always)]
    pub fn mark(&mut self, rule: usize) {
        self.words[rule / 64] |= 1 << (rule % 64);
    }

    /// Takes a rule away again.
    #[inline(always)]
    pub fn unmark(&mut self, rule: usize) {
        self.words[rule / 64] &= !(1 << (rule % 64));
    }

    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Calls `on_rule` for each rule, ascending, and forgets them.
    #[inline(always)]
    pub fn drain(&mut self, mut on_rule: impl FnMut(usize)) {
        for (at, word) in self.words.iter_mut().enumerate() {
            for bit in Selection(std::mem::take(word)).indices() {
                on_rule(at * 64 + bit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_burst_left_cannot_be_read() {
        let mut column = Column::new(0);
        column.write(Selection(0b1011), |values| values[..4].copy_from_slice(&[7, 8, 9, 10]));
        let known: Vec<(usize, i32)> =
            column.view().of(Selection(u64::MAX)).map(|(index, &value)| (index, value)).collect();
        assert_eq!((known, column.view().get(2)), (vec![(0, 7), (1, 8), (3, 10)], None));
        assert_eq!(column.missing(Selection(0b111)), Selection(0b100));
        column.clear();
        assert_eq!((column.view().get(0), column.view().of(Selection(u64::MAX)).count()), (None, 0));
    }
}
