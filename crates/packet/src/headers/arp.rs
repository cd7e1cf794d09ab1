//! ARP for IPv4 over Ethernet.
//! # Source
//! RFC 826, "Packet format".

use std::net::Ipv4Addr;

use super::ethernet::MacAddress;
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

    /// Returns whether hardware and protocol are Ethernet and IPv4, with addresses of their lengths.
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.0[..6] == [0, 1, 0x08, 0x00, 6, 4]
    }

    /// 1 is a request, 2 a reply.
    pub fn operation(&self) -> u16 {
        be16(self.0, 6)
    }

    pub fn sender_mac(&self) -> MacAddress {
        MacAddress(*chunk(self.0, 8).expect("the packet holds the sender's address"))
    }

    pub fn sender(&self) -> u32 {
        be32(self.0, 14)
    }

    pub fn target(&self) -> u32 {
        be32(self.0, 24)
    }
}

/// Operation of a request.
pub const REQUEST: u16 = 1;
/// Operation of a reply.
pub const REPLY: u16 = 2;

/// An ARP packet for IPv4 over Ethernet: who says or asks it, and of whom.
pub fn packet(
    operation: u16,
    sender: (MacAddress, Ipv4Addr),
    target: (MacAddress, Ipv4Addr),
) -> [u8; PACKET_LEN] {
    let mut out = [0; PACKET_LEN];
    out[..6].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4]);
    out[6..8].copy_from_slice(&operation.to_be_bytes());
    out[8..14].copy_from_slice(&sender.0.0);
    out[14..18].copy_from_slice(&sender.1.octets());
    out[18..24].copy_from_slice(&target.0.0);
    out[24..28].copy_from_slice(&target.1.octets());
    out
}
