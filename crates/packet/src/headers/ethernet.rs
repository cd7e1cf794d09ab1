//! Ethernet II: two MAC addresses and the type of what follows.
//! # Source
//! IEEE 802.3-2022, 3.2; the types: IANA, "IEEE 802 Numbers".

use std::fmt;
use std::net::Ipv6Addr;

use super::{be16, chunk};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of a MAC address.
pub const ADDRESS_LEN: usize = 6;
/// Bytes of the two addresses together: where the type, or the first VLAN tag, stands.
pub const ADDRESSES_LEN: usize = 12;

/// The shortest frame that Ethernet carries, without its FCS (IEEE 802.3, 4A.4.2: 64 bytes with it).
pub const MIN_FRAME_LEN: usize = 60;

/// IPv4 (RFC 894).
pub const TYPE_IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const TYPE_ARP: u16 = 0x0806;
/// A whole Ethernet frame (Transparent Ethernet Bridging), as GRE, GENEVE and NVGRE name it (RFC 1701, RFC 7637).
pub const TYPE_TEB: u16 = 0x6558;
/// IPv6 (RFC 2464).
pub const TYPE_IPV6: u16 = 0x86dd;
/// MPLS label stack, unicast (RFC 3032, 5).
pub const TYPE_MPLS: u16 = 0x8847;
/// MPLS label stack, upstream-assigned or multicast (RFC 5332, 4).
pub const TYPE_MPLS_MULTICAST: u16 = 0x8848;
/// PPPoE, discovery stage (RFC 2516, 4).
pub const TYPE_PPPOE_DISCOVERY: u16 = 0x8863;
/// PPPoE, session stage (RFC 2516, 4).
pub const TYPE_PPPOE_SESSION: u16 = 0x8864;
/// RARP, laid out as ARP is (RFC 903).
pub const TYPE_RARP: u16 = 0x8035;
/// Point-to-Point Protocol, as GRE names it (RFC 2637, 4.1).
pub const TYPE_PPP: u16 = 0x880b;
/// Cisco FabricPath.
pub const TYPE_FABRICPATH: u16 = 0x8903;
/// Cisco MetaData, which holds a security group tag.
pub const TYPE_CISCO_METADATA: u16 = 0x8909;
/// VN-Tag, as Cisco's fabric extenders and adapters send it.
pub const TYPE_VNTAG: u16 = 0x8926;
/// E-Tag (IEEE 802.1BR).
pub const TYPE_ETAG: u16 = 0x893f;
/// GRE protocol of mirrors on Mellanox Spectrum switches.
pub const TYPE_MELLANOX: u16 = 0x8949;
/// Network Service Header (RFC 8300, 12).
pub const TYPE_NSH: u16 = 0x894f;
/// The time header of Arista 7280 switches.
pub const TYPE_ARISTA: u16 = 0xd28b;
/// Smaller values in the type field are an 802.3 length, not a type.
pub const TYPE_MIN: u16 = 0x0600;

/// The addresses and type of a frame.
#[derive(Clone, Copy)]
pub struct Ethernet<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ethernet<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    pub fn destination(&self) -> [u8; ADDRESS_LEN] {
        let [a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    pub fn source(&self) -> [u8; ADDRESS_LEN] {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// The type, or the length of an 802.3 frame, that follows the addresses: a VLAN tag's TPID where the frame is tagged.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        be16(self.0, 12)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// Gives the address to which IPv6 sends packets for a multicast group (RFC 2464, 7).
    pub fn of_ipv6_group(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// Addressed to many, broadcast among them: the lowest bit of the first byte.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the addresses and the type; `out` holds at least `HEADER_LEN`.
///
/// # Panics
/// If `out` is shorter.
pub fn write(out: &mut [u8], destination: MacAddress, source: MacAddress, ethertype: u16) {
    out[..6].copy_from_slice(&destination.0);
    out[6..12].copy_from_slice(&source.0);
    out[12..14].copy_from_slice(&ethertype.to_be_bytes());
}
