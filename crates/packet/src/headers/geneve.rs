//! GENEVE header.
//! # Source
//! RFC 8926, 3.4.

use super::{be16, be32, chunk, ethernet};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 8;

/// The fixed part of a header.
#[derive(Clone, Copy)]
pub struct Geneve<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Geneve<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// 0 is the only version there is.
    pub fn version(&self) -> u8 {
        self.0[0] >> 6
    }

    /// Bytes of the header with its options: 8 to 260.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + usize::from(self.0[0] & 0x3f) * 4
    }

    /// The type of what follows, an ethertype.
    pub fn protocol(&self) -> u16 {
        be16(self.0, 2)
    }

    /// Virtual network identifier (24 bits).
    pub fn vni(&self) -> u32 {
        be32(self.0, 4) >> 8
    }
}

/// The header, without options, of an Ethernet frame in network `vni` (24 bits).
pub fn header(vni: u32) -> [u8; HEADER_LEN] {
    let ([_, a, b, c], [high, low]) = (vni.to_be_bytes(), ethernet::TYPE_TEB.to_be_bytes());
    [0, 0, high, low, a, b, c, 0]
}
