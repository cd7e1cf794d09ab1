//! A list of address prefixes as one rule: `net P1 or net P2 or ...`, for lists too long to be compiled one by one.
//!
//! Stands beside `Index` for `match file`. Each prefix has exactly the meaning of libpcap's `net P` (`host A` for a whole address),
//! which takes ARP and RARP packets in for IPv4, and on cut packets reads no more of an IPv6 address than the prefix covers.

use std::fmt;

use super::load::first_chunk;
use tapline_packet::burst::Selection;
use tapline_packet::frame::Frame;
use tapline_packet::prefix::Prefix;

/// Which address of a packet is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// `src net`
    Source,
    /// `dst net`
    Destination,
    /// `net`: one or the other.
    Either,
}

/// Many prefixes as one rule; immutable, shared by all workers.
#[derive(PartialEq, Eq)]
pub struct PrefixSet {
    direction: Direction,
    /// A prefix of no bits is among them, which looks at the ethertype only.
    all_v4: bool,
    all_v6: bool,
    v4: Ranges,
    /// For 1 to 4 captured words of an address: the prefixes that reach no further.
    v6: [Ranges; 4],
}

// there may be millions of them
impl fmt::Debug for PrefixSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.v4.ranges.len() + self.v6.iter().map(|ranges| ranges.ranges.len()).sum::<usize>();
        write!(out, "PrefixSet of {ranges} ranges")
    }
}

impl PrefixSet {
    /// Any number of prefixes, in any order, overlapping or not.
    pub fn new(prefixes: &[Prefix], direction: Direction) -> Self {
        let all =
            |v4: bool| prefixes.iter().any(|prefix| prefix.bits() == 0 && prefix.address().is_ipv4() == v4);
        let ranges = |v4: bool, bits: usize| {
            let covered = prefixes
                .iter()
                .filter(|prefix| prefix.address().is_ipv4() == v4 && usize::from(prefix.bits()) <= bits);
            Ranges::new(covered.map(|prefix| prefix.range()).collect())
        };
        Self {
            direction,
            all_v4: all(true),
            all_v6: all(false),
            v4: ranges(true, 32),
            v6: std::array::from_fn(|words| ranges(false, (words + 1) * 32)),
        }
    }

    /// The packets of `among` that have an address in the set.
    ///
    /// # Panics
    /// If `among` names a packet that is not in `frames`.
    pub fn select(&self, frames: &[Frame<'_>], among: Selection) -> Selection {
        let mut selected = 0;
        for packet in among.indices() {
            selected |= u64::from(self.matches(frames[packet].bytes())) << packet;
        }
        Selection::from_bits(selected)
    }

    #[inline(always)]
    fn matches(&self, bytes: &[u8]) -> bool {
        match first_chunk(bytes, 12).map(u16::from_be_bytes) {
            Some(0x0800) => self.all_v4 || self.either(26, 30, |at| self.has_v4(bytes, at)),
            // ARP and RARP: the protocol addresses of sender and target.
            Some(0x0806 | 0x8035) => self.all_v4 || self.either(28, 38, |at| self.has_v4(bytes, at)),
            Some(0x86dd) => self.all_v6 || self.either(22, 38, |at| self.has_v6(bytes, at)),
            _ => false,
        }
    }

    /// Returns whether the address at `source` or at `destination` is in the set, as the direction says. If the source is cut off,
    /// so is the destination behind it. A failing load ends libpcap's program at once, which makes no difference here.
    #[inline(always)]
    fn either(&self, source: usize, destination: usize, has: impl Fn(usize) -> bool) -> bool {
        match self.direction {
            Direction::Source => has(source),
            Direction::Destination => has(destination),
            Direction::Either => has(source) || has(destination),
        }
    }

    #[inline(always)]
    fn has_v4(&self, bytes: &[u8], at: usize) -> bool {
        first_chunk(bytes, at)
            .is_some_and(|address| self.v4.contains(u128::from(u32::from_be_bytes(address)) << 96))
    }

    #[inline(always)]
    fn has_v6(&self, bytes: &[u8], at: usize) -> bool {
        match first_chunk(bytes, at) {
            Some(address) => self.v6[3].contains(u128::from_be_bytes(address)),
            None => self.has_cut_v6(bytes.get(at..).unwrap_or(&[])),
        }
    }

    #[cold]
    fn has_cut_v6(&self, address: &[u8]) -> bool {
        let (words, _) = address.as_chunks::<4>();
        let value = words.iter().fold(0, |value, &word| value << 32 | u128::from(u32::from_be_bytes(word)));
        let missing = 32 * (4 - u32::try_from(words.len()).expect("fewer than four"));
        words.len().checked_sub(1).is_some_and(|last| self.v6[last].contains(value << missing))
    }
}

/// Disjoint ranges of addresses, found by the first 16 bits in which they differ.
#[derive(PartialEq, Eq)]
struct Ranges {
    /// Leading bits that all ranges share, and their value in place.
    shared_bits: u32,
    shared: u128,
    /// For each value of the next 16 bits, the place of the first range that ends at or after it; and the number of ranges.
    starts: Vec<u32>,
    ranges: Vec<(u128, u128)>,
}

impl Ranges {
    fn new(mut all: Vec<(u128, u128)>) -> Self {
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        ranges.shrink_to_fit();
        let (lowest, highest) =
            ranges.first().zip(ranges.last()).map_or((0, 0), |(first, last)| (first.0, last.1));
        let shared_bits = (lowest ^ highest).leading_zeros().min(112);
        let mut set = Self { shared_bits, shared: lowest, starts: Vec::new(), ranges };
        if !set.ranges.is_empty() {
            let mut at = 0;
            for slot in 0..=u128::from(u16::MAX) {
                let first = set.shared & !set.mask() | slot << (112 - shared_bits);
                at += set.ranges[at..].iter().take_while(|range| range.1 < first).count();
                set.starts.push(u32::try_from(at).expect("fewer than 2^32 prefixes"));
            }
            set.starts.push(u32::try_from(set.ranges.len()).expect("fewer than 2^32 prefixes"));
        }
        set
    }

    /// The bits that are not shared.
    fn mask(&self) -> u128 {
        u128::MAX >> self.shared_bits
    }

    #[inline(always)]
    fn contains(&self, address: u128) -> bool {
        if (address ^ self.shared) & !self.mask() != 0 || self.starts.is_empty() {
            return false;
        }
        let slot = ((address & self.mask()) >> (112 - self.shared_bits)) as usize;
        // The range that holds the address ends in this slot or is the first that ends in a later one.
        let (from, to) = (self.starts[slot] as usize, self.starts[slot + 1] as usize);
        let candidates = &self.ranges[from..(to + 1).min(self.ranges.len())];
        let at = candidates.partition_point(|range| range.1 < address);
        candidates.get(at).is_some_and(|range| range.0 <= address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_packet::prefix::PrefixError;

    #[test]
    fn prefixes_are_read_as_libpcap_reads_them() {
        for text in
            ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1", "2001:db8::/32", "::/0", "::1", "::ffff:1.2.3.4/128"]
        {
            assert!(text.parse::<Prefix>().is_ok(), "{text}");
        }
        for (text, error) in [
            ("10.0.0.1/8", PrefixError::HostBits),
            ("10.0.0.0/0", PrefixError::HostBits),
            ("2001:db8::1/127", PrefixError::HostBits),
            ("10.0.0.0/33", PrefixError::TooLong(32)),
            ("::/129", PrefixError::TooLong(128)),
            ("::/999", PrefixError::TooLong(128)),
            ("10.0.0.0/08", PrefixError::Syntax),
            ("10.0.0.0/+8", PrefixError::Syntax),
            ("10.0.0.0/", PrefixError::Syntax),
            ("10/8", PrefixError::Syntax),
            ("", PrefixError::Syntax),
            ("net 10.0.0.0/8", PrefixError::Syntax),
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_empty_set_selects_nothing() {
        let set = PrefixSet::new(&[], Direction::Either);
        for ethertype in [[8, 0], [8, 6], [0x86, 0xdd]] {
            let mut bytes = [0; 60];
            bytes[12..14].copy_from_slice(&ethertype);
            assert!(set.select(&[Frame::whole(&bytes)], Selection::from_bits(1)).is_empty());
        }
    }
}
