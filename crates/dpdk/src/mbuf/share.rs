//! References that a burst lends out: as many to each packet as there are copies of it.

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::field::{bytes_of, ethertype, free_all, free_selected, packet_len};
use super::queue::MbufQueue;
use crate::queue::{Moved, TxQueue};
use tapline_packet::burst::{MAX_BURST, Selection};

/// References to one packet that a burst can lend out: copies to tools, and the original on a wire.
pub const MOST_REFERENCES: usize = 255;

/// A small counter for each packet of a burst, held as bit planes: bit `i` of plane `p` is worth `2^p` for packet `i`.
#[derive(Default, Clone, Copy)]
pub(super) struct Planes {
    planes: [u64; MOST_REFERENCES.ilog2() as usize + 1],
    used: usize,
}

impl Planes {
    /// Adds 1 for the packets of `selection`.
    #[inline(always)]
    pub(super) fn add(&mut self, selection: Selection) {
        let mut carry = selection.bits();
        let mut plane = 0;
        while carry != 0 {
            assert!(plane < self.planes.len(), "more copies of a packet than its planner allows");
            let sum = self.planes[plane] ^ carry;
            carry &= self.planes[plane];
            self.planes[plane] = sum;
            plane += 1;
        }
        self.used = self.used.max(plane);
    }

    /// Takes 1 from the packets of `selection`, and gives those that had any.
    #[inline(always)]
    pub(super) fn take(&mut self, selection: Selection) -> Selection {
        if self.used <= 1 {
            let taken = selection.bits() & self.planes[0];
            self.planes[0] ^= taken;
            return Selection::from_bits(taken);
        }
        let taken = selection.bits() & self.any();
        let mut borrow = taken;
        for plane in &mut self.planes[..self.used] {
            let difference = *plane ^ borrow;
            borrow &= !*plane;
            *plane = difference;
        }
        Selection::from_bits(taken)
    }

    #[inline(always)]
    pub(super) fn any(&self) -> u64 {
        self.planes[..self.used].iter().fold(0, |any, plane| any | plane)
    }

    pub(super) fn any_above_one(&self) -> bool {
        self.planes[1..].iter().any(|&plane| plane != 0)
    }

    /// The number that all packets of `all` have, if they have the same.
    #[inline(always)]
    pub(super) fn uniform(&self, all: Selection) -> Option<u8> {
        let mut value = 0;
        for (index, &plane) in self.planes[..self.used].iter().enumerate() {
            match plane {
                0 => {}
                _ if plane == all.bits() => value |= 1 << index,
                _ => return None,
            }
        }
        Some(value)
    }

    pub(super) fn get(&self, index: usize) -> u8 {
        self.planes
            .iter()
            .enumerate()
            .fold(0, |value, (plane, bits)| value | (((bits >> index) & 1) as u8) << plane)
    }
}

/// References to a burst's packets, one for each copy, to be taken by the tools. What is not taken is freed at the end.
pub struct Shared<'a> {
    pub(super) mbufs: &'a [*mut rte_mbuf; MAX_BURST],
    pub(super) count: usize,
    /// The bytes of all packets of the burst together.
    pub(super) bytes: u64,
    pub(super) planes: Planes,
    pub(super) wire_lens: Option<&'a [u32; MAX_BURST]>,
}

impl Shared<'_> {
    /// Moves one reference to each selected packet to the back of `queue`; those that do not fit are freed. The number that fitted.
    #[inline(always)]
    pub fn take(&mut self, selection: Selection, queue: &mut MbufQueue) -> usize {
        let taken = self.planes.take(selection);
        let room = queue.room();
        let wanted = taken.count() as usize;
        if wanted <= room {
            queue.append(|slots| {
                if self.is_whole(taken) {
                    slots[..wanted].copy_from_slice(&self.mbufs[..wanted]);
                } else {
                    gather(self.mbufs, taken, slots);
                }
                wanted
            })
        } else {
            self.take_what_fits(taken, room, queue)
        }
    }

    #[cold]
    fn take_what_fits(&self, taken: Selection, room: usize, queue: &mut MbufQueue) -> usize {
        let mut rest = taken;
        queue.append(|slots| {
            for (slot, index) in slots.iter_mut().zip(taken.indices().take(room)) {
                *slot = self.mbufs[index];
                rest.remove(index);
            }
            room
        });
        free_selected(self.mbufs, rest);
        room
    }

    /// Returns whether every packet of the burst is selected.
    #[inline(always)]
    pub fn is_whole(&self, selection: Selection) -> bool {
        selection == Selection::first(self.count)
    }

    /// Sends one reference to each selected packet in one call of the driver, past an empty `queue`; what the driver does not take
    /// goes to the queue. Gives what was sent and the number that did not fit.
    #[inline(always)]
    pub fn transmit(
        &mut self,
        selection: Selection,
        txq: &mut TxQueue,
        queue: &mut MbufQueue,
    ) -> (Moved, usize) {
        assert!(queue.is_empty());
        let taken = self.planes.take(selection);
        if self.is_whole(taken) {
            return transmit(&self.mbufs[..self.count], self.bytes, txq, queue);
        }
        let mut mbufs = [std::ptr::null_mut(); MAX_BURST];
        gather(self.mbufs, taken, &mut mbufs);
        let mbufs = &mbufs[..taken.count() as usize];
        transmit(mbufs, bytes_of(mbufs), txq, queue)
    }

    /// A packet's length in bytes. Its references may not all have been taken.
    #[inline(always)]
    pub fn len_of(&self, index: usize) -> u32 {
        if self.planes.any() >> index & 1 == 1 { packet_len(self.mbufs[index]) } else { 0 }
    }

    /// A packet's first two bytes behind the MAC addresses. Its references may not all have been taken.
    pub fn ethertype_of(&self, index: usize) -> Option<u16> {
        ethertype(self.mbufs[index])
    }

    /// Bytes that a packet had on the wire, as its record or its tunnel says: damaged records say fewer than they hold. Its
    /// references may not all have been taken.
    #[inline(always)]
    pub fn wire_len_of(&self, index: usize) -> u32 {
        self.wire_lens.map_or_else(|| self.len_of(index), |lens| lens[index])
    }

    /// Frees one reference to each selected packet: for tools that only count.
    #[inline]
    pub fn discard(&mut self, selection: Selection) {
        free_selected(self.mbufs, self.planes.take(selection));
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        while self.planes.any() != 0 {
            let rest = self.planes.take(Selection::from_bits(self.planes.any()));
            free_selected(self.mbufs, rest);
        }
    }
}

/// References to every packet of a burst, the same number to each. What is not taken is freed at the end.
pub struct Alike<'a> {
    pub(super) mbufs: &'a [*mut rte_mbuf; MAX_BURST],
    pub(super) count: usize,
    /// The bytes of all packets together.
    pub(super) bytes: u64,
    /// References to each packet that were not taken.
    pub(super) left: usize,
}

impl Alike<'_> {
    /// Sends one reference to each packet past an empty `queue`; what the driver does not take goes to the queue. Gives what was
    /// sent and the number that did not fit.
    #[inline(always)]
    pub fn transmit(&mut self, txq: &mut TxQueue, queue: &mut MbufQueue) -> (Moved, usize) {
        assert!(self.left > 0 && queue.is_empty());
        self.left -= 1;
        transmit(&self.mbufs[..self.count], self.bytes, txq, queue)
    }

    /// One reference to each packet, for a tool that takes them another way.
    pub fn one(&mut self) -> Shared<'_> {
        assert!(self.left > 0);
        self.left -= 1;
        let mut planes = Planes::default();
        planes.add(Selection::first(self.count));
        Shared { mbufs: self.mbufs, count: self.count, bytes: self.bytes, planes, wire_lens: None }
    }
}

impl Drop for Alike<'_> {
    fn drop(&mut self) {
        while self.left > 0 {
            drop(self.one());
        }
    }
}

/// Writes the pointers of the packets that are `selected` to the first of `slots`, of which there are enough.
#[inline(always)]
fn gather(mbufs: &[*mut rte_mbuf; MAX_BURST], selected: Selection, slots: &mut [*mut rte_mbuf]) {
    // by fours, so that the processor can foretell where it ends: what stands behind the last is nothing
    if let Some(fours) = slots.get_mut(..(selected.count() as usize).next_multiple_of(4)) {
        let mut bits = selected.bits();
        for four in fours.as_chunks_mut::<4>().0 {
            for slot in four {
                *slot = mbufs[(bits | 1 << (MAX_BURST - 1)).trailing_zeros() as usize];
                bits &= bits.wrapping_sub(1);
            }
        }
    } else {
        slots.iter_mut().zip(selected.indices()).for_each(|(slot, index)| *slot = mbufs[index]);
    }
}

/// Sends packets of so many bytes, each a reference that the caller gives up. What the driver does not take goes to the empty
/// `queue`, and what does not fit there is freed. Gives what was sent and the number freed.
#[inline(always)]
pub(super) fn transmit(
    mbufs: &[*mut rte_mbuf],
    bytes: u64,
    txq: &mut TxQueue,
    queue: &mut MbufQueue,
) -> (Moved, usize) {
    let sent = txq.send(mbufs, bytes);
    if sent.packets == mbufs.len() {
        return (sent, 0);
    }
    (sent, queue_rest(&mbufs[sent.packets..], queue))
}

/// Queues what fits and frees the rest; the number freed.
#[cold]
fn queue_rest(rest: &[*mut rte_mbuf], queue: &mut MbufQueue) -> usize {
    let (kept, freed) = rest.split_at(rest.len().min(queue.room()));
    queue.append(|slots| {
        slots[..kept.len()].copy_from_slice(kept);
        kept.len()
    });
    let mut freed: ArrayVec<*mut rte_mbuf, MAX_BURST> = freed.iter().copied().collect();
    free_all(&mut freed);
    freed.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn planes_count_like_an_array_of_counters(masks in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut planes = Planes::default();
            let mut model = [0u8; 64];
            for &mask in &masks {
                planes.add(Selection::from_bits(mask));
                (0..64).filter(|i| mask >> i & 1 == 1).for_each(|i| model[i] += 1);
            }
            for (index, &count) in model.iter().enumerate() {
                prop_assert_eq!(planes.get(index), count);
            }
            let same = model.iter().all(|&count| count == model[0]).then_some(model[0]);
            prop_assert_eq!(planes.uniform(Selection::ALL), same);
            for &mask in masks.iter().rev() {
                prop_assert_eq!(planes.take(Selection::from_bits(mask)), Selection::from_bits(mask));
            }
            prop_assert_eq!(planes.any(), 0);
            prop_assert_eq!(planes.take(Selection::ALL), Selection::NONE);
        }
    }
}
