//! Wires of the running product: originals pass both ways unmodified, whatever becomes of their copies.

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::judges::u64_of;

const WIRE: &str = "port attach a0 net_pcap0,rx_pcap=@/a.pcap,tx_pcap=@/to-a.pcap
     port attach b0 net_pcap1,rx_pcap=@/b.pcap,tx_pcap=@/to-b.pcap
     ";

fn wired() -> Bench {
    let bench = Bench::new();
    bench.write("a.pcap", numbered(5000, 100, &[1, 2]));
    bench.write("b.pcap", numbered(3000, 200, &[3]));
    bench
}

fn check_wire(bench: &Bench, last: &Value) {
    let wire = &last["wires"]["w0"];
    for (way, from, to) in [("a_to_b", "a.pcap", "to-b.pcap"), ("b_to_a", "b.pcap", "to-a.pcap")] {
        let count = |name: &str| u64_of(&wire[way][name]);
        let dropped: u64 = wire[way]["dropped"].as_object().expect("reasons").values().map(u64_of).sum();
        assert_eq!(count("received"), count("forwarded") + dropped);
        assert_eq!(count("forwarded"), bench.read(from).len() as u64);
        assert!(bench.read(to).concat() == bench.read(from).concat(), "{from} and {to} differ");
    }
}

#[test]
fn originals_pass_both_ways_whatever_the_rules_say() {
    let bench = wired();
    let last = bench
        .run(
            &format!(
                "{WIRE}
         port attach ids0 net_pcap2,tx_pcap=@/ids.pcap rxq 0
         tool create ids port ids0
         wire create w0 ports a0,b0
         rule create 10 from w0 match \"udp dst port 2\" drop
         rule create 20 from w0:a-to-b sample 1/10 to ids"
            ),
            &[],
        )
        .last()
        .clone();
    check_wire(&bench, &last);
    assert_eq!(bench.read("ids.pcap").len(), 250);
    assert_eq!(u64_of(&last["copies"]["requested"]), 250);
    let packets = &last["packets"];
    let ends = ["delivered", "excluded", "sampled_out", "unmatched"].map(|end| u64_of(&packets[end]));
    assert_eq!(ends, [250, 2500, 2250, 3000]);
    assert!(last["tools"].get("w0:a-to-b").is_none(), "a wire is not a tool");
}

#[test]
fn a_tool_that_takes_nothing_costs_no_original() {
    let bench = wired();
    let last = bench
        .run(
            &format!(
                "{WIRE}
         port attach stuck0 net_ring0 rxq 0
         tool create stuck port stuck0 queue 2000
         wire create w0 ports a0,b0
         rule create 10 from w0 class low to stuck"
            ),
            &[],
        )
        .last()
        .clone();
    check_wire(&bench, &last);
    assert_eq!(u64_of(&last["tools"]["stuck"]["requested"]), 8000);
    assert_eq!(u64_of(&last["tools"]["stuck"]["queue_peak"]), 1000);
}

#[test]
fn a_wire_with_bypass_forwards_while_rules_do_not_run() {
    let bench = wired();
    let pipeline = format!(
        "{WIRE}
         tool create count discard
         wire create w0 ports a0,b0 bypass
         rule create 10 from any to count
         start
         stop"
    );
    let last = bench.run(&pipeline, &["--duration", "1s"]).last().clone();
    check_wire(&bench, &last);
    assert_eq!(u64_of(&last["packets"]["received"]), 8000);
}

#[test]
fn a_wire_with_bypass_forwards_nothing_that_rules_have_not_judged_before_the_first_start() {
    // the workers are at work before the control thread gets to `start`, sooner or later
    for _ in 0..5 {
        let bench = wired();
        let last = bench
            .run(
                &format!(
                    "{WIRE}
             tool create count discard
             wire create w0 ports a0,b0 bypass
             rule create 10 from w0:a-to-b drop
             rule create 20 from w0 to count
             stop
             start"
                ),
                &[],
            )
            .last()
            .clone();
        check_wire(&bench, &last);
        let packets = &last["packets"];
        assert_eq!(
            ["excluded", "delivered", "unmatched"].map(|end| u64_of(&packets[end])),
            [5000, 3000, 0]
        );
    }
}

#[test]
fn what_a_wire_cannot_be_is_refused() {
    let bench = wired();
    let pipeline = format!(
        "{WIRE}
         port attach c0 net_null0 rxq 0
         tool create ids port a0
         wire create w0 ports a0,b0
         wire create w1 ports b0,c0
         rule create 10 from w2:a-to-b to ids
         rule create 20 from w0,a0 to ids"
    );
    let output = bench.command(&pipeline, &[]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for message in [
        "tool `ids` sends on port `a0`, a side of wire `w0`",
        "port `b0` is a side of a wire already",
        "port `c0` has no receive queue",
        "unknown wire `w2`",
        "port `a0` is named twice",
    ] {
        assert!(text.contains(message), "{message}\n{text}");
    }
}
