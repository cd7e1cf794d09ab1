//! `tapline version`: Tapline and the libraries that decide what it does.

use super::Status;
use super::output::print;
use tapline_dpdk as dpdk;
use tapline_filter::bpf::compile::libpcap_version;

pub fn run() -> Status {
    let libpcap = libpcap_version().unwrap_or_else(|| "of unknown version".to_owned());
    print(format_args!(
        "tapline {}\n{} (built with {})\nlibpcap {libpcap}\n",
        env!("CARGO_PKG_VERSION"),
        dpdk::version(),
        env!("TAPLINE_DPDK_VERSION")
    ));
    Status::Done
}
