//! The same packets as tcpdump: what `tcpdump -r FILE EXPRESSION` counts and writes, `Filters` selects.

use std::path::Path;
use std::process::Command;

use tapline_filter::compile;
use tapline_filter::{Filters, Program};
use tapline_harness::captures;
use tapline_harness::pcap_files::write_capture;
use tapline_harness::programs::has_program;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// The bytes of the packets that tcpdump writes for `expression`.
fn tcpdump(file: &Path, expression: &str, out: &Path) -> Vec<captures::Packet> {
    let _ = std::fs::remove_file(out);
    let run = Command::new("tcpdump")
        .arg("-r")
        .arg(file)
        .arg("-w")
        .arg(out)
        .arg("--")
        .arg(expression)
        .output()
        .expect("tcpdump runs");
    assert!(out.exists(), "{expression}: {}", String::from_utf8_lossy(&run.stderr));
    captures::packets(out)
}

#[test]
fn captures_filtered_by_tcpdump_hold_what_we_select() {
    let Some(folder) = captures::folder() else { return };
    if !has_program("tcpdump") {
        return;
    }
    // One large capture of everything keeps the number of tcpdump runs at one an expression.
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let all = scratch.path().join("all.pcap");
    let packets: Vec<captures::Packet> =
        captures::ethernet(&folder).iter().flat_map(|file| captures::packets(file)).collect();
    write_capture(&all, packets.iter().map(|packet| (&packet.bytes[..], packet.original_len)));
    let expressions = captures::expressions();
    let programs: Vec<Program> =
        expressions.iter().map(|text| compile(text).expect("a valid expression")).collect();
    let filters = Filters::build(&programs);
    let mut selected: Vec<Vec<&captures::Packet>> = vec![Vec::new(); programs.len()];
    let mut selections = vec![Selection::NONE; programs.len()];
    for burst in packets.chunks(MAX_BURST) {
        let frames: Vec<Frame<'_>> =
            burst.iter().map(|packet| Frame::new(&packet.bytes, packet.original_len)).collect();
        filters.select(&frames, &mut selections);
        for (selected, selection) in selected.iter_mut().zip(&selections) {
            selected.extend(selection.indices().map(|index| &burst[index]));
        }
    }
    for (expression, selected) in expressions.iter().zip(&selected) {
        let expected = tcpdump(&all, expression, &scratch.path().join("out.pcap"));
        assert_eq!(selected.len(), expected.len(), "{expression}");
        assert!(selected.iter().copied().eq(&expected), "{expression}: other packets than tcpdump's");
    }
    let with_matches = selected.iter().filter(|selected| !selected.is_empty()).count();
    println!(
        "{} expressions, {with_matches} of which match some of {} packets",
        expressions.len(),
        packets.len()
    );
    assert!(with_matches * 2 > expressions.len(), "the captures exercise too few expressions");
}

#[test]
fn expressions_that_tcpdump_refuses_are_refused_with_its_words() {
    if !has_program("tcpdump") {
        return;
    }
    for expression in
        ["tcp prot 80", "host", "vlan 5000", "port 70000", "ip[", "net 10.0.0.1/8", "mpls 1048576", "1 <<"]
    {
        let run = Command::new("tcpdump")
            .args(["-d", "-y", "EN10MB", "--", expression])
            .output()
            .expect("tcpdump runs");
        let words = String::from_utf8_lossy(&run.stderr);
        let words = words.lines().last().unwrap_or_default().trim_start_matches("tcpdump: ");
        assert!(!run.status.success(), "{expression}");
        assert_eq!(compile(expression).expect_err(expression).to_string(), words, "{expression}");
    }
}
