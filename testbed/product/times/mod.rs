//! Packets with their own times: captures as ports and as tools, merging by time, rules that go by time, tunnels that end at a port.

/// Captures as tools.
mod capture;
/// Compressed captures as ports.
mod compressed;
/// Captures of other link layers as ports.
mod links;
/// Copies of several ports in the order of their times.
mod order;
/// Packets with times, written and read back.
pub(crate) mod packets;
/// Captures as ports.
mod replay;
/// Mirrors from one Tapline to another.
mod round_trip;
/// Rules that go by time.
mod rules;
/// Tunnels that end at a port.
mod terminate;
/// Replays that wait.
mod waits;
