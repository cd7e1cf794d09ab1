//! What is shown of a wire: what each of its directions took and sent.

use super::totals::{ToolTotals, Totals};
use crate::plan::Plan;
use crate::plan::value::WirePlan;
use tapline_api::snapshot::{WayEntry, WireEntry};
use tapline_dpdk::clock;

/// Shows what is counted of `wire`.
pub(super) fn entry(plan: &Plan, wire: &WirePlan, totals: &Totals) -> WireEntry {
    let [a, b] = wire.ports.map(|port| plan.ports[port.0].name.clone());
    let [a_to_b, b_to_a] = wire.ways.map(|way| way_entry(&totals.tools[way.0]));
    WireEntry { a, b, a_to_b, b_to_a }
}

fn way_entry(totals: &ToolTotals) -> WayEntry {
    WayEntry {
        received: totals.copies.requested,
        forwarded: totals.copies.sent,
        forwarded_bytes: totals.sent_bytes,
        dropped: totals.copies.dropped,
        queue_depth: totals.queue_depth,
        queue_peak: totals.queue_peak,
        latency_ns: totals.latency.latency(clock::tsc_hz()),
    }
}
