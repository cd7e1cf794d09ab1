//! The live line of `tapline run` at a terminal, and that nobody else gets it.

use std::process::{Command, Stdio};

use tapline_harness::lab::{EAL, Lab};
use tapline_harness::terminal::{CTRL_C, Terminal};

const PIPELINE: &str = "set idle sleep\nport attach in net_null0 txq 0\nport attach out net_null1,no-rx=1 rxq 0\n\
                        tool create slow port out rate 1kpps queue 64 alarm off\ntool create t discard\n\
                        rule create 10 from in to t\nrule create 20 from in sample 1/100 to slow\nstart\n";

fn command(lab: &Lab, pipeline: &str, flags: &[&str]) -> Command {
    lab.write("test.pipe", pipeline);
    lab.tapline(&[&["run", "test.pipe", "--eal", EAL], flags].concat())
}

/// The lines that a terminal shows in the end: a carriage return goes back to the first column, EL erases from the cursor on, SGR
/// changes no letter.
/// # Source
/// ECMA-48, 8.3.41 (EL), 8.3.117 (SGR).
fn screen(shown: &str) -> Vec<String> {
    let (mut lines, mut line, mut column): (Vec<String>, Vec<char>, usize) = (Vec::new(), Vec::new(), 0);
    let mut rest = shown.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\r' => column = 0,
            '\n' => {
                lines.push(line.iter().collect());
                (line, column) = (Vec::new(), 0);
            }
            '\x1b' => match rest.by_ref().find(char::is_ascii_alphabetic) {
                Some('K') => line.truncate(column),
                other => assert_eq!(other, Some('m'), "{shown:?}"),
            },
            letter => {
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
    }
    lines.push(line.iter().collect());
    lines
}

#[test]
fn a_terminal_shows_how_the_run_is_below_what_is_told() {
    let lab = Lab::new();
    let mut terminal = Terminal::start(&command(&lab, PIPELINE, &[]));
    terminal.until("\x1b[32mbalanced\x1b[0m  ");
    terminal.until("most slow");
    // the line is there again when it is drawn anew
    terminal.until("\r\x1b[K\x1b[32mbalanced\x1b[0m  ");
    terminal.keys(CTRL_C);
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("\x1b[31mdropped "), "{shown:?}");
    let lines = screen(&shown);
    // the log stands whole, each line from its first column on, and the live line is gone
    assert!(
        lines.iter().any(|line| line.starts_with("20") && line.contains(": workers on lcores ")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("packets  received ")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("balanced  ")), "{lines:?}");
    let longest = shown.split("\r\x1b[K").skip(1).filter_map(|part| part.split(['\r', '\n']).next());
    let plain = |text: &str| screen(text).concat().chars().count();
    assert!(longest.map(plain).max().is_some_and(|longest| longest > 20), "{shown:?}");
    let live = shown.split("\r\x1b[K").filter(|part| part.starts_with("\x1b[32mbalanced"));
    assert!(live.clone().count() > 1 && live.map(plain).all(|columns| columns < 80), "{shown:?}");
}

#[test]
fn a_replay_tells_how_far_it_is() {
    let lab = Lab::new();
    let packets: Vec<(u64, Vec<u8>, usize)> = (0..400u64)
        .map(|number| (1_700_000_000_000_000_000 + number * 10_000_000, vec![0; 60], 60))
        .collect();
    tapline_harness::pcap_files::write_pcap(&lab.path("in.pcap"), &packets);
    let pipeline = "set idle sleep\nport attach in replay:in.pcap\ntool create t discard\nrule create 10 from in to t\nstart\n";
    let mut terminal =
        Terminal::start(command(&lab, pipeline, &["--exit-idle", "1s"]).env("NO_COLOR", "1"));
    terminal.until(" s left");
    terminal.until("100 %");
    let (status, shown) = terminal.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(!shown.contains("\x1b[3"), "NO_COLOR asks for none: {shown:?}");
}

#[test]
fn pipes_dumb_terminals_and_prompts_have_no_live_line() {
    let lab = Lab::new();
    let flags = ["--duration", "2s"];
    let output = command(&lab, PIPELINE, &flags).stdin(Stdio::null()).output().expect("the program runs");
    for stream in [&output.stdout, &output.stderr] {
        assert!(
            !stream.contains(&b'\x1b') && !stream.contains(&b'\r'),
            "{}",
            String::from_utf8_lossy(stream)
        );
    }
    let (status, shown) = Terminal::start(command(&lab, PIPELINE, &flags).env("TERM", "dumb")).end();
    assert!(status == Some(0) && !shown.contains('\x1b') && !shown.contains("most slow"), "{shown:?}");
    let (status, shown) = Terminal::start(&command(&lab, PIPELINE, &["--duration", "2s", "-i"])).end();
    assert!(status == Some(0) && !shown.contains("most slow"), "{shown:?}");
}
