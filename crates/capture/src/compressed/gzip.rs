//! gzip: members of deflated data, one behind another.
//! # Source
//! RFC 1952, 2.2 and 2.3.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use super::source::Source;

/// Bits of a member's flags.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

pub(super) struct Gzip {
    source: Source,
    inflate: Decompress,
    crc: crc32fast::Hasher,
    /// Bytes that the member gave, modulo 2^32.
    len: u32,
    is_in_member: bool,
    has_members: bool,
}

impl Gzip {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            inflate: Decompress::new(false),
            crc: crc32fast::Hasher::new(),
            len: 0,
            is_in_member: false,
            has_members: false,
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn step(&mut self, out: &mut [u8]) -> (usize, io::Result<()>) {
        loop {
            if !self.is_in_member {
                match self.begin_member() {
                    Ok(true) => {}
                    Ok(false) => return (0, Ok(())),
                    Err(error) => return (0, Err(error)),
                }
            }
            let (len, result) = self.inflate(out);
            if len > 0 || result.is_err() {
                return (len, result);
            }
        }
    }

    /// Reads a member's header. Returns whether there is one: the file may end, or be filled up with zeros, as tapes are.
    fn begin_member(&mut self) -> io::Result<bool> {
        loop {
            match *self.source.fill(2)? {
                [] => return Ok(false),
                [0x1f, 0x8b, ..] => break,
                [0, ..] if self.has_members => self.source.consume(1),
                [0x1f] => return Err(self.source.truncated()),
                _ => return Err(self.source.damaged("what follows is no member")),
            }
        }
        let [_, _, method, flags, ..] = self.source.take::<10>()?;
        if method != 8 || flags & RESERVED != 0 {
            return Err(self.source.damaged("the member's header has an unknown method or flag"));
        }
        if flags & EXTRA != 0 {
            let len = u16::from_le_bytes(self.source.take()?);
            self.source.skip(len.into())?;
        }
        for text in [NAME, COMMENT] {
            while flags & text != 0 && self.source.take()? != [0] {}
        }
        if flags & HEADER_CRC != 0 {
            self.source.skip(2)?;
        }
        self.inflate.reset(false);
        self.crc = crc32fast::Hasher::new();
        self.len = 0;
        (self.is_in_member, self.has_members) = (true, true);
        Ok(true)
    }

    /// Inflates a piece; of the last one checks what the member says of all.
    fn inflate(&mut self, out: &mut [u8]) -> (usize, io::Result<()>) {
        let input = match self.source.fill(1) {
            Ok([]) => return (0, Err(self.source.truncated())),
            Ok(input) => input,
            Err(error) => return (0, Err(error)),
        };
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, FlushDecompress::None);
        let taken = (self.inflate.total_in() - before_in) as usize;
        let len = (self.inflate.total_out() - before_out) as usize;
        self.source.consume(taken);
        self.crc.update(&out[..len]);
        self.len = self.len.wrapping_add(len as u32);
        let result = match status {
            Ok(Status::StreamEnd) => self.end_member(),
            Ok(Status::Ok | Status::BufError) if taken > 0 || len > 0 => Ok(()),
            Ok(_) => Err(self.source.damaged("the deflated data does not go on")),
            // which of its words the decoder has for it depends on how the data came in pieces
            Err(_) => Err(self.source.damaged("the deflated data makes no sense")),
        };
        (len, result)
    }

    fn end_member(&mut self) -> io::Result<()> {
        self.is_in_member = false;
        let [crc, len] = [self.source.take()?, self.source.take()?].map(u32::from_le_bytes);
        let found = std::mem::take(&mut self.crc).finalize();
        if crc != found {
            let what = format!("its data has checksum {found:08x}, the member says {crc:08x}");
            return Err(self.source.damaged(what));
        }
        if len != self.len {
            let what = format!("its data has {} bytes (modulo 2^32), the member says {len}", self.len);
            return Err(self.source.damaged(what));
        }
        Ok(())
    }
}
