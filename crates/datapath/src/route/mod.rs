//! Route: rules -> tools. Walks an input's rules in ascending priority over the whole burst at once.
//!
//! Stands between classify and egress; sampling is asked for here, rule by rule, since a rule samples only what reaches it.

/// Groups: which tool of several gets a flow.
pub mod balance;
/// Duplicates of packets.
pub mod dedup;
/// So many packets, then no more.
pub mod limit;
/// Some of the packets.
pub mod sample;

use std::sync::Arc;

use self::balance::{BucketStamp, BucketUse, Slot};
use self::dedup::Dedup;
use self::limit::Limit;
use self::sample::{SampleInputs, Sampler};
use super::classify::Matches;
use super::counters::{Disposition, DropReason, WorkerCounters};
use super::egress::admission::Class;
use super::flow::burst_flows::Flows;
use super::receive::times::Times;
use super::swap::published::Live;
use super::work_plan::{
    DedupAction, EditId, InputPlan, PortId, RuleId, Step, Straight, Target, ToolId, Verdict,
};
use crate::work_plan::WorkPlan;
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// Which packets each tool gets a copy of, and what became of the burst's packets.
#[derive(Default)]
pub struct Copies {
    /// By tool; a tool gets at most one copy of a packet.
    pub tools: Vec<Selection>,
    /// By tool: what rules would send to it if it were up.
    withheld: Vec<Selection>,
    is_any_withheld: bool,
    /// By tool, of its copies those of class high and low; empty where no rule gives a class.
    pub classed: Vec<[Selection; 2]>,
    /// By tool: the edits of the rule that chose the tool first; empty where no rule has any.
    edits: Vec<CopyEdits>,
    /// The duplicates of the rule that adds copies, where it marks them.
    marked: Selection,
    pub delivered: Selection,
    pub excluded: Selection,
    pub sampled_out: Selection,
    pub duplicate: Selection,
}

/// Which of a tool's copies a rule edits, and how.
#[derive(Clone)]
struct CopyEdits {
    edited: Selection,
    /// By packet, valid for those that are edited.
    ids: [EditId; MAX_BURST],
}

impl CopyEdits {
    #[inline]
    fn choose(&mut self, id: Option<EditId>, copies: u64) {
        if let Some(id) = id {
            self.edited.0 |= copies;
            Selection(copies).indices().for_each(|index| self.ids[index] = id);
        }
    }
}

impl Copies {
    pub fn new(plan: &WorkPlan) -> Self {
        let tools = plan.tools;
        Self {
            tools: vec![Selection::NONE; tools],
            withheld: vec![Selection::NONE; tools],
            classed: vec![[Selection::NONE; 2]; if plan.has_classes { tools } else { 0 }],
            edits: if plan.has_edits {
                vec![CopyEdits { edited: Selection::NONE, ids: [EditId(0); MAX_BURST] }; tools]
            } else {
                Vec::new()
            },
            ..Self::default()
        }
    }

    /// A tool's copies by class.
    #[inline]
    pub fn by_class(&self, tool: usize) -> [Selection; 3] {
        let [high, low] = self.classed.get(tool).copied().unwrap_or_default();
        [high, Selection(self.tools[tool].0 & !high.0 & !low.0), low]
    }

    /// A tool's copies that a rule edits.
    #[inline]
    pub fn edited(&self, tool: usize) -> Selection {
        self.edits.get(tool).map_or(Selection::NONE, |edits| Selection(edits.edited.0 & self.tools[tool].0))
    }

    /// How a rule edits a tool's copy of packet `index` (0..64).
    #[inline]
    pub fn edits_of(&self, tool: usize, index: usize) -> Option<EditId> {
        self.edits.get(tool).filter(|edits| edits.edited.0 >> index & 1 == 1).map(|edits| edits.ids[index])
    }

    /// Takes copies from a tool that cannot be made. The caller counts them.
    #[cold]
    pub fn take_back(&mut self, tool: usize, selection: Selection) {
        self.tools[tool].0 &= !selection.0;
        if let Some(classed) = self.classed.get_mut(tool) {
            classed.iter_mut().for_each(|class| class.0 &= !selection.0);
        }
    }

    /// Adds copies for a tool. A packet that the tool has a copy of already keeps the class and the edits that it has.
    #[inline(always)]
    fn add(&mut self, tool: usize, selection: u64, step: &Step) {
        let added = selection & !self.tools[tool].0;
        self.tools[tool].0 |= added;
        if let Some(edits) = self.edits.get_mut(tool) {
            let marked = added & self.marked.0;
            edits.choose(step.edits, added & !marked);
            edits.choose(step.duplicate_edits, marked);
        }
        match step.class {
            Class::Normal => {}
            Class::High => self.classed[tool][0].0 |= added,
            Class::Low => self.classed[tool][1].0 |= added,
        }
    }

    /// Nothing but the original's way over a wire, which comes before any copy and whatever the rules say. Where that side has no
    /// link it ends here.
    pub fn begin(&mut self, input: &InputPlan, all: Selection, live: &Live, counters: &WorkerCounters) {
        self.clear();
        match input.wire {
            Some(ToolId(way)) if live.tools_up[way] => self.tools[way] = all,
            Some(ToolId(way)) => {
                let count = u64::from(all.count());
                counters.tools[way].requested.add(count);
                counters.tools[way].drop_copies(DropReason::Down, count);
            }
            None => {}
        }
    }

    /// Forgets what an unwound stage left.
    #[cold]
    pub fn reset(&mut self) {
        self.clear();
        self.withheld.fill(Selection::NONE);
        self.is_any_withheld = false;
    }

    fn clear(&mut self) {
        self.tools.fill(Selection::NONE);
        self.classed.fill([Selection::NONE; 2]);
        self.edits.iter_mut().for_each(|edits| edits.edited = Selection::NONE);
        (self.delivered, self.excluded) = (Selection::NONE, Selection::NONE);
        (self.sampled_out, self.duplicate) = (Selection::NONE, Selection::NONE);
    }
}

/// What a worker remembers for a rule.
#[derive(Default)]
pub struct RuleState {
    pub dedup: Option<Dedup>,
    pub sampler: Option<Sampler>,
    /// Shared with the other workers.
    pub limit: Option<Arc<Limit>>,
}

/// What rules may ask of the burst. Empty, and zero, where no rule of the input does.
pub struct BurstFacts<'a> {
    /// A bit for each packet.
    pub all: Selection,
    pub frames: &'a [Frame<'a>],
    pub flows: &'a mut Flows,
    pub lens: &'a [u32],
    /// The port that received it.
    pub port: PortId,
    pub times: Times<'a>,
    pub live: &'a Live,
    /// By group: where the use of buckets is noted.
    pub uses: &'a [Arc<BucketUse>],
}

/// Gives each tool its selection: `matches` is what each step of the input matched, `states` are the worker's own, by rule.
#[expect(clippy::too_many_arguments, reason = "hot path: the caller holds them apart")]
#[inline]
pub fn route(
    plan: &WorkPlan,
    input: &InputPlan,
    matches: &mut Matches,
    facts: &mut BurstFacts<'_>,
    states: &mut [RuleState],
    copies: &mut Copies,
    counters: &WorkerCounters,
) {
    copies.begin(input, facts.all, facts.live, counters);
    let mut open = facts.all.0;
    matches.drain(|step, selection| {
        fault::panics("rule");
        let step = &input.steps[step];
        let mut matched = selection.0 & open;
        if matched == 0 || step.is_scheduled && !facts.live.rules_on[step.rule.0] {
            return;
        }
        let RuleState { dedup, sampler, limit } = &mut states[step.rule.0];
        let limit = limit.as_deref().filter(|_| step.is_limited);
        if limit.is_some_and(|limit| limit.remaining() == 0) {
            return;
        }
        let rule = &counters.rules[step.rule.0];
        let mut kept = Selection(matched);
        copies.marked = Selection::NONE;
        if let Some(compared) = &step.dedup
            && let Some(dedup) = dedup
        {
            let shared;
            let times = match facts.times.shared() {
                Some(now_ns) => {
                    shared = [now_ns; MAX_BURST];
                    &shared[..]
                }
                None => facts.times.own(),
            };
            let duplicates = dedup.duplicates(kept, facts.frames, &[compared.port; MAX_BURST], times);
            rule.duplicates.add(u64::from(duplicates.count()));
            match compared.action {
                DedupAction::Drop => {
                    kept.0 &= !duplicates.0;
                    copies.duplicate.0 |= duplicates.0;
                }
                DedupAction::Count => {}
                DedupAction::Tag => copies.marked = duplicates,
            }
        }
        if step.is_sampled
            && let Some(sampler) = sampler
        {
            let original = kept.0;
            let hashes =
                step.sample_hash.and_then(|hash| facts.flows.hashes(hash, kept, facts.frames).all_of(kept));
            let hashes = hashes.map_or(&[][..], |hashes| &hashes[..]);
            kept = sampler.sample(kept, &SampleInputs { hashes, lens: facts.lens, times: facts.times });
            sampler.report(&rule.sampler);
            let passed_over = original & !kept.0;
            rule.sampled_out.add(u64::from(passed_over.count_ones()));
            copies.sampled_out.0 |= passed_over;
        }
        if let Some(limit) = limit {
            // what is beyond the limit passes a rule that is off
            let allowed = limit.take(kept);
            matched &= !(kept.0 & !allowed.0);
            kept = allowed;
        }
        rule.matched.add(u64::from(matched.count_ones()));
        match step.verdict {
            Verdict::Drop => {
                copies.excluded.0 |= kept.0;
                open &= !kept.0;
            }
            Verdict::Final => {
                deliver(plan, step, kept, facts, copies, counters);
                open &= !matched;
            }
            Verdict::Continue => deliver(plan, step, kept, facts, copies, counters),
        }
    });
    if copies.is_any_withheld {
        withhold(copies, counters);
    }
}

#[inline]
fn deliver(
    plan: &WorkPlan,
    step: &Step,
    kept: Selection,
    facts: &mut BurstFacts<'_>,
    copies: &mut Copies,
    counters: &WorkerCounters,
) {
    copies.delivered.0 |= kept.0;
    for target in &step.targets {
        match *target {
            Target::Tool(ToolId(tool)) if facts.live.tools_up[tool] => copies.add(tool, kept.0, step),
            Target::Tool(ToolId(tool)) => {
                copies.withheld[tool].0 |= kept.0;
                copies.is_any_withheld = true;
            }
            Target::Group(id) => {
                let group = &plan.groups[id.0];
                let table = facts.live.tables[id.0].open();
                let members = &group.members[..];
                let uses = &*facts.uses[id.0];
                let sketch = uses.flows.open();
                let counted = &counters.groups[id.0];
                // counted once all are placed: what unwinds before has asked the group for nothing
                let (mut assigned, mut discarded, mut down) = (0, 0, 0);
                let (times, port) = (facts.times, facts.port);
                let hashes = facts.flows.hashes_each(group.hash, kept, facts.frames, |hash| {
                    let (bucket, _) = table.place(hash);
                    sketch.load_ahead(bucket);
                    table.load_ahead(bucket);
                });
                if let Some(stamps) = &uses.stamps {
                    let shared = times.shared().map(|ns| BucketStamp::new(ns, port));
                    for (index, &hash) in hashes.of(kept) {
                        stamps.touch(
                            table.place(hash).0,
                            shared.unwrap_or_else(|| BucketStamp::new(times.of(index), port)),
                        );
                    }
                }
                let mut tool_of = |index: usize, hash: u64| {
                    fault::panics_on_packet("route", index);
                    let (bucket, bit) = table.place(hash);
                    sketch.note(bucket, bit);
                    let slot = table.slot(bucket);
                    if let Some(member) = slot.member() {
                        assigned += 1;
                        return Some(members[member].0);
                    }
                    *if slot == Slot::DISCARD { &mut discarded } else { &mut down } += 1;
                    None
                };
                let is_plain = copies.edits.is_empty() && step.class == Class::Normal;
                if is_plain {
                    let tools = &mut copies.tools[..];
                    hashes.of(kept).for_each(|(index, &hash)| {
                        if let Some(tool) = tool_of(index, hash) {
                            tools[tool].0 |= 1 << index;
                        }
                    });
                } else {
                    hashes.of(kept).for_each(|(index, &hash)| {
                        if let Some(tool) = tool_of(index, hash) {
                            copies.add(tool, 1 << index, step);
                        }
                    });
                }
                counted.requested.add(u64::from(kept.count()));
                counted.assigned.add(assigned);
                if assigned < u64::from(kept.count()) {
                    counted.discarded.add(discarded);
                    counted.down.add(down);
                }
            }
        }
    }
}

/// Counts what tools that are not up would have got. A copy that a group gives a draining tool is not withheld.
#[cold]
fn withhold(copies: &mut Copies, counters: &WorkerCounters) {
    for ((withheld, copies), tool) in copies.withheld.iter_mut().zip(&copies.tools).zip(&counters.tools) {
        let count = u64::from((withheld.0 & !copies.0).count_ones());
        if count > 0 {
            tool.requested.add(count);
            tool.drop_copies(DropReason::Down, count);
        }
        *withheld = Selection::NONE;
    }
    copies.is_any_withheld = false;
}

/// What [`route`] and [`settle`] come to for packets that all go the same way, and what their tools are asked for.
#[inline(always)]
pub fn settle_straight(straight: &Straight, packets: usize, counters: &WorkerCounters) {
    for &RuleId(rule) in &straight.rules {
        counters.rules[rule].matched.add(packets as u64);
    }
    for &ToolId(tool) in &straight.tools {
        counters.tools[tool].requested.add(packets as u64);
    }
    let disposition =
        if straight.rules.is_empty() { Disposition::Unmatched } else { Disposition::Delivered };
    counters.settle(disposition, packets as u64);
}

/// Counts one disposition for each packet of the burst. A packet that several fit is, in this order, delivered, excluded, sampled
/// out, duplicate; what no rule took is unmatched.
#[inline]
pub fn settle(copies: &Copies, all: Selection, counters: &WorkerCounters) {
    fault::panics("settle");
    let mut rest = all.0;
    for (disposition, selection) in [
        (Disposition::Delivered, copies.delivered),
        (Disposition::Excluded, copies.excluded),
        (Disposition::SampledOut, copies.sampled_out),
        (Disposition::Duplicate, copies.duplicate),
        (Disposition::Unmatched, Selection(u64::MAX)),
    ] {
        let settled = rest & selection.0;
        if settled != 0 {
            counters.settle(disposition, u64::from(settled.count_ones()));
            rest &= !settled;
        }
    }
    debug_assert!(rest == 0 && MAX_BURST == 64);
}
