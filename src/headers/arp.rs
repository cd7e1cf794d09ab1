//! ARP for IPv4 over Ethernet.
//! # Source
//! RFC 826, "Packet format".

use super::{be16, be32, chunk};

/// Bytes before the first address.
pub const FIXED_LEN: usize = 8;
/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

/// An ARP packet.
#[derive(Clone, Copy)]
pub struct Arp<'a>(&'a [u8; PACKET_LEN]);

impl<'a> Arp<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// Whether hardware and protocol are Ethernet and IPv4, with addresses of their lengths.
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.0[..6] == [0, 1, 0x08, 0x00, 6, 4]
    }

    /// 1 is a request, 2 a reply.
    pub fn operation(&self) -> u16 {
        be16(self.0, 6)
    }

    pub fn sender(&self) -> u32 {
        be32(self.0, 14)
    }

    pub fn target(&self) -> u32 {
        be32(self.0, 24)
    }
}
