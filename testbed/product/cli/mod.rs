//! The command line.

/// The audit log, with what is done to it.
mod audit;
/// Error codes and fields of the control socket, by the tables of the documentation.
mod codes;
/// Signals, times, statistics, the prompt, an ordinary user.
mod control;
/// What is wrong is said, and nothing is started.
mod errors;
/// Files that are read and written at once, twice, or by two Taplines.
mod files;
/// Input without end; readers, writers and files that stand still.
mod floods;
/// The live line of a terminal.
mod live;
/// Times and levels of log lines.
mod log;
/// Prompts at a terminal, and the exit status of scripts.
mod prompt;
/// A whole file in the place of the running plan.
mod reload;
/// What a service manager is told.
mod service;
/// The control socket.
mod socket;
/// The folder of what outlives a broker.
mod state;

/// Connects to the control socket of a broker that has just been started: the one before may have left its own.
pub(crate) fn connected(lab: &tapline_harness::lab::Lab) -> std::os::unix::net::UnixStream {
    tapline_harness::client::connected(&lab.path("control.sock"))
}
