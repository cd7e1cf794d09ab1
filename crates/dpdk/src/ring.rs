//! Bounded queues of packets to one lcore: from many, or, with less for the lcores to wait for, from one.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::{Error, check, or_fault};
use super::mbuf::field::{free_all, prefetch_mbuf};
use super::mbuf::{MbufBurst, MbufQueue};
use super::{Eal, SocketId, raw_socket};
use tapline_packet::burst::MAX_BURST;

struct Ring {
    raw: *mut dpdk_sys::rte_ring,
    _eal: Eal,
}

// SAFETY: the ring is multi-producer, or its one producer is a `SoleSender`, of which there is one, used through `&mut`; likewise
// the one consumer is a `Receiver`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // what senders put in after the receiver was gone
        let mut slots = [std::ptr::null_mut(); MAX_BURST];
        loop {
            // SAFETY: the last of the sender and receiver handles is gone, so nobody else takes packets out.
            match unsafe { self.take_out(&mut slots) } {
                0 => break,
                count => free_all(&mut slots[..count]),
            }
        }
        // SAFETY: as above, so nobody uses the ring; EAL is running (`_eal`).
        unsafe { dpdk_sys::rte_ring_free(self.raw) };
    }
}

/// Puts packets in; any number of them, on any lcore.
#[derive(Clone)]
pub struct Sender(Arc<Ring>);

/// Puts packets in; the only one, on one lcore at a time.
pub struct SoleSender {
    ring: Arc<Ring>,
    /// Packets that fit for sure: there was room for more at the last look.
    room: usize,
}

/// Takes packets out; one, on one lcore at a time.
pub struct Receiver(Arc<Ring>);

/// Takes packets out a burst at a time, and has the processor load the mbufs of the next burst meanwhile: another core wrote them.
pub struct BurstReceiver {
    ring: Receiver,
    next: MbufQueue,
}

/// Makes a ring for `count` packets from any number of lcores.
///
/// # Errors
/// If there is not enough memory.
pub fn create(eal: &Eal, count: u32, socket: SocketId) -> Result<(Sender, Receiver), Error> {
    let ring = make(eal, count, socket, RING_F_SC_DEQ)?;
    Ok((Sender(Arc::clone(&ring)), Receiver(ring)))
}

/// Makes a ring for `count` packets that go from one lcore to one other.
///
/// # Errors
/// If there is not enough memory.
pub fn create_sole(eal: &Eal, count: u32, socket: SocketId) -> Result<(SoleSender, BurstReceiver), Error> {
    let ring = make(eal, count, socket, RING_F_SP_ENQ | RING_F_SC_DEQ)?;
    let receiver =
        BurstReceiver { ring: Receiver(Arc::clone(&ring)), next: MbufQueue::with_capacity(MAX_BURST) };
    Ok((SoleSender { ring, room: 0 }, receiver))
}

fn make(eal: &Eal, count: u32, socket: SocketId, flags: u32) -> Result<Arc<Ring>, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("tapline-ring-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let c_name = CString::new(name.clone()).expect("the name has no NUL byte");
    let mut raw = std::ptr::null_mut();
    let result = or_fault("start.ring", || {
        // SAFETY: the name is NUL-terminated and copied.
        raw = unsafe {
            dpdk_sys::rte_ring_create(c_name.as_ptr(), count, raw_socket(socket), flags | RING_F_EXACT_SZ)
        };
        if raw.is_null() { -1 } else { 0 }
    });
    check(name, "rte_ring_create", result)?;
    Ok(Arc::new(Ring { raw, _eal: eal.clone() }))
}

/// `RING_F_SP_ENQ` (`rte_ring_core.h`): the default enqueue is single-producer.
const RING_F_SP_ENQ: u32 = 1;

/// `RING_F_EXACT_SZ` (`rte_ring_core.h`): the ring holds as many as are asked for, not what fills a power of two.
const RING_F_EXACT_SZ: u32 = 4;

/// `RING_F_SC_DEQ` (`rte_ring_core.h`): the default dequeue is single-consumer.
const RING_F_SC_DEQ: u32 = 2;

impl Ring {
    /// Takes over the first of `mbufs`, as many as fit; the number.
    ///
    /// # Safety
    /// The caller owns a reference to each, and forgets those that were taken over; nobody else puts packets in at the same time,
    /// if the ring is one for a sole sender.
    unsafe fn take_in(&self, mbufs: &mut [*mut dpdk_sys::rte_mbuf]) -> usize {
        // SAFETY: the ring is alive; the rest is the caller's.
        unsafe { dpdk_sys::tl_ring_enqueue(self.raw, mbufs.as_mut_ptr(), mbufs.len() as u32) as usize }
    }

    /// Fills `slots` from the ring as far as there are packets; the number.
    ///
    /// # Safety
    /// Nobody else takes packets out at the same time.
    unsafe fn take_out(&self, slots: &mut [*mut dpdk_sys::rte_mbuf]) -> usize {
        // SAFETY: the ring is alive, and the caller is its only consumer; DPDK writes at most `slots.len()` pointers.
        unsafe { dpdk_sys::tl_ring_dequeue(self.raw, slots.as_mut_ptr(), slots.len() as u32) as usize }
    }
}

impl Sender {
    /// Moves packets from the front of `queue` into the ring, as many as fit; the number moved.
    pub fn send(&self, queue: &mut MbufQueue) -> usize {
        // SAFETY: the queue owns its packets and forgets those that the ring took; senders of this ring may be many.
        queue.move_front(|mbufs| unsafe { self.0.take_in(mbufs) })
    }
}

impl SoleSender {
    /// Moves packets from the front of `queue` into the ring, as many as fit; the number moved.
    #[inline]
    pub fn send(&mut self, queue: &mut MbufQueue) -> usize {
        let Self { ring, room } = self;
        queue.move_front(|mbufs| Self::put(ring, room, mbufs))
    }

    /// Moves a whole burst into the ring, which is empty afterwards; the number of packets that did not fit, and were freed.
    #[inline]
    pub fn send_all(&mut self, burst: &mut MbufBurst) -> usize {
        let Self { ring, room } = self;
        burst.move_all(|mbufs| Self::put(ring, room, mbufs))
    }

    #[inline]
    fn put(ring: &Ring, room: &mut usize, mbufs: &mut [*mut dpdk_sys::rte_mbuf]) -> usize {
        // SAFETY: a queue or a burst owns these packets and forgets those that the ring took; this is the ring's only sender, used
        // through `&mut`.
        let moved = unsafe { ring.take_in(mbufs) };
        *room = room.saturating_sub(moved);
        moved
    }

    /// Returns whether `count` packets fit. The receiver's end, which is on a cache line that its lcore writes, is looked at only where the
    /// room that was left at the last look is used up.
    #[inline]
    pub fn has_room(&mut self, count: usize) -> bool {
        if self.room < count {
            // SAFETY: the ring is alive.
            self.room = unsafe { dpdk_sys::tl_ring_room(self.ring.raw) as usize };
        }
        self.room >= count
    }
}

impl BurstReceiver {
    /// Fills an empty burst with at most `limit` packets (1..=64); the number. Where it is 0, nothing is left.
    pub fn receive(&mut self, burst: &mut MbufBurst, limit: usize) -> usize {
        let Self { ring, next } = self;
        let received = burst.fill(limit, |slots| {
            if next.is_empty() {
                // SAFETY: this is the ring's only receiver, used through `&mut`.
                return unsafe { ring.0.take_out(slots) };
            }
            next.move_front(|mbufs| {
                let count = mbufs.len().min(slots.len());
                slots[..count].copy_from_slice(&mbufs[..count]);
                count
            })
        });
        if received > 0 && next.is_empty() {
            next.append(|slots| {
                // SAFETY: as above.
                let count = unsafe { ring.0.take_out(&mut slots[..limit.min(MAX_BURST)]) };
                slots[..count].iter().for_each(|&mbuf| prefetch_mbuf(mbuf));
                count
            });
        }
        received
    }

    /// Frees what was not received; the number of packets.
    pub fn clear(&mut self) -> usize {
        self.next.clear() + self.ring.clear()
    }
}

impl Receiver {
    /// Frees what is in the ring; the number of packets.
    pub fn clear(&mut self) -> usize {
        let (mut rest, mut freed) = (MbufQueue::with_capacity(256), 0);
        while self.receive(&mut rest) > 0 {
            freed += rest.clear();
        }
        freed
    }

    /// Moves packets from the ring to the back of `queue`, as many as there are and as fit; the number moved.
    pub fn receive(&mut self, queue: &mut MbufQueue) -> usize {
        self.receive_at_most(queue, usize::MAX)
    }

    /// As [`receive`](Self::receive), but no more than `most`.
    pub fn receive_at_most(&mut self, queue: &mut MbufQueue, most: usize) -> usize {
        queue.append(|slots| {
            let count = slots.len().min(most);
            // SAFETY: this is the ring's only receiver, used through `&mut`.
            unsafe { self.0.take_out(&mut slots[..count]) }
        })
    }

    /// Packets in the ring.
    pub fn count(&self) -> usize {
        // SAFETY: the ring is alive.
        unsafe { dpdk_sys::tl_ring_count(self.0.raw) as usize }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.clear();
    }
}
