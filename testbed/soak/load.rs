//! Full speed for a minute or longer, with rules changed, tools drained and enabled, forwarding stopped and started, links set
//! down and up, at random: each round ends with both identities.

use std::time::{Duration, Instant};

use tapline::broker::DRAIN_LIMIT;
use tapline_harness::bench::Bench;
use tapline_harness::links::Pair;
use tapline_harness::spans::{number_of, span};

/// xorshift64*: the same events for the same seed.
/// # Source
/// Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub(crate) fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Rounds of the soak differ in where the work is done.
const PLACEMENTS: [&str; 3] =
    ["set lcores 1-2", "set lcores receive 1 work 2-3 transmit 4", "set lcores receive 1-2 work 3-4"];

/// Changes of its rules; some are refused at times.
const CHANGES: [&str; 12] = [
    "rule disable 40",
    "rule enable 40",
    "rule modify 10 sample 1/32",
    "rule modify 10 sample random 1/64",
    "rule modify 20 match \"not tcp\" class high",
    "rule modify 30 to a,b",
    "rule modify 30 to g",
    "rule modify 50 match \"len < 1000\"",
    "rule modify 60 sample first 3 packets",
    "rule modify 60 sample flow 1/4",
    "rule create 5 from null-in sample rate 10kpps slice 48 to b,plain final",
    "rule destroy 5",
];

/// A plan that has a bit of everything.
fn pipeline(placement: &str, pair: Option<&Pair>) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let last = cpus.min(2) - 1;
    let mut text = format!(
        "set eal \"--lcores 9@0,1@{last},2@0,3@{last},4@0 --main-lcore 9\"
        set idle sleep
        set flows 64k
        {placement}
        port attach null-in net_null0 txq 0
        port attach loop net_ring0
        port attach null-out net_null1 rxq 0
        port attach stuck-out net_ring1 rxq 0
        tool create plain port null-out
        tool create looped port loop queue 256
        tool create stuck port stuck-out queue 128 down-after 400ms
        tool create slow port null-out queue 512 rate 200kpps
        tool create a discard
        tool create b discard
        group create g tools a,b,plain min-up 2
        rule create 10 from null-in sample 1/64 to looped
        rule create 20 from null-in sample random 1/50 to stuck,slow class low
        rule create 30 from loop to g
        rule create 40 from null-in to plain
        rule create 50 from loop slice 32 to b class high
        rule create 60 from any sample flow 1/4 to a
        "
    );
    if pair.is_some() {
        text.push_str(
            "port attach near net_af_packet0,iface=near rxq 0
            port attach far net_af_packet1,iface=far txq 0
            tool create wired port near down-after 200ms up-after 200ms
            rule create 70 from null-in sample 1/1000 to wired
            rule create 80 from far to g
            ",
        );
    }
    text + "start"
}

#[test]
fn soak() {
    let length = span("TAPLINE_SOAK_SECONDS", 60);
    let seed = number_of("TAPLINE_SOAK_SEED", 20_261_121).max(1);
    println!("{} s with seed {seed}", length.as_secs());
    let pair = Pair::new('s');
    let mut random = Random::new(seed);
    let (begun, mut rounds, mut packets, mut copies, mut faults) = (Instant::now(), 0, 0, 0, 0);
    while begun.elapsed() < length {
        let bench = pair.as_ref().map_or_else(Bench::new, |pair| Bench::inside(&pair.far));
        let mut prompt = bench.start(&pipeline(PLACEMENTS[rounds % PLACEMENTS.len()], pair.as_ref()));
        prompt.wait("packets flow", |stats| stats["packets"]["received"].as_u64() > Some(0));
        // rounds are longer in a long soak, and their plans older
        let round = Instant::now();
        let mut is_link_down = false;
        while round.elapsed() < length / 6 && begun.elapsed() < length {
            faults += 1;
            match random.below(32) {
                // not often: nobody empties the loop while forwarding is stopped, so that each stop takes all the time that it may
                0 => {
                    prompt.say("stop");
                    std::thread::sleep(DRAIN_LIMIT);
                    prompt.say("start");
                }
                1..=8 if pair.is_some() => {
                    is_link_down = !is_link_down;
                    pair.iter().for_each(|pair| pair.set_far(if is_link_down { "down" } else { "up" }));
                }
                9..=16 => prompt.say(CHANGES[random.below(CHANGES.len() as u64) as usize]),
                other => {
                    let tools = ["a", "b", "plain", "looped", "stuck", "slow"];
                    let tool = tools[random.below(tools.len() as u64) as usize];
                    prompt.say(&format!("tool {} {tool}", if other % 2 == 0 { "drain" } else { "enable" }));
                }
            }
            std::thread::sleep(Duration::from_millis(random.below(300)));
        }
        if is_link_down && let Some(pair) = &pair {
            pair.set_far("up");
        }
        // identities are judged here
        let run = prompt.quit_by_chance();
        rounds += 1;
        packets += run.number("packets/received");
        copies += run.number("copies/requested");
        println!(
            "{} s: round {rounds}: {packets} packets, {copies} copies, {faults} events",
            begun.elapsed().as_secs()
        );
    }
    assert!(packets > 0 && copies > 0);
}
