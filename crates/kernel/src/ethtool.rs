//! Offloads of interfaces that change what is received: segments that are joined, or not cut yet, and checksums that are left to a NIC.
//! # Source
//! Linux, include/uapi/linux/ethtool.h; `veth_get_ethtool_stats` in drivers/net/veth.c.

use std::io;
use std::os::fd::AsRawFd;

use crate::interface::{Index, any_socket, request_for};

/// An offload, by the word that ethtool(8) has for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// `gro`: segments are joined when they are received.
    Gro,
    /// `lro`: the NIC joins them.
    Lro,
    /// `tso`: segments are left uncut for the NIC.
    Tso,
    /// `gso`: they are left uncut for as long as may be.
    Gso,
    /// `tx`: checksums are left to the NIC.
    TxChecksum,
}

impl Offload {
    /// Those that change what an interface receives.
    pub const OF_RECEIVER: [Offload; 2] = [Offload::Gro, Offload::Lro];
    /// Those that change what an interface hands over.
    pub const OF_SENDER: [Offload; 3] = [Offload::Tso, Offload::Gso, Offload::TxChecksum];

    /// Gives the word of ethtool's `-K`.
    pub fn word(self) -> &'static str {
        match self {
            Offload::Gro => "gro",
            Offload::Lro => "lro",
            Offload::Tso => "tso",
            Offload::Gso => "gso",
            Offload::TxChecksum => "tx",
        }
    }

    /// The commands that read and set it, and the bit of it in what they read and set.
    fn commands(self) -> (u32, u32, u32) {
        const LRO: u32 = 1 << 15; // ETH_FLAG_LRO
        match self {
            Offload::Gro => (0x2b, 0x2c, 1),
            Offload::Lro => (0x25, 0x26, LRO),
            Offload::Tso => (0x1e, 0x1f, 1),
            Offload::Gso => (0x23, 0x24, 1),
            Offload::TxChecksum => (0x16, 0x17, 1),
        }
    }

    /// Returns whether an interface does it; `false` where the kernel does not say.
    pub fn is_on(self, interface: Index) -> bool {
        let (get, _, bit) = self.commands();
        ask(interface, [get, 0]).is_ok_and(|[_, value]| value & bit != 0)
    }

    /// Switches it on or off.
    ///
    /// # Errors
    /// If the interface cannot be set so, or this process may not (CAP_NET_ADMIN).
    pub fn set(self, interface: Index, is_on: bool) -> io::Result<()> {
        let (get, set, bit) = self.commands();
        let [_, value] = ask(interface, [get, 0])?;
        let value = if is_on { value | bit } else { value & !bit };
        ask(interface, [set, value]).map(drop)
    }
}

/// The interface that hands over the frames that a veth interface receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FarEnd {
    /// It is that one of this network namespace.
    Here(Index),
    /// It is in another network namespace.
    Elsewhere,
}

/// Gives the far end of a veth interface; `None` of all others.
pub fn far_end(interface: Index) -> Option<FarEnd> {
    let far = far_number(interface)?;
    let here = Index::numbered(far);
    // a number is one of another namespace where its interface here is none, or has another far end
    let is_here =
        far_number(here).and_then(|back| libc::c_int::try_from(back).ok()) == Some(interface.number());
    Some(if is_here { FarEnd::Here(here) } else { FarEnd::Elsewhere })
}

/// The number of a veth interface's far end, in the namespace of that: the first of its statistics.
fn far_number(interface: Index) -> Option<u32> {
    const GET_DRIVER: u32 = 0x03;
    const GET_STATISTICS: u32 = 0x1d;
    /// `struct ethtool_drvinfo`, 196 bytes: the driver's name stands behind the command, the number of statistics at byte 180.
    const DRIVER_WORDS: usize = 49;
    const STATISTICS_AT: usize = 45;
    const MOST_STATISTICS: usize = 4096;
    let mut driver = [0; DRIVER_WORDS];
    driver[0] = GET_DRIVER;
    let driver = ask(interface, driver).ok()?;
    let name: Vec<u8> = driver[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let count = driver[STATISTICS_AT] as usize;
    if !name.starts_with(b"veth\0") || count == 0 || count > MOST_STATISTICS {
        return None;
    }
    // `struct ethtool_stats`: two words, and two for each number
    let mut statistics = vec![0u32; 2 + 2 * count];
    (statistics[0], statistics[1]) = (GET_STATISTICS, count as u32);
    ask_long(interface, &mut statistics).ok()?;
    let number = statistics.get(2..4).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32)?;
    u32::try_from(number).ok().filter(|&number| number > 0)
}

/// Asks by a command whose request and answer are `N` words, the first of them the command.
fn ask<const N: usize>(interface: Index, mut words: [u32; N]) -> io::Result<[u32; N]> {
    ask_long(interface, &mut words)?;
    Ok(words)
}

/// As [`ask`]: `words` are as many as the command reads and writes.
fn ask_long(interface: Index, words: &mut [u32]) -> io::Result<()> {
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    let (socket, name) = any_socket().zip(interface.name()).ok_or_else(gone)?;
    let mut request = request_for(&name).ok_or_else(gone)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: `socket` is open while it is borrowed. The kernel reads and writes one `ifreq` and, where that points, a structure of the
    // command's, during the call only: each of this module's commands has `ethtool_value` (two words), `ethtool_drvinfo` (49), or
    // `ethtool_stats` with as many numbers as its second word says, and its callers bring as many words. All are plain numbers.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_says_what_it_does_and_has_no_far_end() {
        let lo = Index::of("lo").expect("every namespace has a loopback");
        // it cannot be told otherwise: no NIC computes its checksums
        assert!(Offload::TxChecksum.is_on(lo));
        assert!(!Offload::Lro.is_on(lo));
        assert_eq!(far_end(lo), None);
    }
}
