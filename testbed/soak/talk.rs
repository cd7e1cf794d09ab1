//! Twenty programs that talk to a broker at full speed, beside reloads that are confirmed, guarded, rolled back and left alone: each
//! request has its answer, in its order, whatever the others do; the account holds, and memory does not grow.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::spans::{number_of, span};

use crate::load::Random;

/// Programs that are connected at once.
const CLIENTS: u64 = 20;

/// A pipeline whose packets go to x and to y, or to z: in no plan to one of x and y.
fn pipeline(random: &mut Random) -> String {
    let (burst, way) = (random.one(&["32", "64"]), random.one(&["to x,y", "to z"]));
    let mut text = format!(
        "set idle sleep\nset burst {burst}\nport attach in net_null0\nport attach out net_null1 rxq 0\n\
         tool create x discard\ntool create y discard\ntool create z discard\ntool create sent port out\n\
         filter create f \"udp or tcp\"\nrule create 10 from in {way}\nrule create 20 from in match f sample 1/8 to sent\n"
    );
    if random.below(2) == 0 {
        text += "port attach ring net_ring0 txd 64\ntool create there port ring queue 64\nrule create 30 from in sample 1/1000 to there\nrule create 31 from ring to z\n";
    }
    if random.below(2) == 0 {
        text += "tool create a discard\ntool create b discard\ngroup create g tools a,b weights 1,2\nrule create 40 from in sample flow 1/4 to g\n";
    }
    text
}

struct Client {
    stream: BufReader<UnixStream>,
    ids: u64,
}

impl Client {
    fn of(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.set_write_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { stream: BufReader::new(stream), ids: 0 })
    }

    /// Sends requests together, and reads their answers, which come in the order of the requests.
    fn ask(&mut self, requests: &[(&str, Value)]) -> Vec<Value> {
        let first = self.ids;
        let lines: String = requests
            .iter()
            .enumerate()
            .map(|(at, (method, params))| {
                let id = first + at as u64;
                format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            })
            .collect();
        self.ids += requests.len() as u64;
        self.stream.get_mut().write_all(lines.as_bytes()).expect("a broker that reads");
        (first..self.ids)
            .map(|id| {
                let answer = self.answer();
                assert_eq!(answer["id"], id, "{answer}");
                answer
            })
            .collect()
    }

    /// Reads lines up to the next answer: notifications come between.
    fn answer(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("an answer") > 0, "the broker is gone");
            let value: Value = serde_json::from_str(&line).expect("JSON");
            if value.get("id").is_some() {
                return value;
            }
        }
    }

    /// Says a command as text. Returns the status behind the answer.
    fn say(&mut self, command: &str) -> u8 {
        writeln!(self.stream.get_mut(), "{command}").expect("a broker that reads");
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("an answer") > 0, "the broker is gone");
            if let Some(status) = line.strip_prefix("= ") {
                return status.trim().parse().expect("a status");
            }
        }
    }
}

/// What one program does until the end: all that programs do, well and badly.
fn talk(socket: &Path, number: u64, seed: u64, until: Instant, answers: &AtomicU64) {
    let mut random = Random::new(seed + number * 7919);
    let mut client = Client::of(socket).expect("a broker that listens");
    let own = 1000 + number;
    while Instant::now() < until {
        // connections that were given up are answered to their end: there must not be too many
        match random.below(100) {
            0..=29 => {
                let what = ["stats", "ports", "tools", "rules", "lcores", "plan", "events", "commands"];
                let requests: Vec<(&str, Value)> =
                    (0..random.below(20)).map(|_| ("get", json!({ "what": random.one(&what) }))).collect();
                let read = client.ask(&requests);
                for answer in &read {
                    assert!(answer.get("result").is_some(), "{answer}");
                }
                answers.fetch_add(read.len() as u64, Ordering::Relaxed);
            }
            30..=49 => {
                // what a change answers is there at once, unless another took its place meanwhile
                let line = format!("rule create {own} from in sample 1/100 to z");
                let made = client.ask(&[("run", json!({ "line": line }))]);
                let code = made[0]["error"]["code"].as_i64();
                assert!(
                    made[0]["result"]["status"] == 0 || matches!(code, Some(-32001 | -32002 | -32005)),
                    "{made:?}"
                );
                client.say(&format!("rule destroy {own}"));
            }
            50..=64 => {
                let status =
                    client.say(random.one(&["show stats", "show ports", "show history", "show config"]));
                assert_eq!(status, 0);
                assert_eq!(client.say("no such command"), 2);
            }
            65..=79 => {
                let tool = random.one(&["x", "z", "sent", "a"]);
                client.say(&format!("tool {} {tool}", random.one(&["drain", "enable", "enable"])));
                // x and y are told alike
                client.say("tool enable x");
            }
            80..=89 => {
                let subscribe = json!({ "to": random.one(&["stats", "events"]), "interval": 0.02 });
                let answer = client.ask(&[("subscribe", subscribe)]);
                assert!(answer[0]["result"].is_object(), "{answer:?}");
                std::thread::sleep(Duration::from_millis(random.below(300)));
            }
            90..=97 => {
                // goes away in the middle of a line, or with requests under way
                let words = random.one(&[
                    "{\"jsonrpc\":\"2.0\",\"id\":1,\"meth",
                    "show stats\nshow stats\n",
                    "\u{0}\n",
                    "{}\n",
                ]);
                let _ = client.stream.get_mut().write_all(words.as_bytes());
                std::thread::sleep(Duration::from_millis(50));
                client = Client::of(socket).expect("a broker that listens");
            }
            98 => {
                // asks and does not read
                let mut still = Client::of(socket).expect("a broker that listens");
                still
                    .stream
                    .get_mut()
                    .set_write_timeout(Some(Duration::from_millis(50)))
                    .expect("a socket");
                let _ = still.stream.get_mut().write_all("show stats\n".repeat(20_000).as_bytes());
                std::thread::sleep(Duration::from_millis(random.below(100)));
            }
            _ => {
                let mut flood = Client::of(socket).expect("a broker that listens");
                let _ = flood.stream.get_mut().write_all(&vec![b'x'; 1 << 18]);
                let _ = flood.stream.get_mut().write_all(b"\n");
                let mut byte = [0];
                let _ = flood.stream.read(&mut byte);
            }
        }
    }
}

/// Has files take the place of the plan until the end. Returns how many did.
fn reload(lab: &Lab, socket: &Path, seed: u64, until: Instant) -> u64 {
    let mut random = Random::new(seed);
    let mut client = Client::of(socket).expect("a broker that listens");
    let mut done = 0;
    while Instant::now() < until {
        lab.write("next.pipe", pipeline(&mut random));
        let words =
            random.one(&["", "dry-run", "confirm 200ms", "confirm 1h", "confirm 1h guard loss>1000000"]);
        let answer = client.ask(&[("run", json!({ "line": format!("reload next.pipe {words}") }))]);
        let (result, error) = (&answer[0]["result"], &answer[0]["error"]);
        assert!(
            result["schema"] == "tapline.reload/1"
                || matches!(error["code"].as_i64(), Some(-32005 | -32002)),
            "{answer:?}"
        );
        assert!(error.is_object() || result["lost"]["packets"] == 0, "{result}");
        done += u64::from(result["result"] == "done");
        if words.contains("1h") && result.is_object() {
            let line = random.one(&["confirm", "rollback"]);
            let answer = client.ask(&[("run", json!({ "line": line }))]);
            assert!(answer[0]["result"].is_object(), "{line}: {answer:?}");
        }
        std::thread::sleep(Duration::from_millis(random.below(200)));
    }
    done
}

fn memory_kib(started: &Started) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of the kernel's");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn programs_talk_to_a_broker_while_files_take_each_others_place() {
    let length = span("TAPLINE_TALK_SECONDS", 10);
    let seed = number_of("TAPLINE_SOAK_SEED", 20_261_121).max(1);
    println!("{} s with seed {seed}", length.as_secs());
    let lab = Lab::new();
    lab.write("test.pipe", pipeline(&mut Random::new(seed)));
    let eal = EAL.replace("-m 256", "-m 512");
    let flags = ["--eal", &eal, "--stats", "stats.json", "--interval", "1s", "--control", "control.sock"];
    let started = lab.start(&mut lab.tapline(&[&["run", "test.pipe"], flags.as_slice()].concat()));
    lab.until("packets", |line| number(line, "packets/received") > 0);
    let socket: PathBuf = lab.path("control.sock");
    let (begun, answers) = (Instant::now(), AtomicU64::new(0));
    let until = begun + length;
    let (mut early, mut reloads) = (0, 0);
    std::thread::scope(|scope| {
        let reloader = scope.spawn(|| reload(&lab, &socket, seed, until));
        let (socket, answers) = (&socket, &answers);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || talk(socket, number, seed, until, answers)))
            .collect();
        std::thread::sleep(length / 3);
        early = memory_kib(&started);
        for client in clients {
            client.join().expect("a program that got its answers");
        }
        reloads = reloader.join().expect("reloads with their receipts");
    });
    let late = memory_kib(&started);
    println!(
        "{reloads} reloads, {} answers, {early} kB after a third, {late} kB at the end",
        answers.load(Ordering::Relaxed)
    );
    assert!(reloads > 0 && late < early + early / 4 + 32_768, "{early} {late}");
    let mut last = Client::of(&socket).expect("a broker that listens");
    last.say("tool enable x");
    last.ask(&[("run", json!({ "line": "quit" }))]);
    let account = lab.end(started).done();
    println!("{} packets", account.number("packets/received"));
}
