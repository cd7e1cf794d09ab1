//! The texts that a pipeline is read from, and the places in them.
//!
//! A `Span` is a range of bytes of one source; a `Position` is what a person counts: lines and characters from 1.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names one text of a `Sources`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(usize);

impl SourceId {
    /// Its place among the texts of its `Sources`, in the order in which they were read.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A range of bytes in one source. Both ends lie on character boundaries of its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub source: SourceId,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The span from the start of this one to the end of `last`, which follows it in the same source.
    pub fn to(self, last: Span) -> Span {
        debug_assert!(self.source == last.source);
        Span { end: last.end.max(self.end), ..self }
    }

    /// The empty span behind this one, where something is missing.
    pub fn after(self) -> Span {
        Span { start: self.end, ..self }
    }
}

/// A value and the place where the user wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

/// A line and a column in characters, both counted from 1. A tab is one character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One text: a pipeline file, or what was typed at the prompt.
#[derive(Debug, Default)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    included_from: Option<Span>,
    /// The file that it was read from, where it was.
    path: Option<PathBuf>,
}

impl Source {
    /// The name that messages show: the path as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The word that included this file.
    pub fn included_from(&self) -> Option<Span> {
        self.included_from
    }

    fn line_index(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    /// The text of the line that holds byte `offset`, without its line end, and the byte at which it begins.
    pub fn line_at(&self, offset: usize) -> (usize, &str) {
        let start = self.line_starts[self.line_index(offset)];
        let line = self.text[start..].split('\n').next().unwrap_or("");
        (start, line.strip_suffix('\r').unwrap_or(line))
    }

    pub fn position(&self, offset: usize) -> Position {
        let index = self.line_index(offset);
        let column = self.text[self.line_starts[index]..offset].chars().count() + 1;
        Position { line: index + 1, column }
    }
}

/// All texts of one pipeline: the file named first, then the included ones. Clones share the texts.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    all: Vec<Arc<Source>>,
}

impl Sources {
    pub fn add(&mut self, name: String, text: String, included_from: Option<Span>) -> SourceId {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.all.push(Arc::new(Source { name, text, line_starts, included_from, path: None }));
        SourceId(self.all.len() - 1)
    }

    /// Adds what was read from the file at `path`.
    pub fn add_file(&mut self, path: &Path, text: String, included_from: Option<Span>) -> SourceId {
        let id = self.add(path.display().to_string(), text, included_from);
        if let Some(source) = self.all.last_mut().and_then(Arc::get_mut) {
            source.path = Some(path.to_owned());
        }
        id
    }

    /// All texts, with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.all.iter().enumerate().map(|(place, source)| (SourceId(place), &**source))
    }

    /// Forgets the texts that nothing in `used` stands in, nor was included from. The first stays.
    pub fn forget_all_but(&mut self, used: impl IntoIterator<Item = SourceId>) {
        let mut is_used = vec![false; self.all.len()];
        for id in used.into_iter().chain(self.first()) {
            let mut next = Some(id);
            while let Some(id) = next.filter(|id| !std::mem::replace(&mut is_used[id.0], true)) {
                next = self.get(id).included_from.map(|span| span.source);
            }
        }
        let empty = Arc::new(Source { line_starts: vec![0], ..Source::default() });
        let unused = self.all.iter_mut().zip(is_used).filter(|(_, is_used)| !is_used);
        unused.for_each(|(source, _)| *source = Arc::clone(&empty));
    }

    pub fn get(&self, id: SourceId) -> &Source {
        &self.all[id.0]
    }

    /// The text that includes the others.
    pub fn first(&self) -> Option<SourceId> {
        (!self.all.is_empty()).then_some(SourceId(0))
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn position(&self, span: Span) -> Position {
        self.get(span.source).position(span.start)
    }

    /// The written text under a span.
    pub fn text(&self, span: Span) -> &str {
        &self.get(span.source).text[span.start..span.end]
    }

    /// Orders places as a reader meets them, an included file standing where it is included.
    pub fn reading_order(&self, span: Span) -> Vec<usize> {
        let mut order = vec![span.end, span.start];
        let mut source = span.source;
        while let Some(from) = self.get(source).included_from {
            order.push(from.start);
            source = from.source;
        }
        order.reverse();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_without_their_line_ends() {
        let mut sources = Sources::default();
        let id = sources.add("a.pipe".into(), "sét x\r\n\ty\n".into(), None);
        let source = sources.get(id);
        assert_eq!(source.position(5), Position { line: 1, column: 5 });
        assert_eq!(source.line_at(5), (0, "sét x"));
        assert_eq!(source.position(9), Position { line: 2, column: 2 });
        assert_eq!(source.position(11), Position { line: 3, column: 1 });
        assert_eq!(source.line_at(11), (11, ""));
    }

    #[test]
    fn included_places_are_read_where_they_are_included() {
        let mut sources = Sources::default();
        let main = sources.add("main".into(), "aaaa\ninclude x\nbbbb\n".into(), None);
        let at = |source, start| Span { source, start, end: start + 1 };
        let inner = sources.add("x".into(), "cccc\n".into(), Some(at(main, 13)));
        let order = |span| sources.reading_order(span);
        assert!(order(at(main, 0)) < order(at(inner, 3)));
        assert!(order(at(inner, 3)) < order(at(main, 15)));
    }
}
