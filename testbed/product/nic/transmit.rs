//! The work that a NIC is asked to do on copies, and the end of copies that it does not take.

use tapline_harness::bench::{Bench, dropped, flows};
use tapline_harness::frames::frames;
use tapline_harness::programs::has_program;
use tapline_harness::simnic::{Simnic, Transmitted, Word};
use tapline_harness::tshark::{assert_sound, fields};

use super::wait_for;

const OUT: &str = "net_pcap1";
/// A checksum that tshark computed, and found to be right.
const GOOD: &str = "1";
const MAC: &str = "next-hop 02:00:00:00:00:09";

/// Sends frames to a VXLAN tool of these words behind a NIC; what that was to transmit. The copies are in `out.pcap`.
fn tunnel(bench: &Bench, nic_words: &str, tool_words: &str) -> Option<Vec<Transmitted>> {
    let nic = Simnic::new(bench, &[(OUT, nic_words)])?;
    let frames = frames();
    bench.write("in.pcap", &frames);
    let mut prompt = bench.start_with(
        &format!(
            "set idle sleep
            port attach tap0 net_pcap0,rx_pcap=@/in.pcap txq 0
            port attach out0 {OUT},tx_pcap=@/out.pcap rxq 0
            tool create out port out0 vxlan vni 7 {tool_words}
            rule create 10 from tap0 to out
            start"
        ),
        &nic.variables(),
    );
    wait_for(&mut prompt, frames.len());
    let account = prompt.quit();
    assert_eq!(account.number("tools/out/sent"), frames.len() as u64);
    let transmitted = nic.transmitted(OUT);
    assert_eq!(transmitted.len(), frames.len());
    Some(transmitted)
}

#[test]
fn udp_checksums_are_left_to_a_nic_that_computes_them_and_no_chains_to_one_that_takes_none() {
    if !has_program("tshark") {
        return;
    }
    let ends = [
        format!("src 198.18.0.1 dst 198.18.0.9 {MAC} udp-checksum on"),
        format!("src 2001:db8::1 dst 2001:db8::9 {MAC}"),
    ];
    let mut chains = Vec::new();
    for ends in &ends {
        for (words, sums, takes_chains) in [
            ("sums=1 chains=1", true, true),
            ("sums=1", true, false),
            ("chains=1", false, true),
            ("", false, false),
        ] {
            let bench = Bench::new();
            let Some(transmitted) = tunnel(&bench, words, ends) else { return };
            for packet in &transmitted {
                assert_eq!(packet.asks_for_checksum, sums, "{words}, {ends}");
                assert!(
                    takes_chains || packet.segments == 1,
                    "{words}, {ends}: {} segments",
                    packet.segments
                );
            }
            chains.extend(transmitted.iter().filter(|packet| packet.segments > 1).copied());
            let path = bench.path("out.pcap");
            assert_sound(&path, &[]);
            // the outermost is the tunnel's
            for row in fields(&path, &[], &["udp.checksum.status"]) {
                assert_eq!(row[0].split(';').next(), Some(GOOD), "{words}, {ends}: {row:?}");
            }
        }
    }
    assert!(!chains.is_empty(), "no NIC was given a chain");
}

#[test]
fn copies_that_a_nic_refuses_wait_and_those_that_find_no_room_are_congested() {
    let bench = Bench::new();
    let Some(nic) = Simnic::new(&bench, &[(OUT, "")]) else { return };
    flows(&bench);
    nic.set(OUT, Word::Refusing, 1);
    let mut prompt = bench.start_with(
        &format!(
            "set idle sleep
            port attach tap0 net_pcap0,rx_pcap=@/in.pcap txq 0
            port attach out0 {OUT},tx_pcap=@/out.pcap rxq 0
            tool create out port out0 queue 64 down-after 60s
            rule create 10 from tap0 to out
            start"
        ),
        &nic.variables(),
    );
    wait_for(&mut prompt, 1000);
    nic.set(OUT, Word::Refusing, 0);
    prompt.wait("what waits is sent", |stats| {
        let of = |key: &str| stats["tools"]["out"][key].as_u64().unwrap_or(0);
        of("sent") > 0
            && stats["tools"]["out"]["dropped"]["congested"].as_u64().unwrap_or(0) + of("sent") == 1000
    });
    let account = prompt.quit();
    let (sent, congested) = (account.number("tools/out/sent"), dropped(&account, "out", "congested"));
    assert_eq!(sent + congested, 1000);
    assert!((64..=192).contains(&sent), "{sent} are sent");
    assert_eq!(bench.read("out.pcap").len() as u64, sent);
    assert_eq!(nic.transmitted(OUT).len() as u64, sent);
}
