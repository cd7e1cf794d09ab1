//! The state of a store, as others see it: what it holds, and what became of it since they looked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::repair::Repaired;
use super::retention::{Holdings, Segment};
use tapline_api::words::{DropReason, Expiry};

/// Happenings that wait to be looked at, at the most: what comes then is counted only.
const MOST_HAPPENINGS: usize = 1024;

/// Something that became of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A segment that a crash left was cut behind its last whole block.
    Repaired(Repaired),
    /// A segment was deleted.
    Expired { segment: Segment, reason: Expiry },
    /// Nothing can be written: copies are lost for this reason.
    Failing { reason: DropReason, error: String },
    /// Copies are written again.
    Recovered,
}

/// The state of a store.
///
/// The numbers are of one thread, and order nothing: relaxed ordering suffices.
#[derive(Default, Debug)]
pub struct Status {
    // disk: writes; control: reads
    segments: AtomicU64,
    bytes: AtomicU64,
    oldest_ns: AtomicU64,
    begun: AtomicU64,
    expired: AtomicU64,
    expired_bytes: AtomicU64,
    is_failing: AtomicBool,
    happenings: Mutex<VecDeque<Happening>>,
}

/// The numbers of a store.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreCounts {
    /// Segments that are whole.
    pub segments: u64,
    /// Bytes of all that the folder holds, the segment that is written included.
    pub bytes: u64,
    /// The time of the first packet of the oldest segment, in nanoseconds since the Unix epoch; `None` where there is none.
    pub oldest_ns: Option<u64>,
    /// Segments that were begun in this run.
    pub begun: u64,
    /// Segments that were deleted in this run, and their bytes.
    pub expired: u64,
    pub expired_bytes: u64,
    /// Nothing can be written.
    pub is_failing: bool,
}

impl Status {
    /// control: the numbers.
    pub fn counts(&self) -> StoreCounts {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let segments = get(&self.segments);
        StoreCounts {
            segments,
            bytes: get(&self.bytes),
            oldest_ns: (segments > 0).then(|| get(&self.oldest_ns)),
            begun: get(&self.begun),
            expired: get(&self.expired),
            expired_bytes: get(&self.expired_bytes),
            is_failing: self.is_failing.load(Ordering::Relaxed),
        }
    }

    /// control: what happened since the last call.
    pub fn take_happenings(&self) -> Vec<Happening> {
        self.happenings.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// disk: what the folder holds, beside `open_bytes` of the segment that is written.
    pub(crate) fn hold(&self, holdings: &Holdings, open_bytes: u64) {
        let set = |number: &AtomicU64, value: u64| number.store(value, Ordering::Relaxed);
        set(&self.segments, holdings.segments().len() as u64);
        set(&self.bytes, holdings.bytes() + open_bytes);
        set(&self.oldest_ns, holdings.oldest().map_or(0, |oldest| oldest.name.first_ns));
    }

    /// disk: a segment was begun.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// disk: notes what happened.
    pub(crate) fn note(&self, happening: Happening) {
        match &happening {
            Happening::Expired { segment, .. } => {
                self.expired.fetch_add(1, Ordering::Relaxed);
                self.expired_bytes.fetch_add(segment.bytes, Ordering::Relaxed);
            }
            Happening::Failing { .. } => self.is_failing.store(true, Ordering::Relaxed),
            Happening::Recovered => self.is_failing.store(false, Ordering::Relaxed),
            Happening::Repaired(_) => {}
        }
        let mut happenings = self.happenings.lock().unwrap_or_else(PoisonError::into_inner);
        if happenings.len() < MOST_HAPPENINGS {
            happenings.push_back(happening);
        }
    }
}
