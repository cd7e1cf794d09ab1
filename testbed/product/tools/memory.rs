//! What workers ask of the heap while packets flow, counted by a library that is preloaded (`count_allocations.c`).

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;

/// Allocations so far: by workers, and by other threads.
fn allocations(file: &Path) -> [u64; 2] {
    let bytes = std::fs::read(file).expect("the file is there");
    [0, 8].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes")))
}

#[test]
fn workers_allocate_nothing_while_tables_fill_flows_are_evicted_and_buckets_move() {
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..5000)
        .map(|flow: u16| udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64))
        .collect();
    bench.write("in.pcap", &packets);
    let (library, file) = (bench.path("count_allocations.so"), bench.path("allocations"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/product/tools/count_allocations.c");
    let made =
        Command::new("gcc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status();
    if !made.is_ok_and(|status| status.success()) {
        tapline_skip::skipped("no gcc");
        return;
    }
    std::fs::write(&file, [0; 16]).expect("the file is written");
    let mut prompt = bench.start_with(
        "set flows 500 idle 1s max-age 2s
        port attach tap0 net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach ring net_ring0 rxq 0
        tool create a discard
        tool create b discard
        tool create c discard
        tool create stuck port ring queue 64 down-after 300ms
        port attach paced net_null0,no-rx=1 rxq 0
        tool create slow port paced queue 64 rate 1kpps
        group create ids tools a,b,stuck return idle 200ms
        rule create 10 from tap0 sample first 3 packets to a
        rule create 20 from tap0 dedup window 1s memory 64Ki action count to slow
        rule create 30 from tap0 sample random 1/10 to ids
        rule create 40 from tap0 sample rate 50kpps hash ip to c
        rule create 50 from tap0 match \"udp\" sample flow 1/10 slice 50 to c
        rule create 60 from tap0 sample every 10ms for 1ms to slow
        rule create 70 from tap0 sample 1/7 limit 1M packets to slow
        start
        ",
        &[("LD_PRELOAD", &library), ("TAPLINE_ALLOCATIONS", &file)],
    );
    let number = |stats: &Value, pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let begun = prompt.wait("flows are evicted", |stats| number(stats, "/rules/10/flows/evicted") > 1000);
    let before = allocations(&file);
    prompt.wait_for_state("stuck", "down");
    prompt.say("tool drain b");
    // busy buckets stay with it
    prompt.wait("b is on its way out", |stats| stats["tools"]["b"]["state"] != "up");
    prompt.say("tool enable b");
    prompt.wait_for_state("b", "up");
    let last = prompt.wait("a million packets were looked at", |stats| {
        number(stats, "/packets/received") > number(&begun, "/packets/received") + 1_000_000
            && number(stats, "/rules/10/flows/evicted") > 10_000
            && number(stats, "/dedup/20/forgotten") > 10_000
    });
    let after = allocations(&file);
    prompt.quit();
    println!(
        "{} packets, {} flows evicted, {} buckets moved: {} allocations by workers, {} by others",
        number(&last, "/packets/received"),
        number(&last, "/rules/10/flows/evicted"),
        number(&last, "/groups/ids/buckets_moved"),
        after[0] - before[0],
        after[1] - before[1]
    );
    assert!(number(&last, "/groups/ids/buckets_moved") > 1365, "{last}");
    assert!(before[0] > 0 && after[1] > before[1], "the library counts");
    assert_eq!(after[0], before[0], "workers allocate while packets flow");
}
