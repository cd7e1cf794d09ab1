//! Tools that fail or are taken out of service, in the running program, on devices of this machine.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tapline_harness::bench::{Bench, now};
use tapline_harness::frames::udp;
use tapline_harness::lab::Account;
use tapline_harness::links::{Pairs, ip};

/// A thousand flows, each once.
fn flows(bench: &Bench) {
    let packets: Vec<Vec<u8>> =
        (0..1000).map(|flow| udp(flow, [198, 18, 1, (flow % 250) as u8], 1024 + flow, 64)).collect();
    bench.write("in.pcap", &packets);
}

const TOOLS: &str = "
    port attach tap0 net_pcap0,rx_pcap=@/in.pcap
    tool create a discard
    tool create b discard
    tool create c discard
";

fn sent(run: &Account) -> [u64; 3] {
    ["a", "b", "c"].map(|tool| run.number(&format!("tools/{tool}/sent")))
}

#[test]
fn a_drained_member_gets_nothing_and_the_others_share_its_flows() {
    let bench = Bench::new();
    flows(&bench);
    let group = "
        group create ids tools a,b,c
        rule create 10 from tap0 to ids
    ";
    let before = sent(&bench.run(&format!("{TOOLS}{group}"), &[]));
    assert_eq!(before.iter().sum::<u64>(), 1000);
    let after = sent(&bench.run(&format!("{TOOLS}{group} tool drain b"), &[]));
    assert_eq!((after.iter().sum::<u64>(), after[1]), (1000, 0));
    assert!(after[0] > before[0] && after[2] > before[2], "{before:?} {after:?}");
}

#[test]
fn a_standby_takes_the_whole_place_of_a_member_that_is_out() {
    let bench = Bench::new();
    flows(&bench);
    let group = "
        group create ids tools a,b standby c
        rule create 10 from tap0 to ids
    ";
    let before = sent(&bench.run(&format!("{TOOLS}{group}"), &[]));
    assert_eq!(before[2], 0);
    let after = sent(&bench.run(&format!("{TOOLS}{group} tool drain a"), &[]));
    assert_eq!(after, [0, before[1], before[0]]);
}

#[test]
fn below_min_up_a_group_drops_its_copies_as_down() {
    let bench = Bench::new();
    flows(&bench);
    let rest = "
        rule create 10 from tap0 to ids
        tool drain b
    ";
    let run = bench.run(&format!("{TOOLS} group create ids tools a,b min-up 2 below drop {rest}"), &[]);
    assert_eq!(run.number("groups/ids/unassigned/dropped/down"), 1000);
    assert_eq!((run.number("copies/requested"), run.number("copies/dropped/down")), (1000, 1000));
    let run = bench.run(&format!("{TOOLS} group create ids tools a,b min-up 2 below spread {rest}"), &[]);
    assert_eq!(run.number("tools/a/sent"), 1000);
}

#[test]
fn copies_for_a_single_tool_that_is_out_are_dropped_as_down() {
    let bench = Bench::new();
    flows(&bench);
    let run = bench.run(&format!("{TOOLS} rule create 10 from tap0 to a,b\n tool drain b"), &[]);
    assert_eq!((run.number("tools/a/sent"), run.number("tools/b/dropped/down")), (1000, 1000));
    assert_eq!(run.last()["tools"]["b"]["state"], "drained");
}

#[test]
fn the_discard_share_is_accounted_for() {
    let bench = Bench::new();
    flows(&bench);
    let run = bench.run(
        &format!("{TOOLS} group create ids tools a,b discard 50%\n rule create 10 from tap0 to ids"),
        &[],
    );
    let discarded = run.number("groups/ids/unassigned/sent");
    assert_eq!(sent(&run).iter().sum::<u64>() + discarded, 1000);
    assert!((400..600).contains(&discarded), "{discarded}");
}

#[test]
fn a_tool_is_drained_and_enabled_at_the_prompt_while_packets_flow() {
    let bench = Bench::new();
    let pipeline = "
        set idle sleep
        port attach tap0 net_null0
        tool create a discard
        tool create b discard
        group create ids tools a,b
        rule create 10 from tap0 to ids
        start
    ";
    let mut command = bench.command(pipeline, &["-i", "--interval", "50ms"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut prompt = child.stdin.take().expect("a pipe");
    bench.wait_for_packets();
    for line in ["tool drain a", "tool enable a", "quit"] {
        writeln!(prompt, "{line}").expect("the program reads");
        std::thread::sleep(Duration::from_millis(500));
    }
    let run = bench.finish(child.wait_with_output().expect("the program ends"));
    let changes: Vec<(&str, &str)> = events(&run, "a");
    assert_eq!(changes, [("draining", "drain"), ("drained", "emptied"), ("up", "enable")]);
    let halves = run.number("groups/ids/buckets/a");
    assert_eq!(run.number("groups/ids/buckets_moved"), 2 * halves, "{}", run.stderr);
}

fn events<'a>(run: &'a Account, tool: &str) -> Vec<(&'a str, &'a str)> {
    let events = run.last()["events"].as_array().expect("events are listed");
    let word = |event: &'a Value, key: &str| event[key].as_str().expect("a word");
    events
        .iter()
        .filter(|event| event["tool"] == tool)
        .map(|event| (word(event, "to"), word(event, "reason")))
        .collect()
}

#[test]
fn a_veth_that_goes_in_mid_traffic_moves_its_buckets_alone_and_loses_no_account() {
    let tag = std::process::id() % 10_000;
    let names = ["a", "b", "c"].map(|tool| format!("tl{tag}{tool}"));
    let Some(_pairs) = Pairs::new(&names.each_ref().map(String::as_str)) else { return };
    let bench = Bench::new();
    flows(&bench);
    let [a, b, c] = &names;
    let pipeline = format!(
        "
        set idle sleep
        port attach tap0 net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach pa net_af_packet0,iface={a} rxq 0
        port attach pb net_af_packet1,iface={b} rxq 0
        port attach pc net_af_packet2,iface={c} rxq 0
        tool create a port pa
        tool create b port pb
        tool create c port pc
        group create ids tools a,b,c
        rule create 10 from tap0 sample 1/97 to ids
        "
    );
    let mut prompt = bench.start(&format!("{pipeline}\nstart\n"));
    let is_seen = |stats: &Value| stats["groups"]["ids"]["flows"].as_u64() >= Some(980);
    prompt.wait("all flows are seen", is_seen);
    let since = now();
    assert!(ip(&format!("link delete {b}")), "the interface goes");
    let down = prompt.wait_for_state("b", "down");
    let sent = |stats: &Value| stats["tools"]["a"]["sent"].as_u64().expect("a number");
    prompt.wait("the others go on", |stats| sent(stats) > sent(&down) + 1000);
    let run = prompt.quit();
    let at = run.last()["events"][0]["time"].as_f64().expect("a time");
    println!("b link_down after {:.0} ms", (at - since) * 1e3);
    assert_eq!(events(&run, "b"), [("down", "link_down")], "{}", run.stderr);
    assert!(events(&run, "a").is_empty() && events(&run, "c").is_empty());
    let buckets = |stats: &Value| {
        ["a", "b", "c"].map(|tool| stats["groups"]["ids"]["buckets"][tool].as_u64().expect("a number"))
    };
    let (first, last) = (buckets(&run.lines[0]), buckets(run.last()));
    assert_eq!(run.number("groups/ids/buckets_moved"), first[1]);
    assert_eq!((last[1], last[0] + last[2]), (0, first.iter().sum()));
    assert!(last[0].abs_diff(last[2]) <= 1, "{last:?}");
    let lost = &run.last()["tools"]["b"]["dropped"];
    let flows = run.number("groups/ids/flows_moved");
    println!(
        "{} of {} buckets moved with about {flows} flows; copies of b lost: {lost}",
        first[1],
        first.iter().sum::<u64>()
    );
    assert!((250..420).contains(&flows), "a third of the buckets, about a third of 1000 flows: {flows}");
}
