//! The things that a start settles for as long as the program runs, and that another plan has to make do with.

use super::queues::spread_hash;
use crate::broker::device::Device;
use crate::broker::refusal::{Lack, Refusal};
use crate::plan::memory;
use crate::plan::{Plan, Run};
use tapline_datapath::ids::PortId;
use tapline_packet::by_id::ById;
use tapline_packet::layers::Depth;

/// The things that were set up at the start for as long as the program runs, by port.
pub(in crate::broker) struct Fixed {
    /// Mbufs that it was given for packets that wait for tools; nothing where the user said how many it has.
    mbufs: ById<PortId, Option<u32>>,
    /// Its driver was asked for the packets' times, or has none to give but those that it gives unasked.
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
                .map(|port| {
                    let waiting = memory::waiting_from(run, port);
                    plan.settings.mempool.is_none().then(|| waiting + memory::reserve_of(run, port))
                })
                .collect(),
            has_stamps: ports().map(|port| run.wants_stamps(port)).collect(),
            step_ns: ports().map(|port| plan.order_of(port)).collect(),
            spread_depth: spread_hash(plan).depth,
        }
    }

    /// Ports of these devices have times without being asked, where their packets are not handed to other lcores.
    pub(crate) fn note_devices(&mut self, plan: &Plan, devices: &ById<PortId, Device>) {
        for (id, device) in devices.entries() {
            let offers = device.ethdev().is_some_and(|port| port.info().rx_timestamps);
            self.has_stamps[id] |= !offers && !plan.is_spread(id);
        }
    }

    /// This is what ports of another plan have: those that `ports` has ids before of as they were set up, the others as the plan asks for.
    pub(crate) fn after(&self, run: Run<'_>, ports: &ById<PortId, Option<PortId>>) -> Self {
        let own = Self::of(run);
        let from = || ports.entries();
        Self {
            mbufs: from().map(|(id, from)| from.map_or(own.mbufs[id], |from| self.mbufs[from])).collect(),
            has_stamps: from()
                .map(|(id, from)| from.map_or(own.has_stamps[id], |from| self.has_stamps[from]))
                .collect(),
            step_ns: from()
                .map(|(id, from)| from.map_or(own.step_ns[id], |from| self.step_ns[from]))
                .collect(),
            spread_depth: self.spread_depth,
        }
    }

    /// # Errors
    /// Fails with what rules of the plan need of a port that it did not get at the start.
    pub(crate) fn check(&self, run: Run<'_>, work: usize) -> Result<(), Refusal> {
        let plan = run.plan;
        for (id, port) in plan.ports.entries() {
            let needed = memory::waiting_from(run, id);
            let room = self.mbufs[id].filter(|&mbufs| needed > mbufs);
            if let Some(room) = room.filter(|&room| room > 0) {
                return Err(Refusal::NoRoomToWait { port: port.name.clone(), room, needed });
            }
            let lack = if room.is_some() {
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
