//! Keys that others can read, core files, and who may read what is written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, office, pcap_tools};
use tapline_harness::programs::tapline;

/// Both halves are found nowhere else.
const KEY: [u8; 32] = *b"\x93Crypto-PAn\x01\x02\x03\x04\xf1\x88padding-half\x05\x06\x07";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn digits() -> String {
    KEY.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_file_that_others_can_read_or_write_is_refused_until_the_command_was_run() {
    let lab = Lab::new();
    let key = lab.write("anon.key", format!("{}\n", digits()));
    lab.write(
        "test.pipe",
        "port attach in net_null0\ntool create t discard anonymize ip prefix-preserving key anon.key\nrule create 10 from in to t\n",
    );
    let check = |mode: u32| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("a file of our own");
        let output = lab.tapline(&["check", "test.pipe"]).output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for open in [0o644, 0o640, 0o604, 0o620, 0o602, 0o666, 0o440] {
        let (status, said) = check(open);
        let fact =
            format!("key file `anon.key` has mode {open:04o}: others than its owner can read or write it");
        assert!(status == Some(2) && said.contains(&fact), "{said}");
        assert!(said.contains("test.pipe:2:") && !said.contains(&digits()), "{said}");
        let command =
            said.split_once("help: `").and_then(|(_, rest)| rest.split('`').next()).expect("a command");
        let mended = Command::new("sh").args(["-c", command]).current_dir(lab.path("")).status();
        assert!(mended.expect("sh(1)").success());
        assert_eq!(mode(&key), 0o600);
        let (status, said) = check(mode(&key));
        assert_eq!(status, Some(0), "{said}");
    }
    assert_eq!(check(0o400).0, Some(0));
    // what is no key is told first: nobody is to change the mode of it
    lab.write("anon.key", "root:x:0:0");
    let (status, said) = check(0o644);
    assert!(status == Some(2) && !said.contains("chmod"), "{said}");
}

/// The core files in a folder.
fn cores(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.path("")).expect("the lab").flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("core"))
        .map(|entry| entry.path())
        .collect()
}

/// Runs with a key under `ulimit -c unlimited` until packets flow, looks at the process, and ends it by SIGABRT.
fn abort(lab: &Lab, flag: &str, look: impl FnOnce(u32)) {
    office(lab);
    lab.write("anon.key", KEY);
    lab.write("hex.key", format!("{}\n", digits()));
    lab.write(
        "test.pipe",
        "set idle sleep\nset audit audit.jsonl required\nport attach in net_pcap0,rx_pcap=in.pcap,infinite_rx=1\n\
         tool create t discard anonymize ip prefix-preserving key anon.key\ntool create u discard anonymize ip prefix-preserving key hex.key\n\
         rule create 10 from in to t,u\nstart\n",
    );
    let script = format!(
        "ulimit -c unlimited; exec {} run test.pipe --eal '{EAL}' --stats stats.json --interval 50ms --control control.sock {flag}",
        tapline().display()
    );
    let mut command = Command::new("sh");
    let started = lab.start(command.args(["-c", &script]).current_dir(lab.path("")));
    lab.until("copies", |line| number(line, "tools/t/sent") > 1000);
    for words in
        [&["show", "plan"][..], &["show", "config"], &["show", "tools"], &["rule", "disable", "10"]]
    {
        let output = lab.tapline(&[&["ctl", "--control", "control.sock"], words].concat()).output();
        let output = output.expect("the program starts");
        lab.write(&format!("said-{}", words.concat()), [output.stdout, output.stderr].concat());
    }
    let pid = started.child.id();
    look(pid);
    let killed = Command::new("kill").args(["-ABRT", &pid.to_string()]).status().expect("kill(1)");
    assert!(killed.success());
    let _ = lab.end(started);
    for file in [
        "stdout",
        "stderr",
        "stats.json",
        "audit.jsonl",
        "said-showplan",
        "said-showconfig",
        "said-showtools",
    ] {
        let bytes = fs::read(lab.path(file)).expect("a file of the run");
        assert!(file == "stdout" || !bytes.is_empty(), "{file} has something");
        assert!(!holds_key(&bytes), "{file} holds the key");
    }
}

fn holds_key(bytes: &[u8]) -> bool {
    let digits = digits();
    let parts = [&KEY[..16], &KEY[16..], &digits.as_bytes()[..32], &digits.as_bytes()[32..]];
    parts.iter().any(|part| bytes.windows(part.len()).any(|window| window == *part))
}

#[test]
fn a_run_leaves_no_core_and_says_no_key() {
    let lab = Lab::new();
    abort(&lab, "", |pid| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"));
        // a process that is not dumpable is root's to look at
        if let Ok(limits) = limits {
            let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
            assert_eq!(line.split_whitespace().nth(4), Some("0"), "{line}");
        }
    });
    assert_eq!(cores(&lab), Vec::<PathBuf>::new());
}

#[test]
fn a_core_that_is_allowed_has_no_key_and_no_packet_memory() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') {
        return tapline_skip::skipped("core files go elsewhere (kernel.core_pattern)");
    }
    let lab = Lab::new();
    abort(&lab, "--core", |pid| {
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("a process that is dumpable");
        let mut large = 0;
        let mut kib = 0u64;
        for line in maps.lines() {
            if let Some(size) = line.strip_prefix("Size:") {
                kib = size.trim().trim_end_matches(" kB").parse().expect("a number");
            }
            // EAL's 256 MiB
            if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| kib >= 200 << 10)
                && flags.split(' ').any(|flag| flag == "wr")
            {
                large += 1;
                assert!(flags.split(' ').any(|flag| flag == "dd"), "{kib} KiB: {flags}");
            }
        }
        assert!(large > 0, "EAL's memory is there");
    });
    let cores = cores(&lab);
    let [core] = &cores[..] else {
        return tapline_skip::skipped("the kernel writes no core files here");
    };
    let bytes = fs::read(core).expect("a core");
    assert!(bytes.starts_with(b"\x7fELF") && bytes.len() > 1 << 20);
    assert!(!holds_key(&bytes), "the core holds the key");
}

#[test]
fn what_a_run_writes_is_its_groups_to_read_and_nobody_elses() {
    for (umask, expected) in [("022", 0o640), ("000", 0o640), ("077", 0o600)] {
        let lab = Lab::new();
        office(&lab);
        let tools = format!("{}tool create rec capture rec.pcapng\n", pcap_tools(&["out"]));
        lab.write(
            "test.pipe",
            format!("port attach in net_pcap0,rx_pcap=in.pcap\n{tools}rule create 10 from in to out,rec\n"),
        );
        let script = format!(
            "umask {umask}; exec {} run test.pipe --eal '{EAL}' --stats stats.json --exit-idle 500ms",
            tapline().display()
        );
        let mut command = Command::new("sh");
        lab.end(lab.start(command.args(["-c", &script]).current_dir(lab.path("")))).done();
        for file in ["stats.json", "rec.pcapng", "out.pcap"] {
            assert_eq!(mode(&lab.path(file)), expected, "{file} under umask {umask}");
        }
    }
}
