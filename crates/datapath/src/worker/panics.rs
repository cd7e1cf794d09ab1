//! Panics: what a worker does about a stage that unwinds, so that it costs a burst and not the broker.
//!
//! Stands around the worker loop, which is entered again afterwards: a burst pays nothing for it. Packets that have no disposition
//! yet are failed, copies that are in no queue are dropped as internal, and both identities hold on. A panic is a fault of Tapline all
//! the same: it is counted and told, and a worker to which it happens again and again receives no more.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::copies::facts::Stamps;
use tapline_api::words::Stage;
use tapline_capture::{ByteOrder, InterfaceId, LinkType, Packet, Writer};
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst};

/// A worker with more panics than this in [`PANIC_WINDOW`] receives no more.
pub const MOST_PANICS: usize = 3;
pub const PANIC_WINDOW: Duration = Duration::from_secs(10);
/// Files that `set panic-dump` writes into its folder.
const MOST_DUMPS: usize = 16;
/// Panics that wait to be told; what is beyond is counted alone.
const MOST_NOTES: usize = 64;

/// A panic, and what it cost.
#[derive(Debug)]
pub struct PanicNote {
    pub stage: Stage,
    /// The text of the panic, and its place in the code.
    pub text: String,
    /// Packets that it left without another disposition.
    pub failed: u64,
    /// Copies that no queue had.
    pub dropped: u64,
    /// The file with the burst's frames, or the reason why there is none, if they were asked for.
    pub dump: Option<Result<PathBuf, String>>,
    /// The worker receives no more.
    pub is_last: bool,
}

/// The queue by which a worker reports its panics to the control thread.
#[derive(Default)]
pub struct PanicReport(Mutex<VecDeque<PanicNote>>);

impl PanicReport {
    /// control: what was not told yet, oldest first.
    pub fn take(&self) -> VecDeque<PanicNote> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// worker: leaves a note, if not too many wait.
    fn leave(&self, note: PanicNote) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MOST_NOTES || note.is_last {
            notes.push_back(note);
        }
    }
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets panics of workers be told by the broker, not by a trace on standard error; those of other threads are told as before.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_WORKER.get() { LAST.set(text_of(info)) } else { others(info) }
        }));
    });
}

fn text_of(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or(String::new(), |at| format!(" ({}:{})", at.file(), at.line()));
    format!("{}{place}", info.payload_as_str().unwrap_or("panicked"))
}

/// A worker's memory of its panics.
#[derive(Default)]
pub struct Panics {
    recent: VecDeque<Instant>,
    is_retired: bool,
    report: Arc<PanicReport>,
}

impl Panics {
    pub fn new(report: Arc<PanicReport>) -> Self {
        Self { report, ..Self::default() }
    }

    /// The calling thread is the worker's from now on.
    pub fn begin(&self) {
        IS_WORKER.set(true);
    }

    /// Too many panics in a short time: the worker is to receive no more, and only to send what waits.
    #[inline(always)]
    pub fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Notes a panic at `now`. Returns whether the worker can go on at all: not where it panics as often while it only sends.
    #[must_use]
    pub fn note(&mut self, now: Instant, panic: &(dyn Any + Send), note: PanicNote) -> bool {
        let text = LAST.take();
        let text = if text.is_empty() { tapline_dpdk::lcore::panic_text(panic) } else { text };
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|&at| now.duration_since(at) > PANIC_WINDOW) {
            self.recent.pop_front();
        }
        let are_too_many = self.recent.len() > MOST_PANICS;
        let can_go_on = !(are_too_many && self.is_retired);
        if are_too_many {
            self.is_retired = true;
            self.recent.clear();
        }
        self.report.leave(PanicNote { text, is_last: are_too_many, ..note });
        can_go_on
    }
}

/// Writes the frames of a burst into a new file of `folder`, which only its owner may read.
///
/// # Errors
/// With the path: the folder takes no file, or has `MOST_DUMPS` already.
pub fn dump(folder: &Path, burst: &MbufBurst, stamps: &Stamps) -> Result<PathBuf, String> {
    let (path, file) = new_file(folder)?;
    let said = |error: io::Error| format!("{}: {error}", path.display());
    let write = || {
        let mut writer = Writer::pcap(&file, ByteOrder::NATIVE, true, LinkType::ETHERNET, 0)?;
        let (mut linear, mut frames) = (Linear::default(), Frames::new());
        burst.frames(&mut linear, &mut frames);
        let now_ns = clock::now_ns();
        for (frame, &ns) in frames.iter().zip(&stamps.ns) {
            let time_ns = if ns == 0 { now_ns } else { ns };
            let (bytes, original_len) = (frame.bytes(), frame.original_len());
            writer.write(&Packet {
                interface: InterfaceId(0),
                time_ns,
                bytes,
                original_len,
                comments: &[],
            })?;
        }
        writer.finish().map(drop)
    };
    write().map_err(said)?;
    Ok(path)
}

fn new_file(folder: &Path) -> Result<(PathBuf, std::fs::File), String> {
    for number in 0..MOST_DUMPS {
        let path = folder.join(format!("tapline-panic-{number}.pcap"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Err(format!("{}: it has {MOST_DUMPS} files of this kind already; move them away", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> PanicNote {
        PanicNote {
            stage: Stage::Route,
            text: String::new(),
            failed: 1,
            dropped: 0,
            dump: None,
            is_last: false,
        }
    }

    #[test]
    fn a_fourth_panic_in_ten_seconds_retires_a_worker_and_four_more_end_it() {
        let report = Arc::<PanicReport>::default();
        let mut panics = Panics::new(Arc::clone(&report));
        let begun = Instant::now();
        let mut at = |seconds| panics.note(begun + Duration::from_secs(seconds), &"why", note());
        // three in ten seconds, again and again
        for seconds in [0, 4, 9, 15, 19, 26, 30] {
            assert!(at(seconds));
        }
        assert!(report.take().iter().all(|note| !note.is_last && note.text == "why"));
        assert!(at(31) && report.take().iter().all(|note| !note.is_last));
        assert!(at(32) && report.take().iter().all(|note| note.is_last));
        assert!([33, 34, 35].into_iter().all(&mut at) && !at(36));
        assert!(panics.is_retired());
    }
}
