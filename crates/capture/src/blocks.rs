//! Blocks of a pcapng section, each appended whole to a vector: `Writer` and stores make theirs here.
//! # Source
//! draft-ietf-opsawg-pcapng, sections 3.5 (options) and 4.1 to 4.6.

use std::io;

use super::bytes::ByteOrder;
use super::pcapng::{self, padded};
use super::{Interface, InterfaceId, Packet};

/// Section header option: the program that wrote the section.
const SHB_USERAPPL: u16 = 4;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

/// Bytes of the options of a packet that has flags and a drop count.
const PACKET_OPTIONS_LEN: usize = 8 + 12 + 4;

/// The way of a packet through its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// The counts of an interface, from the beginning of the section on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InterfaceStatistics {
    /// Nanoseconds since the Unix epoch.
    pub start_ns: u64,
    pub end_ns: u64,
    /// Packets that the interface received, and packets that it lost before they came; `None` where that is not known.
    pub received: Option<u64>,
    pub missed: Option<u64>,
    /// Packets that the filter accepted.
    pub accepted: u64,
    /// Packets of those that were lost on their way.
    pub dropped: u64,
    /// Packets of those that are in the section.
    pub delivered: u64,
}

pub(super) fn put_option(out: &mut Vec<u8>, order: ByteOrder, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&order.put_u16(code));
    out.extend_from_slice(&order.put_u16(value.len() as u16));
    out.extend_from_slice(value);
    out.resize(out.len() + padded(value.len()) - value.len(), 0);
}

pub(super) fn end_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Appends a block of this type, whose body `fill` appends.
fn block(out: &mut Vec<u8>, order: ByteOrder, block_type: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&order.put_u32(block_type));
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = order.put_u32((out.len() - start + 4) as u32);
    out[start + 4..start + 8].copy_from_slice(&len);
    out.extend_from_slice(&len);
}

/// Appends the header of a section of unknown length, with what there is to say of the section.
pub fn section(out: &mut Vec<u8>, order: ByteOrder, comments: &[&str]) {
    block(out, order, pcapng::SECTION_HEADER, |out| {
        out.extend_from_slice(&order.put_u32(pcapng::BYTE_ORDER_MARK));
        out.extend_from_slice(&order.put_u16(1));
        out.extend_from_slice(&order.put_u16(0));
        out.extend_from_slice(&[0xff; 8]);
        for comment in comments {
            put_option(out, order, pcapng::OPT_COMMENT, comment.as_bytes());
        }
        put_option(out, order, SHB_USERAPPL, concat!("tapline ", env!("CARGO_PKG_VERSION")).as_bytes());
        end_options(out);
    });
}

/// Appends the description of an interface whose packets have nanosecond times.
///
/// # Errors
/// The link type does not fit.
pub fn interface(out: &mut Vec<u8>, order: ByteOrder, interface: &Interface) -> io::Result<()> {
    let link_type = u16::try_from(interface.link_type.0)
        .map_err(|_| invalid("the link type does not fit pcapng's 16 bits"))?;
    block(out, order, pcapng::INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&order.put_u16(link_type));
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&order.put_u32(interface.snaplen));
        if let Some(name) = &interface.name {
            put_option(out, order, pcapng::IF_NAME, name.as_bytes());
        }
        if let Some(description) = &interface.description {
            put_option(out, order, pcapng::IF_DESCRIPTION, description.as_bytes());
        }
        put_option(out, order, pcapng::IF_TSRESOL, &[9]);
        if let Some(filter) = &interface.filter {
            let text = [&[pcapng::LIBPCAP_FILTER], filter.as_bytes()].concat();
            put_option(out, order, pcapng::IF_FILTER, &text);
        }
        end_options(out);
    });
    Ok(())
}

/// Gives the fixed part of an enhanced packet block of `len` bytes, of which `captured_len` are the packet's.
pub(super) fn packet_header(
    order: ByteOrder,
    packet: &Packet<'_>,
    captured_len: u32,
    len: u32,
) -> [u8; pcapng::PACKET_DATA_AT] {
    let mut header = [0; pcapng::PACKET_DATA_AT];
    let fields = [
        pcapng::ENHANCED_PACKET,
        len,
        packet.interface.0,
        (packet.time_ns >> 32) as u32,
        packet.time_ns as u32,
        captured_len,
        packet.original_len,
    ];
    for (place, field) in header.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&order.put_u32(field));
    }
    header
}

/// Returns the most bytes that the block of a packet of `captured_len` bytes without comments takes.
pub fn packet_len(captured_len: usize) -> usize {
    pcapng::PACKET_DATA_AT + padded(captured_len) + PACKET_OPTIONS_LEN + 4
}

/// Appends a packet without its comments, which `lost` packets of its interface should have come before, behind the packet of that
/// interface before it. The packet's bytes are as many as its interface's link type has at the most.
#[inline]
pub fn packet(
    out: &mut Vec<u8>,
    order: ByteOrder,
    packet: &Packet<'_>,
    direction: Option<Direction>,
    lost: u64,
) {
    let has_options = direction.is_some() || lost > 0;
    let options_len = match (direction, lost) {
        (None, 0) => 0,
        (direction, lost) => 8 * usize::from(direction.is_some()) + 12 * usize::from(lost > 0) + 4,
    };
    let captured_len = packet.bytes.len();
    let len = (pcapng::PACKET_DATA_AT + padded(captured_len) + options_len + 4) as u32;
    out.extend_from_slice(&packet_header(order, packet, captured_len as u32, len));
    out.extend_from_slice(packet.bytes);
    out.extend_from_slice(&[0; 3][..padded(captured_len) - captured_len]);
    if let Some(direction) = direction {
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        put_option(out, order, EPB_FLAGS, &order.put_u32(flags));
    }
    if lost > 0 {
        put_option(out, order, EPB_DROPCOUNT, &order.put_u64(lost));
    }
    if has_options {
        end_options(out);
    }
    out.extend_from_slice(&order.put_u32(len));
}

/// Appends the counts of an interface.
pub fn statistics(out: &mut Vec<u8>, order: ByteOrder, of: InterfaceId, counts: &InterfaceStatistics) {
    let time = |ns: u64| -> [u8; 8] {
        let mut halves = [0; 8];
        halves[..4].copy_from_slice(&order.put_u32((ns >> 32) as u32));
        halves[4..].copy_from_slice(&order.put_u32(ns as u32));
        halves
    };
    block(out, order, pcapng::INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&order.put_u32(of.0));
        out.extend_from_slice(&time(counts.end_ns));
        put_option(out, order, ISB_STARTTIME, &time(counts.start_ns));
        put_option(out, order, ISB_ENDTIME, &time(counts.end_ns));
        let counts = [
            (ISB_IFRECV, counts.received),
            (ISB_IFDROP, counts.missed),
            (ISB_FILTERACCEPT, Some(counts.accepted)),
            (ISB_OSDROP, Some(counts.dropped)),
            (ISB_USRDELIV, Some(counts.delivered)),
        ];
        for (code, count) in counts {
            if let Some(count) = count {
                put_option(out, order, code, &order.put_u64(count));
            }
        }
        end_options(out);
    });
}

/// Bytes of the longest block that [`statistics`] makes.
pub const STATISTICS_LEN: usize = 12 + 12 + 7 * 12 + 4;

pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
