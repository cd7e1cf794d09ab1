//! IEEE 802.11 data frames that carry a packet behind LLC and SNAP.
//! # Source
//! IEEE 802.11-2020, 9.2.4 and 9.3.2.1; SNAP: RFC 1042.

use super::{chunk, u16_at};

const BASE_LEN: usize = 24;
const ADDRESS4_LEN: usize = 6;
const QOS_LEN: usize = 2;
const HT_CONTROL_LEN: usize = 4;
/// LLC and SNAP for a type of Ethernet.
const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];

/// The most bytes up to the packet.
pub const LONGEST_LEN: usize = BASE_LEN + ADDRESS4_LEN + QOS_LEN + HT_CONTROL_LEN + SNAP.len() + 2;

/// Bytes from `offset` up to the packet, whose ethertype stands in the last two of them, where a data frame begins there that is
/// neither encrypted nor an aggregate of several. Access points of Cisco's send the two bytes of the frame control field the other
/// way round in CAPWAP, so both ways are tried; SNAP at its place is what confirms one.
pub fn header_len(bytes: &[u8], offset: usize) -> Option<usize> {
    let &[a, b] = chunk(bytes, offset)?;
    data_len(bytes, offset, [a, b]).or_else(|| data_len(bytes, offset, [b, a]))
}

fn data_len(bytes: &[u8], offset: usize, [kind, flags]: [u8; 2]) -> Option<usize> {
    // Version 0, type data, with a body.
    let (is_data, has_no_body, is_qos) = (kind & 0x0f == 0x08, kind & 0x40 != 0, kind & 0x80 != 0);
    let is_encrypted = flags & 0x40 != 0;
    if !is_data || has_no_body || is_encrypted {
        return None;
    }
    let mut len = BASE_LEN;
    if flags & 0x03 == 0x03 {
        len += ADDRESS4_LEN;
    }
    if is_qos {
        let control = u16_at(bytes, offset + len)?;
        // A-MSDU present: bit 7 of the first byte.
        if control & 0x8000 != 0 {
            return None;
        }
        len += QOS_LEN + if flags & 0x80 != 0 { HT_CONTROL_LEN } else { 0 };
    }
    (chunk(bytes, offset + len)? == &SNAP).then_some(len + SNAP.len() + 2)
}
