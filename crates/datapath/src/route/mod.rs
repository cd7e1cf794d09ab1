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

use self::balance::{BucketStamp, Slot};
use self::dedup::Dedup;
use self::limit::Limit;
use self::sample::{SampleInputs, Sampler};
use super::classify::Matches;
use super::counters::{RuleCounters, WorkerCounters};
use super::ids::{EditId, EgressId, GroupId, HashId, RuleId, RuleMark, ToolId};
use super::swap::published::Live;
use super::work_plan::{InputPlan, Step, StepDedup, Straight, Target, Verdict, WorkPlan};
use crate::burst_view::BurstView;
use crate::witness::{Decision, Witness};
use tapline_api::words::{Class, DedupAction, Disposition, DropReason, Unread};
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::by_id::ById;
use tapline_packet::layers::Layers;

/// Which packets leave by each egress, and what became of the burst's packets.
#[derive(Default)]
pub struct Copies {
    /// A tool gets at most one copy of a packet.
    pub egresses: ById<EgressId, Selection>,
    /// The packets that rules would send to a tool if it were up.
    withheld: ById<ToolId, Selection>,
    is_any_withheld: bool,
    /// The copies of class high and of class low for each egress; empty if no rule gives a class.
    pub classed: ById<EgressId, [Selection; 2]>,
    /// The edits of the rule that chose the tool first; empty where no rule has any.
    edits: ById<ToolId, CopyEdits>,
    /// The rules that chose the copies of stores first; empty where there is no store.
    chosen: ById<ToolId, Option<Box<[RuleMark; MAX_BURST]>>>,
    /// The duplicates of the rule that adds copies, where it marks them.
    marked: Selection,
    /// Copies that a tool does not get since they cannot be read; empty where nobody anonymises.
    unread: ById<ToolId, Selection>,
    is_any_unread: bool,
    /// The burst's packets that cannot be read, by the depth to which they are to be.
    unread_at: [Selection; 2],
    pub delivered: Selection,
    pub excluded: Selection,
    pub sampled_out: Selection,
    pub duplicate: Selection,
}

/// Adds copies by a plan, and counts them.
struct Deliverer<'a> {
    plan: &'a WorkPlan,
    counters: &'a WorkerCounters,
}

/// Which of a tool's copies a rule edits, and how.
#[derive(Clone)]
struct CopyEdits {
    edited: Selection,
    /// The edits of each packet; valid for those that are edited.
    ids: [EditId; MAX_BURST],
}

impl CopyEdits {
    #[inline]
    fn choose(&mut self, id: Option<EditId>, copies: Selection) {
        if let Some(id) = id {
            self.edited |= copies;
            copies.indices().for_each(|index| self.ids[index] = id);
        }
    }
}

impl Copies {
    pub fn new(plan: &WorkPlan) -> Self {
        let (egresses, tools) = (plan.egresses.count(), plan.egresses.tool_count());
        Self {
            egresses: ById::filled(egresses, Selection::NONE),
            withheld: ById::filled(tools, Selection::NONE),
            classed: ById::filled(if plan.has_classes { egresses } else { 0 }, [Selection::NONE; 2]),
            unread: ById::filled(plan.anonymized.len(), Selection::NONE),
            chosen: plan
                .stores
                .iter()
                .map(|is_store| is_store.then(|| Box::new([RuleMark(0); MAX_BURST])))
                .collect(),
            edits: if plan.has_edits {
                ById::filled(tools, CopyEdits { edited: Selection::NONE, ids: [EditId(0); MAX_BURST] })
            } else {
                ById::default()
            },
            ..Self::default()
        }
    }

    /// An egress's copies by class; originals have none.
    #[inline]
    pub fn by_class(&self, id: EgressId) -> [Selection; 3] {
        let [high, low] = self.classed.get(id).copied().unwrap_or_default();
        [high, self.egresses[id] - high - low, low]
    }

    /// A tool's copies that a rule edits.
    #[inline]
    pub fn edited(&self, tool: ToolId) -> Selection {
        self.edits.get(tool).map_or(Selection::NONE, |edits| edits.edited & self.egresses[tool.egress()])
    }

    /// How a rule edits a tool's copy of packet `index` (0..64).
    #[inline]
    pub fn edits_of(&self, tool: ToolId, index: usize) -> Option<EditId> {
        self.edits.get(tool).filter(|edits| edits.edited.contains(index)).map(|edits| edits.ids[index])
    }

    /// The rules that chose the copies of a store, by packet; valid for those that it has.
    #[inline]
    pub fn chosen(&self, egress: EgressId) -> Option<&[RuleMark; MAX_BURST]> {
        // tools come first among egresses
        self.chosen.get(ToolId(egress.0))?.as_deref()
    }

    /// Takes copies from a tool that cannot be made. The caller counts them.
    #[cold]
    pub fn take_back(&mut self, tool: ToolId, selection: Selection) {
        let id = tool.egress();
        self.egresses[id] -= selection;
        if let Some(classed) = self.classed.get_mut(id) {
            classed.iter_mut().for_each(|class| *class -= selection);
        }
    }

    /// Adds copies for a tool. A packet that the tool has a copy of already keeps the class and the edits that it has.
    #[inline(always)]
    fn add(&mut self, tool: ToolId, selection: Selection, step: &Step, by: &Deliverer<'_>) {
        let id = tool.egress();
        let added = selection - self.egresses[id];
        if let Some(of_tool) = by.plan.anonymized.get(tool)
            && let Some(depth) = (*of_tool).max(step.anonymized)
        {
            self.keep_unread(tool, added & self.unread_at[depth as usize], step, by);
        }
        self.egresses[id] |= added;
        if let Some(Some(chosen)) = self.chosen.get_mut(tool) {
            added.indices().for_each(|index| chosen[index] = step.mark);
        }
        if let Some(edits) = self.edits.get_mut(tool) {
            let marked = added & self.marked;
            edits.choose(step.edits, added - marked);
            edits.choose(step.duplicate_edits, marked);
        }
        match step.class {
            Class::Normal => {}
            Class::High => self.classed[id][0] |= added,
            Class::Low => self.classed[id][1] |= added,
        }
    }

    /// Counts copies that are to be anonymised and cannot be read, and keeps them from the tool, if the rule says no other.
    #[inline(never)]
    fn keep_unread(&mut self, tool: ToolId, unread: Selection, step: &Step, by: &Deliverer<'_>) {
        if unread.is_empty() {
            return;
        }
        by.counters.rules[step.rule].unread.add(u64::from(unread.count()));
        if step.unread == Unread::Drop {
            self.unread[tool] |= unread;
            self.is_any_unread = true;
        }
    }

    /// Begins a burst: forgets the last one's copies, and sends originals over a wire, which comes before any copy and whatever the
    /// rules say. Originals for a side that has no link end here.
    pub fn begin(&mut self, input: &InputPlan, all: Selection, live: &Live, counters: &WorkerCounters) {
        self.clear();
        match input.wire {
            Some(way) if live.egress_up[way] => self.egresses[way] = all,
            Some(way) => {
                counters.egresses[way].end_early(DropReason::Down, u64::from(all.count()));
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
        self.unread.fill(Selection::NONE);
        self.is_any_unread = false;
    }

    fn clear(&mut self) {
        self.egresses.fill(Selection::NONE);
        self.classed.fill([Selection::NONE; 2]);
        self.edits.iter_mut().for_each(|edits| edits.edited = Selection::NONE);
        (self.delivered, self.excluded) = (Selection::NONE, Selection::NONE);
        (self.sampled_out, self.duplicate) = (Selection::NONE, Selection::NONE);
    }
}

/// The state that a worker keeps for a rule.
#[derive(Default)]
pub struct RuleState {
    pub dedup: Option<Dedup>,
    pub sampler: Option<Sampler>,
    /// Shared with the other workers.
    pub limit: Option<Arc<Limit>>,
}

/// Gives each tool its selection: `matches` is what each step of the input matched, `states` are the worker's own, by rule.
/// `witness` is told what is decided.
#[inline]
pub fn route<W: Witness>(
    input: &InputPlan,
    matches: &mut Matches,
    view: &mut BurstView<'_>,
    states: &mut ById<RuleId, RuleState>,
    copies: &mut Copies,
    witness: &mut W,
) {
    copies.begin(input, view.all, view.live, view.counters);
    if input.anonymizes {
        copies.unread_at = unread(view);
    }
    let mut open = view.all;
    matches.drain(|place, selection| {
        fault::panics("rule");
        let step = &input.steps[place];
        let mut matched = selection & open;
        if matched.is_empty() || step.is_scheduled && !view.live.rules_on[step.rule] {
            return;
        }
        let RuleState { dedup, sampler, limit } = &mut states[step.rule];
        let limit = limit.as_deref().filter(|_| step.is_limited);
        if limit.is_some_and(|limit| limit.remaining() == 0) {
            witness.limited(place, matched);
            return;
        }
        let rule = &view.counters.rules[step.rule];
        let mut kept = matched;
        copies.marked = Selection::NONE;
        if let Some(compared) = &step.dedup
            && let Some(dedup) = dedup
        {
            kept = compare(compared, dedup, kept, view, copies, rule);
            witness.compared(place, (matched - kept) | copies.marked);
        }
        if step.is_sampled
            && let Some(sampler) = sampler
        {
            witness.samples(place, sampler, kept);
            let sampled = sample(step.sample_hash, sampler, kept, view, witness);
            witness.sampled(place, sampled);
            sampler.report(&rule.sampler);
            let passed_over = kept - sampled;
            rule.sampled_out.add(u64::from(passed_over.count()));
            copies.sampled_out |= passed_over;
            kept = sampled;
        }
        if let Some(limit) = limit {
            // what is beyond the limit passes a rule that is off
            let allowed = limit.take(kept);
            matched -= kept - allowed;
            witness.limited(place, kept - allowed);
            kept = allowed;
        }
        witness.decided(place, &Decision { matched, kept });
        rule.matched.add(u64::from(matched.count()));
        match step.verdict {
            Verdict::Drop => {
                copies.excluded |= kept;
                open -= kept;
            }
            Verdict::Final => {
                deliver(step, kept, view, copies, witness);
                open -= matched;
            }
            Verdict::Continue => deliver(step, kept, view, copies, witness),
        }
    });
    if copies.is_any_withheld {
        withhold(copies, view.counters, witness);
    }
    if copies.is_any_unread {
        drop_unread(copies, view.counters, witness);
    }
}

/// Finds the packets that cannot be read, by the depth to which they would have to be.
#[inline(never)]
fn unread(view: &mut BurstView<'_>) -> [Selection; 2] {
    let layers = view.flows.layers(view.all, view.frames);
    let is_outer_unread = |index: usize, layers: &Layers| {
        Selection::only_if(index, layers.is_outer_unparsed(view.frames[index].bytes()))
    };
    let outer = layers
        .of(view.all)
        .fold(Selection::NONE, |found, (index, layers)| found | is_outer_unread(index, layers));
    [outer, view.flows.unparsed()]
}

/// Finds the duplicates among `kept`, counts or marks them as the rule says, and gives the packets that go on.
#[inline(always)]
fn compare(
    compared: &StepDedup,
    dedup: &mut Dedup,
    kept: Selection,
    view: &BurstView<'_>,
    copies: &mut Copies,
    rule: &RuleCounters,
) -> Selection {
    let shared;
    let times = match view.times.shared() {
        Some(now_ns) => {
            shared = [now_ns; MAX_BURST];
            &shared[..]
        }
        None => view.times.own(),
    };
    let duplicates = dedup.duplicates(kept, view.frames, &[compared.port; MAX_BURST], times);
    rule.duplicates.add(u64::from(duplicates.count()));
    match compared.action {
        DedupAction::Drop => {
            copies.duplicate |= duplicates;
            return kept - duplicates;
        }
        DedupAction::Count => {}
        DedupAction::Tag => copies.marked = duplicates,
    }
    kept
}

/// Gives those of `kept` that the rule's sampler keeps.
#[inline(always)]
fn sample<W: Witness>(
    hash: Option<HashId>,
    sampler: &mut Sampler,
    kept: Selection,
    view: &mut BurstView<'_>,
    witness: &mut W,
) -> Selection {
    let hashes = hash.and_then(|hash| view.flows.hashes(hash, kept, view.frames).all_of(kept));
    let hashes = hashes.map_or(&[][..], |hashes| &hashes[..]);
    witness.hashed(hashes);
    sampler.sample(kept, &SampleInputs { hashes, lens: view.lens, times: view.times })
}

/// Adds copies of `kept` for the rule's tools and groups.
#[inline]
fn deliver<W: Witness>(
    step: &Step,
    kept: Selection,
    view: &mut BurstView<'_>,
    copies: &mut Copies,
    witness: &mut W,
) {
    copies.delivered |= kept;
    for target in &step.targets {
        match *target {
            Target::Tool(tool) if view.live.egress_up[tool.egress()] => {
                copies.add(tool, kept, step, &Deliverer { plan: view.plan, counters: view.counters });
            }
            Target::Tool(tool) => {
                copies.withheld[tool] |= kept;
                copies.is_any_withheld = true;
            }
            Target::Group(id) => deliver_to_group(id, step, kept, view, copies, witness),
        }
    }
}

/// Adds copies of `kept` for the tools that a group gives them.
#[inline(always)]
fn deliver_to_group<W: Witness>(
    id: GroupId,
    step: &Step,
    kept: Selection,
    view: &mut BurstView<'_>,
    copies: &mut Copies,
    witness: &mut W,
) {
    let group = &view.plan.groups[id];
    let table = view.live.tables[id].open();
    let members = &group.members[..];
    let uses = &*view.uses[id];
    let sketch = uses.flows.open();
    let counted = &view.counters.groups[id];
    // counted once all are placed: what unwinds before has asked the group for nothing
    let (mut assigned, mut discarded, mut down) = (0, 0, 0);
    let (times, port) = (view.times, view.port);
    let hashes = view.flows.hashes_each(group.hash, kept, view.frames, |hash| {
        let (bucket, _) = table.place(hash);
        sketch.load_ahead(bucket);
        table.load_ahead(bucket);
    });
    if let Some(stamps) = &uses.stamps {
        let shared = times.shared().map(|ns| BucketStamp::new(ns, port));
        for (index, &hash) in hashes.of(kept) {
            let stamp = shared.unwrap_or_else(|| BucketStamp::new(times.of(index), port));
            stamps.touch(table.place(hash).0, stamp);
        }
    }
    let mut tool_of = |index: usize, hash: u64| {
        fault::panics_on_packet("route", index);
        let (bucket, bit) = table.place(hash);
        sketch.note(bucket, bit);
        let slot = table.slot(bucket);
        witness.placed(id, index, hash, bucket, slot);
        if let Some(member) = slot.member() {
            assigned += 1;
            return Some(members[member]);
        }
        *if slot == Slot::DISCARD { &mut discarded } else { &mut down } += 1;
        None
    };
    let is_plain = copies.edits.is_empty() && copies.unread.is_empty() && step.class == Class::Normal;
    let by = Deliverer { plan: view.plan, counters: view.counters };
    if is_plain {
        let egresses = &mut copies.egresses;
        hashes.of(kept).for_each(|(index, &hash)| {
            if let Some(tool) = tool_of(index, hash) {
                egresses[tool.egress()].insert(index);
            }
        });
    } else {
        hashes.of(kept).for_each(|(index, &hash)| {
            if let Some(tool) = tool_of(index, hash) {
                copies.add(tool, Selection::only(index), step, &by);
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

/// Drops the copies that were to be anonymised and cannot be read.
#[cold]
fn drop_unread<W: Witness>(copies: &mut Copies, counters: &WorkerCounters, witness: &mut W) {
    for tool in copies.unread.ids() {
        let unread = std::mem::replace(&mut copies.unread[tool], Selection::NONE);
        if !unread.is_empty() {
            counters.egresses[tool.egress()].end_early(DropReason::Unread, u64::from(unread.count()));
            witness.dropped(tool, DropReason::Unread, unread);
            copies.take_back(tool, unread);
        }
    }
    copies.is_any_unread = false;
}

/// Counts what tools that are not up would have got. A copy that a group gives a draining tool is not withheld.
#[cold]
fn withhold<W: Witness>(copies: &mut Copies, counters: &WorkerCounters, witness: &mut W) {
    for (tool, withheld) in copies.withheld.entries_mut() {
        let id = tool.egress();
        let down = *withheld - copies.egresses[id];
        if !down.is_empty() {
            witness.dropped(tool, DropReason::Down, down);
            counters.egresses[id].end_early(DropReason::Down, u64::from(down.count()));
        }
        *withheld = Selection::NONE;
    }
    copies.is_any_withheld = false;
}

/// Does what [`route`] and [`settle`] come to for packets that all go the same way, and counts the copies that their tools are
/// asked for.
#[inline(always)]
pub fn settle_straight(straight: &Straight, packets: usize, counters: &WorkerCounters) {
    for &rule in &straight.rules {
        counters.rules[rule].matched.add(packets as u64);
    }
    for &id in &straight.egresses {
        counters.egresses[id].requested.add(packets as u64);
    }
    let disposition =
        if straight.rules.is_empty() { Disposition::Unmatched } else { Disposition::Delivered };
    counters.settle(disposition, packets as u64);
}

/// Counts one disposition for each packet of the burst. A packet that several fit is, in this order, delivered, excluded, sampled
/// out, duplicate; what no rule took is unmatched.
#[inline]
pub fn settle<W: Witness>(copies: &Copies, all: Selection, counters: &WorkerCounters, witness: &mut W) {
    fault::panics("settle");
    let mut rest = all;
    for (disposition, selection) in [
        (Disposition::Delivered, copies.delivered),
        (Disposition::Excluded, copies.excluded),
        (Disposition::SampledOut, copies.sampled_out),
        (Disposition::Duplicate, copies.duplicate),
        (Disposition::Unmatched, Selection::ALL),
    ] {
        let settled = rest & selection;
        if !settled.is_empty() {
            witness.settled(disposition, settled);
            counters.settle(disposition, u64::from(settled.count()));
            rest -= settled;
        }
    }
    debug_assert!(rest.is_empty());
}
