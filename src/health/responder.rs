//! Answers for Tapline's own addresses: ARP, neighbour discovery and ping, on ports that no kernel knows.
//!
//! A `Responder` has no clock, no thread and no device: received frames and the time go in, answers come out. The broker's
//! housekeeping gives it the few frames a second that workers set aside (`LocalFrames`); nothing here is per packet.
//!
//! Addresses that tunnels are sent from stand in one VLAN each. Addresses that tunnels end at stand in every VLAN by which they are
//! asked for: the answer has the tags of the request.
//! # Source
//! RFC 826 and RFC 5227 (ARP), RFC 4861, 7.2 (neighbour discovery), RFC 792 and RFC 4443, 4 (echo).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::next_hop::{
    TunnelAddress, icmpv6_message, in_vlan, ipv6_packet, is_about, neighbour, tagged_frame, tags_of,
};
use tapline_api::snapshot::AnswerState;
use tapline_packet::headers::arp;
use tapline_packet::headers::arp::Arp;
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::{Ethernet, MacAddress};
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::nd;
use tapline_packet::headers::{icmp, ip, ipv4, vlan};
use tapline_packet::layers;
use tapline_packet::layers::Stack;

/// All nodes of a link (RFC 4291, 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An address at which tunnels end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndAddress {
    pub mac: MacAddress,
    pub address: IpAddr,
}

impl EndAddress {
    /// Gives the frame that tells a segment without being asked that the port has the address: an ARP announcement or an unsolicited
    /// neighbour advertisement, untagged.
    /// # Source
    /// RFC 5227, 3 (an announcement is a request whose sender and target are the address); RFC 4861, 7.2.6.
    pub fn announcement(&self) -> Vec<u8> {
        let mac = self.mac;
        match self.address {
            IpAddr::V4(address) => {
                let packet = arp::packet(arp::REQUEST, (mac, address), (MacAddress::default(), address));
                tagged_frame(mac, &[], MacAddress::BROADCAST, ethernet::TYPE_ARP, &packet)
            }
            IpAddr::V6(address) => {
                let message =
                    nd::message(nd::ADVERTISEMENT, nd::OVERRIDE, address, mac, address, ALL_NODES);
                let packet = ipv6_packet(address, ALL_NODES, nd::HOP_LIMIT, &message);
                let to = MacAddress::of_ipv6_group(ALL_NODES);
                tagged_frame(mac, &[], to, ethernet::TYPE_IPV6, &packet)
            }
        }
    }
}

/// When the addresses of a port are announced: as its link comes up, again after two seconds, and where somebody else says that an
/// address is theirs.
/// # Source
/// RFC 5227, 1.1: ANNOUNCE_NUM (2), ANNOUNCE_INTERVAL and DEFEND_INTERVAL (10 s); 2.4 (c).
#[derive(Clone, Copy, Default, Debug)]
pub struct Announcer {
    is_up: bool,
    left: u32,
    due_ns: u64,
    last_ns: Option<u64>,
}

const ANNOUNCE_NUM: u32 = 2;
const ANNOUNCE_INTERVAL_NS: u64 = 2_000_000_000;
const DEFEND_INTERVAL_NS: u64 = 10_000_000_000;

impl Announcer {
    /// Takes note of the port's link.
    pub fn see_link(&mut self, is_up: bool) {
        if is_up && !self.is_up {
            (self.left, self.due_ns) = (ANNOUNCE_NUM, 0);
        }
        self.is_up = is_up;
    }

    /// Announces once more, unless that was just done.
    pub fn defend(&mut self, now_ns: u64) {
        let is_recent = self.last_ns.is_some_and(|last| now_ns.saturating_sub(last) < DEFEND_INTERVAL_NS);
        if !is_recent && self.left == 0 {
            (self.left, self.due_ns) = (1, now_ns);
        }
    }

    /// Returns whether an announcement is due, and takes it for sent.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = self.is_up && self.left > 0 && now_ns >= self.due_ns;
        if is_due {
            self.left -= 1;
            self.due_ns = now_ns + ANNOUNCE_INTERVAL_NS;
            self.last_ns = Some(now_ns);
        }
        is_due
    }
}

/// Answers of one kind in a second, at most.
const ANSWERS_A_SECOND: u64 = 200;
/// Answers of one kind at once, at most.
const MOST_ANSWERS_AT_ONCE: u64 = 64;
const NS_AN_ANSWER: u64 = 1_000_000_000 / ANSWERS_A_SECOND;

/// A bucket of answers, full at the beginning.
#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    /// The time at which the bucket is full again.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes an answer out, if one is in.
    fn take(&mut self, now_ns: u64) -> bool {
        let full_at_ns = self.full_at_ns.max(now_ns) + NS_AN_ANSWER;
        let is_in = full_at_ns - now_ns <= MOST_ANSWERS_AT_ONCE * NS_AN_ANSWER;
        if is_in {
            self.full_at_ns = full_at_ns;
        }
        is_in
    }
}

/// The protocol of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Arp,
    Nd,
    Echo,
}

/// The outcome of a frame that asks something of an address.
enum Asked {
    Answer(Kind, Vec<u8>),
    /// A fragment of a ping.
    Fragment,
    /// A question whose checksum or length is wrong.
    Malformed,
}

/// One of Tapline's own addresses, as a request meets it.
struct Own<'a> {
    mac: MacAddress,
    address: IpAddr,
    /// The tags of the answer.
    tags: &'a [u8],
}

/// Answers for Tapline's own addresses.
#[derive(Clone, Debug, Default)]
pub struct Responder {
    own: Vec<TunnelAddress>,
    ends: Vec<EndAddress>,
    counts: AnswerState,
    /// One for ARP and neighbour discovery, and one for pings: a flood of pings does not hide the address.
    buckets: [Bucket; 2],
}

impl Responder {
    /// Begins to answer for addresses that tunnels are sent from.
    pub fn new(own: Vec<TunnelAddress>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Answers for addresses at which tunnels end, too.
    pub fn with_ends(self, ends: Vec<EndAddress>) -> Self {
        Self { ends, ..self }
    }

    /// Returns whether there are addresses to answer for.
    pub fn has_addresses(&self) -> bool {
        !self.own.is_empty() || !self.ends.is_empty()
    }

    /// The addresses at which tunnels end.
    pub fn ends(&self) -> &[EndAddress] {
        &self.ends
    }

    /// Gives what was answered and what was not.
    pub fn counts(&self) -> AnswerState {
        self.counts
    }

    /// Goes on with what another counted, and with its rates.
    pub fn go_on(&mut self, before: &Self) {
        (self.counts, self.buckets) = (before.counts, before.buckets);
    }

    /// Counts from here.
    pub fn clear_counts(&mut self) {
        self.counts = AnswerState::default();
    }

    /// Counts announcements that were sent.
    pub fn announced(&mut self, count: u64) {
        self.counts.announced += count;
    }

    /// Counts frames that came when there was no room for them.
    pub fn limited(&mut self, count: u64) {
        self.counts.limited += count;
    }

    /// Answers given.
    pub fn answers(&self) -> u64 {
        self.counts.arp + self.counts.nd + self.counts.echo
    }

    /// The answer to a received frame: to an ARP request, a neighbour solicitation or a ping for one of the addresses. Fragments,
    /// wrong checksums and requests from many or nobody get none.
    pub fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let (kind, answer) = self.find(request)?;
        self.count(kind);
        Some(answer)
    }

    /// As [`answer`](Self::answer), as long as there were not too many answers until `now_ns`.
    pub fn answer_at(&mut self, request: &[u8], now_ns: u64) -> Option<Vec<u8>> {
        let (kind, answer) = self.find(request)?;
        if !self.buckets[usize::from(kind == Kind::Echo)].take(now_ns) {
            self.counts.limited += 1;
            return None;
        }
        self.count(kind);
        Some(answer)
    }

    /// Counts a frame by which somebody else said that an address is theirs.
    pub fn claimed(&mut self) {
        self.counts.claimed += 1;
    }

    /// Finds who else says that it has one of the addresses: the address, and the other's Ethernet address.
    ///
    /// An ARP packet whose sender has the address, or an advertisement of the address, is no request of ours where the Ethernet
    /// address is not the port's (RFC 5227, 2.4; RFC 4862, 5.4.4).
    pub fn conflict(&self, frame: &[u8]) -> Option<(IpAddr, MacAddress)> {
        let stack = layers::ethernet_stack(frame, 0);
        let (address, mac) = if stack.is_arp() {
            let packet = Arp::at(frame, stack.l3()).filter(Arp::is_ipv4_over_ethernet)?;
            if !matches!(packet.operation(), arp::REQUEST | arp::REPLY) {
                return None;
            }
            (IpAddr::V4(packet.sender().into()), packet.sender_mac())
        } else {
            let (message, ..) = neighbour(frame, &stack)?;
            if message.message_type() != nd::ADVERTISEMENT {
                return None;
            }
            (IpAddr::V6(message.target()), message.mac(nd::TARGET_MAC)?)
        };
        let is_end = self.ends.iter().any(|end| end.address == address && end.mac != mac);
        let is_sender = || {
            let mut own = self.own.iter().filter(|own| own.address == address && own.mac != mac);
            own.any(|own| in_vlan(frame, own.vlan).is_some())
        };
        (is_end || is_sender()).then_some((address, mac))
    }

    fn count(&mut self, kind: Kind) {
        *match kind {
            Kind::Arp => &mut self.counts.arp,
            Kind::Nd => &mut self.counts.nd,
            Kind::Echo => &mut self.counts.echo,
        } += 1;
    }

    fn find(&mut self, request: &[u8]) -> Option<(Kind, Vec<u8>)> {
        let asker = MacAddress(Ethernet::at(request, 0)?.source());
        if asker.is_group() {
            return None;
        }
        let of_tunnels = self.own.iter().find_map(|own| {
            let stack = in_vlan(request, own.vlan)?;
            let tag = own.vlan.map(|tag| vlan::tag(vlan::TPID_8021Q, tag));
            let tags = tag.as_ref().map_or(&[][..], |tag| &tag[..]);
            ask(request, &stack, &Own { mac: own.mac, address: own.address, tags }, asker)
        });
        let of_ends = || {
            let stack = layers::ethernet_stack(request, 0);
            let tags = tags_of(request, &stack)?;
            self.ends.iter().find_map(|end| {
                ask(request, &stack, &Own { mac: end.mac, address: end.address, tags }, asker)
            })
        };
        match of_tunnels.or_else(of_ends)? {
            Asked::Answer(kind, answer) => return Some((kind, answer)),
            Asked::Fragment => self.counts.fragment += 1,
            Asked::Malformed => self.counts.malformed += 1,
        }
        None
    }
}

/// Answers what a frame asks of one address; `None` where it asks nothing of it.
fn ask(request: &[u8], stack: &Stack, own: &Own<'_>, asker: MacAddress) -> Option<Asked> {
    let to = MacAddress(Ethernet::at(request, 0)?.destination());
    if to != own.mac && !to.is_group() {
        return None;
    }
    match own.address {
        IpAddr::V4(address) if stack.is_arp() => arp_reply(request, stack, own, address),
        IpAddr::V4(address) => echo_reply(request, stack, own, address, asker),
        IpAddr::V6(address) => advertisement(request, stack, own, address, asker)
            .or_else(|| echo_reply_ipv6(request, stack, own, address, asker)),
    }
}

/// A probe (RFC 5227, 2.1.1), whose sender has no address yet, is answered as any other request.
fn arp_reply(request: &[u8], stack: &Stack, own: &Own<'_>, address: Ipv4Addr) -> Option<Asked> {
    let packet = Arp::at(request, stack.l3()).filter(Arp::is_ipv4_over_ethernet)?;
    if packet.operation() != arp::REQUEST
        || packet.target() != address.to_bits()
        || packet.sender() == address.to_bits()
        || packet.sender_mac().is_group()
    {
        return None;
    }
    let asker = (packet.sender_mac(), Ipv4Addr::from(packet.sender()));
    let reply = arp::packet(arp::REPLY, (own.mac, address), asker);
    Some(Asked::Answer(Kind::Arp, tagged_frame(own.mac, own.tags, asker.0, ethernet::TYPE_ARP, &reply)))
}

fn advertisement(
    request: &[u8],
    stack: &Stack,
    own: &Own<'_>,
    address: Ipv6Addr,
    asker: MacAddress,
) -> Option<Asked> {
    let Some((neighbour, source, _)) = neighbour(request, stack) else {
        return is_about(request, stack, nd::SOLICITATION, address).then_some(Asked::Malformed);
    };
    if neighbour.message_type() != nd::SOLICITATION
        || neighbour.target() != address
        || source == address
        || source.is_multicast()
    {
        return None;
    }
    // Someone who checks whether the address is taken has none to answer to (RFC 4861, 7.2.4).
    let (to, mac, flags) = if source.is_unspecified() {
        (ALL_NODES, MacAddress::of_ipv6_group(ALL_NODES), nd::OVERRIDE)
    } else {
        (source, neighbour.mac(nd::SOURCE_MAC).unwrap_or(asker), nd::SOLICITED | nd::OVERRIDE)
    };
    let message = nd::message(nd::ADVERTISEMENT, flags, address, own.mac, address, to);
    let packet = ipv6_packet(address, to, nd::HOP_LIMIT, &message);
    Some(Asked::Answer(Kind::Nd, tagged_frame(own.mac, own.tags, mac, ethernet::TYPE_IPV6, &packet)))
}

/// RFC 792: the message comes back as it went, its type changed.
fn echo_reply(
    request: &[u8],
    stack: &Stack,
    own: &Own<'_>,
    address: Ipv4Addr,
    asker: MacAddress,
) -> Option<Asked> {
    const ECHO_REQUEST: u8 = 8;
    let (l3, l4) = (stack.l3(), stack.l4()?);
    let header = Ipv4::at(request, l3).filter(|_| stack.is_ipv4() && stack.protocol() == ip::ICMP)?;
    let source = Ipv4Addr::from(header.source());
    if header.destination() != address.to_bits()
        || source == address
        || source.is_multicast()
        || source.is_broadcast()
        || source.is_unspecified()
        || MacAddress(Ethernet::at(request, 0)?.destination()).is_group()
    {
        return None;
    }
    if stack.is_fragment() {
        return Some(Asked::Fragment);
    }
    let Some(message) = request
        .get(l4..l3 + usize::from(header.total_len()))
        .filter(|message| message.len() >= icmp::HEADER_LEN)
    else {
        return Some(Asked::Malformed);
    };
    if message[0] != ECHO_REQUEST || message[1] != 0 {
        return None;
    }
    let is_right = |bytes: &[u8]| Sum::default().bytes(bytes).folded() == 0xffff;
    if !is_right(message) || !is_right(&request[l3..l4]) {
        return Some(Asked::Malformed);
    }
    let mut reply = vec![0; ipv4::HEADER_LEN];
    let total_len = (ipv4::HEADER_LEN + message.len()) as u16;
    let reply_header = ipv4::Header {
        source: address,
        destination: source,
        protocol: ip::ICMP,
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        identification: 0,
        total_len,
    };
    ipv4::write(&mut reply, &reply_header);
    reply.extend_from_slice(message);
    let body = &mut reply[ipv4::HEADER_LEN..];
    body[..4].fill(0);
    let checksum = Sum::default().bytes(body).checksum();
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(Asked::Answer(Kind::Echo, tagged_frame(own.mac, own.tags, asker, ethernet::TYPE_IPV4, &reply)))
}

/// RFC 4443, 4.1 and 4.2.
fn echo_reply_ipv6(
    request: &[u8],
    stack: &Stack,
    own: &Own<'_>,
    address: Ipv6Addr,
    asker: MacAddress,
) -> Option<Asked> {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    let header =
        Ipv6::at(request, stack.l3()).filter(|_| stack.is_ipv6() && stack.protocol() == ip::ICMPV6)?;
    if Ipv6Addr::from(header.destination()) != address
        || MacAddress(Ethernet::at(request, 0)?.destination()).is_group()
    {
        return None;
    }
    if stack.is_fragment() {
        return Some(Asked::Fragment);
    }
    let (message, source, ..) = icmpv6_message(request, stack)?;
    if source == address
        || source.is_multicast()
        || source.is_unspecified()
        || message.len() < icmp::HEADER_LEN
        || message[0] != ECHO_REQUEST
        || message[1] != 0
    {
        return None;
    }
    if nd::pseudo_sum(message, source, address).folded() != 0xffff {
        return Some(Asked::Malformed);
    }
    let mut reply = message.to_vec();
    reply[..4].copy_from_slice(&[ECHO_REPLY, 0, 0, 0]);
    let checksum = nd::pseudo_sum(&reply, address, source).checksum();
    reply[2..4].copy_from_slice(&checksum.to_be_bytes());
    let packet = ipv6_packet(address, source, 64, &reply);
    Some(Asked::Answer(Kind::Echo, tagged_frame(own.mac, own.tags, asker, ethernet::TYPE_IPV6, &packet)))
}
#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const PORT: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const ASKER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn end(address: &str) -> EndAddress {
        EndAddress { mac: PORT, address: address.parse().expect("an address") }
    }

    fn responder() -> Responder {
        Responder::default().with_ends(vec![end("198.18.0.1"), end("2001:db8::1")])
    }

    /// A question for 198.18.0.1 by 198.18.0.9, or by nobody yet: a probe of RFC 5227.
    fn arp_question(tags: &[u8], sender: [u8; 4]) -> Vec<u8> {
        let unknown = (MacAddress::default(), Ipv4Addr::from([198, 18, 0, 1]));
        let packet = arp::packet(arp::REQUEST, (ASKER, sender.into()), unknown);
        tagged_frame(ASKER, tags, MacAddress::BROADCAST, ethernet::TYPE_ARP, &packet)
    }

    /// Ethernet, then IPv4 from 198.18.0.9 to 198.18.0.1 with a ping of eight bytes, and flags and offset of a fragment.
    fn ping(fragment: [u8; 2], source: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 36, 0, 1, fragment[0], fragment[1], 64, 1, 0, 0];
        packet.extend(source);
        packet.extend([198, 18, 0, 1]);
        let sum = Sum::default().bytes(&packet).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
        let sum = Sum::default().bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        tagged_frame(ASKER, &[], PORT, ethernet::TYPE_IPV4, &[packet, message].concat())
    }

    #[test]
    fn an_end_answers_in_the_vlans_that_it_was_asked_in() {
        let tags: [&[u8]; 4] = [
            &[],
            &[0x81, 0, 0xa0, 7],
            &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7],
            // a priority tag
            &[0x81, 0, 0xe0, 0],
        ];
        for tags in tags {
            for sender in [[198, 18, 0, 9], [0; 4]] {
                let answer = responder().answer(&arp_question(tags, sender)).expect("it is asked for");
                assert_eq!(answer[..12], [ASKER.0, PORT.0].concat());
                assert_eq!(answer[12..12 + tags.len()], *tags);
                let packet = Arp::at(&answer, 14 + tags.len()).expect("it is whole");
                let said = (packet.operation(), packet.sender_mac(), packet.sender(), packet.target());
                assert_eq!(said, (arp::REPLY, PORT, 0xc612_0001, u32::from_be_bytes(sender)));
            }
        }
    }

    #[test]
    fn frames_for_another_ethernet_address_are_those_of_others() {
        let mut elsewhere = ping([0; 2], [198, 18, 0, 9]);
        assert!(responder().answer(&elsewhere).is_some());
        elsewhere[5] ^= 1;
        assert_eq!(responder().answer(&elsewhere), None);
        elsewhere[..6].fill(0xff);
        assert_eq!(responder().answer(&elsewhere), None, "a ping to all");
        let mut to_another = arp_question(&[], [198, 18, 0, 9]);
        to_another[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        assert_eq!(responder().answer(&to_another), None);
    }

    #[test]
    fn senders_that_are_no_host_get_no_echo() {
        for source in [[224, 0, 0, 1], [255; 4], [0; 4], [198, 18, 0, 1]] {
            assert_eq!(responder().answer(&ping([0; 2], source)), None, "{source:?}");
        }
    }

    #[test]
    fn what_is_not_answered_is_counted_by_its_reason() {
        let mut responder = responder();
        // the first fragment of several, and a later one
        for fragment in [[0x20, 0], [0, 4]] {
            assert_eq!(responder.answer(&ping(fragment, [198, 18, 0, 9])), None);
        }
        let mut broken = ping([0; 2], [198, 18, 0, 9]);
        broken[44] ^= 1;
        assert_eq!(responder.answer(&broken), None);
        let counts = responder.counts();
        assert_eq!((counts.fragment, counts.malformed, counts.echo), (2, 1, 0));
    }

    #[test]
    fn a_flood_is_answered_at_a_rate_and_pings_do_not_take_the_place_of_arp() {
        let mut responder = responder();
        let ping = ping([0; 2], [198, 18, 0, 9]);
        // ten thousand a second for two seconds
        for at in 0..20_000 {
            responder.answer_at(&ping, at * SECOND / 10_000);
        }
        let counts = responder.counts();
        assert_eq!(counts.echo + counts.limited, 20_000);
        let most = MOST_ANSWERS_AT_ONCE + 2 * ANSWERS_A_SECOND;
        assert!((most - 1..=most + 1).contains(&counts.echo), "{}", counts.echo);
        assert!(responder.answer_at(&arp_question(&[], [198, 18, 0, 9]), 2 * SECOND).is_some());
        assert!(responder.answer_at(&ping, 3 * SECOND).is_some(), "the bucket fills again");
    }

    #[test]
    fn who_else_has_an_address_is_found() {
        let other = EndAddress { mac: ASKER, address: end("198.18.0.1").address };
        let other_ipv6 = EndAddress { mac: ASKER, address: end("2001:db8::1").address };
        for other in [other, other_ipv6] {
            assert_eq!(responder().conflict(&other.announcement()), Some((other.address, ASKER)));
        }
        for ours in ["198.18.0.1", "2001:db8::1"].map(end) {
            assert_eq!(responder().conflict(&ours.announcement()), None, "our own that came back");
        }
        let stranger = EndAddress { mac: ASKER, address: IpAddr::from([198, 18, 0, 7]) };
        assert_eq!(responder().conflict(&stranger.announcement()), None);
        assert_eq!(responder().conflict(&arp_question(&[], [0; 4])), None, "a probe has no sender");
        let mut opcode = other.announcement();
        opcode[21] = 99;
        assert_eq!(responder().conflict(&opcode), None);
        // an address that tunnels are sent from stands in one VLAN
        let vlan = Some(vlan::VlanTag { vlan: 7, priority: 0 });
        let own = TunnelAddress { mac: PORT, address: other.address, vlan };
        let mut claim = other.announcement();
        assert_eq!(Responder::new(vec![own]).conflict(&claim), None);
        claim.splice(12..12, [0x81, 0, 0, 7]);
        assert_eq!(Responder::new(vec![own]).conflict(&claim), Some((other.address, ASKER)));
    }

    #[test]
    fn addresses_are_announced_twice_as_the_link_comes_up_and_defended_at_times() {
        let mut announcer = Announcer::default();
        let sent = |announcer: &mut Announcer, seconds: std::ops::Range<u64>| {
            seconds.filter(|second| announcer.is_due(second * SECOND)).collect::<Vec<_>>()
        };
        assert!(sent(&mut announcer, 0..10).is_empty(), "the link is down");
        announcer.see_link(true);
        assert_eq!(sent(&mut announcer, 10..20), [10, 12]);
        announcer.see_link(true);
        announcer.defend(20 * SECOND);
        assert!(sent(&mut announcer, 20..21).is_empty(), "it was announced eight seconds ago");
        announcer.defend(23 * SECOND);
        assert_eq!(sent(&mut announcer, 23..30), [23]);
        announcer.see_link(false);
        announcer.see_link(true);
        assert_eq!(sent(&mut announcer, 30..40), [30, 32]);
    }
}
