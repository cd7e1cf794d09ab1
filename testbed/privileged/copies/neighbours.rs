//! Hostile neighbours of a tunnel: frames that a stranger on the link forges by a raw socket, beside a kernel that is the next hop.
//!
//! Needs root for namespaces; says so and is skipped where that is not given.

use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;
use tapline::health::responder::EndAddress;
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::links::ip;
use tapline_harness::programs::has_program;
use tapline_packet::headers::arp;
use tapline_packet::headers::ethernet::MacAddress;

use super::veth::{Far, NAMESPACE, there};

/// Sends frames, given in hexadecimal digits, one after the other, so many in all.
const FORGE: &str = "
import socket, sys
stranger = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
stranger.bind((\"tlup1\", 0))
frames = [bytes.fromhex(text) for text in sys.argv[2:]]
for turn in range(int(sys.argv[1])):
    stranger.send(frames[turn % len(frames)])
";

/// Answers ARP requests for 198.18.0.9 that reach the MAC address given, and says when it begins.
const IMPOSTER: &str = "
import socket, sys
mac, address = bytes.fromhex(sys.argv[1]), socket.inet_aton(\"198.18.0.9\")
imposter = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
imposter.bind((\"tlup1\", 0))
open(sys.argv[2], \"w\").close()
while True:
    asked = imposter.recv(2000)
    is_request = asked[12:14] == b\"\\x08\\x06\" and asked[20:22] == b\"\\0\\1\" and asked[38:42] == address
    if is_request and asked[6:12] != mac and (asked[:6] == mac or asked[0] & 1):
        imposter.send(asked[6:12] + mac + asked[12:20] + b\"\\0\\2\" + mac + address + asked[22:32])
";

const STRANGER: MacAddress = MacAddress([2, 0x66, 0, 0, 0, 1]);
const NEXT_HOP: [u8; 4] = [198, 18, 0, 9];
const OURS: [u8; 4] = [198, 18, 0, 1];

/// An ARP frame to all, with this opcode: `mac` has `sender`.
fn arp(operation: u16, mac: MacAddress, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let packet = arp::packet(operation, (mac, sender.into()), (MacAddress::default(), target.into()));
    [&MacAddress::BROADCAST.0, &mac.0, &[8, 6][..], &packet, &[0; 18]].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn forge(count: usize, frames: &[Vec<u8>]) {
    let frames: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
    let sent = there(&format!("exec python3 -c '{FORGE}' {count} {}", frames.join(" "))).status();
    assert!(sent.expect("python3 runs").success());
}

/// A lab with two tunnels, whose next hops are known.
fn tunnels(lab: &Lab) -> Started {
    lab.write(
        "test.pipe",
        "port attach in iface:tlin0\n\
         port attach up iface:tlup0\n\
         tool create vx port up vxlan vni 42 src 198.18.0.1 dst 198.18.0.9 up-after 100ms\n\
         tool create six port up gre src 2001:db8:18::1 dst 2001:db8:18::9 up-after 100ms\n\
         rule create 10 from in to vx,six\n",
    );
    let arguments = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "100ms"];
    let started = lab.start(&mut lab.tapline(&arguments));
    lab.until("both tunnels are up", |line| {
        line["tools"]["vx"]["state"] == "up" && line["tools"]["six"]["state"] == "up"
    });
    started
}

fn next_hop<'a>(line: &'a Value, tool: &str) -> &'a Value {
    &line["tools"][tool]["next_hop"]
}

#[test]
fn forged_frames_of_a_stranger_move_no_tunnel_and_fill_no_log() {
    let Some(_far) = Far::new().filter(|_| has_program("python3")) else { return };
    let lab = Lab::new();
    let begun = Instant::now();
    let started = tunnels(&lab);
    let mac = there("cat /sys/class/net/tlup1/address").output().expect("cat runs").stdout;
    let mac = String::from_utf8_lossy(&mac).trim().to_owned();
    let announced = |address: IpAddr| EndAddress { mac: STRANGER, address }.announcement();
    let mut other_source = arp(arp::REPLY, STRANGER, NEXT_HOP, OURS);
    other_source[11] ^= 1;
    let forged = [
        ("vx", announced(IpAddr::from(NEXT_HOP))),
        ("vx", arp(arp::REQUEST, STRANGER, NEXT_HOP, OURS)),
        ("vx", arp(arp::REPLY, STRANGER, NEXT_HOP, OURS)),
        ("vx", arp(99, STRANGER, NEXT_HOP, OURS)),
        ("vx", other_source),
        ("six", announced("2001:db8:18::9".parse().expect("an address"))),
    ];
    let mut ignored = [("vx", 0), ("six", 0)];
    for (tool, frame) in forged {
        forge(1, &[frame]);
        let (_, count) = ignored.iter_mut().find(|(name, _)| *name == tool).expect("it has a count");
        *count += 1;
        let line = lab.until("the frame is ignored", |line| next_hop(line, tool)["ignored"] == *count);
        let next_hop = next_hop(&line, tool);
        assert_eq!((&next_hop["mac"], &next_hop["moves"]), (&Value::from(mac.as_str()), &Value::from(0)));
        assert_eq!(line["tools"][tool]["state"], "up");
    }
    // our own address claimed by a stranger
    forge(1, &[arp(arp::REQUEST, STRANGER, OURS, OURS)]);
    lab.until("the claim is counted", |line| line["ports"]["up"]["answers"]["claimed"] == 1);
    let told = "port up: 02:66:00:00:00:01 has 198.18.0.1, too";
    assert!(lab.printed("stderr").contains(told), "{}", lab.printed("stderr"));

    let others = [1, 2].map(|last| arp(arp::REQUEST, MacAddress([2, 0x77, 0, 0, 0, last]), NEXT_HOP, OURS));
    let before = lab.until("a line", |_| true)["tools"]["vx"]["next_hop"]["ignored"].as_u64();
    forge(200_000, &others);
    let line = lab.until("the flood is over", |line| {
        let hop = next_hop(line, "vx");
        hop["ignored"].as_u64() > before && hop["conflict"].is_null()
    });
    let hop = next_hop(&line, "vx");
    assert_eq!((&hop["mac"], &hop["moves"], &hop["losses"]), (&Value::from(mac), &0.into(), &0.into()));
    // a claim that the flood left is judged, and nothing moves
    let at = line["uptime_s"].as_f64().expect("a time");
    let line = lab.until("two more seconds", |line| line["uptime_s"].as_f64() > Some(at + 2.0));
    assert_eq!((&next_hop(&line, "vx")["moves"], &line["tools"]["vx"]["state"]), (&0.into(), &"up".into()));
    started.signal("TERM");
    let ended = lab.end(started);
    let lines = lab.printed("stderr").matches("next hop 198.18.0.9").count() as u64;
    assert!((1..=2 + begun.elapsed().as_secs() / 10).contains(&lines), "{}", lab.printed("stderr"));
    ended.done();
}

/// A program that answers for the next hop's address, too.
struct Imposter(Child);

impl Imposter {
    fn start(lab: &Lab) -> Self {
        let ready = lab.path("ready");
        let line = format!("exec python3 -c '{IMPOSTER}' {} {}", hex(&STRANGER.0), ready.display());
        let imposter = Imposter(there(&line).stdout(Stdio::null()).spawn().expect("python3 runs"));
        let begun = Instant::now();
        while !ready.exists() {
            assert!(begun.elapsed().as_secs() < 30, "the imposter does not begin");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        imposter
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_that_answer_are_a_conflict_and_the_one_that_stays_gets_the_tunnel() {
    let Some(_far) = Far::new().filter(|_| has_program("python3")) else { return };
    let lab = Lab::new();
    let started = tunnels(&lab);
    let imposter = Imposter::start(&lab);
    forge(1, &[arp(arp::REQUEST, STRANGER, NEXT_HOP, NEXT_HOP)]);
    let stranger = Value::from("02:66:00:00:00:01");
    let line = lab.until("both answer", |line| next_hop(line, "vx")["conflict"] == stranger);
    let hop = next_hop(&line, "vx");
    assert_eq!((&hop["moves"], &hop["conflicts"]), (&0.into(), &1.into()));
    assert_ne!(hop["mac"], stranger);

    assert!(ip(&format!("-n {NAMESPACE} addr del 198.18.0.9/24 dev tlup1")));
    let line = lab.until("the next hop moved", |line| next_hop(line, "vx")["mac"] == stranger);
    let hop = next_hop(&line, "vx");
    assert_eq!((&hop["moves"], &hop["losses"], &hop["conflict"]), (&1.into(), &0.into(), &Value::Null));
    assert_eq!(line["tools"]["vx"]["state"], "up");
    drop(imposter);
    lab.until("nobody is there", |line| line["tools"]["vx"]["state"] == "down");
    started.signal("TERM");
    lab.end(started).done();
}
