//! Filters: a pcap-filter expression becomes classic BPF by libpcap, a verified program, and code over a whole burst.
//!
//! The way of an expression: `compile` (libpcap) -> `verify` -> `Program`. The way of a set of programs, in `filters`, which the
//! classify stage calls: `graph` (what each asks of a packet) -> `merge` (what they ask alike, once) -> `lower` (Cranelift IR;
//! questions about neighbouring bytes `side_by_side`; what is left with `formula`s of one shape, four programs at a time) -> `native` (code, and its call). `interpret` is the model of all
//! that.

pub mod analyse;
pub mod compile;
pub mod filters;
mod formula;
mod graph;
pub mod index;
pub mod interpret;
mod lower;
mod merge;
mod native;
pub mod program;
mod side_by_side;
pub mod terms;
pub mod through;
pub mod verify;

pub use analyse::{Analysis, analyse};
pub use compile::{CompileError, compile, compile_for, libpcap_version};
pub use filters::{Engine, Filters, SplitFilters};
pub use program::Insn;
pub use verify::{Program, VerifyError};
