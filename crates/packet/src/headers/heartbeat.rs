//! Heartbeats: frames of Tapline's own that an inline tool forwards, and that tell by their return that it does.
//!
//! Behind the Ethernet header: a mark, the sender's key, the tool and a sequence number, then zeros up to the shortest frame. The
//! key is drawn at random at each start, so that nobody else's frames, nor those of another Tapline, are taken for ours.
//! # Source
//! IEEE Std 802-2014, 9.2.4: the local experimental EtherType.

use super::chunk;
use super::ethernet;
use super::ethernet::{MIN_FRAME_LEN, MacAddress};

/// IEEE 802, Local Experimental EtherType 1.
pub const TYPE: u16 = 0x88b5;

/// The key that tells one run's heartbeats from all other frames.
pub type Key = [u8; 16];

const MARK: [u8; 4] = *b"TLHB";
const MARK_AT: usize = ethernet::HEADER_LEN;
const KEY_AT: usize = MARK_AT + MARK.len();
const TOOL_AT: usize = KEY_AT + 16;
const SEQUENCE_AT: usize = TOOL_AT + 4;

/// The contents of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The tool that it was sent through, by its place in the plan.
    pub tool: u32,
    pub sequence: u64,
}

impl Heartbeat {
    /// The heartbeat that a frame is, if it has this key.
    #[inline]
    pub fn at(frame: &[u8], key: &Key) -> Option<Self> {
        let ethertype: [u8; 2] = *chunk(frame, ethernet::ADDRESSES_LEN)?;
        if ethertype != TYPE.to_be_bytes()
            || *chunk::<4>(frame, MARK_AT)? != MARK
            || chunk::<16>(frame, KEY_AT)? != key
        {
            return None;
        }
        let tool = u32::from_be_bytes(*chunk(frame, TOOL_AT)?);
        Some(Self { tool, sequence: u64::from_be_bytes(*chunk(frame, SEQUENCE_AT)?) })
    }

    /// The frame that says so.
    pub fn frame(&self, key: &Key, destination: MacAddress, source: MacAddress) -> [u8; MIN_FRAME_LEN] {
        let mut out = [0; MIN_FRAME_LEN];
        ethernet::write(&mut out, destination, source, TYPE);
        out[MARK_AT..KEY_AT].copy_from_slice(&MARK);
        out[KEY_AT..TOOL_AT].copy_from_slice(key);
        out[TOOL_AT..SEQUENCE_AT].copy_from_slice(&self.tool.to_be_bytes());
        out[SEQUENCE_AT..SEQUENCE_AT + 8].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    proptest! {
        #[test]
        fn a_heartbeat_is_read_back_with_its_key_alone(tool: u32, sequence: u64, key: Key, other: Key, cut in 0usize..60) {
            let heartbeat = Heartbeat { tool, sequence };
            let frame = heartbeat.frame(&key, MacAddress::BROADCAST, HOST);
            prop_assert_eq!(Heartbeat::at(&frame, &key), Some(heartbeat));
            prop_assert_eq!(Heartbeat::at(&frame, &other), (other == key).then_some(heartbeat));
            // what follows the sequence number is padding
            prop_assert_eq!(Heartbeat::at(&frame[..cut], &key), (cut >= SEQUENCE_AT + 8).then_some(heartbeat));
        }

        #[test]
        fn any_bytes_are_taken_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Heartbeat::at(&bytes, &[7; 16]), None);
        }
    }
}
