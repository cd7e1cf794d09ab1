//! The floors of the house: no module imports one above it, none is in a circle with another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Modules from the ground up; those of one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["fault", "packet"],
    &["capture", "dpdk", "lang"],
    &["filter"],
    &["datapath"],
    &["health"],
    &["plan"],
    &["report"],
    &["broker"],
    &["cli"],
];

/// The code of each top-level module, without its tests.
fn modules() -> BTreeMap<String, String> {
    fn read(path: &Path, code: &mut String) {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a folder of the sources");
            entries.for_each(|entry| read(&entry.expect("an entry").path(), code));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).expect("a source file");
            // tests stand at the end of a file, and may import what they like
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            code.extend(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]));
        }
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(sources).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if !["lib", "main", "floors"].contains(&name.as_str()) {
            read(&path, modules.entry(name).or_default());
        }
    }
    // a folder may be left behind by a branch that had it
    modules.retain(|_, code| !code.is_empty());
    modules
}

/// The modules that `code` names behind `crate::`.
fn imported(code: &str) -> BTreeSet<&str> {
    let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    // `crate::{a::…, b::…}` is written nowhere, and would be found as an empty name
    code.split("crate::").skip(1).map(|rest| &rest[..rest.find(ends).unwrap_or(rest.len())]).collect()
}

#[test]
fn no_module_imports_one_that_is_not_below_it() {
    let modules = modules();
    let known: BTreeSet<&str> = FLOORS.concat().into_iter().collect();
    assert_eq!(modules.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "every module has a floor");
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut wrong = Vec::new();
    for (module, code) in &modules {
        for other in imported(code) {
            let is_below = floor(other).is_some_and(|below| Some(below) < floor(module));
            if other != module && !is_below {
                wrong.push(format!("{module} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
