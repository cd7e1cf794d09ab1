//! Prefixes of IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IPv4 or IPv6 prefix; a whole address is its own prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PrefixError {
    #[error("expected an address or ADDRESS/BITS")]
    Syntax,
    #[error("a prefix of this address has at most {0} bits")]
    TooLong(u8),
    #[error("bits are set behind the prefix")]
    HostBits,
}

impl Prefix {
    /// # Errors
    /// Fails if `bits` is longer than the address, or the address has bits set behind it (libpcap refuses both).
    pub fn new(address: IpAddr, bits: u8) -> Result<Self, PrefixError> {
        let prefix = Self { address, bits };
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(PrefixError::TooLong(most));
        }
        let (first, last) = prefix.range();
        if left_aligned(address) & (last - first) != 0 {
            return Err(PrefixError::HostBits);
        }
        Ok(prefix)
    }

    /// Returns whether the prefix covers an address. An IPv4 prefix covers no IPv6 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        self.address.is_ipv4() == address.is_ipv4() && (first..=last).contains(&left_aligned(address))
    }

    /// Returns the address that the prefix begins with.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Returns how many bits of the address have to be the same.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns the first and the last address that it covers, IPv4 ones in the upper 32 bits.
    pub fn range(self) -> (u128, u128) {
        let behind = u128::MAX.checked_shr(self.bits.into()).unwrap_or(0);
        let first = left_aligned(self.address) & !behind;
        (first, first | behind)
    }
}

fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `10.0.0.0/8`, `10.0.0.1`, `2001:db8::/32`, `2001:db8::1`. The shorter forms that libpcap also knows (`net 10`) are not
    /// read.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Syntax)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            // libpcap takes a leading 0 for octal.
            Some(bits)
                if bits.len() > 1 && bits.starts_with('0')
                    || !bits.bytes().all(|digit| digit.is_ascii_digit()) =>
            {
                return Err(PrefixError::Syntax);
            }
            Some("") => return Err(PrefixError::Syntax),
            Some(bits) => bits.parse().map_err(|_| PrefixError::TooLong(most))?,
        };
        Self::new(address, bits)
    }
}

/// Writes what `from_str` reads; of a whole address the address alone.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, bits } = self;
        let is_whole = *bits == if address.is_ipv4() { 32 } else { 128 };
        if is_whole { write!(f, "{address}") } else { write!(f, "{address}/{bits}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_the_addresses_that_begin_as_it_does() {
        for (prefix, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("::1", "::1", "::"),
            // the first 32 bits are those of 10.0.0.1
            ("10.0.0.1", "10.0.0.1", "a00:1::"),
        ] {
            let read: Prefix = prefix.parse().expect("a prefix");
            assert_eq!(read.to_string(), prefix);
            assert!(read.contains(inside.parse().expect("an address")), "{prefix} covers {inside}");
            assert!(!read.contains(outside.parse().expect("an address")), "{prefix} covers {outside}");
        }
    }
}
