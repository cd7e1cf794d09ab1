//! The recent past: 15 minutes by second and 24 hours by minute, of ports, tools, groups and totals, in fixed memory.
//!
//! Counts become rates, which are the mean of a step. A step in which nothing was published has no value.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::json;

use crate::broker::Counted;
use tapline_api::snapshot::Snapshot;
use tapline_datapath::counters::latency::{BOUNDS_NS, Spread};

/// Objects that have a history.
const MOST_OBJECTS: usize = 512;
/// Values of an object at most.
const MOST_VALUES: usize = 9;

/// How far back, and in which steps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
pub(super) enum Span {
    #[default]
    #[serde(rename = "15m")]
    Quarter,
    #[serde(rename = "24h")]
    Day,
}

impl Span {
    const ALL: [Self; 2] = [Self::Quarter, Self::Day];

    const fn step_s(self) -> u64 {
        match self {
            Self::Quarter => 1,
            Self::Day => 60,
        }
    }

    const fn steps(self) -> usize {
        match self {
            Self::Quarter => 15 * 60,
            Self::Day => 24 * 60,
        }
    }
}

/// The kinds of objects, in the order of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Totals,
    Port,
    Tool,
    Group,
}

impl Kind {
    /// The names of the values; those of [`GAUGES`](Self::gauges) stand last.
    const fn values(self) -> &'static [&'static str] {
        match self {
            Self::Totals => &[
                "received",
                "received_bytes",
                "delivered",
                "lost",
                "requested",
                "sent",
                "sent_bytes",
                "dropped",
            ],
            Self::Port => &["received", "received_bytes", "lost"],
            Self::Tool => &["requested", "sent", "sent_bytes", "dropped", "queue_depth", "latency_p99_ns"],
            Self::Group => &["requested", "assigned", "unassigned"],
        }
    }

    /// How many of the values are no counts.
    const fn gauges(self) -> usize {
        match self {
            Self::Tool => 2,
            Self::Totals | Self::Port | Self::Group => 0,
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Totals => "totals",
            Self::Port => "ports",
            Self::Tool => "tools",
            Self::Group => "groups",
        }
    }
}

/// The counts of an object at one moment.
#[derive(Clone, Copy, Default)]
struct Reading {
    counts: [u64; MOST_VALUES],
    queue_depth: u64,
    latency: Spread,
}

/// The values of an object in the steps of one span.
struct Ring {
    /// Step after step, the values of one beside each other.
    values: Box<[f32]>,
    /// The counts at the end of the step before the last, and their time.
    base: Option<(f64, Reading)>,
}

struct Object {
    kind: Kind,
    name: String,
    rings: [Ring; 2],
    /// The last counts, and their time.
    last: (f64, Reading),
}

/// The history of a broker.
#[derive(Default)]
pub(super) struct History {
    objects: Vec<Object>,
    /// The number of the last step of each span, and of the first; none before the first snapshot.
    steps: Option<[(u64, u64); 2]>,
    left_out: usize,
}

impl History {
    /// Notes a snapshot.
    pub(super) fn note(&mut self, counted: &Counted) {
        let stats = counted.since_start.as_ref().unwrap_or(&counted.stats);
        let time = stats.time.max(0.0);
        self.step_to(time);
        self.left_out = 0;
        self.note_object(time, Kind::Totals, "", totals(stats));
        for (name, port) in &stats.ports {
            let driver = &port.driver;
            let lost = driver.missed + driver.no_mbuf + driver.rx_errors + port.cut.unwrap_or(0);
            self.note_object(
                time,
                Kind::Port,
                name,
                of_counts(&[port.received, port.received_bytes, lost]),
            );
        }
        for ((name, tool), &latency) in stats.tools.iter().zip(&counted.tools) {
            let copies = &tool.copies;
            let counts = [copies.requested, copies.sent, tool.sent_bytes, copies.dropped.total()];
            let reading = Reading { queue_depth: tool.queue_depth, latency, ..of_counts(&counts) };
            self.note_object(time, Kind::Tool, name, reading);
        }
        for (name, group) in &stats.groups {
            let counts = [group.requested, group.assigned, group.unassigned.requested];
            self.note_object(time, Kind::Group, name, of_counts(&counts));
        }
    }

    /// Begins the step of a moment: those since the last one have no values yet.
    fn step_to(&mut self, time: f64) {
        let now = Span::ALL.map(|span| time as u64 / span.step_s());
        let Some(steps) = &mut self.steps else {
            self.steps = Some(now.map(|step| (step, step)));
            return;
        };
        for ((span, (last, _)), now) in Span::ALL.into_iter().zip(steps.iter_mut()).zip(now) {
            // a clock that is set back goes on with the step that it was in
            if now <= *last {
                continue;
            }
            let fresh = (now - *last).min(span.steps() as u64);
            for object in &mut self.objects {
                let ring = &mut object.rings[span as usize];
                ring.base = Some(object.last);
                for step in now + 1 - fresh..=now {
                    ring.step(object.kind, span, step).fill(f32::NAN);
                }
            }
            *last = now;
        }
    }

    fn note_object(&mut self, time: f64, kind: Kind, name: &str, reading: Reading) {
        let Some(steps) = self.steps else { return };
        let known = self.objects.iter().position(|object| object.kind == kind && object.name == name);
        let place = match known {
            Some(place) => place,
            None => match self.room(time) {
                Some(place) => {
                    let object = Object::new(kind, name, time, reading);
                    if place == self.objects.len() {
                        self.objects.push(object);
                    } else {
                        self.objects[place] = object;
                    }
                    place
                }
                None => {
                    self.left_out += 1;
                    return;
                }
            },
        };
        let object = &mut self.objects[place];
        object.last = (time, reading);
        for (span, (step, _)) in Span::ALL.into_iter().zip(steps) {
            object.rings[span as usize].note(kind, span, step, (time, &reading));
        }
    }

    /// Finds a place for another object: a free one, or that of one that has been gone for longer than a day.
    fn room(&self, time: f64) -> Option<usize> {
        if self.objects.len() < MOST_OBJECTS {
            return Some(self.objects.len());
        }
        self.objects.iter().position(|object| object.last.0 + 86_400.0 < time)
    }

    /// Says a span as JSON (`tapline.history/1`).
    pub(super) fn json(&self, span: Span, broker: &str, seq: u64) -> String {
        let (last, first) = self.steps.map_or((0, 0), |steps| steps[span as usize]);
        let begin = first.max((last + 1).saturating_sub(span.steps() as u64));
        let step = span.step_s();
        let mut out = format!(
            "{{\"schema\":\"tapline.history/1\",\"broker\":{},\"seq\":{seq},\"step\":{step},\"from\":{},\"count\":{}",
            json!(broker),
            begin * step,
            last + 1 - begin
        );
        for kind in [Kind::Totals, Kind::Port, Kind::Tool, Kind::Group] {
            let of_kind = self.objects.iter().filter(|object| object.kind == kind);
            let objects: Vec<String> = of_kind
                .map(|object| {
                    let values = object.json(span, begin..=last);
                    if kind == Kind::Totals { values } else { format!("{}:{values}", json!(object.name)) }
                })
                .collect();
            let objects = objects.join(",");
            // a string takes everything
            let _ = match (kind, objects.is_empty()) {
                (Kind::Totals, false) => write!(out, ",\"totals\":{objects}"),
                _ => write!(out, ",\"{}\":{{{objects}}}", kind.plural()),
            };
        }
        let _ = write!(out, ",\"left_out\":{}}}", self.left_out);
        out
    }
}

impl Object {
    fn new(kind: Kind, name: &str, time: f64, reading: Reading) -> Self {
        let rings = Span::ALL.map(|span| Ring {
            values: vec![f32::NAN; span.steps() * kind.values().len()].into(),
            base: None,
        });
        Self { kind, name: name.to_owned(), rings, last: (time, reading) }
    }

    fn json(&self, span: Span, steps: std::ops::RangeInclusive<u64>) -> String {
        let names = self.kind.values();
        let lists = names.iter().enumerate().map(|(value, name)| {
            let of_step = |step: u64| {
                let place = (step % span.steps() as u64) as usize * names.len() + value;
                match self.rings[span as usize].values[place] {
                    number if number.is_nan() => "null".to_owned(),
                    number => ((f64::from(number) * 1000.0).round() / 1000.0).to_string(),
                }
            };
            let list: Vec<String> = steps.clone().map(of_step).collect();
            format!("\"{name}\":[{}]", list.join(","))
        });
        format!("{{{}}}", lists.collect::<Vec<_>>().join(","))
    }
}

impl Ring {
    /// The values of a step.
    fn step(&mut self, kind: Kind, span: Span, step: u64) -> &mut [f32] {
        let (width, place) = (kind.values().len(), (step % span.steps() as u64) as usize);
        &mut self.values[place * width..][..width]
    }

    /// Notes what was counted by a moment of the last step.
    fn note(&mut self, kind: Kind, span: Span, step: u64, at: (f64, &Reading)) {
        let (time, reading) = at;
        let Some((begun, before)) = &self.base else {
            // of the step in which an object is first seen nothing is known
            self.base = Some((time, *reading));
            return;
        };
        let (seconds, before) = (time - begun, *before);
        if seconds <= 0.0 {
            return;
        }
        let values = self.step(kind, span, step);
        let counts = values.len() - kind.gauges();
        for (value, (now, before)) in
            values[..counts].iter_mut().zip(reading.counts.into_iter().zip(before.counts))
        {
            *value = (now.saturating_sub(before) as f64 / seconds) as f32;
        }
        if let [queue_depth, latency] = &mut values[counts..] {
            *queue_depth = queue_depth.max(reading.queue_depth as f32);
            *latency = p99_between(&before.latency, &reading.latency).map_or(f32::NAN, |ns| ns as f32);
        }
    }
}

fn of_counts(counts: &[u64]) -> Reading {
    let mut reading = Reading::default();
    reading.counts[..counts.len()].copy_from_slice(counts);
    reading
}

fn totals(stats: &Snapshot) -> Reading {
    let ports = || stats.ports.iter().map(|(_, port)| port);
    let lost = |port: &tapline_api::snapshot::PortEntry| {
        port.driver.missed + port.driver.no_mbuf + port.driver.rx_errors + port.cut.unwrap_or(0)
    };
    of_counts(&[
        stats.packets.received,
        ports().map(|port| port.received_bytes).sum(),
        stats.packets.delivered,
        ports().map(lost).sum(),
        stats.copies.requested,
        stats.copies.sent,
        stats.tools.iter().map(|(_, tool)| tool.sent_bytes).sum(),
        stats.copies.dropped.total(),
    ])
}

/// The 99th percentile of what was measured between two readings, in ns, as `histogram_quantile` of Prometheus has it; `None` where nothing
/// was.
fn p99_between(before: &Spread, now: &Spread) -> Option<f64> {
    let count = now.count.checked_sub(before.count).filter(|&count| count > 0)?;
    let wanted = count as f64 * 0.99;
    let up_to = |bound: usize| now.up_to[bound].saturating_sub(before.up_to[bound]) as f64;
    let Some(bound) = (0..BOUNDS_NS.len()).find(|&bound| up_to(bound) >= wanted) else {
        // above the last bound no more is known
        return BOUNDS_NS.last().map(|&last| last as f64);
    };
    let (below, from) =
        if bound == 0 { (0.0, 0.0) } else { (up_to(bound - 1), BOUNDS_NS[bound - 1] as f64) };
    let width = BOUNDS_NS[bound] as f64 - from;
    Some(from + width * (wanted - below) / (up_to(bound) - below).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Notes the totals of a moment: packets received by then.
    fn note(history: &mut History, time: f64, received: u64) {
        history.step_to(time);
        history.note_object(time, Kind::Totals, "", of_counts(&[received]));
    }

    fn received(history: &History, span: Span) -> (u64, Vec<Option<f64>>) {
        let value: Value = serde_json::from_str(&history.json(span, "b", 1)).expect("JSON");
        let list = value["totals"]["received"].as_array().expect("a list");
        assert_eq!(value["count"], list.len());
        (value["from"].as_u64().expect("a time"), list.iter().map(Value::as_f64).collect())
    }

    #[test]
    fn counts_become_rates_of_their_steps() {
        let mut history = History::default();
        for (time, count) in [(1000.0, 5), (1001.0, 105), (1002.5, 405), (1002.75, 505), (1006.75, 905)] {
            note(&mut history, time, count);
        }
        // within a step the mean is that since the end of the step before; a step without a snapshot has none
        let rates = vec![None, Some(100.0), Some(228.571), None, None, None, Some(100.0)];
        assert_eq!(received(&history, Span::Quarter), (1000, rates));
        assert_eq!(received(&history, Span::Day), (960, vec![Some(133.333)]));
    }

    #[test]
    fn memory_is_fixed_and_the_past_ends() {
        let mut history = History::default();
        for second in 0..2000u64 {
            note(&mut history, 50_000.0 + second as f64, second * 7);
        }
        let (from, list) = received(&history, Span::Quarter);
        assert_eq!((from, list.len()), (51_100, 900));
        assert!(list.iter().all(|rate| *rate == Some(7.0)));
        let before: usize = history.objects[0].rings.iter().map(|ring| ring.values.len()).sum();
        assert_eq!(before, (900 + 1440) * 8);
        // a day in which the process slept is no rate of today
        note(&mut history, 200_000.0, 14_000);
        let (from, list) = received(&history, Span::Quarter);
        assert_eq!((from, list.iter().flatten().count()), (199_101, 1));
        // a clock that is set back is borne
        note(&mut history, 100.0, 14_000);
        assert_eq!(received(&history, Span::Quarter).1.len(), 900);
        note(&mut history, 200_001.0, 14_000);
        for name in 0..MOST_OBJECTS + 3 {
            history.note_object(200_001.0, Kind::Port, &name.to_string(), Reading::default());
        }
        assert_eq!((history.objects.len(), history.left_out), (MOST_OBJECTS, 4));
    }

    #[test]
    fn the_percentile_is_that_of_the_step() {
        let spread = |counts: &[(usize, u64)]| {
            let mut spread = Spread::default();
            for &(bound, count) in counts {
                spread.up_to[bound..].iter_mut().for_each(|up_to| *up_to += count);
                spread.count += count;
            }
            spread
        };
        let before = spread(&[(0, 1000)]);
        assert_eq!(p99_between(&before, &before), None);
        // 100 values between 500 ns and 1 µs: 99 of them are below 995 ns, were they spread evenly
        assert_eq!(p99_between(&before, &spread(&[(0, 1000), (3, 100)])), Some(995.0));
        let mut beyond = before;
        beyond.count += 5;
        assert_eq!(p99_between(&before, &beyond), Some(1e9));
    }
}
