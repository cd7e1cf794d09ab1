//! Packets as one poll received them.

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::field::{
    RxStamp, bytes_of, data, field, frame, free_all, free_selected, join, packet_len, prefetch_line,
    rss_of, segments,
};
use super::queue::MbufQueue;
use super::share::{Alike, MOST_REFERENCES, Planes, Shared, transmit};
use super::view::{Frames, Linear, MbufFrames};
use crate::mempool::{DATA_ROOM, Mempool};
use crate::queue::{Moved, RxQueue, TxQueue};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// Up to [`MAX_BURST`] packets as one poll received them.
// the pointers on cache lines of their own: drivers write and read them several at a time
#[repr(C, align(64))]
pub struct MbufBurst {
    mbufs: [*mut rte_mbuf; MAX_BURST],
    count: usize,
    /// Bytes that each packet had on the wire, where some may have had more than there are here.
    wire_lens: [u32; MAX_BURST],
    has_wire_lens: bool,
    /// The bytes of all packets together.
    bytes: u64,
}

// SAFETY: mbufs may be used and freed on any lcore; the burst owns its references alone.
unsafe impl Send for MbufBurst {}

impl Default for MbufBurst {
    fn default() -> Self {
        Self {
            mbufs: [std::ptr::null_mut(); MAX_BURST],
            count: 0,
            wire_lens: [0; MAX_BURST],
            has_wire_lens: false,
            bytes: 0,
        }
    }
}

/// The part of a packet that is to become the packet.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub offset: usize,
    pub len: usize,
    /// Written in front of it, over what was there; at most `offset` bytes.
    pub link: &'a [u8],
    /// Bytes that the packet, `link` included, had on the wire.
    pub wire_len: u32,
}

impl MbufBurst {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All packets of the burst.
    pub fn all(&self) -> Selection {
        Selection::first(self.count)
    }

    /// The bytes of all packets together.
    #[inline(always)]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills an empty burst through `fill`, which gets the free slots and says how many it wrote.
    #[inline(always)]
    pub(crate) fn fill(&mut self, limit: usize, fill: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
        debug_assert!(self.count == 0);
        let limit = limit.min(MAX_BURST);
        self.has_wire_lens = false;
        self.count = fill(&mut self.mbufs[..limit]).min(limit);
        self.bytes = bytes_of(&self.mbufs[..self.count]);
        self.count
    }

    /// The packets, each with the reference that the burst owns.
    #[inline(always)]
    pub(super) fn mbufs(&self) -> &[*mut rte_mbuf] {
        &self.mbufs[..self.count]
    }

    /// Polls a queue once into an empty burst, for at most `limit` packets (1..=64).
    #[inline]
    pub fn receive(&mut self, rxq: &mut RxQueue, limit: usize) -> Moved {
        let packets = self.fill(limit, |slots| rxq.receive(slots));
        Moved { packets, bytes: self.bytes }
    }

    /// Fills an empty burst with copies of `frames`, as many as the pool has mbufs for; long ones become chains.
    pub fn copy_of(&mut self, pool: &Mempool, frames: &[Frame<'_>]) -> Moved {
        let count = frames.len().min(MAX_BURST);
        let frames = &frames[..count];
        let parts: ArrayVec<dpdk_sys::tl_bytes, MAX_BURST> = frames
            .iter()
            .map(|frame| dpdk_sys::tl_bytes { start: frame.bytes().as_ptr(), len: frame.captured_len() })
            .collect();
        let made = self.fill(count, |slots| {
            // SAFETY: the pool is alive; `parts` has a start and a length of live bytes for each slot, and DPDK writes as many
            // pointers.
            unsafe {
                dpdk_sys::tl_packets_of(pool.raw(), slots.as_mut_ptr(), parts.as_ptr(), slots.len() as u32)
                    as usize
            }
        });
        let frames = &frames[..made];
        if frames.iter().any(|frame| frame.original_len() != frame.captured_len()) {
            self.has_wire_lens = true;
            self.wire_lens.iter_mut().zip(frames).for_each(|(len, frame)| *len = frame.original_len());
        }
        Moved { packets: made, bytes: frames.iter().map(|frame| u64::from(frame.captured_len())).sum() }
    }

    /// Moves what a packet has in its first segment behind the first `keep` bytes to a segment of its own, as drivers do that split
    /// packets behind their headers: for tests and fuzz targets. Returns whether it could: there are bytes to move, and the pool has an mbuf.
    pub fn split(&mut self, pool: &Mempool, index: usize, keep: u16) -> bool {
        use dpdk_sys::*;
        let Some(&packet) = self.mbufs[..self.count].get(index) else { return false };
        let rest = &frame(packet).bytes()[usize::from(keep).min(frame(packet).bytes().len())..];
        let mut slot = [std::ptr::null_mut()];
        // SAFETY: the pool is alive; DPDK writes one pointer or none.
        if rest.is_empty() || unsafe { tl_alloc_bulk(pool.raw(), slot.as_mut_ptr(), 1) } != 0 {
            return false;
        }
        let [behind] = slot;
        assert!(rest.len() <= usize::from(DATA_ROOM), "a segment of another pool is longer");
        // SAFETY: a fresh mbuf of this pool has DATA_ROOM bytes behind its data pointer, and the part is no longer.
        unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), data(behind).cast_mut(), rest.len()) };
        // SAFETY: the burst owns the packet alone, and the fresh segment goes over to it; the offsets are those of the fields in the
        // installed release (shim.h).
        unsafe {
            field::<u16>(behind, tl_mbuf_offset_TL_MBUF_DATA_LEN).write(rest.len() as u16);
            let next = field::<*mut rte_mbuf>(packet, tl_mbuf_offset_TL_MBUF_NEXT);
            field::<*mut rte_mbuf>(behind, tl_mbuf_offset_TL_MBUF_NEXT).write(next.read());
            next.write(behind);
            field::<u16>(packet, tl_mbuf_offset_TL_MBUF_DATA_LEN).write(keep);
            *field::<u16>(packet, tl_mbuf_offset_TL_MBUF_NB_SEGS) += 1;
        }
        true
    }

    /// Sends the packets in one call of the driver, and frees what it does not take; the number taken.
    pub fn transmit_all(&mut self, txq: &mut TxQueue) -> usize {
        let bytes = self.bytes;
        let count = self.count;
        count - self.move_all(|mbufs| txq.send(mbufs, bytes).packets)
    }

    /// Says of a packet what a NIC says that spread it by its RSS hash: for tests and fuzz targets.
    pub fn note_rss(&mut self, index: usize, hash: u32, kind: u32) {
        use dpdk_sys::*;
        let Some(&packet) = self.mbufs[..self.count].get(index) else { return };
        // SAFETY: the burst owns the packet alone; the offsets are those of the fields in the installed release (shim.h).
        unsafe {
            *field::<u64>(packet, tl_mbuf_offset_TL_MBUF_OL_FLAGS) |=
                u64::from(tl_mbuf_word_TL_RX_RSS_HASH);
            field::<u32>(packet, tl_mbuf_offset_TL_MBUF_PACKET_TYPE).write(kind);
            field::<u32>(packet, tl_mbuf_offset_TL_MBUF_RSS).write(hash);
        }
    }

    /// Makes a part of packet `index` the whole packet. Returns whether it could: the first segment must hold what goes in front.
    pub fn enter(&mut self, index: usize, place: &Place<'_>) -> bool {
        let (Some(&mbuf), Ok(offset), Ok(len)) =
            (self.mbufs[..self.count].get(index), u32::try_from(place.offset), u32::try_from(place.len))
        else {
            return false;
        };
        let before = packet_len(mbuf);
        // SAFETY: the burst owns the mbuf alone until it is shared; the shim checks the place against the packet's bytes.
        let result = unsafe {
            dpdk_sys::tl_packet_enter(mbuf, offset, len, place.link.as_ptr(), place.link.len() as u32)
        };
        if result != 0 {
            return false;
        }
        self.bytes = self.bytes + u64::from(packet_len(mbuf)) - u64::from(before);
        if self.has_wire_lens || place.wire_len != packet_len(mbuf) {
            if !self.has_wire_lens {
                self.has_wire_lens = true;
                for (len, &mbuf) in self.wire_lens.iter_mut().zip(&self.mbufs[..self.count]) {
                    *len = packet_len(mbuf);
                }
            }
            self.wire_lens[index] = place.wire_len;
        }
        true
    }

    /// Writes a time to each packet, for stages that see only the packet.
    pub fn write_stamps(&mut self, place: RxStamp, stamps: &[u64; MAX_BURST]) {
        for (&mbuf, &stamp) in self.mbufs[..self.count].iter().zip(stamps) {
            // SAFETY: the burst owns the mbuf alone until it is shared; DPDK gave the offset of a field of 8 bytes in every mbuf.
            unsafe { field::<u64>(mbuf, place.offset).write_unaligned(stamp) };
        }
    }

    /// Says of the selected packets, and of no others, that they have a receive time.
    pub fn mark_stamped(&mut self, place: RxStamp, stamped: Selection) {
        for (index, &mbuf) in self.mbufs[..self.count].iter().enumerate() {
            // SAFETY: the burst owns the mbuf alone until it is shared; the offset is that of `ol_flags` (shim.h).
            let flags = unsafe { &mut *field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS) };
            *flags = if stamped.contains(index) { *flags | place.flag } else { *flags & !place.flag };
        }
    }

    /// Writes what the driver says of each packet's receive time, in its own unit; gives the packets that it says something of.
    #[inline]
    pub fn raw_stamps(&self, place: RxStamp, stamps: &mut [u64; MAX_BURST]) -> Selection {
        let mut stamped = 0;
        for (index, (stamp, &mbuf)) in stamps.iter_mut().zip(&self.mbufs[..self.count]).enumerate() {
            // SAFETY: the burst owns the mbuf; the offset is that of `ol_flags` (shim.h).
            let flags = unsafe { field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS).read() };
            // SAFETY: DPDK gave the offset of a field of 8 bytes in every mbuf (`RxStamp::register`), at any alignment.
            *stamp = unsafe { field::<u64>(mbuf, place.offset).read_unaligned() };
            stamped |= u64::from(flags & place.flag != 0) << index;
        }
        Selection::from_bits(stamped)
    }

    /// Writes the NIC's RSS hash of each packet of which it says that it is TCP or UDP over IP, whole and in no tunnel; gives those
    /// packets.
    #[inline]
    pub fn rss_hashes(&self, hashes: &mut [u64; MAX_BURST]) -> Selection {
        let mut hashed = 0;
        for (index, (hash, &mbuf)) in hashes.iter_mut().zip(&self.mbufs[..self.count]).enumerate() {
            // SAFETY: the burst owns the mbuf.
            if let Some(rss) = unsafe { rss_of(mbuf) } {
                *hash = u64::from(rss);
                hashed |= 1 << index;
            }
        }
        Selection::from_bits(hashed)
    }

    /// Writes each packet's length in bytes.
    #[inline]
    pub fn lens(&self, lens: &mut [u32; MAX_BURST]) {
        for (len, &mbuf) in lens.iter_mut().zip(&self.mbufs[..self.count]) {
            *len = packet_len(mbuf);
        }
    }

    /// Asks the processor to load the first bytes of each packet, where another core or a device has written them.
    #[inline]
    pub fn load_ahead(&self) {
        self.mbufs[..self.count].iter().for_each(|&mbuf| prefetch_line(data(mbuf)));
    }

    /// The packets where they are, unless some had more bytes on the wire.
    #[inline]
    pub fn mbuf_frames(&self) -> Option<MbufFrames<'_>> {
        (!self.has_wire_lens).then(|| MbufFrames(&self.mbufs[..self.count]))
    }

    /// Views every packet of the burst; packets in several segments are joined in `linear`.
    #[inline]
    pub fn frames<'a>(&'a self, linear: &'a mut Linear, frames: &mut Frames<'a>) {
        frames.clear();
        let mut chained = u16::from(self.has_wire_lens);
        // one visit to each mbuf
        frames.extend(self.mbufs[..self.count].iter().map(|&mbuf| {
            chained |= segments(mbuf) ^ 1;
            frame(mbuf)
        }));
        if chained != 0 {
            frames.clear();
            self.frames_joined(linear, frames);
        }
    }

    #[cold]
    fn frames_joined<'a>(&'a self, linear: &'a mut Linear, frames: &mut Frames<'a>) {
        let mbufs = &self.mbufs[..self.count];
        let mut room = linear.room(
            mbufs.iter().filter(|&&mbuf| segments(mbuf) > 1).map(|&mbuf| packet_len(mbuf) as usize).sum(),
        );
        for (index, &mbuf) in mbufs.iter().enumerate() {
            let wire_len = if self.has_wire_lens { self.wire_lens[index] } else { packet_len(mbuf) };
            if segments(mbuf) == 1 {
                frames.push(Frame::new(frame(mbuf).bytes(), wire_len));
                continue;
            }
            let (to, rest) = room.split_at_mut(packet_len(mbuf) as usize);
            room = rest;
            frames.push(Frame::new(join(mbuf, to), wire_len));
        }
    }

    /// Gives every packet as many references as selections name it, and lends them out; packets that none names are freed.
    ///
    /// At most [`MOST_REFERENCES`] selections may name one packet.
    #[inline]
    pub fn share(&mut self, selections: impl Iterator<Item = Selection> + Clone) -> Shared<'_> {
        let (mut any, mut several) = (Selection::NONE, Selection::NONE);
        for selection in selections.clone() {
            several |= any & selection;
            any |= selection;
        }
        let mut planes = Planes::default();
        if (several & self.all()).is_empty() {
            planes.add(any & self.all());
        } else {
            selections.for_each(|selection| planes.add(selection & self.all()));
            self.add_references(&planes);
        }
        free_selected(&self.mbufs, self.all() - Selection::from_bits(planes.any()));
        let wire_lens = self.has_wire_lens.then_some(&self.wire_lens);
        let shared = Shared { mbufs: &self.mbufs, count: self.count, bytes: self.bytes, planes, wire_lens };
        self.count = 0;
        shared
    }

    /// Gives every packet as many references as `planes` count; `Shared` accounts for them.
    fn add_references(&mut self, planes: &Planes) {
        let mbufs = self.mbufs.as_mut_ptr();
        let count = self.count as u32;
        match planes.uniform(self.all()) {
            Some(0 | 1) => {}
            Some(copies) => {
                // SAFETY: the first `count` pointers are mbufs that this burst owns; `Shared` accounts for the added references.
                unsafe { dpdk_sys::tl_refcnt_add_same(mbufs, count, i16::from(copies) - 1) };
            }
            None if planes.any_above_one() => {
                let mut copies = [0u8; MAX_BURST];
                for (index, copies) in copies.iter_mut().enumerate().take(self.count) {
                    *copies = planes.get(index);
                }
                // SAFETY: as above; `copies` has a number for each of the `count` mbufs.
                unsafe { dpdk_sys::tl_refcnt_add(mbufs, copies.as_ptr(), count) };
            }
            None => {}
        }
    }

    /// Sends the packets themselves past an empty `queue`; what the driver does not take goes to the queue. Gives what was sent and
    /// the number that did not fit. The burst is empty afterwards.
    #[inline(always)]
    pub fn transmit(&mut self, txq: &mut TxQueue, queue: &mut MbufQueue) -> (Moved, usize) {
        assert!(queue.is_empty());
        let count = std::mem::take(&mut self.count).min(MAX_BURST);
        transmit(&self.mbufs[..count], self.bytes, txq, queue)
    }

    /// Gives every packet `copies` references and lends them out: [`share`](Self::share) for copies that are the same for all
    /// packets.
    ///
    /// `copies` is at most [`MOST_REFERENCES`].
    #[inline]
    pub fn share_alike(&mut self, copies: usize) -> Alike<'_> {
        assert!(copies <= MOST_REFERENCES, "more copies of a packet than its planner allows");
        let count = std::mem::take(&mut self.count);
        match copies {
            0 => free_selected(&self.mbufs, Selection::first(count)),
            1 => {}
            // SAFETY: the first `count` pointers are mbufs that this burst owned; `Alike` accounts for them and the added
            // references.
            _ => unsafe {
                dpdk_sys::tl_refcnt_add_same(self.mbufs.as_mut_ptr(), count as u32, copies as i16 - 1)
            },
        }
        Alike { mbufs: &self.mbufs, count, bytes: self.bytes, left: copies }
    }

    /// Lends all packets to `take`, which says how many of the first it took over, and frees the others; the number freed.
    #[inline]
    pub(crate) fn move_all(&mut self, take: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
        let mbufs = &mut self.mbufs[..std::mem::take(&mut self.count)];
        let taken = take(mbufs).min(mbufs.len());
        let rest = &mut mbufs[taken..];
        free_all(rest);
        rest.len()
    }

    /// The same packets once more, each with a reference of its own.
    pub fn again(&mut self) -> MbufBurst {
        // SAFETY: the first `count` pointers are mbufs that this burst owns; the burst that is given owns the added references.
        unsafe { dpdk_sys::tl_refcnt_add_same(self.mbufs.as_mut_ptr(), self.count as u32, 1) };
        let &mut Self { mbufs, count, wire_lens, has_wire_lens, bytes } = self;
        MbufBurst { mbufs, count, wire_lens, has_wire_lens, bytes }
    }

    /// Frees the packets.
    pub fn clear(&mut self) {
        free_all(&mut self.mbufs[..self.count]);
        self.count = 0;
    }
}

impl Drop for MbufBurst {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Makes a burst of packets from bytes: for tests and for ports that read files.
/// Packets longer than one mbuf holds are refused (`None`), as are those that the pool has no mbuf for.
pub fn burst_of(pool: &Mempool, packets: &[&[u8]]) -> Option<MbufBurst> {
    let mut burst = MbufBurst::default();
    if packets.len() > MAX_BURST || packets.iter().any(|bytes| bytes.len() > DATA_ROOM as usize) {
        return None;
    }
    let count = packets.len();
    burst.fill(count, |slots| {
        // SAFETY: the pool is alive; DPDK writes `slots.len()` pointers or none.
        let result = unsafe { dpdk_sys::tl_alloc_bulk(pool.raw(), slots.as_mut_ptr(), slots.len() as u32) };
        if result == 0 { count } else { 0 }
    });
    if burst.len() != count {
        return None;
    }
    burst.bytes = packets.iter().map(|bytes| bytes.len() as u64).sum();
    for (&mbuf, bytes) in burst.mbufs.iter().zip(packets) {
        // SAFETY: a fresh mbuf of this pool has DATA_ROOM bytes behind its data pointer, and the packet is no longer (checked
        // above).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data(mbuf).cast_mut(), bytes.len()) };
        // SAFETY: the offset is that of `pkt_len` in the installed release (shim.h), of a fresh mbuf owned here.
        unsafe { field::<u32>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_PKT_LEN).write(bytes.len() as u32) };
        // SAFETY: likewise of `data_len`.
        unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_LEN).write(bytes.len() as u16) };
    }
    Some(burst)
}
