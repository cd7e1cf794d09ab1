//! ns per packet of the stages that choose among packets: samplers, flow hash, group lookup, flow table, dedup. One burst is 64
//! packets.
//!
//! `cargo bench --bench state [-- samplers|hash|groups|flows|dedup]` prints the lower quartile of 256 slices and the ratio to the
//! first row of each table.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

use tapline_api::values::Rate;
use tapline_api::words::HashKind;
use tapline_datapath::flow::hash::{HashSpec, flow_hash_burst};
use tapline_datapath::flow::sketch::FlowSketch;
use tapline_datapath::flow::table::{FlowDigest, FlowTable, KeyedHash, Secret, Timeouts};
use tapline_datapath::ids::PortId;
use tapline_datapath::receive::times::Times;
use tapline_datapath::route::balance::{BucketStamp, BucketStamps, Group, GroupSpec, Slot};
use tapline_datapath::route::dedup::{Dedup, DedupSpec, Ignore};
use tapline_datapath::route::sample::{FirstLimit, SampleInputs, SampleSpec, Sampler, WorkerShare};
use tapline_packet::burst::{Known, MAX_BURST, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::layers::{Depth, Layers, parse_burst};
use tapline_packet::mix::mix;
use tapline_thash::{Gfni, MICROSOFT_KEY, SoftRss};

/// Packets of one timed slice: short enough that most slices run without being interrupted.
const PACKETS: usize = 64 * MAX_BURST;
const SLICES: usize = 256;
const START_NS: u64 = 1_700_000_000_000_000_000;

/// ns per packet of `run`, which handles the `PACKETS` packets of the slice it is told: the lower quartile over all slices, because
/// other work on the machine only adds to a time.
fn ns_per_packet(mut run: impl FnMut(usize)) -> f64 {
    let mut times: Vec<f64> = (0..SLICES)
        .map(|slice| {
            let start = Instant::now();
            run(slice);
            start.elapsed().as_nanos() as f64 / PACKETS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[SLICES / 4]
}

/// The part of `all` that is slice `slice`.
fn part<T>(all: &[T], slice: usize) -> &[T] {
    &all[slice * PACKETS..][..PACKETS]
}

/// Prints a table whose ratios are to its first row.
struct Table {
    first: Option<f64>,
}

impl Table {
    fn new(title: &str) -> Table {
        println!("\n{title:<52} {:>9} {:>7}", "ns/packet", "ratio");
        Table { first: None }
    }

    fn row(&mut self, name: &str, run: impl FnMut(usize)) {
        self.print(name, ns_per_packet(run));
    }

    fn print(&mut self, name: &str, ns: f64) {
        let first = *self.first.get_or_insert(ns);
        println!("  {name:<50} {ns:>9.2} {:>7.2}", ns / first);
    }
}

fn one_in(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("n is above 0")
}

/// Hashes of all slices' packets over `flows` flows in random order.
fn packet_hashes(flows: u64) -> Vec<u64> {
    (0..(SLICES * PACKETS) as u64).map(|packet| mix(mix(packet, 1) % flows, 2)).collect()
}

fn samplers() {
    let hashes = packet_hashes(10_000);
    let lens = vec![700u32; MAX_BURST];
    let worker = WorkerShare {
        index: 0,
        workers: one_in(1),
        random_seed: 1,
        flows: 100_000,
        timeouts: Timeouts::DEFAULT,
        flow_hash: KeyedHash::new(&Secret::random()),
    };
    let mut table = Table::new("samplers, all 64 packets of each burst selected");
    table.row("none (the loop alone)", |slice| {
        for burst in part(&hashes, slice).chunks_exact(MAX_BURST) {
            black_box(black_box(Selection::ALL).bits() & burst[0]);
        }
    });
    let specs = [
        ("1/10", SampleSpec::Systematic { one_in: one_in(10) }),
        ("1/1000", SampleSpec::Systematic { one_in: one_in(1000) }),
        ("random 1/2", SampleSpec::Random { one_in: one_in(2) }),
        ("random 1/10", SampleSpec::Random { one_in: one_in(10) }),
        ("random 1/1000", SampleSpec::Random { one_in: one_in(1000) }),
        ("flow 1/10", SampleSpec::Flow { one_in: one_in(10), seed: 1 }),
        ("first 10 packets, 10 000 flows", SampleSpec::First { limit: FirstLimit::Packets(10) }),
        ("first 4000 bytes, 10 000 flows", SampleSpec::First { limit: FirstLimit::Bytes(4000) }),
        ("rate 100kpps", SampleSpec::Rate { budget: Rate::PacketsPerSecond(100_000), seed: 1 }),
        ("rate 1gbit", SampleSpec::Rate { budget: Rate::BitsPerSecond(1_000_000_000), seed: 1 }),
        ("every 10s for 1s", SampleSpec::Every { period_ns: 10_000_000_000, length_ns: 1_000_000_000 }),
    ];
    for (name, spec) in specs {
        let mut sampler = Sampler::new(&spec, &worker);
        let mut now_ns = START_NS;
        table.row(name, |slice| {
            for burst in part(&hashes, slice).chunks_exact(MAX_BURST) {
                now_ns += 6_400;
                let inputs = SampleInputs { hashes: burst, lens: &lens, times: Times::one(&now_ns) };
                black_box(sampler.sample(black_box(Selection::ALL), &inputs));
            }
        });
    }
}

/// Few enough that packets and branches are as hot as in a worker that is busy with one kind of traffic.
const HASHED_PACKETS: usize = 4 * MAX_BURST;

/// TCP and UDP over IPv4, 64 bytes each, every one a flow of its own.
fn plain_packets() -> Vec<Vec<u8>> {
    let packet = |index: u64| {
        let mut bytes =
            vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0, 0, 50, 0, 0, 0, 0, 64];
        bytes.extend([if mix(index, 1).is_multiple_of(4) { 17 } else { 6 }, 0, 0]);
        bytes.extend(&mix(index, 2).to_be_bytes());
        bytes.extend(&mix(index, 3).to_be_bytes()[..4]);
        bytes.resize(64, 0x50);
        bytes
    };
    (0..HASHED_PACKETS as u64).map(packet).collect()
}

/// IPv4 addresses and ports as DPDK's Toeplitz hashes want them: words in host order.
fn words(burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]) -> [[u32; 3]; MAX_BURST] {
    std::array::from_fn(|index| {
        let (bytes, outer) = (burst[index].bytes(), &layers[index].outer);
        let word = |at: usize| {
            bytes.get(at..at + 4).map_or(0, |word| u32::from_be_bytes(word.try_into().expect("four bytes")))
        };
        [word(outer.l3() + 12), word(outer.l3() + 16), word(outer.l4().unwrap_or(0))]
    })
}

/// The same as bytes in network order.
fn tuples(burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]) -> [[u8; 12]; MAX_BURST] {
    std::array::from_fn(|index| {
        let (bytes, outer) = (burst[index].bytes(), &layers[index].outer);
        let (l3, l4) = (outer.l3(), outer.l4().unwrap_or(0));
        let mut tuple = [0; 12];
        if let (Some(addresses), Some(ports)) = (bytes.get(l3 + 12..l3 + 20), bytes.get(l4..l4 + 4)) {
            tuple[..8].copy_from_slice(addresses);
            tuple[8..].copy_from_slice(ports);
        }
        tuple
    })
}

/// Flow hash and table lookup above the parse, beside DPDK's Toeplitz hashes over the same addresses and ports. Rows take turns
/// slice by slice, so that their differences hold on a machine whose speed changes.
fn flow_hashes() {
    let packets = plain_packets();
    let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
    let buckets = Group::new(GroupSpec::equal(8)).expect("equal members are a group").table().clone();
    let sketch = FlowSketch::new(buckets.bucket_count(), 0);
    let soft = SoftRss::new(MICROSOFT_KEY);
    let gfni = Gfni::new(MICROSOFT_KEY);
    let look_up = |hashes: &[u32; MAX_BURST]| {
        hashes.iter().filter(|&&hash| buckets.lookup(hash.into()).member() == Some(3)).count()
    };
    let flow_hashes = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        let mut hashes = [0u64; MAX_BURST];
        flow_hash_burst(
            HashSpec { kind: HashKind::FiveTuple, depth: Depth::Outer, seed: 7 },
            burst,
            Known::all(layers),
            Selection::ALL,
            &mut hashes,
        );
        hashes
    };
    let third = |slot: Slot| slot.member() == Some(3);
    let ours = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        flow_hashes(burst, layers).iter().filter(|&&hash| third(buckets.lookup(hash))).count()
    };
    let noted = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        let open = sketch.open();
        let note = |hash: u64| {
            let (bucket, bit) = buckets.open().place(hash);
            open.note(bucket, bit);
            buckets.open().slot(bucket)
        };
        flow_hashes(burst, layers).iter().filter(|&&hash| third(note(hash))).count()
    };
    let soft_rss = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        let mut hashes = [0; MAX_BURST];
        soft.hash(&mut words(burst, layers), &mut hashes);
        look_up(&hashes)
    };
    let soft_rss_be = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        let mut hashes = [0; MAX_BURST];
        soft.hash_be(&mut words(burst, layers), &mut hashes);
        look_up(&hashes)
    };
    let gfni_bulk = |burst: &[Frame<'_>], layers: &[Layers; MAX_BURST]| {
        let mut hashes = [0; MAX_BURST];
        if let Some(gfni) = &gfni {
            gfni.hash(&mut tuples(burst, layers), &mut hashes);
        }
        look_up(&hashes)
    };
    type Stage<'a> = &'a dyn Fn(&[Frame<'_>], &[Layers; MAX_BURST]) -> usize;
    let mut stages: Vec<(&str, Stage<'_>)> = vec![
        ("parse alone", &|_, layers| layers[0].outer.l3()),
        ("flow hash 5-tuple, lookup", &ours),
        ("flow hash 5-tuple, lookup, its flow noted", &noted),
        ("rte_softrss, lookup", &soft_rss),
        ("rte_softrss_be, lookup", &soft_rss_be),
    ];
    match gfni {
        Some(_) => stages.push(("rte_thash_gfni_bulk, lookup", &gfni_bulk)),
        None => println!("\nno GFNI here"),
    }
    let mut times = vec![Vec::with_capacity(SLICES); stages.len()];
    let mut layers = [Layers::EMPTY; MAX_BURST];
    for _ in 0..SLICES {
        for ((_, stage), times) in stages.iter().zip(&mut times) {
            let start = Instant::now();
            for burst in 0..PACKETS / MAX_BURST {
                let burst = black_box(&frames[burst * MAX_BURST % HASHED_PACKETS..][..MAX_BURST]);
                parse_burst(burst, Depth::Outer, &mut layers);
                black_box(stage(burst, black_box(&layers)));
            }
            times.push(start.elapsed().as_nanos() as f64 / PACKETS as f64);
        }
    }
    let figures: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[SLICES / 4]
        })
        .collect();
    let mut table = Table::new("parse, then flow hash and lookup among 8 members; IPv4");
    stages.iter().zip(&figures).for_each(|((name, _), &ns)| table.print(name, ns));
    let mut table = Table::new("the same, above the parse");
    stages.iter().zip(&figures).skip(1).for_each(|((name, _), &ns)| table.print(name, ns - figures[0]));
}

fn groups() {
    let hashes = packet_hashes(1 << 40);
    let mut table = Table::new("groups, a million flows");
    table.row("reading the hashes alone", |slice| {
        black_box(part(&hashes, slice).iter().fold(0u64, |sum, &hash| sum ^ black_box(hash)));
    });
    for members in [2, 8, 64] {
        let group = Group::new(GroupSpec::equal(members)).expect("equal members are a group");
        let buckets = group.table().clone();
        table.row(&format!("lookup, {members} members, {} buckets", buckets.bucket_count()), |slice| {
            for &hash in part(&hashes, slice) {
                black_box(buckets.lookup(black_box(hash)));
            }
        });
    }
    let buckets = Group::new(GroupSpec::equal(8)).expect("equal members are a group").table().clone();
    let sketch = FlowSketch::new(buckets.bucket_count(), 0);
    table.row("lookup and its flow noted, 8 members", |slice| {
        for burst in part(&hashes, slice).chunks_exact(MAX_BURST) {
            let open = sketch.open();
            for &hash in burst {
                let (bucket, bit) = buckets.open().place(black_box(hash));
                open.note(bucket, bit);
                black_box(buckets.open().slot(bucket));
            }
        }
    });
    let stamps = BucketStamps::new(buckets.bucket_count());
    table.row("lookup and stamp for return idle, 8 members", |slice| {
        for &hash in part(&hashes, slice) {
            let bucket = buckets.bucket(black_box(hash));
            stamps.touch(bucket, BucketStamp::new(START_NS, PortId(1)));
            black_box(buckets.open().slot(bucket));
        }
    });
}

fn flow_tables() {
    let keys: Vec<[u64; 5]> = (0..(SLICES * PACKETS) as u64)
        .map(|packet| [mix(packet, 1), mix(packet, 2), mix(packet, 3), mix(packet, 4), packet % 2])
        .collect();
    let mut table = Table::new("keyed hashes of 40 bytes (an IPv6 5-tuple)");
    let hash = KeyedHash::new(&Secret::random());
    table.row("NH and multilinear (the flow table's)", |slice| {
        part(&keys, slice).iter().for_each(|key| {
            black_box(hash.digest(black_box(key)));
        });
    });
    let sip = std::hash::RandomState::new();
    table.row("SipHash-1-3 (std)", |slice| {
        part(&keys, slice).iter().for_each(|key| {
            black_box(sip.hash_one(black_box(key)));
        });
    });

    let mut table = Table::new("flow table, known flows, 8-byte value");
    for (name, flows) in [
        ("hot: 1 000 flows", 1_000u64),
        ("100 000 flows", 100_000),
        ("1 000 000 flows", 1_000_000),
        ("cold: 10 000 000 flows", 10_000_000),
    ] {
        let mut flow_table: FlowTable<u64> =
            FlowTable::new(flows as usize, Timeouts::DEFAULT, KeyedHash::new(&Secret::random()));
        for flow in 0..flows {
            let digest = flow_table.hash().digest(&[flow]);
            flow_table.entry(digest, START_NS);
        }
        let (evicted, megabytes) =
            (flow_table.counters().evicted, FlowTable::<u64>::bytes_for(flows as usize) / 1_000_000);
        println!("    {evicted} evicted while {flows} flows began; {megabytes} MB");
        let order: Vec<u64> = (0..(SLICES * PACKETS) as u64).map(|packet| mix(packet, 5) % flows).collect();
        table.row(name, |slice| count_packets(&mut flow_table, part(&order, slice).iter().copied()));
        table.row("  the same, without reading a burst's sets ahead", |slice| {
            part(&order, slice).iter().for_each(|&flow| {
                let digest = flow_table.hash().digest(&[flow]);
                *flow_table.entry(digest, START_NS).0 += 1;
            });
        });
    }
    let mut flow_table: FlowTable<u64> =
        FlowTable::new(1_000_000, Timeouts::DEFAULT, KeyedHash::new(&Secret::random()));
    let mut next = 0u64;
    table.row("every packet a flow of its own, table full", |_| {
        next += PACKETS as u64;
        count_packets(&mut flow_table, next - PACKETS as u64..next);
    });
}

/// Counts each flow's packets, burst by burst.
fn count_packets(flow_table: &mut FlowTable<u64>, flows: impl Iterator<Item = u64>) {
    let mut burst = [FlowDigest::default(); MAX_BURST];
    let mut flows = flows.peekable();
    while flows.peek().is_some() {
        burst
            .iter_mut()
            .zip(&mut flows)
            .for_each(|(digest, flow)| *digest = flow_table.hash().digest(&[flow]));
        flow_table.load(burst.iter().copied());
        burst.iter().for_each(|&digest| *flow_table.entry(digest, START_NS).0 += 1);
    }
}

/// Few enough that their bytes stay in the cache, as those of packets just received do.
const DEDUP_PACKETS: usize = 256;

fn dedups() {
    for len in [64usize, 590, 1500] {
        let mut packets: Vec<Vec<u8>> = (0..DEDUP_PACKETS as u64)
            .map(|packet| (0..len).map(|at| mix(packet, at as u64) as u8).collect())
            .collect();
        // Ethernet, IPv4 without options, TCP, so that masking finds its fields.
        packets.iter_mut().for_each(|packet| packet[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]));
        let all = Ignore { ttl: true, tos: true, vlan: true, mac: true, tcp_seq: true };
        let mut table = Table::new(&format!("dedup, {len} bytes"));
        table.row("no dedup (reading one byte of each packet)", |_| {
            for packet in (0..PACKETS).map(|index| &packets[index % DEDUP_PACKETS]) {
                black_box(packet[20]);
            }
        });
        for (name, ignore, window_packets, all_new) in [
            ("window of 250 000 packets (50 ms at 5 Mpps)", Ignore::default(), 250_000, true),
            ("window of 5 000 000 packets (1 s at 5 Mpps)", Ignore::default(), 5_000_000, true),
            ("  the same, ignoring all that can be", all, 5_000_000, true),
            ("window of 250 000, every packet a duplicate", Ignore::default(), 250_000, false),
        ] {
            let spec = DedupSpec {
                window_ns: window_packets as u64 * 200,
                ignore,
                packets: window_packets,
                ports: 2,
            };
            let mut dedup = Dedup::new(spec, &Secret::random());
            let mut packet_number = 0u64;
            let mut packets = packets.clone();
            let mut feed = || {
                for burst in 0..PACKETS / MAX_BURST {
                    let first = burst * MAX_BURST % DEDUP_PACKETS;
                    if all_new {
                        for packet in &mut packets[first..first + MAX_BURST] {
                            packet_number += 1;
                            packet[30..38].copy_from_slice(&packet_number.to_le_bytes());
                        }
                    }
                    let burst: [Frame<'_>; MAX_BURST] =
                        std::array::from_fn(|index| Frame::whole(&packets[first + index]));
                    let times_ns = [START_NS + packet_number * 200; MAX_BURST];
                    black_box(dedup.duplicates(Selection::ALL, &burst, &[0; MAX_BURST], &times_ns));
                }
            };
            // a window's worth first: a table that fills is not one that is full
            (0..if all_new { window_packets / PACKETS } else { 1 }).for_each(|_| feed());
            table.row(name, |_| feed());
            let counters = dedup.counters();
            println!(
                "    {} of {} were duplicates, {} forgotten; {} MB",
                counters.duplicates,
                counters.packets,
                counters.forgotten,
                Dedup::bytes_for(window_packets) / 1_000_000
            );
        }
    }
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let tables: [(&str, fn()); 5] = [
        ("samplers", samplers),
        ("hash", flow_hashes),
        ("groups", groups),
        ("flows", flow_tables),
        ("dedup", dedups),
    ];
    for (name, table) in tables {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            table();
        }
    }
}
