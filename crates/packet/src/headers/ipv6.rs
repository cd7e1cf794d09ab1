//! IPv6 header and extension headers.
//! # Source
//! RFC 8200, 3 and 4; RFC 4302, 2.2 (length of AH).

use std::net::Ipv6Addr;

use super::{be16, chunk, ip};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Bytes of the fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// The fixed header.
#[derive(Clone, Copy)]
pub struct Ipv6<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ipv6<'a> {
    #[inline(always)]
    pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        chunk(bytes, offset).map(Self)
    }

    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    pub fn payload_len(&self) -> u16 {
        be16(self.0, 4)
    }

    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.0[6]
    }

    #[inline(always)]
    pub fn source(&self) -> u128 {
        u128::from_be_bytes(*chunk(self.0, 8).expect("the fixed header holds the source address"))
    }

    #[inline(always)]
    pub fn destination(&self) -> u128 {
        u128::from_be_bytes(*chunk(self.0, 24).expect("the fixed header holds the destination address"))
    }
}

/// One extension header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension {
    pub next_header: u8,
    /// Bytes of this header.
    pub len: usize,
    /// The position of the payload in the datagram, in units of 8 bytes, if the header is a fragment header; else 0.
    pub fragment_offset: u16,
    /// The header is a fragment header, and more fragments follow.
    pub more_fragments: bool,
}

/// The extension header of type `kind` at `offset`, if its first 8 bytes (the least that one has) are there.
pub fn extension(bytes: &[u8], offset: usize, kind: u8) -> Option<Extension> {
    let header = chunk::<8>(bytes, offset)?;
    let next_header = header[0];
    Some(match kind {
        ip::FRAGMENT => {
            let field = be16(header, 2);
            Extension {
                next_header,
                len: FRAGMENT_HEADER_LEN,
                fragment_offset: field >> 3,
                more_fragments: field & 1 != 0,
            }
        }
        // AH counts in words of 4 bytes, less 2; the others in words of 8, less 1.
        ip::AH => Extension {
            next_header,
            len: (usize::from(header[1]) + 2) * 4,
            fragment_offset: 0,
            more_fragments: false,
        },
        _ => Extension {
            next_header,
            len: (usize::from(header[1]) + 1) * 8,
            fragment_offset: 0,
            more_fragments: false,
        },
    })
}

/// The fields of a header to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub next_header: u8,
    pub hop_limit: u8,
    /// Differentiated services code point, 0..=63.
    pub dscp: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Bytes that follow the fixed header.
    pub payload_len: u16,
}

/// Writes a header to the first 40 bytes of `out`.
///
/// # Panics
/// If `out` is shorter.
pub fn write(out: &mut [u8], header: &Header) {
    let out = &mut out[..HEADER_LEN];
    let first = 6 << 28 | u32::from(header.dscp) << 22 | (header.flow_label & 0xf_ffff);
    out[..4].copy_from_slice(&first.to_be_bytes());
    out[4..6].copy_from_slice(&header.payload_len.to_be_bytes());
    out[6] = header.next_header;
    out[7] = header.hop_limit;
    out[8..24].copy_from_slice(&header.source.octets());
    out[24..40].copy_from_slice(&header.destination.octets());
}
