//! The fate of a packet: its disposition, the rules that took note of it, and its copies with their bytes; without reasons.

use super::answer::RuleResult;
use super::notes::Notes;
use super::tell::{chosen, closes, leave, result_of};
use super::{Explainer, Packet, frames_of};
use crate::plan::Plan;
use tapline_api::words::{Disposition, DropReason};
use tapline_datapath::egresses::Egress;
use tapline_datapath::ids::{GroupId, PortId, RuleId};
use tapline_packet::burst::Selection;

/// The fate of one packet.
#[derive(Clone, Debug)]
pub struct Fate {
    pub disposition: Disposition,
    /// Tunnels end at the port, and the packet came in none of them.
    pub is_refused: bool,
    /// The rules whose conditions hold, in their order.
    pub rules: Vec<Noted>,
    pub copies: Vec<Copied>,
}

/// A rule whose conditions hold for the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    pub rule: RuleId,
    pub result: RuleResult,
    /// The rules behind it do not get the packet.
    pub closes: bool,
}

/// A copy of the packet, or the original that leaves a wire.
#[derive(Clone, Debug)]
pub struct Copied {
    /// `None`: the bucket of the group has no member.
    pub egress: Option<Egress>,
    /// The rule that chose the tool.
    pub rule: Option<RuleId>,
    pub group: Option<GroupId>,
    /// The reason why it is not sent.
    pub reason: Option<&'static str>,
    pub bytes: Vec<u8>,
    /// Bytes that it would have if it were not cut.
    pub wire_len: u32,
}

impl Fate {
    /// Reads the fate of a packet, whose copies have not left yet, from the notes.
    fn of(plan: &Plan, port: PortId, notes: &Notes, packet: usize) -> Self {
        let steps = &plan.work.inputs[port].steps;
        let copied = |egress, rule, group, reason| Copied {
            egress,
            rule,
            group,
            reason,
            bytes: Vec::new(),
            wire_len: 0,
        };
        let of_rules = chosen(plan, port, notes, packet).into_iter().map(|chosen| {
            let reason = match chosen.tool {
                Some(tool) => notes.dropped(tool, packet),
                None => chosen.reason_without_tool(),
            };
            let group = chosen.placed.map(|placed| placed.group);
            copied(chosen.tool.map(Egress::Tool), Some(steps[chosen.place].rule), group, reason)
        });
        let original = plan.wire_at(port).map(|(wire, side)| Egress::Wire(wire, side));
        let original = original.map(|egress| copied(Some(egress), None, None, None));
        let is_noted = |result: RuleResult| result != RuleResult::No;
        Self {
            disposition: notes.disposition(packet),
            is_refused: !notes.admitted.contains(packet),
            rules: notes
                .steps
                .iter()
                .map(|note| {
                    let step = &steps[note.place];
                    let result = result_of(note, &plan.rules[step.rule], packet);
                    Noted { rule: step.rule, result, closes: closes(step, note).contains(packet) }
                })
                .filter(|noted| is_noted(noted.result))
                .collect(),
            copies: of_rules.chain(original).collect(),
        }
    }
}

impl Explainer {
    /// Lets the plan decide on packets that came by one port, as [`judge`](Self::judge) does; gives the fates of those that are `wanted`,
    /// each with its place among `packets`.
    pub fn fates(&mut self, port: PortId, packets: &[Packet<'_>], wanted: Selection) -> Vec<(usize, Fate)> {
        let (frames, stamps) = frames_of(packets);
        let Self { plan, rehearsal, notes, summary, .. } = self;
        notes.clear();
        rehearsal.keep_time(stamps.ns[0]);
        let mut fates = Vec::new();
        rehearsal.judge(port, &frames, &stamps, notes, |decided, notes| {
            summary.note(plan, port, packets, notes);
            let wanted = wanted.filter(|packet| packet < packets.len());
            fates = wanted.indices().map(|packet| (packet, Fate::of(plan, port, notes, packet))).collect();
            leave(decided, plan, summary, packets, |egress, reason, mut leaving| {
                let Ok(place) = fates.binary_search_by_key(&leaving.packet, |(packet, _)| *packet) else {
                    return;
                };
                let is_it = |copy: &&mut Copied| copy.egress == Some(egress);
                let Some(copy) = fates[place].1.copies.iter_mut().find(is_it) else { return };
                copy.reason = reason.map(DropReason::word);
                copy.bytes = leaving.view(<[u8]>::to_vec);
                copy.wire_len = leaving.wire_len;
            });
        });
        fates
    }
}
