//! Parse: from a packet's bytes to where its layers stand, once per packet.
//!
//! Stands behind receive. Two depths, so that a plan pays for what it needs: `Depth::Outer` finds the outermost network and
//! transport headers (VLAN tags, MPLS labels and PPPoE stepped over), `Depth::Full` goes on into up to eight encapsulations. It
//! assumes nothing of the bytes: what is cut or malformed is described as far as it goes.

mod outer;
mod shell;
mod stack;
mod walk;

use super::burst::MAX_BURST;
use super::frame::Frame;
use walk::{Fragments, may_have_shells, walk};

pub use outer::{ethernet_stack, network_stack};
pub use shell::{Carried, Shell, ShellKind};
pub use stack::Stack;
pub use walk::{innermost_unfragmented, tunnel, udp_tunnel_of};

/// The most encapsulations that are gone into; a run of VLAN tags, or a label stack, counts as one.
pub const MAX_SHELLS: usize = 8;
/// The most VLAN tags in a row that are stepped over.
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

/// Where the layers of a packet stand: one cache line. Offsets hold for the bytes that were parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub struct Layers {
    /// The outermost headers.
    pub outer: Stack,
    /// The innermost headers; equal to `outer` where there is no tunnel, or `Depth::Outer` was asked for.
    pub inner: Stack,
    shells: [Shell; MAX_SHELLS],
    count: u8,
    has_fragmented_carrier: bool,
}

impl Layers {
    /// Nothing is known: what arrays of layers begin with.
    pub const EMPTY: Layers = {
        let stack = Stack { places: 0, kinds: 0 };
        let shell = Shell { kind: ShellKind::Vlan, words: 0, offset: 0 };
        Layers {
            outer: stack,
            inner: stack,
            shells: [shell; MAX_SHELLS],
            count: 0,
            has_fragmented_carrier: false,
        }
    };

    /// The encapsulations, outermost first; none unless `Depth::Full` was asked for.
    #[inline(always)]
    pub fn shells(&self) -> &[Shell] {
        &self.shells[..usize::from(self.count).min(MAX_SHELLS)]
    }

    /// A tunnel's own packet is the first fragment of a datagram: its later fragments show nothing of what the tunnel carries.
    #[inline(always)]
    pub fn has_fragmented_carrier(&self) -> bool {
        self.has_fragmented_carrier
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
        Depth::Outer => parse_outer(frame, &mut layers),
        Depth::Full => parse_full(frame, &mut layers),
    }
    layers
}

/// As [`parse`], where the layers stay.
#[inline]
pub fn parse_into(frame: &Frame<'_>, depth: Depth, layers: &mut Layers) {
    match depth {
        Depth::Outer => parse_outer(frame, layers),
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
        Depth::Outer => frames.iter().zip(layers).for_each(|(frame, layers)| parse_outer(frame, layers)),
        Depth::Full => frames.iter().zip(layers).for_each(|(frame, layers)| parse_full(frame, layers)),
    }
}

#[inline(always)]
fn parsed_bytes<'a>(frame: &Frame<'a>) -> &'a [u8] {
    let bytes = frame.bytes();
    if bytes.len() <= MAX_PARSED_BYTES { bytes } else { &bytes[..MAX_PARSED_BYTES] }
}

#[inline(always)]
fn parse_outer(frame: &Frame<'_>, layers: &mut Layers) {
    let stack = ethernet_stack(parsed_bytes(frame), 0);
    layers.outer = stack;
    layers.inner = stack;
    layers.count = 0;
    layers.has_fragmented_carrier = false;
}

#[inline(always)]
fn parse_full(frame: &Frame<'_>, layers: &mut Layers) {
    parse_outer(frame, layers);
    if may_have_shells(frame.bytes(), &layers.outer) {
        walk(parsed_bytes(frame), layers, Fragments::Enter);
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::ip;
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
    fn layers_of_a_packet_fill_one_cache_line() {
        assert_eq!((size_of::<Layers>(), align_of::<Layers>()), (64, 64));
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
    fn no_more_than_eight_shells_are_entered() {
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
}
