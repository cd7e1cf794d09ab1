//! Runs a page of the guide: its pipelines and commands, as they are written, in a folder of its own.
//!
//! A block of the language `pipe` is written into the file that the text above it names last. A block of `sh` is run by bash, all of
//! a page by one shell, so that variables and jobs go on from block to block. A block of `text` is what the commands above it print.
//! A block of `console` is for the reader alone; a page may only have those that `UNRUN` lists. A block of `yaml` is for other programs: a
//! test of its own reads it.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab::Lab;
use crate::programs::{repository, tapline};

/// What the reader does and the test does not: it has built Tapline, and opens the shell itself.
const UNRUN: [&str; 3] =
    ["$ make demo", "$ export PATH=$PWD/target/release:$PATH", "$ sudo unshare --net bash"];

/// A page that takes longer than this hangs, in seconds.
const LONGEST: &str = "120";

/// Stands in front of a block's exit status, in what the shell prints.
const MARK: &str = "=-=-= status";

/// One fenced block of a page.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// The file's name, and its text.
    Pipeline(String, String),
    Commands(String),
    /// What the commands before it print.
    Printed(String),
}

/// The word in backticks that stands last in a text and ends in `.pipe`.
fn last_pipeline(text: &str) -> Option<&str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".pipe")).last()
}

/// The blocks of a page, in order.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            before.extend([line, "\n"]);
            continue;
        };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = inside.join("\n") + "\n";
        match language {
            "pipe" => {
                let name = last_pipeline(&before).expect("the text above a pipeline names its file");
                blocks.push(Block::Pipeline(name.to_owned(), text));
            }
            "sh" => blocks.push(Block::Commands(text)),
            "text" => blocks.push(Block::Printed(text)),
            "yaml" => {}
            "console" => assert!(inside.iter().all(|line| UNRUN.contains(line)), "not run: {text}"),
            other => panic!("a block of the language `{other}`"),
        }
    }
    blocks
}

/// Gives the blocks of a language, of a page of `docs/guide`.
pub fn blocks_of(name: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(repository().join("docs/guide").join(name)).expect("a page");
    let parts = page.split("\n```").map(|part| part.split_once('\n').unwrap_or((part, "")));
    parts.filter(|(word, _)| *word == language).map(|(_, text)| format!("{text}\n")).collect()
}

/// The page as a script: what each block of commands prints ends with a mark and its status.
fn script(blocks: &[Block]) -> String {
    let mut script = String::from("exec 2>&1\n");
    for block in blocks {
        match block {
            Block::Pipeline(name, text) => {
                write!(script, "cat > {name} <<'END OF FILE'\n{text}END OF FILE\n").expect("a string");
            }
            Block::Commands(text) => {
                writeln!(script, "{text}status=$?; echo; echo \"{MARK} $status\"").expect("a string");
            }
            Block::Printed(_) => {}
        }
    }
    script
}

/// The lines that count, as words, without times that were measured.
fn lines(text: &str) -> Vec<Vec<&str>> {
    let is_unit = |word: &str| ["ns", "µs", "ms", "s"].contains(&word);
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_time = |at: usize| words.get(at + 1).is_some_and(|next| is_unit(next));
            let kept = words.iter().enumerate().filter(|&(at, _)| !is_time(at));
            kept.map(|(_, word)| *word).collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

/// Returns whether `found` is what `shown` says, where an item that `is_open` stands for any number of items.
fn matches<T>(
    shown: &[T],
    found: &[T],
    is_open: &impl Fn(&T) -> bool,
    same: &impl Fn(&T, &T) -> bool,
) -> bool {
    match shown.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if is_open(first) => {
            (0..=found.len()).any(|at| matches(rest, &found[at..], is_open, same))
        }
        Some((first, rest)) => found
            .split_first()
            .is_some_and(|(head, tail)| same(first, head) && matches(rest, tail, is_open, same)),
    }
}

/// Returns whether a word is what the page shows; `10.…` is any word that begins with `10.`.
fn same_word(shown: &str, found: &str) -> bool {
    shown.strip_suffix('…').map_or(shown == found, |begin| found.starts_with(begin))
}

/// Returns whether a text is what the page shows.
fn is_shown(shown: &str, found: &str) -> bool {
    let same_line = |shown: &Vec<&str>, found: &Vec<&str>| {
        matches(shown, found, &|word| *word == "…", &|shown, found| same_word(shown, found))
    };
    matches(&lines(shown), &lines(found), &|line| line[..] == ["…"], &same_line)
}

/// Runs a page of `docs/guide` in the lab's folder, where the demo's capture is, and compares what it prints.
/// # Panics
/// If a command fails where no error is shown, or prints something else than the page shows.
pub fn follow(lab: &Lab, name: &str, shell: &[&str]) {
    let page = std::fs::read_to_string(repository().join("docs/guide").join(name)).expect("a page");
    let blocks = blocks(&page);
    lab.write("page.sh", script(&blocks));
    let folder = tapline().parent().and_then(Path::to_str).expect("the program is in a folder");
    let path = format!("{folder}:{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut words = vec!["--kill-after=5", LONGEST];
    words.extend(shell);
    words.extend(["bash", "page.sh"]);
    let output = Command::new("timeout")
        .args(words)
        .current_dir(lab.path(""))
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut parts = printed.split(MARK);
    let mut found = parts.next().unwrap_or_default();
    for (at, block) in blocks.iter().enumerate() {
        let Block::Commands(commands) = block else { continue };
        let shown = match blocks.get(at + 1) {
            Some(Block::Printed(text)) => text,
            _ => "",
        };
        let rest = parts.next().unwrap_or_else(|| panic!("{name} ended in\n{commands}\n{printed}"));
        let (status, next) = rest.split_once('\n').unwrap_or((rest, ""));
        let may_fail = shown.contains("error: ");
        assert!(status.trim() == "0" || may_fail, "{name}: status {status} of\n{commands}\n{found}");
        assert!(is_shown(shown, found), "{name}:\n{commands}\nshows\n{shown}\nand prints\n{found}");
        found = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_by_their_language_and_pipelines_by_the_text_above() {
        let page = "Write `a.pipe`, then `b.pipe`:\n\n```pipe\nstart\n```\n\n```sh\ntrue\n```\n\n```text\nx\n```\n";
        let expected = [
            Block::Pipeline("b.pipe".to_owned(), "start\n".to_owned()),
            Block::Commands("true\n".to_owned()),
            Block::Printed("x\n".to_owned()),
        ];
        assert_eq!(blocks(page), expected);
    }

    #[test]
    fn only_times_blanks_and_dots_may_differ() {
        assert!(is_shown("a  7.1 µs b", "a 9.4 µs  b\n\n"));
        assert!(is_shown("a …\n…\nz", "a b c\nd\ne\nz"));
        assert!(is_shown("at 10.…", "at 10.1.0.2"));
        for (shown, found) in
            [("a 7", "a 8"), ("a", "a\nb"), ("a\n…\nz", "a\nb"), ("10.…", "11.1"), ("a", "")]
        {
            assert!(!is_shown(shown, found), "{shown} {found}");
        }
    }
}
