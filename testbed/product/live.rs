//! Ports, tools, groups and wires that come and go while packets flow: every packet is accounted for, what stays loses and reorders
//! nothing, and what cannot be set up leaves the plan as it was.
//!
//! Needs: EAL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tapline_harness::client::Client;
use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{Account, EAL, Lab};
use tapline_harness::pcap_files::packets;

use crate::changes::{CHANGED, LCORES, Prompt, datagrams};
use crate::reloads::held;

/// The number of a datagram, and its flow.
fn number_and_flow(bytes: &[u8]) -> (u32, u8) {
    (u32::from_be_bytes(bytes[42..46].try_into().expect("4 bytes")), bytes[29])
}

/// Flows of the datagrams.
const FLOWS: u32 = 97;

/// The numbers of datagrams in their order, by flow.
fn by_flow(datagrams: &[Vec<u8>]) -> BTreeMap<u8, Vec<u32>> {
    let mut flows: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
    for bytes in datagrams {
        let (number, flow) = number_and_flow(bytes);
        flows.entry(flow).or_default().push(number);
    }
    flows
}

/// All that was sent is there, each flow in its order; `is_in_order` demands that all of it is.
pub(crate) fn assert_kept(kept: &[Vec<u8>], sent: &[Vec<u8>], is_in_order: bool) {
    if is_in_order {
        assert_same("what was kept", kept, sent);
    }
    assert!(
        by_flow(kept) == by_flow(sent),
        "a flow is not whole, or out of order: {} of {}",
        kept.len(),
        sent.len()
    );
}

/// A running pipeline whose port `in` brings so many numbered datagrams, and whose tool `keep` writes all of them to `keep.pcap`.
struct Steady<'a> {
    prompt: Prompt<'a>,
    sent: Vec<Vec<u8>>,
    changes: usize,
    /// One lcore has all packets.
    is_in_order: bool,
}

impl<'a> Steady<'a> {
    fn begin(lab: &'a Lab, head: &str, rest: &str, count: u32) -> Self {
        let sent = datagrams(lab, "in.pcap", count);
        let pipeline = format!(
            "{head}port attach in replay:in.pcap,speed=20x\nport attach keep-port net_pcap0,tx_pcap=keep.pcap rxq 0\n\
             tool create keep port keep-port\nrule create 10 from in to keep\n{rest}start\n"
        );
        // room for the pools of ports that come
        let eal = EAL.replace("-m 256", "-m 768");
        let prompt = Prompt::open(lab, &pipeline, &["--eal", &eal]);
        prompt.wait_for_packets();
        Self { prompt, sent, changes: 0, is_in_order: !head.contains("work") }
    }

    /// Has a change taken up.
    fn change(&mut self, lines: &str) {
        self.changes += 1;
        let name = format!("change-{}.pipe", self.changes);
        self.prompt.lab.write(&name, lines);
        self.prompt.say(&format!("include {name}"));
        let begun = Instant::now();
        loop {
            let printed = self.prompt.lab.printed("stderr");
            if printed.matches(CHANGED).count() == self.changes {
                break;
            }
            let is_refused = printed.contains("the plan stays as it is") || printed.contains("panicked");
            assert!(!is_refused && begun.elapsed() < Duration::from_secs(60), "{lines}\n{printed}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The account, once all packets came and `keep` has them in their order.
    fn end(self) -> Account {
        let account = self.end_when_all_came();
        assert_eq!(
            account.number("packets/received"),
            account.number("ports/in/received"),
            "{}",
            account.stderr
        );
        account
    }

    /// As [`end`](Self::end), where other ports brought packets, too.
    fn end_when_all_came(self) -> Account {
        let all = self.sent.len() as u64;
        self.prompt.lab.until("all packets", |stats| number(stats, "ports/in/received") == all);
        let mut prompt = self.prompt;
        prompt.say("quit");
        let kept = prompt.lab.path("keep.pcap");
        let account = prompt.end();
        assert_kept(&packets(&kept), &self.sent, self.is_in_order);
        account
    }
}

/// Members and weights change, and a group comes and goes: each packet has one copy, and flows leave a member only for what moved.
#[test]
fn a_groups_members_and_weights_change_and_flows_stay_where_they_can() {
    let lab = Lab::new();
    let tools: String = ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(index, name)| {
            format!(
                "port attach {name}-port net_pcap{},tx_pcap={name}.pcap rxq 0\ntool create {name} port {name}-port\n",
                index + 1
            )
        })
        .collect();
    let rest = format!("{tools}group create g tools a,b\nrule create 20 from in to g\n");
    let mut steady = Steady::begin(&lab, "", &rest, 100_000);
    steady.change("group modify g tools a,b,c\n");
    steady.change("group create h tools c,b weights 1,2\nrule create 30 from in to h\n");
    steady.change("group modify g tools a,b,c weights 1,1,2\n");
    steady.change("rule destroy 30\ngroup destroy h\n");
    steady.change("group modify g tools b,c weights 1,2\n");
    let account = steady.end();
    let of = |name: &str| packets(&lab.path(&format!("{name}.pcap")));
    let mut seen = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let numbers: Vec<u32> = of(name).iter().map(|bytes| number_and_flow(bytes).0).collect();
        assert!(numbers.is_sorted(), "{name} is out of order");
        for bytes in of(name) {
            let (number, flow) = number_and_flow(&bytes);
            seen.entry(number).or_insert_with(Vec::new).push((name, flow));
        }
    }
    assert_eq!(seen.len(), 100_000, "each packet has a copy of g");
    assert_eq!(account.number("groups/g/requested"), 100_000);
    // a flow of g has one member after another, and comes back to none but for weights
    let mut members: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
    for copies in seen.values().filter(|copies| copies.len() == 1) {
        let (name, flow) = copies[0];
        let known = members.entry(flow).or_default();
        if known.last() != Some(&name) {
            known.push(name);
        }
    }
    let moved = members.values().filter(|members| members.len() > 1).count();
    assert!(members.values().all(|members| members.len() <= 3), "{members:?}");
    assert!(moved > 20 && members.values().any(|members| members.len() == 1), "{members:?}");
}

/// What comes at once gets each packet from some moment on, and what is destroyed each up to another.
fn tools_come_and_go(head: &str) {
    let lab = Lab::new();
    let mut steady =
        Steady::begin(&lab, head, "tool create d discard\nrule create 20 from in to d\n", 100_000);
    steady.change(
        "port attach x-port net_pcap1,tx_pcap=x.pcap rxq 0\ntool create x port x-port queue 256\nrule create 30 from in to x\n",
    );
    // packets that cross a ring bring their times only if some tool of the start asked for them
    steady.change("tool create f capture f.pcapng queue 512\nrule create 40 from in to f\n");
    // ahead of the others in the file's order there is none: ids of tools move when one before them goes
    steady.change("rule destroy 20\ntool destroy d\n");
    steady.change("tool modify x queue 100\n");
    steady.change(
        "tool create v port x-port vxlan vni 7 src 198.18.0.1 dst 198.18.0.7 next-hop 02:00:00:00:00:07 queue 256\nrule create 50 from in to v\n",
    );
    steady.change("rule destroy 40\ntool destroy f\n");
    steady.change("rule destroy 50\ntool destroy v\n");
    steady.change("rule destroy 30\ntool destroy x\nport detach x-port\n");
    let account = steady.end();
    let x: Vec<Vec<u8>> =
        packets(&lab.path("x.pcap")).into_iter().filter(|bytes| bytes.len() == 60).collect();
    let mut missing = 0;
    for (name, bytes) in [("x", x), ("f", packets(&lab.path("f.pcapng")))] {
        assert!(bytes.len() > 100 && bytes.len() < 100_000, "{name}: {}", bytes.len());
        // workers take up a plan each for itself, and a flow is one worker's
        for (flow, numbers) in by_flow(&bytes) {
            assert!(numbers.is_sorted(), "{name}: flow {flow} is out of order");
            missing +=
                numbers.windows(2).map(|pair| u64::from((pair[1] - pair[0]) / FLOWS - 1)).sum::<u64>();
        }
    }
    assert_eq!(number(account.last(), "tools/keep/sent"), 100_000);
    let names: BTreeSet<&String> = account.last()["tools"].as_object().expect("tools").keys().collect();
    assert!(names.iter().all(|name| ["keep", "times"].contains(&name.as_str())), "{names:?}");
    // what short queues could not hold on a busy machine is counted, and nothing else is missing
    let copies = &account.last()["departed"]["copies"];
    let dropped = number(copies, "requested") - number(copies, "sent");
    assert!(missing <= dropped, "{missing} are missing, and {dropped} were dropped: {copies}");
    assert_eq!(number(copies, "dropped/congested"), dropped, "{copies}");
}

#[test]
fn tools_come_and_go_on_one_worker() {
    tools_come_and_go("");
}

#[test]
fn tools_come_and_go_on_two_workers() {
    tools_come_and_go(&format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn tools_come_and_go_where_stages_have_lcores_of_their_own() {
    let stages = format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n");
    tools_come_and_go(&format!("{stages}tool create times capture times.pcapng queue 64\n"));
}

/// Ports of every kind that needs no root come and go; what they brought is in the account.
fn ports_come_and_go(head: &str) {
    let lab = Lab::new();
    let more = datagrams(&lab, "more.pcap", 300);
    let mut steady = Steady::begin(&lab, head, "", 100_000);
    for round in 0..3 {
        steady.change(&format!(
            "port attach null net_null{round}\ntool create n discard\nrule create 20 from null to n\n"
        ));
        steady.change(&format!(
            "port attach ring net_ring{round} txd 64\ntool create r port ring queue 64\nrule create 30 from in to r\ntool create rr discard\n\
             rule create 31 from ring to rr\n"
        ));
        steady.change(&format!(
            "port attach disk net_pcap{},rx_pcap=more.pcap\ntool create p{round} capture p{round}.pcapng queue 512\nrule create 40 from disk to p{round}\n",
            round + 1
        ));
        steady.change(&format!(
            "port attach again replay:more.pcap,speed=max\ntool create q{round} capture q{round}.pcapng queue 64\nrule create 50 from again to q{round}\n"
        ));
        let until =
            |what: &str, holds: &dyn Fn(&serde_json::Value) -> bool| steady.prompt.lab.until(what, holds);
        until("both files", &|stats| {
            [format!("p{round}"), format!("q{round}")]
                .iter()
                .all(|tool| stats["tools"][tool]["sent"].as_u64() == Some(300))
        });
        until("packets of net_null", &|stats| stats["tools"]["n"]["sent"].as_u64() > Some(1000));
        // on a busy machine there may be no more to send on it
        until("packets of the ring", &|stats| {
            stats["tools"]["rr"]["sent"].as_u64() > Some(100)
                || number(stats, "ports/in/received") == 100_000
        });
        steady.change(&format!(
            "rule destroy 20\ntool destroy n\nport detach null\nrule destroy 50\ntool destroy q{round}\nport detach again\n"
        ));
        steady.change(&format!(
            "rule destroy 30\nrule destroy 31\ntool destroy r\ntool destroy rr\nport detach ring\nrule destroy 40\ntool destroy p{round}\nport detach disk\n"
        ));
    }
    let received =
        steady.prompt.lab.until("the end", |stats| number(stats, "ports/in/received") == 100_000);
    assert!(number(&received, "departed/received") > 900);
    steady.prompt.say("quit");
    let (kept, sent, is_in_order) = (lab.path("keep.pcap"), steady.sent, steady.is_in_order);
    let account = steady.prompt.end();
    assert_kept(&packets(&kept), &sent, is_in_order);
    for round in 0..3 {
        for name in ["p", "q"] {
            let file = lab.path(&format!("{name}{round}.pcapng"));
            assert_kept(&packets(&file), &more, is_in_order);
        }
    }
    let names: Vec<&String> = account.last()["ports"].as_object().expect("ports").keys().collect();
    assert_eq!(names, ["in", "keep-port"]);
}

#[test]
fn ports_come_and_go_on_one_worker() {
    ports_come_and_go("");
}

#[test]
fn ports_come_and_go_on_two_workers() {
    ports_come_and_go(&format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn ports_come_and_go_where_stages_have_lcores_of_their_own() {
    ports_come_and_go(&format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n"));
}

/// A port that is stopped brings nothing and takes nothing, while others go on; once it is started, a replay goes on where it stood.
fn ports_are_stopped_and_started(head: &str) {
    let lab = Lab::new();
    let more = datagrams(&lab, "more.pcap", 2000);
    let rest = "port attach other replay:more.pcap,speed=original\ntool create p capture p.pcapng queue 512\n\
                rule create 20 from other to p\nport attach x-port net_pcap1,tx_pcap=x.pcap rxq 0\n\
                tool create x port x-port\nrule create 30 from in to x\n";
    let mut steady = Steady::begin(&lab, head, rest, 100_000);
    // packets of `in` may all be there on a busy machine
    let more_of_in = |stats: &serde_json::Value, than: u64| {
        let received = number(stats, "ports/in/received");
        received > than || received == 100_000
    };
    for round in 1..=2 {
        steady.change("port stop other\n");
        let stopped = lab.until("it is stopped", |stats| stats["ports"]["other"]["stopped"] == true);
        let at_rest = lab
            .until("others go on", |stats| more_of_in(stats, number(&stopped, "ports/in/received") + 100));
        let later = lab.until("others go on and on", |stats| {
            more_of_in(stats, number(&at_rest, "ports/in/received") + 2000)
        });
        let received = |stats| number(stats, "ports/other/received");
        assert_eq!(received(&later), received(&at_rest), "a port that is stopped receives");
        assert!(received(&later) < 2000, "it stopped too late to tell");
        steady.change("port start other\nport stop x-port\n");
        steady.prompt.say("show ports");
        let down = number(&later, "tools/x/dropped/down");
        let dropped = lab.until("copies for it are dropped", |stats| {
            number(stats, "tools/x/dropped/down") > down || number(stats, "ports/in/received") == 100_000
        });
        assert_eq!(dropped["ports"]["x-port"]["stopped"], true);
        steady.change("port start x-port\n");
        let sent = number(&dropped, "tools/x/sent");
        lab.until("copies are sent again", |stats| {
            number(stats, "tools/x/sent") > sent || number(stats, "ports/in/received") == 100_000
        });
        assert_eq!(
            lab.printed("stdout").matches("  stopped  ").count(),
            round,
            "{}",
            lab.printed("stdout")
        );
    }
    lab.until("all of the other", |stats| number(stats, "tools/p/sent") == 2000);
    let is_in_order = steady.is_in_order;
    let account = steady.end_when_all_came();
    assert_kept(&packets(&lab.path("p.pcapng")), &more, is_in_order);
    let sent = packets(&lab.path("x.pcap"));
    for (flow, numbers) in by_flow(&sent) {
        assert!(numbers.is_sorted_by(|before, after| before < after), "flow {flow} is out of order");
    }
    let of_x = |what: &str| account.number(&format!("tools/x/{what}"));
    assert_eq!(of_x("requested"), 100_000);
    assert_eq!(of_x("sent"), sent.len() as u64);
    assert_eq!(of_x("requested") - of_x("sent"), of_x("dropped/down") + of_x("dropped/congested"));
    assert!(of_x("dropped/down") > 0);
}

#[test]
fn ports_are_stopped_and_started_on_one_worker() {
    ports_are_stopped_and_started("");
}

#[test]
fn ports_are_stopped_and_started_on_two_workers() {
    ports_are_stopped_and_started(&format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn ports_are_stopped_and_started_where_stages_have_lcores_of_their_own() {
    ports_are_stopped_and_started(&format!(
        "{LCORES}set lcores receive 1 work 2-3 transmit 4\ntool create times capture times.pcapng queue 64\n"
    ));
}

/// A port is set up otherwise under its name: others lose nothing, what it counted stays, and its tools know where their copies went.
fn ports_are_set_up_otherwise(head: &str) {
    let lab = Lab::new();
    let rest = "port attach null net_null0\ntool create n discard\nrule create 20 from null to n\n\
                port attach x-port net_ring0 rxq 0\ntool create x port x-port queue 64\nrule create 30 from in to x\n";
    let mut steady = Steady::begin(&lab, head, rest, 100_000);
    let received = |stats: &serde_json::Value| number(stats, "ports/null/received");
    let counted = |stats: &serde_json::Value| number(stats, "ports/null/driver/rx_packets");
    for rxd in [512, 256] {
        let before = lab.until("packets of net_null", |stats| received(stats) > 1000);
        steady.change(&format!(
            "port config null rxd {rxd} interrupt\nport config x-port txd {rxd} interrupt\n"
        ));
        let after = lab.until("more of them", |stats| received(stats) > received(&before) + 1000);
        assert!(counted(&after) >= counted(&before) + 1000, "{before}\n{after}");
    }
    // what a port can be told while it runs needs no word
    steady.change("port config null promiscuous off\n");
    steady.prompt.say("show config");
    let account = steady.end_when_all_came();
    assert!(
        account.stdout.contains("\nport attach null net_null0 rxd 256 promiscuous off\n"),
        "{}",
        account.stdout
    );
    assert!(!account.stdout.contains("interrupt"), "{}", account.stdout);
    let of_x = |what: &str| account.number(&format!("tools/x/{what}"));
    assert_eq!(of_x("requested"), 100_000);
    assert_eq!(of_x("requested") - of_x("sent"), of_x("dropped/down") + of_x("dropped/congested"));
    // nobody reads the ring: what it held when its port was closed is told as missed, and what it holds now is not
    let missed = account.number("ports/x-port/driver/missed");
    assert!(missed > 0 && missed < of_x("sent"), "{missed} of {}", of_x("sent"));
    assert!(of_x("sent") - missed <= 1024, "{missed} of {}", of_x("sent"));
}

#[test]
fn ports_are_set_up_otherwise_on_one_worker() {
    ports_are_set_up_otherwise("");
}

#[test]
fn ports_are_set_up_otherwise_on_two_workers() {
    ports_are_set_up_otherwise(&format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn ports_are_set_up_otherwise_where_stages_have_lcores_of_their_own() {
    ports_are_set_up_otherwise(&format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n"));
}

/// A port of the same name gets another device beside the one that it has: no word is needed, nothing of it is lost, and it counts on.
fn ports_move_to_other_devices(head: &str) {
    let lab = Lab::new();
    let rest = "port attach x-port net_pcap1,tx_pcap=x0.pcap rxq 0\ntool create x port x-port queue 2048\n\
                rule create 20 from in to x\nport attach null net_null0\ntool create n discard\n\
                rule create 30 from null to n\n";
    let mut steady = Steady::begin(&lab, head, rest, 100_000);
    let text = std::fs::read_to_string(lab.path("test.pipe")).expect("the file of the start");
    let received = |stats: &serde_json::Value| number(stats, "ports/null/received");
    let counted = |stats: &serde_json::Value| number(stats, "ports/null/driver/rx_packets");
    // by turns: a device that was left is free again
    for (round, device) in [(1, 2), (2, 1), (3, 2)] {
        let before = lab.until("packets of net_null", |stats| received(stats) > 1000);
        let moved = text
            .replace("net_pcap1,tx_pcap=x0.pcap", &format!("net_pcap{device},tx_pcap=x{round}.pcap"))
            .replace("net_null0", &format!("net_null{device}"));
        lab.write("next.pipe", moved);
        steady.prompt.say("reload next.pipe");
        steady.prompt.hear(CHANGED, round);
        let after = lab.until("more of them", |stats| received(stats) > received(&before) + 1000);
        assert!(counted(&after) >= counted(&before) + 1000, "{before}\n{after}");
    }
    let (sent, is_in_order) = (steady.sent.clone(), steady.is_in_order);
    let account = steady.end_when_all_came();
    let of_devices: Vec<Vec<Vec<u8>>> =
        (0..=3).map(|round| packets(&lab.path(&format!("x{round}.pcap")))).collect();
    let devices = of_devices.iter().filter(|packets| !packets.is_empty()).count();
    assert!(devices > 1, "no change came while packets did");
    let moved = of_devices.concat();
    assert_kept(&moved, &sent, is_in_order);
    assert_eq!(account.number("tools/x/requested"), 100_000);
    assert_eq!(account.number("tools/x/sent"), 100_000);
    assert_eq!(account.number("ports/x-port/driver/tx_packets"), 100_000);
    assert_eq!(account.number("ports/null/driver/missed"), 0);
}

#[test]
fn ports_move_to_other_devices_on_one_worker() {
    ports_move_to_other_devices("");
}

#[test]
fn ports_move_to_other_devices_on_two_workers() {
    ports_move_to_other_devices(&format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn ports_move_to_other_devices_where_stages_have_lcores_of_their_own() {
    ports_move_to_other_devices(&format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n"));
}

/// A pipeline whose port `null` is the second that its start starts, and the lines that are said of it.
const TWO_PORTS: &str = "port attach in replay:in.pcap,speed=original,loop=forever\nport attach out net_pcap0,tx_pcap=out.pcap rxq 0\n\
                         port attach null net_null0\ntool create o port out\ntool create n discard\n\
                         rule create 10 from in to o\nrule create 20 from null to n\nstart\n";

fn prompt_with_fault<'a>(lab: &'a Lab, fault: &str) -> Prompt<'a> {
    datagrams(lab, "in.pcap", 100);
    let eal = EAL.replace("-m 256", "-m 768");
    let prompt = Prompt::open_with(lab, TWO_PORTS, &["--eal", &eal], |command| {
        command.env("TAPLINE_FAULT", fault);
    });
    prompt.lab.until("packets", |stats| number(stats, "ports/null/received") > 1000);
    prompt
}

#[test]
fn a_port_that_cannot_be_set_up_otherwise_is_put_back() {
    let lab = Lab::new();
    let mut prompt = prompt_with_fault(&lab, "start.port@3");
    prompt.say("port config null rxd 512 interrupt");
    prompt.hear("set up again as it was: port null", 1);
    let before = lab.until("statistics", |_| true);
    let received = |stats: &serde_json::Value| number(stats, "ports/null/received");
    lab.until("it receives", |stats| received(stats) > received(&before) + 1000);
    prompt.say("show config\nport config null rxd 512 interrupt");
    prompt.hear(CHANGED, 1);
    prompt.say("quit");
    let account = prompt.end_with(1);
    assert!(!account.stdout.contains("rxd 512"), "{}", account.stdout);
}

#[test]
fn a_port_that_cannot_be_put_back_is_closed_until_it_is_said_otherwise() {
    let lab = Lab::new();
    let mut prompt = prompt_with_fault(&lab, "start.port@3-5");
    prompt.say("port config null rxd 512 interrupt");
    prompt.hear("closed, since it could not be put back either: port null", 1);
    let closed = lab.until("it is closed for a reason", |stats| {
        let why = stats["ports"]["null"]["closed"].as_str();
        why.is_some_and(|why| why.contains("port null: rte_eth_dev_start"))
    });
    assert_eq!(closed["ports"]["null"]["link_up"], false);
    // other changes are taken up beside it
    prompt.say("show ports\nrule modify 20 class high");
    prompt.hear(CHANGED, 1);
    assert!(lab.printed("stdout").contains("  closed  "), "{}", lab.printed("stdout"));
    // a try that fails leaves it as it is, and needs no word: nothing is interrupted
    prompt.say("port config null rxd 256");
    prompt.hear("error: port null: rte_eth_dev_start", 2);
    let received = |stats: &serde_json::Value| number(stats, "ports/null/received");
    prompt.say("port config null rxd 256");
    prompt.hear(CHANGED, 2);
    let open = lab.until("it receives", |stats| received(stats) > received(&closed) + 1000);
    assert!(open["ports"]["null"]["closed"].is_null());
    prompt.say("quit");
    prompt.end_with(1);
}

/// A worker stands in its driver, so that a port cannot be taken from it: the change is given up, and the port is put back once the
/// worker goes on.
#[test]
fn a_port_that_a_worker_does_not_let_go_of_is_put_back_later() {
    let lab = Lab::new();
    let fifo = lab.path("out.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo(1)").success());
    let (go, wait) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut pipe = std::fs::File::open(fifo).expect("the broker writes the pipe");
        let _ = wait.recv();
        std::io::copy(&mut pipe, &mut std::io::sink()).expect("a pipe")
    });
    datagrams(&lab, "in.pcap", 2000);
    let pipeline = format!(
        "{LCORES}set lcores receive 1 work 2-3 transmit 4\nport attach in replay:in.pcap,speed=max,loop=forever\n\
         port attach slow net_pcap0,tx_pcap=out.fifo rxq 0\nport attach null net_null0\n\
         tool create s port slow queue 256\ntool create n discard\n\
         rule create 10 from in to s\nrule create 20 from null to n\nstart\n"
    );
    let eal = EAL.replace("-m 256", "-m 768");
    let mut prompt = Prompt::open(&lab, &pipeline, &["--eal", &eal]);
    lab.until("the transmit lcore hangs", |stats| stats["lcores"]["4"]["is_stalled"] == true);
    prompt.say("port config null rxd 512 interrupt");
    prompt.hear("has not let go of port null after", 1);
    prompt.hear("the plan stays as it is", 1);
    let closed = lab.until("it is closed", |stats| stats["ports"]["null"]["closed"].is_string());
    go.send(()).expect("a reader");
    let received = |stats: &serde_json::Value| number(stats, "ports/null/received");
    lab.until("it is put back", |stats| {
        stats["ports"]["null"]["closed"].is_null() && received(stats) > received(&closed) + 1000
    });
    prompt.say("show config\nport config null rxd 512 interrupt");
    prompt.hear(CHANGED, 1);
    prompt.say("quit");
    let account = prompt.end_with(1);
    assert!(reader.join().expect("a reader") > 0);
    assert!(!account.stdout.contains("rxd 512"), "{}", account.stdout);
}

/// DPDK finds the rings of a net_ring again by their names.
#[test]
fn a_ring_that_is_attached_again_brings_nothing_of_before() {
    let lab = Lab::new();
    let mut steady = Steady::begin(&lab, "", "", 100_000);
    steady.change(
        "port attach ring net_ring0 rxq 0\ntool create r port ring queue 64\nrule create 30 from in to r\n",
    );
    lab.until("packets in the ring", |stats| stats["tools"]["r"]["sent"].as_u64() > Some(100));
    steady.change("rule destroy 30\ntool destroy r\nport detach ring\n");
    steady.change("port attach ring net_ring0\ntool create rr discard\nrule create 31 from ring to rr\n");
    let account = steady.end_when_all_came();
    assert_eq!(account.number("ports/ring/received"), 0);
}

#[test]
fn a_device_that_cannot_be_taken_out_of_dpdk_is_listed_and_not_attached_again() {
    let lab = Lab::new();
    let mut prompt = prompt_with_fault(&lab, "detach.remove");
    prompt.say("port attach leaver net_null7");
    prompt.hear(CHANGED, 1);
    prompt.say("port detach leaver");
    prompt.hear("port leaver: its device `net_null7` is closed and stays in DPDK", 1);
    let kept = lab.until("it is listed", |stats| stats["kept_devices"].is_array());
    assert_eq!(kept["kept_devices"][0]["port"], "leaver");
    assert_eq!(kept["kept_devices"][0]["device"], "net_null7");
    assert!(kept["ports"]["leaver"].is_null());
    prompt.say("show ports\nport attach back net_null7");
    prompt.hear("its device `net_null7` was that of port leaver, and is closed", 1);
    // another one is as good
    prompt.say("port attach back net_null8");
    prompt.hear(CHANGED, 3);
    prompt.say("quit");
    let account = prompt.end_with(1);
    assert!(
        account
            .stdout
            .contains("port leaver was detached, and its device `net_null7` stays in DPDK, closed")
    );
}

/// The places of a start at which what comes later can fail, too.
const PLACES: [&str; 6] =
    ["start.attach", "start.info", "start.mempool", "start.port", "start.capture", "start.writer"];

/// Each place at which the preparation of a change can fail is made to fail, each time that it is passed: the plan goes on as it was,
/// nothing is left open or on the disk, and the same change is taken up afterwards.
#[test]
fn what_cannot_be_set_up_leaves_the_plan_as_it_was() {
    let head = format!("{LCORES}set lcores 1-2\n");
    let pipeline = format!(
        "{head}port attach in replay:in.pcap,speed=original,loop=forever\ntool create d discard\ntool create early capture early.pcapng queue 64\n\
         rule create 10 from in to d\nstart\n"
    );
    let change = "port attach ring net_ring0\nport attach other net_null1 rxq 0\ntool create r port ring queue 64\n\
                  tool create o port other queue 64 vxlan vni 7 src 198.18.0.1 dst 198.18.0.7 next-hop 02:00:00:00:00:07\n\
                  tool create f capture f.pcapng queue 192\ntool create g capture g.pcapng queue 192\n\
                  rule create 20 from in limit 10 packets to r,o,f\nrule create 30 from ring limit 10 packets to g\n";
    let mut refused = 0;
    for place in PLACES {
        for pass in 1.. {
            let lab = Lab::new();
            lab.write("change.pipe", change);
            datagrams(&lab, "in.pcap", 100);
            let mut prompt = Prompt::open_with(
                &lab,
                &pipeline,
                &["--eal", &EAL.replace("-m 256", "-m 768"), "--control", "control.sock"],
                |command| {
                    command.env("TAPLINE_FAULT", format!("{place}@{pass}"));
                },
            );
            if !prompt.begins() {
                // the start passes it, too
                continue;
            }
            prompt.wait_for_packets();
            let mut client = Client::of(&lab.path("control.sock"));
            let before = (client.plan().to_string(), held(&prompt.started)[1..].to_vec());
            prompt.say("include change.pipe");
            let is_refused = prompt.hears_one_of("the plan stays as it is", CHANGED);
            println!("{place}@{pass}: {}", if is_refused { "refused" } else { "not passed" });
            if is_refused {
                refused += 1;
                let after = (client.plan().to_string(), held(&prompt.started)[1..].to_vec());
                assert_eq!(after, before, "{place}@{pass}: {}", lab.printed("stderr"));
                assert!(!lab.path("f.pcapng").exists() && !lab.path("g.pcapng").exists(), "{place}@{pass}");
                let stats = lab.until("the plan", |stats| number(stats, "packets/received") > 0);
                assert_eq!(stats["ports"].as_object().expect("ports").len(), 1, "{place}@{pass}");
                prompt.say("include change.pipe");
                prompt.hear(CHANGED, 1);
            }
            lab.until("all copies", |stats| {
                ["r", "o", "f"].iter().all(|tool| stats["tools"][tool]["sent"].as_u64() == Some(10))
                    && stats["tools"]["g"]["sent"].as_u64() == Some(10)
            });
            prompt.say("quit");
            prompt.end_with(i32::from(is_refused));
            if !is_refused {
                break;
            }
        }
    }
    assert!(refused >= 13, "{refused}");
}

/// Tens of changes, drawn at random, beside traffic: the account holds, and what stays has every packet in its order.
fn random_changes(head: &str, most_ports: usize, seed: u64) {
    println!("seed {seed}");
    let lab = Lab::new();
    let mut steady = Steady::begin(&lab, head, "tool create z discard\n", 150_000);
    let mut state = seed;
    let mut draw = |count: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % count
    };
    let (mut ports, mut tools, mut has_group) = (BTreeSet::new(), BTreeMap::<u64, u64>::new(), false);
    for step in 0..40u64 {
        let line = match draw(7) {
            0 | 1 if ports.len() < most_ports => {
                let port = (0..3).find(|port| !ports.contains(port)).expect("one of three is free");
                ports.insert(port);
                format!(
                    "port attach p{port} net_ring{port} txd 64\nrule create {} from p{port} to z\n",
                    100 + port
                )
            }
            2 | 3 if !ports.is_empty() && tools.len() < 3 => {
                let port = *ports.iter().nth(draw(ports.len() as u64) as usize).expect("a port");
                tools.insert(step, port);
                format!(
                    "tool create t{step} port p{port} queue 64\nrule create {} from in to t{step}\n",
                    200 + step
                )
            }
            4 if !tools.is_empty() && !has_group => {
                let tool = *tools.keys().nth(draw(tools.len() as u64) as usize).expect("a tool");
                tools.remove(&tool);
                format!("rule destroy {}\ntool destroy t{tool}\n", 200 + tool)
            }
            5 if tools.len() > 1 && !has_group => {
                has_group = true;
                let members: Vec<String> = tools.keys().map(|tool| format!("t{tool}")).collect();
                format!("group create g tools {}\nrule create 300 from in to g\n", members.join(","))
            }
            6 if has_group => {
                has_group = false;
                "rule destroy 300\ngroup destroy g\n".to_owned()
            }
            _ => match ports.iter().copied().find(|port| !tools.values().any(|used| used == port)) {
                Some(port) if draw(2) == 0 => {
                    ports.remove(&port);
                    format!("rule destroy {}\nport detach p{port}\n", 100 + port)
                }
                _ => format!("rule modify 10 class {}\n", ["high", "normal"][step as usize % 2]),
            },
        };
        steady.change(&line);
    }
    let account = steady.end_when_all_came();
    println!("{}", account.last()["departed"]);
}

#[test]
fn random_changes_on_one_worker() {
    random_changes("", 2, 1);
}

#[test]
fn random_changes_on_two_workers() {
    // a ring of two transmit queues takes most of the room that there is for tools that come
    random_changes(&format!("{LCORES}set lcores 1-2\n"), 1, 2);
}

#[test]
fn random_changes_where_stages_have_lcores_of_their_own() {
    random_changes(&format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n"), 2, 3);
}
