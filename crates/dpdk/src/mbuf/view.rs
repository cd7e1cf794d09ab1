//! Packets in mbufs as bytes: where they are, or joined.

use std::marker::PhantomData;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::field::{field, frame, join, packet_len, segments};
use tapline_packet::burst::MAX_BURST;
use tapline_packet::frame::Frame;

/// Room for the frames of a burst, on the stack of one turn of the worker loop.
pub type Frames<'a> = ArrayVec<Frame<'a>, MAX_BURST>;

/// Packets in mbufs, each as long as it was on the wire: what generated code looks at where no other stage asks for frames.
#[derive(Clone, Copy)]
pub struct MbufFrames<'a>(pub(super) &'a [*mut rte_mbuf]);

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
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        &mut self.0[..len]
    }

    /// A packet's bytes: where they are, or joined here.
    pub(super) fn bytes_of(&mut self, mbuf: *mut rte_mbuf) -> &[u8] {
        match segments(mbuf) {
            1 => frame(mbuf).bytes(),
            _ => join(mbuf, self.room(packet_len(mbuf) as usize)),
        }
    }
}
