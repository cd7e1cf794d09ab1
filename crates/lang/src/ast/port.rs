//! `port …`: devices, their options, and tunnels that end at a port.

use std::net::IpAddr;
use std::time::Duration;

use super::super::source::Spanned;
use super::Ranges;
use tapline_api::values::ReplaySpeed;
use tapline_api::words::{TunnelKind, WhenGone};
use tapline_packet::prefix::Prefix;

/// The device that a port is.
#[derive(Clone, PartialEq, Debug)]
pub enum Device {
    /// A PCI address or a virtual device with its arguments, as testpmd takes them.
    Devargs(String),
    /// `replay:FILE`: a capture that Tapline reads itself.
    Replay { path: String, speed: ReplaySpeed, loops: Loops, max_gap: Option<Duration> },
    /// `iface:IF`: an interface of the kernel that Tapline receives from and sends to itself.
    Iface(Iface),
}

/// `iface:IF[,queues=N][,outgoing=on|off][,offloads=keep|off][,time=kernel|nic][,buffer=SIZE]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Iface {
    pub interface: String,
    /// Receive queues; 0 for a port that only sends.
    pub queues: u16,
    /// Frames that this machine sends by the interface are received too.
    pub takes_outgoing: bool,
    /// Offloads that change frames are switched off for as long as the port is there.
    pub ends_offloads: bool,
    /// Times are the NIC's own.
    pub wants_nic_times: bool,
    /// Bytes of each receive queue's ring, where they are said.
    pub ring_bytes: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loops {
    Times(u64),
    Forever,
}

#[derive(Clone, PartialEq, Debug)]
pub enum PortOption {
    /// Receive queues; 0 for a port that only transmits.
    Rxq(u16),
    /// Transmit queues; 0 for a port that only receives.
    Txq(u16),
    /// Receive descriptors for each queue.
    Rxd(u16),
    /// Transmit descriptors for each queue.
    Txd(u16),
    /// Bytes behind the Ethernet header.
    Mtu(u16),
    Promiscuous(bool),
    /// The lcores that poll this port's receive queues.
    Lcores(Vec<u32>),
    Gone(WhenGone),
    /// Packets that it loses raise an alarm.
    Alarm(bool),
    Terminate(Terminate),
    /// A port that runs may be taken down and set up again for what is said beside it. It is no part of the port.
    Interrupt,
}

/// `terminate`: the inner frame of a tunnel that ends here becomes the packet.
#[derive(Clone, PartialEq, Debug)]
pub struct Terminate {
    pub tunnel: Spanned<TunnelKind>,
    /// The outer destination; any if absent.
    pub to: Option<Spanned<IpAddr>>,
    /// The outer source; any if absent.
    pub from: Option<Spanned<Vec<Prefix>>>,
    /// The tunnel's own number (VNI, GRE key, ERSPAN session, TEID or RSPAN VLAN); any if absent.
    pub ids: Option<Spanned<Ranges>>,
    /// The UDP port of VXLAN, GENEVE, GTP and TZSP if not the standard's.
    pub udp_port: Option<Spanned<u16>>,
}
