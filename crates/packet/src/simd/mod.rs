//! Instructions that not every processor has, chosen at run time, and what does the same without them.
#![expect(unsafe_code, reason = "what a processor has is known at run time only")]

/// Carryless multiplication: hashes of flows.
pub mod clmul;
/// Sums of wide words: checksums.
pub mod wide_sum;
