//! The snapshot's entry of a tool: its copies, its queue, its health.

use super::totals::ToolTotals;
use tapline_api::snapshot::{Recent, ToolEntry, ToolHealth};
use tapline_dpdk::clock;

/// Shows what is counted and known of a tool; its alarms, next hop and probes are not filled in.
pub(super) fn entry(totals: &ToolTotals, is_ordered: bool, health: ToolHealth) -> ToolEntry {
    ToolEntry {
        late: is_ordered.then_some(totals.late),
        copies: totals.copies,
        sent_bytes: totals.sent_bytes,
        cut_bytes: totals.cut_bytes,
        refused: totals.refused,
        queue_depth: totals.queue_depth,
        queue_peak: totals.queue_peak,
        latency_ns: totals.latency.latency(clock::tsc_hz()),
        alarms: Vec::new(),
        health,
        next_hop: None,
        icmp_errors: None,
        heartbeat: None,
        echo: None,
        recent: Recent::default(),
    }
}
