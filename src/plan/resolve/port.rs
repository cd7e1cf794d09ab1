//! Ports: their devices and queues, and tunnels that end at them.

use std::path::Path;
use std::time::Duration;

use super::definitions::{Definitions, Port};
use super::{Resolver, first_word};
use crate::plan::devargs::{foreign_frames, oversized_packets, resident_packets};
use crate::plan::files::part_of;
use crate::plan::value::{IfacePlan, PortPlan, PortUse};
use tapline_api::values::ReplaySpeed;
use tapline_api::words::WhenGone;
use tapline_datapath::receive::replay;
use tapline_datapath::receive::tunnel_match::Terminator;
use tapline_datapath::work_plan::ReplayPlan;
use tapline_dpdk::clock::nanoseconds;
use tapline_dpdk::driver::{Devargs, Driver};
use tapline_dpdk::mempool::DATA_ROOM;
use tapline_lang::ast;
use tapline_lang::ast::Name;
use tapline_lang::ast::port::{Device, PortOption};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::files::Unreadable;

impl<'a> Resolver<'a> {
    pub(super) fn port(&mut self, port: &Port<'a>, definitions: &Definitions<'a>) -> PortPlan {
        let as_written = || Devargs::new(port.device.value.to_string());
        let (devargs, replay, iface) = match &port.device.value {
            Device::Devargs(devargs) => (Devargs::new(devargs), None, None),
            Device::Replay { path, speed, loops, max_gap } => {
                let replay = self.replay(port, path, *speed, *loops, *max_gap);
                (as_written(), Some(replay), None)
            }
            Device::Iface(iface) => (as_written(), None, Some(iface)),
        };
        self.check_device(port, &devargs, definitions);
        let mut plan = PortPlan {
            name: port.name.value.clone(),
            resident: resident_packets(&devargs, &*self.surroundings.files),
            devargs,
            rxq: replay.is_some().then_some(1).or(iface.map(|iface| iface.queues)),
            txq: replay.is_some().then_some(0),
            replay,
            terminators: Vec::new(),
            // the kernel's rings hold no mbufs
            rxd: if iface.is_some() { 0 } else { 1024 },
            txd: if iface.is_some() { 0 } else { 1024 },
            iface: iface.map(iface_plan),
            mtu: None,
            is_promiscuous: true,
            is_stopped: port.is_stopped,
            lcores: None,
            when_gone: WhenGone::Wait,
            is_alarmed: true,
            uses: PortUse::default(),
        };
        for option in &port.options {
            if let Some(expected) = misplaced(&plan, &option.value) {
                let word = first_word(self.sources().text(option.span)).to_owned();
                let message = format!("`{word}` does not apply to port `{}`", port.name.value);
                self.error(Diagnostic::error(option.span, message).label(expected));
                continue;
            }
            match &option.value {
                PortOption::Rxq(queues) => plan.rxq = Some(*queues),
                PortOption::Txq(queues) => plan.txq = Some(*queues),
                PortOption::Rxd(descriptors) => plan.rxd = *descriptors,
                PortOption::Txd(descriptors) => plan.txd = *descriptors,
                PortOption::Mtu(mtu) => plan.mtu = Some(*mtu),
                PortOption::Promiscuous(is_promiscuous) => plan.is_promiscuous = *is_promiscuous,
                PortOption::Lcores(lcores) => plan.lcores = Some(lcores.clone()),
                PortOption::Gone(when) => plan.when_gone = *when,
                PortOption::Alarm(is_alarmed) => plan.is_alarmed = *is_alarmed,
                PortOption::Terminate(terminate) => {
                    let terminator = terminator(terminate);
                    // the first that a packet is of counts
                    if !plan.terminators.contains(&terminator) {
                        plan.terminators.push(terminator);
                    }
                }
                // said of a change, not of the port
                PortOption::Interrupt => {}
            }
        }
        self.check_queues(port, &plan);
        plan
    }

    /// Refuses a device that another port has, and one whose frames would not be what the pipeline takes them for.
    fn check_device(&mut self, port: &Port<'a>, devargs: &Devargs, definitions: &Definitions<'a>) {
        let device = devargs.written_device();
        let twin =
            definitions.ports.iter().take_while(|other| other.name.span != port.name.span).find(|other| {
                match &other.device.value {
                    Device::Devargs(other) => !device.is_empty() && other.split(',').next() == Some(device),
                    Device::Iface(other) => device.strip_prefix("iface:") == Some(&*other.interface),
                    Device::Replay { .. } => false,
                }
            });
        if let Some(twin) = twin {
            let message = format!("device `{device}` is attached already as port `{}`", twin.name.value);
            let label = match &port.device.value {
                Device::Iface(_) => {
                    "expected one port, which has all that comes by the interface: say `queues=N` for more queues"
                }
                _ => "expected a device of its own, such as net_pcap0, net_pcap1",
            };
            self.error(Diagnostic::error(port.device.span, message).label(label));
        }
        if matches!(port.device.value, Device::Devargs(_))
            && devargs.driver().is_none()
            && (self.surroundings.hardware_type)(device).is_some()
        {
            let message = format!("`{device}` is an interface of the kernel, and no device of DPDK's");
            self.error(
                Diagnostic::error(port.device.span, message)
                    .label(format!("expected `iface:{device}`"))
                    .help(format!("write: port attach {} iface:{device}", port.name.value)),
            );
        }
        if let Some(message) = oversized_packets(devargs) {
            let label = format!("expected a size of 1 to {DATA_ROOM} bytes: what an mbuf holds");
            self.error(Diagnostic::error(port.device.span, message).label(label));
        }
        if !matches!(port.device.value, Device::Replay { .. })
            && let Some(foreign) = foreign_frames(devargs, self.surroundings)
        {
            let mut whole = port.device.span;
            let span = part_of(&mut whole, foreign.argument, self.sources()).unwrap_or(port.device.span);
            self.error(Diagnostic::error(span, foreign.message).label(foreign.reason));
        }
    }

    /// Refuses numbers of queues that do not fit the driver, or what else is said of the port.
    fn check_queues(&mut self, port: &Port<'a>, plan: &PortPlan) {
        let said = |is: fn(&PortOption) -> bool| {
            port.options.iter().rfind(|option| is(&option.value)).map(|option| option.span)
        };
        if plan.rxq == Some(0)
            && let Some(span) = said(|option| matches!(option, PortOption::Lcores(_)))
        {
            let message =
                format!("`lcores` does not apply to port `{}`, which has no receive queue", plan.name);
            self.error(
                Diagnostic::error(span, message)
                    .label("expected on a port that receives: `lcores` names who polls it"),
            );
        }
        if let Some(Driver { name, pairs_queues: true, .. }) = plan.devargs.driver() {
            let rxq = said(|option| matches!(option, PortOption::Rxq(_))).zip(plan.rxq);
            let txq = said(|option| matches!(option, PortOption::Txq(_))).zip(plan.txq);
            // what is not said is chosen, and never 0
            let wrong = match (rxq, txq) {
                (Some((span, rxq)), Some((_, txq))) if rxq != txq => Some(span),
                (rxq, txq) => {
                    rxq.into_iter().chain(txq).find(|&(_, queues)| queues == 0).map(|(span, _)| span)
                }
            };
            if let Some(span) = wrong {
                let message = format!("{name} has as many receive as transmit queues");
                self.error(
                    Diagnostic::error(span, message)
                        .label("expected neither `rxq` nor `txq`, or the same number, 1 or more"),
                );
            }
        }
    }

    /// A capture as a port. What its beginning tells against it is an error here; a file that is not there yet is one at the start.
    fn replay(
        &mut self,
        port: &Port<'a>,
        path: &str,
        speed: ReplaySpeed,
        loops: ast::port::Loops,
        max_gap: Option<Duration>,
    ) -> ReplayPlan {
        let probed = match self.surroundings.files.open(Path::new(path)) {
            Ok(file) => replay::probe(file),
            Err(Unreadable::Missing | Unreadable::NotRegular) => Ok(()),
            Err(reason) => Err(format!("cannot be opened: {reason}")),
        };
        if let Err(reason) = probed {
            let message = format!("`{path}` cannot be replayed");
            self.error(Diagnostic::error(port.device.span, message).label(reason));
        }
        let passes = match loops {
            ast::port::Loops::Times(passes) => Some(passes),
            ast::port::Loops::Forever => None,
        };
        ReplayPlan { path: path.to_owned(), speed, passes, max_gap_ns: max_gap.map(nanoseconds) }
    }

    /// Refuses a port that nothing can be sent on.
    pub(super) fn refuse_replay(&mut self, name: &Name, port: &Port<'a>) {
        if matches!(port.device.value, Device::Replay { .. }) {
            let message = format!("port `{}` is a replay", name.value);
            self.error(
                Diagnostic::error(name.span, message).label("expected a port that packets can be sent on"),
            );
        }
    }
}

/// Gives the words for what a port takes in place of an option that it does not take.
fn misplaced(plan: &PortPlan, option: &PortOption) -> Option<&'static str> {
    let is_of_device = match option {
        PortOption::Terminate(_) | PortOption::Lcores(_) | PortOption::Alarm(_) | PortOption::Interrupt => {
            return None;
        }
        PortOption::Rxq(_) | PortOption::Txq(_) | PortOption::Rxd(_) | PortOption::Txd(_) => true,
        PortOption::Mtu(_) | PortOption::Promiscuous(_) | PortOption::Gone(_) => false,
    };
    if plan.replay.is_some() && matches!(option, PortOption::Gone(_)) {
        Some("expected on a port whose device may go: a replay ends")
    } else if plan.replay.is_some() {
        Some("expected nothing of the kind: a replay has no queues")
    } else if plan.iface.is_some() && is_of_device {
        Some(
            "expected `queues=N` behind the interface, 0 for a port that only sends: `iface:eth0,queues=2`",
        )
    } else {
        None
    }
}

/// Bytes of a ring where they are not said: 256 blocks of the kernel's, each of which may hold one frame that came alone.
const RING_BYTES: u64 = 32 << 20;

fn iface_plan(iface: &ast::port::Iface) -> IfacePlan {
    IfacePlan {
        interface: iface.interface.clone(),
        takes_outgoing: iface.takes_outgoing,
        ends_offloads: iface.ends_offloads,
        wants_nic_times: iface.wants_nic_times,
        ring_bytes: iface.ring_bytes.unwrap_or(RING_BYTES),
    }
}

fn terminator(terminate: &ast::port::Terminate) -> Terminator {
    Terminator {
        kind: terminate.tunnel.value,
        to: terminate.to.as_ref().map(|to| to.value),
        from: terminate.from.as_ref().map_or_else(Vec::new, |from| from.value.clone()),
        identifiers: terminate
            .ids
            .iter()
            .flat_map(|ids| &ids.value.0)
            .map(|&(first, last)| first..=last)
            .collect(),
        udp_port: terminate.udp_port.as_ref().map(|port| port.value),
    }
}

/// Returns whether it is said of a port that it receives nothing.
pub(super) fn only_sends(port: &Port<'_>) -> bool {
    port.is_said(&PortOption::Rxq(0))
        || matches!(&port.device.value, Device::Iface(iface) if iface.queues == 0)
}

/// Returns whether a port is a replay that waits for captures.
pub(super) fn is_flat_out(port: &Port<'_>) -> bool {
    matches!(port.device.value, Device::Replay { speed: ReplaySpeed::Max, .. })
}
