#![cfg(test)]
//! Every number of the statistics has a metric, or a reason why it has none; names are as Prometheus wants them; the page has all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::encode::{Form, encode};
use super::table::{WITHOUT, families};
use super::{Kind, Process, Scene};
use crate::broker::Counted;
use crate::control::history::Version;
use crate::control::published::Published;
use crate::plan::{Surroundings, plan};
use tapline_api::snapshot::{GAP_BUCKETS, Snapshot};
use tapline_api::words::{DropReason, IcmpReason, Refusal, Via};
use tapline_datapath::counters::latency::Spread;

/// Statistics that have all that statistics may have.
const EVERYTHING: &str = include_str!("everything.json");

/// An object that counts each word differently.
fn counts<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let counts: serde_json::Map<String, Value> =
        words.enumerate().map(|(count, word)| (word.to_owned(), json!(1000 + count))).collect();
    Value::Object(counts).to_string()
}

fn everything() -> String {
    EVERYTHING
        .replace("REFUSALS", &counts(Refusal::ALL.into_iter().map(Refusal::word)))
        .replace("DROPPED", &counts(DropReason::ALL.into_iter().map(DropReason::word)))
        .replace("ICMP", &counts(IcmpReason::ALL.into_iter().map(IcmpReason::word)))
        .replace("GAPS", &json!(vec![0; GAP_BUCKETS]).to_string())
}

/// Objects whose keys are names, or words of a vocabulary.
const BY_NAME: &[&str] = &[
    "ports",
    "rules",
    "tools",
    "wires",
    "groups",
    "dedup",
    "lcores",
    "dropped",
    "refused",
    "buckets",
    "bursts",
    "icmp_errors",
];

/// Adds the paths of all numbers and flags, with `*` for names.
fn add_paths(path: &str, key: &str, value: &Value, paths: &mut BTreeSet<String>) {
    match value {
        Value::Number(_) | Value::Bool(_) => {
            paths.insert(path.to_owned());
        }
        Value::Array(list) => list.iter().for_each(|value| add_paths(path, "", value, paths)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_way = matches!(name.as_str(), "a_to_b" | "b_to_a");
                let name = if BY_NAME.contains(&key) || is_way { "*" } else { name };
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                add_paths(&path, if is_way { "" } else { name }, value, paths);
            }
        }
        Value::Null | Value::String(_) => {}
    }
}

#[test]
fn every_number_of_the_statistics_has_a_metric_or_a_reason() {
    let mut paths = BTreeSet::new();
    add_paths("", "", &serde_json::from_str(&everything()).expect("JSON"), &mut paths);
    let shown: BTreeSet<String> =
        families().flat_map(|family| family.fields).map(|field| (*field).to_owned()).collect();
    let without: BTreeSet<String> = WITHOUT.iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(shown.intersection(&without).collect::<Vec<_>>(), Vec::<&String>::new());
    let known: BTreeSet<String> = shown.union(&without).cloned().collect();
    let missing: Vec<_> = paths.difference(&known).collect();
    assert!(missing.is_empty(), "these numbers have neither a metric nor a reason: {missing:#?}");
    let dead: Vec<_> = known.difference(&paths).collect();
    assert!(dead.is_empty(), "these are no numbers of the statistics: {dead:#?}");
}

#[test]
fn the_statistics_that_have_everything_have_every_field() {
    let source = include_str!("../../../crates/api/src/snapshot.rs");
    // those that stand in the place of their own fields
    const FLATTENED: &[&str] = &["copies", "health", "activity", "counts", "change"];
    let source = source.split("#[cfg(test)]\nmod ").next().expect("a part before the tests");
    let everything = everything();
    for line in source.lines() {
        let field = line.trim().strip_prefix("pub ").and_then(|rest| rest.split_once(": "));
        let Some((name, _)) =
            field.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        else {
            continue;
        };
        assert!(
            FLATTENED.contains(&name) || everything.contains(&format!("\"{name}\":")),
            "`{name}` is missing"
        );
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names = BTreeSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} stands there twice");
        assert!(name.starts_with("tapline_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        assert_eq!(name.ends_with("_info"), family.kind == Kind::Info, "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{name}");
        assert!(
            !name.contains("_ns") && !name.contains("_ms") && !name.contains("_bits"),
            "{name}: base units"
        );
        for label in family.samples.labels() {
            assert!(
                label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}: {label}"
            );
        }
    }
    // no name is that of a part of another family
    for family in families().filter(|family| family.kind == Kind::Histogram) {
        for ending in ["bucket", "sum", "count"] {
            assert!(!names.contains(&*format!("{}_{ending}", family.name)));
        }
    }
}

/// The statistics of a broker that has just begun, or that have everything.
fn published(stats: &str) -> Published {
    let text = "port attach span0 net_null0\ntool create t discard\nrule create 10 from span0 to t\n";
    let mut parsed = tapline_lang::parse_text("t", text, &[]);
    let plan = plan(&mut parsed, &Surroundings::fixed()).expect("a plan");
    let stats: Snapshot = serde_json::from_str(stats).expect("statistics");
    let mut spread = Spread { count: 3, sum_ns: 1_500_000, ..Spread::default() };
    spread.up_to[21] = 2;
    let tools = vec![spread; stats.tools.len()];
    let wires = vec![[Spread::default(); 2]; stats.wires.len()];
    Published {
        broker: "b".into(),
        seq: 1,
        counted: Counted { stats, since_start: None, tools, wires },
        plan: Arc::new(plan),
        version: Arc::new(Version {
            id: 3,
            text: String::new(),
            hash: "ab".repeat(32),
            time_ns: 0,
            by: String::new(),
            via: Via::CommandLine,
            origin: String::new(),
        }),
        confirm: None,
        receipt: None,
        reload: None,
        audit: None,
        tokens: Arc::default(),
        is_running: true,
    }
}

fn text(published: &Published, most_rules: usize, form: Form) -> String {
    let (stats, process) = (&published.counted.stats, Process::default());
    encode(&Scene { published, stats, process, most_rules, version: "DPDK", connections: 1 }, form)
}

/// The series of a text by their names and labels.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut series = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(
            series.insert(name.to_owned(), value.parse().expect(line)).is_none(),
            "{name} stands there twice"
        );
    }
    series
}

#[test]
fn every_family_is_there_and_both_texts_say_the_same() {
    let published = published(&everything());
    let (classic, open) =
        (text(&published, 1000, Form::Classic), text(&published, 1000, Form::OpenMetrics));
    assert_eq!(series(&classic), series(&open));
    assert!(open.ends_with("\n# EOF\n") && !classic.contains("# EOF") && !classic.contains("# UNIT"));
    for family in families() {
        let base = family.name.strip_suffix("_total").unwrap_or(family.name);
        assert!(
            classic.contains(&format!("\n# TYPE {} ", family.name))
                || classic.starts_with(&format!("# HELP {} ", family.name))
        );
        let base = base.strip_suffix("_info").unwrap_or(base);
        assert!(open.contains(&format!("# TYPE {base} ")), "{base}");
    }
    let series = series(&classic);
    for (name, value) in [
        (r#"tapline_copies_requested_total{tool="i\"d\\s"}"#, 45.0),
        (r#"tapline_copies_dropped_total{tool="i\"d\\s",reason="no_buffer"}"#, 1003.0),
        (r#"tapline_port_session_packets_total{port="span0",fate="received"}"#, 123.0),
        (r#"tapline_port_speed_bytes{port="span0"}"#, 1.25e9),
        (r#"tapline_clock_error_seconds{port="span0"}"#, 66e-9),
        (r#"tapline_latency_seconds_bucket{tool="i\"d\\s",le="1.0"}"#, 2.0),
        (r#"tapline_latency_seconds_bucket{tool="i\"d\\s",le="+Inf"}"#, 3.0),
        (r#"tapline_latency_seconds_sum{tool="i\"d\\s"}"#, 0.0015),
        (r#"tapline_wire_forwarded_packets_total{wire="w0",direction="b-to-a"}"#, 86.0),
        (r#"tapline_tool_next_hop_up{tool="i\"d\\s"}"#, 0.0),
        (r#"tapline_rule_sample_share_ratio{rule="10"}"#, 0.25),
        ("tapline_series_left_out", 0.0),
        ("tapline_plan_id", 3.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    assert!(
        !series.contains_key(r#"tapline_rule_sample_share_ratio{rule="20"}"#),
        "what is null is no series"
    );
}

#[test]
fn rules_beyond_the_bound_are_left_out_and_counted() {
    let published = published(&everything());
    let whole = series(&text(&published, 2, Form::Classic));
    let bounded = series(&text(&published, 1, Form::Classic));
    let left_out: Vec<_> = whole.keys().filter(|name| !bounded.contains_key(*name)).collect();
    assert!(
        !left_out.is_empty() && left_out.iter().all(|name| name.contains(r#"{rule="20"}"#)),
        "{left_out:?}"
    );
    assert_eq!(bounded["tapline_series_left_out"], left_out.len() as f64);
    assert_eq!(bounded["tapline_packets_received_total"], 113.0, "totals are whole");
    assert!(series(&text(&published, 0, Form::Classic)).keys().all(|name| !name.contains("{rule=")));
}

/// The part of the page that lists the families.
fn list() -> String {
    let mut out =
        "| metric | kind | labels | field of the statistics | meaning |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for family in families() {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let code =
            |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let (labels, fields) = (code(family.samples.labels()), code(family.fields));
        writeln!(out, "| `{}` | {kind} | {labels} | {fields} | {} |", family.name, family.help)
            .expect("a string");
    }
    out.push_str("\nThese numbers of the statistics have no metric:\n\n| field | why |\n| --- | --- |\n");
    for (field, why) in WITHOUT {
        writeln!(out, "| `{field}` | {why} |").expect("a string");
    }
    out
}

#[test]
fn the_page_lists_every_family() {
    const BEGIN: &str = "<!-- families -->\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (before, after) = page.split_once(BEGIN).expect("a mark");
    if std::env::var_os("TAPLINE_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}\n{}", list())).expect("the page can be written");
        return;
    }
    assert_eq!(after.trim(), list().trim(), "TAPLINE_BLESS=1 writes it anew");
}
