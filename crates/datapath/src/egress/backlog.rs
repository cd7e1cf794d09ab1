//! Backlog: all that waits for a tool whose copies others make than the worker that sends them.
//!
//! Stands beside the ring between them. Such copies wait in three places: where they were made, in the ring and at the worker that
//! owns the transmit queue. They are one queue all the same, with the limits and the drop reasons of one: whoever makes copies looks
//! here for how full it is, and for what holds it up. Copies that a worker makes and sends itself have none of this.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::admission::Fill;
use tapline_api::words::DropReason;

/// The count of what waits for a tool, which makers and the owner of the tool's queue share, on a cache line of its own.
///
/// Relaxed ordering suffices: the numbers guard no other memory, and the owner takes off only what a ring, which orders memory, has
/// brought it. Several makers may look at the same time, and go beyond a limit by a burst each.
#[derive(Default)]
#[repr(align(128))]
pub struct Backlog {
    /// makers: add; owner: brings up to date.
    packets: AtomicUsize,
    /// As `packets`; only where the tool has a limit in bytes.
    bytes: AtomicU64,
    /// owner: writes; makers: read.
    is_held_by_rate: AtomicBool,
}

impl Backlog {
    /// Gives what waits in all three places.
    #[inline]
    pub fn fill(&self) -> Fill {
        Fill { packets: self.packets.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Replaces `before`, as a part of what waits, by `after`.
    #[inline]
    pub fn change(&self, before: Fill, after: Fill) {
        // differences wrap, as the atomics do
        if before.packets != after.packets {
            self.packets.fetch_add(after.packets.wrapping_sub(before.packets), Ordering::Relaxed);
        }
        if before.bytes != after.bytes {
            self.bytes.fetch_add(after.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
        }
    }

    /// owner: notes whether the tool's rate holds it up, or its port.
    #[inline]
    pub fn note_held_by_rate(&self, is_held_by_rate: bool) {
        // makers read it: their cache line is left alone where nothing changed
        if self.is_held_by_rate.load(Ordering::Relaxed) != is_held_by_rate {
            self.is_held_by_rate.store(is_held_by_rate, Ordering::Relaxed);
        }
    }

    /// Why copies are refused.
    #[inline]
    pub fn reason(&self) -> DropReason {
        if self.is_held_by_rate.load(Ordering::Relaxed) {
            DropReason::RateLimited
        } else {
            DropReason::Congested
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makers_add_and_the_owner_takes_off_is_what_waits() {
        let backlog = Backlog::default();
        let fill = |packets, bytes| Fill { packets, bytes };
        backlog.change(fill(0, 0), fill(10, 640));
        // the owner took over all of them, and sent four
        backlog.change(fill(10, 640), fill(6, 384));
        assert_eq!(backlog.fill(), fill(6, 384));
        // it has made two of its own, which were not in it
        backlog.change(fill(6, 384), fill(8, 512));
        backlog.change(fill(8, 512), fill(0, 0));
        assert_eq!(backlog.fill(), fill(0, 0));
    }
}
