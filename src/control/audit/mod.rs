//! The audit log: a record of each change that somebody asked for, of the start and the end of the broker, and of who showed a token.
//!
//! Records are written by a thread of their own, which may wait for a disk; the session asks whether one is written, and nothing of the
//! data path does. A change takes effect after its record is on the disk, where that is required.

/// Records and their chain.
pub mod chain;
/// The file.
mod file;
/// This is what a change goes through.
pub mod gate;
/// The head, in the folder of `--state`.
mod head;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::published::AuditState;
use super::state::State;
use crate::plan::access::AuditPlan;
use chain::Head;
use chain::sha256;
use file::AuditFile;
use head::HeadKeeper;
use tapline_api::access::Principal;
use tapline_api::event::Event;
use tapline_api::request::Reply;
use tapline_api::values::seconds;
use tapline_api::words::{ErrorKind, Role, Via};
use tapline_dpdk::clock;
use tapline_kernel::process;

/// Records that wait to be written; further ones are counted as lost.
const MOST_WAITING: usize = 1024;
/// Records that are written at once.
const MOST_AT_ONCE: usize = 64;
/// How long a record may take. A disk that takes longer is one that cannot be written.
const LIMIT: Duration = Duration::from_secs(2);
/// Records between two heads that are told.
const HEAD_EVERY: u64 = 256;
/// Bytes of a command that are kept.
const MOST_COMMAND_BYTES: usize = 4096;

/// The audit log of a broker, where it has one.
pub struct Audit {
    log: Option<Log>,
    broker: String,
}

struct Log {
    path: PathBuf,
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    events: Receiver<Event>,
    /// Nothing was written in time, and nobody has heard that it is again.
    is_late: bool,
}

/// This is what the session and the thread both know.
#[derive(Default)]
struct Shared {
    /// Since when the thread writes what it writes.
    busy_since: Mutex<Option<Instant>>,
    /// Records that had no room.
    lost: AtomicU64,
    /// The number of the last record that is written.
    written: AtomicU64,
    /// The last record could not be written.
    is_failing: AtomicBool,
}

struct Job {
    record: Map<String, Value>,
    answer: Sender<Result<u64, String>>,
}

/// A record on its way to the disk.
pub struct Pending {
    answer: Receiver<Result<u64, String>>,
    since: Instant,
}

/// How far a record is.
#[derive(Debug)]
pub enum Written {
    Waits,
    /// It has this number.
    Done(u64),
    /// It cannot be written.
    Not(String),
}

/// This is what somebody asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub by: Principal,
    /// The line, as it came.
    pub command: Vec<u8>,
    /// SHA-256 of the text of the plan in force.
    pub before: String,
    /// The same of the plan that it would be, where it is another.
    pub after: Option<String>,
}

impl Audit {
    /// Begins to write the log that a plan names. Its head is kept in `state`, where there is one.
    pub fn begin(plan: Option<&AuditPlan>, broker: &str, state: Option<Arc<State>>) -> Self {
        let log = plan.map(|plan| Log::begin(&plan.path, broker, state));
        Self { log, broker: broker.to_owned() }
    }

    /// Returns whether there is a log.
    pub fn is_on(&self) -> bool {
        self.log.is_some()
    }

    /// Records that a change is accepted, before it takes effect. `None` where there is no log.
    pub fn accept(&mut self, asked: &Asked) -> Option<Pending> {
        let record = self.asked("change", asked, "accepted");
        self.log.as_mut().map(|log| log.give(record))
    }

    /// Records the answer to what was asked for: a refusal, or the failure of a change whose record of being accepted is `of`.
    pub fn answered(&mut self, asked: &Asked, of: Option<u64>, reply: &Reply) {
        let Some(error) = reply.error else { return };
        let mut record = self.asked("change", asked, error.word());
        let first = reply.remarks.lines().next().unwrap_or_default();
        record.insert("error".to_owned(), json!(struck(first)));
        if let Some(seq) = of {
            record.insert("of".to_owned(), json!(seq));
        }
        self.log.iter_mut().for_each(|log| drop(log.give(record.clone())));
    }

    /// Records that somebody showed a token.
    pub fn signed_in(&mut self, by: &Principal, refusal: Option<&str>) {
        let mut record = members(&self.broker, "sign_in", by);
        let result = refusal.map_or("accepted", |_| ErrorKind::Forbidden.word());
        record.insert("result".to_owned(), json!(result));
        if let Some(why) = refusal {
            record.insert("error".to_owned(), json!(why));
        }
        self.log.iter_mut().for_each(|log| drop(log.give(record.clone())));
    }

    /// Records that the broker begins, or ends, with a plan of this hash.
    pub fn run(&mut self, kind: &'static str, plan: &str) {
        let by = of_command_line();
        let mut record = members(&self.broker, kind, &by);
        record.insert("after".to_owned(), json!(plan));
        record.insert("result".to_owned(), json!("accepted"));
        self.log.iter_mut().for_each(|log| drop(log.give(record.clone())));
    }

    fn asked(&self, kind: &str, asked: &Asked, result: &str) -> Map<String, Value> {
        let Asked { by, command, before, after } = asked;
        let mut record = members(&self.broker, kind, by);
        let text = String::from_utf8_lossy(command);
        let kept = text.trim().floor_char_boundary(MOST_COMMAND_BYTES);
        record.insert("command".to_owned(), json!(struck(&text.trim()[..kept])));
        if kept < text.trim().len() {
            record.insert("command_bytes".to_owned(), json!(command.len()));
            record.insert("command_sha256".to_owned(), json!(sha256(&[command])));
        }
        record.insert("before".to_owned(), json!(before));
        record.insert("after".to_owned(), json!(after.as_ref().unwrap_or(before)));
        record.insert("result".to_owned(), json!(result));
        record
    }

    /// Looks whether a record is written; one that takes too long is not.
    pub fn look(&mut self, pending: &Pending) -> Written {
        let Some(log) = &mut self.log else { return Written::Not("there is no log".to_owned()) };
        match pending.answer.try_recv() {
            Ok(Ok(seq)) => Written::Done(seq),
            Ok(Err(why)) => Written::Not(why),
            Err(TryRecvError::Disconnected) => {
                Written::Not("records wait already, or nothing writes them".to_owned())
            }
            // where the disk is stuck already, nobody else has to wait for it
            Err(TryRecvError::Empty) if pending.since.elapsed() < LIMIT && !log.is_stuck() => {
                Written::Waits
            }
            Err(TryRecvError::Empty) => {
                log.is_late = true;
                Written::Not(format!(
                    "{}: nothing was written for {} s",
                    log.path.display(),
                    LIMIT.as_secs()
                ))
            }
        }
    }

    /// Returns how the log is, if there is one.
    pub fn state(&self) -> Option<AuditState> {
        let log = self.log.as_ref()?;
        Some(AuditState {
            seq: log.shared.written.load(Ordering::Relaxed),
            is_stuck: log.is_late || log.shared.is_failing.load(Ordering::Relaxed),
        })
    }

    /// Takes what happened to the log since the last time.
    pub fn events(&mut self) -> Vec<Event> {
        self.log.as_mut().map(Log::take_events).unwrap_or_default()
    }

    /// Ends the log: waits, not for long, until all is written.
    pub fn end(&mut self) -> Vec<Event> {
        let Some(mut log) = self.log.take() else { return Vec::new() };
        let until = Instant::now() + LIMIT;
        let Log { jobs, events, .. } = &mut log;
        // the thread ends when nobody can give it more, and its events with it
        let (nobody, _) = sync_channel(0);
        drop(std::mem::replace(jobs, nobody));
        let mut all = Vec::new();
        while let Ok(event) = events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            all.push(event);
        }
        all
    }
}

impl Log {
    /// If there is no thread for it, nothing is ever written.
    fn begin(path: &Path, broker: &str, state: Option<Arc<State>>) -> Self {
        let (jobs, given) = sync_channel::<Job>(MOST_WAITING);
        let (tell, events) = channel();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            file: AuditFile::at(path),
            path: path.display().to_string(),
            broker: broker.to_owned(),
            shared: Arc::clone(&shared),
            events: tell.clone(),
            told: 0,
            is_failing: false,
            keeper: state.map(|state| HeadKeeper::of(state, path)),
        };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        if let Err(error) = thread.spawn(move || writer.write(&given)) {
            let error = format!("there is no thread to write on: {error}");
            // the other end is below
            let _ = tell.send(Event::AuditFailed { path: path.display().to_string(), error });
        }
        Self { path: path.to_owned(), jobs, shared, events, is_late: false }
    }

    fn give(&mut self, record: Map<String, Value>) -> Pending {
        let (answer, pending) = channel();
        match self.jobs.try_send(Job { record, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Pending { answer: pending, since: Instant::now() }
    }

    fn is_stuck(&self) -> bool {
        self.shared.busy_since().is_some_and(|since| since.elapsed() >= LIMIT)
    }

    fn take_events(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = self.events.try_iter().collect();
        if self.is_late && self.shared.busy_since().is_none() {
            self.is_late = false;
            let path = self.path.display().to_string();
            events.push(Event::AuditResumed { path });
        } else if self.is_stuck() && !self.is_late {
            self.is_late = true;
            let error = format!("nothing was written for {} s", LIMIT.as_secs());
            events.push(Event::AuditFailed { path: self.path.display().to_string(), error });
        }
        events
    }
}

impl Shared {
    /// The time is whole between any two statements.
    fn busy_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This is what writes the log.
struct Writer {
    file: AuditFile,
    path: String,
    broker: String,
    shared: Arc<Shared>,
    events: Sender<Event>,
    /// The number of the last head that was told.
    told: u64,
    is_failing: bool,
    keeper: Option<HeadKeeper>,
}

impl Writer {
    /// Writes what it is given until nobody gives any more, and tells the last head.
    fn write(&mut self, given: &Receiver<Job>) {
        if let Some(keeper) = &mut self.keeper {
            let (head, damage) = keeper.read();
            self.file.expect(head);
            // the session is gone where nobody hears it
            damage.into_iter().for_each(|event| drop(self.events.send(event)));
        }
        while let Ok(first) = given.recv() {
            let jobs: Vec<Job> =
                std::iter::once(first).chain(given.try_iter().take(MOST_AT_ONCE - 1)).collect();
            *self.shared.busy_since() = Some(Instant::now());
            self.write_all(jobs);
            *self.shared.busy_since() = None;
            if self.file.head().seq >= self.told + HEAD_EVERY {
                self.tell_head();
            }
        }
        self.tell_head();
    }

    fn write_all(&mut self, jobs: Vec<Job>) {
        let (records, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.record, job.answer)).unzip();
        let count = records.len() as u64;
        self.file.lost += self.shared.lost.swap(0, Ordering::Relaxed);
        let broker = self.broker.clone();
        let common = || members(&broker, "gap", &of_command_line());
        let written = self.file.append(common, records).map_err(|error| format!("{}: {error}", self.path));
        if let Some(Head { seq: record, hash }) = self.file.missing.take() {
            let _ = self.events.send(Event::AuditCut { path: self.path.clone(), record, hash });
        }
        if let Some(keeper) = self.keeper.as_mut().filter(|_| written.is_ok()) {
            keeper.keep(self.file.head()).into_iter().for_each(|event| drop(self.events.send(event)));
        }
        let first = (self.file.head().seq + 1).saturating_sub(count);
        for (number, answer) in answers.iter().enumerate() {
            let result = written.clone().map(|()| first + number as u64);
            // whoever does not wait has no use for it
            let _ = answer.send(result);
        }
        self.shared.written.store(self.file.head().seq, Ordering::Relaxed);
        self.shared.is_failing.store(written.is_err(), Ordering::Relaxed);
        // the session is gone where nobody hears it
        let _ = match (written, self.is_failing) {
            (Err(error), false) => {
                self.is_failing = true;
                let error = error.strip_prefix(&format!("{}: ", self.path)).unwrap_or(&error).to_owned();
                self.events.send(Event::AuditFailed { path: self.path.clone(), error })
            }
            (Ok(()), true) => {
                self.is_failing = false;
                self.events.send(Event::AuditResumed { path: self.path.clone() })
            }
            _ => Ok(()),
        };
    }

    fn tell_head(&mut self) {
        let head = self.file.head();
        if head.seq > self.told {
            self.told = head.seq;
            let head =
                Event::AuditHead { path: self.path.clone(), record: head.seq, hash: head.hash.clone() };
            let _ = self.events.send(head);
        }
    }
}

/// Whoever runs the broker.
fn of_command_line() -> Principal {
    let uid = process::own_uid();
    Principal {
        user: process::user_name(uid),
        uid: Some(uid),
        via: Via::CommandLine,
        role: Role::Admin,
        has_peek: true,
    }
}

/// This is what each record says first.
fn members(broker: &str, kind: &str, by: &Principal) -> Map<String, Value> {
    let Principal { user, uid, via, role, has_peek: _ } = by;
    let members = [
        ("time", json!(seconds(clock::now_ns()))),
        ("boot", json!(boot_id())),
        ("broker", json!(broker)),
        ("kind", json!(kind)),
        ("actor", json!({ "user": user, "uid": uid, "via": via })),
        ("role", json!(role)),
    ];
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The kernel's name for the time since the machine was started: random(4).
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Strikes out what nobody else is to read: tokens, and values of keys that are named so.
fn struck(text: &str) -> String {
    const SECRETS: [&str; 5] = ["password=", "passwd=", "secret=", "token=", "key="];
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '"' | ';');
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_begun = out.chars().next_back().is_some_and(is_of_token);
        let secret = SECRETS
            .into_iter()
            .find(|key| rest.get(..key.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(key)));
        let token = rest.find(|c| !is_of_token(c)).unwrap_or(rest.len());
        if !is_begun && rest.starts_with(crate::control::tokens::PREFIX) && token > 16 {
            out += "***";
            rest = &rest[token..];
        } else if let Some(key) = secret {
            out += &rest[..key.len()];
            out += "***";
            rest = &rest[key.len()..];
            rest = &rest[rest.find(ends).unwrap_or(rest.len())..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use chain::Verifier;

    fn written(audit: &mut Audit, pending: &Pending) -> Result<u64, String> {
        loop {
            match audit.look(pending) {
                Written::Waits => std::thread::sleep(Duration::from_millis(1)),
                Written::Done(seq) => return Ok(seq),
                Written::Not(why) => return Err(why),
            }
        }
    }

    fn asked(command: &[u8]) -> Asked {
        let by = Principal::at_prompt(7);
        Asked { by, command: command.to_owned(), before: "b".into(), after: Some("a".into()) }
    }

    #[test]
    fn records_say_who_asked_for_what_and_heads_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = AuditPlan { path: folder.path().join("audit.jsonl"), mode: None };
        let mut audit = Audit::begin(Some(&plan), "edge", None);
        let begun = seconds(clock::now_ns());
        for n in 1..=300 {
            let pending = audit.accept(&asked(b" rule destroy 7 ")).expect("a log");
            assert_eq!(written(&mut audit, &pending), Ok(n));
        }
        audit.answered(&asked(b"quit"), Some(300), &Reply::failed("error: no\nmore"));
        audit.answered(&asked(b"quit"), None, &Reply::done("it is none of the log's"));
        let events = audit.end();
        let heads: Vec<u64> = events
            .iter()
            .map(|event| match event {
                Event::AuditHead { record, .. } => *record,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(heads, [256, 301]);
        let text = std::fs::read_to_string(&plan.path).expect("a log");
        let Some(Event::AuditHead { record, hash, .. }) = events.last() else { panic!("a head") };
        let mut verifier = Verifier::new(Some(format!("{record}:{hash}").parse().expect("a head")));
        verifier.file("log", text.as_bytes()).expect("memory").expect("a chain");
        assert_eq!(verifier.end().expect("a head").map(|(first, head)| (first, head.seq)), Some((1, 301)));
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let first = &records[0];
        assert_eq!(first["actor"], json!({ "user": "prompt", "uid": 7, "via": "prompt" }));
        assert_eq!((&first["command"], &first["result"]), (&json!("rule destroy 7"), &json!("accepted")));
        assert_eq!(
            (&first["before"], &first["after"], &first["role"]),
            (&json!("b"), &json!("a"), &json!("admin"))
        );
        assert!(first["time"].as_f64().expect("a time") >= begun && first["broker"] == "edge");
        let last = &records[300];
        assert_eq!(
            (&last["result"], &last["of"], &last["error"]),
            (&json!("failed"), &json!(300), &json!("error: no"))
        );
    }

    #[test]
    fn what_cannot_be_written_is_said_once_and_so_is_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = AuditPlan { path: folder.path().join("missing/log"), mode: None };
        let mut audit = Audit::begin(Some(&plan), "edge", None);
        for _ in 0..3 {
            let pending = audit.accept(&asked(b"quit")).expect("a log");
            assert!(written(&mut audit, &pending).expect_err("no folder").contains("missing/log"));
        }
        std::fs::create_dir(folder.path().join("missing")).expect("a folder");
        let pending = audit.accept(&asked(b"quit")).expect("a log");
        // behind the record of the gap
        assert_eq!(written(&mut audit, &pending), Ok(2));
        let kinds: Vec<&str> = audit.end().iter().map(Event::kind).collect();
        assert_eq!(kinds, ["audit_failed", "audit_resumed", "audit_head"]);
    }

    #[test]
    fn without_a_log_nothing_is_waited_for() {
        let mut audit = Audit::begin(None, "edge", None);
        assert!(audit.accept(&asked(b"quit")).is_none() && !audit.is_on());
        audit.run("stop", "x");
        assert!(audit.events().is_empty() && audit.end().is_empty());
    }

    #[test]
    fn secrets_are_struck_out_and_long_commands_are_named_by_their_hash() {
        for (text, expected) in [
            ("x tl_0123456789abcdefABCDEF y", "x *** y"),
            ("tl_short atl_0123456789abcdefABCDEF", "tl_short atl_0123456789abcdefABCDEF"),
            ("port attach a \"net_x,KEY=abc,b=1\" rxq 2", "port attach a \"net_x,KEY=***,b=1\" rxq 2"),
            ("password=ä", "password=***"),
            ("ä key", "ä key"),
        ] {
            assert_eq!(struck(text), expected);
        }
        let audit = Audit { log: None, broker: String::new() };
        let long = "ä".repeat(5000);
        let record = audit.asked("change", &asked(long.as_bytes()), "accepted");
        assert_eq!(record["command"].as_str().map(str::len), Some(4096));
        assert_eq!(record["command_bytes"], 10000);
        assert_eq!(record["command_sha256"], sha256(&[long.as_bytes()]));
    }
}
