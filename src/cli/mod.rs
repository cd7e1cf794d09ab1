//! One file a subcommand: what its words mean, and what it prints.
//!
//! Nothing here is printed but by [`output`]: the macros of the standard library end the program where their reader is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod change;
pub mod check;
pub mod filter;
pub mod output;
pub mod run;
pub mod version;

use std::path::Path;

use crate::lang::{self, Parsed};
use crate::plan::{self, Plan};

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    Done = 0,
    /// Something failed while it ran.
    Failed = 1,
    /// The command line or the pipeline file is wrong.
    Refused = 2,
}

/// The command line is wrong: told as it is, with exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Splits `NAME=VALUE`.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads and plans a pipeline file; warnings, or all errors, go to standard error.
fn load(path: &Path, sets: &[(String, String)]) -> Option<(Parsed, Plan)> {
    let mut parsed = lang::load(path, sets);
    let plan = plan_of(&mut parsed)?;
    Some((parsed, plan))
}

fn plan_of(parsed: &mut Parsed) -> Option<Plan> {
    let plan = plan::plan(parsed);
    output::tell(parsed.diagnostics.render(&parsed.sources));
    if plan.is_none() {
        let errors = parsed.diagnostics.errors();
        output::tell_line(format_args!("{errors} {}; nothing was started", if errors == 1 { "error" } else { "errors" }));
    }
    plan
}
