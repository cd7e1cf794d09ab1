//! A whole file in the place of the running plan: receipts, confirms, guards, the history.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::connected;
use serde_json::{Value, json};
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::programs::tapline;

const HEAD: &str =
    "set idle sleep\nport attach in net_null0\ntool create t discard\ntool create u discard\n";

fn file(lab: &Lab, rules: &str) {
    lab.write("test.pipe", format!("{HEAD}{rules}"));
}

/// Starts a broker with a socket, and waits until it answers.
fn start(lab: &Lab) -> Started {
    let mut arguments =
        vec!["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"];
    arguments.extend(["--control", "control.sock"]);
    let started = lab.start(&mut lab.tapline(&arguments));
    lab.until("packets", |line| number(line, "packets/received") > 0);
    started
}

struct Ctl {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ctl(lab: &Lab, words: &[&str]) -> Ctl {
    let output = Command::new(tapline())
        .current_dir(lab.path(""))
        .args(["ctl", "--control", "control.sock"])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("tapline runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ctl { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Calls a method on a plain socket.
fn call(lab: &Lab, method: &str, params: Value) -> Value {
    let mut stream = connected(lab);
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    writeln!(stream, "{request}").expect("a broker that reads");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(answer["id"], 7);
    answer
}

fn run(lab: &Lab, line: &str) -> Value {
    call(lab, "run", json!({ "line": line }))
}

fn plan(lab: &Lab) -> Value {
    call(lab, "get", json!({ "what": "plan" }))["result"].clone()
}

#[test]
fn a_file_that_has_a_port_otherwise_is_loaded_with_the_word_interrupt_alone() {
    let lab = Lab::new();
    const RULE: &str = "rule create 10 from in to t,u\n";
    file(&lab, RULE);
    let started = start(&lab);
    let before = plan(&lab);
    lab.write("test.pipe", format!("{HEAD}{RULE}").replace("net_null0\n", "net_null0 rxd 512\n"));
    for line in ["reload", "reload dry-run"] {
        let refused = run(&lab, line)["error"].to_string();
        assert!(refused.contains("`reload FILE interrupt`"), "{refused}");
    }
    assert_eq!(plan(&lab), before);
    let dry = run(&lab, "reload dry-run interrupt")["result"]["objects"].clone();
    let receipt = run(&lab, "reload interrupt")["result"].clone();
    assert_eq!(receipt["objects"], dry);
    assert_eq!(receipt["objects"]["ports"]["recreated"], json!(["in"]));
    assert_eq!(receipt["objects"]["ports"]["changed"], json!([]));
    assert_eq!(receipt["lost"]["by_port"], json!({ "in": 0 }));
    // whoever goes back wants what there was
    let back = run(&lab, "rollback")["result"].clone();
    assert_eq!(back["objects"]["ports"]["recreated"], json!(["in"]));
    assert_eq!(plan(&lab)["sha256"], before["sha256"]);
    // what waits to be confirmed goes back by itself
    assert_eq!(run(&lab, "reload interrupt confirm 100ms")["result"]["result"], "done");
    let begun = Instant::now();
    while plan(&lab)["sha256"] != before["sha256"] {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    run(&lab, "quit");
    lab.end(started).balanced();
}

#[test]
fn a_file_takes_the_place_of_the_running_plan_and_the_receipt_says_what_became_of_each_object() {
    let lab = Lab::new();
    file(
        &lab,
        "filter create web \"tcp port 80\"\nrule create 10 from in match web to t\nrule create 20 from in to u\n",
    );
    let started = start(&lab);
    let before = plan(&lab);
    file(
        &lab,
        "filter create web \"tcp port 80\"\nrule create 10 from in match web to u\nrule create 30 from in to u\n",
    );

    // a dry run says what would be, and changes nothing
    let dry = run(&lab, "reload dry-run");
    assert_eq!(dry["result"]["schema"], "tapline.reload/1");
    assert_eq!(dry["result"]["result"], "dry_run");
    assert_eq!(plan(&lab), before);
    let receipt = run(&lab, "reload")["result"].clone();
    let objects = &receipt["objects"];
    assert_eq!(objects, &dry["result"]["objects"], "a dry run is as true as the receipt");
    assert_eq!(objects["rules"]["changed"], json!([{ "name": "10", "what": ["to"] }]));
    assert_eq!(objects["rules"]["added"], json!(["30"]));
    assert_eq!(objects["rules"]["removed"], json!(["20"]));
    assert_eq!(objects["tools"]["kept"], json!(["t", "u"]));
    assert_eq!(objects["ports"]["kept"], json!(["in"]));
    assert_eq!(objects["filters"]["kept"], json!(["web"]));
    assert_eq!(
        receipt["lost"],
        json!({ "packets": 0, "copies": 0, "by_port": { "in": 0 }, "by_tool": { "t": 0, "u": 0 } })
    );
    assert_eq!((&receipt["before"], &receipt["id"]), (&before["sha256"], &json!(2)));
    let after = plan(&lab);
    assert_eq!((&receipt["after"], &after["id"]), (&after["sha256"], &json!(2)));
    // the hash is that of the text, by another program
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum(1)");
    let text = after["text"].as_str().expect("a text");
    sum.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a reader");
    let sum = sum.wait_with_output().expect("sha256sum(1)");
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(after["sha256"].as_str().expect("a hash")));
    assert_eq!(call(&lab, "get", json!({ "what": "reload" }))["result"], receipt);

    // a broken file never replaces a good one: all its mistakes are told, with their places
    file(&lab, "rule create 10 from nowhere to t\nrule create 20 from in to nobody\n");
    let refused = run(&lab, "reload");
    assert_eq!(refused["error"]["code"], -32001);
    let lines: Vec<&Value> = refused["error"]["data"]["diagnostics"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|found| &found["line"])
        .collect();
    assert_eq!(lines, [&json!(5), &json!(6)]);
    assert_eq!(plan(&lab), after);
    let said = ctl(&lab, &["reload"]);
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("test.pipe:5:21: error: unknown port `nowhere`"), "{}", said.stderr);
    // so is one that is not there, and one that cannot be applied
    assert_eq!(ctl(&lab, &["reload", "none.pipe"]).status, Some(2));
    file(&lab, "set workers 2\nrule create 10 from in to t\n");
    let said = ctl(&lab, &["reload"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert_eq!(run(&lab, "reload")["error"]["code"], -32004);
    assert_eq!(plan(&lab), after);
    assert_eq!(ctl(&lab, &["quit"]).status, Some(0));
    lab.end(started).done();
}

#[test]
fn a_file_that_a_running_tool_writes_is_not_begun_anew() {
    let lab = Lab::new();
    let rule = "tool create rec capture rec.pcap\nrule create 10 from in sample 1/100000 to rec\n";
    file(&lab, rule);
    let started = start(&lab);
    let before = plan(&lab);
    let refusals = [
        ("tool modify rec queue 64", -32002, "anew, which tool rec"),
        ("tool create other capture ./rec.pcap", -32001, "is written by tool `rec`"),
    ];
    for (line, code, reason) in refusals {
        let refused = run(&lab, line)["error"].take();
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["data"]["text"].as_str().is_some_and(|text| text.contains(reason)), "{refused}");
    }
    assert_eq!(plan(&lab), before);
    ctl(&lab, &["quit"]);
    lab.end(started).done();
}

/// The replies to `calls`, a method and its parameters each, by Python's plain socket; of each, jq says that the condition behind it holds.
fn by_python(lab: &Lab, calls: &[(&str, Value, &str)]) -> Vec<Value> {
    let script = "
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('r')
for n, (method, params) in enumerate(json.loads(sys.argv[2])):
    s.sendall((json.dumps({'jsonrpc': '2.0', 'id': n, 'method': method, 'params': params}) + '\\n').encode())
    sys.stdout.write(f.readline())
";
    let asked: Vec<_> = calls.iter().map(|(method, params, _)| json!([method, params])).collect();
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(lab.path("control.sock")).arg(Value::from(asked).to_string());
    let output = python.output().expect("python3");
    let text = String::from_utf8(output.stdout).expect("text");
    let replies: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(replies.len(), calls.len(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for (n, (line, (method, params, condition))) in text.lines().zip(calls).enumerate() {
        let filter = format!(".jsonrpc == \"2.0\" and .id == {n} and ({condition})");
        let mut jq = Command::new("jq");
        let jq = jq.args(["-e", &filter]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut jq = jq.expect("jq(1)");
        jq.stdin.take().expect("a pipe").write_all(line.as_bytes()).expect("a reader");
        assert!(jq.wait().expect("a child").success(), "{method} {params}: {line}\nis not {condition}");
    }
    replies
}

/// This is what jq asks of a receipt.
const RECEIPT: &str = r#"(.result | keys) == ["after","balanced","before","broker","by","confirm","id","lost","moved","objects",
    "paused_us","planned_ms","remarks","result","retired_ms","schema","seq","state","swapped_us","text","time"]
    and (.result | .schema == "tapline.reload/1" and .broker == "test" and .by.via == "socket"
        and (.before | test("^[0-9a-f]{64}$")) and (.after | test("^[0-9a-f]{64}$")) and (.balanced | type == "boolean")
        and (.objects | keys) == ["access","filters","groups","ports","rules","settings","tools","wires"]
        and ([.planned_ms, .swapped_us, .retired_ms, .time, .seq] | all(type == "number"))
        and (.lost | keys) == ["by_port","by_tool","copies","packets"] and (.remarks | type == "string"))"#;

#[test]
fn reload_confirm_and_rollback_are_methods_that_answer_as_their_lines_do() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    let first = plan(&lab);
    file(&lab, "rule create 10 from in to u\n");
    let and = |more: &str| format!("{RECEIPT} and ({more})");
    let (dry, done, guarded, back, error);
    dry = and(".result.result == \"dry_run\" and .result.id == 2 and .result.confirm == null");
    done = and(".result.result == \"done\" and .result.id == 2 and .result.confirm == null");
    guarded = and(".result.id == 3 and .result.confirm.rollback_to == 2 and \
                   .result.confirm.until > .result.time + 3500 and .result.confirm.until < .result.time + 3700");
    back = and(
        ".result.result == \"done\" and .result.id == 4 and (.result.text | startswith(\"reload 4: rollback to 1,\"))",
    );
    error = |code: i32, status: u8| {
        format!(
            ".error | .code == {code} and .data.status == {status} and (.message | length) > 0 and (.data | keys) == [\"diagnostics\",\"kind\",\"status\",\"text\"]"
        )
    };
    let replies = by_python(
        &lab,
        &[
            ("hello", json!({}), r#"["reload","confirm","rollback"] - .result.methods == []"#),
            ("reload", json!({ "dry_run": true }), &dry),
            ("reload", json!({}), &done),
            ("get", json!({ "what": "reload" }), RECEIPT),
            // wrong in itself
            ("reload", json!({ "guard": { "drops": 1 } }), &error(-32001, 2)),
            ("reload", json!({ "file": "none.pipe" }), &error(-32001, 2)),
            ("reload", json!({ "confirm": 0 }), ".error.code == -32602"),
            ("confirm", json!({}), &error(-32002, 1)),
            ("rollback", json!({ "id": 999 }), &error(-32002, 1)),
        ],
    );
    assert_eq!(replies[1]["result"]["objects"], replies[2]["result"]["objects"]);
    assert_eq!(replies[2]["result"], replies[3]["result"]);
    let warned = replies[2]["result"]["remarks"].as_str().expect("a text");
    assert!(warned.contains("test.pipe:3:13: warning: no rule sends to tool `t`"), "{warned}");
    assert_eq!(replies[5]["error"], run(&lab, "reload none.pipe")["error"], "as the line");
    assert_eq!(replies[7]["error"], run(&lab, "confirm")["error"], "as the line");
    lab.write("other name.pipe", format!("{HEAD}rule create 10 from in to t,u\n"));
    by_python(
        &lab,
        &[
            (
                "reload",
                json!({ "file": "other name.pipe", "confirm": 3600.5, "guard": { "loss": 1000000 } }),
                &guarded,
            ),
            ("run", json!({ "line": "rule destroy 10" }), &error(-32005, 1)),
            (
                "run",
                json!({ "line": "confirm", "dry_run": true }),
                r#".result == {"id":3,"result":"dry_run","text":"plan 3 would be confirmed\n"}"#,
            ),
            ("confirm", json!({ "id": 9 }), &error(-32002, 1)),
            (
                "confirm",
                json!({ "id": 3 }),
                r#".result == {"id":3,"result":"confirmed","text":"plan 3 is confirmed\n"}"#,
            ),
            ("rollback", json!({ "id": 1 }), &back),
            (
                "run",
                json!({ "line": "save none/x.pipe", "dry_run": true }),
                r#".result.result == "none/x.pipe: 5 commands would be written\n""#,
            ),
            (
                "run",
                json!({ "line": "reopen", "dry_run": true }),
                r#".result.result | contains("would be opened")"#,
            ),
        ],
    );
    assert_eq!(plan(&lab)["text"], first["text"]);
    // people read the receipt, and what may be got
    let said = ctl(&lab, &["reload", "other name.pipe"]);
    assert!(
        said.stdout.starts_with("reload 5: ")
            && said.stdout.contains("0 copies on all kept ports and tools; "),
        "{}",
        said.stdout
    );
    let said = ctl(&lab, &["get", "nonsense"]);
    assert_eq!(said.status, Some(2));
    assert!(
        said.stderr.contains("there is no `nonsense` to get; there are stats, ports, tools,"),
        "{}",
        said.stderr
    );
    // words of prompts and of brokers are named beside those of files
    let said = ctl(&lab, &["frobnicate"]);
    assert!(
        said.stderr.contains("quit, reload, confirm, rollback, save, reopen, token, help, cancel, exit"),
        "{}",
        said.stderr
    );
    assert_eq!(ctl(&lab, &["cancel"]).status, Some(1));
    let said = call(&lab, "run", json!({ "line": "help rollback" }));
    assert!(
        said["result"]["result"].as_str().expect("a text").starts_with("rollback: goes back"),
        "{said}"
    );
    ctl(&lab, &["quit"]);
    lab.end(started).done();
}

/// Waits until the plan in force has this number.
fn wait_for_plan(lab: &Lab, text: &Value) {
    let begun = Instant::now();
    while plan(lab)["text"] != *text {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", plan(lab));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_plan_that_is_not_confirmed_goes_back_and_others_wait_meanwhile() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    let first = plan(&lab);
    file(&lab, "rule create 10 from in to u\n");
    let receipt = run(&lab, "reload confirm 1h")["result"].clone();
    assert_eq!(receipt["confirm"]["rollback_to"], 1);
    // other changes are refused while it is pending, the same one gives it more time
    let refused = run(&lab, "rule create 20 from in to t");
    assert_eq!(refused["error"]["code"], -32005);
    let again = run(&lab, "reload confirm 2h")["result"].clone();
    assert_eq!(again["confirm"]["rollback_to"], 1);
    assert!(again["confirm"]["until"].as_f64() > receipt["confirm"]["until"].as_f64());
    file(&lab, "rule create 10 from in to t,u\n");
    assert_eq!(run(&lab, "reload confirm 1h")["error"]["code"], -32005);
    assert_eq!(run(&lab, "confirm 77")["error"]["code"], -32002);
    assert_eq!(ctl(&lab, &["confirm", "2"]).stdout, "plan 2 is confirmed\n");
    assert_eq!(run(&lab, "confirm")["error"]["code"], -32002);

    // not confirmed in time
    let second = plan(&lab);
    assert_eq!(run(&lab, "reload confirm 300ms")["result"]["id"], 3);
    wait_for_plan(&lab, &second["text"]);
    let events = call(&lab, "get", json!({ "what": "events" }))["result"]["events"].clone();
    let back: Vec<&Value> =
        events.as_array().expect("a list").iter().filter(|event| event["kind"] == "rolled_back").collect();
    assert_eq!((back.len(), &back[0]["to"]), (1, &json!(2)));

    // a guard that sees copies dropped goes back at once: the tool is drained, so its copies are
    assert_eq!(ctl(&lab, &["tool", "drain", "t"]).status, Some(0));
    file(&lab, "rule create 10 from in to t\n");
    assert!(run(&lab, "reload confirm 1h guard drops>10")["result"]["confirm"].is_object());
    wait_for_plan(&lab, &second["text"]);

    // back by hand, to the one before and to one by its number
    assert_eq!(
        run(&lab, "rollback 1")["result"]["objects"]["rules"]["changed"],
        json!([{ "name": "10", "what": ["to"] }])
    );
    assert_eq!(plan(&lab)["sha256"], first["sha256"]);
    assert_eq!(run(&lab, "rollback 999")["error"]["code"], -32002);
    let history = ctl(&lab, &["show", "history"]).stdout;
    assert!(history.lines().count() >= 5 && history.contains("rollback to 1, asked for"), "{history}");
    ctl(&lab, &["quit"]);
    lab.end(started).done();
}

#[test]
fn drift_is_told_and_saved_and_sighup_loads_the_file_again() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    assert_eq!(ctl(&lab, &["show", "drift"]).stdout, "nothing was changed since the file was loaded\n");
    assert_eq!(
        ctl(&lab, &["rule", "create", "20", "from", "in", "match", "tcp port 80", "to", "u"]).status,
        Some(0)
    );
    assert_eq!(
        ctl(&lab, &["show", "drift"]).stdout,
        "+ rule create 20 from in match \"tcp port 80\" to u\n"
    );
    assert_eq!(
        ctl(&lab, &["show", "diff", "2", "1"]).stdout,
        "- rule create 20 from in match \"tcp port 80\" to u\n"
    );
    // files are those of the caller's folder
    let saved = std::fs::canonicalize(lab.path("")).expect("a folder").join("saved.pipe");
    let written = format!("{}: written\n", saved.display());
    assert_eq!(ctl(&lab, &["save", "saved.pipe"]).stdout, written);
    std::fs::remove_file(&saved).expect("a file");
    std::fs::create_dir(lab.path("elsewhere")).expect("a folder");
    let mut from_there = Command::new(tapline());
    from_there.current_dir(lab.path("elsewhere")).args(["ctl", "--control", "../control.sock"]);
    let output = from_there.args(["save", "../saved.pipe"]).output().expect("tapline runs");
    assert!(output.status.success(), "{output:?}");
    assert!(saved.exists() && !lab.path("elsewhere/saved.pipe").exists());
    let changed = plan(&lab);
    assert_eq!(
        String::from_utf8(std::fs::read(lab.path("saved.pipe")).expect("a file")).expect("text"),
        changed["text"].as_str().expect("a text")
    );
    let begun = Instant::now();
    started.signal("HUP");
    while plan(&lab)["text"] == changed["text"] {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ctl(&lab, &["show", "drift"]).stdout, "nothing was changed since the file was loaded\n");
    assert_eq!(ctl(&lab, &["reload", "saved.pipe"]).status, Some(0));
    assert_eq!(plan(&lab)["sha256"], changed["sha256"]);
    ctl(&lab, &["quit"]);
    lab.end(started).done();
}
