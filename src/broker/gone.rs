//! Ports whose device is taken away: an alarm meanwhile, the device that is attached again once it is back, and the end of the run
//! where nothing would ever come again.
//!
//! A port that is an interface of the kernel takes another one of its name in place of the one that is gone, while workers go on. What
//! DPDK drives is set up again as by a change that interrupts the port and leaves the plan as it is: it is closed, and attached when
//! what is left of it is away.

use std::sync::Arc;
use std::time::Duration;

use super::device::Device;
use super::housekeeping::record_alarm;
use super::pcap_output;
use super::start::ports::wants_groups;
use super::{Broker, Error};
use crate::plan::value::PortPlan;
use tapline_api::event::{Alarm, Event};
use tapline_api::words::WhenGone;
use tapline_datapath::ids::PortId;
use tapline_dpdk::driver::Takes;
use tapline_kernel::interface::Index;

/// Time between two attempts to attach a device that was refused, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The absence of a port's device.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Absence {
    is_told: bool,
    /// Times that the device was back and was refused.
    refusals: u32,
    pause: Duration,
    next_try: Duration,
}

impl Absence {
    /// Notes that the device was refused. Returns whether that is to be told: a device that is still being made is refused once.
    fn put_off(&mut self, now: Duration) -> bool {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.next_try = now + self.pause;
        self.refusals = self.refusals.saturating_add(1);
        self.refusals == 2
    }
}

/// Returns whether a port takes its device back when it is there again. Only a run whose plan may be changed sets up what DPDK drives,
/// and nothing that would begin a file anew: what the file holds would be lost without anybody's word.
fn waits(port: &PortPlan, is_changeable: bool) -> bool {
    let may_be_set_up =
        || is_changeable && port.is_ethdev() && pcap_output::paths(&port.devargs).next().is_none();
    port.when_gone == WhenGone::Wait && (port.iface.is_some() || may_be_set_up())
}

/// Returns whether the device of a port may be there again: its interface is, if it is one that the driver does not make itself.
fn may_be_back(port: &PortPlan) -> bool {
    let makes_interface = port
        .devargs
        .driver()
        .is_some_and(|driver| matches!(driver.takes, Takes::Kernel { makes_interface: true, .. }));
    makes_interface || port.devargs.kernel_interface().is_none_or(|name| Index::of(name).is_some())
}

impl Broker {
    /// Raises and clears the alarms of ports whose devices are gone, and takes interfaces back.
    pub(super) fn watch_gone(&mut self, now: Duration, now_ns: u64) {
        let is_changeable = self.options.is_changeable;
        self.guards.absences.resize(self.plan.ports.len(), Absence::default());
        for ((id, port), absence) in self.plan.ports.entries().zip(&mut self.guards.absences) {
            let device = &self.machine.ports[id];
            if absence.is_told
                && waits(port, is_changeable)
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
                        if absence.put_off(now) {
                            self.events.record(now_ns, Event::PortNotAttached { port, error });
                        }
                    }
                }
            }
            let is_gone = device.is_gone();
            if is_gone != absence.is_told {
                // workers first take what waits in what is left of a device that DPDK drives
                let pause = if port.iface.is_some() { Duration::ZERO } else { FIRST_PAUSE };
                *absence = Absence { is_told: is_gone, next_try: now + pause, ..Absence::default() };
                let (name, device) = (port.name.clone(), port.devargs.to_string());
                let alarm = Alarm::PortGone { port: name, device, waits: waits(port, is_changeable) };
                record_alarm(&mut self.events, now_ns, alarm, is_gone);
            }
        }
    }

    /// Sets ports up again that have no device and are to have one, as far as it is their time. To be called every few milliseconds, while
    /// no change of the plan is on its way.
    pub fn attach_again(&mut self) {
        self.put_back_due();
        self.attach_gone();
    }

    /// Does the next step of attaching a device of DPDK again that is gone, if one is due: closes what is left of it, or attaches it.
    fn attach_gone(&mut self) {
        let now = self.started.elapsed();
        if self.is_retiring() || !self.options.is_changeable {
            return;
        }
        let is_due = |(id, port): &(PortId, &PortPlan)| {
            let is_its_time = |absence: &Absence| absence.is_told && now >= absence.next_try;
            port.iface.is_none()
                && self.guards.absences.get(*id).is_some_and(is_its_time)
                && self.machine.ports[*id].is_gone()
                && waits(port, true)
                && may_be_back(port)
        };
        let Some((id, port)) = self.plan.ports.entries().find(is_due) else { return };
        let (port, plan) = ([port.name.clone()], Arc::clone(&self.plan));
        let tried = match self.machine.ports[id].closed() {
            None => self.close_ports(&plan, &port),
            Some(_) => self.open_ports(plan, &port),
        };
        if let Err(error) = tried {
            self.leave_gone(id, port, &error, now);
        }
    }

    /// Notes why a port that is gone could not be attached again; the next try comes later.
    fn leave_gone(&mut self, id: PortId, port: [String; 1], error: &Error, now: Duration) {
        let error = error.to_string();
        self.leave_closed(&port, &error);
        if self.guards.absences[id].put_off(now) {
            let [port] = port;
            self.record(Event::PortNotAttached { port, error });
        }
    }

    /// Returns whether the device of a port is closed and could not be taken out of DPDK: it is not attached again.
    fn is_kept(&self, port: &PortPlan) -> bool {
        self.machine.kept_devices.iter().any(|kept| kept.device == port.devargs.written_device())
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
        let is_lost = |(id, port): &(PortId, &PortPlan)| {
            is_gone(*id) && (!waits(port, self.options.is_changeable) || self.is_kept(port))
        };
        let has_ended = |id: PortId| self.machine.ports[id].replay().is_some_and(|replay| replay.ended);
        if inputs().all(|input| is_lost(&input) || has_ended(input.0)) {
            named(inputs().filter(is_lost).collect())
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Surroundings, plan};
    use tapline_lang as lang;

    #[test]
    fn a_device_is_waited_for_unless_somebody_says_otherwise_or_its_file_would_begin_anew() {
        for (said, alone, changeable) in [
            ("iface:eth7", true, true),
            ("iface:eth7 gone end", false, false),
            ("net_af_packet0,iface=eth7", false, true),
            ("net_af_packet0,iface=eth7 gone wait", false, true),
            ("net_af_packet0,iface=eth7 gone end", false, false),
            ("net_pcap0,iface=eth7", false, true),
            ("net_pcap0,rx_iface=eth7,tx_pcap=out.pcap", false, false),
            ("net_tap0,iface=tap7", false, true),
            ("0000:03:00.0", false, true),
            ("replay:in.pcap", false, false),
        ] {
            let mut parsed = lang::parse_text("test", &format!("port attach p {said}\n"), &[]);
            let plan = plan(&mut parsed, &Surroundings::fixed()).expect("a plan");
            let port = &plan.ports[PortId(0)];
            assert_eq!((waits(port, false), waits(port, true)), (alone, changeable), "{said}");
        }
    }
}
