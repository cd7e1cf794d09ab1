//! The subcommands: one file each.

pub mod filter;

/// The command line is wrong: told as it is, with exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
