//! Receive: one poll of one receive queue into the burst.

use std::sync::Arc;

use super::post::Post;
use crate::dpdk::mbuf::MbufBurst;
use crate::dpdk::queue::RxQueue;
use crate::plan::plan::PortId;
use crate::stats::counters::WorkerCounters;

/// A receive queue that a worker polls.
pub struct Intake {
    pub port: PortId,
    pub rxq: RxQueue,
    /// Where frames for Tapline itself go, if tunnels leave by the port.
    pub post: Option<Arc<Post>>,
}

/// Polls once for at most `limit` packets, and counts them; the number received.
#[inline]
pub fn receive(intake: &mut Intake, limit: usize, burst: &mut MbufBurst, counters: &WorkerCounters) -> usize {
    let moved = intake.rxq.receive(burst, limit);
    if moved.packets == 0 {
        counters.lcore.empty_polls.add(1);
        return 0;
    }
    counters.lcore.bursts[moved.packets.ilog2() as usize].add(1);
    let port = &counters.ports[intake.port.0];
    port.packets.add(moved.packets as u64);
    port.bytes.add(moved.bytes);
    moved.packets
}
