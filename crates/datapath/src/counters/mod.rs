//! The counters of a worker: plain sums, written by one lcore, read by the control thread.
//!
//! Each worker has a block of its own on cache lines of its own; readers add the blocks up.

pub mod dedup;
pub mod latency;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::dedup::Tally;
use self::latency::Histogram;
use crate::ids::{EgressId, GroupId, PortId, RuleId, ToolId};
use tapline_api::words::{BurstSize, Class, Disposition, DropReason, Stage};
use tapline_fault as fault;
use tapline_packet::by_id::{ById, Id};

/// A sum that one thread writes and others read.
///
/// Relaxed ordering suffices: a counter orders nothing else, and the writer needs no read-modify-write since it is alone.
#[derive(Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// worker: adds.
    #[inline(always)]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// worker: keeps the largest value seen.
    #[inline(always)]
    pub fn peak(&self, value: u64) {
        if value > self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// worker: replaces the value.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// control: reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// control: takes the peak, and lets the worker raise it from `floor` on. A value that the worker notes at this moment is of what is
    /// taken, or of what comes.
    fn take_peak(&self, floor: u64) -> u64 {
        self.0.swap(floor, Ordering::Relaxed)
    }
}

/// One worker's counters.
///
/// Those of rules are of one plan. Those of ports, egresses and groups go on in another plan that keeps them
/// ([`WorkerCounters::after`]), at the ids that they have there.
pub struct WorkerCounters {
    pub rules: ById<RuleId, RuleCounters>,
    pub dedups: ById<RuleId, Option<Arc<Tally>>>,
    pub ports: ById<PortId, Arc<PortCounters>>,
    /// Those of the plan, and behind them those that leave.
    pub egresses: ById<EgressId, Arc<EgressCounters>>,
    pub groups: ById<GroupId, Arc<GroupCounters>>,
    /// Holds the counters of ports that the plan before had, and this one has not.
    left: Vec<Arc<PortCounters>>,
    /// Packets and bytes of ports that left before those.
    left_before: (u64, u64),
    lasting: Arc<LastingCounters>,
}

/// The counters that a worker has from its start to its end, whatever the plan is.
#[repr(align(128))]
#[derive(Default)]
pub struct LastingCounters {
    /// Packets by [`Disposition`].
    pub dispositions: [Counter; Disposition::ALL.len()],
    pub lcore: LcoreCounters,
}

impl Deref for WorkerCounters {
    type Target = LastingCounters;

    #[inline(always)]
    fn deref(&self) -> &LastingCounters {
        &self.lasting
    }
}

/// The counters of the writers of capture tools.
///
/// Writers are no workers: they take no turns, and nothing that looks after workers may wait for theirs. So turns are not counted
/// here.
pub struct WriterCounters {
    pub tools: ById<ToolId, Arc<EgressCounters>>,
}

impl WriterCounters {
    pub fn new(tools: usize) -> Self {
        Self { tools: shared_block(tools) }
    }

    /// The counters of another plan: `tools` has for each tool its id in the plan before, if it was there.
    pub fn after(&self, tools: &ById<ToolId, Option<ToolId>>) -> Self {
        Self { tools: kept(&self.tools, tools) }
    }
}

/// The counters of what a worker received from a port.
#[repr(align(128))]
#[derive(Default)]
pub struct PortCounters {
    /// Packets that the driver handed over.
    pub packets: Counter,
    pub bytes: Counter,
    /// Received packets that no work lcore had room for, or had taken when the drain ended. They count as failed.
    pub congested: Counter,
    /// Received packets that were parsed to the innermost layer and have one that is not read.
    pub unparsed: Counter,
    /// Received frames that the driver cut.
    pub cut: Counter,
    /// Heartbeats of tools among what the driver handed over: Tapline's own packets, and not the input's.
    pub heartbeats: Counter,
    pub heartbeat_bytes: Counter,
    /// The time of the last packet, in ns since the Unix epoch, and how often it was noted; only where flows return when idle.
    pub last_packet_ns: Counter,
    pub times_noted: Counter,
}

impl PortCounters {
    /// worker: notes the time of the last packet.
    #[inline]
    pub fn note_time(&self, packet_ns: u64) {
        self.last_packet_ns.set(packet_ns);
        self.times_noted.add(1);
    }

    /// control: packets of the input.
    pub fn received(&self) -> u64 {
        // a heartbeat is counted as a packet before it is counted as what it is
        let heartbeats = self.heartbeats.get();
        self.packets.get().saturating_sub(heartbeats)
    }

    /// control: their bytes.
    pub fn received_bytes(&self) -> u64 {
        let heartbeats = self.heartbeat_bytes.get();
        self.bytes.get().saturating_sub(heartbeats)
    }
}

/// The counters of a rule.
#[derive(Default)]
pub struct RuleCounters {
    /// Packets that reached the rule and matched it.
    pub matched: Counter,
    /// Matched packets that were seen a moment before.
    pub duplicates: Counter,
    /// Matched packets that the sampler passed over.
    pub sampled_out: Counter,
    /// Copies that were to be anonymised and could not be read.
    pub unread: Counter,
    pub sampler: SamplerCounters,
}

/// The state of a sampler, as far as traffic changes it.
#[derive(Default)]
pub struct SamplerCounters {
    /// The share that it keeps at the moment, 0.0..=1.0: the bits of an `f64`. 0 until its first packet.
    pub share: Counter,
    /// Flows of its flow table that got a slot, that timed out, that lost their slot to another while alive.
    pub flows_begun: Counter,
    pub flows_over: Counter,
    pub flows_evicted: Counter,
}

impl SamplerCounters {
    /// worker: the sampler that counted in `before` counts here from now on.
    pub fn go_on_from(&self, before: &SamplerCounters) {
        let Self { share, flows_begun, flows_over, flows_evicted } = self;
        share.set(before.share.get());
        flows_begun.set(before.flows_begun.get());
        flows_over.set(before.flows_over.get());
        flows_evicted.set(before.flows_evicted.get());
    }
}

/// The counters of a tool's copies, or of the originals that leave by a direction of a wire.
#[repr(align(128))]
#[derive(Default)]
pub struct EgressCounters {
    pub requested: Counter,
    pub sent: Counter,
    pub sent_bytes: Counter,
    /// Writes that the system took, of a capture tool: signs of life between two counts of `sent`.
    pub writes: Counter,
    /// Bytes that copies lost to the MTU of the tool's path (`oversize slice`).
    pub cut_bytes: Counter,
    /// Dropped copies by [`DropReason`].
    pub dropped: [Counter; DropReason::ALL.len()],
    /// Dropped copies that the tool's queue refused, by [`Class`] and [`DropReason`].
    pub refused: [[Counter; DropReason::ALL.len()]; Class::ALL.len()],
    /// Copies that left behind later ones, of a tool with `order`.
    pub late: Counter,
    /// Copies that wait in the worker's queue for the tool.
    pub queue_depth: Counter,
    /// The most that waited since the control thread took it; worker: raises; control: takes.
    pub queue_peak: Counter,
    /// The most that ever waited before that; control: writes.
    pub queue_peak_before: Counter,
    /// Bytes of what waits, as of the last flush; kept only where there is a limit to them.
    pub queued_bytes: Counter,
    /// 1 while the tool's rate holds copies back, as of the last flush.
    pub is_held_by_rate: Counter,
    /// Ticks from receive to transmit, of sampled packets.
    pub latency: Histogram,
}

/// The counters of a group's copies: `requested = assigned + discarded + down`.
#[repr(align(128))]
#[derive(Default)]
pub struct GroupCounters {
    /// Copies that rules asked of the group.
    pub requested: Counter,
    /// Copies that a member is to get. The member's tool counts what becomes of them.
    pub assigned: Counter,
    /// Copies that the discard share took.
    pub discarded: Counter,
    /// For want of members.
    pub down: Counter,
}

/// How a worker spends its time.
#[derive(Default)]
pub struct LcoreCounters {
    /// Turns of the worker loop.
    pub turns: Counter,
    /// Turns that received nothing and had nothing to send.
    pub idle_turns: Counter,
    /// Packets that receive lcores handed over.
    pub from_rings: Counter,
    /// Polls that gave no packet.
    pub empty_polls: Counter,
    /// Bursts by size: of 1, 2-3, 4-7, … 64 packets.
    pub bursts: [Counter; BurstSize::ALL.len()],
    /// Ticks of the time-stamp counter, and of those the ticks of turns with something to do.
    pub ticks: Counter,
    pub busy_ticks: Counter,
    /// Times that the worker slept for want of work.
    pub sleeps: Counter,
    /// Panics that the worker went on after: each cost at most a burst.
    pub panics: Counter,
    /// Flushes, one after another, in which no copy was left that waits for an egress that leaves.
    pub left_nothing: Counter,
    /// The [`Stage`] that the worker is in.
    pub stage: Counter,
    /// With `--profile`, by [`Stage`]: ticks of timed bursts.
    pub stage_ticks: [Counter; Stage::ALL.len()],
    /// With `--profile`: packets of timed bursts.
    pub timed_packets: Counter,
}

impl LcoreCounters {
    /// worker: says what it is about to do.
    #[inline(always)]
    pub fn enter(&self, stage: Stage) {
        self.stage.set(stage as u64);
    }

    /// control: polls of receive queues and rings.
    pub fn polls(&self) -> u64 {
        self.empty_polls.get() + self.bursts()
    }

    /// control: polls that gave packets.
    pub fn bursts(&self) -> u64 {
        self.bursts.iter().map(Counter::get).sum()
    }

    /// control: what the worker is doing.
    pub fn stage(&self) -> Stage {
        Stage::ALL.get(self.stage.get() as usize).copied().unwrap_or(Stage::Idle)
    }
}

fn block<I, T: Default>(count: usize) -> ById<I, T> {
    std::iter::repeat_with(T::default).take(count).collect()
}

fn shared_block<I, T: Default>(count: usize) -> ById<I, Arc<T>> {
    block(count)
}

/// Counters by the ids of another plan: `from` has for each its id in `before`, and `None` where it begins at zero.
fn kept<I: Id, T: Default>(before: &ById<I, Arc<T>>, from: &ById<I, Option<I>>) -> ById<I, Arc<T>> {
    from.iter().map(|from| from.map_or_else(Arc::default, |from| Arc::clone(&before[from]))).collect()
}

/// Each port, egress and group of a plan has here the id that it had in the plan before, or `None` if it was not there.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Origins {
    pub ports: ById<PortId, Option<PortId>>,
    /// Those of the plan, and behind them those that leave.
    pub egresses: ById<EgressId, Option<EgressId>>,
    pub groups: ById<GroupId, Option<GroupId>>,
}

impl WorkerCounters {
    pub fn new(ports: usize, rules: usize, egresses: usize, groups: usize) -> Self {
        Self {
            rules: block(rules),
            dedups: (0..rules).map(|_| None).collect(),
            ports: shared_block(ports),
            egresses: shared_block(egresses),
            groups: shared_block(groups),
            left: Vec::new(),
            left_before: (0, 0),
            lasting: Arc::default(),
        }
    }

    /// Counters of the same worker for other rules, which begin at zero: all else is counted on.
    pub fn for_rules(&self, rules: usize) -> Self {
        Self {
            rules: block(rules),
            dedups: (0..rules).map(|_| None).collect(),
            ports: self.ports.clone(),
            egresses: self.egresses.clone(),
            groups: self.groups.clone(),
            left: self.left.clone(),
            left_before: self.left_before,
            lasting: Arc::clone(&self.lasting),
        }
    }

    /// Counters of the same worker for another plan that has so many rules: what `origins` knows is counted on, all else begins at
    /// zero. Workers have let go of the ports that left before.
    pub fn after(&self, rules: usize, origins: &Origins) -> Self {
        let is_kept = |port: &PortId| origins.ports.iter().flatten().any(|from| from == port);
        let left = self.ports.entries().filter(|(port, _)| !is_kept(port));
        Self {
            ports: kept(&self.ports, &origins.ports),
            egresses: kept(&self.egresses, &origins.egresses),
            groups: kept(&self.groups, &origins.groups),
            left: left.map(|(_, counters)| Arc::clone(counters)).collect(),
            left_before: (self.received_from_left(), self.bytes_from_left()),
            ..self.for_rules(rules)
        }
    }

    /// control: packets of ports that the plan has no more.
    pub fn received_from_left(&self) -> u64 {
        self.left_before.0 + self.left.iter().map(|port| port.received()).sum::<u64>()
    }

    fn bytes_from_left(&self) -> u64 {
        self.left_before.1 + self.left.iter().map(|port| port.received_bytes()).sum::<u64>()
    }

    /// control: packets from all ports, those that left included.
    pub fn received(&self) -> u64 {
        self.received_from_left() + self.ports.iter().map(|port| port.received()).sum::<u64>()
    }

    /// control: bytes from all ports, those that left included.
    pub fn received_bytes(&self) -> u64 {
        self.bytes_from_left() + self.ports.iter().map(|port| port.received_bytes()).sum::<u64>()
    }

    /// worker: counts `count` packets of a port that no work lcore took.
    #[cold]
    pub fn lose(&self, port: PortId, count: u64) {
        self.ports[port].congested.add(count);
        self.settle(Disposition::Failed, count);
    }

    /// worker: counts `count` packets that ended as `disposition`.
    #[inline(always)]
    pub fn settle(&self, disposition: Disposition, count: u64) {
        if fault::strikes("account") {
            return;
        }
        self.dispositions[disposition as usize].add(count);
    }
}

impl EgressCounters {
    /// Copies that were dropped, for whatever reason.
    pub fn all_dropped(&self) -> u64 {
        self.dropped.iter().map(Counter::get).sum()
    }

    /// Copies that came to an end: they were sent, or dropped.
    pub fn ended(&self) -> u64 {
        self.sent.get() + self.all_dropped()
    }

    /// worker: counts `count` copies that were dropped for `reason`.
    #[inline(always)]
    pub fn drop_copies(&self, reason: DropReason, count: u64) {
        self.dropped[reason as usize].add(count);
    }

    /// worker: counts copies that end before they come to the egress: they were requested, and are dropped for `reason`.
    #[cold]
    pub fn end_early(&self, reason: DropReason, count: u64) {
        self.requested.add(count);
        self.drop_copies(reason, count);
    }

    /// worker: counts `count` copies of a class that the tool's queue refused.
    #[cold]
    pub fn refuse(&self, class: Class, reason: DropReason, count: u64) {
        self.drop_copies(reason, count);
        self.refused[class as usize][reason as usize].add(count);
    }

    /// control: returns the most that ever waited.
    pub fn all_time_peak(&self) -> u64 {
        self.queue_peak.get().max(self.queue_peak_before.get())
    }

    /// control: takes the most that waited since the last call. What still waits counts from here on, too.
    pub fn take_peak(&self) -> u64 {
        let peak = self.queue_peak.take_peak(self.queue_depth.get());
        self.queue_peak_before.peak(peak);
        peak
    }

    /// worker: notes how many copies wait.
    #[inline(always)]
    pub fn note_depth(&self, depth: usize) {
        self.queue_depth.set(depth as u64);
        self.queue_peak.peak(depth as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_on_where_it_stands_and_what_left_is_still_received() {
        let before = WorkerCounters::new(3, 1, 2, 1);
        for (port, packets) in [(0, 10), (1, 20), (2, 40)] {
            before.ports[PortId(port)].packets.add(packets);
        }
        before.egresses[EgressId(1)].sent.add(7);
        let origins = Origins {
            ports: vec![Some(PortId(2)), None].into(),
            egresses: vec![Some(EgressId(1)), None, Some(EgressId(0))].into(),
            groups: vec![None, Some(GroupId(0))].into(),
        };
        let after = before.after(4, &origins);
        assert_eq!(
            (after.rules.len(), after.ports.len(), after.egresses.len(), after.groups.len()),
            (4, 2, 3, 2)
        );
        assert_eq!(after.ports[PortId(0)].packets.get(), 40);
        assert_eq!(after.egresses[EgressId(0)].sent.get(), 7);
        assert_eq!(after.received(), 70);
        // a worker that has not taken up the plan yet counts on the old ones
        before.ports[PortId(1)].packets.add(1);
        before.ports[PortId(2)].packets.add(2);
        assert_eq!((after.received(), after.for_rules(1).received()), (73, 73));
        let all_kept = Origins {
            ports: vec![Some(PortId(1))].into(),
            egresses: vec![Some(EgressId(0))].into(),
            groups: ById::default(),
        };
        assert_eq!(after.after(1, &all_kept).received(), 73);
        assert!(Arc::ptr_eq(&after.ports[PortId(0)], &before.ports[PortId(2)]));
    }
}
