//! Stages on lcores of their own: what goes through rings arrives whole, in the order of its flow, and is accounted for.
//!
//! Needs: EAL. Lcores share the CPUs that there are, so that the stages need no more than one; they sleep when there is nothing to
//! do.

/// A ring between two lcores.
mod ring;

use std::collections::BTreeMap;

use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{Account, Lab, office, pcap_tools};
use tapline_harness::pcap_files::{packets, write_capture};

/// Lcores 1 to 4 beside the main one, on whatever CPUs there are.
const LCORES: &str = "set eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\nset idle sleep\n";

const FLOWS: u32 = 300;

/// A UDP datagram between two hosts of a flow, with a number.
fn datagram(flow: u32, is_answer: bool, number: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    bytes.extend([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0]);
    let ends = [([198, 18, (flow >> 8) as u8, flow as u8], 2000 + flow as u16), ([198, 19, 0, 1], 53)];
    let [from, to] = if is_answer { [ends[1], ends[0]] } else { ends };
    bytes.extend(from.0);
    bytes.extend(to.0);
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend([0, 30, 0, 0]);
    bytes.extend(flow.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.resize(64, 0x5a);
    bytes
}

/// Flow and number of a datagram.
fn read(bytes: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (word(42), word(46))
}

/// Datagrams of many flows, both directions, in `in.pcap`.
fn flows(lab: &Lab, count: u32) -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> =
        (0..count).map(|index| datagram(index * 7 % FLOWS, index % 3 == 0, index)).collect();
    write_capture(&lab.path("in.pcap"), packets.iter().map(|bytes| (bytes.as_slice(), bytes.len() as u32)));
    packets
}

/// All that was sent, whatever the order of flows; and each flow in the order in which it came.
fn assert_whole_and_in_order(got: &[Vec<u8>], sent: &[Vec<u8>]) {
    let by_flow = |packets: &[Vec<u8>]| {
        let mut flows = BTreeMap::<u32, Vec<u32>>::new();
        packets
            .iter()
            .map(|bytes| read(bytes))
            .for_each(|(flow, number)| flows.entry(flow).or_default().push(number));
        flows
    };
    assert_eq!(by_flow(got), by_flow(sent));
    let sorted = |packets: &[Vec<u8>]| {
        let mut packets = packets.to_vec();
        packets.sort();
        packets
    };
    assert_same("all packets", &sorted(got), &sorted(sent));
}

fn stages(account: &Account, lcore: u32) -> Vec<&str> {
    let stages = account.last()["lcores"][lcore.to_string()]["stages"].as_array().expect("stages");
    stages.iter().filter_map(|stage| stage.as_str()).collect()
}

fn of_lcore(account: &Account, lcore: u32, key: &str) -> u64 {
    number(account.last(), &format!("lcores/{lcore}/{key}"))
}

#[test]
fn flows_stay_whole_and_in_order_over_several_work_lcores() {
    let lab = Lab::new();
    let sent = flows(&lab, 6000);
    let account = lab.account(
        &format!(
            "{LCORES}set lcores receive 1 work 2-3 transmit 4\nport attach in net_pcap0,rx_pcap=in.pcap\n\
             port attach out net_pcap1,tx_pcap=out.pcap rxq 0\ntool create whole port out queue 8192\n\
             tool create begin discard\ngroup create g tools begin\n\
             rule create 1 from in to whole\nrule create 2 from in sample first 1 packets to begin\n"
        ),
        &[],
    );
    assert_eq!(account.number("packets/delivered"), 6000);
    assert_whole_and_in_order(&packets(&lab.path("out.pcap")), &sent);
    // a work lcore that saw one direction alone would take its first packet too
    assert_eq!(account.number("tools/begin/sent"), u64::from(FLOWS));
    assert_eq!(account.number("ports/in/congested"), 0, "a file waits");
    for (lcore, expected) in [(1, ["receive"]), (2, ["work"]), (3, ["work"]), (4, ["transmit"])] {
        assert_eq!(stages(&account, lcore), expected);
    }
    assert_eq!(of_lcore(&account, 1, "received"), 6000);
    let taken = [2, 3].map(|lcore| of_lcore(&account, lcore, "from_rings"));
    assert_eq!(taken.iter().sum::<u64>(), 6000);
    assert!(taken.iter().all(|&packets| packets > 2000), "{taken:?}");
    assert!(
        account.stderr.contains("receive on lcores 1, work on lcores 2,3, transmit on lcores 4"),
        "{}",
        account.stderr
    );
}

#[test]
fn stages_may_share_lcores_and_be_left_out() {
    for placement in [
        "receive 1 work 2",
        "receive 1 work 1-2",
        "work 1-2 transmit 3",
        "receive 1 transmit 2",
        "receive 1-2 work 2-3 transmit 1",
        "work 1",
    ] {
        let lab = Lab::new();
        let sent = flows(&lab, 5000);
        let tools = pcap_tools(&["a", "b"]);
        let account = lab.account(
            &format!(
                "{LCORES}set lcores {placement}\nport attach in net_pcap0,rx_pcap=in.pcap\n{tools}group create g tools a,b\n\
                 tool create count discard\nrule create 1 from in to g\nrule create 2 from in match \"src port 53\" to count\n"
            ),
            &[],
        );
        let (a, b) = (packets(&lab.path("a.pcap")), packets(&lab.path("b.pcap")));
        let mut both = a.clone();
        both.extend(b.iter().cloned());
        assert_whole_and_in_order(&both, &sent);
        assert!(
            a.iter().all(|one| !b.iter().any(|other| read(one).0 == read(other).0)),
            "{placement}: a flow is split"
        );
        let answers = sent.iter().filter(|bytes| bytes[34..36] == [0, 53]).count();
        assert_eq!(account.number("tools/count/sent"), answers as u64, "{placement}");
    }
}

#[test]
fn with_one_work_lcore_the_order_of_all_packets_is_kept() {
    let lab = Lab::new();
    let sent = office(&lab);
    let account = lab.account(
        &format!(
            "{LCORES}set lcores receive 1 work 2 transmit 3\nport attach in net_pcap0,rx_pcap=in.pcap\n{}rule create 1 from in to whole\n",
            pcap_tools(&["whole"])
        ),
        &[],
    );
    assert_same("all", &packets(&lab.path("whole.pcap")), &sent);
    assert_eq!(account.number("packets/delivered"), sent.len() as u64);
}

#[test]
fn times_of_receipt_pass_the_rings() {
    let lab = Lab::new();
    let sent = flows(&lab, 1000);
    lab.account(
        &format!(
            "{LCORES}set lcores receive 1 work 2-3 transmit 4\nport attach in net_pcap0,rx_pcap=in.pcap\n\
             tool create times capture out.pcapng\nrule create 1 from in to times\n"
        ),
        &[],
    );
    let mut capture = pcap::Capture::from_file(lab.path("out.pcapng")).expect("libpcap reads it");
    let mut count = 0;
    while let Ok(packet) = capture.next_packet() {
        // as `write_capture` gave it
        let (number, ts) = (i64::from(read(packet.data).1), packet.header.ts);
        assert_eq!((ts.tv_sec, ts.tv_usec), (1_735_689_600 + number / 1000, number % 1000 * 1000));
        assert_eq!(packet.data, sent[number as usize]);
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[test]
fn stop_and_start_empty_the_stages_in_order() {
    let lab = Lab::new();
    let account = lab.account(
        &format!(
            "{LCORES}set lcores receive 1 work 2-3 transmit 4\nport attach in net_null0\nport attach out net_null1 rxq 0\n\
             tool create a port out\ntool create b discard\nrule create 1 from in to a,b\n\
             start\nstop\nstart\nstop\nstart\nstop\nstart\n"
        ),
        &["--duration", "1s"],
    );
    let received = account.number("packets/received");
    assert!(received > 0);
    assert_eq!(account.number("packets/failed"), 0);
    assert_eq!(account.number("tools/b/sent"), received);
    let (sent, congested) = (account.number("tools/a/sent"), account.number("tools/a/dropped/congested"));
    assert_eq!(sent + congested, received, "the ring to the transmit lcore may be full");
}

#[test]
fn a_wire_loses_no_original_between_lcores() {
    let lab = Lab::new();
    let sent = flows(&lab, 60_000);
    let pcaps = "port attach a net_pcap0,rx_pcap=in.pcap,tx_pcap=to-a.pcap\nport attach b net_pcap1,rx_pcap=in.pcap,tx_pcap=to-b.pcap\n";
    let count = |account: &Account, way: &str, what: &str| account.number(&format!("wires/w/{way}/{what}"));
    for placement in ["1-2", "work 1 transmit 2"] {
        let account =
            lab.account(&format!("{LCORES}set lcores {placement}\n{pcaps}wire create w ports a,b\n"), &[]);
        for (way, file) in [("a_to_b", "to-b.pcap"), ("b_to_a", "to-a.pcap")] {
            assert_eq!(count(&account, way, "forwarded"), 60_000, "{placement}: {way}");
            assert_same(way, &packets(&lab.path(file)), &sent);
        }
    }
    // a has a receive queue for each worker, and b takes what comes of them by a single transmit queue
    let queues = "port attach a net_null0 rxq 2\nport attach b net_null1 rxq 1 txq 1\n";
    let pipeline = format!("{LCORES}set lcores 1-2\n{queues}wire create w ports a,b\n");
    let account = lab.account(&pipeline, &["--duration", "500ms"]);
    for way in ["a_to_b", "b_to_a"] {
        assert!(count(&account, way, "received") > 0);
        assert_eq!(count(&account, way, "forwarded"), count(&account, way, "received"), "{way}");
    }
}

#[test]
fn a_rate_is_whole_whichever_workers_have_copies_for_the_tool() {
    let lab = Lab::new();
    flows(&lab, 1000);
    let ports = "port attach a net_pcap0,rx_pcap=in.pcap,infinite_rx=1\nport attach b net_pcap1,rx_pcap=in.pcap,infinite_rx=1\n\
                 port attach o net_null0 rxq 0\ntool create t port o rate 10kpps burst 100ms\ntool create d discard\n";
    // of two workers the first, and both
    for rules in ["rule create 1 from a to t\nrule create 2 from b to d\n", "rule create 1 from a,b to t\n"]
    {
        let account =
            lab.account(&format!("{LCORES}set lcores 1-2\n{ports}{rules}"), &["--duration", "2s"]);
        for lcore in [1, 2] {
            assert!(of_lcore(&account, lcore, "received") > 0, "both poll");
        }
        let (sent, most) = (
            account.number("tools/t/sent") as f64,
            10_000.0 * (account.last()["uptime_s"].as_f64().unwrap() + 0.1) + 1.0,
        );
        // a worker that others keep from its CPU for more than the burst loses tokens
        assert!((0.7 * most..=most).contains(&sent), "{rules}: {sent} of {most}");
    }
}

#[test]
fn a_port_is_polled_by_the_lcores_that_it_names() {
    let lab = Lab::new();
    flows(&lab, 1000);
    let pipeline = |lcores: &str| {
        format!(
            "{LCORES}set lcores 1-3\nport attach in net_pcap0,rx_pcap=in.pcap lcores {lcores}\ntool create count discard\n\
             rule create 1 from in to count\n"
        )
    };
    let account = lab.account(&pipeline("3"), &[]);
    assert_eq!(of_lcore(&account, 3, "received"), 1000);
    let refusal = lab.run(&pipeline("4"), &[]).failed(2);
    assert!(refusal.contains("port in: lcores 4: this port can be polled by lcores 1,2,3"), "{refusal}");
}

#[test]
fn lcores_that_eal_lacks_or_needs_itself_are_refused() {
    let lab = Lab::new();
    flows(&lab, 10);
    let pipeline = |lcores: &str| {
        format!(
            "{LCORES}set lcores {lcores}\nport attach in net_pcap0,rx_pcap=in.pcap\ntool create d discard\nrule create 1 from in to d\n"
        )
    };
    let refusal = lab.run(&pipeline("receive 1 work 7"), &[]).failed(1);
    assert!(refusal.contains("lcore 7: rte_eal_remote_launch: EAL was started without it"), "{refusal}");
    let refusal = lab.run(&pipeline("receive 1 work 9"), &[]).failed(1);
    assert!(refusal.contains("it is EAL's main lcore"), "{refusal}");
}

/// Two workers on CPUs that Tapline chooses; `None` where the machine has one.
fn two_workers(lab: &Lab, pipeline: &str, flags: &[&str]) -> Option<Account> {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        tapline_skip::skipped("one CPU");
        return None;
    }
    Some(lab.account(&format!("set workers 2\nset idle sleep\nset mempool 8191\n{pipeline}"), flags))
}

#[test]
fn workers_that_tapline_chooses_share_ports_of_one_queue() {
    let lab = Lab::new();
    let sent = flows(&lab, 3000);
    let ports: String = (0..4)
        .map(|port| format!("port attach p{port} net_pcap1{port},rx_pcap=in.pcap\nrule create {port} from p{port} to t{port}\n"))
        .collect();
    let tools = pcap_tools(&["t0", "t1", "t2", "t3"]);
    let Some(account) = two_workers(&lab, &format!("{tools}{ports}"), &[]) else { return };
    for tool in 0..4 {
        assert_whole_and_in_order(&packets(&lab.path(&format!("t{tool}.pcap"))), &sent);
    }
    let lcores = account.last()["lcores"].as_object().expect("lcores");
    assert_eq!(lcores.len(), 2);
    assert!(lcores.values().all(|lcore| lcore["received"] == 6000), "{lcores:?}");
    for said in [
        "workers on lcores ",
        ", chosen: ",
        "receive queues: lcore ",
        " polls p0, p2; lcore ",
        " polls p1, p3",
    ] {
        assert!(account.stderr.contains(said), "{said} is not in {}", account.stderr);
    }
}

#[test]
fn workers_that_tapline_chooses_get_a_queue_each_of_a_port_that_has_them() {
    let lab = Lab::new();
    let pipeline = "port attach in net_null0\ntool create t discard\nrule create 1 from in to t\n";
    let Some(account) = two_workers(&lab, pipeline, &["--duration", "500ms"]) else { return };
    let lcores = account.last()["lcores"].as_object().expect("lcores");
    assert!(lcores.len() == 2 && lcores.values().all(|lcore| number(lcore, "received") > 0), "{lcores:?}");
    // a port of one queue leaves the other worker without, which is said
    let pipeline = pipeline.replace("net_null0", "net_null0 rxq 1");
    let Some(account) = two_workers(&lab, &pipeline, &["--duration", "100ms"]) else { return };
    assert!(
        account.stderr.contains("polls in; lcore ")
            && account.stderr.contains(" polls none; a queue is polled by one worker")
    );
}
