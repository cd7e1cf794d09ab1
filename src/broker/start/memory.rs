//! Memory and what else the system has to give before EAL is started, and the mempools that ports receive into.

use std::path::Path;
use std::sync::Arc;

use super::Site;
use super::placement::device_node;
use crate::broker::Error;
use crate::broker::device::Device;
use crate::broker::refusal::Refusal;
use crate::plan::memory::{self, CopiesTo};
use crate::plan::{Plan, Run};
use crate::report::events::Moment;
use tapline_api::event::Event;
use tapline_datapath::flow::table::FlowTable;
use tapline_datapath::ids::PortId;
use tapline_datapath::route::sample::SampleSpec;
use tapline_dpdk::SocketId;
use tapline_dpdk::eal::{self, Memory};
use tapline_dpdk::mempool::{self, Mempool, Pages};
use tapline_dpdk::port::Port;
use tapline_fault as fault;
use tapline_kernel::limits::{self, Available, Descriptors};

/// Memory for EAL itself, rings, queues and drivers, in MiB.
const BASE_MIB: u32 = 64;

/// # Errors
/// If what rules remember does not fit the memory of the machine: tables are filled as they are made, and the kernel would end the
/// program.
pub(in crate::broker) fn check_tables(plan: &Plan, workers: usize) -> Result<(), Error> {
    let has_flows = |sample: &SampleSpec| sample.has_flow_table();
    let tables =
        plan.rules.iter().filter(|rule| rule.sample.as_ref().is_some_and(has_flows)).count() * workers;
    let flows = (FlowTable::<u64>::bytes_for(plan.flows_of_a_table(workers)) * tables) as u64;
    let dedups =
        plan.rules.iter().filter_map(|rule| rule.dedup.as_ref()).map(|dedup| dedup.memory).sum::<u64>();
    let mib = (flows + dedups) >> 20;
    match scarce("start.tables", mib) {
        None => Ok(()),
        Some(available) => Err(Refusal::TablesTooLarge { mib, flows_mib: flows >> 20, available }.into()),
    }
}

/// Gives the memory that there is, if it is less than `mib`. Place `place` finds none if a test wants it so.
fn scarce(place: &str, mib: u64) -> Option<Available> {
    let none = || Available { mib: 0, limit: None };
    let available = if fault::strikes(place) { Some(none()) } else { limits::available_memory() };
    available.filter(|available| available.mib < mib)
}

/// The memory that EAL is to have for a plan, by the pages that it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needed {
    pub huge_mib: u32,
    pub ordinary_mib: u32,
}

/// Computes the memory that EAL is to have for a plan.
pub fn needed(run: Run<'_>) -> Needed {
    let counts: Vec<u32> =
        pool_sizes(run).into_iter().chain(CopiesTo::ALL.map(|to| memory::copy_pool(run, to))).collect();
    let needed = |pages| {
        let pools =
            counts.iter().fold(0u32, |sum, &count| sum.saturating_add(mempool::mebibytes(count, pages)));
        // and for a few ports that may come
        let base = if run.options.is_changeable { 2 * BASE_MIB } else { BASE_MIB };
        pools.saturating_add(pools / 8).saturating_add(base + 2 * run.plan.ports.len() as u32)
    };
    Needed { huge_mib: needed(Pages::Huge), ordinary_mib: needed(Pages::Ordinary) }
}

/// Huge pages where enough are free, else ordinary pages, with a note on how to get huge ones.
///
/// # Errors
/// If the machine has not that much memory to give: ordinary pages are taken one by one until the kernel ends some process for it.
pub(super) fn choose_memory(run: Run<'_>, moment: &mut Moment<'_>) -> Result<Memory, Error> {
    if eal::says_memory(&run.eal()) {
        return Ok(Memory::AsGiven);
    }
    let Needed { huge_mib: huge, ordinary_mib: mib } = needed(run);
    let free = eal::free_huge_mib();
    if free >= u64::from(huge) {
        return Ok(Memory::HugePages);
    }
    if let Some(available) = scarce("start.memory", mib.into()) {
        return Err(Refusal::MempoolsTooLarge { mib, available }.into());
    }
    let pages = huge.div_ceil(2);
    moment.record(Event::OrdinaryPages { free_mib: free, needed_mib: huge, pages });
    Ok(Memory::Ordinary { mib })
}

/// # Errors
/// If the kernel's own files are not where EAL reads them: it knows of no CPU, or aborts for want of the places of huge pages.
pub(super) fn check_mounts(memory: Memory) -> Result<(), Error> {
    let mounts = (memory == Memory::HugePages).then_some(("/proc", "/proc/mounts", "proc"));
    let is_missing = |file: &str| fault::strikes("start.mounts") || !Path::new(file).exists();
    for (folder, file, kind) in [("/sys", "/sys/devices/system/cpu", "sysfs")].into_iter().chain(mounts) {
        if is_missing(file) {
            return Err(Refusal::NotMounted { folder, file, kind }.into());
        }
    }
    Ok(())
}

/// # Errors
/// If the process may not have as many files open as EAL and its lcores take before any device: EAL aborts where they are too few.
pub(super) fn check_descriptors(workers: usize) -> Result<(), Error> {
    let needed = EAL_FILES + FILES_OF_A_WORKER * workers as u64;
    let short = |descriptors: &Descriptors| descriptors.most < descriptors.open + needed;
    let descriptors = if fault::strikes("start.descriptors") {
        Some(Descriptors { open: 3, most: 3 })
    } else {
        Descriptors::now().filter(short)
    };
    match descriptors {
        None => Ok(()),
        Some(Descriptors { open, most }) => {
            Err(Refusal::TooFewFiles { allowed: most, needed: open + needed, workers }.into())
        }
    }
}

/// Files that EAL keeps open besides those of workers: a pipe and an epoll for interrupts, a timer for alarms, and memory, counted in
/// DPDK 22.11.
const EAL_FILES: u64 = 5;
/// Files that EAL keeps open for each worker: both ends of the two pipes that it is given work by.
const FILES_OF_A_WORKER: u64 = 4;

/// The sizes of all pools that ports receive into, as far as is known before they are attached: devices of which the kernel does
/// not say the NUMA node are on one.
fn pool_sizes(run: Run<'_>) -> Vec<u32> {
    let plan = run.plan;
    let (shared, own): (Vec<PortId>, Vec<PortId>) =
        plan.ports.ids().partition(|&port| shares_pool(plan, port));
    let nodes: Vec<Option<u32>> = shared.iter().map(|&port| device_node(&plan.ports[port])).collect();
    let mut known: Vec<Option<u32>> = nodes.clone();
    known.sort();
    known.dedup();
    let of_node = |node: &Option<u32>| {
        let ports = shared.iter().zip(&nodes).filter(|&(_, other)| other == node).map(|(&port, _)| port);
        memory::shared_pool(run, ports)
    };
    own.iter().map(|&port| memory::port_pool(run, port)).chain(known.iter().map(of_node)).collect()
}

/// The mempools that ports receive into.
///
/// Ports of a socket share one, in which what waits for tools is counted once: what one port's transmit frees another's receive
/// takes while it is still in the processor's cache. A wire's port keeps one of its own, which no other port can empty, and so does
/// every port where the user says a size.
#[derive(Clone, Default)]
pub(in crate::broker) struct Pools {
    shared: Vec<(SocketId, Arc<Mempool>)>,
}

/// Returns whether a port receives into a pool with others of its socket.
fn shares_pool(plan: &Plan, port: PortId) -> bool {
    plan.settings.mempool.is_none() && plan.wire_at(port).is_none() && plan.ports[port].is_ethdev()
}

impl Pools {
    /// Gives the pool that port `id` receives into, and makes it where it is not there yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn get(&mut self, site: &Site<'_>, id: PortId, port: &Port) -> Result<Arc<Mempool>, Error> {
        let Site { eal, plan, .. } = *site;
        let socket = port.info().socket;
        if !shares_pool(plan, id) {
            let size = memory::port_pool(site.run(), id);
            return Ok(Mempool::create(eal, &format!("rx-{}", site.attachments[id].0), size, socket)?);
        }
        let is_here = |device: &Device| device.ethdev().is_some_and(|port| port.info().socket == socket);
        let here = site.ports.entries().filter(|(_, device)| is_here(device)).map(|(id, _)| id);
        let here = here.filter(|&port| shares_pool(plan, port));
        if let Some((_, pool)) = self.shared.iter().find(|(of, _)| *of == socket) {
            if memory::shared_need(site.run(), here) <= pool.count() {
                return Ok(Arc::clone(pool));
            }
            // a port that comes later than the pool, for which it has no room: where memory is scarce, a pool without reserves
            let name = format!("rx-{}", site.attachments[id].0);
            let (size, least) =
                (memory::port_pool(site.run(), id), memory::shared_need(site.run(), [id].into_iter()));
            return Mempool::create(eal, &name, size, socket)
                .or_else(
                    |error| {
                        if least < size { Mempool::create(eal, &name, least, socket) } else { Err(error) }
                    },
                )
                .map_err(Error::from);
        }
        let count = memory::shared_pool(site.run(), here);
        let pool = Mempool::create(eal, &format!("rx-{}-shared", site.attachments[id].0), count, socket)?;
        self.shared.push((socket, Arc::clone(&pool)));
        Ok(pool)
    }
}
