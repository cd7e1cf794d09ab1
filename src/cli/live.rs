//! The live line: how a run is, at the foot of a terminal, for whoever looks on.
//!
//! It stands on standard error where that is a terminal that can erase a line, and where no prompt is. What else is written to the
//! terminal stands above it. Scripts, logs and pipes never have it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::output;
use crate::report::table::{self, Tone};
use tapline_api::snapshot::Snapshot;
use tapline_kernel::terminal;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_millis(500);

/// The live line of a run.
pub(super) struct LiveLine {
    begun: Instant,
    next: Instant,
    has_colour: bool,
}

impl LiveLine {
    /// Begins one, where standard error is a terminal that can show it; `is_prompted` says that lines are typed there.
    /// # Source
    /// no-color.org: a NO_COLOR that is not empty asks for no colour.
    pub(super) fn on_terminal(is_prompted: bool) -> Option<Self> {
        let term = std::env::var("TERM").unwrap_or_default();
        let can_erase = !["", "dumb", "cons25", "emacs"].contains(&term.as_str());
        if is_prompted || !can_erase || !std::io::stderr().is_terminal() {
            return None;
        }
        let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let begun = Instant::now();
        Some(Self { begun, next: begun + INTERVAL, has_colour })
    }

    /// Shows how the run is, when it is time to.
    pub(super) fn look(&mut self, snapshot: impl FnOnce() -> Snapshot) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let columns = terminal::columns_of_stderr().unwrap_or(80);
        let words = table::live(&snapshot(), self.begun.elapsed());
        output::show_live(fitted(&words, columns.saturating_sub(1), self.has_colour));
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        output::show_live(String::new());
    }
}

/// Puts words into a line of so many columns; those that do not fit are left out.
fn fitted(words: &[(String, Tone)], columns: usize, has_colour: bool) -> String {
    let (mut line, mut taken) = (String::new(), 0);
    for (word, tone) in words {
        let between = if taken == 0 { "" } else { "  " };
        taken += between.len() + word.chars().count();
        if taken > columns {
            break;
        }
        line += between;
        // ECMA-48, SGR: 32 is green, 33 yellow, 31 red, 0 ends it
        match tone {
            Tone::Good if has_colour => line += &format!("\x1b[32m{word}\x1b[0m"),
            Tone::Warning if has_colour => line += &format!("\x1b[33m{word}\x1b[0m"),
            Tone::Bad if has_colour => line += &format!("\x1b[31m{word}\x1b[0m"),
            _ => line += word,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_do_not_fit_are_left_out_and_colours_take_no_room() {
        let words = [("balanced", Tone::Good), ("7 pps", Tone::Plain), ("lost 3 pps", Tone::Bad)]
            .map(|(word, tone)| (word.to_owned(), tone));
        assert_eq!(fitted(&words, 80, false), "balanced  7 pps  lost 3 pps");
        assert_eq!(fitted(&words, 27, true), "\x1b[32mbalanced\x1b[0m  7 pps  \x1b[31mlost 3 pps\x1b[0m");
        assert_eq!(fitted(&words, 26, false), "balanced  7 pps");
        assert_eq!(fitted(&words, 7, true), "");
    }
}
