//! A worker's ways to all tools and out of all wires, and the transmit queues that they share.

use std::sync::Arc;

use super::incoming::Incoming;
use super::outlet::Outlet;
use super::shared_txq::SharedTxq;
use crate::counters::WorkerCounters;
use crate::egresses::Egresses;
use crate::ids::EgressId;
use crate::route::Copies;
use crate::swap::published::Live;
use tapline_api::words::DropReason;
use tapline_dpdk::mbuf::{MbufQueue, RxStamp};
use tapline_dpdk::queue::TxQueue;
use tapline_dpdk::ring::Receiver;
use tapline_packet::burst::MAX_BURST;
use tapline_packet::by_id::ById;

/// A worker's ways to all tools and out of all wires.
pub struct Outlets {
    /// Those of the plan, and behind them those that leave.
    pub egresses: ById<EgressId, Outlet>,
    pub txqs: Vec<TxQueue>,
    /// Those of `txqs` that several tools send by.
    pub shared: Vec<SharedTxq>,
    /// Copies that other workers hand over.
    pub handovers: Vec<Incoming>,
    /// Frames of the control thread.
    pub control_frames: Vec<ControlFrames>,
    /// Most packets in one call of the driver.
    pub tx_burst: usize,
    /// Which of `egresses` are tools.
    pub kinds: Egresses,
    /// Some tool is a capture.
    pub has_captures: bool,
    /// The field in which copies that are handed over carry their times, if some tool of another worker orders them.
    pub time_place: Option<RxStamp>,
    /// While a burst is handed out: so many egresses, counted from the first, have not been asked yet. 0 between bursts.
    pub left: usize,
}

impl Outlets {
    /// Finds the transmit queues that several tools send by, so that those take turns. All tools are there.
    pub fn take_turns(&mut self) {
        for txq in 0..self.txqs.len() {
            let sends_by = |outlet: &Outlet| matches!(outlet, Outlet::Port { txq: own, .. } if *own == txq);
            let egresses: Vec<EgressId> =
                self.egresses.ids().filter(|&id| sends_by(&self.egresses[id])).collect();
            if egresses.len() < 2 {
                continue;
            }
            for &id in &egresses {
                if let Outlet::Port { queue, .. } = &mut self.egresses[id] {
                    queue.is_shared = true;
                }
            }
            self.shared.push(SharedTxq { txq, egresses, turn: 0, left: self.tx_burst, is_crowded: false });
        }
    }

    /// Finds them anew, after queues or tools came or went.
    #[cold]
    pub(crate) fn take_turns_anew(&mut self) {
        self.shared.clear();
        for outlet in &mut self.egresses {
            if let Outlet::Port { queue, .. } = outlet {
                (queue.is_shared, queue.is_crowded) = (false, false);
                queue.judge_plain();
            }
        }
        self.take_turns();
    }

    /// Sets right what a stage that unwound left half done, so that every tool's account holds again: what tools were to get of the
    /// burst's `copies` is requested of them, and what is requested and in no queue is dropped. The number dropped.
    #[cold]
    pub fn mend(&mut self, copies: &Copies, counters: &WorkerCounters) -> u64 {
        for (counted, selection) in
            counters.egresses.iter().zip(&copies.egresses).take(std::mem::take(&mut self.left))
        {
            counted.requested.add(u64::from(selection.count()));
        }
        let mut dropped = 0;
        let in_hand: Vec<(u64, u64)> = self.egresses.iter_mut().map(Outlet::mend).collect();
        for counted in counters.egresses.iter().take(in_hand.len()) {
            // a tool that was made anew has two queues while the one before is emptied, and one account
            let is_same = |other: &usize| Arc::ptr_eq(&counters.egresses[EgressId(*other)], counted);
            let all = (0..in_hand.len().min(counters.egresses.len())).filter(is_same);
            let (held, taken_over) =
                all.map(|other| in_hand[other]).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let ended = counted.ended() + held;
            let asked = counted.requested.get() + taken_over;
            if asked >= ended {
                dropped += asked - ended;
                counted.drop_copies(DropReason::Internal, asked - ended);
            } else {
                // dropped before it was counted as requested
                counted.requested.add(ended - asked);
            }
        }
        dropped
    }

    /// Packets that surely find room in every capture tool that is up.
    #[cold]
    pub fn capture_room(&self, live: &Live) -> usize {
        let rooms = self.egresses.iter().zip(&live.egress_up).filter_map(|(outlet, &is_up)| match outlet {
            Outlet::Capture(queue) if is_up => Some(queue.room()),
            _ => None,
        });
        rooms.min().unwrap_or(MAX_BURST)
    }
}

/// Frames that the control thread sends by a port: no copies, and not counted as such.
pub struct ControlFrames {
    /// Its place in [`Outlets::txqs`].
    pub txq: usize,
    pub ring: Receiver,
    pub queue: MbufQueue,
}
