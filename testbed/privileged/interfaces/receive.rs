use std::path::Path;
use std::process::{Command, Stdio};

use super::{Tcpdump, all_kinds, fragment, inside, long_pair, replay, seen};
use serde_json::Value;
use tapline_harness::bench::Bench;
use tapline_harness::frames::{numbered, udp};
use tapline_harness::judges::assert_same;
use tapline_harness::links::{Pair, counted, ip};

/// One port, recorded, with what stands behind its interface.
fn recorded(options: &str) -> String {
    format!(
        "set idle sleep
        port attach span0 iface:far{options}
        tool create rec capture @/got.pcap
        rule create 10 from span0 to rec
        start"
    )
}

fn runs(stats: &Value) -> bool {
    stats["ports"]["span0"]["link_up"] == true
}

#[test]
fn every_frame_is_received_as_it_was_sent() {
    let Some(pair) = long_pair('r') else { return };
    let bench = Bench::inside(&pair.far);
    let sent = all_kinds();
    bench.write("sent.pcap", &sent);
    let mut prompt = bench.start(&recorded(""));
    prompt.wait("it runs", runs);
    let tcpdump = Tcpdump::start(&pair.far, "far", bench.path("tcpdump.pcap"));
    let before = counted(&pair, "far", "rx_packets");
    let count = replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
    assert_eq!(count, sent.len() as u64);
    prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
    let dumped = tcpdump.finish(&bench, sent.len());
    assert_eq!(counted(&pair, "far", "rx_packets") - before, count);
    let run = prompt.quit();
    assert_eq!((run.number("ports/span0/received"), run.number("ports/span0/driver/missed")), (count, 0));
    assert_same("tcpdump", &dumped, &sent);
    assert_same("tapline", &bench.read("got.pcap"), &sent);
    assert_eq!(run.last()["ports"]["span0"]["clock"]["source"], "kernel");
    assert!(!run.stderr.contains("ethtool"), "no offload changes frames: {}", run.stderr);
}

#[test]
fn times_are_the_kernels_to_the_nanosecond() {
    let Some(pair) = long_pair('t') else { return };
    let bench = Bench::inside(&pair.far);
    bench.write("sent.pcap", numbered(200, 100, &[7]));
    let mut prompt = bench.start(&recorded("").replace("got.pcap", "got.pcapng"));
    prompt.wait("it runs", runs);
    let tcpdump = Tcpdump::start(&pair.far, "far", bench.path("tcpdump.pcap"));
    let before = tapline_harness::bench::now();
    let count = replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
    let after = tapline_harness::bench::now();
    prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
    tcpdump.finish(&bench, count as usize);
    prompt.quit();
    let times = tapline_harness::captures::timed(&bench.path("got.pcapng"));
    let times: Vec<u64> = times.iter().map(|packet| packet.ns).collect();
    assert_eq!(times.len() as u64, count);
    assert!(times.is_sorted());
    let (first, last) = (times[0] as f64 / 1e9, times[times.len() - 1] as f64 / 1e9);
    assert!(before <= first && last <= after, "{before} {first} {last} {after}");
    assert!(times.iter().any(|ns| ns % 1000 != 0), "no time has nanoseconds");
}

#[test]
fn two_queues_lose_and_double_nothing_and_fragments_stay_with_their_flow() {
    let Some(pair) = long_pair('q') else { return };
    let bench = Bench::inside(&pair.far);
    // each host's datagrams in three fragments, which differ from one another
    let hosts = 1..=60u8;
    let parts = [(0, true, 800), (100, true, 640), (180, false, 333)];
    let sent: Vec<Vec<u8>> = (0..20u16)
        .flat_map(|round| hosts.clone().map(move |host| (round, host)))
        .flat_map(|(round, host)| parts.map(|(at, more, len)| fragment(round, host, at, more, len)))
        .collect();
    bench.write("sent.pcap", &sent);
    let pipeline = recorded(",queues=2").replace("set idle sleep", "set idle sleep\nset workers 2");
    let mut prompt = bench.start(&pipeline);
    prompt.wait("it runs", runs);
    let count = replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
    prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
    let run = prompt.quit();
    assert_eq!((run.number("ports/span0/received"), run.number("ports/span0/driver/missed")), (count, 0));
    let shares = run.last()["lcores"].as_object().expect("lcores").values();
    let shares: Vec<u64> = shares.map(|lcore| lcore["received"].as_u64().expect("a number")).collect();
    assert!(shares.len() == 2 && shares.iter().all(|&share| share > count / 10), "{shares:?}");
    let got = bench.read("got.pcap");
    for host in hosts {
        let of_host = |frames: &[Vec<u8>]| {
            frames.iter().filter(|frame| frame[29] == host).cloned().collect::<Vec<_>>()
        };
        assert_same("one host's frames, in order", &of_host(&got), &of_host(&sent));
    }
}

#[test]
fn two_brokers_have_every_frame_each_whatever_their_queues() {
    let Some(pair) = long_pair('b') else { return };
    let (one, other) = (Bench::inside(&pair.far), Bench::inside(&pair.far));
    one.write("sent.pcap", numbered(2000, 200, &[7, 8, 9]));
    let mut prompts = [&one, &other].map(|bench| bench.start(&recorded(",queues=2")));
    prompts.iter_mut().for_each(|prompt| {
        prompt.wait("it runs", runs);
    });
    let count = replay(&pair.far, "near", &one.path("sent.pcap"), 3);
    for mut prompt in prompts {
        prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
        assert_eq!(prompt.quit().number("ports/span0/received"), count);
    }
}

#[test]
fn what_a_full_ring_has_no_room_for_is_missed_and_counted() {
    let Some(pair) = long_pair('f') else { return };
    let bench = Bench::inside(&pair.far);
    bench.write("sent.pcap", numbered(1000, 1000, &[7]));
    let mut prompt = bench.start(&recorded(",buffer=256Ki"));
    prompt.wait("it runs", runs);
    // nobody takes anything out of the ring meanwhile
    prompt.say("stop");
    prompt.wait("it rests", |stats| stats["lcores"]["1"]["stage"] != "receive");
    let before = counted(&pair, "far", "rx_packets");
    let count = replay(&pair.far, "near", &bench.path("sent.pcap"), 3);
    assert_eq!(counted(&pair, "far", "rx_packets") - before, count);
    let missed = |stats: &Value| stats["ports"]["span0"]["driver"]["missed"].as_u64();
    prompt.wait("frames are missed", |stats| missed(stats) > Some(1000));
    prompt.say("start");
    prompt.wait("all are accounted for", |stats| seen(stats, "span0") == Some(count));
    let run = prompt.quit();
    assert!(run.number("ports/span0/received") > 100, "what the ring held is received");
    assert_eq!(run.number("ports/span0/received") + run.number("ports/span0/driver/missed"), count);
}

#[test]
fn what_this_machine_sends_is_received_only_where_it_is_asked_for() {
    let Some(pair) = long_pair('o') else { return };
    let sent = all_kinds();
    for (options, taken) in [("", 0), (",outgoing=on", sent.len()), (",outgoing=on,queues=2", sent.len())] {
        let bench = Bench::inside(&pair.far);
        bench.write("sent.pcap", &sent);
        let mut prompt = bench.start(&recorded(options));
        prompt.wait("it runs", runs);
        // out by the interface that is received from, then one frame in
        let out = replay(&pair.far, "far", &bench.path("sent.pcap"), 1);
        assert_eq!(out, sent.len() as u64);
        let back = replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
        let wanted = taken as u64 + back;
        prompt.wait("all came", |stats| seen(stats, "span0") >= Some(wanted));
        assert_eq!(prompt.quit().number("ports/span0/received"), wanted, "{options}");
        let mut got = bench.read("got.pcap");
        if !options.contains("queues") {
            assert_same("in", &got.split_off(taken), &sent);
            assert_same("out", &got, &sent[..taken]);
        }
    }
}

#[test]
fn a_loopback_shows_each_frame_once() {
    let Some(pair) = long_pair('l') else { return };
    assert!(ip(&format!("-n {} link set lo up", pair.far)));
    let bench = Bench::inside(&pair.far);
    // what is no IP for this machine the kernel drops behind the socket
    let sent: Vec<Vec<u8>> = all_kinds();
    bench.write("sent.pcap", &sent);
    let mut prompt = bench.start(&recorded("").replace("iface:far", "iface:lo"));
    prompt.wait("it runs", runs);
    let tcpdump = Tcpdump::start(&pair.far, "lo", bench.path("tcpdump.pcap"));
    let count = replay(&pair.far, "lo", &bench.path("sent.pcap"), 1);
    prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
    let dumped = tcpdump.finish(&bench, sent.len());
    let run = prompt.quit();
    assert_eq!(run.number("ports/span0/received"), count);
    assert_same("tapline", &bench.read("got.pcap"), &dumped);
    assert_same("sent", &bench.read("got.pcap"), &sent);
}

#[test]
fn a_link_that_flaps_and_an_interface_that_goes_cost_nothing_that_was_received() {
    let Some(pair) = long_pair('g') else { return };
    for queues in ["", ",queues=2"] {
        let bench = Bench::inside(&pair.far);
        bench.write("sent.pcap", numbered(500, 300, &[7]));
        let mut prompt = bench.start(&recorded(queues));
        prompt.wait("it runs", runs);
        let before = counted(&pair, "far", "rx_packets");
        for _ in 0..3 {
            replay(&pair.far, "near", &bench.path("sent.pcap"), 2);
            pair.set_far("down");
            prompt.wait("it is down", |stats| stats["ports"]["span0"]["link_up"] == false);
            pair.set_far("up");
            prompt.wait("it is up", runs);
        }
        replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
        let came = counted(&pair, "far", "rx_packets") - before;
        assert!(came >= 3500, "{came}");
        prompt.wait("all came", |stats| seen(stats, "span0") >= Some(came));
        if !queues.is_empty() {
            pair.delete();
            prompt.wait("it is gone", |stats| stats["ports"]["span0"]["link_up"] == false);
        }
        let run = prompt.quit();
        assert_eq!(seen(run.last(), "span0"), Some(came), "{queues}");
        let is_gone = run.stderr.contains("port span0: down -> gone")
            || run.stderr.contains("port span0: up -> gone");
        assert_eq!(is_gone, !queues.is_empty(), "{}", run.stderr);
    }
}

#[test]
fn receive_lcores_spread_an_interfaces_packets_with_their_times() {
    let Some(pair) = long_pair('s') else { return };
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return tapline_skip::skipped("two CPUs are needed");
    }
    let bench = Bench::inside(&pair.far);
    let sent: Vec<Vec<u8>> =
        (0..800u16).map(|id| udp(id, [198, 18, 1, (id % 50) as u8], 1024 + id % 50, 64)).collect();
    bench.write("sent.pcap", &sent);
    let pipeline = recorded("")
        .replace("set idle sleep", "set idle sleep\nset lcores receive 0 work 1")
        .replace("got.pcap", "got.pcapng");
    let mut prompt = bench.start(&pipeline);
    prompt.wait("it runs", runs);
    let count = replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
    prompt.wait("all came", |stats| seen(stats, "span0") >= Some(count));
    assert_eq!(prompt.quit().number("ports/span0/received"), count);
    let got = tapline_harness::captures::timed(&bench.path("got.pcapng"));
    assert!(got.iter().map(|packet| packet.ns).is_sorted(), "times are the kernel's");
    assert_eq!(got.len() as u64, count);
}

/// Real TCP of the kernel's, whose segments are joined or not cut: what comes is what tcpdump sees.
#[test]
fn segments_that_are_not_cut_are_received_as_tcpdump_sees_them() {
    let Some(pair) = Pair::apart('d') else { return };
    if !tapline_harness::programs::has_programs(&["tcpdump", "python3", "ethtool"]) {
        return tapline_skip::skipped("tcpdump, python3 or ethtool is missing");
    }
    for (namespace, side, last) in [(&pair.near, "near", 1), (&pair.far, "far", 2)] {
        assert!(ip(&format!("-n {namespace} address add 198.18.9.{last}/24 dev {side}")));
    }
    for (words, is_long) in
        [("tso on gso on gro on tx on", true), ("tso off gso off gro off tx off", false)]
    {
        inside(&pair.near, &format!("ethtool -K near {words}"));
        inside(&pair.far, &format!("ethtool -K far {words}"));
        let bench = Bench::inside(&pair.far);
        let mut prompt = bench.start(&recorded(""));
        prompt.wait("it runs", runs);
        let tcpdump = Tcpdump::start(&pair.far, "far", bench.path("tcpdump.pcap"));
        talk(&pair, bench.path("server.py").as_path());
        let came = prompt.wait("frames came", |stats| seen(stats, "span0") > Some(20));
        let came = tapline_harness::bench::settled(&mut prompt, &came);
        let count = seen(&came, "span0").expect("a number") as usize;
        let dumped = tcpdump.finish(&bench, count);
        let run = prompt.quit();
        assert_eq!(run.number("ports/span0/driver/missed"), 0);
        assert!(
            run.stderr.contains("the far end of far is in another network namespace"),
            "{}",
            run.stderr
        );
        let got = bench.read("got.pcap");
        assert_same(words, &got, &dumped);
        assert_eq!(got.iter().any(|frame| frame.len() > 1514), is_long, "{words}");
    }
}

/// Sends four megabytes of TCP from `near` to `far`, and waits until all have come.
fn talk(pair: &Pair, script: &Path) {
    const SERVER: &str = "import socket\ns = socket.create_server(('198.18.9.2', 7))\nprint('ready', flush=True)\n\
        c = s.accept()[0]\nn = 0\nwhile True:\n  d = c.recv(1 << 16)\n  if not d: break\n  n += len(d)\nprint(n)\n";
    const CLIENT: &str = "import socket\nc = socket.create_connection(('198.18.9.2', 7))\nc.sendall(bytes(4 << 20))\nc.close()\n";
    std::fs::write(script, SERVER).expect("a file");
    let client = script.with_file_name("client.py");
    std::fs::write(&client, CLIENT).expect("a file");
    let server = Command::new("ip")
        .args(["netns", "exec", &pair.far, "python3"])
        .arg(script)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    super::wait_until("the server listens", || {
        Command::new("ip")
            .args(["netns", "exec", &pair.far, "cat", "/proc/net/tcp"])
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("020912C6:0007"))
    });
    inside(&pair.near, &format!("python3 {}", client.display()));
    let output = server.wait_with_output().expect("the server ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("4194304"), "all bytes came");
}
