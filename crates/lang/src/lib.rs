//! The pipeline language: text -> typed commands, with a place for everything and every mistake reported at once.
//!
//! `load` reads a file and what it includes, `parse_text` a text, `parse_onto` what was typed after them. None of them looks a name up:
//! that is the planner's work, which adds to the same `Diagnostics`. None opens a file itself: their caller gives them `Files`.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Holds the contents of a pipeline file, typed.
pub mod ast;
/// Mistakes and warnings, and how they are shown.
pub mod diagnostic;
/// The files that a pipeline names.
pub mod files;
/// Text -> lines of words.
pub mod lexer;
/// Lines of words -> commands.
mod parser;
/// Commands -> text.
mod print;
/// Texts, and places in them.
pub mod source;
/// Names that are nearly right.
pub mod suggest;
/// Words -> values: numbers, durations, addresses.
mod value;

use std::path::{Path, PathBuf};

use ast::PipelineFile;
use ast::session::SessionCommand;
use diagnostic::Diagnostics;
use files::Files;
use lexer::Variables;
pub use parser::{CommandHelp, Names, Wanted, commands, completions, role_of};
pub use print::text;
use source::{Sources, Spanned};
use tapline_api::words::Role;

/// The result of reading: the commands, the texts that they came from and the mistakes in them.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub sources: Sources,
    pub file: PipelineFile,
    pub diagnostics: Diagnostics,
    /// The variables that `let` and `--set` had defined at the end, for commands that are typed later.
    pub variables: Variables,
    /// Files that the command line has written, by flag.
    pub outputs: Vec<(&'static str, PathBuf)>,
    /// The role that all commands together need.
    pub role: Role,
    /// Commands to a running broker.
    pub session: Vec<Spanned<SessionCommand>>,
}

/// Reads the pipeline file at `path` of `files`, and all that it includes. `sets` are the `--set NAME=VALUE` of the command line, which
/// win over `let`. A file that cannot be read is a diagnostic like any other.
pub fn load(path: &Path, sets: &[(String, String)], files: &dyn Files) -> Parsed {
    parser::load(path, Variables::from_sets(sets), files, parser::Opened::Any)
}

/// As [`load`], for a file that is loaded while a broker runs: a pipe is refused, and not waited for.
pub fn load_regular(path: &Path, sets: &[(String, String)], files: &dyn Files) -> Parsed {
    parser::load(path, Variables::from_sets(sets), files, parser::Opened::Regular)
}

/// Reads `text` as the pipeline file `name`, which includes no other.
pub fn parse_text(name: &str, text: &str, sets: &[(String, String)]) -> Parsed {
    parser::text(name, text, Variables::from_sets(sets), parser::Unused::Warned)
}

/// Reads what was typed after `accepted`, whose variables and texts it shares: the typed commands alone, and the mistakes in them, bytes that
/// are no text among them. What it includes is of `files`.
pub fn parse_onto(accepted: &Parsed, text: &[u8], files: &dyn Files) -> Parsed {
    parser::onto(accepted, text, files)
}

/// Reads a command that includes no file.
pub fn parse_command(text: &str) -> Parsed {
    parse_command_with(text, Variables::default())
}

/// Reads a command that may use `variables`, and includes no file; the variables and what it defines are returned in
/// `Parsed::variables`.
pub fn parse_command_with(text: &str, variables: Variables) -> Parsed {
    parser::text("command", text, variables, parser::Unused::Ignored)
}

/// Reads a duration with its unit, such as `500ms`, for flags of the command line.
///
/// # Errors
/// Fails with what was expected.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    value::duration(text).map_err(|misread| format!("expected {}", misread.expected))
}
