//! MPLS label stack entries, and what a stack carries.
//! # Source
//! RFC 3032, 2.1 (label stack encoding); RFC 4385, 3 (pseudowire control word).

/// Bytes of a label stack entry.
pub const LABEL_LEN: usize = 4;
/// Bytes of a pseudowire's control word.
pub const CONTROL_WORD_LEN: usize = 4;

/// The label (0 to 1048575) of a stack entry.
#[inline(always)]
pub fn label(entry: u32) -> u32 {
    entry >> 12
}

/// Returns whether this entry is the last of its stack (the S bit).
#[inline(always)]
pub fn is_bottom(entry: u32) -> bool {
    entry & 0x100 != 0
}
