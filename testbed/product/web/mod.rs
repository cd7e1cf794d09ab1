//! The HTTP server: metrics, statistics, streams and changes of a running broker, by curl, Python's own clients, Prometheus and openssl.

/// Changes, sign-in, and who may not.
mod changes;
/// Metrics, by parsers of others and by Prometheus.
mod metrics;
/// Reads, streams, limits and the end.
mod reads;
/// DPDK's telemetry socket.
mod telemetry;
/// Certificates.
mod tls;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_harness::lab::{EAL, Lab, Started, json_lines};
use tapline_harness::programs::repository;

/// Two tools, a group of them and a rule; packets without end, and little of them.
const PIPELINE: &str = "set idle sleep\nport attach in net_null0,copy=0\nport attach out net_null1 rxq 0\n\
                        tool create t port out\ntool create d discard\ngroup create g tools t,d\n\
                        rule create 10 from in match \"less 9000\" to g\nrule create 20 from in match \"udp\" to d\nstart\n";

/// A broker that answers HTTP.
struct Served {
    lab: Lab,
    started: Option<Started>,
    url: String,
}

impl Served {
    /// Starts a broker with a file and further flags, and waits until it answers.
    fn start(pipeline: &str, flags: &[&str]) -> Self {
        let lab = Lab::new();
        Self::start_in(lab, pipeline, "127.0.0.1:0", flags)
    }

    fn start_in(lab: Lab, pipeline: &str, address: &str, flags: &[&str]) -> Self {
        Self::begin(lab, pipeline, address, flags, &[])
    }

    /// Starts one with TLS; `curl` are flags by which it can be asked.
    fn start_tls(lab: Lab, pipeline: &str, curl: &[String]) -> Self {
        let curl: Vec<&str> = curl.iter().map(String::as_str).collect();
        Self::begin(lab, pipeline, "127.0.0.1:0", &[], &curl)
    }

    fn start_at(lab: Lab, pipeline: &str, address: &str, curl: &[&str]) -> Self {
        Self::begin(lab, pipeline, address, &[], curl)
    }

    fn begin(lab: Lab, pipeline: &str, address: &str, flags: &[&str], curl: &[&str]) -> Self {
        lab.write("test.pipe", pipeline);
        let run = [
            "run",
            "test.pipe",
            "--eal",
            EAL,
            "--listen",
            address,
            "--control",
            "control.sock",
            "--stats",
            "stats.json",
        ];
        let started = lab.start(&mut lab.tapline(&[&run[..], flags].concat()));
        let begun = Instant::now();
        let url = loop {
            let log = lab.printed("stderr");
            let url = log.lines().find_map(|line| line.split_once("http: ")?.1.split_once(" is answered"));
            if let Some((url, _)) = url {
                break url.replace("0.0.0.0", "127.0.0.1");
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not answer; it printed:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let served = Self { lab, started: Some(started), url };
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        let ready = || served.curl(&[&code, curl].concat(), "/readyz") == "200";
        while !ready() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it receives nothing");
            std::thread::sleep(Duration::from_millis(50));
        }
        served
    }

    fn port(&self) -> &str {
        self.url.rsplit(':').next().expect("a port")
    }

    /// The output of curl for a path.
    fn curl(&self, flags: &[&str], path: &str) -> String {
        let url = format!("{}{path}", self.url);
        let output = Command::new("curl")
            .args(["-s", "--max-time", "20"])
            .args(flags)
            .arg(url)
            .current_dir(self.lab.path("."))
            .output()
            .expect("curl(1)");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The status of an answer.
    fn status(&self, flags: &[&str], path: &str) -> u16 {
        let status = self.curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], flags].concat(), path);
        status.parse().expect("a status")
    }

    fn json(&self, flags: &[&str], path: &str) -> Value {
        let text = self.curl(flags, path);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// The result of a command by the control socket.
    fn ctl(&self, words: &[&str]) -> String {
        let output = self
            .lab
            .tapline(&[&["ctl", "--control", "control.sock"], words].concat())
            .stdin(Stdio::null())
            .output()
            .expect("tapline ctl");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a Python program of this folder's with the URL.
    fn python(&self, python: &str, program: &str, arguments: &[&str]) -> String {
        let path = repository().join("testbed/product/web").join(program);
        let output = Command::new(python)
            .arg(path)
            .arg(&self.url)
            .args(arguments)
            .current_dir(self.lab.path("."))
            .output()
            .expect("python3");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program}: {stdout}\n{stderr}\n{}", self.lab.printed("stderr"));
        stdout.into_owned()
    }

    /// Ends the broker, whose account has to hold.
    fn end(mut self) {
        let started = self.started.take().expect("it runs");
        started.signal("TERM");
        self.lab.end(started).done();
    }
}

/// The last of the statistics that a run has written by now.
fn last_line(lab: &Lab) -> Value {
    let text = std::fs::read_to_string(lab.path("stats.json")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    json_lines(whole).pop().expect("a line of statistics")
}
