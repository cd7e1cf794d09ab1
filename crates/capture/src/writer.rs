//! Packets -> capture file, gathered into large writes.

use std::io::{self, Write};

use super::blocks::{self, invalid};
use super::bytes::ByteOrder;
use super::reader::{Burst, FileHeader};
use super::{Interface, InterfaceId, LinkType, MAX_CAPTURED_LEN, pcap, pcapng};
use tapline_packet::burst::Selection;

/// Bytes of one write. Writes end at multiples of it, so that a file's pages are filled whole.
const BUFFER_LEN: usize = 256 * 1024;

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub interface: InterfaceId,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    pub bytes: &'a [u8],
    /// Bytes that the packet had on the wire.
    pub original_len: u32,
    /// Kept by pcapng only; each is at most 65535 bytes, the rest is cut.
    pub comments: &'a [&'a str],
}

/// Writes a pcap or pcapng file. Nothing is flushed on drop: [`Writer::finish`] ends a file.
pub struct Writer<W> {
    buffer: Gather<W>,
    layout: Layout,
    /// For each interface described so far: the most bytes of a packet that readers take.
    most_bytes: Vec<u32>,
    /// Reused for building blocks.
    block: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    Pcap { order: ByteOrder, is_ns: bool },
    Pcapng { order: ByteOrder },
}

impl<W: Write> Writer<W> {
    /// Begins a pcap file of one link type, with times in nanoseconds or, unless `is_ns`, microseconds.
    /// # Errors
    /// `out` refuses the bytes; so for all methods.
    pub fn pcap(
        out: W,
        order: ByteOrder,
        is_ns: bool,
        link_type: LinkType,
        snaplen: u32,
    ) -> io::Result<Self> {
        let magic = if is_ns { pcap::MAGIC_NS } else { pcap::MAGIC_US };
        let mut buffer = Gather::new(out);
        buffer.put(&order.put_u32(magic))?;
        buffer.put(&order.put_u16(2))?;
        buffer.put(&order.put_u16(4))?;
        buffer.put(&[0; 8])?;
        buffer.put(&order.put_u32(if snaplen == 0 { link_type.max_captured_len() } else { snaplen }))?;
        buffer.put(&order.put_u32(link_type.0))?;
        let mut writer = Self::with(buffer, Layout::Pcap { order, is_ns });
        writer.most_bytes.push(link_type.max_captured_len());
        Ok(writer)
    }

    /// Begins a pcapng file, with one section; interfaces are added before their packets.
    pub fn pcapng(out: W, order: ByteOrder) -> io::Result<Self> {
        let mut writer = Self::with(Gather::new(out), Layout::Pcapng { order });
        blocks::section(&mut writer.block, order, &[]);
        writer.buffer.put(&writer.block)?;
        Ok(writer)
    }

    /// Begins a copy of a file with header `input`, in its format, for [`Writer::carry`].
    pub fn carrying(out: W, input: &FileHeader) -> io::Result<Self> {
        let mut buffer = Gather::new(out);
        let Some(header) = input.pcap() else {
            return Ok(Self::with(buffer, Layout::Pcapng { order: ByteOrder::NATIVE }));
        };
        buffer.put(&header.raw)?;
        let mut writer = Self::with(buffer, Layout::Pcap { order: header.order, is_ns: header.is_ns });
        writer.most_bytes.push(header.max_captured_len);
        Ok(writer)
    }

    fn with(buffer: Gather<W>, layout: Layout) -> Self {
        Self { buffer, layout, most_bytes: Vec::new(), block: Vec::new() }
    }

    /// Describes a further interface; its packets follow with nanosecond times. A pcap file describes its one interface in its
    /// header.
    pub fn add_interface(&mut self, interface: &Interface) -> io::Result<InterfaceId> {
        let Layout::Pcapng { order } = self.layout else { return Ok(InterfaceId(0)) };
        let id = InterfaceId(self.most_bytes.len() as u32);
        self.most_bytes.push(interface.link_type.max_captured_len());
        self.block.clear();
        blocks::interface(&mut self.block, order, interface)?;
        self.buffer.put(&self.block)?;
        Ok(id)
    }

    /// Writes a packet, and gives how many of its bytes were left out: what is longer than readers take is cut, since they would read
    /// nothing of the file from there on. In a microsecond pcap its time is cut to microseconds.
    /// # Errors
    /// Besides those of `out`: the time is beyond what the format holds (pcap: the year 2106).
    /// # Source
    /// `MAXIMUM_SNAPLEN` of libpcap and `WTAP_MAX_PACKET_SIZE_STANDARD` of Wireshark, which are the same.
    pub fn write(&mut self, packet: &Packet<'_>) -> io::Result<usize> {
        debug_assert!((packet.interface.0 as usize) < self.most_bytes.len());
        let most_bytes =
            self.most_bytes.get(packet.interface.0 as usize).copied().unwrap_or(MAX_CAPTURED_LEN);
        let kept = packet.bytes.len().min(most_bytes as usize);
        self.write_whole(&Packet { bytes: &packet.bytes[..kept], ..*packet }, kept as u32)?;
        Ok(packet.bytes.len() - kept)
    }

    #[inline(always)]
    fn write_whole(&mut self, packet: &Packet<'_>, captured_len: u32) -> io::Result<()> {
        match self.layout {
            Layout::Pcap { order, is_ns } => {
                let (seconds, ns) =
                    (packet.time_ns / 1_000_000_000, (packet.time_ns % 1_000_000_000) as u32);
                let seconds = u32::try_from(seconds)
                    .map_err(|_| invalid("a packet's time is beyond what pcap holds (2106-02-07)"))?;
                let mut header = [0; pcap::RECORD_HEADER_LEN];
                header[0..4].copy_from_slice(&order.put_u32(seconds));
                header[4..8].copy_from_slice(&order.put_u32(if is_ns { ns } else { ns / 1000 }));
                header[8..12].copy_from_slice(&order.put_u32(captured_len));
                header[12..16].copy_from_slice(&order.put_u32(packet.original_len));
                self.buffer.put(&header)?;
                self.buffer.put(packet.bytes)
            }
            Layout::Pcapng { order } => self.write_enhanced_packet(order, packet, captured_len),
        }
    }

    fn write_enhanced_packet(
        &mut self,
        order: ByteOrder,
        packet: &Packet<'_>,
        captured_len: u32,
    ) -> io::Result<()> {
        self.block.clear();
        for comment in packet.comments {
            blocks::put_option(&mut self.block, order, pcapng::OPT_COMMENT, comment.as_bytes());
        }
        if !packet.comments.is_empty() {
            blocks::end_options(&mut self.block);
        }
        let padding = pcapng::padded(packet.bytes.len()) - packet.bytes.len();
        let len = pcapng::PACKET_DATA_AT + packet.bytes.len() + padding + self.block.len() + 4;
        let len = u32::try_from(len).map_err(|_| invalid("a packet has 4 GiB or more"))?;
        let header = blocks::packet_header(order, packet, captured_len, len);
        self.buffer.put(&header)?;
        self.buffer.put(packet.bytes)?;
        self.buffer.put(&[0; 3][..padding])?;
        self.buffer.put(&self.block)?;
        self.buffer.put(&order.put_u32(len))
    }

    /// Carries the selected records of `burst` over byte for byte, and in pcapng all other blocks. The file must have been begun
    /// with [`Writer::carrying`] for the burst's file; a burst that has cut packets cannot be carried.
    pub fn carry(&mut self, burst: &Burst<'_>, selection: Selection) -> io::Result<()> {
        let span = burst.span();
        // Neighbours that stay are copied at once.
        let mut run_at = 0;
        if burst.begins_section() {
            // The section gets shorter: its length is said to be unknown, as the format allows.
            self.buffer.put(&span[..pcapng::SECTION_LEN_AT])?;
            self.buffer.put(&[0xff; 8])?;
            run_at = pcapng::SECTION_LEN_AT + 8;
        }
        let dropped = Selection::first(burst.len()) - selection;
        for index in dropped.indices() {
            let record = burst.record_range(index);
            self.buffer.put(&span[run_at..record.start])?;
            run_at = record.end;
        }
        self.buffer.put(&span[run_at..])
    }

    /// Hands all gathered bytes to the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush()
    }

    /// Ends the file and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.buffer.flush()?;
        Ok(self.buffer.out)
    }
}

/// Gathers bytes into writes that end at multiples of the buffer's length, so that a file's pages are filled whole.
struct Gather<W> {
    out: W,
    bytes: Vec<u8>,
    /// When to write: the buffer's length, less what an early flush left of it.
    limit: usize,
}

impl<W: Write> Gather<W> {
    fn new(out: W) -> Self {
        Self { out, bytes: Vec::with_capacity(BUFFER_LEN), limit: BUFFER_LEN }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes.len() + bytes.len() < self.limit {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        self.put_full(bytes)
    }

    #[cold]
    fn put_full(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.bytes.len() + bytes.len() >= self.limit {
            let (now, later) = bytes.split_at(self.limit - self.bytes.len());
            self.bytes.extend_from_slice(now);
            self.out.write_all(&self.bytes)?;
            self.bytes.clear();
            self.limit = BUFFER_LEN;
            bytes = later;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.limit -= self.bytes.len();
        self.bytes.clear();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the length of each write.
    #[derive(Default)]
    struct Lengths {
        writes: Vec<usize>,
        bytes: Vec<u8>,
    }

    impl Write for Lengths {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes.push(bytes.len());
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn writes_end_at_multiples_of_the_buffer_also_after_an_early_flush() {
        let mut gather = Gather::new(Lengths::default());
        let mut expected = Vec::new();
        for index in 0..3000usize {
            let piece: Vec<u8> = (0..index % 1500).map(|at| (at + index) as u8).collect();
            gather.put(&piece).expect("a vector takes all");
            expected.extend(piece);
            if index == 100 {
                gather.flush().expect("a vector takes all");
            }
        }
        let long: Vec<u8> = (0..3 * BUFFER_LEN).map(|at| at as u8).collect();
        gather.put(&long).expect("a vector takes all");
        expected.extend(long);
        gather.flush().expect("a vector takes all");
        assert!(gather.out.bytes == expected);
        let writes = &gather.out.writes;
        let (early, later) = (writes[0], &writes[2..writes.len() - 1]);
        assert_eq!(early + writes[1], BUFFER_LEN);
        assert!(later.len() > 5 && later.iter().all(|len| *len == BUFFER_LEN));
    }

    #[test]
    fn a_time_beyond_the_format_is_refused_and_not_bent() {
        let mut writer = Writer::pcap(Vec::new(), ByteOrder::Little, true, LinkType::ETHERNET, 0)
            .expect("a vector takes all");
        let packet = Packet {
            interface: InterfaceId(0),
            time_ns: (1 << 32) * 1_000_000_000,
            bytes: &[0; 60],
            original_len: 60,
            comments: &[],
        };
        let error = writer.write(&packet).expect_err("the year 2106");
        assert!(error.to_string().contains("2106"), "{error}");
    }
}
