//! Fuzz body for whole workers: a plan of anything that the language has, and bursts of frames of every kind, whole, cut, bent and
//! nested, go through ports, workers, rings and tools as `start` makes them, in one thread.
//!
//! Whatever the input is: nothing panics, every packet has one disposition and every copy one end, on every level that counts them,
//! and every mbuf is back in its pool.

#[path = "worker/frames.rs"]
pub(super) mod frames;
#[path = "worker/pipeline.rs"]
pub(super) mod pipeline;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use frames::{Shot, shots};
use pipeline::{Input, pipeline};
use tapline::broker::bench::Bench;
use tapline::plan::{Surroundings, plan};
use tapline_datapath::ids::{PortId, ToolId};
use tapline_datapath::worker::Led;
use tapline_dpdk::eal::{Eal, Memory, Options};
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::mempool::Mempool;
use tapline_kernel::machine::available_cpus;
use tapline_lang::parse_text;
use tapline_packet::frame::Frame;

/// Numbers out of the input's bytes; zeros behind its end.
pub(super) struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(if limit > 256 { self.word() } else { self.byte().into() }) % limit.max(1)
    }

    /// True once in so many.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What became of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// So many packets went through, and stages panicked so often.
    Ran { packets: u64, panics: u64 },
    /// The pipeline has a mistake.
    Mistaken,
    /// The pipeline cannot be set up here.
    Refused,
}

/// Bytes that choose the pipeline; the packets are chosen by the rest.
pub(super) const PIPELINE_BYTES: usize = 256;

/// EAL, and a pool for packets that are put into rings: once a process.
struct Hall {
    eal: Eal,
    pool: Arc<Mempool>,
    folder: PathBuf,
}

fn hall() -> &'static Hall {
    static HALL: OnceLock<Hall> = OnceLock::new();
    HALL.get_or_init(|| {
        let options = Options {
            workers: Vec::new(),
            main_cpus: available_cpus(),
            memory: Memory::Ordinary { mib: 384 },
            pci_devices: Vec::new(),
            extra: Vec::new(),
        };
        let eal = Eal::start(&options).expect("EAL starts on ordinary pages");
        let pool = Mempool::create(&eal, "fuzz", 8191, None).expect("memory for a pool");
        let folder = std::env::temp_dir().join(format!("tapline-fuzz-{}", std::process::id()));
        Hall { eal, pool, folder }
    })
}

/// Devices and files have names: one run at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Removes what runs left in the file system.
pub(super) fn clean_up() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = std::fs::remove_dir_all(&hall().folder);
}

/// The pipeline that an input chooses.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let (chosen, _) = bytes.split_at(bytes.len().min(PIPELINE_BYTES));
    pipeline(&mut Choices(chosen), &hall().folder).0
}

/// Runs one input.
pub(super) fn worker(bytes: &[u8]) -> Outcome {
    run(bytes, None)
}

/// Runs one input in which a stage panics, as [`tapline_fault`] is told by `fault`: what the burst held is accounted for all the same.
#[allow(dead_code, reason = "builds without debug assertions have no faults")]
pub(super) fn broken(bytes: &[u8], fault: &str) -> Outcome {
    run(bytes, Some(fault))
}

fn run(bytes: &[u8], fault: Option<&str>) -> Outcome {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let is_told = std::env::var_os("TAPLINE_FUZZ_SHOW").is_some();
    let hall = hall();
    std::fs::create_dir_all(&hall.folder).expect("a folder for captures");
    std::fs::write(hall.folder.join(pipeline::LIST), pipeline::PREFIXES).expect("a writable folder");
    let may_panic = fault.is_some();
    arm(fault.unwrap_or_default());
    let (chosen, rest) = bytes.split_at(bytes.len().min(PIPELINE_BYTES));
    let (text, inputs) = pipeline(&mut Choices(chosen), &hall.folder);
    let bursts = shots(&mut Choices(rest), &inputs);
    // files are read when the plan is made
    for (index, input) in inputs.iter().enumerate() {
        if let Input::File { path } = input {
            let packets: Vec<&Shot> = bursts.iter().flatten().filter(|shot| shot.input == index).collect();
            std::fs::write(path, frames::pcap(&packets)).expect("a writable folder");
        }
    }
    if is_told {
        eprintln!("{text}");
        for (index, shot) in bursts.iter().flatten().enumerate() {
            eprintln!(
                "{index}: input {} split {:?} of {} : {:02x?}",
                shot.input, shot.split, shot.original_len, shot.bytes
            );
        }
    }
    let mut parsed = parse_text("fuzz.pipe", &text, &[]);
    let Some(plan) = plan(&mut parsed, &Surroundings::system()) else {
        if is_told {
            eprintln!("{}", parsed.diagnostics.render(&parsed.sources));
        }
        return Outcome::Mistaken;
    };
    let begun = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut bench = match Bench::set_up(&hall.eal, plan) {
        Ok(bench) => bench,
        Err(error) => {
            if is_told {
                eprintln!("{error}");
            }
            // what a broker holds that could not be set up is given back, too
            assert_eq!(hall.eal.lost_mbufs(), 0, "mbufs of run {begun} that was refused ({error})\n{text}");
            return Outcome::Refused;
        }
    };
    let mut order = Choices(chosen);
    for burst in &bursts {
        put(&mut bench, &inputs, burst);
        let workers = bench.workers().len();
        for _ in 0..=2 * workers {
            let worker = order.below(workers);
            make_turn(&mut bench.workers()[worker], may_panic, &text);
        }
        match order.below(12) {
            0 => bench.watch(),
            1 if !may_panic => bench.workers().iter_mut().for_each(|worker| {
                worker.bypass();
            }),
            kind @ (2 | 3) => {
                let egresses = bench.plan().egresses();
                let place = order.below(egresses.count());
                if place < egresses.tool_count() {
                    bench.set_drained(ToolId(place), kind == 2);
                }
            }
            _ => {}
        }
    }
    // files to their ends; rings that tools send to may never be empty
    for _ in 0..200 {
        if !bench
            .workers()
            .iter_mut()
            .fold(false, |is_busy, worker| make_turn(worker, may_panic, &text) | is_busy)
        {
            break;
        }
    }
    assert!(bench.failures().is_empty(), "{:?}\n{text}", bench.failures());
    let (snapshot, copies) = bench.end().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let packets = snapshot.packets;
    assert!(packets.is_balanced(), "{packets:?}\n{text}");
    let received: u64 = snapshot.ports.iter().map(|(_, port)| port.received).sum();
    assert_eq!(received, packets.received, "by port, and in all\n{text}");
    for (egress, (requested, ended)) in copies.into_iter().enumerate() {
        assert_eq!(requested, ended, "egress {egress}: requested, and ended\n{text}");
    }
    assert!(snapshot.copies.is_balanced(), "{:?}\n{text}", snapshot.copies);
    assert!(snapshot.balanced, "groups and wires\n{text}");
    let panics: u64 = snapshot.lcores.iter().map(|(_, lcore)| lcore.panics).sum();
    assert!(may_panic || panics == 0, "{panics} panics\n{text}");
    assert_eq!(hall.eal.lost_mbufs(), 0, "mbufs that nobody gave back\n{text}");
    assert_eq!(hall.pool.in_use(), 0, "mbufs that nobody gave back\n{text}");
    Outcome::Ran { packets: packets.received, panics }
}

/// Gives rings their part of a burst.
fn put(bench: &mut Bench, inputs: &[Input], shots: &[Shot]) {
    let hall = hall();
    for (index, input) in inputs.iter().enumerate() {
        let Input::Ring { port } = input else { continue };
        let own: Vec<&Shot> = shots.iter().filter(|shot| shot.input == index).collect();
        for part in own.chunks(64) {
            let frames: Vec<Frame<'_>> = part.iter().map(|shot| Frame::whole(&shot.bytes)).collect();
            let mut burst = MbufBurst::default();
            burst.copy_of(&hall.pool, &frames);
            for (place, shot) in part.iter().enumerate() {
                for &keep in &shot.split {
                    burst.split(&hall.pool, place, keep);
                }
                if let Some((hash, kind)) = shot.rss {
                    burst.note_rss(place, hash, kind);
                }
            }
            bench.put(PortId(*port), &mut burst);
        }
    }
}

#[cfg(debug_assertions)]
use tapline_fault::arm;

/// Nothing is left of faults in this build.
#[cfg(not(debug_assertions))]
fn arm(_fault: &str) {}

/// Whether there was anything to do. A worker that may panic goes on afterwards.
fn make_turn(worker: &mut Led, may_panic: bool, text: &str) -> bool {
    if !may_panic {
        return worker.turn();
    }
    assert!(worker.survive(), "the worker cannot go on\n{text}");
    true
}
