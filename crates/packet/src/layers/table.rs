//! The encapsulations: one row each. Whoever looks into packets, or takes something off them, reads what it must know from here.
//!
//! A row says how the encapsulation is found, and its reader what its header says; words, docs and tests follow the rows.

use super::readers::*;
use crate::headers::layer::Layer;
use crate::headers::{ethernet, gre, ip, udp};

/// The kind of a header that wraps a frame or packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(u8)]
pub enum ShellKind {
    /// One or more VLAN tags in a row.
    #[default]
    Vlan,
    Vntag,
    Etag,
    /// Cisco MetaData.
    Cmd,
    /// The time header of Arista switches.
    Arista,
    /// PPPoE with PPP.
    Pppoe,
    /// An MPLS label stack with IP behind it, or something unknown.
    Mpls,
    /// An MPLS label stack with Ethernet behind it, and a control word between them where the packet has one.
    Pseudowire,
    /// An MPLS label stack in UDP or IP, which has no header of its own.
    MplsInIp,
    Fabricpath,
    Nsh,
    /// IPv4 or IPv6 in IPv4 or IPv6, with no header of its own.
    Ipip,
    /// Ethernet in IP with a header of two bytes.
    Etherip,
    /// Ethernet in IP with no header of its own.
    Srv6,
    /// GRE, NVGRE among it.
    Gre,
    /// GRE of Mellanox switches, with the bytes that they put in front of a frame.
    GreMellanox,
    /// GRE version 1 with PPP.
    Pptp,
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
    Tzsp,
    /// L2TP version 2 with PPP.
    L2tp,
    Teredo,
    /// The data channel of CAPWAP.
    Capwap,
}

/// How an encapsulation is found. What the header then says may refute it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It follows any TPID: the built-in ones, and those that were added.
    Tpid,
    /// It follows a type in the link header.
    Ethertype(u16),
    IpProtocol(u8),
    /// It is sent to a UDP port. With `replies` it is found by the source port too, since what comes back is of the same form.
    UdpPort {
        port: u16,
        replies: bool,
    },
    /// It follows a GRE header with this protocol, of version 1 if `is_enhanced`.
    Gre {
        protocol: u16,
        is_enhanced: bool,
    },
    /// It follows a GRE header whose protocol is none of the above.
    OtherGre,
}

/// The kind of what an encapsulation may carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    Ethernet,
    /// IPv4 and IPv6.
    Ip,
    Ipv6,
    Mpls,
    /// Whatever has an ethertype; with Ethernet among it where that is `TYPE_TEB`.
    Typed,
    /// Data frames of IEEE 802.11 with SNAP.
    Wlan,
}

/// One encapsulation.
#[derive(Debug)]
pub struct Encapsulation {
    pub kind: ShellKind,
    /// Its word in `through` and `strip`; or why only `through any` looks through it.
    pub word: Result<Layer, &'static str>,
    pub found: &'static [Found],
    pub carries: &'static [Payload],
    /// `Ok` if `strip` may take it off, else the reason why not.
    pub strip: Result<(), &'static str>,
    /// The parts of it that are not looked into, and why; empty if all are.
    pub left_out: &'static str,
    read: Reader,
}

/// Reads the header at an offset that was found by a port, protocol or type.
type Reader = fn(&[u8], usize, u16) -> Header;

/// The header found where an encapsulation was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Header {
    /// Something else: the header refutes it.
    Absent,
    /// The encapsulation; its header is cut, or holds no packet that can be followed.
    Closed,
    /// A header of `len` bytes, all of them captured if the packet is as long.
    Open { len: usize, cargo: Cargo },
}

/// The kind of what follows a header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub(super) enum Cargo {
    /// It cannot be known.
    #[default]
    Unknown,
    Ethernet,
    Ipv4,
    Ipv6,
    Mpls,
    MplsMulticast,
    Nsh,
    /// The kind that the type at the end of the header says.
    TypeAtEnd,
    /// The kind that the type in the header's third and fourth byte says.
    TypeAtTwo,
}

const UNNAMED_SESSION: &str = "no word names it: a session's frames are a subscriber's link as it is";
const UNNAMED_TIME: &str = "no word names it: it holds the time of a frame, which its reader wants";

const NAMED_BY_PORT: bool = false;
const REPLIES_TOO: bool = true;

const fn udp_port(port: u16, replies: bool) -> Found {
    Found::UdpPort { port, replies }
}

const fn gre_of(protocol: u16) -> Found {
    Found::Gre { protocol, is_enhanced: false }
}

/// A row whose encapsulation has a word, may be taken off, and is looked into wherever it stands.
const fn row(
    kind: ShellKind,
    layer: Layer,
    found: &'static [Found],
    carries: &'static [Payload],
    read: Reader,
) -> Encapsulation {
    Encapsulation { kind, word: Ok(layer), found, carries, strip: Ok(()), left_out: "", read }
}

/// All encapsulations, in the order of [`ShellKind`].
pub const TABLE: [Encapsulation; 28] = [
    row(ShellKind::Vlan, Layer::Vlan, &[Found::Tpid], &[Payload::Typed], vlan_tags),
    row(
        ShellKind::Vntag,
        Layer::Vntag,
        &[Found::Ethertype(ethernet::TYPE_VNTAG)],
        &[Payload::Typed],
        other_tag,
    ),
    row(
        ShellKind::Etag,
        Layer::Etag,
        &[Found::Ethertype(ethernet::TYPE_ETAG)],
        &[Payload::Typed],
        other_tag,
    ),
    Encapsulation {
        left_out: "other versions, and more than one option: how long they are is not published",
        ..row(
            ShellKind::Cmd,
            Layer::Cmd,
            &[Found::Ethertype(ethernet::TYPE_CISCO_METADATA)],
            &[Payload::Typed],
            other_tag,
        )
    },
    Encapsulation {
        kind: ShellKind::Arista,
        word: Err(UNNAMED_TIME),
        found: &[Found::Ethertype(ethernet::TYPE_ARISTA)],
        carries: &[Payload::Typed],
        strip: Err(UNNAMED_TIME),
        left_out: "",
        read: other_tag,
    },
    Encapsulation {
        kind: ShellKind::Pppoe,
        word: Err(UNNAMED_SESSION),
        found: &[Found::Ethertype(ethernet::TYPE_PPPOE_SESSION)],
        carries: &[Payload::Ip, Payload::Mpls],
        strip: Err(UNNAMED_SESSION),
        left_out: "PPP's own negotiation, and payload that it compressed or encrypted",
        read: elsewhere,
    },
    row(
        ShellKind::Mpls,
        Layer::Mpls,
        &[Found::Ethertype(ethernet::TYPE_MPLS), Found::Ethertype(ethernet::TYPE_MPLS_MULTICAST)],
        &[Payload::Ip],
        elsewhere,
    ),
    Encapsulation {
        left_out: "frames of a type that is not known, since labels do not say that a frame follows",
        ..row(
            ShellKind::Pseudowire,
            Layer::Mpls,
            &[Found::Ethertype(ethernet::TYPE_MPLS), Found::Ethertype(ethernet::TYPE_MPLS_MULTICAST)],
            &[Payload::Ethernet],
            elsewhere,
        )
    },
    row(
        ShellKind::MplsInIp,
        Layer::Mpls,
        &[udp_port(udp::PORT_MPLS, NAMED_BY_PORT), Found::IpProtocol(ip::MPLS)],
        &[Payload::Mpls],
        mpls_in_ip,
    ),
    row(
        ShellKind::Fabricpath,
        Layer::Fabricpath,
        &[Found::Ethertype(ethernet::TYPE_FABRICPATH)],
        &[Payload::Ethernet],
        fabricpath,
    ),
    row(
        ShellKind::Nsh,
        Layer::Nsh,
        &[Found::Ethertype(ethernet::TYPE_NSH)],
        &[Payload::Ethernet, Payload::Ip, Payload::Mpls],
        nsh,
    ),
    row(
        ShellKind::Ipip,
        Layer::Ipip,
        &[Found::IpProtocol(ip::IPV4), Found::IpProtocol(ip::IPV6)],
        &[Payload::Ip],
        ipip,
    ),
    row(
        ShellKind::Etherip,
        Layer::Etherip,
        &[Found::IpProtocol(ip::ETHERIP)],
        &[Payload::Ethernet],
        etherip,
    ),
    row(
        ShellKind::Srv6,
        Layer::Srv6,
        &[Found::IpProtocol(ip::ETHERNET)],
        &[Payload::Ethernet],
        bare_ethernet,
    ),
    Encapsulation {
        left_out: "source routes, which no sender has (RFC 2784)",
        ..row(
            ShellKind::Gre,
            Layer::Gre,
            &[Found::IpProtocol(ip::GRE), udp_port(udp::PORT_GRE, NAMED_BY_PORT), Found::OtherGre],
            &[Payload::Ethernet, Payload::Typed],
            elsewhere,
        )
    },
    Encapsulation {
        left_out: "frames of a type that is not known, since what the bytes in front mean is not published",
        ..row(
            ShellKind::GreMellanox,
            Layer::Gre,
            &[gre_of(ethernet::TYPE_MELLANOX)],
            &[Payload::Ethernet],
            elsewhere,
        )
    },
    Encapsulation {
        left_out: "PPP's own negotiation, and payload that it compressed or encrypted",
        ..row(
            ShellKind::Pptp,
            Layer::Pptp,
            &[Found::Gre { protocol: ethernet::TYPE_PPP, is_enhanced: true }],
            &[Payload::Ip, Payload::Mpls],
            elsewhere,
        )
    },
    row(ShellKind::Erspan1, Layer::Erspan, &[gre_of(gre::TYPE_ERSPAN)], &[Payload::Ethernet], elsewhere),
    row(ShellKind::Erspan2, Layer::Erspan, &[gre_of(gre::TYPE_ERSPAN)], &[Payload::Ethernet], elsewhere),
    row(
        ShellKind::Erspan3,
        Layer::Erspan,
        &[gre_of(gre::TYPE_ERSPAN3)],
        &[Payload::Ethernet, Payload::Ip],
        elsewhere,
    ),
    row(
        ShellKind::Vxlan,
        Layer::Vxlan,
        &[udp_port(udp::PORT_VXLAN, NAMED_BY_PORT), udp_port(udp::PORT_VXLAN_LEGACY, NAMED_BY_PORT)],
        &[Payload::Ethernet],
        vxlan,
    ),
    row(
        ShellKind::VxlanGpe,
        Layer::Vxlan,
        &[udp_port(udp::PORT_VXLAN_GPE, NAMED_BY_PORT)],
        &[Payload::Ethernet, Payload::Ip],
        vxlan_gpe,
    ),
    row(
        ShellKind::Geneve,
        Layer::Geneve,
        &[udp_port(udp::PORT_GENEVE, NAMED_BY_PORT)],
        &[Payload::Ethernet, Payload::Typed],
        geneve,
    ),
    Encapsulation {
        left_out: "frames of a type that is not known, and PPP, since the header does not say what follows",
        ..row(
            ShellKind::Gtp,
            Layer::Gtp,
            &[udp_port(udp::PORT_GTP_U, NAMED_BY_PORT)],
            &[Payload::Ip, Payload::Ethernet],
            gtp_u,
        )
    },
    Encapsulation {
        left_out: "frames of 802.11 that are encrypted, aggregated, or no data; other link layers",
        ..row(
            ShellKind::Tzsp,
            Layer::Tzsp,
            &[udp_port(udp::PORT_TZSP, NAMED_BY_PORT)],
            &[Payload::Ethernet, Payload::Wlan],
            tzsp,
        )
    },
    Encapsulation {
        left_out: "control messages; PPP's own negotiation, and payload that it compressed or encrypted",
        ..row(
            ShellKind::L2tp,
            Layer::L2tp,
            &[udp_port(udp::PORT_L2TP, REPLIES_TOO)],
            &[Payload::Ip, Payload::Mpls],
            l2tp,
        )
    },
    row(
        ShellKind::Teredo,
        Layer::Teredo,
        &[udp_port(udp::PORT_TEREDO, REPLIES_TOO)],
        &[Payload::Ipv6],
        teredo,
    ),
    Encapsulation {
        left_out: "DTLS, and fragments; frames of 802.11 that are encrypted, aggregated, or no data",
        ..row(
            ShellKind::Capwap,
            Layer::Capwap,
            &[udp_port(udp::PORT_CAPWAP_DATA, REPLIES_TOO)],
            &[Payload::Ethernet, Payload::Wlan],
            capwap,
        )
    },
];

impl ShellKind {
    /// Gives its row of the table.
    #[inline(always)]
    pub fn row(self) -> &'static Encapsulation {
        static ROWS: [Encapsulation; TABLE.len()] = TABLE;
        &ROWS[self as usize]
    }

    /// Returns whether it is a tag: it stands between an Ethernet header's addresses and its type.
    #[inline(always)]
    pub fn is_tag(self) -> bool {
        (self as u8) <= ShellKind::Arista as u8
    }

    /// Returns whether it belongs to the link header of the stack that it stands in; others end a stack.
    #[inline(always)]
    pub fn is_of_link(self) -> bool {
        (self as u8) <= ShellKind::Mpls as u8
    }

    /// Reads the header at `at`, found by port, protocol or type `by`.
    #[inline(always)]
    pub(super) fn read(self, bytes: &[u8], at: usize, by: u16) -> Header {
        (self.row().read)(bytes, at, by)
    }
}

impl Encapsulation {
    /// The UDP port that it is found by first.
    pub fn udp_port(&self) -> Option<u16> {
        self.found.iter().find_map(|found| match found {
            Found::UdpPort { port, .. } => Some(*port),
            _ => None,
        })
    }
}
