//! Compressed captures: what gzip, zstd and lz4 wrote -> the bytes that they were given.
//!
//! Stands between a file and the reader of captures. All bytes before a damage are handed out, and the damage is told by its byte of the
//! compressed file: so gzip members are read here and not by flate2, whose reader forgets what it had when an error comes, and zstd is
//! given one block at a time. Memory does not grow with what comes out: gzip looks back 32 KiB, lz4 needs three blocks of at most 4 MiB,
//! zstd the window that a frame asks for, at most [`zstd::WINDOW_LOG_MAX`].

mod gzip;
mod lz4;
mod source;
mod zstd;

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::source::Source;

/// Bytes that come out in one step at most: a zstd block is not longer (RFC 8878, 3.1.1.2.4).
const STEP_LEN: usize = 128 << 10;

/// The compression of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Gzip,
    Zstd,
    Lz4,
}

impl Compression {
    /// Gives the compression of a file that begins with these bytes. pzstd writes skippable frames (RFC 8878, 3.1.2) in front of
    /// those of zstd.
    pub fn of(first: [u8; 4]) -> Option<Self> {
        match first {
            // deflate, the only method that there is
            [0x1f, 0x8b, 8, _] => Some(Self::Gzip),
            zstd::MAGIC => Some(Self::Zstd),
            lz4::MAGIC => Some(Self::Lz4),
            _ => source::is_skippable(first).then_some(Self::Zstd),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        })
    }
}

/// Why no more comes out of compressed data; an [`io::Error`] carries it through [`Read`].
#[derive(Debug, thiserror::Error)]
#[error("damaged compressed data")]
pub(super) struct Damage {
    /// The byte of the compressed file.
    pub offset: u64,
    /// `None` where the file ends too early.
    pub what: Option<String>,
}

/// The format's decoder, with what it reads.
enum Decoder {
    Gzip(gzip::Gzip),
    Zstd(zstd::Zstd),
    Lz4(Box<lz4::Lz4>),
}

impl Decoder {
    /// Writes the next bytes to `out`, and says how many and whether more can come: none and no error are the end.
    fn step(&mut self, out: &mut [u8]) -> (usize, io::Result<()>) {
        match self {
            Decoder::Gzip(gzip) => gzip.step(out),
            Decoder::Zstd(zstd) => zstd.step(out),
            Decoder::Lz4(lz4) => lz4.step(out),
        }
    }

    fn source(&self) -> &Source {
        match self {
            Decoder::Gzip(gzip) => gzip.source(),
            Decoder::Zstd(zstd) => zstd.source(),
            Decoder::Lz4(lz4) => lz4.source(),
        }
    }
}

/// Reads what was compressed.
pub(super) struct Decompressor {
    decoder: Decoder,
    out: Vec<u8>,
    /// `out[at..end]` was not handed out.
    at: usize,
    end: usize,
    /// Told when all before it was handed out.
    failure: Option<io::Error>,
    is_ended: bool,
    /// decompressor: sets; reader: reads. Bytes of the compressed file that were taken. Relaxed suffices: it is a count.
    taken: Arc<AtomicU64>,
}

impl Decompressor {
    /// Reads a stream that begins with the bytes `begun`, which were read of it already.
    pub(crate) fn new(
        compression: Compression,
        begun: &[u8],
        stream: Box<dyn Read + Send>,
    ) -> io::Result<Self> {
        let source = Source::new(begun, stream);
        let decoder = match compression {
            Compression::Gzip => Decoder::Gzip(gzip::Gzip::new(source)),
            Compression::Zstd => Decoder::Zstd(zstd::Zstd::new(source)?),
            Compression::Lz4 => Decoder::Lz4(Box::new(lz4::Lz4::new(source))),
        };
        Ok(Self {
            decoder,
            out: vec![0; STEP_LEN],
            at: 0,
            end: 0,
            failure: None,
            is_ended: false,
            taken: Arc::default(),
        })
    }

    /// Bytes of the compressed file that were taken so far, for whoever does not hold the decompressor.
    pub(crate) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl Read for Decompressor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.at == self.end && !self.is_ended {
            if let Some(failure) = self.failure.take() {
                self.is_ended = true;
                return Err(failure);
            }
            let (len, result) = self.decoder.step(&mut self.out);
            self.taken.store(self.decoder.source().offset(), Ordering::Relaxed);
            (self.at, self.end) = (0, len);
            match result {
                Ok(()) => self.is_ended = len == 0,
                Err(error) => self.failure = Some(error),
            }
        }
        let len = bytes.len().min(self.end - self.at);
        bytes[..len].copy_from_slice(&self.out[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
