//! The fuzz targets as plain tests: on random bytes, and on every file that once made one of them fail
//! (testbed/fuzz/crashes/TARGET/).

#[path = "bodies/capture.rs"]
mod capture;
#[path = "bodies/filter.rs"]
mod filter;
#[path = "bodies/lang.rs"]
mod lang;
#[path = "bodies/layers.rs"]
#[allow(dead_code, reason = "the rest is for suites that have captures")]
mod layers;

use std::path::Path;

use proptest::prelude::*;

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
    replay("layers", layers::layers);
    replay("capture", capture::read_anything);
    replay("lang", lang::parse_anything);
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("TAPLINE_FILTER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A count, instructions of mostly small numbers, and a packet.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![3 => 0u8..16, 1 => any::<u8>()];
    (1u8..40, proptest::collection::vec(byte(), 40..400)).prop_map(|(count, bytes)| [&[count], &bytes[..]].concat())
}

proptest! {
    #![proptest_config(cases())]

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
