//! Frames that tests are made of: with checksums, where it is not said otherwise.

use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet::MacAddress;

/// The time of every packet here: 2023-11-14T22:13:20.123456789Z.
pub const SECONDS: u32 = 1_700_000_000;
pub const NANOSECONDS: u32 = 123_456_789;
pub const TIME_NS: u64 = SECONDS as u64 * 1_000_000_000 + NANOSECONDS as u64;

pub const OUTER_SOURCE: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const OUTER_DESTINATION: MacAddress = MacAddress([2, 0, 0, 0, 1, 2]);

/// An Ethernet frame with addresses of its own.
pub fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

/// An IPv4 datagram from 10.1.2.3 to 10.4.5.6.
pub fn ipv4(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6];
    header[2..4].copy_from_slice(&((20 + body.len()) as u16).to_be_bytes());
    let checksum = Sum::default().bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header.extend(body);
    header
}

/// An IPv6 datagram from 2001:db8::1 to 2001:db8::2.
pub fn ipv6(next_header: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 0, next_header, 64];
    header[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    for last in [1, 2] {
        header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    header.extend(body);
    header
}

fn with_checksum(ip: Vec<u8>, at: usize) -> Vec<u8> {
    let is_ipv6 = ip[0] >> 4 == 6;
    let (addresses, header, protocol) =
        if is_ipv6 { (&ip[8..40], 40, ip[6]) } else { (&ip[12..20], 20, ip[9]) };
    let body = &ip[header..];
    let sum = Sum::default()
        .bytes(addresses)
        .word(protocol.into())
        .word(body.len() as u16)
        .bytes(body)
        .udp_checksum();
    let mut ip = ip;
    ip[header + at..header + at + 2].copy_from_slice(&sum.to_be_bytes());
    ip
}

fn udp_datagram(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    out.extend(payload);
    out
}

fn tcp_segment(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 4, 0, 0, 0, 0, 0];
    out.extend(payload);
    out
}

pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + 3) as u8).collect()
}

pub fn udp4(len: usize) -> Vec<u8> {
    ethernet(0x0800, &with_checksum(ipv4(17, &udp_datagram(&payload(len))), 6))
}

pub fn udp6(len: usize) -> Vec<u8> {
    ethernet(0x86dd, &with_checksum(ipv6(17, &udp_datagram(&payload(len))), 6))
}

pub fn tcp4(len: usize) -> Vec<u8> {
    ethernet(0x0800, &with_checksum(ipv4(6, &tcp_segment(&payload(len))), 16))
}

pub fn tcp6(len: usize) -> Vec<u8> {
    ethernet(0x86dd, &with_checksum(ipv6(6, &tcp_segment(&payload(len))), 16))
}

pub fn arp() -> Vec<u8> {
    ethernet(
        0x0806,
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 4, 5, 6],
    )
}

/// The frame with an 802.1Q tag after its addresses.
pub fn tagged(frame: &[u8], vlan: u16, priority: u16) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    out.extend([0x81, 0]);
    out.extend((priority << 13 | vlan).to_be_bytes());
    out.extend(&frame[12..]);
    out
}

/// One of each kind, of odd and even lengths.
pub fn frames() -> Vec<Vec<u8>> {
    vec![
        udp4(61),
        udp4(1000),
        tcp4(33),
        tcp6(600),
        udp6(59),
        arp(),
        tagged(&tcp4(100), 100, 3),
        tagged(&udp6(7), 4094, 7),
    ]
}

/// A UDP datagram over IPv4, its checksum left out.
pub fn udp(id: u16, source: [u8; 4], source_port: u16, ttl: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut ip = [0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0, 0, 0, 0, 0, 198, 18, 0, 9];
    ip[4..6].copy_from_slice(&id.to_be_bytes());
    ip[12..16].copy_from_slice(&source);
    let sum = ip.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.extend([0x5a; 18]);
    frame
}

/// `count` numbered UDP packets of `len` bytes from port 1000 on; destination ports take turns.
pub fn numbered(count: usize, len: usize, ports: &[u16]) -> Vec<Vec<u8>> {
    let packet = |index: usize| {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let ip_len = (len - 14) as u16;
        bytes.extend([
            0x45,
            0,
            (ip_len >> 8) as u8,
            ip_len as u8,
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            198,
            18,
            0,
            1,
            198,
            18,
            0,
            2,
        ]);
        bytes.extend((1000 + (index % 50) as u16).to_be_bytes());
        bytes.extend(ports[index % ports.len()].to_be_bytes());
        bytes.extend((ip_len - 20).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend((index as u32).to_be_bytes());
        bytes.resize(len, 0xa5);
        bytes
    };
    (0..count).map(packet).collect()
}
