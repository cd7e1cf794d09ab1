//! The text that is printed of a pipeline makes its plan: of every pipeline file that there is, and of random ones.

use std::path::Path;

use proptest::prelude::*;
use tapline::plan::diff::diff;
use tapline::plan::identity::plan_hash;
use tapline::plan::surroundings::{Random, System};
use tapline::plan::{Plan, Surroundings, plan_after, progress::Progress};
use tapline_harness::programs::run_in;
use tapline_lang::{Parsed, load, parse_text, text};

use super::pipelines::{pipeline, text_of};

fn planned(mut parsed: Parsed, surroundings: &Surroundings) -> (Option<Plan>, String) {
    let plan =
        plan_after(&mut parsed, surroundings, None, &Progress::default()).expect("nobody gives it up");
    (plan, parsed.diagnostics.render(&parsed.sources))
}

/// The text of a pipeline makes the same plan and the same text; returns whether there is a plan.
fn assert_says_the_same(parsed: &Parsed, surroundings: &Surroundings) -> bool {
    let printed = text(&parsed.file);
    let again = parse_text("printed.pipe", &printed, &[]);
    assert!(!again.diagnostics.has_errors(), "{}", again.diagnostics.render(&again.sources));
    assert_eq!(text(&again.file), printed);
    match (planned(parsed.clone(), surroundings), planned(again, surroundings)) {
        ((Some(mut plan), _), (Some(mut again), _)) => {
            // the texts are two files
            (plan.files, again.files) = Default::default();
            assert_eq!(diff(&plan, &again), [], "{printed}");
            assert!(plan == again, "another plan is made of\n{printed}");
            true
        }
        ((None, _), (None, _)) => false,
        ((_, first), (_, second)) => panic!("{first}\n{second}\n{printed}"),
    }
}

#[test]
fn every_pipeline_file_says_the_same_when_it_is_printed() {
    let paths = super::pipeline_files();
    // two texts are planned at two moments
    let surroundings = Surroundings { random: Random::known([7; 32]), ..Surroundings::system() };
    let (mut read, mut are_planned) = (0, 0);
    for path in paths {
        let parsed = load(&path, &[], &System);
        if !parsed.diagnostics.has_errors() {
            read += 1;
            are_planned += usize::from(assert_says_the_same(&parsed, &surroundings));
        }
    }
    assert!(read >= 11 && are_planned >= 9, "{read} files without a mistake, {are_planned} plans");
}

#[test]
fn every_word_of_the_language_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let everything = load(&root.join("testbed/lang/everything.pipe"), &[], &System);
    let printed = text(&everything.file);
    assert_eq!(printed.lines().count(), everything.file.commands.len());
    for never in ["let ", "include ", "${", "#"] {
        assert!(!printed.contains(never), "{never} in\n{printed}");
    }
    assert!(!assert_says_the_same(&everything, &Surroundings::fixed()), "it names what is not there");
}

#[test]
fn a_text_has_the_hash_that_sha256sum_gives_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = text(&parse_text("t", "port  attach a\tnet_null0 # é\nset flows 1000k", &[]).file);
    std::fs::write(folder.path().join("printed.pipe"), &printed).expect("a file");
    let output = run_in(folder.path(), "sha256sum", &["printed.pipe"]);
    assert_eq!(output.split_whitespace().next(), Some(&*plan_hash(&printed)));
}

proptest! {
    #[test]
    fn random_pipelines_say_the_same_when_they_are_printed(objects in pipeline()) {
        let parsed = parse_text("test.pipe", &text_of(&objects), &[]);
        prop_assert!(assert_says_the_same(&parsed, &Surroundings::fixed()));
    }
}
