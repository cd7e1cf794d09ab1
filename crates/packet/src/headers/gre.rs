//! GRE header, version 0 with its optional fields, and version 1.
//! # Source
//! RFC 2784, 2; RFC 2890, 2 (key and sequence number); RFC 1701 (routing, refused here); RFC 7637, 3.2 (NVGRE); RFC 2637, 4.1 (version 1).

use super::{be16, chunk, ethernet, u32_at};

/// Bytes of a header without optional fields.
pub const HEADER_LEN: usize = 4;

/// Protocol type of ERSPAN I and II (draft-foschiano-erspan-03, 4).
pub const TYPE_ERSPAN: u16 = 0x88be;
/// Protocol type of ERSPAN III (draft-foschiano-erspan-03, 4).
pub const TYPE_ERSPAN3: u16 = 0x22eb;

const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGMENT: u16 = 0x0080;
const VERSION: u16 = 0x0007;
const ENHANCED: u16 = 1;

/// Bytes that Mellanox switches put between the header and a mirrored frame; what they mean is not published.
pub const MELLANOX_LEN: usize = 22;

/// A header; its optional fields are read from the bytes that follow the fixed part.
#[derive(Clone, Copy)]
pub struct Gre<'a> {
    fixed: &'a [u8; HEADER_LEN],
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Gre<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(|fixed| Self { fixed, bytes, offset })
    }

    fn flags(&self) -> u16 {
        be16(self.fixed, 0)
    }

    /// Version 0 without source routes: the only form whose payload can be found.
    pub fn is_sound(&self) -> bool {
        self.flags() & (VERSION | ROUTING) == 0
    }

    /// Version 1, as PPTP has it: with a key, that holds payload length and call, and without source routes (RFC 2637, 4.1).
    pub fn is_enhanced(&self) -> bool {
        self.flags() & (VERSION | ROUTING | CHECKSUM | KEY) == ENHANCED | KEY
    }

    /// Bytes of a header of version 1.
    pub fn enhanced_len(&self) -> usize {
        HEADER_LEN + 4 + 4 * (self.flags() & (SEQUENCE | ACKNOWLEDGMENT)).count_ones() as usize
    }

    /// The type of what follows, an ethertype.
    pub fn protocol(&self) -> u16 {
        be16(self.fixed, 2)
    }

    pub fn has_sequence(&self) -> bool {
        self.flags() & SEQUENCE != 0
    }

    /// Bytes of the header with its optional fields.
    pub fn header_len(&self) -> usize {
        let options = (self.flags() & (CHECKSUM | KEY | SEQUENCE)).count_ones() as usize;
        HEADER_LEN + 4 * options
    }

    pub fn key(&self) -> Option<u32> {
        if self.flags() & KEY == 0 {
            return None;
        }
        let checksum_len = if self.flags() & CHECKSUM != 0 { 4 } else { 0 };
        u32_at(self.bytes, self.offset + HEADER_LEN + checksum_len)
    }

    pub fn sequence(&self) -> Option<u32> {
        if !self.has_sequence() {
            return None;
        }
        u32_at(self.bytes, self.offset + self.header_len() - 4)
    }

    /// The virtual subnet id (24 bits) where this is NVGRE: bridged Ethernet with a key, without checksum or sequence number.
    pub fn nvgre_vsid(&self) -> Option<u32> {
        let is_nvgre = self.protocol() == ethernet::TYPE_TEB && self.flags() & (CHECKSUM | SEQUENCE) == 0;
        if is_nvgre { self.key().map(|key| key >> 8) } else { None }
    }
}

/// Writes the header to the front of `out` and returns its bytes: 4, and 4 more for each of key and sequence number.
///
/// # Panics
/// If `out` is shorter than that.
pub fn write(out: &mut [u8], protocol_type: u16, key: Option<u32>, sequence: Option<u32>) -> usize {
    let flags = if key.is_some() { KEY } else { 0 } | if sequence.is_some() { SEQUENCE } else { 0 };
    out[..2].copy_from_slice(&flags.to_be_bytes());
    out[2..4].copy_from_slice(&protocol_type.to_be_bytes());
    let mut len = 4;
    for field in [key, sequence].into_iter().flatten() {
        out[len..len + 4].copy_from_slice(&field.to_be_bytes());
        len += 4;
    }
    len
}
