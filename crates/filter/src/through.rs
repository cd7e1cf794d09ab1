//! `through`: the frame inside tags, labels and tunnels, shown to filters without a copy.
//!
//! Stands between parse and the filters of rules that say `through`. `docs/reference/through.md` says which frame is looked at.

use tapline_fault as fault;
use tapline_packet::burst::{Known, Selection};
use tapline_packet::frame::{Frame, SplitFrame};
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::headers::{chunk, ethernet, u16_at, vlan};
use tapline_packet::layers::{Carried, Layers, Shell};

/// Returns whether `shell` is a layer to look through. `tpid` is the type in front of it.
#[inline]
fn takes(through: LayerSet, shell: &Shell, tpid: impl Fn() -> Option<u16>) -> bool {
    match shell.kind.row().word {
        Ok(Layer::Vlan) => {
            through.contains(Layer::Vlan) || through.contains(Layer::Qinq) && is_qinq(shell, tpid())
        }
        Ok(layer) => through.contains(layer),
        Err(_) => through == LayerSet::ALL,
    }
}

fn is_qinq(tags: &Shell, tpid: Option<u16>) -> bool {
    let is_service_tag = tpid.is_some_and(|tpid| tpid != vlan::TPID_8021Q);
    is_service_tag || tags.header_len() > vlan::TAG_LEN
}

/// The frame that a filter looks at.
#[derive(Clone, Copy)]
pub enum Inside<'a> {
    /// Contiguous bytes of the packet: the packet itself, or the Ethernet frame that a tunnel carries.
    Whole(Frame<'a>),
    /// An Ethernet header that was made up, and bytes of the packet.
    Split(SplitFrame<'a>),
}

impl<'a> Inside<'a> {
    /// The same frame in two pieces; `None` where it is shorter than an Ethernet header.
    #[inline]
    pub fn split(self) -> Option<SplitFrame<'a>> {
        match self {
            Inside::Split(frame) => Some(frame),
            Inside::Whole(frame) => {
                let (header, payload) = frame.bytes().split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
                Some(SplitFrame::new(*header, payload, frame.original_len()))
            }
        }
    }
}

/// The frame inside the layers of `frame` that are in `through`; the frame itself where there are none.
/// `layers` are those that `parse` gave for it with `Depth::Full`.
///
/// Its length on the wire is that of the packet less what is in front of it. Where what is inside has no Ethernet header in front,
/// it gets the MAC addresses of the nearest one, and the ethertype of what it is.
#[inline]
pub fn inside<'a>(through: LayerSet, frame: &Frame<'a>, layers: &Layers) -> Inside<'a> {
    if layers.shells().is_empty() { Inside::Whole(*frame) } else { inside_shells(through, frame, layers) }
}

fn inside_shells<'a>(through: LayerSet, frame: &Frame<'a>, layers: &Layers) -> Inside<'a> {
    let bytes = frame.bytes();
    let mut addresses_at = 0;
    let mut passed = None;
    let mut around = Carried::Ethernet;
    for shell in layers.shells() {
        let tpid = || match around {
            Carried::Ethernet => u16_at(bytes, usize::from(shell.offset) - 2),
            Carried::Network(ethertype) => Some(ethertype),
        };
        let carried = shell.carries(bytes);
        match carried {
            Some(carried) if takes(through, shell, tpid) => {
                passed = Some((shell.payload(), carried));
                if carried == Carried::Ethernet {
                    addresses_at = shell.payload();
                }
            }
            // Tags that nobody asked to look through belong to what carries the next layer.
            Some(_) if shell.kind.is_tag() => {}
            _ => break,
        }
        around = carried.unwrap_or(around);
    }
    let Some((payload_at, carried)) = passed else { return Inside::Whole(*frame) };
    let payload = &bytes[payload_at..];
    let original_len = frame.original_len().saturating_sub(payload_at as u32);
    match (carried, chunk::<{ ethernet::ADDRESSES_LEN }>(bytes, addresses_at)) {
        (Carried::Network(ethertype), Some(addresses)) => {
            let mut header = [0; ethernet::HEADER_LEN];
            header[..ethernet::ADDRESSES_LEN].copy_from_slice(addresses);
            header[ethernet::ADDRESSES_LEN..].copy_from_slice(&ethertype.to_be_bytes());
            Inside::Split(SplitFrame::new(
                header,
                payload,
                original_len.saturating_add(ethernet::HEADER_LEN as u32),
            ))
        }
        _ => Inside::Whole(Frame::new(payload, original_len)),
    }
}

/// The frames inside those of the packets that are `wanted`, whose layers are known: `split[i]` becomes that of `frames[i]`, for all
/// packets of the selection that is returned, and the others are left alone. Those of the wanted that are not in it are shorter than
/// an Ethernet header: what filters say of them is what they say of `inside`, and it is seldom asked.
///
/// # Panics
/// If `frames` or `split` are shorter than the highest index that is wanted says.
pub fn inside_burst<'a>(
    through: LayerSet,
    frames: &[Frame<'a>],
    layers: Known<'_, Layers>,
    wanted: Selection,
    split: &mut [SplitFrame<'a>],
) -> Selection {
    let mut selection = Selection::NONE;
    for (i, layers) in layers.of(wanted) {
        fault::panics_on_packet("classify", i);
        if let Some(inside) = inside(through, &frames[i], layers).split() {
            split[i] = inside;
            selection.insert(i);
        }
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_packet::burst::MAX_BURST;
    use tapline_packet::layers::{Depth, parse};
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B, mix};

    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

    fn through(words: &str) -> LayerSet {
        words.parse().unwrap()
    }

    /// The bytes of the frame inside, and its length on the wire.
    fn joined(words: &str, bytes: &[u8], original_len: u32) -> (Vec<u8>, u32) {
        let frame = Frame::new(bytes, original_len);
        match inside(through(words), &frame, &parse(&frame, Depth::Full)) {
            Inside::Whole(frame) => (frame.bytes().to_vec(), frame.original_len()),
            Inside::Split(frame) => ([frame.header(), frame.payload()].concat(), frame.original_len()),
        }
    }

    #[test]
    fn without_such_layers_the_frame_itself_is_looked_at() {
        let bytes =
            packets::ethernet(MAC_A, MAC_B, 0x0800, &packets::ipv4(1, 2, 6, 0, &packets::tcp(1, 2, &[])));
        for words in ["any", "vlan", "vxlan,gtp"] {
            assert_eq!(joined(words, &bytes, 99), (bytes.clone(), 99));
        }
        assert_eq!(joined("any", &bytes[..9], 60), (bytes[..9].to_vec(), 60));
    }

    #[test]
    fn qinq_is_two_tags_or_a_service_tag() {
        let ip = packets::ipv4(1, 2, 6, 0, &packets::tcp(1, 2, &[]));
        let plain = packets::ethernet(MAC_A, MAC_B, 0x0800, &ip);
        let single = packets::ethernet(MAC_A, MAC_B, 0x8100, &packets::tag(1, 0x0800, &ip));
        let service = packets::ethernet(MAC_A, MAC_B, 0x88a8, &packets::tag(1, 0x0800, &ip));
        let double = packets::ethernet(
            MAC_A,
            MAC_B,
            0x8100,
            &packets::tag(1, 0x8100, &packets::tag(2, 0x0800, &ip)),
        );
        for tagged in [&single, &service, &double] {
            assert_eq!(joined("vlan", tagged, tagged.len() as u32), (plain.clone(), plain.len() as u32));
        }
        assert_eq!(joined("qinq", &single, 58).0, single);
        assert_eq!(joined("qinq", &service, 58).0, plain);
        assert_eq!(joined("qinq", &double, 62), (plain, 54));
    }

    #[test]
    fn what_stands_in_front_of_a_tunnel_belongs_to_it_and_a_tunnel_not_named_stops_the_search() {
        let tagged =
            packets::ethernet(OTHER, MAC_A, 0x8100, &packets::tag(9, 0x0806, &packets::arp(1, 1, 2)));
        let udp = packets::udp(9, 4789, &packets::vxlan(7, &tagged));
        let outer = packets::ipv4(1, 2, 17, 0, &udp);
        let bytes = packets::ethernet(MAC_A, MAC_B, 0x8100, &packets::tag(5, 0x0800, &outer));
        let len = bytes.len() as u32;
        assert_eq!(joined("vxlan", &bytes, len + 100), (tagged.clone(), tagged.len() as u32 + 100));
        let untagged = packets::ethernet(OTHER, MAC_A, 0x0806, &packets::arp(1, 1, 2));
        assert_eq!(joined("vxlan,vlan", &bytes, len), (untagged.clone(), untagged.len() as u32));
        assert_eq!(joined("vlan,gre", &bytes, len).0, packets::ethernet(MAC_A, MAC_B, 0x0800, &outer));
    }

    #[test]
    fn a_packet_without_ethernet_gets_the_nearest_addresses_and_its_own_type() {
        let v6 = packets::ipv6(1, 2, 17, &packets::udp(1, 2, &[]));
        let bytes = packets::ethernet(MAC_A, OTHER, 0x0800, &packets::ipv4(1, 2, 41, 0, &v6));
        assert_eq!(
            joined("ipip", &bytes, bytes.len() as u32).0,
            packets::ethernet(MAC_A, OTHER, 0x86dd, &v6)
        );
    }

    #[test]
    fn a_burst_gives_what_its_packets_give_and_leaves_out_short_ones() {
        let mut packets = mix(64, 8, 50);
        packets[5].truncate(13);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let layers = std::array::from_fn(|i| parse(&frames[i], Depth::Full));
        let mut split = [SplitFrame::new([0; 14], &[], 0); MAX_BURST];
        let selection = inside_burst(
            LayerSet::ALL,
            &frames,
            Known::all(&layers),
            Selection::from_bits(!(1 << 7)),
            &mut split,
        );
        assert_eq!(selection, Selection::from_bits(!(1 << 5 | 1 << 7)));
        for i in selection.indices() {
            let bytes = [split[i].header(), split[i].payload()].concat();
            assert_eq!(
                (bytes, split[i].original_len()),
                joined("any", &packets[i], packets[i].len() as u32)
            );
        }
    }
}
