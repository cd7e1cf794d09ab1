//! Metrics: each number of the statistics by the name that Prometheus has for it, as text.
//!
//! One table describes all families; the encoder, the reference page and the tests go by it. Counters are those from the start on:
//! `clear stats` does not touch them.
//! # Source
//! Prometheus: Exposition formats, text format version 0.0.4; OpenMetrics 1.0.0.

/// Texts out of families.
mod encode;
/// The process, as the kernel knows it.
mod process;
/// Every family.
mod table;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::connection::MOST_CONNECTIONS;
use super::routes::Front;
use crate::control::published::Published;
use encode::{Form, encode};
use process::Process;
use tapline_api::snapshot::{
    DedupEntry, GroupEntry, LcoreEntry, PortEntry, RuleEntry, Snapshot, ToolEntry, WayEntry,
};

/// The sources of metrics.
struct Scene<'a> {
    published: &'a Published,
    /// The statistics from the start on.
    stats: &'a Snapshot,
    process: Process,
    /// Rules that have series of their own.
    most_rules: usize,
    version: &'a str,
    /// Connections that are taken, this one included.
    connections: u32,
}

/// A value of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Words as labels of a value that is 1.
    Info,
}

/// A family: series of one name.
struct Family {
    /// As it stands before the labels; of a histogram without its endings.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// The numbers of `tapline.stats/1` that it shows; `*` stands for a name.
    #[cfg_attr(not(test), expect(dead_code, reason = "the page and the tests go by it"))]
    fields: &'static [&'static str],
    samples: Samples,
}

/// The series of a family, and where their values come from. None of an object that has no such value.
enum Samples {
    One(fn(&Scene<'_>) -> Option<Number>),
    Ports(fn(&PortEntry) -> Option<Number>),
    Rules(fn(&RuleEntry) -> Option<Number>),
    Tools(fn(&ToolEntry) -> Option<Number>),
    Ways(fn(&WayEntry) -> Option<Number>),
    Groups(fn(&GroupEntry) -> Option<Number>),
    Dedups(fn(&DedupEntry) -> Option<Number>),
    Lcores(fn(&LcoreEntry) -> Option<Number>),
    Many(&'static [&'static str], fn(&Scene<'_>, table::Put<'_>)),
    ToolLatency,
    WayLatency,
    /// Series that were left out: known once all others are written.
    LeftOut,
}

impl Samples {
    fn labels(&self) -> &'static [&'static str] {
        match self {
            Self::One(_) | Self::LeftOut => &[],
            Self::Ports(_) => &["port"],
            Self::Rules(_) | Self::Dedups(_) => &["rule"],
            Self::Tools(_) | Self::ToolLatency => &["tool"],
            Self::Ways(_) | Self::WayLatency => &["wire", "direction"],
            Self::Groups(_) => &["group"],
            Self::Lcores(_) => &["lcore"],
            Self::Many(labels, _) => labels,
        }
    }
}

impl Family {
    /// The unit that the name says.
    fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes", "ratio"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
    }
}

/// Answers a scrape.
pub(super) async fn answer(State(front): State<Front>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::accepted(accept);
    let published = front.last();
    let scene = Scene {
        published: &published,
        stats: published.counted.since_start.as_ref().unwrap_or(&published.counted.stats),
        process: Process::now(),
        most_rules: published.plan.settings.metrics_rules,
        version: &front.dpdk,
        connections: front.shared.connections().min(MOST_CONNECTIONS),
    };
    ([(header::CONTENT_TYPE, form.content_type())], encode(&scene, form)).into_response()
}

#[cfg(test)]
mod tests;
