//! The snapshot's entry of a port: its link, its driver's counters, its replay and the tunnels that end at it.

use std::sync::PoisonError;

use super::totals::PortTotals;
use crate::plan::Plan;
use tapline_api::snapshot::{
    ClockState, DriverStats, PortEntry, Recent, Refusals, ReplayState, SessionEntry, TerminateState,
};
use tapline_datapath::ids::PortId;
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::receive::decap::EndpointReport;
use tapline_dpdk::port::Link;

/// The state of a port beside our counters, as the control thread reads it.
#[derive(Clone, Debug)]
pub struct PortState {
    pub driver_name: String,
    pub link: Link,
    /// The device is gone.
    pub is_gone: bool,
    /// The reason why it has no device, where it has none.
    pub closed: Option<String>,
    pub driver: DriverStats,
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    pub terminate: Option<TerminateState>,
    /// The MTU of the kernel interface that the port is.
    pub mtu: Option<u32>,
}

/// Shows what is known of port `id` of `plan`.
pub(super) fn entry(plan: &Plan, id: PortId, state: PortState, totals: PortTotals) -> PortEntry {
    let port = &plan.ports[id];
    PortEntry {
        received: totals.received,
        received_bytes: totals.received_bytes,
        congested: totals.congested,
        unparsed: totals.unparsed,
        heartbeats: plan.returns_heartbeats(id).then_some(totals.heartbeats),
        cut: Longest::of(&port.devargs).map(|_| totals.cut),
        device: port.devargs.to_string(),
        driver_name: state.driver_name,
        stopped: port.is_stopped,
        closed: state.closed,
        link_up: state.link.is_up,
        gone: state.is_gone,
        speed_mbps: state.link.speed_mbps,
        mtu: state.mtu,
        driver: state.driver,
        replay: state.replay,
        clock: state.clock,
        terminate: state.terminate,
        answers: None,
        alarms: Vec::new(),
        recent: Recent::default(),
    }
}

/// Adds up what was counted at a port's receive queues; `None` where no tunnel ends.
pub fn terminate_of(reports: &[EndpointReport]) -> Option<TerminateState> {
    if reports.is_empty() {
        return None;
    }
    let mut sum = TerminateState {
        terminated: 0,
        timed: 0,
        refused: Refusals::default(),
        sessions: Vec::new(),
        untracked: 0,
    };
    for report in reports {
        let counts = report.lock().unwrap_or_else(PoisonError::into_inner);
        sum.terminated += counts.terminated;
        sum.timed += counts.timed;
        sum.untracked += counts.untracked;
        sum.refused.0.iter_mut().zip(counts.refused).for_each(|(sum, count)| *sum += count);
        sum.sessions.extend(counts.sessions.iter().map(|(key, counts)| SessionEntry {
            tunnel: key.kind,
            source: key.source,
            session: key.identifier,
            counts: *counts,
        }));
    }
    Some(sum)
}
