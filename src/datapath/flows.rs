//! Layers and flow hashes of a burst's packets, found when a stage first asks for them.
//!
//! Most packets of a filtered burst go nowhere: only those that reach a group or a flow sampler are parsed and hashed, and each
//! only once.

use super::burst::{MAX_BURST, Selection};
use super::copy::Direction;
use super::endpoint::OuterId;
use super::hash::{HashKind, flow_hash_burst, plain_hash_burst};
use super::parse::{Depth, Layers, parse_into};
use crate::dpdk::Frame;

/// One way to hash flows that a plan uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashSpec {
    pub kind: HashKind,
    /// Outer headers, or those inside all tunnels.
    pub depth: Depth,
    pub seed: u64,
}

/// A plan's [`HashSpec`], by its place in the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashId(pub usize);

/// See [`Flows::outer_signs`].
#[derive(Clone, Copy, Default, Debug)]
pub struct OuterSigns {
    pub cut: Selection,
    pub egress: Selection,
}

impl OuterSigns {
    #[inline(always)]
    pub fn is_cut(&self, index: usize) -> bool {
        self.cut.0 >> index & 1 == 1
    }

    #[inline(always)]
    pub fn direction(&self, index: usize) -> Direction {
        if self.egress.0 >> index & 1 == 1 { Direction::Egress } else { Direction::Ingress }
    }
}

/// The hashes of one [`HashSpec`].
#[derive(Clone)]
struct Hashes {
    hashes: [u64; MAX_BURST],
    /// The packets that are hashed, if `burst` is the present one.
    known: u64,
    burst: u64,
}

/// What is known of the flows of one burst; a worker's own.
pub struct Flows {
    depth: Depth,
    specs: Vec<HashSpec>,
    layers: Box<[Layers; MAX_BURST]>,
    has_layers: u64,
    hashes: Vec<Hashes>,
    /// Counts bursts: what is known of another is forgotten without a visit.
    burst: u64,
    /// Of the tunnels that packets came in, where the port terminates them.
    outer: Option<Box<[OuterId; MAX_BURST]>>,
    has_outer: bool,
    /// The way to hash that NICs know.
    rss: Option<usize>,
}

impl Flows {
    /// For a plan that uses these ways to hash, and otherwise needs packets parsed to `depth`.
    pub fn new(specs: &[HashSpec], depth: Depth) -> Self {
        let depth = specs.iter().map(|spec| spec.kind.parse_depth(spec.depth)).max().unwrap_or_default().max(depth);
        Self {
            depth,
            specs: specs.to_vec(),
            layers: Box::new([Layers::EMPTY; MAX_BURST]),
            has_layers: 0,
            hashes: vec![Hashes { hashes: [0; MAX_BURST], known: 0, burst: 0 }; specs.len()],
            burst: 0,
            outer: None,
            has_outer: false,
            rss: specs.iter().position(|spec| spec.kind == HashKind::Rss && spec.depth == Depth::Outer),
        }
    }

    /// Forgets the burst before.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.has_layers = 0;
        self.burst += 1;
        self.has_outer = false;
    }

    /// Takes the hashes that a NIC gave, if the plan hashes as NICs do: `given` writes them, and says of which packets. They are
    /// what [`hashes`](Self::hashes) would find, so that a flow is where it belongs whoever hashes its packets.
    #[inline]
    pub fn take_rss(&mut self, given: impl FnOnce(&mut [u64; MAX_BURST]) -> Selection) {
        if let Some(rss) = self.rss {
            let column = &mut self.hashes[rss];
            column.known = given(&mut column.hashes).0;
            column.burst = self.burst;
        }
    }

    /// Notes the numbers of the tunnels that the burst's packets came in.
    pub fn set_outer(&mut self, outer: &[OuterId; MAX_BURST]) {
        **self.outer.get_or_insert_with(|| Box::new([OuterId::default(); MAX_BURST])) = *outer;
        self.has_outer = true;
    }

    /// The numbers of the tunnels that the burst's packets came in, if the port terminates tunnels.
    pub fn outer(&self) -> Option<&[OuterId; MAX_BURST]> {
        self.outer.as_deref().filter(|_| self.has_outer)
    }

    /// Which packets came in tunnels whose senders say that they cut the frame, and that it was leaving the mirrored port.
    pub fn outer_signs(&self) -> OuterSigns {
        let mut signs = OuterSigns::default();
        for (index, outer) in self.outer().into_iter().flatten().enumerate() {
            signs.cut.0 |= u64::from(outer.is_cut) << index;
            signs.egress.0 |= u64::from(outer.is_egress) << index;
        }
        signs
    }

    /// The layers of the packets of the burst, valid for those that are `wanted`.
    #[inline]
    pub fn layers(&mut self, wanted: Selection, frames: &[Frame<'_>]) -> &[Layers; MAX_BURST] {
        for index in Selection(wanted.0 & !self.has_layers).indices() {
            parse_into(&frames[index], self.depth, &mut self.layers[index]);
        }
        self.has_layers |= wanted.0;
        &self.layers
    }

    /// The hashes of the packets of the burst, valid for those that are `wanted`.
    #[inline]
    pub fn hashes(&mut self, id: HashId, wanted: Selection, frames: &[Frame<'_>]) -> &[u64; MAX_BURST] {
        self.hashes_each(id, wanted, frames, |_| ())
    }

    /// Likewise; `each` may be shown hashes as soon as they are known, so that what they lead to is loaded while the others are found.
    #[inline]
    pub fn hashes_each(&mut self, id: HashId, wanted: Selection, frames: &[Frame<'_>], each: impl Fn(u64)) -> &[u64; MAX_BURST] {
        let column = &mut self.hashes[id.0];
        if column.burst != self.burst {
            (column.known, column.burst) = (0, self.burst);
        }
        let missing = wanted.0 & !column.known;
        if missing != 0 {
            column.known |= missing;
            let HashSpec { kind, depth, seed } = self.specs[id.0];
            let mut rest = missing;
            if kind == HashKind::FiveTuple && depth == Depth::Outer {
                rest &= !plain_hash_burst(seed, frames, Selection(missing), &mut column.hashes, each).0;
            }
            if rest != 0 {
                self.layers(Selection(rest), frames);
                let hashes = &mut self.hashes[id.0].hashes;
                flow_hash_burst(kind, depth, seed, frames, &self.layers[..], Selection(rest), hashes);
            }
        }
        &self.hashes[id.0].hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::packets;

    #[test]
    fn packets_that_the_nic_hashed_are_not_hashed_again_and_the_others_are() {
        let packets = packets::mix(64, 4, 7);
        let frames: Vec<Frame> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let spec = |kind| HashSpec { kind, depth: Depth::Outer, seed: 0 };
        let specs = [spec(HashKind::FiveTuple), spec(HashKind::Rss)];
        let (mut flows, mut alone) = (Flows::new(&specs, Depth::Outer), Flows::new(&specs, Depth::Outer));
        let all = Selection::first(frames.len());
        flows.take_rss(|hashes| {
            (hashes[3], hashes[9]) = (33, 99);
            Selection(1 << 3 | 1 << 9)
        });
        let mut expected = *alone.hashes(HashId(1), all, &frames);
        (expected[3], expected[9]) = (33, 99);
        assert_eq!(flows.hashes(HashId(1), all, &frames)[..frames.len()], expected[..frames.len()]);
        assert_eq!(flows.hashes(HashId(0), all, &frames), alone.hashes(HashId(0), all, &frames), "other ways to hash are ours");
        flows.clear();
        assert_eq!(flows.hashes(HashId(1), all, &frames), alone.hashes(HashId(1), all, &frames));
    }
}
