//! Copies through every transport, read back by tshark.

use std::net::IpAddr;

use tapline_api::words::{ClockQuality, Direction, Granularity, Oversize, RspanTag};
use tapline_datapath::copies::facts::{CopyFacts, Stamp};
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, Fit, MAX_HEADER_BYTES, Outer, PathRoom, Sequence, Subheader,
    Transport, TransportError,
};
use tapline_harness::frames::{OUTER_DESTINATION, OUTER_SOURCE, TIME_NS, arp, frames, tagged, tcp4, udp4};
use tapline_harness::pcap_files::{read_pcap, write_frames};
use tapline_harness::programs::{has_program, run};
use tapline_harness::tshark::{assert_sound, fields, innermost_ethernet};
use tapline_packet::headers::vlan::VlanTag;

fn outer(is_ipv6: bool, is_tagged: bool) -> Outer {
    let address =
        |v4: &str, v6: &str| -> IpAddr { (if is_ipv6 { v6 } else { v4 }).parse().expect("an address") };
    Outer {
        source_mac: OUTER_SOURCE,
        destination_mac: OUTER_DESTINATION,
        vlan: is_tagged.then_some(VlanTag { vlan: 77, priority: 5 }),
        source: address("198.18.0.1", "2001:db8:18::1"),
        destination: address("198.18.0.9", "2001:db8:18::9"),
        dscp: 46,
        ttl: 33,
        dont_fragment: !is_tagged,
    }
}

fn facts(sequence: u32) -> CopyFacts {
    CopyFacts {
        stamp: Stamp { ns: TIME_NS, quality: ClockQuality::Ptp, degraded: false },
        port: 21,
        tunnel: 0,
        direction: Direction::Egress,
        truncated: false,
        flow_hash: 0xdead_beef,
        sequence,
    }
}

/// The copy as it leaves, its payload given in two pieces cut at an odd place.
fn carry(transport: &Transport, facts: &CopyFacts, frame: &[u8]) -> Vec<u8> {
    let mut header = [0xee; MAX_HEADER_BYTES];
    let (first, second) = frame.split_at(frame.len().min(35));
    let written = transport.write(facts, &[first, second], &mut header);
    let mut out = header[..written.header_bytes].to_vec();
    out.extend(&frame[written.replaced_bytes..]);
    out
}

const FRAMES_FIRST_SEQUENCE: u32 = 4_294_967_293;

/// Writes all frames through each transport into one file; the whole is sound and the inner frames are found byte-equal by tshark.
fn carried(name: &str, transports: &[Transport]) -> tempfile::TempPath {
    carried_soundly(name, transports, &[])
}

/// As `carried`, where tshark is told `extra`.
fn carried_soundly(name: &str, transports: &[Transport], extra: &[&str]) -> tempfile::TempPath {
    let frames = frames();
    let mut out = Vec::new();
    for transport in transports {
        let first = Sequence::starting_at(FRAMES_FIRST_SEQUENCE).claim(frames.len() as u32);
        let numbered = frames.iter().enumerate();
        out.extend(
            numbered
                .map(|(index, frame)| carry(transport, &facts(first.wrapping_add(index as u32)), frame)),
        );
    }
    let path = tempfile::Builder::new()
        .prefix(name)
        .suffix(".pcap")
        .tempfile()
        .expect("a temporary file")
        .into_temp_path();
    write_frames(&path, &out);
    assert_sound(&path, extra);
    let places = innermost_ethernet(&path);
    assert_eq!(places.len(), out.len());
    for ((place, carried), frame) in places.into_iter().zip(&out).zip(frames.iter().cycle()) {
        assert_eq!(&carried[place..], &frame[..], "{name}: the inner frame is changed or not found");
    }
    path
}

/// One encapsulation in every outer header; asserts the fields of Ethernet and IP and gives the file to `check`.
fn over_all_outers(name: &str, encapsulation: Encapsulation, check: impl Fn(&std::path::Path)) {
    if !has_program("tshark") {
        return;
    }
    let outers = [(false, false), (false, true), (true, false), (true, true)];
    let transports = outers.map(|(is_ipv6, is_tagged)| {
        Transport::tunnel(&outer(is_ipv6, is_tagged), &encapsulation).expect("it is valid")
    });
    let path = carried(name, &transports);
    let ethernet = ["eth.dst", "eth.src", "vlan.id", "vlan.priority"];
    let ipv6 = ["ipv6.src", "ipv6.dst", "ipv6.tclass.dscp", "ipv6.hlim", "ipv6.flow", "ipv6.plen"];
    let ipv4 = [
        "ip.src",
        "ip.dst",
        "ip.dsfield.dscp",
        "ip.ttl",
        "ip.flags.df",
        "ip.checksum.status",
        "ip.id",
        "ip.len",
    ];
    let names: Vec<_> = ethernet.into_iter().chain(ipv6).chain(ipv4).collect();
    let rows = fields(&path, &["-E", "occurrence=f"], &names);
    let frames = frames();
    for (rows, ((is_ipv6, is_tagged), transport)) in
        rows.chunks(frames.len()).zip(outers.into_iter().zip(&transports))
    {
        for (index, (row, frame)) in rows.iter().zip(&frames).enumerate() {
            let length = frame.len() + transport.overhead_bytes() - 14 - if is_tagged { 4 } else { 0 };
            assert_eq!(row[..2], ["02:00:00:00:01:02", "02:00:00:00:01:01"], "{name}");
            if is_tagged {
                assert_eq!(row[2..4], ["77", "5"], "{name}");
            }
            if is_ipv6 {
                assert_eq!(
                    row[4..9],
                    ["2001:db8:18::1", "2001:db8:18::9", "46", "33", "0x0dbeef"],
                    "{name}"
                );
                assert_eq!(row[9], (length - 40).to_string(), "{name}");
            } else {
                let (dont_fragment, id) = if is_tagged {
                    ("0", format!("0x{:04x}", (FRAMES_FIRST_SEQUENCE.wrapping_add(index as u32)) as u16))
                } else {
                    ("1", "0x0000".to_string())
                };
                assert_eq!(
                    row[10..16],
                    ["198.18.0.1", "198.18.0.9", "46", "33", dont_fragment, "1"],
                    "{name}"
                );
                assert_eq!(row[16..], [id, length.to_string()], "{name}");
            }
        }
    }
    check(&path);
}

/// The tags of `frames()`: VLAN and class of service, as ERSPAN says them.
fn vlans() -> [(&'static str, &'static str); 8] {
    [("0", "0"), ("0", "0"), ("0", "0"), ("0", "0"), ("0", "0"), ("0", "0"), ("100", "3"), ("4094", "7")]
}

#[test]
fn erspan_1_is_gre_and_the_frame_alone() {
    over_all_outers("erspan1", Encapsulation::Erspan1, |path| {
        for row in fields(path, &[], &["gre.proto", "gre.flags_and_version", "frame.protocols"]) {
            assert_eq!(row[..2], ["0x88be", "0x0000"]);
            assert!(row[2].contains("gre:erspan:eth"), "{}", row[2]);
        }
    });
}

#[test]
fn erspan_2_numbers_its_copies_and_says_vlan_and_index() {
    over_all_outers(
        "erspan2",
        Encapsulation::Erspan2(Erspan2 { session: 1023, cos: None, index: Some(0x12345) }),
        |path| {
            let names = [
                "gre.proto",
                "gre.flags.sequence_number",
                "erspan.version",
                "erspan.spanid",
                "erspan.index",
                "erspan.truncated",
                "gre.sequence_number",
                "erspan.vlan",
                "erspan.cos",
                "erspan.encap",
            ];
            for (index, (row, (vlan, cos))) in
                fields(path, &[], &names).iter().zip(vlans().into_iter().cycle()).enumerate()
            {
                assert_eq!(row[..6], ["0x88be", "1", "1", "1023", "74565", "0"]);
                let encapsulation = if vlan == "0" { "0" } else { "3" };
                assert_eq!(
                    row[6..],
                    [
                        &FRAMES_FIRST_SEQUENCE.wrapping_add(index as u32 % 8).to_string(),
                        vlan,
                        cos,
                        encapsulation
                    ]
                );
            }
        },
    );
}

fn erspan3(granularity: Granularity, subheader: Subheader) -> Encapsulation {
    Encapsulation::Erspan3(Erspan3 {
        session: 7,
        cos: None,
        direction: None,
        security_group_tag: 0xbeef,
        hardware: Some(43),
        granularity,
        subheader,
    })
}

#[test]
fn erspan_3_says_all_that_is_known_of_a_frame() {
    over_all_outers(
        "erspan3",
        erspan3(Granularity::Ieee1588, Subheader::Seconds { switch: 1001 }),
        |path| {
            let names = [
                "gre.proto",
                "erspan.version",
                "erspan.spanid",
                "erspan.timestamp",
                "erspan.sgt",
                "erspan.p",
                "erspan.ft",
                "erspan.hw",
                "erspan.direction",
                "erspan.gra",
                "erspan.o",
                "erspan.bso",
                "erspan.truncated",
                "erspan.platid",
                "erspan.pid5.switchid",
                "erspan.pid5.port_index",
                "erspan.pid5.timestamp",
                "gre.sequence_number",
                "erspan.vlan",
                "erspan.cos",
            ];
            for (index, (row, (vlan, cos))) in
                fields(path, &[], &names).iter().zip(vlans().into_iter().cycle()).enumerate()
            {
                let expected = [
                    "0x22eb",
                    "2",
                    "7",
                    "123456789",
                    "48879",
                    "1",
                    "0",
                    "43",
                    "1",
                    "2",
                    "1",
                    "0",
                    "0",
                    "5",
                    "1001",
                    "21",
                    "1700000000",
                ];
                assert_eq!(row[..17], expected);
                assert_eq!(
                    row[17..],
                    [&FRAMES_FIRST_SEQUENCE.wrapping_add(index as u32 % 8).to_string(), vlan, cos]
                );
            }
        },
    );
}

#[test]
fn erspan_3_counts_in_the_units_it_names() {
    let ticks = TIME_NS / 100;
    over_all_outers("erspan3", erspan3(Granularity::HundredNanoseconds, Subheader::UpperBits), |path| {
        for row in
            fields(path, &[], &["erspan.gra", "erspan.platid", "erspan.timestamp", "erspan.pid3.timestamp"])
        {
            assert_eq!(row, ["1", "3", &(ticks as u32).to_string(), &(ticks >> 32).to_string()]);
        }
    });
    over_all_outers("erspan3", erspan3(Granularity::HundredMicroseconds, Subheader::None), |path| {
        for row in fields(path, &[], &["erspan.gra", "erspan.o", "erspan.timestamp"]) {
            assert_eq!(row, ["0", "0", &((TIME_NS / 100_000) as u32).to_string()]);
        }
    });
}

/// ICMP quotes a copy from its IP header on: the header and 8 bytes of what follows at least.
#[test]
fn a_quoted_copy_is_known_again_and_that_of_another_tunnel_is_not() {
    let kinds = |number: u16| {
        let udp_port = None;
        [
            Encapsulation::Vxlan { vni: number.into(), udp_port, udp_checksum: Some(true) },
            Encapsulation::Geneve { vni: number.into(), udp_port, udp_checksum: None },
            Encapsulation::Gre { key: Some(number.into()) },
            Encapsulation::Erspan2(Erspan2 { session: number, cos: None, index: None }),
            Encapsulation::Erspan3(Erspan3 { session: number, ..Erspan3::default() }),
        ]
    };
    for (is_ipv6, is_tagged) in [(false, false), (false, true), (true, false), (true, true)] {
        let transports = |number: u16| {
            kinds(number)
                .map(|kind| Transport::tunnel(&outer(is_ipv6, is_tagged), &kind).expect("it is valid"))
        };
        let (own, others) = (transports(7), transports(8));
        let network = if is_tagged { 18 } else { 14 };
        let least = if is_ipv6 { 48 } else { 28 };
        for (index, transport) in own.iter().enumerate() {
            let copy = carry(transport, &facts(3), &udp4(100));
            let packet = &copy[network..];
            for len in least..packet.len() {
                for (other, transport) in own.iter().enumerate() {
                    assert_eq!(transport.has_sent(&packet[..len]), index == other, "{index} {other} {len}");
                }
            }
            assert!(!others[index].has_sent(packet), "another identifier");
            for len in 0..least - 4 {
                assert!(!transport.has_sent(&packet[..len]), "too little is quoted");
            }
            for at in if is_ipv6 { [8, 39] } else { [12, 19] } {
                let mut strange = packet.to_vec();
                strange[at] ^= 1;
                assert!(!transport.has_sent(&strange), "another address");
            }
        }
    }
}

#[test]
fn a_truncated_copy_says_so_in_erspan_2_and_3() {
    if !has_program("tshark") {
        return;
    }
    for encapsulation in [
        Encapsulation::Erspan2(Erspan2 { session: 1, cos: None, index: None }),
        erspan3(Granularity::default(), Subheader::None),
    ] {
        let transport = Transport::tunnel(&outer(false, false), &encapsulation).expect("it is valid");
        let cut = CopyFacts { truncated: true, direction: Direction::Ingress, ..facts(1) };
        let path = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
        write_frames(&path, &[carry(&transport, &cut, &udp4(500)[..128])]);
        assert_eq!(fields(&path, &[], &["erspan.truncated"]), [["1"]]);
    }
}

#[test]
fn what_a_tool_says_of_its_copies_goes_before_what_is_known_of_them() {
    if !has_program("tshark") {
        return;
    }
    let said = Encapsulation::Erspan3(Erspan3 {
        session: 7,
        cos: Some(6),
        direction: Some(Direction::Ingress),
        security_group_tag: 1,
        hardware: None,
        granularity: Granularity::default(),
        subheader: Subheader::None,
    });
    let transports = [said, Encapsulation::Erspan2(Erspan2 { session: 7, cos: Some(6), index: None })]
        .map(|encapsulation| Transport::tunnel(&outer(false, false), &encapsulation).expect("it is valid"));
    let path = carried("said", &transports);
    let rows = fields(&path, &[], &["erspan.cos", "erspan.direction", "erspan.hw", "erspan.index"]);
    for (index, row) in rows.iter().enumerate() {
        // The source port, 21, is what is known of both.
        assert_eq!(row[..], if index < 8 { ["6", "0", "21", ""] } else { ["6", "", "", "21"] });
    }
}

#[test]
fn vxlan_and_geneve_carry_the_frame_under_their_vni() {
    for udp_checksum in [false, true] {
        over_all_outers(
            "vxlan",
            Encapsulation::Vxlan {
                vni: 0xfe_dcba,
                udp_port: None,
                udp_checksum: udp_checksum.then_some(true),
            },
            |path| {
                let names = ["udp.dstport", "udp.srcport", "vxlan.vni", "vxlan.flags"];
                for row in fields(path, &["-E", "occurrence=f"], &names) {
                    assert_eq!(
                        row,
                        ["4789", &(0xc000 | (0xdead ^ 0xbeef) & 0x3fff).to_string(), "16702650", "0x0800"]
                    );
                }
            },
        );
        over_all_outers(
            "geneve",
            Encapsulation::Geneve { vni: 4242, udp_port: None, udp_checksum: udp_checksum.then_some(true) },
            |path| {
                for row in fields(
                    path,
                    &["-E", "occurrence=f"],
                    &["udp.dstport", "geneve.vni", "geneve.proto_type", "geneve.version"],
                ) {
                    assert_eq!(row, ["6081", "0x001092", "0x6558", "0"]);
                }
            },
        );
    }
}

#[test]
fn udp_checksums_are_good_where_they_are_sent_and_absent_elsewhere() {
    if !has_program("tshark") {
        return;
    }
    let (good, absent) = ("1", "3");
    let cases = [
        (false, None, absent),
        (false, Some(false), absent),
        (false, Some(true), good),
        (true, None, good),
        (true, Some(false), absent),
        (true, Some(true), good),
    ];
    for (is_ipv6, udp_checksum, status) in cases {
        let encapsulation = Encapsulation::Vxlan { vni: 1, udp_port: None, udp_checksum };
        let transport = Transport::tunnel(&outer(is_ipv6, false), &encapsulation).expect("it is valid");
        assert_eq!(transport.reads_payload(), status == "1");
        // Over IPv6 a checksum may be absent only where both ends agree on it (RFC 6935).
        let agreed: &[&str] =
            if udp_checksum == Some(false) { &["-o", "udp.ignore_ipv6_zero_checksum:TRUE"] } else { &[] };
        let path = carried_soundly("vxlan", std::slice::from_ref(&transport), agreed);
        // Status 1 is good, 3 is not present.
        let extra = [agreed, &["-E", "occurrence=f"]].concat();
        for row in fields(&path, &extra, &["udp.checksum.status"]) {
            assert_eq!(row, [status]);
        }
    }
}

#[test]
fn gre_carries_ethernet_with_and_without_key() {
    over_all_outers("gre", Encapsulation::Gre { key: Some(0xabcd_0001) }, |path| {
        for row in
            fields(path, &["-E", "occurrence=f"], &["gre.proto", "gre.key", "gre.flags.sequence_number"])
        {
            assert_eq!(row, ["0x6558", "0xabcd0001", "0"]);
        }
    });
    over_all_outers("gre", Encapsulation::Gre { key: None }, |path| {
        for row in fields(path, &["-E", "occurrence=f"], &["gre.proto", "gre.flags.key"]) {
            assert_eq!(row, ["0x6558", "0"]);
        }
    });
}

#[test]
fn rspan_tags_every_frame_as_tcprewrite_does() {
    if !has_program("tcprewrite") || !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, expected) = (folder.path().join("in.pcap"), folder.path().join("expected.pcap"));
    // IPv4 and ARP: of IPv6 frames tcprewrite 4.4.3 changes the addresses too.
    let untagged = [udp4(61), tcp4(600), arp()];
    write_frames(&input, &untagged);
    let (infile, outfile) =
        (format!("--infile={}", input.display()), format!("--outfile={}", expected.display()));
    let tag = ["--enet-vlan=add", "--enet-vlan-tag=900", "--enet-vlan-pri=3", "--enet-vlan-cfi=0"];
    run("tcprewrite", &[&infile, &outfile, tag[0], tag[1], tag[2], tag[3]].map(|argument: &str| argument));
    let expected = read_pcap(&expected).expect("tcprewrite writes pcap");
    for mode in [RspanTag::Push, RspanTag::Replace] {
        let transport = Transport::rspan(900, 3, mode).expect("it is valid");
        for (frame, (_, expected, _)) in untagged.iter().zip(&expected) {
            assert_eq!(&carry(&transport, &facts(0), frame), expected);
        }
    }
    // A tagged frame keeps its tag behind the pushed one, and loses it to one that replaces it.
    for (mode, vlans) in [(RspanTag::Push, "900;100"), (RspanTag::Replace, "900")] {
        let path = folder.path().join("tagged.pcap");
        let transport = Transport::rspan(900, 3, mode).expect("it is valid");
        write_frames(&path, &[carry(&transport, &facts(0), &tagged(&tcp4(10), 100, 1))]);
        assert_sound(&path, &[]);
        assert_eq!(fields(&path, &[], &["vlan.id"]), [[vlans]]);
    }
}

#[test]
fn what_does_not_fit_its_field_is_refused_with_the_reason() {
    let refused = |outer: &Outer, encapsulation: &Encapsulation| {
        Transport::tunnel(outer, encapsulation).err().map(|error| error.to_string())
    };
    let vxlan = Encapsulation::Vxlan { vni: 1 << 24, udp_port: None, udp_checksum: None };
    assert_eq!(
        refused(&outer(false, false), &vxlan).as_deref(),
        Some("vni 16777216 is too large; the most is 16777215")
    );
    let gre = Encapsulation::Gre { key: None };
    let mixed = Outer { destination: outer(true, false).destination, ..outer(false, false) };
    assert!(refused(&mixed, &gre).is_some_and(|reason| reason.contains("different families")));
    assert!(refused(&Outer { ttl: 0, ..outer(false, false) }, &gre).is_some());
    assert!(refused(&Outer { dscp: 64, ..outer(false, false) }, &gre).is_some());
    let seconds = erspan3(Granularity::HundredNanoseconds, Subheader::Seconds { switch: 0 });
    assert_eq!(
        Transport::tunnel(&outer(false, false), &seconds).err(),
        Some(TransportError::SecondsWithoutNanoseconds)
    );
    assert_eq!(
        refused(
            &outer(true, true),
            &Encapsulation::Erspan2(Erspan2 { session: 1023, cos: Some(7), index: Some(0xf_ffff) })
        ),
        None
    );
}

#[test]
fn a_path_carries_what_its_mtu_says_and_the_rest_is_cut_or_dropped() {
    let tunnel = |is_ipv6, encapsulation| {
        Transport::tunnel(&outer(is_ipv6, false), &encapsulation).expect("it is valid")
    };
    let vxlan = Encapsulation::Vxlan { vni: 1, udp_port: None, udp_checksum: None };
    // 1500 less 20 IPv4, 8 UDP, 8 VXLAN; less 20 more for IPv6; GRE with ERSPAN III and subheader is 28.
    assert_eq!(tunnel(false, vxlan.clone()).longest_frame_bytes(1500), 1464);
    assert_eq!(tunnel(true, vxlan.clone()).longest_frame_bytes(1500), 1444);
    let erspan = erspan3(Granularity::Ieee1588, Subheader::Seconds { switch: 0 });
    assert_eq!(tunnel(false, erspan).longest_frame_bytes(1500), 1452);
    assert_eq!(Transport::Local.longest_frame_bytes(1500), 1518);
    // What is written is as long as what was reckoned with: a frame of the longest length fills the MTU to the byte.
    let transport = tunnel(false, vxlan);
    let frame = vec![0; transport.longest_frame_bytes(1500)];
    assert_eq!(carry(&transport, &facts(0), &frame).len(), 1500 + 14);
    // With a trailer of 15 bytes.
    let room = |oversize| PathRoom::new(1500, &transport, 15, oversize);
    for oversize in [Oversize::Slice, Oversize::Drop, Oversize::FragmentNever] {
        assert_eq!((room(oversize).fit(1449), room(oversize).longest_frame_bytes()), (Fit::Whole, 1449));
    }
    assert_eq!(room(Oversize::Slice).fit(1450), Fit::Slice { keep_bytes: 1449 });
    assert_eq!(
        (room(Oversize::Drop).fit(1450), room(Oversize::FragmentNever).fit(1450)),
        (Fit::Drop, Fit::Drop)
    );
    assert_eq!((room(Oversize::Slice).check(1514), room(Oversize::Drop).check(1514)), (Ok(()), Ok(())));
    assert_eq!(
        (room(Oversize::FragmentNever).check(1514), room(Oversize::FragmentNever).check(1449)),
        (Err(1449), Ok(()))
    );
    // A path too small for its own headers carries nothing.
    assert_eq!(PathRoom::new(40, &transport, 0, Oversize::Slice).fit(60), Fit::Drop);
}
