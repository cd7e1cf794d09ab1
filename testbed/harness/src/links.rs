//! Kernel interfaces and network namespaces that tests make, and that go with them.

use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `ip` with these words; returns whether it ended well.
pub fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A number that the kernel counts of an interface.
pub fn counted(pair: &Pair, interface: &str, name: &str) -> u64 {
    let path = format!("/sys/class/net/{interface}/statistics/{name}");
    let output =
        Command::new("ip").args(["netns", "exec", &pair.far, "cat", &path]).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
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
        assert!(
            ip(&format!("-n {} link add near type veth peer name far", pair.near)),
            "veth interfaces are made"
        );
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

    /// Takes both interfaces up.
    pub fn set_up(&self) {
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

/// Puts the calling thread, and the programs that it starts, into a new network namespace. Returns whether that could be done.
pub fn enter_own_namespace() -> bool {
    // SAFETY: no table of open files is parted from those of other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.is_ok()
}

/// Pairs of kernel interfaces that are deleted at the end, in a network namespace that the calling thread and the programs that it
/// starts are in from now on.
pub struct Pairs(Vec<String>);

impl Pairs {
    pub fn new(names: &[&str]) -> Option<Self> {
        if !enter_own_namespace() {
            tapline_skip::skipped("network namespaces cannot be made (needs CAP_SYS_ADMIN)");
            return None;
        }
        let mut pairs = Self(Vec::new());
        for name in names {
            if !ip(&format!("link add {name} type veth peer name {name}p")) {
                tapline_skip::skipped("veth interfaces cannot be made (needs ip and CAP_NET_ADMIN)");
                return None;
            }
            pairs.0.push((*name).to_owned());
            let is_up = ip(&format!("link set {name} up")) && ip(&format!("link set {name}p up"));
            assert!(is_up, "{name} comes up");
        }
        Some(pairs)
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        for name in &self.0 {
            ip(&format!("link delete {name}"));
        }
    }
}
