//! Interfaces of the kernel as ports: frames as they were on the wire, with the kernel's or the NIC's times.
//!
//! Stands where a receive queue does. The kernel writes frames into a ring; the worker copies them into mbufs of the port's pool. Where the pool
//! runs empty they stay in the ring, and what finds no room there is counted by the kernel as missed. Where the interface goes and comes
//! back, the control thread offers a ring of the one that came, which the worker takes once the ring before is empty.
//! # Source
//! packet(7) (see `tapline_kernel::packet`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// The part of a receive queue that its worker shares with the control thread.
#[derive(Default)]
pub struct RingShare {
    // worker: adds; control: reads
    pub packets: Counter,
    pub bytes: Counter,
    // control: sets behind `next`; worker: looks at it where nothing came, and takes it back
    has_next: AtomicBool,
    /// The ring that is to be polled once the one before is empty.
    next: Mutex<Option<Ring>>,
}

impl RingShare {
    /// Offers the worker another ring. One that was offered before, and was not taken, is dropped.
    pub fn offer(&self, ring: Ring) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring);
        // the lock orders what is behind it; the flag only says that a look is worth while
        self.has_next.store(true, Ordering::Relaxed);
    }

    /// Takes the ring that was offered; none while the control thread is at it.
    #[cold]
    fn take_next(&self) -> Option<Ring> {
        let mut next = self.next.try_lock().ok()?;
        self.has_next.store(false, Ordering::Relaxed);
        next.take()
    }
}

/// A ring of an interface.
pub struct Iface {
    ring: Ring,
    pool: Arc<Mempool>,
    share: Arc<RingShare>,
    /// Times are the NIC's.
    is_nics_time: bool,
    /// When the first packet of the last burst was received.
    first_ns: u64,
}

impl Iface {
    /// Packets come by `ring`, into mbufs of `pool`. The NIC was asked for their times where `is_nics_time`.
    pub fn new(ring: Ring, pool: Arc<Mempool>, share: Arc<RingShare>, is_nics_time: bool) -> Self {
        Self { ring, pool, share, is_nics_time, first_ns: 0 }
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
            drop(frames);
            if self.share.has_next.load(Ordering::Relaxed)
                && let Some(next) = self.share.take_next()
            {
                self.ring = next;
            }
            return Moved::default();
        }
        // what the NIC was to stamp, and did not, has the kernel's time
        (stamps.quality, stamps.degraded) = (ClockQuality::Free, unstamped);
        self.first_ns = stamps.ns[0];
        let moved = burst.copy_of(&self.pool, &frames);
        drop(frames);
        self.ring.take(moved.packets);
        self.share.packets.add(moved.packets as u64);
        self.share.bytes.add(moved.bytes);
        moved
    }

    /// When the first packet of the burst that was polled at `polled` was received, in ticks, where the time is of the system's clock.
    #[cold]
    pub fn received_at(&self, polled: u64, poll: &mut ClockView) -> u64 {
        if self.is_nics_time { polled } else { clock::ticks_of(self.first_ns, polled, poll) }
    }
}
