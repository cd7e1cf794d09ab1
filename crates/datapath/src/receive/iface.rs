//! Interfaces of the kernel as ports: frames as they were on the wire, with the kernel's or the NIC's times.
//!
//! Stands where a receive queue does. The kernel writes frames into a ring; the worker copies them into mbufs of the port's pool. Where the pool
//! runs empty they stay in the ring, and what finds no room there is counted by the kernel as missed.
//! # Source
//! packet(7) (see `tapline_kernel::packet`).

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::clock::{self, ClockView};
use crate::copies::facts::Stamps;
use crate::counters::Counter;
use tapline_api::words::ClockQuality;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::queue::Moved;
use tapline_kernel::packet::Ring;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// The counts of a ring.
#[derive(Default)]
pub struct RingCounts {
    // worker: adds; control: reads
    pub packets: Counter,
    pub bytes: Counter,
}

/// A ring of an interface.
pub struct Iface {
    ring: Ring,
    pool: Arc<Mempool>,
    counts: Arc<RingCounts>,
    /// Times are the NIC's.
    is_nics_time: bool,
    /// When the first packet of the last burst was received.
    first_ns: u64,
}

impl Iface {
    /// Packets come by `ring`, into mbufs of `pool`. The NIC was asked for their times where `is_nics_time`.
    pub fn new(ring: Ring, pool: Arc<Mempool>, counts: Arc<RingCounts>, is_nics_time: bool) -> Self {
        Self { ring, pool, counts, is_nics_time, first_ns: 0 }
    }

    /// Takes at most `limit` packets that have come into an empty burst, with their times.
    pub fn receive(&mut self, burst: &mut MbufBurst, limit: usize, stamps: &mut Stamps) -> Moved {
        let mut frames: ArrayVec<Frame<'_>, MAX_BURST> = ArrayVec::new();
        let mut unstamped = Selection::NONE;
        for (frame, ns) in self.ring.waiting(limit.min(MAX_BURST)).zip(&mut stamps.ns) {
            *ns = frame.time_ns;
            unstamped |= Selection::only_if(frames.len(), self.is_nics_time && !frame.is_nics_time);
            frames.push(Frame::new(frame.bytes, frame.original_len));
        }
        if frames.is_empty() {
            return Moved::default();
        }
        // what the NIC was to stamp, and did not, has the kernel's time
        (stamps.quality, stamps.degraded) = (ClockQuality::Free, unstamped);
        self.first_ns = stamps.ns[0];
        let moved = burst.copy_of(&self.pool, &frames);
        drop(frames);
        self.ring.take(moved.packets);
        self.counts.packets.add(moved.packets as u64);
        self.counts.bytes.add(moved.bytes);
        moved
    }

    /// When the first packet of the burst that was polled at `polled` was received, in ticks, where the time is of the system's clock.
    #[cold]
    pub fn received_at(&self, polled: u64, poll: &mut ClockView) -> u64 {
        if self.is_nics_time { polled } else { clock::ticks_of(self.first_ns, polled, poll) }
    }
}
