//! Clocks: the time-stamp counter and the NICs' counters are read beside the system's clock, and the lines through the readings are
//! published to the workers.

use std::sync::Arc;
use std::time::Duration;

use super::device::Device;
use crate::report::events::Moment;
use tapline_api::event::Event;
use tapline_api::snapshot::ClockState;
use tapline_api::words::{ClockQuality, TimeSource};
use tapline_datapath::ids::PortId;
use tapline_datapath::receive::clock::{ClockCell, ClockLine};
use tapline_datapath::receive::clock_fit::{ClockFit, FitEvent, FitLimits, Reading};
use tapline_dpdk::clock;
use tapline_dpdk::port::Port;
use tapline_packet::by_id::ById;

/// Time between two readings: eight, over a second, are the least that a line is trusted after.
const INTERVAL: Duration = Duration::from_millis(140);

/// A counter and its fit.
struct Tracked {
    fit: ClockFit,
    cell: Arc<ClockCell>,
}

impl Tracked {
    fn new() -> Self {
        Self { fit: ClockFit::new(FitLimits::default()), cell: Arc::default() }
    }

    fn observe(&mut self, quality: ClockQuality, read: impl FnOnce() -> Option<u64>) -> Option<FitEvent> {
        let before_ns = clock::now_ns();
        let ticks = read();
        let after_ns = clock::now_ns();
        let event = match ticks {
            Some(ticks) => self.fit.observe(Reading { ticks, before_ns, after_ns }),
            None => self.fit.miss(after_ns),
        };
        self.cell.publish(ClockLine { model: self.fit.model(), quality });
        event
    }

    fn state(&self, source: TimeSource, quality: ClockQuality, is_counter_degraded: bool) -> ClockState {
        let model = self.fit.model();
        ClockState {
            source,
            latency_from: if model.is_some_and(|model| !model.is_degraded()) {
                source
            } else {
                TimeSource::Poll
            },
            quality,
            degraded: is_counter_degraded && model.is_none_or(|model| model.is_degraded()),
            offset_ns: model.map(|model| model.ns(0) as i64),
            ns_per_tick: model.map(|model| model.ns_per_tick()),
            error_ns: model.map(|model| model.error_at_ns(clock::now_ns())),
            readings: self.fit.readings(),
            rejected: self.fit.rejected(),
            steps: self.fit.steps(),
        }
    }
}

/// The times that a port's packets have.
pub enum PortClock {
    Poll,
    /// The times of the capture, or of the kernel that captures, by their name in statistics.
    Given(TimeSource),
    Nic(NicClock),
}

/// A NIC's counter.
pub struct NicClock {
    port: Port,
    tracked: Box<Tracked>,
}

impl NicClock {
    /// Makes the clock of a started port; `None` if the driver does not let the counter be read.
    pub fn new(port: &Port) -> Option<Self> {
        port.start_clock();
        port.read_clock()?;
        Some(Self { port: port.clone(), tracked: Box::new(Tracked::new()) })
    }

    pub fn cell(&self) -> Arc<ClockCell> {
        Arc::clone(&self.tracked.cell)
    }
}

/// All counters that are read while a plan runs.
pub struct Clocks {
    tsc: Tracked,
    /// The clock of each port.
    ports: ById<PortId, PortClock>,
    /// The reference that the system's clock follows, if it is kept.
    reference: ClockQuality,
    quality: ClockQuality,
    next: Duration,
}

impl Clocks {
    pub fn new(reference: ClockQuality) -> Self {
        Self {
            tsc: Tracked::new(),
            ports: ById::default(),
            reference,
            quality: ClockQuality::Free,
            next: Duration::ZERO,
        }
    }

    /// The line of the time-stamp counter.
    pub fn tsc(&self) -> Arc<ClockCell> {
        Arc::clone(&self.tsc.cell)
    }

    /// Adds the next port's.
    pub fn add(&mut self, clock: PortClock) {
        self.ports.push(clock);
    }

    /// The system's clock follows this from now on, where it is kept.
    pub fn follow(&mut self, reference: ClockQuality) {
        self.reference = reference;
    }

    /// Goes on with the ports of another plan: `ports` has the ids before of those that are kept, and `new` the clocks of the others.
    pub fn go_on(&mut self, ports: &ById<PortId, Option<PortId>>, mut new: ById<PortId, PortClock>) {
        for (id, from) in ports.entries() {
            if let Some(from) = *from {
                new[id] = std::mem::replace(&mut self.ports[from], PortClock::Poll);
            }
        }
        self.ports = new;
    }

    /// Reads the counters, if it is time.
    pub fn look(&mut self, now: Duration, devices: &[Device], moment: &mut Moment<'_>) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        self.quality =
            if tapline_kernel::clock::is_disciplined() { self.reference } else { ClockQuality::Free };
        if let Some(FitEvent::Stepped { by_ns }) = self.tsc.observe(self.quality, || Some(clock::tsc())) {
            moment.record(Event::SystemClockStepped { by_ns });
        }
        for (device, port) in devices.iter().zip(&mut self.ports) {
            let PortClock::Nic(NicClock { port, tracked }) = port else { continue };
            let Some(event) = tracked.observe(self.quality, || port.read_clock()) else { continue };
            let port = device.name().to_owned();
            moment.record(match event {
                FitEvent::Converged => Event::NicClockFitted { port },
                FitEvent::Degraded => Event::NicClockDegraded { port },
                FitEvent::Stepped { by_ns } => Event::NicClockStepped { port, by_ns },
            });
        }
    }

    /// Gives the statistics of a port's clock.
    pub fn state(&self, port: PortId) -> ClockState {
        match self.ports.get(port) {
            Some(PortClock::Nic(nic)) => nic.tracked.state(TimeSource::Nic, self.quality, true),
            Some(PortClock::Given(source)) => {
                let is_fitted = self.tsc.fit.model().is_some_and(|model| !model.is_degraded());
                let is_comparable = *source == TimeSource::Kernel && is_fitted;
                ClockState {
                    source: *source,
                    latency_from: if is_comparable { *source } else { TimeSource::Poll },
                    quality: ClockQuality::Free,
                    degraded: false,
                    offset_ns: None,
                    ns_per_tick: None,
                    error_ns: None,
                    readings: 0,
                    rejected: 0,
                    steps: 0,
                }
            }
            Some(PortClock::Poll) | None => self.tsc.state(TimeSource::Poll, self.quality, false),
        }
    }
}
