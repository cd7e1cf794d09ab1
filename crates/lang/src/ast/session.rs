//! Commands to a running broker that are none of its plan.

use std::time::Duration;

use super::Name;
use tapline_api::words::Role;

/// A command to a running broker, beside those of its plan.
#[derive(Clone, PartialEq, Debug)]
pub enum SessionCommand {
    Reload(Reload),
    /// Keeps a plan that waits for it; the pending one where no number is said.
    Confirm(Option<u32>),
    /// Goes back to a plan of the history; the one before where no number is said.
    Rollback(Option<u32>),
    /// Writes the commands in force to a file; the one that was loaded where none is said.
    Save(Option<String>),
    /// Opens the file of statistics anew.
    Reopen,
    /// Shows the plans that were in force.
    ShowHistory,
    /// Shows what was changed since a file was loaded.
    ShowDrift,
    /// Shows how the texts of two plans of the history differ.
    ShowDiff {
        old: u32,
        new: u32,
    },
    Token(TokenCommand),
}

/// `token …`.
#[derive(Clone, PartialEq, Debug)]
pub enum TokenCommand {
    Create {
        name: Name,
        role: Role,
        /// May see packets' bytes.
        has_peek: bool,
        /// It is none after this time.
        expire: Option<Duration>,
    },
    List,
    Revoke(Name),
}

/// `reload`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reload {
    /// The file that was loaded, where none is said.
    pub file: Option<String>,
    /// Nothing is changed; it is said what would be.
    pub is_dry_run: bool,
    /// The capture whose packets the dry run compares by both plans.
    pub capture: Option<String>,
    /// Goes back unless it is confirmed within this time.
    pub confirm: Option<Duration>,
    /// Goes back where loss rises.
    pub guard: Option<Guard>,
    /// Ports may be taken down and set up again.
    pub may_interrupt: bool,
}

/// When a plan that waits to be confirmed is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    pub of: Guarded,
    /// So many are borne.
    pub most: u64,
}

/// The counts that a guard may look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarded {
    /// Packets that ports missed, had no mbuf for, or that failed.
    Loss,
    /// Copies that were dropped.
    Drops,
}
