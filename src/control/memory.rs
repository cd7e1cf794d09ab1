//! The things that a broker knows from those before it, by the folder of `--state`: tokens, the plans that were in force, the plan that
//! waited to be confirmed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::archive::{self, Archive, Promise, Record};
use super::history::Version;
use super::state::State;
use super::tokens::{self, Tokens};
use tapline_api::event::Event;

/// The things that outlive a broker. Without a folder there are none.
#[derive(Default)]
pub struct Memory {
    pub(super) state: Option<Arc<State>>,
    pub(super) tokens: Tokens,
    pub(super) past: Record,
    /// This is to be told first.
    pub events: Vec<Event>,
}

impl Memory {
    /// Takes the folder at `path`, and reads what it has. `file` is the one that the command line names. Damaged files are put aside, and
    /// events say so.
    ///
    /// # Errors
    /// The folder cannot be had.
    pub fn open(path: &Path, file: &Path) -> io::Result<Self> {
        let state = Arc::new(State::open(path)?);
        let (past, damages) = archive::read(&state);
        let mut memory = Self { state: Some(Arc::clone(&state)), past, ..Self::default() };
        if let Some(Promise { id, back_to, .. }) = memory.past.pending {
            let (is_kept, file) = (memory.confirmed().is_some(), file.display().to_string());
            memory.events.push(Event::ConfirmInterrupted { plan: id, to: back_to, is_kept, file });
        }
        memory.events.extend(damages);
        memory.tokens = match Tokens::of(Some(Arc::clone(&state))) {
            Ok(tokens) => tokens,
            Err(error) => {
                memory.events.push(state.set_aside(tokens::FILE, &error));
                Tokens::of(Some(state))?
            }
        };
        Ok(memory)
    }

    /// Returns the confirmed plan, where another waited to be confirmed when the broker before ended: it is run, and no file is read.
    pub fn confirmed(&self) -> Option<&Arc<Version>> {
        let pending = self.past.pending?;
        self.past.versions.iter().find(|version| version.id == pending.back_to)
    }

    /// Begins to keep the history.
    pub(super) fn archive(&self) -> Option<Archive> {
        self.state.as_ref().map(|state| Archive::begin(Arc::clone(state), &self.past))
    }

    /// Says where the plan of the start comes from: `file`, or the history.
    pub(super) fn origin(&self, file: String) -> String {
        match (self.past.pending, self.confirmed()) {
            (Some(Promise { id, .. }), Some(version)) => {
                format!("plan {}, for plan {id} was not confirmed", version.id)
            }
            _ => file,
        }
    }
}
