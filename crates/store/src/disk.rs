//! The thread of a disk: it writes the chunks of all stores on one file system in turn, and looks after their files.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::StoreSpec;
use super::chunk::Lane;
use super::folder::Folder;
use super::recording::Recording;

/// The longest that a thread without work sleeps: the age of segments is looked at afterwards.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// The wishes for a store that records, which may change.
#[derive(Debug)]
pub(crate) struct Live {
    /// control: raises, behind the wishes.
    generation: AtomicU64,
    spec: Mutex<StoreSpec>,
}

impl Live {
    pub(crate) fn new(spec: StoreSpec) -> Self {
        Self { generation: AtomicU64::new(0), spec: Mutex::new(spec) }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> (u64, StoreSpec) {
        let spec = self.spec.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), spec.clone())
    }

    pub(crate) fn set(&self, spec: StoreSpec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = spec;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// A disk's thread, as those see it who give it chunks.
#[derive(Debug)]
pub(crate) struct Disk {
    thread: Thread,
    /// disk: sets, before it looks a last time whether there is something to do.
    is_resting: Arc<AtomicBool>,
}

impl Disk {
    /// Lets the thread look for chunks.
    pub(crate) fn wake(&self) {
        if self.is_resting.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

/// The recordings that come to a thread.
#[derive(Default)]
struct Arrivals {
    recordings: Vec<Recording>,
    /// The thread has ended, and takes none.
    is_over: bool,
}

struct Known {
    device: u64,
    arrivals: Arc<Mutex<Arrivals>>,
    disk: Arc<Disk>,
}

/// The threads of all disks that stores are on. A thread begins with the first store of its disk, and ends behind the last.
#[derive(Default)]
pub struct Disks {
    known: Mutex<Vec<Known>>,
}

impl Disks {
    /// Takes over a folder, repairs what a crash left there, and goes on in it.
    ///
    /// # Errors
    /// If it cannot be read or repaired, or there can be no further thread.
    pub(crate) fn record(&self, folder: Folder, live: Arc<Live>, lane: Arc<Lane>) -> io::Result<Arc<Disk>> {
        let device = folder.device();
        let recording = Recording::new(folder, live, lane)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|disk| !disk.arrivals.lock().unwrap_or_else(PoisonError::into_inner).is_over);
        if let Some(there) = known.iter().find(|there| there.device == device) {
            let mut arrivals = there.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if !arrivals.is_over {
                arrivals.recordings.push(recording);
                drop(arrivals);
                there.disk.wake();
                return Ok(Arc::clone(&there.disk));
            }
        }
        let arrivals = Arc::new(Mutex::new(Arrivals { recordings: vec![recording], is_over: false }));
        let is_resting = Arc::new(AtomicBool::new(false));
        let (theirs, resting) = (Arc::clone(&arrivals), Arc::clone(&is_resting));
        let spawned =
            std::thread::Builder::new().name("disk".into()).spawn(move || run(&theirs, &resting))?;
        let disk = Arc::new(Disk { thread: spawned.thread().clone(), is_resting });
        known.push(Known { device, arrivals, disk: Arc::clone(&disk) });
        Ok(disk)
    }
}

/// Writes until no store is left.
fn run(arrivals: &Mutex<Arrivals>, is_resting: &AtomicBool) {
    let mut recordings: Vec<Recording> = Vec::new();
    loop {
        {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            recordings.append(&mut arrivals.recordings);
            arrivals.is_over = recordings.is_empty();
            if arrivals.is_over {
                return;
            }
        }
        is_resting.store(false, Ordering::SeqCst);
        let has_written = turn(&mut recordings);
        if !has_written {
            is_resting.store(true, Ordering::SeqCst);
            // what came before it was seen that this rests
            let has_work = |recording: &Recording| {
                !recording.lane.full.is_empty() || recording.lane.is_closed.load(Ordering::SeqCst)
            };
            if !recordings.iter().any(has_work) {
                std::thread::park_timeout(LONGEST_REST);
            }
        }
    }
}

/// Writes a chunk of each store, and ends those that are closed. Returns whether anything was written.
fn turn(recordings: &mut Vec<Recording>) -> bool {
    let mut has_written = false;
    recordings.retain_mut(|recording| {
        // a store is closed behind its last chunk
        let is_closed = recording.lane.is_closed.load(Ordering::SeqCst);
        match recording.lane.full.pop() {
            Some(mut chunk) => {
                recording.write(&mut chunk);
                has_written = true;
                // as many fit as there are
                let _ = recording.lane.done.push(chunk);
                recording.tend();
                true
            }
            None if is_closed => {
                recording.end();
                recording.lane.is_ended.store(true, Ordering::Release);
                false
            }
            None => {
                recording.tend();
                true
            }
        }
    });
    has_written
}
