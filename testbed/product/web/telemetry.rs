//! DPDK's telemetry socket, by DPDK's own program.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::programs::has_programs;

/// The socket is one for each `--file-prefix`: others may run beside this test.
#[test]
fn dpdks_own_program_reads_our_commands() {
    if !has_programs(&["dpdk-telemetry.py", "python3"]) {
        return tapline_skip::skipped("no dpdk-telemetry.py (testbed/packages bench)");
    }
    let lab = Lab::new();
    lab.write(
        "test.pipe",
        "set telemetry on\nset idle sleep\nport attach in net_null0,copy=0\ntool create d-1 discard\nrule create 10 from in to d-1\nstart\n",
    );
    let prefix = format!("tapline-{}", std::process::id());
    let eal = format!("{EAL} --file-prefix {prefix}").replace("--no-telemetry", "");
    let started =
        lab.start(&mut lab.tapline(&["run", "test.pipe", "--eal", &eal, "--stats", "stats.json"]));
    lab.until("packets", |line| line["packets"]["received"].as_u64() > Some(0));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let mut program = Command::new("dpdk-telemetry.py")
        .args(["-f", &prefix])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("dpdk-telemetry.py");
    let asked = "/tapline/packets\n/tapline/ports\n/tapline/port,in\n/tapline/tools\n/tapline/tool,d-1\n/tapline/lcores\n/tapline/tool,nothing\nquit\n";
    program.stdin.take().expect("a pipe").write_all(asked.as_bytes()).expect("it reads");
    let output = program.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<Value> = text
        .lines()
        .filter_map(|line| line.find("{\"/tapline").map(|start| &line[start..]))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |command: &str| {
        answers.iter().find_map(|answer| answer.get(command)).unwrap_or_else(|| panic!("{command}: {text}"))
    };
    assert!(of("/tapline/packets")["received"].as_u64() > Some(0), "{text}");
    assert_eq!(of("/tapline/packets")["balanced"], 1);
    assert_eq!(
        (&of("/tapline/ports")[0], &of("/tapline/tools")[0]),
        (&Value::from("in"), &Value::from("d-1"))
    );
    assert!(
        of("/tapline/tool")["sent"].as_u64() > Some(0)
            && of("/tapline/port")["received"].as_u64() > Some(0)
    );
    assert_eq!(answers.last().and_then(|answer| answer.get("/tapline/tool")), Some(&Value::Null), "{text}");
    started.signal("TERM");
    lab.end(started).done();
}
