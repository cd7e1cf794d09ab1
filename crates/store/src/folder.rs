//! A folder of segments: locked by one store at a time, listed at the start, watched for its end.

use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::names::NEXT;
use super::repair::{Repaired, repair};
use super::retention::{Holdings, Segment};
use super::{SegmentName, StoreSpec};
use tapline_kernel::storage::{self, Room};

/// The rights of segments: their owner writes, the group reads.
const MODE: u32 = 0o640;

/// A folder that no other store has.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Open, and locked.
    handle: File,
    device: u64,
    inode: u64,
}

/// The things that are found in a folder at the start.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) holdings: Holdings,
    pub(crate) repaired: Vec<Repaired>,
    /// The number of the next segment.
    pub(crate) next_seq: u64,
}

impl Folder {
    /// Takes the folder at `path`, which has to be there.
    ///
    /// # Errors
    /// There is none that can be written, or another store has it.
    pub fn take(path: &Path) -> io::Result<Self> {
        let handle = File::open(path)?;
        let there = handle.metadata()?;
        if !there.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        storage::check_writable(path)?;
        match handle.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another store has this folder; name another, or end that one first",
                ));
            }
            // a file system without locks is none the worse for writing to
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        Ok(Self { path: path.to_owned(), handle, device: there.dev(), inode: there.ino() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that it is on.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Fails if another folder, or none, is at the path.
    pub(crate) fn check(&self) -> io::Result<()> {
        let there = fs::metadata(&self.path)?;
        if (there.dev(), there.ino()) == (self.device, self.inode) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "the folder was replaced"))
        }
    }

    /// Finds what the folder holds, after it has repaired what a crash left.
    pub(crate) fn find(&self, spec: &StoreSpec) -> io::Result<Found> {
        let (mut segments, mut parts, mut other_bytes, mut highest) = (Vec::new(), Vec::new(), 0, None);
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // what is gone meanwhile is nobody's
            let Ok(there) = entry.metadata() else { continue };
            if !there.is_file() {
                continue;
            }
            let file_name = name_of(&entry);
            if let Some(name) = SegmentName::of(&file_name) {
                highest = highest.max(Some(name.seq));
                segments.push(segment(name, &there));
            } else if let Some(name) = SegmentName::of_part(&file_name) {
                highest = highest.max(Some(name.seq));
                parts.push(name);
            } else if file_name == NEXT {
                fs::remove_file(entry.path())?;
            } else {
                other_bytes += there.len();
            }
        }
        parts.sort_unstable();
        let mut repaired = Vec::new();
        for name in parts {
            let file = File::options().read(true).write(true).open(self.path.join(name.part()))?;
            let done = repair(&file, name)?;
            if done.packets == 0 {
                fs::remove_file(self.path.join(name.part()))?;
            } else {
                dress(&file, spec)?;
                self.publish(name)?;
                segments.push(segment(name, &file.metadata()?));
            }
            repaired.push(done);
        }
        let next_seq = highest.map_or(0, |highest| highest.saturating_add(1));
        Ok(Found { holdings: Holdings::new(segments, other_bytes), repaired, next_seq })
    }

    /// Makes the file of the segment that comes next.
    pub(crate) fn make_next(&self, spec: &StoreSpec) -> io::Result<File> {
        let path = self.path.join(NEXT);
        let file = File::options().write(true).create(true).truncate(true).mode(MODE).open(path)?;
        dress(&file, spec)?;
        Ok(file)
    }

    /// Gives the file of the segment that comes next its own name.
    pub(crate) fn name_next(&self, name: SegmentName) -> io::Result<()> {
        fs::rename(self.path.join(NEXT), self.path.join(name.part()))
    }

    /// Removes the file of the segment that comes next.
    pub(crate) fn remove_next(&self) {
        // an empty file that stays is removed at the next start
        let _ = fs::remove_file(self.path.join(NEXT));
    }

    /// Makes a segment visible that is whole, and on the disk.
    pub(crate) fn publish(&self, name: SegmentName) -> io::Result<()> {
        fs::rename(self.path.join(name.part()), self.path.join(name.to_string()))?;
        self.handle.sync_all()
    }

    /// Removes a segment that is not visible yet.
    pub(crate) fn remove_part(&self, name: SegmentName) {
        // what stays is repaired at the next start
        let _ = fs::remove_file(self.path.join(name.part()));
    }

    /// Removes a segment. One that is gone already is removed.
    pub(crate) fn remove(&self, name: SegmentName) -> io::Result<()> {
        match fs::remove_file(self.path.join(name.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// The room of the file system.
    pub(crate) fn room(&self) -> Option<Room> {
        storage::room(&self.handle).ok()
    }
}

/// Gives a file its rights, whatever the process's mask is, and its group.
fn dress(file: &File, spec: &StoreSpec) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    spec.gid.map_or(Ok(()), |gid| storage::give_to_group(file, gid))
}

fn name_of(entry: &DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

/// A segment by its file. It was written last when it was closed.
fn segment(name: SegmentName, there: &fs::Metadata) -> Segment {
    let closed = there.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let closed_ns = closed.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Segment { name, bytes: there.len(), closed_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_of_one_store_at_a_time_and_has_to_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let kind = |path: &Path| Folder::take(path).err().map(|error| error.kind());
        assert_eq!(kind(&folder.path().join("missing")), Some(io::ErrorKind::NotFound));
        fs::write(folder.path().join("file"), "").expect("a file");
        assert_eq!(kind(&folder.path().join("file")), Some(io::ErrorKind::NotADirectory));
        let first = Folder::take(folder.path()).expect("a folder of our own");
        assert_eq!(kind(folder.path()), Some(io::ErrorKind::ResourceBusy));
        first.check().expect("it is there");
        drop(first);
        let again = Folder::take(folder.path()).expect("free again");
        let moved = folder.path().with_extension("moved");
        fs::rename(folder.path(), &moved).expect("a folder of our own");
        assert!(again.check().is_err());
        fs::create_dir(folder.path()).expect("another folder");
        assert!(again.check().is_err());
        fs::remove_dir_all(moved).expect("a folder of our own");
    }
}
