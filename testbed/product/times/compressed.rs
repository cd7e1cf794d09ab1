//! Compressed captures as ports: what was compressed comes in, in every pass; damage is told by its byte of the file.

use std::path::Path;
use std::process::Command;

use tapline_capture::ByteOrder;
use tapline_harness::judges::{self, number};
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_program;

use super::packets::{Form, Timed, assert_same, office, read, write};

const WHOLE: &str = "port attach in replay:in.cap,speed=max\ntool create t capture out.pcapng\nrule create 10 from in to t\n";

/// What a program makes of a file, by arguments that send it to standard output.
fn output(program: &str, arguments: &[&str], path: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).arg(path).output().expect("it runs");
    output.stdout
}

fn programs() -> impl Iterator<Item = &'static str> {
    ["gzip", "zstd", "lz4"].into_iter().filter(|program| has_program(program))
}

#[test]
fn what_was_compressed_comes_in_whatever_the_name_of_the_file() {
    for program in programs() {
        for form in [Form::PcapNs(ByteOrder::Big), Form::Pcapng(ByteOrder::Little)] {
            let lab = Lab::new();
            let packets = office();
            write(&lab.path("plain.cap"), form, &packets);
            lab.write("in.cap", output(program, &["-c"], &lab.path("plain.cap")));
            let account = lab.account(WHOLE, &[]);
            assert_same(program, &read(&lab.path("out.pcapng")), &packets);
            assert_eq!(account.last()["ports"]["in"]["replay"]["ended"], true);
        }
    }
}

#[test]
fn further_passes_decompress_it_again() {
    for program in programs() {
        let lab = Lab::new();
        let packets: Vec<Timed> = office().into_iter().take(101).collect();
        write(&lab.path("plain.cap"), Form::PcapNs(ByteOrder::Little), &packets);
        lab.write("in.cap", output(program, &["-c"], &lab.path("plain.cap")));
        let account = lab.account(&WHOLE.replace("speed=max", "speed=max,loop=3"), &[]);
        let span = packets[100].ns - packets[0].ns;
        let shifted = |pass: u64| {
            let later = move |packet: &Timed| Timed {
                ns: packet.ns + pass * (span + span / 100),
                ..packet.clone()
            };
            packets.iter().map(later)
        };
        let expected: Vec<Timed> = (0..3).flat_map(shifted).collect();
        assert_same(program, &read(&lab.path("out.pcapng")), &expected);
        assert_eq!(account.number("ports/in/replay/passes"), 3);
    }
}

#[test]
fn a_file_that_ends_early_gives_what_its_program_gives_and_the_byte() {
    for program in programs() {
        let lab = Lab::new();
        // one to which blocks of several sizes and kinds belong
        let packets: Vec<Timed> = (0..6).flat_map(|_| office()).collect();
        write(&lab.path("plain.cap"), Form::PcapNs(ByteOrder::Little), &packets);
        let arguments: &[&str] = if program == "lz4" { &["-B4", "-c"] } else { &["-c"] };
        let whole = output(program, arguments, &lab.path("plain.cap"));
        for eighth in [1, 4, 7] {
            let cut = &whole[..whole.len() * eighth / 8];
            lab.write("in.cap", cut);
            lab.write("given.cap", output(program, &["-dc"], &lab.path("in.cap")));
            let ended = lab.run(WHOLE, &[]);
            let what = format!("{program}, {eighth} eighths: {}", ended.stderr);
            assert_ne!(ended.status, Some(0), "{what}");
            let said = format!("at byte {}: the file ends inside its {program} data", cut.len());
            assert!(ended.stderr.contains(&said), "{what}");
            // zstd gives nothing of so little, which `check` finds
            let Some(last) = ended.stats.last() else {
                assert_eq!((ended.status, eighth), (Some(2), 1), "{what}");
                continue;
            };
            assert_eq!(ended.status, Some(1), "{what}");
            judges::assert_balanced(last);
            let got = read(&lab.path("out.pcapng"));
            assert_same(&what, &got, &packets[..got.len()]);
            assert_eq!(number(last, "ports/in/received"), got.len() as u64, "{what}");
            let mut given = tapline_capture::Reader::open(&lab.path("given.cap")).expect("it begins");
            let mut at_least = 0;
            while let Ok(Some(_)) = given.next_record() {
                at_least += 1;
            }
            assert!(got.len() >= at_least && !got.is_empty(), "{what}: {at_least}");
        }
    }
}

#[test]
fn a_plan_with_one_is_checked_by_what_was_compressed() {
    for program in programs() {
        let lab = Lab::new();
        write(&lab.path("plain.cap"), Form::PcapNs(ByteOrder::Little), &office());
        let mut plain = std::fs::read(lab.path("plain.cap")).expect("it was written");
        lab.write("in.cap", output(program, &["-c"], &lab.path("plain.cap")));
        lab.write("test.pipe", WHOLE);
        let check = || lab.tapline(&["check", "test.pipe"]).output().expect("it runs");
        let checked = check();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        // by a driver that reads none
        lab.write("test.pipe", WHOLE.replace("replay:in.cap,speed=max", "net_pcap0,rx_pcap=in.cap"));
        let checked = check();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains(&format!("compressed by {program}")), "{said}");
        lab.write("test.pipe", WHOLE);
        // a link layer that is none of Ethernet's
        plain[20..24].copy_from_slice(&105u32.to_le_bytes());
        lab.write("plain.cap", &plain);
        lab.write("in.cap", output(program, &["-c"], &lab.path("plain.cap")));
        let checked = check();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains("link type 105 (IEEE 802.11)"), "{said}");
    }
}
