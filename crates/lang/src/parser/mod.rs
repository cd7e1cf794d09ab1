//! Lines of words -> commands, a line at a time, so that every mistake of a file is found in one reading.

/// Commands that begin with `access`.
mod access;
/// This is what may stand at the end of a line.
mod complete;
/// Edits, as rules and tools have them.
mod edit;
/// Commands that begin with `filter`.
mod filter;
/// Commands that begin with `group`.
mod group;
/// The words of one line, read in the order of the grammar.
mod line;
/// Commands that begin with `port`.
mod port;
/// Commands that begin with `rule`.
mod rule;
/// Commands to a running broker.
mod session;
/// Commands that begin with `set`.
mod set;
/// Commands that begin with `tool`.
mod tool;
/// Commands that begin with `wire`.
mod wire;

use std::path::{Path, PathBuf};

use super::ast::session::SessionCommand;
use super::ast::{Command, Name, PipelineFile, Show};
use super::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use super::files::{Files, NoFiles, Unreadable};
use super::lexer::{Lexer, Variables, WordLine, is_variable_name};
use super::source::{SourceId, Sources, Span, Spanned};
use super::{Parsed, value};
pub use complete::{Names, Wanted, completions};
use line::{About, Clause, Line, Read, Verb};
use session::Session;
pub use session::role as role_of;
use tapline_api::words::{NameKind, Role};

/// Files within files.
const MOST_NESTED: usize = 16;
/// Included files in all: files that include several others each grow exponentially without a limit.
const MOST_FILES: usize = 1000;
/// Bytes of all files together. A device file would never end.
const MOST_BYTES: u64 = 16 << 20;

/// The statement that one line makes.
enum Statement {
    Command(Command),
    Session(SessionCommand),
    Include(Name),
    Let { name: Name, value: Option<(String, bool)> },
}

type Reader = fn(&mut Line<'_>) -> Read<Statement>;

/// The commands that a first word begins.
#[derive(Clone, Copy)]
enum Form {
    /// Commands that a second word tells apart.
    Verbs(&'static str, &'static [(&'static str, Verb)]),
    /// A command of its own.
    Alone(About, Reader),
    /// A command to a running broker.
    Session(Session),
}

const fn alone(role: Role, usage: &'static str, does: &'static str, read: Reader) -> Form {
    Form::Alone(About { role, usage, does }, read)
}

/// Every command by its first word.
const STATEMENTS: &[(&str, Form)] = &[
    (
        "set",
        alone(Role::Admin, "KEY VALUE", "sets the engine", |line| {
            set::command(line).map(Statement::Command)
        }),
    ),
    ("port", Form::Verbs("port command", port::VERBS)),
    ("tool", Form::Verbs("tool command", tool::VERBS)),
    ("group", Form::Verbs("group command", group::VERBS)),
    ("wire", Form::Verbs("wire command", wire::VERBS)),
    ("filter", Form::Verbs("filter command", filter::VERBS)),
    ("rule", Form::Verbs("rule command", rule::VERBS)),
    ("access", Form::Verbs("access command", access::VERBS)),
    ("let", alone(Role::Operator, "NAME VALUE", "defines what ${NAME} stands for", let_variable)),
    (
        "include",
        alone(Role::Operator, "FILE", "reads the commands of a file", |line| {
            Ok(Statement::Include(line.value("include", value::text("a file's path"))?))
        }),
    ),
    (
        "start",
        alone(Role::Admin, "", "begins to receive packets", |_| Ok(Statement::Command(Command::Start))),
    ),
    (
        "stop",
        alone(Role::Admin, "", "receives no more packets, and sends what waits", |_| {
            Ok(Statement::Command(Command::Stop))
        }),
    ),
    (
        "show",
        alone(
            Role::Viewer,
            "ports|tools|groups|wires|filters|rules|lcores|stats|plan|config",
            "prints a table, the plan in words, or the commands in force",
            |line| Ok(Statement::Command(Command::Show(line.choice("show", SHOW)?.value))),
        ),
    ),
    (
        "clear",
        alone(Role::Operator, "stats", "counts from zero again", |line| {
            line.expect("stats").map(|()| Statement::Command(Command::ClearStats))
        }),
    ),
    ("quit", alone(Role::Admin, "", "ends the broker", |_| Ok(Statement::Command(Command::Quit)))),
];

/// The words that prompts and the control socket take before a line is read as a command.
const OF_FRONT_ENDS: [&str; 3] = ["help", "cancel", "exit"];

/// A command of the language: who may give it, how it is written, and what it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandHelp {
    /// The words that it begins with.
    pub words: String,
    pub role: Role,
    /// The forms of what follows, divided by ` | `.
    pub usage: &'static str,
    /// The rest of "this command …".
    pub does: &'static str,
}

/// Lists all commands of the language, in the order of the parser's tables.
pub fn commands() -> Vec<CommandHelp> {
    let help = |words: String, About { role, usage, does }: About| CommandHelp { words, role, usage, does };
    let rows = STATEMENTS.iter().flat_map(|&(first, form)| match form {
        Form::Alone(about, _) => vec![help(first.to_owned(), about)],
        // none is in this table
        Form::Session(_) => Vec::new(),
        Form::Verbs(_, verbs) => {
            verbs.iter().map(|(second, verb)| help(format!("{first} {second}"), verb.about)).collect()
        }
    });
    let session = session::rows().map(|(word, about)| help(word.to_owned(), about));
    rows.chain(session).collect()
}

const SHOW: &[(&str, Show)] = &[
    (Show::Ports.word(), Show::Ports),
    (Show::Tools.word(), Show::Tools),
    (Show::Groups.word(), Show::Groups),
    (Show::Wires.word(), Show::Wires),
    (Show::Filters.word(), Show::Filters),
    (Show::Rules.word(), Show::Rules),
    (Show::Lcores.word(), Show::Lcores),
    (Show::Stats.word(), Show::Stats),
    (Show::Plan.word(), Show::Plan),
    (Show::Config.word(), Show::Config),
];

/// Returns whether `text` begins a clause, or follows a name in the grammar: where a name or a path may stand, such a word is one only in
/// quotes.
pub(crate) fn is_keyword(text: &str) -> bool {
    fn begins<T>(table: &'static [Clause<T>], text: &str) -> bool {
        table.iter().any(|clause| clause.word() == text)
    }
    value::RESERVED.contains(&text)
        || begins(port::OPTIONS, text)
        || begins(tool::OPTIONS, text)
        || begins(group::OPTIONS, text)
        || begins(wire::OPTIONS, text)
        || begins(rule::CLAUSES, text)
        || text == access::PEEK
}

/// `let NAME VALUE`.
fn let_variable(line: &mut Line<'_>) -> Read<Statement> {
    let name = line.value("let", |text| match is_variable_name(text) {
        true => Ok(text.to_string()),
        false => Err(value::Misread::expected(
            "a variable's name: letters, digits and `_`, not beginning with a digit",
        )),
    })?;
    let is_quoted = line.peek().is_some_and(|word| word.quoted);
    // An empty value is a value, if it is written as "".
    let read = line.value("let", |text| match text.is_empty() && !is_quoted {
        true => Err(value::Misread::expected("a value, in double quotes if it has blanks")),
        false => Ok(text.to_string()),
    });
    Ok(Statement::Let { name, value: read.ok().map(|value| (value.value, is_quoted)) })
}

/// Says whether a `--set` that no file uses is worth a warning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    Warned,
    Ignored,
}

/// The kinds of files that a pipeline may be read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A pipe, too.
    Any,
    Regular,
}

pub(crate) fn load(path: &Path, variables: Variables, files: &dyn Files, opened: Opened) -> Parsed {
    let mut parser = Parser::new(variables, files);
    let read = match opened {
        Opened::Any => files.read_pipeline(path, MOST_BYTES),
        Opened::Regular => files.read(path, MOST_BYTES),
    };
    match read {
        Ok(bytes) => parser.file(path.to_path_buf(), &bytes, None),
        Err(reason) => {
            let source = parser.sources.add_file(path, String::new(), None);
            parser.diagnostics.push(Diagnostic::of_file(
                Severity::Error,
                source,
                format!("cannot read the file: {reason}"),
            ));
            parser.file.incomplete = true;
        }
    }
    parser.finish(Unused::Warned)
}

pub(crate) fn text(name: &str, text: &str, variables: Variables, unused: Unused) -> Parsed {
    let mut parser = Parser::new(variables, &NoFiles);
    parser.typed(name, text.as_bytes());
    parser.finish(unused)
}

pub(crate) fn onto(accepted: &Parsed, text: &[u8], files: &dyn Files) -> Parsed {
    let mut parser = Parser::new(accepted.variables.clone(), files);
    parser.sources = accepted.sources.clone();
    parser.first_source = parser.sources.len();
    parser.is_session = true;
    parser.typed("prompt", text);
    Parsed { outputs: accepted.outputs.clone(), ..parser.finish(Unused::Ignored) }
}

/// Reads the statement that a line makes; one that is typed may speak to a running broker.
fn read(line: &mut Line<'_>, is_typed: bool) -> Read<Statement> {
    let row = line.peek().and_then(|first| session::row(first, line.behind())).filter(|_| is_typed);
    let form = match row {
        Some(row) => {
            line.advance();
            Form::Session(row)
        }
        None if is_typed => {
            session::offer(line);
            let others: Vec<&str> = session::words().chain(OF_FRONT_ENDS).collect();
            line.keyword_beside("command", STATEMENTS, &others)?
        }
        None => line.keyword("command", STATEMENTS)?,
    };
    let statement = match form {
        Form::Session(row) => {
            line.needs(row.about.role);
            (row.read)(line).map(Statement::Session)?
        }
        Form::Verbs(what, verbs) => line.verb(what, verbs).map(Statement::Command)?,
        Form::Alone(about, read) => {
            line.needs(about.role);
            read(line)?
        }
    };
    line.expect_end();
    Ok(statement)
}

struct Parser<'a> {
    files: &'a dyn Files,
    sources: Sources,
    /// The place of the first text that is read here; those before it were read earlier.
    first_source: usize,
    variables: Variables,
    diagnostics: Diagnostics,
    file: PipelineFile,
    /// The files being read, outermost first.
    open: Vec<PathBuf>,
    /// The bytes that further files may have.
    bytes_left: u64,
    /// Who may give all of the commands.
    role: Role,
    /// A broker is there to be spoken to.
    is_session: bool,
    session: Vec<Spanned<SessionCommand>>,
}

impl<'a> Parser<'a> {
    fn new(variables: Variables, files: &'a dyn Files) -> Self {
        Self {
            files,
            sources: Sources::default(),
            first_source: 0,
            variables,
            diagnostics: Diagnostics::default(),
            file: PipelineFile::default(),
            open: Vec::new(),
            bytes_left: MOST_BYTES,
            role: Role::Viewer,
            is_session: false,
            session: Vec::new(),
        }
    }

    fn finish(mut self, unused: Unused) -> Parsed {
        if unused == Unused::Warned && !self.file.incomplete {
            let first = self.diagnostics.is_empty().then(|| self.sources.first()).flatten();
            for (source, name) in first
                .into_iter()
                .flat_map(|source| self.variables.unused_sets().into_iter().map(move |n| (source, n)))
            {
                let message = format!("`--set {name}` has no effect: the file has no `${{{name}}}`");
                self.diagnostics.push(Diagnostic::of_file(Severity::Warning, source, message));
            }
        }
        self.diagnostics.sort(&self.sources);
        Parsed {
            sources: self.sources,
            file: self.file,
            diagnostics: self.diagnostics,
            variables: self.variables,
            outputs: Vec::new(),
            role: self.role,
            session: self.session,
        }
    }

    /// Reads what a file holds.
    fn file(&mut self, path: PathBuf, bytes: &[u8], included_from: Option<Span>) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        let bytes = without_byte_order_mark(bytes);
        let source =
            self.sources.add_file(&path, String::from_utf8_lossy(bytes).into_owned(), included_from);
        self.text(source, path.clone(), bytes);
        let is_wrong = self
            .diagnostics
            .iter()
            .any(|found| found.span().source == source && found.severity == Severity::Error);
        if is_wrong && !self.files.may_be_shown(&path) {
            self.keep_to_itself(source);
        }
    }

    /// Reads what was typed, or handed over, under this name.
    fn typed(&mut self, name: &str, bytes: &[u8]) {
        let bytes = without_byte_order_mark(bytes);
        let source = self.sources.add(name.to_owned(), String::from_utf8_lossy(bytes).into_owned(), None);
        self.text(source, name.into(), bytes);
    }

    fn text(&mut self, source: SourceId, path: PathBuf, bytes: &[u8]) {
        if let Err(error) = std::str::from_utf8(bytes) {
            let start = error.valid_up_to();
            let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
            let error = Diagnostic::error(
                Span { source, start, end },
                format!("byte 0x{:02x} is not UTF-8", bytes[start]),
            );
            self.diagnostics.push(error.label("expected UTF-8 text"));
            self.file.incomplete = true;
            return;
        }
        self.open.push(path);
        let text = self.sources.get(source).text().to_owned();
        self.lines(source, &text);
        self.open.pop();
    }

    /// Says of a file with mistakes that it has them, without a word of what it holds: it may be no pipeline file at all.
    fn keep_to_itself(&mut self, source: SourceId) {
        let mistakes = self.diagnostics.iter().filter(|found| found.span().source == source).count();
        self.diagnostics.retain(|found| found.span().source != source);
        self.file.commands.retain(|command| command.span.source != source);
        self.file.partial.retain(|command| command.span.source != source);
        self.file.incomplete = true;
        let origin = self.sources.get(source);
        let name = quoted(origin.name());
        let message =
            format!("{name} has {mistakes} {}", if mistakes == 1 { "mistake" } else { "mistakes" });
        let help = "a file that not everyone may read is shown only where its name ends in `.pipe`";
        let found = match origin.included_from() {
            Some(word) => Diagnostic::error(word, message).label("expected a pipeline file"),
            None => Diagnostic::of_file(Severity::Error, source, message),
        };
        self.diagnostics.push(found.help(help));
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
        // what is included is a file
        let is_typed = self.is_session && self.open.len() == 1;
        let statement = read(&mut line, is_typed);
        self.role = self.role.max(line.role());
        let flawed = line.is_flawed();
        if flawed {
            self.file.broken.extend(broken_names(words, line.defined()));
        }
        let span = first.span.to(words.end);
        match statement {
            Ok(Statement::Session(_)) if flawed => {}
            Ok(Statement::Session(command)) => self.session.push(Spanned::new(command, span)),
            Ok(Statement::Command(command)) if flawed => {
                self.file.partial.push(Spanned::new(command, span))
            }
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
        let target = self.files.target(&path);
        let leads_there =
            |open: &PathBuf| *open == path || target.is_some() && self.files.target(open) == target;
        let error = |message: String| Diagnostic::error(written.span, message);
        let refused = if let Some(first) = self.open.iter().position(leads_there) {
            let circle: Vec<String> =
                self.open[first..].iter().chain([&path]).map(|path| path.display().to_string()).collect();
            error(format!("{} includes itself", quoted(&self.open[first].display().to_string())))
                .label(format!("the way round is {}", circle.join(" -> ")))
                .help("remove one of the includes")
        } else if self.open.len() > MOST_NESTED {
            error("too many files within files".into()).label(format!("expected at most {MOST_NESTED}"))
        } else if self.sources.len() - self.first_source > MOST_FILES {
            error("too many included files".into()).label(format!("expected at most {MOST_FILES} in all"))
        } else {
            match self.files.read(&path, self.bytes_left) {
                Ok(bytes) => return self.file(path, &bytes, Some(written.span)),
                Err(Unreadable::TooLong(_)) if self.bytes_left < MOST_BYTES => error(format!(
                    "the files have more than {} MiB with {}",
                    MOST_BYTES >> 20,
                    quoted(&path.display().to_string())
                ))
                .label(format!("expected at most {} MiB in all", MOST_BYTES >> 20)),
                Err(reason) => {
                    error(format!("cannot read {}: {reason}", quoted(&path.display().to_string())))
                        .label("expected a file; relative paths begin at the including file")
                }
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

/// Editors of other systems put a byte order mark before the first word.
fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

#[cfg(test)]
mod words {
    use super::line::{Clause, Verb};
    use super::{STATEMENTS, filter, group, port, rule, set, tool, wire};

    #[test]
    fn the_file_that_says_everything_has_every_word() {
        let text = include_str!("../../../../testbed/lang/everything.pipe");
        let said: std::collections::HashSet<&str> =
            text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
        let words =
            |table: &[(&'static str, Verb)]| table.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        fn options<T>(table: &[Clause<T>]) -> Vec<&'static str> {
            table.iter().map(Clause::word).collect()
        }
        let all = [
            STATEMENTS.iter().map(|(word, _)| *word).collect(),
            set::KEYS.iter().map(|(word, _)| *word).collect(),
            tool::TARGETS.iter().map(|(word, _)| *word).collect(),
            words(port::VERBS),
            words(tool::VERBS),
            words(group::VERBS),
            words(wire::VERBS),
            words(filter::VERBS),
            words(rule::VERBS),
            options(port::OPTIONS),
            options(tool::OPTIONS),
            options(group::OPTIONS),
            options(wire::OPTIONS),
            options(rule::CLAUSES),
        ];
        let missing: Vec<&str> = all.concat().into_iter().filter(|word| !said.contains(word)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ast::edit::*;
    use super::super::ast::filter::*;
    use super::super::ast::rule::*;
    use super::super::ast::tool::*;
    use super::super::ast::*;
    use super::super::files::InMemory;
    use super::super::source::Position;
    use super::super::{load, parse_command, parse_command_with, parse_text};
    use super::*;

    fn clauses(rule: &str) -> Vec<RuleClause> {
        let parsed = parse_command(rule);
        assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&parsed.sources));
        match parsed.file.commands.into_iter().next().map(|command| command.value) {
            Some(Command::RuleCreate { clauses, .. }) => {
                clauses.into_iter().map(|clause| clause.value).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_keeps_its_clauses_with_their_places() {
        let text = "rule create 20 from tap0 vlan 100-110 match \"udp port 53\" sample flow 1/10 slice 128 to remote class high";
        let parsed = parse_command(text);
        assert!(parsed.diagnostics.is_empty());
        let Command::RuleCreate { priority, clauses } = &parsed.file.commands[0].value else { panic!() };
        assert_eq!(priority.value, 20);
        let written: Vec<&str> = clauses.iter().map(|clause| parsed.sources.text(clause.span)).collect();
        let expected = [
            "from tap0",
            "vlan 100-110",
            "match \"udp port 53\"",
            "sample flow 1/10",
            "slice 128",
            "to remote",
            "class high",
        ];
        assert_eq!(written, expected);
        assert_eq!(clauses[1].value, RuleClause::Vlan(Ranges(vec![(100, 110)])));
        assert_eq!(
            clauses[3].value,
            RuleClause::Sample(Sample::Flow { one_in: 10, hash: None, seed: None })
        );
        assert_eq!(clauses[4].value, RuleClause::Edit(Edit::Slice { keep_bytes: 128, after: None }));
    }

    #[test]
    fn terms_are_joined_to_a_match_in_their_order() {
        let clauses =
            clauses("rule create 1 from any match web and vni 5-7 and bytes 2 0x47/f7 after l4 to a");
        let RuleClause::Match(terms) = &clauses[1] else { panic!() };
        assert!(
            matches!(&terms[0].value, Term::Filter(Filter { source, .. }) if source.value == FilterSource::Named("web".into()))
        );
        assert_eq!(terms[1].value, Term::Vni(Ranges(vec![(5, 7)])));
        let Term::Bytes { offset: 2, value, mask, after: Some(after) } = &terms[2].value else { panic!() };
        assert_eq!(
            (value.as_slice(), mask.as_slice(), after.value),
            (&[0x47][..], &[0xf7][..], tapline_api::words::Anchor::L4)
        );
    }

    #[test]
    fn quotes_tell_an_expression_from_a_name() {
        let source = |rule: &str| match clauses(rule).swap_remove(1) {
            RuleClause::Match(terms) => match terms.into_iter().next().map(|term| term.value) {
                Some(Term::Filter(filter)) => filter.source.value,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(source("rule create 1 from any match tcp to a"), FilterSource::Named("tcp".into()));
        assert_eq!(
            source("rule create 1 from any match \"tcp\" to a"),
            FilterSource::Expression("tcp".into())
        );
        let parsed = parse_text("t", "let F \"tcp\"\nrule create 1 from any match ${F} to a", &[]);
        let Command::RuleCreate { clauses, .. } = &parsed.file.commands[0].value else { panic!() };
        let RuleClause::Match(terms) = &clauses[1].value else { panic!() };
        assert!(
            matches!(&terms[0].value, Term::Filter(f) if f.source.value == FilterSource::Expression("tcp".into()))
        );
    }

    #[test]
    fn a_transport_gathers_its_keys_in_any_order() {
        let parsed = parse_command(
            "tool create r port up0 dst 198.18.0.9 queue 64 erspan3 ttl 9 session 7 src 198.18.0.1 df",
        );
        let Command::ToolCreate { options, .. } = &parsed.file.commands[0].value else { panic!() };
        let transport = options.iter().find_map(|option| match &option.value {
            ToolOption::Transport(transport) => Some(transport),
            _ => None,
        });
        let Some(Transport::Erspan(erspan)) = transport.map(|transport| &**transport) else {
            panic!("{options:?}")
        };
        assert_eq!((erspan.version, erspan.session.value), (3, 7));
        assert_eq!(erspan.outer.dst.value.to_string(), "198.18.0.9");
        assert_eq!(erspan.outer.ttl.as_ref().map(|ttl| ttl.value), Some(9));
        assert_eq!(erspan.outer.df.as_ref().map(|df| df.value), Some(true));
    }

    #[test]
    fn a_flawed_definition_still_excuses_the_uses_of_its_name() {
        let parsed = parse_text(
            "t",
            "tool create ids port p rxx 7\nport atach tap0 net_null0\nfilter create web \"tcp",
            &[],
        );
        assert_eq!(parsed.diagnostics.errors(), 3);
        assert!(parsed.file.commands.is_empty());
        assert!(parsed.file.is_excused(NameKind::Tool, "ids"));
        assert!(parsed.file.is_excused(NameKind::Port, "tap0"));
        assert!(parsed.file.is_excused(NameKind::Filter, "web"));
        assert!(!parsed.file.is_excused(NameKind::Tool, "tap0"));
    }

    #[test]
    fn the_clauses_that_are_right_remain_for_the_planner_in_a_line_with_a_mistake() {
        let parsed = parse_command("rule create 1 from tap0 sample 1/x to ids");
        let Command::RuleCreate { clauses, .. } = &parsed.file.partial[0].value else { panic!() };
        assert!(
            matches!(&clauses[..], [from, to] if matches!(from.value, RuleClause::From(_)) && matches!(to.value, RuleClause::To(_)))
        );
    }

    #[test]
    fn variables_of_one_command_serve_the_next() {
        let first = parse_command("let TAP tap0");
        let second = parse_command_with("port detach ${TAP}", first.variables);
        assert!(
            matches!(&second.file.commands[0].value, Command::PortDetach(name) if name.value == "tap0")
        );
    }

    #[test]
    fn a_missing_file_and_one_that_may_not_be_named_are_diagnostics() {
        for (path, files) in [("x.pipe", &InMemory::default() as &dyn Files), ("x.pipe", &NoFiles)] {
            let parsed = load(Path::new(path), &[], files);
            assert_eq!(parsed.diagnostics.errors(), 1);
            assert!(parsed.file.incomplete);
        }
    }

    #[test]
    fn files_that_include_two_others_each_come_to_an_end() {
        let mut files = InMemory::default();
        for depth in 0..12 {
            let next = depth + 1;
            let text = format!("include {next}.pipe\n").repeat(3);
            files.put(format!("folder/{depth}.pipe"), text);
        }
        files.put("folder/12.pipe", "");
        let parsed = load(Path::new("folder/0.pipe"), &[], &files);
        assert!(parsed.sources.len() <= MOST_FILES + 1);
        assert!(parsed.diagnostics.iter().any(|d| d.message == "too many included files"));
    }

    #[test]
    fn a_chain_of_includes_has_a_limit() {
        let mut files = InMemory::default();
        for depth in 0..40 {
            files.put(format!("{depth}.pipe"), format!("include {}.pipe\n", depth + 1));
        }
        let parsed = load(Path::new("0.pipe"), &[], &files);
        let messages: Vec<&str> = parsed.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, ["too many files within files"]);
    }

    /// Every word that the grammar knows, values of each kind, and the characters that the lexer treats apart.
    fn word() -> impl Strategy<Value = String> {
        let known = include_str!("../../../../testbed/lang/everything.pipe")
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>();
        let marks = [
            "\"",
            "\\",
            "\\\n",
            "\n",
            "${",
            "${DIR}",
            "}",
            "#",
            ",",
            "é",
            "\t",
            "\u{1}",
            "'",
            "“",
            "\r\n",
            "let X y\n",
            "${X}",
        ];
        prop_oneof![
            6 => proptest::sample::select(known),
            2 => proptest::sample::select(marks.map(str::to_string).to_vec()),
            1 => "\\PC{0,6}",
        ]
    }

    fn assert_places_are_sound(parsed: &Parsed) -> Result<(), TestCaseError> {
        let commands = parsed.file.commands.iter().chain(&parsed.file.partial).map(|command| command.span);
        let mistakes = parsed.diagnostics.iter().map(Diagnostic::span);
        for span in commands.chain(mistakes) {
            let text = parsed.sources.get(span.source).text();
            prop_assert!(text.get(span.start..span.end).is_some(), "{span:?} is no part of {text:?}");
            let Position { line, column } = parsed.sources.position(span);
            prop_assert!(line >= 1 && column >= 1);
        }
        let rendered = parsed.diagnostics.render(&parsed.sources);
        prop_assert!(!rendered.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{rendered:?}");
        Ok(())
    }

    proptest! {
        #[test]
        fn no_words_make_the_parser_panic_or_point_outside_the_text(words in proptest::collection::vec(word(), 0..40), glue in "[ ]?") {
            let text = words.join(if glue.is_empty() { " " } else { &glue });
            assert_places_are_sound(&parse_text("random", &text, &[]))?;
        }

        #[test]
        fn no_bytes_make_the_parser_panic_or_point_outside_the_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::new(Variables::default(), &NoFiles);
            parser.typed("random", &bytes);
            assert_places_are_sound(&parser.finish(Unused::Warned))?;
        }
    }

    /// The lines of the golden text without a mistake that stand for themselves.
    fn right_lines() -> impl Iterator<Item = Vec<&'static str>> {
        let lines = include_str!("../../../../testbed/lang/everything.pipe").lines();
        lines
            .filter(|line| !line.contains(['"', '#', '\\', '$']) && !line.starts_with("include"))
            .map(|l| l.split_whitespace().collect())
    }

    fn assert_at_most_one_mistake(words: &[String]) {
        let parsed = parse_command(&words.join(" "));
        assert!(parsed.diagnostics.errors() <= 1, "{}", parsed.diagnostics.render(&parsed.sources));
    }

    #[test]
    fn a_slip_in_one_word_of_a_right_line_gives_at_most_one_mistake() {
        for line in right_lines() {
            for word in 0..line.len() {
                for slip in 0..line[word].len() {
                    let mut words: Vec<String> = line.iter().map(ToString::to_string).collect();
                    words[word].insert(slip, 'q');
                    assert_at_most_one_mistake(&words);
                    words[word].remove(slip);
                    words[word].replace_range(slip..=slip, "");
                    assert_at_most_one_mistake(&words);
                }
                let mut words: Vec<String> = line.iter().map(ToString::to_string).collect();
                words[word] = "nonsense".into();
                assert_at_most_one_mistake(&words);
            }
        }
    }

    #[test]
    fn a_word_too_few_gives_at_most_one_mistake() {
        for line in right_lines() {
            for word in 0..line.len() {
                let mut words: Vec<String> = line.iter().map(ToString::to_string).collect();
                words.truncate(word);
                assert_at_most_one_mistake(&words);
                let mut words: Vec<String> = line.iter().map(ToString::to_string).collect();
                words.remove(word);
                assert_at_most_one_mistake(&words);
            }
        }
    }
}
