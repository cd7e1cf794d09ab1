//! Alarms: each is raised once when something is wrong, and cleared once when it is over.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::starved;
use crate::values::Span;
use crate::words::DropReason;

/// The subject of an alarm.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "snake_case")]
pub enum Alarm {
    /// A tool's queue is fuller than its alarm allows.
    Queue { tool: String, percent: u32, hold_s: f64 },
    /// A tool's rate, or its link, is used more than its alarm allows.
    Utilisation { tool: String, percent: u32, hold_s: f64 },
    /// A replay finds no mbuf for its next packet.
    ReplayStarved { port: String, packets: u64, mbufs: u32 },
    /// A replay's file could not be read further.
    ReplayFailed { port: String, path: String, error: String },
    /// A capture tool's file could not be written.
    CaptureFailed { tool: String, path: String, error: String },
    /// A capture tool's file took nothing for longer than replays wait.
    CaptureStalled { tool: String, after_ns: u64 },
    /// A file that net_pcap writes lacks packets, or is gone.
    OutputFailed { port: String, path: String, error: String },
    /// A port's device is gone; the run waits for it where it `waits`.
    PortGone { port: String, device: String, waits: bool },
    /// Two neighbours answer for the address of a tunnel's next hop; copies go to `mac`, as before.
    Conflict { next_hop: IpAddr, mac: String, other: String, tools: Vec<String> },
    /// A worker that panicked too often receives no more.
    WorkerRetired { lcore: u32, panics: usize, seconds: u64 },
    /// A port loses packets before they are received: `lost` of `of` within `seconds`, most of them as the driver's counter `mostly` has
    /// it. It is over after `quiet_s` without.
    Loss { port: String, lost: u64, of: u64, mostly: String, seconds: f64, quiet_s: u64, remedy: String },
    /// A tool drops copies: `dropped` of `of` that ended within `seconds`, most of them as `mostly`.
    Drops { tool: String, dropped: u64, of: u64, mostly: DropReason, seconds: f64, quiet_s: u64 },
    /// More packets or copies are missing in the account than can be on their way.
    Unbalanced { packets: u64, most_packets: u64, copies: u64, most_copies: u64 },
}

impl Alarm {
    /// Returns the word for the alarm.
    pub const fn word(&self) -> &'static str {
        match self {
            Alarm::Queue { .. } => "queue",
            Alarm::Utilisation { .. } => "utilisation",
            Alarm::ReplayStarved { .. } => "replay_starved",
            Alarm::ReplayFailed { .. } => "replay_failed",
            Alarm::CaptureFailed { .. } => "capture_failed",
            Alarm::CaptureStalled { .. } => "capture_stalled",
            Alarm::OutputFailed { .. } => "output_failed",
            Alarm::PortGone { .. } => "port_gone",
            Alarm::Conflict { .. } => "conflict",
            Alarm::WorkerRetired { .. } => "worker_retired",
            Alarm::Loss { .. } => "loss",
            Alarm::Drops { .. } => "drops",
            Alarm::Unbalanced { .. } => "unbalanced",
        }
    }

    /// Returns whether a run that had the alarm has failed.
    pub const fn is_failure(&self) -> bool {
        match self {
            Alarm::Queue { .. }
            | Alarm::Utilisation { .. }
            | Alarm::ReplayStarved { .. }
            | Alarm::Loss { .. }
            | Alarm::Drops { .. }
            // the account at the end decides
            | Alarm::Unbalanced { .. }
            | Alarm::PortGone { .. }
            | Alarm::Conflict { .. } => false,
            Alarm::ReplayFailed { .. }
            | Alarm::CaptureFailed { .. }
            | Alarm::CaptureStalled { .. }
            | Alarm::OutputFailed { .. }
            | Alarm::WorkerRetired { .. } => true,
        }
    }

    /// Returns what the alarm is about, such as `tool ids-a`.
    pub(super) fn object(&self) -> String {
        match self {
            Alarm::Queue { tool, .. }
            | Alarm::Utilisation { tool, .. }
            | Alarm::CaptureFailed { tool, .. }
            | Alarm::Drops { tool, .. }
            | Alarm::CaptureStalled { tool, .. } => format!("tool {tool}"),
            Alarm::ReplayStarved { port, .. }
            | Alarm::ReplayFailed { port, .. }
            | Alarm::OutputFailed { port, .. }
            | Alarm::Loss { port, .. }
            | Alarm::PortGone { port, .. } => format!("port {port}"),
            Alarm::Conflict { next_hop, .. } => format!("next hop {next_hop}"),
            Alarm::WorkerRetired { lcore, .. } => format!("lcore {lcore}"),
            Alarm::Unbalanced { .. } => "broker".to_owned(),
        }
    }

    /// Writes what is the case while the alarm is raised, or once it is cleared.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, is_raised: bool) -> fmt::Result {
        let side = if is_raised { "above" } else { "not above" };
        match self {
            Alarm::Queue { tool, percent, hold_s } | Alarm::Utilisation { tool, percent, hold_s } => {
                write!(f, "tool {tool}: {} {side} {percent}% for {hold_s} s", self.word())
            }
            Alarm::ReplayStarved { port, packets, mbufs } => starved(f, port, *packets, *mbufs),
            Alarm::ReplayFailed { port, path, error } | Alarm::OutputFailed { port, path, error } => {
                write!(f, "port {port}: {path}: {error}")
            }
            Alarm::CaptureFailed { tool, path, error } => write!(f, "tool {tool}: {path}: {error}"),
            Alarm::CaptureStalled { tool, after_ns } => write!(
                f,
                "tool {tool}: its file took nothing for {}, so no replay waits for it any more; what it lacks is counted as `down`; \
                 say a longer `down-after`",
                Span(*after_ns)
            ),
            Alarm::PortGone { port, device, .. } if !is_raised => {
                write!(f, "port {port}: {device} is attached again")
            }
            Alarm::PortGone { port, device, waits: true } => {
                write!(f, "port {port}: {device} is gone; it is attached again once it is back")
            }
            Alarm::PortGone { port, device, waits: false } => {
                write!(f, "port {port}: {device} is gone, and is not attached again")
            }
            Alarm::Conflict { next_hop, mac, other, .. } if is_raised => write!(
                f,
                "next hop {next_hop}: {mac} and {other} both answer for it; copies go to {mac}: find out which is right, or say \
                 `next-hop MAC`"
            ),
            Alarm::Conflict { next_hop, mac, other, .. } => {
                write!(f, "next hop {next_hop}: {mac} and {other} do not both answer for it any more")
            }
            Alarm::WorkerRetired { lcore, panics, seconds } => write!(
                f,
                "lcore {lcore}: more than {panics} panics in {seconds} s: the worker receives no more; what its ports get is missed"
            ),
            Alarm::Loss { .. } | Alarm::Drops { .. } | Alarm::Unbalanced { .. } => {
                self.write_account(f, is_raised)
            }
        }
    }

    /// Writes an alarm of what is lost, or missing.
    fn write_account(&self, f: &mut fmt::Formatter<'_>, is_raised: bool) -> fmt::Result {
        match self {
            Alarm::Loss { port, lost, of, mostly, seconds, remedy, .. } if is_raised => write!(
                f,
                "port {port}: {lost} of {of} packets were lost before they were received, within {seconds} s ({:.1} %), most as {mostly}: \
                 {remedy}",
                percent(*lost, *of)
            ),
            Alarm::Loss { port, lost, of, quiet_s, .. } => {
                write!(
                    f,
                    "port {port}: nothing was lost for {quiet_s} s; before, {lost} of {of} packets were"
                )
            }
            Alarm::Drops { tool, dropped, of, mostly, seconds, .. } if is_raised => write!(
                f,
                "tool {tool}: {dropped} of {of} copies were dropped within {seconds} s ({:.1} %), most as {mostly}",
                percent(*dropped, *of)
            ),
            Alarm::Drops { tool, dropped, of, quiet_s, .. } => {
                write!(
                    f,
                    "tool {tool}: no copy was dropped for {quiet_s} s; before, {dropped} of {of} were"
                )
            }
            Alarm::Unbalanced { packets, most_packets, copies, most_copies } if is_raised => write!(
                f,
                "the account does not balance: {packets} packets and {copies} copies have no end, and at most {most_packets} and \
                 {most_copies} can be on their way; please report this"
            ),
            Alarm::Unbalanced { .. } => f.write_str("the account balances again"),
            // all others were written above
            _ => Ok(()),
        }
    }
}

/// Writes what is the case while the alarm is raised.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}

/// Returns a part in percent.
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
