//! A shell: one encapsulation, and what it carries.

use super::walk::{carried, ip_ethertype, ppp_ethertype};
use crate::headers::erspan;
use crate::headers::erspan::{Erspan, Erspan3};
use crate::headers::ethernet;
use crate::headers::geneve::Geneve;
use crate::headers::gre::Gre;
use crate::headers::gtp::Gtp;
use crate::headers::pppoe::Pppoe;
use crate::headers::vxlan;
use crate::headers::vxlan::Vxlan;
use crate::headers::{mpls, u16_at, u32_at, vlan};

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
    pub(super) words: u8,
    /// Where the header begins; that of VLAN tags behind the TPID of the first.
    pub offset: u16,
}

impl Shell {
    #[inline(always)]
    pub(super) fn new(kind: ShellKind, offset: usize, header_len: usize) -> Self {
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
