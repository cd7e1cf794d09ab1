//! A receive ring that the kernel writes and one thread reads (TPACKET_V3): blocks of frames, each handed over once it is full or a
//! millisecond old.
//!
//! The reader owns a block from the moment the kernel marks it as the user's until it marks it as the kernel's. In its own block it
//! puts VLAN tags back, in front of which each frame has room (`PACKET_RESERVE`).
//! # Source
//! Linux, Documentation/networking/packet_mmap.rst, section "TPACKET_V3"; `tpacket_rcv` in net/packet/af_packet.c.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::{Failure, RingSpec, Sender, set_option};

/// Bytes of a block: two frames of 64 KiB fit, and a lone frame that waits for its millisecond holds no more of the ring.
const BLOCK_BYTES: usize = 128 << 10;
/// A block that has frames is handed over after so many milliseconds at the latest.
const BLOCK_TIMEOUT_MS: u32 = 1;
/// A size that the kernel asks for, and uses for its sums alone in this version.
const FRAME_BYTES: usize = 2048;
const TAG_BYTES: usize = 4;
const MAC_BYTES: usize = 12;
/// The type that announces a tag where the kernel does not say it.
const TPID_8021Q: u16 = 0x8100;

/// A receive ring and its socket.
pub struct Ring {
    memory: Mapping,
    socket: Arc<OwnedFd>,
    blocks: usize,
    /// The block that is read, or that comes next.
    block: usize,
    /// Frames of that block that are not taken yet; 0 where it is the kernel's.
    left: usize,
    /// The place in the block where the first of those begins.
    at: usize,
}

/// A frame in a ring.
#[derive(Clone, Copy)]
pub struct RingFrame<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// Bytes that it had on the wire.
    pub original_len: u32,
    /// When it was received, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// That time is the NIC's.
    pub is_nics_time: bool,
}

/// Shared memory of a ring.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is mapped until this value goes, in every thread alike, and no thread but the one that has `&mut Ring` uses it.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the mapping that `Ring::open` made, and nothing borrows from it any more. That the
        // kernel refuses it would leave the memory mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Ring {
    /// Gives a socket that is not bound yet its ring.
    pub(super) fn open(socket: Arc<OwnedFd>, spec: &RingSpec) -> Result<Self, Failure> {
        let blocks = usize::try_from(spec.ring_bytes).unwrap_or(usize::MAX).div_ceil(BLOCK_BYTES);
        let blocks = blocks.clamp(2, (u32::MAX as usize) / BLOCK_BYTES);
        let fd = socket.as_fd();
        set_option(
            fd,
            "PACKET_VERSION",
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V3 as libc::c_int),
        )?;
        set_option(fd, "PACKET_RESERVE", libc::PACKET_RESERVE, &(TAG_BYTES as libc::c_uint))?;
        if !spec.takes_outgoing {
            set_option(fd, "PACKET_IGNORE_OUTGOING", libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        }
        if spec.wants_nic_times {
            let raw = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
            set_option(fd, "PACKET_TIMESTAMP", libc::PACKET_TIMESTAMP, &raw)?;
        }
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as libc::c_uint,
            tp_block_nr: blocks as libc::c_uint,
            tp_frame_size: FRAME_BYTES as libc::c_uint,
            tp_frame_nr: (blocks * (BLOCK_BYTES / FRAME_BYTES)) as libc::c_uint,
            tp_retire_blk_tov: BLOCK_TIMEOUT_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(fd, "PACKET_RX_RING", libc::PACKET_RX_RING, &request)?;
        let len = blocks * BLOCK_BYTES;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses a place that nothing else has; the length is that of the ring that the socket was just given.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, fd, 0) }
            .map_err(|error| Failure::of("mmap", error.into()))?;
        // SAFETY: the ring is ours; the advice changes no byte of it. Packets are in no core.
        let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxDontDump) };
        let Some(start) = NonNull::new(start.cast()) else {
            return Err(Failure::of("mmap", rustix::io::Errno::NOMEM.into()));
        };
        Ok(Self { memory: Mapping { start, len }, socket, blocks, block: 0, left: 0, at: 0 })
    }

    /// Gives the ring's socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Gives a way to send by the ring's own socket, whose frames it does not receive.
    pub fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.socket))
    }

    /// Gives the ring's socket for as long as the caller likes, to ask the kernel what it counted.
    pub fn shared_socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Gives this ring the number of another one's `socket`: who sends by that number, or asks by it what the kernel counted, does so by
    /// this ring's socket from then on. The other ring keeps its frames.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn in_place_of(mut self, socket: &Arc<OwnedFd>) -> Result<Self, Failure> {
        super::put_in_place(socket, &self.socket)?;
        self.socket = Arc::clone(socket);
        super::send::make_room(socket);
        Ok(self)
    }

    /// Gives the next frames, oldest first, at most `most`, all of one block; none where none came. They stay until they are
    /// [taken](Self::take).
    pub fn waiting(&mut self, most: usize) -> Frames<'_> {
        if self.left == 0 {
            self.begin_block();
        }
        Frames { at: self.at, left: self.left.min(most), ring: self }
    }

    /// Takes the first `count` of the frames that wait, which nobody sees again.
    pub fn take(&mut self, count: usize) {
        let taken = count.min(self.left);
        for _ in 0..taken {
            self.at = self.header(self.at).map_or(BLOCK_BYTES, |header| self.behind(self.at, header));
        }
        self.left -= taken;
        if self.left == 0 && taken > 0 {
            self.end_block();
        }
    }

    /// Looks whether the next block has been handed over.
    fn begin_block(&mut self) {
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return;
        }
        // SAFETY: the block begins with a descriptor (`status`), which the kernel does not write while the block is the user's.
        let header = unsafe { (*self.descriptor()).hdr.bh1 };
        (self.left, self.at) = (header.num_pkts as usize, header.offset_to_first_pkt as usize);
        if self.left == 0 {
            self.end_block();
        }
    }

    /// Gives the block back to the kernel, and goes on to the next.
    fn end_block(&mut self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.blocks;
    }

    fn block_start(&self) -> *mut u8 {
        // SAFETY: `block` is below `blocks`, and the mapping has so many blocks.
        unsafe { self.memory.start.as_ptr().add(self.block * BLOCK_BYTES) }
    }

    fn descriptor(&self) -> *mut libc::tpacket_block_desc {
        self.block_start().cast()
    }

    /// Gives the word by which the block changes hands.
    fn status(&self) -> &AtomicU32 {
        // SAFETY: blocks begin on a page, with a descriptor whose status lies on four bytes; both sides only ever load and store it
        // whole.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.descriptor()).hdr.bh1.block_status) }
    }

    /// Gives the header of the frame that begins at `at`; `None` where the block does not hold one there.
    fn header(&self, at: usize) -> Option<NonNull<libc::tpacket3_hdr>> {
        let fits = at.is_multiple_of(align_of::<libc::tpacket3_hdr>())
            && at.checked_add(size_of::<libc::tpacket3_hdr>()).is_some_and(|end| end <= BLOCK_BYTES);
        // SAFETY: `at` lies in the block.
        fits.then(|| unsafe { NonNull::new_unchecked(self.block_start().add(at)).cast() })
    }

    /// Gives the place where the frame behind the one at `at` begins.
    fn behind(&self, at: usize, header: NonNull<libc::tpacket3_hdr>) -> usize {
        // SAFETY: `header` lies in the block (`Ring::header`), which is the user's while frames of it are left.
        at.saturating_add(unsafe { (*header.as_ptr()).tp_next_offset } as usize)
    }
}

/// Frames that wait in a ring.
pub struct Frames<'a> {
    ring: &'a mut Ring,
    at: usize,
    left: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = RingFrame<'a>;

    fn next(&mut self) -> Option<RingFrame<'a>> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        let Some(header) = self.ring.header(at) else {
            // a frame is one, however wrong: the counts stay the kernel's
            return Some(RingFrame { bytes: &[], original_len: 0, time_ns: 0, is_nics_time: false });
        };
        self.at = self.ring.behind(at, header);
        // SAFETY: `header` lies in a block that is the user's, and this iterator has the only reference to it: it borrows the ring, and
        // gives each header out once, and what it lends are the frames' bytes, which are behind their headers.
        let header = unsafe { &mut *header.as_ptr() };
        put_tag_back(header, at, self.ring.block_start());
        let (start, len) = (at.saturating_add(usize::from(header.tp_mac)), header.tp_snaplen as usize);
        let fits = start.checked_add(len).is_some_and(|end| end <= BLOCK_BYTES);
        let bytes: &'a [u8] = if fits {
            // SAFETY: the bytes lie in the block, behind the frame's header and in front of the next one, so nothing writes to them while
            // the ring is borrowed: the kernel does not while the block is the user's, and tags were put back before.
            unsafe { std::slice::from_raw_parts(self.ring.block_start().add(start), len) }
        } else {
            &[]
        };
        Some(RingFrame {
            bytes,
            original_len: header.tp_len,
            time_ns: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            is_nics_time: header.tp_status & libc::TP_STATUS_TS_RAW_HARDWARE != 0,
        })
    }
}

/// Writes the VLAN tag that the kernel took off the frame at `at` of a block back behind its addresses, once: the header then says that
/// nothing is missing.
fn put_tag_back(header: &mut libc::tpacket3_hdr, at: usize, block: *mut u8) {
    let mac = usize::from(header.tp_mac);
    let is_missing = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    let end = at.saturating_add(mac + MAC_BYTES);
    if !is_missing
        || (header.tp_snaplen as usize) < MAC_BYTES
        || mac < size_of::<libc::tpacket3_hdr>() + TAG_BYTES
        || end > BLOCK_BYTES
    {
        return;
    }
    let has_tpid = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if has_tpid { header.hv1.tp_vlan_tpid } else { TPID_8021Q };
    let mut tag = [0; TAG_BYTES];
    tag[..2].copy_from_slice(&tpid.to_be_bytes());
    tag[2..].copy_from_slice(&(header.hv1.tp_vlan_tci as u16).to_be_bytes());
    // SAFETY: from four bytes in front of the frame to the end of its addresses the bytes lie in the block, behind the frame's header
    // and its socket address, in room that was reserved; the block is the user's, and nothing borrows the bytes yet.
    let front =
        unsafe { std::slice::from_raw_parts_mut(block.add(at + mac - TAG_BYTES), TAG_BYTES + MAC_BYTES) };
    front.copy_within(TAG_BYTES.., 0);
    front[MAC_BYTES..].copy_from_slice(&tag);
    header.tp_mac -= TAG_BYTES as u16;
    header.tp_snaplen += TAG_BYTES as u32;
    header.tp_len += TAG_BYTES as u32;
    header.tp_status &= !libc::TP_STATUS_VLAN_VALID;
}
