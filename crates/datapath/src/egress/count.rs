//! What becomes of copies on their way to a tool, in the tool's counters.

use crate::counters::EgressCounters;
use tapline_api::words::{Class, DropReason};
use tapline_dpdk::clock;
use tapline_dpdk::queue::Moved;

#[inline(always)]
pub(super) fn count_sent(counted: &EgressCounters, sent: Moved) {
    counted.sent.add(sent.packets as u64);
    counted.sent_bytes.add(sent.bytes);
}

/// A timed packet goes.
#[cold]
pub(super) fn note_latency(counted: &EgressCounters, polled: u64) {
    counted.latency.record(clock::tsc().wrapping_sub(polled));
}

#[inline(always)]
pub(super) fn count_lost(counted: &EgressCounters, lost: u64) {
    if lost > 0 {
        counted.refuse(Class::Normal, DropReason::Congested, lost);
    }
}
