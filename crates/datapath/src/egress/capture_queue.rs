//! Record: the way of copies to a capture tool, whose file a thread of its own writes.
//!
//! Stands beside egress. A worker gathers references to packets in batches, with what the file says of each, and hands full ones to
//! the writer; batches go round, so nothing is allocated, and their number bounds what waits. The worker never waits for the
//! writer: what finds no batch free is dropped as congested.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;

use crate::copies::facts::Stamps;
use crate::ids::Attachment;
use tapline_dpdk::mbuf::{MbufQueue, Shared};
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};

/// The origin of a burst's packets.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    pub port: Attachment,
    /// Filled where the input's plan says that times are needed.
    pub stamps: &'a Stamps,
}

/// The facts that a file has of a packet besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct PacketMeta {
    pub time_ns: u64,
    /// Bytes on the wire.
    pub original_len: u32,
    pub port: Attachment,
}

/// Packets on their way to the writer.
pub struct Batch {
    pub packets: MbufQueue,
    /// The facts of each packet.
    pub metas: ArrayVec<PacketMeta, MAX_BURST>,
    /// Packets that it had when the writer was handed it.
    len: usize,
}

/// The ring of batches that a worker and the writer share.
pub struct BatchRing {
    full: ArrayQueue<Box<Batch>>,
    free: ArrayQueue<Box<Batch>>,
    batches: usize,
    batch_len: usize,
    /// writer: counts. Packets of batches that were given back. Relaxed suffices: it is a count.
    returned: AtomicU64,
    /// worker: sets; writer: reads. Earlier packets than those given may be about to come. Relaxed suffices: it is a hint.
    is_behind: AtomicBool,
}

impl BatchRing {
    /// A ring of batches for at most `packets` packets, and at most 63 more.
    pub fn new(packets: usize) -> Arc<Self> {
        let batch_len = packets.clamp(1, MAX_BURST);
        let batches = packets.div_ceil(batch_len).max(1);
        let ring = Self {
            full: ArrayQueue::new(batches),
            free: ArrayQueue::new(batches),
            batches,
            batch_len,
            returned: AtomicU64::new(0),
            is_behind: AtomicBool::new(true),
        };
        for _ in 0..batches {
            let batch =
                Batch { packets: MbufQueue::with_capacity(batch_len), metas: ArrayVec::new(), len: 0 };
            // there is room for all of them
            let _ = ring.free.push(Box::new(batch));
        }
        Arc::new(ring)
    }

    /// writer: whether earlier packets than those given may be about to come.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// writer: the next batch, oldest first.
    pub fn next(&self) -> Option<Box<Batch>> {
        self.full.pop()
    }

    /// writer: frees a batch's packets and gives it back.
    pub fn give_back(&self, mut batch: Box<Batch>) {
        batch.packets.clear();
        batch.metas.clear();
        // one writer alone counts
        let returned = self.returned.load(Ordering::Relaxed) + batch.len as u64;
        self.returned.store(returned, Ordering::Relaxed);
        let _ = self.free.push(batch);
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.batches
    }
}

/// A worker's end of a ring of batches.
pub struct CaptureQueue {
    ring: Arc<BatchRing>,
    open: Option<Box<Batch>>,
    /// Packets that the writer was handed.
    handed: u64,
}

impl CaptureQueue {
    pub fn new(ring: Arc<BatchRing>) -> Self {
        Self { ring, open: None, handed: 0 }
    }

    /// Gives the number of packets that surely find room.
    pub fn room(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |batch| self.ring.batch_len - batch.metas.len());
        open + self.ring.free.len() * self.ring.batch_len
    }

    /// Takes references to the selected packets, and frees those that find no room. Gives the number taken.
    #[inline]
    pub fn enter(&mut self, shared: &mut Shared<'_>, selection: Selection, origin: Origin<'_>) -> usize {
        let mut rest = selection;
        while !rest.is_empty() {
            if self.open.is_none() {
                self.open = self.ring.free.pop();
            }
            // stays where it is while it is filled: what unwinds loses nothing that it holds
            let Some(batch) = &mut self.open else { break };
            let part = rest.take(self.ring.batch_len - batch.metas.len());
            for index in part.indices() {
                fault::panics_on_packet("record", index);
                let original_len = shared.wire_len_of(index);
                batch.metas.push(PacketMeta {
                    time_ns: origin.stamps.ns[index],
                    original_len,
                    port: origin.port,
                });
            }
            shared.take(part, &mut batch.packets);
            rest -= part;
            if batch.metas.len() == self.ring.batch_len {
                self.hand_over();
            }
        }
        shared.discard(rest);
        (selection.count() - rest.count()) as usize
    }

    /// Hands over what was gathered, unless the writer has enough to do. Returns whether something waits. `is_behind` says that earlier
    /// packets may be about to come.
    pub fn flush(&mut self, is_behind: bool) -> bool {
        self.ring.is_behind.store(is_behind, Ordering::Relaxed);
        if self.ring.full.is_empty() {
            self.hand_over();
        }
        self.open.is_some() || !self.ring.is_empty()
    }

    fn hand_over(&mut self) {
        if let Some(mut batch) = self.open.take() {
            batch.len = batch.metas.len();
            self.handed += batch.len as u64;
            // as many fit as there are
            let _ = self.ring.full.push(batch);
        }
    }

    /// Packets that were taken so far and not given up: gathered, or handed to the writer.
    pub fn taken(&self) -> u64 {
        self.handed + self.open.as_ref().map_or(0, |batch| batch.metas.len() as u64)
    }

    /// Forgets metas of packets that a stage which unwound did not take.
    #[cold]
    pub fn mend(&mut self) {
        if let Some(batch) = &mut self.open {
            batch.metas.truncate(batch.packets.len());
        }
    }

    /// Packets that wait: those that were gathered, and those of batches that the writer has not given back.
    pub fn depth(&self) -> usize {
        // no more comes back than was handed over
        (self.taken() - self.ring.returned.load(Ordering::Relaxed)) as usize
    }

    /// Hands over all that was gathered: nothing more comes.
    pub fn finish(&mut self) {
        self.hand_over();
    }

    /// Frees what was gathered and not handed over; the number freed.
    pub fn abandon(&mut self) -> usize {
        self.open.take().map_or(0, |batch| batch.metas.len())
    }
}
