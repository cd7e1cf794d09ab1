//! The control plane: one `Session` owns the broker, and answers requests one after another.
//!
//! The prompt and `tapline run` are front ends: they turn bytes into a `Request`, and a `Reply` into bytes. Nothing here prints, and
//! nothing here waits for a reader, a writer or a file.
#![deny(clippy::print_stdout, clippy::print_stderr)]

/// Who somebody is.
pub mod access;
/// The history, beyond the end of a broker.
pub mod archive;
/// The log of what was asked for.
pub mod audit;
/// Wakes the session.
pub mod bell;
/// Commands typed later -> a plan after the running one.
pub mod change;
/// Packets of a capture by two plans.
mod compare;
/// This is what may stand at the end of a line.
pub mod complete;
/// Commands before `start`.
pub mod draft;
/// The files that somebody may name.
mod files;
/// `help` of the prompts and of the socket.
pub mod help;
/// The plans that were in force.
pub mod history;
/// Lines of a stream, bounded in bytes and number.
pub mod lines;
/// The things that a broker knows from those before it.
pub mod memory;
/// Pieces of text for a stream that may take none.
pub mod outlet;
/// The receipt of a reload.
pub mod receipt;
/// A whole file in the place of the running plan.
pub mod reload;
/// Answers clients of the socket.
pub mod serve;
/// The owner of a running broker.
pub mod session;
/// The control socket.
pub mod socket;
/// The folder of what outlives a broker.
pub mod state;
/// Secrets that stand for a role.
pub mod tokens;
/// Plans that are made on a thread of their own.
pub mod work;

/// Returns whether a line may name a file to be read with it, which may take its time.
fn names_a_file(line: &[u8]) -> bool {
    line.windows(b"include".len()).any(|word| word == b"include")
}
