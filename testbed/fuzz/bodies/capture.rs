//! The body of the fuzz target for the reader: any bytes are read to an end, and what is delivered holds together.

use std::io::{Read, Result};
use std::sync::Arc;

use tapline_capture::{Compression, Packet, Reader, Writer};

/// Hands out a few bytes at a time, as a pipe does.
struct Trickle {
    bytes: Arc<[u8]>,
    at: usize,
    step: usize,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.step.min(self.bytes.len() - self.at).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Reads `bytes` as a capture file: at once and in small pieces, which must give the same packets and the same error; all spans
/// together are the file as far as it was read; every packet can be written again.
pub(crate) fn read_anything(bytes: &[u8]) {
    let whole = read(bytes, usize::MAX);
    let trickled = read(bytes, 1 + bytes.len() % 7);
    assert_eq!(whole, trickled);
}

/// Time, original length and bytes of each packet; what went wrong at the end.
type Outcome = (Vec<(u64, u32, Vec<u8>)>, Option<String>);

fn read(bytes: &[u8], step: usize) -> Outcome {
    let is_compressed = bytes.first_chunk().copied().and_then(Compression::of).is_some();
    let mut packets = Vec::new();
    let bytes = Arc::<[u8]>::from(bytes);
    let result = (|| {
        let mut reader = Reader::from_stream(Box::new(Trickle { bytes: Arc::clone(&bytes), at: 0, step }))?;
        let mut writer = Writer::pcapng(Vec::new(), reader.byte_order()).expect("a vector takes all");
        let mut offset = usize::try_from(reader.offset()).expect("a short file");
        let mut known = 0;
        while let Some(burst) = reader.next_burst()? {
            if !is_compressed {
                assert_eq!(burst.span(), &bytes[offset..offset + burst.span().len()]);
                offset += burst.span().len();
            }
            if burst.begins_section() {
                writer = Writer::pcapng(Vec::new(), burst.byte_order()).expect("a vector takes all");
                known = 0;
            }
            for interface in &burst.interfaces()[known..] {
                let _ = writer.add_interface(interface);
            }
            known = burst.interfaces().len();
            for (index, record) in burst.iter().enumerate() {
                assert_eq!(&burst.span()[burst.record_range(index)], record.raw());
                let comments: Vec<_> = record.comments().collect();
                let comments: Vec<&str> = comments.iter().map(AsRef::as_ref).collect();
                let packet = Packet {
                    interface: record.interface,
                    time_ns: record.time_ns,
                    bytes: record.bytes,
                    original_len: record.original_len,
                    comments: &comments,
                };
                writer.write(&packet).expect("a vector takes all");
                packets.push((record.time_ns, record.original_len, record.bytes.to_vec()));
            }
        }
        Ok::<(), tapline_capture::Error>(())
    })();
    (packets, result.err().map(|error| error.to_string()))
}
