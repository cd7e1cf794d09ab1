//! Plans: the same of the same text, of nothing but what their caller gives, and compared with each other.

/// Changes of every object, of which only what is in force is kept.
mod compacted;
/// What makes one plan another, by a table of every option and by a model.
mod diff;
/// What the prompt says of itself before `start`.
mod draft;
/// The picture of a plan: its geometry, and its forms by the programs that read them.
mod graph;
/// Pipelines of what the language has, and what one object less, more or different makes of them.
mod pipelines;
/// What is printed of a pipeline makes its plan.
mod printed;
/// Plans of the same text and the same surroundings are equal.
mod repeat;
/// Callers that may name the files of one folder, or none.
mod surroundings;
/// Reading nothing of the world but where a table says so.
mod world;

use std::path::{Path, PathBuf};

use tapline::plan::{Plan, Surroundings, plan};
use tapline_lang::parse_text;

/// The pipeline files of the repository: those of users, and those of the language's tests.
fn pipeline_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries =
        ["pipelines", "testbed/lang"].map(|folder| root.join(folder).read_dir().expect("a folder"));
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "pipe")).collect()
}

/// The plan of a text that is right.
fn planned(text: &str) -> Plan {
    let mut parsed = parse_text("test.pipe", text, &[]);
    plan(&mut parsed, &Surroundings::fixed())
        .unwrap_or_else(|| panic!("{}\n{text}", parsed.diagnostics.render(&parsed.sources)))
}
