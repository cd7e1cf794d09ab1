//! Captures of other link layers as ports: what comes out is what tshark reads of the file, behind Ethernet headers.

use std::process::Command;

use tapline_capture::{ByteOrder, Interface, LinkType, Packet, Writer};
use tapline_harness::judges::number;
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_program;

use super::packets::{Timed, office};

/// A link layer: its number, the header in front of an IP packet of this ethertype, and whether it carries others, too.
struct LinkLayer {
    number: u32,
    header: fn(u16) -> Vec<u8>,
    carries_all: bool,
}

fn family(ethertype: u16, v6: u8, order: ByteOrder) -> Vec<u8> {
    let family = if ethertype == 0x0800 { 2 } else { v6 };
    match order {
        ByteOrder::Little => vec![family, 0, 0, 0],
        ByteOrder::Big => vec![0, 0, 0, family],
    }
}

fn ppp(ethertype: u16) -> Vec<u8> {
    vec![0, if ethertype == 0x0800 { 0x21 } else { 0x57 }]
}

fn sll(ethertype: u16) -> Vec<u8> {
    [&[0, 3, 0, 1, 0, 6, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0][..], &ethertype.to_be_bytes()].concat()
}

fn sll2(ethertype: u16) -> Vec<u8> {
    let rest = [0, 0, 0, 0, 0, 7, 0, 1, 0, 6, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0];
    [&ethertype.to_be_bytes()[..], &rest].concat()
}

fn layer(number: u32, header: fn(u16) -> Vec<u8>) -> LinkLayer {
    LinkLayer { number, header, carries_all: matches!(number, 113 | 276) }
}

fn layers() -> Vec<LinkLayer> {
    vec![
        layer(0, |ethertype| family(ethertype, 24, ByteOrder::Little)),
        layer(0, |ethertype| family(ethertype, 28, ByteOrder::Big)),
        layer(0, |ethertype| family(ethertype, 30, ByteOrder::Little)),
        layer(108, |ethertype| family(ethertype, 24, ByteOrder::Big)),
        layer(9, ppp),
        layer(9, |ethertype| [&[0xff, 0x03][..], &ppp(ethertype)].concat()),
        layer(50, |ethertype| [&[0xff, 0x03][..], &ppp(ethertype)].concat()),
        layer(50, |ethertype| [&[0x0f, 0x00][..], &ethertype.to_be_bytes()].concat()),
        layer(12, |_| Vec::new()),
        layer(14, |_| Vec::new()),
        layer(101, |_| Vec::new()),
        layer(113, sll),
        layer(276, sll2),
    ]
}

/// The office's packets in a file of this link layer, and how many of them are no IP in one that carries nothing else. Those get the
/// header of IPv6 with a version or a number that nothing has.
fn write(lab: &Lab, name: &str, layer: &LinkLayer, order: ByteOrder) -> (Vec<Timed>, usize) {
    let file = std::fs::File::create(lab.path(name)).expect("a writable folder");
    let mut writer =
        Writer::pcap(file, order, true, LinkType(layer.number), 262_144).expect("a writable file");
    let (mut kept, mut foreign) = (Vec::new(), 0);
    for packet in office() {
        let ethertype = u16::from_be_bytes([packet.bytes[12], packet.bytes[13]]);
        let is_carried = matches!(ethertype, 0x0800 | 0x86dd) || layer.carries_all && ethertype >= 0x600;
        let mut header = (layer.header)(ethertype);
        let len = header.len();
        let mut payload = packet.bytes[14..].to_vec();
        if !is_carried {
            foreign += 1;
            // a family, a protocol, a version that nothing has
            match header.as_mut_slice() {
                [] => payload[0] = 0x70,
                header => header[len.saturating_sub(4)..].fill(0x01),
            }
        }
        let bytes = [header, payload].concat();
        let original_len = packet.original_len - 14 + len as u32;
        let record = Packet {
            interface: tapline_capture::InterfaceId(0),
            time_ns: packet.ns,
            bytes: &bytes,
            original_len,
            comments: &[],
        };
        writer.write(&record).expect("a writable file");
        if is_carried {
            kept.push(Timed { ns: packet.ns, original_len, bytes });
        }
    }
    writer.finish().expect("a writable file");
    (kept, foreign)
}

/// What tshark reads of a file: by packet its time, its lengths less `header_len`, and all addresses and ports.
fn seen_by_tshark(lab: &Lab, name: &str, header_len: u64, filter: &str) -> Vec<String> {
    let fields = [
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "ip.src",
        "ip.dst",
        "ip.len",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.plen",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "udp.srcport",
        "udp.dstport",
        "arp.src.proto_ipv4",
        "vlan.id",
    ];
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r", name, "-T", "fields"]).current_dir(lab.path(""));
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    if !filter.is_empty() {
        tshark.args(["-Y", filter]);
    }
    let output = tshark.output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    lines
        .lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            for len in &mut fields[1..3] {
                *len = (len.parse::<u64>().expect("a length") - header_len).to_string();
            }
            fields.join(" ")
        })
        .collect()
}

const WHOLE: &str = "port attach in replay:in.cap,speed=max\ntool create t capture out.pcapng\nrule create 10 from in to t\n";

#[test]
fn packets_of_every_link_layer_come_in_as_tshark_reads_them() {
    if !has_program("tshark") {
        return;
    }
    for layer in layers() {
        let what = format!("link type {} with {:02x?}", layer.number, (layer.header)(0x86dd));
        let lab = Lab::new();
        let order =
            if (layer.header)(0x0800).first() == Some(&0) { ByteOrder::Big } else { ByteOrder::Little };
        let (kept, foreign) = write(&lab, "in.cap", &layer, order);
        let account = lab.account(WHOLE, &[]);
        assert_eq!(account.number("ports/in/received"), kept.len() as u64, "{what}");
        assert_eq!(account.number("ports/in/replay/passed_over"), foreign as u64, "{what}");
        let header_len = (layer.header)(0x0800).len() as u64;
        let filter = if layer.carries_all { "" } else { "ip or ipv6" };
        let expected = seen_by_tshark(&lab, "in.cap", header_len, filter);
        let got = seen_by_tshark(&lab, "out.pcapng", 14, "");
        assert_eq!(got.len(), kept.len(), "{what}");
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got, expected, "{what}");
        }
        assert_eq!(got.len(), expected.len(), "{what}");
    }
}

#[test]
fn pppoe_without_ethernet_comes_in_as_the_packet_that_it_carries() {
    if !has_program("tshark") {
        return;
    }
    // tshark wants the length of what follows in the header
    let lab = Lab::new();
    let file = std::fs::File::create(lab.path("in.cap")).expect("a writable folder");
    let mut writer =
        Writer::pcap(file, ByteOrder::Little, true, LinkType(51), 262_144).expect("a writable file");
    let mut count = 0;
    for packet in office() {
        let ethertype = u16::from_be_bytes([packet.bytes[12], packet.bytes[13]]);
        if !matches!(ethertype, 0x0800 | 0x86dd) {
            continue;
        }
        let len = (packet.original_len - 14 + 2) as u16;
        let header = [&[0x11, 0, 0, 9][..], &len.to_be_bytes(), &ppp(ethertype)].concat();
        let bytes = [&header, &packet.bytes[14..]].concat();
        let record = Packet {
            interface: tapline_capture::InterfaceId(0),
            time_ns: packet.ns,
            bytes: &bytes,
            original_len: packet.original_len - 14 + 8,
            comments: &[],
        };
        writer.write(&record).expect("a writable file");
        count += 1;
    }
    writer.finish().expect("a writable file");
    lab.account(WHOLE, &[]);
    let got = seen_by_tshark(&lab, "out.pcapng", 14, "");
    assert_eq!(got.len(), count);
    assert_eq!(got, seen_by_tshark(&lab, "in.cap", 8, ""));
}

#[test]
fn filters_select_of_them_what_tcpdump_selects_of_the_file() {
    if !has_program("tcpdump") {
        return;
    }
    for layer in layers() {
        // libpcap takes OpenBSD's number for raw IP for nothing on Linux, and looks for PPP behind two bytes that need not be there
        if layer.number == 14
            || (layer.number, (layer.header)(0x0800).len()) == (9, 2)
            || layer.number == 50 && (layer.header)(0x0800)[0] == 0x0f
        {
            continue;
        }
        let what = format!("link type {}", layer.number);
        let lab = Lab::new();
        let order =
            if (layer.header)(0x0800).first() == Some(&0) { ByteOrder::Big } else { ByteOrder::Little };
        write(&lab, "in.cap", &layer, order);
        let expressions = ["tcp port 80 or tcp port 443", "udp", "ip6", "ip and not tcp"];
        let rules = expressions.iter().enumerate().map(|(index, expression)| {
            format!(
                "tool create t{index} discard\nrule create {} from in match \"{expression}\" to t{index}\n",
                10 + index
            )
        });
        let account = lab.account(
            &format!("port attach in replay:in.cap,speed=max\n{}", rules.collect::<String>()),
            &[],
        );
        for (index, expression) in expressions.iter().enumerate() {
            let arguments = ["-r", "in.cap", "-w", "expected.pcap", "--", expression];
            let mut tcpdump = Command::new("tcpdump");
            let output = tcpdump.args(arguments).current_dir(lab.path("")).output().expect("tcpdump runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let expected = tapline_harness::captures::timed(&lab.path("expected.pcap")).len() as u64;
            assert_eq!(account.number(&format!("tools/t{index}/sent")), expected, "{expression} of {what}");
            assert!(expected > 0, "{expression} of {what}");
        }
    }
}

#[test]
fn interfaces_of_several_link_layers_in_one_file_are_one_stream_of_frames() {
    let lab = Lab::new();
    let file = std::fs::File::create(lab.path("in.cap")).expect("a writable folder");
    let mut writer = Writer::pcapng(file, ByteOrder::Big).expect("a writable file");
    let interfaces = [1, 101, 113, 105].map(|link_type| {
        writer.add_interface(&Interface::new(LinkType(link_type), 0, None)).expect("a writable file")
    });
    let packets = office();
    let mut expected = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        let ethertype = u16::from_be_bytes([packet.bytes[12], packet.bytes[13]]);
        let is_ip = matches!(ethertype, 0x0800 | 0x86dd);
        let (addresses, header): ([u8; 12], Vec<u8>) = match index % 4 {
            1 => ([0; 12], Vec::new()),
            2 => ([0, 0, 0, 0, 0, 0, 2, 0x11, 0x22, 0x33, 0x44, 0x55], sll(ethertype)),
            _ => ([0; 12], packet.bytes[..14].to_vec()),
        };
        let bytes = [&header, &packet.bytes[14..]].concat();
        let record = Packet {
            interface: interfaces[index % 4],
            time_ns: packet.ns,
            bytes: &bytes,
            original_len: packet.original_len - 14 + header.len() as u32,
            comments: &[],
        };
        writer.write(&record).expect("a writable file");
        let mut frame = packet.clone();
        match index % 4 {
            0 => expected.push(frame),
            1 if !is_ip => {}
            3 => {}
            _ => {
                frame.bytes[..12].copy_from_slice(&addresses);
                expected.push(frame);
            }
        }
    }
    writer.finish().expect("a writable file");
    let ended = lab.run(WHOLE, &[]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let last = ended.stats.last().expect("statistics");
    assert_eq!(number(last, "ports/in/replay/passed_over"), (packets.len() - expected.len()) as u64);
    super::packets::assert_same("mixed", &super::packets::read(&lab.path("out.pcapng")), &expected);
}
