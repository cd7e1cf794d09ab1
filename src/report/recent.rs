//! Recent: what a snapshot says of the time since an earlier one, such as packets a second.
//!
//! Stands behind the snapshots, and makes all rates out of two of them: workers count nothing for it. What counts anew, such as an object
//! that was taken out of the plan and put back, is counted from zero.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::snapshot::lcore;
use tapline_api::snapshot::{
    GroupEntry, LcoreEntry, PortEntry, Recent, RecentTotals, Snapshot, ToolEntry, WayEntry,
};

/// A moment since which rates are counted: what was counted then, and which queue peaks had been taken.
#[derive(Clone, Default)]
pub struct Mark {
    pub snapshot: Option<Arc<Snapshot>>,
    pub peaks: u64,
}

/// The most that waited in a queue, as far as later peaks are lower: those of earlier times are forgotten once a higher one comes.
#[derive(Clone, Default)]
pub struct Peaks {
    /// The number of the look, which counts up, and the peak, which falls: no more of them than depths that the queue can have.
    looks: VecDeque<(u64, u64)>,
}

impl Peaks {
    /// Notes the most that waited between the look before and look `number`.
    pub fn note(&mut self, number: u64, peak: u64) {
        while self.looks.back().is_some_and(|&(_, known)| known <= peak) {
            self.looks.pop_back();
        }
        self.looks.push_back((number, peak));
    }

    /// Returns the most that waited after look `number`.
    pub fn since(&self, number: u64) -> u64 {
        let after = self.looks.partition_point(|&(look, _)| look <= number);
        self.looks.get(after).map_or(0, |&(_, peak)| peak)
    }
}

/// Entries of an earlier snapshot, asked for by name in about the same order.
struct Earlier<'a, T> {
    entries: &'a [(String, T)],
    next: usize,
    /// The places by name, once the order was another one.
    places: Option<HashMap<&'a str, usize>>,
}

impl<'a, T> Earlier<'a, T> {
    fn of(entries: Option<&'a [(String, T)]>) -> Self {
        Self { entries: entries.unwrap_or_default(), next: 0, places: None }
    }

    fn get(&mut self, name: &str) -> Option<&'a T> {
        if self.entries.get(self.next).is_none_or(|(known, _)| known != name) {
            let places = self.places.get_or_insert_with(|| {
                self.entries.iter().enumerate().map(|(place, (name, _))| (name.as_str(), place)).collect()
            });
            self.next = *places.get(name)?;
        }
        let (_, entry) = self.entries.get(self.next)?;
        self.next += 1;
        Some(entry)
    }
}

/// An interval of so many seconds.
#[derive(Clone, Copy)]
struct Interval(f64);

impl Interval {
    /// Returns how many a second came, with three decimals; what fell has begun anew.
    fn rate(self, now: u64, earlier: u64) -> f64 {
        if self.0 <= 0.0 {
            return 0.0;
        }
        let count = now.checked_sub(earlier).unwrap_or(now);
        (count as f64 / self.0 * 1e3).round() / 1e3
    }
}

/// Fills in what `now` says of the time since `earlier`, or since the start where there is none. Counters were last cleared `cleared_s`
/// after the start: nothing that was cleared is counted from before that. Peaks of queues are not filled in.
pub fn compare(now: &mut Snapshot, earlier: Option<&Snapshot>, cleared_s: f64) {
    let earlier_s = earlier.map_or(0.0, |earlier| earlier.uptime_s);
    let whole = Interval(now.uptime_s - earlier_s);
    // lcores are not cleared
    let mut lcores = Earlier::of(earlier.map(|earlier| earlier.lcores.0.as_slice()));
    for (name, lcore) in now.lcores.iter_mut() {
        compare_lcore(lcore, lcores.get(name), whole);
    }
    let is_cleared = cleared_s > earlier_s;
    let earlier = earlier.filter(|_| !is_cleared);
    let interval = if is_cleared { Interval(now.uptime_s - cleared_s) } else { whole };
    let mut ports = Earlier::of(earlier.map(|earlier| earlier.ports.0.as_slice()));
    for (name, port) in now.ports.iter_mut() {
        port.recent = of_port(port, ports.get(name), interval);
    }
    let mut rules = Earlier::of(earlier.map(|earlier| earlier.rules.0.as_slice()));
    for (name, rule) in now.rules.iter_mut() {
        let matched = rules.get(name).map_or(0, |rule| rule.matched);
        rule.recent = Recent { packets_per_s: interval.rate(rule.matched, matched), ..Recent::default() };
    }
    let mut tools = Earlier::of(earlier.map(|earlier| earlier.tools.0.as_slice()));
    for (name, tool) in now.tools.iter_mut() {
        tool.recent = of_tool(tool, tools.get(name), interval);
    }
    let mut wires = Earlier::of(earlier.map(|earlier| earlier.wires.0.as_slice()));
    for (name, wire) in now.wires.iter_mut() {
        let known = wires.get(name);
        wire.a_to_b.recent = of_way(&wire.a_to_b, known.map(|wire| &wire.a_to_b), interval);
        wire.b_to_a.recent = of_way(&wire.b_to_a, known.map(|wire| &wire.b_to_a), interval);
    }
    let mut groups = Earlier::of(earlier.map(|earlier| earlier.groups.0.as_slice()));
    for (name, group) in now.groups.iter_mut() {
        group.recent = of_group(group, groups.get(name), interval);
    }
    now.recent = of_all(now, earlier, interval);
}

fn compare_lcore(lcore: &mut LcoreEntry, earlier: Option<&LcoreEntry>, interval: Interval) {
    let (busy, total) = earlier.map_or((0, 0), |lcore| (lcore.busy_ns, lcore.total_ns));
    lcore.busy = lcore::share(lcore.busy_ns.saturating_sub(busy), lcore.total_ns.saturating_sub(total));
    let packets = |lcore: &LcoreEntry| lcore.received + lcore.from_rings;
    lcore.recent = Recent {
        packets_per_s: interval.rate(packets(lcore), earlier.map_or(0, packets)),
        bytes_per_s: Some(
            interval.rate(lcore.received_bytes, earlier.map_or(0, |lcore| lcore.received_bytes)),
        ),
        ..Recent::default()
    };
}

fn of_port(port: &PortEntry, earlier: Option<&PortEntry>, interval: Interval) -> Recent {
    let dropped = |port: &PortEntry| port.lost() + port.congested;
    Recent {
        packets_per_s: interval.rate(port.received, earlier.map_or(0, |port| port.received)),
        bytes_per_s: Some(
            interval.rate(port.received_bytes, earlier.map_or(0, |port| port.received_bytes)),
        ),
        drops_per_s: Some(interval.rate(dropped(port), earlier.map_or(0, dropped))),
        queue_peak: None,
    }
}

fn of_tool(tool: &ToolEntry, earlier: Option<&ToolEntry>, interval: Interval) -> Recent {
    let dropped = |tool: &ToolEntry| tool.copies.dropped.total();
    Recent {
        packets_per_s: interval.rate(tool.copies.sent, earlier.map_or(0, |tool| tool.copies.sent)),
        bytes_per_s: Some(interval.rate(tool.sent_bytes, earlier.map_or(0, |tool| tool.sent_bytes))),
        drops_per_s: Some(interval.rate(dropped(tool), earlier.map_or(0, dropped))),
        queue_peak: None,
    }
}

fn of_way(way: &WayEntry, earlier: Option<&WayEntry>, interval: Interval) -> Recent {
    let dropped = |way: &WayEntry| way.dropped.total();
    Recent {
        packets_per_s: interval.rate(way.forwarded, earlier.map_or(0, |way| way.forwarded)),
        bytes_per_s: Some(interval.rate(way.forwarded_bytes, earlier.map_or(0, |way| way.forwarded_bytes))),
        drops_per_s: Some(interval.rate(dropped(way), earlier.map_or(0, dropped))),
        queue_peak: None,
    }
}

fn of_group(group: &GroupEntry, earlier: Option<&GroupEntry>, interval: Interval) -> Recent {
    let dropped = |group: &GroupEntry| group.unassigned.dropped.total();
    Recent {
        packets_per_s: interval.rate(group.requested, earlier.map_or(0, |group| group.requested)),
        drops_per_s: Some(interval.rate(dropped(group), earlier.map_or(0, dropped))),
        ..Recent::default()
    }
}

/// Adds up the rates of what there is, so that an object that left is missing in both.
fn of_all(now: &Snapshot, earlier: Option<&Snapshot>, interval: Interval) -> RecentTotals {
    let count = |get: &dyn Fn(&Snapshot) -> u64| interval.rate(get(now), earlier.map_or(0, get));
    let mut ports = Earlier::of(earlier.map(|earlier| earlier.ports.0.as_slice()));
    let lost = now
        .ports
        .iter()
        .map(|(name, port)| interval.rate(port.lost(), ports.get(name).map_or(0, PortEntry::lost)));
    RecentTotals {
        interval_s: (interval.0.max(0.0) * 1e6).round() / 1e6,
        packets_per_s: count(&|snapshot| snapshot.packets.received),
        bytes_per_s: now.ports.iter().filter_map(|(_, port)| port.recent.bytes_per_s).sum(),
        lost_per_s: lost.sum(),
        copies_per_s: count(&|snapshot| snapshot.copies.sent),
        drops_per_s: count(&|snapshot| snapshot.copies.dropped.total()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_peak_since_a_look_is_the_greatest_of_all_later_ones(peaks in prop::collection::vec(0u64..20, 1..60)) {
            let mut kept = Peaks::default();
            for (look, &peak) in peaks.iter().enumerate() {
                kept.note(look as u64 + 1, peak);
                prop_assert!(kept.looks.len() <= 20);
                for since in 0..=look + 1 {
                    let greatest = peaks[since.min(look + 1)..=look].iter().max().copied().unwrap_or(0);
                    prop_assert_eq!(kept.since(since as u64), greatest);
                }
            }
        }

        #[test]
        fn earlier_entries_are_found_whatever_came_and_went(before in prop::collection::hash_set(0u32..30, 0..20), now in prop::collection::vec(0u32..30, 0..20)) {
            let entries: Vec<(String, u32)> = before.iter().map(|&name| (name.to_string(), name)).collect();
            let mut earlier = Earlier::of(Some(&entries));
            for name in now {
                prop_assert_eq!(earlier.get(&name.to_string()).copied(), before.contains(&name).then_some(name));
            }
        }
    }

    #[test]
    fn what_fell_has_begun_anew_and_no_time_has_no_rate() {
        assert_eq!(Interval(2.0).rate(30, 10), 10.0);
        assert_eq!(Interval(2.0).rate(10, 30), 5.0);
        assert_eq!(Interval(0.0).rate(30, 10), 0.0);
        assert_eq!(Interval(3.0).rate(1, 0), 0.333);
    }
}
