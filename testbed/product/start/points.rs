//! Each place where a start can fail is made to fail, at each time that it is passed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tapline_fault::START;
use tapline_harness::lab::{Ended, Lab, office};

/// Passes every place: stages on two lcores, a replay, a wire, tunnels by the same port, captures, dedup.
const PIPELINE: &str = "set eal \"--lcores 9@0,(1-2)@0 --main-lcore 9\"\n\
    set idle sleep\n\
    set lcores receive 1 work 2 transmit 1\n\
    port attach in net_null0 rxd 64 txd 64\n\
    port attach tape replay:in.pcap,loop=forever\n\
    port attach out net_null1 rxd 64 txd 64\n\
    port attach a net_null2 rxd 64 txd 64\n\
    port attach b net_null3 rxd 64 txd 64\n\
    wire create w ports a,b\n\
    tool create tunnel port out gre src 198.18.0.1 dst 198.18.0.2 queue 64\n\
    tool create ordered port out order window 1ms queue 64\n\
    tool create c capture c.pcapng queue 64\n\
    tool create d capture d.pcapng queue 64\n\
    rule create 10 from in,tape dedup window 1ms memory 1Mi to tunnel,ordered,c,d\n\
    start\n";

/// What is said at each place: what it was about, and what is wrong.
const SAID: [(&str, &str); START.len()] = [
    ("start.signals", "error: signals cannot be handled: "),
    ("start.statistics", "error: stats.json: permission denied"),
    ("start.prompt", "error: standard input cannot be read beside the run: "),
    ("start.placement", "error: lcore 0: this machine gives Tapline the CPUs none"),
    ("start.tables", "error: what rules remember takes 1 MiB of memory"),
    ("start.memory", "error: mempools: "),
    ("start.mounts", " is not there: EAL reads "),
    ("start.descriptors", "error: open files: 3 are allowed, and DPDK needs "),
    ("start.eal", "error: EAL: rte_eal_init: Cannot allocate memory"),
    ("start.lcore", "error: lcore "),
    ("start.attach", "rte_dev_probe: Cannot allocate memory"),
    ("start.info", "rte_eth_dev_info_get: Cannot allocate memory"),
    ("start.mempool", "rte_pktmbuf_pool_create: Cannot allocate memory"),
    ("start.configure", "rte_eth_dev_configure: Cannot allocate memory"),
    ("start.queue_sizes", "rte_eth_dev_adjust_nb_rx_tx_desc: Cannot allocate memory"),
    ("start.rx_queue", "rte_eth_rx_queue_setup: Cannot allocate memory"),
    ("start.tx_queue", "rte_eth_tx_queue_setup: Cannot allocate memory"),
    ("start.port", "rte_eth_dev_start: Cannot allocate memory"),
    ("start.stamps", "error: mbufs: rte_mbuf_dyn_rx_timestamp_register: Cannot allocate memory"),
    ("start.ring", "rte_ring_create: Cannot allocate memory"),
    ("start.launch", "rte_eal_remote_launch: Cannot allocate memory"),
    ("start.capture", "pcapng: permission denied"),
    ("start.writer", ": its writer cannot be started: "),
];

/// Runs the pipeline with a fault; files of DPDK's would lie in the lab's `run`.
fn run(lab: &Lab, fault: &str) -> Ended {
    lab.write("test.pipe", PIPELINE);
    let arguments = ["run", "test.pipe", "--duration", "1ms", "--stats", "stats.json", "-i"];
    let mut command = lab.tapline(&arguments);
    command.stdin(Stdio::null());
    command.env("TAPLINE_FAULT", fault).env("RUNTIME_DIRECTORY", lab.path("run"));
    lab.end(lab.start(&mut command))
}

fn huge_files() -> Vec<String> {
    let entries = std::fs::read_dir("/dev/hugepages").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains("tapline") || name.contains("map_"));
    names.sort();
    names
}

/// EAL makes folders in any case, and with what Tapline tells it nothing in them.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn assert_nothing_is_left(lab: &Lab, ended: &Ended, what: &str) {
    let left = files_below(&lab.path("run"));
    assert!(left.is_empty(), "{what}: files of DPDK's are left: {left:?}");
    for fault in ["panicked", "EAL is not ended", "Segmentation"] {
        assert!(!ended.stderr.contains(fault), "{what}: {}", ended.stderr);
    }
}

#[test]
fn every_place_of_a_start_can_fail_each_time_that_it_is_passed() {
    let huge = huge_files();
    // several at a time: most of a start is waiting
    std::thread::scope(|scope| {
        for places in START.chunks(START.len().div_ceil(4)) {
            scope.spawn(move || places.iter().for_each(|place| fail_at(place)));
        }
    });
    assert_eq!(huge_files(), huge, "files of huge pages are left");
}

/// Makes a place fail at the first time that it is passed, the second, and so on, until the run gets by.
fn fail_at(place: &str) {
    let said = SAID.iter().find(|(known, _)| *known == place).expect("every place says something").1;
    let mut passes = 0;
    loop {
        let fault = format!("{place}@{}", passes + 1);
        let lab = Lab::new();
        office(&lab);
        std::fs::create_dir(lab.path("run")).expect("a writable folder");
        let ended = run(&lab, &fault);
        assert_nothing_is_left(&lab, &ended, &fault);
        if ended.status == Some(0) {
            break;
        }
        assert_eq!(ended.status, Some(1), "{fault}: {}", ended.stderr);
        let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(said), "{fault}: {said} is not in: {}", ended.stderr);
        passes += 1;
    }
    assert!(passes > 0, "{place} is not passed");
    println!("{place}: {passes}");
}

#[test]
fn a_capture_whose_folder_is_missing_is_named_whatever_the_ports_are() {
    let lab = Lab::new();
    office(&lab);
    for device in ["net_null0", "net_pcap0,rx_pcap=in.pcap", "replay:in.pcap"] {
        let pipeline = |path: &str| {
            format!(
                "port attach a {device}\ntool create r capture {path}\nrule create 10 from a to r\nstart\n"
            )
        };
        let said = lab.run(&pipeline("nodir/x.pcapng"), &["--duration", "100ms"]).failed(1);
        assert!(
            said.contains("error: tool r: nodir/x.pcapng: No such file or directory"),
            "{device}: {said}"
        );
        // the file is right, and may be run where the folder is
        let checked = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
        let warning =
            "test.pipe:2:23: warning: `nodir/x.pcapng` cannot be made: there is no folder `nodir`";
        assert_eq!(
            (checked.status, checked.stderr.contains(warning)),
            (Some(0), true),
            "{}",
            checked.stderr
        );
        let said = lab.run(&pipeline("."), &["--duration", "100ms"]).failed(2);
        assert!(said.contains("test.pipe:2:23: error: `.` is a folder"), "{device}: {said}");
    }
}
