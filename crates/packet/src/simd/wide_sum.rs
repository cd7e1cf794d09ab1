//! The sum that Internet checksums are made of, over long pieces, by the widest registers that the processor has.
//!
//! It is inside the fence because whether an instruction may be used is known at run time only, and the compiler cannot check that.

/// Adds up 32-bit words in the machine's byte order.
#[inline]
pub fn sum(words: &[[u8; 4]]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if words.len() >= WORTH_WIDE {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            return unsafe { sum_by_lines(words) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { sum_by_half_lines(words) };
        }
    }
    sum_in_turn(words)
}

/// Words below which nothing is gained: headers.
#[cfg(target_arch = "x86_64")]
const WORTH_WIDE: usize = 32;

#[inline(always)]
fn sum_in_turn(words: &[[u8; 4]]) -> u64 {
    words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_by_lines(words: &[[u8; 4]]) -> u64 {
    sum_in_turn(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_by_half_lines(words: &[[u8; 4]]) -> u64 {
    sum_in_turn(words)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_the_same_by_all_registers(words in proptest::collection::vec(any::<[u8; 4]>(), 0..600)) {
            let expected = sum_in_turn(&words);
            prop_assert_eq!(sum(&words), expected);
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                prop_assert_eq!(unsafe { sum_by_half_lines(&words) }, expected);
            }
        }
    }
}
