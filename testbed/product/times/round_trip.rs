//! A mirror and its end: one Tapline sends captured packets through a tunnel, another, over shared memory (net_memif), takes them
//! out and writes them down. And what edits leave of packets, with times and lengths, in a capture.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use tapline_capture::ByteOrder;
use tapline_datapath::copies::transport::Encapsulation;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::links::ip;
use tapline_harness::programs::{has_program, run_in};

use super::packets::{Form, Timed, assert_same, office, read, write};
use super::terminate::{carried, tunnel, whole_packets};

/// As many as each queue and pool on the way holds, so that no side that is kept from its CPU loses any.
fn sent_packets() -> Vec<Timed> {
    whole_packets().into_iter().take(4000).collect()
}

/// Sends `packets` by a tool with these words to a port that terminates; what the far side wrote, and its statistics.
fn there_and_back(packets: &[Timed], words: &str, terminate: &str) -> (Vec<Timed>, Value) {
    // Slots (bsize) that hold the longest packet: of packets in several slots, net_memif of DPDK 22.11 gives what its ring held
    // before once again when the ring has come round.
    let far = Lab::new();
    let socket = far.path("memif.sock");
    let near = format!("net_memif0,role=client,bsize=16384,socket={},socket-abstract=no", socket.display());
    let device = format!("net_memif0,role=server,socket={},socket-abstract=no", socket.display());
    between(&far, &device, &near, packets, &format!("{words} mtu 16000"), terminate)
}

/// As `there_and_back`, from the device `from` to the device `to` of the far side.
fn between(
    far: &Lab,
    to: &str,
    from: &str,
    packets: &[Timed],
    words: &str,
    terminate: &str,
) -> (Vec<Timed>, Value) {
    let near = Lab::new();
    far.write(
        "test.pipe",
        format!(
            "set idle sleep\nset mempool 16384\n\
             port attach in {to} terminate {terminate}\n\
             tool create t capture out.pcapng queue 8192\nrule create 10 from in to t\n"
        ),
    );
    // The link comes up after the start: a packet for nobody, seconds before the others, gives time to say `stop`.
    let lead = [&[0xff; 12][..], &[0x88, 0xb5], &[0; 46]].concat();
    let lead = Timed { ns: packets[0].ns - 3_000_000_000, original_len: lead.len() as u32, bytes: lead };
    write(&near.path("in.cap"), Form::PcapNs(ByteOrder::Little), &[&[lead], packets].concat());
    near.write(
        "test.pipe",
        format!(
            "set idle sleep\nset mempool 16384\n\
             port attach in replay:in.cap,speed=original\n\
             port attach up {from}\n\
             tool create t port up {words} next-hop 02:00:00:00:00:09 queue 8192 up-after 100ms\n\
             rule create 10 from in match \"not ether proto 0x88b5\" to t\n"
        ),
    );
    let arguments = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"];
    let receiver = far.start(&mut far.tapline(&[&arguments[..], &["--duration", "150s"]].concat()));
    far.until("the far side runs", |_| true);
    let mut sender = near.tapline(&[&arguments[..], &["--interactive"]].concat());
    let mut sender = near.start(sender.stdin(Stdio::piped()));
    let mut prompt = sender.child.stdin.take().expect("a pipe");
    writeln!(prompt, "start\nstop").expect("the program reads");
    near.until("the link is up", |line| line["tools"]["t"]["state"] == "up");
    writeln!(prompt, "start").expect("the program reads");
    let count = packets.len() as u64;
    let sent = near.until("all packets are sent", |line| {
        line["copies"]["requested"] == count && line["balanced"] == true
    });
    assert_eq!(number(&sent, "copies/sent"), count, "{sent}");
    far.until("all packets are there", |line| line["packets"]["received"] == count);
    writeln!(prompt, "quit").expect("the program reads");
    near.end(sender).done();
    receiver.signal("TERM");
    let account = far.end(receiver).done();
    (read(&far.path("out.pcapng")), account.last().clone())
}

#[test]
fn an_erspan_mirror_brings_every_packet_in_order_with_its_time_to_the_nanosecond() {
    let packets = sent_packets();
    let words = "erspan3 session 7 src 198.18.0.1 dst 198.18.0.9 timestamp erspan3";
    let (got, account) = there_and_back(&packets, words, "erspan to 198.18.0.9 session 7");
    assert_same(words, &got, &packets);
    let session = &account["ports"]["in"]["terminate"]["sessions"][0];
    let counts = ["received", "lost", "reordered", "duplicate"].map(|word| number(session, word));
    assert_eq!(counts, [packets.len() as u64, 0, 0, 0], "{session}");
}

#[test]
fn a_vxlan_mirror_brings_every_packet_in_order_over_ipv4_and_ipv6() {
    let packets = sent_packets();
    for (source, destination) in [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")] {
        let words = format!("vxlan vni 4242 src {source} dst {destination}");
        let (got, _) = there_and_back(&packets, &words, &format!("vxlan to {destination} vni 4242"));
        // VXLAN says no time: these are the times of arrival, which go up
        assert!(got.is_sorted_by_key(|packet| packet.ns), "{words}");
        let untimed = |packets: &[Timed]| {
            packets.iter().map(|packet| Timed { ns: 0, ..packet.clone() }).collect::<Vec<_>>()
        };
        assert_same(&words, &untimed(&got), &untimed(&packets));
    }
}

/// A veth pair, gone when it is dropped.
struct Veth;

impl Veth {
    const ENDS: [&str; 2] = ["tlrt0", "tlrt1"];

    fn new() -> Option<Self> {
        if !has_program("ip") {
            return None;
        }
        drop(Veth);
        let [near, far] = Self::ENDS;
        // net_af_packet makes the number of a socket's group of its process and the interface, and those of two processes must differ:
        // indices as far apart as process ids that follow each other never are
        let link = format!("link add {near} index 70001 type veth peer name {far} index 74002");
        if !ip(&link) {
            tapline_skip::skipped("no permission to make a veth pair");
            return None;
        }
        for end in Self::ENDS {
            // the kernel has nothing to say there
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
            assert!(ip(&format!("link set {end} up")));
        }
        Some(Self)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        ip(&format!("link del {}", Self::ENDS[0]));
    }
}

#[test]
fn mirrors_over_a_veth_pair_bring_every_packet_in_order() {
    let Some(_veth) = Veth::new() else { return };
    // what fits the link beside the headers of ERSPAN III
    let packets: Vec<Timed> =
        sent_packets().into_iter().filter(|packet| packet.bytes.len() <= 1400).collect();
    assert!(packets.len() > 1000, "{}", packets.len());
    // rings that hold all of them
    let device = |end: &str| format!("net_af_packet0,iface={end},framecnt=8192");
    let ends = "src 198.18.0.1 dst 198.18.0.9";
    let run = |words: &str, terminate: &str| {
        between(&Lab::new(), &device(Veth::ENDS[1]), &device(Veth::ENDS[0]), &packets, words, terminate).0
    };
    let got = run(&format!("erspan3 session 7 {ends} timestamp erspan3"), "erspan to 198.18.0.9 session 7");
    assert_same("erspan3", &got, &packets);
    let got = run(&format!("vxlan vni 9 {ends}"), "vxlan to 198.18.0.9 vni 9");
    let untimed = |packets: &[Timed]| {
        packets.iter().map(|packet| Timed { ns: 0, ..packet.clone() }).collect::<Vec<_>>()
    };
    assert_same("vxlan", &untimed(&got), &untimed(&packets));
}

#[test]
fn a_slice_into_a_capture_keeps_time_and_original_length_as_editcap_does() {
    if !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &office());
    let pipeline = "port attach in replay:in.cap,speed=max\ntool create t capture of-tool.pcapng slice 64\n\
                    tool create r capture of-rule.pcapng\nrule create 10 from in to t\nrule create 20 from in slice 64 to r\n";
    lab.account(pipeline, &[]);
    let arguments = ["-F", "nsecpcap", "-s", "64", "in.cap", "expected.pcap"];
    run_in(&lab.path(""), "editcap", &arguments);
    let expected = read(&lab.path("expected.pcap"));
    assert!(expected.iter().any(|packet| packet.bytes.len() == 64 && packet.original_len > 5000));
    assert_same("slice of the tool", &read(&lab.path("of-tool.pcapng")), &expected);
    assert_same("slice of the rule", &read(&lab.path("of-rule.pcapng")), &expected);
}

#[test]
fn lengths_on_the_wire_below_the_captured_ones_are_kept_as_the_record_has_them() {
    let lab = Lab::new();
    let mut packets: Vec<Timed> = office().into_iter().take(300).collect();
    for (index, packet) in packets.iter_mut().enumerate() {
        let len = packet.bytes.len() as u32;
        packet.original_len = [0, 20, len - 1, len, len + 1, packet.original_len][index % 6];
    }
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let pipeline = "port attach in replay:in.cap,speed=max\n\
                    tool create plain capture plain.pcapng\n\
                    tool create cut capture cut.pcapng slice 50\n\
                    tool create tagged capture tagged.pcapng tag vlan 7\n\
                    tool create stamped capture stamped.pcapng timestamp metamako\n\
                    rule create 10 from in to plain,cut,tagged,stamped\n";
    lab.account(pipeline, &[]);
    let read = |name: &str| read(&lab.path(name));
    assert_same("as it came", &read("plain.pcapng"), &packets);
    let cut = |packet: &Timed| Timed {
        bytes: packet.bytes[..packet.bytes.len().min(50)].to_vec(),
        ..packet.clone()
    };
    assert_same("cut", &read("cut.pcapng"), &packets.iter().map(cut).collect::<Vec<_>>());
    // what is added to the bytes is added to the length
    for (name, added) in [("tagged.pcapng", 4), ("stamped.pcapng", 16)] {
        let lens = |packets: &[Timed], added| -> Vec<(usize, u32)> {
            let lens = |packet: &Timed| (packet.bytes.len() + added, packet.original_len + added as u32);
            packets.iter().map(lens).collect()
        };
        assert_eq!(lens(&read(name), 0), lens(&packets, added), "{name}");
    }
}

#[test]
fn a_replay_filtered_and_stripped_is_what_tcpdump_and_editcap_leave_of_it() {
    if !has_program("tcpdump") || !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    let packets = whole_packets();
    let vxlan = |vni| Encapsulation::Vxlan { vni, udp_port: None, udp_checksum: None };
    let tunnels = [
        carried(&tunnel("198.18.0.9", vxlan(5)), &packets),
        carried(&tunnel("198.18.0.8", vxlan(6)), &packets),
    ];
    // plain packets and those of two tunnels in turn
    let mixed = packets.iter().zip(tunnels[0].iter().zip(&tunnels[1]));
    let mixed: Vec<Timed> =
        mixed.flat_map(|(plain, (one, two))| [plain.clone(), one.clone(), two.clone()]).collect();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &mixed);
    let expression = "udp dst port 4789 and dst host 198.18.0.9";
    let pipeline = format!(
        "port attach in replay:in.cap,speed=max\ntool create t capture out.pcapng\n\
         rule create 10 from in match \"{expression}\" strip vxlan to t\n"
    );
    let account = lab.account(&pipeline, &[]);
    assert_eq!(account.number("packets/unmatched"), 2 * packets.len() as u64);
    let run = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).current_dir(lab.path("")).output().expect("it runs");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let selected =
        run("tcpdump", &["--time-stamp-precision=nano", "-r", "in.cap", "-w", "-", "--", expression]);
    lab.write("selected.pcap", selected);
    // Ethernet, IPv4, UDP and VXLAN
    run("editcap", &["-F", "nsecpcap", "-L", "-C", "50", "selected.pcap", "expected.pcap"]);
    let expected = read(&lab.path("expected.pcap"));
    assert_eq!(expected.len(), packets.len());
    assert_same("stripped", &read(&lab.path("out.pcapng")), &expected);
}
