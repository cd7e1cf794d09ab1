//! One stack: from the link header to the transport header.

use super::inside;
use super::inside::Inside;
use super::table::Header;
use super::walk::{is_carrier_type, tag_kind};
use super::{MAX_EXTENSIONS, MAX_LABELS, MAX_TAGS, Stack};
use crate::headers::arp::Arp;
use crate::headers::ethernet;
use crate::headers::ethernet::Ethernet;
use crate::headers::ipv4::Ipv4;
use crate::headers::ipv6;
use crate::headers::ipv6::Ipv6;
use crate::headers::ppp::Ppp;
use crate::headers::pppoe;
use crate::headers::pppoe::Pppoe;
use crate::headers::{ip, mpls, u16_at, u32_at, vlan};

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

/// Steps over the tags at `at`.
#[inline(always)]
fn link(bytes: &[u8], mut at: usize, mut ethertype: u16, mut stack: Stack) -> Stack {
    while vlan::is_tpid(ethertype) && stack.vlans() + stack.other_tags() < MAX_TAGS {
        let Some(next) = u16_at(bytes, at + 2) else {
            return stack.with(Stack::CUT).carrying(ethertype, at);
        };
        ethertype = next;
        at += vlan::TAG_LEN;
        stack = stack.with_vlan();
        // Most often nothing else follows.
        if ethertype == ethernet::TYPE_IPV4 {
            return ipv4(bytes, at, stack);
        }
    }
    if tag_kind(ethertype).is_some() {
        other_tag(bytes, at, ethertype, stack)
    } else {
        network(bytes, at, ethertype, stack)
    }
}

/// Steps over a tag that is none of a VLAN, and over those that follow it.
#[inline(never)]
fn other_tag(bytes: &[u8], at: usize, ethertype: u16, stack: Stack) -> Stack {
    let header = tag_kind(ethertype).map_or(Header::Absent, |kind| kind.read(bytes, at, ethertype));
    match header {
        Header::Absent => stack.carrying(ethertype, at),
        Header::Open { len, .. } if stack.vlans() + stack.other_tags() < MAX_TAGS => {
            let Some(next) = u16_at(bytes, at + len - 2) else { return stack.carrying(ethertype, at) };
            link(bytes, at + len, next, stack.with_other_tag())
        }
        Header::Closed | Header::Open { .. } => stack.with(Stack::CUT).carrying(ethertype, at),
    }
}

/// Describes the packet of type `ethertype` at `at`.
#[inline(always)]
fn network(bytes: &[u8], at: usize, ethertype: u16, stack: Stack) -> Stack {
    match ethertype {
        ethernet::TYPE_IPV4 => ipv4(bytes, at, stack),
        ethernet::TYPE_IPV6 => ipv6(bytes, at, stack),
        ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST => labels(bytes, at, ethertype, stack),
        ethernet::TYPE_PPPOE_SESSION => pppoe(bytes, at, stack),
        ethertype if is_carrier_type(ethertype) => stack.carrying(ethertype, at).with_carrier_type(),
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

/// Steps over the MPLS label stack at `at`. What it carries is not said in the packet: see [`inside`]. Ethernet may stand behind a
/// control word (RFC 4448, 4.1).
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
    // A frame may stand behind a control word, whose first bits are zero; no IP begins so.
    let behind_control_word = at + mpls::CONTROL_WORD_LEN;
    if bytes.get(at).is_some_and(|first| first >> 4 == 0)
        && inside::has_known_type(bytes, behind_control_word)
    {
        return stack.carrying(ethernet::TYPE_TEB, behind_control_word);
    }
    match inside::inside(bytes, at) {
        Inside::Ipv4 => ipv4(bytes, at, stack),
        Inside::Ipv6 => ipv6(bytes, at, stack),
        Inside::Frame => stack.carrying(ethernet::TYPE_TEB, at),
        Inside::Cut => stack.with(Stack::CUT).carrying(ethertype, at),
        Inside::Unknown => stack.carrying(ethertype, at),
    }
}

#[inline(never)]
fn pppoe(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    let headers = Pppoe::at(bytes, at).zip(Ppp::at(bytes, at + pppoe::HEADER_LEN));
    let Some((header, ppp)) = headers else {
        return stack.with(Stack::CUT).carrying(ethernet::TYPE_PPPOE_SESSION, at);
    };
    let l3 = at + pppoe::HEADER_LEN + ppp.len;
    let stack_inside = stack.with(Stack::PPPOE);
    match ppp.ethertype().filter(|_| header.is_session()) {
        Some(ethernet::TYPE_IPV4) => ipv4(bytes, l3, stack_inside),
        Some(ethernet::TYPE_IPV6) => ipv6(bytes, l3, stack_inside),
        Some(ethertype) => labels(bytes, l3, ethertype, stack_inside),
        None => stack.carrying(ethernet::TYPE_PPPOE_SESSION, at),
    }
}
