//! The fuzz targets that need no EAL as plain tests: on random bytes, and on every file that once made one of them fail
//! (testbed/fuzz/crashes/TARGET/). `TAPLINE_FILTER_CASES` (3000) changes how many inputs they get.

#[path = "../fuzz/bodies/capture.rs"]
pub(crate) mod capture;
#[path = "../fuzz/bodies/control.rs"]
mod control;
#[path = "../fuzz/bodies/copies.rs"]
mod copies;
#[path = "../fuzz/bodies/filter.rs"]
mod filter;
#[path = "../fuzz/bodies/index.rs"]
mod index;
#[path = "../fuzz/bodies/lang.rs"]
mod lang;
#[path = "../fuzz/bodies/layers.rs"]
pub(crate) mod layers;

use std::path::Path;

use proptest::prelude::*;
use tapline_harness::spans::number_of;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/fuzz/crashes").join(target);
    let Ok(files) = folder.read_dir() else { return };
    for file in files.flatten() {
        body(&std::fs::read(file.path()).expect("a readable file"));
    }
}

#[test]
fn what_once_failed_passes() {
    replay("filter_verify", filter::verify);
    replay("filter_native", filter::native);
    replay("filter_index", index::judge);
    replay("layers", layers::layers);
    replay("capture", capture::read_anything);
    replay("copies", copies::copies);
    replay("lang", lang::parse_anything);
    replay("control", control::talk);
}

/// How many inputs a test gets: `TAPLINE_FILTER_CASES`, or what `TAPLINE_MINUTES` have time for on a slow machine.
pub(crate) fn cases() -> ProptestConfig {
    const IN_A_MINUTE: u64 = 10_000;
    let minutes = number_of("TAPLINE_MINUTES", 0);
    let cases = number_of("TAPLINE_FILTER_CASES", if minutes == 0 { 3000 } else { minutes * IN_A_MINUTE });
    ProptestConfig { cases: cases as u32, failure_persistence: None, ..ProptestConfig::default() }
}

/// A count, instructions of mostly small numbers, and a packet.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![3 => 0u8..16, 1 => any::<u8>()];
    (1u8..40, proptest::collection::vec(byte(), 40..400))
        .prop_map(|(count, bytes)| [&[count], &bytes[..]].concat())
}

/// What edits and transports are chosen by, then a packet: headers of every kind, whole and cut, with bytes changed, or anything.
fn copied() -> impl Strategy<Value = Vec<u8>> {
    let packets: Vec<Vec<u8>> =
        tapline_traffic::office().packets.into_iter().map(|packet| packet.bytes).collect();
    let damaged = (
        proptest::sample::select(packets),
        any::<u16>(),
        proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    )
        .prop_map(|(mut packet, cut, changes)| {
            packet.truncate(if cut % 2 == 0 {
                packet.len()
            } else {
                usize::from(cut) % (packet.len() + 1)
            });
            for (at, byte) in changes {
                let len = packet.len().max(1);
                packet.get_mut(usize::from(at) % len).into_iter().for_each(|place| *place = byte);
            }
            packet
        });
    let packet = prop_oneof![1 => proptest::collection::vec(any::<u8>(), 0..200), 9 => damaged];
    (proptest::collection::vec(any::<u8>(), 48), packet)
        .prop_map(|(chosen, packet)| [chosen, packet].concat())
}

/// What a client sends: requests, whole and damaged, commands, and anything.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![Just("1"), Just("null"), Just("\"a\""), Just("[1]"), Just("1e400"), Just("{}")];
    let method = prop_oneof![
        Just("run"),
        Just("get"),
        Just("hello"),
        Just("subscribe"),
        Just("complete"),
        Just("x\\n")
    ];
    let params = prop_oneof![
        Just("{\"line\":\"show ports\"}"),
        Just("{\"what\":\"stats\",\"since\":3}"),
        Just("{\"to\":\"events\",\"interval\":1e-9}"),
        Just("{\"line\":\"\u{e4}\",\"cursor\":1}"),
        Just("[{\"a\":[[[]]]}]"),
    ];
    let request = (id, method, params).prop_map(|(id, method, params)| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}")
            .into_bytes()
    });
    let damaged = (request.clone(), any::<u16>(), any::<u8>()).prop_map(|(mut line, at, byte)| {
        let at = usize::from(at) % line.len();
        line[at] = byte;
        line
    });
    let line = prop_oneof![
        3 => request,
        2 => damaged,
        1 => Just(b" show stats".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    (any::<[u8; 2]>(), proptest::collection::vec(line, 0..6), any::<bool>()).prop_map(
        |(sizes, lines, is_ended)| {
            let end: &[u8] = if is_ended { b"\n" } else { b"" };
            [&sizes[..], &lines.join(&b'\n'), end].concat()
        },
    )
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_bytes_of_a_client_break_the_control_socket(bytes in sent()) {
        control::talk(&bytes);
    }

    #[test]
    fn no_packet_breaks_edits_and_every_frame_comes_out_of_its_tunnel(bytes in copied()) {
        copies::copies(&bytes);
    }

    #[test]
    fn no_input_breaks_the_verifier(bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), inputs()]) {
        filter::verify(&bytes);
    }

    #[test]
    fn no_text_breaks_the_parser_of_the_language(text in any::<String>()) {
        lang::parse_anything(text.as_bytes());
    }

    #[test]
    fn no_input_makes_engines_differ(bytes in inputs()) {
        filter::native(&bytes);
    }
}

proptest! {
    // each is an input of some hundred filters
    #![proptest_config(ProptestConfig { cases: cases().cases.div_ceil(20), ..cases() })]

    #[test]
    fn no_input_makes_the_index_differ_from_its_filters(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        index::judge(&bytes);
    }
}
