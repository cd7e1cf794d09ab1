//! Frames from the inside out: each function puts one header in front of what it is given, with lengths and checksums right.

/// Either family's addresses of one direction of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addresses {
    V4 { source: [u8; 4], destination: [u8; 4] },
    V6 { source: [u8; 16], destination: [u8; 16] },
}

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;

impl Addresses {
    pub fn reversed(self) -> Self {
        match self {
            Self::V4 { source, destination } => Self::V4 { source: destination, destination: source },
            Self::V6 { source, destination } => Self::V6 { source: destination, destination: source },
        }
    }

    /// The checksum of a transport header and its payload, with the pseudo header of RFC 768, RFC 9293 section 3.1 and RFC 8200
    /// section 8.1.
    fn checksum(self, protocol: u8, segment: &[u8]) -> u16 {
        let mut pseudo = Vec::with_capacity(40 + segment.len());
        match self {
            Self::V4 { source, destination } => pseudo.extend([source, destination].concat()),
            Self::V6 { source, destination } => pseudo.extend([source, destination].concat()),
        }
        pseudo.extend((segment.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
        pseudo.extend(segment);
        internet_checksum(&pseudo)
    }
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn ethernet(source: [u8; 6], destination: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&destination[..], &source, payload].concat();
    // the shortest frame on a wire is 64 bytes, of which a capture has all but the frame check sequence
    frame.resize(frame.len().max(60), 0);
    frame
}

/// What follows the addresses of a frame: the tags, outermost first, and the ethertype of the payload.
pub fn tagged(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> =
        tags.iter().flat_map(|&(tpid, id)| [tpid.to_be_bytes(), id.to_be_bytes()].concat()).collect();
    out.extend(ethertype.to_be_bytes());
    out.extend(payload);
    out
}

pub fn tcp(
    addresses: Addresses,
    ports: (u16, u16),
    sequence: (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend([sequence.0.to_be_bytes(), sequence.1.to_be_bytes()].concat());
    segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let checksum = addresses.checksum(TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

pub fn udp(addresses: Addresses, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = [ports.0, ports.1, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    // RFC 768: a computed checksum of zero is sent as all ones
    let checksum = match addresses.checksum(UDP, &datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// ICMP or, between IPv6 addresses, ICMPv6.
pub fn icmp(addresses: Addresses, kind: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(rest);
    message.extend(payload);
    let checksum = match addresses {
        Addresses::V4 { .. } => internet_checksum(&message),
        Addresses::V6 { .. } => addresses.checksum(ICMP6, &message),
    };
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The packets that carry `payload` in pieces of at most `most` bytes each; ethertype and bytes.
pub fn ip(addresses: Addresses, protocol: u8, id: u16, payload: &[u8], most: usize) -> (u16, Vec<Vec<u8>>) {
    let pieces = payload.len().div_ceil(most & !7).max(1);
    let piece = if pieces == 1 { payload.len().max(1) } else { most & !7 };
    let chunks: Vec<&[u8]> =
        if payload.is_empty() { vec![payload] } else { payload.chunks(piece).collect() };
    let packets = chunks.iter().enumerate().map(|(index, chunk)| {
        let offset = (index * piece / 8) as u16;
        let is_last = index + 1 == pieces;
        match addresses {
            Addresses::V4 { source, destination } => {
                let field = if pieces == 1 { 0x4000 } else { offset | if is_last { 0 } else { 0x2000 } };
                ipv4(source, destination, protocol, id, field, chunk)
            }
            Addresses::V6 { source, destination } if pieces == 1 => {
                ipv6(source, destination, protocol, chunk)
            }
            Addresses::V6 { source, destination } => {
                let mut inner = vec![protocol, 0];
                inner.extend((offset << 3 | u16::from(!is_last)).to_be_bytes());
                inner.extend(u32::from(id).to_be_bytes());
                inner.extend(*chunk);
                ipv6(source, destination, FRAGMENT, &inner)
            }
        }
    });
    let ethertype = if matches!(addresses, Addresses::V4 { .. }) { 0x0800 } else { 0x86dd };
    (ethertype, packets.collect())
}

fn ipv4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    id: u16,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend([20 + payload.len() as u16, id, fragment].map(u16::to_be_bytes).concat());
    packet.extend([64, protocol, 0, 0]);
    packet.extend([source, destination].concat());
    let checksum = internet_checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn ipv6(source: [u8; 16], destination: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    // neighbour discovery is valid only with a hop limit of 255 (RFC 4861, section 7.1)
    packet.extend([next_header, 255]);
    packet.extend([source, destination].concat());
    packet.extend(payload);
    packet
}

/// Puts a hop-by-hop header with nothing but padding (PadN) before the payload of an IPv6 packet.
pub fn with_hop_by_hop(packet: &[u8]) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    out[4..6].copy_from_slice(&((packet.len() - 40 + 8) as u16).to_be_bytes());
    out[6] = HOP_BY_HOP;
    out.extend([packet[6], 0, 1, 4, 0, 0, 0, 0]);
    out.extend(&packet[40..]);
    out
}

/// An ARP request or reply (RFC 826): operation 1 or 2.
pub fn arp(operation: u16, sender: ([u8; 6], [u8; 4]), target: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        message.extend(mac);
        message.extend(address);
    }
    message
}
