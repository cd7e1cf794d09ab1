//! Packets that the kernel lost before a driver could receive them, where the driver does not say so.
//!
//! Stands beside a port's statistics. The kernel counts them by socket, and only a socket's owner can ask: the driver's sockets are
//! those that came into being while the port was attached and started.
//!
//! # Source
//! packet(7), `PACKET_STATISTICS`, which is set back when it is read. Linux, include/uapi/linux/if_xdp.h: `rx_ring_full` is beside
//! `rx_dropped`, which is all that DPDK's `eth_stats_get` (af_xdp) adds to `imissed`; drivers/net/tun.c, `tun_net_xmit`.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::driver::{Driver, KernelCounter, kernel_interface};

/// Asks how many packets a packet socket has lost.
const PACKET_STATISTICS: libc::c_int = 6; // linux/if_packet.h

/// What the kernel says of a port's losses.
pub(crate) struct Missed {
    counter: Counter,
    /// Of the driver, and kept open beside it, so that no other file comes to their numbers.
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
    /// net_tap: what its interface was to send and had no room for, as a file says, less what it was at the start.
    Interface { path: String, before: u64 },
    /// The driver says all.
    None,
}

/// The open sockets of this process.
pub(super) fn sockets() -> BTreeSet<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let is_socket = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let sockets = entries.flatten().filter(|entry| is_socket(&entry.path()));
    sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

impl Missed {
    pub(super) fn of(devargs: &str) -> Self {
        let interface = || kernel_interface(devargs).filter(|name| !name.contains('/'));
        let counter = match (
            Driver::of(devargs).map_or(KernelCounter::None, |driver| driver.kernel_counter),
            interface(),
        ) {
            (KernelCounter::PacketSockets, _) => Counter::Packet,
            (KernelCounter::XdpSockets, _) => Counter::Xdp,
            (KernelCounter::Interface, Some(name)) => {
                let path = format!("/sys/class/net/{name}/statistics/tx_dropped");
                Counter::Interface { before: read_count(&path), path }
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
    pub(super) fn watch_sockets(&self, before: &BTreeSet<RawFd>) {
        let family = match self.counter {
            Counter::Packet => libc::AF_PACKET,
            Counter::Xdp => libc::AF_XDP,
            Counter::Interface { .. } | Counter::None => return,
        };
        let mut watched = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for &fd in sockets().difference(before) {
            let mut domain: libc::c_int = 0;
            if socket_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, &mut domain) && domain == family {
                // SAFETY: it was open a moment ago, and drivers close sockets on this thread only; it is borrowed for this call.
                watched.extend(unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned());
            }
        }
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
                let lost = sockets.iter().map(|socket| {
                    // tpacket_stats: packets, drops
                    let mut stats = [0u32; 2];
                    socket_option(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_STATISTICS, &mut stats);
                    u64::from(stats[1])
                });
                let lost: u64 = lost.sum();
                self.packets.fetch_add(lost, Ordering::Relaxed) + lost
            }
            Counter::Xdp => {
                let lost = sockets.iter().map(|socket| {
                    // xdp_statistics: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, and two more
                    let mut stats = [0u64; 6];
                    socket_option(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_STATISTICS, &mut stats);
                    stats[3]
                });
                lost.sum()
            }
            Counter::Interface { path, before } => read_count(path).saturating_sub(*before),
            Counter::None => 0,
        }
    }
}

/// A number in a file; 0 where there is none.
fn read_count(path: &str) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Reads a plain option of a socket; whether the kernel has it. One that is shorter than `value` leaves the rest as it is.
fn socket_option<T: Plain>(socket: RawFd, level: libc::c_int, name: libc::c_int, value: &mut T) -> bool {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, for which any bytes are valid (`Plain`).
    unsafe { libc::getsockopt(socket, level, name, std::ptr::from_mut(value).cast(), &mut len) == 0 }
}

/// Numbers, and arrays of them.
trait Plain {}
impl Plain for libc::c_int {}
impl Plain for [u32; 2] {}
impl Plain for [u64; 6] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_comes_is_told_from_files_and_from_those_that_were_there() {
        let before = sockets();
        let _file = std::fs::File::open("/proc/self/stat").expect("procfs");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let fd = socket.as_raw_fd();
        assert!(!before.contains(&fd) && sockets().contains(&fd));
        let mut domain = 0;
        assert!(socket_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, &mut domain));
        assert_eq!(domain, libc::AF_INET);
    }
}
