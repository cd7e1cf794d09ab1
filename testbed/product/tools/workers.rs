//! Samplers, groups, limits and dedup on two workers at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;
use tapline_harness::lab::Account;

const FLOWS: u16 = 1000;

/// The datagram of a flow from its client, or the answer.
fn packet(flow: u16, is_answer: bool) -> Vec<u8> {
    let mut bytes = udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64);
    if is_answer {
        for (a, b, len) in [(26, 30, 4), (34, 36, 2)] {
            (0..len).for_each(|at| bytes.swap(a + at, b + at));
        }
    }
    bytes
}

/// The flow of a packet, whichever direction.
fn flow(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[18], bytes[19]])
}

/// Each flow's two directions come in by two taps, each thrice and by a worker of its own.
fn taps(bench: &Bench) -> &'static str {
    for (name, is_answer) in [("there.pcap", false), ("back.pcap", true)] {
        let packets: Vec<Vec<u8>> = (0..3 * FLOWS).map(|place| packet(place % FLOWS, is_answer)).collect();
        bench.write(name, &packets);
    }
    "
    set lcores 0-1
    set idle sleep
    port attach tap0 net_pcap0,rx_pcap=@/there.pcap txq 0
    port attach tap1 net_pcap1,rx_pcap=@/back.pcap txq 0
    "
}

fn has_two_cpus() -> bool {
    let is_enough = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2);
    if !is_enough {
        tapline_skip::skipped("two workers need two CPUs");
    }
    is_enough
}

fn assert_both_worked(run: &Account) {
    let received: Vec<u64> =
        ["0", "1"].iter().map(|lcore| run.number(&format!("lcores/{lcore}/received"))).collect();
    assert_eq!(received, [3 * u64::from(FLOWS); 2], "each worker had one tap");
}

#[test]
fn both_directions_of_a_flow_meet_in_one_tool_though_two_workers_send_them() {
    if !has_two_cpus() {
        return;
    }
    let bench = Bench::new();
    let run = bench.run(
        &format!(
            "{}
            port attach pa net_pcap2,tx_pcap=@/a.pcap rxq 0
            port attach pb net_pcap3,tx_pcap=@/b.pcap rxq 0
            port attach pc net_pcap4,tx_pcap=@/c.pcap rxq 0
            tool create a port pa
            tool create b port pb
            tool create c port pc
            group create ids tools a,b,c
            rule create 10 from any to ids",
            taps(&bench)
        ),
        &[],
    );
    assert_both_worked(&run);
    let mut tools = BTreeMap::<u16, BTreeSet<&str>>::new();
    let mut packets = BTreeMap::<Vec<u8>, u32>::new();
    for tool in ["a", "b", "c"] {
        for bytes in bench.read(&format!("{tool}.pcap")) {
            tools.entry(flow(&bytes)).or_default().insert(tool);
            *packets.entry(bytes).or_default() += 1;
        }
    }
    assert_eq!((tools.len(), packets.len()), (usize::from(FLOWS), 2 * usize::from(FLOWS)));
    assert!(packets.values().all(|&count| count == 3), "each packet thrice, none lost, none doubled");
    assert!(tools.values().all(|tools| tools.len() == 1), "a flow is split");
    assert_eq!(run.number("groups/ids/requested"), 6 * u64::from(FLOWS));
    assert!(
        run.number("groups/ids/flows").abs_diff(FLOWS.into()) <= 5,
        "a flow that both workers saw counts once"
    );
}

#[test]
fn samplers_and_limits_are_exact_over_two_workers() {
    if !has_two_cpus() {
        return;
    }
    let bench = Bench::new();
    let run = bench.run(
        &format!(
            "{}
            port attach pf net_pcap2,tx_pcap=@/flow.pcap rxq 0
            port attach pl net_pcap3,tx_pcap=@/limited.pcap rxq 0
            tool create flows port pf
            tool create limited port pl
            tool create nth discard
            tool create begin discard
            tool create budget discard
            rule create 10 from any sample flow 1/4 seed 9 to flows
            rule create 20 from any limit 777 packets to limited
            rule create 30 from any sample 1/7 to nth
            rule create 40 from any sample first 1 packets to begin
            rule create 50 from any sample rate 100mpps to budget",
            taps(&bench)
        ),
        &[],
    );
    assert_both_worked(&run);
    let mut kept = BTreeMap::<u16, u32>::new();
    bench.read("flow.pcap").iter().for_each(|bytes| *kept.entry(flow(bytes)).or_default() += 1);
    assert!(
        kept.values().all(|&count| count == 6),
        "a flow is kept whole, in both directions, or not at all"
    );
    assert!((190..310).contains(&kept.len()), "{} of 1000 flows", kept.len());
    assert_eq!(bench.read("limited.pcap").len(), 777);
    // each worker keeps its first and every seventh after it
    assert_eq!(run.number("tools/nth/sent"), 2 * (3 * u64::from(FLOWS)).div_ceil(7));
    // the directions are on two workers, each of which sees a flow begin
    assert_eq!(
        (run.number("tools/begin/sent"), run.number("rules/40/flows/begun")),
        (2 * u64::from(FLOWS), 2 * u64::from(FLOWS))
    );
    assert_eq!(run.number("tools/budget/sent"), 6 * u64::from(FLOWS));
    let share = |rule: &str| run.last()["rules"][rule]["sample_share"].as_f64();
    assert_eq!((share("10"), share("20"), share("30")), (Some(0.25), None, Some(1.0 / 7.0)));
    assert!(
        share("40").is_some_and(|share| (share - 1.0 / 3.0).abs() < 1e-9),
        "one packet of three: {:?}",
        share("40")
    );
    assert_eq!(share("50"), Some(1.0), "all of it fits the budget");
}

#[test]
fn each_worker_finds_the_duplicates_among_its_own_packets() {
    if !has_two_cpus() {
        return;
    }
    let bench = Bench::new();
    let run = bench.run(
        &format!(
            "{}\n tool create a discard\n rule create 10 from any dedup window 30s to a",
            taps(&bench)
        ),
        &[],
    );
    assert_both_worked(&run);
    let flows = u64::from(FLOWS);
    assert_eq!((run.number("packets/delivered"), run.number("packets/duplicate")), (2 * flows, 4 * flows));
    assert_eq!((run.number("dedup/10/packets"), run.number("dedup/10/duplicates")), (6 * flows, 4 * flows));
    let pairs = run.last()["dedup"]["10"]["pairs"].as_array().expect("pairs of ports");
    assert!(pairs.iter().all(|pair| pair["first"] == pair["duplicate"]) && pairs.len() == 2, "{pairs:?}");
}

#[test]
fn a_share_that_follows_the_traffic_is_reported() {
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..FLOWS).map(|flow| packet(flow, false)).collect();
    bench.write("in.pcap", &packets);
    let mut prompt = bench.start(
        "
        port attach tap0 net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        tool create a discard
        rule create 10 from tap0 sample rate 50kpps to a
        start
        ",
    );
    let share = |stats: &Value| stats["rules"]["10"]["sample_share"].as_f64().expect("a share");
    let low = prompt.wait("the share comes down", |stats| share(stats) < 0.5);
    println!("share {:.4} of more packets a second than the budget has", share(&low));
    let run = prompt.quit();
    let (matched, sent) = (run.number("rules/10/matched"), run.number("tools/a/sent"));
    assert!(sent < matched && run.number("packets/sampled_out") == matched - sent);
}

#[test]
fn two_workers_with_groups_and_samplers_account_for_every_packet_under_load() {
    if !has_two_cpus() {
        return;
    }
    let bench = Bench::new();
    let mut command = bench.command(
        "
        set lcores 0-1
        port attach in0 net_null0 rxq 2
        port attach ring0 net_ring0 rxq 0
        tool create a discard
        tool create b discard
        tool create full port ring0 queue 128 down-after 200ms
        group create ids tools a,b,full discard 10% hash mac
        rule create 10 from in0 sample random 1/3 to ids
        rule create 20 from in0 sample 1/5 to a
        rule create 30 from in0 dedup window 1ms memory 1Mi to b
        ",
        &["--duration", "2s", "--interval", "100ms"],
    );
    let run = bench.finish(command.output().expect("the program starts"));
    let received: Vec<u64> =
        ["0", "1"].iter().map(|lcore| run.number(&format!("lcores/{lcore}/received"))).collect();
    assert!(received.iter().all(|&packets| packets > 0), "{received:?}");
    let (matched, sampled_out) = (run.number("rules/10/matched"), run.number("rules/10/sampled_out"));
    assert_eq!(run.number("groups/ids/requested"), matched - sampled_out);
    assert_eq!(run.number("packets/received"), received.iter().sum::<u64>());
}

#[test]
fn both_workers_leave_a_drained_member_alone_and_come_back_to_it() {
    if !has_two_cpus() {
        return;
    }
    let bench = Bench::new();
    let taps = taps(&bench).replace(".pcap txq", ".pcap,infinite_rx=1 txq");
    let mut prompt = bench.start(&format!(
        "{taps}
        tool create a discard
        tool create b discard
        tool create c discard
        group create ids tools a,b,c
        rule create 10 from any sample 1/97 to ids
        start
        "
    ));
    let sent = |stats: &Value, tool: &str| stats["tools"][tool]["sent"].as_u64().expect("a number");
    let flows = |stats: &Value, key: &str| stats["groups"]["ids"][key].as_u64().expect("a number");
    let seen =
        prompt.wait("all flows are seen", |stats| flows(stats, "flows") >= u64::from(FLOWS) * 98 / 100);
    assert!(
        flows(&seen, "flows") <= u64::from(FLOWS) + 10,
        "two workers, the same flows: {}",
        flows(&seen, "flows")
    );
    prompt.say("tool drain b");
    let drained = prompt.wait_for_state("b", "drained");
    // a burst that a worker held as the table changed may end after the state does
    let settled = prompt.wait("bursts are over", |stats| sent(stats, "a") > sent(&drained, "a") + 10_000);
    let later = prompt.wait("the others go on", |stats| sent(stats, "c") > sent(&settled, "c") + 10_000);
    assert_eq!(sent(&settled, "b"), sent(&later, "b"), "neither worker sends to it");
    prompt.say("tool enable b");
    prompt.wait("b gets packets again", |stats| sent(stats, "b") > sent(&later, "b"));
    let run = prompt.quit();
    let (buckets, moved) = (run.number("groups/ids/buckets_moved"), run.number("groups/ids/flows_moved"));
    println!("{buckets} buckets and {moved} flows moved, there and back");
    assert_eq!(buckets, 2 * run.number("groups/ids/buckets/b"));
    assert!((500..850).contains(&moved), "twice a third of 1000 flows: {moved}");
}
