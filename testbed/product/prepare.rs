//! What a change asks for and a running broker cannot give: for each kind of refusal, the plan is byte for byte what it was, and so
//! are ports, open files and threads.
//!
//! Needs: EAL.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tapline_harness::client::Client;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started, served};

use crate::reloads::held;

const PIPELINE: &str = "set idle sleep\nport attach in net_null0\nport attach out net_null1 rxq 0\n\
    port attach lone net_null2\ntool create t port out queue 64\ntool create d discard\n\
    tool create early capture early.pcapng queue 64\nrule create 10 from in sample 1/100 to t\n\
    rule create 11 from in limit 3 packets to early\n";

/// What is asked for, the code of the answer, and words of it.
const REFUSED: [(&str, i64, &str); 22] = [
    ("set workers 2", -32004, "needs a restart"),
    ("set mempool 8192", -32004, "needs a restart"),
    ("port config in rxd 512", -32002, "has to be taken down and set up again"),
    (
        "port attach x net_pcap5,tx_pcap=fifo rxq 0",
        -32002,
        "is a pipe, whose other end would be waited for",
    ),
    ("port detach lone\nport attach x net_null2", -32002, "detach that one in a change of its own"),
    (
        "rule destroy 11\ntool destroy early\ntool create x capture early.pcapng queue 64",
        -32002,
        "it would begin `early.pcapng` anew",
    ),
    // no device, driver, interface or capture
    ("port attach x net_nothing0", -32002, "port x: "),
    ("port attach x 0000:ff:1f.7", -32002, "port x: "),
    ("port attach x iface:no-such-if", -32002, "there is none of this name here"),
    ("port attach x replay:missing.pcap", -32002, "missing.pcap"),
    ("port attach x net_pcap5,rx_pcap=missing.pcap", -32002, "port x: "),
    // files that cannot be opened, as their folder takes none or is missing
    (
        "tool create x capture /proc/x.pcapng queue 64\nrule create 20 from in to x",
        -32002,
        "/proc/x.pcapng",
    ),
    ("port attach x net_pcap5,tx_pcap=/proc/x.pcap rxq 0", -32002, "/proc/x.pcap"),
    ("tool create x capture none/x.pcapng queue 64", -32002, "none"),
    ("port attach x net_memif0,role=server,socket=/proc/x.sock,socket-abstract=no", -32002, "port x: "),
    ("tool create x capture folder queue 64\nrule create 20 from in to x", -32001, "`folder` is a folder"),
    // a name that DPDK has already, and times that a NIC does not give
    ("port attach x net_ring9", -32002, "the device of `net_ring9` is attached already"),
    ("port attach x iface:lo,time=nic", -32002, "port x: interface lo: "),
    // mbufs and memory
    ("tool create x port lone queue 1M\nrule create 20 from in to x", -32002, "its mempool has room for"),
    ("port attach x net_null9 rxq 1000", -32002, "give EAL more memory, as by -m"),
    (
        "set flows 1G\nrule create 20 from in sample first 5 packets per flow to d",
        -32002,
        "lower `set flows`",
    ),
    // one of several that cannot be had takes the others back
    (
        "port attach x net_ring0\nport attach y net_null9\ntool create x-out port x queue 64\n\
         tool create f capture f.pcapng queue 64\nrule create 20 from in to x-out,f\nport attach z iface:no-such-if",
        -32002,
        "there is none of this name here",
    ),
];

/// What must be as it was: the plan as the broker writes it, the ports with their devices, threads and files.
fn state(client: &mut Client, started: &Started) -> (String, Vec<String>, Vec<usize>) {
    let ports = client.call("get", &json!({ "what": "ports" }));
    let shown = client.run("show ports")["result"]["result"].as_str().expect("a table").to_owned();
    let first_words = shown.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    let mut names: Vec<String> = ports.as_object().expect("ports").keys().cloned().collect();
    names.extend(first_words);
    (client.plan().to_string(), names, held(started)[1..].to_vec())
}

/// Waits until the broker is as it was: threads that end do so in their own time.
fn assert_as_before(
    what: &str,
    before: &(String, Vec<String>, Vec<usize>),
    client: &mut Client,
    started: &Started,
) {
    let begun = Instant::now();
    loop {
        let after = state(client, started);
        assert_eq!((&after.0, &after.1), (&before.0, &before.1), "{what}");
        if after.2 == before.2 {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "threads, files {:?}, {:?}: {what}",
            before.2,
            after.2
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn files(lab: &Lab) -> Vec<String> {
    let entries = std::fs::read_dir(lab.path("")).expect("the lab's folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Has each of the changes refused by a broker of its own.
fn assert_refused(settings: &str, all: &[(&str, i64, &str)]) {
    let lab = Lab::new();
    assert!(Command::new("mkfifo").arg(lab.path("fifo")).status().expect("mkfifo(1)").success());
    std::fs::create_dir(lab.path("folder")).expect("a folder");
    lab.write("test.pipe", format!("{settings}{PIPELINE}start\n"));
    let eal = EAL.replace("-m 256", "-m 512 --vdev net_ring9");
    let started = lab.start(&mut lab.tapline(&served("test.pipe", &eal)));
    lab.until("packets", |line| number(line, "tools/early/sent") == 3);
    let mut client = Client::of(&lab.path("control.sock"));
    // what is kept for all that follow is there after the first try
    client.run(all[0].0);
    let (before, names) = (state(&mut client, &started), files(&lab));
    let mut wrong = Vec::new();
    for (lines, code, words) in all {
        let answer = client.run(lines);
        let error = &answer["error"];
        let text = error["data"]["text"].as_str().unwrap_or_default();
        if error["code"] != json!(code) || !text.contains(words) {
            wrong.push(format!("{lines}\n  {answer}"));
        }
        if answer["result"].is_object() {
            break;
        }
        assert_as_before(lines, &before, &mut client, &started);
        assert_eq!(files(&lab), names, "{lines}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // packets went on, and what can be had is had
    let then = number(&lab.until("statistics", |_| true), "packets/received");
    lab.until("packets", |line| number(line, "packets/received") > then + 1000);
    let good = "port attach x net_ring0\ntool create x-out port x queue 64\ntool create f capture f.pcapng queue 64\n\
                rule create 20 from in limit 7 packets to x-out,f";
    let answer = client.run(good);
    assert!(answer["result"].is_object(), "{answer}");
    lab.until("copies", |line| ["x-out", "f"].iter().all(|tool| line["tools"][tool]["sent"] == 7));
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn each_kind_of_refusal_leaves_the_broker_as_it_was() {
    assert_refused("", &REFUSED);
}

#[test]
fn a_mempool_that_is_too_small_leaves_the_broker_as_it_was() {
    let too_small = "mempool of 4096 mbufs is too small";
    assert_refused("set mempool 4096\n", &[("port attach x net_null9 rxd 4096", -32002, too_small)]);
}
