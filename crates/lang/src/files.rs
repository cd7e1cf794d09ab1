//! The files that a pipeline names, as whoever asks for it may see them.
//!
//! Parser and planner open nothing themselves: their caller gives them [`Files`]. The command line gives the files of the system, a
//! caller from outside those of one folder or none, a test those that it made up. Everything is read with a bound in bytes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

/// A file that is open for reading.
pub type Stream = Box<dyn Read + Send>;

/// Files by their paths.
pub trait Files: Debug + Send + Sync {
    /// Opens the regular file at `path`. It waits for nothing: a pipe or a device is refused.
    ///
    /// # Errors
    /// There is none that may be read.
    fn open(&self, path: &Path) -> Result<Stream, Unreadable>;

    /// Opens the pipeline file itself at `path`, which may be a pipe.
    ///
    /// # Errors
    /// As [`Files::open`], which takes fewer.
    fn open_pipeline(&self, path: &Path) -> Result<Stream, Unreadable> {
        self.open(path)
    }

    /// Returns what `path` leads to, through links. `None` for what no bytes can be lost in: a character device such as /dev/null, a
    /// socket, a folder, a path that nothing can be made at.
    fn target(&self, path: &Path) -> Option<Target>;

    /// Returns whether there is nothing at `path`, or a link that leads nowhere.
    fn is_missing(&self, path: &Path) -> bool;

    /// Returns whether there is nothing at `path`, not even a link that leads nowhere.
    fn is_free(&self, path: &Path) -> bool;

    /// Returns whether messages may show what the file at `path` holds: it is called a pipeline file, or anyone may read it, or it
    /// is a pipe.
    ///
    /// Who may run Tapline as another user must not be able to read that user's files by it. Links are followed: the name that
    /// counts is the file's own.
    fn may_be_shown(&self, path: &Path) -> bool;

    /// Finds the folder at `path`, in which files can be made.
    ///
    /// # Errors
    /// There is none.
    fn folder(&self, path: &Path) -> Result<Folder, Unreadable>;

    /// Gives the permission bits of the regular file at `path`; `None` where there are none.
    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }

    /// Says whether `path` may be named at all, to be read or written.
    ///
    /// # Errors
    /// It may not.
    fn permit(&self, path: &Path) -> Result<(), Unreadable>;

    /// Reads the regular file at `path` whole.
    ///
    /// # Errors
    /// As [`Files::open`]; also if it cannot be read to its end, or has more than `most_bytes`.
    fn read(&self, path: &Path, most_bytes: u64) -> Result<Vec<u8>, Unreadable> {
        whole(self.open(path)?, most_bytes)
    }

    /// Reads the pipeline file itself at `path` whole.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn read_pipeline(&self, path: &Path, most_bytes: u64) -> Result<Vec<u8>, Unreadable> {
        whole(self.open_pipeline(path)?, most_bytes)
    }
}

/// Why a file is not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// There is nothing at its path.
    Missing,
    /// It is a pipe, a device or a socket.
    NotRegular,
    /// It has more than so many bytes.
    TooLong(u64),
    /// It is outside this folder, which is all that the caller may name.
    Outside(PathBuf),
    /// The caller may name no file.
    NotPermitted,
    /// The operating system's reason.
    System(String),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Missing => write!(out, "no such file or directory"),
            Unreadable::NotRegular => write!(out, "it is not a regular file"),
            Unreadable::TooLong(most_bytes) => write!(out, "it has more than {}", size(*most_bytes)),
            Unreadable::Outside(folder) => {
                write!(out, "it is outside `{}`, which is all that this caller may name", folder.display())
            }
            Unreadable::NotPermitted => write!(out, "this caller may name no file"),
            Unreadable::System(reason) => write!(out, "{reason}"),
        }
    }
}

impl From<io::Error> for Unreadable {
    /// "No such file or directory (os error 2)": the number helps nobody.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Unreadable::Missing;
        }
        let text = error.to_string();
        Unreadable::System(text.split(" (os error").next().unwrap_or(&text).to_lowercase())
    }
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// Bytes that a file is read into without being moved: more than any key has.
const FIRST_BYTES: u64 = 8192;

fn whole(stream: Stream, most_bytes: u64) -> Result<Vec<u8>, Unreadable> {
    // a key that grows out of its memory would be left there
    let mut bytes = Vec::with_capacity(most_bytes.saturating_add(1).min(FIRST_BYTES) as usize);
    stream.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { Err(Unreadable::TooLong(most_bytes)) } else { Ok(bytes) }
}

/// A folder in which files can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    pub target: Target,
    /// Bytes of its file system; `None` where that is not known.
    pub total_bytes: Option<u64>,
}

/// The file that a path leads to. Two paths are of one file if and only if these are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// Something that is there, by its device and inode.
    Present { device: u64, inode: u64 },
    /// A file that is yet to be made, by its folder and name.
    Missing { device: u64, inode: u64, name: OsString },
}

/// No file at all.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn open(&self, _: &Path) -> Result<Stream, Unreadable> {
        Err(Unreadable::NotPermitted)
    }

    fn target(&self, _: &Path) -> Option<Target> {
        None
    }

    fn is_missing(&self, _: &Path) -> bool {
        false
    }

    fn is_free(&self, _: &Path) -> bool {
        false
    }

    fn may_be_shown(&self, _: &Path) -> bool {
        false
    }

    fn folder(&self, _: &Path) -> Result<Folder, Unreadable> {
        Err(Unreadable::NotPermitted)
    }

    fn permit(&self, _: &Path) -> Result<(), Unreadable> {
        Err(Unreadable::NotPermitted)
    }
}

/// Regular files in memory, by their paths as they are written; anyone may read them. Each folder of a file is there.
#[derive(Clone, Default, Debug)]
pub struct InMemory(BTreeMap<PathBuf, Vec<u8>>);

impl InMemory {
    /// Puts a file at `path`.
    pub fn put(&mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), bytes.into());
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.0.keys().any(|file| file != path && file.starts_with(path))
    }
}

impl Files for InMemory {
    fn open(&self, path: &Path) -> Result<Stream, Unreadable> {
        let bytes = self.0.get(path).ok_or(Unreadable::Missing)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn target(&self, path: &Path) -> Option<Target> {
        let (device, inode) = (0, 0);
        match self.0.keys().position(|file| file == path) {
            Some(place) => Some(Target::Present { device, inode: place as u64 }),
            None if self.is_folder(path) => None,
            None => Some(Target::Missing { device, inode, name: path.into() }),
        }
    }

    fn is_missing(&self, path: &Path) -> bool {
        !self.0.contains_key(path) && !self.is_folder(path)
    }

    fn is_free(&self, path: &Path) -> bool {
        self.is_missing(path)
    }

    fn may_be_shown(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn folder(&self, path: &Path) -> Result<Folder, Unreadable> {
        if !self.is_folder(path) {
            return Err(Unreadable::Missing);
        }
        let target = Target::Missing { device: 0, inode: 0, name: path.into() };
        Ok(Folder { target, total_bytes: None })
    }

    fn permit(&self, _: &Path) -> Result<(), Unreadable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_memory_is_read_up_to_its_bound() {
        let mut files = InMemory::default();
        files.put("folder/list", [7; 100]);
        let list = Path::new("folder/list");
        assert_eq!(files.read(list, 100), Ok(vec![7; 100]));
        assert_eq!(files.read(list, 99), Err(Unreadable::TooLong(99)));
        assert_eq!(files.read(Path::new("other"), 99), Err(Unreadable::Missing));
        assert!(!files.is_missing(Path::new("folder")) && files.is_missing(Path::new("fold")));
        assert_eq!(NoFiles.read(list, 100), Err(Unreadable::NotPermitted));
    }

    #[test]
    fn reasons_are_the_systems_words_without_its_numbers() {
        let reason = |errno: i32| Unreadable::from(io::Error::from_raw_os_error(errno)).to_string();
        assert_eq!(reason(2), "no such file or directory");
        assert_eq!(reason(13), "permission denied");
        assert_eq!(Unreadable::TooLong(99).to_string(), "it has more than 99 bytes");
        assert_eq!(Unreadable::TooLong(2 << 20).to_string(), "it has more than 2 MiB");
    }
}
