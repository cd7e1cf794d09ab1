//! Commands that change every kind of object, one after another: what is forgotten of them makes no difference, and what is left
//! does not grow.

use proptest::prelude::*;
use tapline::plan::diff::diff;
use tapline::plan::{Plan, Surroundings, compact, plan};
use tapline_lang::diagnostic::Diagnostics;
use tapline_lang::files::NoFiles;
use tapline_lang::{Parsed, parse_onto, parse_text, text};

/// What every sequence begins with; the lines name it.
const HEAD: &str = "port attach p net_null0\nport attach o net_null1\nport attach a net_null2\nport attach b net_null3\n\
                    tool create t port o\ntool create u discard\nfilter create f0 \"udp\"\n";

const EDITS: [&str; 9] = [
    "strip vlan",
    "strip mpls,gre",
    "mask 0 6",
    "mask 2 6 byte 0xff",
    "mask 0 6 after l3",
    "tag vlan 7",
    "rewrite vlan 5",
    "anonymize ip keep 16/48",
    "anonymize ip inner payload drop",
];

const PORT_KEYS: [&str; 11] = [
    "mtu 9000",
    "mtu 1500 promiscuous off",
    "promiscuous on rxd 512",
    "rxq 0",
    "rxq 1 txq 1",
    "gone end",
    "gone wait txd 256",
    "alarm off",
    "terminate vxlan vni 7",
    "terminate vxlan vni 8 terminate gre key 1",
    "lcores 1",
];

const TOOL_KEYS: [&str; 16] = [
    "queue 100 bytes 1M",
    "queue 200",
    "thresholds 50%,80%",
    "rate 1gbit burst 1ms",
    "rate 2gbit",
    "alarm 80% hold 5s",
    "alarm 90% timestamp vss",
    "alarm off",
    "alarm on",
    "order window 5ms",
    "oversize drop",
    "vxlan vni 7 src 198.18.0.1 dst 198.18.0.7 ttl 9 mtu 1400",
    "erspan3 session 7 src 198.18.0.1 dst 198.18.0.9",
    "local",
    "down-after 2s up-after 3s",
    "heartbeat every 100ms retries 2",
];

const GROUP_KEYS: [&str; 8] = [
    "tools t,u weights 2,1",
    "tools t,u weights 1,1 hash ip",
    "hash 5-tuple inner",
    "discard 10%",
    "min-up 1 below discard",
    "min-up 1 return idle 30s",
    "return now",
    "tools u,t weights 3,1",
];

const RULE_CLAUSES: [&str; 12] = [
    "slice 64",
    "match \"tcp port 80\" to t",
    "match f0 vni 7",
    "vni 9 teid 4",
    "sample 1/10",
    "sample flow 1/10 hash ip",
    "dedup window 5ms",
    "limit 1000 packets class high",
    "active \"Mon-Fri 08:00-18:00\" until 2026-06-01T00:00:00Z",
    "from p,a final",
    "unread pass vlan 7",
    "drop",
];

const SETTINGS: [&str; 10] = [
    "burst 16",
    "burst 32",
    "idle sleep",
    "idle pause",
    "flows 1k idle 30s",
    "flows 2k max-age 10m",
    "flows 3k",
    "clock ptp",
    "seed 7",
    "audit a.jsonl required",
];

/// The keys of [`SETTINGS`].
const SETTING_KINDS: usize = 6;

fn one(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(of.to_vec())
}

/// Any command on one of three rules and filters, or of two other objects of a kind; most sequences have many that fit.
fn line() -> impl Strategy<Value = String> {
    const TOOLS: &[&str] = &["t", "u", "v0", "v1", "g0", "t,u", "v0,v1"];
    let rule = (0..3u32, 0..12u32, one(&RULE_CLAUSES), one(&EDITS), one(TOOLS)).prop_map(
        |(rule, kind, clause, edit, tools)| match kind {
            0 => format!("rule create {rule} from p match f{rule} to {tools}"),
            1 => format!("rule create {rule} from p slice 64 to {tools}"),
            2 => format!("rule create {rule} from any {edit} to {tools}"),
            3 => format!("rule modify {rule} to {tools}"),
            4 | 5 => format!("rule modify {rule} {edit}"),
            6 => format!("rule destroy {rule}"),
            7 => format!("rule disable {rule}"),
            8 => format!("rule enable {rule}"),
            9 if rule == 0 => "rule destroy all".to_owned(),
            _ => format!("rule modify {rule} {clause}"),
        },
    );
    let filter = (0..3u32, 0..4u32, 0..9u32).prop_map(|(filter, kind, port)| match kind {
        0 => format!("filter create f{filter} \"udp port {port}\""),
        1 => format!("filter destroy f{filter}"),
        _ => format!("filter modify f{filter} \"tcp dst port {port}\""),
    });
    let port = (0..2u32, 0..7u32, one(&PORT_KEYS), one(&["p", "a", "q0", "q1"])).prop_map(
        |(index, kind, keys, port)| match kind {
            0 => format!("port attach q{index} net_null{} {}", 4 + index, keys),
            1 => format!("port detach q{index}"),
            2 => format!("port stop {port}"),
            3 => format!("port start {port}"),
            _ => format!("port config {port} {keys} interrupt"),
        },
    );
    let tool = (0..2u32, 0..9u32, one(&TOOL_KEYS), one(&EDITS), one(&["t", "u", "v0", "v1"])).prop_map(
        |(index, kind, keys, edit, tool)| match kind {
            0 => format!("tool create v{index} port o {keys}"),
            1 => format!("tool create v{index} discard {edit}"),
            2 => format!("tool destroy v{index}"),
            3 => format!("tool drain {tool}"),
            4 => format!("tool enable {tool}"),
            5 => format!("tool modify {tool} {edit}"),
            _ => format!("tool modify {tool} {keys}"),
        },
    );
    let group = (0..2u32, 0..5u32, one(&GROUP_KEYS)).prop_map(|(group, kind, keys)| match kind {
        0 => format!(
            "group create g{group} tools t,u {}",
            keys.replace("tools t,u", "").replace("tools u,t", "")
        ),
        1 => format!("group destroy g{group}"),
        _ => format!("group modify g{group} {keys}"),
    });
    let wire =
        (0..5u32, one(&["bypass on", "bypass off", "propagate-link on", "bypass on propagate-link off"]))
            .prop_map(|(kind, keys)| match kind {
                0 | 1 => format!("wire create w ports a,b {keys}"),
                2 => "wire destroy w".to_owned(),
                _ => format!("wire modify w {keys}"),
            });
    let access = (0..2u32, one(&["user root", "user 0", "token a", "group 5"]), one(&["viewer", "admin"]))
        .prop_map(|(kind, to, role)| match kind {
            0 => format!("access grant {role} {to}"),
            _ => format!("access revoke {to}"),
        });
    let setting = one(&SETTINGS).prop_map(|setting| format!("set {setting}"));
    prop_oneof![4 => rule, 2 => filter, 3 => port, 3 => tool, 2 => group, 2 => wire, 2 => access, 1 => setting]
}

/// The plan of what was parsed, without the texts that it was read from.
fn planned(mut parsed: Parsed) -> (Parsed, Option<Plan>) {
    let plan = plan(&mut parsed, &Surroundings::fixed());
    parsed.diagnostics = Diagnostics::default();
    (parsed, plan)
}

fn without_files(mut plan: Plan) -> Plan {
    plan.files = Default::default();
    plan
}

/// What is in force with a line behind it, and its plan, if it has one.
fn tried(accepted: &Parsed, line: &str) -> (Parsed, Option<Plan>) {
    let typed = parse_onto(accepted, line.as_bytes(), &NoFiles);
    let has_errors = typed.diagnostics.has_errors();
    let mut parsed = Parsed { file: accepted.file.clone(), ..typed };
    parsed.file.commands.extend(typed.file.commands);
    if has_errors { (parsed, None) } else { planned(parsed) }
}

/// Takes lines as at the prompt: each is tried, and those that fit stay. Returns how many did.
fn assert_no_difference(lines: &[String]) -> usize {
    let mut whole = parse_text("test", HEAD, &[]);
    let mut compacted = whole.clone();
    let mut taken = 0;
    for line in lines {
        let ((long, expected), (mut short, found)) = (tried(&whole, line), tried(&compacted, line));
        assert_eq!(expected.is_some(), found.is_some(), "{line}\n{}", text(&compacted.file));
        let (Some(expected), Some(found)) = (expected, found) else { continue };
        taken += 1;
        compact(&mut short, &found);
        let printed = text(&short.file);
        let (expected, found) = (without_files(expected), without_files(found));
        assert_eq!(diff(&expected, &found), [], "{line}\n{printed}");
        assert!(expected == found, "another plan, after {line}, of\n{printed}");
        // what is left says it, in memory and as text
        let parsed = parse_text("printed", &printed, &[]);
        assert!(!parsed.diagnostics.has_errors(), "{}", parsed.diagnostics.render(&parsed.sources));
        for again in [planned(short.clone()).1, planned(parsed).1] {
            let again = without_files(again.unwrap_or_else(|| panic!("no plan of\n{printed}")));
            assert_eq!(diff(&expected, &again), [], "{printed}");
            assert!(expected == again, "another plan is made of\n{printed}");
        }
        // one command an object, one that turns it off, one a setting or grant
        let objects = found.ports.len() + found.tools.len() + found.groups.len() + found.wires.len();
        let others = found.filters.len() + found.rules.len();
        let stopped = found.ports.iter().filter(|port| port.is_stopped).count()
            + found.tools.iter().filter(|tool| tool.is_drained).count()
            + found.rules.iter().filter(|rule| !rule.is_enabled).count();
        let most = objects + others + stopped + found.access.len() + SETTING_KINDS;
        assert!(short.file.commands.len() <= most, "{printed}");
        assert!(printed.len() < HEAD.len() + 12 * 400, "{printed}");
        (whole, compacted) = (long, short);
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_forgotten_makes_no_difference(lines in prop::collection::vec(line(), 1..60)) {
        println!("{} of {} lines fit", assert_no_difference(&lines), lines.len());
    }
}

#[test]
fn hundreds_of_changes_of_every_object_leave_a_command_for_each() {
    let mut lines = vec![
        "tool create v0 port o".to_owned(),
        "group create g0 tools t,u".to_owned(),
        "wire create w ports a,b".to_owned(),
        "rule create 1 from p to g0,v0".to_owned(),
    ];
    for round in 0..40 {
        let key = |keys: &[&str]| keys[round % keys.len()].to_owned();
        lines.push(format!("port config p mtu {} terminate vxlan vni 7 interrupt", 1500 + round));
        lines.push(format!("tool modify v0 queue {} {}", 64 + round, key(&EDITS)));
        lines.push(format!("group modify g0 {}", key(&GROUP_KEYS)));
        lines.push(format!("wire modify w {}", key(&["bypass on", "bypass off propagate-link on"])));
        lines.push(format!("filter modify f0 \"udp port {round}\""));
        lines.push(format!("rule modify 1 match f0 slice {}", 64 + round));
        lines.push(format!("port {} p", key(&["stop", "start"])));
        lines.push(format!("set burst {}", 1 + round % 64));
        lines.push(format!("access {} user {}", key(&["grant viewer", "revoke"]), key(&["root", "0"])));
    }
    let taken = assert_no_difference(&lines);
    assert!(taken > 340, "{taken} of {}", lines.len());
}
