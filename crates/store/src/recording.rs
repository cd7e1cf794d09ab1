//! A recording: the files of one store, as the thread of its disk writes them.
//!
//! A chunk is written whole or not at all: what the system took of one that failed is cut off again, and the segment ends there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::chunk::{Chunk, Lane};
use super::disk::Live;
use super::folder::{Folder, Found};
use super::retention::{Holdings, Segment, is_short};
use super::status::Happening;
use super::{SegmentName, StoreSpec};
use tapline_api::words::{DropReason, Expiry};
use tapline_kernel::storage::{self, Tail};

/// The time between two looks at the age of segments.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The segment that is written.
struct Open {
    file: File,
    name: SegmentName,
    tail: Tail,
    /// Bytes that have their space already.
    reserved: u64,
    packets: u64,
    synced: u64,
    synced_at: Instant,
}

/// The segment that comes next: it has no bytes yet.
struct Next {
    file: File,
    reserved: u64,
}

/// A failure to write, and what it is counted as.
struct Failed {
    reason: DropReason,
    error: io::Error,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let reason = if is_full(&error) { DropReason::NoSpace } else { DropReason::WriteError };
        Self { reason, error }
    }
}

/// Returns whether a write failed for want of space.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The files of one store.
pub(crate) struct Recording {
    pub(crate) lane: Arc<Lane>,
    live: Arc<Live>,
    generation: u64,
    spec: StoreSpec,
    path: PathBuf,
    /// `None` where the folder was lost.
    folder: Option<Folder>,
    holdings: Holdings,
    next_seq: u64,
    open: Option<Open>,
    next: Option<Next>,
    /// The next segment was made for the one that is open, or could not be.
    has_looked_ahead: bool,
    /// Why the last chunk was lost.
    lost: Option<DropReason>,
    looked_at: Instant,
}

impl Recording {
    /// Finds what a folder holds, and goes on in it.
    ///
    /// # Errors
    /// If it cannot be read, or what a crash left cannot be repaired.
    pub(crate) fn new(folder: Folder, live: Arc<Live>, lane: Arc<Lane>) -> io::Result<Self> {
        let (generation, spec) = live.read();
        let mut recording = Self {
            lane,
            live,
            generation,
            spec,
            path: folder.path().to_owned(),
            folder: None,
            holdings: Holdings::default(),
            next_seq: 0,
            open: None,
            next: None,
            has_looked_ahead: false,
            lost: None,
            looked_at: Instant::now(),
        };
        recording.move_in(folder)?;
        recording.expire();
        recording.look_ahead();
        recording.tell();
        Ok(recording)
    }

    fn move_in(&mut self, folder: Folder) -> io::Result<()> {
        let Found { holdings, repaired, next_seq } = folder.find(&self.spec)?;
        // numbers never go back, though all files of the folder may be gone
        self.next_seq = self.next_seq.max(next_seq);
        self.holdings = holdings;
        self.folder = Some(folder);
        repaired.into_iter().for_each(|repaired| self.lane.status.note(Happening::Repaired(repaired)));
        Ok(())
    }

    /// Writes a chunk, or says in it why it is lost.
    pub(crate) fn write(&mut self, chunk: &mut Chunk) {
        let written = self.write_chunk(chunk);
        match written {
            Ok(()) => {
                if self.lost.take().is_some() {
                    self.lane.status.note(Happening::Recovered);
                }
                if let Some(open) = &mut self.open {
                    open.packets += chunk.tally.packets;
                }
                if chunk.ends {
                    self.close();
                }
            }
            Err(failed) => {
                chunk.lost = Some(failed.reason);
                self.fail(failed);
            }
        }
        self.tell();
    }

    fn write_chunk(&mut self, chunk: &Chunk) -> Result<(), Failed> {
        if let Some(first_ns) = chunk.begins {
            self.begin(first_ns)?;
        }
        if self.open.is_none() {
            // its beginning is lost
            let reason = self.lost.unwrap_or(DropReason::WriteError);
            return Err(Failed { reason, error: io::ErrorKind::NotFound.into() });
        }
        self.make_room(chunk.bytes.len() as u64)?;
        let start = self.open.as_ref().map_or(0, |open| open.tail.len());
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let Some(open) = &mut self.open else { break };
            match open.tail.append(&open.file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) && self.give_up_something() => {}
                Err(error) => {
                    if let Some(open) = &mut self.open {
                        // where that fails, too, the segment is repaired at the next start
                        let _ = open.tail.cut(&open.file, start);
                    }
                    return Err(error.into());
                }
            }
        }
        match self.open.as_ref().map(|open| open.file.metadata()) {
            Some(Ok(there)) if there.nlink() == 0 => {
                let error =
                    io::Error::new(io::ErrorKind::NotFound, "the segment was removed while it was written");
                Err(error.into())
            }
            Some(Err(error)) => Err(error.into()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Opens a segment whose first packet has this time.
    fn begin(&mut self, first_ns: u64) -> Result<(), Failed> {
        self.close();
        if self.folder.as_ref().is_none_or(|folder| folder.check().is_err()) {
            (self.folder, self.next) = (None, None);
            let folder = Folder::take(&self.path)?;
            self.move_in(folder)?;
        }
        let Some(folder) = &self.folder else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let next = match self.next.take() {
            Some(next) => next,
            None => Next { file: folder.make_next(&self.spec)?, reserved: 0 },
        };
        let name = SegmentName { seq: self.next_seq, first_ns };
        folder.name_next(name)?;
        self.next_seq += 1;
        self.open = Some(Open {
            file: next.file,
            name,
            tail: Tail::default(),
            reserved: next.reserved,
            packets: 0,
            synced: 0,
            synced_at: Instant::now(),
        });
        self.has_looked_ahead = false;
        self.lane.status.begin();
        Ok(())
    }

    /// Ends the segment that is written, and makes it visible.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Some(folder) = &self.folder else { return };
        if open.packets == 0 {
            folder.remove_part(open.name);
            return;
        }
        // cut to its length, it gives back what was reserved and not used
        let published = open
            .file
            .set_len(open.tail.len())
            .and_then(|()| open.file.sync_data())
            .and_then(|()| folder.publish(open.name));
        match published {
            Ok(()) => {
                let segment = Segment { name: open.name, bytes: open.tail.len(), closed_ns: now_ns() };
                self.holdings.add(segment);
            }
            // what the disk has of it is found at the next start
            Err(error) => {
                self.holdings.other_bytes += open.tail.len();
                self.raise(error.into());
            }
        }
    }

    /// Ends the segment after a chunk that could not be written.
    fn fail(&mut self, failed: Failed) {
        self.raise(failed);
        self.close();
    }

    /// Says once that copies are lost.
    fn raise(&mut self, Failed { reason, error }: Failed) {
        if self.lost.replace(reason) != Some(reason) {
            self.lane.status.note(Happening::Failing { reason, error: error.to_string() });
        }
    }

    /// Deletes the oldest segments until `more` bytes may be added to the one that is written.
    fn make_room(&mut self, more: u64) -> Result<(), Failed> {
        let (len, reserved) = self.open.as_ref().map_or((0, 0), |open| (open.tail.len(), open.reserved));
        let taken = (len + more).saturating_sub(reserved.max(len));
        let room = |recording: &Self| {
            recording.folder.as_ref().filter(|_| recording.spec.free_percent.is_some())?.room()
        };
        while let Some(reason) = self.holdings.too_many(&self.spec, len + more, taken, room(self)) {
            // space that is kept for the next one is free
            if reason == Expiry::Free && self.give_up_next() {
                continue;
            }
            self.delete(0, reason)?;
        }
        while is_short(&self.spec, taken, room(self)) {
            if !self.give_up_next() {
                let error = io::Error::new(io::ErrorKind::StorageFull, "less than `free` would be left");
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Gives up space for the segment that is written. Returns whether there was any.
    fn give_up_something(&mut self) -> bool {
        self.give_up_next() || self.holdings.oldest().is_some() && self.delete(0, Expiry::NoSpace).is_ok()
    }

    fn give_up_next(&mut self) -> bool {
        let is_there = self.next.take().is_some();
        if let Some(folder) = self.folder.as_ref().filter(|_| is_there) {
            folder.remove_next();
        }
        is_there
    }

    fn delete(&mut self, place: usize, reason: Expiry) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Err(io::ErrorKind::NotFound.into()) };
        let Some(&segment) = self.holdings.segments().nth(place) else { return Ok(()) };
        folder.remove(segment.name)?;
        self.holdings.remove(place);
        self.lane.status.note(Happening::Expired { segment, reason });
        Ok(())
    }

    /// Deletes what is older than it may be, or more than may be kept. What cannot be deleted stays.
    fn expire(&mut self) {
        self.looked_at = Instant::now();
        while let Some(place) = self.holdings.too_old(&self.spec, now_ns()) {
            if self.delete(place, Expiry::Age).is_err() {
                return;
            }
        }
        // failures are told when something is written
        let _ = self.make_room(0);
    }

    /// Opens the segment that comes next, and reserves its space, if there is some to spare.
    fn look_ahead(&mut self) {
        self.has_looked_ahead = true;
        let Some(folder) = self.folder.as_ref().filter(|_| self.next.is_none()) else { return };
        // failures are told when it is begun
        let Ok(file) = folder.make_next(&self.spec) else { return };
        let is_roomy = !is_short(&self.spec, self.spec.rotate_bytes, folder.room());
        let is_reserved = is_roomy && storage::reserve(&file, self.spec.rotate_bytes).is_ok();
        self.next = Some(Next { file, reserved: if is_reserved { self.spec.rotate_bytes } else { 0 } });
    }

    /// Does what is due beside writing: to be called every so often.
    pub(crate) fn tend(&mut self) {
        if self.live.generation() != self.generation {
            (self.generation, self.spec) = self.live.read();
            self.expire();
        }
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.expire();
        }
        if self.open.is_some() && !self.has_looked_ahead {
            self.look_ahead();
        }
        self.sync();
        self.tell();
    }

    /// Sees to it that what is written is on the disk before long.
    fn sync(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.tail.len() == open.synced
            || open.synced_at.elapsed() < Duration::from_nanos(self.spec.sync_ns)
        {
            return;
        }
        let synced = open.file.sync_data();
        (open.synced, open.synced_at) = (open.tail.len(), Instant::now());
        if let Err(error) = synced {
            // the pages are gone: what is on the disk is found at the next start
            if let Some(open) = self.open.take() {
                self.holdings.other_bytes += open.tail.len();
            }
            self.raise(error.into());
        }
    }

    /// Publishes the numbers.
    fn tell(&self) {
        let open_bytes = self.open.as_ref().map_or(0, |open| open.tail.len());
        self.lane.status.hold(&self.holdings, open_bytes);
    }

    /// Ends the recording.
    pub(crate) fn end(&mut self) {
        self.close();
        self.give_up_next();
        self.tell();
        // it is free before anyone hears of the end
        self.folder = None;
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
