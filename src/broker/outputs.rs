//! Files that Tapline writes: made ours before anything that they hold is lost, and kept from other Taplines while we write them.
//!
//! Each regular file has an advisory lock (flock(2)) as long as it is written. Drivers open their files themselves and know nothing of
//! locks, so a file of theirs is held open beside them. A file that was made here and never begun is removed again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::pcap_output;
use super::refusal::Refusal;
use crate::plan::Plan;
use crate::plan::surroundings::{System, target_of_open};
use crate::plan::value::ToolPlan;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_lang::files::Files as _;
use tapline_packet::by_id::ById;
use tapline_store::disk::Disks;
use tapline_store::folder::Folder;

/// Captures and statistics tell of what others send: their group may read them, and nobody else.
const MODE: u32 = 0o640;
/// Others that remove the file while it is opened: more than this are no coincidence.
const MOST_TRIES: usize = 10;

/// A regular file that no other Tapline writes.
pub struct Locked {
    path: PathBuf,
    file: File,
    /// Made here, and not yet begun.
    is_new: bool,
}

impl Locked {
    /// Takes the file at `path`, which is made where it is not there; what it holds stays. `None` where it is something else than a
    /// regular file: many may write a pipe or a device.
    ///
    /// # Errors
    /// It cannot be written, or another Tapline writes it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        for _ in 0..MOST_TRIES {
            if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
                return Ok(None);
            }
            let made = File::options().write(true).create_new(true).mode(MODE).open(path);
            let is_new = made.is_ok();
            let file = match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    File::options().write(true).create(true).truncate(false).mode(MODE).open(path)
                }
                made => made,
            }?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        "another Tapline writes this file; name another, or end that one first",
                    ));
                }
                // a file system without locks is none the worse for writing to
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let mut locked = Self { path: path.to_owned(), file, is_new };
            // whoever made it may have removed it before it was locked
            if locked.is_at_its_path() {
                return Ok(Some(locked));
            }
            locked.is_new = false;
        }
        Err(io::Error::other("the file is made and removed by others all the time"))
    }

    /// Its path, if it was made here.
    pub(super) fn made(&self) -> Option<PathBuf> {
        self.is_new.then(|| self.path.clone())
    }

    fn is_at_its_path(&self) -> bool {
        self.file.metadata().is_ok_and(|ours| target_of_open(&ours) == System.target(&self.path))
    }

    /// Keeps what the file holds, to be written from its end on. The lock is the file's from now on.
    ///
    /// # Errors
    /// If there is no further descriptor.
    pub fn keep(mut self) -> io::Result<File> {
        self.is_new = false;
        self.file.try_clone()
    }

    /// Empties the file, to be written from its beginning. The lock is the file's from now on.
    ///
    /// # Errors
    /// If it cannot be emptied.
    pub fn begin(mut self) -> io::Result<File> {
        self.is_new = false;
        self.file.set_len(0)?;
        self.file.try_clone()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.is_new && self.is_at_its_path() && self.file.metadata().is_ok_and(|ours| ours.len() == 0) {
            // nothing is lost where it cannot be removed
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The target of a capture tool that is taken.
#[derive(Default)]
pub enum Taken {
    File(Locked),
    /// The folder of a store.
    Folder(Folder),
    /// A pipe or a device, which is nobody's; or it was taken away from here.
    #[default]
    Nothing,
}

impl Taken {
    /// Takes the file or the folder of a tool.
    fn of(tool: &ToolPlan) -> io::Result<Self> {
        let Some(path) = &tool.capture else { return Ok(Taken::Nothing) };
        match &tool.store {
            Some(_) => Folder::take(path).map(Taken::Folder),
            None => Ok(Locked::take(path)?.map_or(Taken::Nothing, Taken::File)),
        }
    }

    /// Its path, if it was made here.
    pub(super) fn made(&self) -> Option<PathBuf> {
        match self {
            Taken::File(locked) => locked.made(),
            Taken::Folder(_) | Taken::Nothing => None,
        }
    }
}

/// The files that a plan writes.
pub(super) struct Outputs {
    /// The files and folders of capture tools, by tool of the plan.
    captures: ById<ToolId, Taken>,
    /// The locks are held beside the drivers that write the files, by port of the plan.
    drivers: ById<PortId, Vec<Locked>>,
    /// The threads that write stores.
    disks: Arc<Disks>,
}

impl Outputs {
    /// Takes all files that the plan's tools and ports write.
    ///
    /// # Errors
    /// With the first that cannot be had.
    pub(super) fn take(plan: &Plan) -> Result<Self, Error> {
        Self::take_some(plan, |_| true, |_| true)
    }

    /// Takes the files of some ports and tools.
    ///
    /// # Errors
    /// With the first that cannot be had.
    pub(super) fn take_some(
        plan: &Plan,
        is_ports: impl Fn(PortId) -> bool,
        is_tools: impl Fn(ToolId) -> bool,
    ) -> Result<Self, Error> {
        let taken = |owner: String, path: &Path| {
            Locked::take(path).map_err(|error| Refusal::Output { owner, path: path.to_owned(), error })
        };
        let mut drivers = ById::default();
        for (id, port) in plan.ports.entries() {
            let mut of_port = Vec::new();
            for path in pcap_output::paths(&port.devargs).filter(|_| is_ports(id) && port.is_ethdev()) {
                of_port.extend(taken(format!("port {}", port.name), Path::new(path))?);
            }
            drivers.push(of_port);
        }
        let captures = plan.tools.entries().map(|(id, tool)| {
            let refused = |error| Refusal::Output {
                owner: format!("tool {}", tool.name),
                path: tool.capture.clone().unwrap_or_default(),
                error,
            };
            if is_tools(id) { Taken::of(tool).map_err(refused) } else { Ok(Taken::Nothing) }
        });
        let captures = captures.collect::<Result<_, _>>()?;
        Ok(Self { captures, drivers, disks: Arc::default() })
    }

    /// The drivers have begun their files.
    pub(super) fn keep_drivers(&mut self) {
        self.drivers.iter_mut().flatten().for_each(|locked| locked.is_new = false);
    }

    /// Goes on in another plan, with `more` that was taken for it; `ports` has the ids before of its ports. Gives what ports have that
    /// it has not.
    pub(super) fn go_on(&mut self, more: Self, ports: &ById<PortId, Option<PortId>>) -> Vec<Locked> {
        let mut before = std::mem::replace(self, more);
        self.disks = Arc::clone(&before.disks);
        for (of_port, from) in self.drivers.iter_mut().zip(ports.iter()) {
            if let Some(from) = from {
                *of_port = std::mem::take(&mut before.drivers[*from]);
            }
        }
        before.drivers.into_iter().flatten().collect()
    }

    /// The threads that write stores.
    pub(super) fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The file or the folder of a capture tool.
    pub(super) fn capture(&mut self, tool: ToolId) -> Taken {
        self.captures.get_mut(tool).map(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_by_one_at_a_time_and_keeps_what_it_holds_until_it_is_begun() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        fs::write(&path, "kept").expect("a file");
        let first = Locked::take(&path).expect("a file of our own").expect("a regular file");
        let refused = Locked::take(&path).err().expect("a second writer");
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(fs::read(&path).expect("a file"), b"kept");
        let file = first.begin().expect("a file of our own");
        assert_eq!(fs::read(&path).expect("a file"), b"");
        assert!(Locked::take(&path).is_err(), "begun, and still locked");
        drop(file);
        assert!(Locked::take(&path).is_ok_and(|taken| taken.is_some()));
        assert!(path.exists(), "it was there before");
    }

    #[test]
    fn a_file_that_was_made_and_not_begun_is_removed_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        let taken = Locked::take(&path).expect("a writable folder");
        assert!(path.exists());
        drop(taken);
        assert!(!path.exists());
        let file = Locked::take(&path).expect("a writable folder").expect("a regular file").begin();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn devices_and_pipes_are_nobodys() {
        assert!(Locked::take(Path::new("/dev/null")).expect("a device").is_none());
        assert!(Locked::take(Path::new("/")).expect("a folder").is_none());
    }
}
