//! `tapline explain` and `tapline diff` on captures that are longer than memory: made up as they are read, sparse in time.
//!
//! In `make soak` a capture has 1 GB; else a tenth of that.

use std::io::Write;
use std::process::{Child, Stdio};

use tapline_capture::{Interface, LinkType, Packet, Writer};
use tapline_harness::lab::Lab;
use tapline_harness::spans::number_of;

const PIPELINE: &str = "set seed 7
set flows 10k
port attach in net_null0
tool create a capture a.pcapng slice 100
tool create b discard
group create g tools a,b
rule create 10 from in match \"tcp port 22\" drop
rule create 20 from in match \"tcp\" sample first 3 packets to a
rule create 30 from in match \"udp\" dedup window 1s memory 1M to g
rule create 40 from in sample 1/10 to b
start
";

/// The most memory that a process has had, in KiB.
fn peak_kib(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Feeds a command a capture of this many bytes. Returns its peaks after a tenth and at the end, and what it printed.
fn fed(lab: &Lab, arguments: &[&str], bytes: u64) -> (u64, u64, String) {
    let mut command = lab.tapline(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tapline runs");
    let input = child.stdin.take().expect("a pipe");
    let mut writer = Writer::pcapng(input, tapline_capture::ByteOrder::NATIVE).expect("a reader");
    let interface = Interface::new(LinkType::ETHERNET, 0, Some("in".to_owned()));
    let interface = writer.add_interface(&interface).expect("a reader");
    let office = tapline_traffic::office().packets;
    let (mut written, mut early, mut time_ns) = (0, None, 1_700_000_000_000_000_000);
    for packet in office.iter().cycle() {
        if written >= bytes {
            break;
        }
        if written >= bytes / 10 && early.is_none() {
            early = Some(peak_kib(&child));
        }
        // a packet a second: every window, schedule and table of flows comes to its end again and again
        time_ns += 1_000_000_000;
        let packet = Packet {
            interface,
            time_ns,
            bytes: &packet.bytes,
            original_len: packet.bytes.len() as u32,
            comments: &[],
        };
        writer.write(&packet).expect("a reader");
        written += packet.bytes.len() as u64;
    }
    let mut input = writer.finish().expect("a reader");
    input.flush().expect("a reader");
    let late = peak_kib(&child);
    drop(input);
    let output = child.wait_with_output().expect("tapline ends");
    assert!(output.status.success(), "{arguments:?}");
    (early.expect("a tenth"), late, String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_capture_of_any_length_takes_the_same_memory() {
    let bytes = if number_of("TAPLINE_MINUTES", 0) > 0 { 1_000_000_000 } else { 100_000_000 };
    let lab = Lab::new();
    lab.write("test.pipe", PIPELINE);
    lab.write("other.pipe", PIPELINE.replace("1/10", "1/11").replace("tcp port 22", "tcp port 443"));
    for arguments in [
        &["explain", "test.pipe", "-r", "-", "--summary"][..],
        &["diff", "test.pipe", "other.pipe", "-r", "-"],
        &["diff", "test.pipe", "other.pipe", "-r", "-", "--sampled", "--json"],
    ] {
        let (early, late, printed) = fed(&lab, arguments, bytes);
        assert!(!printed.is_empty());
        eprintln!("{arguments:?}: {early} KiB after a tenth, {late} KiB after {bytes} bytes");
        assert!(late < early + 16 * 1024, "{arguments:?}: {early} KiB, then {late} KiB");
        assert!(late < 512 * 1024, "{arguments:?}: {late} KiB");
    }
}
