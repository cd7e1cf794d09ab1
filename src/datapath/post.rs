//! Post: frames that are for Tapline itself, from the ports that its tunnels leave by to the control thread.
//!
//! Stands beside receive. ARP, neighbour discovery and ping for tunnels' own addresses are a few frames a second: a worker copies them
//! to a bounded queue, where the control thread finds them. They stay packets like any others: rules may take them too.

use std::net::IpAddr;

use crossbeam_queue::ArrayQueue;

use super::parse;
use crate::dpdk::Frame;
use crate::headers::ip;
use crate::headers::ipv4::Ipv4;
use crate::headers::ipv6::Ipv6;

/// The longest frame that is handed on: a ping of a full Ethernet frame with a tag.
const MOST_BYTES: usize = 1518;
/// Frames that may wait; what comes while the queue is full is left alone.
const MOST_LETTERS: usize = 64;

/// A frame.
pub struct Letter {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl Letter {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where workers put the frames of one port that are for Tapline, and the control thread takes them.
pub struct Post {
    /// The addresses that tunnels on this port are sent from.
    own: Vec<IpAddr>,
    letters: ArrayQueue<Letter>,
}

impl Post {
    pub fn new(own: Vec<IpAddr>) -> Self {
        Self { own, letters: ArrayQueue::new(MOST_LETTERS) }
    }

    /// worker: takes copies of what is for Tapline.
    #[inline]
    pub fn overhear(&self, frames: &[Frame<'_>]) {
        for frame in frames.iter().filter(|frame| self.is_for_us(frame.bytes())) {
            let len = frame.bytes().len();
            let mut letter = Letter { bytes: [0; MOST_BYTES], len };
            letter.bytes[..len].copy_from_slice(frame.bytes());
            // those that ask, ask again
            let _ = self.letters.push(letter);
        }
    }

    /// control: the next frame.
    pub fn take(&self) -> Option<Letter> {
        self.letters.pop()
    }

    fn is_for_us(&self, bytes: &[u8]) -> bool {
        if bytes.len() > MOST_BYTES {
            return false;
        }
        let stack = parse::ethernet_stack(bytes, 0);
        if stack.is_arp() {
            return true;
        }
        let l3 = stack.l3();
        if stack.is_ipv4() {
            let is_ours = |header: &Ipv4<'_>| self.own.contains(&IpAddr::V4(header.destination().into()));
            return stack.protocol() == ip::ICMP && Ipv4::at(bytes, l3).is_some_and(|header| is_ours(&header));
        }
        // neighbour solicitations go to a group that an address shares with others
        stack.is_ipv6() && Ipv6::at(bytes, l3).is_some_and(|header| header.next_header() == ip::ICMPV6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, type, then what follows.
    fn frame(ethertype: u16, body: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9], &ethertype.to_be_bytes()[..], body].concat()
    }

    /// An ARP request.
    fn arp() -> Vec<u8> {
        frame(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat())
    }

    /// IPv4 without options from 198.18.0.9 with an 8-byte body.
    fn ipv4(protocol: u8, destination: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 198, 18, 0, 9];
        packet.extend(destination);
        packet.extend([8, 0, 0, 0, 0, 0, 0, 0]);
        frame(0x0800, &packet)
    }

    #[test]
    fn what_is_for_tapline_is_kept_and_what_is_not_is_left() {
        let post = Post::new(vec![IpAddr::from([198, 18, 0, 1])]);
        let arp = arp();
        let ping = ipv4(1, [198, 18, 0, 1]);
        let long = [ping.clone(), vec![0; MOST_BYTES]].concat();
        let heard = [arp.clone(), ipv4(1, [198, 18, 0, 2]), ipv4(17, [198, 18, 0, 1]), ping.clone(), long, vec![1; 5]];
        let frames: Vec<Frame<'_>> = heard.iter().map(|bytes| Frame::whole(bytes)).collect();
        post.overhear(&frames);
        let kept: Vec<Vec<u8>> = std::iter::from_fn(|| post.take()).map(|letter| letter.bytes().to_vec()).collect();
        assert_eq!(kept, [arp, ping]);
    }

    #[test]
    fn a_full_post_leaves_the_rest() {
        let post = Post::new(Vec::new());
        let arp = arp();
        let frames = [Frame::whole(&arp); 100];
        post.overhear(&frames);
        assert_eq!(std::iter::from_fn(|| post.take()).count(), MOST_LETTERS);
    }
}
