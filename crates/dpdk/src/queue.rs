//! Receive and transmit queues: each a value given out once, used through `&mut` by one lcore. They know pointers only; whose
//! packets those are, [`super::mbuf`] knows.

use std::ffi::c_void;
use std::sync::Arc;

use dpdk_sys::rte_mbuf;

use super::device::Started;
use super::kernel_tx;
use super::mbuf::field::{bytes_of, packet_len, prefetch_line};
use super::{EthdevId, QueueId};
use tapline_kernel::packet::Sender;

/// The packets that went through a queue in one call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    pub packets: usize,
    pub bytes: u64,
}

/// One receive queue of a started port.
pub struct RxQueue {
    port: EthdevId,
    queue: QueueId,
    /// The NIC may take VLAN tags off packets, which are put back.
    may_strip_tags: bool,
    _started: Arc<Started>,
}

/// One transmit queue of a started port, or a socket of the kernel's in its place.
pub struct TxQueue {
    port: EthdevId,
    queue: QueueId,
    /// Apart, so that queues of which there are many stay small: most ask for nothing.
    special: Option<Box<Special>>,
    /// `None`: there is no ethdev, and `special` has a socket.
    _started: Option<Arc<Started>>,
}

/// The work that sending has beside handing packets over.
struct Special {
    /// Packets may ask for checksums, which drivers prepare.
    prepares: bool,
    /// Bytes of a packet that the driver writes, where it cuts longer ones.
    written_len: Option<u32>,
    /// Bytes that the driver cut and nobody has counted.
    cut_bytes: u64,
    /// A socket of the kernel's takes the packets, and no driver.
    socket: Option<Sender>,
}

impl RxQueue {
    /// A queue that was set up on a port that was started since.
    pub(super) fn new(started: Arc<Started>, queue: QueueId, may_strip_tags: bool) -> Self {
        Self { port: started.id(), queue, may_strip_tags, _started: started }
    }

    pub fn port(&self) -> EthdevId {
        self.port
    }

    /// Asks the processor for what the driver keeps of the queue.
    #[inline(always)]
    pub fn load_ahead(&self) {
        // SAFETY: the queue was set up and the port started (`Started`).
        if let Some((_, queue)) = unsafe { rx_function(self.port.0, self.queue.0) } {
            prefetch_line(queue.cast_const().cast());
        }
    }

    /// Polls the queue once for as many packets as there are `slots`; the number of those that were filled, each with a reference
    /// that the caller owns from then on.
    #[inline(always)]
    pub(super) fn receive(&mut self, slots: &mut [*mut rte_mbuf]) -> usize {
        let (port, queue) = (self.port.0, self.queue.0);
        let (mbufs, count) = (slots.as_mut_ptr(), slots.len() as u16);
        // SAFETY: the queue was set up and the port started (`Started`).
        let packets = match unsafe { rx_function(port, queue) } {
            // SAFETY: the driver's own function and queue; only this value polls it, through `&mut`, and at most `count` pointers
            // are written.
            Some((receive, queue)) => unsafe { receive(queue, mbufs, count) },
            // SAFETY: as above.
            None => unsafe { dpdk_sys::tl_rx_burst(port, queue, mbufs, count) },
        };
        if self.may_strip_tags {
            // SAFETY: the driver wrote `packets` pointers to mbufs, which the caller owns alone from then on.
            unsafe { dpdk_sys::tl_put_tags_back(mbufs, packets) };
        }
        usize::from(packets)
    }
}

impl TxQueue {
    /// A queue that was set up on a port that was started since; `prepares` where packets may ask the NIC for checksums. The driver
    /// cuts packets to `written_len`.
    pub(super) fn new(
        started: Arc<Started>,
        queue: QueueId,
        prepares: bool,
        written_len: Option<u32>,
    ) -> Self {
        let special = Special { prepares, written_len, cut_bytes: 0, socket: None };
        let is_special = prepares || written_len.is_some();
        let special = is_special.then(|| Box::new(special));
        Self { port: started.id(), queue, special, _started: Some(started) }
    }

    /// Makes a queue whose packets a socket of the kernel's takes.
    pub fn to_kernel(socket: Sender) -> Self {
        let special = Special { prepares: false, written_len: None, cut_bytes: 0, socket: Some(socket) };
        Self {
            port: EthdevId(u16::MAX),
            queue: QueueId(0),
            special: Some(Box::new(special)),
            _started: None,
        }
    }

    /// Bytes that the driver cut off packets since they were asked for last.
    #[inline(always)]
    pub fn take_cut_bytes(&mut self) -> u64 {
        self.special.as_mut().map_or(0, |special| std::mem::take(&mut special.cut_bytes))
    }

    pub fn port(&self) -> EthdevId {
        self.port
    }

    /// Offers packets of so many bytes in all to the driver, which takes over the first ones. The caller forgets those.
    #[inline(always)]
    pub(super) fn send(&mut self, mbufs: &[*mut rte_mbuf], bytes: u64) -> Moved {
        // DPDK only reads the array (its parameter lacks a const)
        let (pointers, count) = (mbufs.as_ptr().cast_mut(), mbufs.len() as u16);
        let function = match self.special {
            // SAFETY: what has nothing special is of an ethdev: the queue was set up and the port started (`Started`).
            None => unsafe { tx_function(self.port.0, self.queue.0) },
            Some(_) => None,
        };
        let sent = match function {
            // SAFETY: the driver's own function and queue; only this value sends on it, through `&mut`, and the caller owns a
            // reference to each mbuf.
            Some((send, queue)) => unsafe { send(queue, pointers, count) },
            None => self.send_otherwise(mbufs),
        };
        let packets = usize::from(sent);
        if packets >= mbufs.len() {
            Moved { packets: mbufs.len(), bytes }
        } else {
            refuse(mbufs, packets, bytes)
        }
    }

    /// For mbufs as in [`send`](Self::send).
    #[inline(never)]
    fn send_otherwise(&mut self, mbufs: &[*mut rte_mbuf]) -> u16 {
        if let Some(socket) = self.special.as_mut().and_then(|special| special.socket.as_mut()) {
            return kernel_tx::send(socket, mbufs);
        }
        let written_len = self.special.as_ref().and_then(|special| special.written_len);
        let Some(written_len) = written_len else { return self.send_all(mbufs) };
        let cut_bytes = |mbuf| packet_len(mbuf).saturating_sub(written_len);
        if mbufs.iter().all(|&mbuf| cut_bytes(mbuf) == 0) {
            return self.send_all(mbufs);
        }
        // one by one, since those that were taken cannot be looked at any more
        for (sent, mbuf) in (0..).zip(mbufs) {
            let cut_bytes = cut_bytes(*mbuf);
            if self.send_all(std::slice::from_ref(mbuf)) == 0 {
                return sent;
            }
            if let Some(special) = &mut self.special {
                special.cut_bytes += u64::from(cut_bytes);
            }
        }
        mbufs.len() as u16
    }

    /// For mbufs as in [`send`](Self::send), on a queue of an ethdev.
    fn send_all(&mut self, mbufs: &[*mut rte_mbuf]) -> u16 {
        let (port, queue) = (self.port.0, self.queue.0);
        let (pointers, count) = (mbufs.as_ptr().cast_mut(), mbufs.len() as u16);
        if self.special.as_ref().is_some_and(|special| special.prepares) {
            // SAFETY: as in `send`; what asks for a checksum is a header of its own copy, which may be written to.
            unsafe { dpdk_sys::tl_tx_burst_prepared(port, queue, pointers, count) }
        } else {
            // SAFETY: as in `send`.
            unsafe { dpdk_sys::tl_tx_burst(port, queue, pointers, count) }
        }
    }
}

/// Gives what was sent if the driver took only the first `packets`. The caller still owns the others.
#[cold]
fn refuse(mbufs: &[*mut rte_mbuf], packets: usize, bytes: u64) -> Moved {
    Moved { packets, bytes: bytes - bytes_of(&mbufs[packets..]) }
}

type BurstFunction = unsafe extern "C" fn(*mut c_void, *mut *mut rte_mbuf, u16) -> u16;

/// The entry of a port in DPDK's table of drivers' functions.
#[inline(always)]
fn fast_path(port: u16) -> *const dpdk_sys::rte_eth_fp_ops {
    (&raw const dpdk_sys::rte_eth_fp_ops).cast::<dpdk_sys::rte_eth_fp_ops>().wrapping_add(usize::from(port))
}

/// Gives the function that `rte_eth_rx_burst` calls, unless somebody (such as a capture by dpdk-dumpcap) has put a callback in
/// between. Calling it directly saves a call in every poll.
///
/// # Safety
/// The queue was set up, and the port was started at some time.
#[inline(always)]
unsafe fn rx_function(port: u16, queue: u16) -> Option<(BurstFunction, *mut c_void)> {
    // SAFETY: the port exists, so it has an entry; its fields are read one by one, as the inline functions of rte_ethdev.h do.
    unsafe {
        let ops = fast_path(port);
        let callback = (*ops).rxq.clbk.add(usize::from(queue)).read_volatile();
        let function = (*ops).rx_pkt_burst?;
        callback.is_null().then(|| (function, (*ops).rxq.data.add(usize::from(queue)).read()))
    }
}

/// Gives the function that `rte_eth_tx_burst` calls, unless somebody has put a callback in between.
///
/// # Safety
/// As of [`rx_function`].
#[inline(always)]
unsafe fn tx_function(port: u16, queue: u16) -> Option<(BurstFunction, *mut c_void)> {
    // SAFETY: as in `rx_function`.
    unsafe {
        let ops = fast_path(port);
        let callback = (*ops).txq.clbk.add(usize::from(queue)).read_volatile();
        let function = (*ops).tx_pkt_burst?;
        callback.is_null().then(|| (function, (*ops).txq.data.add(usize::from(queue)).read()))
    }
}
