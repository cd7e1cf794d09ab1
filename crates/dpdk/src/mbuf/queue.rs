//! Packets one after the other: a bounded queue of references, and one of them alone.

use dpdk_sys::rte_mbuf;

use super::field::{RxStamp, bytes_of, bytes_of_all, ethertype, field, free_all, packet_len, segments};
use super::view::Linear;
use crate::queue::{Moved, TxQueue};

/// A bounded first-in, first-out queue of packets.
pub struct MbufQueue {
    slots: Box<[*mut rte_mbuf]>,
    head: usize,
    tail: usize,
    capacity: usize,
}

// SAFETY: mbufs may be used and freed on any lcore; the queue owns its references alone.
unsafe impl Send for MbufQueue {}

impl MbufQueue {
    /// Makes a queue for `capacity` packets. The slots are twice as many, so that the packets always lie in one piece: when the end
    /// is reached they move to the front, once in at least `capacity` packets.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: vec![std::ptr::null_mut(); capacity * 2].into_boxed_slice(),
            head: 0,
            tail: 0,
            capacity,
        }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.tail - self.head
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    /// Packets that still fit.
    #[inline(always)]
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Bytes of all packets in the queue.
    pub fn bytes(&self) -> u64 {
        bytes_of_all(&self.slots[self.head..self.tail])
    }

    /// Appends through `fill`, which gets the free slots and says how many it wrote.
    #[inline]
    pub(crate) fn append(&mut self, fill: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
        let room = self.room();
        if self.tail + room > self.slots.len() {
            self.slots.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        let added = fill(&mut self.slots[self.tail..self.tail + room]).min(room);
        self.tail += added;
        added
    }

    /// Lends the packets, oldest first, to `take`, which says how many of the first it took over.
    #[inline]
    pub(crate) fn move_front(&mut self, take: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
        let taken = take(&mut self.slots[self.head..self.tail]).min(self.len());
        self.head += taken;
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
        taken
    }

    /// Sends packets from the front, at most `burst` a call of the driver, until the queue is empty or the driver takes no more.
    #[inline]
    pub fn transmit(&mut self, txq: &mut TxQueue, burst: usize) -> Moved {
        let mut sent = Moved::default();
        while !self.is_empty() {
            let offered = self.len().min(burst);
            let accepted = self.move_front(|mbufs| {
                let mbufs = &mbufs[..offered];
                let moved = txq.send(mbufs, bytes_of(mbufs));
                sent.bytes += moved.bytes;
                moved.packets
            });
            sent.packets += accepted;
            if accepted < offered {
                break;
            }
        }
        sent
    }

    /// Sends packets from the front, at most `most`, in one call of the driver; what it took over.
    #[inline]
    pub fn transmit_some(&mut self, txq: &mut TxQueue, most: usize) -> Moved {
        let mut sent = Moved::default();
        if most > 0 && !self.is_empty() {
            self.move_front(|mbufs| {
                let mbufs = &mbufs[..most.min(mbufs.len())];
                sent = txq.send(mbufs, bytes_of(mbufs));
                sent.packets
            });
        }
        sent
    }

    /// The first packets, at most `most`, as long as `may_go` lets them by their lengths.
    #[inline]
    pub fn leading(&self, most: usize, mut may_go: impl FnMut(u32) -> bool) -> Moved {
        let waiting = &self.slots[self.head..self.tail];
        let lens = waiting.iter().take(most).map(|&mbuf| packet_len(mbuf)).take_while(|&len| may_go(len));
        lens.fold(Moved::default(), |sum, len| Moved {
            packets: sum.packets + 1,
            bytes: sum.bytes + u64::from(len),
        })
    }

    /// Bytes of the packets behind the first `skipped`.
    pub fn bytes_behind(&self, skipped: usize) -> u64 {
        let from = (self.head + skipped).min(self.tail);
        bytes_of_all(&self.slots[from..self.tail])
    }

    /// Shows the bytes of each packet to `look`, oldest first; packets in several segments are joined in `linear`.
    pub fn view<E>(
        &self,
        linear: &mut Linear,
        mut look: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, &mbuf) in self.slots[self.head..self.tail].iter().enumerate() {
            look(index, linear.bytes_of(mbuf))?;
        }
        Ok(())
    }

    /// Frees all packets; the number freed.
    pub fn clear(&mut self) -> usize {
        let count = self.len();
        free_all(&mut self.slots[self.head..self.tail]);
        self.head = 0;
        self.tail = 0;
        count
    }

    /// The length of the oldest packet, and its first two bytes behind the MAC addresses.
    pub fn front(&self) -> Option<(u32, Option<u16>)> {
        let &oldest = self.slots[self.head..self.tail].first()?;
        Some((packet_len(oldest), ethertype(oldest)))
    }

    /// Takes the oldest packet out.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let mut oldest = None;
        self.move_front(|mbufs| {
            oldest = mbufs.first().map(|&mbuf| Packet(mbuf));
            usize::from(oldest.is_some())
        });
        oldest
    }

    /// Appends a packet, or gives it back where there is no room.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.room() == 0 {
            return Err(packet);
        }
        self.append(|slots| {
            slots[0] = packet.0;
            1
        });
        std::mem::forget(packet);
        Ok(())
    }
}

impl Drop for MbufQueue {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One reference to a packet.
pub struct Packet(*mut rte_mbuf);

// SAFETY: an mbuf may be used and freed on any lcore; the reference is owned alone.
unsafe impl Send for Packet {}

impl Packet {
    /// The packet's length in bytes.
    pub fn len(&self) -> u32 {
        packet_len(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Mbufs that the packet is made of.
    pub fn mbufs(&self) -> usize {
        segments(self.0).into()
    }

    /// Shows the packet's bytes to `look`; several segments are joined in `linear`.
    pub fn view<R>(&self, linear: &mut Linear, look: impl FnOnce(&[u8]) -> R) -> R {
        look(linear.bytes_of(self.0))
    }

    /// The time that [`MbufBurst::write_stamps`](super::MbufBurst::write_stamps) wrote.
    #[inline]
    pub fn stamp(&self, place: RxStamp) -> u64 {
        // SAFETY: DPDK gave the offset of a field of 8 bytes in every mbuf (`RxStamp::register`).
        unsafe { field::<u64>(self.0, place.offset).read_unaligned() }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        free_all(&mut [self.0]);
    }
}
