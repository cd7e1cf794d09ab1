//! Commands that come later: they are read after those in force, planned as a whole, and taken up or refused as a whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::audit::gate::Passage;
use super::receipt::{Facts, Moved};
use super::work::{Look, Work};
use crate::broker::refusal::Refusal;
use crate::broker::{Broker, DRAIN_LIMIT, RETURN_LIMIT};
use crate::plan::diff::{self, About, about};
use crate::plan::identity::plan_hash;
use crate::plan::{self, Plan, Surroundings, progress};
use tapline_api::access::Principal;
use tapline_api::event::Event;
use tapline_api::request::Reply;
use tapline_api::words::{ErrorKind, Role};
use tapline_lang::ast::Command;
use tapline_lang::ast::port::PortOption;
use tapline_lang::ast::session::{SessionCommand, TokenCommand};
use tapline_lang::diagnostic::{Diagnostic, Severity};
use tapline_lang::files::{Files, NoFiles};
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
    /// A command to the broker itself.
    Session(SessionCommand),
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
    /// All commands, in one spelling.
    pub text: String,
    /// Warnings of what was typed.
    pub warnings: Reply,
    /// Ports that the commands say may be interrupted, by name.
    pub interrupts: Vec<String>,
}

impl Pipeline {
    pub fn new(parsed: Parsed) -> Self {
        Self(Arc::new(parsed))
    }

    /// Returns the role that a line needs, which may be wrong; the files that it names are not read.
    pub fn role_of(&self, line: &[u8]) -> Role {
        lang::parse_onto(&self.0, line, &NoFiles).role
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
    pub fn read_freely(&self, line: &[u8], files: &dyn Files) -> Result<Change, Reply> {
        let typed = lang::parse_onto(&self.0, line, files);
        if typed.diagnostics.has_errors() {
            return Err(refused(&typed, ""));
        }
        Ok(Change { accepted: Arc::clone(&self.0), typed })
    }

    /// Reads a line for a plan that runs.
    ///
    /// # Errors
    /// The mistakes in it, and what cannot be changed while a plan runs.
    pub fn read(&self, line: &[u8], by: &Principal, files: &dyn Files) -> Result<Typed, Reply> {
        let mut change = self.read_freely(line, files)?;
        if change.typed.role > by.role {
            return Err(forbidden(change.typed.role, by));
        }
        match change.typed.session.as_slice() {
            [] => {}
            [command] if change.typed.file.commands.is_empty() => {
                return Ok(Typed::Session(command.value.clone()));
            }
            [command, ..] => {
                let error = Diagnostic::error(command.span, "this command stands alone")
                    .label("expected no other command beside it")
                    .help("type it on a line of its own");
                change.typed.diagnostics.push(error);
                return Err(refused(&change.typed, UNCHANGED));
            }
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
                    .label("expected commands that change the plan: they are taken up at once")
                    .help("type it on a line of its own"),
                ),
                About::Settings | About::Access | About::Objects(_) => {}
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
    pub fn plan(
        self,
        files: Arc<dyn Files>,
        before: Option<&Plan>,
        progress: &progress::Progress,
    ) -> Result<Planned, Reply> {
        let Self { accepted, typed } = self;
        let first_typed = accepted.sources.len();
        let interrupts = typed.file.commands.iter().filter_map(|command| interrupted_by(&command.value));
        let interrupts: Vec<String> = interrupts.collect();
        let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
        parsed.file.commands.extend(typed.file.commands);
        Ok(Planned { interrupts, ..plan_of(parsed, first_typed, files, before, progress)? })
    }
}

/// Returns the port that a command says may be interrupted, if it says so of one.
fn interrupted_by(command: &Command) -> Option<String> {
    let Command::PortConfig { name, options } = command else { return None };
    let says = options.iter().any(|option| option.value == PortOption::Interrupt);
    says.then(|| name.value.clone())
}

/// Plans what was parsed; warnings are those of the texts from `first` on.
fn plan_of(
    mut parsed: Parsed,
    first: usize,
    files: Arc<dyn Files>,
    before: Option<&Plan>,
    progress: &progress::Progress,
) -> Result<Planned, Reply> {
    let surroundings = Surroundings { files, ..Surroundings::system() };
    let plan = plan::plan_after(&mut parsed, &surroundings, before, progress).map_err(|_| given_up())?;
    // what was there before was warned of before
    parsed
        .diagnostics
        .retain(|found| found.severity == Severity::Error || found.span().source.index() >= first);
    let Some(plan) = plan else {
        let errors = parsed.diagnostics.errors();
        let errors = format!("{errors} {}; {UNCHANGED}", if errors == 1 { "error" } else { "errors" });
        return Err(refused(&parsed, &errors));
    };
    let warnings = Reply { error: None, ..refused(&parsed, "") };
    parsed.diagnostics = lang::diagnostic::Diagnostics::default();
    plan::compact(&mut parsed, &plan);
    let text = lang::text(&parsed.file);
    Ok(Planned { parsed, plan, text, warnings, interrupts: Vec::new() })
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

/// Answers that the broker ends before a change took effect.
pub(super) fn ended() -> Reply {
    Reply::error(
        ErrorKind::Cancelled,
        format!("error: the broker ends, and the change was given up; {UNCHANGED}"),
    )
}

/// Answers that the thread of a plan panicked.
pub(super) fn not_planned() -> Reply {
    Reply::failed(format!("error: the change could not be planned; {UNCHANGED}"))
}

/// Answers that a request needs more than the caller's role.
pub(super) fn forbidden(needed: Role, by: &Principal) -> Reply {
    let text = format!("error: this needs the role {needed}, and {by} has {}; {UNCHANGED}", by.role);
    Reply::error(ErrorKind::Forbidden, text)
}

/// The text that is to take the place of the running plan, or to be read after it.
pub enum What {
    /// Commands after those in force.
    Line(Vec<u8>),
    /// A change that was read already.
    Change(Change),
    /// A command to the broker itself, which was read already, and the line that says it.
    Session { line: Vec<u8>, command: SessionCommand },
    /// A whole file.
    File { path: PathBuf, sets: Vec<(String, String)>, outputs: Vec<(&'static str, PathBuf)> },
    /// A whole text, which is called by `name`.
    Text { name: String, text: String, outputs: Vec<(&'static str, PathBuf)> },
}

/// A change that is asked for, and by whom.
pub struct Order {
    pub what: What,
    pub by: Principal,
    /// The files that it may name.
    pub files: Arc<dyn Files>,
    /// It is planned, and not taken up.
    pub is_dry_run: bool,
    /// Ports may be taken down and set up again.
    pub may_interrupt: bool,
    /// The hash that the text must have to be taken up, and the answer to another.
    pub must_be: Option<(String, Reply)>,
}

/// A line that was read, and planned where it is a change.
enum Made {
    Planned(Box<Planned>),
    Others(Vec<Command>, Variables),
    Session(SessionCommand),
}

/// A change of a running plan on its way. Where it is dropped, it is given up.
pub struct Planning {
    since: Instant,
    is_dry_run: bool,
    /// It is answered by a receipt.
    has_receipt: bool,
    may_interrupt: bool,
    must_be: Option<(String, Reply)>,
    stage: Stage,
}

enum Stage {
    Plans(Work<Result<Made, Reply>>),
    /// Its record is being written.
    Made(Made),
    /// Ports are being closed that the plan has otherwise.
    Interrupts(Box<Interruption>),
    /// The workers have been given the plan.
    Swaps(Box<Taken>),
    Over,
}

/// A change for which ports are taken down and set up again.
struct Interruption {
    parsed: Parsed,
    plan: Arc<Plan>,
    ports: Vec<String>,
    taken: Box<Taken>,
    since: Instant,
}

/// A change that was taken up.
pub struct Taken {
    /// The commands in force, in one spelling.
    pub text: String,
    /// How the plans differ.
    pub changes: Vec<diff::Change>,
    pub planned: Duration,
    /// Until all workers went by the plan.
    pub swapped: Duration,
    /// The longest CPU time that a worker needed between its last burst by the plan before and its first by this one.
    pub paused: Duration,
    /// The facts of its receipt, if it is answered by one.
    pub facts: Option<Facts>,
    /// The answer: warnings, by now.
    pub reply: Reply,
}

/// How far a change is.
pub enum Progress {
    /// It is not done; a line to say so from time to time.
    Waits(Option<String>),
    /// It is in force; of a dry run, it could be.
    Done(Box<Taken>),
    /// It was none: commands that leave the plan as it is.
    Others(Vec<Command>),
    /// It was none: a command to the broker itself.
    Session(SessionCommand),
    /// Nothing has changed.
    Refused(Reply),
}

/// Returns whether the audit log has a record of such commands.
pub(super) fn are_recorded(commands: &[Command]) -> bool {
    commands.iter().any(|command| !matches!(command, Command::Show(_)))
}

/// Returns whether the audit log has a record of such a command. The plans that some bring have one of their own.
pub fn is_recorded(command: &SessionCommand) -> bool {
    match command {
        SessionCommand::Confirm(_)
        | SessionCommand::Save(_)
        | SessionCommand::Reopen
        | SessionCommand::Token(TokenCommand::Create { .. } | TokenCommand::Revoke(_)) => true,
        SessionCommand::Reload(_)
        | SessionCommand::Rollback(_)
        | SessionCommand::ShowHistory
        | SessionCommand::ShowDrift
        | SessionCommand::ShowDiff { .. }
        | SessionCommand::Token(TokenCommand::List) => false,
    }
}

impl Made {
    fn is_recorded(&self) -> bool {
        match self {
            Made::Planned(_) => true,
            Made::Others(commands, _) => are_recorded(commands),
            Made::Session(command) => is_recorded(command),
        }
    }

    /// Returns the text of all commands, where they make a plan.
    fn text(&self) -> Option<&str> {
        match self {
            Made::Planned(planned) => Some(&planned.text),
            Made::Others(..) | Made::Session(_) => None,
        }
    }
}

impl What {
    /// Returns what was typed, where somebody did.
    pub fn typed(&self) -> Option<Vec<u8>> {
        match self {
            What::Line(line) | What::Session { line, .. } => Some(line.clone()),
            What::Change(Change { accepted, typed }) => {
                let (_, source) = typed.sources.iter().nth(accepted.sources.len())?;
                Some(source.text().as_bytes().to_vec())
            }
            What::File { .. } | What::Text { .. } => None,
        }
    }

    /// Reads and plans it.
    ///
    /// # Errors
    /// All mistakes.
    fn make(
        self,
        pipeline: &Pipeline,
        (by, files): (&Principal, Arc<dyn Files>),
        running: &Plan,
        progress: &progress::Progress,
    ) -> Result<Made, Reply> {
        let planned = match self {
            What::Line(line) => match pipeline.read(&line, by, &*files)? {
                Typed::Change(change) => change.plan(files, Some(running), progress)?,
                Typed::Others(commands, variables) => return Ok(Made::Others(commands, variables)),
                Typed::Session(command) => return Ok(Made::Session(command)),
            },
            What::Change(change) => change.plan(files, Some(running), progress)?,
            What::Session { command, .. } => return Ok(Made::Session(command)),
            What::File { path, sets, outputs } => {
                // a pipe would be waited for; the file that a broker begins with may be one, a file that is loaded later is none
                let parsed = lang::load_regular(&path, &sets, &*files);
                plan_of(Parsed { outputs, ..parsed }, 0, files, Some(running), progress)?
            }
            What::Text { name, text, outputs } => {
                let parsed = lang::parse_text(&name, &text, &[]);
                plan_of(Parsed { outputs, ..parsed }, 0, files, Some(running), progress)?
            }
        };
        Ok(Made::Planned(Box::new(planned)))
    }
}

impl Planning {
    /// Begins to plan beside the running plan.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn begin(order: Order, pipeline: &Pipeline, running: Arc<Plan>) -> Result<Self, Reply> {
        let Order { what, by, files, is_dry_run, may_interrupt, must_be } = order;
        let has_receipt = matches!(what, What::File { .. } | What::Text { .. });
        let pipeline = pipeline.clone();
        let work = Work::begin(move |progress| what.make(&pipeline, (&by, files), &running, progress));
        Ok(Self {
            since: Instant::now(),
            is_dry_run,
            has_receipt,
            may_interrupt,
            must_be,
            stage: Stage::Plans(work.map_err(no_thread)?),
        })
    }

    /// Returns whether nothing has changed yet: it may be given up.
    pub fn is_planned(&self) -> bool {
        matches!(self.stage, Stage::Plans(_) | Stage::Made(_))
    }

    /// Looks how far it is, and gives the workers a plan that is ready.
    /// `pass` says of the text of the plan that it brings, if it brings one, whether it may take effect.
    pub fn advance(
        &mut self,
        broker: &mut Broker,
        pipeline: &mut Pipeline,
        pass: impl FnOnce(Option<&str>) -> Passage,
    ) -> Progress {
        if matches!(self.stage, Stage::Plans(_)) && broker.is_retiring() {
            return Progress::Waits(None);
        }
        if let Stage::Plans(work) = &mut self.stage {
            self.stage = match work.look() {
                Look::Waits(line) => return Progress::Waits(line),
                Look::Done(Ok(Ok(made))) => Stage::Made(made),
                Look::Done(Ok(Err(refusal))) => return Progress::Refused(refusal),
                Look::Done(Err(_)) => return Progress::Refused(not_planned()),
            };
        }
        if let Stage::Made(made) = &self.stage {
            if !self.is_dry_run && made.is_recorded() {
                match pass(made.text()) {
                    Passage::Waits => return Progress::Waits(None),
                    Passage::Closed(refusal) => return Progress::Refused(refusal),
                    Passage::Free => {}
                }
            }
            let Stage::Made(made) = std::mem::replace(&mut self.stage, Stage::Over) else {
                return Progress::Waits(None);
            };
            let planned = match made {
                Made::Planned(planned) => *planned,
                Made::Session(command) => return Progress::Session(command),
                Made::Others(..) if self.is_dry_run => return Progress::Others(Vec::new()),
                Made::Others(commands, variables) => {
                    pipeline.define(variables);
                    return Progress::Others(commands);
                }
            };
            if let Err(over) = self.take_up(planned, broker, pipeline) {
                return over;
            }
        }
        if let Stage::Interrupts(interruption) = &self.stage {
            let is_late = interruption.is_late(broker);
            if broker.is_retiring() && !is_late {
                return Progress::Waits(None);
            }
            let Stage::Interrupts(interruption) = std::mem::replace(&mut self.stage, Stage::Over) else {
                return Progress::Waits(None);
            };
            if is_late {
                return Progress::Refused(interruption.give_up(broker));
            }
            match interruption.set_up(broker, pipeline) {
                Ok(taken) => self.stage = Stage::Swaps(taken),
                Err(reply) => return Progress::Refused(reply),
            }
        }
        self.see_swapped(broker)
    }

    /// Looks whether all workers go by the plan and, where a receipt says so, all that left is gone.
    fn see_swapped(&mut self, broker: &mut Broker) -> Progress {
        let Stage::Swaps(taken) = &mut self.stage else { return Progress::Waits(None) };
        if taken.swapped.is_zero() {
            let waited = self.since.elapsed() - taken.planned;
            if broker.swapping().is_some() && waited < RETURN_LIMIT {
                return Progress::Waits(None);
            }
            taken.swapped = waited;
        }
        let late = broker.swapping();
        if let Some(facts) = &mut taken.facts {
            // a receipt says what became of all that left
            if late.is_none() && broker.is_retiring() {
                return Progress::Waits(None);
            }
            facts.retired = self.since.elapsed() - taken.planned;
            facts.after = broker.snapshot();
            if let Some(swapped) = broker.swapped().filter(|_| late.is_none()) {
                taken.swapped = Duration::from_micros(swapped.swapped_us);
                taken.paused = Duration::from_nanos(swapped.paused_ns);
                facts.moved = Moved {
                    buckets: swapped.moved.iter().map(|moved| moved.buckets).sum(),
                    flows: swapped.moved.iter().map(|moved| moved.flows).sum(),
                };
            }
        }
        if let Some(lcore) = late {
            broker.record(Event::SwapLate { lcore: lcore.0 });
        }
        let rules = broker.plan().rules.len();
        let (planned_ms, in_force_ms) = (ms(taken.planned), ms(taken.swapped));
        broker.record(Event::PlanChanged { rules, planned_ms, in_force_ms });
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Swaps(taken) => Progress::Done(taken),
            Stage::Plans(_) | Stage::Made(_) | Stage::Interrupts(_) | Stage::Over => Progress::Waits(None),
        }
    }

    /// Gives the workers a plan. An `Err` is how the change ends, where it goes no further.
    fn take_up(
        &mut self,
        planned: Planned,
        broker: &mut Broker,
        pipeline: &mut Pipeline,
    ) -> Result<(), Progress> {
        let Planned { parsed, plan, text, warnings, interrupts } = planned;
        if let Some((_, reply)) = self.must_be.take_if(|(hash, _)| *hash != plan_hash(&text)) {
            return Err(Progress::Refused(reply));
        }
        let changes = diff::diff(broker.plan(), &plan);
        let mut interrupted = diff::interrupted(broker.plan(), &plan, &changes);
        interrupted.retain(|(port, _)| !broker.closed_ports().any(|closed| closed == port));
        let ports: Vec<String> = interrupted.iter().map(|(port, _)| port.clone()).collect();
        let facts = self.has_receipt.then(|| {
            let facts = Facts::of(broker.plan(), &plan, &changes, broker.snapshot());
            Facts { objects: facts.objects.with_recreated(&ports), ..facts }
        });
        let taken = Box::new(Taken {
            text,
            changes,
            planned: self.since.elapsed(),
            swapped: Duration::ZERO,
            paused: Duration::ZERO,
            facts,
            reply: warnings,
        });
        let may_interrupt = |port: &String| self.may_interrupt || interrupts.contains(port);
        let is_restart = |change: &diff::Change| change.needs == diff::Needs::Restart;
        if !taken.changes.iter().any(is_restart)
            && let Some((port, what)) = interrupted.into_iter().find(|(port, _)| !may_interrupt(port))
        {
            let refusal = Refusal::InterruptsPort { what, port };
            let text = format!("error: {refusal}\n{UNCHANGED}");
            return Err(Progress::Refused(taken.reply.and(Reply::failed(text))));
        }
        if self.is_dry_run {
            return Err(Progress::Done(taken));
        }
        if let Some(change) = taken.changes.iter().find(|change| change.needs == diff::Needs::Restart) {
            let text = format!("error: {change} needs a restart; {UNCHANGED}");
            return Err(Progress::Refused(taken.reply.and(Reply::error(ErrorKind::NeedsRestart, text))));
        }
        let plan = Arc::new(plan);
        let begun = if ports.is_empty() {
            broker.change(Arc::clone(&plan))
        } else {
            broker.close_ports(&plan, &ports)
        };
        if let Err(error) = begun {
            let text = format!("error: {error}\n{UNCHANGED}");
            return Err(Progress::Refused(taken.reply.and(Reply::failed(text))));
        }
        if !ports.is_empty() {
            let since = Instant::now();
            self.stage = Stage::Interrupts(Box::new(Interruption { parsed, plan, ports, taken, since }));
            return Ok(());
        }
        *pipeline = Pipeline::new(parsed);
        self.stage = Stage::Swaps(taken);
        Ok(())
    }
}

impl Interruption {
    /// Returns whether a worker has not let go of the ports in the time that it may take.
    fn is_late(&self, broker: &Broker) -> bool {
        let drain = if broker.swapping().is_some() { Duration::ZERO } else { 2 * DRAIN_LIMIT };
        broker.is_retiring() && self.since.elapsed() >= RETURN_LIMIT + drain
    }

    /// Gives the change up because a worker does not let go of the ports; they are put back once it does. Returns the answer.
    fn give_up(self, broker: &mut Broker) -> Reply {
        let Self { ports, taken, since, .. } = self;
        let worker = match broker.swapping() {
            Some(lcore) => {
                broker.record(Event::SwapLate { lcore: lcore.0 });
                format!("lcore {}", lcore.0)
            }
            None => "a worker".to_owned(),
        };
        let (names, seconds) = (ports.join(", "), since.elapsed().as_secs());
        broker.put_back_later(ports);
        taken.reply.and(Reply::failed(format!(
            "error: {worker} has not let go of port {names} after {seconds} s; once it does, what is closed is set up again as it was\n\
             {UNCHANGED}"
        )))
    }

    /// Sets up the ports that were closed, and gives the workers the plan. Where this fails, ports are put back as they were.
    ///
    /// # Errors
    /// The answer, which says what became of the ports.
    fn set_up(self, broker: &mut Broker, pipeline: &mut Pipeline) -> Result<Box<Taken>, Reply> {
        let Self { parsed, plan, ports, taken, .. } = self;
        let Err(error) = broker.open_ports(plan, &ports) else {
            *pipeline = Pipeline::new(parsed);
            return Ok(taken);
        };
        let names = ports.join(", ");
        let rest = match broker.put_back(&ports) {
            Ok(()) => format!("set up again as it was: port {names}"),
            Err(failed) => format!("closed, since it could not be put back either: port {names}: {failed}"),
        };
        Err(taken.reply.and(Reply::failed(format!("error: {error}\n{rest}\n{UNCHANGED}"))))
    }
}

/// Milliseconds, to the microsecond.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
