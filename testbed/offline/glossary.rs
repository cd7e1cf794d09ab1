//! The words of the documentation: pages link DPDK's words to the glossary where they first use them, and use one word for one thing.

use std::path::PathBuf;

use tapline_harness::captures::files_named;
use tapline_harness::programs::repository;

/// DPDK's words that pages use, and their headings in the glossary.
const TERMS: [(&str, &str); 14] = [
    ("lcore", "lcore"),
    ("mbuf", "mbuf"),
    ("mempool", "mempool"),
    ("burst", "burst"),
    ("worker", "worker"),
    ("EAL", "eal"),
    ("devargs", "devargs"),
    ("PMD", "pmd"),
    ("RSS", "rss"),
    ("RETA", "reta"),
    ("ethdev", "ethdev"),
    ("TSC", "tsc"),
    ("huge page", "huge-pages"),
    ("NUMA node", "numa-node"),
];

/// A glossary's entry says one thing in a few lines.
const MOST_LINES: usize = 3;

/// Pages for users, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = ["docs/guide", "docs/reference"];
    let files = folders.iter().flat_map(|folder| files_named(&repository().join(folder), &["md"]));
    files.map(|file| (file.clone(), std::fs::read_to_string(file).expect("a page"))).collect()
}

/// Lines of prose, with their numbers: neither code nor headings.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(page.lines()).filter(move |(_, line)| {
        is_code ^= line.starts_with("```");
        let is_indented = line.starts_with("    ") && !line.trim_start().starts_with(['-', '*']);
        !is_code && !is_indented && !line.starts_with('#') && !line.starts_with("```")
    })
}

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Plain(&'a str),
    /// What a link leads to.
    Link(&'a str),
}

/// The pieces of a line of Markdown, without what stands in backticks.
fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(['`', '[']) {
        pieces.push(Piece::Plain(&rest[..at]));
        rest = &rest[at..];
        let link = rest.strip_prefix('[').and_then(|inside| {
            let (text, behind) = inside.split_once("](")?;
            let (target, behind) = behind.split_once(')')?;
            (!text.contains('[')).then_some((target, behind))
        });
        if let Some((target, behind)) = link {
            pieces.push(Piece::Link(target));
            rest = behind;
        } else if rest.starts_with('`') {
            rest = rest[1..].split_once('`').map_or("", |(_, behind)| behind);
        } else {
            rest = &rest[1..];
        }
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// Returns whether a text has a word, in the singular or plural, at the beginning of a sentence or within it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || "-_".contains(letter))
    };
    let capital = word[..1].to_uppercase() + &word[1..];
    [word, &capital].into_iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let behind = &text[at + word.len()..];
            let behind = behind.strip_prefix('s').unwrap_or(behind);
            !is_part(text[..at].chars().next_back()) && !is_part(behind.chars().next())
        })
    })
}

/// The line in which a page first uses a word without a link to the glossary, if it does so before it links the word.
fn used_before_linked(page: &str, word: &str, heading: &str) -> Option<usize> {
    for (number, line) in prose(page) {
        for piece in pieces(line) {
            match piece {
                Piece::Link(target) if target.ends_with(&format!("glossary.md#{heading}")) => return None,
                Piece::Plain(text) if has_word(text, word) => return Some(number),
                Piece::Plain(_) | Piece::Link(_) => {}
            }
        }
    }
    None
}

#[test]
fn words_of_dpdk_lead_to_the_glossary_where_a_page_first_uses_them() {
    let mut wrong = Vec::new();
    let pages = pages();
    assert!(pages.len() > 20, "{} pages", pages.len());
    for (file, page) in &pages {
        for (word, heading) in TERMS {
            let found = used_before_linked(page, word, heading);
            wrong.extend(found.map(|line| format!("{}:{line}: {word}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn entries_of_the_glossary_are_short_and_in_order() {
    let glossary = std::fs::read_to_string(repository().join("docs/glossary.md")).expect("the glossary");
    for (_, heading) in TERMS {
        let entry = format!("\n### {}\n", heading.replace('-', " "));
        assert!(glossary.to_lowercase().contains(&entry), "{heading}");
    }
    for entry in glossary.split("\n### ").skip(1) {
        let entry = entry.split("\n## ").next().unwrap_or_default();
        let lines = entry.lines().skip(1).filter(|line| !line.is_empty()).count();
        assert!((1..=MOST_LINES).contains(&lines), "{lines} lines: {entry}");
    }
}

#[test]
fn plans_are_changed_and_reloaded_and_never_exchanged() {
    for (file, page) in pages() {
        for (number, line) in prose(&page) {
            let is_said = pieces(line)
                .iter()
                .any(|piece| matches!(piece, Piece::Plain(text) if text.contains("exchange")));
            assert!(!is_said, "{}:{number}: {line}", file.display());
        }
    }
}

#[test]
fn a_words_first_use_is_found_outside_of_code_and_links() {
    let linked = "`worker`\n# Worker\n    worker\nA [worker](../glossary.md#worker) polls. Workers sleep.";
    assert_eq!(used_before_linked(linked, "worker", "worker"), None);
    assert_eq!(used_before_linked("a\nWorkers sleep.", "worker", "worker"), Some(2));
    assert_eq!(used_before_linked("a [b](c.md#worker) coworker works", "worker", "worker"), None);
    assert_eq!(
        pieces("a `b` [c](d) e"),
        ["a ", " "]
            .map(Piece::Plain)
            .into_iter()
            .chain([Piece::Link("d"), Piece::Plain(" e")])
            .collect::<Vec<_>>()
    );
}
