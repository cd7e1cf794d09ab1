//! Packets with their own times: captures as ports and as tools, merging by time, rules that go by time, tunnels that end at a port.

mod capture;
mod order;
pub mod packets;
mod replay;
mod round_trip;
mod rules;
mod terminate;
mod waits;
