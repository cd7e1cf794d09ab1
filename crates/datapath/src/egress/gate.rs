//! The gate of a tool's queue: what the queue admits (limits, classes, the port's MTU), and how fast it may be emptied (the rate).
//! Both name the reason of every copy that they drop.

use std::sync::Arc;

use super::admission::{Fill, QueueLimits};
use super::mtu::{FrameLimits, Misfits};
use super::token_bucket::{Allowance, TokenBucket};
use crate::counters::EgressCounters;
use tapline_api::words::{Class, DropReason};
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::{MbufQueue, Shared};
use tapline_dpdk::queue::{Moved, TxQueue};
use tapline_packet::burst::Selection;

/// The limits to what a queue admits, and to how fast it may be emptied.
pub struct Gate {
    pub(super) limits: QueueLimits,
    /// Which all workers share that send to the tool.
    bucket: Option<Arc<TokenBucket>>,
    /// Bytes that wait; kept only where there is a limit to them.
    pub(super) bytes: u64,
    /// The rate, not the port, held the last copies back.
    pub(super) is_held_by_rate: bool,
    /// The frames that the port takes, if it does not take all.
    pub(super) fit: Option<FrameLimits>,
}

impl Gate {
    pub fn new(limits: QueueLimits, bucket: Option<Arc<TokenBucket>>, fit: Option<FrameLimits>) -> Self {
        Self { limits, bucket, bytes: 0, is_held_by_rate: false, fit }
    }

    /// Those of `selection` that the port takes; the others are counted.
    fn fitting(&self, selection: Selection, shared: &Shared<'_>, counted: &EgressCounters) -> Selection {
        let Some(fit) = self.fit else { return selection };
        let Misfits { short, long } = fit.misfits(selection, shared);
        for (unfit, reason) in [(short, DropReason::Undersize), (long, DropReason::Oversize)] {
            if !unfit.is_empty() {
                counted.drop_copies(reason, u64::from(unfit.count()));
            }
        }
        selection - short - long
    }

    pub(super) fn reason(&self) -> DropReason {
        if self.is_held_by_rate { DropReason::RateLimited } else { DropReason::Congested }
    }

    /// Chooses those of `selection` that the port takes and a queue that is filled so far admits; frees the others and counts them.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "hot path: what differs by tool; a struct would be filled for each tool of a burst"
    )]
    pub(super) fn admit(
        &self,
        fill: Fill,
        reason: DropReason,
        shared: &mut Shared<'_>,
        selection: Selection,
        by_class: [Selection; 3],
        counted: &EgressCounters,
    ) -> Selection {
        let fitting = self.fitting(selection, shared, counted);
        let by_class = by_class.map(|class| class & fitting);
        let admitted = self.limits.admit(fill, by_class, |index| shared.len_of(index));
        for ((class, asked), admitted) in Class::ALL.into_iter().zip(by_class).zip(admitted) {
            if asked != admitted {
                counted.refuse(class, reason, u64::from(asked.count() - admitted.count()));
            }
        }
        let admitted = admitted.into_iter().fold(Selection::NONE, |all, selection| all | selection);
        shared.discard(selection - admitted);
        admitted
    }

    /// Sends bursts of at most `tx_burst` packets as long as the rate allows and the port takes them whole.
    pub(super) fn transmit(&mut self, queue: &mut MbufQueue, txq: &mut TxQueue, tx_burst: usize) -> Moved {
        let mut sent = Moved::default();
        while !queue.is_empty() {
            let wanted = queue.len().min(tx_burst);
            let (moved, _) = self.transmit_some(queue, txq, wanted);
            sent.packets += moved.packets;
            sent.bytes += moved.bytes;
            if moved.packets < wanted {
                break;
            }
        }
        sent
    }

    /// Sends at most `most` packets in one call of the driver. Gives what the port took, and the number that it was offered.
    pub(super) fn transmit_some(
        &mut self,
        queue: &mut MbufQueue,
        txq: &mut TxQueue,
        most: usize,
    ) -> (Moved, usize) {
        let wanted = queue.len().min(most);
        let (sent, offered) = match &self.bucket {
            None => (queue.transmit_some(txq, wanted), wanted),
            Some(bucket) => {
                let choose =
                    |allowance: &mut Allowance<'_>| queue.leading(wanted, |len| allowance.lets_go(len));
                let taken = bucket.take(clock::tsc(), choose);
                let sent = queue.transmit_some(txq, taken.packets);
                if sent.packets < taken.packets {
                    bucket.give_back(taken.packets - sent.packets, taken.bytes - sent.bytes);
                }
                (sent, taken.packets)
            }
        };
        self.is_held_by_rate = offered < wanted && sent.packets == offered;
        if self.limits.has_bytes() {
            self.bytes = self.bytes.saturating_sub(sent.bytes);
        }
        (sent, offered)
    }
}
