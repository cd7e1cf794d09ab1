use super::{inside, long_pair, replay, seen};
use tapline_harness::bench::Bench;
use tapline_harness::frames::numbered;
use tapline_harness::judges::assert_same;

/// An interface comes beside another one that runs, goes, and comes again with two queues; each frame that was sent to a port while it
/// was there is in its tool's file. A tool comes to a port that nothing was sent on before.
#[test]
fn interfaces_come_and_go_beside_traffic() {
    let Some(pair) = long_pair('l') else { return };
    let bench = Bench::inside(&pair.far);
    let sent = numbered(500, 300, &[7, 8, 9]);
    bench.write("sent.pcap", &sent);
    let from_near = || replay(&pair.near, "near", &bench.path("sent.pcap"), 1);
    let from_far = || replay(&pair.far, "far", &bench.path("sent.pcap"), 1);
    // whether some socket receives all addresses, as the kernel says
    let is_promiscuous = || inside(&pair.near, "ip -d link show near").contains("promiscuity 1 ");
    let include = |name: &str, lines: &str| {
        let folder = bench.path("");
        let lines = lines.replace("@/", folder.to_str().expect("a plain name"));
        std::fs::write(bench.path(name), lines).expect("a writable folder");
        format!("include {}", bench.path(name).display())
    };

    let mut prompt = bench.start(
        "set idle sleep
        port attach span0 iface:far
        tool create rec0 capture @/got0.pcap
        rule create 10 from span0 to rec0
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
    let count = from_near();
    assert_eq!(count, sent.len() as u64);
    prompt.wait("all came to the first port", |stats| seen(stats, "span0") == Some(count));
    assert!(!is_promiscuous());

    let comes = "port attach span1 iface:near\ntool create rec1 capture @/got1.pcap queue 1024\n\
                 rule create 20 from span1 to rec1\n";
    prompt.say(&include("comes.pipe", comes));
    prompt.wait("the second port is there", |stats| stats["ports"]["span1"]["link_up"] == true);
    assert!(is_promiscuous());
    from_far();
    prompt.wait("all came to the second port", |stats| seen(stats, "span1") == Some(count));

    // what the first port receives leaves by it, and comes to the second
    prompt.say(&include(
        "back.pipe",
        "tool create back port span0 queue 1024\nrule create 30 from span0 to back\n",
    ));
    prompt.wait("the tool is there", |stats| stats["tools"]["back"].is_object());
    from_near();
    prompt.wait("the copies came to the second port", |stats| seen(stats, "span1") == Some(2 * count));

    // an interface that is not there changes nothing
    prompt.say("port attach none iface:no-such-if");
    prompt.say(&include("goes.pipe", "rule destroy 20\ntool destroy rec1\nport detach span1\n"));
    prompt.wait("the second port is gone", |stats| stats["ports"]["span1"].is_null());
    super::wait_until("its sockets are closed", || !is_promiscuous());
    from_far();

    let again = comes.replace("iface:near", "iface:near,queues=2").replace("got1", "got2");
    prompt.say(&include("again.pipe", &again));
    prompt.wait("the second port is there again", |stats| stats["ports"]["span1"]["link_up"] == true);
    from_far();
    prompt.wait("all came to it", |stats| seen(stats, "span1") == Some(count));

    let run = prompt.quit_scripted(1);
    assert!(run.stderr.contains("interface no-such-if: there is none of this name here"), "{}", run.stderr);
    assert_eq!(run.number("ports/span0/received"), 2 * count);
    let twice = [&sent[..], &sent[..]].concat();
    assert_same("the first port", &bench.read("got0.pcap"), &twice);
    assert_same("the second port", &bench.read("got1.pcap"), &twice);
    assert_same("the second port, come again", &bench.read("got2.pcap"), &sent);
}

/// An interface is stopped and started, and set up otherwise under its name: each frame that was sent to it while it stood, and none
/// of those in between but what its socket kept, is in its tool's file, and its counts go on.
#[test]
fn an_interface_is_stopped_and_set_up_otherwise_beside_traffic() {
    let Some(pair) = long_pair('o') else { return };
    let bench = Bench::inside(&pair.far);
    let sent = numbered(300, 300, &[7, 8, 9]);
    bench.write("sent.pcap", &sent);
    let count = sent.len() as u64;
    let from_near = || assert_eq!(replay(&pair.near, "near", &bench.path("sent.pcap"), 1), count);
    let is_promiscuous = || inside(&pair.far, "ip -d link show far").contains("promiscuity 1 ");
    let mut prompt = bench.start(
        "set idle sleep
        port attach span0 iface:far
        port attach other net_null0
        tool create rec0 capture @/got0.pcap queue 1024
        tool create d discard
        rule create 10 from span0 to rec0
        rule create 20 from other to d
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
    assert!(is_promiscuous());
    from_near();
    prompt.wait("all came", |stats| seen(stats, "span0") == Some(count));

    // what comes to a port that is stopped waits in its socket as far as that has room
    prompt.say("port stop span0");
    prompt.wait("it is stopped", |stats| stats["ports"]["span0"]["stopped"] == true);
    from_near();
    prompt.say("port start span0");
    prompt.wait("what waited came", |stats| seen(stats, "span0") == Some(2 * count));

    prompt.say("port config span0 promiscuous off");
    prompt.say("port config span0 promiscuous off interrupt");
    super::wait_until("the socket that comes is told", || !is_promiscuous());
    prompt.wait("it runs again", |stats| stats["ports"]["span0"]["closed"].is_null());
    from_near();
    prompt.wait("all came again", |stats| seen(stats, "span0") == Some(3 * count));

    let run = prompt.quit_scripted(1);
    let refusal = "port span0 is changed (promiscuous), for which port span0 has to be taken down";
    assert!(run.stderr.contains(refusal), "{}", run.stderr);
    assert_eq!(run.number("ports/span0/driver/rx_packets"), 3 * count);
    assert_same("the port", &bench.read("got0.pcap"), &[&sent[..], &sent[..], &sent[..]].concat());
}
