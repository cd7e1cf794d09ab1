//! Tapline: a network packet broker on DPDK that accounts for every packet.
//!
//! A user's text becomes a plan, and a plan becomes a running broker. The code that carries packets or reads files stands below, in
//! `crates/`; `CONTRIBUTING.md` shows all floors.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Plan -> running: workers, drain.
pub mod broker;
/// One file a subcommand.
pub mod cli;
/// The owner of a running broker, and what it is asked.
pub mod control;
/// Says what a machine lacks, or a plan on it.
pub mod doctor;
/// Says of each packet of a capture what a plan does with it, and why.
pub mod explain;
#[cfg(test)]
mod floors;
/// Machines that judge tools, next hops and workers: no clock, no thread, no device.
pub mod health;
/// Pipeline file -> plan: names become ids, mistakes become diagnostics.
pub mod plan;
/// Shows counters: sums, the two identities, snapshots, tables.
pub mod report;
/// Answers browsers and programs by HTTP.
pub mod web;
