//! The machine: EAL, the ports that were attached, their clocks, and the files that are written.

use std::sync::{MutexGuard, PoisonError};

use super::clocks::Clocks;
use super::device::Device;
use super::outputs::Outputs;
use super::pcap_output::Written;
use super::recorder::PortNames;
use super::start::memory::Pools;
use super::start::queues::SpareTxq;
use crate::plan::Plan;
use crate::report::snapshot::port::{PortState, terminate_of};
use tapline_api::snapshot::{ClockState, DriverStats};
use tapline_api::words::TimeSource;
use tapline_datapath::ids::{Attachment, PortId};
use tapline_datapath::receive::decap::EndpointReport;
use tapline_dpdk::Eal;
use tapline_dpdk::eal::KeptDevice;
use tapline_dpdk::queue::TxQueue;
use tapline_packet::by_id::ById;

/// The devices, clocks and files that a plan runs on.
pub(super) struct Machine {
    /// The devices, by port of the plan, as in all lists that follow.
    pub ports: ById<PortId, Device>,
    pub clocks: Clocks,
    /// This is what devices counted that the port had before the one that it has.
    pub earlier: ById<PortId, DriverStats>,
    /// Devices that could not be taken out of DPDK: closed, and not to be attached again.
    pub kept_devices: Vec<KeptDevice>,
    /// The MTU that its frames are judged by, where it is a kernel interface.
    pub mtus: ById<PortId, Option<u32>>,
    /// The files that net_pcap writes.
    pub written: ById<PortId, Option<Written>>,
    /// The counters of tunnels that end, for each receive queue.
    pub reports: ById<PortId, Vec<EndpointReport>>,
    pub attachments: ById<PortId, Attachment>,
    /// Transmit queues that no worker has, of a run whose plan may be changed.
    pub spare: ById<PortId, Vec<Option<TxQueue>>>,
    pub eal: Eal,
    /// The names of all ports that were attached.
    pub names: PortNames,
    /// The mempools that ports receive into.
    pub pools: Pools,
    /// The files that the plan's tools and ports write.
    pub outputs: Outputs,
}

impl Machine {
    /// Gives the statistics of the ports; `cleared` is what their drivers had counted at the last `clear stats`.
    pub(super) fn states(&self, plan: &Plan, cleared: &ById<PortId, DriverStats>) -> Vec<PortState> {
        let states = self.ports.entries().map(|(id, port)| PortState {
            driver_name: port.driver_name().to_owned(),
            link: port.link(),
            is_gone: port.is_gone(),
            closed: port.closed().filter(|_| !port.is_gone()).map(str::to_owned),
            driver: self.driver_stats(id).since(&cleared.get(id).copied().unwrap_or_default()),
            replay: port.replay(),
            clock: self.clock_of(plan, id),
            terminate: terminate_of(&self.reports[id]),
            mtu: self.mtus[id],
        });
        states.collect()
    }

    /// The names of all ports that were attached, by their attachments.
    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A port's transmit queues that no worker has, by queue.
    pub(super) fn spare_of(&self, port: PortId) -> Vec<Option<SpareTxq>> {
        let spare = self.spare.get(port).into_iter().flatten().enumerate();
        spare.map(|(queue, txq)| txq.as_ref().map(|_| SpareTxq::Kept(port, queue))).collect()
    }

    fn clock_of(&self, plan: &Plan, port: PortId) -> ClockState {
        let state = self.clocks.state(port);
        // what receive lcores hand over is timed from there on
        if plan.is_spread(port) { ClockState { latency_from: TimeSource::Ring, ..state } } else { state }
    }

    /// Gives the counters of a port's driver and of those before it, and what of it is missing in the file that it wrote.
    pub(super) fn driver_stats(&self, port: PortId) -> DriverStats {
        let stats = self.ports[port].stats();
        let missing = self.written[port].as_ref().map_or(0, Written::missing);
        DriverStats { tx_errors: stats.tx_errors + missing, ..stats }.plus(&self.earlier[port])
    }
}
