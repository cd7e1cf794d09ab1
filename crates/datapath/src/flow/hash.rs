//! Flow hash: one number for both directions of a flow, and for every fragment of a datagram.
//!
//! Stands behind parse; sampling and balancing take their decisions from it. It is a function of the packet, the kind and the seed
//! alone, the same on every machine and in every version, so that two brokers with one seed choose the same flows.
//! `docs/reference/flow-hash.md` says what is hashed for each kind.

use tapline_api::words::HashKind;
use tapline_dpdk::port::RSS_KEY_WORD;
use tapline_packet::burst::{Known, MAX_BURST, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::headers::arp::Arp;
use tapline_packet::headers::chunk;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ip;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::layers::{Depth, Layers, Stack, innermost_unfragmented};

/// Returns how deep packets must have been parsed for a hash of `kind` at `depth`.
pub fn parse_depth(kind: HashKind, depth: Depth) -> Depth {
    if matches!(kind, HashKind::Vni | HashKind::Teid) { Depth::Full } else { depth }
}

/// Multipliers of wyhash (public domain): odd, with 32 bits set each.
const FOLDS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Bits that keep kinds of keys apart which could be equal otherwise.
mod domain {
    pub(super) const IPV4: u64 = 1 << 56;
    pub(super) const IPV6: u64 = 2 << 56;
    pub(super) const MAC: u64 = 3 << 56;
    pub(super) const ID: u64 = 4 << 56;
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
    let low = a.min(b);
    let high = a ^ b ^ low;
    fold(fold(low ^ seed ^ FOLDS[0], high ^ FOLDS[1]) ^ shared, seed ^ FOLDS[2])
}

#[inline(always)]
fn identifier(id: u64, seed: u64) -> u64 {
    symmetric(id, id, domain::ID, seed)
}

/// The hash of one packet. `layers` are those that `parse` gave for `frame`, at least as deep as `parse_depth(kind, depth)`.
/// All 64 bits are of use; those who need 32 take the low half.
// always: left to judge, the compiler calls it for each packet and asks for the kind there, which takes twice the time
#[inline(always)]
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
        HashKind::Rss => rss(frame, stack_of(depth, frame, layers)),
        HashKind::Vni => {
            identified(depth, frame, layers, seed, |index| layers.shells()[index].vni(frame.bytes()))
        }
        HashKind::Teid => {
            identified(depth, frame, layers, seed, |index| layers.shells()[index].teid(frame.bytes()))
        }
    }
}

/// One way to hash flows that a plan uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashSpec {
    pub kind: HashKind,
    /// Outer headers, or those inside all tunnels.
    pub depth: Depth,
    pub seed: u64,
}

/// The hashes of the packets that are `selected`, whose layers are known: `hashes[i]` becomes that of `frames[i]`; the others are
/// left alone.
///
/// # Panics
/// If `frames` is shorter than the highest selected index says.
pub fn flow_hash_burst(
    HashSpec { kind, depth, seed }: HashSpec,
    frames: &[Frame<'_>],
    layers: Known<'_, Layers>,
    selected: Selection,
    hashes: &mut [u64; MAX_BURST],
) {
    // Kind and depth are matched here, once a burst: `flow_hash` is inlined into each loop with both known.
    macro_rules! each {
        ($kind:expr) => {
            match depth {
                Depth::Outer => each!($kind, Depth::Outer),
                Depth::Full => each!($kind, Depth::Full),
            }
        };
        ($kind:expr, $depth:expr) => {
            for (i, layers) in layers.of(selected) {
                hashes[i] = flow_hash($kind, $depth, seed, &frames[i], layers);
            }
        };
        (tuple $kind:expr) => {
            match depth {
                Depth::Outer => each!(tuple $kind, Depth::Outer),
                Depth::Full => each!(tuple $kind, Depth::Full),
            }
        };
        (tuple $kind:expr, $depth:expr) => {{
            const PROTOCOL: bool = matches!($kind, HashKind::FiveTuple);
            let hash = |frame: &Frame<'_>, layers: &Layers| {
                let stack = stack_of($depth, frame, layers);
                match plain_tuple::<PROTOCOL>(frame, stack, seed) {
                    Some(hash) => hash,
                    None => other_tuple::<PROTOCOL>(frame, stack, seed),
                }
            };
            if selected.count() as usize == frames.len()
                && let Some(layers) = layers.first(frames.len())
            {
                frames.iter().zip(layers).zip(hashes.iter_mut()).for_each(|((frame, layers), out)| *out = hash(frame, layers));
            } else {
                layers.of(selected).for_each(|(i, layers)| hashes[i] = hash(&frames[i], layers));
            }
        }};
    }
    match kind {
        HashKind::Ip => each!(HashKind::Ip),
        HashKind::IpPort => each!(tuple HashKind::IpPort),
        HashKind::FiveTuple => each!(tuple HashKind::FiveTuple),
        HashKind::Mac => each!(HashKind::Mac),
        HashKind::Vlan => each!(HashKind::Vlan),
        HashKind::Vni => each!(HashKind::Vni),
        HashKind::Teid => each!(HashKind::Teid),
        HashKind::Rss => each!(HashKind::Rss),
    }
}

/// The five-tuple's hashes of those packets that are `selected` and plain, which need no layers: TCP, UDP or the like over IPv4
/// without tags, options or fragments. `hashes[i]` becomes what [`flow_hash`] gives for `frames[i]` at `Depth::Outer`; the packets
/// that were hashed.
///
/// # Panics
/// If `frames` is shorter than the highest selected index says.
// apart from other kinds, so that the loop has all registers
#[inline(never)]
pub fn plain_hash_burst(
    seed: u64,
    frames: &[Frame<'_>],
    selected: Selection,
    hashes: &mut [u64; MAX_BURST],
    each: impl Fn(u64),
) -> Selection {
    const L3: usize = ethernet::HEADER_LEN;
    let mut hashed = Selection::NONE;
    for index in selected.indices() {
        let Some(head) = frames[index].bytes().first_chunk::<{ L3 + 24 }>() else { continue };
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let protocol = head[L3 + 9];
        let is_plain = (word(L3 - 2) >> 8 == u32::from(ethernet::TYPE_IPV4) << 8 | 0x45)
            & (word(L3 + 4) & 0x3fff == 0)
            & ip::has_ports(protocol);
        if is_plain {
            let ports = word(L3 + 20);
            let addresses = u64::from(word(L3 + 12)) << 32 | u64::from(word(L3 + 16));
            let source = (addresses >> 16) & !0xffff | u64::from(ports >> 16);
            let destination = addresses << 32 >> 16 | u64::from(ports & 0xffff);
            hashes[index] = symmetric(source, destination, domain::IPV4 | u64::from(protocol), seed);
            each(hashes[index]);
            hashed.insert(index);
        }
    }
    hashed
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
fn identified(
    depth: Depth,
    frame: &Frame<'_>,
    layers: &Layers,
    seed: u64,
    id: impl Fn(usize) -> Option<u32>,
) -> u64 {
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
/// Fragments are hashed by their addresses alone. Ports are in the first one only; the protocol is left out too, because IPv6
/// fragments of one datagram may name different ones (RFC 8200, 4.5: only that of the first counts).
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

/// As [`tuple`] with ports, of an unfragmented packet of IPv4 that has some; `None` of any other.
#[inline(always)]
fn plain_tuple<const PROTOCOL: bool>(frame: &Frame<'_>, stack: Stack, seed: u64) -> Option<u64> {
    let headers = stack.ipv4_to_ports(frame.bytes())?;
    let header = Ipv4::at(headers, 0)?;
    let ports = u32::from_be_bytes(*headers.last_chunk()?);
    let source = u64::from(header.source()) << 16 | u64::from(ports >> 16);
    let destination = u64::from(header.destination()) << 16 | u64::from(ports & 0xffff);
    let protocol = if PROTOCOL { u64::from(stack.protocol()) } else { 0 };
    Some(symmetric(source, destination, domain::IPV4 | protocol, seed))
}

/// As [`tuple`] with ports; of its own, so that it takes no registers from the loop over those that are plain.
#[inline(never)]
fn other_tuple<const PROTOCOL: bool>(frame: &Frame<'_>, stack: Stack, seed: u64) -> u64 {
    tuple::<true, PROTOCOL>(frame, stack, seed)
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

/// Computes the RSS hash with the symmetric key. The key repeats a word of 16 bits. So the Toeplitz hash depends on nothing but the
/// exclusive or of all such words of addresses and ports, and its halves are equal. ARP is hashed by its protocol addresses, other
/// frames without IP by their MAC addresses.
/// # Source
/// Toeplitz hash: Microsoft, "RSS hashing functions"; the key: Woo and Park, "Scalable TCP Session Monitoring with Symmetric
/// Receive-side Scaling", 2012.
#[inline]
fn rss(frame: &Frame<'_>, stack: Stack) -> u64 {
    let bytes = frame.bytes();
    let l3 = stack.l3();
    let addresses = if stack.is_ipv4() {
        Ipv4::at(bytes, l3).map(|header| header.source() ^ header.destination())
    } else if stack.is_ipv6() {
        Ipv6::at(bytes, l3).map(|header| {
            let both = header.source() ^ header.destination();
            let half = (both >> 64) as u64 ^ both as u64;
            (half >> 32) as u32 ^ half as u32
        })
    } else if stack.is_arp() {
        Arp::at(bytes, l3).map(|arp| arp.sender() ^ arp.target())
    } else {
        None
    };
    let Some(addresses) = addresses else { return macs(bytes, stack, 0) };
    let has_ports = matches!(stack.protocol(), ip::TCP | ip::UDP);
    let words = addresses ^ if has_ports { stack.flow_ports(bytes) } else { 0 };
    let [high, low] = ((words >> 16) as u16 ^ words as u16).to_be_bytes();
    let half = u64::from(TOEPLITZ[0][usize::from(high)] ^ TOEPLITZ[1][usize::from(low)]);
    half << 16 | half
}

/// Half the Toeplitz hash of a word's high and low byte.
const TOEPLITZ: [[u16; 256]; 2] = {
    let mut halves = [[0; 256]; 2];
    let mut at = 0;
    while at < 512 {
        let mut bit = 0;
        while bit < 8 {
            if (at % 256) >> (7 - bit) & 1 == 1 {
                halves[at / 256][at % 256] ^= RSS_KEY_WORD.rotate_left((at / 256 * 8 + bit) as u32);
            }
            bit += 1;
        }
        at += 1;
    }
    halves
};

/// The MAC addresses: where a tunnel carries something with no Ethernet in front, those of the outer frame.
#[inline]
fn macs(bytes: &[u8], stack: Stack, seed: u64) -> u64 {
    let Some(addresses) = chunk::<{ ethernet::ADDRESSES_LEN }>(bytes, stack.ethernet().unwrap_or(0)) else {
        return symmetric(0, 0, domain::MAC, seed);
    };
    let [a, b, c, d, e, f, rest @ ..] = *addresses;
    let [g, h, i, j, k, l] = rest;
    symmetric(
        u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        u64::from_be_bytes([0, 0, g, h, i, j, k, l]),
        domain::MAC,
        seed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_packet::layers::parse;
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B, Random};

    const A: u32 = 0x0a00_0001;
    const B: u32 = 0xc0a8_0102;
    const V6_A: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0001;
    const V6_B: u128 = 0x2001_0db8_0001_0000_0000_0000_0000_0002;

    fn hash(kind: HashKind, depth: Depth, bytes: &[u8]) -> u64 {
        let frame = Frame::whole(bytes);
        flow_hash(kind, depth, 1, &frame, &parse(&frame, Depth::Full))
    }

    fn outer(kind: HashKind, bytes: &[u8]) -> u64 {
        hash(kind, Depth::Outer, bytes)
    }

    fn tcp4(source: u32, destination: u32, sport: u16, dport: u16) -> Vec<u8> {
        packets::ethernet(
            MAC_A,
            MAC_B,
            0x0800,
            &packets::ipv4(source, destination, 6, 0, &packets::tcp(sport, dport, &[])),
        )
    }

    fn udp4(source: u32, destination: u32, sport: u16, dport: u16) -> Vec<u8> {
        packets::ethernet(
            MAC_A,
            MAC_B,
            0x0800,
            &packets::ipv4(source, destination, 17, 0, &packets::udp(sport, dport, &[])),
        )
    }

    fn v6(source: u128, destination: u128, next_header: u8, payload: &[u8]) -> Vec<u8> {
        packets::ethernet(MAC_A, MAC_B, 0x86dd, &packets::ipv6(source, destination, next_header, payload))
    }

    #[test]
    fn endpoints_are_exchanged_as_pairs_not_field_by_field() {
        for kind in [HashKind::IpPort, HashKind::FiveTuple] {
            let hash = outer(kind, &tcp4(A, B, 1000, 80));
            assert_eq!(hash, outer(kind, &tcp4(B, A, 80, 1000)));
            assert_ne!(hash, outer(kind, &tcp4(B, A, 1000, 80)), "ports stay with their address");
        }
    }

    /// The Toeplitz hash, bit by bit.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let window =
            |at: usize| (0..32).fold(0, |window, next| window << 1 | u32::from(bit(key, at + next)));
        (0..input.len() * 8).filter(|&at| bit(input, at) == 1).fold(0, |hash, at| hash ^ window(at))
    }

    const NIC_KEY: [u8; 40] = {
        let mut key = [0x6d; 40];
        let mut at = 1;
        while at < 40 {
            key[at] = 0x5a;
            at += 2;
        }
        key
    };

    #[test]
    fn the_hash_of_rss_is_toeplitz_with_the_symmetric_key() {
        // Microsoft's verification suite: 66.9.149.187:2794 > 161.142.100.80:1766.
        let tuple = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&tapline_thash::MICROSOFT_KEY, &tuple), 0x51cc_c178);
        let soft = tapline_thash::SoftRss::new(NIC_KEY);
        let mut random = Random(5);
        for _ in 0..500 {
            let (source, destination) = (random.next() as u32, random.next() as u32);
            let (sport, dport) = (random.next() as u16, random.next() as u16);
            let mut dpdk = [0];
            soft.hash(&mut [[source, destination, u32::from(sport) << 16 | u32::from(dport)]], &mut dpdk);
            for packet in [tcp4(source, destination, sport, dport), udp4(destination, source, dport, sport)]
            {
                assert_eq!(outer(HashKind::Rss, &packet), u64::from(dpdk[0]));
            }
            let without_ports =
                toeplitz(&NIC_KEY, &[source.to_be_bytes(), destination.to_be_bytes()].concat());
            let icmp = packets::ipv4(source, destination, 1, 0, &[8; 8]);
            let fragment =
                packets::ipv4(source, destination, 17, 0x2000, &packets::udp(sport, dport, &[0; 8]));
            for packet in [icmp, fragment] {
                assert_eq!(
                    outer(HashKind::Rss, &packets::ethernet(MAC_A, MAC_B, 0x0800, &packet)),
                    u64::from(without_ports)
                );
            }
            let (source, destination) =
                (V6_A ^ u128::from(random.next()), V6_B ^ u128::from(random.next()) << 50);
            let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
            let tuple = [&source.to_be_bytes()[..], &destination.to_be_bytes(), &ports].concat();
            let packet = v6(source, destination, 6, &packets::tcp(sport, dport, &[]));
            assert_eq!(outer(HashKind::Rss, &packet), u64::from(toeplitz(&NIC_KEY, &tuple)));
        }
    }

    #[test]
    fn a_burst_is_hashed_as_its_packets_are_all_of_it_or_a_part() {
        let packets = packets::mix(64, 4, 41);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let layers: [Layers; MAX_BURST] = std::array::from_fn(|i| parse(&frames[i], Depth::Full));
        for kind in HashKind::ALL {
            for depth in [Depth::Outer, Depth::Full] {
                for selected in [u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63] {
                    let mut hashes = [0; MAX_BURST];
                    flow_hash_burst(
                        HashSpec { kind, depth, seed: 1 },
                        &frames,
                        Known::all(&layers),
                        Selection::from_bits(selected),
                        &mut hashes,
                    );
                    for index in 0..64 {
                        let alone = flow_hash(kind, depth, 1, &frames[index], &layers[index]);
                        let expected = if selected >> index & 1 == 1 { alone } else { 0 };
                        assert_eq!(hashes[index], expected, "{kind:?} {depth:?} packet {index}");
                    }
                    if (kind, depth) == (HashKind::FiveTuple, Depth::Outer) {
                        let mut plain = [0; MAX_BURST];
                        let hashed = plain_hash_burst(
                            1,
                            &frames,
                            Selection::from_bits(selected),
                            &mut plain,
                            |_| (),
                        );
                        assert_eq!(hashed.bits() & !selected, 0);
                        assert!(
                            selected != u64::MAX || hashed != Selection::NONE && hashed.bits() != selected,
                            "the mix has both kinds"
                        );
                        hashed
                            .indices()
                            .for_each(|index| assert_eq!(plain[index], hashes[index], "packet {index}"));
                    }
                }
            }
        }
    }

    #[test]
    fn a_kind_hashes_its_fields_and_no_other() {
        let packet = tcp4(A, B, 1000, 80);
        let (other_port, other_protocol) = (tcp4(A, B, 1001, 80), udp4(A, B, 1000, 80));
        let mut other_mac = packet.clone();
        other_mac[0] ^= 2;
        let differs = |kind, other: &[u8]| outer(kind, &packet) != outer(kind, other);
        for (kind, port, protocol, mac) in [
            (HashKind::Ip, false, false, false),
            (HashKind::IpPort, true, false, false),
            (HashKind::FiveTuple, true, true, false),
            (HashKind::Mac, false, false, true),
            (HashKind::Vlan, false, false, false),
        ] {
            assert_eq!(differs(kind, &other_port), port, "{kind:?}");
            assert_eq!(differs(kind, &other_protocol), protocol, "{kind:?}");
            assert_eq!(differs(kind, &other_mac), mac, "{kind:?}");
        }
    }

    #[test]
    fn fragments_go_where_a_hash_without_ports_sends_their_flow() {
        for fragment in [0x2000, 0x2010, 0x0010] {
            let payload = packets::udp(1000, 53, &[0; 16]);
            let bytes =
                packets::ethernet(MAC_A, MAC_B, 0x0800, &packets::ipv4(A, B, 17, fragment, &payload));
            for kind in [HashKind::Ip, HashKind::IpPort, HashKind::FiveTuple] {
                assert_eq!(
                    outer(kind, &bytes),
                    outer(HashKind::Ip, &udp4(A, B, 1000, 53)),
                    "{kind:?} {fragment:#x}"
                );
            }
        }
    }

    #[test]
    fn fragments_of_ipv6_hash_alike_although_they_name_different_headers() {
        let udp = packets::udp(1000, 53, &[0; 16]);
        let first = v6(V6_A, V6_B, 44, &packets::fragment(60, 0, true, &packets::options(17, &udp)));
        let later = v6(V6_A, V6_B, 44, &packets::fragment(17, 4, false, &[0; 16]));
        assert_eq!(outer(HashKind::FiveTuple, &first), outer(HashKind::FiveTuple, &later));
        assert_eq!(outer(HashKind::FiveTuple, &first), outer(HashKind::Ip, &v6(V6_A, V6_B, 17, &udp)));
        let atomic = v6(V6_A, V6_B, 44, &packets::fragment(17, 0, false, &udp));
        assert_eq!(
            outer(HashKind::FiveTuple, &atomic),
            outer(HashKind::FiveTuple, &v6(V6_A, V6_B, 17, &udp))
        );
    }

    #[test]
    fn extension_headers_flow_labels_tags_and_labels_do_not_change_the_hash() {
        let udp = packets::udp(1000, 53, &[0; 16]);
        let plain = v6(V6_A, V6_B, 17, &udp);
        let mut labelled = plain.clone();
        labelled[16] = 7;
        let extended = v6(V6_A, V6_B, 0, &packets::options(60, &packets::options(17, &udp)));
        let tagged = packets::ethernet(MAC_A, MAC_B, 0x8100, &packets::tag(5, 0x86dd, &plain[14..]));
        let mpls = packets::ethernet(MAC_A, MAC_B, 0x8847, &packets::mpls(&[16, 17], &plain[14..]));
        for other in [labelled, extended, tagged, mpls] {
            assert_eq!(outer(HashKind::FiveTuple, &plain), outer(HashKind::FiveTuple, &other));
        }
    }

    #[test]
    fn arp_goes_where_the_addresses_it_asks_for_go() {
        let request = packets::ethernet([0xff; 6], MAC_A, 0x0806, &packets::arp(1, A, B));
        let reply = packets::ethernet(MAC_A, MAC_B, 0x0806, &packets::arp(2, B, A));
        for kind in [HashKind::Ip, HashKind::IpPort, HashKind::FiveTuple] {
            assert_eq!(outer(kind, &request), outer(kind, &reply));
            assert_eq!(outer(kind, &request), outer(HashKind::Ip, &tcp4(A, B, 1, 2)));
        }
    }

    #[test]
    fn the_inner_hash_is_that_of_the_inner_frame_alone() {
        let inner = tcp4(A, B, 1000, 80);
        let tunnel = |sport, vni| {
            let vxlan = packets::udp(sport, 4789, &packets::vxlan(vni, &inner));
            packets::ethernet(MAC_A, MAC_B, 0x0800, &packets::ipv4(1, 2, 17, 0, &vxlan))
        };
        for kind in [HashKind::Ip, HashKind::IpPort, HashKind::FiveTuple, HashKind::Mac] {
            assert_eq!(hash(kind, Depth::Full, &tunnel(1, 1)), outer(kind, &inner));
            assert_ne!(outer(kind, &tunnel(1, 1)), outer(HashKind::Vlan, &inner));
        }
        assert_eq!(outer(HashKind::Vni, &tunnel(1, 9)), outer(HashKind::Vni, &tunnel(2, 9)));
        assert_ne!(outer(HashKind::Vni, &tunnel(1, 9)), outer(HashKind::Vni, &tunnel(1, 8)));
        assert_eq!(outer(HashKind::Vni, &inner), outer(HashKind::FiveTuple, &inner));
    }

    #[test]
    fn the_first_fragment_of_a_tunnel_packet_hashes_like_the_later_ones() {
        let vxlan = packets::udp(9, 4789, &packets::vxlan(1, &tcp4(A, B, 1000, 80)));
        let fragment = |field, payload: &[u8]| {
            packets::ethernet(MAC_A, MAC_B, 0x0800, &packets::ipv4(1, 2, 17, field, payload))
        };
        let (first, later) = (fragment(0x2000, &vxlan), fragment(0x0020, &[0; 64]));
        for kind in [HashKind::Ip, HashKind::FiveTuple, HashKind::Vni] {
            for depth in [Depth::Outer, Depth::Full] {
                assert_eq!(hash(kind, depth, &first), hash(kind, depth, &later), "{kind:?} {depth:?}");
            }
        }
    }

    /// The hash is part of what users rely on: brokers of different versions with one seed choose the same flows. The numbers come
    /// from the formulas of `docs/reference/flow-hash.md`, computed in another language.
    #[test]
    fn hashes_are_those_of_the_documented_formulas() {
        let udp = packets::udp(1000, 53, &[]);
        assert_eq!(outer(HashKind::FiveTuple, &tcp4(A, B, 1000, 80)), 0x8b01_6e72_0713_37f7);
        assert_eq!(outer(HashKind::FiveTuple, &v6(V6_A, V6_B, 17, &udp)), 0xa016_0413_e758_56e6);
        assert_eq!(outer(HashKind::Mac, &tcp4(A, B, 1000, 80)), 0x357b_e4cd_71af_3379);
    }

    /// Pearson's statistic over `buckets`, as a distance from its mean in standard deviations.
    fn deviation(hashes: &[u64], buckets: usize, bucket: impl Fn(u64) -> usize) -> f64 {
        let mut counts = vec![0u32; buckets];
        hashes.iter().for_each(|hash| counts[bucket(*hash)] += 1);
        let expected = hashes.len() as f64 / buckets as f64;
        let statistic: f64 =
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        let freedom = (buckets - 1) as f64;
        (statistic - freedom) / (2.0 * freedom).sqrt()
    }

    /// Sets of flows as networks have them, of 65536 each.
    fn flow_sets() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let mut random = Random(5);
        let flows = 0..65536u32;
        vec![
            ("sequential sources", flows.clone().map(|i| tcp4(A + i, B, 1000, 80)).collect()),
            ("sequential pairs", flows.clone().map(|i| tcp4(A + i % 256, B + i / 256, 1000, 80)).collect()),
            ("mirrored pairs", flows.clone().map(|i| tcp4(A + i, A + 65536 + i, 5, 5)).collect()),
            ("one pair, sequential ports", flows.clone().map(|i| tcp4(A, B, i as u16, 80)).collect()),
            ("strides of 256", flows.clone().map(|i| tcp4(A + (i << 8), B, 1000, 80)).collect()),
            (
                "random",
                flows
                    .clone()
                    .map(|_| udp4(random.next() as u32, random.next() as u32, random.next() as u16, 53))
                    .collect(),
            ),
            (
                "sequential IPv6",
                flows.map(|i| v6(V6_A + u128::from(i), V6_B, 6, &packets::tcp(1000, 443, &[]))).collect(),
            ),
        ]
    }

    #[test]
    fn flows_spread_evenly_over_buckets_of_low_and_of_high_bits() {
        for (name, flows) in flow_sets() {
            for (seed, kind) in [(0, HashKind::FiveTuple), (1, HashKind::FiveTuple), (1, HashKind::IpPort)]
            {
                let hashes: Vec<u64> = flows
                    .iter()
                    .map(|bytes| {
                        let frame = Frame::whole(bytes);
                        flow_hash(kind, Depth::Outer, seed, &frame, &parse(&frame, Depth::Outer))
                    })
                    .collect();
                for buckets in [3, 8, 64, 1000, 4096] {
                    let low = deviation(&hashes, buckets, |hash| hash as u32 as usize % buckets);
                    let high = deviation(&hashes, buckets, |hash| ((hash >> 32) as usize * buckets) >> 32);
                    println!("{name}, {kind:?}, seed {seed}, {buckets} buckets: {low:.1} {high:.1}");
                    assert!(
                        low.abs() < 5.0 && high.abs() < 5.0,
                        "{name}, {kind:?}, seed {seed}, {buckets} buckets: {low:.1} {high:.1}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_bit_of_addresses_and_ports_changes_each_bit_of_the_hash_half_the_time() {
        const FLOWS: u32 = 1000;
        let mut random = Random(11);
        let flows: Vec<Vec<u8>> = (0..FLOWS)
            .map(|_| {
                tcp4(random.next() as u32, random.next() as u32, random.next() as u16, random.next() as u16)
            })
            .collect();
        // Addresses are the bytes 26 to 33 of the frame, ports 34 to 37.
        for bit in 26 * 8..38 * 8 {
            let mut changed = [0u32; 64];
            for flow in &flows {
                let mut other = flow.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                let difference = outer(HashKind::FiveTuple, flow) ^ outer(HashKind::FiveTuple, &other);
                (0..64).for_each(|i| changed[i] += (difference >> i) as u32 & 1);
            }
            // Six standard deviations of a thousand fair coins are 95.
            for (i, changed) in changed.into_iter().enumerate() {
                assert!(
                    (405..=595).contains(&changed),
                    "bit {bit} of the packet changes bit {i} of the hash {changed} times in 1000"
                );
            }
        }
    }

    #[test]
    fn seeds_give_hashes_that_have_nothing_to_do_with_each_other() {
        let flows = &flow_sets()[0].1;
        let both = |bytes: &Vec<u8>| {
            let frame = Frame::whole(bytes);
            let layers = parse(&frame, Depth::Outer);
            let of = |seed| flow_hash(HashKind::FiveTuple, Depth::Outer, seed, &frame, &layers) % 64;
            of(1) * 64 + of(2)
        };
        let pairs: Vec<u64> = flows.iter().map(both).collect();
        assert!(deviation(&pairs, 4096, |pair| pair as usize).abs() < 5.0);
    }

    #[test]
    fn a_burst_gets_the_hashes_of_its_selected_packets_alone() {
        let packets: Vec<Vec<u8>> = packets::mix(64, 2, 30);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let layers: [Layers; MAX_BURST] = std::array::from_fn(|i| parse(&frames[i], Depth::Full));
        let selected = Selection::from_bits(0x8000_0000_f0f0_0001);
        for kind in [
            HashKind::Ip,
            HashKind::FiveTuple,
            HashKind::Mac,
            HashKind::Vlan,
            HashKind::Vni,
            HashKind::Teid,
        ] {
            let mut hashes = [42; MAX_BURST];
            flow_hash_burst(
                HashSpec { kind, depth: Depth::Full, seed: 3 },
                &frames,
                Known::all(&layers),
                selected,
                &mut hashes,
            );
            for (i, hash) in hashes.into_iter().enumerate() {
                let is_selected = selected.indices().any(|index| index == i);
                let expected =
                    if is_selected { flow_hash(kind, Depth::Full, 3, &frames[i], &layers[i]) } else { 42 };
                assert_eq!(hash, expected);
            }
        }
    }
}
