//! Copies as tools want them.

/// Tunnels of other makers that end at a port.
mod ends;
/// Random mixes of edits and transports, by a model.
pub(crate) mod mixes;
/// Edits, transports and timestamps, by tshark, editcap and models.
mod product;
/// Flows that Suricata names inside of tunnels.
mod suricata;
