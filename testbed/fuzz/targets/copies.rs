#![no_main]

#[path = "../bodies/copies.rs"]
mod copies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| copies::copies(bytes));
