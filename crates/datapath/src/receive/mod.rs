//! Receive: one poll of one receive queue, of an interface of the kernel, or of a capture that is replayed, into the burst.

/// Frames that af_packet cut, by their lengths.
pub mod af_packet_cut;
/// Finds the receive times of a port's packets.
pub mod clock;
/// A port's clock beside the system's: a line through readings of both.
pub mod clock_fit;
/// Tunnels that end at a port.
pub mod decap;
/// Packets of one queue, spread over lcores by their flows.
pub mod distribute;
/// Interfaces of the kernel as ports.
pub mod iface;
/// Frames for Tapline itself: ARP, neighbour discovery, ping.
pub mod local_frames;
/// Captures as ports.
pub mod replay;
/// When packets came, for rules that go by time.
pub mod times;
/// Which tunnel a packet came by.
pub mod tunnel_match;

use std::sync::Arc;

use self::af_packet_cut::Longest;
use self::clock::{ClockView, RxClock};
use self::decap::Endpoint;
use self::distribute::{RingTimes, Spread};
use self::iface::Iface;
use self::local_frames::LocalFrames;
use self::replay::Replay;
use super::copies::build::Maker;
use super::copies::facts::Stamps;
use super::counters::WorkerCounters;
use super::egress::outlets::Outlets;
use super::ids::{Attachment, PortId};
use super::swap::published::LiveView;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::queue::RxQueue;
use tapline_dpdk::ring::BurstReceiver;

/// A source that a worker polls, and what happens to its packets first.
pub struct Intake {
    pub port: PortId,
    pub attachment: Attachment,
    pub source: Source,
    /// Its packets were written by a device or by another core: this one has to fetch them.
    pub is_cold: bool,
    /// Ends tunnels.
    pub endpoint: Option<Box<Endpoint>>,
    /// The queue for frames that are for Tapline itself, if tunnels leave by the port.
    pub local_frames: Option<Arc<LocalFrames>>,
    /// Hands packets to other lcores without looking at rules, if those do the work.
    pub spread: Option<Box<Spread>>,
    /// The NIC says how it hashed packets, and they come as it saw them.
    pub gives_rss: bool,
    /// The driver cuts longer frames without a word.
    pub longest: Option<Longest>,
    /// Its port is stopped: it is not polled.
    pub is_stopped: bool,
}

/// The source of packets.
pub enum Source {
    Queue {
        rxq: RxQueue,
        clock: RxClock,
    },
    Replay(Box<Replay>),
    /// An interface of the kernel.
    Iface(Box<Iface>),
    /// The packets of a port's queue that a receive lcore hands over.
    Ring {
        ring: BurstReceiver,
        times: Option<RingTimes>,
    },
}

impl Intake {
    /// No packets are taken for a while.
    pub fn pause(&mut self) {
        if let Source::Replay(replay) = &mut self.source {
            replay.pause();
        }
    }

    /// Packets are taken again, unless the port is stopped.
    pub fn resume(&mut self) {
        if let Source::Replay(replay) = &mut self.source
            && !self.is_stopped
        {
            replay.resume();
        }
    }

    /// Writes the receive times of a burst that was just polled; replays and interfaces have done so by themselves.
    #[inline]
    pub fn stamp(&mut self, burst: &MbufBurst, poll: &mut ClockView, stamps: &mut Stamps) {
        match &mut self.source {
            Source::Queue { clock, .. } => clock.stamp(burst, poll, stamps),
            Source::Ring { times: Some(times), .. } => times.read(burst, stamps),
            Source::Ring { times: None, .. } | Source::Replay(_) | Source::Iface(_) => {}
        }
    }

    /// Returns whether packets have times of their own, which [`stamp`](Self::stamp) writes: those of a file, of a NIC or of their tunnel.
    #[inline]
    pub fn has_times(&self) -> bool {
        match &self.source {
            Source::Queue { clock: RxClock::Poll, .. } | Source::Ring { times: None, .. } => {
                self.endpoint.as_ref().is_some_and(|endpoint| endpoint.says_times())
            }
            Source::Queue { .. } | Source::Ring { .. } | Source::Replay(_) | Source::Iface(_) => true,
        }
    }

    /// When the first packet of a burst that was polled at `polled` was received, in ticks: what latency is measured from.
    #[cold]
    pub fn received_at(&mut self, polled: u64, burst: &MbufBurst, poll: &mut ClockView) -> u64 {
        match &mut self.source {
            Source::Queue { clock, .. } => clock.received_at(polled, burst, poll),
            Source::Iface(iface) => iface.received_at(polled, poll),
            Source::Ring { .. } | Source::Replay(_) => polled,
        }
    }

    /// The time of the next packet of a replay whose packets are put in order; others do not wait for one that is stopped.
    pub fn next_in_step(&mut self) -> Option<u64> {
        match &mut self.source {
            Source::Replay(replay) if replay.step_ns().is_some() && !self.is_stopped => replay.next_time(),
            _ => None,
        }
    }

    /// The next packet of all other replays in step is of time `next_ns`.
    pub fn keep_within(&mut self, next_ns: u64) {
        if let Source::Replay(replay) = &mut self.source {
            replay.keep_within(next_ns);
        }
    }

    /// A replay that had more packets to give when it was polled last.
    #[inline]
    pub fn is_behind(&self) -> bool {
        matches!(&self.source, Source::Replay(replay) if replay.is_behind())
    }

    /// Returns whether it is a queue of a running device whose packets this lcore carries itself: nothing else is to be asked of it.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        matches!(self.source, Source::Queue { .. }) && self.spread.is_none() && !self.is_stopped
    }

    /// Returns how many of `limit` packets may be asked for: what surely finds room, where it can wait; none of a port that is stopped.
    /// `maker` is there where copies of the port's packets are made.
    pub fn room(
        &mut self,
        limit: usize,
        outlets: &Outlets,
        live: &LiveView,
        maker: Option<&mut Maker>,
    ) -> usize {
        if self.is_stopped {
            return 0;
        }
        let limit = match &mut self.source {
            Source::Replay(replay) if outlets.has_captures && replay.is_flat_out() => {
                room_for_captures(replay, limit.min(outlets.capture_room(live.get())), maker)
            }
            _ => limit,
        };
        self.spread.as_mut().map_or(limit, |spread| spread.room(limit))
    }

    /// Other lcores receive for this one.
    pub fn is_ring(&self) -> bool {
        matches!(self.source, Source::Ring { .. })
    }

    /// A replay flat out: it can wait for tools that want every packet.
    pub fn is_flat_out(&self) -> bool {
        matches!(&self.source, Source::Replay(replay) if replay.is_flat_out())
    }
}

/// How many of `limit` packets of a replay that can wait find mbufs for their copies to captures; all if it has no more packets.
fn room_for_captures(replay: &mut Replay, limit: usize, maker: Option<&mut Maker>) -> usize {
    let Some(maker) = maker.filter(|_| limit > 0) else { return limit };
    let mut lens = replay.next_lens(limit).peekable();
    if lens.peek().is_none() { limit } else { maker.room(lens) }
}

/// Polls once for at most `limit` packets, and counts them; the number received. Packets of replays and interfaces have their times in
/// `stamps`.
#[inline(always)]
pub fn receive(
    intake: &mut Intake,
    limit: usize,
    burst: &mut MbufBurst,
    stamps: &mut Stamps,
    counters: &WorkerCounters,
) -> usize {
    let moved = match &mut intake.source {
        Source::Queue { rxq, .. } => burst.receive(rxq, limit),
        Source::Replay(replay) => replay.receive(burst, limit, stamps),
        Source::Iface(iface) => iface.receive(burst, limit, stamps),
        Source::Ring { ring, .. } => return receive_from(ring, limit, burst, counters),
    };
    if moved.packets == 0 {
        counters.lcore.empty_polls.add(1);
        return 0;
    }
    counters.lcore.bursts[moved.packets.ilog2() as usize].add(1);
    let port = &counters.ports[intake.port];
    port.packets.add(moved.packets as u64);
    port.bytes.add(moved.bytes);
    if let Some(longest) = intake.longest {
        port.cut.add(longest.count_cut(burst));
    }
    moved.packets
}

/// As [`receive`], from a ring: the receive lcore has counted the packets for the port.
#[inline(never)]
fn receive_from(
    ring: &mut BurstReceiver,
    limit: usize,
    burst: &mut MbufBurst,
    counters: &WorkerCounters,
) -> usize {
    let packets = ring.receive(burst, limit);
    if packets == 0 {
        counters.lcore.empty_polls.add(1);
    } else {
        counters.lcore.bursts[packets.ilog2() as usize].add(1);
        counters.lcore.from_rings.add(packets as u64);
    }
    packets
}
