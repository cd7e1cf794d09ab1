//! Attached devices: what stays as long as a port or one of its queues is there.

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::attach_advice;
use super::driver::{Devargs, Driver};
use super::eal::KeptDevice;
use super::error::{Error, check, or_fault, take_log};
use super::kernel_drops::Missed;
use super::mempool::Mempool;
use super::{Eal, EthdevId, SocketId};
use tapline_kernel::interface;
use tapline_kernel::socket::OpenSockets;

/// The most ethdevs that the linked DPDK can hold.
pub const MAX_PORTS: usize = dpdk_sys::RTE_MAX_ETHPORTS as usize;

/// A device that was attached: closed and removed when the last of its owners goes.
pub(super) struct Attached {
    pub id: EthdevId,
    /// The pipeline file's name for it.
    pub name: String,
    pub info: PortInfo,
    /// Once set it stays: what the driver holds is bound to what is gone.
    removed: Arc<AtomicBool>,
    /// The kernel's interface behind it.
    interface: Option<interface::Index>,
    /// Devargs without arguments, as they were written.
    device: String,
    /// Packets that were sent into the device, and that nobody receives any more.
    pub discarded: AtomicU64,
    /// The count of what the kernel loses and the driver does not say.
    pub missed: Missed,
    /// The mempools that receive queues were set up with. The driver has mbufs of them until the port is closed.
    pub pools: Mutex<Vec<Arc<Mempool>>>,
    /// Dropped last.
    eal: Eal,
}

/// A started port: alive as long as one of its queues is, then stopped.
pub(super) struct Started {
    port: Arc<Attached>,
}

/// The abilities of a port, as its driver states them.
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
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
}

impl Attached {
    /// Attaches the device that `devargs` names, or takes over a further port of one that is attached.
    pub(crate) fn new(eal: &Eal, name: &str, devargs: &Devargs) -> Result<Self, Error> {
        let what = format!("port {name}");
        let sockets_before = OpenSockets::now();
        let id = probe(&what, devargs)?;
        let info = port_info(id, &what).inspect_err(|_| {
            // SAFETY: the device was probed just above, and nobody has a handle to it.
            unsafe { dpdk_sys::tl_eth_remove(id.0) };
        })?;
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
        let interface = devargs.kernel_interface().and_then(interface::Index::of);
        let missed = Missed::of(devargs);
        missed.watch_sockets(&sockets_before);
        Ok(Self {
            id,
            name: name.to_owned(),
            info,
            removed,
            interface,
            device: devargs.written_device().to_owned(),
            discarded: AtomicU64::new(0),
            missed,
            pools: Mutex::default(),
            eal: eal.clone(),
        })
    }

    /// Frees and counts the packets that wait in the rings of a device that was sent to and is received from no more.
    fn discard(&self) {
        if Driver::named(&self.info.driver).is_some_and(|driver| driver.is_loop) {
            // SAFETY: whoever calls has the last handle to the device besides those of the control thread, and no queue is left.
            let discarded = unsafe { dpdk_sys::tl_eth_discard_rings(self.id.0) };
            self.discarded.fetch_add(discarded.into(), Ordering::Relaxed);
        }
    }

    /// Returns whether the device was taken away for good.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Returns whether the kernel's interface behind the device, if it has one, is running; notes where that is gone.
    pub(crate) fn is_interface_running(&self) -> bool {
        let state = self.interface.map_or(interface::State::Running, interface::Index::state);
        if state == interface::State::Gone {
            self.removed.store(true, Ordering::Relaxed);
        }
        state == interface::State::Running
    }
}

impl Started {
    /// Starts a device whose queues are set up.
    pub(crate) fn new(port: Arc<Attached>) -> Result<Self, Error> {
        // SAFETY: the port is configured and its queues are set up.
        let result = or_fault("start.port", || unsafe { dpdk_sys::rte_eth_dev_start(port.id.0) });
        check(format!("port {}", port.name), "rte_eth_dev_start", result)?;
        Ok(Self { port })
    }

    pub(crate) fn id(&self) -> EthdevId {
        self.port.id
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: the last queue is gone, so no lcore polls the port.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.port.id.0) };
        self.port.discard();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.discard();
        // SAFETY: no queue and no handle is left; the port was stopped when the last queue went.
        let removed = unsafe { dpdk_sys::tl_eth_remove(self.id.0) };
        let removed = or_fault("detach.remove", || removed);
        if let Err(error) = check(format!("port {}", self.name), "rte_dev_remove", removed) {
            let (port, device) = (self.name.clone(), self.device.clone());
            self.eal.note_kept(KeptDevice { port, device, error: error.to_string() });
        }
    }
}

extern "C" fn mark_removed(_port: u16, argument: *mut c_void) {
    // SAFETY: `attach` passed a pointer from `Arc::into_raw` that is never released.
    let removed = unsafe { &*argument.cast::<AtomicBool>() };
    removed.store(true, Ordering::Relaxed);
}

/// Has DPDK take the device, unless it did for another port of the same; gives the first ethdev of the device.
fn probe(what: &str, devargs: &Devargs) -> Result<EthdevId, Error> {
    let c_devargs = CString::new(devargs.text())
        .map_err(|_| Error::refused(what, "rte_dev_probe", "the devargs contain a NUL byte"))?;
    take_log();
    if ports_of(&c_devargs).is_empty() {
        // SAFETY: EAL is running; the string is NUL-terminated and copied by DPDK.
        let result = or_fault("start.attach", || unsafe { dpdk_sys::rte_dev_probe(c_devargs.as_ptr()) });
        check(what, "rte_dev_probe", result).map_err(|error| {
            // net_af_packet numbers its fanout group by the process and the interface, and another process may have come to the same
            // number
            let is_taken = error.to_string().contains("PACKET_FANOUT");
            let logged = error.log.join("; ");
            error.remedy(if is_taken {
                "another process has the same fanout number by chance: start again".to_owned()
            } else {
                attach_advice::advice(devargs, &logged)
                    .unwrap_or_else(|| format!("check the devargs `{devargs}`"))
            })
        })?;
    } else if !devargs.text().contains(':') {
        let reason = format!("the device of `{devargs}` is attached already");
        return Err(Error::refused(what, "rte_dev_probe", reason)
            .remedy("give each port a device of its own, such as net_null0, net_null1"));
    }
    ports_of(&c_devargs).first().copied().ok_or_else(|| {
        Error::refused(what, "rte_dev_probe", "the driver took the device but made no port")
            .remedy(format!("check the devargs `{devargs}`"))
    })
}

fn ports_of(devargs: &CStr) -> Vec<EthdevId> {
    let mut found = [0u16; MAX_PORTS];
    // SAFETY: the string is NUL-terminated; the shim writes at most MAX_PORTS numbers.
    let count =
        unsafe { dpdk_sys::tl_eth_ports_of(devargs.as_ptr(), found.as_mut_ptr(), MAX_PORTS as u32) };
    found[..count as usize].iter().map(|&id| EthdevId(id)).collect()
}

/// The offload by which a NIC computes UDP checksums of what it sends.
pub(super) fn udp_checksum() -> u64 {
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
