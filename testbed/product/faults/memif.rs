//! A tool on shared memory (net_memif), whose reader is another process: it is frozen, killed, and replaced.

use std::path::Path;

use tapline_harness::bench::{Bench, Prompt, dropped, flows};
use tapline_harness::frames::udp;

fn socket(bench: &Bench) -> String {
    bench.path("memif.sock").to_str().expect("a plain name").to_owned()
}

/// Reads from the far end all that comes.
fn reader<'a>(bench: &'a Bench, socket: &str) -> Prompt<'a> {
    bench.start(&format!(
        "set idle sleep
        port attach in net_memif0,role=client,socket={socket},socket-abstract=no
        tool create sink discard
        rule create 10 from in to sink
        start"
    ))
}

#[test]
fn packets_up_to_jumbo_frames_pass_whole_and_empty_ones_do_not() {
    let (bench, other) = (Bench::new(), Bench::new());
    let socket = socket(&bench);
    let sizes = [1usize, 60, 1514, 2048, 2049, 4000, 9000];
    let packets: Vec<Vec<u8>> = (0..210)
        .map(|index| {
            let mut bytes = udp(index as u16, [198, 18, 1, 1], 1024, 64);
            bytes.resize(sizes[index % sizes.len()], index as u8);
            bytes
        })
        .collect();
    bench.write("in.pcap", packets.iter().flat_map(|bytes| [&bytes[..], &[]]));
    let mut sender = bench.start(&format!(
        "set idle sleep
        port attach src replay:@/in.pcap,speed=max,loop=forever
        port attach shared net_memif0,role=server,socket={socket},socket-abstract=no
        tool create out port shared
        rule create 10 from src sample 1/97 to out
        start"
    ));
    sender.wait("the socket is there", |_| Path::new(&socket).exists());
    let mut reader = other.start(&format!(
        "set idle sleep
        port attach in net_memif0,role=client,socket={socket},socket-abstract=no
        port attach out net_pcap0,tx_pcap=@/out.pcap rxq 0
        tool create whole port out
        rule create 10 from in to whole
        start"
    ));
    received(&mut reader, 5000);
    let sent = sender.quit();
    reader.quit();
    assert!(dropped(&sent, "out", "undersize") > 0, "{}", sent.last()["tools"]["out"]);
    // the writer may lose packets, but none is cut or made up
    let known: std::collections::HashSet<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let got = other.read("out.pcap");
    assert!(got.len() > 5000, "{}", got.len());
    let made_up: Vec<usize> =
        got.iter().filter(|bytes| !known.contains(&bytes[..])).map(Vec::len).collect();
    assert!(
        made_up.is_empty(),
        "{} of {}: {:?}",
        made_up.len(),
        got.len(),
        made_up.iter().take(20).collect::<Vec<_>>()
    );
    assert_eq!(got.iter().map(Vec::len).collect::<std::collections::HashSet<_>>().len(), sizes.len());
}

fn received(prompt: &mut Prompt<'_>, more_than: u64) {
    prompt.wait("the reader reads", |stats| stats["ports"]["in"]["received"].as_u64() > Some(more_than));
}

#[test]
fn a_memif_reader_that_freezes_dies_and_is_replaced_costs_its_own_copies_alone() {
    let (bench, first, second) = (Bench::new(), Bench::new(), Bench::new());
    flows(&bench);
    let socket = socket(&bench);
    let mut prompt = bench.start(&format!(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        port attach shared net_memif0,role=server,socket={socket},socket-abstract=no
        tool create out port shared down-after 300ms up-after 200ms
        tool create other discard
        rule create 10 from src sample 1/97 to out,other
        start"
    ));
    prompt.wait("the socket is there", |_| Path::new(&socket).exists());
    let goes_on = |prompt: &mut Prompt<'_>| {
        let other = prompt.wait("the next snapshot", |_| true)["tools"]["other"]["sent"].as_u64();
        prompt.wait("others go on", |stats| {
            stats["tools"]["other"]["sent"].as_u64() > other.map(|sent| sent + 1000)
        });
    };
    goes_on(&mut prompt);

    let mut peer = reader(&first, &socket);
    prompt.wait_for_state("out", "up");
    received(&mut peer, 100);
    peer.signal("STOP");
    let frozen = prompt.wait_for_state("out", "down");
    assert_eq!(frozen["tools"]["out"]["reason"], "stalled", "{frozen}");
    goes_on(&mut prompt);
    peer.signal("CONT");
    prompt.wait_for_state("out", "up");

    // dropping a prompt kills its program
    drop(peer);
    let dead = prompt.wait_for_state("out", "down");
    assert_eq!(dead["ports"]["shared"]["link_up"], false, "{dead}");
    goes_on(&mut prompt);

    let mut peer = reader(&second, &socket);
    let back = prompt.wait_for_state("out", "up");
    assert_eq!(back["ports"]["shared"]["link_up"], true, "{back}");
    received(&mut peer, 100);
    peer.quit();
    prompt.wait_for_state("out", "down");
    let run = prompt.quit();
    assert!(dropped(&run, "out", "down") > 0, "{}", run.last()["tools"]["out"]);
    assert_eq!(run.number("tools/other/sent"), run.number("tools/out/requested"));
}
