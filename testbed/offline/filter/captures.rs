//! The public captures that filter tests run on, and the expressions that they run.

use std::path::{Path, PathBuf};

/// One packet of a capture.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub original_len: u32,
}

/// The folder of captures; `None`, after saying so, where it is missing.
pub fn folder() -> Option<PathBuf> {
    let folder = match std::env::var_os("TAPLINE_CAPTURES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures"),
    };
    if !folder.is_dir() {
        tapline_skip::skipped(format_args!("no captures in {}", folder.display()));
        return None;
    }
    Some(folder)
}

/// Every Ethernet capture below `folder`, in the order of their names.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a readable folder").flatten() {
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("pcap" | "pcapng" | "trace") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files.retain(|file| open(file).is_some());
    files
}

fn open(file: &Path) -> Option<pcap::Capture<pcap::Offline>> {
    pcap::Capture::from_file(file).ok().filter(|capture| capture.get_datalink() == pcap::Linktype::ETHERNET)
}

/// The packets of a capture, up to its end or to where it is damaged.
pub fn packets(file: &Path) -> Vec<Packet> {
    let mut capture = open(file).expect("`files` gives Ethernet captures");
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(Packet { bytes: packet.data.to_vec(), original_len: packet.header.len });
    }
    packets
}

/// The expressions of expressions.txt.
pub fn expressions() -> Vec<&'static str> {
    include_str!("expressions.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Writes `packets` to a capture file.
#[allow(dead_code, reason = "each test takes what it needs of this module")]
pub fn write(file: &Path, packets: &[Packet]) {
    // pcap, version 2.4, microseconds, snap length 262144, Ethernet.
    let mut bytes = Vec::new();
    for field in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        bytes.extend(field.to_le_bytes());
    }
    for packet in packets {
        let captured_len = u32::try_from(packet.bytes.len()).expect("a short packet");
        for field in [0, 0, captured_len, packet.original_len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(&packet.bytes);
    }
    std::fs::write(file, bytes).expect("a writable file");
}
