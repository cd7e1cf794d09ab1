//! Text -> lines of words.
//!
//! A line is what ends with a line end that no `\` precedes. Words are separated by blanks; double quotes group, `#` at the
//! beginning of a word starts a comment, and `${NAME}` stands for a variable's value, which never splits into several words.
//! Every byte of a word knows where in the file it came from.

use std::collections::HashMap;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Diagnostics, quoted};
use super::source::{SourceId, Span};
use super::suggest::nearest;

/// Bytes that a word may grow to when its variables are expanded. Variables may hold variables, so growth is exponential without
/// it.
pub const MOST_EXPANDED_BYTES: usize = 64 * 1024;

/// The variables that `let` and `--set` define.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    all: HashMap<String, Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    value: String,
    /// Written in quotes: it is an expression, never a name.
    quoted: bool,
    /// From the command line, which wins over the file.
    fixed: bool,
    used: bool,
    /// Its definition has a mistake, which is reported there and not at its uses.
    broken: bool,
}

impl Variables {
    /// The variables of the command line: `--set NAME=VALUE`.
    pub fn from_sets(sets: &[(String, String)]) -> Variables {
        let variable = |value: &String| Variable {
            value: value.clone(),
            quoted: false,
            fixed: true,
            used: false,
            broken: false,
        };
        Variables { all: sets.iter().map(|(name, value)| (name.clone(), variable(value))).collect() }
    }

    /// `let NAME VALUE`; a value of `None` is one that could not be read.
    pub fn define(&mut self, name: &str, value: Option<(String, bool)>) {
        if let Some(fixed) = self.all.get_mut(name).filter(|variable| variable.fixed) {
            fixed.used = true;
            return;
        }
        let broken = value.is_none();
        let (value, quoted) = value.unwrap_or_default();
        self.all.insert(name.into(), Variable { value, quoted, fixed: false, used: false, broken });
    }

    /// The names from the command line that nothing has used or defined so far, in alphabetical order.
    pub fn unused_sets(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.all.iter().filter(|(_, v)| v.fixed && !v.used).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.all.iter().filter(|(_, v)| !v.broken).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// Returns whether `text` can be the NAME of `${NAME}`.
pub fn is_variable_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(is_variable_char)
}

/// Returns whether no word may hold the character: a word is a part of one line, and messages show it.
fn is_unprintable(c: char) -> bool {
    c.is_control() && c != '\t'
}

fn is_variable_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// One word, with quotes removed and variables expanded.
#[derive(Clone, Debug)]
pub struct Word {
    pub text: String,
    pub span: Span,
    /// Some of it was in quotes, so it is no keyword and, where both are possible, an expression and no name.
    pub quoted: bool,
    /// A mistake in it is reported already; its text means nothing.
    pub poisoned: bool,
    /// The stretches of `text`: where each begins, and what it came from.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    text_start: usize,
    span: Span,
    /// The text stands in the file byte for byte.
    verbatim: bool,
}

impl Word {
    fn starting_at(source: SourceId, start: usize) -> Word {
        let span = Span { source, start, end: start };
        Word { text: String::new(), span, quoted: false, poisoned: false, pieces: Vec::new() }
    }

    /// Returns whether this is the keyword `word`.
    pub fn is(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }

    /// Gives the place in the file that a part of the text came from. `part` lies on character boundaries of `text`.
    pub fn part(&self, part: Range<usize>) -> Span {
        if part.start >= part.end {
            let end =
                if part.start >= self.text.len() { self.span.end } else { self.place(part.start).start };
            return Span { start: end, end, ..self.span };
        }
        let (first, last) = (self.place(part.start), self.place(part.end - 1));
        Span { start: first.start, end: last.end.max(first.start), ..self.span }
    }

    /// The origin of the one byte at `at`.
    fn place(&self, at: usize) -> Span {
        let index = self.pieces.partition_point(|piece| piece.text_start <= at);
        let Some(piece) = index.checked_sub(1).map(|i| &self.pieces[i]) else { return self.span };
        if piece.verbatim {
            let start = piece.span.start + (at - piece.text_start);
            Span { start, end: start + 1, ..piece.span }
        } else {
            piece.span
        }
    }

    fn push(&mut self, text: &str, span: Span) {
        match self.pieces.last_mut() {
            Some(last) if last.verbatim && last.span.end == span.start => last.span.end = span.end,
            _ => self.pieces.push(Piece { text_start: self.text.len(), span, verbatim: true }),
        }
        self.text.push_str(text);
    }

    fn push_replaced(&mut self, text: &str, span: Span) {
        self.pieces.push(Piece { text_start: self.text.len(), span, verbatim: false });
        self.text.push_str(text);
    }
}

/// The words of one line, continuation lines included.
#[derive(Debug)]
pub struct WordLine {
    pub words: Vec<Word>,
    /// The empty place behind the last word.
    pub end: Span,
    /// A mistake was reported while the words were read.
    pub flawed: bool,
}

/// Reads the lines of one text.
pub struct Lexer<'a> {
    text: &'a str,
    source: SourceId,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(source: SourceId, text: &'a str) -> Lexer<'a> {
        Lexer { text, source, at: 0 }
    }

    /// The next line that has words, or none at the end of the text.
    pub fn next_line(
        &mut self,
        variables: &mut Variables,
        diagnostics: &mut Diagnostics,
    ) -> Option<WordLine> {
        let mut line = WordLine { words: Vec::new(), end: self.span(self.at, self.at), flawed: false };
        while let Some(c) = self.peek() {
            let start = self.at;
            match c {
                '\n' => {
                    self.at += 1;
                    if !line.words.is_empty() || line.flawed {
                        return Some(line);
                    }
                }
                c if c.is_whitespace() => self.at += c.len_utf8(),
                '#' => self.skip_to_line_end(),
                '\\' if self.skip_continuation() => {
                    if self.at == self.text.len() {
                        diagnostics.push(
                            Diagnostic::error(
                                self.span(start, start + 1),
                                "the line continues, but the text ends",
                            )
                            .label("expected another line behind it")
                            .help("remove the `\\`"),
                        );
                        line.flawed = true;
                    }
                }
                _ => {
                    let word = self.word(variables, diagnostics);
                    line.end = word.span.after();
                    line.flawed |= word.poisoned;
                    line.words.push(word);
                }
            }
        }
        (!line.words.is_empty() || line.flawed).then_some(line)
    }

    fn word(&mut self, variables: &mut Variables, diagnostics: &mut Diagnostics) -> Word {
        let mut word = Word::starting_at(self.source, self.at);
        let mut open_quote = None;
        if let Some(closing) = self.peek().and_then(foreign_quote) {
            self.foreign_quoted(closing, &mut word, diagnostics);
        }
        while let Some(c) = self.peek() {
            let start = self.at;
            let span = self.span(start, start + c.len_utf8());
            match c {
                '\n' => break,
                c if c.is_whitespace() && open_quote.is_none() => break,
                '"' => {
                    self.at += 1;
                    word.quoted = true;
                    open_quote = if open_quote.is_none() { Some(span) } else { None };
                }
                '\\' if open_quote.is_some() => self.escape(&mut word, diagnostics),
                '\\' if self.is_continuation() => break,
                '\\' => {
                    self.at += 1;
                    let error = Diagnostic::error(span, "stray `\\`")
                        .label("expected at the very end of a line, or in quotes")
                        .help("put the word in double quotes and write `\\\\` for a backslash");
                    poison(&mut word, diagnostics, error);
                }
                '$' if self.text[start..].starts_with("${") => {
                    self.variable(&mut word, variables, diagnostics)
                }
                c => {
                    self.at += c.len_utf8();
                    word.push(&self.text[start..self.at], span);
                    if is_unprintable(c) {
                        let message = format!("control character U+{:04X}", u32::from(c));
                        poison(
                            &mut word,
                            diagnostics,
                            Diagnostic::error(span, message).label("expected printable text"),
                        );
                    }
                }
            }
        }
        if let Some(open) = open_quote {
            let error = Diagnostic::error(open, "the quote is not closed")
                .label("expected a closing `\"` before the end of the line")
                .help("a `\\` at the end of a line continues the quoted text on the next one");
            poison(&mut word, diagnostics, error);
        }
        word.span.end = self.at;
        word
    }

    /// A `\` in quotes stands before `"`, `\` or a line end.
    fn escape(&mut self, word: &mut Word, diagnostics: &mut Diagnostics) {
        let start = self.at;
        if self.skip_continuation() {
            return;
        }
        self.at += 1;
        match self.peek() {
            Some(c @ ('"' | '\\')) => {
                self.at += 1;
                word.push_replaced(c.encode_utf8(&mut [0; 4]), self.span(start, self.at));
            }
            _ => {
                let error = Diagnostic::error(self.span(start, start + 1), "stray `\\` in quotes")
                    .label("expected `\\\"` or `\\\\`")
                    .help("write `\\\\` for a backslash");
                poison(word, diagnostics, error);
            }
        }
    }

    fn variable(&mut self, word: &mut Word, variables: &mut Variables, diagnostics: &mut Diagnostics) {
        let start = self.at;
        let rest = &self.text[start + 2..];
        let stop = rest.find(['}', '"', '$', '\n']).unwrap_or(rest.len());
        let name = &rest[..stop];
        if !rest[stop..].starts_with('}') {
            let stop = name.find(char::is_whitespace).unwrap_or(stop);
            self.at = start + 2 + stop;
            let error = Diagnostic::error(self.span(start, self.at), "`${` is not closed")
                .label("expected `${NAME}`");
            return poison(word, diagnostics, error);
        }
        self.at = start + 2 + stop + 1;
        let span = self.span(start, self.at);
        if !is_variable_name(name) {
            let message = format!("{} names no variable", quoted(&self.text[start..self.at]));
            let error =
                Diagnostic::error(span, message).label("expected a name of letters, digits and `_`");
            return poison(word, diagnostics, error);
        }
        let Some(variable) = variables.all.get_mut(name) else {
            let mut error = Diagnostic::error(span, format!("undefined variable {}", quoted(name)));
            error.label = Some(match variables.names().as_slice() {
                [] => "expected a variable that a `let` above or `--set` defines".into(),
                names => format!("expected a defined variable; defined are {}", names.join(", ")),
            });
            error.help = Some(match nearest(name, variables.names()) {
                Some(near) => format!("a variable with a similar name exists: `{near}`"),
                None => format!("define it above with `let {name} VALUE`, or with `--set {name}=VALUE`"),
            });
            return poison(word, diagnostics, error);
        };
        variable.used = true;
        if variable.broken {
            word.poisoned = true;
        } else if let Some(control) = variable.value.chars().find(|&c| is_unprintable(c)) {
            let message =
                format!("{} has the control character U+{:04X}", quoted(name), u32::from(control));
            let error = Diagnostic::error(span, message).label("expected a variable of printable text");
            poison(word, diagnostics, error);
        } else if word.text.len() + variable.value.len() > MOST_EXPANDED_BYTES {
            let error = Diagnostic::error(span, "the word grows too long")
                .label(format!("expected at most {MOST_EXPANDED_BYTES} bytes with all variables expanded"));
            poison(word, diagnostics, error);
        } else {
            word.quoted |= variable.quoted;
            word.push_replaced(&variable.value, span);
        }
    }

    /// Quotes of other languages are a frequent slip; the text up to their end is one word.
    fn foreign_quoted(&mut self, closing: char, word: &mut Word, diagnostics: &mut Diagnostics) {
        let start = self.at;
        let open_len = self.peek().map_or(0, char::len_utf8);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |n| start + n);
        let inner = start + open_len;
        self.at = match self.text[inner..line_end].find(closing) {
            Some(n) => inner + n + closing.len_utf8(),
            None => inner,
        };
        let opening = &self.text[start..inner];
        let error = Diagnostic::error(self.span(start, inner), format!("`{opening}` groups no words"))
            .label("expected a double quote, `\"`")
            .help("write the text in plain double quotes");
        poison(word, diagnostics, error);
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start, end }
    }

    fn skip_to_line_end(&mut self) {
        self.at = self.text[self.at..].find('\n').map_or(self.text.len(), |n| self.at + n);
    }

    /// Returns whether a `\` stands at the very end of its line.
    fn is_continuation(&self) -> bool {
        let rest = &self.text[self.at..];
        rest == "\\" || rest.starts_with("\\\n") || rest.starts_with("\\\r\n")
    }

    fn skip_continuation(&mut self) -> bool {
        let continues = self.is_continuation();
        if continues {
            self.skip_to_line_end();
            self.at = (self.at + 1).min(self.text.len());
        }
        continues
    }
}

/// Gives the closing mark that belongs to an opening quotation mark of another language.
pub(crate) fn foreign_quote(c: char) -> Option<char> {
    match c {
        '\'' => Some('\''),
        '“' | '”' | '„' => Some('”'),
        '‘' | '’' => Some('’'),
        '«' => Some('»'),
        _ => None,
    }
}

/// Reports the first mistake in a word; what follows in it may be a consequence.
fn poison(word: &mut Word, diagnostics: &mut Diagnostics, error: Diagnostic) {
    if !word.poisoned {
        diagnostics.push(error);
    }
    word.poisoned = true;
}

#[cfg(test)]
mod tests {
    use super::super::source::Sources;
    use super::*;

    fn lines(text: &str, variables: &mut Variables) -> (Vec<Vec<String>>, usize) {
        let mut sources = Sources::default();
        let id = sources.add("t".into(), text.into(), None);
        let (mut lexer, mut diagnostics) = (Lexer::new(id, text), Diagnostics::default());
        let mut found = Vec::new();
        while let Some(line) = lexer.next_line(variables, &mut diagnostics) {
            found.push(line.words.into_iter().map(|w| w.text).collect());
        }
        (found, diagnostics.errors())
    }

    fn clean(text: &str) -> Vec<Vec<String>> {
        let (lines, errors) = lines(text, &mut Variables::default());
        assert_eq!(errors, 0, "{text:?}");
        lines
    }

    #[test]
    fn comments_quotes_and_continuations_make_lines_of_words() {
        assert_eq!(
            clean("# all\n\n a  b#c \t# d\r\nx\\\n  y \"p \\\" \\\\ # q\"r\n"),
            [vec!["a", "b#c"], vec!["x", "y", "p \" \\ # qr"]]
        );
        assert_eq!(clean("a \"b \\\nc\" d"), [["a", "b c", "d"]]);
        assert_eq!(clean("a \\\r\nb\r\nc"), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(clean("a \"\" $ b$"), [["a", "", "$", "b$"]]);
    }

    #[test]
    fn variables_expand_within_one_word_and_the_command_line_wins() {
        let mut variables = Variables::from_sets(&[("N".into(), "1 2".into())]);
        variables.define("N", Some(("3".into(), false)));
        variables.define("M", Some(("4".into(), false)));
        assert_eq!(
            lines("a${N}b \"${M} ${M}\"", &mut variables),
            (vec![vec!["a1 2b".into(), "4 4".into()]], 0)
        );
    }

    #[test]
    fn parts_of_a_word_point_at_what_they_came_from() {
        let mut sources = Sources::default();
        let text = "a,${X},\"c\\\"d\",e";
        let id = sources.add("t".into(), text.into(), None);
        let mut variables = Variables::default();
        variables.define("X", Some(("bbb".into(), false)));
        let line = Lexer::new(id, text).next_line(&mut variables, &mut Diagnostics::default()).unwrap();
        let word = &line.words[0];
        assert_eq!(word.text, "a,bbb,c\"d,e");
        let part = |range| sources.text(word.part(range));
        assert_eq!(part(0..1), "a");
        assert_eq!(part(2..5), "${X}");
        assert_eq!(part(3..4), "${X}");
        assert_eq!(part(6..9), "c\\\"d");
        assert_eq!(part(10..11), "e");
        assert_eq!(part(0..11), text);
        assert_eq!(word.part(11..11).start, text.len());
    }

    #[test]
    fn each_flawed_word_is_reported_once() {
        for text in [
            "a \"b",
            "a\\b",
            "a \\ b",
            "\"\\n\"",
            "${",
            "${A",
            "${}",
            "${1}",
            "${NONE}",
            "a \\",
            "'x y'",
            "a \u{1}\u{2}",
        ] {
            assert_eq!(lines(text, &mut Variables::default()).1, 1, "{text:?}");
        }
    }

    #[test]
    fn no_variable_brings_a_line_end_into_a_word() {
        let lines = |value: &str| lines("${X}", &mut Variables::from_sets(&[("X".into(), value.into())]));
        assert_eq!(lines("tcp\tport 80"), (vec![vec!["tcp\tport 80".to_owned()]], 0));
        for wrong in ["tcp\nport 80", "a\r", "\u{1b}[2J", "\0"] {
            assert_eq!(lines(wrong).1, 1, "{wrong:?}");
        }
    }

    #[test]
    fn variables_that_hold_variables_cannot_fill_the_memory() {
        let mut variables = Variables::default();
        variables.define("A", Some(("x".repeat(1000), false)));
        let text = "${A}".repeat(1000);
        assert_eq!(lines(&text, &mut variables).1, 1);
    }
}
