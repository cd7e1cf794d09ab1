//! What lcores say of themselves: how they spend their time, a stall, alarms; and that a stuck worker does not hold up the end.

use std::io::Write;
use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::judges::{assert_balanced, u64_of};
use tapline_harness::pcap_files::pcap_bytes;

fn only_lcore(last: &Value) -> &Value {
    last["lcores"].as_object().and_then(|lcores| lcores.values().next()).expect("a worker")
}

#[test]
fn lcores_tell_polls_bursts_sleeps_and_cycles() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(20_000, 64, &[1, 2]));
    let pipeline = "set burst 32
         set idle sleep
         port attach in0 net_pcap0,rx_pcap=@/in.pcap
         tool create count discard
         rule create 10 from in0 match \"udp dst port 2\" to count";
    let run = bench.run(pipeline, &["--exit-idle", "400ms", "--profile"]);
    let lcore = only_lcore(run.last());
    let bursts: u64 = lcore["bursts"].as_object().expect("sizes").values().map(u64_of).sum();
    assert_eq!(bursts, u64_of(&lcore["polls"]) - u64_of(&lcore["empty_polls"]));
    // the pcap gives full bursts of 32
    assert_eq!(u64_of(&lcore["bursts"]["32-63"]), 20_000 / 32);
    assert!(u64_of(&lcore["sleeps"]) > 0);
    let busy = lcore["busy"].as_f64().expect("a share");
    assert!(0.0 < busy && busy < 1.0, "{busy}");
    let cycles = &lcore["cycles_per_packet"];
    // one burst in 256 of 625
    assert_eq!(u64_of(&cycles["packets"]), 3 * 32);
    for stage in ["receive", "classify", "route", "egress"] {
        assert!(cycles[stage].as_f64().is_some_and(|cycles| cycles > 0.0), "{cycles}");
    }
    assert!(run.stdout.contains("cycles/packet"), "{}", run.stdout);
}

#[test]
fn a_queue_that_stays_full_raises_an_alarm() {
    // full of packets, and of bytes long before that
    for queue in ["queue 100", "queue 4096 bytes 6400"] {
        let bench = Bench::new();
        bench.write("in.pcap", numbered(3000, 64, &[1]));
        let pipeline = format!(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
             port attach stuck0 net_ring0 rxq 0
             tool create stuck port stuck0 {queue} alarm 80% hold 300ms
             tool create well discard
             rule create 10 from in0 to stuck,well"
        );
        let text = bench.run(&pipeline, &["--exit-idle", "1500ms", "--interval", "200ms"]).stderr;
        assert!(text.contains("alarm raised: tool stuck: queue above 80% for 0.3 s"), "{queue}: {text}");
        assert!(
            bench
                .lines()
                .iter()
                .any(|line| line["tools"]["stuck"]["alarms"] == serde_json::json!(["queue"]))
        );
        assert_eq!(bench.last()["tools"]["well"]["alarms"], serde_json::json!([]));
    }
}

#[test]
fn a_rate_that_is_used_up_raises_an_alarm_however_low_it_is() {
    let bench = Bench::new();
    // less than a packet in a look, and between one and two
    let rates = [
        ("net_null1", "5pps", 80),
        ("net_null2", "12pps burst 1s", 90),
        ("net_null3", "10kbit burst 1s", 90),
    ];
    let tools: String = rates
        .iter()
        .map(|(name, rate, percent)| {
            format!("port attach {name} {name} rxq 0\ntool create {name} port {name} rate {rate} alarm {percent}% hold 500ms\n")
        })
        .collect();
    let pipeline = format!(
        "set idle sleep\nport attach in0 net_null0\n{tools}rule create 10 from in0 to net_null1,net_null2,net_null3"
    );
    let text = bench.run(&pipeline, &["--duration", "5s"]).stderr;
    for (tool, rate, percent) in rates {
        let raised = format!("alarm raised: tool {tool}: utilisation above {percent}% for 0.5 s");
        assert!(text.contains(&raised), "{rate}: {text}");
    }
    assert!(!text.contains("alarm cleared"), "{text}");
}

#[test]
fn tables_show_what_queues_and_classes_lost_with_alarms_and_latency() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(3000, 64, &[1, 2]));
    let pipeline = "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach stuck0 net_ring0 rxq 0
         tool create stuck port stuck0 queue 100 alarm 80% hold 300ms
         tool create well discard
         rule create 10 from in0 match \"udp dst port 1\" class high to stuck,well
         rule create 20 from in0 match \"udp dst port 2\" class low to stuck";
    let run = bench.run(pipeline, &["--exit-idle", "1500ms"]);
    let (last, text) = (run.last(), &run.stdout);
    // the words of a row by the head of its column; heads are set apart by two spaces
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let tables: Vec<Vec<Vec<String>>> =
        text.split("\n\n").map(|table| table.lines().map(cells).collect()).collect();
    let table = |head: &str| {
        tables
            .iter()
            .find(|table| table[0].join("|") == head)
            .unwrap_or_else(|| panic!("{head} in\n{text}"))
    };
    let stuck = &last["tools"]["stuck"];
    let dropped = u64_of(&stuck["dropped"]["congested"]).to_string();
    let rows = table("tool|state|requested|sent|bytes|dropped|congested|alarms");
    assert_eq!(rows[1][5..], [dropped.as_str(), &dropped, "queue"].map(with_comma), "{text}");
    assert_eq!(rows[2].len(), 7, "a tool without an alarm has none: {text}");
    // neither a tool that discards nor a queue that is empty has anything to show
    let rows = table("tool|queue peak|latency p50|p99|max");
    assert_eq!((rows.len(), rows[1][..2].join(" ")), (2, "stuck 100".to_owned()), "{text}");
    let is_time = |cell: &String| [" ns", " µs", " ms", " s"].iter().any(|unit| cell.ends_with(unit));
    assert!(rows[1].len() == 5 && rows[1][2..].iter().all(is_time), "{text}");
    let rows = table("tool|class|dropped|congested");
    let expected = ["high", "low"].map(|class| {
        let refused = with_comma(&u64_of(&stuck["refused"][class]["congested"]).to_string());
        vec!["stuck".to_owned(), class.to_owned(), refused.clone(), refused]
    });
    assert_eq!(rows[1..], expected, "{text}");
}

/// `1234` as tables have it.
fn with_comma(number: &str) -> String {
    if number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{},{}", &number[..1], &number[1..])
    } else {
        number.to_owned()
    }
}

#[test]
fn a_stuck_worker_is_named_and_does_not_hold_up_the_end() {
    let bench = Bench::new();
    let fifo = bench.path("in.fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let pipeline = "set burst 32
         port attach in0 net_pcap0,rx_pcap=@/in.fifo
         tool create count discard
         rule create 10 from in0 to count";
    let broker_process =
        bench.command(pipeline, &["--duration", "1500ms"]).spawn().expect("the binary runs");
    // three bursts; then the driver's read of the pipe blocks, and with it the worker
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&fifo).expect("the broker reads the pipe");
    pipe.write_all(&pcap_bytes(numbered(96, 64, &[1]))).expect("the broker reads the pipe");
    let output = broker_process.wait_with_output().expect("the broker ends although the pipe is open");
    drop(pipe);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the worker has been in stage receive for"), "{text}");
    assert!(text.contains("worker did not return; it is stuck in stage receive"), "{text}");
    let last = bench.last();
    assert_balanced(&last);
    assert_eq!(u64_of(&last["packets"]["received"]), 96);
    let lcore = only_lcore(&last);
    assert_eq!(lcore["stage"], "receive");
    assert_eq!(lcore["is_stalled"], true);
    assert_eq!(u64_of(&lcore["stalls"]), 1);
}
