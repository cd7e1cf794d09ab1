//! The compressed file's bytes, counted as they are taken.

use std::io::{self, Read};

use super::Damage;

/// Bytes of one read.
const READ_LEN: usize = 64 << 10;

/// Returns whether a frame begins so that decoders of zstd and of lz4 alike are to skip.
/// # Source
/// RFC 8878, 3.1.2; LZ4 Frame Format 1.6.4, "Skippable Frames".
pub(super) fn is_skippable(first: [u8; 4]) -> bool {
    matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

pub(super) struct Source {
    stream: Box<dyn Read + Send>,
    /// `bytes[start..end]` were read and not taken.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the file that were taken.
    offset: u64,
    /// Somebody wanted more than there is.
    has_met_end: bool,
}

impl Source {
    pub(super) fn new(begun: &[u8], stream: Box<dyn Read + Send>) -> Self {
        Self { stream, bytes: begun.to_vec(), start: 0, end: begun.len(), offset: 0, has_met_end: false }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn has_met_end(&self) -> bool {
        self.has_met_end
    }

    /// The bytes that come next: as many as are there, but at least `least`, which is small; fewer are only at the end.
    pub(super) fn fill(&mut self, least: usize) -> io::Result<&[u8]> {
        while self.end - self.start < least {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.bytes.len() < READ_LEN {
                self.bytes.resize(READ_LEN, 0);
            }
            match self.stream.read(&mut self.bytes[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.bytes[self.start..self.end])
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        self.offset += len as u64;
    }

    /// Takes the next bytes.
    pub(super) fn take<const LEN: usize>(&mut self) -> io::Result<[u8; LEN]> {
        let Some(&bytes) = self.fill(LEN)?.first_chunk() else { return Err(self.truncated()) };
        self.consume(LEN);
        Ok(bytes)
    }

    /// Passes over the next bytes.
    pub(super) fn skip(&mut self, len: u64) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            let there = self.fill(1)?.len();
            if there == 0 {
                return Err(self.truncated());
            }
            let passed = usize::try_from(left).unwrap_or(usize::MAX).min(there);
            self.consume(passed);
            left -= passed as u64;
        }
        Ok(())
    }

    /// Passes over frames that are to be skipped; the four bytes that the next frame begins with, or none at the end.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<[u8; 4]>> {
        loop {
            let there = self.fill(4)?;
            match there.first_chunk() {
                Some(&first) if is_skippable(first) => {
                    self.consume(4);
                    let len = u32::from_le_bytes(self.take()?);
                    self.skip(len.into())?;
                }
                Some(&first) => return Ok(Some(first)),
                None if there.is_empty() => return Ok(None),
                None => {
                    let left = there.len();
                    self.consume(left);
                    return Err(self.truncated());
                }
            }
        }
    }

    /// Gives the error of a file that ends too early.
    pub(super) fn truncated(&self) -> io::Error {
        let offset = self.offset + (self.end - self.start) as u64;
        io::Error::other(Damage { offset, what: None })
    }

    /// Gives the error of damage at the next byte.
    pub(super) fn damaged(&self, what: impl Into<String>) -> io::Error {
        io::Error::other(Damage { offset: self.offset, what: Some(what.into()) })
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let there = self.fill(1)?;
        let len = there.len().min(bytes.len());
        bytes[..len].copy_from_slice(&there[..len]);
        self.has_met_end |= there.is_empty();
        self.consume(len);
        Ok(len)
    }
}
