//! Explain: what a plan does with each packet of a capture, and why.
//!
//! Packets go through the worker of a `Rehearsal`, which is the data path's own code; a witness takes notes. Nothing is decided here: the
//! notes are put in words, edits are carried out once more to show their bytes, and conditions are asked one by one.

/// The answer about one packet.
pub mod answer;
/// Reads packets, each with the port that it came by.
pub mod capture;
/// Compares what two plans do with the packets of a capture.
pub mod compare;
/// Takes filters apart.
pub mod expression;
/// The fate of a packet, without reasons.
pub mod fate;
/// The fields of packets.
pub mod fields;
/// Answers for programs.
pub mod json;
/// Notes what the data path decides.
pub mod notes;
/// Reasons why rules take packets.
pub mod reason;
/// The steps by which packets become copies.
pub mod steps;
/// Counts all packets together.
pub mod summary;
/// Notes -> answers.
mod tell;
/// Answers for people.
pub mod text;

use std::sync::Arc;

use self::answer::Answer;
use self::notes::Notes;
use self::reason::Conditions;
use self::steps::Shown;
use self::summary::Summary;
use self::tell::{Expected, State, Teller, chosen, fill, finish, leave};
use crate::broker::Error;
use crate::broker::rehearsal::Rehearsal;
use crate::plan::Plan;
use crate::plan::origin::Origins;
use arrayvec::ArrayVec;
use tapline_api::words::{Disposition, DropReason};
use tapline_datapath::copies::facts::Stamps;
use tapline_datapath::ids::{PortId, RuleId, ToolId};
use tapline_dpdk::Eal;
use tapline_packet::burst::{Column, MAX_BURST, Selection};
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;
use tapline_packet::layers::Layers;

/// A packet of a capture.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    /// From 1, in the order of the capture.
    pub number: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    pub frame: Frame<'a>,
}

/// The packets that are asked about, beside the summary.
#[derive(Clone, Default, Debug)]
pub struct Question {
    /// Only packets that this rule takes.
    pub rule: Option<RuleId>,
    /// Only packets of which this tool is to get a copy.
    pub tool: Option<ToolId>,
    /// Only packets with this disposition, or of which a copy is sent, or dropped for this reason.
    pub outcome: Option<Outcome>,
}

/// The outcome of a packet, or of one of its copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Disposition(Disposition),
    Dropped(DropReason),
    Sent,
}

/// A plan that is asked about packets.
pub struct Explainer {
    plan: Arc<Plan>,
    origins: Origins,
    rehearsal: Rehearsal,
    /// The conditions of each rule, once somebody asked for them.
    conditions: ById<RuleId, Option<Conditions>>,
    shown: Shown,
    notes: Notes,
    layers: Column<Layers>,
    pub summary: Summary,
}

impl Explainer {
    /// Sets up a plan, whose first packet is of time `now_ns`.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(eal: &Eal, plan: Arc<Plan>, origins: Origins, now_ns: u64) -> Result<Self, Error> {
        Ok(Self {
            rehearsal: Rehearsal::set_up(eal, &plan, now_ns)?,
            conditions: plan.rules.iter().map(|_| None).collect(),
            shown: Shown::new(&plan),
            notes: Notes::default(),
            layers: Column::new(Layers::EMPTY),
            summary: Summary::new(&plan),
            plan,
            origins,
        })
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Gives how many of `packets`, the first ones, go through the worker at once: as many as there are mbufs for.
    pub fn fitting(&self, packets: &[Packet<'_>]) -> usize {
        self.rehearsal.fitting(packets.iter().map(|packet| packet.frame.captured_len() as usize))
    }

    /// Lets the plan decide on packets that came by one port: all are counted in the summary, and `give` gets the answers about those that
    /// are `wanted` and fit the question. `packets` are no more than [`fitting`](Self::fitting) says.
    pub fn judge(
        &mut self,
        port: PortId,
        packets: &[Packet<'_>],
        wanted: Selection,
        question: &Question,
        mut give: impl FnMut(Answer),
    ) {
        let (frames, stamps) = frames_of(packets);
        let Self { plan, origins, rehearsal, conditions, shown, notes, layers, summary } = self;
        notes.clear();
        rehearsal.keep_time(stamps.ns[0]);
        let state = (!wanted.is_empty()).then(|| State::of(rehearsal, plan));
        rehearsal.judge(port, &frames, &stamps, notes, |mut decided, notes| {
            let wanted =
                wanted.filter(|packet| packet < packets.len() && fits(plan, port, notes, packet, question));
            summary.note(plan, port, packets, notes);
            let (mut answers, mut expected): (Vec<(usize, Answer)>, Vec<Expected>) = Default::default();
            if let Some(state) = state.as_ref().filter(|_| !wanted.is_empty()) {
                let outer = decided.outer;
                let mut teller =
                    Teller { plan, origins, conditions, shown, notes, layers, state, port, packets };
                decided.view_frames(|seen| (answers, expected) = teller.tell(seen, outer, wanted));
            }
            leave(decided, plan, summary, packets, |egress, reason, leaving| {
                fill(&mut expected, egress, reason, leaving);
            });
            finish(answers, expected, question, &mut give);
        });
    }
}

/// Gives the frames of packets, and their times.
fn frames_of<'a>(packets: &[Packet<'a>]) -> (ArrayVec<Frame<'a>, MAX_BURST>, Stamps) {
    let mut stamps = Stamps::default();
    stamps.ns.iter_mut().zip(packets).for_each(|(ns, packet)| *ns = packet.time_ns);
    (packets.iter().map(|packet| packet.frame).collect(), stamps)
}

/// Returns whether a packet is of the rule, the tool and the disposition that are asked for, as far as the notes say.
fn fits(plan: &Plan, port: PortId, notes: &Notes, packet: usize, question: &Question) -> bool {
    let steps = &plan.work.inputs[port].steps;
    let is_of_rule = |rule: RuleId| {
        notes.steps.iter().any(|note| steps[note.place].rule == rule && note.kept.contains(packet))
    };
    let is_for_tool =
        |tool: ToolId| chosen(plan, port, notes, packet).iter().any(|chosen| chosen.tool == Some(tool));
    let is_settled_so = match question.outcome {
        Some(Outcome::Disposition(disposition)) => notes.disposition(packet) == disposition,
        Some(Outcome::Dropped(_) | Outcome::Sent) | None => true,
    };
    is_settled_so && question.rule.is_none_or(is_of_rule) && question.tool.is_none_or(is_for_tool)
}
