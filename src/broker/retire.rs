//! Retire: a plan takes the place of another, and what it has no more goes.
//!
//! Workers trade their parts between two bursts: those that poll ports first, so that nothing comes any more over rings that leave.
//! Then queues of tools that leave are emptied, for at most [`DRAIN_LIMIT`]; workers let go of them; writers of captures end; and the
//! last handle of a port stops, closes and detaches it. All of it is looked at every few milliseconds, and nobody waits for it.

use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clocks::PortClock;
use super::device::Device;
use super::kept::Kept;
use super::outputs::{Locked, Outputs};
use super::pcap_output::Written;
use super::prepare::Machinery;
use super::recorder::Recorder;
use super::start::memory::Pools;
use super::start::queues::{SpareTxq, has_captures};
use super::watch::{Moved, Watch};
use super::{Broker, DRAIN_LIMIT};
use crate::plan::Plan;
use crate::plan::value::PortPlan;
use tapline_api::event::Event;
use tapline_api::snapshot::DriverStats;
use tapline_api::words::{DropReason, LinkState};
use tapline_datapath::counters::{EgressCounters, WriterCounters};
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::ids::{Attachment, EgressId, GroupId, PortId, ToolId, WireId};
use tapline_datapath::receive::Intake;
use tapline_datapath::receive::decap::EndpointReport;
use tapline_datapath::swap::plan_part::{Offer, PlanPart};
use tapline_datapath::swap::published::LiveCell;
use tapline_datapath::swap::setup::{NextOutlet, Release, Setup};
use tapline_dpdk::clock;
use tapline_dpdk::eal::KeptDevice;
use tapline_packet::by_id::{ById, Id};

/// A change of the plan that is over.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Swapped {
    pub moved: Vec<Moved>,
    /// From the offer to the last worker that took it up.
    pub swapped_us: u64,
    /// The longest CPU time that a worker needed between its last burst by the plan before and its first by this one.
    pub paused_ns: u64,
}

/// How far a change is.
#[derive(Default)]
enum Stage {
    /// Workers trade their parts.
    #[default]
    Swapping,
    /// Copies that wait for tools that leave are sent. `seen` are the workers' flushes that left nothing, once all had one.
    Draining { until: Instant, seen: Option<Vec<u64>> },
    /// Workers let go of outlets that leave.
    Releasing,
    /// Writers of captures that leave end.
    Closing { until: Instant },
}

/// The parts of the plan before that leave, until all of them are gone.
#[derive(Default)]
pub(super) struct Retirement {
    pub notes: Vec<Event>,
    pub writers: Option<Arc<WriterCounters>>,
    /// Wires whose links a driver cannot set, where ports are others.
    pub untied: Option<ById<WireId, bool>>,
    stage: Stage,
    /// Parts of workers that take theirs behind those that poll ports.
    second: Vec<(usize, Box<PlanPart>)>,
    /// Workers that have the plan before look here.
    cell: Option<Arc<LiveCell>>,
    /// Each worker has the new places of its transmit queues, if outlets leave; a queue without a place is given up.
    txqs: Vec<Vec<Option<usize>>>,
    /// Outlets of tools or wires leave.
    is_leaving: bool,
    intakes: Vec<Intake>,
    released: Vec<(usize, Box<Release>)>,
    /// The devices that leave, with their ports' names and what they had counted when they did.
    devices: Vec<(Device, DriverStats)>,
    files: Vec<Locked>,
    written: Vec<Written>,
    /// With what counts the tool: the workers, and the writer at last.
    recorders: Vec<(Recorder, Vec<Arc<EgressCounters>>)>,
    swapped: Swapped,
    offered_ns: u64,
    taken_up_ns: u64,
}

impl Machinery {
    /// The links of a plan's ports, and what they take: those that are kept as the watch knows them, and those that were gone as such,
    /// so that it is told that they are back.
    pub(super) fn links_and_fits(
        &self,
        plan: &Plan,
        watch: &Watch,
        kept: &Kept,
    ) -> (ById<PortId, Option<LinkState>>, ById<PortId, Option<FrameLimits>>) {
        let (links, fits) = watch.links_and_fits();
        let link = |(id, device): (PortId, &Device)| match kept.devices[id] {
            Some(from) => links[from],
            None => {
                let gone =
                    kept.ports[id].and_then(|from| links[from]).filter(|link| *link == LinkState::Gone);
                gone.or_else(|| device.link_state())
            }
        };
        let fit = |(id, port): (PortId, &PortPlan)| match kept.devices[id] {
            Some(from) => fits[from],
            None => FrameLimits::of(&port.devargs, self.mtus[id], port.mtu),
        };
        (self.ports.entries().map(link).collect(), plan.ports.entries().map(fit).collect())
    }
}

/// Values that go on in another plan, and those of `new` for what comes.
fn go_on<I: Id, T>(
    before: &mut ById<I, Option<T>>,
    mut new: ById<I, Option<T>>,
    from: &ById<I, Option<I>>,
) -> ById<I, Option<T>> {
    for (id, from) in from.entries() {
        if let Some(from) = from {
            new[id] = before[*from].take();
        }
    }
    new
}

impl Broker {
    /// Returns whether something of the plan before is left.
    pub fn is_retiring(&self) -> bool {
        self.retirement.is_some()
    }

    /// Returns the last change that is over.
    pub fn swapped(&self) -> Option<&Swapped> {
        self.swapped.as_ref()
    }

    /// This is what workers poll and send by where nothing but groups differs.
    pub(super) fn setups_for_groups(
        &self,
        plan: &Plan,
        kept: &Kept,
        noted: Vec<(GroupId, GroupId)>,
        is_same: bool,
    ) -> Vec<Option<Box<Setup>>> {
        let local_frames: ById<PortId, _> =
            kept.ports.ids().map(|port| self.neighbours.local_frames_of(port)).collect();
        let setup = |worker: usize| {
            (!is_same).then(|| {
                Box::new(Setup {
                    ports: kept.devices_after.clone(),
                    stopped: plan.ports.iter().map(|port| port.is_stopped).collect(),
                    intakes: Vec::new(),
                    local_frames: local_frames.clone(),
                    egresses: kept.kinds.all().map(|(id, _)| NextOutlet::Kept(id)).collect(),
                    moved: kept.kinds.all().map(|(id, _)| id).collect(),
                    txqs: Vec::new(),
                    handovers: Vec::new(),
                    control_frames: Vec::new(),
                    kinds: kept.kinds,
                    has_captures: has_captures(plan),
                    tx_burst: plan.settings.burst,
                    time_place: None,
                    uses: self.watch.uses_of(worker),
                    noted: noted.clone(),
                    left: Vec::new(),
                    passing: Vec::with_capacity(kept.kinds.count()),
                })
            })
        };
        (0..self.workers.handles.len()).map(setup).collect()
    }

    /// Takes over the ports and queues that were set up. Gives what each worker gets of them, and what leaves.
    pub(super) fn change_machinery(
        &mut self,
        plan: &Plan,
        kept: &Kept,
        new: Machinery,
        noted: Vec<(GroupId, GroupId)>,
    ) -> (Vec<Option<Box<Setup>>>, Retirement) {
        let leaving = kept.leaving();
        let mut retirement = Retirement {
            is_leaving: !leaving.is_empty(),
            notes: new.notes,
            writers: new.writers,
            ..Retirement::default()
        };
        let mut moved = ById::filled(kept.kinds_before.count(), EgressId(0));
        for (to, from) in kept.outlets.entries() {
            if let Some(from) = from {
                moved[*from] = to;
            }
        }
        for (place, id) in leaving.iter().enumerate() {
            moved[*id] = EgressId(kept.kinds.count() + place);
        }
        let mut layout = new.layout;
        let mut spare = take(&mut self.machine.spare);
        let mut setups = Vec::new();
        for (worker, (intakes, ways)) in new.intakes.into_iter().zip(new.ways).enumerate() {
            let mut egresses = ways.egresses;
            leaving.iter().for_each(|&id| egresses.push(NextOutlet::Kept(id)));
            let left = self.layout.polled[worker]
                .iter()
                .filter(|polled| kept.devices_after[polled.port].is_none());
            setups.push(Some(Box::new(Setup {
                ports: kept.devices_after.clone(),
                stopped: plan.ports.iter().map(|port| port.is_stopped).collect(),
                left: Vec::with_capacity(left.count()),
                intakes,
                local_frames: new.local_frames.clone(),
                egresses,
                moved: moved.clone(),
                txqs: ways.txqs.into_iter().filter_map(|txq| txq.take(&mut spare)).collect(),
                handovers: ways.handovers,
                control_frames: ways.control_frames,
                kinds: kept.kinds,
                has_captures: has_captures(plan),
                tx_burst: plan.settings.burst,
                time_place: ways.time_place,
                uses: self.watch.uses_of(worker),
                noted: noted.clone(),
                passing: Vec::with_capacity(kept.kinds_before.count()),
            })));
        }
        self.machine.spare = new
            .spare
            .into_iter()
            .map(|txqs| txqs.into_iter().map(|txq: Option<SpareTxq>| txq?.take(&mut spare)).collect())
            .collect();
        if !leaving.is_empty() || kept.detached().next().is_some() {
            retirement.txqs = layout.release();
        }
        self.layout = layout;
        self.roles = new.roles;
        self.change_machine(
            kept,
            &mut retirement,
            ChangedMachine {
                ports: new.ports,
                attachments: new.attachments,
                clocks: new.clocks,
                reports: new.reports,
                mtus: new.mtus,
                pools: new.pools,
                outputs: new.outputs,
                written: new.written,
            },
        );
        retirement.untied = Some(new.untied);
        self.neighbours.go_on(new.neighbours, &kept.devices, &kept.tools);
        self.change_recorders(kept, new.recorders, &mut retirement);
        (setups, retirement)
    }

    fn change_machine(&mut self, kept: &Kept, retirement: &mut Retirement, new: ChangedMachine) {
        let machine = &mut self.machine;
        let leaving = |port| (machine.ports[port].clone(), machine.ports[port].stats());
        retirement.devices = kept.detached().map(leaving).collect();
        let earlier = |(id, from): (PortId, &Option<PortId>)| match (from, kept.devices[id]) {
            (Some(from), Some(_)) => machine.earlier[*from],
            (Some(from), None) => machine.driver_stats(*from),
            (None, _) => DriverStats::default(),
        };
        machine.earlier = kept.ports.entries().map(earlier).collect();
        machine.ports = new.ports;
        machine.attachments = new.attachments;
        machine.clocks.go_on(&kept.devices, new.clocks);
        machine.mtus = new.mtus;
        machine.pools = new.pools;
        retirement.files = machine.outputs.go_on(new.outputs, &kept.devices);
        let written = go_on(&mut machine.written, new.written, &kept.devices);
        let left = std::mem::replace(&mut machine.written, written);
        retirement.written = left.into_iter().flatten().collect();
        let mut reports = new.reports;
        for (id, from) in kept.devices.entries() {
            if let Some(from) = from {
                reports[id] = take(&mut machine.reports[*from]);
            }
        }
        machine.reports = reports;
    }

    /// Writers go on under the ids of the plan; those whose tools it has not leave.
    fn change_recorders(&mut self, kept: &Kept, new: Vec<Recorder>, retirement: &mut Retirement) {
        for mut recorder in take(&mut self.recorders) {
            let id = recorder.tool.egress();
            let place = kept.outlets.entries().find(|(_, from)| **from == Some(id)).map(|(to, _)| to);
            match place {
                Some(to) => {
                    recorder.tool = ToolId(to.0);
                    self.recorders.push(recorder);
                }
                None => {
                    let workers =
                        self.account.counters.iter().map(|worker| Arc::clone(&worker.egresses[id]));
                    let writer = self
                        .account
                        .writers
                        .iter()
                        .map(|writers| Arc::clone(&writers.tools[recorder.tool]));
                    let counters = workers.chain(writer).collect();
                    retirement.recorders.push((recorder, counters));
                }
            }
        }
        self.recorders.extend(new);
    }

    /// Offers the workers their parts: first those that poll ports for others, so that rings that leave are filled no more when their
    /// other ends are given up.
    #[expect(clippy::vec_box, reason = "workers are handed pointers to their parts")]
    pub(super) fn begin_retirement(
        &mut self,
        mut retirement: Retirement,
        parts: Vec<Box<PlanPart>>,
        moved: Vec<Moved>,
        cell: &Arc<LiveCell>,
    ) {
        let have_rings = !retirement.devices.is_empty() && self.roles.receive != self.roles.work;
        retirement.offered_ns = clock::monotonic_ns();
        for (worker, part) in parts.into_iter().enumerate() {
            if have_rings && !self.roles.receive.contains(&worker) {
                retirement.second.push((worker, part));
            } else {
                self.workers.handles[worker].swap.offer(Offer::Plan(part));
            }
        }
        retirement.swapped.moved = moved;
        retirement.cell = Some(Arc::clone(cell));
        self.retirement = Some(retirement);
    }

    /// Takes what workers gave back, and goes on with what leaves.
    pub(super) fn retire(&mut self) {
        let Some(mut retirement) = self.retirement.take() else { return };
        self.collect(&mut retirement);
        let is_over = match retirement.stage {
            Stage::Swapping => self.swap_on(&mut retirement),
            Stage::Draining { .. } => self.drain_on(&mut retirement),
            Stage::Releasing => self.release_on(&mut retirement),
            Stage::Closing { until } => self.close_on(&mut retirement, until),
        };
        if is_over {
            self.end_retirement(retirement);
        } else {
            self.retirement = Some(retirement);
        }
    }

    fn collect(&mut self, retirement: &mut Retirement) {
        for (worker, handle) in self.workers.handles.iter().enumerate() {
            match handle.swap.collect() {
                Some(Offer::Plan(mut part)) => {
                    retirement.taken_up_ns = retirement.taken_up_ns.max(part.taken_up_ns);
                    let paused_ns = &mut retirement.swapped.paused_ns;
                    *paused_ns = part.paused_ns.max(*paused_ns);
                    if let Some(setup) = &mut part.setup {
                        retirement.intakes.append(&mut setup.left);
                    }
                    self.account.traded(worker);
                }
                Some(Offer::Release(release)) => retirement.released.push((worker, release)),
                None => {}
            }
        }
    }

    /// Returns whether the change is over.
    fn swap_on(&mut self, retirement: &mut Retirement) -> bool {
        let is_over = |worker: usize| self.account.is_traded(worker);
        let waits: Vec<usize> = retirement.second.iter().map(|(worker, _)| *worker).collect();
        if !waits.is_empty() {
            if (0..self.workers.handles.len()).all(|worker| waits.contains(&worker) || is_over(worker)) {
                for (worker, part) in retirement.second.drain(..) {
                    self.workers.handles[worker].swap.offer(Offer::Plan(part));
                }
                retirement.cell.iter().for_each(|cell| cell.wake());
            }
            return false;
        }
        if self.account.retiring.is_some() {
            return false;
        }
        retirement.swapped.swapped_us = retirement.taken_up_ns.saturating_sub(retirement.offered_ns) / 1000;
        if retirement.txqs.is_empty() {
            return true;
        }
        retirement.stage = Stage::Draining { until: Instant::now() + DRAIN_LIMIT, seen: None };
        false
    }

    /// Lets workers go of what leaves, once it is empty or its time is up. The change is not over by that.
    fn drain_on(&mut self, retirement: &mut Retirement) -> bool {
        let Stage::Draining { until, seen } = &mut retirement.stage else { return false };
        let flushes: Vec<u64> =
            self.account.counters.iter().map(|worker| worker.lcore.left_nothing.get()).collect();
        let is_empty = match seen {
            // what one handed over another takes in a flush that begins afterwards
            Some(before) => before.iter().zip(&flushes).all(|(before, now)| *now >= before + 2),
            None => false,
        };
        let is_drained = is_empty || !retirement.is_leaving;
        let have_begun_anew = seen
            .as_ref()
            .is_some_and(|before| before.iter().zip(&flushes).any(|(before, now)| now < before));
        if have_begun_anew || seen.is_none() && flushes.iter().all(|&flushes| flushes > 0) {
            *seen = (!have_begun_anew).then_some(flushes);
        }
        if is_drained || Instant::now() >= *until {
            let txqs = take(&mut retirement.txqs);
            for (handle, txqs) in self.workers.handles.iter().zip(txqs) {
                handle.swap.offer(Offer::Release(Box::new(Release { txqs, ..Release::default() })));
            }
            self.watch.cell().wake();
            retirement.stage = Stage::Releasing;
        }
        false
    }

    /// Ends outlets once all workers have let go of them. The change is not over by that.
    fn release_on(&mut self, retirement: &mut Retirement) -> bool {
        if retirement.released.len() < self.workers.handles.len() {
            return false;
        }
        for (worker, mut release) in retirement.released.drain(..) {
            release.end(&self.account.counters[worker]);
        }
        self.watch.let_go();
        retirement.recorders.iter().for_each(|(recorder, ..)| recorder.begin_close());
        retirement.stage = Stage::Closing { until: Instant::now() + DRAIN_LIMIT };
        false
    }

    /// Returns whether all writers have ended, or had their time.
    fn close_on(&mut self, retirement: &mut Retirement, until: Instant) -> bool {
        if Instant::now() < until && !retirement.recorders.iter().all(|(recorder, ..)| recorder.is_ended())
        {
            return false;
        }
        for (recorder, counters) in &mut retirement.recorders {
            recorder.close(Duration::ZERO);
            let ended: u64 = counters.iter().map(|counters| counters.ended()).sum();
            let requested: u64 = counters.iter().map(|counters| counters.requested.get()).sum();
            let unwritten = requested.saturating_sub(ended);
            if let Some(writer) = counters.last() {
                writer.drop_copies(DropReason::Congested, unwritten);
            }
            if recorder.is_stuck() {
                // it may wake up, and what it works with must still be there
                self.machine.eal.keep();
            }
        }
        true
    }

    fn end_retirement(&mut self, mut retirement: Retirement) {
        let swapped = take(&mut retirement.swapped);
        // the last queue of a port stops it
        drop((take(&mut retirement.intakes), take(&mut retirement.released)));
        for (device, counted) in &retirement.devices {
            if let Some((id, _)) = self.plan.ports.entries().find(|(_, port)| port.name == device.name()) {
                let earlier = &mut self.machine.earlier[id];
                *earlier = earlier.plus(&device.stats().since(counted));
            }
        }
        // queues before the ports that they are of
        drop(retirement);
        for kept in self.machine.eal.take_kept() {
            let KeptDevice { port, device, error } = kept.clone();
            self.record(Event::DeviceKept { port, device, error });
            self.machine.kept_devices.push(kept);
        }
        self.account.let_go();
        self.machine.eal.reclaim();
        self.swapped = Some(swapped);
    }

    /// Ends a change that is on its way, as far as workers let it.
    pub(super) fn finish_retirement(&mut self) {
        let until = Instant::now() + 2 * DRAIN_LIMIT;
        while self.retirement.is_some() && self.workers.lost().is_empty() && Instant::now() < until {
            self.retire();
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Every worker has stopped: what still left is over.
    pub(super) fn give_up_retirement(&mut self) {
        let Some(mut retirement) = self.retirement.take() else { return };
        self.collect(&mut retirement);
        for (worker, mut release) in retirement.released.drain(..) {
            release.end(&self.account.counters[worker]);
        }
        retirement.recorders.iter().for_each(|(recorder, ..)| recorder.begin_close());
        let until = Instant::now() + DRAIN_LIMIT;
        while !self.close_on(&mut retirement, until) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.end_retirement(retirement);
    }
}

/// This is what a machine has of a plan.
struct ChangedMachine {
    ports: ById<PortId, Device>,
    attachments: ById<PortId, Attachment>,
    clocks: ById<PortId, PortClock>,
    reports: ById<PortId, Vec<EndpointReport>>,
    mtus: ById<PortId, Option<u32>>,
    pools: Pools,
    outputs: Outputs,
    written: ById<PortId, Option<Written>>,
}
