//! What is shown of the clock that a port's packets are timed by.

use serde::Serialize;

/// Where the receive times of a port's packets come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClockState {
    /// `nic`, `file`, `kernel` or `poll`.
    pub source: &'static str,
    /// Where the latency of the port's packets begins: `nic` or `kernel`, at such a time; `poll`, at the poll; `ring`, where a work
    /// lcore takes them.
    pub latency_from: &'static str,
    /// How the clock behind it is disciplined.
    pub quality: &'static str,
    /// The counter is not fitted to the system's clock yet, or not any more.
    pub degraded: bool,
    /// Real time at tick 0, of the counter that is fitted: the NIC's, or the time-stamp counter.
    pub offset_ns: Option<i64>,
    pub ns_per_tick: Option<f64>,
    /// How far times may be from the system's.
    pub error_ns: Option<u64>,
    pub readings: u64,
    pub rejected: u64,
    pub steps: u64,
}
