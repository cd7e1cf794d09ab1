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
