//! Packets whose last byte is the last of a page, with a page that cannot be read behind it: a read past the end is a crash.

use std::ptr::null_mut;

/// A mapping of so many slots, each a readable page before an unreadable one.
pub(super) struct Guarded {
    start: *mut u8,
    slots: usize,
}

const PAGE: usize = 4096;

impl Guarded {
    pub(super) fn new(slots: usize) -> Guarded {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping of a fresh range.
        let start = unsafe {
            libc::mmap(null_mut(), slots * 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED, "memory for packets");
        let guarded = Guarded { start: start.cast(), slots };
        for slot in 0..slots {
            // SAFETY: the second page of each slot lies inside the mapping.
            let guard = unsafe { guarded.start.add((2 * slot + 1) * PAGE) };
            // SAFETY: as above; nothing refers to it.
            assert_eq!(unsafe { libc::mprotect(guard.cast(), PAGE, libc::PROT_NONE) }, 0, "a guard page");
        }
        guarded
    }

    /// Copies `packets`, each to the end of a slot's readable page. Longer ones than a page are left as they are.
    pub(super) fn place<'a>(&'a mut self, packets: &[(&'a [u8], u32)]) -> Vec<(&'a [u8], u32)> {
        assert!(packets.len() <= self.slots, "a slot for each packet");
        let place = |(slot, &(bytes, len)): (usize, &(&'a [u8], u32))| {
            if bytes.len() > PAGE {
                return (bytes, len);
            }
            // SAFETY: the slot's readable page ends inside the mapping, and `bytes.len()` before that is inside the page.
            let to = unsafe { self.start.add((2 * slot + 1) * PAGE - bytes.len()) };
            // SAFETY: `to` has room for the bytes, in a page of ours that `bytes` is not in.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            // SAFETY: just written, borrowed from `self` like the result.
            (unsafe { std::slice::from_raw_parts(to.cast_const(), bytes.len()) }, len)
        };
        packets.iter().enumerate().map(place).collect()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, of which `place` lends only for the life of `self`.
        unsafe { libc::munmap(self.start.cast(), self.slots * 2 * PAGE) };
    }
}
