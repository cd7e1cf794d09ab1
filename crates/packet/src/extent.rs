//! Extent: where a packet ends by what its own headers say of its length.
//!
//! Behind that end stand Ethernet's padding, an FCS that a capture kept, and what devices append. Every stage that asks where a
//! packet ends asks here. A length that cannot be true says nothing, so that nobody takes payload for padding: segments that a NIC
//! or the kernel was to cut up (TSO, BIG TCP) have the length 0 or that of their IP header alone, or a wrong one.
//! # Source
//! RFC 791, 3.1; RFC 8200, 3; RFC 2675, 3 (length 0); RFC 826; RFC 903; IEEE 802.3-2022, 3.2.6; RFC 2516, 4.

use super::headers::arp::{self, Arp};
use super::headers::ethernet;
use super::headers::ipv4::Ipv4;
use super::headers::ipv6::{self, Ipv6};
use super::headers::udp::{self, Udp};
use super::headers::{ip, pppoe, sctp, tcp, u16_at};
use super::layers::Stack;

/// Returns where the packet of `stack` ends, counted from the first byte of `bytes`; it may lie behind the captured bytes.
/// `None` where no header says it, or where the length that one says has no room for the headers that stand there.
#[inline]
pub fn stated_end(bytes: &[u8], stack: &Stack) -> Option<usize> {
    let l3 = stack.l3();
    let (end, headers_end) = if stack.is_ipv4() {
        let header = Ipv4::at(bytes, l3)?;
        (l3 + usize::from(header.total_len()), l3 + header.header_len() + transport_len(stack))
    } else if stack.is_ipv6() {
        let payload_len = usize::from(Ipv6::at(bytes, l3)?.payload_len());
        if payload_len == 0 {
            return None;
        }
        let payload = l3 + ipv6::HEADER_LEN;
        (payload + payload_len, stack.l4().map_or(payload, |l4| l4 + transport_len(stack)))
    } else {
        link_end(bytes, stack)?
    };
    (end >= headers_end).then_some(end)
}

/// Returns where what the packet of `stack` carries from `inner` on ends, by the lengths of the packet and of the UDP datagram in
/// it. `None` where neither reaches `inner`: then it goes on to the end of the frame.
pub fn carried_end(bytes: &[u8], stack: &Stack, inner: usize) -> Option<usize> {
    let datagram = stack.l4().filter(|_| stack.protocol() == ip::UDP);
    let datagram_end = datagram.and_then(|l4| Some(l4 + usize::from(Udp::at(bytes, l4)?.len())));
    let ends = [stated_end(bytes, stack), datagram_end];
    ends.into_iter().flatten().filter(|end| *end >= inner).min()
}

/// Returns the fewest bytes of the transport header that an unfragmented packet has.
#[inline(always)]
fn transport_len(stack: &Stack) -> usize {
    match stack.protocol() {
        _ if stack.is_fragment() => 0,
        ip::TCP => tcp::HEADER_LEN,
        ip::UDP | ip::UDP_LITE => udp::HEADER_LEN,
        ip::SCTP => sctp::HEADER_LEN,
        _ => 0,
    }
}

/// Returns where what is not IP ends, and where its header does.
fn link_end(bytes: &[u8], stack: &Stack) -> Option<(usize, usize)> {
    /// The longest length in an 802.3 frame's type field; from `TYPE_MIN` on it is a type, and what lies between is neither.
    const MAX_LENGTH: u16 = 1500;
    /// The addresses of the service access points and one byte of control (IEEE 802.2, 3.2).
    const LLC_LEN: usize = 3;

    let l3 = stack.l3();
    match stack.ethertype() {
        ethernet::TYPE_ARP | ethernet::TYPE_RARP => {
            let is_known = Arp::at(bytes, l3).is_some_and(|arp| arp.is_ipv4_over_ethernet());
            is_known.then_some((l3 + arp::PACKET_LEN, l3 + arp::PACKET_LEN))
        }
        ethernet::TYPE_PPPOE_DISCOVERY | ethernet::TYPE_PPPOE_SESSION => {
            bytes.get(l3).filter(|version_and_type| **version_and_type == 0x11)?;
            let length = u16_at(bytes, l3 + pppoe::LENGTH_OFFSET).filter(|length| *length != 0)?;
            let payload = l3 + pppoe::LENGTH_OFFSET + 2;
            Some((payload + usize::from(length), payload))
        }
        length @ 1..=MAX_LENGTH if stack.ethernet().is_some() && !stack.is_cut() => {
            Some((l3 + usize::from(length), l3 + LLC_LEN))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers;
    use proptest::prelude::*;
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B};

    fn end(bytes: &[u8]) -> Option<usize> {
        stated_end(bytes, &layers::ethernet_stack(bytes, 0))
    }

    /// The frame in Ethernet, with `padding` zeros behind it.
    fn frame(ethertype: u16, packet: &[u8], padding: usize) -> Vec<u8> {
        let mut frame = packets::ethernet(MAC_A, MAC_B, ethertype, packet);
        frame.resize(frame.len() + padding, 0);
        frame
    }

    /// The packet with `length` in its header's field of two bytes at `at`.
    fn saying(mut packet: Vec<u8>, at: usize, length: u16) -> Vec<u8> {
        packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn tcp4() -> Vec<u8> {
        packets::ipv4(1, 2, ip::TCP, 0, &packets::tcp(1000, 80, b"GET /"))
    }

    #[test]
    fn a_packet_ends_where_its_header_says_behind_tags_labels_and_pppoe() {
        let packet = tcp4();
        // PPPoE: version and type 1, code 0 (session), session 0x0011, a length; PPP protocol 0x0021 (IPv4).
        let pppoe = [&[0x11, 0, 0, 0x11, 0, 47, 0, 0x21][..], &packet].concat();
        let ipv6 = packets::ipv6(1, 2, ip::TCP, &packets::tcp(1000, 80, b"GET /"));
        for (ethertype, packet) in [
            (0x0800, packet.clone()),
            (0x86dd, ipv6),
            (0x9200, packets::tag(5, 0x8100, &packets::tag(6, 0x0800, &packet))),
            (0x8847, packets::mpls(&[16, 17], &packet)),
            (0x8864, pppoe),
        ] {
            for padding in [0, 7, 900] {
                assert_eq!(
                    end(&frame(ethertype, &packet, padding)),
                    Some(14 + packet.len()),
                    "{ethertype:x}"
                );
            }
            let cut = &frame(ethertype, &packet, 0)[..14 + packet.len() - 5];
            assert_eq!(
                end(cut),
                Some(14 + packet.len()),
                "{ethertype:x}: what is said goes on behind the capture"
            );
        }
    }

    #[test]
    fn arp_rarp_and_frames_with_a_length_end_too() {
        let arp = packets::arp(1, 1, 2);
        for ethertype in [0x0806, 0x8035] {
            assert_eq!(end(&frame(ethertype, &arp, 18)), Some(14 + 28));
            assert_eq!(end(&frame(0x8100, &packets::tag(5, ethertype, &arp), 14)), Some(18 + 28));
        }
        // LLC of a spanning tree: 42 42 03, and a BPDU of 35 bytes.
        let bpdu = [&[0x42, 0x42, 0x03][..], &[0; 35]].concat();
        assert_eq!(end(&frame(38, &bpdu, 8)), Some(14 + 38));
        assert_eq!(end(&frame(0x8100, &packets::tag(5, 38, &bpdu), 8)), Some(18 + 38));
        for length in [0, 1, 2, 1501, 1535] {
            assert_eq!(end(&frame(length, &bpdu, 8)), None, "{length} is no length");
        }
        // PPP's LCP echo request: protocol 0xc021, code 9, length 8.
        let lcp = [&[0x11, 0, 0, 0x11, 0, 10, 0xc0, 0x21, 9, 1, 0, 8][..], &[0; 4]].concat();
        assert_eq!(end(&frame(0x8864, &lcp, 30)), Some(14 + 16));
        assert_eq!(end(&frame(0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0], 36)), Some(14 + 10));
    }

    #[test]
    fn lengths_without_room_for_the_headers_say_nothing() {
        for length in 0..40 {
            assert_eq!(end(&frame(0x0800, &saying(tcp4(), 2, length), 900)), None, "{length}");
        }
        assert_eq!(end(&frame(0x0800, &saying(tcp4(), 2, 40), 900)), Some(54));
        let tcp = packets::options(ip::TCP, &packets::tcp(1000, 80, b"GET /"));
        let packet = packets::ipv6(1, 2, ip::DESTINATION_OPTIONS, &tcp);
        for length in 0..28 {
            assert_eq!(end(&frame(0x86dd, &saying(packet.clone(), 4, length), 900)), None, "{length}");
        }
        assert_eq!(end(&frame(0x86dd, &saying(packet, 4, 28), 900)), Some(14 + 40 + 28));
        // a jumbogram, or a segment that was to be cut up: whatever it carries
        assert_eq!(end(&frame(0x86dd, &packets::ipv6(1, 2, 59, &[]), 900)), None);
        // 15 words of header, which a length of 59 bytes does not hold
        let mut options = saying(tcp4(), 2, 59);
        options[0] = 0x4f;
        options[9] = 1;
        assert_eq!(end(&frame(0x0800, &options, 900)), None);
        // the first 8 bytes of a datagram of TCP
        let fragment = packets::ipv4(1, 2, ip::TCP, 0x2000, &packets::tcp(1000, 80, &[])[..8]);
        assert_eq!(end(&frame(0x0800, &fragment, 18)), Some(14 + 28));
    }

    #[test]
    fn what_no_header_says_is_not_known() {
        for ethertype in [0x88cc, 0x88b5, 0x8100, 0x8847] {
            assert_eq!(end(&frame(ethertype, &[], 3)), None);
        }
        assert_eq!(end(&frame(0x88cc, &[2; 50], 0)), None);
        assert_eq!((end(&[]), end(&[0; 13]), end(&[0xff; 60])), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange_and_an_end_lies_behind_the_headers(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            ethertype in proptest::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100, 0x8847, 0x8864, 60, 0]),
        ) {
            let bytes = frame(ethertype, &bytes, 0);
            let stack = layers::ethernet_stack(&bytes, 0);
            if let Some(end) = stated_end(&bytes, &stack) {
                prop_assert!(end > stack.l3() && stack.l4().is_none_or(|l4| end >= l4));
            }
        }
    }
}
