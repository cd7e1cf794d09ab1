//! Log lines have a time and a level, and the journal of systemd gets its prefix.

use std::fs::{File, read_to_string};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use tapline_harness::lab::{EAL, Lab, office};
use tapline_harness::programs::run;

const PIPELINE: &str =
    "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\nrule create 1 from in to t\n";

/// What a run writes to standard error, where `JOURNAL_STREAM` names a file of that inode beside its own.
fn log_of(lab: &Lab, beside: u64) -> String {
    lab.write("test.pipe", PIPELINE);
    let file =
        File::create(lab.path("stderr")).and_then(|file| file.metadata()).expect("a writable folder");
    let mut command =
        lab.tapline(&["run", "test.pipe", "--eal", EAL, "--exit-idle", "1s", "--stats", "stats.json"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino() + beside));
    lab.end(lab.start(&mut command)).done();
    read_to_string(lab.path("stderr")).expect("what it wrote")
}

/// The line with these words, without them and what follows.
fn before<'a>(log: &'a str, words: &str) -> &'a str {
    let line =
        log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words} in: {log}"));
    line.split(words).next().unwrap_or_default()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_secs()
}

#[test]
fn a_log_line_begins_with_its_time_and_level_or_with_the_journals_prefix() {
    let lab = Lab::new();
    office(&lab);
    let begun_s = now_s();
    let log = log_of(&lab, 1);
    let head = before(&log, "workers on lcores ");
    let time = head.strip_suffix(" info: ").unwrap_or_else(|| panic!("no level: {head}"));
    // date(1) reads the time, and writes it as it was written
    let said = run("date", &["-u", "-d", time, "+%s %Y-%m-%dT%H:%M:%S.%3NZ"]);
    let (seconds, again) = said.trim().split_once(' ').expect("two words");
    assert_eq!(again, time);
    assert!((begun_s..=now_s()).contains(&seconds.parse().expect("seconds")), "{time}");

    assert_eq!(before(&log_of(&lab, 0), "workers on lcores "), "<6>");
}
