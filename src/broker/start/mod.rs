//! Setting up: how many workers and where, EAL's memory, ports and their queues, pools, and who polls and sends what.

/// Makes ready what copies are made with.
pub(super) mod copies;
/// Keeps what later plans have to make do with.
pub(super) mod fixed;
/// Looks whether the system has enough to give, and makes mempools.
pub(super) mod memory;
/// Chooses lcores.
pub mod placement;
/// Attaches and starts ports.
pub(super) mod ports;
/// Sets up what the control thread sends and receives.
pub(super) mod probes;
/// Shares queues out to workers.
pub(super) mod queues;
/// Makes the state that rules begin with.
pub(super) mod rules;

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::account::Account;
use super::clocks::{Clocks, PortClock};
use super::device::Device;
use super::housekeeping::Guards;
use super::machine::Machine;
use super::neighbours::Neighbours;
use super::outputs::Outputs;
use super::pcap_output::{Written, pipe_note};
use super::recent::Moments;
use super::recorder::{Feed, PortNames, Recorder};
use super::refusal::Refusal;
use super::watch::Watch;
use super::workers::{RunningWorkers, WorkerHandle};
use super::{Broker, Error};
use crate::plan::{Plan, Run, RunOptions};
use crate::report::events::Events;
use copies::{CopyResources, makers};
use fixed::Fixed;
use memory::{Pools, check_descriptors, check_mounts, check_tables, choose_memory};
use placement::{LcoreRoles, place};
use ports::{
    attach, changed_frames, interface_mtu, long_frames, narrow_ports, pci_address,
    set_replays_beside_each_other, start_one, untied_wires, wait_for_links,
};
use probes::{heartbeat_key, local_frames, neighbourhoods, probes};
use queues::{Layout, WorkerWays, intakes, outlets, receive_queues};
use rules::state_of;
use tapline_api::event::Event;
use tapline_api::snapshot::DriverStats;
use tapline_datapath::copies::build::Maker;
use tapline_datapath::counters::{WorkerCounters, WriterCounters};
use tapline_datapath::egress::capture_queue::BatchRing;
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::flow::table::{KeyedHash, Secret};
use tapline_datapath::ids::{Attachment, PortId, ToolId};
use tapline_datapath::receive::Intake;
use tapline_datapath::receive::clock::ClockView;
use tapline_datapath::route::RuleState;
use tapline_datapath::route::sample::WorkerShare;
use tapline_datapath::swap::plan_part::Swap;
use tapline_datapath::swap::published::LiveView;
use tapline_datapath::worker::Worker;
use tapline_datapath::worker::panics;
use tapline_datapath::worker::panics::{PanicReport, Panics};
use tapline_dpdk::eal::Options;
use tapline_dpdk::queue::TxQueue;
use tapline_dpdk::{Eal, clock, lcore};
use tapline_fault as fault;
use tapline_packet::by_id::ById;
use tapline_packet::headers::vlan;

/// Starts EAL, attaches and starts the ports, and puts the workers on their lcores, where they wait. `options` say how the plan is run.
///
/// # Errors
/// The first thing that failed, with its place and a remedy.
pub fn start(plan: Arc<Plan>, options: RunOptions) -> Result<Broker, Error> {
    let run = Run { plan: &plan, options: &options };
    let mut events = Events::default();
    if fault::strikes("start.placement") {
        return Err(Refusal::NoCpu.into());
    }
    vlan::add_tpids(&plan.settings.tpids);
    let placement = place(run)?;
    let roles = placement.roles;
    check_tables(&plan, roles.work.len())?;
    // before drivers empty theirs
    let outputs = Outputs::take(&plan)?;
    let memory = choose_memory(run, &mut events.at(clock::now_ns()))?;
    check_mounts(memory)?;
    check_descriptors(roles.lcores.len())?;
    let eal = Eal::start(&Options {
        workers: roles.lcores.clone(),
        main_cpus: placement.main_cpus,
        memory,
        pci_devices: plan
            .ports
            .iter()
            .filter(|port| port.is_ethdev())
            .filter_map(|port| pci_address(&port.devargs))
            .collect(),
        extra: run.eal(),
    })?;
    let mut moment = events.at(clock::now_ns());
    for line in eal.log() {
        moment.record(Event::DpdkLogged { line });
    }
    for &lcore in &roles.lcores {
        lcore::check_worker(&eal, lcore)?;
    }
    moment.record(placement.placed);
    let Assembled { mut broker, workers, batch_rings, spare } =
        assemble(&eal, plan, options, roles, outputs, events)?;
    if broker.options.is_changeable {
        broker.machine.spare = spare;
    }
    for (handle, worker) in broker.workers.handles.iter_mut().zip(workers) {
        handle.running = Some(lcore::launch(&eal, handle.lcore, move || worker.run())?);
    }
    start_recorders(&mut broker, batch_rings)?;
    Ok(broker)
}

/// The site on which a plan is set up: what everything that is started needs.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub eal: &'a Eal,
    pub plan: &'a Arc<Plan>,
    pub options: &'a RunOptions,
    pub roles: &'a LcoreRoles,
    /// The device that was attached for each port of the plan.
    pub ports: &'a ById<PortId, Device>,
    pub attachments: &'a ById<PortId, Attachment>,
}

impl<'a> Site<'a> {
    /// Gives what is to run.
    pub(super) fn run(&self) -> Run<'a> {
        Run { plan: self.plan, options: self.options }
    }
}

/// A broker whose workers are on no lcore yet.
pub(super) struct Assembled {
    pub broker: Broker,
    /// The workers, in the order of their handles.
    pub workers: Vec<Worker>,
    /// The rings of capture tools, whose writers have not begun.
    pub batch_rings: Vec<(ToolId, Vec<Arc<BatchRing>>)>,
    /// The transmit queues of each port that nobody sends on.
    pub spare: ById<PortId, Vec<Option<TxQueue>>>,
}

/// Takes the transmit queues that nobody has of a port that was started.
fn new_txqs(port: ports::StartedPort) -> Vec<Option<TxQueue>> {
    port.txqs.into_iter().map(|txq| txq?.into_new()).collect()
}

/// Attaches and starts the ports, and makes the workers that the plan asks for. `outputs` are the files that it writes.
///
/// # Errors
/// The first thing that failed.
pub(super) fn assemble(
    eal: &Eal,
    plan: Arc<Plan>,
    options: RunOptions,
    roles: LcoreRoles,
    mut outputs: Outputs,
    mut events: Events,
) -> Result<Assembled, Error> {
    let ports = plan.ports.iter().map(|port| attach(eal, port)).collect::<Result<ById<_, _>, _>>()?;
    outputs.keep_drivers();
    let attachments: ById<PortId, Attachment> = (0..plan.ports.len() as u32).map(Attachment).collect();
    let site = Site {
        eal,
        plan: &plan,
        options: &options,
        roles: &roles,
        ports: &ports,
        attachments: &attachments,
    };
    let (mut started, clocks, pools) = start_all(&site)?;
    let mut notes = notes_of_ports(&site, &mut started);
    set_replays_beside_each_other(&mut started);
    let untied = untied_wires(&plan, &ports, &mut notes, |_| true);
    notes.into_iter().for_each(|note| events.record(clock::now_ns(), note));
    wait_for_links(&plan, &ports, |_| true);
    let (watch, mtus) = watch_ports(&site);
    let secret = Secret::random();
    let heartbeat_key = heartbeat_key(&secret);
    let local_frames = local_frames(&plan, heartbeat_key);
    let mut layout = Layout::empty(roles.lcores.len(), plan.ports.len());
    let intakes = intakes(&site, &mut started, &local_frames, std::mem::take(&mut layout.polled))?;
    let polled = receive_queues(&site, &intakes.polled);
    polled.into_iter().for_each(|note| events.record(clock::now_ns(), note));
    layout.polled = intakes.polled;
    let nothing = ById::filled(plan.egresses().count(), None);
    let mut ways = outlets(&site, &mut started, &nothing, layout)?;
    let neighbourhoods = neighbourhoods(&site, &mut started, local_frames, &mut ways, |_| false)?;
    let spare = started.into_iter().map(new_txqs).collect();
    let mut copy_resources = CopyResources::default();
    let makers = makers(eal, site.run(), &ports, &roles.lcores, &mut copy_resources)?;
    let probes = probes(&site, heartbeat_key, &secret);
    let mut fixed = Fixed::of(site.run());
    fixed.note_devices(&plan, &ports);
    let machine = Machine {
        eal: eal.clone(),
        clocks,
        mtus,
        kept_devices: Vec::new(),
        earlier: ById::filled(plan.ports.len(), DriverStats::default()),
        written: plan.ports.iter().map(|port| Written::of(&port.devargs)).collect(),
        reports: intakes.reports,
        outputs,
        pools,
        spare: ById::default(),
        names: PortNames::new(Mutex::new(plan.ports.iter().map(|port| port.name.clone()).collect())),
        attachments,
        ports,
    };
    let mut broker = Broker {
        machine,
        layout: ways.layout,
        is_at_rest: false,
        swapped: None,
        retirement: None,
        workers: RunningWorkers::new(),
        watch,
        guards: Guards { untied, ..Guards::default() },
        neighbours: Neighbours::new(neighbourhoods, probes),
        account: Account::new(plan.rules.len(), plan.egresses()),
        roles: LcoreRoles::default(),
        recorders: Vec::new(),
        unwritten: Vec::new(),
        events,
        failures: Vec::new(),
        started: Instant::now(),
        moments: Moments::default(),
        fixed,
        copy_resources,
        secret,
        plan,
        options,
    };
    panics::listen();
    let parts = intakes.of_workers.into_iter().zip(ways.of_workers).zip(makers);
    let parts = parts.map(|((intakes, ways), maker)| Parts { intakes, ways, maker });
    let workers = make_workers(&mut broker, &roles, parts);
    broker.roles = roles;
    Ok(Assembled { broker, workers, batch_rings: ways.batch_rings, spare })
}

/// Starts all ports, with their clocks and pools.
fn start_all(site: &Site<'_>) -> Result<(ById<PortId, ports::StartedPort>, Clocks, Pools), Error> {
    let (mut clocks, mut pools) = (Clocks::new(site.plan.settings.clock), Pools::default());
    let mut started = ById::default();
    for id in site.plan.ports.ids() {
        let mut port = start_one(site, id, &mut pools)?;
        clocks.add(std::mem::replace(&mut port.clock, PortClock::Poll));
        started.push(port);
    }
    Ok((started, clocks, pools))
}

/// Gives the events of ports that are started.
fn notes_of_ports(site: &Site<'_>, started: &mut ById<PortId, ports::StartedPort>) -> Vec<Event> {
    let notes = narrow_ports(site).into_iter();
    let notes = notes.chain(site.plan.ports.iter().filter_map(long_frames));
    let notes = notes.chain(site.plan.ports.iter().filter_map(changed_frames));
    let notes = notes.chain(site.plan.ports.iter().filter_map(pipe_note));
    notes.chain(started.iter_mut().flat_map(|port| std::mem::take(&mut port.notes))).collect()
}

/// Begins the watch over ports that are started. Gives also, by port, the MTU that its frames are judged by.
fn watch_ports(site: &Site<'_>) -> (Watch, ById<PortId, Option<u32>>) {
    let links = site.ports.iter().map(Device::link_state).collect();
    let ports = || site.plan.ports.iter();
    let mtus: ById<PortId, Option<u32>> =
        ports().zip(site.ports).map(|(plan, port)| interface_mtu(plan, port)).collect();
    let fits =
        ports().zip(&mtus).map(|(port, &mtu)| FrameLimits::of(&port.devargs, mtu, port.mtu)).collect();
    (Watch::new(site.plan, links, fits, site.roles.lcores.len(), clock::now_ns()), mtus)
}

/// The parts of what was set up that a worker gets.
struct Parts {
    intakes: Vec<Intake>,
    ways: WorkerWays,
    maker: Option<Maker>,
}

/// Makes the worker of each lcore in `roles`, and gives the broker a handle to each.
fn make_workers(
    broker: &mut Broker,
    roles: &LcoreRoles,
    parts: impl Iterator<Item = Parts>,
) -> Vec<Worker> {
    let plan = Arc::clone(&broker.plan);
    let flow_hash = KeyedHash::new(&broker.secret);
    let mut workers = Vec::new();
    for (index, (&lcore, Parts { mut intakes, ways, mut maker })) in
        roles.lcores.iter().zip(parts).enumerate()
    {
        let quiet_turns = Arc::new(AtomicU64::new(0));
        // what rules remember is where packets are judged
        let place = roles.work.iter().position(|&worker| worker == index);
        let share = place.map(|place| WorkerShare {
            index: place as u32,
            workers: NonZeroU32::new(roles.work.len() as u32).unwrap_or(NonZeroU32::MIN),
            random_seed: plan.settings.seed,
            flows: plan.flows_of_a_table(roles.work.len()),
            timeouts: plan.settings.timeouts,
            flow_hash: flow_hash.clone(),
        });
        let rules = plan.rules.iter().zip(broker.watch.limits());
        let states: Vec<RuleState> = rules
            .map(|(rule, limit)| state_of(&plan, rule, limit, share.as_ref(), &broker.secret))
            .collect();
        let tallies =
            states.iter().map(|state| state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())));
        let mut counters = WorkerCounters::new(
            plan.ports.len(),
            plan.rules.len(),
            plan.egresses().count(),
            plan.groups.len(),
        );
        counters.dedups = tallies.collect();
        let counters = Arc::new(counters);
        let swap = Arc::<Swap>::default();
        let panics = Arc::<PanicReport>::default();
        if let Some(maker) = &mut maker {
            maker.send_to(broker.watch.next_hops());
        }
        workers.push(Worker {
            plan: Arc::clone(&plan.work),
            is_profiled: broker.options.is_profiled,
            is_in_step: intakes.iter_mut().filter_map(Intake::next_in_step).count() > 1,
            intakes,
            outlets: ways.into_outlets(&plan),
            states: states.into(),
            maker,
            handed_before: 0,
            clock: ClockView::new(broker.machine.clocks.tsc()),
            live: LiveView::new(Arc::clone(broker.watch.cell())),
            swap: Arc::clone(&swap),
            uses: broker.watch.uses_of(index),
            counters: Arc::clone(&counters),
            phase: Arc::clone(&broker.workers.phase),
            quiet_turns: Arc::clone(&quiet_turns),
            panics: Panics::new(Arc::clone(&panics)),
        });
        broker.account.counters.push(counters);
        broker.workers.handles.push(WorkerHandle {
            lcore,
            running: None,
            stages: roles.stages_of(index),
            quiet_turns,
            share,
            swap,
            panics,
        });
    }
    workers
}

/// One writer for each capture tool.
pub(super) fn start_recorders(
    broker: &mut Broker,
    batch_rings: Vec<(ToolId, Vec<Arc<BatchRing>>)>,
) -> Result<(), Error> {
    if batch_rings.is_empty() {
        return Ok(());
    }
    let (plan, options) = (Arc::clone(&broker.plan), broker.options.clone());
    let run = Run { plan: &plan, options: &options };
    let writers = broker.account.writers.insert(Arc::new(WriterCounters::new(plan.tools.len())));
    for (tool, rings) in batch_rings {
        let locked = broker.machine.outputs.capture(tool);
        let feed = Feed {
            rings,
            counters: Arc::clone(&writers.tools[tool]),
            names: Arc::clone(&broker.machine.names),
            attachments: broker.machine.attachments.clone(),
        };
        broker.recorders.push(Recorder::start(run, tool, locked, feed)?);
    }
    Ok(())
}
