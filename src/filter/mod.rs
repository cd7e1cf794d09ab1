//! Filters: a pcap-filter expression becomes classic BPF by libpcap, a verified program, and code over a whole burst.

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
pub mod terms;
pub mod through;
pub mod verify;

pub use compile::{CompileError, compile, libpcap_version};
pub use filters::{Engine, Filters, SplitFilters};
pub use program::Insn;
pub use verify::{Program, VerifyError};
