//! A universal hash by carry-less products, the instruction that AES-GCM was given: dedup's digest of a frame, where the processor
//! has it.
//!
//! It is inside the fence because whether an instruction may be used is known at run time only, and the compiler cannot check that.
//! Each 16 bytes of the message are xored with 16 of a key, and the carry-less product of the two halves is xored to a sum. For two
//! different messages of one length the difference of their sums is any given value with a probability of at most 2^-64 over the
//! keys; the second sum is made with the key shifted by 16 bytes, so that both are as given with at most 2^-128. On processors
//! other than x86-64 there is none, and the caller hashes without.
//! # Source
//! Lemire and Kaser, "Faster 64-bit universal hashing using carry-less multiplications", 2016, section 4 (CLNH); RFC 4418, 5.2 (the
//! shifted key).

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The width of carry-less multiplication that the processor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carryless(Width);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    /// Four products an instruction (VPCLMULQDQ, AVX-512).
    #[cfg(target_arch = "x86_64")]
    Wide,
    /// One (PCLMULQDQ).
    #[cfg(target_arch = "x86_64")]
    Narrow,
}

/// Bytes that one step of the wide loop takes.
const STEP: usize = 64;

impl Carryless {
    /// The widest that this processor has, if any.
    pub fn detect() -> Option<Self> {
        Self::all().into_iter().next()
    }

    /// All that this processor has, the widest first.
    #[cfg(target_arch = "x86_64")]
    pub fn all() -> Vec<Self> {
        let has_wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("pclmulqdq");
        let narrow = is_x86_feature_detected!("pclmulqdq").then_some(Width::Narrow);
        has_wide.then_some(Width::Wide).into_iter().chain(narrow).map(Self).collect()
    }

    /// None: no instruction of this processor is known here.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn all() -> Vec<Self> {
        Vec::new()
    }

    /// Words of key that a message of `len` bytes needs.
    pub const fn key_words(len: usize) -> usize {
        (len.next_multiple_of(STEP) + 16) / 8
    }

    /// Both sums over `bytes`, behind which zeros are thought up to a whole step.
    ///
    /// # Panics
    /// If there are fewer than `key_words(bytes.len())` words of key.
    #[inline]
    pub fn sums(self, key: &[u64], bytes: &[u8]) -> [u128; 2] {
        assert!(key.len() >= Self::key_words(bytes.len()), "the key is as long as the message");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all`, which alone makes a `Wide`, found the features; the key's length was checked above.
            Width::Wide => unsafe { wide(key, bytes) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Width::Narrow => unsafe { narrow(key, bytes) },
        }
    }
}

/// # Safety
/// `key` has the words that `Carryless::key_words` asks for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,pclmulqdq,vpclmulqdq")]
unsafe fn wide(key: &[u64], bytes: &[u8]) -> [u128; 2] {
    let (steps, tail) = bytes.as_chunks::<STEP>();
    let mut sums = [_mm512_setzero_si512(); 2];
    for (at, step) in steps.iter().enumerate() {
        // SAFETY: a step has 64 bytes.
        let data = unsafe { _mm512_loadu_si512(step.as_ptr().cast()) };
        // SAFETY: the key goes on for 16 bytes behind the message's last step.
        sums = unsafe { add_wide(sums, data, key.as_ptr().cast::<u8>().add(at * STEP)) };
    }
    if !tail.is_empty() {
        // SAFETY: bytes that the mask leaves out are not read.
        let data = unsafe { _mm512_maskz_loadu_epi8((1 << tail.len()) - 1, tail.as_ptr().cast()) };
        // SAFETY: as above; the key is made for whole steps.
        sums = unsafe { add_wide(sums, data, key.as_ptr().cast::<u8>().add(steps.len() * STEP)) };
    }
    sums.map(|sum| {
        let half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        word(_mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)))
    })
}

/// # Safety
/// 80 bytes can be read at `key`.
#[inline]
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,vpclmulqdq")]
unsafe fn add_wide(sums: [__m512i; 2], data: __m512i, key: *const u8) -> [__m512i; 2] {
    // SAFETY: the caller's.
    let keys = unsafe { [_mm512_loadu_si512(key.cast()), _mm512_loadu_si512(key.add(16).cast())] };
    let add = |sum, key| {
        let masked = _mm512_xor_si512(data, key);
        _mm512_xor_si512(sum, _mm512_clmulepi64_epi128::<0x10>(masked, masked))
    };
    [add(sums[0], keys[0]), add(sums[1], keys[1])]
}

/// # Safety
/// `key` has the words that `Carryless::key_words` asks for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
unsafe fn narrow(key: &[u64], bytes: &[u8]) -> [u128; 2] {
    let (pairs, tail) = bytes.as_chunks::<16>();
    let mut padded = [0; 16];
    padded[..tail.len()].copy_from_slice(tail);
    let last = (!tail.is_empty()).then_some(&padded);
    let mut sums = [_mm_setzero_si128(); 2];
    for (at, pair) in pairs.iter().chain(last).enumerate() {
        // SAFETY: a pair has 16 bytes.
        let data = unsafe { _mm_loadu_si128(pair.as_ptr().cast()) };
        // SAFETY: the key goes on for 16 bytes behind the message's last pair.
        let keys = unsafe {
            let key = key.as_ptr().cast::<u8>().add(at * 16);
            [_mm_loadu_si128(key.cast()), _mm_loadu_si128(key.add(16).cast())]
        };
        for (sum, key) in sums.iter_mut().zip(keys) {
            let masked = _mm_xor_si128(data, key);
            *sum = _mm_xor_si128(*sum, _mm_clmulepi64_si128::<0x10>(masked, masked));
        }
    }
    sums.map(word)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn word(value: __m128i) -> u128 {
    // SAFETY: both are 128 plain bits.
    unsafe { std::mem::transmute(value) }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as one does it by hand.
    fn product(a: u64, b: u64) -> u128 {
        (0..64).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ u128::from(a) << bit)
    }

    proptest! {
        /// Zeros that are thought behind the message count where a step needs them, so the widths have different sums.
        #[test]
        fn sums_are_those_of_products_made_bit_by_bit(bytes in prop::collection::vec(any::<u8>(), 0..300), seed in any::<u64>()) {
            let key: Vec<u64> = (0..Carryless::key_words(bytes.len()) as u64).map(|word| crate::mix::mix(word, seed)).collect();
            for hash in Carryless::all() {
                let step = if hash.0 == Width::Wide { STEP } else { 16 };
                let mut padded = bytes.clone();
                padded.resize(bytes.len().next_multiple_of(step), 0);
                let mut sums = [0; 2];
                for (at, pair) in padded.chunks(16).enumerate() {
                    let half = |at: usize| u64::from_le_bytes(pair[at..at + 8].try_into().unwrap());
                    for (shift, sum) in sums.iter_mut().enumerate() {
                        let key = &key[2 * (at + shift)..];
                        *sum ^= product(half(0) ^ key[0], half(8) ^ key[1]);
                    }
                }
                prop_assert_eq!(hash.sums(&key, &bytes), sums, "{:?}", hash);
            }
        }
    }

    #[test]
    fn carry_less_products_are_those_of_the_manual() {
        // Intel, "Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode", figure 5: both low halves
        // multiplied.
        assert_eq!(product(0x6369_5d65_6e69_7461, 0x6369_5d65_6e69_7461) & 1, 1);
        assert_eq!(product(0b1011, 0b110), 0b11_1010);
    }
}
