//! Packets that the kernel lost before a driver could receive them, where the driver does not say so.
//!
//! Stands beside a port's statistics. The kernel counts them by socket, and only a socket's owner can ask: the driver's sockets are
//! those that came into being while the port was attached and started.
//!
//! # Source
//! Linux, include/uapi/linux/if_xdp.h: `rx_ring_full` is beside `rx_dropped`, which is all that DPDK's `eth_stats_get` (af_xdp) adds
//! to `imissed`; drivers/net/tun.c, `tun_net_xmit`.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::driver::{Devargs, KernelCounter};
use tapline_kernel::interface::dropped_before_sending;
use tapline_kernel::socket::{Family, OpenSockets, take_packet_drops, xdp_ring_full};

/// The kernel's counters of a port's losses.
pub(crate) struct Missed {
    counter: Counter,
    /// The driver's sockets, kept open beside it so that no other file gets their numbers.
    sockets: Mutex<Vec<OwnedFd>>,
    /// Without receive queues nobody misses what is lost.
    is_receiving: AtomicBool,
    /// control: adds what a counter had that is set back when it is read.
    packets: AtomicU64,
}

enum Counter {
    /// net_af_packet: of its sockets, set back when it is read.
    Packet,
    /// net_af_xdp: of its sockets.
    Xdp,
    /// net_tap: what its interface was to send and had no room for, less what it was at the start.
    Interface { name: String, before: u64 },
    /// The driver says all.
    None,
}

impl Missed {
    pub(super) fn of(devargs: &Devargs) -> Self {
        let counter = match (
            devargs.driver().map_or(KernelCounter::None, |driver| driver.kernel_counter),
            devargs.kernel_interface(),
        ) {
            (KernelCounter::PacketSockets, _) => Counter::Packet,
            (KernelCounter::XdpSockets, _) => Counter::Xdp,
            (KernelCounter::Interface, Some(name)) => {
                Counter::Interface { before: dropped_before_sending(name), name: name.to_owned() }
            }
            (KernelCounter::Interface, None) | (KernelCounter::None, _) => Counter::None,
        };
        Self {
            counter,
            sockets: Mutex::default(),
            is_receiving: AtomicBool::new(false),
            packets: AtomicU64::new(0),
        }
    }

    /// Notes the driver's sockets: those that were not there `before`.
    pub(super) fn watch_sockets(&self, before: &OpenSockets) {
        let family = match self.counter {
            Counter::Packet => Family::Packet,
            Counter::Xdp => Family::Xdp,
            Counter::Interface { .. } | Counter::None => return,
        };
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).extend(before.opened_since(family));
    }

    pub(super) fn set_receiving(&self, is_receiving: bool) {
        // relaxed suffices: it orders nothing but itself
        self.is_receiving.store(is_receiving, Ordering::Relaxed);
    }

    /// Packets that were lost since the start, beside those that the driver says.
    pub(super) fn packets(&self) -> u64 {
        if !self.is_receiving.load(Ordering::Relaxed) {
            return 0;
        }
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.counter {
            Counter::Packet => {
                let lost: u64 = sockets.iter().map(|socket| take_packet_drops(socket.as_fd())).sum();
                self.packets.fetch_add(lost, Ordering::Relaxed) + lost
            }
            Counter::Xdp => sockets.iter().map(|socket| xdp_ring_full(socket.as_fd())).sum(),
            Counter::Interface { name, before } => dropped_before_sending(name).saturating_sub(*before),
            Counter::None => 0,
        }
    }
}
