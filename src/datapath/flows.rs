//! Layers and flow hashes of a burst's packets, found when a stage first asks for them.
//!
//! Most packets of a filtered burst go nowhere: only those that reach a group or a flow sampler are parsed and hashed, and each only once.

use super::burst::{MAX_BURST, Selection};
use super::copy::Direction;
use super::endpoint::OuterId;
use super::hash::{HashKind, flow_hash_burst};
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

/// What is known of the flows of one burst; a worker's own.
pub struct Flows {
    depth: Depth,
    specs: Vec<HashSpec>,
    layers: Box<[Layers; MAX_BURST]>,
    has_layers: u64,
    hashes: Vec<[u64; MAX_BURST]>,
    has_hashes: Vec<u64>,
    /// Of the tunnels that packets came in, where the port terminates them.
    outer: Option<Box<[OuterId; MAX_BURST]>>,
    has_outer: bool,
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
            hashes: vec![[0; MAX_BURST]; specs.len()],
            has_hashes: vec![0; specs.len()],
            outer: None,
            has_outer: false,
        }
    }

    /// Forgets the burst before.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.has_layers = 0;
        self.has_hashes.fill(0);
        self.has_outer = false;
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
        let missing = wanted.0 & !self.has_hashes[id.0];
        if missing != 0 {
            self.layers(wanted, frames);
            let spec = &self.specs[id.0];
            flow_hash_burst(spec.kind, spec.depth, spec.seed, frames, &self.layers[..], Selection(missing), &mut self.hashes[id.0]);
            self.has_hashes[id.0] |= missing;
        }
        &self.hashes[id.0]
    }
}
