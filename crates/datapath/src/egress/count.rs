//! Counts what becomes of copies on their way to a tool.

use crate::counters::EgressCounters;
use tapline_api::words::{Class, DropReason};
use tapline_dpdk::clock;
use tapline_dpdk::queue::{Moved, TxQueue};

#[inline(always)]
pub(super) fn count_sent(counted: &EgressCounters, sent: Moved) {
    counted.sent.add(sent.packets as u64);
    counted.sent_bytes.add(sent.bytes);
}

/// Gives what a queue sent, less the bytes that its driver cut off. Counts those.
#[inline(always)]
pub(super) fn less_cut(sent: Moved, txq: &mut TxQueue, counted: &EgressCounters) -> Moved {
    let cut_bytes = txq.take_cut_bytes();
    if cut_bytes == 0 {
        return sent;
    }
    counted.cut_bytes.add(cut_bytes);
    Moved { bytes: sent.bytes.saturating_sub(cut_bytes), ..sent }
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
