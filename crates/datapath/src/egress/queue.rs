//! Copies that wait for a tool, and how they enter and leave the queue.

use super::admission::Fill;
use super::backlog::Backlog;
use super::count::{count_lost, count_sent, less_cut, note_latency};
use super::gate::Gate;
use super::incoming::Incoming;
use super::merge::Merge;
use super::mtu::FrameLimits;
use crate::copies::facts::Stamps;
use crate::counters::EgressCounters;
use tapline_api::words::DropReason;
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::{MbufQueue, Shared};
use tapline_dpdk::queue::{Moved, TxQueue};
use tapline_dpdk::ring::Sender;
use tapline_packet::burst::Selection;

/// Copies of one burst do not wait for more, where none wait before them, if they are this part of a burst, or all that was
/// received, or if a call of the driver costs little: their mbufs are still in the first cache.
const FULL_ENOUGH: u64 = 4;

/// Copies that wait for a tool.
pub struct EgressQueue {
    pub(super) mbufs: MbufQueue,
    pub(super) gate: Option<Box<Gate>>,
    /// Puts copies in the order of their times, if the tool asks for that.
    pub(super) merge: Option<Box<Merge>>,
    /// A packet in the queue whose latency is measured.
    marker: Option<Marker>,
    /// Takes all copies that there is room for, and sends them as soon and in whatever order they come.
    pub(super) is_plain: bool,
    /// A call of its driver costs little beside what each packet costs.
    has_cheap_calls: bool,
    /// Its transmit queue is one of [`Outlets::shared`].
    pub(super) is_shared: bool,
    /// That queue does not take all that waits for it: copies wait for the tool's turn, and do not go past others.
    pub(super) is_crowded: bool,
    /// Copies that came from other workers, and those that went to the ring of another.
    pub(super) taken_over: u64,
    pub(super) handed_over: u64,
}

/// The position of a timed packet in a queue.
struct Marker {
    /// Packets that go before it.
    ahead: usize,
    /// When it was polled, in ticks.
    polled: u64,
}

impl EgressQueue {
    /// An empty queue for `capacity` packets.
    pub fn new(capacity: usize, gate: Option<Gate>, merge: Option<Merge>, has_cheap_calls: bool) -> Self {
        let mut queue = Self {
            has_cheap_calls,
            mbufs: MbufQueue::with_capacity(capacity),
            gate: gate.map(Box::new),
            merge: merge.map(Box::new),
            marker: None,
            is_plain: false,
            is_shared: false,
            is_crowded: false,
            taken_over: 0,
            handed_over: 0,
        };
        queue.judge_plain();
        queue
    }

    pub(super) fn judge_plain(&mut self) {
        self.is_plain = self.gate.is_none() && self.merge.is_none() && !self.is_crowded;
    }

    /// Copies that wait.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.mbufs.len() + self.merge.as_ref().map_or(0, |merge| merge.order.len())
    }

    /// And their bytes, where there is a limit to them.
    #[inline]
    pub(super) fn fill(&self) -> Fill {
        Fill { packets: self.len(), bytes: self.gate.as_ref().map_or(0, |gate| gate.bytes) }
    }

    /// Returns whether the rate, not the port, held the last copies back.
    pub(super) fn is_held_by_rate(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_held_by_rate)
    }

    /// Frees what was on its way into the order, and forgets what is measured.
    #[cold]
    pub(super) fn mend(&mut self) {
        let staged_bytes = self.merge.as_mut().map(|merge| {
            let bytes = merge.staged.bytes();
            merge.staged.clear();
            bytes
        });
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.limits.has_bytes()) {
            gate.bytes = staged_bytes.map_or(self.mbufs.bytes(), |bytes| gate.bytes.saturating_sub(bytes));
        }
        self.marker = None;
    }

    /// Takes copies for a plain queue: to the driver, into the queue, or to their end.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "hot path: what differs by tool; a struct would be filled for each tool of a burst"
    )]
    pub(super) fn give(
        &mut self,
        txq: &mut TxQueue,
        tx_burst: usize,
        shared: &mut Shared<'_>,
        selection: Selection,
        polled: Option<u64>,
        counted: &EgressCounters,
    ) {
        let requested = u64::from(selection.count());
        let is_enough = || {
            self.has_cheap_calls || requested * FULL_ENOUGH >= tx_burst as u64 || shared.is_whole(selection)
        };
        if self.mbufs.is_empty() && is_enough() {
            let (sent, lost) = shared.transmit(selection, txq, &mut self.mbufs);
            let sent = less_cut(sent, txq, counted);
            return self.note_sent(requested, sent, lost, polled, counted);
        }
        let before = self.mbufs.len();
        let kept = shared.take(selection, &mut self.mbufs) as u64;
        count_lost(counted, requested - kept);
        self.mark(before, polled);
        counted.note_depth(self.mbufs.len());
        if self.mbufs.len() >= tx_burst {
            self.transmit(txq, tx_burst, counted);
        }
    }

    /// The first packet behind `before` of them is timed, if one came and none is timed yet.
    #[inline(always)]
    fn mark(&mut self, before: usize, polled: Option<u64>) {
        if let Some(polled) = polled
            && self.marker.is_none()
            && self.mbufs.len() > before
        {
            self.marker = Some(Marker { ahead: before, polled });
        }
    }

    /// Counts copies that went straight to the driver, and of the rest those that the queue had no room for.
    #[inline(always)]
    pub(super) fn note_sent(
        &self,
        requested: u64,
        sent: Moved,
        lost: usize,
        polled: Option<u64>,
        counted: &EgressCounters,
    ) {
        count_sent(counted, sent);
        if let Some(polled) = polled.filter(|_| sent.packets > 0) {
            note_latency(counted, polled);
        }
        if sent.packets as u64 != requested {
            self.note_rest(lost, counted);
        }
    }

    #[cold]
    fn note_rest(&self, lost: usize, counted: &EgressCounters) {
        counted.note_depth(self.mbufs.len());
        count_lost(counted, lost as u64);
    }

    /// Queues what is admitted of `selection`, frees the rest and counts it.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "hot path: what differs by tool; a struct would be filled for each tool of a burst"
    )]
    pub(super) fn enter(
        &mut self,
        shared: &mut Shared<'_>,
        selection: Selection,
        stamps: &Stamps,
        by_class: impl FnOnce() -> [Selection; 3],
        polled: Option<u64>,
        counted: &EgressCounters,
    ) {
        let fill = self.fill();
        let before = self.mbufs.len();
        let mut admitted = selection;
        let (mbufs, is_merged) = match &mut self.merge {
            Some(merge) => (&mut merge.staged, true),
            None => (&mut self.mbufs, false),
        };
        match &mut self.gate {
            None => {
                let kept = shared.take(selection, mbufs) as u64;
                count_lost(counted, u64::from(selection.count()) - kept);
            }
            Some(gate) => {
                admitted = gate.admit(fill, gate.reason(), shared, selection, by_class(), counted);
                // the limit of class high is the queue's capacity, so all of these fit
                shared.take(admitted, mbufs);
                if gate.limits.has_bytes() {
                    gate.bytes += mbufs.bytes_behind(if is_merged { 0 } else { before });
                }
            }
        }
        if let Some(merge) = &mut self.merge {
            merge.take_in(Some((admitted, stamps)), &mut self.mbufs, counted);
            return counted.note_depth(self.len());
        }
        self.mark(before, polled);
        counted.note_depth(self.mbufs.len());
    }

    /// Gathers what is admitted of `selection` for the ring, frees the rest and counts it.
    #[inline]
    pub(super) fn enter_backlog(
        &mut self,
        backlog: &Backlog,
        shared: &mut Shared<'_>,
        selection: Selection,
        by_class: impl FnOnce() -> [Selection; 3],
        counted: &EgressCounters,
    ) {
        let Some(gate) = &mut self.gate else { return shared.discard(selection) };
        let (fill, before) = (backlog.fill(), self.mbufs.len());
        let admitted = gate.admit(fill, backlog.reason(), shared, selection, by_class(), counted);
        // what is gathered goes at the latest when it is a burst, and the queue holds two
        let packets = shared.take(admitted, &mut self.mbufs);
        let bytes = if gate.limits.has_bytes() { self.mbufs.bytes_behind(before) } else { 0 };
        gate.bytes += bytes;
        backlog.change(Fill::default(), Fill { packets, bytes });
        // the owner says what waits
        counted.queue_peak.peak((fill.packets + packets) as u64);
    }

    /// Sends what the port takes and the rate allows. Returns whether anything went.
    #[inline]
    pub(super) fn transmit(
        &mut self,
        txq: &mut TxQueue,
        tx_burst: usize,
        counted: &EgressCounters,
    ) -> bool {
        let sent = match &mut self.gate {
            None => self.mbufs.transmit(txq, tx_burst),
            Some(gate) => gate.transmit(&mut self.mbufs, txq, tx_burst),
        };
        self.note_transmitted(less_cut(sent, txq, counted), counted);
        sent.packets > 0
    }

    /// Sends at most `most` packets in one call of the driver, as far as the rate allows. Gives the number that the port took, and
    /// the number that it was offered.
    pub(super) fn transmit_some(
        &mut self,
        txq: &mut TxQueue,
        most: usize,
        counted: &EgressCounters,
    ) -> (usize, usize) {
        let (sent, offered) = match &mut self.gate {
            None => (self.mbufs.transmit_some(txq, most), most),
            Some(gate) => gate.transmit_some(&mut self.mbufs, txq, most),
        };
        self.note_transmitted(less_cut(sent, txq, counted), counted);
        (sent.packets, offered)
    }

    #[inline(always)]
    fn note_transmitted(&mut self, sent: Moved, counted: &EgressCounters) {
        if sent.packets == 0 {
            self.look_why(counted);
        }
        count_sent(counted, sent);
        counted.note_depth(self.mbufs.len());
        if let Some(marker) = &mut self.marker {
            if marker.ahead < sent.packets {
                counted.latency.record(clock::tsc().wrapping_sub(marker.polled));
                self.marker = None;
            } else {
                marker.ahead -= sent.packets;
            }
        }
    }

    /// Says what alarms go by.
    pub(super) fn note_gate(&self, counted: &EgressCounters) {
        if let Some(gate) = &self.gate {
            counted.queued_bytes.set(gate.bytes);
            counted.is_held_by_rate.set(u64::from(gate.is_held_by_rate));
        }
    }

    /// Notes that what waits is not offered to the port.
    #[cold]
    pub(super) fn hold(&mut self) {
        if let Some(gate) = &mut self.gate {
            gate.is_held_by_rate = false;
        }
    }

    /// The port took nothing: a frame that another worker handed over, or that was held to leave in order, when the MTU was
    /// lowered may stand at the front, and would for ever.
    #[cold]
    fn look_why(&mut self, counted: &EgressCounters) {
        if let Some(fit) = self.gate.as_ref().and_then(|gate| gate.fit)
            && self.mbufs.front().is_some_and(|(len, ethertype)| fit.is_long(len, || ethertype))
        {
            self.sift(fit, counted);
        }
    }

    /// Drops what waits and is too long for the port.
    #[cold]
    pub(super) fn sift(&mut self, fit: FrameLimits, counted: &EgressCounters) {
        let mut long = 0;
        for _ in 0..self.mbufs.len() {
            let is_long = self.mbufs.front().is_some_and(|(len, ethertype)| fit.is_long(len, || ethertype));
            let Some(packet) = self.mbufs.pop() else { break };
            if is_long {
                long += 1;
            } else {
                // there is the room that it left
                let _ = self.mbufs.push(packet);
            }
        }
        if long == 0 {
            return;
        }
        counted.drop_copies(DropReason::Oversize, long);
        // what it counts is not before it any more
        self.marker = None;
        if let Some(gate) = &mut self.gate
            && gate.limits.has_bytes()
        {
            gate.bytes = self.mbufs.bytes();
        }
        counted.note_depth(self.len());
    }

    /// Moves copies to the ring, as many as fit. Returns whether any did.
    #[inline]
    pub(super) fn hand_over(&mut self, ring: &Sender) -> bool {
        let moved = ring.send(&mut self.mbufs);
        self.handed_over += moved as u64;
        if let Some(gate) = &mut self.gate
            && gate.limits.has_bytes()
        {
            gate.bytes = self.mbufs.bytes();
        }
        moved > 0
    }

    /// Takes what other workers hand over, as far as there is room.
    pub(super) fn take_over(&mut self, incoming: &mut Incoming, counted: &EgressCounters) -> bool {
        let Incoming { ring, known, .. } = incoming;
        let Self { mbufs, gate, merge, taken_over, .. } = self;
        let mut gate = gate.as_mut().filter(|gate| gate.limits.has_bytes());
        // noted before anything else is done with them
        let mut note = |packets: usize, bytes: &dyn Fn() -> u64| {
            *taken_over += packets as u64;
            let bytes = gate.as_mut().map_or(0, |gate| {
                let bytes = bytes();
                gate.bytes += bytes;
                bytes
            });
            *known = Fill { packets: known.packets + packets, bytes: known.bytes + bytes };
        };
        let Some(merge) = merge else {
            let before = mbufs.len();
            let packets = ring.receive(mbufs);
            note(packets, &|| mbufs.bytes_behind(before));
            return packets > 0;
        };
        let mut has_taken = false;
        loop {
            let room = mbufs.room().saturating_sub(merge.order.len());
            let packets = ring.receive_at_most(&mut merge.staged, room);
            if packets == 0 {
                return has_taken;
            }
            note(packets, &|| merge.staged.bytes());
            merge.take_in(None, mbufs, counted);
            has_taken = true;
        }
    }
}
