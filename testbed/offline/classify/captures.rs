//! The shared captures, joined into one file, and what other programs say of it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the captures are; `None`, said on standard output, where they are missing.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("TAPLINE_CAPTURES").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures"));
    if folder.is_dir() {
        return Some(folder);
    }
    tapline_skip::skipped("no captures");
    None
}

/// Whether all of `programs` are installed; says which is not.
pub fn has_programs(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(program) = missing {
        tapline_skip::skipped(format_args!("no {program}"));
    }
    missing.is_none()
}

/// All captures in one file `NAME` under `to`, in the order of their names; `None`, said on standard output, where there are none.
pub fn merged(to: &Path) -> Option<PathBuf> {
    let folder = folder()?;
    if !has_programs(&["mergecap", "tshark"]) {
        return None;
    }
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let merged = to.join("merged.pcap");
    let status = Command::new("mergecap").args(["-a", "-F", "nsecpcap", "-w"]).arg(&merged).args(files).status().unwrap();
    assert!(status.success(), "mergecap failed");
    Some(merged)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "pcap" || extension == "cap") {
            files.push(path);
        }
    }
}

/// A packet of a capture file.
pub struct Packet {
    pub bytes: Vec<u8>,
    pub original_len: u32,
}

/// The packets of a classic pcap file.
pub fn packets(file: &Path) -> Vec<Packet> {
    let mut capture = pcap::Capture::from_file(file).unwrap();
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(Packet { bytes: packet.data.to_vec(), original_len: packet.header.len });
    }
    packets
}

/// What tshark says of each packet of `file`: one row a packet, one column a field, all values of a field joined by commas.
/// Nothing is reassembled, so each packet stands for itself.
pub fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-n", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,"]);
    command.args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
