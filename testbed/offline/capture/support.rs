//! What the tests of this folder share: captures, packets as plain values.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use tapline::cli::filter;
use tapline_capture::Reader;
use tapline_harness::captures;

/// One packet, whoever read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PlainPacket {
    pub time_ns: u64,
    pub original_len: u32,
    pub bytes: Vec<u8>,
}

/// All captures for tests, sorted; empty, and said so, where there are none.
pub(super) fn captures() -> Vec<PathBuf> {
    captures::captures(&["pcap", "pcapng", "cap"])
}

/// Runs a program and returns its standard output, whatever its exit status.
pub(super) fn output(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What libpcap reads, up to its end or the first error.
pub(super) fn libpcap_packets(path: &Path) -> Option<Vec<PlainPacket>> {
    let mut capture = pcap::Capture::from_file_with_precision(path, pcap::Precision::Nano).ok()?;
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        let (seconds, ns) = (packet.header.ts.tv_sec as u32, packet.header.ts.tv_usec as u64);
        packets.push(PlainPacket {
            time_ns: u64::from(seconds) * 1_000_000_000 + ns,
            original_len: packet.header.len,
            bytes: packet.data.to_vec(),
        });
    }
    Some(packets)
}

/// What our reader reads, up to its end or the first error.
pub(super) fn our_packets(mut reader: Reader) -> Vec<PlainPacket> {
    let mut packets = Vec::new();
    while let Ok(Some(burst)) = reader.next_burst() {
        packets.extend(burst.iter().map(|record| PlainPacket {
            time_ns: record.time_ns,
            original_len: record.original_len,
            bytes: record.bytes.to_vec(),
        }));
    }
    packets
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: filter::Args,
}

/// `tapline filter ARGS` in this process.
pub(super) fn tapline_filter(args: &[&str]) -> anyhow::Result<std::process::ExitCode> {
    let words = ["filter", "--quiet"].iter().chain(args);
    filter::run(&Cli::parse_from(words).args)
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
