//! The command line.

/// The audit log, with what is done to it.
mod audit;
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
/// A broker, or its statistics, on a terminal.
mod top;

/// Connects to the control socket of a broker that has just been started: the one before may have left its own.
pub(crate) fn connected(lab: &tapline_harness::lab::Lab) -> std::os::unix::net::UnixStream {
    let begun = std::time::Instant::now();
    loop {
        match std::os::unix::net::UnixStream::connect(lab.path("control.sock")) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed().as_secs() < 60, "no broker listens: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
