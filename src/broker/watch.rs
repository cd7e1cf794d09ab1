//! The watch over a running plan: schedules, tool health and groups, judged by the control thread and published to the workers.
//!
//! `look` is called every few milliseconds. It reads links and counters, feeds each tool's `Health`, brings the groups' tables up
//! to date, asks the schedules, and publishes a `Live` if anything came out differently.

use std::sync::Arc;
use tapline_api::event::Event;
use tapline_api::values::{Rate, seconds};
use tapline_api::words::{LinkState, Reason, ToolState};
use tapline_packet::by_id::ById;

use super::account::tool_counters;
use super::kept::Kept;
use crate::health::tool::{Health, Observation, StateChange};
use crate::plan::Plan;
use crate::plan::schedule::Activity;
use crate::plan::value::{CopyPlan, GroupPlan, NextHopPlan, Output, RulePlan, ToolPlan};
use crate::report::events::{Events, Moment};
use crate::report::snapshot::WatchState;
use crate::report::snapshot::group::GroupHealth;
use tapline_api::snapshot::{RuleActivity, ToolHealth};
use tapline_datapath::counters::{WorkerCounters, WriterCounters};
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::egress::token_bucket::BucketSpec;
use tapline_datapath::egresses::Egress;
use tapline_datapath::flow::sketch::FlowSketch;
use tapline_datapath::ids::{GroupId, PortId, RuleId, ToolId};
use tapline_datapath::receive::times::PacketClock;
use tapline_datapath::route::balance::{
    BucketStamps, BucketUse, Group, MemberState, Movement, Returns, Slot,
};
use tapline_datapath::route::limit::Limit;
use tapline_datapath::swap::published::{Live, LiveCell};
use tapline_datapath::work_plan::{GroupWork, Straight};
use tapline_packet::headers::ethernet::MacAddress;

/// How often links and counters are read.
const HEALTH_PERIOD_NS: u64 = 10_000_000;

/// The control thread's knowledge of a running plan beyond its counters.
pub struct Watch {
    plan: Arc<Plan>,
    cell: Arc<LiveCell>,
    /// The time at which each rule came into force, in ns since the Unix epoch.
    since_ns: ById<RuleId, u64>,
    looked_ns: u64,
    activities: ById<RuleId, Activity>,
    /// The limit of each rule, if it has one.
    limits: ById<RuleId, Option<Arc<Limit>>>,
    /// The link of each port, as of the last look; `None` for a replay.
    links: ById<PortId, Option<LinkState>>,
    tools: ById<ToolId, WatchedTool>,
    groups: ById<GroupId, WatchedGroup>,
    /// The next hop of each tool, once it is known.
    next_hops: ById<ToolId, Option<MacAddress>>,
    /// The frames that each port takes, if it does not take all.
    fits: ById<PortId, Option<FrameLimits>>,
    /// Each egress that leaves has two answers: whether it was up, and whether it could send.
    leaving: Vec<(bool, bool)>,
    workers: usize,
}

/// This is what a change of the plan made of the watch.
pub(super) struct Turned {
    /// Workers that have the plan before read from here.
    pub cell: Arc<LiveCell>,
    pub moved: Vec<Moved>,
    /// Groups whose workers note elsewhere which buckets they use: the id before, and the id in the plan.
    pub noted: Vec<(GroupId, GroupId)>,
}

/// This is what moved in a group whose members or weights changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    pub group: String,
    pub buckets: u64,
    pub of: u64,
    /// About so many flows.
    pub flows: u64,
    /// Buckets that wait to be idle.
    pub pending: u64,
}

/// Makes the notes of each worker on the buckets of a group that it uses.
fn bucket_uses(count: usize, is_stamped: bool, workers: usize, now_ns: u64) -> Vec<Arc<BucketUse>> {
    let uses = (0..workers).map(|_| {
        let stamps = is_stamped.then(|| BucketStamps::new(count));
        Arc::new(BucketUse { stamps, flows: FlowSketch::new(count, now_ns) })
    });
    uses.collect()
}

/// The states of a group's members.
fn members(tools: &ById<ToolId, WatchedTool>, group: &GroupWork) -> Vec<MemberState> {
    group.members.iter().map(|&tool| tools[tool].health.member_state()).collect()
}

#[derive(Clone)]
struct WatchedTool {
    health: Health,
    port: Option<PortId>,
    /// Copies sent, and writes that a capture's file took, as of the last look.
    accepted: u64,
    reason: Option<Reason>,
    changed_ns: u64,
}

impl WatchedTool {
    fn new(tool: &ToolPlan, plan: &Plan, links: &ById<PortId, Option<LinkState>>, now_ns: u64) -> Self {
        let port = match tool.output {
            Output::Port(port) => Some(port),
            Output::Capture | Output::Discard => None,
        };
        let is_up = port.is_none_or(|port| has_link(plan, links, port));
        let mut spec = tool.health;
        // a queue that waits for its rate is not stuck
        spec.stall_ns = spec.stall_ns.saturating_add(tool.shaping.map_or(0, longest_wait_ns));
        // nor is one that holds copies on purpose
        spec.stall_ns = spec.stall_ns.saturating_add(tool.order_ns.unwrap_or(0).saturating_mul(2));
        let mut health = Health::new(spec, is_up);
        if tool.is_drained {
            health.observe(Observation::Drain, now_ns);
            health.observe(Observation::Emptied, now_ns);
        }
        let reason = match (tool.is_drained, is_up) {
            (true, _) => Some(Reason::Drain),
            (false, false) => Some(Reason::LinkDown),
            (false, true) => spec.needs_next_hop.then_some(Reason::Unresolved),
        };
        Self { health, port, accepted: 0, reason, changed_ns: now_ns }
    }
}

struct WatchedGroup {
    group: Group,
    /// The notes of each worker about the buckets that it used.
    uses: Vec<Arc<BucketUse>>,
    /// For flows that return when idle: how far the packets of each port have come in time.
    clocks: ById<PortId, PacketClock>,
    buckets_moved: u64,
    flows_moved: u64,
    buckets_pending: usize,
    /// The part of that which the log was told, and the time of that.
    told: (u64, u64, u64),
}

/// Buckets that return one by one as they become idle are told of once in this time.
const TELL_EVERY_NS: u64 = 1_000_000_000;

impl WatchedGroup {
    fn new(group: &GroupWork, plan: &Plan, workers: usize, now_ns: u64) -> Self {
        let made = Group::new(group.spec.clone()).expect("the planner made the same group");
        let bucket_count = made.table().bucket_count();
        let is_stamped = group.spec.returns != Returns::AtOnce;
        Self {
            group: made,
            uses: bucket_uses(bucket_count, is_stamped, workers, now_ns),
            clocks: ById::filled(plan.ports.len(), PacketClock::default()),
            buckets_moved: 0,
            flows_moved: 0,
            buckets_pending: 0,
            told: (0, 0, 0),
        }
    }

    /// Takes other members or weights: `from` has for each member the place that it had. Gives what moved.
    fn change(
        &mut self,
        work: &GroupWork,
        from: &[Option<usize>],
        states: &[MemberState],
        now_ns: u64,
    ) -> Moved {
        let made =
            Group::after(work.spec.clone(), &self.group, from).expect("the planner made such a group");
        let before = std::mem::replace(&mut self.group, made);
        let (count, known) = (self.group.table().bucket_count(), before.table().bucket_count());
        // where buckets became several, or all were shared out anew
        let place_before = |bucket: usize| bucket * known / count;
        let movement = self.move_buckets(states, place_before, now_ns);
        let member_before = |slot: Slot| slot.member().map(|member| from[member]);
        let (slots, before) = (self.group.table().slots(), before.table().slots());
        let is_moved = |bucket: &usize| match (member_before(slots[*bucket]), before[place_before(*bucket)])
        {
            (Some(member), before) => member.is_none() || member != before.member(),
            (None, before) => before != slots[*bucket],
        };
        let mut buckets: Vec<usize> = (0..count).filter(is_moved).collect();
        let moved = buckets.len() as u64;
        buckets.iter_mut().for_each(|bucket| *bucket = place_before(*bucket));
        buckets.dedup();
        let flows = self.flows(buckets.into_iter());
        self.buckets_moved += moved;
        self.flows_moved += flows;
        Moved {
            group: String::new(),
            buckets: moved,
            of: count as u64,
            flows,
            pending: movement.buckets_pending as u64,
        }
    }

    /// Brings the table up to date; `noted` is where a bucket is noted.
    fn move_buckets(
        &mut self,
        states: &[MemberState],
        noted: impl Fn(usize) -> usize,
        now_ns: u64,
    ) -> Movement {
        let idle_ns = match self.group.spec().returns {
            Returns::AtOnce => 0,
            Returns::WhenIdle { idle_ns } => idle_ns,
        };
        let (uses, clocks) = (&self.uses, &self.clocks);
        let now_of = |port: PortId| clocks[port].at(now_ns);
        let is_idle = |bucket| {
            let bucket = noted(bucket);
            uses.iter()
                .filter_map(|uses| uses.stamps.as_ref())
                .all(|stamps| stamps.is_idle(bucket, now_of, idle_ns))
        };
        let movement = self.group.update(states, is_idle);
        self.buckets_pending = movement.buckets_pending;
        movement
    }

    /// The buckets that workers note.
    fn buckets_noted(&self) -> usize {
        self.uses.first().map_or(0, |uses| uses.flows.bucket_count())
    }

    /// Forgets what moved so far, as how a plan begins is no movement.
    fn begin(&mut self) {
        (self.buckets_moved, self.told) = (0, (0, self.flows_moved, 0));
    }

    /// Gives an event where something moved and it is time to say so.
    fn tell(&mut self, name: &str, now_ns: u64) -> Option<Event> {
        let (buckets, flows, told_ns) = self.told;
        let is_due = self.buckets_pending == 0 || now_ns.abs_diff(told_ns) >= TELL_EVERY_NS;
        if self.buckets_moved == buckets || !is_due {
            return None;
        }
        self.told = (self.buckets_moved, self.flows_moved, now_ns);
        Some(Event::BucketsMoved {
            group: name.to_owned(),
            buckets: self.buckets_moved - buckets,
            of: self.group.table().bucket_count() as u64,
            flows: self.flows_moved - flows,
            pending: self.buckets_pending as u64,
        })
    }

    /// Reads what workers noted of their packets' times.
    fn keep_time(&mut self, now_ns: u64, workers: &[Arc<WorkerCounters>]) {
        let Returns::WhenIdle { idle_ns } = self.group.spec().returns else { return };
        for (port, clock) in self.clocks.entries_mut() {
            for (worker, counters) in workers.iter().enumerate() {
                let port = &counters.ports[port];
                clock.look(worker, port.times_noted.get(), port.last_packet_ns.get(), now_ns, idle_ns);
            }
        }
    }

    /// About how many flows these buckets have.
    fn flows(&self, buckets: impl Iterator<Item = usize>) -> u64 {
        FlowSketch::flows(self.uses.iter().map(|uses| &uses.flows), buckets)
    }
}

impl Watch {
    /// Begins the watch over ports whose links are `links`, and which take what `fits` says. Times are in ns since the Unix epoch.
    pub fn new(
        plan: &Arc<Plan>,
        links: ById<PortId, Option<LinkState>>,
        fits: ById<PortId, Option<FrameLimits>>,
        workers: usize,
        now_ns: u64,
    ) -> Self {
        let tools = plan.tools.iter().map(|tool| WatchedTool::new(tool, plan, &links, now_ns)).collect();
        let groups =
            plan.work.groups.iter().map(|group| WatchedGroup::new(group, plan, workers, now_ns)).collect();
        let mut watch = Self {
            cell: Arc::new(LiveCell::new(Live::default())),
            since_ns: ById::filled(plan.rules.len(), now_ns),
            looked_ns: 0,
            activities: ById::filled(plan.rules.len(), Activity { is_on: true, next_change_ns: None }),
            limits: plan.rules.iter().map(limit_of).collect(),
            links,
            tools,
            groups,
            next_hops: plan.tools.iter().map(|tool| given_mac(&tool.copy)).collect(),
            fits,
            leaving: Vec::new(),
            workers,
            plan: Arc::clone(plan),
        };
        // how a plan begins is no event
        let mut unheard = Events::default();
        watch.judge_schedules(&mut unheard.at(now_ns));
        watch.update_groups(&mut unheard.at(now_ns));
        watch.groups.iter_mut().for_each(WatchedGroup::begin);
        watch.cell = Arc::new(LiveCell::new(watch.live()));
        watch
    }

    /// Goes on with another plan, which has `kept` of the one before. A rule whose times are said as before keeps them, and one with the
    /// same limit what is left of it; a tool keeps its state, and a group its buckets as far as its members and weights allow. `ports`
    /// are the links of the plan's ports, and what they take. Gives what becomes of the workers' views.
    pub(super) fn change(
        &mut self,
        plan: &Arc<Plan>,
        kept: &Kept,
        (links, fits): (ById<PortId, Option<LinkState>>, ById<PortId, Option<FrameLimits>>),
        moment: &mut Moment<'_>,
    ) -> Turned {
        let now_ns = moment.now_ns;
        let before = self.cell.current();
        self.leaving =
            kept.leaving().iter().map(|&id| (before.egress_up[id], before.can_send[id])).collect();
        self.change_rules(plan, kept, now_ns);
        (self.links, self.fits) = (links, fits);
        let tools = plan.tools.entries().map(|(id, tool)| self.tool_after(plan, kept, id, tool, now_ns));
        self.tools = tools.collect();
        let next_hop = |(id, tool): (ToolId, &ToolPlan)| {
            let is_same = |from: &ToolId| self.plan.tools[*from].copy.tunnel == tool.copy.tunnel;
            match kept.tools[id].filter(is_same) {
                Some(from) => self.next_hops[from],
                None => given_mac(&tool.copy),
            }
        };
        self.next_hops = plan.tools.entries().map(next_hop).collect();
        let (moved, noted) = self.change_groups(plan, kept, now_ns);
        self.plan = Arc::clone(plan);
        self.judge_schedules(moment);
        self.update_groups(moment);
        let next = Arc::new(LiveCell::new(self.live()));
        Turned { cell: std::mem::replace(&mut self.cell, next), moved, noted }
    }

    /// The links of ports as they were last seen, and what they take.
    pub(super) fn links_and_fits(
        &self,
    ) -> (ById<PortId, Option<LinkState>>, ById<PortId, Option<FrameLimits>>) {
        (self.links.clone(), self.fits.clone())
    }

    /// Nothing leaves any more: workers have let go of it.
    pub(super) fn let_go(&mut self) {
        if !std::mem::take(&mut self.leaving).is_empty() {
            self.cell.publish(self.live());
        }
    }

    fn change_rules(&mut self, plan: &Plan, kept: &Kept, now_ns: u64) {
        let same = |rule: RuleId, is_same: fn(&RulePlan, &RulePlan) -> bool| {
            let from = kept.rules[rule].map(|carried| carried.from);
            from.filter(|&from| is_same(&plan.rules[rule], &self.plan.rules[from]))
        };
        let is_same_schedule =
            |a: &RulePlan, b: &RulePlan| a.schedule == b.schedule && a.is_enabled == b.is_enabled;
        let unscheduled = Activity { is_on: true, next_change_ns: None };
        let rules = || plan.rules.ids();
        let scheduled: Vec<Option<RuleId>> = rules().map(|rule| same(rule, is_same_schedule)).collect();
        let activities =
            scheduled.iter().map(|from| from.map_or(unscheduled, |from| self.activities[from])).collect();
        let since_ns =
            scheduled.iter().map(|from| from.map_or(now_ns, |from| self.since_ns[from])).collect();
        let limits = rules().map(|rule| match same(rule, |a, b| a.limit == b.limit) {
            Some(from) => self.limits[from].clone(),
            None => limit_of(&plan.rules[rule]),
        });
        let limits = limits.collect();
        (self.activities, self.since_ns, self.limits) = (activities, since_ns, limits);
    }

    /// A tool of another plan, in the state that it had if it is judged as before.
    fn tool_after(
        &self,
        plan: &Plan,
        kept: &Kept,
        id: ToolId,
        tool: &ToolPlan,
        now_ns: u64,
    ) -> WatchedTool {
        let fresh = WatchedTool::new(tool, plan, &self.links, now_ns);
        let Some(from) = kept.tools[id] else { return fresh };
        let (known, before) = (&self.tools[from], &self.plan.tools[from]);
        let is_same_port = match (known.port, fresh.port) {
            (Some(before), Some(after)) => kept.ports[after] == Some(before),
            (before, after) => before.is_none() && after.is_none(),
        };
        let is_same = is_same_port
            && before.health == tool.health
            && before.is_drained == tool.is_drained
            && before.capture == tool.capture
            && before.copy.tunnel == tool.copy.tunnel;
        if is_same { WatchedTool { port: fresh.port, ..known.clone() } } else { fresh }
    }

    /// Gives the movement of groups that changed, and the groups whose workers note in another place than before.
    fn change_groups(
        &mut self,
        plan: &Plan,
        kept: &Kept,
        now_ns: u64,
    ) -> (Vec<Moved>, Vec<(GroupId, GroupId)>) {
        let (mut moved, mut noted) = (Vec::new(), Vec::new());
        let mut before: ById<GroupId, Option<WatchedGroup>> =
            std::mem::take(&mut self.groups).into_iter().map(Some).collect();
        let workers = self.workers;
        for (id, work) in plan.work.groups.entries() {
            let known = kept.groups[id].and_then(|from| Some((from, before[from].take()?)));
            let Some((from, mut known)) = known else {
                let mut group = WatchedGroup::new(work, plan, workers, now_ns);
                let states = members(&self.tools, work);
                group.group.update(&states, |_| true);
                group.begin();
                self.groups.push(group);
                continue;
            };
            let work_before = &self.plan.work.groups[from];
            let member_before = |member: &ToolId| {
                let tool = kept.tools[*member]?;
                work_before.members.iter().position(|&before| before == tool)
            };
            let members_before: Vec<Option<usize>> = work.members.iter().map(member_before).collect();
            let is_same = work.spec == work_before.spec
                && members_before.len() == work_before.members.len()
                && members_before.iter().enumerate().all(|(place, from)| *from == Some(place));
            if !is_same {
                let states = members(&self.tools, work);
                let movement = known.change(work, &members_before, &states, now_ns);
                moved.push(Moved { group: plan.groups[id].name.clone(), ..movement });
            }
            let are_ports_same = kept.ports.entries().all(|(to, from)| from.is_none_or(|from| from == to));
            let count = known.group.table().bucket_count();
            let is_stamped = work.spec.returns != Returns::AtOnce;
            let had_stamps = known.uses.iter().any(|uses| uses.stamps.is_some());
            if !are_ports_same && is_stamped || known.buckets_noted() != count || is_stamped != had_stamps {
                known.uses = bucket_uses(count, is_stamped, workers, now_ns);
                noted.push((from, id));
            }
            let clock =
                |from: &Option<PortId>| from.map(|from| known.clocks[from].clone()).unwrap_or_default();
            known.clocks = kept.ports.iter().map(clock).collect();
            self.groups.push(known);
        }
        (moved, noted)
    }

    /// Gives the cell that workers read from.
    pub fn cell(&self) -> &Arc<LiveCell> {
        &self.cell
    }

    /// Gives for each tool the address that its tunnel's frames are sent to first, as far as it is known.
    pub fn next_hops(&self) -> &ById<ToolId, Option<MacAddress>> {
        &self.next_hops
    }

    pub fn limits(&self) -> &[Option<Arc<Limit>>] {
        &self.limits
    }

    /// Gives for each group the place at which a worker notes the buckets that it used.
    pub fn uses_of(&self, worker: usize) -> ById<GroupId, Arc<BucketUse>> {
        self.groups.iter().map(|group| Arc::clone(&group.uses[worker])).collect()
    }

    /// Returns whether it is time to read links and counters again.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.looked_ns) >= HEALTH_PERIOD_NS || now_ns < self.looked_ns
    }

    /// Turns rules on and off whose time has come.
    pub fn keep_schedules(&mut self, moment: &mut Moment<'_>) {
        if self.judge_schedules(moment) {
            self.cell.publish(self.live());
        }
    }

    /// Judges tools by the ports' links and the workers' counters, and moves buckets; of the time since the last look `excused_ns`
    /// are no tool's fault.
    pub fn look(
        &mut self,
        moment: &mut Moment<'_>,
        excused_ns: u64,
        links: ById<PortId, Option<LinkState>>,
        counters: &[Arc<WorkerCounters>],
        writers: Option<&WriterCounters>,
    ) {
        let now_ns = moment.now_ns;
        self.looked_ns = now_ns;
        self.groups.iter().flat_map(|group| &group.uses).for_each(|uses| uses.flows.keep_time(now_ns));
        self.groups.iter_mut().for_each(|group| group.keep_time(now_ns, counters));
        let mut is_changed = self.judge_links(links, moment);
        let mut progress = ById::filled(self.tools.len(), (0, 0));
        // by port: what all its tools sent together
        let mut accepted_by = ById::filled(self.plan.ports.len(), 0);
        for (id, tool) in self.tools.entries_mut() {
            let (mut requested, mut sent, mut dropped, mut writes) = (0, 0, 0, 0);
            for worker in tool_counters(counters, writers, id) {
                // what ends is read before what begins: a copy on its way counts as waiting, never as less than nothing
                sent += worker.sent.get();
                dropped += worker.all_dropped();
                requested += worker.requested.get();
                writes += worker.writes.get();
            }
            let accepted =
                (sent + writes).saturating_sub(std::mem::replace(&mut tool.accepted, sent + writes));
            progress[id] = (accepted, requested.saturating_sub(sent + dropped));
            if let Some(port) = tool.port {
                accepted_by[port] += accepted;
            }
        }
        for (id, &(accepted, waiting)) in progress.entries() {
            let tool = &self.tools[id];
            // a port that takes other tools' copies is not stuck: this one's turn will come
            let accepted = tool.port.map_or(accepted, |port| accepted_by[port]);
            let mut observations = Vec::with_capacity(3);
            if let Some(port) = tool.port {
                observations.push(Observation::Link { is_up: self.has_link(port) });
            }
            observations.push(Observation::Transmit { accepted, waiting });
            if tool.health.state() == ToolState::Draining && waiting == 0 && !self.has_buckets(id) {
                observations.push(Observation::Emptied);
            }
            self.tools[id].health.excuse(excused_ns, now_ns);
            for observation in observations {
                is_changed |= self.judge(id, observation, moment);
            }
        }
        if (is_changed || self.groups.iter().any(|group| group.buckets_pending > 0))
            && self.update_groups(moment)
        {
            is_changed = true;
        }
        if is_changed {
            self.cell.publish(self.live());
        }
    }

    /// Takes note of what happened to a tool outside its counters: a command, a probe that was answered or lost, a file that could
    /// not be written.
    pub fn observe(&mut self, tool: ToolId, observation: Observation, moment: &mut Moment<'_>) {
        if self.judge(tool, observation, moment) {
            self.update_groups(moment);
            self.cell.publish(self.live());
        }
    }

    /// Takes note that a tunnel's next hop answered, moved, or is gone.
    pub fn set_next_hop(&mut self, tool: ToolId, mac: Option<MacAddress>, moment: &mut Moment<'_>) {
        // of one that is gone the last address stays: what is on its way to it may still arrive
        self.next_hops[tool] = mac.or(self.next_hops[tool]);
        if self.judge(tool, Observation::NextHop { is_resolved: mac.is_some() }, moment) {
            self.update_groups(moment);
        }
        self.cell.publish(self.live());
    }

    /// Returns the name of a tool.
    pub fn tool_name(&self, tool: ToolId) -> &str {
        &self.plan.tools[tool].name
    }

    /// Takes note that a port's MTU changed, and with it the frames that it takes.
    pub fn set_fit(&mut self, port: PortId, fit: Option<FrameLimits>) {
        if std::mem::replace(&mut self.fits[port], fit) != fit {
            self.cell.publish(self.live());
        }
    }

    /// Returns whether a tool is down because nothing was taken from it for too long.
    pub fn is_stalled(&self, tool: ToolId) -> bool {
        let tool = &self.tools[tool];
        tool.health.state() == ToolState::Down && tool.reason == Some(Reason::Stalled)
    }

    /// Returns whether a tool is down, for whatever reason.
    pub fn is_down(&self, tool: ToolId) -> bool {
        self.tools[tool].health.state() == ToolState::Down
    }

    /// Gives the statistics of all this.
    pub fn state(&self) -> WatchState {
        let rules = self.plan.rules.iter().zip(&self.activities).zip(&self.limits).map(
            |((rule, activity), limit)| {
                let remaining = limit.as_ref().map(|limit| limit.remaining());
                RuleActivity {
                    on: rule.is_enabled && activity.is_on && remaining != Some(0),
                    next_change: activity.next_change_ns.map(seconds),
                    limit_remaining: remaining,
                }
            },
        );
        let tools = self.tools.iter().map(|tool| ToolHealth {
            state: tool.health.state(),
            reason: tool.reason,
            since: seconds(tool.changed_ns),
        });
        let groups = self.groups.iter().map(|group| GroupHealth {
            buckets: group.group.buckets_by_member(),
            buckets_moved: group.buckets_moved,
            buckets_pending: group.buckets_pending,
            flows: group.flows(0..group.group.table().bucket_count()),
            flows_moved: group.flows_moved,
        });
        WatchState { rules: rules.collect(), tools: tools.collect(), groups: groups.collect() }
    }

    /// Returns whether the tool's state changed, or what becomes of copies that wait for it.
    fn judge(&mut self, id: ToolId, observation: Observation, moment: &mut Moment<'_>) -> bool {
        let tool = &mut self.tools[id];
        let could_send = tool.health.can_send();
        let Some(StateChange { from, to, reason, .. }) = tool.health.observe(observation, moment.now_ns)
        else {
            return tool.health.can_send() != could_send;
        };
        (tool.reason, tool.changed_ns) = (Some(reason), moment.now_ns);
        moment.record(Event::ToolChanged { tool: self.plan.tools[id].name.clone(), from, to, reason });
        true
    }

    /// Tells of ports whose links are not as they were. Returns whether there are such.
    fn judge_links(&mut self, links: ById<PortId, Option<LinkState>>, moment: &mut Moment<'_>) -> bool {
        let mut is_changed = false;
        let before = std::mem::replace(&mut self.links, links);
        for (id, &from) in before.entries() {
            let (Some(from), Some(to)) = (from, self.links[id]) else { continue };
            if from != to {
                is_changed = true;
                moment.record(Event::PortChanged { port: self.plan.ports[id].name.clone(), from, to });
            }
        }
        is_changed
    }

    fn has_link(&self, port: PortId) -> bool {
        has_link(&self.plan, &self.links, port)
    }

    fn has_buckets(&self, tool: ToolId) -> bool {
        self.plan.work.groups.iter().zip(&self.groups).any(|(work, group)| {
            let buckets = group.group.buckets_by_member();
            work.members.iter().zip(buckets).any(|(&member, buckets)| member == tool && buckets > 0)
        })
    }

    /// Returns whether a bucket moved.
    fn update_groups(&mut self, moment: &mut Moment<'_>) -> bool {
        let (mut is_moved, now_ns) = (false, moment.now_ns);
        let groups = self.plan.groups.iter().zip(&self.plan.work.groups);
        for ((GroupPlan { name }, work), watched) in groups.zip(&mut self.groups) {
            let states = members(&self.tools, work);
            let before = watched.group.table().clone();
            let movement = watched.move_buckets(&states, |bucket| bucket, now_ns);
            watched.buckets_moved += movement.buckets_moved as u64;
            if movement.buckets_moved > 0 {
                is_moved = true;
                let slots = before.slots().iter().zip(watched.group.table().slots()).enumerate();
                let flows =
                    watched.flows(slots.filter(|(_, (from, to))| from != to).map(|(bucket, _)| bucket));
                watched.flows_moved += flows;
            }
            if let Some(event) = watched.tell(name, now_ns) {
                moment.record(event);
            }
        }
        is_moved
    }

    /// Returns whether a rule went on or off.
    fn judge_schedules(&mut self, moment: &mut Moment<'_>) -> bool {
        let (mut is_changed, now_ns) = (false, moment.now_ns);
        let rules = self.plan.rules.iter().zip(&mut self.activities).zip(&self.limits).zip(&self.since_ns);
        for (((rule, activity), limit), &since_ns) in rules {
            let Some(schedule) = &rule.schedule else { continue };
            // asked again after a change, at the start, and where the clock was set back
            let is_settled =
                activity.next_change_ns.is_none_or(|change| now_ns < change) && now_ns > since_ns;
            if is_settled {
                continue;
            }
            let before = std::mem::replace(activity, schedule.at(since_ns, now_ns));
            if before.is_on != activity.is_on && limit.as_ref().is_none_or(|limit| limit.remaining() > 0) {
                is_changed = true;
                let (rule, on) = (rule.priority, activity.is_on);
                let next_change = activity.next_change_ns.map(seconds);
                moment.record(Event::RuleSwitched { rule, on, next_change });
            }
        }
        is_changed
    }

    fn live(&self) -> Live {
        let up_and_sending = |(_, egress)| match egress {
            Egress::Tool(tool) => {
                let health = &self.tools[tool].health;
                (health.state() == ToolState::Up, health.can_send())
            }
            // a direction of a wire has no health but its link
            Egress::Wire(wire, from) => {
                let has_link = self.has_link(self.plan.wires[wire].port(from.other()));
                (has_link, has_link)
            }
        };
        let (egress_up, can_send): (Vec<bool>, Vec<bool>) =
            self.plan.egresses().all().map(up_and_sending).unzip();
        let egress_up = ById::from(egress_up);
        let is_all_up = |straight: &Straight| straight.egresses.iter().all(|&id| egress_up[id]);
        let fit_of = |(_, egress)| match self.plan.egress(egress).output {
            Output::Port(port) => self.fits[port],
            Output::Capture | Output::Discard => None,
        };
        let inputs = self.plan.work.inputs.iter();
        // behind those of the plan
        let (left_up, left_sending): (Vec<bool>, Vec<bool>) = self.leaving.iter().copied().unzip();
        Live {
            rules_on: self.activities.iter().map(|activity| activity.is_on).collect(),
            go_straight: inputs.map(|input| input.straight.as_ref().is_some_and(is_all_up)).collect(),
            tables: self.groups.iter().map(|group| group.group.table().clone()).collect(),
            next_hops: self.next_hops.clone(),
            fits: self.plan.egresses().all().map(fit_of).collect(),
            can_send: [can_send, left_sending].concat().into(),
            egress_up: egress_up.into_iter().chain(left_up).collect(),
        }
    }
}

/// Returns whether a port that is not stopped has a link; `links` are those of all ports.
fn has_link(plan: &Plan, links: &ById<PortId, Option<LinkState>>, port: PortId) -> bool {
    links[port] == Some(LinkState::Up) && !plan.ports[port].is_stopped
}

/// Makes the counter of the packets that a rule may still take, if it has a limit.
fn limit_of(rule: &RulePlan) -> Option<Arc<Limit>> {
    rule.limit.map(|packets| Arc::new(Limit::new(packets)))
}

/// The next hop's address where the plan has it.
fn given_mac(copy: &CopyPlan) -> Option<MacAddress> {
    match copy.tunnel.as_ref()?.next_hop {
        NextHopPlan::Mac(mac) => Some(mac),
        NextHopPlan::Ask(_) => None,
    }
}

/// How long a tool may wait for its rate after the largest packet, in ns.
fn longest_wait_ns(shaping: BucketSpec) -> u64 {
    let (cost, rate) = match shaping.rate {
        Rate::PacketsPerSecond(rate) => (1, rate),
        Rate::BitsPerSecond(rate) => (u64::from(u16::MAX) * 8, rate),
    };
    let wait_ns = u128::from(cost) * 1_000_000_000 / u128::from(rate.max(1));
    u64::try_from(wait_ns).unwrap_or(u64::MAX)
}
