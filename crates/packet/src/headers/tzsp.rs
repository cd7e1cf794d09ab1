//! TaZmen Sniffer Protocol: frames that access points and MikroTik routers mirror.
//! # Source
//! No standard; as Kismet, Wireshark and RouterOS read and write it.

use super::{chunk, u16_at};

/// Version, type and encapsulated protocol: tagged fields follow.
const FIXED_LEN: usize = 4;
/// The most tagged fields that are stepped over.
const MAX_FIELDS: usize = 16;

const TAG_PADDING: u8 = 0;
const TAG_END: u8 = 1;

/// Encapsulated protocols.
pub const ETHERNET: u16 = 1;
pub const IEEE_80211: u16 = 18;

/// Returns whether a packet that holds a frame seems to begin at `offset`: version 1, received or to be sent.
pub fn is_frame(bytes: &[u8], offset: usize) -> bool {
    matches!(bytes.get(offset..), Some([1, 0 | 1, ..]))
}

/// Gives the protocol of the frame.
pub fn protocol(bytes: &[u8], offset: usize) -> Option<u16> {
    u16_at(bytes, offset + 2)
}

/// Bytes of the header at `offset` with its tagged fields; `None` where it is cut, or has more than sixteen of them.
pub fn header_len(bytes: &[u8], offset: usize) -> Option<usize> {
    let mut len = FIXED_LEN;
    for _ in 0..MAX_FIELDS {
        match *bytes.get(offset + len)? {
            TAG_PADDING => len += 1,
            TAG_END => return Some(len + 1),
            _ => len += 2 + usize::from(chunk::<2>(bytes, offset + len)?[1]),
        }
    }
    None
}
