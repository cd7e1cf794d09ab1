//! Rules that are changed while packets flow: none is lost, out of order, or judged by half of a plan, and what is refused
//! changes nothing.
//!
//! Needs: EAL.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{Account, EAL, Lab, Started, pcap_tools};
use tapline_harness::pcap_files::{packets, write_capture};

/// Lcores 1 to 4 beside the main one, on whatever CPUs there are.
pub(crate) const LCORES: &str = "set eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\nset idle sleep\n";

/// A pipeline at whose prompt commands are typed.
pub(crate) struct Prompt<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) started: Started,
    input: ChildStdin,
}

impl<'a> Prompt<'a> {
    pub(crate) fn open(lab: &'a Lab, pipeline: &str, flags: &[&str]) -> Self {
        Self::open_with(lab, pipeline, flags, |_| ())
    }

    /// As [`open`](Self::open), with what `prepare` says of the command.
    pub(crate) fn open_with(
        lab: &'a Lab,
        pipeline: &str,
        flags: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        lab.write("test.pipe", pipeline);
        let mut command = lab.tapline(&["run", "test.pipe", "--interactive", "--stats", "stats.json"]);
        if !flags.contains(&"--eal") {
            command.args(["--eal", EAL]);
        }
        if !flags.contains(&"--interval") {
            command.args(["--interval", "20ms"]);
        }
        prepare(&mut command);
        let mut started = lab.start(command.args(flags).stdin(Stdio::piped()));
        let input = started.child.stdin.take().expect("a pipe");
        Self { lab, started, input }
    }

    pub(crate) fn say(&mut self, lines: &str) {
        writeln!(self.input, "{lines}").expect("the program reads");
    }

    /// Waits until it writes statistics, or has ended. Returns whether it runs.
    pub(crate) fn begins(&mut self) -> bool {
        loop {
            if self.started.child.try_wait().expect("a child of this process").is_some() {
                return false;
            }
            if self.lab.path("stats.json").metadata().is_ok_and(|file| file.len() > 0) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until one of two things was printed. Returns whether it was the first.
    pub(crate) fn hears_one_of(&self, first: &str, second: &str) -> bool {
        let begun = Instant::now();
        loop {
            let printed = self.lab.printed("stderr");
            if printed.contains(first) || printed.contains(second) {
                return printed.contains(first);
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "neither {first:?} nor {second:?}: {printed}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until this was printed so many times.
    pub(crate) fn hear(&self, words: &str, times: usize) {
        let begun = Instant::now();
        while self.lab.printed("stderr").matches(words).count() < times {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{words:?} is not printed, but\n{}",
                self.lab.printed("stderr")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many packets were received.
    pub(crate) fn wait_for(&self, packets: usize) {
        self.lab.until("packets", |stats| number(stats, "packets/received") >= packets as u64);
    }

    pub(crate) fn wait_for_packets(&self) {
        self.wait_for(1);
    }

    /// The account at the end of the script.
    pub(crate) fn end(self) -> Account {
        self.end_with(0)
    }

    /// The account at the end of a script that had a line which makes the exit status `status`.
    pub(crate) fn end_with(self, status: i32) -> Account {
        drop(self.input);
        self.lab.end(self.started).scripted(status)
    }
}

pub(crate) const CHANGED: &str = "plan changed";

/// UDP datagrams of 97 flows, numbered, in `in.pcap`.
pub(crate) fn datagrams(lab: &Lab, name: &str, count: u32) -> Vec<Vec<u8>> {
    let datagram = |index: u32| {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        bytes.extend([
            0x45,
            0,
            0,
            46,
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            198,
            18,
            0,
            (index % 97) as u8,
            198,
            19,
            0,
            1,
        ]);
        bytes.extend([0x30, 0x39, 0, 53, 0, 26, 0, 0]);
        bytes.extend(index.to_be_bytes());
        bytes.resize(60, 0x5a);
        bytes
    };
    let packets: Vec<Vec<u8>> = (0..count).map(datagram).collect();
    write_capture(&lab.path(name), packets.iter().map(|bytes| (bytes.as_slice(), bytes.len() as u32)));
    packets
}

/// Changes between two plans under full load: what one sends to x it sends to y, the other sends all to z.
fn change_under_load(head: &str, [both, other]: [&str; 2], changes: usize) -> Account {
    let lab = Lab::new();
    let pipeline = format!(
        "{head}port attach in net_null0\ntool create x discard\ntool create y discard\ntool create z discard\nrule create 10 from in {both}\nstart\n"
    );
    let mut prompt = Prompt::open(&lab, &pipeline, &[]);
    prompt.wait_for_packets();
    for index in 0..changes {
        prompt.say(&format!("rule modify 10 {}", if index % 2 == 0 { other } else { both }));
    }
    prompt.hear(CHANGED, changes);
    prompt.say("quit");
    let account = prompt.end();
    let received = account.number("packets/received");
    let [x, y, z] = ["x", "y", "z"].map(|tool| account.number(&format!("tools/{tool}/sent")));
    assert_eq!(x, y, "a packet was judged by half of a plan");
    assert_eq!((x + z, account.number("packets/delivered")), (received, received));
    assert_eq!(
        account.number("rules/10/matched"),
        received,
        "what the rule counted before is not forgotten"
    );
    assert!(x > 0 && z > 0, "{x} {z}");
    let counts = |path: &str| account.lines.iter().map(|line| number(line, path)).collect::<Vec<_>>();
    for path in ["rules/10/matched", "packets/received", "copies/sent"] {
        assert!(counts(path).is_sorted(), "{path} goes back: {:?}", counts(path));
    }
    account
}

#[test]
fn every_packet_is_judged_by_a_whole_plan_where_all_go_the_same_way() {
    change_under_load("", ["to x,y", "to z"], 300);
}

#[test]
fn every_packet_is_judged_by_a_whole_plan_where_filters_run_on_several_lcores() {
    let head = format!("{LCORES}set lcores 1-3\n");
    change_under_load(&head, ["match \"not tcp\" to x,y", "match \"not udp\" to z"], 100);
}

#[test]
fn every_packet_is_judged_by_a_whole_plan_where_stages_have_lcores_of_their_own() {
    let head = format!("{LCORES}set lcores receive 1 work 2-3 transmit 4\n");
    change_under_load(&head, ["match \"not tcp\" to x,y", "sample 1/1 to z"], 100);
}

/// What comes in leaves in its order, byte for byte, whichever of two rules takes it.
#[test]
fn order_is_kept_while_rules_are_changed() {
    let lab = Lab::new();
    let sent = datagrams(&lab, "in.pcap", 400_000);
    let pipeline = format!(
        "set mempool 32767\nport attach in net_pcap0,rx_pcap=in.pcap\n{}rule create 10 from in to out final\nrule create 20 from in match \"udp\" to out\nstart\n",
        pcap_tools(&["out"])
    );
    let mut prompt = Prompt::open(&lab, &pipeline, &[]);
    for index in 0..100 {
        prompt.say(if index % 2 == 0 { "rule disable 10" } else { "rule enable 10" });
    }
    prompt.hear(CHANGED, 100);
    prompt.wait_for(sent.len());
    let account = prompt.end();
    let [ten, twenty] = ["10", "20"].map(|rule| account.number(&format!("rules/{rule}/matched")));
    assert_eq!(ten + twenty, sent.len() as u64);
    assert_eq!(account.stderr.matches(CHANGED).count(), 100);
    println!("{ten} packets by one rule, {twenty} by the other");
    assert_same("out.pcap", &packets(&lab.path("out.pcap")), &sent);
}

/// Whether it has a bypass or not, and whether plans are accepted or refused.
#[test]
fn a_wire_forwards_in_order_while_rules_are_changed_and_refused() {
    for bypass in ["", " bypass"] {
        let lab = Lab::new();
        let sent = datagrams(&lab, "a.pcap", 200_000);
        let answers = datagrams(&lab, "b.pcap", 100_000);
        let pipeline = format!(
            "port attach a0 net_pcap0,rx_pcap=a.pcap,tx_pcap=to-a.pcap\nport attach b0 net_pcap1,rx_pcap=b.pcap,tx_pcap=to-b.pcap\n\
             tool create ids discard\nwire create w0 ports a0,b0{bypass}\nrule create 10 from w0 to ids\nstart\n"
        );
        let mut prompt = Prompt::open(&lab, &pipeline, &[]);
        for index in 0..40 {
            prompt.say(match index % 4 {
                0 => "rule modify 10 match \"udp\" to ids",
                1 => "rule create 20 from w0:a-to-b to nobody",
                2 => "rule modify 10 from w0:a-to-b to ids",
                _ => "set workers 2",
            });
        }
        prompt.hear("needs a restart", 10);
        prompt.wait_for(sent.len() + answers.len());
        let account = prompt.end_with(2);
        assert_eq!(account.stderr.matches(CHANGED).count(), 20, "{}", account.stderr);
        assert_eq!(account.stderr.matches("unknown tool `nobody`").count(), 10);
        assert_eq!(account.stderr.matches("setting workers is changed needs a restart").count(), 10);
        assert_same("a to b", &packets(&lab.path("to-b.pcap")), &sent);
        assert_same("b to a", &packets(&lab.path("to-a.pcap")), &answers);
    }
}

#[test]
fn an_include_is_taken_up_at_once_or_not_at_all() {
    let lab = Lab::new();
    lab.write("good.pipe", "filter create web \"tcp port 80\"\nrule destroy 10\nrule create 20 from in match web to b final\nrule create 30 from in to c\n");
    lab.write(
        "bad.pipe",
        "rule destroy 30\nrule create 40 from in to nobody\nrule create 50 from in to a\n",
    );
    lab.write("worse.pipe", "rule destroy 30\nrule create 40 from in match \"tcp prot 1\" to a\n");
    lab.write("mixed.pipe", "rule destroy 30\nshow rules\nset workers 2\n");
    let pipeline = "port attach in net_null0\ntool create a discard\ntool create b discard\ntool create c discard\nrule create 10 from in to a\nstart\n";
    let mut prompt = Prompt::open(&lab, pipeline, &[]);
    prompt.wait_for_packets();
    prompt.say("include good.pipe\ninclude bad.pipe\ninclude worse.pipe\ninclude mixed.pipe\ninclude none.pipe\nshow plan");
    prompt.hear("cannot read", 1);
    // the plan that was accepted is the one that counts
    let rule =
        lab.until("packets of the rule", |stats| stats["rules"]["30"]["matched"].as_u64() > Some(1000));
    assert_eq!(rule["rules"].as_object().expect("rules").keys().collect::<Vec<_>>(), ["20", "30"]);
    prompt.say("quit");
    let account = prompt.end_with(2);
    for message in [
        "bad.pipe:2:27: error: unknown tool `nobody`",
        "worse.pipe:2:30: error: this expression is not a filter",
        "mixed.pipe:2:1: error: `show rules` cannot stand in a change of the plan",
        "the plan stays as it is",
    ] {
        assert!(account.stderr.contains(message), "{message}\n{}", account.stderr);
    }
    assert_eq!(account.stderr.matches(CHANGED).count(), 1, "{}", account.stderr);
    assert!(
        account.stdout.contains("rule 20 from in match web to b final\nrule 30 from in to c\n"),
        "{}",
        account.stdout
    );
}

#[test]
fn what_was_not_set_up_at_the_start_is_refused() {
    let lab = Lab::new();
    let pipeline = format!(
        "{LCORES}set lcores receive 1 work 2-3\nport attach in net_null0\nport attach up net_null1\ntool create t port up\ntool create c discard\nrule create 10 from in to t\nstart\n"
    );
    let mut prompt = Prompt::open(&lab, &pipeline, &[]);
    prompt.wait_for_packets();
    prompt.say("rule create 20 from up to c");
    prompt.hear("rule 20 takes from port `up`, which was started without mbufs", 1);
    prompt.say("rule create 20 from in sample flow 1/2 hash symmetric inner to c");
    prompt.hear("the receive lcores spread packets by the tunnels", 1);
    for (command, refusal) in [
        ("set mempool 9000", "setting mempool is changed needs a restart"),
        ("port config in mtu 1000", "port in is changed (mtu), for which port in has to be taken down"),
        (
            "rule modify 10 to c\ntool destroy t\nport detach up\nport attach more net_null1",
            "port more: its device `net_null1` is that of port up, which runs",
        ),
        (
            "rule modify 10 to c\ntool destroy t\nwire create w ports in,up",
            "wire w is added, for which port in has to be taken down",
        ),
    ] {
        prompt.lab.write("change.pipe", command);
        prompt.say("include change.pipe");
        prompt.hear(refusal, 1);
    }
    prompt.say("rule create 20 from in sample flow 1/2 to c");
    prompt.hear(CHANGED, 1);
    prompt.say("quit");
    assert_eq!(prompt.end_with(1).last()["rules"].as_object().expect("rules").len(), 2);
}

/// Copies, classes, schedules and limits that the file's rules have none of.
#[test]
fn rules_bring_edits_classes_and_limits_to_a_running_plan() {
    let lab = Lab::new();
    let pipeline = format!("port attach in net_null0 txq 0\n{}start\n", pcap_tools(&["cut", "some"]));
    let mut prompt = Prompt::open(&lab, &pipeline, &[]);
    prompt.wait_for_packets();
    prompt.say(
        "rule create 10 from in slice 32 limit 2000 packets to cut class high\nrule create 20 from in limit 500 packets to some",
    );
    prompt.hear(CHANGED, 2);
    lab.until("the limits", |stats| {
        number(stats, "tools/cut/sent") == 2000 && number(stats, "tools/some/sent") == 500
    });
    prompt.say("quit");
    let account = prompt.end();
    assert_eq!((account.number("tools/cut/sent"), account.number("tools/some/sent")), (2000, 500));
    let (cut, some) = (packets(&lab.path("cut.pcap")), packets(&lab.path("some.pcap")));
    assert_eq!((cut.len(), some.len()), (2000, 500));
    assert!(
        cut.iter().all(|packet| **packet == some[0][..32]),
        "the first 32 bytes of what net_null makes"
    );
}

#[test]
fn rules_go_on_with_what_they_remember() {
    let lab = Lab::new();
    let pipeline = "port attach in net_null0\ntool create a discard\ntool create b discard\ntool create c discard\n\
                    rule create 10 from in sample 1/10 to a\nrule create 20 from in limit 1000000 packets to b\nstart\n";
    let mut prompt = Prompt::open(&lab, pipeline, &[]);
    prompt.wait_for_packets();
    for index in 0..100 {
        prompt.say(&format!(
            "rule {} 15 {}",
            if index % 2 == 0 { "create" } else { "destroy" },
            if index % 2 == 0 { "from in to c" } else { "" }
        ));
    }
    prompt.hear(CHANGED, 100);
    lab.until("the limit", |stats| number(stats, "rules/20/matched") == 1_000_000);
    prompt.say("rule modify 20 limit 7 packets");
    lab.until("the other limit", |stats| number(stats, "rules/20/matched") == 1_000_007);
    prompt.say("rule destroy 20\nrule create 20 from in to b");
    prompt.hear(CHANGED, 103);
    prompt.say("quit");
    let account = prompt.end();
    let received = account.number("packets/received");
    assert_eq!(account.number("rules/10/matched"), received);
    assert_eq!(
        account.number("tools/a/sent"),
        received.div_ceil(10),
        "one in ten, counted on over all changes"
    );
    assert!(
        account.number("rules/20/matched") + 1_000_007 <= account.number("tools/b/sent"),
        "one that was gone begins again"
    );
    assert_eq!(account.number("rules/20/matched") + 1_000_007, account.number("tools/b/sent"));
}

#[test]
fn ten_thousand_rules_are_changed_beside_one_that_goes_on() {
    let lab = Lab::new();
    let rules = |first: u32| {
        (0..10_000).fold(String::new(), |mut text, index| {
            let (net, port) = (index / 250, index % 250 + first);
            writeln!(
                text,
                "rule create {} from in match \"src net 10.{}.{}.0/24 and udp dst port {port}\" to many",
                100 + index,
                net / 200,
                net % 200
            )
            .expect("text");
            text
        })
    };
    let gone: String = (0..10_000).map(|index| format!("rule destroy {}\n", 100 + index)).collect();
    lab.write("one.pipe", rules(1000));
    lab.write("two.pipe", format!("rule destroy all\nrule create 10 from in to plain\n{}", rules(3000)));
    lab.write("none.pipe", gone);
    let pipeline = "port attach in net_null0\ntool create plain discard\ntool create many discard\nrule create 10 from in to plain\nstart\n";
    // a line of statistics has all rules
    let mut prompt = Prompt::open(&lab, pipeline, &["--interval", "2s"]);
    for (index, file) in ["one", "two", "two", "none"].into_iter().enumerate() {
        prompt.say(&format!("include {file}.pipe"));
        prompt.hear(CHANGED, index + 1);
    }
    prompt.say("quit");
    let account = prompt.end();
    account.stderr.lines().filter(|line| line.contains(CHANGED)).for_each(|line| println!("{line}"));
    assert_eq!(account.number("rules/10/matched"), account.number("packets/received"));
    assert_eq!(account.number("tools/plain/sent"), account.number("packets/received"));
    assert_eq!(account.stderr.matches("plan changed: 10001 rules").count(), 3);
    assert_eq!(account.last()["rules"].as_object().expect("rules").len(), 1);
}
