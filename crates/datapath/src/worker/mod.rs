//! The worker loop: what one lcore does with packets, in the order that they travel.
//!
//! The way of a burst, from a driver's receive function to a driver's transmit function. Methods without a path are `Worker`'s:
//!
//! | step | called by | function | which ends in |
//! | --- | --- | --- | --- |
//! | poll | `turn` | `receive::receive` | `RxQueue::receive` |
//! | choose one of three ways: straight, judged, spread | `turn` | `carry` | |
//! | straight, where no stage has to look at packets (`work_plan::Straight`) | `carry` | `route::settle_straight`, `egress::egress_straight` | `TxQueue::send` |
//! | judged: stamps, ends of tunnels | `decide` | `admit` | times, and the packets that are left |
//! | judged: which rules match | `decide` | `classify::classify` | `Matches` |
//! | judged: which tools get which packets | `decide` | `route::route`, which samples and balances | `Copies` |
//! | judged: copies that differ from the packet | `decide` | `copies::build::Maker::make`, which edits, stamps and encapsulates | `Made` |
//! | judged: what became of each packet | `decide` | `route::settle` | a disposition |
//! | judged: copies to their tools | `judge` | `egress::egress`, `Outlet::give` | `TxQueue::send`, or the tool's queue |
//! | spread, where another lcore does the work | `carry` | `spread`, `receive::distribute` | a ring: that lcore polls it, and carries on |
//! | send what waits in queues | `turn` | `egress::flush::flush`, `EgressQueue::transmit` | `TxQueue::send` |
//!
//! `RxQueue::receive` and `TxQueue::send` (`crates/dpdk/src/queue.rs`) call the drivers.

/// Accounts for a burst whose stage panicked.
pub mod panics;
/// A worker that is asked about one burst after another.
pub mod rehearsed;

use std::any::Any;
use std::mem::swap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::panics::{PanicNote, Panics};
use super::burst_view::BurstView;
use super::classify::{Matches, classify, classify_mbufs};
use super::copies::build::Maker;
use super::copies::facts::Stamps;
use super::counters::{Counter, LcoreCounters, WorkerCounters};
use super::egress::capture_queue::Origin;
use super::egress::flush::{abandon, flush};
use super::egress::merge::Held;
use super::egress::outlets::Outlets;
use super::egress::{egress, egress_straight};
use super::flow::burst_flows::Flows;
use super::ids::{GroupId, RuleId};
use super::receive::clock::ClockView;
use super::receive::times::Times;
use super::receive::{Intake, Source, receive};
use super::route::balance::BucketUse;
use super::route::{Copies, RuleState, route, settle, settle_straight};
use super::swap::plan_part::{Offer, PlanPart, StageBuffers, Swap};
use super::swap::published::LiveView;
use super::witness::Witness;
use super::work_plan::{Idle, InputPlan, WorkPlan};
use tapline_api::words::{Disposition, Stage};
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::copy::Made;
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst};
use tapline_fault as fault;
use tapline_kernel::clock::thread_cpu_ns;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::by_id::ById;

/// The phase of a run, which says what all workers are to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Before the first `start`: receive nothing, so that rules judge the first packet.
    Waiting,
    /// Receive nothing but on wires with a bypass; send what waits.
    Paused,
    /// Receive, judge, send.
    Running,
    /// Receive nothing; send what waits.
    Draining,
    /// Return.
    Stopped,
}

/// The phase, as the control thread sets it and workers read it once a turn.
///
/// Relaxed ordering suffices: nothing is published with it.
pub struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub fn new(phase: Phase) -> Self {
        Self(AtomicU8::new(phase as u8))
    }

    /// control: writes.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// worker: reads.
    #[inline(always)]
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Waiting,
            1 => Phase::Paused,
            2 => Phase::Running,
            3 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }
}

/// One lcore's part of the broker. It owns all that changes; the plan is shared.
pub struct Worker {
    pub plan: Arc<WorkPlan>,
    pub intakes: Vec<Intake>,
    /// Stages of sampled bursts are timed.
    pub is_profiled: bool,
    /// Several intakes are replays whose packets are put in order.
    pub is_in_step: bool,
    pub outlets: Outlets,
    pub states: ById<RuleId, RuleState>,
    pub live: LiveView,
    /// The mailbox for its part of another plan.
    pub swap: Arc<Swap>,
    /// Packets that intakes which it has no more handed to work lcores.
    pub handed_before: u64,
    /// Makes copies that are not the packets themselves, where the plan has such.
    pub maker: Option<Maker>,
    /// The line of the time-stamp counter.
    pub clock: ClockView,
    /// Its notes about the buckets that it uses.
    pub uses: ById<GroupId, Arc<BucketUse>>,
    pub counters: Arc<WorkerCounters>,
    pub phase: Arc<PhaseCell>,
    /// worker: turns so far, one after another, while paused or draining, that left nothing to send; control: reads.
    pub quiet_turns: Arc<AtomicU64>,
    pub panics: Panics,
}

/// Turns between two flushes while every poll gives a full burst: copies wait at most so many turns for a fuller call of the
/// driver.
const FLUSH_TURNS: u32 = 8;

/// One burst in so many is timed: a reading of the time-stamp counter at its poll and one for each tool that gets it.
const TIMED_BURSTS: u32 = 64;

/// Chooses the bursts whose latency is measured.
#[derive(Default)]
struct LatencySampler(u32);

impl LatencySampler {
    /// Gives the time of the poll that comes, if its burst is to be timed.
    #[inline(always)]
    fn poll(&self) -> Option<u64> {
        self.0.is_multiple_of(TIMED_BURSTS).then(clock::tsc)
    }

    /// The poll gave a burst.
    #[inline(always)]
    fn received(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}

/// With `--profile`, one burst in so many has its stages timed.
const PROFILED_BURSTS: u32 = 256;

/// Says which stage the worker is in, and times the stages of the bursts that are sampled for the profile.
struct Profile {
    is_on: bool,
    bursts: u32,
    is_timing: bool,
    stage: Stage,
    since: u64,
}

impl Profile {
    fn new(is_on: bool) -> Self {
        Self { is_on, bursts: 0, is_timing: false, stage: Stage::Idle, since: 0 }
    }

    /// A poll begins.
    #[inline(always)]
    fn begin(&mut self, lcore: &LcoreCounters) {
        lcore.enter(Stage::Receive);
        self.is_timing = self.is_on && self.bursts.is_multiple_of(PROFILED_BURSTS);
        if self.is_timing {
            (self.stage, self.since) = (Stage::Receive, clock::tsc());
        }
    }

    #[inline(always)]
    fn enter(&mut self, lcore: &LcoreCounters, stage: Stage) {
        lcore.enter(stage);
        if self.is_timing {
            self.charge(lcore, stage);
        }
    }

    #[cold]
    fn charge(&mut self, lcore: &LcoreCounters, next: Stage) {
        let now = clock::tsc();
        lcore.stage_ticks[self.stage as usize].add(now.wrapping_sub(self.since));
        (self.stage, self.since) = (next, now);
    }

    /// A burst of so many packets is through.
    #[inline(always)]
    fn end(&mut self, lcore: &LcoreCounters, packets: usize) {
        if self.is_timing {
            self.charge(lcore, Stage::Idle);
            lcore.timed_packets.add(packets as u64);
            self.is_timing = false;
        }
        self.bursts = self.bursts.wrapping_add(1);
    }
}

/// Turns between two readings of the time-stamp counter for the busy share, where work neither comes nor goes.
const CLOCKED_TURNS: u64 = 1024;

/// Adds up busy and idle time: the counter is read when one changes to the other, so a busy worker hardly pays for it.
struct BusyClock {
    was_busy: bool,
    turns: u64,
    since: u64,
}

impl BusyClock {
    fn begin() -> Self {
        Self { was_busy: false, turns: 0, since: clock::tsc() }
    }

    #[inline(always)]
    fn turn(&mut self, is_busy: bool, lcore: &LcoreCounters) {
        self.turns += 1;
        if is_busy != self.was_busy || self.turns.is_multiple_of(CLOCKED_TURNS) {
            let now = clock::tsc();
            let ticks = now.wrapping_sub(self.since);
            lcore.ticks.add(ticks);
            if self.was_busy {
                lcore.busy_ticks.add(ticks);
            }
            (self.was_busy, self.since) = (is_busy, now);
        }
    }
}

/// The state that the loop keeps from turn to turn.
struct Turns {
    unflushed: u32,
    idle: u32,
    is_resting: bool,
    busy: BusyClock,
}

/// The buffers that one turn works in.
struct TurnBuffers {
    burst: MbufBurst,
    linear: Linear,
    matches: Matches,
    copies: Copies,
    flows: Flows,
    lens: [u32; MAX_BURST],
    stamps: Stamps,
    latency: LatencySampler,
    profile: Profile,
    /// With `panic-dump`, the burst's packets once more: stages give them away.
    evidence: MbufBurst,
}

/// Why the worker loop was left.
enum Leaves {
    /// The control thread changed something.
    Change,
    /// The phase is `Stopped`.
    Stop,
}

impl TurnBuffers {
    fn new(worker: &Worker) -> Self {
        let StageBuffers { matches, copies, flows } = StageBuffers::new(&worker.plan);
        Self {
            burst: MbufBurst::default(),
            linear: Linear::default(),
            matches,
            copies,
            flows,
            lens: [0; MAX_BURST],
            stamps: Stamps::default(),
            latency: LatencySampler::default(),
            profile: Profile::new(worker.is_profiled),
            evidence: MbufBurst::default(),
        }
    }
}

impl Worker {
    /// Works until the phase is `Stopped`; then gives itself back, with what could not be sent.
    ///
    /// A stage that panics costs the burst that it worked on: the loop is entered again behind it.
    pub fn run(mut self) -> Self {
        let mut buffers = TurnBuffers::new(&self);
        let mut turns = Turns { unflushed: 0, idle: 0, is_resting: false, busy: BusyClock::begin() };
        self.panics.begin();
        self.refit();
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.work(&mut buffers, &mut turns))) {
                Ok(Leaves::Change) => self.adopt(&mut buffers),
                Ok(Leaves::Stop) => return self,
                Err(panic) if self.recover(&mut buffers, panic.as_ref()) => {}
                Err(panic) => resume_unwind(panic),
            }
        }
    }

    /// Turns, one after another, until there is a reason to leave them.
    fn work(&mut self, buffers: &mut TurnBuffers, turns: &mut Turns) -> Leaves {
        // held here, so that a turn need not look them up after every call
        let (plan, counters) = (Arc::clone(&self.plan), Arc::clone(&self.counters));
        loop {
            if self.live.refresh().is_some() {
                return Leaves::Change;
            }
            let phase = match self.phase.get() {
                phase if !self.panics.is_retired() => phase,
                Phase::Stopped => Phase::Stopped,
                _ => Phase::Draining,
            };
            let is_busy = match phase {
                Phase::Running => {
                    // only looked at mostly: another worker's may be on the same cache line
                    if self.quiet_turns.load(Ordering::Relaxed) != 0 {
                        self.quiet_turns.store(0, Ordering::Relaxed);
                    }
                    if std::mem::take(&mut turns.is_resting) {
                        self.intakes.iter_mut().for_each(Intake::resume);
                    }
                    self.turn(&plan, &counters, buffers, &mut turns.unflushed)
                }
                Phase::Paused if self.plan.inputs.iter().any(|input| input.is_bypass) => {
                    let has_received = self.bypass(buffers);
                    let is_left = self.empty_rings(&plan, &counters, buffers);
                    let flushed = flush(&mut self.outlets, Held::Leave, self.live.get(), &self.counters);
                    self.note_quiet(!is_left && !flushed.are_copies_left);
                    has_received | is_left | flushed.has_moved
                }
                phase @ (Phase::Waiting | Phase::Paused | Phase::Draining) => {
                    let is_left = self.empty_rings(&plan, &counters, buffers);
                    let flushed = flush(&mut self.outlets, Held::Leave, self.live.get(), &self.counters);
                    // what waits for a tool that is down may wait for ever: a pause does not wait for it, and loses nothing of it
                    let waits = flushed.are_copies_left | flushed.are_originals_left;
                    self.note_quiet(
                        !is_left && !if phase == Phase::Draining { flushed.is_left } else { waits },
                    );
                    is_left | flushed.has_moved
                }
                Phase::Stopped => {
                    self.report_tunnels();
                    return Leaves::Stop;
                }
            };
            if !turns.is_resting && matches!(self.phase.get(), Phase::Waiting | Phase::Paused) {
                turns.is_resting = true;
                self.intakes.iter_mut().for_each(Intake::pause);
            }
            self.counters.lcore.turns.add(1);
            self.counters.lcore.enter(Stage::Idle);
            turns.busy.turn(is_busy, &self.counters.lcore);
            if is_busy {
                turns.idle = 0;
            } else {
                turns.idle = u32::saturating_add(turns.idle, 1);
                self.report_tunnels();
                self.counters.lcore.idle_turns.add(1);
                rest(self.plan.idle, turns.idle, &self.counters.lcore);
            }
        }
    }

    /// Sets right what a stage that unwound left half done: every mbuf of the burst is freed, every packet has a disposition, every
    /// copy an end, and nothing of the burst is seen by the next. Returns whether the worker can go on.
    #[cold]
    #[inline(never)]
    fn recover(&mut self, buffers: &mut TurnBuffers, panic: &(dyn Any + Send)) -> bool {
        let counters = &self.counters;
        let stage = counters.lcore.stage();
        let dump = self.plan.panic_dump.as_deref().map(|folder| {
            let burst = if buffers.evidence.is_empty() { &buffers.burst } else { &buffers.evidence };
            panics::dump(folder, burst, &buffers.stamps)
        });
        buffers.evidence.clear();
        buffers.burst.clear();
        if let Some(maker) = &mut self.maker {
            maker.made.iter_mut().for_each(Made::clear);
        }
        let dropped = self.outlets.mend(&buffers.copies, counters);
        let mut handed = self.handed_before;
        for spread in self.intakes.iter_mut().filter_map(|intake| intake.spread.as_mut()) {
            spread.mend();
            handed += spread.handed();
        }
        let received = counters.received() + counters.lcore.from_rings.get();
        let ended = counters.dispositions.iter().map(Counter::get).sum::<u64>() + handed;
        let failed = received.saturating_sub(ended);
        counters.settle(Disposition::Failed, failed);
        buffers.matches.clear();
        buffers.copies.reset();
        buffers.flows.clear();
        counters.lcore.panics.add(1);
        let note = PanicNote { stage, text: String::new(), failed, dropped, dump, is_last: false };
        self.panics.note(Instant::now(), panic, note)
    }

    /// Goes on with what the control thread changed: with another plan, where it left the worker's part of one.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self, buffers: &mut TurnBuffers) {
        match self.swap.take() {
            Some(Offer::Plan(part)) => self.take_up(part, buffers),
            Some(Offer::Release(mut release)) => {
                release.take_away(&mut self.outlets);
                self.swap.give_back(Offer::Release(release));
            }
            None => {}
        }
        if let Some(maker) = &mut self.maker {
            maker.adopt(self.live.get());
        }
        self.refit();
    }

    /// Goes on with another plan.
    fn take_up(&mut self, mut part: Box<PlanPart>, buffers: &mut TurnBuffers) {
        let begun_ns = thread_cpu_ns();
        if let Some(setup) = &mut part.setup {
            // what receive lcores have handed over of ports that leave: they have let go of those
            let is_leaving = |intake: &Intake| intake.is_ring() && setup.ports[intake.port].is_none();
            let leaving: Vec<usize> =
                (0..self.intakes.len()).filter(|&at| is_leaving(&self.intakes[at])).collect();
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.empty(&leaving, buffers))) {
                if !self.recover(buffers, panic.as_ref()) {
                    resume_unwind(panic);
                }
            }
            self.handed_before += setup.change_intakes(&mut self.intakes);
            if self.phase.get() == Phase::Running {
                // those of ports that were stopped
                self.intakes.iter_mut().for_each(Intake::resume);
            }
            self.is_in_step = self.intakes.iter_mut().filter_map(Intake::next_in_step).count() > 1;
            setup.change_outlets(&mut self.outlets);
            setup.change_uses(&mut self.uses);
            self.counters.lcore.left_nothing.set(0);
        }
        part.carry_over(&mut self.states, &self.counters);
        // the loop has given up its own: the last owner of what is big is then the part, which the control thread drops
        swap(&mut self.plan, &mut part.plan);
        swap(&mut self.counters, &mut part.counters);
        swap(&mut self.states, &mut part.states);
        swap(&mut self.maker, &mut part.maker);
        swap(&mut self.live, &mut part.live);
        swap(&mut buffers.matches, &mut part.buffers.matches);
        swap(&mut buffers.copies, &mut part.buffers.copies);
        swap(&mut buffers.flows, &mut part.buffers.flows);
        for (tool, limits) in part.limits.drain(..) {
            self.outlets.egresses[tool.egress()].set_limits(limits);
        }
        part.taken_up_ns = clock::monotonic_ns();
        part.paused_ns = thread_cpu_ns().saturating_sub(begun_ns);
        self.swap.give_back(Offer::Plan(part));
    }

    /// Carries all that waits in rings that nobody fills any more.
    fn empty(&mut self, rings: &[usize], buffers: &mut TurnBuffers) {
        let (plan, counters) = (Arc::clone(&self.plan), Arc::clone(&self.counters));
        for &at in rings {
            while receive(
                &mut self.intakes[at],
                plan.burst,
                &mut buffers.burst,
                &mut buffers.stamps,
                &counters,
            ) > 0
            {
                self.carry(&plan, &counters, buffers, at, None);
            }
        }
    }

    /// Tools take the frames that their ports' MTUs allow by the state in force.
    fn refit(&mut self) {
        let egresses = self.outlets.egresses.iter_mut().zip(&self.counters.egresses);
        for ((outlet, counters), fit) in egresses.zip(&self.live.get().fits) {
            if let Some(fit) = *fit {
                outlet.refit(fit, counters);
            }
        }
    }

    /// Polls every receive queue once and carries what came to the tools. Returns whether there was anything to do. `plan` and
    /// `counters` are the worker's own.
    #[inline(always)]
    fn turn(
        &mut self,
        plan: &WorkPlan,
        counters: &WorkerCounters,
        buffers: &mut TurnBuffers,
        unflushed_turns: &mut u32,
    ) -> bool {
        // an lcore that transmits for others has nothing to poll, and does not wait for more
        let (mut is_busy, mut is_full) = (false, !self.intakes.is_empty());
        // packets that are older than those seen may wait in a queue, or in a file
        let mut held = Held::Expire;
        if self.is_in_step {
            keep_step(&mut self.intakes);
        }
        for at in 0..self.intakes.len() {
            buffers.profile.begin(&counters.lcore);
            let polled = buffers.latency.poll();
            let intake = &mut self.intakes[at];
            let is_plain = intake.is_plain();
            let mut limit = plan.burst;
            if !is_plain {
                let maker = self.maker.as_mut().filter(|_| plan.inputs[intake.port].needs_copies);
                limit = intake.room(limit, &self.outlets, &self.live, maker);
                if limit == 0 {
                    if intake.is_stopped {
                        is_full = false;
                    } else if intake.is_flat_out() {
                        (is_full, held) = (false, Held::Stay);
                    }
                    continue;
                }
            }
            let received = receive(intake, limit, &mut buffers.burst, &mut buffers.stamps, counters);
            if received > 0 {
                fault::panics("receive");
            }
            is_full &= received == limit;
            if received == limit || !is_plain && intake.is_behind() {
                held = Held::Stay;
            }
            if received == 0 {
                continue;
            }
            is_busy = true;
            let polled =
                polled.map(|polled| self.intakes[at].received_at(polled, &buffers.burst, &mut self.clock));
            self.carry(plan, counters, buffers, at, polled);
        }
        *unflushed_turns += 1;
        if !is_full || *unflushed_turns >= FLUSH_TURNS {
            *unflushed_turns = 0;
            counters.lcore.enter(Stage::Flush);
            is_busy |= flush(&mut self.outlets, held, self.live.get(), counters).has_moved;
        }
        is_busy
    }

    /// Carries the burst to where its port's packets go.
    #[inline(always)]
    fn carry(
        &mut self,
        plan: &WorkPlan,
        counters: &WorkerCounters,
        buffers: &mut TurnBuffers,
        at: usize,
        polled: Option<u64>,
    ) {
        let received = buffers.burst.len();
        let intake = &self.intakes[at];
        buffers.latency.received();
        if plan.panic_dump.is_some() {
            buffers.evidence = buffers.burst.again();
        }
        if intake.spread.is_some() {
            self.spread(buffers, at);
        } else {
            let input = &plan.inputs[intake.port];
            if let Some(straight) = &input.straight
                && self.live.get().go_straight[intake.port]
            {
                // what the next poll reads first may have gone to another worker, on another queue of the port
                if let Source::Queue { rxq, .. } = &intake.source {
                    rxq.load_ahead();
                }
                settle_straight(straight, received, counters);
                buffers.profile.enter(&counters.lcore, Stage::Egress);
                egress_straight(
                    &mut self.outlets,
                    &straight.egresses,
                    &mut buffers.burst,
                    polled,
                    counters,
                );
            } else {
                self.judge(buffers, at, polled);
            }
        }
        if plan.panic_dump.is_some() {
            buffers.evidence.clear();
        }
        buffers.profile.end(&counters.lcore, received);
    }

    /// Hands a burst to the work lcores.
    #[inline(never)]
    fn spread(&mut self, buffers: &mut TurnBuffers, at: usize) {
        let intake = &mut self.intakes[at];
        buffers.profile.enter(&self.counters.lcore, Stage::Egress);
        if intake.spread.as_ref().is_some_and(|spread| spread.needs_times()) {
            intake.stamp(&buffers.burst, &mut self.clock, &mut buffers.stamps);
        }
        let Some(spread) = &mut intake.spread else { return };
        let refused = spread.send(&mut buffers.burst, &mut buffers.linear, &buffers.stamps);
        if refused > 0 {
            self.counters.lose(intake.port, refused as u64);
        }
    }

    /// Carries what receive lcores have handed over, a burst of each ring. Returns whether there was anything.
    fn empty_rings(
        &mut self,
        plan: &WorkPlan,
        counters: &WorkerCounters,
        buffers: &mut TurnBuffers,
    ) -> bool {
        let mut is_left = false;
        for at in 0..self.intakes.len() {
            if !self.intakes[at].is_ring() {
                continue;
            }
            let limit = plan.burst;
            let received =
                receive(&mut self.intakes[at], limit, &mut buffers.burst, &mut buffers.stamps, counters);
            if received > 0 {
                is_left = true;
                self.carry(plan, counters, buffers, at, None);
            }
        }
        is_left
    }

    /// Tells the control thread what was counted where tunnels end.
    fn report_tunnels(&mut self) {
        self.intakes
            .iter_mut()
            .filter_map(|intake| intake.endpoint.as_mut())
            .for_each(|endpoint| endpoint.report());
    }

    fn note_quiet(&self, is_quiet: bool) {
        let turns = if is_quiet { self.quiet_turns.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.quiet_turns.store(turns, Ordering::Release);
    }

    /// Stamps a burst and ends its tunnels. Gives the packets that are left, and whether they have times.
    #[inline(always)]
    fn admit(&mut self, buffers: &mut TurnBuffers, at: usize) -> (Selection, bool) {
        let intake = &mut self.intakes[at];
        let input = &self.plan.inputs[intake.port];
        let is_stamped = input.needs_stamps || input.needs_time && intake.has_times();
        if is_stamped {
            intake.stamp(&buffers.burst, &mut self.clock, &mut buffers.stamps);
        }
        if intake.is_cold && input.needs_frames {
            buffers.burst.load_ahead();
        }
        fault::panics("stamp");
        let mut all = buffers.burst.all();
        if let Some(endpoint) = &mut intake.endpoint {
            all = endpoint.terminate(
                &mut buffers.burst,
                &mut buffers.linear,
                is_stamped.then_some(&mut buffers.stamps),
                intake.local_frames.as_deref(),
            );
        }
        (all, is_stamped)
    }

    /// Carries a burst through the stages that look at packets.
    // apart from `turn`, whose registers then are those of the straight way
    #[inline(never)]
    fn judge(&mut self, buffers: &mut TurnBuffers, at: usize, polled: Option<u64>) {
        let is_stamped = self.decide(buffers, at, &mut ());
        buffers.profile.enter(&self.counters.lcore, Stage::Egress);
        let intake = &self.intakes[at];
        let stamps = if is_stamped { &buffers.stamps } else { &Stamps::NONE };
        let origin = Origin { port: intake.attachment, stamps };
        let made = made_for(&self.plan.inputs[intake.port], &mut self.maker);
        egress(
            &mut self.outlets,
            &buffers.copies,
            made,
            &mut buffers.burst,
            origin,
            polled,
            &self.counters,
        );
    }

    /// Decides what becomes of a burst's packets, and makes the copies that are not the packets themselves: all that comes before egress.
    /// `witness` is told of it. Returns whether the packets have times.
    #[inline(always)]
    fn decide<W: Witness>(&mut self, buffers: &mut TurnBuffers, at: usize, witness: &mut W) -> bool {
        buffers.profile.enter(&self.counters.lcore, Stage::Classify);
        let (mut all, is_stamped) = self.admit(buffers, at);
        let intake = &mut self.intakes[at];
        let input = &self.plan.inputs[intake.port];
        let mut frames = Frames::new();
        let mut own = Selection::NONE;
        let is_classified =
            classify_mbufs(&input.classifier, all, buffers.burst.mbuf_frames(), &mut buffers.matches);
        if input.needs_frames && !is_classified {
            buffers.burst.frames(&mut buffers.linear, &mut frames);
            buffers.flows.clear();
            if intake.gives_rss {
                buffers.flows.take_rss(|hashes| buffers.burst.rss_hashes(hashes));
            }
            if let Some(endpoint) = &mut intake.endpoint {
                buffers.flows.take_outer(endpoint.outer());
            }
            if let Some(local_frames) = &intake.local_frames {
                let port = &self.counters.ports[intake.port];
                // the end of tunnels has offered what came in none
                own = match intake.endpoint {
                    Some(_) => local_frames.take_heartbeats(&frames, port),
                    None => local_frames.punt(&frames, port),
                };
                all -= own;
            }
        }
        witness.admitted(all);
        if !is_classified {
            classify(&input.classifier, all, &frames, &mut buffers.flows, &mut buffers.matches);
        }
        buffers.profile.enter(&self.counters.lcore, Stage::Route);
        if input.needs_lens {
            buffers.burst.lens(&mut buffers.lens);
        }
        // until a clock is fitted, its times are no ones to go by
        let are_own = input.needs_time && intake.has_times() && !(all - buffers.stamps.degraded).is_empty();
        let polled_ns = if input.needs_time && !are_own { clock::now_ns() } else { 0 };
        let times = if are_own { Times::each(&buffers.stamps.ns) } else { Times::one(&polled_ns) };
        if input.notes_time && !all.is_empty() {
            self.counters.ports[intake.port].note_time(times.last_of(all));
        }
        let stamps = if is_stamped { &buffers.stamps } else { &Stamps::NONE };
        let mut view = BurstView {
            plan: &self.plan,
            counters: &self.counters,
            burst: &buffers.burst,
            all,
            frames: &frames,
            flows: &mut buffers.flows,
            // those of an earlier burst are not shown
            lens: if input.needs_lens { &buffers.lens[..] } else { &[] },
            port: intake.port,
            times,
            stamps,
            live: self.live.get(),
            uses: &self.uses,
        };
        route(input, &mut buffers.matches, &mut view, &mut self.states, &mut buffers.copies, witness);
        let unparsed = view.flows.unparsed();
        if !unparsed.is_empty() && input.needs_frames && !is_classified {
            self.counters.ports[intake.port].unparsed.add(u64::from(unparsed.count()));
        }
        if input.needs_copies
            && let Some(maker) = &mut self.maker
        {
            maker.make(&mut view, &mut buffers.copies, witness);
        }
        drop(frames);
        settle(&buffers.copies, buffers.burst.all() - own, &self.counters, witness);
        is_stamped
    }

    /// Forwards what comes on wires with a bypass, while rules do not run. Returns whether anything came.
    fn bypass(&mut self, buffers: &mut TurnBuffers) -> bool {
        let mut is_busy = false;
        for intake in &mut self.intakes {
            let input = &self.plan.inputs[intake.port];
            let limit = self.plan.burst;
            if input.is_bypass
                && !intake.is_stopped
                && receive(intake, limit, &mut buffers.burst, &mut buffers.stamps, &self.counters) > 0
            {
                is_busy = true;
                let origin = Origin { port: intake.attachment, stamps: &buffers.stamps };
                buffers.copies.begin(input, buffers.burst.all(), self.live.get(), &self.counters);
                settle(&buffers.copies, buffers.burst.all(), &self.counters, &mut ());
                egress(
                    &mut self.outlets,
                    &buffers.copies,
                    &mut [],
                    &mut buffers.burst,
                    origin,
                    None,
                    &self.counters,
                );
            }
        }
        is_busy
    }

    /// Counts and frees what could not be sent. Every worker has returned.
    pub fn abandon(&mut self) {
        for intake in &mut self.intakes {
            if let Source::Ring { ring, .. } = &mut intake.source {
                let lost = ring.clear() as u64;
                self.counters.lose(intake.port, lost);
            }
        }
        abandon(&mut self.outlets, &self.counters);
    }
}

/// A worker on no lcore, which makes a turn when it is told to: so that one thread can lead several, in an order that it chooses.
pub struct Led {
    worker: Worker,
    buffers: TurnBuffers,
    unflushed_turns: u32,
}

impl Led {
    pub fn new(mut worker: Worker) -> Self {
        worker.refit();
        Self { buffers: TurnBuffers::new(&worker), worker, unflushed_turns: 0 }
    }

    /// A turn in the phase `Running`. Returns whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        if self.worker.live.refresh().is_some() {
            self.worker.adopt(&mut self.buffers);
        }
        let (plan, counters) = (Arc::clone(&self.worker.plan), Arc::clone(&self.worker.counters));
        self.worker.turn(&plan, &counters, &mut self.buffers, &mut self.unflushed_turns)
    }

    /// As [`turn`](Self::turn); a stage that panics costs the burst that it worked on. Returns whether the worker can go on.
    pub fn survive(&mut self) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.turn())) {
            Ok(_) => true,
            Err(panic) => self.worker.recover(&mut self.buffers, panic.as_ref()),
        }
    }

    /// A turn in the phase `Paused`, of a plan that has a bypass. Returns whether there was anything to do.
    pub fn bypass(&mut self) -> bool {
        self.worker.bypass(&mut self.buffers) | self.drain()
    }

    /// A turn in the phase `Draining`. Returns whether there was anything to do.
    pub fn drain(&mut self) -> bool {
        let (plan, counters) = (Arc::clone(&self.worker.plan), Arc::clone(&self.worker.counters));
        let is_left = self.worker.empty_rings(&plan, &counters, &mut self.buffers);
        is_left
            | flush(&mut self.worker.outlets, Held::Leave, self.worker.live.get(), &self.worker.counters)
                .has_moved
    }

    /// Ends the work, as the phase `Stopped` does.
    pub fn stop(mut self) -> Worker {
        self.worker.report_tunnels();
        self.worker
    }
}

/// Gives the copies that were made of an input's packets, or nothing where none are.
#[inline(always)]
fn made_for<'a>(input: &InputPlan, maker: &'a mut Option<Maker>) -> &'a mut [Made] {
    match maker {
        Some(maker) if input.needs_copies => &mut maker.made,
        _ => &mut [],
    }
}

/// Lets replays that share a tool with `order` go on in step: none is ahead of the next packet of another by more than the window,
/// so that all their packets can be put in order, however fast they are read.
fn keep_step(intakes: &mut [Intake]) {
    for index in 0..intakes.len() {
        let mut next_ns = u64::MAX;
        for (_, other) in intakes.iter_mut().enumerate().filter(|(other, _)| *other != index) {
            next_ns = next_ns.min(other.next_in_step().unwrap_or(u64::MAX));
        }
        intakes[index].keep_within(next_ns);
    }
}

/// Turns without work before `sleep` begins to sleep.
const TURNS_BEFORE_SLEEP: u32 = 1000;

#[cold]
fn rest(idle: Idle, idle_turns: u32, lcore: &LcoreCounters) {
    match idle {
        Idle::Poll => {}
        Idle::Pause => clock::pause(),
        Idle::Sleep { longest } => {
            if idle_turns > TURNS_BEFORE_SLEEP {
                let step = Duration::from_micros(u64::from(idle_turns - TURNS_BEFORE_SLEEP));
                lcore.sleeps.add(1);
                std::thread::sleep(step.min(longest));
            } else {
                clock::pause();
            }
        }
    }
}
