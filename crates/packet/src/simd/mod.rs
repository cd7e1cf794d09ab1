//! Instructions that not every processor has, chosen at run time, and what does the same without them.
#![allow(unsafe_code)]

/// Carryless multiplication: hashes of flows.
pub mod clmul;
/// Sums of wide words: checksums.
pub mod wide_sum;
