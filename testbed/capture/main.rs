//! Capture files and `tapline filter`, against libpcap, tcpdump and Wireshark's tools.

mod damage;
mod filter;
mod formats;
#[path = "../fuzz/bodies/capture.rs"]
mod fuzz_body;
mod process;
mod support;
