//! Storage: space that is reserved for files, bytes that do not stay in the page cache, and the room of file systems.
//! # Source
//! fallocate(2), pwritev2(2), sync_file_range(2), posix_fadvise(2), statvfs(3), faccessat(2), fchown(2).

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Access, Advice, AtFlags, CWD, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// `RWF_DONTCACHE`: written pages leave the cache once they are on the disk.
/// # Source
/// `include/uapi/linux/fs.h`, Linux 6.14.
const RWF_DONTCACHE: u32 = 0x80;

/// Bytes of the shortest write that goes past the cache: each such write begins one to the disk at once.
const UNCACHED_LEN: usize = 64 << 10;

/// Bytes between two looks at the page cache where the kernel does not drop pages by itself.
const WINDOW: u64 = 8 << 20;

/// The room of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    pub total_bytes: u64,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
}

/// Returns the room of the file system that a file or folder is on.
///
/// # Errors
/// If the system does not say.
pub fn room(there: &File) -> io::Result<Room> {
    let said = rustix::fs::fstatvfs(there)?;
    let bytes = |blocks: u64| blocks.saturating_mul(said.f_frsize);
    Ok(Room { total_bytes: bytes(said.f_blocks), free_bytes: bytes(said.f_bavail) })
}

/// Reserves space for the first `bytes` of a file, whose length stays.
///
/// # Errors
/// If there is no space, or the file system cannot reserve any.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)?)
}

/// Says whether this process may make, rename and remove files in a folder.
///
/// # Errors
/// It may not: the system's reason.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Gives a file to a group.
///
/// # Errors
/// If this process is not of that group.
pub fn give_to_group(file: &File, gid: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(gid)))?)
}

/// The end of a file that is written from its beginning on and not read soon: its pages do not stay in the cache, so few of them are
/// ever dirty.
#[derive(Debug)]
pub struct Tail {
    len: u64,
    /// The kernel drops pages by itself.
    is_uncached: bool,
    /// Bytes whose way to the disk has begun, and bytes that have left the cache.
    begun: u64,
    dropped: u64,
}

impl Default for Tail {
    fn default() -> Self {
        Self { len: 0, is_uncached: true, begun: 0, dropped: 0 }
    }
}

impl Tail {
    /// Returns how many bytes the file has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes, as many as the system takes at once, and gives their number.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write(file, bytes)?;
        self.len += written as u64;
        if !self.is_uncached && self.len - self.begun >= WINDOW {
            self.write_behind(file);
        }
        Ok(written)
    }

    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        if self.is_uncached && bytes.len() >= UNCACHED_LEN {
            let flags = ReadWriteFlags::from_bits_retain(RWF_DONTCACHE);
            match rustix::io::pwritev2(file, &[IoSlice::new(bytes)], self.len, flags) {
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => self.is_uncached = false,
                written => return Ok(written?),
            }
        }
        Ok(rustix::io::pwrite(file, bytes, self.len)?)
    }

    /// Begins to write the last window to the disk, and drops the one before it from the cache once it is there.
    fn write_behind(&mut self, file: &File) {
        let is_new = self.len - self.begun;
        sync_range(file, self.begun, is_new, libc::SYNC_FILE_RANGE_WRITE);
        let is_old = self.begun - self.dropped;
        if let Some(len) = NonZeroU64::new(is_old) {
            let wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            sync_range(file, self.dropped, is_old, wait);
            // advice that is not taken costs memory alone
            let _ = rustix::fs::fadvise(file, self.dropped, Some(len), Advice::DontNeed);
        }
        (self.dropped, self.begun) = (self.begun, self.len);
    }

    /// Gives up all bytes behind the first `len`.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)?;
        self.len = len;
        self.begun = self.begun.min(len);
        self.dropped = self.dropped.min(len);
        Ok(())
    }
}

/// Writes a range of a file to the disk. Failures are those of a later fdatasync(2), which reports them.
fn sync_range(file: &File, offset: u64, len: u64, flags: libc::c_uint) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: sync_file_range(2) takes any numbers and touches no memory of this process; the descriptor is open as long as `file` is
    // borrowed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn bytes_are_appended_in_order_with_and_without_the_cache_and_cut_again() {
        let piece: Vec<u8> = (0..1_000_003u32).map(|at| at as u8).collect();
        for is_uncached in [true, false] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let mut tail = Tail { is_uncached, ..Tail::default() };
            let mut expected = Vec::new();
            for _ in 0..20 {
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let written = tail.append(file.as_file(), rest).expect("a file of our own");
                    rest = &rest[written..];
                }
                expected.extend_from_slice(&piece);
            }
            assert_eq!(tail.len(), expected.len() as u64);
            tail.cut(file.as_file(), 77).expect("a file of our own");
            tail.append(file.as_file(), b"end").expect("a file of our own");
            assert!(std::fs::read(file.path()).expect("a file") == [&expected[..77], b"end"].concat());
        }
    }

    #[test]
    fn what_is_reserved_has_blocks_and_no_length() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let file = File::create(folder.path().join("reserved")).expect("a file");
        reserve(&file, 1 << 20).expect("a file system that reserves");
        let there = file.metadata().expect("a file");
        assert_eq!(there.len(), 0);
        assert!(there.blocks() * 512 >= 1 << 20);
        let room = room(&file).expect("a file system");
        assert!(room.total_bytes > room.free_bytes && room.free_bytes > 0);
        check_writable(folder.path()).expect("a folder of our own");
        assert!(check_writable(&folder.path().join("missing")).is_err());
    }
}
