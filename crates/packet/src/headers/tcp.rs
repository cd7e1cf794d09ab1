//! TCP header.
//! # Source
//! RFC 9293, 3.1.

use super::{be16, be32, chunk};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// The fixed part of a header.
#[derive(Clone, Copy)]
pub struct Tcp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Tcp<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    pub fn source_port(&self) -> u16 {
        be16(self.0, 0)
    }

    pub fn destination_port(&self) -> u16 {
        be16(self.0, 2)
    }

    pub fn sequence(&self) -> u32 {
        be32(self.0, 4)
    }

    /// Bytes of the header with its options, as the packet says; below 20 is malformed.
    pub fn header_len(&self) -> usize {
        usize::from(self.0[12] >> 4) * 4
    }

    pub fn flags(&self) -> u8 {
        self.0[13]
    }
}
