//! The way inwards: from the outermost stack through the encapsulations.

use super::inside;
use super::outer::{ethernet_stack, network_stack};
use super::readers::ppp_behind;
use super::table::{Cargo, Found, Header, TABLE};
use super::{Carried, Layers, Shell, ShellKind, Stack, parse_outer, parsed_bytes};
use crate::extent;
use crate::frame::Frame;
use crate::headers::erspan;
use crate::headers::erspan::{Erspan, Erspan3};
use crate::headers::gre;
use crate::headers::gre::Gre;
use crate::headers::ppp::Ppp;
use crate::headers::udp::Udp;
use crate::headers::{ethernet, ip, ipv6, pppoe, u16_at, u32_at, udp, vlan};

/// The innermost stack that every fragment shows: tunnels whose own packet is fragmented are not gone into.
#[cold]
pub fn innermost_unfragmented(frame: &Frame<'_>) -> Stack {
    let mut layers = Layers::EMPTY;
    parse_outer(frame, &mut layers);
    walk(parsed_bytes(frame), &mut layers, Fragments::Stop);
    layers.inner
}

/// The way to treat a tunnel packet that is the first fragment of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragments {
    Enter,
    Stop,
}

/// The offset of the tags, labels or PPPoE of a stack, and their type; `None` if the type stands in front of them.
#[derive(Clone, Copy)]
struct Link {
    at: usize,
    ethertype: Option<u16>,
}

impl Link {
    /// That of the frame at `ethernet`.
    #[inline(always)]
    fn of_frame(ethernet: usize) -> Self {
        Self { at: ethernet + ethernet::HEADER_LEN, ethertype: None }
    }

    fn ethertype(&self, bytes: &[u8]) -> u16 {
        self.ethertype.or_else(|| u16_at(bytes, self.at - 2)).unwrap_or(0)
    }
}

/// Follows the encapsulations from `layers.outer` inwards.
#[inline(never)]
pub(super) fn walk(bytes: &[u8], layers: &mut Layers, fragments: Fragments) {
    let mut link = Link::of_frame(0);
    loop {
        let stack = layers.inner;
        if !push_link_shells(bytes, link, &stack, layers) {
            return layers.note_unread();
        }
        if stack.is_pseudowire() {
            link = Link::of_frame(stack.l3());
            layers.inner = ethernet_stack(bytes, stack.l3());
            continue;
        }
        let is_shown = fragments == Fragments::Enter || !stack.is_fragment();
        if !is_shown || !(stack.l4().is_none() || may_carry(bytes, &stack)) {
            return;
        }
        let Look::Shell(shell) = look(bytes, &stack) else { return };
        if !layers.push(shell) {
            return layers.note_unread();
        }
        let Some(carried) = shell.carries(bytes) else { return layers.note_unread() };
        layers.note_carrier(&stack);
        let at = shell.payload();
        (link, layers.inner) = match carried {
            Carried::Ethernet => (Link::of_frame(at), ethernet_stack(bytes, at)),
            Carried::Network(ethertype) => {
                (Link { at, ethertype: Some(ethertype) }, network_stack(bytes, at, ethertype))
            }
        };
    }
}

/// Notes the tags, labels and PPPoE of a stack; false where there is no room for more.
fn push_link_shells(bytes: &[u8], link: Link, stack: &Stack, layers: &mut Layers) -> bool {
    if stack.has_vlans_alone() {
        let len = usize::from(stack.vlans()) * vlan::TAG_LEN;
        return layers.push(Shell::new(ShellKind::Vlan, link.at, len, Cargo::TypeAtEnd));
    }
    if !stack.has_link_shells() {
        return true;
    }
    push_mixed_link_shells(bytes, link, stack, layers)
}

/// Likewise, where there is more than VLAN tags.
#[inline(never)]
fn push_mixed_link_shells(bytes: &[u8], link: Link, stack: &Stack, layers: &mut Layers) -> bool {
    let (mut at, mut ethertype) = (link.at, link.ethertype(bytes));
    let mut others = stack.other_tags();
    let mut vlans = usize::from(stack.vlans());
    while vlans > 0 || others > 0 {
        let kind = tag_kind(ethertype).unwrap_or_default();
        let (len, cargo) = if kind == ShellKind::Vlan {
            let is_next_tag = |len| u16_at(bytes, at + len - 2).is_some_and(vlan::is_tpid);
            let mut count = 1;
            while count < vlans && is_next_tag(count * vlan::TAG_LEN) {
                count += 1;
            }
            vlans = vlans.saturating_sub(count);
            (count * vlan::TAG_LEN, Cargo::TypeAtEnd)
        } else {
            others = others.saturating_sub(1);
            let Header::Open { len, cargo } = kind.read(bytes, at, ethertype) else { return true };
            (len, cargo)
        };
        if !layers.push(Shell::new(kind, at, len, cargo)) {
            return false;
        }
        at += len;
        ethertype = u16_at(bytes, at - 2).unwrap_or(0);
    }
    if stack.is_pppoe() {
        let Some(ppp) = Ppp::at(bytes, at + pppoe::HEADER_LEN) else { return true };
        let (len, cargo) = (pppoe::HEADER_LEN + ppp.len, Cargo::of_ethertype(ppp.ethertype()));
        if !layers.push(Shell::new(ShellKind::Pppoe, at, len, cargo)) {
            return false;
        }
        at += len;
    }
    if stack.labels() == 0 {
        return true;
    }
    let (kind, cargo) = match stack.ethertype() {
        ethernet::TYPE_TEB => (ShellKind::Pseudowire, Cargo::Ethernet),
        ethernet::TYPE_IPV4 => (ShellKind::Mpls, Cargo::Ipv4),
        ethernet::TYPE_IPV6 => (ShellKind::Mpls, Cargo::Ipv6),
        _ => (ShellKind::Mpls, Cargo::Unknown),
    };
    layers.push(Shell::new(kind, at, stack.l3() - at, cargo))
}

/// Returns whether something may wrap what the outer stack carries, told with few jumps: most packets have nothing of the kind.
#[inline(always)]
pub(super) fn may_have_shells(bytes: &[u8], stack: &Stack) -> bool {
    stack.has_link_shells() | may_carry(bytes, stack)
}

/// Returns whether a stack's protocol or ports are those of an encapsulation.
#[inline(always)]
fn may_carry(bytes: &[u8], stack: &Stack) -> bool {
    let ports = u32_at(bytes, stack.l4_or_zero()).unwrap_or(0);
    let is_tunnel_port = is_port(ports as u16) | is_reply_port((ports >> 16) as u16);
    (stack.protocol() == ip::UDP) & is_tunnel_port | (PROTOCOLS[usize::from(stack.protocol())] != NO_ROW)
}

/// Returns whether what a stack carries may be an encapsulation of which more would show in a longer capture.
pub fn may_go_on(bytes: &[u8], stack: &Stack) -> bool {
    let has_cut_ports = stack.protocol() == ip::UDP && !stack.has_ports();
    // an IP header of unusual fields behind labels is known by its length, where all of the packet is there
    let has_unknown_behind_labels = stack.labels() > 0
        && matches!(stack.ethertype(), ethernet::TYPE_MPLS | ethernet::TYPE_MPLS_MULTICAST);
    !stack.is_later_fragment()
        && (has_cut_ports
            || has_unknown_behind_labels
            || is_carrier_type(stack.ethertype())
            || may_carry(bytes, stack))
}

/// The find behind a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// No encapsulation.
    Nothing,
    /// One that holds nothing: it is no layer.
    Empty(ShellKind),
    /// One of whose payload nothing was captured: it is no layer either.
    Uncaptured(Shell),
    /// One whose header is cut, or holds no packet that can be followed.
    Closed,
    Shell(Shell),
}

/// The tunnel header behind a stack, if one stands there whole and holds something.
#[inline]
pub fn tunnel(bytes: &[u8], stack: &Stack) -> Option<Shell> {
    match look(bytes, stack) {
        Look::Shell(shell) => Some(shell),
        Look::Nothing | Look::Empty(_) | Look::Uncaptured(_) | Look::Closed => None,
    }
}

/// Finds what follows a stack, by the table.
pub fn look(bytes: &[u8], stack: &Stack) -> Look {
    if stack.is_later_fragment() {
        return Look::Nothing;
    }
    let found = match stack.l4() {
        Some(l4) => by_protocol(bytes, stack.protocol(), l4, stack.is_ipv4()),
        None => by_type(bytes, stack),
    };
    settled(found, bytes, stack)
}

/// As [`look`], for a stack with UDP whose port stands for `port`.
pub fn look_as(port: u16, bytes: &[u8], stack: &Stack) -> Look {
    match stack.l4().filter(|_| stack.protocol() == ip::UDP && !stack.is_later_fragment()) {
        Some(l4) => settled(by_port(port, bytes, l4), bytes, stack),
        None => Look::Nothing,
    }
}

fn settled(found: Look, bytes: &[u8], stack: &Stack) -> Look {
    match found {
        // Tags are layers of their own, as they are in a link header.
        Look::Shell(shell) if shell.kind.is_tag() => found,
        // It says itself that it ends where the header does: what follows is padding then.
        Look::Shell(shell)
            if extent::carried_end(bytes, stack, shell.payload()) == Some(shell.payload()) =>
        {
            Look::Empty(shell.kind)
        }
        Look::Shell(shell) if shell.payload() >= bytes.len() => Look::Uncaptured(shell),
        found => found,
    }
}

/// An encapsulation that a stack's type names: one that is not stepped over as tags are.
fn by_type(bytes: &[u8], stack: &Stack) -> Look {
    if stack.is_cut() || stack.labels() != 0 || stack.is_pppoe() {
        return Look::Nothing;
    }
    let (at, ethertype) = (stack.l3(), stack.ethertype());
    let kind = match carrier_kind(ethertype) {
        Some(kind) => kind,
        // Behind a tunnel's header there is no Ethernet header for tags to be part of.
        None if stack.ethernet().is_none() => match tag_kind(ethertype) {
            Some(kind) => kind,
            None => return Look::Nothing,
        },
        None => return Look::Nothing,
    };
    shell_of(kind, kind.read(bytes, at, ethertype), bytes, at)
}

/// An encapsulation that an IP protocol names, whose header begins at `at`.
fn by_protocol(bytes: &[u8], protocol: u8, at: usize, is_ipv4: bool) -> Look {
    match protocol {
        ip::UDP => by_ports(bytes, at),
        ip::GRE => gre(bytes, at),
        // Over IPv6 it was stepped over as an extension header.
        ip::AH if is_ipv4 => match ipv6::extension(bytes, at, ip::AH) {
            Some(header) => by_protocol(bytes, header.next_header, at + header.len, false),
            None => Look::Closed,
        },
        _ => match kind_at(PROTOCOLS[usize::from(protocol)]) {
            Some(kind) => shell_of(kind, kind.read(bytes, at, protocol.into()), bytes, at),
            None => Look::Nothing,
        },
    }
}

/// The tunnel that a UDP port names, behind the UDP header at `l4`.
fn by_ports(bytes: &[u8], l4: usize) -> Look {
    let Some(header) = Udp::at(bytes, l4) else { return Look::Closed };
    let (source, destination) = (header.source_port(), header.destination_port());
    if is_port(destination) {
        let found = by_port(destination, bytes, l4);
        if !matches!(found, Look::Nothing) {
            return found;
        }
    }
    if is_reply_port(source) { by_port(source, bytes, l4) } else { Look::Nothing }
}

fn by_port(port: u16, bytes: &[u8], l4: usize) -> Look {
    let at = l4 + udp::HEADER_LEN;
    match kind_at(UDP_PORTS.rows[slot(port)]) {
        Some(ShellKind::Gre) => gre(bytes, at),
        Some(kind) => shell_of(kind, kind.read(bytes, at, port), bytes, at),
        None => Look::Nothing,
    }
}

/// GRE, and what is told from it by its protocol or version.
fn gre(bytes: &[u8], at: usize) -> Look {
    let Some(header) = Gre::at(bytes, at) else { return Look::Closed };
    let (protocol, len) = (header.protocol(), header.header_len());
    if header.is_enhanced() && protocol == ethernet::TYPE_PPP {
        return enhanced_gre(bytes, at, &header);
    }
    if !header.is_sound() {
        return Look::Closed;
    }
    let (kind, header) = match protocol {
        gre::TYPE_ERSPAN | gre::TYPE_ERSPAN3 => erspan(bytes, at, &header),
        ethernet::TYPE_MELLANOX => mellanox(bytes, at, len),
        ethernet::TYPE_PPP => (ShellKind::Gre, ppp_behind(bytes, at, len)),
        ethernet::TYPE_TEB => (ShellKind::Gre, Header::Open { len, cargo: Cargo::Ethernet }),
        _ => (ShellKind::Gre, Header::Open { len, cargo: Cargo::TypeAtTwo }),
    };
    shell_of(kind, header, bytes, at)
}

/// The frame of a Mellanox switch, confirmed by its type: what the bytes in front of it mean is not published.
fn mellanox(bytes: &[u8], at: usize, gre_len: usize) -> (ShellKind, Header) {
    let len = gre_len + gre::MELLANOX_LEN;
    if inside::has_known_type(bytes, at + len) {
        (ShellKind::GreMellanox, Header::Open { len, cargo: Cargo::Ethernet })
    } else if at + len + ethernet::HEADER_LEN > bytes.len() {
        (ShellKind::GreMellanox, Header::Closed)
    } else {
        (ShellKind::Gre, Header::Open { len: gre_len, cargo: Cargo::TypeAtTwo })
    }
}

/// PPTP; its acknowledgments carry nothing.
fn enhanced_gre(bytes: &[u8], at: usize, header: &Gre<'_>) -> Look {
    if !header.has_sequence() {
        return Look::Empty(ShellKind::Pptp);
    }
    shell_of(ShellKind::Pptp, ppp_behind(bytes, at, header.enhanced_len()), bytes, at)
}

fn erspan(bytes: &[u8], at: usize, gre: &Gre<'_>) -> (ShellKind, Header) {
    let gre_len = gre.header_len();
    if gre.protocol() == gre::TYPE_ERSPAN && !gre.has_sequence() {
        // ERSPAN I is told from II by the absent sequence number (draft-foschiano-erspan-03, 4.1).
        return (ShellKind::Erspan1, Header::Open { len: gre_len, cargo: Cargo::Ethernet });
    }
    let version = Erspan::at(bytes, at + gre_len).map(|header| header.version());
    match (version, Erspan3::at(bytes, at + gre_len)) {
        (Some(erspan::VERSION_2), _) => {
            let len = gre_len + erspan::HEADER2_LEN;
            (ShellKind::Erspan2, Header::Open { len, cargo: Cargo::Ethernet })
        }
        (Some(erspan::VERSION_3), Some(header)) => {
            let len = gre_len + header.header_len();
            let cargo = match (header.frame_type(), bytes.get(at + len)) {
                (erspan::FRAME_IP, Some(0x45..=0x4f)) => Cargo::Ipv4,
                (erspan::FRAME_IP, Some(0x60..=0x6f)) => Cargo::Ipv6,
                (erspan::FRAME_IP, _) => Cargo::Unknown,
                _ => Cargo::Ethernet,
            };
            (ShellKind::Erspan3, Header::Open { len, cargo })
        }
        _ => (ShellKind::Erspan3, Header::Closed),
    }
}

/// The shell of a header at `at`, if it was captured to its end.
fn shell_of(kind: ShellKind, header: Header, bytes: &[u8], at: usize) -> Look {
    match header {
        Header::Open { len, cargo } if at + len <= bytes.len() => {
            Look::Shell(Shell::new(kind, at, len, cargo))
        }
        Header::Absent => Look::Nothing,
        Header::Closed | Header::Open { .. } => Look::Closed,
    }
}

/// The tag that a type announces.
#[inline(always)]
pub(super) fn tag_kind(ethertype: u16) -> Option<ShellKind> {
    match ethertype {
        ethernet::TYPE_VNTAG => Some(ShellKind::Vntag),
        ethernet::TYPE_ETAG => Some(ShellKind::Etag),
        ethernet::TYPE_CISCO_METADATA => Some(ShellKind::Cmd),
        ethernet::TYPE_ARISTA => Some(ShellKind::Arista),
        _ if vlan::is_tpid(ethertype) => Some(ShellKind::Vlan),
        _ => None,
    }
}

/// Returns whether a type stands for something that is read, and is none of VLAN tags.
pub fn has_other_meaning(ethertype: u16) -> bool {
    let is_known = matches!(
        ethertype,
        ethernet::TYPE_IPV4
            | ethernet::TYPE_IPV6
            | ethernet::TYPE_ARP
            | ethernet::TYPE_RARP
            | ethernet::TYPE_TEB
    );
    let is_in_table =
        TABLE.iter().flat_map(|row| row.found).any(|found| *found == Found::Ethertype(ethertype));
    is_known || is_in_table || super::unread::READ_TYPES.contains(&ethertype)
}

/// Returns whether a type announces a tag, of a VLAN or another.
#[inline]
pub fn is_tag_type(ethertype: u16) -> bool {
    tag_kind(ethertype).is_some()
}

/// The encapsulation that a type names and that is no part of the link header.
#[inline(always)]
fn carrier_kind(ethertype: u16) -> Option<ShellKind> {
    match ethertype {
        ethernet::TYPE_FABRICPATH => Some(ShellKind::Fabricpath),
        ethernet::TYPE_NSH => Some(ShellKind::Nsh),
        _ => None,
    }
}

#[inline(always)]
pub(super) fn is_carrier_type(ethertype: u16) -> bool {
    carrier_kind(ethertype).is_some()
}

/// Stands for no row of the table.
const NO_ROW: u8 = u8::MAX;

fn kind_at(row: u8) -> Option<ShellKind> {
    TABLE_KINDS.get(usize::from(row)).copied()
}

const TABLE_KINDS: [ShellKind; TABLE.len()] = {
    let mut kinds = [ShellKind::Vlan; TABLE.len()];
    let mut row = 0;
    while row < TABLE.len() {
        kinds[row] = TABLE[row].kind;
        row += 1;
    }
    kinds
};

/// The row of each IP protocol. AH has that of IP in IP, since over IPv4 it stands in front of some encapsulation or none.
const PROTOCOLS: [u8; 256] = {
    let mut rows = [NO_ROW; 256];
    let mut row = 0;
    while row < TABLE.len() {
        let mut i = 0;
        while i < TABLE[row].found.len() {
            if let Found::IpProtocol(protocol) = TABLE[row].found[i] {
                rows[protocol as usize] = row as u8;
            }
            i += 1;
        }
        row += 1;
    }
    rows[ip::AH as usize] = ShellKind::Ipip as u8;
    rows
};

/// A hash table of the UDP ports, without collisions: one comparison tells whether a port is among them.
struct UdpPorts {
    multiplier: u16,
    ports: [u16; SLOTS],
    /// Ports whose source counts too; 0 elsewhere.
    replies: [u16; SLOTS],
    rows: [u8; SLOTS],
}

const SLOT_BITS: u32 = 5;
const SLOTS: usize = 1 << SLOT_BITS;

static UDP_PORTS: UdpPorts = UDP_PORTS_CONST;
const UDP_PORTS_CONST: UdpPorts = {
    let mut multiplier = 1;
    loop {
        if let Some(ports) = udp_ports(multiplier) {
            break ports;
        }
        multiplier += 2;
    }
};

/// The table by one multiplier, if no two ports fall on one place. Port 0 is none, and stands where there is no port.
const fn udp_ports(multiplier: u16) -> Option<UdpPorts> {
    let mut table = UdpPorts { multiplier, ports: [0; SLOTS], replies: [0; SLOTS], rows: [NO_ROW; SLOTS] };
    let mut row = 0;
    while row < TABLE.len() {
        let mut i = 0;
        while i < TABLE[row].found.len() {
            if let Found::UdpPort { port, replies } = TABLE[row].found[i] {
                let slot = slot_by(multiplier, port);
                if table.ports[slot] != 0 {
                    return None;
                }
                table.ports[slot] = port;
                table.rows[slot] = row as u8;
                if replies {
                    table.replies[slot] = port;
                }
            }
            i += 1;
        }
        row += 1;
    }
    Some(table)
}

#[inline(always)]
const fn slot_by(multiplier: u16, port: u16) -> usize {
    (port.wrapping_mul(multiplier) >> (u16::BITS - SLOT_BITS)) as usize
}

#[inline(always)]
fn slot(port: u16) -> usize {
    slot_by(UDP_PORTS_CONST.multiplier, port)
}

/// Returns whether a tunnel of the table is sent to `port`. Port 0 is said to be one: it is hardly ever met, and found to be none.
#[inline(always)]
fn is_port(port: u16) -> bool {
    UDP_PORTS.ports[slot(port)] == port
}

/// Returns whether what comes from `port` may be a tunnel's.
#[inline(always)]
fn is_reply_port(port: u16) -> bool {
    UDP_PORTS.replies[slot(port)] == port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::layer::Layer;

    #[test]
    fn the_rows_stand_in_the_order_of_their_kinds_and_every_word_has_one() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, place);
            assert_eq!(row.kind.row().kind, row.kind);
            assert!(!row.found.is_empty() && !row.carries.is_empty());
        }
        for layer in Layer::ALL {
            // Tags in a row are those of `vlan`.
            let layer = if layer == Layer::Qinq { Layer::Vlan } else { layer };
            assert!(TABLE.iter().any(|row| row.word == Ok(layer)), "{layer:?}");
        }
    }

    #[test]
    fn types_protocols_and_ports_are_looked_for_as_the_rows_say() {
        for row in &TABLE {
            for found in row.found {
                match *found {
                    Found::Tpid => assert_eq!(tag_kind(vlan::TPID_8021Q), Some(row.kind)),
                    Found::Ethertype(ethertype) => {
                        let kind = tag_kind(ethertype).or(carrier_kind(ethertype));
                        // Labels and PPPoE are part of a stack.
                        let is_of_stack =
                            matches!(row.kind, ShellKind::Mpls | ShellKind::Pseudowire | ShellKind::Pppoe);
                        assert_eq!(kind, (!is_of_stack).then_some(row.kind));
                        assert_eq!(tag_kind(ethertype).is_some(), row.kind.is_tag());
                    }
                    Found::IpProtocol(protocol) => {
                        assert_eq!(kind_at(PROTOCOLS[usize::from(protocol)]), Some(row.kind));
                    }
                    Found::UdpPort { port, replies } => {
                        assert!(is_port(port));
                        assert_eq!(is_reply_port(port), replies);
                        assert_eq!(kind_at(UDP_PORTS.rows[slot(port)]), Some(row.kind));
                    }
                    Found::Gre { .. } | Found::OtherGre => {}
                }
            }
        }
        let ports = (1..=u16::MAX).filter(|&port| is_port(port)).count();
        let is_port_row = |found: &&Found| matches!(found, Found::UdpPort { .. });
        assert_eq!(ports, TABLE.iter().flat_map(|row| row.found).filter(is_port_row).count());
    }
}
