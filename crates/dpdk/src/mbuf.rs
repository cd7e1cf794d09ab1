//! Packets in mbufs: a burst as it was received, the references that its copies share, and the queues in front of tools.
//!
//! Every pointer in these types stands for one reference that the type owns. References are made by [`MbufBurst::share`] only,
//! taken by [`Shared::take`], and given up to the driver, to a ring, or freed: none is lost and none is used twice, whatever the
//! caller does. None is freed after its pool: a pool whose owner goes while mbufs are out stays, and with it EAL ([`super::Eal`]).

use std::marker::PhantomData;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::mempool::Mempool;
use super::queue::{Moved, TxQueue};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

pub mod copy;

/// References to one packet that a burst can lend out: copies to tools, and the original on a wire.
pub const MOST_REFERENCES: usize = 255;

/// Up to [`MAX_BURST`] packets as one poll received them.
// the pointers on cache lines of their own: drivers write and read them several at a time
#[repr(C, align(64))]
pub struct MbufBurst {
    mbufs: [*mut rte_mbuf; MAX_BURST],
    count: usize,
    /// Bytes that each packet had on the wire, where some may have had more than there are here.
    wire_lens: [u32; MAX_BURST],
    has_wire_lens: bool,
    /// Of all packets together.
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

/// Where drivers put receive times: an mbuf's dynamic field and its flag.
#[derive(Clone, Copy, Debug)]
pub struct RxStamp {
    offset: u32,
    flag: u64,
}

impl RxStamp {
    /// Asks DPDK for the place, which is the same for all ports.
    ///
    /// # Errors
    /// If mbufs have no room left.
    pub fn register(_eal: &super::Eal) -> Result<Self, super::Error> {
        let (mut offset, mut flag) = (0, 0);
        // SAFETY: both are written during the call only.
        let result = super::error::or_fault("start.stamps", || unsafe {
            dpdk_sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag)
        });
        super::error::check("mbufs", "rte_mbuf_dyn_rx_timestamp_register", result)?;
        Ok(Self { offset: offset.unsigned_abs(), flag })
    }
}

/// What part of a packet is to become the packet.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub offset: usize,
    pub len: usize,
    /// Written in front of it, over what was there; at most `offset` bytes.
    pub link: &'a [u8],
    /// Bytes that the packet, `link` included, had on the wire.
    pub wire_len: u32,
}

/// Room for the frames of a burst, on the stack of one turn of the worker loop.
pub type Frames<'a> = ArrayVec<Frame<'a>, MAX_BURST>;

/// Packets in mbufs, each as long as it was on the wire: what generated code looks at where no other stage asks for frames.
#[derive(Clone, Copy)]
pub struct MbufFrames<'a>(&'a [*mut rte_mbuf]);

impl MbufFrames<'_> {
    /// Bytes from one pointer to the next.
    pub const STRIDE: usize = size_of::<*mut rte_mbuf>();
    /// Behind a pointer: where the segment's bytes begin, and how far into it those of the packet (`u16`).
    pub const BUF_ADDR_OFFSET: u32 = dpdk_sys::tl_mbuf_offset_TL_MBUF_BUF_ADDR;
    pub const DATA_OFF_OFFSET: u32 = dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_OFF;
    /// Bytes in the first segment (`u16`), and the number of segments (`u16`).
    pub const DATA_LEN_OFFSET: u32 = dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_LEN;
    pub const NB_SEGS_OFFSET: u32 = dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS;
    /// Bytes in all segments (`u32`).
    pub const PKT_LEN_OFFSET: u32 = dpdk_sys::tl_mbuf_offset_TL_MBUF_PKT_LEN;

    pub fn mbufs(&self) -> &[*mut rte_mbuf] {
        self.0
    }
}

/// Mbufs that describe packets which lie elsewhere: for tests and fuzz targets, which have no EAL and no pool.
pub struct MbufHeaders<'a> {
    headers: Vec<[u128; dpdk_sys::tl_mbuf_offset_TL_MBUF_SIZE as usize / 16]>,
    mbufs: Vec<*mut rte_mbuf>,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> MbufHeaders<'a> {
    /// Each in one segment.
    ///
    /// # Panics
    /// If a frame is longer than a segment may be, 65535 bytes.
    pub fn of(frames: &[Frame<'a>]) -> Self {
        use dpdk_sys::*;
        let mut headers = vec![[0; tl_mbuf_offset_TL_MBUF_SIZE as usize / 16]; frames.len()];
        let mbufs: Vec<*mut rte_mbuf> =
            headers.iter_mut().map(|header| header.as_mut_ptr().cast()).collect();
        for (&mbuf, frame) in mbufs.iter().zip(frames) {
            let captured = u16::try_from(frame.captured_len()).expect("a frame fits a segment");
            let start = frame.bytes().as_ptr().wrapping_sub(RTE_PKTMBUF_HEADROOM as usize);
            // SAFETY: the header is an mbuf's memory, aligned for its fields, whose offsets these are (shim.h).
            unsafe {
                field::<*const u8>(mbuf, tl_mbuf_offset_TL_MBUF_BUF_ADDR).write(start);
                field::<u16>(mbuf, tl_mbuf_offset_TL_MBUF_DATA_OFF).write(RTE_PKTMBUF_HEADROOM as u16);
                field::<u16>(mbuf, tl_mbuf_offset_TL_MBUF_DATA_LEN).write(captured);
                field::<u32>(mbuf, tl_mbuf_offset_TL_MBUF_PKT_LEN).write(frame.original_len());
                field::<u16>(mbuf, tl_mbuf_offset_TL_MBUF_NB_SEGS).write(1);
            }
        }
        Self { headers, mbufs, bytes: PhantomData }
    }

    /// Says of a packet that it goes on in another segment, which is not there.
    pub fn continue_elsewhere(&mut self, index: usize) {
        assert!(index < self.headers.len());
        // SAFETY: as in `of`.
        unsafe { field::<u16>(self.mbufs[index], dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS).write(2) };
    }

    pub fn frames(&self) -> MbufFrames<'_> {
        MbufFrames(&self.mbufs)
    }
}

/// Room for packets that arrived in several segments, so that filters and parsers see them as one piece. Grows to the largest need.
#[derive(Default)]
pub struct Linear(Vec<u8>);

impl Linear {
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        &mut self.0[..len]
    }

    /// A packet's bytes: where they are, or joined here.
    fn bytes_of(&mut self, mbuf: *mut rte_mbuf) -> &[u8] {
        match segments(mbuf) {
            1 => frame(mbuf).bytes(),
            _ => join(mbuf, self.room(packet_len(mbuf) as usize)),
        }
    }
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

    /// Of all packets together.
    #[inline(always)]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills an empty burst through `fill`, which gets the free slots and says how many it wrote.
    #[inline(always)]
    pub(super) fn fill(&mut self, limit: usize, fill: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
        debug_assert!(self.count == 0);
        let limit = limit.min(MAX_BURST);
        self.has_wire_lens = false;
        self.count = fill(&mut self.mbufs[..limit]).min(limit);
        self.bytes = bytes_of(&self.mbufs[..self.count]);
        self.count
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
    /// packets behind their headers: for tests and fuzz targets. Whether it could: there are bytes to move, and the pool has an mbuf.
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
        assert!(
            rest.len() <= usize::from(super::mempool::DATA_ROOM),
            "a segment of another pool is longer"
        );
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

    /// Makes a part of packet `index` the whole packet. Whether it could: the first segment must hold what goes in front.
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
    pub(super) fn move_all(&mut self, take: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
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

/// A small counter for each packet of a burst, held as bit planes: bit `i` of plane `p` is worth `2^p` for packet `i`.
#[derive(Default, Clone, Copy)]
struct Planes {
    planes: [u64; MOST_REFERENCES.ilog2() as usize + 1],
    used: usize,
}

impl Planes {
    /// Adds 1 for the packets of `selection`.
    #[inline(always)]
    fn add(&mut self, selection: Selection) {
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
    fn take(&mut self, selection: Selection) -> Selection {
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
    fn any(&self) -> u64 {
        self.planes[..self.used].iter().fold(0, |any, plane| any | plane)
    }

    fn any_above_one(&self) -> bool {
        self.planes[1..].iter().any(|&plane| plane != 0)
    }

    /// The number that all packets of `all` have, if they have the same.
    #[inline(always)]
    fn uniform(&self, all: Selection) -> Option<u8> {
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

    fn get(&self, index: usize) -> u8 {
        self.planes
            .iter()
            .enumerate()
            .fold(0, |value, (plane, bits)| value | (((bits >> index) & 1) as u8) << plane)
    }
}

/// References to a burst's packets, one for each copy, to be taken by the tools. What is not taken is freed at the end.
pub struct Shared<'a> {
    mbufs: &'a [*mut rte_mbuf; MAX_BURST],
    count: usize,
    /// Of all packets of the burst together.
    bytes: u64,
    planes: Planes,
    wire_lens: Option<&'a [u32; MAX_BURST]>,
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

    /// Whether every packet of the burst is selected.
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

    /// Bytes that a packet had on the wire, no fewer than it has. Its references may not all have been taken.
    #[inline(always)]
    pub fn wire_len_of(&self, index: usize) -> u32 {
        self.wire_lens.map_or(0, |lens| lens[index]).max(self.len_of(index))
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
    mbufs: &'a [*mut rte_mbuf; MAX_BURST],
    count: usize,
    /// Of all packets together.
    bytes: u64,
    /// References to each packet that were not taken.
    left: usize,
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
fn transmit(
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
    pub(super) fn append(&mut self, fill: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
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
    pub(super) fn move_front(&mut self, take: impl FnOnce(&mut [*mut rte_mbuf]) -> usize) -> usize {
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

    /// The time that [`MbufBurst::write_stamps`] wrote.
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

impl MbufQueue {
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

/// Makes a burst of packets from bytes: for tests and for ports that read files.
/// Packets longer than one mbuf holds are refused (`None`), as are those that the pool has no mbuf for.
pub fn burst_of(pool: &Mempool, packets: &[&[u8]]) -> Option<MbufBurst> {
    let mut burst = MbufBurst::default();
    if packets.len() > MAX_BURST
        || packets.iter().any(|bytes| bytes.len() > super::mempool::DATA_ROOM as usize)
    {
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

/// A pointer to a field of an mbuf.
///
/// # Safety
/// `mbuf` points to an mbuf, and a `T` lies at `offset`.
#[inline(always)]
unsafe fn field<T>(mbuf: *mut rte_mbuf, offset: u32) -> *mut T {
    // SAFETY: the caller vouches that the offset lies inside the mbuf.
    unsafe { mbuf.byte_add(offset as usize).cast::<T>() }
}

#[inline(always)]
fn packet_len(mbuf: *mut rte_mbuf) -> u32 {
    // SAFETY: callers pass mbufs that a burst or queue owns; the offset is that of `pkt_len` (shim.h).
    unsafe { field::<u32>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_PKT_LEN).read() }
}

#[inline(always)]
fn segments(mbuf: *mut rte_mbuf) -> u16 {
    // SAFETY: as above, of `nb_segs`.
    unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS).read() }
}

/// The first byte of the first segment.
#[inline(always)]
fn data(mbuf: *mut rte_mbuf) -> *const u8 {
    // SAFETY: callers pass mbufs that a burst or queue owns; the offset is that of `buf_addr` (shim.h).
    let start = unsafe { field::<*const u8>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_BUF_ADDR).read() };
    // SAFETY: as above, of `data_off`.
    let offset = unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_OFF).read() };
    start.wrapping_add(usize::from(offset))
}

/// Copies the bytes of all segments to `to`.
fn join(mbuf: *mut rte_mbuf, to: &mut [u8]) -> &[u8] {
    // SAFETY: callers pass mbufs that a burst, packet or queue owns; the shim writes at most `to.len()` bytes.
    let copied = unsafe { dpdk_sys::tl_linearise(mbuf, to.as_mut_ptr(), to.len() as u32) } as usize;
    &to[..copied]
}

/// Views a packet of one segment.
#[inline(always)]
fn frame<'a>(mbuf: *mut rte_mbuf) -> Frame<'a> {
    // SAFETY: callers pass mbufs that a burst owns for as long as the frame's borrow; the offset is that of `data_len` (shim.h).
    let len = unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_LEN).read() };
    // SAFETY: `data_len` bytes from the data pointer on belong to the packet (rte_mbuf), and nobody writes to them while it is
    // owned.
    let bytes = unsafe { std::slice::from_raw_parts(data(mbuf), usize::from(len)) };
    Frame::whole(bytes)
}

/// The first two bytes behind the MAC addresses.
#[inline]
fn ethertype(mbuf: *mut rte_mbuf) -> Option<u16> {
    let bytes = if packet_len(mbuf) > 0 { frame(mbuf).bytes().get(12..14)? } else { return None };
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Asks the processor to load the first bytes of what is asked for soon.
#[inline(always)]
pub fn prefetch<T: ?Sized>(soon: &T) {
    prefetch_line(std::ptr::from_ref(soon).cast());
}

/// Asks the processor to load an mbuf's two cache lines: the second has `next`, which whoever frees the mbuf looks at.
#[inline(always)]
pub(super) fn prefetch_mbuf(mbuf: *mut rte_mbuf) {
    prefetch_line(mbuf.cast());
    prefetch_line(mbuf.cast::<u8>().wrapping_add(64));
}

#[inline(always)]
pub(super) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect on state and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The RSS hash of a packet of which the driver says that it has one, and what the packet is: not more, for only of those is it
/// known which fields the NIC took. A NIC that does not name packet types gives none.
///
/// # Safety
/// `mbuf` is owned by the caller.
#[inline(always)]
unsafe fn rss_of(mbuf: *mut rte_mbuf) -> Option<u32> {
    use dpdk_sys::*;
    // SAFETY: the caller's; the offset is that of `ol_flags` (shim.h).
    let flags = unsafe { field::<u64>(mbuf, tl_mbuf_offset_TL_MBUF_OL_FLAGS).read() };
    // SAFETY: as above, of `packet_type`.
    let kind = unsafe { field::<u32>(mbuf, tl_mbuf_offset_TL_MBUF_PACKET_TYPE).read() };
    let is_ip =
        [tl_mbuf_word_TL_PTYPE_IPV4, tl_mbuf_word_TL_PTYPE_IPV4_EXT_UNKNOWN, tl_mbuf_word_TL_PTYPE_IPV6]
            .contains(&(kind & tl_mbuf_word_TL_PTYPE_L3));
    let has_ports =
        [tl_mbuf_word_TL_PTYPE_TCP, tl_mbuf_word_TL_PTYPE_UDP].contains(&(kind & tl_mbuf_word_TL_PTYPE_L4));
    // no tag in front, and no tunnel behind
    let is_plain =
        kind & !(tl_mbuf_word_TL_PTYPE_L3 | tl_mbuf_word_TL_PTYPE_L4) == tl_mbuf_word_TL_PTYPE_ETHER;
    let is_hashed = flags & u64::from(tl_mbuf_word_TL_RX_RSS_HASH) != 0;
    if is_hashed && is_ip && has_ports && is_plain {
        // SAFETY: as above, of `hash.rss`.
        Some(unsafe { field::<u32>(mbuf, tl_mbuf_offset_TL_MBUF_RSS).read() })
    } else {
        None
    }
}

/// Bytes of at most a burst of packets that the caller owns. In four sums, so that the additions do not wait for one another, and
/// each of 32 bits, which saves an instruction a packet: it holds the lengths of sixteen packets, none of which comes near 2^28
/// bytes.
#[inline(always)]
pub(super) fn bytes_of(mbufs: &[*mut rte_mbuf]) -> u64 {
    debug_assert!(mbufs.len() <= MAX_BURST);
    let (fours, rest) = mbufs.as_chunks::<4>();
    let mut sums = [0u32; 4];
    for four in fours {
        for (sum, &mbuf) in sums.iter_mut().zip(four) {
            *sum = sum.wrapping_add(packet_len(mbuf));
        }
    }
    sums.into_iter().chain(rest.iter().map(|&mbuf| packet_len(mbuf))).map(u64::from).sum()
}

/// Bytes of any number of packets that the caller owns.
fn bytes_of_all(mbufs: &[*mut rte_mbuf]) -> u64 {
    mbufs.chunks(MAX_BURST).map(bytes_of).sum()
}

/// Frees one reference to each mbuf.
pub(super) fn free_all(mbufs: &mut [*mut rte_mbuf]) {
    if !mbufs.is_empty() {
        // SAFETY: callers own one reference to each and forget it.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), mbufs.len() as u32) };
    }
}

/// Frees one reference to each selected mbuf.
#[inline(always)]
fn free_selected(mbufs: &[*mut rte_mbuf; MAX_BURST], selection: Selection) {
    if !selection.is_empty() {
        // SAFETY: callers own one reference to each selected mbuf and forget it; there is a pointer for each bit.
        unsafe { dpdk_sys::tl_free_selected(mbufs.as_ptr(), selection.bits()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hash_is_taken_from_the_nic_only_for_what_it_says_is_plain_tcp_or_udp() {
        // rte_mbuf_ptype.h: Ethernet 1, tagged 6; IPv4 0x10, IPv4 with options 0x30, IPv6 0x40, with or without extensions 0xe0;
        // TCP 0x100, UDP 0x200, fragment 0x300, SCTP 0x400, ICMP 0x500; in VXLAN 0x3000.
        for (kind, flags, expected) in [
            (0x111, 2, Some(7)),
            (0x291, 2, Some(7)),
            (0x241, 2 | 1 << 40, Some(7)),
            (0x111, 0, None),
            (0x111, !2, None),
            (0x011, 2, None),
            (0x116, 2, None),
            (0x131, 2, None),
            (0x1e1, 2, None),
            (0x311, 2, None),
            (0x411, 2, None),
            (0x511, 2, None),
            (0x3211, 2, None),
            (0, 2, None),
        ] {
            let mut words = [0u128; dpdk_sys::tl_mbuf_offset_TL_MBUF_SIZE as usize / 16];
            let mbuf: *mut rte_mbuf = words.as_mut_ptr().cast();
            // SAFETY: the words are an mbuf's memory, aligned for its fields, which nobody else knows of.
            let rss = unsafe {
                field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS).write(flags);
                field::<u32>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_PACKET_TYPE).write(kind);
                field::<u32>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_RSS).write(7);
                rss_of(mbuf)
            };
            assert_eq!(rss, expected, "type {kind:#x}, flags {flags:#x}");
        }
    }

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
