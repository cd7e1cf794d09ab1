//! The parser of layers and the flow hash, by models and by tshark.

/// Properties on real packets, cut packets and random bytes.
mod properties;
/// The fields that tshark finds.
mod tshark;
