//! Traffic for the demo and the tests, made the same way every time: conversations of an office network, seen on a SPAN port.
//!
//! Every header is filled in and every checksum is right, so that what a tool receives can be judged by any dissector.

pub mod frame;
pub mod packets;

use frame::{Addresses, ICMP, ICMP6, TCP, UDP, arp, ethernet, icmp, ip, tagged, tcp, udp, with_hop_by_hop};

/// One frame and when it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
    pub bytes: Vec<u8>,
}

/// Frames in the order in which they were seen.
#[derive(Clone, Default, Debug)]
pub struct Traffic {
    pub packets: Vec<Packet>,
    /// Conversations among them.
    pub flows: usize,
}

/// 2025-01-01T00:00:00Z.
const START_US: u64 = 1_735_689_600_000_000;

impl Traffic {
    /// The traffic as a classic pcap file: microseconds, little-endian, Ethernet.
    pub fn to_pcap(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4_u32.to_le_bytes());
        file.extend([2u16, 4].map(u16::to_le_bytes).concat());
        file.extend([0u32, 0, 262_144, 1].map(u32::to_le_bytes).concat());
        for packet in &self.packets {
            let len = packet.bytes.len() as u32;
            let (seconds, rest) =
                ((packet.time_us / 1_000_000) as u32, (packet.time_us % 1_000_000) as u32);
            file.extend([seconds, rest, len, len].map(u32::to_le_bytes).concat());
            file.extend(&packet.bytes);
        }
        file
    }
}

/// What one side of a conversation looks like on the wire.
struct Path {
    /// Tags as type and ID, outermost first.
    tags: Vec<(u16, u16)>,
    client_mac: [u8; 6],
    server_mac: [u8; 6],
    addresses: Addresses,
    has_hop_by_hop: bool,
}

/// Largest IP payload that fits an Ethernet frame.
const MOST_IP_PAYLOAD: usize = 1480;

impl Path {
    /// The frames that carry a transport segment one way.
    fn frames(&self, is_reply: bool, protocol: u8, id: u16, segment: &[u8]) -> Vec<Vec<u8>> {
        let (addresses, source, destination) = self.way(is_reply);
        let (ethertype, packets) =
            ip(addresses, protocol, id, segment, MOST_IP_PAYLOAD - if self.is_v6() { 32 } else { 0 });
        let frame = |packet: &Vec<u8>| {
            let packet = if self.has_hop_by_hop { with_hop_by_hop(packet) } else { packet.clone() };
            ethernet(source, destination, &tagged(&self.tags, ethertype, &packet))
        };
        packets.iter().map(frame).collect()
    }

    fn way(&self, is_reply: bool) -> (Addresses, [u8; 6], [u8; 6]) {
        match is_reply {
            false => (self.addresses, self.client_mac, self.server_mac),
            true => (self.addresses.reversed(), self.server_mac, self.client_mac),
        }
    }

    fn is_v6(&self) -> bool {
        matches!(self.addresses, Addresses::V6 { .. })
    }
}

/// Bytes that look like nothing in particular, the same for the same seed (xorshift64*, Vigna 2016).
pub struct Noise(pub u64);

impl Noise {
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }
}

/// The conversations of the demo, interleaved: web, shell, DNS, telephony and storage over IPv4 and IPv6, some of it in VLANs 100
/// to 103 and in stacked tags, with fragments, pings, ARP and neighbour discovery.
pub fn office() -> Traffic {
    let mut noise = Noise(0x7a91_1e5e_ed00_0001);
    let mut conversations: Vec<Vec<Vec<u8>>> = Vec::new();
    for index in 0..64u8 {
        let path = path_of(index);
        let client_port = 49152 + u16::from(index) * 7;
        conversations.push(match index % 8 {
            0 | 1 => tcp_session(&path, (client_port, 443), 6 + usize::from(index % 5), &mut noise),
            2 => tcp_session(&path, (client_port, 80), 4 + usize::from(index % 3), &mut noise),
            3 => dns(&path, client_port, index),
            4 => telephony(&path, (client_port, 5004), &mut noise),
            5 => fragmented(&path, (client_port, 2049), &mut noise),
            6 => tcp_session(&path, (client_port, 22), 8, &mut noise),
            _ => pings(&path, u16::from(index)),
        });
    }
    conversations.push(arps());
    let flows = conversations.len();
    interleave(conversations, flows, &mut noise)
}

/// A large transfer with 9000-byte frames beside small ones: for ports that pass jumbo frames.
pub fn jumbo() -> Traffic {
    let mut noise = Noise(0x7a91_1e5e_ed00_0002);
    let mut packets = Vec::new();
    for index in 0..60u16 {
        let path = path_of((index % 4) as u8 * 8);
        let (addresses, source, destination) = path.way(index % 2 == 1);
        let len = [8952, 40, 4000, 2100][usize::from(index % 4)];
        let mut payload = noise.bytes(len);
        // a mark far behind the first mbuf's room, for filters that look there
        if let Some(mark) = payload.get_mut(3000..3002) {
            mark.copy_from_slice(&(index % 3).to_be_bytes());
        }
        let ports = if index % 2 == 1 { (2049, 50000) } else { (50000, 2049) };
        let segment = tcp(addresses, ports, (u32::from(index) * 9000, 1), 0x10, &payload);
        let (ethertype, whole) = ip(addresses, TCP, index, &segment, 65_000);
        packets.push(ethernet(source, destination, &tagged(&path.tags, ethertype, &whole[0])));
    }
    interleave(vec![packets], 4, &mut noise)
}

/// Addresses and tags of a conversation: every third is IPv6, and VLANs take turns.
fn path_of(index: u8) -> Path {
    let addresses = if index % 3 == 1 {
        let mut source = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut destination = source;
        source[15] = 10 + index;
        destination[7] = 2;
        destination[15] = 1 + index % 5;
        Addresses::V6 { source, destination }
    } else {
        Addresses::V4 {
            source: [10, 1, index / 32, 10 + index],
            destination: [198, 51, 100, 1 + index % 5],
        }
    };
    let tags = match (index / 8) % 4 {
        1 => vec![(0x8100, 100 + u16::from(index % 4))],
        3 if index % 8 >= 4 => vec![(0x88a8, 500), (0x8100, 100 + u16::from(index % 4))],
        _ => Vec::new(),
    };
    Path {
        tags,
        client_mac: [2, 0, 0, 0, 1, index],
        server_mac: [2, 0, 0, 0, 2, index % 5],
        addresses,
        has_hop_by_hop: matches!(addresses, Addresses::V6 { .. }) && index.is_multiple_of(5),
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Handshake, `exchanges` of a request and a reply of one to three segments, and the close.
fn tcp_session(
    path: &Path,
    (client, server): (u16, u16),
    exchanges: usize,
    noise: &mut Noise,
) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut next = [noise.next() as u32, noise.next() as u32];
    let mut id = noise.next() as u16;
    let mut send = |is_reply: bool, flags: u8, payload: &[u8], frames: &mut Vec<Vec<u8>>| {
        let (own, other) = if is_reply { (1, 0) } else { (0, 1) };
        let ports = if is_reply { (server, client) } else { (client, server) };
        let acknowledged = if flags & ACK == 0 { 0 } else { next[other] };
        let segment = tcp(path.way(is_reply).0, ports, (next[own], acknowledged), flags, payload);
        next[own] = next[own].wrapping_add(payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0));
        id = id.wrapping_add(1);
        frames.extend(path.frames(is_reply, TCP, id, &segment));
    };
    send(false, SYN, &[], &mut frames);
    send(true, SYN | ACK, &[], &mut frames);
    send(false, ACK, &[], &mut frames);
    for _ in 0..exchanges {
        let request = noise.below(400) as usize + 20;
        let request = match server {
            80 => b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n".to_vec(),
            _ => noise.bytes(request),
        };
        send(false, ACK | PSH, &request, &mut frames);
        for _ in 0..=noise.below(3) {
            let body_len = 100 + noise.below(1300) as usize;
            let body = noise.bytes(body_len);
            let head = if server == 80 {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {body_len}\r\n\r\n")
            } else {
                String::new()
            };
            let reply = [head.as_bytes(), &body].concat();
            send(true, ACK | PSH, &reply, &mut frames);
        }
        send(false, ACK, &[], &mut frames);
    }
    send(false, FIN | ACK, &[], &mut frames);
    send(true, FIN | ACK, &[], &mut frames);
    send(false, ACK, &[], &mut frames);
    frames
}

/// Questions for an A record and their answers (RFC 1035).
fn dns(path: &Path, client_port: u16, index: u8) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for turn in 0..4u16 {
        let id = u16::from(index) << 4 | turn;
        let question = [&[7][..], b"example", &[3], b"net", &[0, 0, 1, 0, 1]].concat();
        let head = |flags: u16, answers: u16| [id, flags, 1, answers, 0, 0].map(u16::to_be_bytes).concat();
        let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 198, 51, 100, 1 + index % 5];
        let asked = udp(path.addresses, (client_port, 53), &[head(0x0100, 0), question.clone()].concat());
        let replied = udp(
            path.addresses.reversed(),
            (53, client_port),
            &[head(0x8180, 1), question, answer.to_vec()].concat(),
        );
        frames.extend(path.frames(false, UDP, id, &asked));
        frames.extend(path.frames(true, UDP, id, &replied));
    }
    frames
}

/// Datagrams of 172 bytes both ways (RTP, RFC 3550: 20 ms of G.711).
fn telephony(path: &Path, (client, server): (u16, u16), noise: &mut Noise) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for turn in 0..20u16 {
        for is_reply in [false, true] {
            let ports = if is_reply { (server, client) } else { (client, server) };
            let mut payload = vec![0x80, 0];
            payload.extend(turn.to_be_bytes());
            payload.extend((u32::from(turn) * 160).to_be_bytes());
            payload.extend([0, 0, u8::from(is_reply), client as u8]);
            payload.extend(noise.bytes(160));
            frames.extend(path.frames(is_reply, UDP, turn, &udp(path.way(is_reply).0, ports, &payload)));
        }
    }
    frames
}

/// Small requests with answers that need three fragments, and one that needs two the other way.
fn fragmented(path: &Path, (client, server): (u16, u16), noise: &mut Noise) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for turn in 0..4u16 {
        let asked = udp(path.addresses, (client, server), &noise.bytes(if turn == 3 { 2000 } else { 120 }));
        let replied = udp(path.addresses.reversed(), (server, client), &noise.bytes(4000));
        frames.extend(path.frames(false, UDP, 100 + turn, &asked));
        frames.extend(path.frames(true, UDP, 200 + turn, &replied));
    }
    frames
}

/// Echo requests and replies; over IPv6 with the neighbour discovery that comes before.
fn pings(path: &Path, identifier: u16) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let (protocol, request, reply) = if path.is_v6() { (ICMP6, 128, 129) } else { (ICMP, 8, 0) };
    if let Addresses::V6 { destination, .. } = path.addresses {
        let asked =
            icmp(path.addresses, 135, [0; 4], &[&destination[..], &[1, 1], &path.client_mac].concat());
        let told = icmp(
            path.addresses.reversed(),
            136,
            [0x60, 0, 0, 0],
            &[&destination[..], &[2, 1], &path.server_mac].concat(),
        );
        frames.extend(path.frames(false, ICMP6, 0, &asked));
        frames.extend(path.frames(true, ICMP6, 0, &told));
    }
    for turn in 0..5u16 {
        let [a, b] = identifier.to_be_bytes();
        let rest = [a, b, 0, turn as u8];
        let payload = [0x5a; 56];
        frames.extend(path.frames(false, protocol, turn, &icmp(path.addresses, request, rest, &payload)));
        frames.extend(path.frames(
            true,
            protocol,
            turn,
            &icmp(path.addresses.reversed(), reply, rest, &payload),
        ));
    }
    frames
}

/// Hosts that ask for the gateway, which answers.
fn arps() -> Vec<Vec<u8>> {
    let gateway = ([2, 0, 0, 0, 2, 0], [10, 1, 0, 1]);
    let mut frames = Vec::new();
    for host in 10..18u8 {
        let asking = ([2, 0, 0, 0, 1, host], [10, 1, 0, host]);
        let question = arp(1, asking, ([0; 6], gateway.1));
        frames.push(ethernet(asking.0, [0xff; 6], &tagged(&[], 0x0806, &question)));
        frames.push(ethernet(gateway.0, asking.0, &tagged(&[], 0x0806, &arp(2, gateway, asking))));
    }
    frames
}

/// Mixes conversations as a SPAN port would see them: each keeps its own order.
fn interleave(conversations: Vec<Vec<Vec<u8>>>, flows: usize, noise: &mut Noise) -> Traffic {
    let mut waiting: Vec<std::vec::IntoIter<Vec<u8>>> =
        conversations.into_iter().map(Vec::into_iter).collect();
    let mut traffic = Traffic { packets: Vec::new(), flows };
    let mut time_us = START_US;
    while !waiting.is_empty() {
        let place = noise.below(waiting.len() as u64) as usize;
        match waiting[place].next() {
            Some(bytes) => {
                time_us += 20 + noise.below(400);
                traffic.packets.push(Packet { time_us, bytes });
            }
            None => drop(waiting.swap_remove(place)),
        }
    }
    traffic
}
