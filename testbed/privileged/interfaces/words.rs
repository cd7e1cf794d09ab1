use std::process::Command;

use super::long_pair;
use tapline_harness::bench::{Bench, check};
use tapline_harness::programs::has_program;

#[test]
fn the_name_of_an_interface_is_answered_with_the_line_that_attaches_it() {
    let (status, said) = check("port attach a lo\ntool create t discard\nrule create 1 from a to t\n");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("`lo` is an interface of the kernel, and no device of DPDK's"), "{said}");
    assert!(said.contains("port attach a iface:lo"), "{said}");
}

#[test]
fn interfaces_that_are_not_there_are_told_before_and_at_the_start() {
    let pipeline = "port attach a iface:no-such-if\ntool create t discard\nrule create 1 from a to t\n";
    let (status, said) = check(pipeline);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("there is no interface `no-such-if` here"), "{said}");
    let bench = Bench::new();
    let output = bench.command(pipeline, &["--duration", "100ms"]).output().expect("the program starts");
    let said = bench.ended(&output).failed(1);
    assert!(said.contains("port a: interface no-such-if: there is none of this name here"), "{said}");
    let (_, said) = check(&pipeline.replace("no-such-if", "loo"));
    assert!(said.contains("did you mean `lo`?"), "{said}");
}

#[test]
fn a_program_without_the_right_is_told_which_it_lacks() {
    if !has_program("setpriv") {
        return tapline_skip::skipped("setpriv is missing");
    }
    for (device, said_of) in [("iface:lo", "CAP_NET_RAW"), ("net_af_packet0,iface=lo", "CAP_NET_RAW")] {
        let bench = Bench::new();
        let pipeline =
            format!("port attach a {device}\ntool create t discard\nrule create 1 from a to t\n");
        let command = bench.command(&pipeline, &["--duration", "100ms"]);
        let mut less = Command::new("setpriv");
        less.args(["--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-net_raw,-net_admin"])
            .arg(command.get_program())
            .args(command.get_args());
        let output = less.output().expect("setpriv runs");
        let said = bench.ended(&output).failed(1);
        assert!(said.contains(said_of), "{device}: {said}");
    }
}

#[test]
fn an_interface_that_two_ports_have_or_that_brings_back_what_is_sent_is_told() {
    let tool = "tool create t port out\nrule create 10 from in to t\n";
    for (ports, said_of) in [
        (
            "port attach in net_pcap0,rx_iface=lo,tx_iface=lo\nport attach out net_null0 rxq 0\n\
             tool create u port in\nrule create 20 from in to u\n",
            Some("port `in` receives what it sends by interface `lo`"),
        ),
        (
            "port attach in net_pcap0,iface=lo\nport attach out net_pcap1,iface=lo rxq 0\n",
            Some("port `in` receives what port `out` sends by interface `lo`"),
        ),
        (
            "port attach in iface:lo,outgoing=on\nport attach out net_pcap1,iface=lo rxq 0\n",
            Some("port `in` receives what port `out` sends by interface `lo`"),
        ),
        (
            "port attach in iface:lo\nport attach out net_pcap1,iface=lo rxq 0\n",
            Some("tool `t` sends back by interface `lo` what rules take from there"),
        ),
        (
            "port attach in iface:lo\nport attach other net_pcap1,iface=lo txq 0\nport attach out net_null0 rxq 0\n\
             rule create 20 from other to t\n",
            Some("interface `lo` is port `in` already"),
        ),
        ("port attach in iface:lo\nport attach out net_null0 rxq 0\n", None),
    ] {
        let (status, said) = check(&format!("{ports}{tool}"));
        assert_eq!(status, Some(0), "{said}");
        match said_of {
            Some(said_of) => assert!(said.contains(said_of), "{ports}: {said}"),
            None => assert!(!said.contains("interface `lo`"), "{said}"),
        }
    }
    let (status, said) = check(
        "port attach a iface:lo\nport attach b iface:lo,queues=2\ntool create t discard\nrule create 1 from a,b to t\n",
    );
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("device `iface:lo` is attached already as port `a`"), "{said}");
}

#[test]
fn net_af_packet_is_warned_of_with_what_it_changes() {
    let Some(pair) = long_pair('a') else { return };
    let bench = Bench::inside(&pair.far);
    let run = bench.run(
        "port attach in net_af_packet0,iface=far txq 0\ntool create t discard\nrule create 1 from in to t",
        &["--duration", "100ms"],
    );
    let said_of = "port in: net_af_packet joins IP fragments and loses those that lack others";
    assert_eq!(run.stderr.matches(said_of).count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("attach iface:far"), "{}", run.stderr);
}
