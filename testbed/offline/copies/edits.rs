//! Edits against editcap, tcprewrite, tshark and an obvious model, on made frames, public captures and random bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tapline_api::words::{Anchor, Granularity, TagLabel};
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::copies::edit::{
    Anonymize, Anonymizer, DRAFT_HEADROOM, Draft, EditError, EditPlan, Edits, Mask, Reach, Rewrite, Slice,
    Tag,
};
use tapline_datapath::copies::facts::CopyFacts;
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, MAX_HEADER_BYTES, Outer, Subheader, Transport,
};
use tapline_harness::captures::captures;
use tapline_harness::frames::{
    OUTER_DESTINATION, OUTER_SOURCE, arp, ethernet, frames, ipv6, payload, tagged, tcp4, tcp6, udp4,
};
use tapline_harness::pcap_files::{read_pcap, write_frames, write_pcap};
use tapline_harness::programs::{has_program, run};
use tapline_harness::tshark::{EACH_ALONE, checksum_statuses, fields};
use tapline_packet::frame::Frame;
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::layers;
use tapline_packet::layers::Depth;

fn plan(edits: Edits) -> EditPlan {
    EditPlan::compile(edits).expect("the edits are valid")
}

/// Edits a packet of which `front` bytes are the copy's own, as the data path does: the bytes and the original length.
fn edited_front(
    plan: &EditPlan,
    facts: &CopyFacts,
    packet: &[u8],
    original_len: usize,
    front: usize,
) -> (Vec<u8>, usize) {
    let mut state = plan.state();
    let mut front = front.min(packet.len());
    loop {
        let mut buffer = vec![0xee; DRAFT_HEADROOM];
        buffer.extend(&packet[..front]);
        let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, packet.len() - front, original_len);
        if plan.apply(facts, &mut draft, &mut state).is_ok() {
            let mut out = draft.front().to_vec();
            out.extend(&packet[front..front + draft.rest_len()]);
            assert_eq!(out.len(), draft.len());
            assert_eq!(draft.is_truncated(), draft.len() < draft.original_len());
            return (out, draft.original_len());
        }
        assert!(front < packet.len(), "a whole packet needs no more");
        front = packet.len();
    }
}

/// As above, with as much of its own as the plan asks for.
fn edited(plan: &EditPlan, packet: &[u8]) -> Vec<u8> {
    let facts = CopyFacts { port: 5, ..Default::default() };
    match plan.reach() {
        Reach::Nothing => packet.to_vec(),
        Reach::Length => {
            let layers = layers::parse(&Frame::whole(packet), Depth::Full);
            packet[..plan.keep_len(packet, &layers)].to_vec()
        }
        Reach::Front(front) => edited_front(plan, &facts, packet, packet.len(), front).0,
        Reach::Whole => edited_front(plan, &facts, packet, packet.len(), usize::MAX).0,
    }
}

fn strips(strips: &[Layer]) -> EditPlan {
    plan(Edits { strip: strips.iter().copied().collect(), ..Default::default() })
}

#[test]
fn a_slice_keeps_the_bytes_that_editcap_keeps_and_the_original_length() {
    if !has_program("editcap") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    let frames = frames();
    write_frames(&input, &frames);
    for keep in [14, 60, 64, 128, 500, 2000] {
        run(
            "editcap",
            &[
                "-F",
                "nsecpcap",
                "-s",
                &keep.to_string(),
                input.to_str().expect("utf-8"),
                output.to_str().expect("utf-8"),
            ],
        );
        let plan = plan(Edits { slice: Some(Slice { keep, after: None }), ..Default::default() });
        assert_eq!(plan.reach(), Reach::Length);
        for (frame, (_, expected, original_len)) in frames.iter().zip(read_pcap(&output).expect("a pcap")) {
            assert_eq!(edited(&plan, frame), expected);
            let (in_draft, kept_len) = edited_front(&plan, &CopyFacts::default(), frame, frame.len(), 40);
            assert_eq!((in_draft, kept_len), (expected, original_len));
        }
    }
}

#[test]
fn tags_go_on_and_come_off_as_with_tcprewrite() {
    if !has_program("tcprewrite") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, tagged_file, stripped_file) =
        (folder.path().join("in"), folder.path().join("tagged"), folder.path().join("stripped"));
    // Of IPv6 frames tcprewrite 4.4.3 changes the addresses too.
    let frames = [udp4(61), tcp4(600), arp()];
    write_frames(&input, &frames);
    let arguments = |from: &std::path::Path, to: &std::path::Path| {
        [format!("--infile={}", from.display()), format!("--outfile={}", to.display())]
    };
    let [from, to] = arguments(&input, &tagged_file);
    run(
        "tcprewrite",
        &[&from, &to, "--enet-vlan=add", "--enet-vlan-tag=900", "--enet-vlan-pri=3", "--enet-vlan-cfi=0"],
    );
    let [from, to] = arguments(&tagged_file, &stripped_file);
    run("tcprewrite", &[&from, &to, "--enet-vlan=del"]);
    let tag = plan(Edits {
        tag: Some(Tag { tag: VlanTag { vlan: 900, priority: 3 }, label: None }),
        ..Default::default()
    });
    let from_port = plan(Edits {
        tag: Some(Tag { tag: VlanTag { vlan: 895, priority: 3 }, label: Some(TagLabel::FromPort) }),
        ..Default::default()
    });
    for (frame, (_, expected, _)) in frames.iter().zip(read_pcap(&tagged_file).expect("a pcap")) {
        assert_eq!(edited(&tag, frame), expected);
        assert_eq!(edited(&from_port, frame), expected, "port 5 after VLAN 895");
    }
    let tagged_frames = read_pcap(&tagged_file).expect("a pcap");
    for ((_, frame, _), (_, expected, _)) in
        tagged_frames.iter().zip(read_pcap(&stripped_file).expect("a pcap"))
    {
        assert_eq!(edited(&strips(&[Layer::Vlan]), frame), expected);
    }
}

#[test]
fn strip_vlan_takes_one_tag_and_strip_qinq_all() {
    for frame in frames() {
        let double = tagged(&tagged(&frame, 100, 1), 200, 2);
        assert_eq!(edited(&strips(&[Layer::Vlan]), &double), tagged(&frame, 100, 1));
        let untagged = edited(&strips(&[Layer::Qinq]), &frame);
        assert_eq!(edited(&strips(&[Layer::Qinq]), &double), untagged);
        assert_eq!(edited(&strips(&[Layer::Vlan, Layer::Qinq]), &double), untagged);
    }
}

/// Every tunnel that Tapline sends, over both families, tagged and not.
fn tunnels() -> Vec<(Layer, Transport)> {
    let erspan3 = |granularity, subheader| {
        Encapsulation::Erspan3(Erspan3 {
            session: 7,
            security_group_tag: 1,
            granularity,
            subheader,
            ..Erspan3::default()
        })
    };
    let kinds = [
        (Layer::Erspan, Encapsulation::Erspan1),
        (Layer::Erspan, Encapsulation::Erspan2(Erspan2 { session: 9, cos: None, index: None })),
        (Layer::Erspan, erspan3(Granularity::HundredMicroseconds, Subheader::None)),
        (Layer::Erspan, erspan3(Granularity::Ieee1588, Subheader::Seconds { switch: 1 })),
        (Layer::Vxlan, Encapsulation::Vxlan { vni: 4242, udp_port: None, udp_checksum: Some(true) }),
        (Layer::Geneve, Encapsulation::Geneve { vni: 4242, udp_port: None, udp_checksum: Some(true) }),
        (Layer::Gre, Encapsulation::Gre { key: None }),
        (Layer::Gre, Encapsulation::Gre { key: Some(1) }),
    ];
    let mut tunnels = Vec::new();
    for (strip, encapsulation) in kinds {
        for (source, destination) in [("198.18.0.1", "198.18.0.2"), ("2001:db8:18::1", "2001:db8:18::2")] {
            for vlan in [None, Some(VlanTag { vlan: 5, priority: 0 })] {
                let outer = Outer {
                    source_mac: OUTER_SOURCE,
                    destination_mac: OUTER_DESTINATION,
                    vlan,
                    source: source.parse().expect("an address"),
                    destination: destination.parse().expect("an address"),
                    dscp: 0,
                    ttl: 64,
                    dont_fragment: true,
                };
                tunnels.push((strip, Transport::tunnel(&outer, &encapsulation).expect("it is valid")));
            }
        }
    }
    tunnels
}

fn encapsulated(transport: &Transport, frame: &[u8]) -> Vec<u8> {
    let mut header = [0; MAX_HEADER_BYTES];
    let facts = CopyFacts { flow_hash: 0x1234_5678, ..Default::default() };
    let written = transport.write(&facts, &[frame], &mut header);
    let mut out = header[..written.header_bytes].to_vec();
    out.extend(&frame[written.replaced_bytes..]);
    out
}

#[test]
fn what_a_tunnel_carried_is_whole_again_after_strip() {
    for (strip, transport) in tunnels() {
        for frame in frames() {
            let mut outside = encapsulated(&transport, &frame);
            assert_eq!(edited(&strips(&[strip]), &outside), frame);
            // Padding behind the outer packet is not part of the inner frame.
            outside.extend([0; 9]);
            assert_eq!(edited(&strips(&[strip]), &outside), frame);
            let others: LayerSet = Layer::ALL
                .into_iter()
                .filter(|other| *other != strip && *other != Layer::Vlan && *other != Layer::Qinq)
                .collect();
            assert_eq!(edited(&plan(Edits { strip: others, ..Default::default() }), &outside), outside);
        }
    }
}

#[test]
fn strip_all_leaves_the_innermost_layers_that_tshark_sees() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    let names = [
        "vlan",
        "mpls",
        "vxlan",
        "geneve",
        "gre-sample",
        "gre-within",
        "4in4",
        "6in6",
        "4in6",
        "6in4",
        "gtp1",
        "gtp7",
        "gtp_ext",
        "erspan",
        "qinq",
    ];
    let mut packets = Vec::new();
    for capture in captures(&["pcap"]) {
        let name = capture.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Packets that end before their headers do, and tunnels on ports that are told by hand, are not stripped.
        let is_odd =
            ["trunc", "47101", "invalid", "pppoe", "over-udp"].iter().any(|odd| name.contains(odd));
        if names.iter().any(|wanted| name.contains(wanted)) && !is_odd {
            packets.extend(read_pcap(&capture).unwrap_or_default());
        }
    }
    if packets.is_empty() {
        return;
    }
    write_pcap(&input, &packets);
    let plan = plan(Edits { strip: LayerSet::ALL, ..Default::default() });
    let stripped: Vec<_> = packets
        .iter()
        .map(|(time, packet, original_len)| {
            let (bytes, original_len) =
                edited_front(&plan, &CopyFacts::default(), packet, *original_len, 256);
            (*time, bytes, original_len)
        })
        .collect();
    write_pcap(&output, &stripped);
    let names = ["frame.protocols", "ip.flags.mf", "ipv6.fraghdr.more"];
    // Reassembly would join what is in several packets.
    let (before, after) = (fields(&input, &EACH_ALONE, &names), fields(&output, &EACH_ALONE, &names));
    assert_eq!(before.len(), after.len());
    let mut changed = 0;
    // A tunnel packet that is itself fragmented stays as it is.
    let is_fragment = |row: &[String]| row[1].contains('1') || row[2].contains('1');
    for (index, (before, after)) in
        before.iter().zip(&after).enumerate().filter(|(_, (before, _))| !is_fragment(before))
    {
        let after = after[0].trim_start_matches("eth:ethertype:");
        assert!(before[0].ends_with(after), "packet {}: {} became {}", index + 1, before[0], after);
        let inside: Vec<_> = after.split(':').take(8).collect();
        let left = ["vlan", "mpls", "vxlan", "geneve", "gre", "erspan"]
            .iter()
            .find(|layer| inside.contains(layer));
        assert!(
            left.is_none() || before[0].contains("icmp") || before[0].contains("vntag"),
            "packet {}: {left:?} is left of {}",
            index + 1,
            before[0]
        );
        changed += usize::from(before[0].len() > after.len() + "eth:ethertype:".len());
    }
    assert!(changed > 500, "{changed} of {} packets had something to strip", before.len());
}

#[test]
fn anchors_count_from_the_layer_they_name() {
    let vxlan = tunnels().into_iter().find(|(strip, _)| *strip == Layer::Vxlan).expect("there is one").1;
    let outside = encapsulated(&vxlan, &tcp6(600));
    let sliced = |frame: &[u8], after, keep| {
        edited(&plan(Edits { slice: Some(Slice { keep, after }), ..Default::default() }), frame).len()
    };
    // Ethernet 14, IPv4 20, UDP 8, VXLAN 8, Ethernet 14, IPv6 40, TCP 20.
    assert_eq!(sliced(&outside, Some(Anchor::L2), 0), 14);
    assert_eq!(sliced(&outside, Some(Anchor::L3), 0), 34);
    assert_eq!(sliced(&outside, Some(Anchor::L4), 3), 45);
    assert_eq!(sliced(&outside, Some(Anchor::InnerL4), 16), 50 + 14 + 40 + 20 + 16);
    assert_eq!(sliced(&outside, Some(Anchor::InnerL4), 9000), outside.len());
    // Where a layer is missing, the deepest before it counts.
    assert_eq!(sliced(&arp(), Some(Anchor::L4), 0), 42);
    assert_eq!(sliced(&ethernet(0x9999, &payload(50)), Some(Anchor::InnerL4), 2), 16);
    let payload_drop = plan(Edits { payload_drop: true, ..Default::default() });
    assert_eq!(payload_drop.reach(), Reach::Length);
    assert_eq!(edited(&payload_drop, &tcp4(99)), tcp4(99)[..54]);
    assert_eq!(edited(&payload_drop, &outside), outside[..124]);
}

#[test]
fn a_mask_overwrites_its_bytes_and_no_others() {
    let frame = tcp4(300);
    for (mask, at) in [
        (Mask { offset: 0, len: 6, byte: 0xaa, after: None }, 0..6),
        (Mask { offset: 10, len: 5, byte: 0, after: Some(Anchor::L4) }, 64..69),
        (Mask { offset: 200, len: 5000, byte: 0xff, after: Some(Anchor::L3) }, 234..frame.len()),
        (Mask { offset: 5000, len: 5, byte: 0xff, after: None }, 0..0),
    ] {
        let mut expected = frame.clone();
        expected[at].fill(mask.byte);
        assert_eq!(edited(&plan(Edits { masks: vec![mask], ..Default::default() }), &frame), expected);
    }
}

#[test]
fn rewrite_changes_the_link_header_alone() {
    let rewrite = Rewrite {
        destination: Some(MacAddress([1, 2, 3, 4, 5, 6])),
        source: Some(MacAddress([7, 8, 9, 10, 11, 12])),
        vlan: Some(0xabc),
    };
    let rewrite = plan(Edits { rewrite, ..Default::default() });
    for (frame, tci) in [(tcp4(70), None), (tagged(&tcp4(70), 0x123, 5), Some([0xaa, 0xbc]))] {
        let mut expected = frame.clone();
        expected[..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        if let Some(tci) = tci {
            expected[14..16].copy_from_slice(&tci);
        }
        assert_eq!(edited(&rewrite, &frame), expected);
    }
}

#[test]
fn edits_that_cannot_be_done_are_refused_with_the_reason() {
    let tag = |vlan, priority| Edits {
        tag: Some(Tag { tag: VlanTag { vlan, priority }, label: None }),
        ..Default::default()
    };
    assert_eq!(EditPlan::compile(tag(4095, 0)).err(), Some(EditError::Vlan(4095)));
    assert_eq!(EditPlan::compile(tag(1, 8)).err(), Some(EditError::Priority(8)));
    let slice = Edits { slice: Some(Slice { keep: 13, after: None }), ..Default::default() };
    assert_eq!(EditPlan::compile(slice).err(), Some(EditError::SliceTooShort(13)));
    let mask =
        Edits { masks: vec![Mask { offset: 1, len: 0, byte: 0, after: None }], ..Default::default() };
    assert_eq!(EditPlan::compile(mask).err(), Some(EditError::EmptyMask));
    let keep = Edits { anonymize: Some(Anonymize { keep: 33, ..anonymize() }), ..Default::default() };
    assert_eq!(EditPlan::compile(keep).err(), Some(EditError::Keep { prefix: 33, ipv6_prefix: 0 }));
}

fn anonymize() -> Anonymize {
    let key = std::array::from_fn(|index| (index * 37 + 11) as u8);
    Anonymize { key: Key::new(key), keep: 0, keep_ipv6: 0, inner: true }
}

/// What an address becomes, as text.
fn replacement(anonymizer: &mut Anonymizer, address: &str) -> String {
    match address.parse().unwrap_or_else(|_| panic!("{address} is no address")) {
        IpAddr::V4(address) => Ipv4Addr::from(anonymizer.ipv4(address.into())).to_string(),
        IpAddr::V6(address) => Ipv6Addr::from(anonymizer.ipv6(address.into())).to_string(),
    }
}

/// tshark's names of the addresses that are replaced.
const ADDRESSES: [&str; 18] = [
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "icmp.redir_gw",
    "icmpv6.nd.ns.target_address",
    "icmpv6.nd.na.target_address",
    "icmpv6.rd.na.target_address",
    "icmpv6.rd.na.destination_address",
    "icmpv6.opt.rdnss",
    "icmpv6.mld.multicast_address",
    "icmpv6.mldr.mar.multicast_address",
    "igmp.maddr",
    "ip.opt.time_stamp_addr",
    "ipv6.routing.src.addr",
    "ipv6.dst_opts.mipv6_home_address",
];

#[test]
fn anonymized_captures_show_the_replacement_wherever_tshark_saw_an_address() {
    if !has_program("tshark") {
        return;
    }
    let known = run("tshark", &["-G", "fields"]);
    let addresses: Vec<_> =
        ADDRESSES.into_iter().filter(|name| known.contains(&format!("\t{name}\t"))).collect();
    assert!(addresses.len() > 12, "tshark knows only {addresses:?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.pcap"));
    let mut packets = Vec::new();
    for capture in captures(&["pcap"]) {
        packets.extend(read_pcap(&capture).unwrap_or_default().into_iter().take(25));
    }
    if packets.is_empty() {
        return;
    }
    let plan = plan(Edits { anonymize: Some(anonymize()), ..Default::default() });
    let changed: Vec<_> = packets
        .iter()
        .map(|(time, packet, original_len)| {
            (*time, edited_front(&plan, &CopyFacts::default(), packet, *original_len, 256).0, *original_len)
        })
        .collect();
    write_pcap(&input, &packets);
    write_pcap(&output, &changed);
    // every checksum stays as good or bad as it was
    let statuses = checksum_statuses();
    let checksums = statuses.iter().map(String::as_str);
    let names: Vec<_> =
        ["frame.protocols"].into_iter().chain(addresses.iter().copied()).chain(checksums).collect();
    let (before, after) = (fields(&input, &EACH_ALONE, &names), fields(&output, &EACH_ALONE, &names));
    assert_eq!(before.len(), after.len());
    let mut anonymizer = Anonymizer::new(&anonymize());
    let (mut compared, mut wiped) = (0, 0);
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        // Tunnels that docs/reference/edits.md does not name: what is inside them is payload.
        let foreign = [
            "teredo",
            "ayiya",
            "ppp",
            "wlan",
            "l2tp",
            "socks",
            "openvpn",
            "cflow",
            "gtp:data",
            "capwap",
            "trill",
            "cfp",
            "ieee8021ah",
            "vntag",
            "udp:gre",
            "gtpprime",
        ];
        if foreign.iter().any(|foreign| before[0].contains(foreign)) {
            continue;
        }
        for (column, name) in addresses.iter().enumerate().map(|(index, name)| (index + 1, name)) {
            let of = |row: &Vec<String>| -> Vec<String> {
                row[column].split(';').filter(|value| !value.is_empty()).map(str::to_string).collect()
            };
            let expected: Vec<_> =
                of(before).iter().map(|address| replacement(&mut anonymizer, address)).collect();
            if wiped < 5
                && of(after).iter().all(|address| address == "0.0.0.0" || address == "::")
                && !expected.is_empty()
            {
                // A header that is cut is overwritten.
                wiped += 1;
                continue;
            }
            assert_eq!(
                of(after),
                expected,
                "packet {}, {name}, {}: was {:?}",
                index + 1,
                before[0],
                of(before)
            );
            compared += expected.len();
        }
        let checksums = 1 + addresses.len()..;
        assert_eq!(
            after[checksums.clone()],
            before[checksums],
            "packet {}, checksums, {}",
            index + 1,
            before[0]
        );
    }
    println!("{compared} addresses in {} packets", before.len());
    assert!(compared > 10_000);
}

/// A packet of a protocol over IPv6 whose checksum, at `place`, covers the addresses too.
fn covered(protocol: u8, place: usize, mut body: Vec<u8>) -> Vec<u8> {
    let packet = ipv6(protocol, &body);
    let sum = Sum::default()
        .bytes(&packet[8..40])
        .word(protocol.into())
        .word(body.len() as u16)
        .bytes(&body)
        .checksum();
    body[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    ethernet(0x86dd, &ipv6(protocol, &body))
}

#[test]
fn checksums_of_routing_protocols_over_ipv6_stay_good() {
    if !has_program("tshark") {
        return;
    }
    // a hello of each: OSPF version 3 (RFC 5340, A.3.2), PIM (RFC 7761, 4.9.2), VRRP version 3 (RFC 9568, 5.1)
    let mut ospf =
        vec![3, 1, 0, 36, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0x13, 0, 10, 0, 40];
    ospf.extend([0; 8]);
    let pim = vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105];
    let vrrp =
        [&[0x31, 1, 100, 1, 0, 100, 0, 0][..], &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
            .concat();
    let packets = [covered(89, 12, ospf), covered(103, 2, pim), covered(112, 6, vrrp)];
    let plan = plan(Edits { anonymize: Some(anonymize()), ..Default::default() });
    let path = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
    write_frames(&path, &packets.each_ref().map(|packet| edited(&plan, packet)));
    let source = replacement(&mut Anonymizer::new(&anonymize()), "2001:db8::1");
    let rows = fields(&path, &[], &["ipv6.src", "pim.cksum.status", "vrrp.checksum.status"]);
    assert_eq!(rows, [[&source, "", ""], [&source, "1", ""], [&source, "", "1"]]);
    // of OSPF's it has words only
    let text = run("tshark", &["-n", "-r", path.to_str().expect("utf-8"), "-O", "ospf"]);
    let said: Vec<&str> =
        text.lines().filter(|line| line.trim_start().starts_with("Checksum: 0x")).collect();
    assert!(said.len() == 1 && said[0].ends_with("[correct]"), "{said:?}");
}

#[test]
fn a_label_tells_the_tunnels_apart_and_stays_a_vlan() {
    let label = |vlan, tunnel| {
        let tag = Tag { tag: VlanTag { vlan, priority: 0 }, label: Some(TagLabel::FromTunnel) };
        let facts = CopyFacts { port: 5, tunnel, ..Default::default() };
        let (out, _) = edited_front(
            &plan(Edits { tag: Some(tag), ..Default::default() }),
            &facts,
            &udp4(61),
            103,
            usize::MAX,
        );
        u16::from_be_bytes([out[14], out[15]])
    };
    assert_eq!(
        [label(100, 0), label(100, 7), label(4090, 4), label(4090, 5), label(1, 4093)],
        [100, 107, 4094, 1, 4094]
    );
    // a VNI has 24 bits
    assert!((1..=4094).contains(&label(4094, u32::MAX)));
}

/// All that can be asked for.
fn any_edits() -> impl Strategy<Value = Edits> {
    let anchor = || {
        prop_oneof![
            Just(None),
            Just(Some(Anchor::L2)),
            Just(Some(Anchor::L3)),
            Just(Some(Anchor::L4)),
            Just(Some(Anchor::InnerL4))
        ]
    };
    let strip = proptest::collection::vec(proptest::sample::select(Layer::ALL.to_vec()), 0..5);
    let mask = (0u16..300, 1u16..300, any::<u8>(), anchor()).prop_map(|(offset, len, byte, after)| Mask {
        offset,
        len,
        byte,
        after,
    });
    let slice = (14u16..300, anchor()).prop_map(|(keep, after)| Slice { keep, after });
    let labels = proptest::sample::select(vec![None, Some(TagLabel::FromPort), Some(TagLabel::FromTunnel)]);
    let tag = (1u16..4095, 0u8..8, labels)
        .prop_map(|(vlan, priority, label)| Tag { tag: VlanTag { vlan, priority }, label });
    let rewrite = (any::<Option<[u8; 6]>>(), proptest::option::of(1u16..4095))
        .prop_map(|(mac, vlan)| Rewrite { destination: mac.map(MacAddress), source: None, vlan });
    let anonymizes = (any::<bool>(), any::<bool>())
        .prop_map(|(on, inner)| on.then(|| Anonymize { inner, ..anonymize() }));
    (
        strip,
        anonymizes,
        proptest::collection::vec(mask, 0..3),
        any::<bool>(),
        proptest::option::of(slice),
        rewrite,
        proptest::option::of(tag),
    )
        .prop_map(|(strip, anonymize, masks, payload_drop, slice, rewrite, tag)| Edits {
            strip: strip.into_iter().collect(),
            anonymize,
            masks,
            payload_drop,
            slice,
            rewrite,
            tag,
            mark: None,
        })
}

/// Random bytes, made frames in tunnels and captured packets, cut anywhere and with bytes changed.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let mut seeds = frames();
    for (_, transport) in tunnels() {
        seeds.extend(frames().iter().map(|frame| encapsulated(&transport, frame)));
    }
    for capture in captures(&["pcap"]).iter().filter(|path| {
        let path = path.to_string_lossy();
        ["tunnels", "icmp", "ipv6", "igmp", "vlan", "mpls", "arp"].iter().any(|word| path.contains(word))
    }) {
        seeds
            .extend(read_pcap(capture).unwrap_or_default().into_iter().take(10).map(|(_, bytes, _)| bytes));
    }
    let damaged = (
        proptest::sample::select(seeds),
        any::<u16>(),
        proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    )
        .prop_map(|(mut packet, cut, changes)| {
            // Half of the packets stay whole.
            if cut % 2 == 0 {
                packet.truncate(usize::from(cut / 2) % (packet.len() + 1));
            }
            for (at, byte) in changes {
                let len = packet.len().max(1);
                if let Some(place) = packet.get_mut(usize::from(at) % len) {
                    *place = byte;
                }
            }
            packet
        });
    prop_oneof![1 => proptest::collection::vec(any::<u8>(), 0..200), 9 => damaged]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..Default::default() })]

    #[test]
    fn a_short_front_gives_what_the_whole_packet_gives(edits in any_edits(), packet in any_packet(), front in 0usize..600, more in 0usize..100, port: u16) {
        let plan = plan(edits.clone());
        let facts = CopyFacts { port, ..Default::default() };
        let original_len = packet.len() + more;
        let (whole, whole_len) = edited_front(&plan, &facts, &packet, original_len, usize::MAX);
        let asked = match plan.reach() {
            Reach::Front(front) => front,
            Reach::Whole => usize::MAX,
            Reach::Nothing | Reach::Length => front,
        };
        prop_assert_eq!(edited_front(&plan, &facts, &packet, original_len, asked), (whole.clone(), whole_len));
        if plan.reach() == Reach::Length {
            let layers = layers::parse(&Frame::whole(&packet), Depth::Full);
            prop_assert_eq!(&packet[..plan.keep_len(&packet, &layers)], &whole[..]);
        }
        // Nothing grows but by a tag, and nothing is longer than it says it was.
        let removes = !edits.strip.is_empty();
        prop_assert!(whole.len() <= packet.len() + plan.added_len());
        prop_assert!(whole_len <= original_len + plan.added_len());
        prop_assert!(whole.len() <= whole_len);
        if !removes && edits.slice.is_none() && !edits.payload_drop && packet.len() >= 14 {
            prop_assert_eq!(whole.len(), packet.len() + plan.added_len());
        }
    }

    #[test]
    fn any_bytes_go_through_any_transport_and_come_out_of_it(packet in any_packet(), index in 0usize..32) {
        let (strip, transport) = &tunnels()[index];
        let outside = encapsulated(transport, &packet);
        prop_assert_eq!(outside.len(), packet.len() + transport.overhead_bytes());
        prop_assert_eq!(&outside[outside.len() - packet.len()..], &packet[..]);
        if packet.len() >= 14 {
            let stripped = edited(&strips(&[*strip]), &outside);
            // What is inside may be the same tunnel again, which strip takes off as well.
            prop_assert!(outside.ends_with(&packet));
            prop_assert!(stripped.len() <= packet.len());
        }
    }
}
