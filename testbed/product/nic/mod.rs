//! The product on a simulated NIC (`simnic`): what a NIC says of packets, and what it is asked to do.
//!
//! The simulated NIC knows the true time of each of its stamps.

use serde_json::Value;
use tapline_harness::bench::Prompt;
use tapline_harness::simnic::Arrived;

/// Counters that wrap, step, wander and cannot be read, and stamps that are not there.
mod clocks;
/// Each format of times, by tshark.
mod formats;
/// RSS hashes, and tags that the NIC took off.
mod packets;
/// UDP checksums that are left to the NIC, chains that it does not take, and a NIC that refuses.
mod transmit;

/// The device whose packets the simulated NIC makes.
const NIC: &str = "net_null0";

/// The state of the NIC's clock in a line of statistics.
fn clock(stats: &Value) -> &Value {
    &stats["ports"]["nic0"]["clock"]
}

fn is_fitted(stats: &Value) -> bool {
    clock(stats)["degraded"] == false && clock(stats)["readings"].as_u64() > Some(8)
}

fn received(stats: &Value) -> u64 {
    stats["packets"]["received"].as_u64().expect("a number")
}

/// Waits until so many packets have been received and settled.
fn wait_for(prompt: &mut Prompt<'_>, count: usize) -> Value {
    prompt.wait("the packets come", |stats| received(stats) == count as u64)
}

/// The state of the clock over time, as the statistics said it.
struct Said {
    /// The time of each line in nanoseconds since the epoch, whether stamps were marked, and the error bound.
    lines: Vec<(u64, bool, Option<u64>)>,
    /// The most nanoseconds that a tick had.
    tick_ns: u64,
}

/// A line of statistics shows what workers have gone by for a moment, or will.
const SLACK_NS: u64 = 300_000_000;

impl Said {
    fn new(lines: &[Value]) -> Self {
        let ns = |line: &Value| (line["time"].as_f64().expect("a time") * 1e9) as u64;
        let of = |line: &Value| {
            let clock = clock(line);
            let is_degraded = clock["degraded"].as_bool().expect("a word");
            (ns(line), is_degraded, clock["error_ns"].as_u64())
        };
        let tick_ns =
            lines.iter().filter_map(|line| clock(line)["ns_per_tick"].as_f64()).fold(1.0, f64::max);
        Self { lines: lines.iter().map(of).collect(), tick_ns: tick_ns.ceil() as u64 }
    }

    /// The lines about a time, and at least the next one after it.
    fn about(&self, at_ns: u64) -> impl Iterator<Item = &(u64, bool, Option<u64>)> {
        let next = self.lines.iter().find(|(ns, ..)| *ns > at_ns);
        next.into_iter().chain(self.lines.iter().filter(move |(ns, ..)| ns.abs_diff(at_ns) <= SLACK_NS))
    }

    /// Gives whether stamps of this time have to be marked as degraded; `None` where that changed about then.
    fn is_degraded(&self, at_ns: u64) -> Option<bool> {
        let mut about = self.about(at_ns);
        let first = about.next().expect("statistics of about then").1;
        about.all(|(_, is_degraded, _)| *is_degraded == first).then_some(first)
    }

    /// Gives how far a time that is not marked may be from the true one, in nanoseconds.
    fn bound_ns(&self, at_ns: u64) -> u64 {
        let most = self.about(at_ns).filter_map(|(.., error_ns)| *error_ns).max().expect("a bound");
        most + self.tick_ns
    }
}

/// A time that a copy carries.
#[derive(Clone, Copy, Debug)]
struct Carried {
    number: usize,
    ns: u64,
    /// Marked as degraded, in formats that can say so.
    is_degraded: Option<bool>,
}

/// Demands that every frame that arrived has a copy with a time, marked if and only if the statistics say so, and otherwise within
/// the bound that they state. Gives how many copies were marked.
fn assert_true(what: &str, arrived: &[Arrived], carried: &[Carried], said: &Said) -> usize {
    assert_eq!(carried.len(), arrived.len(), "{what}: copies");
    let mut marked = 0;
    for copy in carried {
        let frame = arrived[copy.number];
        assert_eq!(frame.number, copy.number);
        let expected = if frame.is_stamped { said.is_degraded(frame.true_ns) } else { Some(true) };
        if let (Some(expected), Some(is_degraded)) = (expected, copy.is_degraded) {
            assert_eq!(is_degraded, expected, "{what}: frame {} is marked as degraded", copy.number);
        }
        if copy.is_degraded.or(expected) == Some(false) {
            let error_ns = copy.ns.abs_diff(frame.true_ns);
            let bound_ns = said.bound_ns(frame.true_ns);
            assert!(
                error_ns <= bound_ns,
                "{what}: frame {} is {error_ns} ns off, bound {bound_ns}",
                copy.number
            );
        }
        marked += usize::from(copy.is_degraded == Some(true));
    }
    marked
}
