//! The audit log of a running broker: who asked for what, and what verification finds. Python goes along the chain by itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use super::connected;
use crate::faults::clocks::{makes_library, step};
use serde_json::{Value, json};
use tapline_harness::bench::now;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};

const PIPELINE: &str =
    "set idle sleep\nport attach in net_null0\ntool create t discard\nrule create 10 from in to t\n";

fn start(lab: &Lab, audit: &str, flags: &[&str]) -> Started {
    lab.write("test.pipe", format!("{PIPELINE}set audit {audit}\nstart\n"));
    lab.serve("test.pipe", EAL, flags)
}

/// The records of a log.
fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a record in JSON")).collect()
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn of(lab: &Lab) -> Self {
        let stream = connected(lab);
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// The answer to a line, with its status.
    fn say(&mut self, line: &str) -> String {
        writeln!(self.0.get_mut(), "{line}").expect("a broker that reads");
        let mut answer = String::new();
        while !answer.lines().next_back().is_some_and(|last| last.starts_with("= ")) {
            assert_ne!(self.0.read_line(&mut answer).expect("an answer"), 0, "{answer}");
        }
        answer
    }

    fn hello(&mut self, token: &str) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "hello", "params": { "token": token } });
        writeln!(self.0.get_mut(), "{request}").expect("a broker that reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

/// The status and what was printed of `tapline audit verify`.
fn verify(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let mut all = vec!["audit", "verify"];
    all.extend(arguments);
    let output = lab.tapline(&all).output().expect("tapline");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a status"), String::from_utf8_lossy(&text).into_owned())
}

/// The last hash of a chain, by Python.
fn head_by_python(lab: &Lab, file: &str) -> String {
    let script = "import sys,json,hashlib
prev='0'*64;seq=0
for line in open(sys.argv[1],encoding='utf-8'):
 r=json.loads(line);h=r.pop('hash');seq+=1
 assert r['prev']==prev and r['seq']==seq and r['schema']=='tapline.audit/1'
 t=json.dumps(r,separators=(',',':'),ensure_ascii=False)
 prev=hashlib.sha256((prev+t).encode()).hexdigest();assert prev==h,seq
print(f'{seq}:{prev}')";
    let output =
        Command::new("python3").args(["-c", script]).arg(lab.path(file)).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn every_change_is_in_the_log_and_what_is_done_to_the_log_is_found() {
    let lab = Lab::new();
    let started = start(&lab, "audit.jsonl required", &[]);
    let mut client = Client::of(&lab);
    assert!(client.say("rule create 20 from in match \"tcp\" to t").ends_with("= 0\n"));
    assert!(client.say("show rules").ends_with("= 0\n"));
    assert!(client.say("rule destroy 99").ends_with("= 2\n"));
    assert!(client.say("rule create nonsense").ends_with("= 2\n"));
    assert!(client.say("clear stats").ends_with("= 0\n"));
    let made = client.say("token create ci operator expire 1h");
    let token = made.lines().next().expect("a token").to_owned();
    assert!(token.starts_with("tl_") && made.contains("ends with this broker"), "{made}");
    let hello = Client::of(&lab).hello(&token);
    assert_eq!((&hello["result"]["user"], &hello["result"]["role"]), (&json!("token ci"), &json!("admin")));
    assert_eq!(Client::of(&lab).hello("tl_wrong")["error"]["code"], -32003);
    // in JSON, with the hash that the broker says of its plan
    assert!(client.say("quit").ends_with("= 0\n"));
    let ended = lab.end(started);
    let log = lab.printed("stderr");
    ended.done();
    let text = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    assert!(!text.contains(&token), "{text}");
    let records = records(&text);
    let said: Vec<String> = records
        .iter()
        .map(|record| {
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("kind"), text("result"), text("command"))
        })
        .collect();
    assert_eq!(
        said,
        [
            "start accepted: ",
            "change accepted: rule create 20 from in match \"tcp\" to t",
            "change refused: rule destroy 99",
            "change refused: rule create nonsense",
            "change accepted: clear stats",
            "change accepted: token create ci operator expire 1h",
            "sign_in accepted: ",
            "sign_in forbidden: ",
            "change accepted: quit",
            "stop accepted: ",
        ]
    );
    for record in &records {
        assert_eq!(
            record["actor"]["uid"].as_u64(),
            Some(u64::from(tapline_kernel::process::own_uid())),
            "{record}"
        );
        assert_eq!((&record["broker"], &record["role"]), (&json!("test"), &json!("admin")));
    }
    assert_eq!(
        (&records[1]["actor"]["via"], &records[0]["actor"]["via"]),
        (&json!("socket"), &json!("command-line"))
    );
    assert_ne!(records[1]["before"], records[1]["after"]);
    assert_eq!(
        (&records[0]["after"], &records[4]["before"]),
        (&records[1]["before"], &records[1]["after"])
    );
    // the head is told in the log of the program
    let head = head_by_python(&lab, "audit.jsonl");
    assert!(log.contains(&format!("the audit log has the head {head}")), "{log}");
    let (status, printed) = verify(&lab, &["audit.jsonl", "--head", &head]);
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("records 1 to 10 are as they were written"), "{printed}");

    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let changed = text.replacen("rule destroy 99", "rule destroy 98", 1);
    let without: String =
        lines.iter().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| *line).collect();
    let mut swapped = lines.clone();
    swapped.swap(5, 6);
    for (name, content, found) in [
        ("changed", changed, "changed:3: record 3 was changed"),
        ("without", without, "without:5: record 6 stands where record 5 is expected"),
        ("swapped", swapped.concat(), "swapped:6: record 7 stands where record 6 is expected"),
        ("torn", text[..text.len() - 9].to_owned(), "torn:10: the last line is no whole record"),
        ("cut", lines[..8].concat(), "its tail was cut"),
    ] {
        lab.write(name, content);
        let (status, printed) = verify(&lab, &[name, "--head", &head]);
        assert_eq!(status, 1, "{name}: {printed}");
        assert!(printed.contains(found), "{name}: {printed}");
    }
    assert_eq!(verify(&lab, &["missing"]).0, 1);
    assert_eq!(verify(&lab, &[]).0, 2);
    assert_eq!(verify(&lab, &["audit.jsonl", "--head", "7"]).0, 2);
}

#[test]
fn a_log_goes_on_after_a_kill_a_rotation_and_a_deletion() {
    let lab = Lab::new();
    let started = start(&lab, "audit.jsonl required", &[]);
    let mut client = Client::of(&lab);
    assert!(client.say("rule disable 10").ends_with("= 0\n"));
    std::fs::rename(lab.path("audit.jsonl"), lab.path("audit.1")).expect("a rotation");
    assert!(client.say("rule enable 10").ends_with("= 0\n"));
    started.signal("KILL");
    assert_eq!(lab.end(started).status, None);
    // what a kill in the middle of a write leaves
    let mut log = std::fs::File::options().append(true).open(lab.path("audit.jsonl")).expect("a log");
    log.write_all(b"{\"schema\":\"tapline.audit/1\",\"seq\":5,").expect("a log");
    drop(log);
    let started = start(&lab, "audit.jsonl required", &[]);
    let mut client = Client::of(&lab);
    assert!(client.say("rule disable 10").ends_with("= 0\n"));
    let (status, printed) = verify(&lab, &["audit.1", "audit.jsonl"]);
    assert_eq!(status, 0, "{printed}");
    assert!(
        printed.contains("the file was moved") && printed.contains("a record was not written to its end"),
        "{printed}"
    );
    assert_eq!(verify(&lab, &["audit.jsonl", "audit.1"]).0, 1);
    std::fs::remove_file(lab.path("audit.jsonl")).expect("a log");
    assert!(client.say("rule enable 10").ends_with("= 0\n"));
    let (status, printed) = verify(&lab, &["audit.jsonl"]);
    assert!(status == 0 && printed.contains("the file was deleted"), "{printed}");
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn nothing_is_changed_without_a_record_where_one_is_required() {
    for (mode, is_changed) in [("required", false), ("best-effort", true), ("", false)] {
        let lab = Lab::new();
        let grant = if mode.is_empty() { "\naccess grant operator user root" } else { "" };
        let started = start(&lab, &format!("missing/audit.jsonl {mode}{grant}"), &[]);
        let mut client = Client::of(&lab);
        let end = if is_changed { "= 0\n" } else { "= 1\n" };
        let answer = client.say("rule create 20 from in to t");
        assert!(answer.ends_with(end), "{mode}: {answer}");
        assert_eq!(client.say("show config").contains("rule create 20"), is_changed, "{mode}");
        assert!(client.say("clear stats").ends_with(end), "{mode}");
        // reads and packets go on, and so do changes once the log can be written
        std::fs::create_dir(lab.path("missing")).expect("a folder");
        assert!(client.say("rule create 30 from in to t").ends_with("= 0\n"), "{mode}");
        started.signal("TERM");
        lab.end(started).done();
        let text = std::fs::read_to_string(lab.path("missing/audit.jsonl")).expect("a log");
        let gap = &records(&text)[0];
        assert_eq!(gap["kind"], "gap", "{mode}");
        // the start, two changes, and two refusals of those; where nobody waits for the log, the last change may be written after the
        // folder is there
        let lost = gap["lost"].as_u64().expect("a number");
        assert!(if is_changed { (2..=3).contains(&lost) } else { lost == 5 }, "{mode}: {lost}");
        assert_eq!(verify(&lab, &["missing/audit.jsonl"]).0, 0);
    }
}

#[test]
fn a_plan_is_confirmed_where_commands_are_recorded() {
    let lab = Lab::new();
    let started = start(&lab, "audit.jsonl required", &[]);
    lab.write(
        "test.pipe",
        format!("{PIPELINE}set audit audit.jsonl required\nrule create 20 from in to t\nstart\n"),
    );
    let mut client = Client::of(&lab);
    assert!(client.say("reload confirm 1h").ends_with("= 0\n"));
    assert!(client.say("rule destroy 20").contains("waits to be confirmed"));
    assert!(client.say("clear stats").ends_with("= 0\n"), "it changes no plan");
    assert_eq!(client.say("confirm 2"), "plan 2 is confirmed\n= 0\n");
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "confirm", "params": { "id": 2 } });
    writeln!(client.0.get_mut(), "{request}").expect("a broker that reads");
    let mut line = String::new();
    client.0.read_line(&mut line).expect("an answer");
    assert!(line.contains("-32002"), "{line}");
    assert!(client.say("quit").ends_with("= 0\n"));
    lab.end(started).done();
    let text = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    let said: Vec<String> = records(&text)
        .iter()
        .filter(|record| record["command"].as_str().is_some_and(|command| command.starts_with("confirm")))
        .map(|record| record["result"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(said, ["accepted", "accepted", "failed"], "{text}");
    assert_eq!(verify(&lab, &["audit.jsonl"]).0, 0);
}

#[test]
fn tokens_outlive_a_broker_in_its_folder_which_one_broker_has() {
    let lab = Lab::new();
    let started = start(&lab, "audit.jsonl", &["--state", "state"]);
    let mut client = Client::of(&lab);
    let made = client.say("token create ci viewer peek");
    let token = made.lines().next().expect("a token").to_owned();
    assert!(client.say("token create ci viewer").contains("there is a token `ci` already"));
    let second =
        lab.tapline(&["run", "test.pipe", "--eal", EAL, "--state", "state"]).output().expect("tapline");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another Tapline has it"));
    started.signal("KILL");
    lab.end(started);
    let started = start(&lab, "audit.jsonl", &["--state", "state"]);
    let mut client = Client::of(&lab);
    assert!(client.say("token list").starts_with("ci: viewer peek, made "));
    assert_eq!(Client::of(&lab).hello(&token)["result"]["user"], "token ci");
    let mut signed_in = Client::of(&lab);
    signed_in.hello(&token);
    assert!(client.say("token revoke ci").ends_with("= 0\n"));
    assert_eq!(Client::of(&lab).hello(&token)["error"]["code"], -32003);
    // whoever has shown it is nobody else's namesake any more
    assert!(signed_in.say("show rules").ends_with("= 0\n"));
    started.signal("TERM");
    lab.end(started).done();
}

/// The clock is set back by an hour and on by two, while a broker runs and between two: times are as the clock had them, and the chain
/// goes on by its numbers.
#[test]
fn a_clock_that_is_set_leaves_the_chain_whole_and_its_times_as_they_were_read() {
    let lab = Lab::new();
    let (library, file) = (lab.path("clock_step.so"), lab.path("step"));
    if !makes_library(&library) {
        return tapline_skip::skipped("no gcc");
    }
    step(&file, 0);
    lab.write("test.pipe", format!("{PIPELINE}set audit audit.jsonl required\nstart\n"));
    let start = || {
        let _ = std::fs::remove_file(lab.path("stats.json"));
        let mut command = lab.tapline(&["run", "test.pipe", "--eal", EAL, "--state", "state"]);
        command.args(["--stats", "stats.json", "--interval", "50ms", "--control", "control.sock"]);
        command.env("LD_PRELOAD", &library).env("TAPLINE_CLOCK_STEP", &file);
        let started = lab.start(&mut command);
        lab.until("packets", |line| number(line, "packets/received") > 0);
        started
    };
    let mut hours = Vec::new();
    let mut change = |client: &mut Client, off: i64| {
        step(&file, off * 3600);
        let answer = client.say("clear stats");
        assert!(answer.ends_with("= 0\n"), "{off} h: {answer:?}");
        hours.push(off);
    };
    let started = start();
    let mut client = Client::of(&lab);
    for off in [0, -1, 2, -24 * 365, 0] {
        change(&mut client, off);
    }
    change(&mut client, -5);
    started.signal("KILL");
    lab.end(started);
    // the next broker begins before the last record of the one before it
    step(&file, -7 * 3600);
    let started = start();
    let mut client = Client::of(&lab);
    change(&mut client, -7);
    change(&mut client, 0);
    started.signal("TERM");
    lab.end(started).done();
    let records = records(&std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log"));
    let numbers: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
    let changes = records.iter().filter(|record| record["kind"] == "change");
    let off = |record: &Value| ((record["time"].as_f64().expect("a time") - now()) / 3600.0).round() as i64;
    assert_eq!(changes.map(off).collect::<Vec<_>>(), hours);
    let head = head_by_python(&lab, "audit.jsonl");
    let (status, printed) = verify(&lab, &["audit.jsonl", "--head", &head]);
    assert_eq!(status, 0, "{printed}");
    assert!(
        printed.contains(&format!("records 1 to {} are as they were written", records.len())),
        "{printed}"
    );
}
