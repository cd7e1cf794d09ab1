//! Protocol numbers that IPv4 and IPv6 share.
//! # Source
//! IANA, "Assigned Internet Protocol Numbers".

/// IPv6 hop-by-hop options (RFC 8200, 4.3).
pub const HOP_BY_HOP: u8 = 0;
pub const ICMP: u8 = 1;
/// IPv4 inside IP (RFC 2003).
pub const IPV4: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
/// IPv6 inside IP (RFC 2473, RFC 4213).
pub const IPV6: u8 = 41;
/// IPv6 routing header (RFC 8200, 4.4).
pub const ROUTING: u8 = 43;
/// IPv6 fragment header (RFC 8200, 4.5).
pub const FRAGMENT: u8 = 44;
pub const GRE: u8 = 47;
/// Authentication header (RFC 4302).
pub const AH: u8 = 51;
pub const ICMPV6: u8 = 58;
/// IPv6 destination options (RFC 8200, 4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
pub const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;
/// Host Identity Protocol (RFC 7401, 5.1).
pub const HIP: u8 = 139;
/// Shim6 (RFC 5533, 5.1).
pub const SHIM6: u8 = 140;

const PORTS: u8 = 1;
const EXTENSION: u8 = 1 << 1;
const TUNNEL: u8 = 1 << 2;

/// What kind of protocol each number is: a load where comparisons would be several jumps that are hard to predict.
const CLASSES: [u8; 256] = {
    const fn mark(mut classes: [u8; 256], class: u8, protocols: &[u8]) -> [u8; 256] {
        let mut i = 0;
        while i < protocols.len() {
            classes[protocols[i] as usize] |= class;
            i += 1;
        }
        classes
    }
    let classes = mark([0; 256], PORTS, &[TCP, UDP, DCCP, SCTP, UDP_LITE]);
    let classes =
        mark(classes, EXTENSION, &[HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION_OPTIONS, HIP, SHIM6]);
    mark(classes, TUNNEL, &[IPV4, IPV6, GRE])
};

/// Whether the protocol's header begins with a 16-bit source and a 16-bit destination port.
#[inline(always)]
pub fn has_ports(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & PORTS != 0
}

/// Whether the number names an IPv6 extension header that can be stepped over.
#[inline(always)]
pub fn is_extension(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & EXTENSION != 0
}

/// Whether the protocol carries packets itself: IP in IP, and GRE.
#[inline(always)]
pub fn is_tunnel(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & TUNNEL != 0
}
