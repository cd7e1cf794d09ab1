//! The parser of layers and the flow hash, by models and by tshark.

#[allow(dead_code, reason = "the suite of tools uses the rest")]
mod captures;
/// Properties on real packets, cut packets and random bytes.
mod properties;
/// The fields that tshark finds.
mod tshark;
