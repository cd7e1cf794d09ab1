//! What a command says: results on standard output, all else on standard error.
//!
//! Whoever reads either may go away, and the disk behind it may be full. That is no reason to end what runs: what standard error does
//! not take is lost, and what standard output does not take is told once and makes the exit status 1.

use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Status;

/// Results could not be written. Of the process, as standard output is; relaxed suffices, for it orders nothing but itself.
static IS_RESULT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes a result to standard output.
pub fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    // what stayed in the buffer would be lost at the end without a word
    let written = stdout.write_all(text.to_string().as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && !IS_RESULT_LOST.swap(true, Ordering::Relaxed)
    {
        tell_line(format_args!("error: standard output cannot be written: {error}"));
    }
}

/// Writes to standard error, as it is.
pub fn tell(text: impl Display) {
    // in one piece, so that lines of several programs do not mix; there is nobody left to tell of a failure
    let _ = std::io::stderr().write_all(text.to_string().as_bytes());
}

/// Writes a line to standard error.
pub fn tell_line(line: impl Display) {
    tell(format_args!("{line}\n"));
}

/// How a command ended that came so far with `status`.
pub fn judge(status: Status) -> Status {
    if status == Status::Done && IS_RESULT_LOST.load(Ordering::Relaxed) { Status::Failed } else { status }
}
