//! Protocol numbers that IPv4 and IPv6 share.
//! # Source
//! IANA, "Assigned Internet Protocol Numbers".

/// IPv6 hop-by-hop options (RFC 8200, 4.3).
pub const HOP_BY_HOP: u8 = 0;
pub const ICMP: u8 = 1;
pub const IGMP: u8 = 2;
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
/// Encapsulating Security Payload (RFC 4303).
pub const ESP: u8 = 50;
/// Authentication header (RFC 4302).
pub const AH: u8 = 51;
pub const ICMPV6: u8 = 58;
/// IPv6 destination options (RFC 8200, 4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
/// Nothing follows (RFC 8200, 4.7).
pub const NO_NEXT_HEADER: u8 = 59;
pub const EIGRP: u8 = 88;
/// Checksums of OSPF, PIM and VRRP cover the pseudo header of IPv6 (RFC 5340, 7761, 9568).
pub const OSPF: u8 = 89;
/// Ethernet inside IP, with a header of two bytes (RFC 3378).
pub const ETHERIP: u8 = 97;
pub const PIM: u8 = 103;
pub const VRRP: u8 = 112;
pub const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;
/// MPLS labels inside IP (RFC 4023).
pub const MPLS: u8 = 137;
/// Host Identity Protocol (RFC 7401, 5.1).
pub const HIP: u8 = 139;
/// Shim6 (RFC 5533, 5.1).
pub const SHIM6: u8 = 140;
/// Ethernet inside IP, as segment routing carries it (RFC 8986, 4.9 and 10.1).
pub const ETHERNET: u8 = 143;

const PORTS: u8 = 1;
const EXTENSION: u8 = 1 << 1;
const USUAL4: u8 = 1 << 2;
const USUAL6: u8 = 1 << 3;

/// The classes of each protocol number. One load replaces comparisons, which would be several jumps that are hard to predict.
const CLASSES: [u8; 256] = {
    const fn mark(mut classes: [u8; 256], class: u8, protocols: &[u8]) -> [u8; 256] {
        let mut i = 0;
        while i < protocols.len() {
            classes[protocols[i] as usize] |= class;
            i += 1;
        }
        classes
    }
    const PORTED: &[u8] = &[TCP, UDP, DCCP, SCTP, UDP_LITE];
    const EXTENSIONS: &[u8] = &[HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION_OPTIONS, HIP, SHIM6];
    const CARRIERS: &[u8] = &[IPV4, IPV6, GRE, ESP, ETHERIP, MPLS, ETHERNET];
    const ROUTERS: &[u8] = &[EIGRP, OSPF, PIM, VRRP];
    let classes = mark(mark([0; 256], PORTS, PORTED), EXTENSION, EXTENSIONS);
    let classes = mark(mark(classes, USUAL4 | USUAL6, CARRIERS), USUAL4 | USUAL6, ROUTERS);
    let classes = mark(mark(classes, USUAL4 | USUAL6, PORTED), USUAL4, &[ICMP, IGMP, AH]);
    mark(mark(classes, USUAL6, EXTENSIONS), USUAL6, &[ICMPV6, NO_NEXT_HEADER])
};

/// Returns whether the protocol's header begins with a 16-bit source and a 16-bit destination port.
#[inline(always)]
pub fn has_ports(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & PORTS != 0
}

/// Returns whether the number names an IPv6 extension header that can be stepped over.
#[inline(always)]
pub fn is_extension(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & EXTENSION != 0
}

/// Returns whether the number is one that is met behind IPv4 headers: a guess at IPv4 is worth more with it.
pub fn is_usual_over_ipv4(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & USUAL4 != 0
}

/// Returns whether the number is one that is met behind IPv6 headers.
pub fn is_usual_over_ipv6(protocol: u8) -> bool {
    CLASSES[usize::from(protocol)] & USUAL6 != 0
}
