//! Plans are made on a thread of their own: whoever waits for one learns how far it is, and may go away before it is done.
//!
//! libpcap cannot be stopped within a filter, and some filters take it minutes. Such a thread is left behind; it ends when libpcap
//! comes back, or with the process.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::plan::progress::Progress;

/// A plan on its way.
pub struct Work<T> {
    progress: Progress,
    /// `None` once it was taken.
    thread: Option<JoinHandle<T>>,
    since: Instant,
    next_word: Instant,
}

/// How far a plan is.
pub enum Look<T> {
    /// It is not done; a plan that takes long has a line to say so from time to time.
    Waits(Option<String>),
    /// It is done. An error is a panic of its thread.
    Done(std::thread::Result<T>),
}

/// How often it is looked whether a plan is ready.
const TICK: Duration = Duration::from_millis(2);
/// Plans that take longer say so.
const SHORT: Duration = Duration::from_secs(1);
/// Time between two lines of a plan that takes long.
const PAUSE: Duration = Duration::from_secs(3);
/// As the main thread has it: libpcap goes down into an expression as deep as that is.
const STACK_BYTES: usize = 8 << 20;

impl<T: Send + 'static> Work<T> {
    /// Begins `work`, which says to the `Progress` how far it is.
    ///
    /// # Errors
    /// If there is no further thread.
    pub fn begin(work: impl FnOnce(&Progress) -> T + Send + 'static) -> std::io::Result<Self> {
        let progress = Progress::default();
        let theirs = progress.clone();
        let thread = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&theirs))?;
        let since = Instant::now();
        Ok(Self { progress, thread: Some(thread), since, next_word: since + SHORT })
    }

    /// Looks whether the plan is done.
    pub fn look(&mut self) -> Look<T> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            return Look::Done(thread.join());
        }
        let now = Instant::now();
        if now < self.next_word {
            return Look::Waits(None);
        }
        self.next_word = now + PAUSE;
        Look::Waits(Some(self.progress.to_string()))
    }

    /// Waits until the plan is done, and gives `say` its lines; `None` if `is_given_up` comes first.
    pub fn wait(mut self, mut is_given_up: impl FnMut() -> bool, mut say: impl FnMut(String)) -> Option<T> {
        loop {
            match self.look() {
                Look::Done(Ok(result)) => return Some(result),
                Look::Done(Err(panic)) => std::panic::resume_unwind(panic),
                Look::Waits(_) if is_given_up() => return None,
                Look::Waits(line) => {
                    line.into_iter().for_each(&mut say);
                    std::thread::sleep(TICK.min(self.since.elapsed()));
                }
            }
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.progress.give_up();
    }
}
