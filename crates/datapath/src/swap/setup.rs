//! Setup: what a worker polls and sends by, where another plan has it otherwise.
//!
//! It is a part of a `PlanPart`, and taken up with it between two bursts. What the plan keeps stays with the worker, at the ids that
//! it has there. What comes was set up by the control thread. Intakes that leave go back with the part. Outlets that leave stay
//! behind those of the plan until what waits for them is sent; a `Release` takes them away then.

use std::mem::take;
use std::sync::Arc;

use crate::egress::incoming::Incoming;
use crate::egress::outlet::Outlet;
use crate::egress::outlets::{ControlFrames, Outlets};
use crate::egresses::Egresses;
use crate::ids::{EgressId, GroupId, PortId};
use crate::receive::Intake;
use crate::receive::local_frames::LocalFrames;
use crate::route::balance::BucketUse;
use tapline_dpdk::mbuf::RxStamp;
use tapline_dpdk::queue::TxQueue;
use tapline_packet::by_id::ById;

/// An egress of a worker from now on.
pub enum NextOutlet {
    /// The one that it has under this id.
    Kept(EgressId),
    New(Outlet),
}

/// This is what a worker polls and sends by in another plan.
pub struct Setup {
    /// Each port of the plan before has its id in this one, unless it leaves.
    pub ports: ById<PortId, Option<PortId>>,
    /// Each port of this plan says whether it is stopped.
    pub stopped: ById<PortId, bool>,
    /// This is what is polled besides.
    pub intakes: Vec<Intake>,
    /// Each port has the queue that frames for Tapline itself go to.
    pub local_frames: ById<PortId, Option<Arc<LocalFrames>>>,
    /// Those of the plan, and behind them those that leave.
    pub egresses: ById<EgressId, NextOutlet>,
    /// Each egress of the plan before has its id in this one.
    pub moved: ById<EgressId, EgressId>,
    /// Behind those that it has.
    pub txqs: Vec<TxQueue>,
    pub handovers: Vec<Incoming>,
    pub control_frames: Vec<ControlFrames>,
    pub kinds: Egresses,
    pub has_captures: bool,
    pub tx_burst: usize,
    pub time_place: Option<RxStamp>,
    pub uses: ById<GroupId, Arc<BucketUse>>,
    /// Groups whose buckets go on with what was noted of them elsewhere: the id before, and the id in this plan.
    pub noted: Vec<(GroupId, GroupId)>,
    /// Intakes that left.
    pub left: Vec<Intake>,
    /// Outlets on their way from one table to another: as many as the plan before had.
    pub passing: Vec<Option<Outlet>>,
}

impl Setup {
    /// worker: gives up the intakes that leave, takes those that come, and polls none whose port is stopped. Gives the packets that intakes which left handed to work
    /// lcores.
    pub(crate) fn change_intakes(&mut self, intakes: &mut Vec<Intake>) -> u64 {
        let mut handed = 0;
        let is_leaving = |intake: &mut Intake| self.ports[intake.port].is_none();
        for mut intake in intakes.extract_if(.., is_leaving) {
            if let Some(endpoint) = &mut intake.endpoint {
                endpoint.report();
            }
            handed += intake.spread.as_ref().map_or(0, |spread| spread.handed());
            self.left.push(intake);
        }
        for intake in intakes.iter_mut() {
            if let Some(port) = self.ports[intake.port] {
                intake.port = port;
            }
            intake.local_frames =
                self.local_frames[intake.port].clone().filter(|_| intake.spread.is_none());
        }
        intakes.append(&mut self.intakes);
        for intake in intakes.iter_mut() {
            // what a receive lcore has handed over is carried
            intake.is_stopped = self.stopped[intake.port] && !intake.is_ring();
            if intake.is_stopped {
                intake.pause();
            }
        }
        handed
    }

    /// worker: notes from now on what buckets are used elsewhere.
    pub(crate) fn change_uses(&mut self, uses: &mut ById<GroupId, Arc<BucketUse>>) {
        for &(from, to) in &self.noted {
            if let (Some(before), Some(after)) = (&uses[from].stamps, &self.uses[to].stamps) {
                after.take_over(before, &self.ports);
            }
        }
        std::mem::swap(uses, &mut self.uses);
    }

    /// worker: puts its outlets where the plan has them.
    pub(crate) fn change_outlets(&mut self, outlets: &mut Outlets) {
        outlets.txqs.append(&mut self.txqs);
        self.passing.extend(take(&mut outlets.egresses).into_iter().map(Some));
        let next = take(&mut self.egresses).into_iter().map(|next| match next {
            NextOutlet::New(outlet) => outlet,
            NextOutlet::Kept(from) => self.passing[from.0].take().expect("an outlet is kept once"),
        });
        outlets.egresses = next.collect();
        for incoming in &mut outlets.handovers {
            incoming.egress = self.moved[incoming.egress];
        }
        outlets.handovers.append(&mut self.handovers);
        outlets.control_frames.append(&mut self.control_frames);
        outlets.kinds = self.kinds;
        outlets.has_captures = self.has_captures;
        outlets.tx_burst = self.tx_burst;
        outlets.time_place = self.time_place.or(outlets.time_place);
        outlets.take_turns_anew();
    }
}

/// Takes away the outlets that leave, with what they send by.
#[derive(Default)]
pub struct Release {
    /// Each transmit queue has its place afterwards, unless it leaves.
    pub txqs: Vec<Option<usize>>,
    /// Outlets that left, by the ids that they had.
    pub outlets: Vec<(EgressId, Outlet)>,
    pub handovers: Vec<Incoming>,
    pub control_frames: Vec<ControlFrames>,
    pub left_txqs: Vec<TxQueue>,
}

impl Release {
    /// worker: gives up what leaves.
    pub(crate) fn take_away(&mut self, outlets: &mut Outlets) {
        let kinds = outlets.kinds;
        for (place, outlet) in take(&mut outlets.egresses).into_iter().enumerate() {
            let id = EgressId(place);
            if kinds.is_leaving(id) {
                self.outlets.push((id, outlet));
            } else {
                outlets.egresses.push(outlet);
            }
        }
        self.handovers
            .extend(outlets.handovers.extract_if(.., |incoming| kinds.is_leaving(incoming.egress)));
        let place_of = |txq: usize| self.txqs.get(txq).copied().flatten();
        self.control_frames
            .extend(outlets.control_frames.extract_if(.., |frames| place_of(frames.txq).is_none()));
        for (place, txq) in take(&mut outlets.txqs).into_iter().enumerate() {
            match place_of(place) {
                Some(_) => outlets.txqs.push(txq),
                None => self.left_txqs.push(txq),
            }
        }
        let of_outlets = outlets.egresses.iter_mut().filter_map(|outlet| match outlet {
            Outlet::Port { txq, .. } => Some(txq),
            _ => None,
        });
        for txq in of_outlets.chain(outlets.control_frames.iter_mut().map(|frames| &mut frames.txq)) {
            *txq = self.txqs[*txq].expect("what stays sends by what stays");
        }
        outlets.take_turns_anew();
    }
}
