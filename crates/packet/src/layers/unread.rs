//! Finds what was not read: layers that could hold addresses and that nobody here looks into.

use super::outer::{ethernet_stack, network_stack};
use super::walk::{Look, look};
use super::{Depth, MAX_SHELLS, Stack};
use crate::headers::{ethernet, ip, ipv6, u16_at};

/// Types of frames that hold no IP address, or only in payload: they are read by definition.
pub(super) const READ_TYPES: [u16; 5] = [
    // MAC control, pause among it (IEEE 802.3, 31).
    0x8808, // Slow protocols, LACP among them (IEEE 802.1AX).
    0x8809, // EAPOL (IEEE 802.1X).
    0x888e, // LLDP (IEEE 802.1AB).
    0x88cc, // PTP (IEEE 1588).
    0x88f7,
];

/// Returns whether the outermost stack of a packet is not read; what a tunnel behind its IP header carries is not asked for. One
/// without an IP header in front, whose addresses are all inside, is not read.
pub(super) fn is_outer_unread(bytes: &[u8], outer: &Stack) -> bool {
    let mut stack = *outer;
    for _ in 0..MAX_SHELLS {
        if !stack.is_pseudowire() {
            return is_unread(bytes, &stack, Depth::Outer);
        }
        stack = ethernet_stack(bytes, stack.l3());
    }
    true
}

/// Returns whether a stack of a packet, or with `Depth::Full` what it carries, is not read.
pub(super) fn is_unread(bytes: &[u8], stack: &Stack, depth: Depth) -> bool {
    if stack.is_cut() || stack.network().is_none() {
        return true;
    }
    match stack.ethertype() {
        ethernet::TYPE_IPV4 | ethernet::TYPE_IPV6 => is_transport_unread(bytes, stack, depth),
        ethernet::TYPE_ARP | ethernet::TYPE_RARP => false,
        ethertype if READ_TYPES.contains(&ethertype) => false,
        len if len < ethernet::TYPE_MIN && stack.ethernet().is_some() => {
            is_llc_unread(bytes, stack.l3(), depth)
        }
        _ => !matches!(look(bytes, stack), Look::Empty(_)),
    }
}

fn is_transport_unread(bytes: &[u8], stack: &Stack, depth: Depth) -> bool {
    let Some(l4) = stack.l4() else { return true };
    let (mut protocol, mut at) = (stack.protocol(), l4);
    if protocol == ip::AH && stack.is_ipv4() && !stack.is_later_fragment() {
        let Some(header) = ipv6::extension(bytes, at, protocol) else { return true };
        (protocol, at) = (header.next_header, at + header.len);
    }
    match protocol {
        ip::TCP | ip::DCCP | ip::UDP_LITE | ip::NO_NEXT_HEADER => false,
        ip::ICMP | ip::IGMP => !stack.is_ipv4(),
        ip::ICMPV6 => !stack.is_ipv6(),
        ip::SCTP => !stack.is_later_fragment() && is_sctp_unread(bytes, at),
        ip::UDP if depth == Depth::Outer => false,
        ip::UDP => !matches!(look(bytes, stack), Look::Nothing | Look::Empty(_)),
        _ if depth == Depth::Outer => look(bytes, stack) == Look::Nothing,
        _ => !matches!(look(bytes, stack), Look::Empty(_)),
    }
}

/// Returns whether the first chunk may hold addresses. Chunks that begin an association do, and those that change or probe its
/// paths; both stand first (RFC 9260, 3.3; RFC 5061, 4).
fn is_sctp_unread(bytes: &[u8], at: usize) -> bool {
    // DATA, SACK, ABORT, SHUTDOWN and its answers, COOKIE ACK, I-DATA, FORWARD TSN.
    const READ: [u8; 9] = [0, 3, 6, 7, 8, 11, 14, 64, 192];
    bytes.get(at + crate::headers::sctp::HEADER_LEN).is_some_and(|chunk| !READ.contains(chunk))
}

/// LLC: spanning trees (IEEE 802.1D, 9.3.2; those of a VLAN as Cisco sends them), IP, and types of Ethernet behind SNAP.
fn is_llc_unread(bytes: &[u8], at: usize, depth: Depth) -> bool {
    match bytes.get(at..) {
        Some([0x42, 0x42, 0x03, ..] | [0xaa, 0xaa, 0x03, 0, 0, 0x0c, 0x01, 0x0b, ..]) => false,
        Some([0xaa, 0xaa, 0x03, 0, 0, 0, ..]) => match u16_at(bytes, at + 6) {
            Some(ethertype) if ethertype >= ethernet::TYPE_MIN => {
                is_unread(bytes, &network_stack(bytes, at + 8, ethertype), depth)
            }
            _ => true,
        },
        Some([0x06, 0x06, 0x03, ..]) => {
            is_unread(bytes, &network_stack(bytes, at + 3, ethernet::TYPE_IPV4), depth)
        }
        _ => true,
    }
}
