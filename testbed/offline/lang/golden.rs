//! Every `NAME.pipe` in testbed/lang is read, and what is said about it compared with `NAME.expected`.
//!
//! Needs nothing. `TAPLINE_BLESS=1 cargo test --test offline golden` writes the expected texts anew: read the difference before you
//! keep it.

use std::fmt::Write;
use std::path::Path;

use tapline::plan::surroundings::System;
use tapline_harness::captures::files_named;
use tapline_harness::programs::{alone, repository};
use tapline_lang::{self as lang, Parsed};

/// What a golden text holds: the diagnostics, then how much was read.
fn report(parsed: &Parsed) -> String {
    let mut report = parsed.diagnostics.render(&parsed.sources);
    let file = &parsed.file;
    let (errors, warnings) = (parsed.diagnostics.errors(), parsed.diagnostics.warnings());
    writeln!(
        report,
        "-- {errors} errors, {warnings} warnings; {} commands, {} with mistakes",
        file.commands.len(),
        file.partial.len()
    )
    .unwrap();
    for (kind, name) in &file.broken {
        writeln!(report, "-- broken {kind} `{name}`").unwrap();
    }
    if file.incomplete {
        writeln!(report, "-- incomplete").unwrap();
    }
    report
}

#[test]
fn every_pipeline_of_this_directory_is_answered_as_its_expected_text_says() {
    // a process has one working folder
    alone(
        module_path!(),
        "every_pipeline_of_this_directory_is_answered_as_its_expected_text_says",
        compare_all,
    );
}

fn compare_all() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/lang");
    // Paths in messages are as the user wrote them.
    std::env::set_current_dir(&here).unwrap();
    let bless = std::env::var_os("TAPLINE_BLESS").is_some();
    let mut names: Vec<_> = std::fs::read_dir(".").unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "pipe"));
    names.push("./no-such-file.pipe".into());
    names.sort();
    assert!(names.len() > 20, "the directory of golden texts is nearly empty");
    let mut wrong = String::new();
    for path in names {
        let path = path.strip_prefix(".").unwrap();
        let sets = [("SET".to_string(), "from-the-command-line".to_string())];
        let sets = if path.starts_with("set-wins.pipe") || path.starts_with("set-unused.pipe") {
            &sets[..]
        } else {
            &[]
        };
        let found = report(&lang::load(path, sets, &System));
        let expected_path = path.with_extension("expected");
        if bless {
            std::fs::write(&expected_path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            writeln!(wrong, "{}: found\n{found}\nexpected\n{expected}", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_example_of_the_reference_is_right() {
    let reference = include_str!("../../../docs/reference/pipeline-language.md");
    let examples: Vec<&str> =
        reference.split("```pipe\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 8, "the reference has lost its examples");
    for example in examples {
        let parsed = lang::parse_text("pipeline-language.md", example, &[]);
        assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&parsed.sources));
    }
}

#[test]
fn every_example_of_the_guides_is_right() {
    let mut count = 0;
    for path in files_named(&repository().join("docs"), &["md"]) {
        let (name, guide) =
            (path.display().to_string(), std::fs::read_to_string(&path).expect("a guide can be read"));
        for example in guide.split("```pipe\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let parsed = lang::parse_text(&name, example, &[]);
            assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&parsed.sources));
            count += 1;
        }
    }
    assert!(count > 20, "the guides have lost their examples: {count}");
}
