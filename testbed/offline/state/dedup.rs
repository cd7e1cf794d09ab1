//! Dedup beside Wireshark's editcap and tcpreplay's tcprewrite, on public captures.

use std::path::{Path, PathBuf};
use std::process::Command;

use tapline_datapath::flow::table::Secret;
use tapline_datapath::route::dedup::{Dedup, DedupSpec, Ignore};
use tapline_harness::captures::{self, Timed, timed};
use tapline_harness::programs::has_program;
use tapline_packet::burst::Selection;
use tapline_packet::frame::Frame;

const WINDOW_NS: u64 = 50_000_000;

fn captures() -> Option<PathBuf> {
    let folder = captures::place().join("zeek");
    let is_there = folder.is_dir();
    if !is_there {
        tapline_skip::skipped("no captures");
    }
    is_there.then_some(folder)
}

fn originals<'a>(packets: impl Iterator<Item = &'a Timed>, ignore: Ignore) -> Vec<usize> {
    originals_within(WINDOW_NS, packets, ignore)
}

fn originals_within<'a>(
    window_ns: u64,
    packets: impl Iterator<Item = &'a Timed>,
    ignore: Ignore,
) -> Vec<usize> {
    let spec = DedupSpec { window_ns, ignore, packets: 100_000, ports: 1 };
    let mut dedup = Dedup::new(spec, &Secret::from_seed(1));
    let mut is_original = |packet: &Timed| {
        let frame = Frame::new(&packet.bytes, packet.original_len);
        dedup.duplicates(Selection::from_bits(1), &[frame], &[0], &[packet.ns]).is_empty()
    };
    packets.enumerate().filter(|(_, packet)| is_original(packet)).map(|(index, _)| index).collect()
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().expect("the program starts").status.success()
}

/// Captures whose times rise, so that a window means the same to both.
fn captures_in_order(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder opens")
        .map(|entry| entry.expect("its entries are read").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    paths.sort();
    paths.retain(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.len() < 2_000_000)
            && pcap::Capture::from_file(path).is_ok()
            && timed(path).is_sorted_by_key(|packet| packet.ns)
    });
    paths
}

#[test]
fn editcap_removes_the_same_packets_within_the_window() {
    let Some(folder) = captures() else { return };
    if !has_program("editcap") || !has_program("mergecap") {
        return;
    }
    let scratch = tempfile::tempdir().expect("there is room for scratch files");
    let path = |name: &str| scratch.path().join(name).to_str().expect("its name is text").to_string();
    let (shifted, merged, kept) = (path("shifted.pcap"), path("merged.pcap"), path("kept.pcap"));
    let (mut compared, mut duplicates) = (0, 0);
    for capture in captures_in_order(&folder) {
        let capture = capture.to_str().expect("its name is text");
        // Every packet comes again 20 ms later, so each capture has duplicates, beside those of its own.
        if !run("editcap", &["-F", "pcap", "-t", "0.02", capture, &shifted])
            || !run("mergecap", &["-F", "pcap", "-w", &merged, capture, &shifted])
            || !run("editcap", &["-F", "pcap", "-w", "0.05", &merged, &kept])
        {
            continue;
        }
        let packets = timed(Path::new(&merged));
        let expected = timed(Path::new(&kept));
        let ours: Vec<&Timed> =
            originals(packets.iter(), Ignore::default()).into_iter().map(|index| &packets[index]).collect();
        assert_eq!(ours.len(), expected.len(), "{capture}: packets kept of {}", packets.len());
        for (number, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            assert!(
                ours.ns == expected.ns && ours.bytes == expected.bytes,
                "{capture}: packet {number} of those kept"
            );
        }
        compared += packets.len();
        duplicates += packets.len() - expected.len();
    }
    println!("{compared} packets compared with editcap, {duplicates} of them duplicates");
    assert!(duplicates > 1000);
}

#[test]
fn editcap_leaves_the_same_of_captures_as_they_are_in_order_or_not() {
    let Some(folder) = captures() else { return };
    if !has_program("editcap") {
        return;
    }
    let scratch = tempfile::tempdir().expect("there is room for scratch files");
    let kept = scratch.path().join("kept.pcap");
    let (mut compared, mut duplicates, mut unordered) = (0, 0, 0);
    for capture in captures::files(&folder) {
        let is_small = std::fs::metadata(&capture).is_ok_and(|metadata| metadata.len() < 2_000_000);
        if !is_small || pcap::Capture::from_file(&capture).is_err() {
            continue;
        }
        let [name, out] = [&capture, &kept].map(|path| path.to_str().expect("its name is text"));
        let packets = timed(&capture);
        let is_in_order = packets.is_sorted_by_key(|packet| packet.ns);
        let windows = [("1", 1_000_000_000), ("0.05", WINDOW_NS)];
        // most are in order, and starting editcap takes most of the time
        for &(window, window_ns) in &windows[..if is_in_order { 1 } else { 2 }] {
            // some captures have more than a pcap file can say
            if !run("editcap", &["-F", "nsecpcap", "-w", window, name, out]) {
                continue;
            }
            let expected = timed(&kept);
            let ours = originals_within(window_ns, packets.iter(), Ignore::default());
            assert_eq!(
                ours.len(),
                expected.len(),
                "{name}: packets kept of {} within {window} s",
                packets.len()
            );
            for (&ours, expected) in ours.iter().zip(&expected) {
                let ours = &packets[ours];
                assert!(
                    ours.ns == expected.ns && ours.bytes == expected.bytes,
                    "{name}: a packet kept within {window} s"
                );
            }
            compared += packets.len();
            duplicates += packets.len() - expected.len();
            unordered += usize::from(!is_in_order);
        }
    }
    println!(
        "{compared} packets compared with editcap, {duplicates} of them duplicates; {unordered} comparisons of captures out of order"
    );
    assert!(duplicates > 100 && unordered > 5, "{duplicates} {unordered}");
}

#[test]
fn copies_that_tcprewrite_changed_are_found_when_the_change_is_ignored() {
    let Some(folder) = captures() else { return };
    if !has_program("tcprewrite") {
        return;
    }
    let scratch = tempfile::tempdir().expect("there is room for scratch files");
    let changed = scratch.path().join("changed.pcap");
    let none = Ignore::default();
    let changes: [(&[&str], Ignore); 4] = [
        (&["--ttl=-1", "-C"], Ignore { ttl: true, ..none }),
        (&["--tos=184", "-C"], Ignore { tos: true, ..none }),
        (&["--enet-dmac=02:00:00:00:00:07", "--enet-smac=02:00:00:00:00:08"], Ignore { mac: true, ..none }),
        (
            &["--enet-vlan=add", "--enet-vlan-tag=40", "--enet-vlan-cfi=0", "--enet-vlan-pri=5"],
            Ignore { vlan: true, ..none },
        ),
    ];
    // From which byte of the original and of the copy both must be the same: behind an IPv4 header, the MAC addresses, the tag.
    let same_from = [(34, 34), (34, 34), (12, 12), (12, 16)];
    let mut found = [0usize; 4];
    for name in [
        "dns53.pcap",
        "conn-size.pcap",
        "http/get.trace",
        "tcp/fin_retransmission.trace",
        "dns-edns-ecs.pcap",
    ] {
        let capture = folder.join(name);
        if !capture.is_file() {
            continue;
        }
        let packets = timed(&capture);
        for (change, (options, ignore)) in changes.iter().enumerate() {
            let (infile, outfile) =
                (format!("--infile={}", capture.display()), format!("--outfile={}", changed.display()));
            let arguments: Vec<&str> =
                options.iter().copied().chain([infile.as_str(), outfile.as_str()]).collect();
            if !run("tcprewrite", &arguments) {
                continue;
            }
            for (original, copy) in packets.iter().zip(&timed(&changed)) {
                if original.bytes == copy.bytes || original.bytes.len() < original.original_len as usize {
                    continue;
                }
                // tcprewrite also repairs checksums that the capture has wrong (offloaded ones): then more differs than was asked.
                let (from, copy_from) = same_from[change];
                if original.bytes.get(from..) != copy.bytes.get(copy_from..)
                    || original.bytes[12..14] != [8, 0]
                {
                    continue;
                }
                assert_eq!(
                    originals([original, copy].into_iter(), none).len(),
                    2,
                    "{name} {options:?}: nothing is ignored"
                );
                assert_eq!(
                    originals([original, copy].into_iter(), *ignore).len(),
                    1,
                    "{name} {options:?}: one packet\n{:02x?}\n{:02x?}",
                    original.bytes,
                    copy.bytes
                );
                found[change] += 1;
            }
        }
    }
    println!("copies found: {found:?} with another TTL, TOS, MAC addresses, VLAN tag");
    assert!(found.iter().all(|&count| count > 10), "{found:?}");
}
