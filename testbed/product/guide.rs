//! The pages of the guide that need no root: their commands print what the pages show.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tapline_harness::guide::{blocks_of, follow};
use tapline_harness::lab::Lab;
use tapline_harness::programs::{has_programs, run_in, tapline};

#[test]
fn the_first_capture_goes_as_its_page_says() {
    if !has_programs(&["tcpdump", "tshark"]) {
        return;
    }
    follow(&office(), "first-capture.md", &[]);
}

#[test]
fn what_is_lost_is_told_as_its_page_says() {
    follow(&Lab::new(), "is-anything-lost.md", &[]);
}

#[test]
fn a_packet_that_did_not_arrive_is_found_as_its_page_says() {
    if has_programs(&["tshark"]) {
        follow(&office(), "why-not-arrived.md", &[]);
    }
}

#[test]
fn a_change_is_reviewed_as_its_page_says() {
    follow(&office(), "review-changes.md", &[]);
}

/// The commands of a file for CI, job by job, by Python's YAML parser: of steps with `run`, and of `script`.
const COMMANDS: &str = r#"
import json, sys, yaml
found = []
for job in (lambda file: file.get("jobs", file))(yaml.safe_load(sys.stdin)).values():
    found.append([step["run"] for step in job.get("steps", []) if "run" in step] + job.get("script", []))
json.dump(found, sys.stdout)
"#;

/// A script of a runner: it ends with the first command that fails.
fn run_job(lab: &Lab, commands: &[String], variables: &[(&str, &str)]) -> Option<i32> {
    let folder = tapline().parent().and_then(Path::to_str).expect("the program is in a folder").to_owned();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let run = |command: &String| {
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", command]);
        bash.current_dir(lab.path("clone")).env("PATH", &path).envs(variables.iter().copied());
        bash.output().expect("bash runs").status.code()
    };
    commands.iter().map(run).find(|status| *status != Some(0)).unwrap_or(Some(0))
}

#[test]
fn the_examples_for_ci_are_yaml_whose_commands_review_a_change() {
    let has_yaml = Command::new("python3").args(["-c", "import yaml"]).output();
    if !has_programs(&["git", "python3"]) || !has_yaml.is_ok_and(|output| output.status.success()) {
        tapline_skip::skipped(format_args!("Python has no module yaml, or git is missing"));
        return;
    }
    let examples = blocks_of("review-changes.md", "yaml");
    assert_eq!(examples.len(), 2);
    let jobs = |text: &String| -> Vec<Vec<String>> {
        let mut python = Command::new("python3");
        let mut child = python
            .args(["-c", COMMANDS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("python3 reads");
        let output = child.wait_with_output().expect("python3 ends");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no YAML of jobs:\n{text}"))
    };
    let (github, gitlab) = (jobs(&examples[0]), jobs(&examples[1]));
    assert_eq!((github.len(), github[0].len(), gitlab.len()), (1, 2, 2));

    let lab = office();
    let git = |folder: &str, words: &[&str]| {
        let who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"];
        run_in(&lab.path(folder), "git", &[&who, words].concat())
    };
    let text = "port attach span net_null0\ntool create a discard\nrule create 10 from span match \"udp\" to a\nstart\n";
    std::fs::create_dir_all(lab.path("origin/tests")).expect("a writable folder");
    std::fs::copy(lab.path("demo-out/traffic.pcap"), lab.path("origin/tests/traffic.pcap"))
        .expect("a capture");
    lab.write("origin/broker.pipe", text);
    git("origin", &["init", "-q", "-b", "main"]);
    git("origin", &["add", "."]);
    git("origin", &["commit", "-q", "-m", "As it is"]);
    git("", &["clone", "-q", "origin", "clone"]);
    let base = git("clone", &["rev-parse", "HEAD"]);
    let summary = lab.path("summary.md");
    let variables = [
        ("GITHUB_BASE_REF", "main"),
        ("GITHUB_STEP_SUMMARY", summary.to_str().expect("utf-8")),
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", base.trim()),
    ];
    let ends = |changed: &str| {
        lab.write("clone/broker.pipe", changed);
        let ends = [&github[0], &gitlab[0], &gitlab[1]].map(|job| run_job(&lab, job, &variables));
        let summary = std::fs::read_to_string(&summary).unwrap_or_default();
        std::fs::remove_file(lab.path("summary.md")).ok();
        (ends, summary.contains("otherwise"))
    };
    // tidied up, changed in fact, and wrong
    assert_eq!(ends(&text.replace("\"udp\"", "\"ip proto 17 or ip6 proto 17\"")), ([Some(0); 3], false));
    assert_eq!(ends(&text.replace("udp", "tcp")), ([Some(0), Some(0), Some(1)], true));
    assert_eq!(ends("rule create\n"), ([Some(2), Some(2), Some(2)], false));
}

/// A lab that has the demo's capture.
fn office() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    lab
}
