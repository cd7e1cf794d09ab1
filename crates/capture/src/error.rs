//! The errors of capture files, with the place of each.

use super::compressed::{Compression, Damage};

/// A capture file could not be read on: what is wrong with it, and at which byte.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}{}: {kind}", of_what(.is_decompressed))]
pub struct Error {
    /// The offset of the damaged record or block, in bytes from the start of the file.
    pub offset: u64,
    /// The byte is one of what a compressed file gives, not of the file.
    pub is_decompressed: bool,
    pub kind: ErrorKind,
}

/// Gives the words by which an error names the program that compressed a file which Tapline does not read, and how that program
/// decompresses it.
fn as_others_do(first: &[u8; 4]) -> &'static str {
    match first {
        [0xfd, b'7', b'z', b'X'] => ", as xz writes; xz -dc FILE | tapline filter -r -",
        [b'B', b'Z', b'h', _] => ", as bzip2 writes; bzip2 -dc FILE | tapline filter -r -",
        [0x02, 0x21, 0x4c, 0x18] => ", as lz4 -l writes; lz4 -dc FILE | tapline filter -r -",
        _ => "",
    }
}

fn of_what(is_decompressed: &bool) -> &'static str {
    if *is_decompressed { " of what was compressed" } else { "" }
}

impl Error {
    pub(super) fn new(offset: u64, kind: ErrorKind) -> Self {
        Self { offset, is_decompressed: false, kind }
    }

    /// Reading failed at a byte, or is over at another since the compressed data is damaged there.
    pub(super) fn of_read(offset: u64, error: std::io::Error, compression: Option<Compression>) -> Self {
        let Some(compression) = compression else { return Self::new(offset, ErrorKind::Io(error)) };
        match error.downcast::<Damage>() {
            Ok(Damage { offset, what: Some(what) }) => {
                Self::new(offset, ErrorKind::Compressed { compression, what })
            }
            Ok(Damage { offset, what: None }) => Self::new(offset, ErrorKind::CompressedEnds(compression)),
            Err(error) => Self { offset, is_decompressed: true, kind: ErrorKind::Io(error) },
        }
    }

    /// The same of what a compressed file gives.
    pub(super) fn of_decompressed(self) -> Self {
        let is_of_file = matches!(self.kind, ErrorKind::Compressed { .. } | ErrorKind::CompressedEnds(_));
        Self { is_decompressed: !is_of_file, ..self }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("the file is empty; expected a pcap or pcapng file")]
    Empty,
    #[error("neither a pcap nor a pcapng file: it begins with {first:02x?}{note}", first = .0, note = as_others_do(.0))]
    UnknownFormat([u8; 4]),
    #[error("{format} version {major}.{minor} is not supported")]
    UnsupportedVersion { format: &'static str, major: u16, minor: u16 },
    #[error("the file ends inside the {what}, which has {needed} bytes; {available} are left")]
    Truncated { what: &'static str, needed: u64, available: u64 },
    #[error(
        "the packet is said to hold {captured_len} bytes; at most {limit} are possible for its link type"
    )]
    CapturedLen { captured_len: u32, limit: u32 },
    #[error(
        "the block (type {block_type:#010x}) is said to have {len} bytes; expected a multiple of 4 from {min} to {max}"
    )]
    BlockLen { block_type: u32, len: u32, min: u32, max: u32 },
    #[error("the block says {leading} bytes at its start and {trailing} at its end")]
    BlockLenMismatch { leading: u32, trailing: u32 },
    #[error("the packet is said to hold {captured_len} bytes, its block has room for {room}")]
    PacketOutsideBlock { captured_len: u32, room: u32 },
    #[error("the section begins with byte-order mark {0:02x?}; expected 1a2b3c4d in either order")]
    ByteOrderMark([u8; 4]),
    #[error("the packet came from interface {interface}, the section describes {described}")]
    UnknownInterface { interface: u32, described: usize },
    #[error("the section describes more than {0} interfaces")]
    TooManyInterfaces(usize),
    #[error("the interface's options are damaged: {0}")]
    InterfaceOptions(&'static str),
    #[error("the {compression} data is damaged: {what}")]
    Compressed { compression: Compression, what: String },
    #[error("the file ends inside its {0} data")]
    CompressedEnds(Compression),
}
