//! The history in the folder of `--state`: a file for each plan, and an index of them with the plan that waits to be confirmed.
//!
//! A plan's file is written before the index that names it, and each file is there whole or not at all: a crash at any moment leaves the
//! history before a change, or the one behind it. The session hands over what is to be kept; a thread of the archive waits for the disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::history::{MOST_VERSIONS, Version};
use super::state::State;
use crate::plan::identity::plan_hash;
use tapline_api::event::Event;
use tapline_api::words::Via;

/// The name and version of the index's form.
const SCHEMA: &str = "tapline.history/1";
const INDEX: &str = "history.json";
/// How long a record may take. A disk that takes longer is one that cannot be written.
const LIMIT: Duration = Duration::from_secs(2);
/// The greatest number of a plan that is believed: further ones have room behind it.
const GREATEST_ID: u32 = u32::MAX / 2;

/// The history as it is kept.
#[derive(Clone, Default, Debug)]
pub struct Record {
    /// The oldest first.
    pub versions: Vec<Arc<Version>>,
    /// The number of the last plan that there was.
    pub last: u32,
    pub pending: Option<Promise>,
}

/// A plan that waits to be confirmed, as the next start has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Promise {
    pub id: u32,
    /// The confirmed plan.
    pub back_to: u32,
    /// In ns since the Unix epoch.
    pub until_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct Index {
    schema: String,
    last: u32,
    pending: Option<Promise>,
    plans: Vec<Entry>,
}

/// A plan without its text.
#[derive(Serialize, Deserialize)]
struct Entry {
    id: u32,
    sha256: String,
    time_ns: u64,
    by: String,
    via: Via,
    origin: String,
}

/// Returns the name of a plan's file.
fn file_of(id: u32) -> String {
    format!("plan-{id}.pipe")
}

/// Returns the number of the plan whose file has this name.
fn id_of(name: &str) -> Option<u32> {
    name.strip_prefix("plan-")?.strip_suffix(".pipe")?.parse().ok()
}

/// Reads the history of a folder. What is damaged is left out, and an event says so.
pub fn read(state: &State) -> (Record, Vec<Event>) {
    let mut events = Vec::new();
    let index = match state.read(INDEX).and_then(|bytes| bytes.as_deref().map(parse).transpose()) {
        Ok(None) => return (Record::default(), events),
        Ok(Some(index)) => index,
        Err(error) => {
            events.push(state.set_aside(INDEX, &error));
            index_of_files(state)
        }
    };
    let mut record = Record { versions: Vec::new(), last: index.last, pending: index.pending };
    for entry in index.plans {
        match text_of(state, &entry) {
            Ok(text) => {
                let Entry { id, time_ns, by, via, origin, .. } = entry;
                let hash = plan_hash(&text);
                record.versions.push(Arc::new(Version { id, text, hash, time_ns, by, via, origin }));
            }
            Err(error) => events.push(state.set_aside(&file_of(entry.id), &error)),
        }
    }
    (record, events)
}

fn parse(bytes: &[u8]) -> io::Result<Index> {
    let index: Index = serde_json::from_slice(bytes)?;
    let is_ascending = index.plans.windows(2).all(|pair| pair[0].id < pair[1].id);
    let is_counted = index.plans.last().is_none_or(|last| last.id <= index.last);
    if index.schema != SCHEMA
        || !is_ascending
        || !is_counted
        || index.last > GREATEST_ID
        || index.plans.len() > MOST_VERSIONS
    {
        return Err(io::Error::other("it is no history"));
    }
    Ok(index)
}

fn text_of(state: &State, entry: &Entry) -> io::Result<String> {
    let bytes = state.read(&file_of(entry.id))?.ok_or(io::ErrorKind::NotFound)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    // the index was made of files, which had no hash
    if !entry.sha256.is_empty() && plan_hash(&text) != entry.sha256 {
        return Err(io::Error::other("it is not the text that was written"));
    }
    Ok(text)
}

/// Makes an index of the plans whose files are there.
fn index_of_files(state: &State) -> Index {
    let names = state.names();
    let ids = names.iter().filter_map(|name| id_of(name)).filter(|id| *id <= GREATEST_ID);
    let ids: Vec<u32> = ids.collect::<BTreeSet<u32>>().into_iter().collect();
    let entry = |&id: &u32| Entry {
        id,
        sha256: String::new(),
        time_ns: 0,
        by: "unknown".to_owned(),
        via: Via::CommandLine,
        origin: "the index of the history was damaged".to_owned(),
    };
    let plans = ids.iter().skip(ids.len().saturating_sub(MOST_VERSIONS)).map(entry).collect();
    Index { schema: SCHEMA.to_owned(), last: ids.last().copied().unwrap_or(0), pending: None, plans }
}

/// The history of a broker on its way to the disk.
pub struct Archive {
    shared: Arc<Shared>,
    events: Receiver<Event>,
}

/// This is what the session and the thread both know.
#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    rung: Condvar,
}

/// Tells whoever waits whether a history is written.
type Answer = Sender<Result<(), String>>;

/// The newest history; older ones that were not written yet need not be.
#[derive(Default)]
struct Slot {
    record: Option<Record>,
    waiting: Vec<Answer>,
    is_ended: bool,
}

/// A history that is being written.
pub struct Writing {
    answer: Receiver<Result<(), String>>,
    since: Instant,
}

/// How far it is.
#[derive(PartialEq, Eq, Debug)]
pub enum Kept {
    Waits,
    Done,
    /// It cannot be written.
    Not(String),
}

impl Writing {
    /// Looks whether it is written; what takes too long is not.
    pub fn look(&self) -> Kept {
        match self.answer.try_recv() {
            Ok(Ok(())) => Kept::Done,
            Ok(Err(why)) => Kept::Not(why),
            Err(TryRecvError::Disconnected) => Kept::Not("nothing writes there".to_owned()),
            Err(TryRecvError::Empty) if self.since.elapsed() < LIMIT => Kept::Waits,
            Err(TryRecvError::Empty) => Kept::Not(format!("nothing was written for {} s", LIMIT.as_secs())),
        }
    }
}

impl Archive {
    /// Begins to keep histories in a folder that has `known`.
    pub fn begin(state: Arc<State>, known: &Record) -> Self {
        let shared = Arc::new(Shared::default());
        let (tell, events) = channel();
        let (theirs, told) = (Arc::clone(&shared), tell.clone());
        let path = state.path().join(INDEX).display().to_string();
        let written = known.versions.iter().map(|version| version.id).collect();
        let mut writer = Writer { state, written, is_clean: false, is_failing: false, path, events: tell };
        let path = writer.path.clone();
        let thread = std::thread::Builder::new().name("history".to_owned());
        if let Err(error) = thread.spawn(move || writer.serve(&theirs)) {
            shared.slot().is_ended = true;
            let error = format!("there is no thread to write on: {error}");
            // the other end is below
            let _ = told.send(Event::StateFailed { path, error });
        }
        Self { shared, events }
    }

    /// Keeps a history in the place of the one before.
    pub fn keep(&self, record: Record) -> Writing {
        let (answer, pending) = channel();
        let mut slot = self.shared.slot();
        if !slot.is_ended {
            slot.record = Some(record);
            slot.waiting.push(answer);
            self.shared.rung.notify_one();
        }
        Writing { answer: pending, since: Instant::now() }
    }

    /// Takes what happened since the last time.
    pub fn events(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    /// Ends the archive: waits, not for long, until all is written.
    pub fn end(self) -> Vec<Event> {
        let until = Instant::now() + LIMIT;
        self.shared.slot().is_ended = true;
        self.shared.rung.notify_one();
        let mut all = Vec::new();
        // the thread's end is that of its events
        while let Ok(event) = self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            all.push(event);
        }
        all
    }
}

impl Shared {
    /// The slot is whole between any two statements.
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a history; `None` at the end.
    fn next(&self) -> Option<(Record, Vec<Answer>)> {
        let mut slot = self.slot();
        loop {
            if let Some(record) = slot.record.take() {
                return Some((record, std::mem::take(&mut slot.waiting)));
            }
            if slot.is_ended {
                return None;
            }
            slot = self.rung.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// This is what writes the history.
struct Writer {
    state: Arc<State>,
    /// The plans whose files are there.
    written: BTreeSet<u32>,
    /// Files that no index names were taken away.
    is_clean: bool,
    is_failing: bool,
    path: String,
    events: Sender<Event>,
}

impl Writer {
    fn serve(&mut self, shared: &Shared) {
        while let Some((record, waiting)) = shared.next() {
            let written = self.write(&record).map_err(|error| error.to_string());
            for answer in waiting {
                // whoever does not wait has no use for it
                let _ = answer.send(written.clone());
            }
            let path = self.path.clone();
            // the session is gone where nobody hears it
            let _ = match (written, self.is_failing) {
                (Err(error), false) => {
                    self.is_failing = true;
                    self.events.send(Event::StateFailed { path, error })
                }
                (Ok(()), true) => {
                    self.is_failing = false;
                    self.events.send(Event::StateResumed { path })
                }
                _ => Ok(()),
            };
        }
    }

    /// Writes what is not there yet, then the index, and takes away what the index does not name.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        for version in &record.versions {
            if !self.written.contains(&version.id) {
                self.state.write(&file_of(version.id), version.text.as_bytes())?;
                self.written.insert(version.id);
            }
        }
        let entry = |version: &Arc<Version>| {
            let Version { id, text: _, hash, time_ns, by, via, origin } = &**version;
            let (by, origin) = (by.clone(), origin.clone());
            Entry { id: *id, sha256: hash.clone(), time_ns: *time_ns, by, via: *via, origin }
        };
        let plans = record.versions.iter().map(entry).collect();
        let index = Index { schema: SCHEMA.to_owned(), last: record.last, pending: record.pending, plans };
        let text = serde_json::to_string_pretty(&index)? + "\n";
        self.state.write(INDEX, text.as_bytes())?;
        if !self.is_clean {
            self.written.extend(self.state.names().iter().filter_map(|name| id_of(name)));
            self.is_clean = true;
        }
        let named: BTreeSet<u32> = record.versions.iter().map(|version| version.id).collect();
        for id in self.written.difference(&named) {
            // one that stays takes room alone
            let _ = self.state.remove(&file_of(*id));
        }
        self.written = named;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn version(id: u32, text: &str) -> Arc<Version> {
        Arc::new(Version {
            id,
            text: text.to_owned(),
            hash: plan_hash(text),
            time_ns: 7,
            by: "anna (uid 1004)".to_owned(),
            via: Via::Socket,
            origin: "a.pipe".to_owned(),
        })
    }

    fn record(ids: std::ops::RangeInclusive<u32>, pending: Option<Promise>) -> Record {
        let last = *ids.end();
        Record {
            versions: ids.map(|id| version(id, &format!("set burst {id}\n"))).collect(),
            last,
            pending,
        }
    }

    fn state(folder: &std::path::Path) -> Arc<State> {
        Arc::new(State::open(folder).expect("a folder"))
    }

    /// Keeps a history, and waits until it is written.
    fn keep(archive: &Archive, record: Record) -> Kept {
        let writing = archive.keep(record);
        loop {
            match writing.look() {
                Kept::Waits => std::thread::sleep(Duration::from_millis(1)),
                kept => return kept,
            }
        }
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_history_is_read_as_it_was_kept_and_what_has_left_it_is_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = state(folder.path());
        assert!(read(&state).0.versions.is_empty());
        let archive = Archive::begin(Arc::clone(&state), &Record::default());
        let pending = Some(Promise { id: 3, back_to: 2, until_ns: 9 });
        assert_eq!(keep(&archive, record(1..=3, pending)), Kept::Done);
        let (found, events) = read(&state);
        assert_eq!((found.versions, found.last, found.pending), (record(1..=3, None).versions, 3, pending));
        assert!(events.is_empty());
        assert_eq!(keep(&archive, record(2..=4, None)), Kept::Done);
        assert_eq!(names(folder.path()), [".lock", INDEX, "plan-2.pipe", "plan-3.pipe", "plan-4.pipe"]);
        assert!(archive.end().is_empty());
        // a file that a crash left before its index is another plan's later
        fs::write(folder.path().join("plan-5.pipe"), "torn").expect("a file");
        let (known, _) = read(&state);
        let archive = Archive::begin(Arc::clone(&state), &known);
        assert_eq!(keep(&archive, record(4..=5, None)), Kept::Done);
        assert_eq!(read(&state).0.versions, record(4..=5, None).versions);
    }

    #[test]
    fn what_is_damaged_is_put_aside_and_told_of_and_the_rest_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = state(folder.path());
        let archive = Archive::begin(Arc::clone(&state), &Record::default());
        assert_eq!(keep(&archive, record(1..=3, None)), Kept::Done);
        let index = fs::read(folder.path().join(INDEX)).expect("an index");
        fs::write(folder.path().join("plan-2.pipe"), "set burst 3\n").expect("a file");
        let (found, events) = read(&state);
        assert_eq!(found.versions.iter().map(|version| version.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(events.iter().map(Event::kind).collect::<Vec<_>>(), ["state_damaged"]);
        assert!(folder.path().join("plan-2.pipe.damaged").exists());
        // wherever the index ends, its plans are there, and numbers go on behind them
        for len in (0..index.len() - 1).step_by(7) {
            fs::write(folder.path().join(INDEX), &index[..len]).expect("a file");
            let (found, events) = read(&state);
            assert_eq!((found.versions.len(), found.last, found.pending), (2, 3, None), "{len}");
            assert_eq!(found.versions[1].text, "set burst 3\n");
            assert_eq!(events.len(), 1, "{len}");
            assert!(!folder.path().join(INDEX).exists());
        }
        for forged in [
            r#"{"schema":"tapline.history/2","last":1,"pending":null,"plans":[]}"#,
            r#"{"schema":"tapline.history/1","last":4294967295,"pending":null,"plans":[]}"#,
        ] {
            fs::write(folder.path().join(INDEX), forged).expect("a file");
            assert_eq!(read(&state).1.len(), 1, "{forged}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_told_once_and_so_is_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = state(folder.path());
        let archive = Archive::begin(Arc::clone(&state), &Record::default());
        // a folder in the place of the index cannot be written over
        fs::create_dir(folder.path().join(INDEX)).expect("a folder");
        for _ in 0..2 {
            assert!(matches!(keep(&archive, record(1..=1, None)), Kept::Not(_)));
        }
        fs::remove_dir(folder.path().join(INDEX)).expect("a folder");
        assert_eq!(keep(&archive, record(1..=1, None)), Kept::Done);
        let kinds: Vec<&str> = archive.end().iter().map(Event::kind).collect();
        assert_eq!(kinds, ["state_failed", "state_resumed"]);
    }
}
