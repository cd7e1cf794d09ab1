//! Fault injection: named places where a test makes the program fail.
//!
//! Only builds with debug assertions have it, as the tests' are; in others nothing is left of it. The environment variable
//! `TAPLINE_FAULT` arms places, separated by commas: `PLACE` (the first time that it is passed), `PLACE@3` (the third),
//! `PLACE@3-5` (the third to the fifth), `PLACE@3-` (from the third on). A place that is passed by packets is named with the packet's
//! index in its burst, `make:31@2`: the second time that packet 31 passes.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// The places at which a start can fail, in the order in which it passes them. A test makes each fail, each time that it is passed.
/// A place of a start that is missing here panics.
pub const START: [&str; 23] = [
    "start.signals",
    "start.statistics",
    "start.prompt",
    "start.placement",
    "start.tables",
    "start.memory",
    "start.mounts",
    "start.descriptors",
    "start.eal",
    "start.lcore",
    "start.attach",
    "start.info",
    "start.mempool",
    "start.configure",
    "start.queue_sizes",
    "start.rx_queue",
    "start.tx_queue",
    "start.port",
    "start.stamps",
    "start.ring",
    "start.launch",
    "start.capture",
    "start.writer",
];

/// Returns whether the place is to fail this time.
#[inline(always)]
pub fn strikes(place: &str) -> bool {
    #[cfg(debug_assertions)]
    return armed::strikes(place, None);
    #[cfg(not(debug_assertions))]
    {
        let _ = place;
        false
    }
}

/// Panics if the place is to fail this time.
#[inline(always)]
pub fn panics(place: &str) {
    #[cfg(debug_assertions)]
    assert!(!armed::strikes(place, None), "injected at {place}");
    #[cfg(not(debug_assertions))]
    let _ = place;
}

/// Panics if the place is to fail for packet `index` of a burst this time.
#[inline(always)]
pub fn panics_on_packet(place: &str, index: usize) {
    #[cfg(debug_assertions)]
    assert!(!armed::strikes(place, Some(index)), "injected at {place}, packet {index}");
    #[cfg(not(debug_assertions))]
    let _ = (place, index);
}

#[cfg(debug_assertions)]
pub use armed::arm;

#[cfg(debug_assertions)]
mod armed {
    use std::ops::RangeInclusive;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Once, PoisonError, RwLock};

    struct Fault {
        place: String,
        packet: Option<usize>,
        strikes: RangeInclusive<u64>,
        passed: AtomicU64,
    }

    static ENVIRONMENT: Once = Once::new();
    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static FAULTS: RwLock<Vec<Fault>> = RwLock::new(Vec::new());

    /// Arms the places of `spec` and no others; none where it is empty.
    ///
    /// # Panics
    /// If it is no list of places.
    pub fn arm(spec: &str) {
        ENVIRONMENT.call_once(|| ());
        set(spec);
    }

    fn set(spec: &str) {
        let faults: Vec<Fault> = spec.split(',').filter(|entry| !entry.is_empty()).map(parse).collect();
        IS_ARMED.store(!faults.is_empty(), Ordering::Relaxed);
        *FAULTS.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    fn parse(entry: &str) -> Fault {
        let number =
            |text: &str| text.parse().unwrap_or_else(|_| panic!("TAPLINE_FAULT: {entry:?} is no place"));
        let (place, times) = entry.split_once('@').unwrap_or((entry, "1"));
        let strikes = match times.split_once('-') {
            None => number(times)..=number(times),
            Some((from, "")) => number(from)..=u64::MAX,
            Some((from, to)) => number(from)..=number(to),
        };
        let (place, packet) = match place.split_once(':') {
            None => (place, None),
            Some((place, packet)) => (place, Some(number(packet) as usize)),
        };
        Fault { place: place.to_owned(), packet, strikes, passed: AtomicU64::new(0) }
    }

    pub(crate) fn strikes(place: &str, packet: Option<usize>) -> bool {
        assert!(
            !place.starts_with("start.") || super::START.contains(&place),
            "{place} does not stand among the places of a start"
        );
        ENVIRONMENT.call_once(|| set(&std::env::var("TAPLINE_FAULT").unwrap_or_default()));
        if !IS_ARMED.load(Ordering::Relaxed) {
            return false;
        }
        let faults = FAULTS.read().unwrap_or_else(PoisonError::into_inner);
        let mut passing = faults.iter().filter(|fault| fault.place == place && fault.packet == packet);
        passing.any(|fault| fault.strikes.contains(&(fault.passed.fetch_add(1, Ordering::Relaxed) + 1)))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_place_fails_at_the_passings_that_are_named() {
        arm("a,b@2-3,c:7@2");
        assert_eq!([strikes("a"), strikes("a")], [true, false]);
        assert_eq!([1, 2, 3, 4].map(|_| strikes("b")), [false, true, true, false]);
        assert!(!strikes("c") && !strikes("d"));
        panics_on_packet("c", 6);
        panics_on_packet("c", 7);
        assert!(std::panic::catch_unwind(|| panics_on_packet("c", 7)).is_err());
        arm("");
        assert!(!strikes("a"));
    }
}
