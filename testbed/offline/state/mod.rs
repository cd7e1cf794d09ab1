//! What stages keep from packet to packet.

/// Dedup, by editcap and tcprewrite.
mod dedup;
/// Groups, by Maglev's table and the kernel's hash-threshold.
mod groups;
