//! Echoes: ICMP and ICMPv6 echo requests to a tunnel's far end, and which frames answer them.
//!
//! Without clock, thread or device. A reply is one only if it comes from the address that was asked, to the tunnel's own, in its
//! VLAN, with right checksums and the payload that was sent: a random key and the sequence number.
//! # Source
//! RFC 792, "Echo or Echo Reply Message"; RFC 4443, 4.1 and 4.2.

use std::net::IpAddr;

use super::next_hop::{TunnelAddress, frame, icmpv6_message, in_vlan, ipv6_packet};
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::{icmp, ip, ipv4, nd};

/// As hosts send them.
const TTL: u8 = 64;
/// Key and sequence number.
const PAYLOAD_LEN: usize = 16;

/// One family's message types.
struct Types {
    request: u8,
    reply: u8,
}

const ICMP: Types = Types { request: 8, reply: 0 };
const ICMPV6: Types = Types { request: 128, reply: 129 };

/// Who asks whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    pub own: TunnelAddress,
    /// The tunnel's far end, of the same family.
    pub target: IpAddr,
    /// Tells these replies from those to anybody else's requests.
    pub key: u64,
}

impl Echo {
    /// The request with this number, addressed to `next_hop`; empty where the families differ, which the planner refuses.
    pub fn request(&self, sequence: u64, next_hop: MacAddress) -> Vec<u8> {
        match (self.own.address, self.target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let mut message = self.message(ICMP.request, sequence);
                let checksum = Sum::default().bytes(&message).checksum();
                message[2..4].copy_from_slice(&checksum.to_be_bytes());
                let header = ipv4::Header {
                    source: own,
                    destination: target,
                    protocol: ip::ICMP,
                    ttl: TTL,
                    dscp: 0,
                    dont_fragment: true,
                    identification: 0,
                    total_len: (ipv4::HEADER_LEN + message.len()) as u16,
                };
                let mut packet = vec![0; ipv4::HEADER_LEN];
                ipv4::write(&mut packet, &header);
                packet.extend_from_slice(&message);
                frame(&self.own, next_hop, ethernet::TYPE_IPV4, &packet)
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                let mut message = self.message(ICMPV6.request, sequence);
                let checksum = nd::pseudo_sum(&message, own, target).checksum();
                message[2..4].copy_from_slice(&checksum.to_be_bytes());
                frame(&self.own, next_hop, ethernet::TYPE_IPV6, &ipv6_packet(own, target, TTL, &message))
            }
            _ => Vec::new(),
        }
    }

    /// The number of the request that a frame replies to.
    pub fn answer(&self, reply: &[u8]) -> Option<u64> {
        let stack = in_vlan(reply, self.own.vlan)?;
        let message = match (self.own.address, self.target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let (l3, l4) = (stack.l3(), stack.l4()?);
                let is_icmp = stack.is_ipv4() && !stack.is_fragment() && stack.protocol() == ip::ICMP;
                let header = Ipv4::at(reply, l3).filter(|_| is_icmp)?;
                let message = reply.get(l4..l3 + usize::from(header.total_len()))?;
                let is_right = |bytes: &[u8]| Sum::default().bytes(bytes).folded() == 0xffff;
                let is_ours = header.source() == target.to_bits() && header.destination() == own.to_bits();
                (is_ours
                    && message.first() == Some(&ICMP.reply)
                    && is_right(message)
                    && is_right(&reply[l3..l4]))
                .then_some(message)?
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                let (message, source, destination, _) = icmpv6_message(reply, &stack)?;
                let is_ours = source == target && destination == own;
                let is_right = || nd::pseudo_sum(message, source, destination).folded() == 0xffff;
                (is_ours && message.first() == Some(&ICMPV6.reply) && is_right()).then_some(message)?
            }
            _ => return None,
        };
        let payload = message.get(icmp::HEADER_LEN..)?;
        let sequence = u64::from_be_bytes(payload.get(8..PAYLOAD_LEN)?.try_into().ok()?);
        // the message is the one that was sent, but for its type and checksum
        let sent = self.message(0, sequence);
        (message[1] == 0 && message[4..] == sent[4..]).then_some(sequence)
    }

    /// A message without its checksum.
    fn message(&self, message_type: u8, sequence: u64) -> [u8; icmp::HEADER_LEN + PAYLOAD_LEN] {
        let mut message = [0; icmp::HEADER_LEN + PAYLOAD_LEN];
        message[0] = message_type;
        message[4..6].copy_from_slice(&(self.key as u16).to_be_bytes());
        message[6..8].copy_from_slice(&(sequence as u16).to_be_bytes());
        message[8..16].copy_from_slice(&self.key.to_be_bytes());
        message[16..].copy_from_slice(&sequence.to_be_bytes());
        message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::responder::Responder;
    use tapline_packet::headers::vlan::VlanTag;

    const FAR: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    /// An echo, and the far end that answers it.
    fn families() -> [(Echo, TunnelAddress); 2] {
        [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")].map(|(own, far)| {
            let address = |mac, text: &str| TunnelAddress {
                mac,
                address: text.parse().expect("an address"),
                vlan: Some(VlanTag { vlan: 7, priority: 0 }),
            };
            let far = address(FAR, far);
            (
                Echo {
                    own: address(MacAddress([2, 0, 0, 0, 0, 1]), own),
                    target: far.address,
                    key: 0x0123_4567_89ab_cdef,
                },
                far,
            )
        })
    }

    fn reply(echo: &Echo, far: TunnelAddress, sequence: u64) -> Vec<u8> {
        Responder::new(vec![far])
            .answer(&echo.request(sequence, far.mac))
            .expect("it is asked for its own address")
    }

    #[test]
    fn a_reply_of_somebody_else_or_to_somebody_else_is_none() {
        for (echo, far) in families() {
            let reply = reply(&echo, far, 5);
            assert_eq!(echo.answer(&reply), Some(5));
            assert_eq!(Echo { key: echo.key ^ 1 << 60, ..echo }.answer(&reply), None, "another run's");
            assert_eq!(
                Echo { target: echo.own.address, ..echo }.answer(&reply),
                None,
                "from another address"
            );
            assert_eq!(
                Echo { own: TunnelAddress { vlan: None, ..echo.own }, ..echo }.answer(&reply),
                None,
                "in another VLAN"
            );
            assert_eq!(echo.answer(&echo.request(5, far.mac)), None, "the request itself");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back_and_no_changed_byte_of_the_packet_is_taken(sequence: u64, at in 18usize..58, change in 1u8..) {
            for (echo, far) in families() {
                let mut reply = reply(&echo, far, sequence);
                prop_assert_eq!(echo.answer(&reply), Some(sequence));
                let is_ipv6_field_without_checksum = echo.target.is_ipv6() && (18..26).contains(&at);
                if !is_ipv6_field_without_checksum {
                    reply[at] ^= change;
                    prop_assert_eq!(echo.answer(&reply), None);
                }
            }
        }

        #[test]
        fn any_bytes_are_taken_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), keep in 0usize..60) {
            for (echo, far) in families() {
                let like = reply(&echo, far, 1);
                let keep = keep.min(bytes.len()).min(like.len());
                bytes[..keep].copy_from_slice(&like[..keep]);
                echo.answer(&bytes);
            }
        }
    }
}
