//! Where the receive times of packets come from: the NIC, the driver's file, or the poll.
//!
//! Stands behind receive, for inputs whose tools ask for times. The control thread fits counters to the system's clock and publishes the
//! lines ([`ClockCell`]); workers turn ticks into time with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::clock_fit::ClockModel;
use super::copy::{ClockQuality, Stamps};
use crate::dpdk::clock;
use crate::dpdk::mbuf::{MbufBurst, RxStamp};

/// A counter's line to real time, and what is known of real time.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Line {
    /// `None`: not enough is known of the counter.
    pub model: Option<ClockModel>,
    /// Of the system's clock.
    pub quality: ClockQuality,
}

impl Line {
    /// The line where it can be trusted.
    #[inline(always)]
    fn sound(&self) -> Option<&ClockModel> {
        self.model.as_ref().filter(|model| !model.is_degraded())
    }
}

/// Where the control thread puts a counter's line.
#[derive(Default)]
pub struct ClockCell {
    /// control: writes under the lock, with release; workers: read, with acquire.
    version: AtomicU64,
    line: Mutex<Line>,
}

impl ClockCell {
    /// control: workers go on with `line` from their next burst.
    pub fn publish(&self, line: Line) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// A worker's view of a line: one load a burst, and the lock after a change.
pub struct ClockView {
    cell: Arc<ClockCell>,
    version: u64,
    line: Line,
}

impl ClockView {
    pub fn new(cell: Arc<ClockCell>) -> Self {
        Self { cell, version: u64::MAX, line: Line::default() }
    }

    #[inline]
    fn line(&mut self) -> &Line {
        let version = self.cell.version.load(Ordering::Acquire);
        if version != self.version {
            self.line = *self.cell.line.lock().unwrap_or_else(PoisonError::into_inner);
            self.version = version;
        }
        &self.line
    }
}

/// A receive queue's source of times.
pub enum RxClock {
    /// The time of the poll.
    Poll,
    /// The driver's own times, in nanoseconds since the Unix epoch times `unit_ns`: what net_pcap reads in a file.
    Epoch { place: RxStamp, unit_ns: u64 },
    /// Ticks of the NIC's counter.
    Nic { place: RxStamp, view: ClockView },
}

impl RxClock {
    /// Writes the receive times of a burst that was just polled. `poll` is the line of the time-stamp counter. Packets that the driver
    /// gave no time have that of the poll.
    #[inline]
    pub fn stamp(&mut self, burst: &MbufBurst, poll: &mut ClockView, stamps: &mut Stamps) {
        let count = burst.len();
        let stamped = match self {
            RxClock::Poll => 0,
            RxClock::Epoch { place, unit_ns } => {
                let stamped = burst.raw_stamps(*place, &mut stamps.ns);
                stamps.ns[..count].iter_mut().for_each(|ns| *ns = ns.wrapping_mul(*unit_ns));
                (stamps.quality, stamps.degraded) = (ClockQuality::Free, false);
                stamped.0
            }
            RxClock::Nic { place, view } => {
                let line = view.line();
                (stamps.quality, stamps.degraded) = (line.quality, line.sound().is_none());
                match &line.model {
                    Some(model) => {
                        let stamped = burst.raw_stamps(*place, &mut stamps.ns);
                        stamps.ns[..count].iter_mut().for_each(|ns| *ns = model.ns(*ns));
                        stamped.0
                    }
                    None => 0,
                }
            }
        };
        let unstamped = burst.all().0 & !stamped;
        if unstamped != 0 {
            let line = poll.line();
            // until the counter's line can be trusted, the system's clock is read itself
            let now_ns = line.sound().map_or_else(clock::now_ns, |model| model.ns(clock::tsc()));
            if matches!(self, RxClock::Poll) {
                (stamps.quality, stamps.degraded) = (line.quality, false);
                stamps.ns[..count].fill(now_ns);
            } else {
                super::burst::Selection(unstamped).indices().for_each(|index| stamps.ns[index] = now_ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::clock_fit::{ClockFit, Limits, Reading};

    #[test]
    fn a_view_takes_up_the_line_that_is_published() {
        let cell = Arc::new(ClockCell::default());
        let mut view = ClockView::new(Arc::clone(&cell));
        assert!(view.line().model.is_none());
        let mut fit = ClockFit::new(Limits::default());
        for second in 0..10u64 {
            let ns = 1_700_000_000_000_000_000 + second * 1_000_000_000;
            fit.observe(Reading { ticks: second * 2_000_000_000, before_ns: ns, after_ns: ns + 10 });
        }
        cell.publish(Line { model: fit.model(), quality: ClockQuality::Ntp });
        let line = view.line();
        let ns = line.sound().expect("ten readings in line").ns(3_000_000_000);
        assert!(ns.abs_diff(1_700_000_001_500_000_005) < 3 && line.quality == ClockQuality::Ntp, "{ns}");
    }
}
