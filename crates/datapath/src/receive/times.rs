//! When packets came, as rules that go by time are told, and how old what they remember is.
//!
//! Stands in the route stage. `dedup`, samplers and groups that return when idle go by the packets' own times where the port has
//! such: then a capture gives the same result however fast it is read. Where it has none, one reading of the clock stands for all
//! packets of a burst. Packets need not come in the order of their times, and a time may be any number.

use tapline_packet::burst::{MAX_BURST, Selection};

/// The times of a burst's packets, in ns since the Unix epoch: one for each packet, or one for all.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    ns: &'a [u64],
    /// The last index of `ns`, which stands for all behind it.
    last: usize,
}

impl<'a> Times<'a> {
    /// All packets came at once, as far as is known.
    #[inline(always)]
    pub fn one(now_ns: &'a u64) -> Self {
        Self { ns: std::slice::from_ref(now_ns), last: 0 }
    }

    /// Each packet has its own.
    #[inline(always)]
    pub fn each(ns: &'a [u64; MAX_BURST]) -> Self {
        Self { ns, last: MAX_BURST - 1 }
    }

    /// The one time that stands for all packets, if there is one.
    #[inline(always)]
    pub fn shared(&self) -> Option<u64> {
        if self.last == 0 { self.ns.first().copied() } else { None }
    }

    /// The time of packet `index` (0..64).
    #[inline(always)]
    pub fn of(&self, index: usize) -> u64 {
        self.ns[index.min(self.last)]
    }

    /// The packets' own times; the one that stands for all where there is only that.
    #[inline(always)]
    pub fn own(&self) -> &'a [u64] {
        self.ns
    }

    /// The time of the selected packet that came last. 0 where none is selected.
    #[inline(always)]
    pub fn last_of(&self, selection: Selection) -> u64 {
        selection.bits().checked_ilog2().map_or(0, |index| self.of(index as usize))
    }
}

/// How old what was noted at `then` is at `now`, of something that is remembered for `window`; all in one unit.
///
/// Time does not go back: what is newer than a packet that comes late has no age. Where it is newer by more than the window one of
/// the two times is wild, and it has the age of what is over: one wild time ahead must not keep it for ever.
#[inline(always)]
pub fn age(now: u64, then: u64, window: u64) -> u64 {
    match now.checked_sub(then) {
        Some(age) => age,
        None if then - now > window => u64::MAX,
        None => 0,
    }
}

/// The time of a port's packets as the control thread reckons it: that of the latest packet, and from there on it goes on by the
/// poll clock.
#[derive(Clone, Default, Debug)]
pub struct PacketClock {
    /// For each worker: the number of times that it had noted at the last look.
    noted: Vec<u64>,
    latest_ns: u64,
    /// When the last packet was seen, by the poll clock.
    seen_ns: u64,
}

impl PacketClock {
    /// At `now_ns` of the poll clock a worker has noted times so often, and `packet_ns` last. Ages up to `window_ns` are asked for.
    pub fn look(&mut self, worker: usize, noted: u64, packet_ns: u64, now_ns: u64, window_ns: u64) {
        if worker >= self.noted.len() {
            self.noted.resize(worker + 1, 0);
        }
        if std::mem::replace(&mut self.noted[worker], noted) == noted {
            return;
        }
        self.seen_ns = now_ns;
        let is_a_little_late = packet_ns < self.latest_ns && age(packet_ns, self.latest_ns, window_ns) == 0;
        if !is_a_little_late {
            self.latest_ns = packet_ns;
        }
    }

    /// Gives the time that a packet would have which comes at `now_ns` of the poll clock.
    pub fn at(&self, now_ns: u64) -> u64 {
        self.latest_ns.saturating_add(now_ns.saturating_sub(self.seen_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In the year 2106, where 32 bits of seconds end.
    const WILD_NS: u64 = u32::MAX as u64 * 1_000_000_000;
    const START_NS: u64 = 1_700_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn one_time_stands_for_all_packets_and_else_each_has_its_own() {
        let own: [u64; MAX_BURST] = std::array::from_fn(|index| index as u64 * 10);
        let (one, each) = (Times::one(&7), Times::each(&own));
        assert_eq!((one.shared(), one.of(0), one.of(63)), (Some(7), 7, 7));
        assert_eq!((each.shared(), each.of(0), each.of(63)), (None, 0, 630));
        assert_eq!(
            (
                each.last_of(Selection::from_bits(0b1101)),
                one.last_of(Selection::from_bits(0b1101)),
                each.last_of(Selection::NONE)
            ),
            (30, 7, 0)
        );
    }

    proptest! {
        #[test]
        fn ages_do_not_go_back_and_what_is_newer_by_more_than_the_window_is_over(now: u64, then: u64, window: u64) {
            let difference = i128::from(now) - i128::from(then);
            let expected = match difference {
                0.. => now - then,
                late if late.unsigned_abs() > u128::from(window) => u64::MAX,
                _ => 0,
            };
            prop_assert_eq!(age(now, then, window), expected);
        }

        /// Packets in any order: the clock is never behind the latest by more than the window, and never ahead of what was noted and
        /// the time that went by since.
        #[test]
        fn a_packet_clock_follows_the_packets_and_goes_on_without_them(
            packets in prop::collection::vec((0usize..3, 0u64..40, 0u64..20, any::<bool>()), 1..100), window in 1u64..30,
        ) {
            let (mut clock, mut now, mut noted, mut latest) = (PacketClock::default(), START_NS, [0; 3], 0);
            for (worker, time, later, comes) in packets {
                now += later;
                if comes {
                    noted[worker] += 1;
                    latest = if time < latest && latest - time <= window { latest } else { time };
                }
                let seen = clock.seen_ns;
                clock.look(worker, noted[worker], time, now, window);
                prop_assert_eq!(clock.at(now), latest + if comes { 0 } else { now - seen });
                prop_assert_eq!(clock.at(now + 5), clock.at(now) + 5);
            }
        }
    }

    #[test]
    fn a_wild_time_ahead_does_not_stop_a_packet_clock() {
        let mut clock = PacketClock::default();
        clock.look(0, 1, START_NS, 10 * SECOND, 30 * SECOND);
        clock.look(0, 2, WILD_NS, 11 * SECOND, 30 * SECOND);
        assert_eq!(clock.at(11 * SECOND), WILD_NS);
        clock.look(1, 1, START_NS + 2 * SECOND, 12 * SECOND, 30 * SECOND);
        assert_eq!(clock.at(13 * SECOND), START_NS + 3 * SECOND);
        // the first worker has seen nothing since, and is not asked again
        clock.look(0, 2, WILD_NS, 14 * SECOND, 30 * SECOND);
        assert_eq!(clock.at(14 * SECOND), START_NS + 4 * SECOND);
        clock.look(1, 2, START_NS + SECOND, 15 * SECOND, 30 * SECOND);
        assert_eq!(
            clock.at(15 * SECOND),
            START_NS + 2 * SECOND,
            "a packet that is a second late does not set it back"
        );
    }

    #[test]
    fn packets_that_all_have_the_same_time_keep_it() {
        let mut clock = PacketClock::default();
        (1..100).for_each(|second| clock.look(0, second, START_NS, second * SECOND, 30 * SECOND));
        assert_eq!(clock.at(99 * SECOND), START_NS);
    }
}
