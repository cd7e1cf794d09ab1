//! CAPWAP header.
//! # Source
//! RFC 5415, 4.1 and 4.3; RFC 5416, 2.4 (what 802.11 carries).

use super::{be16, be32, chunk};

/// Bytes of the fixed part, preamble included.
const FIXED_LEN: usize = 8;
/// Wireless binding: IEEE 802.11.
const IEEE_80211: u32 = 1;

/// The fixed part of a header.
#[derive(Clone, Copy)]
pub struct Capwap<'a>(&'a [u8; FIXED_LEN]);

impl<'a> Capwap<'a> {
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Returns whether this can be a header in clear: version 0, type 0 (1 is DTLS), and a length that holds the fixed part.
    pub fn is_clear(&self) -> bool {
        self.0[0] == 0 && self.header_len() >= FIXED_LEN
    }

    /// Returns whether this can be a header in front of DTLS.
    pub fn is_dtls(&self) -> bool {
        self.0[0] == 1
    }

    fn fields(&self) -> u32 {
        be32(self.0, 0)
    }

    /// Bytes of the header with radio MAC address and wireless information, 0 to 124 as the packet says.
    pub fn header_len(&self) -> usize {
        (self.fields() >> 19 & 0x1f) as usize * 4
    }

    /// The T flag: the payload is a frame of the wireless binding, else one of 802.3.
    pub fn is_native(&self) -> bool {
        self.fields() & 0x100 != 0
    }

    pub fn is_80211(&self) -> bool {
        self.fields() >> 9 & 0x1f == IEEE_80211
    }

    /// The F flag, or an offset: the payload is not all of a frame.
    pub fn is_fragment(&self) -> bool {
        self.fields() & 0x80 != 0 || be16(self.0, 6) >> 3 != 0
    }

    /// The K flag: the packet keeps a session alive, and carries no frame.
    pub fn is_keep_alive(&self) -> bool {
        self.fields() & 0x08 != 0
    }
}
