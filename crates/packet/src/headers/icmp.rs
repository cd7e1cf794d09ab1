//! ICMP and ICMPv6: the part that all messages share.
//! # Source
//! RFC 792; RFC 4443, 2.1.

use super::chunk;

/// Bytes of a message's header: type, code, checksum, and four that the type defines.
pub const HEADER_LEN: usize = 8;

/// The header of a message.
#[derive(Clone, Copy)]
pub struct Icmp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Icmp<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    pub fn message_type(&self) -> u8 {
        self.0[0]
    }

    pub fn code(&self) -> u8 {
        self.0[1]
    }
}
