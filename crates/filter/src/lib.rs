//! Filters: a pcap-filter expression becomes classic BPF by libpcap, a verified program, and code over a whole burst.
//!
//! The way of an expression: `bpf::compile` (libpcap) -> `bpf::verify` -> `Program`. The way of a set of programs, in `set`, which the
//! classify stage calls: `graph` (what each asks of a packet) -> `merge` (what they ask alike, once) -> `lower` (Cranelift IR;
//! questions about neighbouring bytes `side_by_side`; what is left with `formula`s of one shape, four programs at a time) -> `code`
//! (machine code, and its call). `bpf::interpret` is the model of all that.
#![warn(clippy::too_many_lines)]
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Expression -> verified program.
pub mod bpf;
/// All rules at once.
pub mod index;
/// Programs -> machine code.
mod native;
/// The programs of all rules that share an input, decided together over a burst.
pub mod set;
/// The terms that rules have beside expressions: VLANs, VNIs, bytes.
pub mod terms;
/// Filters on what a tunnel carries.
pub mod through;

pub use self::bpf::analyse::{Analysis, analyse};
pub use self::bpf::compile::{CompileError, LinkLayer, compile, compile_for, libpcap_version};
pub use self::bpf::insn::Insn;
pub use self::bpf::verify::{Program, VerifyError};
pub use self::set::{Engine, Filters, SplitFilters};
