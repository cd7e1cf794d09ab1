#![no_main]

#[path = "../bodies/lang.rs"]
#[allow(dead_code, reason = "each target takes its own")]
mod lang;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lang::parse_anything(bytes));
