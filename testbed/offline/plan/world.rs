//! Nothing of `plan`, `lang` and `datapath` reads the time, the environment, files or random bytes by itself but where this table says:
//! what a plan is made of is given to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What reads the world, or leads to it.
const READERS: &[&str] = &[
    "std::fs",
    "fs::",
    "File::",
    "OpenOptions",
    "std::env",
    "env::var",
    "env::args",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "std::process",
    "Command::new",
    "SystemTime",
    "Instant",
    "clock::now",
    "now_ns()",
    "TimeZone::system",
    "TimeZone::get",
    "tz::db",
    "Timestamp::now",
    "Zoned::now",
    "open(\"/dev/",
    "getrandom",
    "RandomState",
    "thread_rng",
    "std::io::stdin",
    "canonicalize",
    "metadata(",
    "is_file()",
    "exists()",
    "read_link",
    "Reader::open",
    "interface::",
];

/// The files that may, what of it, and why.
const MAY: &[(&str, &[&str], &str)] = &[
    (
        "src/plan/surroundings.rs",
        &[
            "fs::",
            "std::fs",
            "File::",
            "OpenOptions",
            "clock::now",
            "now_ns()",
            "TimeZone::system",
            "tz::db",
            "open(\"/dev/",
            "canonicalize",
            "metadata(",
            "is_file()",
            "read_link",
            "interface::",
        ],
        "gathers the surroundings of this machine",
    ),
    (
        "crates/datapath/src/receive/replay.rs",
        &["std::fs", "fs::", "File::", "metadata(", "is_file()", "Instant"],
        "opens the capture that it replays at the start, and looks how long it has read",
    ),
    (
        "crates/datapath/src/receive/clock.rs",
        &["clock::now"],
        "asks the system's clock for the time of a burst where the counter's line is not sound",
    ),
    (
        "crates/datapath/src/worker/panics.rs",
        &["std::fs", "fs::", "OpenOptions", "Instant", "clock::now", "now_ns()"],
        "writes the frames of a burst in which a stage panicked, named by the time",
    ),
    (
        "crates/datapath/src/worker/mod.rs",
        &["Instant", "clock::now", "now_ns()"],
        "notes when a stage panicked, and when a burst was polled",
    ),
    (
        "crates/datapath/src/flow/table.rs",
        &["RandomState"],
        "keys tables with what strangers cannot guess, at the start",
    ),
];

/// Adds each file of a folder with its code, without its tests and comments.
fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder of the sources") {
        let path = folder.join(entry.expect("an entry").file_name());
        if root.join(&path).is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source file");
            // tests stand at the end of a file, or in one that says so
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let text = text.split("#![cfg(test)]\n").next().unwrap_or_default();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            files.insert(path.display().to_string(), lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn nothing_reads_the_world_but_where_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    for folder in ["src/plan", "crates/lang/src", "crates/datapath/src"] {
        read(root, Path::new(folder), &mut files);
    }
    assert!(files.len() > 80, "{} files", files.len());
    let mut wrong = Vec::new();
    for (path, code) in &files {
        let may = MAY.iter().find(|(file, _, _)| file == path).map_or(&[][..], |(_, may, _)| may);
        for reader in READERS.iter().filter(|reader| !may.contains(reader) && stands_in(code, reader)) {
            wrong.push(format!("{path}: {reader}"));
        }
        for unused in may.iter().filter(|reader| !stands_in(code, reader)) {
            wrong.push(format!("{path} has no {unused}, and the table allows it"));
        }
    }
    for (path, _, _) in MAY.iter().filter(|(path, _, _)| !files.contains_key(*path)) {
        wrong.push(format!("there is no {path}"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns whether `word` stands in the code, not as the end of a longer word.
fn stands_in(code: &str, word: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(is_letter))
}

#[test]
fn the_search_finds_what_it_looks_for() {
    assert!(stands_in("use std::fs::File;", "std::fs") && stands_in("x.metadata()?", "metadata("));
    assert!(!stands_in("let offs::x", "fs::") && !stands_in("self.at_now_ns()", "now_ns()"));
}
