//! The terminal that standard input comes from, and the one that standard error goes to.
//! # Source
//! tcgetattr(3), tcsetattr(3), TIOCGWINSZ(2const).

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Returns how many columns the terminal has that standard error goes to; `None` where it is none, or does not know.
pub fn columns_of_stderr() -> Option<usize> {
    let size = tcgetwinsize(std::io::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// How a terminal passes on what is typed, as it was at some time.
pub struct Modes(Termios);

impl Modes {
    /// Gives the modes of the terminal that standard input comes from; `None` where it is none.
    pub fn of_stdin() -> Option<Self> {
        tcgetattr(std::io::stdin()).ok().map(Self)
    }

    /// Sets the modes of the terminal to these. A terminal that is gone has none.
    pub fn restore(&self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
