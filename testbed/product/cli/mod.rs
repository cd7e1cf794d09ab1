//! The command line.

/// Signals, times, statistics, the prompt, an ordinary user.
mod control;
/// What is wrong is said, and nothing is started.
mod errors;
/// Files that are read and written at once, twice, or by two Taplines.
mod files;
/// Input without end; readers, writers and files that stand still.
mod floods;
/// Times and levels of log lines.
mod log;
/// A whole file in the place of the running plan.
mod reload;
/// The control socket.
mod socket;
