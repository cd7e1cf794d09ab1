//! Lcores that are held up by a device: the watchdog names them, the others go on, and what found no room is counted.

use std::io::Read;
use std::process::Command;

use tapline_harness::bench::{Bench, dropped, flows};
use tapline_harness::links::Pair;

/// Lcores that share CPU 0.
const LCORES: &str = "set eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\nset idle sleep\n";

fn make_fifo(bench: &Bench) -> std::path::PathBuf {
    let fifo = bench.path("out.fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    fifo
}

/// Opens a pipe for reading; what comes is read once `go` is told to.
fn reader(fifo: std::path::PathBuf) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<usize>) {
    let (go, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut pipe = std::fs::File::open(fifo).expect("the broker writes the pipe");
        let _ = wait.recv();
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe")
    });
    (go, thread)
}

#[test]
fn a_transmit_lcore_that_hangs_costs_its_own_tools_copies_alone() {
    let bench = Bench::new();
    flows(&bench);
    let fifo = make_fifo(&bench);
    let (go, thread) = reader(fifo);
    let mut prompt = bench.start(&format!(
        "{LCORES}set lcores receive 1 work 2-3 transmit 4
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach slow0 net_pcap1,tx_pcap=@/out.fifo rxq 0
        tool create slow port slow0 queue 256
        tool create other discard
        rule create 10 from src sample 1/97 to slow,other
        start"
    ));
    let stalled =
        prompt.wait("the transmit lcore hangs", |stats| stats["lcores"]["4"]["is_stalled"] == true);
    assert!(
        ["egress", "flush"].contains(&stalled["lcores"]["4"]["stage"].as_str().unwrap_or("")),
        "{stalled}"
    );
    let other = stalled["tools"]["other"]["sent"].as_u64();
    prompt.wait("others go on", |stats| {
        stats["tools"]["other"]["sent"].as_u64() > other.map(|sent| sent + 10_000)
    });
    go.send(()).expect("a reader");
    prompt.wait("it goes on", |stats| stats["lcores"]["4"]["is_stalled"] == false);
    let run = prompt.quit();
    assert!(thread.join().expect("a reader") > 0);
    assert!(run.stderr.contains("lcore 4: the worker has been in stage"), "{}", run.stderr);
    assert!(run.stderr.contains("lcore 4: the worker goes on after"), "{}", run.stderr);
    assert!(dropped(&run, "slow", "congested") > 0);
    assert_eq!(run.number("packets/failed"), 0);
    assert_eq!(run.number("tools/other/sent"), run.number("tools/slow/requested"));
}

#[test]
fn packets_of_a_work_lcore_that_hangs_are_counted_and_others_are_not_held_up() {
    let Some(pair) = Pair::apart('w') else { return };
    let (sender, bench) = (Bench::inside(&pair.near), Bench::inside(&pair.far));
    flows(&sender);
    let (go, thread) = reader(make_fifo(&bench));
    // lcore 2 owns the only transmit queue to the pipe
    let mut prompt = bench.start(&format!(
        "{LCORES}set lcores receive 1 work 2-3
        port attach in0 net_af_packet0,iface=far txq 0
        port attach slow0 net_pcap1,tx_pcap=@/out.fifo rxq 0
        tool create slow port slow0 queue 256
        tool create other discard
        rule create 10 from in0 to slow,other
        start"
    ));
    let mut sending = sender.start(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach out0 net_af_packet0,iface=near rxq 0
        tool create out port out0
        rule create 10 from src sample 1/97 to out
        start",
    );
    sending.wait("packets leave", |stats| stats["tools"]["out"]["sent"].as_u64() > Some(0));
    prompt.wait("the work lcore hangs and its ring is full", |stats| {
        stats["lcores"]["2"]["is_stalled"] == true && stats["ports"]["in0"]["congested"].as_u64() > Some(0)
    });
    let now = prompt.wait("the next snapshot", |_| true);
    let other = now["lcores"]["3"]["from_rings"].as_u64();
    prompt.wait("the other lcore goes on", |stats| {
        stats["lcores"]["3"]["from_rings"].as_u64() > other.map(|packets| packets + 1000)
    });
    go.send(()).expect("a reader");
    prompt.wait("it goes on", |stats| stats["lcores"]["2"]["is_stalled"] == false);
    sending.quit();
    let run = prompt.quit();
    assert!(thread.join().expect("a reader") > 0);
    assert!(run.stderr.contains("lcore 2: the worker has been in stage"), "{}", run.stderr);
    let failed = run.number("packets/failed");
    assert_eq!(
        failed,
        run.number("ports/in0/congested"),
        "what found no room in the ring, and nothing else"
    );
    let judged = run.number("lcores/2/from_rings") + run.number("lcores/3/from_rings");
    assert_eq!(run.number("packets/received"), judged + failed);
    assert_eq!(run.number("tools/other/sent"), judged);
}

#[test]
fn what_waits_for_a_work_lcore_when_the_drain_ends_is_counted() {
    let bench = Bench::new();
    flows(&bench);
    let (go, thread) = reader(make_fifo(&bench));
    let mut prompt = bench.start(&format!(
        "{LCORES}set lcores receive 1 work 2
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach slow0 net_pcap1,tx_pcap=@/out.fifo rxq 0
        tool create slow port slow0 queue 256
        rule create 10 from src to slow
        start"
    ));
    let stalled = prompt.wait("the work lcore hangs", |stats| stats["lcores"]["2"]["is_stalled"] == true);
    assert!(
        stalled["packets"]["received"].as_u64() > stalled["packets"]["delivered"].as_u64(),
        "the ring is full: {stalled}"
    );
    // the drain takes two seconds and five more are left to return: the pipe is read in between
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(4));
        go.send(()).expect("a reader");
    });
    let run = prompt.quit();
    late.join().expect("a thread");
    assert!(thread.join().expect("a reader") > 0);
    let failed = run.number("packets/failed");
    assert_eq!(failed, run.number("ports/src/congested"));
    assert!(failed > 500, "the ring held 1023, less what its lcore took once it could: {failed}");
    assert_eq!(run.number("packets/received"), run.number("lcores/2/from_rings") + failed);
}
