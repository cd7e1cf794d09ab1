//! Every family, in the order of the text.

/// The broker as a whole.
mod broker;
/// Workers, and wires.
mod lcores;
/// Ports.
mod ports;
/// Rules.
mod rules;
/// Tools and groups.
mod tools;

use super::{Family, Kind, Number, Samples};
use tapline_api::snapshot::Dropped;

/// Lists every family.
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    let all = [broker::FAMILIES, ports::FAMILIES, rules::FAMILIES, tools::FAMILIES, lcores::FAMILIES];
    all.into_iter().flatten().chain([&broker::LEFT_OUT])
}

pub(super) const fn counter(
    name: &'static str,
    fields: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Family {
    Family { name, kind: Kind::Counter, help, fields, samples }
}

pub(super) const fn gauge(
    name: &'static str,
    fields: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Family {
    Family { name, kind: Kind::Gauge, help, fields, samples }
}

/// A number that is always there.
#[expect(clippy::unnecessary_wraps, reason = "all rows of the table have one shape")]
pub(super) fn some(value: impl Into<Number>) -> Option<Number> {
    Some(value.into())
}

pub(super) fn seconds(ns: u64) -> Number {
    Number::Real(ns as f64 / 1e9)
}

/// Receives the series of a family.
pub(super) type Put<'a> = &'a mut dyn FnMut(&[&str], Number);

pub(super) fn dropped(dropped: &Dropped, mut put: impl FnMut(&str, Number)) {
    dropped.by_reason().for_each(|(word, count)| put(word, count.into()));
}

/// Numbers of `tapline.stats/1` that have no metric, and why.
#[cfg(test)]
pub(super) const WITHOUT: &[(&str, &str)] = &[
    ("ports.*.clock.offset_ns", "it is of no use without the counter behind it"),
    ("ports.*.clock.ns_per_tick", "it is of no use without the counter behind it"),
    ("ports.*.terminate.sessions.session", "it names a session: their number has no bound"),
    ("dedup.*.pairs.duplicates", "pairs grow with the square of the ports"),
    ("dedup.*.pairs.most_gap_ns", "pairs grow with the square of the ports"),
    ("dedup.*.pairs.gaps", "pairs grow with the square of the ports"),
    ("tools.*.latency_ns.p50", "the histogram has it"),
    ("tools.*.latency_ns.p99", "the histogram has it"),
    ("tools.*.latency_ns.p999", "the histogram has it"),
    ("tools.*.latency_ns.max", "the histogram has it, to its bounds"),
    ("wires.*.*.latency_ns.p50", "the histogram has it"),
    ("wires.*.*.latency_ns.p99", "the histogram has it"),
    ("wires.*.*.latency_ns.p999", "the histogram has it"),
    ("wires.*.*.latency_ns.max", "the histogram has it, to its bounds"),
    ("latency_ns.p50", "the histograms of all tools have it"),
    ("latency_ns.p99", "the histograms of all tools have it"),
    ("latency_ns.p999", "the histograms of all tools have it"),
    ("latency_ns.max", "the histograms of all tools have it, to their bounds"),
    ("latency_ns.samples", "it is the sum of the histograms' counts"),
    ("recent.interval_s", "rates are what Prometheus makes of counters"),
    ("recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("recent.bytes_per_s", "rates are what Prometheus makes of counters"),
    ("recent.lost_per_s", "rates are what Prometheus makes of counters"),
    ("recent.copies_per_s", "rates are what Prometheus makes of counters"),
    ("recent.drops_per_s", "rates are what Prometheus makes of counters"),
    ("ports.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("ports.*.recent.bytes_per_s", "rates are what Prometheus makes of counters"),
    ("ports.*.recent.drops_per_s", "rates are what Prometheus makes of counters"),
    ("rules.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("tools.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("tools.*.recent.bytes_per_s", "rates are what Prometheus makes of counters"),
    ("tools.*.recent.drops_per_s", "rates are what Prometheus makes of counters"),
    ("wires.*.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("wires.*.*.recent.bytes_per_s", "rates are what Prometheus makes of counters"),
    ("wires.*.*.recent.drops_per_s", "rates are what Prometheus makes of counters"),
    ("groups.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("groups.*.recent.drops_per_s", "rates are what Prometheus makes of counters"),
    ("lcores.*.recent.packets_per_s", "rates are what Prometheus makes of counters"),
    ("lcores.*.recent.bytes_per_s", "rates are what Prometheus makes of counters"),
    ("tools.*.recent.queue_peak", "the interval is not that of the scrapes"),
    ("wires.*.*.recent.queue_peak", "the interval is not that of the scrapes"),
    ("lcores.*.busy", "the counters of busy time and of all time have it"),
    ("events.time", "events are no metric; the log and `get events` have them"),
];
