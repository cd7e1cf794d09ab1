//! Bench: a broker whose workers are on no lcore and make a turn when they are told to, all in one thread.
//!
//! Everything on it is what `broker::start` puts on lcores: ports, pools, rings, workers, counters. Only who makes the
//! turns differs, so that fuzz targets find a fault at the packet that makes it, and find it again. EAL is the caller's, and stays.

use std::sync::Arc;

use super::outputs::Outputs;
use super::start::memory::check_tables;
use super::start::placement::place;
use super::start::{Assembled, assemble, start_recorders};
use super::{Broker, Error};
use crate::plan::{Plan, Run, RunOptions};
use crate::report::events::Events;
use tapline_api::event::Event;
use tapline_api::snapshot::Snapshot;
use tapline_datapath::egresses::Egress;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_datapath::receive::Source;
use tapline_datapath::worker::{Led, Phase};
use tapline_dpdk::Eal;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::queue::TxQueue;
use tapline_packet::by_id::ById;

/// A broker and the workers that its caller leads.
// fields are dropped in their order: workers before ports
pub struct Bench {
    workers: Vec<Led>,
    /// The transmit queues of each port that nobody sends on.
    spare: ById<PortId, Vec<Option<TxQueue>>>,
    broker: Broker,
}

impl Bench {
    /// Sets up what a plan asks for. Its lcores need not be there.
    ///
    /// # Errors
    /// The first thing that failed, as of `start`.
    pub fn set_up(eal: &Eal, plan: Plan) -> Result<Self, Error> {
        let plan = Arc::new(plan);
        let options = RunOptions::default();
        let roles = place(Run { plan: &plan, options: &options })?.roles;
        check_tables(&plan, roles.work.len())?;
        let Assembled { mut broker, mut workers, batch_rings, spare } =
            assemble(eal, Arc::clone(&plan), options, roles, Outputs::take(&plan)?, Events::default())?;
        start_recorders(&mut broker, batch_rings)?;
        // what is put into a ring may say of itself what NICs say that spread packets
        for intake in workers.iter_mut().flat_map(|worker| &mut worker.intakes) {
            intake.gives_rss = intake.endpoint.is_none();
        }
        broker.workers.phase.set(Phase::Running);
        Ok(Self { workers: workers.into_iter().map(Led::new).collect(), spare, broker })
    }

    pub fn plan(&self) -> &Plan {
        &self.broker.plan
    }

    pub fn workers(&mut self) -> &mut [Led] {
        &mut self.workers
    }

    /// Sends packets by a transmit queue of a port that no worker has; of a `net_ring`, the port then receives them. The number that
    /// the port took; the others are freed.
    pub fn put(&mut self, port: PortId, burst: &mut MbufBurst) -> usize {
        let Some(txq) = self.spare.get_mut(port).and_then(|spare| spare.iter_mut().flatten().next()) else {
            burst.clear();
            return 0;
        };
        burst.transmit_all(txq)
    }

    /// Does what the control thread does every few milliseconds.
    pub fn watch(&mut self) {
        self.broker.watch();
    }

    /// Takes a tool out of service, or back.
    pub fn set_drained(&mut self, tool: ToolId, is_drained: bool) {
        let name = self.broker.plan.tools[tool].name.clone();
        let _ = self.broker.set_drained(&name, is_drained);
    }

    /// Drains the workers as far as their tools take what waits, ends them, and gives what was counted: in all, and by egress of the
    /// plan what was requested and what ended. Packets that ports have and nobody received are freed.
    ///
    /// # Errors
    /// If the broker did not end well.
    pub fn end(mut self) -> Result<(Snapshot, Vec<(u64, u64)>), Error> {
        // what is in a ring, and what a ring's packet makes, is a turn further each time
        for _ in 0..DRAIN_TURNS {
            let is_left = self.workers.iter_mut().fold(false, |is_left, worker| worker.drain() | is_left);
            if !is_left {
                break;
            }
        }
        self.broker.workers.returned = self.workers.drain(..).map(Led::stop).collect();
        self.broker.stop()?;
        for intake in self.broker.workers.returned.iter_mut().flat_map(|worker| &mut worker.intakes) {
            let Source::Queue { rxq, .. } = &mut intake.source else { continue };
            // a ring ends, other devices make packets as long as they are asked
            if self.broker.machine.ports[intake.port].driver().is_some_and(|driver| driver.is_loop) {
                let mut burst = MbufBurst::default();
                while burst.receive(rxq, 64).packets > 0 {
                    burst.clear();
                }
            }
        }
        let account = &self.broker.account;
        let copies = self.broker.plan.egresses().all().map(|(id, egress)| match egress {
            Egress::Tool(tool) => account.copies_of(tool),
            Egress::Wire(..) => account.originals_of(id),
        });
        Ok((self.broker.snapshot(), copies.collect()))
    }

    /// Why captures could not be read or written.
    pub fn failures(&self) -> &[Event] {
        self.broker.failures()
    }
}

/// More turns than rings and queues have bursts.
const DRAIN_TURNS: usize = 4096;
