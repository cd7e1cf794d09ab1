//! Chunks: bytes of whole blocks on their way from a store's feeder to the disk, and back with what became of them.

use std::sync::atomic::AtomicBool;

use crossbeam_queue::ArrayQueue;

use super::feed::SourceId;
use super::status::Status;
use tapline_api::words::DropReason;

/// Bytes of a chunk: one write.
pub(crate) const CHUNK_LEN: usize = 1 << 20;
/// Chunks of a store, all together: what a disk may be behind by.
pub(crate) const MOST_CHUNKS: usize = 64;

/// This is what a chunk says of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) of: SourceId,
    pub(crate) packets: u64,
    /// Lost packets that the chunk's packets, and its counts at the end of the section, tell of.
    pub(crate) told: u64,
    pub(crate) counted: u64,
}

/// The packets of a chunk.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) packets: u64,
    /// Bytes of packets, without those that were cut off.
    pub(crate) bytes: u64,
    pub(crate) cut_bytes: u64,
    pub(crate) parts: Vec<Part>,
}

impl Tally {
    /// Adds a packet that tells of `told` lost ones.
    pub(crate) fn add(&mut self, of: SourceId, bytes: usize, cut_bytes: usize, told: u64) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.cut_bytes += cut_bytes as u64;
        let part = self.part(of);
        part.packets += 1;
        part.told += told;
    }

    /// This is what is said of a source.
    pub(crate) fn part(&mut self, of: SourceId) -> &mut Part {
        // packets of one source come one after another
        let place = self.parts.iter().rposition(|part| part.of == of).unwrap_or_else(|| {
            self.parts.push(Part { of, packets: 0, told: 0, counted: 0 });
            self.parts.len() - 1
        });
        &mut self.parts[place]
    }

    fn clear(&mut self) {
        (self.packets, self.bytes, self.cut_bytes) = (0, 0, 0);
        self.parts.clear();
    }
}

/// Bytes of one segment.
#[derive(Default, Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    /// The number of the section, counted by the feeder.
    pub(crate) section: u64,
    /// The time of the first packet of the segment that the chunk begins.
    pub(crate) begins: Option<u64>,
    /// The segment ends behind the chunk.
    pub(crate) ends: bool,
    pub(crate) tally: Tally,
    /// disk: sets. Why the chunk is lost.
    pub(crate) lost: Option<DropReason>,
}

impl Chunk {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.tally.clear();
        (self.begins, self.ends, self.lost) = (None, false, None);
    }
}

/// The way of a store's chunks to the disk and back.
#[derive(Debug)]
pub(crate) struct Lane {
    /// feeder: gives; disk: takes.
    pub(crate) full: ArrayQueue<Chunk>,
    /// disk: gives; feeder: takes.
    pub(crate) done: ArrayQueue<Chunk>,
    /// feeder: sets. Nothing more comes.
    pub(crate) is_closed: AtomicBool,
    /// disk: sets. All is written that came.
    pub(crate) is_ended: AtomicBool,
    pub(crate) status: Status,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            full: ArrayQueue::new(MOST_CHUNKS),
            done: ArrayQueue::new(MOST_CHUNKS),
            is_closed: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            status: Status::default(),
        }
    }
}
