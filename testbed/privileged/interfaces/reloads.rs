//! Whole files take each other's place beside traffic that the kernel brings: nothing is lost that is not lost without them.

use std::fmt::Write as _;
use std::time::Duration;

use super::{inside, long_pair, seen, wait_until};
use serde_json::json;
use tapline_harness::bench::Bench;
use tapline_harness::client::Client;
use tapline_harness::frames::numbered;
use tapline_harness::judges::assert_same;
use tapline_harness::lab::Account;
use tapline_harness::links::Pair;
use tapline_harness::spans::number_of;

/// Packets a second: what a machine that does other work carries, too.
const RATE: u32 = 4000;

/// The port and the tool that each file has.
const FIXED: &str = "set idle sleep\nport attach span0 iface:far\ntool create rec capture @/got.pcap queue 4096\n\
                     tool create d discard\nrule create 10 from span0 to rec\n";

/// A file with what each has, and ports, tools, groups and rules by a seed.
fn drawn(seed: &mut u64) -> String {
    let mut below = |bound: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % bound
    };
    let mut text = FIXED.to_owned();
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a string");
    line(format_args!("set burst {}", 16 << below(3)));
    if below(2) == 0 {
        let device = ["net_null", "net_ring"][below(2) as usize];
        line(format_args!(
            "port attach other {device}{} txd 64\ntool create o port other queue 64",
            1 + below(2)
        ));
        line(format_args!("rule create 20 from span0 sample 1/{} slice 60 to o", 2 + below(9)));
    }
    if below(2) == 0 {
        line(format_args!("tool create e discard\ngroup create g tools d,e weights {},1", 1 + below(3)));
        line(format_args!("rule create 30 from span0 match \"udp\" dedup window 5ms to g"));
    }
    for rule in 0..below(4) {
        let clause = ["class high", "sample flow 1/2", "match \"len > 90\"", "vlan 7"][below(4) as usize];
        line(format_args!("rule create 4{rule} from span0 {clause} to d"));
    }
    text
}

/// Receives `passes` times the capture, sent at a modest rate, while so many files take each other's place; the account, and how many did.
fn received(bench: &Bench, pair: &Pair, passes: usize, reloads: u64) -> (Account, u64) {
    let folder = bench.path("").to_str().expect("a plain name").to_owned();
    let socket = bench.path("control.sock");
    let _ = std::fs::remove_file(bench.path("stats.json"));
    let flags = ["--control", socket.to_str().expect("a plain name"), "--interval", "20ms"];
    let spare = "port attach spare net_null0 rxq 0\ntool create s port spare queue 1024\n";
    let child =
        bench.command(&format!("{FIXED}{spare}start\n"), &flags).spawn().expect("the program starts");
    let mut client = Client::of(&socket);
    let mut ports = || client.call("get", &json!({ "what": "ports" }));
    wait_until("it runs", || ports()["span0"]["link_up"] == true);
    let line =
        format!("tcpreplay --pps {RATE} --loop {passes} -i near {}", bench.path("sent.pcap").display());
    let (near, sends) = (pair.near.clone(), std::sync::mpsc::channel());
    let sender = std::thread::spawn(move || {
        let said = inside(&near, &line);
        sends.0.send(()).expect("the test waits");
        said
    });
    let (mut seed, mut done) = (number_of("TAPLINE_RELOADS_SEED", 20_261_130), 0);
    println!("seed {seed}");
    for _ in 0..reloads {
        let text = drawn(&mut seed).replace("@/", &folder);
        std::fs::write(bench.path("next.pipe"), &text).expect("a writable folder");
        let mut answer =
            client.answer("reload", &json!({ "file": bench.path("next.pipe"), "interrupt": true }));
        let receipt = answer["result"].take();
        assert!(receipt.is_object(), "{answer}\n{text}");
        assert!(receipt["balanced"] == true && receipt["lost"]["by_tool"]["rec"] == 0, "{receipt}");
        done += u64::from(sends.1.try_recv().is_err());
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = sender.join().expect("tcpreplay ends");
    assert!(said.contains(&format!("Successful packets:        {}", passes * 500)), "{said}");
    let all = (passes * 500) as u64;
    let mut stats = || json!({ "ports": client.call("get", &json!({ "what": "ports" })) });
    wait_until("all are accounted for", || seen(&stats(), "span0") >= Some(all));
    client.run("quit");
    (bench.finish(child.wait_with_output().expect("the program ends")), done)
}

#[test]
fn reloads_of_whole_files_lose_nothing_that_is_not_lost_without_them() {
    let Some(pair) = long_pair('w') else { return };
    let bench = Bench::inside(&pair.far);
    let once = numbered(500, 100, &[7, 8, 9]);
    assert_eq!(once.len(), 500);
    bench.write("sent.pcap", &once);
    let reloads = number_of("TAPLINE_RELOADS", 20);
    // four times as long as the reloads take where nothing else is to be done
    let passes = (reloads as usize * RATE as usize / 500 / 2).max(8);
    let sent: Vec<Vec<u8>> = (0..passes).flat_map(|_| once.iter().cloned()).collect();
    let missed = |account: &Account| {
        let (received, missed) =
            (account.number("ports/span0/received"), account.number("ports/span0/driver/missed"));
        assert_eq!(received + missed, sent.len() as u64);
        assert_eq!(account.number("tools/rec/sent"), received, "each packet that came is recorded");
        missed
    };
    let (control, _) = received(&bench, &pair, passes, 0);
    let missed_without = missed(&control);
    let (account, beside) = received(&bench, &pair, passes, reloads);
    let missed_with = missed(&account);
    println!(
        "{} packets: {missed_without} missed without reloads, {missed_with} with {reloads}, {beside} of them beside traffic",
        sent.len()
    );
    assert!(beside > reloads / 2, "{beside} of {reloads} reloads were beside traffic");
    if missed_without == 0 {
        assert_eq!(missed_with, 0);
        assert_same("what was recorded", &bench.read("got.pcap"), &sent);
    }
}
