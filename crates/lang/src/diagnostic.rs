//! The mistakes of a pipeline file: what is wrong, where, and what would be right.
//!
//! The parser and the planner fill one `Diagnostics`; it is rendered once, in the order of the text.

use std::fmt::Write;

use super::source::{Position, SourceId, Sources, Span};
use tapline_api::request;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    File(SourceId),
    Text(Span),
}

/// One mistake: place, fact (`message`), expectation (`label`, under the word) and remedy (`help`). Each is one sentence, lower
/// case, with no full stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub label: Option<String>,
    pub help: Option<String>,
    place: Place,
}

impl Diagnostic {
    pub fn error(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            label: None,
            help: None,
            place: Place::Text(span),
        }
    }

    pub fn warning(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message) }
    }

    /// Speaks of a file as a whole: no line of it is shown.
    pub fn of_file(severity: Severity, source: SourceId, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            message: message.into(),
            label: None,
            help: None,
            place: Place::File(source),
        }
    }

    /// Says what was expected, beside the carets.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Says what to do, on a line of its own.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Gives the place of the mistake: the beginning of the file for one that has no better place.
    pub fn span(&self) -> Span {
        match self.place {
            Place::File(source) => Span { source, start: 0, end: 0 },
            Place::Text(span) => span,
        }
    }

    /// The text that a user reads, each line ended.
    pub fn render(&self, sources: &Sources) -> String {
        let mut out = String::new();
        let span = self.span();
        let source = sources.get(span.source);
        let name = visible(source.name());
        let (severity, message) = (self.severity.word(), visible(&self.message));
        match self.place {
            Place::File(_) => line(&mut out, format_args!("{name}: {severity}: {message}")),
            Place::Text(_) => {
                let Position { line: number, column } = source.position(span.start);
                line(&mut out, format_args!("{name}:{number}:{column}: {severity}: {message}"));
                let (start, text) = source.line_at(span.start);
                let margin = " ".repeat(number.to_string().len());
                line(&mut out, format_args!("  {number} | {}", visible(text)));
                let marks = marks(start, text, span);
                let label = self.label.as_deref().map(visible).unwrap_or_default();
                line(&mut out, format_args!("{}", format!("  {margin} | {marks} {label}").trim_end()));
            }
        }
        if let Some(help) = &self.help {
            line(&mut out, format_args!("  help: {}", visible(help)));
        }
        let mut included_from = source.included_from();
        while let Some(from) = included_from {
            let outer = sources.get(from.source);
            let Position { line: number, column } = outer.position(from.start);
            line(&mut out, format_args!("  included from {}:{number}:{column}", visible(outer.name())));
            included_from = outer.included_from();
        }
        out
    }
}

impl Diagnostic {
    /// Gives the parts of what a user reads, for programs.
    pub fn parts(&self, sources: &Sources) -> request::Diagnostic {
        let span = self.span();
        let source = sources.get(span.source);
        let place = match self.place {
            Place::File(_) => None,
            Place::Text(_) => Some((source.position(span.start), source.line_at(span.start))),
        };
        let marked = |&(Position { column, .. }, (start, text)): &(Position, (usize, &str))| {
            column + marks(start, text, span).chars().filter(|&mark| mark == '^').count()
        };
        request::Diagnostic {
            severity: self.severity.word().to_owned(),
            file: visible(source.name()),
            line: place.as_ref().map(|(position, _)| position.line),
            column: place.as_ref().map(|(position, _)| position.column),
            end_column: place.as_ref().map(marked),
            message: visible(&self.message),
            expected: self.label.as_deref().map(visible),
            help: self.help.as_deref().map(visible),
            text: place.map(|(_, (_, text))| visible(text)),
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes any text");
}

/// Carets below the marked characters, preceded by blanks and by the tabs of the line, so that they align at any tab width.
fn marks(line_start: usize, line: &str, span: Span) -> String {
    let start = (span.start - line_start).min(line.len());
    let end = (span.end - line_start).clamp(start, line.len());
    let blanks = line[..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' });
    let carets = line[start..end].chars().count().max(1);
    blanks.chain(std::iter::repeat_n('^', carets)).collect()
}

/// Replaces control characters, which could move the cursor of a terminal or hide text.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A word as messages quote it: in backticks, and cut where it is long.
pub fn quoted(word: &str) -> String {
    const MOST: usize = 60;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", &word[..end]),
        None => format!("`{word}`"),
    }
}

/// "a", "a or b", "one of a, b, c".
pub fn any_of(words: &[&str]) -> String {
    match words {
        [a] => a.to_string(),
        [a, b] => format!("{a} or {b}"),
        _ => format!("one of {}", words.join(", ")),
    }
}

/// All diagnostics of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    all: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.all.push(diagnostic);
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.all.iter()
    }

    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.all.retain(keep);
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn errors(&self) -> usize {
        self.all.iter().filter(|d| d.severity == Severity::Error).count()
    }

    pub fn warnings(&self) -> usize {
        self.all.len() - self.errors()
    }

    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Orders the diagnostics by their place in the text; included files stand where they are included.
    pub fn sort(&mut self, sources: &Sources) {
        self.all.sort_by_cached_key(|d| sources.reading_order(d.span()));
    }

    /// The text of all diagnostics, in the order of the text.
    pub fn render(&self, sources: &Sources) -> String {
        let mut sorted = self.clone();
        sorted.sort(sources);
        sorted.iter().map(|d| d.render(sources)).collect()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, more: I) {
        self.all.extend(more);
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(source: SourceId, start: usize, end: usize) -> Span {
        Span { source, start, end }
    }

    #[test]
    fn a_diagnostic_reads_as_the_style_guide_shows_it() {
        let mut sources = Sources::default();
        let text = "\n\n\n\n\n\nrule create 10 from tap0 match web to idz-a,recorder\n";
        let id = sources.add("web.pipe".into(), text.into(), None);
        let at = 6 + "rule create 10 from tap0 match web to ".len();
        let found = Diagnostic::error(span(id, at, at + 5), "unknown tool `idz-a`")
            .label("expected a tool or group; defined are ids-a, recorder")
            .help("a tool with a similar name exists: `ids-a` (line 3)")
            .render(&sources);
        let expected = "\
web.pipe:7:39: error: unknown tool `idz-a`
  7 | rule create 10 from tap0 match web to idz-a,recorder
    |                                       ^^^^^ expected a tool or group; defined are ids-a, recorder
  help: a tool with a similar name exists: `ids-a` (line 3)
";
        assert_eq!(found, expected);
    }

    #[test]
    fn carets_align_behind_tabs_and_letters_of_several_bytes() {
        let mut sources = Sources::default();
        let id = sources.add("t.pipe".into(), "\té\tbad x\n".into(), None);
        let rendered = Diagnostic::error(span(id, 4, 7), "m").render(&sources);
        assert_eq!(rendered, "t.pipe:1:4: error: m\n  1 | \té\tbad x\n    | \t \t^^^\n");
    }

    #[test]
    fn a_missing_word_is_marked_behind_the_last_one() {
        let mut sources = Sources::default();
        let id = sources.add("t.pipe".into(), "set burst".into(), None);
        let rendered = Diagnostic::error(span(id, 9, 9), "m").label("l").render(&sources);
        assert_eq!(rendered, "t.pipe:1:10: error: m\n  1 | set burst\n    |          ^ l\n");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut sources = Sources::default();
        let id = sources.add("t.pipe".into(), "a\u{1b}[2Jb".into(), None);
        let rendered = Diagnostic::error(span(id, 0, 1), "\u{7}").render(&sources);
        assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'), "{rendered:?}");
    }
}
