//! Egress of the running product: queues, classes, rates and latency over net_ring (a port that nobody drains), net_pcap and
//! net_null.
//!
//! Needs: nothing; EAL runs on ordinary memory, without privileges. Every run ends by checking both identities.

/// Packets that a driver cuts.
mod cut;
/// Packets that no tool gets go back to their pool.
mod free;
/// Copies that one worker makes and another sends.
mod handover;
/// What lcores say of themselves; alarms; a stuck worker.
mod lcores;
/// Mempools under tools that take nothing.
mod pools;
/// Originals pass both ways.
mod wires;

use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::judges::u64_of;

/// A tool whose port takes 1023 packets, the slots of net_ring's ring, and then nothing more.
const RING_HOLDS: u64 = 1023;

#[test]
fn a_blocked_tool_costs_the_others_nothing() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(5000, 64, &[1]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach stuck0 net_ring0 rxq 0
         port attach out0 net_pcap1,tx_pcap=@/out.pcap rxq 0
         tool create stuck port stuck0 queue 500
         tool create well port out0
         rule create 10 from in0 to stuck,well",
            &[],
        )
        .last()
        .clone();
    let (stuck, well) = (&last["tools"]["stuck"], &last["tools"]["well"]);
    assert_eq!(u64_of(&well["sent"]), 5000);
    assert_eq!(bench.read("out.pcap").len(), 5000);
    assert_eq!(u64_of(&stuck["requested"]), 5000);
    assert_eq!(u64_of(&stuck["sent"]), RING_HOLDS);
    assert_eq!(u64_of(&stuck["dropped"]["congested"]), 5000 - RING_HOLDS);
    assert_eq!(u64_of(&stuck["queue_peak"]), 500);
    // what the drain gave up is dropped too, but the queue had taken it
    assert_eq!(u64_of(&stuck["refused"]["normal"]["congested"]), 5000 - RING_HOLDS - 500);
}

#[test]
fn tools_of_a_congested_port_have_equal_parts_of_it() {
    let of_two_rules = "rule create 10 from a to t1
         rule create 11 from a to t2 class high";
    for rules in ["rule create 10 from a to t1,t2", of_two_rules] {
        let bench = Bench::new();
        bench.write("in.pcap", numbered(1000, 64, &[1]));
        // the ring takes as many copies as the worker takes out of it: a burst a turn, of the two that it is offered
        let pipeline = format!(
            "port attach a net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1
             port attach r net_ring0
             tool create t1 port r
             tool create t2 port r queue 100
             tool create d discard
             {rules}
             rule create 20 from r to d"
        );
        let last = bench.run(&pipeline, &["--duration", "1500ms"]).last().clone();
        let [t1, t2] = ["t1", "t2"].map(|tool| u64_of(&last["tools"][tool]["sent"]));
        assert!(t1 + t2 > 100_000, "{t1} and {t2}");
        assert!(t1.abs_diff(t2) < (t1 + t2) / 10, "{rules}: {t1} and {t2}");
        assert_eq!(last["events"], serde_json::json!([]), "no tool is down");
    }
}

#[test]
fn under_congestion_low_goes_first_and_high_last() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(9000, 64, &[1, 2, 3]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach stuck0 net_ring0 rxq 0
         tool create stuck port stuck0 queue 1000
         rule create 10 from in0 match \"udp dst port 1\" class high to stuck
         rule create 20 from in0 match \"udp dst port 2\" to stuck
         rule create 30 from in0 match \"udp dst port 3\" class low to stuck",
            &[],
        )
        .last()
        .clone();
    let stuck = &last["tools"]["stuck"];
    let refused = |class: &str| u64_of(&stuck["refused"][class]["congested"]);
    assert_eq!(u64_of(&stuck["requested"]), 9000);
    assert_eq!(u64_of(&stuck["queue_peak"]), 1000);
    assert_eq!(refused("high") + refused("normal") + refused("low"), 9000 - RING_HOLDS - 1000);
    // The classes alternate. Up to half of the queue each has a third of what is taken; from there to four fifths high and normal
    // have a half; the rest is high's. One burst and the drivers' burst blur the edges.
    let taken = |class: &str| 3000 - refused(class);
    let near = |got: u64, expected: u64| got.abs_diff(expected) <= 70;
    let shared = (RING_HOLDS + 500) / 3;
    assert!(near(taken("low"), shared), "{}", taken("low"));
    assert!(near(taken("normal"), shared + 150), "{}", taken("normal"));
    assert!(near(taken("high"), shared + 350), "{}", taken("high"));
}

#[test]
fn a_queue_is_bounded_in_bytes() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(3000, 1000, &[1]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach stuck0 net_ring0 rxq 0
         tool create stuck port stuck0 queue 4096 bytes 100000
         rule create 10 from in0 to stuck",
            &[],
        )
        .last()
        .clone();
    let stuck = &last["tools"]["stuck"];
    assert_eq!(u64_of(&stuck["queue_peak"]), 100);
    assert_eq!(u64_of(&stuck["refused"]["normal"]["congested"]), 3000 - RING_HOLDS - 100);
    assert_eq!(u64_of(&stuck["dropped"]["congested"]), 3000 - RING_HOLDS);
}

#[test]
fn a_rate_is_kept_and_its_overflow_counted_as_rate_limited() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(20_000, 64, &[1]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach out0 net_null0 rxq 0
         tool create slow port out0 queue 64 rate 1kpps burst 10ms
         rule create 10 from in0 to slow",
            &[],
        )
        .last()
        .clone();
    let slow = &last["tools"]["slow"];
    let most = 1000.0 * last["uptime_s"].as_f64().expect("a number") + 10.0 + 1.0;
    assert!(u64_of(&slow["sent"]) as f64 <= most, "{} of {most}", slow["sent"]);
    assert!(u64_of(&slow["sent"]) >= 10 + 64, "{}", slow["sent"]);
    assert_eq!(u64_of(&slow["dropped"]["congested"]), 0);
    assert_eq!(u64_of(&slow["dropped"]["rate_limited"]), 20_000 - u64_of(&slow["sent"]));
}

#[test]
fn a_queue_absorbs_what_its_rate_holds_back() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(2000, 200, &[1]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach out0 net_pcap1,tx_pcap=@/out.pcap rxq 0
         tool create slow port out0 queue 2000 rate 16mbit
         rule create 10 from in0 to slow",
            &[],
        )
        .last()
        .clone();
    let slow = &last["tools"]["slow"];
    assert_eq!(u64_of(&slow["sent"]), 2000);
    assert!(u64_of(&slow["queue_peak"]) > 100, "{}", slow["queue_peak"]);
    assert_eq!(bench.read("out.pcap").concat(), bench.read("in.pcap").concat());
}

#[test]
fn latency_is_measured_through_queues_too() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(20_000, 64, &[1, 2]));
    let last = bench
        .run(
            "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach out0 net_null0 rxq 0
         port attach out1 net_null1 rxq 0
         tool create whole port out0
         tool create half port out1
         rule create 10 from in0 to whole
         rule create 20 from in0 match \"udp dst port 2\" to half",
            &[],
        )
        .last()
        .clone();
    for tool in ["whole", "half"] {
        let latency = &last["tools"][tool]["latency_ns"];
        // 20000 packets are at least 313 bursts, of which one in 64 is timed
        assert!(u64_of(&latency["samples"]) >= 4, "{tool}: {latency}");
        let of = |key: &str| u64_of(&latency[key]);
        assert!(
            0 < of("p50") && of("p50") <= of("p99") && of("p99") <= of("p999") && of("p999") <= of("max"),
            "{latency}"
        );
    }
    let all = u64_of(&last["latency_ns"]["samples"]);
    assert_eq!(
        all,
        u64_of(&last["tools"]["whole"]["latency_ns"]["samples"])
            + u64_of(&last["tools"]["half"]["latency_ns"]["samples"])
    );
}
