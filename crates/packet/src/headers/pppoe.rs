//! PPP over Ethernet, session stage.
//! # Source
//! RFC 2516, 4.

use super::{be16, chunk};

/// Bytes of the header; the PPP protocol number follows.
pub const HEADER_LEN: usize = 6;
/// The offset of the field that says how many bytes follow the header.
pub const LENGTH_OFFSET: usize = 4;

/// The header of a session packet.
#[derive(Clone, Copy)]
pub struct Pppoe<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Pppoe<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Returns whether version, type and code are those of a session packet.
    pub fn is_session(&self) -> bool {
        self.0[0] == 0x11 && self.0[1] == 0
    }

    pub fn session(&self) -> u16 {
        be16(self.0, 2)
    }
}
