//! `tapline doctor` on this machine: without rights, without a driver, without huge pages, with offloads. What it prints is run, and
//! the gap is gone.

use std::process::{Command, Output};

use serde_json::Value;
use tapline_harness::lab::Lab;
use tapline_harness::links::Pair;
use tapline_harness::programs::{has_program, tapline};

const PMDS: &str = "/usr/lib/*/dpdk/pmds-*";

fn findings(output: &Output) -> Vec<Value> {
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(json["schema"], "tapline.doctor/1");
    assert_eq!(json["ready"] == true, output.status.code() == Some(0), "{json:#}");
    assert_eq!(json["ready"] == false, output.status.code() == Some(1), "{json:#}");
    json["findings"].as_array().expect("a list").clone()
}

fn gaps(output: &Output) -> Vec<Value> {
    findings(output).into_iter().filter(|finding| finding["level"] == "gap").collect()
}

fn pipeline(lab: &Lab, device: &str) {
    lab.write(
        "test.pipe",
        format!("port attach in {device}\ntool create t discard\nrule create 10 from in to t\n"),
    );
}

/// Runs a shell script in the lab's folder, in a mount namespace; `None` where there is none to be had.
fn in_mounts(lab: &Lab, script: &str) -> Option<Output> {
    let can = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        tapline_skip::skipped("mount namespaces cannot be made (needs unshare and CAP_SYS_ADMIN)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(lab.path(""));
    Some(command.output().expect("unshare(1)"))
}

#[test]
fn this_machine_is_told_as_the_kernel_shows_it() {
    let lab = Lab::new();
    let output = lab.tapline(&["doctor", "--json"]).output().expect("the program starts");
    let findings = findings(&output);
    let text = |area: &str| {
        let of_area = findings.iter().filter(|finding| finding["area"] == area);
        of_area.map(|finding| finding["text"].as_str().expect("a text")).collect::<Vec<_>>().join("\n")
    };
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let has_all =
        status.lines().any(|line| line.starts_with("CapEff:") && line.trim_end().ends_with("ffffffff"));
    assert!(
        !has_all || text("rights").contains("CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF"),
        "{}",
        text("rights")
    );
    let network = Command::new("sh")
        .args([
            "-c",
            "for d in /sys/bus/pci/devices/*; do grep -q ^0x02 $d/class && basename $d; done; true",
        ])
        .output()
        .expect("sh(1)");
    for address in String::from_utf8_lossy(&network.stdout).split_whitespace() {
        assert!(text("nics").contains(address), "{address}: {}", text("nics"));
    }
    assert!(text("drivers").contains("drivers of DPDK are in /usr/lib/"), "{}", text("drivers"));
    pipeline(&lab, "net_null0");
    let output = lab.tapline(&["doctor", "test.pipe", "--json"]).output().expect("the program starts");
    assert_eq!(gaps(&output), Vec::<Value>::new());
    lab.write("wrong.pipe", "port attach\n");
    let output = lab.tapline(&["doctor", "wrong.pipe"]).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_program_without_rights_is_given_them_by_the_command() {
    if !["setpriv", "setcap"].into_iter().all(has_program) || !is_root() {
        return tapline_skip::skipped("needs root, setpriv and setcap");
    }
    let lab = Lab::new();
    pipeline(&lab, "iface:lo");
    std::fs::copy(tapline(), lab.path("tapline")).expect("a copy of the program");
    let opened = Command::new("chmod").args(["-R", "a+rwX"]).arg(lab.path("")).status().expect("chmod(1)");
    assert!(opened.success());
    let doctor = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        command.arg(lab.path("tapline")).args(["doctor", "test.pipe", "--json"]);
        command.current_dir(lab.path("")).output().expect("setpriv(1)")
    };
    let found = gaps(&doctor());
    let [gap] = &found[..] else { panic!("{found:?}") };
    assert_eq!(gap["text"], "port in needs CAP_NET_RAW");
    let command = gap["command"].as_str().expect("a command");
    let mended = Command::new("sh").args(["-c", command]).status().expect("sh(1)");
    if !mended.success() {
        return tapline_skip::skipped("the file system keeps no capabilities");
    }
    assert_eq!(gaps(&doctor()), Vec::<Value>::new());
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[test]
fn offloads_of_veth_are_switched_off_by_the_commands() {
    if !has_program("ethtool") {
        return tapline_skip::skipped("ethtool is missing");
    }
    let Some(pair) = Pair::new('d') else { return };
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &pair.far]).args(arguments);
        command.output().expect("ip(8)")
    };
    inside(&["ethtool", "-K", "near", "tso", "on", "gso", "on", "tx", "on"]);
    inside(&["ethtool", "-K", "far", "gro", "on"]);
    let lab = Lab::new();
    pipeline(&lab, "iface:far");
    let program = tapline().to_string_lossy().into_owned();
    let file = lab.path("test.pipe").to_string_lossy().into_owned();
    let offloads = || {
        let all = findings(&inside(&[&program, "doctor", &file, "--json"]));
        all.into_iter().filter(|finding| finding["area"] == "offloads").collect::<Vec<_>>()
    };
    let found = offloads();
    assert_eq!(found.len(), 2, "{found:?}");
    for finding in found {
        assert_eq!(finding["level"], "advice");
        let command = finding["command"].as_str().expect("a command").to_owned();
        assert!(inside(&["sh", "-c", &command]).status.success(), "{command}");
    }
    assert_eq!(offloads(), Vec::<Value>::new());
    // without a file every interface is looked at
    inside(&["ethtool", "-K", "near", "gro", "on"]);
    let text = String::from_utf8_lossy(&inside(&[&program, "doctor"]).stdout).into_owned();
    assert!(text.contains("mend: ethtool -K near gro off\n"), "{text}");
}

#[test]
fn a_driver_that_is_missing_is_told_with_a_package_that_there_is() {
    let lab = Lab::new();
    pipeline(&lab, "net_null0");
    let program = tapline().display().to_string();
    let hidden = format!("for d in {PMDS}; do mount -t tmpfs none $d; done; ");
    let Some(output) = in_mounts(&lab, &format!("{hidden} exec {program} doctor test.pipe --json")) else {
        return;
    };
    let found = gaps(&output);
    let [gap] = &found[..] else { panic!("{found:?}") };
    let package =
        gap["command"].as_str().and_then(|command| command.strip_prefix("apt-get install ")).expect("it");
    assert!(package.starts_with("librte-net-null"), "{package}");
    if has_program("apt-cache") {
        let shown = Command::new("apt-cache").args(["show", package]).output().expect("apt-cache(8)");
        assert!(shown.status.success(), "there is a package {package}");
    }
    // the program says so, too
    let run = format!(
        "{hidden} exec {program} run test.pipe --duration 100ms --eal '{}'",
        tapline_harness::lab::EAL
    );
    let output = in_mounts(&lab, &run).expect("a mount namespace, as before");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn huge_pages_that_are_asked_for_and_are_not_there_are_a_gap() {
    let lab = Lab::new();
    pipeline(&lab, "net_null0");
    let program = tapline().display().to_string();
    let script = format!(
        "mount -t tmpfs none /sys/kernel/mm/hugepages; {program} doctor test.pipe --json; echo $? >status; exec {program} doctor test.pipe --eal --in-memory --json"
    );
    let Some(output) = in_mounts(&lab, &script) else { return };
    // the first runs on ordinary pages; the second does not run
    assert_eq!(std::fs::read_to_string(lab.path("status")).ok().as_deref(), Some("0\n"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.rfind("\n{").map_or(&text[..], |at| &text[at..]);
    let json: Value = serde_json::from_str(last).expect("JSON");
    let found: Vec<&Value> = json["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|finding| finding["level"] == "gap")
        .collect();
    let [gap] = found[..] else { panic!("{json:#}") };
    assert_eq!((&gap["area"], output.status.code()), (&Value::from("huge pages"), Some(1)));
    assert!(
        gap["command"].as_str().is_some_and(|command| command.starts_with("sysctl -w vm.nr_hugepages="))
    );
}
