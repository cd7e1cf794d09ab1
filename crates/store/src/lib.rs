//! Stores of captures: folders of whole pcapng segments that rotate, are kept by size, age and free space, and are repaired after a
//! crash. It needs no EAL.
//!
//! A [`Store`] is fed by one thread, which makes blocks of packets and gathers them in chunks. The [`disk`] thread of the file system
//! writes the chunks of all its stores, makes finished segments visible by rename, and deletes the oldest ones. Between the two is a
//! bounded number of chunks: where none is free, a packet is lost as `disk_slow`, and neither thread waits for the other.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

mod chunk;
/// The threads that write.
pub mod disk;
mod feed;
/// Folders of segments, each of one store at a time.
pub mod folder;
mod names;
mod recording;
mod repair;
/// The segments that are to go.
pub mod retention;
/// The state of a store, as others see it.
pub mod status;

pub use feed::{PortCounts, Put, Source, SourceId, Store, StoreHandle, StorePort, Written};
pub use names::SegmentName;
pub use repair::Repaired;

/// Packets that are on their way to the disk, at the most: as many empty ones as all chunks have room for.
pub const MOST_PACKETS_WAITING: u64 = (chunk::MOST_CHUNKS * chunk::CHUNK_LEN / 32) as u64;

/// The wishes of a store's owner, which may change while it records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSpec {
    /// Bytes of a segment at the most, but for one with a single longer packet.
    pub rotate_bytes: u64,
    /// The longest that a segment lasts, by the times of its packets and by the wall clock.
    pub rotate_ns: Option<u64>,
    /// Bytes that the folder holds at the most, of whatever files.
    pub keep_bytes: u64,
    /// The longest that a segment is kept behind its close.
    pub age_ns: Option<u64>,
    /// The share of the file system, in percent, that is left free.
    pub free_percent: Option<u8>,
    /// The longest that written bytes are on their way to the disk.
    pub sync_ns: u64,
    /// The group of new files.
    pub gid: Option<u32>,
}
