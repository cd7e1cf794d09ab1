//! Fields of mbufs, and what is asked of raw pointers to them: every pointer is one of a reference that the caller owns.

use dpdk_sys::rte_mbuf;

use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// The place at which drivers put receive times: an mbuf's dynamic field and its flag.
#[derive(Clone, Copy, Debug)]
pub struct RxStamp {
    pub(super) offset: u32,
    pub(super) flag: u64,
}

impl RxStamp {
    /// Asks DPDK for the place, which is the same for all ports.
    ///
    /// # Errors
    /// If mbufs have no room left.
    pub fn register(_eal: &crate::Eal) -> Result<Self, crate::Error> {
        let (mut offset, mut flag) = (0, 0);
        // SAFETY: both are written during the call only.
        let result = crate::error::or_fault("start.stamps", || unsafe {
            dpdk_sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag)
        });
        crate::error::check("mbufs", "rte_mbuf_dyn_rx_timestamp_register", result)?;
        Ok(Self { offset: offset.unsigned_abs(), flag })
    }
}

/// A pointer to a field of an mbuf.
///
/// # Safety
/// `mbuf` points to an mbuf, and a `T` lies at `offset`.
#[inline(always)]
pub(super) unsafe fn field<T>(mbuf: *mut rte_mbuf, offset: u32) -> *mut T {
    // SAFETY: the caller vouches that the offset lies inside the mbuf.
    unsafe { mbuf.byte_add(offset as usize).cast::<T>() }
}

#[inline(always)]
pub(crate) fn packet_len(mbuf: *mut rte_mbuf) -> u32 {
    // SAFETY: callers pass mbufs that a burst or queue owns; the offset is that of `pkt_len` (shim.h).
    unsafe { field::<u32>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_PKT_LEN).read() }
}

#[inline(always)]
pub(super) fn segments(mbuf: *mut rte_mbuf) -> u16 {
    // SAFETY: as above, of `nb_segs`.
    unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_NB_SEGS).read() }
}

/// The first byte of the first segment.
#[inline(always)]
pub(super) fn data(mbuf: *mut rte_mbuf) -> *const u8 {
    // SAFETY: callers pass mbufs that a burst or queue owns; the offset is that of `buf_addr` (shim.h).
    let start = unsafe { field::<*const u8>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_BUF_ADDR).read() };
    // SAFETY: as above, of `data_off`.
    let offset = unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_OFF).read() };
    start.wrapping_add(usize::from(offset))
}

/// Copies the bytes of all segments to `to`.
pub(super) fn join(mbuf: *mut rte_mbuf, to: &mut [u8]) -> &[u8] {
    // SAFETY: callers pass mbufs that a burst, packet or queue owns; the shim writes at most `to.len()` bytes.
    let copied = unsafe { dpdk_sys::tl_linearise(mbuf, to.as_mut_ptr(), to.len() as u32) } as usize;
    &to[..copied]
}

/// Views a packet of one segment.
#[inline(always)]
pub(super) fn frame<'a>(mbuf: *mut rte_mbuf) -> Frame<'a> {
    // SAFETY: callers pass mbufs that a burst owns for as long as the frame's borrow; the offset is that of `data_len` (shim.h).
    let len = unsafe { field::<u16>(mbuf, dpdk_sys::tl_mbuf_offset_TL_MBUF_DATA_LEN).read() };
    // SAFETY: `data_len` bytes from the data pointer on belong to the packet (rte_mbuf), and nobody writes to them while it is
    // owned.
    let bytes = unsafe { std::slice::from_raw_parts(data(mbuf), usize::from(len)) };
    Frame::whole(bytes)
}

/// The bytes of each segment of a packet, in their order.
pub(crate) fn segment_bytes<'a>(mbuf: *mut rte_mbuf) -> impl Iterator<Item = &'a [u8]> {
    let mut next = mbuf;
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        let bytes = frame(next).bytes();
        // SAFETY: a segment that is not null is one of a packet that the caller owns; the offset is that of `next` (shim.h).
        next = unsafe { field::<*mut rte_mbuf>(next, dpdk_sys::tl_mbuf_offset_TL_MBUF_NEXT).read() };
        Some(bytes)
    })
}

/// The first two bytes behind the MAC addresses.
#[inline]
pub(super) fn ethertype(mbuf: *mut rte_mbuf) -> Option<u16> {
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
pub(crate) fn prefetch_mbuf(mbuf: *mut rte_mbuf) {
    prefetch_line(mbuf.cast());
    prefetch_line(mbuf.cast::<u8>().wrapping_add(64));
}

#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
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
pub(super) unsafe fn rss_of(mbuf: *mut rte_mbuf) -> Option<u32> {
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
pub(crate) fn bytes_of(mbufs: &[*mut rte_mbuf]) -> u64 {
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
pub(super) fn bytes_of_all(mbufs: &[*mut rte_mbuf]) -> u64 {
    mbufs.chunks(MAX_BURST).map(bytes_of).sum()
}

/// Frees one reference to each mbuf.
pub(crate) fn free_all(mbufs: &mut [*mut rte_mbuf]) {
    if !mbufs.is_empty() {
        // SAFETY: callers own one reference to each and forget it.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), mbufs.len() as u32) };
    }
}

/// Frees one reference to each selected mbuf.
#[inline(always)]
pub(super) fn free_selected(mbufs: &[*mut rte_mbuf; MAX_BURST], selection: Selection) {
    if !selection.is_empty() {
        // SAFETY: callers own one reference to each selected mbuf and forget it; there is a pointer for each bit.
        unsafe { dpdk_sys::tl_free_selected(mbufs.as_ptr(), selection.bits()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
