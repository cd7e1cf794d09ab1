//! Copies of several ports leave in the order of their times.

use tapline_capture::ByteOrder;
use tapline_harness::judges;
use tapline_harness::lab::Lab;
use tapline_harness::pcap_files::packets;

use super::packets::{Form, Timed, assert_same, office, read, write};

/// Deals packets out to three captures, by a pattern without a period.
fn deal(lab: &Lab, packets: &[Timed]) {
    let mut hands: [Vec<Timed>; 3] = Default::default();
    for (index, packet) in packets.iter().enumerate() {
        hands[index * index / 7 % 3].push(packet.clone());
    }
    for (name, hand) in ["a.cap", "b.cap", "c.cap"].iter().zip(&hands) {
        write(&lab.path(name), Form::PcapNs(ByteOrder::Little), hand);
    }
}

fn ports(speed: &str) -> String {
    ["a", "b", "c"].map(|name| format!("port attach {name} replay:{name}.cap,speed={speed}\n")).concat()
}

#[test]
fn three_captures_that_were_one_are_one_again() {
    for speed in ["max", "original"] {
        let lab = Lab::new();
        let packets = office();
        deal(&lab, &packets);
        let rest = "tool create t capture out.pcapng order window 1ms\nrule create 10 from a,b,c to t\n";
        let account = lab.account(&format!("{}{rest}", ports(speed)), &[]);
        let out = read(&lab.path("out.pcapng"));
        assert_eq!(out.len(), packets.len());
        if speed == "max" {
            // paced replays may be late where the machine is busy
            assert_same(speed, &out, &packets);
            assert_eq!(account.number("tools/t/late"), 0);
        }
    }
}

#[test]
fn a_tool_behind_a_port_gets_copies_in_order_beside_one_that_does_not() {
    let lab = Lab::new();
    let whole = office();
    deal(&lab, &whole);
    let rest = "port attach p net_pcap0,tx_pcap=ordered.pcap rxq 0\nport attach q net_pcap1,tx_pcap=not.pcap rxq 0\n\
                tool create ordered port p order window 500us\ntool create not-ordered port q\n\
                rule create 10 from a,b,c to ordered,not-ordered\n";
    let account = lab.account(&format!("set mempool 16384\n{}{rest}", ports("max")), &[]);
    let expected: Vec<Vec<u8>> = whole.into_iter().map(|packet| packet.bytes).collect();
    judges::assert_same("ordered", &packets(&lab.path("ordered.pcap")), &expected);
    assert_eq!(
        (account.number("tools/ordered/late"), account.number("tools/ordered/sent")),
        (0, expected.len() as u64)
    );
    assert_eq!(packets(&lab.path("not.pcap")).len(), expected.len());
    assert!(account.last()["tools"]["not-ordered"].get("late").is_none());
}

#[test]
fn copies_that_another_worker_hands_over_are_put_in_order_with_the_rest() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        return tapline_skip::skipped("one CPU");
    }
    let lab = Lab::new();
    let whole: Vec<Timed> = office();
    deal(&lab, &whole);
    let rest = "port attach p net_pcap0,tx_pcap=out.pcap rxq 0\ntool create t port p order window 10s queue 6000\n\
                rule create 10 from a,b,c to t\n";
    let start = "set lcores 0,1\nset idle sleep\nset mempool 16384\n";
    // the window is longer than the captures: nothing leaves before all is there, whoever is faster
    let account = lab.account(&format!("{start}{}{rest}", ports("max")), &["--exit-idle", "500ms"]);
    let expected: Vec<Vec<u8>> = whole.into_iter().map(|packet| packet.bytes).collect();
    judges::assert_same("handed over", &packets(&lab.path("out.pcap")), &expected);
    assert_eq!(account.number("tools/t/late"), 0);
}

#[test]
fn what_is_later_than_the_window_is_counted_and_still_delivered() {
    let lab = Lab::new();
    let mut timed: Vec<Timed> = office().into_iter().take(200).collect();
    // one in ten is behind by far more than the window
    let late = timed.iter_mut().skip(50).step_by(10).map(|packet| packet.ns -= 500_000).count() as u64;
    write(&lab.path("a.cap"), Form::PcapNs(ByteOrder::Little), &timed);
    let pipeline = "set burst 1\nport attach a replay:a.cap,speed=max\nport attach p net_pcap0,tx_pcap=out.pcap rxq 0\n\
                    tool create t port p order window 1us\nrule create 10 from a to t\n";
    let account = lab.account(pipeline, &[]);
    assert_eq!((account.number("tools/t/late"), account.number("tools/t/sent")), (late, 200));
    // a late copy overtakes the one that is held
    let mut expected: Vec<Vec<u8>> = timed.into_iter().map(|packet| packet.bytes).collect();
    let mut out = packets(&lab.path("out.pcap"));
    expected.sort();
    out.sort();
    judges::assert_same("all of them", &out, &expected);
}
