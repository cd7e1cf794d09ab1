//! `--stats`: where the statistics of a run go, a JSON object a line.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::output::print;
use crate::broker::outputs::Locked;
use crate::control::outlet::{Delivery, MOST_BYTES, Outlet, patience};
use tapline_api::event::Event;
use tapline_api::snapshot::Snapshot;
use tapline_fault as fault;

/// The destination of statistics. The first failure to write is given as an event, and remembered for the exit status.
pub struct StatsOut {
    target: Target,
    /// As the user wrote it.
    name: String,
    is_whole: bool,
    /// The file was moved away, and could not be opened anew.
    is_refused: bool,
}

enum Target {
    Nowhere,
    StandardOutput,
    /// A regular file that is not yet begun.
    Taken(Locked),
    /// A pipe or a device, which is opened by who writes to it: nobody may read it yet.
    Unopened,
    File {
        outlet: Outlet,
        /// Held as long as a regular file is written.
        lock: Option<File>,
    },
}

impl Target {
    /// Writes at the end of the file at `path`, whatever others do to its length, while `lock` is held.
    fn appending(path: &Path, lock: File) -> io::Result<Self> {
        let file = File::options().append(true).open(path)?;
        let outlet = Outlet::to(MOST_BYTES, move || Ok(file), |_| None)?;
        Ok(Target::File { outlet, lock: Some(lock) })
    }
}

/// Returns whether an open file is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |there: Metadata| (there.dev(), there.ino());
    let ours = file.metadata().map(place);
    ours.is_ok_and(|ours| std::fs::metadata(path).is_ok_and(|there| place(there) == ours))
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
        Ok(Self { target, name, is_whole: true, is_refused: false })
    }

    /// Empties the file: there will be something to write.
    ///
    /// # Errors
    /// If the file cannot be emptied, or there is no thread to write it.
    pub fn begin(&mut self) -> io::Result<()> {
        self.target = match std::mem::replace(&mut self.target, Target::Nowhere) {
            Target::Taken(locked) => Target::appending(Path::new(&self.name), locked.begin()?)?,
            Target::Unopened => {
                let path = self.name.clone();
                let open = move || File::options().write(true).open(path);
                Target::File { outlet: Outlet::to(MOST_BYTES, open, |_| None)?, lock: None }
            }
            target => target,
        };
        Ok(())
    }

    /// Opens the file anew where another program has moved it away or removed it: the lines to come go to a file of this name. Gives what
    /// is to be told where it cannot be opened; the file before is written on then.
    pub fn reopen(&mut self) -> Option<String> {
        let path = PathBuf::from(&self.name);
        let Target::File { lock: Some(lock), .. } = &self.target else { return None };
        if is_at(lock, &path) {
            return None;
        }
        let opened = Locked::take(&path).and_then(|taken| match taken {
            Some(locked) => Target::appending(&path, locked.keep()?),
            None => Err(io::Error::other("it is not a regular file")),
        });
        self.is_refused = opened.is_err();
        match opened {
            Ok(target) => {
                if let Target::File { outlet, .. } = std::mem::replace(&mut self.target, target) {
                    outlet.close();
                }
                None
            }
            Err(error) => Some(format!(
                "{}: cannot be opened anew: {error}; the file before is written on",
                self.name
            )),
        }
    }

    /// Does as [`reopen`](Self::reopen) without being asked: what is to be told is given once, until the file is opened.
    pub fn follow(&mut self) -> Option<String> {
        let was_refused = self.is_refused;
        self.reopen().filter(|_| !was_refused)
    }

    /// Returns whether lines go anywhere.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.target, Target::Nowhere)
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
            Target::File { outlet, .. } if !outlet.push(line) => {
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
        let Target::File { outlet, lock } = &self.target else { return None };
        let error = match outlet.flush(patience(lock.is_some())) {
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
