//! Packets made by hand, for tests and benches: each function puts one header in front of what it is given.

pub const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

pub fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// What follows a TPID.
pub fn tag(vlan: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

pub fn mpls(labels: &[u32], payload: &[u8]) -> Vec<u8> {
    let last = labels.len() - 1;
    let entry =
        |(i, label): (usize, &u32)| (label << 12 | if i == last { 0x100 } else { 0 } | 64).to_be_bytes();
    [labels.iter().enumerate().map(entry).collect::<Vec<_>>().concat(), payload.to_vec()].concat()
}

/// `fragment` is the field of flags and offset.
pub fn ipv4(source: u32, destination: u32, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total_len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total_len.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    let checksum = !packet.chunks_exact(2).fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([word[0], word[1]]));
        sum + u16::from(carry)
    });
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub fn ipv6(source: u128, destination: u128, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Eight bytes of options that say nothing (PadN), as hop-by-hop or destination options.
pub fn options(next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

pub fn fragment(next_header: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 0][..], &(offset << 3 | u16::from(more)).to_be_bytes(), &[0, 0, 0, 7], payload].concat()
}

pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

pub fn tcp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    [
        &source.to_be_bytes()[..],
        &destination.to_be_bytes(),
        &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0],
        payload,
    ]
    .concat()
}

pub fn arp(operation: u16, sender: u32, target: u32) -> Vec<u8> {
    let operation = operation.to_be_bytes();
    [&[0, 1, 8, 0, 6, 4][..], &operation, &MAC_A, &sender.to_be_bytes(), &[0; 6], &target.to_be_bytes()]
        .concat()
}

pub fn vxlan(vni: u32, payload: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), payload].concat()
}

pub fn geneve(vni: u32, ethertype: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let ethertype = ethertype.to_be_bytes();
    [&[(options.len() / 4) as u8, 0][..], &ethertype, &(vni << 8).to_be_bytes(), options, payload].concat()
}

/// GRE with or without key and sequence number.
pub fn gre(protocol: u16, key: Option<u32>, sequence: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let flags = u16::from(key.is_some()) << 13 | u16::from(sequence.is_some()) << 12;
    let options: Vec<u8> = key.into_iter().chain(sequence).flat_map(u32::to_be_bytes).collect();
    [&flags.to_be_bytes()[..], &protocol.to_be_bytes(), &options, payload].concat()
}

pub fn gtp(teid: u32, payload: &[u8]) -> Vec<u8> {
    [&[0x30, 255][..], &(payload.len() as u16).to_be_bytes(), &teid.to_be_bytes(), payload].concat()
}

/// A seeded mix of TCP, UDP, ICMP and ARP, v4 and v6, some of it fragmented, tagged, labelled or tunnelled, 60 to 1514 bytes,
/// in shuffled order. `tunnels` in 100 packets are VXLAN, GRE or GTP.
pub fn mix(count: usize, seed: u64, tunnels: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    (0..count).map(|_| one_of_mix(&mut random, tunnels)).collect()
}

fn one_of_mix(random: &mut Random, tunnels: u64) -> Vec<u8> {
    let (a, b) = (0x0a00_0000 | random.below(4096) as u32, 0x0a01_0000 | random.below(4096) as u32);
    let (sport, dport) = (1024 + random.below(60000) as u16, [80, 443, 53, 22][random.below(4) as usize]);
    let payload = vec![0x55; 18 + random.below(1380) as usize];
    let (v6a, v6b) = (0x2001_0db8 << 96 | u128::from(a), 0x2001_0db8 << 96 | u128::from(b));
    let (ethertype, packet) = match random.below(100) {
        0..35 => (0x0800, ipv4(a, b, 6, 0x4000, &tcp(sport, dport, &payload))),
        35..60 => (0x0800, ipv4(a, b, 17, 0, &udp(sport, dport, &payload))),
        60..65 => (0x0800, ipv4(a, b, 1, 0, &payload)),
        65..68 => (
            0x0800,
            ipv4(a, b, 17, [0x2000, 0x00b9][random.below(2) as usize], &udp(sport, dport, &payload)),
        ),
        68..83 => (0x86dd, ipv6(v6a, v6b, 6, &tcp(sport, dport, &payload))),
        83..92 => (0x86dd, ipv6(v6a, v6b, 17, &udp(sport, dport, &payload))),
        92..95 => (0x86dd, ipv6(v6a, v6b, 0, &options(17, &udp(sport, dport, &payload)))),
        _ => (0x0806, arp(1, a, b)),
    };
    if random.below(100) < tunnels {
        let inner = ethernet(MAC_B, MAC_A, ethertype, &packet);
        let (protocol, outer) = match (random.below(3), ethertype) {
            (0, _) => (17, udp(sport, 4789, &vxlan(random.below(100) as u32, &inner))),
            (1, 0x0800 | 0x86dd) => (17, udp(2152, 2152, &gtp(random.below(1000) as u32, &packet))),
            _ => (47, gre(0x6558, Some(7), None, &inner)),
        };
        return ethernet(MAC_A, MAC_B, 0x0800, &ipv4(0xc612_0001, 0xc612_0002, protocol, 0, &outer));
    }
    match random.below(100) {
        0..20 => ethernet(MAC_A, MAC_B, 0x8100, &tag(1 + random.below(100) as u16, ethertype, &packet)),
        20..25 => ethernet(
            MAC_A,
            MAC_B,
            0x88a8,
            &tag(5, 0x8100, &tag(1 + random.below(100) as u16, ethertype, &packet)),
        ),
        25..28 if ethertype != 0x0806 => {
            ethernet(MAC_A, MAC_B, 0x8847, &mpls(&[16, random.below(1000) as u32], &packet))
        }
        _ => ethernet(MAC_A, MAC_B, ethertype, &packet),
    }
}

/// SplitMix64: a sequence that is the same on every run.
pub struct Random(pub u64);

impl Random {
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
