//! Timestamp formats: the receive time that a copy carries to its tool, as brokers and switches of several makers write it.
//!
//! Stands behind edit and before the transport: a trailer follows the frame, inside the tunnel where there is one; a header stands
//! behind the MAC addresses. The time is that of reception, whatever was done to the copy since. All numbers are big-endian.
//! # Source
//! The layouts as Wireshark's dissectors read them: ixiatrailer, metamako, vssmonitoring, avsp, gmtrailer.

use super::facts::CopyFacts;
use super::transport::Written;
use tapline_api::words::{ClockQuality, TimestampFormat};
use tapline_packet::extent;
use tapline_packet::headers::checksum::Sum;
use tapline_packet::headers::ethernet;
use tapline_packet::layers;

/// The most bytes that `TimestampFormat::write_trailer` writes.
pub const MAX_TRAILER_LEN: usize = 24;
/// Bytes that `Timestamp::write_header` writes: both MAC addresses and the Arista header.
pub const HEADER_LEN: usize = ethernet::ADDRESSES_LEN + ARISTA_LEN;

const IXIA_LEN: usize = 15;
const METAMAKO_LEN: usize = 16;
const VSS_LEN: usize = 9;
const GIGAMON_LEN: usize = 24;
const ARISTA_LEN: usize = 14;

/// The changes that a trailer made to its frame.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trailer {
    /// Bytes of the frame that stay in front of the trailer: padding goes, for its readers do not step over it.
    pub keep_len: usize,
    /// Bytes written to `out`.
    pub len: usize,
}

/// How a tool's copies say when they were received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Timestamp {
    pub format: TimestampFormat,
    /// The number that a Metamako trailer names this device by.
    pub device: u16,
}

impl From<TimestampFormat> for Timestamp {
    fn from(format: TimestampFormat) -> Self {
        Self { format, device: 0 }
    }
}

impl Timestamp {
    /// Bytes that a frame grows by, in front or behind.
    pub fn added_len(self) -> usize {
        match self.format {
            TimestampFormat::None | TimestampFormat::Erspan3 => 0,
            TimestampFormat::Ixia => IXIA_LEN,
            TimestampFormat::Metamako => METAMAKO_LEN,
            TimestampFormat::Vss => VSS_LEN,
            TimestampFormat::Arista => ARISTA_LEN,
            TimestampFormat::Gigamon => GIGAMON_LEN,
        }
    }

    /// Returns whether `write_trailer` writes anything.
    pub fn has_trailer(self) -> bool {
        matches!(
            self.format,
            TimestampFormat::Ixia
                | TimestampFormat::Metamako
                | TimestampFormat::Vss
                | TimestampFormat::Gigamon
        )
    }

    /// Returns whether `write_header` writes anything.
    pub fn has_header(self) -> bool {
        self.format == TimestampFormat::Arista
    }

    /// Writes what stands behind the addresses, with the addresses before it: the frame goes on behind its own.
    /// Nothing for other formats and for frames that are shorter than their header.
    ///
    /// # Panics
    /// If `out` is shorter than `HEADER_LEN`.
    #[inline]
    pub fn write_header(self, facts: &CopyFacts, frame: &[u8], out: &mut [u8]) -> Written {
        let addresses = frame.get(..ethernet::HEADER_LEN).map(|header| &header[..ethernet::ADDRESSES_LEN]);
        let Some(addresses) = addresses.filter(|_| self.has_header()) else {
            return Written { header_bytes: 0, replaced_bytes: 0 };
        };
        const ETHERTYPE: u16 = 0xd28b;
        const SUBTYPE_TIMESTAMP: u16 = 1;
        const VERSION_64_BIT_UTC: u16 = 0x0110;
        out[..12].copy_from_slice(addresses);
        for (place, word) in [(12, ETHERTYPE), (14, SUBTYPE_TIMESTAMP), (16, VERSION_64_BIT_UTC)] {
            out[place..place + 2].copy_from_slice(&word.to_be_bytes());
        }
        put_time(&mut out[18..], facts);
        Written { header_bytes: HEADER_LEN, replaced_bytes: ethernet::ADDRESSES_LEN }
    }

    /// Writes what follows the frame, to `out`. `frame` is the copy in one or more pieces, the headers in the first; `min_len` is
    /// what the wire pads frames to behind the trailer (60 for a local tool, 0 inside a tunnel): as much padding stays in front of
    /// it.
    ///
    /// # Panics
    /// If `out` is shorter than `MAX_TRAILER_LEN`.
    #[inline]
    pub fn write_trailer(
        self,
        facts: &CopyFacts,
        frame: &[&[u8]],
        min_len: usize,
        out: &mut [u8],
    ) -> Trailer {
        let frame_len: usize = frame.iter().map(|piece| piece.len()).sum();
        let len = if self.has_trailer() { self.added_len() } else { 0 };
        let out = &mut out[..len];
        let keep_len = match self.format {
            TimestampFormat::Ixia | TimestampFormat::Vss => {
                let unpadded = unpadded_len(frame.first().copied().unwrap_or_default(), frame_len);
                unpadded.max(frame_len.min(min_len.saturating_sub(len)))
            }
            _ => frame_len,
        };
        match self.format {
            TimestampFormat::Ixia => ixia(facts, out),
            TimestampFormat::Metamako => metamako(facts, self.device, frame, out),
            TimestampFormat::Vss => vss(facts, out),
            TimestampFormat::Gigamon => gigamon(facts, frame_len, out),
            TimestampFormat::None | TimestampFormat::Arista | TimestampFormat::Erspan3 => {}
        }
        Trailer { keep_len, len }
    }
}

#[inline(always)]
fn put_time(out: &mut [u8], facts: &CopyFacts) {
    out[..4].copy_from_slice(&facts.stamp.seconds().to_be_bytes());
    out[4..8].copy_from_slice(&facts.stamp.nanoseconds().to_be_bytes());
}

/// Fields are type, length, content; the trailer ends with its length, a mark and a checksum over all before.
fn ixia(facts: &CopyFacts, out: &mut [u8]) {
    out[0] = match facts.stamp.said_quality() {
        ClockQuality::Free => 3,
        ClockQuality::Ntp => 4,
        ClockQuality::Gps => 5,
        ClockQuality::Ptp => 6,
        ClockQuality::Holdover => 7,
    };
    out[1] = 8;
    put_time(&mut out[2..], facts);
    out[10] = 10;
    out[11..13].copy_from_slice(&[0xaf, 0x12]);
    let checksum = Sum::default().bytes(&out[..13]).checksum();
    out[13..15].copy_from_slice(&checksum.to_be_bytes());
}

fn metamako(facts: &CopyFacts, device: u16, frame: &[&[u8]], out: &mut [u8]) {
    const ORIGINAL_FCS_IS_VALID: u8 = 0x01;
    const IS_DEGRADED: u8 = 0x10;
    let mut flags = 0;
    let mut fcs = 0;
    if !facts.truncated {
        let mut crc = crc32fast::Hasher::new();
        frame.iter().for_each(|piece| crc.update(piece));
        fcs = crc.finalize();
        flags |= ORIGINAL_FCS_IS_VALID;
    }
    if facts.stamp.degraded {
        flags |= IS_DEGRADED;
    }
    // An FCS goes out least significant byte first (IEEE 802.3, 3.2.9).
    out[..4].copy_from_slice(&fcs.to_le_bytes());
    put_time(&mut out[4..], facts);
    out[12] = flags;
    out[13..15].copy_from_slice(&device.to_be_bytes());
    out[15] = facts.port as u8;
}

fn vss(facts: &CopyFacts, out: &mut [u8]) {
    let source = match facts.stamp.said_quality() {
        ClockQuality::Free | ClockQuality::Holdover => 0,
        ClockQuality::Ntp => 1,
        ClockQuality::Gps => 2,
        ClockQuality::Ptp => 3,
    };
    out[..4].copy_from_slice(&facts.stamp.seconds().to_be_bytes());
    out[4..8].copy_from_slice(&(facts.stamp.nanoseconds() | source << 30).to_be_bytes());
    out[8] = facts.port as u8;
}

/// Type, length and content of each field, their length, the ethertype of Gigamon, and a checksum over all that.
fn gigamon(facts: &CopyFacts, frame_len: usize, out: &mut [u8]) {
    const FIELDS_LEN: u8 = 4 + 5 + 10;
    let size = u16::try_from(frame_len).unwrap_or(u16::MAX);
    out[..2].copy_from_slice(&[1, 2]);
    out[2..4].copy_from_slice(&size.to_be_bytes());
    // Of the 24 bits of a port, the last ten number it within its box.
    let [_, high, middle, low] = u32::from(facts.port & 0x3ff).to_be_bytes();
    out[4..9].copy_from_slice(&[2, 3, high, middle, low]);
    out[9] = match facts.stamp.said_quality() {
        ClockQuality::Free | ClockQuality::Holdover => 3,
        ClockQuality::Ntp => 4,
        ClockQuality::Gps => 5,
        ClockQuality::Ptp => 6,
    };
    out[10] = 8;
    put_time(&mut out[11..], facts);
    out[19] = FIELDS_LEN;
    out[20..22].copy_from_slice(&[0x22, 0xe5]);
    let checksum = Sum::default().bytes(&out[..22]).checksum();
    out[22..24].copy_from_slice(&checksum.to_be_bytes());
}

/// Bytes of a frame without what stands behind its packet. `front` holds the headers.
fn unpadded_len(front: &[u8], frame_len: usize) -> usize {
    let end = extent::stated_end(front, &layers::ethernet_stack(front, 0));
    end.map_or(frame_len, |end| end.min(frame_len))
}
