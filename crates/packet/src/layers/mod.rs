//! Parse: from a packet's bytes to where its layers stand, once per packet.
//!
//! Stands behind receive. Two depths, so that a plan pays for what it needs: `Depth::Outer` finds the outermost network and
//! transport headers (tags, MPLS labels and PPPoE stepped over), `Depth::Full` goes on into up to sixteen encapsulations (`TABLE`). It
//! assumes nothing of the bytes: what is cut or malformed is described as far as it goes.

mod inside;
mod outer;
mod readers;
mod shell;
mod stack;
mod table;
mod unread;
mod walk;

use super::burst::MAX_BURST;
use super::frame::Frame;
use walk::{Fragments, may_have_shells, walk};

pub use outer::{ethernet_stack, network_stack};
pub use shell::{Carried, Shell};
pub use stack::Stack;
pub use table::{Encapsulation, Found, Payload, ShellKind, TABLE};
pub use walk::{
    Look, has_other_meaning, innermost_unfragmented, is_tag_type, look, look_as, may_go_on, tunnel,
};

/// The most encapsulations that are gone into; a run of VLAN tags, or a label stack, counts as one.
pub const MAX_SHELLS: usize = 16;
/// The most tags of one link header that are stepped over.
const MAX_TAGS: u8 = 8;
/// The most MPLS labels in a stack that are stepped over.
const MAX_LABELS: u8 = 16;
/// The most IPv6 extension headers that are stepped over.
const MAX_EXTENSIONS: usize = 8;
/// Headers are looked for in the first so many bytes, because offsets are 16 bits.
const MAX_PARSED_BYTES: usize = u16::MAX as usize;

/// How much of a packet is described.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Depth {
    /// The outermost stack of headers alone.
    #[default]
    Outer,
    /// All encapsulations, down to the innermost stack.
    Full,
}

/// The places of a packet's layers: two cache lines. A packet without encapsulations uses only the first. Offsets hold for the
/// bytes that were parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Layers {
    /// The outermost headers.
    pub outer: Stack,
    /// The innermost headers; equal to `outer` where there is no tunnel, or `Depth::Outer` was asked for.
    pub inner: Stack,
    count: u8,
    flags: u8,
    shells: [Shell; MAX_SHELLS],
}

/// Flags of [`Layers`].
const FRAGMENTED_CARRIER: u8 = 1;
const UNREAD: u8 = 1 << 1;

impl Layers {
    /// Nothing is known: what arrays of layers begin with.
    pub const EMPTY: Layers = Layers {
        outer: Stack::EMPTY,
        inner: Stack::EMPTY,
        count: 0,
        flags: 0,
        shells: [Shell::EMPTY; MAX_SHELLS],
    };

    /// The encapsulations, outermost first; none unless `Depth::Full` was asked for.
    #[inline(always)]
    pub fn shells(&self) -> &[Shell] {
        &self.shells[..usize::from(self.count).min(MAX_SHELLS)]
    }

    /// A tunnel's own packet is the first fragment of a datagram: its later fragments show nothing of what the tunnel carries.
    #[inline(always)]
    pub fn has_fragmented_carrier(&self) -> bool {
        self.flags & FRAGMENTED_CARRIER != 0
    }

    /// Returns whether some layer was not read that could hold addresses: its type or protocol is not known, a tunnel's payload is
    /// of a kind that is not, there are more layers than are followed, or a header is cut. What is read by definition is said in
    /// `docs/reference/through.md`. `bytes` are those of the packet that was parsed, with `Depth::Full`.
    pub fn is_unparsed(&self, bytes: &[u8]) -> bool {
        self.flags & UNREAD != 0
            || unread::is_unread(&bytes[..bytes.len().min(MAX_PARSED_BYTES)], &self.inner, Depth::Full)
    }

    /// Returns whether the outermost headers have a layer that could hold addresses and is not read; what a tunnel carries is not
    /// asked for. `bytes` are those of the packet that was parsed, to whatever depth.
    pub fn is_outer_unparsed(&self, bytes: &[u8]) -> bool {
        unread::is_outer_unread(&bytes[..bytes.len().min(MAX_PARSED_BYTES)], &self.outer)
    }

    /// Notes an encapsulation; false where there is no room for more.
    #[inline(always)]
    fn push(&mut self, shell: Shell) -> bool {
        match self.shells.get_mut(usize::from(self.count)) {
            Some(place) => {
                *place = shell;
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// Notes that there are layers behind those that were followed.
    fn note_unread(&mut self) {
        self.flags |= UNREAD;
    }

    /// Notes in what stack a tunnel's header stands that is gone into.
    #[inline(always)]
    fn note_carrier(&mut self, carrier: &Stack) {
        self.flags |= u8::from(carrier.is_fragment()) * FRAGMENTED_CARRIER;
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Describes one packet.
#[inline]
pub fn parse(frame: &Frame<'_>, depth: Depth) -> Layers {
    let mut layers = Layers::EMPTY;
    match depth {
        Depth::Outer => _ = parse_outer(frame, &mut layers),
        Depth::Full => parse_full(frame, &mut layers),
    }
    layers
}

/// As [`parse`], where the layers stay.
#[inline]
pub fn parse_into(frame: &Frame<'_>, depth: Depth, layers: &mut Layers) {
    match depth {
        Depth::Outer => _ = parse_outer(frame, layers),
        Depth::Full => parse_full(frame, layers),
    }
}

/// Describes the packets of a burst: `layers[i]` becomes what is known of `frames[i]`.
///
/// # Panics
/// If `layers` is shorter than `frames`.
#[inline]
pub fn parse_burst(frames: &[Frame<'_>], depth: Depth, layers: &mut [Layers]) {
    debug_assert!(frames.len() <= MAX_BURST);
    let layers = &mut layers[..frames.len()];
    match depth {
        Depth::Outer => {
            frames.iter().zip(layers).for_each(|(frame, layers)| _ = parse_outer(frame, layers))
        }
        Depth::Full => frames.iter().zip(layers).for_each(|(frame, layers)| parse_full(frame, layers)),
    }
}

#[inline(always)]
fn parsed_bytes<'a>(frame: &Frame<'a>) -> &'a [u8] {
    let bytes = frame.bytes();
    if bytes.len() <= MAX_PARSED_BYTES { bytes } else { &bytes[..MAX_PARSED_BYTES] }
}

#[inline(always)]
fn parse_outer(frame: &Frame<'_>, layers: &mut Layers) -> Stack {
    let stack = ethernet_stack(parsed_bytes(frame), 0);
    layers.outer = stack;
    layers.inner = stack;
    layers.count = 0;
    layers.flags = 0;
    stack
}

#[inline(always)]
fn parse_full(frame: &Frame<'_>, layers: &mut Layers) {
    let stack = parse_outer(frame, layers);
    if may_have_shells(parsed_bytes(frame), &stack) {
        walk(parsed_bytes(frame), layers, Fragments::Enter);
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::{ip, vlan};
    use super::*;
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B};

    const A: u32 = 0x0a00_0001;
    const B: u32 = 0x0a00_0002;

    fn full(bytes: &[u8]) -> Layers {
        parse(&Frame::whole(bytes), Depth::Full)
    }

    fn in_ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        packets::ethernet(MAC_A, MAC_B, ethertype, payload)
    }

    fn tcp4() -> Vec<u8> {
        packets::ipv4(A, B, ip::TCP, 0, &packets::tcp(1000, 80, b"GET /"))
    }

    fn kinds(layers: &Layers) -> Vec<ShellKind> {
        layers.shells().iter().map(|shell| shell.kind).collect()
    }

    #[test]
    fn layers_of_a_packet_fill_two_cache_lines_and_without_shells_one() {
        assert_eq!((size_of::<Layers>(), align_of::<Layers>()), (128, 64));
        let before_shells = std::mem::offset_of!(Layers, shells);
        assert!(
            before_shells + 2 * size_of::<Shell>() <= 64,
            "the first two shells stand in the first line too"
        );
        for place in [std::mem::offset_of!(Layers, outer), std::mem::offset_of!(Layers, inner)] {
            assert!(place + size_of::<Stack>() <= before_shells);
        }
    }

    #[test]
    fn a_plain_packet_has_one_stack_and_no_shells() {
        let bytes = in_ethernet(0x0800, &tcp4());
        let layers = full(&bytes);
        let stack = layers.outer;
        assert_eq!(
            (stack.ethertype(), stack.l3(), stack.l4(), stack.protocol()),
            (0x0800, 14, Some(34), ip::TCP)
        );
        assert_eq!(stack.payload(&bytes), Some(54));
        assert!(stack.is_ipv4() && stack.has_ports() && !stack.is_fragment() && !stack.is_cut());
        assert_eq!(layers.inner, stack);
        assert!(layers.shells().is_empty());
    }

    #[test]
    fn tags_and_labels_are_stepped_over() {
        let labelled = packets::mpls(&[16, 1000], &tcp4());
        let bytes = in_ethernet(0x88a8, &packets::tag(0x2005, 0x8100, &packets::tag(7, 0x8847, &labelled)));
        let layers = full(&bytes);
        let stack = layers.outer;
        assert_eq!((stack.vlans(), stack.labels(), stack.l3(), stack.vlan(&bytes)), (2, 2, 30, Some(5)));
        assert_eq!(kinds(&layers), [ShellKind::Vlan, ShellKind::Mpls]);
        let [tags, labels] = layers.shells() else { panic!("two shells") };
        assert_eq!(tags.vlan_ids(&bytes).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(labels.labels(&bytes).collect::<Vec<_>>(), [16, 1000]);
        assert_eq!((tags.payload(), labels.payload()), (22, 30));
    }

    #[test]
    fn pseudowires_are_entered_with_a_control_word_and_without() {
        let frame = in_ethernet(0x0800, &tcp4());
        for (control_word, l3) in [(vec![], 32), (vec![0; 4], 36), (vec![0, 0, 1, 0], 36)] {
            let bytes = in_ethernet(0x8847, &packets::mpls(&[16], &[control_word, frame.clone()].concat()));
            let layers = full(&bytes);
            assert_eq!(kinds(&layers), [ShellKind::Pseudowire]);
            assert_eq!((layers.inner.l3(), layers.inner.has_ports()), (l3, true));
            assert_eq!(layers.inner.ethernet(), Some(l3 - 14));
            assert_eq!(layers.shells()[0].labels(&bytes).collect::<Vec<_>>(), [16]);
        }
    }

    #[test]
    fn pppoe_sessions_are_stepped_over() {
        // PPPoE: version and type 1, code 0 (session), session 0x0011; PPP protocol 0x0021 (IPv4).
        let bytes = in_ethernet(0x8864, &[&[0x11, 0, 0, 0x11, 0, 47, 0, 0x21][..], &tcp4()].concat());
        let layers = full(&bytes);
        assert_eq!(
            (layers.outer.l3(), layers.outer.is_pppoe(), layers.outer.has_ports()),
            (22, true, true)
        );
        assert_eq!(layers.shells()[0].session(&bytes), Some(0x11));
    }

    #[test]
    fn tunnels_inside_tunnels_are_entered_and_name_their_identifiers() {
        let frame = in_ethernet(0x0800, &tcp4());
        let gtp =
            packets::ipv4(3, 4, ip::UDP, 0, &packets::udp(2152, 2152, &packets::gtp(0xabcd, &tcp4())));
        let bytes = in_ethernet(
            0x0800,
            &packets::ipv4(
                1,
                2,
                ip::GRE,
                0,
                &packets::gre(0x6558, Some(0x1234_56ff), None, &{
                    in_ethernet(
                        0x0800,
                        &packets::ipv4(
                            5,
                            6,
                            ip::UDP,
                            0,
                            &packets::udp(9, 4789, &packets::vxlan(77, &in_ethernet(0x0800, &gtp))),
                        ),
                    )
                }),
            ),
        );
        let layers = full(&bytes);
        assert_eq!(kinds(&layers), [ShellKind::Gre, ShellKind::Vxlan, ShellKind::Gtp]);
        let [gre, vxlan, gtp] = layers.shells() else { panic!("three shells") };
        assert_eq!((gre.gre_key(&bytes), gre.vni(&bytes)), (Some(0x1234_56ff), Some(0x0012_3456)));
        assert_eq!((vxlan.vni(&bytes), gtp.teid(&bytes)), (Some(77), Some(0xabcd)));
        assert_eq!(layers.inner.ethernet(), None);
        assert_eq!(&bytes[layers.inner.l3()..], &frame[14..]);
    }

    #[test]
    fn extension_headers_of_gtp_are_stepped_over_and_endless_ones_are_not() {
        // Flags: version 1, GTP, E. Then sequence, N-PDU, next extension 0x85 (PDU session container, one word, none follows).
        let header = [0x34, 255, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0x10, 5, 0];
        let wrap = |header: &[u8]| {
            let udp = packets::udp(2152, 2152, &[header, &tcp4()].concat());
            in_ethernet(0x0800, &packets::ipv4(1, 2, ip::UDP, 0, &udp))
        };
        let layers = full(&wrap(&header));
        assert_eq!((kinds(&layers), layers.inner.has_ports()), (vec![ShellKind::Gtp], true));
        let endless = [&header[..12], &[1, 0, 0, 0x85].repeat(9)].concat();
        assert!(full(&wrap(&endless)).shells().is_empty());
        let mut without_length = header;
        without_length[12] = 0;
        assert!(full(&wrap(&without_length)).shells().is_empty());
    }

    #[test]
    fn what_follows_ipv6_extension_headers_is_found() {
        let udp = packets::udp(1000, 53, &[]);
        let bytes = in_ethernet(
            0x86dd,
            &packets::ipv6(1, 2, 0, &packets::options(60, &packets::options(17, &udp))),
        );
        let stack = full(&bytes).outer;
        assert_eq!((stack.protocol(), stack.l4(), stack.has_ports()), (17, Some(70), true));
        let fragment = packets::fragment(17, 3, true, &[0; 16]);
        let stack = full(&in_ethernet(0x86dd, &packets::ipv6(1, 2, 44, &fragment))).outer;
        assert_eq!((stack.is_later_fragment(), stack.has_ports(), stack.l4()), (true, false, Some(62)));
    }

    #[test]
    fn later_fragments_have_no_ports_and_no_tunnel() {
        let vxlan = packets::udp(9, 4789, &packets::vxlan(1, &in_ethernet(0x0800, &tcp4())));
        let first = full(&in_ethernet(0x0800, &packets::ipv4(A, B, ip::UDP, 0x2000, &vxlan)));
        assert_eq!((kinds(&first), first.has_fragmented_carrier()), (vec![ShellKind::Vxlan], true));
        let later = full(&in_ethernet(0x0800, &packets::ipv4(A, B, ip::UDP, 0x0010, &vxlan)));
        assert!(later.shells().is_empty() && !later.outer.has_ports() && later.outer.l4() == Some(34));
    }

    #[test]
    fn no_more_than_sixteen_shells_are_entered() {
        let mut packet = tcp4();
        for _ in 0..20 {
            packet = packets::ipv4(A, B, ip::IPV4, 0, &packet);
        }
        let layers = full(&in_ethernet(0x0800, &packet));
        assert_eq!(layers.shells().len(), MAX_SHELLS);
        assert_eq!(layers.inner.l3(), 14 + 20 * MAX_SHELLS);
        let tags = (0..20).fold(tcp4(), |inner, _| packets::tag(1, 0x8100, &inner));
        assert_eq!(full(&in_ethernet(0x8100, &tags)).outer.vlans(), MAX_TAGS);
    }

    #[test]
    fn headers_beyond_the_reach_of_offsets_are_not_looked_for() {
        let extensions = (0..40)
            .fold(tcp4(), |inner, _| [vec![ip::DESTINATION_OPTIONS, 255], vec![0; 2046], inner].concat());
        let bytes = in_ethernet(0x86dd, &packets::ipv6(1, 2, ip::DESTINATION_OPTIONS, &extensions));
        assert!(bytes.len() > MAX_PARSED_BYTES);
        let stack = full(&bytes).outer;
        assert!(stack.is_cut() && stack.l4().is_none());
    }

    #[test]
    fn a_burst_is_parsed_as_its_packets_are() {
        let packets = packets::mix(64, 4, 40);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        for depth in [Depth::Outer, Depth::Full] {
            let mut layers = [full(&packets[0]); MAX_BURST];
            parse_burst(&frames, depth, &mut layers);
            for (frame, layers) in frames.iter().zip(&layers) {
                let alone = parse(frame, depth);
                assert_eq!(
                    (layers.outer, layers.inner, layers.shells()),
                    (alone.outer, alone.inner, alone.shells())
                );
            }
        }
    }

    fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        in_ethernet(0x0800, &packets::ipv4(A, B, protocol, 0, payload))
    }

    fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len().max(60), 0);
        bytes
    }

    /// A frame to a MAC address that may be taken for the first bytes of an IP header.
    fn frame_to(address: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        packets::ethernet(address, MAC_B, ethertype, payload)
    }

    /// Registered makers' addresses, and the worst that an address can be.
    const AMBIGUOUS: [[u8; 6]; 4] = [
        [0x4c, 0x76, 0x25, 1, 2, 3],
        [0x64, 0x00, 0xf1, 1, 2, 3],
        [0x45, 0x00, 0x00, 0x28, 0, 0],
        [0x60, 0x00, 0x00, 0x00, 0, 4],
    ];

    #[test]
    fn frames_whose_address_looks_like_ip_are_told_from_ip_by_the_rest() {
        let v6 = packets::ipv6(1, 2, ip::UDP, &packets::udp(1000, 53, &[7; 30]));
        let tagged = packets::tag(5, 0x0800, &tcp4());
        for address in AMBIGUOUS {
            for (ethertype, payload, l3) in
                [(0x0800, tcp4(), 14), (0x86dd, v6.clone(), 14), (0x8100, tagged.clone(), 18)]
            {
                let frame = frame_to(address, ethertype, &payload);
                let labelled = in_ethernet(0x8847, &packets::mpls(&[16], &frame));
                let layers = full(&labelled);
                assert_eq!(
                    layers.shells()[0].kind,
                    ShellKind::Pseudowire,
                    "{address:02x?} {ethertype:04x}"
                );
                assert_eq!((layers.inner.l3(), layers.inner.has_ports()), (18 + l3, true));
                let gtp = in_ipv4(ip::UDP, &packets::udp(2152, 2152, &packets::gtp(7, &frame)));
                let layers = full(&gtp);
                assert_eq!(layers.shells()[0].carries(&gtp), Some(Carried::Ethernet));
                assert_eq!((layers.inner.l3(), layers.inner.has_ports()), (50 + l3, true));
            }
        }
    }

    #[test]
    fn ip_behind_labels_is_ip_cut_or_with_a_wrong_checksum_and_what_is_neither_stays_unknown() {
        let mut wrong = tcp4();
        wrong[10] ^= 0x55;
        let odd_source =
            packets::ipv4(0x8100_0001, 0x0800_4500, ip::TCP, 0, &packets::tcp(1000, 80, b"GET /"));
        for packet in [tcp4(), wrong, odd_source, packets::ipv6(1, 2, ip::TCP, &packets::tcp(1, 2, &[]))] {
            let labelled = in_ethernet(0x8847, &packets::mpls(&[16], &packet));
            assert_eq!(kinds(&full(&labelled)), [ShellKind::Mpls]);
            assert!(full(&labelled).inner.has_ports() && !full(&labelled).is_unparsed(&labelled));
        }
        let cut = in_ethernet(0x8847, &packets::mpls(&[16], &tcp4()[..40]));
        assert!(full(&cut).inner.is_ipv4() && full(&cut).inner.has_ports());
        for address in AMBIGUOUS.into_iter().take(2) {
            let unknown = in_ethernet(0x8847, &packets::mpls(&[16], &frame_to(address, 0x88cc, &[9; 50])));
            let layers = full(&unknown);
            assert!(!layers.inner.is_ipv4() && !layers.inner.is_ipv6() && layers.is_unparsed(&unknown));
        }
    }

    #[test]
    fn ip_in_ip_behind_an_authentication_header_is_found_over_both() {
        // RFC 4302, 2: next header, length in words of four less two, SPI, sequence number, a value of twelve bytes.
        let header = |next| [&[next, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1][..], &[0xee; 12]].concat();
        let behind = |next, packet: &[u8]| [&header(next), packet].concat();
        let v6 = packets::ipv6(1, 2, ip::TCP, &packets::tcp(1, 2, &[]));
        for (next, packet) in [(ip::IPV4, tcp4()), (ip::IPV6, v6)] {
            let over_v4 = in_ipv4(ip::AH, &behind(next, &packet));
            let over_v6 = in_ethernet(0x86dd, &packets::ipv6(1, 2, ip::AH, &behind(next, &packet)));
            for bytes in [over_v4, over_v6] {
                let layers = full(&bytes);
                assert_eq!(kinds(&layers), [ShellKind::Ipip]);
                assert_eq!(&bytes[layers.inner.l3()..], &packet[..]);
                assert!(!layers.is_unparsed(&bytes));
            }
        }
        let plain = in_ipv4(ip::AH, &behind(ip::TCP, &packets::tcp(1, 2, &[])));
        assert!(full(&plain).shells().is_empty() && !full(&plain).is_unparsed(&plain));
    }

    #[test]
    fn a_tunnel_with_nothing_in_it_is_no_layer_with_padding_or_without() {
        let empty = [
            in_ipv4(ip::GRE, &packets::gre(0x0800, None, None, &[])),
            in_ipv4(ip::GRE, &packets::gre(0x6558, Some(1), None, &[])),
            in_ipv4(ip::UDP, &packets::udp(9, 6081, &packets::geneve(7, 0x6558, &[], &[]))),
            in_ipv4(ip::UDP, &packets::udp(9, 4789, &packets::vxlan(7, &[]))),
            in_ipv4(ip::GRE, &[0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 1, 0, 0, 0, 7]),
        ];
        for bytes in empty.into_iter().flat_map(|bytes| [padded(bytes.clone()), bytes]) {
            let layers = full(&bytes);
            assert!(layers.shells().is_empty() && layers.inner == layers.outer, "{bytes:02x?}");
            assert!(!layers.is_unparsed(&bytes), "there is nothing to read");
        }
        // A length of 0 says nothing (TCP segmentation offload): there is a frame.
        let frame = in_ethernet(0x0800, &tcp4());
        let mut offloaded = in_ipv4(ip::UDP, &packets::udp(9, 4789, &packets::vxlan(7, &frame)));
        offloaded[16..18].fill(0);
        offloaded[38..40].fill(0);
        assert_eq!(kinds(&full(&offloaded)), [ShellKind::Vxlan]);
    }

    #[test]
    fn types_that_were_added_are_those_of_vlan_tags() {
        let bytes = in_ethernet(0x8200, &packets::tag(7, 0x9300, &packets::tag(8, 0x0800, &tcp4())));
        assert!(full(&bytes).is_unparsed(&bytes) && full(&bytes).outer.vlans() == 0);
        vlan::add_tpids(&[0x8200, 0x9300]);
        let layers = full(&bytes);
        vlan::add_tpids(&[]);
        assert_eq!((layers.outer.vlans(), layers.outer.vlan(&bytes), layers.outer.l3()), (2, Some(7), 22));
        assert_eq!((kinds(&layers), layers.shells()[0].header_len()), (vec![ShellKind::Vlan], 8));
        assert_eq!(full(&bytes).outer.vlans(), 0);
    }

    #[test]
    fn tags_of_several_kinds_are_stepped_over_in_any_order() {
        let metadata = [&[1, 1, 0, 1, 0, 100, 0x08, 0][..], &tcp4()].concat();
        let vntag = [&[0, 0, 0, 20, 0x81, 0][..], &packets::tag(101, 0x8909, &metadata)].concat();
        let bytes = in_ethernet(0x8100, &packets::tag(100, 0x8926, &vntag));
        let layers = full(&bytes);
        assert_eq!(kinds(&layers), [ShellKind::Vlan, ShellKind::Vntag, ShellKind::Vlan, ShellKind::Cmd]);
        let stack = layers.outer;
        assert_eq!((stack.vlans(), stack.other_tags(), stack.vlan(&bytes)), (2, 2, Some(100)));
        assert_eq!((stack.l3(), stack.has_ports(), stack.network()), (36, true, Some(36)));
        let behind_vntag = in_ethernet(0x8926, &vntag);
        assert_eq!(full(&behind_vntag).outer.vlan(&behind_vntag), Some(101));
        for len in 14..36 {
            let layers = full(&bytes[..len]);
            assert!(layers.outer.network().is_none_or(|l3| l3 == len || l3 == 14 + 22), "{len}");
            assert!(layers.is_unparsed(&bytes[..len]));
        }
        // Another version is none that is known, so that its type stands for itself.
        let unknown = in_ethernet(0x8909, &[2, 1, 0, 1, 0, 100, 8, 0, 0x45, 0]);
        assert_eq!(full(&unknown).outer.network(), Some(14));
        assert!(full(&unknown).is_unparsed(&unknown));
    }

    #[test]
    fn what_could_hold_addresses_and_is_not_read_is_said_to_be_unparsed() {
        let read = [
            in_ethernet(0x0800, &tcp4()),
            in_ethernet(0x0806, &packets::arp(1, A, B)),
            in_ethernet(0x88cc, &[2, 7, 4, 1, 2, 3]),
            in_ethernet(0x8809, &[1; 40]),
            in_ethernet(0x888e, &[1; 40]),
            in_ethernet(0x88f7, &[1; 40]),
            in_ethernet(0x8808, &[0, 1, 0, 9]),
            in_ethernet(38, &[0x42, 0x42, 3, 0, 0, 0]),
            in_ethernet(60, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &tcp4()].concat()),
            in_ipv4(ip::UDP, &packets::udp(53, 1000, &[1; 40])),
            // An answer to a client whose port happens to be that of TZSP.
            in_ipv4(ip::UDP, &packets::udp(53, 37008, &[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])),
            in_ipv4(ip::UDP, &packets::udp(2152, 2152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0])),
            in_ipv4(ip::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]),
            in_ipv4(ip::SCTP, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 20]),
            in_ipv4(ip::GRE, &packets::gre(0x0800, None, None, &tcp4())),
        ];
        for bytes in read {
            assert!(!full(&bytes).is_unparsed(&bytes), "{bytes:02x?}");
        }
        let mut nested = tcp4();
        for _ in 0..20 {
            nested = packets::ipv4(A, B, ip::IPV4, 0, &nested);
        }
        let unread = [
            in_ethernet(0x88e5, &[1; 60]),
            in_ethernet(0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]),
            in_ethernet(0x8864, &[0x11, 0, 0, 1, 0, 6, 0x80, 0x21, 1, 1, 0, 4]),
            in_ethernet(60, &[&[0xaa, 0xaa, 3, 0, 0, 0xc, 0x20, 0][..], &[1; 40]].concat()),
            in_ethernet(60, &[0xfe, 0xfe, 3, 0x83, 1, 1]),
            in_ethernet(0x8847, &packets::mpls(&[13], &[0x10, 0, 0, 7, 1, 1, 1, 1])),
            in_ethernet(0x0800, &nested),
            in_ethernet(0x0800, &tcp4()[..19]),
            in_ipv4(ip::OSPF, &[2, 1, 0, 44]),
            in_ipv4(ip::ESP, &[1; 40]),
            in_ipv4(ip::ICMPV6, &[128, 0, 0, 0]),
            in_ipv4(ip::SCTP, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20]),
            in_ipv4(ip::GRE, &packets::gre(0x0800, None, None, &tcp4()[..19])),
            in_ipv4(ip::GRE, &packets::gre(0x2001, None, None, &[1; 40])),
            in_ipv4(ip::UDP, &packets::udp(9, 4789, &[8, 0, 0, 0])),
            in_ipv4(ip::UDP, &packets::udp(9, 1701, &[0xc8, 2, 0, 20, 0, 1, 0, 1, 0, 0, 0, 0])),
            in_ipv4(ip::UDP, &packets::udp(9, 5247, &[1, 0, 0, 0, 0x17, 0xfe, 0xfd, 0, 1, 0])),
            in_ipv4(
                ip::UDP,
                &packets::udp(2152, 2152, &[0x32, 26, 0, 4, 0, 0, 0, 0, 0x85, 0, 4, 10, 0, 0, 1]),
            ),
            in_ethernet(0x0800, &packets::ipv4(A, B, ip::GRE, 0x0010, &[1; 40])),
        ];
        for bytes in unread {
            assert!(full(&bytes).is_unparsed(&bytes), "{bytes:02x?}");
        }
    }
}
