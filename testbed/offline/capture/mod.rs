//! Capture files and `tapline filter`, against libpcap, tcpdump and Wireshark's tools.

mod damage;
mod filter;
mod formats;
mod process;
mod support;
