//! Work on two lcores: the staged pipeline beside a bare loop of receive, ring and transmit over the same lcores, and two workers
//! beside one.
//!
//! `cargo bench --bench lcores`. Needs two CPUs. The bare loop is this program, started again with the word `bare` and the burst;
//! it calls the drivers and the ring as Tapline's own layer does, with as many packets a call, and does nothing else. Programs take
//! turns; samples are tenths of a second. Where the machine does other work, two lcores that wait for each other lose more than the
//! time that is taken from one: programs run before others (nice(1) -20, as far as the user may), and only samples in which both
//! lcores had their CPUs for nine tenths of the time count, as far as there are such.
//!
//! net_null keeps what the receive functions of all queues of a port read on the cache line where it counts the packets of queue 0:
//! two workers on two queues of one port pass that line to and fro, once a burst. So testpmd does the same work, and two ports of
//! one queue each, which share nothing, show what is Tapline's own.

#[path = "support.rs"]
#[allow(dead_code, reason = "this bench uses its own part of it")]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{has_testpmd, median, memory_args, pairs, seconds, sent_a_second};
use tapline_dpdk::driver::Devargs;
use tapline_dpdk::eal::{Memory, Options, free_huge_mib};
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::port::{Port, PortConfig};
use tapline_dpdk::{Eal, LcoreId, lcore};
use tapline_kernel::machine::available_cpus;

/// Tapline's own, and the longest.
const BURSTS: [usize; 2] = [32, 64];
const INTERVAL: Duration = Duration::from_millis(100);
/// Lcores 0 and 1 are the workers, the main thread shares their CPUs.
const LCORES: &str = "--lcores 9@(0-1),0@0,1@1 --main-lcore 9";
const ONE_LCORE: &str = "--lcores 9@(0-1),1@1 --main-lcore 9";
/// Of the bare loop's pool: as many as Tapline's has, for the rate depends on it more than on anything else.
const MBUFS: u32 = 32_767;
/// Packets in the longest burst.
const MOST: usize = 64;
/// Undisturbed samples without which all count.
const FEW: usize = 5;

/// A tenth of a second: packets, by who counts them, and what of that time each worker thread had its CPU.
struct Sample {
    packets: Vec<u64>,
    shares: Vec<f64>,
    seconds: f64,
}

fn main() {
    if std::env::args().any(|argument| argument == "bare") {
        return bare();
    }
    if available_cpus().len() < 2 {
        println!("skipped: one CPU");
        return;
    }
    for burst in BURSTS {
        staged(burst);
    }
    for burst in BURSTS {
        workers(burst, &Ports::One);
        workers(burst, &Ports::Two);
    }
}

fn staged(burst: usize) {
    let pipeline = format!(
        "set burst {burst}\nset eal \"{LCORES}\"\nset lcores receive 0 work 1\nport attach a net_null0 rxq 1 txq 0\n\
         port attach b net_null1,no-rx=1 rxq 0\ntool create t port b\nrule create 10 from a to t\nstart\n"
    );
    let mut ratios = Vec::new();
    for pair in 1..=pairs() {
        let me = std::env::current_exe().expect("a program knows its file");
        let mut command = before_others();
        command.arg(me).arg("bare").arg(burst.to_string());
        let (peer, peers_samples) =
            rate(&measure(&mut command, |line| line.parse().ok().map(|count| vec![count])));
        let (ours, our_samples) = rate(&tapline(&pipeline, |line| vec![line["copies"]["sent"].as_u64()]));
        ratios.push(ours / peer);
        println!(
            "staged burst {burst} pair {pair}: bare loop {peer:.1} Mpps ({peers_samples}), tapline {ours:.1} Mpps ({our_samples}), ratio {:.3}",
            ours / peer
        );
    }
    println!("staged burst {burst}: median ratio {:.3} (target 0.9)\n", median(&mut ratios));
}

/// Where two workers' queues are.
enum Ports {
    /// Two of one port.
    One,
    /// One of each of two ports.
    Two,
}

fn workers(burst: usize, ports: &Ports) {
    let (name, attached) = match ports {
        Ports::One => (
            "two queues",
            "port attach a net_null0 rxq 2 txq 0\nport attach b net_null1,no-rx=1 rxq 0\ntool create t port b\nrule create 10 from a to t\n",
        ),
        Ports::Two => (
            "two ports",
            "port attach a net_null0 rxq 1 txq 0\nport attach b net_null1,no-rx=1 rxq 0\ntool create t port b\nrule create 10 from a to t\n\
             port attach c net_null2 rxq 1 txq 0\nport attach d net_null3,no-rx=1 rxq 0\ntool create u port d\nrule create 20 from c to u\n",
        ),
    };
    let pipeline = |eal: &str, workers: &str| {
        format!("set burst {burst}\nset eal \"{eal}\"\nset lcores {workers}\n{attached}start\n")
    };
    let (mut ratios, mut peers) = (Vec::new(), Vec::new());
    for pair in 1..=pairs() {
        let received = |lcore: &'static str| {
            move |line: &serde_json::Value| line["lcores"][lcore]["received"].as_u64()
        };
        // workers depend on nothing of each other: each one's packets are by its own CPU time
        let one = apart(&tapline(&pipeline(ONE_LCORE, "1"), move |line| vec![received("1")(line)]));
        let two = apart(&tapline(&pipeline(LCORES, "0-1"), move |line| {
            vec![received("0")(line), received("1")(line)]
        }));
        ratios.push(two / one);
        println!(
            "workers on {name}, burst {burst}, pair {pair}: one {one:.1} Mpps, two {two:.1} Mpps, ratio {:.3}",
            two / one
        );
        if has_testpmd() && matches!(ports, Ports::One) {
            let (one, two) = (testpmd_on(1, burst), testpmd_on(2, burst));
            peers.push(two / one);
            println!("    testpmd io: one {one:.1} Mpps, two {two:.1} Mpps, ratio {:.3}", two / one);
        }
    }
    println!(
        "workers on {name}, burst {burst}: median ratio of two to one {:.3} (target 1.8)",
        median(&mut ratios)
    );
    if !peers.is_empty() {
        println!("workers on {name}, burst {burst}: testpmd's median ratio {:.3}", median(&mut peers));
    }
    println!();
}

/// Million packets that testpmd's io mode forwards in a second of its workers' time, on so many lcores from two queues of one port
/// to two of another.
fn testpmd_on(lcores: usize, burst: usize) -> f64 {
    let mut command = before_others();
    command.arg("dpdk-testpmd").args(LCORES.split(' ')).args([
        "--no-pci",
        "--log-level",
        "3",
        "--file-prefix",
        "tapline-bench",
    ]);
    command.args(memory_args()).args([
        "--vdev",
        "net_null0",
        "--vdev",
        "net_null1,no-rx=1",
        "--",
        "-i",
        "--no-mlockall",
    ]);
    command.args(["--rxq=2", "--txq=2", "--forward-mode=io", "--total-num-mbufs=16384", "--mbcache=512"]);
    command.args([format!("--nb-cores={lcores}"), format!("--burst={burst}")]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("testpmd can be started");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    let mut say =
        |line: &str| input.write_all(format!("{line}\n").as_bytes()).expect("testpmd reads its input");
    say("start");
    std::thread::sleep(Duration::from_secs(1));
    let threads = &worker_threads(child.id())[..lcores];
    let spent = || threads.iter().map(|thread| cpu_ns(thread)).sum::<u64>();
    say("show port stats all");
    let (since, before) = (Instant::now(), spent());
    std::thread::sleep(Duration::from_secs(seconds()));
    say("show port stats all");
    let share = (spent() - before) as f64 / since.elapsed().as_nanos() as f64 / lcores as f64;
    say("stop");
    say("quit");
    let output = child.wait_with_output().expect("testpmd ends");
    sent_a_second(&String::from_utf8_lossy(&output.stdout)) / share
}

/// Million packets a second, and of how many samples that is the median.
fn rate(samples: &[Sample]) -> (f64, String) {
    let of = |least: f64| {
        let kept = samples.iter().filter(|sample| sample.shares.iter().all(|&share| share >= least));
        kept.map(|sample| sample.packets[0] as f64 / sample.seconds / 1e6).collect::<Vec<f64>>()
    };
    let (mut undisturbed, mut all) = (of(0.9), of(0.0));
    let count = undisturbed.len();
    if count >= FEW {
        (median(&mut undisturbed), format!("{count} of {} samples undisturbed", all.len()))
    } else {
        (median(&mut all), format!("all of {} samples: {count} undisturbed", all.len()))
    }
}

/// Million packets in a second of each worker's CPU time, added up.
fn apart(samples: &[Sample]) -> f64 {
    let workers = samples.first().map_or(0, |sample| sample.packets.len());
    let of = |worker: usize| {
        let packets: u64 = samples.iter().map(|sample| sample.packets[worker]).sum();
        let seconds: f64 = samples.iter().map(|sample| sample.shares[worker] * sample.seconds).sum();
        packets as f64 / seconds / 1e6
    };
    (0..workers).map(of).sum()
}

fn tapline(pipeline: &str, counts: impl Fn(&serde_json::Value) -> Vec<Option<u64>>) -> Vec<Sample> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("bench.pipe");
    std::fs::write(&file, pipeline).expect("the pipeline file can be written");
    let mut command = before_others();
    command.arg(env!("CARGO_BIN_EXE_tapline")).arg("run").arg(&file).args([
        "--stats",
        "-",
        "--interval",
        "100ms",
    ]);
    measure(&mut command, |line| counts(&serde_json::from_str(line).ok()?).into_iter().collect())
}

/// What runs a program before others; as it is where the user may not.
fn before_others() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-20"]);
    command
}

/// Starts a program that prints a line of counts ten times a second, and takes a sample at each once a second of warm-up is over.
fn measure(command: &mut Command, counts: impl Fn(&str) -> Option<Vec<u64>>) -> Vec<Sample> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
    let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
    let end = Instant::now() + Duration::from_secs(seconds() + 1);
    let (mut samples, mut last, mut threads) = (Vec::new(), None, Vec::new());
    for (index, line) in lines.map_while(Result::ok).enumerate() {
        let Some(counts) = counts(&line) else { continue };
        if threads.is_empty() {
            threads = worker_threads(child.id());
        }
        let at =
            (Instant::now(), counts, threads.iter().map(|thread| cpu_ns(thread)).collect::<Vec<u64>>());
        if let Some((then, counts, cpus)) = last.replace(at.clone()).filter(|_| index > 10) {
            let passed = (at.0 - then).as_secs_f64();
            samples.push(Sample {
                packets: at.1.iter().zip(&counts).map(|(now, then): (&u64, &u64)| now - then).collect(),
                shares: at
                    .2
                    .iter()
                    .zip(&cpus)
                    .map(|(now, then): (&u64, &u64)| (now - then) as f64 / 1e9 / passed)
                    .collect(),
                seconds: passed,
            });
        }
        if Instant::now() > end {
            break;
        }
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("the program ends");
    assert!(
        !samples.is_empty(),
        "{command:?} printed no counts: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    samples
}

/// Where the kernel counts the CPU time of the process's worker lcores, by their number.
fn worker_threads(process: u32) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let mut workers: Vec<(String, PathBuf)> = tasks
        .flatten()
        .filter_map(|task| {
            Some((std::fs::read_to_string(task.path().join("comm")).ok()?, task.path().join("schedstat")))
        })
        .filter(|(name, _)| {
            ["rte-worker", "lcore-worker", "dpdk-worker"].iter().any(|known| name.starts_with(known))
        })
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, schedstat)| schedstat).collect()
}

fn cpu_ns(schedstat: &Path) -> u64 {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// What `bare` is told.
fn bare_burst() -> usize {
    std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .find(|burst| (1..=MOST).contains(burst))
        .unwrap_or(MOST)
}

/// Receives on lcore 0, hands over by a ring, transmits on lcore 1, and prints the packets sent ten times a second until it is
/// killed.
fn bare() {
    let burst = bare_burst();
    let eal = Eal::start(&Options {
        workers: vec![LcoreId(0), LcoreId(1)],
        main_cpus: available_cpus(),
        memory: if free_huge_mib() >= 200 { Memory::HugePages } else { Memory::Ordinary { mib: 256 } },
        pci_devices: Vec::new(),
        extra: LCORES.split(' ').map(str::to_owned).collect(),
    })
    .expect("EAL starts");
    let pool = Mempool::create(&eal, "bare", MBUFS, None).expect("a mempool");
    let config = |rx_queues, tx_queues| PortConfig {
        rx_queues,
        tx_queues,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        mtu: None,
        is_promiscuous: true,
        wants_groups: false,
        wants_rx_timestamps: false,
        wants_rss_hashes: false,
        wants_udp_checksums: false,
        written_len: None,
    };
    let from = Port::attach(&eal, "a", &Devargs::new("net_null0")).expect("a port");
    let to = Port::attach(&eal, "b", &Devargs::new("net_null1,no-rx=1")).expect("a port");
    let _queues = from.start(&config(1, 0), Some(&pool)).expect("the port starts");
    let _others = to.start(&config(0, 1), None).expect("the port starts");
    // SAFETY: EAL runs; the name is terminated and no other ring has it; the flags are those of one producer and one consumer.
    let ring = unsafe { dpdk_sys::rte_ring_create(c"bare".as_ptr(), 1024, -1, 3) } as usize;
    assert_ne!(ring, 0, "a ring");
    let (from, to) = (from.id().0, to.id().0);
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let _receiver = lcore::launch(&eal, LcoreId(0), move || {
        let ring = ring as *mut dpdk_sys::rte_ring;
        let mut mbufs = [std::ptr::null_mut(); MOST];
        loop {
            // SAFETY: the port was started with queue 0, which no other lcore polls; the array has room for as many mbufs.
            let count =
                usize::from(unsafe { dpdk_sys::tl_rx_burst(from, 0, mbufs.as_mut_ptr(), burst as u16) });
            let mut begun = 0;
            while begun < count {
                // SAFETY: the ring lives as long as the process, this lcore is its one producer, and these mbufs are ours.
                begun += unsafe {
                    dpdk_sys::tl_ring_enqueue(
                        ring,
                        mbufs[begun..count].as_mut_ptr(),
                        (count - begun) as u32,
                    )
                } as usize;
            }
        }
    })
    .expect("lcore 0 is idle");
    let _sender = lcore::launch(&eal, LcoreId(1), move || {
        let ring = ring as *mut dpdk_sys::rte_ring;
        let mut mbufs = [std::ptr::null_mut(); MOST];
        loop {
            // SAFETY: this lcore is the ring's one consumer; the array has room for as many mbufs.
            let count =
                unsafe { dpdk_sys::tl_ring_dequeue(ring, mbufs.as_mut_ptr(), burst as u32) } as usize;
            let mut begun = 0;
            while begun < count {
                // SAFETY: the port was started with transmit queue 0, which no other lcore uses; the mbufs came from the ring.
                begun += usize::from(unsafe {
                    dpdk_sys::tl_tx_burst(to, 0, mbufs[begun..count].as_mut_ptr(), (count - begun) as u16)
                });
            }
            counter.store(counter.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
        }
    })
    .expect("lcore 1 is idle");
    let mut output = std::io::stdout();
    while writeln!(output, "{}", sent.load(Ordering::Relaxed)).is_ok() {
        std::thread::sleep(INTERVAL);
    }
    std::process::exit(0);
}
