//! Packets with their own times: captures as ports and as tools, merging by time, rules that go by time, tunnels that end at a port.

#[path = "../support/mod.rs"]
mod support;

mod capture;
mod order;
mod packets;
mod replay;
mod round_trip;
mod rules;
mod terminate;
mod waits;
