//! ns per packet of the stages that choose among packets: samplers, group lookup, flow table, dedup. One burst is 64 packets.
//!
//! `cargo bench --bench state` prints the lower quartile of 256 slices and the ratio to the first row of each table.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

use tapline::datapath::balance::{BucketStamps, Group, GroupSpec};
use tapline::datapath::burst::{MAX_BURST, Selection};
use tapline::datapath::dedup::{Dedup, DedupSpec, Ignore};
use tapline::datapath::flow_table::{FlowDigest, FlowTable, KeyedHash, Secret, Timeouts};
use tapline::datapath::sample::{Budget, FirstLimit, SampleInputs, SampleSpec, Sampler, WorkerSeat, mix};
use tapline::dpdk::Frame;

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
        let ns = ns_per_packet(run);
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
    let seat = WorkerSeat {
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
            black_box(black_box(Selection(u64::MAX)).0 & burst[0]);
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
        ("rate 100kpps", SampleSpec::Rate { budget: Budget::PacketsPerSecond(100_000), seed: 1 }),
        ("rate 1gbit", SampleSpec::Rate { budget: Budget::BitsPerSecond(1_000_000_000), seed: 1 }),
        ("every 10s for 1s", SampleSpec::Every { period_ns: 10_000_000_000, length_ns: 1_000_000_000 }),
    ];
    for (name, spec) in specs {
        let mut sampler = Sampler::new(&spec, &seat);
        let mut now_ns = START_NS;
        table.row(name, |slice| {
            for burst in part(&hashes, slice).chunks_exact(MAX_BURST) {
                now_ns += 6_400;
                let inputs = SampleInputs { hashes: burst, lens: &lens, now_ns };
                black_box(sampler.sample(black_box(Selection(u64::MAX)), &inputs));
            }
        });
    }
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
    let stamps = BucketStamps::new(buckets.bucket_count());
    table.row("lookup and stamp for return idle, 8 members", |slice| {
        for &hash in part(&hashes, slice) {
            let bucket = buckets.bucket(black_box(hash));
            stamps.touch(bucket, 7);
            black_box(buckets.slot(bucket));
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
        let mut flow_table: FlowTable<u64> = FlowTable::new(flows as usize, Timeouts::DEFAULT, KeyedHash::new(&Secret::random()));
        for flow in 0..flows {
            let digest = flow_table.hash().digest(&[flow]);
            flow_table.entry(digest, START_NS);
        }
        let (evicted, megabytes) = (flow_table.counters().evicted, FlowTable::<u64>::bytes_for(flows as usize) / 1_000_000);
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
    let mut flow_table: FlowTable<u64> = FlowTable::new(1_000_000, Timeouts::DEFAULT, KeyedHash::new(&Secret::random()));
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
        burst.iter_mut().zip(&mut flows).for_each(|(digest, flow)| *digest = flow_table.hash().digest(&[flow]));
        flow_table.load(burst.iter().copied());
        burst.iter().for_each(|&digest| *flow_table.entry(digest, START_NS).0 += 1);
    }
}

/// Few enough that their bytes stay in the cache, as those of packets just received do.
const DEDUP_PACKETS: usize = 256;

fn dedups() {
    for len in [64usize, 590, 1500] {
        let mut packets: Vec<Vec<u8>> =
            (0..DEDUP_PACKETS as u64).map(|packet| (0..len).map(|at| mix(packet, at as u64) as u8).collect()).collect();
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
            let spec = DedupSpec { window_ns: window_packets as u64 * 200, ignore, packets: window_packets, ports: 2 };
            let mut dedup = Dedup::new(spec, &Secret::random());
            let mut packet_number = 0u64;
            let mut packets = packets.clone();
            table.row(name, |_| {
                for burst in 0..PACKETS / MAX_BURST {
                    let first = burst * MAX_BURST % DEDUP_PACKETS;
                    if all_new {
                        for packet in &mut packets[first..first + MAX_BURST] {
                            packet_number += 1;
                            packet[30..38].copy_from_slice(&packet_number.to_le_bytes());
                        }
                    }
                    let burst: [Frame; MAX_BURST] = std::array::from_fn(|index| Frame::whole(&packets[first + index]));
                    let times_ns = [START_NS + packet_number * 200; MAX_BURST];
                    black_box(dedup.duplicates(Selection(u64::MAX), &burst, &[0; MAX_BURST], &times_ns));
                }
            });
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
    samplers();
    groups();
    flow_tables();
    dedups();
}
