//! Counters, the ledger of packets and copies, and the snapshots made of them.

/// Packets and copies, and what becomes of them.
pub mod ledger;
/// All counters at one moment.
pub mod snapshot;
/// Snapshots for people.
pub mod table;
