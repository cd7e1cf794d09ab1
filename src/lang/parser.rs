//! Lines of words -> commands, a line at a time, so that every mistake of a file is found in one reading.

mod edit;
mod group;
mod line;
mod port;
mod rule;
mod set;
mod tool;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Parsed;
use super::ast::{Command, Name, NameKind, PipelineFile, Show, Spanned};
use super::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use super::lexer::{Lexer, Variables, WordLine, is_variable_name};
use super::source::{SourceId, Sources, Span};
use super::value;
use line::{Line, Read};

/// Files within files.
const MOST_NESTED: usize = 16;
/// Included files in all: files that include several others each grow exponentially without a limit.
const MOST_FILES: usize = 1000;
/// Bytes of one file. A device file would never end.
const MOST_FILE_BYTES: u64 = 16 << 20;

/// What one line asks for.
enum Statement {
    Command(Command),
    Include(Name),
    Let { name: Name, value: Option<(String, bool)> },
}

type Reader = fn(&mut Line) -> Read<Statement>;

/// Every command by its first word.
const STATEMENTS: &[(&str, Reader)] = &[
    ("set", |line| set::command(line).map(Statement::Command)),
    ("port", |line| port::command(line).map(Statement::Command)),
    ("tool", |line| tool::command(line).map(Statement::Command)),
    ("group", |line| group::group(line).map(Statement::Command)),
    ("wire", |line| group::wire(line).map(Statement::Command)),
    ("filter", |line| group::filter(line).map(Statement::Command)),
    ("rule", |line| rule::command(line).map(Statement::Command)),
    ("let", let_variable),
    ("include", |line| Ok(Statement::Include(line.value("include", value::text("a file's path"))?))),
    ("start", |_| Ok(Statement::Command(Command::Start))),
    ("stop", |_| Ok(Statement::Command(Command::Stop))),
    ("show", |line| Ok(Statement::Command(Command::Show(line.choice("show", SHOW)?.value)))),
    ("clear", |line| line.expect("stats").map(|()| Statement::Command(Command::ClearStats))),
    ("quit", |_| Ok(Statement::Command(Command::Quit))),
];

const SHOW: &[(&str, Show)] = &[
    ("ports", Show::Ports),
    ("tools", Show::Tools),
    ("groups", Show::Groups),
    ("wires", Show::Wires),
    ("filters", Show::Filters),
    ("rules", Show::Rules),
    ("lcores", Show::Lcores),
    ("stats", Show::Stats),
    ("plan", Show::Plan),
];

/// `let NAME VALUE`.
fn let_variable(line: &mut Line) -> Read<Statement> {
    let name = line.value("let", |text| match is_variable_name(text) {
        true => Ok(text.to_string()),
        false => Err(value::Misread::expected("a variable's name: letters, digits and `_`, not beginning with a digit")),
    })?;
    let is_quoted = line.peek().is_some_and(|word| word.quoted);
    // An empty value is a value, if it is written as "".
    let read = line.value("let", |text| match text.is_empty() && !is_quoted {
        true => Err(value::Misread::expected("a value, in double quotes if it has blanks")),
        false => Ok(text.to_string()),
    });
    Ok(Statement::Let { name, value: read.ok().map(|value| (value.value, is_quoted)) })
}

/// Whether a `--set` that no file uses is worth a warning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    Warned,
    Ignored,
}

pub fn load(path: &Path, variables: Variables) -> Parsed {
    let mut parser = Parser::new(variables);
    let name = path.display().to_string();
    match read_file(path) {
        Ok(bytes) => parser.file(name, path.to_path_buf(), bytes, None),
        Err(reason) => {
            let source = parser.sources.add(name, String::new(), None);
            parser.diagnostics.push(Diagnostic::of_file(Severity::Error, source, format!("cannot read the file: {reason}")));
            parser.file.incomplete = true;
        }
    }
    parser.finish(Unused::Warned)
}

pub fn text(name: &str, text: &str, variables: Variables, unused: Unused) -> Parsed {
    let mut parser = Parser::new(variables);
    parser.file(name.into(), name.into(), text.as_bytes().to_vec(), None);
    parser.finish(unused)
}

struct Parser {
    sources: Sources,
    variables: Variables,
    diagnostics: Diagnostics,
    file: PipelineFile,
    /// The files being read, outermost first.
    open: Vec<PathBuf>,
}

impl Parser {
    fn new(variables: Variables) -> Parser {
        Parser {
            sources: Sources::default(),
            variables,
            diagnostics: Diagnostics::default(),
            file: PipelineFile::default(),
            open: Vec::new(),
        }
    }

    fn finish(mut self, unused: Unused) -> Parsed {
        if unused == Unused::Warned && !self.file.incomplete {
            let first = self.diagnostics.is_empty().then(|| self.sources.first()).flatten();
            for (source, name) in
                first.into_iter().flat_map(|source| self.variables.unused_sets().into_iter().map(move |n| (source, n)))
            {
                let message = format!("`--set {name}` has no effect: the file has no `${{{name}}}`");
                self.diagnostics.push(Diagnostic::of_file(Severity::Warning, source, message));
            }
        }
        self.diagnostics.sort(&self.sources);
        Parsed { sources: self.sources, file: self.file, diagnostics: self.diagnostics, variables: self.variables }
    }

    fn file(&mut self, name: String, path: PathBuf, bytes: Vec<u8>, included_from: Option<Span>) {
        // Editors of other systems put a byte order mark before the first word.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        let source = self.sources.add(name, text.clone(), included_from);
        if let Err(error) = std::str::from_utf8(bytes) {
            let start = error.valid_up_to();
            let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
            let error = Diagnostic::error(Span { source, start, end }, format!("byte 0x{:02x} is not UTF-8", bytes[start]));
            self.diagnostics.push(error.label("expected UTF-8 text"));
            self.file.incomplete = true;
            return;
        }
        self.open.push(path);
        self.lines(source, &text);
        self.open.pop();
    }

    fn lines(&mut self, source: SourceId, text: &str) {
        let mut lexer = Lexer::new(source, text);
        while let Some(words) = lexer.next_line(&mut self.variables, &mut self.diagnostics) {
            self.line(&words);
        }
    }

    fn line(&mut self, words: &WordLine) {
        let Some(first) = words.words.first() else { return };
        let mut line = Line::new(words, &mut self.diagnostics);
        let statement = line.keyword("command", STATEMENTS).and_then(|read| {
            let statement = read(&mut line)?;
            line.expect_end();
            Ok(statement)
        });
        let flawed = line.is_flawed();
        if flawed {
            self.file.broken.extend(broken_names(words, line.defined()));
        }
        let span = first.span.to(words.end);
        match statement {
            Ok(Statement::Command(command)) if flawed => self.file.partial.push(Spanned::new(command, span)),
            Ok(Statement::Command(command)) => self.file.commands.push(Spanned::new(command, span)),
            Ok(Statement::Let { name, value }) => self.variables.define(&name.value, value),
            Ok(Statement::Include(_)) if flawed => self.file.incomplete = true,
            Ok(Statement::Include(path)) => self.include(&path),
            Err(_) => {
                if first.is("include") {
                    self.file.incomplete = true;
                }
            }
        }
    }

    fn include(&mut self, written: &Name) {
        let beside = self.open.last().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        let path = beside.join(&written.value);
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let target = canonical(&path);
        let error = |message: String| Diagnostic::error(written.span, message);
        let refused = if let Some(first) = self.open.iter().position(|open| canonical(open) == target) {
            let circle: Vec<String> = self.open[first..].iter().chain([&path]).map(|path| path.display().to_string()).collect();
            error(format!("{} includes itself", quoted(&self.open[first].display().to_string())))
                .label(format!("the way round is {}", circle.join(" -> ")))
                .help("remove one of the includes")
        } else if self.open.len() > MOST_NESTED {
            error("too many files within files".into()).label(format!("expected at most {MOST_NESTED}"))
        } else if self.sources.len() > MOST_FILES {
            error("too many included files".into()).label(format!("expected at most {MOST_FILES} in all"))
        } else {
            match read_file(&path) {
                Ok(bytes) => return self.file(path.display().to_string(), path, bytes, Some(written.span)),
                Err(reason) => error(format!("cannot read {}: {reason}", quoted(&path.display().to_string())))
                    .label("expected a file; relative paths begin at the including file"),
            }
        };
        self.diagnostics.push(refused);
        self.file.incomplete = true;
    }
}

/// The names that a line with a mistake would have defined. If the mistake came before the name, its third word probably is it.
fn broken_names(line: &WordLine, defined: Option<(NameKind, String)>) -> Vec<(NameKind, String)> {
    if let Some(defined) = defined {
        return vec![defined];
    }
    let Some(name) = line.words.get(2).filter(|word| !word.poisoned) else { return Vec::new() };
    let kinds = NameKind::ALL.into_iter();
    let first = &line.words[0];
    match NameKind::ALL.into_iter().find(|kind| first.is(kind.word())) {
        Some(kind) => vec![(kind, name.text.clone())],
        None if STATEMENTS.iter().any(|(word, _)| first.is(word)) => Vec::new(),
        None => kinds.map(|kind| (kind, name.text.clone())).collect(),
    }
}

/// # Errors
/// The reason in the words of the operating system, or ours for a file that is too large.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // "No such file or directory (os error 2)": the number helps nobody.
    let reason = |error: std::io::Error| {
        let text = error.to_string();
        text.split(" (os error").next().unwrap_or(&text).to_lowercase()
    };
    File::open(path).and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(reason)?;
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(format!("it has more than {} MiB", MOST_FILE_BYTES >> 20));
    }
    Ok(bytes)
}
