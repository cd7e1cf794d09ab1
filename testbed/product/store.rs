//! Stores: segments that rotate hold what was recorded, packet for packet, and say where it is from, by tshark, mergecap, capinfos and a
//! reader of blocks in Python; what kills leave is repaired.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tapline_harness::bench::{Bench, check};
use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{EAL, Lab, office};
use tapline_harness::pcap_files::{packets, tcpdump_selects};
use tapline_harness::programs::has_programs;
use tapline_harness::segments::{bytes_of, joined, read, segments, seq};
use tapline_harness::tshark::fields;

const JUDGES: [&str; 4] = ["capinfos", "mergecap", "tshark", "python3"];

fn folder(lab: &Lab) -> PathBuf {
    let folder = lab.path("store");
    std::fs::create_dir(&folder).expect("a folder of our own");
    folder
}

/// Sums a count over the statistics of all interfaces of segments.
fn sum(segments: &[Value], count: &str) -> u64 {
    let interfaces = segments.iter().flat_map(|segment| segment["interfaces"].as_array().expect("a list"));
    interfaces.map(|interface| interface["statistics"][count].as_u64().expect("a count")).sum()
}

#[test]
fn segments_hold_each_packet_once_with_its_port_and_its_rule() {
    if !has_programs(&JUDGES) {
        return;
    }
    let lab = Lab::new();
    let frames = office(&lab);
    let folder = folder(&lab);
    let account = lab.account(
        "port attach tap replay:in.pcap,speed=max\n\
         filter create web \"tcp port 80 or tcp port 443\"\n\
         tool create rec capture store rotate 64k every 2ms keep 100M\n\
         rule create 10 from tap match web to rec final\n\
         rule create 20 from tap match \"udp\" slice 60 to rec\n\
         rule create 30 from tap to rec\n",
        &[],
    );
    let found = segments(&folder);
    assert!(found.len() > 150, "{} segments", found.len());
    assert_eq!(
        found.iter().map(|path| seq(path)).collect::<Vec<_>>(),
        (0..found.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(account.number("tools/rec/sent"), frames.len() as u64);
    assert_eq!(account.number("tools/rec/store/segments"), found.len() as u64);
    let bytes = bytes_of(&found);
    assert_eq!(account.number("tools/rec/store/bytes"), bytes);
    let said = read(&found);
    assert_eq!((sum(&said, "delivered"), sum(&said, "dropped")), (frames.len() as u64, 0));
    assert_eq!(sum(&said, "accepted"), frames.len() as u64);
    // what the input has, as tshark sees it
    let all = lab.path("all.pcapng");
    joined(&found, &all);
    let names = ["frame.time_epoch", "frame.len", "frame.interface_name", "frame.interface_description"];
    let recorded = fields(&all, &[], &names);
    let arrived = fields(&lab.path("in.pcap"), &[], &names[..2]);
    assert_eq!(recorded.len(), arrived.len());
    for (recorded, arrived) in recorded.iter().zip(&arrived) {
        assert_eq!((&recorded[..2], recorded[2].as_str()), (&arrived[..], "tap"));
    }
    let filters: Vec<(String, Value)> = said
        .iter()
        .flat_map(|segment| segment["interfaces"].as_array().expect("a list"))
        .map(|interface| {
            (interface["description"].as_str().expect("a text").to_owned(), interface["filter"].clone())
        })
        .collect();
    let of_rule = |words: &str| recorded.iter().filter(|row| row[3] == words).count();
    let web = tcpdump_selects(&lab.path("in.pcap"), "tcp port 80 or tcp port 443").unwrap_or_default();
    let udp = tcpdump_selects(&lab.path("in.pcap"), "udp").unwrap_or_default();
    for (words, filter, count) in [
        ("rule 10 match web", Some("tcp port 80 or tcp port 443"), web.len()),
        ("rule 20 match \"udp\"", Some("udp"), udp.len()),
        ("rule 30", None, frames.len() - web.len() - udp.len()),
    ] {
        assert_eq!(of_rule(words), count, "{words}");
        let mut of_words = filters.iter().filter(|(description, _)| description == words).peekable();
        assert!(of_words.peek().is_some() && of_words.all(|(_, said)| said.as_str() == filter), "{words}");
    }
    let is_udp = |frame: &[u8]| udp.iter().any(|other| other == frame);
    let expected: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| frame[..if is_udp(frame) { frame.len().min(60) } else { frame.len() }].to_vec())
        .collect();
    assert_same("the segments", &packets(&all), &expected);
}

#[test]
fn keep_holds_over_runs_and_names_never_meet() {
    if !has_programs(&JUDGES) {
        return;
    }
    let lab = Lab::new();
    let frames = office(&lab);
    let folder = folder(&lab);
    let pipeline = "port attach tap replay:in.pcap,speed=max,loop=3\n\
                    tool create rec capture store rotate 64k keep 1M\n\
                    rule create 10 from tap to rec\n";
    let mut highest = None;
    for _ in 0..2 {
        let account = lab.account(pipeline, &[]);
        let found = segments(&folder);
        let bytes = bytes_of(&found);
        assert!(bytes <= 1_000_000 && bytes + 2 * 64_000 > 1_000_000, "{bytes}");
        assert!(highest.is_none_or(|highest| seq(&found[0]) > highest), "the first run is all gone");
        highest = found.last().map(|path| seq(path));
        // what is there is the end of what came
        let all = lab.path("all.pcapng");
        joined(&found, &all);
        let (kept, all) =
            (packets(&all), frames.iter().cycle().take(3 * frames.len()).cloned().collect::<Vec<_>>());
        assert_same("the end", &kept, &all[all.len() - kept.len()..]);
        let begun = account.number("tools/rec/store/begun");
        assert_eq!(account.number("tools/rec/store/segments"), found.len() as u64);
        assert!(begun > 30 && account.number("tools/rec/store/expired") > 10);
        assert_eq!(sum(&read(&found), "dropped"), 0);
    }
}

#[test]
fn what_a_kill_leaves_is_repaired_and_told() {
    if has_programs(&JUDGES) {
        tapline_harness::segments::kill_and_repair(3, 0x5eed);
    }
}

#[test]
fn a_rule_that_changes_begins_a_segment_and_wishes_are_followed_at_once() {
    if !has_programs(&JUDGES) {
        return;
    }
    let bench = Bench::new();
    std::fs::create_dir(bench.path("store")).expect("a folder of our own");
    let mut prompt = bench.start(&format!(
        "set eal \"{EAL}\"\n\
         port attach tap net_null0,size=100\n\
         tool create rec capture @/store rotate 1M keep 20M\n\
         rule create 10 from tap sample 1/1000 to rec\n"
    ));
    prompt.say("start");
    prompt.wait("segments", |line| number(line, "tools/rec/store/segments") > 2);
    prompt.say("rule modify 10 sample 1/500");
    prompt.say("tool modify rec keep 10M");
    prompt.wait("few segments", |line| {
        number(line, "tools/rec/store/expired") > 0 && number(line, "tools/rec/store/bytes") <= 10_000_000
    });
    let account = prompt.quit();
    let found = segments(&bench.path("store"));
    assert_eq!(account.number("tools/rec/store/bytes"), bytes_of(&found));
    let said = read(&found);
    for segment in &said {
        let interfaces = segment["interfaces"].as_array().expect("a list");
        assert!(
            interfaces[0]["description"]
                .as_str()
                .is_some_and(|words| words.starts_with("rule 10 sample 1/"))
        );
        let hash = segment["comments"][0]
            .as_str()
            .and_then(|comment| comment.split("plan ").nth(1))
            .expect("a hash");
        assert!(hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{hash}");
    }
}

#[test]
fn a_folder_that_cannot_be_recorded_to_is_an_error_beforehand() {
    let lab = Lab::new();
    let folder = lab.path("there");
    std::fs::create_dir(&folder).expect("a folder of our own");
    lab.write("file", "");
    let there = folder.display();
    for (capture, said) in [
        (format!("{there}/missing rotate 1M keep 1G"), "no such file or directory"),
        (format!("{} rotate 1M keep 1G", lab.path("file").display()), "not a directory"),
        (format!("{there} rotate 1M keep 9000T"), "the file system is too small"),
        (format!("{there} rotate 1M keep 1M"), "no room for two segments"),
        (format!("{there} rotate 1M"), "has no `keep`"),
        (format!("{there} keep 1G"), "has no `rotate`"),
        (format!("{there}"), "is a folder"),
        (format!("{there} rotate every 10us keep 1G"), "too short"),
        (format!("{there} rotate 1M keep 1G group no-such-group"), "there is no group"),
    ] {
        let (status, log) = check(&format!(
            "port attach p net_null0\ntool create rec capture {capture}\nrule create 10 from p to rec\n"
        ));
        assert!(status == Some(2) && log.contains(said), "{capture}: {log}");
    }
    let two = format!(
        "port attach p net_null0\ntool create a capture {there} rotate 1M keep 1G\n\
         tool create b capture {there}/. rotate 1M keep 1G\nrule create 10 from p to a,b\n"
    );
    let (status, log) = check(&two);
    assert!(status == Some(2) && log.contains("expected a folder of its own"), "{log}");
}

#[test]
fn a_folder_belongs_to_one_broker_at_a_time() {
    let lab = Lab::new();
    office(&lab);
    let store = folder(&lab);
    let pipeline = "port attach tap replay:in.pcap,loop=forever\n\
                    tool create rec capture store rotate 1M keep 10M\n\
                    rule create 10 from tap to rec\n";
    lab.write("first.pipe", pipeline);
    let first = ["run", "first.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"];
    let mut started = lab.start(&mut lab.tapline(&first));
    lab.until("recording", |line| number(line, "tools/rec/sent") > 0);
    let second = lab.tapline(&["run", "first.pipe", "--eal", EAL]).output().expect("the program starts");
    let log = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && log.contains("another store has this folder"), "{log}");
    started.signal("TERM");
    assert!(started.child.wait().expect("a child of this process").success());
    assert!(hidden(&store).is_empty() && segments(&store).len() == 1);
}

fn hidden(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect()
}
