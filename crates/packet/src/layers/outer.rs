//! One stack: from the link header to the transport header.

use super::inside;
use super::inside::Inside;
use super::stack::Words;
use super::table::Header;
use super::walk::{is_carrier_type, tag_kind};
use super::{MAX_EXTENSIONS, MAX_LABELS, MAX_TAGS, ShellKind, Stack};
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
        ethertype => Stack::of(link(bytes, l3, ethertype, stack.words())),
    }
}

/// The stack of a packet of type `ethertype` that stands at `at` with no Ethernet header in front.
pub fn network_stack(bytes: &[u8], at: usize, ethertype: u16) -> Stack {
    Stack::of(network(bytes, at, ethertype, Stack::at_link(Stack::NO_ETHERNET).words()))
}

/// Steps over the tags of a frame, which begin at `at`.
#[inline(never)]
fn link(bytes: &[u8], at: usize, ethertype: u16, stack: Words) -> Words {
    // Most often it is one tag of a VLAN, and IP follows.
    if vlan::is_tpid(ethertype)
        && let Some(next) = u16_at(bytes, at + 2)
    {
        let (behind, tagged) = (at + vlan::TAG_LEN, Stack::of(stack).with_vlan());
        match next {
            ethernet::TYPE_IPV4 => return ipv4(bytes, behind, tagged).words(),
            ethernet::TYPE_IPV6 => return ipv6(bytes, behind, tagged).words(),
            _ => {}
        }
    }
    tags(bytes, at, ethertype, stack)
}

/// Steps over any tags, in front of which others may stand.
#[inline(never)]
fn tags(bytes: &[u8], mut at: usize, mut ethertype: u16, stack: Words) -> Words {
    let mut stack = Stack::of(stack);
    while vlan::is_tpid(ethertype) && stack.vlans() + stack.other_tags() < MAX_TAGS {
        let Some(next) = u16_at(bytes, at + 2) else {
            return stack.with(Stack::CUT).carrying(ethertype, at).words();
        };
        ethertype = next;
        at += vlan::TAG_LEN;
        stack = stack.with_vlan();
    }
    match tag_kind(ethertype) {
        Some(kind) => other_tag(bytes, at, ethertype, kind, stack.words()),
        None => network(bytes, at, ethertype, stack.words()),
    }
}

/// Steps over a tag that is none of a VLAN, and over those that follow it.
#[inline(never)]
fn other_tag(bytes: &[u8], at: usize, ethertype: u16, kind: ShellKind, stack: Words) -> Words {
    let stack = Stack::of(stack);
    match kind.read(bytes, at, ethertype) {
        Header::Absent => stack.carrying(ethertype, at).words(),
        Header::Open { len, .. } if stack.vlans() + stack.other_tags() < MAX_TAGS => {
            match u16_at(bytes, at + len - 2) {
                Some(next) => tags(bytes, at + len, next, stack.with_other_tag().words()),
                None => stack.carrying(ethertype, at).words(),
            }
        }
        Header::Closed | Header::Open { .. } => stack.with(Stack::CUT).carrying(ethertype, at).words(),
    }
}

/// Describes the packet of type `ethertype` at `at`.
#[inline(never)]
fn network(bytes: &[u8], at: usize, ethertype: u16, stack: Words) -> Words {
    match ethertype {
        ethernet::TYPE_IPV4 => return ipv4(bytes, at, Stack::of(stack)).words(),
        ethernet::TYPE_IPV6 => return ipv6(bytes, at, Stack::of(stack)).words(),
        ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST => return labels(bytes, at, ethertype, stack),
        ethernet::TYPE_PPPOE_SESSION => return pppoe(bytes, at, stack),
        _ => {}
    }
    let stack = Stack::of(stack).carrying(ethertype, at);
    if is_carrier_type(ethertype) {
        return stack.with_carrier_type().words();
    }
    let is_arp = ethertype == ethernet::TYPE_ARP
        && Arp::at(bytes, at).is_some_and(|arp| arp.is_ipv4_over_ethernet());
    stack.with(flag(is_arp, Stack::ARP)).words()
}

#[inline(always)]
fn ipv4(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    let stack = stack.carrying(ethernet::TYPE_IPV4, at);
    let header = match Ipv4::at(bytes, at) {
        Some(header) if header.is_sound() => header,
        _ => return stack.with(Stack::CUT),
    };
    let stack = stack.with(Stack::IPV4).with_protocol(header.protocol());
    let l4 = at + header.header_len();
    if header.is_fragment() {
        let is_later = header.fragment_offset() != 0;
        Stack::of(fragment(bytes.len(), l4, is_later, stack.words()))
    } else {
        transport(bytes, l4, stack)
    }
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
        Stack::of(extensions(bytes, l4, stack.words()))
    } else {
        transport(bytes, l4, stack)
    }
}

/// Steps over the IPv6 extension headers at `at`.
#[inline(never)]
fn extensions(bytes: &[u8], mut at: usize, stack: Words) -> Words {
    let mut stack = Stack::of(stack);
    let mut is_fragment = false;
    for _ in 0..MAX_EXTENSIONS {
        let Some(extension) = ipv6::extension(bytes, at, stack.protocol()) else { break };
        at += extension.len;
        let is_later = extension.fragment_offset != 0;
        is_fragment |= is_later || extension.more_fragments;
        stack = stack.with_protocol(extension.next_header);
        if is_later || !ip::is_extension(stack.protocol()) {
            return match is_fragment {
                true => fragment(bytes.len(), at, is_later, stack.words()),
                false => transport(bytes, at, stack).words(),
            };
        }
    }
    stack.with(Stack::CUT | flag(is_fragment, Stack::FRAGMENT)).words()
}

/// Notes that the IP header ends at `at`, and whether ports stand there.
#[inline(always)]
fn transport(bytes: &[u8], at: usize, stack: Stack) -> Stack {
    if at + 4 > bytes.len() {
        return Stack::of(cut_transport(bytes.len(), at, stack.words()));
    }
    stack.with_l4(at).with(flag(ip::has_ports(stack.protocol()), Stack::PORTS))
}

/// As [`transport`], where less than ports is there.
#[cold]
#[inline(never)]
fn cut_transport(len: usize, at: usize, stack: Words) -> Words {
    let stack = Stack::of(stack);
    if at > len {
        return stack.with(Stack::CUT).words();
    }
    let are_ports_cut = ip::has_ports(stack.protocol()) && !stack.is_later_fragment();
    stack.with_l4(at).with(flag(are_ports_cut, Stack::CUT)).words()
}

/// As [`transport`], of a fragment in a packet of `len` bytes.
#[inline(never)]
fn fragment(len: usize, at: usize, is_later: bool, stack: Words) -> Words {
    let stack = Stack::of(stack).with(Stack::FRAGMENT | flag(is_later, Stack::LATER_FRAGMENT));
    if at + 4 > len {
        return cut_transport(len, at, stack.words());
    }
    let has_ports = ip::has_ports(stack.protocol()) && !is_later;
    stack.with_l4(at).with(flag(has_ports, Stack::PORTS)).words()
}

/// `bits` where `holds`, else none: no jump, because which packets hold is hard to predict.
#[inline(always)]
fn flag(holds: bool, bits: u8) -> u8 {
    u8::from(holds) * bits
}

/// Steps over the MPLS label stack at `at`. What it carries is not said in the packet: see [`inside`]. Ethernet may stand behind a
/// control word (RFC 4448, 4.1).
#[inline(never)]
fn labels(bytes: &[u8], mut at: usize, ethertype: u16, stack: Words) -> Words {
    let mut stack = Stack::of(stack);
    let mut is_bottom = false;
    while !is_bottom && stack.labels() < MAX_LABELS {
        let Some(entry) = u32_at(bytes, at) else { break };
        is_bottom = mpls::is_bottom(entry);
        at += mpls::LABEL_LEN;
        stack = stack.with_label();
    }
    if !is_bottom {
        return stack.with(Stack::CUT).carrying(ethertype, at).words();
    }
    behind_labels(bytes, at, ethertype, stack).words()
}

/// Describes what stands at `at` behind labels.
#[inline(always)]
fn behind_labels(bytes: &[u8], at: usize, ethertype: u16, stack: Stack) -> Stack {
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
fn pppoe(bytes: &[u8], at: usize, stack: Words) -> Words {
    let stack = Stack::of(stack);
    let headers = Pppoe::at(bytes, at).zip(Ppp::at(bytes, at + pppoe::HEADER_LEN));
    let Some((header, ppp)) = headers else {
        return stack.with(Stack::CUT).carrying(ethernet::TYPE_PPPOE_SESSION, at).words();
    };
    let l3 = at + pppoe::HEADER_LEN + ppp.len;
    let stack_inside = stack.with(Stack::PPPOE);
    match ppp.ethertype().filter(|_| header.is_session()) {
        Some(ethernet::TYPE_IPV4) => ipv4(bytes, l3, stack_inside).words(),
        Some(ethernet::TYPE_IPV6) => ipv6(bytes, l3, stack_inside).words(),
        Some(ethertype) => labels(bytes, l3, ethertype, stack_inside.words()),
        None => stack.carrying(ethernet::TYPE_PPPOE_SESSION, at).words(),
    }
}
