//! Interfaces of the kernel as ports (`iface:`): what tcpreplay sends on one end of a veth pair is what Tapline receives at the other,
//! frame by frame and byte by byte, as tcpdump beside it does; received and missed are what the interface counted.

/// Interfaces that are deleted, and made again.
mod gone;
/// Interfaces that come and go while packets flow.
mod live;
/// Offloads that change frames.
mod offloads;
/// Frames of every kind and length, one queue and several, loopback; links that flap, interfaces that go, rings that are full.
mod receive;
/// Whole files that take each other's place beside traffic.
mod reloads;
/// Tools on interfaces.
mod send;
/// What is said of interfaces that cannot be had, or are shared.
mod words;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::{arp, ethernet, frames, ipv4, payload, tagged, udp, udp4};
use tapline_harness::links::{Pair, ip};
use tapline_harness::programs::has_programs;

/// Runs a command line in a namespace; what it printed to standard output and error.
fn inside(namespace: &str, line: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(line.split_whitespace())
        .output()
        .expect("ip runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{line}: {text:?}");
    text.concat()
}

/// Sends a capture by tcpreplay as often as `passes` says; how many packets it sent, as it says.
fn replay(namespace: &str, interface: &str, file: &Path, passes: usize) -> u64 {
    let line = format!("tcpreplay --topspeed --loop {passes} -i {interface} {}", file.display());
    let said = inside(namespace, &line);
    let count = said.lines().find_map(|line| line.trim().strip_prefix("Successful packets:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// A tcpdump that captures what comes in by an interface.
struct Tcpdump {
    child: Child,
    file: PathBuf,
}

impl Tcpdump {
    fn start(namespace: &str, interface: &str, file: PathBuf) -> Self {
        let said = file.with_extension("log");
        let log = std::fs::File::create(&said).expect("a file");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "tcpdump", "-i", interface, "-Q", "in", "-B", "65536", "-U"])
            .args(["-Z", "root", "-w"])
            .arg(&file)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("tcpdump starts");
        wait_until("tcpdump listens", || {
            std::fs::read_to_string(&said).is_ok_and(|said| said.contains("listening on"))
        });
        Self { child, file }
    }

    /// Waits until it has written so many packets, and gives them.
    fn finish(mut self, bench: &Bench, count: usize) -> Vec<Vec<u8>> {
        let name = self.file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        wait_until("tcpdump has written all", || bench.read(&name).len() >= count);
        let _ = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        bench.read(&name)
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sets what ethtool calls so on both ends of a pair; those that an interface does not have stay as they are.
fn set_offloads(pair: &Pair, words: &str) {
    for (namespace, side) in [(&pair.near, "near"), (&pair.far, "far")] {
        inside(namespace, &format!("ethtool -K {side} {words}"));
    }
}

/// A pair whose ends take frames of up to 64 KiB and change none; nothing where a test cannot be run here.
fn long_pair(letter: char) -> Option<Pair> {
    if !has_programs(&["tcpreplay", "tcpdump", "ethtool"]) {
        tapline_skip::skipped("tcpreplay, tcpdump or ethtool is missing");
        return None;
    }
    let pair = Pair::new(letter)?;
    for side in ["near", "far"] {
        assert!(ip(&format!("-n {} link set {side} mtu 65535", pair.far)), "veth takes long frames");
    }
    set_offloads(&pair, "tso off gso off gro off tx off");
    Some(pair)
}

/// The frame with a tag of a type in front of its others.
fn tagged_as(tpid: u16, frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut out = tagged(frame, vlan, 5);
    out[12..14].copy_from_slice(&tpid.to_be_bytes());
    out
}

/// A fragment of a UDP datagram between two hosts: it begins at `offset` (in units of eight bytes), and others follow where `more`.
fn fragment(id: u16, host: u8, offset: u16, more: bool, len: usize) -> Vec<u8> {
    let mut packet = ipv4(17, &payload(len));
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    packet[15] = host;
    packet[10..12].fill(0);
    let sum = packet[..20].chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = sum.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    ethernet(0x0800, &packet)
}

/// Frames of every kind: tags of several types, alone and nested, fragments whole and alone, 60 to 65 000 bytes, no IP at all.
fn all_kinds() -> Vec<Vec<u8>> {
    let mut all = frames();
    let plain = udp4(100);
    for tpid in [0x8100, 0x88a8, 0x9100, 0x9200] {
        all.push(tagged_as(tpid, &plain, 0));
        all.push(tagged_as(tpid, &plain, 4095));
        all.push(tagged_as(tpid, &tagged(&plain, 7, 0), 100));
        all.push(tagged_as(tpid, &tagged_as(0x88a8, &tagged(&plain, 7, 0), 8), 9));
    }
    for host in 1..20 {
        let parts = [(0, true, 800), (100, true, 800), (200, false, 333)];
        all.extend(parts.map(|(offset, more, len)| fragment(u16::from(host), host, offset, more, len)));
    }
    // the first or the last one without the others
    all.push(fragment(900, 50, 0, true, 1480));
    all.push(fragment(901, 51, 185, false, 40));
    for len in [60, 61, 64, 1500, 1514, 1518, 2048, 2049, 9000, 16_384, 32_768, 65_000] {
        let mut frame = udp(1, [198, 18, 1, 1], 1024, 64);
        frame.resize(len, len as u8);
        all.push(frame);
    }
    // LLC, and a type that nobody knows
    all.push(ethernet(46, &payload(46)));
    all.push(ethernet(0xfffe, &payload(46)));
    all.push(arp());
    // the kernel pads none of them
    all.iter_mut().filter(|frame| frame.len() < 60).for_each(|frame| frame.resize(60, 0));
    all
}

/// What a port received and missed.
fn seen(stats: &Value, port: &str) -> Option<u64> {
    let port = &stats["ports"][port];
    Some(port["received"].as_u64()? + port["driver"]["missed"].as_u64()?)
}
