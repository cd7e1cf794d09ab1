//! Doc comments are sentences: none begins as a clause without its subject does ("Whether it could", "Of the last packet").

use std::collections::BTreeMap;
use std::fs;

use tapline_harness::captures::files_named;
use tapline_harness::programs::repository;

/// Words that begin a clause whose subject or verb is missing, in nearly all doc comments that have to be decoded.
const OPENINGS: [&str; 5] = ["What", "Whether", "Where", "By", "Of"];

/// Lines that still begin so, by the folder that has them. Other folders have none. A number here only goes down: who mends one lowers it.
const LEFT: [(&str, usize); 0] = [];

/// Returns whether a line of a Rust source is one of a doc comment that begins with one of the words.
fn begins_as_a_clause(line: &str) -> bool {
    let line = line.trim_start();
    let text = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
    let first = text.and_then(|text| text.split(|letter: char| !letter.is_alphanumeric()).next());
    first.is_some_and(|first| OPENINGS.contains(&first))
}

#[test]
fn clauses_are_told_from_sentences() {
    let told = ["/// Whether it could.", "    //! Of the last packet", "/// What.", "/// By [`Class`]."];
    assert!(told.iter().all(|line| begins_as_a_clause(line)));
    let other = [
        "/// Returns whether it could.",
        "// What follows",
        "/// Whatever comes",
        "What is code",
        "/// Offset",
    ];
    assert!(!other.iter().any(|line| begins_as_a_clause(line)));
}

#[test]
fn doc_comments_do_not_begin_as_clauses() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut places = Vec::new();
    for folder in ["crates", "src"] {
        for path in files_named(&repository().join(folder), &["rs"]) {
            let text = fs::read_to_string(&path).expect("a source file");
            let path = path.strip_prefix(repository()).expect("it lies there");
            let folder = path.parent().expect("a folder").display().to_string();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| begins_as_a_clause(line)) {
                *found.entry(folder.clone()).or_default() += 1;
                places.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    let left: BTreeMap<String, usize> =
        LEFT.iter().map(|&(folder, count)| (folder.to_owned(), count)).collect();
    let changed =
        |place: &&String| !LEFT.iter().any(|(folder, _)| place.starts_with(&format!("{folder}/")));
    assert_eq!(
        found,
        left,
        "a doc comment has a subject and a verb (CONTRIBUTING.md); a folder with fewer of these gets a lower number in LEFT:\n{}",
        places.iter().filter(changed).cloned().collect::<Vec<_>>().join("\n")
    );
}
