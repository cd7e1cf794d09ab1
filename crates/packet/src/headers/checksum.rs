//! The Internet checksum (RFC 1071): over bytes, and kept right while bytes change (RFC 1624).

use crate::simd::wide_sum;

/// A ones-complement sum of big-endian 16-bit words, not yet folded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Adds one 16-bit word.
    #[inline(always)]
    pub fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// Adds a 32-bit number as two words.
    #[inline(always)]
    pub fn long(self, long: u32) -> Sum {
        Sum(self.0 + u64::from(long >> 16) + u64::from(long & 0xffff))
    }

    /// Adds bytes that begin at an even offset of what is summed; an odd last byte is padded with zero.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        // Words are added in the machine's byte order and swapped once at the end (RFC 1071, section 2B), which lets wide registers
        // do it.
        let (fours, rest) = bytes.as_chunks::<4>();
        let mut native = wide_sum::sum(fours);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        native += u64::from(u32::from_ne_bytes(last));
        Sum(self.0 + u64::from(u16::from_be(fold(native))))
    }

    /// Adds the segments of one datagram, one after the other; segments of odd length are allowed anywhere.
    #[inline]
    pub fn segments(self, segments: &[&[u8]]) -> Sum {
        let mut sum = self;
        let mut offset = 0;
        for segment in segments {
            let part = Sum::default().bytes(segment).folded();
            // A byte at an odd offset is the low half of its word: swapping the folded sum moves all bytes across (RFC 1071, 2B).
            sum = sum.word(if offset % 2 == 0 { part } else { part.swap_bytes() });
            offset += segment.len();
        }
        sum
    }

    /// The 16-bit ones-complement sum.
    #[inline(always)]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum field's value: the complement of the sum.
    #[inline(always)]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum for UDP, where zero means "none" and is sent as all ones (RFC 768).
    #[inline(always)]
    pub fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum after the words summing to `old` became words summing to `new` (both folded).
/// A wrong checksum stays wrong by as much.
/// # Source
/// RFC 1624, equation 3.
#[inline(always)]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's definition, a word at a time.
    fn model(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_sum_of_rfc_1071_is_reproduced() {
        // RFC 1071, section 3: 0001 f203 f4f5 f6f7 sums to ddf2.
        assert_eq!(
            Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(),
            0xddf2
        );
    }

    proptest! {
        #[test]
        fn sums_equal_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).folded(), model(&bytes));
        }

        #[test]
        fn segments_sum_to_what_the_whole_sums_to(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200, more in 0usize..200) {
            let cut = cut.min(bytes.len());
            let more = (cut + more).min(bytes.len());
            let segments = [&bytes[..cut], &bytes[cut..more], &bytes[more..]];
            prop_assert_eq!(Sum::default().segments(&segments).folded(), model(&bytes));
        }

        #[test]
        fn an_updated_checksum_equals_a_fresh_one(mut bytes in proptest::collection::vec(1u8.., 20..60), new in any::<[u8; 2]>()) {
            let before = Sum::default().bytes(&bytes).checksum();
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&new);
            prop_assert_eq!(updated(before, old, u16::from_be_bytes(new)), Sum::default().bytes(&bytes).checksum());
        }
    }
}
