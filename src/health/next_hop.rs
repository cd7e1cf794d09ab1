//! Next hops of tunnels: ARP and neighbour discovery by Tapline itself, for ports that no kernel knows.
//!
//! A `NextHop` follows one address, without clock, thread or device: frames and the time go in, requests and the state come out.
//! The broker's housekeeping gives it what tool ports receive, a few frames a second; nothing here is per packet.
//!
//! An answer changes the state only if it names the address that was asked for, and comes in the tunnel's VLAN. A gratuitous
//! announcement of that address is believed too, because that is how routers move an address to their standby.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tapline_packet::headers::arp;
use tapline_packet::headers::arp::Arp;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::ip;
use tapline_packet::headers::ipv6;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::nd;
use tapline_packet::headers::nd::Neighbour;
use tapline_packet::headers::vlan;
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::layers;
use tapline_packet::layers::Stack;

/// An address that tunnels are sent from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelAddress {
    pub mac: MacAddress,
    pub address: IpAddr,
    pub vlan: Option<VlanTag>,
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// From one unanswered request to the next.
    pub retry_ns: u64,
    /// From an answer to the request that confirms it.
    pub refresh_ns: u64,
    /// Unanswered requests until the next hop is down.
    pub tries: u32,
}

impl Default for Timing {
    /// A next hop that went away is noticed within 13 seconds.
    fn default() -> Self {
        Self { retry_ns: 1_000_000_000, refresh_ns: 10_000_000_000, tries: 3 }
    }
}

/// The state of a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHopState {
    /// Asked for, never answered.
    Resolving,
    /// It answered. Copies can be sent, also while it is asked again.
    Up { mac: MacAddress },
    /// It did not answer; it is asked further.
    Down,
}

/// A change that the log and the statistics tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHopEvent {
    Up { mac: MacAddress },
    Moved { from: MacAddress, to: MacAddress },
    Down,
}

/// Follows the Ethernet address of one next hop.
#[derive(Clone, Debug)]
pub struct NextHop {
    own: TunnelAddress,
    target: IpAddr,
    timing: Timing,
    state: NextHopState,
    unanswered: u32,
    /// When the next request is due.
    due_ns: u64,
    requests: u64,
    losses: u64,
}

impl NextHop {
    /// Begins to ask for `target`, of the same family as `own`, at the first `on_time`.
    pub fn new(own: TunnelAddress, target: IpAddr, timing: Timing) -> Self {
        Self {
            own,
            target,
            timing,
            state: NextHopState::Resolving,
            unanswered: 0,
            due_ns: 0,
            requests: 0,
            losses: 0,
        }
    }

    pub fn state(&self) -> NextHopState {
        self.state
    }

    /// Gives the address to send copies to. It gives `None` while nobody answers: copies are dropped then, reason `down`.
    pub fn mac(&self) -> Option<MacAddress> {
        match self.state {
            NextHopState::Up { mac } => Some(mac),
            NextHopState::Resolving | NextHopState::Down => None,
        }
    }

    /// When `on_time` has something to do.
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Requests sent.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How often it went down after it had been up.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Sends the request that is due, and gives up on a next hop that was asked too often.
    pub fn on_time(&mut self, now_ns: u64, send: &mut impl FnMut(&[u8])) -> Option<NextHopEvent> {
        if now_ns < self.due_ns {
            return None;
        }
        let mut event = None;
        if self.unanswered >= self.timing.tries && self.state != NextHopState::Down {
            if let NextHopState::Up { .. } = self.state {
                self.losses += 1;
            }
            self.state = NextHopState::Down;
            event = Some(NextHopEvent::Down);
        }
        // The first question to a known neighbour goes to it alone, as RFC 4861, 7.3.3 has it; then to all.
        let known = self.mac().filter(|_| self.unanswered == 0);
        send(&self.request(known));
        self.requests += 1;
        self.unanswered = self.unanswered.saturating_add(1);
        self.due_ns = now_ns + self.timing.retry_ns;
        event
    }

    /// Takes note of a received frame, if it is about the next hop.
    pub fn on_frame(&mut self, frame: &[u8], now_ns: u64) -> Option<NextHopEvent> {
        let stack = in_vlan(frame, self.own.vlan)?;
        let mac = match (self.target, self.own.address) {
            (IpAddr::V4(target), IpAddr::V4(own)) => arp_news(frame, &stack, target, own)?,
            (IpAddr::V6(target), IpAddr::V6(_)) => advertised(frame, &stack, target, self.mac())?,
            _ => return None,
        };
        if mac.is_group() {
            return None;
        }
        self.unanswered = 0;
        self.due_ns = now_ns + self.timing.refresh_ns;
        let before = std::mem::replace(&mut self.state, NextHopState::Up { mac });
        match before {
            NextHopState::Up { mac: from } if from == mac => None,
            NextHopState::Up { mac: from } => Some(NextHopEvent::Moved { from, to: mac }),
            NextHopState::Resolving | NextHopState::Down => Some(NextHopEvent::Up { mac }),
        }
    }

    fn request(&self, known: Option<MacAddress>) -> Vec<u8> {
        match (self.own.address, self.target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                let packet =
                    arp::packet(arp::REQUEST, (self.own.mac, own), (MacAddress::default(), target));
                frame(&self.own, known.unwrap_or(MacAddress::BROADCAST), ethernet::TYPE_ARP, &packet)
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                let group = nd::solicited_node(target);
                let (to, destination) =
                    known.map_or((MacAddress::of_ipv6_group(group), group), |mac| (mac, target));
                let message = nd::message(nd::SOLICITATION, 0, target, self.own.mac, own, destination);
                frame(
                    &self.own,
                    to,
                    ethernet::TYPE_IPV6,
                    &ipv6_packet(own, destination, nd::HOP_LIMIT, &message),
                )
            }
            // The planner refuses mixed families; an empty frame is not sent by any port.
            _ => Vec::new(),
        }
    }
}

/// The stack of a frame in the tunnel's VLAN.
pub(super) fn in_vlan(frame: &[u8], own: Option<VlanTag>) -> Option<Stack> {
    let stack = layers::ethernet_stack(frame, 0);
    let vlan = stack.vlan(frame).unwrap_or(0);
    // A priority tag, VLAN 0, is as good as none.
    (stack.vlans() <= 1 && vlan == own.map_or(0, |tag| tag.vlan)).then_some(stack)
}

/// Who says, in a reply to us or in an announcement to all, that it has `target`.
fn arp_news(frame: &[u8], stack: &Stack, target: Ipv4Addr, own: Ipv4Addr) -> Option<MacAddress> {
    let packet = Arp::at(frame, stack.l3()).filter(|_| stack.is_arp())?;
    let is_to_us = packet.target() == own.to_bits();
    let is_announcement = packet.target() == target.to_bits();
    (packet.sender() == target.to_bits() && (is_to_us || is_announcement)).then(|| packet.sender_mac())
}

/// Who says, in an advertisement, that it has `target`.
fn advertised(
    frame: &[u8],
    stack: &Stack,
    target: Ipv6Addr,
    known: Option<MacAddress>,
) -> Option<MacAddress> {
    let (neighbour, ..) = neighbour(frame, stack)?;
    if neighbour.message_type() != nd::ADVERTISEMENT || neighbour.target() != target {
        return None;
    }
    let mac = neighbour.mac(nd::TARGET_MAC);
    match known {
        // One without an address, or one that must not override, confirms what is known (RFC 4861, 7.2.5).
        Some(known) if neighbour.flags() & nd::OVERRIDE == 0 => {
            mac.is_none_or(|mac| mac == known).then_some(known)
        }
        _ => mac.or(known),
    }
}

/// The neighbour message of a frame, with its source and destination.
pub(super) fn neighbour<'a>(frame: &'a [u8], stack: &Stack) -> Option<(Neighbour<'a>, Ipv6Addr, Ipv6Addr)> {
    let (message, source, destination, hop_limit) = icmpv6_message(frame, stack)?;
    (hop_limit == nd::HOP_LIMIT).then_some(())?;
    Some((Neighbour::checked(message, source, destination)?, source, destination))
}

/// An unfragmented ICMPv6 message without extension headers: the message, source, destination, hop limit.
pub(super) fn icmpv6_message<'a>(
    frame: &'a [u8],
    stack: &Stack,
) -> Option<(&'a [u8], Ipv6Addr, Ipv6Addr, u8)> {
    let l3 = stack.l3();
    let header =
        Ipv6::at(frame, l3).filter(|header| stack.is_ipv6() && header.next_header() == ip::ICMPV6)?;
    let begin = l3 + ipv6::HEADER_LEN;
    let message = frame.get(begin..begin + usize::from(header.payload_len()))?;
    Some((message, header.source().into(), header.destination().into(), frame[l3 + 7]))
}

/// A frame from `own`, in its VLAN.
pub(super) fn frame(own: &TunnelAddress, destination: MacAddress, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let tag = own.vlan.map(|tag| vlan::tag(vlan::TPID_8021Q, tag));
    tagged_frame(own.mac, tag.as_ref().map_or(&[][..], |tag| &tag[..]), destination, ethertype, body)
}

/// A frame with these tags, of [`vlan::TAG_LEN`] bytes each.
pub(super) fn tagged_frame(
    source: MacAddress,
    tags: &[u8],
    destination: MacAddress,
    ethertype: u16,
    body: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut out, destination, source, ethertype);
    out.splice(ethernet::ADDRESSES_LEN..ethernet::ADDRESSES_LEN, tags.iter().copied());
    out.extend_from_slice(body);
    out.resize(out.len().max(ethernet::MIN_FRAME_LEN), 0);
    out
}

/// The VLAN tags of a frame, if nothing else stands between its addresses and what it carries.
pub(super) fn tags_of<'a>(frame: &'a [u8], stack: &Stack) -> Option<&'a [u8]> {
    let end = ethernet::ADDRESSES_LEN + vlan::TAG_LEN * usize::from(stack.vlans());
    if stack.network()? == end + 2 { frame.get(ethernet::ADDRESSES_LEN..end) } else { None }
}

pub(super) fn ipv6_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; ipv6::HEADER_LEN];
    let header = ipv6::Header {
        source,
        destination,
        next_header: ip::ICMPV6,
        hop_limit,
        dscp: 0,
        flow_label: 0,
        payload_len: message.len() as u16,
    };
    ipv6::write(&mut out, &header);
    out.extend_from_slice(message);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::responder::Responder;

    const SECOND: u64 = 1_000_000_000;
    const ROUTER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn own(address: &str) -> TunnelAddress {
        TunnelAddress {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            address: address.parse().expect("an address"),
            vlan: Some(VlanTag { vlan: 7, priority: 0 }),
        }
    }

    fn families() -> [(TunnelAddress, TunnelAddress); 2] {
        [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")]
            .map(|(a, b)| (own(a), TunnelAddress { mac: ROUTER, ..own(b) }))
    }

    fn asked(next_hop: &mut NextHop, now_ns: u64) -> (Vec<Vec<u8>>, Option<NextHopEvent>) {
        let mut sent = Vec::new();
        let event = next_hop.on_time(now_ns, &mut |frame: &[u8]| sent.push(frame.to_vec()));
        (sent, event)
    }

    #[test]
    fn a_next_hop_comes_up_stays_up_goes_down_and_comes_back() {
        for (own, router) in families() {
            let mut responder = Responder::new(vec![router]);
            let mut next_hop = NextHop::new(own, router.address, Timing::default());
            let up = NextHopState::Up { mac: ROUTER };
            let answered = |next_hop: &mut NextHop, responder: &mut Responder, now_ns| {
                let (sent, _) = asked(next_hop, now_ns);
                let answer = responder.answer(&sent[0]).expect("it is asked for its own address");
                next_hop.on_frame(&answer, now_ns)
            };
            assert_eq!((next_hop.state(), next_hop.mac()), (NextHopState::Resolving, None));
            assert_eq!(answered(&mut next_hop, &mut responder, 0), Some(NextHopEvent::Up { mac: ROUTER }));
            assert_eq!(next_hop.state(), up);
            // Nothing is asked until the answer is old; then the neighbour alone, and its answer is no event.
            assert_eq!(asked(&mut next_hop, 9 * SECOND), (vec![], None));
            assert_eq!(answered(&mut next_hop, &mut responder, 10 * SECOND), None);
            // Three requests stay unanswered: the first to the neighbour, the others to all. Until then it is up.
            let mut to_all = Vec::new();
            for second in 20..23 {
                let (sent, event) = asked(&mut next_hop, second * SECOND);
                assert_eq!((event, next_hop.state(), sent.len()), (None, up, 1));
                to_all.push(sent[0][0] & 1 == 1);
            }
            assert_eq!(to_all, [false, true, true]);
            let (sent, event) = asked(&mut next_hop, 23 * SECOND);
            assert_eq!(
                (event, next_hop.mac(), next_hop.losses(), sent.len()),
                (Some(NextHopEvent::Down), None, 1, 1)
            );
            // It is asked further, and comes back.
            assert_eq!(
                answered(&mut next_hop, &mut responder, 24 * SECOND),
                Some(NextHopEvent::Up { mac: ROUTER })
            );
            assert_eq!(next_hop.requests(), 7);
        }
    }

    #[test]
    fn a_router_that_never_answers_is_down_and_no_loss() {
        for (own, router) in families() {
            let mut next_hop = NextHop::new(own, router.address, Timing::default());
            let events: Vec<_> =
                (0..10).filter_map(|second| asked(&mut next_hop, second * SECOND).1).collect();
            assert_eq!((events, next_hop.losses(), next_hop.requests()), (vec![NextHopEvent::Down], 0, 10));
        }
    }

    #[test]
    fn an_address_that_moves_to_a_standby_is_followed() {
        let (own, router) = families()[0];
        let standby = MacAddress([2, 0, 0, 0, 0, 10]);
        let mut next_hop = NextHop::new(own, router.address, Timing::default());
        let IpAddr::V4(address) = router.address else { unreachable!("the first family is IPv4") };
        let announce = |mac| {
            let packet = arp::packet(arp::REQUEST, (mac, address), (MacAddress::default(), address));
            frame(&TunnelAddress { mac, ..router }, MacAddress::BROADCAST, ethernet::TYPE_ARP, &packet)
        };
        assert_eq!(next_hop.on_frame(&announce(ROUTER), 0), Some(NextHopEvent::Up { mac: ROUTER }));
        assert_eq!(
            next_hop.on_frame(&announce(standby), 1),
            Some(NextHopEvent::Moved { from: ROUTER, to: standby })
        );
        // An address of many cannot be a next hop's.
        assert_eq!(next_hop.on_frame(&announce(MacAddress::BROADCAST), 2), None);
        assert_eq!(next_hop.mac(), Some(standby));
    }

    #[test]
    fn answers_in_another_vlan_or_about_another_address_change_nothing() {
        for (own, router) in families() {
            let mut next_hop = NextHop::new(own, router.address, Timing::default());
            let (sent, _) = asked(&mut next_hop, 0);
            let answer =
                Responder::new(vec![router]).answer(&sent[0]).expect("it is asked for its own address");
            let mut elsewhere = answer.clone();
            elsewhere[15] ^= 1;
            let mut untagged = answer.clone();
            untagged.drain(12..16);
            assert_eq!((next_hop.on_frame(&elsewhere, 0), next_hop.on_frame(&untagged, 0)), (None, None));
            let mut other = NextHop::new(own, own.address, Timing::default());
            assert_eq!(other.on_frame(&answer, 0), None);
            // A changed byte of an advertisement breaks its checksum.
            if own.address.is_ipv6() {
                let mut broken = answer.clone();
                *broken.last_mut().expect("not empty") ^= 1;
                assert_eq!(next_hop.on_frame(&broken, 0), None);
            }
            assert!(
                Responder::new(vec![TunnelAddress { vlan: None, ..router }]).answer(&sent[0]).is_none()
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), like in 0usize..3) {
            for (own, router) in families() {
                // Bytes that begin like a request get further.
                let mut next_hop = NextHop::new(own, router.address, Timing::default());
                let (sent, _) = asked(&mut next_hop, 0);
                let keep = [0, 14, 40][like].min(bytes.len());
                bytes[..keep].copy_from_slice(&sent[0][..keep]);
                next_hop.on_frame(&bytes, 0);
                Responder::new(vec![own, router]).answer(&bytes);
            }
        }
    }
}
