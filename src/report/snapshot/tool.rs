//! What is shown of a tool: its copies, its queue, its health, its next hop and its probes.

use serde::Serialize;

use super::totals::{Refused, ToolTotals};
use crate::report::ledger::Copies;
use tapline_datapath::counters::latency::Latency;
use tapline_dpdk::clock;

/// A tool in a snapshot.
#[derive(Clone, Serialize)]
pub struct ToolEntry {
    #[serde(flatten)]
    pub copies: Copies,
    pub sent_bytes: u64,
    /// Bytes that copies lost to the MTU of the tool's path (`oversize slice`).
    pub cut_bytes: u64,
    /// Of the dropped copies, those that the queue refused, by class.
    pub refused: Refused,
    /// Where the tool has `order`: copies that came behind later ones, beyond the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
    /// The alarms that are raised: `queue`, `utilisation`.
    pub alarms: Vec<&'static str>,
    #[serde(flatten)]
    pub health: ToolHealth,
    /// Of a tunnel that asks for its next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopEntry>,
    /// Where the tool has `heartbeat`, or `echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<ProbeEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<ProbeEntry>,
}

impl ToolEntry {
    /// Shows what is counted and known of a tool; its alarms, next hop and probes are not filled in.
    pub(super) fn of(totals: &ToolTotals, is_ordered: bool, health: ToolHealth) -> Self {
        Self {
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
            heartbeat: None,
            echo: None,
        }
    }
}

/// Whether a tool gets copies.
#[derive(Clone, Copy, Serialize)]
pub struct ToolHealth {
    pub state: &'static str,
    /// Of the last change of state.
    pub reason: Option<&'static str>,
    /// Seconds since the Unix epoch.
    pub since: f64,
}

/// What became of a tool's probes: `sent = returned + lost + waiting`.
#[derive(Clone, Copy, Serialize)]
pub struct ProbeEntry {
    pub sent: u64,
    /// In time.
    pub returned: u64,
    pub lost: u64,
    pub waiting: u64,
    /// Answers to what was answered, or lost, before.
    pub late: u64,
}

/// Whom a tunnel's frames are addressed to.
#[derive(Clone, Serialize)]
pub struct NextHopEntry {
    pub address: String,
    /// Null until it answered.
    pub mac: Option<String>,
    /// `resolving`, `up`, `down`.
    pub state: &'static str,
    /// ARP requests and neighbour solicitations sent.
    pub requests: u64,
    /// How often it stopped answering.
    pub losses: u64,
}
