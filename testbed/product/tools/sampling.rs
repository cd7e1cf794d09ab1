//! What samplers of two programs agree on, and how evenly a group spreads many flows.

use std::collections::BTreeSet;

use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;

const FLOWS: u16 = 2000;

/// The datagram of a flow.
fn packet(flow: u16) -> Vec<u8> {
    udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64)
}

/// The same in the other direction, on a trunk.
fn answer(flow: u16) -> Vec<u8> {
    let mut bytes = packet(flow);
    for (a, b, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        (0..len).for_each(|at| bytes.swap(a + at, b + at));
    }
    bytes.splice(12..12, [0x81, 0, 0, 7]);
    bytes
}

/// The flows that a program keeps of `packets`, whose IP identifications are at `id_at`; all of each or nothing.
fn kept(settings: &str, sample: &str, packets: &[Vec<u8>], id_at: usize) -> BTreeSet<u16> {
    let bench = Bench::new();
    bench.write("in.pcap", packets);
    let run = bench.run(
        &format!(
            "{settings}
            port attach tap0 net_pcap0,rx_pcap=@/in.pcap txq 0
            port attach out net_pcap1,tx_pcap=@/out.pcap rxq 0
            tool create probe port out
            rule create 10 from tap0 sample {sample} to probe"
        ),
        &[],
    );
    let flows: Vec<u16> = bench
        .read("out.pcap")
        .iter()
        .map(|bytes| u16::from_be_bytes([bytes[id_at], bytes[id_at + 1]]))
        .collect();
    assert_eq!(flows.len() as u64, run.number("tools/probe/sent"));
    let each = packets.len() / usize::from(FLOWS);
    let kept: BTreeSet<u16> = flows.iter().copied().collect();
    assert_eq!(flows.len(), kept.len() * each, "a flow is kept whole or not at all");
    kept
}

#[test]
fn two_brokers_with_one_seed_keep_the_same_flows_and_with_two_seeds_others() {
    // one sees what clients send, thrice and flow by flow; the other the answers, tagged, in bursts of another size and another
    // order
    let there: Vec<Vec<u8>> =
        (0..FLOWS).flat_map(|flow| [packet(flow), packet(flow), packet(flow)]).collect();
    let back: Vec<Vec<u8>> = (0..2 * FLOWS).rev().map(|place| answer(place % FLOWS)).collect();
    let first = kept("", "flow 1/10 seed 42", &there, 18);
    let second = kept("set burst 7", "flow 1/10 seed 42", &back, 22);
    assert_eq!(first, second);
    // the seed of all the program is that of a sampler which has none of its own
    assert_eq!(kept("set seed 42", "flow 1/10", &back, 22), first);
    let other = kept("", "flow 1/10 seed 43", &back, 22);
    println!(
        "{} of {FLOWS} flows with one seed, {} with another, {} with both",
        first.len(),
        other.len(),
        first.intersection(&other).count()
    );
    // binomial, within five standard deviations
    assert!((133..=267).contains(&first.len()) && (133..=267).contains(&other.len()));
    assert!(first.intersection(&other).count() <= 42, "different seeds choose independently");
    assert!(
        kept("", "flow 1/100 seed 42", &back, 22).is_subset(&first),
        "a smaller share is part of a larger one"
    );
}

#[test]
fn both_directions_of_a_session_in_a_tunnel_are_sampled_together_by_its_inner_flow() {
    // each direction of a VXLAN session has an outer source port of its own
    let tunnel = |flow: u16, sport: u16, inner: Vec<u8>| {
        let mut bytes = udp(flow, [192, 0, 2, 1], sport, 64);
        bytes.truncate(42);
        bytes[36..38].copy_from_slice(&4789u16.to_be_bytes());
        bytes.extend([8, 0, 0, 0, 0, 0, 1, 0]);
        bytes.extend(inner);
        let len = bytes.len() as u16;
        bytes[16..18].copy_from_slice(&(len - 14).to_be_bytes());
        bytes[38..40].copy_from_slice(&(len - 34).to_be_bytes());
        bytes
    };
    let both: Vec<Vec<u8>> = (0..FLOWS)
        .flat_map(|flow| {
            [tunnel(flow, 50_000 + flow, packet(flow)), tunnel(flow, 51_000 - flow, answer(flow))]
        })
        .collect();
    let inner = kept("", "flow 1/10 hash 5-tuple inner seed 42", &both, 18);
    let plain: Vec<Vec<u8>> = (0..FLOWS).map(packet).collect();
    assert_eq!(
        inner,
        kept("", "flow 1/10 seed 42", &plain, 18),
        "in the tunnel or out of it, the same flows are kept"
    );
}

#[test]
fn eight_members_get_their_weights_of_100_000_flows_within_three_percent() {
    const MANY: u32 = 100_000;
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..MANY)
        .map(|flow| udp(flow as u16, [10, (flow >> 16) as u8, (flow >> 8) as u8, flow as u8], 5000, 64))
        .collect();
    bench.write("in.pcap", &packets);
    let tools: Vec<String> =
        ["e", "w"].iter().flat_map(|group| (0..8).map(move |member| format!("{group}{member}"))).collect();
    let weights = [2, 1, 1, 1, 1, 1, 1, 2];
    let run = bench.run(
        &format!(
            "port attach tap0 net_pcap0,rx_pcap=@/in.pcap txq 0
            {}
            group create equal tools {} hash 5-tuple
            group create weighted tools {} weights 2,1,1,1,1,1,1,2 hash ip
            rule create 10 from tap0 to equal,weighted",
            tools.iter().map(|tool| format!("tool create {tool} discard\n")).collect::<String>(),
            tools[..8].join(","),
            tools[8..].join(",")
        ),
        &[],
    );
    for (group, weights) in [("e", [1; 8]), ("w", weights)] {
        let sum: u32 = weights.iter().sum();
        for (member, &weight) in weights.iter().enumerate() {
            let sent = run.number(&format!("tools/{group}{member}/sent"));
            let wanted = f64::from(MANY * weight) / f64::from(sum);
            let off = sent as f64 / wanted - 1.0;
            println!("{group}{member}: {sent} flows, {:+.2} %", off * 100.0);
            assert!(off.abs() <= 0.03, "{group}{member} has {sent} flows instead of {wanted}");
        }
    }
}
