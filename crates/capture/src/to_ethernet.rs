//! Packets of other link layers -> Ethernet frames: the link header is taken off, and an Ethernet header is made up.
//!
//! Replays stand on it, so that rules, edits and tools meet nothing but Ethernet. What follows the link header stays as it is, and both
//! lengths change by what the two headers differ. Addresses that a link layer does not have are zero, as on Linux' loopback interface.
//! # Source
//! <https://www.tcpdump.org/linktypes.html>; RFC 1661 and 1662 (PPP), RFC 1547, 4.3.1 (Cisco's framing), RFC 2516 (PPPoE).

use tapline_packet::frame::SplitFrame;
use tapline_packet::headers::ethernet::{
    self, MacAddress, TYPE_IPV4, TYPE_IPV6, TYPE_MIN, TYPE_MPLS, TYPE_MPLS_MULTICAST,
};
use tapline_packet::headers::ppp::Ppp;
use tapline_packet::headers::{pppoe, u16_at};

use super::LinkType;

/// The address of a frame's end that the link layer says nothing of.
const UNKNOWN: MacAddress = MacAddress([0; 6]);
/// The longest payload of an 802.3 frame, whose type field is a length.
const MAX_802_3_LEN: u32 = 1500;

/// The header in front of a packet, by its link type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LinkHeader {
    Ethernet,
    /// None: the packet's own version says what it is.
    Ip,
    Ipv4,
    Ipv6,
    /// Four bytes of address family: of the machine's byte order for `NULL`, of the network's for `LOOP`.
    Loopback,
    /// PPP, with or without the address and control bytes of HDLC, or in Cisco's framing.
    Ppp,
    /// PPPoE, without Ethernet in front.
    Pppoe,
    Sll,
    Sll2,
}

impl LinkHeader {
    fn of(link_type: LinkType) -> Option<Self> {
        Some(match link_type.0 {
            1 => Self::Ethernet,
            // as BSDs and Linux number it in files, and OpenBSD
            101 | 12 | 14 => Self::Ip,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            0 | 108 => Self::Loopback,
            9 | 50 => Self::Ppp,
            51 => Self::Pppoe,
            113 => Self::Sll,
            276 => Self::Sll2,
            _ => return None,
        })
    }
}

impl LinkType {
    /// Returns whether its packets are Ethernet frames, or such can be made of those that the frames could carry.
    pub fn can_be_ethernet(self) -> bool {
        LinkHeader::of(self).is_some()
    }
}

/// The contents of a link header.
struct Link {
    header_len: usize,
    source: MacAddress,
    payload: Payload,
}

enum Payload {
    /// The packet has this ethertype.
    Type(u16),
    /// The packet is that of an 802.3 frame, which has its length in place of an ethertype.
    Llc,
}

impl Link {
    fn of_type(header_len: usize, ethertype: u16) -> Self {
        Self { header_len, source: UNKNOWN, payload: Payload::Type(ethertype) }
    }
}

/// A packet of `link_type`, with what it had on the wire, as an Ethernet frame; `None` where Ethernet could not carry it, or where it was
/// cut before its link header ends.
pub fn to_ethernet(link_type: LinkType, bytes: &[u8], original_len: u32) -> Option<SplitFrame<'_>> {
    let link = match LinkHeader::of(link_type)? {
        LinkHeader::Ethernet => {
            let (header, payload) = bytes.split_first_chunk()?;
            return Some(SplitFrame::new(*header, payload, original_len));
        }
        LinkHeader::Ip => match bytes.first()? >> 4 {
            4 => Link::of_type(0, TYPE_IPV4),
            6 => Link::of_type(0, TYPE_IPV6),
            _ => return None,
        },
        LinkHeader::Ipv4 => Link::of_type(0, TYPE_IPV4),
        LinkHeader::Ipv6 => Link::of_type(0, TYPE_IPV6),
        LinkHeader::Loopback => loopback(bytes)?,
        LinkHeader::Ppp => ppp(bytes)?,
        LinkHeader::Pppoe => match bytes.first_chunk()? {
            // version 1, type 1, a session's packet
            [0x11, 0] => ppp_at(bytes, pppoe::HEADER_LEN)?,
            [_, _] => return None,
        },
        LinkHeader::Sll => cooked(bytes, &SLL)?,
        LinkHeader::Sll2 => cooked(bytes, &SLL2)?,
    };
    let payload = bytes.get(link.header_len..)?;
    let payload_len = original_len.saturating_sub(link.header_len as u32);
    let ethertype = match link.payload {
        Payload::Type(ethertype) => ethertype,
        Payload::Llc if payload_len <= MAX_802_3_LEN => payload_len as u16,
        Payload::Llc => return None,
    };
    let mut header = [0; ethernet::HEADER_LEN];
    ethernet::write(&mut header, UNKNOWN, link.source, ethertype);
    Some(SplitFrame::new(header, payload, payload_len.saturating_add(ethernet::HEADER_LEN as u32)))
}

/// The families are below 256, so that their byte order shows: files are written on by machines of another one.
fn loopback(bytes: &[u8]) -> Option<Link> {
    let family = bytes.first_chunk::<4>()?;
    let family = match u32::from_be_bytes(*family) {
        family @ 0..0x100 => family,
        _ => u32::from_le_bytes(*family),
    };
    match family {
        2 => Some(Link::of_type(4, TYPE_IPV4)),
        // Linux; NetBSD, OpenBSD and BSD/OS; FreeBSD; Darwin
        10 | 24 | 28 | 30 => Some(Link::of_type(4, TYPE_IPV6)),
        _ => None,
    }
}

/// A packet of a PPP link.
fn ppp(bytes: &[u8]) -> Option<Link> {
    let Some([0x0f | 0x8f, 0]) = bytes.get(..2) else { return ppp_at(bytes, 0) };
    // Cisco's framing: to one or to all, then an ethertype; SLARP and CDP have numbers of their own
    let ethertype = u16_at(bytes, 2)?;
    matches!(ethertype, TYPE_IPV4 | TYPE_IPV6 | TYPE_MPLS | TYPE_MPLS_MULTICAST)
        .then(|| Link::of_type(4, ethertype))
}

fn ppp_at(bytes: &[u8], at: usize) -> Option<Link> {
    let header = Ppp::at(bytes, at)?;
    Some(Link::of_type(at + header.len, header.ethertype()?))
}

/// The offsets of the fields in a cooked header of Linux.
struct Cooked {
    len: usize,
    protocol_at: usize,
    hardware_at: usize,
    /// The last byte of the address' length: it has one in version 2, and two of which the first is 0 before.
    address_len_at: usize,
    address_at: usize,
}

const SLL: Cooked = Cooked { len: 16, protocol_at: 14, hardware_at: 2, address_len_at: 5, address_at: 6 };
const SLL2: Cooked = Cooked { len: 20, protocol_at: 0, hardware_at: 8, address_len_at: 11, address_at: 12 };

/// # Source
/// LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2; linux/if_arp.h, linux/if_ether.h.
fn cooked(bytes: &[u8], fields: &Cooked) -> Option<Link> {
    let header = bytes.get(..fields.len)?;
    // frame relay, IEEE 802.11 and netlink: the protocol field is no ethertype
    if matches!(u16_at(header, fields.hardware_at)?, 770 | 801..=805 | 824) {
        return None;
    }
    let payload = match u16_at(header, fields.protocol_at)? {
        ethertype @ TYPE_MIN.. => Payload::Type(ethertype),
        // 802.3 of Novell's, without LLC, and 802.2 LLC
        1 | 4 => Payload::Llc,
        _ => return None,
    };
    let source = match header[fields.address_len_at] {
        6 => MacAddress(*header.get(fields.address_at..)?.first_chunk()?),
        _ => UNKNOWN,
    };
    Some(Link { header_len: fields.len, source, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK_TYPES: [u32; 12] = [1, 0, 108, 9, 50, 51, 12, 14, 101, 228, 113, 276];

    fn made(link_type: u32, bytes: &[u8]) -> Option<(Vec<u8>, u32)> {
        let frame = to_ethernet(LinkType(link_type), bytes, bytes.len() as u32 + 100)?;
        Some(([frame.header(), frame.payload()].concat(), frame.original_len()))
    }

    /// A frame with no addresses.
    fn frame(ethertype: u16, payload: &[u8]) -> Option<(Vec<u8>, u32)> {
        let bytes = [&[0; 12], &ethertype.to_be_bytes()[..], payload].concat();
        let len = bytes.len() as u32 + 100;
        Some((bytes, len))
    }

    #[test]
    fn families_protocols_and_versions_become_ethertypes() {
        for (link_type, header, ethertype) in [
            (0, &[2, 0, 0, 0][..], 0x0800),
            (0, &[0, 0, 0, 2], 0x0800),
            (0, &[30, 0, 0, 0], 0x86dd),
            (0, &[0, 0, 0, 28], 0x86dd),
            (108, &[0, 0, 0, 24], 0x86dd),
            (108, &[0, 0, 0, 10], 0x86dd),
            (9, &[0x00, 0x21], 0x0800),
            (9, &[0x21], 0x0800),
            (9, &[0xff, 0x03, 0x57], 0x86dd),
            (50, &[0xff, 0x03, 0x00, 0x57], 0x86dd),
            (50, &[0x0f, 0x00, 0x08, 0x00], 0x0800),
            (50, &[0x8f, 0x00, 0x86, 0xdd], 0x86dd),
            (50, &[0xff, 0x03, 0x02, 0x81], 0x8847),
            (51, &[0x11, 0, 0, 7, 0, 22, 0x00, 0x21], 0x0800),
            (51, &[0x11, 0, 0, 7, 0, 21, 0x57], 0x86dd),
            (228, &[], 0x0800),
            (229, &[], 0x86dd),
        ] {
            let payload = [0x45, 1, 2, 3];
            assert_eq!(
                made(link_type, &[header, &payload].concat()),
                frame(ethertype, &payload),
                "{link_type} {header:02x?}"
            );
        }
        for raw in [12, 14, 101] {
            assert_eq!(made(raw, &[0x46, 7]), frame(0x0800, &[0x46, 7]));
            assert_eq!(made(raw, &[0x60, 7]), frame(0x86dd, &[0x60, 7]));
            assert_eq!(made(raw, &[0x50, 7]), None);
        }
    }

    #[test]
    fn a_cooked_header_gives_its_address_and_its_protocol() {
        let sll = |hardware: u8, address_len: u8, protocol: u16| {
            let head = [0, 4, hardware.min(3), hardware, 0, address_len, 2, 3, 4, 5, 6, 7, 0, 0];
            [&head[..], &protocol.to_be_bytes(), &[9; 5]].concat()
        };
        let with_source = |ethertype: u16| {
            let mut frame = frame(ethertype, &[9; 5]).expect("a frame");
            frame.0[6..12].copy_from_slice(&[2, 3, 4, 5, 6, 7]);
            Some(frame)
        };
        assert_eq!(made(113, &sll(1, 6, 0x0800)), with_source(0x0800));
        assert_eq!(made(113, &sll(1, 8, 0x0806)), frame(0x0806, &[9; 5]));
        // LLC: 5 bytes captured, 105 on the wire
        assert_eq!(made(113, &sll(1, 6, 4)), with_source(105));
        // CAN; netlink (0x0338)
        assert_eq!(made(113, &sll(1, 6, 0x000c)), None);
        assert_eq!(made(113, &sll(0x38, 6, 0x0800)), None);
        let sll2 =
            [&[0x86, 0xdd, 0, 0, 0, 0, 0, 9, 0, 1, 4, 6, 2, 3, 4, 5, 6, 7, 0, 0][..], &[9; 5]].concat();
        assert_eq!(made(276, &sll2), with_source(0x86dd));
    }

    #[test]
    fn what_ethernet_cannot_carry_is_none() {
        for (link_type, bytes) in [
            (0, &[7, 0, 0, 0, 1][..]),
            (0, &[0, 2, 0, 0, 1]),
            (9, &[0xc0, 0x21, 1]),
            (50, &[0x0f, 0x00, 0x80, 0x35, 1]),
            (51, &[0x11, 0x09, 0, 0, 0, 0, 0x00, 0x21]),
            (1, &[0; 13]),
            (105, &[0x45; 60]),
        ] {
            assert_eq!(made(link_type, bytes), None, "{link_type} {bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn both_lengths_change_by_the_same_and_the_rest_stays(
            which in 0..LINK_TYPES.len(),
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(2), Just(8), any::<u8>()], 0..60),
            more in 0u32..2000,
        ) {
            let original_len = bytes.len() as u32 + more;
            if let Some(frame) = to_ethernet(LinkType(LINK_TYPES[which]), &bytes, original_len) {
                prop_assert!(bytes.ends_with(frame.payload()));
                prop_assert_eq!(frame.original_len() - (14 + frame.payload().len() as u32), more);
            }
        }
    }
}
