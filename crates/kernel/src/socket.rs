//! Sockets that this process has open, and what the kernel counts of each: only a socket's owner can ask.
//! # Source
//! packet(7), `PACKET_STATISTICS`, which is set back when it is read. Linux, include/uapi/linux/if_xdp.h, `XDP_STATISTICS`.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, sockopt};

/// The sockets that this process had open at a time, by their numbers.
#[derive(Default, Debug)]
pub struct OpenSockets(BTreeSet<RawFd>);

/// Kinds of sockets that drivers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// `AF_PACKET`
    Packet,
    /// `AF_XDP`
    Xdp,
}

impl OpenSockets {
    /// Lists those of this moment; none where the kernel does not say.
    pub fn now() -> Self {
        let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Self::default() };
        let is_socket = |path: &std::path::Path| {
            std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        let sockets = entries.flatten().filter(|entry| is_socket(&entry.path()));
        Self(sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Opens again those of `family` that came since: while they are open, no other file comes to their numbers.
    pub fn opened_since(&self, family: Family) -> Vec<OwnedFd> {
        let family = match family {
            Family::Packet => AddressFamily::PACKET,
            Family::Xdp => AddressFamily::XDP,
        };
        let now = Self::now();
        let again = now.0.difference(&self.0).filter_map(|&number| open_again(number));
        again.filter(|socket| sockopt::socket_domain(socket) == Ok(family)).collect()
    }
}

/// Opens a file of this process once more, by its number; `None` where that is closed by now.
fn open_again(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is borrowed for one call of fcntl(2), F_DUPFD_CLOEXEC, which only reads the table of open files: of a number
    // that was closed since it was listed it gives an error, and of one that was taken since another file, which its callers look at
    // as at any. It is never -1: it was read from a name of digits.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().ok()
}

/// Takes the number of packets that a packet socket has lost since it was asked last; 0 where it does not say.
pub fn take_packet_drops(socket: BorrowedFd<'_>) -> u64 {
    const PACKET_STATISTICS: libc::c_int = 6; // linux/if_packet.h
    // tpacket_stats: packets, drops
    let mut stats = [0u32; 2];
    let mut len = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: the socket is open while it is borrowed; the kernel writes at most `len` bytes to `stats`, numbers for which any bytes
    // are valid, and their count to `len`, during the call only.
    unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            stats.as_mut_ptr().cast(),
            &mut len,
        )
    };
    u64::from(stats[1])
}

/// Gives the number of packets that an XDP socket has lost because its receive ring was full; 0 where it does not say.
pub fn xdp_ring_full(socket: BorrowedFd<'_>) -> u64 {
    sockopt::xdp_statistics(socket).ok().and_then(|stats| stats.rx_ring_full).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_that_comes_is_told_from_files_and_from_those_that_were_there() {
        let before = OpenSockets::now();
        let file = std::fs::File::open("/proc/self/stat").expect("procfs");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let (number, now) = (socket.as_raw_fd(), OpenSockets::now());
        assert!(
            !before.0.contains(&number) && now.0.contains(&number) && !now.0.contains(&file.as_raw_fd())
        );
        let again = open_again(number).expect("it is open");
        assert_eq!(sockopt::socket_domain(&again), Ok(AddressFamily::INET));
        assert!(before.opened_since(Family::Xdp).is_empty());
    }

    #[test]
    fn what_is_no_socket_of_a_driver_has_lost_nothing() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert_eq!((take_packet_drops(socket.as_fd()), xdp_ring_full(socket.as_fd())), (0, 0));
    }
}
