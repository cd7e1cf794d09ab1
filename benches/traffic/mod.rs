//! A seeded mix of packets: TCP, UDP, ICMP and ARP over IPv4 and IPv6, some in VLANs, some fragments, 64 to 1500 bytes.

use tapline_packet::frame::Frame;

/// Packets in one allocation each, and an mbuf for each, with the fields that rte_bpf reads.
pub(crate) struct Packets {
    pub bytes: Vec<Box<[u8]>>,
    pub mbufs: Vec<Mbuf>,
}

/// The first fields of `struct rte_mbuf` that filters read.
#[repr(C, align(128))]
pub(crate) struct Mbuf {
    buf_addr: *const u8,
    iova: u64,
    data_off: u16,
    refcnt: u16,
    nb_segs: u16,
    port: u16,
    ol_flags: u64,
    packet_type: u32,
    pkt_len: u32,
    data_len: u16,
    rest: [u8; 86],
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

impl Packets {
    pub(crate) fn generate(seed: u64, count: usize) -> Packets {
        let mut random = Random(seed);
        let bytes: Vec<Box<[u8]>> = (0..count).map(|_| packet(&mut random).into()).collect();
        let mbufs = bytes.iter().map(|bytes| Mbuf::new(bytes)).collect();
        Packets { bytes, mbufs }
    }

    pub(crate) fn frames(&self) -> Vec<Frame<'_>> {
        self.bytes.iter().map(|bytes| Frame::whole(bytes)).collect()
    }
}

impl Mbuf {
    fn new(bytes: &[u8]) -> Mbuf {
        let data_len = u16::try_from(bytes.len()).expect("at most 1500 bytes");
        Mbuf {
            buf_addr: bytes.as_ptr(),
            iova: 0,
            data_off: 0,
            refcnt: 1,
            nb_segs: 1,
            port: 0,
            ol_flags: 0,
            packet_type: 0,
            pkt_len: u32::from(data_len),
            data_len,
            rest: [0; 86],
        }
    }
}

fn packet(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, random.below(256) as u8, 2, 0, 0, 0, 1, random.below(256) as u8];
    let len = random.one_of(&[64, 64, 128, 512, 576, 1024, 1500]);
    if random.below(8) == 0 {
        bytes.extend([0x81, 0, 0, 90 + random.below(30) as u8]);
    }
    let kind = random.below(100);
    let protocol = random.one_of(&[6u8, 6, 6, 17, 17, 1]);
    let ports = |random: &mut Random| -> [u8; 4] {
        let known = random.one_of(&[80u16, 443, 53, 22, 25, 8080, 4789]);
        let other = 1024 + random.below(60_000) as u16;
        let (source, destination) = if random.below(2) == 0 { (known, other) } else { (other, known) };
        let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
        [a, b, c, d]
    };
    let address = |random: &mut Random| [10, 0, random.below(4) as u8, random.below(250) as u8];
    if kind < 5 {
        bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    } else if kind < 75 {
        let options = if random.below(20) == 0 { 4 } else { 0 };
        let fragment = if random.below(30) == 0 { 0x20 } else { 0 };
        bytes.extend([
            8,
            0,
            0x45 + options / 4,
            0,
            (len >> 8) as u8,
            len as u8,
            0,
            1,
            fragment / 2,
            fragment,
            64,
            protocol,
            0,
            0,
        ]);
        let source = address(random);
        bytes.extend(source);
        bytes.extend(address(random));
        bytes.extend(vec![1; usize::from(options)]);
        bytes.extend(ports(random));
    } else {
        let protocol = if protocol == 1 { 58 } else { protocol };
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, (len >> 8) as u8, len as u8, protocol, 64]);
        for _ in 0..2 {
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.below(256) as u8]);
        }
        bytes.extend(ports(random));
    }
    // TCP: sequence and acknowledgement numbers, header length, flags.
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, random.one_of(&[0x10, 0x10, 0x18, 0x02, 0x11])]);
    while bytes.len() < len {
        bytes.push(random.next() as u8);
    }
    bytes.truncate(len);
    bytes
}

/// Asks for the first line of each packet, as a receive stage does.
pub(crate) fn prefetch(burst: &[Frame<'_>]) {
    #[cfg(target_arch = "x86_64")]
    for frame in burst {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(frame.bytes().as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = burst;
}
