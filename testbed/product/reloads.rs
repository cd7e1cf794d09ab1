//! Whole files, drawn at random, that take each other's place while packets flow: what all of them have loses and reorders nothing,
//! each packet is judged by one of them, nothing is left behind, and the last is what a fresh start makes of it.
//!
//! Needs: EAL. `TAPLINE_RELOADS` (20) changes how many there are, `TAPLINE_RELOADS_SEED` what is drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tapline_harness::client::Client;
use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::pcap_files::packets;
use tapline_harness::spans::number_of;

use crate::changes::{LCORES, datagrams};
use crate::live::assert_kept;

/// A sequence of numbers that is the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn is(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// Has a file take the place of the plan in force. Returns the receipt; `None` where it was refused for want of mbufs, which a port
/// that came with shorter queues may be short of: the plan is what it was.
fn reload(client: &mut Client, lab: &Lab, text: &str) -> Option<Value> {
    lab.write("next.pipe", text);
    let before = client.plan();
    let mut answer = client.run("reload next.pipe interrupt");
    let error = answer["error"]["message"].as_str().unwrap_or_default();
    if error.contains("its mempool has room for") {
        assert_eq!(client.plan(), before, "{error}");
        return None;
    }
    assert!(answer["result"].is_object(), "{answer}\n{text}");
    Some(answer["result"].take())
}

fn names(client: &mut Client, what: &str) -> Vec<String> {
    let objects = client.call("get", &json!({ "what": what }));
    let objects = objects.get(what).unwrap_or(&objects).as_object().expect("objects").clone();
    objects.keys().cloned().collect()
}

/// Memory in kB, threads and open files of a process: what must not grow.
pub(crate) fn held(process: &Started) -> [usize; 3] {
    let id = process.child.id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the kernel's");
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
    [of("VmRSS:"), of("Threads:"), files]
}

/// Memory of EAL, which pools of ports that come are made in.
const EAL_MIB: usize = 1024;

/// What all files have: a replay whose packets are kept in a file, and go through a ring into another; a source without end, whose
/// packets are judged by rule 20 in one of two ways.
fn fixed(head: &str, loops: u64, judged: &str, burst: &str) -> String {
    format!(
        "{head}set burst {burst}\nport attach in replay:in.pcap,speed=2x,loop={loops}\nport attach keep-port net_pcap0,tx_pcap=keep.pcap rxq 0\n\
         port attach ring net_ring0 txd 1024\nport attach back-port net_pcap1,tx_pcap=back.pcap rxq 0\nport attach null net_null0\n\
         tool create keep port keep-port queue 2048\ntool create there port ring queue 2048\ntool create back port back-port queue 2048\n\
         tool create x discard\ntool create y discard\ntool create z discard\n\
         rule create 10 from in to keep,there\nrule create 11 from ring to back\nrule create 20 from null sample 1/64 {judged}\n"
    )
}

/// A tool of the file of the start, which makes room for the queues of what comes later.
const SPARE: &str = "tool create spare port back-port queue 2048\n";
/// As [`SPARE`], for the two directions of a wire.
const SPARE_FOR_WIRES: &str = "tool create spare port back-port queue 12288\n";

/// A file with what all have, and what is drawn for it.
fn drawn(draw: &mut Draw, head: &str, loops: u64) -> String {
    let judged = draw.one(&["to x,y", "to z"]);
    let mut text = fixed(head, loops, judged, draw.one(&["32", "64"]));
    let expressions = ["udp", "not tcp", "udp port 53 and net 198.18.0.0/26", "len < 61", "ip[19] & 1 = 0"];
    writeln!(text, "filter create f \"{}\"", draw.one(&expressions)).expect("a string");
    // ports under names that mean another device in another file, too: those are recreated
    let mut tools = Vec::new();
    for name in ["p", "q"] {
        if draw.is() {
            continue;
        }
        let device = draw.one(&["net_ring", "net_null"]);
        let number = if name == "p" { 3 } else { 4 } + draw.below(2) * 2;
        writeln!(text, "port attach {name} {device}{number} txd 64\nrule create 3{number} from {name} sample 1/100 to d")
            .expect("a string");
        if draw.is() {
            let queue = draw.one(&["64", "100"]);
            writeln!(text, "tool create {name}-out port {name} queue {queue}").expect("a string");
            tools.push(format!("{name}-out"));
        }
    }
    writeln!(text, "tool create d discard").expect("a string");
    for name in ["a", "b", "c"] {
        if draw.is() {
            writeln!(text, "tool create {name} discard").expect("a string");
            tools.push(name.to_owned());
        }
    }
    if draw.is() {
        let queue = draw.one(&["64", "256"]);
        writeln!(text, "tool create rec capture rec{queue}.pcapng queue {queue}").expect("a string");
        tools.push("rec".to_owned());
    }
    // a queue of each worker for each direction is too much memory where there are several
    if draw.is() && !head.contains("lcores") {
        writeln!(
            text,
            "port attach w0 net_ring7 txd 64\nport attach w1 net_ring8 txd 64\nwire create w ports w0,w1\nrule create 60 from w to d"
        )
        .expect("a string");
    }
    if tools.len() > 1 && draw.is() {
        let weights: Vec<String> = tools.iter().map(|_| (1 + draw.below(3)).to_string()).collect();
        writeln!(text, "group create g tools {} weights {}", tools.join(","), weights.join(","))
            .expect("a string");
        writeln!(text, "rule create 50 from in match f to g").expect("a string");
    } else {
        for (at, tool) in tools.iter().enumerate() {
            let edit = draw.one(&[
                "",
                " slice 48",
                " sample 1/3",
                " sample flow 1/2",
                " dedup window 10ms",
                " class high",
            ]);
            writeln!(text, "rule create 4{at} from in match f{edit} to {tool}").expect("a string");
        }
    }
    text
}

/// What a receipt says of objects that both plans have: none of them lost anything, but for copies that are dropped in any plan, by
/// tools that nobody reads.
fn assert_nothing_lost(receipt: &Value, text: &str) {
    let lost = &receipt["lost"];
    assert_eq!(receipt["balanced"], json!(true), "{receipt}\n{text}");
    // what waits in the rings of ports that are set up again is lost, and said so
    for port in ["in", "ring", "null", "keep-port", "back-port"] {
        assert_eq!(lost["by_port"][port], json!(0), "{port}: {receipt}\n{text}");
    }
    for tool in ["keep", "there", "back", "x", "y", "z"] {
        assert_eq!(lost["by_tool"][tool], json!(0), "{tool}: {receipt}\n{text}");
    }
}

/// Prints the pauses of workers and the times until all had changed.
fn report(what: &str, receipts: &[Value]) {
    for field in ["paused_us", "swapped_us", "planned_ms"] {
        let mut values: Vec<f64> = receipts.iter().filter_map(|receipt| receipt[field].as_f64()).collect();
        assert_eq!(values.len(), receipts.len());
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values[(values.len() - 1) * share / 100];
        println!("{what}: {field} p50 {:.1}, p99 {:.1}, most {:.1}", at(50), at(99), at(100));
    }
}

fn random_reloads(what: &str, head: &str) {
    let count = number_of("TAPLINE_RELOADS", 20).max(1);
    let seed = number_of("TAPLINE_RELOADS_SEED", 20_261_130);
    println!("{count} reloads with seed {seed}");
    let lab = Lab::new();
    // a second of packets each, and a tenth of a second for each reload
    let loops = count / 10 + 10;
    let once = datagrams(&lab, "in.pcap", 2_000);
    let spare = if head.contains("lcores") { SPARE } else { SPARE_FOR_WIRES };
    let first = fixed(head, loops, "to z", "32") + spare;
    lab.write("test.pipe", &first);
    let eal = EAL.replace("-m 256", &format!("-m {EAL_MIB}"));
    let started = lab.serve("test.pipe", &eal, &[]);
    let mut client = Client::of(&lab.path("control.sock"));
    let mut draw = Draw(seed);
    let (mut receipts, mut held_before, base) = (Vec::new(), None, client.plan()["sha256"].clone());
    for index in 0..count {
        let text = drawn(&mut draw, head, loops);
        let Some(receipt) = reload(&mut client, &lab, &text) else { continue };
        assert_nothing_lost(&receipt, &text);
        // what is there is what the file says
        for (what, word) in
            [("ports", "port attach "), ("tools", "tool create "), ("groups", "group create ")]
        {
            let mut said: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix(word)?.split(' ').next()).collect();
            said.sort_unstable();
            let mut there = names(&mut client, what);
            there.sort_unstable();
            assert_eq!(there, said, "{text}");
        }
        // nor has anything been lost since
        let tools = client.call("get", &json!({ "what": "tools" }));
        for tool in ["keep", "there", "back"] {
            let copies = &tools[tool];
            assert_eq!(
                number(copies, "dropped/congested"),
                0,
                "{tool} after {index}: {copies}\n{receipt}\n{text}"
            );
        }
        receipts.push(receipt);
        if held_before.is_none() && index >= count / 4 {
            receipts.extend(reload(&mut client, &lab, &first));
            held_before = Some(held(&started));
        }
    }
    // back to the plan of the start, with all that it had and nothing more
    receipts.extend(reload(&mut client, &lab, &first));
    assert_eq!(client.plan()["sha256"], base);
    let (before, after) = (held_before.expect("a quarter was passed"), held(&started));
    println!("{what}: kB, threads, files {before:?} after a quarter of all, {after:?} after all");
    assert_eq!(before[1..], after[1..], "threads and files");
    // all of EAL's memory may have been touched by then, wherever pools lay
    let most = (EAL_MIB * 1024).max(before[0]) + 200_000;
    assert!(after[0] < most, "{before:?} {after:?}");
    report(what, &receipts);
    println!("{what}: {} were taken up, the others refused for want of mbufs", receipts.len());
    assert!(receipts.len() as u64 > count / 2);

    let sent: Vec<Vec<u8>> = (0..loops).flat_map(|_| once.iter().cloned()).collect();
    lab.until("all packets", |line| {
        number(line, "ports/in/received") == sent.len() as u64
            && number(line, "tools/back/sent") == sent.len() as u64
    });
    client.call("run", &json!({ "line": "quit" }));
    let account = lab.end(started).done();
    assert_eq!(
        account.number("tools/x/sent"),
        account.number("tools/y/sent"),
        "a packet was judged by half of a plan"
    );
    for tool in ["keep", "there", "back"] {
        assert_eq!(account.number(&format!("tools/{tool}/sent")), sent.len() as u64, "{tool}");
    }
    let is_in_order = !head.contains("work");
    assert_kept(&packets(&lab.path("keep.pcap")), &sent, is_in_order);
    assert_kept(&packets(&lab.path("back.pcap")), &sent, is_in_order);
}

#[test]
fn files_take_each_others_place_on_one_worker() {
    random_reloads("one worker", "set idle sleep\n");
}

#[test]
fn files_take_each_others_place_on_two_workers() {
    random_reloads("two workers", &format!("{LCORES}set lcores 1-2\n"));
}

#[test]
fn files_take_each_others_place_where_stages_have_lcores_of_their_own() {
    random_reloads("stages", &format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n"));
}

/// What comes to every plan at last: packets whose ways are compared.
const LATE: &str = "tool create o1 capture @/o1.pcapng queue 2048\ntool create o2 capture @/o2.pcapng queue 2048\n\
    group create late-g tools o1,o2 weights 1,2\nrule create 200 from late match f to o1\n\
    rule create 201 from late match \"not ip[19] & 3 = 1\" slice 52 to late-g\nport attach late replay:late.pcap,speed=max\n";

/// Starts what a file says, waits until all packets that came last are where they go, and reads them.
fn ways_of(
    lab: &Lab,
    client: &mut Client,
    started: Started,
    count: u64,
    folder: &str,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    // a line may have been written before the port was attached
    lab.until("all packets that came last", |line| line["ports"]["late"]["received"] == json!(count));
    client.call("run", &json!({ "line": "quit" }));
    let account = lab.end(started).done();
    let of_rules = [200, 201].map(|rule| account.number(&format!("rules/{rule}/matched")));
    let mut ways: BTreeMap<String, Vec<Vec<u8>>> = ["o1", "o2"]
        .iter()
        .map(|name| ((*name).to_owned(), packets(&lab.path(&format!("{folder}/{name}.pcapng")))))
        .collect();
    ways.insert("rules".to_owned(), of_rules.iter().map(|count| count.to_be_bytes().to_vec()).collect());
    ways
}

/// Any sequence of changes, by lines and by whole files, ends in the plan that a fresh start makes of the commands in force, and
/// packets go the same ways through both.
#[test]
fn a_sequence_of_changes_ends_where_a_fresh_start_begins() {
    let seed = number_of("TAPLINE_RELOADS_SEED", 20_261_130);
    let lines = [
        "rule modify 10 class high",
        "rule modify 10 class normal",
        "rule disable 20",
        "rule enable 20",
        "filter modify f \"udp and ip[19] & 1 = 1\"",
        "filter modify f \"len >= 60\"",
        "rule create 70 from in match \"udp port 53\" sample 1/2 to z",
        "rule destroy 70",
        "tool create extra discard",
        "tool destroy extra",
        "set burst 16",
        "set burst 48",
        "tool modify keep queue 2048",
        "tool drain z",
        "tool enable z",
    ];
    for round in 0..3 {
        println!("seed {seed}, round {round}");
        let (mut draw, head) = (Draw(seed + round), "set idle sleep\n");
        let lab = Lab::new();
        let eal = EAL.replace("-m 256", "-m 1024");
        datagrams(&lab, "in.pcap", 1000);
        let late = datagrams(&lab, "late.pcap", 3000).len() as u64;
        let start = |file: &str| lab.serve(file, &eal, &[]);
        lab.write("test.pipe", drawn(&mut draw, head, 1) + SPARE_FOR_WIRES);
        let started = start("test.pipe");
        let mut client = Client::of(&lab.path("control.sock"));
        let mut done = 0;
        for step in 0..30 {
            if step % 5 == 4 {
                reload(&mut client, &lab, &drawn(&mut draw, head, 1));
                continue;
            }
            // some are refused, as `rule destroy 70` where there is none
            let answer = client.run(draw.one(&lines));
            done += usize::from(answer["result"].is_object());
        }
        assert!(done > 8, "{done}");
        std::fs::create_dir(lab.path("lived")).expect("a folder");
        std::fs::create_dir(lab.path("fresh")).expect("a folder");
        lab.write("late.pipe", LATE.replace("@/", "lived/"));
        client.call("run", &json!({ "line": "include late.pipe" }));
        let plan = client.plan();
        let lived = ways_of(&lab, &mut client, started, late, "lived");

        let text = plan["text"].as_str().expect("a text");
        lab.write("fresh.pipe", text.replace("lived/", "fresh/"));
        std::fs::remove_file(lab.path("stats.json")).expect("statistics");
        let started = start("fresh.pipe");
        let mut client = Client::of(&lab.path("control.sock"));
        assert_eq!(
            client.plan()["text"].as_str().map(|text| text.replace("fresh/", "lived/")).as_deref(),
            Some(text)
        );
        let fresh = ways_of(&lab, &mut client, started, late, "fresh");
        assert!(lived["o1"].len() + lived["o2"].len() > 1000);
        for (name, packets) in &fresh {
            assert_same(name, &lived[name], packets);
        }
    }
}
