//! Reads, streams, limits and the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PIPELINE, Served, last_line};
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::programs::has_program;

#[test]
fn every_route_answers_what_it_says() {
    let served = Served::start(PIPELINE, &[]);
    let api: Value = served.json(&[], "/api/v1/openapi.json");
    for (path, methods) in api["paths"].as_object().expect("paths") {
        if methods.get("get").is_some() && path != "/api/v1/stream" {
            assert_eq!(served.status(&[], path), 200, "{path}");
            assert_eq!(served.status(&["-I"], path), 200, "HEAD {path}");
        }
        if methods.get("post").is_some() {
            assert_eq!(
                served.status(&["-X", "POST", "-d", "{}"], path),
                403,
                "POST {path} without an origin"
            );
        }
    }
    // all parts are those of the statistics of the same number
    let stats = served.json(&[], "/api/v1/stats");
    assert_eq!(
        (stats["schema"].as_str(), stats["broker"].as_str()),
        (Some("tapline.stats/1"), Some("test"))
    );
    for part in ["ports", "tools", "groups", "wires", "lcores"] {
        let answer = served.json(&[], &format!("/api/v1/{part}"));
        let keys =
            |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&answer[part]), keys(&stats[part]), "{part}");
        assert!(answer["seq"].as_u64() >= stats["seq"].as_u64(), "{part}");
    }
    // statistics are published once a second
    let matched = || served.json(&[], "/api/v1/rules?sort=matched&limit=1");
    let mut rules = matched();
    for _ in 0..300 {
        if rules["rules"]["10"]["matched"].as_u64() > Some(0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        rules = matched();
    }
    assert_eq!(
        (&rules["total"], rules["rules"].as_object().map(serde_json::Map::len)),
        (&json!(2), Some(1))
    );
    assert!(rules["rules"]["10"]["matched"].as_u64() > Some(0), "{rules}");
    assert_eq!(served.json(&[], "/api/v1/rules?find=2")["found"], json!(1));
    let plan = served.json(&[], "/api/v1/plan");
    assert!(plan["text"].as_str().is_some_and(|text| text.contains("rule create 20")), "{plan}");
    assert_eq!(plan["confirm"], Value::Null);
    let graph = served.json(&[], "/api/v1/graph");
    assert_eq!((graph["schema"].as_str(), &graph["sha256"]), (Some("tapline.graph/1"), &plan["sha256"]));
    assert!(served.curl(&[], "/api/v1/graph?format=svg").starts_with("<svg"));
    let me = served.json(&[], "/api/v1/me");
    assert_eq!((me["role"].as_str(), &me["is_anonymous"]), (Some("viewer"), &json!(true)));
    let events = served.json(&[], "/api/v1/events?since=1");
    assert!(events["events"].as_array().is_some_and(|events| events[0]["seq"] == 2), "{events}");
    for (path, status) in [
        ("/api/v1/nothing", 404),
        ("/nothing", 404),
        ("/api/v1/rules?limit=-1", 400),
        ("/api/v1/rules?x=1", 400),
        ("/api/v1/history?span=1y", 400),
        ("/api/v1/events?since=x", 400),
        ("/api/v1/graph?format=png", 400),
        ("/api/v1/rules?limit=10001", 400),
        ("/sign-in?code=x", 401),
        ("/api/v1/run", 405),
        ("/sign-in/../metrics", 200),
    ] {
        assert_eq!(served.status(&[], path), status, "{path}");
    }
    assert_eq!(served.status(&["-X", "PUT"], "/api/v1/stats"), 403);
    let token = served.ctl(&["token", "create", "t", "viewer"]);
    let bearer = format!("Authorization: Bearer {}", token.lines().next().expect("a token"));
    assert_eq!(served.status(&["-X", "PUT", "-H", &bearer], "/api/v1/stats"), 405);
    served.end();
}

/// The entries without what is of the interval before each snapshot.
fn without_rates(part: &Value) -> Value {
    let mut part = part.clone();
    for entry in part.as_object_mut().into_iter().flat_map(|entries| entries.values_mut()) {
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("recent");
        }
    }
    part
}

#[test]
fn what_is_read_at_rest_is_what_the_socket_says() {
    let served = Served::start(PIPELINE, &[]);
    served.ctl(&["stop"]);
    let of_socket: Value = serde_json::from_str(&served.ctl(&["get", "stats"])).expect("JSON");
    let begun = Instant::now();
    loop {
        let stats = served.json(&[], "/api/v1/stats");
        if stats["seq"].as_u64() > of_socket["seq"].as_u64() {
            for part in ["packets", "copies", "rules", "groups", "balanced"] {
                assert_eq!(without_rates(&stats[part]), without_rates(&of_socket[part]), "{part}");
            }
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it publishes nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    // a change is seen before it is answered
    for rule in 0..20 {
        let on = if rule % 2 == 0 { "disable" } else { "enable" };
        served.ctl(&["rule", on, "20"]);
        let stats = served.json(&[], "/api/v1/stats");
        assert_eq!(stats["rules"]["20"]["on"], json!(rule % 2 == 1), "after change {rule}");
    }
    served.ctl(&["start"]);
    served.end();
}

#[test]
fn streams_tell_statistics_and_events_and_go_on_where_they_were() {
    if !has_program("python3") {
        return tapline_skip::skipped("no python3");
    }
    let served = Served::start(PIPELINE, &[]);
    served.python("python3", "stream.py", &["control.sock"]);
    served.end();
}

#[test]
fn the_history_follows_the_counters() {
    let served = Served::start(PIPELINE, &[]);
    std::thread::sleep(Duration::from_millis(4200));
    served.ctl(&["stop"]);
    let begun = Instant::now();
    loop {
        let history = served.json(&[], "/api/v1/history?span=15m");
        let received = history["ports"]["in"]["received"].as_array().expect("a list");
        assert_eq!(history["count"], json!(received.len()));
        let values: Vec<f64> = received.iter().filter_map(Value::as_f64).collect();
        assert!(values.len() >= 3 && values.iter().all(|&rate| rate >= 0.0), "{history}");
        assert!(values.iter().any(|&rate| rate > 0.0), "{history}");
        if values.last() == Some(&0.0) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it rests: {values:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let day = served.json(&[], "/api/v1/history?span=24h");
    assert_eq!((&day["step"], day["totals"].is_object()), (&json!(60), true));
    served.ctl(&["start"]);
    served.end();
}

#[test]
fn headers_and_hosts_that_are_not_right_are_refused() {
    let served = Served::start(PIPELINE, &[]);
    let port = served.port().to_owned();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("169.254.169.254", 421),
        ("0.0.0.0", 421),
    ] {
        for suffix in [String::new(), format!(":{port}")] {
            let header = format!("Host: {host}{suffix}");
            assert_eq!(served.status(&["-H", &header], "/api/v1/stats"), status, "{header}");
            assert_eq!(served.status(&["-H", &header], "/metrics"), status, "{header}");
            assert_eq!(served.status(&["-H", &header], "/"), status, "{header}");
        }
    }
    let headers = served.curl(&["-D", "-", "-o", "/dev/null"], "/");
    for expected in
        ["default-src 'none'", "frame-ancestors 'none'", "x-content-type-options: nosniff", "etag: \""]
    {
        assert!(headers.contains(expected), "{expected} is missing:\n{headers}");
    }
    assert!(!headers.to_ascii_lowercase().contains("access-control"), "{headers}");
    let tag = headers.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").trim();
    assert_eq!(served.status(&["-H", &format!("If-None-Match: {tag}")], "/"), 304);
    served.end();
}

/// Whatever clients do, packets go on, others are answered, and the end comes within a second.
#[test]
fn clients_that_are_slow_many_or_wild_keep_nobody_waiting() {
    let served = Served::start(PIPELINE, &[]);
    let address = format!("127.0.0.1:{}", served.port());
    let connect = || TcpStream::connect(&address).expect("it listens");
    // a header without end
    let mut giant = connect();
    giant.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").expect("it reads");
    let chunk = vec![b'x'; 1 << 16];
    let refused = (0..64).find_map(|_| giant.write_all(&chunk).err().map(drop));
    let mut answer = Vec::new();
    let _ = giant.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(refused.is_some() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    // a body without end
    let token = served.ctl(&["token", "create", "t", "admin"]);
    let bearer = format!("Authorization: Bearer {}", token.lines().next().expect("a token"));
    served.lab.write("body", vec![b' '; (1 << 20) + 1]);
    let json = "Content-Type: application/json";
    assert_eq!(served.status(&["-H", &bearer, "-H", json, "--data-binary", "@body"], "/api/v1/run"), 413);
    // bytes that are no HTTP
    let mut wild = connect();
    wild.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03{\"jsonrpc\"\r\n\r\n").expect("it reads");
    let _ = wild.read_to_end(&mut Vec::new());
    // streams and connections that say nothing, as many as there may be
    let mut held: Vec<TcpStream> = (0..30).map(|_| connect()).collect();
    for stream in &mut held[..20] {
        stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(served.status(&[], "/metrics"), 200, "two places are left");
    held.extend((0..2).map(|_| connect()));
    std::thread::sleep(Duration::from_millis(100));
    // one that is turned away reads why, or that the connection is closed
    let mut one_more = connect();
    let mut text = String::new();
    let _ = one_more.read_to_string(&mut text);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 503"), "{text}");
    for _ in 0..2000 {
        drop(TcpStream::connect(&address));
    }
    let before = last_line(&served.lab)["packets"]["received"].as_u64();
    let begun = Instant::now();
    while last_line(&served.lab)["packets"]["received"].as_u64() <= before {
        assert!(begun.elapsed() < Duration::from_secs(20), "packets do not go on");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(held);
    served.end();
}

/// Streams are told of the end, and end as streams do.
#[test]
fn streams_end_with_the_broker() {
    let mut served = Served::start(PIPELINE, &[]);
    let mut streams: Vec<_> = (0..24)
        .map(|_| {
            let url = format!("{}/api/v1/stream", served.url);
            Command::new("curl").args(["-sN", &url]).stdout(Stdio::piped()).spawn().expect("curl(1)")
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(served.status(&[], "/api/v1/stream"), 503, "one more stream than there may be");
    assert_eq!(served.status(&[], "/healthz"), 200);
    let started = served.started.take().expect("it runs");
    started.signal("TERM");
    for stream in &mut streams {
        assert!(stream.wait().expect("it ends").success(), "the end of a stream is an end, no error");
        let mut text = String::new();
        stream.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
        assert!(
            text.ends_with("event: end\ndata: {}\n\n"),
            "...{}",
            &text[text.len().saturating_sub(200)..]
        );
    }
    served.lab.end(started).done();
}

#[test]
fn beyond_loopback_there_is_no_plain_http() {
    let lab = Lab::new();
    lab.write("test.pipe", PIPELINE);
    for command in [
        &["run", "test.pipe", "--eal", EAL, "--listen", "0.0.0.0:0"][..],
        &["check", "test.pipe", "--listen", "0.0.0.0:0"],
    ] {
        let output = lab.tapline(command).output().expect("tapline");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("--listen 0.0.0.0:0: this is no loopback address")
                && text.contains("set tls cert FILE key FILE"),
            "{text}"
        );
    }
    // an address that another program has
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let output =
        lab.tapline(&["run", "test.pipe", "--eal", EAL, "--listen", &address]).output().expect("tapline");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"));
}

#[test]
fn the_thread_runs_where_no_worker_does() {
    let served = Served::start(PIPELINE, &[]);
    let shown = served.ctl(&["show", "lcores"]);
    let worker = served.json(&[], "/api/v1/lcores");
    let workers: Vec<String> = worker["lcores"].as_object().expect("lcores").keys().cloned().collect();
    let pid = served.started.as_ref().expect("it runs").child.id();
    let mut found = false;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let path = task.expect("a thread").path();
        let text = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        if text("comm").trim() != "http" {
            continue;
        }
        found = true;
        let status = text("status");
        let cpus =
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
        // the 41st field of stat is the policy: 5 is SCHED_IDLE
        let policy =
            text("stat").rsplit_once(") ").and_then(|(_, rest)| Some(rest.split(' ').nth(38)?.to_owned()));
        if shown.contains("at SCHED_IDLE") {
            assert_eq!(policy.as_deref(), Some("5"));
        } else {
            assert_eq!(policy.as_deref(), Some("0"));
            assert!(
                workers.iter().all(|worker| !cpus.split(',').any(|cpu| cpu == worker)),
                "{cpus}: {workers:?}"
            );
        }
        assert!(shown.contains("http: CPUs "), "{shown}");
    }
    assert!(found, "there is no thread of that name");
    served.end();
}
