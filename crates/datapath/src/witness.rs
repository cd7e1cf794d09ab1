//! Witness: who is told what the data path decides of a burst.
//!
//! Stages are generic over their witness, and call it where they decide. `()` hears nothing: stages that are compiled for it are what
//! they would be without a witness. `explain` brings one that takes notes, so that its answers are those of the data path itself.

use crate::ids::{GroupId, ToolId};
use crate::route::balance::Slot;
use crate::route::sample::Sampler;
use tapline_api::words::{Disposition, DropReason};
use tapline_packet::burst::Selection;

/// The decision on what a rule matched, once samplers and limits had their say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The packets that the rule takes note of: rules behind a `final` one do not get these.
    pub matched: Selection,
    /// The packets that its targets get, or that are excluded.
    pub kept: Selection,
}

/// Hears what is decided. `place` is that of a step among the steps of the input.
pub trait Witness {
    /// Rules judge `all`; the rest of the burst were in no tunnel that ends here.
    #[inline(always)]
    fn admitted(&mut self, all: Selection) {
        let _ = all;
    }

    /// The step's rule has had all packets that its limit allows, and lets these pass.
    #[inline(always)]
    fn limited(&mut self, place: usize, passed: Selection) {
        let _ = (place, passed);
    }

    /// The step's rule drops or marks these duplicates.
    #[inline(always)]
    fn compared(&mut self, place: usize, duplicates: Selection) {
        let _ = (place, duplicates);
    }

    /// The step's sampler is about to judge `offered`, in this state.
    #[inline(always)]
    fn samples(&mut self, place: usize, sampler: &Sampler, offered: Selection) {
        let _ = (place, sampler, offered);
    }

    /// The sampler that was told of last goes by these hashes, by packet; there are none where it goes by no flows.
    #[inline(always)]
    fn hashed(&mut self, hashes: &[u64]) {
        let _ = hashes;
    }

    /// The step's sampler keeps these.
    #[inline(always)]
    fn sampled(&mut self, place: usize, sampled: Selection) {
        let _ = (place, sampled);
    }

    /// The step's rule takes packets. This is told before its targets get them.
    #[inline(always)]
    fn decided(&mut self, place: usize, decision: &Decision) {
        let _ = (place, decision);
    }

    /// A group gives a packet's flow the member of a bucket.
    #[inline(always)]
    fn placed(&mut self, group: GroupId, packet: usize, hash: u64, bucket: usize, slot: Slot) {
        let _ = (group, packet, hash, bucket, slot);
    }

    /// Copies for a tool end here.
    #[inline(always)]
    fn dropped(&mut self, tool: ToolId, reason: DropReason, copies: Selection) {
        let _ = (tool, reason, copies);
    }

    /// Copies for a tool could not be made.
    #[inline(always)]
    fn unmade(&mut self, tool: ToolId, copies: Selection) {
        let _ = (tool, copies);
    }

    /// Packets have their disposition.
    #[inline(always)]
    fn settled(&mut self, disposition: Disposition, packets: Selection) {
        let _ = (disposition, packets);
    }
}

impl Witness for () {}
