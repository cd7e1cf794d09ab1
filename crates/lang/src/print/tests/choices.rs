//! Commands of anything that the grammar has, in any spelling that it takes.

use tapline_api::words::{
    Anchor, Class, DedupIgnore, HashKind, Oversize, Role, TimestampFormat, Unread, Vocabulary,
};
use tapline_packet::headers::layer::Layer;

/// Names, paths and devices: plain ones, words of the language, and what has to be quoted.
const TEXTS: [&str; 24] = [
    "a",
    "ids-a",
    "x.y_z",
    "7",
    "any",
    "final",
    "rxq",
    "ports",
    "keep",
    "file",
    "and",
    "and so",
    "#x",
    "a#b",
    "\"",
    "a\\b\\\\",
    "’x’",
    "'x'",
    "${D}",
    "a${b",
    "$",
    "\u{a0}",
    "tab\there",
    "é",
];

const NEW_NAMES: [&str; 8] = ["a", "b-1", "x.y", "_", "9", "rxq", "standby", "local"];

struct Choices<'a>(&'a [u8]);

/// A command that the bytes choose; zeros are behind their end.
pub(super) fn command(bytes: &[u8]) -> String {
    let mut c = Choices(bytes);
    let (name, text) = (c.new_name(), c.text());
    match c.below(26) {
        0..=2 => format!("set {}", c.setting()),
        3 => format!("port attach {name} {}{}", c.device(), c.port_options()),
        4 => format!("port {} {text}", c.of(&["detach", "start", "stop"])),
        5 => format!("port config {text}{}", c.port_options()),
        6..=9 => format!("tool {}", c.tool(&name, &text)),
        10 => format!("tool {} {text}", c.of(&["destroy", "drain", "enable"])),
        11 => {
            let (tools, options) = (c.texts(), c.group_options());
            format!("group create {name} tools {tools}{options}")
        }
        12 => format!("group modify {text}{}", c.group_options()),
        13 => format!("{} destroy {text}", c.of(&["group", "wire", "filter"])),
        14 => {
            let ports = c.quote(&["x y,\"", "a,b", "ports,a"]);
            format!("wire create {name} ports {ports}{}", c.wire_options())
        }
        15 => format!("wire modify {text}{}", c.wire_options()),
        16 => {
            let (verb, filter) = (c.of(&["create", "modify"]), c.unnamed_filter());
            let name = if verb == "create" { name } else { text };
            format!("filter {verb} {name} {filter}")
        }
        17 => format!("rule {} {}", c.of(&["enable", "disable", "destroy"]), c.number(u32::MAX.into())),
        18 => c
            .of(&[
                "rule destroy all",
                "start",
                "stop",
                "clear stats",
                "quit",
                "show config",
                "show plan",
                "show lcores",
                "show rules",
            ])
            .to_owned(),
        19 => {
            let who = c.of(&["user anna", "group 1004", "token grafana", "user \"peek\"", "group \"#a\""]);
            let (role, peek) = (c.word::<Role>(), c.of(&["", " peek"]));
            if c.flip() {
                format!("access grant {role} {who}{peek}")
            } else {
                format!("access revoke {who}")
            }
        }
        _ => c.rule(),
    }
}

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A number from 1 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        let n = u64::from_be_bytes(std::array::from_fn(|_| self.byte()));
        // as many short ones as long ones
        (n >> self.below(64)) % most + 1
    }

    fn number(&mut self, most: u64) -> String {
        let n = self.up_to(most);
        if self.flip() { format!("{n}") } else { format!("{n:#x}") }
    }

    fn word<T: Vocabulary>(&mut self) -> &'static str {
        self.of(T::WORDS)
    }

    /// Some of `all`, each once and in any order.
    fn some<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let mut left = all.to_vec();
        let count = self.below(all.len() + 1);
        (0..count).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }

    fn quote(&mut self, all: &[&str]) -> String {
        let text = self.of(all).replace('\\', "\\\\").replace('"', "\\\"").replace("${", "${D}{");
        format!("\"{text}\"")
    }

    fn new_name(&mut self) -> String {
        self.quote(&NEW_NAMES)
    }

    fn text(&mut self) -> String {
        self.quote(&TEXTS)
    }

    /// Names with commas between them.
    fn texts(&mut self) -> String {
        let texts = self.some(&TEXTS[..8]);
        if texts.is_empty() { self.text() } else { format!("\"{}\"", texts.join(",")) }
    }

    fn size(&mut self) -> String {
        let n = self.up_to(1 << 20);
        format!("{n}{}", self.of(&["", "k", "K", "M", "G", ".5k", ".25M", "Ki", "Mi", "Gi", ".5Ki"]))
    }

    fn duration(&mut self) -> String {
        let n = self.up_to(1 << 16);
        format!("{n}{}", self.of(&["ns", "us", "µs", "ms", "s", "m", "h", "d", ".5s", ".125ms"]))
    }

    fn rate(&mut self) -> String {
        let n = self.up_to(1 << 20);
        format!(
            "{n}{}",
            self.of(&["bit", "kbit", "Mbit", "gbit", "tbit", ".5gbit", "pps", "Kpps", "mpps", "gpps"])
        )
    }

    fn ranges(&mut self, most: u64) -> String {
        let count = 1 + self.below(3);
        let range = |c: &mut Self| {
            let (a, b) = (c.up_to(most), c.up_to(most));
            if c.flip() { format!("{a}") } else { format!("{}-{}", a.min(b), a.max(b)) }
        };
        (0..count).map(|_| range(self)).collect::<Vec<_>>().join(",")
    }

    fn lcores(&mut self) -> String {
        self.of(&["1", "1-3", "3,2,1", "0-1,5,6", "7,1-2,3", "1023"]).to_owned()
    }

    fn layers(&mut self, all: &str) -> String {
        let layers = self.some(&Layer::ALL);
        let words: Vec<&str> = layers.into_iter().map(Layer::word).collect();
        if words.is_empty() { all.to_owned() } else { words.join(",") }
    }

    fn option(&mut self, key: &str, value: impl FnOnce(&mut Self) -> String) -> String {
        if self.flip() { format!(" {key} {}", value(self)) } else { String::new() }
    }

    fn switch(&mut self) -> &'static str {
        self.of(&["", " on", " off"])
    }

    fn setting(&mut self) -> String {
        match self.below(20) {
            0 => format!("burst {}", self.number(64)),
            1 => format!("lcores {}", self.lcores()),
            2 => {
                let stages = ["receive", "work", "transmit"].map(|stage| self.option(stage, Self::lcores));
                format!(
                    "lcores{}",
                    if stages.concat().is_empty() { " work 1".to_owned() } else { stages.concat() }
                )
            }
            3 => format!("workers {}", self.number(1023)),
            4 => format!("mempool {}", self.of(&["1", "64k", "1.5M", "4294967295"])),
            5 => format!("idle {}", self.of(&["poll", "pause", "sleep", "sleep 50us", "sleep 0.5s"])),
            6 | 7 => {
                let (idle, age) =
                    (self.option("idle", Self::duration), self.option("max-age", Self::duration));
                format!("flows {}{idle}{age}", self.of(&["1M", "1000", "10.5k"]))
            }
            8 => format!("eal {}", self.text()),
            9 => format!("seed {}", self.of(&["0", "18446744073709551615", "0xdeadbeef"])),
            10 => format!("clock {}", self.of(&["ntp", "gps", "ptp"])),
            11 => format!("tpid {}", self.of(&["0x8200", "0x9300,0x8200", "37376"])),
            12 => format!("audit {}{}", self.text(), self.of(&["", " required", " best-effort"])),
            13 => format!("metrics rules {}", self.of(&["0", "1000", "10k", "1M"])),
            14 => self.of(&["telemetry on", "telemetry off"]).to_owned(),
            15 => format!("web anonymous {}", self.of(&["on", "metrics", "off"])),
            16 => {
                let (ca, crl) = (self.option("client-ca", Self::text), self.option("crl", Self::text));
                format!("tls cert {} key {}{ca}{crl}", self.text(), self.text())
            }
            _ => format!("panic-dump {}", self.text()),
        }
    }

    fn device(&mut self) -> String {
        if self.flip() {
            return self.text();
        }
        if self.flip() {
            let mut device = format!("iface:{}", self.of(&["eth0", "a.100"]));
            for item in self.some(&["queues", "outgoing", "offloads", "time", "buffer"]) {
                device += &match item {
                    "queues" => format!(",queues={}", self.of(&["0", "1", "7"])),
                    "outgoing" => format!(",outgoing={}", self.of(&["on", "off"])),
                    "offloads" => format!(",offloads={}", self.of(&["keep", "off"])),
                    "time" => format!(",time={}", self.of(&["kernel", "nic"])),
                    _ => format!(",buffer={}", self.of(&["64Mi", "1G", "300000"])),
                };
            }
            return device;
        }
        let mut device = format!("replay:{}", self.of(&["in.pcap", "my file.pcap", "a\\\\b"]));
        for item in self.some(&["speed", "loop", "maxgap"]) {
            device += &match item {
                "speed" => {
                    format!(",speed={}", self.of(&["original", "max", "2x", "2.5x", "0.001x", "1000x"]))
                }
                "loop" => format!(",loop={}", self.of(&["1", "3", "1k", "forever"])),
                _ => format!(",maxgap={}", self.duration()),
            };
        }
        format!("\"{device}\"")
    }

    fn port_options(&mut self) -> String {
        let mut options = String::new();
        for option in self.some(&[
            "rxq",
            "txq",
            "rxd",
            "txd",
            "mtu",
            "promiscuous",
            "lcores",
            "gone",
            "alarm",
            "terminate",
        ]) {
            options += &match option {
                "rxq" | "txq" => format!(" {option} {}", self.number(1024)),
                "rxd" | "txd" => format!(" {option} {}", self.number(65535)),
                "mtu" => format!(" mtu {}", self.of(&[68, 1500, 65535])),
                "promiscuous" => format!(" promiscuous{}", self.switch()),
                "lcores" => format!(" lcores {}", self.lcores()),
                "gone" => format!(" gone {}", self.of(&["end", "wait"])),
                "alarm" => format!(" alarm{}", self.switch()),
                _ => self.terminate() + &self.terminate(),
            };
        }
        options
    }

    fn terminate(&mut self) -> String {
        let (kind, id, most, in_udp) = self.of(&[
            ("vxlan", "vni", 0xff_ffff, true),
            ("geneve", "vni", 0xff_ffff, true),
            ("gre", "key", 0xffff_ffff, false),
            ("erspan", "session", 1023, false),
            ("gtp", "teid", 0xffff_ffff, true),
            ("tzsp", "", 0, true),
            ("rspan", "vlan", 4095, false),
        ]);
        let mut end = format!(" terminate {kind}");
        for key in self.some(&["to", "from", "id", "udp-port"]) {
            end += &match key {
                "to" if kind != "rspan" => {
                    format!(" to {}", self.of(&["198.18.0.1", "2001:DB8:0:0::1", "::ffff:1.2.3.4"]))
                }
                "from" if kind != "rspan" => {
                    format!(
                        " from {}",
                        self.of(&["10.0.0.0/8", "198.18.0.7,2001:DB8:0::/32", "0.0.0.0/0,::/0"])
                    )
                }
                "id" if kind != "tzsp" => format!(" {id} {}", self.ranges(most)),
                "udp-port" if in_udp => format!(" udp-port {}", self.number(65535)),
                _ => String::new(),
            };
        }
        end
    }

    fn tool(&mut self, name: &str, text: &str) -> String {
        let (head, is_port, is_capture) = match self.below(4) {
            0 => (format!("create {name} port {text}"), true, false),
            1 => (format!("create {name} capture {text}"), false, true),
            2 => (format!("create {name} discard"), false, false),
            _ => (format!("modify {text}"), true, true),
        };
        head + &self.tool_options(is_port, is_capture)
    }

    fn tool_options(&mut self, is_port: bool, is_capture: bool) -> String {
        let mut options = String::new();
        let all = [
            "transport",
            "mtu",
            "queue",
            "thresholds",
            "rate",
            "timestamp",
            "order",
            "oversize",
            "rotate",
            "keep",
            "heartbeat",
            "echo",
            "down-after",
            "up-after",
            "alarm",
            "edit",
            "edit",
            "edit",
            "slice",
            "anonymize",
            "payload",
        ];
        for option in self.some(&all) {
            options += &match option {
                "transport" if is_port => self.transport(),
                "transport" => " local".to_owned(),
                "mtu" => format!(" mtu {}", self.of(&[68, 1400])),
                "queue" => format!(
                    " queue {}{}",
                    self.of(&["1", "1k", "1048576"]),
                    self.option("bytes", Self::size)
                ),
                "thresholds" => format!(" thresholds {}", self.of(&["1%,99%", "50%,50%", "0x10%,80%"])),
                "rate" => format!(" rate {}{}", self.rate(), self.option("burst", Self::duration)),
                "timestamp" => format!(" timestamp {}", self.word::<TimestampFormat>()),
                "order" => format!(" order window {}", self.duration()),
                "oversize" => format!(" oversize {}", self.word::<Oversize>()),
                "rotate" if is_capture => {
                    let size = format!("{}k", 64 + self.up_to(1000));
                    let every = format!("every {}", self.duration());
                    let both = format!("{size} {every}");
                    format!(" rotate {}", self.of(&[&*size, &*every, &*both]))
                }
                // more than the bits of a prefix, which `anonymize ip` would take
                "keep" if is_capture => {
                    let size = format!("{}{}", self.up_to(1 << 20), self.of(&["M", "Ki", "000", ".5G"]));
                    let (age, sync) =
                        (self.option("age", Self::duration), self.option("sync", Self::duration));
                    let free =
                        if self.flip() { format!(" free {}%", self.up_to(99)) } else { String::new() };
                    format!(" keep {size}{sync}{free}{age}{}", self.option("group", Self::text))
                }
                "heartbeat" => format!(" heartbeat{}{}", self.probe(), self.option("return", Self::text)),
                "echo" => format!(" echo{}", self.probe()),
                "down-after" | "up-after" => format!(" {option} {}", self.duration()),
                "alarm" if self.flip() => format!(" alarm {}", self.of(&["on", "off"])),
                "alarm" => format!(" alarm {}%{}", self.up_to(99), self.option("hold", Self::duration)),
                "edit" | "slice" | "anonymize" | "payload" => self.edit(option),
                _ => String::new(),
            };
        }
        options
    }

    fn probe(&mut self) -> String {
        let every = self.duration();
        let timeout = self.option("timeout", Self::duration);
        format!(" every {every}{timeout}{}", self.option("retries", |c| c.number(1000)))
    }

    fn transport(&mut self) -> String {
        let (src, dst, hop) = self.of(&[
            ("198.18.0.1", "198.18.0.2", "198.18.0.3"),
            ("2001:db8::1", "2001:db8::2", "fe80::1"),
            ("198.18.0.1", "198.18.0.2", "2-0-0-0-0-a"),
        ]);
        let (kind, required, optional): (_, &[&str], &[&str]) = self.of(&[
            ("rspan", &["vlan"][..], &["priority", "tag"][..]),
            ("erspan1", &["session", "src", "dst"], &["outer"]),
            ("erspan2", &["session", "src", "dst"], &["outer", "direction", "cos", "index"]),
            (
                "erspan3",
                &["session", "src", "dst"],
                &["outer", "direction", "cos", "sgt", "hw-id", "granularity"],
            ),
            ("vxlan", &["vni", "src", "dst"], &["outer", "udp-port", "udp-checksum"]),
            ("geneve", &["vni", "src", "dst"], &["outer", "udp-port", "udp-checksum"]),
            ("gre", &["src", "dst"], &["outer", "key"]),
        ]);
        let mut keys: Vec<&str> = self.some(optional);
        if let Some(outer) = keys.iter().position(|key| *key == "outer") {
            keys.swap_remove(outer);
            keys.extend(self.some(&["next-hop", "vlan", "priority", "ttl", "dscp", "df"]));
        }
        keys.extend(required);
        keys.insert(self.below(keys.len() + 1), kind);
        let mut written = String::new();
        for key in keys {
            written += &match key {
                "src" => format!(" src {src}"),
                "dst" => format!(" dst {dst}"),
                "next-hop" => format!(" next-hop {hop}"),
                "tag" => self.of(&[" replace", " push"]).to_owned(),
                "df" | "udp-checksum" => format!(" {key}{}", self.switch()),
                "direction" => format!(" direction {}", self.of(&["ingress", "egress"])),
                "granularity" => format!(" granularity {}", self.of(&["100us", "100ns", "1588"])),
                "vlan" => format!(" vlan {}", self.number(4094)),
                "priority" | "cos" => format!(" {key} {}", self.number(7)),
                "ttl" | "session" => format!(" {key} {}", self.number(255)),
                "dscp" | "hw-id" => format!(" {key} {}", self.number(63)),
                "sgt" | "udp-port" => format!(" {key} {}", self.number(65535)),
                "index" | "vni" | "key" => format!(" {key} {}", self.number(0xf_ffff)),
                kind => format!(" {kind}"),
            };
        }
        written
    }

    fn hash(&mut self) -> String {
        let kind = if self.flip() { "symmetric" } else { self.word::<HashKind>() };
        format!("{kind}{}", self.of(&["", " inner", " outer"]))
    }

    fn group_options(&mut self) -> String {
        let mut options = String::new();
        for option in self.some(&["hash", "standby", "min-up", "return", "discard"]) {
            options += &match option {
                "hash" => format!(" hash {}", self.hash()),
                "standby" => format!(" standby {}", self.texts()),
                "min-up" => format!(
                    " min-up {}{}",
                    self.number(1000),
                    self.of(&["", " below drop", " below spread"])
                ),
                "return" if self.flip() => " return now".to_owned(),
                "return" => format!(" return idle {}", self.duration()),
                _ => format!(" discard {}%", self.up_to(99)),
            };
        }
        options
    }

    fn wire_options(&mut self) -> String {
        let options = self.some(&["bypass", "propagate-link"]);
        options.into_iter().map(|option| format!(" {option}{}", self.switch())).collect()
    }

    fn unnamed_filter(&mut self) -> String {
        let source = if self.flip() { format!("file {}", self.text()) } else { self.text() };
        source + &self.option("through", |c| c.layers("any"))
    }

    fn anchor(&mut self) -> String {
        self.option("after", |c| c.word::<Anchor>().to_owned())
    }

    fn term(&mut self, may_be_filter: bool) -> String {
        match self.below(if may_be_filter { 7 } else { 4 }) {
            0 => format!("vni {}", self.ranges(0xff_ffff)),
            1 => format!("teid {}", self.ranges(0xffff_ffff)),
            2 => format!("mpls-label {}", self.ranges(0xf_ffff)),
            3 => {
                let (offset, hex) =
                    (self.number(65535), self.of(&["0x4745", "FFee", "0x80/f0", "00/00", "1234/0xffff"]));
                format!("bytes {offset} {hex}{}", self.anchor())
            }
            4 => format!(
                "{}{}",
                self.of(&["web", "9", "x.y", "rxq"]),
                self.option("through", |c| c.layers("any"))
            ),
            _ => self.unnamed_filter(),
        }
    }

    fn terms(&mut self, may_begin_with_filter: bool) -> String {
        let mut terms = vec![self.term(may_begin_with_filter)];
        (0..self.below(3)).for_each(|_| terms.push(self.term(true)));
        terms.join(" and ")
    }

    fn rule(&mut self) -> String {
        let all = [
            "vlan",
            "match",
            "term",
            "term",
            "sample",
            "dedup",
            "edit",
            "edit",
            "edit",
            "slice",
            "anonymize",
            "payload",
            "unread",
            "active",
            "until",
            "for",
            "limit",
            "final",
            "class",
        ];
        let verb = self.of(&["create", "modify"]);
        let mut clauses: Vec<String> =
            self.some(&all).into_iter().map(|clause| self.clause(clause)).collect();
        if verb == "create" || self.flip() {
            let end = if self.flip() { " drop".to_owned() } else { format!(" to {}", self.texts()) };
            clauses.insert(self.below(clauses.len() + 1), end);
            let sources = ["any", "a", "w0:a-to-b,any thing", "x,w0:b-to-a,from,7", "final"];
            let from = format!(" from {}", self.quote(&sources));
            clauses.insert(self.below(clauses.len() + 1), from);
        }
        format!("rule {verb} {}{}", self.number(u32::MAX.into()), clauses.concat())
    }

    fn clause(&mut self, clause: &str) -> String {
        match clause {
            "vlan" => format!(" vlan {}", self.ranges(4094)),
            "match" => format!(" match {}", self.terms(true)),
            "term" => format!(" {}", self.terms(false)),
            "sample" => format!(" sample {}", self.sample()),
            "dedup" => self.dedup(),
            "unread" => format!(" unread {}", self.word::<Unread>()),
            "active" => {
                let windows = self.of(&[
                    "Mon-Fri 08:00-18:00; Sat 10:00-12:00",
                    "daily 00:00-24:00",
                    "sun,FRI-tue 22:59-00:00",
                    "wed 23:00-01:00",
                ]);
                format!(" active \"{windows}\"{}", self.option("zone", Self::text))
            }
            "until" => {
                format!(
                    " until {}",
                    self.of(&[
                        "2026-12-01T00:00:00Z",
                        "2024-02-29T23:59:59.25+01:30",
                        "1970-01-01T00:00:00.000000001Z"
                    ])
                )
            }
            "for" => format!(" for {}", self.duration()),
            "limit" => format!(" limit {} packets", self.of(&["1", "10k", "18446744073709551615"])),
            "class" => format!(" class {}", self.word::<Class>()),
            "final" => " final".to_owned(),
            edit => self.edit(edit),
        }
    }

    fn sample(&mut self) -> String {
        let hash = self.option("hash", Self::hash);
        match self.below(8) {
            0 => format!("1/{}", self.up_to(u32::MAX.into())),
            1 => format!("random 1/{}", self.up_to(u32::MAX.into())),
            2 => format!("flow 1/10{hash}{}", self.option("seed", |c| c.number(u64::MAX - 1))),
            3 => format!("first {} packets{}{hash}", self.size(), self.of(&["", " per flow"])),
            4 => format!("first {} bytes{}{hash}", self.size(), self.of(&["", " per flow"])),
            5 | 6 => format!("rate {}{hash}", self.rate()),
            _ => "every 90s for 1.5s".to_owned(),
        }
    }

    fn dedup(&mut self) -> String {
        let mut dedup = format!(" dedup window {}", self.duration());
        for key in self.some(&["ignore", "scope", "action", "memory"]) {
            dedup += &match key {
                "ignore" => {
                    let ignored = self.some(DedupIgnore::WORDS);
                    if ignored.is_empty() {
                        String::new()
                    } else {
                        format!(" ignore {}", ignored.join(","))
                    }
                }
                "scope" => format!(" scope ports {}", self.texts()),
                "action" => format!(" action {}", self.of(&["drop", "count", "tag", "tag 7", "tag 0x7"])),
                _ => format!(" memory {}", self.size()),
            };
        }
        dedup
    }

    fn edit(&mut self, kind: &str) -> String {
        match kind {
            "slice" if self.flip() => format!(" slice {}", self.of(&[14, 128, 65535])),
            "slice" => format!(" slice {} after {}", self.of(&[0, 1, 128]), self.word::<Anchor>()),
            "anonymize" => {
                let mut edit = " anonymize ip".to_owned();
                for key in self.some(&["key", "keep", "inner"]) {
                    edit += &match key {
                        "key" => format!(" prefix-preserving key {}", self.text()),
                        "keep" => format!(" keep {}", self.of(&["16/48", "0/0", "32/128"])),
                        _ => " inner".to_owned(),
                    };
                }
                edit
            }
            "payload" => " payload drop".to_owned(),
            _ => match self.below(6) {
                0 => format!(" strip {}", self.layers("all")),
                1 => format!(
                    " tag vlan {}{}",
                    self.number(4094),
                    self.of(&["", " from-port", " from-tunnel"])
                ),
                2 => format!(
                    " rewrite {} {}",
                    self.of(&["dst-mac", "src-mac"]),
                    self.of(&["02:00:00:00:00:01", "2-0-0-0-0-A"])
                ),
                3 => format!(" rewrite vlan {}", self.number(4094)),
                _ => {
                    let range = format!(" mask {} {}", self.number(65535), self.number(65535));
                    let byte = self.option("byte", |c| c.of(&["0x00", "0xff", "0x0A"]).to_owned());
                    if self.flip() {
                        range + &byte + &self.anchor()
                    } else {
                        range + &self.anchor() + &byte
                    }
                }
            },
        }
    }
}
