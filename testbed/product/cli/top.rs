//! `tapline top`: in tmux, beside the broker's own numbers, and as text; the terminal afterwards.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::programs::{has_program, repository, tapline};

/// Something that is expected takes no longer than this.
const LONGEST: Duration = Duration::from_secs(90);

/// A terminal of tmux, with a shell.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// Starts a server of its own, whose only window has this size.
    fn start(lab: &Lab, width: u16, height: u16) -> Self {
        let tmux = Self { socket: lab.path("tmux.sock").display().to_string() };
        let (width, height) = (width.to_string(), height.to_string());
        let folder = lab.path(".").display().to_string();
        // no start-up file of the user's shell
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "-c",
            &folder,
            "env PS1='$ ' LC_ALL=C.UTF-8 sh",
        ]);
        tmux
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-u", "-S", &self.socket])
            .args(arguments)
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .expect("tmux");
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    fn shown(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so; the screen.
    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if holds(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < LONGEST, "{what} is not shown but:\n{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The terminal is as a shell has it: its own screen, a cursor, and lines that are echoed.
    fn is_restored(&self) {
        self.until("the shell's screen", |_| {
            self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim() == "0 1"
        });
        self.keys(&[
            "stty -a | tr ' ' '\\n' | grep -E '^-?(echo|icanon|isig)' | tr -d ';' | tr '\\n' +",
            "Enter",
        ]);
        self.until("what stty says", |shown| {
            ["echo", "icanon", "isig"].iter().all(|flag| {
                shown.split(['+', '\n']).any(|word| word == *flag) && !shown.contains(&format!("-{flag}+"))
            })
        });
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(Command::new("tmux").args(["-S", &self.socket, "kill-server"]).stderr(Stdio::null()).status());
    }
}

/// A replay that has ended: its numbers stand still, while the broker goes on.
const PIPELINE: &str = "set idle sleep\nport attach span0 replay:in.pcap,speed=max\nport attach in net_null0\nport attach out0 net_null1 rxq 0\n\
    tool create ids port out0\nrule create 10 from span0 to ids\nrule create 20 from in sample 1/100 to ids\nstart\n";

fn broker(lab: &Lab) -> Started {
    lab.write("test.pipe", PIPELINE);
    let arguments = [
        "run",
        "test.pipe",
        "--eal",
        EAL,
        "--stats",
        "stats.json",
        "--interval",
        "100ms",
        "--control",
        "control.sock",
    ];
    let started = lab.start(&mut lab.tapline(&arguments));
    lab.until("the end of the replay", |line| number(line, "ports/span0/received") > 0);
    started
}

fn top(lab: &Lab, flags: &[&str]) -> std::process::Output {
    let mut arguments = vec!["top"];
    arguments.extend(flags);
    lab.tapline(&arguments).stdin(Stdio::null()).output().expect("tapline")
}

/// The number behind a word: `received 1,741` is 1741.
fn behind(text: &str, word: &str) -> Option<u64> {
    let rest = &text[text.find(word)? + word.len()..];
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .filter(|c| *c != ',')
        .collect();
    digits.parse().ok()
}

#[test]
fn it_shows_a_broker_and_what_becomes_of_it() {
    if !has_program("tmux") {
        return;
    }
    let lab = Lab::new();
    tapline_harness::lab::office(&lab);
    let started = broker(&lab);
    let tmux = Tmux::start(&lab, 120, 40);
    let command = format!("{} top --control control.sock; echo status $?", tapline().display());
    tmux.keys(&[&command, "Enter"]);
    let shown =
        tmux.until("the account", |shown| shown.contains("ALL WELL") && shown.contains("since start"));
    assert!(shown.contains("balanced") && shown.contains("plan 1 "), "{shown}");
    // what is shown lies between what the broker said before and after
    let received = |line: &Value| number(line, "packets/received");
    let get = || -> Value {
        let output =
            lab.tapline(&["ctl", "--control", "control.sock", "get", "stats"]).output().expect("tapline");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let before = received(&get());
    let shown = tmux.until("newer numbers", |shown| behind(shown, "received ") > Some(before));
    let count = behind(&shown, "received ").expect("a number");
    assert!(count <= received(&get()), "{count}\n{shown}");

    for (width, height) in [("80", "24"), ("40", "12"), ("120", "40")] {
        tmux.run(&["resize-window", "-x", width, "-y", height]);
        let height: usize = height.parse().expect("a number");
        tmux.until("the footer in the last line", |shown| {
            let lines: Vec<&str> = shown.lines().collect();
            lines.len() == height && lines[height - 1].starts_with(" 1") && shown.contains("ids")
        });
    }
    for (key, text) in
        [("2", "span0"), ("5", "from in sample 1/100 to ids"), ("u", "bits/s"), ("?", "pages: overview")]
    {
        tmux.keys(&[key]);
        tmux.until(text, |shown| shown.contains(text));
    }
    tmux.keys(&["1"]);
    started.signal("KILL");
    lab.end(started);
    let shown = tmux.until("the end of the broker", |shown| shown.contains("! NO BROKER since"));
    assert!(shown.contains("ids"), "the last numbers stay:\n{shown}");
    let again = broker(&lab);
    tmux.until("the next broker", |shown| !shown.contains("NO BROKER") && shown.contains("ALL WELL"));
    tmux.keys(&["q"]);
    tmux.until("status 0", |shown| shown.contains("status 0"));
    tmux.is_restored();
    again.signal("TERM");
    lab.end(again).balanced();
}

#[test]
fn the_terminal_is_given_back_after_signals_and_panics() {
    if !has_program("tmux") {
        return;
    }
    let lab = Lab::new();
    std::fs::copy(repository().join("testbed/top/well.jsonl"), lab.path("well.jsonl"))
        .expect("a recording");
    let tmux = Tmux::start(&lab, 80, 24);
    let program = tapline().display();
    for signal in ["TERM", "INT", "HUP"] {
        tmux.keys(&[
            &format!("clear; {program} top -r well.jsonl & echo $! >pid; fg; echo status $?"),
            "Enter",
        ]);
        tmux.until("the recording", |shown| {
            shown.contains("ALL WELL") || shown.contains("tapline top   well.jsonl")
        });
        tmux.until("a screen of its own", |_| {
            tmux.run(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
        });
        let pid = std::fs::read_to_string(lab.path("pid")).expect("its number");
        let killed = Command::new("kill").args(["-s", signal, pid.trim()]).status().expect("kill");
        assert!(killed.success());
        tmux.until("status 0", |shown| shown.contains("status 0"));
        tmux.is_restored();
    }
    tmux.keys(&[
        &format!(
            "clear; RUST_BACKTRACE=0 TAPLINE_FAULT=top.draw@3 {program} top -r well.jsonl; echo status $?"
        ),
        "Enter",
    ]);
    let shown = tmux.until("the panic", |shown| shown.contains("status 101"));
    assert!(shown.contains("injected at top.draw"), "{shown}");
    tmux.is_restored();
    // a terminal that goes away is not waited for, nor is its end read again and again
    tmux.keys(&[&format!("clear; trap '' HUP; {program} top -r well.jsonl & echo $! >pid; fg"), "Enter"]);
    tmux.until("a screen of its own", |_| {
        tmux.run(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    });
    let pid = std::fs::read_to_string(lab.path("pid")).expect("its number");
    drop(tmux);
    let begun = Instant::now();
    let is_there = || {
        std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))
            .is_ok_and(|line| line.contains("well.jsonl"))
    };
    while is_there() {
        assert!(begun.elapsed() < LONGEST, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn text_is_printed_once_and_again_and_what_is_wrong_is_said() {
    let lab = Lab::new();
    tapline_harness::lab::office(&lab);
    let recording = repository().join("testbed/top/incident.jsonl").display().to_string();
    let output = top(&lab, &["-r", &recording, "--once"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("! LOSING") && text.contains("ids-b  congested"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    // each line of the file is a text
    let output = top(&lab, &["-r", &recording, "--plain", "--units", "bits"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.matches("tapline top").count(), 7, "{text}");
    assert!(text.contains("sent bit/s"), "{text}");

    for (flags, status, says) in [
        (&["--control", "none.sock", "--once"][..], 1, "no broker listens here"),
        (&["-r", "none.jsonl"], 1, "none.jsonl: No such file"),
        (&["-r", "."], 1, "it is no regular file"),
        (&["-r", "x", "--control", "y"], 2, "cannot be used with"),
        (&["--units", "nibbles"], 2, "invalid value"),
    ] {
        let output = top(&lab, flags);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), error.contains(says)),
            (Some(status), true),
            "{flags:?}: {error}"
        );
    }

    let started = broker(&lab);
    let output = top(&lab, &["--control", "control.sock", "--once", "--interval", "200ms"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("ALL WELL") && text.contains("balanced"), "{text}");
    started.signal("TERM");
    lab.end(started).balanced();
}
