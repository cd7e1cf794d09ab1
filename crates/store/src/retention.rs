//! Retention: which segment is to go next, and why.
//!
//! The oldest segment is the one of the lowest number. One goes at a time, and only when the bytes at hand ask for it.

use std::collections::VecDeque;

use super::{SegmentName, StoreSpec};
use tapline_api::words::Expiry;
use tapline_kernel::storage::Room;

/// A segment that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub name: SegmentName,
    pub bytes: u64,
    /// The wall clock's time of its close, in nanoseconds since the Unix epoch.
    pub closed_ns: u64,
}

/// The segments of a folder, and all else that it holds.
#[derive(Clone, Default, Debug)]
pub struct Holdings {
    /// Ascending by their numbers.
    segments: VecDeque<Segment>,
    /// Bytes of all segments.
    bytes: u64,
    /// Bytes of files that are no segments.
    pub other_bytes: u64,
}

impl Holdings {
    /// The segments of a folder, in any order.
    pub fn new(mut segments: Vec<Segment>, other_bytes: u64) -> Self {
        segments.sort_by_key(|segment| segment.name);
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self { segments: segments.into(), bytes, other_bytes }
    }

    /// Returns the segments, the oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Bytes of all that the folder holds, but for the segment that is written.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.other_bytes
    }

    /// Returns the oldest segment.
    pub fn oldest(&self) -> Option<&Segment> {
        self.segments.front()
    }

    /// Adds a segment, whose number is above all others.
    pub fn add(&mut self, segment: Segment) {
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
    }

    /// Forgets the segment at a place.
    pub fn remove(&mut self, place: usize) -> Option<Segment> {
        let segment = self.segments.remove(place)?;
        self.bytes -= segment.bytes;
        Some(segment)
    }

    /// Finds the segment that is to go before `growing` bytes are in the folder beside the segments, and `taken` more bytes of the file
    /// system are in use, at the most of what `room` has.
    pub fn too_many(
        &self,
        spec: &StoreSpec,
        growing: u64,
        taken: u64,
        room: Option<Room>,
    ) -> Option<Expiry> {
        self.oldest()?;
        if self.bytes().saturating_add(growing) > spec.keep_bytes {
            return Some(Expiry::Keep);
        }
        is_short(spec, taken, room).then_some(Expiry::Free)
    }

    /// Finds a segment that is older than it may be at `now_ns`.
    pub fn too_old(&self, spec: &StoreSpec, now_ns: u64) -> Option<usize> {
        let age_ns = spec.age_ns?;
        self.segments.iter().position(|segment| segment.closed_ns.saturating_add(age_ns) <= now_ns)
    }
}

/// Returns whether less of the file system would be free than is to be left, once `taken` more bytes of it are in use.
pub fn is_short(spec: &StoreSpec, taken: u64, room: Option<Room>) -> bool {
    let (Some(percent), Some(room)) = (spec.free_percent, room) else { return false };
    let least = u128::from(room.total_bytes) * u128::from(percent);
    u128::from(room.free_bytes.saturating_sub(taken)) * 100 < least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(keep_bytes: u64, free_percent: Option<u8>, age_ns: Option<u64>) -> StoreSpec {
        StoreSpec {
            rotate_bytes: 100,
            rotate_ns: None,
            keep_bytes,
            age_ns,
            free_percent,
            sync_ns: 1,
            gid: None,
        }
    }

    fn segment(seq: u64, bytes: u64) -> Segment {
        Segment { name: SegmentName { seq, first_ns: 1000 - seq }, bytes, closed_ns: seq * 10 }
    }

    proptest! {
        #[test]
        fn as_many_of_the_oldest_go_as_are_needed_and_no_more(
            sizes in prop::collection::vec(1u64..1000, 0..20),
            (keep, growing, other) in (0u64..10_000, 0u64..2000, 0u64..500),
            (percent, free) in (prop::option::of(1u8..99), 0u64..20_000),
        ) {
            let spec = spec(keep, percent, None);
            // newest first: the order of the folder does not count
            let segments: Vec<Segment> =
                sizes.iter().enumerate().map(|(seq, bytes)| segment(seq as u64, *bytes)).rev().collect();
            let mut holdings = Holdings::new(segments, other);
            let mut room = Room { total_bytes: 20_000, free_bytes: free };
            while holdings.too_many(&spec, growing, growing, Some(room)).is_some() {
                room.free_bytes += holdings.remove(0).expect("one that is to go").bytes;
            }
            // the model: the longest run of newest segments that fits
            let fits = |from: usize| {
                let (gone, kept) = (sizes[..from].iter().sum::<u64>(), sizes[from..].iter().sum::<u64>());
                let is_free = percent.is_none_or(|percent| {
                    (free + gone).saturating_sub(growing) * 100 >= 20_000 * u64::from(percent)
                });
                kept + other + growing <= keep && is_free
            };
            let from = (0..sizes.len()).find(|&from| fits(from)).unwrap_or(sizes.len());
            let left: Vec<u64> = holdings.segments().map(|segment| segment.name.seq).collect();
            prop_assert_eq!(left, (from as u64..sizes.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(holdings.bytes(), other + sizes[from..].iter().sum::<u64>());
        }
    }

    #[test]
    fn age_counts_from_the_close() {
        let holdings = Holdings::new(vec![segment(1, 1), segment(2, 1), segment(9, 1)], 0);
        let too_old = |age_ns, now_ns| holdings.too_old(&spec(9, None, age_ns), now_ns);
        assert_eq!(too_old(None, u64::MAX), None);
        assert_eq!(too_old(Some(5), 14), None);
        assert_eq!(too_old(Some(5), 15), Some(0));
        assert_eq!(too_old(Some(u64::MAX), u64::MAX - 1), None);
    }
}
