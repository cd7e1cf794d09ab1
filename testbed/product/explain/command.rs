//! The command line of explain: which port packets come by, which packets are answered about, where answers go, and what is left alone.

use serde_json::Value;
use tapline_capture::ByteOrder;
use tapline_harness::captures::timed;
use tapline_harness::judges::assert_expected;
use tapline_harness::lab::{Ended, Lab};
use tapline_harness::programs::{has_programs, run};

use crate::times::packets::{Form, office, write};

const PIPELINE: &str = "port attach a net_pcap0,rx_pcap=nothing.pcap
port attach b iface:no-such-if
port attach c net_null0
port attach out net_pcap1,tx_pcap=precious.pcap rxq 0
tool create kept port out
tool create stored capture store/kept.pcapng
tool create cut port out mtu 100
rule create 10 from a match \"tcp\" to kept
rule create 20 from b match \"udp\" to stored
rule create 30 from c sample 1/2 to cut
start
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("test.pipe", PIPELINE);
    lab.write("precious.pcap", "nobody is to write here");
    write(&lab.path("in.pcapng"), Form::Pcapng(ByteOrder::NATIVE), &office()[..300]);
    write(&lab.path("in.pcap"), Form::PcapNs(ByteOrder::NATIVE), &office()[..300]);
    lab
}

fn explain(lab: &Lab, flags: &[&str]) -> Ended {
    let arguments: Vec<&str> = ["explain", "test.pipe"].into_iter().chain(flags.iter().copied()).collect();
    lab.end(lab.start(&mut lab.tapline(&arguments)))
}

fn objects(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(ended: &Ended) -> Vec<u64> {
    objects(ended).iter().map(|object| object["packet"]["number"].as_u64().expect("a number")).collect()
}

#[test]
fn packets_come_by_the_port_that_is_named_or_by_their_interface() {
    let lab = lab();
    let by_name = objects(&explain(&lab, &["-r", "in.pcapng", "--json"]));
    for (index, object) in by_name.iter().enumerate() {
        assert_eq!(object["packet"]["port"], ["a", "b", "c"][index % 3], "{object}");
    }
    let from = objects(&explain(&lab, &["-r", "in.pcapng", "--json", "--from", "b"]));
    assert!(from.iter().all(|object| object["packet"]["port"] == "b") && from.len() == by_name.len());
    let refused = explain(&lab, &["-r", "in.pcap"]).failed(2);
    assert!(refused.contains("--from PORT") && refused.contains("a, b, c"), "{refused}");
    let refused = explain(&lab, &["-r", "in.pcap", "--from", "d"]).failed(2);
    assert!(refused.contains("a, b, c"), "{refused}");
}

#[test]
fn nothing_that_the_file_names_is_touched() {
    let lab = lab();
    let ended = explain(&lab, &["-r", "in.pcapng", "--summary"]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(std::fs::read(lab.path("precious.pcap")).expect("it is there"), b"nobody is to write here");
    let mut names: Vec<String> = std::fs::read_dir(lab.path(""))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["in.pcap", "in.pcapng", "precious.pcap", "stderr", "stdout", "test.pipe"]);
}

#[test]
fn answers_are_about_the_packets_that_are_asked_for() {
    let lab = lab();
    let ask = |flags: &[&str]| {
        let flags: Vec<&str> =
            ["-r", "in.pcapng", "--json"].into_iter().chain(flags.iter().copied()).collect();
        explain(&lab, &flags)
    };
    let all = objects(&ask(&[]));
    let of = |fits: &dyn Fn(&Value) -> bool| -> Vec<u64> {
        all.iter()
            .filter(|object| fits(object))
            .map(|object| object["packet"]["number"].as_u64().expect("a number"))
            .collect()
    };
    let has = |object: &Value, list: &str, fits: &dyn Fn(&Value) -> bool| {
        object[list].as_array().expect("a list").iter().any(fits)
    };
    assert_eq!(numbers(&ask(&["--packet", "8"])), [8]);
    assert_eq!(numbers(&ask(&["--packet", "60-70"])), (60..=70).collect::<Vec<u64>>());
    // samplers count the packets before, too
    assert_eq!(objects(&ask(&["--packet", "60-70"]))[..], all[59..70]);
    let takes = |priority: u64| {
        move |object: &Value| {
            has(object, "rules", &|rule: &Value| rule["priority"] == priority && rule["result"] == "yes")
        }
    };
    assert_eq!(numbers(&ask(&["--rule", "20"])), of(&takes(20)));
    assert_eq!(numbers(&ask(&["--tool", "kept"])), of(&takes(10)));
    assert_eq!(
        numbers(&ask(&["--outcome", "unmatched"])),
        of(&|object| object["disposition"] == "unmatched")
    );
    let oversize = of(&|object| has(object, "copies", &|copy: &Value| copy["reason"] == "oversize"));
    assert_eq!(numbers(&ask(&["--outcome", "oversize"])), oversize);
    assert_eq!(
        numbers(&ask(&["--match", "arp", "--outcome", "delivered"])),
        of(&|object| {
            object["packet"]["fields"].get("arp.opcode").is_some() && object["disposition"] == "delivered"
        })
    );
    for wrong in [
        ["--rule", "11"],
        ["--tool", "d"],
        ["--outcome", "lost"],
        ["--packet", "0"],
        ["--match", "port port"],
    ] {
        ask(&wrong).failed(2);
    }
}

#[test]
fn the_summary_is_the_sum_of_all_answers() {
    let lab = lab();
    let all = objects(&explain(&lab, &["-r", "in.pcapng", "--json"]));
    let summary =
        objects(&explain(&lab, &["-r", "in.pcapng", "--json", "--summary"])).remove(0)["summary"].take();
    assert_eq!(summary["packets"], all.len());
    for (word, counted) in summary["dispositions"].as_object().expect("dispositions") {
        let mut its = all.iter().filter(|object| object["disposition"] == word.as_str());
        let first = its.next().map(|object| object["packet"]["number"].clone()).unwrap_or_default();
        assert_eq!(
            (&counted["first"], &counted["count"]),
            (&first, &Value::from(its.count() as u64 + u64::from(!first.is_null())))
        );
    }
    for (tool, counted) in summary["tools"].as_object().expect("tools") {
        let copies: Vec<&Value> = all
            .iter()
            .flat_map(|object| object["copies"].as_array().expect("copies"))
            .filter(|copy| copy["tool"] == tool.as_str() && copy["outcome"] == "sent")
            .collect();
        let bytes: u64 = copies.iter().map(|copy| copy["length"].as_u64().expect("a length")).sum();
        assert_eq!(
            (&counted["sent"]["count"], &counted["bytes"]),
            (&Value::from(copies.len()), &Value::from(bytes)),
            "{tool}"
        );
    }
}

#[test]
fn answers_are_comments_that_wireshark_shows() {
    if !has_programs(&["tshark"]) {
        return;
    }
    let lab = lab();
    let ended = explain(&lab, &["-r", "in.pcapng", "--write", "out.pcapng", "--packet", "5-9"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    let out = lab.path("out.pcapng");
    assert!(timed(&out) == office()[4..9]);
    let text = explain(&lab, &["-r", "in.pcapng", "--packet", "5-9"]).stdout;
    let shown = run(
        "tshark",
        &[
            "-n",
            "-r",
            out.to_str().expect("utf-8"),
            "-T",
            "fields",
            "-e",
            "frame.interface_name",
            "-e",
            "frame.comment",
        ],
    );
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains("\t#")).collect();
    for (row, answer) in rows.iter().zip(text.split("\n\n")) {
        let head = answer.lines().next().expect("a line");
        assert!(row.contains(head), "{row}\n{head}");
    }
    assert_eq!(rows.len(), 5, "{shown}");
    explain(&lab, &["-r", "in.pcapng", "--write", "in.pcapng"]).failed(2);
}

#[test]
fn a_damaged_capture_is_answered_about_up_to_the_damage() {
    let lab = lab();
    let whole = std::fs::read(lab.path("in.pcapng")).expect("it is there");
    lab.write("damaged.pcapng", &whole[..whole.len() - 30]);
    let ended = explain(&lab, &["-r", "damaged.pcapng", "--json"]);
    assert_eq!((ended.status, ended.stdout.lines().count()), (Some(1), 299), "{}", ended.stderr);
    explain(&lab, &["-r", "nothing.pcapng"]).failed(1);
}

/// A file with something of everything that answers show.
const SHOWN: &str = "set seed 7
port attach span iface:no-such-if
tool create a capture a.pcapng strip vlan slice 60
tool create b discard
tool create c discard
tool create far port span erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:01:02
group create pair tools b,c weights 2,1 hash symmetric
filter create web \"tcp port 80 or 443\" through vlan,qinq
rule create 10 from span match \"tcp port 22\" through vlan drop
rule create 20 from span match web to pair
rule create 30 from span match \"udp\" through any sample 1/3 tag vlan 9 mask 30 6 byte 0xee to a final
rule create 40 from span vlan 100-103 sample flow 1/2 limit 3 packets to far
rule create 50 from span match \"icmp or icmp6\" active \"Mon-Sun 00:01-00:02\" zone UTC to b
start
";

/// `TAPLINE_BLESS=1` writes the expected texts anew: read the difference before you keep it.
#[test]
fn answers_read_as_they_are_expected_to() {
    let lab = lab();
    lab.write("test.pipe", SHOWN);
    write(&lab.path("in.pcap"), Form::PcapNs(ByteOrder::NATIVE), &office());
    for (name, flags) in [
        ("answers.txt", &["--packet", "1-24"][..]),
        ("answers.jsonl", &["--packet", "1-24", "--json"]),
        ("summary.txt", &["--summary"]),
        ("summary.jsonl", &["--summary", "--json"]),
    ] {
        let ended = explain(&lab, &[&["-r", "in.pcap"], flags].concat());
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_expected(&format!("testbed/product/explain/{name}"), &ended.stdout);
    }
}
