//! Copies and counts of explain beside those of a run of the same file: captures that were written, byte for byte, and the account.
//!
//! Explain is asked in this process, which has one EAL: one test does all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tapline::broker::rehearsal;
use tapline::explain::answer::Answer;
use tapline::explain::capture::Capture;
use tapline::explain::summary::Summary;
use tapline::explain::{Explainer, Question};
use tapline::plan::origin::origins;
use tapline::plan::{Plan, Surroundings, plan};
use tapline_api::words::Disposition;
use tapline_dpdk::Eal;
use tapline_harness::captures;
use tapline_harness::lab::{Account, Lab};
use tapline_harness::programs::alone;
use tapline_harness::spans::number_of;
use tapline_lang::parse_text;
use tapline_packet::burst::Selection;
use tapline_packet::mix::SplitMix64;

use crate::copies::mixes::{mixes, tools_and_rules};
use crate::times::packets::{Form, Timed, office, read, write};

/// A copy: bytes, and how many it had on the wire.
type Copies = BTreeMap<String, Vec<(Vec<u8>, u32)>>;

struct Explained {
    plan: Arc<Plan>,
    copies: Copies,
    answers: Vec<Answer>,
    summary: Summary,
}

fn explained(eal: &Eal, text: &str, capture: &Path, question: &Question) -> Explained {
    let surroundings = Surroundings::system();
    let mut parsed = parse_text("test.pipe", text, &[]);
    let planned = plan(&mut parsed, &surroundings);
    let planned =
        planned.unwrap_or_else(|| panic!("{}\n{text}", parsed.diagnostics.render(&parsed.sources)));
    let plan = Arc::new(planned);
    let mut packets = Capture::open(capture, &plan, Some("in")).expect("a capture");
    let (mut explainer, mut answers) = (None::<Explainer>, Vec::new());
    // what is damaged ends a run, too
    while let Ok(Some(batch)) = packets.next_batch() {
        let explainer = explainer.get_or_insert_with(|| {
            let now_ns = batch.first_ns().unwrap_or_default();
            let origins = origins(&parsed, &surroundings);
            Explainer::new(eal, Arc::clone(&plan), origins, now_ns).expect("memory for a rehearsal")
        });
        for (port, run) in batch.runs() {
            let mut rest = &run[..];
            while !rest.is_empty() {
                let (burst, behind) = rest.split_at(explainer.fitting(rest));
                explainer.judge(port, burst, Selection::ALL, question, |answer| answers.push(answer));
                rest = behind;
            }
        }
    }
    let mut copies = Copies::new();
    for answer in &answers {
        for copy in answer.sent().filter(|copy| !copy.is_original) {
            copies.entry(copy.tool.clone()).or_default().push((copy.bytes.clone(), copy.wire_len));
        }
    }
    let summary = explainer.map_or_else(|| Summary::new(&plan), |explainer| explainer.summary.clone());
    Explained { plan, copies, answers, summary }
}

/// The address that copies of tunnels come from is that of the tool's port: of none where there is no port.
fn without_source(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.iter_mut().skip(6).take(6).for_each(|byte| *byte = 0);
    bytes
}

/// Runs the file, and compares what it wrote and counted with what explain says.
fn compare(eal: &Eal, lab: &Lab, text: &str, capture: &Path) -> Explained {
    let account = lab.account(text, &["--exit-idle", "300ms"]);
    let explained = explained(eal, text, capture, &Question::default());
    for disposition in Disposition::ALL {
        let counted = account.number(&format!("packets/{disposition}"));
        assert_eq!(
            explained.summary.of(disposition).count,
            counted,
            "{disposition} of {}\n{text}",
            capture.display()
        );
        let told = explained.answers.iter().filter(|answer| answer.disposition == disposition).count();
        assert_eq!(told as u64, counted, "{disposition} by packet\n{text}");
    }
    for (tool, counted) in explained.plan.tools.iter().zip(&explained.summary.tools) {
        compare_tool(lab, &explained, &account, (&tool.name, counted.sent.count), text);
    }
    for (rule, counted) in explained.plan.rules.iter().zip(&explained.summary.rules) {
        let sampled_out = account.number(&format!("rules/{}/sampled_out", rule.priority));
        assert_eq!(counted.sampled_out.count, sampled_out, "rule {}\n{text}", rule.priority);
        if rule.limit.is_none() {
            let taken = counted.taken.count + counted.sampled_out.count;
            let duplicates = counted.duplicates.count;
            let matched = account.number(&format!("rules/{}/matched", rule.priority));
            assert!((taken..=taken + duplicates).contains(&matched), "rule {}\n{text}", rule.priority);
        }
    }
    explained
}

fn compare_tool(
    lab: &Lab,
    explained: &Explained,
    account: &Account,
    (name, sent): (&str, u64),
    text: &str,
) {
    assert_eq!(sent, account.number(&format!("tools/{name}/sent")), "copies for {name}\n{text}");
    let none = Vec::new();
    let told = explained.copies.get(name).unwrap_or(&none);
    assert_eq!(told.len() as u64, sent, "copies for {name}, one by one\n{text}");
    // a capture of no packets has not even an interface
    if sent == 0 {
        return;
    }
    let (segments, by_port) = (lab.path(&format!("{name}.pcapng")), lab.path(&format!("{name}.pcap")));
    if segments.is_file() {
        let written: Vec<(Vec<u8>, u32)> =
            read(&segments).into_iter().map(|packet| (packet.bytes, packet.original_len)).collect();
        assert!(*told == written, "{name}: {}\n{text}", first_difference(told, &written));
    } else if by_port.is_file() {
        let bare = |bytes: &[u8]| (without_source(bytes), 0);
        let written: Vec<(Vec<u8>, u32)> =
            read(&by_port).iter().map(|packet| bare(&packet.bytes)).collect();
        let told: Vec<(Vec<u8>, u32)> = told.iter().map(|(bytes, _)| bare(bytes)).collect();
        assert!(told == written, "{name}: {}\n{text}", first_difference(&told, &written));
    }
}

fn first_difference(told: &[(Vec<u8>, u32)], written: &[(Vec<u8>, u32)]) -> String {
    let place = told.iter().zip(written).position(|(told, written)| told != written);
    match place {
        Some(place) => {
            let (told, written) = (&told[place], &written[place]);
            format!(
                "copy {place}: told {} {:02x?}\nwritten {} {:02x?}",
                told.1, told.0, written.1, written.0
            )
        }
        None => format!("{} are told, {} were written", told.len(), written.len()),
    }
}

/// A pipeline that has what the language has: `IN` and `OUT` stand for the capture and the folder.
pub(super) const EVERYTHING: &str = "set seed 7
port attach in replay:IN,speed=max
port attach p0 net_pcap0,tx_pcap=OUT/er3.pcap rxq 0
port attach p1 net_pcap1,tx_pcap=OUT/vx.pcap rxq 0
port attach p2 net_pcap2,tx_pcap=OUT/rs.pcap rxq 0
port attach p3 net_pcap3,tx_pcap=OUT/nar.pcap rxq 0 mtu 200
tool create a capture OUT/a.pcapng queue 1024
tool create b capture OUT/b.pcapng queue 1024
tool create c capture OUT/c.pcapng strip vlan slice 64 queue 1024
tool create d capture OUT/d.pcapng timestamp ixia queue 1024
tool create er3 port p0 erspan3 session 3 src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:01:02 mtu 9000 queue 1024
tool create vx port p1 vxlan vni 4 src 2001:db8::1 dst 2001:db8::9 next-hop 02:00:00:00:01:02 mtu 1000 oversize slice queue 1024
tool create rs port p2 rspan vlan 77 priority 2 mask 30 20 byte 0xee queue 1024
tool create nar port p3 queue 1024
tool create none discard
group create pair tools a,b weights 2,1 hash symmetric
group create drops tools c,d discard 30% hash ip
filter create web \"tcp port 80 or 443 or 8080\" through vlan,qinq
rule create 5 from in match \"arp\" drop
rule create 10 from in match web to pair
rule create 15 from in match \"udp port 53\" through vlan sample first 2 packets to d class high
rule create 20 from in sample 1/3 to er3
rule create 25 from in sample random 1/4 to none
rule create 30 from in sample flow 1/2 to vx
rule create 35 from in match \"icmp or icmp6\" to c final
rule create 40 from in dedup window 1s memory 1M to nar
rule create 45 from in dedup window 1s memory 1M action tag 99 to rs
rule create 50 from in match \"tcp\" limit 20 packets tag vlan 9 mask 60 8 byte 0x55 slice 100 to a
rule create 55 from in vlan 1-4000 match \"ip or ip6\" through any anonymize ip prefix-preserving key OUT/anon.key inner unread drop to drops
rule create 60 from in match \"len > 1000\" payload drop rewrite dst-mac 02:00:00:00:00:99 to b
rule create 65 from in sample every 10ms for 3ms to none
rule create 70 from in match \"ip[8] > 60\" final to d
start
";

pub(super) fn placed(lab: &Lab, text: &str, capture: &Path) -> String {
    text.replace("IN", capture.to_str().expect("utf-8"))
        .replace("OUT", lab.path("").to_str().expect("utf-8").trim_end_matches('/'))
}

pub(super) fn new_lab() -> Lab {
    let lab = Lab::new();
    lab.write("anon.key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    lab
}

/// Each of a rule's clauses by chance.
pub(super) fn random_pipeline(random: &mut SplitMix64) -> String {
    let mut of = |all: &[&str]| all[random.next() as usize % all.len()].to_owned();
    let mut text = "set seed 5\nport attach in replay:IN,speed=max\n".to_owned();
    let tools = ["a", "b", "c", "d"];
    for tool in tools {
        let edits = of(&[
            "",
            " strip vlan",
            " slice 70",
            " mask 20 9 byte 0x11",
            " tag vlan 5",
            " timestamp vss",
            " strip all",
        ]);
        text += &format!("tool create {tool} capture OUT/{tool}.pcapng{edits} queue 1024\n");
    }
    text += &format!(
        "group create g tools a,b,c weights {} hash {}\n",
        of(&["1,1,1", "3,1,2"]),
        of(&["symmetric", "ip", "5-tuple"])
    );
    for priority in 1..=12 {
        let matched = of(&[
            "",
            " match \"tcp\"",
            " match \"udp port 53\" through any",
            " match \"not tcp and not udp\"",
            " vlan 1-4094",
            " match \"host 10.1.0.7 or net 10.0.0.0/8\"",
            " match \"ip[8] < 64\"",
            " match \"greater 300\"",
            " match \"vlan and tcp\"",
        ]);
        let narrowed = of(&[
            "",
            "",
            "",
            " sample 1/3",
            " sample random 1/3",
            " sample flow 1/2",
            " sample first 3 packets",
            " dedup window 10ms",
            " sample rate 1kpps",
            " sample first 400 bytes",
            " limit 30 packets",
            " dedup window 1s action count",
        ]);
        let edits = of(&[
            "",
            "",
            " slice 80",
            " tag vlan 17",
            " payload drop",
            " rewrite src-mac 02:00:00:00:00:77",
            " strip vlan mask 14 6 byte 0x00",
            " anonymize ip prefix-preserving key OUT/anon.key",
            " mask 0 4 byte 0xff after l4",
        ]);
        let to = of(&["to a", "to b", "to g", "to c,d", "to g,d", "to a final", "to g final"]);
        text += &match of(&["", "", "", "", "", "drop"]).as_str() {
            "drop" => format!("rule create {priority} from in{matched} drop\n"),
            _ => format!("rule create {priority} from in{matched}{narrowed}{edits} {to}\n"),
        };
    }
    text + "start\n"
}

#[test]
fn explain_says_what_a_run_does() {
    alone(module_path!(), "explain_says_what_a_run_does", || {
        let eal = rehearsal::eal(1).expect("EAL starts on ordinary pages");
        let made = Lab::new();
        let cut = made.path("cut.pcapng");
        write(&cut, Form::Pcapng(tapline_capture::ByteOrder::NATIVE), &office());
        let mut all = vec![cut.clone()];
        // some of many, so that every kind is among them; all of them in a soak
        let is_soak = number_of("TAPLINE_MINUTES", 0) > 0;
        let step = if is_soak { 1 } else { 40 };
        all.extend(captures::folder().iter().flat_map(|folder| captures::ethernet(folder)).step_by(step));
        for capture in &all {
            let lab = new_lab();
            compare(&eal, &lab, &placed(&lab, EVERYTHING, capture), capture);
        }
        let mut random = SplitMix64(number_of("TAPLINE_EXPLAIN_SEED", 1));
        let rounds = number_of("TAPLINE_EXPLAIN_MIXES", if is_soak { 300 } else { 8 }) as usize;
        for round in 0..rounds {
            let (lab, capture) = (new_lab(), &all[round % all.len()]);
            compare(&eal, &lab, &placed(&lab, &random_pipeline(&mut random), capture), capture);
        }
        edits_in_transports(&eal, &all, rounds.div_ceil(2));
        tunnels_that_end(&eal, &cut);
        one_packet_is_judged_as_among_all(&eal, &cut);
        assert_eq!(eal.lost_mbufs(), 0, "mbufs that nobody gave back");
    });
}

/// The mixes of edits and transports that the product is tested with.
fn edits_in_transports(eal: &Eal, captures: &[PathBuf], rounds: usize) {
    let mut runner = TestRunner::deterministic();
    for capture in captures.iter().cycle().take(rounds) {
        let lab = new_lab();
        let mixes = proptest::collection::vec(mixes(), 8).new_tree(&mut runner).expect("mixes").current();
        let text = placed(&lab, "set seed 5\nport attach in replay:IN,speed=max\n", capture);
        compare(eal, &lab, &(text + &tools_and_rules(&mixes) + "start\n"), capture);
    }
}

/// What left in tunnels comes in where they end.
fn tunnels_that_end(eal: &Eal, capture: &Path) {
    let lab = new_lab();
    compare(eal, &lab, &placed(&lab, EVERYTHING, capture), capture);
    let tunnelled: Vec<Timed> = ["er3.pcap", "vx.pcap"]
        .iter()
        .flat_map(|name| read(&lab.path(name)))
        .chain(read(&lab.path("a.pcapng")))
        .collect();
    let (within, ended) = (lab.path("within.pcapng"), new_lab());
    write(&within, Form::Pcapng(tapline_capture::ByteOrder::NATIVE), &tunnelled);
    let text = "port attach in replay:IN,speed=max terminate vxlan terminate erspan session 3
tool create a capture OUT/a.pcapng queue 1024
tool create b capture OUT/b.pcapng tag vlan 4 queue 1024
rule create 10 from in match vni 4 to a
rule create 20 from in match \"tcp or udp\" through vlan to b
start
";
    let explained = compare(eal, &ended, &placed(&ended, text, &within), &within);
    let refused = explained.answers.iter().filter(|answer| answer.packet.refusal.is_some()).count();
    assert_eq!(refused as u64, explained.summary.refused.count);
    assert!(refused > 0 && refused < explained.answers.len(), "{refused} of {}", explained.answers.len());
}

/// Whichever packets are asked about, the others are run as well.
fn one_packet_is_judged_as_among_all(eal: &Eal, capture: &Path) {
    let lab = new_lab();
    let text = placed(&lab, EVERYTHING, capture);
    let all = explained(eal, &text, capture, &Question::default());
    let tool = all.plan.tools.entries().find(|(_, tool)| tool.name == "c").map(|(id, _)| id);
    let some = explained(eal, &text, capture, &Question { tool, ..Question::default() });
    let numbers =
        |answers: &[Answer]| answers.iter().map(|answer| answer.packet.number).collect::<Vec<u64>>();
    let is_for_c = |answer: &&Answer| answer.copies.iter().any(|copy| copy.tool == "c");
    let expected: Vec<u64> =
        all.answers.iter().filter(is_for_c).map(|answer| answer.packet.number).collect();
    assert_eq!(numbers(&some.answers), expected);
    assert!(!expected.is_empty() && expected.len() < all.answers.len());
    assert!(some.summary == all.summary);
}
