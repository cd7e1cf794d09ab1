//! What is shown of a port: its link, what its driver counts, its replay and the tunnels that end at it.

use std::net::IpAddr;
use std::sync::PoisonError;

use serde::Serialize;
use serde::ser::Serializer;

use super::clock::ClockState;
use super::totals::PortTotals;
use crate::plan::Plan;
use tapline_datapath::ids::PortId;
use tapline_datapath::receive::af_packet_cut::Longest;
use tapline_datapath::receive::decap::EndpointReport;
use tapline_datapath::receive::tunnel_match::{Refusal, SequenceCounts};
use tapline_dpdk::port::{DriverStats, Link};

/// What the control thread reads of a port beside our counters.
#[derive(Clone, Debug)]
pub struct PortState {
    pub driver_name: String,
    pub link: Link,
    pub driver: DriverStats,
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    pub terminate: Option<TerminateState>,
    /// Of the kernel interface that the port is.
    pub mtu: Option<u32>,
}

#[derive(Clone, Serialize)]
pub struct PortEntry {
    #[serde(flatten)]
    pub totals: PortTotals,
    /// Where heartbeats of tools return: those that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<u64>,
    /// Where the driver may cut frames without a word: those that it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    pub device: String,
    pub driver_name: String,
    pub link_up: bool,
    pub speed_mbps: Option<u32>,
    /// Of a kernel interface: what frames that it is to send are judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What the driver and the NIC count.
    pub driver: DriverStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminate: Option<TerminateState>,
}

impl PortEntry {
    /// Shows what is known of port `id` of `plan`.
    pub(super) fn new(plan: &Plan, id: PortId, state: PortState, totals: PortTotals) -> Self {
        let port = &plan.ports[id];
        Self {
            totals,
            heartbeats: plan.returns_heartbeats(id).then_some(totals.heartbeats),
            cut: Longest::of(&port.devargs).map(|_| totals.cut),
            device: port.devargs.to_string(),
            driver_name: state.driver_name,
            link_up: state.link.is_up,
            speed_mbps: state.link.speed_mbps,
            mtu: state.mtu,
            driver: state.driver,
            replay: state.replay,
            clock: state.clock,
            terminate: state.terminate,
        }
    }
}

/// How far a replay has come.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayState {
    /// No more packets will come.
    pub ended: bool,
    /// Passes through the file that came to its end.
    pub passes: u64,
    /// Why the file could not be read to its end.
    pub error: Option<String>,
}

/// What became of the frames that a port received in tunnels.
#[derive(Clone, Debug, Serialize)]
pub struct TerminateState {
    /// Frames whose inside became the packet.
    pub terminated: u64,
    /// Of those, packets with the time that the tunnel's header says.
    pub timed: u64,
    /// Frames that rules did not see, by reason.
    pub refused: Refusals,
    pub sessions: Vec<SessionEntry>,
    /// Packets of sessions that were too many to follow.
    pub untracked: u64,
}

/// Frames that were of none of a port's tunnels, by reason.
#[derive(Clone, Copy, Default, Debug)]
pub struct Refusals(pub [u64; Refusal::ALL.len()]);

impl Serialize for Refusals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(Refusal::ALL.iter().map(|&refusal| (refusal.name(), self.0[refusal as usize])))
    }
}

/// A sender's session, by its sequence numbers.
#[derive(Clone, Debug, Serialize)]
pub struct SessionEntry {
    pub tunnel: &'static str,
    pub source: IpAddr,
    /// ERSPAN session or GRE key.
    pub session: u32,
    #[serde(flatten)]
    pub counts: SequenceCounts,
}

impl TerminateState {
    /// Adds up what was counted at a port's receive queues; `None` where no tunnel ends.
    pub fn of(reports: &[EndpointReport]) -> Option<Self> {
        if reports.is_empty() {
            return None;
        }
        let mut sum = Self {
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
                tunnel: key.kind.name(),
                source: key.source,
                session: key.identifier,
                counts: *counts,
            }));
        }
        Some(sum)
    }
}
