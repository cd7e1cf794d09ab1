//! Changes at the prompt: typed lines are read after the file's commands, planned as a whole, and taken up or refused as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::output::tell;
use super::patience::Work;
use crate::broker::{Broker, RETURN_LIMIT};
use crate::plan::{self, Plan, progress};
use tapline_api::event::Event;
use tapline_lang::ast::Command;
use tapline_lang::diagnostic::{Diagnostic, Severity};
use tapline_lang::{self as lang, Parsed};

/// All commands that are in force, with the texts that they were read from.
pub struct Pipeline(Arc<Parsed>);

/// What a line asks for.
pub enum Typed {
    Change(Change),
    /// Commands that leave the plan as it is.
    Others(Vec<Command>),
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
}

impl Pipeline {
    pub fn new(parsed: Parsed) -> Self {
        Self(Arc::new(parsed))
    }

    pub fn parsed(&self) -> &Parsed {
        &self.0
    }

    /// Reads a line that may say anything: nothing runs yet.
    ///
    /// # Errors
    /// The mistakes in it, as they are printed.
    pub fn read_freely(&mut self, line: &[u8]) -> Result<Change, String> {
        let typed = lang::parse_onto(&self.0, line);
        if typed.diagnostics.has_errors() {
            return Err(typed.diagnostics.render(&typed.sources));
        }
        Ok(Change { accepted: Arc::clone(&self.0), typed })
    }

    /// Reads a line for a plan that runs.
    ///
    /// # Errors
    /// The mistakes in it, and what cannot be changed while a plan runs, as they are printed.
    pub fn read(&mut self, line: &[u8]) -> Result<Typed, String> {
        let mut change = self.read_freely(line)?;
        let Parsed { file, diagnostics, sources, variables, .. } = &mut change.typed;
        let is_change = file.commands.iter().any(|command| reach(&command.value) != Reach::Nothing);
        if !is_change {
            Arc::make_mut(&mut self.0).variables = variables.clone();
            return Ok(Typed::Others(
                std::mem::take(&mut file.commands).into_iter().map(|command| command.value).collect(),
            ));
        }
        for command in &file.commands {
            let words: Vec<&str> = sources.text(command.span).split_whitespace().take(2).collect();
            let words = words.join(" ");
            match reach(&command.value) {
                Reach::Rules => {}
                Reach::Nothing => diagnostics.push(
                    Diagnostic::error(
                        command.span,
                        format!("`{words}` cannot stand in a change of the plan"),
                    )
                    .label("expected rules and filters alone: they are taken up at once")
                    .help("type it on a line of its own"),
                ),
                Reach::All => diagnostics.push(
                    Diagnostic::error(command.span, format!("`{words}` cannot change a running plan"))
                        .label("a running plan keeps its settings, ports, tools, groups and wires")
                        .help("quit, change the file and run it"),
                ),
            }
        }
        if diagnostics.has_errors() {
            Err(diagnostics.render(sources) + UNCHANGED)
        } else {
            Ok(Typed::Change(change))
        }
    }
}

const UNCHANGED: &str = "the plan stays as it is\n";

/// What of a plan a command changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nothing,
    Rules,
    All,
}

fn reach(command: &Command) -> Reach {
    match command {
        Command::Start
        | Command::Stop
        | Command::Show(_)
        | Command::ClearStats
        | Command::Quit
        | Command::ToolDrain(_)
        | Command::ToolEnable(_) => Reach::Nothing,
        Command::FilterCreate { .. }
        | Command::FilterModify { .. }
        | Command::FilterDestroy(_)
        | Command::RuleCreate { .. }
        | Command::RuleModify { .. }
        | Command::RuleEnable(_)
        | Command::RuleDisable(_)
        | Command::RuleDestroy(_)
        | Command::RuleDestroyAll => Reach::Rules,
        Command::Set(_)
        | Command::PortAttach { .. }
        | Command::PortConfig { .. }
        | Command::PortDetach(_)
        | Command::PortStart(_)
        | Command::PortStop(_)
        | Command::ToolCreate { .. }
        | Command::ToolModify { .. }
        | Command::ToolDestroy(_)
        | Command::GroupCreate { .. }
        | Command::GroupModify { .. }
        | Command::GroupDestroy(_)
        | Command::WireCreate { .. }
        | Command::WireModify { .. }
        | Command::WireDestroy(_) => Reach::All,
    }
}

impl Change {
    /// The only command, if there is one.
    pub fn alone(&self) -> Option<&Command> {
        match self.typed.file.commands.as_slice() {
            [command] => Some(&command.value),
            _ => None,
        }
    }

    /// Plans what is in force with what was typed. Warnings of what was typed go to standard error.
    ///
    /// # Errors
    /// All mistakes, as they are printed.
    fn plan(self, before: Option<&Plan>, progress: &progress::Progress) -> Result<Planned, String> {
        let Self { accepted, typed } = self;
        let first_typed = accepted.sources.len();
        let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
        parsed.file.commands.extend(typed.file.commands);
        let plan = plan::plan_after(&mut parsed, before, progress).map_err(|_| given_up())?;
        // what was there before was warned of before
        parsed.diagnostics.retain(|found| {
            found.severity == Severity::Error || found.span().source.index() >= first_typed
        });
        let found = parsed.diagnostics.render(&parsed.sources);
        let Some(plan) = plan else {
            let errors = parsed.diagnostics.errors();
            return Err(format!(
                "{found}{errors} {}; {UNCHANGED}",
                if errors == 1 { "error" } else { "errors" }
            ));
        };
        tell(found);
        parsed.diagnostics = lang::diagnostic::Diagnostics::default();
        plan::compact(&mut parsed);
        Ok(Planned { parsed, plan })
    }

    /// Plans where no plan runs. It is given up where `is_given_up` says so before it is done.
    ///
    /// # Errors
    /// All mistakes, as they are printed.
    pub fn plan_first(self, is_given_up: impl FnMut() -> bool) -> Result<Planned, String> {
        let work = Work::begin(move |progress| self.plan(None, progress)).map_err(no_thread)?;
        work.wait(is_given_up).unwrap_or_else(|| Err(given_up()))
    }

    /// Plans beside the running plan.
    ///
    /// # Errors
    /// If there is no thread for it, as it is printed.
    pub fn plan_after(self, running: Arc<Plan>) -> Result<Planning, String> {
        let work = Work::begin(move |progress| self.plan(Some(&running), progress)).map_err(no_thread)?;
        Ok(Planning { since: Instant::now(), stage: Stage::Plans(work) })
    }
}

fn no_thread(error: std::io::Error) -> String {
    format!(
        "error: there is no thread to plan on: {error}; raise the limit of threads (ulimit -u); {UNCHANGED}"
    )
}

fn given_up() -> String {
    format!("the change was given up; {UNCHANGED}")
}

/// A change of a running plan on its way. Where it is dropped, it is given up.
pub struct Planning {
    since: Instant,
    stage: Stage,
}

enum Stage {
    Plans(Work<Result<Planned, String>>),
    /// The workers have been given the plan.
    TakesUp {
        planned: Duration,
    },
}

/// How far a change is.
pub enum Progress {
    Waits,
    /// It is in force.
    Done,
    /// Nothing has changed; what is printed.
    Refused(String),
}

impl Planning {
    /// Returns whether nothing has changed yet: it may be given up.
    pub fn is_planned(&self) -> bool {
        matches!(self.stage, Stage::Plans(_))
    }

    /// Gives it up; what is printed.
    pub fn give_up(self) -> String {
        given_up()
    }

    /// Looks how far it is, and gives the workers a plan that is ready.
    pub fn advance(&mut self, broker: &mut Broker, pipeline: &mut Pipeline) -> Progress {
        if let Stage::Plans(work) = &mut self.stage {
            let Some(result) = work.look() else { return Progress::Waits };
            let planned = match result {
                Ok(Ok(planned)) => planned,
                Ok(Err(refusal)) => return Progress::Refused(refusal),
                Err(_) => {
                    return Progress::Refused(format!(
                        "error: the change could not be planned; {UNCHANGED}"
                    ));
                }
            };
            let Planned { parsed, plan } = planned;
            match broker.exchange(plan) {
                Ok(()) => self.stage = Stage::TakesUp { planned: self.since.elapsed() },
                Err(error) => return Progress::Refused(format!("error: {error}\n{UNCHANGED}")),
            }
            *pipeline = Pipeline::new(parsed);
        }
        let planned = match self.stage {
            Stage::TakesUp { planned } => planned,
            Stage::Plans(_) => return Progress::Waits,
        };
        let waited = self.since.elapsed() - planned;
        let late = broker.exchanging();
        if late.is_some() && waited < RETURN_LIMIT {
            return Progress::Waits;
        }
        if let Some(lcore) = late {
            broker.record(Event::ExchangeLate { lcore: lcore.0 });
        }
        // to the microsecond
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        let (rules, planned_ms, taken_up_ms) = (broker.plan().rules.len(), ms(planned), ms(waited));
        broker.record(Event::PlanExchanged { rules, planned_ms, taken_up_ms });
        Progress::Done
    }
}
