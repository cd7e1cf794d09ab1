//! The way inwards: from the outermost stack through the encapsulations.

use super::outer::{ethernet_stack, network_stack};
use super::{Carried, Layers, Shell, ShellKind, Stack, parse_outer, parsed_bytes};
use crate::frame::Frame;
use crate::headers::erspan;
use crate::headers::erspan::{Erspan, Erspan3};
use crate::headers::ethernet;
use crate::headers::geneve::Geneve;
use crate::headers::gre;
use crate::headers::gre::Gre;
use crate::headers::gtp;
use crate::headers::gtp::Gtp;
use crate::headers::pppoe;
use crate::headers::udp;
use crate::headers::udp::Udp;
use crate::headers::vxlan;
use crate::headers::vxlan::Vxlan;
use crate::headers::{ip, u32_at, vlan};

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
pub(super) enum Fragments {
    Enter,
    Stop,
}

/// Follows the encapsulations from `layers.outer` inwards.
#[inline(never)]
pub(super) fn walk(bytes: &[u8], layers: &mut Layers, fragments: Fragments) {
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
pub(super) fn may_have_shells(bytes: &[u8], stack: &Stack) -> bool {
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

pub(super) fn carried(ethertype: u16) -> Carried {
    if ethertype == ethernet::TYPE_TEB { Carried::Ethernet } else { Carried::Network(ethertype) }
}

/// The ethertype of the IP packet at `offset`, told by its version.
pub(super) fn ip_ethertype(bytes: &[u8], offset: usize) -> Option<u16> {
    match bytes.get(offset)? {
        0x45..=0x4f => Some(ethernet::TYPE_IPV4),
        0x60..=0x6f => Some(ethernet::TYPE_IPV6),
        _ => None,
    }
}

pub(super) fn ppp_ethertype(protocol: u16) -> Option<u16> {
    match protocol {
        pppoe::PPP_IPV4 => Some(ethernet::TYPE_IPV4),
        pppoe::PPP_IPV6 => Some(ethernet::TYPE_IPV6),
        _ => None,
    }
}
