#![no_main]

#[path = "../bodies/layers.rs"]
#[allow(dead_code, reason = "each target takes its own")]
mod layers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| layers::layers(bytes));
