//! Devices and lcores that fail while packets flow, packets of odd sizes, and more ports than anyone has: every packet and every
//! copy is accounted for in the end, to the last one.
//!
//! Needs: EAL; veth pairs need root and ip(8). `soak` goes on for a minute, or for `TAPLINE_SOAK_SECONDS`.

#[path = "../tools/support.rs"]
#[allow(dead_code, reason = "this suite uses its own part of it")]
mod support;

mod clocks;
mod devices;
mod lcores;
mod memif;
mod mtu;
mod panics;
mod sent;
mod soak;

use std::process::Command;

use serde_json::Value;
use support::{Bench, Prompt, Run, udp};

pub fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// A number that the kernel counts of an interface.
pub fn counted(pair: &Pair, interface: &str, name: &str) -> u64 {
    let path = format!("/sys/class/net/{interface}/statistics/{name}");
    let output = Command::new("ip").args(["netns", "exec", &pair.far, "cat", &path]).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

fn turns(stats: &Value) -> Option<u64> {
    stats["lcores"].as_object()?.values().next()?["turns"].as_u64()
}

/// The next statistics at which every worker has finished a turn that began after `seen`.
pub fn settled(prompt: &mut Prompt<'_>, seen: &Value) -> Value {
    let enough = turns(seen).expect("a worker") + 2;
    prompt.wait("the worker takes it up", |stats| turns(stats) >= Some(enough))
}

/// Two kernel interfaces that are joined, `near` and `far`, each in a network namespace of its own if asked for. All go with this
/// value.
///
/// Namespaces also keep tests apart in net_af_packet: its fanout number, the process's XOR the interface's, is one namespace's.
pub struct Pair {
    pub near: String,
    pub far: String,
}

impl Pair {
    /// Both in one namespace; `None`, after saying so, where none can be made.
    pub fn new(letter: char) -> Option<Self> {
        let name = format!("tf{}{letter}", std::process::id());
        let pair = Self { near: name.clone(), far: name };
        if !ip(&format!("netns add {}", pair.near)) {
            tapline_skip::skipped("network namespaces cannot be made (needs ip and CAP_SYS_ADMIN)");
            std::mem::forget(pair);
            return None;
        }
        assert!(ip(&format!("-n {} link add near type veth peer name far", pair.near)), "veth interfaces are made");
        pair.set_up();
        Some(pair)
    }

    /// `near` in a namespace of its own.
    pub fn apart(letter: char) -> Option<Self> {
        let mut pair = Self::new(letter)?;
        let other = format!("{}x", pair.far);
        assert!(ip(&format!("netns add {other}")));
        assert!(ip(&format!("-n {} link set near netns {other}", pair.far)));
        pair.near = other;
        pair.set_up();
        Some(pair)
    }

    fn set_up(&self) {
        for (namespace, name) in [(&self.near, "near"), (&self.far, "far")] {
            // the kernel's own talk would come beside the test's packets
            let quiet = format!("netns exec {namespace} sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1");
            ip(&quiet);
            assert!(ip(&format!("-n {namespace} link set {name} up")), "{name} comes up");
        }
    }

    /// `ip link set far up` or `down`.
    pub fn set_far(&self, word: &str) {
        assert!(ip(&format!("-n {} link set far {word}", self.far)), "far is set {word}");
    }

    /// Takes both interfaces away.
    pub fn delete(&self) {
        assert!(ip(&format!("-n {} link delete far", self.far)), "far is deleted");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.far));
        if self.near != self.far {
            ip(&format!("netns delete {}", self.near));
        }
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
