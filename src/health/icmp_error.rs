//! ICMP errors that quote a copy: what a router on the way, or the far end of a tunnel, could not do with it.
//!
//! Without clock, thread or device. The broker's housekeeping gives the frames that ports receive for the tunnels' own addresses.
//! # Source
//! RFC 792; RFC 1122, 3.2.2.1; RFC 1812, 5.2.7.1; RFC 1191, 4 (the MTU of the next hop); RFC 4443, 3.

use std::net::{IpAddr, Ipv4Addr};

use super::next_hop::{TunnelAddress, icmpv6_message, in_vlan};
use tapline_api::words::IcmpReason;
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::{icmp, ip, nd, u16_at, u32_at};

/// An ICMP error about a packet that was sent from one of Tapline's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError<'a> {
    /// The router or host that says it.
    pub from: IpAddr,
    pub reason: IcmpReason,
    /// The MTU that the way has, where the message says one.
    pub mtu: Option<u32>,
    /// The beginning of the packet, from its IP header on.
    pub quoted: &'a [u8],
}

impl<'a> IcmpError<'a> {
    /// Reads an error to `own`. One that is a fragment, or whose checksum is wrong, is none.
    pub fn read(frame: &'a [u8], own: &TunnelAddress) -> Option<Self> {
        let stack = in_vlan(frame, own.vlan)?;
        match own.address {
            IpAddr::V4(address) => {
                let (l3, l4) = (stack.l3(), stack.l4()?);
                let header = Ipv4::at(frame, l3).filter(|header| {
                    stack.is_ipv4()
                        && stack.protocol() == ip::ICMP
                        && !stack.is_fragment()
                        && header.destination() == address.to_bits()
                })?;
                let message = frame.get(l4..l3 + usize::from(header.total_len()))?;
                let is_right = |bytes: &[u8]| Sum::default().bytes(bytes).folded() == 0xffff;
                if !is_right(message) || !is_right(&frame[l3..l4]) {
                    return None;
                }
                let (reason, mtu) = reason_of_icmp(message)?;
                let from = Ipv4Addr::from(header.source()).into();
                Some(Self { from, reason, mtu, quoted: message.get(icmp::HEADER_LEN..)? })
            }
            IpAddr::V6(address) => {
                let (message, source, destination, _) = icmpv6_message(frame, &stack)?;
                let is_right = nd::pseudo_sum(message, source, destination).folded() == 0xffff;
                if destination != address || !is_right {
                    return None;
                }
                let (reason, mtu) = reason_of_icmpv6(message)?;
                Some(Self { from: source.into(), reason, mtu, quoted: message.get(icmp::HEADER_LEN..)? })
            }
        }
    }
}

/// RFC 792, RFC 1122, 3.2.2.1 (codes 6 to 12), RFC 1812, 5.2.7.1 (code 13).
fn reason_of_icmp(message: &[u8]) -> Option<(IcmpReason, Option<u32>)> {
    let header = icmp::Icmp::at(message, 0)?;
    let reason = match (header.message_type(), header.code()) {
        (3, 4) => {
            // a router that knows no RFC 1191 says 0
            let mtu = u16_at(message, 6).filter(|&mtu| mtu > 0);
            return Some((IcmpReason::TooBig, mtu.map(u32::from)));
        }
        (3, 0 | 6 | 11) => IcmpReason::NetworkUnreachable,
        (3, 1 | 7 | 8 | 12) => IcmpReason::HostUnreachable,
        (3, 2) => IcmpReason::ProtocolUnreachable,
        (3, 3) => IcmpReason::PortUnreachable,
        (3, 9 | 10 | 13) => IcmpReason::Prohibited,
        (11, _) => IcmpReason::TimeExceeded,
        (3 | 12, _) => IcmpReason::Other,
        _ => return None,
    };
    Some((reason, None))
}

/// RFC 4443, 3.1 to 3.4.
fn reason_of_icmpv6(message: &[u8]) -> Option<(IcmpReason, Option<u32>)> {
    let header = icmp::Icmp::at(message, 0)?;
    let reason = match (header.message_type(), header.code()) {
        (1, 0) => IcmpReason::NetworkUnreachable,
        (1, 1 | 5 | 6) => IcmpReason::Prohibited,
        (1, 3) => IcmpReason::HostUnreachable,
        (1, 4) => IcmpReason::PortUnreachable,
        (2, _) => return Some((IcmpReason::TooBig, u32_at(message, 4).filter(|&mtu| mtu > 0))),
        (3, _) => IcmpReason::TimeExceeded,
        (4, 1) => IcmpReason::ProtocolUnreachable,
        (1 | 4, _) => IcmpReason::Other,
        _ => return None,
    };
    Some((reason, None))
}

/// From one event about a tool's errors of a reason to the next.
const TOLD_EVERY_NS: u64 = 600_000_000_000;

/// The errors about one tool's copies, by reason.
#[derive(Clone, Default, Debug)]
pub struct ErrorCounts {
    counts: [u64; IcmpReason::ALL.len()],
    told_ns: [Option<u64>; IcmpReason::ALL.len()],
}

impl ErrorCounts {
    /// Counts an error. Returns whether it is to be told: the first of its reason, and then one in ten minutes.
    pub fn note(&mut self, reason: IcmpReason, now_ns: u64) -> bool {
        self.counts[reason as usize] += 1;
        let told = &mut self.told_ns[reason as usize];
        let is_due = told.is_none_or(|told| now_ns.saturating_sub(told) >= TOLD_EVERY_NS);
        if is_due {
            *told = Some(now_ns);
        }
        is_due
    }

    /// Gives how many came, by reason.
    pub fn counts(&self) -> [u64; IcmpReason::ALL.len()] {
        self.counts
    }

    /// Counts from here.
    pub fn clear(&mut self) {
        self.counts = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use tapline_packet::headers::ethernet::MacAddress;

    fn own(address: &str) -> TunnelAddress {
        TunnelAddress {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            address: address.parse().expect("an address"),
            vlan: None,
        }
    }

    /// Ethernet and IPv4 from 198.18.0.9 to 198.18.0.1 with an ICMP message of this type and code, its second word, and a quote.
    fn icmp(kind: u8, code: u8, word: [u8; 4], quote: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0][..], &word, quote].concat();
        let sum = Sum::default().bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, (20 + message.len()) as u8, 0, 0, 0, 0, 64, 1, 0, 0];
        packet.extend([198, 18, 0, 9, 198, 18, 0, 1]);
        let sum = Sum::default().bytes(&packet).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0][..], &packet, &message].concat()
    }

    #[test]
    fn errors_of_icmp_are_read_by_type_and_code() {
        use IcmpReason::*;
        let own = own("198.18.0.1");
        for (kind, code, reason) in [
            (3, 0, NetworkUnreachable),
            (3, 1, HostUnreachable),
            (3, 2, ProtocolUnreachable),
            (3, 3, PortUnreachable),
            (3, 13, Prohibited),
            (11, 0, TimeExceeded),
            (12, 0, Other),
        ] {
            let frame = icmp(kind, code, [0; 4], &[7; 28]);
            let quoted = &[7; 28][..];
            let from = IpAddr::from([198, 18, 0, 9]);
            assert_eq!(IcmpError::read(&frame, &own), Some(IcmpError { from, reason, mtu: None, quoted }));
        }
        // RFC 1191: the MTU stands in the last two bytes
        let frame = icmp(3, 4, [0, 0, 0x05, 0x78], &[7; 28]);
        assert_eq!(IcmpError::read(&frame, &own).map(|error| error.mtu), Some(Some(1400)));
        let old = icmp(3, 4, [0; 4], &[7; 28]);
        assert_eq!(IcmpError::read(&old, &own).map(|error| error.mtu), Some(None));
    }

    #[test]
    fn what_is_no_error_or_not_right_or_not_to_us_is_none() {
        let own_address = own("198.18.0.1");
        for frame in
            [icmp(8, 0, [0; 4], &[7; 28]), icmp(0, 0, [0; 4], &[7; 28]), icmp(5, 0, [0; 4], &[7; 28])]
        {
            assert_eq!(IcmpError::read(&frame, &own_address), None);
        }
        let mut frame = icmp(3, 3, [0; 4], &[7; 28]);
        assert_eq!(IcmpError::read(&frame, &own("198.18.0.2")), None, "to another address");
        frame[45] ^= 1;
        assert_eq!(IcmpError::read(&frame, &own_address), None, "its checksum is wrong");
    }

    #[test]
    fn errors_are_counted_each_and_told_once_in_ten_minutes() {
        let mut counts = ErrorCounts::default();
        let minute = 60_000_000_000;
        let told: Vec<bool> =
            (0..25).map(|minutes| counts.note(IcmpReason::PortUnreachable, minutes * minute)).collect();
        let told_at: Vec<usize> = (0..25).filter(|&minutes| told[minutes]).collect();
        assert_eq!(told_at, [0, 10, 20]);
        assert!(counts.note(IcmpReason::TooBig, 24 * minute), "another reason is told by itself");
        assert_eq!(counts.counts()[IcmpReason::PortUnreachable as usize], 25);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for address in ["198.18.0.1", "2001:db8::1"] {
                IcmpError::read(&bytes, &own(address));
            }
        }
    }
}
