//! What becomes of copies on their way to a tool, in the tool's counters.

use super::admission::Class;
use crate::counters::{DropReason, EgressCounters};
use tapline_dpdk::clock;
use tapline_dpdk::queue::Moved;

#[inline(always)]
pub(super) fn count_sent(tool: &EgressCounters, sent: Moved) {
    tool.sent.add(sent.packets as u64);
    tool.sent_bytes.add(sent.bytes);
}

/// A timed packet goes.
#[cold]
pub(super) fn note_latency(tool: &EgressCounters, polled: u64) {
    tool.latency.record(clock::tsc().wrapping_sub(polled));
}

#[inline(always)]
pub(super) fn count_lost(tool: &EgressCounters, lost: u64) {
    if lost > 0 {
        tool.refuse(Class::Normal, DropReason::Congested, lost);
    }
}
