//! Tags that stand between an Ethernet header's addresses and its type, as VLAN tags do, and are none.
//!
//! Seen from behind its own type, each ends with the type of what follows.
//! # Source
//! VN-Tag: Cisco, "Network Interface Virtualization" (VNTag 101); E-Tag: IEEE 802.1BR-2012, 7.5; Cisco MetaData: as switches
//! with TrustSec send it, and tshark reads it; Arista's time header: as 7280 switches send it.

use super::{ethernet, u16_at};

/// Bytes of a VN-Tag and the type behind it.
pub const VNTAG_LEN: usize = 6;
/// Bytes of an E-Tag and the type behind it.
pub const ETAG_LEN: usize = 8;
/// Bytes of Cisco MetaData with one option, and the type behind it.
pub const METADATA_LEN: usize = 8;

/// Version 1 of Cisco MetaData with one option of four bytes: the only form that is known.
const METADATA_VERSION_LENGTH: u16 = 0x0101;

/// Bytes of the tag of type `ethertype` at `offset`, and of the type behind it, where its own fields say that it is one. `None`
/// where it is none, or is cut before that shows.
pub fn header_len(bytes: &[u8], offset: usize, ethertype: u16) -> Option<usize> {
    match ethertype {
        ethernet::TYPE_VNTAG => Some(VNTAG_LEN),
        ethernet::TYPE_ETAG => Some(ETAG_LEN),
        ethernet::TYPE_CISCO_METADATA => {
            (u16_at(bytes, offset)? == METADATA_VERSION_LENGTH).then_some(METADATA_LEN)
        }
        ethernet::TYPE_ARISTA => arista_len(bytes, offset),
        _ => None,
    }
}

/// Subtype 1, and versions that have 64 or 48 bits of time, TAI or UTC.
fn arista_len(bytes: &[u8], offset: usize) -> Option<usize> {
    const SUBTYPE: u16 = 1;
    match (u16_at(bytes, offset)?, u16_at(bytes, offset + 2)?) {
        (SUBTYPE, 0x0010 | 0x0110) => Some(14),
        (SUBTYPE, 0x0020 | 0x0120) => Some(12),
        _ => None,
    }
}
