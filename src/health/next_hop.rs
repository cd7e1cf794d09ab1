//! Next hops of tunnels: ARP and neighbour discovery by Tapline itself, for ports that no kernel knows.
//!
//! A `NextHop` follows one address, without clock, thread or device: frames and the time go in, requests and the state come out.
//! The broker's housekeeping gives it what tool ports receive, a few frames a second; nothing here is per packet.
//!
//! A neighbour on the link can forge any frame, so a claim alone moves nothing. While a next hop is known, its address changes only
//! after the known one was asked alone, three times within a second, and did not answer; frames go to the known one until then. If
//! both answer, that is a conflict, and nothing moves. Where nobody is known, or the link just came back, the first answer to our own
//! request counts; announcements count for nothing then. All frames are taken in the tunnel's VLAN alone.
//! # Source
//! RFC 826 (ARP), RFC 5227 (claims of addresses), RFC 4861, 7.1.2 and 7.2.5 (advertisements).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tapline_packet::headers::arp;
use tapline_packet::headers::arp::Arp;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::{Ethernet, MacAddress};
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

/// Questions to the known neighbour, and to whoever claims its address, until it is judged who has it.
const CHECKS: u32 = 3;
/// From one of these questions to the next, and from the last to the verdict: a second in all.
const CHECK_NS: u64 = 333_333_334;

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
    Up {
        mac: MacAddress,
    },
    Moved {
        from: MacAddress,
        to: MacAddress,
    },
    Down,
    /// Two have the address, and answer.
    Conflict {
        mac: MacAddress,
        other: MacAddress,
    },
    /// One of the two does not answer any more.
    ConflictOver,
}

/// The counts of a next hop.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct NextHopCounts {
    /// Requests sent.
    pub requests: u64,
    /// How often it went down after it had been up.
    pub losses: u64,
    /// How often its address became another one.
    pub moves: u64,
    /// Requests sent to one neighbour alone because somebody claimed the address.
    pub probes: u64,
    /// How often two were found to have the address.
    pub conflicts: u64,
    /// Frames about the address that changed nothing: claims that were refused, and frames that are not right.
    pub ignored: u64,
}

/// A check of an address that two may have: both are asked, each alone.
#[derive(Clone, Copy, Debug)]
struct Check {
    other: MacAddress,
    /// `other` says unasked that it has the address; else an earlier conflict is looked at again.
    is_claimed: bool,
    asked: u32,
    is_known_there: bool,
    is_other_there: bool,
    due_ns: u64,
}

impl Check {
    fn new(other: MacAddress, is_claimed: bool, now_ns: u64) -> Self {
        Self { other, is_claimed, asked: 0, is_known_there: false, is_other_there: false, due_ns: now_ns }
    }
}

/// The news that a frame has of the next hop.
enum Heard {
    /// The frame breaks a rule of its protocol.
    Wrong,
    /// `mac` has the address.
    At {
        mac: MacAddress,
        /// The frame answers a request of ours.
        is_answer: bool,
        /// The frame is to replace what is known (RFC 4861, 4.4). ARP has no such flag, and always means it.
        overrides: bool,
    },
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
    /// The link came up since the last answer: the first one counts.
    is_open: bool,
    check: Option<Check>,
    /// Who else answers for the address.
    conflict: Option<MacAddress>,
    counts: NextHopCounts,
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
            is_open: false,
            check: None,
            conflict: None,
            counts: NextHopCounts::default(),
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

    /// Gives the other neighbour that answers for the address, if there is one.
    pub fn conflict(&self) -> Option<MacAddress> {
        self.conflict
    }

    pub fn counts(&self) -> NextHopCounts {
        self.counts
    }

    /// Asks at once, since the link came up: the neighbour may be another one, and the first answer counts.
    pub fn on_link_up(&mut self, now_ns: u64) {
        self.is_open = true;
        self.check = None;
        self.unanswered = 0;
        self.due_ns = now_ns;
    }

    /// Sends the requests that are due, gives up on a next hop that was asked too often, and judges claims.
    pub fn on_time(&mut self, now_ns: u64, send: &mut impl FnMut(&[u8])) -> Option<NextHopEvent> {
        if let (Some(check), NextHopState::Up { mac }) = (self.check, self.state) {
            return if now_ns < check.due_ns { None } else { self.on_check(check, mac, now_ns, send) };
        }
        if now_ns < self.due_ns {
            return None;
        }
        if let (Some(other), NextHopState::Up { mac }, 0, false) =
            (self.conflict, self.state, self.unanswered, self.is_open)
        {
            return self.on_check(Check::new(other, false, now_ns), mac, now_ns, send);
        }
        let mut event = None;
        if self.unanswered >= self.timing.tries && self.state != NextHopState::Down {
            if let NextHopState::Up { .. } = self.state {
                self.counts.losses += 1;
            }
            self.state = NextHopState::Down;
            self.conflict = None;
            event = Some(NextHopEvent::Down);
        }
        // The first question to a known neighbour goes to it alone, as RFC 4861, 7.3.3 has it; then to all.
        let known = self.mac().filter(|_| self.unanswered == 0 && !self.is_open);
        send(&self.request(known));
        self.counts.requests += 1;
        self.unanswered = self.unanswered.saturating_add(1);
        self.due_ns = now_ns + self.timing.retry_ns;
        event
    }

    /// Asks both who may have the address, or judges once they were asked often enough.
    fn on_check(
        &mut self,
        mut check: Check,
        known: MacAddress,
        now_ns: u64,
        send: &mut impl FnMut(&[u8]),
    ) -> Option<NextHopEvent> {
        if check.asked == CHECKS {
            self.check = None;
            return self.judge(check, known, now_ns);
        }
        let unanswered = [(known, check.is_known_there), (check.other, check.is_other_there)];
        for (to, _) in unanswered.into_iter().filter(|(_, is_there)| !is_there) {
            send(&self.request(Some(to)));
            self.counts.requests += 1;
            self.counts.probes += 1;
        }
        check.asked += 1;
        check.due_ns = now_ns + CHECK_NS;
        self.check = Some(check);
        None
    }

    /// Judges who has the address by who answered.
    fn judge(&mut self, check: Check, known: MacAddress, now_ns: u64) -> Option<NextHopEvent> {
        let Check { other, is_claimed, is_known_there, is_other_there, .. } = check;
        if is_known_there {
            self.confirm(now_ns);
            if is_other_there {
                let is_new = self.conflict.is_none();
                self.conflict.get_or_insert(other);
                self.counts.conflicts += u64::from(is_new);
                return is_new.then_some(NextHopEvent::Conflict { mac: known, other });
            }
            self.counts.ignored += u64::from(is_claimed);
            return (self.conflict == Some(other)).then(|| self.end_conflict());
        }
        if is_claimed || is_other_there {
            self.conflict = None;
            self.counts.moves += 1;
            self.state = NextHopState::Up { mac: other };
            self.confirm(now_ns);
            if !is_other_there {
                self.due_ns = now_ns;
            }
            return Some(NextHopEvent::Moved { from: known, to: other });
        }
        // Neither answers: all are asked next.
        (self.unanswered, self.due_ns) = (1, now_ns);
        self.conflict.is_some().then(|| self.end_conflict())
    }

    fn end_conflict(&mut self) -> NextHopEvent {
        self.conflict = None;
        NextHopEvent::ConflictOver
    }

    fn confirm(&mut self, now_ns: u64) {
        self.unanswered = 0;
        self.is_open = false;
        self.due_ns = now_ns + self.timing.refresh_ns;
    }

    /// Takes note of a received frame, if it is about the next hop.
    pub fn on_frame(&mut self, frame: &[u8], now_ns: u64) -> Option<NextHopEvent> {
        let stack = in_vlan(frame, self.own.vlan)?;
        let heard = match (self.target, self.own.address) {
            (IpAddr::V4(target), IpAddr::V4(own)) => arp_news(frame, &stack, target, own)?,
            (IpAddr::V6(target), IpAddr::V6(own)) => advertised(frame, &stack, target, own)?,
            _ => return None,
        };
        let Heard::At { mac, is_answer, overrides } = heard else {
            self.counts.ignored += 1;
            return None;
        };
        let to = MacAddress(Ethernet::at(frame, 0)?.destination());
        let is_answer = is_answer && (to == self.own.mac || to.is_group());
        if mac.is_group() || mac == self.own.mac {
            self.counts.ignored += 1;
            return None;
        }
        match self.state {
            NextHopState::Up { mac: known } if !self.is_open => {
                self.on_news(known, mac, is_answer, overrides, now_ns);
                None
            }
            _ if is_answer && self.unanswered > 0 => self.on_first_answer(mac, now_ns),
            _ => {
                self.counts.ignored += 1;
                None
            }
        }
    }

    /// Takes the first answer to a request that went to all.
    fn on_first_answer(&mut self, mac: MacAddress, now_ns: u64) -> Option<NextHopEvent> {
        self.confirm(now_ns);
        let before = std::mem::replace(&mut self.state, NextHopState::Up { mac });
        match before {
            NextHopState::Up { mac: from } if from == mac => None,
            NextHopState::Up { mac: from } => {
                self.conflict = None;
                self.counts.moves += 1;
                Some(NextHopEvent::Moved { from, to: mac })
            }
            NextHopState::Resolving | NextHopState::Down => Some(NextHopEvent::Up { mac }),
        }
    }

    /// Takes note of who says that it has the address of a next hop that is known.
    fn on_news(
        &mut self,
        known: MacAddress,
        mac: MacAddress,
        is_answer: bool,
        overrides: bool,
        now_ns: u64,
    ) {
        match &mut self.check {
            // An announcement does not prove that the way there and back works (RFC 4861, 7.3.1).
            Some(check) if mac == known => check.is_known_there |= is_answer,
            None if mac == known && is_answer => self.confirm(now_ns),
            None if mac == known => {}
            Some(check) if mac == check.other => {
                check.is_other_there |= is_answer && check.asked > 0;
                check.is_claimed |= overrides;
            }
            Some(_) => self.counts.ignored += 1,
            None if overrides => self.check = Some(Check::new(mac, true, now_ns)),
            None => {
                // What is known stays, and is asked at once (RFC 4861, 7.2.5: REACHABLE becomes STALE).
                self.counts.ignored += 1;
                if self.unanswered == 0 {
                    self.due_ns = now_ns;
                }
            }
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

/// Finds who says, in a reply or a request to us or in an announcement to all, that it has `target`.
fn arp_news(frame: &[u8], stack: &Stack, target: Ipv4Addr, own: Ipv4Addr) -> Option<Heard> {
    let packet = Arp::at(frame, stack.l3()).filter(|_| stack.is_arp())?;
    let is_to_us = packet.target() == own.to_bits();
    let is_announcement = packet.target() == target.to_bits();
    if packet.sender() != target.to_bits() || !(is_to_us || is_announcement) {
        return None;
    }
    let is_right = packet.is_ipv4_over_ethernet()
        && matches!(packet.operation(), arp::REQUEST | arp::REPLY)
        && Ethernet::at(frame, 0)?.source() == packet.sender_mac().0;
    if !is_right {
        return Some(Heard::Wrong);
    }
    let is_answer = packet.operation() == arp::REPLY && is_to_us;
    Some(Heard::At { mac: packet.sender_mac(), is_answer, overrides: true })
}

/// Finds who says, in an advertisement, that it has `target`.
fn advertised(frame: &[u8], stack: &Stack, target: Ipv6Addr, own: Ipv6Addr) -> Option<Heard> {
    let Some((neighbour, _, destination)) = neighbour(frame, stack) else {
        return is_about(frame, stack, nd::ADVERTISEMENT, target).then_some(Heard::Wrong);
    };
    if neighbour.message_type() != nd::ADVERTISEMENT || neighbour.target() != target {
        return None;
    }
    let is_answer = neighbour.flags() & nd::SOLICITED != 0 && destination == own;
    let overrides = neighbour.flags() & nd::OVERRIDE != 0;
    // Who was asked alone need not say its address (RFC 4861, 4.4): the frame has it.
    let source = MacAddress(Ethernet::at(frame, 0)?.source());
    Some(Heard::At { mac: neighbour.mac(nd::TARGET_MAC).unwrap_or(source), is_answer, overrides })
}

/// Returns whether a frame is an ICMPv6 message of neighbour discovery about `target`, right or not.
pub(super) fn is_about(frame: &[u8], stack: &Stack, kind: u8, target: Ipv6Addr) -> bool {
    icmpv6_message(frame, stack).is_some_and(|(message, ..)| {
        message.first() == Some(&kind) && message.get(8..24) == Some(&target.octets()[..])
    })
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
                (event, next_hop.mac(), next_hop.counts().losses, sent.len()),
                (Some(NextHopEvent::Down), None, 1, 1)
            );
            // It is asked further, and comes back.
            assert_eq!(
                answered(&mut next_hop, &mut responder, 24 * SECOND),
                Some(NextHopEvent::Up { mac: ROUTER })
            );
            assert_eq!(next_hop.counts().requests, 7);
        }
    }

    #[test]
    fn a_router_that_never_answers_is_down_and_no_loss() {
        for (own, router) in families() {
            let mut next_hop = NextHop::new(own, router.address, Timing::default());
            let events: Vec<_> =
                (0..10).filter_map(|second| asked(&mut next_hop, second * SECOND).1).collect();
            assert_eq!(
                (events, next_hop.counts().losses, next_hop.counts().requests),
                (vec![NextHopEvent::Down], 0, 10)
            );
        }
    }

    const STANDBY: MacAddress = MacAddress([2, 0, 0, 0, 0, 10]);

    /// Neighbours that answer, a next hop, and what it sent.
    struct Link {
        next_hop: NextHop,
        /// Those that have the address.
        there: Vec<MacAddress>,
        router: TunnelAddress,
        sent: Vec<Vec<u8>>,
    }

    impl Link {
        /// A link on which the router answered at 0.
        fn up((own, router): (TunnelAddress, TunnelAddress)) -> Self {
            let next_hop = NextHop::new(own, router.address, Timing::default());
            let mut link = Link { next_hop, there: vec![ROUTER], router, sent: Vec::new() };
            assert_eq!(link.go(0, 1), [NextHopEvent::Up { mac: ROUTER }]);
            link.sent.clear();
            link
        }

        /// Lets the time go on in steps of 10 ms; each that is there answers what reaches it.
        fn go(&mut self, begin_ns: u64, end_ns: u64) -> Vec<NextHopEvent> {
            let mut events = Vec::new();
            for now_ns in (begin_ns..end_ns).step_by(10_000_000) {
                let (sent, event) = asked(&mut self.next_hop, now_ns);
                events.extend(event);
                for request in &sent {
                    for &mac in &self.there {
                        let reached = request[0] & 1 == 1 || request[..6] == mac.0;
                        let mut responder = Responder::new(vec![TunnelAddress { mac, ..self.router }]);
                        let answer = reached.then(|| responder.answer(request).expect("it is asked for"));
                        events.extend(answer.and_then(|answer| self.next_hop.on_frame(&answer, now_ns)));
                    }
                }
                self.sent.extend(sent);
            }
            events
        }

        /// A frame by which `mac` announces itself unasked.
        fn claim(&self, mac: MacAddress) -> Vec<u8> {
            announcement(&TunnelAddress { mac, ..self.router })
        }

        /// To whom requests went.
        fn asked(&self) -> Vec<MacAddress> {
            self.sent.iter().map(|frame| MacAddress(*frame.first_chunk().expect("a frame"))).collect()
        }
    }

    /// A gratuitous ARP request, or an unsolicited advertisement that overrides.
    fn announcement(own: &TunnelAddress) -> Vec<u8> {
        match own.address {
            IpAddr::V4(address) => {
                let packet =
                    arp::packet(arp::REQUEST, (own.mac, address), (MacAddress::default(), address));
                frame(own, MacAddress::BROADCAST, ethernet::TYPE_ARP, &packet)
            }
            IpAddr::V6(address) => advertisement(own, nd::OVERRIDE, address, ALL_NODES),
        }
    }

    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn advertisement(own: &TunnelAddress, flags: u8, target: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let message = nd::message(nd::ADVERTISEMENT, flags, target, own.mac, target, to);
        let packet = ipv6_packet(target, to, nd::HOP_LIMIT, &message);
        frame(own, MacAddress([2, 0, 0, 0, 0, 1]), ethernet::TYPE_IPV6, &packet)
    }

    #[test]
    fn a_claim_moves_nothing_while_the_known_one_answers() {
        for family in families() {
            let mut link = Link::up(family);
            let claim = link.claim(STANDBY);
            assert_eq!(link.next_hop.on_frame(&claim, SECOND), None);
            assert_eq!(link.next_hop.mac(), Some(ROUTER));
            assert_eq!(link.go(SECOND, 3 * SECOND), []);
            assert_eq!(link.next_hop.mac(), Some(ROUTER));
            // The known one answered at once, the other was asked three times; both were asked alone.
            assert_eq!(link.asked(), [ROUTER, STANDBY, STANDBY, STANDBY]);
            let counts = link.next_hop.counts();
            assert_eq!((counts.moves, counts.probes, counts.conflicts, counts.ignored), (0, 4, 0, 1));
        }
    }

    #[test]
    fn an_address_moves_after_the_known_one_was_asked_three_times_in_a_second() {
        for family in families() {
            let mut link = Link::up(family);
            link.there = vec![STANDBY];
            let claim = link.claim(STANDBY);
            assert_eq!(link.next_hop.on_frame(&claim, SECOND), None);
            assert_eq!(link.go(SECOND, 2 * SECOND), [], "the old one is sent to until then");
            assert_eq!(link.next_hop.mac(), Some(ROUTER));
            assert_eq!(link.asked(), [ROUTER, STANDBY, ROUTER, ROUTER]);
            let moved = NextHopEvent::Moved { from: ROUTER, to: STANDBY };
            assert_eq!(link.go(2 * SECOND, 2 * SECOND + 100_000_000), [moved]);
            assert_eq!((link.next_hop.mac(), link.next_hop.counts().moves), (Some(STANDBY), 1));
            // It is as any other then.
            assert_eq!(link.go(3 * SECOND, 30 * SECOND), []);
        }
    }

    #[test]
    fn two_that_answer_are_a_conflict_that_ends_as_one_of_them_leaves() {
        for family in families() {
            let mut link = Link::up(family);
            link.there = vec![ROUTER, STANDBY];
            let claim = link.claim(STANDBY);
            link.next_hop.on_frame(&claim, SECOND);
            let conflict = NextHopEvent::Conflict { mac: ROUTER, other: STANDBY };
            assert_eq!(link.go(SECOND, 3 * SECOND), [conflict]);
            assert_eq!((link.next_hop.mac(), link.next_hop.conflict()), (Some(ROUTER), Some(STANDBY)));
            // It is told once, however often it is claimed again, and nothing moves.
            for second in 3..30 {
                link.next_hop.on_frame(&claim, second * SECOND);
                assert_eq!(link.go(second * SECOND, (second + 1) * SECOND), []);
            }
            assert_eq!((link.next_hop.mac(), link.next_hop.counts().conflicts), (Some(ROUTER), 1));
            let mut other = Link { next_hop: link.next_hop.clone(), there: vec![STANDBY], ..link };
            let moved = NextHopEvent::Moved { from: ROUTER, to: STANDBY };
            assert_eq!(other.go(30 * SECOND, 45 * SECOND), [moved]);
            assert_eq!(other.next_hop.conflict(), None);
            let mut same = Link::up(family);
            same.there = vec![ROUTER, STANDBY];
            same.next_hop.on_frame(&claim, SECOND);
            assert_eq!(same.go(SECOND, 3 * SECOND), [conflict]);
            same.there = vec![ROUTER];
            assert_eq!(same.go(3 * SECOND, 30 * SECOND), [NextHopEvent::ConflictOver]);
            assert_eq!((same.next_hop.mac(), same.next_hop.conflict()), (Some(ROUTER), None));
            same.next_hop.on_frame(&claim, 30 * SECOND);
            same.there = vec![];
            let events = same.go(30 * SECOND, 60 * SECOND);
            assert_eq!(events, [moved, NextHopEvent::Down], "nobody is there");
        }
    }

    #[test]
    fn a_flood_of_claims_is_asked_about_at_a_rate_and_moves_nothing() {
        for family in families() {
            let mut link = Link::up(family);
            // ten seconds of a thousand claims a second, by two in turn
            for turn in 0..10_000u64 {
                let claim = link.claim(MacAddress([2, 0x66, 0, 0, 0, (turn % 2) as u8]));
                let now_ns = SECOND + turn * SECOND / 1000;
                assert_eq!(link.next_hop.on_frame(&claim, now_ns), None);
                if turn % 10 == 0 {
                    assert_eq!(link.go(now_ns, now_ns + 1), []);
                }
            }
            assert_eq!((link.next_hop.mac(), link.next_hop.counts().moves), (Some(ROUTER), 0));
            assert!(link.sent.len() <= 11 * 4, "{}", link.sent.len());
        }
    }

    #[test]
    fn first_resolution_and_a_link_that_came_back_take_the_first_answer_to_our_own_request() {
        for (own, router) in families() {
            let mut next_hop = NextHop::new(own, router.address, Timing::default());
            let unasked = announcement(&TunnelAddress { mac: STANDBY, ..router });
            let answer_of = |request: &[u8], mac| {
                Responder::new(vec![TunnelAddress { mac, ..router }]).answer(request).expect("it is asked")
            };
            assert_eq!(next_hop.on_frame(&unasked, 0), None, "nothing was asked");
            let (sent, _) = asked(&mut next_hop, 0);
            assert_eq!((next_hop.on_frame(&unasked, 1), next_hop.mac()), (None, None));
            let up = Some(NextHopEvent::Up { mac: ROUTER });
            assert_eq!(next_hop.on_frame(&answer_of(&sent[0], ROUTER), 2), up);
            // The link comes back, and another router is at its end.
            next_hop.on_link_up(5 * SECOND);
            assert_eq!(next_hop.mac(), Some(ROUTER));
            let (sent, _) = asked(&mut next_hop, 5 * SECOND);
            assert_eq!(sent[0][0] & 1, 1, "all are asked");
            let forged = announcement(&TunnelAddress { mac: MacAddress([2, 0x66, 0, 0, 0, 1]), ..router });
            assert_eq!((next_hop.on_frame(&forged, 5 * SECOND), next_hop.mac()), (None, Some(ROUTER)));
            let moved = Some(NextHopEvent::Moved { from: ROUTER, to: STANDBY });
            assert_eq!(next_hop.on_frame(&answer_of(&sent[0], STANDBY), 5 * SECOND), moved);
            // A second answer is a claim like any other.
            assert_eq!(next_hop.on_frame(&answer_of(&sent[0], ROUTER), 5 * SECOND), None);
            assert_eq!((next_hop.mac(), next_hop.counts().ignored), (Some(STANDBY), 3));
        }
    }

    #[test]
    fn arp_frames_that_break_a_rule_are_ignored() {
        let mut link = Link::up(families()[0]);
        let (right, mut wrong) = (link.claim(STANDBY), Vec::new());
        let arp_at = 18;
        // opcodes; another Ethernet source; an address of many; our own address
        for (at, bytes) in [
            (arp_at + 6, &[0, 99][..]),
            (arp_at + 6, &[0, 0]),
            (arp_at + 6, &[0, 3]),
            (6, &[2, 0, 0, 0, 0, 11]),
        ] {
            let mut frame = right.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            wrong.push(frame);
        }
        // of another hardware: no ARP of ours
        let mut hardware = right.clone();
        hardware[arp_at + 1] = 6;
        assert_eq!(link.next_hop.on_frame(&hardware, SECOND), None);
        wrong.extend([MacAddress::BROADCAST, MacAddress([2, 0, 0, 0, 0, 1])].map(|mac| link.claim(mac)));
        for (count, frame) in (1..).zip(&wrong) {
            assert_eq!(link.next_hop.on_frame(frame, SECOND), None);
            assert_eq!(link.next_hop.counts().ignored, count);
        }
        assert_eq!((link.go(SECOND, 3 * SECOND), link.sent.len()), (vec![], 0), "nobody is asked for that");
        link.next_hop.on_frame(&right, 3 * SECOND);
        link.go(3 * SECOND, 4 * SECOND);
        assert_eq!(link.sent.len(), 4);
    }

    #[test]
    fn advertisements_count_as_rfc_4861_says() {
        let family = families()[1];
        let IpAddr::V6(target) = family.1.address else { unreachable!("the second family is IPv6") };
        let IpAddr::V6(ours) = family.0.address else { unreachable!("the second family is IPv6") };
        let standby = TunnelAddress { mac: STANDBY, ..family.1 };
        let mut link = Link::up(family);
        // Without the override flag the known one stays, and is asked (7.2.5).
        let weak = advertisement(&standby, nd::SOLICITED, target, ours);
        assert_eq!(link.next_hop.on_frame(&weak, SECOND), None);
        assert_eq!(link.go(SECOND, 3 * SECOND), []);
        assert_eq!((link.asked(), link.next_hop.mac()), (vec![ROUTER], Some(ROUTER)));
        // Those that are not right claim nothing: hop limit, checksum, solicited and to all, a group as target, no room for an option
        let right = advertisement(&standby, nd::OVERRIDE, target, ALL_NODES);
        let mut far = right.clone();
        far[18 + 7] = 254;
        let mut broken = right.clone();
        broken[18 + 40 + 31] ^= 1;
        let to_all = advertisement(&standby, nd::OVERRIDE | nd::SOLICITED, target, ALL_NODES);
        let mut empty = nd::message(nd::ADVERTISEMENT, nd::OVERRIDE, target, STANDBY, target, ALL_NODES);
        empty[25] = 0;
        empty[2..4].fill(0);
        let sum = nd::pseudo_sum(&empty, target, ALL_NODES).checksum();
        empty[2..4].copy_from_slice(&sum.to_be_bytes());
        let empty = ipv6_packet(target, ALL_NODES, nd::HOP_LIMIT, &empty);
        let empty = frame(&standby, MacAddress::BROADCAST, ethernet::TYPE_IPV6, &empty);
        let (before, asked) = (link.next_hop.counts().ignored, link.sent.len());
        for (count, frame) in (1..).zip([&far, &broken, &to_all, &empty]) {
            assert_eq!(link.next_hop.on_frame(frame, 4 * SECOND), None);
            assert_eq!(link.next_hop.counts().ignored, before + count);
        }
        assert_eq!((link.go(4 * SECOND, 6 * SECOND), link.sent.len()), (vec![], asked));
        link.next_hop.on_frame(&right, 6 * SECOND);
        link.go(6 * SECOND, 7 * SECOND);
        assert_eq!(link.sent.len(), asked + 4, "it is a claim");
    }

    #[test]
    fn an_announcement_of_the_known_one_is_no_answer() {
        for family in families() {
            let mut link = Link::up(family);
            link.there = vec![];
            let mut events = Vec::new();
            for second in 1..20 {
                let known = link.claim(ROUTER);
                link.next_hop.on_frame(&known, second * SECOND);
                events.extend(link.go(second * SECOND, (second + 1) * SECOND));
            }
            assert_eq!(events, [NextHopEvent::Down]);
        }
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
