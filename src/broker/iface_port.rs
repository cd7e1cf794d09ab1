//! A port that is an interface of the kernel, as the control thread sees it: its link, and what its sockets counted.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::offloads::{self, Ended};
use super::refusal::{Refusal, Trouble};
use crate::plan::value::{IfacePlan, PortPlan};
use tapline_api::event::Event;
use tapline_api::snapshot::DriverStats;
use tapline_datapath::receive::iface::RingShare;
use tapline_dpdk::port::Link;
use tapline_dpdk::queue::TxQueue;
use tapline_kernel::interface::{self, Index, State};
use tapline_kernel::packet::{self, Failure, Ring, RingSpec, Sender, SentCounts};
use tapline_kernel::socket::take_packet_drops;

/// An interface that a port receives from and sends to.
pub struct IfacePort {
    name: String,
    /// An interface that is made anew under its name has another index.
    index: Mutex<Index>,
    mac: [u8; 6],
    is_gone: AtomicBool,
    open: Mutex<Open>,
    ended: Mutex<Ended>,
    /// control: adds what the kernel counted, which is set back when it is read.
    missed: AtomicU64,
}

/// The sockets that were opened, with what their users share with the control thread.
#[derive(Default)]
struct Open {
    rings: Vec<(Arc<OwnedFd>, Arc<RingShare>)>,
    /// Sockets that send and have no ring.
    senders: Vec<Arc<OwnedFd>>,
    sent: Vec<Arc<SentCounts>>,
}

/// The queues of a port that was opened.
pub struct Queues {
    pub rings: Vec<(Ring, Arc<RingShare>)>,
    pub txqs: Vec<TxQueue>,
    /// Events about the interface that the user should see.
    pub warnings: Vec<Event>,
}

impl IfacePort {
    /// Finds the interface of a port.
    ///
    /// # Errors
    /// If there is none of its name.
    pub fn find(name: &str, iface: &IfacePlan) -> Result<Self, Refusal> {
        let index = Index::of(&iface.interface).ok_or_else(|| trouble(name, iface, Trouble::Missing))?;
        Ok(Self {
            name: name.to_owned(),
            index: Mutex::new(index),
            mac: index.mac().unwrap_or_default(),
            is_gone: AtomicBool::new(false),
            open: Mutex::default(),
            ended: Mutex::default(),
            missed: AtomicU64::new(0),
        })
    }

    /// Opens the receive queues that the plan asks for, and so many transmit queues. `wants_groups` says whether frames for all groups are
    /// received, too.
    ///
    /// # Errors
    /// If the kernel refuses them.
    pub fn start(
        &self,
        plan: &PortPlan,
        iface: &IfacePlan,
        tx_queues: usize,
        wants_groups: bool,
    ) -> Result<Queues, Refusal> {
        let (index, failed) = (self.index(), |failure| trouble(&self.name, iface, trouble_of(failure)));
        let (rings, warnings) = self.open_rings(index, plan, iface, wants_groups)?;
        // what leaves by a socket that receives does not come back to it
        let sender_of = |queue: usize| match rings.get(queue % rings.len().max(1)) {
            Some(ring) => Ok(ring.sender()),
            None => packet::open_sender(index),
        };
        let senders: Result<Vec<Sender>, Failure> = (0..tx_queues).map(sender_of).collect();
        let senders = senders.map_err(failed)?;
        let rings: Vec<(Ring, Arc<RingShare>)> =
            rings.into_iter().map(|ring| (ring, Arc::default())).collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.rings =
            rings.iter().map(|(ring, counts)| (ring.shared_socket(), Arc::clone(counts))).collect();
        open.sent = senders.iter().map(Sender::counts).collect();
        let own = senders.iter().filter(|_| rings.is_empty());
        open.senders = own.map(Sender::shared_socket).collect();
        Ok(Queues { rings, txqs: senders.into_iter().map(TxQueue::to_kernel).collect(), warnings })
    }

    /// Opens the receive queues that the plan asks for on an interface, with warnings of its offloads.
    fn open_rings(
        &self,
        index: Index,
        plan: &PortPlan,
        iface: &IfacePlan,
        wants_groups: bool,
    ) -> Result<(Vec<Ring>, Vec<Event>), Refusal> {
        let spec = RingSpec {
            queues: plan.rxq.unwrap_or(1),
            ring_bytes: iface.ring_bytes,
            takes_outgoing: iface.takes_outgoing,
            is_promiscuous: plan.is_promiscuous,
            wants_groups,
            wants_nic_times: iface.wants_nic_times,
        };
        let mut warnings = Vec::new();
        if spec.queues > 0 {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            // those of an interface before are given back first
            *ended = Ended::default();
            (*ended, warnings) = offloads::look(&self.name, index, iface)
                .map_err(|_| trouble(&self.name, iface, Trouble::NoAdmin))?;
        }
        let rings = packet::open_rings(index, &spec);
        Ok((rings.map_err(|failure| trouble(&self.name, iface, trouble_of(failure)))?, warnings))
    }

    /// Takes the interface that has the port's name by now in the place of the one that is gone; nothing happens where there is none.
    /// Workers poll its rings once those before are empty, and send by it at once. Gives warnings of its offloads.
    ///
    /// # Errors
    /// If the kernel refuses its sockets; the port stays gone.
    pub fn attach_again(
        &self,
        plan: &PortPlan,
        iface: &IfacePlan,
        wants_groups: bool,
    ) -> Result<Option<Vec<Event>>, Refusal> {
        let Some(index) = Index::of(&iface.interface) else { return Ok(None) };
        let failed = |failure| trouble(&self.name, iface, trouble_of(failure));
        let (rings, warnings) = self.open_rings(index, plan, iface, wants_groups)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let senders: Result<Vec<Sender>, Failure> =
            open.senders.iter().map(|_| packet::open_sender(index)).collect();
        for (socket, sender) in open.senders.iter().zip(senders.map_err(failed)?) {
            sender.in_place_of(socket).map_err(failed)?;
        }
        for ((socket, share), ring) in open.rings.iter().zip(rings) {
            // the socket that is replaced is asked a last time
            self.missed.fetch_add(take_packet_drops(socket.as_fd()), Ordering::Relaxed);
            share.offer(ring.in_place_of(socket).map_err(failed)?);
        }
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
        self.is_gone.store(false, Ordering::Relaxed);
        Ok(Some(warnings))
    }

    /// Gives the interface that the port has at this moment.
    fn index(&self) -> Index {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the Ethernet address that the interface had when it was found.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Gives the interface's MTU of this moment; none of one that is gone.
    pub fn mtu(&self) -> Option<u32> {
        self.index().mtu()
    }

    /// Returns whether the interface is gone, until [another](Self::attach_again) is taken.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Gives the interface's link; notes where the interface is gone.
    pub fn link(&self) -> Link {
        let state = self.index().state();
        if state == State::Gone {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        Link { is_up: state == State::Running && !self.is_gone(), speed_mbps: None }
    }

    /// Sets the interface up or down, of which what it is joined to takes notice.
    ///
    /// # Errors
    /// If the kernel does not let this process.
    pub fn set_link(&self, is_up: bool) -> Result<(), String> {
        self.index().set_up(is_up).map_err(|error| {
            let word = if is_up { "up" } else { "down" };
            format!("port {}: the interface cannot be set {word} (CAP_NET_ADMIN): {error}", self.name)
        })
    }

    /// Gives what was received and sent, and what the kernel had no room for.
    pub fn stats(&self) -> DriverStats {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: u64 = open.rings.iter().map(|(socket, _)| take_packet_drops(socket.as_fd())).sum();
        let rings = || open.rings.iter().map(|(_, counts)| counts);
        let sent = || open.sent.iter();
        DriverStats {
            rx_packets: rings().map(|counts| counts.packets.get()).sum(),
            rx_bytes: rings().map(|counts| counts.bytes.get()).sum(),
            tx_packets: sent().map(|counts| counts.packets()).sum(),
            tx_bytes: sent().map(|counts| counts.bytes()).sum(),
            missed: self.missed.fetch_add(lost, Ordering::Relaxed) + lost,
            rx_errors: 0,
            tx_errors: sent().map(|counts| counts.refused()).sum(),
            no_mbuf: 0,
        }
    }
}

fn trouble_of(failure: Failure) -> Trouble {
    match failure {
        Failure::NoRights => Trouble::NoRights,
        Failure::NoNicTimes(error) => Trouble::NoNicTimes(error),
        Failure::Refused { call, error } => Trouble::Refused { call, error },
    }
}

fn trouble(port: &str, iface: &IfacePlan, trouble: Trouble) -> Refusal {
    let others = if matches!(trouble, Trouble::Missing) { interface::names() } else { Vec::new() };
    Refusal::Interface { port: port.to_owned(), interface: iface.interface.clone(), trouble, others }
}
