//! Requests and answers for tunnel addresses, judged by tshark.

use tapline::health::next_hop::{NextHop, Timing, TunnelAddress};
use tapline::health::responder::{EndAddress, Responder};
use tapline_harness::frames::{ethernet, ipv4, ipv6, payload};
use tapline_harness::pcap_files::write_frames;
use tapline_harness::programs::has_program;
use tapline_harness::tshark::{assert_sound, fields};
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::nd;
use tapline_packet::headers::vlan::VlanTag;

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PEER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

fn address(mac: MacAddress, address: &str, is_tagged: bool) -> TunnelAddress {
    let vlan = is_tagged.then_some(VlanTag { vlan: 7, priority: 6 });
    TunnelAddress { mac, address: address.parse().expect("an address"), vlan }
}

/// A ping from the peer, with `len` bytes.
fn ping(is_ipv6: bool, len: usize) -> Vec<u8> {
    let mut message = vec![if is_ipv6 { 128 } else { 8 }, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(payload(len));
    let (sum, mut frame) = if is_ipv6 {
        let [source, destination] =
            ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().expect("an address"));
        (nd::pseudo_sum(&message, source, destination).checksum(), ethernet(0x86dd, &ipv6(58, &message)))
    } else {
        (Sum::default().bytes(&message).checksum(), ethernet(0x0800, &ipv4(1, &message)))
    };
    let at = frame.len() - message.len() + 2;
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame[..6].copy_from_slice(&OWN.0);
    frame
}

#[test]
fn requests_and_answers_are_sound_and_say_who_has_what() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("neighbours.pcap");
    let mut packets = Vec::new();
    for is_tagged in [false, true] {
        for (own, peer) in [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")] {
            let (own, peer) = (address(OWN, own, is_tagged), address(PEER, peer, is_tagged));
            let mut next_hop = NextHop::new(own, peer.address, Timing::default());
            next_hop.on_time(0, &mut |frame: &[u8]| packets.push(frame.to_vec()));
            let answer = Responder::new(vec![peer])
                .answer(packets.last().expect("it was asked"))
                .expect("it is its address");
            next_hop.on_frame(&answer, 0);
            assert_eq!(next_hop.mac(), Some(PEER));
            packets.push(answer);
        }
    }
    write_frames(&path, &packets);
    assert_sound(&path, &[]);
    let names = [
        "eth.dst",
        "eth.src",
        "vlan.id",
        "arp.opcode",
        "arp.src.hw_mac",
        "arp.dst.proto_ipv4",
        "icmpv6.type",
        "icmpv6.nd.ns.target_address",
        "icmpv6.nd.na.target_address",
        "icmpv6.opt.linkaddr",
        "icmpv6.nd.na.flag.s",
        "icmpv6.checksum.status",
        "ipv6.dst",
    ];
    let (own, peer) = ("02:00:00:00:00:01", "02:00:00:00:00:09");
    for (rows, vlan) in fields(&path, &[], &names).chunks(4).zip(["", "7"]) {
        let ff = "ff:ff:ff:ff:ff:ff";
        assert_eq!(rows[0][..], [ff, own, vlan, "1", own, "198.18.0.9", "", "", "", "", "", "", ""]);
        assert_eq!(rows[1][..], [own, peer, vlan, "2", peer, "198.18.0.1", "", "", "", "", "", "", ""]);
        let group = [
            "33:33:ff:00:00:09",
            own,
            vlan,
            "",
            "",
            "",
            "135",
            "2001:db8::9",
            "",
            own,
            "",
            "1",
            "ff02::1:ff00:9",
        ];
        assert_eq!(rows[2][..], group);
        let answer = [own, peer, vlan, "", "", "", "136", "", "2001:db8::9", peer, "1", "1", "2001:db8::1"];
        assert_eq!(rows[3][..], answer);
    }
}

#[test]
fn a_ping_comes_back_as_it_went() {
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pings.pcap");
    let mut responder =
        Responder::new(vec![address(OWN, "10.4.5.6", false), address(OWN, "2001:db8::2", false)]);
    let mut packets = Vec::new();
    for len in [0, 1, 56, 1400] {
        for is_ipv6 in [false, true] {
            let request = ping(is_ipv6, len);
            let reply = responder.answer(&request).expect("it is our address");
            // Not a byte less or more comes back, but for the padding of short frames.
            assert_eq!(reply.len(), request.len().max(60));
            packets.extend([request.clone(), reply]);
            let mut broken = request.clone();
            *broken.last_mut().expect("not empty") ^= 0x10;
            assert_eq!(responder.answer(&broken), None, "its checksum is wrong");
            let mut stranger = request;
            let at = if is_ipv6 { 53 } else { 33 };
            stranger[at] ^= 0x40;
            assert_eq!(responder.answer(&stranger), None, "it is not our address");
        }
    }
    assert_eq!(responder.answers(), 8);
    write_frames(&path, &packets);
    assert_sound(&path, &[]);
    // tshark pairs each request with its reply.
    let rows = fields(
        &path,
        &[],
        &["icmp.resp_to", "icmpv6.resp_to", "icmp.checksum.status", "icmpv6.checksum.status"],
    );
    for (index, row) in rows.iter().enumerate().filter(|(index, _)| index % 2 == 1) {
        let request = index.to_string();
        assert!(row[..2].contains(&request), "reply {} is to {row:?}", index + 1);
        assert!(row[2..].contains(&"1".to_string()));
    }
}

#[test]
fn ends_of_tunnels_announce_themselves_and_answer_probes_in_any_vlan() {
    if !has_program("tshark") {
        return;
    }
    let ends = ["198.18.0.1", "2001:db8::1"]
        .map(|address| EndAddress { mac: OWN, address: address.parse().expect("an address") });
    let mut responder = Responder::default().with_ends(ends.to_vec());
    let mut packets: Vec<Vec<u8>> = ends.iter().map(EndAddress::announcement).collect();
    // duplicate address detection: a probe of RFC 5227, and a solicitation from nobody (RFC 4862, 5.4.2)
    let nobody = |address: &str, target: &str| {
        let asker = TunnelAddress { mac: PEER, ..address_of(address) };
        let mut asked = Vec::new();
        NextHop::new(asker, target.parse().expect("an address"), Timing::default())
            .on_time(0, &mut |frame: &[u8]| asked = frame.to_vec());
        asked
    };
    for tags in [&[][..], &[0x81, 0, 0, 100, 0x81, 0, 0, 7]] {
        for (from, to) in [("0.0.0.0", "198.18.0.1"), ("::", "2001:db8::1")] {
            let mut asked = nobody(from, to);
            asked.splice(12..12, tags.iter().copied());
            packets.push(responder.answer(&asked).expect("it is asked for"));
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ends.pcap");
    write_frames(&path, &packets);
    assert_sound(&path, &[]);
    let names = [
        "eth.dst",
        "vlan.id",
        "arp.opcode",
        "arp.isgratuitous",
        "arp.src.hw_mac",
        "arp.src.proto_ipv4",
        "icmpv6.nd.na.target_address",
        "icmpv6.opt.linkaddr",
        "icmpv6.nd.na.flag.s",
        "icmpv6.nd.na.flag.o",
        "icmpv6.checksum.status",
    ];
    let (own, peer, all) = ("02:00:00:00:00:01", "02:00:00:00:00:09", "33:33:00:00:00:01");
    let advertised = |vlan| [all, vlan, "", "", "", "", "2001:db8::1", own, "0", "1", "1"];
    let answered = |vlan| [peer, vlan, "2", "", own, "198.18.0.1", "", "", "", "", ""];
    let announced = ["ff:ff:ff:ff:ff:ff", "", "1", "True", own, "198.18.0.1", "", "", "", "", ""];
    let expected =
        [announced, advertised(""), answered(""), advertised(""), answered("100;7"), advertised("100;7")];
    let truth = |field: &String| match field.as_str() {
        // tshark 4.2 writes True and False where older ones write 1 and 0
        "1" => "True".to_owned(),
        "0" => "False".to_owned(),
        other => other.to_owned(),
    };
    for (row, expected) in fields(&path, &[], &names).iter().zip(expected) {
        for (index, (field, expected)) in row.iter().zip(expected).enumerate() {
            let is_flag = [3, 8, 9].contains(&index);
            let (field, expected) = match is_flag {
                true => (truth(field), truth(&expected.to_owned())),
                false => (field.clone(), expected.to_owned()),
            };
            assert_eq!(field, expected, "{}: {row:?}", names[index]);
        }
    }
    assert_eq!(packets.len(), 6);
}

/// An address that is not tagged.
fn address_of(text: &str) -> TunnelAddress {
    address(OWN, text, false)
}
