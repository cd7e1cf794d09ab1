//! Counters, the ledger of packets and copies, and the snapshots made of them.

/// Numbers events and keeps the latest.
pub mod events;
/// Packets and copies, and what becomes of them.
pub mod ledger;
/// Events as lines.
pub mod log;
/// Tells what was lost before it was received.
pub mod loss;
/// Compares two snapshots.
pub mod recent;
/// All counters at one moment.
pub mod snapshot;
/// Snapshots for people.
pub mod table;
