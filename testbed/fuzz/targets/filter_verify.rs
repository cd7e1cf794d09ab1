#![no_main]

#[path = "../bodies/filter.rs"]
#[allow(dead_code, reason = "each target takes its own")]
mod filter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| filter::verify(bytes));
