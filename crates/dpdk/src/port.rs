//! Ethdev ports: attach by devargs, start with queues, read link and statistics.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tapline_api::snapshot::DriverStats;

use super::device::{Attached, Started, udp_checksum};
pub use super::device::{MAX_PORTS, PortInfo};
use super::driver::Devargs;
use super::error::{Error, check, or_fault};
use super::mempool::{DATA_ROOM, Mempool};
use super::queue::{RxQueue, TxQueue};
use super::{Eal, EthdevId, QueueId};
use tapline_kernel::socket::OpenSockets;

/// An attached port. Cloning shares it; the device is closed and removed when the last clone and the last queue are gone.
#[derive(Clone)]
pub struct Port(Arc<Attached>);

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
    /// Receive frames for all groups, too: neighbour solicitations go to one that the port is not told of.
    pub wants_groups: bool,
    /// The NIC is to say when it received each packet, if it can.
    pub wants_rx_timestamps: bool,
    /// The NIC is to say by which hash it spread each packet, if it spreads them.
    pub wants_rss_hashes: bool,
    /// The NIC is to compute UDP checksums of packets that ask for it, if it can.
    pub wants_udp_checksums: bool,
    /// Bytes of a packet that the driver writes, where it cuts longer ones.
    pub written_len: Option<u32>,
}

/// State of a port's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub is_up: bool,
    /// `None` where the driver does not know.
    pub speed_mbps: Option<u32>,
}

/// The word that the symmetric key repeats.
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
    /// The NIC uses a hash with the symmetric key: both directions of a flow come by one queue.
    Symmetric,
    /// The NIC uses a hash with another key, or of no more than one header.
    OtherKey,
    /// The driver does not say how.
    Unknown,
    /// It does not hash.
    None,
}

impl Spreading {
    /// Returns why the two directions of a flow may come by different queues, if they may.
    pub fn why_split(self) -> Option<&'static str> {
        match self {
            Spreading::Symmetric => None,
            Spreading::OtherKey => Some("the driver did not take the symmetric RSS key"),
            Spreading::Unknown => Some("the driver does not say which RSS key it uses"),
            Spreading::None => Some("the driver does not spread packets by their flows"),
        }
    }
}

impl Port {
    /// Attaches the device that `devargs` names.
    ///
    /// # Errors
    /// If no driver takes the device or it brings no port; with what the driver logged.
    pub fn attach(eal: &Eal, name: &str, devargs: &Devargs) -> Result<Self, Error> {
        Attached::new(eal, name, devargs).map(|attached| Self(Arc::new(attached)))
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

    /// Returns whether the device was taken away under the running port, for good: a hot unplug that the driver noticed, or the end of the
    /// kernel's interface behind it, which [`link`](Self::link) notices.
    pub fn is_removed(&self) -> bool {
        self.0.is_removed()
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
        let sockets_before = OpenSockets::now();
        self.check_offer(config)?;
        self.configure(config)?;
        self.set_up_queues(config, pool)?;
        let started = Arc::new(Started::new(Arc::clone(&self.0))?);
        self.0.missed.watch_sockets(&sockets_before);
        self.0.missed.set_receiving(config.rx_queues > 0);
        if config.rx_queues > 0 && config.is_promiscuous {
            // A driver without the notion receives everything anyway.
            // SAFETY: the port is started.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.0.id.0) };
        }
        if config.rx_queues > 0 && config.wants_groups {
            // A driver without the notion receives everything anyway.
            // SAFETY: the port is started.
            unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.0.id.0) };
        }
        // the offload is never asked for; NICs are known that were told so by others, such as the host of a virtual function
        // SAFETY: this reads a constant.
        let may_strip_tags = self.0.info.rx_offloads & unsafe { dpdk_sys::tl_rx_offload_vlan_strip() } != 0;
        let rxqs = (0..config.rx_queues)
            .map(|queue| RxQueue::new(Arc::clone(&started), QueueId(queue), may_strip_tags));
        let prepares = config.wants_udp_checksums && self.0.info.udp_checksum_tx;
        let txqs = (0..config.tx_queues)
            .map(|queue| TxQueue::new(Arc::clone(&started), QueueId(queue), prepares, config.written_len));
        Ok((rxqs.collect(), txqs.collect()))
    }

    /// Gives the name of the port for errors.
    fn what(&self) -> String {
        format!("port {}", self.0.name)
    }

    /// Refuses more queues than the driver offers.
    fn check_offer(&self, config: &PortConfig) -> Result<(), Error> {
        let info = &self.0.info;
        for (asked, offered, word, call) in [
            (config.rx_queues, info.max_rx_queues, "rxq", "rte_eth_rx_queue_setup"),
            (config.tx_queues, info.max_tx_queues, "txq", "rte_eth_tx_queue_setup"),
        ] {
            if asked > offered {
                let queues = if offered == 1 { "queue" } else { "queues" };
                let reason = format!("driver offers {offered} {queues}, {asked} asked");
                return Err(
                    Error::refused(self.what(), call, reason).remedy(format!("use {word} {offered}"))
                );
            }
        }
        Ok(())
    }

    /// Tells the driver the numbers of queues, and which offloads are wanted of those that it has.
    fn configure(&self, config: &PortConfig) -> Result<(), Error> {
        let (id, info) = (self.0.id.0, &self.0.info);
        // SAFETY: these read constants.
        let (scatter, multi_segs) =
            unsafe { (dpdk_sys::tl_rx_offload_scatter(), dpdk_sys::tl_tx_offload_multi_segs()) };
        // SAFETY: as above.
        let timestamp = unsafe { dpdk_sys::tl_rx_offload_timestamp() };
        // SAFETY: as above.
        let rss_hash = unsafe { dpdk_sys::tl_rx_offload_rss_hash() };
        let long_packets = config.mtu.is_some_and(|mtu| mtu > DATA_ROOM - 18);
        let if_wanted = |is_wanted: bool, offload: u64| if is_wanted { offload } else { 0 };
        let raw = dpdk_sys::tl_eth_config {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            mtu: config.mtu.unwrap_or(0),
            rx_offloads: info.rx_offloads
                & (if_wanted(long_packets, scatter)
                    | if_wanted(config.wants_rss_hashes && config.rx_queues > 1, rss_hash)
                    | if_wanted(config.wants_rx_timestamps, timestamp)),
            tx_offloads: info.tx_offloads
                & (multi_segs | if_wanted(config.wants_udp_checksums, udp_checksum())),
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
        check(self.what(), "rte_eth_dev_configure", result).map(drop)
    }

    /// Sets up every queue of a configured port; receive queues take their mbufs of `pool`.
    fn set_up_queues(&self, config: &PortConfig, pool: Option<&Arc<Mempool>>) -> Result<(), Error> {
        let id = self.0.id.0;
        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: both numbers are read and written during the call only.
        let result = or_fault("start.queue_sizes", || unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
        });
        check(self.what(), "rte_eth_dev_adjust_nb_rx_tx_desc", result)?;
        let socket = super::raw_socket(self.0.info.socket);
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner).extend(pool.cloned());
        for queue in 0..config.rx_queues {
            let Some(pool) = pool else {
                let reason = "a receive queue needs a mempool";
                return Err(Error::refused(self.what(), "rte_eth_rx_queue_setup", reason));
            };
            // SAFETY: the pool lives until the port is closed (`Attached::pools`).
            let result = or_fault("start.rx_queue", || unsafe {
                dpdk_sys::tl_eth_rx_queue_setup(id, queue, rx_descriptors, socket, pool.raw())
            });
            check(self.what(), "rte_eth_rx_queue_setup", result)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: plain numbers, checked by DPDK.
            let result = or_fault("start.tx_queue", || unsafe {
                dpdk_sys::tl_eth_tx_queue_setup(id, queue, tx_descriptors, socket)
            });
            check(self.what(), "rte_eth_tx_queue_setup", result)?;
        }
        Ok(())
    }

    /// How the started port spreads packets over its receive queues, as the driver says.
    pub fn spreading(&self) -> Spreading {
        self.rss().0
    }

    /// Returns whether the started port says of each packet the hash that it spread it by, and that is [`RSS_KEY_WORD`]'s over addresses
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
        let is_running = self.0.is_interface_running();
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

    /// Has the started port take frames to any address, or those to its own alone. A driver without the notion receives everything.
    ///
    /// # Errors
    /// If the driver cannot at this time.
    pub fn set_promiscuous(&self, is_promiscuous: bool) -> Result<(), Error> {
        let id = self.0.id.0;
        let (call, result) = if is_promiscuous {
            // SAFETY: the port is attached.
            ("rte_eth_promiscuous_enable", unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) })
        } else {
            // SAFETY: as above.
            ("rte_eth_promiscuous_disable", unsafe { dpdk_sys::rte_eth_promiscuous_disable(id) })
        };
        if result == -libc::ENOTSUP { Ok(()) } else { check(self.what(), call, result).map(drop) }
    }

    /// Gives the driver's counters; zeroes if it does not answer.
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
            missed: raw.imissed + self.0.missed.packets() + self.0.discarded.load(Ordering::Relaxed),
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
