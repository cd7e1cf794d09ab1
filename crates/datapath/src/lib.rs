//! The way of a packet, in order: receive, classify, route, copies, egress; a worker goes it burst by burst.
//!
//! Workers see a plan only as data: numbers, tables and programs.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Shows stages the burst that they work on.
pub mod burst_view;
/// Which packets of a burst each rule matches.
pub mod classify;
/// Copies as tools want them: edits, timestamps, transports.
pub mod copies;
/// Counts what workers do.
pub mod counters;
/// Copies -> transmit queues and captures.
pub mod egress;
/// Tools and the directions of wires, which have an egress each.
pub mod egresses;
/// Flows: hashes, tables, and what of a burst is found out only when asked for.
pub mod flow;
/// The numbers of ports, tools, egresses, groups, edits, wires and rules.
pub mod ids;
mod packet_ends;
/// Ports -> packets: queues, replays, their clocks, tunnels and frames that end here.
pub mod receive;
/// Rules -> tools: samples, duplicates, limits, groups.
pub mod route;
/// A plan in force, and another that takes its place.
pub mod swap;
/// Hears what is decided of packets.
pub mod witness;
/// All that workers are told.
pub mod work_plan;
/// One thread's way through all that, turn by turn.
pub mod worker;
