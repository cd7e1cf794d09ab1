//! What is said of two plans, by a table that has every option of every object, and by a model: one object of a random pipeline is made
//! another one, and that is said and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use tapline::plan::diff::{About, Change, Kind, Subject, about, diff, interrupted, keeps_ids};
use tapline::plan::{Plan, Surroundings, plan};
use tapline_lang::files::{InMemory, NoFiles};
use tapline_lang::{Parsed, parse_onto, parse_text};

use super::pipelines::{Mutated, Object, add, pipeline, reword, text_of};
use super::planned;

const BASE: &str = "set seed 7
port attach p0 net_null0
port attach p1 net_null1
port attach out net_null2
port attach idle net_null3
port attach a net_null4
port attach b net_null5
port attach c net_null6
port attach rep replay:in.pcap
port attach span iface:eth7
tool create t0 port out
tool create t1 port out
tool create cap capture a.pcap
tool create dis discard
tool create vx port out vxlan vni 1 src 198.18.0.1 dst 198.18.0.2 next-hop 02:00:00:00:00:01
group create g tools t0,t1
wire create w ports a,b
filter create web \"tcp port 80\"
rule create 10 from p0 match web to t0
rule create 20 from p0,p1 sample flow 1/10 to g
rule create 30 from p1 dedup window 1ms to dis
rule create 40 from rep to cap
rule create 50 from p0 to vx
";

/// What stands in a pipeline, what stands there in another one, and all that is said of the two.
const CHANGES: &[(&str, &str, &[&str])] = &[
    ("set seed 7", "set seed 7\nset burst 16", &["setting burst is changed: Swap"]),
    ("set seed 7", "set seed 7\nset lcores 1-2", &["setting lcores is changed: Restart"]),
    ("set seed 7", "set seed 7\nset workers 2", &["setting workers is changed: Restart"]),
    ("set seed 7", "set seed 7\nset mempool 64k", &["setting mempool is changed: Restart"]),
    ("set seed 7", "set seed 7\nset idle pause", &["setting idle is changed: Swap"]),
    ("set seed 7", "set seed 7\nset flows 10M", &["setting flows is changed: Swap"]),
    ("set seed 7", "set seed 7\nset flows 1048576 idle 9s", &["setting flows is changed: Swap"]),
    ("set seed 7", "set seed 7\nset eal \"-m 128\"", &["setting eal is changed: Restart"]),
    ("set seed 7", "set seed 7\nset clock ptp", &["setting clock is changed: Nothing"]),
    ("set seed 7", "set seed 7\nset tpid 0x8200", &["setting tpid is changed: Restart"]),
    ("set seed 7", "set seed 7\nset panic-dump d", &["setting panic-dump is changed: Swap"]),
    ("set seed 7", "set seed 7\nset audit a.jsonl", &["setting audit is changed: Restart"]),
    ("set seed 7", "set seed 7\naccess grant viewer user root", &["access user root is added: Nothing"]),
    ("set seed 7", "set seed 7\naccess grant viewer group 7 peek\naccess revoke group 7", &[]),
    (
        "set seed 7",
        "set seed 8",
        &[
            "setting seed is changed: Swap",
            "group g is changed (hash): Swap",
            "rule 20 is changed (sample): Swap",
        ],
    ),
    ("p0 net_null0", "p0 net_null9", &["port p0 is recreated (device): Swap"]),
    ("p0 net_null0", "p0 net_null0 rxq 2", &["port p0 is changed (rxq): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 txq 2", &["port p0 is changed (txq): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 rxd 512", &["port p0 is changed (rxd): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 txd 512", &["port p0 is changed (txd): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 mtu 9000", &["port p0 is changed (mtu): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 gone end", &["port p0 is changed (gone): Nothing"]),
    ("p0 net_null0", "p0 net_null0 alarm off", &["port p0 is changed (alarm): Nothing"]),
    ("p0 net_null0", "p0 net_null0 promiscuous off", &["port p0 is changed (promiscuous): Nothing"]),
    ("p0 net_null0", "p0 net_null0 lcores 1", &["port p0 is changed (lcores): PortInterrupted"]),
    ("p0 net_null0", "p0 net_null0 terminate vxlan", &["port p0 is changed (terminate): PortInterrupted"]),
    ("rule create 10", "port stop p0\nrule create 10", &["port p0 is changed (stop): Swap"]),
    ("replay:in.pcap", "replay:other.pcap", &["port rep is recreated (device): Swap"]),
    ("replay:in.pcap", "replay:in.pcap,loop=3", &["port rep is recreated (loop): PortInterrupted"]),
    ("replay:in.pcap", "replay:in.pcap,maxgap=1s", &["port rep is recreated (maxgap): PortInterrupted"]),
    (
        "replay:in.pcap",
        "replay:in.pcap,speed=max",
        &["port rep is recreated (speed): PortInterrupted", "tool cap is changed (health): Nothing"],
    ),
    ("iface:eth7", "iface:eth8", &["port span is recreated (device): Swap"]),
    ("iface:eth7", "iface:eth7,queues=2", &["port span is changed (queues): PortInterrupted"]),
    ("iface:eth7", "iface:eth7,outgoing=on", &["port span is recreated (outgoing): PortInterrupted"]),
    ("iface:eth7", "iface:eth7,offloads=off", &["port span is recreated (offloads): PortInterrupted"]),
    ("iface:eth7", "iface:eth7,time=nic", &["port span is recreated (time): PortInterrupted"]),
    ("iface:eth7", "iface:eth7,buffer=64Mi", &["port span is recreated (buffer): PortInterrupted"]),
    // the size that it has where none is said
    ("iface:eth7", "iface:eth7,buffer=32Mi", &[]),
    ("iface:eth7", "iface:eth7 promiscuous off", &["port span is changed (promiscuous): PortInterrupted"]),
    ("t0 port out", "t0 port idle", &["tool t0 is recreated (port): Swap"]),
    ("t0 port out", "t0 discard", &["tool t0 is recreated (port): Swap"]),
    ("t0 port out", "t0 port out queue 9", &["tool t0 is changed (queue): Swap"]),
    ("t0 port out", "t0 port out queue 4096 bytes 8M", &["tool t0 is changed (queue): Swap"]),
    ("t0 port out", "t0 port out thresholds 50%,80%", &["tool t0 is changed (thresholds): Swap"]),
    ("t0 port out", "t0 port out rate 1gbit", &["tool t0 is changed (rate): Swap"]),
    ("t0 port out", "t0 port out order window 1ms", &["tool t0 is changed (order): Swap"]),
    ("t0 port out", "t0 port out alarm 80%", &["tool t0 is changed (alarm): Nothing"]),
    ("t0 port out", "t0 port out alarm off", &["tool t0 is changed (alarm): Nothing"]),
    ("t0 port out", "t0 port out alarm on", &[]),
    ("t0 port out", "t0 port out up-after 5s", &["tool t0 is changed (health): Nothing"]),
    ("t0 port out", "t0 port out strip vlan", &["tool t0 is changed (edits): Swap"]),
    ("t0 port out", "t0 port out timestamp vss", &["tool t0 is changed (timestamp): Swap"]),
    ("t0 port out", "t0 port out rspan vlan 9", &["tool t0 is recreated (transport): Swap"]),
    (
        "t0 port out",
        "t0 port out heartbeat every 1s timeout 300ms retries 3 return idle",
        &["tool t0 is changed (heartbeat): Swap"],
    ),
    ("rule create 10", "tool drain t0\nrule create 10", &["tool t0 is changed (drain): Nothing"]),
    ("capture a.pcap", "capture b.pcap", &["tool cap is recreated (capture): Swap"]),
    ("vni 1 ", "vni 2 ", &["tool vx is recreated (transport): Swap"]),
    ("dst 198.18.0.2", "dst 198.18.0.9", &["tool vx is recreated (transport): Swap"]),
    ("02:00:00:00:00:01", "02:00:00:00:00:02", &["tool vx is recreated (transport): Swap"]),
    ("02:00:00:00:00:01", "02:00:00:00:00:01 mtu 1400", &["tool vx is changed (mtu): Swap"]),
    ("02:00:00:00:00:01", "02:00:00:00:00:01 oversize slice", &["tool vx is changed (oversize): Swap"]),
    ("tools t0,t1", "tools t1,t0", &["group g is changed (tools): Swap"]),
    ("tools t0,t1", "tools t0,t1 weights 2,1", &["group g is changed (weights): Swap"]),
    ("tools t0,t1", "tools t0,t1 discard 10%", &["group g is changed (discard): Swap"]),
    ("tools t0,t1", "tools t0,t1 min-up 2", &["group g is changed (min-up): Swap"]),
    ("tools t0,t1", "tools t0,t1 return idle 9s", &["group g is changed (return): Swap"]),
    ("tools t0,t1", "tools t0,t1 hash ip", &["group g is changed (hash): Swap"]),
    ("tools t0,t1", "tools t0,t1 hash 5-tuple inner", &["group g is changed (hash): Swap"]),
    ("tools t0,t1", "tools t0,t1 standby dis", &["group g is changed (tools, standby): Swap"]),
    ("ports a,b", "ports a,c", &["wire w is recreated (ports): PortInterrupted"]),
    ("ports a,b", "ports b,a", &["wire w is recreated (ports): PortInterrupted"]),
    ("ports a,b", "ports a,b bypass", &["wire w is changed (bypass): Swap"]),
    ("ports a,b", "ports a,b propagate-link", &["wire w is changed (propagate-link): Nothing"]),
    ("wire create w ", "wire create v ", &["wire v is added: PortInterrupted", "wire w is removed: Swap"]),
    (
        "wire create w ",
        "port attach d net_null10\nport attach e net_null11\nwire create v ports d,e\nwire create w ",
        &["port d is added: Swap", "port e is added: Swap", "wire v is added: Swap"],
    ),
    (
        "tcp port 80",
        "tcp port 81",
        &["filter web is changed (expression): Nothing", "rule 10 is changed (match): Swap"],
    ),
    ("10 from p0 ", "10 from p1 ", &["rule 10 is changed (from): Swap"]),
    ("20 from p0,p1 ", "20 from p1,p0 ", &[]),
    ("match web", "match \"tcp port 80\"", &["rule 10 is changed (words): Nothing"]),
    ("match web", "match \"udp\"", &["rule 10 is changed (match): Swap"]),
    ("match web", "match web and vni 7", &["rule 10 is changed (match): Swap"]),
    ("match web", "vlan 7 match web", &["rule 10 is changed (match): Swap"]),
    ("match web", "match web through vlan", &["rule 10 is changed (match): Swap"]),
    ("flow 1/10", "flow 1/11", &["rule 20 is changed (sample): Swap"]),
    ("flow 1/10", "flow 1/10 hash ip", &["rule 20 is changed (sample): Swap"]),
    ("window 1ms", "window 2ms", &["rule 30 is changed (dedup): Swap"]),
    ("window 1ms", "window 1ms ignore ttl", &["rule 30 is changed (dedup): Swap"]),
    ("window 1ms", "window 1ms memory 1Mi", &["rule 30 is changed (dedup): Swap"]),
    ("to t0", "slice 64 to t0", &["rule 10 is changed (edits): Swap"]),
    ("to t0", "to t0,dis", &["rule 10 is changed (to): Swap"]),
    ("to t0", "to g", &["rule 10 is changed (to): Swap"]),
    ("to t0", "to t0 final", &["rule 10 is changed (final): Swap"]),
    ("to t0", "to t0 limit 9 packets", &["rule 10 is changed (limit): Swap"]),
    ("to t0", "to t0 for 9m", &["rule 10 is changed (schedule): Swap"]),
    ("to t0", "to t0 active \"Mon 08:00-09:00\"", &["rule 10 is changed (schedule): Swap"]),
    ("to t0", "to t0 unread pass", &["rule 10 is changed (unread): Swap"]),
    // the tool gets thresholds for it
    (
        "to t0",
        "to t0 class high",
        &["tool t0 is changed (thresholds): Swap", "rule 10 is changed (class): Swap"],
    ),
    ("rule create 50", "rule disable 10\nrule create 50", &["rule 10 is changed (enable): Swap"]),
    ("rule create 10 ", "rule create 11 ", &["rule 11 is added: Swap", "rule 10 is removed: Swap"]),
    ("filter create web", "filter create f \"udp\"\nfilter create web", &["filter f is added: Nothing"]),
    ("group create", "group create h tools t0\ngroup create", &["group h is added: Swap"]),
    ("port attach p0", "port attach new net_null9\nport attach p0", &["port new is added: Swap"]),
    ("tool create t0", "tool create new discard\ntool create t0", &["tool new is added: Swap"]),
    ("tool create t0", "tool create new port out\ntool create t0", &["tool new is added: Swap"]),
    ("tool create t0", "tool create new port idle\ntool create t0", &["tool new is added: Swap"]),
    // those that nobody says anything else of take what comes by any port
    ("10 from p0 match web", "10 from any", &["rule 10 is changed (from, match): Swap"]),
];

fn said(change: &Change) -> String {
    format!("{change}: {:?}", change.needs)
}

#[test]
fn every_option_of_every_object_is_judged() {
    let base = planned(BASE);
    let mut wrong = Vec::new();
    for (old, new, expected) in CHANGES {
        assert_eq!(BASE.matches(old).count(), 1, "`{old}` stands once in the base");
        let other = planned(&BASE.replacen(old, new, 1));
        let found: Vec<String> = diff(&base, &other).iter().map(said).collect();
        if found != *expected {
            wrong.push(format!("{old} -> {new}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_new_port_is_one_more_for_rules_that_take_from_any() {
    let text = |ports: &str| {
        format!("port attach a net_null0\n{ports}tool create t discard\nrule create 1 from any to t\n")
    };
    let changes = diff(&planned(&text("")), &planned(&text("port attach b net_null1\n")));
    let found: Vec<String> = changes.iter().map(said).collect();
    assert_eq!(found, ["port b is added: Swap", "rule 1 is changed (from): Swap"]);
}

#[test]
fn ports_are_interrupted_by_what_says_so_and_by_nothing_else() {
    let base = planned(BASE);
    let mut most = 0;
    for (old, new, _) in CHANGES {
        let plan = planned(&BASE.replacen(old, new, 1));
        let changes = diff(&base, &plan);
        let ports = interrupted(&base, &plan, &changes);
        let says = |change: &&Change| said(change).ends_with(": PortInterrupted");
        assert_eq!(
            ports.is_empty(),
            !changes.iter().any(|change| says(&change)),
            "{old} -> {new}: {ports:?}"
        );
        for change in changes.iter().filter(says) {
            let is_told = |(port, what): &(String, String)| {
                *what == change.to_string() && base.ports.iter().any(|known| known.name == *port)
            };
            assert!(ports.iter().any(is_told), "{change}: {ports:?}");
            if let Subject::Port(name) = &change.subject {
                assert!(ports.iter().any(|(port, _)| port == name), "{change}: {ports:?}");
            }
        }
        most = most.max(ports.len());
    }
    assert_eq!(most, 2, "a wire has two");
}

/// A port needs no interruption for a device that nothing of the running plan has, if no other port gets the one that it leaves.
#[test]
fn a_port_on_another_device_is_interrupted_where_the_device_is_not_free_beside_it() {
    const PLAIN: &[&str] = &["net_null0", "net_null1"];
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (PLAIN, &["net_null2", "net_null3"], &[]),
        (PLAIN, &["vdev:net_null0", "net_null1"], &["a"]),
        // each has what the other wants
        (PLAIN, &["net_null1", "net_null0"], &["a", "b"]),
        (PLAIN, &["net_null1", "net_null2"], &["a", "b"]),
        // a third takes what one leaves
        (PLAIN, &["net_null2", "net_null1", "net_null0"], &["a"]),
        (&["net_null0"], &["iface:eth7"], &[]),
        (&["iface:eth7"], &["net_af_packet0,iface=eth7"], &["a"]),
        (&["iface:eth7"], &["net_af_packet0,iface=eth8"], &[]),
        (&["net_pcap0,rx_iface=eth7"], &["net_pcap1,rx_iface=eth7"], &["a"]),
        (&["net_tap0,iface=t0"], &["net_tap1,iface=t0"], &["a"]),
        (&["net_pcap0,tx_pcap=a.pcap"], &["net_pcap1,tx_pcap=a.pcap"], &["a"]),
        (&["net_pcap0,tx_pcap=a.pcap"], &["net_pcap1,tx_pcap=b.pcap"], &[]),
        // two may read a file
        (&["net_pcap0,rx_pcap=d/a.pcap"], &["net_pcap1,rx_pcap=d/a.pcap"], &[]),
        (&["net_memif0,socket=/run/m"], &["net_memif1,socket=/run/m"], &["a"]),
        (&["0000:03:00.0"], &["03:00.0"], &["a"]),
        (&["0000:03:00.0"], &["0000:03:00.1"], &[]),
        (&["replay:a.pcap"], &["replay:a.pcap,speed=max"], &["a"]),
        (&["replay:a.pcap"], &["net_pcap0,rx_pcap=a.pcap"], &[]),
    ];
    for (before, after, expected) in cases {
        let text = |devices: &[&str]| -> String {
            let names = ["a", "b", "c"].iter().zip(devices);
            names.map(|(name, device)| format!("port attach {name} {device}\n")).collect()
        };
        let (before, after) = (planned(&text(before)), planned(&text(after)));
        let found = interrupted(&before, &after, &diff(&before, &after));
        let names: Vec<&str> = found.iter().map(|(port, _)| port.as_str()).collect();
        assert_eq!(&names, expected, "{found:?}");
    }
}

#[test]
fn a_command_is_about_what_it_makes_another() {
    let base = parse_text("base", BASE, &[]);
    let plan_of = |parsed: &Parsed| plan(&mut parsed.clone(), &Surroundings::fixed());
    let before = plan_of(&base).expect("a plan");
    for line in [
        "set burst 16",
        "port attach new net_null9",
        "port config p0 mtu 9000",
        "port detach c",
        "port stop p0",
        "tool create new discard",
        "tool modify t0 queue 9",
        "group create h tools t0",
        "group modify g hash ip",
        "wire modify w bypass on",
        "wire destroy w",
        "filter create f \"udp\"",
        "filter modify web \"udp\"",
        "rule create 1 from p0 to t0",
        "rule create 1 from p0 to t0 class high",
        "rule modify 10 slice 64",
        "rule disable 10",
        "rule destroy 10",
        "rule destroy all",
        "access grant viewer token web",
        "start",
        "stop",
        "show plan",
        "clear stats",
        "quit",
    ] {
        let typed = parse_onto(&base, line.as_bytes(), &NoFiles);
        let command = typed.file.commands[0].value.clone();
        let mut parsed = Parsed { file: base.file.clone(), ..typed.clone() };
        parsed.file.commands.extend(typed.file.commands);
        let after = plan_of(&parsed).unwrap_or_else(|| panic!("{line}"));
        let changes = diff(&before, &after);
        assert_eq!(changes.is_empty(), about(&command) == About::Nothing, "{line}: {changes:?}");
        assert!(
            changes.is_empty() || changes.iter().any(|change| change.about() == about(&command)),
            "{line}"
        );
    }
}

#[test]
fn what_a_list_or_key_holds_is_a_part_of_what_names_it() {
    let text = "port attach p net_null0\ntool create t discard\ntool create s port p anonymize ip prefix-preserving key key.bin\n\
                rule create 10 from p match file list to t\nrule create 20 from p anonymize ip prefix-preserving key key.bin to t\n";
    let parsed = parse_text("test.pipe", text, &[]);
    let with = |list: &str, key: u8| {
        let mut files = InMemory::default();
        files.put("list", list);
        files.put("key.bin", [key; 32]);
        let surroundings = Surroundings { files: Arc::new(files), ..Surroundings::fixed() };
        plan(&mut parsed.clone(), &surroundings).expect("a plan")
    };
    let found =
        |before: &Plan, after: &Plan| -> Vec<String> { diff(before, after).iter().map(said).collect() };
    let base = with("10.0.0.0/8\n", 1);
    assert!(found(&base, &with("# the same\n10.0.0.0/8\n", 1)).is_empty());
    assert_eq!(found(&base, &with("10.0.0.0/9\n", 1)), ["rule 10 is changed (match): Swap"]);
    assert_eq!(
        found(&base, &with("10.0.0.0/8\n", 2)),
        ["tool s is changed (edits): Swap", "rule 20 is changed (edits): Swap"]
    );
}

/// The subjects and kinds of changes, in any order.
fn kinds(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|change| format!("{} {:?}", change.subject, change.kind)).collect()
}

/// The names of all objects of a plan, by kind.
fn names(plan: &Plan) -> BTreeSet<String> {
    let ports = plan.ports.iter().map(|port| format!("port {}", port.name));
    let tools = plan.tools.iter().map(|tool| format!("tool {}", tool.name));
    let groups = plan.groups.iter().map(|group| format!("group {}", group.name));
    let wires = plan.wires.iter().map(|wire| format!("wire {}", wire.name));
    let filters = plan.filters.iter().map(|filter| format!("filter {}", filter.name));
    let rules = plan.rules.iter().map(|rule| format!("rule {}", rule.priority));
    ports.chain(tools).chain(groups).chain(wires).chain(filters).chain(rules).collect()
}

fn assert_is_said(before: &[Object], mutated: &Mutated) -> Result<(), TestCaseError> {
    let (old, new) = (planned(&text_of(before)), planned(&text_of(&mutated.objects)));
    let changes = diff(&old, &new);
    let expected: BTreeSet<String> =
        mutated.expected.iter().map(|(subject, kind)| format!("{subject} {kind:?}")).collect();
    prop_assert_eq!(kinds(&changes), expected, "{}\n->\n{}", text_of(before), text_of(&mutated.objects));

    let back = diff(&new, &old);
    let swapped = |kind| match kind {
        Kind::Added => Kind::Removed,
        Kind::Removed => Kind::Added,
        kind => kind,
    };
    let mirrored: Vec<Change> =
        changes.iter().map(|change| Change { kind: swapped(change.kind), ..change.clone() }).collect();
    prop_assert_eq!(kinds(&back), kinds(&mirrored));
    for change in &changes {
        let other = back.iter().find(|other| other.subject == change.subject).expect("named above");
        prop_assert_eq!(&other.what, &change.what);
    }

    let mut applied = names(&old);
    for change in &changes {
        match change.kind {
            Kind::Added => prop_assert!(applied.insert(change.subject.to_string())),
            Kind::Removed => prop_assert!(applied.remove(&change.subject.to_string())),
            Kind::Changed | Kind::Recreated => {}
        }
    }
    prop_assert_eq!(applied, names(&new));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_is_no_other_than_itself(objects in pipeline(), places in proptest::collection::vec(any::<prop::sample::Index>(), 8)) {
        let plan = planned(&text_of(&objects));
        prop_assert!(diff(&plan, &plan).is_empty() && keeps_ids(&plan, &plan));
        // whatever the order of its lines
        let mut others = objects.clone();
        for pair in places.chunks(2) {
            let (one, other) = (pair[0].index(others.len()), pair[1].index(others.len()));
            others.swap(one, other);
        }
        let other = planned(&text_of(&others));
        prop_assert_eq!(diff(&plan, &other), Vec::new());
        let is_in_order = |kind: &str| {
            let of_kind = |objects: &[Object]| -> Vec<String> {
                objects.iter().map(|(subject, _)| subject.to_string()).filter(|name| name.starts_with(kind)).collect()
            };
            of_kind(&objects) == of_kind(&others)
        };
        prop_assert_eq!(keeps_ids(&plan, &other), ["port", "tool", "group", "wire"].into_iter().all(is_in_order));
    }

    #[test]
    fn an_object_that_is_made_another_is_said_alone(objects in pipeline(), which in any::<usize>(), choice in any::<usize>()) {
        if let Some(mutated) = reword(&objects, which, choice) {
            assert_is_said(&objects, &mutated)?;
        }
    }

    #[test]
    fn an_object_that_is_added_is_said_alone(objects in pipeline(), kind in any::<usize>(), place in any::<usize>()) {
        assert_is_said(&objects, &add(&objects, kind, place))?;
    }
}
