//! The account while packets flow: no snapshot says that it does not balance, and one that truly does not is told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapline_harness::frames::numbered;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Ended, Lab};
use tapline_harness::pcap_files::pcap_bytes;

/// Snapshots over all shapes of plans.
const SNAPSHOTS: usize = 10_000;

/// Plans at full speed: one worker; stages with rings between them; two workers with queues that refuse, a group and a writer; copies
/// that are made anew.
const SHAPES: [&str; 4] = [
    "port attach in net_null0 txq 0
     port attach out net_null1,no-rx=1 rxq 0
     tool create a port out
     tool create b discard
     rule create 10 from in to a,b",
    "set lcores receive 1 work 2,3 transmit 4
     port attach in net_null0,size=200 txq 0
     port attach out net_null1,no-rx=1 rxq 0
     tool create a port out
     tool create b discard
     rule create 10 from in match \"not arp\" to a,b",
    "set lcores 1-2
     port attach in net_null0 rxq 2 txq 0
     port attach out net_null1,no-rx=1 rxq 0
     tool create a port out rate 100kpps queue 256
     tool create b discard
     tool create rec capture /dev/null queue 512
     group create g tools a,b discard 10%
     rule create 10 from in sample 1/10 to g
     rule create 20 from in sample 1/1000 to rec",
    "port attach in net_null0,size=300 txq 0
     port attach out net_null1,no-rx=1 rxq 0
     tool create a port out slice 64
     tool create b discard
     rule create 10 from in dedup window 1ms sample 1/3 final to a
     rule create 20 from in to b",
];

/// The lcores of [`SHAPES`], on whatever CPUs there are.
const LCORES: &str =
    "set eal \"--no-huge --no-shconf --no-pci --no-telemetry -m 512 --lcores 9@0,(1-4)@0 --main-lcore 9\"";

fn connect(lab: &Lab) -> BufReader<UnixStream> {
    let stream = crate::cli::connected(lab);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    BufReader::new(stream)
}

fn ask(stream: &mut BufReader<UnixStream>, method: &str, params: &Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    writeln!(stream.get_mut(), "{request}").expect("a broker that reads");
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

/// Rules and tools that come and go until `is_over`; how many changes there were.
fn change(lab: &Lab, is_over: &AtomicBool) -> usize {
    let mut client = connect(lab);
    let lines = [
        "tool create x discard",
        "rule create 900 from in to x",
        "rule modify 900 to b",
        "rule destroy 900",
        "tool destroy x",
    ];
    let mut changes = 0;
    while !is_over.load(Ordering::Relaxed) {
        for line in lines {
            let answer = ask(&mut client, "run", &json!({ "line": line }));
            assert_eq!(answer["result"]["status"], 0, "{line}: {answer}");
            changes += 1;
        }
    }
    changes
}

#[test]
fn ten_thousand_snapshots_at_full_speed_beside_changes_all_balance() {
    for shape in SHAPES {
        let lab = Lab::new();
        lab.write("test.pipe", format!("{LCORES}\n{shape}\nstart\n"));
        let flags = ["run", "test.pipe", "--control", "control.sock", "--stats", "stats.json"];
        let started = lab.start(&mut lab.tapline(&flags));
        let mut client = connect(&lab);
        let is_over = AtomicBool::new(false);
        let (limits, changes) = std::thread::scope(|threads| {
            let changer = threads.spawn(|| change(&lab, &is_over));
            let limits = (0..SNAPSHOTS / SHAPES.len()).map(|_| {
                let stats = &ask(&mut client, "get", &json!({ "what": "stats" }))["result"];
                assert_eq!(stats["balanced"], true, "{stats}");
                number(stats, "in_flight_limit/packets")
            });
            let limits: Vec<u64> = limits.collect();
            is_over.store(true, Ordering::Relaxed);
            (limits, changer.join().expect("changes are made"))
        });
        // the limit is no excuse for everything
        assert!(limits.iter().all(|&limit| limit > 0 && limit < 10_000_000), "{limits:?}");
        assert!(changes > 20, "{changes} changes");
        started.signal("TERM");
        let account = lab.end(started).done();
        assert!(account.number("packets/received") > 10_000, "{}", account.last());
        assert!(!account.stderr.contains("does not balance"), "{}", account.stderr);
    }
}

/// Runs 20 bursts of 64 packets through one worker that forgets what became of so many of them, and goes on until `is_over`.
fn run_with_miscount(bursts: u64, is_over: impl Fn(&Lab) -> bool) -> Ended {
    let lab = Lab::new();
    lab.write("in.pcap", pcap_bytes(numbered(20 * 64, 64, &[1])));
    lab.write(
        "test.pipe",
        "set idle sleep\nport attach in replay:in.pcap,speed=max\ntool create t discard\nrule create 10 from in to t\nstart\n",
    );
    let flags = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"];
    let mut command = lab.tapline(&flags);
    let started = lab.start(command.env("TAPLINE_FAULT", format!("account@5-{}", 4 + bursts)));
    let begun = Instant::now();
    while !is_over(&lab) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // looks that could tell it once more
    let now = |line: &Value| line["uptime_s"].as_f64().unwrap_or_default();
    let until = now(&lab.until("it goes on", |_| true)) + 3.0;
    lab.until("it goes on", |line| now(line) > until);
    started.signal("TERM");
    lab.end(started)
}

/// A worker at rest may have one burst in its hands.
#[test]
fn a_miscount_of_a_burst_more_than_can_be_on_its_way_is_an_alarm_that_is_told_once() {
    const ALARM: &str = "alarm raised: the account does not balance: 128 packets and 0 copies have no end, and at most 64 and 64 can";
    let within = run_with_miscount(1, |_| true);
    assert!(!within.stderr.contains("alarm raised"), "{}", within.stderr);
    // the end knows no excuse
    assert!(within.status == Some(1) && within.stdout.contains("NOT BALANCED"), "{}", within.stdout);
    let running = within.stats.len() - 1;
    assert!(within.stats[..running].iter().all(|line| line["balanced"] == true), "{}", within.stderr);
    let beyond = run_with_miscount(2, |lab| lab.printed("stderr").contains(ALARM));
    assert_eq!(beyond.stderr.matches(ALARM).count(), 1, "{}", beyond.stderr);
    assert_eq!(beyond.stderr.matches("does not balance: ").count(), 1, "{}", beyond.stderr);
    assert!(beyond.status == Some(1) && beyond.stdout.contains("NOT BALANCED"), "{}", beyond.stdout);
    let is_found = |line: &Value| line["balanced"] == false && line["in_flight_limit"]["packets"] == 64;
    assert!(beyond.stats.iter().any(is_found), "{}", beyond.stderr);
}

/// Nobody asks, and it is told: what a tool drops, unless `alarm off` says that it may.
#[test]
fn a_tool_that_goes_on_dropping_is_told_once_with_its_number() {
    let lab = Lab::new();
    lab.write(
        "test.pipe",
        "set idle sleep
         port attach in net_null0 txq 0
         port attach out net_null1,no-rx=1 rxq 0
         tool create slow port out rate 1kpps queue 64
         tool create known port out rate 1kpps queue 64 alarm off
         tool create fine discard
         rule create 10 from in sample 1/100 to slow,known,fine
         start",
    );
    let flags = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "100ms"];
    let started = lab.start(&mut lab.tapline(&flags));
    let now = |line: &Value| line["uptime_s"].as_f64().unwrap_or_default();
    let raised =
        lab.until("the alarm is raised", |line| line["tools"]["slow"]["alarms"] == json!(["drops"]));
    lab.until("it goes on", |line| now(line) > now(&raised) + 3.0);
    started.signal("TERM");
    let account = lab.end(started).done();
    let told: Vec<&str> = account.stderr.lines().filter(|line| line.contains("alarm raised")).collect();
    assert!(told.len() == 1, "{told:?}");
    let words: Vec<&str> = told[0].split_whitespace().collect();
    // warning: alarm raised: tool slow: N of M copies were dropped within S s (P %), most as rate_limited
    let at = words.iter().position(|word| *word == "slow:").expect("the tool's name");
    let [dropped, of] = [words[at + 1], words[at + 3]].map(|word| word.parse::<u64>().expect("a number"));
    assert!(0 < dropped && dropped < of, "{told:?}");
    assert!(dropped < account.number("tools/slow/dropped/rate_limited"), "{told:?}");
    assert!(
        told[0].contains("warning: alarm raised: ") && told[0].ends_with("most as rate_limited"),
        "{told:?}"
    );
    assert_eq!(account.last()["tools"]["known"]["alarms"], json!([]));
    assert!(account.number("tools/known/dropped/rate_limited") > 0);
}

#[test]
fn a_time_in_which_the_process_slept_is_one_line_of_statistics() {
    let lab = Lab::new();
    lab.write("test.pipe", "set idle sleep\nport attach in net_null0 txq 0\ntool create t discard\nrule create 10 from in to t\nstart\n");
    let flags = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "100ms"];
    let started = lab.start(&mut lab.tapline(&flags));
    lab.until("it runs", |line| number(line, "packets/received") > 0);
    started.signal("STOP");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    started.signal("CONT");
    let slept = |pair: &[Value]| {
        pair[1]["uptime_s"].as_f64() > pair[0]["uptime_s"].as_f64().map(|before| before + 1.9)
    };
    lab.until("it goes on", |line| line["recent"]["interval_s"].as_f64() < Some(0.5));
    started.signal("TERM");
    let ended = lab.end(started);
    // the lines that would have come in between are not made up for: one has all of it
    let long: Vec<&[Value]> = ended.stats.windows(2).filter(|pair| slept(pair)).collect();
    assert_eq!(long.len(), 1);
    assert!(long[0][1]["recent"]["interval_s"].as_f64() > Some(1.9), "{}", long[0][1]["recent"]);
}
