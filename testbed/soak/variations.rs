//! Files that are nearly right, as they come about while somebody writes them: every prefix, every line left out, every two lines
//! swapped, of every pipeline file that there is. Each is planned or refused in words, and none ends in a panic.
//!
//! `TAPLINE_VARIATIONS=N` runs N of them by the program (40), chosen by `TAPLINE_VARIATIONS_SEED` (1), and goes on with others for
//! `TAPLINE_VARIATIONS_SECONDS`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tapline::broker::start::placement::place;
use tapline::plan::{Run, RunOptions, Surroundings, plan};
use tapline_harness::lab::{EAL, Lab, office};
use tapline_harness::spans::{number_of, span};
use tapline_lang::files::InMemory;
use tapline_lang::load;

/// The pipeline files, by name, with bytes that are no text replaced.
fn files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = ["pipelines", "testbed/lang"]
        .map(|folder| root.join(folder).read_dir().expect("a folder of the repository"));
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "pipe")).collect();
    paths.sort();
    assert!(paths.len() > 25, "{} files", paths.len());
    let text = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a readable file");
        (path, String::from_utf8_lossy(&bytes).into_owned())
    };
    paths.into_iter().map(text).collect()
}

/// What becomes of a text: each with the words that name it.
fn variations(text: &str) -> Vec<(String, String)> {
    let prefixes =
        text.char_indices().map(|(end, _)| (format!("the first {end} bytes"), text[..end].to_owned()));
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let left_out = (0..lines.len()).map(|line| {
        let rest: String =
            lines.iter().enumerate().filter(|(other, _)| *other != line).map(|(_, text)| *text).collect();
        (format!("without line {}", line + 1), rest)
    });
    let pairs = (0..lines.len()).flat_map(|a| (a + 1..lines.len()).map(move |b| (a, b)));
    let swapped = pairs.map(|(a, b)| {
        let mut lines = lines.clone();
        lines.swap(a, b);
        (format!("with lines {} and {} swapped", a + 1, b + 1), lines.concat())
    });
    prefixes.chain(left_out).chain(swapped).collect()
}

/// As `tapline check` of a file that says `text` in place of its own, without what it prints. The other files stand beside it.
fn check(path: &Path, text: &str, mut files: InMemory) {
    files.put(path, text);
    let mut parsed = load(path, &[], &files);
    let surroundings = Surroundings { files: Arc::new(files), ..Surroundings::system() };
    let planned = plan(&mut parsed, &surroundings);
    let said = parsed.diagnostics.render(&parsed.sources);
    assert!(planned.is_some() || !said.is_empty(), "refused without a word");
    if let Some(plan) = planned {
        // whether this machine has the CPUs is no mistake of the file's
        let _ = place(Run { plan: &plan, options: &RunOptions::default() });
    }
}

#[test]
fn no_prefix_and_no_line_left_out_or_swapped_makes_check_panic() {
    let mut count = 0;
    let mut whole = InMemory::default();
    files().into_iter().for_each(|(path, text)| whole.put(path, text));
    for (path, text) in files() {
        let name = path.display().to_string();
        for (what, text) in variations(&text) {
            let result = catch_unwind(AssertUnwindSafe(|| check(&path, &text, whole.clone())));
            assert!(result.is_ok(), "{name}, {what}, panics:\n{text}");
            count += 1;
        }
    }
    println!("{count} variations");
    assert!(count > 10_000, "{count} variations");
}

#[test]
fn no_prefix_and_no_line_left_out_or_swapped_makes_run_panic() {
    let (count, mut seed) = (number_of("TAPLINE_VARIATIONS", 40), number_of("TAPLINE_VARIATIONS_SEED", 1));
    let (begun, length) = (Instant::now(), span("TAPLINE_VARIATIONS_SECONDS", 0));
    println!("TAPLINE_VARIATIONS={count} TAPLINE_VARIATIONS_SEED={seed}");
    let files: Vec<(PathBuf, Vec<(String, String)>)> =
        files().into_iter().map(|(path, text)| (path, variations(&text))).collect();
    // splitmix64
    let mut next = |below: usize| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) % below as u64) as usize
    };
    let (mut tried, mut ran) = (0, 0);
    while tried < count || begun.elapsed() < length {
        tried += 1;
        // every file is as likely as another, and so is every variation of it
        let (path, variations) = &files[next(files.len())];
        let (what, text) = &variations[next(variations.len())];
        let lab = Lab::new();
        office(&lab);
        std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
        std::fs::copy(lab.path("in.pcap"), lab.path("demo-out/traffic.pcap")).expect("a writable folder");
        lab.write("test.pipe", text);
        let arguments = ["run", "test.pipe", "--eal", EAL, "--duration", "50ms"];
        let ended = lab.end(lab.start(&mut lab.tapline(&arguments)));
        let what = format!("{}, {what}", path.display());
        assert!(
            matches!(ended.status, Some(0..=2)),
            "{what}: {:?}\n{}\n{text}",
            ended.status,
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        assert!(
            ended.status == Some(0) || ended.stderr.contains("error"),
            "{what}: {:?} without a word",
            ended.status
        );
        ran += usize::from(ended.status == Some(0));
    }
    println!("{ran} of {tried} ran");
}
