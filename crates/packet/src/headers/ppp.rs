//! PPP: what stands in front of a packet inside L2TP, PPTP and PPPoE.
//! # Source
//! RFC 1661, 2 and 6.5 (protocol field, and its compression); RFC 1662, 3.1 (address and control); numbers: IANA.

use super::{ethernet, u16_at};

/// Address and control fields, which may be left out (RFC 1661, 6.6).
const ADDRESS_CONTROL: u16 = 0xff03;

/// A PPP header in front of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ppp {
    pub protocol: u16,
    /// Bytes of address, control and protocol fields, as far as they are there.
    pub len: usize,
}

impl Ppp {
    /// The fields at `offset`; `None` where they are cut.
    pub fn at(bytes: &[u8], offset: usize) -> Option<Self> {
        let skipped = match (bytes.get(offset)?, u16_at(bytes, offset)) {
            (_, Some(ADDRESS_CONTROL)) => 2,
            // It may be half of them.
            (0xff, None) => return None,
            _ => 0,
        };
        let first = *bytes.get(offset + skipped)?;
        // The last byte of a protocol number is odd and the others are even: an odd first byte is the last.
        if first & 1 == 1 {
            return Some(Self { protocol: first.into(), len: skipped + 1 });
        }
        Some(Self { protocol: u16_at(bytes, offset + skipped)?, len: skipped + 2 })
    }

    /// The ethertype of what it carries: of IPv4 (RFC 1332), IPv6 (RFC 5072) and MPLS (RFC 3032, 4.3).
    pub fn ethertype(&self) -> Option<u16> {
        match self.protocol {
            0x0021 => Some(ethernet::TYPE_IPV4),
            0x0057 => Some(ethernet::TYPE_IPV6),
            0x0281 => Some(ethernet::TYPE_MPLS),
            0x0283 => Some(ethernet::TYPE_MPLS_MULTICAST),
            _ => None,
        }
    }
}
