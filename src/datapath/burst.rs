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
