//! Shared by the benches that run whole programs: testpmd and tapline on the same devices, in turn, in one run.
//!
//! Rates are by the time that the worker's thread had a CPU, so that what else the machine does weighs on neither side.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds that each measurement lasts, after a second of warm-up. `BENCH_SECONDS` changes it.
pub(crate) fn seconds() -> u64 {
    std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Pairs of measurements; the median of their ratios is what counts. `BENCH_PAIRS` changes it.
pub(crate) fn pairs() -> usize {
    std::env::var("BENCH_PAIRS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Whether huge pages are there, which both programs then use.
pub(crate) fn memory_args() -> Vec<&'static str> {
    let free: u64 = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if free >= 200 { vec!["--in-memory", "-m", "384"] } else { vec!["--no-huge", "-m", "512"] }
}

pub(crate) fn has_testpmd() -> bool {
    Command::new("dpdk-testpmd")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The thread of the one worker lcore of a DPDK program: where the kernel counts the time that it was given a CPU.
struct WorkerTime {
    schedstat: PathBuf,
    since: Instant,
    ns: u64,
}

impl WorkerTime {
    fn of(process: &Child) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("the process runs");
        let worker = tasks.flatten().map(|task| task.path()).find(|task| {
            std::fs::read_to_string(task.join("comm"))
                .is_ok_and(|name| name.starts_with("rte-worker") || name.starts_with("lcore-worker"))
        });
        let schedstat = worker.expect("a worker thread by its name").join("schedstat");
        Self { ns: Self::read(&schedstat), since: Instant::now(), schedstat }
    }

    fn read(schedstat: &Path) -> u64 {
        let text = std::fs::read_to_string(schedstat).expect("the worker runs");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("schedstat begins with a number")
    }

    /// The share of the time since `of` that the worker had a CPU: 1 on a machine that does nothing else.
    fn share(&self) -> f64 {
        (Self::read(&self.schedstat) - self.ns) as f64 / self.since.elapsed().as_nanos() as f64
    }
}

/// Million packets that testpmd sends in all in a second of its worker's time, in io mode on one lcore over these devices.
pub(crate) fn testpmd(vdevs: &[&str], burst: usize) -> f64 {
    let mut command = Command::new("dpdk-testpmd");
    command.args(["-l", "0,1", "--main-lcore", "0", "--no-pci", "--log-level", "3"]);
    command.args(memory_args()).args(["--file-prefix", "tapline-bench"]);
    vdevs.iter().for_each(|vdev| {
        command.args(["--vdev", vdev]);
    });
    command.args([
        "--",
        "-i",
        "--no-mlockall",
        "--nb-cores=1",
        "--forward-mode=io",
        "--total-num-mbufs=16384",
        "--mbcache=512",
    ]);
    command.arg(format!("--burst={burst}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("testpmd can be started");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    let mut say =
        |line: &str| input.write_all(format!("{line}\n").as_bytes()).expect("testpmd reads its input");
    say("start");
    std::thread::sleep(Duration::from_secs(1));
    say("show port stats all");
    let time = WorkerTime::of(&child);
    std::thread::sleep(Duration::from_secs(seconds()));
    say("show port stats all");
    let share = time.share();
    say("stop");
    say("quit");
    let mut output = String::new();
    child
        .stdout
        .take()
        .expect("stdout is a pipe")
        .read_to_string(&mut output)
        .expect("testpmd prints text");
    child.wait().expect("testpmd ends");
    sent_a_second(&output) / share
}

/// Million packets that testpmd sent in a second between the two looks at all ports' statistics that are in its output.
pub(crate) fn sent_a_second(output: &str) -> f64 {
    // of each port's two figures the second counts
    let rates: Vec<f64> = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Tx-pps:")?.split_whitespace().next()?.parse().ok())
        .collect();
    rates[rates.len() / 2..].iter().sum::<f64>() / 1e6
}

/// What a run of tapline did in its steady part, in a second of its worker's time.
pub(crate) struct Rates {
    /// Million packets received.
    pub packets: f64,
    /// Million copies sent.
    pub copies: f64,
}

/// Runs a pipeline on one worker lcore and takes the rates between the first and the last regular line of its statistics.
pub(crate) fn tapline(pipeline: &str) -> Rates {
    let dir = std::env::temp_dir().join(format!("tapline-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary folder can be made");
    let (file, stats): (PathBuf, PathBuf) = (dir.join("bench.pipe"), dir.join("stats.json"));
    std::fs::write(&file, pipeline).expect("the pipeline file can be written");
    let child = Command::new(env!("CARGO_BIN_EXE_tapline"))
        .args(["run".as_ref(), file.as_os_str(), "--stats".as_ref(), stats.as_os_str()])
        .args(["--interval", "500ms", "--duration", &format!("{}ms", (seconds() + 1) * 1000 + 300)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tapline can be started");
    std::thread::sleep(Duration::from_secs(1));
    let time = WorkerTime::of(&child);
    std::thread::sleep(Duration::from_secs(seconds()));
    let share = time.share();
    let output = child.wait_with_output().expect("tapline ends");
    assert!(output.status.success(), "tapline failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&stats).expect("statistics were written");
    std::fs::remove_dir_all(&dir).expect("the temporary folder can be removed");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    // the first second is warm-up; the last line is from the end, after the drain
    let (first, last) = (&lines[1], &lines[lines.len() - 2]);
    let rate = |path: &str| {
        let difference = last.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(0.0)
            - first.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        difference
            / (last["uptime_s"].as_f64().unwrap_or(0.0) - first["uptime_s"].as_f64().unwrap_or(0.0))
            / 1e6
            / share
    };
    assert_eq!(lines[lines.len() - 1]["balanced"], true, "the account balances");
    Rates { packets: rate("/packets/received"), copies: rate("/copies/sent") }
}
