//! Mixing of bits, and random numbers by a seed.

/// Spreads a flow hash under a seed: the high and low halves of a 128-bit product, folded.
///
/// Part of what brokers with one seed agree on, so it never changes. It also makes the sampled flows independent of the bits by
/// which groups and receive queues choose: without it a sampled stream would reach only some of a group's tools.
#[inline(always)]
pub fn mix(hash: u64, seed: u64) -> u64 {
    // Odd constants: the golden ratio, and those of wyhash (public domain), each with 32 bits set.
    let left = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xa076_1d64_78bd_642f;
    let product = u128::from(left) * u128::from(0xe703_7ed1_a0b4_28db_u64);
    let folded = (product >> 64) as u64 ^ product as u64;
    let product = u128::from(folded ^ 0x8ebc_6af0_9c88_c6e3) * u128::from(0x5899_65cc_7537_4cc3_u64);
    (product >> 64) as u64 ^ product as u64
}

/// Steele, Lea and Flood's generator: 64 bits of state, passes BigCrush.
/// # Source
/// "Fast splittable pseudorandom number generators", OOPSLA 2014.
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
