//! How far the making of a plan is, for whoever waits for it, and whether anybody still does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// One value for the thread that plans and the one that waits. The default is that of a plan that nobody gives up.
#[derive(Clone, Default, Debug)]
pub struct Progress(Arc<State>);

// Relaxed suffices for all: they order nothing, and what is shown may be a step behind.
#[derive(Default, Debug)]
struct State {
    stage: AtomicU8,      // planning: writes; waiting: reads
    done: AtomicUsize,    // planning: writes; waiting: reads
    total: AtomicUsize,   // planning: writes; waiting: reads
    given_up: AtomicBool, // waiting: writes; planning: reads
}

/// The stages of planning that take time, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    Reading,
    /// Filters by libpcap, which cannot be stopped within one of them.
    Filters,
    Warnings,
    /// The tables that look packets up, port by port.
    Ports,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Reading, Stage::Filters, Stage::Warnings, Stage::Ports];
}

/// Nobody waits for the plan any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("planning was given up")]
pub struct GivenUp;

impl Progress {
    /// Begins a stage of `total` steps.
    pub(super) fn begin(&self, stage: Stage, total: usize) {
        self.0.total.store(total, Ordering::Relaxed);
        self.0.done.store(0, Ordering::Relaxed);
        self.0.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// A step of the stage begins.
    /// # Errors
    /// If nobody waits any more: it need not be done.
    pub(super) fn step(&self) -> Result<(), GivenUp> {
        self.0.done.fetch_add(1, Ordering::Relaxed);
        self.go_on()
    }

    /// # Errors
    /// If nobody waits any more.
    pub fn go_on(&self) -> Result<(), GivenUp> {
        if self.0.given_up.load(Ordering::Relaxed) { Err(GivenUp) } else { Ok(()) }
    }

    /// Waits no longer: the planning thread ends at its next step.
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = Stage::ALL[usize::from(self.0.stage.load(Ordering::Relaxed)) % Stage::ALL.len()];
        let total = self.0.total.load(Ordering::Relaxed);
        let done = self.0.done.load(Ordering::Relaxed).min(total);
        match stage {
            Stage::Reading => write!(out, "planning: reading the pipeline"),
            Stage::Filters => {
                write!(out, "planning: libpcap compiles the filters, {done} of {total} rules")
            }
            Stage::Warnings => {
                write!(out, "planning: looking for rules that can never match, {done} of {total}")
            }
            Stage::Ports => write!(out, "planning: making what looks packets up, port {done} of {total}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_done_and_how_much_of_it() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "planning: reading the pipeline");
        progress.begin(Stage::Filters, 400);
        progress.step().expect("somebody waits");
        assert_eq!(progress.to_string(), "planning: libpcap compiles the filters, 1 of 400 rules");
        progress.begin(Stage::Ports, 2);
        assert_eq!(progress.to_string(), "planning: making what looks packets up, port 0 of 2");
    }

    #[test]
    fn what_is_given_up_by_one_is_given_up_for_all() {
        let progress = Progress::default();
        progress.clone().give_up();
        assert_eq!((progress.step(), progress.go_on()), (Err(GivenUp), Err(GivenUp)));
    }
}
