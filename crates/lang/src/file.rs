//! Files that are read whole: with a bound in bytes, so that one without an end fills no memory.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Reads the regular file at `path`. A pipe or a device is refused, and not waited for.
///
/// # Errors
/// The reason in the words of the operating system, or ours for a file that is not regular or has more than `most_bytes`.
pub fn read_regular(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    // a pipe that nobody writes would be waited for
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(reason)?;
    let metadata = file.metadata().map_err(reason)?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err("it is not a regular file".to_owned());
    }
    read(file, most_bytes)
}

/// Reads the file at `path` to its end, a pipe too.
///
/// # Errors
/// As [`read_regular`], which takes fewer.
pub fn read_any(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    read(File::open(path).map_err(reason)?, most_bytes)
}

fn read(file: File, most_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > most_bytes {
        return Err(format!("it has more than {}", size(most_bytes)));
    }
    Ok(bytes)
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// "No such file or directory (os error 2)": the number helps nobody.
fn reason(error: io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Returns whether messages may show what the file at `path` holds: it is called a pipeline file, or anyone may read it, or it is
/// a pipe.
///
/// Who may run Tapline as another user must not be able to read that user's files by it. Symbolic links are followed: the name that
/// counts is the file's own.
pub fn may_be_shown(path: &Path) -> bool {
    let is_pipeline = || {
        path.canonicalize().is_ok_and(|path| path.extension().is_some_and(|extension| extension == "pipe"))
    };
    let is_open = |metadata: Metadata| !metadata.is_file() || metadata.permissions().mode() & 0o004 != 0;
    is_pipeline() || path.metadata().is_ok_and(is_open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_what_never_ends_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        std::fs::write(&path, [7; 100]).expect("a file");
        assert_eq!(read_regular(&path, 100), Ok(vec![7; 100]));
        assert_eq!(read_regular(&path, 99), Err("it has more than 99 bytes".to_owned()));
        assert_eq!(read_any(Path::new("/dev/zero"), 2 << 20), Err("it has more than 2 MiB".to_owned()));
        assert_eq!(
            read_regular(Path::new("/dev/zero"), 2 << 20),
            Err("it is not a regular file".to_owned())
        );
        assert_eq!(read_regular(folder.path(), 100), Err("is a directory".to_owned()));
        assert_eq!(
            read_regular(&folder.path().join("nothing"), 100),
            Err("no such file or directory".to_owned())
        );
    }

    #[test]
    fn a_pipe_that_nobody_writes_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo(1)");
        assert!(made.success());
        assert_eq!(read_regular(&path, 100), Err("it is not a regular file".to_owned()));
    }

    #[test]
    fn a_private_file_is_shown_by_its_own_name_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("a file of our own");
            path
        };
        let (secret, private) = (file("shadow", 0o640), file("private.pipe", 0o600));
        assert!(
            !may_be_shown(&secret) && may_be_shown(&private) && may_be_shown(&file("rules.txt", 0o644))
        );
        let link = folder.path().join("link.pipe");
        std::os::unix::fs::symlink(&secret, &link).expect("a link");
        assert!(!may_be_shown(&link), "a link makes no pipeline file of another");
        let nothing = folder.path().join("nothing");
        assert!(!may_be_shown(&nothing));
    }
}
