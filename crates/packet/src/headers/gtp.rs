//! GTP-U header, version 1, with its optional fields and extension headers.
//! # Source
//! 3GPP TS 29.281, 5.1 and 5.2.

use super::{be16, be32, chunk};

/// Bytes of a header without optional fields.
pub const HEADER_LEN: usize = 8;
/// Bytes that the optional fields add, all of them where any is announced.
pub const OPTIONAL_LEN: usize = 4;
/// Message type of a packet that carries user data (G-PDU).
pub const G_PDU: u8 = 255;

/// Returns whether a message of this type keeps paths alive and names no address: echo, supported extension headers, end marker
/// (TS 29.281, 7.2 and 7.3.2).
pub fn keeps_alive(message_type: u8) -> bool {
    matches!(message_type, 1 | 2 | 31 | 254)
}

/// The most extension headers that are stepped over.
const MAX_EXTENSIONS: usize = 8;

/// The fixed part of a header.
#[derive(Clone, Copy)]
pub struct Gtp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Gtp<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Version 1 of GTP (not GTP').
    pub fn is_gtp_u(&self) -> bool {
        self.0[0] & 0xf0 == 0x30
    }

    pub fn message_type(&self) -> u8 {
        self.0[1]
    }

    /// Bytes that follow the first eight.
    pub fn len(&self) -> u16 {
        be16(self.0, 2)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tunnel endpoint identifier.
    pub fn teid(&self) -> u32 {
        be32(self.0, 4)
    }
}

/// Bytes of the header at `offset` with optional fields and extension headers; `None` where it is cut, or has more than eight
/// extension headers, or one that says it has no length.
pub fn header_len(bytes: &[u8], offset: usize) -> Option<usize> {
    let flags = *bytes.get(offset)?;
    if flags & 0x07 == 0 {
        return Some(HEADER_LEN);
    }
    let optional = chunk::<OPTIONAL_LEN>(bytes, offset + HEADER_LEN)?;
    let mut len = HEADER_LEN + OPTIONAL_LEN;
    // The next-header byte means something only where the E flag announces it.
    let mut next = if flags & 0x04 != 0 { optional[3] } else { 0 };
    for _ in 0..MAX_EXTENSIONS {
        if next == 0 {
            return Some(len);
        }
        let extension_len = usize::from(*bytes.get(offset + len)?) * 4;
        if extension_len == 0 {
            return None;
        }
        len += extension_len;
        next = *bytes.get(offset + len - 1)?;
    }
    if next == 0 { Some(len) } else { None }
}
