//! Heartbeats and echoes: tools that are probed, by frames that return through a ring or a bridge, and by the kernel's own answers
//! to ping.
//!
//! Those with interfaces need root for namespaces and net_af_packet; they say so and are skipped where that is not given.

use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::{Bench, Prompt, check, now};
use tapline_harness::frames::udp;
use tapline_harness::judges::number;
use tapline_harness::links::ip;

/// A namespace and interfaces of this side, gone when it is dropped.
struct Far {
    namespace: String,
    near: Vec<String>,
}

impl Far {
    /// Makes pairs of interfaces `NAMESPACEx`, `NAMESPACExf` for each letter x, whose second ends are in the namespace.
    fn new(namespace: String, letters: &str) -> Option<Self> {
        if !ip(&format!("netns add {namespace}")) {
            tapline_skip::skipped("network namespaces cannot be made (needs ip and CAP_NET_ADMIN)");
            return None;
        }
        let near = letters.chars().map(|letter| format!("{namespace}{letter}")).collect();
        let far = Self { namespace, near };
        // the kernel is not to speak up on its own
        for what in ["all", "default"] {
            far.run(&["sh", "-c", &format!("echo 1 > /proc/sys/net/ipv6/conf/{what}/disable_ipv6")]);
        }
        for name in &far.near {
            assert!(
                ip(&format!("link add {name} type veth peer name {name}f netns {}", far.namespace)),
                "{name} is made"
            );
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
            assert!(
                ip(&format!("link set {name} up")) && far.ip(&format!("link set {name}f up")),
                "{name} comes up"
            );
        }
        Some(far)
    }

    fn ip(&self, arguments: &str) -> bool {
        ip(&format!("-n {} {arguments}", self.namespace))
    }

    fn run(&self, command: &[&str]) -> bool {
        let output = Command::new("ip").args(["netns", "exec", &self.namespace]).args(command).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.near.iter().for_each(|name| _ = ip(&format!("link delete {name}")));
        ip(&format!("netns delete {}", self.namespace));
    }
}

/// A thousand flows over and over; the rule takes few enough of them for interfaces that others use too.
fn traffic(bench: &Bench) -> &'static str {
    let packets: Vec<Vec<u8>> = (0..1000)
        .map(|flow: u16| udp(flow, [198, 18, (flow >> 8) as u8, flow as u8], 1024 + flow, 64))
        .collect();
    bench.write("in.pcap", &packets);
    "
    set idle sleep
    port attach tap0 net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
    "
}

/// Every probe has one end.
fn assert_probes_balanced(stats: &Value, pointer: &str) {
    let count = |key: &str| number(stats, &format!("{pointer}/{key}"));
    assert_eq!(count("sent"), count("returned") + count("lost") + count("waiting"), "{stats}");
}

/// What the port counted is what the tool was told of; the last ones may have come when nobody looked any more.
fn assert_all_returned_by(stats: &Value, port: &str) {
    let count = |key: &str| number(stats, &format!("/tools/ips/heartbeat/{key}"));
    let (heartbeats, told) =
        (number(stats, &format!("/ports/{port}/heartbeats")), count("returned") + count("late"));
    assert!(
        (told..=told + count("waiting")).contains(&heartbeats),
        "{heartbeats} by the port, {told} of the tool: {stats}"
    );
}

fn buckets(stats: &Value) -> [u64; 3] {
    ["a", "b", "ips"].map(|tool| number(stats, &format!("/groups/ids/buckets/{tool}")))
}

/// Waits until the tool is down for `reason`, and prints how long that took.
fn wait_for_loss(prompt: &mut Prompt<'_>, tool: &str, reason: &str, since: f64) -> Value {
    let stats = prompt.wait_for_state(tool, "down");
    assert_eq!(stats["tools"][tool]["reason"], reason, "{stats}");
    let event = stats["events"].as_array().and_then(|events| events.last()).expect("the change is one");
    println!("{tool} {reason} after {:.0} ms", (event["time"].as_f64().expect("a time") - since) * 1e3);
    stats
}

#[test]
fn heartbeats_that_return_are_no_packets_of_the_input() {
    let bench = Bench::new();
    let mut prompt = bench.start(&format!(
        "{}
        port attach loop net_ring0
        tool create ips port loop heartbeat every 100ms timeout 10s
        tool create back discard
        rule create 10 from tap0 sample 1/997 to ips
        rule create 20 from loop to back
        start\n",
        traffic(&bench)
    ));
    prompt.wait("heartbeats and packets return", |stats| {
        number(stats, "/tools/ips/heartbeat/returned") >= 10 && number(stats, "/tools/back/sent") >= 100
    });
    prompt.say("stop");
    let stopped =
        prompt.wait("nothing is on its way to the ring", |stats| stats["tools"]["ips"]["queue_depth"] == 0);
    // while workers rest nothing is received, and no heartbeat is lost by that
    std::thread::sleep(std::time::Duration::from_millis(300));
    prompt.say("start");
    let later = number(&stopped, "/tools/ips/heartbeat/returned") + 10;
    prompt.wait("heartbeats go on", |stats| number(stats, "/tools/ips/heartbeat/returned") >= later);
    let run = prompt.quit();
    let stats = run.last();
    assert_probes_balanced(stats, "/tools/ips/heartbeat");
    assert_eq!(
        (run.number("tools/ips/heartbeat/lost"), &stats["tools"]["ips"]["state"]),
        (0, &"up".into())
    );
    let (received, heartbeats) = (run.number("ports/loop/received"), run.number("ports/loop/heartbeats"));
    assert_all_returned_by(stats, "loop");
    assert!(heartbeats >= 20 && received <= run.number("tools/ips/sent"), "{stats}");
    assert_eq!(received, run.number("rules/20/matched"));
    assert_eq!(run.number("ports/loop/driver/rx_packets"), received + heartbeats);
    let of_packets = udp(0, [198, 18, 0, 0], 1024, 64).len() as u64;
    assert_eq!(run.number("ports/loop/received_bytes"), received * of_packets);
    assert_eq!(stats["events"].as_array().map(Vec::len), Some(0), "{stats}");
}

#[test]
fn an_inline_tool_that_stops_forwarding_loses_its_buckets_until_it_forwards_again() {
    let Some(far) = Far::new(format!("th{}", std::process::id() % 100_000), "io") else { return };
    let [into, out] = [&far.near[0], &far.near[1]];
    // the tool: a bridge between its two sides
    let is_made = far.ip("link add br0 type bridge forward_delay 0") && far.ip("link set br0 up");
    assert!(
        is_made
            && far.ip(&format!("link set {into}f master br0"))
            && far.ip(&format!("link set {out}f master br0"))
    );
    let bench = Bench::new();
    let mut prompt = bench.start(&format!(
        "{}
        port attach in net_af_packet0,iface={into} rxq 0
        port attach out net_af_packet1,iface={out}
        tool create a discard
        tool create b discard
        tool create ips port in heartbeat every 50ms timeout 1s retries 10 return out up-after 200ms
        tool create back discard
        group create ids tools a,b,ips weights 2,1,1
        rule create 10 from tap0 sample 1/997 to ids
        rule create 20 from out to back
        start\n",
        traffic(&bench)
    ));
    prompt.wait("heartbeats and packets return", |stats| {
        number(stats, "/tools/ips/heartbeat/returned") >= 5 && number(stats, "/tools/back/sent") >= 10
    });
    let first = prompt.wait("the tool is up", |stats| stats["tools"]["ips"]["state"] == "up");
    assert_eq!(buckets(&first), [2048, 1024, 1024]);
    let before = number(&first, "/groups/ids/buckets_moved");

    let since = now();
    assert!(far.ip(&format!("link set {out}f nomaster")), "the bridge is cut");
    let down = wait_for_loss(&mut prompt, "ips", "heartbeat_lost", since);
    assert_eq!(
        (buckets(&down), number(&down, "/groups/ids/buckets_moved") - before),
        ([2731, 1365, 0], 1024)
    );
    assert!(number(&down, "/tools/ips/heartbeat/lost") >= 10);
    assert_eq!(down["ports"]["in"]["link_up"], true, "only heartbeats tell");
    let requested = number(&down, "/tools/ips/requested");

    assert!(far.ip(&format!("link set {out}f master br0")), "the bridge is whole again");
    let back = prompt.wait_for_state("ips", "up");
    assert_eq!(
        (buckets(&back), &back["tools"]["ips"]["reason"]),
        ([2048, 1024, 1024], &"recovered".into())
    );
    prompt.wait("packets flow again", |stats| number(stats, "/tools/ips/requested") > requested + 10);
    let run = prompt.quit();
    assert_probes_balanced(run.last(), "/tools/ips/heartbeat");
    assert_all_returned_by(run.last(), "out");
    assert_eq!(run.number("ports/out/received"), run.number("rules/20/matched"));
    assert!(run.number("ports/out/received") <= run.number("tools/ips/sent"), "{}", run.last());
    let changes =
        run.last()["events"].as_array().expect("events").iter().filter(|event| event["tool"] == "ips");
    let reasons: Vec<&str> = changes.filter_map(|event| event["reason"].as_str()).collect();
    assert!(reasons.ends_with(&["heartbeat_lost", "recovered"]), "{reasons:?}");
    let said = run.stderr.matches("tool ips: up -> down (heartbeat_lost)").count();
    assert!(said >= 1, "{}", run.stderr);
}

#[test]
fn a_tunnel_is_down_while_the_kernel_at_its_far_end_does_not_answer_echoes() {
    let Some(far) = Far::new(format!("te{}", std::process::id() % 100_000), "u") else { return };
    let up = &far.near[0];
    for what in ["all", "default", "lo", &format!("{up}f")] {
        far.run(&["sh", "-c", &format!("echo 0 > /proc/sys/net/ipv6/conf/{what}/disable_ipv6")]);
    }
    // the next hop stays when the far address behind it goes
    let addresses = [
        format!("addr add 198.18.0.8/24 dev {up}f"),
        format!("addr add 2001:db8:18::8/64 dev {up}f nodad"),
        "link set lo up".to_owned(),
        "addr add 198.18.9.9/32 dev lo".to_owned(),
        "addr add 2001:db8:9::9/128 dev lo nodad".to_owned(),
    ];
    assert!(addresses.iter().all(|line| far.ip(line)), "the far side has its addresses");
    let bench = Bench::new();
    let echo = "echo every 50ms timeout 1s retries 5 up-after 200ms";
    let mut prompt = bench.start(&format!(
        "{}
        port attach up net_af_packet0,iface={up}
        tool create four port up vxlan vni 7 src 198.18.0.1 dst 198.18.9.9 next-hop 198.18.0.8 {echo}
        tool create six port up gre src 2001:db8:18::1 dst 2001:db8:9::9 next-hop 2001:db8:18::8 {echo}
        group create ids tools four,six
        rule create 10 from tap0 sample 1/997 to ids
        start\n",
        traffic(&bench)
    ));
    let shares =
        |stats: &Value| ["four", "six"].map(|tool| number(stats, &format!("/groups/ids/buckets/{tool}")));
    prompt.wait("both tunnels are up, and answered", |stats| {
        ["four", "six"].iter().all(|tool| {
            stats["tools"][tool]["state"] == "up"
                && stats["tools"][tool]["echo"]["returned"].as_u64() >= Some(5)
                && number(stats, &format!("/tools/{tool}/sent")) > 0
        })
    });
    for (tool, address) in [("four", "198.18.9.9/32"), ("six", "2001:db8:9::9/128")] {
        let since = now();
        assert!(far.ip(&format!("addr del {address} dev lo")));
        let down = wait_for_loss(&mut prompt, tool, "echo_lost", since);
        assert_eq!(down["tools"][tool]["next_hop"]["state"], "up", "the next hop is there");
        assert_eq!(shares(&down).iter().sum::<u64>(), 4096);
        assert_eq!(shares(&down).iter().filter(|&&share| share == 0).count(), 1, "{down}");
        assert!(far.ip(&format!("addr add {address} dev lo")));
        let back = prompt.wait_for_state(tool, "up");
        assert_eq!((shares(&back), &back["tools"][tool]["reason"]), ([2048, 2048], &"recovered".into()));
    }
    let run = prompt.quit();
    for tool in ["four", "six"] {
        assert_probes_balanced(run.last(), &format!("/tools/{tool}/echo"));
        assert!(run.number(&format!("tools/{tool}/echo/lost")) >= 5);
    }
    // what answers came is traffic of the port, which no rule took
    let answered: u64 =
        ["four", "six"].iter().map(|tool| run.number(&format!("tools/{tool}/echo/returned"))).sum();
    assert!(run.number("ports/up/received") >= answered, "{}", run.last());
}

#[test]
fn a_tunnel_whose_next_hop_stops_answering_arp_loses_its_buckets_until_it_answers_again() {
    let Some(far) = Far::new(format!("ta{}", std::process::id() % 100_000), "u") else { return };
    let up = &far.near[0];
    assert!(far.ip(&format!("addr add 198.18.0.9/24 dev {up}f")));
    let bench = Bench::new();
    let mut prompt = bench.start(&format!(
        "{}
        port attach up net_af_packet0,iface={up}
        tool create a discard
        tool create far port up vxlan vni 7 src 198.18.0.1 dst 198.18.0.9 up-after 200ms
        tool create c discard
        group create ids tools a,far,c weights 1,2,1
        rule create 10 from tap0 sample 1/97 to ids
        start\n",
        traffic(&bench)
    ));
    let shares =
        |stats: &Value| ["a", "far", "c"].map(|tool| number(stats, &format!("/groups/ids/buckets/{tool}")));
    let first = prompt.wait("the tunnel is up, and all flows are seen", |stats| {
        stats["tools"]["far"]["state"] == "up"
            && number(stats, "/tools/far/sent") > 0
            && number(stats, "/groups/ids/buckets/far") == 2048
            && number(stats, "/groups/ids/flows") > 980
    });
    assert_eq!(shares(&first), [1024, 2048, 1024]);
    let moved = |stats: &Value| {
        ["buckets_moved", "flows_moved"].map(|key| number(stats, &format!("/groups/ids/{key}")))
    };

    let since = now();
    assert!(far.ip(&format!("link set {up}f arp off")));
    let down = wait_for_loss(&mut prompt, "far", "unresolved", since);
    assert_eq!(shares(&down), [2048, 0, 2048], "its buckets alone, evenly over the others");
    let (before, after) = (moved(&first), moved(&down));
    let flows = after[1] - before[1];
    assert_eq!(after[0] - before[0], 2048);
    assert!((450..=550).contains(&flows), "half of the buckets have about half of 1000 flows: {flows}");

    assert!(far.ip(&format!("link set {up}f arp on")));
    let back = prompt.wait_for_state("far", "up");
    assert_eq!((shares(&back), moved(&back)[0] - after[0]), ([1024, 2048, 1024], 2048));
    let run = prompt.quit();
    println!(
        "2048 buckets and about {flows} flows moved; copies of far lost: {}",
        run.last()["tools"]["far"]["dropped"]
    );
    assert_eq!(run.number("groups/ids/unassigned/requested"), 0, "the others took all of it");
}

#[test]
fn probes_that_could_never_be_answered_are_refused() {
    let ports = "
port attach tap0 net_null0
port attach deaf net_ring0 rxq 0
port attach pcap0 net_pcap0,tx_pcap=out.pcap
port attach ring net_ring1
port attach w0 net_ring2
port attach w1 net_ring3
wire create w ports w0,w1
rule create 10 from tap0 to t
";
    let gre = "gre src 198.18.0.1 dst 198.18.0.9";
    for (tool, message) in [
        ("port deaf heartbeat every 100ms", "cannot return: port `deaf` has no receive queue"),
        ("port pcap0 heartbeat every 100ms", "cannot return: port `pcap0` only writes a file"),
        ("port ring heartbeat every 100ms return deaf", "cannot return: port `deaf` has no receive queue"),
        ("port ring heartbeat every 100ms return w1", "cannot return by port `w1`, a side of wire `w`"),
        ("port ring heartbeat every 100ms return rimg", "unknown port `rimg`"),
        ("port ring heartbeat every 1ms", "this is too often"),
        ("port ring heartbeat every 10ms timeout 2s", "this timeout is too long"),
        ("discard heartbeat every 100ms", "`heartbeat` does not apply to tool `t`"),
        (&format!("port ring {gre} heartbeat every 100ms"), "`echo` asks a tunnel's far end"),
        ("port ring echo every 1s", "`echo` does not apply to tool `t`"),
        (
            &format!("port deaf {gre} next-hop 02:00:00:00:00:09 echo every 1s"),
            "cannot be heard: port `deaf` has no receive queue",
        ),
    ] {
        let (status, said) = check(&format!("{ports}tool create t {tool}\n"));
        assert!(status == Some(2) && said.contains(message), "{tool}: {status:?}\n{said}");
        assert_eq!(said.matches("error:").count(), 1, "{tool}:\n{said}");
    }
    for tool in [
        "port deaf heartbeat every 10ms return ring".to_owned(),
        format!("port ring {gre} echo every 1s retries 0"),
    ] {
        let (status, said) = check(&format!("{ports}tool create t {tool}\n"));
        assert!(status == Some(0) && !said.contains("port `ring`"), "{tool}: {status:?}\n{said}");
    }
}

/// The thread of a program that is named so.
fn thread_of(program: u32, name: &str) -> Option<String> {
    let threads = std::fs::read_dir(format!("/proc/{program}/task")).ok()?.flatten();
    let is_named = |thread: &std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.contains(name))
    };
    threads.into_iter().find(is_named).and_then(|thread| thread.file_name().into_string().ok())
}

/// Gives the worker the CPU only when nobody else wants it, and has another program want it for some seconds; then it has its share
/// again.
fn starve(worker: &str) -> bool {
    let is_done = |command: &mut Command| command.output().is_ok_and(|said| said.status.success());
    let asked = Command::new("taskset").args(["-pc", worker]).output();
    let Some(cpu) = asked.ok().and_then(|said| {
        String::from_utf8(said.stdout).ok()?.rsplit(' ').next().map(|cpu| cpu.trim().to_owned())
    }) else {
        return false;
    };
    is_done(Command::new("chrt").args(["-i", "-p", "0", worker])) && {
        let _ = Command::new("taskset")
            .args(["-c", &cpu, "timeout", "4", "sh", "-c", "while :; do :; done"])
            .status();
        is_done(Command::new("chrt").args(["-o", "-p", "0", worker]))
    }
}

#[test]
fn heartbeats_of_a_worker_that_gets_no_cpu_are_not_lost() {
    let bench = Bench::new();
    let pipeline = "port attach tap0 net_null0,size=64
        port attach loop net_ring0
        tool create looped port loop heartbeat every 50ms timeout 300ms retries 3
        tool create back discard
        tool create other discard
        rule create 10 from tap0 sample 1/100000 to other
        rule create 20 from loop to back";
    let child = bench.command(pipeline, &["--duration", "8s"]).spawn().expect("the program starts");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let is_starved = thread_of(child.id(), "worker").is_some_and(|worker| starve(&worker));
    let run = bench.finish(child.wait_with_output().expect("the program ends"));
    if !is_starved || !run.stderr.contains("the worker goes on after") {
        tapline_skip::skipped(
            "the worker could not be starved (needs chrt and taskset, and a CPU that they share)",
        );
        return;
    }
    assert!(!run.stderr.contains("heartbeat_lost"), "{}", run.stderr);
    assert_eq!(run.number("tools/looped/heartbeat/lost"), 0, "{}", run.stderr);
    assert!(run.number("tools/looped/heartbeat/returned") > 10);
}

#[test]
fn a_run_does_not_end_as_idle_while_its_worker_gets_no_cpu() {
    let bench = Bench::new();
    // 1200 packets in 6 s, 5 ms apart
    let mut file = [
        &0xa1b2_c3d4u32.to_ne_bytes()[..],
        &[2, 0, 4, 0],
        &[0; 8],
        &65_535u32.to_ne_bytes(),
        &1u32.to_ne_bytes(),
    ]
    .concat();
    for place in 0..1200u32 {
        let packet = udp(place as u16, [198, 18, 0, 1], 4000, 64);
        let (seconds, micros, len) = (1_700_000_000 + place / 200, place % 200 * 5000, packet.len() as u32);
        [seconds, micros, len, len].iter().for_each(|word| file.extend(word.to_ne_bytes()));
        file.extend(packet);
    }
    std::fs::write(bench.path("in.pcap"), file).expect("the capture is written");
    let pipeline = "port attach old replay:@/in.pcap
        tool create a discard
        rule create 10 from old to a";
    let child = bench.command(pipeline, &["--exit-idle", "1s"]).spawn().expect("the program starts");
    bench.wait_for_packets();
    let is_starved = thread_of(child.id(), "worker").is_some_and(|worker| starve(&worker));
    let run = bench.finish(child.wait_with_output().expect("the program ends"));
    if !is_starved || !run.stderr.contains("the worker goes on after") {
        tapline_skip::skipped(
            "the worker could not be starved (needs chrt and taskset, and a CPU that they share)",
        );
    }
    assert_eq!(run.number("packets/received"), 1200, "{}", run.stderr);
}

#[test]
fn what_waits_for_a_tool_is_sent_at_the_end_though_the_worker_gets_no_cpu() {
    let bench = Bench::new();
    bench.write("in.pcap", std::iter::repeat_n(&udp(1, [198, 18, 0, 1], 4000, 64)[..], 2000));
    // a second's worth
    let pipeline = "port attach in net_pcap0,rx_pcap=@/in.pcap
        port attach out net_null0 rxq 0
        tool create slow port out queue 2000 rate 2kpps burst 10ms
        rule create 10 from in to slow";
    let child = bench
        .command(pipeline, &["--duration", "300ms", "--interval", "20ms"])
        .spawn()
        .expect("the program starts");
    bench.wait_for_packets();
    let is_starved = thread_of(child.id(), "worker").is_some_and(|worker| starve(&worker));
    let run = bench.finish(child.wait_with_output().expect("the program ends"));
    if !is_starved {
        tapline_skip::skipped(
            "the worker could not be starved (needs chrt and taskset, and a CPU that they share)",
        );
    }
    assert_eq!(
        (run.number("packets/received"), run.number("tools/slow/sent")),
        (2000, 2000),
        "{}",
        run.stderr
    );
}
