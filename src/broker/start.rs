//! Setting up: how many workers and where, EAL's memory, ports and their queues, pools, and who polls and sends what.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::watch::Watch;
use super::{Broker, Error, Guards, Seat};
use crate::datapath::admission::{Limits, Thresholds};
use crate::datapath::dedup::Dedup;
use crate::datapath::egress::{Gate, Line, Outlet, Outlets};
use crate::datapath::flow_table::{KeyedHash, Secret};
use crate::datapath::live::LiveView;
use crate::datapath::receive::Intake;
use crate::datapath::route::RuleState;
use crate::datapath::sample::{Sampler, WorkerSeat};
use crate::datapath::shape::TokenBucket;
use crate::datapath::worker::{Phase, PhaseCell, Worker};
use crate::dpdk::eal::{self, Memory, Options};
use crate::dpdk::mempool::{self, Mempool};
use crate::dpdk::port::{Port, PortConfig};
use crate::dpdk::queue::{RxQueue, TxQueue};
use crate::dpdk::ring;
use crate::dpdk::{Eal, LcoreId, clock, lcore};
use crate::plan::Plan;
use crate::plan::plan::{Output, PortPlan, ToolPlan};
use crate::stats::counters::WorkerCounters;

/// Mbufs that a worker's cache and hands may hold: DPDK's largest cache and half as much again before it is flushed, and a burst.
const MBUFS_A_WORKER: u32 = 512 * 3 / 2 + 64;
/// Memory for EAL itself, rings, queues and drivers, in MiB.
const BASE_MIB: u32 = 64;

/// Starts EAL, attaches and starts the ports, and puts the workers on their lcores, paused.
///
/// # Errors
/// The first thing that failed, with its place and a remedy.
pub fn start(plan: Arc<Plan>) -> Result<Broker, Error> {
    let mut notes = Vec::new();
    let placement = place(&plan)?;
    let memory = choose_memory(&plan, placement.workers.len() as u32, &mut notes)?;
    let eal = Eal::start(&Options {
        workers: placement.workers.clone(),
        main_cpus: placement.main_cpus,
        memory,
        pci_devices: plan.ports.iter().filter_map(|port| pci_address(&port.devargs)).collect(),
        extra: plan.settings.eal.clone(),
    })?;
    for line in eal.log() {
        notes.push(format!("dpdk: {line}"));
    }
    let lcores: Vec<String> = placement.workers.iter().map(|lcore| lcore.0.to_string()).collect();
    notes.push(format!("workers on lcores {}", lcores.join(",")));

    let ports = plan.ports.iter().map(|port| Port::attach(&eal, &port.name, &port.devargs)).collect::<Result<Vec<_>, _>>()?;
    let workers = placement.workers.len();
    let mut started = Vec::new();
    for (index, (port, port_plan)) in ports.iter().zip(&plan.ports).enumerate() {
        started.push(start_port(&eal, &plan, index, port, port_plan, workers)?);
    }
    let links: Vec<bool> = ports.iter().map(|port| port.link().is_up).collect();
    let watch = Watch::new(&plan, &links, workers, clock::now_ns());
    let crew = hire(&eal, &plan, started, &placement.workers)?;

    let phase = Arc::new(PhaseCell::new(Phase::Paused));
    let mut broker = Broker {
        plan: Arc::clone(&plan),
        seats: Vec::new(),
        returned: Vec::new(),
        phase: Arc::clone(&phase),
        ports,
        eal: None,
        guards: Guards::default(),
        watch,
        started: Instant::now(),
        cleared: None,
        counters: Vec::new(),
        notes,
    };
    let secret = Secret::random();
    let flow_hash = KeyedHash::new(&secret);
    let ports = plan.ports.len();
    for (index, (lcore, (intakes, outlets))) in placement.workers.into_iter().zip(crew).enumerate() {
        let is_quiet = Arc::new(AtomicBool::new(false));
        let seat = WorkerSeat {
            index: index as u32,
            workers: NonZeroU32::new(workers as u32).unwrap_or(NonZeroU32::MIN),
            random_seed: plan.settings.seed,
            flows: plan.settings.flows.div_ceil(workers),
            timeouts: plan.settings.timeouts,
            flow_hash: flow_hash.clone(),
        };
        let states: Vec<RuleState> = plan
            .rules
            .iter()
            .zip(broker.watch.limits())
            .map(|(rule, limit)| RuleState {
                dedup: rule.dedup.as_ref().map(|dedup| Dedup::new(dedup.spec(workers), &secret)),
                sampler: rule.sample.as_ref().map(|spec| Sampler::new(spec, &seat)),
                limit: limit.clone(),
            })
            .collect();
        let tallies = states.iter().map(|state| state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())));
        let counters = WorkerCounters {
            dedups: tallies.collect(),
            ..WorkerCounters::new(ports, plan.rules.len(), plan.tools.len(), plan.groups.len())
        };
        let counters = Arc::new(counters);
        let worker = Worker {
            plan: Arc::clone(&plan),
            intakes,
            outlets,
            states,
            live: LiveView::new(Arc::clone(broker.watch.cell())),
            uses: broker.watch.uses_of(index),
            counters: Arc::clone(&counters),
            phase: Arc::clone(&phase),
            is_quiet: Arc::clone(&is_quiet),
        };
        let running = lcore::launch(&eal, lcore, move || worker.run())?;
        broker.counters.push(counters);
        broker.seats.push(Seat { lcore, running: Some(running), is_quiet });
    }
    broker.eal = Some(eal);
    Ok(broker)
}

struct Placement {
    workers: Vec<LcoreId>,
    main_cpus: Vec<u32>,
}

/// Workers where the plan says, else one on the first CPU that is not the main thread's; the main thread on what is left.
fn place(plan: &Plan) -> Result<Placement, Error> {
    let cpus = eal::available_cpus();
    let workers = match &plan.settings.lcores {
        Some(lcores) => lcores.clone(),
        None => vec![cpus.get(1).or(cpus.first()).copied().unwrap_or(0)],
    };
    if let Some(missing) = workers.iter().find(|cpu| !cpus.contains(cpu)) {
        let have: Vec<String> = cpus.iter().map(u32::to_string).collect();
        let have = have.join(",");
        return Err(Error::Refused(format!("lcore {missing}: this machine gives Tapline the CPUs {have}; change `set lcores`")));
    }
    let spare: Vec<u32> = cpus.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
    let main_cpus = if spare.is_empty() { cpus } else { spare };
    Ok(Placement { workers: workers.into_iter().map(LcoreId).collect(), main_cpus })
}

/// Huge pages where enough are free, else ordinary pages, with a note on how to get huge ones.
///
/// # Errors
/// If the machine has not that much memory to give: ordinary pages are taken one by one until the kernel ends some process for it.
fn choose_memory(plan: &Plan, workers: u32, notes: &mut Vec<String>) -> Result<Memory, Error> {
    if eal::says_memory(&plan.settings.eal) {
        return Ok(Memory::AsGiven);
    }
    let pools: u32 =
        plan.ports.iter().enumerate().map(|(index, port)| mempool::mebibytes(pool_size(plan, index, port, workers))).sum();
    let mib = BASE_MIB + pools + pools / 8 + 2 * plan.ports.len() as u32;
    let free = eal::free_huge_mib();
    if free >= u64::from(mib) {
        return Ok(Memory::HugePages);
    }
    if let Some(available) = eal::available_mib().filter(|&available| available < u64::from(mib)) {
        return Err(Error::Refused(format!(
            "mempools: {mib} MiB of memory needed, {available} available; lower `set mempool`, or the tools' queues"
        )));
    }
    let pages = mib.div_ceil(2);
    notes.push(format!(
        "no huge pages ({free} MiB free, {mib} needed): running on ordinary pages, slower; to reserve them: \
         echo {pages} | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    ));
    Ok(Memory::Ordinary { mib })
}

/// The address if the devargs name a PCI device: `0000:03:00.0` or `03:00.0`.
fn pci_address(devargs: &str) -> Option<String> {
    let device = devargs.split(',').next()?;
    let parts: Vec<&str> = device.split([':', '.']).collect();
    let is_hex = parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit()));
    (matches!(parts.len(), 3 | 4) && device.contains('.') && is_hex).then(|| devargs.to_owned())
}

/// Mbufs that the port's receive side needs at the least.
fn least_pool(port: &PortPlan, workers: u32) -> u32 {
    let queues = u32::from(port.rxq.unwrap_or(1).max(1)).max(if port.rxq.is_none() { workers } else { 1 });
    queues * u32::from(port.rxd) + workers * MBUFS_A_WORKER
}

/// Mbufs of a port's pool: what the user said, else room for descriptors, caches and full queues of all tools.
fn pool_size(plan: &Plan, index: usize, port: &PortPlan, workers: u32) -> u32 {
    if port.rxq == Some(0) {
        return 0;
    }
    let queues: usize = plan.rules.iter().filter(|rule| rule.sources.iter().any(|source| source.0 == index)).count().min(1)
        * plan.tools.iter().map(|tool| tool.queue).sum::<usize>();
    let wanted = least_pool(port, workers).saturating_add(u32::try_from(queues).unwrap_or(u32::MAX).saturating_mul(workers));
    plan.settings.mempool.unwrap_or(wanted.saturating_add(wire_reserve(plan, index, workers)).max(8191))
}

/// Mbufs that copies may hold in queues and transmit descriptors while a wire's port needs others for its originals.
fn wire_reserve(plan: &Plan, index: usize, workers: u32) -> u32 {
    if plan.wire_at(crate::plan::plan::PortId(index)).is_none() {
        return 0;
    }
    let held = plan.tools.iter().map(|tool| match tool.output {
        Output::Port(port) => tool.queue as u64 + u64::from(plan.ports[port.0].txd),
        Output::Discard => 0,
    });
    u32::try_from(held.sum::<u64>() * u64::from(workers)).unwrap_or(u32::MAX)
}

struct StartedPort {
    rxqs: Vec<RxQueue>,
    txqs: Vec<Option<TxQueue>>,
}

fn start_port(
    eal: &Eal,
    plan: &Plan,
    index: usize,
    port: &Port,
    port_plan: &PortPlan,
    workers: usize,
) -> Result<StartedPort, Error> {
    let info = port.info();
    let spreads = info.rss_types != 0 && info.reta_size > 0;
    let most = |offered: u16| u16::try_from(workers).unwrap_or(u16::MAX).min(offered);
    let rx_queues = port_plan.rxq.unwrap_or(if spreads { most(info.max_rx_queues) } else { 1 });
    let is_tool = plan.is_tool_port(crate::plan::plan::PortId(index));
    let tx_queues = port_plan.txq.unwrap_or(if is_tool { most(info.max_tx_queues) } else { 1 });
    if is_tool && tx_queues == 0 {
        return Err(Error::Refused(format!(
            "port {}: a tool sends on this port, which has no transmit queue; use txq 1",
            port.name()
        )));
    }
    let reserve = wire_reserve(plan, index, workers as u32);
    let least = (u32::from(rx_queues) * u32::from(port_plan.rxd) + workers as u32 * MBUFS_A_WORKER).saturating_add(reserve);
    let count = pool_size(plan, index, port_plan, workers as u32);
    if rx_queues > 0 && count < least {
        return Err(Error::Refused(format!(
            "port {}: mempool of {count} mbufs is too small: {rx_queues} receive queues of {} descriptors{} and the caches of {workers} \
             workers need {least}; raise `set mempool`, or lower rxd",
            port.name(),
            port_plan.rxd,
            if reserve > 0 { ", what may wait for tools while the wire goes on," } else { "" }
        )));
    }
    let pool = if rx_queues == 0 { None } else { Some(Mempool::create(eal, &format!("rx-{}", port.id().0), count, info.socket)?) };
    let config = PortConfig {
        rx_queues,
        tx_queues,
        rx_descriptors: port_plan.rxd,
        tx_descriptors: port_plan.txd,
        mtu: port_plan.mtu,
        is_promiscuous: port_plan.is_promiscuous,
    };
    let (rxqs, txqs) = port.start(&config, pool.as_ref())?;
    Ok(StartedPort { rxqs, txqs: txqs.into_iter().map(Some).collect() })
}

/// Gives each worker its receive queues and its ways to the tools.
///
/// Queue `q` of a port goes to worker `q` modulo workers, counted on from port to port so that single-queue ports spread. A worker
/// beyond a tool port's transmit queues hands its copies over a ring to the worker that owns one.
fn hire(eal: &Eal, plan: &Plan, mut ports: Vec<StartedPort>, lcores: &[LcoreId]) -> Result<Vec<(Vec<Intake>, Outlets)>, Error> {
    let workers = lcores.len();
    let mut intakes: Vec<Vec<Intake>> = (0..workers).map(|_| Vec::new()).collect();
    let mut next = 0;
    for (index, port) in ports.iter_mut().enumerate().filter(|&(index, _)| !plan.ports[index].is_stopped) {
        for rxq in port.rxqs.drain(..) {
            intakes[next % workers].push(Intake { port: crate::plan::plan::PortId(index), rxq });
            next += 1;
        }
    }
    let mut outlets: Vec<Outlets> = (0..workers)
        .map(|_| Outlets {
            tools: Vec::new(),
            txqs: Vec::new(),
            handovers: Vec::new(),
            burst: plan.settings.burst,
            copy_tools: plan.copy_tools().count(),
        })
        .collect();
    let is_fed: Vec<bool> = intakes.iter().map(|intakes| !intakes.is_empty()).collect();
    // A worker's place for the transmit queue of each port that it owns one of.
    let mut owned: Vec<Vec<Option<usize>>> = vec![vec![None; ports.len()]; workers];
    for (tool_index, tool) in plan.tools.iter().enumerate() {
        let Output::Port(port) = tool.output else {
            outlets.iter_mut().for_each(|outlets| outlets.tools.push(Outlet::Discard));
            continue;
        };
        if plan.ports[port.0].is_stopped {
            outlets.iter_mut().for_each(|outlets| outlets.tools.push(Outlet::Down));
            continue;
        }
        let queues = ports[port.0].txqs.len();
        // a worker without receive queues, that nobody hands copies to either, would leave its share of a rate unused
        let sharers =
            (0..workers.min(queues)).filter(|owner| (*owner..workers).step_by(queues).any(|worker| is_fed[worker])).count();
        let mut senders = Vec::new();
        for worker in 0..workers {
            if worker < queues {
                let place = *owned[worker][port.0].get_or_insert_with(|| {
                    outlets[worker].txqs.extend(ports[port.0].txqs[worker].take());
                    outlets[worker].txqs.len() - 1
                });
                outlets[worker].tools.push(Outlet::Port { txq: place, line: line(tool, sharers, true) });
                senders.push(None);
            } else {
                let owner = worker % queues;
                if senders[owner].is_none() {
                    let (sender, receiver) = ring::create(eal, tool.queue as u32, lcore::socket_of(eal, lcores[owner]))?;
                    outlets[owner].handovers.push((tool_index, receiver));
                    senders[owner] = Some(sender);
                }
                let ring = senders[owner].clone().expect("made just above");
                outlets[worker].tools.push(Outlet::Handover { ring, line: line(tool, sharers, false) });
            }
        }
    }
    Ok(intakes.into_iter().zip(outlets).collect())
}

/// A worker's queue for a tool, with what it admits and, where the worker sends itself, its share of the tool's rate.
fn line(tool: &ToolPlan, sharers: usize, is_sending: bool) -> Line {
    let shape = tool.shape.filter(|_| is_sending);
    if tool.queue_bytes.is_none() && tool.thresholds.is_none() && shape.is_none() {
        return Line::new(tool.queue, None);
    }
    let limits = Limits::new(tool.queue, tool.queue_bytes, tool.thresholds.unwrap_or(Thresholds::NONE));
    let bucket = shape.map(|shape| TokenBucket::new(shape, sharers as u32, clock::tsc_hz(), clock::tsc()));
    Line::new(tool.queue, Some(Gate::new(limits, bucket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert_eq!(pci_address("0000:03:00.0"), Some("0000:03:00.0".to_owned()));
        assert_eq!(pci_address("03:00.1,mprq_en=1"), Some("03:00.1,mprq_en=1".to_owned()));
        assert_eq!(pci_address("net_pcap0,rx_pcap=a:b.c"), None);
        assert_eq!(pci_address("net_null0"), None);
    }
}
