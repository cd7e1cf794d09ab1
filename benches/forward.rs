//! Forwarding and replication on net_null beside testpmd's io mode: the same devices, one worker lcore, pairs in turn.
//!
//! `cargo bench --bench forward`. Prints rates, ns and the ratio Tapline / testpmd of each pair, and the median.

#[path = "support.rs"]
mod support;

use support::{has_testpmd, median, pairs, tapline, testpmd};

fn main() {
    if !has_testpmd() {
        println!("skipped: dpdk-testpmd is missing; install the package dpdk-dev");
        return;
    }
    for burst in [32, 64] {
        forward(burst);
    }
    for tools in [1, 2, 4, 8] {
        replicate(tools);
    }
}

/// Two ports, each to the other, as testpmd does it by itself.
fn forward(burst: usize) {
    let pipeline = format!(
        "set burst {burst}\n\
         port attach a net_null0\nport attach b net_null1\n\
         tool create to-a port a\ntool create to-b port b\n\
         rule create 10 from a to to-b\nrule create 20 from b to to-a\nstart\n"
    );
    let mut ratios = Vec::new();
    for pair in 1..=pairs() {
        let peer = testpmd(&["net_null0", "net_null1"], burst);
        let ours = tapline(&pipeline).copies;
        ratios.push(ours / peer);
        println!(
            "forward burst {burst} pair {pair}: testpmd {peer:.1} Mpps, tapline {ours:.1} Mpps, ratio {:.3}",
            ours / peer
        );
    }
    println!("forward burst {burst}: median ratio {:.3} (target 0.95)\n", median(&mut ratios));
}

/// One port to `tools` ports; copies a second against testpmd's packets a second from one port to one.
fn replicate(tools: usize) {
    let mut pipeline = "set burst 32\nport attach src net_null0\n".to_owned();
    let mut names = Vec::new();
    for tool in 1..=tools {
        pipeline += &format!(
            "port attach p{tool} net_null{tool},no-rx=1 rxq 0\ntool create t{tool} port p{tool}\n"
        );
        names.push(format!("t{tool}"));
    }
    pipeline += &format!("rule create 10 from src to {}\nstart\n", names.join(","));
    let mut ratios = Vec::new();
    for pair in 1..=pairs() {
        let peer = testpmd(&["net_null0", "net_null1,no-rx=1"], 32);
        let rates = tapline(&pipeline);
        ratios.push(rates.copies / peer);
        println!(
            "replicate 1 to {tools} pair {pair}: testpmd io {peer:.1} Mpps, tapline {:.1} Mpps in, {:.1} M copies/s, {:.1} ns a packet, {:.2} ns a copy, ratio {:.3}",
            rates.packets,
            rates.copies,
            1e3 / rates.packets,
            1e3 / rates.copies,
            rates.copies / peer
        );
    }
    println!(
        "replicate 1 to {tools}: median ratio of copies/s to testpmd packets/s {:.3} (target 0.9)\n",
        median(&mut ratios)
    );
}
