//! Filters over a burst: Tapline's native code and interpreter beside libpcap's `bpf_filter` and DPDK's `rte_bpf` JIT.
//!
//! Prints nanoseconds a packet, the least of rounds that alternate between the engines, bursts of 64, prefetch of each packet's
//! first line included for all. Hot: 256 packets, whose branches the processor learns too. Cold: 65 536 packets.

mod filter_peers;
mod traffic;

use std::hint::black_box;
use std::time::Instant;

use filter_peers::{BpfFilter, RteBpf, rte_bpf};
use tapline_filter::compile;
use tapline_filter::{Filters, Program};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;
use traffic::Packets;

/// What is compared, over the same packets.
enum Engine {
    Nothing,
    Native(Filters),
    Interpreter(Filters),
    BpfFilter(Vec<BpfFilter>),
    RteBpf(Vec<RteBpf>),
}

impl Engine {
    fn name(&self) -> &'static str {
        match self {
            Engine::Nothing => "loop",
            Engine::Native(_) => "native",
            Engine::Interpreter(_) => "interpreter",
            Engine::BpfFilter(_) => "bpf_filter",
            Engine::RteBpf(_) => "rte_bpf JIT",
        }
    }

    /// One pass over all packets; gives what matched, as a check.
    fn pass(&self, packets: &Packets, frames: &[Frame<'_>], selections: &mut [Selection]) -> u64 {
        let mut matched = 0;
        for (burst, mbufs) in frames.chunks(MAX_BURST).zip(packets.mbufs.chunks(MAX_BURST)) {
            traffic::prefetch(burst);
            match self {
                Engine::Nothing => selections.fill(Selection::NONE),
                Engine::Native(filters) | Engine::Interpreter(filters) => filters.select(burst, selections),
                Engine::BpfFilter(programs) => select(programs, burst, selections, BpfFilter::matches),
                Engine::RteBpf(programs) => select(programs, mbufs, selections, RteBpf::matches),
            }
            matched +=
                black_box(&*selections).iter().map(|selection| u64::from(selection.count())).sum::<u64>();
        }
        matched
    }
}

fn select<P, F>(programs: &[P], burst: &[F], selections: &mut [Selection], matches: fn(&P, &F) -> bool) {
    for (program, selection) in programs.iter().zip(selections) {
        let bits = burst
            .iter()
            .enumerate()
            .fold(0, |bits, (packet, frame)| bits | u64::from(matches(program, frame)) << packet);
        *selection = Selection::from_bits(bits);
    }
}

/// Rounds of each comparison.
const ROUNDS: usize = 200;

fn main() {
    let rte = rte_bpf();
    if rte.is_none() {
        println!("rte_bpf is left out: librte_bpf cannot be used here");
    }
    let hosts = |count: usize| -> Vec<String> {
        (0..count)
            .map(|i| {
                format!(
                    "host 10.0.{}.{} and tcp port {}",
                    i / 200,
                    1 + i % 200,
                    [80, 443, 22, 25, 8080][i % 5]
                )
            })
            .collect()
    };
    let one = |text: &str| vec![text.to_owned()];
    let sets = [
        ("tcp port 80", one("tcp port 80")),
        ("host 10.0.0.1", one("host 10.0.0.1")),
        ("tcp port 443 and host 10.0.0.1", one("tcp port 443 and host 10.0.0.1")),
        ("vlan and udp port 4789", one("vlan and udp port 4789")),
        ("ip6 and tcp", one("ip6 and tcp")),
        ("tcp flags", one("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0")),
        ("ip", one("ip")),
        ("3 x host and port", hosts(3)),
        ("10 x host and port", hosts(10)),
        (
            "10 different",
            [
                "tcp port 80",
                "udp port 53",
                "host 10.0.0.1",
                "vlan",
                "ip6 and tcp",
                "net 10.0.1.0/24",
                "icmp or arp",
                "tcp[tcpflags] & tcp-syn != 0",
                "portrange 1000-2000",
                "tcp port 443 and host 10.0.0.1",
            ]
            .map(String::from)
            .to_vec(),
        ),
        ("10 x vlan N", (0..10).map(|i| format!("vlan {}", 100 + i)).collect()),
        ("100 x host and port", hosts(100)),
    ];
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (kind, count) in [("hot", 256), ("cold", 65_536)] {
        let packets = Packets::generate(1, count);
        let frames = packets.frames();
        println!("\n{kind}: {count} packets, ns a packet");
        for (name, expressions) in &sets {
            if only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            let programs: Vec<Program> =
                expressions.iter().map(|text| compile(text).expect("a valid expression")).collect();
            let built = Instant::now();
            let native = Filters::build(&programs);
            let built = built.elapsed();
            let mut engines = vec![
                Engine::Nothing,
                Engine::Native(native),
                Engine::Interpreter(Filters::interpreted(&programs, "compared")),
                Engine::BpfFilter(programs.iter().map(BpfFilter::new).collect()),
            ];
            if let Some(rte) = &rte {
                engines.extend(
                    programs
                        .iter()
                        .map(|program| rte.load(program))
                        .collect::<Option<Vec<_>>>()
                        .map(Engine::RteBpf),
                );
            }
            report(name, &engines, &packets, &frames, programs.len());
            println!("{:32} built in {:.1} ms", "", built.as_secs_f64() * 1e3);
        }
    }
}

fn report(name: &str, engines: &[Engine], packets: &Packets, frames: &[Frame<'_>], programs: usize) {
    let mut selections = vec![Selection::NONE; programs];
    let matched = engines[1].pass(packets, frames, &mut selections);
    for engine in &engines[2..] {
        let other = engine.pass(packets, frames, &mut selections);
        if other != matched {
            println!("{name}: {} matches {other}, native {matched}", engine.name());
        }
    }
    // Rounds are short and the least time counts: on a shared machine the longer ones measure the neighbours.
    let mut least = vec![f64::INFINITY; engines.len()];
    for _ in 0..ROUNDS {
        for (engine, least) in engines.iter().zip(&mut least) {
            let start = Instant::now();
            black_box(engine.pass(packets, frames, &mut selections));
            *least = least.min(start.elapsed().as_secs_f64() * 1e9 / frames.len() as f64);
        }
    }
    print!("{name:32}");
    for (engine, least_ns) in engines.iter().zip(&least) {
        print!(" {} {least_ns:.2}", engine.name());
        if matches!(engine, Engine::BpfFilter(_) | Engine::RteBpf(_)) {
            print!(" (x{:.1})", least_ns / least[1]);
        }
    }
    println!(" matched {:.3}", matched as f64 / frames.len() as f64);
}
