//! IPv6 neighbour discovery: solicitations and advertisements.
//! # Source
//! RFC 4861, 4.3, 4.4, 4.6.1, 7.1.1 and 7.1.2; RFC 4291, 2.7.1 (solicited-node addresses).

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::ethernet::MacAddress;
use super::{chunk, ip};

/// ICMPv6 type of a neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// The hop limit that says a message came from this link (section 7.1.1).
pub const HOP_LIMIT: u8 = 255;
/// Option of the sender's Ethernet address, in solicitations.
pub const SOURCE_MAC: u8 = 1;
/// Option of the target's Ethernet address, in advertisements.
pub const TARGET_MAC: u8 = 2;
/// Flag of an advertisement: it answers a solicitation.
pub const SOLICITED: u8 = 0x40;
/// Flag of an advertisement: it replaces what the receiver knew.
pub const OVERRIDE: u8 = 0x20;
const FIXED_LEN: usize = 24;
const OPTION_LEN: usize = 8;

/// The group that a solicitation for `address` goes to.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A neighbour message as it was received: the ICMPv6 part.
#[derive(Clone, Copy)]
pub struct Neighbour<'a>(&'a [u8]);

impl<'a> Neighbour<'a> {
    /// Returns the message, if it is as receivers have to want it: code, checksum, target, flags and options. The hop limit is the
    /// caller's to look at.
    /// # Source
    /// RFC 4861, 7.1.1 and 7.1.2.
    pub fn checked(message: &'a [u8], source: Ipv6Addr, destination: Ipv6Addr) -> Option<Self> {
        let kind = chunk::<FIXED_LEN>(message, 0)?;
        let is_right = matches!(kind[0], SOLICITATION | ADVERTISEMENT) && kind[1] == 0;
        let is_right = is_right && pseudo_sum(message, source, destination).folded() == 0xffff;
        let neighbour = Self(message);
        (is_right && neighbour.is_allowed(source, destination)).then_some(neighbour)
    }

    fn is_allowed(&self, source: Ipv6Addr, destination: Ipv6Addr) -> bool {
        let target = self.target();
        let mut options = &self.0[FIXED_LEN..];
        while let [_, len, ..] = *options {
            // an option may reach beyond the message, as long as it is not empty: it is not read then
            let Some(rest) = options.get(OPTION_LEN * usize::from(len)..) else { break };
            if len == 0 {
                return false;
            }
            options = rest;
        }
        let is_allowed = if self.message_type() == ADVERTISEMENT {
            let is_solicited_by_all = self.flags() & SOLICITED != 0 && destination.is_multicast();
            !source.is_unspecified() && !is_solicited_by_all
        } else {
            !source.is_unspecified()
                || destination == solicited_node(target) && self.mac(SOURCE_MAC).is_none()
        };
        is_allowed && !target.is_multicast() && !source.is_multicast()
    }

    pub fn message_type(&self) -> u8 {
        self.0[0]
    }

    /// Gives the flags of an advertisement.
    pub fn flags(&self) -> u8 {
        self.0[4]
    }

    pub fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from(*chunk::<16>(self.0, 8).expect("a checked message has a target"))
    }

    /// The Ethernet address of option `kind`.
    pub fn mac(&self, kind: u8) -> Option<MacAddress> {
        let mut options = &self.0[FIXED_LEN..];
        while let Some(header) = options.first_chunk::<OPTION_LEN>() {
            if header[0] == kind && header[1] == 1 {
                let [_, _, mac @ ..] = *header;
                return Some(MacAddress(mac));
            }
            options = options.get(OPTION_LEN * usize::from(header[1].max(1))..)?;
        }
        None
    }
}

/// A solicitation or advertisement with `mac` as its option, checksum included. Who has no address yet does not say its `mac`
/// (RFC 4861, 4.3).
pub fn message(
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    mac: MacAddress,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Vec<u8> {
    let mut out = vec![0; FIXED_LEN];
    out[0] = kind;
    out[4] = flags;
    out[8..24].copy_from_slice(&target.octets());
    if !source.is_unspecified() {
        out.extend([if kind == SOLICITATION { SOURCE_MAC } else { TARGET_MAC }, 1]);
        out.extend(mac.0);
    }
    let checksum = pseudo_sum(&out, source, destination).checksum();
    out[2..4].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// The sum of an ICMPv6 message with its pseudo header (RFC 8200, 8.1).
pub fn pseudo_sum(message: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Sum {
    let addresses = Sum::default().bytes(&source.octets()).bytes(&destination.octets());
    addresses.long(message.len() as u32).word(ip::ICMPV6.into()).bytes(message)
}
