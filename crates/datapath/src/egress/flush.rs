//! Sends what waits, and frees what was not sent in time.

use super::incoming::Incoming;
use super::merge::Held;
use super::outlet::Outlet;
use super::outlets::{ControlFrames, Outlets};
use crate::counters::{EgressCounters, WorkerCounters};
use crate::egresses::Egresses;
use crate::ids::EgressId;
use crate::swap::published::Live;
use crate::swap::setup::Release;
use tapline_api::words::DropReason;
use tapline_dpdk::queue::TxQueue;
use tapline_fault as fault;

/// Sends what waits, other workers' copies included.
pub fn flush(outlets: &mut Outlets, held: Held, live: &Live, counters: &WorkerCounters) -> Flushed {
    let Outlets { egresses, txqs, shared, handovers, control_frames, tx_burst, kinds, .. } = outlets;
    fault::panics("flush");
    let (mut flushed, mut leaving_left) = (Flushed::default(), false);
    send_control_frames(control_frames, txqs, *tx_burst);
    for incoming in handovers.iter_mut() {
        if let Outlet::Port { queue, .. } = &mut egresses[incoming.egress] {
            flushed.has_moved |= queue.take_over(incoming, &counters.egresses[incoming.egress]);
            let is_left = incoming.ring.count() > 0;
            leaving_left |= is_left && kinds.is_leaving(incoming.egress);
            flushed.note_left(is_left, incoming.egress, *kinds, live);
        }
    }
    for (id, outlet) in egresses.entries_mut().rev() {
        let counted = &counters.egresses[id];
        if let Outlet::Port { queue, .. } = outlet
            && queue.is_plain
            && queue.mbufs.is_empty()
        {
            // nothing waits, and nothing limits it
            continue;
        }
        if let Outlet::Port { queue, .. } = outlet
            && let Some(merge) = &mut queue.merge
        {
            // nothing comes any more that what leaves could be put in order with
            let held = if kinds.is_leaving(id) { Held::Leave } else { held };
            merge.release(held, &mut queue.mbufs, counted);
            counted.note_depth(queue.len());
        }
        let left = match outlet {
            // in its turn, below
            Outlet::Port { queue, .. } if queue.is_shared => continue,
            Outlet::Port { txq, queue } if !queue.mbufs.is_empty() => {
                if live.can_send[id] {
                    flushed.has_moved |= queue.transmit(&mut txqs[*txq], *tx_burst, counted);
                } else {
                    queue.hold();
                }
                queue.note_gate(counted);
                queue.len()
            }
            Outlet::Port { queue, .. } => {
                queue.note_gate(counted);
                queue.len()
            }
            Outlet::Handover { ring, queue, .. } if !queue.mbufs.is_empty() => {
                flushed.has_moved |= queue.hand_over(ring);
                queue.mbufs.len()
            }
            Outlet::Capture(queue) => {
                let is_left = queue.flush(held == Held::Stay);
                counted.queue_depth.set(queue.depth() as u64);
                usize::from(is_left)
            }
            Outlet::Handover { .. } | Outlet::Discard | Outlet::Down => 0,
        };
        // what waits for a writer is written after the writer's rings are closed
        let waits_here = !matches!(outlet, Outlet::Capture(_));
        leaving_left |= left > 0 && waits_here && kinds.is_leaving(id);
        flushed.note_left(left > 0, id, *kinds, live);
    }
    for shared in shared.iter_mut() {
        flushed.has_moved |= shared.serve(egresses, txqs, *tx_burst, |id| live.can_send[id], counters);
        for &id in &shared.egresses {
            if let Outlet::Port { queue, .. } = &egresses[id] {
                queue.note_gate(&counters.egresses[id]);
                leaving_left |= queue.len() > 0 && kinds.is_leaving(id);
                flushed.note_left(queue.len() > 0, id, *kinds, live);
            }
        }
    }
    if egresses.len() > kinds.count() {
        note_leaving(leaving_left, counters);
    }
    for incoming in handovers.iter_mut() {
        if let Outlet::Port { queue, .. } = &egresses[incoming.egress] {
            incoming.settle(queue.fill(), queue.is_held_by_rate(), &counters.egresses[incoming.egress]);
        }
    }
    flushed
}

/// Counts the flush, if nothing was left of what leaves.
#[cold]
fn note_leaving(is_left: bool, counters: &WorkerCounters) {
    let flushes = if is_left { 0 } else { counters.lcore.left_nothing.get() + 1 };
    counters.lcore.left_nothing.set(flushes);
}

/// Sends the frames of the control thread that wait.
#[inline(always)]
fn send_control_frames(frames: &mut [ControlFrames], txqs: &mut [TxQueue], tx_burst: usize) {
    for ControlFrames { txq, ring, queue } in frames {
        ring.receive(queue);
        if !queue.is_empty() {
            queue.transmit(&mut txqs[*txq], tx_burst);
        }
    }
}

/// The outcome of a flush.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// Some packets still wait.
    pub is_left: bool,
    /// Some copies for tools that are up.
    pub are_copies_left: bool,
    /// Some originals on a wire whose other side has a link.
    pub are_originals_left: bool,
    /// Some copies went.
    pub has_moved: bool,
}

impl Flushed {
    #[inline(always)]
    fn note_left(&mut self, is_left: bool, id: EgressId, kinds: Egresses, live: &Live) {
        if is_left {
            self.is_left = true;
            let is_up = live.egress_up[id];
            // what waits for a link may wait for ever
            self.are_originals_left |= is_up && !kinds.is_tool(id);
            self.are_copies_left |= is_up && kinds.is_tool(id);
        }
    }
}

/// Frees what was not sent in time and counts it: the end of a drain. Every worker has stopped. What waited has a reason but no
/// class.
pub fn abandon(outlets: &mut Outlets, counters: &WorkerCounters) {
    for (outlet, counted) in outlets.egresses.iter_mut().zip(&counters.egresses) {
        if let Outlet::Capture(queue) = outlet {
            counted.drop_copies(DropReason::Congested, queue.abandon() as u64);
            counted.queue_depth.set(0);
        }
        abandon_queue(outlet, counted);
    }
    for incoming in &mut outlets.handovers {
        abandon_ring(incoming, counters);
    }
}

/// Frees what waits for a port and counts it; the number freed.
fn abandon_queue(outlet: &mut Outlet, counted: &EgressCounters) -> u64 {
    let (Outlet::Port { queue, .. } | Outlet::Handover { queue, .. }) = outlet else { return 0 };
    if let Some(merge) = &mut queue.merge {
        merge.release(Held::Leave, &mut queue.mbufs, counted);
    }
    let reason = queue.gate.as_ref().map_or(DropReason::Congested, |gate| gate.reason());
    let copies = queue.mbufs.clear() as u64;
    counted.drop_copies(reason, copies);
    counted.queue_depth.set(0);
    copies
}

/// Frees what was handed over and not taken, and counts it; the number freed.
fn abandon_ring(incoming: &mut Incoming, counters: &WorkerCounters) -> u64 {
    let copies = incoming.ring.clear() as u64;
    counters.egresses[incoming.egress].drop_copies(incoming.backlog.reason(), copies);
    copies
}

impl Release {
    /// control: ends outlets that all workers have let go of. What was not sent in time is freed and counted; what a capture's writer
    /// has not got yet, it gets. Gives the copies that were freed, by the ids that their egresses had.
    pub fn end(&mut self, counters: &WorkerCounters) -> Vec<(EgressId, u64)> {
        let mut freed = Vec::new();
        for (id, outlet) in &mut self.outlets {
            if let Outlet::Capture(queue) = outlet {
                queue.finish();
            }
            freed.push((*id, abandon_queue(outlet, &counters.egresses[*id])));
        }
        for incoming in &mut self.handovers {
            freed.push((incoming.egress, abandon_ring(incoming, counters)));
        }
        freed.retain(|&(_, copies)| copies > 0);
        freed
    }
}
