//! Every format of times carries the NIC's, as tshark reads it.

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::programs::has_program;
use tapline_harness::simnic::{Simnic, Word};
use tapline_harness::tshark::fields;

use super::{Carried, NIC, Said, assert_true, is_fitted, wait_for};

/// Metamako is off by default in tshark, and VSS would take its trailers.
pub(super) const METAMAKO: [&str; 4] =
    ["--enable-heuristic", "metamako_eth", "--disable-heuristic", "vssmonitoring_eth"];

/// An absolute time as tshark writes it: `Dec  1, 2026 00:10:22.123456789 UTC`.
fn absolute_ns(text: &str) -> u64 {
    let text = text.replace("  ", " ");
    let time = DateTime::strptime("%b %d, %Y %H:%M:%S%.f UTC", &text)
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    time.to_zoned(TimeZone::UTC).expect("a time").timestamp().as_nanosecond() as u64
}

/// Seconds and nanoseconds, or a decimal fraction.
fn split_ns(seconds: &str, nanoseconds: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("no number: {text}"));
    number(seconds) * 1_000_000_000 + number(nanoseconds)
}

fn epoch_ns(text: &str) -> u64 {
    let (seconds, fraction) = text.split_once('.').expect("a fraction");
    assert_eq!(fraction.len(), 9, "nanoseconds: {text}");
    split_ns(seconds, fraction)
}

/// The number that a frame has in its payload (`numbered`).
fn number(payload: &str) -> usize {
    let digits = payload.get(..8).unwrap_or_else(|| panic!("no payload: {payload}"));
    usize::from_str_radix(digits, 16).expect("hexadecimal")
}

/// The times in a capture of copies with metamako trailers.
pub(super) fn metamako(path: &Path) -> Vec<Carried> {
    let rows = fields(path, &METAMAKO, &["udp.payload", "metamako.time", "metamako.flags"]);
    let of = |row: &Vec<String>| {
        let flags = u8::from_str_radix(row[2].trim_start_matches("0x"), 16);
        let flags = flags.unwrap_or_else(|_| panic!("no trailer within 30 days of the capture: {row:?}"));
        Carried { number: number(&row[0]), ns: absolute_ns(&row[1]), is_degraded: Some(flags & 0x10 != 0) }
    };
    rows.iter().map(of).collect()
}

/// The times that a capture has of its packets.
pub(super) fn captured(path: &Path) -> Vec<Carried> {
    let rows = fields(path, &[], &["udp.payload", "frame.time_epoch"]);
    rows.iter()
        .map(|row| Carried { number: number(&row[0]), ns: epoch_ns(&row[1]), is_degraded: None })
        .collect()
}

/// The times of another format: the fields of one time.
fn carried(path: &Path, names: &[&str]) -> Vec<Carried> {
    let all: Vec<&str> = ["udp.payload"].iter().chain(names).copied().collect();
    let ns = |row: &[String]| match row {
        [_, text] => absolute_ns(text),
        [_, seconds, nanoseconds] => split_ns(seconds, nanoseconds),
        _ => panic!("{row:?}"),
    };
    fields(path, &[], &all)
        .iter()
        .map(|row| Carried { number: number(&row[0]), ns: ns(row), is_degraded: None })
        .collect()
}

/// The tools of these formats, each with a capture of its own: NAME.pcap.
const TOOLS: [(&str, &str); 6] = [
    ("metamako", "timestamp metamako"),
    ("ixia", "timestamp ixia"),
    ("vss", "timestamp vss"),
    ("arista", "timestamp arista"),
    ("gigamon", "timestamp gigamon"),
    (
        "erspan3",
        "erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09 timestamp erspan3",
    ),
];

#[test]
fn every_format_carries_the_nics_time_within_the_bound_that_is_stated() {
    if !has_program("tshark") {
        return;
    }
    let bench = Bench::new();
    let Some(nic) = Simnic::new(&bench, &[(NIC, "stamps=1 hz=312500000 ppm=41.7 start=987654321012345")])
    else {
        return;
    };
    let frames = numbered(200, 120, &[40_000]);
    nic.bring(NIC, &frames);
    let mut pipeline = format!("set idle sleep\nport attach nic0 {NIC} txq 0\n");
    for (index, (name, words)) in TOOLS.iter().enumerate() {
        pipeline += &format!("port attach {name}0 net_pcap{},tx_pcap=@/{name}.pcap rxq 0\n", index + 1);
        pipeline += &format!("tool create {name} port {name}0 {words}\n");
    }
    pipeline += "tool create store capture @/store.pcapng\ntool create classic capture @/classic.pcap\n\
                 rule create 10 from nic0 to metamako,ixia,vss,arista,gigamon,erspan3,store,classic\nstart\n";
    let mut prompt = bench.start_with(&pipeline, &nic.variables());
    // some before the clock is fitted
    nic.set(NIC, Word::Released, 20);
    wait_for(&mut prompt, 20);
    prompt.wait("the clock is fitted", is_fitted);
    for released in (40..=frames.len()).step_by(20) {
        nic.set(NIC, Word::Released, released as u64);
        wait_for(&mut prompt, released);
    }
    let account = prompt.quit();
    assert_eq!(account.last()["ports"]["nic0"]["clock"]["source"], "nic");
    let (arrived, said) = (nic.arrived(NIC), Said::new(&account.lines));
    assert_eq!(arrived.len(), frames.len());
    let path = |name: &str| bench.path(&format!("{name}.pcap"));
    let marked = assert_true("metamako", &arrived, &metamako(&path("metamako")), &said);
    assert!(marked <= 20, "{marked} are marked after the clock was fitted");
    for (name, names) in [
        ("ixia", &["ixiatrailer.timestamp"][..]),
        ("vss", &["vssmonitoring.time"]),
        ("arista", &["avsp.64sec", "avsp.64ns"]),
        ("gigamon", &["gmhdr.timestamp"]),
        ("erspan3", &["erspan.pid5.timestamp", "erspan.timestamp"]),
    ] {
        assert_true(name, &arrived, &carried(&path(name), names), &said);
    }
    assert_true("pcapng", &arrived, &captured(&bench.path("store.pcapng")), &said);
    assert_true("pcap", &arrived, &captured(&path("classic")), &said);
}
