//! What statistics say after `clear stats`, and while packets are on their way.

use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;

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
