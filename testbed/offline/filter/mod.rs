//! The verifier, interpreter, native code and index of filters, by libpcap and tcpdump.

/// The interpreter and native code, by libpcap's `bpf_filter`.
mod differential;
/// Packets at the end of a page.
mod guarded;
/// The index, by a plain interpreter of the same programs.
mod index;
/// libpcap's own `bpf_filter`.
mod oracle;
/// Random programs and packets.
mod programs;
/// A system that refuses executable pages.
mod refused;
/// The packets that `tcpdump -r` selects.
mod tcpdump;
