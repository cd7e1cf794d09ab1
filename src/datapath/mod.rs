//! The way of a packet, in order: receive, parse, classify, sample, route, edit, egress.

pub mod balance;
pub mod burst;
pub mod dedup;
pub mod flow_table;
pub mod limit;
pub mod sample;
