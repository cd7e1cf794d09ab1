//! Ends of tunnels on an interface, with the kernel at the far end: it finds their addresses by itself, its tunnels end there, and its
//! ICMP errors about copies are counted.
//!
//! Needs root for namespaces; says so and is skipped where that is not given.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::{ethernet, tagged, tcp6, udp4};
use tapline_harness::judges::number;
use tapline_harness::links::{Pair, ip};
use tapline_harness::pcap_files::{packets, write_frames};
use tapline_harness::programs::has_programs;
use tapline_harness::tshark::{assert_sound, fields};

/// Asks an address for an echo, as ping does, and waits for the reply that has what was sent.
const PING: &str = "
import socket, struct, sys
six = ':' in sys.argv[1]
def total(data):
    words = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while words >> 16: words = (words & 0xffff) + (words >> 16)
    return ~words & 0xffff
asker = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, 58 if six else 1)
asker.settimeout(20)
rest = struct.pack('>HH', 0x1234, 7) + bytes(range(56))
kind = 128 if six else 8
sum_of = 0 if six else total(bytes([kind, 0, 0, 0]) + rest)
asker.sendto(struct.pack('>BBH', kind, 0, sum_of) + rest, (sys.argv[1], 0))
while True:
    data, sender = asker.recvfrom(2000)
    data = data if six else data[20:]
    if data[0] == (129 if six else 0) and data[4:] == rest:
        print('answered by', sender[0])
        break
";

/// Runs a command in a namespace; what it printed.
fn inside(namespace: &str, command: &[&str]) -> String {
    let output = Command::new("ip").args(["netns", "exec", namespace]).args(command).output();
    let output = output.expect("ip runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {text:?}");
    text.concat()
}

/// A tcpdump of all that `far` receives and sends.
struct Tcpdump {
    child: Child,
    file: PathBuf,
}

impl Tcpdump {
    fn start(pair: &Pair, file: PathBuf) -> Self {
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &pair.far,
                "tcpdump",
                "-i",
                "far",
                "-U",
                "--immediate-mode",
                // a slot of its ring is as long as that: with the default of 256 KiB few frames fit at once
                "-s",
                "2000",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("tcpdump starts");
        wait_until("tcpdump listens", || file.metadata().is_ok_and(|metadata| metadata.len() >= 24));
        Self { child, file }
    }

    /// Ends it when nothing more has come for a while, since it may have to wait for its CPU; what it captured.
    fn stop(mut self) -> PathBuf {
        let len = || self.file.metadata().map_or(0, |metadata| metadata.len());
        let (mut before, mut same) = (0, 0);
        while same < 5 {
            std::thread::sleep(Duration::from_millis(400));
            same = if std::mem::replace(&mut before, len()) == before { same + 1 } else { 0 };
        }
        let _ = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        self.file.clone()
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

/// The far end's addresses, and what the kernel makes of tunnels there.
fn far_end(letter: char) -> Option<Pair> {
    if !has_programs(&["tcpreplay", "tcpdump", "tshark", "python3"]) {
        tapline_skip::skipped("tcpreplay, tcpdump, tshark or python3 is missing");
        return None;
    }
    let pair = Pair::apart(letter)?;
    // tunnels are to carry what the test sends through them, and nothing that the kernel says of its own accord
    inside(&pair.far, &["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    inside(&pair.far, &["sysctl", "-qw", "net.ipv6.conf.far.disable_ipv6=0"]);
    for line in ["addr add 198.18.0.9/24 dev far", "addr add 2001:db8:18::9/64 dev far nodad"] {
        assert!(ip(&format!("-n {} {line}", pair.far)), "{line}");
    }
    Some(pair)
}

/// The frames of a capture that have this source, in a capture of their own.
fn sent_by(mac: &[u8], all: &Path, folder: &Bench) -> PathBuf {
    let path = folder.path("ours.pcap");
    let ours: Vec<Vec<u8>> = packets(all).into_iter().filter(|frame| frame[6..12] == *mac).collect();
    write_frames(&path, &ours);
    path
}

/// An ARP request for 198.18.0.1, to all.
fn arp_from(last: u8, address: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, last];
    packet.extend(address);
    packet.extend([0, 0, 0, 0, 0, 0, 198, 18, 0, 1]);
    let mut frame = ethernet(0x0806, &packet);
    frame[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, last]);
    frame.resize(60, 0);
    frame
}

fn mac_of(namespace: &str, interface: &str) -> (String, Vec<u8>) {
    let text = inside(namespace, &["cat", &format!("/sys/class/net/{interface}/address")]);
    let text = text.trim().to_owned();
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    (text.clone(), bytes.collect())
}

/// Sends frames by tunnels of the kernel, each as often as the others; which tunnels it has.
fn send_through_tunnels(pair: &Pair, file: &Path) -> Vec<&'static str> {
    let tunnels = [
        ("vx", "type vxlan id 42 remote 198.18.0.1 local 198.18.0.9 dev far dstport 4789"),
        ("six", "type vxlan id 43 remote 2001:db8:18::1 local 2001:db8:18::9 dev far dstport 4789"),
        ("gre", "type gretap remote 198.18.0.1 local 198.18.0.9 key 5"),
        ("span", "type erspan remote 198.18.0.1 local 198.18.0.9 seq key 7 erspan_ver 1 erspan 3"),
    ];
    let is_made = |(name, words): &(&str, &str)| {
        ip(&format!("-n {} link add {name} {words}", pair.far))
            && ip(&format!("-n {} link set {name} mtu 1400 up", pair.far))
    };
    let made: Vec<&str> = tunnels.into_iter().filter(is_made).map(|(name, _)| name).collect();
    for name in &made {
        inside(&pair.far, &["tcpreplay", "--pps", "500", "-i", name, &file.display().to_string()]);
    }
    made
}

#[test]
fn the_kernel_finds_the_ends_of_its_tunnels_and_they_take_what_it_sends() {
    let Some(pair) = far_end('e') else { return };
    let bench = Bench::inside(&pair.near);
    let (mac, mac_bytes) = mac_of(&pair.near, "near");
    let tcpdump = Tcpdump::start(&pair, bench.path("far.pcap"));
    let mut prompt = bench.start(
        "set idle sleep
        port attach cloud iface:near terminate vxlan to 198.18.0.1 vni 42 terminate gre to 198.18.0.1 \\
            terminate vxlan to 2001:db8:18::1 terminate erspan to 198.18.0.1 terminate geneve to 198.18.7.1
        tool create ids discard
        rule create 10 from cloud to ids
        start\n",
    );
    prompt.wait("it is announced", |stats| number(stats, "/ports/cloud/answers/announced") >= 3);

    // the addresses are found and answer; the neighbours are those that the kernel found itself
    for address in ["198.18.0.1", "2001:db8:18::1"] {
        let said = inside(&pair.far, &["python3", "-c", PING, address]);
        assert_eq!(said.trim(), format!("answered by {address}"));
        let neighbour = inside(&pair.far, &["ip", "neigh", "show", "dev", "far", "to", address]);
        assert!(neighbour.contains(&mac) && neighbour.contains("REACHABLE"), "{neighbour}");
    }

    // frames of another network inside of a tunnel, and among them a question for the end's own address: that is another's
    let mut frames = vec![arp_from(0x77, [198, 18, 0, 77])];
    frames.extend((0..20).flat_map(|index| [udp4(100 + index), tcp6(600 + index)]));
    write_frames(&bench.path("in.pcap"), &frames);
    let tunnels = send_through_tunnels(&pair, &bench.path("in.pcap"));
    assert!(tunnels.contains(&"vx"), "this kernel has VXLAN");
    let sent = (tunnels.len() * frames.len()) as u64;
    prompt.wait("all that was sent is terminated", |stats| {
        number(stats, "/ports/cloud/terminate/terminated") == sent
            && number(stats, "/rules/10/matched") == sent
    });
    let stats = prompt.wait("the state is published", |_| true);
    if tunnels.contains(&"span") {
        let sessions = stats["ports"]["cloud"]["terminate"]["sessions"].as_array().expect("a list").clone();
        let of_span: Vec<&Value> =
            sessions.iter().filter(|session| session["tunnel"] == "erspan").collect();
        assert_eq!(of_span.len(), 1, "{sessions:?}");
        assert_eq!((&of_span[0]["session"], &of_span[0]["lost"]), (&7.into(), &0.into()), "{sessions:?}");
    }

    // somebody asks in two VLANs, and somebody else comes with the address
    let asks = arp_from(0x55, [198, 18, 0, 55]);
    let in_two = tagged(&tagged(&asks, 7, 0), 100, 5);
    write_frames(
        &bench.path("other.pcap"),
        &[tagged(&asks, 7, 0), in_two, arp_from(0x66, [198, 18, 0, 1])],
    );
    let refused = number(&stats, "/ports/cloud/terminate/refused/other_traffic");
    inside(&pair.far, &["tcpreplay", "-i", "far", &bench.path("other.pcap").display().to_string()]);
    prompt.wait("the others' frames came", |stats| {
        number(stats, "/ports/cloud/terminate/refused/other_traffic") >= refused + 3
    });
    prompt.say("show ports");
    let run = prompt.quit();
    let conflict = "port cloud: 02:00:00:00:00:66 has 198.18.0.1, too";
    assert!(run.stderr.contains(conflict), "{}", run.stderr);
    assert!(run.stdout.contains("tunnels end at"), "{}", run.stdout);

    let ours = sent_by(&mac_bytes, &tcpdump.stop(), &bench);
    assert_sound(&ours, &[]);
    let names = ["arp.opcode", "icmpv6.type", "icmp.type", "arp.dst.proto_ipv4", "vlan.id"];
    let rows = fields(&ours, &[], &names);
    let of = |column: usize, value: &str| rows.iter().filter(|row| row[column] == value).count() as u64;
    let echoes = of(2, "0") + of(1, "129");
    let counted = ["arp", "nd", "echo"].map(|kind| run.number(&format!("ports/cloud/answers/{kind}")));
    let unsolicited = fields(&ours, &["-Y", "icmpv6.nd.na.flag.s == 0"], &["icmpv6.type"]).len() as u64;
    assert_eq!(counted, [of(0, "2"), of(1, "136") - unsolicited, echoes], "as tcpdump saw it");
    assert_eq!(echoes, 2);
    assert_eq!(run.number("ports/cloud/answers/announced"), of(0, "1") + unsolicited);
    let to_asker = rows.iter().filter(|row| row[3] == "198.18.0.55").map(|row| row[4].as_str());
    assert_eq!(to_asker.collect::<Vec<_>>(), ["7", "100;7"], "each is answered in its VLANs");
    assert_eq!(of(3, "198.18.0.77"), 0, "nobody in another network is answered");
}

#[test]
fn what_icmp_says_of_copies_is_counted_by_tool_and_told_once() {
    let Some(pair) = far_end('i') else { return };
    // as many errors as there are copies
    inside(&pair.far, &["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
    inside(&pair.far, &["sysctl", "-qw", "net.ipv6.icmp.ratelimit=0"]);
    let bench = Bench::inside(&pair.near);
    // all errors together find room, wherever they come at once
    let sent: Vec<Vec<u8>> = (0..10).map(|index| udp4(100 + index)).collect();
    bench.write("in.pcap", &sent);
    let tcpdump = Tcpdump::start(&pair, bench.path("far.pcap"));
    let mut prompt = bench.start(
        "set idle sleep
        port attach up iface:near
        tool create vx port up vxlan vni 9 src 198.18.0.1 dst 198.18.0.9 up-after 50ms
        tool create six port up geneve vni 9 src 2001:db8:18::1 dst 2001:db8:18::9 up-after 50ms
        tool create span port up erspan2 session 9 src 198.18.0.1 dst 198.18.0.9 up-after 50ms
        start\n",
    );
    prompt.wait("the next hops answer", |stats| {
        ["vx", "six", "span"].iter().all(|tool| stats["tools"][tool]["state"] == "up")
    });
    prompt.say("stop");
    prompt.say(&format!("port attach in replay:{},speed=max", bench.path("in.pcap").display()));
    prompt.say("rule create 10 from in to vx,six,span");
    prompt.say("start");
    let count = sent.len() as u64;
    prompt.wait("the kernel has refused all copies", |stats| {
        let errors =
            |tool: &str, reason: &str| number(stats, &format!("/tools/{tool}/icmp_errors/{reason}"));
        // GRE without a tunnel has no one to take it
        errors("vx", "port_unreachable") == count
            && errors("six", "port_unreachable") == count
            && errors("span", "protocol_unreachable") + errors("span", "port_unreachable") == count
    });
    prompt.say("show tools");
    let run = prompt.quit();
    let file = tcpdump.stop();
    let errors = fields(&file, &["-Y", "icmp.type == 3 || icmpv6.type == 1"], &["frame.number"]).len();
    assert_eq!(errors as u64, 3 * count, "the kernel said it so often");
    let told = |line: &str| run.stderr.lines().filter(|told| told.contains(line)).count();
    assert_eq!(told("tool vx: 198.18.0.9 refuses copies, port_unreachable"), 1, "{}", run.stderr);
    assert_eq!(told("tool six: 2001:db8:18::9 refuses copies, port_unreachable"), 1, "{}", run.stderr);
    assert!(run.stdout.contains("icmp port_unreachable"), "{}", run.stdout);
}
