//! The published state of a broker: all that readers are told without asking the session.
//!
//! The session makes one a second, and one before it answers a change. Readers share it and make no work for the session.

use std::sync::{Arc, Mutex};

use super::history::Version;
use super::tokens::Tokens;
use crate::broker::Counted;
use crate::plan::Plan;

/// The state of a broker at one moment.
pub struct Published {
    /// The broker's name.
    pub broker: Arc<str>,
    /// Numbers the snapshots that were given to anybody.
    pub seq: u64,
    pub counted: Counted,
    pub plan: Arc<Plan>,
    /// The plan's number, hash and text.
    pub version: Arc<Version>,
    pub confirm: Option<Pending>,
    /// The receipt of the last reload, as JSON.
    pub receipt: Option<Arc<str>>,
    /// The end of the last reload, if one was asked for.
    pub reload: Option<Reloaded>,
    /// The records of the audit log; `None` where there is none.
    pub audit: Option<AuditState>,
    pub tokens: Arc<Mutex<Tokens>>,
    /// Packets are received.
    pub is_running: bool,
}

/// A plan that goes back unless it is confirmed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pending {
    pub id: u32,
    /// Seconds since the Unix epoch.
    pub until: f64,
    pub rollback_to: u32,
}

/// The end of a reload.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reloaded {
    pub is_done: bool,
    /// Seconds since the Unix epoch.
    pub time: f64,
}

/// The state of the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditState {
    /// The number of the last record.
    pub seq: u64,
    /// It cannot be written at the moment.
    pub is_stuck: bool,
}
