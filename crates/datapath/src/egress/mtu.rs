//! Which frames a tool's port can send.
//!
//! Stands before a tool's egress queue, and only on ports that are kernel interfaces, or shared memory, or virtual devices whose MTU
//! the pipeline file says: their drivers know of none. Their drivers hand frames
//! to the kernel, which takes none without a whole Ethernet header and none above the interface's MTU. What becomes of such a frame
//! differs: net_pcap and net_tap offer it again for ever, so that nothing behind it leaves; net_af_packet drops it, as it does
//! what does not fit a slot of its ring, and counts it as sent; net_af_xdp writes behind a buffer of its own, which has room for one
//! mbuf's bytes. net_memif hands its peer 2048 bytes of what was there before in place of a packet of no length. So these are kept
//! from them.
//!
//! # Source
//! Linux, `packet_snd` in net/packet/af_packet.c. DPDK 22.11, `eth_pcap_tx`, `eth_af_packet_tx`, `pmd_tx_burst` (tap),
//! `af_xdp_tx_zc`, `eth_memif_tx`.

use crate::receive::af_packet_cut::slot;
use tapline_dpdk::driver::{Devargs, Takes};
use tapline_dpdk::mbuf::Shared;
use tapline_dpdk::mempool::DATA_ROOM;
use tapline_packet::burst::Selection;
use tapline_packet::headers::{ethernet, vlan};

/// The lengths of frames, in bytes from the Ethernet header on, that a port takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    shortest: u32,
    longest: u32,
    /// With a VLAN tag.
    longest_tagged: u32,
}

/// The packets that do not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Misfits {
    pub short: Selection,
    pub long: Selection,
}

const SHORTEST: u32 = ethernet::HEADER_LEN as u32;
const TAG: u32 = vlan::TAG_LEN as u32;
/// The bytes of a slot of net_af_packet in front of a frame that is sent: the header of version 2, without the socket address.
const BEFORE_SENT: u32 = 32;

impl FrameLimits {
    /// Gives the limits of a port: by its device, by the MTU of its interface if that is known, and by the MTU that the pipeline
    /// file says if it does. It gives `None` for ports that take all frames. A NIC knows its MTU.
    pub fn of(devargs: &Devargs, interface_mtu: Option<u32>, said_mtu: Option<u16>) -> Option<Self> {
        let with = |mtu: Option<u32>, room: u32| mtu.map_or(u32::MAX, |mtu| mtu.saturating_add(room));
        let said = said_mtu.map(u32::from);
        let as_said = |shortest| Self {
            shortest,
            longest: with(said, SHORTEST),
            longest_tagged: with(said, SHORTEST + TAG),
        };
        let sends_to_interface = ["iface", "tx_iface"].iter().any(|name| devargs.argument(name).is_some());
        let (room, one_mbuf) = match devargs.driver().map_or(Takes::All, |driver| driver.takes) {
            Takes::NotEmpty => return Some(as_said(1)),
            Takes::Kernel { makes_interface, room, one_mbuf } if makes_interface || sends_to_interface => {
                (room, one_mbuf)
            }
            Takes::All | Takes::Kernel { .. } => {
                return (said.is_some() && devargs.device().starts_with("net_")).then(|| as_said(0));
            }
        };
        let most = match slot(devargs) {
            Some(slot) => slot.saturating_sub(BEFORE_SENT),
            None if one_mbuf => u32::from(DATA_ROOM),
            None => u32::MAX,
        };
        let (plain, tagged) = room.map_or((SHORTEST, SHORTEST + TAG), |room| (room, room));
        let Self { longest, longest_tagged, .. } = as_said(SHORTEST);
        Some(Self {
            shortest: SHORTEST,
            longest: with(interface_mtu, plain).min(longest).min(most),
            longest_tagged: with(interface_mtu, tagged).min(longest_tagged).min(most),
        })
    }

    /// Returns whether a frame of so many bytes is too long. `ethertype` gives its first two bytes behind the MAC addresses.
    #[inline(always)]
    pub fn is_long(self, len: u32, ethertype: impl FnOnce() -> Option<u16>) -> bool {
        len > self.longest && (len > self.longest_tagged || ethertype() != Some(vlan::TPID_8021Q))
    }

    /// Packets of `selection` that the port does not take.
    #[inline]
    pub fn misfits(self, selection: Selection, shared: &Shared<'_>) -> Misfits {
        let (mut short, mut long) = (Selection::NONE, Selection::NONE);
        for index in selection.indices() {
            let len = shared.len_of(index);
            short |= Selection::only_if(index, len < self.shortest);
            long |= Selection::only_if(index, self.is_long(len, || shared.ethertype_of(index)));
        }
        Misfits { short, long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_interfaces_take_what_their_mtu_says() {
        let fit = |text: &str, mtu| {
            FrameLimits::of(&Devargs::new(text), mtu, None).map(|fit| (fit.longest, fit.longest_tagged))
        };
        assert_eq!(fit("net_pcap0,iface=eth0", Some(1500)), Some((1514, 1518)));
        assert_eq!(fit("net_pcap0,rx_pcap=a.pcap,tx_iface=eth0", Some(9000)), Some((9014, 9018)));
        assert_eq!(fit("net_af_packet1,iface=eth0", Some(1500)), Some((1514, 1518)));
        assert_eq!(fit("net_af_packet1,iface=eth0", Some(9000)), Some((2016, 2016)));
        assert_eq!(fit("net_af_packet1,iface=eth0,framesz=1024", Some(1500)), Some((992, 992)));
        assert_eq!(fit("net_af_xdp0,iface=eth0", Some(3000)), Some((2048, 2048)));
        assert_eq!(fit("net_af_xdp0,iface=eth0", None), Some((2048, 2048)));
        assert_eq!(fit("net_tap0", Some(1500)), Some((1522, 1522)));
        assert_eq!(fit("net_pcap0,iface=eth0", None), Some((u32::MAX, u32::MAX)));
        assert_eq!(fit("net_memif0,role=client", None), Some((u32::MAX, u32::MAX)));
        for other in ["net_pcap0,tx_pcap=out.pcap", "net_null0", "net_ring0", "0000:01:00.0"] {
            assert_eq!(fit(other, Some(1500)), None, "{other}");
        }
    }

    #[test]
    fn virtual_devices_take_what_the_file_says_and_no_more_than_their_interface_does() {
        let fit = |text: &str, mtu, said| {
            FrameLimits::of(&Devargs::new(text), mtu, Some(said))
                .map(|fit| (fit.longest, fit.longest_tagged))
        };
        for devargs in ["net_pcap0,tx_pcap=out.pcap", "net_null0", "net_ring0", "net_memif0,role=client"] {
            assert_eq!(fit(devargs, None, 68), Some((82, 86)), "{devargs}");
        }
        assert_eq!(fit("net_pcap0,iface=eth0", Some(1500), 1000), Some((1014, 1018)));
        assert_eq!(fit("net_pcap0,iface=eth0", Some(1500), 9000), Some((1514, 1518)));
        assert_eq!(fit("net_tap0", Some(1500), 1000), Some((1014, 1018)));
        assert_eq!(fit("0000:01:00.0", None, 9000), None, "a NIC's driver is told");
    }
}
