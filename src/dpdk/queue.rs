//! Receive and transmit queues: each a value given out once, used through `&mut` by one lcore.

use std::sync::Arc;

use dpdk_sys::rte_mbuf;

use super::mbuf::MbufBurst;
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
    pub(super) port: Arc<Started>,
    pub(super) queue: QueueId,
    /// Keeps the mbufs alive that the driver holds.
    pub(super) _pool: Arc<Mempool>,
}

/// One transmit queue of a started port.
pub struct TxQueue {
    pub(super) port: Arc<Started>,
    pub(super) queue: QueueId,
}

impl RxQueue {
    pub fn port(&self) -> EthdevId {
        self.port.id()
    }

    /// Polls the queue once into an empty burst, for at most `limit` packets (1..=64).
    #[inline]
    pub fn receive(&mut self, burst: &mut MbufBurst, limit: usize) -> Moved {
        let (port, queue) = (self.port.id().0, self.queue.0);
        let mut bytes = 0;
        let packets = burst.fill(limit, |slots| {
            // SAFETY: the queue was set up and the port started (`Started`), and only this value polls it, through `&mut`;
            // DPDK writes at most `slots.len()` pointers.
            usize::from(unsafe { dpdk_sys::tl_rx_burst(port, queue, slots.as_mut_ptr(), slots.len() as u16, &mut bytes) })
        });
        Moved { packets, bytes }
    }
}

impl TxQueue {
    pub fn port(&self) -> EthdevId {
        self.port.id()
    }

    /// Offers packets to the driver, which takes over the first ones. The caller forgets those.
    #[inline]
    pub(super) fn send(&mut self, mbufs: &[*mut rte_mbuf]) -> Moved {
        let mut bytes = 0;
        // SAFETY: the queue was set up and the port started (`Started`), and only this value sends on it, through `&mut`; the
        // caller owns a reference to each mbuf. DPDK only reads the array (its parameter lacks a const).
        let sent = unsafe {
            dpdk_sys::tl_tx_burst(self.port.id().0, self.queue.0, mbufs.as_ptr().cast_mut(), mbufs.len() as u16, &mut bytes)
        };
        Moved { packets: usize::from(sent).min(mbufs.len()), bytes }
    }
}
