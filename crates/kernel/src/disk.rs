//! File systems: the room that they have, and what this process may do in them.
//! # Source
//! statvfs(3), statfs(2), faccessat(2).

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat, statfs, statvfs};

/// The room of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// The kind of file system, by the word of mount(8); "other" for those that have none here.
    pub kind: &'static str,
}

/// Gives the room of the file system that `path` is on.
///
/// # Errors
/// If the kernel does not say.
pub fn space(path: &Path) -> io::Result<Space> {
    let room = statvfs(path)?;
    Ok(Space {
        free: room.f_bavail.saturating_mul(room.f_frsize),
        total: room.f_blocks.saturating_mul(room.f_frsize),
        kind: kind_of(statfs(path)?.f_type as u32),
    })
}

/// Gives the word of a file system's number.
/// # Source
/// linux/magic.h.
fn kind_of(number: u32) -> &'static str {
    match number {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        _ => "other",
    }
}

/// Returns whether this process may read a file.
pub fn may_read(path: &Path) -> bool {
    accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok()
}

/// Returns whether this process may make files in a folder.
pub fn may_write(folder: &Path) -> bool {
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_that_of_stat() {
        let folder = tempfile::tempdir().expect("a folder");
        let space = space(folder.path()).expect("it is there");
        let output = std::process::Command::new("stat")
            .args(["-f", "-c", "%b %S"])
            .arg(folder.path())
            .output()
            .expect("stat(1)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(space.total, numbers[0] * numbers[1]);
        assert!(space.free <= space.total);
        assert!(may_write(folder.path()) && !may_read(&folder.path().join("none")));
    }
}
