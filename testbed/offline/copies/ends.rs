//! Where packets end: bytes behind a packet are no part of it, and lengths that cannot be true cut nothing.

use super::terminate::tunnel;
use tapline_api::words::{Refusal, TimestampFormat, TunnelKind};
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::copies::edit::{Anonymize, Anonymizer, DRAFT_HEADROOM, Draft, EditPlan, Edits};
use tapline_datapath::copies::facts::CopyFacts;
use tapline_datapath::copies::timestamp::{MAX_TRAILER_LEN, Timestamp};
use tapline_datapath::copies::transport::{Encapsulation, Erspan2, MAX_HEADER_BYTES};
use tapline_datapath::receive::tunnel_match::Terminator;
use tapline_harness::frames::{ethernet, ipv4, ipv6, tcp4, tcp6};
use tapline_harness::pcap_files::write_frames;
use tapline_harness::programs::has_program;
use tapline_harness::tshark::{EACH_ALONE, fields, innermost_ethernet};
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::layer::{Layer, LayerSet};

/// Edits a whole frame.
fn edited(edits: Edits, frame: &[u8]) -> Vec<u8> {
    let plan = EditPlan::compile(edits).expect("the edits are valid");
    let mut buffer = [&[0; DRAFT_HEADROOM][..], frame].concat();
    let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, 0, frame.len());
    plan.apply(&CopyFacts::default(), &mut draft, &mut plan.state()).expect("it is whole");
    draft.front().to_vec()
}

fn anonymize() -> Anonymize {
    Anonymize { key: Key::new([3; 32]), keep: 0, keep_ipv6: 0, inner: true }
}

fn anonymized(frame: &[u8]) -> Vec<u8> {
    edited(Edits { anonymize: Some(anonymize()), ..Default::default() }, frame)
}

/// The frame with another number of two bytes at `at`.
fn with(frame: &[u8], at: usize, number: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + 2].copy_from_slice(&number.to_be_bytes());
    frame
}

/// A message whose Internet checksum, at `at`, covers `pseudo` too.
fn summed(mut message: Vec<u8>, at: usize, pseudo: Sum) -> Vec<u8> {
    message[at..at + 2].fill(0);
    let checksum = pseudo.bytes(&message).checksum();
    message[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    message
}

#[test]
fn segments_that_were_not_yet_cut_up_are_stamped_behind_their_last_byte() {
    // total length 0, that of the IP header, and one that has no room for the TCP header; payload length 0
    let (tcp4, tcp6) = (tcp4(1000), tcp6(1000));
    let segments = [with(&tcp4, 16, 0), with(&tcp4, 16, 20), with(&tcp4, 16, 39), with(&tcp6, 18, 0)];
    for frame in segments {
        for (format, len) in [(TimestampFormat::Ixia, 15), (TimestampFormat::Vss, 9)] {
            let mut out = [0; MAX_TRAILER_LEN];
            let trailer =
                Timestamp::from(format).write_trailer(&CopyFacts::default(), &[&frame], 60, &mut out);
            assert_eq!((trailer.keep_len, trailer.len), (frame.len(), len));
        }
    }
}

#[test]
fn tunnels_that_were_not_yet_cut_up_end_with_their_frame() {
    let kinds = [
        (
            TunnelKind::Vxlan,
            Layer::Vxlan,
            Encapsulation::Vxlan { vni: 7, udp_port: None, udp_checksum: None },
        ),
        (
            TunnelKind::Geneve,
            Layer::Geneve,
            Encapsulation::Geneve { vni: 7, udp_port: None, udp_checksum: None },
        ),
        (TunnelKind::Gre, Layer::Gre, Encapsulation::Gre { key: Some(9) }),
        (
            TunnelKind::Erspan,
            Layer::Erspan,
            Encapsulation::Erspan2(Erspan2 { session: 7, cos: None, index: None }),
        ),
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tunnels.pcap");
    for (source, destination) in [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")] {
        for (kind, layer, encapsulation) in &kinds {
            let transport = tunnel(source, destination, encapsulation);
            let inside = tcp4(1000);
            let mut header = [0; MAX_HEADER_BYTES];
            let written = transport.write(&CopyFacts::default(), &[&inside], &mut header);
            let whole = [&header[..written.header_bytes], &inside].concat();
            let is_ipv6 = source.contains(':');
            let (at, l4) = if is_ipv6 { (18, 54) } else { (16, 34) };
            let is_udp = matches!(kind, TunnelKind::Vxlan | TunnelKind::Geneve);
            let of_ip = with(&whole, at, 0);
            // with UDP's length, which is right, and with none there either
            let of_udp = is_udp.then(|| with(&of_ip, l4 + 4, 0));
            for frame in [Some(&of_ip), of_udp.as_ref()].into_iter().flatten() {
                let any =
                    Terminator { kind: *kind, to: None, from: vec![], identifiers: vec![], udp_port: None };
                let inner = any.recognise(frame).expect("it is this tunnel");
                assert_eq!(&frame[inner.offset..inner.offset + inner.len], inside, "{kind:?}");
                assert_eq!(inner.original_len, inside.len());
                let strip = LayerSet::default().with(*layer);
                assert_eq!(edited(Edits { strip, ..Default::default() }, frame), inside, "{kind:?}");
            }
            // of IPv6 tshark reads nothing then
            if !is_ipv6 && has_program("tshark") {
                write_frames(&path, std::slice::from_ref(&of_ip));
                assert_eq!(innermost_ethernet(&path), [of_ip.len() - inside.len()], "{kind:?}");
            }
        }
    }
}

#[test]
fn a_datagram_ends_where_udp_says_and_padding_behind_it_is_left_out() {
    let inside = ethernet(0x88b5, &[7; 50]);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inside].concat();
    let len = 8 + vxlan.len();
    let udp = [&[0, 9, 0x12, 0xb5][..], &(len as u16).to_be_bytes(), &[0, 0], &vxlan].concat();
    let any =
        Terminator { kind: TunnelKind::Vxlan, to: None, from: vec![], identifiers: vec![], udp_port: None };
    let read = |frame: &[u8]| any.recognise(frame).map(|inner| inner.len);
    let frame = ethernet(0x0800, &ipv4(17, &[&udp[..], &[1; 5]].concat()));
    assert_eq!(read(&frame), Ok(inside.len()), "IP goes on behind UDP");
    // 0 and what ends in front of the inner frame say nothing
    for length in 0..16 {
        assert_eq!(read(&with(&frame, 38, length)), Ok(inside.len() + 5), "UDP says {length}");
    }
    assert_eq!(read(&with(&frame, 38, 16)), Err(Refusal::Malformed), "nothing is inside");
    assert_eq!(read(&with(&frame, 38, 17)), Ok(1));
}

/// Messages with an FCS, padding or a trailer behind them that could be taken for addresses.
fn with_trailers() -> Vec<(Vec<u8>, usize)> {
    let none = Sum::default();
    let igmp = summed(vec![0x11, 10, 0, 0, 0, 0, 0, 0], 2, none);
    // two addresses of two words each; and one more than is there
    let routers = |count| {
        let head = [9, 0, 0, 0, count, 2, 7, 8];
        summed([&head[..], &[10, 1, 1, 1, 0, 0, 0, 0]].concat(), 2, none)
    };
    let quoted = &ipv4(6, &[0; 20])[..28];
    let error = summed([&[3, 3, 0, 0, 0, 0, 0, 0][..], quoted].concat(), 2, none);
    let of_ipv4 = [
        (2, igmp, &b"\0\0abcdefghijklmnop"[..]),
        (1, routers(1), b"\0\0\0\0PADDINGPAD"),
        (1, routers(3), b"\0\0\0\0PADDINGPADDINGPADPADPAD"),
        (1, error, b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78"),
    ];
    let icmpv6 = |message: Vec<u8>| {
        let packet = ipv6(58, &message);
        let pseudo = none.bytes(&packet[8..40]).word(58).word(message.len() as u16);
        summed(message, 2, pseudo)
    };
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let address = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &address].concat();
    // behind it what looks like a prefix option
    let prefix = [&[3, 4, 64, 64][..], &[0; 12], &[0xfe, 0x80], &[0xab; 14]].concat();
    let query = [&[130, 0, 0, 0, 0, 10, 0, 0][..], &group].concat();
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &group].concat();
    let echo = [&[128, 0, 0, 0, 0, 1, 0, 1][..], b"hello"].concat();
    let of_ipv6 = [
        (solicitation, &prefix[..]),
        // as many sources as the padding says
        (query, b"\0\0\0\x02PADDINGPADDINGPADDINGPADDINGPADDING"),
        (report, b"PADDINGPADDING"),
        (echo, b"trailertrailer"),
    ];
    let framed = |packet: Vec<u8>, ethertype, trailer: &[u8]| {
        (ethernet(ethertype, &[&packet, trailer].concat()), 14 + packet.len())
    };
    let of_ipv4 = of_ipv4
        .into_iter()
        .map(|(protocol, message, trailer)| framed(ipv4(protocol, &message), 0x0800, trailer));
    let of_ipv6 =
        of_ipv6.into_iter().map(|(message, trailer)| framed(ipv6(58, &icmpv6(message)), 0x86dd, trailer));
    of_ipv4.chain(of_ipv6).collect()
}

#[test]
fn messages_are_anonymized_to_their_end_and_checksums_stay_right() {
    let frames = with_trailers();
    let changed: Vec<_> = frames.iter().map(|(frame, _)| anonymized(frame)).collect();
    for ((frame, end), changed) in frames.iter().zip(&changed) {
        assert_eq!(changed[*end..], frame[*end..], "what stands behind is no part of it");
        assert_ne!(changed[..*end], frame[..*end]);
    }
    if !has_program("tshark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (before, after) = (folder.path().join("before.pcap"), folder.path().join("after.pcap"));
    write_frames(&before, &frames.iter().map(|(frame, _)| frame.clone()).collect::<Vec<_>>());
    write_frames(&after, &changed);
    let names =
        ["igmp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status", "ip.checksum.status"];
    let (before, after) = (fields(&before, &EACH_ALONE, &names), fields(&after, &EACH_ALONE, &names));
    assert_eq!(before, after);
    for row in &before {
        assert!(row[..3].iter().any(|status| status.starts_with('1')), "{row:?}");
    }
}

#[test]
fn a_length_that_leaves_out_the_inner_header_hides_no_address() {
    let inside = tcp4(20);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inside].concat();
    let udp = [&[0, 9, 0x12, 0xb5, 0, 0, 0, 0][..], &vxlan].concat();
    let frame = ethernet(0x0800, &ipv4(17, &udp));
    let inner = frame.len() - inside.len();
    let addresses = |frame: &[u8]| frame[inner + 26..inner + 34].to_vec();
    let replaced = addresses(&anonymized(&frame));
    for length in 0..=frame.len() as u16 {
        // one length says that nothing is inside: then padding follows
        let is_empty = 14 + usize::from(length) == inner;
        let frame = with(&frame, 16, length);
        let expected = if is_empty { addresses(&frame) } else { replaced.clone() };
        assert_eq!(addresses(&anonymized(&frame)), expected, "the tunnel's packet says {length}");
    }
}

#[test]
fn vrrp_over_ipv4_keeps_a_right_checksum_of_either_kind() {
    if !has_program("tshark") {
        return;
    }
    let message = |version: u8| vec![version << 4 | 1, 7, 100, 1, 0, 100, 0, 0, 198, 18, 0, 9];
    let of = |message: Vec<u8>| ethernet(0x0800, &ipv4(112, &message));
    let addresses = Sum::default().bytes(&ipv4(112, &[])[12..20]).word(112).word(12);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vrrp.pcap");
    // RFC 5798, 5.2.8, with a pseudo-header; RFC 9568, 5.2.8, and version 2 (RFC 3768, 5.3.8) without
    let kinds = [
        (summed(message(3), 6, addresses), "vrrp.v3_checksum_as_in_v2:FALSE"),
        (summed(message(3), 6, Sum::default()), "vrrp.v3_checksum_as_in_v2:TRUE"),
        (summed(message(2), 6, Sum::default()), "vrrp.v3_checksum_as_in_v2:FALSE"),
    ];
    for (message, preference) in kinds {
        // padded, as it comes from a wire
        let mut frame = of(message.clone());
        frame.resize(60, 0x33);
        let mut wrong = message;
        wrong[7] ^= 1;
        write_frames(&path, &[frame.clone(), anonymized(&frame), anonymized(&of(wrong))]);
        let rows = fields(&path, &["-o", preference], &["vrrp.checksum.status"]);
        assert_eq!(rows, [["1"], ["1"], ["0"]], "{preference}");
    }
}

#[test]
fn the_addresses_of_rarp_are_replaced_too() {
    let body = [0, 1, 8, 0, 6, 4, 0, 4, 2, 0, 0, 0, 0, 1, 10, 1, 2, 3, 2, 0, 0, 0, 0, 9, 10, 4, 5, 6];
    let mut frame = ethernet(0x8035, &body);
    frame.resize(60, 0x77);
    let changed = anonymized(&frame);
    let mut anonymizer = Anonymizer::new(&anonymize());
    let [sender, target] = [0x0a01_0203, 0x0a04_0506].map(|address| anonymizer.ipv4(address).to_be_bytes());
    assert_eq!((&changed[28..32], &changed[38..42]), (&sender[..], &target[..]));
    assert_eq!(
        (&changed[..28], &changed[32..38], &changed[42..]),
        (&frame[..28], &frame[32..38], &frame[42..])
    );
}
