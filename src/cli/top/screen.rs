//! The terminal, while it is taken for the screen: it is given back however the program ends, but for SIGKILL.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::Status;

/// Says whether the terminal is taken. The process has one, as it has one terminal; relaxed suffices, for the flag orders nothing but itself.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Between two looks for whether the terminal is still there.
const LOOK: Duration = Duration::from_millis(500);

/// A screen on the terminal of standard output.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Gives the terminal back, once.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::Relaxed) {
        // a terminal that is gone needs nothing
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Ends the process when its terminal has gone: crossterm 0.29 reads the end of its input for ever, and nobody is left to be told.
fn guard() {
    loop {
        std::thread::sleep(LOOK);
        // of a terminal that hung up, isatty(3) fails
        if !io::stdin().is_terminal() {
            std::process::exit(Status::Failed as i32);
        }
    }
}

impl Screen {
    /// Takes the terminal. A panic of any thread gives it back before it says why.
    ///
    /// # Errors
    /// If standard output or standard input is no terminal.
    pub(super) fn take() -> io::Result<Self> {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panicked| {
            give_back();
            tell(panicked);
        }));
        std::thread::Builder::new().name("guard".to_owned()).spawn(guard)?;
        enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::Relaxed);
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))? })
    }

    /// Returns whether the terminal is still taken: it is not after a panic of another thread.
    pub(super) fn is_taken(&self) -> bool {
        IS_TAKEN.load(Ordering::Relaxed)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Returns a flag that SIGINT, SIGTERM and SIGHUP set. The second of them ends the process.
///
/// # Errors
/// If they cannot be handled.
pub(super) fn end_flag() -> io::Result<Arc<AtomicBool>> {
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_ended))?;
        signal_hook::flag::register(signal, Arc::clone(&is_ended))?;
    }
    Ok(is_ended)
}
