//! Egress: a bounded queue for each tool, transmit, and the reason for every copy that is not sent.
//!
//! The last stage. Copies go straight to the driver where nothing waits before them and they are enough for a call; else they
//! queue. Tools with classes, a limit in bytes or a rate, and those on kernel interfaces, have a `Gate`: they pay for it, the
//! others do not. Tools that send by the same transmit queue take turns where it does not take all that they have.

/// Which copies are let in where a queue fills: classes and thresholds.
pub mod admission;
/// Copies that a tool still owes, of all workers.
pub mod backlog;
/// The way of copies to the thread that writes a capture.
pub mod capture_queue;
/// Counts copies that are sent and lost.
mod count;
/// Sends what waits for tools.
pub mod flush;
/// Keeps to a tool's limits, rate and MTU.
pub mod gate;
/// Takes copies that other workers hand over.
pub mod incoming;
/// Holds copies until they can leave in order.
pub mod merge;
/// Frames that a port takes: its MTU.
pub mod mtu;
/// Leads to a tool.
pub mod outlet;
/// Leads to all tools.
pub mod outlets;
/// Queues a tool's copies.
pub mod queue;
/// Copies of several lcores, in the order in which their packets came.
pub mod reorder;
/// Lets tools take turns at a transmit queue.
pub mod shared_txq;
/// The rate of a tool.
pub mod token_bucket;

use self::capture_queue::Origin;
use self::count::less_cut;
use super::copies::facts::Stamps;
use super::counters::WorkerCounters;
use super::ids::{Attachment, EgressId};
use super::route::Copies;
use outlet::{Asked, Outlet};
use outlets::Outlets;
use shared_txq::serve_all;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::mbuf::copy::Made;
use tapline_fault as fault;
use tapline_packet::burst::Selection;

/// Hands every egress its copies of the burst, which is empty afterwards. `made` are the copies that are not the packets themselves,
/// by tool, or nothing where none is: tools are the first of the egresses. `polled` is when the burst was polled, if it is timed.
#[inline]
#[expect(
    clippy::too_many_arguments,
    reason = "hot path: the caller holds them apart, and a struct would be filled once a burst"
)]
pub fn egress(
    outlets: &mut Outlets,
    copies: &Copies,
    made: &mut [Made],
    burst: &mut MbufBurst,
    origin: Origin<'_>,
    polled: Option<u64>,
    counters: &WorkerCounters,
) {
    let Outlets { egresses, txqs, shared, tx_burst, time_place, left, .. } = outlets;
    *left = egresses.len();
    if let Some(place) = *time_place {
        burst.write_stamps(place, &origin.stamps.ns);
    }
    let mut of_burst = if made.is_empty() {
        burst.share(copies.egresses.iter().copied())
    } else {
        let alone = made.iter().map(Made::alone).chain(std::iter::repeat(Selection::NONE));
        burst.share(copies.egresses.iter().zip(alone).map(|(&copies, alone)| copies - alone))
    };
    let mut is_due = false;
    // backwards: an original goes before its copies (`egresses`)
    for (index, ((outlet, &selection), counted)) in
        egresses.iter_mut().zip(&copies.egresses).zip(&counters.egresses).enumerate().rev()
    {
        let id = EgressId(index);
        if selection.is_empty() {
            continue;
        }
        *left = index;
        counted.requested.add(u64::from(selection.count()));
        fault::panics_on_packet("egress", index);
        if let Outlet::Port { txq, queue } = outlet
            && queue.is_plain
            && made.is_empty()
        {
            queue.give(&mut txqs[*txq], *tx_burst, &mut of_burst, selection, polled, counted);
            continue;
        }
        let asked = Asked { selection, origin, chosen: copies.chosen(id), polled, counted };
        let by_class = || copies.by_class(id);
        match made.get_mut(index).filter(|made| !made.is_empty()) {
            None => is_due |= outlet.give(txqs, *tx_burst, &mut of_burst, &asked, by_class),
            Some(made) => {
                if let Some(place) = *time_place {
                    made.write_stamps(place, &origin.stamps.ns);
                }
                is_due |=
                    outlet.give(txqs, *tx_burst, &mut of_burst.join(selection, made), &asked, by_class);
            }
        }
    }
    *left = 0;
    if is_due {
        serve_all(shared, egresses, txqs, *tx_burst, counters);
    }
}

/// Hands each of `tools` a copy of every packet of the burst, as [`egress`] does; the copies are counted as requested already.
#[inline(always)]
pub fn egress_straight(
    outlets: &mut Outlets,
    egresses: &[EgressId],
    burst: &mut MbufBurst,
    polled: Option<u64>,
    counters: &WorkerCounters,
) {
    if let [id] = *egresses
        && let Outlet::Port { txq, queue } = &mut outlets.egresses[id]
        && queue.is_plain
        && queue.mbufs.is_empty()
    {
        // the packets themselves go, with the one reference that each has
        let (counted, packets) = (&counters.egresses[id], burst.len() as u64);
        fault::panics_on_packet("egress", id.0);
        let txq = &mut outlets.txqs[*txq];
        let (sent, lost) = burst.transmit(txq, &mut queue.mbufs);
        let sent = less_cut(sent, txq, counted);
        queue.note_sent(packets, sent, lost, polled, counted);
    } else {
        egress_alike(outlets, egresses, burst, polled, counters);
    }
}

#[inline(never)]
fn egress_alike(
    outlets: &mut Outlets,
    egresses: &[EgressId],
    burst: &mut MbufBurst,
    polled: Option<u64>,
    counters: &WorkerCounters,
) {
    let (all, packets) = (burst.all(), burst.len() as u64);
    let mut alike = burst.share_alike(egresses.len());
    let mut is_due = false;
    for &id in egresses {
        let counted = &counters.egresses[id];
        fault::panics_on_packet("egress", id.0);
        match &mut outlets.egresses[id] {
            Outlet::Port { txq, queue } if queue.is_plain && queue.mbufs.is_empty() => {
                let txq = &mut outlets.txqs[*txq];
                let (sent, lost) = alike.transmit(txq, &mut queue.mbufs);
                let sent = less_cut(sent, txq, counted);
                queue.note_sent(packets, sent, lost, polled, counted);
            }
            outlet => {
                let by_class = || [Selection::NONE, all, Selection::NONE];
                // tools that ask for times are never on the straight way
                let origin = Origin { port: Attachment(0), stamps: &Stamps::NONE };
                let asked = Asked { selection: all, origin, chosen: None, polled, counted };
                is_due |=
                    outlet.give(&mut outlets.txqs, outlets.tx_burst, &mut alike.one(), &asked, by_class);
            }
        }
    }
    if is_due {
        serve_all(
            &mut outlets.shared,
            &mut outlets.egresses,
            &mut outlets.txqs,
            outlets.tx_burst,
            counters,
        );
    }
}
