//! `tapline version`: Tapline and the libraries that decide what it does.

use super::Status;
use crate::dpdk;
use crate::filter::compile::libpcap_version;

pub fn run() -> Status {
    println!("tapline {}", env!("CARGO_PKG_VERSION"));
    println!("{} (built with {})", dpdk::version(), env!("TAPLINE_DPDK_VERSION"));
    println!("libpcap {}", libpcap_version().unwrap_or_else(|| "of unknown version".to_owned()));
    Status::Done
}
