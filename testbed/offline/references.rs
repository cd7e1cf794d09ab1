//! What is named in backticks or linked to is there: files in Markdown and in comments of Rust sources, and the headings of `FILE.md#HEADING`.
//!
//! A word is taken for a path if it ends in a file's usual ending and has a slash, or begins with a folder of the repository. It may be written
//! from the root of the repository, from the folder of the file that names it, or, in a crate, from the crate's folder or its `src`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tapline_harness::captures::files_named;
use tapline_harness::programs::repository;

/// Endings of the files that text speaks of by their paths. C is not one: most of it that is named is another project's.
const ENDINGS: [&str; 7] = ["rs", "md", "pipe", "toml", "py", "txt", "expected"];

/// Folders, at the top of the repository, whose files go by their path from there, whatever they end in.
const FOLDERS: [&str; 8] =
    [".ci/", "benches/", "crates/", "docs/", "dpdk-sys/", "pipelines/", "src/", "testbed/"];

/// Documents and Rust sources of the repository, but for what was built.
fn texts() -> Vec<PathBuf> {
    let folders = FOLDERS.iter().flat_map(|folder| files_named(&repository().join(folder), &["md", "rs"]));
    let top = repository().read_dir().expect("the repository").flatten().map(|entry| entry.path());
    let top = top.filter(|path| path.extension().is_some_and(|ending| ending == "md" || ending == "rs"));
    let inside =
        folders.chain(top).map(|path| path.strip_prefix(repository()).expect("it lies there").to_owned());
    inside.filter(|path| !path.components().any(|part| part.as_os_str() == "target")).collect()
}

/// What stands between backticks in a line, and what its Markdown links lead to.
fn references(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    quoted.chain(linked).collect()
}

/// The path and the heading that a reference names, if it is one to a file.
fn path_of(reference: &str) -> Option<(&str, Option<&str>)> {
    let (path, heading) =
        reference.split_once('#').map_or((reference, None), |(path, heading)| (path, Some(heading)));
    let is_plain = path.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-/".contains(letter));
    let is_pattern = path.split(['/', '.']).any(|part| part == "FILE" || part == "NAME");
    let is_file =
        Path::new(path).extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
    let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder))
        || is_file && path.contains('/')
        || path.ends_with(".md");
    (is_plain && !is_pattern && is_path && !path.starts_with('/')).then_some((path, heading))
}

/// Headings of a Markdown file, as links write them.
fn headings(text: &str) -> HashSet<String> {
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches('#')))
        .collect()
}

/// Where a path may be counted from in a file: the root, the file's folder, and in a crate the crate's folder and its sources.
fn bases(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let above = folder.ancestors().find(|above| repository().join(above).join("Cargo.toml").is_file());
    let above = above.unwrap_or(Path::new(""));
    vec![PathBuf::new(), folder.to_owned(), above.to_owned(), above.join("src")]
}

/// Returns whether a reference is to a heading of the file that it stands in.
fn is_heading(reference: &str) -> bool {
    reference
        .strip_prefix('#')
        .is_some_and(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

/// What is wrong with a reference in a file, if it is one to a file.
fn wrong(file: &Path, reference: &str) -> Option<String> {
    let (path, heading) = path_of(reference)?;
    let places = bases(file).into_iter().map(|base| repository().join(base).join(path));
    let Some(found) = places.into_iter().find(|place| place.exists()) else {
        return Some(format!("there is no {path}"));
    };
    let heading = heading?;
    let text = std::fs::read_to_string(&found).ok()?;
    (!headings(&text).contains(heading)).then(|| format!("{path} has no heading #{heading}"))
}

/// The part of a file's line that is prose: all of it in Markdown, the comment in Rust.
fn prose<'a>(file: &Path, line: &'a str) -> Option<&'a str> {
    if file.extension().is_some_and(|ending| ending == "md") {
        return Some(line);
    }
    line.find("//").map(|at| &line[at..])
}

#[test]
fn what_text_names_is_there() {
    let mut mistakes = Vec::new();
    let mut judged = 0;
    for file in texts() {
        let text = std::fs::read_to_string(repository().join(&file)).expect("a text");
        for (number, line) in (1..).zip(text.lines()) {
            for reference in prose(&file, line).into_iter().flat_map(references) {
                judged += usize::from(path_of(reference).is_some());
                let own = is_heading(reference).then(|| format!("{}{reference}", file.display()));
                let found = wrong(&file, own.as_deref().unwrap_or(reference));
                mistakes.extend(found.map(|what| format!("{}:{number}: {what}", file.display())));
            }
        }
    }
    assert!(judged > 100, "{judged} references were found");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn paths_and_headings_are_told_from_other_words() {
    assert_eq!(references("see `a.rs`, [b](docs/b.md#c)"), ["a.rs", "docs/b.md#c"]);
    assert_eq!(path_of("docs/b.md#c"), Some(("docs/b.md", Some("c"))));
    assert_eq!(path_of("native/lower.rs"), Some(("native/lower.rs", None)));
    for other in
        ["testbed/lang/NAME.pipe", "https://a.b/c.md", "/etc/os-release", "a.rs", "src/*.rs", "read/write"]
    {
        assert_eq!(path_of(other), None, "{other}");
    }
    assert_eq!(
        headings("# One two\ntext\n## `set mempool`, and more"),
        HashSet::from(["one-two", "set-mempool-and-more"].map(str::to_owned))
    );
}
