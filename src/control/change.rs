//! Commands that come later: they are read after those in force, planned as a whole, and taken up or refused as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::work::{Look, Work};
use crate::broker::{Broker, RETURN_LIMIT};
use crate::plan::diff::{About, about};
use crate::plan::surroundings::System;
use crate::plan::{self, Plan, Surroundings, progress};
use tapline_api::access::Principal;
use tapline_api::event::Event;
use tapline_api::request::Reply;
use tapline_api::words::{ErrorKind, Role};
use tapline_lang::ast::Command;
use tapline_lang::diagnostic::{Diagnostic, Severity};
use tapline_lang::lexer::Variables;
use tapline_lang::{self as lang, Parsed};

/// All commands that are in force, with the texts that they were read from.
#[derive(Clone)]
pub struct Pipeline(Arc<Parsed>);

/// A line that was read.
pub enum Typed {
    Change(Change),
    /// Commands that leave the plan as it is, and the variables behind them.
    Others(Vec<Command>, Variables),
}

/// Commands that were typed, to be planned with those in force.
pub struct Change {
    accepted: Arc<Parsed>,
    typed: Parsed,
}

/// A change that makes a plan.
pub struct Planned {
    pub parsed: Parsed,
    pub plan: Plan,
    /// Warnings of what was typed.
    pub warnings: Reply,
}

impl Pipeline {
    pub fn new(parsed: Parsed) -> Self {
        Self(Arc::new(parsed))
    }

    pub fn parsed(&self) -> &Parsed {
        &self.0
    }

    /// Takes over what `let` has defined in a line that changes no plan.
    pub fn define(&mut self, variables: Variables) {
        Arc::make_mut(&mut self.0).variables = variables;
    }

    /// Reads a line that may say anything: nothing runs yet.
    ///
    /// # Errors
    /// The mistakes in it.
    pub fn read_freely(&self, line: &[u8]) -> Result<Change, Reply> {
        let typed = lang::parse_onto(&self.0, line, &System);
        if typed.diagnostics.has_errors() {
            return Err(refused(&typed, ""));
        }
        Ok(Change { accepted: Arc::clone(&self.0), typed })
    }

    /// Reads a line for a plan that runs.
    ///
    /// # Errors
    /// The mistakes in it, and what cannot be changed while a plan runs.
    pub fn read(&self, line: &[u8], by: &Principal) -> Result<Typed, Reply> {
        let mut change = self.read_freely(line)?;
        if change.typed.role > by.role {
            return Err(forbidden(change.typed.role, by));
        }
        let Parsed { file, diagnostics, sources, variables, .. } = &mut change.typed;
        let is_change = file.commands.iter().any(|command| about(&command.value) != About::Nothing);
        if !is_change {
            let commands = std::mem::take(&mut file.commands).into_iter().map(|command| command.value);
            return Ok(Typed::Others(commands.collect(), variables.clone()));
        }
        for command in &file.commands {
            let words: Vec<&str> = sources.text(command.span).split_whitespace().take(2).collect();
            let words = words.join(" ");
            match about(&command.value) {
                About::Nothing => diagnostics.push(
                    Diagnostic::error(
                        command.span,
                        format!("`{words}` cannot stand in a change of the plan"),
                    )
                    .label("expected rules and filters alone: they are taken up at once")
                    .help("type it on a line of its own"),
                ),
                about if about.is_taken_up() => {}
                _ => diagnostics.push(
                    Diagnostic::error(command.span, format!("`{words}` cannot change a running plan"))
                        .label("a running plan keeps its settings, ports, tools, groups and wires")
                        .help("quit, change the file and run it"),
                ),
            }
        }
        if diagnostics.has_errors() {
            Err(refused(&change.typed, UNCHANGED))
        } else {
            Ok(Typed::Change(change))
        }
    }
}

const UNCHANGED: &str = "the plan stays as it is\n";

impl Change {
    /// The only command, if there is one.
    pub fn alone(&self) -> Option<&Command> {
        match self.typed.file.commands.as_slice() {
            [command] => Some(&command.value),
            _ => None,
        }
    }

    /// Plans what is in force with what was typed.
    ///
    /// # Errors
    /// All mistakes.
    pub fn plan(self, before: Option<&Plan>, progress: &progress::Progress) -> Result<Planned, Reply> {
        let Self { accepted, typed } = self;
        let first_typed = accepted.sources.len();
        let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
        parsed.file.commands.extend(typed.file.commands);
        let plan = plan::plan_after(&mut parsed, &Surroundings::system(), before, progress)
            .map_err(|_| given_up())?;
        // what was there before was warned of before
        parsed.diagnostics.retain(|found| {
            found.severity == Severity::Error || found.span().source.index() >= first_typed
        });
        let Some(plan) = plan else {
            let errors = parsed.diagnostics.errors();
            let errors = format!("{errors} {}; {UNCHANGED}", if errors == 1 { "error" } else { "errors" });
            return Err(refused(&parsed, &errors));
        };
        let warnings = Reply { error: None, ..refused(&parsed, "") };
        parsed.diagnostics = lang::diagnostic::Diagnostics::default();
        plan::compact(&mut parsed);
        Ok(Planned { parsed, plan, warnings })
    }
}

/// Answers with what was found in a text, and `rest` behind it.
fn refused(parsed: &Parsed, rest: &str) -> Reply {
    let diagnostics = parsed.diagnostics.iter().map(|found| found.parts(&parsed.sources)).collect();
    Reply { diagnostics, ..Reply::refused(parsed.diagnostics.render(&parsed.sources) + rest) }
}

pub(super) fn no_thread(error: std::io::Error) -> Reply {
    Reply::failed(format!(
        "error: there is no thread to plan on: {error}; raise the limit of threads (ulimit -u); {UNCHANGED}"
    ))
}

pub(super) fn given_up() -> Reply {
    Reply::error(ErrorKind::Cancelled, format!("the change was given up; {UNCHANGED}"))
}

/// Answers that the thread of a plan panicked.
pub(super) fn not_planned() -> Reply {
    Reply::failed(format!("error: the change could not be planned; {UNCHANGED}"))
}

/// Answers what a plan would change.
fn would_change(changes: &[plan::diff::Change]) -> Reply {
    if changes.is_empty() {
        return Reply::done("nothing would change\n");
    }
    let lines = changes.iter().map(|change| {
        let what =
            if change.what.is_empty() { String::new() } else { format!(": {}", change.what.join(", ")) };
        let kind = match change.kind {
            plan::diff::Kind::Added => "added",
            plan::diff::Kind::Changed => "changed",
            plan::diff::Kind::Recreated => "recreated",
            plan::diff::Kind::Removed => "removed",
        };
        format!("{} {kind}{what}\n", change.subject)
    });
    Reply::done(lines.collect::<String>())
}

/// Answers that a request needs more than the caller's role.
pub(super) fn forbidden(needed: Role, by: &Principal) -> Reply {
    let text = format!("error: this needs the role {needed}, and {by} has {}; {UNCHANGED}", by.role);
    Reply::error(ErrorKind::Forbidden, text)
}

/// A line that was read, and planned where it is a change.
enum Made {
    Planned(Box<Planned>),
    Others(Vec<Command>, Variables),
}

/// A line as it was submitted, by whom.
pub struct Submitted {
    pub line: Vec<u8>,
    pub by: Principal,
    pub is_dry_run: bool,
}

/// A change of a running plan on its way. Where it is dropped, it is given up.
pub struct Planning {
    since: Instant,
    /// It is planned, and not taken up.
    is_dry_run: bool,
    stage: Stage,
}

enum Stage {
    Plans(Work<Result<Made, Reply>>),
    /// The workers have been given the plan, with warnings.
    TakesUp {
        planned: Duration,
        warnings: Reply,
    },
}

/// How far a change is.
pub enum Progress {
    /// It is not done; a line to say so from time to time.
    Waits(Option<String>),
    /// It is in force; the answer with its warnings.
    InForce(Reply),
    /// It was none: commands that leave the plan as it is.
    Others(Vec<Command>),
    /// Nothing has changed.
    Refused(Reply),
}

impl Planning {
    /// Plans a change beside the running plan.
    ///
    /// # Errors
    /// If there is no thread for it, as it is printed.
    pub fn of_change(change: Change, running: Arc<Plan>, is_dry_run: bool) -> Result<Self, Reply> {
        Self::begin(is_dry_run, move |progress| {
            change.plan(Some(&running), progress).map(Box::new).map(Made::Planned)
        })
    }

    /// Reads a line and plans it: for lines that name files, which nobody shall wait for.
    ///
    /// # Errors
    /// As [`of_change`](Self::of_change).
    pub fn of_line(pipeline: &Pipeline, submitted: Submitted, running: Arc<Plan>) -> Result<Self, Reply> {
        let Submitted { line, by, is_dry_run } = submitted;
        let pipeline = pipeline.clone();
        Self::begin(is_dry_run, move |progress| match pipeline.read(&line, &by)? {
            Typed::Change(change) => change.plan(Some(&running), progress).map(Box::new).map(Made::Planned),
            Typed::Others(commands, variables) => Ok(Made::Others(commands, variables)),
        })
    }

    fn begin(
        is_dry_run: bool,
        work: impl FnOnce(&progress::Progress) -> Result<Made, Reply> + Send + 'static,
    ) -> Result<Self, Reply> {
        let work = Work::begin(work).map_err(no_thread)?;
        Ok(Self { since: Instant::now(), is_dry_run, stage: Stage::Plans(work) })
    }

    /// Returns whether nothing has changed yet: it may be given up.
    pub fn is_planned(&self) -> bool {
        matches!(self.stage, Stage::Plans(_))
    }

    /// Gives it up.
    pub fn give_up(self) -> Reply {
        given_up()
    }

    /// Looks how far it is, and gives the workers a plan that is ready.
    pub fn advance(&mut self, broker: &mut Broker, pipeline: &mut Pipeline) -> Progress {
        if let Stage::Plans(work) = &mut self.stage {
            let made = match work.look() {
                Look::Waits(line) => return Progress::Waits(line),
                Look::Done(Ok(Ok(made))) => made,
                Look::Done(Ok(Err(refusal))) => return Progress::Refused(refusal),
                Look::Done(Err(_)) => {
                    return Progress::Refused(not_planned());
                }
            };
            let Planned { parsed, plan, warnings } = match made {
                Made::Planned(planned) if self.is_dry_run => {
                    let changes = plan::diff::diff(broker.plan(), &planned.plan);
                    return Progress::InForce(planned.warnings.and(would_change(&changes)));
                }
                Made::Others(..) if self.is_dry_run => return Progress::Others(Vec::new()),
                Made::Planned(planned) => *planned,
                Made::Others(commands, variables) => {
                    pipeline.define(variables);
                    return Progress::Others(commands);
                }
            };
            match broker.change(Arc::new(plan)) {
                Ok(()) => self.stage = Stage::TakesUp { planned: self.since.elapsed(), warnings },
                Err(error) => {
                    return Progress::Refused(
                        warnings.and(Reply::failed(format!("error: {error}\n{UNCHANGED}"))),
                    );
                }
            }
            *pipeline = Pipeline::new(parsed);
        }
        let Stage::TakesUp { planned, warnings } = &mut self.stage else {
            return Progress::Waits(None);
        };
        let waited = self.since.elapsed() - *planned;
        let late = broker.swapping();
        if late.is_some() && waited < RETURN_LIMIT {
            return Progress::Waits(None);
        }
        if let Some(lcore) = late {
            broker.record(Event::SwapLate { lcore: lcore.0 });
        }
        // to the microsecond
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        let (rules, planned_ms, in_force_ms) = (broker.plan().rules.len(), ms(*planned), ms(waited));
        broker.record(Event::PlanChanged { rules, planned_ms, in_force_ms });
        Progress::InForce(std::mem::replace(warnings, Reply::done("")))
    }
}
