//! ERSPAN II and III headers. ERSPAN I has none: the mirrored frame follows a GRE header of four bytes.
//! # Source
//! draft-foschiano-erspan-03, 4.2 and 4.3.

use super::{be16, be32, chunk};

/// Bytes of an ERSPAN II header.
pub const HEADER2_LEN: usize = 8;
/// Bytes of an ERSPAN III header without the platform-specific subheader.
pub const HEADER3_LEN: usize = 12;
/// Bytes of the platform-specific subheader of ERSPAN III.
pub const SUBHEADER_LEN: usize = 8;
/// What the version field of an ERSPAN II header holds.
pub const VERSION_2: u8 = 1;
/// What the version field of an ERSPAN III header holds.
pub const VERSION_3: u8 = 2;
/// Frame type of ERSPAN III: an IP packet instead of an Ethernet frame.
pub const FRAME_IP: u8 = 2;

/// The first eight bytes, which versions II and III share for the most part.
#[derive(Clone, Copy)]
pub struct Erspan<'a>(&'a [u8; HEADER2_LEN]);

impl<'a> Erspan<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// `VERSION_2` or `VERSION_3`; other values are unknown.
    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// VLAN of the mirrored frame, as the mirroring switch saw it.
    pub fn vlan(&self) -> u16 {
        be16(self.0, 0) & 0x0fff
    }

    /// Session (10 bits).
    pub fn session(&self) -> u16 {
        be16(self.0, 2) & 0x03ff
    }

    /// The mirrored frame was longer than what is carried (the T bit).
    pub fn is_truncated(&self) -> bool {
        be16(self.0, 2) & 0x0400 != 0
    }

    /// Port index of ERSPAN II (20 bits).
    pub fn index(&self) -> u32 {
        be32(self.0, 4) & 0x000f_ffff
    }
}

/// An ERSPAN III header.
#[derive(Clone, Copy)]
pub struct Erspan3<'a>(&'a [u8; HEADER3_LEN]);

impl<'a> Erspan3<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// The lower 32 bits of the time, in the header's granularity.
    pub fn timestamp(&self) -> u32 {
        be32(self.0, 4)
    }

    /// Frame type: 0 an Ethernet frame, 2 an IP packet.
    pub fn frame_type(&self) -> u8 {
        (be16(self.0, 10) >> 10) as u8 & 0x1f
    }

    /// Whether a platform-specific subheader follows (the O bit).
    pub fn has_subheader(&self) -> bool {
        self.0[11] & 1 != 0
    }

    /// Bytes of the header with its subheader.
    pub fn header_len(&self) -> usize {
        HEADER3_LEN + if self.has_subheader() { SUBHEADER_LEN } else { 0 }
    }
}
