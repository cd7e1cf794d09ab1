//! The output of a command: results on standard output, all else on standard error.
//!
//! Whoever reads either may go away or stand still, and the disk behind it may be full. That is no reason to end what runs, or to keep it
//! waiting: what standard error does not take is lost, and what standard output does not take is told once and makes the exit status 1.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Status;
use crate::control::outlet::{Delivery, MOST_BYTES, Outlet, patience};
use tapline_kernel::terminal::Modes;

/// Results could not be written. Of the process, as standard output is; relaxed suffices, for it orders nothing but itself.
static IS_RESULT_LOST: AtomicBool = AtomicBool::new(false);

/// Standard output and standard error, where threads of their own write them.
static APART: OnceLock<[Outlet; 2]> = OnceLock::new();

/// Writes above the line that is being edited.
pub type Printer = Box<dyn rustyline::ExternalPrinter + Send>;

/// A terminal on which lines are edited.
struct Screen {
    printer: Arc<Mutex<Printer>>,
    /// The modes that it had before.
    modes: Option<Modes>,
}

/// The terminal of the process, while lines are edited on it.
static SCREEN: Mutex<Option<Screen>> = Mutex::new(None);

fn screen() -> MutexGuard<'static, Option<Screen>> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line at the foot of the terminal, while there is one.
static LIVE: Mutex<String> = Mutex::new(String::new());

/// A piece that has the live line drawn anew: a carriage return, which stands in no message.
const DRAW: &str = "\r";

/// Shows another live line, or none where `line` is empty. One that finds the terminal busy is not shown before the next.
pub fn show_live(line: String) {
    let Some([_, remarks]) = APART.get() else { return };
    let is_gone = line.is_empty();
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = line;
    if is_gone || remarks.is_empty() {
        remarks.push(DRAW);
    }
}

/// From now on what goes to the terminal stands above the line that is being edited.
pub fn write_above(printer: Printer) {
    *screen() = Some(Screen { printer: Arc::new(Mutex::new(printer)), modes: Modes::of_stdin() });
}

/// Gives the terminal back as it was before lines were edited on it, without the line that was not ended.
pub fn restore_terminal() {
    let Some(Screen { modes, .. }) = screen().take() else { return };
    modes.iter().for_each(Modes::restore);
    // carriage return; ECMA-48, EL: erase the line
    drop(io::stdout().write_all(b"\r\x1b[K").and_then(|()| io::stdout().flush()));
}

/// A stream, which may be the terminal on which lines are edited.
struct Shared<W> {
    stream: W,
    is_terminal: bool,
    /// The live line was there when it was last written.
    has_live: bool,
}

impl<W: Write + IsTerminal> Shared<W> {
    fn new(stream: W) -> io::Result<Self> {
        Ok(Self { is_terminal: stream.is_terminal(), stream, has_live: false })
    }
}

impl<W: Write> Shared<W> {
    /// Writes what stands above the live line, and the line anew below it.
    fn write_above_live(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_live = std::mem::replace(&mut self.has_live, !live.is_empty());
        if !self.is_terminal || (live.is_empty() && !was_live) {
            return if bytes == DRAW.as_bytes() { Ok(bytes.len()) } else { self.stream.write(bytes) };
        }
        // carriage return; ECMA-48, EL: erase the line
        let mut whole = b"\r\x1b[K".to_vec();
        whole.extend(bytes.iter().filter(|_| bytes != DRAW.as_bytes()));
        // a line that is not ended is not written over
        if bytes == DRAW.as_bytes() || bytes.ends_with(b"\n") {
            whole.extend(live.as_bytes());
        }
        self.stream.write_all(&whole)?;
        Ok(bytes.len())
    }
}

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // whoever ends the editor waits for no printer
        let printer =
            screen().as_ref().filter(|_| self.is_terminal).map(|screen| Arc::clone(&screen.printer));
        let Some(printer) = printer else { return self.write_above_live(bytes) };
        let text = String::from_utf8_lossy(bytes).into_owned();
        match printer.lock().unwrap_or_else(PoisonError::into_inner).print(text) {
            Ok(()) => Ok(bytes.len()),
            // the editor has ended
            Err(_) => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// From now on nobody waits for who reads standard output or standard error.
///
/// # Errors
/// If there are no threads for it.
pub fn write_apart() -> io::Result<()> {
    let results = Outlet::to(MOST_BYTES, || Shared::new(io::stdout()), |_| None)?;
    let remarks = Outlet::to(
        MOST_BYTES,
        || Shared::new(io::stderr()),
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
        let mut stdout = io::stdout().lock();
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

/// Writes a result of which whoever reads it may have seen enough. Returns whether more of it is wanted: not where the reader is gone, and
/// not where it cannot be written, which is told.
pub fn offer(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            lose_result(&error);
            false
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
        None => drop(io::stderr().write_all(text.as_bytes())),
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

/// Waits until what was said is written, at most `limit` for each stream.
pub fn flush(limit: Duration) {
    for outlet in APART.get().into_iter().flatten() {
        outlet.flush(limit);
    }
}

/// Waits for what is still being written, and judges how a command ended that came so far with `status`.
pub fn judge(status: Status) -> Status {
    if let Some([results, remarks]) = APART.get() {
        match results.flush(patience(is_regular(io::stdout()))) {
            Delivery::Whole => {}
            Delivery::Failed => lose_result(&results.failure().unwrap_or_default()),
            Delivery::Partial { .. } => lose_result(&"nobody reads it"),
        }
        remarks.flush(patience(is_regular(io::stderr())));
    }
    if status == Status::Done && IS_RESULT_LOST.load(Ordering::Relaxed) { Status::Failed } else { status }
}

/// Returns whether a stream leads to a regular file.
fn is_regular(stream: impl AsFd) -> bool {
    let file = stream.as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|there| there.is_file())
}
