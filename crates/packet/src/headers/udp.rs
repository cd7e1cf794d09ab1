//! UDP header, and the ports of the tunnels that ride on it.
//! # Source
//! RFC 768; ports: IANA, "Service Name and Transport Protocol Port Number Registry".

use super::{be16, chunk};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// GTP-U (3GPP TS 29.281, 4.4.2).
pub const PORT_GTP_U: u16 = 2152;
/// VXLAN (RFC 7348, 5).
pub const PORT_VXLAN: u16 = 4789;
/// VXLAN as Linux and early switches sent it, before IANA assigned a port.
pub const PORT_VXLAN_LEGACY: u16 = 8472;
/// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe, 3.1).
pub const PORT_VXLAN_GPE: u16 = 4790;
/// GENEVE (RFC 8926, 3.3).
pub const PORT_GENEVE: u16 = 6081;

/// L2TP (RFC 2661, 8.1).
pub const PORT_L2TP: u16 = 1701;
/// Teredo (RFC 4380, 2.7).
pub const PORT_TEREDO: u16 = 3544;
/// GRE in UDP (RFC 8086, 8).
pub const PORT_GRE: u16 = 4754;
/// The data channel of CAPWAP (RFC 5415, 3.1).
pub const PORT_CAPWAP_DATA: u16 = 5247;
/// MPLS in UDP (RFC 7510, 3).
pub const PORT_MPLS: u16 = 6635;
/// TZSP, as mirrors of access points and of MikroTik routers send it.
pub const PORT_TZSP: u16 = 37008;

/// A header.
#[derive(Clone, Copy)]
pub struct Udp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Udp<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    pub fn source_port(&self) -> u16 {
        be16(self.0, 0)
    }

    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        be16(self.0, 2)
    }

    /// Bytes of header and payload.
    pub fn len(&self) -> u16 {
        be16(self.0, 4)
    }

    /// Returns whether the length counts no payload; a length of 0 is that of a jumbogram (RFC 2675, 4), which has some.
    pub fn is_empty(&self) -> bool {
        usize::from(self.len()) == HEADER_LEN
    }
}

/// The eight bytes of a header; `len` counts them and the payload.
pub fn header(source_port: u16, destination_port: u16, len: u16, checksum: u16) -> [u8; HEADER_LEN] {
    let words = [source_port, destination_port, len, checksum];
    let mut out = [0; HEADER_LEN];
    for (two, word) in out.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *two = word.to_be_bytes();
    }
    out
}
