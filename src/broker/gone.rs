//! Ports whose device is taken away: an alarm meanwhile, an interface of the same name that is taken in its place, and the end of the
//! run where nothing would ever come again.

use std::time::Duration;

use super::Broker;
use super::device::Device;
use super::housekeeping::record_alarm;
use super::start::ports::wants_groups;
use crate::plan::value::PortPlan;
use tapline_api::event::{Alarm, Event};
use tapline_api::words::WhenGone;
use tapline_datapath::ids::PortId;

/// Time between two attempts to attach a device that was refused, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The absence of a port's device.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Absence {
    is_told: bool,
    /// The device was back and was refused.
    is_refused: bool,
    pause: Duration,
    next_try: Duration,
}

/// Returns whether a port takes its device back when it is there again. Devices of DPDK are not probed anew.
fn waits(port: &PortPlan) -> bool {
    port.iface.is_some() && port.when_gone == WhenGone::Wait
}

impl Broker {
    /// Raises and clears the alarms of ports whose devices are gone, and takes interfaces back.
    pub(super) fn watch_gone(&mut self, now: Duration, now_ns: u64) {
        self.guards.absences.resize(self.plan.ports.len(), Absence::default());
        for ((id, port), absence) in self.plan.ports.entries().zip(&mut self.guards.absences) {
            let device = &self.machine.ports[id];
            if absence.is_told
                && waits(port)
                && now >= absence.next_try
                && device.is_gone()
                && let (Device::Iface(interface), Some(iface)) = (device, &port.iface)
            {
                match interface.attach_again(port, iface, wants_groups(&self.plan, id)) {
                    Ok(warnings) => warnings
                        .into_iter()
                        .flatten()
                        .for_each(|warning| self.events.record(now_ns, warning)),
                    Err(error) => {
                        let (port, error) = (port.name.clone(), error.to_string());
                        if !absence.is_refused {
                            self.events.record(now_ns, Event::PortNotAttached { port, error });
                        }
                        absence.is_refused = true;
                        absence.pause = (absence.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                        absence.next_try = now + absence.pause;
                    }
                }
            }
            let is_gone = device.is_gone();
            if is_gone != absence.is_told {
                *absence = Absence { is_told: is_gone, ..Absence::default() };
                let (name, device) = (port.name.clone(), port.devargs.to_string());
                let alarm = Alarm::PortGone { port: name, device, waits: waits(port) };
                record_alarm(&mut self.events, now_ns, alarm, is_gone);
            }
        }
    }

    /// Returns the ports because of which the run is to end: those that are gone and have `gone end`. Where nobody could attach a port,
    /// it also returns the inputs that are gone for good, if none is left that may receive.
    pub fn gone_for_good(&self, is_attended: bool) -> Vec<String> {
        // what is told first
        let is_gone = |id: PortId| self.guards.absences.get(id).is_some_and(|absence| absence.is_told);
        let named = |ports: Vec<(PortId, &PortPlan)>| -> Vec<String> {
            ports.into_iter().map(|(_, port)| port.name.clone()).collect()
        };
        let ending = |(id, port): &(PortId, &PortPlan)| port.when_gone == WhenGone::End && is_gone(*id);
        let ending: Vec<_> = self.plan.ports.entries().filter(ending).collect();
        if !ending.is_empty() || is_attended {
            return named(ending);
        }
        let is_input =
            |(_, port): &(PortId, &PortPlan)| port.uses.is_taken_from || port.uses.wire.is_some();
        let inputs = || self.plan.ports.entries().filter(is_input);
        let is_lost = |(id, port): &(PortId, &PortPlan)| is_gone(*id) && !waits(port);
        let has_ended = |id: PortId| self.machine.ports[id].replay().is_some_and(|replay| replay.ended);
        if inputs().all(|input| is_lost(&input) || has_ended(input.0)) {
            named(inputs().filter(is_lost).collect())
        } else {
            Vec::new()
        }
    }
}
