//! A worker's ways to the tools.

use std::sync::Arc;

use super::admission::Limits;
use super::backlog::Backlog;
use super::capture_queue;
use super::capture_queue::Origin;
use super::count::count_lost;
use super::gate::Gate;
use super::incoming::Incoming;
use super::line::Line;
use super::mtu::Fit;
use super::shared_txq::SharedTxq;
use crate::counters::{DropReason, ToolCounters, WorkerCounters};
use crate::route::Copies;
use crate::swap::published::Live;
use tapline_dpdk::mbuf::{MbufQueue, RxStamp, Shared};
use tapline_dpdk::queue::TxQueue;
use tapline_dpdk::ring::{Receiver, Sender};
use tapline_packet::burst::{MAX_BURST, Selection};

/// A worker's way to one tool.
pub enum Outlet {
    /// Through a transmit queue of the worker's own: its place in [`Outlets::txqs`].
    Port { txq: usize, line: Line },
    /// Through a ring to the worker that owns the tool's transmit queue. The line gathers copies for the ring; what it admits is
    /// judged by all that waits for the tool there.
    Handover { ring: Sender, backlog: Arc<Backlog>, line: Line },
    /// To the thread that writes the tool's file.
    Capture(capture_queue::Line),
    /// Counted and freed.
    Discard,
    /// The tool's port is stopped: freed and counted as dropped.
    Down,
}

/// What a tool is to get of a burst.
pub(super) struct Asked<'a> {
    pub(super) selection: Selection,
    pub(super) origin: Origin<'a>,
    pub(super) polled: Option<u64>,
    pub(super) tool: &'a ToolCounters,
}

impl Outlet {
    /// From now on the tool's queue admits what fits `limits`, which are without bytes where they were before.
    #[cold]
    pub fn limit(&mut self, limits: Limits) {
        if let Outlet::Port { line, .. } | Outlet::Handover { line, .. } = self {
            match &mut line.gate {
                Some(gate) => gate.limits = limits,
                gate @ None => *gate = Some(Box::new(Gate::new(limits, None, None))),
            }
            line.judge_plain();
        }
    }

    /// From now on the tool's port takes what `fit` says, where it does not take all frames.
    #[cold]
    pub fn refit(&mut self, fit: Fit, tool: &ToolCounters) {
        if let Outlet::Port { line, .. } | Outlet::Handover { line, .. } = self
            && let Some(known) = line.gate.as_mut().and_then(|gate| gate.fit.as_mut())
            && *known != fit
        {
            *known = fit;
            let before = line.fill();
            line.sift(fit, tool);
            if let Outlet::Handover { backlog, line, .. } = self {
                backlog.change(before, line.fill());
                // the owner says what waits
                tool.queue_depth.set(0);
            }
        }
    }

    /// Sets right what a stage that unwound left half done. Gives the copies that the outlet holds or has handed to others, and those
    /// that it took over from others.
    #[cold]
    fn mend(&mut self) -> (u64, u64) {
        match self {
            Outlet::Port { line, .. } | Outlet::Handover { line, .. } => {
                line.mend();
                (line.len() as u64 + line.handed_over, line.taken_over)
            }
            Outlet::Capture(line) => {
                line.mend();
                (line.taken(), 0)
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
        limit: usize,
        shared: &mut Shared<'_>,
        asked: &Asked<'_>,
        by_class: impl FnOnce() -> [Selection; 3],
    ) -> bool {
        let &Asked { selection, origin, polled, tool } = asked;
        let requested = u64::from(selection.count());
        match self {
            Outlet::Port { txq, line } if line.is_plain => {
                line.give(&mut txqs[*txq], limit, shared, selection, polled, tool);
            }
            Outlet::Port { txq, line } => {
                let txq = &mut txqs[*txq];
                line.enter(shared, selection, origin.stamps, by_class, polled, tool);
                if line.queue.len() >= limit {
                    if line.is_crowded {
                        return true;
                    }
                    line.transmit(txq, limit, tool);
                }
            }
            Outlet::Handover { ring, backlog, line } => {
                line.enter_backlog(backlog, shared, selection, by_class, tool);
                if line.queue.len() >= limit {
                    line.hand_over(ring);
                }
            }
            Outlet::Capture(line) => {
                let taken = line.enter(shared, selection, origin) as u64;
                tool.note_depth(line.depth());
                count_lost(tool, requested - taken);
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
        false
    }
}

/// A worker's ways to all tools, by tool.
pub struct Outlets {
    pub tools: Vec<Outlet>,
    pub txqs: Vec<TxQueue>,
    /// Those of `txqs` that several tools send by.
    pub shared: Vec<SharedTxq>,
    /// Copies that other workers hand over.
    pub handovers: Vec<Incoming>,
    /// Frames of the control thread.
    pub mails: Vec<Mail>,
    /// Most packets in one call of the driver.
    pub burst: usize,
    /// How many of `tools`, counted from the first, take copies; those behind them are the directions of wires.
    pub copy_tools: usize,
    /// Some tool is a capture.
    pub has_captures: bool,
    /// Where copies that are handed over carry their times, if some tool of another worker's orders them.
    pub time_place: Option<RxStamp>,
    /// While a burst is handed out: so many tools, counted from the first, have not been asked yet. 0 between bursts.
    pub left: usize,
}

impl Outlets {
    /// Finds the transmit queues that several tools send by, so that those take turns. All tools are there.
    pub fn take_turns(&mut self) {
        for txq in 0..self.txqs.len() {
            let sends_by = |outlet: &Outlet| matches!(outlet, Outlet::Port { txq: own, .. } if *own == txq);
            let tools: Vec<usize> =
                (0..self.tools.len()).filter(|&tool| sends_by(&self.tools[tool])).collect();
            if tools.len() < 2 {
                continue;
            }
            for &tool in &tools {
                if let Outlet::Port { line, .. } = &mut self.tools[tool] {
                    line.is_shared = true;
                }
            }
            self.shared.push(SharedTxq { txq, tools, turn: 0, left: self.burst, is_crowded: false });
        }
    }

    /// Sets right what a stage that unwound left half done, so that every tool's account holds again: what tools were to get of the
    /// burst's `copies` is requested of them, and what is requested and in no queue is dropped. The number dropped.
    #[cold]
    pub fn mend(&mut self, copies: &Copies, counters: &WorkerCounters) -> u64 {
        for (tool, selection) in
            counters.tools.iter().zip(&copies.tools).take(std::mem::take(&mut self.left))
        {
            tool.requested.add(u64::from(selection.count()));
        }
        let mut dropped = 0;
        for (outlet, tool) in self.tools.iter_mut().zip(&counters.tools) {
            let (held, taken_over) = outlet.mend();
            let ended = tool.ended() + held;
            let asked = tool.requested.get() + taken_over;
            if asked >= ended {
                dropped += asked - ended;
                tool.drop_copies(DropReason::Internal, asked - ended);
            } else {
                // dropped before it was counted as requested
                tool.requested.add(ended - asked);
            }
        }
        dropped
    }

    /// Packets that surely find room in every capture tool that is up.
    #[cold]
    pub fn capture_room(&self, live: &Live) -> usize {
        let rooms = self.tools.iter().zip(&live.tools_up).filter_map(|(outlet, &is_up)| match outlet {
            Outlet::Capture(line) if is_up => Some(line.room()),
            _ => None,
        });
        rooms.min().unwrap_or(MAX_BURST)
    }
}

/// Frames that the control thread sends by a port: no copies, and not counted as such.
pub struct Mail {
    /// Its place in [`Outlets::txqs`].
    pub txq: usize,
    pub ring: Receiver,
    pub queue: MbufQueue,
}
