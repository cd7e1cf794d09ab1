//! Capture file -> bursts of packets that are borrowed from the buffer they were read into.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::bytes::ByteOrder;
use super::compressed::Compression;
use super::error::{Error, ErrorKind};
use super::pcapng;
use super::source::{Input, Part};
use super::{Format, Interface, InterfaceId, LinkType, pcap};
use tapline_packet::burst::MAX_BURST;
use tapline_packet::frame::Frame;

/// Reads a pcap or pcapng file, of either byte order, packet by packet or in bursts; also what gzip, zstd or lz4 compressed.
///
/// Memory stays at a few hundred kilobytes, or the largest block of the file (at most 16 MiB for Ethernet), besides what its
/// [`Compression`] takes.
pub struct Reader {
    input: Input,
    layout: Layout,
    /// Those of the current section.
    interfaces: Vec<Interface>,
    entries: Vec<Entry>,
    /// Bytes of the last burst, to be consumed before the next.
    span_len: usize,
    begins_section: bool,
    has_cut: bool,
    /// Found behind the packets of a burst, told in place of the next one.
    pending: Option<Error>,
    /// Bytes that must be available before the next record can be read.
    needed: usize,
    is_ended: bool,
}

/// How the file's records are laid out.
enum Layout {
    Pcap(Box<pcap::Header>),
    Pcapng { order: ByteOrder, max_block_len: u32 },
}

/// The format of a file that is read, and the header of a pcap file.
#[derive(Clone, Debug)]
pub struct FileHeader(Option<Box<pcap::Header>>);

impl FileHeader {
    pub fn format(&self) -> Format {
        match &self.0 {
            Some(header) if header.is_ns => Format::PcapNs,
            Some(_) => Format::Pcap,
            None => Format::Pcapng,
        }
    }

    /// Returns whether [`super::Writer::carry`] can keep the file's records as they are: in pcapng and all but old or modified pcap
    /// files.
    pub fn is_carried(&self) -> bool {
        self.0.as_ref().is_none_or(|header| header.is_common())
    }

    /// The bytes of a pcap file's header and their order.
    pub(super) fn pcap(&self) -> Option<&pcap::Header> {
        self.0.as_deref()
    }
}

/// The kind of a record, by which its options are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pcap,
    Simple,
    /// Enhanced or obsolete packet block: both have the packet at the same place.
    WithOptions,
}

/// A packet in the buffer: places are counted from the start of the burst.
#[derive(Clone, Copy)]
struct Entry {
    time_ns: u64,
    record_at: u32,
    record_len: u32,
    packet_at: u32,
    captured_len: u32,
    original_len: u32,
    interface: u32,
    kind: Kind,
}

impl Entry {
    /// The packet in its burst's span.
    #[inline(always)]
    fn bytes<'a>(&self, span: &'a [u8]) -> &'a [u8] {
        &span[self.packet_at as usize..][..self.captured_len as usize]
    }
}

/// One packet of a capture file.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Nanoseconds since the Unix epoch; 0 where the file has no time for the packet (pcapng simple packet block).
    pub time_ns: u64,
    /// The bytes that were captured, from the first byte of the link-layer header on.
    pub bytes: &'a [u8],
    /// Bytes that the packet had on the wire.
    pub original_len: u32,
    pub interface: InterfaceId,
    kind: Kind,
    order: ByteOrder,
    raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// The packet as filters see it.
    pub fn frame(&self) -> Frame<'a> {
        Frame::new(self.bytes, self.original_len)
    }

    /// The whole record or block as the file has it, lengths, options and padding included.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The comments that the file has for this packet, in order.
    pub fn comments(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        let options = match self.kind {
            Kind::Pcap | Kind::Simple => &[],
            Kind::WithOptions => {
                let options_at = pcapng::PACKET_DATA_AT + pcapng::padded(self.bytes.len());
                self.raw.get(options_at..self.raw.len() - 4).unwrap_or_default()
            }
        };
        pcapng::comments(options, self.order)
    }
}

/// Up to 64 packets of a capture file, and the blocks between them; borrowed from the reader.
#[derive(Clone, Copy)]
pub struct Burst<'a> {
    entries: &'a [Entry],
    /// From the end of the burst before to the end of this one, without a gap.
    span: &'a [u8],
    order: ByteOrder,
    interfaces: &'a [Interface],
    begins_section: bool,
    has_cut: bool,
}

impl<'a> Burst<'a> {
    /// Packets; 0 where there are only other blocks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The interfaces of the packets' section, by their id.
    pub fn interfaces(&self) -> &'a [Interface] {
        self.interfaces
    }

    /// Packet `index`.
    /// # Panics
    /// If there are not so many.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Record<'a> {
        let entry = &self.entries[index];
        let raw = &self.span[entry.record_at as usize..][..entry.record_len as usize];
        Record {
            time_ns: entry.time_ns,
            bytes: entry.bytes(self.span),
            original_len: entry.original_len,
            interface: InterfaceId(entry.interface),
            kind: entry.kind,
            order: self.order,
            raw,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let burst = *self;
        (0..burst.len()).map(move |index| burst.get(index))
    }

    /// Views the packets as frames: fills the first `len()` of `frames` and returns them.
    pub fn frames<'f>(&self, frames: &'f mut [Frame<'a>; MAX_BURST]) -> &'f [Frame<'a>] {
        for (frame, entry) in frames.iter_mut().zip(self.entries) {
            *frame = Frame::new(entry.bytes(self.span), entry.original_len);
        }
        &frames[..self.len()]
    }

    /// The packets from `range.start` to `range.end`, each as its time and its frame, without what else a record has.
    /// # Panics
    /// If there are not so many.
    #[inline(always)]
    pub fn timed_frames(&self, range: Range<usize>) -> impl Iterator<Item = (u64, Frame<'a>)> + use<'a> {
        let span = self.span;
        let timed = move |entry: &Entry| (entry.time_ns, Frame::new(entry.bytes(span), entry.original_len));
        self.entries[range].iter().map(timed)
    }

    /// The time of packet `index`, as [`Record::time_ns`].
    #[inline(always)]
    pub fn time_ns(&self, index: usize) -> u64 {
        self.entries[index].time_ns
    }

    /// The interface of packet `index`.
    #[inline(always)]
    pub fn interface(&self, index: usize) -> InterfaceId {
        InterfaceId(self.entries[index].interface)
    }

    /// All bytes of the file from the end of the burst before to the end of this one: packets and, in pcapng, other blocks.
    pub fn span(&self) -> &'a [u8] {
        self.span
    }

    /// Gives the bytes of the span that packet `index`'s record takes.
    pub fn record_range(&self, index: usize) -> Range<usize> {
        let entry = &self.entries[index];
        entry.record_at as usize..entry.record_at as usize + entry.record_len as usize
    }

    /// Returns whether the span begins with a pcapng section header.
    pub fn begins_section(&self) -> bool {
        self.begins_section
    }

    /// Returns whether a packet of the burst is longer than its file says packets are: such packets are delivered cut, as libpcap
    /// does, and their records hold more than the packet.
    pub fn has_cut(&self) -> bool {
        self.has_cut
    }

    /// The byte order of the section.
    pub fn byte_order(&self) -> ByteOrder {
        self.order
    }
}

/// The packets of a part of a file, for whoever read it.
#[derive(Default)]
pub(super) struct ReadPart {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    entries: Vec<Entry>,
    /// As they were at the begin of the part, and wherever they changed.
    interfaces: Vec<Vec<Interface>>,
    /// The damage behind the last packet.
    pub damage: Option<Error>,
    /// There are no more packets in the file.
    pub is_last: bool,
}

/// A burst by its places in a part.
struct Span {
    bytes: Range<usize>,
    entries: Range<usize>,
    interfaces: usize,
    order: ByteOrder,
    begins_section: bool,
    has_cut: bool,
}

impl ReadPart {
    /// The bursts, in order.
    pub(crate) fn bursts(&self) -> impl Iterator<Item = Burst<'_>> {
        self.spans.iter().map(|span| Burst {
            entries: &self.entries[span.entries.clone()],
            span: &self.bytes[span.bytes.clone()],
            order: span.order,
            interfaces: &self.interfaces[span.interfaces],
            begins_section: span.begins_section,
            has_cut: span.has_cut,
        })
    }

    /// The buffer, for another part.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Reader {
    /// Opens `path`, or standard input where it is `-`.
    /// # Errors
    /// The file cannot be opened or read, or is neither pcap nor pcapng.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::from_stream(if path == Path::new("-") {
            Box::new(io::stdin()) as Box<dyn Read + Send>
        } else {
            Box::new(File::open(path).map_err(|error| Error::new(0, ErrorKind::Io(error)))?)
        })
    }

    /// Reads a capture from a stream.
    pub fn from_stream(stream: Box<dyn Read + Send>) -> Result<Self, Error> {
        Self::from_input(Input::stream(stream), false)
    }

    /// Reads a capture from a stream, with a second thread that decompresses where it is compressed.
    pub fn decompressing(stream: Box<dyn Read + Send>) -> Result<Self, Error> {
        Self::from_input(Input::stream(stream), true)
    }

    /// Reads a capture from a regular file, from its beginning, with a second thread that reads ahead, and decompresses: worth it where
    /// the reader is kept busy and a second core is free.
    pub fn read_ahead(file: File) -> Result<Self, Error> {
        let failed = |error| Error::new(0, ErrorKind::Io(error));
        if compression(&file).map_err(failed)?.is_some() {
            return Self::decompressing(Box::new(file));
        }
        Self::from_input(Input::read_ahead(file).map_err(failed)?, true)
    }

    /// Begins a capture whose first part is this.
    pub(super) fn of_parts(first: Part) -> Result<Self, Error> {
        Self::from_input(Input::of_parts(first), false)
    }

    /// Finds the packets of the part in hand, and of the next one if it is given. `spare` is a part that is done with.
    pub(super) fn read_part(&mut self, next: Option<Part>, mut spare: ReadPart) -> ReadPart {
        if let Some(next) = next {
            self.input.attach(next);
        }
        spare.entries.clear();
        spare.spans.clear();
        spare.interfaces.clear();
        spare.interfaces.push(self.interfaces.clone());
        std::mem::swap(&mut self.entries, &mut spare.entries);
        spare.damage = loop {
            let first = self.entries.len();
            match self.find(first, MAX_BURST) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(damage) => break Some(damage),
            }
            if self.begins_section
                || spare.interfaces.last().is_none_or(|known| known.len() != self.interfaces.len())
            {
                spare.interfaces.push(self.interfaces.clone());
            }
            let start = self.input.start();
            spare.spans.push(Span {
                bytes: start..start + self.span_len,
                entries: first..self.entries.len(),
                interfaces: spare.interfaces.len() - 1,
                order: self.byte_order(),
                begins_section: self.begins_section,
                has_cut: self.has_cut,
            });
        };
        std::mem::swap(&mut self.entries, &mut spare.entries);
        spare.is_last = self.is_ended;
        spare.bytes = self.input.detach();
        spare
    }

    fn from_input(mut input: Input, decompresses_ahead: bool) -> Result<Self, Error> {
        let of_read = |input: &Input, error| {
            Error::of_read(input.taken().unwrap_or_default(), error, input.compression())
        };
        input.fill(4).map_err(|error| of_read(&input, error))?;
        let Some(compression) = input.available().first_chunk().copied().and_then(Compression::of) else {
            return Self::begin(input);
        };
        input.decompress(compression, decompresses_ahead).map_err(|error| of_read(&input, error))?;
        input.fill(4).map_err(|error| of_read(&input, error))?;
        Self::begin(input).map_err(Error::of_decompressed)
    }

    /// Reads the file's header, of which the first four bytes are there.
    fn begin(input: Input) -> Result<Self, Error> {
        let Some(&first) = input.available().first_chunk::<4>() else {
            let kind = match input.available().len() {
                0 => ErrorKind::Empty,
                available => {
                    ErrorKind::Truncated { what: "file header", needed: 4, available: available as u64 }
                }
            };
            return Err(Error::new(0, kind));
        };
        let mut reader = Self {
            input,
            layout: Layout::Pcapng {
                order: ByteOrder::NATIVE,
                max_block_len: pcapng::max_block_len(LinkType::ETHERNET),
            },
            interfaces: Vec::new(),
            entries: Vec::with_capacity(MAX_BURST),
            span_len: 0,
            begins_section: false,
            has_cut: false,
            pending: None,
            needed: 0,
            is_ended: false,
        };
        if let Some((order, magic)) = pcap::magic(first) {
            reader.fill(pcap::HEADER_LEN)?;
            let Some(&raw) = reader.input.available().first_chunk() else {
                return Err(reader.truncated("file header", pcap::HEADER_LEN));
            };
            let (header, interface) = pcap::Header::parse(raw, order, magic)?;
            reader.input.consume(pcap::HEADER_LEN);
            reader.layout = Layout::Pcap(Box::new(header));
            reader.interfaces.push(interface);
        } else if u32::from_be_bytes(first) != pcapng::SECTION_HEADER {
            return Err(Error::new(0, ErrorKind::UnknownFormat(first)));
        }
        Ok(reader)
    }

    /// Gives the contents of the file's header, for writing a file that continues it.
    pub fn header(&self) -> FileHeader {
        FileHeader(match &self.layout {
            Layout::Pcap(header) => Some(header.clone()),
            Layout::Pcapng { .. } => None,
        })
    }

    /// The byte order of the file, in pcapng of the current section.
    pub fn byte_order(&self) -> ByteOrder {
        match &self.layout {
            Layout::Pcap(header) => header.order,
            Layout::Pcapng { order, .. } => *order,
        }
    }

    /// The interfaces described so far in the current section.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Bytes of the file that the bursts so far have covered; of a compressed file those that were taken for them, and more.
    pub fn offset(&self) -> u64 {
        self.input.taken().unwrap_or_else(|| self.input.offset() + self.span_len as u64)
    }

    /// Returns whether the next burst needs bytes that were not read yet, so that asking for it may wait.
    pub fn is_starved(&self) -> bool {
        self.needed != 0
    }

    /// The next packet; `None` at the end of the file.
    /// # Errors
    /// The file is damaged or cannot be read; all packets before that place have been delivered. Afterwards the file counts as
    /// ended.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Error> {
        loop {
            if !self.find(0, 1)? {
                return Ok(None);
            }
            if !self.entries.is_empty() {
                return Ok(Some(self.burst().get(0)));
            }
        }
    }

    /// The next packets, as many as were read already but at least one packet or other block; `None` at the end of the file.
    /// # Errors
    /// As `next_record`.
    pub fn next_burst(&mut self) -> Result<Option<Burst<'_>>, Error> {
        Ok(self.find(0, MAX_BURST)?.then(|| self.burst()))
    }

    /// The burst that `next_burst` gave last; empty before the first and behind the last one.
    pub fn burst(&self) -> Burst<'_> {
        Burst {
            entries: &self.entries,
            span: &self.input.available()[..self.span_len],
            order: self.byte_order(),
            interfaces: &self.interfaces,
            begins_section: self.begins_section,
            has_cut: self.has_cut,
        }
    }

    /// As `parse`, and says of damage whether its place is one of what was compressed.
    #[inline(always)]
    fn find(&mut self, kept: usize, max: usize) -> Result<bool, Error> {
        self.parse(kept, max).map_err(|error| match self.input.compression() {
            Some(_) => error.of_decompressed(),
            None => error,
        })
    }

    /// Finds the next packets, up to `max`, or other blocks, and keeps the first `kept` of those found before. Returns whether
    /// there are any.
    fn parse(&mut self, kept: usize, max: usize) -> Result<bool, Error> {
        self.input.consume(self.span_len);
        self.span_len = 0;
        self.entries.truncate(kept);
        self.begins_section = false;
        self.has_cut = false;
        if let Some(error) = self.pending.take() {
            self.is_ended = true;
            return Err(error);
        }
        if self.is_ended {
            return Ok(false);
        }
        loop {
            if self.needed > 0 {
                let needed = std::mem::take(&mut self.needed);
                self.fill(needed)?;
                if self.input.available().len() < needed && !self.input.is_at_end() {
                    // the rest of the record is in the next part
                    self.needed = needed;
                    return Ok(false);
                }
                if self.input.available().is_empty() {
                    self.is_ended = true;
                    return Ok(false);
                }
                if self.input.available().len() < needed {
                    self.is_ended = true;
                    return Err(self.truncated_record(needed));
                }
            }
            let result = match &self.layout {
                Layout::Pcap(_) => self.parse_pcap(kept + max),
                Layout::Pcapng { .. } => self.parse_pcapng(kept + max),
            };
            match result {
                Err(error) if self.span_len == 0 => {
                    self.is_ended = true;
                    return Err(error);
                }
                Err(error) => self.pending = Some(error),
                Ok(()) => {}
            }
            if self.span_len > 0 {
                return Ok(true);
            }
        }
    }

    #[inline(never)]
    fn parse_pcap(&mut self, max: usize) -> Result<(), Error> {
        let Layout::Pcap(header) = &self.layout else { return Ok(()) };
        let header = **header;
        let available = self.input.available();
        self.entries.reserve(max.saturating_sub(self.entries.len()));
        let mut has_cut = self.has_cut;
        let mut at = 0;
        while self.entries.len() < max {
            let Some(record) = available.get(at..at + header.record_header_len) else {
                self.needed = header.record_header_len;
                break;
            };
            let (captured_len, original_len) = header.lengths(record);
            if captured_len > header.max_captured_len {
                (self.span_len, self.has_cut) = (at, has_cut);
                let kind = ErrorKind::CapturedLen { captured_len, limit: header.max_captured_len };
                return Err(Error::new(self.input.offset() + at as u64, kind));
            }
            has_cut |= captured_len > header.snaplen;
            let record_len = header.record_header_len + captured_len as usize;
            if available.len() - at < record_len {
                self.needed = record_len;
                break;
            }
            self.entries.push(Entry {
                time_ns: header.time_ns(record),
                record_at: at as u32,
                record_len: record_len as u32,
                packet_at: (at + header.record_header_len) as u32,
                captured_len: captured_len.min(header.snaplen),
                original_len,
                interface: 0,
                kind: Kind::Pcap,
            });
            at += record_len;
        }
        (self.span_len, self.has_cut) = (at, has_cut);
        Ok(())
    }

    fn parse_pcapng(&mut self, max: usize) -> Result<(), Error> {
        while self.entries.len() < max {
            let Layout::Pcapng { order, max_block_len } = self.layout else { break };
            let at = self.span_len;
            let offset = self.input.offset() + at as u64;
            let rest = &self.input.available()[at..];
            if rest.len() < pcapng::BLOCK_OVERHEAD {
                self.needed = pcapng::BLOCK_OVERHEAD;
                break;
            }
            let block_type = order.u32(rest, 0);
            if block_type == pcapng::SECTION_HEADER && at > 0 {
                // A burst belongs to one section.
                break;
            }
            let order =
                if block_type == pcapng::SECTION_HEADER { section_order(rest, offset)? } else { order };
            let len = order.u32(rest, 4);
            let min = if block_type == pcapng::SECTION_HEADER {
                pcapng::SECTION_HEADER_MIN
            } else {
                pcapng::BLOCK_OVERHEAD
            } as u32;
            if len < min || len > max_block_len || len % 4 != 0 {
                return Err(Error::new(
                    offset,
                    ErrorKind::BlockLen { block_type, len, min, max: max_block_len },
                ));
            }
            let Some(block) = rest.get(..len as usize) else {
                self.needed = len as usize;
                break;
            };
            let trailing = order.u32(block, block.len() - 4);
            if trailing != len {
                return Err(Error::new(offset, ErrorKind::BlockLenMismatch { leading: len, trailing }));
            }
            match block_type {
                pcapng::SECTION_HEADER => {
                    let (major, minor) = (order.u16(block, 12), order.u16(block, 14));
                    if major != 1 {
                        return Err(Error::new(
                            offset,
                            ErrorKind::UnsupportedVersion { format: "pcapng", major, minor },
                        ));
                    }
                    self.layout = Layout::Pcapng { order, max_block_len };
                    self.interfaces.clear();
                    self.begins_section = true;
                }
                pcapng::INTERFACE_DESCRIPTION => {
                    if self.interfaces.len() == pcapng::MAX_INTERFACES {
                        return Err(Error::new(
                            offset,
                            ErrorKind::TooManyInterfaces(pcapng::MAX_INTERFACES),
                        ));
                    }
                    let interface = pcapng::interface(block, order, offset)?;
                    let max_block_len = max_block_len.max(pcapng::max_block_len(interface.link_type));
                    self.layout = Layout::Pcapng { order, max_block_len };
                    self.interfaces.push(interface);
                }
                pcapng::ENHANCED_PACKET | pcapng::PACKET | pcapng::SIMPLE_PACKET => {
                    let entry = packet_entry(block, block_type, order, at, &self.interfaces)
                        .map_err(|kind| Error::new(offset, kind))?;
                    self.entries.push(entry);
                }
                _ => {}
            }
            self.span_len += len as usize;
        }
        Ok(())
    }

    fn fill(&mut self, len: usize) -> Result<(), Error> {
        let result = self.input.fill(len);
        result.map_err(|error| {
            self.is_ended = true;
            let read_to = self.input.offset() + self.input.available().len() as u64;
            Error::of_read(read_to, error, self.input.compression())
        })
    }

    fn truncated(&self, what: &'static str, needed: usize) -> Error {
        let available = self.input.available().len() as u64;
        Error::new(self.input.offset(), ErrorKind::Truncated { what, needed: needed as u64, available })
    }

    fn truncated_record(&self, needed: usize) -> Error {
        let what = match &self.layout {
            Layout::Pcap(header) if needed == header.record_header_len => "packet's header",
            Layout::Pcap(_) => "packet",
            Layout::Pcapng { .. } => "block",
        };
        self.truncated(what, needed)
    }
}

/// Gives the compression of a regular file.
/// # Errors
/// Fails if it cannot be read.
pub fn compression(file: &File) -> io::Result<Option<Compression>> {
    let (mut first, mut len) = ([0; 4], 0);
    while len < first.len() {
        match file.read_at(&mut first[len..], len as u64) {
            Ok(0) => return Ok(None),
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Compression::of(first))
}

/// The byte order that a section header at `offset` of the file declares.
fn section_order(block: &[u8], offset: u64) -> Result<ByteOrder, Error> {
    [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| order.u32(block, 8) == pcapng::BYTE_ORDER_MARK)
        .ok_or_else(|| {
            Error::new(offset, ErrorKind::ByteOrderMark([block[8], block[9], block[10], block[11]]))
        })
}

/// Reads a packet block, which begins at `at` of the burst.
fn packet_entry(
    block: &[u8],
    block_type: u32,
    order: ByteOrder,
    at: usize,
    interfaces: &[Interface],
) -> Result<Entry, ErrorKind> {
    let is_simple = block_type == pcapng::SIMPLE_PACKET;
    let data_at = if is_simple { pcapng::SIMPLE_PACKET_DATA_AT } else { pcapng::PACKET_DATA_AT };
    let Some(room) = block.len().checked_sub(data_at + 4) else {
        let min = (data_at + 4) as u32;
        return Err(ErrorKind::BlockLen { block_type, len: block.len() as u32, min, max: u32::MAX });
    };
    let interface = match block_type {
        pcapng::ENHANCED_PACKET => order.u32(block, 8),
        pcapng::PACKET => u32::from(order.u16(block, 8)),
        _ => 0,
    };
    let described = interfaces
        .get(interface as usize)
        .ok_or(ErrorKind::UnknownInterface { interface, described: interfaces.len() })?;
    let (time_ns, captured_len, original_len) = if is_simple {
        // A simple packet block has neither time nor captured length: the packet was cut at the interface's limit.
        let original_len = order.u32(block, 8);
        let snaplen = if described.snaplen == 0 { u32::MAX } else { described.snaplen };
        (0, original_len.min(snaplen), original_len)
    } else {
        let ticks = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
        (described.clock.time_ns(ticks), order.u32(block, 20), order.u32(block, 24))
    };
    let limit = described.link_type.max_captured_len();
    if captured_len > limit {
        return Err(ErrorKind::CapturedLen { captured_len, limit });
    }
    if captured_len as usize > room {
        return Err(ErrorKind::PacketOutsideBlock { captured_len, room: room as u32 });
    }
    Ok(Entry {
        time_ns,
        record_at: at as u32,
        record_len: block.len() as u32,
        packet_at: (at + data_at) as u32,
        captured_len,
        original_len,
        interface,
        kind: if is_simple { Kind::Simple } else { Kind::WithOptions },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: Vec<u8>) -> Reader {
        Reader::from_stream(Box::new(io::Cursor::new(bytes))).expect("a capture file")
    }

    /// A little-endian pcap header and one record of a header of `record_header` and 4 bytes of packet.
    fn pcap(magic: u32, version: (u16, u16), snaplen: u32, record_header: &[u32]) -> Vec<u8> {
        let mut file = magic.to_le_bytes().to_vec();
        file.extend([version.0.to_le_bytes(), version.1.to_le_bytes()].concat());
        file.extend([0, 0, snaplen, 1].iter().flat_map(|field: &u32| field.to_le_bytes()));
        file.extend(record_header.iter().flat_map(|field| field.to_le_bytes()));
        file.extend([1, 2, 3, 4]);
        file
    }

    #[test]
    fn old_and_modified_pcap_files_are_read() {
        for (file, is_carried) in [
            (pcap(0xa1b2_c3d4, (2, 4), 96, &[5, 6, 4, 9]), true),
            (pcap(0xa1b2_c3d4, (2, 3), 96, &[5, 6, 4, 9]), false),
            (pcap(0xa1b2_c3d4, (2, 3), 96, &[5, 6, 9, 4]), false),
            (pcap(0xa1b2_c3d4, (2, 2), 96, &[5, 6, 9, 4]), false),
            (pcap(0xa1b2_c3d4, (543, 0), 96, &[5, 6, 9, 4]), false),
            (pcap(0xa1b2_cd34, (2, 4), 96, &[5, 6, 4, 9, 1, 2]), false),
        ] {
            let mut reader = reader(file);
            assert_eq!(reader.header().is_carried(), is_carried);
            let record = reader.next_record().expect("a sound file").expect("a packet");
            assert_eq!(
                (record.time_ns, record.bytes, record.original_len),
                (5_000_006_000, &[1, 2, 3, 4][..], 9)
            );
            assert!(reader.next_record().expect("a sound file").is_none());
        }
        let newer = pcap(0xa1b2_c3d4, (2, 5), 96, &[]);
        let error = Reader::from_stream(Box::new(io::Cursor::new(newer))).err().expect("version 2.5");
        assert_eq!(error.to_string(), "at byte 0: pcap version 2.5 is not supported");
    }

    #[test]
    fn a_packet_longer_than_its_file_allows_is_cut_as_libpcap_cuts_it() {
        let mut reader = reader(pcap(0xa1b2_c3d4, (2, 4), 3, &[5, 6, 4, 9]));
        let burst = reader.next_burst().expect("a sound file").expect("a packet");
        assert!(burst.has_cut());
        assert_eq!((burst.get(0).bytes, burst.get(0).raw().len()), (&[1, 2, 3][..], 20));
    }

    #[test]
    fn a_block_larger_than_the_buffer_is_passed_over_and_one_beyond_the_limit_is_damage() {
        let block = |block_type: u32, len: u32, body: &[u8]| {
            [&block_type.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat()
        };
        let section = block(
            0x0a0d_0d0a,
            28,
            &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
        );
        let interface = block(1, 20, &[1, 0, 0, 0, 0, 0, 0, 0]);
        let large = block(0x0bad, (10 << 20) + 12, &vec![7; 10 << 20]);
        let simple = block(3, 20, &[4, 0, 0, 0, 1, 2, 3, 4]);
        let beyond = block(0x0bad, 0x7fff_fff0, &[]);
        let mut reader = reader([&section[..], &interface, &large, &simple, &beyond].concat());
        let record = reader.next_record().expect("sound so far").expect("a packet");
        assert_eq!((record.time_ns, record.bytes, record.original_len), (0, &[1, 2, 3, 4][..], 4));
        let error = reader.next_record().err().expect("a block of 2 GiB");
        assert_eq!(error.offset, 28 + 20 + (10 << 20) + 12 + 20);
        assert!(matches!(error.kind, ErrorKind::BlockLen { block_type: 0x0bad, .. }), "{error}");
    }
}
