//! Whole workers as the fuzz target runs them, and mutated captures through random plans in the program, for as long as
//! `TAPLINE_FUZZ_SECONDS` says; and every file that once made whole workers fail (testbed/fuzz/crashes/worker/).

#[path = "../fuzz/bodies/worker.rs"]
mod worker;

use std::path::Path;
use std::time::{Duration, Instant};

use tapline_harness::captures;
use tapline_harness::lab::Lab;
use tapline_harness::pcap_files;
use tapline_harness::spans::span;
use tapline_traffic::Noise;

#[test]
fn what_once_failed_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/fuzz/crashes/worker");
    for file in folder.read_dir().into_iter().flatten().flatten() {
        worker::worker(&std::fs::read(file.path()).expect("a readable file"));
    }
}

/// The variable that says for how many seconds whole workers, and mutated captures, are tried.
const SECONDS: &str = "TAPLINE_FUZZ_SECONDS";

/// One of so many, at random.
fn below(noise: &mut Noise, limit: usize) -> usize {
    noise.below(limit as u64) as usize
}

/// A captured frame, whole or cut or with a byte changed, as an input of whole workers says that it is to be taken as it is.
fn taken(noise: &mut Noise, captured: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = captured[below(noise, captured.len())].clone();
    let at = below(noise, frame.len() + 1);
    match below(noise, 4) {
        0 => frame.truncate(at),
        1 => frame.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << below(noise, 8)),
        _ => {}
    }
    let said = worker::frames::AS_IT_IS;
    let (repeats, input) = (noise.next() as u8, noise.next() as u8);
    [&[said][..], &(frame.len() as u16).to_be_bytes(), &frame, &[0, repeats, input, 0, 0, 0, 0]].concat()
}

/// Of this run, unless `TAPLINE_FUZZ_SEED` says another's: it makes the same inputs again.
fn seed() -> u64 {
    let said = std::env::var("TAPLINE_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = said
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_nanos() as u64));
    eprintln!("seed {seed}");
    seed
}

#[test]
fn whole_workers_account_for_every_packet_of_random_plans_and_frames() {
    assert_eq!(all_is_accounted_for(span(SECONDS, 15), |_, bytes| worker::worker(bytes)), 0);
}

/// Places where stages can panic; those that end with a colon are passed by packets.
#[cfg(debug_assertions)]
const PLACES: [&str; 12] = [
    "receive",
    "stamp",
    "terminate:",
    "classify:",
    "rule",
    "route:",
    "make:",
    "settle",
    "egress:",
    "record:",
    "merge",
    "spread:",
];

#[test]
#[cfg(debug_assertions)]
fn whole_workers_account_for_every_packet_of_bursts_in_which_a_stage_panics() {
    let panics = all_is_accounted_for(span(SECONDS, 10), |noise, bytes| {
        let place = PLACES[below(noise, PLACES.len())];
        let packet = if place.ends_with(':') { (noise.next() % 64).to_string() } else { String::new() };
        worker::broken(bytes, &format!("{place}{packet}@{}", 1 + noise.next() % 12))
    });
    assert!(panics > 0, "no place was passed");
}

/// Runs random inputs for so long; how often stages panicked.
fn all_is_accounted_for(limit: Duration, run: impl Fn(&mut Noise, &[u8]) -> worker::Outcome) -> u64 {
    let seed = seed();
    let (mut noise, begun) = (Noise(seed.wrapping_mul(2) | 1), Instant::now());
    let captured = captured();
    let (mut ran, mut mistaken, mut refused, mut packets, mut panics) = (0u64, 0u64, 0u64, 0, 0);
    while begun.elapsed() < limit || ran == 0 {
        let len = worker::PIPELINE_BYTES + (noise.next() % 400) as usize;
        let mut bytes = noise.bytes(len);
        if !captured.is_empty() && below(&mut noise, 3) == 0 {
            bytes.truncate(worker::PIPELINE_BYTES);
            bytes.extend((0..40).flat_map(|_| taken(&mut noise, &captured)));
        }
        let this = ran + mistaken + refused;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut noise, &bytes)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let path = std::env::temp_dir().join(format!("tapline-fuzz-crash-{seed}-{this}"));
            let _ = std::fs::write(&path, &bytes);
            eprintln!("input {this} of seed {seed} is in {}:\n{}", path.display(), worker::text_of(&bytes));
            std::panic::resume_unwind(panic);
        });
        match outcome {
            worker::Outcome::Ran { packets: further, panics: more } => {
                (ran, packets, panics) = (ran + 1, packets + further, panics + more);
            }
            worker::Outcome::Mistaken => mistaken += 1,
            worker::Outcome::Refused => refused += 1,
        }
    }
    worker::clean_up();
    let rate = ran as f64 / begun.elapsed().as_secs_f64();
    eprintln!(
        "{ran} plans and {packets} packets ran, {rate:.0} plans a second, {panics} panics; {mistaken} plans were mistaken, {refused} refused"
    );
    assert!(ran > mistaken + refused, "most plans are for nothing");
    panics
}

/// Frames of public captures, where those are there.
fn captured() -> Vec<Vec<u8>> {
    let folder = captures::place();
    let files = folder.join("zeek").read_dir().into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "pcap")).collect();
    files.sort();
    if files.is_empty() {
        tapline_skip::skipped(format_args!(
            "public captures, which {} does not have; the traffic of the demo stays",
            folder.display()
        ));
    }
    files.iter().flat_map(|path| pcap_files::packets(path)).collect()
}

#[test]
fn mutated_captures_through_random_plans_end_with_both_identities() {
    let seed = seed();
    let (mut noise, begun, limit) = (Noise(seed.wrapping_mul(2) | 1), Instant::now(), span(SECONDS, 12));
    let mut given = captured();
    given.extend(tapline_traffic::office().packets.into_iter().map(|packet| packet.bytes));
    let (mut runs, mut received) = (0, 0);
    while begun.elapsed() < limit || runs == 0 {
        let lab = Lab::new();
        let pipeline = noise.bytes(worker::PIPELINE_BYTES);
        let pipeline = worker::pipeline::of_captures(&mut worker::Choices(&pipeline), &lab.path(""));
        let choices = noise.bytes(40_000);
        let shots = worker::frames::mutated(&mut worker::Choices(&choices), &given, 3000);
        lab.write("in.pcap", worker::frames::pcap(&shots.iter().collect::<Vec<_>>()));
        lab.write("test.pipe", &pipeline);
        lab.write(worker::pipeline::LIST, worker::pipeline::PREFIXES);
        let check = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
        if check.status == Some(2) {
            // two clauses that do not go together
            continue;
        }
        eprintln!("run {runs} of seed {seed}:\n{pipeline}");
        // a plan that sends to a ring what it takes from it is never idle
        let account = lab.account(&pipeline, &["--exit-idle", "300ms", "--duration", "60s"]);
        received += account.number("packets/received");
        runs += 1;
    }
    eprintln!("{runs} runs received {received} packets in {:.0} s", begun.elapsed().as_secs_f64());
    assert!(received > 0, "nothing came");
}
