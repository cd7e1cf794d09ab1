//! A caller that is confined to a folder is told so at each path outside of it, and nothing of what is there; one that may name no file
//! likewise.

use std::path::Path;
use std::sync::Arc;

use tapline::plan::surroundings::Confined;
use tapline::plan::{Surroundings, plan};
use tapline_lang::files::{Files, NoFiles};
use tapline_lang::load;
use tempfile::TempDir;

/// A folder `own`, and beside it `secret` files that no diagnostic may quote.
fn world() -> TempDir {
    let world = tempfile::tempdir().expect("a folder");
    let at = |name: &str| world.path().join(name);
    std::fs::create_dir(at("own")).expect("a folder");
    for name in ["secret", "secret.pipe", "secret.pcap", "own/list"] {
        let text = if name == "own/list" { "10.0.0.0/8\n" } else { "hunter2 is the password\n" };
        std::fs::write(at(name), text).expect("a file");
    }
    std::os::unix::fs::symlink(at("secret"), at("own/link")).expect("a link");
    world
}

/// What is said of a pipeline file in `own` with this text, as a caller gets it that has such files.
fn said(world: &TempDir, text: &str, files: impl Files + 'static) -> String {
    let path = world.path().join("own/test.pipe");
    std::fs::write(&path, text).expect("a file");
    let mut parsed = load(&path, &[], &files);
    let surroundings = Surroundings { files: Arc::new(files), ..Surroundings::fixed() };
    plan(&mut parsed, &surroundings);
    parsed.diagnostics.render(&parsed.sources)
}

#[test]
fn each_path_outside_is_refused_at_its_place_and_nothing_is_read_of_it() {
    let world = world();
    let confined = Confined::to(&world.path().join("own")).expect("a folder");
    let outside = world.path().display().to_string();
    let rule = |clause: &str| format!("rule create 10 from p {clause} to t\n");
    for (line, place) in [
        (format!("include {outside}/secret"), "include"),
        (format!("include {outside}/secret.pipe"), "include"),
        ("include ../secret".to_owned(), "include"),
        ("include link".to_owned(), "include"),
        (rule(&format!("match file {outside}/secret")), "match"),
        (rule(&format!("match file {outside}/own/link")), "match"),
        (format!("filter create f file {outside}/secret"), "filter"),
        (rule(&format!("anonymize ip prefix-preserving key {outside}/secret")), "key"),
        (format!("tool create c capture {outside}/new.pcapng"), "capture"),
        (format!("tool create c capture {outside}/own/../secret"), "capture"),
        (format!("port attach q replay:{outside}/secret.pcap"), "replay"),
        (format!("port attach q net_pcap0,rx_pcap={outside}/secret.pcap"), "rx_pcap"),
        (format!("port attach q net_pcap0,tx_pcap={outside}/new.pcap"), "tx_pcap"),
        (format!("set panic-dump {outside}/dumps"), "panic-dump"),
        ("tool create c capture /etc/cron.d/x".to_owned(), "capture"),
    ] {
        let text =
            format!("port attach p net_null0\ntool create t discard\nrule create 5 from p to t\n{line}\n");
        let said = said(&world, &text, confined.clone());
        let own = world.path().join("own").canonicalize().expect("a folder");
        let fact = format!("is outside `{}`, which is all that this caller may name", own.display());
        assert_eq!(said.matches(&fact).count(), 1, "{place}: {line}\n{said}");
        assert!(said.contains("test.pipe:4:"), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("password"), "{said}");
    }
}

#[test]
fn what_is_inside_is_as_for_everybody() {
    let world = world();
    let own = world.path().join("own");
    let confined = Confined::to(&own).expect("a folder");
    let (own, list) = (own.display(), "list");
    let text = format!(
        "port attach p net_null0\ntool create t capture {own}/new.pcapng\nrule create 5 from p match file {own}/{list} to t\nset panic-dump {own}\n"
    );
    assert_eq!(said(&world, &text, confined), "");
}

#[test]
fn who_may_name_no_file_reads_none() {
    let world = world();
    let said = said(&world, "port attach p net_null0\n", NoFiles);
    assert!(said.contains("cannot read the file: this caller may name no file"), "{said}");
    let parsed = |line: &str| {
        let text =
            format!("port attach p net_null0\ntool create t discard\nrule create 5 from p to t\n{line}\n");
        let mut parsed = tapline_lang::parse_text("typed", &text, &[]);
        let surroundings = Surroundings { files: Arc::new(NoFiles), ..Surroundings::fixed() };
        plan(&mut parsed, &surroundings);
        parsed.diagnostics.render(&parsed.sources)
    };
    let secret = world.path().join("secret").display().to_string();
    assert!(Path::new(&secret).exists());
    for line in [
        format!("include {secret}"),
        format!("filter create f file {secret}"),
        format!("tool create c capture {secret}"),
        format!("port attach q replay:{secret}"),
    ] {
        let said = parsed(&line);
        assert_eq!(said.matches("this caller may name no file").count(), 1, "{line}\n{said}");
    }
}
