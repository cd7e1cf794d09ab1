//! The difference as JSON: `tapline.diff/1`, one object.

use serde_json::{Map, Value, json};

use super::Difference;
use super::cause::RuleRef;
use super::count::{Counted, Group};
use crate::explain::json::nanoseconds;
use crate::plan::diff::{Change, Kind, Needs, Subject};

/// The name of the schema.
pub const SCHEMA: &str = "tapline.diff/1";

/// Says a difference.
pub fn difference(difference: &Difference<'_>) -> Value {
    let mut out = json!({
        "schema": SCHEMA,
        "objects": difference.changes.iter().map(object).collect::<Vec<_>>(),
    });
    if let Some(counted) = difference.packets {
        out["packets"] = packets(counted);
        out["causes"] = counted.groups().into_iter().map(group).collect();
    }
    out
}

fn object(change: &Change) -> Value {
    let (kind, name) = match &change.subject {
        Subject::Setting(key) => ("setting", (*key).to_owned()),
        Subject::Port(name) => ("port", name.clone()),
        Subject::Tool(name) => ("tool", name.clone()),
        Subject::Group(name) => ("group", name.clone()),
        Subject::Wire(name) => ("wire", name.clone()),
        Subject::Filter(name) => ("filter", name.clone()),
        Subject::Rule(priority) => ("rule", priority.to_string()),
        Subject::Access(grantee) => ("access", grantee.clone()),
    };
    let change_word = match change.kind {
        Kind::Added => "added",
        Kind::Changed => "changed",
        Kind::Recreated => "recreated",
        Kind::Removed => "removed",
    };
    let needs = match change.needs {
        Needs::Nothing => "nothing",
        Needs::Swap => "swap",
        Needs::PortInterrupted => "interrupt",
        Needs::Restart => "restart",
    };
    json!({ "kind": kind, "name": name, "change": change_word, "what": change.what, "needs": needs })
}

fn packets(counted: &Counted) -> Value {
    json!({
        "total": counted.total(),
        "same": counted.same,
        "different": counted.different,
        "lost": counted.lost,
        "flows": counted.flows,
        "flows_at_least": counted.is_least,
        "bytes": counted.bytes,
        "passed_over": counted.passed_over,
        "ungrouped": counted.ungrouped,
    })
}

fn group(group: &Group) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    put("kind", json!(group.cause.kind));
    if let Some(object) = &group.cause.object {
        put("object", json!(object));
    }
    put("old", group.cause.old.as_ref().map_or(Value::Null, rule));
    put("new", group.cause.new.as_ref().map_or(Value::Null, rule));
    put("outcome", json!({ "old": group.old, "new": group.new }));
    put("lost", json!(group.is_loss));
    put("count", json!(group.count));
    put("flows", json!(group.flows));
    put("bytes", json!(group.bytes));
    put("first", json!(group.first.number));
    put(
        "packet",
        json!({
            "number": group.first.number,
            "time": nanoseconds(group.first.time_ns),
            "port": group.first.port,
            "fields": group.first.fields.to_json(),
        }),
    );
    Value::Object(out)
}

fn rule(rule: &RuleRef) -> Value {
    json!({ "priority": rule.priority, "source": { "file": rule.file, "line": rule.line }, "drop": rule.drops })
}
