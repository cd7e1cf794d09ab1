//! The way of a packet, in order: receive, parse, classify, sample, route, edit, egress.

pub mod admission;
pub mod balance;
pub mod burst;
pub mod classify;
pub mod clock_fit;
pub mod copy;
pub mod dedup;
pub mod edit;
pub mod egress;
pub mod flow_sketch;
pub mod flow_table;
pub mod flows;
pub mod hash;
pub mod limit;
pub mod live;
pub mod parse;
pub mod receive;
pub mod route;
pub mod sample;
pub mod shape;
pub mod terminate;
pub mod timestamp;
pub mod transport;
pub mod worker;
