//! The program under test, and those that judge it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program under test. Cargo builds it for the tests of its package, and puts it into the folder above that of the test's own
/// program, whatever the profile and the target folder are.
/// # Panics
/// If it is not there: no test is to run another one.
pub fn tapline() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let test = std::env::current_exe().expect("a program that runs has a path");
        let folder = test
            .parent()
            .and_then(Path::parent)
            .expect("Cargo puts tests into a folder of the target folder");
        let program = folder.join("tapline");
        assert!(
            program.is_file(),
            "{} is not there: only tests of the package that makes it can run it",
            program.display()
        );
        program
    })
}

/// Returns whether a program is installed, after saying so where it is not.
pub fn has_program(name: &str) -> bool {
    let is_there = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(name).is_file())
    });
    if !is_there {
        tapline_skip::skipped(format_args!("no {name}"));
    }
    is_there
}

/// Returns whether all of these programs are installed, after saying which one is not.
pub fn has_programs(names: &[&str]) -> bool {
    names.iter().all(|name| has_program(name))
}

/// Runs a program that must succeed; what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    run_in(Path::new("."), program, arguments)
}

/// The same in a folder.
pub fn run_in(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has the test that calls this, by its module's path and its name, do its work in a process where no other test runs, because it
/// changes what all of a process share.
///
/// nextest gives every test a process. Under `cargo test` this starts the test's program once more, for this test alone.
pub fn alone(module: &str, name: &str, work: impl FnOnce()) {
    const ALONE: &str = "TAPLINE_ALONE";
    if std::env::var_os("NEXTEST").is_some() || std::env::var_os(ALONE).is_some() {
        return work();
    }
    let path = module.split_once("::").map_or(name.to_owned(), |(_, inside)| format!("{inside}::{name}"));
    let mut test = Command::new(std::env::current_exe().expect("a program that runs has a path"));
    test.args([&path, "--exact", "--nocapture", "--test-threads", "2"])
        .env(ALONE, "1")
        .stdin(Stdio::null());
    let output = test.output().expect("the test's own program starts");
    let [said, log] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    print!("{said}");
    eprint!("{log}");
    assert!(output.status.success() && said.contains("1 passed"), "{path} fails in a process of its own");
}
