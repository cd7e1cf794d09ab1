//! Memory for keys: no core file has it, and it is zeroes before it is given back. Also what keeps the whole process out of cores.
//! # Source
//! madvise(2), MADV_DONTDUMP; getrlimit(2), RLIMIT_CORE; prctl(2), PR_SET_DUMPABLE.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroize;

use crate::machine::page_bytes;

/// A value in pages of its own.
pub struct Secret<T> {
    value: NonNull<T>,
    /// Bytes of the pages.
    len: usize,
}

// SAFETY: the value is reached through its only owner, as that of a `Box` is.
unsafe impl<T: Send> Send for Secret<T> {}
// SAFETY: as above; a shared reference gives shared references to the value alone.
unsafe impl<T: Sync> Sync for Secret<T> {}

impl<T> Secret<T> {
    /// Puts what `make` returns into pages of its own, and wipes the part of the stack that it was made on.
    ///
    /// The process ends where there is no memory, as it does for a `Box`.
    pub fn new(make: impl FnOnce() -> T) -> Self {
        const { assert!(align_of::<T>() <= 4096) };
        let len = size_of::<T>().max(1).next_multiple_of(page_bytes() as usize);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses a place that nothing else has.
        let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags) };
        let Some(value) = start.ok().and_then(NonNull::new) else { handle_alloc_error(Layout::new::<T>()) };
        // SAFETY: the pages are ours; the advice changes no byte of them. A kernel that refuses it leaves them in cores, which are off.
        let _ = unsafe { rustix::mm::madvise(value.as_ptr(), len, Advice::LinuxDontDump) };
        let value = value.cast::<T>();
        fill(value, make);
        wipe_stack();
        Self { value, len }
    }
}

/// Puts a value where nothing is yet.
#[inline(never)]
fn fill<T>(place: NonNull<T>, make: impl FnOnce() -> T) {
    // SAFETY: `Secret::new` has just mapped the place, which is large enough, aligned to a page, and reached by nobody else.
    unsafe { place.write(make()) };
}

/// Writes zeroes where functions that have returned kept their values.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0u8; 32 << 10];
    below.zeroize();
}

impl<T> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has put a value there, which lives until `drop`.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Secret<T> {
    fn drop(&mut self) {
        // SAFETY: the value is there, and is not used again.
        unsafe { self.value.drop_in_place() };
        // SAFETY: the pages are ours, `len` bytes, and hold nothing any more; any bytes may be written to them.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.value.cast::<u8>().as_ptr(), self.len) };
        bytes.zeroize();
        // SAFETY: these are the pages of `new`, which nothing reaches any more.
        let _ = unsafe { rustix::mm::munmap(self.value.as_ptr().cast(), self.len) };
    }
}

/// Keeps the process from leaving a core, and other processes of its user from reading its memory.
pub fn forbid_cores() {
    // a process that may not lower its own limit is one that nobody can trace either
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping that an address is in, as the kernel shows them.
    fn flags_of(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
        let mut is_here = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let range = range.and_then(|(first, end)| {
                Some(usize::from_str_radix(first, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
            });
            if let Some(range) = range {
                is_here = range.contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_here) {
                return flags.to_owned();
            }
        }
        panic!("no mapping has {address:x}")
    }

    #[test]
    fn a_secret_is_in_pages_that_no_core_has() {
        let secret = Secret::new(|| [7u8; 5000]);
        assert_eq!(*secret, [7; 5000]);
        let here = &raw const *secret as usize;
        // "dd": do not include area into core dump (proc(5))
        assert!(flags_of(here).split(' ').any(|flag| flag == "dd"));
        assert!(flags_of(here + 4999).split(' ').any(|flag| flag == "dd"));
        let other = vec![0u8; 1 << 20];
        assert!(!flags_of(other.as_ptr() as usize).split(' ').any(|flag| flag == "dd"));
    }
}
