//! The pcap format: one header, one link type, records of fixed shape.
//! # Source
//! draft-ietf-opsawg-pcap sections 4 and 5; versions before 2.4 and the modified format as libpcap's `sf-pcap.c` reads them.

use super::bytes::ByteOrder;
use super::error::{Error, ErrorKind};
use super::{Interface, LinkType, pcapng::Clock};

pub(super) const HEADER_LEN: usize = 24;
/// Bytes of a record before the packet: seconds, fraction, captured length, original length.
pub(super) const RECORD_HEADER_LEN: usize = 16;
/// The same in the modified format, which adds interface index, protocol and packet type.
const MODIFIED_RECORD_HEADER_LEN: usize = 24;

pub(super) const MAGIC_US: u32 = 0xa1b2_c3d4;
pub(super) const MAGIC_NS: u32 = 0xa1b2_3c4d;
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;

/// Which of a record's two lengths comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LenOrder {
    CapturedFirst,
    /// Before version 2.3.
    OriginalFirst,
    /// Version 2.3 was written both ways: the smaller one is the captured length.
    SmallerIsCaptured,
}

/// A pcap file's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub order: ByteOrder,
    pub is_ns: bool,
    pub record_header_len: usize,
    pub len_order: LenOrder,
    /// Packets are cut to this, as libpcap cuts them.
    pub snaplen: u32,
    pub max_captured_len: u32,
    pub raw: [u8; HEADER_LEN],
}

/// The byte order of a file that begins with these bytes, and the magic number; `None` where it is no pcap file.
pub(super) fn magic(bytes: [u8; 4]) -> Option<(ByteOrder, u32)> {
    [(ByteOrder::Little, u32::from_le_bytes(bytes)), (ByteOrder::Big, u32::from_be_bytes(bytes))]
        .into_iter()
        .find(|(_, magic)| matches!(*magic, MAGIC_US | MAGIC_NS | MAGIC_MODIFIED))
}

impl Header {
    /// Reads the header and the one interface that it describes.
    pub(crate) fn parse(
        raw: [u8; HEADER_LEN],
        order: ByteOrder,
        magic: u32,
    ) -> Result<(Self, Interface), Error> {
        let (major, minor) = (order.u16(&raw, 4), order.u16(&raw, 6));
        let len_order = match (major, minor) {
            (2, 0..=2) | (543, 0) => LenOrder::OriginalFirst,
            (2, 3) => LenOrder::SmallerIsCaptured,
            (2, 4) => LenOrder::CapturedFirst,
            _ => return Err(Error::new(0, ErrorKind::UnsupportedVersion { format: "pcap", major, minor })),
        };
        // The upper six bits tell of a frame check sequence, not of the link.
        let link_type = LinkType(order.u32(&raw, 20) & 0x03ff_ffff);
        let max_captured_len = link_type.max_captured_len();
        let is_modified = magic == MAGIC_MODIFIED;
        let mut snaplen = match order.u32(&raw, 16) {
            0 | 0x8000_0000.. => max_captured_len,
            snaplen => snaplen,
        };
        if is_modified && link_type == LinkType::ETHERNET {
            // Its writers put an Ethernet header before cooked packets without counting it.
            snaplen = snaplen.saturating_add(14);
        }
        let is_ns = magic == MAGIC_NS;
        let clock = if is_ns { Clock::NANOSECONDS } else { Clock::MICROSECONDS };
        let record_header_len = if is_modified { MODIFIED_RECORD_HEADER_LEN } else { RECORD_HEADER_LEN };
        let header = Self { order, is_ns, record_header_len, len_order, snaplen, max_captured_len, raw };
        Ok((header, Interface { link_type, snaplen, name: None, description: None, filter: None, clock }))
    }

    /// The captured and the original length of the record whose header begins `record`.
    #[inline(always)]
    pub(crate) fn lengths(&self, record: &[u8]) -> (u32, u32) {
        let (first, second) = (self.order.u32(record, 8), self.order.u32(record, 12));
        match self.len_order {
            LenOrder::CapturedFirst => (first, second),
            LenOrder::OriginalFirst => (second, first),
            LenOrder::SmallerIsCaptured => (first.min(second), first.max(second)),
        }
    }

    /// The record's time in nanoseconds since the Unix epoch.
    #[inline(always)]
    pub(crate) fn time_ns(&self, record: &[u8]) -> u64 {
        let (seconds, fraction) =
            (u64::from(self.order.u32(record, 0)), u64::from(self.order.u32(record, 4)));
        seconds * 1_000_000_000 + if self.is_ns { fraction } else { fraction * 1000 }
    }

    /// Returns whether this is version 2.4 in its common form, as every program writes it.
    pub(crate) fn is_common(&self) -> bool {
        self.record_header_len == RECORD_HEADER_LEN && self.len_order == LenOrder::CapturedFirst
    }
}
