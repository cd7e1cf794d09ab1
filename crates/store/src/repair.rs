//! Repair: a segment that a crash left is cut behind its last whole block.
//!
//! A segment is written in whole blocks, so all blocks but the last are whole, unless the machine itself stopped: what the disk does not
//! have of a block is zeroes or garbage, which the two lengths of a block show.
//! # Source
//! draft-ietf-opsawg-pcapng, section 3.1.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::SegmentName;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MARK: u32 = 0x1a2b_3c4d;
const ENHANCED_PACKET: u32 = 6;
/// Bytes of the shortest block, and of the longest that a segment has: the longest packet and its options.
const SHORTEST: u32 = 12;
const LONGEST: u32 = 16 << 20;
const BUFFER_LEN: usize = 1 << 20;

/// The repair of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repaired {
    pub name: SegmentName,
    /// Bytes and packets that the segment has. Without a packet it is removed.
    pub kept_bytes: u64,
    pub packets: u64,
    /// Bytes behind the last whole block, which are gone.
    pub cut_bytes: u64,
}

/// The whole blocks at the beginning of a file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Whole {
    bytes: u64,
    packets: u64,
}

/// Cuts a segment behind its last whole block, and writes that to the disk.
///
/// # Errors
/// If it cannot be read or cut.
pub(crate) fn repair(file: &File, name: SegmentName) -> io::Result<Repaired> {
    let len = file.metadata()?.len();
    let whole = walk(file, len)?;
    // space may be reserved beyond the end
    file.set_len(whole.bytes)?;
    file.sync_all()?;
    let cut_bytes = len - whole.bytes;
    Ok(Repaired { name, kept_bytes: whole.bytes, packets: whole.packets, cut_bytes })
}

fn walk(mut file: &File, len: u64) -> io::Result<Whole> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = BufReader::with_capacity(BUFFER_LEN, file);
    let mut whole = Whole::default();
    loop {
        let left = len - whole.bytes;
        let mut head = [0; 8];
        if left < u64::from(SHORTEST) || !is_read(&mut bytes, &mut head)? {
            return Ok(whole);
        }
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (block_type, block_len) = (word(0), word(4));
        let is_first = whole.bytes == 0;
        let is_sane = (SHORTEST..=LONGEST).contains(&block_len)
            && block_len % 4 == 0
            && u64::from(block_len) <= left
            && is_first == (block_type == SECTION_HEADER);
        if !is_sane {
            return Ok(whole);
        }
        let mut rest = i64::from(block_len) - 8;
        if is_first {
            let mut mark = [0; 4];
            if !is_read(&mut bytes, &mut mark)? || u32::from_ne_bytes(mark) != BYTE_ORDER_MARK {
                return Ok(whole);
            }
            rest -= 4;
        }
        bytes.seek_relative(rest - 4)?;
        let mut end = [0; 4];
        if !is_read(&mut bytes, &mut end)? || u32::from_ne_bytes(end) != block_len {
            return Ok(whole);
        }
        whole.bytes += u64::from(block_len);
        whole.packets += u64::from(block_type == ENHANCED_PACKET);
    }
}

/// Reads bytes. Returns whether all of them were there.
fn is_read(bytes: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match bytes.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    use tapline_capture::{ByteOrder, Interface, InterfaceId, LinkType, Packet, blocks};

    /// A segment of packets, with the offset behind each of its blocks and how many packets there are up to it.
    fn segment(packets: usize) -> (Vec<u8>, Vec<(u64, u64)>) {
        let (mut bytes, mut ends, order) = (Vec::new(), vec![(0, 0)], ByteOrder::NATIVE);
        blocks::section(&mut bytes, order, &["a comment"]);
        ends.push((bytes.len() as u64, 0));
        let interface = Interface::new(LinkType::ETHERNET, 0, Some("tap0".into()));
        blocks::interface(&mut bytes, order, &interface).expect("Ethernet");
        ends.push((bytes.len() as u64, 0));
        for index in 0..packets {
            let packet = Packet {
                interface: InterfaceId(0),
                time_ns: index as u64,
                // the bytes look like blocks themselves
                bytes: &[12, 0, 0, 0].repeat(4 + index)[..15 + index],
                original_len: 100,
                comments: &[],
            };
            blocks::packet(&mut bytes, order, &packet, None, index as u64 % 2);
            ends.push((bytes.len() as u64, index as u64 + 1));
        }
        (bytes, ends)
    }

    fn repaired(bytes: &[u8]) -> (Repaired, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("a file of our own");
        let name = SegmentName { seq: 1, first_ns: 2 };
        let repaired = repair(&file, name).expect("a file of our own");
        let mut left = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_end(&mut left).expect("a file");
        (repaired, left)
    }

    #[test]
    fn a_segment_that_ends_anywhere_keeps_its_whole_blocks_and_says_what_it_lost() {
        let (bytes, ends) = segment(6);
        for len in 0..=bytes.len() {
            let (kept, packets) = *ends.iter().rfind(|(end, _)| *end <= len as u64).expect("0 is one");
            let (said, left) = repaired(&bytes[..len]);
            assert!(left == bytes[..kept as usize]);
            let expected = (kept, packets, len as u64 - kept);
            assert_eq!((said.kept_bytes, said.packets, said.cut_bytes), expected, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_there_a_prefix_is_left_that_needs_no_repair(
            packets in 0usize..5,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (mut bytes, _) = segment(packets);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.extend(tail);
            let (first, left) = repaired(&bytes);
            prop_assert!(bytes.starts_with(&left));
            prop_assert_eq!(first.kept_bytes + first.cut_bytes, bytes.len() as u64);
            let (again, same) = repaired(&left);
            prop_assert!(same == left && again.cut_bytes == 0 && again.packets == first.packets);
        }
    }

    #[test]
    fn zeroes_and_garbage_behind_whole_blocks_are_no_blocks() {
        let (bytes, ends) = segment(3);
        for tail in
            [&[0; 4096][..], &[0xff; 100], &[6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff], &bytes, b"\n\r\r\n"]
        {
            let (said, left) = repaired(&[&bytes[..], tail].concat());
            assert!(left == bytes);
            assert_eq!((said.packets, said.cut_bytes), (3, tail.len() as u64));
        }
        // a block in the middle that lost a page: what is behind it cannot be found
        let mut torn = bytes.clone();
        torn[ends[4].0 as usize - 4..ends[4].0 as usize].fill(0);
        assert_eq!(repaired(&torn).0.packets, 1);
        let mut other = bytes.clone();
        other[8..12].reverse();
        assert_eq!(repaired(&other).0.kept_bytes, 0);
    }
}
