//! What is named or linked to is there: files in Markdown and in comments of Rust sources, and the headings of `FILE.md#HEADING`.
//!
//! A word is taken for a path if it ends in a file's usual ending and has a slash, or begins with a folder of the repository. It may be written
//! from the root of the repository, from the folder of the file that names it, or, in a crate, from the crate's folder or its `src`.
//! Without backticks it has to begin with a folder of the repository. A link of Markdown counts from its file's folder alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    quoted.chain(links(line)).collect()
}

/// What the Markdown links of a line lead to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Words of a line, outside of backticks and links, that begin with a folder of the repository and end as a file does.
fn bare(line: &str) -> impl Iterator<Item = &str> {
    let is_outside = |letter: char| !letter.is_ascii_alphanumeric() && !"._-/".contains(letter);
    line.split('`').step_by(2).flat_map(move |part| part.split(is_outside)).filter_map(|word| {
        let word = word.trim_end_matches('.');
        let is_file =
            Path::new(word).extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        (is_file && FOLDERS.iter().any(|folder| word.starts_with(folder))).then_some(word)
    })
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

/// Headings of a Markdown file, as links write them: letters, digits, `-` and `_`; those that come again get a number.
fn headings(text: &str) -> HashSet<String> {
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    let mut found = HashSet::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if !line.starts_with('#') || is_code {
            continue;
        }
        let slug = slug(line.trim_start_matches('#'));
        let again = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(again).find(|slug| !found.contains(slug));
        found.extend(free);
    }
    found
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

/// What is wrong with a link in a Markdown file: browsers count its path from the file's folder, and from nowhere else.
fn wrong_link(file: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) =
        link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let folder = file.parent().unwrap_or(Path::new(""));
    let place = if path.is_empty() { file.to_owned() } else { folder.join(path) };
    let place = repository().join(place);
    if !place.exists() {
        return Some(format!("the link {link} leads nowhere"));
    }
    let heading = heading?;
    let text = std::fs::read_to_string(place).unwrap_or_default();
    (!headings(&text).contains(heading)).then(|| format!("the link {link} leads to no heading"))
}

fn is_markdown(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "md")
}

/// The part of a file's line that is prose: all of it in Markdown, the comment in Rust.
fn prose<'a>(file: &Path, line: &'a str) -> Option<&'a str> {
    if is_markdown(file) {
        return Some(line);
    }
    line.find("//").map(|at| &line[at..])
}

/// What is wrong in a line of prose.
fn mistakes(file: &Path, line: &str) -> Vec<String> {
    let own = |reference| is_heading(reference).then(|| format!("{}{reference}", file.display()));
    let named = references(line)
        .into_iter()
        .filter_map(|reference| wrong(file, own(reference).as_deref().unwrap_or(reference)));
    let bare = bare(line).filter_map(|word| wrong(file, word));
    let links = links(line).filter(|_| is_markdown(file)).filter_map(|link| wrong_link(file, link));
    named.chain(bare).chain(links).collect()
}

#[test]
fn what_text_names_is_there() {
    let mut found = Vec::new();
    let mut judged = 0;
    for file in texts() {
        let text = std::fs::read_to_string(repository().join(&file)).expect("a text");
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_code ^= is_markdown(&file) && line.starts_with("```");
            let Some(prose) = prose(&file, line).filter(|_| !is_code) else { continue };
            judged +=
                references(prose).into_iter().filter(|reference| path_of(reference).is_some()).count();
            found.extend(
                mistakes(&file, prose)
                    .into_iter()
                    .map(|what| format!("{}:{number}: {what}", file.display())),
            );
        }
    }
    assert!(judged > 100, "{judged} references were found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The names in backticks of the second column of rows whose first is a number, by that number.
fn floors_of(document: &str) -> BTreeMap<usize, BTreeSet<String>> {
    let text = std::fs::read_to_string(repository().join(document)).expect("a document");
    let row = |line: &str| {
        let columns: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let names = columns.get(1)?.split('`').skip(1).step_by(2);
        let names = names.map(|name| name.trim_start_matches("crates/").to_owned());
        Some((columns[0].parse().ok()?, names.collect()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_floors_that_documents_show_are_those_of_the_table() {
    let source = std::fs::read_to_string(repository().join("src/floors.rs")).expect("the table");
    let table =
        source.split("const FLOORS").nth(1).and_then(|rest| rest.split("];").next()).expect("the table");
    let rows = table.lines().map(str::trim).filter(|line| line.starts_with("&[\""));
    let names = rows.map(|row| row.split('"').skip(1).step_by(2).map(str::to_owned).collect());
    let floors: BTreeMap<usize, BTreeSet<String>> = (1..).zip(names).collect();
    assert!(floors.len() > 5, "{floors:?}");
    for document in ["docs/architecture.md", "CONTRIBUTING.md"] {
        assert_eq!(floors_of(document), floors, "{document}");
    }
}

#[test]
fn links_count_from_the_files_folder_and_lead_to_headings() {
    let file = Path::new("docs/reference/groups.md");
    for right in
        ["wires.md", "../../README.md#status", "#heartbeats", "https://a.b/c.md", "../guide/README.md"]
    {
        assert_eq!(wrong_link(file, right), None, "{right}");
    }
    for wrong in ["docs/reference/wires.md", "../wires.md", "wires.md#no-such-heading", "#no-such-heading"]
    {
        assert!(wrong_link(file, wrong).is_some(), "{wrong}");
    }
    assert_eq!(mistakes(Path::new("src/lib.rs"), "see docs/no-such.md."), ["there is no docs/no-such.md"]);
    assert_eq!(mistakes(Path::new("src/lib.rs"), "see docs/README.md, and `docs/README.md`."), [""; 0]);
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
    assert_eq!(headings("# a\n```sh\n# b\n```\n## A"), HashSet::from(["a", "a-1"].map(str::to_owned)));
}
