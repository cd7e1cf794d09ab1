//! PPP over Ethernet, session stage.
//! # Source
//! RFC 2516, 4; PPP protocol numbers: RFC 1661, 2, and IANA.

use super::{be16, chunk};

/// Bytes of the PPPoE header and of the PPP protocol number behind it.
pub const HEADER_LEN: usize = 8;

/// Where the PPPoE header says how many bytes follow it.
pub const LENGTH_OFFSET: usize = 4;

/// PPP protocol number of IPv4 (RFC 1332).
pub const PPP_IPV4: u16 = 0x0021;
/// PPP protocol number of IPv6 (RFC 5072).
pub const PPP_IPV6: u16 = 0x0057;

/// The header of a session packet.
#[derive(Clone, Copy)]
pub struct Pppoe<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Pppoe<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Whether version, type and code are those of a session packet.
    pub fn is_session(&self) -> bool {
        self.0[0] == 0x11 && self.0[1] == 0
    }

    pub fn session(&self) -> u16 {
        be16(self.0, 2)
    }

    pub fn ppp_protocol(&self) -> u16 {
        be16(self.0, 6)
    }
}
