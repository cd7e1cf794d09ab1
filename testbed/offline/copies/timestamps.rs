//! Every timestamp format, read back by tshark to the nanosecond.

use std::path::PathBuf;

use proptest::prelude::*;
use tapline_api::words::{ClockQuality, TimestampFormat};
use tapline_datapath::copies::facts::{CopyFacts, Stamp};
use tapline_datapath::copies::timestamp::{HEADER_LEN, MAX_TRAILER_LEN, Timestamp};
use tapline_datapath::copies::transport::{Encapsulation, MAX_HEADER_BYTES, Outer, Transport};
use tapline_harness::frames::{OUTER_DESTINATION, OUTER_SOURCE, TIME_NS, arp, frames, tcp4, udp4};
use tapline_harness::pcap_files::{read_pcap, write_frames};
use tapline_harness::programs::{has_program, run};
use tapline_harness::tshark::{assert_sound, fields};

fn facts(quality: ClockQuality) -> CopyFacts {
    CopyFacts { stamp: Stamp { ns: TIME_NS, quality, degraded: false }, port: 9, ..Default::default() }
}

/// The copy with its stamp, the frame given in two pieces.
fn stamped(format: Timestamp, facts: &CopyFacts, frame: &[u8], min_len: usize) -> Vec<u8> {
    let (mut header, mut trailer) = ([0; HEADER_LEN], [0; MAX_TRAILER_LEN]);
    let written = format.write_header(facts, frame, &mut header);
    let (first, second) = frame.split_at(frame.len().min(101));
    let end = format.write_trailer(facts, &[first, second], min_len, &mut trailer);
    let mut out = header[..written.header_bytes].to_vec();
    out.extend(&frame[written.replaced_bytes..end.keep_len]);
    out.extend(&trailer[..end.len]);
    out
}

const fn at(format: TimestampFormat) -> Timestamp {
    Timestamp { format, device: 513 }
}

const FORMATS: [Timestamp; 5] = [
    at(TimestampFormat::Ixia),
    at(TimestampFormat::Metamako),
    at(TimestampFormat::Vss),
    at(TimestampFormat::Arista),
    at(TimestampFormat::Gigamon),
];

const QUALITIES: [ClockQuality; 5] =
    [ClockQuality::Free, ClockQuality::Ntp, ClockQuality::Gps, ClockQuality::Ptp, ClockQuality::Holdover];

/// The frames with each quality of clock in turn, stamped and written to a file.
fn file(format: Timestamp) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("stamped.pcap");
    let packets: Vec<_> = QUALITIES
        .iter()
        .flat_map(|quality| frames().into_iter().map(|frame| stamped(format, &facts(*quality), &frame, 0)))
        .collect();
    write_frames(&path, &packets);
    (folder, path)
}

/// Metamako is off by default, and VSS would take its trailers.
const METAMAKO: [&str; 4] =
    ["--enable-heuristic", "metamako_eth", "--disable-heuristic", "vssmonitoring_eth"];

fn check(
    format: Timestamp,
    options: &[&str],
    names: &[&str],
    expected: impl Fn(ClockQuality) -> Vec<&'static str>,
) {
    if !has_program("tshark") {
        return;
    }
    let (_folder, path) = file(format);
    assert_sound(&path, options);
    let rows = fields(&path, options, names);
    let frames_count = frames().len();
    assert_eq!(rows.len(), QUALITIES.len() * frames_count);
    for (index, row) in rows.iter().enumerate() {
        let quality = QUALITIES[index / frames_count];
        assert_eq!(row[..], expected(quality), "{format:?}, packet {}", index + 1);
    }
}

/// As tshark writes absolute times.
const TIME: &str = "Nov 14, 2023 22:13:20.123456789 UTC";

#[test]
fn ixia_trailers_say_time_and_source() {
    check(at(TimestampFormat::Ixia), &[], &["ixiatrailer.timestamp"], |_| vec![TIME]);
    if !has_program("tshark") {
        return;
    }
    let (_folder, path) = file(at(TimestampFormat::Ixia));
    let text = run("tshark", &["-n", "-r", path.to_str().expect("utf-8"), "-O", "ixiatrailer"]);
    for source in ["Local", "NTP", "GPS", "PTP", "Holdover"] {
        let said = text
            .lines()
            .filter(|line| line.contains("Time Stamp") && line.ends_with(&format!("Source: {source}")))
            .count();
        assert_eq!(said, frames().len(), "{source}: {text}");
    }
}

#[test]
fn vss_trailers_say_time_clock_and_port() {
    check(
        at(TimestampFormat::Vss),
        &[],
        &["vssmonitoring.time", "vssmonitoring.clksrc", "vssmonitoring.srcport"],
        |quality| {
            let source = match quality {
                ClockQuality::Free | ClockQuality::Holdover => "0",
                ClockQuality::Ntp => "1",
                ClockQuality::Gps => "2",
                ClockQuality::Ptp => "3",
            };
            vec![TIME, source, "9"]
        },
    );
}

#[test]
fn metamako_trailers_say_time_device_and_port_and_keep_the_fcs() {
    let names = [
        "metamako.time",
        "metamako.srcdevice",
        "metamako.srcport",
        "metamako.flags",
        "metamako.flags.orig_fcs_vld",
    ];
    check(at(TimestampFormat::Metamako), &METAMAKO, &names, |_| vec![TIME, "513", "9", "0x01", "1"]);
    // The check value of CRC-32 (ITU-T V.42): cbf43926 for the nine digits; an FCS goes out low byte first.
    let format = Timestamp::from(TimestampFormat::Metamako);
    let out = stamped(format, &facts(ClockQuality::Free), b"123456789", 0);
    assert_eq!(out[9..13], [0x26, 0x39, 0xf4, 0xcb]);
    let cut = CopyFacts { truncated: true, ..facts(ClockQuality::Free) };
    assert_eq!(stamped(format, &cut, b"12345", 0)[5..9], [0; 4]);
    let degraded = CopyFacts { stamp: Stamp { degraded: true, ..cut.stamp }, ..cut };
    assert_eq!(
        (stamped(format, &cut, b"12345", 0)[17], stamped(format, &degraded, b"12345", 0)[17]),
        (0, 0x10)
    );
}

#[test]
fn a_degraded_time_names_no_reference_in_formats_that_cannot_say_so() {
    let of = |format, quality, degraded| {
        let stamp = Stamp { ns: TIME_NS, quality, degraded };
        let frame = udp4(61);
        stamped(format, &CopyFacts { stamp, ..facts(quality) }, &frame, 0)
    };
    for format in [at(TimestampFormat::Ixia), at(TimestampFormat::Vss), at(TimestampFormat::Gigamon)] {
        assert_eq!(
            of(format, ClockQuality::Ptp, true),
            of(format, ClockQuality::Free, false),
            "{format:?}"
        );
        assert_ne!(
            of(format, ClockQuality::Ptp, false),
            of(format, ClockQuality::Free, false),
            "{format:?}"
        );
    }
}

#[test]
fn arista_headers_say_time_and_the_frame_goes_on() {
    let names = ["avsp.ver", "avsp.64sec", "avsp.64ns", "eth.src"];
    check(at(TimestampFormat::Arista), &[], &names, |_| {
        vec!["0x0110", "1700000000", "123456789", "02:00:00:00:00:01"]
    });
    for frame in frames() {
        let out = stamped(at(TimestampFormat::Arista), &facts(ClockQuality::Ptp), &frame, 60);
        assert_eq!((&out[..12], &out[26..]), (&frame[..12], &frame[12..]));
    }
}

#[test]
fn gigamon_trailers_say_time_port_and_size() {
    if !has_program("tshark") {
        return;
    }
    let (_folder, path) = file(at(TimestampFormat::Gigamon));
    assert_sound(&path, &[]);
    let names = ["gmhdr.timestamp", "gmhdr.pktsize", "gmhdr.srcport_g_pid"];
    let rows = fields(&path, &[], &names);
    assert_eq!(rows.len(), QUALITIES.len() * frames().len());
    for (row, frame) in rows.iter().zip(frames().iter().cycle()) {
        assert_eq!(row[..], [TIME, &frame.len().to_string(), "9"]);
    }
    let text = run("tshark", &["-n", "-r", path.to_str().expect("utf-8"), "-O", "gmtrailer,gmhdr"]);
    for (source, times) in [("Local", 2), ("NTP", 1), ("GPS", 1), ("1588", 1)] {
        let said = text
            .lines()
            .filter(|line| line.contains("Time Stamp") && line.ends_with(&format!("Source: {source}")))
            .count();
        assert_eq!(said, times * frames().len(), "{source}: {text}");
    }
}

#[test]
fn the_formats_equal_a_writer_of_another_hand() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/tools/hwts-pcaps.py");
    if !std::path::Path::new(script).exists() || !has_program("python3") {
        tapline_skip::skipped(format_args!("no {script}"));
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    run("python3", &[script, folder.path().to_str().expect("utf-8")]);
    // The frame of that writer carries 60 bytes of UDP, 102 in all; its port and source differ from file to file.
    for (name, format, quality, port) in [
        ("ixia", at(TimestampFormat::Ixia), ClockQuality::Ptp, 0),
        ("vss9", at(TimestampFormat::Vss), ClockQuality::Gps, 7),
        ("metamako", at(TimestampFormat::Metamako), ClockQuality::Free, 9),
        ("arista64", at(TimestampFormat::Arista), ClockQuality::Free, 0),
    ] {
        let packets = read_pcap(&folder.path().join(format!("{name}.pcap"))).expect("it writes pcap");
        let expected = &packets[0].1;
        let frame = match format.format {
            TimestampFormat::Arista => [&expected[..12], &expected[26..]].concat(),
            _ => expected[..102].to_vec(),
        };
        let facts = CopyFacts { port, ..facts(quality) };
        assert_eq!(&stamped(format, &facts, &frame, 60), expected, "{name}");
    }
}

#[test]
fn padding_goes_before_a_trailer_that_must_follow_the_packet() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("padded.pcap");
    // A TCP segment without payload, padded to 60 bytes as it comes from a wire, and an ARP request, as they go into a tunnel.
    let padded = |mut frame: Vec<u8>| {
        frame.resize(60, 0);
        frame
    };
    let frames = [padded(tcp4(0)), padded(arp()), padded(udp4(1))];
    write_frames(
        &path,
        &frames
            .clone()
            .map(|frame| stamped(at(TimestampFormat::Ixia), &facts(ClockQuality::Ptp), &frame, 0)),
    );
    assert_eq!(fields(&path, &[], &["ixiatrailer.timestamp"]), [[TIME], [TIME], [TIME]]);
    write_frames(
        &path,
        &frames
            .clone()
            .map(|frame| stamped(at(TimestampFormat::Vss), &facts(ClockQuality::Ptp), &frame, 0)),
    );
    assert_eq!(fields(&path, &[], &["vssmonitoring.time"]), [[TIME], [TIME], [TIME]]);
    // To a local port no frame gets so short that the wire would pad it behind the trailer.
    for format in FORMATS {
        for frame in &frames {
            assert!(stamped(format, &facts(ClockQuality::Ptp), frame, 60).len() >= 60);
        }
    }
}

#[test]
fn a_stamped_frame_goes_through_a_tunnel() {
    if !has_program("tshark") {
        return;
    }
    let outer = Outer {
        source_mac: OUTER_SOURCE,
        destination_mac: OUTER_DESTINATION,
        vlan: None,
        source: "2001:db8::5".parse().expect("an address"),
        destination: "2001:db8::6".parse().expect("an address"),
        dscp: 0,
        ttl: 64,
        dont_fragment: true,
    };
    let transport = Transport::tunnel(
        &outer,
        &Encapsulation::Vxlan { vni: 1, udp_port: None, udp_checksum: Some(true) },
    )
    .expect("it is valid");
    let mut packets = Vec::new();
    for frame in frames() {
        let facts = facts(ClockQuality::Ptp);
        let (mut header, mut trailer) = ([0; MAX_HEADER_BYTES], [0; MAX_TRAILER_LEN]);
        let end = at(TimestampFormat::Ixia).write_trailer(&facts, &[&frame], 0, &mut trailer);
        let written = transport.write(&facts, &[&frame[..end.keep_len], &trailer[..end.len]], &mut header);
        packets
            .push([&header[..written.header_bytes], &frame[..end.keep_len], &trailer[..end.len]].concat());
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tunnelled.pcap");
    write_frames(&path, &packets);
    assert_sound(&path, &[]);
    for row in fields(&path, &[], &["ixiatrailer.timestamp"]) {
        assert_eq!(row, [TIME]);
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_stamped(frame in proptest::collection::vec(any::<u8>(), 0..200), index in 0usize..5, min_len in 0usize..80, port: u16, ns: u64) {
        let format = FORMATS[index];
        let facts = CopyFacts { stamp: Stamp { ns, ..Default::default() }, port, ..Default::default() };
        let out = stamped(format, &facts, &frame, min_len);
        prop_assert!(out.len() <= frame.len() + format.added_len());
        if format.has_trailer() {
            // What stays of the frame is its front.
            prop_assert!(frame.starts_with(&out[..out.len() - format.added_len()]));
        }
    }
}
