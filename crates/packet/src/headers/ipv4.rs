//! IPv4 header.
//! # Source
//! RFC 791, 3.1.

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::{be16, be32, chunk};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// The fixed part of a header.
#[derive(Clone, Copy)]
pub struct Ipv4<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ipv4<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// Bytes of the header with its options, 0 to 60 as the packet says; below 20 is malformed.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    /// Returns whether this can be an IPv4 header: version 4, and a length that holds the fixed part.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        (0x45..=0x4f).contains(&self.0[0])
    }

    #[inline(always)]
    pub fn total_len(&self) -> u16 {
        be16(self.0, 2)
    }

    pub fn identification(&self) -> u16 {
        be16(self.0, 4)
    }

    /// More fragments follow, or this one does not begin the datagram.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        be16(self.0, 6) & 0x3fff != 0
    }

    /// Gives the position of this fragment's payload in the datagram, in units of 8 bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> u16 {
        be16(self.0, 6) & 0x1fff
    }

    /// Returns whether the flag is set that no sender sets.
    pub fn has_reserved_flag(&self) -> bool {
        be16(self.0, 6) & 0x8000 != 0
    }

    pub fn ttl(&self) -> u8 {
        self.0[8]
    }

    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0[9]
    }

    #[inline(always)]
    pub fn source(&self) -> u32 {
        be32(self.0, 12)
    }

    #[inline(always)]
    pub fn destination(&self) -> u32 {
        be32(self.0, 16)
    }
}

/// The fields of a header to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    /// Differentiated services code point, 0..=63.
    pub dscp: u8,
    pub dont_fragment: bool,
    pub identification: u16,
    /// Header and payload.
    pub total_len: u16,
}

/// Writes a header without options, checksum included, to the first 20 bytes of `out`.
///
/// # Panics
/// If `out` is shorter.
pub fn write(out: &mut [u8], header: &Header) {
    let out = &mut out[..HEADER_LEN];
    out[0] = 0x45;
    out[1] = header.dscp << 2;
    out[2..4].copy_from_slice(&header.total_len.to_be_bytes());
    out[4..6].copy_from_slice(&header.identification.to_be_bytes());
    out[6..8].copy_from_slice(&[if header.dont_fragment { 0x40 } else { 0 }, 0]);
    out[8] = header.ttl;
    out[9] = header.protocol;
    out[10..12].fill(0);
    out[12..16].copy_from_slice(&header.source.octets());
    out[16..20].copy_from_slice(&header.destination.octets());
    let checksum = Sum::default().bytes(out).checksum();
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
}
