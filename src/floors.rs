//! The floors of the house: no crate and no module imports one above it, none is in a circle with another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Crates and, above them, modules of the product, from the ground up; those of one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["api", "fault", "kernel", "packet"],
    &["capture", "dpdk", "lang"],
    &["filter", "store"],
    &["datapath"],
    &["health"],
    &["plan"],
    &["report"],
    &["broker"],
    &["doctor", "explain"],
    &["control"],
    &["web"],
    &["cli"],
];

/// Adds the code of a file, or of all files of a folder, without its tests.
fn read(path: &Path, code: &mut String) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder of the sources");
        entries.for_each(|entry| read(&entry.expect("an entry").path(), code));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).expect("a source file");
        // tests stand at the end of a file, or in one that says so, and may import what they like
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let text = text.split("#![cfg(test)]\n").next().unwrap_or_default();
        // the name of a metric is no import, and no import stands behind a quotation mark
        let text = text.replace("\"tapline_", "\"");
        code.extend(
            text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]),
        );
    }
}

/// The code of each crate and of each module of the product, and what stands before the names of its neighbours.
fn rooms() -> BTreeMap<String, (String, &'static [&'static str])> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut rooms = BTreeMap::new();
    for (folder, prefixes) in [("crates", &["tapline_"][..]), ("src", &["tapline_", "crate::"])] {
        for entry in fs::read_dir(root.join(folder)).expect("the sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            if folder == "crates" || !["lib", "main", "floors"].contains(&name.as_str()) {
                let (code, _) = rooms.entry(name).or_insert((String::new(), prefixes));
                read(&path, code);
            }
        }
    }
    // a folder may be left behind by a branch that had it
    rooms.retain(|_, (code, _)| !code.is_empty());
    rooms
}

/// The names that `code` has behind `prefix`.
fn imported<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    // `crate::{a::…, b::…}` is written nowhere, and would be found as an empty name
    code.split(prefix).skip(1).map(|rest| &rest[..rest.find(ends).unwrap_or(rest.len())]).collect()
}

#[test]
fn none_imports_one_that_is_not_below_it() {
    let rooms = rooms();
    let known: BTreeSet<&str> = FLOORS.concat().into_iter().collect();
    assert_eq!(
        rooms.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "every crate and module has a floor"
    );
    let floor = |room: &str| FLOORS.iter().position(|floor| floor.contains(&room));
    let mut wrong = Vec::new();
    for (room, (code, prefixes)) in &rooms {
        for other in prefixes.iter().flat_map(|prefix| imported(code, prefix)) {
            let is_below = floor(other).is_some_and(|below| Some(below) < floor(room));
            if other != room && !is_below {
                wrong.push(format!("{room} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
