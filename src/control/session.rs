//! The session: it owns a running broker, answers requests one after another, and keeps the broker's time.
//!
//! [`Session::handle`] answers what changes nothing at once. A change of the plan is answered by [`Session::tick`], which is called
//! every few milliseconds; a change waits for its turn while another is on its way. Nothing here waits for a file or a reader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::change::{Pipeline, Planning, Progress, Submitted, Typed};
use crate::broker::{Broker, DRAIN_LIMIT, Ending};
use crate::plan::describe;
use crate::plan::value::Action;
use crate::report::events::Events;
use crate::report::table;
use tapline_api::access::Principal;
use tapline_api::event::{Alarm, Event};
use tapline_api::request::{Reply, Request};
use tapline_api::snapshot::Snapshot;
use tapline_api::words::Get;
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
    /// The run is to end.
    pub end: Option<End>,
}

/// Why a run is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Ending(Ending),
    /// A worker did not stay at work.
    WorkerLost,
}

/// The outcome of a run.
pub struct Outcome {
    /// The last statistics.
    pub last: Snapshot,
    /// The alarms that made it fail, which may have been raised long before its end.
    pub alarms: Vec<Alarm>,
    /// Nothing went wrong.
    pub is_well: bool,
}

/// A running broker and the commands in force.
pub struct Session {
    /// What the broker is called.
    name: String,
    /// Statistics that clients were given so far.
    snapshots: u64,
    pipeline: Pipeline,
    broker: Broker,
    /// A change of the plan that is on its way.
    current: Option<(Ticket, Planning)>,
    /// Changes that wait for their turn.
    waiting: VecDeque<Waiting>,
    tickets: u64,
    limits: Limits,
    started: Instant,
    quiet: Quiet,
    is_quit: bool,
    /// Somebody may yet say `start`.
    is_attended: bool,
}

/// A line that waits for the change before it.
struct Waiting {
    ticket: Ticket,
    line: Vec<u8>,
    by: Principal,
    is_dry_run: bool,
}

/// Since when no packet came.
struct Quiet {
    received: u64,
    /// The start of idleness, by the time in which workers had their CPUs: a worker without a CPU receives nothing, and the run is
    /// not idle for it.
    since: Duration,
}

impl Session {
    /// Takes over a broker that is called `name` and waits to begin; somebody may send requests where it `is_attended`.
    pub fn new(
        name: String,
        broker: Broker,
        pipeline: Pipeline,
        limits: Limits,
        is_attended: bool,
    ) -> Self {
        let quiet = Quiet { received: 0, since: broker.worked() };
        Self {
            name,
            snapshots: 0,
            pipeline,
            broker,
            current: None,
            waiting: VecDeque::new(),
            tickets: 0,
            limits,
            started: Instant::now(),
            quiet,
            is_quit: false,
            is_attended,
        }
    }

    /// Does what the file asks for once everything is set up; packets are received from then on.
    pub fn begin(&mut self, actions: &[Action]) -> Reply {
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
        self.current.is_some()
    }

    /// Answers a request, or gives a ticket for its answer.
    pub fn handle(&mut self, by: &Principal, request: Request) -> Answer {
        match request {
            Request::Line { text, is_dry_run } => self.handle_line(by, text, is_dry_run),
            Request::Get { what, since } => Answer::Now(self.get(what, since)),
            Request::Complete { .. } => Answer::Now(Reply::done("")),
        }
    }

    fn handle_line(&mut self, by: &Principal, line: Vec<u8>, is_dry_run: bool) -> Answer {
        if super::names_a_file(&line) {
            return self.queue(line, by, is_dry_run);
        }
        match self.pipeline.read(&line, by) {
            // it is read again in its turn, after the changes before it
            Ok(Typed::Change(_)) if self.current.is_some() => self.queue(line, by, is_dry_run),
            Ok(Typed::Change(change)) => {
                match Planning::of_change(change, Arc::clone(self.broker.plan()), is_dry_run) {
                    Ok(planning) => {
                        let ticket = self.ticket();
                        self.current = Some((ticket, planning));
                        Answer::Later(ticket)
                    }
                    Err(refusal) => Answer::Now(refusal),
                }
            }
            Ok(Typed::Others(..)) if is_dry_run => Answer::Now(Reply::done("")),
            Ok(Typed::Others(commands, variables)) => {
                self.pipeline.define(variables);
                Answer::Now(self.carry_out(commands))
            }
            Err(refusal) => Answer::Now(refusal),
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
            Get::Plan => Ok(json!({ "text": describe::plan(self.broker.plan()) })),
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

    /// Takes the statistics as they are, as JSON.
    pub fn stats_value(&mut self) -> Value {
        let snapshot = self.broker.snapshot();
        // numbers, names and words always have a form
        self.stats(&snapshot).unwrap_or_default()
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

    fn queue(&mut self, line: Vec<u8>, by: &Principal, is_dry_run: bool) -> Answer {
        let ticket = self.ticket();
        self.waiting.push_back(Waiting { ticket, line, by: by.clone(), is_dry_run });
        Answer::Later(ticket)
    }

    /// Gives up a change of which nothing is in force yet, and returns the answer to it.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<Reply> {
        let is_it =
            |(current, planning): &mut (Ticket, Planning)| *current == ticket && planning.is_planned();
        if let Some((_, planning)) = self.current.take_if(is_it) {
            return Some(planning.give_up());
        }
        let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        self.waiting.remove(place);
        Some(super::change::given_up())
    }

    /// Keeps the broker's time: to be called every few milliseconds.
    pub fn tick(&mut self) -> Tick {
        let mut tick = Tick::default();
        self.go_on_with_changes(&mut tick);
        self.broker.watch();
        tick.end = self.end_due();
        let lost = self.broker.lost_workers().first().map(|lcore| lcore.0);
        if let Some(lcore) = lost {
            self.broker.record(Event::WorkerLost { lcore });
            tick.end = Some(End::WorkerLost);
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
        if let Some((ticket, planning)) = &mut self.current {
            let ticket = *ticket;
            let reply = match planning.advance(&mut self.broker, &mut self.pipeline) {
                Progress::Waits(line) => {
                    tick.progress = line;
                    return;
                }
                Progress::InForce(reply) => reply,
                Progress::Others(commands) => self.carry_out(commands),
                Progress::Refused(reply) => reply,
            };
            self.current = None;
            tick.replies.push((ticket, reply));
        }
        while self.current.is_none()
            && let Some(Waiting { ticket, line, by, is_dry_run }) = self.waiting.pop_front()
        {
            match Planning::of_line(
                &self.pipeline,
                Submitted { line, by, is_dry_run },
                Arc::clone(self.broker.plan()),
            ) {
                Ok(planning) => self.current = Some((ticket, planning)),
                Err(refusal) => tick.replies.push((ticket, refusal)),
            }
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Reply {
        commands.iter().fold(Reply::done(""), |reply, command| {
            let next = match (action_of(command), command) {
                (Some(action), _) => self.act(action),
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
            Ok(()) => Reply::done(""),
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
        let ended = self.broker.stop();
        if let End::Ending(ending) = end {
            self.broker.judge_replays(ending);
        }
        let last = self.broker.snapshot();
        let is_well =
            ended.is_ok() && self.broker.failures().is_empty() && last.balanced && end != End::WorkerLost;
        if let Err(error) = ended {
            self.broker.record(Event::EndFailed { error: error.to_string() });
        }
        if !last.balanced {
            self.broker.record(Event::OutOfBalance {});
        }
        let alarms = self.broker.failures().iter().filter_map(Event::alarm).cloned().collect();
        Outcome { last, alarms, is_well }
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
