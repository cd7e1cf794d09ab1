//! The files that somebody may name, and the one that `save` writes.

use std::path::PathBuf;
use std::sync::Arc;

use super::state;
use crate::plan::Plan;
use crate::plan::surroundings::{Confined, Lent, System};
use tapline_api::access::Principal;
use tapline_api::request::Reply;
use tapline_api::words::Via;
use tapline_kernel::process::own_uid;
use tapline_lang::files::Files;

/// Mode of a file that `save` writes, less the umask.
const SAVED_MODE: u32 = 0o666;

/// Gives the files that somebody may name. Whoever runs the broker, and root, may name all; others those in the `folder` of the pipeline
/// file, and those that the running plan names.
pub(super) fn of(by: &Principal, folder: Option<&Confined>, running: &Plan) -> Arc<dyn Files> {
    let is_own = match by.via {
        Via::Prompt | Via::Signal | Via::Timer | Via::CommandLine => true,
        Via::Socket | Via::Web => by.uid.is_some_and(|uid| uid == 0 || uid == own_uid()),
    };
    match is_own {
        true => Arc::new(System),
        false => Arc::new(Lent::new(folder.cloned(), Arc::clone(&running.files))),
    }
}

/// The commands in force, to be written to a file.
pub(super) struct Save {
    pub path: PathBuf,
    pub text: String,
    pub files: Arc<dyn Files>,
    pub running: Arc<Plan>,
    /// The file of the start, which may be replaced.
    pub own: Option<PathBuf>,
}

impl Save {
    /// Writes the file, unless the caller may not name it or the running plan reads or writes it.
    pub(super) fn write(&self) -> Reply {
        let path = &self.path;
        let target = |path: &PathBuf| System.target(path);
        let is_other =
            |named: &&PathBuf| self.own.as_ref() != Some(*named) && target(named) == target(path);
        let refused = match (self.files.permit(path), self.running.files.iter().find(is_other)) {
            (Err(reason), _) => Some(reason.to_string()),
            (Ok(()), Some(_)) if target(path).is_some() => {
                Some("the running plan reads or writes it; name another file".to_owned())
            }
            (Ok(()), _) => None,
        };
        let written = match refused {
            Some(reason) => Err(reason),
            None => {
                state::replace(path, self.text.as_bytes(), SAVED_MODE).map_err(|error| error.to_string())
            }
        };
        match written {
            Ok(()) => Reply::done(format!("{}: written\n", path.display())),
            Err(reason) => Reply::failed(format!("error: {}: {reason}\n", path.display())),
        }
    }
}
