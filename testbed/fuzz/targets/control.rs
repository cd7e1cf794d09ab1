#![no_main]

#[path = "../bodies/control.rs"]
#[allow(dead_code, reason = "each target takes its own")]
mod control;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| control::talk(bytes));
