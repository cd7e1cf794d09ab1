//! Teredo: IPv6 in UDP, with authentication and origin indication in front where there are any.
//! # Source
//! RFC 4380, 5.1.1.

use super::u16_at;

const AUTHENTICATION: u16 = 0x0001;
const ORIGIN: u16 = 0x0000;
/// Bytes of an origin indication: type, port, and address.
const ORIGIN_LEN: usize = 8;
/// Bytes of an authentication header beside client identifier and value: type, their lengths, nonce, confirmation.
const AUTHENTICATION_LEN: usize = 13;

/// Bytes in front of the IPv6 packet; `None` where they are cut.
pub fn header_len(bytes: &[u8], offset: usize) -> Option<usize> {
    let mut len = 0;
    if u16_at(bytes, offset)? == AUTHENTICATION {
        let lengths = bytes.get(offset + 2..offset + 4)?;
        len = AUTHENTICATION_LEN + usize::from(lengths[0]) + usize::from(lengths[1]);
    }
    if u16_at(bytes, offset + len)? == ORIGIN {
        len += ORIGIN_LEN;
    }
    Some(len)
}

/// Gives the offset of an origin indication's address, each bit of which is inverted. The IPv6 packet that follows the header at
/// `offset` begins at `payload`.
pub fn origin_address(bytes: &[u8], offset: usize, payload: usize) -> Option<usize> {
    let at = payload.checked_sub(ORIGIN_LEN).filter(|at| *at >= offset)?;
    (u16_at(bytes, at)? == ORIGIN).then_some(at + 4)
}
