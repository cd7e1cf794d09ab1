//! The folder of `--state`: the history over restarts, plans that nobody confirmed, files that are damaged, an audit log that was cut.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::connected;
use serde_json::{Value, json};
use tapline_harness::lab::{EAL, Lab, Started, served};
use tapline_harness::programs::tapline;

const HEAD: &str =
    "set idle sleep\nport attach in net_null0\ntool create t discard\ntool create u discard\n";

fn file(lab: &Lab, rules: &str) {
    lab.write("test.pipe", format!("{HEAD}{rules}"));
}

/// A broker with a folder, which is not started yet.
fn command(lab: &Lab) -> Command {
    let mut command = lab.tapline(&served("test.pipe", EAL));
    command.args(["--state", "state"]);
    command
}

/// Starts a broker with a folder, and waits until packets flow and it answers.
fn start(lab: &Lab) -> Started {
    let _ = std::fs::remove_file(lab.path("stats.json"));
    let started = lab.serve("test.pipe", EAL, &["--state", "state"]);
    drop(connected(lab));
    started
}

fn kill(lab: &Lab, started: Started) {
    started.signal("KILL");
    lab.end(started);
}

fn quit(lab: &Lab, started: Started) -> String {
    started.signal("TERM");
    let ended = lab.end(started);
    let log = lab.printed("stderr");
    ended.done();
    log
}

/// The status and what was printed of `tapline ctl`.
fn ctl(lab: &Lab, line: &str) -> (i32, String) {
    let mut ctl = Command::new(tapline());
    ctl.current_dir(lab.path("")).args(["ctl", "--control", "control.sock", line]).stdin(Stdio::null());
    let output = ctl.output().expect("tapline runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("a status"), String::from_utf8_lossy(&text).into_owned())
}

fn plan(lab: &Lab) -> Value {
    let mut ctl = Command::new(tapline());
    ctl.current_dir(lab.path("")).args(["ctl", "--control", "control.sock", "get", "plan"]);
    serde_json::from_slice(&ctl.output().expect("tapline runs").stdout).expect("JSON")
}

/// The events of a kind.
fn events(lab: &Lab, kind: &str) -> Vec<Value> {
    let mut ctl = Command::new(tapline());
    ctl.current_dir(lab.path("")).args(["ctl", "--control", "control.sock", "--json", "events"]);
    let output = ctl.output().expect("tapline runs").stdout;
    let lines = String::from_utf8(output).expect("text");
    let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["kind"] == kind).collect()
}

/// What `sha256sum` says of files.
fn sums(lab: &Lab, files: &[&str]) -> Vec<String> {
    let output = Command::new("sha256sum").current_dir(lab.path("state")).args(files).output();
    let text = String::from_utf8(output.expect("sha256sum(1)").stdout).expect("text");
    text.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_history_goes_on_over_kills_and_clean_ends() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    let first = plan(&lab);
    assert_eq!(ctl(&lab, "rule create 20 from in to u").0, 0);
    file(&lab, "rule create 10 from in to t,u\n");
    let (status, text) = ctl(&lab, "reload");
    assert!(status == 0 && text.contains("reload 3: "), "{text}");
    // whoever has an answer finds it after a kill
    kill(&lab, started);
    let index = std::fs::read_to_string(lab.path("state/history.json")).expect("an index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(
        (&index["schema"], &index["last"], &index["pending"]),
        (&json!("tapline.history/1"), &json!(3), &Value::Null)
    );
    let kept = sums(&lab, &["plan-1.pipe", "plan-2.pipe", "plan-3.pipe"]);
    let named: Vec<&str> = index["plans"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|plan| plan["sha256"].as_str())
        .collect();
    assert_eq!(kept, named);
    assert_eq!(
        (&index["plans"][1]["via"], &index["plans"][1]["origin"]),
        (&json!("socket"), &json!("commands"))
    );
    let modes = Command::new("stat")
        .args(["-c", "%a"])
        .arg(lab.path("state"))
        .arg(lab.path("state/history.json"))
        .arg(lab.path("state/plan-3.pipe"))
        .output();
    assert_eq!(String::from_utf8_lossy(&modes.expect("stat(1)").stdout), "700\n600\n600\n");

    // the same file is the same plan, and another one has the next number
    let started = start(&lab);
    assert_eq!(plan(&lab)["id"], 3);
    assert_eq!(ctl(&lab, "show diff 1 2"), (0, "+ rule create 20 from in to u\n".to_owned()));
    assert_eq!(ctl(&lab, "show drift").1, "nothing was changed since the file was loaded\n");
    let (status, text) = ctl(&lab, "rollback 1");
    assert!(status == 0 && text.starts_with("reload 4: "), "{text}");
    assert_eq!(plan(&lab)["text"], first["text"]);
    quit(&lab, started);
    // a file that is broken starts nothing, and leaves the history as it is
    let before = sums(&lab, &["history.json"]);
    file(&lab, "rule create 10 from nowhere to t\n");
    let output = command(&lab).output().expect("tapline");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(sums(&lab, &["history.json"]), before);
    file(&lab, "rule create 30 from in to t\n");
    let started = start(&lab);
    assert_eq!(plan(&lab)["id"], 5);
    let (_, history) = ctl(&lab, "show history");
    let ids: Vec<&str> = history.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"], "{history}");
    quit(&lab, started);
}

#[test]
fn a_plan_that_nobody_confirmed_is_not_the_one_of_the_next_start() {
    for end in ["KILL", "TERM"] {
        let lab = Lab::new();
        file(&lab, "rule create 10 from in to t\n");
        let started = start(&lab);
        let confirmed = plan(&lab);
        file(&lab, "rule create 10 from in to u\n");
        let (status, text) = ctl(&lab, "reload confirm 1h");
        assert_eq!(status, 0, "{text}");
        started.signal(end);
        lab.end(started);
        // the file is not looked at, whatever has become of it
        if end == "KILL" {
            file(&lab, "rule create 10 from nowhere to u\n");
        } else {
            file(&lab, "rule create 10 from in to t,u\n");
        }
        let started = start(&lab);
        assert_eq!(plan(&lab)["text"], confirmed["text"], "{end}");
        assert_eq!(plan(&lab)["id"], 3, "{end}");
        let log = lab.printed("stderr");
        let first = log.lines().next().unwrap_or_default();
        assert!(
            first.ends_with("warning: plan 2 was not confirmed when the broker before ended; plan 1, which was, is run, and test.pipe is not read"),
            "{end}: {log}"
        );
        assert_eq!(log.matches("was not confirmed when").count(), 1, "{log}");
        let told = events(&lab, "confirm_interrupted");
        assert_eq!(
            (told.len(), &told[0]["plan"], &told[0]["to"], &told[0]["is_kept"]),
            (1, &json!(2), &json!(1), &json!(true))
        );
        assert!(ctl(&lab, "show history").1.ends_with("start: plan 1, for plan 2 was not confirmed\n"));
        assert_eq!(ctl(&lab, "confirm").0, 1, "nothing waits any more");
        kill(&lab, started);
        // from then on the file counts again
        file(&lab, "rule create 40 from in to t\n");
        let started = start(&lab);
        assert!(plan(&lab)["text"].as_str().expect("a text").contains("rule create 40"), "{end}");
        quit(&lab, started);
    }
}

#[test]
fn a_confirmed_plan_that_has_mistakes_by_now_starts_nothing_and_is_run_once_it_has_none() {
    let lab = Lab::new();
    lab.write("list.txt", "udp\n");
    file(&lab, "rule create 10 from in match file list.txt to t\n");
    let started = start(&lab);
    let confirmed = plan(&lab);
    file(&lab, "rule create 10 from in to u\n");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 0);
    kill(&lab, started);
    std::fs::remove_file(lab.path("list.txt")).expect("a list");
    std::fs::remove_file(lab.path("control.sock")).expect("what the kill left");
    let before = sums(&lab, &["history.json"]);
    for _ in 0..2 {
        let output = command(&lab).output().expect("tapline");
        assert_eq!(output.status.code(), Some(2), "what failed once fails again");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines = said.lines();
        assert!(
            lines.next().is_some_and(|first| first.ends_with(
                "warning: plan 2 was not confirmed when the broker before ended; plan 1, which was, is run, and test.pipe is not read"
            )),
            "{said}"
        );
        // the mistake is told at its place in the text that is kept
        let mistake = "plan 1:5:30: error: `list.txt` cannot be read: no such file or directory";
        assert!(lines.any(|line| line == mistake), "{said}");
        assert!(said.contains("1 error; nothing was started"), "{said}");
        assert_eq!(sums(&lab, &["history.json"]), before);
        assert!(!lab.path("control.sock").exists(), "nothing is started");
    }
    lab.write("list.txt", "udp\n");
    let started = start(&lab);
    assert_eq!(plan(&lab)["text"], confirmed["text"]);
    assert_eq!(events(&lab, "confirm_interrupted").len(), 1);
    quit(&lab, started);
}

#[test]
fn a_plan_that_was_confirmed_or_went_back_is_settled() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    file(&lab, "rule create 10 from in to u\n");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 0);
    assert_eq!(ctl(&lab, "confirm 2").0, 0);
    kill(&lab, started);
    let started = start(&lab);
    assert_eq!(plan(&lab)["id"], 2);
    assert!(events(&lab, "confirm_interrupted").is_empty());
    // one that is refused when all was promised already leaves no promise
    file(&lab, "set workers 2\nrule create 10 from in to t\n");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 1);
    file(&lab, "rule create 10 from in to t\n");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 0);
    assert_eq!(ctl(&lab, "rollback").0, 0);
    file(&lab, "rule create 10 from in to u\n");
    kill(&lab, started);
    let started = start(&lab);
    assert!(events(&lab, "confirm_interrupted").is_empty());
    quit(&lab, started);
}

#[test]
fn what_is_damaged_is_told_of_and_no_start_fails_for_it() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    assert_eq!(ctl(&lab, "token create ci viewer").0, 0);
    file(&lab, "rule create 10 from in to u\n");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 0);
    kill(&lab, started);
    // the confirmed plan is gone, so the file is what there is; a token file of half an object lets nobody in
    std::fs::write(lab.path("state/plan-1.pipe"), "rule").expect("a file");
    std::fs::write(lab.path("state/tokens.json"), "{\"tokens\":[").expect("a file");
    let started = start(&lab);
    let log = lab.printed("stderr");
    for (line, expected) in log.lines().zip([
        "plan 2 was not confirmed when the broker before ended; plan 1, which was, is not kept, and test.pipe is run",
        "state/plan-1.pipe: the file is damaged (it is not the text that was written); it was moved to state/plan-1.pipe.damaged",
        "state/tokens.json: the file is damaged (",
    ]) {
        assert!(line.contains(expected), "{line}\n{log}");
    }
    assert_eq!(events(&lab, "state_damaged").len(), 2);
    assert_eq!(ctl(&lab, "token list").1, "there is no token\n");
    assert_eq!(plan(&lab)["id"], 2);
    kill(&lab, started);
    std::fs::write(lab.path("state/history.json"), "").expect("a file");
    let started = start(&lab);
    assert_eq!(events(&lab, "state_damaged").len(), 1);
    // the plans are there still, and their numbers are not given again
    assert_eq!((plan(&lab)["id"].clone(), ctl(&lab, "show diff 2 2")), (json!(2), (0, String::new())));
    quit(&lab, started);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_of_and_promises_nothing() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t\n");
    let started = start(&lab);
    // a folder in the place of the index cannot be written over, not by root either
    std::fs::remove_file(lab.path("state/history.json")).expect("an index");
    std::fs::create_dir(lab.path("state/history.json")).expect("a folder");
    let (status, text) = ctl(&lab, "rule create 20 from in to u");
    assert!(status == 0 && text.contains("warning: a restart will not know of it: "), "{text}");
    file(&lab, "rule create 10 from in to u\n");
    let before = plan(&lab);
    let (status, text) = ctl(&lab, "reload confirm 1h");
    assert!(status == 1 && text.contains("a restart would not go back to the plan before"), "{text}");
    assert_eq!(plan(&lab), before);
    assert_eq!(events(&lab, "state_failed").len(), 1);
    std::fs::remove_dir(lab.path("state/history.json")).expect("a folder");
    assert_eq!(ctl(&lab, "reload confirm 1h").0, 0);
    assert_eq!(events(&lab, "state_resumed").len(), 1);
    kill(&lab, started);
    let started = start(&lab);
    assert_eq!(plan(&lab)["text"], before["text"]);
    quit(&lab, started);
}

#[test]
fn an_audit_log_that_was_cut_between_two_brokers_is_told_of() {
    let lab = Lab::new();
    file(&lab, "set audit audit.jsonl required\nrule create 10 from in to t,u\n");
    let started = start(&lab);
    assert_eq!(ctl(&lab, "clear stats").0, 0);
    kill(&lab, started);
    let log = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    assert_eq!(log.lines().count(), 2);
    let head: Value = serde_json::from_slice(&std::fs::read(lab.path("state/audit.json")).expect("a head"))
        .expect("JSON");
    let last: Value = serde_json::from_str(log.lines().last().expect("a record")).expect("JSON");
    assert_eq!((&head["record"], &head["hash"]), (&last["seq"], &last["hash"]));
    // a whole log goes on in silence
    let started = start(&lab);
    assert!(events(&lab, "audit_cut").is_empty());
    quit(&lab, started);
    assert!(lab.tapline(&["audit", "verify", "audit.jsonl"]).output().expect("tapline").status.success());
    let log = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    let kept: Vec<&str> = log.split_inclusive('\n').take(3).collect();
    std::fs::write(lab.path("audit.jsonl"), kept.concat()).expect("a log");
    let started = start(&lab);
    let told = events(&lab, "audit_cut");
    assert_eq!((told.len(), &told[0]["record"]), (1, &json!(log.lines().count())));
    quit(&lab, started);
    // the chain says it, too, and from then on for good
    let output = lab.tapline(&["audit", "verify", "audit.jsonl"]).output().expect("tapline");
    assert_eq!(output.status.code(), Some(1));
    let log = std::fs::read_to_string(lab.path("audit.jsonl")).expect("a log");
    assert!(log.contains("the log does not have its last record"), "{log}");
}

/// Asks for rules to come and go until the broker ends, and returns how many requests were answered.
fn change_until_the_end(lab: &Lab) -> std::thread::JoinHandle<u64> {
    let stream = connected(lab);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut answered = 0;
        loop {
            let line = if answered % 2 == 0 { "rule create 20 from in to u" } else { "rule destroy 20" };
            if writeln!(stream.get_mut(), "{line}").is_err() {
                return answered;
            }
            let mut answer = String::new();
            while !answer.starts_with("= ") {
                answer.clear();
                if stream.read_line(&mut answer).unwrap_or(0) == 0 {
                    return answered;
                }
            }
            assert_eq!(answer, "= 0\n");
            answered += 1;
        }
    })
}

#[test]
fn a_kill_at_any_moment_leaves_the_history_before_a_change_or_behind_it() {
    let lab = Lab::new();
    file(&lab, "rule create 10 from in to t,u\n");
    let (mut last, mut all) = (1, 0);
    for pause_ms in [40, 3, 111, 77, 250, 19] {
        let started = start(&lab);
        assert!(events(&lab, "state_damaged").is_empty(), "{}", lab.printed("stderr"));
        // the file is no other plan than the one before the last rule came, or it is
        let begun = plan(&lab)["id"].as_u64().expect("a number");
        assert!((last..=last + 2).contains(&begun), "{begun} after {last}");
        let client = change_until_the_end(&lab);
        std::thread::sleep(Duration::from_millis(pause_ms));
        kill(&lab, started);
        let answered = client.join().expect("a client");
        last = begun + answered;
        all += answered;
        // one more may have been written, whose answer nobody has
        let index = std::fs::read(lab.path("state/history.json")).expect("an index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let kept = index["last"].as_u64().expect("a number");
        assert!((last..=last + 1).contains(&kept), "{kept} after {last}");
        let plans = index["plans"].as_array().expect("a list");
        assert!(plans.len() <= 50 && plans.last().expect("a plan")["id"] == json!(kept), "{index}");
        let files: Vec<String> = plans.iter().map(|plan| format!("plan-{}.pipe", plan["id"])).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let named: Vec<&str> = plans.iter().filter_map(|plan| plan["sha256"].as_str()).collect();
        assert_eq!(sums(&lab, &files), named);
    }
    assert!(all > 0, "nothing was changed at all");
    let started = start(&lab);
    quit(&lab, started);
}
