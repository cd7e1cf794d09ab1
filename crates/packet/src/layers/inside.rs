//! Finds what follows headers that do not say it: labels, GTP-U, and the bytes that some switches put in front of a frame.
//!
//! A first guess is by the version of IP (RFC 4928, 3). If the bytes can be both an IP header and the MAC address of a frame, the
//! rest settles it: an IPv4 header has a checksum, and a frame has a known type, which what follows it confirms.

use crate::headers::checksum::Sum;
use crate::headers::ethernet;
use crate::headers::ethernet::Ethernet;
use crate::headers::ipv4;
use crate::headers::ipv4::Ipv4;
use crate::headers::ipv6;
use crate::headers::ipv6::Ipv6;
use crate::headers::{chunk, ip, u16_at, vlan};

/// See [`inside`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inside {
    Ipv4,
    Ipv6,
    Frame,
    /// It may be IP or a frame, and what would tell was not captured.
    Cut,
    Unknown,
}

/// Finds what stands at `at`.
pub(super) fn inside(bytes: &[u8], at: usize) -> Inside {
    match bytes.get(at) {
        None => Inside::Unknown,
        Some(0x45..=0x4f) => ipv4_or_frame(bytes, at),
        Some(0x60..=0x6f) => ipv6_or_frame(bytes, at),
        Some(_) if has_known_type(bytes, at) => Inside::Frame,
        Some(_) => Inside::Unknown,
    }
}

fn ipv4_or_frame(bytes: &[u8], at: usize) -> Inside {
    let Some(header) = Ipv4::at(bytes, at) else {
        return if has_known_type(bytes, at) { Inside::Cut } else { Inside::Ipv4 };
    };
    let (header_len, total_len) = (header.header_len(), usize::from(header.total_len()));
    let is_sound =
        bytes.get(at..at + header_len).map(|header| Sum::default().bytes(header).folded() == u16::MAX);
    match (is_sound, is_frame(bytes, at)) {
        (Some(true), _) => Inside::Ipv4,
        (Some(false), Some(true)) => Inside::Frame,
        // A checksum that is wrong, or was not yet computed: then the length has to be right, or where the capture is cut the rest.
        (Some(false), Some(false)) if total_len >= header_len && at + total_len <= bytes.len() => {
            Inside::Ipv4
        }
        (_, Some(false)) if is_usual(&header) => Inside::Ipv4,
        (_, Some(false)) => Inside::Unknown,
        (None, Some(true)) | (_, None) => Inside::Cut,
    }
}

/// Returns whether nothing in the fixed part of an IPv4 header is unusual: its length, a flag that is reserved, a protocol that is
/// seldom met.
fn is_usual(header: &Ipv4<'_>) -> bool {
    !(1..ipv4::HEADER_LEN as u16).contains(&header.total_len())
        && !header.has_reserved_flag()
        && ip::is_usual_over_ipv4(header.protocol())
}

fn ipv6_or_frame(bytes: &[u8], at: usize) -> Inside {
    match (is_frame(bytes, at), Ipv6::at(bytes, at)) {
        (Some(true), _) => Inside::Frame,
        (None, _) if has_known_type(bytes, at) => Inside::Cut,
        (_, None) => Inside::Ipv6,
        (_, Some(header)) => {
            let end = at + ipv6::HEADER_LEN + usize::from(header.payload_len());
            let is_all_here = end <= bytes.len();
            if is_all_here || ip::is_usual_over_ipv6(header.next_header()) {
                Inside::Ipv6
            } else {
                Inside::Unknown
            }
        }
    }
}

/// Returns whether an Ethernet header whose type is known seems to stand at `at`.
pub(super) fn has_known_type(bytes: &[u8], at: usize) -> bool {
    let is_known = |ethertype| {
        vlan::is_tpid(ethertype)
            || matches!(
                ethertype,
                ethernet::TYPE_IPV4
                    | ethernet::TYPE_IPV6
                    | ethernet::TYPE_ARP
                    | ethernet::TYPE_MPLS
                    | ethernet::TYPE_PPPOE_SESSION
            )
    };
    Ethernet::at(bytes, at).is_some_and(|header| is_known(header.ethertype()))
}

/// Returns whether an Ethernet header stands at `at` whose type is confirmed by what follows it; `None` if that was not captured.
fn is_frame(bytes: &[u8], at: usize) -> Option<bool> {
    /// The most tags that are stepped over.
    const MAX_TAGS: usize = 4;
    let mut ethertype = Ethernet::at(bytes, at)?.ethertype();
    let mut at = at + ethernet::HEADER_LEN;
    for _ in 0..MAX_TAGS {
        if !vlan::is_tpid(ethertype) {
            break;
        }
        ethertype = u16_at(bytes, at + 2)?;
        at += vlan::TAG_LEN;
    }
    Some(match ethertype {
        ethernet::TYPE_IPV4 => matches!(bytes.get(at)?, 0x45..=0x4f),
        ethernet::TYPE_IPV6 => matches!(bytes.get(at)?, 0x60..=0x6f),
        ethernet::TYPE_ARP => *chunk::<6>(bytes, at)? == [0, 1, 8, 0, 6, 4],
        ethernet::TYPE_PPPOE_SESSION => u16_at(bytes, at)? == 0x1100,
        _ => false,
    })
}
