//! Frames that a driver cut without a word.
//!
//! Stands behind receive, on ports of net_af_packet alone: what does not fit a slot of its ring with the kernel is cut there, and
//! the driver hands it on as if it had come so. Such frames are known by their length. Mind that the kernel joins segments before
//! it shows them (GRO), so that an MTU that fits is not enough.
//!
//! # Source
//! Linux, `tpacket_rcv` in net/packet/af_packet.c: a slot has 66 bytes before the frame (version 2, Ethernet). DPDK,
//! drivers/net/af_packet: `framesz` is the slot, 2048 unless it is said, and a VLAN tag is put back afterwards.

use tapline_dpdk::driver::Devargs;
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst};
use tapline_packet::burst::MAX_BURST;
use tapline_packet::extent;
use tapline_packet::headers::vlan;
use tapline_packet::layers;

const BEFORE_FRAME: u32 = 66;

/// Gives the slots of a device's rings with the kernel, in bytes; `None` where its driver has no such rings.
pub fn slot(devargs: &Devargs) -> Option<u32> {
    let slot = devargs.driver()?.tpacket_slot?;
    Some(devargs.argument("framesz").and_then(|size| size.parse().ok()).unwrap_or(slot))
}

/// The longest frame that comes whole, in bytes from the Ethernet header on, without a VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Longest(pub u32);

impl Longest {
    /// Gives the limit of the device that a port is; `None` for those that do not cut.
    pub fn of(devargs: &Devargs) -> Option<Self> {
        Some(Self(slot(devargs)?.saturating_sub(BEFORE_FRAME)))
    }

    /// Frames of a burst that were cut.
    #[cold]
    pub fn count_cut(self, burst: &MbufBurst) -> u64 {
        let lengths = [self.0, self.0 + vlan::TAG_LEN as u32];
        let mut lens = [0; MAX_BURST];
        burst.lens(&mut lens);
        if !lens[..burst.len()].iter().any(|len| lengths.contains(len)) {
            return 0;
        }
        let (mut linear, mut frames) = (Linear::default(), Frames::new());
        burst.frames(&mut linear, &mut frames);
        frames.iter().filter(|frame| self.is_cut(frame.bytes())).count() as u64
    }

    /// Returns whether a frame is as long as a cut one, and nothing in it says that it is whole: a packet without a length may
    /// be longer than the field can say.
    pub(crate) fn is_cut(self, frame: &[u8]) -> bool {
        let tag = if vlan::outer_tag(frame).is_some() { vlan::TAG_LEN } else { 0 };
        let is_as_long = frame.len() == self.0 as usize + tag;
        let end = || extent::stated_end(frame, &layers::ethernet_stack(frame, 0));
        is_as_long && end().is_none_or(|end| end > frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `len` bytes that was `whole` bytes long.
    fn frame(len: usize, whole: usize, tag: &[u8], kind: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(tag);
        frame.extend(kind);
        let payload = (whole - frame.len()) as u16;
        match kind {
            [0x08, 0x00] => frame.extend([&[0x45, 0][..], &payload.to_be_bytes()].concat()),
            _ => frame.extend([&[0x60, 0, 0, 0][..], &(payload - 40).to_be_bytes()].concat()),
        }
        frame.resize(len, 0);
        frame
    }

    #[test]
    fn a_frame_of_the_longest_length_is_cut_if_its_ip_header_says_more() {
        let longest = Longest::of(&Devargs::new("net_af_packet0,iface=eth0")).expect("it cuts");
        assert_eq!(longest, Longest(1982));
        let (tag, ipv4, ipv6) = ([0x81, 0, 0, 5], [8, 0], [0x86, 0xdd]);
        for kind in [ipv4, ipv6] {
            assert!(
                longest.is_cut(&frame(1982, 4000, &[], kind))
                    && longest.is_cut(&frame(1986, 1987, &tag, kind))
            );
            assert!(
                !longest.is_cut(&frame(1982, 1982, &[], kind))
                    && !longest.is_cut(&frame(1986, 1986, &tag, kind))
            );
            assert!(!longest.is_cut(&frame(1982, 4000, &tag, kind)), "with its tag it would be longer");
            assert!(!longest.is_cut(&frame(1500, 4000, &[], kind)), "somebody else cut it");
        }
        assert!(longest.is_cut(&[0xff; 1982]), "no header speaks against it");
        assert!(!longest.is_cut(&[]) && !Longest(0).is_cut(&[1]));
    }

    #[test]
    fn the_length_is_that_of_the_drivers_slots() {
        let longest = |text: &str| Longest::of(&Devargs::new(text));
        assert_eq!(longest("net_af_packet3,iface=eth0,framesz=1024,blocksz=4096"), Some(Longest(958)));
        assert_eq!(longest("net_pcap0,iface=eth0"), None);
    }
}
