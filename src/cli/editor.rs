//! The line editor of the prompts: keys, history, completion, and lines of others above the one that is typed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustyline::completion::Completer;
use rustyline::config::{BellStyle, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Helper};

use super::output;
use crate::control::complete::Completion;
use crate::control::help;

/// The text before each line.
pub(super) const PROMPT: &str = "tapline> ";
/// The most lines of history.
const HISTORY: usize = 1000;
/// The most bytes of the file of history that are read.
const MOST_HISTORY_BYTES: u64 = 1 << 20;

/// This is what came of a line.
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: the line was given up.
    GivenUp,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Reads lines from the terminal; `C` completes them.
pub(super) struct Editor<C: Fn(&str) -> Completion> {
    editor: rustyline::Editor<Asking<C>, MemHistory>,
    history: Option<PathBuf>,
}

/// Returns whether standard input and output are a terminal whose lines can be edited.
pub(super) fn is_possible() -> bool {
    let is_able =
        std::env::var("TERM").is_ok_and(|term| !["", "dumb", "cons25", "emacs"].contains(&term.as_str()));
    is_able && io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl<C: Fn(&str) -> Completion> Editor<C> {
    /// Begins to edit.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub(super) fn open(complete: C) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = rustyline::Editor::with_history(config, history)?;
        editor.set_helper(Some(Asking(complete)));
        let history = history_path();
        for line in history.as_deref().map(read_history).unwrap_or_default() {
            editor.add_history_entry(line)?;
        }
        Ok(Self { editor, history })
    }

    /// Lets lines that others write while one is typed stand above it.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub(super) fn share_screen(&mut self) -> rustyline::Result<()> {
        output::write_above(Box::new(self.editor.create_external_printer()?));
        Ok(())
    }

    /// Reads a line. A terminal that fails is one that is gone.
    pub(super) fn read(&mut self) -> Typed {
        match self.editor.readline(PROMPT) {
            Ok(line) => {
                // completion leaves a blank behind a word
                let kept = line.trim_end();
                if self.editor.add_history_entry(kept).is_ok_and(|is_kept| is_kept)
                    && let Some(path) = &self.history
                {
                    // a history that cannot be written is no reason to stop
                    let _ = remember(path, kept);
                }
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::GivenUp,
            Err(_) => Typed::End,
        }
    }
}

/// Completes the words of the prompt itself, and asks for those of the language.
struct Asking<C>(C);

impl<C: Fn(&str) -> Completion> Completer for Asking<C> {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let Completion { start, mut candidates } = complete(&line[..cursor], &self.0);
        if let [only] = candidates.as_mut_slice()
            && cursor == line.len()
        {
            only.push(' ');
        }
        Ok((start, candidates))
    }
}

/// Completes `line` with the words of the prompt itself, and those that `ask` knows.
fn complete(line: &str, ask: &impl Fn(&str) -> Completion) -> Completion {
    let word = line.trim_start();
    let begin = line.len() - word.len();
    if let Some(rest) = word.strip_prefix("help ") {
        let Completion { start, candidates } = ask(rest);
        return Completion { start: start + begin + "help ".len(), candidates };
    }
    let mut completion = ask(line);
    if !word.contains(char::is_whitespace) {
        completion.start = begin;
        completion
            .candidates
            .extend(help::own_words().map(str::to_owned).into_iter().filter(|own| own.starts_with(word)));
        completion.candidates.sort_unstable();
    }
    completion
}

impl<C> Hinter for Asking<C> {
    type Hint = String;
}
impl<C> Highlighter for Asking<C> {}
impl<C> Validator for Asking<C> {}
impl<C: Fn(&str) -> Completion> Helper for Asking<C> {}

/// Gives the place of the file of history.
/// # Source
/// XDG Base Directory Specification 0.8: `$XDG_STATE_HOME`, or `~/.local/state`; a relative path is none.
fn history_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("tapline/history"))
}

/// Reads the last lines of the file of history. A file with twice as many is cut to them.
fn read_history(path: &Path) -> Vec<String> {
    // a pipe of that name would never end
    if !path.is_file() {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MOST_HISTORY_BYTES + 1).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().filter(|line| !line.chars().any(char::is_control)).collect();
    let last: Vec<String> =
        all[all.len().saturating_sub(HISTORY)..].iter().map(|&line| line.to_owned()).collect();
    if all.len() > 2 * HISTORY || bytes.len() as u64 > MOST_HISTORY_BYTES {
        let _ = replace_history(path, &last);
    }
    last
}

/// Puts a file with these lines in the place of the file of history.
fn replace_history(path: &Path, lines: &[String]) -> io::Result<()> {
    let next = path.with_extension(std::process::id().to_string());
    let mut file = private().write(true).create_new(true).open(&next)?;
    file.write_all(lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().as_bytes())?;
    fs::rename(next, path)
}

/// Adds a line to the file of history, which nobody else may read: a line may hold a secret.
fn remember(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    private().append(true).create(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}

/// A file that only its owner may read; a pipe is not waited for.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NONBLOCK);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_history_is_private_and_keeps_its_last_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/history");
        assert_eq!(read_history(&path), Vec::<String>::new());
        for n in 0..2 * HISTORY + 1 {
            remember(&path, &format!("rule enable {n}")).expect("a line");
        }
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let lines = read_history(&path);
        assert_eq!((lines.len(), lines[HISTORY - 1].as_str()), (HISTORY, "rule enable 2000"));
        let text = fs::read_to_string(&path).expect("a text");
        assert_eq!(text.lines().collect::<Vec<_>>(), lines, "the file is cut");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_history_that_is_no_file_of_lines_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read_history(folder.path()), Vec::<String>::new());
        let path = folder.path().join("history");
        fs::write(&path, b"show ports\n\x1b[31mred\n\xff\nstop\n").expect("a file");
        assert_eq!(read_history(&path), ["show ports", "\u{fffd}", "stop"]);
        fs::write(&path, vec![b'a'; 3 << 20]).expect("a file");
        assert_eq!(read_history(&path)[0].len() as u64, MOST_HISTORY_BYTES + 1, "the bound in bytes holds");
    }

    #[test]
    fn words_of_the_prompt_are_completed_beside_those_of_the_language() {
        let ask = |line: &str| {
            let start = line.rfind(' ').map_or(0, |blank| blank + 1);
            let all = if start == 0 { vec!["show", "stop"] } else { vec!["ports", "plan"] };
            let candidates = all.into_iter().filter(|word| word.starts_with(&line[start..]));
            Completion { start, candidates: candidates.map(str::to_owned).collect() }
        };
        assert_eq!(complete("", &ask).candidates, ["exit", "help", "show", "stop"]);
        assert_eq!(complete("he", &ask), Completion { start: 0, candidates: vec!["help".to_owned()] });
        assert_eq!(complete(" ex", &ask), Completion { start: 1, candidates: vec!["exit".to_owned()] });
        assert_eq!(complete("help sh", &ask), Completion { start: 5, candidates: vec!["show".to_owned()] });
        assert_eq!(
            complete("show po", &ask),
            Completion { start: 5, candidates: vec!["ports".to_owned()] }
        );
    }
}
