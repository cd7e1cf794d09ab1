//! `--stats`: where the statistics of a run go, a JSON object a line.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::output::print;
use crate::broker::outputs::Locked;
use crate::control::outlet::{Delivery, MOST_BYTES, Outlet};
use tapline_api::event::Event;
use tapline_api::snapshot::Snapshot;
use tapline_fault as fault;

/// How long the end of a run waits for the file to take its last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The destination of statistics. The first failure to write is given as an event, and remembered for the exit status.
pub struct StatsOut {
    target: Target,
    /// As the user wrote it.
    name: String,
    is_whole: bool,
}

enum Target {
    Nowhere,
    StandardOutput,
    /// A regular file that is not yet begun.
    Taken(Locked),
    /// A pipe or a device, which is opened by who writes to it: nobody may read it yet.
    Unopened,
    File(Outlet),
}

impl StatsOut {
    /// Takes the file; what it holds stays until [`begin`](Self::begin).
    ///
    /// # Errors
    /// If it cannot be written, or another Tapline writes it.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let name = path.map_or(String::new(), |path| path.display().to_string());
        let target = match path {
            None => Target::Nowhere,
            Some(path) if path == Path::new("-") => Target::StandardOutput,
            Some(_) if fault::strikes("start.statistics") => {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Some(path) => Locked::take(path)?.map_or(Target::Unopened, Target::Taken),
        };
        Ok(Self { target, name, is_whole: true })
    }

    /// Empties the file: there will be something to write.
    ///
    /// # Errors
    /// If the file cannot be emptied, or there is no thread to write it.
    pub fn begin(&mut self) -> io::Result<()> {
        self.target = match std::mem::replace(&mut self.target, Target::Nowhere) {
            Target::Taken(locked) => {
                let file = locked.begin()?;
                Target::File(Outlet::to(MOST_BYTES, move || Ok(file), |_| None)?)
            }
            Target::Unopened => {
                let path = self.name.clone();
                let open = move || std::fs::File::options().write(true).open(path);
                Target::File(Outlet::to(MOST_BYTES, open, |_| None)?)
            }
            target => target,
        };
        Ok(())
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self.target, Target::StandardOutput)
    }

    /// Writes a line. Whoever reads it is not waited for. Gives an event where the file takes no more.
    #[must_use]
    pub fn write(&mut self, snapshot: &Snapshot) -> Option<Event> {
        if matches!(self.target, Target::Nowhere) {
            return None;
        }
        let mut line = Vec::new();
        let written = serde_json::to_writer(&mut line, snapshot).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| line.write_all(b"\n")) {
            return Some(self.fail(error.to_string()));
        }
        match &self.target {
            Target::StandardOutput => print(String::from_utf8_lossy(&line)),
            Target::File(outlet) if !outlet.push(line) => {
                let failure = outlet.failure()?;
                return Some(self.fail(failure));
            }
            _ => {}
        }
        None
    }

    fn fail(&mut self, error: String) -> Event {
        self.is_whole = false;
        self.target = Target::Nowhere;
        Event::StatisticsLost { path: self.name.clone(), error }
    }

    /// Waits for the last lines to be written. Gives an event where the file did not take them.
    #[must_use]
    pub fn end(&mut self) -> Option<Event> {
        let Target::File(outlet) = &self.target else { return None };
        let error = match outlet.flush(FLUSH_LIMIT) {
            Delivery::Whole => return None,
            Delivery::Failed => outlet.failure().unwrap_or_default(),
            Delivery::Partial { left_out, waiting_bytes } => format!(
                "it took nothing any more: {left_out} lines were left out, and {waiting_bytes} bytes wait"
            ),
        };
        Some(self.fail(error))
    }

    /// Returns whether all lines of all time were written.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }
}
