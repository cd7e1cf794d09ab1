#![no_main]

#[path = "../bodies/capture.rs"]
#[allow(dead_code, reason = "each target takes its own")]
mod capture;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| capture::read_anything(bytes));
