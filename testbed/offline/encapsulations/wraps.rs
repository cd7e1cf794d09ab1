//! Frames in each encapsulation of the table, found in each way and with each payload that its row names.

use tapline_harness::frames::{OUTER_DESTINATION, OUTER_SOURCE};
use tapline_packet::layers::{Encapsulation, Found, Payload, ShellKind};
use tapline_traffic::packets;

/// Labels whose pseudowires tshark is told of: with a control word, and without one.
pub(super) const LABEL_WITH_CONTROL_WORD: u32 = 2001;
pub(super) const LABEL_WITHOUT: u32 = 2002;

const SOURCE: u32 = 0xc612_0001;
const DESTINATION: u32 = 0xc612_0002;

/// The frames that carry `frame` as the row says; none where that cannot be, as IPv4 in Teredo.
pub(super) fn wraps(row: &Encapsulation, found: Found, payload: Payload, frame: &[u8]) -> Vec<Vec<u8>> {
    let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
    let inside = Inside { ethertype, packet: &frame[14..], frame };
    match found {
        Found::Tpid => vec![
            link(0x8100, &packets::tag(100, ethertype, inside.packet)),
            link(0x88a8, &packets::tag(200, 0x9100, &packets::tag(100, ethertype, inside.packet))),
        ],
        Found::Ethertype(outer) => by_type(row.kind, outer, payload, &inside),
        Found::IpProtocol(47) => {
            gre(row.kind, payload, &inside).iter().map(|gre| in_ipv4(47, gre)).collect()
        }
        Found::IpProtocol(protocol) => by_protocol(row.kind, protocol, &inside),
        Found::UdpPort { port, replies } => {
            let datagrams = by_port(row.kind, port, payload, &inside);
            let sent = datagrams.iter().map(|datagram| in_udp(49_152, port, datagram));
            let came_back =
                datagrams.iter().filter(|_| replies).map(|datagram| in_udp(port, 49_152, datagram));
            sent.chain(came_back).collect()
        }
        Found::Gre { .. } | Found::OtherGre => {
            gre(row.kind, payload, &inside).iter().map(|gre| in_ipv4(47, gre)).collect()
        }
    }
}

/// What is carried.
struct Inside<'a> {
    ethertype: u16,
    packet: &'a [u8],
    frame: &'a [u8],
}

impl Inside<'_> {
    /// Type and bytes of a payload; `None` where this is none.
    fn typed(&self, payload: Payload) -> Option<(u16, Vec<u8>)> {
        match payload {
            Payload::Ethernet => Some((0x6558, self.frame.to_vec())),
            Payload::Ipv6 if self.ethertype != 0x86dd => None,
            Payload::Ip | Payload::Ipv6 | Payload::Typed => Some((self.ethertype, self.packet.to_vec())),
            Payload::Mpls => Some((0x8847, packets::mpls(&[16, 17], self.packet))),
            Payload::Wlan => None,
        }
    }

    /// Data frames of 802.11: to an access point, and from one with quality of service.
    fn wlan(&self, swapped: bool) -> Vec<Vec<u8>> {
        let control = |kind: u8, flags: u8| if swapped { [flags, kind] } else { [kind, flags] };
        let addresses = [&self.frame[..6], &self.frame[6..12], &[2, 0, 0, 0, 0, 9]].concat();
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &self.frame[12..]].concat();
        vec![
            [&control(0x08, 0x01)[..], &[0, 0], &addresses, &[0x10, 0], &snap].concat(),
            [&control(0x88, 0x02)[..], &[0, 0], &addresses, &[0x10, 0], &[0, 0], &snap].concat(),
        ]
    }

    /// PPP with all of its fields, and with as few as there can be.
    fn ppp(&self, payload: Payload) -> Vec<Vec<u8>> {
        let Some((ethertype, bytes)) = self.typed(payload) else { return Vec::new() };
        let protocol: u16 = match ethertype {
            0x0800 => 0x0021,
            0x86dd => 0x0057,
            _ => 0x0281,
        };
        let [high, low] = protocol.to_be_bytes();
        let long = [&[0xff, 3, high, low][..], &bytes].concat();
        let short =
            if high == 0 { [&[low][..], &bytes].concat() } else { [&[high, low], &bytes[..]].concat() };
        vec![long, short]
    }
}

fn link(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    packets::ethernet(OUTER_DESTINATION.0, OUTER_SOURCE.0, ethertype, payload)
}

pub(super) fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    link(0x0800, &packets::ipv4(SOURCE, DESTINATION, protocol, 0, payload))
}

fn in_udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    in_ipv4(17, &packets::udp(source, destination, payload))
}

fn by_type(kind: ShellKind, outer: u16, payload: Payload, inside: &Inside<'_>) -> Vec<Vec<u8>> {
    let next = [&inside.ethertype.to_be_bytes()[..], inside.packet].concat();
    let tag = |fields: &[u8]| vec![link(outer, &[fields, &next].concat())];
    match kind {
        ShellKind::Vntag => tag(&[0, 0, 0, 0x14]),
        ShellKind::Etag => tag(&[0x40, 1, 0x10, 2, 0, 0]),
        ShellKind::Cmd => tag(&[1, 1, 0, 1, 0, 0x64]),
        ShellKind::Arista => [
            tag(&[0, 1, 1, 0x10, 0x65, 0x53, 0xf1, 0, 7, 0x5b, 0xcd, 0x15]),
            tag(&[0, 1, 1, 0x20, 0xf1, 0, 7, 0x5b, 0xcd, 0x15]),
        ]
        .concat(),
        ShellKind::Pppoe => {
            // No address and control fields here (RFC 2516, 4).
            let of_ppp = |ppp: Vec<u8>| {
                let ppp = ppp.strip_prefix(&[0xff, 3][..]).map_or(ppp.clone(), <[u8]>::to_vec);
                let len = (ppp.len() as u16).to_be_bytes();
                link(outer, &[&[0x11, 0, 0, 0x11], &len[..], &ppp].concat())
            };
            inside.ppp(payload).into_iter().map(of_ppp).collect()
        }
        ShellKind::Mpls => vec![link(outer, &packets::mpls(&[16, 17], inside.packet))],
        ShellKind::Pseudowire => vec![
            link(
                outer,
                &packets::mpls(&[16, LABEL_WITH_CONTROL_WORD], &[&[0, 0, 0, 0], inside.frame].concat()),
            ),
            link(outer, &packets::mpls(&[LABEL_WITHOUT], inside.frame)),
        ],
        ShellKind::Fabricpath => {
            // Switch and port numbers stand in addresses of their own making; forwarding tag 1, time to live 32.
            let addresses = [[2, 0, 1, 0, 2, 0], [2, 0, 3, 0, 4, 0]];
            vec![packets::ethernet(
                addresses[0],
                addresses[1],
                outer,
                &[&[0, 0x60][..], inside.frame].concat(),
            )]
        }
        ShellKind::Nsh => {
            let Some((ethertype, bytes)) = inside.typed(payload) else { return Vec::new() };
            let next = match ethertype {
                0x0800 => 1,
                0x86dd => 2,
                0x6558 => 3,
                _ => 5,
            };
            let path = [0, 0, 7, 255];
            vec![
                link(outer, &[&[0x0f, 0xc6, 1, next], &path[..], &[0; 16], &bytes].concat()),
                link(outer, &[&[0x0f, 0xc2, 2, next], &path[..], &bytes].concat()),
            ]
        }
        _ => panic!("{kind:?} is not found by a type"),
    }
}

fn by_protocol(kind: ShellKind, protocol: u8, inside: &Inside<'_>) -> Vec<Vec<u8>> {
    match kind {
        ShellKind::MplsInIp => vec![in_ipv4(protocol, &packets::mpls(&[16, 17], inside.packet))],
        ShellKind::Ipip => {
            let is_of_this = (protocol == 4) == (inside.ethertype == 0x0800);
            if is_of_this { vec![in_ipv4(protocol, inside.packet)] } else { Vec::new() }
        }
        ShellKind::Etherip => vec![in_ipv4(protocol, &[&[0x30, 0], inside.frame].concat())],
        ShellKind::Srv6 => {
            let (source, destination) = (0xfd00 << 112 | 1, 0xfd00 << 112 | 2);
            let segments = [&[protocol, 2, 4, 0, 0, 0, 0, 0][..], &u128::to_be_bytes(destination)].concat();
            vec![
                link(0x86dd, &packets::ipv6(source, destination, protocol, inside.frame)),
                link(0x86dd, &packets::ipv6(source, destination, 43, &[&segments, inside.frame].concat())),
            ]
        }
        _ => panic!("{kind:?} is not found by an IP protocol"),
    }
}

fn by_port(kind: ShellKind, port: u16, payload: Payload, inside: &Inside<'_>) -> Vec<Vec<u8>> {
    let typed = inside.typed(payload);
    match (kind, typed) {
        (ShellKind::Tzsp, None) => {
            inside.wlan(false).iter().map(|frame| [&[1, 0, 0, 18, 1], &frame[..]].concat()).collect()
        }
        (ShellKind::Tzsp, Some((_, bytes))) => vec![
            [&[1, 0, 0, 1, 1], &bytes[..]].concat(),
            // Signal strength, padding, channel.
            [&[1, 1, 0, 1, 10, 1, 0xc0, 0, 18, 1, 6, 1], &bytes[..]].concat(),
        ],
        (ShellKind::Capwap, None) => {
            // Sixteen bytes with the radio's address; native frames of 802.11. The fixed part alone, as Cisco swaps the field.
            let radio = [&[0, 0x20, 0x43, 0x10, 0, 0, 0, 0, 6][..], &[2, 0, 0, 0, 0, 9, 0]].concat();
            let plain = [0, 0x10, 0x43, 0, 0, 0, 0, 0];
            let long = inside.wlan(true).into_iter().map(|frame| [&radio[..], &frame].concat());
            long.chain(inside.wlan(true).into_iter().map(|frame| [&plain[..], &frame].concat())).collect()
        }
        (ShellKind::Capwap, Some((_, bytes))) => {
            vec![[&[0, 0x10, 0x42, 0, 0, 0, 0, 0], &bytes[..]].concat()]
        }
        (ShellKind::Gre, _) => gre(kind, payload, inside),
        (ShellKind::L2tp, _) => {
            let session = |ppp: &Vec<u8>| {
                let len = (ppp.len() as u16 + 12).to_be_bytes();
                let sequenced = [&[0x48, 2], &len[..], &[0, 1, 0, 1, 0, 5, 0, 6], ppp].concat();
                let padded = [&[2, 2, 0, 1, 0, 1, 0, 2, 0xee, 0xee], &ppp[..]].concat();
                [[&[0, 2, 0, 1, 0, 1], &ppp[..]].concat(), sequenced, padded]
            };
            inside.ppp(payload).iter().flat_map(session).collect()
        }
        (_, None) => Vec::new(),
        (ShellKind::MplsInIp, Some((_, bytes))) => vec![bytes],
        (ShellKind::Vxlan, Some((_, bytes))) => {
            vec![packets::vxlan(7, &bytes), [&[0; 8], &bytes[..]].concat()]
        }
        (ShellKind::VxlanGpe, Some((ethertype, bytes))) => {
            let next = match ethertype {
                0x0800 => 1,
                0x86dd => 2,
                _ => 3,
            };
            vec![[&[0x0c, 0, 0, next, 0, 0, 7, 0], &bytes[..]].concat()]
        }
        (ShellKind::Geneve, Some((ethertype, bytes))) => vec![
            packets::geneve(7, ethertype, &[], &bytes),
            packets::geneve(7, ethertype, &[0, 1, 2, 1, 0, 0, 0, 0], &bytes),
        ],
        (ShellKind::Gtp, Some((_, bytes))) => {
            let len = (bytes.len() as u16 + 8).to_be_bytes();
            // With sequence number and the container of a PDU session (TS 38.415).
            let session =
                [&[0x36, 255], &len[..], &[0, 0, 0, 9, 0, 1, 0, 0x85, 1, 0, 9, 0], &bytes].concat();
            vec![packets::gtp(9, &bytes), session]
        }
        (ShellKind::Teredo, Some((_, bytes))) => {
            let authentication = [0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0];
            let origin = [0, 0, 0xab, 0xcd, !10, !1, !2, !9];
            vec![
                bytes.clone(),
                [&origin, &bytes[..]].concat(),
                [&authentication[..], &origin, &bytes].concat(),
            ]
        }
        _ => panic!("{kind:?} is not found by UDP port {port}"),
    }
}

fn gre(kind: ShellKind, payload: Payload, inside: &Inside<'_>) -> Vec<Vec<u8>> {
    let Some((ethertype, bytes)) = inside.typed(payload) else { return Vec::new() };
    match kind {
        ShellKind::Gre => {
            let more = if payload == Payload::Typed {
                vec![packets::gre(0x8847, None, Some(1), &packets::mpls(&[16], inside.packet))]
            } else {
                Vec::new()
            };
            let plain = packets::gre(ethertype, None, None, &bytes);
            [vec![plain, packets::gre(ethertype, Some(7), Some(9), &bytes)], more].concat()
        }
        ShellKind::GreMellanox => vec![packets::gre(0x8949, None, None, &[&[0; 22], &bytes[..]].concat())],
        ShellKind::Pptp => {
            let sequenced = |ppp: &Vec<u8>| {
                let len = (ppp.len() as u16).to_be_bytes();
                let header = [&[0x30, 1, 0x88, 0x0b], &len[..], &[0, 1, 0, 0, 0, 1]].concat();
                let acknowledging =
                    [&[0x30, 0x81, 0x88, 0x0b], &len[..], &[0, 1, 0, 0, 0, 2, 0, 0, 0, 7]].concat();
                [[&header[..], ppp].concat(), [&acknowledging[..], ppp].concat()]
            };
            inside.ppp(payload).iter().flat_map(sequenced).collect()
        }
        ShellKind::Erspan1 => vec![packets::gre(0x88be, None, None, &bytes)],
        ShellKind::Erspan2 => {
            vec![packets::gre(0x88be, None, Some(2), &[&[0x10, 7, 0, 42, 0, 0, 0, 1], &bytes[..]].concat())]
        }
        ShellKind::Erspan3 => {
            let is_frame = payload == Payload::Ethernet;
            let plain = [0x20, 7, 0, 42, 0, 0, 0, 1, 0, 0, if is_frame { 0 } else { 8 }, 4];
            let long = [
                &[0x20, 7, 0, 42, 0, 0, 0, 1, 0, 0, if is_frame { 0 } else { 8 }, 5][..],
                &[0x0c],
                &[0; 3],
                &[0, 0, 0, 1],
            ]
            .concat();
            [&plain[..], &long]
                .iter()
                .map(|header| packets::gre(0x22eb, None, Some(2), &[header, &bytes[..]].concat()))
                .collect()
        }
        _ => panic!("{kind:?} is not found by GRE"),
    }
}
