//! The session: it owns a running broker, answers requests one after another, and keeps the broker's time.
//!
//! `Session::handle` answers what changes nothing at once. A change of the plan is answered by `Session::tick`, which is called
//! every few milliseconds; a change waits for its turn while another is on its way. Nothing here waits for a file or a reader.

/// Commands to the broker itself.
mod commands;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::{Broker, DRAIN_LIMIT, Ending};
use crate::control::access::{Caller, Judge};
use crate::control::archive::{Kept, Writing};
use crate::control::audit::Audit;
use crate::control::audit::gate::Gate;
use crate::control::audit::gate::Passage;
use crate::control::change::{
    Order, Pipeline, Planning, Progress, Typed, What, are_recorded, ended, given_up,
};
use crate::control::complete::{Completion, complete};
use crate::control::history::{History, Source};
use crate::control::memory::Memory;
use crate::control::reload::{Cause, GUARD_INTERVAL, Origin, Scene, Versions, remarked};
use crate::control::tokens::{Shown, Tokens};
use crate::control::work::{Look, Work};
use crate::plan::describe;
use crate::plan::identity::plan_hash;
use crate::plan::surroundings::{Confined, System};
use crate::plan::value::Action;
use crate::report::events::Events;
use crate::report::recent::Mark;
use crate::report::table;
use tapline_api::access::Principal;
use tapline_api::event::{Alarm, Event};
use tapline_api::request::{Reply, Request};
use tapline_api::snapshot::Snapshot;
use tapline_api::words::{ErrorKind, Get, Role, Via};
use tapline_dpdk::clock;
use tapline_kernel::process::own_uid;
use tapline_lang::ast::session::Reload;
use tapline_lang::ast::{Command, Show};

/// Names a request whose answer comes later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Ticket(u64);

/// The answer to a request, or the ticket under which it comes.
#[derive(Debug)]
pub enum Answer {
    Now(Reply),
    Later(Ticket),
}

/// When a run ends by itself.
#[derive(Clone, Copy, Default, Debug)]
pub struct Limits {
    /// So long after its beginning.
    pub duration: Option<Duration>,
    /// When no packet came for so long.
    pub idle: Option<Duration>,
}

/// The events since the last tick.
#[derive(Default)]
pub struct Tick {
    /// How far the change of the plan is that is on its way, from time to time.
    pub progress: Option<String>,
    /// Answers to requests that were given tickets.
    pub replies: Vec<(Ticket, Reply)>,
    /// Tickets in whose place others are answered.
    pub renamed: Vec<(Ticket, Ticket)>,
    /// The run is to end.
    pub end: Option<End>,
}

/// Why a run is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Ending(Ending),
    /// A worker did not stay at work.
    WorkerLost,
    /// Ports are gone without which there is nothing to do.
    PortsGone,
}

/// This is what a session begins with, beside its broker.
#[derive(Default)]
pub struct Beginning {
    /// The broker's name.
    pub name: String,
    pub limits: Limits,
    /// Somebody may send requests.
    pub is_attended: bool,
    pub origin: Origin,
    pub memory: Memory,
}

/// The outcome of a run.
pub struct Outcome {
    /// Answers to requests that were given tickets.
    pub replies: Vec<(Ticket, Reply)>,
    /// The last statistics.
    pub last: Snapshot,
    /// The alarms that made it fail, which may have been raised long before its end.
    pub alarms: Vec<Alarm>,
    /// Nothing went wrong.
    pub is_well: bool,
}

/// A running broker and the commands in force.
pub struct Session {
    /// The broker's name.
    name: String,
    /// Statistics that clients were given so far.
    snapshots: u64,
    /// When statistics were last taken for their file.
    told: Mark,
    pipeline: Pipeline,
    broker: Broker,
    /// The plans that were in force.
    versions: Versions,
    origin: Origin,
    /// The folder of the pipeline file, if it has one.
    folder: Option<Confined>,
    audit: Audit,
    tokens: Arc<Mutex<Tokens>>,
    /// Tokens that are being written.
    token_errand: Option<Ticket>,
    /// A change of the plan that is on its way.
    current: Option<Current>,
    /// Changes that wait for their turn.
    waiting: VecDeque<Waiting>,
    /// Files that are being written for those who asked for them.
    errands: Vec<(Ticket, Work<Reply>)>,
    /// Answers that are given once a restart will know of what they say.
    held: Vec<(Ticket, Reply, Writing)>,
    next_guard: Instant,
    /// The file of statistics is to be opened anew.
    is_reopen_asked: bool,
    tickets: u64,
    limits: Limits,
    started: Instant,
    quiet: Quiet,
    is_quit: bool,
    /// Somebody may yet say `start`.
    is_attended: bool,
}

/// A change that waits for the one before it.
struct Waiting {
    ticket: Ticket,
    cause: Cause,
    order: Order,
}

/// A change on its way.
struct Current {
    ticket: Ticket,
    by: Principal,
    cause: Cause,
    is_dry_run: bool,
    planning: Planning,
    gate: Gate,
    promise: Promised,
}

/// A plan that is to be confirmed takes effect once a restart would go back, too.
enum Promised {
    /// Nothing has to be written.
    Nothing,
    Waits(Writing),
    Done,
}

/// Since when no packet came.
struct Quiet {
    received: u64,
    /// The start of idleness, by the time in which workers had their CPUs: a worker without a CPU receives nothing, and the run is
    /// not idle for it.
    since: Duration,
}

impl Session {
    /// Takes over a broker that waits to begin.
    pub fn new(mut broker: Broker, pipeline: Pipeline, beginning: Beginning) -> Self {
        let Beginning { name, limits, is_attended, origin, memory } = beginning;
        let quiet = Quiet { received: 0, since: broker.worked() };
        let text = tapline_lang::text(&pipeline.parsed().file);
        let from =
            origin.path.as_ref().map_or("standard input".to_owned(), |path| path.display().to_string());
        let folder = origin.path.as_ref().and_then(|path| Confined::beside(path).ok());
        let audit = Audit::begin(broker.plan().settings.audit.as_ref(), &name, memory.state.clone());
        let (archive, origin_of_plan) = (memory.archive(), memory.origin(from));
        let Memory { tokens, past, events, .. } = memory;
        events.into_iter().for_each(|event| broker.record(event));
        let source = Source {
            by: "start".to_owned(),
            via: Via::CommandLine,
            origin: origin_of_plan,
            time_ns: clock::now_ns(),
        };
        let versions = Versions::new(History::after(past, text, source), archive);
        // nobody waits for it
        drop(versions.keep());
        Self {
            name,
            snapshots: 0,
            told: Mark::default(),
            pipeline,
            broker,
            versions,
            origin,
            folder,
            audit,
            tokens: Arc::new(Mutex::new(tokens)),
            token_errand: None,
            current: None,
            waiting: VecDeque::new(),
            errands: Vec::new(),
            held: Vec::new(),
            next_guard: Instant::now(),
            is_reopen_asked: false,
            tickets: 0,
            limits,
            started: Instant::now(),
            quiet,
            is_quit: false,
            is_attended,
        }
    }

    /// The tokens are whole between any two statements.
    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says who a caller is by now, and what he may ask for.
    pub fn principal(&self, caller: &Caller) -> Principal {
        let (tokens, own_uid) = (self.tokens(), own_uid());
        let grants = &self.broker.plan().access;
        Judge { grants, tokens: &tokens, own_uid, now_ns: clock::now_ns() }.principal(caller)
    }

    /// Takes a token that a caller shows.
    ///
    /// # Errors
    /// It is none.
    pub fn sign_in(&mut self, caller: &Caller, token: &str) -> Result<Shown, Reply> {
        let shown = self.tokens().shown(token, clock::now_ns());
        let caller = Caller { token: shown.clone(), ..caller.clone() };
        let by = self.principal(&caller);
        const WRONG: &str = "the token is wrong, was taken back, or is over";
        self.audit.signed_in(&by, shown.is_none().then_some(WRONG));
        shown.ok_or_else(|| Reply::error(ErrorKind::Forbidden, format!("error: {WRONG}\n")))
    }

    /// Does what the file asks for once everything is set up; packets are received from then on.
    pub fn begin(&mut self, actions: &[Action]) -> Reply {
        self.audit.run("start", &self.versions.history().current().hash);
        let is_started = actions.contains(&Action::Start);
        let start = [Action::Start];
        let rest = if is_started { &[][..] } else { &start };
        let reply =
            actions.iter().chain(rest).fold(Reply::done(""), |reply, &action| reply.and(self.act(action)));
        self.started = Instant::now();
        self.quiet = Quiet { received: 0, since: self.broker.worked() };
        reply
    }

    /// Nobody sends requests any more. Unless the run was told when to end, it ends now.
    pub fn leave(&mut self) {
        self.is_quit |= self.limits.duration.is_none() && self.limits.idle.is_none();
        self.is_attended = false;
    }

    /// Takes the statistics as they are.
    pub fn snapshot(&self) -> Snapshot {
        self.broker.snapshot()
    }

    /// Takes the statistics as they are, with rates of the time since the last call.
    pub fn next_snapshot(&mut self) -> Snapshot {
        let snapshot = self.broker.snapshot_since(&self.told);
        self.told = self.broker.mark(&snapshot);
        snapshot
    }

    /// Returns the turns of each worker so far.
    pub fn turns(&self) -> Vec<u64> {
        self.broker.turns()
    }

    /// Gives the events of the broker, from what was decided at the start on.
    pub fn events(&self) -> &Events {
        self.broker.events()
    }

    /// Records what happened to the run outside of the broker.
    pub fn record(&mut self, event: Event) {
        self.broker.record(event);
    }

    /// Returns whether a change of the plan is on its way: the next tick should be soon.
    pub fn is_changing(&self) -> bool {
        self.current.is_some() || !self.held.is_empty()
    }

    /// Answers a request, or gives a ticket for its answer.
    pub fn handle(&mut self, by: &Principal, request: Request) -> Answer {
        match request {
            Request::Line { text, is_dry_run } => self.handle_line(by, text, is_dry_run),
            Request::Get { what, since } => Answer::Now(self.get(what, since)),
            Request::Complete { line } => {
                let value = json!(self.complete(&line)).to_string();
                Answer::Now(Reply { value: Some(value.clone()), ..Reply::done(value) })
            }
        }
    }

    /// Says what may stand at the end of a line.
    pub fn complete(&self, line: &str) -> Completion {
        complete(line, self.pipeline.parsed(), self.broker.plan())
    }

    /// Returns whether `quit` was said.
    pub fn is_quit(&self) -> bool {
        self.is_quit
    }

    fn handle_line(&mut self, by: &Principal, line: Vec<u8>, is_dry_run: bool) -> Answer {
        let files = self.files_of(by);
        let order = |what| Order {
            what,
            by: by.clone(),
            files: Arc::clone(&files),
            is_dry_run,
            may_interrupt: false,
            must_be: None,
        };
        if super::names_a_file(&line) {
            return self.submit(Cause::Commands, order(What::Line(line)));
        }
        match self.pipeline.read(&line, by, &*files) {
            // it is read again in its turn, after the changes before it
            Ok(Typed::Change(_)) if self.current.is_some() => {
                self.submit(Cause::Commands, order(What::Line(line)))
            }
            Ok(Typed::Change(change)) => self.submit(Cause::Commands, order(What::Change(change))),
            Ok(Typed::Others(commands, _)) if self.audit.is_on() && are_recorded(&commands) => {
                self.submit(Cause::Orders, order(What::Line(line)))
            }
            Ok(Typed::Session(command)) => self.obey_recorded(by, command, (line, is_dry_run)),
            Ok(Typed::Others(..)) if is_dry_run => Answer::Now(Reply::done("")),
            Ok(Typed::Others(commands, variables)) => {
                self.pipeline.define(variables);
                Answer::Now(self.carry_out(commands))
            }
            Err(refusal) => {
                let role = if self.audit.is_on() { self.pipeline.role_of(&line) } else { Role::Viewer };
                Answer::Now(self.refuse(by, line, role, refusal))
            }
        }
    }

    /// Answers with a refusal, which the audit log has where what was asked for needs more than the role of a viewer.
    fn refuse(&mut self, by: &Principal, line: Vec<u8>, needed: Role, refusal: Reply) -> Reply {
        if self.audit.is_on() && needed > Role::Viewer {
            let gate = Gate::new(by, line, &self.versions.history().current().hash);
            gate.answered(&mut self.audit, &refusal);
        }
        refusal
    }

    /// Begins a change, or has it wait for its turn.
    fn submit(&mut self, cause: Cause, order: Order) -> Answer {
        let ticket = self.ticket();
        self.waiting.push_back(Waiting { ticket, cause, order });
        match self.begin_next() {
            Some((answered, reply)) if answered == ticket => Answer::Now(reply),
            _ => Answer::Later(ticket),
        }
    }

    /// Begins the change whose turn has come. Gives the answer to one that cannot be begun.
    fn begin_next(&mut self) -> Option<(Ticket, Reply)> {
        if self.current.is_some() {
            return None;
        }
        let Waiting { ticket, cause, mut order } = self.waiting.pop_front()?;
        if !order.is_dry_run
            && let Err(reply) = self.versions.check_pending(Instant::now())
        {
            match (&cause, self.versions.pending_hash()) {
                (Cause::Rollback { .. } | Cause::Orders, _) => {}
                // the same file once more gives it more time
                (Cause::Reload { reload, .. }, Some(hash)) if reload.confirm.is_some() => {
                    order.must_be = Some((hash.to_owned(), reply));
                }
                (Cause::Commands | Cause::Reload { .. }, _) => return Some((ticket, reply)),
            }
        }
        let (by, is_dry_run) = (order.by.clone(), order.is_dry_run);
        let command = order.what.typed().unwrap_or_else(|| cause.command().into_bytes());
        let gate = Gate::new(&by, command, &self.versions.history().current().hash);
        match Planning::begin(order, &self.pipeline, Arc::clone(self.broker.plan())) {
            Ok(planning) => {
                let promise = Promised::Nothing;
                self.current = Some(Current { ticket, by, cause, is_dry_run, planning, gate, promise });
                None
            }
            Err(reply) => Some((ticket, reply)),
        }
    }

    /// Reads what programs ask for, as JSON.
    fn get(&mut self, what: Get, since: Option<u64>) -> Reply {
        let snapshot = self.broker.snapshot();
        let value = match what {
            Get::Stats => self.stats(&snapshot),
            Get::Ports => serde_json::to_value(&snapshot.ports),
            Get::Tools => serde_json::to_value(&snapshot.tools),
            Get::Groups => serde_json::to_value(&snapshot.groups),
            Get::Rules => serde_json::to_value(&snapshot.rules),
            Get::Wires => serde_json::to_value(&snapshot.wires),
            Get::Lcores => serde_json::to_value(&snapshot.lcores),
            Get::Events => self.events_since(since.unwrap_or(0)),
            Get::Plan => {
                let version = self.versions.history().current();
                Ok(json!({
                    "broker": self.name, "id": version.id, "sha256": version.hash, "text": version.text,
                    "words": describe::plan(self.broker.plan()),
                }))
            }
            Get::Reload => serde_json::to_value(self.versions.last()),
            Get::Commands => Ok(commands()),
        };
        match value {
            Ok(value) => Reply { value: Some(value.to_string()), ..Reply::done(value.to_string()) },
            Err(error) => Reply::failed(format!("error: {error}\n")),
        }
    }

    /// Returns what the broker is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the statistics as they are, as JSON, with rates of the time since `mark`, or of the last second; and the same as they were
    /// taken, where the next interval may begin.
    pub fn stats_since(&mut self, mark: Option<&Mark>) -> (Value, Snapshot) {
        let snapshot = mark.map_or_else(|| self.broker.snapshot(), |mark| self.broker.snapshot_since(mark));
        // numbers, names and words always have a form
        (self.stats(&snapshot).unwrap_or_default(), snapshot)
    }

    /// Begins an interval at statistics that were just taken.
    pub fn mark(&mut self, snapshot: &Snapshot) -> Mark {
        self.broker.mark(snapshot)
    }

    /// Statistics of a running broker say whose they are, and have numbers.
    fn stats(&mut self, snapshot: &Snapshot) -> serde_json::Result<Value> {
        self.snapshots += 1;
        let mut value = serde_json::to_value(snapshot)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("broker".to_owned(), json!(self.name));
            fields.insert("seq".to_owned(), json!(self.snapshots));
        }
        Ok(value)
    }

    /// The events after the one of this number, as far as they are kept.
    fn events_since(&self, seq: u64) -> serde_json::Result<Value> {
        let events =
            self.events().since(seq).map(|event| serde_json::to_value(event.object_of(&self.name)));
        let events = events.collect::<serde_json::Result<Vec<Value>>>()?;
        Ok(
            json!({ "schema": "tapline.events/1", "broker": self.name, "seq": self.events().last(), "events": events }),
        )
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Gives up a change of which nothing is in force yet, and returns the answer to it.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<Reply> {
        let reply = given_up();
        self.give_up(&reply, |given_up| given_up == ticket).pop().map(|_| reply)
    }

    /// Gives up the changes that `is_it` picks, as far as nothing of them is in force, and records that. Returns their tickets.
    fn give_up(&mut self, reply: &Reply, is_it: impl Fn(Ticket) -> bool) -> Vec<Ticket> {
        let mut given_up = Vec::new();
        let is_current = |current: &mut Current| is_it(current.ticket) && current.planning.is_planned();
        if let Some(Current { ticket, by, gate, is_dry_run, promise, .. }) =
            self.current.take_if(is_current)
        {
            if by.role > Role::Viewer && !is_dry_run {
                gate.answered(&mut self.audit, reply);
            }
            if !matches!(promise, Promised::Nothing) {
                // what was promised is taken back
                drop(self.versions.keep());
            }
            given_up.push(ticket);
        }
        let (gone, waiting): (VecDeque<_>, _) =
            self.waiting.drain(..).partition(|waiting| is_it(waiting.ticket));
        self.waiting = waiting;
        for Waiting { ticket, cause, order } in gone {
            if order.by.role > Role::Viewer && !order.is_dry_run {
                let command = order.what.typed().unwrap_or_else(|| cause.command().into_bytes());
                let gate = Gate::new(&order.by, command, &self.versions.history().current().hash);
                gate.answered(&mut self.audit, reply);
            }
            given_up.push(ticket);
        }
        given_up
    }

    /// Keeps the broker's time: to be called every few milliseconds.
    pub fn tick(&mut self) -> Tick {
        let mut tick = Tick::default();
        self.go_on_with_changes(&mut tick);
        let events = self.audit.events().into_iter().chain(self.versions.events());
        events.for_each(|event| self.broker.record(event));
        self.broker.watch();
        if self.current.is_none() {
            self.broker.attach_again();
        }
        tick.end = self.end_due();
        let lost = self.broker.lost_workers().first().map(|lcore| lcore.0);
        if let Some(lcore) = lost {
            self.broker.record(Event::WorkerLost { lcore });
            tick.end = Some(End::WorkerLost);
        }
        let ports = self.broker.gone_for_good(self.is_attended);
        if tick.end.is_none() && !ports.is_empty() {
            self.broker.record(Event::EndedForGone { ports });
            tick.end = Some(End::PortsGone);
        }
        tick
    }

    /// Returns why the run is to end now.
    fn end_due(&mut self) -> Option<End> {
        let is_over = |duration| self.started.elapsed() >= duration;
        if self.is_quit {
            Some(End::Ending(Ending::Asked))
        } else if self.limits.duration.is_some_and(is_over) {
            Some(End::Ending(Ending::TimeUp))
        } else {
            self.is_idle().then_some(End::Ending(Ending::Idle))
        }
    }

    /// Returns whether no packet came for as long as the limit says. Captures first write what they hold for the sake of its order.
    fn is_idle(&mut self) -> bool {
        let (count, worked) = (self.broker.received(), self.broker.worked());
        // one that is stopped waits to be started, as long as somebody can; a replay waits for files that take what they are given
        if count != self.quiet.received
            || self.is_attended && !self.broker.is_running()
            || self.broker.is_writing()
        {
            self.quiet = Quiet { received: count, since: worked };
        }
        let is_idle = self.limits.idle.is_some_and(|idle| worked - self.quiet.since >= idle);
        if is_idle && self.broker.let_go() {
            self.quiet.since = worked;
            return false;
        }
        is_idle
    }

    /// Looks how far the current change is; where it is done, the next one's turn has come.
    fn go_on_with_changes(&mut self, tick: &mut Tick) {
        self.go_back_if_overdue();
        let is_written = |errand: &mut (Ticket, Work<Reply>)| match errand.1.look() {
            Look::Waits(_) => None,
            Look::Done(reply) => {
                Some(reply.unwrap_or_else(|_| Reply::failed("error: it could not be written\n")))
            }
        };
        self.errands.retain_mut(|errand| match is_written(errand) {
            Some(reply) => {
                tick.replies.push((errand.0, reply));
                false
            }
            None => true,
        });
        if let Some(mut current) = self.current.take() {
            let plan = Arc::clone(self.broker.plan());
            let pass = |text: Option<&str>| {
                let is_required = plan.settings.requires_audit(&plan.access);
                let after = text.filter(|_| self.audit.is_on()).map(plan_hash);
                match current.gate.pass(&mut self.audit, after.as_deref(), is_required) {
                    Passage::Free => current.promise.pass(&self.versions, &current.cause),
                    passage => passage,
                }
            };
            match current.planning.advance(&mut self.broker, &mut self.pipeline, pass) {
                Progress::Waits(line) => {
                    tick.progress = line;
                    self.current = Some(current);
                    return;
                }
                progress => {
                    let ticket = current.ticket;
                    if let Some(reply) = self.finish(current, progress, tick) {
                        tick.replies.push((ticket, reply));
                    }
                }
            }
        }
        while let Some(answered) = self.begin_next() {
            tick.replies.push(answered);
        }
        self.give_held(tick);
    }

    /// Holds an answer until a restart will know of what it says; gives it back where nothing is to be waited for.
    fn hold(&mut self, ticket: Ticket, reply: Reply) -> Option<Reply> {
        match self.versions.keep().filter(|_| reply.error.is_none()) {
            Some(writing) => {
                self.held.push((ticket, reply, writing));
                None
            }
            None => Some(reply),
        }
    }

    /// Gives the answers that need not be held any more.
    fn give_held(&mut self, tick: &mut Tick) {
        for (ticket, reply, writing) in std::mem::take(&mut self.held) {
            match writing.look() {
                Kept::Waits => self.held.push((ticket, reply, writing)),
                Kept::Done => tick.replies.push((ticket, reply)),
                Kept::Not(why) => {
                    let warning = format!("warning: a restart will not know of it: {why}\n");
                    tick.replies.push((ticket, remarked(reply, &warning)));
                }
            }
        }
    }

    /// Answers a change that has come to its end; `None` where a command in it is answered later.
    fn finish(&mut self, current: Current, progress: Progress, tick: &mut Tick) -> Option<Reply> {
        let Current { ticket, by, cause, is_dry_run, gate, promise, .. } = current;
        match progress {
            Progress::Waits(_) => None,
            Progress::Refused(reply) => {
                if by.role > Role::Viewer || reply.error == Some(ErrorKind::Forbidden) {
                    gate.answered(&mut self.audit, &reply);
                }
                if !matches!(promise, Promised::Nothing) {
                    // what was promised is taken back
                    drop(self.versions.keep());
                }
                if let Cause::Rollback { to, why } = &cause {
                    self.broker.record(Event::RollbackFailed { to: *to, why: why.clone() });
                }
                Some(reply)
            }
            Progress::Others(commands) => Some(self.carry_out(commands)),
            Progress::Session(command) => match self.obey(&by, command, is_dry_run) {
                Answer::Now(reply) => {
                    gate.answered(&mut self.audit, &reply);
                    Some(reply)
                }
                Answer::Later(later) => {
                    tick.renamed.push((ticket, later));
                    None
                }
            },
            Progress::Done(taken) => {
                let scene = Scene { broker: &self.name, by: &by, now_ns: clock::now_ns() };
                if is_dry_run {
                    let text = taken.text.clone();
                    let reply = self.versions.rehearse(&cause, *taken, &scene);
                    return match cause {
                        Cause::Reload { reload: Reload { capture: Some(capture), .. }, .. } => {
                            self.compare((ticket, &by), PathBuf::from(capture), text, reply)
                        }
                        _ => Some(reply),
                    };
                }
                if let Cause::Rollback { to, why } = &cause {
                    self.versions.forget_pending();
                    self.broker.record(Event::RolledBack { to: *to, why: why.clone() });
                }
                let reply = self.versions.note(&cause, *taken, &scene);
                self.hold(ticket, reply)
            }
        }
    }

    /// Goes back to the plan before one that was not confirmed in time, or whose guard has seen too much.
    fn go_back_if_overdue(&mut self) {
        let now = Instant::now();
        if now < self.next_guard || self.current.is_some() {
            return;
        }
        self.next_guard = now + GUARD_INTERVAL;
        let Some((to, why)) = self.versions.overdue(now, || self.broker.snapshot()) else { return };
        self.versions.forget_pending();
        if let Ok((cause, what)) = self.rollback_of(Some(to), &why) {
            let (by, files) = (Principal::of_itself(), Arc::new(System));
            let order = Order { what, by, files, is_dry_run: false, may_interrupt: true, must_be: None };
            let ticket = self.ticket();
            self.waiting.push_front(Waiting { ticket, cause, order });
        }
    }

    /// Says all tables.
    pub fn tables(&self) -> String {
        table::summary(&self.broker.snapshot(), table::When::Running)
    }

    /// Returns whether the file of statistics is to be opened anew, once.
    pub fn takes_reopen(&mut self) -> bool {
        std::mem::take(&mut self.is_reopen_asked)
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Reply {
        commands.iter().fold(Reply::done(""), |reply, command| {
            let next = match (action_of(command), command) {
                (Some(action), _) => answered(action, self.act(action)),
                (None, Command::ToolDrain(tool)) => self.set_drained(&tool.value, true),
                (None, Command::ToolEnable(tool)) => self.set_drained(&tool.value, false),
                // commands that change the plan do not come here
                (None, _) => Reply::done(""),
            };
            reply.and(next)
        })
    }

    fn act(&mut self, action: Action) -> Reply {
        match action {
            Action::Start => self.broker.resume(),
            Action::Stop => {
                if !self.broker.pause(DRAIN_LIMIT) {
                    let remarks = "warning: some copies still wait for their tools\n".to_owned();
                    return Reply { remarks, ..Reply::done("") };
                }
            }
            Action::Show(what) => return Reply::done(self.show(what)),
            Action::ClearStats => self.broker.clear_stats(),
            Action::Quit => self.is_quit = true,
        }
        Reply::done("")
    }

    fn set_drained(&mut self, tool: &str, is_drained: bool) -> Reply {
        match self.broker.set_drained(tool, is_drained) {
            Ok(()) if is_drained => {
                Reply::done(format!("tool {tool} is drained: its flows go elsewhere\n"))
            }
            Ok(()) => Reply::done(format!("tool {tool} is in service\n")),
            Err(error) => Reply::failed(format!("error: {error}\n")),
        }
    }

    fn show(&self, what: Show) -> String {
        let tables = |table: fn(&Snapshot) -> String| table(&self.broker.snapshot());
        match what {
            Show::Ports => tables(table::ports),
            Show::Tools => tables(table::tools),
            Show::Rules => tables(table::rules),
            Show::Lcores => tables(table::lcores),
            Show::Stats => tables(|snapshot| table::summary(snapshot, table::When::Running)),
            Show::Groups => tables(table::groups),
            Show::Wires => tables(table::wires),
            Show::Filters => describe::filters(self.broker.plan()),
            Show::Plan => describe::plan(self.broker.plan()),
            Show::Config => tapline_lang::text(&self.pipeline.parsed().file),
        }
    }

    /// Stops the broker, and judges the run, which ended as `end` says. Why it failed is among the [`events`](Self::events) afterwards.
    pub fn end(&mut self, end: End) -> Outcome {
        let reply = ended();
        let given_up = self.give_up(&reply, |_| true).into_iter();
        let mut replies: Vec<(Ticket, Reply)> = given_up.map(|ticket| (ticket, reply.clone())).collect();
        let stopped = self.broker.stop();
        self.audit.run("stop", &self.versions.history().current().hash);
        let events = self.audit.end().into_iter().chain(self.versions.end());
        events.for_each(|event| self.broker.record(event));
        // the folder takes nothing more: what waited for it is answered
        let mut tick = Tick::default();
        self.give_held(&mut tick);
        replies.append(&mut tick.replies);
        if let End::Ending(ending) = end {
            self.broker.judge_replays(ending);
        }
        let last = self.next_snapshot();
        let is_well = stopped.is_ok()
            && self.broker.failures().is_empty()
            && last.balanced
            && matches!(end, End::Ending(_));
        if let Err(error) = stopped {
            self.broker.record(Event::EndFailed { error: error.to_string() });
        }
        if !last.balanced {
            self.broker.record(Event::OutOfBalance {});
        }
        let alarms = self.broker.failures().iter().filter_map(Event::alarm).cloned().collect();
        Outcome { replies, last, alarms, is_well }
    }
}

impl Promised {
    /// Says whether a change may take effect as far as a restart is concerned.
    fn pass(&mut self, versions: &Versions, cause: &Cause) -> Passage {
        if matches!(self, Self::Nothing)
            && let Cause::Reload { reload: Reload { confirm: Some(limit), .. }, .. } = cause
            && let Some(writing) = versions.promise(*limit, clock::now_ns())
        {
            *self = Self::Waits(writing);
        }
        let Self::Waits(writing) = self else { return Passage::Free };
        match writing.look() {
            Kept::Waits => Passage::Waits,
            Kept::Done => {
                *self = Self::Done;
                Passage::Free
            }
            Kept::Not(why) => Passage::Closed(Reply::failed(format!(
                "error: a restart would not go back to the plan before, for that cannot be kept: {why}; the plan stays as it is\n"
            ))),
        }
    }
}

/// Lists the commands of the language for programs.
fn commands() -> Value {
    let all = tapline_lang::commands();
    let rows = all.iter().map(|command| {
        json!({ "words": command.words, "role": command.role, "usage": command.usage, "does": command.does })
    });
    rows.collect()
}

/// Says what was done to whoever asked for it; a `show` speaks for itself.
fn answered(action: Action, reply: Reply) -> Reply {
    let word = match action {
        Action::Start => "started\n",
        Action::Stop if reply.remarks.is_empty() => "stopped; everything was sent\n",
        Action::Stop => "stopped\n",
        Action::ClearStats => "statistics cleared\n",
        Action::Quit => "the broker ends\n",
        Action::Show(_) => "",
    };
    Reply { result: format!("{word}{}", reply.result), ..reply }
}

/// Returns the action that a command asks for, if it is one that a file may ask for, too.
fn action_of(command: &Command) -> Option<Action> {
    Some(match command {
        Command::Start => Action::Start,
        Command::Stop => Action::Stop,
        Command::Show(what) => Action::Show(*what),
        Command::ClearStats => Action::ClearStats,
        Command::Quit => Action::Quit,
        _ => return None,
    })
}
