//! Plans are made on a thread of their own: whoever waits for one says how far it is, and may go away before it is done.
//!
//! libpcap cannot be stopped within a filter, and some filters take it minutes: such a thread is left behind, and ends when libpcap
//! comes back, or with the process.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::output::tell_line;
use crate::plan::progress::Progress;

/// A plan on its way.
pub(super) struct Work<T> {
    progress: Progress,
    /// `None` once it was taken.
    thread: Option<JoinHandle<T>>,
    since: Instant,
    next_word: Instant,
}

/// How often it is looked whether a plan is ready.
const TICK: Duration = Duration::from_millis(2);
/// Plans that take longer say so.
const SHORT: Duration = Duration::from_secs(1);
/// Time between two words of a plan that takes long.
const PAUSE: Duration = Duration::from_secs(3);
/// As the main thread has it: libpcap goes down into an expression as deep as that is.
const STACK_BYTES: usize = 8 << 20;

impl<T: Send + 'static> Work<T> {
    /// Begins `work`, which says to the `Progress` how far it is.
    /// # Errors
    /// If there is no further thread.
    pub(super) fn begin(work: impl FnOnce(&Progress) -> T + Send + 'static) -> std::io::Result<Self> {
        let progress = Progress::default();
        let theirs = progress.clone();
        let thread = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&theirs))?;
        let since = Instant::now();
        Ok(Self { progress, thread: Some(thread), since, next_word: since + SHORT })
    }

    /// What it came to, if it is done; if it takes long, it is said how far it is. An error is a panic of its thread.
    pub(super) fn look(&mut self) -> Option<std::thread::Result<T>> {
        let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) else {
            let now = Instant::now();
            if now >= self.next_word {
                self.next_word = now + PAUSE;
                tell_line(&self.progress);
            }
            return None;
        };
        Some(thread.join())
    }

    /// Waits until it is done; `None` if `is_given_up` comes first.
    pub(super) fn wait(mut self, mut is_given_up: impl FnMut() -> bool) -> Option<T> {
        loop {
            match self.look() {
                Some(Ok(result)) => return Some(result),
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None if is_given_up() => return None,
                None => std::thread::sleep(TICK.min(self.since.elapsed())),
            }
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.progress.give_up();
    }
}
