//! Hands packets to a socket of the kernel's, where a driver would take them.

use std::io::IoSlice;

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::mbuf::field::{free_all, segment_bytes};
use tapline_kernel::packet::Sender;
use tapline_packet::burst::MAX_BURST;

/// Offers packets to the socket, which takes over the first ones; the number of those. The caller owns a reference to each packet, and
/// forgets those that were taken.
pub(crate) fn send(socket: &mut Sender, mbufs: &[*mut rte_mbuf]) -> u16 {
    let mut taken = 0;
    for burst in mbufs.chunks(MAX_BURST) {
        let mut parts: ArrayVec<IoSlice<'_>, { 4 * MAX_BURST }> = ArrayVec::new();
        let mut longer: Vec<IoSlice<'_>> = Vec::new();
        let mut parts_of: ArrayVec<usize, MAX_BURST> = ArrayVec::new();
        for &mbuf in burst {
            let before = parts.len() + longer.len();
            for bytes in segment_bytes(mbuf) {
                if longer.is_empty() && !parts.is_full() {
                    parts.push(IoSlice::new(bytes));
                } else {
                    // chains of many segments
                    if longer.is_empty() {
                        longer.extend(parts.drain(..));
                    }
                    longer.push(IoSlice::new(bytes));
                }
            }
            parts_of.push(parts.len() + longer.len() - before);
        }
        let parts = if longer.is_empty() { &parts[..] } else { &longer[..] };
        let done = socket.send(parts, &parts_of).frames;
        let mut done_with: ArrayVec<*mut rte_mbuf, MAX_BURST> = burst[..done].iter().copied().collect();
        free_all(&mut done_with);
        taken += done;
        if done < burst.len() {
            break;
        }
    }
    taken as u16
}
