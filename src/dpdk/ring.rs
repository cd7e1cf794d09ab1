//! A bounded queue of packets from many lcores to one.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::Error;
use super::mbuf::{MbufBurst, MbufQueue};
use super::{Eal, SocketId, raw_socket};

struct Ring(*mut dpdk_sys::rte_ring);

// SAFETY: the ring is multi-producer; the single consumer is guarded by `Receiver`, of which there is one, used through `&mut`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the last of the sender and receiver handles is gone; the receiver emptied the ring when it was dropped, and
        // senders are dropped before it by the broker.
        unsafe { dpdk_sys::rte_ring_free(self.0) };
    }
}

/// Puts packets in; any number of them, on any lcore.
#[derive(Clone)]
pub struct Sender(Arc<Ring>);

/// Takes packets out; one, on one lcore at a time.
pub struct Receiver(Arc<Ring>);

/// Makes a ring for at least `count` packets.
///
/// # Errors
/// If there is not enough memory.
pub fn create(_eal: &Eal, count: u32, socket: SocketId) -> Result<(Sender, Receiver), Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("tapline-ring-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let c_name = CString::new(name.clone()).expect("the name has no NUL byte");
    // one slot of an rte_ring stays empty
    let slots = (count + 1).next_power_of_two();
    // SAFETY: the name is NUL-terminated and copied; flags are multi-producer (default) and single-consumer.
    let raw = unsafe { dpdk_sys::rte_ring_create(c_name.as_ptr(), slots, raw_socket(socket), RING_F_SC_DEQ) };
    if raw.is_null() {
        return Err(Error::from_errno(name, "rte_ring_create"));
    }
    let ring = Arc::new(Ring(raw));
    Ok((Sender(Arc::clone(&ring)), Receiver(ring)))
}

/// `RING_F_SC_DEQ` (`rte_ring_core.h`): the default dequeue is single-consumer.
const RING_F_SC_DEQ: u32 = 2;

impl Sender {
    /// Moves packets from the front of `queue` into the ring, as many as fit; the number moved.
    pub fn send(&self, queue: &mut MbufQueue) -> usize {
        queue.move_front(|mbufs| {
            // SAFETY: the ring is alive; `mbufs` are owned by the queue, which forgets the first ones that the ring took.
            unsafe { dpdk_sys::tl_ring_enqueue(self.0.0, mbufs.as_mut_ptr(), mbufs.len() as u32) as usize }
        })
    }
}

impl Sender {
    /// Packets that still fit, as far as one can say while others put some in.
    #[inline]
    pub fn room(&self) -> usize {
        // SAFETY: the ring is alive.
        unsafe { dpdk_sys::tl_ring_room(self.0.0) as usize }
    }
}

impl Receiver {
    /// Fills an empty burst from the ring with at most `limit` packets (1..=64); the number.
    #[inline]
    pub fn receive_burst(&mut self, burst: &mut MbufBurst, limit: usize) -> usize {
        burst.fill(limit, |slots| {
            // SAFETY: as in `receive`.
            unsafe { dpdk_sys::tl_ring_dequeue(self.0.0, slots.as_mut_ptr(), slots.len() as u32) as usize }
        })
    }

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
        queue.append(|slots| {
            // SAFETY: the ring is alive and this is its only consumer; DPDK writes at most `slots.len()` pointers.
            unsafe { dpdk_sys::tl_ring_dequeue(self.0.0, slots.as_mut_ptr(), slots.len() as u32) as usize }
        })
    }

    /// Packets in the ring.
    pub fn count(&self) -> usize {
        // SAFETY: the ring is alive.
        unsafe { dpdk_sys::tl_ring_count(self.0.0) as usize }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.clear();
    }
}
