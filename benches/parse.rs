//! Parse and flow hash: ns per packet, in bursts of 64, on packets that are hot in the cache.
//!
//! Each figure is the least and the median of some repetitions within one run; compare figures of one run only.

use std::hint::black_box;
use std::time::Instant;

use tapline_api::words::HashKind;
use tapline_datapath::flow::hash::{HashSpec, flow_hash_burst, parse_depth};
use tapline_packet::burst::{Known, MAX_BURST, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::layers::{Depth, Layers, parse_burst};
use tapline_traffic::packets;

/// Many short repetitions: on a shared machine some of them run undisturbed.
const REPETITIONS: usize = 401;
const PACKETS_A_REPETITION: usize = 1 << 14;
/// Buckets of the table behind the hash, as a group has it.
const BUCKETS: usize = 4096;

fn main() {
    println!(
        "a chain of multiply and or: {:.2} ns a link (4 cycles; tells how fast the core runs at this moment)",
        clock()
    );
    println!("{:<34} {:>8} {:>22} {:>8} {:>8}", "stage", "packets", "mix", "min ns", "median");
    for (mix, tunnels) in [("plain", 0), ("25 % tunnels", 25)] {
        for count in [256, 4096] {
            let packets = packets::mix(count, 1, tunnels);
            let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
            stages(mix, &frames);
        }
    }
}

fn stages(mix: &str, frames: &[Frame<'_>]) {
    let report = |stage: &str, (min, median): (f64, f64)| {
        println!("{stage:<34} {:>8} {mix:>22} {min:>8.2} {median:>8.2}", frames.len())
    };
    let mut layers = [Layers::EMPTY; MAX_BURST];
    report(
        "touch the first byte",
        time(frames, |burst| burst.iter().map(|f| u32::from(f.bytes()[12])).sum()),
    );
    for depth in [Depth::Outer, Depth::Full] {
        let figures = time(frames, |burst| {
            parse_burst(burst, depth, &mut layers);
            black_box(&layers)[0].outer.l3() as u32
        });
        report(&format!("parse {depth:?}"), figures);
    }
    let table: Vec<u8> = (0..BUCKETS).map(|i| (i % 8) as u8).collect();
    let mut hashes = [0; MAX_BURST];
    for (kind, depth) in [
        (HashKind::Ip, Depth::Outer),
        (HashKind::FiveTuple, Depth::Outer),
        (HashKind::Mac, Depth::Outer),
        (HashKind::FiveTuple, Depth::Full),
        (HashKind::Vni, Depth::Outer),
    ] {
        let figures = time(frames, |burst| {
            parse_burst(burst, parse_depth(kind, depth), &mut layers);
            flow_hash_burst(
                HashSpec { kind, depth, seed: 7 },
                burst,
                Known::all(black_box(&layers)),
                Selection::first(burst.len()),
                &mut hashes,
            );
            hashes[..burst.len()].iter().map(|hash| u32::from(table[*hash as usize % BUCKETS])).sum()
        });
        report(&format!("parse, hash {kind:?} {depth:?}, look up"), figures);
    }
}

/// ns of a multiplication and an or that depend on those before: 4 cycles on x86-64.
fn clock() -> f64 {
    const LINKS: u64 = 1 << 16;
    let chain = || {
        let start = Instant::now();
        black_box((0..LINKS).fold(black_box(3u64), |x, _| x.wrapping_mul(x | 1)));
        start.elapsed().as_nanos() as f64 / LINKS as f64
    };
    (0..REPETITIONS).map(|_| chain()).fold(f64::MAX, f64::min)
}

/// Least and median ns per packet of `stage` over bursts of `frames`.
fn time(frames: &[Frame<'_>], mut stage: impl FnMut(&[Frame<'_>]) -> u32) -> (f64, f64) {
    let rounds = PACKETS_A_REPETITION / frames.len();
    let mut figures: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..rounds {
                for burst in frames.chunks(MAX_BURST) {
                    black_box(stage(black_box(burst)));
                }
            }
            start.elapsed().as_nanos() as f64 / (rounds * frames.len()) as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[REPETITIONS / 2])
}
