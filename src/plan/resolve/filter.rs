//! Filters and lists of them: compiled once, however many rules use them.

use std::path::Path;
use std::sync::Arc;

use super::Resolver;
use super::definitions::Definitions;
use crate::plan::progress::Progress;
use tapline_api::words::NameKind;
use tapline_datapath::classify::FilterTerm;
use tapline_filter::bpf::compile;
use tapline_filter::bpf::compile::CompileError;
use tapline_filter::bpf::verify::Program;
use tapline_filter::index::{Direction, PrefixSet};
use tapline_lang::ast;
use tapline_lang::ast::filter::FilterSource;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::files::Files;
use tapline_lang::source::{Span, Spanned};
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::prefix::{Prefix, PrefixError};

/// Prefixes of a list that may be looked up through layers: each becomes a program of its own there.
const MOST_INNER_PREFIXES: usize = 4096;

/// Bytes of a list: room for 3 million prefixes of IPv4.
const MOST_LIST_BYTES: u64 = 64 << 20;

impl<'a> Resolver<'a> {
    /// The filter that a rule names or writes; the layers that the rule looks through win over those of the filter's definition.
    pub(super) fn filter_of(
        &mut self,
        filter: &'a ast::filter::Filter,
        definitions: &Definitions<'a>,
    ) -> Option<FilterTerm> {
        let FilterSource::Named(name) = &filter.source.value else {
            return self.written_filter(filter, filter.through.as_ref());
        };
        let Some(defined) = definitions.filters.get(name).map(|defined| defined.filter) else {
            if !self.parsed.file.is_excused(NameKind::Filter, name) {
                let known = definitions.filters.keys();
                self.unknown(
                    "filter",
                    "a filter or an expression in quotes",
                    name,
                    filter.source.span,
                    &known,
                );
            }
            return None;
        };
        self.written_filter(defined, filter.through.as_ref().or(defined.through.as_ref()))
    }

    /// A filter that is written out. It is compiled, and its mistakes reported, once, however many rules use it.
    fn written_filter(
        &mut self,
        filter: &ast::filter::Filter,
        through: Option<&Spanned<LayerSet>>,
    ) -> Option<FilterTerm> {
        let through = through.map(|through| through.value).unwrap_or_default();
        match &filter.source.value {
            FilterSource::Expression(expression) => {
                let program = match self.filters.get(expression) {
                    Some(known) => known.clone(),
                    None => self.compile(expression, filter.source.span),
                };
                Some(FilterTerm { programs: vec![program?], prefixes: None, through })
            }
            FilterSource::File(path) => self.filter_list(path, filter.source.span, through),
            FilterSource::Named(_) => None,
        }
    }

    pub(super) fn compile(&mut self, expression: &str, span: Span) -> Option<Program> {
        self.progress.go_on().ok()?;
        let program = match compile::compile(expression) {
            Ok(program) => Some(program),
            Err(error) => {
                let message = "this expression is not a filter".to_owned();
                let mut diagnostic = Diagnostic::error(span, message).label(format!("libpcap: {error}"));
                if matches!(error, CompileError::AsksTheKernel(_)) {
                    diagnostic = diagnostic.help("`from PORT` says where a rule's packets come from");
                }
                self.error(diagnostic);
                None
            }
        };
        self.filters.insert(expression.to_owned(), program.clone());
        program
    }

    /// Reads a list of prefixes and expressions, one a line; `#` begins a comment.
    fn filter_list(&mut self, path: &str, span: Span, through: LayerSet) -> Option<FilterTerm> {
        let key = (path.to_owned(), through);
        if let Some(known) = self.lists.get(&key) {
            return known.clone();
        }
        let list = match read_list(&*self.surroundings.files, path, through, self.progress) {
            Ok(list) => Some(list),
            Err(reason) => {
                self.error(
                    Diagnostic::error(span, reason)
                        .label("expected a list of prefixes or expressions, one a line"),
                );
                None
            }
        };
        self.lists.insert(key, list.clone());
        list
    }
}

/// Reads the file of `match file`.
fn read_list(
    files: &dyn Files,
    path: &str,
    through: LayerSet,
    progress: &Progress,
) -> Result<FilterTerm, String> {
    let read = files.read(Path::new(path), MOST_LIST_BYTES).map_err(|reason| reason.to_string());
    let read =
        read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    let text = read.map_err(|reason| format!("`{path}` cannot be read: {reason}"))?;
    let (mut prefixes, mut programs): (Vec<Prefix>, Vec<Program>) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        progress.go_on().map_err(|gone| gone.to_string())?;
        let entry = line.split('#').next().unwrap_or("").trim();
        if entry.is_empty() {
            continue;
        }
        match entry.parse::<Prefix>() {
            Ok(prefix) if through.is_empty() => prefixes.push(prefix),
            Err(PrefixError::Syntax) | Ok(_) => {
                let is_prefix = entry.parse::<Prefix>().is_ok();
                if is_prefix && programs.len() >= MOST_INNER_PREFIXES {
                    return Err(format!(
                        "`{path}` has more than {MOST_INNER_PREFIXES} prefixes, too many to look up `through` layers"
                    ));
                }
                let expression = if is_prefix { format!("net {entry}") } else { entry.to_owned() };
                let program = compile::compile(&expression)
                    .map_err(|error| format!("`{path}` line {}: {error}", index + 1))?;
                programs.push(program);
            }
            Err(error) => return Err(format!("`{path}` line {}: {error}", index + 1)),
        }
    }
    if prefixes.is_empty() && programs.is_empty() {
        return Err(format!("`{path}` has no entries"));
    }
    let prefixes = (!prefixes.is_empty()).then(|| Arc::new(PrefixSet::new(&prefixes, Direction::Either)));
    Ok(FilterTerm { programs, prefixes, through })
}
