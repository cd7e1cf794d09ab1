//! The notes that are taken of a burst while the data path decides on it.

use tapline_api::words::{Disposition, DropReason};
use tapline_datapath::ids::{GroupId, ToolId};
use tapline_datapath::route::balance::Slot;
use tapline_datapath::route::sample::{Draw, Sampler};
use tapline_datapath::witness::{Decision, Witness};
use tapline_packet::burst::Selection;

/// A note of what a step of the input did with packets that its rule matched.
#[derive(Clone, Default, Debug)]
pub struct StepNote {
    /// The step's place among those of the input.
    pub place: usize,
    pub matched: Selection,
    pub kept: Selection,
    /// Beyond the rule's limit.
    pub limited: Selection,
    pub duplicates: Selection,
    pub sampling: Option<Sampling>,
}

/// A note of how a sampler judged.
#[derive(Clone, Debug)]
pub struct Sampling {
    pub draw: Draw,
    pub offered: Selection,
    pub sampled: Selection,
    /// The hash of each packet's flow; empty where the sampler goes by no flows.
    pub hashes: Vec<u64>,
}

/// The member that a group gave a packet.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The place of the step whose rule sends to the group.
    pub place: usize,
    pub group: GroupId,
    pub packet: usize,
    pub hash: u64,
    pub bucket: usize,
    pub slot: Slot,
}

/// The notes of one burst.
#[derive(Default, Debug)]
pub struct Notes {
    pub admitted: Selection,
    /// In the order in which steps were tried; those without a match are not there.
    pub steps: Vec<StepNote>,
    pub placed: Vec<Placed>,
    pub dropped: Vec<(ToolId, DropReason, Selection)>,
    pub unmade: Vec<(ToolId, Selection)>,
    pub settled: Vec<(Disposition, Selection)>,
}

impl Notes {
    pub fn clear(&mut self) {
        self.admitted = Selection::NONE;
        self.steps.clear();
        self.placed.clear();
        self.dropped.clear();
        self.unmade.clear();
        self.settled.clear();
    }

    fn step(&mut self, place: usize) -> &mut StepNote {
        if self.steps.last().is_none_or(|step| step.place != place) {
            self.steps.push(StepNote { place, ..StepNote::default() });
        }
        self.steps.last_mut().expect("one was pushed")
    }

    /// Gives the reason why a copy ended before egress, if it did.
    pub fn dropped(&self, tool: ToolId, packet: usize) -> Option<&'static str> {
        let dropped = self.dropped.iter().find(|(of, _, copies)| *of == tool && copies.contains(packet));
        let unmade = || self.unmade.iter().any(|(of, copies)| *of == tool && copies.contains(packet));
        let reason = dropped.map(|(_, reason, _)| *reason);
        reason.or_else(|| unmade().then_some(DropReason::Oversize)).map(DropReason::word)
    }

    /// Gives the disposition of a packet.
    pub fn disposition(&self, packet: usize) -> Disposition {
        let settled = self.settled.iter().find(|(_, packets)| packets.contains(packet));
        settled.map_or(Disposition::Failed, |(disposition, _)| *disposition)
    }
}

impl Witness for Notes {
    fn admitted(&mut self, all: Selection) {
        self.admitted = all;
    }

    fn limited(&mut self, place: usize, passed: Selection) {
        self.step(place).limited |= passed;
    }

    fn compared(&mut self, place: usize, duplicates: Selection) {
        self.step(place).duplicates |= duplicates;
    }

    fn samples(&mut self, place: usize, sampler: &Sampler, offered: Selection) {
        let sampling =
            Sampling { draw: sampler.draw(), offered, sampled: Selection::NONE, hashes: Vec::new() };
        self.step(place).sampling = Some(sampling);
    }

    fn hashed(&mut self, hashes: &[u64]) {
        if let Some(sampling) = self.steps.last_mut().and_then(|step| step.sampling.as_mut()) {
            sampling.hashes = hashes.to_vec();
        }
    }

    fn sampled(&mut self, place: usize, sampled: Selection) {
        if let Some(sampling) = &mut self.step(place).sampling {
            sampling.sampled = sampled;
        }
    }

    fn decided(&mut self, place: usize, decision: &Decision) {
        let step = self.step(place);
        (step.matched, step.kept) = (decision.matched, decision.kept);
    }

    fn placed(&mut self, group: GroupId, packet: usize, hash: u64, bucket: usize, slot: Slot) {
        let place = self.steps.last().map_or(0, |step| step.place);
        self.placed.push(Placed { place, group, packet, hash, bucket, slot });
    }

    fn dropped(&mut self, tool: ToolId, reason: DropReason, copies: Selection) {
        self.dropped.push((tool, reason, copies));
    }

    fn unmade(&mut self, tool: ToolId, copies: Selection) {
        self.unmade.push((tool, copies));
    }

    fn settled(&mut self, disposition: Disposition, packets: Selection) {
        self.settled.push((disposition, packets));
    }
}
