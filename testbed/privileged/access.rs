//! Users and groups at the control socket, each command by each role; an audit log on a full disk. Users, groups and the small file
//! system are made in a mount namespace of the broker's own.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};
use tapline_api::words::{Get, Role, Vocabulary};
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, Started};
use tapline_harness::programs::has_program;

const PIPELINE: &str =
    "set idle sleep\nport attach in net_null0\ntool create t discard\nrule create 10 from in to t\n";

/// Sends each line of standard input, and writes the answers; what was subscribed to may come in between.
const CLIENT: &str = "import json,socket,sys
s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);f=s.makefile('rw')
for line in sys.stdin:
 f.write(line);f.flush();answer=f.readline()
 while 'id' not in json.loads(answer):answer=f.readline()
 print(answer,end='',flush=True)";

/// Starts a broker in a mount namespace, after `set_up`, a part of a shell script. `None` says why it is skipped.
fn start(lab: &Lab, set_up: &str, commands: &str) -> Option<Started> {
    start_with(lab, set_up, commands, "")
}

/// As [`start`], with more flags.
fn start_with(lab: &Lab, set_up: &str, commands: &str, flags: &str) -> Option<Started> {
    if !["setpriv", "unshare"].into_iter().all(has_program)
        // one that every user may run, wherever the first of PATH stands
        || !std::path::Path::new("/usr/bin/python3").exists()
        || !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success())
    {
        tapline_skip::skipped("mount namespaces cannot be made (needs unshare, setpriv and CAP_SYS_ADMIN)");
        return None;
    }
    lab.write("test.pipe", format!("{PIPELINE}{commands}start\n"));
    lab.write("passwd", "root:x:0:0::/:/bin/sh\nanna:x:61004:61000::/:/bin/sh\n");
    lab.write("group", "root:x:0:\nnetops:x:61050:\n");
    let tapline = lab.tapline(&[]).get_program().to_string_lossy().into_owned();
    let script = format!(
        "mount --bind passwd /etc/passwd && mount --bind group /etc/group && {set_up} exec {tapline} run test.pipe --eal '{EAL}' --stats stats.json --interval 50ms --control control.sock {flags}"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(lab.path(""));
    let started = lab.start(&mut command);
    lab.until("packets", |line| number(line, "packets/received") > 0);
    let open = |path: &str, mode| {
        std::fs::set_permissions(lab.path(path), std::fs::Permissions::from_mode(mode))
            .expect("it is ours");
    };
    // the roles are judged, not who may connect
    open("", 0o755);
    open("control.sock", 0o666);
    Some(started)
}

/// Sends requests as a user, and gives the answers.
fn ask(lab: &Lab, ids: [&str; 3], lines: &[String]) -> Vec<Value> {
    let [user, group, groups] = ids;
    lab.write("lines", lines.concat());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", group]);
    match groups {
        "" => command.arg("--clear-groups"),
        _ => command.args(["--groups", groups]),
    };
    let output = command
        .args(["/usr/bin/python3", "-c", CLIENT])
        .arg(lab.path("control.sock"))
        .stdin(std::fs::File::open(lab.path("lines")).expect("a file"))
        .output()
        .expect("setpriv(1)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("an answer in JSON")).collect()
}

fn run(line: &str, is_dry_run: bool) -> String {
    request("run", &json!({ "line": line, "dry_run": is_dry_run }))
}

fn request(method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

/// Returns calls of a method that have no mistake in their words and change nothing, and the role that each needs.
fn calls_of(method: &str) -> Vec<(String, Role)> {
    let as_line = |words: &str| {
        let all = tapline_lang::commands();
        all.iter().find(|command| command.words == words).expect("a command of the language").role
    };
    let calls: Vec<(Value, Role)> = match method {
        "hello" => vec![(json!({}), Role::Viewer)],
        "get" => Get::WORDS.iter().map(|what| (json!({ "what": what }), Role::Viewer)).collect(),
        "subscribe" => {
            ["stats", "events"].map(|to| (json!({ "to": to, "interval": 0.05 }), Role::Viewer)).into()
        }
        "complete" => vec![(json!({ "line": "rule create 5 from " }), Role::Viewer)],
        "run" => vec![
            (json!({ "line": "show rules" }), Role::Viewer),
            (
                json!({ "text": "rule create 20 from in to t\nrule destroy 20\n", "dry_run": true }),
                Role::Operator,
            ),
            // the highest role of all lines counts
            (json!({ "text": "rule destroy 10\ntool destroy t\n", "dry_run": true }), Role::Admin),
        ],
        "reload" => {
            let guarded =
                json!({ "dry_run": true, "confirm": 60, "guard": { "loss": 1 }, "interrupt": true });
            [json!({ "dry_run": true }), guarded].map(|params| (params, as_line("reload"))).into()
        }
        // a link to sign in by has the role of who asks for it
        "web" => vec![(json!({}), Role::Viewer)],
        "confirm" => [json!({}), json!({ "id": 99 })].map(|params| (params, as_line("confirm"))).into(),
        "rollback" => vec![(json!({ "id": 99 }), as_line("rollback"))],
        other => panic!("no call of `{other}`"),
    };
    calls.into_iter().map(|(params, role)| (request(method, &params), role)).collect()
}

const FORBIDDEN: i64 = -32003;

/// A line of each command that has no mistake in its words.
fn example(words: &str) -> &'static str {
    match words {
        "set" => "set burst 16",
        "port attach" => "port attach zz net_null7",
        "port config" => "port config in mtu 1400",
        "port detach" => "port detach in",
        "port start" => "port start in",
        "port stop" => "port stop in",
        "tool create" => "tool create zz discard",
        "tool modify" => "tool modify t queue 64",
        "tool destroy" => "tool destroy t",
        "tool drain" => "tool drain t",
        "tool enable" => "tool enable t",
        "group create" => "group create zz tools t",
        "group modify" => "group modify zz tools t",
        "group destroy" => "group destroy zz",
        "wire create" => "wire create zz ports in,out",
        "wire modify" => "wire modify zz bypass on",
        "wire destroy" => "wire destroy zz",
        "filter create" => "filter create zz \"udp\"",
        "filter modify" => "filter modify zz \"udp\"",
        "filter destroy" => "filter destroy zz",
        "rule create" => "rule create 20 from in to t",
        "rule modify" => "rule modify 10 slice 64",
        "rule enable" => "rule enable 10",
        "rule disable" => "rule disable 10",
        "rule destroy" => "rule destroy 10",
        "access grant" => "access grant viewer user root",
        "access revoke" => "access revoke group netops",
        "let" => "let A 1",
        "include" => "include empty.pipe",
        "start" => "start",
        "stop" => "stop",
        "show" => "show rules",
        "clear" => "clear stats",
        "quit" => "quit",
        "reload" => "reload",
        "confirm" => "confirm",
        "rollback" => "rollback 1",
        "save" => "save saved.pipe",
        "reopen" => "reopen",
        "token" => "token list",
        other => panic!("no example of `{other}`"),
    }
}

#[test]
fn each_command_is_taken_from_the_roles_that_it_says_and_from_no_other() {
    let lab = Lab::new();
    lab.write("empty.pipe", "\n");
    let grants = "access grant operator group netops\naccess grant admin user anna\n";
    // with an HTTP server to sign in to
    let Some(started) = start_with(&lab, "", grants, "--listen 127.0.0.1:0") else { return };
    let all = tapline_lang::commands();
    let lines: Vec<String> = all.iter().map(|command| run(example(&command.words), true)).collect();
    let users = [
        (["61007", "61007", ""], Role::Viewer),
        // by a supplementary group, and by the primary one
        (["61007", "61007", "61050"], Role::Operator),
        (["61007", "61050", ""], Role::Operator),
        (["61004", "61000", ""], Role::Admin),
        (["0", "0", ""], Role::Admin),
    ];
    let ask_root = |method: &str, params: Value| {
        ask(&lab, ["0", "0", ""], &[request(method, &params)])[0]["result"].clone()
    };
    let before = ask_root("get", json!({ "what": "plan" }));
    let hello = ask_root("hello", json!({}));
    let methods: Vec<&str> =
        hello["methods"].as_array().expect("a list").iter().flat_map(Value::as_str).collect();
    assert!(methods.len() >= 8, "{hello}");
    let calls: Vec<(String, Role)> = methods.into_iter().flat_map(calls_of).collect();
    let (requests, needed): (Vec<String>, Vec<Role>) = calls.into_iter().unzip();
    for (ids, role) in users {
        let answers = ask(&lab, ids, &requests);
        assert_eq!(answers.len(), requests.len());
        for ((request, needed), answer) in requests.iter().zip(&needed).zip(&answers) {
            let is_forbidden = answer["error"]["code"].as_i64() == Some(FORBIDDEN);
            assert_eq!(is_forbidden, role < *needed, "{request} by {role}: {answer}");
            // a viewer's calls have no other reason to fail
            assert!(*needed > Role::Viewer || answer["error"].is_null(), "{request} by {role}: {answer}");
        }
        let role_said = &answers[0]["result"]["role"];
        assert_eq!(role_said, &json!(role.to_string()), "the first of all methods is `hello`");
        let answers = ask(&lab, ids, &lines);
        assert_eq!(answers.len(), all.len());
        for (command, answer) in all.iter().zip(&answers) {
            let is_forbidden = answer["error"]["code"].as_i64() == Some(FORBIDDEN);
            assert_eq!(is_forbidden, role < command.role, "{} by {role}: {answer}", command.words);
        }
    }
    assert_eq!(ask_root("get", json!({ "what": "plan" })), before, "nothing of all this changes the plan");
    // what is taken back counts at once, on a connection that is there already
    let operator = ["61007", "61007", "61050"];
    let clear = || run("clear stats", false);
    assert!(ask(&lab, operator, &[clear()])[0]["result"].is_object());
    assert!(
        ask(&lab, ["61004", "61000", ""], &[run("access revoke group netops", false)])[0]["result"]
            .is_object()
    );
    assert_eq!(ask(&lab, operator, &[clear()])[0]["error"]["code"], FORBIDDEN);
    let own = [run("access revoke user anna", false), clear()];
    let answers = ask(&lab, ["61004", "61000", ""], &own);
    assert!(answers[0]["result"].is_object() && answers[1]["error"]["code"] == FORBIDDEN, "{answers:?}");
    // a name that is none of this machine is wrong at its place
    let unknown = &ask(&lab, ["0", "0", ""], &[run("access grant viewer user bert", false)])[0]["error"];
    assert_eq!(unknown["data"]["diagnostics"][0]["column"], 26, "{unknown}");
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn on_a_full_disk_nothing_is_changed_and_packets_go_on() {
    let lab = Lab::new();
    let set_up = "mkdir small && mount -t tmpfs -o size=16k none small &&";
    let Some(started) = start(&lab, set_up, "set audit small/audit.jsonl required\n") else { return };
    let root = ["0", "0", ""];
    let lines: Vec<String> = (0..60).map(|_| run("clear stats", false)).collect();
    let answers = ask(&lab, root, &lines);
    let done = answers.iter().take_while(|answer| answer["result"].is_object()).count();
    assert!((5..60).contains(&done), "{done}");
    for answer in &answers[done..] {
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains("audit log cannot be written") && text.contains("No space left"), "{answer}");
    }
    let before = number(&lab.until("a line", |_| true), "packets/received");
    lab.until("packets", |line| number(line, "packets/received") > before);
    // the file is in the broker's mounts alone
    let pid = started.child.id();
    let log = format!("/proc/{pid}/root{}", lab.path("small/audit.jsonl").display());
    let verified = lab.tapline(&["audit", "verify", &log]).output().expect("tapline");
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    started.signal("TERM");
    lab.end(started).done();
    assert!(lab.printed("stderr").contains("the audit log cannot be written"));
}

/// An admin who neither is root nor runs the broker names files of the pipeline's folder alone, after links, and those that the
/// running plan names.
#[test]
fn callers_from_outside_name_files_of_the_pipelines_folder_alone() {
    let (lab, outside) = (Lab::new(), Lab::new());
    let out = |name: &str| outside.path(name).display().to_string();
    for folder in [&lab, &outside] {
        folder.write("list.txt", "udp\ntcp\n");
        folder.write("other.pipe", format!("{PIPELINE}rule create 12 from in to t\nstart\n"));
    }
    outside.write("secret.txt", "udp\n");
    outside.write("rules.pipe", "rule create 21 from in to t\n");
    std::os::unix::fs::symlink(out("secret.txt"), lab.path("link.txt")).expect("a link");
    std::os::unix::fs::symlink(outside.path(""), lab.path("links")).expect("a link");
    let commands = format!(
        "access grant admin user anna\nrule create 11 from in match file \"{}\" to t\n",
        out("list.txt")
    );
    let Some(started) = start(&lab, "", &commands) else { return };
    let quoted = |line: String| run(&line, false);
    let rule = |list: &str| format!("rule create 20 from in match file \"{list}\" to t");
    let refused = [
        rule(&out("secret.txt")),
        rule("link.txt"),
        rule("links/secret.txt"),
        rule("../secret.txt"),
        rule("/etc/shadow"),
        format!("include {}", out("rules.pipe")),
        "include /etc/shadow".to_owned(),
        format!("tool create c capture {}", out("made.pcapng")),
        "tool create c capture links/made.pcapng".to_owned(),
        format!("port attach p net_pcap0,tx_pcap={}", out("made.pcap")),
        format!("reload {}", out("other.pipe")),
        "reload links/other.pipe dry-run".to_owned(),
        // the capture that a dry run compares packets of
        format!("reload other.pipe dry-run -r {}", out("secret.txt")),
        "reload other.pipe dry-run -r link.txt".to_owned(),
        format!("save {}", out("saved.pipe")),
        "save links/saved.pipe".to_owned(),
        // a file that the plan reads is not written
        "save list.txt".to_owned(),
    ];
    let taken = [
        "rule create 22 from in match file \"list.txt\" to t".to_owned(),
        // the running plan names it
        format!("rule create 30 from in match file \"{}\" to t", out("list.txt")),
        "tool create c capture made.pcapng".to_owned(),
        "save saved.pipe".to_owned(),
        "reload other.pipe".to_owned(),
    ];
    let anna = ["61004", "61000", ""];
    let lines: Vec<String> =
        taken[..1].iter().chain(&refused).chain(&taken[1..]).cloned().map(quoted).collect();
    let answers = ask(&lab, anna, &lines);
    assert_eq!(answers.len(), refused.len() + taken.len());
    for (line, answer) in lines[1..].iter().zip(&answers[1..]).take(refused.len()) {
        let text = answer["error"]["data"]["text"].as_str().unwrap_or_default();
        let is_refused =
            text.contains("is all that this caller may name") || text.contains("reads or writes it");
        assert!(is_refused && !text.contains("root:"), "{line}: {answer}");
    }
    for (line, answer) in
        lines.iter().zip(&answers).skip(1 + refused.len()).chain([(&lines[0], &answers[0])])
    {
        assert!(answer["result"].is_object(), "{line}: {answer}");
    }
    let mut names: Vec<_> = std::fs::read_dir(outside.path(""))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["list.txt", "other.pipe", "rules.pipe", "secret.txt"]);
    assert_eq!(std::fs::read(lab.path("list.txt")).expect("a file"), b"udp\ntcp\n");
    // root names all
    let root = [rule(&out("secret.txt")), format!("save {}", out("saved.pipe"))].map(quoted);
    for answer in ask(&lab, ["0", "0", ""], &root) {
        assert!(answer["result"].is_object(), "{answer}");
    }
    assert!(outside.path("saved.pipe").exists());
    started.signal("TERM");
    lab.end(started).done();
}

/// Fills a file system until it takes not one byte more.
fn fill(file: &std::path::Path) {
    let mut file = std::fs::File::create(file).expect("a file");
    for len in [4096, 1] {
        while file.write_all(&vec![b'x'; len]).is_ok() {}
    }
}

#[test]
fn a_full_folder_of_the_state_is_warned_of_and_promises_nothing() {
    let lab = Lab::new();
    let set_up = "mkdir small && mount -t tmpfs -o size=256k none small &&";
    let Some(started) = start_with(&lab, set_up, "", "--state small/state") else { return };
    // the file system is in the broker's mounts alone
    let small = format!("/proc/{}/root{}", started.child.id(), lab.path("small").display());
    let filler = std::path::Path::new(&small).join("filler");
    let ask_root = |lines: &[String]| ask(&lab, ["0", "0", ""], lines);
    let events = |kind: &str| {
        let answer = ask_root(&[request("get", &json!({ "what": "events" }))]).remove(0);
        let events = answer["result"]["events"].as_array().expect("a list").clone();
        events.into_iter().filter(|event| event["kind"] == kind).count()
    };
    assert_eq!(ask_root(&[run("rule create 20 from in to t", false)])[0]["result"]["remarks"], "");
    let kept = std::fs::read(format!("{small}/state/history.json")).expect("an index");
    fill(&filler);
    lab.write("other.pipe", format!("{PIPELINE}rule create 30 from in to t\nstart\n"));
    let plan = || request("get", &json!({ "what": "plan" }));
    let confirm = || request("reload", &json!({ "file": "other.pipe", "confirm": 600 }));
    let answers = ask_root(&[run("rule create 21 from in to t", false), plan(), confirm(), plan()]);
    let remarks = answers[0]["result"]["remarks"].as_str().unwrap_or_default();
    assert!(remarks.contains("warning: a restart will not know of it: "), "{}", answers[0]);
    assert!(remarks.contains("No space left on device"), "{remarks}");
    let text = answers[2]["error"]["data"]["text"].as_str().unwrap_or_default();
    assert_eq!(answers[2]["error"]["code"], -32002, "{}", answers[2]);
    assert!(text.contains("a restart would not go back to the plan before"), "{text}");
    assert_eq!(answers[1]["result"], answers[3]["result"]);
    assert!(answers[1]["result"]["text"].as_str().is_some_and(|text| text.contains("rule create 21")));
    assert_eq!(
        std::fs::read(format!("{small}/state/history.json")).expect("an index"),
        kept,
        "nothing is torn"
    );
    assert_eq!(events("state_failed"), 1);
    let before = number(&lab.until("a line", |_| true), "packets/received");
    lab.until("packets", |line| number(line, "packets/received") > before);
    // where there is room again, all is kept and promised
    std::fs::remove_file(&filler).expect("the filler");
    let answers = ask_root(&[run("rule create 22 from in to t", false), confirm(), run("rollback", false)]);
    assert_eq!(answers[0]["result"]["remarks"], "", "{}", answers[0]);
    assert!(answers[1]["result"]["confirm"].is_object() && answers[2]["result"].is_object(), "{answers:?}");
    assert_eq!(events("state_resumed"), 1);
    let index: Value =
        serde_json::from_slice(&std::fs::read(format!("{small}/state/history.json")).expect("an index"))
            .expect("JSON");
    let id = ask_root(&[plan()])[0]["result"]["id"].clone();
    assert_eq!((&index["last"], &index["pending"]), (&id, &Value::Null));
    started.signal("TERM");
    lab.end(started).done();
}
