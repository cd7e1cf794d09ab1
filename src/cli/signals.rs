//! Signals: SIGINT and SIGTERM end a command, SIGHUP ends it or loads its file again, SIGUSR1 asks for tables, SIGUSR2 for files to be
//! opened anew.
//!
//! They set flags that the command's own thread looks at. Where that thread does not come by, since something that it called does not
//! come back, a guard ends the process: no signal is in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals as Handled;

use super::Status;
use super::output::{restore_terminal, tell_line};
use crate::broker::DRAIN_LIMIT;
use tapline_fault as fault;
use tapline_kernel::process;

/// Time between two looks of the guard.
const LOOK: Duration = Duration::from_millis(100);
/// How long the end of a run may take: drains, captures that are closed, replays whose rest is counted, output that is read.
pub(super) const END_LIMIT: Duration = Duration::from_secs(30);

/// Records whether a signal came, and whether the command's thread looks for it.
pub struct Signals(Arc<State>);

// Relaxed suffices for all: they order nothing but themselves.
#[derive(Default)]
struct State {
    is_ended: AtomicBool,     // signals: set; command: reads
    is_running: AtomicBool,   // command: sets; guard: reads
    is_ending: AtomicBool,    // command: sets; guard: reads
    looks: AtomicU64,         // command: adds; guard: reads
    is_reloading: AtomicBool, // command: sets; signals: reads
    // signals: set; command: takes
    is_reload_asked: AtomicBool,
    are_tables_asked: AtomicBool,
    is_reopen_asked: AtomicBool,
}

impl Signals {
    /// From now on signals do not end the process, but set flags. An `Err` ends the command.
    pub fn handle() -> Result<Self, Status> {
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        let handled = if fault::strikes("start.signals") {
            Err(std::io::ErrorKind::ResourceBusy.into())
        } else {
            Handled::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])
        };
        let listening = handled.and_then(|mut handled| {
            std::thread::Builder::new()
                .name("signals".to_owned())
                .spawn(move || handled.forever().for_each(|signal| theirs.receive(signal)))
        });
        match listening {
            Ok(_) => Ok(Self(state)),
            Err(error) => {
                tell_line(format_args!("error: signals cannot be handled: {error}"));
                Err(Status::Failed)
            }
        }
    }

    /// SIGHUP loads the pipeline file again from now on, and ends nothing.
    pub fn reload_by_hangup(&self) {
        self.0.is_reloading.store(true, Ordering::Relaxed);
    }

    /// Returns whether SIGHUP asked for a reload since the last look.
    pub fn takes_reload(&self) -> bool {
        self.0.is_reload_asked.swap(false, Ordering::Relaxed)
    }

    /// Returns whether SIGUSR1 asked for the tables since the last look.
    pub fn takes_tables(&self) -> bool {
        self.0.are_tables_asked.swap(false, Ordering::Relaxed)
    }

    /// Returns whether SIGUSR2 asked for the files of statistics and log to be opened anew since the last look.
    pub fn takes_reopen(&self) -> bool {
        self.0.is_reopen_asked.swap(false, Ordering::Relaxed)
    }

    /// Returns whether a signal has come that ends the command.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended.load(Ordering::Relaxed)
    }

    /// Says that the command's thread is at work, and looks for signals.
    pub fn alive(&self) {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that packets are received from now on.
    pub fn run(&self) {
        self.0.is_running.store(true, Ordering::Relaxed);
    }

    /// Says that the command ends, which takes its time.
    pub fn end(&self) {
        self.0.is_ending.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Notes a signal. The first that ends the command begins to guard its end.
    fn receive(self: &Arc<Self>, signal: i32) {
        let asked = match signal {
            SIGHUP if self.is_reloading.load(Ordering::Relaxed) => &self.is_reload_asked,
            SIGUSR1 => &self.are_tables_asked,
            SIGUSR2 => &self.is_reopen_asked,
            _ => {
                if !self.is_ended.swap(true, Ordering::Relaxed) {
                    let guarded = Arc::clone(self);
                    // without a thread there is no guard; the flag is set all the same
                    let _ =
                        std::thread::Builder::new().name("guard".to_owned()).spawn(move || guarded.guard());
                }
                return;
            }
        };
        asked.store(true, Ordering::Relaxed);
    }

    /// Ends the process where its command does not: it has not looked for signals for the time of a drain, or its end takes too long.
    ///
    /// Time is counted in looks of this thread, so a machine on which nothing runs gives nobody up.
    fn guard(&self) {
        let most = |limit: Duration| limit.as_millis() / LOOK.as_millis();
        let (mut seen, mut still, mut ending) = (self.looks.load(Ordering::Relaxed), 0, 0);
        loop {
            std::thread::sleep(LOOK);
            let looks = self.looks.load(Ordering::Relaxed);
            if self.is_ending.load(Ordering::Relaxed) {
                ending += 1;
            } else if looks == seen {
                still += 1;
            } else {
                (seen, still) = (looks, 0);
            }
            let is_running = self.is_running.load(Ordering::Relaxed);
            let why = if still >= most(DRAIN_LIMIT) && !is_running {
                "what the start waits for does not come; nothing was started"
            } else if still >= most(DRAIN_LIMIT) {
                "what it waits for does not come back; what was on its way is not accounted for"
            } else if ending >= most(END_LIMIT) {
                "its end takes too long; what is still on its way is not accounted for"
            } else {
                continue;
            };
            tell_line(format_args!("error: ended at once for a signal: {why}"));
            // standard error has a moment to take that
            std::thread::sleep(LOOK);
            restore_terminal();
            process::end_at_once(Status::Failed as u8);
        }
    }
}
