//! What is shown of a wire: what each of its directions took and sent.

use serde::Serialize;

use super::totals::{ToolTotals, Totals};
use crate::plan::Plan;
use crate::report::ledger::Dropped;
use tapline_datapath::counters::latency::Latency;
use tapline_datapath::egresses::Side;
use tapline_datapath::ids::WireId;
use tapline_dpdk::clock;

/// A wire in a snapshot.
#[derive(Clone, Serialize)]
pub struct WireEntry {
    pub a: String,
    pub b: String,
    pub a_to_b: WayEntry,
    pub b_to_a: WayEntry,
}

impl WireEntry {
    /// Shows what is counted of wire `id`.
    pub(super) fn new(plan: &Plan, id: WireId, totals: &Totals) -> Self {
        let [a, b] = plan.wires[id].ports.map(|port| plan.ports[port].name.clone());
        let way = |from| WayEntry::of(&totals.egresses[plan.egresses().of_wire(id, from)]);
        let [a_to_b, b_to_a] = Side::ALL.map(way);
        Self { a, b, a_to_b, b_to_a }
    }
}

/// One direction of a wire: `received = forwarded + dropped`.
#[derive(Clone, Serialize)]
pub struct WayEntry {
    pub received: u64,
    pub forwarded: u64,
    pub forwarded_bytes: u64,
    pub dropped: Dropped,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
}

impl WayEntry {
    fn of(totals: &ToolTotals) -> Self {
        Self {
            received: totals.copies.requested,
            forwarded: totals.copies.sent,
            forwarded_bytes: totals.sent_bytes,
            dropped: totals.copies.dropped,
            queue_depth: totals.queue_depth,
            queue_peak: totals.queue_peak,
            latency_ns: totals.latency.latency(clock::tsc_hz()),
        }
    }
}
