//! `tapline diff`: what it counts is the difference of two runs' files and accounts; nothing differs from itself; what is exchanged is
//! exchanged in the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};
use tapline_capture::ByteOrder;
use tapline_harness::judges::assert_expected;
use tapline_harness::lab::{Account, EAL, Ended, Lab};
use tapline_harness::programs::repository;
use tapline_harness::spans::number_of;
use tapline_packet::mix::SplitMix64;

use super::runs::{EVERYTHING, new_lab, placed, random_pipeline};
use crate::cli::connected;
use crate::times::packets::{Form, Timed, office, read, write};

/// Packets that differ in their times, by which copies are told apart.
fn told_by_time() -> Vec<Timed> {
    let packets = office().into_iter().take(600).enumerate();
    packets.map(|(index, packet)| Timed { ns: packet.ns + index as u64, ..packet }).collect()
}

fn diff(lab: &Lab, flags: &[&str]) -> Ended {
    let arguments: Vec<&str> =
        ["diff", "old.pipe", "new.pipe"].into_iter().chain(flags.iter().copied()).collect();
    lab.end(lab.start(&mut lab.tapline(&arguments)))
}

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no JSON:\n{}", ended.stderr))
}

fn count(object: &Value, path: &str) -> u64 {
    let found = object.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {path} in {object}"))
}

fn groups(object: &Value) -> &[Value] {
    object["causes"].as_array().expect("causes")
}

/// The copies of a run by the time of their packet, and its account.
struct Real {
    copies: BTreeMap<u64, BTreeSet<(String, Vec<u8>, u32)>>,
    account: Account,
}

fn real(text: &str, capture: &Path) -> Real {
    let lab = new_lab();
    let account = lab.account(&placed(&lab, text, capture), &["--exit-idle", "300ms"]);
    let mut copies = BTreeMap::<u64, BTreeSet<(String, Vec<u8>, u32)>>::new();
    for tool in ["a", "b", "c", "d"] {
        if account.number(&format!("tools/{tool}/sent")) > 0 {
            for packet in read(&lab.path(&format!("{tool}.pcapng"))) {
                let copy = (tool.to_owned(), packet.bytes, packet.original_len);
                copies.entry(packet.ns).or_default().insert(copy);
            }
        }
    }
    Real { copies, account }
}

/// Compares what diff says with two runs. Returns how many packets differ.
fn compare(old: &str, new: &str, capture: &Path, packets: &[Timed]) -> u64 {
    let lab = new_lab();
    lab.write("old.pipe", placed(&lab, old, capture));
    lab.write("new.pipe", placed(&lab, new, capture));
    let flags = ["-r", capture.to_str().expect("utf-8"), "--from", "in", "--json", "--sampled"];
    let ended = diff(&lab, &flags);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let object = object(&ended);
    let (before, after) = (real(old, capture), real(new, capture));
    let differing: BTreeSet<u64> = packets
        .iter()
        .zip(1..)
        .filter(|(packet, _)| before.copies.get(&packet.ns) != after.copies.get(&packet.ns))
        .map(|(_, number)| number)
        .collect();
    let has_copies = |group: &&Value| {
        ["old", "new"].iter().any(|side| group["outcome"][side].as_str().expect("words").contains(" to "))
    };
    let with_copies: u64 =
        groups(&object).iter().filter(has_copies).map(|group| count(group, "/count")).sum();
    assert_eq!(with_copies, differing.len() as u64, "{object:#}\n{old}\n{new}");
    for group in groups(&object).iter().filter(has_copies) {
        assert!(differing.contains(&count(group, "/first")), "{group:#}\n{old}\n{new}");
    }
    // the account moves by what the groups say
    for word in ["delivered", "unmatched", "excluded", "sampled_out", "duplicate", "failed"] {
        let of = |side: &str| -> u64 {
            let is_it = |group: &&Value| {
                let outcome = group["outcome"][side].as_str().expect("words");
                outcome.split([' ', ',']).next() == Some(word)
            };
            groups(&object).iter().filter(is_it).map(|group| count(group, "/count")).sum()
        };
        let path = format!("packets/{word}");
        let (old_count, new_count) = (before.account.number(&path), after.account.number(&path));
        assert_eq!(old_count + of("new"), new_count + of("old"), "{word}: {object:#}\n{old}\n{new}");
    }
    assert_eq!(count(&object, "/packets/total"), packets.len() as u64);
    assert_eq!(
        count(&object, "/packets/different"),
        groups(&object).iter().map(|group| count(group, "/count")).sum::<u64>()
    );
    let exchanged = exchanged(&lab, &flags);
    assert_eq!(counts(&object, ["old", "new"]), counts(&exchanged, ["new", "old"]), "{old}\n{new}");
    count(&object, "/packets/different")
}

/// What diff says of the files in the other order.
fn exchanged(lab: &Lab, flags: &[&str]) -> Value {
    let arguments: Vec<&str> =
        ["diff", "new.pipe", "old.pipe"].into_iter().chain(flags.iter().copied()).collect();
    object(&lab.end(lab.start(&mut lab.tapline(&arguments))))
}

/// The groups without marks of loss, which have a direction.
fn counts(object: &Value, [old, new]: [&str; 2]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for group in groups(object) {
        let (kind, outcome) = (&group["kind"], &group["outcome"]);
        let key = format!("{kind} {} {} {} {}", group[old], group[new], outcome[old], outcome[new]);
        *counts.entry(key).or_default() += count(group, "/count");
    }
    counts
}

/// A text with one rule that is changed, gone or added, or with another group.
fn mutated(text: &str, random: &mut SplitMix64) -> String {
    let mut of = |count: usize| random.next() as usize % count;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let rules: Vec<usize> =
        (0..lines.len()).filter(|&line| lines[line].starts_with("rule create")).collect();
    let place = rules[of(rules.len())];
    let rule = lines[place].clone();
    match of(7) {
        0 => drop(lines.remove(place)),
        1 => {
            lines.insert(place, format!("rule create 13 from in match \"tcp\" {}", ["to d", "drop"][of(2)]))
        }
        2 => lines.insert(place, "rule create 100 from in slice 61 to d".to_owned()),
        3 => {
            lines[place] = rule.replacen(" from in", " from in match \"not ip6\"", 1).replacen(
                " match \"not ip6\" match",
                " match",
                1,
            )
        }
        4 if rule.ends_with(" final") => lines[place] = rule.trim_end_matches(" final").to_owned(),
        4 if !rule.ends_with(" drop") => lines[place] = format!("{rule} final"),
        5 => lines[place] = rule.replace(" to a", " to c").replace(" to g", " to d").replace("1/3", "1/4"),
        _ => {
            let group = lines.iter().position(|line| line.starts_with("group create")).expect("a group");
            lines[group] =
                lines[group].replace("weights 3,1,2", "weights 1,1,1").replace("hash ip", "hash 5-tuple");
        }
    }
    lines.join("\n") + "\n"
}

/// `TAPLINE_DIFF_MIXES` says how many pipelines there are.
#[test]
fn the_difference_is_that_of_two_runs() {
    let made = Lab::new();
    let (capture, packets) = (made.path("in.pcapng"), told_by_time());
    write(&capture, Form::Pcapng(ByteOrder::NATIVE), &packets);
    let mut random = SplitMix64(number_of("TAPLINE_EXPLAIN_SEED", 1));
    let is_soak = number_of("TAPLINE_MINUTES", 0) > 0;
    let (mut found, mixes) = (0, number_of("TAPLINE_DIFF_MIXES", if is_soak { 300 } else { 6 }));
    for _ in 0..mixes {
        let old = random_pipeline(&mut random);
        let mut news = std::iter::repeat_with(|| mutated(&old, &mut random));
        let new = news.find(|new| *new != old).expect("some change changes something");
        found += u64::from(compare(&old, &new, &capture, &packets) > 0);
    }
    // no packet hits some of the rules, or rules before take them
    assert!(4 * found >= mixes, "only {found} of {mixes} changes made a difference");
}

#[test]
fn nothing_differs_from_itself() {
    let lab = new_lab();
    let capture = lab.path("in.pcapng");
    write(&capture, Form::Pcapng(ByteOrder::NATIVE), &office());
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    let mut texts: Vec<String> = Vec::new();
    for entry in repository().join("pipelines").read_dir().expect("the pipelines folder").flatten() {
        texts.push(std::fs::read_to_string(entry.path()).expect("a readable file"));
    }
    assert!(texts.len() >= 7, "{} files", texts.len());
    texts.push(placed(&lab, EVERYTHING, &capture));
    let mut random = SplitMix64(7);
    texts.extend((0..4).map(|_| placed(&lab, &random_pipeline(&mut random), &capture)));
    for text in &texts {
        lab.write("old.pipe", text);
        lab.write("new.pipe", text);
        let port = text.lines().find_map(|line| line.strip_prefix("port attach ")?.split(' ').next());
        for sampled in [&[][..], &["--sampled"]] {
            let flags = ["-r", "in.pcapng", "--from", port.expect("a port"), "--json", "--exit-code"];
            let ended = diff(&lab, &[&flags, sampled].concat());
            assert_eq!(ended.status, Some(0), "{text}\n{}{}", ended.stdout, ended.stderr);
            let object = object(&ended);
            assert_eq!(object["objects"], json!([]), "{text}");
            assert_eq!(count(&object, "/packets/different"), 0, "{text}");
            assert!(count(&object, "/packets/same") > 1000, "{object}");
        }
    }
}

const OLD: &str = "set seed 7
port attach span iface:no-such-if
tool create web capture web.pcapng
tool create ids-a discard
tool create ids-b discard
tool create recorder discard
tool create far port span erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:01:02
group create ids tools ids-a,ids-b hash symmetric
rule create 10 from span match \"tcp port 22\" drop
rule create 20 from span match \"tcp port 80 or 443\" to web
rule create 30 from span match \"udp\" to ids
rule create 40 from span match \"tcp port 8080\" to far
rule create 50 from span match \"icmp\" sample 1/3 to recorder
rule create 60 from span match \"ip6\" to recorder
start
";
const NEW: &str = "set seed 7
port attach span iface:no-such-if
tool create web capture web.pcapng
tool create ids-a discard
tool create ids-b discard
tool create recorder discard
tool create far port span erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:01:02
group create ids tools ids-a,ids-b weights 2,1 hash symmetric
rule create 10 from span match \"tcp port 22\" drop
rule create 15 from span match \"tcp port 80 and net 10.1.0.0/27\" drop
rule create 20 from span match \"tcp port 80 or 443\" slice 60 to web
rule create 30 from span match \"udp\" to ids
rule create 35 from span match \"tcp port 8080 and net 10.1.0.0/27\" drop
rule create 40 from span match \"tcp port 8080\" to far
rule create 45 from span match \"arp\" to recorder
rule create 50 from span match \"icmp\" sample 1/2 to recorder
start
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("old.pipe", OLD);
    lab.write("new.pipe", NEW);
    write(&lab.path("in.pcap"), Form::PcapNs(ByteOrder::NATIVE), &office());
    lab
}

/// `TAPLINE_BLESS=1` writes the expected texts anew: read the difference before you keep it.
#[test]
fn differences_read_as_they_are_expected_to() {
    let lab = lab();
    for (name, flags) in [
        ("difference.txt", &["-r", "in.pcap"][..]),
        ("difference.json", &["-r", "in.pcap", "--json"]),
        ("sampled.txt", &["-r", "in.pcap", "--sampled"]),
        ("objects.txt", &[]),
    ] {
        let ended = diff(&lab, flags);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_expected(&format!("testbed/product/explain/{name}"), &ended.stdout);
    }
}

#[test]
fn the_exit_status_says_whether_something_differs() {
    let lab = lab();
    let status = |old: &str, new: &str, flags: &[&str]| {
        let arguments: Vec<&str> = ["diff", old, new].into_iter().chain(flags.iter().copied()).collect();
        lab.end(lab.start(&mut lab.tapline(&arguments))).status
    };
    lab.write("wrong.pipe", "rule create\n");
    lab.write(
        "more.pipe",
        OLD.replace("rule create 60", "rule create 60 from span vlan 999 to web\nrule create 61"),
    );
    lab.write("damaged.pcap", &std::fs::read(lab.path("in.pcap")).expect("it is there")[..5000]);
    let read = ["-r", "in.pcap"];
    let asked = ["--exit-code", "-r", "in.pcap"];
    for (expected, old, new, flags) in [
        (0, "old.pipe", "new.pipe", &read[..]),
        (1, "old.pipe", "new.pipe", &asked),
        (0, "old.pipe", "old.pipe", &asked),
        // objects differ, and no packet is of them
        (0, "old.pipe", "more.pipe", &asked),
        (1, "old.pipe", "more.pipe", &["--exit-code"]),
        (0, "old.pipe", "old.pipe", &["--exit-code"]),
        (2, "old.pipe", "wrong.pipe", &["--exit-code"]),
        (2, "old.pipe", "wrong.pipe", &[]),
        (1, "old.pipe", "new.pipe", &["-r", "no-such.pcap"]),
        (2, "old.pipe", "old.pipe", &["--exit-code", "-r", "no-such.pcap"]),
        (2, "old.pipe", "old.pipe", &["--exit-code", "-r", "damaged.pcap"]),
        (1, "old.pipe", "old.pipe", &["-r", "damaged.pcap"]),
        (2, "old.pipe", "new.pipe", &["--exit-code", "-r", "in.pcap", "--from", "nobody"]),
        (2, "old.pipe", "new.pipe", &["--from", "span"]),
        (0, "old.pipe", "new.pipe", &["--exit-code", "-r", "in.pcap", "--match", "ether proto 0x1234"]),
    ] {
        assert_eq!(status(old, new, flags), Some(expected), "{old} {new} {flags:?}");
    }
}

#[test]
fn a_rule_in_front_does_not_shift_what_samplers_and_tunnels_count() {
    let lab = lab();
    // the headers of these tunnels count copies
    let ends = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:01:02";
    let old = format!(
        "set seed 7\nport attach in iface:no-such-if\ntool create a discard\n\
         tool create b port in erspan2 session 1 {ends}\ntool create c port in erspan3 session 2 {ends}\n\
         tool create d port in vxlan vni 3 {ends} df off\n\
         rule create 20 from in sample 1/3 to a\nrule create 30 from in to b,c,d\nstart\n"
    );
    lab.write("old.pipe", &old);
    // one packet less comes to the sampler
    lab.write(
        "new.pipe",
        old.replace("rule create 20", "rule create 10 from in match \"arp\" drop\nrule create 20"),
    );
    let arps = tapline_harness::programs::run(
        "tcpdump",
        &["-n", "-r", lab.path("in.pcap").to_str().expect("utf-8"), "arp"],
    );
    let arps = arps.lines().count() as u64;
    let told = object(&diff(&lab, &["-r", "in.pcap", "--json"]));
    assert_eq!(count(&told, "/packets/different"), arps, "{told:#}");
    let sampled = object(&diff(&lab, &["-r", "in.pcap", "--json", "--sampled"]));
    assert!(count(&sampled, "/packets/different") > 10 * arps, "{sampled:#}");
}

#[test]
fn a_port_that_one_file_lacks_receives_nothing_in_it() {
    let lab = lab();
    write(&lab.path("in.pcapng"), Form::Pcapng(ByteOrder::NATIVE), &office()[..300]);
    let text = |ports: &[&str]| {
        let port = |(index, name): (usize, &&str)| {
            format!("port attach {name} net_null{index}\nrule create {} from {name} to a\n", index + 10)
        };
        format!("tool create a discard\n{}start\n", ports.iter().enumerate().map(port).collect::<String>())
    };
    lab.write("old.pipe", text(&["a", "b", "c"]));
    lab.write("new.pipe", text(&["a", "b"]));
    let told = object(&diff(&lab, &["-r", "in.pcapng", "--json"]));
    assert_eq!((count(&told, "/packets/different"), count(&told, "/packets/lost")), (100, 100), "{told:#}");
    assert_eq!(
        (told["causes"][0]["kind"].as_str(), told["causes"][0]["object"].as_str()),
        (Some("port"), Some("c"))
    );
    // the only input of each, whatever its name
    lab.write("old.pipe", text(&["x"]));
    lab.write("new.pipe", text(&["y"]));
    let told = object(&diff(&lab, &["-r", "in.pcapng", "--json"]));
    assert_eq!(count(&told, "/packets/same"), 300, "{told:#}");
}

/// Sends a line to a broker, and gives its answer.
fn asked(lab: &Lab, line: &str) -> Value {
    let mut stream = connected(lab);
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "run", "params": { "line": line } });
    writeln!(stream, "{request}").expect("a broker that reads");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    serde_json::from_str(&answer).expect("JSON")
}

#[test]
fn a_dry_run_of_a_reload_says_which_packets_fare_otherwise() {
    let lab = lab();
    let running = OLD.replace("iface:no-such-if", "net_null0").replace("capture web.pcapng", "discard");
    let new = running
        .replace("\"tcp port 80 or 443\"", "\"tcp port 443\"")
        .replace("start\n", "rule create 45 from span match \"arp\" to recorder\nstart\n");
    lab.write("old.pipe", &running);
    lab.write("new.pipe", &new);
    let told = object(&diff(&lab, &["-r", "in.pcap", "--json"]));
    assert!(count(&told, "/packets/lost") > 0 && count(&told, "/packets/same") > 0, "{told:#}");
    let started = lab.serve("old.pipe", EAL, &[]);
    let plan = asked(&lab, "show config");
    let receipt = asked(&lab, "reload new.pipe dry-run -r in.pcap");
    let receipt = &receipt["result"];
    assert_eq!(
        (&receipt["schema"], &receipt["result"]),
        (&json!("tapline.reload/1"), &json!("dry_run")),
        "{receipt:#}"
    );
    assert_eq!(receipt["diff"]["schema"], "tapline.diff/1");
    for part in ["objects", "packets"] {
        assert_eq!(receipt["diff"][part], told[part], "{receipt:#}");
    }
    // the lines are those of the plans, which have other names
    let without_places = |object: &Value| -> Vec<Value> {
        let mut groups = groups(object).to_vec();
        for side in ["old", "new"] {
            groups
                .iter_mut()
                .filter(|group| group[side].is_object())
                .for_each(|group| group[side]["source"] = json!(null));
        }
        groups
    };
    assert_eq!(without_places(&receipt["diff"]), without_places(&told));
    let text = receipt["text"].as_str().expect("a text");
    let line = format!("packets   {}: {} as before", told["packets"]["total"], told["packets"]["same"]);
    assert!(text.contains(&line), "{text}");
    for (wrong, why) in [
        ("reload new.pipe dry-run -r no-such.pcap", "no such file"),
        ("reload new.pipe dry-run -r new.pipe", "packets were not compared"),
        ("reload new.pipe -r in.pcap", "`dry-run`"),
    ] {
        let refused = asked(&lab, wrong)["error"].to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
    assert_eq!(asked(&lab, "show config"), plan);
    asked(&lab, "quit");
    lab.end(started).balanced();
}

#[test]
fn a_port_that_is_stopped_receives_and_sends_nothing() {
    let lab = lab();
    let text = "port attach in net_null0\nport attach out net_null1 mtu 200\ntool create a port out\nrule create 10 from in to a\n";
    lab.write("old.pipe", format!("{text}start\n"));
    for (stopped, kind, outcome) in
        [("in", "port", "not received"), ("out", "tool", "delivered, down at a")]
    {
        lab.write("new.pipe", format!("{text}port stop {stopped}\nstart\n"));
        let told = object(&diff(&lab, &["-r", "in.pcap", "--from", "in", "--json"]));
        let sent: u64 = groups(&told)
            .iter()
            .filter(|group| {
                group["outcome"]["old"] == "delivered to a"
                    && group["outcome"]["new"] == outcome
                    && group["kind"] == kind
            })
            .map(|group| count(group, "/count"))
            .sum();
        // the MTU that the file says holds in both
        // a tag is free (IEEE 802.3, 3.2.7)
        let room = |packet: &Timed| {
            if matches!(packet.bytes[12..14], [0x81, 0] | [0x88, 0xa8]) { 218 } else { 214 }
        };
        let fitting = office().iter().filter(|packet| packet.bytes.len() <= room(packet)).count() as u64;
        assert_eq!(sent, fitting, "{told:#}");
    }
    let arguments = ["explain", "new.pipe", "-r", "in.pcap", "--from", "in", "--summary", "--json"];
    let ended = lab.end(lab.start(&mut lab.tapline(&arguments)));
    let summary: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let down = summary.pointer("/summary/tools/a/dropped/down/count").and_then(Value::as_u64);
    assert_eq!(down, Some(office().len() as u64), "{summary:#}");
    lab.write("new.pipe", format!("{text}port stop in\nstart\n"));
    let ended = lab.end(lab.start(&mut lab.tapline(&arguments)));
    assert!(ended.stderr.contains("note: port in is stopped"), "{}", ended.stderr);
}
