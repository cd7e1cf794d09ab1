//! The readers of encapsulations' headers: one for each row of the table that is found by one number alone.

use super::inside;
use super::inside::Inside;
use super::table::{Cargo, Header};
use crate::headers::capwap::Capwap;
use crate::headers::geneve::Geneve;
use crate::headers::gtp;
use crate::headers::gtp::Gtp;
use crate::headers::ipv6;
use crate::headers::ipv6::Ipv6;
use crate::headers::l2tp;
use crate::headers::nsh;
use crate::headers::nsh::Nsh;
use crate::headers::ppp::Ppp;
use crate::headers::vxlan;
use crate::headers::vxlan::Vxlan;
use crate::headers::{ethernet, ip, tags, teredo, tzsp, u16_at, udp, vlan, wlan};

impl Cargo {
    pub(super) fn of_ethertype(ethertype: Option<u16>) -> Self {
        match ethertype {
            Some(ethernet::TYPE_IPV4) => Cargo::Ipv4,
            Some(ethernet::TYPE_IPV6) => Cargo::Ipv6,
            Some(ethernet::TYPE_MPLS) => Cargo::Mpls,
            Some(ethernet::TYPE_MPLS_MULTICAST) => Cargo::MplsMulticast,
            _ => Cargo::Unknown,
        }
    }
}

/// Those that are told apart from others of their family, or are part of the link header: GRE and ERSPAN, labels, PPPoE.
pub(super) fn elsewhere(_: &[u8], _: usize, _: u16) -> Header {
    Header::Absent
}

/// A run of tags, from behind the first TPID to the type that ends it.
pub(super) fn vlan_tags(bytes: &[u8], at: usize, _: u16) -> Header {
    let mut len = 0;
    loop {
        let Some(next) = u16_at(bytes, at + len + 2) else {
            return if len == 0 { Header::Closed } else { Header::Open { len, cargo: Cargo::TypeAtEnd } };
        };
        len += vlan::TAG_LEN;
        if !vlan::is_tpid(next) || len == usize::from(super::MAX_TAGS) * vlan::TAG_LEN {
            return Header::Open { len, cargo: Cargo::TypeAtEnd };
        }
    }
}

pub(super) fn other_tag(bytes: &[u8], at: usize, ethertype: u16) -> Header {
    const TELLING_LEN: usize = 4;
    match tags::header_len(bytes, at, ethertype) {
        Some(len) if at + len <= bytes.len() => Header::Open { len, cargo: Cargo::TypeAtEnd },
        None if at + TELLING_LEN <= bytes.len() => Header::Absent,
        _ => Header::Closed,
    }
}

pub(super) fn mpls_in_ip(_: &[u8], _: usize, _: u16) -> Header {
    Header::Open { len: 0, cargo: Cargo::Mpls }
}

/// Forwarding tag and time to live stand in front of the frame.
pub(super) fn fabricpath(_: &[u8], _: usize, _: u16) -> Header {
    Header::Open { len: 2, cargo: Cargo::Ethernet }
}

pub(super) fn bare_ethernet(_: &[u8], _: usize, _: u16) -> Header {
    Header::Open { len: 0, cargo: Cargo::Ethernet }
}

pub(super) fn nsh(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Nsh::at(bytes, at) else { return Header::Closed };
    if !header.is_sound() {
        return Header::Absent;
    }
    let cargo = match header.next_protocol() {
        nsh::NEXT_IPV4 => Cargo::Ipv4,
        nsh::NEXT_IPV6 => Cargo::Ipv6,
        nsh::NEXT_ETHERNET => Cargo::Ethernet,
        nsh::NEXT_NSH => Cargo::Nsh,
        nsh::NEXT_MPLS => Cargo::Mpls,
        _ => Cargo::Unknown,
    };
    Header::Open { len: header.header_len(), cargo }
}

/// The protocol number says which IP it is; the version has to agree.
pub(super) fn ipip(bytes: &[u8], at: usize, protocol: u16) -> Header {
    let Some(first) = bytes.get(at) else { return Header::Closed };
    match (first, protocol as u8) {
        (0x45..=0x4f, ip::IPV4) => Header::Open { len: 0, cargo: Cargo::Ipv4 },
        (0x60..=0x6f, ip::IPV6) => Header::Open { len: 0, cargo: Cargo::Ipv6 },
        _ => Header::Absent,
    }
}

/// Version 3, and twelve bits that are zero (RFC 3378, 3).
pub(super) fn etherip(bytes: &[u8], at: usize, _: u16) -> Header {
    match u16_at(bytes, at) {
        Some(0x3000) => Header::Open { len: 2, cargo: Cargo::Ethernet },
        Some(_) => Header::Absent,
        None => Header::Closed,
    }
}

/// Some senders leave the I flag clear; then the frame has to confirm the port.
pub(super) fn vxlan(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Vxlan::at(bytes, at) else { return Header::Closed };
    if header.is_vni_valid() || inside::has_known_type(bytes, at + vxlan::HEADER_LEN) {
        Header::Open { len: vxlan::HEADER_LEN, cargo: Cargo::Ethernet }
    } else {
        Header::Absent
    }
}

pub(super) fn vxlan_gpe(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Vxlan::at(bytes, at) else { return Header::Closed };
    if !header.is_vni_valid() {
        return Header::Absent;
    }
    let cargo = match header.next_protocol() {
        vxlan::NEXT_IPV4 => Cargo::Ipv4,
        vxlan::NEXT_IPV6 => Cargo::Ipv6,
        vxlan::NEXT_ETHERNET => Cargo::Ethernet,
        vxlan::NEXT_NSH => Cargo::Nsh,
        _ => Cargo::Unknown,
    };
    Header::Open { len: vxlan::HEADER_LEN, cargo }
}

pub(super) fn geneve(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Geneve::at(bytes, at) else { return Header::Closed };
    if header.version() != 0 {
        return Header::Absent;
    }
    let is_frame = header.protocol() == ethernet::TYPE_TEB;
    let cargo = if is_frame { Cargo::Ethernet } else { Cargo::TypeAtTwo };
    Header::Open { len: header.header_len(), cargo }
}

pub(super) fn gtp_u(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Gtp::at(bytes, at) else { return Header::Closed };
    if !header.is_gtp_u() || gtp::keeps_alive(header.message_type()) {
        return Header::Absent;
    }
    if header.message_type() != gtp::G_PDU {
        return Header::Closed;
    }
    let Some(len) = gtp::header_len(bytes, at) else { return Header::Closed };
    // The header does not say what kind of session this is (TS 29.281, 5.1).
    let cargo = match inside::inside(bytes, at + len) {
        Inside::Ipv4 => Cargo::Ipv4,
        Inside::Ipv6 => Cargo::Ipv6,
        Inside::Frame => Cargo::Ethernet,
        Inside::Cut | Inside::Unknown => Cargo::Unknown,
    };
    Header::Open { len, cargo }
}

pub(super) fn tzsp(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(protocol) = tzsp::protocol(bytes, at) else { return Header::Closed };
    if !tzsp::is_frame(bytes, at) {
        return Header::Absent;
    }
    let Some(len) = tzsp::header_len(bytes, at) else { return Header::Closed };
    match protocol {
        tzsp::ETHERNET => Header::Open { len, cargo: Cargo::Ethernet },
        tzsp::IEEE_80211 => wlan_behind(bytes, at, len),
        _ => Header::Open { len, cargo: Cargo::Unknown },
    }
}

/// The packet in a data frame of 802.11 that follows `len` bytes of header.
fn wlan_behind(bytes: &[u8], at: usize, len: usize) -> Header {
    match wlan::header_len(bytes, at + len) {
        Some(wlan_len) => Header::Open { len: len + wlan_len, cargo: Cargo::TypeAtEnd },
        None if at + len + wlan::LONGEST_LEN > bytes.len() => Header::Closed,
        None => Header::Open { len, cargo: Cargo::Unknown },
    }
}

pub(super) fn l2tp(bytes: &[u8], at: usize, _: u16) -> Header {
    const VERSION_3: u16 = 3;
    let Some(flags) = u16_at(bytes, at) else { return Header::Closed };
    if !l2tp::is_version_2(flags) {
        return if flags & 0x0f == VERSION_3 { Header::Closed } else { Header::Absent };
    }
    if l2tp::is_control(flags) {
        return Header::Closed;
    }
    match l2tp::header_len(bytes, at, flags) {
        Some(len) => ppp_behind(bytes, at, len),
        None => Header::Closed,
    }
}

/// The packet in PPP that follows `len` bytes of header.
pub(super) fn ppp_behind(bytes: &[u8], at: usize, len: usize) -> Header {
    match Ppp::at(bytes, at + len) {
        Some(ppp) => Header::Open { len: len + ppp.len, cargo: Cargo::of_ethertype(ppp.ethertype()) },
        None => Header::Closed,
    }
}

/// The IPv6 packet has to fit into the datagram, and is all of it but for what stands in front.
pub(super) fn teredo(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(len) = teredo::header_len(bytes, at) else { return Header::Closed };
    let Some(packet) = Ipv6::at(bytes, at + len) else { return Header::Closed };
    let datagram = u16_at(bytes, at - udp::HEADER_LEN + 4).map_or(0, usize::from);
    let needed = udp::HEADER_LEN + len + ipv6::HEADER_LEN + usize::from(packet.payload_len());
    if packet.version() == 6 && needed <= datagram {
        Header::Open { len, cargo: Cargo::Ipv6 }
    } else {
        Header::Absent
    }
}

pub(super) fn capwap(bytes: &[u8], at: usize, _: u16) -> Header {
    let Some(header) = Capwap::at(bytes, at) else { return Header::Closed };
    if header.is_dtls() {
        return Header::Closed;
    }
    if !header.is_clear() || header.is_keep_alive() {
        return Header::Absent;
    }
    let len = header.header_len();
    if header.is_fragment() {
        Header::Closed
    } else if !header.is_native() {
        Header::Open { len, cargo: Cargo::Ethernet }
    } else if header.is_80211() {
        wlan_behind(bytes, at, len)
    } else {
        Header::Open { len, cargo: Cargo::Unknown }
    }
}
