//! Commands -> text of the pipeline language, in one spelling.
//!
//! The text of a command reads back as the same command, and has no word that the command does not need: variables and included files
//! are in their places, defaults are not said, values have the largest unit in which they are whole. Two files with equal texts are
//! one pipeline. Every type of the syntax tree is taken apart whole, so that a new clause does not compile before it is printed.

/// `access …`.
mod access;
/// Edits of rules and tools.
mod edit;
/// Filters, with names and without.
mod filter;
/// `group …`.
mod group;
/// `port …`.
mod port;
/// `rule …`.
mod rule;
/// Commands to a running broker.
mod session;
/// `set …`.
mod set;
/// Reads again what is printed.
mod tests;
/// `tool …`.
mod tool;
/// Values in the units of the language.
mod value;
/// `wire …`.
mod wire;

use std::fmt::{self, Display, Write};

use super::ast::{Command, Name, PipelineFile};
use super::lexer::foreign_quote;
use super::parser::is_keyword;
use super::source::Spanned;

/// Prints the commands of a pipeline that has no mistake, one a line.
///
/// Key files and lists are named, never shown. The text may be kept in any folder: the relative path of an `include` begins at the
/// folder of its file, but all other paths of the language begin at the working folder of the program, and stay as they are.
pub fn text(file: &PipelineFile) -> String {
    let mut text = String::new();
    for command in &file.commands {
        text += &Words::of(&command.value).0;
        text.push('\n');
    }
    text
}

/// Prints itself as words of a line.
trait Print {
    fn print(&self, line: &mut Words);
}

impl<T: Print> Print for Spanned<T> {
    fn print(&self, line: &mut Words) {
        self.value.print(line);
    }
}

/// Prints one clause after another.
impl<T: Print> Print for [T] {
    fn print(&self, line: &mut Words) {
        self.iter().for_each(|clause| clause.print(line));
    }
}

/// The words of one line, with single blanks between them.
#[derive(Default)]
struct Words(String);

impl Words {
    fn of(printed: &(impl Print + ?Sized)) -> Self {
        let mut line = Self::default();
        line.print(printed);
        line
    }

    /// Adds words that need no quotes.
    fn word(&mut self, word: impl Display) -> &mut Self {
        self.blank();
        write!(self.0, "{word}").expect("a string takes everything");
        self
    }

    /// Adds text of the user's as one word: a path, a name, or names with commas between them.
    fn text(&mut self, text: &str) -> &mut Self {
        if needs_quotes(text) { self.quoted(text) } else { self.word(text) }
    }

    /// Adds a word in quotes.
    fn quoted(&mut self, text: &str) -> &mut Self {
        self.blank();
        // a `$` that a quote parts from its `{` begins no variable
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$\"\"{");
        write!(self.0, "\"{escaped}\"").expect("a string takes everything");
        self
    }

    fn names(&mut self, names: &[Name]) -> &mut Self {
        let names: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        self.text(&names.join(","))
    }

    fn print(&mut self, printed: &(impl Print + ?Sized)) -> &mut Self {
        printed.print(self);
        self
    }

    /// Adds a key with its value, where there is one.
    fn key<T>(&mut self, key: &str, value: &Option<Spanned<T>>, print: impl Fn(&T) -> String) -> &mut Self {
        if let Some(value) = value {
            self.word(key).word(print(&value.value));
        }
        self
    }

    fn switch(&mut self, is_on: bool) -> &mut Self {
        self.word(if is_on { "on" } else { "off" })
    }

    fn blank(&mut self) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
    }
}

/// Returns whether the word is another, or none, without quotes.
fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\')
        || text.contains("${")
        || text.starts_with(|c: char| c == '#' || foreign_quote(c).is_some())
        || is_keyword(text)
}

impl Print for Command {
    fn print(&self, line: &mut Words) {
        match self {
            Command::Set(setting) => line.word("set").print(setting),
            Command::PortAttach { name, device, options } => {
                line.word("port attach").text(&name.value).print(device).print(options.as_slice())
            }
            Command::PortConfig { name, options } => {
                line.word("port config").text(&name.value).print(options.as_slice())
            }
            Command::PortDetach(name) => line.word("port detach").text(&name.value),
            Command::PortStart(name) => line.word("port start").text(&name.value),
            Command::PortStop(name) => line.word("port stop").text(&name.value),
            Command::ToolCreate { name, target, options } => {
                line.word("tool create").text(&name.value).print(target).print(options.as_slice())
            }
            Command::ToolModify { name, options } => {
                line.word("tool modify").text(&name.value).print(options.as_slice())
            }
            Command::ToolDestroy(name) => line.word("tool destroy").text(&name.value),
            Command::ToolDrain(name) => line.word("tool drain").text(&name.value),
            Command::ToolEnable(name) => line.word("tool enable").text(&name.value),
            Command::GroupCreate { name, options } => {
                line.word("group create").text(&name.value).print(options.as_slice())
            }
            Command::GroupModify { name, options } => {
                line.word("group modify").text(&name.value).print(options.as_slice())
            }
            Command::GroupDestroy(name) => line.word("group destroy").text(&name.value),
            Command::WireCreate { name, a, b, options } => {
                let ports = format!("{},{}", a.value, b.value);
                line.word("wire create")
                    .text(&name.value)
                    .word("ports")
                    .text(&ports)
                    .print(options.as_slice())
            }
            Command::WireModify { name, options } => {
                line.word("wire modify").text(&name.value).print(options.as_slice())
            }
            Command::WireDestroy(name) => line.word("wire destroy").text(&name.value),
            Command::FilterCreate { name, filter } => {
                line.word("filter create").text(&name.value).print(filter)
            }
            Command::FilterModify { name, filter } => {
                line.word("filter modify").text(&name.value).print(filter)
            }
            Command::FilterDestroy(name) => line.word("filter destroy").text(&name.value),
            Command::RuleCreate { priority, clauses } => {
                line.word("rule create").word(priority.value).print(clauses.as_slice())
            }
            Command::RuleModify { priority, clauses } => {
                line.word("rule modify").word(priority.value).print(clauses.as_slice())
            }
            Command::RuleEnable(priority) => line.word("rule enable").word(priority.value),
            Command::RuleDisable(priority) => line.word("rule disable").word(priority.value),
            Command::RuleDestroy(priority) => line.word("rule destroy").word(priority.value),
            Command::RuleDestroyAll => line.word("rule destroy all"),
            Command::AccessGrant(grant) => line.word("access grant").print(grant),
            Command::AccessRevoke(grantee) => line.word("access revoke").print(grantee),
            Command::Start => line.word("start"),
            Command::Stop => line.word("stop"),
            Command::Show(show) => line.word("show").word(show.word()),
            Command::ClearStats => line.word("clear stats"),
            Command::Quit => line.word("quit"),
        };
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Words::of(self).0)
    }
}
