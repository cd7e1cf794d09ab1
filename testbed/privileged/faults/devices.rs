//! Devices that go and come, run out of memory, or are many; packets of odd sizes.

use std::fmt::Write;
use std::process::Command;

use tapline_harness::bench::{Bench, dropped, flows, settled};
use tapline_harness::frames::udp;
use tapline_harness::links::{Pair, Pairs, ip};

/// Packets leave by one end of a pair and come back by the other.
const ROUND_TRIP: &str = "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach near net_af_packet0,iface=near rxq 0
        port attach far net_af_packet1,iface=far txq 0
        tool create out port near down-after 200ms up-after 200ms
        tool create back discard
        tool create other discard
        rule create 10 from src sample 1/97 to out,other
        rule create 20 from far to back
        start";

#[test]
fn a_link_that_flaps_costs_its_own_copies_alone() {
    flap('f', ROUND_TRIP);
}

/// The same by ports of Tapline's own.
fn round_trip_by_iface() -> String {
    let by_iface = ROUND_TRIP.replace("net_af_packet0,iface=near rxq 0", "iface:near,queues=0");
    by_iface.replace("net_af_packet1,iface=far txq 0", "iface:far")
}

#[test]
fn a_link_that_flaps_costs_its_own_copies_alone_under_iface() {
    flap('i', &round_trip_by_iface());
}

#[test]
fn a_link_that_flaps_under_af_xdp_costs_its_own_copies_alone() {
    // the driver wants as many receive as transmit queues
    let pipeline = ROUND_TRIP
        .replace("af_packet", "af_xdp")
        .replace("iface=near rxq 0", "iface=near")
        .replace("iface=far txq 0", "iface=far");
    let Some(pair) = Pair::new('y') else { return };
    let probe = Bench::inside(&pair.far);
    flows(&probe);
    let output = probe.command(&pipeline, &["--duration", "100ms"]).output().expect("the program starts");
    drop(pair);
    if !output.status.success() {
        tapline_skip::skipped(format_args!(
            "net_af_xdp does not start here: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
        return;
    }
    flap('x', &pipeline);
}

/// Takes the link of the tool `out` down and up three times.
fn flap(letter: char, pipeline: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    let bench = Bench::inside(&pair.far);
    flows(&bench);
    let mut prompt = bench.start(pipeline);
    let mut back = 0;
    for _ in 0..3 {
        prompt.wait("packets come back", |stats| stats["tools"]["back"]["sent"].as_u64() > Some(back));
        pair.set_far("down");
        let down = prompt.wait("the tool and the port are down", |stats| {
            stats["tools"]["out"]["state"] == "down" && stats["ports"]["far"]["link_up"] == false
        });
        let other = down["tools"]["other"]["sent"].as_u64();
        prompt.wait("others go on", |stats| stats["tools"]["other"]["sent"].as_u64() > other);
        pair.set_far("up");
        back = prompt.wait_for_state("out", "up")["tools"]["back"]["sent"].as_u64().unwrap_or(0);
    }
    prompt.wait("packets come back", |stats| stats["tools"]["back"]["sent"].as_u64() > Some(back));
    let run = prompt.quit();
    assert!(dropped(&run, "out", "down") > 0);
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
    assert_eq!(run.number("tools/back/sent"), run.number("ports/far/received"));
    let events = run.last()["events"].as_array().expect("events");
    assert_eq!(
        events.iter().filter(|event| event["tool"] == "out" && event["to"] == "down").count(),
        3,
        "{events:?}"
    );
}

#[test]
fn frames_that_net_af_packet_cuts_are_noticed_at_the_start_and_by_their_length() {
    let Some(pair) = Pair::new('c') else { return };
    for side in ["near", "far"] {
        assert!(ip(&format!("-n {} link set {side} mtu 9000", pair.far)), "veth takes jumbo frames");
    }
    let bench = Bench::inside(&pair.far);
    let sizes = [64usize, 1500, 1981, 1982, 1983, 4000, 9000];
    let packets: Vec<Vec<u8>> = sizes
        .map(|size| {
            let mut bytes = udp(size as u16, [198, 18, 1, 1], 1024, 64);
            bytes.resize(size, 0);
            bytes[16..18].copy_from_slice(&(size as u16 - 14).to_be_bytes());
            bytes
        })
        .into();
    bench.write("in.pcap", &packets);
    let mut prompt = bench.start(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach near net_pcap1,iface=near rxq 0
        port attach far net_af_packet0,iface=far txq 0
        port attach out net_pcap2,tx_pcap=@/out.pcap rxq 0
        tool create send port near
        tool create got port out
        rule create 10 from src to send
        rule create 20 from far to got
        start",
    );
    prompt.wait("all packets come", |stats| {
        stats["ports"]["far"]["received"].as_u64() >= Some(sizes.len() as u64)
    });
    prompt.wait("cut ones are told of", |stats| stats["ports"]["far"]["cut"] == 3);
    let run = prompt.quit();
    assert!(run.last()["ports"]["near"].get("cut").is_none(), "net_pcap does not cut");
    let lengths: Vec<usize> = bench.read("out.pcap").iter().map(Vec::len).collect();
    assert_eq!(lengths, [64, 1500, 1981, 1982, 1982, 1982, 1982]);
    for said in
        ["far has an MTU of 9000, and net_af_packet takes 1968", "net_af_packet cuts frames to 1982 bytes"]
    {
        assert_eq!(run.stderr.matches(said).count(), 1, "{said} is not in {}", run.stderr);
    }
}

/// Sends frames that an interface takes and frames that it does not by a tool on it, and reads at its other end what came.
fn send_unfit(letter: char, port: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    let bench = Bench::inside(&pair.far);
    let tagged = |tpid: u16| {
        let mut bytes = udp(1, [198, 18, 1, 1], 1024, 64);
        bytes.splice(12..12, [tpid.to_be_bytes(), [0, 5]].concat());
        bytes.resize(1518, 0);
        bytes
    };
    let plain = |size: usize| {
        let mut bytes = udp(1, [198, 18, 1, 1], 1024, 64);
        bytes.resize(size, 0);
        bytes
    };
    // an interface takes four bytes more where they are a tag's
    let fitting = [plain(60), plain(64), plain(1514), tagged(0x8100)];
    let (short, long) =
        ([plain(0), plain(1), plain(13)], [plain(1515), plain(1518), tagged(0x88a8), plain(9000)]);
    let round: Vec<Vec<u8>> = (0..4)
        .flat_map(|index| {
            [fitting.get(index), short.get(index), long.get(index)]
                .into_iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
        })
        .collect();
    let packets: Vec<&[u8]> = round.iter().cycle().take(round.len() * 50).map(Vec::as_slice).collect();
    bench.write("in.pcap", packets.iter().copied());
    let pipeline = format!(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach near {port}
        port attach far net_pcap1,iface=far txq 0
        port attach out net_pcap2,tx_pcap=@/out.pcap rxq 0
        tool create send port near
        tool create got port out
        tool create every discard
        rule create 10 from src to send,every
        rule create 20 from far to got"
    );
    let mut command = bench.command(&pipeline, &["--exit-idle", "1s"]);
    let output = command.output().expect("the program starts");
    if !output.status.success() && port.starts_with("net_af_xdp") {
        tapline_skip::skipped(format_args!(
            "net_af_xdp does not start here: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
        return;
    }
    let run = bench.finish(output);
    assert_eq!(run.number("tools/every/sent"), 11 * 50);
    let send = &run.last()["tools"]["send"];
    assert_eq!(
        (dropped(&run, "send", "undersize"), dropped(&run, "send", "oversize")),
        (3 * 50, 4 * 50),
        "{send}"
    );
    assert_eq!((send["sent"].as_u64(), send["state"].as_str()), (Some(4 * 50), Some("up")), "{send}");
    let wanted: Vec<Vec<u8>> = fitting.iter().cycle().take(4 * 50).cloned().collect();
    assert!(bench.read("out.pcap") == wanted, "what the interface took has come whole and in order");
}

#[test]
fn frames_that_a_kernel_interface_does_not_take_cost_no_other_under_net_pcap() {
    send_unfit('p', "net_pcap3,iface=near rxq 0");
}

#[test]
fn frames_that_a_kernel_interface_does_not_take_cost_no_other_under_net_af_packet() {
    send_unfit('q', "net_af_packet0,iface=near rxq 0");
}

#[test]
fn frames_that_a_kernel_interface_does_not_take_cost_no_other_under_net_af_xdp() {
    send_unfit('r', "net_af_xdp0,iface=near");
}

#[test]
fn frames_that_a_tap_does_not_take_cost_no_other() {
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..500usize)
        .map(|index| {
            let mut bytes = udp(index as u16, [198, 18, 1, 1], 1024, 64);
            bytes.resize([60, 0, 1522, 1523, 9000][index % 5], 0);
            bytes
        })
        .collect();
    bench.write("in.pcap", &packets);
    let name = format!("tu{}", std::process::id());
    if !std::path::Path::new("/dev/net/tun").exists() || !ip(&format!("tuntap add {name} mode tap")) {
        tapline_skip::skipped("tap interfaces cannot be made");
        return;
    }
    assert!(ip(&format!("link delete {name}")));
    let run = bench.run(
        &format!(
            "port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
            port attach tap net_tap0,iface={name}
            tool create out port tap
            rule create 10 from src to out"
        ),
        &[],
    );
    assert_eq!((dropped(&run, "out", "undersize"), dropped(&run, "out", "oversize")), (100, 200));
    assert_eq!((run.number("tools/out/sent"), run.number("ports/tap/driver/tx_packets")), (200, 200));
}

#[test]
fn originals_that_the_other_side_of_a_wire_does_not_take_hold_up_no_other() {
    let Some(pair) = Pair::new('w') else { return };
    let bench = Bench::inside(&pair.far);
    let packets: Vec<Vec<u8>> = (0..400usize)
        .map(|index| {
            let mut bytes = udp(index as u16, [198, 18, 1, 1], 1024, 64);
            bytes.resize([60, 9000, 1514, 3][index % 4], 0);
            bytes
        })
        .collect();
    bench.write("in.pcap", &packets);
    let run = bench.run(
        "port attach src net_pcap0,rx_pcap=@/in.pcap,tx_pcap=@/back.pcap
        port attach near net_pcap1,iface=near
        wire create w ports src,near
        tool create every discard
        rule create 10 from w:a-to-b to every",
        &[],
    );
    let way = &run.last()["wires"]["w"]["a_to_b"];
    assert_eq!(run.number("tools/every/sent"), 400);
    let dropped = ["oversize", "undersize", "congested"].map(|reason| way["dropped"][reason].as_u64());
    assert_eq!((way["forwarded"].as_u64(), dropped), (Some(200), [Some(100), Some(100), Some(0)]), "{way}");
}

#[test]
fn originals_for_a_side_without_a_link_are_dropped_as_down() {
    let Some(pair) = Pair::new('d') else { return };
    let bench = Bench::inside(&pair.far);
    flows(&bench);
    let mut prompt = bench.start(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1,tx_pcap=/dev/null
        port attach near net_pcap1,iface=near
        wire create w ports src,near bypass propagate-link
        start",
    );
    let way = |stats: &serde_json::Value, what: &str| {
        stats.pointer(&format!("/wires/w/a_to_b/{what}")).and_then(serde_json::Value::as_u64)
    };
    prompt.wait("originals pass", |stats| way(stats, "forwarded") > Some(1000));
    pair.set_far("down");
    let seen = prompt.wait("they are dropped", |stats| way(stats, "dropped/down") > Some(0));
    assert_eq!(seen["ports"]["near"]["link_up"], false);
    let seen = settled(&mut prompt, &seen);
    let (forwarded, down) = (way(&seen, "forwarded"), way(&seen, "dropped/down"));
    let later =
        prompt.wait("they are dropped", |stats| way(stats, "dropped/down") > down.map(|down| down + 1000));
    assert_eq!(way(&later, "forwarded"), forwarded, "nothing is forwarded into a link that is down");
    // what waits for the link does not hold up a pause, and the bypass goes by the link, too
    prompt.say("stop");
    let stopped = prompt.wait("the wire goes on", |stats| {
        way(stats, "dropped/down") > way(&later, "dropped/down").map(|down| down + 1000)
    });
    pair.set_far("up");
    prompt.wait("originals pass", |stats| {
        way(stats, "forwarded") > way(&stopped, "forwarded").map(|forwarded| forwarded + 1000)
    });
    let run = prompt.quit();
    assert!(!run.stderr.contains("some copies still wait"), "{}", run.stderr);
    let said = "warning: wire w: links are not propagated: port src: rte_eth_dev_set_link_up";
    assert!(
        run.stderr.find(said) < run.stderr.find("port near: up -> down"),
        "it is told at the start: {}",
        run.stderr
    );
    assert_eq!(run.stderr.matches("links are not propagated").count(), 1, "{}", run.stderr);
}

#[test]
fn latency_begins_where_the_kernel_received_a_packet() {
    let Some(pair) = Pair::new('l') else { return };
    let (bench, sender) = (Bench::inside(&pair.far), Bench::inside(&pair.far));
    sender.write("in.pcap", [&udp(1, [198, 18, 1, 1], 1024, 64)[..]]);
    let mut prompt = bench.start(
        "set idle sleep
        port attach far net_pcap0,iface=far txq 0
        port attach sink net_null0,no-rx=1 rxq 0
        port attach other net_pcap1,iface=near txq 0
        tool create out port sink
        rule create 10 from far to out
        start",
    );
    prompt.wait("the counter's line can be trusted", |stats| {
        stats["ports"]["far"]["clock"]["latency_from"] == "kernel"
    });
    // the packet waits in the kernel meanwhile
    prompt.signal("STOP");
    let sent = sender.run(
        "port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach near net_pcap1,iface=near rxq 0
        tool create send port near
        rule create 10 from src to send",
        &[],
    );
    assert_eq!(sent.number("tools/send/sent"), 1);
    std::thread::sleep(std::time::Duration::from_millis(100));
    prompt.signal("CONT");
    prompt.wait("the packet comes", |stats| stats["tools"]["out"]["latency_ns"]["samples"] == 1);
    let run = prompt.quit();
    assert!(
        run.number("tools/out/latency_ns/max") > 100_000_000,
        "{}",
        run.last()["tools"]["out"]["latency_ns"]
    );
    assert_eq!(run.last()["ports"]["sink"]["clock"]["latency_from"], "poll");
}

/// Takes the link of both ports down and up, then their interfaces away, and makes others under the same names.
fn make_anew(letter: char, pipeline: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    let bench = Bench::inside(&pair.far);
    flows(&bench);
    let mut prompt = bench.start(pipeline);
    let links = |stats: &serde_json::Value, is_up: bool| {
        ["near", "far"].iter().all(|port| stats["ports"][port]["link_up"] == is_up)
    };
    prompt.wait("packets come back", |stats| stats["tools"]["back"]["sent"].as_u64() > Some(100));
    pair.set_far("down");
    prompt.wait("both links are seen down", |stats| links(stats, false));
    pair.set_far("up");
    prompt.wait("both links are seen up", |stats| {
        links(stats, true) && stats["tools"]["out"]["state"] == "up"
    });
    pair.delete();
    let gone = prompt.wait("both links are seen down", |stats| links(stats, false));
    assert!(
        ip(&format!("-n {} link add near type veth peer name far", pair.far)),
        "veth interfaces are made"
    );
    pair.set_up();
    let back = |stats: &serde_json::Value| stats["tools"]["back"]["sent"].as_u64();
    let before = back(&gone);
    prompt.wait("both are attached again, and packets come back", |stats| {
        links(stats, true)
            && stats["tools"]["out"]["state"] == "up"
            && back(stats) > before.map(|sent| sent + 100)
    });
    let run = prompt.quit();
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
    let events = run.last()["events"].as_array().expect("events");
    for port in ["near", "far"] {
        let changes: Vec<&str> = events
            .iter()
            .filter(|event| event["port"] == port)
            .filter_map(|event| event["to"].as_str())
            .collect();
        // an interface may be seen down, too, on its way out
        assert_eq!((&changes[..2], changes.last()), (&["down", "up"][..], Some(&"up")), "{events:?}");
        assert!(changes[2..].contains(&"gone"), "{events:?}");
        for said in [
            format!("port {port}: up -> down\n"),
            format!("port {port}: down -> up\n"),
            "-> gone\n".to_owned(),
        ] {
            assert!(run.stderr.contains(&said), "{said} is not in {}", run.stderr);
        }
    }
}

#[test]
fn interfaces_that_are_made_anew_under_their_names_are_attached_again_under_net_af_packet() {
    make_anew('n', ROUND_TRIP);
}

#[test]
fn interfaces_that_are_made_anew_under_their_names_are_attached_again_under_net_pcap() {
    let pipeline = ROUND_TRIP.replace("net_af_packet0", "net_pcap1").replace("net_af_packet1", "net_pcap2");
    make_anew('z', &pipeline);
}

#[test]
fn interfaces_that_are_taken_away_leave_the_rest_running() {
    take_away('g', ROUND_TRIP);
    take_away('h', &round_trip_by_iface());
}

fn take_away(letter: char, pipeline: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    let bench = Bench::inside(&pair.far);
    flows(&bench);
    let mut prompt = bench.start(pipeline);
    prompt.wait("packets come back", |stats| stats["tools"]["back"]["sent"].as_u64() > Some(100));
    pair.delete();
    let gone = prompt.wait_for_state("out", "down");
    let other = gone["tools"]["other"]["sent"].as_u64();
    prompt.wait("others go on", |stats| {
        stats["tools"]["other"]["sent"].as_u64() > other.map(|sent| sent + 1000)
    });
    // and are stopped and started without it
    prompt.say("stop");
    prompt.say("start");
    prompt.wait("others go on", |stats| {
        stats["tools"]["other"]["sent"].as_u64() > other.map(|sent| sent + 2000)
    });
    let run = prompt.quit();
    assert!(dropped(&run, "out", "down") > 0);
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
}

#[test]
fn a_tap_that_is_deleted_is_survived_on_both_sides() {
    let bench = Bench::new();
    flows(&bench);
    let name = format!("tt{}", std::process::id());
    let pipeline = format!(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach tap net_tap0,iface={name}
        tool create out port tap down-after 200ms
        tool create heard discard
        tool create other discard
        rule create 10 from src sample 1/97 to out,other
        rule create 20 from tap to heard
        start"
    );
    if !std::path::Path::new("/dev/net/tun").exists() || !ip(&format!("tuntap add {name} mode tap")) {
        tapline_skip::skipped("tap interfaces cannot be made");
        return;
    }
    assert!(ip(&format!("link delete {name}")));
    let mut prompt = bench.start(&pipeline);
    prompt.wait("the tap takes packets", |stats| stats["tools"]["out"]["sent"].as_u64() > Some(100));
    assert!(ip(&format!("link delete {name}")));
    let now = prompt.wait("the next snapshot", |_| true);
    let other = now["tools"]["other"]["sent"].as_u64();
    prompt.wait("others go on", |stats| {
        stats["tools"]["other"]["sent"].as_u64() > other.map(|sent| sent + 2000)
    });
    // the driver makes its interface again
    let sent = |stats: &serde_json::Value| stats["tools"]["out"]["sent"].as_u64();
    let before = prompt.wait("the tap is back", |stats| {
        stats["ports"]["tap"]["gone"].is_null() && stats["tools"]["out"]["state"] == "up"
    });
    prompt.wait("it takes packets again", |stats| sent(stats) > sent(&before).map(|sent| sent + 100));
    assert!(std::path::Path::new(&format!("/sys/class/net/{name}")).exists());
    let run = prompt.quit();
    println!("out: {}", run.last()["tools"]["out"]);
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
    // the kernel takes the link down first, and a look may see that
    let is_removal = |line: &str| line.starts_with("warning: port tap: ") && line.ends_with(" -> gone");
    assert!(run.stderr.lines().any(is_removal), "{}", run.stderr);
}

/// The device is refused twice: that is said once, and the third try has it. Changes of the plan are taken up meanwhile.
#[test]
fn a_tap_that_is_refused_when_it_comes_back_is_tried_again() {
    let bench = Bench::new();
    flows(&bench);
    let name = format!("tr{}", std::process::id());
    if !std::path::Path::new("/dev/net/tun").exists() || !ip(&format!("tuntap add {name} mode tap")) {
        tapline_skip::skipped("tap interfaces cannot be made");
        return;
    }
    assert!(ip(&format!("link delete {name}")));
    let pipeline = format!(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach tap net_tap0,iface={name}
        tool create out port tap down-after 200ms up-after 10ms
        tool create other discard
        rule create 10 from src sample 1/97 to out,other
        start"
    );
    let fault = std::path::Path::new("start.attach@3-4");
    let mut prompt = bench.start_with(&pipeline, &[("TAPLINE_FAULT", fault)]);
    prompt.wait("the tap takes packets", |stats| stats["tools"]["out"]["sent"].as_u64() > Some(100));
    assert!(ip(&format!("link delete {name}")));
    prompt.wait("it is gone", |stats| stats["ports"]["tap"]["gone"] == true);
    prompt.say("rule modify 10 class high");
    let before = prompt.wait("it is back", |stats| {
        stats["ports"]["tap"]["gone"].is_null() && stats["tools"]["out"]["state"] == "up"
    });
    let sent = |stats: &serde_json::Value| stats["tools"]["out"]["sent"].as_u64();
    // alarms are looked at ten times a second
    let later = before["uptime_s"].as_f64().map(|seconds| seconds + 0.5);
    prompt.wait("it takes packets again", |stats| {
        sent(stats) > sent(&before).map(|sent| sent + 100) && stats["uptime_s"].as_f64() > later
    });
    let run = prompt.quit();
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
    for (said, times) in [
        ("alarm raised: port tap: net_tap0", 1),
        ("alarm cleared: port tap: net_tap0", 1),
        ("port tap: its device is back, and cannot be attached: ", 1),
        ("plan changed: ", 1),
        ("closed, since it could not be put back", 0),
    ] {
        assert_eq!(run.stderr.matches(said).count(), times, "{said}: {}", run.stderr);
    }
}

/// Takes links of a wire's sides down and up; the kernel has each side's interface in `shown`, and `set` is set down and up for it.
fn links_of_a_wire_follow_each_other(devices: [&str; 2], set: [&str; 2], shown: [&str; 2]) {
    let bench = Bench::new();
    let mut prompt = bench.start(&format!(
        "set idle sleep
        port attach left {}
        port attach right {}
        wire create w ports left,right propagate-link
        start",
        devices[0], devices[1]
    ));
    let is_up = |name: &str| {
        let said = Command::new("ip").args(["-o", "link", "show", name]).output().expect("ip runs");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .is_some_and(|(flags, _)| flags.split(',').any(|flag| flag == "UP"))
    };
    let links =
        |stats: &serde_json::Value| ["left", "right"].map(|port| stats["ports"][port]["link_up"] == true);
    prompt.wait("both sides are up", |stats| links(stats) == [true, true]);
    for own in [0, 1, 0] {
        let other = shown[1 - own];
        assert!(ip(&format!("link set {} down", set[own])));
        prompt
            .wait("the other side is taken down", |stats| links(stats) == [false, false] && !is_up(other));
        assert!(ip(&format!("link set {} up", set[own])));
        prompt.wait("the other side is brought back", |stats| links(stats) == [true, true] && is_up(other));
    }
    assert!(ip(&format!("link set {} down", set[0])));
    prompt.wait("the other side is taken down", |stats| links(stats) == [false, false]);
    let run = prompt.quit();
    assert!(!run.stderr.contains("links are not propagated"), "{}", run.stderr);
    // an interface that stays when Tapline ends is given back
    assert!(devices[1].starts_with("net_tap") || is_up(shown[1]));
}

#[test]
fn a_wire_takes_its_other_side_down_with_a_link_and_brings_it_back() {
    let [a, b] = ['a', 'b'].map(|side| format!("tl{side}{}", std::process::id()));
    if !std::path::Path::new("/dev/net/tun").exists() || !ip(&format!("tuntap add {a} mode tap")) {
        tapline_skip::skipped("tap interfaces cannot be made");
        return;
    }
    assert!(ip(&format!("link delete {a}")));
    let devices = [format!("net_tap0,iface={a}"), format!("net_tap1,iface={b}")];
    links_of_a_wire_follow_each_other([&devices[0], &devices[1]], [&a, &b], [&a, &b]);
}

#[test]
fn interfaces_of_a_wire_are_set_down_and_up_with_each_others_links() {
    let Some(_pairs) = Pairs::new(&["left", "right"]) else { return };
    links_of_a_wire_follow_each_other(
        ["iface:left", "iface:right"],
        ["leftp", "rightp"],
        ["left", "right"],
    );
}

#[test]
fn a_mempool_that_is_used_up_is_the_ports_loss_and_no_copys() {
    let bench = Bench::new();
    let packets: Vec<Vec<u8>> = (0..9000u16).map(|id| udp(id, [198, 18, 0, 1], 1024, 64)).collect();
    bench.write("in.pcap", &packets);
    let run = bench.run(
        "set mempool 2047
        port attach in0 net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach stuck0 net_ring0 rxq 0
        tool create stuck port stuck0 queue 4096
        tool create well discard
        rule create 10 from in0 to stuck,well",
        &[],
    );
    // a descriptor ring's worth less, since nothing of the pool is in descriptors of net_pcap
    let received = run.number("packets/received");
    assert!(received <= 2047 && received > 1000, "{received}");
    assert!(run.number("ports/in0/driver/no_mbuf") > 0);
    assert_eq!(run.number("tools/well/sent"), received);
    assert_eq!(run.number("tools/stuck/requested"), received);
    assert_eq!(run.number("tools/stuck/sent") + dropped(&run, "stuck", "congested"), received);
    assert!(received - run.number("tools/stuck/sent") <= 4096, "the queue had room: {received}");
}

#[test]
fn thirty_two_ports_with_twenty_four_tools_balance_at_full_speed() {
    let mut pipeline = String::new();
    for port in 0..32 {
        let queues = if port < 8 { "txq 0" } else { "rxq 0" };
        let _ = writeln!(pipeline, "port attach p{port} net_null{port} {queues} rxd 64 txd 64");
    }
    for tool in 0..24 {
        let _ = writeln!(pipeline, "tool create t{tool} port p{} queue 64", tool + 8);
    }
    let all: Vec<String> = (0..24).map(|tool| format!("t{tool}")).collect();
    let _ = writeln!(pipeline, "group create g tools {}", all.join(","));
    let _ = writeln!(pipeline, "rule create 10 from any sample 1/3 to {}", all.join(","));
    let _ = writeln!(pipeline, "rule create 20 from p0,p7 to g");
    for lcores in [
        "",
        "set idle sleep\nset eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\nset lcores receive 1 work 2-3 transmit 4\n",
    ] {
        let run = Bench::new().run(&format!("{lcores}{pipeline}"), &["--duration", "1s"]);
        let received: Vec<u64> =
            (0..8).map(|port| run.number(&format!("ports/p{port}/received"))).collect();
        assert!(received.iter().all(|&packets| packets > 0), "{received:?}");
        let requested: Vec<u64> =
            (0..24).map(|tool| run.number(&format!("tools/t{tool}/requested"))).collect();
        // all have what the first rule gives; the group adds packets that this one did not
        assert!(
            requested.iter().all(|&copies| copies >= run.number("rules/10/matched") / 3),
            "{requested:?}"
        );
        assert_eq!(run.last()["ports"].as_object().map(serde_json::Map::len), Some(32));
    }
}

#[test]
fn packets_of_every_size_pass_whole() {
    let sizes = [1usize, 13, 14, 33, 60, 64, 1500, 1518, 2047, 2048, 2049, 4096, 9000, 9018, 16_000];
    let packets: Vec<Vec<u8>> = (0..600)
        .map(|index| {
            let mut bytes = udp(index as u16, [198, 18, 1, index as u8], 1024, 64);
            bytes.resize(sizes[index % sizes.len()], index as u8);
            bytes
        })
        .collect();
    for lcores in [
        "",
        "set idle sleep\nset eal \"--lcores 9@0,(1-3)@0 --main-lcore 9\"\nset lcores receive 1 work 2 transmit 3\n",
    ] {
        let bench = Bench::new();
        bench.write("in.pcap", &packets);
        let run = bench.run(
            &format!(
                "{lcores}port attach in0 net_pcap0,rx_pcap=@/in.pcap txq 0
                port attach out0 net_pcap1,tx_pcap=@/out.pcap rxq 0
                port attach cut0 net_pcap2,tx_pcap=@/cut.pcap rxq 0
                tool create whole port out0
                tool create short port cut0
                tool create a discard
                tool create b discard
                group create g tools a,b
                rule create 10 from in0 to whole,g
                rule create 20 from in0 slice 64 to short"
            ),
            &[],
        );
        assert_eq!(run.number("packets/received"), 600);
        assert_eq!(bench.read("out.pcap"), packets);
        let cut: Vec<Vec<u8>> = packets.iter().map(|bytes| bytes[..bytes.len().min(64)].to_vec()).collect();
        assert_eq!(bench.read("cut.pcap"), cut);
        assert_eq!(run.number("groups/g/assigned"), 600);
    }
}

#[test]
fn packets_of_no_length_are_accounted_for() {
    let bench = Bench::new();
    let whole = udp(1, [198, 18, 0, 1], 1024, 64);
    bench.write("in.pcap", (0..300).map(|index| if index % 3 == 0 { &whole[..] } else { &[][..] }));
    let run = bench.run(
        "port attach in0 net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach out0 net_pcap1,tx_pcap=@/out.pcap rxq 0
        tool create out port out0
        tool create none discard
        tool create some discard
        rule create 5 from in0 to out
        rule create 10 from in0 match \"ip\" to some
        rule create 20 from in0 match \"not ip\" to none",
        &[],
    );
    assert_eq!(run.number("packets/received"), 300);
    assert_eq!(
        (run.number("tools/some/sent"), run.number("tools/none/sent")),
        (100, 0),
        "a load beyond the end rejects"
    );
    assert_eq!(bench.read("out.pcap").iter().filter(|bytes| **bytes == whole).count(), 100);
    assert_eq!(run.number("tools/out/requested"), 300);
}
