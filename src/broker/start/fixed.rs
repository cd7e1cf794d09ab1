//! The things that a start settles for as long as the program runs, and that another plan has to make do with.

use super::queues::spread_hash;
use crate::broker::Error;
use crate::broker::refusal::{Lack, Refusal};
use crate::plan::Run;
use crate::plan::memory;
use tapline_datapath::ids::PortId;
use tapline_packet::by_id::ById;
use tapline_packet::layers::Depth;

/// The things that were set up at the start for as long as the program runs, by port.
pub(in crate::broker) struct Fixed {
    /// Mbufs that it was given for packets that wait for tools; nothing where the user said how many it has.
    mbufs: ById<PortId, Option<u32>>,
    /// Its driver was asked for the packets' times.
    has_stamps: ById<PortId, bool>,
    /// The window that a replay keeps in step for.
    step_ns: ById<PortId, Option<u64>>,
    /// How deep packets are looked into when they are spread over work lcores.
    spread_depth: Depth,
}

impl Fixed {
    pub(crate) fn of(run: Run<'_>) -> Self {
        let plan = run.plan;
        let ports = || plan.ports.ids();
        Self {
            mbufs: ports()
                .map(|port| plan.settings.mempool.is_none().then(|| memory::waiting_from(run, port)))
                .collect(),
            has_stamps: ports().map(|port| run.wants_stamps(port)).collect(),
            step_ns: ports().map(|port| plan.order_of(port)).collect(),
            spread_depth: spread_hash(plan).depth,
        }
    }

    /// # Errors
    /// Fails with what rules of the plan need of a port that it did not get at the start.
    pub(crate) fn check(&self, run: Run<'_>, work: usize) -> Result<(), Refusal> {
        let plan = run.plan;
        for (id, port) in plan.ports.entries() {
            let lack = if self.mbufs[id].is_some_and(|mbufs| memory::waiting_from(run, id) > mbufs) {
                Lack::Mbufs
            } else if plan.work.inputs[id].needs_stamps && !self.has_stamps[id] {
                Lack::Stamps
            } else if port.replay.is_some()
                && plan.order_of(id).is_some_and(|ns| self.step_ns[id].is_none_or(|step| ns < step))
            {
                Lack::Step
            } else {
                continue;
            };
            let rule =
                plan.rules.iter().rfind(|rule| rule.sources.contains(&id)).map_or(0, |rule| rule.priority);
            return Err(Refusal::PortLacks { rule, port: port.name.clone(), lack });
        }
        let is_spread = work > 1 && plan.ports.ids().any(|port| plan.is_spread(port));
        if is_spread && spread_hash(plan).depth > self.spread_depth {
            return Err(Refusal::SpreadTooShallow);
        }
        Ok(())
    }
}

pub(in crate::broker) fn refused(fact: &str) -> Error {
    Error::NotChanged(format!("{fact}; quit, change the file and run it"))
}
