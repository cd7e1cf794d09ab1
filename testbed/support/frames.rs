//! What the tests of copies share: frames with right checksums, a pcap writer, tshark and the capture folder.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tapline::headers::checksum::Sum;
use tapline::headers::ethernet::MacAddress;

/// The time of every packet here: 2023-11-14T22:13:20.123456789Z.
pub const SECONDS: u32 = 1_700_000_000;
pub const NANOSECONDS: u32 = 123_456_789;
pub const TIME_NS: u64 = SECONDS as u64 * 1_000_000_000 + NANOSECONDS as u64;

pub const OUTER_SOURCE: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const OUTER_DESTINATION: MacAddress = MacAddress([2, 0, 0, 0, 1, 2]);

/// An Ethernet frame with addresses of its own.
pub fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

/// An IPv4 datagram from 10.1.2.3 to 10.4.5.6.
pub fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6];
    header[2..4].copy_from_slice(&((20 + body.len()) as u16).to_be_bytes());
    let checksum = Sum::default().bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header.extend(body);
    header
}

/// An IPv6 datagram from 2001:db8::1 to 2001:db8::2.
pub fn ipv6(next_header: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 0, next_header, 64];
    header[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    for last in [1, 2] {
        header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    header.extend(body);
    header
}

fn with_checksum(ip: Vec<u8>, at: usize) -> Vec<u8> {
    let is_ipv6 = ip[0] >> 4 == 6;
    let (addresses, header, protocol) = if is_ipv6 { (&ip[8..40], 40, ip[6]) } else { (&ip[12..20], 20, ip[9]) };
    let body = &ip[header..];
    let sum = Sum::default().bytes(addresses).word(protocol.into()).word(body.len() as u16).bytes(body).udp_checksum();
    let mut ip = ip;
    ip[header + at..header + at + 2].copy_from_slice(&sum.to_be_bytes());
    ip
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    out.extend(payload);
    out
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 4, 0, 0, 0, 0, 0];
    out.extend(payload);
    out
}

pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + 3) as u8).collect()
}

pub fn udp4(len: usize) -> Vec<u8> {
    ethernet(0x0800, &with_checksum(ipv4(17, &udp(&payload(len))), 6))
}

pub fn udp6(len: usize) -> Vec<u8> {
    ethernet(0x86dd, &with_checksum(ipv6(17, &udp(&payload(len))), 6))
}

pub fn tcp4(len: usize) -> Vec<u8> {
    ethernet(0x0800, &with_checksum(ipv4(6, &tcp(&payload(len))), 16))
}

pub fn tcp6(len: usize) -> Vec<u8> {
    ethernet(0x86dd, &with_checksum(ipv6(6, &tcp(&payload(len))), 16))
}

pub fn arp() -> Vec<u8> {
    ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 4, 5, 6])
}

/// The frame with an 802.1Q tag after its addresses.
pub fn tagged(frame: &[u8], vlan: u16, priority: u16) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    out.extend([0x81, 0]);
    out.extend((priority << 13 | vlan).to_be_bytes());
    out.extend(&frame[12..]);
    out
}

/// One of each kind, of odd and even lengths.
pub fn frames() -> Vec<Vec<u8>> {
    vec![udp4(61), udp4(1000), tcp4(33), tcp6(600), udp6(59), arp(), tagged(&tcp4(100), 100, 3), tagged(&udp6(7), 4094, 7)]
}

/// Writes a pcap file with nanosecond times (`pcap-savefile(5)`).
pub fn write_pcap(path: &Path, packets: &[(u64, Vec<u8>, usize)]) {
    let mut out = Vec::new();
    for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 262_144, 1] {
        out.extend(u32::to_le_bytes(word));
    }
    for (time_ns, bytes, original_len) in packets {
        for word in [(time_ns / 1_000_000_000) as u32, (time_ns % 1_000_000_000) as u32, bytes.len() as u32, *original_len as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(bytes);
    }
    std::fs::write(path, out).expect("the test's own folder is writable");
}

/// Writes whole packets, all at `TIME_NS`.
pub fn write_frames(path: &Path, frames: &[Vec<u8>]) {
    let packets: Vec<_> = frames.iter().map(|frame| (TIME_NS, frame.clone(), frame.len())).collect();
    write_pcap(path, &packets);
}

/// Reads a classic pcap file of link type Ethernet: time, bytes, original length. None if it is something else.
pub fn read_pcap(path: &Path) -> Option<Vec<(u64, Vec<u8>, usize)>> {
    let file = std::fs::read(path).ok()?;
    let (little, nano) = match file.get(..4)? {
        [0xd4, 0xc3, 0xb2, 0xa1] => (true, false),
        [0x4d, 0x3c, 0xb2, 0xa1] => (true, true),
        [0xa1, 0xb2, 0xc3, 0xd4] => (false, false),
        [0xa1, 0xb2, 0x3c, 0x4d] => (false, true),
        _ => return None,
    };
    let word = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = file.get(at..at + 4)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    if word(20)? & 0xffff != 1 {
        return None;
    }
    let mut packets = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(fraction), Some(captured), Some(original)) =
        (word(at), word(at + 4), word(at + 8), word(at + 12))
    {
        let Some(bytes) = file.get(at + 16..at + 16 + captured) else { break };
        let time_ns = seconds as u64 * 1_000_000_000 + fraction as u64 * if nano { 1 } else { 1000 };
        packets.push((time_ns, bytes.to_vec(), original));
        at += 16 + captured;
    }
    Some(packets)
}

/// All captures of the folder, or none with a message.
pub fn captures() -> Vec<PathBuf> {
    let folder = std::env::var("TAPLINE_CAPTURES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/captures").to_string());
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "pcap") {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        tapline_skip::skipped("no captures");
    }
    found.sort();
    found
}

/// Whether a program can be run; says that the test is skipped where it cannot.
pub fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        tapline_skip::skipped(format_args!("no {program}"));
    }
    found
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program was found before");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every checksum that tshark 4.0 can check in traffic of this kind (`tshark -G currentprefs`), and no guess at an FCS.
pub const STRICT: [&str; 32] = [
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "udp.ignore_ipv6_zero_checksum:FALSE",
    "-o",
    "udplite.check_checksum:TRUE",
    "-o",
    "udplite.ignore_checksum_coverage:FALSE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "sctp.checksum:CRC-32c",
    "-o",
    "dccp.check_checksum:TRUE",
    "-o",
    "pgm.check_checksum:TRUE",
    "-o",
    "stt.check_checksum:TRUE",
    "-o",
    "cattp.checksum:TRUE",
    "-o",
    "cfp.check_fcs:TRUE",
    "-o",
    "eth.check_fcs:TRUE",
    "-o",
    "eth.fcs:Never",
    "-o",
    "vrrp.v3_checksum_as_in_v2:FALSE",
    "-o",
    "tcp.analyze_sequence_numbers:FALSE",
];

/// tshark's fields, one row a packet; several values of one field are joined by `;`.
pub fn fields(path: &Path, extra: &[&str], names: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = vec!["-n", "-r", path.to_str().expect("utf-8"), "-T", "fields", "-E", "aggregator=;"];
    arguments.extend(STRICT);
    arguments.extend(extra);
    for name in names {
        arguments.extend(["-e", name]);
    }
    run("tshark", &arguments).lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

/// The fields of all protocols in which tshark says how a checksum is.
pub fn checksum_statuses() -> &'static [String] {
    static STATUSES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    STATUSES.get_or_init(|| {
        let fields = run("tshark", &["-G", "fields"]);
        let names = fields.lines().filter_map(|line| line.split('\t').nth(2));
        let names = names.filter(|name| name.ends_with("checksum.status") || name.ends_with("cksum.status"));
        let names: std::collections::BTreeSet<String> = names.map(str::to_owned).collect();
        assert!(names.contains("ip.checksum.status") && names.len() > 30, "{names:?}");
        names.into_iter().collect()
    })
}

/// Fails if tshark finds anything malformed or any checksum bad.
pub fn assert_sound(path: &Path, extra: &[&str]) {
    let mut arguments = vec!["-n", "-r", path.to_str().expect("utf-8")];
    arguments.extend(STRICT);
    arguments.extend(extra);
    let complaints = format!(
        "_ws.malformed || _ws.short || udp.length.bad || ip.bogus_ip_length || _ws.expert.group == Checksum || \
         _ws.expert.severity >= 6291456 || {}",
        checksum_statuses().join(" == Bad || ") + " == Bad"
    );
    arguments.extend(["-V", "-Y", &complaints]);
    let complaints = run("tshark", &arguments);
    assert!(complaints.is_empty(), "{}: {complaints}", path.display());
}

/// Where tshark sees the innermost Ethernet header of each packet begin.
pub fn innermost_ethernet(path: &Path) -> Vec<usize> {
    let mut arguments = vec!["-n", "-r", path.to_str().expect("utf-8"), "-T", "jsonraw", "--no-duplicate-keys"];
    arguments.extend(STRICT);
    let packets: serde_json::Value = serde_json::from_str(&run("tshark", &arguments)).expect("tshark writes JSON");
    let place = |eth: &serde_json::Value| {
        let last = match &eth[0] {
            serde_json::Value::Array(_) => eth.as_array().and_then(|all| all.last()).cloned().unwrap_or_default(),
            _ => eth.clone(),
        };
        last[1].as_u64().expect("a position") as usize
    };
    packets.as_array().expect("one a packet").iter().map(|packet| place(&packet["_source"]["layers"]["eth_raw"])).collect()
}
