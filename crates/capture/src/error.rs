//! What can be wrong with a capture file, and where.

/// A capture file could not be read on: what is wrong with it, and at which byte.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {kind}")]
pub struct Error {
    /// Where the record or block begins that is damaged, in bytes from the start of the file.
    pub offset: u64,
    pub kind: ErrorKind,
}

impl Error {
    pub(super) fn new(offset: u64, kind: ErrorKind) -> Self {
        Self { offset, kind }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("the file is empty; expected a pcap or pcapng file")]
    Empty,
    #[error("neither a pcap nor a pcapng file: it begins with {0:02x?}")]
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
}
