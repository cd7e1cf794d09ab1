//! Dedup in the running program.

use crate::support::{Bench, udp};

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
    let run = bench.run(&format!("{PORTS} rule create 10 from tap0,tap1 dedup window 10s ignore ttl to ids"), &[]);
    assert_eq!(bench.read("ids.pcap").len(), 100);
    let ids = |packets: &[Vec<u8>]| {
        let mut ids: Vec<u16> = packets.iter().map(|packet| u16::from_be_bytes([packet[18], packet[19]])).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&bench.read("ids.pcap")), ids(&originals));
    assert_eq!((run.count("/packets/delivered"), run.count("/packets/duplicate")), (100, 100));
    assert_eq!((run.count("/rules/10/matched"), run.count("/rules/10/duplicates")), (200, 100));
    let dedup = &run.last()["dedup"]["10"];
    assert_eq!((&dedup["packets"], &dedup["duplicates"], &dedup["forgotten"]), (&200.into(), &100.into(), &0.into()));
    let mut counted = 0;
    for pair in dedup["pairs"].as_array().expect("pairs are listed") {
        assert_ne!(pair["first"], pair["duplicate"]);
        counted += pair["duplicates"].as_u64().expect("a number");
        let gaps: u64 = pair["gaps"].as_array().expect("a histogram").iter().filter_map(|count| count.as_u64()).sum();
        assert_eq!(pair["duplicates"], gaps);
    }
    assert_eq!(counted, 100);
}

#[test]
fn what_differs_is_no_duplicate_unless_ignored_and_a_port_outside_the_scope_is_not_compared() {
    let bench = Bench::new();
    taps(&bench);
    let run = bench.run(&format!("{PORTS} rule create 10 from tap0,tap1 dedup window 10s to ids"), &[]);
    assert_eq!((run.count("/packets/delivered"), run.count("/packets/duplicate")), (200, 0));
    let run = bench.run(&format!("{PORTS} rule create 10 from any dedup window 10s ignore ttl scope ports tap1 to ids"), &[]);
    assert_eq!((run.count("/packets/delivered"), run.count("/dedup/10/packets")), (200, 100));
}

#[test]
fn action_count_counts_duplicates_and_delivers_them() {
    let bench = Bench::new();
    taps(&bench);
    let run = bench.run(&format!("{PORTS} rule create 10 from any dedup window 10s ignore ttl action count to ids"), &[]);
    assert_eq!((run.count("/packets/delivered"), run.count("/packets/duplicate")), (200, 0));
    assert_eq!(run.count("/rules/10/duplicates"), 100);
    assert_eq!(bench.read("ids.pcap").len(), 200);
}
