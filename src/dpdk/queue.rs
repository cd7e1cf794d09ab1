//! Receive and transmit queues: each a value given out once, used through `&mut` by one lcore.

use std::sync::Arc;

use dpdk_sys::rte_mbuf;

use super::mbuf::{MbufBurst, bytes_of};
use super::mempool::Mempool;
use super::port::Started;
use super::{EthdevId, QueueId};

/// What went through a queue in one call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    pub packets: usize,
    pub bytes: u64,
}

/// One receive queue of a started port.
pub struct RxQueue {
    port: EthdevId,
    queue: QueueId,
    _started: Arc<Started>,
    /// Keeps the mbufs alive that the driver holds.
    _pool: Arc<Mempool>,
}

/// One transmit queue of a started port.
pub struct TxQueue {
    port: EthdevId,
    queue: QueueId,
    _started: Arc<Started>,
}

impl RxQueue {
    /// A queue that was set up with mbufs of `pool` on a port that was started since.
    pub(super) fn new(started: Arc<Started>, queue: QueueId, pool: Arc<Mempool>) -> Self {
        Self { port: started.id(), queue, _started: started, _pool: pool }
    }

    pub fn port(&self) -> EthdevId {
        self.port
    }

    /// Polls the queue once into an empty burst, for at most `limit` packets (1..=64).
    #[inline]
    pub fn receive(&mut self, burst: &mut MbufBurst, limit: usize) -> Moved {
        let (port, queue) = (self.port.0, self.queue.0);
        let mut bytes = 0;
        let packets = burst.fill(limit, |slots| {
            // SAFETY: the queue was set up and the port started (`Started`), and only this value polls it, through `&mut`;
            // DPDK writes at most `slots.len()` pointers.
            let packets =
                usize::from(unsafe { dpdk_sys::tl_rx_burst(port, queue, slots.as_mut_ptr(), slots.len() as u16, &mut bytes) });
            (packets, bytes)
        });
        Moved { packets, bytes }
    }
}

impl TxQueue {
    /// A queue that was set up on a port that was started since.
    pub(super) fn new(started: Arc<Started>, queue: QueueId) -> Self {
        Self { port: started.id(), queue, _started: started }
    }

    pub fn port(&self) -> EthdevId {
        self.port
    }

    /// Offers packets of so many bytes in all to the driver, which takes over the first ones. The caller forgets those.
    #[inline]
    pub(super) fn send(&mut self, mbufs: &[*mut rte_mbuf], bytes: u64) -> Moved {
        // SAFETY: the queue was set up and the port started (`Started`), and only this value sends on it, through `&mut`; the
        // caller owns a reference to each mbuf. DPDK only reads the array (its parameter lacks a const).
        let sent = unsafe { dpdk_sys::tl_tx_burst(self.port.0, self.queue.0, mbufs.as_ptr().cast_mut(), mbufs.len() as u16) };
        let packets = usize::from(sent).min(mbufs.len());
        // the caller still owns what was refused
        let refused = if packets < mbufs.len() { bytes_of(&mbufs[packets..]) } else { 0 };
        Moved { packets, bytes: bytes - refused }
    }
}
