//! A shell: one encapsulation, and what it carries.

use super::ShellKind;
use super::table::Cargo;
use crate::headers::erspan::Erspan;
use crate::headers::ethernet;
use crate::headers::geneve::Geneve;
use crate::headers::gre::Gre;
use crate::headers::gtp::Gtp;
use crate::headers::pppoe::Pppoe;
use crate::headers::vxlan::Vxlan;
use crate::headers::{mpls, u16_at, u32_at, vlan};

/// The kind of what a shell carries.
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
    cargo: Cargo,
    /// The offset of the header; that of tags lies behind the type of the first.
    pub offset: u16,
    len: u16,
}

impl Shell {
    /// Nothing: what arrays of shells begin with.
    pub(super) const EMPTY: Shell =
        Shell { kind: ShellKind::Vlan, cargo: Cargo::Unknown, offset: 0, len: 0 };

    #[inline(always)]
    pub(super) fn new(kind: ShellKind, offset: usize, header_len: usize, cargo: Cargo) -> Self {
        Self { kind, cargo, offset: offset as u16, len: header_len as u16 }
    }

    /// Bytes of the header. All of it was captured.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.len)
    }

    /// Gives the offset of what it carries: at most the captured length.
    #[inline(always)]
    pub fn payload(&self) -> usize {
        usize::from(self.offset) + self.header_len()
    }

    /// Gives the kind of what it carries; `None` if that cannot be known. `bytes` are those of the packet that was parsed.
    #[inline]
    pub fn carries(&self, bytes: &[u8]) -> Option<Carried> {
        let ethertype = match self.cargo {
            Cargo::Unknown => return None,
            Cargo::Ethernet => return Some(Carried::Ethernet),
            Cargo::Ipv4 => ethernet::TYPE_IPV4,
            Cargo::Ipv6 => ethernet::TYPE_IPV6,
            Cargo::Mpls => ethernet::TYPE_MPLS,
            Cargo::MplsMulticast => ethernet::TYPE_MPLS_MULTICAST,
            Cargo::Nsh => ethernet::TYPE_NSH,
            Cargo::TypeAtEnd => u16_at(bytes, self.payload() - 2)?,
            Cargo::TypeAtTwo => u16_at(bytes, usize::from(self.offset) + 2)?,
        };
        Some(Carried::Network(ethertype))
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
        match self.kind {
            ShellKind::Gre | ShellKind::GreMellanox => Gre::at(bytes, usize::from(self.offset))?.key(),
            _ => None,
        }
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
