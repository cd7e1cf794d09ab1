//! Terms that pcap filters lack: identifiers of tunnels and labels, bytes at a place, and the VLAN that narrows a rule's sources.
//!
//! Each takes a burst and gives a selection, so that they combine with filters by `and` of 64 bits.

use tapline_api::words::Anchor;
use tapline_packet::burst::{Known, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::headers::{ethernet, u16_at, vlan};
use tapline_packet::layers::{Depth, Layers};

/// Numbers from several ranges, their ends included.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdRanges {
    /// Ascending; no two meet.
    ranges: Vec<(u32, u32)>,
}

impl IdRanges {
    /// The numbers from `first` to `last` of each pair; a pair whose `last` is the smaller holds none.
    pub fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut sorted: Vec<(u32, u32)> =
            ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    #[inline]
    pub fn contains(&self, id: u32) -> bool {
        let above = self.ranges.partition_point(|(first, _)| *first <= id);
        above > 0 && id <= self.ranges[above - 1].1
    }
}

/// A set of VLAN ids, as a bit for each of the 4096.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    /// The ids from `first` to `last` of each pair; what is above 4095 is no VLAN id and left out.
    pub fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut words = Box::new([0; 64]);
        for (first, last) in ranges {
            for id in first..=last.min(4095) {
                words[id as usize / 64] |= 1 << (id % 64);
            }
        }
        Self(words)
    }

    /// Returns whether `id` (0 to 4095) is in the set.
    #[inline(always)]
    pub fn contains(&self, id: u16) -> bool {
        self.0[usize::from(id / 64 % 64)] >> (id % 64) & 1 != 0
    }

    /// The packets whose outermost tag has an id of the set; untagged ones have none. Needs no layers.
    pub fn select(&self, frames: &[Frame<'_>], among: Selection) -> Selection {
        select(among, |i| outer_vlan(frames[i].bytes()).is_some_and(|id| self.contains(id)))
    }
}

#[inline(always)]
fn outer_vlan(bytes: &[u8]) -> Option<u16> {
    if vlan::is_tpid(u16_at(bytes, ethernet::ADDRESSES_LEN)?) {
        u16_at(bytes, ethernet::HEADER_LEN).map(vlan::id)
    } else {
        None
    }
}

/// Returns the place behind a header of a packet; `None` where it has no such header, or that is cut.
#[inline(always)]
fn place(anchor: Option<Anchor>, bytes: &[u8], layers: &Layers) -> Option<usize> {
    match anchor {
        None => Some(0),
        Some(Anchor::L2) => layers.outer.network(),
        Some(Anchor::L3) => layers.outer.l4(),
        Some(Anchor::L4) => layers.outer.payload(bytes),
        Some(Anchor::InnerL4) => layers.inner.payload(bytes),
    }
}

/// Bytes at a place: `bytes OFFSET HEX[/MASK] [after …]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BytesTerm {
    anchor: Option<Anchor>,
    offset: usize,
    /// Value and mask of each byte; no value has a bit outside its mask.
    bytes: Vec<(u8, u8)>,
}

impl BytesTerm {
    /// The bytes of `value`, where the bits of `mask` are set; the longer of the two is cut to the shorter. Bits of the value
    /// outside the mask do not count.
    pub fn new(anchor: Option<Anchor>, offset: u16, value: &[u8], mask: &[u8]) -> Self {
        let bytes = value.iter().zip(mask).map(|(value, mask)| (value & mask, *mask)).collect();
        Self { anchor, offset: usize::from(offset), bytes }
    }

    #[inline]
    fn matches(&self, frame: &Frame<'_>, layers: &Layers) -> bool {
        let place = place(self.anchor, frame.bytes(), layers)
            .and_then(|place| frame.bytes().get(place + self.offset..));
        place.is_some_and(|there| {
            there.len() >= self.bytes.len()
                && there.iter().zip(&self.bytes).all(|(byte, (value, mask))| byte & mask == *value)
        })
    }
}

/// A term that stands beside a rule's filter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// Some VXLAN, GENEVE or NVGRE layer has a virtual network id of these.
    Vni(IdRanges),
    /// Some GTP-U layer has a tunnel endpoint id of these.
    Teid(IdRanges),
    /// Some label of some MPLS stack is one of these.
    MplsLabel(IdRanges),
    Bytes(BytesTerm),
}

impl Term {
    /// How deep packets must have been parsed; `None` where not at all.
    pub fn parse_depth(&self) -> Option<Depth> {
        match self {
            Term::Vni(_) | Term::Teid(_) | Term::MplsLabel(_) => Some(Depth::Full),
            Term::Bytes(term) => match term.anchor? {
                Anchor::L2 | Anchor::L3 | Anchor::L4 => Some(Depth::Outer),
                Anchor::InnerL4 => Some(Depth::Full),
            },
        }
    }

    /// The packets `among` those given for which the term holds.
    ///
    /// # Panics
    /// If `frames` or `layers` are shorter than the highest index in `among` says.
    pub fn select(&self, frames: &[Frame<'_>], layers: Known<'_, Layers>, among: Selection) -> Selection {
        let shells = |i: usize| layers.get(i).map_or(&[][..], Layers::shells);
        match self {
            Term::Vni(ids) => select(among, |i| {
                let bytes = frames[i].bytes();
                shells(i).iter().any(|shell| shell.vni(bytes).is_some_and(|vni| ids.contains(vni)))
            }),
            Term::Teid(ids) => select(among, |i| {
                let bytes = frames[i].bytes();
                shells(i).iter().any(|shell| shell.teid(bytes).is_some_and(|teid| ids.contains(teid)))
            }),
            Term::MplsLabel(ids) => select(among, |i| {
                let bytes = frames[i].bytes();
                shells(i).iter().any(|shell| shell.labels(bytes).any(|label| ids.contains(label)))
            }),
            // a term that counts from the frame needs no layers, and a plan without others has none
            Term::Bytes(term) if term.anchor.is_none() => {
                select(among, |i| term.matches(&frames[i], &Layers::EMPTY))
            }
            Term::Bytes(term) => {
                select(among, |i| layers.get(i).is_some_and(|layers| term.matches(&frames[i], layers)))
            }
        }
    }
}

#[inline(always)]
fn select(among: Selection, holds: impl Fn(usize) -> bool) -> Selection {
    among.filter(holds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use tapline_packet::burst::Column;
    use tapline_packet::layers::parse;
    use tapline_traffic::packets;
    use tapline_traffic::packets::{MAC_A, MAC_B};

    fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        packets::ethernet(MAC_A, MAC_B, 0x0800, &packets::ipv4(1, 2, protocol, 0, payload))
    }

    /// Returns, for each packet, whether the term holds.
    fn holds(term: &Term, packets: &[Vec<u8>]) -> Vec<bool> {
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let depth = term.parse_depth();
        let mut layers = Column::new(Layers::EMPTY);
        if let Some(depth) = depth {
            let all = Selection::first(frames.len());
            layers.write(all, |layers| all.indices().for_each(|i| layers[i] = parse(&frames[i], depth)));
        }
        let selection = term.select(&frames, layers.view(), Selection::first(frames.len()));
        (0..frames.len()).map(|i| selection.contains(i)).collect()
    }

    fn ids(first: u32, last: u32) -> IdRanges {
        IdRanges::new([(first, last)])
    }

    #[test]
    fn identifiers_are_found_in_whichever_layer_has_them() {
        let inner = in_ipv4(6, &packets::tcp(1, 2, &[]));
        let vxlan = |vni, inner: &[u8]| in_ipv4(17, &packets::udp(9, 4789, &packets::vxlan(vni, inner)));
        let gtp = in_ipv4(17, &packets::udp(2152, 2152, &packets::gtp(500, &inner[14..])));
        let mpls = packets::ethernet(MAC_A, MAC_B, 0x8847, &packets::mpls(&[16, 99], &inner[14..]));
        let packets = [
            inner.clone(),
            vxlan(7, &inner),
            vxlan(1, &vxlan(8, &inner)),
            gtp.clone(),
            mpls,
            vxlan(1, &gtp),
        ];
        assert_eq!(holds(&Term::Vni(ids(7, 8)), &packets), [false, true, true, false, false, false]);
        assert_eq!(holds(&Term::Vni(ids(1, 1)), &packets), [false, false, true, false, false, true]);
        assert_eq!(holds(&Term::Teid(ids(500, 500)), &packets), [false, false, false, true, false, true]);
        assert_eq!(
            holds(&Term::MplsLabel(ids(90, 99)), &packets),
            [false, false, false, false, true, false]
        );
        assert_eq!(holds(&Term::MplsLabel(ids(17, 98)), &packets), [false; 6]);
    }

    #[test]
    fn bytes_are_compared_behind_the_header_that_is_named() {
        let packet = in_ipv4(6, &packets::tcp(1, 2, b"GET / HTTP/1.1"));
        let tagged = packets::ethernet(MAC_A, MAC_B, 0x8100, &packets::tag(5, 0x0800, &packet[14..]));
        let cut = packet[..packet.len() - 12].to_vec();
        let packets = [packet, tagged, cut];
        let term = |anchor, offset, value: &[u8], mask: &[u8]| {
            Term::Bytes(BytesTerm::new(anchor, offset, value, mask))
        };
        let all = |len| vec![0xff; len];
        assert_eq!(holds(&term(Some(Anchor::L4), 0, b"GET", &all(3)), &packets), [true, true, false]);
        assert_eq!(holds(&term(Some(Anchor::L4), 4, b"/", &all(1)), &packets), [true, true, false]);
        assert_eq!(holds(&term(Some(Anchor::L4), 0, b"get", &[0xdf; 3]), &packets), [true, true, false]);
        assert_eq!(holds(&term(Some(Anchor::L3), 0, &[0, 1, 0, 2], &all(4)), &packets), [true; 3]);
        assert_eq!(holds(&term(Some(Anchor::L2), 0, &[0x45], &[0xf0]), &packets), [true; 3]);
        assert_eq!(holds(&term(Some(Anchor::L2), 0, &[0x55], &[0xf0]), &packets), [false; 3]);
        assert_eq!(holds(&term(None, 12, &[0x81, 0], &all(2)), &packets), [false, true, false]);
        assert_eq!(holds(&term(None, u16::MAX, &[0], &[0]), &packets), [false; 3]);
    }

    #[test]
    fn a_rules_vlans_are_those_of_the_outermost_tag() {
        let inner = in_ipv4(6, &packets::tcp(1, 2, &[]));
        let tagged = |tpid, vlan, next, payload: &[u8]| {
            packets::ethernet(MAC_A, MAC_B, tpid, &packets::tag(vlan, next, payload))
        };
        let double = tagged(0x88a8, 100, 0x8100, &packets::tag(7, 0x0800, &inner[14..]));
        let packets =
            [inner.clone(), tagged(0x8100, 0xe007, 0x0800, &inner[14..]), double, inner[..13].to_vec()];
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let select = |ranges: &[(u32, u32)], among| {
            VlanSet::new(ranges.iter().copied()).select(&frames, Selection::from_bits(among)).bits()
        };
        assert_eq!(select(&[(7, 7)], 0b1111), 0b0010);
        assert_eq!(select(&[(100, 110), (0, 0)], 0b1111), 0b0100);
        assert_eq!(select(&[(0, u32::MAX)], 0b1111), 0b0110);
        assert_eq!(select(&[(0, 4095)], 0b0100), 0b0100);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranges_hold_what_one_of_their_pairs_holds(
            pairs in prop::collection::vec((0u32..300, 0u32..300), 0..8), id in 0u32..310, vlan in 0u16..310,
        ) {
            let holds = |id: u32| pairs.iter().any(|(first, last)| (*first..=*last).contains(&id));
            prop_assert_eq!(IdRanges::new(pairs.clone()).contains(id), holds(id));
            prop_assert_eq!(VlanSet::new(pairs.clone()).contains(vlan), holds(u32::from(vlan)));
        }
    }
}
