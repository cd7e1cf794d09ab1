//! Reloads: a whole file takes the place of the running plan, with a receipt; it may have to be confirmed, and goes back if it is not.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::archive::{Archive, Promise, Record, Writing};
use super::change::{Taken, ms};
use super::compare::Compared;
use super::history::{History, Source, Version};
use super::receipt::{By, Confirm, Lost, Outcome, Receipt, SCHEMA, time};
use tapline_api::access::Principal;
use tapline_api::event::Event;
use tapline_api::request::Reply;
use tapline_api::snapshot::Snapshot;
use tapline_api::words::ErrorKind;
use tapline_lang::ast::session::{Guard, Guarded, Reload, SessionCommand};

/// The text that a broker was started from.
#[derive(Clone, Default, Debug)]
pub struct Origin {
    /// The pipeline file; `None` for a pipe, which can be read once.
    pub path: Option<PathBuf>,
    /// `--set NAME=VALUE`.
    pub sets: Vec<(String, String)>,
    /// Files that the command line has written, by flag.
    pub outputs: Vec<(&'static str, PathBuf)>,
}

/// The cause of a change.
#[derive(Clone, Debug)]
pub enum Cause {
    /// Somebody gave commands.
    Commands,
    /// Somebody gave commands that leave the plan as it is.
    Orders,
    /// Somebody loads a file.
    Reload { path: PathBuf, reload: Reload },
    /// Somebody, a timer or a guard goes back.
    Rollback { to: u32, why: String },
}

impl Cause {
    /// Says the command that brings the plan, as the audit log shows it.
    pub fn command(&self) -> String {
        match self {
            Cause::Commands | Cause::Orders => String::new(),
            Cause::Reload { path, reload } => {
                let file = Some(path.display().to_string());
                SessionCommand::Reload(Reload { file, ..reload.clone() }).to_string()
            }
            Cause::Rollback { to, why } => format!("rollback {to} # {why}"),
        }
    }

    /// Says what brings the plan, as the history shows it.
    fn origin(&self) -> String {
        match self {
            Cause::Commands | Cause::Orders => "commands".to_owned(),
            Cause::Reload { path, .. } => path.display().to_string(),
            Cause::Rollback { to, why } => format!("rollback to {to}, {why}"),
        }
    }
}

/// A plan that goes back unless it is confirmed.
struct Pending {
    id: u32,
    back_to: u32,
    until: Instant,
    /// The same in ns since the Unix epoch.
    until_ns: u64,
    /// The guard, and its count when the plan came into force.
    guard: Option<(Guard, u64)>,
    hash: String,
}

/// The plans that were in force, and the one that waits to be confirmed.
pub struct Versions {
    history: History,
    pending: Option<Pending>,
    last: Option<Receipt>,
    reloads: u64,
    /// The history is kept beyond the end of the broker.
    archive: Option<Archive>,
}

/// A step from one plan of the history to the next.
struct Step {
    result: Outcome,
    id: u32,
    before: Version,
}

/// The moment of a change, and whose broker it is.
pub struct Scene<'a> {
    pub broker: &'a str,
    pub by: &'a Principal,
    pub now_ns: u64,
}

impl Scene<'_> {
    fn source(&self, cause: &Cause) -> Source {
        let (by, via, time_ns) = (self.by.to_string(), self.by.via, self.now_ns);
        Source { by, via, origin: cause.origin(), time_ns }
    }
}

impl From<&Pending> for Promise {
    fn from(pending: &Pending) -> Self {
        Self { id: pending.id, back_to: pending.back_to, until_ns: pending.until_ns }
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Versions {
    pub fn new(history: History, archive: Option<Archive>) -> Self {
        Self { history, pending: None, last: None, reloads: 0, archive }
    }

    /// Begins to write what the next start has to know, where that is kept.
    pub fn keep(&self) -> Option<Writing> {
        let pending = self.pending.as_ref().map(Promise::from);
        self.archive.as_ref().map(|archive| archive.keep(Record { pending, ..self.history.record() }))
    }

    /// Begins to write that the plan which is about to come into force goes back, unless it is confirmed within `limit` from `now_ns` on.
    pub fn promise(&self, limit: Duration, now_ns: u64) -> Option<Writing> {
        let settled = || (self.history.next(), self.history.current().id);
        // the same plan once more gets more time
        let (id, back_to) = self.pending.as_ref().map_or_else(settled, |known| (known.id, known.back_to));
        let pending = Some(Promise { id, back_to, until_ns: now_ns.saturating_add(ns(limit)) });
        self.archive.as_ref().map(|archive| archive.keep(Record { pending, ..self.history.record() }))
    }

    /// Takes what happened to the folder that the history is kept in.
    pub fn events(&self) -> Vec<Event> {
        self.archive.as_ref().map(Archive::events).unwrap_or_default()
    }

    /// Keeps the history for the last time.
    pub fn end(&mut self) -> Vec<Event> {
        self.keep();
        self.archive.take().map(Archive::end).unwrap_or_default()
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns the last receipt.
    pub fn last(&self) -> Option<&Receipt> {
        self.last.as_ref()
    }

    /// Notes a change that is in force, and answers who asked for it.
    pub fn note(&mut self, cause: &Cause, taken: Taken, scene: &Scene<'_>) -> Reply {
        let before = self.history.current().clone();
        let id = if taken.changes.is_empty() && taken.text == before.text {
            before.id
        } else {
            self.history.add(taken.text.clone(), scene.source(cause))
        };
        let Some(facts) = &taken.facts else { return taken.reply };
        if let Cause::Reload { reload, .. } = cause {
            self.history.load(taken.text.clone());
            self.await_confirm(id, &before, reload, (scene.now_ns, &facts.after));
        }
        self.answer(Step { result: Outcome::Done, id, before }, cause, taken, scene)
    }

    /// Answers who asked for a dry run.
    pub fn rehearse(&mut self, cause: &Cause, taken: Taken, scene: &Scene<'_>) -> Reply {
        let before = self.history.current().clone();
        let id = self.history.next();
        if taken.facts.is_none() {
            return match taken.changes.as_slice() {
                [] => taken.reply.and(Reply::done("nothing would change\n")),
                changes => {
                    let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
                    taken.reply.and(Reply::done(lines))
                }
            };
        }
        self.answer(Step { result: Outcome::DryRun, id, before }, cause, taken, scene)
    }

    fn answer(&mut self, step: Step, cause: &Cause, taken: Taken, scene: &Scene<'_>) -> Reply {
        let Step { result, id, before } = step;
        let Some(facts) = taken.facts else { return taken.reply };
        self.reloads += 1;
        let is_done = result == Outcome::Done;
        let mut receipt = Receipt {
            schema: SCHEMA,
            time: time(scene.now_ns),
            broker: scene.broker.to_owned(),
            seq: self.reloads,
            id,
            before: before.hash,
            after: crate::plan::identity::plan_hash(&taken.text),
            by: By::of(scene.by),
            result,
            planned_ms: ms(taken.planned),
            swapped_us: taken.swapped.as_nanos() as f64 / 1e3,
            paused_us: taken.paused.as_nanos() as f64 / 1e3,
            retired_ms: ms(facts.retired),
            objects: facts.objects,
            state: facts.state,
            moved: facts.moved,
            lost: if is_done { Lost::between(&facts.before, &facts.after) } else { Lost::default() },
            balanced: facts.after.balanced,
            confirm: self
                .pending
                .as_ref()
                .filter(|pending| is_done && pending.id == id)
                .map(|pending| Confirm { until: time(pending.until_ns), rollback_to: pending.back_to }),
            text: String::new(),
            remarks: taken.reply.remarks.clone(),
        };
        let text = receipt.of_people(&cause.origin());
        receipt.text.clone_from(&text);
        // numbers, names and words always have a form
        let value = serde_json::to_string(&receipt).unwrap_or_default();
        if is_done {
            self.last = Some(receipt);
        }
        taken.reply.and(Reply { value: Some(value), ..Reply::done(text) })
    }

    fn await_confirm(&mut self, id: u32, before: &Version, reload: &Reload, at: (u64, &Snapshot)) {
        let (now_ns, statistics) = at;
        let Some(limit) = reload.confirm else { return };
        // the same file once more gives it more time
        let back_to = self.pending.as_ref().map_or(before.id, |pending| pending.back_to);
        let guard = reload.guard.map(|guard| (guard, counted(guard.of, statistics)));
        self.pending = Some(Pending {
            id,
            back_to,
            until: Instant::now() + limit,
            until_ns: now_ns.saturating_add(ns(limit)),
            guard,
            hash: self.history.current().hash.clone(),
        });
    }

    /// Refuses a change while a plan waits to be confirmed, unless it is the same plan once more.
    ///
    /// # Errors
    /// The answer to who asked for the change.
    pub fn check_pending(&self, now: Instant) -> Result<(), Reply> {
        let Some(Pending { id, until, back_to, .. }) = &self.pending else { return Ok(()) };
        let left = until.saturating_duration_since(now).as_secs_f64();
        Err(Reply::error(
            ErrorKind::ConfirmPending,
            format!(
                "error: plan {id} waits to be confirmed for another {left:.0} s; say `confirm {id}` or `rollback {back_to}` first\n"
            ),
        ))
    }

    /// Returns the hash of the plan that waits to be confirmed.
    pub fn pending_hash(&self) -> Option<&str> {
        self.pending.as_ref().map(|pending| pending.hash.as_str())
    }

    /// Keeps the plan that waits to be confirmed; a dry run says which it is.
    pub fn confirm(&mut self, id: Option<u32>, is_dry_run: bool) -> Reply {
        let Some(Pending { id: waits, .. }) = self.pending else {
            return Reply::failed("error: no plan waits to be confirmed\n");
        };
        if id.is_some_and(|id| id != waits) {
            return Reply::failed(format!("error: plan {waits} waits to be confirmed, not that one\n"));
        }
        let (result, would_be) = if is_dry_run { ("dry_run", "would be") } else { ("confirmed", "is") };
        if !is_dry_run {
            self.pending = None;
        }
        let text = format!("plan {waits} {would_be} confirmed\n");
        let value = json!({ "id": waits, "result": result, "text": text });
        Reply { value: Some(value.to_string()), ..Reply::done(text) }
    }

    /// Finds the plan to go back to: the one of this number, else the one before the pending plan, or before the one in force.
    ///
    /// # Errors
    /// There is none.
    pub fn target(&self, id: Option<u32>) -> Result<&Version, Reply> {
        let found = match (id, &self.pending) {
            (Some(id), _) => self.history.get(id),
            (None, Some(pending)) => self.history.get(pending.back_to),
            (None, None) => self.history.before(),
        };
        found.ok_or_else(|| {
            let which =
                id.map_or("no plan before this one is".to_owned(), |id| format!("plan {id} is not"));
            Reply::failed(format!("error: {which} kept in the history; `show history` lists them\n"))
        })
    }

    /// The plan that waited is given up.
    pub fn forget_pending(&mut self) {
        self.pending = None;
    }

    /// Returns why the plan that waits to be confirmed has to go back by now, and to which.
    pub fn overdue(&self, now: Instant, counts: impl FnOnce() -> Snapshot) -> Option<(u32, String)> {
        let pending = self.pending.as_ref()?;
        if now >= pending.until {
            return Some((pending.back_to, "it was not confirmed in time".to_owned()));
        }
        let (guard, base) = pending.guard?;
        let count = counted(guard.of, &counts()).saturating_sub(base);
        let what = match guard.of {
            Guarded::Loss => "packets were lost",
            Guarded::Drops => "copies were dropped",
        };
        (count > guard.most).then(|| (pending.back_to, format!("{count} {what}, above {}", guard.most)))
    }
}

/// Adds a line to what is remarked, and to the object for programs, too.
pub fn remarked(mut reply: Reply, line: &str) -> Reply {
    reply.remarks += line;
    let value = reply.value.as_ref().and_then(|value| serde_json::from_str(value).ok());
    if let Some(Value::Object(mut fields)) = value {
        let known = fields.get("remarks").and_then(Value::as_str).unwrap_or_default();
        fields.insert("remarks".to_owned(), json!(format!("{known}{line}")));
        reply.value = Some(Value::Object(fields).to_string());
    }
    reply
}

/// Adds to the answer to a dry run what becomes of the packets of a capture: `diff` in the object for programs, lines in the text.
pub(super) fn with_comparison(mut reply: Reply, compared: Result<Compared, String>) -> Reply {
    let Compared { value, text } = match compared {
        Ok(compared) => compared,
        Err(why) => return reply.and(Reply::failed(format!("error: packets were not compared: {why}\n"))),
    };
    let lines: String = text.lines().map(|line| format!("  {line}\n")).collect();
    reply.result += &lines;
    let receipt = reply.value.as_ref().and_then(|value| serde_json::from_str(value).ok());
    if let Some(Value::Object(mut fields)) = receipt {
        let known = fields.get("text").and_then(Value::as_str).unwrap_or_default();
        fields.insert("text".to_owned(), json!(format!("{known}{lines}")));
        fields.insert("diff".to_owned(), value);
        reply.value = Some(Value::Object(fields).to_string());
    }
    reply
}

/// Counts what a guard counts.
fn counted(of: Guarded, snapshot: &Snapshot) -> u64 {
    match of {
        Guarded::Loss => {
            let ports = snapshot.ports.iter().map(|(_, port)| &port.driver);
            let lost: u64 = ports.map(|driver| driver.missed + driver.rx_errors + driver.no_mbuf).sum();
            lost + snapshot.packets.failed
        }
        Guarded::Drops => snapshot.copies.dropped.total(),
    }
}

/// How often the guard of a pending plan looks.
pub const GUARD_INTERVAL: Duration = Duration::from_millis(50);
