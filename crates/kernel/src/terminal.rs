//! The terminal that standard input comes from.
//! # Source
//! tcgetattr(3), tcsetattr(3).

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

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
