//! Counters, the ledger of packets and copies, and the snapshots made of them.

pub mod ledger;
pub mod snapshot;
pub mod table;
