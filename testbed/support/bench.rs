//! Pipelines that are run, and the packets and statistics that they leave.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A folder for one run's files.
pub struct Bench {
    folder: tempfile::TempDir,
    /// The network namespace that programs are started in, if not this one.
    namespace: Option<String>,
}

/// What a run said.
pub struct Run {
    pub stats: Vec<Value>,
    pub log: String,
    #[allow(dead_code, reason = "the suite of tools uses it")]
    pub output: String,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder is made"), namespace: None }
    }

    /// Programs are started in a network namespace.
    #[allow(dead_code, reason = "the suite of faults uses it")]
    pub fn inside(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes packets to a capture file.
    pub fn write<'a>(&self, name: &str, packets: impl IntoIterator<Item = &'a [u8]>) {
        let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).expect("libpcap knows Ethernet");
        let mut file = dead.savefile(self.path(name)).expect("the file is made");
        for bytes in packets {
            let len = bytes.len() as u32;
            let ts = libc::timeval { tv_sec: 1_700_000_000, tv_usec: 0 };
            file.write(&pcap::Packet { header: &pcap::PacketHeader { ts, caplen: len, len }, data: bytes });
        }
    }

    /// The packets of a capture file that a run wrote.
    pub fn read(&self, name: &str) -> Vec<Vec<u8>> {
        read(&self.path(name))
    }

    /// The program with a pipeline of these lines, in which a path from `@/` on lies in the folder.
    pub fn command(&self, pipeline: &str, arguments: &[&str]) -> Command {
        let folder = self.folder.path().to_str().expect("the folder has a plain name");
        std::fs::write(self.path("test.pipe"), pipeline.replace("@/", &format!("{folder}/"))).expect("the pipeline is written");
        let program = env!("CARGO_BIN_EXE_tapline");
        let mut command = Command::new(if self.namespace.is_some() { "ip" } else { program });
        if let Some(namespace) = &self.namespace {
            command.args(["netns", "exec", namespace, program]);
        }
        command.arg("run").arg(self.path("test.pipe")).arg("--stats").arg(self.path("stats.json")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs until no packet came for a while, and demands a balanced account.
    pub fn run(&self, pipeline: &str, arguments: &[&str]) -> Run {
        let mut command = self.command(pipeline, &["--exit-idle", "300ms"]);
        let run = self.finish(command.args(arguments).output().expect("the program starts"));
        let panics = run.last()["lcores"].as_object().expect("lcores").values().map(|lcore| lcore["panics"].as_u64());
        assert_eq!(panics.flatten().sum::<u64>(), 0, "panics: {}", run.log);
        run
    }

    /// Waits until a run has written statistics with packets received.
    pub fn wait_for_packets(&self) {
        for _ in 0..3000 {
            let text = std::fs::read_to_string(self.path("stats.json")).unwrap_or_default();
            let is_received =
                |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|stats| stats["packets"]["received"].as_u64() > Some(0));
            if text.lines().any(is_received) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// What a run left that has ended well.
    pub fn finish(&self, output: Output) -> Run {
        let [output_text, log] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{output_text}\n{log}");
        let stats = std::fs::read_to_string(self.path("stats.json")).expect("statistics were written");
        let stats = stats.lines().map(|line| serde_json::from_str(line).expect("statistics are JSON")).collect();
        let run = Run { stats, log, output: output_text };
        assert_balanced(run.last());
        run
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
            let fresh = text[self.read.min(whole)..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
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
    #[allow(dead_code, reason = "the suite of faults uses it")]
    pub fn wait_for_end(mut self) -> Value {
        let output = self.child.take().expect("a running program").wait_with_output().expect("the program ends");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(self.bench.path("stats.json")).expect("statistics were written");
        let last = serde_json::from_str(text.lines().last().expect("a line")).expect("statistics are JSON");
        assert_balanced(&last);
        last
    }

    /// `quit`, and what the run left.
    pub fn quit(mut self) -> Run {
        self.say("quit");
        drop(self.input.take());
        let output = self.child.take().expect("a running program").wait_with_output().expect("the program ends");
        self.bench.finish(output)
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
    let output = Command::new(env!("CARGO_BIN_EXE_tapline")).arg("check").arg(&path).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Seconds since the Unix epoch, as events have them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_secs_f64()
}

fn number(stats: &Value, pointer: &str) -> u64 {
    let value = stats.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {stats}"));
    value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}"))
}

/// Both identities, added up here, for the whole and for every tool and group.
pub fn assert_balanced(stats: &Value) {
    let ends = ["delivered", "unmatched", "excluded", "sampled_out", "duplicate", "failed"];
    let ended: u64 = ends.iter().map(|end| number(stats, &format!("/packets/{end}"))).sum();
    assert_eq!(number(stats, "/packets/received"), ended, "packets: {stats}");
    let ended = |copies: &Value| {
        let dropped =
            copies["dropped"].as_object().expect("drops by reason").values().map(|count| count.as_u64().expect("a number"));
        (number(copies, "/requested"), number(copies, "/sent") + dropped.sum::<u64>())
    };
    let (mut requested, mut accounted) = (0, 0);
    let entries = |key: &str| stats[key].as_object().expect("entries by name").iter().collect::<Vec<_>>();
    for (name, tool) in entries("tools") {
        let (asked, ended) = ended(tool);
        assert_eq!(asked, ended, "tool {name}: {stats}");
        (requested, accounted) = (requested + asked, accounted + ended);
    }
    for (name, group) in entries("groups") {
        let (asked, ended) = ended(&group["unassigned"]);
        assert_eq!(asked, ended, "group {name}: {stats}");
        assert_eq!(number(group, "/requested"), number(group, "/assigned") + ended, "group {name}: {stats}");
        (requested, accounted) = (requested + asked, accounted + ended);
    }
    assert_eq!(ended(&stats["copies"]), (requested, accounted), "copies: {stats}");
    assert_eq!(stats["balanced"], true, "{stats}");
}

impl Run {
    /// The statistics at the end.
    pub fn last(&self) -> &Value {
        self.stats.last().expect("there are statistics")
    }

    /// A number of the statistics at the end, by its path.
    pub fn count(&self, pointer: &str) -> u64 {
        number(self.last(), pointer)
    }
}

pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut capture = pcap::Capture::from_file(path).expect("the capture opens");
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(packet.data.to_vec());
    }
    packets
}

/// A UDP datagram over IPv4, its checksum left out.
pub fn udp(id: u16, source: [u8; 4], source_port: u16, ttl: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut ip = [0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0, 0, 0, 0, 0, 198, 18, 0, 9];
    ip[4..6].copy_from_slice(&id.to_be_bytes());
    ip[12..16].copy_from_slice(&source);
    let sum = ip.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.extend([0x5a; 18]);
    frame
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
    let packets: Vec<Vec<u8>> =
        (0..1000u16).map(|flow| udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64)).collect();
    bench.write("in.pcap", packets.iter().map(Vec::as_slice));
}

pub fn dropped(run: &Run, tool: &str, reason: &str) -> u64 {
    run.count(&format!("/tools/{tool}/dropped/{reason}"))
}
