//! Each error code of the control socket, provoked once, and each object that it answers with: by the tables of the documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::control::{slow_rule, wait_for_planning};
use crate::changes::datagrams;
use serde_json::{Value, json};
use tapline_harness::client::{Client, request};
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::programs::repository;

const PIPELINE: &str = "set idle sleep\nport attach in net_null0\ntool create t discard\ntool create u discard\n\
                        group create g tools t,u\nfilter create f \"udp\"\nrule create 10 from in sample 1/2 to t\n\
                        rule create 20 from in match f to g\n";

const AUDIT: &str = "set audit audit.jsonl required\n";

fn start(lab: &Lab, pipeline: &str) -> Started {
    lab.write("test.pipe", format!("{pipeline}start\n"));
    lab.serve("test.pipe", EAL, &[])
}

/// The rows of the table behind a heading of the page, as their cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(repository().join("docs/reference/control.md")).expect("the page");
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect("a heading of the page");
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.skip(2).map(cells).collect()
}

/// The words of a cell that stand in backquotes, but for those in brackets.
fn words(cell: &str) -> BTreeSet<String> {
    let mut depth = 0;
    let outside: String = cell
        .chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => return depth == 0,
            }
            false
        })
        .collect();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    match object {
        Value::Object(fields) => fields.keys().cloned().collect(),
        Value::Array(all) => all.iter().flat_map(keys).collect(),
        _ => BTreeSet::new(),
    }
}

/// An error of the code, with what the page says of its data.
fn assert_documented(answer: &Value, code: i64, kind: &str, fields: &BTreeSet<String>) {
    let error = &answer["error"];
    assert_eq!(error["code"], json!(code), "{answer}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    assert_eq!(answer["jsonrpc"], "2.0");
    if kind.is_empty() {
        assert!(error["data"].is_null(), "a code of JSON-RPC's: {answer}");
        return;
    }
    let data = &error["data"];
    assert_eq!(keys(data), ["diagnostics", "kind", "status", "text"].map(str::to_owned).into(), "{answer}");
    let status = if kind == "refused" { 2 } else { 1 };
    assert_eq!((&data["kind"], &data["status"]), (&json!(kind), &json!(status)), "{answer}");
    assert!(data["text"].as_str().is_some_and(|text| text.contains("error: ")), "{answer}");
    let diagnostics = data["diagnostics"].as_array().expect("a list");
    assert_eq!(diagnostics.is_empty(), kind != "refused", "{answer}");
    diagnostics.iter().for_each(|diagnostic| assert_eq!(&keys(diagnostic), fields, "{answer}"));
}

/// Takes a plan up that waits to be confirmed, has `meanwhile` done, and goes back.
fn while_a_plan_waits(lab: &Lab, client: &mut Client, meanwhile: impl Fn(&mut Client) -> Value) -> Value {
    lab.write("other.pipe", format!("{AUDIT}{PIPELINE}rule create 30 from in to t\n"));
    client.call("reload", &json!({ "file": "other.pipe", "confirm": 600 }));
    let answer = meanwhile(client);
    client.call("rollback", &json!({}));
    answer
}

/// The answer to one client more than there may be.
fn one_too_many(lab: &Lab) -> Value {
    let mut clients = Vec::new();
    for _ in 0..70 {
        let mut client = Client::of(&lab.path("control.sock"));
        client.send(&request("hello", &json!({})));
        let answer = client.receive();
        if answer["result"].is_null() {
            assert_eq!(answer["id"], Value::Null, "it answers no request");
            assert_eq!(client.line(), "", "nothing follows");
            // `tapline ctl` tells it, too
            let mut ctl = lab.tapline(&["ctl", "--control", "control.sock", "show", "rules"]);
            let output = ctl.output().expect("tapline");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.code() == Some(1) && said.contains("64 clients are connected already"),
                "{said}"
            );
            return answer;
        }
        clients.push(client);
    }
    panic!("{} clients are connected", clients.len());
}

#[test]
fn each_code_of_the_documentation_is_answered_for_its_reason() {
    let lab = Lab::new();
    let started = start(&lab, &format!("{AUDIT}{PIPELINE}"));
    let table: BTreeMap<i64, String> = rows("## Errors")
        .into_iter()
        .map(|cells| (cells[0].parse().expect("a code"), cells[1].trim_matches('`').to_owned()))
        .collect();
    let page = std::fs::read_to_string(repository().join("docs/reference/control.md")).expect("the page");
    let of_diagnostics =
        page.lines().find(|line| line.starts_with("A diagnostic has ")).expect("its fields");
    let fields = words(of_diagnostics);
    let mut client = Client::of(&lab.path("control.sock"));
    let mut raw = |line: &str| {
        client.send(line);
        client.receive()
    };
    let mut provoked = BTreeMap::from([
        (-32700, raw("{\"jsonrpc\":")),
        (-32600, raw(r#"{"jsonrpc":"2.0","id":1}"#)),
        (-32601, raw(&request("nothing", &json!({})))),
        (-32602, raw(&request("get", &json!({ "what": "nothing" })))),
        (-32001, client.run("rule create 30 from in to nowhere")),
        (-32002, client.answer("confirm", &json!({}))),
        (-32003, client.answer("hello", &json!({ "token": "tl_wrong" }))),
        (-32004, client.run("set workers 2")),
    ]);
    provoked.insert(
        -32005,
        while_a_plan_waits(&lab, &mut client, |client| client.run("rule create 40 from in to t")),
    );
    drop(client);
    provoked.insert(-32006, one_too_many(&lab));
    // a change that is planned and one that waits for it, when the broker ends
    let mut planning = Client::of(&lab.path("control.sock"));
    planning.send(&request("run", &json!({ "line": slow_rule() })));
    wait_for_planning(&lab);
    let mut waiting = Client::of(&lab.path("control.sock"));
    waiting.send(&request("run", &json!({ "line": "rule create 50 from in to t" })));
    // it has been taken once a later request of another client is answered
    let mut other = Client::of(&lab.path("control.sock"));
    let plan = other.plan();
    assert!(!plan["text"].as_str().expect("a text").contains("rule create 50"));
    started.signal("TERM");
    provoked.insert(-32007, planning.receive());
    assert_documented(&waiting.receive(), -32007, "cancelled", &fields);
    lab.end(started).done();

    let known: Vec<&i64> = table.keys().collect();
    assert_eq!(provoked.keys().collect::<Vec<_>>(), known, "the codes of the page, and those provoked");
    for (code, answer) in &provoked {
        assert_documented(answer, *code, &table[code], &fields);
    }
    // what was given up is in the log
    let log = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    let given_up: Vec<Value> = records.filter(|record| record["result"] == "cancelled").collect();
    assert_eq!(given_up.len(), 2, "{log}");
    assert!(given_up.iter().any(|record| record["command"] == "rule create 50 from in to t"), "{log}");
    let verified = lab.tapline(&["audit", "verify", "audit.jsonl"]).output().expect("tapline");
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Each result has the fields that the page says, and no others.
#[test]
fn results_have_the_fields_of_the_documentation_and_no_others() {
    let lab = Lab::new();
    let started = start(&lab, PIPELINE);
    let mut client = Client::of(&lab.path("control.sock"));
    lab.write("other.pipe", format!("{PIPELINE}rule create 30 from in to t\n"));
    let file = json!({ "file": "other.pipe", "confirm": 600, "guard": { "loss": 1_000_000 } });
    let pending = client.call("reload", &file);
    let confirmed = client.call("confirm", &json!({}));
    let rolled_back = client.call("rollback", &json!({}));
    let mut of_get = |what: &str| client.call("get", &json!({ "what": what }));
    let mut results = BTreeMap::from([
        ("get events", of_get("events")),
        ("get plan", of_get("plan")),
        ("get commands", of_get("commands")),
    ]);
    let last = of_get("reload");
    for (method, params) in [
        ("hello", json!({})),
        ("run", json!({ "line": "show rules" })),
        ("complete", json!({ "line": "rule de" })),
        ("subscribe", json!({ "to": "events" })),
    ] {
        results.insert(method, client.call(method, &params));
    }
    results.insert("confirm", confirmed);
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cells in rows("### Fields of results") {
        let method = cells[0].trim_matches('`').to_owned();
        documented.entry(method).or_default().extend(words(&cells[1]));
    }
    let answered: BTreeMap<String, BTreeSet<String>> =
        results.iter().map(|(method, result)| ((*method).to_owned(), keys(result))).collect();
    assert_eq!(answered, documented);
    // parts of statistics are named as statistics name them
    let stats = client.call("get", &json!({ "what": "stats" }));
    for part in ["ports", "tools", "groups", "rules", "wires", "lcores"] {
        let own = client.call("get", &json!({ "what": part }));
        assert_eq!(keys(&own), keys(&stats[part]), "{part}");
    }
    assert!(stats["broker"] == "test" && stats["seq"].is_u64() && stats["schema"] == "tapline.stats/1");

    // a receipt is one, whoever asks for it
    let page = std::fs::read_to_string(repository().join("docs/reference/control.md")).expect("the page");
    let (_, section) = page.split_once("it is a `tapline.reload/1`:\n").expect("the receipt");
    let lines: Vec<&str> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let table: Vec<(BTreeSet<String>, BTreeSet<String>)> = lines[2..]
        .iter()
        .map(|line| {
            let (field, meaning) = line.trim_matches('|').split_once(" | ").expect("two cells");
            (words(field), words(meaning))
        })
        .collect();
    let mut fields: BTreeSet<String> = table.iter().flat_map(|(names, _)| names.clone()).collect();
    // one field is there where a capture was asked about
    datagrams(&lab, "seen.pcap", 10);
    let compared =
        client.call("reload", &json!({ "file": "other.pipe", "dry_run": true, "read": "seen.pcap" }));
    assert_eq!(keys(&compared), fields, "{compared}");
    assert_eq!(compared["diff"]["schema"], "tapline.diff/1");
    assert!(fields.remove("diff"));
    for receipt in [&pending, &rolled_back, &last] {
        assert_eq!(keys(receipt), fields, "{receipt}");
    }
    let inside = |field: &str| {
        let row = table.iter().find(|(names, _)| names.contains(field));
        row.map(|(_, inside)| inside.clone()).expect("a row")
    };
    for field in ["by", "lost", "moved", "state", "confirm"] {
        let found = keys(&pending[field]);
        assert!(!found.is_empty(), "{field}: {pending}");
        assert_eq!(found, inside(field), "{field}");
    }
    let objects: BTreeSet<String> = keys(&pending["objects"])
        .into_iter()
        .chain(pending["objects"].as_object().expect("objects").values().flat_map(keys))
        .collect();
    assert_eq!(objects, inside("objects"), "{pending}");
    assert_eq!(keys(&pending["objects"]["rules"]["changed"]), BTreeSet::new(), "no rule is changed");
    assert!(rolled_back["confirm"].is_null());
    started.signal("TERM");
    lab.end(started).done();
}
