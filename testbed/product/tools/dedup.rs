//! Dedup in the running program.

use std::collections::HashSet;
use std::process::Command;

use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;
use tapline_harness::programs::has_program;

/// The same datagrams as two taps see them, before and after a router.
fn taps(bench: &Bench) -> Vec<Vec<u8>> {
    let before: Vec<Vec<u8>> = (0..100).map(|id| udp(id, [198, 18, 0, 1], 4000, 64)).collect();
    let after: Vec<Vec<u8>> = (0..100).map(|id| udp(id, [198, 18, 0, 1], 4000, 63)).collect();
    bench.write("before.pcap", before.iter().map(Vec::as_slice));
    bench.write("after.pcap", after.iter().map(Vec::as_slice));
    before
}

const PORTS: &str = "
    port attach tap0 net_pcap0,rx_pcap=@/before.pcap
    port attach tap1 net_pcap1,rx_pcap=@/after.pcap
    port attach ids0 net_pcap2,tx_pcap=@/ids.pcap rxq 0
    tool create ids port ids0
";

#[test]
fn copies_of_a_packet_from_two_taps_reach_the_tool_once() {
    let bench = Bench::new();
    let originals = taps(&bench);
    let run = bench
        .run(&format!("{PORTS} rule create 10 from tap0,tap1 dedup window 10s ignore ttl to ids"), &[]);
    assert_eq!(bench.read("ids.pcap").len(), 100);
    let ids = |packets: &[Vec<u8>]| {
        let mut ids: Vec<u16> =
            packets.iter().map(|packet| u16::from_be_bytes([packet[18], packet[19]])).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&bench.read("ids.pcap")), ids(&originals));
    assert_eq!((run.number("packets/delivered"), run.number("packets/duplicate")), (100, 100));
    assert_eq!((run.number("rules/10/matched"), run.number("rules/10/duplicates")), (200, 100));
    let dedup = &run.last()["dedup"]["10"];
    assert_eq!(
        (&dedup["packets"], &dedup["duplicates"], &dedup["forgotten"]),
        (&200.into(), &100.into(), &0.into())
    );
    let mut counted = 0;
    for pair in dedup["pairs"].as_array().expect("pairs are listed") {
        assert_ne!(pair["first"], pair["duplicate"]);
        counted += pair["duplicates"].as_u64().expect("a number");
        let gaps: u64 = pair["gaps"]
            .as_array()
            .expect("a histogram")
            .iter()
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert_eq!(pair["duplicates"], gaps);
    }
    assert_eq!(counted, 100);
}

#[test]
fn what_differs_is_no_duplicate_unless_ignored_and_a_port_outside_the_scope_is_not_compared() {
    let bench = Bench::new();
    taps(&bench);
    let run = bench.run(&format!("{PORTS} rule create 10 from tap0,tap1 dedup window 10s to ids"), &[]);
    assert_eq!((run.number("packets/delivered"), run.number("packets/duplicate")), (200, 0));
    let run = bench.run(
        &format!("{PORTS} rule create 10 from any dedup window 10s ignore ttl scope ports tap1 to ids"),
        &[],
    );
    assert_eq!((run.number("packets/delivered"), run.number("dedup/10/packets")), (200, 100));
}

#[test]
fn action_count_counts_duplicates_and_delivers_them() {
    let bench = Bench::new();
    taps(&bench);
    let run = bench.run(
        &format!("{PORTS} rule create 10 from any dedup window 10s ignore ttl action count to ids"),
        &[],
    );
    assert_eq!((run.number("packets/delivered"), run.number("packets/duplicate")), (200, 0));
    assert_eq!(run.number("rules/10/duplicates"), 100);
    assert_eq!(bench.read("ids.pcap").len(), 200);
}

/// For each packet of a capture, as tshark reads it: the IP identification, and the VLAN ids from the outermost on.
fn tags(bench: &Bench, name: &str) -> Vec<(u16, Vec<u16>)> {
    let path = bench.path(name);
    let fields = ["-T", "fields", "-e", "ip.id", "-e", "vlan.id"];
    let said =
        Command::new("tshark").args(["-n", "-r"]).arg(path).args(fields).output().expect("tshark starts");
    let text = String::from_utf8(said.stdout).expect("tshark writes text");
    let rows = text.lines().map(|line| {
        let (id, vlans) = line.split_once('\t').expect("two fields");
        let id = u16::from_str_radix(id.trim_start_matches("0x"), 16).expect("an identification");
        (
            id,
            vlans
                .split(',')
                .filter(|vlan| !vlan.is_empty())
                .map(|vlan| vlan.parse().expect("a number"))
                .collect(),
        )
    });
    rows.collect()
}

/// The first with each identification has `first` tags, the second `second`.
fn assert_tagged(packets: &[(u16, Vec<u16>)], first: &[u16], second: &[u16]) {
    assert_eq!(packets.len(), 200);
    let mut seen = HashSet::new();
    for (id, vlans) in packets {
        assert_eq!(vlans, if seen.insert(*id) { first } else { second }, "packet {id}");
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn action_tag_delivers_duplicates_with_a_tag_that_others_do_not_have() {
    if !has_program("tshark") {
        return;
    }
    let bench = Bench::new();
    taps(&bench);
    for (action, vlan) in [("tag", 4094), ("tag 777", 777)] {
        let run = bench.run(
            &format!("{PORTS} rule create 10 from any dedup window 10s ignore ttl action {action} to ids"),
            &[],
        );
        assert_eq!((run.number("packets/delivered"), run.number("packets/duplicate")), (200, 0));
        assert_eq!((run.number("rules/10/duplicates"), run.number("tools/ids/sent")), (100, 200));
        assert_tagged(&tags(&bench, "ids.pcap"), &[], &[vlan]);
        let (untagged, tagged): (Vec<Vec<u8>>, _) =
            bench.read("ids.pcap").into_iter().partition(|packet| packet[12..14] == [8, 0]);
        let stripped: Vec<Vec<u8>> =
            tagged.iter().map(|packet| [&packet[..12], &packet[16..]].concat()).collect();
        let both: HashSet<Vec<u8>> = untagged.into_iter().chain(stripped).collect();
        let taps = [bench.read("before.pcap"), bench.read("after.pcap")].concat();
        assert_eq!(both, taps.into_iter().collect(), "but for the tag, copies are the packets");
    }
}

#[test]
fn the_mark_of_a_duplicate_is_outermost_and_each_tool_gets_it_from_the_rule_that_chose_it_first() {
    if !has_program("tshark") {
        return;
    }
    let bench = Bench::new();
    taps(&bench);
    let run = bench.run(
        &format!(
            "{PORTS} port attach plain0 net_pcap3,tx_pcap=@/plain.pcap rxq 0
             port attach bare0 net_pcap4,tx_pcap=@/bare.pcap rxq 0
             port attach member0 net_pcap5,tx_pcap=@/member.pcap rxq 0
             tool create plain port plain0
             tool create bare port bare0 strip vlan
             tool create member port member0
             group create one tools member
             rule create 5 from any to plain
             rule create 10 from any tag vlan 5 dedup window 10s ignore ttl action tag 6 to ids,plain,bare,one"
        ),
        &[],
    );
    assert_eq!(run.number("packets/delivered"), 200);
    assert_tagged(&tags(&bench, "ids.pcap"), &[5], &[6, 5]);
    assert_tagged(&tags(&bench, "member.pcap"), &[5], &[6, 5]);
    assert_tagged(&tags(&bench, "plain.pcap"), &[], &[]);
    assert_tagged(&tags(&bench, "bare.pcap"), &[], &[5]);
}
