//! A worker's way to one tool, or out of a wire: here the kind of tool is told apart, once a burst, and copies go on to a transmit
//! queue, another worker, a capture's writer, or their end.

use std::sync::Arc;

use super::admission::QueueLimits;
use super::backlog::Backlog;
use super::capture_queue::{CaptureQueue, Origin};
use super::count::count_lost;
use super::gate::Gate;
use super::mtu::FrameLimits;
use super::queue::EgressQueue;
use crate::counters::EgressCounters;
use crate::ids::RuleMark;
use tapline_api::words::DropReason;
use tapline_dpdk::mbuf::Shared;
use tapline_dpdk::queue::TxQueue;
use tapline_dpdk::ring::Sender;
use tapline_packet::burst::{MAX_BURST, Selection};

/// A worker's way to one tool, or out of a wire.
pub enum Outlet {
    /// Through a transmit queue of the worker's own: its place in `Outlets::txqs`.
    Port { txq: usize, queue: EgressQueue },
    /// Through a ring to the worker that owns the tool's transmit queue. The queue gathers copies for the ring; what it admits is
    /// judged by all that waits for the tool there.
    Handover { ring: Sender, backlog: Arc<Backlog>, queue: EgressQueue },
    /// To the thread that writes the tool's file.
    Capture(CaptureQueue),
    /// Counted and freed.
    Discard,
    /// The tool's port is stopped: freed and counted as dropped.
    Down,
}

/// The part of a burst that an egress is to get.
pub(super) struct Asked<'a> {
    pub(super) selection: Selection,
    pub(super) origin: Origin<'a>,
    /// The rules that chose the packets, of a store.
    pub(super) chosen: Option<&'a [RuleMark; MAX_BURST]>,
    pub(super) polled: Option<u64>,
    pub(super) counted: &'a EgressCounters,
}

impl Outlet {
    /// Lets the tool's queue admit what fits `limits` from now on. They have no limit in bytes if those before had none.
    #[cold]
    pub fn set_limits(&mut self, limits: QueueLimits) {
        if let Outlet::Port { queue, .. } | Outlet::Handover { queue, .. } = self {
            match &mut queue.gate {
                Some(gate) => gate.limits = limits,
                gate @ None => *gate = Some(Box::new(Gate::new(limits, None, None))),
            }
            queue.judge_plain();
        }
    }

    /// Sets the frames that the tool's port takes from now on, if it does not take all.
    #[cold]
    pub fn refit(&mut self, fit: FrameLimits, counted: &EgressCounters) {
        if let Outlet::Port { queue, .. } | Outlet::Handover { queue, .. } = self
            && let Some(known) = queue.gate.as_mut().and_then(|gate| gate.fit.as_mut())
            && *known != fit
        {
            *known = fit;
            let before = queue.fill();
            queue.sift(fit, counted);
            if let Outlet::Handover { backlog, queue, .. } = self {
                backlog.change(before, queue.fill());
                // the owner says what waits
                counted.queue_depth.set(0);
            }
        }
    }

    /// Sets right what a stage that unwound left half done. Gives the copies that the outlet holds or has handed to others, and those
    /// that it took over from others.
    #[cold]
    pub(super) fn mend(&mut self) -> (u64, u64) {
        match self {
            Outlet::Port { queue, .. } | Outlet::Handover { queue, .. } => {
                queue.mend();
                (queue.len() as u64 + queue.handed_over, queue.taken_over)
            }
            Outlet::Capture(queue) => {
                queue.mend();
                (queue.taken(), 0)
            }
            Outlet::Discard | Outlet::Down => (0, 0),
        }
    }

    /// Takes a tool's copies, which are counted as requested: to the driver, into its queue, or to their end.
    /// Returns whether a burst waits for the tool's turn.
    #[inline(never)]
    pub(super) fn give(
        &mut self,
        txqs: &mut [TxQueue],
        tx_burst: usize,
        shared: &mut Shared<'_>,
        asked: &Asked<'_>,
        by_class: impl FnOnce() -> [Selection; 3],
    ) -> bool {
        let &Asked { selection, origin, chosen, polled, counted } = asked;
        let requested = u64::from(selection.count());
        match self {
            Outlet::Port { txq, queue } if queue.is_plain => {
                queue.give(&mut txqs[*txq], tx_burst, shared, selection, polled, counted);
            }
            Outlet::Port { txq, queue } => {
                let txq = &mut txqs[*txq];
                queue.enter(shared, selection, origin.stamps, by_class, polled, counted);
                if queue.mbufs.len() >= tx_burst {
                    if queue.is_crowded {
                        return true;
                    }
                    queue.transmit(txq, tx_burst, counted);
                }
            }
            Outlet::Handover { ring, backlog, queue } => {
                queue.enter_backlog(backlog, shared, selection, by_class, counted);
                if queue.mbufs.len() >= tx_burst {
                    queue.hand_over(ring);
                }
            }
            Outlet::Capture(queue) => {
                let taken = queue.enter(shared, selection, origin, chosen) as u64;
                counted.note_depth(queue.depth());
                count_lost(counted, requested - taken);
            }
            Outlet::Discard => {
                shared.discard(selection);
                counted.sent.add(requested);
            }
            Outlet::Down => {
                shared.discard(selection);
                counted.drop_copies(DropReason::Down, requested);
            }
        }
        false
    }
}
