use std::process::{Command, Stdio};

use super::{long_pair, replay, seen, set_offloads, wait_until};
use tapline_harness::bench::{Bench, flows};
use tapline_harness::frames::numbered;
use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::EAL;
use tapline_harness::links::{Pair, counted, ip};

/// Makes the two interfaces of a pair again that were deleted.
fn make_again(pair: &Pair) {
    let made = format!("-n {} link add near mtu 65535 type veth peer name far mtu 65535", pair.far);
    assert!(ip(&made), "veth interfaces are made again");
    pair.set_up();
    set_offloads(pair, "tso off gso off gro off tx off");
}

/// Frames that come before an interface goes and after it came back are in the file, each once, in order; while tcpreplay sends it goes
/// a second time, and the account holds. One that comes back down is not gone, and has no link.
#[test]
fn an_interface_that_is_deleted_and_made_again_is_taken_back() {
    for queues in ["", ",queues=2"] {
        let Some(pair) = long_pair('g') else { return };
        let bench = Bench::inside(&pair.far);
        let sent = numbered(500, 300, &[7, 8, 9]);
        bench.write("sent.pcap", &sent);
        let mut prompt = bench.start(&format!(
            "set idle sleep
            port attach span0 iface:far{queues}
            tool create rec capture @/got.pcap queue 4096
            rule create 10 from span0 to rec
            start"
        ));
        prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
        for round in 1..=2 {
            let count = replay(&pair.near, "near", &bench.path("sent.pcap"), 1);
            assert_eq!(count, sent.len() as u64);
            prompt.wait("all came", |stats| seen(stats, "span0") == Some(round * count));
            pair.delete();
            let gone = prompt.wait("it is gone", |stats| stats["ports"]["span0"]["gone"] == true);
            assert_eq!(gone["ports"]["span0"]["link_up"], false);
            make_again(&pair);
            prompt.wait("it is back", |stats| {
                stats["ports"]["span0"]["gone"].is_null() && stats["ports"]["span0"]["link_up"] == true
            });
        }
        let line = format!("tcpreplay --pps 20000 --loop 0 -i near {}", bench.path("sent.pcap").display());
        let mut sender = Command::new("ip")
            .args(["netns", "exec", &pair.near])
            .args(line.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tcpreplay starts");
        let before = 2 * sent.len() as u64;
        prompt.wait("it sends", |stats| number(stats, "ports/span0/received") > before + 1000);
        pair.delete();
        prompt.wait("it is gone", |stats| stats["ports"]["span0"]["gone"] == true);
        let _ = sender.kill();
        let _ = sender.wait();
        make_again(&pair);
        prompt.wait("it is back", |stats| stats["ports"]["span0"]["link_up"] == true);
        let run = prompt.quit();
        assert_eq!(run.number("tools/rec/sent"), run.number("ports/span0/received"));
        let got = bench.read("got.pcap");
        assert_eq!(got.len() as u64, run.number("tools/rec/sent"));
        let twice = [&sent[..], &sent[..]].concat();
        assert_same(&format!("two rounds{queues}"), &got[..twice.len()], &twice);
        let raised = format!(
            "error: alarm raised: port span0: iface:far{queues} is gone; it is attached again once"
        );
        let lines = |begin: &str| run.stderr.lines().filter(|line| line.starts_with(begin)).count();
        assert_eq!(lines(&raised), 3, "{}", run.stderr);
        let cleared = format!("alarm cleared: port span0: iface:far{queues} is attached again");
        assert_eq!(run.stderr.matches(&cleared).count(), 3, "{}", run.stderr);
    }
}

/// The same where DPDK drives the interface: the port is closed and attached anew beside another that goes on.
#[test]
fn a_device_of_dpdk_is_attached_again_once_its_interface_is_back() {
    for device in ["net_af_packet0,iface=far", "net_pcap0,iface=far"] {
        let Some(pair) = long_pair('d') else { return };
        let bench = Bench::inside(&pair.far);
        let sent = numbered(500, 300, &[7, 8, 9]);
        bench.write("sent.pcap", &sent);
        flows(&bench);
        let mut prompt = bench.start(&format!(
            "set idle sleep
            port attach span0 {device}
            port attach other replay:@/in.pcap,speed=max,loop=forever
            tool create rec capture @/got.pcap queue 4096
            tool create t discard
            rule create 10 from span0 to rec
            rule create 20 from other sample 1/97 to t
            start"
        ));
        prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
        for round in 1..=4 {
            let count = replay(&pair.near, "near", &bench.path("sent.pcap"), 1);
            assert_eq!(count, sent.len() as u64);
            let came = prompt.wait("all came", |stats| seen(stats, "span0") == Some(round * count));
            if round == 4 {
                // alarms are looked at ten times a second
                let later = came["uptime_s"].as_f64().map(|seconds| seconds + 0.5);
                prompt.wait("a look at alarms", |stats| stats["uptime_s"].as_f64() > later);
                break;
            }
            pair.delete();
            let gone = prompt.wait("it is gone", |stats| stats["ports"]["span0"]["gone"] == true);
            assert_eq!(gone["ports"]["span0"]["link_up"], false);
            let others = number(&gone, "tools/t/sent");
            prompt.wait("the other goes on", |stats| number(stats, "tools/t/sent") > others + 1000);
            make_again(&pair);
            prompt.wait("it is back", |stats| {
                stats["ports"]["span0"]["gone"].is_null() && stats["ports"]["span0"]["link_up"] == true
            });
        }
        let run = prompt.quit();
        assert_eq!(run.number("ports/span0/driver/rx_packets"), 4 * sent.len() as u64);
        assert_eq!(run.number("ports/span0/driver/missed"), 0);
        assert_same(device, &bench.read("got.pcap"), &vec![sent; 4].concat());
        for (said, times) in [
            (format!("alarm raised: port span0: {device} is gone; it is attached again once"), 3),
            (format!("alarm cleared: port span0: {device} is attached again"), 3),
            ("port span0: gone -> up".to_owned(), 3),
            ("cannot be attached".to_owned(), 0),
        ] {
            assert_eq!(run.stderr.matches(&said).count(), times, "{said}: {}", run.stderr);
        }
    }
}

#[test]
fn tools_send_by_the_interface_that_came_back() {
    for queues in ["", ",queues=0"] {
        let Some(pair) = long_pair('b') else { return };
        let bench = Bench::inside(&pair.far);
        flows(&bench);
        let mut prompt = bench.start(&format!(
            "set idle sleep
            port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
            port attach up0 iface:far{queues}
            tool create up port up0 down-after 200ms up-after 10ms
            rule create 10 from src sample 1/997 to up
            start"
        ));
        for _ in 0..2 {
            prompt.wait_for_state("up", "up");
            wait_until("frames come", || counted(&pair, "near", "rx_packets") > 100);
            pair.delete();
            prompt.wait_for_state("up", "down");
            make_again(&pair);
        }
        prompt.wait_for_state("up", "up");
        let run = prompt.quit();
        assert_eq!(run.number("ports/up0/driver/tx_packets"), run.number("tools/up/sent"));
    }
}

/// How a run ends, with what it printed, whose interface `far` is deleted; `is_over` says whether it ends by that, and not by SIGTERM.
fn ended(letter: char, ports: &str, is_over: bool) -> Option<String> {
    let pair = Pair::new(letter)?;
    let bench = Bench::inside(&pair.far);
    let pipeline =
        format!("set idle sleep\n{ports}\ntool create t discard\nrule create 10 from any to t\n");
    let mut command = bench.command(&pipeline, &["--eal", EAL, "--interval", "50ms"]);
    let child = command.spawn().expect("the program starts");
    let id = child.id().to_string();
    wait_until("it runs", || bench.lines().iter().any(|line| line["ports"]["span0"]["link_up"] == true));
    pair.delete();
    if !is_over {
        wait_until("it is gone", || {
            bench.lines().iter().any(|line| line["ports"]["span0"]["gone"] == true)
        });
        let last = bench.lines().len();
        wait_until("it goes on", || bench.lines().len() > last + 20);
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().expect("kill(1)").success());
    }
    let output = child.wait_with_output().expect("a child");
    let run = bench.ended(&output);
    let said = run.stderr.clone();
    assert_eq!(said.contains("error: the run ends, since ports are gone: span0"), is_over, "{said}");
    assert!(said.contains("error: alarm raised: port span0: "), "{said}");
    run.scripted(i32::from(is_over));
    Some(said)
}

#[test]
fn gone_end_ends_the_run_whatever_else_there_is_and_gone_wait_does_not() {
    let also = "port attach also net_null0";
    if ended('e', &format!("port attach span0 iface:far gone end\n{also}"), true).is_none() {
        return;
    }
    ended('e', "port attach span0 iface:far", false);
    ended('e', "port attach span0 iface:far gone wait", false);
}

#[test]
fn a_run_ends_where_all_inputs_are_gone_for_good() {
    let span = "port attach span0 net_af_packet0,iface=far";
    let Some(said) = ended('o', span, true) else { return };
    assert!(
        said.contains("port span0: net_af_packet0,iface=far is gone, and is not attached again"),
        "{said}"
    );
    ended('o', &format!("{span}\nport attach also net_null0"), false);
    ended('o', &format!("{span}\nport attach also iface:lo"), false);
}

#[test]
fn a_port_that_is_gone_is_shown_so() {
    let Some(pair) = long_pair('s') else { return };
    let bench = Bench::inside(&pair.far);
    let mut prompt = bench.start(
        "set idle sleep
        port attach span0 iface:far
        tool create t discard
        rule create 10 from span0 to t
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
    pair.delete();
    prompt.wait("it is gone", |stats| stats["ports"]["span0"]["gone"] == true);
    prompt.say("show ports");
    let run = prompt.quit();
    let shown = |line: &str| line.split_whitespace().take(3).eq(["span0", "iface:far", "gone"]);
    assert!(run.stdout.lines().any(shown), "{}", run.stdout);
}
