//! Files: nothing that a run reads or writes is destroyed by something else that is written, of this run or of another Tapline's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use tapline_capture::{Interface, InterfaceId, LinkType, Packet, Reader, Writer};
use tapline_harness::judges::{self, assert_same};
use tapline_harness::lab::{EAL, Ended, Lab, office};
use tapline_harness::pcap_files::packets;
use tapline_harness::programs::{has_program, tapline};

/// A lab with a capture, a list, a key and an included file, and the bytes of all of them.
struct Things {
    lab: Lab,
    before: Vec<(&'static str, Vec<u8>)>,
}

const NAMES: [&str; 4] = ["in.pcap", "list.txt", "anon.key", "more.pipe"];

impl Things {
    fn new() -> Self {
        let lab = Lab::new();
        office(&lab);
        lab.write("list.txt", "10.0.0.0/8\n");
        lab.write("anon.key", [7; 32]);
        lab.write("more.pipe", "set burst 32\n");
        let before = NAMES.map(|name| (name, fs::read(lab.path(name)).expect("a file"))).to_vec();
        Self { lab, before }
    }

    /// What `run` with these flags, and `check` where there are none, say of a pipeline: status 2, all files as they were.
    fn refused(&self, pipeline: &str, flags: &[&str]) -> String {
        self.lab.write("test.pipe", pipeline);
        let mut arguments = vec!["run", "test.pipe", "--eal", EAL, "--exit-idle", "1s"];
        arguments.extend(flags);
        let said = self.lab.end(self.lab.start(&mut self.lab.tapline(&arguments))).failed(2);
        for (name, bytes) in &self.before {
            assert!(
                fs::read(self.lab.path(name)).is_ok_and(|now| now == *bytes),
                "{name} has changed: {said}"
            );
        }
        assert_eq!(fs::read_to_string(self.lab.path("test.pipe")).expect("the pipeline"), pipeline);
        if flags.is_empty() {
            let checked =
                self.lab.end(self.lab.start(&mut self.lab.tapline(&["check", "test.pipe"]))).failed(2);
            assert_eq!(checked, said, "check says what run says");
        }
        said
    }
}

/// The middle of a pipeline: a source and a rule for a tool `t` and, if need be, a tool `u`.
fn pipeline(source: &str, tools: &str) -> String {
    let to = if tools.contains("tool create u") { "t,u" } else { "t" };
    format!("port attach in {source}\n{tools}rule create 10 from in to {to}\n")
}

const PCAP_OUT: &str = "port attach o net_pcap9,tx_pcap=OUT rxq 0\ntool create t port o\n";
const CAPTURE: &str = "tool create t capture OUT\n";

#[test]
fn a_file_that_is_written_is_read_by_nothing_and_written_once() {
    let things = Things::new();
    let (rx, replay) = ("net_pcap0,rx_pcap=in.pcap", "replay:in.pcap,speed=max");
    for (source, column) in [(rx, 26), (replay, 16)] {
        for (tools, place) in [(PCAP_OUT, "2:25"), (CAPTURE, "2:23")] {
            let said = things.refused(&pipeline(source, &tools.replace("OUT", "in.pcap")), &[]);
            assert!(
                said.contains(&format!("test.pipe:{place}: error: `in.pcap` is read by port `in`")),
                "{said}"
            );
            assert!(
                said.contains(&format!("expected a file of its own; test.pipe:1:{column} names it too")),
                "{said}"
            );
            assert!(said.ends_with("1 error; nothing was started\n"), "{said}");
        }
    }
    let twice = [
        // `tx_pcap` of two ports, of one port, beside a capture; two captures
        (
            format!("{}{}", PCAP_OUT, "port attach p net_pcap8,tx_pcap=OUT rxq 0\ntool create u port p\n"),
            "4:25",
            "port `o`",
            "2:25",
        ),
        (
            "port attach o net_pcap9,tx_pcap=OUT,tx_pcap=OUT rxq 0\ntool create t port o\n".to_owned(),
            "2:42",
            "port `o`",
            "2:25",
        ),
        (format!("{PCAP_OUT}tool create u capture OUT\n"), "4:23", "port `o`", "2:25"),
        (format!("{CAPTURE}tool create u capture OUT\n"), "3:23", "tool `t`", "2:23"),
    ];
    for (tools, place, writer, other) in twice {
        let said = things.refused(&pipeline(rx, &tools.replace("OUT", "out.pcap")), &[]);
        assert!(
            said.contains(&format!("test.pipe:{place}: error: `out.pcap` is written by {writer}")),
            "{said}"
        );
        assert!(
            said.contains(&format!("expected a file of its own; test.pipe:{other} names it too")),
            "{said}"
        );
        assert!(!things.lab.path("out.pcap").exists(), "nothing was started");
    }
}

#[test]
fn the_pipeline_its_includes_lists_and_keys_are_not_written() {
    let things = Things::new();
    let rx = "net_pcap0,rx_pcap=in.pcap";
    for tools in [PCAP_OUT, CAPTURE] {
        let line = if tools == PCAP_OUT { "2:25" } else { "2:23" };
        let said = things.refused(&pipeline(rx, &tools.replace("OUT", "test.pipe")), &[]);
        assert!(
            said.contains(&format!("test.pipe:{line}: error: `test.pipe` is the pipeline file")),
            "{said}"
        );
        assert!(said.contains("expected a file of its own; the command line names it too"), "{said}");
        let said = things.refused(
            &format!("{}include more.pipe\n", pipeline(rx, &tools.replace("OUT", "more.pipe"))),
            &[],
        );
        assert!(
            said.contains("error: `more.pipe` is written by ")
                && said.contains("a file that nothing writes"),
            "{said}"
        );
        assert!(said.contains(&format!("test.pipe:{line} names it too")), "{said}");
        for (clause, name) in [
            ("match file \"list.txt\"", "list.txt"),
            ("anonymize ip prefix-preserving key anon.key", "anon.key"),
            ("match l", "list.txt"),
        ] {
            let rule = format!("rule create 10 from in {clause} to");
            let text =
                pipeline(rx, &tools.replace("OUT", name)).replace("rule create 10 from in to", &rule);
            let said = things.refused(&format!("{text}filter create l file \"list.txt\"\n"), &[]);
            assert!(said.contains(&format!("error: `{name}` is written by ")), "{said}");
            assert!(said.contains(&format!("test.pipe:{line} names it too")), "{said}");
        }
    }
    // a key of a tool
    let said = things.refused(
        &pipeline(rx, "tool create u capture anon.key\ntool create t discard anonymize ip prefix-preserving key anon.key\n"),
        &[],
    );
    assert!(said.contains("`anon.key` is written by tool `u`"), "{said}");
}

#[test]
fn statistics_go_where_nothing_else_is() {
    let things = Things::new();
    let text = pipeline("net_pcap0,rx_pcap=in.pcap", "tool create t capture out.pcapng\n");
    let listed = text.replace("from in", "from in match file \"list.txt\"");
    for (text, stats, said) in [
        (&text, "in.pcap", "test.pipe:1:26: error: `in.pcap` is written by `--stats`"),
        (
            &text,
            "./in.pcap",
            "expected a file that nothing writes; the command line names it as `./in.pcap`",
        ),
        (&text, "out.pcapng", "test.pipe:2:23: error: `out.pcapng` is written by `--stats`"),
        (&listed, "list.txt", "error: `list.txt` is written by `--stats`"),
        (
            &text,
            "test.pipe",
            "test.pipe: error: this file is the pipeline file, and `test.pipe` is written by `--stats`",
        ),
    ] {
        let told = things.refused(text, &["--stats", stats]);
        assert!(told.contains(said), "{said} is not in: {told}");
        assert!(!things.lab.path("out.pcapng").exists(), "nothing was started");
    }
}

#[test]
fn another_name_of_a_file_is_the_file() {
    let things = Things::new();
    let lab = &things.lab;
    fs::create_dir(lab.path("inner")).expect("a folder");
    symlink("in.pcap", lab.path("link")).expect("a link");
    symlink("out.pcap", lab.path("dangling")).expect("a link");
    symlink("dangling", lab.path("inner/../far")).expect("a link");
    fs::hard_link(lab.path("in.pcap"), lab.path("hard")).expect("a link");
    let absolute = lab.path("in.pcap").display().to_string();
    for name in ["link", "hard", "./in.pcap", "inner/../in.pcap", &absolute] {
        for tools in [PCAP_OUT, CAPTURE] {
            for source in ["net_pcap0,rx_pcap=in.pcap", "replay:in.pcap"] {
                let said = things.refused(&pipeline(source, &tools.replace("OUT", name)), &[]);
                assert!(said.contains(&format!("error: `{name}` is read by port `in`")), "{said}");
                assert!(said.contains("names it as `in.pcap`"), "{said}");
            }
        }
    }
    for (one, other) in [
        ("out.pcap", "./out.pcap"),
        ("out.pcap", "dangling"),
        ("far", "inner/../out.pcap"),
        ("dangling", "far"),
    ] {
        let tools = format!("{}tool create u capture {other}\n", PCAP_OUT.replace("OUT", one));
        let said = things.refused(&pipeline("net_pcap0,rx_pcap=in.pcap", &tools), &[]);
        assert!(said.contains(&format!("error: `{other}` is written by port `o`")), "{said}");
        assert!(said.contains(&format!("test.pipe:2:25 names it as `{one}`")), "{said}");
    }
    assert!(!lab.path("out.pcap").exists(), "nothing was started");
}

#[test]
fn devices_are_written_by_many_and_files_are_read_by_many() {
    let things = Things::new();
    let tools = format!(
        "{}tool create u capture /dev/null\nport attach twin net_pcap1,rx_pcap=in.pcap\nport attach thrice replay:in.pcap\n",
        PCAP_OUT.replace("OUT", "/dev/null")
    );
    let rules = "rule create 20 from twin match file \"list.txt\" to t\nrule create 30 from thrice match file \"list.txt\" to u\n";
    let account =
        things.lab.account(&format!("{}{rules}", pipeline("net_pcap0,rx_pcap=in.pcap", &tools)), &[]);
    assert!(account.number("copies/sent") > 0);
}

#[test]
fn a_pipe_is_a_good_output_of_one_tool() {
    let things = Things::new();
    let lab = &things.lab;
    assert!(Command::new("mkfifo").arg(lab.path("pipe")).status().expect("mkfifo runs").success());
    let (source, expected) = ("replay:in.pcap,speed=max", packets(&lab.path("in.pcap")));
    let reader = std::thread::spawn({
        let path = lab.path("pipe");
        move || fs::read(path).expect("a pipe")
    });
    let account = lab.account(&pipeline(source, &CAPTURE.replace("OUT", "pipe")), &[]);
    assert_eq!(account.number("tools/t/sent"), expected.len() as u64);
    let written = lab.write("read.pcapng", reader.join().expect("a reader"));
    assert_same("the pipe", &packets(&written), &expected);
    let tools = format!("{}tool create u capture ./pipe\n", CAPTURE.replace("OUT", "pipe"));
    let said = things.refused(&pipeline(source, &tools), &[]);
    assert!(said.contains("test.pipe:3:23: error: `./pipe` is written by tool `t`"), "{said}");
}

/// What a second Tapline says of a plan while the first one runs.
fn beside(lab: &Lab, text: &str, flags: &[&str]) -> Ended {
    lab.write("second.pipe", text);
    let other = Lab::new();
    let mut arguments = vec!["run", "second.pipe", "--eal", EAL, "--exit-idle", "1s"];
    arguments.extend(flags);
    let mut command = other.tapline(&arguments);
    command.current_dir(lab.path(""));
    other.end(other.start(&mut command))
}

#[test]
fn a_file_that_a_running_tapline_writes_is_written_by_no_other() {
    let things = Things::new();
    let lab = &things.lab;
    let expected = packets(&lab.path("in.pcap"));
    let source = "net_pcap0,rx_pcap=in.pcap";
    let tools = format!("{}tool create u capture out.pcapng\n", PCAP_OUT.replace("OUT", "out.pcap"));
    let first = pipeline(source, &tools);
    lab.write("test.pipe", &first);
    let arguments = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "100ms"];
    let started = lab.start(&mut lab.tapline(&arguments));
    let count = 2 * expected.len() as u64;
    lab.until("all is written", |line| judges::number(line, "copies/sent") == count);

    lab.write("mine.pcapng", "of the second one");
    for (text, flags, owner, path) in [
        (pipeline(source, &CAPTURE.replace("OUT", "out.pcapng")), &[][..], "tool t", "out.pcapng"),
        (pipeline(source, &CAPTURE.replace("OUT", "out.pcap")), &[], "tool t", "out.pcap"),
        (pipeline(source, &PCAP_OUT.replace("OUT", "./out.pcap")), &[], "port o", "./out.pcap"),
        (pipeline(source, &PCAP_OUT.replace("OUT", "out.pcapng")), &[], "port o", "out.pcapng"),
        // what can be had is not lost either
        (
            pipeline(source, "tool create t capture mine.pcapng\ntool create u capture out.pcapng\n"),
            &["--stats", "new.json"],
            "tool u",
            "out.pcapng",
        ),
    ] {
        let said = beside(lab, &text, flags).failed(1);
        let expected = format!(
            "error: {owner}: {path}: another Tapline writes this file; name another, or end that one first"
        );
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(fs::read(lab.path("mine.pcapng")).expect("a file"), b"of the second one");
    assert!(!lab.path("new.json").exists(), "a run that does not begin leaves no file behind");
    let said =
        beside(lab, &pipeline(source, "tool create t discard\n"), &["--stats", "stats.json"]).failed(1);
    assert!(said.contains("error: stats.json: another Tapline writes this file"), "{said}");
    // `check` needs no file for itself
    lab.write("second.pipe", &first);
    let other = Lab::new();
    let mut check = other.tapline(&["check", "second.pipe"]);
    check.current_dir(lab.path(""));
    assert_eq!(other.end(other.start(&mut check)).status, Some(0));
    let filter = Command::new(tapline())
        .args(["filter", "-r", "in.pcap", "-w", "out.pcapng"])
        .current_dir(lab.path(""))
        .output()
        .expect("tapline runs");
    assert_eq!(filter.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&filter.stderr).contains("out.pcapng: another Tapline writes this file")
    );

    started.signal("TERM");
    let account = lab.end(started).done();
    assert_eq!(account.number("copies/sent"), count);
    for name in ["out.pcap", "out.pcapng"] {
        assert_same(name, &packets(&lab.path(name)), &expected);
    }
    // once it has ended its files are anybody's
    assert_eq!(beside(lab, &first, &[]).status, Some(0));
}

#[test]
fn a_change_at_the_prompt_reads_nothing_that_is_written() {
    let things = Things::new();
    let lab = &things.lab;
    lab.write("test.pipe", pipeline("net_pcap0,rx_pcap=in.pcap", "tool create t capture out.txt\n"));
    let arguments = ["run", "test.pipe", "--eal", EAL, "-i", "--stats", "stats.json"];
    let run = |typed: &str| {
        use std::io::Write;
        let mut started = lab.start(lab.tapline(&arguments).stdin(std::process::Stdio::piped()));
        started.child.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("a reader");
        lab.end(started)
    };
    let ended = run(
        "start\nrule create 20 from in match file \"out.txt\" to t\nrule create 21 from in match file \"stats.json\" to t\nquit\n",
    );
    let said = ended.stderr.clone();
    ended.scripted(2);
    assert!(said.contains("error: `out.txt` is written by tool `t`"), "{said}");
    assert!(said.contains("error: `stats.json` is written by `--stats`"), "{said}");
    assert_eq!(said.matches("the plan stays as it is").count(), 2, "{said}");
    // before the start anything may be added, and the same holds
    let ended = run("tool create u capture in.pcap\nstart\nquit\n");
    let said = ended.stderr.clone();
    ended.scripted(2);
    assert!(said.contains("prompt:1:23: error: `in.pcap` is read by port `in`"), "{said}");
    for (name, bytes) in &things.before {
        assert!(fs::read(lab.path(name)).is_ok_and(|now| now == *bytes), "{name} has changed");
    }
}

#[test]
fn a_start_that_fails_leaves_files_as_they_were() {
    let things = Things::new();
    let lab = &things.lab;
    lab.write("old.pcapng", "old");
    let tools = "tool create t capture old.pcapng\ntool create u capture new.pcapng\n";
    let text = pipeline("net_pcap0,rx_pcap=nowhere.pcap", tools);
    let said = lab.run(&text, &[]).failed(1);
    assert!(said.contains("nowhere.pcap"), "{said}");
    assert_eq!(fs::read(lab.path("old.pcapng")).expect("a file"), b"old");
    assert!(!lab.path("new.pcapng").exists());
}

#[test]
fn filter_does_not_append_to_what_it_reads() {
    let lab = Lab::new();
    office(&lab);
    let before = fs::read(lab.path("in.pcap")).expect("a file");
    let out = fs::File::options().append(true).open(lab.path("in.pcap")).expect("a file");
    let output =
        lab.tapline(&["filter", "-r", "in.pcap", "-w", "-"]).stdout(out).output().expect("tapline runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("standard output: is the file that is read"), "{said}");
    assert_eq!(fs::read(lab.path("in.pcap")).expect("a file"), before);
}

/// A capture of 60-byte packets of one link type.
fn capture_of(link_types: &[u32]) -> Vec<u8> {
    let order = tapline_capture::ByteOrder::NATIVE;
    let packet =
        |interface| Packet { interface, time_ns: 1, bytes: &[0x45; 60], original_len: 60, comments: &[] };
    if let [link_type] = link_types {
        let mut writer =
            Writer::pcap(Vec::new(), order, false, LinkType(*link_type), 0).expect("a vector takes all");
        writer.write(&packet(InterfaceId(0))).expect("a vector takes all");
        return writer.finish().expect("a vector takes all");
    }
    let mut writer = Writer::pcapng(Vec::new(), order).expect("a vector takes all");
    for link_type in link_types {
        writer.add_interface(&Interface::new(LinkType(*link_type), 0, None)).expect("a vector takes all");
    }
    writer.write(&packet(InterfaceId(0))).expect("a vector takes all");
    writer.finish().expect("a vector takes all")
}

#[test]
fn net_pcap_takes_ethernet_files_alone() {
    let things = Things::new();
    for (link_types, said) in [
        (&[113][..], "its packets are of link type 113 (Linux cooked); only Ethernet (1) can be replayed"),
        (&[276], "link type 276 (Linux cooked v2)"),
        (&[101], "link type 101 (raw IP)"),
        (&[0], "link type 0 (BSD loopback)"),
        (&[105], "link type 105 (IEEE 802.11); only Ethernet (1) can be replayed"),
        // libpcap ends where an interface of another link type is described
        (&[113, 1], "link type 113"),
        (&[1, 113], "link type 113"),
    ] {
        things.lab.write("foreign", capture_of(link_types));
        for source in ["net_pcap0,rx_pcap=in.pcap,rx_pcap=foreign", "replay:foreign"] {
            // a replay makes frames of the others
            if source.starts_with("replay") && link_types != [105] {
                continue;
            }
            let told = things.refused(&pipeline(source, "tool create t discard\n"), &[]);
            assert!(told.contains("error: `foreign` cannot be replayed") && told.contains(said), "{told}");
            assert_eq!(told.contains("`replay:FILE` makes Ethernet frames of them"), link_types != [105]);
        }
    }
    things.lab.write("well", capture_of(&[1, 1]));
    let account = things.lab.account(&pipeline("net_pcap0,rx_pcap=well", "tool create t discard\n"), &[]);
    assert_eq!(account.number("packets/received"), 1);
}

#[test]
fn interfaces_without_ethernet_frames_are_refused() {
    let things = Things::new();
    let said = things.refused(&pipeline("net_pcap0,iface=any", "tool create t discard\n"), &[]);
    assert!(said.contains("test.pipe:1:26: error: interface `any` is none of the kernel's"), "{said}");
    let name = format!("tlf{}", std::process::id());
    let made = Command::new("ip").args(["tuntap", "add", "dev", &name, "mode", "tun"]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        tapline_skip::skipped("no tun interface can be made (root, ip and /dev/net/tun)");
        return;
    }
    struct Gone(String);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["link", "del", &self.0]).status();
        }
    }
    let _gone = Gone(name.clone());
    for device in [
        "net_pcap0,iface=X",
        "net_pcap0,rx_iface=lo,rx_iface=X",
        "net_pcap0,rx_iface_in=X",
        "net_pcap0,rx_iface=lo,tx_iface=X",
        "net_af_packet0,iface=X",
        "net_af_xdp0,iface=X",
        "net_tap0,iface=tlnew,remote=X",
    ] {
        let said = things.refused(&pipeline(&device.replace('X', &name), "tool create t discard\n"), &[]);
        let expected = format!(
            "error: interface `{name}` is of hardware type 65534 (IP packets without a link layer)"
        );
        assert!(said.contains(&expected), "{device}: {said}");
    }
    let lo = pipeline("net_pcap0,iface=lo", "tool create t discard\n");
    things.lab.write("test.pipe", lo);
    assert_eq!(
        things.lab.end(things.lab.start(&mut things.lab.tapline(&["check", "test.pipe"]))).status,
        Some(0)
    );
}

#[test]
fn no_advice_overwrites_a_file_and_no_private_file_is_shown() {
    let things = Things::new();
    let lab = &things.lab;
    let key = |path: &str| {
        let clause = format!("from in anonymize ip prefix-preserving key \"{path}\"");
        things.refused(
            &pipeline("net_pcap0,rx_pcap=in.pcap", "tool create t discard\n").replace("from in", &clause),
            &[],
        )
    };
    lab.write("bad.key", "short");
    symlink("nowhere", lab.path("dangling.key")).expect("a link");
    for taken in ["bad.key", "dangling.key", "/etc/passwd", "/dev/zero", "."] {
        let said = key(taken);
        assert!(!said.contains("/dev/urandom") && said.contains("name a file that is not there"), "{said}");
    }
    assert!(key("new.key").contains("help: `(umask 077; head -c 32 /dev/urandom > new.key)` makes one"));
    assert!(
        key("new key; rm x")
            .contains("help: `(umask 077; head -c 32 /dev/urandom > 'new key; rm x')` makes one")
    );

    let secret =
        lab.write("secret", "root:x1secret:1\nrule create 5 from x1secret to x1secret\nx1secret\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("a file of our own");
    symlink("secret", lab.path("link.pipe")).expect("a link");
    for name in ["secret", "link.pipe"] {
        let said = things.refused(&format!("include {name}\n"), &[]);
        assert!(said.contains(&format!("test.pipe:1:9: error: `{name}` has 2 mistakes")), "{said}");
        assert!(!said.contains("x1secret"), "{said}");
        let said = lab.end(lab.start(&mut lab.tapline(&["check", name]))).failed(2);
        assert!(
            said.contains(&format!("{name}: error: `{name}` has 2 mistakes")) && !said.contains("x1secret"),
            "{said}"
        );
    }
    let list = format!("rule create 10 from in match file \"{}\" to t\n", secret.display());
    let said = things.refused(&format!("port attach in net_null0\ntool create t discard\n{list}"), &[]);
    assert!(!said.contains("x1secret"), "{said}");
}

#[test]
fn included_files_have_a_bound_together() {
    let things = Things::new();
    let lab = &things.lab;
    let line = format!("# {}\n", "x".repeat(1021));
    lab.write("long.pipe", line.repeat(6 << 10));
    let said =
        things.refused("include long.pipe\ninclude long.pipe\ninclude long.pipe\nset burst 0\n", &[]);
    assert!(
        said.contains("test.pipe:3:9: error: the files have more than 16 MiB with `long.pipe`"),
        "{said}"
    );
    lab.write("list", vec![b'\n'; (64 << 20) + 1]);
    let rule =
        "port attach in net_null0\ntool create t discard\nrule create 1 from in match file LIST to t\n";
    for (list, said) in [
        ("list", "`list` cannot be read: it has more than 64 MiB"),
        ("/dev/zero", "it is not a regular file"),
    ] {
        let told = things.refused(&rule.replace("LIST", &format!("\"{list}\"")), &[]);
        assert!(told.contains(said), "{told}");
    }
    let told = things.refused("include /dev/zero\n", &[]);
    assert!(told.contains("cannot read `/dev/zero`: it is not a regular file"), "{told}");
}

/// A pcapng capture with packets of these lengths, as a program without a limit writes it.
fn long_packets(lengths: &[usize]) -> Vec<u8> {
    let block = |kind: u32, body: Vec<u8>| {
        let len = (body.len() + 12) as u32;
        [&kind.to_le_bytes()[..], &len.to_le_bytes(), &body, &len.to_le_bytes()].concat()
    };
    let mut file =
        block(0x0a0d_0d0a, [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    file.extend(block(1, vec![1, 0, 0, 0, 0, 0, 0, 0]));
    for &len in lengths {
        let mut body: Vec<u8> =
            [0, 0, 1, len as u32, len as u32].iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend([2; 12].iter().chain(&[8, 0]));
        body.resize(20 + len.next_multiple_of(4), 0x11);
        file.extend(block(6, body));
    }
    file
}

#[test]
fn a_packet_that_no_reader_takes_makes_no_capture_unreadable() {
    const MOST: usize = 262_144;
    let lab = Lab::new();
    let source = "replay:long.pcapng,speed=max";
    let readable = |name: &str, lengths: &[usize]| {
        let got: Vec<usize> = packets(&lab.path(name)).iter().map(Vec::len).collect();
        assert_eq!(got, lengths, "{name} by libpcap");
        if has_program("tshark") {
            let mut tshark = Command::new("tshark");
            tshark.args(["-r", name, "-T", "fields", "-e", "frame.cap_len"]).current_dir(lab.path(""));
            let output = tshark.output().expect("tshark runs");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let got: Vec<String> =
                String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
            assert_eq!(got, lengths.iter().map(usize::to_string).collect::<Vec<_>>(), "{name} by tshark");
        }
    };
    // the longest is recorded whole
    lab.write("long.pcapng", long_packets(&[100, MOST, 120]));
    let account = lab.account(&pipeline(source, "tool create t capture out.pcapng\n"), &[]);
    assert_eq!((account.number("tools/t/sent"), account.number("tools/t/cut_bytes")), (3, 0));
    readable("out.pcapng", &[100, MOST, 120]);

    // a longer one is cut where it is written, and keeps its length on the wire
    for is_pcapng in [false, true] {
        let order = tapline_capture::ByteOrder::NATIVE;
        let mut writer = match is_pcapng {
            true => Writer::pcapng(Vec::new(), order),
            false => Writer::pcap(Vec::new(), order, true, LinkType::ETHERNET, 0),
        }
        .expect("a vector takes all");
        let interface =
            writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, None)).expect("a vector takes all");
        for (len, cut) in [(100, 0), (MOST + 4, 4), (MOST, 0), (9 << 20, (9 << 20) - MOST)] {
            let packet = Packet {
                interface,
                time_ns: 7,
                bytes: &vec![3; len],
                original_len: len as u32,
                comments: &["one"],
            };
            assert_eq!(writer.write(&packet).expect("a vector takes all"), cut);
        }
        let bytes = writer.finish().expect("a vector takes all");
        let mut reader =
            Reader::from_stream(Box::new(std::io::Cursor::new(bytes.clone()))).expect("a capture");
        let mut lens = Vec::new();
        while let Some(record) = reader.next_record().expect("a sound file") {
            lens.push((record.bytes.len(), record.original_len as usize));
        }
        assert_eq!(lens, [(100, 100), (MOST, MOST + 4), (MOST, MOST), (MOST, 9 << 20)]);
        lab.write("cut", bytes);
        readable("cut", &[100, MOST, MOST, MOST]);
    }

    // one in a file is damage, as for libpcap and Wireshark: what comes before it is kept, and the status says so
    lab.write("long.pcapng", long_packets(&[100, MOST + 1, 120]));
    let ended = lab.run(&pipeline(source, "tool create t capture out.pcapng\n"), &[]);
    let said = ended.failed(1);
    let reason = "the packet is said to hold 262145 bytes; at most 262144 are possible for its link type";
    assert!(said.contains(&format!("error: port in: long.pcapng: at byte 180: {reason}")), "{said}");
    readable("out.pcapng", &[100]);
    let filter = lab
        .tapline(&["filter", "-r", "long.pcapng", "-w", "filtered.pcapng"])
        .output()
        .expect("tapline runs");
    assert_eq!(filter.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&filter.stderr).contains(reason));
    readable("filtered.pcapng", &[100]);
}
