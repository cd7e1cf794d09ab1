//! Filters: a pcap-filter expression becomes classic BPF by libpcap, a verified program, and code over a whole burst.

pub mod index;
pub mod program;
