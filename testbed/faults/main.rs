//! Devices and lcores that fail while packets flow, packets of odd sizes, and more ports than anyone has: every packet and every copy
//! is accounted for in the end, to the last one.
//!
//! Needs: EAL; veth pairs need root and ip(8). `soak` goes on for a minute, or for `TAPLINE_SOAK_SECONDS`.

#[path = "../tools/support.rs"]
#[allow(dead_code, reason = "this suite uses its own part of it")]
mod support;

mod devices;
mod lcores;
mod soak;

use std::process::Command;

use support::{Bench, Run, udp};

pub fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// Two kernel interfaces that are joined, and go with this value.
pub struct Pair {
    pub near: String,
    pub far: String,
}

impl Pair {
    /// `None`, after saying so, where none can be made.
    pub fn new(letter: char) -> Option<Self> {
        let name = format!("tf{}{letter}", std::process::id());
        let pair = Self { far: format!("{name}p"), near: name };
        if !ip(&format!("link add {} type veth peer name {}", pair.near, pair.far)) {
            println!("skipped: veth interfaces cannot be made (needs ip and CAP_NET_ADMIN)");
            std::mem::forget(pair);
            return None;
        }
        for name in [&pair.near, &pair.far] {
            // the kernel's own talk would come beside the test's packets
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
            assert!(ip(&format!("link set {name} up")), "{name} comes up");
        }
        Some(pair)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        ip(&format!("link delete {}", self.near));
    }
}

/// A thousand flows in `in.pcap`.
pub fn flows(bench: &Bench) {
    let packets: Vec<Vec<u8>> =
        (0..1000u16).map(|flow| udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64)).collect();
    bench.write("in.pcap", packets.iter().map(Vec::as_slice));
}

pub fn dropped(run: &Run, tool: &str, reason: &str) -> u64 {
    run.count(&format!("/tools/{tool}/dropped/{reason}"))
}
