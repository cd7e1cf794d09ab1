//! The folder in which a broker keeps what outlives it: tokens, the plans that were in force, the head of the audit log. One broker has it
//! at a time.
//! # Source
//! flock(2), rename(2), fsync(2).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tapline_api::event::Event;

/// Its owner alone may look into it.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The right of others to write.
const OTHERS_WRITE: u32 = 0o022;
/// Bytes of a file that are read.
const MOST_BYTES: u64 = 64 << 20;
/// The name of the lock.
const LOCK: &str = ".lock";

/// A folder of the broker's own.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Held as long as the folder is ours.
    _lock: File,
}

impl State {
    /// Takes the folder at `path`, which is made if it is missing.
    ///
    /// # Errors
    /// Another broker has it, others may write to it, or the system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
        if fs::metadata(path)?.mode() & OTHERS_WRITE != 0 {
            return Err(io::Error::other("others may write to it; take that right from them (chmod go-w)"));
        }
        let lock = path.join(LOCK);
        let lock = File::options().write(true).create(true).truncate(false).mode(FILE_MODE).open(lock)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another Tapline has it; name another folder, or end that one first"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Reads a file; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is longer than any that is written here.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(format!("{name} has more than {MOST_BYTES} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Puts a file in the place of the one of this name. It is there whole or not at all, also after a crash.
    ///
    /// # Errors
    /// It cannot be written; the one before it is there still.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.folder.join(name), bytes, FILE_MODE)
    }

    /// Puts a file that is damaged as `error` says out of the way, and returns the event that says so.
    pub fn set_aside(&self, name: &str, error: &io::Error) -> Event {
        let path = self.folder.join(name);
        // where it cannot be moved, it is written over
        let _ = fs::rename(&path, self.folder.join(format!("{name}.damaged")));
        Event::StateDamaged { path: path.display().to_string(), error: error.to_string() }
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there, or stays.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    /// Lists the names of all files, as far as the folder can be read.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

/// Puts a file in the place of the one at `path`, with `mode` as far as the umask lets it have that. It is there whole or not at all, also
/// after a crash.
///
/// # Errors
/// It cannot be written; the one before it is there still.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut hidden = OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".new");
    let hidden = path.with_file_name(hidden);
    let written = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&hidden)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&hidden, path)
    })();
    if written.is_err() {
        // a rest takes room alone: the next one is written over it
        let _ = fs::remove_file(&hidden);
        return written;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_for_its_owner_and_has_one_broker() {
        let outer = tempfile::tempdir().expect("a folder");
        let path = outer.path().join("a/b");
        let state = State::open(&path).expect("a folder");
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
        assert!(State::open(&path).expect_err("a second").to_string().contains("another Tapline"));
        drop(state);
        assert!(State::open(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).expect("it is ours");
        assert!(State::open(&path).expect_err("others").to_string().contains("others may write"));
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a folder");
        assert_eq!(state.read("a.json").expect("none"), None);
        state.write("a.json", b"first").expect("a file");
        state.write("a.json", b"second").expect("a file");
        assert_eq!(state.read("a.json").expect("a file"), Some(b"second".to_vec()));
        assert_eq!(mode(&folder.path().join("a.json")), 0o600);
        // a folder in the place of the file cannot be written over
        fs::create_dir(folder.path().join("b")).expect("a folder");
        assert!(state.write("b", b"x").is_err());
        let left: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("one").file_name())
            .collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
