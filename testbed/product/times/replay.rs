//! Captures as ports: what is in the file comes in, with its times and lengths; damage is told.

use std::process::Command;

use tapline_capture::ByteOrder;
use tapline_harness::judges::{self, number};
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::programs::has_program;

use super::packets::{Form, Timed, assert_same, office, read, write};

const WHOLE: &str = "port attach in replay:in.cap,speed=max\ntool create t capture out.pcapng\nrule create 10 from in to t\n";

#[test]
fn every_format_comes_in_with_its_times_and_lengths() {
    for form in [
        Form::PcapUs(ByteOrder::Little),
        Form::PcapUs(ByteOrder::Big),
        Form::PcapNs(ByteOrder::Little),
        Form::PcapNs(ByteOrder::Big),
        Form::Pcapng(ByteOrder::Little),
        Form::Pcapng(ByteOrder::Big),
    ] {
        let lab = Lab::new();
        let packets = office();
        write(&lab.path("in.cap"), form, &packets);
        let account = lab.account(WHOLE, &[]);
        let expected = read(&lab.path("in.cap"));
        assert_eq!(expected.len(), packets.len());
        assert_same(&format!("{form:?}"), &read(&lab.path("out.pcapng")), &expected);
        assert_eq!(account.number("ports/in/received"), packets.len() as u64);
        assert_eq!(account.number("ports/in/driver/rx_packets"), packets.len() as u64);
        assert_eq!(account.last()["ports"]["in"]["replay"]["ended"], true);
    }
}

#[test]
fn filters_see_the_length_on_the_wire_as_tcpdump_does() {
    if !has_program("tcpdump") {
        return;
    }
    for expression in ["greater 1000", "less 200", "tcp", "udp port 53 or vlan", "len > 96 and ip"] {
        let lab = Lab::new();
        write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &office());
        let pipeline = WHOLE.replace("from in", &format!("from in match \"{expression}\""));
        lab.account(&pipeline, &[]);
        let arguments = ["--time-stamp-precision=nano", "-r", "in.cap", "-w", "-", "--", expression];
        let output = Command::new("tcpdump")
            .args(arguments)
            .current_dir(lab.path(""))
            .output()
            .expect("tcpdump runs");
        let expected = read(&lab.write("expected.pcap", output.stdout));
        assert!(!expected.is_empty(), "{expression}");
        assert_same(expression, &read(&lab.path("out.pcapng")), &expected);
    }
}

#[test]
fn a_paced_replay_brings_the_same_packets_as_one_flat_out() {
    for speed in ["original", "3x"] {
        let lab = Lab::new();
        let packets = office();
        write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
        lab.account(&WHOLE.replace("speed=max", &format!("speed={speed}")), &[]);
        assert_same(speed, &read(&lab.path("out.pcapng")), &packets);
    }
}

#[test]
fn further_passes_go_on_in_time_where_the_one_before_ended() {
    let lab = Lab::new();
    let packets: Vec<Timed> = office().into_iter().take(101).collect();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let account = lab.account(&WHOLE.replace("speed=max", "speed=max,loop=3"), &[]);
    let span = packets[100].ns - packets[0].ns;
    let shifted = |pass: u64| {
        packets
            .iter()
            .map(move |packet| Timed { ns: packet.ns + pass * (span + span / 100), ..packet.clone() })
    };
    let expected: Vec<Timed> = (0..3).flat_map(shifted).collect();
    assert_same("three passes", &read(&lab.path("out.pcapng")), &expected);
    assert_eq!(account.number("ports/in/replay/passes"), 3);
}

#[test]
fn what_came_before_damage_is_delivered_and_the_place_is_told() {
    let lab = Lab::new();
    let packets: Vec<Timed> = office().into_iter().take(300).collect();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let bytes = std::fs::read(lab.path("in.cap")).expect("it was written");
    lab.write("in.cap", &bytes[..bytes.len() - 10]);
    let ended = lab.run(WHOLE, &[]);
    assert_eq!(ended.status, Some(1));
    let last_record = bytes.len() - packets[299].bytes.len() - 16;
    assert!(
        ended.stderr.contains(&format!("error: port in: in.cap: at byte {last_record}: ")),
        "{}",
        ended.stderr
    );
    assert_same("before the damage", &read(&lab.path("out.pcapng")), &packets[..299]);
    let last = ended.stats.last().expect("statistics");
    judges::assert_balanced(last);
    assert_eq!(number(last, "ports/in/received"), 299);
}

#[test]
fn a_capture_that_is_not_of_ethernet_is_refused_before_the_start() {
    let lab = Lab::new();
    let dead = pcap::Capture::dead(pcap::Linktype(105)).expect("IEEE 802.11");
    dead.savefile(lab.path("in.cap")).expect("a writable folder").flush().expect("a writable folder");
    let error = lab.run(WHOLE, &[]).failed(2);
    assert!(error.contains("only Ethernet (1) can be replayed"), "{error}");
    lab.write("in.cap", "no capture at all");
    let error = lab.run(WHOLE, &[]).failed(2);
    assert!(error.contains("neither a pcap nor a pcapng file"), "{error}");
    std::fs::remove_file(lab.path("in.cap")).expect("it was written");
    let error = lab.run(WHOLE, &[]).failed(1);
    assert!(error.contains("port in: in.cap: cannot be opened: No such file"), "{error}");
}

#[test]
fn packets_that_ethernet_could_not_carry_are_passed_over_and_counted() {
    if !has_program("mergecap") || !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("a.cap"), Form::PcapNs(ByteOrder::Little), &packets[..50]);
    write(&lab.path("b.cap"), Form::PcapNs(ByteOrder::Little), &packets[50..60]);
    write(&lab.path("c.cap"), Form::PcapNs(ByteOrder::Little), &packets[60..200]);
    let tool = |program: &str, arguments: &[&str]| {
        let status =
            Command::new(program).args(arguments).current_dir(lab.path("")).status().expect("it runs");
        assert!(status.success(), "{program}");
    };
    tool("editcap", &["-F", "pcapng", "-T", "ieee-802-11", "b.cap", "wlan.cap"]);
    tool("mergecap", &["-F", "pcapng", "-a", "-I", "none", "-w", "in.cap", "a.cap", "wlan.cap", "c.cap"]);
    let expected: Vec<Timed> = packets[..50].iter().chain(&packets[60..200]).cloned().collect();
    for (passes, speed) in [(1, "max"), (1, "100x"), (3, "max")] {
        let pipeline = WHOLE.replace("speed=max", &format!("speed={speed},loop={passes}"));
        let ended = lab.run(&pipeline, &[]);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        let said = format!("that none can be made of, were passed over: {}", 10 * passes);
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        let last = ended.stats.last().expect("statistics");
        judges::assert_balanced(last);
        assert_eq!(number(last, "ports/in/replay/passed_over"), 10 * passes);
        assert_eq!(number(last, "ports/in/received"), 190 * passes);
        assert_same("around them", &read(&lab.path("out.pcapng"))[..190], &expected);
    }
    // what is left of the file counts without them
    let slow = WHOLE.replace("speed=max", "speed=0.01x");
    let ended = lab.run(&slow, &["--duration", "400ms"]);
    let last = ended.stats.last().expect("statistics");
    let left = 190 - number(last, "ports/in/received");
    assert!(left > 0, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("left: {left})")), "{}", ended.stderr);
}

#[test]
fn a_replay_that_is_paused_loses_nothing() {
    use std::io::Write;
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    lab.write("test.pipe", WHOLE.replace("speed=max", "speed=original"));
    let arguments =
        ["run", "test.pipe", "--interactive", "--eal", EAL, "--stats", "stats.json", "--exit-idle", "1s"];
    let mut started = lab.start(lab.tapline(&arguments).stdin(std::process::Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    for line in ["start", "stop", "start", "stop", "start"] {
        writeln!(input, "{line}").expect("the program reads");
    }
    drop(input);
    lab.end(started).done();
    assert_same("paused twice", &read(&lab.path("out.pcapng")), &packets);
}

#[test]
fn nothing_can_be_sent_on_a_replay() {
    let lab = Lab::new();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &office());
    let error = lab
        .run(
            "port attach in replay:in.cap mtu 900\ntool create t port in\nrule create 10 from in to t\n",
            &[],
        )
        .failed(2);
    assert!(
        error.contains("port `in` is a replay") && error.contains("`mtu` does not apply to port `in`"),
        "{error}"
    );
}
