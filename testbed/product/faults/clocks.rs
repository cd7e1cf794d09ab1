//! The system's clock is set while packets flow: a library that is preloaded sets it for the program alone (`clock_step.c`).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::{Bench, flows, now};

const HOUR_S: i64 = 3600;

/// Sets the program's clock this far off the machine's. The file is mapped there: it is written in place, and never cut.
pub(crate) fn step(path: &Path, seconds: i64) {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("the file opens");
    file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0).expect("the file is written");
}

/// Makes the library that sets a program's clock; returns whether there is a compiler for it.
pub(crate) fn makes_library(library: &Path) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/product/faults/clock_step.c");
    let made = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(library)
        .arg(source)
        .arg("-ldl")
        .status();
    made.is_ok_and(|status| status.success())
}

/// Seconds that a snapshot's clock is off this process's, rounded to hours.
fn hours_off(stats: &Value) -> i64 {
    ((stats["time"].as_f64().expect("a time") - now()) / HOUR_S as f64).round() as i64
}

#[test]
fn a_clock_that_is_set_is_noticed_and_followed_and_costs_no_packet() {
    let bench = Bench::new();
    flows(&bench);
    let (library, file) = (bench.path("clock_step.so"), bench.path("step"));
    if !makes_library(&library) {
        tapline_skip::skipped("no gcc");
        return;
    }
    step(&file, 0);
    // stamps and rates go by clocks
    let mut prompt = bench.start_with(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach sink net_null0,no-rx=1 rxq 0
        tool create stamped port sink timestamp metamako
        port attach slow net_null1,no-rx=1 rxq 0
        tool create limited port slow rate 1mpps
        tool create count discard
        rule create 10 from src sample 1/97 to stamped,limited
        rule create 20 from src sample 1/97 to count
        start",
        &[("LD_PRELOAD", &library), ("TAPLINE_CLOCK_STEP", &file)],
    );
    let clock = |stats: &Value, key: &str| stats["ports"]["sink"]["clock"][key].clone();
    // a line is trusted after eight readings
    let is_fitted = |stats: &Value, since: u64| clock(stats, "readings").as_u64() > Some(since + 12);
    let mut before = prompt.wait("the counter is fitted", |stats| is_fitted(stats, 0));
    let first = clock(&before, "offset_ns").as_i64().expect("a line");
    for (steps, hours) in [(1, 1), (2, -2), (3, 0)] {
        step(&file, hours * HOUR_S);
        let noticed =
            prompt.wait("the step is noticed", |stats| clock(stats, "steps").as_u64() == Some(steps));
        let since = clock(&noticed, "readings").as_u64().expect("a number");
        let after = prompt.wait("the counter is fitted again", |stats| is_fitted(stats, since));
        assert_eq!(hours_off(&after), hours);
        let moved = clock(&after, "offset_ns").as_i64().expect("a line") - first;
        assert_eq!(
            (moved as f64 / (HOUR_S * 1_000_000_000) as f64).round() as i64,
            hours,
            "the line follows"
        );
        for tool in ["stamped", "limited", "count"] {
            let sent = |stats: &Value| stats["tools"][tool]["sent"].as_u64().expect("a number");
            prompt.wait("copies go on", |stats| sent(stats) > sent(&before).max(sent(&after)));
        }
        before = after;
    }
    let run = prompt.quit();
    assert!(run.number("tools/count/sent") >= run.number("tools/stamped/sent"));
    assert_eq!(run.number("packets/failed"), 0);
}
