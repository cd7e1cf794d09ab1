//! SCTP common header.
//! # Source
//! RFC 9260, 3.1.

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;
