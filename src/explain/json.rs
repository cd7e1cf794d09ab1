//! Answers as JSON: `tapline.explain/1`, one object a packet, and one for the summary.

use serde_json::{Map, Value, json};

use super::answer::{Answer, CopyPart, RulePart};
use super::summary::{Count, Summary, ToolCount};
use crate::plan::Plan;
use tapline_api::words::{Disposition, DropReason};

/// The name of the schema.
pub const SCHEMA: &str = "tapline.explain/1";

/// Says an answer.
pub fn answer(answer: &Answer) -> Value {
    let packet = &answer.packet;
    let mut about = json!({
        "number": packet.number,
        // as nanoseconds do not fit a double
        "time": nanoseconds(packet.time_ns),
        "port": packet.port,
        "captured": packet.captured,
        "original": packet.original,
        "fields": packet.fields.to_json(),
    });
    if let Some(refusal) = packet.refusal {
        about["refused"] = json!(refusal);
    }
    json!({
        "schema": SCHEMA,
        "packet": about,
        "rules": answer.rules.iter().map(rule).collect::<Vec<_>>(),
        "copies": answer.copies.iter().map(copy).collect::<Vec<_>>(),
        "disposition": answer.disposition,
    })
}

/// Says a time in ns since the Unix epoch in seconds, exactly.
pub(super) fn nanoseconds(time_ns: u64) -> String {
    format!("{}.{:09}", time_ns / 1_000_000_000, time_ns % 1_000_000_000)
}

fn rule(rule: &RulePart) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    put("priority", json!(rule.priority));
    put("source", json!({ "file": rule.file, "line": rule.line }));
    put("words", json!(rule.words));
    put("result", json!(rule.result));
    if let Some(by) = rule.by {
        put("by", json!(by));
    }
    put("to", json!(rule.targets));
    put("because", json!(rule.because));
    put("flips", json!(rule.flips));
    if let Some(sample) = &rule.sample {
        put("sample", json!(sample));
    }
    if let Some(remaining) = rule.limit_remaining {
        put("limit_remaining", json!(remaining));
    }
    if rule.depends_on_packets_before {
        put("depends_on", json!("packets before"));
    }
    Value::Object(out)
}

fn copy(copy: &CopyPart) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    put(if copy.is_original { "wire" } else { "tool" }, json!(copy.tool));
    if let Some(rule) = copy.rule {
        put("rule", json!(rule));
    }
    if let Some(group) = &copy.group {
        put("group", json!(group.name));
        // 64 bits do not fit a double
        put("hash", json!(format!("{:#018x}", group.hash)));
        put("bucket", json!(group.bucket));
        put("buckets", json!(group.buckets));
        put("up", json!(group.up));
    }
    put("steps", json!(copy.steps));
    put("length", json!(copy.length));
    put("overhead", json!(copy.overhead));
    if copy.is_example {
        put("example", json!("addresses: their key is drawn at each start"));
    }
    put("outcome", json!(if copy.reason.is_none() { "sent" } else { "dropped" }));
    if let Some(reason) = copy.reason {
        put("reason", json!(reason));
    }
    Value::Object(out)
}

fn count(count: Count) -> Value {
    json!({ "count": count.count, "first": count.first })
}

fn tool(tool: &ToolCount) -> Value {
    let dropped = DropReason::ALL.into_iter().filter_map(|reason| {
        let (_, counted) = tool.dropped.iter().find(|(of, _)| *of == reason)?;
        Some((reason.word().to_owned(), count(*counted)))
    });
    let dropped: Map<String, Value> = dropped.collect();
    json!({ "sent": count(tool.sent), "bytes": tool.bytes, "dropped": dropped })
}

/// Says the summary of a plan.
pub fn summary(summary: &Summary, plan: &Plan) -> Value {
    let dispositions = Disposition::ALL.map(|of| (of.word().to_owned(), count(summary.of(of))));
    let dispositions: Map<String, Value> = dispositions.into_iter().collect();
    let rules = plan.rules.iter().zip(&summary.rules).map(|(rule, counted)| {
        json!({
            "priority": rule.priority,
            "reached": counted.is_reached,
            "taken": count(counted.taken),
            "sampled_out": count(counted.sampled_out),
            "duplicate": count(counted.duplicates),
            "limited": count(counted.limited),
        })
    });
    let tools = plan.tools.iter().zip(&summary.tools).map(|(of, counted)| (of.name.clone(), tool(counted)));
    let wires = plan.wires.iter().zip(&summary.wires).map(|(of, counted)| (of.name.clone(), tool(counted)));
    json!({
        "schema": SCHEMA,
        "summary": {
            "packets": summary.packets,
            "passed_over": count(summary.passed_over),
            "refused": count(summary.refused),
            "dispositions": dispositions,
            "rules": rules.collect::<Vec<_>>(),
            "tools": tools.collect::<Map<String, Value>>(),
            "wires": wires.collect::<Map<String, Value>>(),
        },
    })
}
