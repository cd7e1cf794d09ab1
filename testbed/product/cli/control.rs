//! How a run is watched and ended: signals, times, statistics, the prompt, an ordinary user.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tapline_harness::judges::{assert_balanced, number};
use tapline_harness::lab::{Account, EAL, Lab, Started, json_lines, office, pcap_tools};
use tapline_harness::pcap_files::packets;
use tapline_harness::programs::{has_program, tapline};

const PIPELINE: &str =
    "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\nrule create 1 from in to t\n";
const ENDLESS: &str = "set idle sleep\nport attach in net_null0\nport attach out net_null1 rxq 0\n\
                       tool create t port out\nrule create 1 from in to t\n";

/// Waits until the run has written a line of statistics with packets in it.
fn wait_for_packets(lab: &Lab, started: &mut Started) {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(lab.path("stats.json")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if json_lines(whole).last().is_some_and(|line| number(line, "packets/received") > 0) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no packets; it printed:\n{}",
            lab.printed("stderr")
        );
        assert!(
            started.child.try_wait().expect("a child").is_none(),
            "it ended:\n{}",
            lab.printed("stderr")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn endless(lab: &Lab) -> Started {
    lab.write("test.pipe", ENDLESS);
    lab.start(&mut lab.tapline(&[
        "run",
        "test.pipe",
        "--eal",
        EAL,
        "--stats",
        "stats.json",
        "--interval",
        "50ms",
    ]))
}

#[test]
fn signals_drain_and_report() {
    for signal in ["INT", "TERM"] {
        let lab = Lab::new();
        let mut started = endless(&lab);
        wait_for_packets(&lab, &mut started);
        started.signal(signal);
        let account: Account = lab.end(started).done();
        assert!(account.number("tools/t/sent") > 0, "{signal}");
        assert!(
            account.stdout.contains("balanced: every packet and every copy is accounted for"),
            "{signal}: {}",
            account.stdout
        );
    }
}

/// A rule whose filter takes libpcap minutes.
pub(super) fn slow_rule() -> String {
    let parts: Vec<String> =
        (0..1000).map(|index| format!("not host 10.0.{}.{}", index / 256, index % 256)).collect();
    format!("rule create 2 from in match \"{}\" to t", parts.join(" and "))
}

/// Waits until it says that its plan takes long.
pub(super) fn wait_for_planning(lab: &Lab) {
    let begun = Instant::now();
    while !lab.printed("stderr").contains("planning: libpcap compiles the filters") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not say that it plans but\n{}",
            lab.printed("stderr")
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_plan_that_takes_long_says_so_and_a_signal_gives_it_up() {
    for (command, signal) in [("check", "INT"), ("check", "TERM"), ("run", "TERM")] {
        let lab = Lab::new();
        lab.write("test.pipe", format!("{ENDLESS}{}\n", slow_rule()));
        let started = lab.start(&mut lab.tapline(&[command, "test.pipe"]));
        wait_for_planning(&lab);
        started.signal(signal);
        let said = lab.end(started).failed(1);
        assert!(
            said.contains("planning was given up for a signal; nothing was started"),
            "{command} at {signal}: {said}"
        );
    }
}

#[test]
fn a_change_that_takes_long_is_given_up_at_the_prompt_and_the_broker_goes_on() {
    let slow = slow_rule();
    let lab = Lab::new();
    let account = interact(
        &lab,
        &format!("{ENDLESS}start\n"),
        &[
            ("show plan", "rule 1 from in"),
            (&slow, "planning: libpcap compiles the filters"),
            ("cancel", "the change was given up; the plan stays as it is"),
            ("rule create 3 from in match \"udp\" to t", "plan changed: 2 rules"),
            ("quit", ""),
        ],
    );
    assert!(account.number("tools/t/sent") > 0);
    // before the start, too
    let lab = Lab::new();
    let account = interact(
        &lab,
        ENDLESS,
        &[
            (&slow, "planning: libpcap compiles the filters"),
            ("cancel", "the change was given up; the plan stays as it is"),
            ("start", ""),
            ("show plan", "rule 1 from in"),
            ("quit", ""),
        ],
    );
    assert!(!account.stdout.contains("rule 2"), "{}", account.stdout);
}

#[test]
fn a_signal_ends_a_run_that_plans_a_change() {
    let lab = Lab::new();
    lab.write("test.pipe", format!("{ENDLESS}start\n"));
    let mut command = lab.tapline(&[
        "run",
        "test.pipe",
        "-i",
        "--eal",
        EAL,
        "--stats",
        "stats.json",
        "--interval",
        "50ms",
    ]);
    let mut started = lab.start(command.stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    wait_for_packets(&lab, &mut started);
    writeln!(input, "{}", slow_rule()).expect("an open pipe");
    wait_for_planning(&lab);
    started.signal("TERM");
    assert!(lab.end(started).done().number("tools/t/sent") > 0);
}

#[test]
fn a_duration_ends_a_run_that_would_go_on() {
    let lab = Lab::new();
    let account = lab.account(ENDLESS, &["--duration", "300ms"]);
    assert!(account.number("packets/received") > 0);
    assert!(account.last()["uptime_s"].as_f64().expect("seconds") >= 0.3);
}

#[test]
fn a_run_that_is_stopped_and_that_nobody_can_start_is_idle() {
    let lab = Lab::new();
    let whole = office(&lab);
    let stopped = format!("{PIPELINE}start\nstop\n");
    let account = lab.account(&stopped, &["--exit-idle", "300ms", "--duration", "60s"]);
    let ended = |account: &Account| account.last()["uptime_s"].as_f64().expect("seconds");
    assert!(ended(&account) < 30.0, "the duration ended it: {}", account.last());
    // while a prompt may say `start` it is not
    let arguments = [
        "run",
        "test.pipe",
        "-i",
        "--eal",
        EAL,
        "--stats",
        "stats.json",
        "--interval",
        "50ms",
        "--exit-idle",
        "300ms",
    ];
    let mut started = lab.start(lab.tapline(&arguments).stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let account = lab.until("a second goes by", |line| line["uptime_s"].as_f64() > Some(1.0));
    let received = number(&account, "packets/received");
    assert!(received <= whole.len() as u64);
    input.write_all(b"start\n").expect("it still runs");
    drop(input);
    assert_eq!(lab.end(started).done().number("packets/received"), whole.len() as u64);
}

#[test]
fn standard_output_has_nothing_but_json_when_statistics_go_there() {
    let lab = Lab::new();
    let whole = office(&lab);
    lab.write("test.pipe", format!("{PIPELINE}show stats\nshow plan\n"));
    let arguments =
        ["run", "test.pipe", "--eal", EAL, "--exit-idle", "500ms", "--stats", "-", "--interval", "100ms"];
    let ended = lab.end(lab.start(&mut lab.tapline(&arguments)));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let lines = json_lines(&ended.stdout);
    assert!(lines.len() >= 2, "{}", ended.stdout);
    let last = lines.last().expect("a line");
    assert_balanced(last);
    assert_eq!(number(last, "packets/received"), whole.len() as u64);
    assert!(
        ended.stderr.contains("balanced: every packet"),
        "the report goes to standard error:\n{}",
        ended.stderr
    );
}

#[test]
fn statistics_grow_line_by_line_and_end_with_the_last() {
    let lab = Lab::new();
    let whole = office(&lab);
    let account = lab.account(PIPELINE, &["--interval", "100ms", "--exit-idle", "600ms"]);
    assert!(account.lines.len() >= 3, "{} lines", account.lines.len());
    for pair in account.lines.windows(2) {
        assert!(number(&pair[0], "packets/received") <= number(&pair[1], "packets/received"));
        assert!(pair[0]["uptime_s"].as_f64() <= pair[1]["uptime_s"].as_f64());
        assert_eq!(pair[0]["schema"], "tapline.stats/1");
    }
    assert_eq!(account.number("packets/delivered"), whole.len() as u64);
    let bytes: u64 = whole.iter().map(|packet| packet.len() as u64).sum();
    assert_eq!(
        (account.number("ports/in/received_bytes"), account.number("ports/in/driver/rx_bytes")),
        (bytes, bytes)
    );
    assert_eq!(account.number("ports/in/driver/rx_packets"), whole.len() as u64);
}

#[test]
fn set_defines_what_the_file_leaves_open_and_wins_over_let() {
    let lab = Lab::new();
    let whole = office(&lab);
    let pipeline = "let IN nowhere.pcap\nport attach in net_pcap0,rx_pcap=${IN}\nport attach out net_pcap1,tx_pcap=${OUT} rxq 0\n\
                    tool create t port out\nrule create 1 from in to t\n";
    lab.account(pipeline, &["--set", "IN=in.pcap", "--set", "OUT=chosen.pcap"]);
    assert_eq!(packets(&lab.path("chosen.pcap")).len(), whole.len());
}

#[test]
fn check_says_what_a_file_has_and_starts_nothing() {
    let lab = Lab::new();
    lab.write("test.pipe", format!("{PIPELINE}{}", pcap_tools(&["out"])));
    let ended = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("test.pipe: 2 ports, 2 tools, 0 groups, 1 rule"), "{}", ended.stdout);
    assert!(ended.stderr.contains("warning: no rule sends to tool `out`"), "{}", ended.stderr);
    assert!(!lab.path("out.pcap").exists());
}

#[test]
fn version_names_the_libraries() {
    let lab = Lab::new();
    let ended = lab.end(lab.start(&mut lab.tapline(&["version"])));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(ended.status, Some(0));
    assert!(
        lines[0].starts_with("tapline ")
            && lines[1].starts_with("DPDK ")
            && lines[2].starts_with("libpcap "),
        "{lines:?}"
    );
}

/// `tapline run -i` with these lines typed, each after what it waits for has been printed.
fn interact(lab: &Lab, pipeline: &str, dialogue: &[(&str, &str)]) -> Account {
    interact_to(0, lab, pipeline, dialogue)
}

/// The same with a line in it that makes the exit status `status`.
fn interact_to(status: i32, lab: &Lab, pipeline: &str, dialogue: &[(&str, &str)]) -> Account {
    lab.write("test.pipe", pipeline);
    let mut command =
        lab.tapline(&["run", "test.pipe", "--interactive", "--eal", EAL, "--stats", "stats.json"]);
    let mut started = lab.start(command.stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    let mut seen = 0;
    for (line, expected) in dialogue {
        writeln!(input, "{line}").expect("an open pipe");
        let begun = Instant::now();
        loop {
            let printed = lab.printed("stdout") + &lab.printed("stderr");
            let fresh = printed.matches(expected).count();
            if expected.is_empty() || fresh > seen {
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "`{line}` does not print {expected:?} but:\n{printed}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        // the same words may have been printed for an earlier line, too
        let next =
            dialogue.iter().skip_while(|(known, _)| known != line).nth(1).map_or("", |(_, next)| next);
        seen = (lab.printed("stdout") + &lab.printed("stderr")).matches(next).count();
    }
    drop(input);
    lab.end(started).scripted(status)
}

#[test]
fn the_prompt_starts_stops_shows_clears_and_quits() {
    let lab = Lab::new();
    let whole = office(&lab);
    // stopped in the file: packets move only when the prompt says `start`
    let pipeline = format!("{PIPELINE}{}rule create 2 from in to out\nstart\nstop\n", pcap_tools(&["out"]));
    let account = interact_to(
        2,
        &lab,
        &pipeline,
        &[
            ("show plan", "rule 2"),
            ("shw tools", "unknown command `shw`"),
            ("start", "started"),
            ("show tools", "requested"),
            ("show ports", "driver rx"),
            ("show lcores", "idle turns"),
            ("stop", "stopped; everything was sent"),
            ("clear stats", "statistics cleared"),
            ("show stats", "received 0 = delivered 0"),
            ("quit", ""),
        ],
    );
    assert!(account.number("packets/received") <= whole.len() as u64);
}

/// `tapline run -i` with an end by a flag, whose standard input ends behind what was typed.
fn scripted(lab: &Lab, end: [&str; 2], typed: &[u8], status: i32) -> Account {
    let arguments = ["run", "test.pipe", "--interactive", "--eal", EAL, "--stats", "stats.json"];
    let mut command = lab.tapline(&[&arguments[..], &end].concat());
    let mut started = lab.start(command.stdin(Stdio::piped()));
    let mut input = started.child.stdin.take().expect("a pipe");
    input.write_all(typed).expect("an open pipe");
    drop(input);
    lab.end(started).scripted(status)
}

#[test]
fn bytes_that_are_no_text_are_a_mistake_in_their_line_alone() {
    let lab = Lab::new();
    for pipeline in [PIPELINE.to_owned(), format!("{PIPELINE}start\n")] {
        office(&lab);
        lab.write("test.pipe", &pipeline);
        let account = scripted(&lab, ["--duration", "2s"], b"show \xff\xfe\nstart\nshow tools\n", 2);
        assert!(account.number("packets/received") > 0, "`start` was heard");
        let said = &account.stderr;
        assert!(
            said.contains("prompt:1:6: error: byte 0xff is not UTF-8")
                && said.contains("expected UTF-8 text"),
            "{said}"
        );
        assert!(account.stdout.contains("requested"), "`show tools` was heard:\n{}", account.stdout);
    }
}

#[test]
fn show_filters_shows_each_name_with_its_expression() {
    let lab = Lab::new();
    office(&lab);
    lab.write("list.txt", "198.18.0.0/15\n");
    let pipeline = format!(
        "{PIPELINE}let PORT 80\nfilter create web \"tcp port ${{PORT}}\"\nfilter create inner \"udp\" through vlan,gre\n\
         filter create list file list.txt\nstart\n"
    );
    let account = interact(
        &lab,
        &pipeline,
        &[
            ("show filters", "filter list: file list.txt\n"),
            ("filter modify web \"icmp\"", "plan changed"),
            ("show filters", "icmp"),
            ("quit", ""),
        ],
    );
    for line in [
        "filter web: \"tcp port 80\"\n",
        "filter inner: \"udp\" through vlan,gre\n",
        "filter web: \"icmp\"\n",
    ] {
        assert!(account.stdout.contains(line), "{line} is not in {}", account.stdout);
    }
    assert!(!account.stdout.contains("rule 1 from"), "filters alone:\n{}", account.stdout);
}

#[test]
fn a_script_that_ends_leaves_the_run_to_its_flags() {
    let lab = Lab::new();
    let whole = office(&lab);
    lab.write(
        "test.pipe",
        "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\nrule create 1 from in sample 1/2 to t\n",
    );
    let account = scripted(&lab, ["--exit-idle", "1s"], b"show plan\nstart\n", 0);
    assert_eq!(account.number("packets/received"), whole.len() as u64);
    assert!(account.stdout.contains("rule 1 from in sample 1/2 to t\n"), "{}", account.stdout);
}

#[test]
fn commands_before_start_add_to_the_files_plan() {
    let lab = Lab::new();
    let whole = office(&lab);
    let account = interact_to(
        2,
        &lab,
        "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\n",
        &[
            ("rule create 7 from in to t", ""),
            ("rule create 8 from in to nobody", "unknown tool `nobody`"),
            ("show plan", "rule 7"),
            ("start", "workers on lcores"),
            ("show rules", "matched"),
        ],
    );
    assert_eq!(account.number("rules/7/matched"), account.number("packets/received"));
    assert!(account.number("packets/received") <= whole.len() as u64);
}

/// As the user that owns nothing, without groups and capabilities.
#[test]
fn an_ordinary_user_runs_a_pipeline_without_huge_pages() {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        tapline_skip::skipped("not root: the other tests were this test");
        return;
    }
    if !has_program("setpriv") {
        return;
    }
    let lab = Lab::new();
    let whole = office(&lab);
    lab.write("test.pipe", format!("{PIPELINE}{}rule create 2 from in to out\n", pcap_tools(&["out"])));
    let opened = Command::new("chmod").args(["-R", "a+rwX"]).arg(lab.path("")).status().expect("chmod(1)");
    assert!(opened.success());
    // the program may stand where others may not go: a copy stands in the lab
    std::fs::copy(tapline(), lab.path("tapline")).expect("a copy of the program");
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]);
    command.arg(lab.path("tapline")).args([
        "run",
        "test.pipe",
        "--exit-idle",
        "1s",
        "--stats",
        "stats.json",
    ]);
    let ended = lab.end(lab.start(command.current_dir(lab.path("")).env("HOME", lab.path(""))));
    let account = ended.done();
    assert_eq!(account.number("tools/out/sent"), whole.len() as u64);
    assert_eq!(packets(&lab.path("out.pcap")), whole);
}

/// A run whose output goes to these places; the last line of its statistics, and its exit status.
fn run_into(lab: &Lab, pipeline: &str, stdout: Stdio, stderr: Stdio) -> (Option<i32>, serde_json::Value) {
    lab.write("test.pipe", pipeline);
    let arguments = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--exit-idle", "500ms"];
    let mut command = lab.tapline(&arguments);
    let status =
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).status().expect("the program starts");
    let text = std::fs::read_to_string(lab.path("stats.json")).expect("statistics");
    let last = json_lines(&text).pop().expect("a line");
    assert_balanced(&last);
    (status.code(), last)
}

/// A pipe that nobody reads.
fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_log_whose_reader_is_gone_ends_no_run_and_spoils_none() {
    let lab = Lab::new();
    let whole = office(&lab);
    let full = || {
        std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .map_or_else(|_| without_reader(), Stdio::from)
    };
    for stderr in [without_reader(), full()] {
        let (status, last) = run_into(&lab, PIPELINE, Stdio::null(), stderr);
        assert_eq!((status, number(&last, "packets/received")), (Some(0), whole.len() as u64));
    }
}

#[test]
fn a_result_that_cannot_be_written_fails_the_run_once_it_is_complete_and_accounted_for() {
    let lab = Lab::new();
    let whole = office(&lab);
    let log = |lab: &Lab| std::fs::File::create(lab.path("log")).expect("a writable folder").into();
    let (status, last) =
        run_into(&lab, &format!("{PIPELINE}show plan\nshow stats\n"), without_reader(), log(&lab));
    assert_eq!((status, number(&last, "packets/received")), (Some(1), whole.len() as u64));
    let said = lab.printed("log");
    assert_eq!(said.matches("error: standard output cannot be written: Broken pipe").count(), 1, "{said}");
    // nobody is left to be told anything
    let (status, last) =
        run_into(&lab, &format!("{PIPELINE}show plan\nshow stats\n"), without_reader(), without_reader());
    assert_eq!((status, number(&last, "packets/received")), (Some(1), whole.len() as u64));
}

#[test]
fn short_commands_survive_readers_that_are_gone() {
    let lab = Lab::new();
    lab.write("test.pipe", format!("{PIPELINE}{}", pcap_tools(&["out"])));
    lab.write("wrong.pipe", "tool creat t discard\n");
    office(&lab);
    for (arguments, expected) in [
        (&["version"][..], 1),
        (&["check", "test.pipe"], 1),
        (&["check", "wrong.pipe"], 2),
        (&["filter", "-r", "nowhere.pcap", "-w", "-"], 1),
        (&["filter", "-r", "in.pcap", "-w", "out.pcap", "tcp"], 0),
    ] {
        let mut command = lab.tapline(arguments);
        let status =
            command.stdin(Stdio::null()).stdout(without_reader()).stderr(without_reader()).status();
        assert_eq!(status.expect("the program starts").code(), Some(expected), "{arguments:?}");
    }
}

/// The lines of a file of statistics, of which none is cut.
fn lines_of(lab: &Lab, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(lab.path(name)).unwrap_or_default();
    json_lines(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn statistics_that_are_moved_away_or_emptied_go_on_without_a_hole() {
    let lab = Lab::new();
    let mut started = endless(&lab);
    wait_for_packets(&lab, &mut started);
    for (round, is_signalled) in [(1, false), (2, true)] {
        std::fs::rename(lab.path("stats.json"), lab.path(&format!("stats.{round}"))).expect("a rotation");
        if is_signalled {
            started.signal("USR2");
        }
        wait_until("they are written anew", || lines_of(&lab, "stats.json").len() > 5);
    }
    let uptimes = |name: &str| -> Vec<f64> {
        lines_of(&lab, name).iter().map(|line| line["uptime_s"].as_f64().expect("a time")).collect()
    };
    let all = ["stats.1", "stats.2", "stats.json"].map(uptimes).concat();
    assert!(all.windows(2).all(|two| two[0] < two[1]), "{all:?}");
    // as logrotate's copytruncate does
    let file = std::fs::File::options().write(true).open(lab.path("stats.json")).expect("a file");
    file.set_len(0).expect("a file");
    wait_until("they are written from the beginning", || lines_of(&lab, "stats.json").len() > 5);
    assert_eq!(lab.printed("stderr").matches("packets  received").count(), 0);
    started.signal("USR1");
    wait_until("tables are printed", || lab.printed("stderr").contains("packets  received"));
    started.signal("TERM");
    lab.end(started).done();
}

#[test]
fn statistics_that_cannot_be_opened_anew_are_told_once_and_written_where_they_were() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("sub")).expect("a folder");
    lab.write("test.pipe", ENDLESS);
    let arguments = ["run", "test.pipe", "--eal", EAL, "--stats", "sub/stats.json", "--interval", "50ms"];
    let started = lab.start(&mut lab.tapline(&arguments));
    wait_until("statistics come", || !lines_of(&lab, "sub/stats.json").is_empty());
    std::fs::rename(lab.path("sub"), lab.path("moved")).expect("a folder");
    let told = || lab.printed("stderr").matches("sub/stats.json: cannot be opened anew").count();
    wait_until("it is told", || told() > 0);
    let before = lines_of(&lab, "moved/stats.json").len();
    wait_until("they go on", || lines_of(&lab, "moved/stats.json").len() > before + 10);
    assert_eq!(told(), 1);
    started.signal("USR2");
    wait_until("who asks is told again", || told() == 2);
    std::fs::create_dir(lab.path("sub")).expect("a folder");
    wait_until("they are at their place again", || !lines_of(&lab, "sub/stats.json").is_empty());
    started.signal("TERM");
    let run = lab.end(started);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
}
