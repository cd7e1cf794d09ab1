//! Setting up: how many workers and where, EAL's memory, ports and their queues, pools, and who polls and sends what.

pub mod placement;

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::clocks::{Clocks, KERNEL, NicClock, PortClock};
use super::device::Device;
use super::echo::Echo;
use super::neighbours::{Neighbourhood, Neighbours, Outbox, Probe, Question};
use super::next_hop::{Responder, TunnelAddress};
use super::outputs::Outputs;
use super::pcap_output::{Written, pipe_note};
use super::probe::Prober;
use super::recorder::Recorder;
use super::reload::Fixed;
use super::watch::Watch;
use super::{Broker, Error, Guards, Seat};
use crate::datapath::admission::{Limits, Thresholds};
use crate::datapath::backlog::Backlog;
use crate::datapath::burst::MAX_BURST;
use crate::datapath::clock::{ClockView, RxClock};
use crate::datapath::cut::Longest;
use crate::datapath::dedup::Dedup;
use crate::datapath::egress::gate::Gate;
use crate::datapath::egress::incoming::Incoming;
use crate::datapath::egress::line::Line;
use crate::datapath::egress::merge::Merge;
use crate::datapath::egress::outlet::{Mail, Outlet, Outlets};
use crate::datapath::endpoint::{Endpoint, EndpointReport};
use crate::datapath::exchange::Exchange;
use crate::datapath::fit::Fit;
use crate::datapath::flow_table::{FlowTable, KeyedHash, Secret};
use crate::datapath::flows::HashSpec;
use crate::datapath::hash::HashKind;
use crate::datapath::limit::Limit;
use crate::datapath::live::LiveView;
use crate::datapath::make::{CopyPools, Maker, ToolMaker};
use crate::datapath::panics::{self, PanicReport, Panics};
use crate::datapath::post::Post;
use crate::datapath::receive::{Intake, Source};
use crate::datapath::record::{self, Belt};
use crate::datapath::replay::{Progress, Replay};
use crate::datapath::route::RuleState;
use crate::datapath::sample::{SampleSpec, Sampler, WorkerSeat};
use crate::datapath::shape::TokenBucket;
use crate::datapath::spread::{self, Spread, Times};
use crate::datapath::transport::Sequence;
use crate::datapath::worker::{Phase, PhaseCell, Worker};
use crate::dpdk::eal::{self, Memory, Options};
use crate::dpdk::limits::{self, Available, Descriptors};
use crate::dpdk::mbuf::copy::{CopyPool, Offload};
use crate::dpdk::mbuf::{MbufQueue, RxStamp};
use crate::dpdk::mempool::{self, Mempool, Pages};
use crate::dpdk::port::{Port, PortConfig, argument};
use crate::dpdk::queue::TxQueue;
use crate::dpdk::ring;
use crate::dpdk::{Eal, LcoreId, SocketId, clock, lcore};
use crate::fault;
use crate::headers::ethernet::{self, MacAddress};
use crate::headers::heartbeat::Key;
use crate::plan::Plan;
use crate::plan::devargs::copies_packets;
use crate::plan::plan::{
    DedupPlan, NextHopPlan, Output, PortId, PortPlan, ReplayPlan, ReplaySpeed, RulePlan, ToolId, ToolPlan, TunnelPlan,
};
use crate::plan::pools::{self, CopiesTo, MBUFS_A_WORKER};
use crate::stats::counters::{WorkerCounters, WriterCounters};
use crate::stats::snapshot::totals::RuleTotals;
use placement::{Crew, device_node, place};

/// Memory for EAL itself, rings, queues and drivers, in MiB.
const BASE_MIB: u32 = 64;

/// Starts EAL, attaches and starts the ports, and puts the workers on their lcores, where they wait.
///
/// # Errors
/// The first thing that failed, with its place and a remedy.
pub fn start(plan: Arc<Plan>) -> Result<Broker, Error> {
    let mut notes = Vec::new();
    if fault::strikes("start.placement") {
        return Err(Error::Refused("lcore 0: this machine gives Tapline the CPUs none: expected some of those".to_owned()));
    }
    let placement = place(&plan)?;
    let crew = placement.crew;
    check_tables(&plan, crew.work.len())?;
    // before drivers empty theirs
    let outputs = Outputs::take(&plan)?;
    let memory = choose_memory(&plan, &mut notes)?;
    check_mounts(memory)?;
    check_descriptors(crew.lcores.len())?;
    let eal = Eal::start(&Options {
        workers: crew.lcores.clone(),
        main_cpus: placement.main_cpus,
        memory,
        pci_devices: plan.ports.iter().filter(|port| port.replay.is_none()).filter_map(|port| pci_address(&port.devargs)).collect(),
        extra: plan.settings.eal.clone(),
    })?;
    for line in eal.log() {
        notes.push(format!("dpdk: {line}"));
    }
    for &lcore in &crew.lcores {
        lcore::check_worker(&eal, lcore)?;
    }
    notes.extend(placement.notes);
    let Assembled { mut broker, workers, belts, .. } = assemble(&eal, plan, &crew, outputs, notes)?;
    for (seat, worker) in broker.seats.iter_mut().zip(workers) {
        seat.running = Some(lcore::launch(&eal, seat.lcore, move || worker.run())?);
    }
    start_recorders(&mut broker, belts)?;
    Ok(broker)
}

/// A broker whose workers are on no lcore yet.
pub(super) struct Assembled {
    pub broker: Broker,
    /// By seat.
    pub workers: Vec<Worker>,
    /// Of capture tools, whose writers have not begun.
    pub belts: Vec<(ToolId, Vec<Arc<Belt>>)>,
    /// By port: a transmit queue that nobody sends on, where there is one.
    pub spare: Vec<Option<TxQueue>>,
}

/// Attaches and starts the ports, and makes the workers that the plan asks for. `outputs` are the files that it writes.
///
/// # Errors
/// The first thing that failed.
pub(super) fn assemble(
    eal: &Eal,
    plan: Arc<Plan>,
    crew: &Crew,
    mut outputs: Outputs,
    mut notes: Vec<String>,
) -> Result<Assembled, Error> {
    let workers = crew.lcores.len();
    let ports = plan.ports.iter().map(|port| attach(eal, port)).collect::<Result<Vec<_>, _>>()?;
    outputs.keep_drivers();
    let (mut started, mut clocks) = (Vec::new(), Clocks::new(plan.settings.clock));
    let mut pools = Pools { devices: &ports, shared: Vec::new() };
    for (index, (device, port_plan)) in ports.iter().zip(&plan.ports).enumerate() {
        started.push(match (device, &port_plan.replay) {
            (Device::Ethdev(port), _) => start_port(eal, &plan, index, port, &mut pools, crew, &mut clocks)?,
            (Device::Replay { progress, .. }, replay) => {
                clocks.add(PortClock::Given("file"));
                start_replay(eal, &plan, index, replay.as_ref(), progress, workers)?
            }
        });
    }
    for tool in plan.tools.iter().filter(|tool| tool.copy.room.is_some()) {
        let Output::Port(port) = tool.output else { continue };
        if let Some(mtu) = ports[port.0].ethdev().and_then(Port::mtu).filter(|&mtu| mtu < tool.copy.mtu) {
            let (name, port, counted) = (&tool.name, ports[port.0].name(), tool.copy.mtu);
            notes.push(format!(
                "warning: tool {name}: port {port} has an MTU of {mtu}, and its path is taken to carry {counted}; use mtu {mtu}"
            ));
        }
    }
    notes.extend(plan.ports.iter().filter_map(long_frames));
    notes.extend(plan.ports.iter().filter_map(pipe_note));
    notes.extend(started.iter_mut().filter_map(|port| port.note.take()));
    set_replays_beside_each_other(&mut started);
    let untied = untied_wires(&plan, &ports, &mut notes);
    wait_for_links(&plan, &ports);
    let links = ports.iter().map(Device::link_state).collect();
    let mtus: Vec<Option<u32>> = plan.ports.iter().zip(&ports).map(|(plan, port)| interface_mtu(plan, port)).collect();
    let fits = plan.ports.iter().zip(&mtus).map(|(port, &mtu)| Fit::of(&port.devargs, mtu, port.mtu)).collect();
    let watch = Watch::new(&plan, links, fits, workers, clock::now_ns());
    let mut ends =
        Ends { neighbourhoods: Vec::new(), belts: Vec::new(), reports: vec![Vec::new(); plan.ports.len()], spare: Vec::new() };
    let secret = Secret::random();
    let heartbeat_key = heartbeat_key(&secret);
    let hired = hire(eal, &plan, started, &ports, crew, heartbeat_key, &mut ends)?;
    let Ends { neighbourhoods, belts, reports, spare } = ends;
    notes.extend(receive_queues(&plan, crew, &hired));
    let mut press = Press::default();
    let makers = makers(eal, &plan, &ports, &crew.lcores, &mut press)?;
    let probes = probes(&plan, &ports, heartbeat_key, &secret);

    let phase = Arc::new(PhaseCell::new(Phase::Waiting));
    let mut broker = Broker {
        plan: Arc::clone(&plan),
        seats: Vec::new(),
        returned: Vec::new(),
        phase: Arc::clone(&phase),
        ports,
        clocks,
        reports,
        recorders: Vec::new(),
        written: plan.ports.iter().map(|port| Written::of(&port.devargs)).collect(),
        unwritten: Vec::new(),
        failures: Vec::new(),
        eal: eal.clone(),
        guards: Guards { untied, ..Guards::default() },
        watch,
        mtus,
        neighbours: Neighbours::new(neighbourhoods, probes),
        started: Instant::now(),
        cleared: None,
        cleared_drivers: Vec::new(),
        counters: Vec::new(),
        writers: None,
        past: vec![RuleTotals::default(); plan.rules.len()],
        retiring: None,
        fixed: Fixed::of(&plan),
        press,
        secret,
        notes,
        outputs,
    };
    let flow_hash = KeyedHash::new(&broker.secret);
    panics::listen();
    let ports = plan.ports.len();
    let mut workers = Vec::new();
    for (index, ((&lcore, (mut intakes, outlets)), maker)) in crew.lcores.iter().zip(hired).zip(makers).enumerate() {
        let quiet_turns = Arc::new(AtomicU64::new(0));
        // what rules remember is where packets are judged
        let place = crew.work.iter().position(|&seat| seat == index);
        let post = place.map(|place| WorkerSeat {
            index: place as u32,
            workers: NonZeroU32::new(crew.work.len() as u32).unwrap_or(NonZeroU32::MIN),
            random_seed: plan.settings.seed,
            flows: plan.flows_of_a_table(crew.work.len()),
            timeouts: plan.settings.timeouts,
            flow_hash: flow_hash.clone(),
        });
        let rules = plan.rules.iter().zip(broker.watch.limits());
        let states: Vec<RuleState> =
            rules.map(|(rule, limit)| state_of(&plan, rule, limit, post.as_ref(), &broker.secret)).collect();
        let tallies = states.iter().map(|state| state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())));
        let mut counters = WorkerCounters::new(ports, plan.rules.len(), plan.tools.len(), plan.groups.len());
        counters.dedups = tallies.collect();
        let counters = Arc::new(counters);
        let exchange = Arc::<Exchange>::default();
        let panics = Arc::<PanicReport>::default();
        let worker = Worker {
            plan: Arc::clone(&plan),
            is_in_step: intakes.iter_mut().filter_map(Intake::next_in_step).count() > 1,
            intakes,
            outlets,
            states,
            maker: maker.map(|mut maker| {
                maker.send_to(broker.watch.next_hops());
                maker
            }),
            clock: ClockView::new(broker.clocks.tsc()),
            live: LiveView::new(Arc::clone(broker.watch.cell())),
            exchange: Arc::clone(&exchange),
            uses: broker.watch.uses_of(index),
            counters: Arc::clone(&counters),
            phase: Arc::clone(&phase),
            quiet_turns: Arc::clone(&quiet_turns),
            panics: Panics::new(Arc::clone(&panics)),
        };
        workers.push(worker);
        broker.counters.push(counters);
        broker.seats.push(Seat { lcore, running: None, stages: crew.stages_of(index), quiet_turns, post, exchange, panics });
    }
    Ok(Assembled { broker, workers, belts, spare })
}

/// What a rule begins with on a worker, which has a `post` where it judges packets.
pub(super) fn state_of(
    plan: &Plan,
    rule: &RulePlan,
    limit: &Option<Arc<Limit>>,
    post: Option<&WorkerSeat>,
    secret: &Secret,
) -> RuleState {
    let Some(post) = post else { return RuleState::default() };
    let dedup = |dedup: &DedupPlan| {
        let clocks: Vec<u8> = dedup.scope.iter().map(|port| plan.ports[port.0].time_base() as u8).collect();
        Dedup::new(dedup.spec(post.workers.get() as usize), secret).with_clocks(&clocks)
    };
    RuleState {
        dedup: rule.dedup.as_ref().map(dedup),
        sampler: rule.sample.as_ref().map(|spec| Sampler::new(spec, post)),
        limit: limit.clone(),
    }
}

/// One writer for each capture tool.
pub(super) fn start_recorders(broker: &mut Broker, belts: Vec<(ToolId, Vec<Arc<Belt>>)>) -> Result<(), Error> {
    if belts.is_empty() {
        return Ok(());
    }
    let plan = Arc::clone(&broker.plan);
    let counters = broker.writers.insert(Arc::new(WriterCounters::new(plan.tools.len())));
    for (tool, belts) in belts {
        let locked = broker.outputs.capture(tool);
        broker.recorders.push(Recorder::start(&plan, tool, locked, belts, Arc::clone(counters))?);
    }
    Ok(())
}

/// # Errors
/// If what rules remember does not fit the memory of the machine: tables are filled as they are made, and the kernel would end the
/// program.
pub(super) fn check_tables(plan: &Plan, workers: usize) -> Result<(), Error> {
    let has_flows = |sample: &SampleSpec| sample.has_flow_table();
    let tables = plan.rules.iter().filter(|rule| rule.sample.as_ref().is_some_and(has_flows)).count() * workers;
    let flows = (FlowTable::<u64>::bytes_for(plan.flows_of_a_table(workers)) * tables) as u64;
    let dedups = plan.rules.iter().filter_map(|rule| rule.dedup.as_ref()).map(|dedup| dedup.memory).sum::<u64>();
    let mib = (flows + dedups) >> 20;
    match scarce("start.tables", mib) {
        None => Ok(()),
        Some(available) => Err(Error::Refused(format!(
            "what rules remember takes {mib} MiB of memory, {} of them for flows, with {available}; \
             lower `set flows`, or `memory` of dedup",
            flows >> 20
        ))),
    }
}

/// What memory there is, if it is less than `mib`. Place `place` finds none where a test wants it so.
fn scarce(place: &str, mib: u64) -> Option<Available> {
    let none = || Available { mib: 0, limit: None };
    let available = if fault::strikes(place) { Some(none()) } else { limits::available_memory() };
    available.filter(|available| available.mib < mib)
}

/// Huge pages where enough are free, else ordinary pages, with a note on how to get huge ones.
///
/// # Errors
/// If the machine has not that much memory to give: ordinary pages are taken one by one until the kernel ends some process for it.
fn choose_memory(plan: &Plan, notes: &mut Vec<String>) -> Result<Memory, Error> {
    if eal::says_memory(&plan.settings.eal) {
        return Ok(Memory::AsGiven);
    }
    let counts: Vec<u32> = pool_sizes(plan).into_iter().chain(CopiesTo::ALL.map(|to| pools::copy_pool(plan, to))).collect();
    let needed = |pages| {
        let pools = counts.iter().fold(0u32, |sum, &count| sum.saturating_add(mempool::mebibytes(count, pages)));
        pools.saturating_add(pools / 8).saturating_add(BASE_MIB + 2 * plan.ports.len() as u32)
    };
    let huge = needed(Pages::Huge);
    let free = eal::free_huge_mib();
    if free >= u64::from(huge) {
        return Ok(Memory::HugePages);
    }
    let mib = needed(Pages::Ordinary);
    if let Some(available) = scarce("start.memory", mib.into()) {
        return Err(Error::Refused(format!(
            "mempools: {mib} MiB of memory needed, {available}; lower `set mempool`, or the tools' queues"
        )));
    }
    let pages = huge.div_ceil(2);
    notes.push(format!(
        "no huge pages ({free} MiB free, {huge} needed): running on ordinary pages, slower; to reserve them: \
         echo {pages} | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    ));
    Ok(Memory::Ordinary { mib })
}

/// # Errors
/// If the kernel's own files are not where EAL reads them: it knows of no CPU, or aborts for want of the places of huge pages.
fn check_mounts(memory: Memory) -> Result<(), Error> {
    let mounts = (memory == Memory::HugePages).then_some(("/proc", "/proc/mounts", "proc"));
    let is_missing = |file: &str| fault::strikes("start.mounts") || !std::path::Path::new(file).exists();
    for (folder, file, kind) in [("/sys", "/sys/devices/system/cpu", "sysfs")].into_iter().chain(mounts) {
        if is_missing(file) {
            let remedy = format!("mount it: mount -t {kind} {kind} {folder}");
            return Err(Error::Refused(format!("{folder} is not there: EAL reads {file}; {remedy}")));
        }
    }
    Ok(())
}

/// # Errors
/// If the process may not have as many files open as EAL and its lcores take before any device: EAL aborts where they are too few.
fn check_descriptors(workers: usize) -> Result<(), Error> {
    let needed = EAL_FILES + FILES_OF_A_WORKER * workers as u64;
    let short = |descriptors: &Descriptors| descriptors.most < descriptors.open + needed;
    let descriptors =
        if fault::strikes("start.descriptors") { Some(Descriptors { open: 3, most: 3 }) } else { Descriptors::now().filter(short) };
    match descriptors {
        None => Ok(()),
        Some(Descriptors { open, most }) => Err(Error::Refused(format!(
            "open files: {most} are allowed, and DPDK needs {} (workers: {workers}); allow more: ulimit -n {}",
            open + needed,
            (2 * (open + needed)).next_power_of_two().max(1024)
        ))),
    }
}

/// Files that EAL keeps open besides those of workers: a pipe and an epoll for interrupts, a timer for alarms, and memory, counted in
/// DPDK 22.11.
const EAL_FILES: u64 = 5;
/// Files that EAL keeps open for each worker: both ends of the two pipes that it is given work by.
const FILES_OF_A_WORKER: u64 = 4;

/// The sizes of all pools that ports receive into, as far as is known before they are attached: devices of which the kernel does
/// not say the NUMA node are on one.
fn pool_sizes(plan: &Plan) -> Vec<u32> {
    let (shared, own): (Vec<PortId>, Vec<PortId>) = (0..plan.ports.len()).map(PortId).partition(|&port| shares_pool(plan, port));
    let nodes: Vec<Option<u32>> = shared.iter().map(|port| device_node(&plan.ports[port.0])).collect();
    let mut known: Vec<Option<u32>> = nodes.clone();
    known.sort();
    known.dedup();
    let of_node = |node: &Option<u32>| {
        let ports = shared.iter().zip(&nodes).filter(|&(_, other)| other == node).map(|(&port, _)| port);
        pools::shared_pool(plan, ports)
    };
    own.iter().map(|&port| pools::port_pool(plan, port)).chain(known.iter().map(of_node)).collect()
}

/// The address if the devargs name a PCI device: `0000:03:00.0` or `03:00.0`.
fn pci_address(devargs: &str) -> Option<String> {
    let device = devargs.split(',').next()?;
    let parts: Vec<&str> = device.split([':', '.']).collect();
    let is_hex = parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit()));
    (matches!(parts.len(), 3 | 4) && device.contains('.') && is_hex).then(|| devargs.to_owned())
}

/// What makers share, from the first plan that makes copies to the end.
#[derive(Default)]
pub(super) struct Press {
    /// Of copies to ports, and to captures.
    pools: [Option<Arc<Mempool>>; 2],
    /// By tool.
    sequences: Vec<Arc<Sequence>>,
}

/// Each worker's means to make copies, or `None` where the plan makes none. The pools are made for the first plan that needs them.
///
/// # Errors
/// If there is no memory for them.
pub(super) fn makers(
    eal: &Eal,
    plan: &Plan,
    ports: &[Device],
    lcores: &[LcoreId],
    press: &mut Press,
) -> Result<Vec<Option<Maker>>, Error> {
    let counts = CopiesTo::ALL.map(|to| pools::copy_pool(plan, to));
    if counts == [0, 0] {
        return Ok(lcores.iter().map(|_| None).collect());
    }
    let socket = lcores.first().and_then(|&lcore| lcore::socket_of(eal, lcore));
    let [of_ports, of_captures] = &mut press.pools;
    if counts[0] > 0 && of_ports.is_none() {
        *of_ports = Some(Mempool::create(eal, "copies", counts[0], socket)?);
    }
    if counts[1] > 0 && of_captures.is_none() {
        *of_captures = Some(Mempool::create_cached(eal, "captured-copies", counts[1], pools::CAPTURE_CACHE, socket)?);
    }
    let [of_ports, of_captures] = &press.pools;
    let in_hand = pools::copies_in_hand(plan);
    if press.sequences.is_empty() {
        press.sequences = sequences(plan);
    }
    let maker = || {
        let tools = plan.tools.iter().zip(&press.sequences).enumerate().map(|(index, (tool, sequence))| {
            if !plan.makes_copies_for(ToolId(index)) {
                return None;
            }
            let port = match tool.output {
                Output::Port(port) => ports[port.0].ethdev(),
                Output::Capture | Output::Discard => None,
            };
            let mut transport = tool.copy.transport.clone();
            transport.set_source(MacAddress(port.and_then(Port::mac).unwrap_or_default()));
            let offload = port.filter(|port| port.info().udp_checksum_tx).and_then(|_| transport.leave_udp_checksum());
            Some(ToolMaker {
                offload: offload.map(|lens| Offload::udp_checksum(lens.link, lens.network, lens.is_ipv6)),
                edits: tool.copy.edits,
                timestamp: tool.copy.timestamp,
                transport,
                room: tool.copy.room,
                hash: tool.copy.hash,
                sequence: Arc::clone(sequence),
                sends_chains: port.is_none_or(|port| port.info().multi_segment_tx),
                is_capture: tool.output == Output::Capture,
            })
        });
        let pools = CopyPools {
            ports: of_ports.as_ref().map(|pool| CopyPool::new(Arc::clone(pool))),
            captures: of_captures.as_ref().map(|pool| CopyPool::with_stock(Arc::clone(pool), in_hand)),
        };
        Maker::new(plan, pools, tools.collect())
    };
    Ok(lcores.iter().map(|_| Some(maker())).collect())
}

/// By tool: the numbers of what it sends, which tools of one session share.
fn sequences(plan: &Plan) -> Vec<Arc<Sequence>> {
    let mut sequences: Vec<(&TunnelPlan, Arc<Sequence>)> = Vec::new();
    let of_tool = plan.tools.iter().map(|tool| {
        let Some(tunnel) = &tool.copy.tunnel else { return Arc::default() };
        match sequences.iter().find(|(other, _)| other.session == tunnel.session) {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let sequence = Arc::<Sequence>::default();
                sequences.push((tunnel, Arc::clone(&sequence)));
                sequence
            }
        }
    });
    of_tool.collect()
}

struct StartedPort {
    sources: Vec<Source>,
    txqs: Vec<Option<TxQueue>>,
    /// What the user should know of it.
    note: Option<String>,
    /// Its NIC says how it hashed packets.
    gives_rss: bool,
}

/// Devargs of net_memif with buffers for whole jumbo frames, unless they say how long buffers are: a reader by DPDK takes frames in
/// several buffers half-way if it looks while they are written, and goes wrong from there on.
/// # Source
/// DPDK 22.11, `eth_memif_rx` in drivers/net/memif: nothing checks whether the buffer that follows is there yet.
fn with_long_buffers(devargs: &str) -> Cow<'_, str> {
    if devargs.starts_with("net_memif") && argument(devargs, "bsize").is_none() {
        format!("{devargs},bsize=9216").into()
    } else {
        devargs.into()
    }
}

fn attach(eal: &Eal, port: &PortPlan) -> Result<Device, Error> {
    match port.replay {
        None => Ok(Device::Ethdev(Port::attach(eal, &port.name, &with_long_buffers(&port.devargs))?)),
        Some(_) => Ok(Device::Replay { name: port.name.clone(), progress: Arc::default() }),
    }
}

fn start_replay(
    eal: &Eal,
    plan: &Plan,
    index: usize,
    replay: Option<&ReplayPlan>,
    progress: &Arc<Progress>,
    workers: usize,
) -> Result<StartedPort, Error> {
    let Some(replay) = replay else {
        return Ok(StartedPort { sources: Vec::new(), txqs: Vec::new(), note: None, gives_rss: false });
    };
    let port_plan = &plan.ports[index];
    let count = pools::port_pool(plan, PortId(index));
    let least = workers as u32 * MBUFS_A_WORKER;
    if count < least {
        return Err(Error::Refused(format!(
            "port {}: mempool of {count} mbufs is too small: the caches of {workers} workers need {least}; raise `set mempool`",
            port_plan.name
        )));
    }
    let pool = Mempool::create(eal, &format!("replay-{index}"), count, None)?;
    let step_ns = plan.order_of(PortId(index));
    let replay = Replay::open(replay, step_ns, pool, Arc::clone(progress))
        .map_err(|error| Error::Refused(format!("port {}: {}: {error}", port_plan.name, replay.path)))?;
    Ok(StartedPort { sources: vec![Source::Replay(Box::new(replay))], txqs: Vec::new(), note: None, gives_rss: false })
}

/// The mempools that ports receive into.
///
/// Ports of a socket share one, in which what waits for tools is counted once: what one port's transmit frees another's receive
/// takes while it is still in the processor's cache. A wire's port keeps one of its own, which no other port can empty, and so does
/// every port where the user says a size.
struct Pools<'a> {
    devices: &'a [Device],
    shared: Vec<(SocketId, Arc<Mempool>)>,
}

/// Whether a port receives into a pool with others of its socket.
fn shares_pool(plan: &Plan, port: PortId) -> bool {
    plan.settings.mempool.is_none() && plan.wire_at(port).is_none() && plan.ports[port.0].replay.is_none()
}

impl Pools<'_> {
    fn get(&mut self, eal: &Eal, plan: &Plan, index: usize, port: &Port) -> Result<Arc<Mempool>, Error> {
        let socket = port.info().socket;
        if !shares_pool(plan, PortId(index)) {
            let size = pools::port_pool(plan, PortId(index));
            return Ok(Mempool::create(eal, &format!("rx-{}", port.id().0), size, socket)?);
        }
        if let Some((_, pool)) = self.shared.iter().find(|(of, _)| *of == socket) {
            return Ok(Arc::clone(pool));
        }
        let is_here = |device: &Device| device.ethdev().is_some_and(|port| port.info().socket == socket);
        let here = self.devices.iter().enumerate().filter(|(_, device)| is_here(device)).map(|(index, _)| PortId(index));
        let count = pools::shared_pool(plan, here.filter(|&port| shares_pool(plan, port)));
        let pool = Mempool::create(eal, &format!("rx-{}-shared", port.id().0), count, socket)?;
        self.shared.push((socket, Arc::clone(&pool)));
        Ok(pool)
    }
}

/// Transmit queues that a port gets: what the user said, else one for each lcore that sends on it, as far as the driver has them.
fn tx_queues(plan: &Plan, port: PortId, offered: u16, crew: &Crew) -> u16 {
    let senders = match plan.wire_at(port) {
        // a wire's originals are sent by who polls them
        Some((wire, side)) => crew.pollers(plan, wire.ports[1 - side]).len(),
        None => crew.transmit.len(),
    };
    let wanted = if plan.is_tool_port(port) { u16::try_from(senders).unwrap_or(u16::MAX).min(offered) } else { 1 };
    plan.ports[port.0].txq.unwrap_or(wanted)
}

/// Lcores that may send what a side of a wire receives: as many as the other side has transmit queues.
fn senders_beyond(plan: &Plan, index: usize, devices: &[Device], crew: &Crew) -> Option<usize> {
    let (wire, side) = plan.wire_at(PortId(index))?;
    let other = wire.ports[1 - side];
    let offered = devices[other.0].ethdev()?.info().max_tx_queues;
    Some(usize::from(tx_queues(plan, other, offered, crew)))
}

fn start_port(
    eal: &Eal,
    plan: &Plan,
    index: usize,
    port: &Port,
    pools: &mut Pools<'_>,
    crew: &Crew,
    clocks: &mut Clocks,
) -> Result<StartedPort, Error> {
    let port_plan = &plan.ports[index];
    let workers = crew.lcores.len();
    let info = port.info();
    let spreads = info.rss_types != 0 && info.reta_size > 0;
    let pollers = crew.pollers(plan, PortId(index)).len();
    let pollers = pollers.min(senders_beyond(plan, index, pools.devices, crew).unwrap_or(usize::MAX));
    let rx_queues =
        port_plan.rxq.unwrap_or(if spreads { u16::try_from(pollers).unwrap_or(u16::MAX).min(info.max_rx_queues) } else { 1 });
    let is_tool = plan.is_tool_port(PortId(index));
    let tx_queues = tx_queues(plan, PortId(index), info.max_tx_queues, crew);
    if is_tool && tx_queues == 0 {
        return Err(Error::Refused(format!(
            "port {}: a tool sends on this port, which has no transmit queue; use txq 1",
            port.name()
        )));
    }
    let reserve = pools::wire_reserve(plan, PortId(index));
    let least = pools::receive_need(plan, PortId(index), rx_queues).saturating_add(reserve);
    let count = pools::port_pool(plan, PortId(index));
    if rx_queues > 0 && count < least {
        return Err(Error::Refused(format!(
            "port {}: mempool of {count} mbufs is too small: {rx_queues} receive queues of {} descriptors{} and the caches of {workers} \
             workers need {least}; raise `set mempool`, or lower rxd",
            port.name(),
            port_plan.rxd,
            match (port_plan.resident, reserve) {
                (1.., _) => ", the packets that infinite_rx keeps,",
                (0, 1..) => ", what may wait for tools while the wire goes on,",
                (0, 0) => "",
            }
        )));
    }
    let pool = if rx_queues == 0 { None } else { Some(pools.get(eal, plan, index, port)?) };
    let config = PortConfig {
        rx_queues,
        tx_queues,
        rx_descriptors: port_plan.rxd,
        tx_descriptors: port_plan.txd,
        mtu: port_plan.mtu,
        is_promiscuous: port_plan.is_promiscuous,
        wants_rx_timestamps: plan.wants_stamps(PortId(index)) || plan.inputs[index].needs_time,
        wants_rss_hashes: plan.hashes.iter().any(|spec| spec.kind == HashKind::Rss),
        wants_udp_checksums: plan
            .tools
            .iter()
            .any(|tool| tool.output == Output::Port(PortId(index)) && tool.copy.transport.sums_payload()),
    };
    let (rxqs, txqs) = port.start(&config, pool.as_ref())?;
    let note = (rx_queues > 1).then(|| port.spreading().note(port.name(), rx_queues)).flatten();
    let clock = rx_clock(eal, port, port_plan, config.wants_rx_timestamps, plan.may_need_time(PortId(index)))?;
    let sources = rxqs.into_iter().map(|rxq| {
        let clock = match &clock {
            ChosenClock::Poll => RxClock::Poll,
            ChosenClock::Epoch { place, unit_ns, source } => {
                RxClock::Epoch { place: *place, unit_ns: *unit_ns, is_systems: *source == KERNEL }
            }
            ChosenClock::Nic { place, nic } => RxClock::Nic { place: *place, view: ClockView::new(nic.cell()) },
        };
        Source::Queue { rxq, clock }
    });
    let gives_rss = config.wants_rss_hashes && rx_queues > 1 && port.gives_rss_hashes();
    let started = StartedPort { sources: sources.collect(), txqs: txqs.into_iter().map(Some).collect(), note, gives_rss };
    clocks.add(match clock {
        ChosenClock::Poll => PortClock::Poll,
        ChosenClock::Epoch { source, .. } => PortClock::Given(source),
        ChosenClock::Nic { nic, .. } => PortClock::Nic(nic),
    });
    Ok(started)
}

/// The longest MTU that net_af_xdp receives at: one frame with its room in front and behind in a page. Above it many kernel drivers
/// give nothing.
const MOST_XDP_MTU: u32 = 3506;

/// A warning where a port's kernel interface may bring frames that its driver cuts or loses without a word.
fn long_frames(port: &PortPlan) -> Option<String> {
    let interface = argument(&port.devargs, "iface")?;
    if port.replay.is_some() || port.rxq == Some(0) {
        return None;
    }
    let mtu = mtu_of(interface)?;
    let (driver, most, fate) = match Longest::of(&port.devargs) {
        Some(longest) => {
            ("net_af_packet", longest.0.saturating_sub(ethernet::HEADER_LEN as u32), "cuts frames above it without a word")
        }
        None if port.devargs.starts_with("net_af_xdp") => ("net_af_xdp", MOST_XDP_MTU, "may receive nothing above it"),
        None => return None,
    };
    (mtu > most).then(|| {
        let name = &port.name;
        format!(
            "warning: port {name}: {interface} has an MTU of {mtu}, and {driver} takes {most}: it {fate}; use mtu {most}, or attach \
             {interface} by net_pcap"
        )
    })
}

/// Replays of one speed keep the distance of their first packets, where it is short: they may be of one event.
fn set_replays_beside_each_other(ports: &mut [StartedPort]) {
    const LONGEST: u64 = 10_000_000_000;
    let mut replays: Vec<(&mut Replay, u64)> = Vec::new();
    for source in ports.iter_mut().flat_map(|port| &mut port.sources) {
        if let Source::Replay(replay) = source
            && replay.speed() != ReplaySpeed::Max
            && let Some(first_ns) = replay.next_time()
        {
            replays.push((replay, first_ns));
        }
    }
    let firsts: Vec<(ReplaySpeed, u64)> = replays.iter().map(|(replay, first_ns)| (replay.speed(), *first_ns)).collect();
    for (replay, first_ns) in replays {
        let near = firsts.iter().filter(|(speed, other)| *speed == replay.speed() && first_ns.saturating_sub(*other) <= LONGEST);
        let origin_ns = near.map(|(_, other)| *other).min().unwrap_or(first_ns);
        replay.set_origin(origin_ns);
    }
}

/// Where a port's tunnels end, if some do; what is counted there goes to a further report.
fn endpoint(port: &PortPlan, reports: &mut Vec<EndpointReport>) -> Option<Box<Endpoint>> {
    if port.terminators.is_empty() {
        return None;
    }
    let report = EndpointReport::default();
    reports.push(Arc::clone(&report));
    Some(Box::new(Endpoint::new(port.terminators.clone(), report)))
}

/// What a port's packets are timed by.
enum ChosenClock {
    Poll,
    Epoch { place: RxStamp, unit_ns: u64, source: &'static str },
    Nic { place: RxStamp, nic: NicClock },
}

/// The best clock that the driver has: net_pcap's own times, the NIC's counter where it can be read, else the poll.
///
/// net_pcap stamps packets with microseconds unasked, and offers no timestamps; releases that offer them stamp with nanoseconds. What
/// it gives over and over (`infinite_rx`) has no stamps.
/// # Source
/// DPDK, `drivers/net/pcap/pcap_ethdev.c`: tag v22.11, and the change of 2026 to nanosecond precision.
fn rx_clock(eal: &Eal, port: &Port, plan: &PortPlan, is_wanted: bool, may_be_wanted: bool) -> Result<ChosenClock, Error> {
    let info = port.info();
    let is_pcap = info.driver == "net_pcap";
    let is_live = ["iface", "rx_iface", "rx_iface_in"].iter().any(|name| argument(&plan.devargs, name).is_some());
    // net_pcap notes times in any case, and latency begins at the kernel's
    let is_noted = is_pcap && (is_wanted || may_be_wanted && plan.reads_capture() || is_live);
    if plan.resident > 0 || !(is_noted || is_wanted && info.rx_timestamps) {
        return Ok(ChosenClock::Poll);
    }
    let place = RxStamp::register(eal)?;
    if is_pcap {
        let source = if is_live { KERNEL } else { "file" };
        return Ok(ChosenClock::Epoch { place, unit_ns: if info.rx_timestamps { 1 } else { 1000 }, source });
    }
    Ok(NicClock::new(port).map_or(ChosenClock::Poll, |nic| ChosenClock::Nic { place, nic }))
}

/// The control thread's ends of what workers fill.
struct Ends {
    /// Of ports that tunnels leave by, or heartbeats leave or return by.
    neighbourhoods: Vec<Neighbourhood>,
    /// Of capture tools, from each worker.
    belts: Vec<(ToolId, Vec<Arc<Belt>>)>,
    /// By port, and by receive queue: what is counted where tunnels end.
    reports: Vec<Vec<EndpointReport>>,
    /// By port: a transmit queue that no worker got.
    spare: Vec<Option<TxQueue>>,
}

/// Gives each worker its receive queues and its ways to the tools.
///
/// A queue goes to the poller that has the fewest of the port's queues, then of all, so that single-queue ports spread. Where
/// others than the pollers work, a ring leads from the port to each of those. A worker that owns none of a tool port's transmit
/// queues hands its copies over a ring to the lcore that owns one. An original on a wire passes no ring, which might have no room
/// for it: who polls one side owns a transmit queue of the other, so no more lcores poll it than there are such queues.
/// Ports that tunnels or heartbeats leave by, or heartbeats return by, get a neighbourhood each, whose post their workers fill.
fn hire(
    eal: &Eal,
    plan: &Plan,
    mut ports: Vec<StartedPort>,
    attached: &[Device],
    crew: &Crew,
    heartbeat_key: Key,
    ends: &mut Ends,
) -> Result<Vec<(Vec<Intake>, Outlets)>, Error> {
    let posts: Vec<Option<Arc<Post>>> = (0..ports.len()).map(|port| post_of(plan, PortId(port), heartbeat_key)).collect();
    let lcores = &crew.lcores;
    let workers = lcores.len();
    let mut intakes: Vec<Vec<Intake>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, port) in ports.iter_mut().enumerate().filter(|&(index, _)| !plan.ports[index].is_stopped) {
        let id = PortId(index);
        let is_spread = plan.is_spread(id) && !port.sources.is_empty();
        let mut times = None;
        let is_timed = |source: &Source| matches!(source, Source::Queue { clock, .. } if !matches!(clock, RxClock::Poll));
        if is_spread && (plan.wants_stamps(id) || plan.may_need_time(id) && port.sources.iter().any(is_timed)) {
            times = Some(Times { place: RxStamp::register(eal)?, clock: Arc::default() });
        }
        let can_wait = attached[index].ethdev().is_some_and(|port| can_wait(&port.info().driver, &plan.ports[index].devargs));
        let mut pollers = crew.pollers(plan, id);
        if let Some(senders) = senders_beyond(plan, index, attached, crew) {
            pollers.sort_by_key(|&seat| intakes[seat].iter().filter(|intake| !intake.is_ring()).count());
            pollers.truncate(senders.max(1));
        }
        let mut taken = vec![0; workers];
        for source in port.sources.drain(..) {
            let mut spread = None;
            if is_spread {
                let mut rings = Vec::new();
                for &seat in &crew.work {
                    let (sender, ring) = ring::create_sole(eal, spread::RING_PACKETS, lcore::socket_of(eal, lcores[seat]))?;
                    rings.push(sender);
                    intakes[seat].push(Intake {
                        port: id,
                        source: Source::Ring { ring, times: times.clone() },
                        is_cold: true,
                        endpoint: None,
                        post: posts[index].clone(),
                        spread: None,
                        gives_rss: false,
                        longest: None,
                    });
                }
                spread = Some(Box::new(Spread::new(rings, spread_hash(plan), can_wait, times.clone())));
            }
            let endpoint = endpoint(&plan.ports[index], &mut ends.reports[index]);
            let post = posts[index].clone().filter(|_| !is_spread);
            let load = |seat: usize| (taken[seat], intakes[seat].iter().filter(|intake| !intake.is_ring()).count());
            let poller = pollers.iter().copied().min_by_key(|&seat| load(seat)).expect("a port has pollers");
            taken[poller] += 1;
            intakes[poller].push(Intake {
                port: id,
                is_cold: matches!(source, Source::Queue { .. }) && !copies_packets(&plan.ports[index].devargs),
                source,
                gives_rss: port.gives_rss && endpoint.is_none(),
                endpoint,
                post,
                spread,
                longest: Longest::of(&plan.ports[index].devargs),
            });
        }
    }
    let mut outlets: Vec<Outlets> = (0..workers)
        .map(|_| Outlets {
            tools: Vec::new(),
            txqs: Vec::new(),
            shared: Vec::new(),
            handovers: Vec::new(),
            mails: Vec::new(),
            burst: plan.settings.burst,
            copy_tools: plan.copy_tools().count(),
            time_place: None,
            left: 0,
            has_captures: plan.tools.iter().any(|tool| tool.output == Output::Capture),
        })
        .collect();
    let polls = |seat: usize, port: PortId| intakes[seat].iter().any(|intake| intake.port == port);
    // A worker's place for the transmit queue of each port that it owns one of.
    let mut owned: Vec<Vec<Option<usize>>> = vec![vec![None; ports.len()]; workers];
    for (tool_index, tool) in plan.tools.iter().enumerate() {
        if tool.output == Output::Capture {
            let own: Vec<Arc<Belt>> = (0..workers).map(|_| Belt::new(tool.queue)).collect();
            for (outlets, belt) in outlets.iter_mut().zip(&own) {
                outlets.tools.push(Outlet::Capture(record::Line::new(Arc::clone(belt))));
            }
            ends.belts.push((ToolId(tool_index), own));
            continue;
        }
        let Output::Port(port) = tool.output else {
            outlets.iter_mut().for_each(|outlets| outlets.tools.push(Outlet::Discard));
            continue;
        };
        if plan.ports[port.0].is_stopped {
            outlets.iter_mut().for_each(|outlets| outlets.tools.push(Outlet::Down));
            continue;
        }
        // who has copies for it: of a wire, the original and who polls that
        let givers: Vec<usize> = match plan.wire_at(port) {
            Some((wire, side)) => (0..workers).filter(|&seat| polls(seat, wire.ports[1 - side])).collect(),
            None => crew.work.clone(),
        };
        // what is put in order has to pass one place
        let queues = if tool.order_ns.is_some() { 1 } else { ports[port.0].txqs.len() };
        let owners = if tool.wire.is_some() { &givers } else { &crew.transmit };
        let owners = &owners[..queues.min(owners.len())];
        // who sends the copies of a seat that has some
        let owner_of = |seat: usize| match owners.iter().find(|&&owner| owner == seat) {
            Some(&own) => own,
            None => owners[givers.iter().position(|&other| other == seat).unwrap_or(0) % owners.len()],
        };
        let port_plan = &plan.ports[port.0];
        let fit = Fit::of(&port_plan.devargs, interface_mtu(port_plan, &attached[port.0]), port_plan.mtu);
        let place = tool.order_ns.map(|_| RxStamp::register(eal)).transpose()?;
        let bucket = tool.shape.map(|shape| Arc::new(TokenBucket::new(shape, clock::tsc_hz(), clock::tsc())));
        let mut senders = vec![None; workers];
        for worker in 0..workers {
            if let Some(queue) = owners.iter().position(|&owner| owner == worker) {
                let txq = *owned[worker][port.0].get_or_insert_with(|| {
                    outlets[worker].txqs.extend(ports[port.0].txqs[queue].take());
                    outlets[worker].txqs.len() - 1
                });
                // with no descriptors to fill and no doorbell to ring
                let has_cheap_calls = copies_packets(&plan.ports[port.0].devargs);
                outlets[worker].tools.push(Outlet::Port { txq, line: line(tool, bucket.clone(), place, fit, has_cheap_calls) });
            } else if !givers.contains(&worker) {
                // it has none
                outlets[worker].tools.push(Outlet::Discard);
            } else {
                let owner = owner_of(worker);
                if senders[owner].is_none() {
                    // what the tool's queue admits finds room, and a burst of each maker that goes beyond it
                    let most = tool.queue + crew.work.len() * MAX_BURST;
                    let (sender, receiver) = ring::create(eal, most as u32, lcore::socket_of(eal, lcores[owner]))?;
                    let backlog = Arc::<Backlog>::default();
                    outlets[owner].handovers.push(Incoming::new(tool_index, receiver, Arc::clone(&backlog)));
                    senders[owner] = Some((sender, backlog));
                }
                let (ring, backlog) = senders[owner].clone().expect("made just above");
                outlets[worker].tools.push(Outlet::Handover { ring, backlog, line: gathering_line(tool, fit) });
                outlets[worker].time_place = outlets[worker].time_place.or(place);
            }
        }
    }
    outlets.iter_mut().for_each(Outlets::take_turns);
    for (index, post) in posts.into_iter().enumerate() {
        let Some(port) = attached[index].ethdev() else { continue };
        let has_letters = plan.is_tunnel_port(PortId(index)) && post.is_some() || plan.sends_heartbeats(PortId(index));
        // the first lcore that transmits owns the first queue of every port that a tool sends on
        let first = crew.transmit[0];
        let outbox = match owned[first][index].filter(|_| has_letters) {
            Some(txq) => {
                let socket = lcore::socket_of(eal, lcores[first]);
                let (sender, ring) = ring::create(eal, MOST_LETTERS, socket)?;
                outlets[first].mails.push(Mail { txq, ring, queue: MbufQueue::with_capacity(MOST_LETTERS as usize) });
                let pool = Mempool::create(eal, &format!("letters-{index}"), 4 * MOST_LETTERS - 1, socket)?;
                Some(Outbox::new(CopyPool::new(pool), sender))
            }
            None => None,
        };
        if post.is_some() || outbox.is_some() {
            ends.neighbourhoods.push(neighbourhood(plan, PortId(index), port, post, outbox));
        }
    }
    ends.spare = ports.into_iter().map(|port| port.txqs.into_iter().flatten().next()).collect();
    Ok(intakes.into_iter().zip(outlets).collect())
}

/// Which worker polls which ports, where there are several that each run to completion.
fn receive_queues(plan: &Plan, crew: &Crew, hired: &[(Vec<Intake>, Outlets)]) -> Option<String> {
    if hired.len() < 2 || plan.settings.stages.is_some() {
        return None;
    }
    let polled = |(&lcore, (intakes, _)): (&LcoreId, &(Vec<Intake>, Outlets))| {
        let ports: Vec<&str> = intakes.iter().map(|intake| plan.ports[intake.port.0].name.as_str()).collect();
        format!("lcore {} polls {}", lcore.0, if ports.is_empty() { "none".to_owned() } else { ports.join(", ") })
    };
    let polled: Vec<String> = crew.lcores.iter().zip(hired).map(polled).collect();
    let is_idle = hired.iter().any(|(intakes, _)| intakes.is_empty());
    let advice =
        if is_idle { "; a queue is polled by one worker: `set lcores receive LIST work LIST` shares its packets out" } else { "" };
    Some(format!("receive queues: {}{advice}", polled.join("; ")))
}

/// By what packets are spread over work lcores: as deep as the deepest hash that the plan's rules, groups and tunnels go by.
pub(super) fn spread_hash(plan: &Plan) -> HashSpec {
    let depth = plan.hashes.iter().map(|spec| spec.depth).max().unwrap_or_default();
    HashSpec { kind: HashKind::FiveTuple, depth, seed: plan.settings.seed ^ spread::SEED }
}

/// Whether a device makes packets when it is asked, and so can be asked later without a loss.
fn can_wait(driver: &str, devargs: &str) -> bool {
    driver == "net_null" || driver == "net_pcap" && devargs.contains("rx_pcap=")
}

/// Frames of the control thread that may be on their way by a port.
const MOST_LETTERS: u32 = 64;

/// Where workers put what a port receives for Tapline itself, if tunnels leave or heartbeats return by it.
fn post_of(plan: &Plan, port: PortId, heartbeat_key: Key) -> Option<Arc<Post>> {
    let has_answers = plan.is_tunnel_port(port) || plan.returns_heartbeats(port);
    let is_listening = has_answers && plan.ports[port.0].rxq != Some(0) && !plan.ports[port.0].is_stopped;
    let tunnels = plan.tools.iter().filter(|tool| tool.output == Output::Port(port)).filter_map(|tool| tool.copy.tunnel.as_ref());
    let key = plan.returns_heartbeats(port).then_some(heartbeat_key);
    is_listening.then(|| Arc::new(Post::new(tunnels.map(|tunnel| tunnel.source).collect(), key)))
}

/// What tells this run's heartbeats from all other frames.
fn heartbeat_key(secret: &Secret) -> Key {
    let mut key = Key::default();
    for (index, word) in key.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&secret.word(HEARTBEAT_WORDS + index as u64).to_be_bytes());
    }
    key
}

/// Words of the secret that nothing else uses: those of heartbeats, then one for each tool.
const HEARTBEAT_WORDS: u64 = 1 << 32;
const PROBE_WORDS: u64 = 2 << 32;

/// The heartbeats and echoes of all tools whose ports are not stopped.
fn probes(plan: &Plan, attached: &[Device], heartbeat_key: Key, secret: &Secret) -> Vec<Probe> {
    let mac_of = |port: PortId| MacAddress(attached[port.0].ethdev().and_then(Port::mac).unwrap_or_default());
    let mut probes = Vec::new();
    for (index, tool) in plan.tools.iter().enumerate() {
        let Output::Port(port) = tool.output else { continue };
        let word = secret.word(PROBE_WORDS + index as u64);
        if let Some(heartbeat) = tool.heartbeat {
            // an address of the tool's own, locally administered: no bridge may take a port of ours for being elsewhere
            let [a, b, c, ..] = word.to_be_bytes();
            let source = MacAddress([0x02, b'T', b'L', a, b, c]);
            let (destination, back) = (mac_of(heartbeat.back), heartbeat.back);
            let question = Question::Heartbeat { key: heartbeat_key, source, destination, back };
            probes.push(Probe { tool: ToolId(index), port, question, prober: Prober::new(heartbeat.timing) });
        }
        if let (Some(timing), Some(tunnel)) = (tool.echo, &tool.copy.tunnel) {
            let own = TunnelAddress { mac: mac_of(port), address: tunnel.source, vlan: tunnel.vlan };
            let next_hop = match tunnel.next_hop {
                NextHopPlan::Mac(mac) => Some(mac),
                NextHopPlan::Ask(_) => None,
            };
            let question = Question::Echo { echo: Echo { own, target: tunnel.session.1, key: word }, next_hop };
            probes.push(Probe { tool: ToolId(index), port, question, prober: Prober::new(timing) });
        }
    }
    probes
}

fn neighbourhood(plan: &Plan, id: PortId, port: &Port, post: Option<Arc<Post>>, outbox: Option<Outbox>) -> Neighbourhood {
    let mac = MacAddress(port.mac().unwrap_or_default());
    let tunnels = plan.tools.iter().enumerate().filter(|(_, tool)| tool.output == Output::Port(id));
    let tunnels: Vec<(ToolId, &TunnelPlan, TunnelAddress)> = tunnels
        .filter_map(|(index, tool)| tool.copy.tunnel.as_ref().map(|tunnel| (ToolId(index), tunnel)))
        .map(|(tool, tunnel)| (tool, tunnel, TunnelAddress { mac, address: tunnel.source, vlan: tunnel.vlan }))
        .collect();
    let mut own: Vec<TunnelAddress> = Vec::new();
    for (_, _, address) in &tunnels {
        if !own.contains(address) {
            own.push(*address);
        }
    }
    let mut neighbourhood = Neighbourhood { port: id, post, responder: Responder::new(own), hops: Vec::new(), outbox };
    for (tool, tunnel, address) in tunnels {
        if let NextHopPlan::Ask(target) = tunnel.next_hop {
            neighbourhood.follow(tool, address, target);
        }
    }
    neighbourhood
}

/// How long ports that were just started may take to have a link.
const LINK_WAIT: Duration = Duration::from_secs(1);

/// By wire: links are to be propagated, and a driver cannot set them. Found out by setting them up, where they should be, rather than
/// when one fails.
fn untied_wires(plan: &Plan, ports: &[Device], notes: &mut Vec<String>) -> Vec<bool> {
    let is_untied = plan.wires.iter().map(|wire| {
        let failed = || wire.ports.iter().find_map(|port| ports[port.0].set_link(true).err());
        let Some(error) = wire.propagates_link.then(failed).flatten() else { return false };
        notes.push(format!("warning: wire {}: links are not propagated: {error}", wire.name));
        true
    });
    is_untied.collect()
}

/// Waits until the ports of tools and wires have a link, as far as they get one: without, what comes first would be dropped.
fn wait_for_links(plan: &Plan, ports: &[Device]) {
    let ways = plan.wires.iter().flat_map(|wire| wire.ports);
    let tools = plan.tools.iter().filter_map(|tool| if let Output::Port(port) = tool.output { Some(port) } else { None });
    let waited_for: Vec<&Device> = ways.chain(tools).map(|port| &ports[port.0]).collect();
    let begun = Instant::now();
    while begun.elapsed() < LINK_WAIT && !waited_for.iter().all(|port| port.link().is_up) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The MTU of the kernel interface that a port is, at this moment; `None` where it is none, or the kernel does not say.
pub(super) fn interface_mtu(plan: &PortPlan, device: &Device) -> Option<u32> {
    // what is made anew under its name is another interface
    let port = device.ethdev().filter(|port| !port.is_removed())?;
    let interface = argument(&plan.devargs, "iface").or_else(|| argument(&plan.devargs, "tx_iface"));
    // net_pcap and others do not know their interface's
    interface.and_then(mtu_of).or_else(|| plan.devargs.starts_with("net_tap").then(|| port.mtu()).flatten().map(u32::from))
}

/// The MTU of a kernel interface, where the kernel says it.
fn mtu_of(interface: &str) -> Option<u32> {
    if interface.is_empty() || interface.contains('/') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}

/// The queue of a worker that sends a tool's copies, with what it admits and the tokens of the tool's rate.
fn line(
    tool: &ToolPlan,
    bucket: Option<Arc<TokenBucket>>,
    place: Option<RxStamp>,
    fit: Option<Fit>,
    has_cheap_calls: bool,
) -> Line {
    let merge = tool.order_ns.zip(place).map(|(window_ns, place)| Merge::new(window_ns, tool.queue, place));
    // copies that are held to leave in order are of the queue too, which a gate sees to
    let is_gated = tool.queue_bytes.is_some() || tool.thresholds.is_some() || bucket.is_some() || fit.is_some() || merge.is_some();
    let gate = is_gated.then(|| Gate::new(limits(tool), bucket, fit));
    Line::new(tool.queue, gate, merge, has_cheap_calls)
}

/// Where a worker gathers copies for the ring to another one that sends them, with what the tool's queue admits.
fn gathering_line(tool: &ToolPlan, fit: Option<Fit>) -> Line {
    Line::new(2 * MAX_BURST, Some(Gate::new(limits(tool), None, fit)), None, false)
}

fn limits(tool: &ToolPlan) -> Limits {
    Limits::new(tool.queue, tool.queue_bytes, tool.thresholds.unwrap_or(Thresholds::NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memif_gets_buffers_for_whole_frames_unless_it_is_said() {
        assert_eq!(with_long_buffers("net_memif0,role=client"), "net_memif0,role=client,bsize=9216");
        for same in ["net_memif0,bsize=4096", "net_pcap0,iface=eth0", "0000:01:00.0"] {
            assert_eq!(with_long_buffers(same), same);
        }
    }

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert_eq!(pci_address("0000:03:00.0"), Some("0000:03:00.0".to_owned()));
        assert_eq!(pci_address("03:00.1,mprq_en=1"), Some("03:00.1,mprq_en=1".to_owned()));
        assert_eq!(pci_address("net_pcap0,rx_pcap=a:b.c"), None);
        assert_eq!(pci_address("net_null0"), None);
    }
}
