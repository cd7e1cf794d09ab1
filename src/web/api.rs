//! Answers of the interface for programs, made of the last published snapshot.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::Shows;
use super::history::Span;
use super::routes::{Asks, Front, error};
use crate::control::published::Published;
use crate::control::session::commands;
use crate::plan::describe;
use crate::plan::graph::{Graph, MOST_RULES};
use tapline_api::snapshot::{RuleEntry, Snapshot};
use tapline_dpdk::clock;

/// Age of a snapshot from which on the broker is taken to be stuck.
const STUCK_LIMIT: Duration = Duration::from_secs(10);
/// Rules of an answer, unless another number is said; and the most that may be said.
const RULES: usize = 100;
const MOST_ANSWERED_RULES: usize = 10_000;
/// The description of all routes.
const OPENAPI: &str = include_str!("openapi.json");

/// The statistics of a running broker say whose they are, and have numbers.
#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    broker: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_left_out: Option<usize>,
}

/// Answers with JSON.
pub(super) fn answer(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => text_answer(text),
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, "failed", failure.to_string()),
    }
}

/// Answers with text that is JSON.
pub(super) fn text_answer(mut text: String) -> Response {
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) async fn stats(State(front): State<Front>) -> Response {
    let published = front.last();
    let snapshot = &published.counted.stats;
    answer(&Stats { snapshot, broker: &published.broker, seq: published.seq, rules_left_out: None })
}

/// Says the statistics as they are streamed: of more than `most_rules` rules none is among them.
pub(super) fn streamed(published: &Published, most_rules: usize) -> String {
    let (broker, seq) = (&*published.broker, published.seq);
    let snapshot = &published.counted.stats;
    let count = snapshot.rules.len();
    let text = if count > most_rules {
        let mut short = snapshot.clone();
        short.rules.0.clear();
        serde_json::to_string(&Stats { snapshot: &short, broker, seq, rules_left_out: Some(count) })
    } else {
        serde_json::to_string(&Stats { snapshot, broker, seq, rules_left_out: None })
    };
    // numbers, names and words always have a form
    text.unwrap_or_default()
}

/// Begins an answer about the snapshot.
fn beginning(published: &Published) -> Map<String, Value> {
    let Snapshot { schema, time, uptime_s, .. } = &published.counted.stats;
    let (broker, seq) = (&*published.broker, published.seq);
    let value =
        json!({ "schema": schema, "broker": broker, "time": time, "seq": seq, "uptime_s": uptime_s });
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

/// Answers with a part of the statistics.
pub(super) async fn part(State(front): State<Front>, name: &'static str) -> Response {
    let published = front.last();
    let stats = &published.counted.stats;
    let part = match name {
        "ports" => serde_json::to_value(&stats.ports),
        "tools" => serde_json::to_value(&stats.tools),
        "groups" => serde_json::to_value(&stats.groups),
        "wires" => serde_json::to_value(&stats.wires),
        _ => serde_json::to_value(&stats.lcores),
    };
    let mut fields = beginning(&published);
    // numbers, names and words always have a form
    fields.insert(name.to_owned(), part.unwrap_or_default());
    answer(&fields)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesWanted {
    #[serde(default)]
    sort: Sort,
    #[serde(default = "rules_of_an_answer")]
    limit: usize,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    find: String,
}

fn rules_of_an_answer() -> usize {
    RULES
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Priority,
    Matched,
}

pub(super) async fn rules(State(front): State<Front>, wanted: Wanted<RulesWanted>) -> Response {
    let wanted = match of(wanted) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    if wanted.limit > MOST_ANSWERED_RULES {
        return bad(format!("`limit` is more than {MOST_ANSWERED_RULES}"));
    }
    let published = front.last();
    let rules = &published.counted.stats.rules;
    let mut found: Vec<&(String, RuleEntry)> =
        rules.iter().filter(|(priority, _)| priority.contains(&wanted.find)).collect();
    if wanted.sort == Sort::Matched {
        found.sort_by_key(|(_, rule)| std::cmp::Reverse(rule.matched));
    }
    let mut fields = beginning(&published);
    fields.insert("total".to_owned(), json!(rules.len()));
    fields.insert("found".to_owned(), json!(found.len()));
    let shown = found.into_iter().skip(wanted.offset).take(wanted.limit);
    let shown =
        shown.filter_map(|(priority, rule)| Some((priority.clone(), serde_json::to_value(rule).ok()?)));
    fields.insert("rules".to_owned(), Value::Object(shown.collect()));
    answer(&fields)
}

/// Says the plan that waits to be confirmed.
pub(super) fn confirm(published: &Published) -> Value {
    published.confirm.map_or(
        Value::Null,
        |pending| json!({ "id": pending.id, "until": pending.until, "rollback_to": pending.rollback_to }),
    )
}

pub(super) async fn plan(State(front): State<Front>) -> Response {
    let published = front.last();
    let version = &published.version;
    answer(&json!({
        "schema": "tapline.plan/1", "broker": &*published.broker, "seq": published.seq, "id": version.id,
        "sha256": version.hash, "text": version.text, "words": describe::plan(&published.plan),
        "by": version.by, "via": version.via, "origin": version.origin, "time": seconds(version.time_ns),
        "confirm": confirm(&published),
    }))
}

fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphWanted {
    #[serde(default = "rules_of_a_graph")]
    rules: usize,
    #[serde(default)]
    format: Format,
}

fn rules_of_a_graph() -> usize {
    MOST_RULES
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Svg,
}

pub(super) async fn graph(State(front): State<Front>, wanted: Wanted<GraphWanted>) -> Response {
    let wanted = match of(wanted) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    let published = front.last();
    let mut graph = Graph::of(&published.plan, &published.broker, wanted.rules.min(MOST_ANSWERED_RULES));
    graph.count(&published.counted.stats);
    match wanted.format {
        Format::Svg => ([(header::CONTENT_TYPE, "image/svg+xml")], graph.svg()).into_response(),
        Format::Json => {
            let mut value = graph.json();
            value["broker"] = json!(&*published.broker);
            value["seq"] = json!(published.seq);
            value["sha256"] = json!(published.version.hash);
            answer(&value)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsWanted {
    #[serde(default)]
    since: u64,
}

pub(super) async fn events(State(front): State<Front>, wanted: Wanted<EventsWanted>) -> Response {
    let since = match of(wanted) {
        Ok(wanted) => wanted.since,
        Err(refusal) => return refusal,
    };
    let broker = json!(&*front.last().broker);
    let last = front.shared.last_event();
    let events = front.shared.events_since(since);
    let events: Vec<&str> =
        events.iter().filter(|event| event.seq <= last).map(|event| &*event.json).collect();
    text_answer(format!(
        "{{\"schema\":\"tapline.events/1\",\"broker\":{broker},\"seq\":{last},\"events\":[{}]}}",
        events.join(",")
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryWanted {
    #[serde(default)]
    span: Span,
}

pub(super) async fn history(State(front): State<Front>, wanted: Wanted<HistoryWanted>) -> Response {
    let span = match of(wanted) {
        Ok(wanted) => wanted.span,
        Err(refusal) => return refusal,
    };
    let published = front.last();
    let history = front.history.lock().unwrap_or_else(PoisonError::into_inner);
    text_answer(history.json(span, &published.broker, published.seq))
}

pub(super) async fn reload(State(front): State<Front>) -> Response {
    text_answer(front.last().receipt.as_deref().unwrap_or("null").to_owned())
}

pub(super) async fn all_commands() -> Response {
    answer(&commands())
}

pub(super) async fn me(State(front): State<Front>, asker: Asks) -> Response {
    let published = front.last();
    let by = asker.principal(&published);
    let expires = match &asker.shows {
        Shows::Cookie(sha256) => front.shared.sign_ins().left(sha256, Instant::now()),
        Shows::Nothing | Shows::Token | Shows::Certificate => None,
    };
    answer(&json!({
        "schema": "tapline.me/1", "broker": &*published.broker, "user": by.user, "uid": by.uid, "role": by.role, "peek": by.has_peek,
        "via": by.via, "is_anonymous": asker.shows == Shows::Nothing,
        "expires": expires.map(|left| seconds(clock::now_ns()) + left.as_secs_f64().round()),
    }))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn healthz(State(front): State<Front>) -> Response {
    let age = front.shared.last_time().elapsed();
    if age < STUCK_LIMIT {
        return "ok\n".into_response();
    }
    let text = format!("the broker has published nothing for {} s\n", age.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

pub(super) async fn readyz(State(front): State<Front>) -> Response {
    let published = front.last();
    let stalled = published.counted.stats.lcores.iter().find(|(_, lcore)| lcore.is_stalled);
    let why = match stalled {
        _ if front.shared.is_ending() => "the broker ends\n".to_owned(),
        _ if front.shared.last_time().elapsed() >= STUCK_LIMIT => {
            "the broker publishes nothing\n".to_owned()
        }
        _ if !published.is_running => "no packets are received\n".to_owned(),
        Some((lcore, _)) => format!("the worker on lcore {lcore} is stalled\n"),
        None => return "ready\n".into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "there is no such route; /api/v1/openapi.json lists all")
}

pub(super) async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the route is not for this method")
}

/// Parameters behind `?`, or why they are wrong.
pub(super) type Wanted<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

#[expect(clippy::result_large_err, reason = "an answer is made once a request")]
fn of<T>(wanted: Wanted<T>) -> Result<T, Response> {
    wanted.map(|Query(wanted)| wanted).map_err(|rejection| bad(rejection.body_text()))
}

fn bad(message: String) -> Response {
    error(StatusCode::BAD_REQUEST, "refused", message)
}
