//! The device behind a port: one that DPDK drives, an interface of the kernel, a capture that is replayed, or none.

use std::sync::Arc;

use super::iface_port::IfacePort;
use tapline_api::snapshot::{DriverStats, ReplayState};
use tapline_api::words::LinkState;
use tapline_datapath::receive::replay::Progress;
use tapline_dpdk::driver::Driver;
use tapline_dpdk::port::{Link, Port};

/// A port's device, as the control thread sees it. A further handle keeps it attached.
#[derive(Clone)]
pub enum Device {
    Ethdev(Port),
    Iface(Arc<IfacePort>),
    Replay {
        name: String,
        progress: Arc<Progress>,
    },
    /// There is none: it was given up, or could not be set up again.
    Closed {
        name: String,
        why: String,
        /// The device that the port had was taken away.
        is_gone: bool,
    },
}

impl Device {
    pub fn name(&self) -> &str {
        match self {
            Device::Ethdev(port) => port.name(),
            Device::Iface(port) => port.name(),
            Device::Replay { name, .. } | Device::Closed { name, .. } => name,
        }
    }

    /// The device that DPDK drives, if it is one.
    pub fn ethdev(&self) -> Option<&Port> {
        match self {
            Device::Ethdev(port) => Some(port),
            Device::Iface(_) | Device::Replay { .. } | Device::Closed { .. } => None,
        }
    }

    /// Says why the port has no device, where it has none.
    pub fn closed(&self) -> Option<&str> {
        match self {
            Device::Closed { why, .. } => Some(why),
            Device::Ethdev(_) | Device::Iface(_) | Device::Replay { .. } => None,
        }
    }

    /// The Ethernet address that is the port's own, if it has one.
    pub fn mac(&self) -> Option<[u8; 6]> {
        match self {
            Device::Ethdev(port) => port.mac(),
            Device::Iface(port) => Some(port.mac()),
            Device::Replay { .. } | Device::Closed { .. } => None,
        }
    }

    /// Returns whether the device is gone, which [`link`](Self::link) notices, and no other was attached since.
    pub fn is_gone(&self) -> bool {
        match self {
            Device::Ethdev(port) => port.is_removed(),
            Device::Iface(port) => port.is_gone(),
            Device::Closed { is_gone, .. } => *is_gone,
            Device::Replay { .. } => false,
        }
    }

    /// The driver, if it is one of virtual devices that is known.
    pub fn driver(&self) -> Option<&'static Driver> {
        Driver::named(self.driver_name())
    }

    pub fn driver_name(&self) -> &str {
        match self {
            Device::Ethdev(port) => &port.info().driver,
            Device::Iface(_) => "iface",
            Device::Replay { .. } => "replay",
            Device::Closed { .. } => "closed",
        }
    }

    /// A replay is up until its end.
    pub fn link(&self) -> Link {
        match self {
            Device::Ethdev(port) => port.link(),
            Device::Iface(port) => port.link(),
            Device::Replay { progress, .. } => Link { is_up: !progress.is_ended(), speed_mbps: None },
            Device::Closed { .. } => Link { is_up: false, speed_mbps: None },
        }
    }

    pub fn stats(&self) -> DriverStats {
        match self {
            Device::Ethdev(port) => port.stats(),
            Device::Iface(port) => port.stats(),
            Device::Replay { progress, .. } => DriverStats {
                rx_packets: progress.packets.get(),
                rx_bytes: progress.bytes.get(),
                no_mbuf: progress.no_mbuf.get(),
                ..DriverStats::default()
            },
            Device::Closed { .. } => DriverStats::default(),
        }
    }

    /// Gives the state of its link; `None` for a replay, which has none.
    pub fn link_state(&self) -> Option<LinkState> {
        if matches!(self, Device::Replay { .. }) {
            return None;
        }
        let is_up = self.link().is_up;
        Some(match (self.is_gone(), is_up) {
            (true, _) => LinkState::Gone,
            (false, true) => LinkState::Up,
            (false, false) => LinkState::Down,
        })
    }

    /// Sets the link up or down; a replay has none, and neither has what is closed.
    ///
    /// # Errors
    /// If the driver cannot, or the kernel does not let this process.
    pub fn set_link(&self, is_up: bool) -> Result<(), String> {
        match self {
            Device::Ethdev(port) => port.set_link(is_up).map_err(|error| error.to_string()),
            Device::Iface(port) => port.set_link(is_up),
            Device::Replay { .. } | Device::Closed { .. } => Ok(()),
        }
    }

    /// How far a replay has come.
    pub fn replay(&self) -> Option<ReplayState> {
        let Device::Replay { progress, .. } = self else { return None };
        Some(ReplayState {
            ended: progress.is_ended(),
            passes: progress.passes.get(),
            passed_over: progress.passed_over.get(),
            read_bytes: progress.read_bytes.get(),
            all_bytes: Some(progress.all_bytes.get()).filter(|&bytes| bytes > 0),
            error: progress.failure().map(str::to_owned),
        })
    }

    /// Gives the number of packets that a replay has read so far, if packets of it are due for which there is no mbuf.
    pub fn starved(&self) -> Option<u64> {
        match self {
            Device::Replay { progress, .. } => progress.is_starved().then(|| progress.packets.get()),
            Device::Ethdev(_) | Device::Iface(_) | Device::Closed { .. } => None,
        }
    }

    /// Why a replay's file could not be read to its end.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Device::Replay { progress, .. } => progress.failure(),
            Device::Ethdev(_) | Device::Iface(_) | Device::Closed { .. } => None,
        }
    }
}
