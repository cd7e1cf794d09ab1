//! Zstandard: frames, one behind another.
//! # Source
//! RFC 8878, 3.1; zstd.h on `ZSTD_decompressStream`.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::Damage;
use super::source::Source;

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window that the program zstd takes unless it is told otherwise: 128 MiB.
pub(super) const WINDOW_LOG_MAX: u32 = 27;
/// Bytes of a block's header.
const BLOCK_HEADER_LEN: usize = 3;

pub(super) struct Zstd {
    source: Source,
    decoder: Decoder<'static>,
    is_in_frame: bool,
    /// The offset in the file of the block or header that the decoder is given. Damage is reported there, whatever the pieces in
    /// which the file is read.
    begin: u64,
    /// Bytes of it that the decoder lacks.
    left: usize,
}

impl Zstd {
    pub(super) fn new(source: Source) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { source, decoder, is_in_frame: false, begin: 0, left: 0 })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn step(&mut self, out: &mut [u8]) -> (usize, io::Result<()>) {
        loop {
            if !self.is_in_frame {
                match self.begin_frame() {
                    Ok(true) => {}
                    Ok(false) => return (0, Ok(())),
                    Err(error) => return (0, Err(error)),
                }
            }
            match self.decode(out) {
                Ok(0) => {}
                Ok(len) => return (len, Ok(())),
                Err(error) => return (0, Err(error)),
            }
        }
    }

    fn begin_frame(&mut self) -> io::Result<bool> {
        match self.source.next_frame()? {
            None => return Ok(false),
            Some(MAGIC) => {}
            Some(_) => return Err(self.source.damaged("what follows is no frame")),
        }
        self.decoder.reinit()?;
        self.is_in_frame = true;
        self.want(MAGIC.len());
        Ok(true)
    }

    /// The decoder asks for so many bytes, with which it asks for the header of the next block.
    fn want(&mut self, bytes: usize) {
        self.begin = self.source.offset();
        self.left = bytes.checked_sub(BLOCK_HEADER_LEN).filter(|&left| left > 0).unwrap_or(bytes);
    }

    /// Decodes one block at the most, since of several before a damage the decoder gives none.
    fn decode(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let there = self.source.fill(1)?;
        if there.is_empty() {
            return Err(self.source.truncated());
        }
        let status = self.decoder.run_on_buffers(&there[..self.left.clamp(1, there.len())], out);
        let status = status.map_err(|error| {
            let mut what = error.to_string();
            if what.contains("too much memory") {
                what += &format!(": more than {} MiB; use zstd -dc --long=31", 1 << (WINDOW_LOG_MAX - 20));
            }
            io::Error::other(Damage { offset: self.begin, what: Some(what) })
        })?;
        self.source.consume(status.bytes_read);
        self.left = self.left.saturating_sub(status.bytes_read);
        if self.left == 0 {
            self.want(status.remaining);
        }
        self.is_in_frame = status.remaining > 0;
        Ok(status.bytes_written)
    }
}
