#![no_main]

#[path = "../bodies/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| filter::native(bytes));
