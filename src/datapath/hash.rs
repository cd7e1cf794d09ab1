//! Flow hash: one number for both directions of a flow, and for every fragment of a datagram.
//!
//! Stands behind parse; sampling and balancing take their decisions from it. It is a function of the packet, the kind and the seed
//! alone, the same on every machine and in every version, so that two brokers with one seed choose the same flows.
//! `docs/flow-hash.md` says what is hashed for each kind.

use crate::datapath::burst::{MAX_BURST, Selection};
use crate::datapath::parse::{Depth, Layers, Stack, innermost_unfragmented};
use crate::dpdk::Frame;
use crate::headers::arp::Arp;
use crate::headers::chunk;
use crate::headers::ethernet;
use crate::headers::ipv4::Ipv4;
use crate::headers::ipv6::Ipv6;

/// What of a packet is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum HashKind {
    /// IP addresses (`hash ip`).
    Ip,
    /// IP addresses and ports (`hash ip-port`).
    IpPort,
    /// IP addresses, protocol and ports (`hash 5-tuple`).
    #[default]
    FiveTuple,
    /// MAC addresses (`hash mac`).
    Mac,
    /// VLAN id of the outermost tag; 0 where untagged (`hash vlan`).
    Vlan,
    /// Virtual network id of VXLAN, GENEVE or NVGRE; without one as `FiveTuple` (`hash vni`).
    Vni,
    /// Tunnel endpoint id of GTP-U; without one as `FiveTuple` (`hash teid`).
    Teid,
}

impl HashKind {
    /// How deep packets must have been parsed for this kind at `depth`.
    pub fn parse_depth(self, depth: Depth) -> Depth {
        if matches!(self, HashKind::Vni | HashKind::Teid) { Depth::Full } else { depth }
    }
}

/// Multipliers of wyhash (public domain): odd, with 32 bits set each.
const FOLDS: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// What keeps kinds of keys apart that could hold the same bits.
mod domain {
    pub const IPV4: u64 = 1 << 56;
    pub const IPV6: u64 = 2 << 56;
    pub const MAC: u64 = 3 << 56;
    pub const ID: u64 = 4 << 56;
}

/// The high half of the product, folded onto the low one.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Two endpoints, in whatever order, and what both directions share.
#[inline(always)]
fn symmetric(a: u64, b: u64, shared: u64, seed: u64) -> u64 {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    fold(fold(low ^ seed ^ FOLDS[0], high ^ FOLDS[1]) ^ shared, seed ^ FOLDS[2])
}

#[inline(always)]
fn identifier(id: u64, seed: u64) -> u64 {
    symmetric(id, id, domain::ID, seed)
}

/// The hash of one packet. `layers` are those that `parse` gave for `frame`, at least as deep as `kind.parse_depth(depth)`.
/// All 64 bits are of use; those who need 32 take the low half.
#[inline]
pub fn flow_hash(kind: HashKind, depth: Depth, seed: u64, frame: &Frame<'_>, layers: &Layers) -> u64 {
    match kind {
        HashKind::Ip => tuple::<false, false>(frame, stack_of(depth, frame, layers), seed),
        HashKind::IpPort => tuple::<true, false>(frame, stack_of(depth, frame, layers), seed),
        HashKind::FiveTuple => tuple::<true, true>(frame, stack_of(depth, frame, layers), seed),
        HashKind::Mac => macs(frame.bytes(), stack_of(depth, frame, layers), seed),
        HashKind::Vlan => {
            let id = stack_of(depth, frame, layers).vlan(frame.bytes()).unwrap_or(0);
            identifier(u64::from(id), seed)
        }
        HashKind::Vni => identified(depth, frame, layers, seed, |index| layers.shells()[index].vni(frame.bytes())),
        HashKind::Teid => identified(depth, frame, layers, seed, |index| layers.shells()[index].teid(frame.bytes())),
    }
}

/// The hashes of the packets that are `selected`: `hashes[i]` becomes that of `frames[i]`; the others are left alone.
///
/// # Panics
/// If `frames` or `layers` are shorter than the highest selected index says.
pub fn flow_hash_burst(
    kind: HashKind,
    depth: Depth,
    seed: u64,
    frames: &[Frame<'_>],
    layers: &[Layers],
    selected: Selection,
    hashes: &mut [u64; MAX_BURST],
) {
    // The kind is matched here, once a burst: `flow_hash` is inlined into each loop with its kind known.
    macro_rules! each {
        ($kind:expr) => {
            for i in selected.indices() {
                hashes[i] = flow_hash($kind, depth, seed, &frames[i], &layers[i]);
            }
        };
    }
    match kind {
        HashKind::Ip => each!(HashKind::Ip),
        HashKind::IpPort => each!(HashKind::IpPort),
        HashKind::FiveTuple => each!(HashKind::FiveTuple),
        HashKind::Mac => each!(HashKind::Mac),
        HashKind::Vlan => each!(HashKind::Vlan),
        HashKind::Vni => each!(HashKind::Vni),
        HashKind::Teid => each!(HashKind::Teid),
    }
}

/// The stack whose fields are hashed. What later fragments of a tunnel's packet do not show is not hashed in the first either.
#[inline(always)]
fn stack_of(depth: Depth, frame: &Frame<'_>, layers: &Layers) -> Stack {
    match depth {
        Depth::Outer => layers.outer,
        Depth::Full if layers.has_fragmented_carrier() => innermost_unfragmented(frame),
        Depth::Full => layers.inner,
    }
}

/// The identifier of the outermost shell that has one, or the innermost at `Depth::Full`; else the five-tuple.
#[inline]
fn identified(depth: Depth, frame: &Frame<'_>, layers: &Layers, seed: u64, id: impl Fn(usize) -> Option<u32>) -> u64 {
    let mut indices = 0..layers.shells().len();
    // Later fragments of a tunnel's packet show no identifier, so the first does not count by its own either.
    let found = match depth {
        _ if layers.has_fragmented_carrier() => None,
        Depth::Outer => indices.find_map(id),
        Depth::Full => indices.rev().find_map(id),
    };
    match found {
        Some(id) => identifier(u64::from(id), seed),
        None => tuple::<true, true>(frame, stack_of(depth, frame, layers), seed),
    }
}

/// Addresses, and where asked for ports and protocol, of IP and ARP; of anything else the MAC addresses.
///
/// Fragments are hashed by their addresses alone. Ports are in the first one only; the protocol is left out too, because IPv6 fragments
/// of one datagram may name different ones (RFC 8200, 4.5: only that of the first counts).
#[inline(always)]
fn tuple<const PORTS: bool, const PROTOCOL: bool>(frame: &Frame<'_>, stack: Stack, seed: u64) -> u64 {
    let bytes = frame.bytes();
    let l3 = stack.l3();
    if stack.is_ipv4() {
        let Some(header) = Ipv4::at(bytes, l3) else { return macs(bytes, stack, seed) };
        let (source_port, destination_port) = ports::<PORTS>(bytes, &stack);
        let shared = domain::IPV4 | protocol::<PROTOCOL>(&stack);
        let source = u64::from(header.source()) << 16 | source_port;
        let destination = u64::from(header.destination()) << 16 | destination_port;
        symmetric(source, destination, shared, seed)
    } else if stack.is_ipv6() {
        let Some(header) = Ipv6::at(bytes, l3) else { return macs(bytes, stack, seed) };
        let (source_port, destination_port) = ports::<PORTS>(bytes, &stack);
        let shared = domain::IPV6 | protocol::<PROTOCOL>(&stack);
        let source = address(header.source(), seed) ^ source_port;
        let destination = address(header.destination(), seed) ^ destination_port;
        symmetric(source, destination, shared, seed)
    } else if stack.is_arp() {
        let Some(arp) = Arp::at(bytes, l3) else { return macs(bytes, stack, seed) };
        symmetric(u64::from(arp.sender()) << 16, u64::from(arp.target()) << 16, domain::IPV4, seed)
    } else {
        macs(bytes, stack, seed)
    }
}

/// The ports that count: 0 where the kind has none, or the packet.
#[inline(always)]
fn ports<const PORTS: bool>(bytes: &[u8], stack: &Stack) -> (u64, u64) {
    let ports = if PORTS { stack.flow_ports(bytes) } else { 0 };
    (u64::from(ports >> 16), u64::from(ports & 0xffff))
}

#[inline(always)]
fn protocol<const PROTOCOL: bool>(stack: &Stack) -> u64 {
    if PROTOCOL { u64::from(stack.protocol()) & u64::from(stack.is_fragment()).wrapping_sub(1) } else { 0 }
}

/// An IPv6 address as one number.
#[inline(always)]
fn address(address: u128, seed: u64) -> u64 {
    fold((address >> 64) as u64 ^ seed ^ FOLDS[3], address as u64 ^ FOLDS[2])
}

/// The MAC addresses: where a tunnel carries something with no Ethernet in front, those of the outer frame.
#[inline]
fn macs(bytes: &[u8], stack: Stack, seed: u64) -> u64 {
    let Some(addresses) = chunk::<{ ethernet::ADDRESSES_LEN }>(bytes, stack.ethernet().unwrap_or(0)) else {
        return symmetric(0, 0, domain::MAC, seed);
    };
    let [a, b, c, d, e, f, rest @ ..] = *addresses;
    let [g, h, i, j, k, l] = rest;
    symmetric(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), u64::from_be_bytes([0, 0, g, h, i, j, k, l]), domain::MAC, seed)
}
