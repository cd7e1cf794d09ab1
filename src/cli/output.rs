//! The output of a command: results on standard output, all else on standard error.
//!
//! Whoever reads either may go away or stand still, and the disk behind it may be full. That is no reason to end what runs, or to keep it
//! waiting: what standard error does not take is lost, and what standard output does not take is told once and makes the exit status 1.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Status;
use crate::control::outlet::{Delivery, MOST_BYTES, Outlet, patience};

/// Results could not be written. Of the process, as standard output is; relaxed suffices, for it orders nothing but itself.
static IS_RESULT_LOST: AtomicBool = AtomicBool::new(false);

/// Standard output and standard error, where threads of their own write them.
static APART: OnceLock<[Outlet; 2]> = OnceLock::new();

/// From now on nobody waits for who reads standard output or standard error.
///
/// # Errors
/// If there are no threads for it.
pub fn write_apart() -> std::io::Result<()> {
    let results = Outlet::to(MOST_BYTES, || Ok(std::io::stdout()), |_| None)?;
    let remarks = Outlet::to(
        MOST_BYTES,
        || Ok(std::io::stderr()),
        |count| Some(format!("warning: nobody read standard error: {count} messages were left out\n")),
    )?;
    // a command asks for it once
    let _ = APART.set([results, remarks]);
    Ok(())
}

/// Returns whether standard output takes what it is given: what asks for much of it may go on.
pub fn has_room() -> bool {
    APART.get().is_none_or(|[results, _]| results.has_room())
}

/// Writes a result to standard output.
pub fn print(text: impl Display) {
    let text = text.to_string();
    let Some([results, remarks]) = APART.get() else {
        let mut stdout = std::io::stdout().lock();
        // what stayed in the buffer would be lost at the end without a word
        if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            lose_result(&error);
        }
        return;
    };
    if !text.is_empty() && !results.push_behind(remarks, text) {
        match results.failure() {
            Some(failure) => lose_result(&failure),
            None => lose_result(&"nobody reads it"),
        }
    }
}

fn lose_result(why: &dyn Display) {
    if !IS_RESULT_LOST.swap(true, Ordering::Relaxed) {
        tell_line(format_args!("error: standard output cannot be written: {why}"));
    }
}

/// Writes to standard error, as it is.
pub fn tell(text: impl Display) {
    let text = text.to_string();
    match APART.get() {
        // in one piece, so that lines of several programs do not mix; there is nobody left to tell of a failure
        None => drop(std::io::stderr().write_all(text.as_bytes())),
        Some(_) if text.is_empty() => {}
        Some([results, remarks]) => {
            remarks.push_behind(results, text);
        }
    }
}

/// Writes a line to standard error.
pub fn tell_line(line: impl Display) {
    tell(format_args!("{line}\n"));
}

/// Waits for what is still being written, and judges how a command ended that came so far with `status`.
pub fn judge(status: Status) -> Status {
    if let Some([results, remarks]) = APART.get() {
        match results.flush(patience(is_regular(std::io::stdout()))) {
            Delivery::Whole => {}
            Delivery::Failed => lose_result(&results.failure().unwrap_or_default()),
            Delivery::Partial { .. } => lose_result(&"nobody reads it"),
        }
        remarks.flush(patience(is_regular(std::io::stderr())));
    }
    if status == Status::Done && IS_RESULT_LOST.load(Ordering::Relaxed) { Status::Failed } else { status }
}

/// Returns whether a stream leads to a regular file.
fn is_regular(stream: impl AsFd) -> bool {
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|there| there.is_file())
}
