//! The files that users copy: each checks without a warning, runs on the demo's capture, and does what its comment says.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tapline_harness::judges::assert_same;
use tapline_harness::lab::{Account, EAL, Lab};
use tapline_harness::pcap_files::{packets, tcpdump_selects};
use tapline_harness::programs::has_program;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

/// Runs a file as its comment says, in a lab with the demo's capture where `make demo` puts it.
fn run(lab: &Lab, name: &str, flags: &[&str]) -> Account {
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    let file = folder().join(name);
    let mut arguments =
        vec!["run", file.to_str().expect("a readable path"), "--eal", EAL, "--stats", "stats.json"];
    arguments.extend(flags);
    lab.end(lab.start(&mut lab.tapline(&arguments))).done()
}

const UNTIL_IDLE: [&str; 2] = ["--exit-idle", "1s"];

fn whole() -> Vec<Vec<u8>> {
    tapline_traffic::office().packets.into_iter().map(|packet| packet.bytes).collect()
}

fn out(lab: &Lab, name: &str) -> Vec<Vec<u8>> {
    packets(&lab.path(&format!("demo-out/{name}.pcap")))
}

#[test]
fn every_file_checks_without_a_warning_and_begins_with_a_comment() {
    let lab = Lab::new();
    // files of the demo go there, beside the capture that it reads
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    let mut count = 0;
    for entry in folder().read_dir().expect("the pipelines folder").flatten() {
        let path = entry.path();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        assert!(
            text.starts_with("# ") && text.contains("tapline run pipelines/"),
            "{} does not say what it does",
            path.display()
        );
        let ended =
            lab.end(lab.start(&mut lab.tapline(&["check", path.to_str().expect("a readable path")])));
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{}", path.display());
        count += 1;
    }
    assert!(count >= 7, "{count} files");
}

#[test]
fn span_copies_everything_to_one_tool() {
    let lab = Lab::new();
    run(&lab, "span.pipe", &UNTIL_IDLE);
    assert_same("analyser", &out(&lab, "span"), &whole());
}

#[test]
fn replicate_gives_three_tools_the_same() {
    let lab = Lab::new();
    run(&lab, "replicate.pipe", &UNTIL_IDLE);
    for tool in ["ids", "ndr", "apm"] {
        assert_same(tool, &out(&lab, tool), &whole());
    }
}

#[test]
fn filter_and_balance_spreads_all_but_backups_over_four_sensors() {
    let lab = Lab::new();
    let account = run(&lab, "filter-and-balance.pipe", &UNTIL_IDLE);
    let ssh = "tcp port 22 or (vlan and (tcp port 22 or (vlan and tcp port 22)))";
    let Some(backup) = tcpdump_selects(&lab.path("demo-out/traffic.pcap"), ssh) else { return };
    assert_eq!(account.number("packets/excluded"), backup.len() as u64);
    let mut expected: Vec<Vec<u8>> =
        whole().into_iter().filter(|packet| !backup.contains(packet)).collect();
    let sensors = ["sensor0", "sensor1", "sensor2", "sensor3"].map(|name| out(&lab, name));
    assert!(sensors.iter().all(|sensor| !sensor.is_empty()));
    let mut together = sensors.concat();
    together.sort();
    expected.sort();
    assert_same("all sensors together", &together, &expected);
}

#[test]
fn sample_keeps_dns_and_each_hundredth_of_the_rest() {
    let lab = Lab::new();
    let account = run(&lab, "sample.pipe", &UNTIL_IDLE);
    let Some(dns) =
        tcpdump_selects(&lab.path("demo-out/traffic.pcap"), "udp port 53 or (vlan and udp port 53)")
    else {
        return;
    };
    let rest: Vec<Vec<u8>> = whole().into_iter().filter(|packet| !dns.contains(packet)).collect();
    let sampled: Vec<&Vec<u8>> = rest.iter().step_by(100).collect();
    let expected: Vec<Vec<u8>> =
        whole().into_iter().filter(|packet| dns.contains(packet) || sampled.contains(&packet)).collect();
    assert_same("recorder", &out(&lab, "recorder"), &expected);
    assert_eq!(account.number("packets/sampled_out"), (rest.len() - sampled.len()) as u64);
}

#[test]
fn aggregate_brings_two_taps_to_one_tool() {
    let lab = Lab::new();
    let account = run(&lab, "aggregate.pipe", &UNTIL_IDLE);
    let (mut sent, mut expected) = (out(&lab, "aggregate"), [whole(), whole()].concat());
    sent.sort();
    expected.sort();
    assert_same("analyser", &sent, &expected);
    assert_eq!(account.number("ports/east0/received"), account.number("ports/west0/received"));
}

#[test]
fn replay_splits_a_capture_in_two_with_its_times() {
    let lab = Lab::new();
    let account = run(&lab, "replay.pipe", &UNTIL_IDLE);
    let parts = ["dns.pcapng", "rest.pcapng"].map(|name| packets(&lab.path("demo-out").join(name)));
    assert!(parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>() as u64, account.number("ports/tap/received"));
    assert_eq!(account.number("copies/sent"), whole().len() as u64);
}

#[test]
fn null_load_makes_and_swallows_packets() {
    let account = run(
        &Lab::new(),
        "null-load.pipe",
        &["--duration", "500ms", "--set", "PACKET_BYTES=1500", "--set", "BURST=32"],
    );
    let received = account.number("packets/received");
    assert!(received > 0);
    assert_eq!(account.number("ports/source/received_bytes"), 1500 * received);
    assert_eq!(account.number("tools/load/sent"), received);
}

#[test]
fn the_demo_sends_what_its_rules_say() {
    let lab = Lab::new();
    let account = run(&lab, "demo.pipe", &UNTIL_IDLE);
    let selects = |expression: &str| tcpdump_selects(&lab.path("demo-out/traffic.pcap"), expression);
    let web = "(tcp port 80 or tcp port 443) or (vlan and ((tcp port 80 or tcp port 443) or (vlan and (tcp port 80 or tcp port 443))))";
    let Some(web) = selects(web) else { return };
    assert_same("web", &out(&lab, "web"), &web);
    let voip =
        selects("vlan and ether[14:2] & 0xfff >= 100 and ether[14:2] & 0xfff <= 103 and udp port 5004")
            .unwrap_or_default();
    assert_same("voip", &out(&lab, "voip"), &voip);
    let sensors = [out(&lab, "ids-a"), out(&lab, "ids-b")];
    assert!(sensors.iter().all(|sensor| !sensor.is_empty()));
    assert_eq!(account.number("rules/40/matched"), sensors.concat().len() as u64);
    assert_eq!(account.number("rules/50/matched").div_ceil(10), out(&lab, "recorder").len() as u64);
}

/// The block of a document that begins with this fence.
fn block(document: &str, fence: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).expect("a document");
    let rest = &text[text.find(fence).expect("the block") + fence.len()..];
    rest[..rest.find("```").expect("its end")].trim_start_matches('\n').to_owned()
}

#[test]
fn the_readmes_pipeline_prints_what_it_says() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    let pipeline = block("README.md", "```pipe\n");
    assert_eq!(pipeline.lines().count(), 5);
    let account = lab.account(&pipeline, &[]);
    assert_eq!(without_times(&account.stdout), without_times(&block("README.md", "```text\n")));
    let shown: Value = serde_json::from_str(&block("docs/reference/statistics.md", "```json\n"))
        .expect("the example is JSON");
    assert_eq!(fields(&shown), fields(account.last()), "docs/reference/statistics.md shows other fields");
}

/// The words of each line, without the times that were measured: `103.0 µs`.
fn without_times(text: &str) -> Vec<Vec<&str>> {
    let is_unit = |word: &&str| ["ns", "µs", "ms", "s"].contains(word);
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let kept = words.iter().enumerate().filter(|&(at, _)| !words.get(at + 1).is_some_and(is_unit));
            kept.map(|(_, word)| if is_unit(word) { "time" } else { word }).collect()
        })
        .collect()
}

/// The paths of all fields of an object, in order.
fn fields(value: &Value) -> Vec<String> {
    let Value::Object(entries) = value else { return Vec::new() };
    let with_theirs = |(key, value)| {
        let theirs = fields(value).into_iter().map(move |path| format!("{key}/{path}"));
        std::iter::once(String::clone(key)).chain(theirs)
    };
    entries.iter().flat_map(with_theirs).collect()
}

/// Were it not so, a dissector at a tool would complain of what Tapline never touched.
#[test]
fn the_demos_capture_has_valid_checksums_and_every_kind_of_packet() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let capture = lab.write("traffic.pcap", tapline_traffic::office().to_pcap());
    let tshark = |filter: &str| {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&capture);
        for layer in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{layer}.check_checksum:TRUE")]);
        }
        let output = command.args(["-Y", filter]).output().expect("tshark runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let bad = ["ip", "tcp", "udp", "icmp", "icmpv6"]
        .map(|layer| format!("{layer}.checksum.status == \"Bad\""))
        .join(" || ");
    let complaints = tshark(&format!("_ws.malformed || {bad}"));
    assert!(complaints.is_empty(), "{complaints:#?}");
    for kind in [
        "tcp.checksum.status == \"Good\"",
        "udp.checksum.status == \"Good\"",
        "ipv6 && tcp",
        "vlan && udp",
        "ieee8021ad",
        "arp",
        "ip.flags.mf == 1",
        "ip.frag_offset > 0",
        "ipv6.fraghdr",
        "ipv6.hopopts",
        "icmp.type == 8",
        "icmpv6.type == 135",
        "dns.a",
        "http",
    ] {
        assert!(!tshark(kind).is_empty(), "no packet with {kind}");
    }
}
