//! The rule index: nanoseconds a packet by number of rules, with bursts of 32, beside `rte_acl` and the plain interpreter of the
//! programs.
//!
//! Rules are 5-tuples as in `rte_acl`'s examples: exact ones, and mixes of prefixes, port ranges and wildcards. Packets are TCP,
//! UDP, ICMP and ARP over IPv4 and IPv6, some VLAN-tagged, some fragments; half of them match a rule. Each figure is the least of
//! several rounds.
//!
//! `rte_acl` gets the same rules and packets, behind a parse to the 5-tuple, one context for IPv4 and one for IPv6. It finds the
//! first rule of each packet, the index finds all; that the first is the same is checked for every packet. Rounds of both
//! alternate. Run it on a core of its own: `chrt -f 10 taskset -c 1`. Words choose the lines that are printed: `exact`, `mixed`,
//! numbers of rules, `prefixes`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pcap::{Capture, Linktype};
use tapline_acl::{Acl, Rule};
use tapline_filter::Program;
use tapline_filter::bpf::insn::Insn;
use tapline_filter::index::{Direction, Index, PrefixSet};
use tapline_packet::burst::{Selection, Touched};
use tapline_packet::frame::Frame;
use tapline_packet::prefix::Prefix;

const BURST: usize = 32;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a rule asks for and a packet has.
struct Flow {
    v6: bool,
    udp: bool,
    source: u32,
    destination: u32,
    ports: (u16, u16),
}

impl Flow {
    fn random(random: &mut Random) -> Self {
        // Addresses of a data centre: 10.0.0.0/8 by racks, and the world.
        let mut address = || match random.below(4) {
            0 => u32::try_from(random.next() >> 32).unwrap_or(1),
            _ => 0x0a00_0000 | (random.below(64) << 16 | random.below(16) << 8 | random.below(250)) as u32,
        };
        let (source, destination) = (address(), address());
        let well_known = [22, 53, 80, 443, 8080, 3306, 5432, 25][random.below(8) as usize];
        Flow {
            v6: random.below(5) == 0,
            udp: random.below(3) == 0,
            source,
            destination,
            ports: (
                1024 + random.below(60000) as u16,
                if random.below(3) > 0 { well_known } else { random.below(65536) as u16 },
            ),
        }
    }

    fn text(&self, address: u32, bits: u32) -> String {
        let kept = address & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        match self.v6 {
            false => format!("{}/{bits}", std::net::Ipv4Addr::from(kept)),
            true => format!(
                "{}/{}",
                std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(kept) << 32),
                64 + bits
            ),
        }
    }

    fn exact(&self) -> (String, Rule) {
        let address = |address| match self.v6 {
            false => std::net::Ipv4Addr::from(address).to_string(),
            true => {
                std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(address) << 32).to_string()
            }
        };
        let protocol = if self.udp { "udp" } else { "tcp" };
        let text = format!(
            "src host {} and dst host {} and {protocol} src port {} and {protocol} dst port {}",
            address(self.source),
            address(self.destination),
            self.ports.0,
            self.ports.1
        );
        let [source, destination] = self.ports.into();
        let rule = self.rule(32, 32, Some([[source; 2], [destination; 2]]));
        let bits = if self.v6 { 128 } else { 32 };
        (text, Rule { source_bits: bits, destination_bits: bits, ..rule })
    }

    /// `bits` are those behind the /64 of all IPv6 addresses; `ports` source and destination.
    fn rule(&self, source_bits: u32, destination_bits: u32, ports: Option<[[u16; 2]; 2]>) -> Rule {
        let kept = |address: u32, bits: u32| address & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let words = |address, bits| match self.v6 {
            false => [kept(address, bits), 0, 0, 0],
            true if bits > 0 => [0x2001_0db8, 0, kept(address, bits), 0],
            true => [0; 4],
        };
        let length = |bits| if self.v6 && bits > 0 { 64 + bits } else { bits };
        let [source_ports, destination_ports] = ports.unwrap_or([[0, u16::MAX]; 2]);
        Rule {
            source: words(self.source, source_bits),
            destination: words(self.destination, destination_bits),
            source_bits: length(source_bits),
            destination_bits: length(destination_bits),
            source_ports,
            destination_ports,
            is_v6: self.v6,
            protocol: if self.udp { 17 } else { 6 },
            has_ports: ports.is_some(),
            unused: 0,
        }
    }

    fn mixed(&self, random: &mut Random) -> (String, Rule) {
        let protocol = if self.udp { "udp" } else { "tcp" };
        let mut terms = Vec::new();
        let mut bits = || [8, 16, 16, 24, 24, 24, 28, 32, 32, 0][random.below(10) as usize];
        let (source_bits, destination_bits) = (bits(), bits());
        let narrow = |bits: u32| if bits < 16 { 16 } else { bits };
        // One of the two addresses is at least a /16, so that no rule takes everything.
        let source_bits = if destination_bits < 16 { narrow(source_bits) } else { source_bits };
        if source_bits > 0 {
            terms.push(format!("src net {}", self.text(self.source, source_bits)));
        }
        if destination_bits > 0 {
            terms.push(format!("dst net {}", self.text(self.destination, destination_bits)));
        }
        let (port, any) = (self.ports.1, [0, u16::MAX]);
        let (term, ports) = match random.below(4) {
            0 => (format!("{protocol} dst port {port}"), Some([any, [port; 2]])),
            1 => {
                let (low, high) = (port / 2, port.saturating_add(1000));
                (format!("{protocol} dst portrange {low}-{high}"), Some([any, [low, high]]))
            }
            2 => (
                format!("{protocol} src portrange 1024-65535 and {protocol} dst port {port}"),
                Some([[1024, u16::MAX], [port; 2]]),
            ),
            _ => (protocol.to_owned(), None),
        };
        terms.push(term);
        (terms.join(" and "), self.rule(source_bits, destination_bits, ports))
    }

    fn packet(&self, random: &mut Random) -> Vec<u8> {
        let mut packet = vec![2; 12];
        match random.below(20) {
            0 => packet.extend([0x81, 0, 0, 100]),
            1 => {
                packet.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
                packet.resize(64, 3);
                return packet;
            }
            _ => (),
        }
        let protocol = if self.udp { 17 } else { 6 };
        let fragment = if random.below(50) == 0 { 0x20 } else { 0 };
        let protocol = if random.below(30) == 0 { 1 } else { protocol };
        if self.v6 {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, protocol, 64]);
            for address in [self.source, self.destination] {
                packet.extend((0x2001_0db8_u128 << 96 | u128::from(address) << 32).to_be_bytes());
            }
        } else {
            packet.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, fragment, 64, protocol, 0, 0]);
            packet.extend(self.source.to_be_bytes());
            packet.extend(self.destination.to_be_bytes());
        }
        packet.extend(self.ports.0.to_be_bytes());
        packet.extend(self.ports.1.to_be_bytes());
        let len = [64, 64, 128, 256, 576, 1024, 1500][random.below(7) as usize];
        packet.resize(len.max(packet.len() + 16), 0x5a);
        packet
    }
}

fn compile(expression: &str) -> Vec<Insn> {
    let program = Capture::dead(Linktype::ETHERNET)
        .and_then(|dead| dead.compile(expression, true))
        .expect("a valid expression");
    let parse = |insn: &pcap::BpfInstruction| {
        let text = insn.to_string();
        let mut fields = text.split(' ').map(|field| field.parse::<u32>().expect("a number"));
        let mut next = || fields.next().expect("four numbers");
        Insn { code: next() as u16, jt: next() as u8, jf: next() as u8, k: next() }
    };
    program.get_instructions().iter().map(parse).collect()
}

/// As the interpreter of the tests, for the instructions that occur here.
fn accepts(program: &[Insn], bytes: &[u8]) -> bool {
    let load = |at: usize, width: usize| {
        Some(bytes.get(at..at + width)?.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    };
    let run = || {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        loop {
            let Insn { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 => a = load(k as usize, 4)?,
                0x28 => a = load(k as usize, 2)?,
                0x30 => a = load(k as usize, 1)?,
                0x48 => a = load((x + k) as usize, 2)?,
                0xb1 => x = (load(k as usize, 1)? & 0xf) << 2,
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += usize::from(if a == k { jt } else { jf }),
                0x25 => at += usize::from(if a > k { jt } else { jf }),
                0x35 => at += usize::from(if a >= k { jt } else { jf }),
                0x45 => at += usize::from(if a & k != 0 { jt } else { jf }),
                0x06 => return Some(k != 0),
                _ => panic!("instruction {code:#x} does not occur"),
            }
        }
    };
    run().unwrap_or(false)
}

fn least_ns(rounds: usize, packets: usize, round: impl FnMut()) -> f64 {
    alternating_ns(rounds, packets, round, || ())[0]
}

/// The least time a packet of each of two, whose rounds alternate.
fn alternating_ns(
    rounds: usize,
    packets: usize,
    mut one: impl FnMut(),
    mut other: impl FnMut(),
) -> [f64; 2] {
    let mut least = [Duration::MAX; 2];
    for _ in 0..rounds {
        for (at, round) in [&mut one as &mut dyn FnMut(), &mut other].into_iter().enumerate() {
            let start = Instant::now();
            round();
            least[at] = least[at].min(start.elapsed());
        }
    }
    least.map(|least| least.as_secs_f64() * 1e9 / packets as f64)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_chosen = |word: &str, of: &[&str]| {
        !words.iter().any(|other| of.contains(&other.as_str())) || words.iter().any(|other| other == word)
    };
    println!(
        "{:>6} {:>6} {:>8} {:>9} {:>9} {:>9} {:>7} {:>9} {:>8} {:>10} {:>11} {:>7} {:>8}",
        "rules",
        "kind",
        "packets",
        "compile",
        "build",
        "index",
        "of 10",
        "rte_acl",
        "of it",
        "its build",
        "interpreter",
        "ratio",
        "matches"
    );
    for kind in ["exact", "mixed"] {
        let mut of_ten = [f64::NAN; 2];
        for count in [10usize, 100, 1000, 10_000] {
            if is_chosen(kind, &["exact", "mixed", "prefixes"])
                && is_chosen(&count.to_string(), &["10", "100", "1000", "10000"])
            {
                rules(kind, count, &mut of_ten);
            }
        }
    }
    if is_chosen("prefixes", &["exact", "mixed", "prefixes"]) {
        prefixes();
    }
}

/// Prints the lines for `count` rules; `of_ten` are the times of ten rules.
fn rules(kind: &str, count: usize, of_ten: &mut [f64; 2]) {
    let mut random = Random(7);
    let flows: Vec<Flow> = (0..count).map(|_| Flow::random(&mut random)).collect();
    let (expressions, acl_rules): (Vec<String>, Vec<Rule>) = flows
        .iter()
        .map(|flow| if kind == "exact" { flow.exact() } else { flow.mixed(&mut random) })
        .unzip();
    let start = Instant::now();
    let programs: Vec<Vec<Insn>> = expressions.iter().map(|expression| compile(expression)).collect();
    let compiled = start.elapsed();
    let verified: Vec<Program> =
        programs.iter().map(|insns| Program::verify(insns.clone()).expect("a valid program")).collect();
    let start = Instant::now();
    let (index, residual) = Index::build(&verified.iter().collect::<Vec<_>>());
    let built = start.elapsed();
    assert!(residual.is_empty());
    let start = Instant::now();
    let acl = Acl::new(&acl_rules);
    let acl_built = start.elapsed();
    for (set, packet_count) in [256usize, 4096].into_iter().enumerate() {
        let packets: Vec<Vec<u8>> = (0..packet_count)
            .map(|_| match random.below(2) {
                0 => flows[random.below(count as u64) as usize].packet(&mut random),
                _ => Flow::random(&mut random).packet(&mut random),
            })
            .collect();
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let mut selections = vec![Selection::NONE; count];
        let mut touched = Touched::new(count);
        let mut results = [0; BURST];
        if let Some(acl) = &acl {
            for burst in frames.chunks(BURST) {
                acl.classify(burst.iter().map(Frame::bytes), &mut results);
                index.select(burst, &mut selections, &mut touched);
                let mut first = [0; BURST];
                touched.drain(|rule| {
                    let selected = std::mem::take(&mut selections[rule]);
                    selected
                        .indices()
                        .filter(|&packet| first[packet] == 0)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|packet| first[packet] = rule as u32 + 1);
                });
                assert_eq!(
                    results[..burst.len()],
                    first[..burst.len()],
                    "rte_acl and the index find the same first rule"
                );
            }
        }
        let mut matches = 0usize;
        let repeats = 8192 / packet_count;
        let [ns, acl_ns] = alternating_ns(
            150,
            packet_count * repeats,
            || {
                matches = 0;
                for _ in 0..repeats {
                    for burst in frames.chunks(BURST) {
                        index.select(black_box(burst), &mut selections, &mut touched);
                        touched.drain(|rule| {
                            matches += std::mem::take(&mut selections[rule]).count() as usize
                        });
                    }
                }
            },
            || {
                for burst in frames.chunks(BURST).cycle().take(packet_count * repeats / BURST) {
                    if let Some(acl) = &acl {
                        acl.classify(black_box(burst).iter().map(Frame::bytes), black_box(&mut results));
                    }
                }
            },
        );
        let acl_ns = acl.as_ref().map_or(f64::NAN, |_| acl_ns);
        let interpreted = &packets[..(1_000_000 / count).clamp(32, packet_count)];
        let interpreter_ns = least_ns(2, interpreted.len(), || {
            for packet in interpreted {
                for program in &programs {
                    black_box(accepts(program, black_box(packet)));
                }
            }
        });
        if count == 10 {
            of_ten[set] = ns;
        }
        println!(
            "{count:>6} {kind:>6} {packet_count:>8} {:>7.0}ms {:>7.1}ms {ns:>7.1}ns {:>6.2}x {acl_ns:>7.1}ns {:>7.2}x {:>8.0}ms {interpreter_ns:>9.0}ns {:>6.0}x {:>8.2}",
            compiled.as_secs_f64() * 1e3,
            built.as_secs_f64() * 1e3,
            ns / of_ten[set],
            ns / acl_ns,
            acl_built.as_secs_f64() * 1e3,
            interpreter_ns / ns,
            matches as f64 / (repeats * packet_count) as f64,
        );
    }
    if let Some(acl) = &acl {
        println!("       rte_acl's algorithm: {}", acl.algorithm());
    }
}

/// `match file` with 100 000 prefixes: reading the lines, building the set, looking packets up.
fn prefixes() {
    let mut random = Random(9);
    let flows: Vec<Flow> = (0..100_000).map(|_| Flow::random(&mut random)).collect();
    let lines: Vec<String> = flows
        .iter()
        .map(|flow| {
            flow.text(random.next() as u32, [16, 20, 24, 24, 28, 32, 32, 32][random.below(8) as usize])
        })
        .collect();
    let start = Instant::now();
    let prefixes: Vec<Prefix> = lines.iter().map(|line| line.parse().expect("a prefix")).collect();
    let read = start.elapsed();
    let start = Instant::now();
    let set = PrefixSet::new(&prefixes, Direction::Either);
    let built = start.elapsed();
    for packet_count in [256, 4096] {
        let packets: Vec<Vec<u8>> =
            (0..packet_count).map(|_| Flow::random(&mut random).packet(&mut random)).collect();
        let frames: Vec<Frame<'_>> = packets.iter().map(|packet| Frame::whole(packet)).collect();
        let mut matches = 0;
        let ns = least_ns(150, 8192, || {
            matches = 0;
            for _ in 0..8192 / packet_count {
                for burst in frames.chunks(BURST) {
                    matches += set.select(black_box(burst), Selection::first(burst.len())).count();
                }
            }
        });
        println!(
            "100000 prefixes, {packet_count:>4} packets: read {:.0} ms, built {:.0} ms, {ns:.1} ns a packet, {:.2} match",
            read.as_secs_f64() * 1e3,
            built.as_secs_f64() * 1e3,
            f64::from(matches) / 8192.0
        );
    }
}
