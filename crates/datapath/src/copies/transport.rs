//! Transports out: the headers in front of a copy that carry it to a distant tool.
//!
//! Stands between edit and egress. Whatever is the same for all copies of a tool is written once, into a template; a copy costs
//! one small copy of the template and a few patched fields. The payload is only read where a checksum must cover it.
//!
//! Checksums: the IPv4 header's is always right. UDP's is zero over IPv4, as VXLAN and Geneve ask of software senders (RFC 7348,
//! section 5; RFC 8926, section 3.3), unless asked for; over IPv6 it is always computed (RFC 8200, section 8.1), over the whole
//! payload. GRE's optional checksum is not sent. A NIC that offers it computes UDP's; the IPv4 header's is three additions to a
//! prepared sum, less than it takes to ask a NIC for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

use super::facts::CopyFacts;
use tapline_api::words::{Direction, Granularity, Oversize, RspanTag};
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::vlan;
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::headers::{erspan, geneve, gre, ip, ipv4, ipv6, udp, vxlan};

/// The most bytes that `Transport::write` puts in front of a copy: Ethernet, tag, IPv6, GRE with sequence number, ERSPAN III with
/// subheader.
pub const MAX_HEADER_BYTES: usize = 14 + 4 + 40 + 8 + 20;

/// The template's room: a fixed number of whole cache lines' halves, so that it is copied without a loop.
const TEMPLATE_BYTES: usize = 96;

/// The outer addresses of a tunnel and how its datagrams travel.
#[derive(Clone, Debug)]
pub struct Outer {
    pub source_mac: MacAddress,
    /// The next hop's address; see `Transport::set_next_hop`.
    pub destination_mac: MacAddress,
    pub vlan: Option<VlanTag>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// 0..=63.
    pub dscp: u8,
    /// Time to live or hop limit, 1..=255.
    pub ttl: u8,
    pub dont_fragment: bool,
}

/// The platform subheader of ERSPAN III.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Subheader {
    #[default]
    None,
    /// Platform id 3: the upper 32 bits of the timestamp.
    UpperBits,
    /// Platform id 5: switch (10 bits), source port and full seconds since the epoch.
    Seconds { switch: u16 },
}

/// The fields of an ERSPAN II header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Erspan2 {
    pub session: u16,
    /// Class of service; the frame's own where none is given.
    pub cos: Option<u8>,
    /// 20 bits; the source port's index where none is given.
    pub index: Option<u32>,
}

/// The fields of an ERSPAN III header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Erspan3 {
    pub session: u16,
    /// Class of service; the frame's own where none is given.
    pub cos: Option<u8>,
    /// The copy's own where none is given.
    pub direction: Option<Direction>,
    pub security_group_tag: u16,
    /// 6 bits; the source port's index modulo 64 where none is given.
    pub hardware: Option<u8>,
    pub granularity: Granularity,
    pub subheader: Subheader,
}

/// The encapsulation that carries the frame inside the outer IP datagram.
#[derive(Clone, Debug)]
pub enum Encapsulation {
    Erspan1,
    Erspan2(Erspan2),
    Erspan3(Erspan3),
    /// `udp_port`: destination port; the standard's where none is given. `udp_checksum`: whether one is sent; over IPv6 alone if it
    /// is not said (RFC 8200, section 8.1; without one is for tunnels whose ends agree on it: RFC 6935).
    Vxlan {
        vni: u32,
        udp_port: Option<u16>,
        udp_checksum: Option<bool>,
    },
    Geneve {
        vni: u32,
        udp_port: Option<u16>,
        udp_checksum: Option<bool>,
    },
    Gre {
        key: Option<u32>,
    },
}

/// A transport that cannot be as described.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum TransportError {
    #[error(
        "the tunnel's source {source_address} and destination {destination} are of different families; use IPv4 or IPv6 for both"
    )]
    MixedFamilies { source_address: IpAddr, destination: IpAddr },
    #[error("{what} {value} is too large; the most is {most}")]
    TooLarge { what: &'static str, value: u32, most: u32 },
    #[error("time to live 0 would not leave this machine; use 1 to 255")]
    ZeroTtl,
    #[error(
        "platform subheader 5 carries seconds and needs nanoseconds beside them; use granularity ieee1588"
    )]
    SecondsWithoutNanoseconds,
}

/// The changes that a transport made to the front of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes written to `out`.
    pub header_bytes: usize,
    /// Bytes at the front of the frame that the header carries itself, so that the payload begins after them.
    pub replaced_bytes: usize,
}

/// The numbers of a session's copies, shared by all workers that send them.
///
/// A worker claims a range once a burst, when it knows how many copies it sends, so numbers are never used twice, never skipped and
/// always rise within a worker. Two workers that send to one session at the same time interleave whole bursts: a receiver may see
/// them out of order by at most a burst. A tool that needs strict order gets one worker.
#[derive(Default, Debug)]
pub struct Sequence(AtomicU32);

impl Sequence {
    /// Begins at `first`.
    pub fn starting_at(first: u32) -> Self {
        Self(AtomicU32::new(first))
    }

    /// Takes the next `count` numbers and returns the first; they wrap at 2^32 (RFC 2890, section 2.2).
    pub fn claim(&self, count: u32) -> u32 {
        // Only uniqueness matters, nothing is published by the counter: relaxed suffices.
        self.0.fetch_add(count, Ordering::Relaxed)
    }
}

/// Lengths of a tunnel's outer headers, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OuterLens {
    pub link: usize,
    pub network: usize,
    pub is_ipv6: bool,
}

/// A tunnel's header, prepared.
#[derive(Clone, PartialEq, Debug)]
pub struct Tunnel {
    template: [u8; TEMPLATE_BYTES],
    header_bytes: usize,
    /// The offset of the outer IP header.
    network_offset: usize,
    /// The offset of the header after IP: GRE or UDP.
    transport_offset: usize,
    is_ipv6: bool,
    dont_fragment: bool,
    /// The IPv4 header's checksum with lengths and identification zero, or for IPv6 with UDP the pseudo header's sum without
    /// length.
    constant_sum: Sum,
    fields: Fields,
}

/// The fields after the IP header that are patched for each copy.
#[derive(Clone, PartialEq, Debug)]
enum Fields {
    Gre,
    Erspan2(Erspan2),
    Erspan3 { said: Erspan3, base: erspan::Type3 },
    Udp { checksum: UdpChecksum },
}

/// The content of the UDP header's checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UdpChecksum {
    /// None is sent.
    Zero,
    /// Over the whole datagram.
    Computed,
    /// The sum of the pseudo header, from which the NIC goes on.
    LeftToNic,
}

/// The fields that a tunnel changes in its template for each copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The network header only.
    Gre,
    Erspan2,
    Erspan3,
    /// UDP without a checksum.
    Udp,
    /// UDP with one.
    UdpChecked,
}

/// The shape of the headers that a tunnel writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderShape {
    pub kind: Kind,
    pub is_ipv6: bool,
    /// The headers fit 64 bytes.
    pub is_a_line: bool,
}

impl HeaderShape {
    /// Those that most tools have: over IPv4, untagged or not.
    pub const GRE: HeaderShape = HeaderShape::over_ipv4(Kind::Gre);
    pub const ERSPAN2: HeaderShape = HeaderShape::over_ipv4(Kind::Erspan2);
    pub const ERSPAN3: HeaderShape = HeaderShape::over_ipv4(Kind::Erspan3);
    pub const UDP: HeaderShape = HeaderShape::over_ipv4(Kind::Udp);

    const fn over_ipv4(kind: Kind) -> Self {
        Self { kind, is_ipv6: false, is_a_line: true }
    }
}

/// How copies reach a tool.
#[derive(Clone, Default, PartialEq, Debug)]
pub enum Transport {
    /// As they are, on a port of this machine.
    #[default]
    Local,
    /// In a VLAN of their own.
    Rspan { tag: VlanTag, mode: RspanTag },
    /// Inside IP.
    Tunnel(Box<Tunnel>),
}

fn at_most(what: &'static str, value: u32, most: u32) -> Result<(), TransportError> {
    if value > most { Err(TransportError::TooLarge { what, value, most }) } else { Ok(()) }
}

impl Transport {
    /// Prepares copies in VLAN `vlan` (1..=4094).
    /// # Errors
    /// `TooLarge` where a number does not fit its field.
    pub fn rspan(vlan: u16, priority: u8, mode: RspanTag) -> Result<Self, TransportError> {
        at_most("vlan", vlan.into(), 4094)?;
        at_most("priority", priority.into(), 7)?;
        Ok(Self::Rspan { tag: VlanTag { vlan, priority }, mode })
    }

    /// Prepares a tunnel.
    /// # Errors
    /// Fails if the outer header or the encapsulation cannot say what is asked for; see `TransportError`.
    pub fn tunnel(outer: &Outer, encapsulation: &Encapsulation) -> Result<Self, TransportError> {
        Tunnel::new(outer, encapsulation).map(|tunnel| Self::Tunnel(Box::new(tunnel)))
    }

    /// Sends further copies to `mac`, once the next hop is resolved.
    pub fn set_next_hop(&mut self, mac: MacAddress) {
        if let Self::Tunnel(tunnel) = self {
            tunnel.template[..6].copy_from_slice(&mac.0);
        }
    }

    /// Sends copies from `mac`, once the tool's port is attached.
    pub fn set_source(&mut self, mac: MacAddress) {
        if let Self::Tunnel(tunnel) = self {
            tunnel.template[6..12].copy_from_slice(&mac.0);
        }
    }

    /// Returns whether a checksum covers the payload: what a NIC can be asked to compute.
    pub fn sums_payload(&self) -> bool {
        matches!(self, Self::Tunnel(tunnel) if matches!(tunnel.fields, Fields::Udp { checksum } if checksum != UdpChecksum::Zero))
    }

    /// Leaves the UDP checksum over the payload to the NIC, where there is one; where the outer headers stand, for the NIC to know.
    pub fn leave_udp_checksum(&mut self) -> Option<OuterLens> {
        match self {
            Self::Tunnel(tunnel)
                if !matches!(tunnel.fields, Fields::Udp { checksum: UdpChecksum::Zero }) =>
            {
                let Fields::Udp { checksum } = &mut tunnel.fields else { return None };
                *checksum = UdpChecksum::LeftToNic;
                let network = tunnel.transport_offset - tunnel.network_offset;
                Some(OuterLens { link: tunnel.network_offset, network, is_ipv6: tunnel.is_ipv6 })
            }
            _ => None,
        }
    }

    /// Returns whether copies travel inside IP.
    #[inline(always)]
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel(_))
    }

    /// Returns whether an IP packet may be one of the tunnel's: same addresses, protocol and port, and the same identifier as far as
    /// the packet's bytes are there. ICMP errors quote 8 bytes behind the IP header, or more (RFC 792; RFC 1812, 4.3.2.3).
    pub fn has_sent(&self, packet: &[u8]) -> bool {
        matches!(self, Self::Tunnel(tunnel) if tunnel.has_sent(packet))
    }

    /// Returns whether the header says the flow inside: as a source port or a flow label.
    pub fn says_flow(&self) -> bool {
        matches!(self, Self::Tunnel(tunnel) if tunnel.is_ipv6 || matches!(tunnel.fields, Fields::Udp { .. }))
    }

    /// Sets to zero what counts copies in a whole one that `write` wrote the headers of: sequence number and identification, and the IPv4
    /// checksum that covers the latter. Two copies are then the same if they are but for their place among the tool's copies.
    pub fn blank_sequence(&self, copy: &mut [u8]) {
        if let Self::Tunnel(tunnel) = self {
            tunnel.blank_sequence(copy);
        }
    }

    /// Returns whether the header says when the packet was received.
    pub fn says_time(&self) -> bool {
        matches!(self, Self::Tunnel(tunnel) if matches!(tunnel.fields, Fields::Erspan3 { .. }))
    }

    /// The most bytes that the transport adds to a frame.
    pub fn overhead_bytes(&self) -> usize {
        match self {
            Self::Local => 0,
            Self::Rspan { .. } => vlan::TAG_LEN,
            Self::Tunnel(tunnel) => tunnel.header_bytes,
        }
    }

    /// The longest frame that fits a path of `mtu` bytes, which counts what follows the Ethernet header; a VLAN tag is free, as on
    /// the wire (IEEE 802.3, 3.2.7: a tagged frame may be four bytes longer).
    pub fn longest_frame_bytes(&self, mtu: usize) -> usize {
        match self {
            Self::Local => mtu + ethernet::HEADER_LEN + vlan::TAG_LEN,
            Self::Rspan { mode: RspanTag::Push, .. } => mtu + ethernet::HEADER_LEN,
            Self::Rspan { mode: RspanTag::Replace, .. } => mtu + ethernet::HEADER_LEN,
            Self::Tunnel(tunnel) => mtu.saturating_sub(tunnel.header_bytes - tunnel.network_offset),
        }
    }

    /// Returns whether `write` reads all of the payload, for a checksum.
    pub fn reads_payload(&self) -> bool {
        matches!(self, Self::Tunnel(tunnel) if matches!(tunnel.fields, Fields::Udp { checksum: UdpChecksum::Computed }))
    }

    /// Writes what goes in front of a copy, into `out`, of at least `MAX_HEADER_BYTES`. `payload` is the frame as it will be sent,
    /// trailers included, in one or more pieces; its first piece holds the Ethernet header and a tag where there is one. A payload
    /// over 65 000 bytes has no valid outer length; `longest_frame_bytes` keeps such copies away.
    ///
    /// # Panics
    /// If `out` is shorter than `MAX_HEADER_BYTES`.
    #[inline]
    pub fn write(&self, facts: &CopyFacts, payload: &[&[u8]], out: &mut [u8]) -> Written {
        match self {
            Self::Local => Written { header_bytes: 0, replaced_bytes: 0 },
            Self::Rspan { tag, mode } => write_rspan(*tag, *mode, payload, out),
            Self::Tunnel(tunnel) => {
                tunnel.write(facts, payload, out);
                Written { header_bytes: tunnel.header_bytes, replaced_bytes: 0 }
            }
        }
    }
}

/// The tag goes after the addresses, so they are written again in front of it and the payload begins behind them. A frame shorter
/// than its addresses stays as it is.
#[inline]
fn write_rspan(tag: VlanTag, mode: RspanTag, payload: &[&[u8]], out: &mut [u8]) -> Written {
    let first = payload.first().copied().unwrap_or_default();
    let Some(addresses) = first.get(..ethernet::ADDRESSES_LEN) else {
        return Written { header_bytes: 0, replaced_bytes: 0 };
    };
    let replaced =
        if mode == RspanTag::Replace && vlan::outer_tag(first).is_some() { vlan::TAG_LEN } else { 0 };
    out[..12].copy_from_slice(addresses);
    out[12..16].copy_from_slice(&vlan::tag(vlan::TPID_8021Q, tag));
    Written { header_bytes: 16, replaced_bytes: ethernet::ADDRESSES_LEN + replaced }
}

impl Tunnel {
    fn new(outer: &Outer, encapsulation: &Encapsulation) -> Result<Self, TransportError> {
        if outer.ttl == 0 {
            return Err(TransportError::ZeroTtl);
        }
        at_most("dscp", outer.dscp.into(), 63)?;
        if let Some(tag) = outer.vlan {
            at_most("vlan", tag.vlan.into(), 4094)?;
            at_most("priority", tag.priority.into(), 7)?;
        }
        let mut template = [0; TEMPLATE_BYTES];
        template[..6].copy_from_slice(&outer.destination_mac.0);
        template[6..12].copy_from_slice(&outer.source_mac.0);
        let mut network_offset = ethernet::HEADER_LEN;
        if let Some(tag) = outer.vlan {
            template[12..16].copy_from_slice(&vlan::tag(vlan::TPID_8021Q, tag));
            network_offset += vlan::TAG_LEN;
        }

        let is_udp = matches!(encapsulation, Encapsulation::Vxlan { .. } | Encapsulation::Geneve { .. });
        let protocol = if is_udp { ip::UDP } else { ip::GRE };
        let (ethertype, transport_offset) = match (outer.source, outer.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol,
                    ttl: outer.ttl,
                    dscp: outer.dscp,
                    dont_fragment: outer.dont_fragment,
                    identification: 0,
                    total_len: 0,
                };
                ipv4::write(&mut template[network_offset..], &header);
                (ethernet::TYPE_IPV4, network_offset + ipv4::HEADER_LEN)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = ipv6::Header {
                    source,
                    destination,
                    next_header: protocol,
                    hop_limit: outer.ttl,
                    dscp: outer.dscp,
                    flow_label: 0,
                    payload_len: 0,
                };
                ipv6::write(&mut template[network_offset..], &header);
                (ethernet::TYPE_IPV6, network_offset + ipv6::HEADER_LEN)
            }
            (source_address, destination) => {
                return Err(TransportError::MixedFamilies { source_address, destination });
            }
        };
        let is_ipv6 = ethertype == ethernet::TYPE_IPV6;
        template[network_offset - 2..network_offset].copy_from_slice(&ethertype.to_be_bytes());

        let (fields, fields_bytes) =
            Self::fields(encapsulation, is_ipv6, &mut template[transport_offset..])?;
        let constant_sum = if is_ipv6 {
            Sum::default().bytes(&template[network_offset + 8..network_offset + 40]).word(protocol.into())
        } else {
            template[network_offset + 10..network_offset + 12].fill(0);
            Sum::default().bytes(&template[network_offset..network_offset + ipv4::HEADER_LEN])
        };
        let header_bytes = transport_offset + fields_bytes;
        let dont_fragment = outer.dont_fragment;
        Ok(Self {
            template,
            header_bytes,
            network_offset,
            transport_offset,
            is_ipv6,
            dont_fragment,
            constant_sum,
            fields,
        })
    }

    /// Writes the template of what follows IP; returns what each copy changes in it, and its bytes.
    fn fields(
        encapsulation: &Encapsulation,
        is_ipv6: bool,
        out: &mut [u8],
    ) -> Result<(Fields, usize), TransportError> {
        let udp = |out: &mut [u8], port: u16, header: [u8; 8], checksum: Option<bool>| {
            out[..8].copy_from_slice(&udp::header(0, port, 0, 0));
            out[8..16].copy_from_slice(&header);
            let checksum =
                if checksum.unwrap_or(is_ipv6) { UdpChecksum::Computed } else { UdpChecksum::Zero };
            (Fields::Udp { checksum }, 16)
        };
        Ok(match *encapsulation {
            Encapsulation::Erspan1 => (Fields::Gre, gre::write(out, gre::TYPE_ERSPAN, None, None)),
            Encapsulation::Erspan2(said) => {
                let Erspan2 { session, cos, index } = said;
                at_most("class of service", cos.unwrap_or(0).into(), 7)?;
                at_most("session", session.into(), erspan::MAX_SESSION.into())?;
                at_most("index", index.unwrap_or(0), 0xf_ffff)?;
                let gre_bytes = gre::write(out, gre::TYPE_ERSPAN, None, Some(0));
                (Fields::Erspan2(said), gre_bytes + erspan::HEADER2_LEN)
            }
            Encapsulation::Erspan3(said) => {
                let Erspan3 { session, cos, security_group_tag, hardware, granularity, subheader, .. } =
                    said;
                at_most("class of service", cos.unwrap_or(0).into(), 7)?;
                at_most("session", session.into(), erspan::MAX_SESSION.into())?;
                at_most("hardware id", hardware.unwrap_or(0).into(), 63)?;
                if let Subheader::Seconds { switch } = subheader {
                    at_most("switch id", switch.into(), 1023)?;
                    if granularity != Granularity::Ieee1588 {
                        return Err(TransportError::SecondsWithoutNanoseconds);
                    }
                }
                let gre_bytes = gre::write(out, gre::TYPE_ERSPAN3, None, Some(0));
                let base = erspan::Type3 {
                    security_group_tag,
                    granularity: granularity as u8,
                    ..Default::default()
                };
                let subheader_bytes = if subheader == Subheader::None { 0 } else { erspan::SUBHEADER_LEN };
                (Fields::Erspan3 { said, base }, gre_bytes + erspan::HEADER3_LEN + subheader_bytes)
            }
            Encapsulation::Vxlan { vni, udp_port, udp_checksum } => {
                at_most("vni", vni, 0xff_ffff)?;
                udp(out, udp_port.unwrap_or(udp::PORT_VXLAN), vxlan::header(vni), udp_checksum)
            }
            Encapsulation::Geneve { vni, udp_port, udp_checksum } => {
                at_most("vni", vni, 0xff_ffff)?;
                udp(out, udp_port.unwrap_or(udp::PORT_GENEVE), geneve::header(vni), udp_checksum)
            }
            Encapsulation::Gre { key } => (Fields::Gre, gre::write(out, ethernet::TYPE_TEB, key, None)),
        })
    }

    /// As [`Transport::has_sent`], which says more.
    fn has_sent(&self, packet: &[u8]) -> bool {
        let network = &self.template[self.network_offset..self.transport_offset];
        let transport = &self.template[self.transport_offset..self.header_bytes];
        let Some((header, rest)) = packet.split_at_checked(network.len()) else { return false };
        let (protocol, addresses) = if self.is_ipv6 { (6, 8..40) } else { (9, 12..20) };
        if header[0] >> 4 != network[0] >> 4
            || header[protocol] != network[protocol]
            || header[addresses.clone()] != network[addresses]
        {
            return false;
        }
        // what no copy changes: the rest is compared as far as it was quoted
        let constant = match self.fields {
            Fields::Gre => 0..transport.len(),
            Fields::Erspan2(_) | Fields::Erspan3 { .. } => 0..4,
            Fields::Udp { .. } => 2..4,
        };
        if rest.len() < 4
            || rest[constant.start..constant.end.min(rest.len())]
                != transport[constant.start..constant.end.min(rest.len())]
        {
            return false;
        }
        match self.fields {
            Fields::Gre => true,
            Fields::Erspan2(Erspan2 { session, .. })
            | Fields::Erspan3 { said: Erspan3 { session, .. }, .. } => {
                erspan::Erspan::at(rest, 8).is_none_or(|header| header.session() == session)
            }
            Fields::Udp { .. } => {
                let quoted = rest.len().min(transport.len()).max(8);
                rest.get(8..quoted) == transport.get(8..quoted)
            }
        }
    }

    /// Bytes of the outer headers.
    #[inline(always)]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Returns whether `CopyFacts::sequence` is written: as such, or as the identification of datagrams that may be fragmented.
    #[inline(always)]
    pub fn says_sequence(&self) -> bool {
        matches!(self.fields, Fields::Erspan2(_) | Fields::Erspan3 { .. })
            || !self.is_ipv6 && !self.dont_fragment
    }

    fn blank_sequence(&self, copy: &mut [u8]) {
        let mut blank = |at: usize, len: usize| copy.get_mut(at..at + len).unwrap_or_default().fill(0);
        if matches!(self.fields, Fields::Erspan2(_) | Fields::Erspan3 { .. }) {
            blank(self.transport_offset + 4, 4);
        }
        if !self.is_ipv6 && !self.dont_fragment {
            blank(self.network_offset + 4, 2);
            blank(self.network_offset + 10, 2);
        }
    }

    /// Gives the shape of the headers that `write` writes for each copy.
    pub fn shape(&self) -> HeaderShape {
        let kind = match self.fields {
            Fields::Gre => Kind::Gre,
            Fields::Erspan2(_) => Kind::Erspan2,
            Fields::Erspan3 { .. } => Kind::Erspan3,
            Fields::Udp { checksum: UdpChecksum::Zero } => Kind::Udp,
            Fields::Udp { .. } => Kind::UdpChecked,
        };
        HeaderShape { kind, is_ipv6: self.is_ipv6, is_a_line: self.header_bytes <= 64 }
    }

    /// As [`Transport::write`], which says more.
    #[inline]
    pub fn write(&self, facts: &CopyFacts, payload: &[&[u8]], out: &mut [u8]) {
        self.write_shape(self.shape(), facts, payload, out);
    }

    /// As [`write`](Self::write), of a tunnel of this shape: where the caller knows it at compile time, nothing is looked up for
    /// each copy.
    #[inline(always)]
    pub fn write_shape(&self, shape: HeaderShape, facts: &CopyFacts, payload: &[&[u8]], out: &mut [u8]) {
        let out: &mut [u8; MAX_HEADER_BYTES] =
            out.first_chunk_mut().expect("the caller gives MAX_HEADER_BYTES");
        if shape.is_a_line {
            out[..64].copy_from_slice(&self.template[..64]);
        } else {
            out.copy_from_slice(&self.template[..MAX_HEADER_BYTES]);
        }
        let payload_bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        let datagram_bytes = (self.header_bytes - self.transport_offset + payload_bytes) as u16;
        match (shape.kind, &self.fields) {
            (Kind::Erspan2, Fields::Erspan2(Erspan2 { session, cos, index })) => {
                let at = self.transport_offset + 4;
                out[at..at + 4].copy_from_slice(&facts.sequence.to_be_bytes());
                let header = erspan::type2(
                    mirrored(*session, *cos, facts, payload),
                    index.unwrap_or(facts.port.into()),
                );
                out[at + 4..at + 12].copy_from_slice(&header);
            }
            (Kind::Erspan3, Fields::Erspan3 { said, base }) => {
                let Erspan3 { session, cos, direction, hardware, granularity, subheader, .. } = said;
                let at = self.transport_offset + 4;
                out[at..at + 4].copy_from_slice(&facts.sequence.to_be_bytes());
                let ticks = match granularity {
                    Granularity::HundredMicroseconds => facts.stamp.ns / 100_000,
                    Granularity::HundredNanoseconds => facts.stamp.ns / 100,
                    Granularity::Ieee1588 => {
                        u64::from(facts.stamp.seconds()) << 32 | u64::from(facts.stamp.nanoseconds())
                    }
                };
                let type3 = erspan::Type3 {
                    timestamp: ticks as u32,
                    hardware: hardware.unwrap_or((facts.port & 0x3f) as u8),
                    egress: direction.unwrap_or(facts.direction) == Direction::Egress,
                    subheader: match *subheader {
                        Subheader::None => None,
                        Subheader::UpperBits => Some((3 << 26, (ticks >> 32) as u32)),
                        Subheader::Seconds { switch } => Some((
                            5 << 26 | u32::from(switch & 0x3ff) << 16 | u32::from(facts.port),
                            facts.stamp.seconds(),
                        )),
                    },
                    ..*base
                };
                erspan::write_type3(&mut out[at + 4..], mirrored(*session, *cos, facts, payload), &type3);
            }
            (kind @ (Kind::Udp | Kind::UdpChecked), fields) => {
                let at = self.transport_offset;
                // Source ports from the dynamic range spread flows over paths and receive queues (RFC 7348, section 5).
                let port = 0xc000 | (facts.flow_hash ^ facts.flow_hash >> 16) as u16 & 0x3fff;
                out[at..at + 2].copy_from_slice(&port.to_be_bytes());
                out[at + 4..at + 6].copy_from_slice(&datagram_bytes.to_be_bytes());
                if kind == Kind::UdpChecked {
                    let sum = match fields {
                        Fields::Udp { checksum: UdpChecksum::Computed } => self
                            .pseudo_sum(datagram_bytes)
                            .bytes(&out[at..self.header_bytes])
                            .segments(payload)
                            .udp_checksum(),
                        _ => self.pseudo_sum(datagram_bytes).folded(),
                    };
                    out[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
                }
            }
            _ => {}
        }
        self.patch_network(shape, facts, datagram_bytes, out);
    }

    fn pseudo_sum(&self, datagram_bytes: u16) -> Sum {
        if self.is_ipv6 {
            return self.constant_sum.word(datagram_bytes);
        }
        let addresses = &self.template[self.network_offset + 12..self.network_offset + 20];
        Sum::default().bytes(addresses).word(ip::UDP.into()).word(datagram_bytes)
    }

    #[inline(always)]
    fn patch_network(
        &self,
        shape: HeaderShape,
        facts: &CopyFacts,
        datagram_bytes: u16,
        out: &mut [u8; MAX_HEADER_BYTES],
    ) {
        let at = self.network_offset;
        if shape.is_ipv6 {
            // The flow label lets routers spread flows that they cannot look into (RFC 6438).
            let [_, a, b, c] = facts.flow_hash.to_be_bytes();
            out[at + 1] = self.template[at + 1] & 0xf0 | a & 0x0f;
            out[at + 2] = b;
            out[at + 3] = c;
            out[at + 4..at + 6].copy_from_slice(&datagram_bytes.to_be_bytes());
            return;
        }
        let total_bytes = datagram_bytes.wrapping_add(ipv4::HEADER_LEN as u16);
        // A datagram that is never fragmented needs no identification (RFC 6864, section 4.1).
        let identification = if self.dont_fragment { 0 } else { facts.sequence as u16 };
        out[at + 2..at + 4].copy_from_slice(&total_bytes.to_be_bytes());
        out[at + 4..at + 6].copy_from_slice(&identification.to_be_bytes());
        let checksum = self.constant_sum.word(total_bytes).word(identification).checksum();
        out[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[inline(always)]
fn mirrored(session: u16, cos: Option<u8>, facts: &CopyFacts, payload: &[&[u8]]) -> erspan::Mirrored {
    let tag = payload.first().and_then(|first| vlan::outer_tag(first));
    erspan::Mirrored {
        session,
        tag,
        cos: cos.or(tag.map(|tag| tag.priority)).unwrap_or(0),
        truncated: facts.truncated,
    }
}

/// The decision of `Oversize` for one copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    Whole,
    /// Keep this many bytes of the frame, then append the trailer.
    Slice {
        keep_bytes: usize,
    },
    Drop,
}

/// The MTU arithmetic of one tool: what its path carries, less what Tapline adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathRoom {
    longest_frame_bytes: usize,
    oversize: Oversize,
}

impl PathRoom {
    /// `mtu` of the tool's path, the transport, and the bytes that edits and the timestamp format add to each frame (tag, trailer).
    pub fn new(mtu: usize, transport: &Transport, added_bytes: usize, oversize: Oversize) -> Self {
        Self {
            longest_frame_bytes: transport.longest_frame_bytes(mtu).saturating_sub(added_bytes),
            oversize,
        }
    }

    /// The longest frame that fits whole, from the Ethernet header, without what Tapline adds.
    pub fn longest_frame_bytes(&self) -> usize {
        self.longest_frame_bytes
    }

    /// Checks, with the plan, that frames of up to `frame_bytes` may come. `Err` is the longest that fits.
    pub fn check(&self, frame_bytes: usize) -> Result<(), usize> {
        match self.oversize {
            Oversize::FragmentNever if frame_bytes > self.longest_frame_bytes => {
                Err(self.longest_frame_bytes)
            }
            _ => Ok(()),
        }
    }

    /// Decides what becomes of a copy of `frame_bytes`.
    #[inline(always)]
    pub fn fit(&self, frame_bytes: usize) -> Fit {
        if frame_bytes <= self.longest_frame_bytes {
            return Fit::Whole;
        }
        match self.oversize {
            // Less than an Ethernet header is no copy.
            Oversize::Slice if self.longest_frame_bytes >= ethernet::HEADER_LEN => {
                Fit::Slice { keep_bytes: self.longest_frame_bytes }
            }
            _ => Fit::Drop,
        }
    }
}
