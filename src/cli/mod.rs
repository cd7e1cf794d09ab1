//! One file a subcommand: what its words mean, and what it prints.
//!
//! Nothing here is printed but by `output`: the macros of the standard library end the program where their reader is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

/// `tapline audit`.
pub mod audit;
/// `tapline check`.
pub mod check;
/// `tapline ctl`.
pub mod ctl;
/// `tapline diff`.
pub mod diff;
/// Lines that are typed at a terminal.
mod editor;
/// `tapline explain`.
pub mod explain;
/// `tapline filter`.
pub mod filter;
/// `tapline graph`.
pub mod graph;
/// The line at the foot of a terminal.
mod live;
/// Writes what a command says.
pub mod output;
/// The prompt of `tapline run -i`.
mod prompt;
/// `tapline run`.
pub mod run;
/// Tells the service manager how a run is.
mod service;
/// The prompt of `tapline ctl`.
mod shell;
/// SIGINT, SIGTERM and SIGHUP.
pub mod signals;
/// `tapline run --stats`.
pub mod stats_out;
/// `tapline version`.
pub mod version;

use std::path::PathBuf;
use std::sync::Arc;

use self::signals::Signals;
use crate::broker::start::placement::{Culprit, Misplaced, place};
use crate::control::history::Version;
use crate::control::work::Work;
use crate::plan::{self, Plan, Run, Surroundings};
pub use tapline_api::request::Status;
use tapline_lang::ast::Command;
use tapline_lang::ast::port::PortOption;
use tapline_lang::ast::set::Setting;
use tapline_lang::diagnostic::{Diagnostic, Diagnostics};
use tapline_lang::source::{Span, Spanned};
use tapline_lang::{self as lang, Parsed};

/// The command line is wrong: told as it is, with exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

// Not a doc comment: clap would say it of each command that has these arguments.
// What `check` and `run` read.
#[derive(clap::Args, Debug)]
pub struct SourceArgs {
    /// Pipeline file
    file: PathBuf,
    /// Define what ${NAME} expands to; wins over `let` in the file
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    sets: Vec<(String, String)>,
}

/// Splits `NAME=VALUE`.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads and plans a pipeline file; warnings, or all errors, go to standard error. `outputs` are files that flags have written. `waits` is
/// called again and again meanwhile. A signal gives it up.
fn load(
    source: &SourceArgs,
    outputs: Vec<(&'static str, PathBuf)>,
    signals: &Signals,
    waits: impl FnMut(),
) -> Result<(Parsed, Plan), Status> {
    let (path, sets) = (source.file.clone(), source.sets.clone());
    let read = move |surroundings: &Surroundings| lang::load(&path, &sets, &*surroundings.files);
    plan_of(read, outputs, signals, waits, Surroundings::system)
}

/// As [`load`], in these surroundings, for a command that writes nothing by flags.
fn load_in(
    source: &SourceArgs,
    signals: &Signals,
    surroundings: fn() -> Surroundings,
) -> Result<(Parsed, Plan), Status> {
    let (path, sets) = (source.file.clone(), source.sets.clone());
    let read = move |surroundings: &Surroundings| lang::load(&path, &sets, &*surroundings.files);
    plan_of(read, Vec::new(), signals, || (), surroundings)
}

/// As [`load_in`], of a text that is called `name`.
fn load_text_in(
    name: &str,
    text: String,
    signals: &Signals,
    surroundings: fn() -> Surroundings,
) -> Result<(Parsed, Plan), Status> {
    let name = name.to_owned();
    let read = move |_: &Surroundings| lang::parse_text(&name, &text, &[]);
    plan_of(read, Vec::new(), signals, || (), surroundings)
}

/// Plans a text of the history as [`load`] plans a file.
fn load_text(
    version: &Arc<Version>,
    outputs: Vec<(&'static str, PathBuf)>,
    signals: &Signals,
    waits: impl FnMut(),
) -> Result<(Parsed, Plan), Status> {
    let version = Arc::clone(version);
    let name = format!("plan {}", version.id);
    let read = move |_: &Surroundings| lang::parse_text(&name, &version.text, &[]);
    plan_of(read, outputs, signals, waits, Surroundings::system)
}

fn plan_of(
    read: impl FnOnce(&Surroundings) -> Parsed + Send + 'static,
    outputs: Vec<(&'static str, PathBuf)>,
    signals: &Signals,
    mut waits: impl FnMut(),
    surroundings: fn() -> Surroundings,
) -> Result<(Parsed, Plan), Status> {
    let work = Work::begin(move |progress| {
        let surroundings = surroundings();
        let mut parsed = Parsed { outputs, ..read(&surroundings) };
        let plan = plan::plan_after(&mut parsed, &surroundings, None, progress);
        (parsed, plan)
    });
    let work = work.map_err(|error| {
        output::tell_line(format_args!(
            "error: there is no thread to plan on: {error}; raise the limit of threads (ulimit -u)"
        ));
        Status::Failed
    })?;
    let is_given_up = || {
        signals.alive();
        waits();
        signals.is_ended()
    };
    let Some((parsed, Ok(plan))) = work.wait(is_given_up, output::tell_line) else {
        output::tell_line("error: planning was given up for a signal; nothing was started");
        return Err(Status::Failed);
    };
    output::tell(parsed.diagnostics.render(&parsed.sources));
    let Some(plan) = plan else {
        let errors = parsed.diagnostics.errors();
        output::tell_line(format_args!(
            "{errors} {}; nothing was started",
            if errors == 1 { "error" } else { "errors" }
        ));
        return Err(Status::Refused);
    };
    Ok((parsed, plan))
}

/// Returns whether this machine has the CPUs that a plan asks for, and the plan the lcores that its ports ask for. Tells what is
/// missing as a mistake at its place in the file.
fn has_place(parsed: &Parsed, run: Run<'_>) -> bool {
    let plan = run.plan;
    let Err(misplaced) = place(run) else { return true };
    match place_of(&misplaced, parsed, plan) {
        Some(span) => {
            let mut diagnostics = Diagnostics::default();
            diagnostics.push(Diagnostic::error(span, misplaced.message).label(misplaced.expected));
            output::tell(diagnostics.render(&parsed.sources));
            output::tell_line("1 error; nothing was started");
        }
        None => output::tell_line(format_args!("error: {misplaced}")),
    }
    false
}

/// Gives the place at which the file asks for what is not there. The last of several words counts.
fn place_of(misplaced: &Misplaced, parsed: &Parsed, plan: &Plan) -> Option<Span> {
    let lcores_of = |options: &[Spanned<PortOption>]| {
        options
            .iter()
            .rfind(|option| matches!(option.value, PortOption::Lcores(_)))
            .map(|option| option.span)
    };
    parsed.file.commands.iter().rev().find_map(|command| match (&command.value, misplaced.culprit) {
        (Command::Set(Setting::Lcores(lcores)), Culprit::Lcores) => Some(lcores.span),
        (Command::Set(Setting::Workers(workers)), Culprit::Workers) => Some(workers.span),
        (
            Command::PortAttach { name, options, .. } | Command::PortConfig { name, options },
            Culprit::Port(port),
        ) if name.value == plan.ports[port].name => lcores_of(options),
        _ => None,
    })
}
