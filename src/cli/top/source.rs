//! Reads snapshots: of a running broker, by its socket, or of a file of `--stats`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::PlanText;
use crate::cli::ctl::{MOST_REPLY_BYTES, remedy};
use crate::control::lines::{Excess, Line, next_line};
use tapline_api::snapshot::Snapshot;

/// Between two attempts to reach a broker.
const AGAIN: Duration = Duration::from_secs(1);
/// So much waits for the screen; the broker conflates what it cannot hand over.
const MOST_WAITING: usize = 64;

/// A message of a broker.
pub(super) enum News {
    Broker(String),
    Plan(PlanText),
    Stats(Box<Snapshot>),
    Event(Value),
    /// There is no connection, and why.
    Gone(String),
}

/// A line with statistics, without the rest of it.
#[derive(Deserialize)]
struct StatsLine {
    params: Snapshot,
}

/// A connection that gives news.
struct Client {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// The numbers of requests, by which their answers are known.
const HELLO: u64 = 1;
const PLAN: u64 = 2;
const SUBSCRIBED: u64 = 3;

impl Client {
    fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream })
    }

    fn ask(&mut self, id: u64, method: &str, params: &Value) -> io::Result<()> {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.writer.write_all(format!("{request}\n").as_bytes())
    }

    /// Asks for all that there is, and passes on what comes until the connection ends. An `Err` says why it ended; `Ok` that nobody listens.
    fn follow(mut self, interval_s: f64, since: &mut u64, tell: &SyncSender<News>) -> Result<(), String> {
        let asked = self
            .ask(HELLO, "hello", &json!({}))
            .and_then(|()| self.ask(PLAN, "get", &json!({ "what": "plan" })))
            .and_then(|()| {
                self.ask(SUBSCRIBED, "subscribe", &json!({ "to": "stats", "interval": interval_s }))
            })
            .and_then(|()| self.ask(SUBSCRIBED, "subscribe", &json!({ "to": "events", "since": *since })));
        asked.map_err(|error| error.to_string())?;
        loop {
            let line = match next_line(&mut self.reader, MOST_REPLY_BYTES, Excess::Stop) {
                Ok(Some(Line::Whole(line))) => line,
                Ok(Some(Line::TooLong)) => return Err("the reply is too long".to_owned()),
                Ok(None) => return Err("the broker has ended".to_owned()),
                Err(error) => return Err(error.to_string()),
            };
            let Some(news) = self.news(&line, since)? else { continue };
            if tell.send(news).is_err() {
                return Ok(());
            }
        }
    }

    /// Reads a line; `None` where it says nothing that is shown.
    fn news(&mut self, line: &[u8], since: &mut u64) -> Result<Option<News>, String> {
        const STATS: &[u8] = br#""method":"stats""#;
        let head = &line[..line.len().min(64)];
        if head.windows(STATS.len()).any(|part| part == STATS) {
            let stats: StatsLine = serde_json::from_slice(line)
                .map_err(|error| format!("the broker has other statistics: {error}"))?;
            return Ok(Some(News::Stats(Box::new(stats.params))));
        }
        // a client that is turned away is told so in words
        let mut said: Value =
            serde_json::from_slice(line).map_err(|_| String::from_utf8_lossy(line).trim().to_owned())?;
        if said["method"] == "event" {
            let event = said["params"].take();
            *since = event["seq"].as_u64().unwrap_or(*since);
            // rules and tools have other words now
            if event["kind"].as_str().is_some_and(|kind| kind.contains("plan") || kind.contains("reload")) {
                self.ask(PLAN, "get", &json!({ "what": "plan" })).map_err(|error| error.to_string())?;
            }
            return Ok(Some(News::Event(event)));
        }
        if let Some(message) = said["error"]["message"].as_str() {
            return Err(message.to_owned());
        }
        let result = &said["result"];
        let text = |key: &str| result[key].as_str().unwrap_or_default();
        Ok(match said["id"].as_u64() {
            Some(HELLO) => Some(News::Broker(text("broker").to_owned())),
            Some(PLAN) => {
                let id = result["id"].as_u64().unwrap_or_default();
                Some(News::Plan(PlanText::new(id, text("sha256"), text("text"))))
            }
            _ => None,
        })
    }
}

/// Follows the broker at `path` on a thread of its own, and reaches for it again where it ends.
///
/// # Errors
/// If there is no thread for it.
pub(super) fn follow(path: PathBuf, interval_s: f64) -> io::Result<std::sync::mpsc::Receiver<News>> {
    let (tell, told) = sync_channel(MOST_WAITING);
    let work = move || {
        let mut since = 0;
        loop {
            let ended = match Client::connect(&path) {
                Ok(client) => client.follow(interval_s, &mut since, &tell),
                Err(error) => Err(remedy(&error)),
            };
            let Err(why) = ended else { return };
            if tell.send(News::Gone(why)).is_err() {
                return;
            }
            // the next broker numbers its events from 1
            since = 0;
            std::thread::sleep(AGAIN);
        }
    };
    std::thread::Builder::new().name("socket".to_owned()).spawn(work)?;
    Ok(told)
}

/// A file of statistics, a snapshot a line. It may be written on meanwhile.
pub(super) struct Replay {
    path: PathBuf,
    file: BufReader<File>,
    /// The place at which each whole line begins.
    begins: Vec<u64>,
    /// The place at which the last whole line ends.
    end: u64,
}

impl Replay {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file, or has no line; in words.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(|error| named(&error))?;
        let is_regular = file.metadata().is_ok_and(|there| there.is_file());
        if !is_regular {
            return Err(named(&"it is no regular file; `tapline run --stats FILE` writes one"));
        }
        let mut replay =
            Self { path: path.to_owned(), file: BufReader::new(file), begins: Vec::new(), end: 0 };
        replay.look().map_err(|error| named(&error))?;
        if replay.begins.is_empty() {
            return Err(named(&"it has no line of statistics"));
        }
        Ok(replay)
    }

    /// Looks for lines that were written since.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let (mut begin, mut at) = (self.end, self.end);
        loop {
            let read = self.file.fill_buf()?;
            if read.is_empty() {
                return Ok(());
            }
            let line = read.iter().position(|&byte| byte == b'\n');
            let used = line.map_or(read.len(), |end| end + 1);
            self.file.consume(used);
            at += used as u64;
            if line.is_some() {
                self.begins.push(begin);
                (begin, self.end) = (at, at);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.begins.len()
    }

    /// Reads a line.
    ///
    /// # Errors
    /// If it is no snapshot, in words.
    pub(super) fn read(&mut self, index: usize) -> Result<Snapshot, String> {
        let failed = |error: &dyn std::fmt::Display| format!("line {}: {error}", index + 1);
        self.file.seek(SeekFrom::Start(self.begins[index])).map_err(|error| failed(&error))?;
        match next_line(&mut self.file, MOST_REPLY_BYTES, Excess::Stop) {
            Ok(Some(Line::Whole(line))) => serde_json::from_slice(&line)
                .map_err(|error| failed(&format!("it is no tapline.stats/1: {error}"))),
            Ok(_) => Err(failed(&"it is too long")),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Returns the name of the file, without its folder.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
