//! Punt: hands frames that are for Tapline itself to the control thread, from the ports that its tunnels leave by or end at.
//!
//! Stands beside receive. ARP, neighbour discovery and ICMP for the port's own addresses are a few frames a second: a worker copies
//! them to a bounded queue, where the control thread finds them. They stay packets like any others: rules may take them too.
//! On a port where tunnels end, frames that came in a tunnel are those of another network, and none of them is punted.
//! Heartbeats of tools are Tapline's own: they have a queue of theirs, which nobody else can fill, and no rule sees them.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::counters::PortCounters;
use tapline_packet::burst::Selection;
use tapline_packet::frame::Frame;
use tapline_packet::headers::arp::Arp;
use tapline_packet::headers::ethernet::{Ethernet, MacAddress};
use tapline_packet::headers::heartbeat::{Heartbeat, Key};
use tapline_packet::headers::ip;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::nd;
use tapline_packet::layers;

/// The longest frame that is punted: a ping of a full Ethernet frame with a tag.
const MOST_BYTES: usize = 1518;
/// The most frames that may wait. A frame that comes while the queue is full is not punted.
const MOST_FRAMES: usize = 64;
/// The most pings and other ICMP messages among those: they leave room for ARP and neighbour discovery.
const MOST_PINGS: usize = MOST_FRAMES / 2;
/// The most frames of known next hops that may wait: a flood of others leaves room for their answers.
const MOST_ANSWERS: usize = 16;
/// The most next hops that are known. Frames of others wait with those of strangers.
const MOST_KNOWN: usize = 64;
/// The most heartbeats that may wait: those of 64 tools at the highest rate, while the control thread is away for 40 ms.
const MOST_HEARTBEATS: usize = 256;

/// A copy of a frame that is for Tapline itself.
pub struct LocalFrame {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl LocalFrame {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The queue into which workers punt the frames of one port that are for Tapline, and from which the control thread takes them.
pub struct LocalFrames {
    /// The addresses that tunnels on this port are sent from, and those at which tunnels end.
    own: Vec<IpAddr>,
    frames: ArrayQueue<LocalFrame>,
    /// The frames of known next hops about their addresses.
    answers: ArrayQueue<LocalFrame>,
    /// The Ethernet addresses of known next hops, or 0. control: writes; workers: read. A frame that comes as they change waits in one
    /// queue or the other, so relaxed suffices.
    known: Box<[AtomicU64]>,
    /// Frames that found no room. workers: add; control: takes. It orders nothing else, so relaxed suffices.
    refused: AtomicU64,
    returns: Option<Returns>,
}

/// The queue of heartbeats that returned.
struct Returns {
    key: Key,
    heartbeats: ArrayQueue<Heartbeat>,
}

impl LocalFrames {
    /// `key` is the key of heartbeats, if some return by the port.
    pub fn new(own: Vec<IpAddr>, key: Option<Key>) -> Self {
        let returns = key.map(|key| Returns { key, heartbeats: ArrayQueue::new(MOST_HEARTBEATS) });
        Self {
            own,
            frames: ArrayQueue::new(MOST_FRAMES),
            answers: ArrayQueue::new(MOST_ANSWERS),
            known: (0..MOST_KNOWN).map(|_| AtomicU64::new(0)).collect(),
            refused: AtomicU64::new(0),
            returns,
        }
    }

    /// The addresses whose frames are punted.
    pub fn own(&self) -> &[IpAddr] {
        &self.own
    }

    /// worker: copies the frames that are for Tapline to the queue. Gives the heartbeats among the frames, which no rule may see.
    #[inline]
    pub fn punt(&self, frames: &[Frame<'_>], port: &PortCounters) -> Selection {
        if !self.own.is_empty() {
            frames.iter().for_each(|frame| self.offer(frame.bytes()));
        }
        self.take_heartbeats(frames, port)
    }

    /// worker: takes the heartbeats among the frames, which no rule may see.
    #[inline]
    pub fn take_heartbeats(&self, frames: &[Frame<'_>], port: &PortCounters) -> Selection {
        self.returns.as_ref().map_or(Selection::NONE, |returns| returns.take(frames, port))
    }

    /// worker: copies a frame to the queue, if it is for Tapline. A queue that is full drops the frame: whoever asks, asks again.
    #[inline(never)]
    pub fn offer(&self, bytes: &[u8]) {
        let Some(kind) = self.kind_of(bytes).filter(|_| !self.own.is_empty()) else { return };
        let has_room = kind == Kind::Neighbour || self.frames.len() < MOST_PINGS;
        let mut local = LocalFrame { bytes: [0; MOST_BYTES], len: bytes.len() };
        local.bytes[..bytes.len()].copy_from_slice(bytes);
        let is_answer = kind == Kind::Neighbour && self.is_of_known(bytes);
        let queue = if is_answer { &self.answers } else { &self.frames };
        if !has_room || queue.push(local).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns whether a frame is one of a known next hop.
    fn is_of_known(&self, bytes: &[u8]) -> bool {
        let Some(source) = Ethernet::at(bytes, 0).map(|ethernet| word(MacAddress(ethernet.source())))
        else {
            return false;
        };
        self.known.iter().any(|known| known.load(Ordering::Relaxed) == source)
    }

    /// control: gives the known next hops a queue of theirs.
    pub fn know(&self, macs: impl Iterator<Item = MacAddress>) {
        let macs = macs.map(word).chain(std::iter::repeat(0));
        for (known, mac) in self.known.iter().zip(macs) {
            known.store(mac, Ordering::Relaxed);
        }
    }

    /// control: gives how many frames found no room since it was asked last.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// control: takes the next heartbeat.
    pub fn take_heartbeat(&self) -> Option<Heartbeat> {
        self.returns.as_ref()?.heartbeats.pop()
    }

    /// control: takes the next frame, one of a known next hop first.
    pub fn take(&self) -> Option<LocalFrame> {
        self.answers.pop().or_else(|| self.frames.pop())
    }

    /// Finds what a frame is to us: ARP about one of our own addresses or an announcement, neighbour discovery, or ICMP for one of
    /// our own addresses.
    fn kind_of(&self, bytes: &[u8]) -> Option<Kind> {
        if bytes.len() > MOST_BYTES {
            return None;
        }
        let stack = layers::ethernet_stack(bytes, 0);
        let l3 = stack.l3();
        let is_ours = |address: IpAddr| self.own.contains(&address);
        if stack.is_arp() {
            let packet = Arp::at(bytes, l3)?;
            let is_about_us = [packet.sender(), packet.target()]
                .into_iter()
                .any(|address| is_ours(IpAddr::V4(address.into())));
            // a next hop announces itself to all
            return (is_about_us || packet.sender() == packet.target()).then_some(Kind::Neighbour);
        }
        if stack.is_ipv4() && stack.protocol() == ip::ICMP {
            let destination = Ipv4::at(bytes, l3)?.destination();
            return is_ours(IpAddr::V4(destination.into())).then_some(Kind::Ping);
        }
        if !stack.is_ipv6() || stack.protocol() != ip::ICMPV6 {
            return None;
        }
        let header = Ipv6::at(bytes, l3)?;
        let destination = Ipv6Addr::from(header.destination());
        let first = bytes.get(l3 + ipv6::HEADER_LEN).filter(|_| header.next_header() == ip::ICMPV6);
        if first.is_some_and(|kind| matches!(*kind, nd::SOLICITATION | nd::ADVERTISEMENT)) {
            // neighbour solicitations go to a group that an address shares with others
            return (destination.is_multicast() || is_ours(destination.into())).then_some(Kind::Neighbour);
        }
        is_ours(destination.into()).then_some(Kind::Ping)
    }
}

/// Returns an address as a number that is not 0.
fn word(mac: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([1, 0, a, b, c, d, e, f])
}

/// The matter of a frame for Tapline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// The addresses of neighbours: ARP and neighbour discovery.
    Neighbour,
    /// Everything else: pings, answers to pings, ICMP errors.
    Ping,
}

impl Returns {
    fn take(&self, frames: &[Frame<'_>], port: &PortCounters) -> Selection {
        let mut taken = Selection::NONE;
        for (index, frame) in frames.iter().enumerate() {
            if let Some(heartbeat) = Heartbeat::at(frame.bytes(), &self.key) {
                taken.insert(index);
                port.heartbeats.add(1);
                port.heartbeat_bytes.add(frame.bytes().len() as u64);
                // A heartbeat that finds no room is lost.
                let _ = self.heartbeats.push(heartbeat);
            }
        }
        taken
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
        let local_frames = LocalFrames::new(vec![IpAddr::from([198, 18, 0, 1])], None);
        let arp = arp();
        let ping = ipv4(1, [198, 18, 0, 1]);
        let long = [ping.clone(), vec![0; MOST_BYTES]].concat();
        let heard = [
            arp.clone(),
            ipv4(1, [198, 18, 0, 2]),
            ipv4(17, [198, 18, 0, 1]),
            ping.clone(),
            long,
            vec![1; 5],
        ];
        let frames: Vec<Frame<'_>> = heard.iter().map(|bytes| Frame::whole(bytes)).collect();
        assert!(local_frames.punt(&frames, &PortCounters::default()).is_empty());
        let kept: Vec<Vec<u8>> =
            std::iter::from_fn(|| local_frames.take()).map(|frame| frame.bytes().to_vec()).collect();
        assert_eq!(kept, [arp, ping]);
    }

    #[test]
    fn a_full_queue_leaves_the_rest() {
        let local_frames = LocalFrames::new(vec![IpAddr::from([198, 18, 0, 1])], Some([7; 16]));
        let (arp, port) = (arp(), PortCounters::default());
        let heartbeat = Heartbeat { tool: 3, sequence: 9 };
        for _ in 0..2 {
            assert!(local_frames.punt(&[Frame::whole(&arp); 60], &port).is_empty());
        }
        let beat = heartbeat.frame(&[7; 16], MacAddress::BROADCAST, MacAddress([2; 6]));
        assert_eq!(
            local_frames.punt(&[Frame::whole(&arp), Frame::whole(&beat)], &port),
            Selection::from_bits(0b10)
        );
        assert_eq!(std::iter::from_fn(|| local_frames.take()).count(), MOST_FRAMES);
        // what others send cannot keep it out
        assert_eq!(std::iter::from_fn(|| local_frames.take_heartbeat()).collect::<Vec<_>>(), [heartbeat]);
    }

    #[test]
    fn a_flood_leaves_room_for_what_known_next_hops_say() {
        let local_frames = LocalFrames::new(vec![IpAddr::from([198, 18, 0, 1])], None);
        let (known, mut stranger) = (arp(), arp());
        stranger[11] = 0x66;
        local_frames.know([MacAddress([2, 0, 0, 0, 0, 9])].into_iter());
        (0..1000).for_each(|_| local_frames.offer(&stranger));
        local_frames.offer(&known);
        assert_eq!(local_frames.take().expect("it has room").bytes(), known);
        assert_eq!(std::iter::from_fn(|| local_frames.take()).count(), MOST_FRAMES);
        // one that is known no more is a stranger
        local_frames.know(std::iter::empty());
        (0..1000).for_each(|_| local_frames.offer(&known));
        assert_eq!(std::iter::from_fn(|| local_frames.take()).count(), MOST_FRAMES);
    }

    #[test]
    fn heartbeats_are_set_apart_from_packets_and_counted_as_what_they_are() {
        let local_frames = LocalFrames::new(Vec::new(), Some([7; 16]));
        let port = PortCounters::default();
        let beat =
            |key| Heartbeat { tool: 1, sequence: 5 }.frame(&key, MacAddress::BROADCAST, MacAddress([2; 6]));
        let (ours, strangers, arp) = (beat([7; 16]), beat([8; 16]), arp());
        let frames = [&strangers[..], &ours, &arp, &ours].map(Frame::whole);
        port.packets.add(4);
        port.bytes.add(frames.iter().map(|frame| frame.bytes().len() as u64).sum());
        assert_eq!(local_frames.punt(&frames, &port), Selection::from_bits(0b1010));
        assert_eq!((port.received(), port.received_bytes()), (2, (strangers.len() + arp.len()) as u64));
        assert!(local_frames.take().is_none(), "no tunnel leaves by the port");
    }
}
