//! Copies as tools want them: which packets need one, and how it is made.

/// A packet's copy for one tool, made.
pub mod build;
/// Changes to a copy's bytes.
pub mod edit;
/// The facts that a copy states about its packet: time, port, length.
pub mod facts;
/// Timestamps in trailers and headers.
pub mod timestamp;
/// Tunnels that carry copies.
pub mod transport;
