//! L2TP version 2 header.
//! # Source
//! RFC 2661, 3.1.

use super::u16_at;

const TYPE: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const VERSION: u16 = 0x000f;

/// Returns whether the flags are those of version 2.
pub fn is_version_2(flags: u16) -> bool {
    flags & VERSION == 2
}

/// Returns whether the flags are those of a control message.
pub fn is_control(flags: u16) -> bool {
    flags & TYPE != 0
}

/// Bytes of the header of a data message at `offset`; `None` where it is cut.
pub fn header_len(bytes: &[u8], offset: usize, flags: u16) -> Option<usize> {
    // Flags, length, tunnel and session, sequence numbers, and padding that says its own size.
    let len = 6 + if flags & LENGTH != 0 { 2 } else { 0 } + if flags & SEQUENCE != 0 { 4 } else { 0 };
    if flags & OFFSET == 0 {
        return Some(len);
    }
    Some(len + 2 + usize::from(u16_at(bytes, offset + len)?))
}
