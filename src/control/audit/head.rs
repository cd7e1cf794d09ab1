//! The last record of an audit log, in the folder of `--state`: a start that finds a log without it knows that its end was cut.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chain::Head;
use crate::control::state::State;
use tapline_api::event::Event;

const FILE: &str = "audit.json";
/// The name and version of the form.
const SCHEMA: &str = "tapline.audit-head/1";

/// Keeps the head of one log.
pub(super) struct HeadKeeper {
    state: Arc<State>,
    /// The log, from the root on.
    path: String,
    is_failing: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    schema: String,
    path: String,
    record: u64,
    hash: String,
}

impl HeadKeeper {
    pub(super) fn of(state: Arc<State>, path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        Self { state, path, is_failing: false }
    }

    /// Reads the head that was kept last, where it is one of the same log. A damaged file is put aside.
    pub(super) fn read(&self) -> (Option<Head>, Option<Event>) {
        let parse = |bytes: Vec<u8>| serde_json::from_slice::<Kept>(&bytes).map_err(io::Error::from);
        let is_whole = |kept: &Kept| kept.schema == SCHEMA && kept.hash.len() == 64;
        match self.state.read(FILE).and_then(|bytes| bytes.map(parse).transpose()) {
            Ok(None) => (None, None),
            Ok(Some(kept)) if is_whole(&kept) => {
                let Kept { path, record, hash, .. } = kept;
                (Some(Head { seq: record, hash }).filter(|_| path == self.path), None)
            }
            Ok(Some(_)) => (None, Some(self.state.set_aside(FILE, &io::Error::other("it is no head")))),
            Err(error) => (None, Some(self.state.set_aside(FILE, &error))),
        }
    }

    /// Keeps a head; the event that says that this fails, or does again.
    pub(super) fn keep(&mut self, head: &Head) -> Option<Event> {
        let (path, hash) = (self.path.clone(), head.hash.clone());
        let kept = Kept { schema: SCHEMA.to_owned(), path, record: head.seq, hash };
        let text = serde_json::to_string(&kept).unwrap_or_default() + "\n";
        let written = self.state.write(FILE, text.as_bytes());
        let path = self.state.path().join(FILE).display().to_string();
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        match (written, was_failing) {
            (Err(error), false) => Some(Event::StateFailed { path, error: error.to_string() }),
            (Ok(()), true) => Some(Event::StateResumed { path }),
            _ => None,
        }
    }
}
