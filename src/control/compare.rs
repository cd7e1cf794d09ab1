//! The packets of a capture by the running plan and by the one that is to take its place, compared by a process of its own.
//!
//! That process is `tapline diff`: its workers are none of the broker's lcores, and its EAL is another one. It gets both texts and the
//! capture by its standard input, so that it opens no file that the caller may not name.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::plan::progress::Progress;
use tapline_lang::files::{Files, Stream};

/// The time that a comparison may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked whether it is done.
const TICK: Duration = Duration::from_millis(20);
/// The bytes of an answer that are read: a thousand causes have less than a tenth.
const MOST_BYTES: u64 = 16 << 20;

/// Two texts of commands, each with its name, and a capture.
pub(super) struct Comparing {
    pub old: (String, String),
    pub new: (String, String),
    pub capture: PathBuf,
    /// The files that the caller may name.
    pub files: Arc<dyn Files>,
}

/// The result of a comparison.
pub(super) struct Compared {
    /// `tapline.diff/1`.
    pub value: Value,
    pub text: String,
}

impl Comparing {
    /// Compares, and waits until that is done or `progress` is given up.
    ///
    /// # Errors
    /// The reason why packets were not compared.
    pub(super) fn run(self, progress: &Progress) -> Result<Compared, String> {
        let shown = self.capture.display().to_string();
        let stream = self.files.open(&self.capture).map_err(|error| format!("{shown}: {error}"))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["diff", "--texts", "--json", "-r", "-", "--", &self.old.0, &self.new.0]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| format!("no process to compare with: {error}");
        let mut child = command.spawn().map_err(failed)?;
        let [out, told] = match threads(&mut child, self.texts(), stream) {
            Ok(threads) => threads,
            Err(error) => {
                drop(child.kill().and_then(|()| child.wait()));
                return Err(failed(error));
            }
        };
        let status = wait(&mut child, progress)?;
        let read = |thread: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
        };
        let (out, told) = (read(out), read(told));
        if !status.success() {
            let why = told.lines().rev().find_map(|line| line.strip_prefix("error: "));
            let why = why.map_or_else(|| format!("the comparison ended with {status}"), str::to_owned);
            return Err(why.replace("standard input", &shown));
        }
        let (object, text) = out.split_once('\n').unwrap_or((&out, ""));
        let value = serde_json::from_str(object).map_err(|error| format!("no answer: {error}"))?;
        Ok(Compared { value, text: text.to_owned() })
    }

    /// Says both texts, each behind its length in 8 bytes, the highest first.
    fn texts(&self) -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat();
        [text(&self.old.1), text(&self.new.1)].concat()
    }
}

/// Feeds a process the texts and the capture, and reads what it says: on standard output, and on standard error.
fn threads(
    child: &mut Child,
    texts: Vec<u8>,
    mut stream: Stream,
) -> std::io::Result<[JoinHandle<Vec<u8>>; 2]> {
    let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
    if let Some(mut input) = child.stdin.take() {
        named("compare-in").spawn(move || {
            // a process that ended says itself why
            drop(input.write_all(&texts).and_then(|()| std::io::copy(&mut stream, &mut input)));
        })?;
    }
    let read = |stream: Option<Stream>| {
        named("compare-out").spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                drop(stream.take(MOST_BYTES).read_to_end(&mut bytes));
            }
            bytes
        })
    };
    let (out, told) = (child.stdout.take(), child.stderr.take());
    Ok([read(out.map(|out| Box::new(out) as Stream))?, read(told.map(|told| Box::new(told) as Stream))?])
}

/// Waits for the end of a process, which is brought about if it takes too long or nobody wants to know any more.
fn wait(child: &mut Child, progress: &Progress) -> Result<ExitStatus, String> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        let why = if since.elapsed() >= LIMIT {
            format!("the comparison took longer than {} s", LIMIT.as_secs())
        } else if progress.go_on().is_err() {
            "the comparison was given up".to_owned()
        } else {
            std::thread::sleep(TICK);
            continue;
        };
        drop(child.kill().and_then(|()| child.wait()));
        return Err(why);
    }
}
