//! What the stages say of a burst's packets: one bit a packet.

/// The most packets in a burst: a `Selection` has a bit for each.
pub const MAX_BURST: usize = 64;

/// A set of packets of one burst: bit `i` stands for packet `i`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct Selection(pub u64);

impl Selection {
    pub const NONE: Selection = Selection(0);

    /// The first `count` packets (`count` is 0..=64).
    #[inline(always)]
    pub fn first(count: usize) -> Selection {
        debug_assert!(count <= MAX_BURST);
        if count >= MAX_BURST { Selection(u64::MAX) } else { Selection((1 << count) - 1) }
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
        Selection(self.indices().take(count).fold(0, |bits, index| bits | 1 << index))
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
        Selection(wanted.0 & !self.known.0)
    }

    /// Lets `write` fill in the values of `written`, each of them.
    #[inline(always)]
    pub fn write(&mut self, written: Selection, write: impl FnOnce(&mut [T; MAX_BURST])) {
        // not before they are there: `write` may unwind
        write(&mut self.values);
        self.known.0 |= written.0;
    }

    /// Lets `write` fill in values, and say which.
    #[inline(always)]
    pub fn fill(&mut self, write: impl FnOnce(&mut [T; MAX_BURST]) -> Selection) {
        self.known.0 |= write(&mut self.values).0;
    }

    /// What is known.
    #[inline(always)]
    pub fn view(&self) -> Known<'_, T> {
        Known { values: &self.values, known: self.known }
    }
}

/// What a [`Column`] knows of the packets of a burst.
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
        (wanted.0 & !self.known.0 == 0).then_some(&self.values[..count])
    }

    /// The values by packet, if those of all packets of `wanted` are known; others are not to be read.
    #[inline(always)]
    pub fn all_of(self, wanted: Selection) -> Option<&'a [T; MAX_BURST]> {
        (wanted.0 & !self.known.0 == 0).then_some(self.values)
    }

    /// The value of one packet, if it is known.
    #[inline(always)]
    pub fn get(self, index: usize) -> Option<&'a T> {
        self.values.get(index).filter(|_| self.known.0 >> index & 1 == 1)
    }

    /// The values of the packets of `wanted` that are known, with their indices, ascending.
    #[inline(always)]
    pub fn of(self, wanted: Selection) -> impl Iterator<Item = (usize, &'a T)> {
        Selection(wanted.0 & self.known.0).indices().map(move |index| (index, &self.values[index]))
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
