#![cfg(test)]

use proptest::prelude::*;

use super::super::{Parsed, parse_text};
use super::text;

/// Commands of anything that the grammar has, chosen by bytes.
mod choices;

/// The value of the variable `D`: what cannot be written in a word in another way.
const DOLLAR: [(&str, &str); 1] = [("D", "$")];

fn parsed(text: &str) -> Parsed {
    let sets = DOLLAR.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parsed = parse_text("t", text, &sets);
    assert_eq!(parsed.diagnostics.errors(), 0, "{}", parsed.diagnostics.render(&parsed.sources));
    parsed
}

/// The commands in words of the compiler, without their places.
fn meaning(parsed: &Parsed) -> String {
    let mut rest = &*format!("{:?}", parsed.file.commands);
    let mut meaning = String::new();
    while let Some((before, behind)) = rest.split_once(", span: Span { source: SourceId(") {
        meaning += before;
        rest = behind.split_once(" }").expect("the end of a span").1;
    }
    meaning + rest
}

/// Printed commands say the same, and are printed in the same words again.
fn check(written: &str) -> String {
    let original = parsed(written);
    let printed = text(&original.file);
    assert!(!original.file.commands.is_empty());
    assert_eq!(printed.lines().count(), original.file.commands.len(), "{printed}");
    let again = parse_text("printed", &printed, &[]);
    assert_eq!(again.diagnostics.errors(), 0, "{written}{}", again.diagnostics.render(&again.sources));
    assert_eq!(meaning(&again), meaning(&original), "{written}{printed}");
    assert_eq!(text(&again.file), printed);
    printed
}

#[test]
fn each_value_has_one_spelling() {
    for (written, printed) in [
        ("set mempool 65536", "set mempool 65536"),
        ("set mempool 1.5M", "set mempool 1500k"),
        ("set seed 0xff", "set seed 255"),
        ("set tpid 37120,0x8200", "set tpid 0x9100,0x8200"),
        ("set flows 10000k idle 0.5s max-age 3600s", "set flows 10M idle 500ms max-age 1h"),
        ("set lcores 1,2,3,7,5,6", "set lcores 1-3,7,5-6"),
        ("set idle sleep 1000us", "set idle sleep 1ms"),
        ("set eal --no-huge", "set eal --no-huge"),
        ("set eal \"-m 128\"", "set eal \"-m 128\""),
        ("port attach a replay:x.pcap,loop=1,speed=2.50x", "port attach a replay:x.pcap,speed=2.5x"),
        (
            "port attach \"rxq\" \"my dev,a=\\\"b\\\\\" promiscuous",
            "port attach \"rxq\" \"my dev,a=\\\"b\\\\\" promiscuous on",
        ),
        (
            "tool create a capture \"#x\" keep 65536 rotate every 86400s",
            "tool create a capture \"#x\" keep 64Ki rotate every 1d",
        ),
        ("tool create a capture \"’x\"", "tool create a capture \"’x\""),
        (
            "tool create a capture x local anonymize ip keep 1T",
            "tool create a capture x anonymize ip keep 1T local",
        ),
        ("tool modify a rate 1500mbit burst 90s", "tool modify a rate 1500mbit burst 90s"),
        ("rule create 0x10 to \"final\" from any", "rule create 16 to \"final\" from any"),
        ("rule modify 1 match tcp and vni 5-5 vni 7", "rule modify 1 match tcp and vni 5 vni 7"),
        ("rule modify 1 match \"tcp\" through gre,vlan", "rule modify 1 match \"tcp\" through vlan,gre"),
        ("rule modify 1 bytes 0 45/f7 and file rxq", "rule modify 1 bytes 0 0x45/0xf7 and file \"rxq\""),
        ("rule modify 1 bytes 0 FFff", "rule modify 1 bytes 0 0xffff"),
        ("rule modify 1 match \"${D}{D}\"", "rule modify 1 match \"$\"\"{D}\""),
        (
            "rule modify 1 active \"sat-mon 22:00-00:00;tue,thu 01:00-00:30\"",
            "rule modify 1 active \"Mon,Sat-Sun 22:00-24:00; Tue,Thu 01:00-00:30\"",
        ),
        ("rule modify 1 active \"mon-sun 00:00-24:00\"", "rule modify 1 active \"daily 00:00-24:00\""),
        ("rule modify 1 until 2026-12-01T01:00:00.50+01:00", "rule modify 1 until 2026-12-01T00:00:00.5Z"),
        ("rule modify 1 mask 0 16 byte 0x00 after l4", "rule modify 1 mask 0 16 after l4"),
        (
            "rule modify 1 sample first 65536 bytes per flow hash symmetric",
            "rule modify 1 sample first 64Ki bytes hash 5-tuple",
        ),
        ("rule modify 1 strip all", "rule modify 1 strip all"),
    ] {
        assert_eq!(check(written), format!("{printed}\n"));
    }
}

#[test]
fn times_are_those_of_gnu_date() {
    // date -u -d @SECONDS +%FT%TZ
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_868_799, "2000-02-29T23:59:59Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (1_796_083_200, "2026-12-01T00:00:00Z"),
        (18_446_744_073, "2554-07-21T23:34:33Z"),
    ] {
        assert_eq!(super::value::timestamp(seconds * 1_000_000_000), expected);
    }
}

proptest! {
    #[test]
    fn every_number_is_read_as_it_was_written(n in prop_oneof![1..10_000u64, any::<u64>(), (1..1000u64, 0..6u32).prop_map(|(n, k)| n * 1000u64.pow(k))]) {
        use super::super::value::{bytes, count, duration, rate, timestamp};
        use super::value as print;
        use std::time::Duration;
        use tapline_api::values::Rate;

        let n = n.max(1);
        prop_assert_eq!(count(1..=u64::MAX)(&print::count(n)), Ok(n));
        prop_assert_eq!(bytes(&print::bytes(n)), Ok(n));
        prop_assert_eq!(timestamp(&print::timestamp(n)), Ok(n));
        let time = Duration::from_nanos(n);
        prop_assert_eq!(duration(&print::duration(time)), Ok(time));
        for most in [Rate::BitsPerSecond(n), Rate::PacketsPerSecond(n)] {
            prop_assert_eq!(rate(&print::rate(most)), Ok(most));
        }
    }

    #[test]
    fn every_command_is_read_as_it_was_written(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&choices::command(&bytes));
    }
}
