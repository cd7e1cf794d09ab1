//! The sources of packets' receive times: the NIC, the driver's file, or the poll.
//!
//! Stands behind receive, for inputs whose tools ask for times. The control thread fits counters to the system's clock and
//! publishes the lines (`ClockCell`); workers turn ticks into time with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::clock_fit::ClockModel;
use crate::copies::facts::Stamps;
use tapline_api::words::ClockQuality;
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::{MbufBurst, RxStamp};
use tapline_packet::burst::{MAX_BURST, Selection};

/// A counter's line to real time, and what is known of real time.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct ClockLine {
    /// `None`: not enough is known of the counter.
    pub model: Option<ClockModel>,
    /// The quality of the system's clock.
    pub quality: ClockQuality,
}

impl ClockLine {
    /// The line where it can be trusted.
    #[inline(always)]
    fn sound(&self) -> Option<&ClockModel> {
        self.model.as_ref().filter(|model| !model.is_degraded())
    }
}

/// The place at which the control thread publishes a counter's line.
#[derive(Default)]
pub struct ClockCell {
    /// control: writes under the lock, with release; workers: read, with acquire.
    version: AtomicU64,
    line: Mutex<ClockLine>,
}

impl ClockCell {
    /// control: workers go on with `line` from their next burst.
    pub fn publish(&self, line: ClockLine) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// A worker's view of a line: one load a burst, and the lock after a change.
pub struct ClockView {
    cell: Arc<ClockCell>,
    version: u64,
    line: ClockLine,
}

impl ClockView {
    pub fn new(cell: Arc<ClockCell>) -> Self {
        Self { cell, version: u64::MAX, line: ClockLine::default() }
    }

    #[inline]
    fn line(&mut self) -> &ClockLine {
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
    /// The driver's own times, in nanoseconds since the Unix epoch times `unit_ns`: what net_pcap reads in a file, or is given by
    /// the kernel, which goes by the system's clock.
    Epoch { place: RxStamp, unit_ns: u64, is_systems: bool },
    /// Ticks of the NIC's counter.
    Nic { place: RxStamp, view: ClockView },
}

impl RxClock {
    /// Writes the receive times of a burst that was just polled. `poll` is the line of the time-stamp counter. Packets that the
    /// driver gave no time have that of the poll.
    #[inline]
    pub fn stamp(&mut self, burst: &MbufBurst, poll: &mut ClockView, stamps: &mut Stamps) {
        let count = burst.len();
        let stamped = match self {
            RxClock::Poll => Selection::NONE,
            RxClock::Epoch { place, unit_ns, .. } => {
                let stamped = burst.raw_stamps(*place, &mut stamps.ns);
                stamps.ns[..count].iter_mut().for_each(|ns| *ns = ns.wrapping_mul(*unit_ns));
                (stamps.quality, stamps.degraded) = (ClockQuality::Free, Selection::NONE);
                stamped
            }
            RxClock::Nic { place, view } => {
                let line = view.line();
                let stamped = match &line.model {
                    Some(model) => {
                        let mut stamped = burst.raw_stamps(*place, &mut stamps.ns);
                        for (index, ns) in stamps.ns[..count].iter_mut().enumerate() {
                            // no NIC stamps with 0 what it did stamp
                            stamped -= Selection::only_if(index, *ns == 0);
                            *ns = model.ns(*ns);
                        }
                        stamped
                    }
                    None => Selection::NONE,
                };
                let sound = if line.sound().is_some() { stamped } else { Selection::NONE };
                (stamps.quality, stamps.degraded) = (line.quality, burst.all() - sound);
                stamped
            }
        };
        let unstamped = burst.all() - stamped;
        if !unstamped.is_empty() {
            let line = poll.line();
            // until the counter's line can be trusted, the system's clock is read itself
            let now_ns = line.sound().map_or_else(clock::now_ns, |model| model.ns(clock::tsc()));
            if matches!(self, RxClock::Poll) {
                (stamps.quality, stamps.degraded) = (line.quality, Selection::NONE);
                stamps.ns[..count].fill(now_ns);
            } else {
                unstamped.indices().for_each(|index| stamps.ns[index] = now_ns);
            }
        }
    }
}

/// Packets do not wait for longer before they are polled: a longer time says that a clock was set in between.
const LONGEST_WAIT_NS: u64 = 10_000_000_000;

impl RxClock {
    /// When the first packet of a burst that was polled at `polled` was received, both in ticks of the time-stamp counter: by the
    /// NIC's or the kernel's time of it, where that can be told from the system's clock, else the poll. `poll` is the counter's
    /// line.
    #[cold]
    pub fn received_at(&mut self, polled: u64, burst: &MbufBurst, poll: &mut ClockView) -> u64 {
        let place = match self {
            RxClock::Epoch { place, is_systems: true, .. } | RxClock::Nic { place, .. } => *place,
            RxClock::Poll | RxClock::Epoch { .. } => return polled,
        };
        let mut stamps = [0; MAX_BURST];
        if !burst.raw_stamps(place, &mut stamps).contains(0) {
            return polled;
        }
        let received_ns = match self {
            RxClock::Nic { .. } if stamps[0] == 0 => None,
            RxClock::Nic { view, .. } => view.line().sound().map(|model| model.ns(stamps[0])),
            RxClock::Epoch { unit_ns, .. } => Some(stamps[0].wrapping_mul(*unit_ns)),
            RxClock::Poll => None,
        };
        match (received_ns, poll.line().sound()) {
            (Some(received_ns), Some(counter)) => before(polled, received_ns, counter),
            _ => polled,
        }
    }
}

/// As [`RxClock::received_at`], of a packet that was received at `received_ns` by the system's clock.
pub(super) fn ticks_of(received_ns: u64, polled: u64, poll: &mut ClockView) -> u64 {
    poll.line().sound().map_or(polled, |counter| before(polled, received_ns, counter))
}

/// The tick of `counter` at `received_ns`, which is `polled` if it lies behind that, or too far before it to be true.
fn before(polled: u64, received_ns: u64, counter: &ClockModel) -> u64 {
    let waited_ns = counter.ns(polled).saturating_sub(received_ns);
    if waited_ns > LONGEST_WAIT_NS {
        return polled;
    }
    polled.wrapping_sub((waited_ns as f64 / counter.ns_per_tick()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::clock_fit::{ClockFit, FitLimits, Reading};

    proptest::proptest! {
        #[test]
        fn the_tick_of_a_time_before_the_poll_is_that_of_the_line(
            hz in 100_000_000u64..5_000_000_000, waited_ns in 0u64..LONGEST_WAIT_NS, second in 5u64..9
        ) {
            let start_ns = 1_700_000_000_000_000_000;
            let mut fit = ClockFit::new(FitLimits::default());
            for second in 0..10u64 {
                let ns = start_ns + second * 1_000_000_000;
                fit.observe(Reading { ticks: 20 * hz + second * hz, before_ns: ns, after_ns: ns });
            }
            let line = fit.model().expect("ten readings");
            let polled = 20 * hz + second * hz;
            let polled_ns = start_ns + second * 1_000_000_000;
            let tick = before(polled, polled_ns - waited_ns, &line);
            let wanted = polled - (u128::from(waited_ns) * u128::from(hz) / 1_000_000_000) as u64;
            // ten nanoseconds, for the line is a fit
            proptest::prop_assert!(tick.abs_diff(wanted) <= hz / 100_000_000 + 1, "{} {}", tick, wanted);
            proptest::prop_assert_eq!(before(polled, polled_ns + 1_000, &line), polled, "received behind the poll");
            let long_ago = polled_ns - LONGEST_WAIT_NS - 1_000;
            proptest::prop_assert_eq!(before(polled, long_ago, &line), polled, "a clock was set");
        }
    }

    #[test]
    fn a_view_takes_up_the_line_that_is_published() {
        let cell = Arc::new(ClockCell::default());
        let mut view = ClockView::new(Arc::clone(&cell));
        assert!(view.line().model.is_none());
        let mut fit = ClockFit::new(FitLimits::default());
        for second in 0..10u64 {
            let ns = 1_700_000_000_000_000_000 + second * 1_000_000_000;
            fit.observe(Reading { ticks: second * 2_000_000_000, before_ns: ns, after_ns: ns + 10 });
        }
        cell.publish(ClockLine { model: fit.model(), quality: ClockQuality::Ntp });
        let line = view.line();
        let ns = line.sound().expect("ten readings in line").ns(3_000_000_000);
        assert!(ns.abs_diff(1_700_000_001_500_000_005) < 3 && line.quality == ClockQuality::Ntp, "{ns}");
    }
}
