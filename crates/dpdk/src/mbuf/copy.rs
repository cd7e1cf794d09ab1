//! Copies that are not the packets themselves: mbufs of a copy pool, written through slices of bytes, and headers chained in front
//! of a packet that stays shared.
//!
//! A `CopyPool` gives empty `Page`s, one call of DPDK for all copies of a tool in a burst. A written page is laid into the
//! tool's `Made`, by the packet that it is a copy of; [`Shared::join`] puts them among the packets that the tool gets unchanged.
//! As everywhere here a pointer stands for one reference: a page that is dropped frees its mbuf, and a header that was chained owns
//! the reference to its payload, since freeing a chain frees one reference to each of its mbufs (`rte_pktmbuf_free`).

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::burst::MbufBurst;
use super::field::{self, RxStamp, field, free_all, free_selected, packet_len, segments};
use super::queue::MbufQueue;
use super::share::{Planes, Shared};
use crate::mempool::{DATA_ROOM, Mempool};
use tapline_packet::burst::{MAX_BURST, Selection};

/// Bytes of a page.
pub const PAGE_LEN: usize = DATA_ROOM as usize + dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
/// The most pages that one copy is spread over: those of the longest packet that a capture may hold.
pub const MOST_PAGES: usize = 128;
/// The longest copy.
pub const LONGEST_COPY: usize = MOST_PAGES * PAGE_LEN;

/// Mbufs for a worker's copies.
pub struct CopyPool {
    pool: Arc<Mempool>,
    /// Taken out of the pool; never more than there was room for at the start.
    stock: Vec<*mut rte_mbuf>,
}

// SAFETY: mbufs may be used and freed on any lcore; the stock is owned by this value alone.
unsafe impl Send for CopyPool {}

impl CopyPool {
    /// Takes pages from `pool`, whose mbufs have [`DATA_ROOM`] bytes (`Mempool::create`).
    pub fn new(pool: Arc<Mempool>) -> Self {
        Self::with_stock(pool, MAX_BURST)
    }

    /// The same, for a worker that has at most `most` pages ready, at least a burst of them.
    pub fn with_stock(pool: Arc<Mempool>, most: usize) -> Self {
        Self { pool, stock: Vec::with_capacity(most.max(MAX_BURST)) }
    }

    /// Gets ready to give `count` pages, at most as many as it may have ready, in one call of DPDK for each 64 where there are as
    /// many; the number that there are.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> usize {
        let wanted = count.min(self.stock.capacity()).saturating_sub(self.stock.len());
        if wanted > 0 {
            let mut slots = [std::ptr::null_mut(); MAX_BURST];
            if wanted <= MAX_BURST && self.take_raw(&mut slots[..wanted]) {
                self.stock.extend_from_slice(&slots[..wanted]);
            } else {
                self.reserve_many(wanted);
            }
        }
        self.stock.len().min(count)
    }

    /// More than one call gives, or less than was asked for: what there is.
    #[cold]
    fn reserve_many(&mut self, mut wanted: usize) {
        let mut slots = [std::ptr::null_mut(); MAX_BURST];
        while wanted > 0 {
            let count = wanted.min(MAX_BURST);
            if !self.take_raw(&mut slots[..count]) {
                return self.reserve_singly(wanted);
            }
            self.stock.extend_from_slice(&slots[..count]);
            wanted -= count;
        }
    }

    /// The pool has less than was asked for: what it has.
    #[cold]
    fn reserve_singly(&mut self, wanted: usize) {
        for _ in 0..wanted {
            let mut slot = [std::ptr::null_mut()];
            if !self.take_raw(&mut slot) {
                return;
            }
            self.stock.push(slot[0]);
        }
    }

    /// All of them or none, as the pool keeps them: [`Page::set`] writes what a packet needs, when its other fields are written.
    #[inline]
    fn take_raw(&self, slots: &mut [*mut rte_mbuf]) -> bool {
        // SAFETY: the pool is alive; DPDK writes `slots.len()` pointers or none.
        unsafe { dpdk_sys::tl_take_bulk(self.pool.raw(), slots.as_mut_ptr(), slots.len() as u32) == 0 }
    }

    /// An empty page: of those that were reserved, or, where longer copies took them, of the pool.
    #[inline]
    pub fn page(&mut self) -> Option<Page> {
        self.stock.pop().map(Page).or_else(|| self.page_of_pool())
    }

    #[cold]
    fn page_of_pool(&self) -> Option<Page> {
        let mut slot = [std::ptr::null_mut()];
        self.take_raw(&mut slot).then(|| Page(slot[0]))
    }

    /// Room for a copy of `len` bytes that needs more than one page.
    #[cold]
    pub fn pages(&mut self, len: usize) -> Option<Pages> {
        let count = len.div_ceil(PAGE_LEN).max(1);
        if count > MOST_PAGES {
            return None;
        }
        let mut pages = Pages(self.stock.drain(self.stock.len().saturating_sub(count)..).collect());
        let mut slots = [std::ptr::null_mut(); MOST_PAGES];
        let rest = &mut slots[..count - pages.0.len()];
        if !rest.is_empty() {
            if !self.take_raw(rest) {
                self.stock.extend(pages.0.drain(..));
                return None;
            }
            pages.0.extend(rest.iter().copied());
        }
        Some(pages)
    }

    /// Copies each packet of a burst by DPDK's own means and frees the copy: what benches compare with. The number copied.
    pub fn copy_by_dpdk(&self, burst: &MbufBurst) -> usize {
        let copy = |&mbuf: &*mut rte_mbuf| {
            // SAFETY: the burst owns the mbuf, whose bytes are read; the pool is alive.
            let copy = unsafe { dpdk_sys::rte_pktmbuf_copy(mbuf, self.pool.raw(), 0, u32::MAX) };
            (!copy.is_null()).then(|| Page(copy))
        };
        let copies: ArrayVec<Page, MAX_BURST> = burst.mbufs().iter().filter_map(copy).collect();
        copies.len()
    }
}

impl Drop for CopyPool {
    fn drop(&mut self) {
        free_all(&mut self.stock);
    }
}

/// A copy's own mbuf, not sent yet.
pub struct Page(*mut rte_mbuf);

impl Page {
    /// All bytes of the page; what they hold is left from before.
    #[inline(always)]
    pub fn bytes(&mut self) -> &mut [u8] {
        bytes_of(self.0)
    }

    /// Says which of the bytes are the copy, which makes the page a packet of one segment; a page that is sent was set.
    #[inline(always)]
    pub fn set(&mut self, range: Range<usize>) {
        debug_assert!(range.start <= range.end && range.end <= PAGE_LEN);
        let (start, end) = (range.start.min(PAGE_LEN), range.end.min(PAGE_LEN));
        let len = end.saturating_sub(start);
        write_head(self.0, start, len, 1, len as u32);
    }

    /// Which of the bytes are the copy.
    #[inline(always)]
    pub fn range(&self) -> Range<usize> {
        // SAFETY: the offset is that of `data_off` in the installed release (shim.h), of an mbuf owned here.
        let start =
            usize::from(unsafe { field::<u16>(self.0, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_OFF).read() });
        // SAFETY: likewise of `data_len`.
        let len =
            usize::from(unsafe { field::<u16>(self.0, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_LEN).read() });
        start..start + len
    }

    fn into_raw(self) -> *mut rte_mbuf {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        free_all(&mut [self.0]);
    }
}

/// Fields of an mbuf that stand in a row (shim.c asserts it), as drivers write them to received mbufs: at once.
#[repr(C, align(8))]
struct Rearm {
    data_off: u16,
    refcnt: u16,
    nb_segs: u16,
    port: u16,
}

/// As [`Rearm`].
#[repr(C)]
struct Lens {
    packet_type: u32,
    pkt_len: u32,
    data_len: u16,
    vlan_tci: u16,
}

/// Writes the fields of a first segment that is owned alone: `len` bytes from `start` of its buffer, of a packet of `segments`
/// segments and `packet_len` bytes.
#[inline(always)]
fn write_head(mbuf: *mut rte_mbuf, start: usize, len: usize, segments: u16, packet_len: u32) {
    let rearm = Rearm { data_off: start as u16, refcnt: 1, nb_segs: segments, port: u16::MAX };
    // SAFETY: the offset is that of `rearm_data` in the installed release (shim.h), which DPDK aligns to 8 bytes, of an mbuf that
    // the caller owns alone.
    unsafe { field::<Rearm>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_REARM_DATA).write(rearm) };
    // SAFETY: likewise of `ol_flags`. The buffers of a copy pool are its mbufs' own, which is what no flag says.
    unsafe { field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS).write(0) };
    let lens = Lens { packet_type: 0, pkt_len: packet_len, data_len: len as u16, vlan_tci: 0 };
    // SAFETY: likewise of `packet_type`, which DPDK aligns to 4 bytes.
    unsafe { field::<Lens>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_PACKET_TYPE).write(lens) };
}

/// The whole buffer of an mbuf of a copy pool that nobody else refers to.
#[inline(always)]
fn bytes_of<'a>(mbuf: *mut rte_mbuf) -> &'a mut [u8] {
    // SAFETY: callers own a fresh direct mbuf; the offset is that of `buf_addr` (shim.h).
    let start = unsafe { field::<*mut u8>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_BUF_ADDR).read() };
    // SAFETY: `Mempool::create` makes every buffer PAGE_LEN bytes long; the pool's memory is mapped and was written to by the
    // kernel, nobody else refers to a fresh mbuf (its reference count is one), and callers borrow from the value that owns it.
    unsafe { std::slice::from_raw_parts_mut(start, PAGE_LEN) }
}

/// Copies `from` to `to`, of the same length, from the first byte on where the processor has registers for it: memcpy writes the
/// first bytes last, and an edit that then reads them waits for it.
#[inline(always)]
pub fn copy_in_order(to: &mut [u8], from: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512.
        return unsafe { copy_by_lines(to, from) };
    }
    to.copy_from_slice(from);
}

/// Two cache lines at a time: of a loop over single ones the compiler makes memcpy.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn copy_by_lines(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_storeu_si512};
    let (to_pairs, to_rest) = to.as_chunks_mut::<128>();
    let (from_pairs, from_rest) = from.as_chunks::<128>();
    for (to, from) in to_pairs.iter_mut().zip(from_pairs) {
        // SAFETY: both have 128 bytes, at any alignment.
        unsafe {
            let first = _mm512_loadu_si512(from.as_ptr().cast());
            let second = _mm512_loadu_si512(from[64..].as_ptr().cast());
            _mm512_storeu_si512(to.as_mut_ptr().cast(), first);
            _mm512_storeu_si512(to[64..].as_mut_ptr().cast(), second);
        }
    }
    to_rest.copy_from_slice(from_rest);
}

/// Mbufs for one copy that is longer than a page.
pub struct Pages(ArrayVec<*mut rte_mbuf, MOST_PAGES>);

impl Pages {
    /// Fills the pages, as many as it takes, with `bytes`, and chains them. The bytes that do not fit are left out.
    pub fn pour(mut self, bytes: &[u8]) -> Page {
        let first = self.0[0];
        let mut poured = 0;
        let mut last: Option<*mut rte_mbuf> = None;
        let mut count = 0u16;
        for (&mbuf, part) in self.0.iter().zip(bytes.chunks(PAGE_LEN)) {
            bytes_of(mbuf)[..part.len()].copy_from_slice(part);
            // the chain owns its mbufs: this handle must not free them
            ManuallyDrop::new(Page(mbuf)).set(0..part.len());
            if let Some(last) = last {
                // SAFETY: the offset is that of `next` (shim.h); both mbufs are fresh and owned here.
                unsafe { field::<*mut rte_mbuf>(last, dpdk_sys::tl_mbuf_offset_TL_MBUF_NEXT).write(mbuf) };
            }
            last = Some(mbuf);
            poured += part.len();
            count += 1;
        }
        let used = usize::from(count.max(1));
        free_all(&mut self.0[used..]);
        // SAFETY: the offset is that of `nb_segs` (shim.h), of the first mbuf of the chain made above.
        unsafe { field::<u16>(first, dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS).write(count.max(1)) };
        // SAFETY: likewise of `pkt_len`.
        unsafe { field::<u32>(first, dpdk_sys::tl_mbuf_offset_TL_MBUF_PKT_LEN).write(poured as u32) };
        std::mem::forget(self);
        Page(first)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        free_all(&mut self.0);
    }
}

impl MbufQueue {
    /// Puts a page behind the others; frees it where there is no room.
    pub fn push_page(&mut self, page: Page) {
        let mut page = Some(page);
        self.append(|slots| match (slots.first_mut(), page.take()) {
            (Some(slot), Some(page)) => {
                *slot = page.into_raw();
                1
            }
            _ => 0,
        });
    }
}

/// The work that a NIC is asked to do on packets, as mbufs state it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    flags: u64,
    lens: u64,
}

impl Offload {
    /// The checksum of UDP behind a link and a network header of these lengths in bytes, whose field holds the pseudo header's sum.
    pub fn udp_checksum(link: usize, network: usize, is_ipv6: bool) -> Self {
        // SAFETY: these compute constants.
        let flags = unsafe { dpdk_sys::tl_tx_flags_udp_checksum(i32::from(is_ipv6)) };
        // SAFETY: as above.
        let lens = unsafe {
            dpdk_sys::tl_tx_lens(
                link as u32,
                network as u32,
                tapline_packet::headers::udp::HEADER_LEN as u32,
            )
        };
        Self { flags, lens }
    }
}

/// The copies of one tool in one burst that are not the packets themselves, by packet.
pub struct Made {
    mbufs: [*mut rte_mbuf; MAX_BURST],
    /// Packets that there is a page for.
    held: Selection,
    /// Those pages among them that are headers in front of the packet.
    fronts: Selection,
    /// Bytes that each packet would have had on the wire, where [`say_wire_len`](Self::say_wire_len) said so of any.
    wire_lens: [u32; MAX_BURST],
    has_wire_lens: bool,
}

// SAFETY: mbufs may be used and freed on any lcore; the pages are owned by this value alone.
unsafe impl Send for Made {}

impl Default for Made {
    fn default() -> Self {
        Self {
            mbufs: [std::ptr::null_mut(); MAX_BURST],
            held: Selection::NONE,
            fronts: Selection::NONE,
            wire_lens: [0; MAX_BURST],
            has_wire_lens: false,
        }
    }
}

impl Made {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Packets that the tool gets without a reference of its own: their copies stand alone.
    #[inline(always)]
    pub fn alone(&self) -> Selection {
        self.held - self.fronts
    }

    /// Lays in the copy of packet `index` (0..64).
    #[inline(always)]
    pub fn put(&mut self, index: usize, page: Page) {
        if self.held.contains(index) {
            self.take_out(Selection::only(index));
        }
        self.mbufs[index] = page.into_raw();
        self.held.insert(index);
    }

    /// Writes a time to each page, for stages that see only the copy.
    pub fn write_stamps(&mut self, place: RxStamp, stamps: &[u64; MAX_BURST]) {
        for index in self.held.indices() {
            // SAFETY: the page is owned by this value alone; DPDK gave the offset of a field of 8 bytes in every mbuf
            // (`RxStamp::register`).
            unsafe { field::<u64>(self.mbufs[index], place.offset).write_unaligned(stamps[index]) };
        }
    }

    /// Says how long the copy of packet `index` (0..64) would be on the wire if nothing were cut off, for tools that note it.
    #[inline(always)]
    pub fn say_wire_len(&mut self, index: usize, len: u32) {
        self.wire_lens[index] = len;
        self.has_wire_lens = true;
    }

    /// Makes the page of packet `index` (0..64) of `burst` a header in front of it: the bytes `range`. The page is chained to the
    /// packet in the visit that its memory gets anyway, and owns nothing of it before [`Shared::join`] gives it a reference.
    #[inline(always)]
    pub fn make_front(&mut self, index: usize, range: Range<usize>, burst: &MbufBurst) {
        debug_assert!(range.start <= range.end && range.end <= PAGE_LEN);
        let is_new = (self.held - self.fronts).contains(index);
        let Some(&payload) = burst.mbufs().get(index).filter(|_| is_new) else { return };
        chain(self.mbufs[index], range.start.min(PAGE_LEN), range.end.min(PAGE_LEN), payload);
        self.fronts.insert(index);
    }

    /// Lays in a page whose first `len` bytes are a header in front of packet `index` (0..64) of `burst`: [`put`](Self::put) and
    /// [`make_front`](Self::make_front) in one.
    #[inline(always)]
    pub fn put_front(&mut self, index: usize, page: Page, len: usize, burst: &MbufBurst) {
        let Some(&payload) = burst.mbufs().get(index) else { return };
        if self.held.contains(index) {
            self.take_out(Selection::only(index));
        }
        let header = page.into_raw();
        chain(header, 0, len.min(PAGE_LEN), payload);
        self.mbufs[index] = header;
        self.held.insert(index);
        self.fronts.insert(index);
    }

    /// Asks the NIC to finish the headers of all copies here.
    pub fn leave_to_nic(&mut self, offload: &Offload) {
        for index in self.held.indices() {
            // SAFETY: the offset is that of `ol_flags` (shim.h), of an mbuf owned here.
            unsafe {
                field::<u64>(self.mbufs[index], dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS)
                    .write(offload.flags)
            };
            // SAFETY: likewise of `tx_offload`.
            unsafe {
                field::<u64>(self.mbufs[index], dpdk_sys::tl_mbuf_offset_TL_MBUF_TX_OFFLOAD)
                    .write(offload.lens)
            };
        }
    }

    /// Lends the page of packet `index` (0..64) again, if there is one.
    #[inline(always)]
    pub fn page(&mut self, index: usize) -> Option<Lent<'_>> {
        let is_held = self.held.contains(index);
        is_held.then(|| Lent { page: ManuallyDrop::new(Page(self.mbufs[index])), owner: PhantomData })
    }

    /// Frees all copies.
    #[cold]
    pub fn clear(&mut self) {
        self.take_out(Selection::ALL);
    }

    /// Frees the copies of `selection`, if there are any.
    fn take_out(&mut self, selection: Selection) {
        let gone = selection & self.held;
        if !gone.is_empty() {
            (gone & self.fronts).indices().for_each(|index| unchain(self.mbufs[index]));
            free_selected(&self.mbufs, gone);
            self.held -= gone;
            self.fronts -= gone;
        }
    }
}

/// A page that stays where it lies.
pub struct Lent<'a> {
    page: ManuallyDrop<Page>,
    owner: PhantomData<&'a mut Made>,
}

impl Deref for Lent<'_> {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Page {
        &mut self.page
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Shared<'_> {
    /// One tool's copies of `selection`: those of `made`, headers chained to the packets that they stand in front of, and for the
    /// rest the packets themselves. `made` is empty afterwards.
    pub fn join<'m>(&mut self, selection: Selection, made: &'m mut Made) -> Shared<'m> {
        made.take_out(!selection);
        let taken = self.planes.take(selection - made.alone());
        // no reference is left for these, which only a caller that asked for too few brings about
        made.take_out(made.fronts - taken);
        for index in (taken - made.fronts).indices() {
            made.mbufs[index] = self.mbufs[index];
            if made.has_wire_lens {
                made.wire_lens[index] =
                    self.wire_lens.map_or_else(|| packet_len(self.mbufs[index]), |lens| lens[index]);
            }
        }
        let lent = made.held | taken;
        let mut planes = Planes::default();
        planes.add(lent);
        (made.held, made.fronts) = (Selection::NONE, Selection::NONE);
        // the sum is of use only where all packets go together; the slots of others hold nothing
        let bytes = if lent == Selection::first(self.count) {
            field::bytes_of(&made.mbufs[..self.count])
        } else {
            0
        };
        let wire_lens = made.has_wire_lens.then_some(&made.wire_lens);
        Shared { mbufs: &made.mbufs, count: self.count, bytes, planes, wire_lens }
    }
}

/// Makes bytes of a page a header in front of a packet.
#[inline(always)]
fn chain(header: *mut rte_mbuf, start: usize, end: usize, payload: *mut rte_mbuf) {
    let len = end.saturating_sub(start);
    write_head(header, start, len, segments(payload) + 1, packet_len(payload) + len as u32);
    // SAFETY: the offset is that of `next` (shim.h), of an mbuf that the caller owns. Before it is freed it is unchained
    // (`take_out`), or got the reference to the payload that freeing the chain takes (`join`).
    unsafe { field::<*mut rte_mbuf>(header, dpdk_sys::tl_mbuf_offset_TL_MBUF_NEXT).write(payload) };
}

/// Makes a header stand alone again, which got no reference to its packet.
#[cold]
fn unchain(header: *mut rte_mbuf) {
    // SAFETY: the offset is that of `next` (shim.h), of a header that is owned alone.
    unsafe {
        field::<*mut rte_mbuf>(header, dpdk_sys::tl_mbuf_offset_TL_MBUF_NEXT).write(std::ptr::null_mut())
    };
    // SAFETY: likewise of `nb_segs`.
    unsafe { field::<u16>(header, dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS).write(1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_datapath::copies::facts::CopyFacts;
    use tapline_datapath::copies::transport::{Encapsulation, Outer, Transport};
    use tapline_packet::headers::checksum::Sum;
    use tapline_packet::headers::ethernet::MacAddress;

    /// The memory of an mbuf that no pool knows of, and its buffer.
    struct Mock {
        words: Box<[u128; dpdk_sys::tl_mbuf_offset_TL_MBUF_SIZE as usize / 16]>,
        bytes: Vec<u8>,
    }

    impl Mock {
        fn new(bytes: &[u8]) -> Self {
            Self {
                words: Box::new([0; dpdk_sys::tl_mbuf_offset_TL_MBUF_SIZE as usize / 16]),
                bytes: bytes.to_vec(),
            }
        }

        fn mbuf(&mut self, segments: u16, packet_len: usize, next: *mut rte_mbuf) -> *mut rte_mbuf {
            let mbuf: *mut rte_mbuf = self.words.as_mut_ptr().cast();
            // SAFETY: the words are an mbuf's memory, aligned for its fields, which nobody else knows of.
            unsafe {
                field::<*mut u8>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_BUF_ADDR)
                    .write(self.bytes.as_mut_ptr());
                field::<*mut rte_mbuf>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_NEXT).write(next);
            }
            write_head(mbuf, 0, self.bytes.len(), segments, packet_len as u32);
            mbuf
        }
    }

    fn ol_flags(mbuf: *mut rte_mbuf) -> u64 {
        // SAFETY: tests pass mbufs of their own; the offset is that of `ol_flags` (shim.h).
        unsafe { field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_OL_FLAGS).read() }
    }

    fn outer(is_ipv6: bool) -> Outer {
        let [source, destination] =
            if is_ipv6 { ["2001:db8::1", "2001:db8::9"] } else { ["198.18.0.1", "198.18.0.9"] };
        Outer {
            source_mac: MacAddress([2, 0, 0, 0, 0, 8]),
            destination_mac: MacAddress([2, 0, 0, 0, 0, 9]),
            vlan: None,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            dscp: 0,
            ttl: 64,
            dont_fragment: true,
        }
    }

    /// A header that leaves its checksum to the NIC, and what the NIC is asked.
    fn left_to_nic(is_ipv6: bool, payload: &[u8]) -> (Vec<u8>, Offload) {
        let encapsulation = Encapsulation::Vxlan { vni: 7, udp_port: None, udp_checksum: Some(true) };
        let mut transport = Transport::tunnel(&outer(is_ipv6), &encapsulation).expect("it is valid");
        let lens = transport.leave_udp_checksum().expect("a checksum covers the payload");
        let mut header = [0; 96];
        let written =
            transport.write(&CopyFacts { flow_hash: 5, ..CopyFacts::default() }, &[payload], &mut header);
        (
            header[..written.header_bytes].to_vec(),
            Offload::udp_checksum(lens.link, lens.network, lens.is_ipv6),
        )
    }

    #[test]
    fn a_nic_is_asked_for_udp_checksums_by_flags_and_the_lengths_of_the_headers() {
        // rte_mbuf_core.h: UDP checksum 3 << 52, IPv4 1 << 55, IPv6 1 << 56; lengths of 7, 9 and 8 bits.
        for (is_ipv6, flags, network) in [(false, 3 << 52 | 1 << 55, 20), (true, 3 << 52 | 1 << 56, 40)] {
            let (header, offload) = left_to_nic(is_ipv6, &[9; 61]);
            let mut mock = Mock::new(&header);
            let mbuf = mock.mbuf(1, header.len(), std::ptr::null_mut());
            let mut made = ManuallyDrop::new(Made::default());
            made.put(3, Page(mbuf));
            made.leave_to_nic(&offload);
            assert_eq!(ol_flags(mbuf), flags);
            // SAFETY: the mbuf is this test's; the offset is that of `tx_offload` (shim.h).
            let lens = unsafe { field::<u64>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_TX_OFFLOAD).read() };
            assert_eq!(lens, 14 | network << 7 | 8 << 16);
        }
    }

    #[test]
    fn a_checksum_that_the_driver_does_not_prepare_is_computed_over_all_segments() {
        for is_ipv6 in [false, true] {
            for len in [0, 1, 61, 600] {
                let payload: Vec<u8> = (0..len).map(|index| (index * 7 + 3) as u8).collect();
                let (header, offload) = left_to_nic(is_ipv6, &payload);
                let (mut front, mut rest) = (Mock::new(&header), Mock::new(&payload));
                let rest = rest.mbuf(1, len, std::ptr::null_mut());
                let mbuf = front.mbuf(2, header.len() + len, rest);
                let mut made = ManuallyDrop::new(Made::default());
                made.put(0, Page(mbuf));
                made.leave_to_nic(&offload);
                // SAFETY: the mbufs are this test's, whole and chained.
                unsafe { dpdk_sys::tl_sum_udp(mbuf) };
                assert_eq!(ol_flags(mbuf), 0, "nothing is left to ask");
                let encapsulation =
                    Encapsulation::Vxlan { vni: 7, udp_port: None, udp_checksum: Some(true) };
                let transport = Transport::tunnel(&outer(is_ipv6), &encapsulation).expect("it is valid");
                let mut expected = [0; 96];
                let written = transport.write(
                    &CopyFacts { flow_hash: 5, ..CopyFacts::default() },
                    &[&payload],
                    &mut expected,
                );
                assert_eq!(front.bytes, expected[..written.header_bytes]);
                let udp = if is_ipv6 { 14 + 40 } else { 14 + 20 };
                assert_ne!(
                    front.bytes[udp + 6..udp + 8],
                    header[udp + 6..udp + 8],
                    "the pseudo header's sum is not left"
                );
                let addresses = if is_ipv6 { &header[22..54] } else { &header[26..34] };
                let datagram = [&front.bytes[udp..], &payload].concat();
                let sum =
                    Sum::default().bytes(addresses).word(17).word(datagram.len() as u16).bytes(&datagram);
                assert_eq!(sum.folded(), 0xffff, "RFC 768: a right checksum makes the sum all ones");
            }
        }
    }
}
