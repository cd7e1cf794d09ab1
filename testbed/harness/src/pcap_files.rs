//! Capture files: written for tests, and read back by libpcap.

use std::path::Path;
use std::process::Command;

use crate::frames::TIME_NS;
use crate::lab::Lab;
use crate::programs::has_program;

/// The packets of an Ethernet capture, as libpcap reads them.
pub fn packets(path: &Path) -> Vec<Vec<u8>> {
    let mut capture =
        pcap::Capture::from_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(packet.data.to_vec());
    }
    packets
}

/// The packets of `path` that `tcpdump -r` selects; `None`, after saying so, where there is no tcpdump.
pub fn tcpdump_selects(path: &Path, expression: &str) -> Option<Vec<Vec<u8>>> {
    if !has_program("tcpdump") {
        return None;
    }
    // -w - needs no second file; tcpdump drops no privileges for a pipe
    let output = Command::new("tcpdump")
        .arg("-r")
        .arg(path)
        .args(["-w", "-", "--", expression])
        .output()
        .expect("tcpdump runs");
    assert!(output.status.success(), "tcpdump {expression}: {}", String::from_utf8_lossy(&output.stderr));
    let lab = Lab::new();
    Some(packets(&lab.write("selected.pcap", output.stdout)))
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// A classic capture file of Ethernet frames.
/// # Source
/// pcap-savefile(5).
struct File(Vec<u8>);

impl File {
    /// The magic number says what fractions of a second are counted in.
    fn new(magic: u32) -> Self {
        Self([magic, 4 << 16 | 2, 0, 0, 262_144, 1].iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn add(&mut self, seconds: u64, fraction: u64, bytes: &[u8], original_len: u32) {
        for word in [seconds as u32, fraction as u32, bytes.len() as u32, original_len] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(bytes);
    }

    fn write(self, path: &Path) {
        std::fs::write(path, self.0).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Writes packets with these original lengths, a thousand in a second.
pub fn write_capture<'a>(path: &Path, packets: impl IntoIterator<Item = (&'a [u8], u32)>) {
    let mut file = File::new(MICROSECONDS);
    for (index, (bytes, original_len)) in (0u64..).zip(packets) {
        file.add(1_735_689_600 + index / 1000, index % 1000 * 1000, bytes, original_len);
    }
    file.write(path);
}

/// A capture file of whole packets, all of one time.
pub fn pcap_bytes(packets: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut file = File::new(MICROSECONDS);
    for packet in packets {
        let bytes = packet.as_ref();
        file.add(1_700_000_000, 0, bytes, bytes.len() as u32);
    }
    file.0
}

/// Writes packets with their times in nanoseconds and their original lengths.
pub fn write_pcap(path: &Path, packets: &[(u64, Vec<u8>, usize)]) {
    let mut file = File::new(NANOSECONDS);
    for (time_ns, bytes, original_len) in packets {
        file.add(time_ns / 1_000_000_000, time_ns % 1_000_000_000, bytes, *original_len as u32);
    }
    file.write(path);
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
