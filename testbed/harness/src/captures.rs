//! Public captures, which are no part of the repository: `TAPLINE_CAPTURES` names their folder, `../shared/captures` unless it is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{has_programs, repository};

/// One packet of a capture.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub original_len: u32,
}

/// Where captures are, if there are any.
pub fn place() -> PathBuf {
    std::env::var_os("TAPLINE_CAPTURES")
        .map_or_else(|| repository().join("../shared/captures"), PathBuf::from)
}

/// The folder of captures; `None`, after saying so, where it is missing.
pub fn folder() -> Option<PathBuf> {
    let folder = place();
    let is_there = folder.is_dir();
    if !is_there {
        tapline_skip::skipped(format_args!("no captures in {}", folder.display()));
    }
    is_there.then_some(folder)
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Every file below a folder whose name ends in one of these, sorted.
pub fn files_named(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|path| {
        path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending))
    });
    files
}

/// All captures whose names end in one of these, sorted; empty, after saying so, where there are none.
pub fn captures(endings: &[&str]) -> Vec<PathBuf> {
    let found = files_named(&place(), endings);
    if found.is_empty() {
        tapline_skip::skipped(format_args!("no captures in {}", place().display()));
    }
    found
}

/// Every Ethernet capture below a folder, sorted.
pub fn ethernet(folder: &Path) -> Vec<PathBuf> {
    let is_ethernet = |file: &PathBuf| {
        pcap::Capture::from_file(file)
            .is_ok_and(|capture| capture.get_datalink() == pcap::Linktype::ETHERNET)
    };
    let mut files = files_named(folder, &["pcap", "pcapng", "trace"]);
    files.retain(is_ethernet);
    files
}

/// The expressions that filters are tested with.
pub fn expressions() -> Vec<&'static str> {
    include_str!("../expressions.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The packets of a capture, up to its end or to where it is damaged.
pub fn packets(file: &Path) -> Vec<Packet> {
    let mut capture =
        pcap::Capture::from_file(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(Packet { bytes: packet.data.to_vec(), original_len: packet.header.len });
    }
    packets
}

/// What a capture says of a packet, to the nanosecond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timed {
    pub ns: u64,
    pub original_len: u32,
    pub bytes: Vec<u8>,
}

/// The packets of a capture with their times, as libpcap reads them, up to its end or to where it is damaged.
pub fn timed(path: &Path) -> Vec<Timed> {
    let capture = pcap::Capture::from_file_with_precision(path, pcap::Precision::Nano);
    let mut capture = capture.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        let ts = packet.header.ts;
        let ns = ts.tv_sec as u64 * 1_000_000_000 + ts.tv_usec as u64;
        packets.push(Timed { ns, original_len: packet.header.len, bytes: packet.data.to_vec() });
    }
    packets
}

/// All captures in one file `merged.pcap` under `to`, in the order of their names; `None`, after saying so, where there are none.
pub fn merged(to: &Path) -> Option<PathBuf> {
    let folder = folder()?;
    if !has_programs(&["mergecap", "tshark"]) {
        return None;
    }
    let merged = to.join("merged.pcap");
    let mut mergecap = Command::new("mergecap");
    mergecap.args(["-a", "-F", "nsecpcap", "-w"]).arg(&merged).args(files_named(&folder, &["pcap", "cap"]));
    assert!(mergecap.status().expect("mergecap was found").success(), "mergecap failed");
    Some(merged)
}
