//! Tunnels over a veth pair, with the kernel at the far end: next hops by ARP and ND, and the kernel's own VXLAN device as
//! receiver.
//!
//! Needs root for namespaces and net_af_packet; says so and is skipped where that is not given.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use tapline_harness::frames::{tcp6, udp4};
use tapline_harness::judges::assert_same;
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::links::{enter_own_namespace, ip};
use tapline_harness::pcap_files::{packets, write_frames};
use tapline_harness::programs::has_program;

/// A namespace with one end of a veth pair in it, and a second pair to feed packets in by; gone when it is dropped. The other ends are in a
/// namespace that the calling thread is in from then on.
pub(super) struct Far;

/// The name of the namespace of this process.
pub(super) struct Namespace;

pub(super) const NAMESPACE: Namespace = Namespace;

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tapline-far-{}", std::process::id())
    }
}

/// Runs a command line in the namespace.
pub(super) fn there(line: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &NAMESPACE.to_string(), "sh", "-c", line]);
    command
}

impl Far {
    pub(super) fn new() -> Option<Self> {
        if !has_program("ip") || !has_program("tcpreplay") || !has_program("tcpdump") {
            return None;
        }
        if !enter_own_namespace() || !ip(&format!("netns add {NAMESPACE}")) {
            tapline_skip::skipped("no permission to make network namespaces");
            return None;
        }
        let far = Far;
        let made = ip(&format!("link add tlup0 type veth peer name tlup1 netns {NAMESPACE}"))
            && ip("link add tlin0 type veth peer name tlin1")
            && ip(&format!("-n {NAMESPACE} link set tlup1 up"))
            && ip(&format!("-n {NAMESPACE} addr add 198.18.0.9/24 dev tlup1"))
            && ip(&format!("-n {NAMESPACE} addr add 2001:db8:18::9/64 dev tlup1 nodad"))
            && ip(&format!(
                "-n {NAMESPACE} link add vx0 type vxlan id 42 local 198.18.0.9 dev tlup1 dstport 4789"
            ))
            && ip(&format!("-n {NAMESPACE} link set vx0 up"));
        if !made {
            tapline_skip::skipped("this kernel has no veth or VXLAN device");
            return None;
        }
        for interface in ["tlup0", "tlin0", "tlin1"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
            assert!(ip(&format!("link set {interface} up")));
        }
        Some(far)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        ip(&format!("netns del {NAMESPACE}"));
    }
}

#[test]
fn the_kernels_vxlan_device_delivers_the_packets_once_the_next_hop_answered() {
    let Some(_far) = Far::new() else { return };
    let lab = Lab::new();
    let sent: Vec<Vec<u8>> =
        (0..40).flat_map(|index| [udp4(100 + 20 * index), tcp6(600 + index)]).collect();
    write_frames(&lab.path("in.pcap"), &sent);
    lab.write(
        "test.pipe",
        "port attach in net_af_packet0,iface=tlin0\n\
         port attach up net_af_packet1,iface=tlup0\n\
         tool create vx port up vxlan vni 42 src 198.18.0.1 dst 198.18.0.9 up-after 100ms\n\
         tool create six port up gre src 2001:db8:18::1 dst 2001:db8:18::9 up-after 100ms\n\
         rule create 10 from in to vx,six\n",
    );
    let arguments = [
        "run",
        "test.pipe",
        "--eal",
        EAL,
        "--stats",
        "stats.json",
        "--interval",
        "100ms",
        "--duration",
        "60s",
    ];
    let started = lab.start(&mut lab.tapline(&arguments));
    let up = lab.until("both tunnels are up", |line| {
        line["tools"]["vx"]["state"] == "up" && line["tools"]["six"]["state"] == "up"
    });
    let mac = up["tools"]["vx"]["next_hop"]["mac"].as_str().expect("an address").to_owned();
    let shown = there("cat /sys/class/net/tlup1/address").output().expect("cat runs");
    assert_eq!(mac, String::from_utf8_lossy(&shown.stdout).trim());
    assert_eq!(up["tools"]["six"]["next_hop"]["mac"], up["tools"]["vx"]["next_hop"]["mac"]);

    let file = lab.path("vx0.pcap");
    let mut capture = there(&format!("exec tcpdump -U -i vx0 -w {} 2>/dev/null", file.display()))
        .spawn()
        .expect("tcpdump runs");
    let begun = Instant::now();
    while file.metadata().map_or(0, |metadata| metadata.len()) < 24 {
        assert!(begun.elapsed() < Duration::from_secs(30), "tcpdump does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let replay = Command::new("tcpreplay")
        .args(["-q", "--pps", "500", "-i", "tlin1"])
        .arg(lab.path("in.pcap"))
        .output();
    assert!(replay.expect("tcpreplay runs").status.success());
    lab.until("all copies are sent", |line| line["copies"]["sent"] == 2 * sent.len());
    let begun = Instant::now();
    // the kernel says something on the device of its own accord
    let ours = || packets(&file).into_iter().filter(|frame| sent.contains(frame)).collect::<Vec<_>>();
    while ours().len() < sent.len() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_same("what the device delivered", &ours(), &sent);
    capture.kill().expect("a child of this process");
    capture.wait().expect("a child of this process");

    // the kernel asks in its turn, and Tapline answers
    let ask = "ip neigh flush dev tlup1; bash -c 'echo > /dev/udp/198.18.0.1/9'; sleep 0.5; ip neigh show 198.18.0.1";
    let begun = Instant::now();
    loop {
        let asked = there(ask).output();
        let asked = String::from_utf8_lossy(&asked.expect("ip runs").stdout).into_owned();
        if asked.contains("lladdr") {
            break;
        }
        let is_late = begun.elapsed() > Duration::from_secs(20);
        assert!(!is_late, "the kernel does not know who 198.18.0.1 is: {asked}");
    }

    // without the address nobody answers, and the tool goes down
    assert!(ip(&format!("-n {NAMESPACE} addr del 198.18.0.9/24 dev tlup1")));
    let down = lab.until("the next hop is gone", |line| line["tools"]["vx"]["state"] == "down");
    assert_eq!(down["tools"]["vx"]["reason"], "unresolved");
    assert_eq!(down["tools"]["vx"]["next_hop"]["losses"], 1);
    assert_eq!(down["tools"]["six"]["state"], "up");
    started.signal("TERM");
    lab.end(started).done();
}
