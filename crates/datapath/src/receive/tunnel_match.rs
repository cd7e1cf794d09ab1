//! Transports in: frames that a mirror elsewhere sent inside a tunnel become the packets that they were.
//!
//! Stands behind receive, on ports that terminate. The inner frame lies inside the received one, so nothing is copied: the packet's
//! begin moves to `Inner::offset` and its length becomes `Inner::len`. Where IP came without Ethernet, a link header is written
//! into the bytes before it, which the outer headers leave free. What the outer headers said stays with the packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use tapline_api::snapshot::SequenceCounts;

use tapline_api::words::{Refusal, TunnelKind};
use tapline_packet::extent;
use tapline_packet::headers::erspan;
use tapline_packet::headers::erspan::{Erspan, Erspan3};
use tapline_packet::headers::gre::Gre;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::layer::Layer;
use tapline_packet::headers::udp::Udp;
use tapline_packet::headers::{ethernet, ip, u16_at, u32_at, vlan};
use tapline_packet::layers;
use tapline_packet::layers::{Carried, Encapsulation, Look, Shell, ShellKind, Stack, TABLE};
use tapline_packet::prefix::Prefix;

/// One `terminate` clause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terminator {
    pub kind: TunnelKind,
    /// The outer destination address must be this one.
    pub to: Option<IpAddr>,
    /// The outer source address must be in one of these. Any will do where there are none.
    pub from: Vec<Prefix>,
    /// The identifier must be in one of these: VNI, GRE key, ERSPAN session, TEID, RSPAN VLAN. A tunnel without one has none in
    /// range. Any will do where there are no ranges.
    pub identifiers: Vec<RangeInclusive<u32>>,
    /// The UDP port of VXLAN, Geneve, GTP and TZSP where it is not the standard's.
    pub udp_port: Option<u16>,
}

/// Returns the layer of a tunnel; none for RSPAN, which is no tunnel but a VLAN.
pub fn layer_of(kind: TunnelKind) -> Option<Layer> {
    match kind {
        TunnelKind::Vxlan => Some(Layer::Vxlan),
        TunnelKind::Geneve => Some(Layer::Geneve),
        TunnelKind::Gre => Some(Layer::Gre),
        TunnelKind::Erspan => Some(Layer::Erspan),
        TunnelKind::Gtp => Some(Layer::Gtp),
        TunnelKind::Tzsp => Some(Layer::Tzsp),
        TunnelKind::Rspan => None,
    }
}

/// When an ERSPAN III sender saw a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErspanTime {
    /// In units of the granularity.
    pub ticks: u32,
    /// 0 is 100 microseconds, 1 is 100 nanoseconds, 2 is nanoseconds of the second (IEEE 1588), 3 is unknown.
    pub granularity: u8,
    /// From the platform subheader: seconds since the epoch (id 5, 6), or the timestamp's upper 32 bits (id 3).
    pub seconds: Option<u32>,
    pub upper: Option<u32>,
}

impl ErspanTime {
    /// Returns whether the header says all of the time, so that nothing is taken from the time of arrival.
    pub fn is_full(&self) -> bool {
        self.upper.is_some() || self.granularity == 2 && self.seconds.is_some()
    }

    /// Nanoseconds since the Unix epoch, for senders whose clocks count from there. Bits that the header lacks are taken from the
    /// time that is nearest to `near_ns`, when the frame was received: right while sender and receiver differ by less than half of
    /// what the header counts (107 s at 100 nanoseconds, 59 h at 100 microseconds, half a second for nanoseconds alone). `None`
    /// where the unit is unknown.
    pub fn ns(&self, near_ns: u64) -> Option<u64> {
        let (unit_ns, period) = match self.granularity {
            0 => (100_000, 1 << 32),
            1 => (100, 1 << 32),
            2 => (1, 1_000_000_000),
            _ => return None,
        };
        if let Some(seconds) = self.seconds.filter(|_| self.granularity == 2) {
            return Some(u64::from(seconds) * 1_000_000_000 + u64::from(self.ticks));
        }
        if let Some(upper) = self.upper {
            return match self.granularity {
                2 => Some(u64::from(upper) * 1_000_000_000 + u64::from(self.ticks)),
                _ => (u64::from(upper) << 32 | u64::from(self.ticks)).checked_mul(unit_ns),
            };
        }
        let ticks = u64::from(self.ticks) % period;
        let near = near_ns / unit_ns;
        let base = near - near % period + ticks;
        // One period earlier, this one, one later: whichever is nearest.
        let candidates = [base.checked_sub(period), Some(base), base.checked_add(period)];
        candidates
            .into_iter()
            .flatten()
            .min_by_key(|candidate| candidate.abs_diff(near))
            .and_then(|ticks| ticks.checked_mul(unit_ns))
    }
}

/// The contents of the outer headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OuterFacts {
    pub kind: TunnelKind,
    /// The sender; for RSPAN the unspecified address.
    pub source: IpAddr,
    /// VNI, GRE key, ERSPAN session, TEID or RSPAN VLAN; none where the tunnel has none.
    pub identifier: Option<u32>,
    pub sequence: Option<u32>,
    /// The time of an ERSPAN III header.
    pub time: Option<ErspanTime>,
    /// The sender cut the frame (ERSPAN II and III).
    pub is_truncated: bool,
    /// The frame was leaving the mirrored port (ERSPAN III).
    pub is_egress: bool,
    /// The VLAN that the frame was mirrored in (ERSPAN II and III).
    pub vlan: Option<u16>,
    /// The index of ERSPAN II (20 bits), or the hardware id of ERSPAN III (6 bits).
    pub index: Option<u32>,
}

/// The frame inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner {
    /// The offset at which it begins in the received frame. If there is a `link` header, that is put in front of it.
    pub offset: usize,
    /// Bytes of it that were captured, `link` not among them.
    pub len: usize,
    /// Bytes that it had when the tunnel's packet was sent, `link` not among them.
    pub original_len: usize,
    /// No outer header says where it ends: it goes on to the end of the received frame, captured or not.
    pub ends_with_frame: bool,
    /// The Ethernet header of an IP packet that came without one; it is to be written to the bytes just before `offset`.
    pub link: Option<[u8; ethernet::HEADER_LEN]>,
    pub outer: OuterFacts,
}

impl Terminator {
    /// Returns whether the tunnel may say when its packets were received: ERSPAN III does.
    pub fn says_times(&self) -> bool {
        self.kind == TunnelKind::Erspan
    }

    /// Looks into a received frame.
    /// # Errors
    /// Why the frame is none of this tunnel's.
    pub fn recognise(&self, bytes: &[u8]) -> Result<Inner, Refusal> {
        let stack = layers::ethernet_stack(bytes, 0);
        if self.kind == TunnelKind::Rspan {
            return self.rspan(bytes);
        }
        // GRE and ERSPAN may be in UDP too.
        let is_gre =
            stack.protocol() == ip::GRE && matches!(self.kind, TunnelKind::Gre | TunnelKind::Erspan);
        if !is_gre && stack.protocol() != ip::UDP || stack.l4().is_none() {
            return Err(Refusal::OtherTraffic);
        }
        let (source, destination) = addresses(bytes, &stack).ok_or(Refusal::Malformed)?;
        let is_here = self.to.is_none_or(|to| to == destination);
        if stack.is_later_fragment() {
            return Err(match (is_here, self.is_from(source)) {
                (false, _) => Refusal::OtherAddress,
                (true, false) => Refusal::OtherSender,
                (true, true) => Refusal::Fragment,
            });
        }
        let is_ours = |kind: ShellKind| kind.row().word.ok() == layer_of(self.kind);
        let shell = match self.look(bytes, &stack) {
            Look::Shell(shell) | Look::Uncaptured(shell) if is_ours(shell.kind) => Some(shell),
            // There is no frame in it.
            Look::Empty(kind) if is_ours(kind) => None,
            _ => return Err(Refusal::OtherTraffic),
        };
        if !is_here {
            return Err(Refusal::OtherAddress);
        }
        if !self.is_from(source) {
            return Err(Refusal::OtherSender);
        }
        if stack.is_fragment() {
            return Err(Refusal::Fragment);
        }
        let shell = shell.ok_or(Refusal::Malformed)?;
        let outer = outer_facts(self.kind, source, bytes, &shell);
        self.check_identifier(outer.identifier)?;
        let offset = shell.payload();
        let said = extent::carried_end(bytes, &stack, offset);
        let link = match shell.carries(bytes) {
            Some(Carried::Ethernet) => None,
            Some(Carried::Network(ethertype @ (ethernet::TYPE_IPV4 | ethernet::TYPE_IPV6))) => {
                // The addresses are those of the tunnel's own frame: the packet came along there.
                let mut link = [0; ethernet::HEADER_LEN];
                link[..ethernet::ADDRESSES_LEN]
                    .copy_from_slice(bytes.get(..ethernet::ADDRESSES_LEN).ok_or(Refusal::Malformed)?);
                link[ethernet::ADDRESSES_LEN..].copy_from_slice(&ethertype.to_be_bytes());
                Some(link)
            }
            _ => return Err(Refusal::Malformed),
        };
        let len = said.unwrap_or(usize::MAX).min(bytes.len()) - offset;
        let original_len = said.map_or(len, |end| end - offset);
        Ok(Inner { offset, len, original_len, ends_with_frame: said.is_none(), link, outer })
    }

    /// Returns whether tunnels of this sender end here.
    fn is_from(&self, source: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|prefix| prefix.contains(source))
    }

    fn look(&self, bytes: &[u8], stack: &Stack) -> Look {
        let Some(port) = self.udp_port.filter(|_| stack.protocol() == ip::UDP) else {
            return layers::look(bytes, stack);
        };
        let is_there = stack.l4().and_then(|l4| Udp::at(bytes, l4)).map(|header| header.destination_port())
            == Some(port);
        let mut rows = TABLE.iter().filter(|row| row.word.ok() == layer_of(self.kind));
        match rows.find_map(Encapsulation::udp_port).filter(|_| is_there) {
            Some(standard) => layers::look_as(standard, bytes, stack),
            None => Look::Nothing,
        }
    }

    fn check_identifier(&self, identifier: Option<u32>) -> Result<(), Refusal> {
        let is_asked_for = |identifier| self.identifiers.iter().any(|range| range.contains(&identifier));
        if self.identifiers.is_empty() || identifier.is_some_and(is_asked_for) {
            Ok(())
        } else {
            Err(Refusal::OtherIdentifier)
        }
    }

    /// The tag stands between the addresses and the rest, so the addresses move over it.
    fn rspan(&self, bytes: &[u8]) -> Result<Inner, Refusal> {
        let tag = vlan::outer_tag(bytes).ok_or(Refusal::OtherTraffic)?;
        let identifier = Some(u32::from(tag.vlan));
        self.check_identifier(identifier)?;
        let mut link = [0; ethernet::HEADER_LEN];
        link[..ethernet::ADDRESSES_LEN].copy_from_slice(&bytes[..ethernet::ADDRESSES_LEN]);
        let offset = ethernet::HEADER_LEN + vlan::TAG_LEN;
        let ethertype = u16_at(bytes, offset - 2).ok_or(Refusal::Malformed)?;
        link[ethernet::ADDRESSES_LEN..].copy_from_slice(&ethertype.to_be_bytes());
        let len = bytes.len() - offset;
        let outer = OuterFacts {
            kind: TunnelKind::Rspan,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            identifier,
            sequence: None,
            time: None,
            is_truncated: false,
            is_egress: false,
            vlan: None,
            index: None,
        };
        Ok(Inner { offset, len, original_len: len, ends_with_frame: true, link: Some(link), outer })
    }
}

/// The outer addresses.
fn addresses(bytes: &[u8], stack: &Stack) -> Option<(IpAddr, IpAddr)> {
    if stack.is_ipv4() {
        let header = Ipv4::at(bytes, stack.l3())?;
        return Some((Ipv4Addr::from(header.source()).into(), Ipv4Addr::from(header.destination()).into()));
    }
    let header = Ipv6::at(bytes, stack.l3()).filter(|_| stack.is_ipv6())?;
    Some((Ipv6Addr::from(header.source()).into(), Ipv6Addr::from(header.destination()).into()))
}

fn outer_facts(kind: TunnelKind, source: IpAddr, bytes: &[u8], shell: &Shell) -> OuterFacts {
    let gre = Gre::at(bytes, usize::from(shell.offset))
        .filter(|_| matches!(kind, TunnelKind::Gre | TunnelKind::Erspan));
    let identifier = match kind {
        TunnelKind::Vxlan | TunnelKind::Geneve => shell.vni(bytes),
        TunnelKind::Gre => shell.gre_key(bytes),
        TunnelKind::Erspan => shell.session(bytes).map(u32::from),
        TunnelKind::Gtp => shell.teid(bytes),
        TunnelKind::Tzsp | TunnelKind::Rspan => None,
    };
    let mut facts = OuterFacts {
        kind,
        source,
        identifier,
        sequence: gre.and_then(|gre| gre.sequence()),
        time: None,
        is_truncated: false,
        is_egress: false,
        vlan: None,
        index: None,
    };
    let at = usize::from(shell.offset) + gre.map_or(0, |gre| gre.header_len());
    if let (ShellKind::Erspan2 | ShellKind::Erspan3, Some(header)) = (shell.kind, Erspan::at(bytes, at)) {
        facts.is_truncated = header.is_truncated();
        facts.vlan = Some(header.vlan());
        facts.index = Some(header.index());
    }
    if let (ShellKind::Erspan3, Some(header)) = (shell.kind, Erspan3::at(bytes, at)) {
        facts.is_egress = header.is_egress();
        facts.index = Some(u32::from(header.hardware()));
        facts.time = Some(erspan_time(bytes, at, &header));
    }
    facts
}

fn erspan_time(bytes: &[u8], at: usize, header: &Erspan3<'_>) -> ErspanTime {
    let mut time = ErspanTime {
        ticks: header.timestamp(),
        granularity: header.granularity(),
        seconds: None,
        upper: None,
    };
    let subheader = at + erspan::HEADER3_LEN;
    if header.has_subheader()
        && let (Some(first), Some(second)) = (u32_at(bytes, subheader), u32_at(bytes, subheader + 4))
    {
        // The platform id is the first six bits (draft-foschiano-erspan-03, 4.4).
        match first >> 26 {
            3 => time.upper = Some(second),
            5 | 6 => time.seconds = Some(second),
            _ => {}
        }
    }
    time
}

/// Whose numbers are counted: a sender's session. Identifiers of different kinds of tunnels may be equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionKey {
    pub kind: TunnelKind,
    pub source: IpAddr,
    pub identifier: u32,
}

impl OuterFacts {
    /// The session whose numbers these are.
    pub fn session(&self) -> SessionKey {
        SessionKey { kind: self.kind, source: self.source, identifier: self.identifier.unwrap_or(0) }
    }
}

/// One session's numbers: the next one, and which of the 64 before it came.
#[derive(Clone, Copy, Debug)]
struct Session {
    key: SessionKey,
    next: u32,
    seen: u64,
    /// A number far from `next` came; if its successor follows, the sender has begun anew.
    restart_at: Option<u32>,
    counts: SequenceCounts,
}

/// Numbers behind `next` that are remembered.
const WINDOW: u32 = u64::BITS;
/// Gaps up to this are losses, larger ones may be a sender that began anew.
const LARGEST_GAP: u32 = 1 << 20;

impl Session {
    fn begin(key: SessionKey, sequence: u32) -> Self {
        let counts = SequenceCounts { received: 1, ..Default::default() };
        Self { key, next: sequence.wrapping_add(1), seen: 1, restart_at: None, counts }
    }

    fn observe(&mut self, sequence: u32) {
        self.counts.received += 1;
        let ahead = sequence.wrapping_sub(self.next);
        let behind = self.next.wrapping_sub(sequence);
        if ahead <= LARGEST_GAP {
            self.counts.lost += u64::from(ahead);
            self.seen = self.seen.checked_shl(ahead + 1).unwrap_or(0) | 1;
            self.next = sequence.wrapping_add(1);
            self.restart_at = None;
        } else if behind <= WINDOW {
            let bit = 1 << (behind - 1);
            if self.seen & bit != 0 {
                self.counts.duplicate += 1;
            } else {
                self.seen |= bit;
                self.counts.reordered += 1;
                self.counts.lost = self.counts.lost.saturating_sub(1);
            }
        } else if self.restart_at == Some(sequence) {
            self.counts.restarts += 1;
            // The number before was the first of the new count, not a late one.
            self.counts.late = self.counts.late.saturating_sub(1);
            self.seen = 0b11;
            self.next = sequence.wrapping_add(1);
            self.restart_at = None;
        } else {
            self.counts.late += 1;
            self.restart_at = Some(sequence.wrapping_add(1));
        }
    }
}

/// Counts what was lost on the way here, for a bounded number of sessions.
#[derive(Debug)]
pub struct SequenceTracker {
    sessions: Vec<Session>,
    capacity: usize,
    /// The index of the last packet's session, because most bursts come from one.
    last: usize,
    untracked: u64,
}

impl SequenceTracker {
    /// Follows up to `capacity` sessions; packets of further ones are counted as untracked.
    pub fn new(capacity: usize) -> Self {
        Self { sessions: Vec::with_capacity(capacity), capacity, last: 0, untracked: 0 }
    }

    /// Notes a packet. Packets without a sequence number say nothing.
    pub fn observe(&mut self, facts: &OuterFacts) {
        let Some(sequence) = facts.sequence else { return };
        let key = facts.session();
        let is_last = self.sessions.get(self.last).is_some_and(|session| session.key == key);
        if !is_last {
            match self.sessions.iter().position(|session| session.key == key) {
                Some(found) => self.last = found,
                None if self.sessions.len() < self.capacity => {
                    // Room was reserved at the begin: this does not allocate.
                    self.sessions.push(Session::begin(key, sequence));
                    self.last = self.sessions.len() - 1;
                    return;
                }
                None => {
                    self.untracked += 1;
                    return;
                }
            }
        }
        self.sessions[self.last].observe(sequence);
    }

    /// All sessions and their counts, in the order in which they began.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, SequenceCounts)> {
        self.sessions.iter().map(|session| (session.key, session.counts))
    }

    /// Packets of sessions for which there was no room.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn facts(identifier: u32, sequence: u32) -> OuterFacts {
        OuterFacts {
            kind: TunnelKind::Erspan,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            identifier: Some(identifier),
            sequence: Some(sequence),
            time: None,
            is_truncated: false,
            is_egress: false,
            vlan: None,
            index: None,
        }
    }

    fn counts(numbers: impl IntoIterator<Item = u32>) -> SequenceCounts {
        let mut tracker = SequenceTracker::new(1);
        numbers.into_iter().for_each(|sequence| tracker.observe(&facts(1, sequence)));
        tracker.sessions().next().expect("one session").1
    }

    #[test]
    fn a_sender_that_begins_anew_loses_nothing() {
        let restarted = counts((5_000_000..5_000_100).chain(0..100));
        assert_eq!(restarted, SequenceCounts { received: 200, restarts: 1, ..Default::default() });
    }

    #[test]
    fn one_packet_from_long_ago_is_late_and_no_restart() {
        let late = counts((1000..1200).chain([3]).chain(1200..1300));
        assert_eq!(late, SequenceCounts { received: 301, late: 1, ..Default::default() });
    }

    #[test]
    fn sessions_beyond_the_capacity_are_counted_and_change_nothing() {
        let mut tracker = SequenceTracker::new(2);
        for sequence in 0..10 {
            (0..5).for_each(|session| tracker.observe(&facts(session, sequence)));
        }
        let counts: Vec<_> = tracker
            .sessions()
            .map(|(key, counts)| (key.identifier, counts.received, counts.lost))
            .collect();
        assert_eq!((counts, tracker.untracked()), (vec![(0, 10, 0), (1, 10, 0)], 30));
    }

    #[test]
    fn erspan_times_are_completed_from_the_time_of_arrival() {
        const NS: u64 = 1_700_000_000_123_456_789;
        let time = |ticks: u64, granularity| ErspanTime {
            ticks: ticks as u32,
            granularity,
            seconds: None,
            upper: None,
        };
        for delay in [0, 1_000_000, 300_000_000] {
            for near in [NS + delay, NS - delay] {
                assert_eq!(time(NS / 100_000, 0).ns(near), Some(NS / 100_000 * 100_000));
                assert_eq!(time(NS / 100, 1).ns(near), Some(NS / 100 * 100));
                assert_eq!(time(NS % 1_000_000_000, 2).ns(near), Some(NS));
            }
        }
        assert_eq!(ErspanTime { seconds: Some(1_700_000_000), ..time(123_456_789, 2) }.ns(0), Some(NS));
        assert_eq!(
            ErspanTime { upper: Some(((NS / 100) >> 32) as u32), ..time(NS / 100, 1) }.ns(0),
            Some(NS / 100 * 100)
        );
        assert_eq!(time(1, 3).ns(NS), None);
    }

    proptest! {
        #[test]
        fn lost_and_duplicate_equal_the_sets_of_numbers(start: u32, drops in proptest::collection::btree_set(1u32..400, 0..40),
                again in proptest::collection::btree_set(1u32..400, 0..20), swaps in proptest::collection::vec((1usize..350, 1usize..20), 0..20)) {
            let last = 400;
            let mut numbers: Vec<u32> = (0..=last).filter(|number| !drops.contains(number)).collect();
            for (at, distance) in swaps {
                // Within the window, and the first and last stay where they are: what is lost before and after them cannot be
                // known.
                let other = (at + distance).min(numbers.len() - 2);
                if at < other {
                    numbers.swap(at, other);
                }
            }
            let mut sent = Vec::new();
            for number in &numbers {
                sent.push(*number);
                if again.contains(number) {
                    sent.push(*number);
                }
            }
            let counts = counts(sent.iter().map(|number| start.wrapping_add(*number)));
            let distinct: BTreeSet<_> = sent.iter().collect();
            prop_assert_eq!(counts.received, sent.len() as u64);
            prop_assert_eq!(counts.lost, u64::from(last) + 1 - distinct.len() as u64);
            prop_assert_eq!(counts.duplicate, (sent.len() - distinct.len()) as u64);
            prop_assert_eq!((counts.late, counts.restarts), (0, 0));
        }

        #[test]
        fn any_bytes_are_refused_or_hold_what_they_are_said_to(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in [TunnelKind::Vxlan, TunnelKind::Geneve, TunnelKind::Gre, TunnelKind::Erspan, TunnelKind::Gtp, TunnelKind::Tzsp, TunnelKind::Rspan] {
                if let Ok(inner) = (Terminator { kind, to: None, from: vec![], identifiers: vec![], udp_port: None }).recognise(&bytes) {
                    prop_assert!(inner.offset + inner.len <= bytes.len() && inner.len <= inner.original_len);
                    prop_assert!(inner.link.is_none() || inner.offset >= ethernet::HEADER_LEN);
                }
            }
        }
    }
}
