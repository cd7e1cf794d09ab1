//! Each kind of event: its line and its object of `tapline.event/1` are those of `events.expected`, are what Python reads, and have the
//! fields that the reference names.
//!
//! `TAPLINE_BLESS=1 cargo test --test offline golden` writes the expected text anew: read the difference before you keep it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tapline_api::event::{Alarm, Event, Polled, Recorded};
use tapline_api::words::{DropReason, Expiry, IcmpReason, LinkState, Reason, Stage, ToolState, Unfinished};
use tapline_harness::judges::assert_expected;
use tapline_harness::programs::{has_program, repository, run};

/// 2026-11-30T20:31:07.123456789Z
const TIME_NS: u64 = 1_796_070_667_123_456_789;

fn text(words: &str) -> String {
    words.to_owned()
}

/// Events of the start.
fn of_the_start() -> Vec<Event> {
    let placed = |receive: &[u32], transmit: &[u32], main_cpus: &[u32]| Event::WorkersPlaced {
        receive: receive.to_vec(),
        work: vec![2, 3],
        transmit: transmit.to_vec(),
        main_cpus: main_cpus.to_vec(),
        why: text("as `set lcores` says"),
    };
    let polled = |ports: &[&str]| Event::QueuesPolled {
        lcores: vec![
            Polled { lcore: 1, ports: vec![text("tap0")] },
            Polled { lcore: 2, ports: ports.iter().map(|port| text(port)).collect() },
        ],
    };
    let too_long = |are_cut| Event::FramesTooLong {
        port: text("tap0"),
        interface: text("eth1"),
        mtu: 9000,
        driver: text("net_af_packet"),
        most_mtu: 2034,
        are_cut,
    };
    let offloads = |far_end_of: Option<&str>, words: &[&str]| Event::OffloadsOn {
        port: text("span0"),
        interface: text("eth1"),
        far_end_of: far_end_of.map(text),
        offloads: words.iter().map(|word| text(word)).collect(),
    };
    vec![
        Event::OrdinaryPages { free_mib: 0, needed_mib: 301, pages: 151 },
        placed(&[], &[], &[0]),
        placed(&[], &[4], &[0, 1]),
        placed(&[1], &[4], &[]),
        polled(&["tap1", "tap2"]),
        polled(&[]),
        Event::FlowsSplit {
            port: text("tap0"),
            queues: 4,
            why: text("the driver does not say which RSS key it uses"),
        },
        Event::PathTooWide { tool: text("cloud"), port: text("up0"), mtu: 1500, path_mtu: 9000 },
        too_long(true),
        too_long(false),
        Event::PipeUnwatched { port: text("ids0"), path: text("ids.fifo") },
        Event::LinksNotPropagated { wire: text("w0"), error: text("port a: not supported") },
        Event::DpdkLogged { line: text("EAL: it is \"so\"") },
        Event::FramesChanged { port: text("tap0"), interface: text("eth1"), driver: text("net_af_packet") },
        offloads(None, &["gro", "lro"]),
        offloads(Some("eth0"), &["tso", "gso", "tx"]),
        Event::FarEndUnseen { port: text("span0"), interface: text("eth1") },
    ]
}

/// Events of a run.
fn of_a_run() -> Vec<Event> {
    let tools = || vec![text("cloud")];
    let next_hop = IpAddr::from([198, 18, 0, 9]);
    let refused = |reason, mtu| Event::TunnelRefused { tool: text("cloud"), reason, by: next_hop, mtu };
    let tool = |from, to, reason| Event::ToolChanged { tool: text("ids-a"), from, to, reason };
    let port = |from, to| Event::PortChanged { port: text("tap0"), from, to };
    vec![
        tool(ToolState::Up, ToolState::Down, Reason::LinkDown),
        tool(ToolState::Down, ToolState::Up, Reason::Recovered),
        tool(ToolState::Up, ToolState::Draining, Reason::Drain),
        port(LinkState::Up, LinkState::Down),
        port(LinkState::Down, LinkState::Up),
        port(LinkState::Up, LinkState::Gone),
        port(LinkState::Gone, LinkState::Up),
        Event::PortNotAttached { port: text("tap0"), error: text("PACKET_RX_RING: out of memory") },
        Event::PortClosed {
            port: text("tap0"),
            error: text("port tap0: rte_eth_dev_start: Input/output error"),
        },
        Event::DeviceKept {
            port: text("tap0"),
            device: text("0000:03:00.0"),
            error: text("port tap0: rte_dev_remove: Operation not supported"),
        },
        Event::BucketsMoved { group: text("ids"), buckets: 341, of: 1024, flows: 97, pending: 0 },
        Event::RuleSwitched { rule: 20, on: true, next_change: Some(1_796_072_400.0) },
        Event::RuleSwitched { rule: 20, on: false, next_change: None },
        Event::LinkPropagated { wire: text("w0"), port: text("b0"), to: LinkState::Down },
        Event::MtuChanged { port: text("up0"), from: 1500, to: 1400 },
        Event::FramesCut { port: text("tap0"), driver: text("net_af_packet"), bytes: 2048 },
        Event::NextHopResolved { next_hop, mac: text("02:bb:00:00:00:09"), tools: tools() },
        Event::NextHopMoved {
            next_hop: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]),
            from: text("02:bb:00:00:00:09"),
            to: text("02:66:00:00:00:01"),
            tools: vec![text("cloud"), text("remote")],
        },
        Event::NextHopLost { next_hop, tools: tools() },
        refused(IcmpReason::PortUnreachable, None),
        refused(IcmpReason::TooBig, Some(1400)),
        Event::AddressConflict { port: text("cloud"), address: next_hop, mac: text("02:66:00:00:00:01") },
        Event::SystemClockStepped { by_ns: -3_600_000_000_000 },
        Event::NicClockFitted { port: text("tap0") },
        Event::NicClockDegraded { port: text("tap0") },
        Event::NicClockStepped { port: text("tap0"), by_ns: 37_000_000_000 },
        Event::WorkerStalled { lcore: 2, stage: Stage::Egress, quiet_ms: 1004 },
        Event::WorkerStarved { lcore: 1, quiet_ms: 733, ran_ms: 12 },
        Event::WorkerRecovered { lcore: 2, quiet_ms: 2518 },
        Event::WorkerPanicked {
            lcore: 2,
            stage: Stage::Route,
            panic: text("index out of bounds (route/mod.rs:7)"),
            failed: 64,
            dropped: 3,
        },
        Event::BurstDumped { lcore: 2, path: text("dumps/panic-1.pcap") },
        Event::BurstNotDumped { lcore: 2, error: text("dumps: the folder has 16 files already") },
        Event::WorkerLost { lcore: 2 },
        Event::SwapLate { lcore: 2 },
        Event::PlanChanged { rules: 12, planned_ms: 31.416, in_force_ms: 0.25 },
        Event::RolledBack { to: 3, why: text("it was not confirmed in time") },
        Event::RollbackFailed { to: 3, why: text("asked for") },
        Event::StatisticsLost {
            path: text("stats.jsonl"),
            error: text("No space left on device (os error 28)"),
        },
    ]
}

/// Each alarm.
fn alarms() -> Vec<Alarm> {
    let error = || text("No space left on device (os error 28)");
    vec![
        Alarm::Queue { tool: text("ids-a"), percent: 80, hold_s: 0.3 },
        Alarm::Utilisation { tool: text("ids-a"), percent: 90, hold_s: 60.0 },
        Alarm::ReplayStarved { port: text("in"), packets: 1999, mbufs: 2000 },
        Alarm::ReplayFailed {
            port: text("in"),
            path: text("in.pcap"),
            error: text("at byte 40: the file ends inside a packet"),
        },
        Alarm::CaptureFailed { tool: text("recorder"), path: text("out.pcapng"), error: error() },
        Alarm::CaptureStalled { tool: text("recorder"), after_ns: 60_000_000_000 },
        Alarm::OutputFailed { port: text("ids0"), path: text("ids0.pcap"), error: error() },
        Alarm::PortGone { port: text("span0"), device: text("iface:eth1"), waits: true },
        Alarm::PortGone { port: text("tap0"), device: text("net_tap0"), waits: false },
        Alarm::Conflict {
            next_hop: IpAddr::from([198, 18, 0, 9]),
            mac: text("02:bb:00:00:00:09"),
            other: text("02:66:00:00:00:01"),
            tools: vec![text("cloud")],
        },
        Alarm::WorkerRetired { lcore: 2, panics: 3, seconds: 10 },
        Alarm::Loss {
            port: text("span0"),
            lost: 1_728_512,
            of: 2_178_568,
            mostly: text("missed"),
            seconds: 2.0,
            quiet_s: 30,
            remedy: text("its ring was full: say a larger `framecnt` of the device"),
        },
        Alarm::Drops {
            tool: text("ids-a"),
            dropped: 117,
            of: 5000,
            mostly: DropReason::Congested,
            seconds: 2.1,
            quiet_s: 30,
        },
        Alarm::Unbalanced { packets: 192, most_packets: 128, copies: 0, most_copies: 128 },
    ]
}

/// Events of the end.
fn of_the_end() -> Vec<Event> {
    let unfinished = |because, left, is_least| Event::ReplayUnfinished {
        port: text("in"),
        path: text("in.pcap"),
        read: 7,
        left,
        is_least,
        because,
        due_ns: (because == Unfinished::Early).then_some(1_700_000_000_000_000_000),
        mbufs: (because == Unfinished::Starved).then_some(2000),
    };
    let interrupted =
        |is_kept| Event::ConfirmInterrupted { plan: 5, to: 4, is_kept, file: text("office.pipe") };
    let unwritten =
        |is_asked| Event::CopiesUnwritten { tool: text("recorder"), copies: 12, seconds: 2, is_asked };
    let file = || text("1796070667123456789-00000007.pcapng");
    let repaired = |packets, kept_bytes| Event::SegmentRepaired {
        tool: text("recorder"),
        file: file(),
        packets,
        kept_bytes,
        cut_bytes: 1460,
    };
    let expired = |reason| Event::SegmentExpired {
        tool: text("recorder"),
        file: file(),
        bytes: 1_000_000_000,
        reason,
    };
    vec![
        Event::PacketsPassedOver { port: text("in"), path: text("in.pcap"), packets: 5 },
        unfinished(Unfinished::Asked, Some(2), false),
        unfinished(Unfinished::TimeUp, Some(1_000_000), true),
        unfinished(Unfinished::Starved, Some(3), false),
        unfinished(Unfinished::Early, Some(1), false),
        unfinished(Unfinished::Idle, None, false),
        unwritten(true),
        unwritten(false),
        Event::CaptureStuck { tool: text("recorder") },
        repaired(812, 100_000),
        repaired(0, 0),
        expired(Expiry::Keep),
        expired(Expiry::Age),
        expired(Expiry::Free),
        expired(Expiry::NoSpace),
        Event::StoreResumed { tool: text("recorder"), path: text("/var/lib/tapline") },
        Event::OutputShort { port: text("ids0"), path: text("ids0.pcap"), sent: 1000, whole: 812 },
        Event::AuditFailed {
            path: text("audit.jsonl"),
            error: text("No space left on device (os error 28)"),
        },
        Event::AuditResumed { path: text("audit.jsonl") },
        Event::HttpBegun { url: text("http://127.0.0.1:9464"), cpus: text("CPUs 0, which no worker has") },
        Event::HttpFilesFailed { error: text("set tls: cert.pem: it has no certificate") },
        Event::AuditHead { path: text("audit.jsonl"), record: 256, hash: "c0ffee00".repeat(8) },
        Event::AuditCut { path: text("audit.jsonl"), record: 256, hash: "c0ffee00".repeat(8) },
        interrupted(true),
        interrupted(false),
        Event::StateDamaged {
            path: text("state/history.json"),
            error: text("EOF while parsing a value at line 1 column 0"),
        },
        Event::StateFailed {
            path: text("state/history.json"),
            error: text("No space left on device (os error 28)"),
        },
        Event::StateResumed { path: text("state/history.json") },
        Event::EndedForGone { ports: vec![text("span0"), text("tap0")] },
        Event::EndFailed { error: text("lcore 2: worker stopped: it panicked") },
        Event::OutOfBalance {},
    ]
}

/// An event of each kind, in each of its forms.
fn examples() -> Vec<Recorded> {
    let events = of_the_start().into_iter().chain(of_a_run());
    let events = events.chain(alarms().into_iter().flat_map(|alarm| {
        [
            Some(Event::AlarmRaised(alarm.clone())),
            (!alarm.is_failure()).then_some(Event::AlarmCleared(alarm)),
        ]
        .into_iter()
        .flatten()
    }));
    let events: Vec<Event> = events.chain(of_the_end()).collect();
    let recorded =
        events.into_iter().zip(1..).map(|(event, seq)| Recorded { seq, time_ns: TIME_NS, event });
    recorded.collect()
}

/// Does not compile when an alarm is added: it belongs into [`alarms`], and its fields into the reference.
fn is_known(alarm: &Alarm) -> bool {
    match alarm {
        Alarm::Queue { .. }
        | Alarm::Utilisation { .. }
        | Alarm::ReplayStarved { .. }
        | Alarm::ReplayFailed { .. }
        | Alarm::CaptureFailed { .. }
        | Alarm::CaptureStalled { .. }
        | Alarm::OutputFailed { .. }
        | Alarm::PortGone { .. }
        | Alarm::Conflict { .. }
        | Alarm::WorkerRetired { .. }
        | Alarm::Loss { .. }
        | Alarm::Drops { .. }
        | Alarm::Unbalanced { .. } => true,
    }
}

fn json(recorded: &Recorded) -> String {
    serde_json::to_string(&recorded.object_of("edge-1")).expect("plain values")
}

#[test]
fn every_kind_has_its_golden_line_and_object() {
    let examples = examples();
    let kinds: BTreeSet<&str> = examples.iter().map(|recorded| recorded.event.kind()).collect();
    assert_eq!(kinds, Event::KINDS.iter().copied().collect(), "there is an example of each kind");
    assert!(alarms().iter().all(is_known));
    let found: String = examples
        .iter()
        .map(|recorded| {
            let (level, line) = (recorded.event.level(), recorded.event.to_string());
            assert!(!line.is_empty() && !line.contains('\n'), "{}", recorded.event.kind());
            format!("{level}: {line}\n{}\n", json(recorded))
        })
        .collect();
    assert_expected("testbed/offline/events/events.expected", &found);
}

#[test]
fn a_client_reads_the_event_that_was_written() {
    for recorded in examples() {
        let line = json(&recorded);
        assert_eq!(serde_json::from_str::<Event>(&line).expect("an event"), recorded.event, "{line}");
    }
}

/// Compares each object, as Python reads it, with the tables of the reference.
const JUDGE: &str = r#"
import json, re, sys
from datetime import datetime, timezone

def rows(title):
    part = open(sys.argv[2]).read().split(f"\n## {title}\n")[1].split("\n## ")[0]
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            yield cells[0].strip("`"), cells

def fields(cell):
    return set(re.findall(r"`([a-z_]+)`", cell))

common = {name for name, _ in rows("Fields")}
kinds = {name: (set(re.findall(r"error|warning|notice|info", cells[1])), cells[2], fields(cells[3])) for name, cells in rows("Kinds")}
alarms = {name: (cells[1], fields(cells[2])) for name, cells in rows("Alarms")}
levels = {"error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
seen, seen_alarms, seen_levels = set(), set(), {}
for number, line in enumerate(open(sys.argv[1]), 1):
    event = json.loads(line)
    kind, own = event["kind"], set(event) - common
    assert common <= set(event), (kind, common - set(event))
    assert event["schema"] == "tapline.event/1" and event["seq"] == number and event["broker"] == "edge-1", line
    time = datetime.fromtimestamp(event["time"], timezone.utc)
    assert time.isoformat(timespec="milliseconds") == "2026-11-30T20:31:07.123+00:00", time
    said, thing, named = kinds[kind]
    if "alarm" in event:
        alarm = event["alarm"]
        seen_alarms.add(alarm)
        thing, of_alarm = alarms[alarm]
        named = named | of_alarm
    assert own == named or own <= named and kind == "replay_unfinished", (kind, own ^ named)
    assert event["level"] in said and event["level"] in levels, (kind, event["level"])
    seen_levels.setdefault(kind, set()).add(event["level"])
    assert event["object"].startswith(thing) and event["text"], (kind, event["object"], thing)
    seen.add(kind)
assert seen == set(kinds), seen ^ set(kinds)
assert seen_alarms == set(alarms), seen_alarms ^ set(alarms)
assert all(seen_levels[kind] == said for kind, (said, _, _) in kinds.items()), [kind for kind in kinds if seen_levels[kind] != kinds[kind][0]]
print(len(seen), "kinds")
"#;

#[test]
fn python_reads_what_the_reference_says() {
    if !has_program("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("events.jsonl");
    let examples = examples();
    std::fs::write(&lines, examples.iter().map(|recorded| json(recorded) + "\n").collect::<String>())
        .expect("a writable folder");
    let reference = repository().join("docs/reference/events.md");
    let arguments = ["-c", JUDGE, lines.to_str().expect("UTF-8"), reference.to_str().expect("UTF-8")];
    assert_eq!(run("python3", &arguments).trim(), format!("{} kinds", Event::KINDS.len()));
}
