//! How a test says that it, or a part of it, is skipped: runners show nothing of tests that pass.
//!
//! `make test` names a file in the environment, and prints what it has got at its end.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The file to which skipped tests are added, a line each. Where it is not set they are only printed.
const FILE: &str = "TAPLINE_SKIPPED";

/// Says why the test that calls this does not do its work on this machine.
/// # Panics
/// If the file cannot be written: a test that is skipped unseen would count as passed.
pub fn skipped(reason: impl Display) {
    println!("skipped: {reason}");
    if let Some(path) = std::env::var_os(FILE) {
        let line = line(&suite(), std::thread::current().name().unwrap_or("main"), &reason.to_string());
        add(Path::new(&path), &line).unwrap_or_else(|error| panic!("{FILE}={}: {error}", path.display()));
    }
}

fn add(path: &Path, line: &str) -> std::io::Result<()> {
    // one write: other tests add theirs at the same time
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

/// `faults clocks::a_clock_is_followed: no gcc`.
fn line(suite: &str, test: &str, reason: &str) -> String {
    format!("{suite} {test}: {}\n", reason.trim().replace('\n', " "))
}

/// The suite by its program, which Cargo names `SUITE-HASH`.
fn suite() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    stem.rsplit_once('-').map_or(stem.clone(), |(suite, _)| suite.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{add, line, suite};

    #[test]
    fn a_line_names_suite_test_and_reason() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let expected = "tapline_skip tests::a_line_names_suite_test_and_reason: no gcc; says its output\n";
        assert_eq!(line(&suite(), &test, "no gcc;\nsays its output\n"), expected);
    }
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn tests_are_skipped_in_no_other_way() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        ["src", "crates", "testbed", "benches/acl", "benches/thash"]
            .iter()
            .for_each(|folder| sources(&root.join(folder), &mut found));
        assert!(found.len() > 200, "{found:?}");
        let printed = concat!("println!(\"", "skipped");
        // here it is printed
        for path in found.iter().filter(|path| !path.ends_with("testbed/skip/src/lib.rs")) {
            let text = std::fs::read_to_string(path).expect("a source file");
            assert!(
                !text.contains(printed),
                "{}: a skip that nobody sees; call tapline_skip::skipped",
                path.display()
            );
        }
    }

    #[test]
    fn lines_are_added_to_those_of_other_tests() {
        let path = std::env::temp_dir().join(format!("tapline-skip-{}", std::process::id()));
        for line in ["a b: no gcc\n", "c d: one CPU\n"] {
            add(&path, line).expect("a writable folder");
        }
        let listed = std::fs::read_to_string(&path).expect("a list");
        std::fs::remove_file(&path).expect("a list");
        assert_eq!(listed, "a b: no gcc\nc d: one CPU\n");
    }
}
