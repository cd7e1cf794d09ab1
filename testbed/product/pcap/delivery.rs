//! What rules, groups, samplers, several ports and several workers make of captured packets, against obvious models.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use tapline_harness::captures;
use tapline_harness::judges::assert_same;
use tapline_harness::lab::{Lab, office, pcap_tools};
use tapline_harness::pcap_files::{packets, tcpdump_selects, write_capture};
use tapline_harness::programs::has_program;

const INPUT: &str = "set idle sleep\nport attach in net_pcap0,rx_pcap=in.pcap\n";

/// Whether the packets of `part` stand in `whole` in the same order.
fn is_in_order(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|packet| rest.any(|other| other == packet))
}

/// Asserts that the files together hold each packet once, each in the order of the input.
fn assert_each_packet_once(parts: &[Vec<Vec<u8>>], whole: &[Vec<u8>]) {
    for (index, part) in parts.iter().enumerate() {
        assert!(is_in_order(part, whole), "file {index} is out of order");
    }
    let sorted = |mut packets: Vec<Vec<u8>>| {
        packets.sort();
        packets
    };
    assert_same("all files together", &sorted(parts.concat()), &sorted(whole.to_vec()));
}

#[test]
fn a_group_gives_each_packet_to_one_member_and_both_directions_of_a_flow_to_the_same() {
    let lab = Lab::new();
    let whole = office(&lab);
    let names = ["a", "b", "c", "d"];
    let pipeline =
        format!("{INPUT}{}group create g tools a,b,c,d\nrule create 1 from in to g\n", pcap_tools(&names));
    let account = lab.account(&pipeline, &[]);
    let members: Vec<Vec<Vec<u8>>> =
        names.iter().map(|name| packets(&lab.path(&format!("{name}.pcap")))).collect();
    assert_each_packet_once(&members, &whole);
    assert_eq!(account.number("copies/sent"), whole.len() as u64);

    // the generator gives each conversation a client MAC address of its own, 02:00:00:00:01:NN
    let mut member_of = HashMap::new();
    for (member, packets) in members.iter().enumerate() {
        for packet in packets {
            let client =
                [&packet[..6], &packet[6..12]].into_iter().find(|mac| mac.starts_with(&[2, 0, 0, 0, 1]));
            let Some(client) = client.filter(|_| packet[12..14] != [8, 6]) else { continue };
            // a conversation that sends whole and fragmented datagrams has its fragments together, but maybe elsewhere
            let is_fragmenting = client[5] % 8 == 5;
            let other = *member_of.entry(client.to_vec()).or_insert(member);
            assert!(
                other == member || is_fragmenting,
                "conversation {client:02x?} is with members {other} and {member}"
            );
        }
    }
    assert!(members.iter().all(|member| member.len() > whole.len() / 20), "a member got next to nothing");
}

#[test]
fn a_group_by_addresses_keeps_fragments_with_their_flow() {
    let lab = Lab::new();
    let whole = office(&lab);
    let pipeline = format!(
        "{INPUT}{}group create g tools a,b,c hash ip\nrule create 1 from in to g\n",
        pcap_tools(&["a", "b", "c"])
    );
    lab.account(&pipeline, &[]);
    let members: Vec<Vec<Vec<u8>>> =
        ["a.pcap", "b.pcap", "c.pcap"].iter().map(|name| packets(&lab.path(name))).collect();
    assert_each_packet_once(&members, &whole);
    let mut member_of = HashMap::new();
    for (member, packet) in members
        .iter()
        .enumerate()
        .flat_map(|(member, packets)| packets.iter().map(move |packet| (member, packet)))
    {
        let client =
            [&packet[..6], &packet[6..12]].into_iter().find(|mac| mac.starts_with(&[2, 0, 0, 0, 1]));
        if let Some(client) = client.filter(|_| packet[12..14] != [8, 6]) {
            assert_eq!(
                *member_of.entry(client.to_vec()).or_insert(member),
                member,
                "conversation {client:02x?}"
            );
        }
    }
}

/// The flows of a capture as tshark sees their outermost headers, both directions alike; fragments are left out.
fn flows(capture: &Path) -> HashSet<String> {
    let fields = ["ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.port", "udp.port"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    tshark
        .args(["-Y", "(tcp || udp) && !cfp && !icmp && !icmpv6 && !(ip.flags.mf == 1) && !(ip.frag_offset > 0) && !ipv6.fraghdr"]);
    tshark.args(["-T", "fields", "-E", "separator=;", "-E", "aggregator=,"]);
    fields.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let output = tshark.output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sorted = |a: &str, b: &str| if a < b { format!("{a} {b}") } else { format!("{b} {a}") };
    let flow = |line: &str| {
        let fields: Vec<Vec<&str>> = line
            .split(';')
            .map(|field| field.split(',').filter(|value| !value.is_empty()).collect())
            .collect();
        // packets inside packets are judged by their carrier: only plain ones have one pair of addresses and one of ports
        let ([a], [b]) =
            (&[&fields[0][..], &fields[2]].concat()[..], &[&fields[1][..], &fields[3]].concat()[..])
        else {
            return None;
        };
        let [source, destination] = [&fields[4][..], &fields[5]].concat()[..] else { return None };
        Some(format!(
            "{} {}",
            if fields[4].is_empty() { "udp" } else { "tcp" },
            sorted(&format!("{a} {source}"), &format!("{b} {destination}"))
        ))
    };
    text.lines().filter_map(flow).collect()
}

#[test]
fn a_group_keeps_the_flows_of_the_public_captures_whole() {
    let Some(folder) = captures::folder() else { return };
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let all: Vec<captures::Packet> =
        captures::ethernet(&folder).iter().flat_map(|file| captures::packets(file)).collect();
    write_capture(
        &lab.path("in.pcap"),
        all.iter().map(|packet| (&packet.bytes[..], packet.bytes.len() as u32)),
    );
    let names = ["a", "b", "c", "d"];
    let pipeline =
        format!("{INPUT}{}group create g tools a,b,c,d\nrule create 1 from in to g\n", pcap_tools(&names));
    let account = lab.account(&pipeline, &["--exit-idle", "2s"]);
    assert_eq!(account.number("copies/sent"), all.len() as u64);
    let members: Vec<HashSet<String>> =
        names.iter().map(|name| flows(&lab.path(&format!("{name}.pcap")))).collect();
    for (index, member) in members.iter().enumerate() {
        assert!(member.len() > 100, "tshark sees {} flows at member {index}", member.len());
        for (other_index, other) in members.iter().enumerate().skip(index + 1) {
            let split: Vec<&String> = member.intersection(other).collect();
            assert!(split.is_empty(), "members {index} and {other_index} share {split:?}");
        }
    }
}

#[test]
fn three_tools_get_three_equal_copies() {
    let lab = Lab::new();
    let whole = office(&lab);
    let pipeline = format!("{INPUT}{}rule create 1 from in to a,b,c\n", pcap_tools(&["a", "b", "c"]));
    let account = lab.account(&pipeline, &[]);
    for name in ["a.pcap", "b.pcap", "c.pcap"] {
        assert_same(name, &packets(&lab.path(name)), &whole);
    }
    assert_eq!(
        (account.number("packets/delivered"), account.number("copies/sent")),
        (whole.len() as u64, 3 * whole.len() as u64)
    );
}

#[test]
fn rules_that_take_everything_count_and_end_as_all_rules_do() {
    let lab = Lab::new();
    let whole = office(&lab);
    let names = ["a", "b", "c"];
    let pipeline = format!(
        "{INPUT}{}rule create 1 from in to b\nrule create 2 from in to a,b final\nrule create 3 from in to c\n",
        pcap_tools(&names)
    );
    let account = lab.account(&pipeline, &[]);
    for (name, copies) in [("a", whole.len()), ("b", whole.len()), ("c", 0)] {
        assert_same(name, &packets(&lab.path(&format!("{name}.pcap"))), &whole[..copies]);
        assert_eq!(account.number(&format!("tools/{name}/sent")), copies as u64, "{name}");
    }
    for (rule, matched) in [(1, whole.len()), (2, whole.len()), (3, 0)] {
        assert_eq!(account.number(&format!("rules/{rule}/matched")), matched as u64, "rule {rule}");
    }
    assert_eq!(account.number("packets/delivered"), whole.len() as u64);
    assert_eq!(account.number("copies/requested"), 2 * whole.len() as u64);
}

#[test]
fn a_sampler_keeps_the_first_packet_and_every_nth_after_it() {
    let lab = Lab::new();
    let whole = office(&lab);
    let steps = [1, 2, 3, 7, 64, 100, 5000];
    let names: Vec<String> = steps.iter().map(|step| format!("t{step}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut pipeline = INPUT.to_owned() + "set burst 64\n" + &pcap_tools(&names);
    for step in steps {
        pipeline += &format!("rule create {step} from in sample 1/{step} to t{step}\n");
    }
    pipeline += "rule create 6000 from in match \"tcp\" sample 1/10 to t5000\n";
    let account = lab.account(&pipeline, &[]);
    for step in &steps[..steps.len() - 1] {
        let expected: Vec<Vec<u8>> = whole.iter().step_by(*step).cloned().collect();
        assert_same(&format!("1/{step}"), &packets(&lab.path(&format!("t{step}.pcap"))), &expected);
        assert_eq!(
            account.number(&format!("rules/{step}/sampled_out")),
            (whole.len() - expected.len()) as u64
        );
    }
    let tcp = account.number("rules/6000/matched");
    assert_eq!(account.number("rules/6000/sampled_out"), tcp - tcp.div_ceil(10));
    // rule 1 takes everything, so that no packet's own disposition is `sampled_out`
    assert_eq!(
        (account.number("packets/delivered"), account.number("packets/sampled_out")),
        (whole.len() as u64, 0)
    );
}

#[test]
fn vlan_lists_choose_by_the_outermost_tag() {
    let lab = Lab::new();
    let whole = office(&lab);
    let rules = "rule create 1 from in vlan 100 to a\nrule create 2 from in vlan 101-103,500 to b\n\
                 rule create 3 from in vlan 100-102 match \"udp\" through vlan to c\n";
    lab.account(&format!("{INPUT}{}{rules}", pcap_tools(&["a", "b", "c"])), &[]);
    let vlan = |packet: &[u8]| {
        let is_tagged = [[0x81, 0], [0x88, 0xa8]].contains(&[packet[12], packet[13]]);
        is_tagged.then(|| u16::from_be_bytes([packet[14], packet[15]]) & 0xfff)
    };
    // as libpcap: behind IPv6 the header next to it, or behind a fragment header
    let is_udp = |packet: &[u8]| match packet[16..18] {
        [0x08, 0x00] => packet[27] == 17,
        _ => packet[24] == 17 || packet[24] == 44 && packet[58] == 17,
    };
    let expected = |wanted: &dyn Fn(&Vec<u8>) -> bool| {
        whole.iter().filter(|packet| wanted(packet)).cloned().collect::<Vec<_>>()
    };
    assert_same("100", &packets(&lab.path("a.pcap")), &expected(&|packet| vlan(packet) == Some(100)));
    let in_b = |packet: &Vec<u8>| vlan(packet).is_some_and(|id| (101..=103).contains(&id) || id == 500);
    assert_same("101-103,500", &packets(&lab.path("b.pcap")), &expected(&in_b));
    let in_c =
        |packet: &Vec<u8>| vlan(packet).is_some_and(|id| (100..=102).contains(&id)) && is_udp(packet);
    assert_same("100-102 and udp", &packets(&lab.path("c.pcap")), &expected(&in_c));
}

/// A rule of the model below.
struct ModelRule {
    priority: u32,
    expression: &'static str,
    tools: Vec<usize>,
    end: &'static str,
}

/// Rules in the order of their priorities; every match adds tools, `final` and `drop` end the search.
fn model(rules: &[ModelRule], whole: &[Vec<u8>], tools: usize) -> (Vec<Vec<Vec<u8>>>, [u64; 3]) {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).expect("an Ethernet capture");
    let mut order: Vec<&ModelRule> = rules.iter().collect();
    order.sort_by_key(|rule| rule.priority);
    let programs: Vec<_> =
        order.iter().map(|rule| dead.compile(rule.expression, true).expect("an expression")).collect();
    let (mut files, mut ends) = (vec![Vec::new(); tools], [0; 3]);
    for packet in whole {
        let (mut chosen, mut is_taken, mut is_excluded) = (HashSet::new(), false, false);
        for (rule, program) in order.iter().zip(&programs) {
            if !program.filter(packet) {
                continue;
            }
            (is_taken, is_excluded) = (is_taken || rule.end != "drop", is_excluded || rule.end == "drop");
            chosen.extend(&rule.tools);
            if !rule.end.is_empty() {
                break;
            }
        }
        chosen.iter().for_each(|&&tool| files[tool].push(packet.clone()));
        ends[if is_taken {
            0
        } else if is_excluded {
            1
        } else {
            2
        }] += 1;
    }
    (files, ends)
}

#[test]
fn rules_end_in_the_same_files_as_in_a_model() {
    let expressions = [
        "tcp",
        "udp",
        "ip6",
        "tcp port 443",
        "udp port 5004",
        "icmp or icmp6",
        "arp",
        "vlan",
        "len > 600",
        "ip",
        "less 80",
        "port 53",
    ];
    let mut state = 12345u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        (state >> 16) % below
    };
    for round in 0..4 {
        let lab = Lab::new();
        let whole = office(&lab);
        let rules: Vec<ModelRule> = (0..14)
            .map(|index| {
                let end = ["", "", "final", "drop"][random(4) as usize];
                let tools =
                    if end == "drop" { vec![] } else { (0..4).filter(|_| random(2) == 0).collect() };
                let tools =
                    if end != "drop" && tools.is_empty() { vec![random(4) as usize] } else { tools };
                // priorities in no order of the lines
                ModelRule {
                    priority: random(1000) * 100 + index,
                    expression: expressions[random(12) as usize],
                    tools,
                    end,
                }
            })
            .collect();
        let mut pipeline = INPUT.to_owned() + &pcap_tools(&["t0", "t1", "t2", "t3"]);
        for rule in &rules {
            let tools: Vec<String> = rule.tools.iter().map(|tool| format!("t{tool}")).collect();
            let to = if tools.is_empty() { String::new() } else { format!("to {}", tools.join(",")) };
            pipeline += &format!(
                "rule create {} from in match \"{}\" {to} {}\n",
                rule.priority, rule.expression, rule.end
            );
        }
        let account = lab.account(&pipeline, &[]);
        let (files, [delivered, excluded, unmatched]) = model(&rules, &whole, 4);
        for (tool, expected) in files.iter().enumerate() {
            assert_same(
                &format!("round {round}, t{tool}\n{pipeline}"),
                &packets(&lab.path(&format!("t{tool}.pcap"))),
                expected,
            );
        }
        let counted =
            ["delivered", "excluded", "unmatched"].map(|end| account.number(&format!("packets/{end}")));
        assert_eq!(counted, [delivered, excluded, unmatched], "round {round}\n{pipeline}");
    }
}

#[test]
fn two_taps_come_together_at_one_tool_each_in_its_order() {
    let lab = Lab::new();
    let east = office(&lab);
    let west: Vec<Vec<u8>> =
        tapline_traffic::jumbo().packets.into_iter().map(|packet| packet.bytes).collect();
    lab.write("west.pcap", tapline_traffic::jumbo().to_pcap());
    let pipeline = format!(
        "{INPUT}{}port attach west net_pcap9,rx_pcap=west.pcap\nrule create 1 from in,west to t\nrule create 2 from west to w\n",
        pcap_tools(&["t", "w"])
    );
    let account = lab.account(&pipeline, &[]);
    let sent = packets(&lab.path("t.pcap"));
    assert!(is_in_order(&east, &sent) && is_in_order(&west, &sent));
    assert_eq!(sent.len(), east.len() + west.len());
    assert_same("west alone", &packets(&lab.path("w.pcap")), &west);
    assert_eq!(account.number("ports/west/received"), west.len() as u64);
}

/// net_pcap has one queue each way: each worker polls one input, and the one that does not own a tool's transmit queue hands over.
#[test]
fn two_workers_share_tools_with_one_queue() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        tapline_skip::skipped("one CPU");
        return;
    }
    let lab = Lab::new();
    let whole = office(&lab);
    let names = ["a", "b", "c", "d", "e"];
    let pipeline = format!(
        "{INPUT}set lcores 0-1\nset mempool 16384\n{}port attach west net_pcap9,rx_pcap=in.pcap\ngroup create g tools b,c,d\n\
         rule create 1 from in,west to a,g\nrule create 2 from west match \"tcp\" to e\n",
        pcap_tools(&names)
    );
    let account = lab.account(&pipeline, &[]);
    let count = whole.len() as u64;
    assert_eq!(
        (account.number("packets/delivered"), account.number("tools/a/sent")),
        (2 * count, 2 * count)
    );
    let all = packets(&lab.path("a.pcap"));
    let odd_one_out: Vec<Vec<Vec<u8>>> =
        ["b.pcap", "c.pcap", "d.pcap"].iter().map(|name| packets(&lab.path(name))).collect();
    let mut twice = [&whole[..], &whole[..]].concat();
    let (mut together, mut at_a) = (odd_one_out.concat(), all.clone());
    [&mut twice, &mut together, &mut at_a].into_iter().for_each(|packets| packets.sort());
    assert_same("the group", &together, &twice);
    assert_same("tool a", &at_a, &twice);
    // both inputs are the same file: as an order of its own, each must be found in what the tool got
    assert!(is_in_order(&whole, &all));
    let tcp: Vec<Vec<u8>> =
        tcpdump_selects(&lab.path("in.pcap"), "tcp").unwrap_or_else(|| packets(&lab.path("e.pcap")));
    assert_same("tool e", &packets(&lab.path("e.pcap")), &tcp);
    assert_eq!(account.last()["lcores"].as_object().expect("lcores").len(), 2);
}

/// A net_ring port whose own receive side nobody polls takes as many packets as its ring has slots.
#[test]
fn a_tool_that_takes_no_more_loses_its_own_copies_and_costs_the_others_nothing() {
    let lab = Lab::new();
    let whole = office(&lab);
    let pipeline = format!(
        "{INPUT}{}port attach stuck net_ring0 rxq 0\ntool create stuck port stuck queue 64\nrule create 1 from in to a,stuck\n",
        pcap_tools(&["a"])
    );
    let account = lab.account(&pipeline, &[]);
    assert_same("the other tool", &packets(&lab.path("a.pcap")), &whole);
    let (sent, lost) =
        (account.number("tools/stuck/sent"), account.number("tools/stuck/dropped/congested"));
    assert!(sent > 0 && lost > 0 && sent + lost == whole.len() as u64, "{sent} sent, {lost} dropped");
    assert_eq!(account.number("copies/dropped/congested"), lost);
}

#[test]
fn a_tool_whose_port_is_stopped_is_down() {
    let lab = Lab::new();
    let whole = office(&lab);
    let pipeline =
        format!("{INPUT}{}port stop b-port\nrule create 1 from in to a,b\n", pcap_tools(&["a", "b"]));
    let account = lab.account(&pipeline, &[]);
    assert_eq!(account.number("tools/b/dropped/down"), whole.len() as u64);
    assert_same("the other tool", &packets(&lab.path("a.pcap")), &whole);
}
