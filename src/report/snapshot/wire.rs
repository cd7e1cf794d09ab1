//! The snapshot's entry of a wire: what each of its directions took and sent.

use super::totals::{ToolTotals, Totals};
use crate::plan::Plan;
use tapline_api::snapshot::{Recent, WayEntry, WireEntry};
use tapline_datapath::egresses::Side;
use tapline_datapath::ids::WireId;
use tapline_dpdk::clock;

/// Shows what is counted of wire `id`.
pub(super) fn entry(plan: &Plan, id: WireId, totals: &Totals) -> WireEntry {
    let [a, b] = plan.wires[id].ports.map(|port| plan.ports[port].name.clone());
    let way = |from| way_entry(&totals.egresses[plan.egresses().of_wire(id, from)]);
    let [a_to_b, b_to_a] = Side::ALL.map(way);
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
        recent: Recent::default(),
    }
}
