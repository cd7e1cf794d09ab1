//! What a service manager is told, at a datagram socket of the test's own in place of systemd's.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};

/// The datagrams that a broker has sent, in their order.
#[derive(Clone)]
struct Manager(Arc<Mutex<Vec<String>>>);

impl Manager {
    fn listen(socket: UnixDatagram) -> Self {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let theirs = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(len) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..len]).into_owned();
                theirs.lock().expect("a list").push(text);
            }
        });
        Self(told)
    }

    fn at(path: &Path) -> Self {
        Self::listen(UnixDatagram::bind(path).expect("a socket"))
    }

    fn told(&self) -> Vec<String> {
        self.0.lock().expect("a list").clone()
    }

    fn has(&self, line: &str) -> bool {
        self.told().iter().any(|text| text.lines().any(|said| said == line))
    }

    /// Forgets what was told so far.
    fn clear(&self) {
        self.0.lock().expect("a list").clear();
    }

    fn wait(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let told = self.told();
            if holds(&told) {
                return told;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what} is not told: {told:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn uptime(line: &Value) -> f64 {
    line["uptime_s"].as_f64().expect("a time")
}

fn is_status(text: &str, words: &str) -> bool {
    text.lines().any(|line| line.starts_with("STATUS=") && line.contains(words))
}

fn run(lab: &Lab, socket: &str, further: &[(&str, &str)]) -> Started {
    let mut command =
        lab.tapline(&["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"]);
    command.env("NOTIFY_SOCKET", socket).envs(further.iter().copied());
    lab.start(&mut command)
}

/// Reads a pipe until it is told to hold, and further to its end once it is told to go on.
fn read_until_held(fifo: std::path::PathBuf, hold: Receiver<()>, go: Receiver<()>) {
    std::thread::spawn(move || {
        let mut pipe = std::fs::File::open(fifo).expect("the broker writes the pipe");
        let mut buffer = [0; 65_536];
        while hold.try_recv().is_err() {
            if pipe.read(&mut buffer).is_ok_and(|len| len == 0) {
                return;
            }
        }
        let _ = go.recv();
        while pipe.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
}

fn make_fifo(lab: &Lab) -> std::path::PathBuf {
    let fifo = lab.path("out.fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo(1)").success());
    fifo
}

const SLOW: &str = "port attach in net_null0\nport attach slow0 net_pcap0,tx_pcap=out.fifo rxq 0\n\
                    tool create slow port slow0\nrule create 10 from in sample 1/997 to slow\n";

#[test]
fn ready_comes_once_the_ports_run_and_then_how_the_run_is_until_it_stops() {
    let lab = Lab::new();
    let fifo = make_fifo(&lab);
    lab.write(
        "test.pipe",
        format!(
            "{SLOW}port attach file0 net_pcap1,tx_pcap=out.pcap rxq 0\ntool create kept port file0\n\
             rule create 20 from in sample 1/9973 to kept\n"
        ),
    );
    let name = format!("tapline-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::listen(UnixDatagram::bind_addr(&address).expect("a socket"));
    let started = run(&lab, &format!("@{name}"), &[]);
    manager.wait("a start that may take longer", |told| {
        told.iter().any(|text| text == "EXTEND_TIMEOUT_USEC=300000000")
    });
    // the driver of `slow0` waits for a reader
    assert!(!manager.has("READY=1"));
    let ((_hold, held), (_go, gone)) = (channel(), channel());
    read_until_held(fifo, held, gone);
    let told =
        manager.wait("that the run is ready", |told| told.iter().any(|text| text.contains("READY=1")));
    let ready = told.iter().filter(|text| text.contains("READY=1")).collect::<Vec<_>>();
    assert_eq!(ready.len(), 1);
    assert!(is_status(ready[0], "packets received") && !is_status(ready[0], "tools down"), "{ready:?}");
    lab.until("packets", |line| number(line, "tools/kept/sent") > 0);
    std::fs::remove_file(lab.path("out.pcap")).expect("a file");
    manager.wait("that a tool is down", |told| told.iter().any(|text| is_status(text, "tools down: kept")));
    assert!(!manager.told().iter().any(|text| text.contains("WATCHDOG=1")), "nobody asked for it");
    started.signal("TERM");
    manager.wait("that it stops", |told| {
        told.last()
            .is_some_and(|text| text.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS="))
    });
    // a file that was removed is a failure
    lab.end(started).scripted(1);
}

#[test]
fn the_watchdog_is_fed_while_every_worker_has_turns_and_not_while_one_is_held() {
    let lab = Lab::new();
    let fifo = make_fifo(&lab);
    lab.write("test.pipe", format!("set idle sleep\n{SLOW}"));
    let manager = Manager::at(&lab.path("notify"));
    let ((hold, held), (go, gone)) = (channel(), channel());
    read_until_held(fifo, held, gone);
    let started = run(&lab, "notify", &[("WATCHDOG_USEC", "100000")]);
    let fed = |told: &[String]| told.iter().filter(|text| *text == "WATCHDOG=1").count();
    manager.wait("that it is alive", |told| fed(told) >= 5);
    hold.send(()).expect("a reader");
    let stalled = |is: bool| {
        move |line: &Value| {
            line["lcores"]
                .as_object()
                .is_some_and(|lcores| lcores.values().any(|lcore| lcore["is_stalled"] == true) == is)
        }
    };
    let begun = uptime(&lab.until("the worker hangs", stalled(true)));
    manager.clear();
    lab.until("the main thread goes on for twenty times that long", |line| uptime(line) >= begun + 2.0);
    let told = manager.told();
    assert_eq!(fed(&told), 0, "{told:?}");
    go.send(()).expect("a reader");
    manager.wait("that it is alive again", |told| fed(told) >= 5);
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn a_manager_that_reads_nothing_holds_up_nothing() {
    let lab = Lab::new();
    lab.write(
        "test.pipe",
        "port attach in net_null0\ntool create t discard\nrule create 10 from in to t\n",
    );
    let socket = UnixDatagram::bind(lab.path("notify")).expect("a socket");
    let started = run(&lab, "notify", &[("WATCHDOG_USEC", "10000")]);
    // its socket holds ten datagrams or some more (net.unix.max_dgram_qlen)
    let first = uptime(&lab.until("packets", |line| number(line, "packets/received") > 0));
    lab.until("it goes on", |line| uptime(line) > first + 2.0);
    started.signal("TERM");
    lab.end(started).done();
    drop(socket);
}

#[test]
fn sighup_reloads_and_both_ends_of_it_are_told() {
    let lab = Lab::new();
    let pipeline = "port attach in net_null0\ntool create t discard\nrule create 10 from in to t\n";
    lab.write("test.pipe", pipeline);
    let manager = Manager::at(&lab.path("notify"));
    let started = run(&lab, "notify", &[]);
    manager.wait("that the run is ready", |told| told.iter().any(|text| text.contains("READY=1")));
    for (further, is_refused) in
        [("port attach more net_null1\nwrong\n", true), ("port attach more net_null1\n", false)]
    {
        manager.clear();
        lab.write("test.pipe", format!("{pipeline}{further}"));
        started.signal("HUP");
        let told =
            manager.wait("the end of the reload", |told| told.iter().any(|text| text.contains("READY=1")));
        let reload: Vec<&String> = told.iter().filter(|text| !text.starts_with("STATUS=")).collect();
        assert_eq!(reload.len(), 2, "{told:?}");
        let (begin, time) =
            reload[0].split_once('=').and_then(|_| reload[0].split_once('\n')).expect("lines");
        assert_eq!(begin, "RELOADING=1");
        let time = time.strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse::<f64>().ok());
        let now = std::fs::read_to_string("/proc/uptime").expect("/proc");
        let now: f64 = now.split(' ').next().and_then(|now| now.parse().ok()).expect("seconds");
        // suspended machines have a later uptime
        assert!(time.is_some_and(|time| time > 0.0 && time / 1e6 <= now + 1.0), "{reload:?}, {now}");
        assert!(reload[1].starts_with("READY=1\n"));
        assert_eq!(is_status(reload[1], "the last reload was refused"), is_refused, "{reload:?}");
        // standard error has a thread of its own
        let begun = Instant::now();
        while !lab.printed("stderr").contains("test.pipe:5:1: error: unknown command `wrong`") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", lab.printed("stderr"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    lab.until("the new port is there", |line| line["ports"]["more"].is_object());
    started.signal("TERM");
    lab.end(started).done();
}
