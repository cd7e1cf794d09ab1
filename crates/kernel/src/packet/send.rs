//! Sends frames by a packet socket, a burst in a call.
//! # Source
//! sendmmsg(2); Linux, `packet_snd` in net/packet/af_packet.c.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Failure;

/// Frames that one call takes.
const MOST: usize = 64;
/// Bytes that may be on their way through the kernel.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// A socket that sends whole frames.
pub struct Sender {
    socket: Arc<OwnedFd>,
    counts: Arc<SentCounts>,
}

/// The counts of a sender.
#[derive(Default, Debug)]
pub struct SentCounts {
    // who sends: adds; control: reads. Relaxed suffices: they order nothing but themselves.
    packets: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
}

impl SentCounts {
    /// Frames that the kernel took.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frames that the kernel does not take at any time: they are gone.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The outcome of a call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The first so many frames are done with: the kernel took them, or takes them at no time.
    pub frames: usize,
}

impl Sender {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        make_room(&socket);
        Self { socket, counts: Arc::default() }
    }

    /// Gives the sender's socket, in whose place another can be put.
    pub fn shared_socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Lets all who send by `socket` send by this sender's.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn in_place_of(self, socket: &OwnedFd) -> Result<(), Failure> {
        super::put_in_place(socket, &self.socket)
    }

    /// Gives what is counted.
    pub fn counts(&self) -> Arc<SentCounts> {
        Arc::clone(&self.counts)
    }

    /// Sends frames in their order, each of as many of `parts` as `parts_of` says of it: `parts` are those of all frames, one behind the
    /// other. Ends at the first that the kernel may take later.
    pub fn send(&mut self, parts: &[IoSlice<'_>], parts_of: &[usize]) -> Sent {
        let (mut done, mut parts) = (0, parts);
        while done < parts_of.len() {
            let offered = &parts_of[done..parts_of.len().min(done + MOST)];
            let taken = match self.offer(parts, offered) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(error) if is_for_later(&error) => break,
                Err(_) => {
                    add(&self.counts.refused, 1);
                    1
                }
            };
            let used: usize = offered[..taken].iter().sum();
            parts = parts.get(used..).unwrap_or_default();
            done += taken;
        }
        Sent { frames: done }
    }

    /// Offers at most `MOST` frames; gives how many of the first were taken.
    fn offer(&self, parts: &[IoSlice<'_>], parts_of: &[usize]) -> io::Result<usize> {
        // SAFETY: `mmsghdr` is numbers and null pointers, for all of which zeroes are valid.
        let mut messages: [libc::mmsghdr; MOST] = unsafe { std::mem::zeroed() };
        let mut rest = parts;
        let mut count = 0;
        for (message, &of_frame) in messages.iter_mut().zip(parts_of) {
            let Some((own, behind)) = rest.split_at_checked(of_frame) else { break };
            message.msg_hdr.msg_iov = own.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_iovlen = own.len() as _;
            rest = behind;
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT as _;
        // SAFETY: the socket is open while it is owned. The first `count` messages have parts that are borrowed for the call, of a type
        // that is laid out as `iovec` (`IoSlice`), and no address and no control data; the kernel only reads parts, and writes to the
        // messages' lengths.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, flags) };
        let Ok(sent) = usize::try_from(sent) else { return Err(io::Error::last_os_error()) };
        add(&self.counts.packets, sent as u64);
        let bytes: u64 = messages[..sent.min(count)].iter().map(|message| u64::from(message.msg_len)).sum();
        add(&self.counts.bytes, bytes);
        Ok(sent.min(count))
    }
}

/// Lets a socket have [`BUFFER_BYTES`] on their way, or as many as this process may.
pub(super) fn make_room(socket: &OwnedFd) {
    if !set_buffer(socket, libc::SO_SNDBUFFORCE, BUFFER_BYTES) {
        set_buffer(socket, libc::SO_SNDBUF, BUFFER_BYTES);
    }
}

/// Adds to a count that nobody else writes.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Returns whether the kernel may take the frame later: the interface is down or its queue full, or memory short.
fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EINTR
                | libc::ENETDOWN
                | libc::ENXIO
                | libc::ENODEV
        )
    )
}

/// Returns whether the kernel let the socket have so many bytes on their way.
fn set_buffer(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> bool {
    let (pointer, len) = (&raw const value, size_of_val(&value) as libc::socklen_t);
    // SAFETY: the socket is open while it is borrowed; the kernel reads one number during the call only.
    unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, pointer.cast(), len) == 0 }
}
