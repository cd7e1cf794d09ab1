//! Ethdev ports: attach by devargs, ask what they can do, start with queues, read link and statistics.

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::{Driver, kernel_interface};
use super::error::{Error, check, or_fault};
use super::kernel_drops::Missed;
use super::mempool::{DATA_ROOM, Mempool};
use super::queue::{RxQueue, TxQueue};
use super::{Eal, EthdevId, QueueId, SocketId};
use tapline_kernel::interface;
use tapline_kernel::socket::OpenSockets;

/// The most ethdevs that the linked DPDK can hold.
pub const MAX_PORTS: usize = dpdk_sys::RTE_MAX_ETHPORTS as usize;

/// An attached port. Cloning shares it; the device is closed and removed when the last clone and the last queue are gone.
#[derive(Clone)]
pub struct Port(Arc<Attached>);

struct Attached {
    id: EthdevId,
    /// The pipeline file's name for it.
    name: String,
    info: PortInfo,
    /// Once set it stays: what the driver holds is bound to what is gone.
    removed: Arc<AtomicBool>,
    /// The kernel's interface behind it.
    interface: Option<interface::Index>,
    /// What the kernel loses and the driver does not say.
    missed: Missed,
    /// What receive queues were set up with: the driver has mbufs of them until the port is closed.
    pools: Mutex<Vec<Arc<Mempool>>>,
    /// Dropped last.
    _eal: Eal,
}

/// A started port: alive as long as one of its queues is, then stopped.
pub struct Started {
    port: Arc<Attached>,
}

/// What a port can do, as its driver says.
#[derive(Clone, Debug)]
pub struct PortInfo {
    pub driver: String,
    pub socket: SocketId,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub min_mtu: u16,
    pub max_mtu: u16,
    /// Entries of the RSS indirection table; 0: the driver does not spread packets over receive queues.
    pub reta_size: u16,
    pub rss_types: u64,
    pub rx_timestamps: bool,
    pub multi_segment_tx: bool,
    /// Computes UDP checksums of what it sends.
    pub udp_checksum_tx: bool,
    rx_offloads: u64,
    tx_offloads: u64,
}

/// How a port is started.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig {
    pub rx_queues: u16,
    pub tx_queues: u16,
    /// Descriptors wanted in each receive queue; the driver's limits apply.
    pub rx_descriptors: u16,
    /// Descriptors wanted in each transmit queue; the driver's limits apply.
    pub tx_descriptors: u16,
    /// Largest packet without Ethernet header; `None`: the driver's default.
    pub mtu: Option<u16>,
    /// Receive packets for any address: what a broker is for.
    pub is_promiscuous: bool,
    /// The NIC is to say when it received each packet, if it can.
    pub wants_rx_timestamps: bool,
    /// The NIC is to say by which hash it spread each packet, if it spreads them.
    pub wants_rss_hashes: bool,
    /// The NIC is to compute UDP checksums of packets that ask for it, if it can.
    pub wants_udp_checksums: bool,
}

/// State of a port's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub is_up: bool,
    /// `None` where the driver does not know.
    pub speed_mbps: Option<u32>,
}

/// What the driver and the NIC count.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize)]
pub struct DriverStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Packets that the NIC, or the kernel, dropped because no descriptor, or place in a ring, was free.
    pub missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Packets that could not be received for want of mbufs.
    pub no_mbuf: u64,
}

impl DriverStats {
    /// What was counted since `earlier`; 0 where the driver has begun anew in between.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(earlier.rx_packets),
            tx_packets: self.tx_packets.saturating_sub(earlier.tx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            tx_bytes: self.tx_bytes.saturating_sub(earlier.tx_bytes),
            missed: self.missed.saturating_sub(earlier.missed),
            rx_errors: self.rx_errors.saturating_sub(earlier.rx_errors),
            tx_errors: self.tx_errors.saturating_sub(earlier.tx_errors),
            no_mbuf: self.no_mbuf.saturating_sub(earlier.no_mbuf),
        }
    }
}

/// What the symmetric key repeats.
pub const RSS_KEY_WORD: u16 = 0x6d5a;
/// Symmetric Toeplitz key: both directions of a flow hash alike, whatever the NIC.
/// # Source
/// Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling", 2012.
const SYMMETRIC_RSS_KEY: [u8; 64] = {
    let mut key = [0x6d; 64];
    let mut at = 1;
    while at < key.len() {
        key[at] = 0x5a;
        at += 2;
    }
    key
};

/// How a started port spreads packets over its receive queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spreading {
    /// By a hash with the symmetric key: both directions of a flow come by one queue.
    Symmetric,
    /// By a hash with another key, or on no more than one header.
    OtherKey,
    /// The driver does not say how.
    Unknown,
    /// It does not hash.
    None,
}

impl Spreading {
    /// What the user should know of a port with several receive queues, if anything.
    pub fn note(self, name: &str, queues: u16) -> Option<String> {
        let fact = match self {
            Spreading::Symmetric => return None,
            Spreading::OtherKey => "the driver did not take the symmetric RSS key",
            Spreading::Unknown => "the driver does not say which RSS key it uses",
            Spreading::None => "the driver does not spread packets by their flows",
        };
        Some(format!(
            "warning: port {name}: {fact}: the two directions of a flow may come by different queues of its {queues}, and meet on no \
             worker; use rxq 1 with `set lcores receive LIST work LIST` where they must"
        ))
    }
}

impl Port {
    /// Attaches the device that `devargs` names, as testpmd takes them: `net_pcap0,rx_pcap=a.pcap`, `0000:03:00.0`.
    ///
    /// # Errors
    /// If no driver takes the device or it brings no port; with what the driver logged.
    pub fn attach(eal: &Eal, name: &str, devargs: &str) -> Result<Self, Error> {
        let what = format!("port {name}");
        let c_devargs = CString::new(devargs)
            .map_err(|_| Error::refused(&what, "rte_dev_probe", "the devargs contain a NUL byte"))?;
        super::error::take_log();
        let sockets_before = OpenSockets::now();
        let before = ports_of(&c_devargs);
        if before.is_empty() {
            // SAFETY: EAL is running; the string is NUL-terminated and copied by DPDK.
            let result =
                or_fault("start.attach", || unsafe { dpdk_sys::rte_dev_probe(c_devargs.as_ptr()) });
            check(&what, "rte_dev_probe", result).map_err(|error| {
                // net_af_packet numbers its fanout group by the process and the interface, and another process may have come to the
                // same number
                let is_taken = error.to_string().contains("PACKET_FANOUT");
                let remedy = format!("check the devargs `{devargs}`");
                error.remedy(if is_taken {
                    "another process has the same fanout number by chance: start again".to_owned()
                } else {
                    remedy
                })
            })?;
        } else if !devargs.contains(':') {
            return Err(Error::refused(
                &what,
                "rte_dev_probe",
                format!("the device of `{devargs}` is attached already"),
            )
            .remedy("give each port a device of its own, such as net_null0, net_null1"));
        }
        let Some(&id) = ports_of(&c_devargs).first() else {
            return Err(Error::refused(
                &what,
                "rte_dev_probe",
                "the driver took the device but made no port",
            )
            .remedy(format!("check the devargs `{devargs}`")));
        };
        let info = port_info(id, &what)?;
        let removed = Arc::new(AtomicBool::new(false));
        // SAFETY: the callback gets the leaked clone of `removed` as long as the process lives.
        unsafe {
            dpdk_sys::tl_eth_on_removal(
                id.0,
                Some(mark_removed),
                Arc::into_raw(Arc::clone(&removed)).cast_mut().cast(),
            )
        };
        // libpcap knows names that are none of the kernel's, such as `any`
        let interface = kernel_interface(devargs).and_then(interface::Index::of);
        let missed = Missed::of(devargs);
        missed.watch_sockets(&sockets_before);
        let (name, pools, eal) = (name.to_owned(), Mutex::default(), eal.clone());
        Ok(Self(Arc::new(Attached { id, name, info, removed, interface, missed, pools, _eal: eal })))
    }

    pub fn id(&self) -> EthdevId {
        self.0.id
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn info(&self) -> &PortInfo {
        &self.0.info
    }

    /// Whether the device was taken away under the running port, for good: a hot unplug that the driver noticed, or the end of the
    /// kernel's interface behind it, which [`link`](Self::link) notices.
    pub fn is_removed(&self) -> bool {
        self.0.removed.load(Ordering::Relaxed)
    }

    /// Configures the queues and starts the port; every queue is given out here, once.
    ///
    /// # Errors
    /// With the call that the driver refused and what to change.
    pub fn start(
        &self,
        config: &PortConfig,
        pool: Option<&Arc<Mempool>>,
    ) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        let what = || format!("port {}", self.0.name);
        let id = self.0.id.0;
        let info = &self.0.info;
        let sockets_before = OpenSockets::now();
        for (asked, offered, word, call) in [
            (config.rx_queues, info.max_rx_queues, "rxq", "rte_eth_rx_queue_setup"),
            (config.tx_queues, info.max_tx_queues, "txq", "rte_eth_tx_queue_setup"),
        ] {
            if asked > offered {
                let queues = if offered == 1 { "queue" } else { "queues" };
                return Err(Error::refused(
                    what(),
                    call,
                    format!("driver offers {offered} {queues}, {asked} asked"),
                )
                .remedy(format!("use {word} {offered}")));
            }
        }
        // SAFETY: these read constants.
        let (scatter, multi_segs) =
            unsafe { (dpdk_sys::tl_rx_offload_scatter(), dpdk_sys::tl_tx_offload_multi_segs()) };
        // SAFETY: as above.
        let timestamp = unsafe { dpdk_sys::tl_rx_offload_timestamp() };
        // SAFETY: as above.
        let rss_hash = unsafe { dpdk_sys::tl_rx_offload_rss_hash() };
        let long_packets = config.mtu.is_some_and(|mtu| mtu > DATA_ROOM - 18);
        let raw = dpdk_sys::tl_eth_config {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            mtu: config.mtu.unwrap_or(0),
            rx_offloads: (if long_packets { info.rx_offloads & scatter } else { 0 })
                | (if config.wants_rss_hashes && config.rx_queues > 1 {
                    info.rx_offloads & rss_hash
                } else {
                    0
                })
                | (if config.wants_rx_timestamps { info.rx_offloads & timestamp } else { 0 }),
            tx_offloads: info.tx_offloads
                & (multi_segs | if config.wants_udp_checksums { udp_checksum() } else { 0 }),
            rss_types: info.rss_types,
            rss_key: SYMMETRIC_RSS_KEY.as_ptr(),
            rss_key_len: SYMMETRIC_RSS_KEY.len() as u8,
            want_link_events: 0,
        };
        // SAFETY: the config lives through the call; DPDK checks its numbers.
        let mut result = or_fault("start.configure", || unsafe { dpdk_sys::tl_eth_configure(id, &raw) });
        if result < 0 && config.rx_queues > 1 {
            // some drivers want another key length, or none: their own key still spreads the packets
            let plain = dpdk_sys::tl_eth_config { rss_key: std::ptr::null(), rss_key_len: 0, ..raw };
            // SAFETY: as above.
            result = unsafe { dpdk_sys::tl_eth_configure(id, &plain) };
        }
        check(what(), "rte_eth_dev_configure", result)?;

        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: both numbers are read and written during the call only.
        let result = or_fault("start.queue_sizes", || unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
        });
        check(what(), "rte_eth_dev_adjust_nb_rx_tx_desc", result)?;
        let socket = super::raw_socket(info.socket);
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner).extend(pool.cloned());
        for queue in 0..config.rx_queues {
            let Some(pool) = pool else {
                return Err(Error::refused(
                    what(),
                    "rte_eth_rx_queue_setup",
                    "a receive queue needs a mempool",
                ));
            };
            // SAFETY: the pool lives until the port is closed (`Attached::pools`).
            let result = or_fault("start.rx_queue", || unsafe {
                dpdk_sys::tl_eth_rx_queue_setup(id, queue, rx_descriptors, socket, pool.raw())
            });
            check(what(), "rte_eth_rx_queue_setup", result)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: plain numbers, checked by DPDK.
            let result = or_fault("start.tx_queue", || unsafe {
                dpdk_sys::tl_eth_tx_queue_setup(id, queue, tx_descriptors, socket)
            });
            check(what(), "rte_eth_tx_queue_setup", result)?;
        }
        // SAFETY: the port is configured and its queues are set up.
        let result = or_fault("start.port", || unsafe { dpdk_sys::rte_eth_dev_start(id) });
        check(what(), "rte_eth_dev_start", result)?;
        self.0.missed.watch_sockets(&sockets_before);
        self.0.missed.set_receiving(config.rx_queues > 0);
        if config.rx_queues > 0 && config.is_promiscuous {
            // A driver without the notion receives everything anyway.
            // SAFETY: the port is started.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
        }
        let started = Arc::new(Started { port: Arc::clone(&self.0) });
        let rxqs = (0..config.rx_queues).map(|queue| RxQueue::new(Arc::clone(&started), QueueId(queue)));
        let prepares = config.wants_udp_checksums && info.udp_checksum_tx;
        let txqs =
            (0..config.tx_queues).map(|queue| TxQueue::new(Arc::clone(&started), QueueId(queue), prepares));
        Ok((rxqs.collect(), txqs.collect()))
    }

    /// How the started port spreads packets over its receive queues, as the driver says.
    pub fn spreading(&self) -> Spreading {
        self.rss().0
    }

    /// Whether the started port says of each packet the hash that it spread it by, and that is [`RSS_KEY_WORD`]'s over addresses
    /// and ports of TCP and UDP: several receive queues, and `wants_rss_hashes`, are the conditions on our side.
    pub fn gives_rss_hashes(&self) -> bool {
        // SAFETY: these read constants.
        let (offload, ports) = unsafe { (dpdk_sys::tl_rx_offload_rss_hash(), dpdk_sys::tl_rss_ports()) };
        let (spreading, types) = self.rss();
        spreading == Spreading::Symmetric
            && types & ports == ports
            && self.0.info.rx_offloads & offload != 0
    }

    fn rss(&self) -> (Spreading, u64) {
        if self.0.info.rss_types == 0 {
            return (Spreading::None, 0);
        }
        let mut key = [0; SYMMETRIC_RSS_KEY.len()];
        let mut types = 0;
        // SAFETY: the shim writes at most `key.len()` bytes to `key`, and `types`, during the call only.
        let len =
            unsafe { dpdk_sys::tl_eth_rss(self.0.id.0, key.as_mut_ptr(), key.len() as u8, &mut types) };
        let spreading = match usize::try_from(len) {
            Err(_) => Spreading::Unknown,
            Ok(0) => Spreading::Unknown,
            Ok(_) if types == 0 => Spreading::None,
            Ok(len) if key.get(..len) == SYMMETRIC_RSS_KEY.get(..len) => Spreading::Symmetric,
            Ok(_) => Spreading::OtherKey,
        };
        (spreading, types)
    }

    /// State of the link, without waiting for it. Where the driver sits on an interface of the kernel, that must be running too:
    /// net_af_packet and net_pcap themselves never notice.
    pub fn link(&self) -> Link {
        let mut link = dpdk_sys::tl_eth_link::default();
        // SAFETY: `link` is written during the call only.
        let result = unsafe { dpdk_sys::tl_eth_link(self.0.id.0, &mut link) };
        let state = self.0.interface.map_or(interface::State::Running, interface::Index::state);
        if state == interface::State::Gone {
            self.0.removed.store(true, Ordering::Relaxed);
        }
        let is_running = state == interface::State::Running;
        Link {
            is_up: result == 0 && link.up != 0 && is_running && !self.is_removed(),
            speed_mbps: (link.speed_mbps != u32::MAX && link.speed_mbps != 0).then_some(link.speed_mbps),
        }
    }

    /// Sets the link up or down, as `testpmd`'s `set link-up port`.
    ///
    /// # Errors
    /// If the driver cannot.
    pub fn set_link(&self, is_up: bool) -> Result<(), Error> {
        let id = self.0.id.0;
        let (call, result) = if is_up {
            // SAFETY: the port is attached.
            ("rte_eth_dev_set_link_up", unsafe { dpdk_sys::rte_eth_dev_set_link_up(id) })
        } else {
            // SAFETY: as above.
            ("rte_eth_dev_set_link_down", unsafe { dpdk_sys::rte_eth_dev_set_link_down(id) })
        };
        check(format!("port {}", self.0.name), call, result).map(drop)
    }

    /// What the driver counts. Zeroes where it does not answer.
    pub fn stats(&self) -> DriverStats {
        let mut raw = dpdk_sys::rte_eth_stats::default();
        // SAFETY: `raw` is written during the call only.
        if unsafe { dpdk_sys::rte_eth_stats_get(self.0.id.0, &mut raw) } != 0 {
            return DriverStats::default();
        }
        DriverStats {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            missed: raw.imissed + self.0.missed.packets(),
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            no_mbuf: raw.rx_nombuf,
        }
    }

    /// Starts the PTP clock of a started port; whether the driver has one. In some NICs (igb) it stands still until then.
    pub fn start_clock(&self) -> bool {
        // SAFETY: the port is attached.
        unsafe { dpdk_sys::rte_eth_timesync_enable(self.0.id.0) == 0 }
    }

    /// The counter that the NIC stamps packets with, or its PTP clock in nanoseconds; `None` where the driver lets neither be read.
    pub fn read_clock(&self) -> Option<u64> {
        let mut ticks = 0;
        // SAFETY: `ticks` is written during the call only.
        if unsafe { dpdk_sys::rte_eth_read_clock(self.0.id.0, &mut ticks) } == 0 {
            return Some(ticks);
        }
        let mut time = dpdk_sys::timespec::default();
        // SAFETY: `time` is written during the call only.
        let result = unsafe { dpdk_sys::rte_eth_timesync_read_time(self.0.id.0, &mut time) };
        (result == 0)
            .then(|| (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }

    /// The driver's extended statistics, by its own names.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let id = self.0.id.0;
        let what = || format!("port {}", self.0.name);
        // SAFETY: a null array of size 0 asks for the number of statistics.
        let count = check(what(), "rte_eth_xstats_get_names", unsafe {
            dpdk_sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0)
        })?;
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); count as usize];
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); count as usize];
        // SAFETY: the array has room for `count` names.
        let named = check(what(), "rte_eth_xstats_get_names", unsafe {
            dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32)
        })?;
        // SAFETY: the array has room for `count` values.
        let valued = check(what(), "rte_eth_xstats_get", unsafe {
            dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32)
        })?;
        let pairs = values.iter().take(valued.min(count) as usize).filter_map(|value| {
            let name = names.get(value.id as usize).filter(|_| value.id < named as u64)?;
            // SAFETY: DPDK terminates names within their array.
            let text = unsafe { CStr::from_ptr(name.name.as_ptr()) };
            Some((text.to_string_lossy().into_owned(), value.value))
        });
        Ok(pairs.collect())
    }

    /// The MTU in force, in bytes.
    pub fn mtu(&self) -> Option<u16> {
        let mut mtu = 0;
        // SAFETY: `mtu` is written during the call only.
        (unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.0.id.0, &mut mtu) } == 0).then_some(mtu)
    }

    /// The port's Ethernet address.
    pub fn mac(&self) -> Option<[u8; 6]> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: `address` is written during the call only.
        (unsafe { dpdk_sys::rte_eth_macaddr_get(self.0.id.0, &mut address) } == 0)
            .then_some(address.addr_bytes)
    }
}

impl Started {
    pub(super) fn id(&self) -> EthdevId {
        self.port.id
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: the last queue is gone, so no lcore polls the port.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.port.id.0) };
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: no queue and no handle is left; the port was stopped when the last queue went.
        unsafe { dpdk_sys::tl_eth_remove(self.id.0) };
    }
}

extern "C" fn mark_removed(_port: u16, argument: *mut c_void) {
    // SAFETY: `attach` passed a pointer from `Arc::into_raw` that is never released.
    let removed = unsafe { &*argument.cast::<AtomicBool>() };
    removed.store(true, Ordering::Relaxed);
}

fn ports_of(devargs: &CStr) -> Vec<EthdevId> {
    let mut found = [0u16; MAX_PORTS];
    // SAFETY: the string is NUL-terminated; the shim writes at most MAX_PORTS numbers.
    let count =
        unsafe { dpdk_sys::tl_eth_ports_of(devargs.as_ptr(), found.as_mut_ptr(), MAX_PORTS as u32) };
    found[..count as usize].iter().map(|&id| EthdevId(id)).collect()
}

fn udp_checksum() -> u64 {
    // SAFETY: this reads a constant.
    unsafe { dpdk_sys::tl_tx_offload_udp_cksum() }
}

fn port_info(id: EthdevId, what: &str) -> Result<PortInfo, Error> {
    let mut raw = dpdk_sys::tl_eth_info::default();
    // SAFETY: `raw` is written during the call only.
    let result = or_fault("start.info", || unsafe { dpdk_sys::tl_eth_info(id.0, &mut raw) });
    check(what, "rte_eth_dev_info_get", result)?;
    let driver = if raw.driver.is_null() {
        "".into()
    } else {
        // SAFETY: the driver's name is a static string, and not null.
        unsafe { CStr::from_ptr(raw.driver) }.to_string_lossy()
    };
    // SAFETY: reads the device's NUMA node.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id.0) };
    // SAFETY: these read constants.
    let (timestamp, multi_segs) =
        unsafe { (dpdk_sys::tl_rx_offload_timestamp(), dpdk_sys::tl_tx_offload_multi_segs()) };
    let multi_segment_tx = raw.tx_offloads & multi_segs != 0
        || Driver::named(&driver).is_some_and(|driver| driver.joins_segments);
    Ok(PortInfo {
        driver: driver.into_owned(),
        socket: u32::try_from(socket).ok(),
        max_rx_queues: raw.max_rx_queues,
        max_tx_queues: raw.max_tx_queues,
        min_mtu: raw.min_mtu,
        max_mtu: raw.max_mtu,
        reta_size: raw.reta_size,
        rss_types: raw.rss_types,
        rx_timestamps: raw.rx_offloads & timestamp != 0,
        multi_segment_tx,
        udp_checksum_tx: raw.tx_offloads & udp_checksum() != 0,
        rx_offloads: raw.rx_offloads,
        tx_offloads: raw.tx_offloads,
    })
}
