//! No flow is split: the shared captures are balanced and sampled by the running program, and tshark says which packets are one
//! flow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use tapline_harness::bench::Bench;
use tapline_harness::captures;
use tapline_harness::pcap_files::packets;
use tapline_harness::tshark;

const FIELDS: [&str; 9] = [
    "frame.protocols",
    "tcp.stream",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "udp.srcport",
    "udp.dstport",
];

/// One packet as tshark sees it.
struct Row<'a> {
    columns: &'a [String],
    is_fragment: bool,
}

impl Row<'_> {
    fn all(&self, field: &str) -> Vec<&str> {
        let place = FIELDS.iter().position(|&name| name == field).expect("a field that was asked for");
        self.columns[place].split(',').filter(|value| !value.is_empty()).collect()
    }

    /// What tshark calls the layers, from the outermost on, without tags, labels and IPv6 extension headers.
    fn layers(&self) -> Vec<&str> {
        let skipped =
            |name: &&str| !name.starts_with("ipv6.") && !["vlan", "mpls", "ethertype"].contains(name);
        self.columns[0].split(':').filter(skipped).collect()
    }

    /// The stream of the outermost, or the innermost, IP packet if it has TCP or UDP in it and both sides see it in the same way.
    fn stream(&self, is_inner: bool) -> Option<String> {
        // where the address is not in the fixed header, or tshark looks into what Tapline does not
        const OTHER: [&str; 12] = [
            "ipv6.routing",
            "ipv6.dstopts",
            "teredo",
            "ayiya",
            "icmp",
            "icmpv6",
            "vntag",
            "cfp",
            "llc",
            "gtpprime",
            "ppp",
            "wlan",
        ];
        let all: Vec<&str> = self.columns[0].split(':').collect();
        let is_gre_in_udp = is_inner && self.columns[0].contains("udp:gre");
        if self.is_fragment || is_gre_in_udp || all.iter().any(|name| OTHER.contains(name)) {
            return None;
        }
        let layers = self.layers();
        let is_ip = |name: &&str| ["ip", "ipv6"].contains(name);
        let at = if is_inner { layers.iter().rposition(is_ip)? } else { layers.iter().position(is_ip)? };
        let transport = layers.get(at + 1).copied().filter(|name| ["tcp", "udp"].contains(name))?;
        // a tunnel without IP inside, or one that only tshark goes into
        let is_tunnel = |name: &&str| ["vxlan", "geneve", "gtp", "gre", "erspan", "eth"].contains(name);
        if is_inner && layers[at + 1..].iter().any(is_tunnel) {
            return None;
        }
        let of = |field: &str| {
            let values = self.all(field);
            if is_inner { values.last().copied() } else { values.first().copied() }
        };
        if transport == "tcp" {
            return of("tcp.stream").map(|stream| format!("tcp {stream}"));
        }
        // tshark's UDP streams take RPC's answers from other ports in: addresses and ports say less, and are as well its own
        let end = |side: &str, port: &str| {
            Some(format!("{} {}", of(&format!("{}.{side}", layers[at]))?, of(port)?))
        };
        let mut ends = [end("src", "udp.srcport")?, end("dst", "udp.dstport")?];
        ends.sort();
        Some(format!("udp {}", ends.join(" ")))
    }

    /// The pair of addresses of the outermost IP packet.
    fn pair(&self) -> Option<[String; 2]> {
        const OTHER: [&str; 6] = ["ipv6.routing", "ipv6.dstopts", "cfp", "llc", "vntag", "ieee8021ah"];
        if self.columns[0].split(':').any(|name| OTHER.contains(&name)) {
            return None;
        }
        let version = self.layers().into_iter().find(|name| ["ip", "ipv6"].contains(name))?;
        let address =
            |side: &str| self.all(&format!("{version}.{side}")).first().map(|&address| address.to_owned());
        let mut pair = [address("src")?, address("dst")?];
        pair.sort();
        Some(pair)
    }
}

/// Which of the outputs each packet of the input went to: outputs keep the order of the input.
fn places(packets: &[Vec<u8>], outputs: &[Vec<Vec<u8>>]) -> Vec<Option<usize>> {
    let mut heads = vec![0; outputs.len()];
    let places = packets.iter().map(|packet| {
        let place = (0..outputs.len()).find(|&place| outputs[place].get(heads[place]) == Some(packet))?;
        heads[place] += 1;
        Some(place)
    });
    let places = places.collect();
    assert!(
        heads.iter().zip(outputs).all(|(&head, output)| head == output.len()),
        "what comes out is what came in, in order"
    );
    places
}

/// Flows of more than one packet, and of those the flows whose packets came from several ports: both directions.
fn assert_whole(what: &str, flows: impl Iterator<Item = (String, Option<usize>, String)>) -> usize {
    let mut seen = BTreeMap::<String, (BTreeSet<Option<usize>>, BTreeSet<String>, usize)>::new();
    for (flow, place, side) in flows {
        let entry = seen.entry(flow).or_default();
        entry.0.insert(place);
        entry.1.insert(side);
        entry.2 += 1;
    }
    let split: Vec<_> = seen.iter().filter(|(_, (places, ..))| places.len() > 1).collect();
    let several = seen.values().filter(|(.., packets)| *packets > 1).count();
    let both = seen.values().filter(|(_, sides, _)| sides.len() > 1).count();
    println!(
        "{what}: {} flows, {several} of several packets, {both} in both directions, {} split",
        seen.len(),
        split.len()
    );
    assert!(split.is_empty(), "{what}: {split:?}");
    several
}

#[test]
fn balancing_and_flow_sampling_split_no_flow_of_the_captures() {
    let bench = Bench::new();
    let Some(merged) = captures::merged(&bench.path("")) else { return };
    let mut fields: Vec<&str> = FIELDS.to_vec();
    fields.extend(["ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.nxt"]);
    let rows = tshark::columns(&merged, &fields);
    let packets = packets(&merged);
    assert_eq!(rows.len(), packets.len());

    let mut pipeline = format!("port attach tap0 net_pcap0,rx_pcap={} txq 0\n", merged.display());
    let hashes = ["5-tuple outer", "5-tuple inner", "ip outer", "rss outer"];
    for (group, hash) in hashes.iter().enumerate() {
        let mut tools = Vec::new();
        for member in 0..3 {
            let name = format!("g{group}m{member}");
            let device = 1 + 3 * group + member;
            writeln!(pipeline, "port attach p{name} net_pcap{device},tx_pcap=@/{name}.pcap rxq 0\ntool create {name} port p{name}")
                .expect("writing to a string");
            tools.push(name);
        }
        writeln!(pipeline, "group create g{group} tools {} hash {hash}", tools.join(","))
            .expect("writing to a string");
        writeln!(pipeline, "rule create {} from tap0 to g{group}", group + 1).expect("writing to a string");
    }
    for (place, (name, hash)) in
        [("sampled", ""), ("insided", "hash 5-tuple inner"), ("paired", "hash ip")].into_iter().enumerate()
    {
        let device = 20 + place;
        writeln!(pipeline, "port attach p{name} net_pcap{device},tx_pcap=@/{name}.pcap rxq 0\ntool create {name} port p{name}")
            .expect("writing to a string");
        writeln!(pipeline, "rule create {device} from tap0 sample flow 1/3 {hash} to {name}")
            .expect("writing to a string");
    }
    let run = bench.run(&pipeline, &[]);
    let total = packets.len() as u64;
    assert_eq!((run.number("packets/received"), run.number("copies/dropped/congested")), (total, 0));
    for group in 0..hashes.len() {
        assert_eq!(
            (
                run.number(&format!("groups/g{group}/requested")),
                run.number(&format!("groups/g{group}/assigned"))
            ),
            (total, total)
        );
    }

    // net_pcap cuts what it writes
    let is_whole = |packet: &Vec<u8>| packet.len() <= 16128;
    let kept: Vec<usize> = (0..packets.len()).filter(|&at| is_whole(&packets[at])).collect();
    let input: Vec<Vec<u8>> = kept.iter().map(|&at| packets[at].clone()).collect();
    let rows: Vec<Row<'_>> = kept
        .iter()
        .map(|&at| {
            let (columns, marks) = rows[at].split_at(FIELDS.len());
            let is_set =
                |mark: &String| mark.split(',').any(|value| !["", "0", "0x0000", "False"].contains(&value));
            Row { columns, is_fragment: is_set(&marks[0]) || is_set(&marks[1]) || !marks[2].is_empty() }
        })
        .collect();
    let written = |name: &str| {
        bench
            .read(&format!("{name}.pcap"))
            .into_iter()
            .filter(|packet| packet.len() < 16128)
            .collect::<Vec<_>>()
    };
    let placed = |group: usize| {
        let outputs: Vec<_> = (0..3).map(|member| written(&format!("g{group}m{member}"))).collect();
        let places = places(&input, &outputs);
        assert!(places.iter().all(Option::is_some), "every packet went to a member");
        places
    };
    let side = |row: &Row<'_>| {
        let ports: Vec<&str> = ["ip.src", "ipv6.src", "tcp.srcport", "udp.srcport"]
            .into_iter()
            .flat_map(|field| row.all(field))
            .collect();
        ports.join(" ")
    };
    let streams = |is_inner: bool, places: Vec<Option<usize>>| {
        let flows = rows
            .iter()
            .zip(places)
            .filter_map(|(row, place)| Some((row.stream(is_inner)?, place, side(row))));
        flows.collect::<Vec<_>>().into_iter()
    };
    assert!(assert_whole("5-tuple, outer streams", streams(false, placed(0))) > 500);
    assert!(assert_whole("5-tuple inner, inner streams", streams(true, placed(1))) > 500);
    assert!(assert_whole("rss, outer streams", streams(false, placed(3))) > 500);
    let tunnelled = |row: &&Row<'_>| {
        row.stream(true).is_some()
            && row.layers().iter().filter(|name| ["ip", "ipv6"].contains(name)).count() > 1
    };
    println!("{} packets in tunnels among the inner streams", rows.iter().filter(tunnelled).count());
    assert!(rows.iter().filter(tunnelled).count() > 100);

    let places = placed(2);
    let fragments = rows.iter().filter(|row| row.is_fragment).count();
    let pairs = rows
        .iter()
        .zip(&places)
        .filter_map(|(row, &place)| Some((row.pair()?.join(" "), place, side(row))));
    assert!(assert_whole(&format!("ip, pairs of addresses with {fragments} fragments"), pairs) > 300);
    assert!(fragments > 50);
    let fragments_of = |group: usize| {
        let places = placed(group);
        let rows = rows.iter().zip(places).filter(|(row, _)| row.is_fragment);
        rows.filter_map(|(row, place)| Some((row.pair()?.join(" "), place, side(row))))
            .collect::<Vec<_>>()
            .into_iter()
    };
    assert_whole("5-tuple, fragments by pairs of addresses", fragments_of(0));
    assert_whole("rss, fragments by pairs of addresses", fragments_of(3));

    assert!(
        assert_whole(
            "sample flow hash 5-tuple inner",
            streams(true, places_or_none(&input, written("insided")))
        ) > 500
    );
    let paired = places_or_none(&input, written("paired"));
    let pairs = rows
        .iter()
        .zip(&paired)
        .filter_map(|(row, &place)| Some((row.pair()?.join(" "), place, side(row))));
    assert!(assert_whole("sample flow hash ip, pairs of addresses with fragments", pairs) > 300);
    let sampled = places_or_none(&input, written("sampled"));
    let share = sampled.iter().flatten().count() as f64 / input.len() as f64;
    println!("sample flow 1/3 kept {share:.3} of the packets");
    assert!(assert_whole("sample flow, outer streams", streams(false, sampled)) > 500);
}

#[test]
fn balancing_by_mac_vlan_vni_and_teid_keeps_together_what_tshark_says_has_one() {
    const FIELDS: [&str; 10] = [
        "frame.protocols",
        "eth.src",
        "eth.dst",
        "vlan.id",
        "vxlan.vni",
        "geneve.vni",
        "gtp.teid",
        "gtp.message",
        "ip.flags.mf",
        "ip.frag_offset",
    ];
    let bench = Bench::new();
    let Some(merged) = captures::merged(&bench.path("")) else { return };
    let packets = packets(&merged);
    let hashes = ["mac", "vlan", "vni", "teid", "vlan inner", "vni inner", "teid inner"];
    let mut pipeline = format!("port attach tap0 net_pcap0,rx_pcap={} txq 0\n", merged.display());
    for (group, hash) in hashes.iter().enumerate() {
        let tools: Vec<String> = (0..3).map(|member| format!("g{group}m{member}")).collect();
        for (member, name) in tools.iter().enumerate() {
            let device = 1 + 3 * group + member;
            writeln!(pipeline, "port attach p{name} net_pcap{device},tx_pcap=@/{name}.pcap rxq 0\ntool create {name} port p{name}")
                .expect("writing to a string");
        }
        writeln!(pipeline, "group create g{group} tools {} hash {hash}", tools.join(","))
            .expect("writing to a string");
        writeln!(pipeline, "rule create {} from tap0 to g{group}", group + 1).expect("writing to a string");
    }
    let run = bench.run(&pipeline, &[]);
    assert_eq!(run.number("packets/received"), packets.len() as u64);

    // net_pcap cuts what it writes
    let rows = tshark::columns(&merged, &FIELDS);
    let (rows, input): (Vec<_>, Vec<_>) =
        rows.into_iter().zip(packets).filter(|(_, packet)| packet.len() < 16128).unzip();
    let values = |row: &[String], field: &str| {
        let place = FIELDS.iter().position(|&name| name == field).expect("a field that was asked for");
        row[place].split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    // tags in front of the first IP header, innermost last
    let is_tagged = |row: &[String]| {
        row[0].split(':').take_while(|name| !["ip", "ipv6"].contains(name)).any(|name| name == "vlan")
    };
    // later fragments show no identifier, and so the first is not looked into
    let is_fragment = |row: &[String]| {
        row[8].contains('1') || row[9].split(',').any(|offset| !["", "0"].contains(&offset))
    };
    let key = |hash: &str, row: &[String]| match hash {
        "vni" | "vni inner" | "teid" | "teid inner" if is_fragment(row) => None,
        "mac" => {
            let mut pair =
                [values(row, "eth.src").first()?.clone(), values(row, "eth.dst").first()?.clone()];
            pair.sort();
            Some(pair.join(" "))
        }
        "vlan" => {
            Some(if is_tagged(row) { values(row, "vlan.id").first()?.clone() } else { "0".to_owned() })
        }
        "vlan inner" => {
            // of frames in frames only what is certain: one Ethernet header, or none with a tag
            let is_plain = row[0].matches("eth:").count() == 1 || values(row, "vlan.id").is_empty();
            is_plain.then(|| values(row, "vlan.id").first().cloned().unwrap_or_else(|| "0".to_owned()))
        }
        "vni" => values(row, "vxlan.vni")
            .into_iter()
            .chain(values(row, "geneve.vni"))
            .map(|id| number(&id))
            .next(),
        "vni inner" => {
            let ids: Vec<String> =
                values(row, "vxlan.vni").into_iter().chain(values(row, "geneve.vni")).collect();
            if ids.len() == 1 { Some(number(&ids[0])) } else { None }
        }
        // 255 is user data; the rest is control
        _ if values(row, "gtp.message") == ["0xff"] => values(row, "gtp.teid").last().cloned(),
        _ => None,
    };
    for (group, hash) in hashes.iter().enumerate() {
        let outputs: Vec<_> = (0..3)
            .map(|member| {
                bench
                    .read(&format!("g{group}m{member}.pcap"))
                    .into_iter()
                    .filter(|packet| packet.len() < 16128)
                    .collect()
            })
            .collect();
        let places = places(&input, &outputs);
        assert!(places.iter().all(Option::is_some), "every packet went to a member");
        let flows: Vec<_> = rows
            .iter()
            .zip(&places)
            .filter_map(|(row, &place)| Some((key(hash, row)?, place, row[1].clone())))
            .collect();
        let members: BTreeSet<_> = flows.iter().map(|(_, place, _)| place).collect();
        assert!(members.len() > 1, "{hash}: all of it is at one member");
        let least = if hash.starts_with("vni") { 4 } else { 10 };
        assert!(assert_whole(hash, flows.into_iter()) >= least, "{hash}");
    }
}

/// tshark writes some identifiers in decimal and some in hexadecimal.
fn number(text: &str) -> String {
    let value = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    value.expect("a number").to_string()
}

/// Which packets were kept, for an output that has a part of the input. A packet that came several times is kept each time or
/// never.
fn places_or_none(packets: &[Vec<u8>], output: Vec<Vec<u8>>) -> Vec<Option<usize>> {
    let mut left = BTreeMap::<&[u8], usize>::new();
    output.iter().for_each(|packet| *left.entry(packet).or_default() += 1);
    let mut came = BTreeMap::<&[u8], usize>::new();
    packets.iter().for_each(|packet| *came.entry(packet).or_default() += 1);
    assert!(
        left.iter().all(|(packet, count)| came.get(packet) == Some(count)),
        "a packet kept once and left out once"
    );
    packets.iter().map(|packet| left.contains_key(packet.as_slice()).then_some(0)).collect()
}
