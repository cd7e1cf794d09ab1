//! VXLAN and VXLAN-GPE headers.
//! # Source
//! RFC 7348, 5; draft-ietf-nvo3-vxlan-gpe-12, 3.

use super::{be32, chunk};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// Next protocol of VXLAN-GPE: IPv4.
pub const NEXT_IPV4: u8 = 1;
/// Next protocol of VXLAN-GPE: IPv6.
pub const NEXT_IPV6: u8 = 2;
/// Next protocol of VXLAN-GPE: an Ethernet frame.
pub const NEXT_ETHERNET: u8 = 3;
/// Next protocol of VXLAN-GPE: a Network Service Header.
pub const NEXT_NSH: u8 = 4;

const VNI_VALID: u8 = 0x08;
const NEXT_PROTOCOL_VALID: u8 = 0x04;

/// A header.
#[derive(Clone, Copy)]
pub struct Vxlan<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Vxlan<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    /// The I flag, which every VXLAN packet should have set.
    pub fn is_vni_valid(&self) -> bool {
        self.0[0] & VNI_VALID != 0
    }

    /// VXLAN network identifier (24 bits).
    pub fn vni(&self) -> u32 {
        be32(self.0, 4) >> 8
    }

    /// Gives the protocol that VXLAN-GPE carries: Ethernet if the P flag is clear (section 3.2).
    pub fn next_protocol(&self) -> u8 {
        if self.0[0] & NEXT_PROTOCOL_VALID != 0 { self.0[3] } else { NEXT_ETHERNET }
    }
}

/// The header of a frame in network `vni` (24 bits).
pub fn header(vni: u32) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.to_be_bytes();
    [VNI_VALID, 0, 0, 0, a, b, c, 0]
}
