//! Input without end, and readers, writers and files that stand still: no run is kept from its work, or from its end.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};

/// Packets go round and round on their own, and a file can be named.
const PIPELINE: &str = "set idle sleep\nport attach in net_null0\ntool create t discard\n\
                        rule create 1 from in to t\nstart\n";

/// Far above what a run takes, and far below what seconds of an unbounded flood would.
const MOST_KIB: u64 = 1 << 20;

fn run(lab: &Lab, flags: &[&str]) -> Command {
    lab.write("test.pipe", PIPELINE);
    let mut arguments = vec!["run", "test.pipe", "--eal", EAL, "--interval", "20ms"];
    arguments.extend(flags);
    let mut command = lab.tapline(&arguments);
    command.stdin(Stdio::null());
    command
}

fn fifo(lab: &Lab, name: &str) {
    assert!(Command::new("mkfifo").arg(lab.path(name)).status().expect("mkfifo(1)").success());
}

/// The most memory that a running process has had.
fn peak_kib(started: &Started) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{}/status", started.child.id())).expect("a running child");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A pipe's end that is written to by `words` for ever, by a program of the system.
fn endless(words: &[&str]) -> (std::process::Child, Stdio) {
    let mut source = Command::new(words[0])
        .args(&words[1..])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a program of every system");
    let pipe = source.stdout.take().expect("a pipe");
    (source, Stdio::from(pipe))
}

#[test]
fn lines_that_keep_coming_keep_nothing_waiting() {
    // what is no command makes the exit status 2; a line without an end is none
    let sources: [(&[&str], i32); 4] = [
        (&["yes", "show ports"], 0),
        (&["yes", ""], 0),
        (&["cat", "/dev/urandom"], 2),
        (&["cat", "/dev/zero"], 0),
    ];
    for (words, status) in sources {
        let lab = Lab::new();
        let (mut source, input) = endless(words);
        let flags = ["-i", "--stats", "stats.json", "--duration", "1s"];
        let started = lab.start(run(&lab, &flags).stdin(input));
        let ended = lab.end(started);
        let lines = ended.stats.len();
        let account = ended.scripted(status);
        assert!(account.number("packets/received") > 0, "{words:?}");
        assert!(lines > 5, "{words:?}: statistics went on: {lines} lines");
        source.kill().expect("a child");
        source.wait().expect("a child");

        // the same, ended by a signal
        let lab = Lab::new();
        let (mut source, input) = endless(words);
        let started = lab.start(run(&lab, &["-i", "--stats", "stats.json"]).stdin(input));
        lab.until("packets", |line| number(line, "packets/received") > 0);
        std::thread::sleep(std::time::Duration::from_millis(500));
        let peak = peak_kib(&started);
        assert!(peak < MOST_KIB, "{words:?}: {peak} KiB");
        started.signal("TERM");
        lab.end(started).scripted(status);
        source.kill().expect("a child");
        source.wait().expect("a child");
    }
}

#[test]
fn a_line_that_is_too_long_is_passed_over_and_the_next_is_answered() {
    let lab = Lab::new();
    let mut started = lab.start(run(&lab, &["-i", "--stats", "stats.json"]).stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let long = format!("show {}\nshow rules\nquit\n", "x".repeat(100_000));
    input.write_all(long.as_bytes()).expect("a reader");
    let ended = lab.end(started);
    assert!(ended.stderr.contains("error: the line is longer than 65536 bytes"), "{}", ended.stderr);
    assert!(ended.stdout.contains("rule  matched"), "{}", ended.stdout);
    ended.scripted(2);
}

#[test]
fn ports_that_would_wait_for_a_pipe_are_refused_while_packets_flow() {
    let lab = Lab::new();
    fifo(&lab, "pipe");
    let mut started = lab.start(run(&lab, &["-i", "--stats", "stats.json"]).stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let lines =
        "port attach p net_pcap0,rx_pcap=pipe\nport attach p net_pcap0,tx_pcap=pipe rxq 0\nshow rules\n";
    input.write_all(lines.as_bytes()).expect("a reader");
    let seen = lab.until("packets", |line| number(line, "packets/received") > 0);
    lab.until("more", |line| number(line, "packets/received") > number(&seen, "packets/received"));
    input.write_all(b"quit\n").expect("a reader");
    let ended = lab.end(started);
    assert_eq!(
        ended.stderr.matches("`pipe` is a pipe, whose other end would be waited for").count(),
        2,
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("matched"), "{}", ended.stdout);
    // both lines were right, and failed
    ended.scripted(1);
}

#[test]
fn files_that_block_or_never_end_are_refused_while_packets_flow() {
    let lab = Lab::new();
    fifo(&lab, "pipe");
    let mut started = lab.start(run(&lab, &["-i", "--stats", "stats.json"]).stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let lines = "include pipe\nrule create 20 from in match file \"pipe\" to t\n\
                 rule create 21 from in match file \"/dev/zero\" to t\ninclude /dev/zero\n\
                 rule create 22 from in match \"ip\" anonymize ip prefix-preserving key pipe to t\nshow rules\n";
    input.write_all(lines.as_bytes()).expect("a reader");
    let seen = lab.until("packets", |line| number(line, "packets/received") > 0);
    lab.until("more", |line| number(line, "packets/received") > number(&seen, "packets/received"));
    input.write_all(b"quit\n").expect("a reader");
    let peak = peak_kib(&started);
    assert!(peak < MOST_KIB, "{peak} KiB");
    let ended = lab.end(started);
    assert_eq!(ended.stderr.matches("is not a regular file").count(), 5, "{}", ended.stderr);
    assert!(ended.stdout.contains("rule  matched"), "{}", ended.stdout);
    ended.scripted(2);
}

/// Both ends of a pipe that is full, and that nobody reads.
fn full_pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (reader, OwnedFd::from(writer))
}

#[test]
fn readers_that_stand_still_keep_no_run_from_its_end() {
    // standard output, asked for without end: more than a pipe holds
    let lab = Lab::new();
    let (mut source, input) = endless(&["yes", "show ports"]);
    let (_unread, out) = full_pipe();
    let mut command = run(&lab, &["-i", "--stats", "stats.json"]);
    let errors = File::create(lab.path("stderr")).expect("a writable folder");
    let child = command.stdin(input).stdout(out).stderr(errors).spawn().expect("tapline runs");
    drop(command);
    let started = Started { child };
    lab.until("packets", |line| number(line, "packets/received") > 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    started.signal("TERM");
    File::create(lab.path("stdout")).expect("a writable folder");
    let said = lab.end(started).failed(1);
    assert!(said.contains("error: standard output cannot be written: nobody reads it"), "{said}");
    source.kill().expect("a child");
    source.wait().expect("a child");

    // standard error: a refusal for each line
    let lab = Lab::new();
    let (mut source, input) = endless(&["yes", "nonsense"]);
    let (_unread, errors) = full_pipe();
    let mut command = run(&lab, &["-i", "--stats", "stats.json"]);
    let out = File::create(lab.path("stdout")).expect("a writable folder");
    let child = command.stdin(input).stdout(out).stderr(errors).spawn().expect("tapline runs");
    drop(command);
    let started = Started { child };
    lab.until("packets", |line| number(line, "packets/received") > 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let peak = peak_kib(&started);
    assert!(peak < MOST_KIB, "{peak} KiB");
    started.signal("TERM");
    File::create(lab.path("stderr")).expect("a writable folder");
    lab.end(started).scripted(2);
    source.kill().expect("a child");
    source.wait().expect("a child");
}

#[test]
fn statistics_that_nobody_reads_keep_no_run_from_its_work_or_its_end() {
    // a pipe without a reader, and one whose reader stands still
    for is_open in [false, true] {
        let lab = Lab::new();
        fifo(&lab, "pipe");
        let _reader = is_open.then(|| {
            File::options().read(true).write(true).open(lab.path("pipe")).expect("both ends of a pipe")
        });
        let started = lab.start(&mut run(&lab, &["--stats", "pipe", "--duration", "2s"]));
        let ended = lab.end(started);
        assert!(ended.stdout.contains("balanced"), "{}", ended.stdout);
        let said = ended.failed(1);
        assert!(
            said.contains("error: pipe: statistics cannot be written: it took nothing any more"),
            "{said}"
        );
    }
}

#[test]
fn a_start_that_waits_for_a_pipe_ends_by_a_signal() {
    let lab = Lab::new();
    fifo(&lab, "pipe");
    lab.write(
        "test.pipe",
        "port attach in net_pcap0,rx_pcap=pipe\ntool create t discard\nrule create 1 from in to t\n",
    );
    let started = lab.start(&mut lab.tapline(&["run", "test.pipe", "--eal", EAL]));
    std::thread::sleep(std::time::Duration::from_secs(1));
    started.signal("TERM");
    let said = lab.end(started).failed(1);
    assert!(said.contains("nothing was started"), "{said}");
}
