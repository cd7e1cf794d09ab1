//! Copies that are held until they can leave in the order of their times.

use super::count::count_lost;
use super::reorder::Order;
use crate::copies::facts::Stamps;
use crate::counters::EgressCounters;
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::{MbufQueue, Packet, RxStamp};
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};

/// Copies that are held until they can leave in order.
pub struct Merge {
    pub(super) order: Order<Packet>,
    /// On their way in.
    pub(super) staged: MbufQueue,
    /// The field in which other workers note the time of copies that they hand over.
    place: RxStamp,
}

/// The fate of copies that wait to leave in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Earlier ones may be about to come.
    Stay,
    /// Those that have waited for the window go.
    Expire,
    /// All go.
    Leave,
}

impl Merge {
    /// For a queue of `capacity` copies, those that are held included: a burst of it, or half where it is short, is left for those
    /// that may go. Where no more can be held the earliest go before their time.
    pub fn new(window_ns: u64, capacity: usize, place: RxStamp) -> Self {
        let capacity = capacity.saturating_sub(MAX_BURST).max(capacity / 2);
        Self { order: Order::new(window_ns, capacity), staged: MbufQueue::with_capacity(MAX_BURST), place }
    }

    /// Orders what is staged, of the times of `stamps`, or of those that the packets carry.
    pub(super) fn take_in(
        &mut self,
        stamps: Option<(Selection, &Stamps)>,
        queue: &mut MbufQueue,
        counted: &EgressCounters,
    ) {
        let now_ns = clock::monotonic_ns();
        let (mut late, mut lost) = (0, 0);
        let mut out = |packet| lost += u64::from(queue.push(packet).is_err());
        let mut indices = stamps.map(|(selection, stamps)| (selection.indices(), stamps));
        while let Some(packet) = self.staged.pop() {
            fault::panics("merge");
            let noted = indices.as_mut().and_then(|(indices, stamps)| Some(stamps.ns[indices.next()?]));
            let ns = noted.unwrap_or_else(|| packet.stamp(self.place));
            late += u64::from(self.order.push(ns, now_ns, packet, &mut out));
        }
        self.order.release(None, &mut out);
        counted.late.add(late);
        count_lost(counted, lost);
    }

    pub(super) fn release(&mut self, held: Held, queue: &mut MbufQueue, counted: &EgressCounters) {
        if self.order.is_empty() {
            return;
        }
        let mut lost = 0;
        let mut out = |packet| lost += u64::from(queue.push(packet).is_err());
        match held {
            Held::Stay => self.order.release(None, &mut out),
            Held::Expire => self.order.release(Some(clock::monotonic_ns()), &mut out),
            Held::Leave => self.order.release_all(&mut out),
        }
        count_lost(counted, lost);
    }
}
