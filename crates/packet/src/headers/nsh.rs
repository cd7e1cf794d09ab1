//! Network Service Header.
//! # Source
//! RFC 8300, 2.2.

use super::chunk;

/// Bytes of the base and service path headers: the least that a header has.
const MIN_LEN: usize = 8;

/// Next protocols (RFC 8300, 9.1.6; MPLS: RFC 8300 as amended by IANA).
pub const NEXT_IPV4: u8 = 1;
pub const NEXT_IPV6: u8 = 2;
pub const NEXT_ETHERNET: u8 = 3;
pub const NEXT_NSH: u8 = 4;
pub const NEXT_MPLS: u8 = 5;

/// The base and service path headers.
#[derive(Clone, Copy)]
pub struct Nsh<'a>(&'a [u8; MIN_LEN]);

impl<'a> Nsh<'a> {
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Returns whether this can be a header: version 0, and a length that holds the fixed part.
    pub fn is_sound(&self) -> bool {
        self.0[0] >> 6 == 0 && self.header_len() >= MIN_LEN
    }

    /// Bytes of the header with its context headers, 0 to 252 as the packet says.
    pub fn header_len(&self) -> usize {
        usize::from(self.0[1] & 0x3f) * 4
    }

    pub fn next_protocol(&self) -> u8 {
        self.0[3]
    }
}
