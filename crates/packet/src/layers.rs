//! Parse: from a packet's bytes to where its layers stand, once per packet.
//!
//! Stands behind receive. Two depths, so that a plan pays for what it needs: `Depth::Outer` finds the outermost network and
//! transport headers (VLAN tags, MPLS labels and PPPoE stepped over), `Depth::Full` goes on into up to eight encapsulations. It
//! assumes nothing of the bytes: what is cut or malformed is described as far as it goes.

use std::fmt;

use super::burst::MAX_BURST;
use super::frame::Frame;
use super::headers::arp::Arp;
use super::headers::erspan;
use super::headers::erspan::{Erspan, Erspan3};
use super::headers::ethernet;
use super::headers::ethernet::Ethernet;
use super::headers::geneve::Geneve;
use super::headers::gre;
use super::headers::gre::Gre;
use super::headers::gtp;
use super::headers::gtp::Gtp;
use super::headers::ipv4::Ipv4;
use super::headers::ipv6;
use super::headers::ipv6::Ipv6;
use super::headers::pppoe;
use super::headers::pppoe::Pppoe;
use super::headers::tcp::Tcp;
use super::headers::udp;
use super::headers::udp::Udp;
use super::headers::vxlan;
use super::headers::vxlan::Vxlan;
use super::headers::{icmp, ip, mpls, sctp, u16_at, u32_at, vlan};

/// The most encapsulations that are gone into; a run of VLAN tags, or a label stack, counts as one.
pub const MAX_SHELLS: usize = 8;
/// The most VLAN tags in a row that are stepped over.
const MAX_TAGS: u8 = 8;
/// The most MPLS labels in a stack that are stepped over.
const MAX_LABELS: u8 = 16;
/// The most IPv6 extension headers that are stepped over.
const MAX_EXTENSIONS: usize = 8;
/// Headers are looked for in the first so many bytes, because offsets are 16 bits.
const MAX_PARSED_BYTES: usize = u16::MAX as usize;

/// How much of a packet is described.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Depth {
    /// The outermost stack of headers alone.
    #[default]
    Outer,
    /// All encapsulations, down to the innermost stack.
    Full,
}

/// One stack of headers: Ethernet, tags and labels, network, transport. Offsets count from the first byte of the packet.
///
/// Two words, built in registers by shifts and stored once. As a struct of small fields the compiler assembled it byte by byte in
/// memory, and every reader of a wider part then waited for those stores.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, packed(4))]
pub struct Stack {
    /// From the low end, 16 bits each: `ethernet`, `ethertype`, `l3`, `l4`.
    places: u64,
    /// From the low end, 8 bits each: `protocol`, flags, `vlans`, `labels`.
    kinds: u32,
}

impl Stack {
    const IPV4: u8 = 1;
    const IPV6: u8 = 1 << 1;
    const ARP: u8 = 1 << 2;
    const FRAGMENT: u8 = 1 << 3;
    const LATER_FRAGMENT: u8 = 1 << 4;
    const PORTS: u8 = 1 << 5;
    const PPPOE: u8 = 1 << 6;
    const CUT: u8 = 1 << 7;

    const NO_ETHERNET: u16 = u16::MAX;

    #[inline(always)]
    fn at_link(ethernet: u16) -> Self {
        Self { places: u64::from(ethernet) | u64::from(ethernet) << 32, kinds: 0 }
    }

    #[inline(always)]
    fn with(self, flags: u8) -> Self {
        Self { kinds: self.kinds | u32::from(flags) << 8, ..self }
    }

    #[inline(always)]
    fn with_protocol(self, protocol: u8) -> Self {
        Self { kinds: self.kinds & !0xff | u32::from(protocol), ..self }
    }

    #[inline(always)]
    fn with_vlan(self) -> Self {
        Self { kinds: self.kinds + (1 << 16), ..self }
    }

    #[inline(always)]
    fn with_label(self) -> Self {
        Self { kinds: self.kinds + (1 << 24), ..self }
    }

    #[inline(always)]
    fn carrying(self, ethertype: u16, l3: usize) -> Self {
        Self {
            places: self.places & 0xffff_0000_0000_ffff
                | u64::from(ethertype) << 16
                | u64::from(l3 as u16) << 32,
            ..self
        }
    }

    #[inline(always)]
    fn with_l4(self, l4: usize) -> Self {
        Self { places: self.places | u64::from(l4 as u16) << 48, ..self }
    }

    #[inline(always)]
    fn has(&self, flags: u8) -> bool {
        self.kinds & u32::from(flags) << 8 != 0
    }

    /// Where the MAC addresses stand; `None` where a tunnel carries the network header with no Ethernet in front.
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

    /// Where the network header, or what else the link header carries, begins.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        usize::from((self.places >> 32) as u16)
    }

    /// Where what the link header carries begins, behind all tags and labels; `None` where one of them is cut, or they are too
    /// many.
    #[inline(always)]
    pub fn network(&self) -> Option<usize> {
        let is_label = matches!(self.ethertype(), ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST);
        let is_inside_link = vlan::is_tpid(self.ethertype()) || is_label && self.is_cut();
        if self.l3() == 0 || is_inside_link { None } else { Some(self.l3()) }
    }

    /// Where the IP header and its options or extension headers end, also in later fragments; `None` where there is no IP or
    /// its headers are cut or malformed. At most the captured length.
    #[inline(always)]
    pub fn l4(&self) -> Option<usize> {
        let place = self.l4_or_zero();
        if place == 0 { None } else { Some(place) }
    }

    #[inline(always)]
    fn l4_or_zero(&self) -> usize {
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
        (self.kinds >> 16) as u8
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
    /// What stands there is masked, not jumped over: which packets have ports is hard to predict.
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
        if self.vlans() == 0 {
            None
        } else {
            u16_at(bytes, usize::from(self.places as u16) + ethernet::HEADER_LEN).map(vlan::id)
        }
    }

    /// Where the transport header ends and its payload begins; `None` where the protocol is none of TCP, UDP, UDP-Lite, SCTP and
    /// ICMP, in later fragments, or where the header is cut or malformed.
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
        let is_sound = self.protocol() != ip::TCP || header_len >= super::headers::tcp::HEADER_LEN;
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

/// What wraps a frame or packet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum ShellKind {
    /// One or more VLAN tags in a row.
    #[default]
    Vlan,
    /// PPPoE with PPP.
    Pppoe,
    /// An MPLS label stack with IP behind it, or something unknown.
    Mpls,
    /// An MPLS label stack with Ethernet behind it, and a control word between them where the packet has one.
    Pseudowire,
    /// IPv4 or IPv6 in IPv4 or IPv6, with no header of its own.
    Ipip,
    /// GRE, NVGRE among it.
    Gre,
    /// ERSPAN I, with its GRE header.
    Erspan1,
    /// ERSPAN II, with its GRE header.
    Erspan2,
    /// ERSPAN III, with its GRE header.
    Erspan3,
    Vxlan,
    VxlanGpe,
    Geneve,
    /// GTP-U that carries user data.
    Gtp,
}

/// What a shell carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// An Ethernet frame.
    Ethernet,
    /// A packet of this ethertype.
    Network(u16),
}

/// One encapsulation: where its header stands. Identifiers are read from the packet when they are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Shell {
    pub kind: ShellKind,
    words: u8,
    /// Where the header begins; that of VLAN tags behind the TPID of the first.
    pub offset: u16,
}

impl Shell {
    #[inline(always)]
    fn new(kind: ShellKind, offset: usize, header_len: usize) -> Self {
        debug_assert!(header_len.is_multiple_of(4));
        Self { kind, words: (header_len / 4) as u8, offset: offset as u16 }
    }

    /// Bytes of the header, a multiple of 4. All of it was captured.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.words) * 4
    }

    /// Where what it carries begins. At most the captured length.
    #[inline(always)]
    pub fn payload(&self) -> usize {
        usize::from(self.offset) + self.header_len()
    }

    /// What it carries; `None` where that cannot be known. `bytes` are those of the packet that was parsed.
    pub fn carries(&self, bytes: &[u8]) -> Option<Carried> {
        let offset = usize::from(self.offset);
        match self.kind {
            ShellKind::Vlan => u16_at(bytes, self.payload() - 2).map(Carried::Network),
            ShellKind::Pppoe => {
                ppp_ethertype(Pppoe::at(bytes, offset)?.ppp_protocol()).map(Carried::Network)
            }
            ShellKind::Mpls if !mpls::is_bottom(u32_at(bytes, self.payload() - mpls::LABEL_LEN)?) => None,
            ShellKind::Mpls | ShellKind::Ipip | ShellKind::Gtp => {
                ip_ethertype(bytes, self.payload()).map(Carried::Network)
            }
            ShellKind::Pseudowire | ShellKind::Erspan1 | ShellKind::Erspan2 | ShellKind::Vxlan => {
                Some(Carried::Ethernet)
            }
            ShellKind::Gre => Some(carried(Gre::at(bytes, offset)?.protocol())),
            ShellKind::Geneve => Some(carried(Geneve::at(bytes, offset)?.protocol())),
            ShellKind::Erspan3 => {
                let header = Erspan3::at(bytes, offset + Gre::at(bytes, offset)?.header_len())?;
                match header.frame_type() {
                    erspan::FRAME_IP => ip_ethertype(bytes, self.payload()).map(Carried::Network),
                    _ => Some(Carried::Ethernet),
                }
            }
            ShellKind::VxlanGpe => match Vxlan::at(bytes, offset)?.next_protocol() {
                vxlan::NEXT_IPV4 => Some(Carried::Network(ethernet::TYPE_IPV4)),
                vxlan::NEXT_IPV6 => Some(Carried::Network(ethernet::TYPE_IPV6)),
                vxlan::NEXT_ETHERNET => Some(Carried::Ethernet),
                _ => None,
            },
        }
    }

    /// The virtual network id (24 bits) of VXLAN, VXLAN-GPE, GENEVE and NVGRE.
    pub fn vni(&self, bytes: &[u8]) -> Option<u32> {
        let offset = usize::from(self.offset);
        match self.kind {
            ShellKind::Vxlan | ShellKind::VxlanGpe => Some(Vxlan::at(bytes, offset)?.vni()),
            ShellKind::Geneve => Some(Geneve::at(bytes, offset)?.vni()),
            ShellKind::Gre => Gre::at(bytes, offset)?.nvgre_vsid(),
            _ => None,
        }
    }

    /// The tunnel endpoint id of GTP-U.
    pub fn teid(&self, bytes: &[u8]) -> Option<u32> {
        if self.kind == ShellKind::Gtp {
            Some(Gtp::at(bytes, usize::from(self.offset))?.teid())
        } else {
            None
        }
    }

    /// The key of GRE.
    pub fn gre_key(&self, bytes: &[u8]) -> Option<u32> {
        if self.kind == ShellKind::Gre { Gre::at(bytes, usize::from(self.offset))?.key() } else { None }
    }

    /// The session of ERSPAN II and III, or of PPPoE.
    pub fn session(&self, bytes: &[u8]) -> Option<u16> {
        let offset = usize::from(self.offset);
        match self.kind {
            ShellKind::Erspan2 | ShellKind::Erspan3 => {
                Some(Erspan::at(bytes, offset + Gre::at(bytes, offset)?.header_len())?.session())
            }
            ShellKind::Pppoe => Some(Pppoe::at(bytes, offset)?.session()),
            _ => None,
        }
    }

    /// The labels of an MPLS stack, outermost first; none for other kinds.
    pub fn labels<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = u32> + use<'a> {
        let (mut offset, end) = match self.kind {
            ShellKind::Mpls | ShellKind::Pseudowire => (usize::from(self.offset), self.payload()),
            _ => (0, 0),
        };
        std::iter::from_fn(move || {
            if offset >= end {
                return None;
            }
            let entry = u32_at(bytes, offset)?;
            // A control word may follow the bottom of the stack.
            offset = if mpls::is_bottom(entry) { end } else { offset + mpls::LABEL_LEN };
            Some(mpls::label(entry))
        })
    }

    /// The VLAN ids of a run of tags, outermost first; none for other kinds.
    pub fn vlan_ids<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = u16> + use<'a> {
        let end = if self.kind == ShellKind::Vlan { self.payload() } else { 0 };
        (usize::from(self.offset)..end)
            .step_by(vlan::TAG_LEN)
            .filter_map(move |at| u16_at(bytes, at).map(vlan::id))
    }
}

/// Where the layers of a packet stand: one cache line. Offsets hold for the bytes that were parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub struct Layers {
    /// The outermost headers.
    pub outer: Stack,
    /// The innermost headers; equal to `outer` where there is no tunnel, or `Depth::Outer` was asked for.
    pub inner: Stack,
    shells: [Shell; MAX_SHELLS],
    count: u8,
    has_fragmented_carrier: bool,
}

impl Layers {
    /// Nothing is known: what arrays of layers begin with.
    pub const EMPTY: Layers = {
        let stack = Stack { places: 0, kinds: 0 };
        let shell = Shell { kind: ShellKind::Vlan, words: 0, offset: 0 };
        Layers {
            outer: stack,
            inner: stack,
            shells: [shell; MAX_SHELLS],
            count: 0,
            has_fragmented_carrier: false,
        }
    };

    /// The encapsulations, outermost first; none unless `Depth::Full` was asked for.
    #[inline(always)]
    pub fn shells(&self) -> &[Shell] {
        &self.shells[..usize::from(self.count).min(MAX_SHELLS)]
    }

    /// A tunnel's own packet is the first fragment of a datagram: its later fragments show nothing of what the tunnel carries.
    #[inline(always)]
    pub fn has_fragmented_carrier(&self) -> bool {
        self.has_fragmented_carrier
    }

    /// Notes an encapsulation; false where there is no room for more.
    #[inline(always)]
    fn push(&mut self, shell: Shell) -> bool {
        match self.shells.get_mut(usize::from(self.count)) {
            Some(place) => {
                *place = shell;
                self.count += 1;
                true
            }
            None => false,
        }
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Describes one packet.
#[inline]
pub fn parse(frame: &Frame<'_>, depth: Depth) -> Layers {
    let mut layers = Layers::EMPTY;
    match depth {
        Depth::Outer => parse_outer(frame, &mut layers),
        Depth::Full => parse_full(frame, &mut layers),
    }
    layers
}

/// As [`parse`], where the layers stay.
#[inline]
pub fn parse_into(frame: &Frame<'_>, depth: Depth, layers: &mut Layers) {
    match depth {
        Depth::Outer => parse_outer(frame, layers),
        Depth::Full => parse_full(frame, layers),
    }
}

/// Describes the packets of a burst: `layers[i]` becomes what is known of `frames[i]`.
///
/// # Panics
/// If `layers` is shorter than `frames`.
#[inline]
pub fn parse_burst(frames: &[Frame<'_>], depth: Depth, layers: &mut [Layers]) {
    debug_assert!(frames.len() <= MAX_BURST);
    let layers = &mut layers[..frames.len()];
    match depth {
        Depth::Outer => frames.iter().zip(layers).for_each(|(frame, layers)| parse_outer(frame, layers)),
        Depth::Full => frames.iter().zip(layers).for_each(|(frame, layers)| parse_full(frame, layers)),
    }
}

#[inline(always)]
fn parsed_bytes<'a>(frame: &Frame<'a>) -> &'a [u8] {
    let bytes = frame.bytes();
    if bytes.len() <= MAX_PARSED_BYTES { bytes } else { &bytes[..MAX_PARSED_BYTES] }
}

#[inline(always)]
fn parse_outer(frame: &Frame<'_>, layers: &mut Layers) {
    let stack = ethernet_stack(parsed_bytes(frame), 0);
    layers.outer = stack;
    layers.inner = stack;
    layers.count = 0;
    layers.has_fragmented_carrier = false;
}

#[inline(always)]
fn parse_full(frame: &Frame<'_>, layers: &mut Layers) {
    parse_outer(frame, layers);
    if may_have_shells(frame.bytes(), &layers.outer) {
        walk(parsed_bytes(frame), layers, Fragments::Enter);
    }
}

/// The innermost stack that every fragment shows: tunnels whose own packet is fragmented are not gone into.
#[cold]
pub fn innermost_unfragmented(frame: &Frame<'_>) -> Stack {
    let mut layers = Layers::EMPTY;
    parse_outer(frame, &mut layers);
    walk(parsed_bytes(frame), &mut layers, Fragments::Stop);
    layers.inner
}

/// What to do at a tunnel packet that is the first fragment of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragments {
    Enter,
    Stop,
}

/// Follows the encapsulations from `layers.outer` inwards.
#[inline(never)]
fn walk(bytes: &[u8], layers: &mut Layers, fragments: Fragments) {
    loop {
        let stack = layers.inner;
        if !push_link_shells(&stack, layers) {
            return;
        }
        let is_pseudowire = stack.labels() != 0 && stack.ethertype() == ethernet::TYPE_TEB;
        if is_pseudowire {
            layers.inner = ethernet_stack(bytes, stack.l3());
            continue;
        }
        if stack.is_fragment() && fragments == Fragments::Stop {
            return;
        }
        let Some(shell) = tunnel(bytes, &stack) else { return };
        if !layers.push(shell) {
            return;
        }
        let Some(carried) = shell.carries(bytes) else { return };
        layers.has_fragmented_carrier |= stack.is_fragment();
        layers.inner = match carried {
            Carried::Ethernet => ethernet_stack(bytes, shell.payload()),
            Carried::Network(ethertype) => network_stack(bytes, shell.payload(), ethertype),
        };
    }
}

/// Notes the tags, labels and PPPoE of a stack; false where there is no room for more.
fn push_link_shells(stack: &Stack, layers: &mut Layers) -> bool {
    let l3 = stack.l3();
    if let (1.., Some(ethernet)) = (stack.vlans(), stack.ethernet()) {
        let offset = ethernet + ethernet::HEADER_LEN;
        if !layers.push(Shell::new(ShellKind::Vlan, offset, usize::from(stack.vlans()) * vlan::TAG_LEN)) {
            return false;
        }
    }
    if stack.is_pppoe() {
        return layers.push(Shell::new(ShellKind::Pppoe, l3 - pppoe::HEADER_LEN, pppoe::HEADER_LEN));
    }
    if stack.labels() == 0 {
        return true;
    }
    // A control word may stand between the labels and what they carry, so they are found from their begin.
    let begin = match stack.ethernet() {
        Some(ethernet) => ethernet + ethernet::HEADER_LEN + usize::from(stack.vlans()) * vlan::TAG_LEN,
        None => layers.shells().last().map_or(l3, Shell::payload),
    };
    let kind =
        if stack.ethertype() == ethernet::TYPE_TEB { ShellKind::Pseudowire } else { ShellKind::Mpls };
    layers.push(Shell::new(kind, begin, l3 - begin))
}

/// Whether something may wrap what the outer stack carries, told with few jumps: most packets have nothing of the kind.
#[inline(always)]
fn may_have_shells(bytes: &[u8], stack: &Stack) -> bool {
    let has_link_shells = stack.kinds >> 16 != 0 || stack.is_pppoe();
    let destination_port = u32_at(bytes, stack.l4_or_zero()).unwrap_or(0) as u16;
    let is_tunnel_port = (stack.protocol() == ip::UDP) & udp::is_tunnel_port(destination_port);
    has_link_shells | is_tunnel_port | ip::is_tunnel(stack.protocol())
}

/// The tunnel header at a stack's `l4`, if one stands there whole.
pub fn tunnel(bytes: &[u8], stack: &Stack) -> Option<Shell> {
    if stack.is_later_fragment() {
        return None;
    }
    let l4 = stack.l4()?;
    match stack.protocol() {
        ip::UDP => udp_tunnel(bytes, l4),
        ip::GRE => gre_tunnel(bytes, l4),
        ip::IPV4 => {
            (ip_ethertype(bytes, l4)? == ethernet::TYPE_IPV4).then(|| Shell::new(ShellKind::Ipip, l4, 0))
        }
        ip::IPV6 => {
            (ip_ethertype(bytes, l4)? == ethernet::TYPE_IPV6).then(|| Shell::new(ShellKind::Ipip, l4, 0))
        }
        _ => None,
    }
}

/// The tunnel that the UDP destination port names. Replies come to that port too, so the source port is not looked at.
fn udp_tunnel(bytes: &[u8], l4: usize) -> Option<Shell> {
    udp_tunnel_of(Udp::at(bytes, l4)?.destination_port(), bytes, l4)
}

/// The tunnel that `port` is the standard's for, behind the UDP header at `l4`.
pub fn udp_tunnel_of(port: u16, bytes: &[u8], l4: usize) -> Option<Shell> {
    let offset = l4 + udp::HEADER_LEN;
    match port {
        udp::PORT_VXLAN | udp::PORT_VXLAN_LEGACY | udp::PORT_VXLAN_GPE => {
            let kind = if port == udp::PORT_VXLAN_GPE { ShellKind::VxlanGpe } else { ShellKind::Vxlan };
            Vxlan::at(bytes, offset)?.is_vni_valid().then(|| Shell::new(kind, offset, vxlan::HEADER_LEN))
        }
        udp::PORT_GENEVE => {
            let header = Geneve::at(bytes, offset)?;
            whole(bytes, Shell::new(ShellKind::Geneve, offset, header.header_len()))
                .filter(|_| header.version() == 0)
        }
        udp::PORT_GTP_U => {
            let header = Gtp::at(bytes, offset)?;
            if !header.is_gtp_u() || header.message_type() != gtp::G_PDU {
                return None;
            }
            let header_len = gtp::header_len(bytes, offset)?;
            // Extension headers of more than a kilobyte do not fit the offsets, and no network sends them.
            if header_len > usize::from(u8::MAX) * 4 {
                None
            } else {
                whole(bytes, Shell::new(ShellKind::Gtp, offset, header_len))
            }
        }
        _ => None,
    }
}

/// GRE, and ERSPAN over it.
fn gre_tunnel(bytes: &[u8], l4: usize) -> Option<Shell> {
    let header = Gre::at(bytes, l4)?;
    if !header.is_sound() {
        return None;
    }
    let gre_len = header.header_len();
    let is_erspan = matches!(header.protocol(), gre::TYPE_ERSPAN | gre::TYPE_ERSPAN3);
    let shell = if !is_erspan {
        Shell::new(ShellKind::Gre, l4, gre_len)
    } else if header.protocol() == gre::TYPE_ERSPAN && !header.has_sequence() {
        // ERSPAN I is told from II by the absent sequence number (draft-foschiano-erspan-03, 4.1).
        Shell::new(ShellKind::Erspan1, l4, gre_len)
    } else {
        match Erspan::at(bytes, l4 + gre_len)?.version() {
            erspan::VERSION_2 => Shell::new(ShellKind::Erspan2, l4, gre_len + erspan::HEADER2_LEN),
            erspan::VERSION_3 => {
                Shell::new(ShellKind::Erspan3, l4, gre_len + Erspan3::at(bytes, l4 + gre_len)?.header_len())
            }
            _ => return None,
        }
    };
    whole(bytes, shell)
}

/// The shell, if its header was captured to its end.
fn whole(bytes: &[u8], shell: Shell) -> Option<Shell> {
    if shell.payload() <= bytes.len() { Some(shell) } else { None }
}

fn carried(ethertype: u16) -> Carried {
    if ethertype == ethernet::TYPE_TEB { Carried::Ethernet } else { Carried::Network(ethertype) }
}

/// The ethertype of the IP packet at `offset`, told by its version.
fn ip_ethertype(bytes: &[u8], offset: usize) -> Option<u16> {
    match bytes.get(offset)? {
        0x45..=0x4f => Some(ethernet::TYPE_IPV4),
        0x60..=0x6f => Some(ethernet::TYPE_IPV6),
        _ => None,
    }
}

fn ppp_ethertype(protocol: u16) -> Option<u16> {
    match protocol {
        pppoe::PPP_IPV4 => Some(ethernet::TYPE_IPV4),
        pppoe::PPP_IPV6 => Some(ethernet::TYPE_IPV6),
        _ => None,
    }
}

/// The stack that begins with an Ethernet header at `at`.
#[inline(always)]
pub fn ethernet_stack(bytes: &[u8], at: usize) -> Stack {
    let stack = Stack::at_link(at as u16);
    let Some(header) = Ethernet::at(bytes, at) else { return stack.with(Stack::CUT) };
    let l3 = at + ethernet::HEADER_LEN;
    match header.ethertype() {
        ethernet::TYPE_IPV4 => ipv4(bytes, l3, stack),
        ethernet::TYPE_IPV6 => ipv6(bytes, l3, stack),
        ethertype => link(bytes, l3, ethertype, stack),
    }
}

/// The stack of a packet of type `ethertype` that stands at `at` with no Ethernet header in front.
pub fn network_stack(bytes: &[u8], at: usize, ethertype: u16) -> Stack {
    network(bytes, at, ethertype, Stack::at_link(Stack::NO_ETHERNET))
}

/// Steps over the VLAN tags at `at`.
#[inline(always)]
fn link(bytes: &[u8], mut at: usize, mut ethertype: u16, mut stack: Stack) -> Stack {
    while vlan::is_tpid(ethertype) && stack.vlans() < MAX_TAGS {
        let Some(next) = u16_at(bytes, at + 2) else {
            return stack.with(Stack::CUT).carrying(ethertype, at);
        };
        ethertype = next;
        at += vlan::TAG_LEN;
        stack = stack.with_vlan();
    }
    network(bytes, at, ethertype, stack)
}

/// Describes the packet of type `ethertype` at `at`.
#[inline(always)]
fn network(bytes: &[u8], at: usize, ethertype: u16, stack: Stack) -> Stack {
    match ethertype {
        ethernet::TYPE_IPV4 => ipv4(bytes, at, stack),
        ethernet::TYPE_IPV6 => ipv6(bytes, at, stack),
        ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST => labels(bytes, at, ethertype, stack),
        ethernet::TYPE_PPPOE_SESSION => pppoe(bytes, at, stack),
        _ => {
            let is_arp = ethertype == ethernet::TYPE_ARP
                && Arp::at(bytes, at).is_some_and(|arp| arp.is_ipv4_over_ethernet());
            stack.with(flag(is_arp, Stack::ARP)).carrying(ethertype, at)
        }
    }
}

#[inline(always)]
fn ipv4(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    let stack = stack.carrying(ethernet::TYPE_IPV4, at);
    let header = match Ipv4::at(bytes, at) {
        Some(header) if header.is_sound() => header,
        _ => return stack.with(Stack::CUT),
    };
    let fragment = flag(header.is_fragment(), Stack::FRAGMENT)
        | flag(header.fragment_offset() != 0, Stack::LATER_FRAGMENT);
    transport(
        bytes,
        at + header.header_len(),
        stack.with(Stack::IPV4 | fragment).with_protocol(header.protocol()),
    )
}

#[inline(always)]
fn ipv6(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    let stack = stack.carrying(ethernet::TYPE_IPV6, at);
    let header = match Ipv6::at(bytes, at) {
        Some(header) if header.version() == 6 => header,
        _ => return stack.with(Stack::CUT),
    };
    let stack = stack.with(Stack::IPV6).with_protocol(header.next_header());
    let l4 = at + ipv6::HEADER_LEN;
    if ip::is_extension(stack.protocol()) {
        extensions(bytes, l4, stack)
    } else {
        transport(bytes, l4, stack)
    }
}

/// Steps over the IPv6 extension headers at `at`.
#[inline(never)]
fn extensions(bytes: &[u8], mut at: usize, mut stack: Stack) -> Stack {
    for _ in 0..MAX_EXTENSIONS {
        let Some(extension) = ipv6::extension(bytes, at, stack.protocol()) else { break };
        at += extension.len;
        let is_later = extension.fragment_offset != 0;
        let is_fragment = is_later || extension.more_fragments;
        stack = stack
            .with_protocol(extension.next_header)
            .with(flag(is_fragment, Stack::FRAGMENT) | flag(is_later, Stack::LATER_FRAGMENT));
        if is_later || !ip::is_extension(stack.protocol()) {
            return transport(bytes, at, stack);
        }
    }
    stack.with(Stack::CUT)
}

/// Notes that the IP header ends at `at`, and whether ports stand there.
#[inline(always)]
fn transport(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    if at > bytes.len() {
        return stack.with(Stack::CUT);
    }
    let has_ports = ip::has_ports(stack.protocol()) & !stack.is_later_fragment();
    let is_whole = at + 4 <= bytes.len();
    stack
        .with_l4(at)
        .with(flag(has_ports & is_whole, Stack::PORTS) | flag(has_ports & !is_whole, Stack::CUT))
}

/// `bits` where `holds`, else none: no jump, because which packets hold is hard to predict.
#[inline(always)]
fn flag(holds: bool, bits: u8) -> u8 {
    u8::from(holds) * bits
}

/// Steps over the MPLS label stack at `at`. What it carries is not said in the packet: IP is told by its version (RFC 4928, 3),
/// Ethernet by a type that is known where an Ethernet header would have it, behind a control word or without one (RFC 4448, 4.1).
#[inline(never)]
fn labels(bytes: &[u8], mut at: usize, ethertype: u16, mut stack: Stack) -> Stack {
    let mut is_bottom = false;
    while !is_bottom && stack.labels() < MAX_LABELS {
        let Some(entry) = u32_at(bytes, at) else { break };
        is_bottom = mpls::is_bottom(entry);
        at += mpls::LABEL_LEN;
        stack = stack.with_label();
    }
    if !is_bottom {
        return stack.with(Stack::CUT).carrying(ethertype, at);
    }
    match ip_ethertype(bytes, at) {
        Some(ethernet::TYPE_IPV4) => return ipv4(bytes, at, stack),
        Some(_) => return ipv6(bytes, at, stack),
        None => {}
    }
    let behind_control_word = at + mpls::CONTROL_WORD_LEN;
    if bytes.get(at).is_some_and(|first| first >> 4 == 0) && is_frame(bytes, behind_control_word) {
        stack.carrying(ethernet::TYPE_TEB, behind_control_word)
    } else if is_frame(bytes, at) {
        stack.carrying(ethernet::TYPE_TEB, at)
    } else {
        stack.carrying(ethertype, at)
    }
}

/// Whether an Ethernet header whose type is known seems to stand at `at`.
fn is_frame(bytes: &[u8], at: usize) -> bool {
    let is_known = |ethertype| {
        vlan::is_tpid(ethertype)
            || matches!(
                ethertype,
                ethernet::TYPE_IPV4
                    | ethernet::TYPE_IPV6
                    | ethernet::TYPE_ARP
                    | ethernet::TYPE_MPLS
                    | ethernet::TYPE_PPPOE_SESSION
            )
    };
    Ethernet::at(bytes, at).is_some_and(|header| is_known(header.ethertype()))
}

#[inline(never)]
fn pppoe(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    let Some(header) = Pppoe::at(bytes, at) else {
        return stack.with(Stack::CUT).carrying(ethernet::TYPE_PPPOE_SESSION, at);
    };
    let l3 = at + pppoe::HEADER_LEN;
    match ppp_ethertype(header.ppp_protocol()).filter(|_| header.is_session()) {
        Some(ethernet::TYPE_IPV4) => ipv4(bytes, l3, stack.with(Stack::PPPOE)),
        Some(_) => ipv6(bytes, l3, stack.with(Stack::PPPOE)),
        None => stack.carrying(ethernet::TYPE_PPPOE_SESSION, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B};

    const A: u32 = 0x0a00_0001;
    const B: u32 = 0x0a00_0002;

    fn full(bytes: &[u8]) -> Layers {
        parse(&Frame::whole(bytes), Depth::Full)
    }

    fn in_ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        packets::ethernet(MAC_A, MAC_B, ethertype, payload)
    }

    fn tcp4() -> Vec<u8> {
        packets::ipv4(A, B, ip::TCP, 0, &packets::tcp(1000, 80, b"GET /"))
    }

    fn kinds(layers: &Layers) -> Vec<ShellKind> {
        layers.shells().iter().map(|shell| shell.kind).collect()
    }

    #[test]
    fn layers_of_a_packet_fill_one_cache_line() {
        assert_eq!((size_of::<Layers>(), align_of::<Layers>()), (64, 64));
    }

    #[test]
    fn a_plain_packet_has_one_stack_and_no_shells() {
        let bytes = in_ethernet(0x0800, &tcp4());
        let layers = full(&bytes);
        let stack = layers.outer;
        assert_eq!(
            (stack.ethertype(), stack.l3(), stack.l4(), stack.protocol()),
            (0x0800, 14, Some(34), ip::TCP)
        );
        assert_eq!(stack.payload(&bytes), Some(54));
        assert!(stack.is_ipv4() && stack.has_ports() && !stack.is_fragment() && !stack.is_cut());
        assert_eq!(layers.inner, stack);
        assert!(layers.shells().is_empty());
    }

    #[test]
    fn tags_and_labels_are_stepped_over() {
        let labelled = packets::mpls(&[16, 1000], &tcp4());
        let bytes = in_ethernet(0x88a8, &packets::tag(0x2005, 0x8100, &packets::tag(7, 0x8847, &labelled)));
        let layers = full(&bytes);
        let stack = layers.outer;
        assert_eq!((stack.vlans(), stack.labels(), stack.l3(), stack.vlan(&bytes)), (2, 2, 30, Some(5)));
        assert_eq!(kinds(&layers), [ShellKind::Vlan, ShellKind::Mpls]);
        let [tags, labels] = layers.shells() else { panic!("two shells") };
        assert_eq!(tags.vlan_ids(&bytes).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(labels.labels(&bytes).collect::<Vec<_>>(), [16, 1000]);
        assert_eq!((tags.payload(), labels.payload()), (22, 30));
    }

    #[test]
    fn pseudowires_are_entered_with_a_control_word_and_without() {
        let frame = in_ethernet(0x0800, &tcp4());
        for (control_word, l3) in [(vec![], 32), (vec![0; 4], 36), (vec![0, 0, 1, 0], 36)] {
            let bytes = in_ethernet(0x8847, &packets::mpls(&[16], &[control_word, frame.clone()].concat()));
            let layers = full(&bytes);
            assert_eq!(kinds(&layers), [ShellKind::Pseudowire]);
            assert_eq!((layers.inner.l3(), layers.inner.has_ports()), (l3, true));
            assert_eq!(layers.inner.ethernet(), Some(l3 - 14));
            assert_eq!(layers.shells()[0].labels(&bytes).collect::<Vec<_>>(), [16]);
        }
    }

    #[test]
    fn pppoe_sessions_are_stepped_over() {
        // PPPoE: version and type 1, code 0 (session), session 0x0011; PPP protocol 0x0021 (IPv4).
        let bytes = in_ethernet(0x8864, &[&[0x11, 0, 0, 0x11, 0, 47, 0, 0x21][..], &tcp4()].concat());
        let layers = full(&bytes);
        assert_eq!(
            (layers.outer.l3(), layers.outer.is_pppoe(), layers.outer.has_ports()),
            (22, true, true)
        );
        assert_eq!(layers.shells()[0].session(&bytes), Some(0x11));
    }

    #[test]
    fn tunnels_inside_tunnels_are_entered_and_name_their_identifiers() {
        let frame = in_ethernet(0x0800, &tcp4());
        let gtp =
            packets::ipv4(3, 4, ip::UDP, 0, &packets::udp(2152, 2152, &packets::gtp(0xabcd, &tcp4())));
        let bytes = in_ethernet(
            0x0800,
            &packets::ipv4(
                1,
                2,
                ip::GRE,
                0,
                &packets::gre(0x6558, Some(0x1234_56ff), None, &{
                    in_ethernet(
                        0x0800,
                        &packets::ipv4(
                            5,
                            6,
                            ip::UDP,
                            0,
                            &packets::udp(9, 4789, &packets::vxlan(77, &in_ethernet(0x0800, &gtp))),
                        ),
                    )
                }),
            ),
        );
        let layers = full(&bytes);
        assert_eq!(kinds(&layers), [ShellKind::Gre, ShellKind::Vxlan, ShellKind::Gtp]);
        let [gre, vxlan, gtp] = layers.shells() else { panic!("three shells") };
        assert_eq!((gre.gre_key(&bytes), gre.vni(&bytes)), (Some(0x1234_56ff), Some(0x0012_3456)));
        assert_eq!((vxlan.vni(&bytes), gtp.teid(&bytes)), (Some(77), Some(0xabcd)));
        assert_eq!(layers.inner.ethernet(), None);
        assert_eq!(&bytes[layers.inner.l3()..], &frame[14..]);
    }

    #[test]
    fn extension_headers_of_gtp_are_stepped_over_and_endless_ones_are_not() {
        // Flags: version 1, GTP, E. Then sequence, N-PDU, next extension 0x85 (PDU session container, one word, none follows).
        let header = [0x34, 255, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0x10, 5, 0];
        let wrap = |header: &[u8]| {
            let udp = packets::udp(2152, 2152, &[header, &tcp4()].concat());
            in_ethernet(0x0800, &packets::ipv4(1, 2, ip::UDP, 0, &udp))
        };
        let layers = full(&wrap(&header));
        assert_eq!((kinds(&layers), layers.inner.has_ports()), (vec![ShellKind::Gtp], true));
        let endless = [&header[..12], &[1, 0, 0, 0x85].repeat(9)].concat();
        assert!(full(&wrap(&endless)).shells().is_empty());
        let mut without_length = header;
        without_length[12] = 0;
        assert!(full(&wrap(&without_length)).shells().is_empty());
    }

    #[test]
    fn what_follows_ipv6_extension_headers_is_found() {
        let udp = packets::udp(1000, 53, &[]);
        let bytes = in_ethernet(
            0x86dd,
            &packets::ipv6(1, 2, 0, &packets::options(60, &packets::options(17, &udp))),
        );
        let stack = full(&bytes).outer;
        assert_eq!((stack.protocol(), stack.l4(), stack.has_ports()), (17, Some(70), true));
        let fragment = packets::fragment(17, 3, true, &[0; 16]);
        let stack = full(&in_ethernet(0x86dd, &packets::ipv6(1, 2, 44, &fragment))).outer;
        assert_eq!((stack.is_later_fragment(), stack.has_ports(), stack.l4()), (true, false, Some(62)));
    }

    #[test]
    fn later_fragments_have_no_ports_and_no_tunnel() {
        let vxlan = packets::udp(9, 4789, &packets::vxlan(1, &in_ethernet(0x0800, &tcp4())));
        let first = full(&in_ethernet(0x0800, &packets::ipv4(A, B, ip::UDP, 0x2000, &vxlan)));
        assert_eq!((kinds(&first), first.has_fragmented_carrier()), (vec![ShellKind::Vxlan], true));
        let later = full(&in_ethernet(0x0800, &packets::ipv4(A, B, ip::UDP, 0x0010, &vxlan)));
        assert!(later.shells().is_empty() && !later.outer.has_ports() && later.outer.l4() == Some(34));
    }

    #[test]
    fn no_more_than_eight_shells_are_entered() {
        let mut packet = tcp4();
        for _ in 0..20 {
            packet = packets::ipv4(A, B, ip::IPV4, 0, &packet);
        }
        let layers = full(&in_ethernet(0x0800, &packet));
        assert_eq!(layers.shells().len(), MAX_SHELLS);
        assert_eq!(layers.inner.l3(), 14 + 20 * MAX_SHELLS);
        let tags = (0..20).fold(tcp4(), |inner, _| packets::tag(1, 0x8100, &inner));
        assert_eq!(full(&in_ethernet(0x8100, &tags)).outer.vlans(), MAX_TAGS);
    }

    #[test]
    fn headers_beyond_the_reach_of_offsets_are_not_looked_for() {
        let extensions = (0..40)
            .fold(tcp4(), |inner, _| [vec![ip::DESTINATION_OPTIONS, 255], vec![0; 2046], inner].concat());
        let bytes = in_ethernet(0x86dd, &packets::ipv6(1, 2, ip::DESTINATION_OPTIONS, &extensions));
        assert!(bytes.len() > MAX_PARSED_BYTES);
        let stack = full(&bytes).outer;
        assert!(stack.is_cut() && stack.l4().is_none());
    }

    #[test]
    fn a_burst_is_parsed_as_its_packets_are() {
        let packets = packets::mix(64, 4, 40);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        for depth in [Depth::Outer, Depth::Full] {
            let mut layers = [full(&packets[0]); MAX_BURST];
            parse_burst(&frames, depth, &mut layers);
            for (frame, layers) in frames.iter().zip(&layers) {
                let alone = parse(frame, depth);
                assert_eq!(
                    (layers.outer, layers.inner, layers.shells()),
                    (alone.outer, alone.inner, alone.shells())
                );
            }
        }
    }
}
