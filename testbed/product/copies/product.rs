//! The product makes copies as tools want them: net_pcap in, net_pcap out, judged by tshark, editcap and obvious models.

use tapline_harness::frames::{self, tagged, tcp4, tcp6, udp4, udp6};
use tapline_harness::judges::assert_same;
use tapline_harness::lab::{self, Account, Lab};
use tapline_harness::pcap_files::{packets, read_pcap, write_frames};
use tapline_harness::programs::{self, has_program};
use tapline_harness::tshark::{assert_sound, fields, innermost_ethernet};

/// Runs `in.pcap` past tools, each with a capture of its own: NAME, what stands behind its port (or behind `capture`), and its
/// rules.
fn run(lab: &Lab, frames: &[Vec<u8>], tools: &[(&str, &str)], rules: &str) -> Account {
    run_from("net_pcap0,rx_pcap=in.pcap", lab, frames, tools, rules)
}

/// As `run`, with another device reading the file.
fn run_from(device: &str, lab: &Lab, frames: &[Vec<u8>], tools: &[(&str, &str)], rules: &str) -> Account {
    write_frames(&lab.path("in.pcap"), frames);
    let mut pipeline = format!("port attach tap0 {device}\n");
    for (place, (name, words)) in tools.iter().enumerate() {
        if let Some(words) = words.strip_prefix("capture") {
            pipeline += &format!("tool create {name} capture {name}.pcap{words}\n");
            continue;
        }
        pipeline += &format!("port attach {name}0 net_pcap{},tx_pcap={name}.pcap rxq 0\n", place + 1);
        pipeline += &format!("tool create {name} port {name}0 {words}\n");
    }
    lab.account(&format!("{pipeline}{rules}\n"), &[])
}

fn out(lab: &Lab, name: &str) -> Vec<Vec<u8>> {
    packets(&lab.path(&format!("{name}.pcap")))
}

fn of_all(frames: &[Vec<u8>], model: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| model(frame)).collect()
}

fn untagged(frame: &[u8]) -> Vec<u8> {
    let is_tagged = frame[12..14] == [0x81, 0];
    if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame.to_vec() }
}

fn with_mac(frame: &[u8], mac: [u8; 6]) -> Vec<u8> {
    [&mac, &frame[6..]].concat()
}

#[test]
fn each_tool_gets_its_own_edits_and_the_others_the_packet_as_it_came() {
    let lab = Lab::new();
    let frames = frames::frames();
    let tools = [
        ("whole", ""),
        ("sliced", "slice 64"),
        ("tagged", "tag vlan 900"),
        ("stripped", "strip vlan"),
        ("rewritten", "rewrite dst-mac 02:00:00:00:00:99"),
        ("masked", "mask 20 6 byte 0xff"),
        ("dropped", "payload drop"),
        ("both", "slice 40 tag vlan 5 from-port"),
    ];
    let account = run(
        &lab,
        &frames,
        &tools,
        "rule create 10 from tap0 to whole,sliced,tagged,stripped,rewritten,masked,dropped,both",
    );
    assert_same("whole", &out(&lab, "whole"), &frames);
    let cut = |len: usize| move |frame: &[u8]| frame[..frame.len().min(len)].to_vec();
    assert_same("sliced", &out(&lab, "sliced"), &of_all(&frames, cut(64)));
    assert_same("tagged", &out(&lab, "tagged"), &of_all(&frames, |frame| tagged(frame, 900, 0)));
    assert_same("stripped", &out(&lab, "stripped"), &of_all(&frames, untagged));
    let mac = [2, 0, 0, 0, 0, 0x99];
    assert_same("rewritten", &out(&lab, "rewritten"), &of_all(&frames, |frame| with_mac(frame, mac)));
    let mask = |frame: &[u8]| [&frame[..20], &[0xff; 6], &frame[26..]].concat();
    assert_same("masked", &out(&lab, "masked"), &of_all(&frames, mask));
    assert_same("both", &out(&lab, "both"), &of_all(&frames, |frame| tagged(&cut(40)(frame), 5, 0)));
    for (dropped, frame) in out(&lab, "dropped").iter().zip(&frames) {
        assert!(
            frame.starts_with(dropped) && dropped.len() <= 78,
            "{} of {} bytes",
            dropped.len(),
            frame.len()
        );
    }
    assert_eq!(account.number("copies/sent"), 8 * frames.len() as u64);
}

#[test]
fn sliced_copies_are_those_of_editcap() {
    if !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    let frames = lab::office(&lab);
    run(&lab, &frames, &[("t", "")], "rule create 10 from tap0 slice 100 to t");
    let (from, to) = (lab.path("in.pcap"), lab.path("editcap.pcap"));
    programs::run("editcap", &["-s", "100", from.to_str().expect("utf-8"), to.to_str().expect("utf-8")]);
    assert_same("editcap", &out(&lab, "t"), &packets(&to));
}

#[test]
fn a_tool_gets_the_edits_of_the_first_rule_that_chose_it_and_then_its_own() {
    let lab = Lab::new();
    let frames = frames::frames();
    let tools = [("a", ""), ("b", "tag vlan 7"), ("c", "")];
    let rules = "rule create 10 from tap0 match \"ip and tcp\" tag vlan 100 to a,b\n\
                 rule create 20 from tap0 to a\n\
                 rule create 30 from tap0 tag vlan 300 to a,b,c";
    let account = run(&lab, &frames, &tools, rules);
    // frames() has one untagged TCP packet over IPv4
    let is_tcp4 = |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 6;
    let a = of_all(&frames, |frame| if is_tcp4(frame) { tagged(frame, 100, 0) } else { frame.to_vec() });
    let b =
        of_all(&frames, |frame| tagged(&tagged(frame, if is_tcp4(frame) { 100 } else { 300 }, 0), 7, 0));
    assert_same("a", &out(&lab, "a"), &a);
    assert_same("b", &out(&lab, "b"), &b);
    assert_same("c", &out(&lab, "c"), &of_all(&frames, |frame| tagged(frame, 300, 0)));
    assert_eq!(frames.iter().filter(|frame| is_tcp4(frame)).count(), 1);
    assert_eq!(account.number("copies/requested"), 3 * frames.len() as u64);
}

#[test]
fn members_of_a_group_get_the_edits_of_the_rule() {
    let lab = Lab::new();
    let frames = lab::office(&lab);
    let tools = [("a", ""), ("b", ""), ("whole", "")];
    let rules = "group create g tools a,b\nrule create 10 from tap0 slice 60 to g\nrule create 20 from tap0 to whole";
    run(&lab, &frames, &tools, rules);
    let mut together = [out(&lab, "a"), out(&lab, "b")].concat();
    assert!(!out(&lab, "a").is_empty() && !out(&lab, "b").is_empty());
    let mut expected = of_all(&frames, |frame| frame[..frame.len().min(60)].to_vec());
    together.sort();
    expected.sort();
    assert_same("both members", &together, &expected);
    assert_same("whole", &out(&lab, "whole"), &frames);
}

#[test]
fn anonymized_copies_show_no_address_of_the_packets() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    lab.write("anon.key", (0..32).collect::<Vec<u8>>());
    let frames = frames::frames();
    let tools =
        [("kept", "anonymize ip prefix-preserving key anon.key keep 8/16"), ("random", "anonymize ip")];
    run(&lab, &frames, &tools, "rule create 10 from tap0 to kept,random");
    for name in ["kept", "random"] {
        let path = lab.path(&format!("{name}.pcap"));
        assert_sound(&path, &[]);
        let text = programs::run("tshark", &["-n", "-r", path.to_str().expect("utf-8"), "-V"]);
        for address in ["10.1.2.3", "10.4.5.6", "2001:db8::1", "2001:db8::2"] {
            assert!(!text.contains(address), "{name} shows {address}");
        }
    }
    let rows = fields(&lab.path("kept.pcap"), &[], &["ip.src", "arp.src.proto_ipv4", "ipv6.src"]);
    let addresses: Vec<&String> = rows.iter().flatten().filter(|address| !address.is_empty()).collect();
    assert!(
        addresses.iter().all(|address| address.starts_with("10.") || address.starts_with("2001:")),
        "{addresses:?}"
    );
    assert_eq!(addresses.len(), frames.len());
}

/// Transports by name, with the words for their tool and a filter that each of their packets passes.
const TUNNELS: [(&str, &str, &str); 7] = [
    ("erspan1", "session 1", "gre.proto == 0x88be && gre.flags.sequence_number == 0"),
    ("erspan2", "session 2 index 9 direction ingress", "erspan.version == 1 && erspan.spanid == 2"),
    (
        "erspan3",
        "session 3 sgt 9 hw-id 3 granularity 100ns direction egress",
        "erspan.version == 2 && erspan.spanid == 3",
    ),
    ("vxlan", "vni 5000", "vxlan.vni == 5000 && udp.dstport == 4789"),
    ("vxlan", "vni 77 udp-port 8472", "vxlan.vni == 77 && udp.dstport == 8472"),
    ("geneve", "vni 6000", "geneve.vni == 6000"),
    ("gre", "key 0xff", "gre.key == 0xff && gre.proto == 0x6558"),
];
const ENDS: [(&str, &str); 3] = [
    ("src 198.18.0.1 dst 198.18.0.9", "ip.src == 198.18.0.1 && ip.dst == 198.18.0.9 && ip.flags.df == 1"),
    (
        "src 198.18.0.1 dst 198.18.0.9 vlan 77 priority 5 ttl 33 dscp 46 df off",
        "vlan.id == 77 && vlan.priority == 5 && ip.ttl == 33 && ip.dsfield.dscp == 46",
    ),
    (
        "src 2001:db8:18::1 dst 2001:db8:18::9 ttl 7 dscp 8",
        "ipv6.src == 2001:db8:18::1 && ipv6.dst == 2001:db8:18::9 && ipv6.hlim == 7",
    ),
];
const MAC: &str = "next-hop 02:00:00:00:01:02";

#[test]
fn every_tunnel_carries_the_packets_whole_over_ipv4_and_ipv6() {
    if !has_program("tshark") {
        return;
    }
    let frames = [frames::frames(), vec![udp4(1300), tcp6(1300), tagged(&tcp4(1290), 9, 1)]].concat();
    for (ends, outer) in ENDS {
        let lab = Lab::new();
        let words: Vec<(String, String)> = TUNNELS
            .iter()
            .enumerate()
            .map(|(place, (kind, keys, _))| (format!("t{place}"), format!("{kind} {keys} {ends} {MAC}")))
            .collect();
        let mut tools: Vec<(&str, &str)> =
            words.iter().map(|(name, words)| (name.as_str(), words.as_str())).collect();
        tools.push(("whole", ""));
        let names: Vec<&str> = tools.iter().map(|(name, _)| *name).collect();
        run(&lab, &frames, &tools, &format!("rule create 10 from tap0 to {}", names.join(",")));
        assert_same("whole", &out(&lab, "whole"), &frames);
        for ((kind, keys, inner), name) in TUNNELS.iter().zip(&names) {
            let path = lab.path(&format!("{name}.pcap"));
            assert_sound(&path, &["-d", "udp.port==8472,vxlan"]);
            let copies = packets(&path);
            // tshark does not look for VXLAN on this port by itself
            let places = match *keys {
                "vni 77 udp-port 8472" => {
                    copies.iter().zip(&frames).map(|(copy, frame)| copy.len() - frame.len()).collect()
                }
                _ => innermost_ethernet(&path),
            };
            let carried: Vec<Vec<u8>> =
                copies.iter().zip(&places).map(|(copy, &place)| copy[place..].to_vec()).collect();
            assert_same(&format!("{kind} {ends}"), &carried, &frames);
            let filter = format!("eth.dst == 02:00:00:00:01:02 && {outer} && {inner}");
            let arguments =
                ["-n", "-r", path.to_str().expect("utf-8"), "-d", "udp.port==8472,vxlan", "-Y", &filter];
            assert_eq!(
                programs::run("tshark", &arguments).lines().count(),
                frames.len(),
                "{kind} {ends}: {filter}"
            );
            if ["erspan2", "erspan3"].contains(kind) {
                let numbers = fields(&path, &[], &["gre.sequence_number"]);
                let expected: Vec<Vec<String>> =
                    (0..frames.len()).map(|number| vec![number.to_string()]).collect();
                assert_eq!(numbers, expected, "{kind}");
            }
        }
    }
}

#[test]
fn udp_checksums_are_sent_where_the_tool_says_so_and_else_over_ipv6_alone() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let frames = vec![udp4(61), udp4(1001), tcp6(600)];
    let (v4, v6) =
        (format!("src 198.18.0.1 dst 198.18.0.9 {MAC}"), format!("src 2001:db8::1 dst 2001:db8::9 {MAC}"));
    let tools = [
        ("a", format!("vxlan vni 7 {v4}"), "Not present"),
        ("b", format!("geneve vni 7 udp-checksum {v4}"), "Good"),
        ("c", format!("geneve vni 7 {v6}"), "Good"),
        ("d", format!("vxlan vni 7 {v6} udp-checksum off"), "Not present"),
    ];
    let words: Vec<(&str, &str)> = tools.iter().map(|(name, words, _)| (*name, words.as_str())).collect();
    run(&lab, &frames, &words, "rule create 10 from tap0 to a,b,c,d");
    for (name, _, status) in tools {
        let path = lab.path(&format!("{name}.pcap"));
        // RFC 6935: both ends have to agree on none over IPv6
        let extra = ["-o", "udp.ignore_ipv6_zero_checksum:TRUE", "-E", "occurrence=f"];
        for row in fields(&path, &extra, &["udp.checksum.status"]) {
            assert_eq!(row, [if status == "Good" { "1" } else { "3" }], "{name}");
        }
    }
}

#[test]
fn an_rspan_tag_goes_in_front_or_takes_the_place_of_the_frames_own() {
    let lab = Lab::new();
    let frames = frames::frames();
    let tools =
        [("pushed", "rspan vlan 900 priority 3"), ("replaced", "rspan vlan 901 replace"), ("whole", "")];
    run(&lab, &frames, &tools, "rule create 10 from tap0 to pushed,replaced,whole");
    assert_same("pushed", &out(&lab, "pushed"), &of_all(&frames, |frame| tagged(frame, 900, 3)));
    assert_same(
        "replaced",
        &out(&lab, "replaced"),
        &of_all(&frames, |frame| tagged(&untagged(frame), 901, 0)),
    );
    assert_same("whole", &out(&lab, "whole"), &frames);
}

#[test]
fn timestamps_of_every_format_say_when_the_packet_came_to_the_nanosecond_of_its_capture() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let frames = vec![udp4(61), udp4(1000), tcp4(33), tcp6(600), udp6(59)];
    let tools = [
        ("ixia", "timestamp ixia"),
        // tshark takes these two for stamps only near the time of the file's packets
        ("vss", "capture timestamp vss"),
        ("arista", "timestamp arista"),
        ("gigamon", "timestamp gigamon"),
        ("metamako", "capture timestamp metamako"),
        ("erspan", &format!("erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 {MAC} timestamp erspan3")),
        ("inside", &format!("vxlan vni 7 src 198.18.0.1 dst 198.18.0.9 {MAC} timestamp ixia")),
        ("none", "timestamp none"),
    ];
    let times =
        vec![u64::from(frames::SECONDS) * 1_000_000_000 + u64::from(frames::NANOSECONDS); frames.len()];
    let rule = "rule create 10 from tap0 to ixia,vss,arista,gigamon,metamako,erspan,inside,none";
    run_from("replay:in.pcap,speed=max", &lab, &frames, &tools, rule);
    assert_same("none", &out(&lab, "none"), &frames);
    for (name, field) in [
        ("ixia", "ixiatrailer.timestamp"),
        ("vss", "vssmonitoring.time"),
        ("gigamon", "gmhdr.timestamp"),
        ("metamako", "metamako.time"),
        ("inside", "ixiatrailer.timestamp"),
    ] {
        let path = lab.path(&format!("{name}.pcap"));
        let extra: &[&str] = match name {
            "metamako" => {
                &["--enable-heuristic", "metamako_eth", "--disable-heuristic", "vssmonitoring_eth"]
            }
            _ => &[],
        };
        let rows = fields(&path, extra, &[field]);
        assert_eq!(rows.len(), frames.len(), "{name}");
        let text =
            programs::run("tshark", &[&["-n", "-r", path.to_str().expect("utf-8"), "-V"], extra].concat());
        assert!(!text.contains("[Malformed") && !text.contains("Bad checksum"), "{name}: {text}");
        for (row, time) in rows.iter().zip(&times) {
            assert!(
                row[0].contains(&format!("{:09}", time % 1_000_000_000)),
                "{name}: {row:?} is not {time}"
            );
        }
    }
    // the bytes themselves: seconds and nanoseconds where docs/reference/timestamps.md has them
    let at = |copy: &[u8], from: usize| {
        let word = |at: usize| u32::from_be_bytes(copy[at..at + 4].try_into().expect("four bytes"));
        u64::from(word(from)) * 1_000_000_000 + u64::from(word(from + 4) & 0x3fff_ffff)
    };
    type Place = fn(usize) -> usize;
    let places: [(&str, Place); 5] = [
        ("ixia", |len| len - 13),
        ("vss", |len| len - 9),
        ("arista", |_| 18),
        ("gigamon", |len| len - 13),
        ("metamako", |len| len - 12),
    ];
    for (name, place) in places {
        let stamped: Vec<u64> = out(&lab, name).iter().map(|copy| at(copy, place(copy.len()))).collect();
        assert_eq!(stamped, times, "{name}");
    }
    let arista = of_all(&out(&lab, "arista"), |copy| [&copy[..12], &copy[26..]].concat());
    assert_same("arista without its header", &arista, &frames);
    let erspan =
        fields(&lab.path("erspan.pcap"), &[], &["erspan.pid5.timestamp", "erspan.pid5.port_index"]);
    assert_eq!(erspan.len(), frames.len());
    for (row, time) in erspan.iter().zip(&times) {
        assert!(
            row.iter().any(|value| *value == (time / 1_000_000_000).to_string()),
            "{row:?} is not {time}"
        );
    }
}

#[test]
fn copies_that_do_not_fit_are_cut_or_dropped_and_counted() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let frames = vec![udp4(100), udp4(1000), udp4(1458 - 42), tcp6(1400), udp4(1470)];
    let tunnel = |session| format!("erspan2 session {session} src 198.18.0.1 dst 198.18.0.9 {MAC}");
    let tools = [
        ("cut", &*format!("{} oversize slice", tunnel(1))),
        ("lost", &*tunnel(2)),
        ("narrow", &*format!("{} mtu 600 oversize slice", tunnel(3))),
        ("local", "mtu 500 oversize slice"),
        ("whole", ""),
    ];
    let account = run(&lab, &frames, &tools, "rule create 10 from tap0 to cut,lost,narrow,local,whole");
    assert_same("whole", &out(&lab, "whole"), &frames);
    // 1500 less IPv4, GRE with sequence number, ERSPAN II
    let longest = 1500 - 20 - 8 - 8;
    let cut_bytes =
        |longest: usize| frames.iter().map(|frame| frame.len().saturating_sub(longest) as u64).sum::<u64>();
    assert_eq!(account.number("tools/cut/cut_bytes"), cut_bytes(longest));
    assert_eq!(account.number("tools/narrow/cut_bytes"), cut_bytes(600 - 36));
    assert_eq!(account.number("tools/local/cut_bytes"), cut_bytes(518));
    let too_long = frames.iter().filter(|frame| frame.len() > longest).count() as u64;
    assert!(too_long > 0);
    assert_eq!(account.number("tools/lost/dropped/oversize"), too_long);
    assert_eq!(account.number("tools/cut/sent"), frames.len() as u64);
    let carried = of_all(&out(&lab, "narrow"), |copy| copy[50..].to_vec());
    assert_same("narrow", &carried, &of_all(&frames, |frame| frame[..frame.len().min(564)].to_vec()));
    let truncated = fields(&lab.path("narrow.pcap"), &[], &["erspan.truncated"]);
    let expected: Vec<bool> = frames.iter().map(|frame| frame.len() > 564).collect();
    let said: Vec<bool> = truncated.iter().map(|row| ["1", "True"].contains(&row[0].as_str())).collect();
    assert_eq!(said, expected, "{truncated:?}");
}

#[test]
fn packets_of_several_mbufs_are_edited_and_carried_whole() {
    let lab = Lab::new();
    let frames = vec![udp4(3000), udp4(61), udp4(2020), tcp4(9000), udp4(1990), tcp6(2100), udp4(15_000)];
    let tunnel = format!("vxlan vni 7 src 198.18.0.1 dst 198.18.0.9 {MAC} mtu 60000");
    let tools = [
        ("whole", ""),
        ("carried", tunnel.as_str()),
        ("tagged", "tag vlan 9"),
        ("sliced", "slice 2500"),
        ("short", "slice 100"),
        ("masked", "mask 2900 50"),
        ("both", &*format!("{tunnel} tag vlan 9")),
    ];
    let account = run(
        &lab,
        &frames,
        &tools,
        "rule create 10 from tap0 to whole,carried,tagged,sliced,short,masked,both",
    );
    assert_same("whole", &out(&lab, "whole"), &frames);
    assert_same("carried", &of_all(&out(&lab, "carried"), |copy| copy[50..].to_vec()), &frames);
    assert_same("tagged", &out(&lab, "tagged"), &of_all(&frames, |frame| tagged(frame, 9, 0)));
    assert_same(
        "sliced",
        &out(&lab, "sliced"),
        &of_all(&frames, |frame| frame[..frame.len().min(2500)].to_vec()),
    );
    assert_same(
        "short",
        &out(&lab, "short"),
        &of_all(&frames, |frame| frame[..frame.len().min(100)].to_vec()),
    );
    let mask = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        let end = frame.len().min(2950);
        frame[2900.min(end)..end].fill(0);
        frame
    };
    assert_same("masked", &out(&lab, "masked"), &of_all(&frames, mask));
    assert_same(
        "both",
        &of_all(&out(&lab, "both"), |copy| copy[50..].to_vec()),
        &of_all(&frames, |frame| tagged(frame, 9, 0)),
    );
    assert_eq!(account.number("copies/dropped/no_buffer"), 0);
}

/// A pipe of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

#[test]
fn truncated_and_random_packets_keep_the_account() {
    let lab = Lab::new();
    let mut numbers = Numbers(7);
    let mut frames = Vec::new();
    let whole = frames::frames();
    for _ in 0..3000 {
        let mut frame = whole[numbers.next(whole.len())].clone();
        frame.truncate(1 + numbers.next(frame.len()));
        for _ in 0..numbers.next(6) {
            let (at, byte) = (numbers.next(frame.len()), numbers.next(256));
            frame[at] = byte as u8;
        }
        frames.push(frame);
    }
    let ends = format!("src 198.18.0.1 dst 198.18.0.9 {MAC}");
    let ends6 = format!("src 2001:db8:18::1 dst 2001:db8:18::9 {MAC}");
    let words = [
        "strip all".to_owned(),
        "anonymize ip inner".to_owned(),
        "payload drop slice 10 after l4".to_owned(),
        "mask 0 40 byte 0x55 after inner-l4 tag vlan 4000 from-port rewrite vlan 3".to_owned(),
        "strip all anonymize ip payload drop tag vlan 1 timestamp gigamon oversize slice mtu 100"
            .to_owned(),
        "timestamp ixia".to_owned(),
        "timestamp vss slice 14".to_owned(),
        "timestamp arista".to_owned(),
        "timestamp metamako rspan vlan 2 replace".to_owned(),
        format!("erspan3 session 7 {ends} timestamp erspan3 slice 64"),
        format!("erspan2 session 7 {ends} mtu 200 oversize slice timestamp vss"),
        format!("vxlan vni 7 {ends6} mtu 300"),
        format!("geneve vni 7 {ends6} timestamp arista strip vlan"),
        format!("gre {ends} tag vlan 8"),
    ];
    let names: Vec<String> = (0..words.len()).map(|place| format!("t{place}")).collect();
    let words = words.map(|words| format!("{words} queue 1024"));
    let mut tools: Vec<(&str, &str)> =
        names.iter().zip(&words).map(|(name, words)| (name.as_str(), words.as_str())).collect();
    tools.push(("whole", ""));
    let rules = format!(
        "rule create 10 from tap0 sample 1/3 slice 20 after l3 unread pass to {names}\nrule create 20 from tap0 unread pass to {names},whole",
        names = names.join(",")
    );
    let account = run(&lab, &frames, &tools, &rules);
    assert_same("whole", &out(&lab, "whole"), &frames);
    assert_eq!(account.number("copies/requested"), 15 * frames.len() as u64);
    for name in &names {
        let sent = account.number(&format!("tools/{name}/sent"));
        assert_eq!(out(&lab, name).len() as u64, sent, "{name}");
        assert_eq!(
            sent + account.number(&format!("tools/{name}/dropped/oversize")),
            frames.len() as u64,
            "{name}"
        );
    }
    if has_program("tshark") {
        let read = read_pcap(&lab.path("t12.pcap")).expect("a pcap file");
        assert_eq!(read.len(), frames.len());
    }
}

#[test]
fn copies_of_a_tunnel_whose_next_hop_does_not_answer_are_down() {
    let lab = Lab::new();
    let frames = frames::frames();
    write_frames(&lab.path("in.pcap"), &frames);
    let pipeline = "port attach tap0 net_pcap0,rx_pcap=in.pcap\n\
                    port attach up0 net_null0,no-rx=1\n\
                    port attach ids0 net_pcap1,tx_pcap=ids.pcap rxq 0\n\
                    tool create remote port up0 erspan2 session 7 src 198.18.0.1 dst 198.18.0.9\n\
                    tool create ids port ids0\n\
                    rule create 10 from tap0 to remote,ids\n";
    let account = lab.account(pipeline, &[]);
    assert_eq!(account.number("tools/remote/dropped/down"), frames.len() as u64);
    assert_eq!(account.number("tools/ids/sent"), frames.len() as u64);
    assert!(account.number("tools/remote/next_hop/requests") >= 1);
    assert_eq!(account.last()["tools"]["remote"]["next_hop"]["state"], "resolving");
    assert_eq!(account.last()["tools"]["remote"]["next_hop"]["mac"], serde_json::Value::Null);
}

#[test]
fn a_pool_that_is_used_up_costs_copies_and_not_the_account() {
    let lab = Lab::new();
    let frames: Vec<Vec<u8>> = (0..9000).map(|_| udp4(100)).collect();
    write_frames(&lab.path("in.pcap"), &frames);
    // nothing leaves at this rate, so copies stay in the queue and hold what the pool has
    let pipeline = "set mempool 3000\n\
                    port attach tap0 net_pcap0,rx_pcap=in.pcap\n\
                    port attach slow0 net_pcap1,tx_pcap=slow.pcap rxq 0\n\
                    tool create slow port slow0 tag vlan 9 rate 1pps queue 8192\n\
                    rule create 10 from tap0 to slow\n";
    let account = lab.account(pipeline, &[]);
    assert!(account.number("tools/slow/dropped/no_buffer") > 5000, "{}", account.last());
}

#[test]
fn the_examples_of_the_guides_run() {
    let guides = [
        include_str!("../../../docs/reference/edits.md"),
        include_str!("../../../docs/reference/transports.md"),
        include_str!("../../../docs/reference/timestamps.md"),
    ];
    let mut count = 0;
    for guide in guides {
        for example in guide.split("```pipe\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if example.contains("terminate") {
                continue;
            }
            let lab = Lab::new();
            lab.write("anon.key", [7; 32]);
            lab::office(&lab);
            std::fs::rename(lab.path("in.pcap"), lab.path("traffic.pcap")).expect("a writable folder");
            let account = lab.account(example, &[]);
            assert!(account.number("copies/sent") > 1000, "{example}{}", account.last());
            assert!(!account.stderr.contains("test.pipe:"), "{example}{}", account.stderr);
            count += 1;
        }
    }
    assert_eq!(count, 5);
}

#[test]
fn sessions_shared_by_workers_number_each_copy_once() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let frames = lab::office(&lab);
    let pipeline = format!(
        "set lcores 0,1\n\
         port attach a0 net_pcap0,rx_pcap=in.pcap\n\
         port attach b0 net_pcap1,rx_pcap=in.pcap\n\
         port attach x0 net_pcap2,tx_pcap=x.pcap rxq 0\n\
         port attach y0 net_pcap3,tx_pcap=y.pcap rxq 0\n\
         tool create x port x0 erspan2 session 7 src 198.18.0.1 dst 198.18.0.9 {MAC} mtu 9000\n\
         tool create y port y0 erspan2 session 7 src 198.18.0.1 dst 198.18.0.9 {MAC} mtu 9000\n\
         rule create 10 from a0,b0 to x\n\
         rule create 20 from b0 to y\n"
    );
    let account = lab.account(&pipeline, &[]);
    let mut numbers: Vec<u32> = Vec::new();
    for name in ["x", "y"] {
        let rows = fields(&lab.path(&format!("{name}.pcap")), &[], &["gre.sequence_number"]);
        numbers.extend(rows.iter().map(|row| row[0].parse::<u32>().expect("a number")));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3 * frames.len() as u32).collect::<Vec<_>>());
    assert_eq!(account.number("copies/sent"), 3 * frames.len() as u64);
}

#[test]
fn what_cannot_work_is_said_by_check() {
    let lab = Lab::new();
    let head = "port attach tap0 net_pcap0,rx_pcap=in.pcap\nport attach up0 net_null0 rxq 0\nport attach up1 net_null1\n";
    let tail = "\nrule create 10 from tap0 to t\n";
    let tunnel = "erspan3 session 7 src 198.18.0.1 dst 198.18.0.9";
    for (tool, said) in [
        (
            format!("tool create t port up0 {tunnel}"),
            "has no receive queue to hear who answers for 198.18.0.9",
        ),
        (
            format!("tool create t port up1 {tunnel} oversize fragment-never"),
            "do not fit tool `t`, whose path carries 1460",
        ),
        (format!("tool create t port up1 {tunnel} mtu 90"), "has no room for a frame"),
        (
            format!("tool create t port up1 {tunnel} timestamp erspan3 granularity 100ns"),
            "`timestamp erspan3` counts nanoseconds",
        ),
        ("tool create t port up1 timestamp erspan3".to_owned(), "stands in the ERSPAN III header"),
        (
            "tool create t port up1 anonymize ip prefix-preserving key missing.key".to_owned(),
            "`missing.key` cannot be read",
        ),
    ] {
        lab.write("test.pipe", format!("{head}{tool}{tail}"));
        let ended = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
        let text = ended.failed(2);
        assert!(text.contains(said) && text.contains("test.pipe:4:"), "{tool}: {text}");
    }
    for tool in [
        format!("tool create t port up0 {tunnel} {MAC}"),
        format!("tool create t port up1 {tunnel}"),
        format!("tool create t port up1 {tunnel} slice 1000 oversize fragment-never"),
    ] {
        lab.write("test.pipe", format!("{head}{tool}{tail}"));
        let ended = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
        assert_eq!(ended.status, Some(0), "{tool}: {}", ended.stderr);
    }
}

/// Frames by whether `anonymize ip` reads them, and whether `anonymize ip … inner` does.
fn readable() -> Vec<(Vec<u8>, bool, bool)> {
    use tapline_traffic::packets::{ethernet, gre, ipv4, mpls, udp, vxlan};
    let on_wire = |ethertype: u16, payload: &[u8]| {
        let mut frame = ethernet([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], ethertype, payload);
        frame.resize(frame.len().max(60), 0);
        frame
    };
    let tcp = tcp4(40);
    let in_ip = |protocol: u8, payload: &[u8]| {
        on_wire(0x0800, &ipv4(0x0a01_0203, 0x0a04_0506, protocol, 0, payload))
    };
    let in_vxlan = |frame: &[u8]| in_ip(17, &udp(9, 4789, &vxlan(7, frame)));
    let arista = [&tcp[..12], &[0xd2, 0x8b, 0, 1, 1, 0x10, 0, 0, 0, 1, 0, 0, 0, 2], &tcp[12..]].concat();
    let unknown = on_wire(0x9999, &tcp[14..]);
    vec![
        (tcp.clone(), true, true),
        (udp4(40), true, true),
        (tcp6(40), true, true),
        (frames::arp(), true, true),
        // LLDP, a spanning tree, pause: read by definition
        (on_wire(0x88cc, &[2, 7, 4, 0, 0, 0, 0, 0, 1, 0, 0]), true, true),
        (on_wire(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]), true, true),
        (on_wire(0x8808, &[0, 1, 0, 9]), true, true),
        (arista, true, true),
        (in_vxlan(&tcp), true, true),
        (on_wire(0x8847, &mpls(&[16], &tcp[14..])), true, true),
        // a type and a protocol that nobody here knows (OSPF), and such a type inside
        (unknown.clone(), false, false),
        (in_ip(89, &[2, 1, 0, 44, 10, 0, 0, 1, 0, 0, 0, 0]), false, false),
        (in_vxlan(&unknown), true, false),
        (in_ip(47, &gre(0x9999, None, None, &tcp[14..])), true, false),
    ]
}

#[test]
fn copies_that_cannot_be_read_to_be_anonymised_are_dropped_and_counted() {
    let lab = Lab::new();
    let (frames, read): (Vec<_>, Vec<_>) =
        readable().into_iter().map(|(frame, outer, inner)| (frame, [outer, inner])).unzip();
    let tools = [("outer", "anonymize ip"), ("inner", "anonymize ip inner"), ("plain", ""), ("passed", "")];
    let account = run(
        &lab,
        &frames,
        &tools,
        "rule create 10 from tap0 to outer unread drop\n\
         rule create 20 from tap0 to inner\n\
         rule create 30 from tap0 to plain\n\
         rule create 40 from tap0 anonymize ip inner unread pass to passed",
    );
    let all = frames.len();
    let unread = |place: usize| read.iter().filter(|read| !read[place]).count() as u64;
    for (tool, rule, lost, dropped) in [
        ("outer", 10, unread(0), unread(0)),
        ("inner", 20, unread(1), unread(1)),
        ("plain", 30, 0, 0),
        ("passed", 40, unread(1), 0),
    ] {
        assert_eq!(account.number(&format!("rules/{rule}/unread")), lost, "{tool}");
        assert_eq!(account.number(&format!("tools/{tool}/dropped/unread")), dropped, "{tool}");
        assert_eq!(out(&lab, tool).len() as u64, all as u64 - dropped, "{tool}");
    }
    assert_eq!(account.number("ports/tap0/unparsed"), unread(1));
    let kept = |place: usize| -> Vec<usize> {
        frames.iter().zip(&read).filter(|(_, read)| read[place]).map(|(frame, _)| frame.len()).collect()
    };
    for (place, name) in ["outer", "inner"].into_iter().enumerate() {
        let lens: Vec<usize> = out(&lab, name).iter().map(Vec::len).collect();
        assert_eq!(lens, kept(place), "{name}");
    }
    // of what is read, no address is left
    for (place, name) in [(0, "outer"), (1, "inner")] {
        for copy in out(&lab, name) {
            let shown =
                copy.windows(4).filter(|bytes| *bytes == [10, 1, 2, 3] || *bytes == [10, 4, 5, 6]).count();
            assert!(place == 0 || shown == 0, "{name}: {copy:02x?}");
        }
    }
}

#[test]
fn copies_that_nobody_makes_are_read_too_where_their_tool_anonymises() {
    let lab = Lab::new();
    let frames: Vec<_> = readable().into_iter().map(|(frame, ..)| frame).collect();
    write_frames(&lab.path("in.pcap"), &frames);
    let account = lab.account(
        "port attach tap0 net_pcap0,rx_pcap=in.pcap\ntool create gone discard anonymize ip inner\n\
         rule create 10 from tap0 to gone unread drop\n",
        &[],
    );
    let unread = readable().iter().filter(|(_, _, inner)| !inner).count() as u64;
    assert_eq!(account.number("tools/gone/dropped/unread"), unread);
    assert_eq!(account.number("tools/gone/sent"), frames.len() as u64 - unread);
}

#[test]
fn check_says_once_of_each_rule_that_it_drops_what_cannot_be_read() {
    let lab = Lab::new();
    lab.write(
        "test.pipe",
        "port attach tap0 net_null0\ntool create hidden discard\ntool create a discard anonymize ip\n\
         group create g tools a\n\
         rule create 10 from tap0 anonymize ip to hidden\n\
         rule create 20 from tap0 to g\n\
         rule create 30 from tap0 anonymize ip unread drop to hidden\n\
         rule create 40 from tap0 unread pass to a\n\
         rule create 50 from tap0 to hidden\n",
    );
    let ended = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])));
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.status, Some(0), "{said}");
    for (priority, is_told) in [(10, true), (20, true), (30, false), (40, false), (50, false)] {
        let warning = format!("rule {priority} drops copies that cannot be read to be anonymised");
        assert_eq!(said.matches(&warning).count(), usize::from(is_told), "{said}");
    }
}
