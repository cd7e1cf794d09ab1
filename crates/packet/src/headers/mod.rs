//! Packet formats, one protocol a file: where each field stands, what its values mean, and the RFC section that says so.
//!
//! A reader is a view over the fixed bytes of one header, made by `at(bytes, offset)`: one bounds check, then every field is a
//! plain load. It is `None` where the header is not wholly there. A writer fills the front of a slice that its caller made long
//! enough. Network byte order does not leave these files.

pub mod arp;
pub mod capwap;
pub mod checksum;
pub mod erspan;
pub mod ethernet;
pub mod geneve;
pub mod gre;
pub mod gtp;
pub mod heartbeat;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod l2tp;
pub mod layer;
pub mod mpls;
pub mod nd;
pub mod nsh;
pub mod ppp;
pub mod pppoe;
pub mod sctp;
pub mod tags;
pub mod tcp;
pub mod teredo;
pub mod tzsp;
pub mod udp;
pub mod vlan;
pub mod vxlan;
pub mod wlan;

/// The `N` bytes from `offset` on, if all of them are there.
#[inline(always)]
pub fn chunk<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..)?.first_chunk()
}

/// The big-endian 16-bit number at `offset`.
#[inline(always)]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    chunk(bytes, offset).map(|field| u16::from_be_bytes(*field))
}

/// The big-endian 32-bit number at `offset`.
#[inline(always)]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    chunk(bytes, offset).map(|field| u32::from_be_bytes(*field))
}

/// The big-endian 16-bit number at a constant place of a header's fixed bytes.
#[inline(always)]
fn be16<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    u16::from_be_bytes([header[offset], header[offset + 1]])
}

/// The big-endian 32-bit number at a constant place of a header's fixed bytes.
#[inline(always)]
fn be32<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    u32::from_be_bytes([header[offset], header[offset + 1], header[offset + 2], header[offset + 3]])
}
