//! Copies as tools want them: nanoseconds a copy, beside the plain shared copy and `rte_pktmbuf_copy` of the same packets.
//!
//! `cargo bench --bench copies`. Runs the stage itself in this process, on ordinary pages, or with `BENCH_HUGE_PAGES=1` on huge
//! ones: a burst of 32 equal packets gets one copy each, which is queued and freed; what is timed is all that the copy costs beside
//! the original's own way. Kinds take turns in rounds. A round's figure is that of its median burst, since a few bursts of each are
//! interrupted, and the least of the rounds are compared: those that other work on the machine disturbed least.

use std::hint::black_box;
use std::sync::Arc;
use tapline_packet::by_id::ById;

use tapline::plan::Plan;
use tapline_datapath::burst_view::BurstView;
use tapline_datapath::copies::build::{CopyPools, Maker, ToolMaker};
use tapline_datapath::copies::facts::Stamps;
use tapline_datapath::counters::WorkerCounters;
use tapline_datapath::flow::burst_flows::Flows;
use tapline_datapath::ids::{EgressId, PortId, ToolId};
use tapline_datapath::receive::times::Times;
use tapline_datapath::route::Copies;
use tapline_datapath::swap::published::Live;
use tapline_dpdk::eal::{Memory, Options};
use tapline_dpdk::mbuf::copy::CopyPool;
use tapline_dpdk::mbuf::{Frames, Linear, MbufQueue, burst_of};
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::{Eal, clock};
use tapline_packet::burst::Selection;
use tapline_packet::headers::ethernet::MacAddress;

const BURST: usize = 32;
const ROUNDS: usize = 101;
const BURSTS: usize = 60;

const TUNNEL: &str = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09";

/// Kinds of copies: a name and the words of the tool.
fn kinds() -> Vec<(&'static str, String)> {
    vec![
        ("vxlan", format!("vxlan vni 7 {TUNNEL} mtu 9000")),
        ("vxlan over IPv6", "vxlan vni 7 src 2001:db8::1 dst 2001:db8::9 next-hop 02:00:00:00:00:09 mtu 9000".to_owned()),
        (
            "vxlan over IPv6 without a checksum",
            "vxlan vni 7 src 2001:db8::1 dst 2001:db8::9 next-hop 02:00:00:00:00:09 udp-checksum off mtu 9000".to_owned(),
        ),
        ("erspan3", format!("erspan3 session 7 {TUNNEL} mtu 9000 timestamp erspan3")),
        ("geneve", format!("geneve vni 7 {TUNNEL} mtu 9000")),
        ("gre", format!("gre {TUNNEL} mtu 9000")),
        ("rspan", "rspan vlan 7".to_owned()),
        ("slice 128", "slice 128".to_owned()),
        ("tag", "tag vlan 7".to_owned()),
        ("rewrite dst-mac", "rewrite dst-mac 02:00:00:00:00:77".to_owned()),
        ("mask 40 16", "mask 40 16".to_owned()),
        ("mask 0 16 after l4", "mask 0 16 after l4".to_owned()),
        ("mask 100 16 slice 128", "mask 100 16 slice 128".to_owned()),
        ("anonymize", "anonymize ip".to_owned()),
        ("anonymize slice 128", "anonymize ip slice 128".to_owned()),
        ("slice 64 after l4", "slice 64 after l4".to_owned()),
        ("strip vlan (none)", "strip vlan".to_owned()),
        ("timestamp ixia", "timestamp ixia".to_owned()),
        ("timestamp metamako", "timestamp metamako".to_owned()),
    ]
}

fn plan(words: &str) -> Plan {
    let text = format!(
        "port attach in net_null0\nport attach out net_null1\ntool create t port out {words}\nrule create 10 from in to t\nstart\n"
    );
    let mut parsed = tapline_lang::parse_text("bench.pipe", &text, &[]);
    tapline::plan::plan(&mut parsed, &tapline::plan::Surroundings::fixed())
        .unwrap_or_else(|| panic!("{}", parsed.diagnostics.render(&parsed.sources)))
}

/// TCP over IPv4, `len` bytes long.
fn packet(index: usize, len: usize) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    out.extend([
        0x45,
        0,
        0,
        0,
        0,
        0,
        0x40,
        0,
        64,
        6,
        0,
        0,
        10,
        1,
        (index % 7) as u8,
        index as u8,
        10,
        2,
        (index % 5) as u8,
        1,
    ]);
    out[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    out.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 4, 0, 0, 0, 0, 0]);
    out.resize(len, index as u8);
    out
}

/// What one worker has to make one kind of copy.
struct Bench {
    plan: Plan,
    maker: Maker,
    copies: Copies,
    flows: Flows,
    counters: WorkerCounters,
}

impl Bench {
    fn new(words: &str, pool: &Arc<Mempool>) -> Self {
        let plan = plan(words);
        let copy = &plan.tools[ToolId(0)].copy;
        let mut transport = copy.transport.clone();
        transport.set_source(MacAddress([2, 0, 0, 0, 0, 8]));
        transport.set_next_hop(MacAddress([2, 0, 0, 0, 0, 9]));
        let tool = ToolMaker {
            edits: copy.edits,
            timestamp: copy.timestamp,
            transport,
            room: copy.room,
            hash: copy.hash,
            sequence: Arc::default(),
            is_capture: false,
            sends_chains: true,
            offload: None,
        };
        let pools = CopyPools { ports: Some(CopyPool::new(Arc::clone(pool))), captures: None };
        let maker = Maker::new(&plan.work, pools, vec![Some(tool)].into());
        let (copies, flows) =
            (Copies::new(&plan.work), Flows::new(&plan.work.hashes, plan.work.parse_depth));
        Self { maker, copies, flows, counters: WorkerCounters::new(2, 1, 1, 0), plan }
    }
}

fn main() {
    let eal = Eal::start(&Options {
        workers: Vec::new(),
        main_cpus: tapline_kernel::machine::available_cpus(),
        memory: if std::env::var_os("BENCH_HUGE_PAGES").is_some() {
            Memory::HugePages
        } else {
            Memory::Ordinary { mib: 256 }
        },
        pci_devices: Vec::new(),
        extra: ["--no-telemetry"].map(str::to_owned).to_vec(),
    })
    .expect("EAL starts");
    let received = Mempool::create(&eal, "rx", 8191, None).expect("a pool");
    let copied = Mempool::create(&eal, "copies", 8191, None).expect("a pool");
    for len in [64, 512, 1500] {
        let packets: Vec<Vec<u8>> = (0..BURST).map(|index| packet(index, len)).collect();
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let mut names = vec!["plain".to_owned(), "rte_pktmbuf_copy".to_owned()];
        let mut benches: Vec<Bench> = Vec::new();
        // `cargo bench --bench copies -- vxlan` measures kinds with that in their name only
        let wanted: Vec<String> =
            std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        for (name, words) in
            kinds().into_iter().filter(|(name, _)| wanted.iter().all(|word| name.contains(word.as_str())))
        {
            names.push(name.to_owned());
            benches.push(Bench::new(&words, &copied));
        }
        let mut ns: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        let pool = CopyPool::new(Arc::clone(&copied));
        for _ in 0..ROUNDS {
            ns[0].push(timed(&received, &packets, plain));
            ns[1].push(timed(&received, &packets, |burst, queue| {
                let begun = clock::tsc();
                black_box(pool.copy_by_dpdk(burst));
                let ticks = clock::tsc() - begun;
                burst.share([burst.all()].into_iter()).take(Selection::first(BURST), queue);
                ticks
            }));
            for (kind, bench) in benches.iter_mut().enumerate() {
                ns[2 + kind].push(timed(&received, &packets, |burst, queue| made(bench, burst, queue)));
            }
        }
        let least: Vec<f64> =
            ns.iter().map(|values| values.iter().copied().fold(f64::MAX, f64::min)).collect();
        println!("{len} bytes: ns a copy, times the plain one, times rte_pktmbuf_copy");
        for (name, value) in names.iter().zip(&least) {
            println!("  {name:34} {value:7.1} {:7.2} {:7.2}", value / least[0], value / least[1]);
        }
    }
}

/// Nanoseconds a copy of what `copy` says it took in ticks; `copy` leaves the originals in the queue.
fn timed(
    pool: &Arc<Mempool>,
    packets: &[&[u8]],
    mut copy: impl FnMut(&mut tapline_dpdk::mbuf::MbufBurst, &mut MbufQueue) -> u64,
) -> f64 {
    let mut originals = MbufQueue::with_capacity(64);
    let mut ticks: Vec<f64> = Vec::with_capacity(BURSTS);
    for _ in 0..BURSTS {
        let mut burst = burst_of(pool, packets).expect("the pool has mbufs");
        ticks.push(copy(&mut burst, &mut originals) as f64);
        originals.clear();
    }
    median(&mut ticks) * 1e9 / clock::tsc_hz() as f64 / BURST as f64
}

fn plain(burst: &mut tapline_dpdk::mbuf::MbufBurst, originals: &mut MbufQueue) -> u64 {
    let all = burst.all();
    let mut queue = MbufQueue::with_capacity(64);
    let begun = clock::tsc();
    let mut shared = burst.share([all, all].into_iter());
    shared.take(all, &mut queue);
    queue.clear();
    let ticks = clock::tsc() - begun;
    shared.take(all, originals);
    ticks
}

fn made(bench: &mut Bench, burst: &mut tapline_dpdk::mbuf::MbufBurst, originals: &mut MbufQueue) -> u64 {
    let all = burst.all();
    let mut queue = MbufQueue::with_capacity(64);
    let mut linear = Linear::default();
    let mut frames = Frames::new();
    burst.frames(&mut linear, &mut frames);
    let stamps = Stamps::default();
    bench.copies.egresses[EgressId(0)] = all;
    let begun = clock::tsc();
    bench.flows.clear();
    let (live, now_ns) = (Live::default(), 0);
    let mut view = BurstView {
        plan: &bench.plan.work,
        counters: &bench.counters,
        burst,
        all,
        frames: &frames,
        flows: &mut bench.flows,
        lens: &[],
        port: PortId(0),
        times: Times::one(&now_ns),
        stamps: &stamps,
        live: &live,
        uses: &ById::default(),
    };
    bench.maker.make(&mut view, &mut bench.copies, &mut ());
    drop(frames);
    let alone = bench.maker.made[ToolId(0)].alone();
    let mut shared = burst.share([all, all - alone].into_iter());
    shared.join(all, &mut bench.maker.made[ToolId(0)]).take(all, &mut queue);
    assert_eq!(queue.len(), BURST, "every copy was made");
    queue.clear();
    let ticks = clock::tsc() - begun;
    shared.take(all, originals);
    ticks
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
