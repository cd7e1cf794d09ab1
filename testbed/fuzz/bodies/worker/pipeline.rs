//! A pipeline of anything that the language has, out of an input's bytes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::Choices;

/// Where packets come in.
pub(crate) enum Input {
    /// A `net_ring`, which receives what is sent by it; the port's place in the plan.
    Ring { port: usize },
    /// A capture that a port reads.
    File { path: PathBuf },
}

/// The name and content of a list of prefixes that pipelines name.
pub(crate) const LIST: &str = "list.txt";
pub(crate) const PREFIXES: &str = "10.0.0.0/8\n2001:db8::/32\n192.168.7.7\n";

/// Expressions that ask for something at every depth of a packet.
pub(crate) const EXPRESSIONS: [&str; 36] = [
    "tcp",
    "udp",
    "ip",
    "ip6",
    "arp",
    "icmp or icmp6",
    "tcp port 443",
    "udp port 53",
    "udp port 4789",
    "port 80 or port 22",
    "net 10.0.0.0/8",
    "host 10.1.2.3",
    "src net 10.0.0.0/8 and dst net 10.0.0.0/8",
    "ip6 net 2001:db8::/32",
    "not tcp",
    "not ip and not ip6",
    "vlan",
    "vlan 100",
    "vlan and tcp",
    "vlan and vlan and ip",
    "mpls",
    "mpls and ip",
    "pppoes and ip",
    "ether[0] & 1 = 1",
    "ether proto 0x88be or ether proto 0x6558",
    "ip[6:2] & 0x1fff != 0",
    "ip[2:2] > 500",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[(tcp[12] >> 2):4] = 0x47455420",
    "udp[8:4] = 0x08000000",
    "ip6[6] = 17",
    "len > 200",
    "greater 1000",
    "less 64",
    "ether[60:4] != 0",
    "ether[100:4] != 0 or ether[1500:2] = 0",
];

const LAYERS: [&str; 9] = ["vlan", "qinq", "mpls", "vxlan", "geneve", "gre", "gtp", "ipip", "erspan"];
const ANCHORS: [&str; 5] = ["", " after l2", " after l3", " after l4", " after inner-l4"];
const HASHES: [&str; 8] = ["symmetric", "ip", "ip-port", "5-tuple", "mac", "vlan", "vni", "teid"];
const DEPTHS: [&str; 3] = ["", " inner", " outer"];

/// The text and where packets come in, for workers that one thread leads.
pub(crate) fn pipeline(c: &mut Choices<'_>, folder: &Path) -> (String, Vec<Input>) {
    let mut out = String::new();
    let has_wire = c.one_in(6);
    settings(c, &mut out, has_wire);
    let mut inputs = Vec::new();
    let mut sources = vec!["any".to_owned()];
    // rings are the first: their places are known
    for ring in 0..1 + usize::from(c.one_in(3)) {
        let queues = if has_wire && ring == 0 { " rxq 2 txq 2" } else { "" };
        let ends = if has_wire && ring == 0 { String::new() } else { terminators(c) };
        let _ = writeln!(out, "port attach r{ring} net_ring{ring} rxd 64 txd 64{queues}{ends}");
        inputs.push(Input::Ring { port: ring });
        sources.push(format!("r{ring}"));
    }
    if has_wire {
        let _ = writeln!(out, "port attach far net_null99,no-rx=1 rxd 64 txd 64");
        let keys = c.of(&["", " bypass", " propagate-link"]);
        let _ = writeln!(out, "wire create w ports r0,far{keys}");
        sources.retain(|source| source != "r0");
        sources.extend(["w".to_owned(), "w:a-to-b".to_owned(), "w:b-to-a".to_owned()]);
    }
    for (number, kind) in ["replay", "pcap"].into_iter().enumerate() {
        if !c.one_in(3) {
            continue;
        }
        let path = folder.join(format!("{kind}.pcap"));
        let shown = path.display();
        let device = match kind {
            "replay" => format!("replay:{shown},speed=max,loop={}", c.of(&["2", "2", "2", "1", "3"])),
            _ => format!("net_pcap{number},rx_pcap={shown} rxd 64 txd 64"),
        };
        let ends = terminators(c);
        let _ = writeln!(out, "port attach {kind} {device}{ends}");
        inputs.push(Input::File { path });
        sources.push(kind.to_owned());
    }
    tools_and_rules(c, &mut out, folder, &sources);
    (out, inputs)
}

/// A pipeline for the program itself: `in.pcap` is replayed, and read by net_pcap too where that is chosen.
pub(crate) fn of_captures(c: &mut Choices<'_>, folder: &Path) -> String {
    let mut out =
        String::from(c.of(&["set lcores 1\n", "set lcores 1\n", "set lcores receive 0 work 1\n"]));
    let _ = writeln!(out, "set mempool 12000\nset flows {}", c.of(&["64", "64 idle 1us max-age 1ms"]));
    let ends = terminators(c);
    let _ = writeln!(out, "port attach replay replay:in.pcap,speed=max,loop={}{ends}", c.of(&["1", "2"]));
    let mut sources = vec!["any".to_owned(), "replay".to_owned()];
    if c.one_in(2) {
        let ends = terminators(c);
        let _ = writeln!(out, "port attach pcap net_pcap9,rx_pcap=in.pcap rxd 64 txd 64{ends}");
        sources.push("pcap".to_owned());
    }
    tools_and_rules(c, &mut out, folder, &sources);
    out
}

fn tools_and_rules(c: &mut Choices<'_>, out: &mut String, folder: &Path, sources: &[String]) {
    let tools = tools(c, out, folder);
    let mut targets = tools.clone();
    groups(c, out, &tools, &mut targets);
    for filter in 0..c.below(3) {
        let (expression, through) = (c.of(&EXPRESSIONS), through(c));
        let _ = writeln!(out, "filter create f{filter} \"{expression}\"{through}");
    }
    let named = out.matches("filter create").count();
    for rule in 0..1 + c.below(5) {
        let rule = self::rule(c, rule * 10, sources, &targets, named, folder);
        *out += &rule;
    }
}

fn settings(c: &mut Choices<'_>, out: &mut String, has_wire: bool) {
    // whatever CPUs there are: one thread makes all turns
    *out += "set eal \"--lcores=0-9\"\n";
    // what rings, workers' caches and a wire's copies need, and not much more: a pool takes longer to make than a plan
    let (lcores, mempool) = match c.below(12) {
        _ if has_wire => ("1", 12_000),
        0 => ("1-2", 2600),
        1 => ("receive 1 work 2", 4000),
        2 => ("receive 1 work 2-3 transmit 4", 7000),
        3 => ("work 1-2 transmit 3", 6000),
        4 => ("receive 1-2 work 3-4 transmit 5-6", 9000),
        _ => ("1", c.of(&[2000, 2000, 2000, 1200, 5000])),
    };
    let _ = writeln!(
        out,
        "set lcores {lcores}\nset burst {}\nset mempool {mempool}",
        c.of(&[64, 64, 64, 64, 32, 8, 3, 1])
    );
    let flows = c.of(&["64", "1000 idle 1s", "64 idle 1us max-age 1ms", "4k max-age 1s"]);
    let _ = writeln!(out, "set flows {flows}");
    if c.one_in(4) {
        let _ = writeln!(out, "set seed {}", c.byte());
    }
    if c.one_in(8) {
        *out += "set clock ptp\n";
    }
}

fn terminators(c: &mut Choices<'_>) -> String {
    let mut out = String::new();
    if !c.one_in(2) {
        return out;
    }
    for _ in 0..1 + c.below(3) {
        let (kind, number) = c.of(&[
            ("vxlan", "vni"),
            ("geneve", "vni"),
            ("gre", "key"),
            ("erspan", "session"),
            ("gtp", "teid"),
            ("rspan", "vlan"),
        ]);
        let _ = write!(out, " terminate {kind}");
        if kind == "rspan" {
            let _ = write!(out, " {number} {}", c.of(&["100", "1-4094", "7"]));
            continue;
        }
        if c.one_in(4) {
            let _ = write!(out, " to {}", c.of(&["198.18.0.2", "2001:db8::2", "10.1.2.3"]));
        }
        if c.one_in(4) {
            let _ = write!(
                out,
                " from {}",
                c.of(&["198.18.0.0/24", "10.0.0.0/8,2001:db8::/32", "0.0.0.0/0,::/0"])
            );
        }
        if c.one_in(4) {
            let _ = write!(out, " {number} {}", c.of(&["7", "0-1000", "1,3-9"]));
        }
        if ["vxlan", "geneve", "gtp"].contains(&kind) && c.one_in(6) {
            let _ = write!(out, " udp-port {}", c.of(&[53u16, 4789, 443]));
        }
    }
    out
}

fn through(c: &mut Choices<'_>) -> String {
    match c.below(4) {
        0 => " through any".to_owned(),
        1 | 2 => format!(" through {}", layers(c)),
        _ => String::new(),
    }
}

fn layers(c: &mut Choices<'_>) -> String {
    let bits = c.word();
    let some: Vec<&str> = LAYERS
        .iter()
        .enumerate()
        .filter(|(index, _)| bits >> index & 1 == 1)
        .map(|(_, layer)| *layer)
        .collect();
    if some.is_empty() { "vlan".to_owned() } else { some.join(",") }
}

/// The tools' names.
fn tools(c: &mut Choices<'_>, out: &mut String, folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for tool in 0..1 + c.below(4) {
        let (mut is_device, mut hears) = (true, false);
        let target = match c.below(16) {
            0 | 1 => {
                is_device = false;
                "discard".to_owned()
            }
            2 => {
                is_device = false;
                format!("capture {}", folder.join(format!("t{tool}.pcapng")).display())
            }
            3 => {
                // what a tool gets is received again
                // as many queues each way: each has a ring of its own, and all are to be read
                let queues = c.of(&["rxq 1 txq 1", "rxq 2 txq 2"]);
                let _ = writeln!(out, "port attach p{tool} net_ring{} {queues} rxd 64 txd 64", 20 + tool);
                hears = true;
                format!("port p{tool}")
            }
            4 => {
                let _ = writeln!(out, "port attach p{tool} net_pcap{},tx_pcap=/dev/null rxq 0", 20 + tool);
                format!("port p{tool}")
            }
            5 if tool > 0 && out.contains("port attach p0 ") => "port p0".to_owned(),
            _ => {
                let mtu = if c.one_in(8) { " mtu 600" } else { "" };
                let _ = writeln!(out, "port attach p{tool} net_null{tool} rxq 0 rxd 64 txd 64{mtu}");
                format!("port p{tool}")
            }
        };
        let transport = if is_device && c.one_in(2) { transport(c, hears) } else { String::new() };
        let mut keys = String::new();
        if is_device && c.one_in(10) {
            // frames of Tapline's own, on their way among the packets
            match transport.split(' ').nth(1) {
                None => keys += " heartbeat every 100ms timeout 100ms retries 1 return r0",
                Some(kind) if hears && kind != "rspan" => {
                    // less often than a run may be idle: what comes back keeps it going
                    keys += " echo every 1s timeout 100ms retries 1"
                }
                Some(_) => {}
            }
        }
        if is_device {
            let _ = write!(keys, " queue {}", c.of(&["64", "256", "1", "128 bytes 4000", "65"]));
            keys += c.of(&["", "", "", " thresholds 30%,60%", " thresholds 1%,99%"]);
            keys += c.of(&["", "", "", "", " rate 1kpps", " rate 1mbit burst 10ms", " rate 100gbit"]);
            keys += c.of(&["", "", "", "", "", " alarm 50%", " alarm off"]);
        } else if target.starts_with("capture") {
            keys += " queue 256";
        }
        if target != "discard" {
            keys += c.of(&["", "", "", "", "", "", " order window 1ms", " order window 1us"]);
        }
        keys += match c.below(8) {
            0 => " mtu 1500 oversize slice",
            1 => " mtu 200 oversize drop",
            2 => " mtu 300 oversize slice",
            3 => " oversize drop",
            _ => "",
        };
        if c.one_in(2) {
            let is_erspan3 = transport.starts_with(" erspan3") && !transport.contains("granularity");
            let formats = [
                " timestamp ixia",
                " timestamp metamako",
                " timestamp vss",
                " timestamp arista",
                " timestamp gigamon",
            ];
            keys += if is_erspan3 { " timestamp erspan3" } else { c.of(&formats) };
        }
        if c.one_in(3) {
            keys += &edits(c);
        }
        let _ = writeln!(out, "tool create t{tool} {target}{transport}{keys}");
        match c.below(32) {
            0 | 1 => {
                let _ = writeln!(out, "tool drain t{tool}");
            }
            2 if is_device && target == format!("port p{tool}") => {
                let _ = writeln!(out, "port stop p{tool}");
            }
            _ => {}
        }
        names.push(format!("t{tool}"));
    }
    names
}

/// `hears`: the port receives, too, so that somebody could answer.
fn transport(c: &mut Choices<'_>, hears: bool) -> String {
    let mut out = String::from(" ");
    let kind = c.below(8);
    match kind {
        0 => {
            let _ = write!(
                out,
                "rspan vlan 100{}{}",
                c.of(&["", " priority 5"]),
                c.of(&["", " replace", " push"])
            );
            return out;
        }
        1 => out += "erspan1 session 0",
        2 => {
            let _ = write!(out, "erspan2 session 7{}{}", c.of(&["", " cos 3"]), c.of(&["", " index 9"]));
        }
        3 | 4 => {
            out += "erspan3 session 9";
            out += c.of(&["", " cos 3"]);
            out += c.of(&["", " sgt 77"]);
            out += c.of(&["", " direction egress"]);
            out += c.of(&["", " hw-id 5"]);
            out += c.of(&["", "", " granularity 100us", " granularity 100ns", " granularity 1588"]);
        }
        5 => out += "vxlan vni 7",
        6 => out += "geneve vni 7",
        _ => out += c.of(&["gre", "gre key 7"]),
    }
    if kind == 5 || kind == 6 {
        out += c.of(&["", " udp-port 53"]);
        out += c.of(&["", " udp-checksum on", " udp-checksum off"]);
    }
    out += c.of(&[" src 198.18.0.1 dst 198.18.0.2", " src 2001:db8::1 dst 2001:db8::2"]);
    if !hears || c.one_in(2) {
        out += " next-hop 02:00:00:00:00:09";
    }
    out += c.of(&["", "", " vlan 5", " vlan 5 priority 3"]);
    out += c.of(&["", "", " ttl 1 dscp 46 df off"]);
    out
}

fn groups(c: &mut Choices<'_>, out: &mut String, tools: &[String], targets: &mut Vec<String>) {
    if tools.len() < 2 || !c.one_in(2) {
        return;
    }
    let standby =
        if tools.len() > 2 && c.one_in(3) { format!(" standby {}", tools[2]) } else { String::new() };
    let (hash, depth) = (c.of(&HASHES), c.of(&DEPTHS));
    let hash = if c.one_in(8) { "rss".to_owned() } else { format!("{hash}{depth}") };
    let keys = c.of(&[
        "",
        "",
        " discard 20%",
        " min-up 1 below drop",
        " min-up 2 below spread",
        " return idle 1ms",
        " return idle 1us",
    ]);
    let weights = c.of(&["", " weights 2,1", " weights 1000,1"]);
    let _ =
        writeln!(out, "group create g tools {},{}{weights} hash {hash}{standby}{keys}", tools[0], tools[1]);
    targets.push("g".to_owned());
}

fn rule(
    c: &mut Choices<'_>,
    priority: usize,
    sources: &[String],
    targets: &[String],
    named: usize,
    folder: &Path,
) -> String {
    let mut out = format!(
        "rule create {priority} from {}",
        c.of(&sources.iter().map(String::as_str).collect::<Vec<_>>())
    );
    out += c.of(&["", "", "", " vlan 100-103", " vlan 0", " vlan 1-4095"]);
    let mut terms = Vec::new();
    for _ in 0..c.below(4) {
        terms.push(match c.below(10) {
            0 => format!("vni {}", c.of(&["7", "0-1000", "5,9-4000"])),
            1 => format!("teid {}", c.of(&["7", "0-100000"])),
            2 => format!("mpls-label {}", c.of(&["7", "0-1048575"])),
            3 | 4 => {
                let offset = c.of(&[0, 1, 2, 8, 12, 60, 200, 1500, 65535]);
                format!(
                    "bytes {offset} {}{}",
                    c.of(&["0x08", "4500", "0x8000/8000", "00000000/00000000", "00/00", "ff"]),
                    c.of(&ANCHORS)
                )
            }
            5 if named > 0 => format!("f{}", c.below(named)),
            6 if c.one_in(4) => format!("file {}{}", folder.join(LIST).display(), through(c)),
            _ => {
                let expression = c.of(&EXPRESSIONS);
                format!("\"{expression}\"{}", through(c))
            }
        });
    }
    if !terms.is_empty() {
        let _ = write!(out, " match {}", terms.join(" and "));
    }
    if c.one_in(10) {
        return out + c.of(&[" drop\n", " drop final\n"]);
    }
    out += &sample(c);
    if c.one_in(4) {
        let _ = write!(out, " dedup window {}", c.of(&["50ms", "1us", "10s", "1h"]));
        let ignored: Vec<&str> =
            ["ttl", "tos", "vlan", "mac", "tcp-seq"].into_iter().filter(|_| c.one_in(2)).collect();
        if !ignored.is_empty() {
            let _ = write!(out, " ignore {}", ignored.join(","));
        }
        out += c.of(&["", " action drop", " action count", " action tag", " action tag 7"]);
        out += " memory 64Ki";
    }
    if c.one_in(3) {
        out += &edits(c);
    }
    out += c.of(&["", "", "", " final"]);
    out += c.of(&["", "", "", " class high", " class low", " class normal"]);
    out += c.of(&[
        "",
        "",
        "",
        "",
        "",
        "",
        " limit 3 packets",
        " limit 70 packets",
        " for 1h",
        " until 2099-01-01T00:00:00Z",
        " active \"daily 00:00-24:00\" zone UTC",
    ]);
    let bits = usize::from(c.byte()) | 1;
    let to: Vec<&str> = targets
        .iter()
        .enumerate()
        .filter(|(index, _)| (bits << (bits % targets.len())) >> index & 1 == 1)
        .map(|(_, name)| name.as_str())
        .collect();
    let _ = writeln!(out, " to {}", if to.is_empty() { targets[0].clone() } else { to.join(",") });
    out
}

fn sample(c: &mut Choices<'_>) -> String {
    let hash = format!(" hash {}{}", c.of(&HASHES), c.of(&DEPTHS));
    let hash = if c.one_in(2) { hash } else { String::new() };
    match c.below(16) {
        0 => " sample 1/2".to_owned(),
        1 => " sample random 1/3".to_owned(),
        2 => format!(" sample flow 1/2{hash}{}", c.of(&["", " seed 7"])),
        3 => format!(" sample first 2 packets{hash}"),
        4 => format!(" sample first 300 bytes{hash}"),
        5 => format!(" sample rate {}{hash}", c.of(&["10pps", "1kpps", "1mbit"]).replace("10pps", "1kpps")),
        6 => format!(" sample every {} for {}", c.of(&["1s", "10s"]), c.of(&["1ms", "900ms"])),
        _ => String::new(),
    }
}

fn edits(c: &mut Choices<'_>) -> String {
    let mut out = String::new();
    for _ in 0..1 + c.below(4) {
        out += &match c.below(12) {
            0 => " strip all".to_owned(),
            1 | 2 => format!(" strip {}", layers(c)),
            3 => format!(" tag vlan 100{}", c.of(&["", " from-port", " from-tunnel"])),
            4 if !out.contains("dst-mac") => " rewrite dst-mac 02:00:00:00:00:07".to_owned(),
            5 if !out.contains("src-mac") => " rewrite src-mac 02:00:00:00:00:08".to_owned(),
            6 => format!(" rewrite vlan {}", c.of(&[1, 7, 4094])),
            7 if !out.contains("slice") => match c.of(&ANCHORS) {
                "" => format!(" slice {}", c.of(&[14, 15, 60, 64, 128, 1500])),
                anchor => format!(" slice {}{anchor}", c.of(&[0, 1, 8, 64, 60000])),
            },
            8 | 9 => {
                let offset = c.of(&[0, 1, 12, 14, 60, 1400, 60000]);
                format!(
                    " mask {offset} {}{}{}",
                    c.of(&[1, 2, 16, 1500, 60000]),
                    c.of(&["", " byte 0xff"]),
                    c.of(&ANCHORS)
                )
            }
            10 if !out.contains("anonymize") => {
                format!(
                    " anonymize ip{}{}",
                    c.of(&["", " keep 16/48", " keep 32/128"]),
                    c.of(&["", " inner"])
                )
            }
            _ if !out.contains("payload") => " payload drop".to_owned(),
            _ => String::new(),
        };
    }
    out
}
