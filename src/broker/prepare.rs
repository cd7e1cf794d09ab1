//! Prepare: what another plan asks for is set up beside the running one, which goes on. This is the only step of a change that may
//! fail; what it made is dropped then, and nothing has changed.

use std::path::Path;
use std::sync::Arc;

use super::clocks::PortClock;
use super::device::Device;
use super::kept::{Anew, Kept};
use super::neighbours::{Neighbourhood, Probe};
use super::outputs::Outputs;
use super::pcap_output::{self, Written};
use super::recorder::{Feed, Recorder};
use super::refusal::Refusal;
use super::start::Site;
use super::start::copies::{CopyResources, makers};
use super::start::fixed::Fixed;
use super::start::memory::{Pools, check_tables};
use super::start::placement::LcoreRoles;
use super::start::ports::{
    StartedPort, attach, changed_frames, interface_mtu, long_frames, start_one, untied_wires,
    wait_for_links,
};
use super::start::probes::{heartbeat_key, local_frames, neighbourhoods, own_addresses, probes};
use super::start::queues::{Layout, SpareTxq, WorkerWays, intakes, outlets};
use super::{Broker, DRAIN_LIMIT, Error};
use crate::plan::diff::{Needs, diff, interrupted};
use crate::plan::surroundings::System;
use crate::plan::value::PortPlan;
use crate::plan::{Plan, Run};
use tapline_api::event::Event;
use tapline_datapath::copies::build::Maker;
use tapline_datapath::counters::WriterCounters;
use tapline_datapath::egress::capture_queue::BatchRing;
use tapline_datapath::ids::{Attachment, PortId, ToolId, WireId};
use tapline_datapath::receive::Intake;
use tapline_datapath::receive::decap::EndpointReport;
use tapline_datapath::receive::local_frames::LocalFrames;
use tapline_dpdk::eal::KeptDevice;
use tapline_dpdk::port::Port;
use tapline_lang::files::Files as _;
use tapline_lang::files::Target;
use tapline_packet::by_id::ById;

/// This is what was set up for a plan, beside the one that runs.
pub(super) struct Prepared {
    pub kept: Kept,
    pub fixed: Fixed,
    pub copy_resources: CopyResources,
    /// Each worker has one, if it makes copies.
    pub makers: Vec<Option<Maker>>,
    /// A change has machinery if ports, tools or wires come or go.
    pub machinery: Option<Machinery>,
}

/// This is what a plan has of ports and queues.
pub(super) struct Machinery {
    pub roles: LcoreRoles,
    pub ports: ById<PortId, Device>,
    pub attachments: ById<PortId, Attachment>,
    pub clocks: ById<PortId, PortClock>,
    pub reports: ById<PortId, Vec<EndpointReport>>,
    pub spare: ById<PortId, Vec<Option<SpareTxq>>>,
    pub mtus: ById<PortId, Option<u32>>,
    pub pools: Pools,
    pub outputs: Outputs,
    /// Each port that comes has the watch over the file that its driver writes.
    pub written: ById<PortId, Option<Written>>,
    /// Each worker has those that it polls.
    pub intakes: Vec<Vec<Intake>>,
    pub ways: Vec<WorkerWays>,
    pub layout: Layout,
    pub local_frames: ById<PortId, Option<Arc<LocalFrames>>>,
    pub neighbours: (Vec<Neighbourhood>, Vec<Probe>),
    /// Each capture tool that comes has a ring from each worker.
    pub batch_rings: Vec<(ToolId, Vec<Arc<BatchRing>>)>,
    pub recorders: Vec<Recorder>,
    pub writers: Option<Arc<WriterCounters>>,
    /// Wires whose links a driver cannot set.
    pub untied: ById<WireId, bool>,
    pub notes: Vec<Event>,
}

/// The devices of a plan's ports, and the numbers of their attachments.
struct Devices {
    ports: ById<PortId, Device>,
    attachments: ById<PortId, Attachment>,
}

impl Broker {
    /// Sets up what `plan` asks for. Ports that are `anew` lose their devices, or get them.
    ///
    /// # Errors
    /// If the plan needs what a running broker cannot give it, or what the machine does not give; nothing has changed then.
    pub(super) fn prepare(&self, plan: &Arc<Plan>, anew: &Anew) -> Result<Prepared, Error> {
        self.check_taken_up(plan, &anew.opening)?;
        let kept = Kept::of(&self.plan, plan, anew);
        let options = self.options.clone();
        let run = Run { plan, options: &options };
        let mut fixed = self.fixed.after(run, &kept.devices);
        fixed.check(run, self.working())?;
        check_tables(plan, self.working())?;
        let lcores = self.roles.lcores.clone();
        let mut copy_resources = self.copy_resources.for_plan(&self.plan, plan, &kept.tools);
        if kept.keeps_setup() && !self.changes_machinery(plan) {
            let ports = &self.machine.ports;
            let makers = makers(&self.machine.eal, run, ports, &lcores, &mut copy_resources)
                .map_err(|error| no_copies(&error))?;
            self.set_promiscuous(plan, &kept)?;
            return Ok(Prepared { kept, fixed, copy_resources, makers, machinery: None });
        }
        if !self.options.is_changeable {
            return Err(Refusal::NotChangeable.into());
        }
        self.check_devices(plan, &kept)?;
        self.check_files(plan, &kept)?;
        self.machine.eal.reclaim();
        let known = self.machine.names().len();
        let set_up = self.set_up(plan, &kept, anew).and_then(|mut machinery| {
            fixed.note_devices(plan, &machinery.ports);
            let makers = makers(&self.machine.eal, run, &machinery.ports, &lcores, &mut copy_resources)
                .map_err(|error| no_copies(&error))?;
            self.start_writers(run, &kept, &mut machinery)?;
            self.set_promiscuous(plan, &kept)?;
            Ok((makers, machinery))
        });
        match set_up {
            Ok((makers, machinery)) => {
                Ok(Prepared { kept, fixed, copy_resources, makers, machinery: Some(machinery) })
            }
            Err(error) => {
                self.machine.names().truncate(known);
                Err(error)
            }
        }
    }

    /// Returns whether a plan with the ports and queues of the running one has other tunnels, probes, or wires, or stops other ports.
    fn changes_machinery(&self, plan: &Plan) -> bool {
        let mut tools = self.plan.tools.iter().zip(&plan.tools);
        let are_tools_same = tools.all(|(before, after)| {
            before.copy.tunnel == after.copy.tunnel
                && before.heartbeat == after.heartbeat
                && before.echo == after.echo
        });
        let stops = |plan: &Plan| plan.ports.iter().map(|port| port.is_stopped).collect::<Vec<_>>();
        !are_tools_same || *self.plan.wires != *plan.wires || stops(&self.plan) != stops(plan)
    }

    /// Tells ports that stay to take frames to others, or not to, where the plan says so otherwise than the one before.
    ///
    /// # Errors
    /// If a driver cannot; those that could are told what they were told before.
    fn set_promiscuous(&self, plan: &Plan, kept: &Kept) -> Result<(), Error> {
        let mut told: Vec<(&Port, bool)> = Vec::new();
        for (id, port) in plan.ports.entries() {
            let Some(from) = kept.devices[id] else { continue };
            let (before, after) = (self.plan.ports[from].is_promiscuous, port.is_promiscuous);
            let Some(device) = self.machine.ports[from].ethdev().filter(|_| before != after) else {
                continue;
            };
            if let Err(error) = device.set_promiscuous(after) {
                for (device, before) in told {
                    // it could a moment ago
                    let _ = device.set_promiscuous(before);
                }
                return Err(error.into());
            }
            told.push((device, before));
        }
        Ok(())
    }

    /// # Errors
    /// The first change that a broker which runs does not take up while it keeps all ports but those that are set up anew.
    fn check_taken_up(&self, plan: &Plan, anew: &[String]) -> Result<(), Error> {
        let changes = diff(&self.plan, plan);
        if let Some(change) = changes.iter().find(|change| change.needs == Needs::Restart) {
            return Err(Refusal::NeedsRestart { what: change.to_string() }.into());
        }
        match interrupted(&self.plan, plan, &changes).into_iter().find(|(port, _)| !anew.contains(port)) {
            Some((port, what)) => Err(Refusal::InterruptsPort { what, port }.into()),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The first thing that stands against setting up `ports`, which run, as `plan` has them, as far as it is seen beforehand.
    pub(super) fn check_interruption(&self, plan: &Arc<Plan>, ports: &[String]) -> Result<(), Error> {
        let anew = Anew { closing: Vec::new(), opening: self.opening(plan, ports) };
        self.check_taken_up(plan, &anew.opening)?;
        let kept = Kept::of(&self.plan, plan, &anew);
        let run = Run { plan, options: &self.options };
        self.fixed.after(run, &kept.devices).check(run, self.working())?;
        check_tables(plan, self.working())?;
        if !self.options.is_changeable {
            return Err(Refusal::NotChangeable.into());
        }
        self.check_devices(plan, &kept)?;
        // what cannot be opened anew cannot be put back either
        let before = self.plan.ports.iter().filter(|port| ports.contains(&port.name));
        before.clone().try_for_each(check_pipe)
    }

    /// # Errors
    /// The first port whose device is that of another one that runs, or whose driver would wait for the other end of a pipe.
    fn check_devices(&self, plan: &Plan, kept: &Kept) -> Result<(), Error> {
        let comes =
            plan.ports.entries().filter(|(id, port)| kept.devices[*id].is_none() && port.replay.is_none());
        for (id, port) in comes {
            let device = port.devargs.written_device();
            let is_same = |(from, other): &(PortId, &PortPlan)| {
                other.replay.is_none()
                    && other.devargs.written_device() == device
                    && self.machine.ports[*from].closed().is_none()
                    && kept.ports[id] != Some(*from)
            };
            if let Some((_, other)) = self.plan.ports.entries().find(is_same) {
                let (port, device) = (port.name.clone(), device.to_owned());
                return Err(Refusal::DeviceInUse { port, device, other: other.name.clone() }.into());
            }
            if let Some(kept) = self.machine.kept_devices.iter().find(|kept| kept.device == device) {
                let (port, KeptDevice { port: other, device, error }) = (port.name.clone(), kept.clone());
                return Err(Refusal::DeviceKept { port, device, other, error }.into());
            }
            check_pipe(port)?;
        }
        Ok(())
    }

    /// # Errors
    /// The first capture tool whose file is written by the running plan, under this name or another.
    fn check_files(&self, plan: &Plan, kept: &Kept) -> Result<(), Error> {
        let comes = plan.tools.entries().filter(|(id, _)| kept.tools[*id].is_none());
        for (tool, path) in comes.filter_map(|(_, tool)| Some((tool, tool.capture.as_ref()?))) {
            let Some(target) = target_of(path) else { continue };
            let is_same = |path: &Path| target_of(path).as_ref() == Some(&target);
            let by_tool = self.plan.tools.iter().find(|tool| tool.capture.as_deref().is_some_and(is_same));
            let by_port = self.plan.ports.iter().find(|port| {
                port.is_ethdev() && pcap_output::paths(&port.devargs).map(Path::new).any(is_same)
            });
            let other = by_tool
                .map(|tool| format!("tool {}", tool.name))
                .or(by_port.map(|port| format!("port {}", port.name)));
            if let Some(other) = other {
                let (owner, path) = (format!("tool {}", tool.name), path.display().to_string());
                return Err(Refusal::FileInUse { owner, path, other }.into());
            }
        }
        Ok(())
    }

    /// Attaches and starts the ports that come, and makes the queues and rings of tools and wires that come.
    fn set_up(&self, plan: &Arc<Plan>, kept: &Kept, anew: &Anew) -> Result<Machinery, Error> {
        let is_closing = |port: PortId| anew.is_closing(&plan.ports[port].name);
        let is_new = |port: PortId| kept.devices[port].is_none() && !is_closing(port);
        let is_new_tool = |tool: ToolId| kept.outlets[tool.egress()].is_none();
        let mut outputs = Outputs::take_some(plan, is_new, is_new_tool)?;
        let machine = &self.machine;
        let Devices { ports, attachments } = self.devices_of(plan, kept, anew)?;
        outputs.keep_drivers();
        let roles = self.roles.for_ports_of(plan);
        let site = Site {
            eal: &machine.eal,
            plan,
            options: &self.options,
            roles: &roles,
            ports: &ports,
            attachments: &attachments,
        };
        let mut pools = machine.pools.clone();
        let (mut started, mut clocks) = (ById::default(), ById::default());
        let mut notes = Vec::new();
        for (id, port) in plan.ports.entries() {
            let mut own = match kept.devices[id] {
                Some(from) => StartedPort::kept(machine.spare_of(from)),
                None if is_closing(id) => StartedPort::kept(Vec::new()),
                None => {
                    notes.extend(long_frames(port));
                    notes.extend(changed_frames(port));
                    start_one(&site, id, &mut pools)?
                }
            };
            notes.append(&mut own.notes);
            clocks.push(std::mem::replace(&mut own.clock, PortClock::Poll));
            started.push(own);
        }
        let untied = untied_wires(plan, &ports, &mut notes, |wire| kept.wires[wire].is_none());
        wait_for_links(plan, &ports, is_new);
        let key = heartbeat_key(&self.secret);
        let local_frames = self.local_frames_for(plan, kept, local_frames(plan, key));
        let had = Layout::after(&self.layout, &kept.devices, &kept.devices_after);
        let intakes = intakes(&site, &mut started, &local_frames, had.polled.clone())?;
        let layout = Layout { polled: intakes.polled, ..had };
        let mut ways = outlets(&site, &mut started, &kept.outlets, layout)?;
        let has_outbox = |id: PortId| kept.devices[id].is_some_and(|from| self.neighbours.has_outbox(from));
        let neighbourhoods =
            neighbourhoods(&site, &mut started, local_frames.clone(), &mut ways, has_outbox)?;
        let probes = probes(&site, key, &self.secret);
        let (mtus, written) = self.watched_ports(plan, kept, &ports);
        Ok(Machinery {
            clocks,
            spare: started.into_iter().map(|port| port.txqs).collect(),
            mtus,
            written,
            pools,
            outputs,
            intakes: intakes.of_workers,
            reports: intakes.reports,
            ways: ways.of_workers,
            layout: ways.layout,
            batch_rings: ways.batch_rings,
            recorders: Vec::new(),
            writers: None,
            neighbours: (neighbourhoods, probes),
            local_frames,
            untied,
            notes,
            roles,
            attachments,
            ports,
        })
    }

    /// Attaches the devices of ports that come, and gives those of all ports.
    ///
    /// # Errors
    /// If a device that comes cannot be attached.
    fn devices_of(&self, plan: &Plan, kept: &Kept, anew: &Anew) -> Result<Devices, Error> {
        let machine = &self.machine;
        let (mut ports, mut attachments) = (ById::default(), ById::default());
        for (id, port) in plan.ports.entries() {
            let (device, attachment) = match (kept.devices[id], kept.ports[id]) {
                (Some(from), _) => (machine.ports[from].clone(), machine.attachments[from]),
                (None, Some(from)) if anew.is_closing(&port.name) => {
                    let why = "it is being set up again".to_owned();
                    let (name, is_gone) = (port.name.clone(), machine.ports[from].is_gone());
                    (Device::Closed { name, why, is_gone }, machine.attachments[from])
                }
                (None, _) => {
                    let device = attach(&machine.eal, port)?;
                    let mut names = machine.names();
                    names.push(port.name.clone());
                    (device, Attachment(names.len() as u32 - 1))
                }
            };
            ports.push(device);
            attachments.push(attachment);
        }
        Ok(Devices { ports, attachments })
    }

    /// Returns for each port its interface's MTU, and the watch over a file that its driver begins.
    fn watched_ports(
        &self,
        plan: &Plan,
        kept: &Kept,
        ports: &ById<PortId, Device>,
    ) -> (ById<PortId, Option<u32>>, ById<PortId, Option<Written>>) {
        let mtus = ports.entries().map(|(id, device)| match kept.devices[id] {
            Some(from) => self.machine.mtus[from],
            None => interface_mtu(&plan.ports[id], device),
        });
        let written = plan
            .ports
            .entries()
            .map(|(id, port)| Written::of(&port.devargs).filter(|_| kept.devices[id].is_none()));
        (mtus.collect(), written.collect())
    }

    /// Returns for each port the queue of frames for Tapline itself. A queue whose frames are told as before goes on.
    fn local_frames_for(
        &self,
        plan: &Plan,
        kept: &Kept,
        fresh: ById<PortId, Option<Arc<LocalFrames>>>,
    ) -> ById<PortId, Option<Arc<LocalFrames>>> {
        let go_on = |(id, fresh): (PortId, Option<Arc<LocalFrames>>)| {
            let from = kept.devices[id].filter(|&from| {
                own_addresses(&self.plan, from) == own_addresses(plan, id)
                    && self.plan.returns_heartbeats(from) == plan.returns_heartbeats(id)
            });
            match (from.and_then(|from| self.neighbours.local_frames_of(from)), fresh) {
                (Some(known), Some(_)) => Some(known),
                (_, fresh) => fresh,
            }
        };
        plan.ports.ids().zip(fresh).map(go_on).collect()
    }

    /// Begins the files of capture tools that come.
    ///
    /// # Errors
    /// If one cannot be written; those that were begun are ended, and removed where they were not there before.
    fn start_writers(&self, run: Run<'_>, kept: &Kept, machinery: &mut Machinery) -> Result<(), Error> {
        let known = self.account.writers.as_ref().map(|writers| writers.after(&kept.tools));
        if known.is_none() && machinery.batch_rings.is_empty() {
            return Ok(());
        }
        let writers = Arc::new(known.unwrap_or_else(|| WriterCounters::new(run.plan.tools.len())));
        let mut made = Vec::new();
        for (tool, rings) in std::mem::take(&mut machinery.batch_rings) {
            let taken = machinery.outputs.capture(tool);
            made.extend(taken.made());
            let feed = Feed {
                rings,
                counters: Arc::clone(&writers.tools[tool]),
                names: Arc::clone(&self.machine.names),
                tallies: Arc::clone(&self.account.tallies),
                attachments: machinery.attachments.clone(),
            };
            match Recorder::start(run, tool, taken, feed, self.machine.outputs.disks()) {
                Ok(recorder) => machinery.recorders.push(recorder),
                Err(error) => {
                    machinery.recorders.iter_mut().for_each(|recorder| recorder.close(DRAIN_LIMIT));
                    for path in &made {
                        // nothing was written to it
                        let _ = std::fs::remove_file(path);
                    }
                    return Err(error);
                }
            }
        }
        machinery.writers = Some(writers);
        Ok(())
    }
}

/// The file, or the folder of a store, that a path leads to.
fn target_of(path: &Path) -> Option<Target> {
    System.target(path).or_else(|| System.folder(path).ok().map(|folder| folder.target))
}

/// # Errors
/// If the port's driver would wait for the other end of a pipe.
fn check_pipe(port: &PortPlan) -> Result<(), Error> {
    match pcap_output::pipe(&port.devargs) {
        Some(path) => Err(Refusal::WaitsForPipe { port: port.name.clone(), path: path.to_owned() }.into()),
        None => Ok(()),
    }
}

fn no_copies(error: &Error) -> Error {
    Error::NotChanged(format!("copies are to be edited, and there is no room for them: {error}"))
}
