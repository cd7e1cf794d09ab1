//! Ports: attached, started with the queues that the plan and the driver agree on, and what the user should know of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Site;
use super::memory::Pools;
use super::probes::own_addresses;
use super::queues::SpareTxq;
use crate::broker::Error;
use crate::broker::clocks::{NicClock, PortClock};
use crate::broker::device::Device;
use crate::broker::iface_port::{IfacePort, Queues};
use crate::broker::refusal::{KeptPackets, Refusal};
use crate::plan::Plan;
use crate::plan::memory::{self, MBUFS_A_WORKER};
use crate::plan::value::{Output, PortPlan};
use tapline_api::event::Event;
use tapline_api::values::ReplaySpeed;
use tapline_api::words::{HashKind, TimeSource};
use tapline_datapath::ids::{PortId, WireId};
use tapline_datapath::receive::Source;
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::receive::clock::{ClockView, RxClock};
use tapline_datapath::receive::iface::Iface;
use tapline_datapath::receive::replay::{Progress, Replay};
use tapline_datapath::work_plan::ReplayPlan;
use tapline_dpdk::Eal;
use tapline_dpdk::driver::{Devargs, Driver, Takes};
use tapline_dpdk::mbuf::RxStamp;
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::port::{Port, PortConfig};
use tapline_kernel::interface::Index;
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet;

pub(in crate::broker) struct StartedPort {
    pub sources: Vec<Source>,
    pub txqs: Vec<Option<SpareTxq>>,
    /// Events about it that the user should see.
    pub notes: Vec<Event>,
    /// Its NIC says how it hashed packets.
    pub gives_rss: bool,
    /// This is what its packets are timed by.
    pub clock: PortClock,
}

impl StartedPort {
    /// A port that was started before, whose transmit queues that no worker has are `spare`.
    pub(in crate::broker) fn kept(spare: Vec<Option<SpareTxq>>) -> Self {
        Self {
            sources: Vec::new(),
            txqs: spare,
            notes: Vec::new(),
            gives_rss: false,
            clock: PortClock::Poll,
        }
    }
}

pub(in crate::broker) fn attach(eal: &Eal, port: &PortPlan) -> Result<Device, Error> {
    match (&port.replay, &port.iface) {
        (Some(_), _) => Ok(Device::Replay { name: port.name.clone(), progress: Arc::default() }),
        (None, Some(iface)) => Ok(Device::Iface(Arc::new(IfacePort::find(&port.name, iface)?))),
        (None, None) => Ok(Device::Ethdev(Port::attach(eal, &port.name, &port.devargs.with_added())?)),
    }
}

/// Starts a port, whose packets go into one of `pools`.
///
/// # Errors
/// The first thing that failed.
pub(in crate::broker) fn start_one(
    site: &Site<'_>,
    id: PortId,
    pools: &mut Pools,
) -> Result<StartedPort, Error> {
    match (&site.ports[id], &site.plan.ports[id].replay) {
        (Device::Ethdev(port), _) => start_port(site, id, port, pools),
        (Device::Iface(port), _) => start_iface(site, id, port),
        (Device::Replay { progress, .. }, replay) => start_replay(site, id, replay.as_ref(), progress),
        (Device::Closed { .. }, _) => Ok(StartedPort::kept(Vec::new())),
    }
}

fn start_replay(
    site: &Site<'_>,
    id: PortId,
    replay: Option<&ReplayPlan>,
    progress: &Arc<Progress>,
) -> Result<StartedPort, Error> {
    let Some(replay) = replay else {
        return Ok(StartedPort::kept(Vec::new()));
    };
    let Site { eal, plan, roles, .. } = *site;
    let (port_plan, workers) = (&plan.ports[id], roles.lcores.len());
    let count = memory::port_pool(site.run(), id);
    let least = workers as u32 * MBUFS_A_WORKER;
    if count < least {
        let port = port_plan.name.clone();
        return Err(Refusal::OwnPoolTooSmall { port, mbufs: count, workers, least }.into());
    }
    let pool = Mempool::create(eal, &format!("replay-{}", site.attachments[id].0), count, None)?;
    let step_ns = plan.order_of(id);
    let replay = Replay::open(replay, step_ns, pool, Arc::clone(progress)).map_err(|reason| {
        Refusal::Replay { port: port_plan.name.clone(), path: replay.path.clone(), reason }
    })?;
    Ok(StartedPort {
        sources: vec![Source::Replay(Box::new(replay))],
        txqs: Vec::new(),
        notes: Vec::new(),
        gives_rss: false,
        clock: PortClock::Given(TimeSource::File),
    })
}

fn start_iface(site: &Site<'_>, id: PortId, port: &IfacePort) -> Result<StartedPort, Error> {
    let Site { eal, plan, roles, .. } = *site;
    let port_plan = &plan.ports[id];
    let mut started = StartedPort::kept(Vec::new());
    let Some(iface) = &port_plan.iface else { return Ok(started) };
    started.clock =
        PortClock::Given(if iface.wants_nic_times { TimeSource::Nic } else { TimeSource::Kernel });
    let count = memory::port_pool(site.run(), id);
    let least = memory::receive_need(plan, id, port_plan.rxq.unwrap_or(1));
    let least = least.saturating_add(memory::wire_reserve(plan, id));
    if port_plan.rxq != Some(0) && count < least {
        let (port, workers) = (port.name().to_owned(), roles.lcores.len());
        return Err(Refusal::OwnPoolTooSmall { port, mbufs: count, workers, least }.into());
    }
    // as of a port that DPDK drives, one is there for tools that come
    let tx_queues = tx_queues(site, id, u16::MAX);
    let Queues { rings, txqs, warnings } =
        port.start(port_plan, iface, tx_queues.into(), wants_groups(plan, id))?;
    if !rings.is_empty() {
        let pool = Mempool::create(eal, &format!("iface-{}", site.attachments[id].0), count, None)?;
        started.sources.extend(rings.into_iter().map(|(ring, counts)| {
            let pool = Arc::clone(&pool);
            Source::Iface(Box::new(Iface::new(ring, pool, counts, iface.wants_nic_times)))
        }));
    }
    started.txqs.extend(txqs.into_iter().map(|txq| Some(SpareTxq::New(txq))));
    started.notes = warnings;
    Ok(started)
}

/// Returns whether a port has to receive frames for all groups, since it has an IPv6 address: who looks for the address asks a group.
pub(in crate::broker) fn wants_groups(plan: &Plan, id: PortId) -> bool {
    !plan.ports[id].is_promiscuous && own_addresses(plan, id).iter().any(IpAddr::is_ipv6)
}

/// Transmit queues that a port gets: what the user said, else one for each lcore that sends on it, as far as the driver has them.
fn tx_queues(site: &Site<'_>, port: PortId, offered: u16) -> u16 {
    let Site { plan, roles, .. } = *site;
    let senders = match plan.port_beyond(port) {
        // a wire's originals are sent by who polls them
        Some(beyond) => roles.pollers(plan, beyond).len(),
        None => roles.transmit.len(),
    };
    let wanted =
        if plan.is_sent_to(port) { u16::try_from(senders).unwrap_or(u16::MAX).min(offered) } else { 1 };
    plan.ports[port].txq.unwrap_or(wanted)
}

/// Lcores that may send what a side of a wire receives: as many as the other side has transmit queues.
pub(super) fn senders_beyond(site: &Site<'_>, id: PortId) -> Option<usize> {
    let other = site.plan.port_beyond(id)?;
    let offered = match &site.ports[other] {
        Device::Ethdev(port) => port.info().max_tx_queues,
        Device::Iface(_) => u16::MAX,
        Device::Replay { .. } | Device::Closed { .. } => return None,
    };
    Some(usize::from(tx_queues(site, other, offered)))
}

fn start_port(site: &Site<'_>, id: PortId, port: &Port, pools: &mut Pools) -> Result<StartedPort, Error> {
    let Site { eal, plan, roles, .. } = *site;
    let port_plan = &plan.ports[id];
    let info = port.info();
    let spreads = info.rss_types != 0 && info.reta_size > 0;
    let pollers = roles.pollers(plan, id).len();
    let pollers = pollers.min(senders_beyond(site, id).unwrap_or(usize::MAX));
    let rx_queues = port_plan.rxq.unwrap_or(if spreads {
        u16::try_from(pollers).unwrap_or(u16::MAX).min(info.max_rx_queues)
    } else {
        1
    });
    let is_tool = plan.is_sent_to(id);
    let tx_queues = tx_queues(site, id, info.max_tx_queues);
    if is_tool && tx_queues == 0 {
        return Err(Refusal::NoTransmitQueue { port: port.name().to_owned() }.into());
    }
    check_pool(site, id, port, rx_queues)?;
    let pool = if rx_queues == 0 { None } else { Some(pools.get(site, id, port)?) };
    let config = PortConfig {
        rx_queues,
        tx_queues,
        rx_descriptors: port_plan.rxd,
        tx_descriptors: port_plan.txd,
        mtu: port_plan.mtu,
        is_promiscuous: port_plan.is_promiscuous,
        wants_groups: wants_groups(plan, id),
        wants_rx_timestamps: site.run().wants_stamps(id) || plan.work.inputs[id].needs_time,
        wants_rss_hashes: plan.work.hashes.iter().any(|spec| spec.kind == HashKind::Rss),
        wants_udp_checksums: port_plan
            .uses
            .tools
            .iter()
            .any(|&tool| plan.tools[tool].copy.transport.sums_payload()),
        written_len: port_plan.devargs.written_len(),
    };
    let (rxqs, txqs) = port.start(&config, pool.as_ref())?;
    let why_split = (rx_queues > 1).then(|| port.spreading().why_split()).flatten();
    let note = why_split.map(|why| Event::FlowsSplit {
        port: port.name().to_owned(),
        queues: rx_queues,
        why: why.to_owned(),
    });
    let clock = rx_clock(eal, port, port_plan, config.wants_rx_timestamps, site.run().may_need_time(id))?;
    let sources = rxqs.into_iter().map(|rxq| {
        let clock = match &clock {
            ChosenClock::Poll => RxClock::Poll,
            ChosenClock::Epoch { place, unit_ns, source } => RxClock::Epoch {
                place: *place,
                unit_ns: *unit_ns,
                is_systems: *source == TimeSource::Kernel,
            },
            ChosenClock::Nic { place, nic } => {
                RxClock::Nic { place: *place, view: ClockView::new(nic.cell()) }
            }
        };
        Source::Queue { rxq, clock }
    });
    let gives_rss = config.wants_rss_hashes && rx_queues > 1 && port.gives_rss_hashes();
    Ok(StartedPort {
        sources: sources.collect(),
        txqs: txqs.into_iter().map(|txq| Some(SpareTxq::New(txq))).collect(),
        notes: note.into_iter().collect(),
        gives_rss,
        clock: match clock {
            ChosenClock::Poll => PortClock::Poll,
            ChosenClock::Epoch { source, .. } => PortClock::Given(source),
            ChosenClock::Nic { nic, .. } => PortClock::Nic(nic),
        },
    })
}

/// # Errors
/// If the user's mempool has not enough mbufs for the port's receive queues, what waits and the workers' caches.
fn check_pool(site: &Site<'_>, id: PortId, port: &Port, rx_queues: u16) -> Result<(), Error> {
    let plan = site.plan;
    let (port_plan, workers) = (&plan.ports[id], site.roles.lcores.len());
    let reserve = memory::wire_reserve(plan, id);
    let least = memory::receive_need(plan, id, rx_queues).saturating_add(reserve);
    let count = memory::port_pool(site.run(), id);
    if rx_queues > 0 && count < least {
        let refusal = Refusal::PortPoolTooSmall {
            port: port.name().to_owned(),
            mbufs: count,
            rx_queues,
            rx_descriptors: port_plan.rxd,
            kept: match (port_plan.resident, reserve) {
                (1.., _) => KeptPackets::InfiniteRx,
                (0, 1..) => KeptPackets::BehindWire,
                (0, 0) => KeptPackets::None,
            },
            workers,
            least,
        };
        return Err(refusal.into());
    }
    Ok(())
}

/// The clock that times a port's packets.
enum ChosenClock {
    Poll,
    Epoch { place: RxStamp, unit_ns: u64, source: TimeSource },
    Nic { place: RxStamp, nic: NicClock },
}

/// The best clock that the driver has: net_pcap's own times, the NIC's counter where it can be read, else the poll.
///
/// net_pcap stamps packets with microseconds unasked, and offers no timestamps; releases that offer them stamp with nanoseconds. What
/// it gives over and over (`infinite_rx`) has no stamps.
/// # Source
/// DPDK, `drivers/net/pcap/pcap_ethdev.c`: tag v22.11, and the change of 2026 to nanosecond precision.
fn rx_clock(
    eal: &Eal,
    port: &Port,
    plan: &PortPlan,
    is_wanted: bool,
    may_be_wanted: bool,
) -> Result<ChosenClock, Error> {
    let info = port.info();
    let is_pcap = Driver::named(&info.driver).is_some_and(|driver| driver.by_libpcap);
    let is_live =
        ["iface", "rx_iface", "rx_iface_in"].iter().any(|name| plan.devargs.argument(name).is_some());
    // net_pcap notes times in any case, and latency begins at the kernel's
    let is_noted = is_pcap && (is_wanted || may_be_wanted && plan.reads_capture() || is_live);
    if plan.resident > 0 || !(is_noted || is_wanted && info.rx_timestamps) {
        return Ok(ChosenClock::Poll);
    }
    let place = RxStamp::register(eal)?;
    if is_pcap {
        let source = if is_live { TimeSource::Kernel } else { TimeSource::File };
        return Ok(ChosenClock::Epoch {
            place,
            unit_ns: if info.rx_timestamps { 1 } else { 1000 },
            source,
        });
    }
    Ok(NicClock::new(port).map_or(ChosenClock::Poll, |nic| ChosenClock::Nic { place, nic }))
}

/// Warnings of tunnels whose path is taken to carry more than their port does.
pub(super) fn narrow_ports(site: &Site<'_>) -> Vec<Event> {
    let narrow = site.plan.tools.iter().filter(|tool| tool.copy.room.is_some()).filter_map(|tool| {
        let Output::Port(port) = tool.output else { return None };
        let device = &site.ports[port];
        // a driver of virtual devices says an MTU of its own, whatever its interface has
        let of_driver = || device.ethdev().and_then(Port::mtu).map(u32::from);
        let mtu = interface_mtu(&site.plan.ports[port], device).or_else(of_driver)?;
        let (port, tool, path_mtu) = (device.name().to_owned(), tool.name.clone(), tool.copy.mtu.into());
        (mtu < path_mtu).then_some(Event::PathTooWide { tool, port, mtu, path_mtu })
    });
    narrow.collect()
}

/// A warning where a port's kernel interface may bring frames that its driver cuts or loses without a word.
pub(in crate::broker) fn long_frames(port: &PortPlan) -> Option<Event> {
    let interface = port.devargs.argument("iface")?;
    if !port.is_ethdev() || port.rxq == Some(0) {
        return None;
    }
    let mtu = mtu_of(interface)?;
    let Driver { name: driver, most_mtu, .. } = port.devargs.driver()?;
    let (most_mtu, are_cut) = match (Longest::of(&port.devargs), *most_mtu) {
        (Some(longest), _) => (longest.0.saturating_sub(ethernet::HEADER_LEN as u32), true),
        (None, Some(most)) => (most, false),
        (None, None) => return None,
    };
    (mtu > most_mtu).then(|| Event::FramesTooLong {
        port: port.name.clone(),
        interface: interface.to_owned(),
        mtu,
        driver: (*driver).to_owned(),
        most_mtu,
        are_cut,
    })
}

/// A warning where a port's driver changes what comes by its kernel interface.
pub(in crate::broker) fn changed_frames(port: &PortPlan) -> Option<Event> {
    let driver = port.devargs.driver().filter(|driver| driver.changes_frames && port.rxq != Some(0))?;
    Some(Event::FramesChanged {
        port: port.name.clone(),
        interface: port.devargs.kernel_interface()?.to_owned(),
        driver: driver.name.to_owned(),
    })
}

/// Replays of one speed keep the distance of their first packets, where it is short: they may be of one event.
pub(super) fn set_replays_beside_each_other(ports: &mut [StartedPort]) {
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
    let firsts: Vec<(ReplaySpeed, u64)> =
        replays.iter().map(|(replay, first_ns)| (replay.speed(), *first_ns)).collect();
    for (replay, first_ns) in replays {
        let near = firsts.iter().filter(|(speed, other)| {
            *speed == replay.speed() && first_ns.saturating_sub(*other) <= LONGEST
        });
        let origin_ns = near.map(|(_, other)| *other).min().unwrap_or(first_ns);
        replay.set_origin(origin_ns);
    }
}

/// How long ports that were just started may take to have a link.
const LINK_WAIT: Duration = Duration::from_secs(1);

/// Finds the wires whose links are to be propagated although a driver cannot set them. It sets them up, where they should be, so
/// that this is found now rather than when one fails.
pub(in crate::broker) fn untied_wires(
    plan: &Plan,
    ports: &ById<PortId, Device>,
    notes: &mut Vec<Event>,
    comes: impl Fn(WireId) -> bool,
) -> ById<WireId, bool> {
    let is_untied = plan.wires.entries().map(|(id, wire)| {
        let failed = || wire.ports.iter().find_map(|&port| ports[port].set_link(true).err());
        let is_asked = wire.propagates_link && comes(id);
        let Some(error) = is_asked.then(failed).flatten() else { return false };
        notes.push(Event::LinksNotPropagated { wire: wire.name.clone(), error });
        true
    });
    is_untied.collect()
}

/// Waits until the ports of tools and wires have a link, as far as they get one: without, what comes first would be dropped.
pub(in crate::broker) fn wait_for_links(
    plan: &Plan,
    ports: &ById<PortId, Device>,
    comes: impl Fn(PortId) -> bool,
) {
    let ways = plan.wires.iter().flat_map(|wire| wire.ports);
    let tools = plan
        .tools
        .iter()
        .filter_map(|tool| if let Output::Port(port) = tool.output { Some(port) } else { None });
    let waited_for: Vec<&Device> =
        ways.chain(tools).filter(|&port| comes(port)).map(|port| &ports[port]).collect();
    let begun = Instant::now();
    while begun.elapsed() < LINK_WAIT && !waited_for.iter().all(|port| port.link().is_up) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The MTU of the kernel interface that a port is, at this moment; `None` where it is none, or the kernel does not say.
pub(in crate::broker) fn interface_mtu(plan: &PortPlan, device: &Device) -> Option<u32> {
    if let Device::Iface(port) = device {
        return port.mtu();
    }
    // what is made anew under its name is another interface
    let port = device.ethdev().filter(|port| !port.is_removed())?;
    let interface = plan.devargs.argument("iface").or_else(|| plan.devargs.argument("tx_iface"));
    // net_pcap and others do not know their interface's
    let makes_interface = || {
        plan.devargs
            .driver()
            .is_some_and(|driver| matches!(driver.takes, Takes::Kernel { makes_interface: true, .. }))
    };
    interface.and_then(mtu_of).or_else(|| makes_interface().then(|| port.mtu()).flatten().map(u32::from))
}

/// The MTU of a kernel interface, where the kernel says it.
fn mtu_of(interface: &str) -> Option<u32> {
    Index::of(interface)?.mtu()
}

/// The address if the devargs name a PCI device: `0000:03:00.0` or `03:00.0`.
pub(super) fn pci_address(devargs: &Devargs) -> Option<String> {
    let device = devargs.written_device();
    let parts: Vec<&str> = device.split([':', '.']).collect();
    let is_hex = parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit()));
    (matches!(parts.len(), 3 | 4) && device.contains('.') && is_hex).then(|| devargs.text().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        let pci_address = |text: &str| pci_address(&Devargs::new(text));
        assert_eq!(pci_address("0000:03:00.0"), Some("0000:03:00.0".to_owned()));
        assert_eq!(pci_address("03:00.1,mprq_en=1"), Some("03:00.1,mprq_en=1".to_owned()));
        assert_eq!(pci_address("net_pcap0,rx_pcap=a:b.c"), None);
        assert_eq!(pci_address("net_null0"), None);
    }
}
