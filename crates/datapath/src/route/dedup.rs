//! Dedup: finds packets that were seen a moment ago, on the same port or on another.
//!
//! Stands before sampling, so that a copy of a packet is neither counted nor sampled twice. One worker owns a `Dedup`; copies of a
//! packet are recognised where they meet, so every port of a scope must spread flows over workers alike. What is compared is the
//! whole frame, less the fields that `ignore` names. Each packet leaves a keyed digest and its time in a table of fixed size: where
//! more packets come in a window than it has room for, the oldest are forgotten and their duplicates pass, counted. An original
//! is taken for a duplicate only if two digests agree by chance: with a probability below 2^-63 for any two packets, whoever chose
//! them, divided further by the number of sets.

use std::sync::Arc;

use crate::counters::dedup::{DedupCounters, PairCounters, Tally};
use crate::flow::table::{KeyedHash, Secret};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::extent;
use tapline_packet::frame::Frame;
use tapline_packet::headers::{ethernet, ip, ipv6, tcp, u16_at, vlan};
use tapline_packet::layers;
use tapline_packet::layers::{Depth, Stack};
use tapline_packet::simd::clmul::Carryless;

/// Fields that may differ between copies of one packet: `ignore ttl,tos,vlan,mac,tcp-seq`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ignore {
    /// IPv4 TTL and header checksum, IPv6 hop limit: copies from before and after a router.
    pub ttl: bool,
    /// IPv4 TOS (DSCP and ECN) and header checksum, IPv6 traffic class.
    pub tos: bool,
    /// All VLAN tags in front of the packet, and what follows the packet in its frame.
    pub vlan: bool,
    /// Both MAC addresses, and what follows the packet in its frame.
    pub mac: bool,
    /// TCP sequence and acknowledgement numbers and checksum: copies from before and after a firewall that randomises them.
    pub tcp_seq: bool,
}

/// The settings of dedup in a pipeline file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DedupSpec {
    /// A packet is a duplicate of the same packet before it if their times differ by at most this, whichever is the earlier.
    pub window_ns: u64,
    pub ignore: Ignore,
    /// Packets of one window that the table has room for, on one worker.
    pub packets: usize,
    /// Ports are 0..`ports`, at most 256.
    pub ports: usize,
}

impl DedupSpec {
    const MOST_PORTS: usize = 256;
}

const WAYS: usize = 15;

/// Fifteen packets: their digests in two cache lines, when and where they were seen in the next two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Set {
    /// [`NEVER`] where no packet was.
    tags: [u64; WAYS],
    /// All of the time: a part of it would take packets that are years apart for one.
    times_ns: [u64; WAYS],
    ports: [u8; WAYS],
    /// The way that is written next: the one written longest ago.
    next: u8,
}

/// No digest is 0 ([`KeyedHash`]).
const NEVER: u64 = 0;

/// Duplicate detection over the packets of one worker.
pub struct Dedup {
    spec: DedupSpec,
    hash: FrameHash,
    sets: Box<[Set]>,
    tally: Arc<Tally>,
    /// The clock that stamps each port's packets. It is empty if all ports have the same clock.
    clocks: Box<[u8]>,
}

impl Dedup {
    /// Makes the table and touches all of it. Who knows the secret can make packets disappear.
    ///
    /// # Panics
    /// If `spec.ports` is above `DedupSpec::MOST_PORTS`.
    pub fn new(spec: DedupSpec, secret: &Secret) -> Dedup {
        assert!(spec.ports <= DedupSpec::MOST_PORTS, "ports are numbered in 8 bits");
        let empty = Set { tags: [NEVER; WAYS], times_ns: [0; WAYS], ports: [0; WAYS], next: 0 };
        Dedup {
            spec,
            hash: FrameHash::new(secret),
            sets: vec![empty; Self::sets_for(spec.packets)].into_boxed_slice(),
            tally: Arc::new(Tally::new(spec.ports)),
            clocks: [].into(),
        }
    }

    /// Ports whose packets' times are of different clocks are not compared: `clocks` has a number of each port's clock.
    ///
    /// # Panics
    /// If there is not one for each port.
    pub fn with_clocks(self, clocks: &[u8]) -> Dedup {
        assert_eq!(clocks.len(), self.spec.ports, "each port has a clock");
        let is_one = clocks.iter().all(|clock| Some(clock) == clocks.first());
        Dedup { clocks: if is_one { [].into() } else { clocks.into() }, ..self }
    }

    /// Three times the ways that the packets fill: then one packet in 4000 is replaced before its window is over (fifteen others
    /// came to its set where five were to be expected), mostly near its end; with twice as many it would be one in a hundred.
    fn sets_for(packets: usize) -> usize {
        (3 * packets).div_ceil(WAYS).max(1)
    }

    /// Bytes that a table for `packets` in a window takes.
    pub fn bytes_for(packets: usize) -> usize {
        Self::sets_for(packets) * size_of::<Set>()
    }

    /// Packets in a window that a table of `bytes` is made for, at least 1.
    pub fn packets_for(bytes: u64) -> usize {
        let sets = usize::try_from(bytes / size_of::<Set>() as u64).unwrap_or(usize::MAX);
        (sets / 3).saturating_mul(WAYS).max(1)
    }

    pub fn spec(&self) -> &DedupSpec {
        &self.spec
    }

    pub fn counters(&self) -> DedupCounters {
        self.tally.counters()
    }

    /// Duplicates whose first packet came by `first` and that came by `second` themselves.
    pub fn pair(&self, first: usize, second: usize) -> PairCounters {
        self.tally.pair(first, second)
    }

    /// Gives the counters, for other threads to read.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The packets of `selection` that are duplicates; what becomes of them is the rule's `action`. All of the selection are
    /// remembered, duplicates too, so that the window reaches back from each packet. Times are in ns since the Unix epoch.
    ///
    /// # Panics
    /// If a slice is shorter than the highest selected packet, or a port is not below `spec.ports`.
    pub fn duplicates(
        &mut self,
        selection: Selection,
        frames: &[Frame<'_>],
        ports: &[u8],
        times_ns: &[u64],
    ) -> Selection {
        let mut digests = [Digest { tag: 0, set: 0 }; MAX_BURST];
        for index in selection.indices() {
            digests[index] = self.hash.digest(&frames[index], &self.spec.ignore, self.sets.len());
        }
        if !self.clocks.is_empty() {
            for index in selection.indices() {
                let clock = u64::from(self.clocks[usize::from(ports[index])]);
                digests[index].tag = (digests[index].tag ^ clock).max(NEVER + 1);
            }
        }
        self.load_sets(selection, &digests);
        let duplicates = selection.filter(|index| self.see(digests[index], ports[index], times_ns[index]));
        self.tally.packets.add(u64::from(selection.count()));
        self.tally.duplicates.add(u64::from(duplicates.count()));
        duplicates
    }

    /// Reads what `see` will need of each packet's set, and nothing else, so that the cache misses of a burst overlap.
    #[inline]
    fn load_sets(&self, selection: Selection, digests: &[Digest; MAX_BURST]) {
        let lines = selection.indices().fold(0, |lines, index| {
            let set = &self.sets[digests[index].set];
            lines ^ set.tags[0] ^ set.tags[8] ^ set.times_ns[1] ^ u64::from(set.next)
        });
        std::hint::black_box(lines);
    }

    /// Notes a packet, and whether it was there within the window before.
    #[inline]
    fn see(&mut self, digest: Digest, port: u8, time_ns: u64) -> bool {
        let set = &mut self.sets[digest.set];
        let known = set
            .tags
            .iter()
            .enumerate()
            .fold(0u32, |ways, (way, &tag)| ways | u32::from(tag == digest.tag) << way);
        if known != 0 {
            let way = known.trailing_zeros() as usize % WAYS;
            let gap_ns = std::mem::replace(&mut set.times_ns[way], time_ns).abs_diff(time_ns);
            let earlier = std::mem::replace(&mut set.ports[way], port);
            if gap_ns <= self.spec.window_ns {
                self.tally.count(usize::from(earlier), usize::from(port), gap_ns);
                return true;
            }
            return false;
        }
        let way = usize::from(set.next) % WAYS;
        let is_forgotten =
            set.tags[way] != NEVER && set.times_ns[way].abs_diff(time_ns) <= self.spec.window_ns;
        self.tally.forgotten.add(u64::from(is_forgotten));
        (set.tags[way], set.times_ns[way], set.ports[way]) = (digest.tag, time_ns, port);
        set.next = ((way + 1) % WAYS) as u8;
        false
    }
}

/// The digest of a frame: where it is kept, and the tag by which it is known there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Digest {
    tag: u64,
    set: usize,
}

/// The longest part of a frame that is hashed, in bytes; of a longer frame (none exists on Ethernet) the rest is not compared.
const MOST_BYTES: usize = 65_536;
/// The part of a frame that is copied to be masked: two MAC addresses, an IPv4 header with options and a TCP header fit.
const HEAD_BYTES: usize = 128;
/// The same of a frame whose headers go on behind it: as many tags and labels as parse steps over fit in front of those, or IPv6
/// extension headers of as many bytes.
const MOST_HEAD_BYTES: usize = 256;

/// A keyed hash of frames, in two sums of products of which one makes the tag and the other the set: two different frames agree in
/// both with a probability of at most 2^-128. The products are carry-less where the processor has them ([`Carryless`]), else NH
/// over 64-bit words.
///
/// xxh3-128 would take 91 ns for 1504 bytes on the reference machine where NH takes 115 and carry-less products less than half of
/// that; but it promises nothing about chosen frames, and a frame made to collide here is one that a tool never sees.
/// # Source
/// RFC 4418 section 5.2 (NH and its Toeplitz construction), with 64-bit words as in VMAC (draft-krovetz-vmac-01).
struct FrameHash {
    key: KeyedHash,
    words: Box<[u64]>,
    carryless: Option<Carryless>,
}

impl FrameHash {
    fn new(secret: &Secret) -> FrameHash {
        Self::with(secret, Carryless::detect())
    }

    fn with(secret: &Secret, carryless: Option<Carryless>) -> FrameHash {
        let words = Carryless::key_words(MOST_HEAD_BYTES + MOST_BYTES) as u64;
        let words = (0..words).map(|index| secret.word(1000 + index)).collect();
        FrameHash { key: KeyedHash::new(secret), words, carryless }
    }

    #[inline]
    fn digest(&self, frame: &Frame<'_>, ignore: &Ignore, sets: usize) -> Digest {
        let bytes = &frame.bytes()[..frame.bytes().len().min(MOST_BYTES)];
        let cut = u64::from(frame.original_len().saturating_sub(frame.captured_len()));
        if *ignore == Ignore::default() {
            return self.finish(self.sum([0; 2], 0, bytes), bytes.len(), cut, sets);
        }
        let mut head = [0u8; MOST_HEAD_BYTES];
        let Canonical { head_len, most_head_len, rest, cut } =
            canonical(frame, (bytes, cut), ignore, &mut head);
        let sums = self.sum([0; 2], 0, &head[..head_len]);
        self.finish(self.sum(sums, most_head_len / 8, rest), head_len + rest.len(), cut, sets)
    }

    /// Adds `bytes` to the sums, with the key from its `word` on.
    #[inline(always)]
    fn sum(&self, sums: [u128; 2], word: usize, bytes: &[u8]) -> [u128; 2] {
        let keys = &self.words[word..];
        match self.carryless {
            Some(carryless) => {
                let [first, second] = carryless.sums(keys, bytes);
                [sums[0] ^ first, sums[1] ^ second]
            }
            None => Self::sum_nh(sums, keys, bytes),
        }
    }

    fn sum_nh(mut sums: [u128; 2], keys: &[u64], bytes: &[u8]) -> [u128; 2] {
        let (pairs, tail) = bytes.as_chunks::<16>();
        for (pair, key) in pairs.iter().zip(keys.windows(4).step_by(2)) {
            sums = add_pair(sums, pair, key);
        }
        if let (false, Some(key)) = (tail.is_empty(), keys.get(2 * pairs.len()..2 * pairs.len() + 4)) {
            let mut padded = [0u8; 16];
            padded[..tail.len()].copy_from_slice(tail);
            sums = add_pair(sums, &padded, key);
        }
        sums
    }

    /// The padding is told from zeros by the length, which is digested too, as is how much of the frame was not captured.
    #[inline(always)]
    fn finish(&self, sums: [u128; 2], len: usize, cut: u64, sets: usize) -> Digest {
        let tag = self.key.digest(&[sums[0] as u64, (sums[0] >> 64) as u64, len as u64, cut]).get();
        let set = self.key.digest(&[sums[1] as u64, (sums[1] >> 64) as u64]).get();
        Digest { tag, set: ((u128::from(set) * sets as u128) >> 64) as usize }
    }
}

#[inline(always)]
fn add_pair(sums: [u128; 2], pair: &[u8; 16], key: &[u64]) -> [u128; 2] {
    let both = u128::from_le_bytes(*pair);
    let (left, right) = (both as u64, (both >> 64) as u64);
    let product =
        |at: usize| u128::from(left.wrapping_add(key[at])) * u128::from(right.wrapping_add(key[at + 1]));
    [sums[0].wrapping_add(product(0)), sums[1].wrapping_add(product(2))]
}

/// Writes the frame's first bytes into `head` with the ignored fields zero or left out. `bytes` are those that are compared, and
/// `cut` more were not captured.
fn canonical<'a>(
    frame: &Frame<'a>,
    (bytes, cut): (&'a [u8], u64),
    ignore: &Ignore,
    head: &mut [u8; MOST_HEAD_BYTES],
) -> Canonical<'a> {
    const TYPE_AT: usize = ethernet::ADDRESSES_LEN;
    let type_at = if ignore.vlan { behind_vlan_tags(bytes) } else { TYPE_AT };
    if bytes.len() < type_at + 2 {
        let head_len = bytes.len().min(HEAD_BYTES);
        head[..head_len].copy_from_slice(&bytes[..head_len]);
        return Canonical { head_len, most_head_len: HEAD_BYTES, rest: &bytes[head_len..], cut };
    }
    let stack = layers::parse(frame, Depth::Outer).outer;
    let (bytes, cut) =
        if ignore.vlan || ignore.mac { without_trailer(bytes, &stack, cut) } else { (bytes, cut) };
    // where something stands when what is left out is gone: alike for copies that are compared
    let left_out = type_at - TYPE_AT;
    let place = |at: usize| at.saturating_sub(left_out);
    let is_deep = place(deepest_field(&stack)) > HEAD_BYTES;
    let most_head_len = if is_deep { MOST_HEAD_BYTES } else { HEAD_BYTES };
    if !ignore.mac {
        head[..TYPE_AT].copy_from_slice(&bytes[..TYPE_AT]);
    }
    let copied = bytes.len().saturating_sub(type_at).min(most_head_len - TYPE_AT);
    let head_len = TYPE_AT + copied;
    head[TYPE_AT..head_len].copy_from_slice(&bytes[type_at..type_at + copied]);
    mask_layers(&mut head[..head_len], &stack, place, ignore);
    Canonical { head_len, most_head_len, rest: &bytes[type_at + copied..], cut }
}

/// A frame as it is compared.
struct Canonical<'a> {
    /// Bytes of the frame in the head.
    head_len: usize,
    /// Bytes that the head of a longer frame has, behind which the rest begins.
    most_head_len: usize,
    rest: &'a [u8],
    /// Bytes that were not captured.
    cut: u64,
}

/// Returns where the type behind all tags stands.
fn behind_vlan_tags(bytes: &[u8]) -> usize {
    let mut type_at = ethernet::ADDRESSES_LEN;
    while u16_at(bytes, type_at).is_some_and(vlan::is_tpid) {
        type_at += vlan::TAG_LEN;
    }
    type_at
}

/// Cuts off what follows the packet in its frame: padding to 60 bytes differs between tagged and untagged copies.
fn without_trailer<'a>(bytes: &'a [u8], stack: &Stack, cut: u64) -> (&'a [u8], u64) {
    match extent::stated_end(bytes, stack) {
        Some(end) if end <= bytes.len() => (&bytes[..end], 0),
        Some(end) => (bytes, cut.min((end - bytes.len()) as u64)),
        None => (bytes, cut),
    }
}

/// Returns where the last field ends that may be ignored.
fn deepest_field(stack: &Stack) -> usize {
    stack.l4().map_or(stack.l3() + ipv6::HEADER_LEN, |l4| l4 + tcp::HEADER_LEN)
}

/// Zeroes the ignored fields of the IP and TCP headers, as far as they are in `head`, which has at `place(at)` what the frame has
/// at `at`.
fn mask_layers(head: &mut [u8], stack: &Stack, place: impl Fn(usize) -> usize, ignore: &Ignore) {
    let l3 = place(stack.l3());
    match stack.ethertype() {
        ethernet::TYPE_IPV4 => {
            if ignore.ttl {
                zero(head, l3 + 8, 1);
            }
            if ignore.tos {
                zero(head, l3 + 1, 1);
            }
            if ignore.ttl || ignore.tos {
                zero(head, l3 + 10, 2);
            }
        }
        ethernet::TYPE_IPV6 => {
            if ignore.ttl {
                zero(head, l3 + 7, 1);
            }
            if let (true, Some([version, flow])) = (ignore.tos, head.get_mut(l3..l3 + 2)) {
                *version &= 0xf0;
                *flow &= 0x0f;
            }
        }
        _ => {}
    }
    let is_tcp = stack.protocol() == ip::TCP && !stack.is_later_fragment();
    if let (true, true, Some(l4)) = (ignore.tcp_seq, is_tcp, stack.l4()) {
        zero(head, place(l4) + 4, 8);
        zero(head, place(l4) + 16, 2);
    }
}

fn zero(bytes: &mut [u8], at: usize, len: usize) {
    let end = bytes.len().min(at + len);
    if let Some(field) = bytes.get_mut(at..end) {
        field.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use tapline_packet::headers::checksum::Sum;
    use tapline_traffic::packets;

    const START: u64 = 1_700_000_000_000_000_000;

    fn dedup(window_ns: u64, packets: usize, ignore: Ignore) -> Dedup {
        Dedup::new(DedupSpec { window_ns, ignore, packets, ports: 4 }, &Secret::from_seed(1))
    }

    fn digest(bytes: &[u8], ignore: Ignore) -> Digest {
        FrameHash::new(&Secret::from_seed(1)).digest(&Frame::whole(bytes), &ignore, 1 << 40)
    }

    /// Ethernet, IPv4 10.0.0.1 > 10.0.0.2 id 0x1234 TTL 64, TCP 1000 > 80 seq 1 ack 2, payload "hello".
    fn tcp_packet() -> Vec<u8> {
        let mut packet = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00];
        packet.extend([
            0x45, 0x00, 0x00, 0x2d, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x14, 0x94, 10, 0, 0, 1, 10, 0, 0,
            2,
        ]);
        packet
            .extend([0x03, 0xe8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0xab, 0xcd, 0, 0]);
        packet.extend(b"hello");
        packet
    }

    /// Ethernet, IPv6 fd00::1 > fd00::2 hop limit 64, destination options, TCP, payload "hello".
    fn tcp6_packet() -> Vec<u8> {
        let mut packet = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x86, 0xdd];
        packet.extend([0x60, 0, 0, 0, 0, 33, 60, 64]);
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        packet
            .extend([0x03, 0xe8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0xab, 0xcd, 0, 0]);
        packet.extend(b"hello");
        packet
    }

    /// The headers in front of a TCP packet's IP header.
    #[derive(Clone, Debug)]
    struct Around {
        tpids: Vec<u16>,
        labels: usize,
        is_pppoe: bool,
        is_ipv6: bool,
        /// Bytes of options of IPv4, or words of 8 bytes of extension headers of IPv6.
        options: usize,
    }

    impl Around {
        /// A copy of the packet with other fields where `differs` says so; of VLAN tags it has one more.
        fn copy(&self, differs: Ignore) -> Vec<u8> {
            let mut tcp = packets::tcp(1000, 80, b"hello");
            if differs.tcp_seq {
                (tcp[4], tcp[11], tcp[16]) = (1, 2, 3);
            }
            let (ethertype, packet) = if self.is_ipv6 {
                (0x86dd, self.ipv6(differs, &tcp))
            } else {
                (0x0800, self.ipv4(differs, &tcp))
            };
            let (mut ethertype, mut packet) = match (self.is_pppoe, self.labels) {
                (true, _) => {
                    let protocol = if self.is_ipv6 { 0x57 } else { 0x21 };
                    let length = (packet.len() + 2) as u16;
                    let head = [&[0x11, 0, 0, 9][..], &length.to_be_bytes(), &[0, protocol]].concat();
                    (0x8864, [head, packet].concat())
                }
                (false, 0) => (ethertype, packet),
                (false, labels) => (0x8847, packets::mpls(&vec![77; labels], &packet)),
            };
            for &tpid in &self.tpids {
                (ethertype, packet) = (tpid, packets::tag(5, ethertype, &packet));
            }
            if differs.vlan {
                (ethertype, packet) = (0x8100, packets::tag(6, ethertype, &packet));
            }
            let source = if differs.mac { packets::MAC_B } else { packets::MAC_A };
            packets::ethernet(packets::MAC_B, source, ethertype, &packet)
        }

        fn ipv4(&self, differs: Ignore, tcp: &[u8]) -> Vec<u8> {
            let options = self.options.min(40) / 4 * 4;
            let mut packet = packets::ipv4(1, 2, ip::TCP, 0, &[&vec![1; options], tcp].concat());
            packet[0] += (options / 4) as u8;
            if differs.ttl {
                packet[8] -= 1;
            }
            if differs.tos {
                packet[1] = 0xb8;
            }
            packet[10..12].fill(0);
            let checksum = Sum::default().bytes(&packet[..20 + options]).checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            packet
        }

        fn ipv6(&self, differs: Ignore, tcp: &[u8]) -> Vec<u8> {
            let extensions = (0..self.options / 8).fold((ip::TCP, tcp.to_vec()), |(next, inner), _| {
                (ip::DESTINATION_OPTIONS, packets::options(next, &inner))
            });
            let mut packet = packets::ipv6(1, 2, extensions.0, &extensions.1);
            if differs.ttl {
                packet[7] -= 1;
            }
            if differs.tos {
                (packet[0], packet[1]) = (0x6b, packet[1] | 0x80);
            }
            packet
        }
    }

    fn any_around() -> impl Strategy<Value = Around> {
        let tpids = prop::sample::select(vec![0x8100u16, 0x88a8, 0x9100, 0x9200]);
        (prop::collection::vec(tpids, 0..7), 0usize..16, any::<bool>(), any::<bool>(), 0usize..64).prop_map(
            |(tpids, labels, is_pppoe, is_ipv6, options)| Around {
                tpids,
                labels,
                is_pppoe,
                is_ipv6,
                options,
            },
        )
    }

    fn any_ignore() -> impl Strategy<Value = Ignore> {
        any::<[bool; 5]>().prop_map(|[ttl, tos, vlan, mac, tcp_seq]| Ignore {
            ttl,
            tos,
            vlan,
            mac,
            tcp_seq,
        })
    }

    fn with(mut packet: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
        changes.iter().for_each(|&(at, value)| packet[at] = value);
        packet
    }

    proptest! {
        /// With room for all packets, a duplicate is whatever a map of last times says.
        #[test]
        fn duplicates_are_those_that_a_map_of_last_times_finds(
            packets in prop::collection::vec((0u8..12, 0u64..40, 0u8..4, 0u64..300, 0u8..30), 1..600), window_ns in 1u64..200,
        ) {
            const WILD: [u64; 5] = [0, u64::MAX, u32::MAX as u64 * 1_000_000_000, START + (1 << 56), START - (1 << 32)];
            let mut dedup = dedup(window_ns, 1000, Ignore::default());
            let mut last: HashMap<u8, (u64, u8)> = HashMap::new();
            let (mut latest, mut pairs) = (START, HashMap::<(u8, u8), (u64, u64)>::new());
            for (content, later, port, late, wild) in packets {
                latest += later;
                let now = match wild {
                    0..5 => WILD[usize::from(wild)],
                    5..12 => latest - late,
                    _ => latest,
                };
                let bytes = [content; 70];
                let found = dedup.duplicates(Selection::from_bits(1), &[Frame::whole(&bytes)], &[port], &[now]);
                let earlier = last.insert(content, (now, port)).filter(|(time, _)| now.abs_diff(*time) <= window_ns);
                prop_assert_eq!(found == Selection::from_bits(1), earlier.is_some());
                if let Some((time, first)) = earlier {
                    let pair = pairs.entry((first, port)).or_default();
                    *pair = (pair.0 + 1, pair.1.max(now.abs_diff(time)));
                }
            }
            for ((first, second), (duplicates, most_gap_ns)) in pairs {
                let pair = dedup.pair(first.into(), second.into());
                prop_assert_eq!((pair.duplicates, pair.most_gap_ns), (duplicates, most_gap_ns));
                prop_assert_eq!(pair.gaps[0], duplicates, "all below 1 µs");
            }
            prop_assert_eq!(dedup.counters().forgotten, 0);
        }

        /// A table for 20 packets and many more than that: duplicates may pass, originals never go.
        #[test]
        fn an_overfull_table_lets_duplicates_through_and_loses_no_original(packets in prop::collection::vec(0u16..500, 1..2000)) {
            let mut dedup = dedup(1_000_000, 20, Ignore::default());
            let mut seen = std::collections::HashSet::new();
            let mut passed = 0u64;
            for (step, content) in packets.iter().enumerate() {
                let bytes = [&content.to_be_bytes()[..], &[0; 68]].concat();
                let is_duplicate = !dedup.duplicates(Selection::from_bits(1), &[Frame::whole(&bytes)], &[0], &[START + step as u64]).is_empty();
                let is_original = seen.insert(*content);
                prop_assert!(!(is_original && is_duplicate));
                passed += u64::from(!is_original && !is_duplicate);
            }
            prop_assert!(passed == 0 || dedup.counters().forgotten > 0, "what passed is accounted for");
        }

        #[test]
        fn no_bytes_are_too_strange_to_digest(bytes in prop::collection::vec(any::<u8>(), 0..400), ethertype in 0usize..8, ignore in any_ignore()) {
            const TYPES: [[u8; 2]; 8] =
                [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6], [0x92, 0], [0x88, 0x47], [0x88, 0x64]];
            let mut bytes = bytes;
            if bytes.len() > 14 {
                bytes[12..14].copy_from_slice(&TYPES[ethertype]);
            }
            prop_assert_eq!(digest(&bytes, ignore), digest(&bytes.clone(), ignore));
        }

        /// Copies are one packet if they differ in nothing but what is ignored, whatever stands in front of their IP header.
        #[test]
        fn ignored_fields_are_found_behind_whatever_the_parser_steps_over(
            around in any_around(), differs in any_ignore(), has_padding: bool, ignore in any_ignore(),
        ) {
            let (one, mut other) = (around.copy(Ignore::default()), around.copy(differs));
            if has_padding {
                other.resize(other.len() + 11, 0);
            }
            let is_trimmed = ignore.mac || ignore.vlan;
            let pairs = [
                (differs.ttl, ignore.ttl), (differs.tos, ignore.tos), (differs.vlan, ignore.vlan), (differs.mac, ignore.mac),
                (differs.tcp_seq, ignore.tcp_seq), (has_padding, is_trimmed),
            ];
            let is_one = pairs.into_iter().all(|(differs, is_ignored)| is_ignored || !differs);
            prop_assert_eq!(digest(&one, ignore) == digest(&other, ignore), is_one);
            let mut payload = one.clone();
            *payload.last_mut().unwrap() ^= 1;
            prop_assert_ne!(digest(&one, ignore), digest(&payload, ignore));
        }

        #[test]
        fn any_changed_bit_changes_the_digest_when_nothing_is_ignored(bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<usize>(), bit in 0u8..8) {
            let mut changed = bytes.clone();
            changed[at % bytes.len()] ^= 1 << bit;
            prop_assert_ne!(digest(&bytes, Ignore::default()), digest(&changed, Ignore::default()));
        }
    }

    #[test]
    fn each_ignored_field_may_differ_and_no_other() {
        let none = Ignore::default();
        let v4 = tcp_packet();
        let v6 = tcp6_packet();
        let cases = [
            (
                "ttl",
                Ignore { ttl: true, ..none },
                vec![
                    (v4.clone(), with(v4.clone(), &[(22, 63), (24, 0x15), (25, 0x94)])),
                    (v6.clone(), with(v6.clone(), &[(21, 63)])),
                ],
            ),
            (
                "tos",
                Ignore { tos: true, ..none },
                vec![
                    (v4.clone(), with(v4.clone(), &[(15, 0xb8), (25, 0xdc)])),
                    (v6.clone(), with(v6.clone(), &[(14, 0x6b), (15, 0x80)])),
                ],
            ),
            (
                "mac",
                Ignore { mac: true, ..none },
                vec![(v4.clone(), with(v4.clone(), &[(0, 0x0a), (11, 0x77)]))],
            ),
            (
                "tcp-seq",
                Ignore { tcp_seq: true, ..none },
                vec![
                    (v4.clone(), with(v4.clone(), &[(38, 9), (45, 9), (50, 1), (51, 2)])),
                    (v6.clone(), with(v6.clone(), &[(66, 9), (73, 9), (78, 1), (79, 2)])),
                ],
            ),
        ];
        for (name, ignore, pairs) in &cases {
            for (one, other) in pairs {
                assert_eq!(digest(one, *ignore), digest(other, *ignore), "{name} is ignored");
                assert_ne!(digest(one, none), digest(other, none), "{name} counts when it is not ignored");
            }
            for (other_name, _, pairs) in cases.iter().filter(|(other_name, ..)| other_name != name) {
                let (one, other) = &pairs[0];
                assert_ne!(
                    digest(one, *ignore),
                    digest(other, *ignore),
                    "{other_name} counts while {name} is ignored"
                );
            }
        }
    }

    #[test]
    fn frames_are_told_apart_and_taken_together_whatever_products_the_processor_has() {
        let secret = Secret::from_seed(1);
        let hashes = Carryless::all()
            .into_iter()
            .map(Some)
            .chain([None])
            .map(|products| FrameHash::with(&secret, products));
        let ttl = Ignore { ttl: true, ..Ignore::default() };
        for hash in hashes {
            for len in [60, 64, 65, 127, 590, 1500, 9000] {
                let mut frame = tcp_packet();
                frame.extend(
                    (0u64..).map(|at| tapline_packet::mix::mix(at, 9) as u8).take(len - frame.len()),
                );
                let digest = |frame: &[u8], ignore| hash.digest(&Frame::whole(frame), &ignore, 1 << 40);
                let routed = with(frame.clone(), &[(22, 63), (24, 0x15), (25, 0x94)]);
                let mut changed = frame.clone();
                changed[len - 1] ^= 1;
                let longer = [&frame[..], &[0]].concat();
                assert_eq!(digest(&frame, ttl), digest(&routed, ttl));
                for other in [&routed, &changed, &longer] {
                    assert_ne!(
                        digest(&frame, Ignore::default()),
                        digest(other, Ignore::default()),
                        "{len} bytes"
                    );
                }
                assert_ne!(digest(&frame, ttl), digest(&changed, ttl), "{len} bytes");
            }
        }
    }

    #[test]
    fn tagged_untagged_and_padded_copies_are_one_packet_when_vlan_is_ignored() {
        let ignore = Ignore { vlan: true, ..Ignore::default() };
        let plain = tcp_packet();
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x00, 0x64]);
        let mut padded = plain.clone();
        padded.extend([0; 6]);
        assert_eq!(digest(&plain, ignore), digest(&tagged, ignore));
        assert_eq!(digest(&plain, ignore), digest(&padded, ignore));
        assert_ne!(digest(&plain, Ignore::default()), digest(&padded, Ignore::default()));
        let mut other_payload = tagged.clone();
        *other_payload.last_mut().unwrap() ^= 1;
        assert_ne!(digest(&plain, ignore), digest(&other_payload, ignore));
    }

    #[test]
    fn packets_whose_length_is_not_said_are_compared_whole() {
        // IPv6 with a payload length of 0, and IPv4 with a total length of 0 or of its header alone: segments not yet cut up
        let long = |packet: Vec<u8>| [packet, vec![7; 900]].concat();
        let of_ipv4 = |length| with(long(tcp_packet()), &[(16, 0), (17, length)]);
        for packet in [with(long(tcp6_packet()), &[(18, 0), (19, 0)]), of_ipv4(0), of_ipv4(20), of_ipv4(39)]
        {
            let other = with(packet.clone(), &[(packet.len() - 1, 8)]);
            let ignores =
                [Ignore { mac: true, ..Ignore::default() }, Ignore { vlan: true, ..Ignore::default() }];
            for ignore in ignores {
                assert_ne!(digest(&packet, ignore), digest(&other, ignore));
                assert_eq!(digest(&packet, ignore), digest(&packet.clone(), ignore));
            }
        }
    }

    #[test]
    fn tagged_and_untagged_copies_padded_to_60_bytes_are_one_packet_without_ip_too() {
        let ignore = Ignore { vlan: true, ..Ignore::default() };
        let padded = |mut frame: Vec<u8>| {
            frame.resize(frame.len().max(60), 0);
            frame
        };
        // an ARP request; a BPDU of spanning tree behind LLC; an LCP echo request in PPPoE
        let bpdu = [&[0x42, 0x42, 3][..], &[0; 35]].concat();
        let lcp = [&[0x11, 0, 0, 0x11, 0, 10, 0xc0, 0x21, 9, 1, 0, 8][..], &[0; 4]].concat();
        for (ethertype, packet) in [(0x0806, packets::arp(1, 1, 2)), (38, bpdu), (0x8864, lcp)] {
            let plain = padded(packets::ethernet(packets::MAC_A, packets::MAC_B, ethertype, &packet));
            for tpid in [0x8100, 0x9200] {
                let tagged = packets::tag(5, ethertype, &packet);
                let tagged = padded(packets::ethernet(packets::MAC_A, packets::MAC_B, tpid, &tagged));
                assert_eq!(digest(&plain, ignore), digest(&tagged, ignore), "{ethertype:x}");
                assert_ne!(digest(&plain, Ignore::default()), digest(&tagged, Ignore::default()));
            }
            let mut other = plain.clone();
            other[13 + packet.len()] ^= 1;
            assert_ne!(digest(&plain, ignore), digest(&other, ignore), "{ethertype:x}");
        }
    }

    #[test]
    fn a_retransmission_with_its_own_ip_id_is_an_original_whatever_is_ignored() {
        let all = Ignore { ttl: true, tos: true, vlan: true, mac: true, tcp_seq: true };
        let mut dedup = dedup(1_000_000_000, 100, all);
        let (first, again) = (tcp_packet(), with(tcp_packet(), &[(19, 0x35), (25, 0x93)]));
        let frames = [Frame::whole(&first), Frame::whole(&again), Frame::whole(&first)];
        let found = dedup.duplicates(
            Selection::from_bits(0b111),
            &frames,
            &[0; 3],
            &[START, START + 200, START + 300],
        );
        assert_eq!(found, Selection::from_bits(0b100));
    }

    #[test]
    fn duplicates_are_found_though_the_clock_of_their_port_is_behind() {
        let mut dedup = dedup(1_000, 100, Ignore::default());
        let packet = tcp_packet();
        let frames = [Frame::whole(&packet), Frame::whole(&packet), Frame::whole(&packet)];
        let found = dedup.duplicates(
            Selection::from_bits(0b111),
            &frames,
            &[0, 1, 1],
            &[START, START - 900, START - 2_000],
        );
        assert_eq!(
            found,
            Selection::from_bits(0b010),
            "900 ns before are within the window, 1100 ns before the second are not"
        );
        assert_eq!(dedup.pair(0, 1).most_gap_ns, 900);
    }

    #[test]
    fn ports_of_different_clocks_are_not_compared() {
        let mut dedup = dedup(1_000, 100, Ignore::default()).with_clocks(&[0, 1, 0, 1]);
        let packet = tcp_packet();
        let mut is_duplicate = |port: u8| {
            !dedup
                .duplicates(Selection::from_bits(1), &[Frame::whole(&packet)], &[port], &[START])
                .is_empty()
        };
        let found = [0, 1, 2, 3, 0].map(&mut is_duplicate);
        assert_eq!(found, [false, false, true, true, true]);
    }

    #[test]
    fn a_packet_of_time_0_is_one_that_was_seen() {
        let mut dedup = dedup(1_000, 100, Ignore::default());
        let packet = tcp_packet();
        let frames = [Frame::whole(&packet), Frame::whole(&packet)];
        assert_eq!(
            dedup.duplicates(Selection::from_bits(0b11), &frames, &[0; 2], &[0, 1_000]),
            Selection::from_bits(0b10)
        );
    }

    #[test]
    fn a_table_that_is_filled_as_planned_forgets_hardly_a_packet() {
        let mut dedup = dedup(10_000, 10_000, Ignore::default());
        for packet in 0..100_000u64 {
            let bytes = [packet.to_be_bytes(); 8].concat();
            dedup.duplicates(Selection::from_bits(1), &[Frame::whole(&bytes)], &[0], &[START + packet]);
        }
        let forgotten = dedup.counters().forgotten;
        assert!(forgotten < 100, "{forgotten} of 100 000; Poisson's law gives 23");
        assert_eq!(dedup.counters().duplicates, 0);
    }

    #[test]
    fn a_frame_longer_than_it_says_it_was_is_digested_all_the_same() {
        let packet = tcp_packet();
        let mut dedup = dedup(10, 10, Ignore { mac: true, ..Ignore::default() });
        let frame = Frame::new(&packet, 3);
        assert_eq!(
            dedup.duplicates(Selection::from_bits(0b11), &[frame, frame], &[0, 0], &[START, START]),
            Selection::from_bits(0b10)
        );
    }

    #[test]
    fn a_second_at_five_million_packets_takes_bounded_memory() {
        assert_eq!(size_of::<Set>(), 256);
        assert!(Dedup::bytes_for(5_000_000) <= 256_000_000);
    }
}
