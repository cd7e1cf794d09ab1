//! `tapline filter` selects what tcpdump selects, and keeps records byte for byte.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tapline_capture::{ByteOrder, Interface, LinkType, Packet, Writer};
use tapline_harness::programs::{has_programs, run};
use tapline_traffic::packets;

use super::support::{captures, libpcap_packets, output, tapline_filter, text};

const EXPRESSIONS: [&str; 37] = [
    "",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp or icmp6",
    "tcp port 80 or tcp port 443",
    "tcp port 9",
    "udp port 53",
    "port 53",
    "portrange 1024-5000",
    "src portrange 30000-65535",
    "host 10.0.0.1",
    "net 192.168.0.0/16",
    "src net 10.0.0.0/8 and not dst net 10.0.0.0/8",
    "ip6 net fe80::/10",
    "ip6 proto 17",
    "ether multicast",
    "ether broadcast",
    "ether host 00:11:22:33:44:55",
    "greater 200",
    "less 80",
    "len > 1000 and len < 1400",
    "vlan",
    "vlan and tcp",
    "vlan 100 or (vlan and ip6)",
    "mpls",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] = 0x12 or udp[4:2] > 100",
    "ip[6:2] & 0x1fff != 0",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 500",
    "not ip and not arp and not ip6",
    "ether[len - 4:4] != 0 or proto 47",
    "ip6 protochain 58",
    "ip protochain 6 and port 80",
    "protochain 17 or vlan",
];

/// Runs both over `input` and compares the files that they write. Returns whether tcpdump took the expression.
fn compare(input: &Path, expression: &str, folder: &Path) -> bool {
    let (theirs, ours) = (folder.join("theirs.pcap"), folder.join("ours.pcap"));
    let _ = std::fs::remove_file(&theirs);
    let status = Command::new("tcpdump")
        .args(["-Z", "root", "-r", text(input), "-w", text(&theirs), expression])
        .stderr(Stdio::null())
        .status()
        .expect("tcpdump is installed");
    if !theirs.exists() {
        return false;
    }
    let result = tapline_filter(&["-r", text(input), "-w", text(&ours), expression]);
    let place = format!("{} `{expression}`", input.display());
    assert_eq!(result.is_ok(), status.success(), "{place}: {result:?}");
    assert!(
        std::fs::read(&ours).expect("written") == std::fs::read(&theirs).expect("written"),
        "{place}: the files differ"
    );
    true
}

/// The captures that are classic pcap with microseconds in native order, which tcpdump writes.
fn classic() -> Vec<PathBuf> {
    let is_classic = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(&0xa1b2_c3d4u32.to_ne_bytes()))
    };
    captures().into_iter().filter(is_classic).collect()
}

#[test]
fn every_expression_selects_the_packets_of_tcpdump_from_all_captures_together() {
    let captures = classic();
    if captures.is_empty() || !has_programs(&["tcpdump", "mergecap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let merged = folder.path().join("all.pcap");
    let sound =
        captures.iter().filter(|path| libpcap_packets(path).is_some_and(|packets| !packets.is_empty()));
    let inputs: Vec<&str> = sound.map(|path| text(path)).collect();
    // Damaged captures make mergecap complain and go on.
    output("mergecap", &[&["-a", "-F", "pcap", "-w", text(&merged)], inputs.as_slice()].concat());
    let packets = libpcap_packets(&merged).expect("written by mergecap").len();
    assert!(packets > 1000);
    for expression in EXPRESSIONS {
        assert!(compare(&merged, expression, folder.path()), "tcpdump takes `{expression}`");
    }
    println!("{packets} packets of {} captures, {} expressions", inputs.len(), EXPRESSIONS.len());
}

/// Every capture by itself with some of the expressions: snapped, damaged and empty ones keep what makes them odd.
#[test]
fn each_capture_gives_the_file_that_tcpdump_writes() {
    let captures = classic();
    if captures.is_empty() || !has_programs(&["tcpdump"]) {
        return;
    }
    // All of them with TAPLINE_THOROUGH, which takes minutes.
    let step = if std::env::var_os("TAPLINE_THOROUGH").is_some() { 1 } else { 12 };
    let folder = tempfile::tempdir().expect("a folder");
    let mut compared = 0;
    for (index, capture) in captures.iter().enumerate() {
        for expression in EXPRESSIONS.iter().skip(index % step).step_by(step) {
            compared += usize::from(compare(capture, expression, folder.path()));
        }
    }
    assert!(compared > captures.len());
    println!("{compared} comparisons over {} captures", captures.len());
}

#[test]
fn pcapng_is_selected_with_all_that_belongs_to_a_packet() {
    let captures = captures();
    if captures.is_empty() || !has_programs(&["mergecap", "editcap", "tshark"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (merged, input, ours) = (path("merged.pcapng"), path("input.pcapng"), path("ours.pcapng"));
    let readable =
        captures.iter().filter(|path| libpcap_packets(path).is_some_and(|packets| !packets.is_empty()));
    let inputs: Vec<&str> = readable.step_by(50).map(|path| text(path)).collect();
    run("mergecap", &[&["-F", "pcapng", "-I", "none", "-w", text(&merged)], inputs.as_slice()].concat());
    run("editcap", &["-a", "1:first", "-a", "3:third", "-a", "20:twentieth", text(&merged), text(&input)]);

    let shown = |path: &Path, filter: &str| {
        let fields = [
            "frame.time_epoch",
            "frame.cap_len",
            "frame.len",
            "frame.interface_id",
            "frame.comment",
            "frame.md5_hash",
        ];
        let args =
            ["-n", "-o", "frame.generate_md5_hash:TRUE", "-r", text(path), "-Y", filter, "-T", "fields"];
        let args: Vec<&str> =
            args.into_iter().chain(fields.iter().flat_map(|field| ["-e", field])).collect();
        output("tshark", &args)
    };
    for (expression, display_filter) in
        [("", "frame"), ("greater 100", "frame.len >= 100"), ("ether[12:2] = 0x86dd", "eth.type == 0x86dd")]
    {
        tapline_filter(&["-r", text(&input), "-w", text(&ours), expression]).expect("a sound file");
        run("capinfos", &[text(&ours)]);
        assert_eq!(shown(&ours, "frame"), shown(&input, display_filter), "{expression}");
    }
    // With every packet kept, nothing but the length of the section may differ.
    tapline_filter(&["-r", text(&input), "-w", text(&ours)]).expect("a sound file");
    let mut expected = std::fs::read(&input).expect("written by editcap");
    expected[16..24].fill(0xff);
    assert!(std::fs::read(&ours).expect("written") == expected);
}

#[test]
fn formats_are_converted_without_loss_of_time_or_length() {
    let captures = captures();
    if captures.is_empty() || !has_programs(&["editcap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let source = captures
        .iter()
        .find(|path| libpcap_packets(path).is_some_and(|packets| packets.len() > 20))
        .expect("a capture");
    let (snapped, ns, ng) = (path("snapped.pcap"), path("in.ns"), path("in.pcapng"));
    run("editcap", &["-F", "pcap", "-s", "60", text(source), text(&snapped)]);
    run("editcap", &["-F", "nsecpcap", "-t", "0.000000123", text(&snapped), text(&ns)]);
    run("editcap", &["-F", "pcapng", text(&ns), text(&ng)]);
    let exact = libpcap_packets(&ns).expect("written by editcap");
    let cut: Vec<_> = exact
        .iter()
        .cloned()
        .map(|packet| super::support::PlainPacket { time_ns: packet.time_ns / 1000 * 1000, ..packet })
        .collect();
    let magic_of = |path: &Path| {
        u32::from_ne_bytes(std::fs::read(path).expect("written")[..4].try_into().expect("a header"))
    };

    for (input, format, out, expected, magic) in [
        (&ns, None, "a.pcapng", &exact, 0x0a0d_0d0a),
        (&ns, None, "a.pcap", &exact, 0xa1b2_3c4d),
        (&ns, None, "a.out", &exact, 0xa1b2_3c4d),
        (&ns, Some("pcap"), "a.pcapng", &cut, 0xa1b2_c3d4),
        (&ns, Some("pcapng"), "a.pcap", &exact, 0x0a0d_0d0a),
        (&ng, None, "a.pcap", &exact, 0xa1b2_3c4d),
        (&ng, None, "a.out", &exact, 0x0a0d_0d0a),
        (&ng, Some("pcap"), "a.out", &cut, 0xa1b2_c3d4),
        (&ng, Some("nsecpcap"), "a.out", &exact, 0xa1b2_3c4d),
        (&snapped, None, "a.pcapng", &libpcap_packets(&snapped).expect("written by editcap"), 0x0a0d_0d0a),
        (
            &snapped,
            Some("nsecpcap"),
            "a.out",
            &libpcap_packets(&snapped).expect("written by editcap"),
            0xa1b2_3c4d,
        ),
    ] {
        let out = path(out);
        let mut args = vec!["-r", text(input), "-w", text(&out)];
        args.extend(format.iter().flat_map(|format| ["--format", format]));
        tapline_filter(&args).expect("a sound file");
        assert_eq!(&libpcap_packets(&out).expect("a capture"), expected, "{args:?}");
        assert_eq!(magic_of(&out), magic, "{args:?}");
    }
}

#[test]
fn through_vlan_selects_what_tcpdump_selects_without_the_tags() {
    let tagged = captures().into_iter().find(|path| path.ends_with("http-vlan-0.pcap"));
    let Some(tagged) = tagged.filter(|_| has_programs(&["tcpdump", "tcprewrite"])) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (bare, theirs, ours) = (
        folder.path().join("bare.pcap"),
        folder.path().join("theirs.pcap"),
        folder.path().join("ours.pcap"),
    );
    run("tcprewrite", &["--enet-vlan=del", "-i", text(&tagged), "-o", text(&bare)]);
    let mut selected = 0;
    for expression in ["tcp dst port 80", "tcp[tcpflags] & tcp-syn != 0", "greater 200", "udp"] {
        run("tcpdump", &["-r", text(&bare), "-w", text(&theirs), expression]);
        tapline_filter(&["-r", text(&tagged), "-w", text(&ours), expression, "through", "vlan"])
            .expect("a good capture");
        let times = |path: &Path| {
            libpcap_packets(path)
                .expect("a capture")
                .into_iter()
                .map(|packet| packet.time_ns)
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&ours), times(&theirs), "{expression}");
        selected += times(&ours).len();
    }
    assert!(selected > 0, "the expressions select something");
}

/// A classic pcap of `link_type` in the byte order of `of`, with `frames`.
fn pcap_of(link_type: u32, is_big_endian: bool, frames: &[Vec<u8>]) -> Vec<u8> {
    let of_u32 = |number: u32| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
    let version = if is_big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let mut file = [of_u32(0xa1b2_c3d4), version].concat();
    file.extend([0, 0, 262_144, link_type].map(of_u32).as_flattened());
    for frame in frames {
        let len = frame.len() as u32;
        file.extend([1_700_000_000, 0, len, len].map(of_u32).as_flattened());
        file.extend(frame);
    }
    file
}

/// BSD loopback, its OpenBSD form, ENC, raw IP and Linux cooked: what stands in a file's own byte order, or in that of its writer.
#[test]
fn files_of_other_link_types_and_byte_orders_are_selected_from_as_tcpdump_does() {
    if !has_programs(&["tcpdump"]) {
        return;
    }
    const NULL: u32 = 0;
    const RAW: u32 = 101;
    const LOOP: u32 = 108;
    const ENC: u32 = 109;
    const SLL: u32 = 113;
    const SLL2: u32 = 276;
    let tcp = packets::tcp(1024, 80, b"GET /");
    let ipv4 = packets::ipv4(0x0a00_0001, 0x0a00_0002, 6, 0, &tcp);
    let ipv6 = packets::ipv6(1, 2, 6, &tcp);
    let folder = tempfile::tempdir().expect("a folder");
    let (input, theirs, ours) =
        ["in.pcap", "theirs.pcap", "ours.pcap"].map(|name| folder.path().join(name)).into();
    let mut compared = 0;
    for is_big_endian in [false, true] {
        let host = |number: u32| if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
        let loopback = |family: [u8; 4], packet: &[u8]| [&family[..], packet].concat();
        let cooked = |ethertype: u16, packet: &[u8]| {
            [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ethertype.to_be_bytes(), packet].concat()
        };
        let cooked2 = |ethertype: u16, packet: &[u8]| {
            let rest = [0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
            [&ethertype.to_be_bytes()[..], &rest, packet].concat()
        };
        let enc = |family: u32, packet: &[u8]| [&host(family)[..], &[0; 8], packet].concat();
        let of_families = |header: &dyn Fn(u32) -> [u8; 4]| -> Vec<Vec<u8>> {
            let ipv6s = [10, 24, 28, 30].map(|family| loopback(header(family), &ipv6));
            std::iter::once(loopback(header(2), &ipv4)).chain(ipv6s).collect()
        };
        let files = [
            (NULL, of_families(&host)),
            (LOOP, of_families(&u32::to_be_bytes)),
            (ENC, vec![enc(2, &ipv4), enc(24, &ipv6), enc(28, &ipv6), enc(30, &ipv6)]),
            (RAW, vec![ipv4.clone(), ipv6.clone()]),
            (SLL, vec![cooked(0x0800, &ipv4), cooked(0x86dd, &ipv6)]),
            (SLL2, vec![cooked2(0x0800, &ipv4), cooked2(0x86dd, &ipv6)]),
        ];
        for (link_type, frames) in files {
            std::fs::write(&input, pcap_of(link_type, is_big_endian, &frames)).expect("a file");
            for expression in
                ["ip", "ip6", "tcp port 80", "not ip", "arp", "inbound", "ether host 1:2:3:4:5:6"]
            {
                let _ = std::fs::remove_file(&theirs);
                let run = Command::new("tcpdump")
                    .args(["-Z", "root", "-r", text(&input), "-w", text(&theirs), expression])
                    .output()
                    .expect("tcpdump runs");
                let result = tapline_filter(&["-r", text(&input), "-w", text(&ours), expression]);
                let place = format!("link type {link_type}, big-endian {is_big_endian}, `{expression}`");
                let words = String::from_utf8_lossy(&run.stderr);
                if words.contains("rejects all packets") {
                    result.expect(&place);
                    assert_eq!(libpcap_packets(&ours).expect(&place), [], "{place}");
                    continue;
                }
                assert_eq!(result.is_ok(), run.status.success(), "{place}: {result:?}, {words}");
                if result.is_ok() {
                    assert_eq!(libpcap_packets(&ours), libpcap_packets(&theirs), "{place}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 40, "{compared} comparisons");
}

/// libpcap cannot filter 802.3br mPackets: that is told when one comes, not before.
#[test]
fn an_interface_without_packets_refuses_no_file() {
    const MPACKET: LinkType = LinkType(274);
    let folder = tempfile::tempdir().expect("a folder");
    let (input, ours) = (folder.path().join("in.pcapng"), folder.path().join("ours.pcapng"));
    for with_packet in [false, true] {
        let mut writer = Writer::pcapng(Vec::new(), ByteOrder::NATIVE).expect("a section");
        let other = writer.add_interface(&Interface::new(MPACKET, 0, None)).expect("an interface");
        let ethernet =
            writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, None)).expect("an interface");
        let frame = packets::ethernet(packets::MAC_A, packets::MAC_B, 0x0806, &packets::arp(1, 1, 2));
        let mut write = |interface| {
            let packet = Packet {
                interface,
                time_ns: 1,
                bytes: &frame,
                original_len: frame.len() as u32,
                comments: &[],
            };
            writer.write(&packet).expect("a packet");
        };
        write(ethernet);
        if with_packet {
            write(other);
        }
        std::fs::write(&input, writer.finish().expect("a file")).expect("a file");
        let result = tapline_filter(&["-r", text(&input), "-w", text(&ours), "arp"]);
        assert_eq!(result.is_err(), with_packet, "{result:?}");
        if let Err(error) = result {
            assert!(error.to_string().contains("link type 274"), "{error}");
        }
    }
    // a mistake is one for every link type
    let error =
        tapline_filter(&["-r", text(&input), "-w", text(&ours), "tcp prot 80"]).expect_err("a mistake");
    assert!(error.to_string().contains("syntax error"), "{error}");
}
