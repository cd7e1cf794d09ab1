//! The control socket, by clients that are not Tapline's: plain sockets of Python and of this test, jq.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::connected;
use serde_json::{Value, json};
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::programs::has_program;

const PIPELINE: &str =
    "set idle sleep\nport attach in net_null0\ntool create t discard\nrule create 10 from in to t\nstart\n";

fn start(lab: &Lab) -> Started {
    lab.write("test.pipe", PIPELINE);
    lab.serve("test.pipe", EAL, &[])
}

fn connect(lab: &Lab) -> UnixStream {
    let stream = connected(lab);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream
}

fn ask(stream: &mut BufReader<UnixStream>, request: &Value) -> Value {
    writeln!(stream.get_mut(), "{request}").expect("a broker that reads");
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn text_and_json_are_answered_on_one_connection_in_their_order() {
    let lab = Lab::new();
    let started = start(&lab);
    // a client that says all it has to say and shuts its side, as `printf | socat` does
    let script = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b'{"jsonrpc":"2.0","id":"a","method":"hello"}\nshow rules\nrule destroy 99\nnonsense\n{"jsonrpc":"2.0","id":2,"method":"get","params":{"what":"stats"}}\n{"jsonrpc":"2.0","id":3,"method":"nothing"}\n')
s.shutdown(socket.SHUT_WR)
sys.stdout.write(s.makefile().read())
"#;
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(lab.path("control.sock"))
        .output()
        .expect("python3");
    let text = String::from_utf8(output.stdout).expect("text");
    let objects: Vec<Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(objects[0]["result"]["role"], "admin");
    assert_eq!(objects[0]["result"]["protocol"], 1);
    assert_eq!(objects[0]["result"]["broker"], "test");
    assert_eq!((&objects[1]["id"], &objects[1]["result"]["broker"]), (&json!(2), &json!("test")));
    assert_eq!(objects[2]["error"]["code"], -32601);
    let statuses: Vec<&str> = text.lines().filter(|line| line.starts_with("= ")).collect();
    assert_eq!(statuses, ["= 0", "= 2", "= 2"], "{text}");
    assert!(text.contains("matched") && text.contains("error: unknown rule `99`"), "{text}");
    // jq reads every line of JSON
    if has_program("jq") {
        let mut jq = Command::new("jq");
        let jq = jq.args(["-e", ".jsonrpc"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut jq = jq.expect("a program that is there");
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        jq.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("a reader");
        assert!(jq.wait().expect("a child").success());
    }
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn a_client_that_stands_still_keeps_no_other_waiting_and_too_many_are_turned_away() {
    let lab = Lab::new();
    let started = start(&lab);
    // asks without end, and reads nothing
    let mut still = connect(&lab);
    still.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let many = "show stats\n".repeat(60_000);
    let written = still.write_all(many.as_bytes());
    assert!(written.is_err(), "its requests wait in its own socket");
    let mut other = BufReader::new(connect(&lab));
    let hello = ask(&mut other, &json!({ "jsonrpc": "2.0", "id": 1, "method": "hello" }));
    assert_eq!(hello["result"]["schema"], "tapline.hello/1");
    // a line without an end is refused, and its connection ends
    let mut long = connect(&lab);
    long.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket");
    let _ = long.write_all(&vec![b'x'; 2 << 20]);
    let mut answer = String::new();
    let _ = long.read_to_string(&mut answer);
    // what it had not been asked to send may end its connection before it has read the answer
    assert!(answer.is_empty() || answer.contains("longer than 1048576 bytes"), "{answer}");
    // 64 may be connected
    let mut clients: Vec<BufReader<UnixStream>> = Vec::new();
    let turned_away = loop {
        let mut client = BufReader::new(connect(&lab));
        let _ = writeln!(client.get_mut(), "show rules");
        let mut line = String::new();
        client.read_line(&mut line).expect("an answer");
        if line.starts_with('{') {
            break line;
        }
        clients.push(client);
        assert!(clients.len() < 70);
    };
    let turned_away: Value = serde_json::from_str(&turned_away).expect("JSON");
    assert_eq!(
        (&turned_away["id"], &turned_away["error"]["code"], &turned_away["error"]["data"]["kind"]),
        (&Value::Null, &json!(-32006), &json!("busy"))
    );
    let message = turned_away["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("64 clients are connected already"), "{turned_away}");
    drop(clients);
    // read your own writes, on any connection
    let mut writer = BufReader::new(connect(&lab));
    for rule in 100..120 {
        let line = format!("rule create {rule} from in to t");
        let done = ask(
            &mut writer,
            &json!({ "jsonrpc": "2.0", "id": rule, "method": "run", "params": { "line": line } }),
        );
        assert_eq!(done["result"]["status"], 0, "{done}");
        let rules = ask(
            &mut other,
            &json!({ "jsonrpc": "2.0", "id": 2, "method": "get", "params": { "what": "rules" } }),
        );
        assert!(rules["result"][rule.to_string()].is_object(), "{rule}");
    }
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn subscribers_are_told_and_a_second_broker_is_refused() {
    let lab = Lab::new();
    let started = start(&lab);
    let mut subscriber = BufReader::new(connect(&lab));
    let since = ask(
        &mut subscriber,
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": { "to": "events" } }),
    );
    assert!(since["result"]["since"].is_u64(), "{since}");
    let mut other = BufReader::new(connect(&lab));
    ask(
        &mut other,
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "run", "params": { "line": "tool drain t" } }),
    );
    let mut told = String::new();
    subscriber.read_line(&mut told).expect("an event");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["method"], &told["params"]["kind"], &told["params"]["broker"]),
        (&json!("event"), &json!("tool_changed"), &json!("test"))
    );
    let stats = ask(
        &mut other,
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": { "to": "stats", "interval": 0.05 } }),
    );
    assert_eq!(stats["result"]["subscribed"], "stats");
    let mut last = 0;
    for _ in 0..3 {
        let mut line = String::new();
        other.read_line(&mut line).expect("statistics");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let seq = line["params"]["seq"].as_u64().expect("a number");
        assert!(seq > last && line["params"]["schema"] == "tapline.stats/1");
        last = seq;
    }
    let second = lab
        .tapline(&["run", "test.pipe", "--eal", EAL, "--control", "control.sock"])
        .output()
        .expect("tapline runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("error: --control control.sock: another Tapline listens here"), "{said}");
    // one that was killed leaves its socket; the next one takes its place
    started.signal("KILL");
    let _ = lab.end(started);
    assert!(lab.path("control.sock").exists());
    let started = start(&lab);
    let hello =
        ask(&mut BufReader::new(connect(&lab)), &json!({ "jsonrpc": "2.0", "id": 1, "method": "hello" }));
    assert_eq!(hello["result"]["broker"], "test");
    started.signal("TERM");
    lab.end(started).done();
    assert!(!lab.path("control.sock").exists());
}

/// Lines of text and of JSON, as scripts say them.
const SAID: &str = "show rules\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"get\",\"params\":{\"what\":\"plan\"}}\n\
                    rule destroy 99\n{\"jsonrpc\":\"2.0\",\"id\":\"b\",\"method\":\"nothing\"}\nexit\n";

/// Judges what a client got for [`SAID`].
fn assert_answered(client: &str, got: &str) {
    let (objects, text): (Vec<&str>, Vec<&str>) = got.lines().partition(|line| line.starts_with('{'));
    let objects: Vec<Value> =
        objects.iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(objects.len(), 2, "{client}: {got}");
    let rule = objects[0]["result"]["text"].as_str().unwrap_or_default();
    assert!(objects[0]["id"] == 1 && rule.contains("rule create 10 from in to t\n"), "{client}: {got}");
    assert_eq!(
        (&objects[1]["id"], &objects[1]["error"]["code"]),
        (&json!("b"), &json!(-32601)),
        "{client}"
    );
    let statuses: Vec<&&str> = text.iter().filter(|line| line.starts_with("= ")).collect();
    assert_eq!(statuses, [&"= 0", &"= 2", &"= 0"], "{client}: {got}");
    assert!(got.contains("error: unknown rule `99`"), "{client}: {got}");
}

/// `socat`, as the documentation has it, and Node's plain socket.
#[test]
fn socat_and_node_are_answered_in_text_and_in_json() {
    let lab = Lab::new();
    let started = start(&lab);
    lab.write("said", SAID);
    let run = |program: &str, arguments: &[&str]| {
        if !has_program(program) {
            tapline_skip::skipped(format!("{program} is missing"));
            return;
        }
        let said = std::fs::File::open(lab.path("said")).expect("a file");
        let output = Command::new(program).current_dir(lab.path("")).args(arguments).stdin(said).output();
        let output = output.expect("a program that is there");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        assert_answered(program, &String::from_utf8_lossy(&output.stdout));
    };
    run("socat", &["-t60", "-", "UNIX-CONNECT:control.sock"]);
    // the broker ends the connection after `exit`, in the middle of what the client may still say
    let script = "const s=require('net').connect('control.sock');
s.setEncoding('utf8');s.on('data',(text)=>process.stdout.write(text));
process.stdin.on('data',(lines)=>s.write(lines));
s.on('error',(error)=>{console.error(error);process.exit(1)});s.on('close',()=>process.exit(0));";
    run("node", &["-e", script]);
    started.signal("TERM");
    lab.end(started).done();
}
