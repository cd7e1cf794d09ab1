//! What the kernel does not let the process have is said by its name, and by nothing else.

use std::process::Command;

use tapline_harness::lab::{EAL, Ended, Lab, office};
use tapline_harness::programs::tapline;

const PIPELINE: &str =
    "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\nrule create 1 from in to t\n";

/// Runs a pipeline, with further flags, from a shell that has done `before`, such as lowered a limit.
fn run_after(lab: &Lab, before: &str, pipeline: &str, flags: &str) -> Ended {
    office(lab);
    lab.write("test.pipe", pipeline);
    let tapline = tapline().display();
    let script =
        format!("{before}\nexec {tapline} run test.pipe --exit-idle 300ms {flags} --eal \"{EAL}\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(lab.path("."));
    lab.end(lab.start(&mut command))
}

#[test]
fn too_few_open_files_are_refused_with_the_number_that_is_needed_and_how_to_allow_them() {
    let mut refused = 0;
    for most in 9..=40 {
        let lab = Lab::new();
        let ended = run_after(&lab, &format!("ulimit -n {most}"), PIPELINE, "");
        if ended.status == Some(0) {
            // it has what it needs, and so has every larger number
            break;
        }
        refused += 1;
        let said = ended.failed(1);
        let is_named =
            said.contains(&format!("open files: {most} are allowed")) && said.contains("ulimit -n 1024");
        assert!(is_named || said.contains("Too many open files"), "{most}: {said}");
        assert!(!said.contains("huge pages"), "{most}: {said}");
    }
    assert!((1..31).contains(&refused), "{refused} limits are refused");
}

#[test]
fn a_limit_of_file_sizes_is_a_full_disk_to_captures_and_ends_nobody() {
    let lab = Lab::new();
    let pipeline = PIPELINE.replace("create t discard", "create t capture out.pcapng");
    // 8 blocks of 1024 bytes
    let ended = run_after(&lab, "ulimit -f 8", &pipeline, "");
    let said = ended.failed(1);
    assert!(said.contains("tool t: out.pcapng: File too large"), "{said}");
    // standard error and output are files too, of less than 1024 bytes
    let ended = run_after(&lab, "ulimit -f 1", PIPELINE, "--stats stats.jsonl");
    let said = ended.failed(1);
    assert!(said.contains("stats.jsonl: statistics cannot be written: File too large"), "{said}");
}

/// Whether this test may make a mount namespace; says so where it may not.
fn has_namespaces() -> bool {
    let is_there =
        Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !is_there {
        tapline_skip::skipped("no mount namespace can be made (unshare --mount)");
    }
    is_there
}

/// Runs the pipeline where `folder` is empty.
fn run_without(folder: &str, eal: &str) -> Ended {
    let lab = Lab::new();
    office(&lab);
    lab.write("test.pipe", PIPELINE);
    let tapline = tapline().display();
    let script = format!(
        "mount -t tmpfs none {folder} && exec {tapline} run test.pipe --exit-idle 300ms --eal \"{eal}\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", &script]).current_dir(lab.path("."));
    lab.end(lab.start(&mut command))
}

#[test]
fn without_sysfs_it_is_said_what_is_missing() {
    if !has_namespaces() {
        return;
    }
    let ended = run_without("/sys", EAL);
    let stdout = ended.stdout.clone();
    let said = ended.failed(1);
    assert!(
        said.contains("error: /sys is not there: EAL reads /sys/devices/system/cpu; mount it: "),
        "{said}"
    );
    assert!(!stdout.contains("Usage"), "{stdout}");
}

#[test]
fn why_dpdk_aborts_is_said_before_it_does() {
    if !has_namespaces() {
        return;
    }
    // EAL looks there for where huge pages are mounted, which these arguments ask for
    let ended = run_without("/proc", "--in-memory --no-pci --no-telemetry");
    assert_eq!(ended.status, None, "a signal ends it: {}", ended.stderr);
    assert!(
        ended.stderr.contains("PANIC in ") && ended.stderr.contains("Cannot open /proc/mounts"),
        "{}",
        ended.stderr
    );
    // what it does not ask for is not missed
    let ended = run_without("/proc", EAL);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
}

/// A control group of its own for 150 MiB, below that of this process.
struct Group(std::path::PathBuf);

impl Group {
    /// `None`, after saying so, where none can be made.
    fn new() -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let of_version = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            match (parts.next()?, parts.next()?.trim_start_matches('/')) {
                ("memory", path) => {
                    Some(("/sys/fs/cgroup/memory", path.to_owned(), "memory.limit_in_bytes"))
                }
                ("", path) => Some(("/sys/fs/cgroup", path.to_owned(), "memory.max")),
                _ => None,
            }
        };
        let group = own.lines().filter_map(of_version).find_map(|(mount, path, limit)| {
            let folder =
                std::path::Path::new(mount).join(path).join(format!("tapline-test-{}", std::process::id()));
            std::fs::create_dir(&folder).ok()?;
            let group = Group(folder);
            std::fs::write(group.0.join(limit), (150u64 << 20).to_string()).ok()?;
            Some(group)
        });
        if group.is_none() {
            tapline_skip::skipped("no control group for memory can be made");
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // what ran in it has ended; the kernel takes a moment to see that
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn memory_beyond_the_limit_of_the_control_group_is_refused_before_it_is_taken() {
    let Some(group) = Group::new() else { return };
    let lab = Lab::new();
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let pipeline = PIPELINE.replace("from in to", "from in dedup window 1s memory 1Gi to");
    let said = run_after(&lab, &enter, &pipeline, "").failed(1);
    let limit = group.0.display().to_string();
    assert!(
        said.contains("what rules remember takes 1024 MiB of memory") && said.contains(&limit),
        "{said}"
    );
    // what the machine has is not what the group may have, of mempools either
    office(&lab);
    lab.write("test.pipe", format!("set mempool 100000\n{PIPELINE}"));
    let script = format!("{enter}\nexec {} run test.pipe --exit-idle 300ms", tapline().display());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(lab.path("."));
    let ended = lab.end(lab.start(&mut command));
    if ended.status == Some(0) {
        // huge pages are none of the group's
        assert!(!ended.stderr.contains("no huge pages"), "{}", ended.stderr);
        return;
    }
    let said = ended.failed(1);
    assert!(said.contains("error: mempools: ") && said.contains(&limit), "{said}");
}
