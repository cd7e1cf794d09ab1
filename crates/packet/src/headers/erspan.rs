//! ERSPAN II and III headers. ERSPAN I has none: the mirrored frame follows a GRE header of four bytes.
//! # Source
//! draft-foschiano-erspan-03, 4.2 and 4.3.

use super::vlan::VlanTag;
use super::{be16, be32, chunk};

/// Bytes of an ERSPAN II header.
pub const HEADER2_LEN: usize = 8;
/// Bytes of an ERSPAN III header without the platform-specific subheader.
pub const HEADER3_LEN: usize = 12;
/// Bytes of the platform-specific subheader of ERSPAN III.
pub const SUBHEADER_LEN: usize = 8;
/// The most that ten bits of session id hold.
pub const MAX_SESSION: u16 = 1023;
/// The value of the version field in an ERSPAN II header.
pub const VERSION_2: u8 = 1;
/// The value of the version field in an ERSPAN III header.
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

    /// Security group tag of the mirrored frame.
    pub fn security_group_tag(&self) -> u16 {
        be16(self.0, 8)
    }

    /// The engine that saw the frame (6 bits).
    pub fn hardware(&self) -> u8 {
        (be16(self.0, 10) >> 4) as u8 & 0x3f
    }

    /// The frame was leaving the mirrored port, not entering it (the D bit).
    pub fn is_egress(&self) -> bool {
        self.0[11] & 0x08 != 0
    }

    /// Unit of the time: 0 is 100 microseconds, 1 is 100 nanoseconds, 2 is IEEE 1588 (nanoseconds).
    pub fn granularity(&self) -> u8 {
        self.0[11] >> 1 & 3
    }

    /// Frame type: 0 an Ethernet frame, 2 an IP packet.
    pub fn frame_type(&self) -> u8 {
        (be16(self.0, 10) >> 10) as u8 & 0x1f
    }

    /// Returns whether a platform-specific subheader follows (the O bit).
    pub fn has_subheader(&self) -> bool {
        self.0[11] & 1 != 0
    }

    /// Bytes of the header with its subheader.
    pub fn header_len(&self) -> usize {
        HEADER3_LEN + if self.has_subheader() { SUBHEADER_LEN } else { 0 }
    }
}

/// The fields by which both types describe a mirrored frame.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mirrored {
    /// 10 bits.
    pub session: u16,
    /// The frame's own tag; none where it is untagged.
    pub tag: Option<VlanTag>,
    /// Class of service, 3 bits.
    pub cos: u8,
    /// The frame was cut to fit.
    pub truncated: bool,
}

impl Mirrored {
    /// The four bytes that type II and III share but for version and the two bits after the class of service.
    fn first_word(self, version: u8, two_bits: u32) -> u32 {
        let tag = self.tag.unwrap_or_default();
        u32::from(version) << 28
            | u32::from(tag.vlan & 0xfff) << 16
            | u32::from(self.cos & 7) << 13
            | two_bits << 11
            | u32::from(self.truncated) << 10
            | u32::from(self.session & MAX_SESSION)
    }
}

/// The type II header. `index` has 20 bits: where the frame was seen.
pub fn type2(mirrored: Mirrored, index: u32) -> [u8; HEADER2_LEN] {
    // Encapsulation type: 3 where the frame's own tag is kept in it, 0 where it has none (draft, section 4.2).
    let encapsulation = if mirrored.tag.is_some() { 3 } else { 0 };
    let (first, second) =
        (mirrored.first_word(VERSION_2, encapsulation).to_be_bytes(), (index & 0xf_ffff).to_be_bytes());
    let mut out = [0; HEADER2_LEN];
    out[..4].copy_from_slice(&first);
    out[4..].copy_from_slice(&second);
    out
}

/// The fields that only type III has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Type3 {
    /// In units of the granularity.
    pub timestamp: u32,
    pub security_group_tag: u16,
    /// 6 bits: which engine of the sender saw the frame.
    pub hardware: u8,
    /// The frame was leaving the mirrored port, not entering it.
    pub egress: bool,
    /// 0: 100 microseconds, 1: 100 nanoseconds, 2: IEEE 1588 (nanoseconds), 3: as configured.
    pub granularity: u8,
    /// The platform subheader: a first word, that begins with six bits of platform id, and a second.
    pub subheader: Option<(u32, u32)>,
}

/// Writes the type III header of an Ethernet frame, and the subheader where there is one; returns its bytes.
///
/// # Panics
/// If `out` is shorter than `HEADER3_LEN`, and with a subheader `SUBHEADER_LEN` more.
#[inline(always)]
pub fn write_type3(out: &mut [u8], mirrored: Mirrored, type3: &Type3) -> usize {
    let last = u16::from(type3.hardware & 0x3f) << 4
        | 1 << 15 // The payload is a link-layer frame (P), of type Ethernet (FT 0).
        | u16::from(type3.egress) << 3
        | u16::from(type3.granularity & 3) << 1
        | u16::from(type3.subheader.is_some());
    let both = |first: u32, second: u32| (u64::from(first) << 32 | u64::from(second)).to_be_bytes();
    out[..8].copy_from_slice(&both(mirrored.first_word(VERSION_3, 0), type3.timestamp));
    out[8..12]
        .copy_from_slice(&(u32::from(type3.security_group_tag) << 16 | u32::from(last)).to_be_bytes());
    let Some((first, second)) = type3.subheader else { return HEADER3_LEN };
    out[12..20].copy_from_slice(&both(first, second));
    HEADER3_LEN + SUBHEADER_LEN
}
