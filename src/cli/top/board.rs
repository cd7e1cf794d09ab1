//! Holds what is known of a broker: its last two snapshots, what they say a second, and the way here.
//!
//! Rates are what was counted between two snapshots, by the broker's own clock. A broker that began anew has none until its second snapshot.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::plan::PlanText;
use super::table::{Cell, Table};
use super::verdict::{Loss, Memory};
use tapline_api::snapshot::{Copies, Dropped, Snapshot};
use tapline_api::words::DropReason;

/// Rates of the past that are kept of each object: as many as a screen is wide.
const PAST: usize = 64;
/// The most objects whose past is kept: that of 10,000 rules would be megabytes.
const MOST_PASTS: usize = 512;
/// Events that are kept.
const MOST_EVENTS: usize = 1024;

/// An event: its time, its level and its text.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) time: f64,
    pub(super) level: String,
    pub(super) text: String,
}

/// The kinds of objects that have a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Port,
    Tool,
    Group,
    Rule,
    Wire,
    Lcore,
}

/// The last two snapshots of one broker.
pub(super) struct Interval {
    before: Option<Snapshot>,
    pub(super) now: Snapshot,
    /// Between the two.
    pub(super) seconds: f64,
}

impl Interval {
    fn new(before: Option<Snapshot>, now: Snapshot) -> Self {
        // an uptime that went back is another broker's
        let before = before.filter(|before| before.uptime_s < now.uptime_s);
        let seconds = before.as_ref().map_or(0.0, |before| now.uptime_s - before.uptime_s);
        Self { before, now, seconds }
    }

    pub(super) fn before(&self) -> Option<&Snapshot> {
        self.before.as_ref()
    }

    /// Returns what was counted a second. What went back was cleared in between, and counts from zero.
    pub(super) fn rate(&self, count: impl Fn(&Snapshot) -> Option<u64>) -> Option<f64> {
        Some(self.counted(count)? as f64 / self.seconds)
    }

    /// Returns what was counted in the interval; `None` without two snapshots. An object that came in between counts from zero.
    pub(super) fn counted(&self, count: impl Fn(&Snapshot) -> Option<u64>) -> Option<u64> {
        let before = count(self.before.as_ref()?).unwrap_or(0);
        let now = count(&self.now)?;
        Some(now.checked_sub(before).unwrap_or(now))
    }

    /// Returns a rate of two counts of an object that was found in both snapshots.
    pub(super) fn rate_between(&self, before: Option<u64>, now: u64) -> Option<f64> {
        self.before.as_ref()?;
        let before = before.unwrap_or(0);
        Some(now.checked_sub(before).unwrap_or(now) as f64 / self.seconds)
    }

    /// Returns the reasons for which copies were dropped in the interval, and how many.
    pub(super) fn dropped(&self, copies: impl Fn(&Snapshot) -> Option<Dropped>) -> Vec<(DropReason, u64)> {
        let counted =
            |reason: DropReason| self.counted(|snapshot| Some(copies(snapshot)?.get(reason))).unwrap_or(0);
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, counted(reason)))
            .filter(|&(_, count)| count > 0)
            .collect()
    }
}

/// All that is shown.
pub(super) struct Board {
    /// The broker's name, or the file that is replayed.
    pub(super) name: String,
    pub(super) plan: PlanText,
    interval: Option<Interval>,
    past: BTreeMap<(Kind, String), VecDeque<f64>>,
    pub(super) memory: Memory,
    events: VecDeque<Told>,
    /// The highest number of each cell, by table, row and column.
    peaks: BTreeMap<(Kind, String, String), f64>,
    /// The time of the first snapshot.
    pub(super) since: f64,
}

impl Board {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            plan: PlanText::default(),
            interval: None,
            past: BTreeMap::new(),
            memory: Memory::default(),
            events: VecDeque::new(),
            peaks: BTreeMap::new(),
            since: 0.0,
        }
    }

    pub(super) fn interval(&self) -> Option<&Interval> {
        self.interval.as_ref()
    }

    /// Takes the next snapshot.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        let before = self.interval.take().map(|interval| interval.now);
        if before.as_ref().is_none_or(|before| before.uptime_s >= snapshot.uptime_s) {
            // the broker before has nothing to do with this one
            (self.past, self.memory, self.peaks) = Default::default();
            self.since = snapshot.time;
        }
        let interval = Interval::new(before, snapshot);
        self.memory.note(&interval);
        self.note_past(&interval);
        self.interval = Some(interval);
    }

    fn note_past(&mut self, interval: &Interval) {
        let now = &interval.now;
        let ports = now.ports.iter().map(|(name, _)| {
            (Kind::Port, name, interval.rate(|snapshot| Some(snapshot.ports.get(name)?.received)))
        });
        let tools = now.tools.iter().map(|(name, _)| {
            (Kind::Tool, name, interval.rate(|snapshot| Some(snapshot.tools.get(name)?.copies.sent)))
        });
        for (kind, name, rate) in ports.chain(tools) {
            let Some(rate) = rate else { continue };
            let key = (kind, name.clone());
            if self.past.len() >= MOST_PASTS && !self.past.contains_key(&key) {
                continue;
            }
            let past = self.past.entry(key).or_default();
            past.push_back(rate);
            if past.len() > PAST {
                past.pop_front();
            }
        }
        self.past.retain(|(kind, name), _| match kind {
            Kind::Port => now.ports.get(name).is_some(),
            _ => now.tools.get(name).is_some(),
        });
    }

    pub(super) fn past(&self, kind: Kind, name: &str) -> Vec<f64> {
        self.past
            .get(&(kind, name.to_owned()))
            .map(|past| past.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Keeps the highest numbers of a table.
    pub(super) fn note_peaks(&mut self, kind: Kind, table: &Table) {
        for row in &table.rows {
            for (column, cell) in table.columns.iter().zip(&row.cells).skip(1) {
                let Some(number) = cell.number() else { continue };
                let most = self.peaks.entry((kind, row.key(), column.head.clone())).or_insert(number);
                *most = most.max(number);
            }
        }
    }

    /// Puts the highest numbers in the place of the present ones.
    pub(super) fn raise_to_peaks(&self, kind: Kind, table: &mut Table) {
        for row in &mut table.rows {
            let key = row.key();
            for (column, cell) in table.columns.iter().zip(&mut row.cells).skip(1) {
                if let Some(&most) = self.peaks.get(&(kind, key.clone(), column.head.clone())) {
                    *cell = cell.with_number(most);
                }
            }
        }
    }

    /// Takes an event as the socket gives it.
    pub(super) fn take_event(&mut self, event: &Value) {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let told = match event["lost"].as_u64() {
            Some(lost) => Told {
                time: self.interval.as_ref().map_or(0.0, |interval| interval.now.time),
                level: "warning".to_owned(),
                text: format!("{lost} events were lost: they came faster than they were read"),
            },
            None => Told {
                time: event["time"].as_f64().unwrap_or_default(),
                level: word("level"),
                text: word("text"),
            },
        };
        self.events.push_back(told);
        if self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }

    /// Returns what happened, the latest first: the broker's events, or the changes that the snapshot has.
    pub(super) fn events(&self) -> Vec<Told> {
        if !self.events.is_empty() {
            return self.events.iter().rev().cloned().collect();
        }
        let changes = self.interval.iter().flat_map(|interval| interval.now.events.iter().rev());
        changes
            .map(|entry| {
                use tapline_api::snapshot::Change;
                let text = match &entry.change {
                    Change::Tool { tool, from, to, reason } => {
                        format!("tool {tool}: {from} -> {to}, {reason}")
                    }
                    Change::Port { port, from, to } => format!("port {port}: {from} -> {to}"),
                };
                Told { time: entry.time, level: String::new(), text }
            })
            .collect()
    }

    /// Returns what is lost now, the most first.
    pub(super) fn losses(&self) -> Vec<Loss> {
        self.interval.as_ref().map(|interval| self.memory.losses(interval, &self.plan)).unwrap_or_default()
    }
}

/// Returns the words of reasons with their rates, the worst first: `137 k congested`.
pub(super) fn loss_cell(interval: &Interval, copies: impl Fn(&Snapshot) -> Option<Copies>) -> Cell {
    let mut reasons = interval.dropped(|snapshot| Some(copies(snapshot)?.dropped));
    reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let total: u64 = reasons.iter().map(|&(_, count)| count).sum();
    let words: Vec<&str> = reasons.iter().map(|(reason, _)| reason.word()).collect();
    let rate = if total == 0 { 0.0 } else { total as f64 / interval.seconds };
    Cell::Loss(rate, words.join(", "))
}
