//! Tapline: a network packet broker on DPDK that accounts for every packet.
//!
//! The modules, in the order of the design: what a user writes becomes a plan, a plan becomes a running broker, and the data
//! path carries packets from ports to tools.
#![deny(unsafe_code)]

/// Plan -> running: workers, drain.
pub mod broker;
/// Capture files: pcap and pcapng, read and written with nanosecond times.
pub mod capture;
/// One file a subcommand.
pub mod cli;
/// The way of a packet: one file a stage, each with one public function over a burst.
pub mod datapath;
/// The fence: safe owners of DPDK things. The only module that names `dpdk_sys`.
pub mod dpdk;
/// Places where tests make the program fail.
pub mod fault;
/// Filter expression -> classic BPF (libpcap) -> verified program -> native code over a burst.
pub mod filter;
#[cfg(test)]
mod floors;
/// Machines that judge tools, next hops and workers: no clock, no thread, no device.
pub mod health;
/// The pipeline language: sources, lexer, parser, diagnostics.
pub mod lang;
/// A packet's bytes: layers, headers, bursts; no DPDK.
pub mod packet;
/// Pipeline file -> plan: names become ids, mistakes become diagnostics.
pub mod plan;
/// Counters, the ledger of packets and copies, snapshots.
pub mod report;
