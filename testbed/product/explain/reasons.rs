//! Conditions and fields: each primitive by `tcpdump -r` of it alone, fields by tshark, and the smallest change by making it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tapline_harness::captures;
use tapline_harness::lab::{Lab, office};
use tapline_harness::pcap_files::{tcpdump_selects, write_frames};
use tapline_harness::programs::has_programs;
use tapline_harness::tshark;
use tapline_packet::mix::SplitMix64;
use tapline_traffic::packets;
use tapline_traffic::packets::{MAC_A, MAC_B};

/// What `tapline explain --json` says of each packet of a capture.
fn answers(lab: &Lab, pipeline: &str, capture: &Path) -> Vec<Value> {
    lab.write("test.pipe", pipeline);
    let capture = capture.to_str().expect("utf-8");
    let ended = lab.end(lab.start(&mut lab.tapline(&["explain", "test.pipe", "-r", capture, "--json"])));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let answers: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert!(answers.iter().all(|answer| answer["schema"] == "tapline.explain/1"));
    answers
}

/// A rule for each expression.
fn rules<'a>(expressions: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = "port attach in net_null0\ntool create t discard\n".to_owned();
    for (place, expression) in expressions.into_iter().enumerate() {
        let escaped = expression.replace('\\', "\\\\").replace('"', "\\\"");
        text += &format!("rule create {} from in match \"{escaped}\" to t\n", place + 1);
    }
    text + "start\n"
}

/// The office's traffic, and some of the public captures if they are there.
fn some_captures(lab: &Lab, step: usize) -> Vec<PathBuf> {
    office(lab);
    let public = captures::folder();
    let public = public.iter().flat_map(|folder| captures::ethernet(folder)).step_by(step);
    [lab.path("in.pcap")].into_iter().chain(public).collect()
}

#[test]
fn each_primitive_is_worth_what_tcpdump_says_of_it_alone() {
    if !has_programs(&["tcpdump"]) {
        return;
    }
    let lab = Lab::new();
    let expressions = captures::expressions();
    let mut taken_apart = 0;
    for capture in some_captures(&lab, 70) {
        let packets = captures::packets(&capture);
        // by primitive: the packets of which it is said that it holds, or does not
        let mut told: BTreeMap<String, BTreeMap<usize, bool>> = BTreeMap::new();
        let all = answers(&lab, &rules(expressions.iter().copied()), &capture);
        for (index, answer) in all.iter().enumerate() {
            for rule in answer["rules"].as_array().expect("rules") {
                let because = rule["because"].as_array().expect("primitives");
                taken_apart += usize::from(because.len() > 1);
                for because in because {
                    let primitive = because["primitive"].as_str().expect("text").to_owned();
                    told.entry(primitive).or_default().insert(index, because["result"] == true);
                }
            }
        }
        for (primitive, told) in told {
            let selected = tcpdump_selects(&capture, &primitive).expect("tcpdump is there");
            let selected: HashSet<Vec<u8>> = selected.into_iter().collect();
            for (index, holds) in told {
                let is_selected = selected.contains(&packets[index].bytes);
                assert_eq!(
                    holds,
                    is_selected,
                    "`{primitive}` on packet {} of {}",
                    index + 1,
                    capture.display()
                );
            }
        }
    }
    assert!(taken_apart > 0, "expressions are taken apart");
}

/// A field of tshark's, and the number that it says.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[test]
fn fields_are_those_of_tshark() {
    if !has_programs(&["tshark"]) {
        return;
    }
    const FIELDS: [&str; 20] = [
        "eth.src",
        "eth.dst",
        "vlan.id",
        "ieee8021ad.id",
        "ip.src",
        "ip.dst",
        "ip.ttl",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.hlim",
        "arp.opcode",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.flags",
        "udp.srcport",
        "udp.dstport",
        "icmp.type",
        "icmp.code",
        "icmpv6.type",
        "icmpv6.code",
    ];
    let lab = Lab::new();
    let (mut compared, mut wrong) = (0, Vec::new());
    for capture in some_captures(&lab, 35) {
        let rows = tshark::columns(&capture, &FIELDS);
        let answers = answers(&lab, &rules(["ip"]), &capture);
        assert_eq!(rows.len(), answers.len(), "{}", capture.display());
        for (answer, row) in answers.iter().zip(&rows) {
            let fields = &answer["packet"]["fields"];
            for (name, theirs) in FIELDS.iter().zip(row) {
                let Some(ours) = fields.get(name) else { continue };
                // the outermost comes first
                let theirs = theirs.split(',').next().unwrap_or_default();
                let is_same = match ours {
                    Value::String(ours) => ours == theirs,
                    ours if *name == "tcp.flags" => {
                        ours.as_u64() == number(theirs).map(|flags| flags & 0xff)
                    }
                    ours => ours.as_u64() == number(theirs),
                };
                compared += 1;
                if !is_same {
                    wrong.push(format!(
                        "{} {}: {name} {ours}, tshark {theirs}",
                        capture.display(),
                        answer["packet"]["number"]
                    ));
                }
            }
        }
    }
    assert!(compared > 1000, "{compared} fields");
    assert!(wrong.is_empty(), "{} of {compared}: {wrong:#?}", wrong.len());
}

/// A packet by the fields that the expressions below ask for, each of which a primitive turns by itself.
#[derive(Clone, Copy)]
struct Fields {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
}

impl Fields {
    fn random(random: &mut SplitMix64) -> Self {
        let mut one_of = |all: [u32; 2]| all[random.next() as usize % 2];
        Self {
            source: one_of([0x0a00_0001, 0x0a00_0009]),
            destination: one_of([0x0a00_0002, 0x0a00_0008]),
            source_port: one_of([80, 4000]) as u16,
            destination_port: one_of([443, 5000]) as u16,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let segment = packets::tcp(self.source_port, self.destination_port, b"hello");
        let packet = packets::ipv4(self.source, self.destination, 6, 0, &segment);
        packets::ethernet(MAC_A, MAC_B, 0x0800, &packet)
    }

    /// Changes the field that a primitive asks for, so that it answers otherwise.
    fn turn(&mut self, primitive: &str) {
        match primitive {
            "src host 10.0.0.1" => self.source ^= 0x0a00_0001 ^ 0x0a00_0009,
            "dst host 10.0.0.2" => self.destination ^= 0x0a00_0002 ^ 0x0a00_0008,
            "tcp src port 80" => self.source_port ^= 80 ^ 4000,
            "tcp dst port 443" => self.destination_port ^= 443 ^ 5000,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_answer_turns_where_the_fewest_conditions_are_changed() {
    const PRIMITIVES: [&str; 4] =
        ["src host 10.0.0.1", "dst host 10.0.0.2", "tcp src port 80", "tcp dst port 443"];
    let mut random = SplitMix64(11);
    let mut expressions = Vec::new();
    for _ in 0..60 {
        let mut order: Vec<&str> = PRIMITIVES.to_vec();
        order.swap(0, random.next() as usize % 4);
        order.swap(1, 1 + random.next() as usize % 3);
        let mut word = |all: [&'static str; 2]| all[random.next() as usize % 2];
        expressions.push(format!(
            "{}({}{} {} {}) {} {}{} {} {}",
            word(["", "not "]),
            word(["", "not "]),
            order[0],
            word(["and", "or"]),
            order[1],
            word(["and", "or"]),
            word(["", "not "]),
            order[2],
            word(["and", "or"]),
            order[3],
        ));
    }
    let lab = Lab::new();
    let before: Vec<Fields> = (0..16).map(|_| Fields::random(&mut random)).collect();
    let pipeline = rules(expressions.iter().map(String::as_str));
    let ask = |packets: &[Fields]| {
        let frames: Vec<Vec<u8>> = packets.iter().map(Fields::frame).collect();
        write_frames(&lab.path("asked.pcap"), &frames);
        answers(&lab, &pipeline, &lab.path("asked.pcap"))
    };
    let told = ask(&before);
    // one changed packet for each rule and packet, and one for each part of its set
    let (mut changed, mut expected) = (Vec::new(), Vec::new());
    for (packet, answer) in before.iter().zip(&told) {
        for (place, rule) in answer["rules"].as_array().expect("rules").iter().enumerate() {
            let flips: Vec<&str> = rule["flips"]
                .as_array()
                .expect("flips")
                .iter()
                .map(|flip| flip.as_str().expect("text"))
                .collect();
            assert!(!flips.is_empty(), "{rule}");
            for left_out in 0..=flips.len() {
                let mut packet = *packet;
                let turned = flips.iter().enumerate().filter(|(index, _)| *index != left_out);
                turned.for_each(|(_, primitive)| packet.turn(primitive));
                changed.push(packet);
                // none may be left out
                expected.push((place, rule["result"] == "yes", left_out == flips.len()));
            }
        }
    }
    for (answer, (place, was_yes, is_turned)) in ask(&changed).iter().zip(expected) {
        let rule = &answer["rules"][place];
        assert_eq!(rule["result"] == "yes", was_yes ^ is_turned, "`{}`: {rule}", expressions[place]);
    }
}
