//! RSS hashes that a NIC gives, and VLAN tags that it takes off.

use std::collections::BTreeMap;

use tapline_harness::bench::Bench;
use tapline_harness::frames::{tagged, tcp4, udp, udp6};
use tapline_harness::judges::assert_same;
use tapline_harness::lab::Account;
use tapline_harness::simnic::{Arrived, Simnic, Word};

use super::{NIC, wait_for};

/// Both directions of 64 flows, one behind the other, numbered by the IP identification.
fn both_directions() -> Vec<Vec<u8>> {
    let way = |index: u16| {
        let flow = index / 2;
        let mut frame = udp(index, [198, 18, 1, flow as u8], 1024 + 7 * flow, 64);
        if index % 2 == 1 {
            // the answer: addresses and ports the other way around; the header's sum is the same
            let (source, destination) = (frame[26..30].to_vec(), frame[30..34].to_vec());
            frame[26..30].copy_from_slice(&destination);
            frame[30..34].copy_from_slice(&source);
            let (source, destination) = (frame[34..36].to_vec(), frame[36..38].to_vec());
            frame[34..36].copy_from_slice(&destination);
            frame[36..38].copy_from_slice(&source);
        }
        frame
    };
    (0..128).map(way).collect()
}

/// The tool that each frame went to, by its number.
type Places = BTreeMap<usize, &'static str>;

/// Balances the flows by `hash rss` over two tools.
fn balance(words: &str, fixed_hash: u64) -> Option<(Places, Vec<Arrived>, Account)> {
    let bench = Bench::new();
    let nic = Simnic::new(&bench, &[(NIC, words)])?;
    let frames = both_directions();
    nic.bring(NIC, &frames);
    nic.set(NIC, Word::FixedHash, fixed_hash);
    let mut prompt = bench.start_with(
        &format!(
            "set idle sleep
            port attach nic0 {NIC} rxq 2 txq 0
            port attach a0 net_pcap1,tx_pcap=@/a.pcap rxq 0
            port attach b0 net_pcap2,tx_pcap=@/b.pcap rxq 0
            tool create a port a0
            tool create b port b0
            group create g tools a,b hash rss
            rule create 10 from nic0 to g
            start"
        ),
        &nic.variables(),
    );
    nic.set(NIC, Word::Released, frames.len() as u64);
    wait_for(&mut prompt, frames.len());
    let account = prompt.quit();
    let mut places = Places::new();
    for tool in ["a", "b"] {
        for frame in bench.read(&format!("{tool}.pcap")) {
            places.insert(usize::from(u16::from_be_bytes([frame[18], frame[19]])), tool);
        }
    }
    assert_eq!(places.len(), frames.len());
    Some((places, nic.arrived(NIC), account))
}

/// Frames that went to each tool.
fn shares(places: &Places) -> [usize; 2] {
    ["a", "b"].map(|tool| places.values().filter(|place| **place == tool).count())
}

fn assert_directions_stay_together(places: &Places) {
    for flow in 0..64 {
        assert_eq!(places[&(2 * flow)], places[&(2 * flow + 1)], "flow {flow}");
    }
}

#[test]
fn a_group_goes_by_the_hash_of_a_nic_that_took_the_symmetric_key_and_by_its_own_of_any_other() {
    let Some((by_nic, arrived, _)) = balance("", 0) else { return };
    assert_directions_stay_together(&by_nic);
    let shares_of_nic = shares(&by_nic);
    assert!(shares_of_nic.iter().all(|&share| share > 20), "{shares_of_nic:?}");
    // the NIC has the key that it was given
    assert!(arrived.chunks(2).all(|way| way[0].hash == way[1].hash && way[0].queue == way[1].queue));
    assert!(arrived.iter().any(|frame| frame.queue == 1) && arrived.iter().any(|frame| frame.queue == 0));

    // a NIC that hashes all alike is believed: nobody computes another hash
    let (fixed, ..) = balance("", 0x1234_5678).expect("the NIC was compiled");
    assert!(shares(&fixed).contains(&128), "{:?}", shares(&fixed));

    // one whose key is another is not
    let (by_own, arrived, account) = balance("asymmetric=1", 0x1234_5678).expect("the NIC was compiled");
    assert_eq!(by_own, by_nic, "a flow is where it belongs, whoever hashes it");
    assert!(arrived.iter().any(|frame| frame.hash == 0x1234_5678));
    assert!(account.stderr.contains("the driver did not take the symmetric RSS key"), "{}", account.stderr);
}

/// Frames with tags of every kind come as they were to a NIC that takes tags off.
fn come_whole(words: &str) {
    let bench = Bench::new();
    let Some(nic) = Simnic::new(&bench, &[(NIC, words)]) else { return };
    let twice = tagged(&tagged(&tcp4(40), 7, 1), 100, 0);
    let mut service = tagged(&tagged(&tcp4(40), 7, 1), 300, 0);
    service[12..14].copy_from_slice(&[0x88, 0xa8]);
    let frames = [
        tagged(&tcp4(100), 100, 3),
        udp6(59),
        tagged(&udp6(7), 4094, 7),
        twice,
        service,
        tagged(&tcp4(1), 0, 5),
        tcp4(33),
    ];
    nic.bring(NIC, &frames);
    let mut prompt = bench.start_with(
        &format!(
            "set idle sleep
            port attach nic0 {NIC} txq 0
            port attach whole0 net_pcap1,tx_pcap=@/whole.pcap rxq 0
            port attach part0 net_pcap2,tx_pcap=@/part.pcap rxq 0
            tool create whole port whole0
            tool create part port part0
            rule create 10 from nic0 vlan 100 to part
            rule create 20 from nic0 to whole
            start"
        ),
        &nic.variables(),
    );
    nic.set(NIC, Word::Released, frames.len() as u64);
    wait_for(&mut prompt, frames.len());
    let account = prompt.quit();
    assert_same("whole", &bench.read("whole.pcap"), &frames);
    assert_same("part", &bench.read("part.pcap"), &[frames[0].clone(), frames[3].clone()]);
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(account.number("ports/nic0/received_bytes"), bytes as u64);
}

#[test]
fn tags_that_the_nic_took_off_are_put_back_before_anything_looks_at_a_packet() {
    // one tag, or both of two
    come_whole("strips=1");
    come_whole("strips=2");
}
