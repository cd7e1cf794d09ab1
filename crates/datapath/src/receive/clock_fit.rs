//! Clock fitting: a NIC's raw ticks become nanoseconds since the epoch.
//!
//! Housekeeping reads the tick counter between two readings of the system's clock, a few times a second, and gives each `Reading`
//! to a `ClockFit`. What comes out is a `ClockModel`, a line through the readings, with a bound of its error and a flag that says
//! whether it can be trusted yet; workers turn ticks into time with it, without reading any clock. The system's clock is taken for
//! the truth: keeping it true is the work of chrony, or of ptp4l and phc2sys.
//!
//! A line is found by the median of slopes (Theil-Sen), which up to a quarter of bad readings cannot move, and then by least
//! squares over the readings that lie near it. A change of the system's clock shows as several readings in a row that agree with
//! each other and not with the line: the fit begins anew from them, and is degraded until it has converged again. From the first of
//! them on, the line is not trusted. While the counter cannot be read, the error bound grows, and the fit is degraded when the bound is
//! above its limit.
//!
//! DPDK does not say how wide a counter is, and some have 32 bits. Until a reading has more, or has come around, ticks that are more
//! than 2^31 below the last reading are taken for those of a counter that came around.
//! # Source
//! Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau", 1968.

use std::collections::VecDeque;

use crate::copies::facts::Stamp;
use tapline_api::words::ClockQuality;

/// Readings that are kept.
const WINDOW: usize = 48;
/// Readings without which there is no line to trust.
const MIN_READINGS: usize = 8;
/// Readings off the line that agree with each other before the clock is taken to have stepped.
const STEP_READINGS: usize = 3;
/// Fraction bits of nanoseconds per tick: a second of a 1 GHz counter is right to 4 millionths of a nanosecond.
const SLOPE_BITS: u32 = 48;

/// The tick counter, read between two readings of the system's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub ticks: u64,
    /// System time before the ticks were read, nanoseconds since the epoch.
    pub before_ns: u64,
    /// System time after the ticks were read.
    pub after_ns: u64,
}

/// When a fit is good enough, and when a clock has stepped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FitLimits {
    /// The most bits that the tick counter has, 1..=64; it wraps to zero. It must be read at least twice a period.
    pub tick_bits: u32,
    /// The fit has converged when its error bound is at most this.
    pub error_ns: u64,
    /// Readings must span this time before the slope is trusted.
    pub span_ns: u64,
    /// Readings farther than this from the line, and than ten times its error, may be a step.
    pub step_ns: u64,
}

impl Default for FitLimits {
    /// For a counter of 64 bits that is read over PCI within some microseconds.
    fn default() -> Self {
        Self { tick_bits: 64, error_ns: 10_000, span_ns: 1_000_000_000, step_ns: 100_000 }
    }
}

/// The change that a reading made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FitEvent {
    /// The error bound came under its limit.
    Converged,
    /// The error bound went over its limit.
    Degraded,
    /// System clock or counter jumped by so much against each other, forwards or backwards; the fit begins anew.
    Stepped { by_ns: i64 },
}

/// The line, as workers use it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockModel {
    base_ticks: u64,
    base_ns: u64,
    /// Nanoseconds per tick, times 2^48.
    slope: u64,
    width: Width,
    /// The last reading's place, or where the counter is since then if it cannot be read: from there the error grows. The span of
    /// all readings, in ticks.
    last_ticks: u64,
    span_ticks: u64,
    /// The bound at the readings.
    fit_error_ns: u64,
    /// The bound at `last_ticks`.
    error_ns: u64,
    degraded: bool,
}

impl ClockModel {
    /// Nanoseconds since the epoch at `ticks`, before or after the readings. Never panics; nonsense ticks give a nonsense time.
    #[inline(always)]
    pub fn ns(&self, ticks: u64) -> u64 {
        let delta = self.width.difference(ticks, self.base_ticks);
        let offset = (i128::from(delta) * i128::from(self.slope)) >> SLOPE_BITS;
        self.base_ns.wrapping_add(offset as u64)
    }

    /// The receive time of a packet that was stamped with `ticks`.
    #[inline(always)]
    pub fn stamp(&self, ticks: u64, quality: ClockQuality) -> Stamp {
        Stamp { ns: self.ns(ticks), quality, degraded: self.degraded }
    }

    /// How far the time at `ticks` may be from the system's: the bound at the readings, growing with the distance from them.
    pub fn error_ns(&self, ticks: u64) -> u64 {
        let beyond = self.width.difference(ticks, self.last_ticks);
        let before = -(i128::from(beyond) + i128::from(self.span_ticks));
        let outside = i128::from(beyond).max(before).max(0) as u128;
        // FittedLine and truth differ by at most the bound at both ends of the readings, so by at most this outside of them.
        let growth = u128::from(self.fit_error_ns) * 2 * outside / u128::from(self.span_ticks.max(1));
        self.error_ns.saturating_add(u64::try_from(growth).unwrap_or(u64::MAX))
    }

    /// Moves the line's place on to `now_ns`, where no reading is: it is where it was, and its error bound larger. Gives the ticks
    /// that passed.
    fn go_on(&mut self, now_ns: u64) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.base_ns);
        let ticks = self.ticks_in(elapsed_ns);
        let elapsed_ns = ((u128::from(ticks) * u128::from(self.slope)) >> SLOPE_BITS) as u64;
        // where ticks end between two nanoseconds, the line may be lower by one
        let growth =
            u128::from(self.fit_error_ns) * 2 * u128::from(ticks) / u128::from(self.span_ticks.max(1)) + 1;
        self.error_ns = self.error_ns.saturating_add(u64::try_from(growth).unwrap_or(u64::MAX));
        self.base_ticks = self.base_ticks.wrapping_add(ticks);
        self.base_ns = self.base_ns.wrapping_add(elapsed_ns);
        self.last_ticks = self.base_ticks;
        ticks
    }

    /// How far the time of a packet may be from the system's that is received at `now_ns` by the system's clock.
    pub fn error_at_ns(&self, now_ns: u64) -> u64 {
        self.error_ns(self.base_ticks.wrapping_add(self.ticks_in(now_ns.saturating_sub(self.base_ns))))
    }

    /// Ticks that pass in a time.
    fn ticks_in(&self, ns: u64) -> u64 {
        ((u128::from(ns) << SLOPE_BITS) / u128::from(self.slope.max(1))) as u64
    }

    /// Nanoseconds per tick.
    pub fn ns_per_tick(&self) -> f64 {
        self.slope as f64 / (1u64 << SLOPE_BITS) as f64
    }

    /// Stamps made with it are marked degraded.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }
}

/// The width of a counter, as far as readings show it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Width {
    /// The bits that do not count.
    unused: u32,
    /// Differences below this are those of a counter of 32 bits that came around.
    around_below: i64,
}

impl Width {
    /// A counter that wraps to zero behind so many bits.
    fn of(bits: u32) -> Self {
        Self { unused: 64 - bits, around_below: i64::MIN }
    }

    /// A counter of `bits` that may have only 32.
    fn at_most(bits: u32) -> Self {
        if bits > 32 { Self { around_below: i32::MIN.into(), ..Self::of(bits) } } else { Self::of(bits) }
    }

    /// `to - from`, as the shorter way around.
    #[inline(always)]
    fn difference(self, to: u64, from: u64) -> i64 {
        let difference = self.plain_difference(to, from);
        if difference < self.around_below { i64::from(difference as i32) } else { difference }
    }

    /// The same, of a counter that has all of its bits.
    #[inline(always)]
    fn plain_difference(self, to: u64, from: u64) -> i64 {
        ((to.wrapping_sub(from) << self.unused) as i64) >> self.unused
    }

    /// Returns whether the way from `from` to `to` is that of a counter of 32 bits that came around.
    fn is_around(self, to: u64, from: u64) -> bool {
        self.plain_difference(to, from) < self.around_below
    }
}

/// A reading, placed: ticks counted without wrapping, time in the middle of the two system readings.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Raw ticks, and ticks since the first reading of the fit.
    raw: u64,
    ticks: i64,
    ns: u64,
    uncertainty_ns: u64,
}

/// Fits a counter's ticks to the system's time.
#[derive(Debug)]
pub struct ClockFit {
    limits: FitLimits,
    points: VecDeque<Point>,
    /// Points off the line, that may be the first after a step.
    suspects: Vec<Point>,
    model: Option<ClockModel>,
    width: Width,
    /// Ticks that passed since the last reading, by the line, while the counter could not be read.
    unread_ticks: u64,
    readings: u64,
    rejected: u64,
    steps: u64,
}

impl ClockFit {
    /// # Panics
    /// If `tick_bits` is not 1..=64.
    pub fn new(limits: FitLimits) -> Self {
        assert!((1..=64).contains(&limits.tick_bits), "a counter has 1 to 64 bits");
        let (points, suspects) = (VecDeque::with_capacity(WINDOW + 1), Vec::with_capacity(STEP_READINGS));
        let width = Width::at_most(limits.tick_bits);
        Self {
            limits,
            points,
            suspects,
            model: None,
            width,
            unread_ticks: 0,
            readings: 0,
            rejected: 0,
            steps: 0,
        }
    }

    /// The line, once there are two readings. It is degraded while the last reading contradicts it.
    pub fn model(&self) -> Option<ClockModel> {
        let is_doubtful = !self.suspects.is_empty();
        self.model.map(|model| ClockModel { degraded: model.degraded || is_doubtful, ..model })
    }

    /// Readings taken.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Readings that were off the line and are not part of it.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How often the clocks stepped.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes a reading. One whose second system time is before its first is rejected: the clock was set in between.
    pub fn observe(&mut self, reading: Reading) -> Option<FitEvent> {
        self.readings += 1;
        let Some(width) = reading.after_ns.checked_sub(reading.before_ns) else {
            self.rejected += 1;
            return None;
        };
        if reading.ticks > u64::from(u32::MAX) {
            self.width = Width::of(self.limits.tick_bits);
        }
        let ns = reading.before_ns + width / 2;
        let last = self.points.back().map(|last| (last.ticks, last.raw.wrapping_add(self.unread_ticks)));
        let ticks = last.map_or(0, |(ticks, raw)| {
            let passed =
                (self.unread_ticks as i64).saturating_add(self.width.difference(reading.ticks, raw));
            ticks.saturating_add(passed)
        });
        // Half a nanosecond may be lost in the middle.
        let point = Point { raw: reading.ticks, ticks, ns, uncertainty_ns: width / 2 + 1 };
        if let Some(by_ns) = self.distance_if_off(&point) {
            return self.suspect(point, by_ns);
        }
        self.rejected += self.suspects.len() as u64;
        self.suspects.clear();
        // A counter that stands still or runs backwards says nothing.
        if self.points.back().is_some_and(|last| point.ticks <= last.ticks) {
            self.rejected += 1;
            return None;
        }
        if last.is_some_and(|(_, raw)| self.width.is_around(point.raw, raw)) {
            self.width = Width::of(32);
        }
        self.unread_ticks = 0;
        self.points.push_back(point);
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        if self.points.len() == MIN_READINGS
            && let Some(by_ns) = self.early_jump()
        {
            return self.begin_anew(by_ns);
        }
        self.refit()
    }

    /// Takes up that the counter could not be read at `now_ns` of the system's clock: the error bound grows.
    pub fn miss(&mut self, now_ns: u64) -> Option<FitEvent> {
        let model = self.model.as_mut()?;
        self.unread_ticks = self.unread_ticks.saturating_add(model.go_on(now_ns));
        let becomes_degraded = !model.degraded && model.error_ns > self.limits.error_ns;
        model.degraded |= becomes_degraded;
        becomes_degraded.then_some(FitEvent::Degraded)
    }

    /// A jump among the first readings, which come before there is a line that later ones could be off: the readings before it
    /// go, and how far it went is told. The rate is that of most intervals, for a step spoils one of them.
    fn early_jump(&mut self) -> Option<i64> {
        let pairs = || self.points.iter().zip(self.points.iter().skip(1));
        let elapsed = |from: &Point, to: &Point| {
            (to.ticks.saturating_sub(from.ticks) as f64, to.ns.wrapping_sub(from.ns) as i64 as f64)
        };
        let mut slopes: Vec<f64> =
            pairs().map(|(from, to)| elapsed(from, to)).map(|(ticks, ns)| ns / ticks).collect();
        let slope = median(&mut slopes)?;
        let (mut level, mut last_jump) = (0.0, None);
        for (index, (from, to)) in pairs().enumerate() {
            let (ticks, ns) = elapsed(from, to);
            let off = ns - slope * ticks;
            if off.abs() > (self.limits.step_ns + from.uncertainty_ns + to.uncertainty_ns) as f64 {
                level += off;
                last_jump = Some(index);
            }
        }
        // One bad reading jumps there and back.
        let last_jump = last_jump.filter(|_| level.abs() > self.limits.step_ns as f64)?;
        self.points.drain(..=last_jump);
        Some(level as i64)
    }

    /// How far a point is from the line, where that is too far.
    fn distance_if_off(&self, point: &Point) -> Option<i64> {
        let model = self.model.filter(|_| self.points.len() >= MIN_READINGS)?;
        let off = point.ns.wrapping_sub(model.ns(point.raw)) as i64;
        let bound = self
            .limits
            .step_ns
            .max(model.error_ns(point.raw).saturating_mul(10))
            .saturating_add(point.uncertainty_ns);
        (off.unsigned_abs() > bound).then_some(off)
    }

    /// A point off the line: the last of enough that agree is a step.
    fn suspect(&mut self, point: Point, by_ns: i64) -> Option<FitEvent> {
        let model = self.model?;
        let off = |point: &Point| point.ns.wrapping_sub(model.ns(point.raw)) as i64;
        let agrees =
            |other: &Point| off(other).abs_diff(by_ns) <= self.limits.step_ns.max(by_ns.unsigned_abs() / 4);
        if !self.suspects.iter().all(agrees) {
            self.rejected += self.suspects.len() as u64;
            self.suspects.clear();
        }
        self.suspects.push(point);
        if self.suspects.len() < STEP_READINGS {
            return None;
        }
        self.points.clear();
        self.points.extend(self.suspects.drain(..));
        self.begin_anew(by_ns)
    }

    /// Counts a step and begins with the points that came after it.
    fn begin_anew(&mut self, by_ns: i64) -> Option<FitEvent> {
        self.steps += 1;
        self.unread_ticks = 0;
        // The slope is the counter's and stays; only the offset is another, until there are readings enough for both.
        if let (Some(last), Some(model)) = (self.points.back(), self.model) {
            let degraded = ClockModel { base_ticks: last.raw, base_ns: last.ns, degraded: true, ..model };
            self.model = Some(degraded);
        }
        self.refit();
        Some(FitEvent::Stepped { by_ns })
    }

    /// Draws the line through the points anew.
    fn refit(&mut self) -> Option<FitEvent> {
        let was_degraded = self.model.is_none_or(|model| model.degraded);
        let (first, last) = (*self.points.front()?, *self.points.back()?);
        let line = FittedLine::through(self.points.make_contiguous(), &last)?;
        let slope = (line.slope * (1u64 << SLOPE_BITS) as f64).round();
        // A slope that does not fit is of no clock: less than 2^-48 or more than 65 536 nanoseconds per tick.
        if !(1.0..9.2e18).contains(&slope) {
            return None;
        }
        let span_ns = last.ns.saturating_sub(first.ns);
        let has_readings = self.points.len() >= MIN_READINGS && span_ns >= self.limits.span_ns;
        let degraded = !has_readings || line.error_ns > self.limits.error_ns;
        self.model = Some(ClockModel {
            base_ticks: last.raw,
            base_ns: last.ns.wrapping_add_signed(line.offset_ns.round() as i64),
            slope: slope as u64,
            width: self.width,
            last_ticks: last.raw,
            span_ticks: last.ticks.abs_diff(first.ticks),
            fit_error_ns: line.error_ns,
            error_ns: line.error_ns,
            degraded,
        });
        match (was_degraded, degraded) {
            (true, false) => Some(FitEvent::Converged),
            (false, true) => Some(FitEvent::Degraded),
            _ => None,
        }
    }
}

/// A line relative to one point.
struct FittedLine {
    /// Nanoseconds per tick.
    slope: f64,
    /// The distance of the line above that point.
    offset_ns: f64,
    error_ns: u64,
}

impl FittedLine {
    fn through(points: &[Point], origin: &Point) -> Option<Self> {
        // Differences from the origin fit a double to the nanosecond for a hundred days.
        let place = |point: &Point| {
            (
                point.ticks.saturating_sub(origin.ticks) as f64,
                point.ns.wrapping_sub(origin.ns) as i64 as f64,
            )
        };
        let places: Vec<_> = points.iter().map(place).collect();
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, (ticks, ns)) in places.iter().enumerate() {
            slopes.extend(
                places[..index]
                    .iter()
                    .map(|(other_ticks, other_ns)| (ns - other_ns) / (ticks - other_ticks)),
            );
        }
        let rough_slope = median(&mut slopes)?;
        let mut offsets: Vec<_> = places.iter().map(|(ticks, ns)| ns - rough_slope * ticks).collect();
        let rough_offset = median(&mut offsets)?;
        let mut distances: Vec<_> =
            places.iter().map(|(ticks, ns)| (ns - rough_offset - rough_slope * ticks).abs()).collect();
        // Four standard deviations, were the distances normal; and no reading is closer than it is certain.
        let limit = 4.0 * 1.4826 * median(&mut distances)?;
        let near: Vec<_> = points
            .iter()
            .zip(&places)
            .filter(|(point, (ticks, ns))| {
                (ns - rough_offset - rough_slope * ticks).abs()
                    <= limit.max(point.uncertainty_ns.min(1000) as f64)
            })
            .map(|(point, place)| (point.uncertainty_ns as f64, *place))
            .collect();
        // Readings that took long say little.
        let weight = |uncertainty: f64| 1.0 / (uncertainty * uncertainty);
        let total: f64 = near.iter().map(|(uncertainty, _)| weight(*uncertainty)).sum();
        let mean = |of: fn(&(f64, f64)) -> f64| {
            near.iter().map(|(u, place)| weight(*u) * of(place)).sum::<f64>() / total
        };
        let (mean_ticks, mean_ns) = (mean(|place| place.0), mean(|place| place.1));
        let (mut together, mut square) = (0.0, 0.0);
        for (uncertainty, (ticks, ns)) in &near {
            together += weight(*uncertainty) * (ticks - mean_ticks) * (ns - mean_ns);
            square += weight(*uncertainty) * (ticks - mean_ticks) * (ticks - mean_ticks);
        }
        let slope = if square > 0.0 && near.len() >= 3 { together / square } else { rough_slope };
        let offset_ns = mean_ns - slope * mean_ticks;
        // The truth lies within each reading, so it is no farther from the line than the reading's distance and uncertainty
        // together; and as both are lines, what holds at the readings holds between them.
        let bound = near
            .iter()
            .map(|(u, (ticks, ns))| (ns - offset_ns - slope * ticks).abs() + u)
            .max_by(f64::total_cmp)?;
        let error_ns = (bound.ceil() as u64).saturating_add(1);
        Some(Self { slope, offset_ns, error_ns })
    }
}

/// The middle of the values, of two the lower; `None` of none.
fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: u64 = 1_700_000_000_000_000_000;

    /// A counter that runs at `ns_per_tick`, and the readings that are taken of it.
    #[derive(Clone, Copy)]
    struct Counter {
        start: u64,
        ns_per_tick: f64,
        bits: u32,
    }

    impl Counter {
        fn ticks(&self, elapsed_ns: u64) -> u64 {
            let ticks = self.start.wrapping_add((elapsed_ns as f64 / self.ns_per_tick) as u64);
            if self.bits == 64 { ticks } else { ticks & ((1 << self.bits) - 1) }
        }

        /// The counter is read `early` after the first and `late` before the second system time.
        fn reading(&self, elapsed_ns: u64, early: u64, late: u64) -> Reading {
            let now = EPOCH + elapsed_ns;
            Reading { ticks: self.ticks(elapsed_ns), before_ns: now - early, after_ns: now + late }
        }
    }

    /// One reading every tenth of a second.
    const INTERVAL: u64 = 100_000_000;

    fn limits(bits: u32) -> FitLimits {
        FitLimits { tick_bits: bits, ..Default::default() }
    }

    #[test]
    fn a_clean_clock_converges_after_a_second_and_is_right_to_some_nanoseconds() {
        let counter = Counter { start: 12345, ns_per_tick: 1.0 / 2.3, bits: 64 };
        let mut fit = ClockFit::new(limits(64));
        let mut converged_at = None;
        for index in 0..60 {
            if fit.observe(counter.reading(index * INTERVAL, 40, 40)) == Some(FitEvent::Converged) {
                converged_at = Some(index);
            }
        }
        assert_eq!(converged_at, Some(10));
        let model = fit.model().expect("it converged");
        for elapsed in [0, 1_000_000_007, 5_900_000_000, 6_500_000_000] {
            assert!(model.ns(counter.ticks(elapsed)).abs_diff(EPOCH + elapsed) <= 2);
        }
        assert!(!model.is_degraded() && (model.ns_per_tick() - 1.0 / 2.3).abs() < 1e-8);
    }

    #[test]
    fn a_set_clock_is_a_step_and_one_bad_reading_is_not() {
        let counter = Counter { start: 0, ns_per_tick: 8.0, bits: 40 };
        let mut fit = ClockFit::new(limits(40));
        let mut events = Vec::new();
        for index in 0..200u64 {
            let mut reading = counter.reading(index * INTERVAL, 500, 700);
            // One reading is wrong by a minute; from the hundredth on the system's clock is two seconds back.
            let shift = if index == 50 {
                60_000_000_000
            } else if index >= 100 {
                -2_000_000_000
            } else {
                0
            };
            reading.before_ns = reading.before_ns.wrapping_add_signed(shift);
            reading.after_ns = reading.after_ns.wrapping_add_signed(shift);
            events.extend(fit.observe(reading));
        }
        match events[..] {
            [FitEvent::Converged, FitEvent::Stepped { by_ns }, FitEvent::Converged] => {
                assert!((by_ns + 2_000_000_000).abs() < 10_000, "{by_ns}");
            }
            _ => panic!("{events:?}"),
        }
        assert_eq!((fit.steps(), fit.rejected(), fit.readings()), (1, 1, 200));
        let model = fit.model().expect("it converged");
        assert!(
            model.ns(counter.ticks(199 * INTERVAL)).abs_diff(EPOCH + 199 * INTERVAL - 2_000_000_000) < 1000
        );
    }

    #[test]
    fn a_clock_that_is_set_before_there_is_a_line_is_one_step() {
        for set_at in 1..=20u64 {
            let counter = Counter { start: 0, ns_per_tick: 0.5, bits: 64 };
            let mut fit = ClockFit::new(limits(64));
            let shift = |index| if index >= set_at { 3_000_000_000 } else { 0 };
            let mut events = Vec::new();
            for index in 0..40 {
                let reading = counter.reading(index * INTERVAL, 200, 300);
                let (before_ns, after_ns) =
                    (reading.before_ns + shift(index), reading.after_ns + shift(index));
                events.extend(fit.observe(Reading { before_ns, after_ns, ..reading }));
            }
            assert_eq!(fit.steps(), 1, "set before reading {set_at}: {events:?}");
            let stepped = events.iter().find_map(|event| match event {
                FitEvent::Stepped { by_ns } => Some(*by_ns),
                _ => None,
            });
            assert!(
                stepped.is_some_and(|by_ns| (by_ns - 3_000_000_000).abs() < 10_000),
                "{set_at}: {events:?}"
            );
            assert_eq!(events.last(), Some(&FitEvent::Converged), "{set_at}: {events:?}");
            let model = fit.model().expect("it converged");
            assert!(
                model.ns(counter.ticks(39 * INTERVAL)).abs_diff(EPOCH + 39 * INTERVAL + 3_000_000_000)
                    < 1000,
                "{set_at}"
            );
        }
    }

    #[test]
    fn one_bad_reading_among_the_first_is_no_step() {
        for bad in 0..8u64 {
            let counter = Counter { start: 0, ns_per_tick: 0.5, bits: 64 };
            let mut fit = ClockFit::new(limits(64));
            for index in 0..40 {
                let mut reading = counter.reading(index * INTERVAL, 200, 300);
                if index == bad && (1..7).contains(&bad) {
                    (reading.before_ns, reading.after_ns) =
                        (reading.before_ns + 5_000_000, reading.after_ns + 5_000_000);
                }
                fit.observe(reading);
            }
            let model = fit.model().expect("there are readings");
            assert!(fit.steps() == 0 && !model.is_degraded(), "reading {bad}");
            assert!(
                model.ns(counter.ticks(39 * INTERVAL)).abs_diff(EPOCH + 39 * INTERVAL) < 1000,
                "reading {bad}"
            );
        }
    }

    #[test]
    fn between_a_step_and_the_next_fit_stamps_are_degraded_and_follow_the_new_time() {
        let counter = Counter { start: 0, ns_per_tick: 1.0, bits: 64 };
        let mut fit = ClockFit::new(limits(64));
        for index in 0..20 {
            fit.observe(counter.reading(index * INTERVAL, 100, 100));
        }
        for index in 20..23 {
            let reading = counter.reading(index * INTERVAL, 100, 100);
            let ahead = |ns| ns + 1_000_000_000;
            fit.observe(Reading {
                before_ns: ahead(reading.before_ns),
                after_ns: ahead(reading.after_ns),
                ..reading
            });
        }
        let stamp =
            fit.model().expect("there was one").stamp(counter.ticks(22 * INTERVAL), ClockQuality::Ntp);
        assert!(stamp.degraded && stamp.ns.abs_diff(EPOCH + 22 * INTERVAL + 1_000_000_000) < 1000);
    }

    #[test]
    fn from_the_first_reading_off_the_line_on_stamps_are_degraded_until_one_is_on_it() {
        let counter = Counter { start: 9_000_000_000, ns_per_tick: 1.0, bits: 64 };
        let mut fit = ClockFit::new(limits(64));
        let mut degraded_at = Vec::new();
        for index in 0..30u64 {
            let reading = counter.reading(index * INTERVAL, 100, 100);
            let off = if (20..22).contains(&index) { 3_000_000 } else { 0 };
            fit.observe(Reading { ticks: reading.ticks + off, ..reading });
            if index > 10 && fit.model().is_none_or(|model| model.is_degraded()) {
                degraded_at.push(index);
            }
        }
        assert_eq!((degraded_at, fit.steps()), (vec![20, 21], 0));
    }

    #[test]
    fn readings_that_cannot_be_are_rejected() {
        let mut fit = ClockFit::new(limits(64));
        assert_eq!(fit.observe(Reading { ticks: 1, before_ns: 10, after_ns: 9 }), None);
        for _ in 0..5 {
            fit.observe(Reading { ticks: 7, before_ns: 10, after_ns: 20 });
        }
        assert!(fit.model().is_none() && fit.rejected() == 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

        #[test]
        fn the_truth_lies_within_the_error_bound(
            start: u64,
            ns_per_tick in 0.3f64..40.0,
            bits in 36u32..=64,
            widths in proptest::collection::vec((1u64..4000, 1u64..4000), 20..80),
            outliers in proptest::collection::btree_map(0usize..80, -80_000i64..80_000, 0..6),
            ahead in 0u64..2_000_000_000,
        ) {
            let start = if bits == 64 { start } else { start & ((1 << bits) - 1) };
            let counter = Counter { start, ns_per_tick, bits };
            let mut fit = ClockFit::new(limits(bits));
            for (index, (early, late)) in widths.iter().enumerate() {
                let mut reading = counter.reading(index as u64 * INTERVAL, *early, *late);
                if let Some(shift) = outliers.get(&index).filter(|_| index > 10) {
                    reading.before_ns = reading.before_ns.wrapping_add_signed(*shift);
                    reading.after_ns = reading.after_ns.wrapping_add_signed(*shift);
                }
                fit.observe(reading);
            }
            let model = fit.model().expect("there are readings");
            let last = (widths.len() as u64 - 1) * INTERVAL;
            for elapsed in [last, last - INTERVAL / 3, last.saturating_sub(5 * INTERVAL), last + ahead] {
                let ticks = counter.ticks(elapsed);
                let error = model.ns(ticks).abs_diff(EPOCH + elapsed);
                // A tick is the least that can be told.
                prop_assert!(error <= model.error_ns(ticks) + ns_per_tick.ceil() as u64, "{} ns off at {}, bound {}", error, elapsed, model.error_ns(ticks));
            }
            prop_assert_eq!(fit.steps(), 0);
        }

        #[test]
        fn a_counter_of_32_bits_is_followed_around_and_through_moments_at_which_it_cannot_be_read(
            start: u32,
            ns_per_tick in 0.3f64..40.0,
            readings in 15usize..120,
            unread in 0u64..40,
        ) {
            let counter = Counter { start: start.into(), ns_per_tick, bits: 32 };
            let mut fit = ClockFit::new(FitLimits::default());
            let judge = |fit: &ClockFit, at: u64| -> Result<(), TestCaseError> {
                let model = fit.model().expect("there are readings");
                for elapsed in [at, at + INTERVAL / 2, at + INTERVAL] {
                    let error = model.ns(counter.ticks(elapsed)).abs_diff(EPOCH + elapsed);
                    let bound = model.error_at_ns(EPOCH + elapsed) + ns_per_tick.ceil() as u64 + 1;
                    prop_assert!(error <= bound, "{} ns off {} after {}, bound {}", error, elapsed, at, bound);
                }
                Ok(())
            };
            let read = |fit: &mut ClockFit, index: u64| fit.observe(counter.reading(index * INTERVAL, 300, 400));
            let mut index = 0;
            for _ in 0..readings {
                read(&mut fit, index);
                if index > 10 {
                    judge(&fit, index * INTERVAL)?;
                }
                index += 1;
            }
            for _ in 0..unread {
                let event = fit.miss(EPOCH + index * INTERVAL);
                let model = fit.model().expect("there are readings");
                prop_assert_eq!(event.is_some() || model.is_degraded(), model.error_ns > 10_000);
                judge(&fit, index * INTERVAL)?;
                index += 1;
            }
            for _ in 0..12 {
                read(&mut fit, index);
                judge(&fit, index * INTERVAL)?;
                index += 1;
            }
            prop_assert_eq!((fit.steps(), fit.rejected()), (0, 0));
            prop_assert!(!fit.model().expect("there are readings").is_degraded());
        }

        #[test]
        fn any_readings_are_taken_without_harm(readings in proptest::collection::vec(any::<(u64, u64, u16)>(), 0..100), bits in 1u32..=64, ticks: u64) {
            let mut fit = ClockFit::new(limits(bits));
            for (ticks, before_ns, width) in readings {
                fit.observe(Reading { ticks, before_ns, after_ns: before_ns.saturating_add(width.into()) });
            }
            if let Some(model) = fit.model() {
                model.stamp(ticks, ClockQuality::Free);
                model.error_ns(ticks);
            }
        }
    }
}
