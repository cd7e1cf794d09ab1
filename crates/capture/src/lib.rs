//! Capture files: pcap and pcapng, read and written with nanosecond times and original lengths.
//!
//! The offline filter, replay ports and capture tools stand on this module; it needs no EAL. [`Reader`] hands out packets in bursts
//! that are borrowed from its buffer, so a packet costs no allocation and no copy; [`Writer`] gathers records into large writes,
//! and carries records over byte for byte where input and output have one format; [`scan`] judges a long file's packets with
//! several threads. What gzip, zstd or lz4 compressed is read as the capture that it was.
//!
//! It is our own and not a crate's because replay puts it in the packet path, because a damaged file must yield everything before
//! the damage and the byte offset of it, and because records are carried over whole (pcap-parser 0.17 and pcap-file 3.0.0-rc.3,
//! both maintained, were looked at: they hand out one parsed record at a time, and pcap-file copies options into vectors).
//! # Source
//! draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng); where they leave room, what libpcap's savefile reader does.
#![warn(clippy::too_many_lines)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

/// Blocks of a pcapng section.
pub mod blocks;
mod bytes;
mod compressed;
mod error;
mod pcap;
mod pcapng;
mod reader;
pub mod scan;
mod source;
mod to_ethernet;
mod writer;

pub use bytes::ByteOrder;
pub use compressed::Compression;
pub use error::{Error, ErrorKind};
pub use reader::{Burst, FileHeader, Reader, Record, compression};
pub use to_ethernet::to_ethernet;
pub use writer::{Packet, Writer};

/// The most bytes of one packet that readers take, but of some link types: libpcap's `MAXIMUM_SNAPLEN`.
const MAX_CAPTURED_LEN: u32 = 262_144;

/// The kind of frame that a packet's bytes begin with, as capture files number it.
/// # Source
/// <https://www.tcpdump.org/linktypes.html>
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u32);

impl LinkType {
    pub const ETHERNET: LinkType = LinkType(1);

    /// The most bytes of one packet that a sane file of this link type holds; a record that says more is damage.
    /// # Source
    /// `MAXIMUM_SNAPLEN` and `max_snaplen_for_dlt` of libpcap.
    pub fn max_captured_len(self) -> u32 {
        match self.0 {
            231 => 128 << 20, // D-Bus messages
            249 => 1 << 20,   // USBPcap
            279 => 8 << 20,   // Elektrobit high-speed capture and replay
            _ => MAX_CAPTURED_LEN,
        }
    }
}

/// A capture file's interface, counted from 0 in the section that describes it (a pcap file has one, 0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct InterfaceId(pub u32);

/// The description of an interface in a capture file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    pub link_type: LinkType,
    /// The most bytes kept of a packet; 0 where there is no limit.
    pub snaplen: u32,
    pub name: Option<String>,
    /// The words that say what its packets are.
    pub description: Option<String>,
    /// The expression of libpcap that chose its packets.
    pub filter: Option<String>,
    pub(crate) clock: pcapng::Clock,
}

impl Interface {
    /// Describes an interface whose times are nanoseconds since the Unix epoch.
    pub fn new(link_type: LinkType, snaplen: u32, name: Option<String>) -> Self {
        Self {
            link_type,
            snaplen,
            name,
            description: None,
            filter: None,
            clock: pcapng::Clock::NANOSECONDS,
        }
    }

    /// Adds the words that say what its packets are, and the expression that chose them.
    pub fn described(self, description: Option<String>, filter: Option<String>) -> Self {
        Self { description, filter, ..self }
    }

    /// Returns whether its times may hold parts of a microsecond.
    pub fn is_finer_than_us(&self) -> bool {
        self.clock.is_finer_than_us()
    }
}

/// The file formats that are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// pcap with microseconds.
    Pcap,
    /// pcap with nanoseconds.
    PcapNs,
    Pcapng,
}
