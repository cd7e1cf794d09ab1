//! `help [COMMAND]` of the prompts and of the socket: the parser's tables, as text.

use std::fmt::Write;

use serde::Deserialize;
use tapline_api::request::Reply;
use tapline_lang::commands;
use tapline_lang::suggest::nearest;

/// A command, as the broker or this program knows it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Entry {
    /// The words that it begins with.
    words: String,
    role: String,
    /// The forms of what follows, divided by ` | `.
    usage: String,
    /// The rest of "this command …".
    does: String,
}

/// The words that every prompt has beside those of the language: how they are written, and what they do.
const OWN: [(&str, &str, &str); 2] =
    [("help", "[COMMAND]", "explains a command, or lists all"), ("exit", "", "leaves the prompt")];
/// Typed while a change is planned, gives it up.
pub const TAKE_BACK: &str = "cancel";

/// Returns the words that every prompt has beside those of the language.
pub fn own_words() -> [&'static str; 2] {
    OWN.map(|(word, ..)| word)
}

/// Lists the commands that this program knows.
pub fn entries() -> Vec<Entry> {
    let entry = |command: tapline_lang::CommandHelp| Entry {
        words: command.words,
        role: command.role.word().to_owned(),
        usage: command.usage.to_owned(),
        does: command.does.to_owned(),
    };
    commands().into_iter().map(entry).collect()
}

/// Returns what follows `help` in a line that asks for it.
pub fn asked(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("help")?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

/// Answers a line that asks for `help`, or takes back what is not on its way.
pub fn own_answer(line: &[u8]) -> Option<Reply> {
    let line = std::str::from_utf8(line).ok()?;
    if line.trim() == TAKE_BACK {
        return Some(Reply::failed("error: no change is on its way that could be given up\n"));
    }
    Some(help(entries(), asked(line)?).map_or_else(Reply::refused, Reply::done))
}

/// Explains the commands that begin with the words of `asked`, or lists all.
///
/// # Errors
/// If there is no such command: what to say of it.
pub fn help(mut entries: Vec<Entry>, asked: &str) -> Result<String, String> {
    entries.extend(OWN.map(|(word, usage, does)| Entry {
        words: word.to_owned(),
        role: String::new(),
        usage: usage.to_owned(),
        does: does.to_owned(),
    }));
    let asked: Vec<&str> = asked.split_whitespace().collect();
    let begins = |entry: &&Entry| {
        let mut words = entry.words.split(' ');
        asked.iter().all(|word| words.next().is_none_or(|known| known == *word))
    };
    // words behind those of a command are part of its line
    let found: Vec<&Entry> = entries.iter().filter(begins).collect();
    let mut text = String::new();
    match found.as_slice() {
        [] => return Err(unknown(&entries, &asked.join(" "))),
        // two commands may begin with the same words
        same if same.iter().all(|entry| entry.words == same[0].words) => {
            same.iter().for_each(|entry| explain(&mut text, entry));
        }
        many => {
            let width = many.iter().map(|entry| entry.words.len()).max().unwrap_or(0);
            for entry in many {
                let _ = writeln!(text, "{:width$}  {}", entry.words, entry.does);
            }
        }
    }
    Ok(text)
}

/// Says what a command does, its forms, and who may give it.
fn explain(text: &mut String, entry: &Entry) {
    let _ = writeln!(text, "{}: {}", entry.words, entry.does);
    for form in entry.usage.split(" | ") {
        let _ = writeln!(text, "    {}", format!("{} {form}", entry.words).trim_end());
    }
    if !entry.role.is_empty() {
        let _ = writeln!(text, "role: {}", entry.role);
    }
}

fn unknown(entries: &[Entry], asked: &str) -> String {
    let near = nearest(asked, entries.iter().map(|entry| entry.words.as_str()));
    let help = near.map(|near| format!("; did you mean `help {near}`?")).unwrap_or_default();
    format!("error: there is no command `{asked}`{help}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_and_explained() {
        let all = help(entries(), "").expect("a list");
        assert_eq!(all.lines().count(), entries().len() + OWN.len());
        for entry in entries() {
            let text = help(entries(), &entry.words).expect("a command");
            let first = format!("{}: {}\n", entry.words, entry.does);
            let (_, rest) = text.split_once(&first).unwrap_or_else(|| panic!("{first:?} is not in {text}"));
            let (forms, _) = rest.split_once(&format!("role: {}\n", entry.role)).expect("a role");
            assert_eq!(forms.lines().count(), entry.usage.split(" | ").count(), "{text}");
        }
    }

    #[test]
    fn a_first_word_lists_its_commands_and_a_slip_is_answered() {
        let rules = help(entries(), "rule").expect("a list");
        assert!(
            rules.lines().all(|line| line.starts_with("rule ")) && rules.lines().count() == 5,
            "{rules}"
        );
        assert_eq!(help(entries(), "exit"), Ok("exit: leaves the prompt\n    exit\n".to_owned()));
        let wrong = help(entries(), "rule crate").expect_err("no command");
        assert_eq!(wrong, "error: there is no command `rule crate`; did you mean `help rule create`?\n");
    }

    #[test]
    fn help_is_a_word_of_its_own() {
        assert_eq!(asked(" help  rule create "), Some("rule create"));
        assert_eq!((asked("help"), asked("helper"), asked("show help")), (Some(""), None, None));
    }
}
