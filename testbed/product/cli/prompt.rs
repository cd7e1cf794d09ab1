//! Prompts at a terminal: keys, completion, history, lines above a half-typed one; and how scripts end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Ended, Lab};
use tapline_harness::terminal::{CTRL_C, CTRL_D, CTRL_U, LEFT, Terminal, UP};

const PIPELINE: &str = "set idle sleep\nport attach in net_null0\nport attach out net_null1 rxq 0\n\
                        tool create ids port out\ntool create idz discard\nrule create 1 from in to ids,idz\n";
const PROMPT: &str = "tapline> ";

/// `tapline` with these arguments on a terminal; its history is in the lab's folder.
fn terminal(lab: &Lab, arguments: &[&str]) -> Terminal {
    let mut command = lab.tapline(arguments);
    Terminal::start(command.env("XDG_STATE_HOME", lab.path("state")))
}

/// `tapline run -i` on a terminal, before `start`.
fn interactive(lab: &Lab, pipeline: &str) -> Terminal {
    lab.write("test.pipe", pipeline);
    let flags = ["--stats", "stats.json", "--interval", "20ms", "--control", "control.sock"];
    terminal(lab, &[&["run", "test.pipe", "-i", "--eal", EAL], &flags[..]].concat())
}

#[test]
fn a_prompt_edits_completes_explains_and_remembers() {
    let lab = Lab::new();
    let mut terminal = interactive(&lab, PIPELINE);
    terminal.until(PROMPT);
    terminal.type_until("sho\t", "show ");
    terminal.type_until("con\t\r", "set idle sleep");
    terminal.until(PROMPT);
    terminal.type_until("start\r", "started\r\n");
    terminal.until(PROMPT);
    // names that exist: both tools, then the one that is left
    terminal.type_until("tool drain \t\t", "ids  idz");
    terminal.type_until("z\r", "tool idz is drained");
    // an arrow up gives the line again, one to the left goes back in it
    terminal.until(PROMPT);
    terminal.type_until(UP, "tool drain idz");
    terminal.keys(&format!("{CTRL_U}show tols{LEFT}{LEFT}o\r"));
    terminal.until("requested");
    terminal.type_until(
        "help rule create\r",
        "rule create PRIORITY from SOURCES [CLAUSES] drop\r\nrole: operator",
    );
    terminal.type_until("help rul crate\r", "there is no command `rul crate`");
    terminal.type_until("stop\r", "stopped; everything was sent");
    terminal.type_until("clear stats\r", "statistics cleared");
    terminal.until(PROMPT);
    terminal.type_until("quit\r", "the broker ends");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "a slip at a terminal is forgotten: {shown}");
    let last = shown.rsplit("the broker ends").next().unwrap_or_default();
    assert!(!last.contains(PROMPT) && last.contains("balanced"), "no prompt after `quit`: {last:?}");
    let history = lab.path("state/tapline/history");
    let lines = std::fs::read_to_string(&history).expect("a history");
    assert!(lines.starts_with("show config\nstart\ntool drain idz\nshow tools\n"), "{lines}");
    assert_eq!(std::fs::metadata(&history).expect("a file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_log_line_stands_above_the_line_that_is_typed() {
    let lab = Lab::new();
    let mut terminal = interactive(&lab, &format!("{PIPELINE}start\n"));
    terminal.until(PROMPT);
    terminal.type_until("show po", "show po");
    let mut other = lab.tapline(&["ctl", "--control", "control.sock", "tool", "drain", "ids"]);
    assert!(other.output().expect("tapline").status.success());
    // the line of the log has the line to itself, and what was typed is drawn again below
    terminal.until("notice: tool ids: up -> draining (drain)\r\ntapline> show po");
    terminal.type_until("rts\r", "net_null0");
    // Ctrl-C gives the line up, and ends nothing
    terminal.until(PROMPT);
    terminal.type_until(&format!("nonsense{CTRL_C}"), "the line was given up");
    terminal.type_until("show rules\r", "matched");
    terminal.until(PROMPT);
    // whoever has the socket may go on
    terminal.keys(CTRL_D);
    let mut other = lab.tapline(&["ctl", "--control", "control.sock", "quit"]);
    assert!(other.output().expect("tapline").status.success());
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(!shown.contains("unknown command"), "{shown}");
}

#[test]
fn a_signal_gives_the_terminal_back_as_it_was() {
    let lab = Lab::new();
    lab.write("test.pipe", format!("{PIPELINE}start\n"));
    // the shell says how the terminal was, and how it is
    let tapline = lab.tapline(&[]).get_program().to_string_lossy().into_owned();
    let script = format!(
        "stty -g; '{tapline}' run test.pipe -i --stats stats.json --interval 20ms --eal '{EAL}'; echo status $?; stty -g"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(lab.path("")).env("XDG_STATE_HOME", lab.path("state"));
    let mut terminal = Terminal::start(&shell);
    terminal.type_until("", PROMPT);
    lab.until("packets", |line| number(line, "packets/received") > 0);
    terminal.type_until("half a li", "half a li");
    let name = lab.path("").to_string_lossy().into_owned();
    let running = format!(
        "for p in $(pgrep -x tapline); do [ \"$(readlink /proc/$p/cwd)/\" = \"{name}\" ] || [ \"$(readlink /proc/$p/cwd)\" = \"{name}\" ] && kill -TERM $p; done; true"
    );
    assert!(Command::new("sh").args(["-c", &running]).status().expect("sh").success());
    terminal.until("status 0");
    let (_, shown) = terminal.end();
    let modes: Vec<&str> =
        shown.lines().map(str::trim).filter(|line| line.split(':').count() > 20).collect();
    assert!(modes.len() == 2 && modes[0] == modes[1], "{modes:?}\n{shown}");
}

#[test]
fn the_prompt_of_ctl_asks_the_broker_for_names_and_ends_with_it() {
    let lab = Lab::new();
    let mut broker = interactive(&lab, &format!("{PIPELINE}start\n"));
    broker.until(PROMPT);
    let mut terminal = terminal(&lab, &["ctl", "--control", "control.sock"]);
    terminal.until(PROMPT);
    terminal.type_until("tool drain \t\t", "ids  idz");
    terminal.type_until("s\r", "tool ids is drained");
    terminal.type_until("show nothing\r", "invalid `show` value");
    terminal.type_until("help quit\r", "quit: ends the broker");
    terminal.until(PROMPT);
    terminal.type_until("exit\r", "exit");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    let mut again = terminal_again(&lab);
    again.until(PROMPT);
    again.type_until(&format!("{UP}{UP}"), "help quit");
    again.type_until(&format!("{CTRL_U}quit\r"), "the broker ends");
    assert_eq!(again.end().0, Some(0));
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn complete_answers_programs_with_words_and_names() {
    let lab = Lab::new();
    let mut broker = interactive(&lab, &format!("{PIPELINE}start\n"));
    broker.until(PROMPT);
    let stream = UnixStream::connect(lab.path("control.sock")).expect("a socket");
    let mut replies = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let mut complete = |line: &str, cursor: usize| {
        let params = json!({ "line": line, "cursor": cursor });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "complete", "params": params });
        (&stream).write_all(format!("{request}\n").as_bytes()).expect("a reader");
        let reply = replies.next().expect("a reply").expect("a line");
        serde_json::from_str::<Value>(&reply).expect("JSON")["result"].clone()
    };
    let taken = "rule create 5 from in,";
    assert_eq!(complete(taken, taken.len()), json!({ "start": 22, "candidates": ["any", "out"] }));
    assert_eq!(complete("tool drain ids", 12), json!({ "start": 11, "candidates": ["ids", "idz"] }));
    assert_eq!(complete("rule enable ", 12), json!({ "start": 12, "candidates": ["1"] }));
    assert_eq!(complete("show rel", 8), json!({ "start": 5, "candidates": [] }));
    broker.type_until("quit\r", "the broker ends");
    assert_eq!(broker.end().0, Some(0));
}

fn terminal_again(lab: &Lab) -> Terminal {
    terminal(lab, &["ctl", "--control", "control.sock"])
}

/// `tapline run -i` whose standard input is this script.
fn script(lab: &Lab, lines: &str) -> Ended {
    lab.write("test.pipe", PIPELINE);
    let arguments = ["run", "test.pipe", "-i", "--eal", EAL, "--stats", "stats.json"];
    let mut started = lab.start(lab.tapline(&arguments).stdin(Stdio::piped()));
    started.child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("a reader");
    lab.end(started)
}

#[test]
fn a_script_ends_with_the_worst_of_its_lines() {
    let lab = Lab::new();
    let account = script(&lab, "start\nhelp stop\nstop\nquit\n").scripted(0);
    assert!(account.stdout.starts_with("started\nstop: receives no more packets"), "{}", account.stdout);
    assert!(!account.stderr.contains(PROMPT) && !account.stdout.contains('\u{1b}'), "{}", account.stderr);
    script(&lab, "start\ntool drain nobody\nquit\n").scripted(1);
    script(&lab, "start\ntool drain nobody\nshw\nquit\n").scripted(2);
    script(&lab, "rule create bad\nstart\nexit\nshw\n").scripted(2);
    // nothing was started
    assert_eq!(script(&lab, "rule create bad\nquit\n").status, Some(2));
    assert_eq!(script(&lab, "show plan\n").status, Some(0));
}

#[test]
fn a_script_of_ctl_ends_with_the_worst_of_its_lines() {
    let lab = Lab::new();
    let mut broker = interactive(&lab, &format!("{PIPELINE}start\n"));
    broker.until(PROMPT);
    let run = |lines: &str| {
        let mut command = lab.tapline(&["ctl", "--control", "control.sock"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tapline");
        child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("a reader");
        let output = child.wait_with_output().expect("a child");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run("# nothing\nclear stats\nexit\nshw\n"), (Some(0), "statistics cleared\n".to_owned()));
    assert_eq!(run("tool drain nobody\nclear stats\n").0, Some(1));
    assert_eq!(run("shw\ntool drain nobody\n").0, Some(2));
    assert_eq!(run("help nothing\n").0, Some(2));
    assert_eq!(run("quit\n").0, Some(0));
    assert_eq!(broker.end().0, Some(0));
}
