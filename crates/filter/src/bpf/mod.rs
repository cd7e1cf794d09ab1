//! Classic BPF: expression -> instructions (libpcap) -> verified program.

/// Finds what is certain about a program without packets.
pub mod analyse;
/// Filter expression -> instructions, by libpcap.
pub mod compile;
/// Instructions, and what each does.
pub mod insn;
/// The interpreter: the model of native code.
pub mod interpret;
/// Instructions -> a program that cannot go wrong.
pub mod verify;
