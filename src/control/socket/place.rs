//! The place of a control socket in the file system. It is made under another name and renamed, so that it is there whole or not at
//! all. A lock beside it says whether its maker still lives.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Owner and group may connect; what they may ask for is the session's to say.
const MODE: u32 = 0o660;

/// A socket in the file system that is ours.
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode of the socket that was made.
    target: (u64, u64),
    /// Held as long as the socket is ours.
    _lock: File,
}

impl Place {
    /// Makes a socket at `path`, and the folders that it needs. A socket whose owner is gone is replaced.
    ///
    /// # Errors
    /// A live process listens there, something else than a socket stands there, or the system refuses.
    pub(super) fn take(path: &Path) -> io::Result<(Self, UnixListener)> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&folder)?;
        let beside = |suffix: &str| {
            let mut other = std::ffi::OsString::from(".");
            other.push(name);
            other.push(suffix);
            folder.join(other)
        };
        let lock = File::options().write(true).create(true).truncate(false).open(beside(".lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken("another Tapline listens here")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if let Ok(there) = fs::symlink_metadata(path) {
            use std::os::unix::fs::FileTypeExt;
            if !there.file_type().is_socket() {
                return Err(taken("something else than a socket stands here"));
            }
            // whoever made this one holds no lock of ours: another program, or a Tapline that is gone
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(taken("another program listens here"));
            }
        }
        let hidden = beside(&format!(".{}", std::process::id()));
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden)?;
        let made = fs::set_permissions(&hidden, fs::Permissions::from_mode(MODE))
            .and_then(|()| fs::metadata(&hidden))
            .and_then(|there| fs::rename(&hidden, path).map(|()| (there.dev(), there.ino())));
        match made {
            Ok(target) => Ok((Self { path: path.to_owned(), target, _lock: lock }, listener)),
            Err(error) => {
                let _ = fs::remove_file(&hidden);
                Err(error)
            }
        }
    }
}

fn taken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, format!("{why}; name another place, or end that one first"))
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.target);
        if is_ours {
            // nobody finds it any more; one that cannot be removed is replaced by the next
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_live_socket_is_refused_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/tapline/control.sock");
        let (first, listener) = Place::take(&path).expect("a place");
        assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
        assert!(UnixStream::connect(&path).is_ok());
        let refused = Place::take(&path).err().expect("a second owner");
        assert!(refused.to_string().contains("another Tapline listens here"), "{refused}");
        drop(listener);
        drop(first);
        assert!(!path.exists());

        // as a process leaves it that was killed
        let dead = UnixListener::bind(&path).expect("a socket");
        drop(dead);
        let (second, _listener) = Place::take(&path).expect("the place of one that is gone");
        assert!(UnixStream::connect(&path).is_ok());
        // one that was put in its place is not ours to remove
        fs::remove_file(&path).expect("a socket");
        let other = UnixListener::bind(&path).expect("a socket");
        drop(second);
        assert!(path.exists());
        let refused = Place::take(&path).err().expect("a live one of another program");
        assert!(refused.to_string().contains("another program listens here"), "{refused}");
        drop(other);
        fs::remove_file(&path).expect("a socket");
        fs::write(&path, "text").expect("a file");
        assert!(
            Place::take(&path)
                .is_err_and(|error| error.to_string().contains("something else than a socket"))
        );
        assert_eq!(fs::read(&path).expect("a file"), b"text");
    }
}
