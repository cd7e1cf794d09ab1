//! Who polls and sends what: each worker's receive queues, and its ways to the tools.

use std::sync::Arc;
use tapline_api::event::{Event, Polled};
use tapline_api::words::HashKind;
use tapline_packet::by_id::ById;

use super::Site;
use super::placement::LcoreRoles;
use super::ports::{StartedPort, interface_mtu, senders_beyond};
use crate::broker::Error;
use crate::broker::refusal::Refusal;
use crate::plan::Plan;
use crate::plan::value::{EgressPlan, Output, PortPlan};
use tapline_datapath::egress::backlog::Backlog;
use tapline_datapath::egress::capture_queue::{BatchRing, CaptureQueue};
use tapline_datapath::egress::gate::Gate;
use tapline_datapath::egress::incoming::Incoming;
use tapline_datapath::egress::merge::Merge;
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::egress::outlet::Outlet;
use tapline_datapath::egress::outlets::{ControlFrames, Outlets};
use tapline_datapath::egress::queue::EgressQueue;
use tapline_datapath::egress::token_bucket::TokenBucket;
use tapline_datapath::egresses::Egress;
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::{EgressId, PortId, ToolId};
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::receive::clock::RxClock;
use tapline_datapath::receive::decap::{Endpoint, EndpointReport};
use tapline_datapath::receive::distribute;
use tapline_datapath::receive::distribute::{RingTimes, Spread};
use tapline_datapath::receive::local_frames::LocalFrames;
use tapline_datapath::receive::{Intake, Source};
use tapline_datapath::swap::setup::NextOutlet;
use tapline_dpdk::mbuf::RxStamp;
use tapline_dpdk::queue::TxQueue;
use tapline_dpdk::ring::{self, Sender, SoleSender};
use tapline_dpdk::{LcoreId, clock, lcore};
use tapline_packet::burst::MAX_BURST;

/// The sources that workers poll.
pub(in crate::broker) struct Intakes {
    /// The new parts of each worker.
    pub of_workers: Vec<Vec<Intake>>,
    /// All that each worker polls.
    pub polled: Vec<Vec<PolledPort>>,
    /// The counters of tunnels that end, by port and by receive queue.
    pub reports: ById<PortId, Vec<EndpointReport>>,
}

/// A transmit queue that no worker has.
pub(in crate::broker) enum SpareTxq {
    New(TxQueue),
    /// One of a port that runs: its id, and the place among its queues. It stays where it is until the plan is in force.
    Kept(PortId, usize),
}

impl SpareTxq {
    /// The queue, if it is a new one.
    pub(in crate::broker) fn into_new(self) -> Option<TxQueue> {
        match self {
            SpareTxq::New(txq) => Some(txq),
            SpareTxq::Kept(..) => None,
        }
    }

    /// The queue, which may be one of those that no worker has by port.
    pub(in crate::broker) fn take(self, spare: &mut ById<PortId, Vec<Option<TxQueue>>>) -> Option<TxQueue> {
        match self {
            SpareTxq::New(txq) => Some(txq),
            SpareTxq::Kept(port, queue) => spare.get_mut(port)?.get_mut(queue)?.take(),
        }
    }
}

/// This is what a worker polls of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) struct PolledPort {
    pub port: PortId,
    /// This is what a receive lcore hands over.
    pub is_ring: bool,
}

/// Who has what of the ports, by worker.
#[derive(Clone, Default)]
pub(in crate::broker) struct Layout {
    pub polled: Vec<Vec<PolledPort>>,
    /// Each worker has, by port, the place of the port's transmit queue among its own, if it owns one.
    pub owned: Vec<ById<PortId, Option<usize>>>,
    /// Transmit queues that the worker has.
    pub txqs: Vec<usize>,
}

impl Layout {
    /// That of the same workers by the ids of another plan, which has the ids before of its ports in `ports`.
    pub(in crate::broker) fn after(
        &self,
        ports: &ById<PortId, Option<PortId>>,
        ports_after: &ById<PortId, Option<PortId>>,
    ) -> Self {
        let polled = |polled: &Vec<PolledPort>| {
            let kept = polled.iter().filter_map(|polled| {
                Some(PolledPort { port: ports_after[polled.port]?, is_ring: polled.is_ring })
            });
            kept.collect()
        };
        let owned =
            |owned: &ById<PortId, Option<usize>>| ports.iter().map(|from| owned[(*from)?]).collect();
        Self {
            polled: self.polled.iter().map(polled).collect(),
            owned: self.owned.iter().map(owned).collect(),
            txqs: self.txqs.clone(),
        }
    }

    /// Gives up the transmit queues that are of no port of the plan. By worker and place before: the place afterwards.
    pub(in crate::broker) fn release(&mut self) -> Vec<Vec<Option<usize>>> {
        let of_worker = |(owned, txqs): (&mut ById<PortId, Option<usize>>, &mut usize)| {
            let mut places = vec![None; *txqs];
            let mut count = 0;
            for (place, after) in places.iter_mut().enumerate() {
                if owned.contains(&Some(place)) {
                    *after = Some(count);
                    count += 1;
                }
            }
            owned.iter_mut().for_each(|owned| *owned = owned.and_then(|place| places[place]));
            *txqs = count;
            places
        };
        self.owned.iter_mut().zip(&mut self.txqs).map(of_worker).collect()
    }

    /// That of workers which have nothing yet.
    pub(in crate::broker) fn empty(workers: usize, ports: usize) -> Self {
        Self {
            polled: vec![Vec::new(); workers],
            owned: vec![ById::filled(ports, None); workers],
            txqs: vec![0; workers],
        }
    }
}

/// Gives each worker its receive queues, whose workers put into `local_frames` what is for Tapline itself.
///
/// A queue goes to the poller that has the fewest of the port's queues, then of all, so that single-queue ports spread. Where
/// others than the pollers work, a ring leads from the port to each of those. An original on a wire passes no ring, which might have
/// no room for it: who polls one side owns a transmit queue of the other, so no more lcores poll it than there are such queues.
///
/// # Errors
/// If there is no memory for the rings.
pub(in crate::broker) fn intakes(
    site: &Site<'_>,
    started: &mut ById<PortId, StartedPort>,
    local_frames: &ById<PortId, Option<Arc<LocalFrames>>>,
    mut polled: Vec<Vec<PolledPort>>,
) -> Result<Intakes, Error> {
    let Site { plan, roles, .. } = *site;
    let workers = roles.lcores.len();
    let mut intakes: Vec<Vec<Intake>> = (0..workers).map(|_| Vec::new()).collect();
    let mut reports = ById::filled(plan.ports.len(), Vec::new());
    for (id, port) in started.entries_mut() {
        let port_plan = &plan.ports[id];
        let is_spread = plan.is_spread(id) && !port.sources.is_empty();
        let times = if is_spread { ring_times(site, id, &port.sources)? } else { None };
        let can_wait = port_plan.is_ethdev() && port_plan.devargs.can_wait();
        let mut pollers = roles.pollers(plan, id);
        if let Some(senders) = senders_beyond(site, id) {
            pollers.sort_by_key(|&worker| queues_of(&polled[worker]));
            pollers.truncate(senders.max(1));
        }
        let mut taken = vec![0; workers];
        for source in port.sources.drain(..) {
            let mut spread = None;
            if is_spread {
                let rings = lead_to_work(site, id, &times, &local_frames[id], &mut intakes)?;
                for &worker in &roles.work {
                    polled[worker].push(PolledPort { port: id, is_ring: true });
                }
                spread = Some(Box::new(Spread::new(rings, spread_hash(plan), can_wait, times.clone())));
            }
            let endpoint = endpoint(port_plan, &mut reports[id]);
            let local_frames = local_frames[id].clone().filter(|_| !is_spread);
            let load = |worker: usize| (taken[worker], queues_of(&polled[worker]));
            let poller =
                pollers.iter().copied().min_by_key(|&worker| load(worker)).expect("a port has pollers");
            taken[poller] += 1;
            polled[poller].push(PolledPort { port: id, is_ring: false });
            intakes[poller].push(Intake {
                port: id,
                attachment: site.attachments[id],
                is_cold: matches!(source, Source::Queue { .. }) && !port_plan.devargs.copies_packets(),
                source,
                gives_rss: port.gives_rss && endpoint.is_none(),
                endpoint,
                local_frames,
                spread,
                longest: Longest::of(&port_plan.devargs),
                is_stopped: port_plan.is_stopped,
            });
        }
    }
    Ok(Intakes { of_workers: intakes, polled, reports })
}

/// Receive queues that a worker has; rings are none.
fn queues_of(polled: &[PolledPort]) -> usize {
    polled.iter().filter(|polled| !polled.is_ring).count()
}

/// Gives what the packets of a port that is spread carry their times in, if somebody may ask for them.
fn ring_times(site: &Site<'_>, id: PortId, sources: &[Source]) -> Result<Option<RingTimes>, Error> {
    let is_timed = |source: &Source| match source {
        Source::Queue { clock, .. } => !matches!(clock, RxClock::Poll),
        Source::Iface(_) => true,
        Source::Replay(_) | Source::Ring { .. } => false,
    };
    if site.run().wants_stamps(id) || site.run().may_need_time(id) && sources.iter().any(is_timed) {
        return Ok(Some(RingTimes { place: RxStamp::register(site.eal)?, clock: Arc::default() }));
    }
    Ok(None)
}

/// Makes a ring from a receive queue of port `id` to each worker that works, who polls it.
fn lead_to_work(
    site: &Site<'_>,
    id: PortId,
    times: &Option<RingTimes>,
    local_frames: &Option<Arc<LocalFrames>>,
    intakes: &mut [Vec<Intake>],
) -> Result<Vec<SoleSender>, Error> {
    let Site { eal, roles, .. } = *site;
    let mut rings = Vec::new();
    for &worker in &roles.work {
        let (sender, ring) =
            ring::create_sole(eal, distribute::RING_PACKETS, lcore::socket_of(eal, roles.lcores[worker]))?;
        rings.push(sender);
        intakes[worker].push(Intake {
            port: id,
            attachment: site.attachments[id],
            source: Source::Ring { ring, times: times.clone() },
            is_cold: true,
            endpoint: None,
            local_frames: local_frames.clone(),
            spread: None,
            gives_rss: false,
            longest: None,
            is_stopped: false,
        });
    }
    Ok(rings)
}

/// A worker's ways to the tools: those that come, and where those that it has are.
#[derive(Default)]
pub(in crate::broker) struct WorkerWays {
    pub egresses: ById<EgressId, NextOutlet>,
    /// Behind those that it has.
    pub txqs: Vec<SpareTxq>,
    pub handovers: Vec<Incoming>,
    pub control_frames: Vec<ControlFrames>,
    pub time_place: Option<RxStamp>,
}

impl WorkerWays {
    /// The outlets of a worker that had none.
    pub(in crate::broker) fn into_outlets(self, plan: &Plan) -> Outlets {
        let egresses = self.egresses.into_iter().map(|next| match next {
            NextOutlet::New(outlet) => outlet,
            NextOutlet::Kept(_) => unreachable!("there was none before"),
        });
        let mut outlets = Outlets {
            egresses: egresses.collect(),
            txqs: self.txqs.into_iter().filter_map(SpareTxq::into_new).collect(),
            shared: Vec::new(),
            handovers: self.handovers,
            control_frames: self.control_frames,
            tx_burst: plan.settings.burst,
            kinds: plan.egresses(),
            time_place: self.time_place,
            left: 0,
            has_captures: has_captures(plan),
        };
        outlets.take_turns();
        outlets
    }
}

/// Returns whether some tool is a capture.
pub(in crate::broker) fn has_captures(plan: &Plan) -> bool {
    plan.tools.iter().any(|tool| tool.output == Output::Capture)
}

/// The workers' ways to the tools.
pub(in crate::broker) struct Ways {
    /// The parts of each worker.
    pub of_workers: Vec<WorkerWays>,
    pub layout: Layout,
    /// The rings of capture tools that come, from each worker.
    pub batch_rings: Vec<(ToolId, Vec<Arc<BatchRing>>)>,
}

/// Gives each worker its ways to the tools. Those that `kept` has ids before of stay as they are; `layout` is what workers have.
///
/// A worker that owns none of a tool port's transmit queues hands its copies over a ring to the lcore that owns one.
///
/// # Errors
/// If there is no memory for the rings.
pub(in crate::broker) fn outlets(
    site: &Site<'_>,
    started: &mut ById<PortId, StartedPort>,
    kept: &ById<EgressId, Option<EgressId>>,
    layout: Layout,
) -> Result<Ways, Error> {
    let Site { plan, roles, .. } = *site;
    let none = || WorkerWays::default();
    let of_workers = roles.lcores.iter().map(|_| none()).collect();
    let before = layout.clone();
    let mut ways = Ways { of_workers, layout, batch_rings: Vec::new() };
    for (id, egress) in plan.egresses().all() {
        let own = plan.egress(egress);
        if let Some(from) = kept[id] {
            ways.of_workers.iter_mut().for_each(|ways| ways.egresses.push(NextOutlet::Kept(from)));
            continue;
        }
        match egress {
            Egress::Tool(tool) => match own.output {
                Output::Capture => ways.lead_to_writer(tool, own.queue),
                Output::Discard => ways.push_all(|| Outlet::Discard),
                Output::Port(port) => {
                    let txqs = &mut started[port].txqs;
                    let senders = Senders::of_copies(site, &own, txqs.len()).owned_by(&before, port, &own);
                    ways.lead_to_port(site, (id, &own), port, txqs, &senders)?;
                }
            },
            Egress::Wire(wire, side) => {
                let wire = &plan.wires[wire];
                let (from, to) = (wire.port(side), wire.port(side.other()));
                let txqs = &mut started[to].txqs;
                let senders = Senders::of_originals(&ways.layout.polled, from, txqs.len());
                ways.lead_to_port(site, (id, &own), to, txqs, &senders)?;
            }
        }
    }
    Ok(ways)
}

/// Who has copies for a tool, or originals for a wire, and who sends them; by worker.
struct Senders {
    givers: Vec<usize>,
    /// Each owns the transmit queue of its place.
    owners: Vec<usize>,
}

impl Senders {
    /// Finds the senders of a tool, whose port has `txqs` transmit queues.
    fn of_copies(site: &Site<'_>, tool: &EgressPlan, txqs: usize) -> Self {
        // what is put in order has to pass one place
        let queues = if tool.order_ns.is_some() { 1 } else { txqs };
        let LcoreRoles { work, transmit, .. } = site.roles;
        Self { givers: work.clone(), owners: transmit[..queues.min(transmit.len())].to_vec() }
    }

    /// Finds the senders of the direction of a wire that comes from port `from`: who polls it has the originals.
    fn of_originals(polled: &[Vec<PolledPort>], from: PortId, txqs: usize) -> Self {
        let polls = |polled: &[PolledPort]| polled.iter().any(|polled| polled.port == from);
        let workers = polled.iter().enumerate();
        let givers: Vec<usize> =
            workers.filter(|(_, polled)| polls(polled)).map(|(worker, _)| worker).collect();
        Self { owners: givers[..txqs.min(givers.len())].to_vec(), givers }
    }

    /// The same where workers own transmit queues of the port already: these send.
    fn owned_by(self, layout: &Layout, port: PortId, egress: &EgressPlan) -> Self {
        let mut owners: Vec<usize> =
            (0..layout.owned.len()).filter(|&worker| layout.owned[worker][port].is_some()).collect();
        if owners.is_empty() {
            return self;
        }
        if egress.order_ns.is_some() {
            owners.truncate(1);
        }
        Self { owners, ..self }
    }

    /// Who sends the copies of a worker that has some.
    fn owner_of(&self, worker: usize) -> usize {
        match self.owners.iter().find(|&&owner| owner == worker) {
            Some(&own) => own,
            None => {
                self.owners
                    [self.givers.iter().position(|&other| other == worker).unwrap_or(0) % self.owners.len()]
            }
        }
    }
}

impl WorkerWays {
    fn push(&mut self, outlet: Outlet) {
        self.egresses.push(NextOutlet::New(outlet));
    }
}

impl Ways {
    fn push_all(&mut self, outlet: impl Fn() -> Outlet) {
        self.of_workers.iter_mut().for_each(|ways| ways.push(outlet()));
    }

    /// Leads to the thread that writes the tool's file.
    fn lead_to_writer(&mut self, tool: ToolId, queue: usize) {
        let own: Vec<Arc<BatchRing>> = self.of_workers.iter().map(|_| BatchRing::new(queue)).collect();
        for (ways, ring) in self.of_workers.iter_mut().zip(&own) {
            ways.push(Outlet::Capture(CaptureQueue::new(Arc::clone(ring))));
        }
        self.batch_rings.push((tool, own));
    }

    /// Gives a worker a transmit queue of a port; its place among the worker's own.
    pub(in crate::broker) fn own(&mut self, worker: usize, port: PortId, txq: SpareTxq) -> usize {
        let place = self.layout.txqs[worker];
        self.of_workers[worker].txqs.push(txq);
        self.layout.txqs[worker] += 1;
        self.layout.owned[worker][port] = Some(place);
        place
    }

    /// Leads an egress to its port: of the owners of `txqs` straight, of all others that have copies over an owner.
    fn lead_to_port(
        &mut self,
        site: &Site<'_>,
        (id, egress): (EgressId, &EgressPlan),
        port: PortId,
        txqs: &mut [Option<SpareTxq>],
        senders: &Senders,
    ) -> Result<(), Error> {
        let port_plan = &site.plan.ports[port];
        if port_plan.is_stopped || site.ports[port].closed().is_some() {
            self.push_all(|| Outlet::Down);
            return Ok(());
        }
        if senders.owners.is_empty() && !senders.givers.is_empty() {
            return Err(Refusal::NoTransmitQueue { port: port_plan.name.clone() }.into());
        }
        let fit =
            FrameLimits::of(&port_plan.devargs, interface_mtu(port_plan, &site.ports[port]), port_plan.mtu);
        let place = egress.order_ns.map(|_| RxStamp::register(site.eal)).transpose()?;
        let bucket = egress
            .shaping
            .map(|shaping| Arc::new(TokenBucket::new(shaping, clock::tsc_hz(), clock::tsc())));
        let mut rings = vec![None; self.of_workers.len()];
        for worker in 0..self.of_workers.len() {
            if let Some(queue) = senders.owners.iter().position(|&owner| owner == worker) {
                let txq = match self.layout.owned[worker][port] {
                    Some(txq) => txq,
                    None => {
                        let taken = txqs.get_mut(queue).and_then(Option::take);
                        let taken = taken
                            .ok_or_else(|| Refusal::TransmitQueueTaken { port: port_plan.name.clone() })?;
                        self.own(worker, port, taken)
                    }
                };
                let ways = &mut self.of_workers[worker];
                // with no descriptors to fill and no doorbell to ring
                let has_cheap_calls = port_plan.devargs.copies_packets();
                ways.push(Outlet::Port {
                    txq,
                    queue: egress_queue(egress, bucket.clone(), place, fit, has_cheap_calls),
                });
            } else if !senders.givers.contains(&worker) {
                // it has none
                self.of_workers[worker].push(Outlet::Discard);
            } else {
                let owner = senders.owner_of(worker);
                if rings[owner].is_none() {
                    rings[owner] = Some(self.handover(site, (id, egress), owner)?);
                }
                let (ring, backlog) = rings[owner].clone().expect("made just above");
                let ways = &mut self.of_workers[worker];
                ways.push(Outlet::Handover { ring, backlog, queue: gathering_queue(egress, fit) });
                ways.time_place = ways.time_place.or(place);
            }
        }
        Ok(())
    }

    /// Makes the ring by which others hand to `owner` what is for an egress.
    fn handover(
        &mut self,
        site: &Site<'_>,
        (id, egress): (EgressId, &EgressPlan),
        owner: usize,
    ) -> Result<(Sender, Arc<Backlog>), Error> {
        let Site { eal, roles, .. } = *site;
        // what the queue admits finds room, and a burst of each maker that goes beyond it
        let most = egress.queue + roles.work.len() * MAX_BURST;
        let (sender, receiver) =
            ring::create(eal, most as u32, lcore::socket_of(eal, roles.lcores[owner]))?;
        let backlog = Arc::<Backlog>::default();
        self.of_workers[owner].handovers.push(Incoming::new(id, receiver, Arc::clone(&backlog)));
        Ok((sender, backlog))
    }
}

/// Which worker polls which ports, where there are several that each run to completion.
pub(super) fn receive_queues(site: &Site<'_>, polled: &[Vec<PolledPort>]) -> Option<Event> {
    let Site { plan, roles, .. } = *site;
    if polled.len() < 2 || plan.settings.stages.is_some() {
        return None;
    }
    let of_lcore = |(&lcore, polled): (&LcoreId, &Vec<PolledPort>)| {
        let ports = polled.iter().map(|polled| &plan.ports[polled.port]);
        let ports = ports.filter(|port| !port.is_stopped).map(|port| port.name.clone()).collect();
        Polled { lcore: lcore.0, ports }
    };
    Some(Event::QueuesPolled { lcores: roles.lcores.iter().zip(polled).map(of_lcore).collect() })
}

/// Gives the hash by which packets are spread over work lcores. It is as deep as the deepest hash that the plan's rules, groups and
/// tunnels go by.
pub(in crate::broker) fn spread_hash(plan: &Plan) -> HashSpec {
    let depth = plan.work.hashes.iter().map(|spec| spec.depth).max().unwrap_or_default();
    HashSpec { kind: HashKind::FiveTuple, depth, seed: plan.settings.seed ^ distribute::SEED }
}

/// Makes the end of a port's tunnels, if some end there; its counters go to a further report.
fn endpoint(port: &PortPlan, reports: &mut Vec<EndpointReport>) -> Option<Box<Endpoint>> {
    if port.terminators.is_empty() {
        return None;
    }
    let report = EndpointReport::default();
    reports.push(Arc::clone(&report));
    Some(Box::new(Endpoint::new(port.terminators.clone(), report)))
}

/// The queue of a worker that sends a tool's copies, with what it admits and the tokens of the tool's rate.
fn egress_queue(
    egress: &EgressPlan,
    bucket: Option<Arc<TokenBucket>>,
    place: Option<RxStamp>,
    fit: Option<FrameLimits>,
    has_cheap_calls: bool,
) -> EgressQueue {
    let merge =
        egress.order_ns.zip(place).map(|(window_ns, place)| Merge::new(window_ns, egress.queue, place));
    // copies that are held to leave in order are of the queue too, which a gate sees to
    let is_gated = egress.queue_bytes.is_some()
        || egress.thresholds.is_some()
        || bucket.is_some()
        || fit.is_some()
        || merge.is_some();
    let gate = is_gated.then(|| Gate::new(egress.limits(), bucket, fit));
    EgressQueue::new(egress.queue, gate, merge, has_cheap_calls)
}

/// Makes the queue in which a worker gathers copies for the ring to another one that sends them, with what the tool's queue admits.
fn gathering_queue(egress: &EgressPlan, fit: Option<FrameLimits>) -> EgressQueue {
    EgressQueue::new(2 * MAX_BURST, Some(Gate::new(egress.limits(), None, fit)), None, false)
}
