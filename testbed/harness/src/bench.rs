//! Pipelines that are told what to do at their prompt, in a network namespace if asked for.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::frames::udp;
use crate::judges::{assert_balanced, number};
use crate::lab::{Account, Ended, Lab, json_lines};
use crate::log;
use crate::pcap_files::{packets, pcap_bytes};
use crate::programs::tapline;

/// A lab in which the program is started as users do, with no words for EAL, and can be spoken to.
pub struct Bench {
    lab: Lab,
    /// The network namespace that programs are started in, if not this one.
    namespace: Option<String>,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    pub fn new() -> Self {
        Self { lab: Lab::new(), namespace: None }
    }

    /// Programs are started in a network namespace.
    pub fn inside(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// Writes packets to a capture file.
    pub fn write(&self, name: &str, packets: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.lab.write(name, pcap_bytes(packets));
    }

    /// The packets of a capture file that a run wrote.
    pub fn read(&self, name: &str) -> Vec<Vec<u8>> {
        packets(&self.path(name))
    }

    /// The program with a pipeline of these lines, in which a path from `@/` on lies in the folder.
    pub fn command(&self, pipeline: &str, arguments: &[&str]) -> Command {
        let folder = self.path("");
        let folder = folder.to_str().expect("the folder has a plain name");
        self.lab.write("test.pipe", pipeline.replace("@/", folder));
        let program = tapline();
        let mut command = Command::new(if self.namespace.is_some() { Path::new("ip") } else { program });
        if let Some(namespace) = &self.namespace {
            command.args(["netns", "exec", namespace]).arg(program);
        }
        command
            .arg("run")
            .arg(self.path("test.pipe"))
            .arg("--stats")
            .arg(self.path("stats.json"))
            .args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs until no packet came for a while, unless the arguments say when, and demands a balanced account and no panic.
    pub fn run(&self, pipeline: &str, arguments: &[&str]) -> Account {
        let mut command = self.command(pipeline, arguments);
        if !arguments.iter().any(|argument| ["--exit-idle", "--duration"].contains(argument)) {
            command.args(["--exit-idle", "400ms"]);
        }
        self.ended(&command.output().expect("the program starts")).done()
    }

    /// How a program ended, with the statistics that it wrote.
    pub fn ended(&self, output: &Output) -> Ended {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Ended {
            status: output.status.code(),
            stdout,
            stderr: log::texts(&output.stderr),
            stats: self.lines(),
        }
    }

    /// Every whole line of statistics so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("stats.json")).unwrap_or_default();
        json_lines(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
    }

    /// The last line of statistics.
    pub fn last(&self) -> Value {
        self.lines().pop().expect("statistics were written")
    }

    /// Waits until a run has written statistics with packets received.
    pub fn wait_for_packets(&self) {
        for _ in 0..3000 {
            if self.lines().iter().any(|line| number(line, "packets/received") > 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a run left that has ended well, whatever panicked in it.
    pub fn finish(&self, output: Output) -> Account {
        self.ended(&output).balanced()
    }

    /// Starts a pipeline that is told what to do at its prompt.
    pub fn start(&self, pipeline: &str) -> Prompt<'_> {
        self.start_with(pipeline, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(&self, pipeline: &str, variables: &[(&str, &Path)]) -> Prompt<'_> {
        let mut command = self.command(pipeline, &["-i", "--interval", "20ms"]);
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let input = child.stdin.take().expect("a pipe");
        Prompt { bench: self, child: Some(child), input: Some(input), read: 0, lines: Vec::new() }
    }
}

/// A running pipeline.
pub struct Prompt<'a> {
    bench: &'a Bench,
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// Bytes of the statistics that are read.
    read: usize,
    lines: Vec<Value>,
}

impl Prompt<'_> {
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("a pipe"), "{line}").expect("the program reads");
    }

    /// Waits for the first snapshot, of those not looked at so far, of which `is_met` holds.
    pub fn wait(&mut self, what: &str, is_met: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..3000 {
            let text = std::fs::read(self.bench.path("stats.json")).unwrap_or_default();
            let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let fresh = text[self.read.min(whole)..whole]
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty());
            for line in fresh {
                self.read += line.len() + 1;
                self.lines.push(serde_json::from_slice(line).expect("statistics are JSON"));
                if is_met(&self.lines[self.lines.len() - 1]) {
                    return self.lines[self.lines.len() - 1].clone();
                }
            }
            let child = self.child.as_mut().expect("a running program");
            if let Ok(Some(status)) = child.try_wait() {
                let mut said = String::new();
                child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                panic!("waited for: {what}; the program ended with {status}: {said}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = self.child.take().map(|mut child| {
            let _ = child.kill();
            child.wait_with_output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        });
        panic!("waited 30 s for: {what}; the last snapshot is {:?}; the log is {log:?}", self.lines.last());
    }

    pub fn wait_for_state(&mut self, tool: &str, state: &str) -> Value {
        self.wait(&format!("{tool} is {state}"), |stats| stats["tools"][tool]["state"] == state)
    }

    /// Sends a signal by the name that kill(1) takes.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("a running program").id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill(1)");
        assert!(status.success(), "signal {name} is sent");
    }

    /// Waits for the end of a run that was told to end and fails; its last statistics.
    pub fn wait_for_end(mut self) -> Value {
        let output =
            self.child.take().expect("a running program").wait_with_output().expect("the program ends");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let last = self.bench.last();
        assert_balanced(&last);
        last
    }

    /// `quit`, and what the run left.
    pub fn quit(self) -> Account {
        let bench = self.bench;
        bench.finish(self.left())
    }

    /// `quit` after a line that ends a script with this status, and what the run left, in which nothing panicked.
    pub fn quit_scripted(self, status: i32) -> Account {
        let bench = self.bench;
        bench.ended(&self.left()).scripted(status)
    }

    /// As [`quit_scripted`](Self::quit_scripted), after lines of which some may have been wrong by chance.
    pub fn quit_by_chance(self) -> Account {
        let bench = self.bench;
        bench.ended(&self.left()).scripted_by_chance()
    }

    fn left(mut self) -> Output {
        self.say("quit");
        drop(self.input.take());
        self.child.take().expect("a running program").wait_with_output().expect("the program ends")
    }
}

impl Drop for Prompt<'_> {
    fn drop(&mut self) {
        // a test that failed must not leave a poller behind
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `tapline check` says of a pipeline.
pub fn check(lines: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder is made");
    let path = folder.path().join("test.pipe");
    std::fs::write(&path, lines).expect("the pipeline is written");
    let output = Command::new(tapline()).arg("check").arg(&path).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Seconds since the Unix epoch, as events have them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_secs_f64()
}

fn turns(stats: &Value) -> Option<u64> {
    stats["lcores"].as_object()?.values().next()?["turns"].as_u64()
}

/// The next statistics at which every worker has finished a turn that began after `seen`.
pub fn settled(prompt: &mut Prompt<'_>, seen: &Value) -> Value {
    let enough = turns(seen).expect("a worker") + 2;
    prompt.wait("the worker takes it up", |stats| turns(stats) >= Some(enough))
}

/// A thousand flows in `in.pcap`.
pub fn flows(bench: &Bench) {
    let packets: Vec<Vec<u8>> = (0..1000u16)
        .map(|flow| udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64))
        .collect();
    bench.write("in.pcap", packets);
}

pub fn dropped(run: &Account, tool: &str, reason: &str) -> u64 {
    run.number(&format!("tools/{tool}/dropped/{reason}"))
}
