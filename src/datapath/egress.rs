//! Egress: a bounded queue for each tool, transmit, and the reason for every copy that is not sent.
//!
//! The last stage. Copies go straight to the driver where a tool takes the whole burst and nothing waits before it; else they queue.

use crate::dpdk::mbuf::{MbufBurst, MbufQueue};
use crate::dpdk::queue::TxQueue;
use crate::dpdk::ring::{Receiver, Sender};
use crate::stats::counters::{DropReason, ToolCounters, WorkerCounters};

use super::route::Copies;

/// A worker's way to one tool.
pub enum Outlet {
    /// Through a transmit queue of the worker's own: its place in [`Outlets::txqs`].
    Port { txq: usize, queue: MbufQueue },
    /// Through a ring to the worker that owns the tool's transmit queue.
    Handover { ring: Sender, queue: MbufQueue },
    /// Counted and freed.
    Discard,
    /// The tool's port is stopped: freed and counted as dropped.
    Down,
}

/// A worker's ways to all tools, by tool.
pub struct Outlets {
    pub tools: Vec<Outlet>,
    pub txqs: Vec<TxQueue>,
    /// Copies that other workers hand over, with the tool they are for.
    pub handovers: Vec<(usize, Receiver)>,
    /// Most packets in one call of the driver.
    pub burst: usize,
}

/// Hands every tool its copies of the burst, which is empty afterwards.
#[inline]
pub fn egress(outlets: &mut Outlets, copies: &Copies, burst: &mut MbufBurst, counters: &WorkerCounters) {
    let Outlets { tools, txqs, burst: limit, .. } = outlets;
    let mut shared = burst.share(copies.tools.iter().copied());
    for ((outlet, &selection), tool) in tools.iter_mut().zip(&copies.tools).zip(&counters.tools) {
        if selection.is_empty() {
            continue;
        }
        let requested = u64::from(selection.count());
        tool.requested.add(requested);
        match outlet {
            Outlet::Port { txq, queue } => {
                if let Some((sent, lost)) = shared.transmit_all(selection, &mut txqs[*txq], queue) {
                    tool.sent.add(sent.packets as u64);
                    tool.sent_bytes.add(sent.bytes);
                    count_lost(tool, lost as u64);
                } else {
                    let kept = shared.take(selection, queue) as u64;
                    count_lost(tool, requested - kept);
                    if queue.len() >= *limit {
                        transmit(queue, &mut txqs[*txq], *limit, tool);
                    }
                }
            }
            Outlet::Handover { ring, queue } => {
                let kept = shared.take(selection, queue) as u64;
                count_lost(tool, requested - kept);
                if queue.len() >= *limit {
                    ring.send(queue);
                }
            }
            Outlet::Discard => {
                shared.discard(selection);
                tool.sent.add(requested);
            }
            Outlet::Down => {
                shared.discard(selection);
                tool.drop_copies(DropReason::Down, requested);
            }
        }
    }
}

#[inline(always)]
fn count_lost(tool: &ToolCounters, lost: u64) {
    if lost > 0 {
        tool.drop_copies(DropReason::Congested, lost);
    }
}

#[inline]
fn transmit(queue: &mut MbufQueue, txq: &mut TxQueue, limit: usize, tool: &ToolCounters) {
    let sent = queue.transmit(txq, limit);
    tool.sent.add(sent.packets as u64);
    tool.sent_bytes.add(sent.bytes);
}

/// Sends what waits, other workers' copies included. Whether anything is left.
pub fn flush(outlets: &mut Outlets, counters: &WorkerCounters) -> bool {
    let Outlets { tools, txqs, handovers, burst: limit } = outlets;
    let mut is_left = false;
    for (tool, ring) in handovers.iter_mut() {
        if let Outlet::Port { queue, .. } = &mut tools[*tool] {
            ring.receive(queue);
            is_left |= ring.count() > 0;
        }
    }
    for (outlet, tool) in tools.iter_mut().zip(&counters.tools) {
        match outlet {
            Outlet::Port { txq, queue } if !queue.is_empty() => {
                transmit(queue, &mut txqs[*txq], *limit, tool);
                is_left |= !queue.is_empty();
            }
            Outlet::Handover { ring, queue } if !queue.is_empty() => {
                ring.send(queue);
                is_left |= !queue.is_empty();
            }
            _ => {}
        }
    }
    is_left
}

/// Frees what was not sent in time and counts it: the end of a drain. Every worker has stopped.
pub fn abandon(outlets: &mut Outlets, counters: &WorkerCounters) {
    for (outlet, tool) in outlets.tools.iter_mut().zip(&counters.tools) {
        if let Outlet::Port { queue, .. } | Outlet::Handover { queue, .. } = outlet {
            count_lost(tool, queue.clear() as u64);
        }
    }
    for (tool, ring) in &mut outlets.handovers {
        let mut rest = MbufQueue::with_capacity(64);
        while ring.receive(&mut rest) > 0 {
            count_lost(&counters.tools[*tool], rest.clear() as u64);
        }
    }
}
