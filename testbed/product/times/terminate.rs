//! Tunnels that end at a port: the frames inside come out as they went in, with what the tunnel says of them.

use tapline_api::words::Granularity;
use tapline_capture::ByteOrder;
use tapline_datapath::copies::facts::{CopyFacts, Stamp};
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, MAX_HEADER_BYTES, Outer, Subheader, Transport,
};
use tapline_harness::captures;
use tapline_harness::judges::{self, number};
use tapline_harness::lab::Lab;
use tapline_harness::programs::{has_program, run_in};
use tapline_packet::headers::ethernet::MacAddress;

use super::packets::{Form, Timed, assert_same, office, read, write};

pub(super) fn tunnel(destination: &str, encapsulation: Encapsulation) -> Transport {
    let outer = Outer {
        source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        destination_mac: MacAddress([2, 0, 0, 0, 0, 9]),
        vlan: None,
        source: if destination.contains(':') { "2001:db8::1" } else { "198.18.0.1" }
            .parse()
            .expect("an address"),
        destination: destination.parse().expect("an address"),
        dscp: 0,
        ttl: 64,
        dont_fragment: false,
    };
    Transport::tunnel(&outer, &encapsulation).expect("it is valid")
}

fn erspan3(session: u16) -> Encapsulation {
    Encapsulation::Erspan3(Erspan3 {
        session,
        cos: None,
        direction: None,
        security_group_tag: 0,
        hardware: None,
        granularity: Granularity::Ieee1588,
        subheader: Subheader::Seconds { switch: 0 },
    })
}

/// Packets that fit an outer packet of 64 KiB and are whole.
pub(super) fn whole_packets() -> Vec<Timed> {
    office().into_iter().filter(|packet| packet.bytes.len() == packet.original_len as usize).collect()
}

/// Packets as the tunnel carries them, received an hour after they were sent.
pub(super) fn carried(transport: &Transport, packets: &[Timed]) -> Vec<Timed> {
    let mut header = [0; MAX_HEADER_BYTES];
    let carry = |(index, packet): (usize, &Timed)| {
        let stamp = Stamp { ns: packet.ns, ..Stamp::default() };
        let facts = CopyFacts { stamp, sequence: index as u32, ..CopyFacts::default() };
        let written = transport.write(&facts, &[&packet.bytes], &mut header);
        let bytes = [&header[..written.header_bytes], &packet.bytes[written.replaced_bytes..]].concat();
        Timed { ns: packet.ns + 3_600_000_000_000, original_len: bytes.len() as u32, bytes }
    };
    packets.iter().enumerate().map(carry).collect()
}

fn pipeline(terminate: &str) -> String {
    format!(
        "port attach in replay:in.cap,speed=max terminate {terminate}\ntool create t capture out.pcapng\nrule create 10 from in to t\n"
    )
}

#[test]
fn frames_come_out_of_every_tunnel_as_they_went_in() {
    let vni = 0xabcdef;
    for (word, encapsulation) in [
        ("vxlan", Encapsulation::Vxlan { vni, udp_port: None, udp_checksum: None }),
        ("geneve", Encapsulation::Geneve { vni, udp_port: None, udp_checksum: Some(true) }),
        ("gre", Encapsulation::Gre { key: Some(7) }),
        ("erspan", Encapsulation::Erspan1),
        ("erspan", Encapsulation::Erspan2(Erspan2 { session: 77, cos: None, index: None })),
        ("erspan", erspan3(77)),
    ] {
        for destination in ["198.18.0.9", "2001:db8::9"] {
            let lab = Lab::new();
            let packets = whole_packets();
            let outer = carried(&tunnel(destination, encapsulation.clone()), &packets);
            write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &outer);
            let account = lab.account(&pipeline(&format!("{word} to {destination}")), &[]);
            let has_time = matches!(encapsulation, Encapsulation::Erspan3(_));
            let time = |(packet, outer): (&Timed, &Timed)| Timed {
                ns: if has_time { packet.ns } else { outer.ns },
                ..packet.clone()
            };
            let expected: Vec<Timed> = packets.iter().zip(&outer).map(time).collect();
            assert_same(
                &format!("{encapsulation:?} to {destination}"),
                &read(&lab.path("out.pcapng")),
                &expected,
            );
            let terminate = &account.last()["ports"]["in"]["terminate"];
            let timed = if has_time { packets.len() } else { 0 };
            assert_eq!(
                (number(terminate, "terminated"), number(terminate, "timed")),
                (packets.len() as u64, timed as u64)
            );
        }
    }
}

#[test]
fn a_captured_tunnel_gives_what_editcap_leaves_of_it() {
    let capture = captures::place().join("zeek/tunnels/vxlan-encapsulated-http.pcap");
    if !capture.is_file() {
        return tapline_skip::skipped("no captures");
    }
    if !has_program("editcap") {
        return;
    }
    let lab = Lab::new();
    std::fs::copy(&capture, lab.path("in.cap")).expect("a readable capture");
    // Ethernet, IPv4, UDP and VXLAN
    let arguments = ["-F", "nsecpcap", "-L", "-C", "50", "in.cap", "expected.pcap"];
    run_in(&lab.path(""), "editcap", &arguments);
    lab.account(&pipeline("vxlan"), &[]);
    let expected = read(&lab.path("expected.pcap"));
    assert!(!expected.is_empty());
    assert_same("chopped", &read(&lab.path("out.pcapng")), &expected);
}

#[test]
fn what_was_lost_upstream_is_counted_by_session() {
    let lab = Lab::new();
    let packets = whole_packets();
    let mut outer = carried(&tunnel("198.18.0.9", erspan3(1)), &packets);
    let other = carried(
        &tunnel("198.18.0.9", Encapsulation::Erspan2(Erspan2 { session: 2, cos: None, index: None })),
        &packets[..100],
    );
    outer.truncate(500);
    // 3 of session 1 are lost, two neighbours change places, one comes twice
    outer.drain(100..103);
    outer.swap(200, 201);
    outer.insert(301, outer[300].clone());
    outer.extend(other);
    write(&lab.path("in.cap"), Form::Pcapng(ByteOrder::Little), &outer);
    let account = lab.account(&pipeline("erspan session 1-9"), &[]);
    let terminate = &account.last()["ports"]["in"]["terminate"];
    let sessions = terminate["sessions"].as_array().expect("sessions");
    let of = |place: usize, key: &str| number(&sessions[place], key);
    assert_eq!(sessions.len(), 2, "{terminate}");
    let words = ["session", "received", "lost", "reordered", "duplicate", "late", "restarts"];
    assert_eq!(words.map(|word| of(0, word)), [1, 498, 3, 1, 1, 0, 0], "{terminate}");
    assert_eq!(words.map(|word| of(1, word)), [2, 100, 0, 0, 0, 0, 0], "{terminate}");
    assert_eq!(
        (sessions[0]["tunnel"].as_str(), sessions[0]["source"].as_str()),
        (Some("erspan"), Some("198.18.0.1"))
    );
}

#[test]
fn what_is_of_no_tunnel_is_seen_by_no_rule_and_counted_by_its_reason() {
    let lab = Lab::new();
    let packets: Vec<Timed> = whole_packets().into_iter().take(50).collect();
    let vxlan = |vni| Encapsulation::Vxlan { vni, udp_port: None, udp_checksum: None };
    let mut all = carried(&tunnel("198.18.0.9", vxlan(150)), &packets);
    all.extend(carried(&tunnel("198.18.0.8", vxlan(150)), &packets[..7]));
    all.extend(carried(&tunnel("198.18.0.9", vxlan(99)), &packets[..5]));
    // the inner frame of the last three is a fragment's part
    let mut fragments = carried(&tunnel("198.18.0.9", vxlan(150)), &packets[..3]);
    fragments.iter_mut().for_each(|packet| packet.bytes[20] |= 0x20);
    all.extend(fragments);
    let plain: Vec<Timed> = packets.iter().take(11).cloned().collect();
    all.extend(plain);
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &all);
    let rules = "rule create 5 from in vni 150 to v\ntool create v discard\n";
    let account = lab.account(&format!("{}{rules}", pipeline("vxlan to 198.18.0.9 vni 100-200")), &[]);
    let refused = &account.last()["ports"]["in"]["terminate"]["refused"];
    let counts =
        ["other_address", "other_sender", "other_identifier", "fragment", "other_traffic", "malformed"]
            .map(|reason| number(refused, reason));
    assert_eq!(counts, [7, 0, 5, 3, 11, 0], "{refused}");
    assert_eq!((account.number("packets/delivered"), account.number("packets/unmatched")), (50, 26));
    assert_eq!(account.number("tools/v/sent"), 50, "rules see the number of the tunnel that ended");
    let out: Vec<Vec<u8>> = read(&lab.path("out.pcapng")).into_iter().map(|packet| packet.bytes).collect();
    let expected: Vec<Vec<u8>> = packets.into_iter().map(|packet| packet.bytes).collect();
    judges::assert_same("inside", &out, &expected);
}

#[test]
fn tunnels_of_senders_that_are_not_named_are_refused() {
    let lab = Lab::new();
    let packets: Vec<Timed> = whole_packets().into_iter().take(50).collect();
    let gre = tunnel("198.18.0.9", Encapsulation::Gre { key: None });
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &carried(&gre, &packets));
    for (from, terminated) in [("198.18.0.0/30", 50), ("10.0.0.0/8,198.18.0.2,::/0", 0)] {
        let account = lab.account(&pipeline(&format!("gre from {from}")), &[]);
        let ends = &account.last()["ports"]["in"]["terminate"];
        assert_eq!(number(ends, "terminated"), terminated, "{ends}");
        assert_eq!(number(&ends["refused"], "other_sender"), 50 - terminated, "{ends}");
    }
}

#[test]
fn long_frames_and_cut_ones_keep_their_bytes_and_lengths() {
    let lab = Lab::new();
    let packets: Vec<Timed> =
        whole_packets().into_iter().filter(|packet| packet.bytes.len() > 1000).collect();
    assert!(packets.iter().any(|packet| packet.bytes.len() > 5000));
    let mut outer = carried(&tunnel("198.18.0.9", Encapsulation::Gre { key: None }), &packets);
    let mut expected: Vec<Timed> = packets
        .iter()
        .zip(&outer)
        .map(|(packet, outer)| Timed { ns: outer.ns, ..packet.clone() })
        .collect();
    for (index, (packet, outer)) in expected.iter_mut().zip(&mut outer).enumerate() {
        let keep = outer.bytes.len() - index % 900;
        outer.bytes.truncate(keep);
        packet.bytes.truncate(keep - 38);
    }
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &outer);
    // a second terminator on the port is tried where the first finds nothing; one filter looks at the length on the wire
    let filter = "filter create long \"greater 1000\"\n";
    let text = format!(
        "{filter}{}",
        pipeline("vxlan terminate gre").replace("from in to", "from in match long to")
    );
    lab.account(&text, &[]);
    assert_same("long and cut", &read(&lab.path("out.pcapng")), &expected);
}

#[test]
fn tunnels_of_length_0_end_with_their_frame_captured_or_not() {
    let gre = Encapsulation::Gre { key: Some(7) };
    for (destination, length_at) in [("198.18.0.9", 16), ("2001:db8::9", 18)] {
        let lab = Lab::new();
        let packets = whole_packets();
        let mut outer = carried(&tunnel(destination, gre.clone()), &packets);
        let header_len = outer[0].bytes.len() - packets[0].bytes.len();
        for (index, outer) in outer.iter_mut().enumerate() {
            outer.bytes[length_at..length_at + 2].fill(0);
            // every other one was cut when it was captured
            if index % 2 == 1 {
                outer.bytes.truncate(header_len + 40);
            }
        }
        write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &outer);
        let account = lab.account(&pipeline(&format!("gre to {destination}")), &[]);
        let inside = |(packet, outer): (&Timed, &Timed)| {
            let mut packet = Timed { ns: outer.ns, ..packet.clone() };
            packet.bytes.truncate(outer.bytes.len() - header_len);
            packet
        };
        let expected: Vec<Timed> = packets.iter().zip(&outer).map(inside).collect();
        assert_same(destination, &read(&lab.path("out.pcapng")), &expected);
        assert_eq!(account.number("ports/in/terminate/terminated"), packets.len() as u64);
    }
}

#[test]
fn a_side_of_a_wire_terminates_nothing() {
    let lab = Lab::new();
    let pipeline =
        "port attach a net_null0 terminate gre\nport attach b net_null1\nwire create w ports a,b\n";
    let error = lab.run(pipeline, &[]).failed(2);
    assert!(error.contains("port `a` is a side of a wire"), "{error}");
}
