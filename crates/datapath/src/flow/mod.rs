//! Flows: which packets belong together, and what is remembered of them.

/// Layers and hashes of a burst, found out when asked for.
pub mod burst_flows;
/// Flow hashes, the same for both directions.
pub mod hash;
/// How many flows there are, about.
pub mod sketch;
/// Flows by digest, with their ages.
pub mod table;
