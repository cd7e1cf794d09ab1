//! Zstandard: frames, one behind another.
//! # Source
//! RFC 8878, 3.1; zstd.h on `ZSTD_decompressStream`.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::source::Source;

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What the program zstd takes unless it is told otherwise: 128 MiB.
pub(super) const WINDOW_LOG_MAX: u32 = 27;
/// Bytes of a block's header.
const BLOCK_HEADER_LEN: usize = 3;

pub(super) struct Zstd {
    source: Source,
    decoder: Decoder<'static>,
    is_in_frame: bool,
    /// Bytes that the decoder asks for.
    wanted: usize,
}

impl Zstd {
    pub(super) fn new(source: Source) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { source, decoder, is_in_frame: false, wanted: 0 })
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
        (self.is_in_frame, self.wanted) = (true, MAGIC.len());
        Ok(true)
    }

    /// Decodes one block at the most, since of several before a damage the decoder gives none.
    fn decode(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let there = self.source.fill(1)?;
        if there.is_empty() {
            return Err(self.source.truncated());
        }
        // what it asks for has the next block's header in it
        let wanted =
            self.wanted.checked_sub(BLOCK_HEADER_LEN).filter(|&wanted| wanted > 0).unwrap_or(self.wanted);
        let status = self.decoder.run_on_buffers(&there[..wanted.clamp(1, there.len())], out);
        let status = status.map_err(|error| {
            let mut what = error.to_string();
            if what.contains("too much memory") {
                what += &format!(": more than {} MiB; use zstd -dc --long=31", 1 << (WINDOW_LOG_MAX - 20));
            }
            self.source.damaged(what)
        })?;
        self.source.consume(status.bytes_read);
        self.wanted = status.remaining;
        self.is_in_frame = status.remaining > 0;
        Ok(status.bytes_written)
    }
}
