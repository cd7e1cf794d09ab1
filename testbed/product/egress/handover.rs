//! Copies that one worker makes and another sends: where they wait between the two they are of the tool's queue, and its limits and
//! reasons are those of a worker that does both.
//!
//! Lcores share the CPUs that there are, so that the stages need no more than one; they sleep when there is nothing to do.

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::{TIME_NS, numbered};
use tapline_harness::judges::u64_of;
use tapline_harness::pcap_files::write_pcap;

use super::RING_HOLDS;

const STAGES: &str = "set eal \"--lcores 9@0,(1-3)@0 --main-lcore 9\"
     set idle sleep
     set lcores receive 1 work 2 transmit 3
     ";

const INPUT: &str = "port attach in0 net_pcap0,rx_pcap=@/in.pcap\n";

/// Runs a plan in which the tool `t` is behind a ring from the lcore that makes its copies, with `count` packets; the tool's account.
fn run(count: usize, ports: &[u16], pipeline: &str, args: &[&str]) -> (Value, Bench) {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(count, 100, ports));
    let last = bench.run(&format!("{STAGES}{INPUT}{pipeline}"), args).last().clone();
    let tool = last["tools"]["t"].clone();
    assert_eq!(u64_of(&tool["requested"]), count as u64);
    (tool, bench)
}

const IDLE: &[&str] = &["--exit-idle", "600ms"];

#[test]
fn copies_are_put_in_order_in_queues_of_any_length() {
    for queue in [1, 10, 63, 64, 2000] {
        let pipeline = format!(
            "port attach out0 net_pcap1,tx_pcap=@/out.pcap rxq 0
             tool create t port out0 queue {queue} order window 1ms
             rule create 10 from in0 to t"
        );
        let (tool, bench) = run(1000, &[1], &pipeline, IDLE);
        let sent = u64_of(&tool["sent"]);
        assert!(sent >= queue.min(1000), "queue {queue}: {tool}");
        assert_eq!(u64_of(&tool["dropped"]["congested"]), 1000 - sent);
        assert_eq!(bench.read("out.pcap").len() as u64, sent);
        assert!(u64_of(&tool["queue_peak"]) <= queue, "queue {queue}: {tool}");
    }
}

#[test]
fn a_queue_in_order_holds_no_more_than_it_is_said_to() {
    let pipeline = "port attach stuck0 net_ring0 rxq 0
         tool create t port stuck0 queue 1000 order window 10s
         rule create 10 from in0 to t";
    let bench = Bench::new();
    bench.write("in.pcap", numbered(5000, 100, &[1]));
    let alone = bench.run(&format!("{INPUT}{pipeline}"), &[]).last().clone()["tools"]["t"].clone();
    assert_eq!(u64_of(&alone["sent"]), RING_HOLDS);
    for tool in [alone, run(5000, &[1], pipeline, IDLE).0] {
        assert_eq!(u64_of(&tool["queue_peak"]), 1000, "{tool}");
    }
}

#[test]
fn a_queue_is_bounded_in_packets_and_in_bytes_on_its_whole_way() {
    for (options, copies) in
        [("queue 500", 500), ("queue 4096", 4096), ("queue 4096 bytes 10000", 100), ("queue 3", 3)]
    {
        let pipeline = format!(
            "port attach stuck0 net_ring0 rxq 0
             tool create t port stuck0 {options}
             rule create 10 from in0 to t"
        );
        let (tool, _) = run(8000, &[1], &pipeline, IDLE);
        assert_eq!(u64_of(&tool["queue_peak"]), copies, "{options}: {tool}");
        // what waited to the end was given up then
        let ended = u64_of(&tool["sent"]) + u64_of(&tool["refused"]["normal"]["congested"]);
        assert!((8000 - copies..=8000).contains(&ended), "{options}: {tool}");
    }
}

#[test]
fn all_that_waits_is_the_depth_of_the_queue() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(8000, 100, &[1]));
    let pipeline = "port attach stuck0 net_ring0 rxq 0
         tool create t port stuck0 queue 3000 down-after 1h
         rule create 10 from in0 to t";
    bench.run(&format!("{STAGES}{INPUT}{pipeline}"), &["--exit-idle", "2s", "--interval", "100ms"]);
    let depths = bench.lines().iter().map(|line| u64_of(&line["tools"]["t"]["queue_depth"])).max();
    assert_eq!(depths, Some(3000));
}

#[test]
fn what_the_rate_holds_back_is_rate_limited_wherever_it_is_refused() {
    let bench = Bench::new();
    // over a second: the lcore that sends gets its turns among them, however busy the machine
    let packets: Vec<_> = (0..)
        .zip(numbered(20_000, 100, &[1]))
        .map(|(index, frame)| (TIME_NS + index * 50_000, frame, 100))
        .collect();
    write_pcap(&bench.path("in.pcap"), &packets);
    let pipeline = "port attach in0 replay:@/in.pcap
         port attach out0 net_null0 rxq 0
         tool create t port out0 queue 64 rate 1kpps burst 10ms
         rule create 10 from in0 to t";
    let tool = bench.run(&format!("{STAGES}{pipeline}"), IDLE).last().clone()["tools"]["t"].clone();
    assert!(u64_of(&tool["sent"]) >= 64, "{tool}");
    // before the rate is used up for the first time nothing but the way between the lcores fills the queue
    let limited = u64_of(&tool["dropped"]["rate_limited"]);
    assert_eq!(limited + u64_of(&tool["dropped"]["congested"]), 20_000 - u64_of(&tool["sent"]));
    assert!(limited > 10_000, "{tool}");
}

#[test]
fn classes_share_the_queue_on_its_whole_way() {
    let pipeline = "port attach stuck0 net_ring0 rxq 0
         tool create t port stuck0 queue 100 thresholds 20%,60%
         rule create 10 from in0 class low to t";
    let (tool, _) = run(5000, &[1], pipeline, IDLE);
    assert_eq!(u64_of(&tool["queue_peak"]), 20, "{tool}");
    let pipeline = "port attach stuck0 net_ring0 rxq 0
         tool create t port stuck0 queue 1000
         rule create 10 from in0 match \"udp dst port 1\" class high to t
         rule create 20 from in0 match \"udp dst port 2\" class low to t";
    let (tool, _) = run(9000, &[1, 2], pipeline, IDLE);
    assert_eq!(u64_of(&tool["queue_peak"]), 1000, "{tool}");
    let refused = |class: &str| u64_of(&tool["refused"][class]["congested"]);
    assert!(refused("low") > refused("high"), "{tool}");
}
