//! Stages that panic, in a build that lets tests ask for it (`crates/fault`): a panic costs the burst that the worker had, and both
//! identities hold; what the other bursts held goes where it would have gone, byte for byte.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::udp;
use tapline_harness::lab::Account;
use tapline_harness::links::Pair;
use tapline_harness::programs::has_program;

/// Packets of a burst, and bursts.
const BURST: usize = 64;
const BURSTS: usize = 10;

fn frames() -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        let mut frame = udp(number as u16, [198, 18, (number / 250) as u8, (number % 250) as u8], 1000, 64);
        // as Ethernet pads
        frame.resize(200, number as u8);
        frame
    };
    (0..BURSTS * BURST).map(frame).collect()
}

/// A VXLAN frame from 198.18.0.9 to 198.18.0.1 with `inner`.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let udp_len = (8 + 8 + inner.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0];
    frame.extend((20 + udp_len).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 9, 198, 18, 0, 1]);
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(4789u16.to_be_bytes());
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0, 8, 0, 0, 0, 0, 0, 7, 0]);
    frame.extend(inner);
    frame
}

/// Runs `pipeline` over the frames, as ten bursts of `in.pcap`, with faults at these places.
fn run(bench: &Bench, pipeline: &str, faults: &str) -> Account {
    let pipeline = format!("port attach in net_pcap0,rx_pcap=@/in.pcap\n{pipeline}\nstart\n");
    let mut command = bench.command(
        &pipeline,
        &["--exit-idle", "300ms", "--eal", "--no-huge --no-shconf --no-pci --no-telemetry -m 256"],
    );
    bench.finish(command.env("TAPLINE_FAULT", faults).output().expect("the program starts"))
}

/// All that a panic is told by.
fn assert_told(run: &Account, stage: &str, what: &str) {
    let panics: u64 = run.last()["lcores"]
        .as_object()
        .expect("lcores")
        .values()
        .filter_map(|lcore| lcore["panics"].as_u64())
        .sum();
    assert_eq!(panics, 1, "{what}: {}", run.stderr);
    let line = format!("panic in stage {stage}: injected at ");
    assert_eq!(run.stderr.matches(&line).count(), 1, "{what}: {}", run.stderr);
    // nothing of the burst is left behind: neither a trace nor an mbuf
    assert!(
        !run.stderr.contains("stack backtrace") && !run.stderr.contains("of a pool are held"),
        "{what}: {}",
        run.stderr
    );
}

/// The frames without those of the third burst.
fn but_the_third(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    [&frames[..2 * BURST], &frames[3 * BURST..]].concat()
}

const TOOLS: &str = "port attach o net_pcap1,tx_pcap=@/o.pcap rxq 0\ntool create a port o\ntool create b capture @/b.pcapng\n";

#[test]
fn a_stage_before_the_packets_are_settled_costs_a_burst_and_not_more() {
    let packets = |place: &'static str| [0, 31, 63].map(|packet| format!("{place}:{packet}@3"));
    let both = "rule create 10 from in match \"udp\" to a,b";
    let balanced = "group create g tools a,b hash 5-tuple\nrule create 10 from in to g";
    let inside = "rule create 10 from in match \"udp\" through vxlan to a,b";
    let edited = "rule create 10 from in slice 100 to a,b";
    let (mut cases, one) = (Vec::new(), |fault: &str| [fault.to_owned()].into_iter());
    cases.extend(one("receive@3").map(|fault| (fault, "receive", both)));
    cases.extend(one("stamp@3").map(|fault| (fault, "classify", both)));
    cases.extend(one("rule@3").map(|fault| (fault, "route", both)));
    cases.extend(one("settle@3").map(|fault| (fault, "route", both)));
    cases.extend(packets("classify").map(|fault| (fault, "classify", inside)));
    cases.extend(packets("route").map(|fault| (fault, "route", balanced)));
    // two tools, so the third burst is that of the fifth and sixth passing
    cases.extend([0, 31, 63].map(|packet| (format!("make:{packet}@5"), "route", edited)));
    cases.extend([0, 31, 63].map(|packet| (format!("make:{packet}@6"), "route", edited)));
    let frames = frames();
    for (fault, stage, rules) in cases {
        let bench = Bench::new();
        bench.write("in.pcap", frames.iter().map(Vec::as_slice));
        let run = run(&bench, &format!("{TOOLS}{rules}"), &fault);
        assert_told(&run, stage, &fault);
        assert_eq!(
            (run.number("packets/failed"), run.number("packets/delivered")),
            (64, 576),
            "{fault}: {}",
            run.last()
        );
        let (mut got, mut expected) =
            ([bench.read("o.pcap"), bench.read("b.pcapng")].concat(), but_the_third(&frames));
        if rules == edited {
            expected.iter_mut().for_each(|frame| frame.truncate(100));
        }
        if rules == balanced {
            got.sort();
            expected.sort();
            assert_eq!(got, expected, "{fault}");
            let group = &run.last()["groups"]["g"];
            assert_eq!(
                (group["requested"].as_u64(), group["assigned"].as_u64()),
                (Some(576), Some(576)),
                "{fault}: {group}"
            );
        } else {
            assert_eq!(got, [expected.clone(), expected].concat(), "{fault}");
        }
    }
}

#[test]
fn a_panic_where_tunnels_end_costs_a_burst() {
    let frames = frames();
    let bench = Bench::new();
    let tunnelled: Vec<Vec<u8>> = frames.iter().map(|frame| vxlan(frame)).collect();
    bench.write("in.pcap", tunnelled.iter().map(Vec::as_slice));
    for packet in [0, 31, 63] {
        let pipeline = format!(
            "{TOOLS}rule create 10 from in match \"udp port 4789\" to a\nrule create 20 from in vni 7 to b"
        );
        let pipeline =
            format!("port attach in net_pcap0,rx_pcap=@/in.pcap terminate vxlan\n{pipeline}\nstart\n");
        let mut command = bench.command(
            &pipeline,
            &["--exit-idle", "300ms", "--eal", "--no-huge --no-shconf --no-pci --no-telemetry -m 256"],
        );
        let run = bench.finish(
            command
                .env("TAPLINE_FAULT", format!("terminate:{packet}@3"))
                .output()
                .expect("the program starts"),
        );
        assert_told(&run, "classify", "terminate");
        assert_eq!(
            (run.number("packets/failed"), run.number("packets/delivered")),
            (64, 576),
            "{}",
            run.last()
        );
        assert_eq!(bench.read("b.pcapng"), but_the_third(&frames));
    }
}

#[test]
fn a_panic_while_copies_are_handed_out_drops_those_that_no_queue_has() {
    let frames = frames();
    // Tools are asked from the last to the first: the copies of the first are the packets' last references. Where all packets go the
    // same way they are asked from the first to the last.
    let captured = format!("{TOOLS}rule create 10 from in match \"udp\" to a,b");
    let made = format!("{TOOLS}rule create 10 from in slice 1000 to a,b");
    let straight = "port attach o net_pcap1,tx_pcap=@/o.pcap rxq 0\ntool create a port o\n\
                    port attach p net_pcap2,tx_pcap=@/p.pcap rxq 0\ntool create b port p\nrule create 10 from in to a,b";
    for (pipeline, other, lost) in [
        (&captured[..], "b.pcapng", [("egress:0@3", [64, 0]), ("egress:1@3", [64, 64])]),
        (&made, "b.pcapng", [("egress:0@3", [64, 0]), ("egress:1@3", [64, 64])]),
        (straight, "p.pcap", [("egress:0@3", [64, 64]), ("egress:1@3", [0, 64])]),
    ] {
        for (fault, lost) in lost {
            let bench = Bench::new();
            bench.write("in.pcap", frames.iter().map(Vec::as_slice));
            let run = run(&bench, pipeline, fault);
            assert_told(&run, "egress", fault);
            let dropped = ["a", "b"].map(|tool| run.number(&format!("tools/{tool}/dropped/internal")));
            assert_eq!(dropped, lost, "{fault}, {pipeline}: {}", run.last());
            assert_eq!(
                (run.number("packets/failed"), run.number("packets/delivered")),
                (0, 640),
                "{fault}: {}",
                run.last()
            );
            for (file, lost) in [("o.pcap", lost[0]), (other, lost[1])] {
                let expected = if lost > 0 { but_the_third(&frames) } else { frames.clone() };
                assert_eq!(bench.read(file), expected, "{fault}, {pipeline}: {file}");
            }
        }
    }
}

#[test]
fn a_panic_on_the_way_into_a_capture_keeps_what_the_batch_had() {
    let frames = frames();
    for packet in [0, 31, 63] {
        let bench = Bench::new();
        bench.write("in.pcap", frames.iter().map(Vec::as_slice));
        let run = run(
            &bench,
            &format!("{TOOLS}rule create 10 from in match \"udp\" to a,b"),
            &format!("record:{packet}@3"),
        );
        assert_told(&run, "egress", "record");
        let [a, b] = ["a", "b"].map(|tool| run.number(&format!("tools/{tool}/dropped/internal")));
        assert_eq!((a, b), (64, 64), "{}", run.last());
        assert_eq!(bench.read("b.pcapng"), but_the_third(&frames));
    }
}

#[test]
fn a_panic_while_tools_are_flushed_or_copies_put_in_order_loses_no_account() {
    let frames = frames();
    for (fault, tool) in
        [("flush@2", "tool create a port o"), ("merge@130", "tool create a port o order window 5ms")]
    {
        let bench = Bench::new();
        bench.write("in.pcap", frames.iter().map(Vec::as_slice));
        let tools = format!(
            "port attach o net_pcap1,tx_pcap=@/o.pcap rxq 0\n{tool}\nrule create 10 from in match \"udp\" to a"
        );
        let run = run(&bench, &tools, fault);
        let [sent, internal] =
            ["sent", "dropped/internal"].map(|what| run.number(&format!("tools/a/{what}")));
        assert_eq!(
            (sent + internal, run.number("packets/delivered")),
            (640, 640),
            "{fault}: {}",
            run.last()
        );
        assert_eq!(bench.read("o.pcap").len() as u64, sent, "{fault}");
        assert!(run.stderr.contains("injected at"), "{fault}: {}", run.stderr);
        assert_eq!(internal > 0, fault.starts_with("merge"), "{fault}: {}", run.last());
    }
}

#[test]
fn a_panic_costs_a_wire_the_burst_and_not_the_link() {
    let frames = frames();
    let pipeline = "port attach out net_pcap1,rx_pcap=@/none.pcap,tx_pcap=@/o.pcap\nwire create w ports in,out\n\
                    tool create a capture @/b.pcapng\nrule create 10 from w match \"udp\" slice 64 to a";
    for (fault, stage) in
        [("stamp@3", "classify"), ("make:31@3", "route"), ("settle@3", "route"), ("egress:0@3", "egress")]
    {
        let bench = Bench::new();
        bench.write("in.pcap", frames.iter().map(Vec::as_slice));
        bench.write("none.pcap", std::iter::empty::<Vec<u8>>());
        let pipeline =
            format!("port attach in net_pcap0,rx_pcap=@/in.pcap,tx_pcap=@/back.pcap\n{pipeline}\nstart\n");
        let mut command = bench.command(
            &pipeline,
            &["--exit-idle", "300ms", "--eal", "--no-huge --no-shconf --no-pci --no-telemetry -m 256"],
        );
        let run = bench.finish(command.env("TAPLINE_FAULT", fault).output().expect("the program starts"));
        assert_told(&run, stage, fault);
        // an original goes before its copies
        let whole = if fault.starts_with("egress") { frames.clone() } else { but_the_third(&frames) };
        assert_eq!(bench.read("o.pcap"), whole, "{fault}");
        assert_eq!(bench.read("b.pcapng").len(), 576, "{fault}");
    }
}

#[test]
fn a_panic_of_a_receive_lcore_costs_the_burst_that_it_hands_over() {
    let frames = frames();
    let stages = "set eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\nset idle sleep\nset lcores receive 1 work 2-3 transmit 4";
    for (fault, stage) in
        [("spread:0@3", "egress"), ("spread:63@3", "egress"), ("rule@3", "route"), ("receive@3", "receive")]
    {
        let bench = Bench::new();
        bench.write("in.pcap", frames.iter().map(Vec::as_slice));
        let eal = "--no-huge --no-shconf --no-pci --no-telemetry -m 256";
        let pipeline = format!(
            "{stages}\nport attach in net_pcap0,rx_pcap=@/in.pcap\n{TOOLS}rule create 10 from in match \"udp\" to a,b\nstart\n"
        );
        let mut command = bench.command(&pipeline, &["--exit-idle", "300ms", "--eal", eal]);
        let run = bench.finish(command.env("TAPLINE_FAULT", fault).output().expect("the program starts"));
        assert_told(&run, stage, fault);
        let failed = run.number("packets/failed");
        assert!(failed > 0 && failed <= 64, "{fault}: {}", run.last());
        assert_eq!(run.number("packets/delivered") + failed, 640, "{fault}: {}", run.last());
        assert_eq!(bench.read("o.pcap").len() as u64, 640 - failed, "{fault}");
    }
}

#[test]
fn a_worker_that_panics_again_and_again_receives_no_more_and_the_run_fails() {
    let bench = Bench::new();
    let frames = frames();
    bench.write("in.pcap", frames.iter().map(Vec::as_slice));
    let pipeline = format!(
        "port attach in net_pcap0,rx_pcap=@/in.pcap\n{TOOLS}rule create 10 from in match \"udp\" to a,b\nset panic-dump @/dumps\nstart\n"
    );
    std::fs::create_dir(bench.path("dumps")).expect("a folder");
    let mut command = bench.command(
        &pipeline,
        &["--exit-idle", "300ms", "--eal", "--no-huge --no-shconf --no-pci --no-telemetry -m 256"],
    );
    let output = command.env("TAPLINE_FAULT", "rule@3-").output().expect("the program starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    let stats = std::fs::read_to_string(bench.path("stats.json")).expect("statistics were written");
    let last: Value = serde_json::from_str(stats.lines().last().expect("a line")).expect("JSON");
    // two bursts went, four failed, the others are the port's
    assert_eq!(
        [&last["packets"]["received"], &last["packets"]["delivered"], &last["packets"]["failed"]],
        [384, 128, 256],
        "{last}"
    );
    assert_eq!(
        (
            &last["balanced"],
            last["lcores"].as_object().expect("lcores").values().next().expect("one")["panics"].as_u64()
        ),
        (&Value::Bool(true), Some(4))
    );
    assert!(
        log.contains("more than 3 panics in 10 s: the worker receives no more")
            && log.contains("error: lcore "),
        "{log}"
    );
    assert_eq!(bench.read("o.pcap"), frames[..128]);
    for (number, burst) in (2..6).enumerate() {
        use std::os::unix::fs::PermissionsExt;
        let name = format!("dumps/tapline-panic-{number}.pcap");
        assert_eq!(bench.read(&name), frames[burst * BURST..(burst + 1) * BURST], "{name}");
        let mode = std::fs::metadata(bench.path(&name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!bench.path("dumps/tapline-panic-4.pcap").exists());
}

#[test]
fn frames_that_a_port_refuses_are_not_looked_into_whatever_the_burst_before_was() {
    let bench = Bench::new();
    // deep: VXLAN in VXLAN in VXLAN; then a burst of frames that are in no tunnel, shorter than those headers
    let inner = udp(7, [198, 18, 0, 7], 1000, 64);
    let deep = vxlan(&vxlan(&vxlan(&inner)));
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 38]].concat();
    let packets =
        [vec![&deep[..]; BURST], vec![&arp[..]; BURST], vec![&deep[..]; BURST / 2], vec![&arp[..]; BURST]]
            .concat();
    bench.write("in.pcap", packets.iter().copied());
    for source in ["net_pcap0,rx_pcap=@/in.pcap", "replay:@/in.pcap,speed=max"] {
        let pipeline = format!(
            "port attach in {source} terminate vxlan\ntool create a capture @/a.pcapng\ntool create b capture @/b.pcapng\n\
             rule create 10 from any match \"udp port 1000\" through any to a\nrule create 20 from any vni 7 to b\nstart\n"
        );
        let run = bench.run(&pipeline, &["--eal", "--no-huge --no-shconf --no-pci --no-telemetry -m 256"]);
        let panics: Vec<&Value> = run.last()["lcores"]
            .as_object()
            .expect("lcores")
            .values()
            .map(|lcore| &lcore["panics"])
            .collect();
        assert_eq!(panics, [&Value::from(0)], "{}", run.stderr);
        let counts = ["received", "delivered", "unmatched", "failed"]
            .map(|end| run.number(&format!("packets/{end}")));
        assert_eq!(counts, [224, 96, 128, 0], "{}", run.last());
        let expected = vec![vxlan(&vxlan(&inner)); 96];
        assert_eq!((bench.read("a.pcapng"), bench.read("b.pcapng")), (expected.clone(), expected));
    }
}

#[test]
fn the_others_go_on_beside_a_worker_that_receives_no_more_and_what_its_port_gets_is_missed() {
    let Some(pair) = Pair::new('p') else { return };
    if !has_program("tcpreplay") {
        return;
    }
    let bench = Bench::inside(&pair.far);
    let frames = frames();
    bench.write("in.pcap", frames.iter().map(Vec::as_slice));
    let pipeline = "set eal \"--no-huge --no-shconf --no-pci --no-telemetry -m 256 --lcores 9@0,(1-2)@0 --main-lcore 9\"\nset idle sleep\n\
                    set lcores 1-2\nport attach a net_af_packet0,iface=far txq 0 lcores 1\nport attach b net_null0 txq 0 lcores 2\n\
                    tool create d discard\ntool create e discard\n\
                    rule create 10 from a match \"udp\" through vxlan to d\nrule create 20 from b to e\nstart\n";
    let mut prompt = bench.start_with(pipeline, &[("TAPLINE_FAULT", Path::new("classify:0@1-"))]);
    let send = |count: &str| {
        let file = bench.path("in.pcap");
        let replay =
            ["netns", "exec", &pair.far, "tcpreplay", "-q", "--topspeed", "--limit", count, "-i", "near"];
        let output = Command::new("ip").args(replay).arg(file).output().expect("ip runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let panics = |stats: &Value| stats["lcores"]["1"]["panics"].as_u64();
    prompt.wait("the worker receives", |stats| stats["tools"]["e"]["sent"].as_u64() > Some(0));
    for times in 1..=4 {
        send("1");
        prompt.wait("a panic", |stats| panics(stats) == Some(times));
    }
    let sent =
        prompt.wait("the last panic", |stats| panics(stats) == Some(4))["tools"]["e"]["sent"].as_u64();
    send("640");
    send("640");
    let missed = prompt
        .wait("frames are missed", |stats| stats["ports"]["a"]["driver"]["missed"].as_u64() > Some(0));
    assert_eq!(
        (&missed["ports"]["a"]["received"], panics(&missed)),
        (&Value::from(4), Some(4)),
        "{missed}"
    );
    prompt.wait("the other worker goes on", |stats| stats["tools"]["e"]["sent"].as_u64() > sent);
    prompt.say("quit");
    let last = prompt.wait_for_end();
    assert_eq!(
        (&last["packets"]["failed"], &last["tools"]["d"]["requested"]),
        (&Value::from(4), &Value::from(0)),
        "{last}"
    );
}
