//! Colours and marks, of which a terminal may have none.
//!
//! Colour never stands alone: what is lost has a mark and a word, too. Colours are of the sixteen that the terminal's user has chosen.

use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) has_colours: bool,
}

impl Theme {
    /// Reads whether the user wants colours.
    /// # Source
    /// <https://no-color.org>: colours are off if `NO_COLOR` is there and not empty.
    pub(super) fn of_environment() -> Self {
        Self { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn coloured(self, colour: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.has_colours { style.fg(colour) } else { style }
    }

    /// The style of what is lost now.
    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD)
    }

    /// The style of what waits for somebody.
    pub(super) fn warn(self) -> Style {
        self.coloured(Color::Yellow, Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green, Modifier::BOLD)
    }

    /// The style of trends.
    pub(super) fn flow(self) -> Style {
        self.coloured(Color::Blue, Modifier::empty())
    }

    /// The style of keys and commands.
    pub(super) fn accent(self) -> Style {
        self.coloured(Color::Cyan, Modifier::empty())
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn head(self) -> Style {
        Style::new().add_modifier(Modifier::DIM | Modifier::UNDERLINED)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Returns whether the locale's text is UTF-8, as setlocale(3) finds the name of it.
pub(super) fn is_utf8_locale() -> bool {
    let chosen = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_lowercase();
    chosen.contains("utf-8") || chosen.contains("utf8")
}

/// Writes a text in ASCII, as wide as it was.
pub(super) fn in_ascii(text: &str) -> String {
    let ascii = |letter: char| match letter {
        '▁' | '▂' => '_',
        '▃' | '▄' => '-',
        '▅' | '▆' => '=',
        '▇' | '█' => '#',
        '─' => '-',
        '…' => '~',
        'µ' => 'u',
        letter if letter.is_ascii() => letter,
        _ => '?',
    };
    text.chars().map(ascii).collect()
}
