//! The summary: the fates of all packets of a capture together.

use super::Packet;
use super::notes::Notes;
use super::tell::closes;
use crate::plan::Plan;
use tapline_api::words::{Disposition, DropReason};
use tapline_datapath::egresses::Egress;
use tapline_datapath::ids::{PortId, RuleId, ToolId, WireId};
use tapline_packet::burst::Selection;
use tapline_packet::by_id::ById;

/// A number of packets or copies, and the number of the first packet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    pub count: u64,
    pub first: Option<u64>,
}

impl Count {
    fn add(&mut self, packets: &[Packet<'_>], selection: Selection) {
        if let Some(index) = selection.indices().next() {
            self.count += u64::from(selection.count());
            self.first.get_or_insert(packets[index].number);
        }
    }

    fn one(&mut self, number: u64) {
        self.count += 1;
        // copies of a burst leave tool by tool
        self.first = Some(self.first.map_or(number, |first| first.min(number)));
    }
}

/// The fates of the packets that a rule was shown.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RuleCount {
    /// The rule was tried for some packet.
    pub is_reached: bool,
    pub taken: Count,
    pub sampled_out: Count,
    pub duplicates: Count,
    pub limited: Count,
}

/// The fates of the copies for a tool.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ToolCount {
    pub sent: Count,
    /// Bytes of the copies that are sent.
    pub bytes: u64,
    /// Copies that are not, by reason.
    pub dropped: Vec<(DropReason, Count)>,
}

impl ToolCount {
    fn dropped(&mut self, reason: DropReason) -> &mut Count {
        let place = self.dropped.iter().position(|(of, _)| *of == reason).unwrap_or_else(|| {
            self.dropped.push((reason, Count::default()));
            self.dropped.len() - 1
        });
        &mut self.dropped[place].1
    }
}

/// The fates of all packets so far.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Summary {
    pub packets: u64,
    /// Packets of the capture that no Ethernet frames are made of.
    pub passed_over: Count,
    /// In no tunnel that ends at their port.
    pub refused: Count,
    /// The packets with each [`Disposition`].
    pub dispositions: [Count; Disposition::ALL.len()],
    pub rules: ById<RuleId, RuleCount>,
    pub tools: ById<ToolId, ToolCount>,
    pub wires: ById<WireId, ToolCount>,
}

impl Summary {
    pub fn new(plan: &Plan) -> Self {
        Self {
            rules: plan.rules.iter().map(|_| RuleCount::default()).collect(),
            tools: plan.tools.iter().map(|_| ToolCount::default()).collect(),
            wires: plan.wires.iter().map(|_| ToolCount::default()).collect(),
            ..Self::default()
        }
    }

    /// Counts a packet that no Ethernet frame is made of.
    pub fn pass_over(&mut self, number: u64) {
        self.passed_over.one(number);
    }

    /// Counts packets that were decided on.
    pub(super) fn note(&mut self, plan: &Plan, port: PortId, packets: &[Packet<'_>], notes: &Notes) {
        self.packets += packets.len() as u64;
        self.refused.add(packets, Selection::first(packets.len()) - notes.admitted);
        for &(disposition, selection) in &notes.settled {
            self.dispositions[disposition as usize].add(packets, selection);
        }
        let steps = &plan.work.inputs[port].steps;
        let (mut open, mut next) = (notes.admitted, 0);
        for note in &notes.steps {
            let step = &steps[note.place];
            let count = &mut self.rules[step.rule];
            count.taken.add(packets, note.kept);
            count.limited.add(packets, note.limited);
            count.duplicates.add(packets, note.duplicates);
            if let Some(sampling) = &note.sampling {
                count.sampled_out.add(packets, sampling.offered - sampling.sampled);
            }
            let closed = closes(step, note);
            if !closed.is_empty() {
                steps[next..=note.place].iter().for_each(|step| self.rules[step.rule].is_reached = true);
                (open, next) = (open - closed, note.place + 1);
                if open.is_empty() {
                    break;
                }
            }
        }
        if !open.is_empty() {
            steps[next..].iter().for_each(|step| self.rules[step.rule].is_reached = true);
        }
        for &(tool, reason, copies) in &notes.dropped {
            self.tools[tool].dropped(reason).add(packets, copies);
        }
        for &(tool, copies) in &notes.unmade {
            self.tools[tool].dropped(DropReason::Oversize).add(packets, copies);
        }
    }

    /// Counts a copy that leaves, or that its port does not take.
    pub(super) fn count(&mut self, egress: Egress, reason: Option<DropReason>, bytes: u64, number: u64) {
        let count = match egress {
            Egress::Tool(tool) => &mut self.tools[tool],
            Egress::Wire(wire, _) => &mut self.wires[wire],
        };
        match reason {
            None => {
                count.sent.one(number);
                count.bytes += bytes;
            }
            Some(reason) => count.dropped(reason).one(number),
        }
    }

    /// Gives the packets with a disposition.
    pub fn of(&self, disposition: Disposition) -> Count {
        self.dispositions[disposition as usize]
    }
}
