//! A stack of headers: where the link, network and transport headers of one packet stand.

use std::fmt;

use super::table::Header;
use super::walk::tag_kind;
use crate::headers::tcp::Tcp;
use crate::headers::{ethernet, icmp, ip, sctp, u16_at, u32_at, udp, vlan};

/// One stack of headers: Ethernet, tags and labels, network, transport. Offsets count from the first byte of the packet.
///
/// Two words, built in registers by shifts and stored once. As a struct of small fields the compiler assembled it byte by byte in
/// memory, and every reader of a wider part then waited for those stores.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, packed(4))]
pub struct Stack {
    /// From the low end, 16 bits each: `ethernet`, `ethertype`, `l3`, `l4`.
    places: u64,
    /// From the low end: `protocol` and flags of 8 bits, `vlans` of 4 bits, `other_tags` of 3, whether the type names a carrier,
    /// and `labels` of 8 bits.
    kinds: u32,
}

/// The two words of a [`Stack`], for functions that are not inlined: they take and give them in registers, a packed struct in memory.
pub(super) type Words = (u64, u32);

impl Stack {
    pub(super) const IPV4: u8 = 1;
    pub(super) const IPV6: u8 = 1 << 1;
    pub(super) const ARP: u8 = 1 << 2;
    pub(super) const FRAGMENT: u8 = 1 << 3;
    pub(super) const LATER_FRAGMENT: u8 = 1 << 4;
    pub(super) const PORTS: u8 = 1 << 5;
    pub(super) const PPPOE: u8 = 1 << 6;
    pub(super) const CUT: u8 = 1 << 7;

    pub(super) const EMPTY: Stack = Stack { places: 0, kinds: 0 };

    pub(super) const NO_ETHERNET: u16 = u16::MAX;

    #[inline(always)]
    pub(super) fn at_link(ethernet: u16) -> Self {
        Self { places: u64::from(ethernet) | u64::from(ethernet) << 32, kinds: 0 }
    }

    #[inline(always)]
    pub(super) fn of((places, kinds): Words) -> Self {
        Self { places, kinds }
    }

    #[inline(always)]
    pub(super) fn words(self) -> Words {
        (self.places, self.kinds)
    }

    #[inline(always)]
    pub(super) fn with(self, flags: u8) -> Self {
        Self { kinds: self.kinds | u32::from(flags) << 8, ..self }
    }

    #[inline(always)]
    pub(super) fn with_protocol(self, protocol: u8) -> Self {
        Self { kinds: self.kinds & !0xff | u32::from(protocol), ..self }
    }

    #[inline(always)]
    pub(super) fn with_vlan(self) -> Self {
        Self { kinds: self.kinds + (1 << 16), ..self }
    }

    #[inline(always)]
    pub(super) fn with_other_tag(self) -> Self {
        Self { kinds: self.kinds + (1 << 20), ..self }
    }

    /// Notes that the type is that of an encapsulation.
    #[inline(always)]
    pub(super) fn with_carrier_type(self) -> Self {
        Self { kinds: self.kinds | 1 << 23, ..self }
    }

    #[inline(always)]
    pub(super) fn with_label(self) -> Self {
        Self { kinds: self.kinds + (1 << 24), ..self }
    }

    #[inline(always)]
    pub(super) fn carrying(self, ethertype: u16, l3: usize) -> Self {
        Self {
            places: self.places & 0xffff_0000_0000_ffff
                | u64::from(ethertype) << 16
                | u64::from(l3 as u16) << 32,
            ..self
        }
    }

    #[inline(always)]
    pub(super) fn with_l4(self, l4: usize) -> Self {
        Self { places: self.places | u64::from(l4 as u16) << 48, ..self }
    }

    #[inline(always)]
    fn has(&self, flags: u8) -> bool {
        self.kinds & u32::from(flags) << 8 != 0
    }

    /// Gives the offset of the MAC addresses; `None` if a tunnel carries the network header with no Ethernet in front.
    #[inline(always)]
    pub fn ethernet(&self) -> Option<usize> {
        let place = self.places as u16;
        if place == Self::NO_ETHERNET { None } else { Some(usize::from(place)) }
    }

    /// Type of what stands at `l3`, behind tags and labels. Where tags or labels are cut, theirs. For an 802.3 frame its length;
    /// for Ethernet behind MPLS labels `TYPE_TEB`.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        (self.places >> 16) as u16
    }

    /// Gives the offset of the network header, or of what else the link header carries.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        usize::from((self.places >> 32) as u16)
    }

    /// Gives the offset of what the link header carries, behind all tags and labels; `None` if one of them is cut, or they are too
    /// many.
    #[inline(always)]
    pub fn network(&self) -> Option<usize> {
        let is_label = matches!(self.ethertype(), ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST);
        let is_tag =
            vlan::is_tpid(self.ethertype()) || tag_kind(self.ethertype()).is_some() && self.is_cut();
        let is_inside_link = is_tag || is_label && self.is_cut();
        if self.l3() == 0 || is_inside_link { None } else { Some(self.l3()) }
    }

    /// Gives the end of the IP header and its options or extension headers, also in later fragments: at most the captured length.
    /// It gives `None` if there is no IP or its headers are cut or malformed.
    #[inline(always)]
    pub fn l4(&self) -> Option<usize> {
        let place = self.l4_or_zero();
        if place == 0 { None } else { Some(place) }
    }

    #[inline(always)]
    pub(super) fn l4_or_zero(&self) -> usize {
        usize::from((self.places >> 48) as u16)
    }

    /// IP protocol of what stands at `l4`, IPv6 extension headers stepped over. In a later fragment of IPv6 it is what the fragment
    /// header names. 0 where there is no IP.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.kinds as u8
    }

    /// Number of VLAN tags, 0 to `MAX_TAGS`.
    #[inline(always)]
    pub fn vlans(&self) -> u8 {
        (self.kinds >> 16) as u8 & 0xf
    }

    /// Number of tags beside those of VLANs: VN-Tags, E-Tags and the like.
    #[inline(always)]
    pub fn other_tags(&self) -> u8 {
        (self.kinds >> 20) as u8 & 0x7
    }

    /// VLAN tags are all that stands in the link header.
    #[inline(always)]
    pub(super) fn has_vlans_alone(&self) -> bool {
        self.vlans() != 0 && self.kinds >> 20 == 0 && !self.is_pppoe()
    }

    /// Labels are followed by an Ethernet frame.
    #[inline(always)]
    pub(super) fn is_pseudowire(&self) -> bool {
        self.labels() != 0 && self.ethertype() == ethernet::TYPE_TEB
    }

    /// Tags, labels or PPPoE stand in the link header, or its type is that of an encapsulation.
    #[inline(always)]
    pub(super) fn has_link_shells(&self) -> bool {
        self.kinds >> 16 != 0 || self.is_pppoe()
    }

    /// Number of MPLS labels, 0 to `MAX_LABELS`.
    #[inline(always)]
    pub fn labels(&self) -> u8 {
        (self.kinds >> 24) as u8
    }

    /// An IPv4 header, options perhaps cut, stands at `l3`.
    #[inline(always)]
    pub fn is_ipv4(&self) -> bool {
        self.has(Self::IPV4)
    }

    /// An IPv6 header, extension headers perhaps cut, stands at `l3`.
    #[inline(always)]
    pub fn is_ipv6(&self) -> bool {
        self.has(Self::IPV6)
    }

    /// An ARP packet for IPv4 over Ethernet stands at `l3`.
    #[inline(always)]
    pub fn is_arp(&self) -> bool {
        self.has(Self::ARP)
    }

    /// A fragment of a datagram, the first one included. An IPv6 packet whose fragment header covers all of it is none (RFC 6946).
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.has(Self::FRAGMENT)
    }

    /// A fragment that does not begin the datagram: no transport header stands at `l4`.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.has(Self::LATER_FRAGMENT)
    }

    /// The transport protocol has ports, and they stand at `l4`.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        self.has(Self::PORTS)
    }

    /// PPPoE and PPP headers stand in front of `l3`.
    #[inline(always)]
    pub fn is_pppoe(&self) -> bool {
        self.has(Self::PPPOE)
    }

    /// A header was cut or malformed, so that less is known than the packet held.
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.has(Self::CUT)
    }

    /// The ports that an unfragmented packet's flow is known by, source in the high half; 0 where there are none.
    ///
    /// The bytes at that place are masked, not jumped over: which packets have ports is hard to predict.
    #[inline(always)]
    pub fn flow_ports(&self, bytes: &[u8]) -> u32 {
        let flags = u32::from(Self::PORTS | Self::FRAGMENT) << 8;
        let has_ports = self.kinds & flags == u32::from(Self::PORTS) << 8;
        u32_at(bytes, self.l4_or_zero()).unwrap_or(0) & u32::from(has_ports).wrapping_neg()
    }

    /// From the first byte of the network header to the last of the ports, where an unfragmented packet of IPv4 has them: what most
    /// packets are, told by one comparison.
    #[inline(always)]
    pub fn ipv4_to_ports<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let flags = u32::from(Self::IPV4 | Self::PORTS | Self::FRAGMENT) << 8;
        if self.kinds & flags == u32::from(Self::IPV4 | Self::PORTS) << 8 {
            bytes.get(self.l3()..self.l4_or_zero() + 4)
        } else {
            None
        }
    }

    /// The id of the outermost VLAN tag; `None` where untagged.
    #[inline(always)]
    pub fn vlan(&self, bytes: &[u8]) -> Option<u16> {
        let behind_first_type = usize::from(self.places as u16) + ethernet::HEADER_LEN;
        if self.vlans() == 0 {
            None
        } else if self.other_tags() == 0 {
            u16_at(bytes, behind_first_type).map(vlan::id)
        } else {
            vlan_among_tags(bytes, behind_first_type)
        }
    }

    /// Gives the offset at which the transport header ends and its payload begins. It gives `None` if the protocol is none of TCP,
    /// UDP, UDP-Lite, SCTP and ICMP, in later fragments, and if the header is cut or malformed.
    pub fn payload(&self, bytes: &[u8]) -> Option<usize> {
        let l4 = self.l4()?;
        if self.is_later_fragment() {
            return None;
        }
        let header_len = match self.protocol() {
            ip::TCP => Tcp::at(bytes, l4)?.header_len(),
            ip::UDP | ip::UDP_LITE => udp::HEADER_LEN,
            ip::ICMP | ip::ICMPV6 => icmp::HEADER_LEN,
            ip::SCTP => sctp::HEADER_LEN,
            _ => return None,
        };
        let is_sound = self.protocol() != ip::TCP || header_len >= crate::headers::tcp::HEADER_LEN;
        if is_sound && l4 + header_len <= bytes.len() { Some(l4 + header_len) } else { None }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("ethernet", &self.ethernet())
            .field("vlans", &self.vlans())
            .field("labels", &self.labels())
            .field("ethertype", &format_args!("{:#06x}", self.ethertype()))
            .field("l3", &self.l3())
            .field("protocol", &self.protocol())
            .field("l4", &self.l4())
            .field("flags", &format_args!("{:#04x}", (self.kinds >> 8) as u8))
            .finish()
    }
}

/// The id of the first VLAN tag of those that begin at `at`.
#[cold]
fn vlan_among_tags(bytes: &[u8], mut at: usize) -> Option<u16> {
    loop {
        let ethertype = u16_at(bytes, at - 2)?;
        if vlan::is_tpid(ethertype) {
            return u16_at(bytes, at).map(vlan::id);
        }
        match tag_kind(ethertype)?.read(bytes, at, ethertype) {
            Header::Open { len, .. } => at += len,
            _ => return None,
        }
    }
}
