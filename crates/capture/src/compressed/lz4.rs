//! LZ4: frames, one behind another.
//! # Source
//! LZ4 Frame Format 1.6.4.

use std::io::{self, Read};

use lz4_flex::frame::{Error, FrameDecoder};

use super::Damage;
use super::source::Source;

pub(super) const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

pub(super) struct Lz4 {
    decoder: FrameDecoder<Source>,
    is_in_frame: bool,
}

/// Gives a decoder of nothing, which stands in for a decoder while another one is made.
fn nothing() -> FrameDecoder<Source> {
    FrameDecoder::new(Source::new(&[], Box::new(io::empty())))
}

impl Lz4 {
    pub(super) fn new(source: Source) -> Self {
        Self { decoder: FrameDecoder::new(source), is_in_frame: false }
    }

    pub(super) fn source(&self) -> &Source {
        self.decoder.get_ref()
    }

    pub(super) fn step(&mut self, out: &mut [u8]) -> (usize, io::Result<()>) {
        loop {
            if !self.is_in_frame {
                match self.decoder.get_mut().next_frame() {
                    Ok(Some(MAGIC)) => {
                        // a decoder's buffer fits the blocks of its first frame
                        let source = std::mem::replace(&mut self.decoder, nothing()).into_inner();
                        (self.decoder, self.is_in_frame) = (FrameDecoder::new(source), true);
                    }
                    Ok(None) => return (0, Ok(())),
                    Ok(Some(_)) => return (0, Err(self.source().damaged("what follows is no frame"))),
                    Err(error) => return (0, Err(error)),
                }
            }
            let block_at = self.source().offset();
            match self.decoder.read(out) {
                // the decoder takes a file that ends between two blocks for whole
                Ok(0) if self.source().has_met_end() => return (0, Err(self.source().truncated())),
                Ok(0) => self.is_in_frame = false,
                Ok(len) => return (len, Ok(())),
                Err(error) => return (0, Err(self.told(error, block_at))),
            }
        }
    }

    fn told(&self, error: io::Error, block_at: u64) -> io::Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.source().truncated();
        }
        match error.downcast::<Error>() {
            Ok(error) => io::Error::other(Damage { offset: block_at, what: Some(error.to_string()) }),
            Err(error) => error,
        }
    }
}
