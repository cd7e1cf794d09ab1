//! Tunnels end here: what was sent comes back, and captured mirrors give the frames that tshark sees in them.

use std::net::IpAddr;

use proptest::prelude::*;
use tapline_api::words::{Direction, Granularity, Refusal, RspanTag, TunnelKind};
use tapline_datapath::copies::facts::{CopyFacts, Stamp};
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, MAX_HEADER_BYTES, Outer, Subheader, Transport,
};
use tapline_datapath::receive::tunnel_match::{Inner, SequenceTracker, Terminator};
use tapline_harness::captures::captures;
use tapline_harness::frames::{OUTER_DESTINATION, OUTER_SOURCE, TIME_NS, frames, tcp4};
use tapline_harness::pcap_files::read_pcap;
use tapline_harness::programs::has_program;
use tapline_harness::tshark::{fields, innermost_ethernet};

fn any(kind: TunnelKind) -> Terminator {
    Terminator { kind, to: None, from: vec![], identifiers: vec![], udp_port: None }
}

/// The frame that the terminated packet is.
fn inner_frame(inner: &Inner, bytes: &[u8]) -> Vec<u8> {
    let mut frame = inner.link.map_or_else(Vec::new, |link| link.to_vec());
    frame.extend(&bytes[inner.offset..inner.offset + inner.len]);
    frame
}

pub(super) fn tunnel(source: &str, destination: &str, encapsulation: &Encapsulation) -> Transport {
    let outer = Outer {
        source_mac: OUTER_SOURCE,
        destination_mac: OUTER_DESTINATION,
        vlan: None,
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        dscp: 0,
        ttl: 64,
        dont_fragment: false,
    };
    Transport::tunnel(&outer, encapsulation).expect("it is valid")
}

fn carried(transport: &Transport, facts: &CopyFacts, frame: &[u8]) -> Vec<u8> {
    let mut header = [0; MAX_HEADER_BYTES];
    let written = transport.write(facts, &[frame], &mut header);
    [&header[..written.header_bytes], &frame[written.replaced_bytes..]].concat()
}

fn kinds() -> Vec<(TunnelKind, Encapsulation, Option<u32>)> {
    let erspan3 = Encapsulation::Erspan3(Erspan3 {
        session: 77,
        cos: None,
        direction: None,
        security_group_tag: 5,
        hardware: Some(43),
        granularity: Granularity::Ieee1588,
        subheader: Subheader::Seconds { switch: 3 },
    });
    vec![
        (TunnelKind::Erspan, Encapsulation::Erspan1, None),
        (
            TunnelKind::Erspan,
            Encapsulation::Erspan2(Erspan2 { session: 77, cos: None, index: Some(43) }),
            Some(77),
        ),
        (TunnelKind::Erspan, erspan3, Some(77)),
        (
            TunnelKind::Vxlan,
            Encapsulation::Vxlan { vni: 0xabcdef, udp_port: None, udp_checksum: None },
            Some(0xabcdef),
        ),
        (
            TunnelKind::Geneve,
            Encapsulation::Geneve { vni: 0xabcdef, udp_port: None, udp_checksum: Some(true) },
            Some(0xabcdef),
        ),
        (TunnelKind::Gre, Encapsulation::Gre { key: Some(0xdeadbeef) }, Some(0xdeadbeef)),
        (TunnelKind::Gre, Encapsulation::Gre { key: None }, None),
    ]
}

#[test]
fn what_a_transport_sends_a_terminator_gives_back_with_its_facts() {
    for (source, destination) in [("198.18.0.1", "198.18.0.9"), ("2001:db8::1", "2001:db8::9")] {
        for (kind, encapsulation, identifier) in kinds() {
            let transport = tunnel(source, destination, &encapsulation);
            let mut tracker = SequenceTracker::new(4);
            for (index, frame) in frames().iter().enumerate() {
                let facts = CopyFacts {
                    stamp: Stamp { ns: TIME_NS, ..Default::default() },
                    direction: Direction::Egress,
                    sequence: index as u32,
                    ..Default::default()
                };
                let mut bytes = carried(&transport, &facts, frame);
                // Padding of the outer frame is not part of the inner one.
                bytes.extend([0; 7]);
                let inner = any(kind).recognise(&bytes).expect("it is this tunnel");
                assert_eq!(&inner_frame(&inner, &bytes), frame);
                assert_eq!((inner.original_len, inner.link), (frame.len(), None));
                assert_eq!(
                    (inner.outer.identifier, inner.outer.source),
                    (identifier, source.parse().expect("an address"))
                );
                if let Encapsulation::Erspan3(_) = encapsulation {
                    assert_eq!(inner.outer.time.and_then(|time| time.ns(0)), Some(TIME_NS));
                    assert!(inner.outer.is_egress && inner.outer.index == Some(43));
                }
                tracker.observe(&inner.outer);

                let to: Option<IpAddr> = destination.parse().ok();
                assert!(Terminator { to, ..any(kind) }.recognise(&bytes).is_ok());
                let elsewhere = Terminator { to: source.parse().ok(), ..any(kind) };
                assert_eq!(elsewhere.recognise(&bytes), Err(Refusal::OtherAddress));
                let prefixes = |texts: &[&str]| {
                    texts.iter().map(|text| text.parse().expect("a prefix")).collect::<Vec<_>>()
                };
                let known = prefixes(&["10.0.0.0/8", "198.18.0.0/29", "2001:db8::/126"]);
                assert!(Terminator { from: known, ..any(kind) }.recognise(&bytes).is_ok());
                let strangers = prefixes(&["198.18.0.8/29", "198.18.0.0", "2001:db8::2", "::/8"]);
                let strangers = Terminator { from: strangers, ..any(kind) };
                assert_eq!(strangers.recognise(&bytes), Err(Refusal::OtherSender));
                let elsewhere = Terminator { to: source.parse().ok(), ..strangers };
                assert_eq!(elsewhere.recognise(&bytes), Err(Refusal::OtherAddress));
                let others = Terminator { identifiers: vec![0..=70], ..any(kind) };
                assert_eq!(others.recognise(&bytes), Err(Refusal::OtherIdentifier));
                if let Some(identifier) = identifier {
                    let exact =
                        Terminator { identifiers: vec![0..=0, identifier..=identifier], ..any(kind) };
                    assert!(exact.recognise(&bytes).is_ok());
                }
                for other in [
                    TunnelKind::Vxlan,
                    TunnelKind::Geneve,
                    TunnelKind::Gre,
                    TunnelKind::Erspan,
                    TunnelKind::Gtp,
                ] {
                    assert_eq!(any(other).recognise(&bytes).is_ok(), other == kind);
                }
                assert_eq!(any(kind).recognise(frame), Err(Refusal::OtherTraffic));
            }
            let has_sequence =
                matches!(encapsulation, Encapsulation::Erspan2(_) | Encapsulation::Erspan3(_));
            let received: Vec<_> = tracker
                .sessions()
                .map(|(_, counts)| (counts.received, counts.lost, counts.duplicate))
                .collect();
            assert_eq!(received, if has_sequence { vec![(8, 0, 0)] } else { vec![] });
        }
    }
}

#[test]
fn a_tunnel_on_a_port_of_its_own_ends_where_that_port_is_named() {
    let kinds = [
        (TunnelKind::Vxlan, Encapsulation::Vxlan { vni: 5, udp_port: Some(4790 + 1), udp_checksum: None }),
        (
            TunnelKind::Geneve,
            Encapsulation::Geneve { vni: 5, udp_port: Some(4790 + 1), udp_checksum: None },
        ),
    ];
    for (kind, encapsulation) in kinds {
        let bytes =
            carried(&tunnel("198.18.0.1", "198.18.0.9", &encapsulation), &CopyFacts::default(), &tcp4(100));
        let there = Terminator { udp_port: Some(4791), ..any(kind) };
        let inner = there.recognise(&bytes).expect("it is this port");
        assert_eq!((inner_frame(&inner, &bytes), inner.outer.identifier), (tcp4(100), Some(5)));
        assert_eq!(any(kind).recognise(&bytes), Err(Refusal::OtherTraffic));
        assert_eq!(
            Terminator { udp_port: Some(4792), ..there }.recognise(&bytes),
            Err(Refusal::OtherTraffic)
        );
    }
}

#[test]
fn an_rspan_vlan_ends_with_its_tag_taken_off() {
    let transport = Transport::rspan(900, 0, RspanTag::Push).expect("it is valid");
    for frame in frames() {
        let bytes = carried(&transport, &CopyFacts::default(), &frame);
        let inner = any(TunnelKind::Rspan).recognise(&bytes).expect("it is tagged");
        assert_eq!((inner_frame(&inner, &bytes), inner.outer.identifier), (frame.clone(), Some(900)));
        let others = Terminator { identifiers: vec![100..=200], ..any(TunnelKind::Rspan) };
        assert_eq!(others.recognise(&bytes), Err(Refusal::OtherIdentifier));
    }
}

#[test]
fn captured_mirrors_hold_the_frames_that_tshark_sees() {
    if !has_program("tshark") {
        return;
    }
    let mut compared = 0;
    for capture in captures(&["pcap"]) {
        let name = capture.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let kind = match name.as_str() {
            // Its name misleads: it is GRE with a key.
            "erspan.pcap" => TunnelKind::Gre,
            "erspanI.pcap" | "erspanII.pcap" | "erspanIII.pcap" => TunnelKind::Erspan,
            "vxlan.pcap" | "vxlan-encapsulated-http.pcap" => TunnelKind::Vxlan,
            "geneve.pcap" | "geneve-ipv6.pcap" | "geneve-many-options.pcap" => TunnelKind::Geneve,
            _ => continue,
        };
        let places = innermost_ethernet(&capture);
        let lengths = fields(
            &capture,
            &[],
            &["erspan.spanid", "vxlan.vni", "geneve.vni", "gre.key", "gre.sequence_number"],
        );
        for (((_, bytes, _), place), row) in
            read_pcap(&capture).expect("a pcap").iter().zip(places).zip(lengths)
        {
            match any(kind).recognise(bytes) {
                Ok(inner) => {
                    // IP without Ethernet has the outer frame's header alone.
                    assert_eq!(if inner.link.is_none() { inner.offset } else { 0 }, place, "{name}");
                    let number = |text: &str| match text.strip_prefix("0x") {
                        Some(digits) => u32::from_str_radix(digits, 16).ok(),
                        None => text.parse().ok(),
                    };
                    let of = |column: usize| row.get(column).and_then(|text| number(text));
                    let identifier = [of(0), of(1), of(2), of(3)].into_iter().flatten().next();
                    assert_eq!(
                        (inner.outer.identifier, inner.outer.sequence),
                        (identifier, of(4)),
                        "{name}"
                    );
                    compared += 1;
                }
                // tshark joins the fragments of a tunnel's packet; a port does not.
                Err(Refusal::Fragment) => {}
                Err(_) => assert_eq!(place, 0, "{name}: tshark sees a frame inside"),
            }
        }
    }
    assert!(compared > 50 || captures(&["pcap"]).is_empty(), "{compared} compared");
}

proptest! {
    #[test]
    fn cut_tunnels_give_no_more_than_there_is(index in 0usize..7, frame_index in 0usize..8, cut in 0usize..1200) {
        let (kind, encapsulation, _) = kinds().remove(index);
        let transport = tunnel("198.18.0.1", "198.18.0.9", &encapsulation);
        let frame = &frames()[frame_index];
        let whole = carried(&transport, &CopyFacts::default(), frame);
        let bytes = &whole[..cut.min(whole.len())];
        match any(kind).recognise(bytes) {
            Ok(inner) => {
                prop_assert_eq!(inner.original_len, frame.len());
                prop_assert_eq!(&bytes[inner.offset..], &frame[..inner.len]);
            }
            Err(_) => prop_assert!(bytes.len() < whole.len() - frame.len()),
        }
    }
}
