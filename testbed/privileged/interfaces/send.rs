use super::{Tcpdump, all_kinds, long_pair, set_offloads};
use tapline_harness::bench::{Bench, dropped};
use tapline_harness::judges::assert_same;
use tapline_harness::links::{counted, ip};

/// A capture that goes out by `near`, once it runs.
const SENDING: &str = "set idle sleep
        port attach src replay:@/sent.pcap,speed=max
        port attach out iface:near,queues=0
        tool create send port out
        rule create 10 from src to send";

#[test]
fn every_copy_leaves_as_it_is() {
    let Some(pair) = long_pair('w') else { return };
    let bench = Bench::inside(&pair.far);
    let sent = all_kinds();
    bench.write("sent.pcap", &sent);
    let tcpdump = Tcpdump::start(&pair.far, "far", bench.path("tcpdump.pcap"));
    let before = counted(&pair, "far", "rx_packets");
    let run = bench.run(SENDING, &[]);
    let count = sent.len() as u64;
    assert_eq!(counted(&pair, "far", "rx_packets") - before, count);
    assert_eq!((run.number("tools/send/sent"), run.number("ports/out/driver/tx_packets")), (count, count));
    assert_eq!(run.number("ports/out/driver/tx_errors"), 0);
    assert_same("what left", &tcpdump.finish(&bench, sent.len()), &sent);
}

#[test]
fn frames_above_the_mtu_of_the_moment_are_oversize_and_the_others_leave() {
    let Some(pair) = long_pair('x') else { return };
    let sent = all_kinds();
    let bench = Bench::inside(&pair.far);
    bench.write("sent.pcap", &sent);
    for mtu in [1500, 9000, 1500] {
        assert!(ip(&format!("-n {} link set near mtu {mtu}", pair.far)));
        let fits = |frame: &&Vec<u8>| {
            let tag = if frame[12..14] == [0x81, 0] { 4 } else { 0 };
            frame.len() <= mtu + 14 + tag
        };
        let fitting: Vec<Vec<u8>> = sent.iter().filter(fits).cloned().collect();
        let tcpdump = Tcpdump::start(&pair.far, "far", bench.path("tcpdump.pcap"));
        let run = bench.run(SENDING, &[]);
        assert_eq!(run.last()["ports"]["out"]["mtu"], mtu);
        assert_eq!(dropped(&run, "send", "oversize"), (sent.len() - fitting.len()) as u64);
        assert!(fitting.len() < sent.len());
        assert_same("what left", &tcpdump.finish(&bench, fitting.len()), &fitting);
    }
}

/// What comes by one side of a wire leaves by the other, both ways, and nothing comes back to where it was sent.
#[test]
fn a_wire_joins_two_interfaces() {
    let Some(pair) = long_pair('v') else { return };
    assert!(ip(&format!("-n {} link add left type veth peer name right", pair.far)));
    for side in ["left", "right"] {
        super::inside(&pair.far, &format!("sysctl -qw net.ipv6.conf.{side}.disable_ipv6=1"));
        super::inside(&pair.far, &format!("ethtool -K {side} tso off gso off gro off tx off"));
        assert!(ip(&format!("-n {} link set {side} mtu 65535 up", pair.far)));
    }
    set_offloads(&pair, "tso off gso off gro off tx off");
    let sent = all_kinds();
    let bench = Bench::inside(&pair.far);
    bench.write("sent.pcap", &sent);
    let mut prompt = bench.start(
        "set idle sleep
        port attach a iface:far,outgoing=on
        port attach b iface:left,outgoing=on,queues=2
        wire create w0 ports a,b
        tool create seen discard
        rule create 10 from w0 to seen
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["b"]["link_up"] == true);
    let tcpdumps = [("right", "right.pcap"), ("near", "near.pcap")]
        .map(|(side, file)| Tcpdump::start(&pair.far, side, bench.path(file)));
    let there = super::replay(&pair.far, "near", &bench.path("sent.pcap"), 1);
    let back = super::replay(&pair.far, "right", &bench.path("sent.pcap"), 1);
    prompt.wait("all came", |stats| stats["packets"]["received"].as_u64() >= Some(there + back));
    let [right, near] = tcpdumps.map(|tcpdump| tcpdump.finish(&bench, sent.len()));
    let run = prompt.quit();
    assert_eq!(run.number("packets/received"), there + back);
    assert_same("to b", &right, &sent);
    // two queues may overtake one another
    let sorted = |mut frames: Vec<Vec<u8>>| {
        frames.sort();
        frames
    };
    assert_same("to a", &sorted(near), &sorted(sent));
}
