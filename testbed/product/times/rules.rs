//! Rules that go by time: on captures they go by the packets' times, at any speed, and dedup as editcap does.

use tapline_capture::ByteOrder;
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::programs::{has_program, run_in};

use super::packets::{Form, Timed, office, read, write};

const START_NS: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
/// The last second that a pcap file can say.
const YEAR_2106: u64 = u32::MAX as u64 * SECOND;

/// How a capture is brought in: flat out, in bursts or one by one, and by DPDK's driver; and paced.
const WAYS: [&str; 4] = [
    "port attach in replay:in.cap,speed=max\n",
    "set burst 1\nport attach in replay:in.cap,speed=max\n",
    "port attach in net_pcap0,rx_pcap=in.cap txq 0\n",
    "port attach in replay:in.cap,speed=100x\n",
];

/// UDP over IPv4, 10.0.0.1 to 10.0.0.2, from port 1000 and on, with this IP identification.
fn packet(ns: u64, id: u16, flow: u16) -> Timed {
    let mut bytes = vec![
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1,
        10, 0, 0, 2,
    ];
    bytes[18..20].copy_from_slice(&id.to_be_bytes());
    bytes.extend((1000 + flow).to_be_bytes());
    bytes.extend([0, 53, 0, 26, 0, 0]);
    bytes.extend([0x78; 18]);
    Timed { ns, original_len: bytes.len() as u32, bytes }
}

fn one_per_second() -> Vec<Timed> {
    (0..100u16).map(|second| packet(START_NS + u64::from(second) * SECOND, second, 0)).collect()
}

/// What a rule with these words keeps, however the capture is brought in.
fn kept(packets: &[Timed], settings: &str, words: &str) -> Vec<Vec<u8>> {
    kept_by(&WAYS, packets, settings, words)
}

fn kept_by(ways: &[&str], packets: &[Timed], settings: &str, words: &str) -> Vec<Vec<u8>> {
    let of_way = |way: &&str| {
        let lab = Lab::new();
        write(&lab.path("in.cap"), Form::PcapUs(ByteOrder::Little), packets);
        let pipeline = format!(
            "{settings}\n{way}tool create t capture out.pcapng\nrule create 10 from in {words} to t\n"
        );
        let account = lab.account(&pipeline, &[]);
        assert_eq!(account.number("ports/in/received"), packets.len() as u64);
        read(&lab.path("out.pcapng")).into_iter().map(|packet| packet.bytes).collect::<Vec<_>>()
    };
    let by_way: Vec<Vec<Vec<u8>>> = ways.iter().map(of_way).collect();
    for (way, kept) in ways.iter().zip(&by_way) {
        assert_eq!(kept.len(), by_way[0].len(), "{words}: {way}");
        assert!(*kept == by_way[0], "{words}: other packets are kept of {way}");
    }
    by_way.into_iter().next().expect("there are ways")
}

#[test]
fn copies_are_duplicates_by_their_own_times() {
    let same = |ms: u64| packet(START_NS + ms * 1_000_000, 7, 0);
    let packets = [0, 10_000, 10_100, 20_000, 20_010].map(same);
    assert_eq!(kept(&packets, "", "dedup window 50ms").len(), 4);
    assert_eq!(kept(&packets, "", "dedup window 100ms").len(), 3);
    // the second copy of a packet may be the earlier one
    assert_eq!(kept(&[100, 60].map(same), "", "dedup window 50ms").len(), 1);
    assert_eq!(kept(&[100, 40].map(same), "", "dedup window 50ms").len(), 2);
}

#[test]
fn one_packet_of_the_year_2106_in_the_middle_changes_nothing_for_the_others() {
    // a paced replay would wait until then
    let kept =
        |packets: &[Timed], settings: &str, words: &str| kept_by(&WAYS[..3], packets, settings, words);
    let mut packets = one_per_second();
    packets.insert(50, packet(YEAR_2106, 1000, 0));
    // the last second of 32 bits ends in 5
    assert_eq!(kept(&packets, "", "sample every 10s for 1s").len(), 10);
    // five, the wild one, and five that follow it
    assert_eq!(kept(&packets, "set flows 1000 idle 2s", "sample first 5 packets").len(), 11);
    packets[50] = packet(YEAR_2106, 1000, 1);
    assert_eq!(
        kept(&packets, "set flows 1000 idle 2s", "sample first 5 packets").len(),
        6,
        "of another flow"
    );
    packets.iter_mut().for_each(|packet| packet.bytes[18..20].fill(0));
    packets[50] = packet(YEAR_2106, 0, 0);
    assert_eq!(
        kept(&packets, "", "dedup window 2s").len(),
        3,
        "the first, the wild one, and the one that follows it"
    );
}

#[test]
fn samplers_go_by_the_times_of_the_capture() {
    let packets = one_per_second();
    assert_eq!(kept(&packets, "", "sample every 10s for 1s").len(), 10);
    assert_eq!(kept(&packets, "set flows 1000 idle 500ms", "sample first 5 packets").len(), 100);
    assert_eq!(kept(&packets, "set flows 1000 idle 2s", "sample first 5 packets").len(), 5);
    // begun anew every 11 s: nine times five packets, and the last
    assert_eq!(kept(&packets, "set flows 1000 idle 1m max-age 10s", "sample first 5 packets").len(), 46);
}

#[test]
fn a_rate_is_that_of_the_capture() {
    // a thousand flows, 1000 packets a second, for eight seconds
    let packets: Vec<Timed> = (0..8000u16)
        .map(|index| packet(START_NS + u64::from(index) * 1_000_000, index, index.wrapping_mul(37) % 1000))
        .collect();
    let kept = kept(&packets, "set seed 3", "sample rate 100pps").len();
    assert!((200..=1000).contains(&kept), "{kept} of 8000 in eight seconds");
}

#[test]
fn a_capture_in_any_order_is_left_by_dedup_as_editcap_leaves_it() {
    if !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    // every third packet comes again, after 10 to 90 ms
    let mut packets: Vec<Timed> =
        office().into_iter().take(1500).filter(|packet| packet.bytes.len() < 1500).collect();
    let again = packets.iter().enumerate().filter(|(index, _)| index % 3 == 0);
    let again: Vec<Timed> = again
        .map(|(index, packet)| Timed {
            ns: packet.ns + (index as u64 % 9 + 1) * 10_000_000,
            ..packet.clone()
        })
        .collect();
    packets.extend(again);
    packets.sort_by_key(|packet| packet.ns);
    // packets of several taps are late by little, and one clock was set
    packets.chunks_mut(7).for_each(|chunk| chunk[0].ns -= 3_000_000);
    let half = packets.len() / 2;
    packets[half..].iter_mut().for_each(|packet| packet.ns -= 40 * SECOND);
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let arguments = ["-F", "nsecpcap", "-w", "0.05", "in.cap", "expected.pcap"];
    run_in(&lab.path(""), "editcap", &arguments);
    let pipeline = "port attach in replay:in.cap,speed=max\ntool create t capture out.pcapng\nrule create 10 from in dedup window 50ms to t\n";
    lab.account(pipeline, &[]);
    let (ours, expected) = (read(&lab.path("out.pcapng")), read(&lab.path("expected.pcap")));
    assert!(expected.len() < packets.len() - 100, "{} of {}", expected.len(), packets.len());
    assert_eq!(ours.len(), expected.len());
    for (number, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert!((ours.ns, &ours.bytes) == (expected.ns, &expected.bytes), "packet {number} of those kept");
    }
}

#[test]
fn flows_return_when_they_are_idle_by_the_times_of_their_packets() {
    let lab = Lab::new();
    // 64 flows of a packet a second, of which one ends every 20 s
    let second = |second: u64| {
        let alive = (0..64u16).filter(move |&flow| second <= 20 * (u64::from(flow) + 1));
        alive.map(move |flow| packet(START_NS + second * SECOND, second as u16, flow))
    };
    let packets: Vec<Timed> = (0..1280).flat_map(second).collect();
    write(&lab.path("in.cap"), Form::PcapUs(ByteOrder::Little), &packets);
    lab.write(
        "test.pipe",
        "port attach in replay:in.cap,speed=20x\ntool create a discard\ntool create b discard\n\
         group create g tools a,b return idle 30s\nrule create 10 from in to g\nstart\n",
    );
    let arguments = ["run", "test.pipe", "-i", "--eal", EAL, "--stats", "stats.json", "--interval", "20ms"];
    let mut command = lab.tapline(&arguments);
    let mut started = lab.start(command.stdin(std::process::Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let mut say = |line: &str| {
        use std::io::Write;
        writeln!(input, "{line}").expect("it reads");
    };
    let number = |stats: &serde_json::Value, pointer: &str| {
        stats.pointer(pointer).and_then(serde_json::Value::as_u64)
    };
    lab.until("packets come", |stats| number(stats, "/packets/received") > Some(128));
    say("tool drain a");
    let pending = "/groups/g/buckets_pending";
    let first = lab.until("flows wait to be idle", |stats| number(stats, pending) > Some(0));
    let moved = lab.until("one of them is idle", |stats| number(stats, pending) < number(&first, pending));
    let received = number(&moved, "/packets/received").expect("a number") as usize;
    let seconds = (packets[received - 1].ns - START_NS) / SECOND;
    // by the wall clock the first that ends is idle after 20 s and six hundred more of the capture
    assert!((50..600).contains(&seconds), "{seconds} seconds of the capture");
    let at_a = number(&moved, "/tools/a/sent");
    lab.until("flows that are not idle stay", |stats| number(stats, "/tools/a/sent") > at_a);
    say("quit");
    let done = lab.end(started).done();
    assert!(done.number("groups/g/buckets_pending") > 0);
}

#[test]
fn a_rule_that_compares_ports_of_different_clocks_is_warned_of() {
    let lab = Lab::new();
    let ports = "port attach tap0 net_pcap0,rx_pcap=in.cap\nport attach tap1 net_null0\nport attach tap2 net_null1\n\
                 port attach tap3 net_af_packet0,iface=lo terminate erspan\ntool create t discard\n";
    write(&lab.path("in.cap"), Form::PcapUs(ByteOrder::Little), &one_per_second());
    let check = |rule: &str| {
        lab.write("test.pipe", format!("{ports}rule create 10 from any {rule} to t\n"));
        let output = lab.tapline(&["check", "test.pipe"]).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    for (scope, ports) in [
        ("", "`tap0` and by `tap1`"),
        ("scope ports tap0,tap2", "`tap0` and by `tap2`"),
        ("scope ports tap2,tap3", "`tap2` and by `tap3`"),
    ] {
        let said = check(&format!("dedup window 50ms {scope}"));
        let expected = format!("rule 10 does not find copies of a packet that come by {ports}");
        assert!(said.contains(&expected), "{scope}: {said}");
    }
    for scope in ["scope ports tap1,tap2", "scope ports tap0", "scope ports tap3"] {
        let said = check(&format!("dedup window 50ms {scope}"));
        assert!(!said.contains("does not find copies"), "{scope}: {said}");
    }
}
