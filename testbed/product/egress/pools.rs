//! Pools: tools that take nothing keep their queues and their ports' rings full, and cost nobody else a packet, whatever Tapline
//! chose for the mempools; where the user chose less, it is said.

use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::judges::{assert_balanced, u64_of};
use tapline_harness::programs::tapline;

use super::RING_HOLDS;

/// Ports and tools `stuck1` to `stuckN` that nobody drains, and a rule that sends to them and `well`; `options` stand behind each.
fn stuck(count: usize, options: &str) -> String {
    let tool = |index| {
        format!(
            "port attach stuck{index} net_ring{index} rxq 0\ntool create stuck{index} port stuck{index} {options}\n"
        )
    };
    let names: Vec<String> = (1..=count).map(|index| format!("stuck{index}")).collect();
    format!(
        "{}rule create 10 from in0 to {},well",
        (1..=count).map(tool).collect::<String>(),
        names.join(",")
    )
}

/// Each of them has its port's ring and its queue full.
fn assert_stuck(last: &Value, count: usize, queue: u64) {
    for index in 1..=count {
        let tool = &last["tools"][format!("stuck{index}")];
        assert_eq!((u64_of(&tool["sent"]), u64_of(&tool["queue_peak"])), (RING_HOLDS, queue), "{tool}");
        assert_eq!(
            u64_of(&tool["dropped"]["congested"]),
            u64_of(&tool["requested"]) - RING_HOLDS,
            "{tool}"
        );
    }
}

#[test]
fn tools_that_take_nothing_leave_mbufs_to_receive_into() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(20_000, 64, &[1]));
    for source in ["net_pcap0,rx_pcap=@/in.pcap", "replay:@/in.pcap,speed=max"] {
        let last = bench
            .run(
                &format!(
                    "port attach in0 {source}
             tool create well discard
             {}",
                    stuck(2, "")
                ),
                &[],
            )
            .last()
            .clone();
        assert_eq!(u64_of(&last["tools"]["well"]["sent"]), 20_000, "{source}");
        assert_stuck(&last, 2, 4096);
    }
}

#[test]
fn packets_that_the_driver_keeps_are_not_those_to_receive_into() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(6000, 64, &[1]));
    let last = bench
        .run(
            &format!(
                "port attach in0 net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1
                 tool create well discard
                 {}",
                stuck(1, "")
            ),
            &["--duration", "1s"],
        )
        .last()
        .clone();
    // far more than all mbufs that there are
    assert!(u64_of(&last["tools"]["well"]["sent"]) > 50_000, "{}", last["tools"]["well"]);
    assert_stuck(&last, 1, 4096);
}

#[test]
fn edited_copies_for_tools_that_take_nothing_leave_mbufs_for_the_others() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(10_000, 64, &[1]));
    let last = bench
        .run(
            &format!(
                "port attach in0 net_pcap0,rx_pcap=@/in.pcap
         port attach out0 net_null0 rxq 0
         tool create well port out0 tag vlan 9
         {}",
                stuck(4, "tag vlan 7")
            ),
            &[],
        )
        .last()
        .clone();
    assert_eq!(u64_of(&last["tools"]["well"]["sent"]), 10_000);
    assert_stuck(&last, 4, 4096);
}

#[test]
fn a_queue_for_edited_copies_is_as_long_as_it_is_said_to_be() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(30_000, 64, &[1]));
    let pipeline = "port attach in0 net_pcap0,rx_pcap=@/in.pcap\ntool create well discard\n";
    let last = bench.run(&format!("{pipeline}{}", stuck(1, "queue 20000 tag vlan 7")), &[]).last().clone();
    assert_stuck(&last, 1, 20_000);
}

#[test]
fn a_mempool_that_tools_can_use_up_is_warned_of_with_what_is_needed() {
    let bench = Bench::new();
    let pipeline = |mempool: u32| {
        format!(
            "set mempool {mempool}
             port attach in0 net_null0
             tool create well discard
             {}",
            stuck(1, "queue 1000")
        )
    };
    let check = |mempool| {
        std::fs::write(bench.path("test.pipe"), pipeline(mempool)).expect("the folder can be written");
        let output =
            Command::new(tapline()).arg("check").arg(bench.path("test.pipe")).output().expect("it runs");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // descriptors, a worker's cache and hands, the queue, and the ring behind it
    let needed = 1024 + 832 + 1000 + 1024;
    let text = check(needed - 1);
    assert!(
        text.contains(
            "test.pipe:1:13: warning: tools that take nothing can use up a mempool of 3879 mbufs"
        ),
        "{text}"
    );
    assert!(text.contains("raise it to 3880"), "{text}");
    assert_eq!(check(needed), "");
    // and what is needed is enough
    let run = bench.run(&pipeline(needed), &["--duration", "700ms"]);
    let (last, text) = (run.last(), &run.stderr);
    assert!(!text.contains("use up a mempool"), "{text}");
    assert!(u64_of(&last["tools"]["well"]["sent"]) > 20_000, "{}", last["tools"]["well"]);
    assert_stuck(last, 1, 1000);
}

#[test]
fn a_replay_that_finds_no_mbuf_has_failed_and_says_so() {
    let bench = Bench::new();
    bench.write("in.pcap", numbered(5000, 64, &[1]));
    let pipeline = format!(
        "set mempool 2000
         port attach in0 replay:@/in.pcap,speed=max
         tool create well discard
         {}",
        stuck(1, "")
    );
    let output = bench.command(&pipeline, &["--exit-idle", "400ms"]).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = bench.last();
    assert_balanced(&last);
    let read = u64_of(&last["packets"]["received"]);
    assert!(read < 2000, "{read}");
    let said = format!("port in0: {read} packets were read, and the next finds none of 2000 mbufs free");
    for before in ["alarm raised", "error"] {
        assert!(text.contains(&format!("{before}: {said}")), "{text}");
    }
    assert!(text.contains(&format!("(packets left: {})", 5000 - read)), "{text}");
    let waited = u64_of(&last["ports"]["in0"]["driver"]["no_mbuf"]);
    assert!((1..=64).contains(&waited), "each packet that waits counts once: {waited}");
}
