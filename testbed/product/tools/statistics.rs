//! What statistics say after `clear stats`, while packets are on their way, and of the interval before each line.

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::{numbered, udp};
use tapline_harness::judges::number;

#[test]
fn what_waits_while_statistics_are_cleared_is_accounted_for_at_the_end() {
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..1000u16).map(|id| udp(id, [198, 18, 0, 1], 1024, 64)).collect();
    bench.write("in.pcap", &packets);
    let mut prompt = bench.start(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach sink net_null0,no-rx=1 rxq 0
        tool create slow port sink rate 1kpps
        tool create count discard
        group create g tools count discard 50%
        rule create 10 from src sample 1/97 to slow,g
        start",
    );
    for _ in 0..3 {
        let full =
            prompt.wait("copies wait", |stats| stats["tools"]["slow"]["queue_depth"].as_u64() > Some(3000));
        let before = full["packets"]["received"].as_u64();
        assert!(full["ports"]["src"]["driver"]["rx_packets"].as_u64() > Some(0));
        prompt.say("clear stats");
        let cleared =
            prompt.wait("statistics are cleared", |stats| stats["packets"]["received"].as_u64() < before);
        assert!(cleared["ports"]["src"]["driver"]["rx_packets"].as_u64() < before, "{cleared}");
        prompt.wait("packets flow", |stats| stats["packets"]["received"].as_u64() > Some(100_000));
    }
    prompt.say("show stats");
    // what waited then is dropped by the drain: the identities of the last snapshot are checked here
    let run = prompt.quit();
    assert!(
        run.stdout.contains("\non their way: ") && !run.stdout.contains("NOT BALANCED"),
        "{}",
        run.stdout
    );
    let waits = |line: &&str| line.split_whitespace().take(3).eq(["tool", "waiting", "queue"]);
    assert_eq!(
        run.stdout.lines().filter(waits).count(),
        1,
        "shown while copies wait, not at the end: {}",
        run.stdout
    );
    assert!(run.number("tools/slow/dropped/rate_limited") > 3000);
    assert_eq!(run.number("ports/src/received"), run.number("packets/received"));
}

/// Rates with the counters that they are of, and whether `clear stats` clears those.
const RATES: [(&str, &str, bool); 14] = [
    ("recent/packets_per_s", "packets/received", true),
    ("recent/copies_per_s", "copies/sent", true),
    ("recent/drops_per_s", "copies/dropped/rate_limited", true),
    ("recent/bytes_per_s", "ports/src/received_bytes", true),
    ("ports/src/recent/packets_per_s", "ports/src/received", true),
    ("ports/src/recent/bytes_per_s", "ports/src/received_bytes", true),
    ("rules/10/recent/packets_per_s", "rules/10/matched", true),
    ("tools/slow/recent/packets_per_s", "tools/slow/sent", true),
    ("tools/slow/recent/bytes_per_s", "tools/slow/sent_bytes", true),
    ("tools/slow/recent/drops_per_s", "tools/slow/dropped/rate_limited", true),
    ("groups/g/recent/packets_per_s", "groups/g/requested", true),
    ("groups/g/recent/drops_per_s", "groups/g/unassigned/dropped/down", true),
    ("lcores/1/recent/packets_per_s", "lcores/1/received", false),
    ("lcores/1/recent/bytes_per_s", "lcores/1/received_bytes", false),
];

fn real(line: &Value, path: &str) -> f64 {
    line.pointer(&format!("/{path}")).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {line}"))
}

/// Demands that what `line` says of its interval is what was counted since `earlier`.
fn assert_recent(earlier: &Value, line: &Value) {
    let whole_s = real(line, "uptime_s") - real(earlier, "uptime_s");
    let interval_s = real(line, "recent/interval_s");
    let is_cleared = number(line, "packets/received") < number(earlier, "packets/received");
    assert!(
        if is_cleared { interval_s <= whole_s } else { (interval_s - whole_s).abs() < 3e-6 },
        "{interval_s} of {whole_s} s"
    );
    for (rate, counter, clears) in RATES {
        let before = if clears && is_cleared { 0.0 } else { real(earlier, counter) };
        let expected = (real(line, counter) - before) / if clears { interval_s } else { whole_s };
        let told = real(line, rate);
        assert!((told - expected).abs() <= 0.002 + expected * 1e-3, "{rate} is {told}, not {expected}");
    }
    let spent =
        |name: &str| real(line, &format!("lcores/1/{name}")) - real(earlier, &format!("lcores/1/{name}"));
    let busy = if spent("total_ns") > 0.0 { spent("busy_ns") / spent("total_ns") } else { 0.0 };
    assert!((real(line, "lcores/1/busy") - busy).abs() < 2e-4, "busy is not {busy} in {}", line["lcores"]);
}

/// The mean since the start would show neither that a worker rests nor that it works again.
#[test]
fn rates_busy_and_queue_peaks_are_of_the_interval_before_each_line() {
    let bench = Bench::new();
    let mut prompt = bench.start(
        "set eal \"--lcores 9@0,1@0 --main-lcore 9 --no-huge -m 256\"
        set idle sleep
        port attach src net_null0,size=100 txq 0
        port attach sink net_null1,no-rx=1 rxq 0
        tool create slow port sink rate 20kpps queue 64
        tool create count discard
        group create g tools count
        rule create 10 from src to slow,g
        start",
    );
    let works = |line: &Value| {
        real(line, "lcores/1/busy") > 0.9
            && real(line, "recent/packets_per_s") > 0.0
            && number(line, "tools/slow/recent/queue_peak") == 64
    };
    prompt.wait("the worker works", works);
    prompt.say("stop");
    let rests = prompt.wait("the worker rests", |line| {
        real(line, "lcores/1/busy") == 0.0
            && real(line, "recent/packets_per_s") == 0.0
            && number(line, "tools/slow/recent/queue_peak") == 0
    });
    assert!(number(&rests, "lcores/1/busy_ns") > 0 && number(&rests, "tools/slow/queue_peak") == 64);
    prompt.say("start");
    prompt.wait("the worker works again", works);
    let before = number(&bench.last(), "packets/received");
    prompt.say("clear stats");
    prompt.wait("statistics are cleared", |line| number(line, "packets/received") < before);
    prompt.wait("the worker works on", works);
    // with statistics of another interval: those of the file keep theirs
    prompt.say("show stats");
    let run = prompt.quit();
    let lines = bench.lines();
    assert!(lines.len() > 4, "{}", lines.len());
    lines.windows(2).for_each(|pair| assert_recent(&pair[0], &pair[1]));
    assert!(run.stdout.contains("pps, dropped "), "{}", run.stdout);
}

/// Batches to the writer are of 64 packets, whatever is in them.
#[test]
fn what_waits_for_a_captures_writer_is_counted_by_packets() {
    for (packets, least) in [(3, 3), (8, 8), (200, 64)] {
        let bench = Bench::new();
        bench.write("in.pcap", numbered(packets, 64, &[1]));
        let run = bench.run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
             tool create recorder capture @/out.pcapng
             rule create 10 from in0 to recorder",
            &[],
        );
        let peak = run.number("tools/recorder/queue_peak");
        assert!((least..=packets as u64).contains(&peak), "{peak} of {packets} packets");
        assert_eq!(run.number("tools/recorder/queue_depth"), 0);
    }
}
