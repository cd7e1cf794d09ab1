//! Compressed captures, by the programs that compressed them.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tapline_capture::{ByteOrder, InterfaceId, LinkType, Packet, Reader, Writer};
use tapline_harness::programs::{has_program, tapline};

use super::support::{PlainPacket, libpcap_packets, our_packets, text};
use crate::fuzz::capture::read_anything;

/// The programs, each with the arguments that compress standard input in a way of its own.
const WAYS: [&[&str]; 11] = [
    &["gzip", "-1"],
    &["gzip", "-9"],
    &["zstd", "-q", "-1"],
    &["zstd", "-q", "-19"],
    &["zstd", "-q", "--no-check", "-3"],
    &["zstd", "-q", "--long=27", "-3"],
    &["lz4", "-q", "-1"],
    &["lz4", "-q", "-9", "-B4", "-BD"],
    &["lz4", "-q", "-B5", "-BX"],
    &["lz4", "-q", "-B7", "-BD", "--content-size"],
    &["lz4", "-q", "--no-frame-crc"],
];

/// What `program` makes of `bytes`, and whether it found nothing wrong.
fn piped(command: &[&str], bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // one that sees damage reads no further
        scope.spawn(move || {
            let _ = stdin.write_all(bytes);
        });
        child.wait_with_output().expect("it ends")
    });
    (output.stdout, output.status.success())
}

fn compressed(way: &[&str], bytes: &[u8]) -> Vec<u8> {
    let way: Vec<&str> = way.iter().copied().chain(["-c"]).collect();
    let (compressed, is_done) = piped(&way, bytes);
    assert!(is_done, "{way:?}");
    compressed
}

/// Packets that are hard to compress and packets that are not, in a pcap of some 600 kB or more.
fn capture(count: u64) -> Vec<u8> {
    let mut writer = Writer::pcap(Vec::new(), ByteOrder::Little, true, LinkType::ETHERNET, 262_144)
        .expect("a vector takes all");
    let mut state = 88_172_645_463_325_252u64;
    for index in 0..count {
        let len = 60 + (index * 7919 % 1400) as usize;
        let bytes: Vec<u8> = (0..len)
            .map(|at| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if index % 3 == 0 { state as u8 } else { (at / 9) as u8 }
            })
            .collect();
        let packet = Packet {
            interface: InterfaceId(0),
            time_ns: index * 1_000_003,
            bytes: &bytes,
            original_len: len as u32 + (index % 2) as u32,
            comments: &[],
        };
        writer.write(&packet).expect("a vector takes all");
    }
    writer.finish().expect("a vector takes all")
}

fn ways() -> impl Iterator<Item = &'static [&'static str]> {
    WAYS.into_iter().filter(|way| has_program(way[0]))
}

/// The packets of a compressed capture, and what is wrong at its end: by a thread of its own and without, which is the same.
fn read(bytes: &[u8]) -> (Vec<PlainPacket>, Option<String>) {
    let by = |is_ahead: bool| {
        let stream = Box::new(Cursor::new(bytes.to_vec()));
        let reader = if is_ahead { Reader::decompressing(stream) } else { Reader::from_stream(stream) };
        let mut packets = Vec::new();
        let result = reader.and_then(|mut reader| {
            while let Some(record) = reader.next_record()? {
                packets.push(PlainPacket {
                    time_ns: record.time_ns,
                    original_len: record.original_len,
                    bytes: record.bytes.to_vec(),
                });
            }
            Ok(())
        });
        (packets, result.err().map(|error| error.to_string()))
    };
    let (ahead, alone) = (by(true), by(false));
    assert!(ahead == alone, "{:?} {:?}", ahead.1, alone.1);
    ahead
}

/// What our reader finds in bytes that are not compressed.
fn packets(bytes: &[u8]) -> Vec<PlainPacket> {
    Reader::from_stream(Box::new(Cursor::new(bytes.to_vec()))).map(our_packets).unwrap_or_default()
}

#[test]
fn what_was_compressed_is_read_as_it_was_also_of_several_members_and_frames() {
    let plain = capture(1500);
    let expected = packets(&plain);
    assert_eq!(expected.len(), 1500);
    for way in ways() {
        let (packets, error) = read(&compressed(way, &plain));
        assert!(error.is_none() && packets == expected, "{way:?}: {error:?}, {} packets", packets.len());
        // one behind another, cut anywhere, an empty one between
        let (one, rest) = plain.split_at(plain.len() / 3 + 5);
        let members = [one, &[], rest].map(|part| compressed(way, part)).concat();
        let (packets, error) = read(&members);
        assert!(error.is_none() && packets == expected, "{way:?}: {error:?}, {} packets", packets.len());
    }
    for (program, skipped) in [("zstd", 0x50), ("lz4", 0x5a)] {
        if !has_program(program) {
            continue;
        }
        let skipped = [&[skipped, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], &[7; 5]].concat();
        let frame = compressed(&[program, "-q"], &plain);
        let mut file = [&frame[..], &skipped].concat();
        assert!(read(&file) == (expected.clone(), None), "{program}: a frame to be skipped behind");
        if program == "zstd" {
            file = [&skipped[..], &frame].concat();
            assert!(read(&file) == (expected.clone(), None), "a frame to be skipped in front");
        }
    }
}

/// RFC 1952, 8, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn a_gzip_header_may_have_all_fields_and_zeros_may_follow() {
    if !has_program("gzip") {
        return;
    }
    let plain = capture(100);
    let expected = packets(&plain);
    let bare = compressed(&["gzip", "-n"], &plain);
    let mut full = bare.clone();
    // extra field, name, comment, checksum of the header
    full[3] = 0x1e;
    full.splice(10..10, [&[3, 0, 1, 2, 3][..], b"name\0", b"a comment\0"].concat());
    let header_len = 10 + 5 + 5 + 10;
    let checksum = crc32(&full[..header_len]).to_le_bytes();
    full.splice(header_len..header_len, [checksum[0], checksum[1]]);
    full.extend([0; 700]);
    assert_eq!(piped(&["gzip", "-dc"], &full).0.len(), plain.len());
    assert!(read(&full) == (expected.clone(), None));
    let behind = [&bare[..], b"\0\0no member"].concat();
    let (packets, error) = read(&behind);
    assert!(packets == expected);
    let said = format!("at byte {}: the gzip data is damaged: what follows is no member", bare.len() + 2);
    assert_eq!(error, Some(said));
}

#[test]
fn of_a_truncated_file_all_is_read_that_its_own_program_gives_and_the_end_is_told() {
    let plain = capture(3000);
    let expected = packets(&plain);
    for way in ways() {
        let whole = compressed(way, &plain);
        for eighth in 1..8 {
            let cut = &whole[..whole.len() * eighth / 8];
            let (given, _) = piped(&[way[0], "-dc"], cut);
            let (packets, error) = read(cut);
            let what = format!("{way:?}, {eighth} eighths");
            let error = error.unwrap_or_else(|| panic!("{what}: no error"));
            let said = format!("at byte {}: the file ends inside its {} data", cut.len(), way[0]);
            assert_eq!(error, said, "{what}");
            assert!(expected.starts_with(&packets), "{what}");
            let at_least = self::packets(&given).len();
            assert!(packets.len() >= at_least, "{what}: {} instead of {at_least}", packets.len());
            // blocks have 4 MiB at most, and this file is shorter: lz4 gives all or nothing of those
            assert!(!packets.is_empty() || matches!(way[0], "lz4" | "zstd"), "{what}");
        }
        // the end of the last member or frame
        for cut in [1, 3, 5] {
            let error = read(&whole[..whole.len() - cut]).1;
            assert!(
                error.is_some_and(|error| error.contains("the file ends inside its")),
                "{way:?}, {cut}"
            );
        }
    }
}

#[test]
fn damage_is_told_at_its_byte_or_behind_it_and_never_passed_in_silence() {
    let plain = capture(3000);
    let expected = packets(&plain);
    for way in ways() {
        let whole = compressed(way, &plain);
        let has_checksum = !way.contains(&"--no-check") && !way.contains(&"--no-frame-crc");
        for eighth in 0..8 {
            let mut damaged = whole.clone();
            let at = 20 + (damaged.len() - 40) * eighth / 8;
            damaged[at..at + 4].iter_mut().for_each(|byte| *byte ^= 0xa5);
            let (given, is_sound) = piped(&[way[0], "-dc"], &damaged);
            let what = format!("{way:?}, {eighth} eighths");
            let (packets, error) = read(&damaged);
            let is_of_compression = |error: &String| {
                error.contains("data is damaged") || error.contains("the file ends inside its")
            };
            // what comes out of damaged data may be no capture before its checksum is wrong
            assert!(error.is_some() || is_sound, "{what}");
            assert!(!is_sound || !error.as_ref().is_some_and(is_of_compression), "{what}: {error:?}");
            assert!(error.is_some() || !has_checksum, "{what}");
            let Some(error) = error else { continue };
            // all that came before the damage, and what of it is told where
            let before = packets.iter().zip(&expected).take_while(|(one, other)| one == other).count();
            assert!(before <= packets.len(), "{what}");
            let of_program = self::packets(&given);
            let of_program =
                of_program.iter().zip(&expected).take_while(|(one, other)| one == other).count();
            assert!(before >= of_program, "{what}: {before} instead of {of_program}");
            if error.contains("data is damaged") {
                let place = error.strip_prefix("at byte ").and_then(|rest| rest.split(':').next());
                let place: usize =
                    place.and_then(|place| place.parse().ok()).unwrap_or_else(|| panic!("{error}"));
                assert!(place <= whole.len(), "{what}: {error}");
                // zstd and lz4 tell the block's begin, gzip where the data makes no sense
                assert!(place + (4 << 20) >= at, "{what}: {error}");
            }
        }
    }
}

#[test]
fn bytes_that_are_changed_at_random_never_panic() {
    let plain = capture(60);
    let mut state = 7u64;
    for way in ways() {
        let whole = compressed(way, &plain);
        for round in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..3 {
                state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize
                    % damaged.len().min(if state & 1 == 0 { 40 } else { usize::MAX });
                damaged[at] = (state >> 20) as u8;
            }
            let _ = read(&damaged);
            // in pieces of a few bytes the same packets come, and the same is told
            if round % 4 == 0 {
                read_anything(&damaged);
            }
        }
    }
}

#[test]
fn a_capture_that_is_damaged_inside_is_told_by_its_own_byte() {
    if !has_program("gzip") {
        return;
    }
    let plain = capture(100);
    let cut = &plain[..plain.len() - 10];
    let error = read(&compressed(&["gzip"], cut)).1.expect("the last packet is cut");
    assert!(error.contains(" of what was compressed: the file ends inside the packet"), "{error}");
    let error = read(&compressed(&["gzip"], b"no capture")).1.expect("no capture");
    assert!(
        error.starts_with("at byte 0 of what was compressed: neither a pcap nor a pcapng file"),
        "{error}"
    );
    let error = read(&compressed(&["gzip"], b"")).1.expect("no capture");
    assert!(error.contains("the file is empty"), "{error}");
    let error = read(b"BZh91AY").1.expect("no capture");
    assert!(error.contains("as bzip2 writes; bzip2 -dc FILE"), "{error}");
}

fn filter(args: &[&str], stdin: Stdio) -> Output {
    Command::new(tapline()).arg("filter").args(args).stdin(stdin).output().expect("tapline starts")
}

#[test]
fn the_filter_reads_compressed_files_and_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    // longer than what several threads read
    let plain = capture(8000);
    let expected = packets(&plain);
    let wanted: Vec<_> = expected.iter().filter(|packet| packet.original_len > 700).cloned().collect();
    for way in ways() {
        let input = folder.path().join("in");
        std::fs::write(&input, compressed(way, &plain)).expect("a writable folder");
        let out = folder.path().join("out.pcap");
        let args = |input| ["-r", input, "-w", text(&out), "len > 700"].map(str::to_owned);
        for is_piped in [false, true] {
            let stdin = if is_piped {
                Stdio::from(std::fs::File::open(&input).expect("a file"))
            } else {
                Stdio::null()
            };
            let args = args(if is_piped { "-" } else { text(&input) });
            let output = filter(&args.each_ref().map(String::as_str), stdin);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{way:?}: {said}");
            assert!(libpcap_packets(&out).expect("a capture") == wanted, "{way:?}: {said}");
        }
    }
}

#[test]
fn damage_of_a_compressed_file_ends_the_filter_with_status_1_and_its_byte() {
    if !has_program("gzip") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let whole = compressed(&["gzip"], &capture(1000));
    let cut = &whole[..whole.len() / 2];
    let (input, out) = (folder.path().join("in.pcap.gz"), folder.path().join("out.pcap"));
    std::fs::write(&input, cut).expect("a writable folder");
    let output = filter(&["-r", text(&input), "-w", text(&out)], Stdio::null());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("at byte {}: the file ends inside its gzip data", cut.len())), "{said}");
    assert!(libpcap_packets(&out).expect("a capture") == read(cut).0);
}

/// The most memory that the filter had while it read a file, in MiB.
fn peak_mib(input: &Path) -> (u64, String) {
    let mut command = Command::new("/usr/bin/env");
    command.args(["python3", "-c"]).arg(
        "import resource, subprocess, sys\n\
         done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)\n\
         print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stderr.decode())",
    );
    command.arg(tapline()).args(["filter", "-r", text(input), "-w", "/dev/null", "tcp"]);
    let output = command.output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (kib, said) = said.split_once(' ').unwrap_or_else(|| panic!("{said}"));
    (kib.parse::<u64>().expect("a number") / 1024, said.to_owned())
}

#[test]
fn a_gibibyte_that_was_compressed_to_little_takes_no_memory() {
    if !has_program("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, capture(10)).expect("a writable folder");
    let (base, said) = peak_mib(&plain);
    assert!(said.contains("of 10 packets"), "{said}");
    // a header, and records without bytes: 1 GiB of zeros
    let header = &capture(0)[..24];
    for (way, most) in [
        (&["gzip", "-1"][..], 10),
        (&["zstd", "-q", "-1"], 12),
        (&["zstd", "-q", "-19", "--long=27", "-T1"], 150),
        (&["lz4", "-q", "-1"], 24),
    ] {
        if !has_program(way[0]) {
            continue;
        }
        let bomb = folder.path().join("bomb");
        let mut child = Command::new(way[0])
            .args(&way[1..])
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&bomb).expect("a writable folder"))
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(header).expect("it reads");
        let zeros = vec![0; 1 << 20];
        let gibibyte = if way.contains(&"-19") { 256 } else { 1024 };
        (0..gibibyte).for_each(|_| stdin.write_all(&zeros).expect("it reads"));
        drop(stdin);
        assert!(child.wait().expect("it ends").success());
        let (peak, said) = peak_mib(&bomb);
        assert!(said.contains(&format!("of {} packets", gibibyte << 16)), "{way:?}: {said}");
        assert!(peak <= base + most, "{way:?}: {peak} MiB, {base} for a small file");
    }
}

#[test]
fn a_window_that_zstd_itself_refuses_is_refused() {
    if !has_program("zstd") {
        return;
    }
    let plain = capture(2000);
    let wide = compressed(&["zstd", "-q", "--long=28", "-1"], &plain);
    assert!(!piped(&["zstd", "-dc"], &wide).1, "zstd takes it");
    let (packets, error) = read(&wide);
    assert!(packets.is_empty());
    assert!(error.is_some_and(|error| error.contains("more than 128 MiB")));
}
