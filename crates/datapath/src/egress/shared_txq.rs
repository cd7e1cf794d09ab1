//! A transmit queue that several tools send by, in turns.

use super::outlet::Outlet;
use crate::counters::WorkerCounters;
use crate::ids::EgressId;
use tapline_dpdk::queue::TxQueue;
use tapline_packet::by_id::ById;

/// A transmit queue that several tools send by. Where it does not take all that they have, they take turns: each may send a burst,
/// and whose turn was cut short goes on with it.
///
/// Without turns the tool that is asked first would take every place that becomes free, and the others would get none.
pub struct SharedTxq {
    /// Its place in [`Outlets::txqs`].
    pub(super) txq: usize,
    /// Those that send by it.
    pub(super) egresses: Vec<EgressId>,
    /// The place in `egresses` of the one that may send first.
    pub(super) turn: usize,
    /// Packets that it may send in this turn; at least 1.
    pub(super) left: usize,
    pub(super) is_crowded: bool,
}

impl SharedTxq {
    /// Sends what waits for the tools that `can_send`, a turn of at most `tx_burst` packets each, until nothing waits or the port
    /// takes no more. Returns whether anything went.
    #[cold]
    pub(super) fn serve(
        &mut self,
        egresses: &mut ById<EgressId, Outlet>,
        txqs: &mut [TxQueue],
        tx_burst: usize,
        can_send: impl Fn(EgressId) -> bool,
        counters: &WorkerCounters,
    ) -> bool {
        let txq = &mut txqs[self.txq];
        let (mut turn, mut left) = (self.turn, self.left);
        let (mut has_moved, mut cut_short) = (false, None);
        // tools in a row that had nothing more to send, or could not
        let mut at_rest = 0;
        while at_rest < self.egresses.len() {
            let id = self.egresses[turn];
            at_rest += 1;
            if let Outlet::Port { queue, .. } = &mut egresses[id]
                && !queue.mbufs.is_empty()
            {
                if can_send(id) {
                    let wanted = queue.mbufs.len().min(left);
                    let (sent, offered) = queue.transmit_some(txq, wanted, &counters.egresses[id]);
                    has_moved |= sent > 0;
                    if sent == wanted {
                        at_rest = 0;
                    } else if sent < offered && cut_short.is_none() {
                        // the others are asked all the same: a driver may refuse one frame and take the next
                        cut_short = Some((turn, left - sent));
                    }
                } else {
                    queue.hold();
                }
            }
            (turn, left) = ((turn + 1) % self.egresses.len(), tx_burst);
        }
        let is_crowded = cut_short.is_some();
        (self.turn, self.left) = cut_short.unwrap_or((turn, left));
        if std::mem::replace(&mut self.is_crowded, is_crowded) != is_crowded {
            for &id in &self.egresses {
                if let Outlet::Port { queue, .. } = &mut egresses[id] {
                    queue.is_crowded = is_crowded;
                    queue.judge_plain();
                }
            }
        }
        has_moved
    }
}

/// Sends by transmit queues that several tools send by, once a burst waits for one of them.
#[cold]
pub(super) fn serve_all(
    shared: &mut [SharedTxq],
    egresses: &mut ById<EgressId, Outlet>,
    txqs: &mut [TxQueue],
    tx_burst: usize,
    counters: &WorkerCounters,
) {
    for shared in shared {
        // a tool of the port was just given copies, so the port can send
        shared.serve(egresses, txqs, tx_burst, |_| true, counters);
    }
}
