//! A packet's bytes: what stands where, and sets of packets. It needs no DPDK; `unsafe` stands in `simd` only.
#![warn(clippy::too_many_lines)]
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Sets of the packets of a burst, and what is known of some of them only.
pub mod burst;
/// Tables by ids.
pub mod by_id;
/// Finds where a packet ends by its own lengths.
pub mod extent;
/// A packet as bytes and a length on the wire, in one piece or in two.
pub mod frame;
/// Packet formats, one protocol a file.
pub mod headers;
/// Bytes -> layers: where each header of a packet stands.
pub mod layers;
/// Mixing of bits, and random numbers by a seed.
pub mod mix;
/// Prefixes of IP addresses.
pub mod prefix;
/// Instructions that are chosen at run time.
pub mod simd;
