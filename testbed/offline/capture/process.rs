//! `tapline filter` as a process: pipes, damage, exit status.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tapline_capture::{ByteOrder, InterfaceId, LinkType, Packet, Writer};
use tapline_harness::programs::tapline;

use super::support::{libpcap_packets, text};

fn filter(args: &[&str]) -> Command {
    let mut command = Command::new(tapline());
    command.arg("filter").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    filter(args).output().expect("tapline starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A pcap of `count` packets of 100 bytes, all ARP.
fn arp_capture(count: u64) -> Vec<u8> {
    let mut writer = Writer::pcap(Vec::new(), ByteOrder::NATIVE, false, LinkType::ETHERNET, 65535)
        .expect("a vector takes all");
    let mut bytes = [0; 100];
    bytes[12..14].copy_from_slice(&[0x08, 0x06]);
    for index in 0..count {
        let time_ns = index * 1_000_000;
        writer
            .write(&Packet {
                interface: InterfaceId(0),
                time_ns,
                bytes: &bytes,
                original_len: 100,
                comments: &[],
            })
            .expect("a vector takes all");
    }
    writer.finish().expect("a vector takes all")
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a writable folder");
    text(&path).to_owned()
}

#[test]
fn a_damaged_file_yields_what_came_before_and_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = arp_capture(100);
    // Packet 60's captured length is at 24 + 60 * 116 + 8.
    bytes[24 + 60 * 116 + 8..][..4].copy_from_slice(&0x7fff_ffffu32.to_ne_bytes());
    let (input, out) =
        (file(folder.path(), "in.pcap", &bytes), text(&folder.path().join("out.pcap")).to_owned());
    let output = run(&["-r", &input, "-w", &out, "arp"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("{input}: at byte {}: ", 24 + 60 * 116)),
        "{}",
        stderr(&output)
    );
    assert_eq!(libpcap_packets(Path::new(&out)).expect("a capture").len(), 60);
}

#[test]
fn a_file_that_ends_early_yields_its_complete_packets() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = file(folder.path(), "in.pcap", &arp_capture(10)[..24 + 7 * 116 + 50]);
    let out = text(&folder.path().join("out.pcap")).to_owned();
    let output = run(&["-r", &input, "-w", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output)
            .contains("at byte 836: the file ends inside the packet, which has 116 bytes; 50 are left"),
        "{}",
        stderr(&output)
    );
    assert_eq!(libpcap_packets(Path::new(&out)).expect("a capture").len(), 7);
}

#[test]
fn mistakes_on_the_command_line_leave_the_output_alone_and_exit_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = file(folder.path(), "in.pcap", &arp_capture(3));
    let out = file(folder.path(), "out.pcap", b"precious");
    for (args, message) in [
        (vec!["-r", &input, "-w", &out, "tcp prot 80"], "syntax error"),
        (vec!["-r", &input, "-w", &out, "arp", "through", "vlam"], "unknown layer `vlam`"),
        (vec!["-r", &input, "-w", &input, "arp"], "is the file that is read"),
        (vec!["-r", &input, "-w", &out, "--format", "gif"], "invalid value"),
        (vec!["-r", &input], "--write"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{args:?}: {}", stderr(&output));
        assert_eq!(std::fs::read(&out).expect("still there"), b"precious");
    }
    assert_eq!(std::fs::read(&input).expect("still there"), arp_capture(3));
}

#[test]
fn files_that_are_no_captures_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = text(&folder.path().join("out.pcap")).to_owned();
    for (bytes, message) in [
        (b"".as_slice(), "is empty"),
        (b"#!/bin/sh\n", "neither a pcap nor a pcapng file"),
        (b"\xd4\xc3\xb2\xa1\x02\0", "file header"),
    ] {
        let input = file(folder.path(), "in", bytes);
        let output = run(&["-r", &input, "-w", &out]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains(&input) && stderr(&output).contains(message),
            "{}",
            stderr(&output)
        );
        assert!(!Path::new(&out).exists());
    }
    let output = run(&["-r", "/nowhere/in.pcap", "-w", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/in.pcap: No such file"), "{}", stderr(&output));
}

/// Reads `len` bytes, or panics where they do not come: a test that fails must not hang.
fn read_within_a_minute(child: &mut Child, len: usize) -> Vec<u8> {
    let mut stdout = child.stdout.take().expect("piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; len];
        let result = stdout.read_exact(&mut bytes).map(|()| bytes);
        let _ = sender.send(result);
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("the bytes come").expect("the pipe is whole")
}

#[test]
fn a_packet_leaves_while_the_pipe_that_it_came_from_is_still_open() {
    let capture = arp_capture(2);
    let mut child = filter(&["-r", "-", "-w", "-", "arp"]).spawn().expect("tapline starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&capture[..24 + 116 + 5]).expect("tapline reads");
    stdin.flush().expect("tapline reads");
    assert_eq!(read_within_a_minute(&mut child, 24 + 116), capture[..24 + 116]);
    drop(stdin);
    child.wait().expect("tapline ends");
}

#[test]
fn pipes_on_both_sides_carry_the_whole_capture() {
    let capture = arp_capture(30_000);
    let mut child = filter(&["-r", "-", "-w", "-", "arp"]).spawn().expect("tapline starts");
    let mut stdin = child.stdin.take().expect("piped");
    let sent = capture.clone();
    let sender = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("tapline ends");
    sender.join().expect("no panic").expect("tapline reads all");
    assert!(output.stdout == capture, "{} of {} bytes", output.stdout.len(), capture.len());
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("30000 of 30000 packets selected"));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = file(folder.path(), "in.pcap", &arp_capture(50_000));
    let mut child = filter(&["-r", &input, "-w", "-", "--quiet"]).spawn().expect("tapline starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("tapline ends");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error_that_names_the_output() {
    if !Path::new("/dev/full").exists() {
        tapline_skip::skipped("no /dev/full");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let input = file(folder.path(), "in.pcap", &arp_capture(5));
    let output = run(&["-r", &input, "-w", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/dev/full: No space left"), "{}", stderr(&output));
}
