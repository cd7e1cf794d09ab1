//! Explain and diff: packets a second at a hundred rules, on one core, as `explain --summary` and `diff` judge them.
//!
//! `cargo bench --bench explain`. Packets are the generated office traffic, from memory; reading a capture is not timed. Rules are ports and
//! networks; half of them match some packet. The figure is the best of several rounds.

use std::sync::Arc;
use std::time::Instant;

use tapline::broker::rehearsal;
use tapline::explain::compare::{Compared, Comparison};
use tapline::explain::{Explainer, Packet, Question};
use tapline::plan::origin::origins;
use tapline::plan::{Surroundings, plan};
use tapline_datapath::ids::PortId;
use tapline_lang::parse_text;
use tapline_packet::burst::Selection;
use tapline_packet::by_id::Id;
use tapline_packet::frame::Frame;

const RULES: usize = 100;
const ROUNDS: usize = 7;

fn pipeline(first_network: usize) -> String {
    let mut text = "set seed 7\nport attach in net_null0\n".to_owned();
    for tool in 0..4 {
        text += &format!("tool create t{tool} discard\n");
    }
    for rule in 0..RULES {
        let port = [22, 53, 80, 443, 8080, 5004, 2049, 25][rule % 8];
        let network = if rule % 2 == 0 { rule / 2 % 4 } else { first_network + rule };
        text += &format!(
            "rule create {} from in match \"port {port} and net 10.1.{network}.0/24\" to t{}\n",
            rule + 1,
            rule % 4
        );
    }
    text + "start\n"
}

fn compared(text: &str) -> Compared {
    let surroundings = Surroundings::fixed();
    let mut parsed = parse_text("bench.pipe", text, &[]);
    let planned = plan(&mut parsed, &surroundings);
    let plan = planned.unwrap_or_else(|| panic!("{}", parsed.diagnostics.render(&parsed.sources)));
    let origins = origins(&parsed, &surroundings);
    Compared { plan, origins }
}

/// Packets a second of the best round, each of which judges all packets.
fn best(packets: &[Packet<'_>], mut judge: impl FnMut(&[Packet<'_>]) -> usize) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        let mut rest = packets;
        while !rest.is_empty() {
            let judged = judge(rest);
            rest = &rest[judged..];
        }
        packets.len() as f64 / begun.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

fn main() {
    let eal = rehearsal::eal(3).expect("EAL starts on ordinary pages");
    let office = tapline_traffic::office().packets;
    let packets: Vec<Packet<'_>> = office
        .iter()
        .cycle()
        .take(100_000)
        .zip(1u64..)
        .map(|(packet, number)| {
            let frame = Frame::new(&packet.bytes, packet.bytes.len() as u32);
            Packet { number, time_ns: 1_700_000_000_000_000_000 + number * 1000, frame }
        })
        .collect();
    let (port, first_ns) = (PortId::new(0), packets[0].time_ns);
    let Compared { plan, origins } = compared(&pipeline(100));
    let mut explainer =
        Explainer::new(&eal, Arc::new(plan), origins, first_ns).expect("memory for a rehearsal");
    let rate = best(&packets, |rest| {
        let count = explainer.fitting(rest);
        explainer.judge(port, &rest[..count], Selection::NONE, &Question::default(), drop);
        count
    });
    println!("explain --summary, {RULES} rules: {:.0} thousand packets a second", rate / 1e3);
    let plans = [compared(&pipeline(100)), compared(&pipeline(101))];
    let mut comparison = Comparison::new(&eal, plans, false, first_ns).expect("memory for two rehearsals");
    let rate = best(&packets, |rest| {
        let count = comparison.fitting(rest);
        comparison.judge([Some(port); 2], &rest[..count], Selection::ALL);
        count
    });
    println!("diff, {RULES} rules: {:.0} thousand packets a second", rate / 1e3);
}
