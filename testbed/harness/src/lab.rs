//! Runs the product: a folder of its own for each test, `tapline` started in it, what it printed and counted read back.
//!
//! Every run that ends well is judged by both identities of the ledger, on the numbers that the statistics file has.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_api::snapshot::Snapshot;

use crate::judges::{assert_balanced, assert_no_panics, number};
use crate::log;
use crate::programs::tapline;

/// EAL as tests need it: no root, no huge pages, nothing left behind, several at a time.
pub const EAL: &str = "--no-huge --no-shconf --no-pci --no-telemetry -m 256";

/// The words that run a file with statistics and a control socket.
pub fn served<'a>(file: &'a str, eal: &'a str) -> [&'a str; 10] {
    ["run", file, "--eal", eal, "--stats", "stats.json", "--interval", "50ms", "--control", "control.sock"]
}

/// A run that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(180);

/// A folder for one test.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the test") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a writable folder");
        if name.ends_with(".key") {
            let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, own).expect("a file of our own");
        }
        path
    }

    /// `tapline ARGS…` in the lab's folder; paths in pipeline files are relative to it.
    pub fn tapline(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tapline());
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs a pipeline until no packet came for a while, and hands back how it ended.
    pub fn run(&self, pipeline: &str, flags: &[&str]) -> Ended {
        self.write("test.pipe", pipeline);
        let mut arguments = vec!["run", "test.pipe", "--eal", EAL, "--stats", "stats.json"];
        if !flags.iter().any(|flag| ["--exit-idle", "--duration"].contains(flag)) {
            // long enough for a worker that other tests keep from its CPU
            arguments.extend(["--exit-idle", "1s"]);
        }
        arguments.extend(flags);
        self.end(self.start(&mut self.tapline(&arguments)))
    }

    /// [`Lab::run`] of a pipeline that is expected to do its work: status 0, identities hold.
    pub fn account(&self, pipeline: &str, flags: &[&str]) -> Account {
        self.run(pipeline, flags).done()
    }

    /// Starts a command with its output going to files, so that no pipe fills.
    pub fn start(&self, command: &mut Command) -> Started {
        let create = |name: &str| File::create(self.path(name)).expect("a writable folder");
        command.stdout(create("stdout")).stderr(create("stderr"));
        if !command.get_args().any(|argument| argument == "--interactive" || argument == "-i") {
            command.stdin(Stdio::null());
        }
        Started { child: command.spawn().expect("a program that can be started") }
    }

    /// Starts a file with statistics and a control socket, and waits until packets flow.
    pub fn serve(&self, file: &str, eal: &str, more: &[&str]) -> Started {
        let started = self.start(self.tapline(&served(file, eal)).args(more));
        self.until("packets", |line| number(line, "packets/received") > 0);
        started
    }

    /// Waits for the end of what was started.
    pub fn end(&self, mut started: Started) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = started.child.try_wait().expect("a child of this process") {
                break status;
            }
            if begun.elapsed() > LONGEST {
                started.child.kill().expect("a child of this process");
                panic!("hangs; it printed: {}\n{}", self.text("stdout"), self.text("stderr"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stats = self.text("stats.json");
        Ended {
            status: status.code(),
            stdout: self.text("stdout"),
            stderr: self.text("stderr"),
            stats: json_lines(&stats),
        }
    }

    /// Waits until the statistics of a running Tapline say so; the line that did.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let text = self.text("stats.json");
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let last = json_lines(whole).pop();
            if let Some(line) = last.as_ref().filter(|line| holds(line)) {
                return line.clone();
            }
            assert!(
                begun.elapsed() < LONGEST,
                "{what} does not happen\n{}\n{}",
                last.unwrap_or_default(),
                self.text("stderr")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn text(&self, name: &str) -> String {
        let text = std::fs::read(self.path(name)).unwrap_or_default();
        if name == "stderr" { log::texts(&text) } else { String::from_utf8_lossy(&text).into_owned() }
    }

    /// What a started program has printed to standard output or, with "stderr", error so far: of log lines the text.
    pub fn printed(&self, stream: &str) -> String {
        self.text(stream)
    }
}

/// A running program.
pub struct Started {
    pub child: Child,
}

impl Started {
    /// Sends a signal by the name that kill(1) takes.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill(1)");
        assert!(status.success(), "signal {name} could not be sent");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // a test that failed must not leave a poller behind; one that ended well has been waited for
        let _ = self.child.kill();
    }
}

/// Reads statistics, a line each, and sees that the types that clients read them by leave nothing out.
pub fn json_lines(text: &str) -> Vec<Value> {
    let read = |line: &str| -> serde_json::Result<Value> {
        let snapshot: Snapshot = serde_json::from_str(line)?;
        assert_eq!(serde_json::to_string(&snapshot)?, line, "what a client reads is what was written");
        serde_json::from_str(line)
    };
    text.lines().map(|line| read(line).unwrap_or_else(|error| panic!("{error} in: {line}"))).collect()
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The statistics file's lines.
    pub stats: Vec<Value>,
}

impl Ended {
    /// The account of a run that ended well, and in which nothing panicked.
    pub fn done(self) -> Account {
        let account = self.balanced();
        assert_no_panics(&account.last, &account.stderr);
        account
    }

    /// The account of a run that ended well, and whose script had a line that ends with this status.
    pub fn scripted(self, status: i32) -> Account {
        let account = self.ended(status);
        assert_no_panics(&account.last, &account.stderr);
        account
    }

    /// As [`scripted`](Self::scripted), of a script some of whose lines may have been wrong by chance.
    pub fn scripted_by_chance(self) -> Account {
        let status = if self.status == Some(2) { 2 } else { 0 };
        self.scripted(status)
    }

    /// The account of a run that ended well, whatever panicked in it.
    pub fn balanced(self) -> Account {
        self.ended(0)
    }

    fn ended(self, status: i32) -> Account {
        assert_eq!(self.status, Some(status), "exit status\n{}\n{}", self.stdout, self.stderr);
        let last = self.stats.last().unwrap_or_else(|| panic!("no statistics\n{}", self.stderr)).clone();
        assert_balanced(&last);
        Account { last, stdout: self.stdout, stderr: self.stderr, lines: self.stats }
    }

    /// What a run that cannot do its work printed: the exit status is `status`.
    pub fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "exit status\n{}\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// What a run counted.
pub struct Account {
    last: Value,
    pub stdout: String,
    pub stderr: String,
    pub lines: Vec<Value>,
}

impl Account {
    /// A number of the last statistics line by its path, such as `tools/ids/sent`.
    pub fn number(&self, path: &str) -> u64 {
        number(&self.last, path)
    }

    pub fn last(&self) -> &Value {
        &self.last
    }
}

/// The generated office traffic in the lab's folder as `in.pcap`, and its packets.
pub fn office(lab: &Lab) -> Vec<Vec<u8>> {
    let traffic = tapline_traffic::office();
    lab.write("in.pcap", traffic.to_pcap());
    traffic.packets.into_iter().map(|packet| packet.bytes).collect()
}

/// `port attach` and `tool create` lines for tools NAME that write NAME.pcap, from device number 1 on.
pub fn pcap_tools(names: &[&str]) -> String {
    let lines = names.iter().enumerate().map(|(index, name)| {
        let device = index + 1;
        format!("port attach {name}-port net_pcap{device},tx_pcap={name}.pcap rxq 0\ntool create {name} port {name}-port\n")
    });
    lines.collect()
}
