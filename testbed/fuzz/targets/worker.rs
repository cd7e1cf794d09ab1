#![no_main]

#[path = "../bodies/worker.rs"]
#[allow(dead_code, reason = "the rest is for the plain test")]
mod worker;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    worker::worker(bytes);
});
