//! The way of a packet, in order: receive, parse, classify, sample, route, edit, egress.

pub mod burst;
pub mod clock_fit;
pub mod copy;
pub mod edit;
pub mod hash;
pub mod parse;
pub mod terminate;
pub mod timestamp;
pub mod transport;
