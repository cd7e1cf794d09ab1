//! The same text in the same surroundings makes the same plan, and the same is said of it: of every pipeline file that there is, and of
//! random ones.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tapline::plan::surroundings::{Random, System};
use tapline::plan::{Plan, Surroundings, plan};
use tapline_lang::files::InMemory;
use tapline_lang::{Parsed, load};

use super::pipelines::{pipeline, text_of};

/// What is said of a parsed text, and its plan if there is one.
fn planned(parsed: &Parsed, surroundings: &Surroundings) -> (String, Option<Plan>) {
    let mut parsed = parsed.clone();
    let plan = plan(&mut parsed, surroundings);
    (parsed.diagnostics.render(&parsed.sources), plan)
}

fn assert_repeats(parsed: &Parsed, surroundings: &Surroundings) -> bool {
    let (first, second) = (planned(parsed, surroundings), planned(parsed, surroundings));
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "two plans of one text:\n{}", first.0);
    first.1.is_some()
}

#[test]
fn every_pipeline_file_makes_the_same_plan_twice() {
    let paths = super::pipeline_files();
    assert!(paths.len() > 25, "{} files", paths.len());
    let surroundings = Surroundings::system();
    let are_right = paths.iter().filter(|path| assert_repeats(&load(path, &[], &System), &surroundings));
    assert!(are_right.count() >= 8);
}

#[test]
fn keys_are_chosen_by_the_random_bytes_alone() {
    let text = "port attach a net_null0\ntool create t discard\nrule create 1 from a anonymize ip to t\n";
    let parsed = tapline_lang::parse_text("test.pipe", text, &[]);
    let with = |bytes| {
        let surroundings = Surroundings { random: Random::known([bytes; 32]), ..Surroundings::fixed() };
        planned(&parsed, &surroundings).1.expect("a plan")
    };
    assert!(with(1) == with(1) && with(1) != with(2));
}

#[test]
fn the_time_is_the_one_that_is_given() {
    let text = "port attach a net_null0\ntool create t discard\nrule create 1 from a until 2026-01-01T00:00:01Z to t\n";
    let parsed = tapline_lang::parse_text("test.pipe", text, &[]);
    let fixed = Surroundings::fixed();
    assert!(!planned(&parsed, &fixed).0.contains("is never on"));
    let later = Surroundings { now_ns: fixed.now_ns + 1_000_000_000, ..fixed };
    assert!(planned(&parsed, &later).0.contains("rule 1 is never on"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Files come and go with the surroundings, too.
    #[test]
    fn random_pipelines_make_the_same_plan_twice(objects in pipeline(), prefixes in proptest::collection::vec(any::<u32>(), 1..40)) {
        let mut files = InMemory::default();
        let list: String = prefixes.iter().map(|address| format!("{}\n", std::net::Ipv4Addr::from(*address))).collect();
        files.put("list", list);
        files.put("test.pipe", format!("{}rule create 500 from p0 match file list to t0\n", text_of(&objects)));
        let parsed = load(Path::new("test.pipe"), &[], &files);
        let surroundings = Surroundings { files: Arc::new(files), ..Surroundings::fixed() };
        prop_assert!(assert_repeats(&parsed, &surroundings), "{}", planned(&parsed, &surroundings).0);
        let mut other = InMemory::default();
        other.put("list", "192.0.2.1\n");
        let other = Surroundings { files: Arc::new(other), ..surroundings.clone() };
        prop_assert!(planned(&parsed, &other).1 != planned(&parsed, &surroundings).1);
    }
}
