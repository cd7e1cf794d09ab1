//! Notes of a burst -> answers.

use std::sync::Arc;

use super::answer::{Answer, CopyPart, DISCARDED, GroupPart, PacketPart, RulePart, RuleResult, SamplePart};
use super::fields::Fields;
use super::notes::{Notes, Placed, Sampling, StepNote};
use super::reason::{Conditions, Reason, Seen};
use super::steps::{Shown, change};
use super::summary::Summary;
use super::{Outcome, Packet, Question};
use crate::broker::rehearsal::Rehearsal;
use crate::plan::Plan;
use crate::plan::origin::{Origins, RuleOrigin};
use crate::plan::value::RulePlan;
use tapline_api::words::{DedupAction, DropReason, Refusal};
use tapline_datapath::copies::facts::CopyFacts;
use tapline_datapath::egresses::{Egress, Side};
use tapline_datapath::ids::{EditId, GroupId, PortId, RuleId, ToolId};
use tapline_datapath::receive::decap::{OuterId, recognise};
use tapline_datapath::route::balance::Slot;
use tapline_datapath::route::sample::{Draw, SampleSpec};
use tapline_datapath::work_plan::{Step, Target, Verdict};
use tapline_datapath::worker::rehearsed::{Decided, Leaving};
use tapline_packet::burst::{Column, Known, Selection};
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;
use tapline_packet::headers::ethernet;
use tapline_packet::layers::{Depth, Layers, parse};
use tapline_packet::mix::mix;

/// The state in force when the burst was decided on.
pub(super) struct State {
    rules_on: ById<RuleId, bool>,
    limits: ById<RuleId, Option<u64>>,
    tools_up: ById<ToolId, bool>,
    buckets: ById<GroupId, usize>,
}

impl State {
    pub(super) fn of(rehearsal: &Rehearsal, plan: &Plan) -> Self {
        Self {
            rules_on: plan.rules.ids().map(|rule| rehearsal.is_on(rule)).collect(),
            limits: plan.rules.ids().map(|rule| rehearsal.limit_remaining(rule)).collect(),
            tools_up: plan.tools.ids().map(|tool| rehearsal.is_up(tool)).collect(),
            buckets: plan.groups.ids().map(|group| rehearsal.bucket_count(group)).collect(),
        }
    }
}

/// The place of a copy: its tool, the step whose rule chose it, and how.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    /// `None`: the group's bucket has no member.
    pub tool: Option<ToolId>,
    pub place: usize,
    pub placed: Option<Placed>,
}

impl Chosen {
    /// Gives the reason why there is no copy where the group's bucket has no member.
    pub(super) fn reason_without_tool(&self) -> Option<&'static str> {
        let is_discarded = self.placed.is_some_and(|placed| placed.slot == Slot::DISCARD);
        self.tool.is_none().then(|| if is_discarded { DISCARDED } else { DropReason::Down.word() })
    }
}

/// Gives the copies that rules ask for, of one packet, in their order.
pub(super) fn chosen(plan: &Plan, port: PortId, notes: &Notes, packet: usize) -> Vec<Chosen> {
    let steps = &plan.work.inputs[port].steps;
    let mut all: Vec<Chosen> = Vec::new();
    let taking = notes.steps.iter().filter(|note| note.kept.contains(packet));
    for note in taking.filter(|note| steps[note.place].verdict != Verdict::Drop) {
        for target in &steps[note.place].targets {
            let placed = match *target {
                Target::Tool(_) => None,
                Target::Group(group) => {
                    let is_it = |placed: &&Placed| {
                        (placed.place, placed.group, placed.packet) == (note.place, group, packet)
                    };
                    notes.placed.iter().find(is_it).copied()
                }
            };
            let tool = match (*target, placed) {
                (Target::Tool(tool), _) => Some(tool),
                (Target::Group(group), Some(placed)) => {
                    placed.slot.member().map(|member| plan.work.groups[group].members[member])
                }
                (Target::Group(_), None) => None,
            };
            // a tool gets one copy of a packet, by the first rule that chose it
            if tool.is_none() || all.iter().all(|before| before.tool != tool) {
                all.push(Chosen { tool, place: note.place, placed });
            }
        }
    }
    all
}

/// A copy that may leave.
pub(super) struct Expected {
    packet: usize,
    tool: Option<ToolId>,
    part: CopyPart,
    /// The packet as its edits leave it, and the words of what is put around it.
    drafted: Vec<u8>,
    around: String,
}

/// Puts notes in words.
pub(super) struct Teller<'a> {
    pub plan: &'a Arc<Plan>,
    pub origins: &'a Origins,
    pub conditions: &'a mut ById<RuleId, Option<Conditions>>,
    pub shown: &'a mut Shown,
    pub notes: &'a Notes,
    pub layers: &'a mut Column<Layers>,
    pub state: &'a State,
    pub port: PortId,
    pub packets: &'a [Packet<'a>],
}

impl Teller<'_> {
    /// Answers about the packets that are `wanted`, of which rules saw `frames`; the copies are those that are expected to leave.
    pub(super) fn tell(
        &mut self,
        frames: &[Frame<'_>],
        outer: Known<'_, OuterId>,
        wanted: Selection,
    ) -> (Vec<(usize, Answer)>, Vec<Expected>) {
        self.layers.clear();
        self.layers.write(wanted, |layers| {
            wanted.indices().for_each(|index| layers[index] = parse(&frames[index], Depth::Full));
        });
        let (mut answers, mut expected) = (Vec::new(), Vec::new());
        for index in wanted.indices() {
            let packet = self.packet(&frames[index], index);
            let is_refused = packet.refusal.is_some();
            let rules = if is_refused { Vec::new() } else { self.rules(frames, outer, index) };
            expected.extend(self.copies(&frames[index], outer, index));
            let disposition = self.notes.disposition(index);
            answers.push((index, Answer { packet, rules, copies: Vec::new(), disposition }));
        }
        (answers, expected)
    }

    fn packet(&self, frame: &Frame<'_>, index: usize) -> PacketPart {
        let Packet { number, time_ns, .. } = self.packets[index];
        let layers = self.layers.view();
        let layers = layers.get(index).unwrap_or(&Layers::EMPTY);
        let refused = || recognise(&self.plan.ports[self.port].terminators, frame.bytes()).err();
        PacketPart {
            number,
            time_ns,
            port: self.plan.ports[self.port].name.clone(),
            captured: frame.captured_len(),
            original: frame.original_len(),
            fields: Fields::of(frame.bytes(), layers),
            refusal: (!self.notes.admitted.contains(index))
                .then(|| refused().unwrap_or(Refusal::Malformed)),
        }
    }

    /// Says what each rule of the port did with the packet.
    fn rules(&mut self, frames: &[Frame<'_>], outer: Known<'_, OuterId>, index: usize) -> Vec<RulePart> {
        let plan = Arc::clone(self.plan);
        let steps = &plan.work.inputs[self.port].steps;
        let mut closed_by = None;
        let mut parts = Vec::new();
        let port = self.port;
        for (id, rule) in plan.rules.entries().filter(|(_, rule)| rule.sources.contains(&port)) {
            let place = steps.iter().position(|step| step.rule == id);
            let note = place.and_then(|place| self.notes.steps.iter().find(|note| note.place == place));
            let is_off = place.is_none() || rule.schedule.is_some() && !self.state.rules_on[id];
            let result = match (closed_by, note) {
                _ if is_off => RuleResult::Off,
                (Some(_), _) => RuleResult::NotTried,
                (None, Some(note)) => result_of(note, rule, index),
                (None, None) => RuleResult::No,
            };
            let is_match = !matches!(result, RuleResult::No | RuleResult::Off | RuleResult::NotTried);
            let is_tried = !matches!(result, RuleResult::Off | RuleResult::NotTried);
            let reason =
                if is_tried { self.why(id, frames, outer, index, is_match) } else { Reason::default() };
            let origin = self.origins.rules.get(id);
            let (file, line) =
                origin.map_or_else(Default::default, |origin| (origin.file.clone(), origin.line));
            let flips = reason.flips.iter().map(|&place| reason.because[place].primitive.clone()).collect();
            parts.push(RulePart {
                priority: rule.priority,
                file,
                line,
                words: origin.map_or_else(String::new, RuleOrigin::words),
                result,
                by: closed_by.filter(|_| result == RuleResult::NotTried),
                flips,
                because: reason.because,
                sample: note
                    .and_then(|note| note.sampling.as_ref())
                    .zip(rule.sample.as_ref())
                    .and_then(|(sampling, spec)| sample_of(sampling, spec, plan.settings.seed, index)),
                limit_remaining: self.limit_remaining(id, note, index),
                depends_on_packets_before: is_match && depends_on_packets_before(rule),
                targets: targets_of(&plan, rule),
            });
            if let (Some(place), Some(note)) = (place, note)
                && closes(&steps[place], note).contains(index)
            {
                closed_by = Some(rule.priority);
            }
        }
        parts
    }

    fn why(
        &mut self,
        rule: RuleId,
        frames: &[Frame<'_>],
        outer: Known<'_, OuterId>,
        index: usize,
        is_match: bool,
    ) -> Reason {
        let (plan, origins) = (self.plan, self.origins);
        let Some(origin) = origins.rules.get(rule) else { return Reason::default() };
        let conditions =
            self.conditions[rule].get_or_insert_with(|| Conditions::new(&plan.rules[rule].matcher, origin));
        conditions.why(&Seen { frames, layers: self.layers.view(), outer }, index, is_match)
    }

    /// Gives the number of packets that a rule's limit leaves behind the packet.
    fn limit_remaining(&self, rule: RuleId, note: Option<&StepNote>, index: usize) -> Option<u64> {
        let before = self.state.limits[rule]?;
        let up_to = Selection::first(index + 1);
        Some(before.saturating_sub(note.map_or(0, |note| u64::from((note.kept & up_to).count()))))
    }

    /// The copies of a packet, before they leave.
    fn copies(&mut self, frame: &Frame<'_>, outer: Known<'_, OuterId>, index: usize) -> Vec<Expected> {
        let plan = Arc::clone(self.plan);
        let steps = &plan.work.inputs[self.port].steps;
        let facts = CopyFacts {
            port: self.port.0 as u16,
            tunnel: outer.get(index).map_or(0, OuterId::number),
            ..CopyFacts::default()
        };
        let chosen = chosen(&plan, self.port, self.notes, index);
        let of_rules = chosen.into_iter().map(|chosen| {
            let step = &steps[chosen.place];
            let edits = self.edits_of(step, chosen.place, index);
            let group = chosen.placed.map(|placed| self.group(&placed));
            let rule = Some(plan.rules[step.rule].priority);
            let mut part = CopyPart { rule, group, ..CopyPart::to(String::new()) };
            let Some(tool) = chosen.tool else {
                part.reason = chosen.reason_without_tool();
                return Expected {
                    packet: index,
                    tool: None,
                    part,
                    drafted: Vec::new(),
                    around: String::new(),
                };
            };
            part.tool = plan.tools[tool].name.clone();
            part.reason = self.notes.dropped(tool, index);
            let is_edited = plan.makes_copies_for(tool);
            let (shown, drafted) = match is_edited {
                true => self.shown.edits(&plan, frame, &facts, (edits, tool)),
                false => (Vec::new(), frame.bytes().to_vec()),
            };
            part.is_example =
                plan.random_key.is_some() && shown.iter().any(|step| step.edit == "anonymize");
            part.steps = shown;
            let around = self.origins.transports.get(tool).filter(|words| !words.is_empty());
            let around = around.cloned().unwrap_or_else(|| "timestamp".to_owned());
            Expected { packet: index, tool: Some(tool), part, drafted, around }
        });
        let mut all: Vec<Expected> = of_rules.collect();
        all.extend(self.original(frame, index));
        all
    }

    /// The original, where the port is a side of a wire.
    fn original(&self, frame: &Frame<'_>, index: usize) -> Option<Expected> {
        let (wire, side) = self.plan.wire_at(self.port)?;
        let way = if side == Side::A { "a-to-b" } else { "b-to-a" };
        let name = format!("{}:{way}", self.plan.wires[wire].name);
        let part = CopyPart { is_original: true, ..CopyPart::to(name) };
        Some(Expected {
            packet: index,
            tool: None,
            part,
            drafted: frame.bytes().to_vec(),
            around: String::new(),
        })
    }

    /// The edits of a rule in its copy of a packet.
    fn edits_of(&self, step: &Step, place: usize, index: usize) -> Option<EditId> {
        let note = self.notes.steps.iter().find(|note| note.place == place);
        let is_marked = step.dedup.is_some_and(|dedup| dedup.action == DedupAction::Tag)
            && note.is_some_and(|note| note.duplicates.contains(index));
        if is_marked { step.duplicate_edits } else { step.edits }
    }

    fn group(&self, placed: &Placed) -> GroupPart {
        let members = self.plan.work.groups[placed.group].members.iter();
        let up = members.filter(|&&tool| self.state.tools_up[tool]);
        GroupPart {
            name: self.plan.groups[placed.group].name.clone(),
            hash: placed.hash,
            bucket: placed.bucket,
            buckets: self.state.buckets[placed.group],
            up: up.map(|&tool| self.plan.tools[tool].name.clone()).collect(),
        }
    }
}

/// The packets that a step takes away from those behind it.
pub(super) fn closes(step: &Step, note: &StepNote) -> Selection {
    match step.verdict {
        Verdict::Continue => Selection::NONE,
        Verdict::Final => note.matched,
        Verdict::Drop => note.kept,
    }
}

pub(super) fn result_of(note: &StepNote, rule: &RulePlan, index: usize) -> RuleResult {
    let drops = rule.dedup.as_ref().is_some_and(|dedup| dedup.action == DedupAction::Drop);
    let is_passed_over = |sampling: &Sampling| (sampling.offered - sampling.sampled).contains(index);
    if note.kept.contains(index) {
        RuleResult::Yes
    } else if drops && note.duplicates.contains(index) {
        RuleResult::Duplicate
    } else if note.sampling.as_ref().is_some_and(is_passed_over) {
        RuleResult::SampledOut
    } else if note.limited.contains(index) {
        RuleResult::Limited
    } else {
        RuleResult::No
    }
}

/// Returns whether a rule's answer may be another where other packets came before.
fn depends_on_packets_before(rule: &RulePlan) -> bool {
    let remembers = |spec: &SampleSpec| !matches!(spec, SampleSpec::Flow { .. } | SampleSpec::Every { .. });
    rule.dedup.is_some() || rule.limit.is_some() || rule.sample.as_ref().is_some_and(remembers)
}

fn targets_of(plan: &Plan, rule: &RulePlan) -> Vec<String> {
    if rule.verdict == Verdict::Drop {
        return vec!["drop".to_owned()];
    }
    let name = |target: &Target| match *target {
        Target::Tool(tool) => plan.tools[tool].name.clone(),
        Target::Group(group) => plan.groups[group].name.clone(),
    };
    rule.targets.iter().map(name).collect()
}

/// Says how a sampler judged a packet that it was offered.
fn sample_of(sampling: &Sampling, spec: &SampleSpec, random_seed: u64, index: usize) -> Option<SamplePart> {
    if !sampling.offered.contains(index) {
        return None;
    }
    let place = u64::from((sampling.offered & Selection::first(index)).count());
    let part = |method: String| SamplePart {
        method,
        share: spec.share(),
        position: None,
        draw: None,
        seed: None,
        kept: sampling.sampled.contains(index),
    };
    let fraction = |number: u64| number as f64 / 2f64.powi(64);
    let of_flow = |seed: u64| sampling.hashes.get(index).map(|&hash| fraction(mix(hash, seed)));
    Some(match sampling.draw {
        Draw::Systematic { one_in, skip } => {
            let (one_in, skip) = (u64::from(one_in.max(1)), u64::from(skip));
            let position = (place + one_in - skip % one_in) % one_in + 1;
            SamplePart { position: Some(position), ..part(format!("1/{one_in}")) }
        }
        Draw::Random { one_in } => {
            SamplePart { seed: Some(random_seed), ..part(format!("random 1/{one_in}")) }
        }
        Draw::Flow { seed, limit } => SamplePart {
            share: Some(fraction(limit)),
            draw: of_flow(seed),
            seed: Some(seed),
            ..part("flow".to_owned())
        },
        Draw::Rate { seed, limit } => {
            SamplePart { share: Some(fraction(limit)), draw: of_flow(seed), ..part("rate".to_owned()) }
        }
        Draw::First => part("first".to_owned()),
        Draw::Every { .. } => part("every".to_owned()),
    })
}

/// Lets the copies leave: they are counted, and `see` is shown each, with the reason why its port does not take it.
pub(super) fn leave(
    decided: Decided<'_>,
    plan: &Plan,
    summary: &mut Summary,
    packets: &[Packet<'_>],
    mut see: impl FnMut(Egress, Option<DropReason>, Leaving<'_>),
) {
    let egresses: Vec<Egress> = plan.egresses().all().map(|(_, egress)| egress).collect();
    decided.leave(|leaving| {
        let reason = leaving.is_misfit.then(|| match leaving.len() {
            len if (len as usize) < ethernet::HEADER_LEN => DropReason::Undersize,
            _ => DropReason::Oversize,
        });
        let egress = egresses[leaving.egress.0];
        summary.count(egress, reason, u64::from(leaving.len()), packets[leaving.packet].number);
        see(egress, reason, leaving);
    });
}

/// Gives the expected copies their bytes as they leave.
pub(super) fn fill(
    expected: &mut [Expected],
    egress: Egress,
    reason: Option<DropReason>,
    mut leaving: Leaving<'_>,
) {
    let is_it = |expected: &&mut Expected| {
        let is_same = match egress {
            Egress::Tool(tool) => expected.tool == Some(tool),
            Egress::Wire(..) => expected.part.is_original,
        };
        is_same && expected.packet == leaving.packet
    };
    let Some(Expected { part, drafted, around, .. }) = expected.iter_mut().find(is_it) else { return };
    part.reason = reason.map(DropReason::word);
    part.wire_len = leaving.wire_len;
    part.bytes = leaving.view(<[u8]>::to_vec);
    part.length = part.bytes.len();
    part.overhead = part.bytes.len() as i64 - drafted.len() as i64;
    part.steps.extend(change(around, drafted, &part.bytes));
}

/// Puts copies to their packets, and gives the answers that fit the question.
pub(super) fn finish(
    answers: Vec<(usize, Answer)>,
    expected: Vec<Expected>,
    question: &Question,
    give: &mut impl FnMut(Answer),
) {
    let mut expected = expected.into_iter().peekable();
    for (index, mut answer) in answers {
        while let Some(copy) = expected.next_if(|expected| expected.packet == index) {
            answer.copies.push(copy.part);
        }
        let fits = match question.outcome {
            Some(Outcome::Sent) => answer.sent().next().is_some(),
            Some(Outcome::Dropped(reason)) => {
                answer.copies.iter().any(|copy| copy.reason == Some(reason.word()))
            }
            Some(Outcome::Disposition(_)) | None => true,
        };
        if fits {
            give(answer);
        }
    }
}
