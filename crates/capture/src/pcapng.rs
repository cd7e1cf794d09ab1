//! The pcapng format: sections of blocks, of which some hold packets.
//! # Source
//! draft-ietf-opsawg-pcapng, sections 3 and 4.

use std::borrow::Cow;

use super::bytes::ByteOrder;
use super::error::{Error, ErrorKind};
use super::{Interface, LinkType};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, but found in files of before 2012.
pub(super) const PACKET: u32 = 2;
pub(super) const SIMPLE_PACKET: u32 = 3;
pub(super) const INTERFACE_STATISTICS: u32 = 5;
pub(super) const ENHANCED_PACKET: u32 = 6;

pub(super) const BYTE_ORDER_MARK: u32 = 0x1a2b_3c4d;
/// The offset of the section's length in a section header: eight bytes, all ones if it is not known.
pub(super) const SECTION_LEN_AT: usize = 16;
/// Block type, block length, and the length again at the end.
pub(super) const BLOCK_OVERHEAD: usize = 12;
pub(super) const SECTION_HEADER_MIN: usize = 28;
/// The offset of packet bytes in an enhanced (and an obsolete) packet block.
pub(super) const PACKET_DATA_AT: usize = 28;
pub(super) const SIMPLE_PACKET_DATA_AT: usize = 12;

pub(super) const OPT_END: u16 = 0;
pub(super) const OPT_COMMENT: u16 = 1;
pub(super) const IF_NAME: u16 = 2;
pub(super) const IF_DESCRIPTION: u16 = 3;
pub(super) const IF_TSRESOL: u16 = 9;
pub(super) const IF_FILTER: u16 = 11;
/// The first byte of a filter that is an expression of libpcap.
pub(super) const LIBPCAP_FILTER: u8 = 0;
pub(super) const IF_TSOFFSET: u16 = 14;

/// The largest block that is read, but for link types with larger packets: libpcap's limit.
const MAX_BLOCK_LEN: u32 = 16 << 20;
/// Room for options beside the largest packet: libpcap's figure.
const MAX_OPTIONS_LEN: u32 = 131_072;
/// More in one section than any capture has; bounds what a damaged file makes us keep.
pub(super) const MAX_INTERFACES: usize = 65_536;

pub(super) fn max_block_len(link_type: LinkType) -> u32 {
    MAX_BLOCK_LEN.max(link_type.max_captured_len() + MAX_OPTIONS_LEN)
}

/// `len` with the padding to the next multiple of four.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// How an interface's clock counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Clock {
    resolution: Resolution,
    /// Seconds to add.
    offset_s: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resolution {
    /// A tick is this many nanoseconds.
    NsPerTick(u64),
    /// A nanosecond is this many ticks.
    TicksPerNs(u64),
    /// A second is 2 to this power ticks.
    Binary(u32),
}

impl Clock {
    pub(crate) const NANOSECONDS: Clock = Clock { resolution: Resolution::NsPerTick(1), offset_s: 0 };
    pub(crate) const MICROSECONDS: Clock = Clock { resolution: Resolution::NsPerTick(1000), offset_s: 0 };

    pub(crate) fn is_finer_than_us(self) -> bool {
        match self.resolution {
            Resolution::NsPerTick(ns) => ns < 1000,
            Resolution::TicksPerNs(_) | Resolution::Binary(_) => true,
        }
    }

    /// Nanoseconds since the Unix epoch, held to what 64 bits can say (to the year 2554).
    #[inline(always)]
    pub(crate) fn time_ns(self, ticks: u64) -> u64 {
        let ns = match self.resolution {
            Resolution::NsPerTick(1) => ticks,
            Resolution::NsPerTick(ns) => ticks.saturating_mul(ns),
            Resolution::TicksPerNs(count) => ticks / count,
            Resolution::Binary(power) => {
                u64::try_from((u128::from(ticks) * 1_000_000_000) >> power).unwrap_or(u64::MAX)
            }
        };
        if self.offset_s == 0 {
            return ns;
        }
        let ns = i128::from(ns) + i128::from(self.offset_s) * 1_000_000_000;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }

    fn with_resolution(self, value: u8) -> Option<Clock> {
        let power = u32::from(value & 0x7f);
        let resolution = match (value & 0x80 != 0, power) {
            (true, 0..=63) => Resolution::Binary(power),
            (false, 0..=9) => Resolution::NsPerTick(10u64.pow(9 - power)),
            (false, 10..=19) => Resolution::TicksPerNs(10u64.pow(power - 9)),
            _ => return None,
        };
        Some(Clock { resolution, ..self })
    }
}

/// The options of a block, in order; ends at `opt_endofopt`, the end of the bytes, or an option that runs past them.
pub(super) struct Options<'a> {
    pub bytes: &'a [u8],
    pub order: ByteOrder,
    /// Set where an option ran past the end.
    pub is_damaged: bool,
}

impl<'a> Options<'a> {
    pub(crate) fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self { bytes, order, is_damaged: false }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let option = self.bytes.split_at_checked(4).and_then(|(head, rest)| {
            let (code, len) = (self.order.u16(head, 0), usize::from(self.order.u16(head, 2)));
            Some((code, rest.get(..len)?, rest.get(padded(len)..)?))
        });
        let Some((code, value, rest)) = option else {
            self.is_damaged = true;
            self.bytes = &[];
            return None;
        };
        self.bytes = if code == OPT_END { &[] } else { rest };
        (code != OPT_END).then_some((code, value))
    }
}

/// The comments among a packet block's options.
pub(super) fn comments(options: &[u8], order: ByteOrder) -> impl Iterator<Item = Cow<'_, str>> {
    Options::new(options, order)
        .filter(|(code, _)| *code == OPT_COMMENT)
        .map(|(_, value)| String::from_utf8_lossy(value))
}

/// Reads an interface description from its whole block, which begins at `offset` of the file.
pub(super) fn interface(block: &[u8], order: ByteOrder, offset: u64) -> Result<Interface, Error> {
    let damaged = |what| Error::new(offset, ErrorKind::InterfaceOptions(what));
    let body = &block[8..block.len() - 4];
    if body.len() < 8 {
        return Err(damaged("the block is too short"));
    }
    let mut interface = Interface {
        link_type: LinkType(u32::from(order.u16(body, 0))),
        snaplen: order.u32(body, 4),
        name: None,
        description: None,
        filter: None,
        clock: Clock::MICROSECONDS,
    };
    let mut options = Options::new(&body[8..], order);
    for (code, value) in options.by_ref() {
        match code {
            IF_NAME => interface.name = Some(String::from_utf8_lossy(value).into_owned()),
            IF_DESCRIPTION => interface.description = Some(String::from_utf8_lossy(value).into_owned()),
            IF_FILTER => {
                if let [LIBPCAP_FILTER, text @ ..] = value {
                    interface.filter = Some(String::from_utf8_lossy(text).into_owned());
                }
            }
            IF_TSRESOL => {
                let [resolution] = value else { return Err(damaged("if_tsresol does not have 1 byte")) };
                interface.clock = interface
                    .clock
                    .with_resolution(*resolution)
                    .ok_or_else(|| damaged("if_tsresol is out of range"))?;
            }
            IF_TSOFFSET => {
                let Ok(offset) = <[u8; 8]>::try_from(value) else {
                    return Err(damaged("if_tsoffset does not have 8 bytes"));
                };
                interface.clock.offset_s = match order {
                    ByteOrder::Little => i64::from_le_bytes(offset),
                    ByteOrder::Big => i64::from_be_bytes(offset),
                };
            }
            _ => {}
        }
    }
    if options.is_damaged {
        return Err(damaged("an option runs past the block"));
    }
    Ok(interface)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock(resolution: u8) -> Clock {
        Clock::MICROSECONDS.with_resolution(resolution).expect("a resolution in range")
    }

    #[test]
    fn ticks_become_nanoseconds_in_every_resolution() {
        assert_eq!(clock(0).time_ns(7), 7_000_000_000);
        assert_eq!(clock(6).time_ns(1_700_000_000_123_456), 1_700_000_000_123_456_000);
        assert_eq!(clock(9).time_ns(1_700_000_000_123_456_789), 1_700_000_000_123_456_789);
        assert_eq!(clock(12).time_ns(1_234_567), 1234);
        assert_eq!(clock(0x80 | 1).time_ns(3), 1_500_000_000);
        assert_eq!(clock(0x80 | 63).time_ns(u64::MAX), 1_999_999_999);
        assert_eq!(Clock { offset_s: 1_700_000_000, ..clock(9) }.time_ns(5), 1_700_000_000_000_000_005);
        assert_eq!(Clock { offset_s: i64::MIN, ..clock(9) }.time_ns(5), 0);
        assert_eq!(Clock { offset_s: i64::MAX, ..clock(0) }.time_ns(u64::MAX), u64::MAX);
        assert_eq!(clock(0).time_ns(u64::MAX), u64::MAX);
        for out_of_range in [20, 0x7f, 0x80 | 64, 0xff] {
            assert_eq!(Clock::MICROSECONDS.with_resolution(out_of_range), None);
        }
    }

    proptest! {
        #[test]
        fn decimal_and_binary_ticks_are_cut_to_whole_nanoseconds(ticks in any::<u64>(), power in 0u32..20, is_binary in any::<bool>()) {
            let (resolution, per_second) =
                if is_binary { (0x80 | power as u8, 1u128 << power) } else { (power as u8, 10u128.pow(power)) };
            let expected = u64::try_from(u128::from(ticks) * 1_000_000_000 / per_second).unwrap_or(u64::MAX);
            prop_assert_eq!(clock(resolution).time_ns(ticks), expected);
        }
    }

    #[test]
    fn damaged_interface_options_are_told_with_their_place() {
        // Block type 1, length, link type 1, snaplen 0, options, length again.
        let block = |options: &[u8]| {
            let len = (20 + options.len() as u32).to_le_bytes();
            [&1u32.to_le_bytes()[..], &len, &[1, 0, 0, 0, 0, 0, 0, 0], options, &len].concat()
        };
        let read = |options: &[u8]| interface(&block(options), ByteOrder::Little, 28);
        assert_eq!(read(&[]).expect("no options").clock, Clock::MICROSECONDS);
        assert_eq!(read(&[9, 0, 1, 0, 9, 0, 0, 0]).expect("if_tsresol 9").clock, Clock::NANOSECONDS);
        assert_eq!(
            read(&[2, 0, 2, 0, b'a', b'b', 0, 0, 0, 0, 0, 0]).expect("if_name").name.as_deref(),
            Some("ab")
        );
        for (options, what) in [
            (&[9, 0, 2, 0, 9, 9, 0, 0][..], "if_tsresol does not have 1 byte"),
            (&[9, 0, 1, 0, 20, 0, 0, 0], "if_tsresol is out of range"),
            (&[14, 0, 4, 0, 0, 0, 0, 0], "if_tsoffset does not have 8 bytes"),
            (&[2, 0, 9, 0, b'a', b'b', 0, 0], "an option runs past the block"),
        ] {
            let error = read(options).expect_err(what);
            assert_eq!(
                error.to_string(),
                format!("at byte 28: the interface's options are damaged: {what}")
            );
        }
    }
}
