//! Layers and flow hashes of a burst's packets, found when a stage first asks for them.
//!
//! Most packets of a filtered burst go nowhere: only those that reach a group or a flow sampler are parsed and hashed, and each
//! only once.

use super::hash::{HashSpec, flow_hash_burst, parse_depth, plain_hash_burst};
use crate::ids::HashId;
use crate::receive::decap::OuterId;
use tapline_api::words::{Direction, HashKind};
use tapline_packet::burst::{Column, Known, MAX_BURST, Selection};
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;
use tapline_packet::layers::{Depth, Layers, parse_into};

/// See [`Flows::outer_signs`].
#[derive(Clone, Copy, Default, Debug)]
pub struct OuterSigns {
    pub cut: Selection,
    pub egress: Selection,
}

impl OuterSigns {
    #[inline(always)]
    pub fn is_cut(&self, index: usize) -> bool {
        self.cut.contains(index)
    }

    #[inline(always)]
    pub fn direction(&self, index: usize) -> Direction {
        if self.egress.contains(index) { Direction::Egress } else { Direction::Ingress }
    }
}

/// The hashes of one [`HashSpec`], if `burst` is the present one.
struct Hashes {
    column: Column<u64>,
    burst: u64,
}

impl Hashes {
    /// Those of burst number `burst`.
    #[inline(always)]
    fn of(&mut self, burst: u64) -> &mut Column<u64> {
        if self.burst != burst {
            self.burst = burst;
            self.column.clear();
        }
        &mut self.column
    }
}

/// The layers and hashes of one burst's packets, as far as they are known. Each worker has its own.
pub struct Flows {
    depth: Depth,
    specs: ById<HashId, HashSpec>,
    layers: Column<Layers>,
    /// The packets whose layers are known to the innermost and that have one which is not read.
    unparsed: Selection,
    hashes: ById<HashId, Hashes>,
    /// Counts bursts: what is known of another is forgotten without a visit.
    burst: u64,
    /// The ids of the tunnels that packets came in, if the port terminates them.
    outer: Column<OuterId>,
    /// The way to hash that NICs know.
    rss: Option<HashId>,
}

impl Flows {
    /// For a plan that uses these ways to hash, and otherwise needs packets parsed to `depth`.
    pub fn new(specs: &[HashSpec], depth: Depth) -> Self {
        let depth = specs
            .iter()
            .map(|spec| parse_depth(spec.kind, spec.depth))
            .max()
            .unwrap_or_default()
            .max(depth);
        Self {
            depth,
            specs: specs.to_vec().into(),
            layers: Column::new(Layers::EMPTY),
            unparsed: Selection::NONE,
            hashes: specs.iter().map(|_| Hashes { column: Column::new(0), burst: 0 }).collect(),
            burst: 0,
            outer: Column::new(OuterId::default()),
            rss: specs
                .iter()
                .position(|spec| spec.kind == HashKind::Rss && spec.depth == Depth::Outer)
                .map(HashId),
        }
    }

    /// Forgets the burst before.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.layers.clear();
        self.unparsed = Selection::NONE;
        self.burst += 1;
        self.outer.clear();
    }

    /// Takes the hashes that a NIC gave, if the plan hashes as NICs do: `given` writes them, and says of which packets. They are
    /// what [`hashes`](Self::hashes) would find, so that a flow is where it belongs whoever hashes its packets.
    #[inline]
    pub fn take_rss(&mut self, given: impl FnOnce(&mut [u64; MAX_BURST]) -> Selection) {
        if let Some(rss) = self.rss {
            self.hashes[rss].of(self.burst).fill(given);
        }
    }

    /// Takes the numbers of the tunnels that the burst's packets came in.
    pub fn take_outer(&mut self, outer: &mut Column<OuterId>) {
        std::mem::swap(&mut self.outer, outer);
    }

    /// The numbers of the tunnels that the burst's packets came in, of those that came in one.
    pub fn outer(&self) -> Known<'_, OuterId> {
        self.outer.view()
    }

    /// Which packets came in tunnels whose senders say that they cut the frame, and that it was leaving the mirrored port.
    pub fn outer_signs(&self) -> OuterSigns {
        let mut signs = OuterSigns::default();
        for (index, outer) in self.outer().of(Selection::ALL) {
            signs.cut |= Selection::only_if(index, outer.is_cut);
            signs.egress |= Selection::only_if(index, outer.is_egress);
        }
        signs
    }

    /// The layers of the packets of the burst, those that are `wanted` among them.
    #[inline]
    pub fn layers(&mut self, wanted: Selection, frames: &[Frame<'_>]) -> Known<'_, Layers> {
        let (missing, depth) = (self.layers.missing(wanted), self.depth);
        let unparsed = &mut self.unparsed;
        self.layers.write(missing, |layers| match depth {
            Depth::Outer => {
                missing.indices().for_each(|index| parse_into(&frames[index], depth, &mut layers[index]));
            }
            Depth::Full => missing.indices().for_each(|index| {
                parse_into(&frames[index], depth, &mut layers[index]);
                *unparsed |= Selection::only_if(index, layers[index].is_unparsed(frames[index].bytes()));
            }),
        });
        self.layers.view()
    }

    /// The packets that have a layer which could hold addresses and is not read, of those whose layers were asked for to the
    /// innermost.
    pub fn unparsed(&self) -> Selection {
        self.unparsed
    }

    /// The layers of the burst's packets as far as they are known.
    pub fn known_layers(&self) -> Known<'_, Layers> {
        self.layers.view()
    }

    /// The hashes of the packets of the burst, those that are `wanted` among them.
    #[inline]
    pub fn hashes(&mut self, id: HashId, wanted: Selection, frames: &[Frame<'_>]) -> Known<'_, u64> {
        self.hashes_each(id, wanted, frames, |_| ())
    }

    /// As [`hashes`](Self::hashes); `each` may be shown hashes as soon as they are known, so that what they lead to is loaded while the others are found.
    #[inline]
    pub fn hashes_each(
        &mut self,
        id: HashId,
        wanted: Selection,
        frames: &[Frame<'_>],
        each: impl Fn(u64),
    ) -> Known<'_, u64> {
        let spec = self.specs[id];
        let column = self.hashes[id].of(self.burst);
        if spec.kind == HashKind::FiveTuple && spec.depth == Depth::Outer {
            let missing = column.missing(wanted);
            if !missing.is_empty() {
                column.fill(|hashes| plain_hash_burst(spec.seed, frames, missing, hashes, each));
            }
        }
        let rest = column.missing(wanted);
        if !rest.is_empty() {
            self.layers(rest, frames);
            let layers = self.layers.view();
            self.hashes[id]
                .column
                .write(rest, |hashes| flow_hash_burst(spec, frames, layers, rest, hashes));
        }
        self.hashes[id].column.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_traffic::packets;

    #[test]
    fn packets_that_the_nic_hashed_are_not_hashed_again_and_the_others_are() {
        let packets = packets::mix(64, 4, 7);
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let spec = |kind| HashSpec { kind, depth: Depth::Outer, seed: 0 };
        let specs = [spec(HashKind::FiveTuple), spec(HashKind::Rss)];
        let (mut flows, mut alone) = (Flows::new(&specs, Depth::Outer), Flows::new(&specs, Depth::Outer));
        let all = Selection::first(frames.len());
        flows.take_rss(|hashes| {
            (hashes[3], hashes[9]) = (33, 99);
            Selection::from_bits(1 << 3 | 1 << 9)
        });
        let values = |hashes: Known<'_, u64>| hashes.of(all).map(|(_, &hash)| hash).collect::<Vec<u64>>();
        let mut expected = values(alone.hashes(HashId(1), all, &frames));
        (expected[3], expected[9]) = (33, 99);
        assert_eq!(values(flows.hashes(HashId(1), all, &frames)), expected);
        let (ours, theirs) =
            (values(flows.hashes(HashId(0), all, &frames)), values(alone.hashes(HashId(0), all, &frames)));
        assert_eq!(ours, theirs, "other ways to hash are ours");
        flows.clear();
        assert_eq!(
            values(flows.hashes(HashId(1), all, &frames)),
            values(alone.hashes(HashId(1), all, &frames))
        );
    }
}
