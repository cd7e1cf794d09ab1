use super::{Tcpdump, all_kinds, long_pair, replay, seen};
use tapline_harness::bench::Bench;
use tapline_harness::judges::assert_same;
use tapline_harness::links::counted;

#[test]
fn every_frame_is_received_as_it_was_sent() {
    let Some(pair) = long_pair('r') else { return };
    let bench = Bench::inside(&pair.far);
    let sent = all_kinds();
    bench.write("sent.pcap", &sent);
    let mut prompt = bench.start(
        "set idle sleep
        port attach span0 iface:far
        tool create rec capture @/got.pcap
        rule create 10 from span0 to rec
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
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
}
