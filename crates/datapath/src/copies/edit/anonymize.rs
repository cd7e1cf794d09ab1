//! Anonymize: IP addresses replaced by others that share prefixes as the originals do, with all checksums kept consistent.
//!
//! The second edit. The mapping is Crypto-PAn's, bit for bit, so other tools with the same key agree. An address is replaced
//! wherever docs/reference/edits.md names it: IPv4 and IPv6 headers, their source routes and other options that hold addresses, ARP, ICMP,
//! ICMPv6 neighbour discovery, IGMP and MLD messages, and the packets that ICMP messages quote; with `inner` the same inside every
//! tunnel that parse enters. Whatever stands where an address belongs but is cut, or too deep to be looked at, is overwritten with
//! zeros: it fails closed. What follows a packet in its frame, by the packet's own length, is no part of it and stays.
//!
//! Checksums are updated by what changed (RFC 1624), not computed afresh: only headers are read, a sliced packet needs no more, and
//! a checksum that was wrong stays as wrong as it was, so that tools still see it.
//! # Source
//! Xu, Fan, Ammar, Moon: "Prefix-Preserving IP Address Anonymization", ICNP 2002.

use std::io::{self, Read};
use std::sync::Arc;

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128, Block};
use arrayvec::ArrayVec;
use thiserror::Error;

use super::{Draft, NeedsWhole};
use tapline_kernel::secret::Secret;
use tapline_packet::extent;
use tapline_packet::headers::checksum;
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ipv4;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::{arp, chunk, ethernet, gre, icmp, ip, teredo, u32_at};
use tapline_packet::layers;
use tapline_packet::layers::{Carried, ShellKind, Stack};

/// Bytes of a key: half for the cipher, half for the padding.
pub const KEY_LEN: usize = 32;
/// Addresses remembered: 32 KiB for IPv4 and 64 KiB for IPv6, which stay in a core's second-level cache.
const CACHE_LEN: usize = 4096;
const CACHE_LEN_IPV6: usize = 2048;
/// How many packets inside packets are looked at: parse's limit for tunnels, and one that ICMP quotes.
const MAX_DEPTH: usize = layers::MAX_SHELLS + 2;

/// A Crypto-PAn key, in memory that no core has. Clones are the same key.
#[derive(Clone)]
pub struct Key(Arc<Secret<[u8; KEY_LEN]>>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self.0 == **other.0
    }
}

impl Eq for Key {}

/// A key file that holds no key.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    #[error("the key file has {0} bytes; it must hold 32 bytes, or 64 hexadecimal digits")]
    Length(usize),
    #[error(
        "the key file's character {0} is not a hexadecimal digit; it must hold 32 bytes, or 64 hexadecimal digits"
    )]
    Digit(usize),
}

impl Key {
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        Self::made(|place| *place = key)
    }

    /// Makes a key whose bytes `fill` writes.
    fn made(fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Self {
        Self(Arc::new(Secret::new(|| {
            let mut key = [0; KEY_LEN];
            fill(&mut key);
            key
        })))
    }

    /// Draws a key.
    ///
    /// # Errors
    /// If `source` gives too few bytes.
    pub fn drawn(mut source: impl Read) -> io::Result<Self> {
        let mut read = Ok(());
        let key = Self::made(|key| read = source.read_exact(key));
        read.map(|()| key)
    }

    /// The key of a file: 32 bytes as they are, or 64 hexadecimal digits with white space around them.
    /// # Errors
    /// `Length` and `Digit` say what the file holds instead.
    pub fn from_file_content(content: &[u8]) -> Result<Self, KeyError> {
        if content.len() == KEY_LEN {
            return Ok(Self::made(|key| key.copy_from_slice(content)));
        }
        let digits = content.trim_ascii();
        if digits.len() != 2 * KEY_LEN {
            return Err(KeyError::Length(content.len()));
        }
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        if let Some(index) = digits.iter().position(|digit| value(digit).is_none()) {
            return Err(KeyError::Digit(index + 1));
        }
        let values = digits.iter().filter_map(value).enumerate();
        Ok(Self::made(|key| {
            values.for_each(|(index, value)| key[index / 2] = key[index / 2] << 4 | value as u8);
        }))
    }
}

impl std::fmt::Debug for Key {
    /// Keys do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// How addresses are replaced.
#[derive(Clone, PartialEq, Debug)]
pub struct Anonymize {
    pub key: Key,
    /// Leading bits of an IPv4 address that stay as they are, 0..=32.
    pub keep: u8,
    /// Leading bits of an IPv6 address that stay as they are, 0..=128.
    pub keep_ipv6: u8,
    /// Also inside tunnels.
    pub inner: bool,
}

/// The parts that a key is made into. The first round key of the cipher is half of the key itself.
struct Schedule {
    cipher: Aes128,
    padding: [u8; 16],
}

impl Schedule {
    fn of(key: &[u8; KEY_LEN]) -> Self {
        let (cipher_key, padding) = key.split_at(16);
        let cipher = Aes128::new_from_slice(cipher_key).expect("half a key is 16 bytes");
        let mut block = Block::clone_from_slice(padding);
        cipher.encrypt_block(&mut block);
        Self { cipher, padding: block.into() }
    }
}

/// Maps addresses and rewrites packets; one for each worker.
pub struct Anonymizer {
    schedule: Secret<Schedule>,
    keep: u32,
    keep_ipv6: u32,
    inner: bool,
    // Direct-mapped: (address, its replacement). An address whose slot holds another is computed afresh.
    cache: Box<[(u32, u32)]>,
    cache_ipv6: Box<[(u128, u128)]>,
}

impl std::fmt::Debug for Anonymizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Anonymizer")
            .field("keep", &self.keep)
            .field("keep_ipv6", &self.keep_ipv6)
            .finish_non_exhaustive()
    }
}

impl Anonymizer {
    pub fn new(anonymize: &Anonymize) -> Self {
        let mut anonymizer = Self {
            schedule: Secret::new(|| Schedule::of(&anonymize.key.0)),
            keep: u32::from(anonymize.keep.min(32)),
            keep_ipv6: u32::from(anonymize.keep_ipv6.min(128)),
            inner: anonymize.inner,
            cache: Box::default(),
            cache_ipv6: Box::default(),
        };
        // Every slot begins with address zero, which only one of them is asked for.
        anonymizer.cache = vec![(0, anonymizer.compute(0)); CACHE_LEN].into();
        anonymizer.cache_ipv6 = vec![(0, anonymizer.compute_ipv6(0)); CACHE_LEN_IPV6].into();
        anonymizer
    }

    /// The replacement of an IPv4 address.
    #[inline]
    pub fn ipv4(&mut self, address: u32) -> u32 {
        let slot = (address.wrapping_mul(0x9e37_79b1) >> 20) as usize % CACHE_LEN;
        if self.cache[slot].0 != address {
            self.cache[slot] = (address, self.compute(address));
        }
        self.cache[slot].1
    }

    /// The replacement of an IPv6 address.
    #[inline]
    pub fn ipv6(&mut self, address: u128) -> u128 {
        let folded = (address ^ address >> 64) as u64;
        let slot = (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize % CACHE_LEN_IPV6;
        if self.cache_ipv6[slot].0 != address {
            self.cache_ipv6[slot] = (address, self.compute_ipv6(address));
        }
        self.cache_ipv6[slot].1
    }

    fn compute(&self, address: u32) -> u32 {
        let mut blocks = [Block::default(); 32];
        let wide = u128::from(address) << 96;
        address ^ (self.flips(wide, 32, self.keep, &mut blocks) >> 96) as u32
    }

    fn compute_ipv6(&self, address: u128) -> u128 {
        let mut blocks = [Block::default(); 128];
        address ^ self.flips(address, 128, self.keep_ipv6, &mut blocks)
    }

    /// The bits of a left-aligned address of `bits` that change, none of the first `keep` among them. Bit `n` depends on the `n`
    /// bits before it alone: that preserves prefixes. All bits are enciphered in one go, which keeps AES units busy.
    fn flips(&self, address: u128, bits: u32, keep: u32, blocks: &mut [Block]) -> u128 {
        let padding = u128::from_be_bytes(self.schedule.padding);
        let blocks = &mut blocks[keep as usize..bits as usize];
        for (block, bit) in blocks.iter_mut().zip(keep..) {
            let seen = if bit == 0 { 0 } else { u128::MAX << (128 - bit) };
            *block = (address & seen | padding & !seen).to_be_bytes().into();
        }
        self.schedule.cipher.encrypt_blocks(blocks);
        blocks
            .iter()
            .zip(keep..)
            .fold(0, |flips, (block, bit)| flips | u128::from(block[0] >> 7) << (127 - bit))
    }

    /// Replaces the addresses of a frame that is nothing but TCP or UDP over IPv4, untagged, unfragmented and without options, as
    /// most are; false of any other, which is left as it was.
    #[inline(always)]
    fn plain(&mut self, frame: &mut [u8]) -> bool {
        const L3: usize = ethernet::HEADER_LEN;
        const L4: usize = L3 + ipv4::HEADER_LEN;
        let Some(head) = frame.first_chunk_mut::<{ L4 + 18 }>() else { return false };
        let long = |head: &[u8; L4 + 18], at: usize| {
            u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
        };
        let is_ipv4 = long(head, L3 - 2) >> 8 == u32::from(ethernet::TYPE_IPV4) << 8 | 0x45;
        let is_fragment = long(head, L3 + 4) & 0x3fff != 0;
        let checksum_at = match head[L3 + 9] {
            ip::TCP => L4 + 16,
            // a tunnel may be in it
            ip::UDP if !self.inner => L4 + 6,
            _ => return false,
        };
        if !is_ipv4 || is_fragment {
            return false;
        }
        let old = (long(head, L3 + 12), long(head, L3 + 16));
        let new = (self.ipv4(old.0), self.ipv4(old.1));
        head[L3 + 12..L3 + 16].copy_from_slice(&new.0.to_be_bytes());
        head[L3 + 16..L3 + 20].copy_from_slice(&new.1.to_be_bytes());
        let sum = |(source, destination)| Sum::default().long(source).long(destination).folded();
        let (was, is) = (sum(old), sum(new));
        if was != is {
            let header = checksum::updated(u16::from_be_bytes([head[L3 + 10], head[L3 + 11]]), was, is);
            head[L3 + 10..L3 + 12].copy_from_slice(&header.to_be_bytes());
            let is_udp = checksum_at == L4 + 6;
            let checksum = u16::from_be_bytes([head[checksum_at], head[checksum_at + 1]]);
            if !is_udp || checksum != 0 {
                let updated = match checksum::updated(checksum, was, is) {
                    0 if is_udp => 0xffff,
                    updated => updated,
                };
                head[checksum_at..checksum_at + 2].copy_from_slice(&updated.to_be_bytes());
            }
        }
        true
    }

    /// Replaces the addresses of a copy.
    /// # Errors
    /// `NeedsWhole` where an address may stand behind the draft's front.
    pub(super) fn anonymize(&mut self, draft: &mut Draft<'_>) -> Result<(), NeedsWhole> {
        if self.plain(draft.front_mut()) {
            return Ok(());
        }
        let shown = if draft.rest > 0 { Some(draft.layers()?.inner.l3()) } else { None };
        self.walk(draft.front_mut(), shown)
    }

    /// Replaces the addresses of any frame. Where more of it exists, `shown` is where the innermost network header begins of which
    /// it is known that `bytes` have all that is looked at.
    fn walk(&mut self, bytes: &mut [u8], shown: Option<usize>) -> Step {
        let (has_rest, shown) = (shown.is_some(), shown.unwrap_or(usize::MAX));
        let (end, frame_end) = (usize::MAX, usize::MAX);
        let mut walk =
            Walk { bytes, has_rest, shown, end, frame_end, covers: Covers::new(), anonymizer: self };
        let stack = layers::ethernet_stack(walk.bytes, 0);
        walk.stack(stack, MAX_DEPTH)
    }
}

/// A checksum that covers bytes which are being changed.
#[derive(Clone, Copy)]
struct Cover {
    /// The offset of the checksum.
    at: usize,
    /// The offset of the first byte that it covers, from which odd and even are told.
    start: usize,
    /// Zero says that there is none, and is never written (RFC 768).
    is_udp: bool,
    old: Sum,
    new: Sum,
}

/// The checksums that cover the place that the walk has come to, outermost first.
type Covers = ArrayVec<Cover, { 2 * MAX_DEPTH }>;

/// A packet while its addresses are replaced, from the outermost header inwards.
struct Walk<'a> {
    bytes: &'a mut [u8],
    /// More of the packet exists than `bytes`.
    has_rest: bool,
    shown: usize,
    /// The end of the packet that the walk has come to, by its own length and those of the packets around it; `usize::MAX` if none
    /// is known. It may lie behind `bytes`.
    end: usize,
    /// The end of the packet that quotes this one, else `usize::MAX`. Behind it no address can stand.
    frame_end: usize,
    covers: Covers,
    anonymizer: &'a mut Anonymizer,
}

type Step = Result<(), NeedsWhole>;

impl Walk<'_> {
    /// Writes `new` at `at`, and notes the change with every checksum that covers it.
    fn replace(&mut self, at: usize, new: &[u8]) {
        let old = &mut self.bytes[at..at + new.len()];
        let (was, is) = (Sum::default().bytes(old).folded(), Sum::default().bytes(new).folded());
        old.copy_from_slice(new);
        for cover in &mut self.covers {
            let is_odd = (at - cover.start) % 2 == 1;
            let side = |sum: u16| if is_odd { sum.swap_bytes() } else { sum };
            cover.old = cover.old.word(side(was));
            cover.new = cover.new.word(side(is));
        }
    }

    /// From here on, changes behind `start` are covered by the checksum at `at`, if that is here.
    /// `old` and `new` are sums of what it covers elsewhere: addresses of the pseudo header.
    fn push_cover(
        &mut self,
        at: usize,
        start: usize,
        is_udp: bool,
        old: Sum,
        new: Sum,
    ) -> Result<bool, NeedsWhole> {
        if at + 2 > self.limit() {
            return self.behind().map(|()| false);
        }
        Ok(self.covers.try_push(Cover { at, start, is_udp, old, new }).is_ok())
    }

    /// All that the innermost checksum covers is changed: brings it up to date.
    fn pop_cover(&mut self) {
        let Some(cover) = self.covers.pop() else { return };
        let old = u16::from_be_bytes([self.bytes[cover.at], self.bytes[cover.at + 1]]);
        let (was, is) = (cover.old.folded(), cover.new.folded());
        if was == is || cover.is_udp && old == 0 {
            return;
        }
        let updated = match checksum::updated(old, was, is) {
            0 if cover.is_udp => 0xffff,
            updated => updated,
        };
        self.replace(cover.at, &updated.to_be_bytes());
    }

    /// How much of the packet that the walk has come to is here.
    fn limit(&self) -> usize {
        self.end.min(self.bytes.len())
    }

    /// The `N` bytes of the packet at `at`, if all of them are here.
    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        chunk(&self.bytes[..self.limit()], at).copied()
    }

    /// Replaces an IPv4 address; nothing where it is not all here.
    fn ipv4_address(&mut self, at: usize) -> Result<(Sum, Sum), NeedsWhole> {
        let Some(old) = self.field::<4>(at) else {
            self.wipe(at)?;
            return Ok(Default::default());
        };
        let new = self.anonymizer.ipv4(u32::from_be_bytes(old)).to_be_bytes();
        self.replace(at, &new);
        Ok((Sum::default().bytes(&old), Sum::default().bytes(&new)))
    }

    /// Replaces an IPv6 address; nothing where it is not all here.
    fn ipv6_address(&mut self, at: usize) -> Result<(Sum, Sum), NeedsWhole> {
        self.ipv6_prefix(at, 128)
    }

    /// Replaces an IPv6 prefix of `bits`, whose remaining bits stay zero if they were.
    fn ipv6_prefix(&mut self, at: usize, bits: u32) -> Result<(Sum, Sum), NeedsWhole> {
        let Some(old) = self.field::<16>(at) else {
            self.wipe(at)?;
            return Ok(Default::default());
        };
        let address = u128::from_be_bytes(old);
        let prefix = if bits == 0 { 0 } else { u128::MAX << (128 - bits.min(128)) };
        let replacement = self.anonymizer.ipv6(address);
        let new = if address & !prefix == 0 { replacement & prefix } else { replacement }.to_be_bytes();
        self.replace(at, &new);
        Ok((Sum::default().bytes(&old), Sum::default().bytes(&new)))
    }

    /// Overwrites all of the packet from `at` on, where addresses may stand that cannot be told.
    fn wipe(&mut self, at: usize) -> Step {
        if self.has_rest {
            return Err(NeedsWhole);
        }
        const ZEROS: [u8; 64] = [0; 64];
        let limit = self.limit();
        for at in (at..limit).step_by(ZEROS.len()) {
            let len = ZEROS.len().min(limit - at);
            self.replace(at, &ZEROS[..len]);
        }
        Ok(())
    }

    /// A stack of headers, and with `inner` the tunnel that it may carry. `depth` more may follow.
    fn stack(&mut self, stack: Stack, depth: usize) -> Step {
        let l3 = stack.l3();
        // deeper than parse goes: what this is may be decided by bytes that are not here
        if l3 > self.shown {
            return Err(NeedsWhole);
        }
        let around = self.end;
        if stack.is_ipv4() || stack.is_ipv6() {
            self.end = extent::stated_end(self.bytes, &stack).unwrap_or(usize::MAX).min(around);
        }
        self.network(stack, depth)?;
        self.end = around;
        Ok(())
    }

    fn network(&mut self, stack: Stack, depth: usize) -> Step {
        let l3 = stack.l3();
        if depth == 0 {
            return self.wipe(l3);
        }
        if stack.labels() != 0 && stack.ethertype() == ethernet::TYPE_TEB {
            let stack = layers::ethernet_stack(self.bytes, l3);
            return self.stack(stack, depth - 1);
        }
        match stack.ethertype() {
            ethernet::TYPE_IPV4 => self.ipv4(&stack, depth),
            ethernet::TYPE_IPV6 => self.ipv6(&stack, depth),
            ethernet::TYPE_ARP | ethernet::TYPE_RARP => self.arp(l3),
            // Tags or labels that are cut, or more than are stepped over: what they carry cannot be told.
            _ if stack.is_cut() || stack.network().is_none() => self.wipe(l3),
            length if length < ethernet::TYPE_MIN && stack.ethernet().is_some() => self.llc(l3, depth),
            _ if self.anonymizer.inner => self.tunnel(&stack, depth),
            _ => Ok(()),
        }
    }

    /// An 802.3 frame: IP behind an LLC or SNAP header (IEEE 802.2; RFC 1042).
    fn llc(&mut self, at: usize, depth: usize) -> Step {
        let (l3, ethertype) = match self.bytes.get(at..) {
            Some([0xaa, 0xaa, 0x03, _, _, _, high, low, ..]) => (at + 8, u16::from_be_bytes([*high, *low])),
            Some([0x06, 0x06, 0x03, ..]) => (at + 3, ethernet::TYPE_IPV4),
            _ => return Ok(()),
        };
        let stack = layers::network_stack(self.bytes, l3, ethertype);
        self.stack(stack, depth - 1)
    }

    fn arp(&mut self, at: usize) -> Step {
        let is_ipv4 = self.bytes.get(at + 2..at + 4) == Some(&[0x08, 0]);
        let hardware_len = self.bytes.get(at + 4).map_or(0, |len| usize::from(*len));
        if !is_ipv4 || self.bytes.get(at + 5) != Some(&4) {
            return self.wipe((at + arp::FIXED_LEN).min(self.bytes.len()));
        }
        let sender = at + arp::FIXED_LEN + hardware_len;
        self.ipv4_address(sender)?;
        self.ipv4_address(sender + 4 + hardware_len)?;
        Ok(())
    }

    fn ipv4(&mut self, stack: &Stack, depth: usize) -> Step {
        let l3 = stack.l3();
        let header_len = match Ipv4::at(self.bytes, l3) {
            Some(header) if header.is_sound() && l3 + header.header_len() <= self.bytes.len() => {
                header.header_len()
            }
            _ => return self.wipe((l3 + 12).min(self.bytes.len())),
        };
        let has_cover = self.push_cover(l3 + 10, l3, false, Sum::default(), Sum::default())?;
        let source = self.ipv4_address(l3 + 12)?;
        let mut destination = self.ipv4_address(l3 + 16)?;
        if header_len > 20 {
            destination = self.ipv4_options(l3 + 20, l3 + header_len)?.unwrap_or(destination);
        }
        if has_cover {
            self.pop_cover();
        }
        self.transport(
            stack,
            (source.0.word(destination.0.folded()), source.1.word(destination.1.folded())),
            depth,
        )
    }

    /// The addresses in options: routes and time stamps (RFC 791, 3.1). Returns the change of the final destination where a source
    /// route has yet to lead there: that is the one that transport checksums cover.
    fn ipv4_options(&mut self, mut at: usize, end: usize) -> Result<Option<(Sum, Sum)>, NeedsWhole> {
        let mut destination = None;
        while at + 2 < end {
            let (kind, len, pointer) =
                (self.bytes[at], usize::from(self.bytes[at + 1]), usize::from(self.bytes[at + 2]));
            if kind == 0 {
                break;
            }
            if kind == 1 {
                at += 1;
                continue;
            }
            if len < 2 || at + len > end {
                break;
            }
            let option_end = at + len;
            match kind {
                // Record route, loose and strict source route.
                7 | 131 | 137 => {
                    for place in (at + 3..option_end).step_by(4).filter(|place| place + 4 <= option_end) {
                        let change = self.ipv4_address(place)?;
                        if kind != 7 && pointer <= len && place + 8 > option_end {
                            destination = Some(change);
                        }
                    }
                }
                // Internet timestamp with addresses: flag 1 or 3.
                68 if len >= 4 && matches!(self.bytes[at + 3] & 0x0f, 1 | 3) => {
                    for place in (at + 4..option_end).step_by(8).filter(|place| place + 4 <= option_end) {
                        self.ipv4_address(place)?;
                    }
                }
                _ => {}
            }
            at = option_end;
        }
        Ok(destination)
    }

    fn ipv6(&mut self, stack: &Stack, depth: usize) -> Step {
        let l3 = stack.l3();
        let mut next = match Ipv6::at(self.bytes, l3) {
            Some(header) if header.version() == 6 => header.next_header(),
            _ => return self.wipe((l3 + 8).min(self.bytes.len())),
        };
        let mut source = self.ipv6_address(l3 + 8)?;
        let mut destination = self.ipv6_address(l3 + 24)?;
        let mut at = l3 + ipv6::HEADER_LEN;
        // Parse goes over eight of them; a packet with more is cut for it, and nothing after them is looked at.
        for _ in 0..8 {
            if !ip::is_extension(next) {
                break;
            }
            let Some(extension) = ipv6::extension(self.bytes, at, next) else {
                return self.wipe(at.min(self.bytes.len()));
            };
            if at + extension.len > self.bytes.len()
                && matches!(next, ip::ROUTING | ip::DESTINATION_OPTIONS)
            {
                return self.wipe(at);
            }
            match next {
                ip::ROUTING => destination = self.routing_header(at, extension.len)?.unwrap_or(destination),
                ip::DESTINATION_OPTIONS => source = self.home_address(at, extension.len)?.unwrap_or(source),
                _ => {}
            }
            at += extension.len;
            next = extension.next_header;
            if extension.fragment_offset != 0 {
                return Ok(());
            }
        }
        if ip::is_extension(next) {
            return self.wipe(at.min(self.bytes.len()));
        }
        self.transport(
            stack,
            (source.0.word(destination.0.folded()), source.1.word(destination.1.folded())),
            depth,
        )
    }

    /// The addresses of a routing header: source routes (RFC 2460, 4.4), mobile nodes (RFC 6275, 6.4), segments (RFC 8754, 2).
    /// Returns the change of the final destination, where that is yet to be reached.
    fn routing_header(&mut self, at: usize, len: usize) -> Result<Option<(Sum, Sum)>, NeedsWhole> {
        let (kind, left) = (self.bytes[at + 2], self.bytes[at + 3]);
        if !matches!(kind, 0 | 2 | 4) {
            return Ok(None);
        }
        let count = match kind {
            4 => (usize::from(self.bytes[at + 4]) + 1).min((len - 8) / 16),
            _ => (len - 8) / 16,
        };
        // Segment routing lists its addresses last first.
        let last = if kind == 4 { 0 } else { count.saturating_sub(1) };
        let mut destination = None;
        for index in 0..count {
            let change = self.ipv6_address(at + 8 + 16 * index)?;
            if index == last && left > 0 {
                destination = Some(change);
            }
        }
        Ok(destination)
    }

    /// The home address of a mobile node (RFC 6275, 6.3), which transport checksums take for the source.
    fn home_address(&mut self, at: usize, len: usize) -> Result<Option<(Sum, Sum)>, NeedsWhole> {
        const PAD1: u8 = 0;
        const HOME_ADDRESS: u8 = 201;
        let (mut option, end) = (at + 2, at + len);
        let mut change = None;
        while option + 2 <= end {
            let (kind, option_len) = (self.bytes[option], usize::from(self.bytes[option + 1]));
            if kind == PAD1 {
                option += 1;
                continue;
            }
            if kind == HOME_ADDRESS && option + 18 <= end {
                // Whatever its length says: readers take the address for one.
                change = Some(self.ipv6_address(option + 2)?);
                if option_len != 16 {
                    break;
                }
            }
            option += 2 + option_len;
        }
        Ok(change)
    }

    /// Anonymises what follows the IP header. `addresses` are the sums of the pseudo header's addresses before and after.
    fn transport(&mut self, stack: &Stack, addresses: (Sum, Sum), depth: usize) -> Step {
        let Some(l4) = stack.l4().filter(|_| !stack.is_later_fragment()) else { return Ok(()) };
        let (old, new) = addresses;
        let none = Sum::default();
        let has_cover = match stack.protocol() {
            ip::TCP => self.push_cover(l4 + 16, l4, false, old, new)?,
            ip::UDP | ip::UDP_LITE => self.push_cover(l4 + 6, l4, true, old, new)?,
            ip::DCCP => self.push_cover(l4 + 6, l4, false, old, new)?,
            ip::ICMPV6 if stack.is_ipv6() => self.push_cover(l4 + 2, l4, false, old, new)?,
            ip::OSPF if stack.is_ipv6() => self.push_cover(l4 + 12, l4, false, old, new)?,
            ip::PIM if stack.is_ipv6() => self.push_cover(l4 + 2, l4, false, old, new)?,
            ip::VRRP if stack.is_ipv6() => self.push_cover(l4 + 6, l4, false, old, new)?,
            ip::VRRP if self.vrrp_covers_ipv4(l4)? => self.push_cover(l4 + 6, l4, false, old, new)?,
            ip::ICMP | ip::IGMP if stack.is_ipv4() => self.push_cover(l4 + 2, l4, false, none, none)?,
            ip::GRE if self.bytes.get(l4).is_some_and(|flags| flags & 0x80 != 0) => {
                self.push_cover(l4 + gre::HEADER_LEN, l4, false, none, none)?
            }
            _ => false,
        };
        match stack.protocol() {
            ip::ICMP if stack.is_ipv4() => self.icmp(l4, depth)?,
            ip::ICMPV6 if stack.is_ipv6() => self.icmpv6(l4, depth)?,
            ip::IGMP if stack.is_ipv4() => self.igmp(l4)?,
            _ if self.anonymizer.inner => self.tunnel(stack, depth)?,
            _ => {}
        }
        if has_cover {
            self.pop_cover();
        }
        Ok(())
    }

    /// Returns whether the checksum of the VRRP message at `at` covers the addresses of IPv4 too. That of version 3 does by RFC 5798,
    /// 5.2.8, and as most implementations take it; by RFC 9568, 5.2.8, it does not. A message that is right by itself is of the
    /// latter kind.
    fn vrrp_covers_ipv4(&self, at: usize) -> Result<bool, NeedsWhole> {
        let Some([version_and_type]) = self.field(at) else { return self.behind().map(|()| false) };
        if version_and_type >> 4 != 3 {
            return Ok(false);
        }
        self.behind()?;
        Ok(Sum::default().bytes(&self.bytes[at..self.limit()]).folded() != 0xffff)
    }

    fn tunnel(&mut self, stack: &Stack, depth: usize) -> Step {
        let Some(shell) = layers::tunnel(self.bytes, stack) else { return Ok(()) };
        let (header, payload) = (usize::from(shell.offset), shell.payload());
        if shell.kind == ShellKind::Teredo
            && let Some(at) = teredo::origin_address(self.bytes, header, payload)
        {
            self.inverted_ipv4_address(at);
        }
        let inner = match shell.carries(self.bytes) {
            Some(Carried::Ethernet) => layers::ethernet_stack(self.bytes, payload),
            Some(Carried::Network(ethertype)) => layers::network_stack(self.bytes, payload, ethertype),
            None => return Ok(()),
        };
        let around = self.end;
        // the tunnel's packet contradicts itself: what its length leaves out may have addresses all the same
        if inner.l4().unwrap_or(inner.l3() + ipv6::HEADER_LEN) > around {
            self.end = self.frame_end;
        }
        self.stack(inner, depth - 1)?;
        self.end = around;
        Ok(())
    }

    /// Replaces an address that stands with all its bits inverted (RFC 4380, 5.1.1).
    fn inverted_ipv4_address(&mut self, at: usize) {
        if let Some(inverted) = u32_at(self.bytes, at).filter(|_| at + 4 <= self.frame_end) {
            let replacement = !self.anonymizer.ipv4(!inverted);
            self.replace(at, &replacement.to_be_bytes());
        }
    }

    /// The packet that an error quotes, as far as it goes.
    fn quoted(&mut self, at: usize, ethertype: u16, depth: usize) -> Step {
        if at >= self.limit() {
            return self.behind();
        }
        let stack = layers::network_stack(self.bytes, at, ethertype);
        let around = std::mem::replace(&mut self.frame_end, self.end);
        self.stack(stack, depth - 1)?;
        self.frame_end = around;
        Ok(())
    }

    /// The IPv6 packet that an option quotes, which ends at `end`.
    fn quoted_within(&mut self, at: usize, end: usize, depth: usize) -> Step {
        let around = self.end;
        self.end = end.min(around);
        self.quoted(at, ethernet::TYPE_IPV6, depth)?;
        self.end = around;
        Ok(())
    }

    /// RFC 792; RFC 1256 (router advertisements).
    fn icmp(&mut self, at: usize, depth: usize) -> Step {
        let Some([kind]) = self.field(at) else { return self.behind() };
        match kind {
            3 | 4 | 11 | 12 => self.quoted(at + icmp::HEADER_LEN, ethernet::TYPE_IPV4, depth),
            5 => {
                self.ipv4_address(at + 4)?;
                self.quoted(at + icmp::HEADER_LEN, ethernet::TYPE_IPV4, depth)
            }
            9 => self.ipv4_addresses(
                at + icmp::HEADER_LEN,
                self.byte(at + 4)?,
                4 * self.byte(at + 5)?.max(1),
            ),
            _ => Ok(()),
        }
    }

    /// RFC 4443 (errors), RFC 4861 (neighbour discovery), RFC 2710 and RFC 3810 (multicast listeners).
    fn icmpv6(&mut self, at: usize, depth: usize) -> Step {
        let Some([kind]) = self.field(at) else { return self.behind() };
        match kind {
            1..=4 => self.quoted(at + icmp::HEADER_LEN, ethernet::TYPE_IPV6, depth),
            133 => self.discovery_options(at + 8, depth),
            134 => self.discovery_options(at + 16, depth),
            135 | 136 => {
                self.ipv6_address(at + 8)?;
                self.discovery_options(at + 24, depth)
            }
            137 => {
                self.ipv6_address(at + 8)?;
                self.ipv6_address(at + 24)?;
                self.discovery_options(at + 40, depth)
            }
            130..=132 => {
                self.ipv6_address(at + 8)?;
                // Sources of a version 2 query (RFC 3810, 5.1).
                let sources = if kind == 130 { self.count(at + 26)? } else { 0 };
                self.ipv6_addresses(at + 28, sources)
            }
            143 => {
                let mut record = at + 8;
                for _ in 0..self.count(at + 6)? {
                    let sources = self.count(record + 2)?;
                    let auxiliary = 4 * self.byte(record + 1)?;
                    self.ipv6_addresses(record + 4, 1 + sources)?;
                    record += 4 + 16 * (1 + sources) + auxiliary;
                    if record >= self.limit() {
                        return self.behind();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// RFC 4861, 4.6; RFC 4191, 2.3 (routes); RFC 8106, 5.1 (name servers).
    fn discovery_options(&mut self, mut at: usize, depth: usize) -> Step {
        self.behind()?;
        while at + 8 <= self.limit() {
            let (kind, len) = (self.bytes[at], 8 * usize::from(self.bytes[at + 1]));
            if len == 0 {
                return self.wipe(at);
            }
            match kind {
                3 => drop(self.ipv6_prefix(at + 16, self.bytes[at + 2].into())?),
                4 => self.quoted_within(at + 8, at + len, depth)?,
                24 if len == 24 => drop(self.ipv6_prefix(at + 8, self.bytes[at + 2].into())?),
                // A route of up to 64 bits has half an address: no more than that is a prefix.
                24 if len == 16 => self.half_prefix(at + 8, self.bytes[at + 2].into())?,
                25 => self.ipv6_addresses(at + 8, (len - 8) / 16)?,
                _ => {}
            }
            at += len;
        }
        Ok(())
    }

    fn half_prefix(&mut self, at: usize, bits: u32) -> Step {
        let Some(half) = self.field::<8>(at) else { return self.wipe(at) };
        let prefix = if bits == 0 { 0 } else { u64::MAX << (64 - bits.min(64)) };
        let new = (self.anonymizer.ipv6(u128::from(u64::from_be_bytes(half)) << 64) >> 64) as u64 & prefix;
        self.replace(at, &new.to_be_bytes());
        Ok(())
    }

    /// RFC 2236, RFC 3376.
    fn igmp(&mut self, at: usize) -> Step {
        let Some([kind]) = self.field(at) else { return self.behind() };
        match kind {
            0x22 => {
                let mut record = at + 8;
                for _ in 0..self.count(at + 6)? {
                    let sources = self.count(record + 2)?;
                    let auxiliary = 4 * self.byte(record + 1)?;
                    self.ipv4_addresses(record + 4, 1 + sources, 4)?;
                    record += 4 + 4 * (1 + sources) + auxiliary;
                    if record >= self.limit() {
                        return self.behind();
                    }
                }
                Ok(())
            }
            0x11 | 0x12 | 0x16 | 0x17 => {
                self.ipv4_address(at + 4)?;
                let sources = if kind == 0x11 { self.count(at + 10)? } else { 0 };
                self.ipv4_addresses(at + 12, sources, 4)
            }
            _ => Ok(()),
        }
    }

    /// Ends the walk because the next bytes lie behind those that are here: the copy needs the rest of the packet, if there is one.
    fn behind(&self) -> Step {
        if self.has_rest && self.end > self.bytes.len() { Err(NeedsWhole) } else { Ok(()) }
    }

    /// 0 where the packet ends before.
    fn byte(&self, at: usize) -> Result<usize, NeedsWhole> {
        let Some([byte]) = self.field(at) else { return self.behind().map(|()| 0) };
        Ok(usize::from(byte))
    }

    /// As `byte`, of a number of two.
    fn count(&self, at: usize) -> Result<usize, NeedsWhole> {
        let Some(count) = self.field(at) else { return self.behind().map(|()| 0) };
        Ok(usize::from(u16::from_be_bytes(count)))
    }

    fn ipv4_addresses(&mut self, at: usize, count: usize, stride: usize) -> Step {
        for place in (at..).step_by(stride).take(count) {
            if place >= self.limit() {
                return self.behind();
            }
            self.ipv4_address(place)?;
        }
        Ok(())
    }

    fn ipv6_addresses(&mut self, at: usize, count: usize) -> Step {
        for place in (at..).step_by(16).take(count) {
            if place >= self.limit() {
                return self.behind();
            }
            self.ipv6_address(place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// The key of the reference distribution's sample.
    const KEY: [u8; 32] = [
        21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143, 131, 121, 121,
        101, 39, 98, 87, 76, 45, 42, 132, 34, 2,
    ];

    /// The traffic sample of the reference distribution (Crypto-PAn 1.0, `sample_trace_raw.dat` and `sample_trace_sanitized.dat`),
    /// each address once.
    #[rustfmt::skip]
    const VECTORS: [(&str, &str); 70] = [
        ("128.11.68.132", "135.242.180.132"),
        ("129.118.74.4", "134.136.186.123"),
        ("130.132.252.244", "133.68.164.234"),
        ("141.223.7.43", "141.167.8.160"),
        ("141.233.145.108", "141.129.237.235"),
        ("152.163.225.39", "151.140.114.167"),
        ("156.29.3.236", "147.225.12.42"),
        ("165.247.96.84", "162.9.99.234"),
        ("166.107.77.190", "160.132.178.185"),
        ("192.102.249.13", "252.138.62.131"),
        ("192.215.32.125", "252.43.47.189"),
        ("192.233.80.103", "252.25.108.8"),
        ("192.41.57.43", "252.222.221.184"),
        ("193.150.244.223", "253.169.52.216"),
        ("195.205.63.100", "255.186.223.5"),
        ("198.200.171.101", "249.199.68.213"),
        ("198.26.132.101", "249.36.123.202"),
        ("198.36.213.5", "249.7.21.132"),
        ("198.51.77.238", "249.18.186.254"),
        ("199.217.79.101", "248.38.184.213"),
        ("202.49.198.20", "245.206.7.234"),
        ("203.12.160.252", "244.248.163.4"),
        ("204.184.162.189", "243.192.77.90"),
        ("204.202.136.230", "243.178.4.198"),
        ("204.29.20.4", "243.33.20.123"),
        ("205.178.38.67", "242.108.198.51"),
        ("205.188.147.153", "242.96.16.101"),
        ("205.188.248.25", "242.96.88.27"),
        ("205.245.121.43", "242.21.121.163"),
        ("207.105.49.5", "241.118.205.138"),
        ("207.135.65.238", "241.202.129.222"),
        ("207.155.9.214", "241.220.250.22"),
        ("207.188.7.45", "241.255.249.220"),
        ("207.25.71.27", "241.33.119.156"),
        ("207.33.151.131", "241.1.233.131"),
        ("208.147.89.59", "227.237.98.191"),
        ("208.234.120.210", "227.154.67.17"),
        ("208.28.185.184", "227.39.94.90"),
        ("208.52.56.122", "227.8.63.165"),
        ("209.12.231.7", "226.243.167.8"),
        ("209.238.72.3", "226.6.119.243"),
        ("209.246.74.109", "226.22.124.76"),
        ("209.68.60.238", "226.184.220.233"),
        ("209.85.249.6", "226.170.70.6"),
        ("212.120.124.31", "228.135.163.231"),
        ("212.146.8.236", "228.19.4.234"),
        ("212.186.227.154", "228.59.98.98"),
        ("212.204.172.118", "228.71.195.169"),
        ("212.206.130.201", "228.69.242.193"),
        ("216.148.237.145", "235.84.194.111"),
        ("216.157.30.252", "235.89.31.26"),
        ("216.184.159.48", "235.96.225.78"),
        ("216.227.10.221", "235.28.253.36"),
        ("216.254.18.172", "235.7.16.162"),
        ("216.32.132.250", "235.192.139.38"),
        ("216.35.217.178", "235.195.157.81"),
        ("24.0.250.221", "100.15.198.226"),
        ("24.13.62.231", "100.2.192.247"),
        ("24.14.213.138", "100.1.42.141"),
        ("24.5.0.80", "100.9.15.210"),
        ("24.7.198.88", "100.10.6.25"),
        ("24.94.26.44", "100.88.228.35"),
        ("38.15.67.68", "64.3.66.187"),
        ("4.3.88.225", "124.60.155.63"),
        ("63.14.55.111", "95.9.215.7"),
        ("63.195.241.44", "95.179.238.44"),
        ("63.97.7.140", "95.97.9.123"),
        ("64.14.118.196", "0.255.183.58"),
        ("64.34.154.117", "0.221.154.117"),
        ("64.39.15.238", "0.219.7.41"),
    ];

    /// Agreed on by implementations in Go, C++, JavaScript and Rust; the reference has IPv4 alone.
    const VECTORS_IPV6: [(&str, &str); 5] = [
        ("::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed"),
        ("::2", "78ff:f001:9fc0:20df:8380:b1f1:704:ef"),
        ("::ffff", "78ff:f001:9fc0:20df:8380:b1f1:704:f838"),
        ("2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"),
        ("2001:db8::2", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1c"),
    ];

    fn anonymizer(keep: u8, keep_ipv6: u8) -> Anonymizer {
        Anonymizer::new(&Anonymize { key: Key::new(KEY), keep, keep_ipv6, inner: true })
    }

    proptest! {
        #[test]
        fn plain_frames_get_by_the_short_way_what_they_get_by_the_long_one(
            addresses in any::<[u8; 8]>(),
            is_udp in any::<bool>(),
            fragment in prop_oneof![Just(0u16), Just(0x4000), Just(0x2000), Just(5)],
            (version, inner) in (prop_oneof![9 => Just(0x45u8), 1 => Just(0x46)], any::<bool>()),
            body in proptest::collection::vec(any::<u8>(), 0..40),
            checksums in prop_oneof![Just([0u8; 2]), Just([0xff; 2]), any::<[u8; 2]>()],
        ) {
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, version, 0, 0, 60, 0, 0];
            frame.extend(fragment.to_be_bytes());
            frame.extend([64, if is_udp { 17 } else { 6 }, checksums[1], checksums[0]]);
            frame.extend(addresses);
            frame.extend(body);
            if let Some(field) = frame.get_mut(if is_udp { 40..42 } else { 50..52 }) {
                field.copy_from_slice(&checksums);
            }
            let key = Key::new(KEY);
            let mut anonymizer = Anonymizer::new(&Anonymize { key, keep: 0, keep_ipv6: 0, inner });
            let (mut short, mut long) = (frame.clone(), frame.clone());
            let is_plain = anonymizer.plain(&mut short);
            let is_expected = version == 0x45 && fragment & 0x3fff == 0 && !(is_udp && inner) && frame.len() >= 52;
            prop_assert_eq!(is_plain, is_expected);
            if is_plain {
                prop_assert!(anonymizer.walk(&mut long, None).is_ok());
                prop_assert_eq!(short, long);
            } else {
                prop_assert_eq!(short, frame);
            }
        }
    }

    fn ipv4(address: &str) -> u32 {
        address.parse::<Ipv4Addr>().expect("an address").to_bits()
    }

    fn ipv6(address: &str) -> u128 {
        address.parse::<Ipv6Addr>().expect("an address").to_bits()
    }

    /// Multicast reports, whose records have each their sources and four bytes times `auxiliary` behind them.
    fn report(head: &[u8], len: usize, records: &[(u16, u8)]) -> Vec<u8> {
        let mut frame = head.to_vec();
        frame.extend([0, 0, 0, 0, 0, 0]);
        frame.extend((records.len() as u16).to_be_bytes());
        for &(sources, auxiliary) in records {
            frame.extend([4, auxiliary]);
            frame.extend(sources.to_be_bytes());
            frame.extend(std::iter::repeat_n(
                7,
                len * (1 + usize::from(sources)) + 4 * usize::from(auxiliary),
            ));
        }
        let at = head.len();
        frame[at] = if len == 16 { 143 } else { 0x22 };
        frame
    }

    #[test]
    fn reports_whose_records_go_on_behind_the_front_need_the_whole_packet() {
        let mut ipv6 = vec![0; 54];
        (ipv6[12], ipv6[13], ipv6[14], ipv6[20]) = (0x86, 0xdd, 0x60, ip::ICMPV6);
        let mut ipv4 = vec![0; 34];
        (ipv4[12], ipv4[13], ipv4[14], ipv4[23]) = (8, 0, 0x45, ip::IGMP);
        // RFC 3810, 5.2 and RFC 3376, 4.2: auxiliary data ends behind byte 256, where a record follows
        for (frame, behind) in [
            (report(&ipv6, 16, &[(10, 4), (1, 0)]), 258),
            (report(&ipv4, 4, &[(40, 0), (8, 2), (3, 0)]), 258),
        ] {
            let mut whole = frame.clone();
            assert_eq!(anonymizer(0, 0).walk(&mut whole, None), Ok(()));
            assert_ne!(whole[behind + 4..], frame[behind + 4..], "the addresses behind are replaced");
            assert_eq!(anonymizer(0, 0).walk(&mut frame.clone()[..256], Some(usize::MAX)), Err(NeedsWhole));
        }
    }

    #[test]
    fn the_published_vectors_are_reproduced() {
        let mut anonymizer = anonymizer(0, 0);
        // Twice: computed, and from the cache.
        for (original, replacement) in VECTORS.iter().chain(&VECTORS) {
            assert_eq!(anonymizer.ipv4(ipv4(original)), ipv4(replacement), "{original}");
        }
        for (original, replacement) in VECTORS_IPV6.iter().chain(&VECTORS_IPV6) {
            assert_eq!(anonymizer.ipv6(ipv6(original)), ipv6(replacement), "{original}");
        }
    }

    #[test]
    fn a_key_file_is_bytes_or_hexadecimal_digits() {
        let digits: String = KEY.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(Key::from_file_content(&KEY), Ok(Key::new(KEY)));
        assert_eq!(Key::from_file_content(format!("  {digits}\n").as_bytes()), Ok(Key::new(KEY)));
        assert_eq!(Key::from_file_content(b"short"), Err(KeyError::Length(5)));
        assert_eq!(Key::from_file_content("x".repeat(64).as_bytes()), Err(KeyError::Digit(1)));
    }

    proptest! {
        #[test]
        fn addresses_share_the_prefix_that_their_replacements_share(a: u32, b: u32, c: u128, d: u128, shift in 0u32..128) {
            let mut anonymizer = anonymizer(0, 0);
            let b = a ^ b >> (shift % 32);
            prop_assert_eq!((anonymizer.ipv4(a) ^ anonymizer.ipv4(b)).leading_zeros(), (a ^ b).leading_zeros());
            let d = c ^ d >> shift;
            prop_assert_eq!((anonymizer.ipv6(c) ^ anonymizer.ipv6(d)).leading_zeros(), (c ^ d).leading_zeros());
        }

        #[test]
        fn kept_bits_stay_and_the_others_are_as_if_none_were_kept(a: u32, b: u128, keep in 0u8..=32, keep_ipv6 in 0u8..=128) {
            let (mut plain, mut keeping) = (anonymizer(0, 0), anonymizer(keep, keep_ipv6));
            let kept = u32::MAX.checked_shl(32 - u32::from(keep)).unwrap_or(0);
            prop_assert_eq!(keeping.ipv4(a), a & kept | plain.ipv4(a) & !kept);
            let kept = u128::MAX.checked_shl(128 - u32::from(keep_ipv6)).unwrap_or(0);
            prop_assert_eq!(keeping.ipv6(b), b & kept | plain.ipv6(b) & !kept);
        }
    }
}
