//! Packet sockets on one interface: rings that frames are received by, and sockets that frames are sent by.
//!
//! Frames come as the interface gives them: no IP fragment is joined with another, since no socket asks the kernel to (`PACKET_FANOUT_FLAG_DEFRAG`),
//! and VLAN tags that the kernel took off are put back.
//! # Source
//! packet(7). Linux, Documentation/networking/packet_mmap.rst, include/uapi/linux/if_packet.h.

/// Receives frames by a ring that the kernel writes.
mod ring;
/// Sends frames.
mod send;
/// Spreads frames over sockets by their addresses.
mod spread;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::interface::Index;

pub use ring::{Frames, Ring, RingFrame};
pub use send::{Sender, Sent, SentCounts};

/// How an interface is received from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSpec {
    /// Rings, 1 or more: frames are spread over them by their addresses.
    pub queues: u16,
    /// Bytes of each ring.
    pub ring_bytes: u64,
    /// Frames that this machine sends by the interface are received too.
    pub takes_outgoing: bool,
    /// Frames for any address are received.
    pub is_promiscuous: bool,
    /// Frames for all groups are received, too.
    pub wants_groups: bool,
    /// The NIC's own times are asked for: it must be told to stamp every frame.
    pub wants_nic_times: bool,
}

/// Why an interface cannot be opened.
#[derive(Debug)]
pub enum Failure {
    /// The kernel wants a right that this process does not have.
    NoRights,
    /// The NIC does not stamp every frame that it receives, or may not be told to.
    NoNicTimes(io::Error),
    /// A call was refused.
    Refused { call: &'static str, error: io::Error },
}

impl Failure {
    fn of(call: &'static str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Failure::NoRights,
            _ => Failure::Refused { call, error },
        }
    }
}

/// Opens the rings of an interface, by which frames are received from then on.
///
/// # Errors
/// If the kernel refuses a socket, a ring or an option.
pub fn open_rings(interface: Index, spec: &RingSpec) -> Result<Vec<Ring>, Failure> {
    if spec.wants_nic_times {
        interface.stamp_all().map_err(Failure::NoNicTimes)?;
    }
    let mut rings = Vec::new();
    for _ in 0..spec.queues {
        let ring = Ring::open(Arc::new(open_socket()?), spec)?;
        let socket = ring.socket();
        if spec.queues > 1 {
            // until all have joined, each would get every frame
            spread::take_nothing(socket)?;
        }
        bind(socket, interface, libc::ETH_P_ALL)?;
        if spec.is_promiscuous {
            receive_more(socket, interface, libc::PACKET_MR_PROMISC)?;
        }
        if spec.wants_groups {
            receive_more(socket, interface, libc::PACKET_MR_ALLMULTI)?;
        }
        rings.push(ring);
    }
    if spec.queues > 1 {
        let sockets: Vec<BorrowedFd<'_>> = rings.iter().map(Ring::socket).collect();
        spread::join(&sockets)?;
        sockets.iter().try_for_each(|&socket| spread::take_all(socket))?;
    }
    Ok(rings)
}

/// Opens a socket that sends by an interface, and receives nothing.
///
/// # Errors
/// If the kernel refuses it.
pub fn open_sender(interface: Index) -> Result<Sender, Failure> {
    let socket = open_socket()?;
    bind(socket.as_fd(), interface, 0)?;
    Ok(Sender::new(Arc::new(socket)))
}

/// Lets the number of `before` stand for the file of `after`, in one step for all who have the number.
/// # Source
/// dup(2): dup3.
fn put_in_place(before: &OwnedFd, after: &OwnedFd) -> Result<(), Failure> {
    // SAFETY: both are open while they are borrowed. The owner of `before` goes on owning its number, which it closes once.
    match unsafe { libc::dup3(after.as_raw_fd(), before.as_raw_fd(), libc::O_CLOEXEC) } {
        0.. => Ok(()),
        _ => Err(Failure::of("dup3", io::Error::last_os_error())),
    }
}

/// Opens a packet socket of whole frames, which receives nothing until it is bound.
fn open_socket() -> Result<OwnedFd, Failure> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
        .map_err(|error| Failure::of("socket", error.into()))
}

/// Ties a socket to an interface, and to the frames of `protocol`; 0 is none.
fn bind(socket: BorrowedFd<'_>, interface: Index, protocol: libc::c_int) -> Result<(), Failure> {
    // SAFETY: `sockaddr_ll` is numbers, for which zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = interface.number();
    let (pointer, len) = (&raw const address, size_of_val(&address) as libc::socklen_t);
    // SAFETY: the socket is open while it is borrowed; the kernel reads `len` bytes of `address` during the call only.
    let result = unsafe { libc::bind(socket.as_raw_fd(), pointer.cast(), len) };
    if result == 0 { Ok(()) } else { Err(Failure::of("bind", io::Error::last_os_error())) }
}

/// Lets an interface receive frames for any address (`PACKET_MR_PROMISC`) or any group (`PACKET_MR_ALLMULTI`), for as long as the
/// socket is open.
fn receive_more(socket: BorrowedFd<'_>, interface: Index, what: libc::c_int) -> Result<(), Failure> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.number(),
        mr_type: what as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(socket, "PACKET_ADD_MEMBERSHIP", libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Sets an option of packet sockets, whose value is plain numbers without a pointer.
fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    name: &'static str,
    option: libc::c_int,
    value: &T,
) -> Result<(), Failure> {
    let (pointer, len) = (std::ptr::from_ref(value), size_of::<T>() as libc::socklen_t);
    // SAFETY: the socket is open while it is borrowed; the kernel reads `len` bytes of `value` during the call only. No caller's value
    // has a pointer in it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, pointer.cast(), len) };
    if result == 0 { Ok(()) } else { Err(Failure::of(name, io::Error::last_os_error())) }
}
